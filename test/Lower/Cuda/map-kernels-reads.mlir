// RUN: llama-opt %s -split-input-file -llama-outline-loops -llama-map-kernels -llama-expand-math -llama-lower-kernels -llama-print-ptx -o /dev/null > %t
// RUN: FileCheck %s --input-file=%t
// RUN: FileCheck %s --input-file=%t --check-prefix=STORES

// A thread reads for several pieces what they share.

// Both halves of a rotation, and their positions for four heads: eight pieces of x, one of each position.
// CHECK-LABEL: .visible .entry rotate_loop0(
// CHECK-COUNT-10: ld.global.nc.v4.b32
// CHECK-NOT:     ld.global
// STORES-LABEL: .visible .entry rotate_loop0(
// STORES-COUNT-8: st.global.v4.b32
// STORES-NOT:     st.global
func.func @rotate(%x: memref<9216x32x2x64xf32>, %positions: memref<9216x2x64xf32>, %y: memref<9216x32x2x64xf32>) {
  affine.for %r = 0 to 9216 {
    affine.for %h = 0 to 32 {
      affine.for %i = 0 to 2 {
        affine.for %j = 0 to 64 {
          %0 = affine.load %x[%r, %h, %i, %j] : memref<9216x32x2x64xf32>
          %1 = affine.load %x[%r, %h, -%i + 1, %j] : memref<9216x32x2x64xf32>
          %2 = affine.load %positions[%r, 0, %j] : memref<9216x2x64xf32>
          %3 = affine.load %positions[%r, 1, %j] : memref<9216x2x64xf32>
          %4 = arith.mulf %0, %2 : f32
          %5 = arith.mulf %1, %3 : f32
          %6 = arith.addf %4, %5 : f32
          affine.store %6, %y[%r, %h, %i, %j] : memref<9216x32x2x64xf32>
        }
      }
    }
  }
  return
}

// -----

// A scalar for four pieces.
// CHECK-LABEL: .visible .entry scale_loop0(
// CHECK-COUNT-5: ld.global.nc.
// CHECK-NOT:     ld.global
// STORES-LABEL: .visible .entry scale_loop0(
// STORES-COUNT-4: st.global.v4.b32
func.func @scale(%x: memref<16777216xf32>, %s: memref<f32>, %y: memref<16777216xf32>) {
  affine.for %i = 0 to 16777216 {
    %0 = affine.load %x[%i] : memref<16777216xf32>
    %1 = affine.load %s[] : memref<f32>
    %2 = arith.mulf %0, %1 : f32
    affine.store %2, %y[%i] : memref<16777216xf32>
  }
  return
}

// -----

// Where a select does not take it, a row is not read.
// CHECK-LABEL: .visible .entry pick_loop0(
// CHECK:       ld.global.nc.b64
// CHECK:       @%p{{[0-9]+}} bra [[ELSE:.*]];
// CHECK:       ld.global.nc.v4.b32
// CHECK:       [[ELSE]]:
// CHECK:       st.global.v4.b32
func.func @pick(%ids: memref<64xi64>, %table: memref<100x256xf32>, %y: memref<64x256xf32>) {
  %zero = arith.constant 0 : i64
  %none = arith.constant 0.0 : f32
  affine.for %r = 0 to 64 {
    affine.for %c = 0 to 256 {
      %0 = affine.load %ids[%r] : memref<64xi64>
      %1 = arith.cmpi sge, %0, %zero : i64
      %2 = arith.select %1, %0, %zero : i64
      %3 = arith.index_cast %2 : i64 to index
      %4 = memref.load %table[%3, %c] : memref<100x256xf32>
      %5 = arith.select %1, %4, %none : f32
      affine.store %5, %y[%r, %c] : memref<64x256xf32>
    }
  }
  return
}

// -----

// Every second element and those between are one window of two pieces, in shared memory.
// CHECK-LABEL: .visible .entry split_loop0(
// CHECK:         ld.global.nc.v4.b32
// CHECK-NEXT:    st.shared.v4.b32
// CHECK-COUNT-2: ld.shared.v4.b32
// CHECK-NOT:     ld.{{shared|global}}
// STORES-LABEL: .visible .entry split_loop0(
// STORES-COUNT-2: st.global.v4.b32
func.func @split(%x: memref<64x256xf32>, %y: memref<64x128xf32>, %z: memref<64x128xf32>) {
  affine.for %r = 0 to 64 {
    affine.for %c = 0 to 128 {
      %0 = affine.load %x[%r, %c * 2] : memref<64x256xf32>
      %1 = affine.load %x[%r, %c * 2 + 1] : memref<64x256xf32>
      affine.store %0, %y[%r, %c] : memref<64x128xf32>
      affine.store %1, %z[%r, %c] : memref<64x128xf32>
    }
  }
  return
}

// -----

// Two rotations of one row, of 8 and of 2 heads: a team of 32 threads, so that a thread has both halves of each. Ten pieces.
// CHECK-LABEL: .visible .entry rotate_row_loop0(
// CHECK-COUNT-10: ld.global.nc.v4.b32
// CHECK-NOT:     ld.global
// STORES-LABEL: .visible .entry rotate_row_loop0(
// STORES-COUNT-10: st.global.v4.b32
func.func @rotate_row(%x: memref<512x8x2x64xf32>, %y: memref<512x2x2x64xf32>, %u: memref<512x8x2x64xf32>, %v: memref<512x2x2x64xf32>) {
  affine.for %r = 0 to 512 {
    affine.for %h = 0 to 8 {
      affine.for %i = 0 to 2 {
        affine.for %j = 0 to 64 {
          %0 = affine.load %x[%r, %h, %i, %j] : memref<512x8x2x64xf32>
          %1 = affine.load %x[%r, %h, -%i + 1, %j] : memref<512x8x2x64xf32>
          %2 = arith.addf %0, %1 : f32
          affine.store %2, %u[%r, %h, %i, %j] : memref<512x8x2x64xf32>
        }
      }
    }
    affine.for %h = 0 to 2 {
      affine.for %i = 0 to 2 {
        affine.for %j = 0 to 64 {
          %0 = affine.load %y[%r, %h, %i, %j] : memref<512x2x2x64xf32>
          %1 = affine.load %y[%r, %h, -%i + 1, %j] : memref<512x2x2x64xf32>
          %2 = arith.addf %0, %1 : f32
          affine.store %2, %v[%r, %h, %i, %j] : memref<512x2x2x64xf32>
        }
      }
    }
  }
  return
}
