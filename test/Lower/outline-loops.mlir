// RUN: llama-opt %s -split-input-file -llama-outline-loops | FileCheck %s
// RUN: llama-opt %s -split-input-file -llama-outline-loops=parallel=false | FileCheck %s --check-prefix=SERIAL
// SERIAL-NOT: llama.grain

// The loop becomes a function; threads may share its iterations, 5462 at least (three
// ops each).
// CHECK-LABEL: func.func private @f.loop0(
// CHECK-SAME:      %[[LO:[a-z0-9]+]]: index, %[[HI:[a-z0-9]+]]: index) {
// CHECK:         affine.for %{{.*}} = %[[LO]] to %[[HI]]
// CHECK-LABEL: func.func @f(
// CHECK-DAG:     %[[C0:.*]] = arith.constant 0
// CHECK-DAG:     %[[C65536:.*]] = arith.constant 65536
// CHECK:         call @f.loop0(%arg0, %arg1, %[[C0]], %[[C65536]]) {llama.grain = 5462 : i64}
func.func @f(%m: memref<65536xf32>, %n: memref<65536xf32>) {
  affine.for %i = 0 to 65536 {
    %x = affine.load %m[%i] : memref<65536xf32>
    affine.store %x, %n[%i] : memref<65536xf32>
  }
  return
}

// -----

// Threads share rows that are stored apart, not a sum over all rows.
// CHECK-LABEL: func.func @threads
// CHECK: call @threads.loop0({{.*}}) {llama.grain = {{[0-9]+}} : i64}
// CHECK: call @threads.loop1
// CHECK-NOT: llama.grain
func.func @threads(%x: memref<65536xf32>, %y: memref<65536xf32>, %sum: memref<1xf32>) {
  affine.for %r = 0 to 65536 {
    %0 = affine.load %x[%r] : memref<65536xf32>
    affine.store %0, %y[%r] : memref<65536xf32>
  }
  affine.for %r = 0 to 65536 {
    %0 = affine.load %x[%r] : memref<65536xf32>
    %1 = affine.load %sum[0] : memref<1xf32>
    %2 = arith.addf %0, %1 : f32
    affine.store %2, %sum[0] : memref<1xf32>
  }
  return
}

// -----

// Two loops over columns in a loop over rows: each thread would do the other one for
// all columns, so only one thread runs.
// CHECK-LABEL: func.func @two_columns
// CHECK: call @two_columns.loop0
// CHECK-NOT: llama.grain
func.func @two_columns(%x: memref<4x65536xf32>, %y: memref<65536xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %rows = arith.constant 4 : index
  %columns = arith.constant 65536 : index
  scf.for %r = %c0 to %rows step %c1 {
    scf.for %c = %c0 to %columns step %c1 {
      %0 = memref.load %x[%r, %c] : memref<4x65536xf32>
      %1 = memref.load %y[%c] : memref<65536xf32>
      %2 = arith.addf %0, %1 : f32
      memref.store %2, %y[%c] : memref<65536xf32>
    } {llama.columns}
    scf.for %c = %c0 to %columns step %c1 {
      %0 = memref.load %y[%c] : memref<65536xf32>
      %1 = arith.addf %0, %0 : f32
      memref.store %1, %y[%c] : memref<65536xf32>
    } {llama.columns}
  }
  return
}

// -----

// One of them: threads share its columns.
// CHECK-LABEL: func.func @columns
// CHECK: call @columns.loop0({{.*}}) {llama.grain = 256 : i64}
func.func @columns(%x: memref<4x65536xf32>, %y: memref<65536xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %rows = arith.constant 4 : index
  %columns = arith.constant 65536 : index
  scf.for %r = %c0 to %rows step %c1 {
    scf.for %c = %c0 to %columns step %c1 {
      %0 = memref.load %x[%r, %c] : memref<4x65536xf32>
      %1 = memref.load %y[%c] : memref<65536xf32>
      %2 = arith.addf %0, %1 : f32
      memref.store %2, %y[%c] : memref<65536xf32>
    } {llama.columns}
  }
  return
}

// -----

// A buffer of one element that only this loop uses is on the stack of its function;
// 64 iterations are not worth a second thread.
// CHECK-LABEL: func.func private @temporary.loop0(
// CHECK:         %[[CELL:.*]] = memref.alloca() : memref<f32>
// CHECK:           affine.store %{{.*}}, %[[CELL]][]
// CHECK-LABEL: func.func @temporary(
// CHECK-NOT:     memref.alloc
// CHECK-NOT:     llama.grain
func.func @temporary(%m: memref<64xf32>, %n: memref<64xf32>) {
  %cell = memref.alloc() : memref<f32>
  affine.for %i = 0 to 64 {
    %x = affine.load %m[%i] : memref<64xf32>
    affine.store %x, %cell[] : memref<f32>
    %y = affine.load %cell[] : memref<f32>
    affine.store %y, %n[%i] : memref<64xf32>
  }
  return
}

// -----

// Ops in no loop get one of one iteration.
// CHECK-LABEL: func.func private @loose.loop0(
// CHECK:         affine.for
// CHECK:           arith.negf
// CHECK-LABEL: func.func @loose(
// CHECK-NOT:     arith.negf
// CHECK:         call @loose.loop0
func.func @loose(%n: memref<1xf32>) {
  %c0 = arith.constant 0 : index
  %x = memref.load %n[%c0] : memref<1xf32>
  %y = arith.negf %x : f32
  memref.store %y, %n[%c0] : memref<1xf32>
  return
}
