//===- RoutineOps.td - Calls of the runtime's routines -----*- tablegen -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_ROUTINE_ROUTINEOPS_TD
#define LLAMAC_ROUTINE_ROUTINEOPS_TD

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"
include "mlir/IR/OpBase.td"
include "mlir/Interfaces/DestinationStyleOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def Routine_Dialect : Dialect {
  let name = "routine";
  let cppNamespace = "::mlir::routine";
  let summary = "Calls of the routines that the runtime library has ready-made";
  let description = [{
    Matrix products and attention are not made of loops: a block calls routines of the runtime
    library. Each op here is one call. It reads its inputs and writes its outputs; on tensors
    each result is the new value of an output, on memrefs there are no results. Operands are
    dense and row-major. Only their element types and numbers of elements matter, what they mean
    is in the attributes: so a view may be replaced by what it views. Queries, keys, values and their
    gradients may be columns of a wider matrix, a strided memref of two dimensions, where the target
    emits attention itself.

    The attributes become the routine's constant description (runtime/include/llrt/Kernels.h).

    One op calls no routine but another function of the block: `routine.chunks`.
  }];
  let useDefaultAttributePrinterParser = 1;
}

def RoutineOpInterface : OpInterface<"RoutineOpInterface", [DestinationStyleOpInterface]> {
  let cppNamespace = "::mlir::routine";
  let description = [{
    A call of a routine of the runtime library: all that the passes between tensors and machine
    code have to know of it.
  }];
  let methods = [
    InterfaceMethod<"The symbol of the routine.", "::llvm::StringRef", "getRoutine", (ins)>,
    InterfaceMethod<[{The constant description that the routine gets, the structure of
      Kernels.h in words of 64 bits.}],
      "::llvm::SmallVector<int64_t>", "getDescription", (ins)>,
    InterfaceMethod<[{The buffers in the order in which the routine takes them, null for one
      that is absent.}],
      "::llvm::SmallVector<::mlir::Value>", "getRoutineArguments", (ins)>,
    InterfaceMethod<"Whether an output is read before it is written.", "bool", "readsOutput",
                    (ins "::mlir::OpOperand &":$output), "", "return false;">];
}

def Routine_Mask : I32EnumAttr<"Mask", "which keys a query sees", [
  I32EnumAttrCase<"Causal", 0, "causal">, I32EnumAttrCase<"Encoder", 1, "encoder">,
  I32EnumAttrCase<"Images", 2, "images">]> {
  let cppNamespace = "::mlir::routine";
  let genSpecializedAttr = 0;
}
def Routine_MaskAttr : EnumAttr<Routine_Dialect, Routine_Mask, "mask"> {
  let assemblyFormat = "`<` $value `>`";
}

def Routine_Size : ConfinedAttr<I64Attr, [IntPositive]>;
def Routine_Count : ConfinedAttr<I64Attr, [IntNonNegative]>;

class Routine_Op<string mnemonic, list<Trait> traits = []>
    : Op<Routine_Dialect, mnemonic, !listconcat(traits, [DestinationStyleOpInterface,
        DeclareOpInterfaceMethods<RoutineOpInterface>,
        DeclareOpInterfaceMethods<MemoryEffectsOpInterface>])> {
  let hasVerifier = 1;
}

def GemmOp : Routine_Op<"gemm", [AttrSizedOperandSegments]> {
  let summary = "Multiply two matrices, add a bias or what is there";
  let description = [{
    `c[m, n] = op(a)[m, k] * op(b)[k, n] (+ bias[n])`, plus the old `c` with `accumulate`.
    `transpose_a`: a is stored [k, m]; `transpose_b`: b is stored [n, k]. Sums are in f32, in
    f64 for f64. `b` and `c` may be several operands: parts of the stored matrix, its first rows
    first (llama-merge-products). Each part lies behind the one before it in memory, which is for
    whoever forms the op to see to: the routine gets the first. `bias_gradient[m]`, the last output,
    becomes the sum of `op(a)[m, k]` over k, with `accumulate` too: of a weight gradient
    `dy^T x` the gradient of the bias, for which dy is not read again.

    - (C1) `a` has `m * k` elements, `b` has `k * n` in all, `bias` has `n`, `c` has `m * n` in all,
      `bias_gradient` has `m`
    - (C2) `a`, `b` and `bias` have one element type, f32, bf16 or f64; `c` has it too, or f32
      where it is bf16
    - (C3) all operands are tensors, or all are memrefs
    - (C4) `b` and `c` have at least one part, each of whole rows of the stored matrix
    - (C5) `bias_gradient` and `c` beside it have f32, and there is no `bias` then

    Example:
    ```mlir
    %y = routine.gemm %x, %w into %e {m = 32 : i64, n = 384 : i64, k = 128 : i64, transpose_b} : (tensor<2x16x128xf32>, tensor<384x128xf32>, tensor<2x16x384xf32>) -> tensor<2x16x384xf32>
    ```
    Source: llrt_gemm in runtime/include/llrt/Kernels.h.
  }];
  let arguments = (ins AnyShaped:$a, Variadic<AnyShaped>:$b, Optional<AnyShaped>:$bias,
                       Variadic<AnyShaped>:$c, Optional<AnyShaped>:$bias_gradient, Routine_Size:$m, Routine_Size:$n, Routine_Size:$k, UnitAttr:$transpose_a,
                       UnitAttr:$transpose_b, UnitAttr:$accumulate);
  let results = (outs Variadic<AnyRankedTensor>:$results);
  let assemblyFormat = [{
    $a `,` $b (`bias` $bias^)? `into` $c (`bias_gradient` $bias_gradient^)? attr-dict
    `:` functional-type(operands, results)
  }];
  let extraClassDeclaration = [{
    ::mlir::MutableOperandRange getDpsInitsMutable() {
      unsigned count = getC().size() + (getBiasGradient() ? 1 : 0);
      return ::mlir::MutableOperandRange(*this, getODSOperandIndexAndLength(3).first, count);
    }
    bool readsOutput(::mlir::OpOperand &output) {
      return getAccumulate() && output.get() != getBiasGradient();
    }
  }];
}

// Sizes and masks of the two attention routines.
defvar Routine_attentionSizes = (ins Routine_MaskAttr:$mask, F64Attr:$scale, Routine_Size:$batch,
    Routine_Size:$queries, Routine_Size:$keys, Routine_Size:$heads, Routine_Size:$kv_heads,
    Routine_Size:$head_size, Routine_Count:$images, Routine_Count:$tile_count, Routine_Count:$tile_stride,
    Routine_Count:$tile_tokens);

def AttentionForwardOp : Routine_Op<"attention_forward"> {
  let summary = "Softmax attention with grouped heads";
  let description = [{
    With B `batch`, S `queries`, T `keys`, H `heads`, K `kv_heads`, D `head_size`, M `images`:
    `out[b, s, h, :] = sum_t P[b, h, s, t] * v[b, t, h / (H / K), :]`, `P = softmax_t(scale *
    q[b, s, h, :] . k[b, t, h / (H / K), :])` over the keys that query s sees; `lse[b, s, h]` is
    the logarithm of the softmax denominator. What a query sees, by which of `masks`, is as
    `llama.attention` says.

    - (C1) `q` and `out` have `B * S * H * D` elements, `k` and `v` have `B * T * K * D`, `lse`
      has `B * S * H`
    - (C2) `masks` are as `mask` wants: `causal` two of `B * S` and two of `B * T` elements,
      `encoder` one of `B` and one of `S`, `images` two of `B * S` and one of `B * M`
    - (C3) `q`, `k`, `v` and `out` have one element type, f32 or bf16; `lse` has f32, `masks`
      have i64
    - (C4) all operands are tensors, or all are memrefs
    - (C5) `kv_heads` divides `heads`
    - (C6) `encoder`: `T = tile_count * tile_stride`; `images`: `T = M * tile_count *
      tile_tokens`; `scale > 0`

    Example:
    ```mlir
    %o, %l = routine.attention_forward %q, %k, %v masks(%p, %d, %kp, %kd) into %e, %f {mask = #routine.mask<causal>, scale = 0.25 : f64, batch = 2 : i64, queries = 16 : i64, keys = 32 : i64, heads = 8 : i64, kv_heads = 2 : i64, head_size = 16 : i64, images = 0 : i64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64} : (tensor<2x16x8x16xf32>, tensor<2x32x2x16xf32>, tensor<2x32x2x16xf32>, tensor<2x16xi64>, tensor<2x16xi64>, tensor<2x32xi64>, tensor<2x32xi64>, tensor<2x16x8x16xf32>, tensor<2x16x8xf32>) -> (tensor<2x16x8x16xf32>, tensor<2x16x8xf32>)
    ```
    Source: llrt_attention_forward in runtime/include/llrt/Kernels.h (arXiv 2307.08691, algorithm 1).
  }];
  let arguments = !con((ins AnyShaped:$q, AnyShaped:$k, AnyShaped:$v,
                            Variadic<AnyShaped>:$masks, AnyShaped:$out, AnyShaped:$lse),
                       Routine_attentionSizes);
  let results = (outs Variadic<AnyRankedTensor>:$results);
  let assemblyFormat = [{
    $q `,` $k `,` $v `masks` `(` $masks `)` `into` $out `,` $lse attr-dict
    `:` functional-type(operands, results)
  }];
  let extraClassDeclaration = [{
    ::mlir::MutableOperandRange getDpsInitsMutable() {
      return ::mlir::MutableOperandRange(*this, getNumOperands() - 2, 2);
    }
  }];
}

def AttentionBackwardOp : Routine_Op<"attention_backward"> {
  let summary = "Gradients of softmax attention";
  let description = [{
    With P and the sizes of routine.attention_forward: `d_v = P^T d_out; dP = d_out v^T; dS = P *
    (dP - rowsum(d_out * out)); d_q = scale * dS k; d_k = scale * dS^T q`; d_k and d_v are summed
    over the query heads that share them. P is formed again from `lse`.

    - (C1) `d_out`, `q`, `out` and `d_q` have `B * S * H * D` elements, `k`, `v`, `d_k` and `d_v`
      have `B * T * K * D`, `lse` has `B * S * H`
    - (C2) `masks` are as `mask` wants: see routine.attention_forward
    - (C3) all have one element type, f32 or bf16, but `lse` has f32 and `masks` have i64
    - (C4) all operands are tensors, or all are memrefs
    - (C5) `kv_heads` divides `heads`
    - (C6) `encoder`: `T = tile_count * tile_stride`; `images`: `T = M * tile_count *
      tile_tokens`; `scale > 0`

    Example:
    ```mlir
    %dq, %dk, %dv = routine.attention_backward %do, %q, %k, %v, %o, %l masks(%p, %d, %kp, %kd) into %e, %f, %g {mask = #routine.mask<causal>, scale = 0.25 : f64, batch = 2 : i64, queries = 16 : i64, keys = 32 : i64, heads = 8 : i64, kv_heads = 2 : i64, head_size = 16 : i64, images = 0 : i64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64} : (tensor<2x16x8x16xf32>, tensor<2x16x8x16xf32>, tensor<2x32x2x16xf32>, tensor<2x32x2x16xf32>, tensor<2x16x8x16xf32>, tensor<2x16x8xf32>, tensor<2x16xi64>, tensor<2x16xi64>, tensor<2x32xi64>, tensor<2x32xi64>, tensor<2x16x8x16xf32>, tensor<2x32x2x16xf32>, tensor<2x32x2x16xf32>) -> (tensor<2x16x8x16xf32>, tensor<2x32x2x16xf32>, tensor<2x32x2x16xf32>)
    ```
    Source: llrt_attention_backward in runtime/include/llrt/Kernels.h (arXiv 2307.08691, algorithm 2).
  }];
  let arguments = !con((ins AnyShaped:$d_out, AnyShaped:$q, AnyShaped:$k, AnyShaped:$v,
                            AnyShaped:$out, AnyShaped:$lse, Variadic<AnyShaped>:$masks,
                            AnyShaped:$d_q, AnyShaped:$d_k, AnyShaped:$d_v),
                       Routine_attentionSizes);
  let results = (outs Variadic<AnyRankedTensor>:$results);
  let assemblyFormat = [{
    $d_out `,` $q `,` $k `,` $v `,` $out `,` $lse `masks` `(` $masks `)` `into` $d_q `,` $d_k
    `,` $d_v attr-dict `:` functional-type(operands, results)
  }];
  let extraClassDeclaration = [{
    ::mlir::MutableOperandRange getDpsInitsMutable() {
      return ::mlir::MutableOperandRange(*this, getNumOperands() - 3, 3);
    }
  }];
}

def ChunksOp : Routine_Op<"chunks", [AttrSizedOperandSegments]> {
  let summary = "Call another function of the block for one chunk of rows after another"; 
  let description = [{
    Calls `callee`, `count` times, with a part of each operand: call i gets operand j from element
    `begins[j] + i * steps[j]` on, so one with step 0 is whole in every call. The callee is a function
    of the same module that takes these operands in this order, inputs before outputs, each of the
    type of its part. It writes its parts of the outputs, and may read them.

    - (C1) `begins` and `steps` have an entry for each operand, none negative, and no call
      goes past the end of one
    - (C2) all operands are tensors, or all are memrefs

    Example:
    ```mlir
    %y, %s = routine.chunks @block.chunk(%x, %w) into(%e, %s0) {count = 4 : i64, begins = array<i64: 0, 0, 0, 0>, steps = array<i64: 1024, 0, 3072, 0>} : (tensor<2x16x128xf32>, tensor<384x128xf32>, tensor<2x16x384xf32>, tensor<384x128xf32>) -> (tensor<2x16x384xf32>, tensor<384x128xf32>)
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$callee, Variadic<AnyShaped>:$inputs,
                       Variadic<AnyShaped>:$outputs, Routine_Size:$count,
                       DenseI64ArrayAttr:$begins, DenseI64ArrayAttr:$steps);
  let results = (outs Variadic<AnyRankedTensor>:$results);
  let assemblyFormat = [{
    $callee `(` $inputs `)` `into` `(` $outputs `)` attr-dict `:` functional-type(operands, results)
  }];
  let extraClassDeclaration = [{
    ::mlir::MutableOperandRange getDpsInitsMutable() { return getOutputsMutable(); }
    bool readsOutput(::mlir::OpOperand &) { return true; }
  }];
}

#endif // LLAMAC_ROUTINE_ROUTINEOPS_TD
