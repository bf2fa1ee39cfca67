// RUN: llama-opt %s -llama-print-ptx -o /dev/null | FileCheck %s
// RUN: not llama-opt %s -llama-print-ptx=chip=sm_75 -o /dev/null 2>&1 | FileCheck %s --check-prefix=OLD
// RUN: not llama-opt %s -llama-print-ptx=chip=sm_1 -o /dev/null 2>&1 | FileCheck %s --check-prefix=UNKNOWN

// CHECK: .visible .entry k(
// OLD: error: chip=sm_75: expected sm_80 or later: older chips have no bf16
// UNKNOWN: error: chip=sm_1: expected chips that LLVM knows, as in sm_80,sm_90a
gpu.module @k {
  llvm.func @k(%x: !llvm.ptr) attributes {gpu.kernel, nvvm.kernel} {
    llvm.return
  }
}
