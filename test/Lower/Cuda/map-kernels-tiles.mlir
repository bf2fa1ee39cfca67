// RUN: llama-opt %s -split-input-file -llama-outline-loops -llama-map-kernels -canonicalize -cse | FileCheck %s

// Runs of 14 f32 do not fill sectors. A block has an image and a row of patches: its threads go
// through colour, row, patch, column, as the pixels lie, 16 bytes each; the bf16 of the patches are
// put together in shared memory.
// CHECK-LABEL: gpu.func @patches_loop0
// CHECK-SAME:    workgroup(%[[TILE:.*]] : memref<14112xbf16, #gpu.address_space<workgroup>> {llvm.align = 16 : i64})
// CHECK-SAME:    nvvm.reqntid = array<i32: 256, 1, 1>
// CHECK:         scf.for
// CHECK:           vector.load %{{.*}} {alignment = 16 : i64} : memref<677376xf32>, vector<4xf32>
// CHECK-COUNT-4:   memref.store %{{.*}}, %[[TILE]]
// CHECK:         gpu.barrier
// CHECK:         scf.for
// CHECK:           vector.load %[[TILE]]{{.*}} {alignment = 16 : i64}
// CHECK:           vector.store %{{.*}} {alignment = 16 : i64} : memref<677376xbf16>, vector<8xbf16>
func.func @patches(%x: memref<2x3x24x14x24x14xf32>, %y: memref<2x24x24x3x14x14xbf16>) {
  affine.for %image = 0 to 2 {
    affine.for %v = 0 to 24 {
      affine.for %u = 0 to 24 {
        affine.for %colour = 0 to 3 {
          affine.for %i = 0 to 14 {
            affine.for %j = 0 to 14 {
              %0 = affine.load %x[%image, %colour, %v, %i, %u, %j] : memref<2x3x24x14x24x14xf32>
              %1 = arith.truncf %0 : f32 to bf16
              affine.store %1, %y[%image, %v, %u, %colour, %i, %j] : memref<2x24x24x3x14x14xbf16>
            }
          }
        }
      }
    }
  }
  return
}

// -----

// Parts of a row that are taken apart: the row is copied to shared memory, 16 bytes of a thread
// beside those of the next; the third elements are read there in pieces.
// CHECK-LABEL: gpu.func @split_loop0
// CHECK-SAME:    workgroup(%[[TILE:.*]] : memref<1024xbf16, #gpu.address_space<workgroup>> {llvm.align = 16 : i64})
// CHECK-SAME:    nvvm.reqntid = array<i32: 32, 1, 1>
// CHECK:         scf.for
// CHECK:           vector.load %{{.*}} : memref<102400xbf16>, vector<8xbf16>
// CHECK:           vector.store %{{.*}}, %[[TILE]]
// CHECK:         gpu.barrier
// CHECK-COUNT-4: vector.load %[[TILE]]{{.*}} {alignment = 16 : i64}
// CHECK-NOT:     memref.load
// CHECK-COUNT-4: vector.store %{{.*}} {alignment = 16 : i64} : memref<25600xbf16>
func.func @split(%x: memref<100x1024xbf16>, %a: memref<100x256xbf16>, %b: memref<100x256xbf16>, %c: memref<100x256xbf16>, %d: memref<100x256xbf16>) {
  affine.for %r = 0 to 100 {
    affine.for %i = 0 to 256 {
      %0 = affine.load %x[%r, %i] : memref<100x1024xbf16>
      %1 = affine.load %x[%r, 3 * %i + 256] : memref<100x1024xbf16>
      %2 = affine.load %x[%r, 3 * %i + 257] : memref<100x1024xbf16>
      %3 = affine.load %x[%r, 3 * %i + 258] : memref<100x1024xbf16>
      affine.store %0, %a[%r, %i] : memref<100x256xbf16>
      affine.store %1, %b[%r, %i] : memref<100x256xbf16>
      affine.store %2, %c[%r, %i] : memref<100x256xbf16>
      affine.store %3, %d[%r, %i] : memref<100x256xbf16>
    }
  }
  return
}

// -----

// The other way round: put together in shared memory, three pieces of each thread side by side.
// CHECK-LABEL: gpu.func @join_loop0
// CHECK-SAME:    workgroup(%[[TILE:.*]] : memref<1024xbf16, #gpu.address_space<workgroup>> {llvm.align = 16 : i64})
// CHECK-COUNT-4: vector.store %{{.*}}, %[[TILE]]{{.*}} {alignment = 16 : i64}
// CHECK-NOT:     memref.store
// CHECK:         gpu.barrier
// CHECK:         scf.for
// CHECK:           vector.load %[[TILE]]
// CHECK:           vector.store %{{.*}} {alignment = 16 : i64} : memref<102400xbf16>, vector<8xbf16>
func.func @join(%x: memref<100x1024xbf16>, %a: memref<100x256xbf16>, %b: memref<100x256xbf16>, %c: memref<100x256xbf16>, %d: memref<100x256xbf16>) {
  affine.for %r = 0 to 100 {
    affine.for %i = 0 to 256 {
      %0 = affine.load %a[%r, %i] : memref<100x256xbf16>
      %1 = affine.load %b[%r, %i] : memref<100x256xbf16>
      %2 = affine.load %c[%r, %i] : memref<100x256xbf16>
      %3 = affine.load %d[%r, %i] : memref<100x256xbf16>
      affine.store %0, %x[%r, %i] : memref<100x1024xbf16>
      affine.store %1, %x[%r, 3 * %i + 256] : memref<100x1024xbf16>
      affine.store %2, %x[%r, 3 * %i + 257] : memref<100x1024xbf16>
      affine.store %3, %x[%r, 3 * %i + 258] : memref<100x1024xbf16>
    }
  }
  return
}

// -----

// No tile: a column of the rows is left out; a row is too large for shared memory; runs fill
// sectors.
// CHECK-LABEL: gpu.func @left_out_loop0
// CHECK-NOT:     workgroup
// CHECK-LABEL: gpu.func @large_loop0
// CHECK-NOT:     workgroup
// CHECK-LABEL: gpu.func @sectors_loop0
// CHECK-NOT:     workgroup
func.func @left_out(%x: memref<100x1024xbf16>, %a: memref<100x256xbf16>) {
  affine.for %r = 0 to 100 {
    affine.for %i = 0 to 256 {
      %0 = affine.load %x[%r, 3 * %i + 257] : memref<100x1024xbf16>
      affine.store %0, %a[%r, %i] : memref<100x256xbf16>
    }
  }
  return
}
func.func @large(%x: memref<100x32768xf64>, %a: memref<100x16384xf64>, %b: memref<100x16384xf64>) {
  affine.for %r = 0 to 100 {
    affine.for %i = 0 to 16384 {
      %0 = affine.load %x[%r, 2 * %i] : memref<100x32768xf64>
      %1 = affine.load %x[%r, 2 * %i + 1] : memref<100x32768xf64>
      affine.store %0, %a[%r, %i] : memref<100x16384xf64>
      affine.store %1, %b[%r, %i] : memref<100x16384xf64>
    }
  }
  return
}
func.func @sectors(%x: memref<8x16x32x64xbf16>, %y: memref<8x32x16x64xbf16>) {
  affine.for %r = 0 to 8 {
    affine.for %h = 0 to 32 {
      affine.for %s = 0 to 16 {
        affine.for %i = 0 to 64 {
          %0 = affine.load %x[%r, %s, %h, %i] : memref<8x16x32x64xbf16>
          affine.store %0, %y[%r, %h, %s, %i] : memref<8x32x16x64xbf16>
        }
      }
    }
  }
  return
}

// -----

// Rows that are scaled: as many that a thread of other nests would do eight pieces, those that read
// the same factor. Here a block has all of a row, one piece of each thread.
// CHECK-LABEL: gpu.func @scaled_loop0
// CHECK-SAME:    workgroup(%[[TILE:.*]] : memref<1024xf32, #gpu.address_space<workgroup>>
// CHECK:         gpu.barrier
// CHECK:         arith.remui %[[THREAD:.*]], %c32_i32
// CHECK:         arith.divui %[[THREAD]], %c32_i32
// CHECK-COUNT-4: memref.load %[[TILE]]
func.func @scaled(%x: memref<8192x128x8xf32>, %s: memref<8192xf32>, %y: memref<8192x8x128xf32>) {
  affine.for %r = 0 to 8192 {
    affine.for %h = 0 to 8 {
      affine.for %i = 0 to 128 {
        %0 = affine.load %s[%r] : memref<8192xf32>
        %1 = affine.load %x[%r, %i, %h] : memref<8192x128x8xf32>
        %2 = arith.mulf %1, %0 : f32
        affine.store %2, %y[%r, %h, %i] : memref<8192x8x128xf32>
      }
    }
  }
  return
}

// -----

// Windows that overlap begin at any number: no 16 bytes of a thread.
// CHECK-LABEL: gpu.func @overlap_loop0
// CHECK-NOT:     vector.load {{.*}}xf32>
// CHECK:         gpu.return
func.func @overlap(%x: memref<60xf32>, %y: memref<5x7x8xbf16>) {
  affine.for %o = 0 to 5 {
    affine.for %b = 0 to 7 {
      affine.for %a = 0 to 8 {
        %0 = affine.load %x[%o + %b + 7 * %a] : memref<60xf32>
        %1 = arith.truncf %0 : f32 to bf16
        affine.store %1, %y[%o, %b, %a] : memref<5x7x8xbf16>
      }
    }
  }
  return
}
