// RUN: llama-opt %s -split-input-file -llama-outline-loops -llama-map-kernels -canonicalize -cse | FileCheck %s

// Independent nests are one launch, what lies between them goes before or behind; the third one needs the first.
// CHECK-LABEL: func.func @three
// CHECK:         gpu.launch_func @three_loop0_and_1::@three_loop0_and_1 blocks in (%c12, %c1, %c1) threads in (%c256, %c1, %c1)
// CHECK:         routine.gemm
// CHECK:         gpu.launch_func @three_loop2::@three_loop2
// CHECK-LABEL: gpu.func @three_loop0_and_1(
// CHECK-SAME:    llama.parts = array<i64: 4, 8>
// CHECK:         %[[BLOCK:.*]] = gpu.block_id x
// CHECK:         %[[FIRST:.*]] = arith.cmpi ult, %[[BLOCK]], %c4
// CHECK:         scf.if %[[FIRST]] {
// CHECK:           arith.negf
// CHECK:         } else {
// CHECK:           arith.subi %[[BLOCK]], %c4
// CHECK:           math.absf
func.func @three(%a: memref<64x64xf32>, %b: memref<128x64xf32>, %c: memref<64x64xf32>, %d: memref<64x64xf32>, %x: memref<64x64xf32>, %y: memref<128x64xf32>, %z: memref<64x64xf32>) {
  affine.for %r = 0 to 64 {
    affine.for %i = 0 to 64 {
      %0 = affine.load %a[%r, %i] : memref<64x64xf32>
      %1 = arith.negf %0 : f32
      affine.store %1, %x[%r, %i] : memref<64x64xf32>
    }
  }
  routine.gemm %a, %c into %d {k = 64 : i64, m = 64 : i64, n = 64 : i64} : (memref<64x64xf32>, memref<64x64xf32>, memref<64x64xf32>) -> ()
  affine.for %r = 0 to 128 {
    affine.for %i = 0 to 64 {
      %0 = affine.load %b[%r, %i] : memref<128x64xf32>
      %1 = math.absf %0 : f32
      affine.store %1, %y[%r, %i] : memref<128x64xf32>
    }
  }
  affine.for %r = 0 to 64 {
    affine.for %i = 0 to 64 {
      %0 = affine.load %x[%r, %i] : memref<64x64xf32>
      affine.store %0, %z[%r, %i] : memref<64x64xf32>
    }
  }
  return
}

// -----

// A product makes what the second nest reads, and takes what the first one makes: they cannot meet.
// CHECK-LABEL: func.func @chain
// CHECK:         gpu.launch_func @chain_loop0::
// CHECK:         routine.gemm
// CHECK:         gpu.launch_func @chain_loop1::
func.func @chain(%a: memref<64x64xf32>, %b: memref<64x64xf32>, %c: memref<64x64xf32>, %x: memref<64x64xf32>, %y: memref<64x64xf32>) {
  affine.for %r = 0 to 64 {
    affine.for %i = 0 to 64 {
      %0 = affine.load %a[%r, %i] : memref<64x64xf32>
      affine.store %0, %x[%r, %i] : memref<64x64xf32>
    }
  }
  routine.gemm %x, %b into %c {k = 64 : i64, m = 64 : i64, n = 64 : i64} : (memref<64x64xf32>, memref<64x64xf32>, memref<64x64xf32>) -> ()
  affine.for %r = 0 to 64 {
    affine.for %i = 0 to 64 {
      %0 = affine.load %c[%r, %i] : memref<64x64xf32>
      affine.store %0, %y[%r, %i] : memref<64x64xf32>
    }
  }
  return
}

// -----

// Two that read one buffer, one in a single thread: its neighbours have nothing to do. No launch has two arguments for
// one buffer.
// CHECK-LABEL: func.func @scalar
// CHECK:         gpu.launch_func @scalar_loop0_and_1::{{.*}} args(%{{.*}} : memref<64x64xf32>, %{{.*}} : memref<64x64xf32>, %{{.*}} : memref<f32>)
// CHECK-LABEL: gpu.func @scalar_loop0_and_1(
// CHECK-SAME:    memref<64x64xf32> {llvm.noalias, llvm.readonly}
// CHECK:         arith.cmpi ult, %{{.*}}, %c1
func.func @scalar(%a: memref<64x64xf32>, %x: memref<64x64xf32>, %s: memref<f32>) {
  affine.for %r = 0 to 64 {
    affine.for %i = 0 to 64 {
      %0 = affine.load %a[%r, %i] : memref<64x64xf32>
      affine.store %0, %x[%r, %i] : memref<64x64xf32>
    }
  }
  affine.for %r = 0 to 1 {
    %0 = affine.load %a[0, 0] : memref<64x64xf32>
    affine.store %0, %s[] : memref<f32>
  }
  return
}
