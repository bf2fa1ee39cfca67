// RUN: llama-opt %s -split-input-file -llama-outline-loops -llama-map-kernels -canonicalize -cse | FileCheck %s

// Columns under a condition of the row: all threads come to the shuffles and the barriers, whatever holds for their row; loads
// and stores are guarded. The sum stays what it was where the condition does not hold.
// CHECK-LABEL: gpu.func @sum_if_loop0
// CHECK:         %[[HOLDS:.*]] = arith.cmpi sge
// CHECK:         scf.if %[[HOLDS]] -> (vector<4xf32>)
// CHECK:           vector.load
// CHECK:         } else {
// CHECK:         }
// CHECK-COUNT-5: gpu.shuffle
// CHECK:         gpu.barrier
// CHECK:         arith.select %[[HOLDS]]
// CHECK:         vector.store
func.func @sum_if(%ids: memref<64xi64>, %x: memref<64x512xf32>, %y: memref<64x512xf32>) {
  %zero = arith.constant 0 : i64
  %none = arith.constant 0.0 : f32
  %sum = memref.alloc() : memref<f32>
  affine.for %r = 0 to 64 {
    %0 = memref.load %ids[%r] : memref<64xi64>
    %1 = arith.cmpi sge, %0, %zero : i64
    affine.store %none, %sum[] : memref<f32>
    scf.if %1 {
      affine.for %c = 0 to 512 {
        %2 = affine.load %x[%r, %c] : memref<64x512xf32>
        %3 = affine.load %sum[] : memref<f32>
        %4 = arith.addf %3, %2 fastmath<reassoc> : f32
        affine.store %4, %sum[] : memref<f32>
      }
    }
    affine.for %c = 0 to 512 {
      %2 = affine.load %x[%r, %c] : memref<64x512xf32>
      %3 = affine.load %sum[] : memref<f32>
      %4 = arith.mulf %2, %3 : f32
      affine.store %4, %y[%r, %c] : memref<64x512xf32>
    }
  }
  return
}

// -----

// One long row: several blocks have it.
// CHECK-LABEL: func.func @one_row
// CHECK:         gpu.launch_func @one_row_loop0::@one_row_loop0 blocks in (%c264, %c1, %c1) threads in (%c256, %c1, %c1)
// CHECK-LABEL: gpu.func @one_row_loop0
// CHECK-NOT:     gpu.barrier
func.func @one_row(%id: memref<i64>, %x: memref<2954240xf32>, %table: memref<9x2954240xf32>) {
  %zero = arith.constant 0 : i64
  affine.for %r = 0 to 1 {
    %0 = memref.load %id[] : memref<i64>
    %1 = arith.cmpi sge, %0, %zero : i64
    scf.if %1 {
      %2 = arith.index_cast %0 : i64 to index
      affine.for %c = 0 to 2954240 {
        %3 = affine.load %x[%c] : memref<2954240xf32>
        %4 = memref.load %table[%2, %c] : memref<9x2954240xf32>
        %5 = arith.addf %4, %3 : f32
        memref.store %5, %table[%2, %c] : memref<9x2954240xf32>
      }
    }
  }
  return
}
