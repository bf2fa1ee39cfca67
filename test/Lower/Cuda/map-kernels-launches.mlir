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

// -----

// A block has 48 KB of static shared memory: of seven sums over rows that take 12 KB each four are one launch and three another.
// CHECK-LABEL: func.func @shared
// CHECK:         gpu.launch_func @shared_loop0_and_3::
// CHECK:         gpu.launch_func @shared_loop4_and_2::
func.func @shared(%a: memref<64x1280xbf16>, %x0: memref<1280xf32>, %x1: memref<1280xf32>, %x2: memref<1280xf32>, %x3: memref<1280xf32>, %x4: memref<1280xf32>, %x5: memref<1280xf32>, %x6: memref<1280xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %rows = arith.constant 64 : index
  %columns = arith.constant 1280 : index
  scf.for %r = %c0 to %rows step %c1 {
    scf.for %c = %c0 to %columns step %c1 {
      %0 = memref.load %a[%r, %c] : memref<64x1280xbf16>
      %1 = memref.load %x0[%c] : memref<1280xf32>
      %2 = arith.extf %0 : bf16 to f32
      %3 = arith.addf %1, %2 fastmath<reassoc> : f32
      memref.store %3, %x0[%c] : memref<1280xf32>
    } {llama.columns}
  }
  scf.for %r = %c0 to %rows step %c1 {
    scf.for %c = %c0 to %columns step %c1 {
      %0 = memref.load %a[%r, %c] : memref<64x1280xbf16>
      %1 = memref.load %x1[%c] : memref<1280xf32>
      %2 = arith.extf %0 : bf16 to f32
      %3 = arith.addf %1, %2 fastmath<reassoc> : f32
      memref.store %3, %x1[%c] : memref<1280xf32>
    } {llama.columns}
  }
  scf.for %r = %c0 to %rows step %c1 {
    scf.for %c = %c0 to %columns step %c1 {
      %0 = memref.load %a[%r, %c] : memref<64x1280xbf16>
      %1 = memref.load %x2[%c] : memref<1280xf32>
      %2 = arith.extf %0 : bf16 to f32
      %3 = arith.addf %1, %2 fastmath<reassoc> : f32
      memref.store %3, %x2[%c] : memref<1280xf32>
    } {llama.columns}
  }
  scf.for %r = %c0 to %rows step %c1 {
    scf.for %c = %c0 to %columns step %c1 {
      %0 = memref.load %a[%r, %c] : memref<64x1280xbf16>
      %1 = memref.load %x3[%c] : memref<1280xf32>
      %2 = arith.extf %0 : bf16 to f32
      %3 = arith.addf %1, %2 fastmath<reassoc> : f32
      memref.store %3, %x3[%c] : memref<1280xf32>
    } {llama.columns}
  }
  scf.for %r = %c0 to %rows step %c1 {
    scf.for %c = %c0 to %columns step %c1 {
      %0 = memref.load %a[%r, %c] : memref<64x1280xbf16>
      %1 = memref.load %x4[%c] : memref<1280xf32>
      %2 = arith.extf %0 : bf16 to f32
      %3 = arith.addf %1, %2 fastmath<reassoc> : f32
      memref.store %3, %x4[%c] : memref<1280xf32>
    } {llama.columns}
  }
  scf.for %r = %c0 to %rows step %c1 {
    scf.for %c = %c0 to %columns step %c1 {
      %0 = memref.load %a[%r, %c] : memref<64x1280xbf16>
      %1 = memref.load %x5[%c] : memref<1280xf32>
      %2 = arith.extf %0 : bf16 to f32
      %3 = arith.addf %1, %2 fastmath<reassoc> : f32
      memref.store %3, %x5[%c] : memref<1280xf32>
    } {llama.columns}
  }
  scf.for %r = %c0 to %rows step %c1 {
    scf.for %c = %c0 to %columns step %c1 {
      %0 = memref.load %a[%r, %c] : memref<64x1280xbf16>
      %1 = memref.load %x6[%c] : memref<1280xf32>
      %2 = arith.extf %0 : bf16 to f32
      %3 = arith.addf %1, %2 fastmath<reassoc> : f32
      memref.store %3, %x6[%c] : memref<1280xf32>
    } {llama.columns}
  }
  return
}
