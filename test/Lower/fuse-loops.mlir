// RUN: llama-opt %s -split-input-file -llama-fuse-loops | FileCheck %s

// Row r of the second loop needs row r of the first: one loop, and a buffer of one row.
// CHECK-LABEL: @same_row
// CHECK:     %[[CELL:.*]] = memref.alloc() : memref<f32>
// CHECK:     affine.for
// CHECK:       affine.store %{{.*}}, %[[CELL]][]
// CHECK:       affine.for %{{.*}} = 0 to 8
// CHECK:         affine.load %[[CELL]][]
// CHECK-NOT: affine.for
func.func @same_row(%x: f32, %b: memref<64x8xf32>) {
  %a = memref.alloc() : memref<64xf32>
  affine.for %r = 0 to 64 {
    affine.store %x, %a[%r] : memref<64xf32>
  }
  affine.for %r = 0 to 64 {
    affine.for %c = 0 to 8 {
      %y = affine.load %a[%r] : memref<64xf32>
      affine.store %y, %b[%r, %c] : memref<64x8xf32>
    }
  }
  return
}

// -----

// What a body has stored it takes from there; what is written again, or read by nobody, is not
// written; a loop of one iteration in another is none.
// CHECK-LABEL: @written_again
// CHECK-SAME:  (%[[X:.*]]: memref<64xf32>, %[[Y:.*]]: memref<64xf32>)
// CHECK-NOT:   memref.alloc
// CHECK:       affine.for
// CHECK-NOT:     affine.for
// CHECK:         %[[V:.*]] = affine.load %[[X]]
// CHECK-NEXT:    %[[SUM:.*]] = arith.addf %{{.*}}, %[[V]]
// CHECK-NEXT:    affine.store %[[SUM]], %[[Y]]
// CHECK-NOT:   affine.store
func.func @written_again(%x: memref<64xf32>, %y: memref<64xf32>) {
  %zero = arith.constant 0.0 : f32
  %unread = memref.alloc() : memref<64xf32>
  affine.for %r = 0 to 64 {
    affine.store %zero, %y[%r] : memref<64xf32>
  }
  affine.for %r = 0 to 64 {
    affine.for %i = 0 to 1 {
      %0 = affine.load %y[%r] : memref<64xf32>
      %1 = affine.load %x[%r] : memref<64xf32>
      %2 = arith.addf %0, %1 : f32
      affine.store %2, %y[%r] : memref<64xf32>
    }
  }
  affine.for %r = 0 to 64 {
    %0 = affine.load %y[%r] : memref<64xf32>
    affine.store %0, %unread[%r] : memref<64xf32>
  }
  return
}

// -----

// A store that is read before the next one stays; so does one to another element.
// CHECK-LABEL: @read_between
// CHECK:       affine.for
// CHECK-COUNT-4: affine.store
func.func @read_between(%x: memref<64xf32>, %y: memref<65xf32>, %z: memref<64xf32>) {
  %zero = arith.constant 0.0 : f32
  affine.for %r = 0 to 64 {
    affine.store %zero, %y[%r] : memref<65xf32>
    affine.for %i = 0 to 2 {
      %0 = affine.load %y[%r] : memref<65xf32>
      affine.store %0, %z[%i] : memref<64xf32>
    }
    %1 = affine.load %x[%r] : memref<64xf32>
    affine.store %1, %y[%r] : memref<65xf32>
    affine.store %1, %y[64] : memref<65xf32>
  }
  return
}

// -----

// Iterations c of the two write columns c and 5 c + 8 .. 5 c + 12: one loop. Column 2 c meets c.
// CHECK-LABEL: @columns_apart
// CHECK:       affine.for %{{.*}} = 0 to 64
// CHECK-NEXT:    affine.for %{{.*}} = 0 to 8
// CHECK-NOT:     affine.for
// CHECK:       return
// CHECK-LABEL: @columns_meet
// CHECK:       affine.for %{{.*}} = 0 to 64
// CHECK:         affine.for %{{.*}} = 0 to 8
// CHECK:         affine.for %{{.*}} = 0 to 8
func.func @columns_apart(%x: f32, %y: memref<64x48xf32>) {
  affine.for %r = 0 to 64 {
    affine.for %c = 0 to 8 {
      affine.store %x, %y[%r, %c] : memref<64x48xf32>
    }
  }
  affine.for %r = 0 to 64 {
    affine.for %c = 0 to 8 {
      affine.store %x, %y[%r, 5 * %c + 8] : memref<64x48xf32>
      affine.store %x, %y[%r, 5 * %c + 12] : memref<64x48xf32>
    }
  }
  return
}
func.func @columns_meet(%x: f32, %z: f32, %y: memref<64x48xf32>) {
  affine.for %r = 0 to 64 {
    affine.for %c = 0 to 8 {
      affine.store %x, %y[%r, %c] : memref<64x48xf32>
    }
  }
  affine.for %r = 0 to 64 {
    affine.for %c = 0 to 8 {
      affine.store %z, %y[%r, 2 * %c] : memref<64x48xf32>
    }
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

// -----

// Two sums over the rows of one matrix read it once; that of another one, or of other rows, stays.
// CHECK-LABEL: @column_sums
// CHECK-SAME:  (%[[X:.*]]: memref<64x8xf32>, %[[Y:.*]]: memref<64x8xf32>, %[[A:.*]]: memref<8xf32>, %[[B:.*]]: memref<8xf32>, %[[C:.*]]: memref<8xf32>, %[[D:.*]]: memref<8xf32>)
// CHECK:       scf.for
// CHECK-NEXT:    scf.for
// CHECK:           memref.store %{{.*}}, %[[A]]
// CHECK:           memref.store %{{.*}}, %[[C]]
// CHECK-NEXT:    } {llama.columns}
// CHECK:       scf.for
// CHECK-NEXT:    scf.for
// CHECK:           memref.load %[[Y]]
// CHECK:           memref.store %{{.*}}, %[[B]]
// CHECK:       scf.for
// CHECK-NEXT:    scf.for
// CHECK:           memref.store %{{.*}}, %[[D]]
func.func @column_sums(%x: memref<64x8xf32>, %y: memref<64x8xf32>, %a: memref<8xf32>, %b: memref<8xf32>, %c: memref<8xf32>, %d: memref<8xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c8 = arith.constant 8 : index
  %c32 = arith.constant 32 : index
  %c64 = arith.constant 64 : index
  scf.for %r = %c0 to %c64 step %c1 {
    scf.for %i = %c0 to %c8 step %c1 {
      %0 = memref.load %x[%r, %i] : memref<64x8xf32>
      %1 = memref.load %a[%i] : memref<8xf32>
      %2 = arith.addf %0, %1 : f32
      memref.store %2, %a[%i] : memref<8xf32>
    } {llama.columns}
  }
  scf.for %r = %c0 to %c64 step %c1 {
    scf.for %i = %c0 to %c8 step %c1 {
      %0 = memref.load %y[%r, %i] : memref<64x8xf32>
      %1 = memref.load %b[%i] : memref<8xf32>
      %2 = arith.addf %0, %1 : f32
      memref.store %2, %b[%i] : memref<8xf32>
    } {llama.columns}
  }
  scf.for %r = %c0 to %c64 step %c1 {
    scf.for %i = %c0 to %c8 step %c1 {
      %0 = memref.load %x[%r, %i] : memref<64x8xf32>
      %1 = memref.load %c[%i] : memref<8xf32>
      %2 = arith.mulf %0, %0 : f32
      %3 = arith.addf %2, %1 : f32
      memref.store %3, %c[%i] : memref<8xf32>
    } {llama.columns}
  }
  scf.for %r = %c0 to %c32 step %c1 {
    scf.for %i = %c0 to %c8 step %c1 {
      %0 = memref.load %x[%r, %i] : memref<64x8xf32>
      %1 = memref.load %d[%i] : memref<8xf32>
      %2 = arith.addf %0, %1 : f32
      memref.store %2, %d[%i] : memref<8xf32>
    } {llama.columns}
  }
  return
}
