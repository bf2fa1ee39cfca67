// RUN: llama-opt %s -split-input-file -llama-fuse-loops | FileCheck %s

// Row r of the second loop needs row r of the first: one loop, and a buffer of one row.
// CHECK-LABEL: @same_row
// CHECK:     %[[CELL:.*]] = memref.alloc() : memref<f32>
// CHECK:     affine.for
// CHECK:       affine.store %{{.*}}, %[[CELL]][]
// CHECK:       affine.load %[[CELL]][]
// CHECK-NOT: affine.for
func.func @same_row(%x: f32, %b: memref<64xf32>) {
  %a = memref.alloc() : memref<64xf32>
  affine.for %r = 0 to 64 {
    affine.store %x, %a[%r] : memref<64xf32>
  }
  affine.for %r = 0 to 64 {
    %y = affine.load %a[%r] : memref<64xf32>
    affine.store %y, %b[%r] : memref<64xf32>
  }
  return
}

// -----

// Row r of the second loop needs row 63 - r of the first: two loops.
// CHECK-LABEL: @other_row
// CHECK:     affine.for
// CHECK:     affine.for
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

// Each row's sum is taken once, whatever needs it: a loop over the same rows joins, one
// with the columns outside stays apart and reads the sums from memory.
// CHECK-LABEL: @sum_once
// CHECK:         %[[SUM:.*]] = memref.alloc() : memref<64xf32>
// CHECK:         affine.for %[[R:.*]] = 0 to 64
// CHECK:           affine.for
// CHECK:             arith.addf
// CHECK:             affine.store %{{.*}}, %[[SUM]][%[[R]]]
// CHECK:           affine.for
// CHECK:             affine.load %[[SUM]][%[[R]]]
// CHECK:             arith.divf
// CHECK:         affine.for %{{.*}} = 0 to 8
// CHECK-NOT:     arith.addf
// CHECK:             affine.load %[[SUM]]
// CHECK:             arith.subf
func.func @sum_once(%x: memref<64x8xf32>, %y: memref<64x8xf32>, %z: memref<64x8xf32>) {
  %s = memref.alloc() : memref<64xf32>
  affine.for %r = 0 to 64 {
    affine.for %c = 0 to 8 {
      %0 = affine.load %x[%r, %c] : memref<64x8xf32>
      %1 = affine.load %s[%r] : memref<64xf32>
      %2 = arith.addf %0, %1 : f32
      affine.store %2, %s[%r] : memref<64xf32>
    }
  }
  affine.for %r = 0 to 64 {
    affine.for %c = 0 to 8 {
      %0 = affine.load %x[%r, %c] : memref<64x8xf32>
      %1 = affine.load %s[%r] : memref<64xf32>
      %2 = arith.divf %0, %1 : f32
      affine.store %2, %y[%r, %c] : memref<64x8xf32>
    }
  }
  affine.for %c = 0 to 8 {
    affine.for %r = 0 to 64 {
      %0 = affine.load %x[%r, %c] : memref<64x8xf32>
      %1 = affine.load %s[%r] : memref<64xf32>
      %2 = arith.subf %0, %1 : f32
      affine.store %2, %z[%r, %c] : memref<64x8xf32>
    }
  }
  return
}

// -----

// The last loop must not pass the one between: that one writes what it reads.
// CHECK-LABEL: @between
// CHECK:         affine.for %{{.*}} = 0 to 64
// CHECK:         affine.for %{{.*}} = 0 to 8
// CHECK:         affine.for %{{.*}} = 0 to 64
func.func @between(%x: memref<64xf32>, %y: memref<64xf32>, %z: memref<64xf32>) {
  %zero = arith.constant 0.0 : f32
  affine.for %r = 0 to 64 {
    %0 = affine.load %x[%r] : memref<64xf32>
    affine.store %0, %y[%r] : memref<64xf32>
  }
  affine.for %i = 0 to 8 {
    %0 = affine.load %x[%i] : memref<64xf32>
    affine.store %0, %x[7 - %i] : memref<64xf32>
  }
  affine.for %r = 0 to 64 {
    %0 = affine.load %x[%r] : memref<64xf32>
    affine.store %0, %z[%r] : memref<64xf32>
  }
  return
}
