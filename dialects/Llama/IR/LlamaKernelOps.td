//===- LlamaKernelOps.td - Calls of runtime routines -------*- tablegen -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LLAMA_LLAMAKERNELOPS_TD
#define LLAMAC_LLAMA_LLAMAKERNELOPS_TD

include "dialects/Llama/IR/LlamaBase.td"
include "mlir/Interfaces/DestinationStyleOpInterface.td"

def Llama_Kernel : I32EnumAttr<"Kernel", "a routine of the runtime library", [
  I32EnumAttrCase<"Gemm", 0, "gemm">,
  I32EnumAttrCase<"AttentionForward", 1, "attention_forward">,
  I32EnumAttrCase<"AttentionBackward", 2, "attention_backward">]> {
  let cppNamespace = "::mlir::llama";
  let genSpecializedAttr = 0;
}
def Llama_KernelAttr : EnumAttr<Llama_Dialect, Llama_Kernel, "kernel">;

def KernelOp : Llama_Op<"kernel", [DestinationStyleOpInterface, AttrSizedOperandSegments,
                                   DeclareOpInterfaceMethods<MemoryEffectsOpInterface>]> {
  let summary = "Call a routine of the runtime library";
  let description = [{
    Reads `inputs`, writes `outputs`. On tensors each result is the new value of
    its output; on memrefs there are no results. Operands are dense and row-major;
    only their element types and numbers of elements matter, what they mean is in
    `sizes` (so that a view may be replaced by what it views).

    | kernel | inputs | outputs | sizes |
    |---|---|---|---|
    | gemm | a, b, bias (may be absent) | c | m, n, k |
    | attention_forward | q, k, v, masks | out, lse | batch, queries, keys, heads, kv_heads, head_size, images |
    | attention_backward | d_out, q, k, v, out, lse, masks | d_q, d_k, d_v | the same |

    `gemm`: `c[m, n] = op(a)[m, k] * op(b)[k, n] (+ bias[n])`, plus the old `c` with
    `accumulate`; `transpose_a`: a is stored [k, m]; `transpose_b`: b is stored [n, k].
    Attention: as llama.attention and llama.attention_grad.

    - (C1) the numbers of inputs, outputs and sizes are those of the table
    - (C2) operands have as many elements as `sizes` says
    - (C3) element types are those the runtime has: gemm f32, f64, bf16 or bf16 with an f32
      output; attention f32 or bf16, with f32 `lse`
    - (C4) `mask` and `scale` come with attention only; `transpose_a`, `transpose_b` and
      `accumulate` with gemm only
    - (C5) all operands are tensors, or all are memrefs

    Example:
    ```mlir
    %y = llama.kernel gemm ins(%x, %w : tensor<2x16x128xf32>, tensor<384x128xf32>) outs(%e : tensor<2x16x384xf32>) {sizes = array<i64: 32, 384, 128>, transpose_b} -> tensor<2x16x384xf32>
    ```
    Source: runtime/include/llrt/Kernels.h.
  }];
  let arguments = (ins Llama_KernelAttr:$kernel, Variadic<AnyShaped>:$inputs,
                       Variadic<AnyShaped>:$outputs, DenseI64ArrayAttr:$sizes,
                       UnitAttr:$transpose_a, UnitAttr:$transpose_b, UnitAttr:$accumulate,
                       OptionalAttr<Llama_MaskAttr>:$mask, OptionalAttr<F64Attr>:$scale,
                       OptionalAttr<I64Attr>:$tile_count, OptionalAttr<I64Attr>:$tile_stride,
                       OptionalAttr<I64Attr>:$tile_tokens);
  let results = (outs Variadic<AnyRankedTensor>:$results);
  let assemblyFormat = [{
    $kernel `ins` `(` $inputs `:` type($inputs) `)` `outs` `(` $outputs `:` type($outputs) `)`
    attr-dict (`->` type($results)^)?
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    ::mlir::MutableOperandRange getDpsInitsMutable() { return getOutputsMutable(); }
  }];
}

#endif // LLAMAC_LLAMA_LLAMAKERNELOPS_TD
