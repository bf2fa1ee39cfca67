// RUN: llama-opt %s -split-input-file -llama-blocks-to-cuda -canonicalize -cse | FileCheck %s

// CHECK: llvm.mlir.global external constant @llrt.launch.f.0() {addr_space = 0 : i32, llama.launch = {block = array<i64: 256, 1, 1>, buffers = 1 : i64, grid = array<i64: 1, 1, 1>, kernel = @k::@k, shared = 0 : i64}} : i8
// CHECK: gpu.module @k
// CHECK: llvm.func @f(%[[STREAM:.*]]: !llvm.ptr, %[[BUFFERS:.*]]: !llvm.ptr) attributes {llama.scratch = 0 : i64}
// CHECK: llvm.call @llrt_launch(%[[STREAM]], %{{.*}}, %{{.*}}) : (!llvm.ptr, !llvm.ptr, !llvm.ptr) -> ()
module attributes {gpu.container_module} {
  gpu.module @k {
    llvm.func @k(%x: !llvm.ptr) attributes {gpu.kernel, nvvm.kernel} {
      llvm.return
    }
  }
  func.func @f(%x: memref<256xf32>) attributes {llama.block} {
    %c1 = arith.constant 1 : index
    %c256 = arith.constant 256 : index
    gpu.launch_func @k::@k blocks in (%c1, %c1, %c1) threads in (%c256, %c1, %c1) args(%x : memref<256xf32>)
    return
  }
}

// -----

// Two launches of one kernel with the same sizes share what they say; another size does not.
// CHECK-DAG: llvm.mlir.global external constant @llrt.launch.f.0() {addr_space = 0 : i32, llama.launch = {block = array<i64: 32, 1, 1>, buffers = 2 : i64, grid = array<i64: 8, 1, 1>, kernel = @k::@k, shared = 0 : i64}} : i8
// CHECK-DAG: llvm.mlir.global external constant @llrt.launch.f.1() {addr_space = 0 : i32, llama.launch = {block = array<i64: 32, 1, 1>, buffers = 2 : i64, cluster = array<i64: 2, 1, 1>, grid = array<i64: 8, 8, 1>, kernel = @k::@k, maps = [{argument = 0 : i64}], shared = 4096 : i64}} : i8
// CHECK-NOT: llvm.mlir.global external constant @llrt.launch
// CHECK: gpu.module @k
// CHECK-NOT: memref.global
// CHECK: llvm.func @f(%[[STREAM:.*]]: !llvm.ptr, %[[BUFFERS:.*]]: !llvm.ptr) attributes {llama.scratch = 4096 : i64}
// CHECK-DAG: %[[FIRST:.*]] = llvm.mlir.addressof @llrt.launch.f.0
// CHECK-DAG: %[[SECOND:.*]] = llvm.mlir.addressof @llrt.launch.f.1
// CHECK-DAG: %[[X:.*]] = llvm.load %[[BUFFERS]]
// CHECK: llvm.call @llrt_launch(%[[STREAM]], %[[FIRST]], %[[ARGS:.*]]) :
// CHECK: llvm.call @llrt_gemm(%[[STREAM]]
// CHECK: llvm.call @llrt_launch(%[[STREAM]], %[[FIRST]],
// CHECK: llvm.call @llrt_launch(%[[STREAM]], %[[SECOND]],
module attributes {gpu.container_module} {
  memref.global "private" constant @table : memref<2xf32> = dense<[1.0, 2.0]>
  gpu.module @k {
    llvm.func @k(%x: !llvm.ptr, %y: !llvm.ptr) attributes {gpu.kernel, nvvm.kernel} {
      llvm.return
    }
  }
  func.func @f(%x: memref<32x32xf32>, %y: memref<32x32xf32>) attributes {llama.block} {
    %c1 = arith.constant 1 : index
    %c2 = arith.constant 2 : index
    %c8 = arith.constant 8 : index
    %c32 = arith.constant 32 : index
    %bytes = arith.constant 4096 : i32
    %a = memref.alloc() : memref<32x32xf32>
    gpu.launch_func @k::@k blocks in (%c8, %c1, %c1) threads in (%c32, %c1, %c1) args(%x : memref<32x32xf32>, %a : memref<32x32xf32>)
    routine.gemm %a, %x into %y {m = 32 : i64, n = 32 : i64, k = 32 : i64} : (memref<32x32xf32>, memref<32x32xf32>, memref<32x32xf32>) -> ()
    gpu.launch_func @k::@k blocks in (%c8, %c1, %c1) threads in (%c32, %c1, %c1) args(%y : memref<32x32xf32>, %x : memref<32x32xf32>)
    gpu.launch_func @k::@k clusters in (%c2, %c1, %c1) blocks in (%c8, %c8, %c1) threads in (%c32, %c1, %c1) dynamic_shared_memory_size %bytes args(%a : memref<32x32xf32>, %y : memref<32x32xf32>) {llama.tensor_maps = [{argument = 0 : i64}]}
    return
  }
}

// -----

// Columns of a matrix begin behind others. The matrix lives as long as they do: what is made in between
// lies elsewhere.
// CHECK-LABEL: llvm.func @columns(
// CHECK-SAME:      llama.scratch = 1536 : i64
// CHECK:         llvm.getelementptr %{{.*}}[32] : (!llvm.ptr) -> !llvm.ptr, i8
module attributes {gpu.container_module} {
  gpu.module @k {
    llvm.func @k(%x: !llvm.ptr, %y: !llvm.ptr) attributes {gpu.kernel, nvvm.kernel} {
      llvm.return
    }
  }
  func.func @columns(%x: memref<8x16xf32>) attributes {llama.block} {
    %c1 = arith.constant 1 : index
    %c8 = arith.constant 8 : index
    %a = memref.alloc() : memref<8x32xf32>
    %b = memref.alloc() : memref<8x16xf32>
    %columns = memref.reinterpret_cast %a to offset: [8], sizes: [8, 16], strides: [32, 1] : memref<8x32xf32> to memref<8x16xf32, strided<[32, 1], offset: 8>>
    gpu.launch_func @k::@k blocks in (%c8, %c1, %c1) threads in (%c8, %c1, %c1) args(%x : memref<8x16xf32>, %a : memref<8x32xf32>)
    gpu.launch_func @k::@k blocks in (%c8, %c1, %c1) threads in (%c8, %c1, %c1) args(%x : memref<8x16xf32>, %b : memref<8x16xf32>)
    gpu.launch_func @k::@k blocks in (%c8, %c1, %c1) threads in (%c8, %c1, %c1) args(%columns : memref<8x16xf32, strided<[32, 1], offset: 8>>, %b : memref<8x16xf32>)
    return
  }
}
