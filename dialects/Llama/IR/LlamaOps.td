//===- LlamaOps.td - Ops of the llama dialect --------------*- tablegen -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LLAMA_LLAMAOPS_TD
#define LLAMAC_LLAMA_LLAMAOPS_TD

include "dialects/Llama/IR/LlamaBase.td"

//===----------------------------------------------------------------------===//
// Parameters and blocks
//===----------------------------------------------------------------------===//

def ParameterOp : Llama_Op<"parameter", [Symbol, ParameterOpInterface]> {
  let summary = "Declare a parameter of the model";
  let description = [{
    The symbol is the HuggingFace checkpoint key. `checkpoint_shape` is the shape
    in the checkpoint where it differs from the type (same elements, row-major).
    `rows = [begin, end)` of the checkpoint tensor `key` are meant where a
    parameter is a part of one; `key` is given only then. `frozen` parameters have
    no gradient, master or moments.

    Where ranks hold a part of a parameter, the type is that of the part and
    `global_shape` that of all; `split` names, for each dimension, the axes of the grid
    that split it, outermost first. `partial` names the axes over which the gradient
    is a partial sum.

    - (C1) the type is a ranked tensor of static shape with element type f32, bf16 or f64
    - (C2) `checkpoint_shape` has as many elements as `global_shape`, or as the type without one; or it is nowhere larger: what is behind it is padding, zero and in no file
    - (C3) `row_begin` comes with `key`
    - (C4) `split` comes with `global_shape`, and both with one entry for each dimension of the type

    Example:
    ```mlir
    llama.parameter @"model.norm.weight" : tensor<128xf32> {initializer = #llama.initializer<ones>}
    ```
    Source: llama3-vision specification E1.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypeAttrOf<AnyRankedTensor>:$type,
                       Llama_InitializerAttr:$initializer,
                       OptionalAttr<DenseI64ArrayAttr>:$checkpoint_shape,
                       OptionalAttr<StrAttr>:$key, OptionalAttr<I64Attr>:$row_begin,
                       UnitAttr:$frozen, OptionalAttr<DenseI64ArrayAttr>:$global_shape,
                       OptionalAttr<ArrayAttr>:$split, OptionalAttr<StrArrayAttr>:$partial);
  let assemblyFormat = "$sym_name `:` $type attr-dict";
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    ::mlir::RankedTensorType getTensorType() {
      return ::llvm::cast<::mlir::RankedTensorType>(getType());
    }
    /// The key in checkpoint files.
    ::llvm::StringRef getCheckpointKey() { return getKey() ? *getKey() : getSymName(); }
    // Parameters live outside the IR's control flow: an unused one stays.
    static bool canDiscardOnUseEmpty() { return false; }
  }];
}

def ApplyOp : Llama_Op<"apply", [DeclareOpInterfaceMethods<SymbolUserOpInterface>,
                                 DeclareOpInterfaceMethods<MemoryEffectsOpInterface>]> {
  let summary = "Apply a block to activations and parameters";
  let description = [{
    Calls the block with `inputs`, then the values of `parameters`, then, for each
    of `gradients`, the gradient of that parameter so far. The block returns the
    results, then the new gradients in the same order, which take the place of the
    old ones. Pure if it has no `gradients`.

    - (C1) `block` names a function with the attribute `llama.block`
    - (C2) its arguments have the types of inputs, parameters and gradients
    - (C3) its results have the types of the results and of the gradients
    - (C4) each of `parameters` and `gradients` names a `llama.parameter`; those of `gradients` are not frozen

    Example:
    ```mlir
    %y = llama.apply @layer(%x) parameters [@"model.layers.0.mlp.up_proj.weight"] : (tensor<2x16xf32>) -> tensor<2x8xf32>
    llama.apply @layer.backward_weight(%dy, %x) gradients [@"model.layers.0.mlp.up_proj.weight"] : (tensor<2x8xf32>, tensor<2x16xf32>) -> ()
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$block, Variadic<AnyRankedTensor>:$inputs,
                       DefaultValuedAttr<Llama_SymbolArray, "{}">:$parameters,
                       DefaultValuedAttr<Llama_SymbolArray, "{}">:$gradients);
  let results = (outs Variadic<AnyRankedTensor>:$results);
  let assemblyFormat = [{
    $block `(` $inputs `)` (`parameters` $parameters^)? (`gradients` $gradients^)? attr-dict
    `:` functional-type($inputs, $results)
  }];
}

//===----------------------------------------------------------------------===//
// What is computed, a file for each family
//===----------------------------------------------------------------------===//

include "dialects/Llama/IR/LlamaTextOps.td"
include "dialects/Llama/IR/LlamaAttentionOps.td"
include "dialects/Llama/IR/LlamaVisionOps.td"
include "dialects/Llama/IR/LlamaLossOps.td"
include "dialects/Llama/IR/LlamaOptimizerOps.td"

#endif // LLAMAC_LLAMA_LLAMAOPS_TD
