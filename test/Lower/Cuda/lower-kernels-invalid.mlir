// RUN: llama-opt %s --pass-pipeline='builtin.module(gpu.module(llama-lower-kernels))' -verify-diagnostics

gpu.module @k {
  gpu.func @k(%x: memref<256xf32>) kernel {
    %t = gpu.thread_id x
    %0 = memref.load %x[%t] : memref<256xf32>
    // expected-error @+1 {{no instruction, but a call of __nv_expf: expects functions to be expanded}}
    %1 = math.exp %0 : f32
    memref.store %1, %x[%t] : memref<256xf32>
    gpu.return
  }
}
