// RUN: llama-opt %s -split-input-file --pass-pipeline='builtin.module(gpu.module(llama-expand-math,llama-lower-kernels,reconcile-unrealized-casts,canonicalize,cse))' | FileCheck %s
// RUN: llama-opt %s -split-input-file --pass-pipeline='builtin.module(gpu.module(llama-expand-math,llama-lower-kernels,reconcile-unrealized-casts,canonicalize,cse),llama-print-ptx)' -o /dev/null | FileCheck %s --check-prefix=PTX
// RUN: llama-opt %s -split-input-file --pass-pipeline='builtin.module(gpu.module(llama-expand-math,llama-lower-kernels,reconcile-unrealized-casts,canonicalize,cse),llama-print-ptx{chip=sm_80})' -o /dev/null | FileCheck %s --check-prefix=SM80

// The description's example.
// CHECK-LABEL: gpu.module @negate
// CHECK:         llvm.func @negate(%[[X:.*]]: !llvm.ptr) attributes {gpu.kernel, nvvm.kernel, nvvm.reqntid = array<i32: 256>}
// CHECK:           %[[T32:.*]] = nvvm.read.ptx.sreg.tid.x : i32
// CHECK:           %[[T:.*]] = llvm.sext %[[T32]] : i32 to i64
// CHECK:           %[[P:.*]] = llvm.getelementptr {{.*}}%[[X]][%[[T]]] : (!llvm.ptr, i64) -> !llvm.ptr, f32
// CHECK:           llvm.load %[[P]] : !llvm.ptr -> f32
// CHECK:           llvm.fneg
// CHECK:           llvm.store
// CHECK:           llvm.return
//
// PTX: .version 8.0
// PTX: .target sm_90a
// PTX: .visible .entry negate(
// PTX: .reqntid 256
// SM80: .version 7.0
// SM80: .target sm_80
// SM80: .visible .entry negate(
gpu.module @negate {
  gpu.func @negate(%x: memref<256xf32>) kernel attributes {nvvm.reqntid = array<i32: 256>} {
    %t = gpu.thread_id x
    %0 = memref.load %x[%t] : memref<256xf32>
    %1 = arith.negf %0 : f32
    memref.store %1, %x[%t] : memref<256xf32>
    gpu.return
  }
}

// -----

// Accesses of 16 bytes, read-only data through the path for it, rounding of two at once, shared
// memory, a sum over a warp. Names: dots become underscores.
// CHECK-LABEL: gpu.module @rows.loop0
// CHECK:         llvm.mlir.global internal @[[S:.*]]() {addr_space = 3 : i32, alignment = 16 : i64} : !llvm.array<8 x f32>
//
// PTX:     .visible .entry rows_loop0(
// PTX:     .loc 2 3 4
// PTX:     ld.global.nc.v4.b32
// PTX:     cvt.f32.bf16
// PTX:     .loc 3 1 0
// PTX:     mul.f32
// PTX-COUNT-5: shfl.sync.bfly.b32
// PTX:     st.shared.b32
// PTX:     bar.sync 0
// PTX:     ld.shared.b32
// PTX:     rsqrt.approx.f32
// PTX:     cvt.rn.bf16x2.f32
// PTX:     st.global.v4.b32
// PTX-DAG: .file 2 "a.mlir"
// PTX-DAG: .file 3 "square"
//
// SM80:     .visible .entry rows_loop0(
// SM80:     ld.global.nc.v4.b32
// SM80-NOT: cvt.f32.bf16
// SM80:     cvt.rn.bf16x2.f32
// SM80:     st.global.v4.b32
gpu.module @rows.loop0 {
  gpu.func @rows.loop0(%x: memref<8x256xbf16> {llvm.noalias, llvm.readonly}, %y: memref<8x256xbf16> {llvm.noalias})
      workgroup(%s : memref<8xf32, #gpu.address_space<workgroup>>) kernel attributes {nvvm.reqntid = array<i32: 32, 1, 1>} {
    %t = gpu.thread_id x
    %b = gpu.block_id x
    %c8 = arith.constant 8 : index
    %i = arith.muli %t, %c8 : index
    %v = vector.load %x[%b, %i] {alignment = 16 : i64} : memref<8x256xbf16>, vector<8xbf16> loc("load"("a.mlir":3:4))
    %f = arith.extf %v : vector<8xbf16> to vector<8xf32>
    %m = arith.mulf %f, %f fastmath<contract,reassoc> : vector<8xf32> loc("square")
    %r = vector.reduction <add>, %m fastmath<reassoc> : vector<8xf32> into f32
    %w = gpu.subgroup_reduce add %r : (f32) -> f32
    memref.store %w, %s[%t] : memref<8xf32, #gpu.address_space<workgroup>>
    gpu.barrier
    %z = memref.load %s[%b] : memref<8xf32, #gpu.address_space<workgroup>>
    %e = math.rsqrt %z : f32
    %bv = vector.broadcast %e : f32 to vector<8xf32>
    %p = arith.mulf %f, %bv : vector<8xf32>
    %o = arith.truncf %p : vector<8xf32> to vector<8xbf16>
    vector.store %o, %y[%b, %i] {alignment = 16 : i64} : memref<8x256xbf16>, vector<8xbf16>
    gpu.return
  }
}

// -----

// f64, loops, an affine index, a constant table.
// PTX:     .visible .entry sums(
// PTX:     add.rn.f64
// PTX:     sqrt.rn.f64
// SM80:    .visible .entry sums(
// SM80:    sqrt.rn.f64
gpu.module @sums {
  memref.global "private" constant @table : memref<2xf64> = dense<[1.0, 2.0]>
  gpu.func @sums(%x: memref<4x64xf64>, %y: memref<4xf64>) kernel {
    %t = gpu.thread_id x
    %zero = arith.constant 0.0 : f64
    %c = memref.get_global @table : memref<2xf64>
    %sum = affine.for %i = 0 to 64 iter_args(%s = %zero) -> f64 {
      %0 = memref.load %x[%t, %i] : memref<4x64xf64>
      %1 = affine.load %c[%i mod 2] : memref<2xf64>
      %2 = arith.mulf %0, %1 : f64
      %3 = arith.addf %s, %2 : f64
      affine.yield %3 : f64
    }
    %root = math.sqrt %sum : f64
    memref.store %root, %y[%t] : memref<4xf64>
    gpu.return
  }
}
