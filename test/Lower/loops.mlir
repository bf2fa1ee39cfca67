// RUN: llama-opt %s -split-input-file -llama-fuse-loops | FileCheck %s --check-prefix=FUSE
// RUN: llama-opt %s -split-input-file -llama-outline-loops | FileCheck %s --check-prefix=OUTLINE

// Row r of the second loop needs row r of the first: one loop, and a buffer of one row.
// FUSE-LABEL: @same_row
// FUSE:     %[[CELL:.*]] = memref.alloc() : memref<f32>
// FUSE:     affine.for
// FUSE:       affine.store %{{.*}}, %[[CELL]][]
// FUSE:       affine.load %[[CELL]][]
// FUSE-NOT: affine.for
func.func @same_row(%x: memref<64xf32>, %y: memref<64xf32>) {
  %a = memref.alloc() : memref<64xf32>
  affine.for %r = 0 to 64 {
    %0 = affine.load %x[%r] : memref<64xf32>
    affine.store %0, %a[%r] : memref<64xf32>
  }
  affine.for %r = 0 to 64 {
    %0 = affine.load %a[%r] : memref<64xf32>
    affine.store %0, %y[%r] : memref<64xf32>
  }
  return
}

// -----

// Row r of the second loop needs row 63 - r of the first: two loops.
// FUSE-LABEL: @other_row
// FUSE:     affine.for
// FUSE:     affine.for
func.func @other_row(%x: memref<64xf32>, %y: memref<64xf32>) {
  %a = memref.alloc() : memref<64xf32>
  affine.for %r = 0 to 64 {
    %0 = affine.load %x[%r] : memref<64xf32>
    affine.store %0, %a[%r] : memref<64xf32>
  }
  affine.for %r = 0 to 64 {
    %0 = affine.load %a[63 - %r] : memref<64xf32>
    affine.store %0, %y[%r] : memref<64xf32>
  }
  return
}

// -----

// Threads share rows that are stored apart, not a sum over all rows.
// OUTLINE-LABEL: func.func @threads
// OUTLINE: call @threads.loop0({{.*}}) {llama.grain = {{[0-9]+}} : i64}
// OUTLINE: call @threads.loop1
// OUTLINE-NOT: llama.grain
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
// OUTLINE-LABEL: func.func @two_columns
// OUTLINE: call @two_columns.loop0
// OUTLINE-NOT: llama.grain
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
// OUTLINE-LABEL: func.func @columns
// OUTLINE: call @columns.loop0({{.*}}) {llama.grain = 256 : i64}
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
