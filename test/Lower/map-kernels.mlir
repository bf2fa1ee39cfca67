// RUN: llama-opt %s -split-input-file -llama-outline-loops -llama-map-kernels=teams=false -canonicalize -cse | FileCheck %s

// A thread per row: the sum of a row has one order.
// CHECK-LABEL: gpu.module @sums_loop0
// CHECK:         %[[R:.*]] = arith.index_cast %{{.*}} : i32 to index
// CHECK-NEXT:    scf.for %[[C:[a-z0-9]+]] =
// CHECK-NEXT:      memref.load %{{.*}}[%[[R]], %[[C]]]
// CHECK-NEXT:      memref.load %{{.*}}[%[[R]]]
func.func @sums(%m: memref<512x8xf32>, %s: memref<512xf32>) {
  affine.for %r = 0 to 512 {
    affine.for %c = 0 to 8 {
      %0 = affine.load %m[%r, %c] : memref<512x8xf32>
      %1 = affine.load %s[%r] : memref<512xf32>
      %2 = arith.addf %1, %0 : f32
      affine.store %2, %s[%r] : memref<512xf32>
    }
  }
  return
}

// -----

// All loops of the nest are parallel: a thread for each of 65536 * 6 elements. Names have no
// dots; what is only read is readonly.
// CHECK:       module attributes {gpu.container_module}
// CHECK-LABEL: func.func @f.g(
// CHECK-DAG:     %[[BLOCKS:.*]] = arith.constant 1536 : index
// CHECK-DAG:     %[[THREADS:.*]] = arith.constant 256 : index
// CHECK-DAG:     %[[ONE:.*]] = arith.constant 1 : index
// CHECK:         gpu.launch_func @f_g_loop0::@f_g_loop0
// CHECK-SAME:      blocks in (%[[BLOCKS]], %[[ONE]], %[[ONE]]) threads in (%[[THREADS]], %[[ONE]], %[[ONE]])
// CHECK-SAME:      args(%arg0 : memref<65536x6xbf16>, %arg1 : memref<65536x6xbf16>)
// CHECK-NEXT:    return
// CHECK:       gpu.module @f_g_loop0
// CHECK-NEXT:    gpu.func @f_g_loop0(%[[X:.*]]: memref<65536x6xbf16> {llvm.noalias, llvm.readonly}, %[[Y:.*]]: memref<65536x6xbf16> {llvm.noalias}) kernel attributes {nvvm.reqntid = array<i32: 256, 1, 1>}
// CHECK-DAG:     %[[C6:.*]] = arith.constant 6 : i32
// CHECK:         %[[N:.*]] = arith.addi
// CHECK-NEXT:    %[[C:.*]] = arith.remui %[[N]], %[[C6]] : i32
// CHECK-NEXT:    %[[R:.*]] = arith.divui %[[N]], %[[C6]] : i32
// CHECK-NEXT:    %[[CI:.*]] = arith.index_cast %[[C]]
// CHECK-NEXT:    %[[RI:.*]] = arith.index_cast %[[R]]
// CHECK-NEXT:    %[[V:.*]] = memref.load %[[X]][%[[RI]], %[[CI]]]
// CHECK-NEXT:    %[[S:.*]] = arith.addf %[[V]], %[[V]]
// CHECK-NEXT:    memref.store %[[S]], %[[Y]][%[[RI]], %[[CI]]]
// CHECK-NEXT:    gpu.return
func.func @f.g(%x: memref<65536x6xbf16>, %y: memref<65536x6xbf16>) {
  affine.for %r = 0 to 65536 {
    affine.for %c = 0 to 6 {
      %0 = affine.load %x[%r, %c] : memref<65536x6xbf16>
      %1 = arith.addf %0, %0 : bf16
      affine.store %1, %y[%r, %c] : memref<65536x6xbf16>
    }
  }
  return
}

// -----

// Rows with a sum: a thread per row, the sum in its order; the cell is the thread's own. 1000
// rows do not fill four blocks.
// CHECK-LABEL: gpu.func @rows_loop0
// CHECK-DAG:     %[[C1000:.*]] = arith.constant 1000 : i32
// CHECK:         %[[CELL:.*]] = memref.alloca() : memref<f64>
// CHECK:         %[[INSIDE:.*]] = arith.cmpi ult, %{{.*}}, %[[C1000]]
// CHECK-NEXT:    scf.if %[[INSIDE]] {
// CHECK:           memref.store %{{.*}}, %[[CELL]][]
// CHECK-NEXT:      scf.for
// CHECK:             arith.addf
// CHECK-NEXT:        memref.store %{{.*}}, %[[CELL]][]
// CHECK:           scf.for
// CHECK:             memref.store
func.func @rows(%x: memref<1000x96xf64>, %y: memref<1000x96xf64>) {
  %zero = arith.constant 0.0 : f64
  %sum = memref.alloc() : memref<f64>
  affine.for %r = 0 to 1000 {
    affine.store %zero, %sum[] : memref<f64>
    affine.for %c = 0 to 96 {
      %0 = affine.load %x[%r, %c] : memref<1000x96xf64>
      %1 = affine.load %sum[] : memref<f64>
      %2 = arith.addf %1, %0 : f64
      affine.store %2, %sum[] : memref<f64>
    }
    affine.for %c = 0 to 96 {
      %0 = affine.load %x[%r, %c] : memref<1000x96xf64>
      %1 = affine.load %sum[] : memref<f64>
      %2 = arith.divf %0, %1 : f64
      affine.store %2, %y[%r, %c] : memref<1000x96xf64>
    }
  }
  return
}

// -----

// A sum over the middle loop: threads share the outer and the inner one.
// CHECK-LABEL: gpu.func @middle_loop0
// CHECK-SAME:    nvvm.reqntid = array<i32: 64, 1, 1>
// CHECK:         arith.remui
// CHECK:         arith.divui
// CHECK:         scf.for
// CHECK-NOT:     scf.for
// CHECK:           memref.store
func.func @middle(%x: memref<4x100x16xf32>, %sum: memref<4x16xf32>) {
  affine.for %i = 0 to 4 {
    affine.for %k = 0 to 100 {
      affine.for %j = 0 to 16 {
        %0 = affine.load %x[%i, %k, %j] : memref<4x100x16xf32>
        %1 = affine.load %sum[%i, %j] : memref<4x16xf32>
        %2 = arith.addf %0, %1 : f32
        affine.store %2, %sum[%i, %j] : memref<4x16xf32>
      }
    }
  }
  return
}

// -----

// One index may belong to two loops, also backwards: elements stay apart.
// CHECK-LABEL: gpu.func @sum_of_indices_loop0
// CHECK-NOT:     scf.for
// CHECK:         gpu.return
// But not if they overlap: iteration (0, 8) and (1, 0) write the same.
// CHECK-LABEL: gpu.func @overlap_loop0
// CHECK-SAME:    nvvm.reqntid = array<i32: 1, 1, 1>
// CHECK-COUNT-2: scf.for
func.func @sum_of_indices(%y: memref<64xi64>) {
  %c = arith.constant 1 : i64
  affine.for %i = 0 to 8 {
    affine.for %j = 0 to 8 {
      affine.store %c, %y[%i * 8 - %j + 7] : memref<64xi64>
    }
  }
  return
}
func.func @overlap(%y: memref<65xi64>) {
  affine.for %i = 0 to 8 {
    affine.for %j = 0 to 9 {
      %0 = affine.load %y[%i * 8 + %j] : memref<65xi64>
      %1 = arith.addi %0, %0 : i64
      affine.store %1, %y[%i * 8 + %j] : memref<65xi64>
    }
  }
  return
}

// -----

// Sums over rows, also by index: a thread per column goes through all rows.
// CHECK-LABEL: gpu.func @by_index_loop0
// CHECK-SAME:    nvvm.reqntid = array<i32: 256, 1, 1>
// CHECK:         %[[N:.*]] = arith.addi
// CHECK:         %[[C:.*]] = arith.index_cast %[[N]] : i32
// CHECK:         scf.for %[[R:[a-z0-9]+]] =
// CHECK:           %[[ID:.*]] = memref.load %{{.*}}[%[[R]]]
// CHECK:           scf.if
// CHECK:             %[[I:.*]] = arith.index_cast %[[ID]] : i64
// CHECK-NEXT:        memref.load %{{.*}}[%[[R]], %[[C]]]
// CHECK:             memref.store %{{.*}}, %{{.*}}[%[[I]], %[[C]]]
func.func @by_index(%ids: memref<24xi64>, %x: memref<24x512xf32>, %table: memref<96x512xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c24 = arith.constant 24 : index
  %c512 = arith.constant 512 : index
  %none = arith.constant 7 : i64
  scf.for %r = %c0 to %c24 step %c1 {
    %id = memref.load %ids[%r] : memref<24xi64>
    %is = arith.cmpi ne, %id, %none : i64
    scf.if %is {
      %i = arith.index_cast %id : i64 to index
      scf.for %c = %c0 to %c512 step %c1 {
        %0 = memref.load %x[%r, %c] : memref<24x512xf32>
        %1 = memref.load %table[%i, %c] : memref<96x512xf32>
        %2 = arith.addf %0, %1 : f32
        memref.store %2, %table[%i, %c] : memref<96x512xf32>
      } {llama.columns}
    }
  }
  return
}

// -----

// One sum over all: one thread. Constant tables are in the kernel's module.
// CHECK-LABEL: gpu.module @all_loop0
// CHECK:         memref.global "private" constant @table
// CHECK:         gpu.func @all_loop0
// CHECK-SAME:      nvvm.reqntid = array<i32: 1, 1, 1>
// CHECK:           memref.get_global @table
// CHECK:           scf.for
memref.global "private" constant @table : memref<2xf32> = dense<[1.0, 2.0]>
func.func @all(%x: memref<64xf32>, %y: memref<f32>) {
  %t = memref.get_global @table : memref<2xf32>
  affine.for %i = 0 to 64 {
    %0 = affine.load %x[%i] : memref<64xf32>
    %1 = affine.load %t[%i mod 2] : memref<2xf32>
    %2 = affine.load %y[] : memref<f32>
    %3 = arith.mulf %0, %1 : f32
    %4 = arith.addf %2, %3 : f32
    affine.store %4, %y[] : memref<f32>
  }
  return
}
