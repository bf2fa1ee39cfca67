// RUN: llama-opt %s -split-input-file -llama-lower-row-loops | FileCheck %s

// A sum over rows goes through the rows outside and the columns inside; threads may
// share the columns.
// CHECK-LABEL: @column_sum
// CHECK-DAG:     %[[ROWS:.*]] = arith.constant 64 : index
// CHECK-DAG:     %[[COLUMNS:.*]] = arith.constant 512 : index
// CHECK:         scf.for %{{.*}} = %{{.*}} to %[[ROWS]] step
// CHECK-NEXT:      scf.for %{{.*}} = %{{.*}} to %[[COLUMNS]] step
// CHECK:             arith.addf
// CHECK:           } {llama.columns}
func.func @column_sum(%x: memref<64x512xf32>, %s: memref<512xf32>) {
  linalg.generic {indexing_maps = [affine_map<(r, c) -> (r, c)>, affine_map<(r, c) -> (c)>], iterator_types = ["reduction", "parallel"]} ins(%x : memref<64x512xf32>) outs(%s : memref<512xf32>) {
  ^bb0(%in: f32, %out: f32):
    %0 = arith.addf %in, %out : f32
    linalg.yield %0 : f32
  }
  return
}

// -----

// A sum of each row is left to the affine loops.
// CHECK-LABEL: @row_sum
// CHECK:         linalg.generic
func.func @row_sum(%x: memref<64x512xf32>, %s: memref<64xf32>) {
  linalg.generic {indexing_maps = [affine_map<(r, c) -> (r, c)>, affine_map<(r, c) -> (r)>], iterator_types = ["parallel", "reduction"]} ins(%x : memref<64x512xf32>) outs(%s : memref<64xf32>) {
  ^bb0(%in: f32, %out: f32):
    %0 = arith.addf %in, %out : f32
    linalg.yield %0 : f32
  }
  return
}

// -----

// The update of a row that an index names becomes a loop over columns; the copy of the
// row to itself, which bufferization leaves, goes.
// CHECK-LABEL: @row_by_index
// CHECK:         scf.for
// CHECK:           %[[ROW:.*]] = memref.subview
// CHECK:           scf.for
// CHECK:             memref.store %{{.*}}, %[[ROW]]
// CHECK:           } {llama.columns}
// CHECK-NOT:       scf.for
func.func @row_by_index(%ids: memref<4xindex>, %x: memref<8xf32>, %table: memref<16x8xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c4 = arith.constant 4 : index
  scf.for %i = %c0 to %c4 step %c1 {
    %r = memref.load %ids[%i] : memref<4xindex>
    %row = memref.subview %table[%r, 0] [1, 8] [1, 1] : memref<16x8xf32> to memref<8xf32, strided<[1], offset: ?>>
    linalg.generic {indexing_maps = [affine_map<(c) -> (c)>, affine_map<(c) -> (c)>], iterator_types = ["parallel"]} ins(%x : memref<8xf32>) outs(%row : memref<8xf32, strided<[1], offset: ?>>) {
    ^bb0(%in: f32, %out: f32):
      %0 = arith.addf %in, %out : f32
      linalg.yield %0 : f32
    }
    memref.copy %row, %row : memref<8xf32, strided<[1], offset: ?>> to memref<8xf32, strided<[1], offset: ?>>
  }
  return
}

// -----

// A copy becomes a linalg op.
// CHECK-LABEL: @copy
// CHECK-NOT:     memref.copy
// CHECK:         linalg.generic {{.*}} ins(%arg0 : memref<8xf32>) outs(%arg1 : memref<8xf32>)
func.func @copy(%x: memref<8xf32>, %y: memref<8xf32>) {
  memref.copy %x, %y : memref<8xf32> to memref<8xf32>
  return
}
