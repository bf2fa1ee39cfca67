// RUN: llama-opt %s -split-input-file -llama-outline-loops -llama-map-kernels -canonicalize -cse | FileCheck %s

// One total: 252 parts of 3,968 elements, a block each, whose 512 threads have two pieces of 16 bytes
// each; then one block adds up 252 sums and the 67 elements behind them.
// CHECK-LABEL: func.func @total
// CHECK-DAG:     %[[PARTS:.*]] = arith.constant 252 : index
// CHECK-DAG:     %[[THREADS:.*]] = arith.constant 512 : index
// CHECK:         %[[PARTIAL:.*]] = memref.alloc() : memref<1x252xf32>
// CHECK:         gpu.launch_func @total_loop0_parts::@total_loop0_parts blocks in (%[[PARTS]], {{.*}}) threads in (%[[THREADS]], {{.*}}%[[PARTIAL]] : memref<1x252xf32>)
// CHECK:         gpu.launch_func @total_loop0::@total_loop0 {{.*}}%[[PARTIAL]] : memref<1x252xf32>)
// CHECK-LABEL: gpu.func @total_loop0_parts(
// CHECK-NOT:     scf.for
// CHECK-COUNT-2: vector.load {{.*}} vector<4xf32>
// CHECK-NOT:     math.sqrt
// CHECK-LABEL: gpu.func @total_loop0(
// CHECK:         math.sqrt
func.func @total(%x: memref<1000003xf32>, %s: memref<f32>) {
  %zero = arith.constant 0.0 : f32
  affine.for %r = 0 to 1 {
    affine.store %zero, %s[] : memref<f32>
    affine.for %c = 0 to 1000003 {
      %0 = affine.load %x[%c] : memref<1000003xf32>
      %1 = affine.load %s[] : memref<f32>
      %2 = arith.mulf %0, %0 : f32
      %3 = arith.addf %1, %2 fastmath<reassoc> : f32
      affine.store %3, %s[] : memref<f32>
    }
    %4 = affine.load %s[] : memref<f32>
    %5 = math.sqrt %4 : f32
    affine.store %5, %s[] : memref<f32>
  }
  return
}

// -----

// A longer one: as many blocks, which go through their parts in a loop, four pieces of a thread on their
// way at a time. Two sums of one loop, each with parts.
// CHECK-LABEL: func.func @longer
// CHECK:         %[[A:.*]] = memref.alloc() : memref<1x250xf32>
// CHECK:         %[[B:.*]] = memref.alloc() : memref<1x250xf32>
// CHECK:         gpu.launch_func @longer_loop0_parts{{.*}}%[[A]] : memref<1x250xf32>, %[[B]] : memref<1x250xf32>)
// CHECK-LABEL: gpu.func @longer_loop0_parts(
// CHECK:         scf.for
// CHECK-COUNT-4:   vector.load {{.*}} vector<4xf32>
// CHECK:           scf.yield
func.func @longer(%x: memref<100000000xf32>, %s: memref<f32>, %t: memref<f32>) {
  affine.for %r = 0 to 1 {
    affine.for %c = 0 to 100000000 {
      %0 = affine.load %x[%c] : memref<100000000xf32>
      %1 = affine.load %s[] : memref<f32>
      %3 = arith.addf %1, %0 fastmath<reassoc> : f32
      affine.store %3, %s[] : memref<f32>
      %4 = affine.load %t[] : memref<f32>
      %5 = arith.maximumf %4, %0 : f32
      affine.store %5, %t[] : memref<f32>
    }
  }
  return
}

// -----

// Rows that are few: parts of each, of whole iterations of the outer loop.
// CHECK-LABEL: func.func @rows
// CHECK:         memref.alloc() : memref<16x16xf32>
// CHECK:         gpu.launch_func @rows_loop0_parts
// CHECK:         gpu.launch_func @rows_loop0::
func.func @rows(%x: memref<16x577x1280xbf16>, %s: memref<16xf32>) {
  %zero = arith.constant 0.0 : f32
  affine.for %r = 0 to 16 {
    affine.store %zero, %s[%r] : memref<16xf32>
    affine.for %i = 0 to 577 {
      affine.for %c = 0 to 1280 {
        %0 = affine.load %x[%r, %i, %c] : memref<16x577x1280xbf16>
        %1 = affine.load %s[%r] : memref<16xf32>
        %2 = arith.extf %0 : bf16 to f32
        %3 = arith.addf %1, %2 fastmath<reassoc> : f32
        affine.store %3, %s[%r] : memref<16xf32>
      }
    }
  }
  return
}

// -----

// Sums over a loop of each of a few rows: they become sums over rows, with enough blocks.
// CHECK-LABEL: func.func @images
// CHECK-DAG:     %[[BLOCKS:.*]] = arith.constant 320 : index
// CHECK:         gpu.launch_func @images_loop0_first::
// CHECK:         gpu.launch_func @images_loop0_sums::@images_loop0_sums blocks in (%[[BLOCKS]],
// CHECK:         gpu.launch_func @images_loop0_sums_sum::
// CHECK:         gpu.launch_func @images_loop0::
func.func @images(%x: memref<18688x160xbf16>, %s: memref<5120xf32>, %t: memref<32xf32>) {
  %zero = arith.constant 0.0 : f32
  affine.for %r = 0 to 32 {
    affine.for %c = 0 to 160 {
      affine.store %zero, %s[%r * 160 + %c] : memref<5120xf32>
    }
    affine.for %i = 0 to 584 {
      affine.for %c = 0 to 160 {
        %0 = affine.load %x[%r * 584 + %i, %c] : memref<18688x160xbf16>
        %1 = affine.load %s[%r * 160 + %c] : memref<5120xf32>
        %2 = arith.extf %0 : bf16 to f32
        %3 = arith.addf %1, %2 fastmath<reassoc> : f32
        affine.store %3, %s[%r * 160 + %c] : memref<5120xf32>
      }
    }
    affine.store %zero, %t[%r] : memref<32xf32>
    affine.for %c = 0 to 160 {
      %0 = affine.load %s[%r * 160 + %c] : memref<5120xf32>
      %1 = affine.load %t[%r] : memref<32xf32>
      %2 = arith.addf %1, %0 fastmath<reassoc> : f32
      affine.store %2, %t[%r] : memref<32xf32>
    }
  }
  return
}

// -----

// Short ones, those whose order is given, and terms that need what the row computes stay one launch.
// CHECK-LABEL: func.func @whole
// CHECK:         gpu.launch_func @whole_loop0_and_1::
// CHECK-NEXT:    gpu.launch_func @whole_loop2::
// CHECK-NOT:     gpu.launch_func
// CHECK:         return
func.func @whole(%x: memref<16384xf32>, %y: memref<1000000xf32>, %s: memref<f32>, %t: memref<f32>, %u: memref<f32>) {
  affine.for %r = 0 to 1 {
    affine.for %c = 0 to 16384 {
      %0 = affine.load %x[%c] : memref<16384xf32>
      %1 = affine.load %s[] : memref<f32>
      %2 = arith.addf %1, %0 fastmath<reassoc> : f32
      affine.store %2, %s[] : memref<f32>
    }
  }
  affine.for %r = 0 to 1 {
    affine.for %c = 0 to 1000000 {
      %0 = affine.load %y[%c] : memref<1000000xf32>
      %1 = affine.load %t[] : memref<f32>
      %2 = arith.addf %1, %0 : f32
      affine.store %2, %t[] : memref<f32>
    }
  }
  affine.for %r = 0 to 1 {
    %m = affine.load %t[] : memref<f32>
    %scale = math.exp %m : f32
    affine.for %c = 0 to 1000000 {
      %0 = affine.load %y[%c] : memref<1000000xf32>
      %1 = affine.load %u[] : memref<f32>
      %2 = arith.mulf %0, %scale : f32
      %3 = arith.addf %1, %2 fastmath<reassoc> : f32
      affine.store %3, %u[] : memref<f32>
    }
  }
  return
}

// -----

// Many short rows that only add up: a warp each, eight in a block, and no barrier.
// CHECK-LABEL: func.func @squares
// CHECK-DAG:     %[[THREADS:.*]] = arith.constant 256 : index
// CHECK-DAG:     %[[BLOCKS:.*]] = arith.constant 12500 : index
// CHECK:         gpu.launch_func @squares_loop0::@squares_loop0 blocks in (%[[BLOCKS]], {{.*}}) threads in (%[[THREADS]],
// CHECK-LABEL: gpu.func @squares_loop0(
// CHECK-COUNT-8: vector.load {{.*}} vector<4xf32>
// CHECK-NOT:     gpu.barrier
// CHECK:         gpu.return
func.func @squares(%x: memref<100000x1024xf32>, %s: memref<100000xf32>) {
  %zero = arith.constant 0.0 : f32
  affine.for %r = 0 to 100000 {
    affine.store %zero, %s[%r] : memref<100000xf32>
    affine.for %c = 0 to 1024 {
      %0 = affine.load %x[%r, %c] : memref<100000x1024xf32>
      %1 = affine.load %s[%r] : memref<100000xf32>
      %2 = arith.mulf %0, %0 : f32
      %3 = arith.addf %1, %2 fastmath<reassoc> : f32
      affine.store %3, %s[%r] : memref<100000xf32>
    }
  }
  return
}
