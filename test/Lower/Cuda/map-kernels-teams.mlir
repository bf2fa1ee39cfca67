// RUN: llama-opt %s -split-input-file -llama-outline-loops -llama-map-kernels -canonicalize -cse | FileCheck %s

// All loops are parallel: 16 bytes per thread, 8 bf16. The middle loop is a number of heads, the
// index of the other half runs backwards.
// CHECK-LABEL: gpu.func @rotate_loop0
// CHECK-SAME:    nvvm.reqntid = array<i32: 256, 1, 1>
// CHECK-NOT:     scf.
// CHECK-COUNT-2: vector.load {{.*}} {alignment = 16 : i64} : memref<65536xbf16>, vector<8xbf16>
// CHECK-COUNT-8: arith.addf
// CHECK:         vector.store {{.*}} {alignment = 16 : i64} : memref<65536xbf16>, vector<8xbf16>
func.func @rotate(%x: memref<16x32x2x64xbf16>, %y: memref<16x32x2x64xbf16>) {
  affine.for %r = 0 to 16 {
    affine.for %h = 0 to 32 {
      affine.for %i = 0 to 2 {
        affine.for %j = 0 to 64 {
          %0 = affine.load %x[%r, %h, %i, %j] : memref<16x32x2x64xbf16>
          %1 = affine.load %x[%r, %h, -%i + 1, %j] : memref<16x32x2x64xbf16>
          %2 = arith.addf %0, %1 : bf16
          affine.store %2, %y[%r, %h, %i, %j] : memref<16x32x2x64xbf16>
        }
      }
    }
  }
  return
}

// -----

// A row of 4096 bf16 per block of 256 threads, two pieces each. It is read once: the second loop
// has it in registers. The sum goes over lanes by shuffles, then over eight warps through
// shared memory.
// CHECK-LABEL: gpu.func @norm_loop0
// CHECK-SAME:    workgroup(%[[PARTS:.*]] : memref<8xf32, #gpu.address_space<workgroup>> {llvm.align = 16 : i64})
// CHECK-SAME:    nvvm.reqntid = array<i32: 256, 1, 1>
// CHECK-COUNT-2: vector.load {{.*}} vector<8xbf16>
// CHECK-NOT:     vector.load
// CHECK-COUNT-5: gpu.shuffle xor
// CHECK:         scf.if
// CHECK:           memref.store %{{.*}}, %[[PARTS]]
// CHECK:         gpu.barrier
// CHECK-COUNT-2: vector.load %[[PARTS]]{{.*}} vector<4xf32>
// CHECK-COUNT-2: vector.store
// CHECK-NOT:     gpu.barrier
func.func @norm(%x: memref<1536x4096xbf16>, %y: memref<1536x4096xbf16>) {
  %zero = arith.constant 0.0 : f32
  %cell = memref.alloc() : memref<f32>
  affine.for %r = 0 to 1536 {
    affine.store %zero, %cell[] : memref<f32>
    affine.for %c = 0 to 4096 {
      %0 = affine.load %x[%r, %c] : memref<1536x4096xbf16>
      %1 = affine.load %cell[] : memref<f32>
      %2 = arith.extf %0 : bf16 to f32
      %3 = arith.addf %1, %2 fastmath<reassoc> : f32
      affine.store %3, %cell[] : memref<f32>
    }
    affine.for %c = 0 to 4096 {
      %0 = affine.load %x[%r, %c] : memref<1536x4096xbf16>
      %1 = affine.load %cell[] : memref<f32>
      %2 = arith.extf %0 : bf16 to f32
      %3 = arith.divf %2, %1 : f32
      %4 = arith.truncf %3 : f32 to bf16
      affine.store %4, %y[%r, %c] : memref<1536x4096xbf16>
    }
  }
  return
}

// -----

// Short rows: eight lanes each, no shared memory. 1001 rows leave teams idle.
// CHECK-LABEL: gpu.func @short_loop0
// CHECK-NOT:     workgroup
// CHECK:         arith.cmpi ult
// CHECK-COUNT-3: gpu.shuffle xor
// CHECK-NOT:     gpu.shuffle
// CHECK-NOT:     gpu.barrier
// CHECK:         memref.store
func.func @short(%x: memref<1001x64xf32>, %s: memref<1001xf32>) {
  %zero = arith.constant 0.0 : f32
  affine.for %r = 0 to 1001 {
    affine.store %zero, %s[%r] : memref<1001xf32>
    affine.for %c = 0 to 64 {
      %0 = affine.load %x[%r, %c] : memref<1001x64xf32>
      %1 = affine.load %s[%r] : memref<1001xf32>
      %2 = arith.addf %1, %0 fastmath<reassoc> : f32
      affine.store %2, %s[%r] : memref<1001xf32>
    }
  }
  return
}

// -----

// No reassociation: a thread per row, its sum in order.
// CHECK-LABEL: gpu.func @ordered_loop0
// CHECK-NOT:     gpu.shuffle
// CHECK:         scf.for
func.func @ordered(%x: memref<1024x64xf64>, %s: memref<1024xf64>) {
  affine.for %r = 0 to 1024 {
    affine.for %c = 0 to 64 {
      %0 = affine.load %x[%r, %c] : memref<1024x64xf64>
      %1 = affine.load %s[%r] : memref<1024xf64>
      %2 = arith.addf %1, %0 : f64
      affine.store %2, %s[%r] : memref<1024xf64>
    }
  }
  return
}

// -----

// A row too long for registers: a loop over four pieces at a time, then the rest of them.
// CHECK-LABEL: gpu.func @long_loop0
// CHECK:         scf.for {{.*}} iter_args
// CHECK-COUNT-4:   vector.load
// CHECK:           scf.yield
// CHECK:         gpu.barrier
func.func @long(%x: memref<64x128256xf32>, %s: memref<64xf32>) {
  %least = arith.constant 0xFF800000 : f32
  affine.for %r = 0 to 64 {
    affine.store %least, %s[%r] : memref<64xf32>
    affine.for %c = 0 to 128256 {
      %0 = affine.load %x[%r, %c] : memref<64x128256xf32>
      %1 = affine.load %s[%r] : memref<64xf32>
      %2 = arith.maximumf %1, %0 : f32
      affine.store %2, %s[%r] : memref<64xf32>
    }
  }
  return
}

// -----

// What one column loop writes and another reads in other places: memory of the block, a row of it
// for each row, and a barrier.
// CHECK-LABEL: func.func @turned
// CHECK:         %[[ROWS:.*]] = memref.alloc() : memref<32x256xf32>
// CHECK:         gpu.launch_func {{.*}} %[[ROWS]] : memref<32x256xf32>)
// CHECK-LABEL: gpu.func @turned_loop0
// CHECK:         vector.store
// CHECK:         gpu.barrier
// CHECK:         memref.load
func.func @turned(%x: memref<32x256xf32>, %y: memref<32x256xf32>) {
  %t = memref.alloc() : memref<256xf32>
  affine.for %r = 0 to 32 {
    affine.for %c = 0 to 256 {
      %0 = affine.load %x[%r, %c] : memref<32x256xf32>
      affine.store %0, %t[%c] : memref<256xf32>
    }
    affine.for %c = 0 to 256 {
      %0 = affine.load %t[-%c + 255] : memref<256xf32>
      affine.store %0, %y[%r, %c] : memref<32x256xf32>
    }
  }
  return
}

// -----

// A sum over rows: 32 pieces beside each other in a block, eight rows at a time, four of them
// loaded before they are added; 53 parts of the rows, whose sums a second kernel adds up.
// CHECK-LABEL: func.func @sums
// CHECK-DAG:     %[[BLOCKS:.*]] = arith.constant 265 : index
// CHECK:         %[[PARTS:.*]] = memref.alloc() : memref<53x1280xf32>
// CHECK:         gpu.launch_func @sums_loop0::@sums_loop0 blocks in (%[[BLOCKS]], {{.*}} %[[PARTS]] : memref<53x1280xf32>)
// CHECK:         gpu.launch_func @sums_loop0_sum::@sums_loop0_sum {{.*}} %[[PARTS]] : memref<53x1280xf32>)
// CHECK-LABEL: gpu.func @sums_loop0(
// CHECK-SAME:    workgroup(%[[MEMORY:.*]] : memref<2304xf32, #gpu.address_space<workgroup>> {llvm.align = 16 : i64})
// CHECK:         scf.for
// CHECK-COUNT-4:   vector.load {{.*}} vector<8xbf16>
// CHECK-COUNT-2: vector.store {{.*}} %[[MEMORY]]{{.*}} vector<4xf32>
// CHECK:         gpu.barrier
// CHECK-COUNT-8: memref.load %[[MEMORY]]
// CHECK:         memref.store
// CHECK-LABEL: gpu.func @sums_loop0_sum(
// CHECK:         scf.for
// CHECK-COUNT-8:   memref.load
func.func @sums(%x: memref<18464x1280xbf16>, %s: memref<1280xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %rows = arith.constant 18464 : index
  %columns = arith.constant 1280 : index
  scf.for %r = %c0 to %rows step %c1 {
    scf.for %c = %c0 to %columns step %c1 {
      %0 = memref.load %x[%r, %c] : memref<18464x1280xbf16>
      %1 = memref.load %s[%c] : memref<1280xf32>
      %2 = arith.extf %0 : bf16 to f32
      %3 = arith.addf %1, %2 fastmath<reassoc> : f32
      memref.store %3, %s[%c] : memref<1280xf32>
    } {llama.columns}
  }
  return
}

// -----

// Rows summed by index: first which row is the first of its index, and which comes next; then
// the first one adds up all of them, in their order. Two blocks of pieces beside each other.
// CHECK-LABEL: func.func @by_index
// CHECK:         %[[LISTS:.*]] = memref.alloc() : memref<2x192xi32>
// CHECK:         gpu.launch_func @by_index_loop0_list::@by_index_loop0_list blocks in (%c3, %c1, %c1) threads in (%c64, %c1, %c1) {{.*}} %[[LISTS]]
// CHECK:         gpu.launch_func @by_index_loop0::@by_index_loop0 blocks in (%c384, %c1, %c1) threads in (%c256, %c1, %c1) {{.*}} %[[LISTS]]
// CHECK-LABEL: gpu.func @by_index_loop0_list(
// CHECK:         scf.for %[[CHUNK:[a-z0-9]+]] =
// CHECK:           %[[LATER:.*]] = arith.cmpi ne, %[[CHUNK]], %c0
// CHECK:           scf.if %[[LATER]]
// CHECK-NEXT:        gpu.barrier
// CHECK:           gpu.barrier
// CHECK-NOT:       gpu.barrier
// CHECK-LABEL: gpu.func @by_index_loop0(
// CHECK:         scf.if
// CHECK:           vector.load {{.*}} vector<4xf32>
// CHECK:           scf.while
// CHECK:             vector.load {{.*}} vector<4xbf16>
// CHECK-COUNT-4:     arith.addf
// CHECK:             scf.condition
// CHECK:           vector.store {{.*}} vector<4xf32>
func.func @by_index(%ids: memref<192xi64>, %x: memref<192x2048xbf16>, %table: memref<96x2048xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %rows = arith.constant 192 : index
  %columns = arith.constant 2048 : index
  %none = arith.constant 7 : i64
  scf.for %r = %c0 to %rows step %c1 {
    %id = memref.load %ids[%r] : memref<192xi64>
    %is = arith.cmpi ne, %id, %none : i64
    scf.if %is {
      %i = arith.index_cast %id : i64 to index
      scf.for %c = %c0 to %columns step %c1 {
        %0 = memref.load %x[%r, %c] : memref<192x2048xbf16>
        %1 = memref.load %table[%i, %c] : memref<96x2048xf32>
        %2 = arith.extf %0 : bf16 to f32
        %3 = arith.addf %1, %2 : f32
        memref.store %3, %table[%i, %c] : memref<96x2048xf32>
      } {llama.columns}
    }
  }
  return
}

// -----

// Both halves of a wide row are written, at columns c and c + 64: iterations are apart, 16 bytes
// per thread.
// CHECK-LABEL: gpu.func @halves_loop0
// CHECK-NOT:     scf.for
// CHECK-COUNT-2: vector.load {{.*}} vector<8xbf16>
// CHECK-COUNT-2: vector.store {{.*}} {alignment = 16 : i64} : memref<131072xbf16>, vector<8xbf16>
func.func @halves(%x: memref<1024x128xbf16>, %y: memref<1024x128xbf16>) {
  affine.for %r = 0 to 1024 {
    affine.for %c = 0 to 64 {
      %0 = affine.load %x[%r, %c] : memref<1024x128xbf16>
      %1 = affine.load %x[%r, %c + 64] : memref<1024x128xbf16>
      %2 = arith.addf %0, %1 : bf16
      %3 = arith.mulf %0, %1 : bf16
      affine.store %2, %y[%r, %c] : memref<1024x128xbf16>
      affine.store %3, %y[%r, %c + 64] : memref<1024x128xbf16>
    }
  }
  return
}
