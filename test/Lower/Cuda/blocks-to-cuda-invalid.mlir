// RUN: llama-opt %s -split-input-file -llama-blocks-to-cuda -verify-diagnostics

module attributes {gpu.container_module} {
  gpu.module @k {
    llvm.func @k(%x: !llvm.ptr) attributes {gpu.kernel, nvvm.kernel} {
      llvm.return
    }
  }
  func.func @f(%x: memref<32xf32>) attributes {llama.block} {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    // expected-error @+1 {{expects a constant grid of at least 1}}
    gpu.launch_func @k::@k blocks in (%c0, %c1, %c1) threads in (%c1, %c1, %c1) args(%x : memref<32xf32>)
    return
  }
}

// -----

module {
  func.func private @f.loop0(memref<32xf32>, index, index)
  func.func @f(%x: memref<32xf32>) attributes {llama.block} {
    %c0 = arith.constant 0 : index
    %c32 = arith.constant 32 : index
    // expected-error @+1 {{is for the host: expects launches of kernels}}
    call @f.loop0(%x, %c0, %c32) : (memref<32xf32>, index, index) -> ()
    return
  }
}

// -----

module {
  func.func @f(%x: memref<8x32xf32>, %w: memref<16x8xf32>, %y: memref<8x8xf32>) attributes {llama.block} {
    %columns = memref.reinterpret_cast %x to offset: [8], sizes: [8, 16], strides: [32, 1] : memref<8x32xf32> to memref<8x16xf32, strided<[32, 1], offset: 8>>
    // expected-error @+1 {{expects dense operands, but got 'memref<8x16xf32, strided<[32, 1], offset: 8>>'}}
    routine.gemm %columns, %w into %y {m = 8 : i64, n = 8 : i64, k = 16 : i64} : (memref<8x16xf32, strided<[32, 1], offset: 8>>, memref<16x8xf32>, memref<8x8xf32>) -> ()
    return
  }
}
