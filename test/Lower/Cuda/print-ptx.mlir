// RUN: llama-opt %s -llama-print-ptx=chip=sm_80 -o /dev/null | FileCheck %s
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

// The sum of a column, one row after the other: not two rows at a time as halves of a register, in another order. ptxas 13.0
// crashes over that, too.
// CHECK: .visible .entry sum_rows(
// CHECK-NOT: bf16x2
// CHECK: fma.rn.bf16
// CHECK-NOT: bf16x2
// CHECK: ret;
gpu.module @sum_rows {
  llvm.func @sum_rows(%x: !llvm.ptr {llvm.noalias, llvm.readonly}, %sum: !llvm.ptr {llvm.noalias}) attributes {gpu.kernel, nvvm.kernel} {
    %zero = llvm.mlir.constant(0 : i64) : i64
    %one = llvm.mlir.constant(1 : i64) : i64
    %rows = llvm.mlir.constant(6404 : i64) : i64
    %width = llvm.mlir.constant(256 : i64) : i64
    %lane = nvvm.read.ptx.sreg.tid.x : i32
    %column = llvm.zext %lane : i32 to i64
    %to = llvm.getelementptr %sum[%column] : (!llvm.ptr, i64) -> !llvm.ptr, bf16
    %old = llvm.load %to : !llvm.ptr -> bf16
    llvm.br ^loop(%zero, %old : i64, bf16)
  ^loop(%row: i64, %before: bf16):
    %below = llvm.mul %row, %width : i64
    %place = llvm.add %below, %column : i64
    %from = llvm.getelementptr %x[%place] : (!llvm.ptr, i64) -> !llvm.ptr, bf16
    %new = llvm.load %from : !llvm.ptr -> bf16
    %after = llvm.fadd %before, %new {fastmathFlags = #llvm.fastmath<contract, reassoc>} : bf16
    %next = llvm.add %row, %one : i64
    %more = llvm.icmp "slt" %next, %rows : i64
    llvm.cond_br %more, ^loop(%next, %after : i64, bf16), ^end
  ^end:
    llvm.store %after, %to : bf16, !llvm.ptr
    llvm.return
  }
}
