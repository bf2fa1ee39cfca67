// RUN: llama-opt %s -split-input-file -llama-blocks-to-llvm -canonicalize -cse | FileCheck %s
// RUN: llama-opt %s -split-input-file -llama-blocks-to-llvm=polynomials=true | FileCheck %s --check-prefix=POLYNOMIALS
// RUN: llama-opt %s -split-input-file -llama-blocks-to-llvm=alignment=256 -canonicalize -cse | FileCheck %s --check-prefix=ALIGNED

// The block takes its buffers from memory; a loop with a grain goes through
// llrt_launch, by a function that takes the buffers from memory again.
// CHECK: llvm.func @llrt_launch(!llvm.ptr, !llvm.ptr, !llvm.ptr)
// CHECK-LABEL: llvm.func internal @f.loop0(
// CHECK-SAME:      %{{.*}}: !llvm.ptr {llvm.noalias}, %{{.*}}: !llvm.ptr {llvm.noalias}, %{{.*}}: i64, %{{.*}}: i64)
// CHECK-LABEL: llvm.func internal @f.loop0.body(
// CHECK-SAME:      %[[ARGS:[a-z0-9]+]]: !llvm.ptr, %[[LO:[a-z0-9]+]]: i64, %[[HI:[a-z0-9]+]]: i64)
// CHECK:         %[[M:.*]] = llvm.load %[[ARGS]]
// CHECK:         llvm.call @f.loop0(%[[M]], %{{.*}}, %[[LO]], %[[HI]])
// CHECK-LABEL: llvm.mlir.global internal constant @f.loop0.kernel.65536.5462() {{.*}}: !llvm.struct<(ptr, i64, i64)> {
// CHECK-DAG:     %[[N:.*]] = llvm.mlir.constant(65536 : i64)
// CHECK-DAG:     %[[GRAIN:.*]] = llvm.mlir.constant(5462 : i64)
// CHECK-DAG:     %[[BODY:.*]] = llvm.mlir.addressof @f.loop0.body
// CHECK:         llvm.insertvalue %[[BODY]], %{{.*}}[0]
// CHECK-NEXT:    llvm.insertvalue %[[N]], %{{.*}}[1]
// CHECK-NEXT:    llvm.insertvalue %[[GRAIN]], %{{.*}}[2]
// CHECK-LABEL: llvm.func @f(
// CHECK-SAME:      %[[STREAM:[a-z0-9]+]]: !llvm.ptr, %[[BUFFERS:[a-z0-9]+]]: !llvm.ptr) attributes {llama.scratch = 0 : i64} {
// CHECK:         %[[KERNEL:.*]] = llvm.mlir.addressof @f.loop0.kernel.65536.5462
// CHECK:         llvm.load %[[BUFFERS]]
// CHECK:         llvm.call @llrt_launch(%[[STREAM]], %[[KERNEL]], %{{.*}})
func.func private @f.loop0(%m: memref<65536xf32> {llvm.noalias}, %n: memref<65536xf32> {llvm.noalias}, %lo: index, %hi: index) {
  affine.for %i = %lo to %hi {
    %x = affine.load %m[%i] : memref<65536xf32>
    affine.store %x, %n[%i] : memref<65536xf32>
  }
  return
}
func.func @f(%m: memref<65536xf32>, %n: memref<65536xf32>) attributes {llama.block} {
  %c0 = arith.constant 0 : index
  %c65536 = arith.constant 65536 : index
  call @f.loop0(%m, %n, %c0, %c65536) {llama.grain = 5462 : i64} : (memref<65536xf32>, memref<65536xf32>, index, index) -> ()
  return
}

// -----

// Three temporaries of 64 bytes, of which two live at a time: 128 bytes of scratch
// memory, the third where the first was. Scratch is the last buffer. Equal calls have
// one descriptor; the last differs in `transpose_b`.
// CHECK-DAG: llvm.mlir.global internal constant @descriptor0(dense<[0, 0, 4, 4, 4, 0, 0, 0, 0]>
// CHECK-DAG: llvm.mlir.global internal constant @descriptor1(dense<[0, 0, 4, 4, 4, 0, 1, 0, 0]>
// CHECK-LABEL: llvm.func @temporaries(
// CHECK-SAME:      attributes {llama.scratch = 128 : i64} {
// CHECK-DAG:     %[[FIRST:.*]] = llvm.mlir.addressof @descriptor0
// CHECK-DAG:     %[[LAST:.*]] = llvm.mlir.addressof @descriptor1
// CHECK:         %[[SLOT:.*]] = llvm.getelementptr %arg1[2]
// CHECK-NEXT:    %[[A:.*]] = llvm.load %[[SLOT]]
// CHECK-NEXT:    %[[B:.*]] = llvm.getelementptr %[[A]][64]
// CHECK-NEXT:    llvm.call @llrt_gemm(%arg0, %[[FIRST]], %{{.*}}, %{{.*}}, %{{.*}}, %[[A]])
// CHECK-NEXT:    llvm.call @llrt_gemm(%arg0, %[[FIRST]], %[[A]], %[[A]], %{{.*}}, %[[B]])
// CHECK-NEXT:    llvm.call @llrt_gemm(%arg0, %[[FIRST]], %[[B]], %[[B]], %{{.*}}, %[[A]])
// CHECK-NEXT:    llvm.call @llrt_gemm(%arg0, %[[LAST]], %[[A]], %[[A]],
// For a target whose memory begins at multiples of 256 bytes:
// ALIGNED-LABEL: llvm.func @temporaries(
// ALIGNED-SAME:      attributes {llama.scratch = 512 : i64} {
// ALIGNED:         %[[SLOT:.*]] = llvm.getelementptr %arg1[2]
// ALIGNED-NEXT:    %[[A:.*]] = llvm.load %[[SLOT]]
// ALIGNED-NEXT:    llvm.getelementptr %[[A]][256]
func.func @temporaries(%x: memref<4x4xf32>, %y: memref<4x4xf32>) attributes {llama.block} {
  %a = memref.alloc() : memref<4x4xf32>
  %b = memref.alloc() : memref<4x4xf32>
  %c = memref.alloc() : memref<4x4xf32>
  routine.gemm %x, %x into %a {k = 4 : i64, m = 4 : i64, n = 4 : i64} : (memref<4x4xf32>, memref<4x4xf32>, memref<4x4xf32>) -> ()
  routine.gemm %a, %a into %b {k = 4 : i64, m = 4 : i64, n = 4 : i64} : (memref<4x4xf32>, memref<4x4xf32>, memref<4x4xf32>) -> ()
  routine.gemm %b, %b into %c {k = 4 : i64, m = 4 : i64, n = 4 : i64} : (memref<4x4xf32>, memref<4x4xf32>, memref<4x4xf32>) -> ()
  routine.gemm %c, %c into %y {k = 4 : i64, m = 4 : i64, n = 4 : i64, transpose_b} : (memref<4x4xf32>, memref<4x4xf32>, memref<4x4xf32>) -> ()
  return
}

// -----

// The exponential is the library's, or a polynomial.
// CHECK-LABEL:       llvm.func internal @exp.loop0(
// CHECK:               llvm.intr.exp
// POLYNOMIALS-LABEL: llvm.func internal @exp.loop0(
// POLYNOMIALS-NOT:     llvm.intr.exp
// POLYNOMIALS-NOT:     @expf
// POLYNOMIALS:         llvm.intr.fma
func.func private @exp.loop0(%m: memref<8xf32> {llvm.noalias}, %n: memref<8xf32> {llvm.noalias}, %lo: index, %hi: index) {
  affine.for %i = %lo to %hi {
    %x = affine.load %m[%i] : memref<8xf32>
    %y = math.exp %x : f32
    affine.store %y, %n[%i] : memref<8xf32>
  }
  return
}
func.func @exp(%m: memref<8xf32>, %n: memref<8xf32>) attributes {llama.block} {
  %c0 = arith.constant 0 : index
  %c8 = arith.constant 8 : index
  call @exp.loop0(%m, %n, %c0, %c8) : (memref<8xf32>, memref<8xf32>, index, index) -> ()
  return
}
