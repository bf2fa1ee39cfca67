//===- LlamaBase.td - The llama dialect --------------------*- tablegen -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LLAMA_LLAMABASE_TD
#define LLAMAC_LLAMA_LLAMABASE_TD

include "dialects/Interfaces/OpInterfaces.td"
include "mlir/IR/EnumAttr.td"
include "mlir/IR/OpBase.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def Llama_Dialect : Dialect {
  let name = "llama";
  let cppNamespace = "::mlir::llama";
  let summary = "What is computed: the Llama 3 vision model, its loss and gradients";
  let description = [{
    Ops on tensors, in the field's terms. A layer of the model is a *block*: a
    private `func.func` with the unit attribute `llama.block`. The model is a
    function that applies blocks (`llama.apply`) to activations and parameters
    (`llama.parameter`). Nothing here knows a device, an address or a rank.

    Shapes in the descriptions: B samples, S text tokens, T keys, M images per
    sample, A = B * M images, H query heads, K key and value heads, D head size,
    C channels, V vocabulary. A leading `..` is any number of dimensions.

    `statistics` is the type in which a row statistic (mean square, softmax, a
    sum) is formed, `accumulation` the type in which a product or a parameter
    gradient is summed. `element_type` is the result's element type where it is
    not that of the first operand.
  }];
  let dependentDialects = ["::mlir::func::FuncDialect"];
  let useDefaultAttributePrinterParser = 1;
}

class Llama_Op<string mnemonic, list<Trait> traits = []>
    : Op<Llama_Dialect, mnemonic, traits>;

// An op that computes: pure, with an inferred result type, a decomposition, a placement
// rule, the reductions that it forms and a cost. Its verifier checks the numbered constraints of its description.
class Llama_ComputeOp<string mnemonic, list<Trait> traits = []>
    : Llama_Op<mnemonic, !listconcat([Pure, InferTypeOpAdaptor,
        DeclareOpInterfaceMethods<DecompositionOpInterface>,
        DeclareOpInterfaceMethods<PlacementOpInterface>,
        DeclareOpInterfaceMethods<ReductionOpInterface>], traits)> {
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
  // Types follow from the operands but for the placement.
  code extraTypes = [{
    static bool isCompatibleReturnTypes(::mlir::TypeRange inferred, ::mlir::TypeRange actual) {
      return ::mlir::llama::equalButForEncodings(inferred, actual);
    }
  }];
  let extraClassDeclaration = extraTypes;
}

// Traits of ops that count no operations, of those that also do not move all of
// their operands (views, rows of a table), of ops that do matrix work, of those that
// also move more than their operands, and of forward ops.
def Llama_NoCost : DeclareOpInterfaceMethods<CostOpInterface>;
def Llama_OwnBytes : DeclareOpInterfaceMethods<CostOpInterface, ["countBytes"]>;
def Llama_Cost : DeclareOpInterfaceMethods<CostOpInterface, ["countOperations"]>;
def Llama_OwnCost
    : DeclareOpInterfaceMethods<CostOpInterface, ["countOperations", "countBytes"]>;
def Llama_Vjp : DeclareOpInterfaceMethods<DifferentiableOpInterface>;

// What recomputation asks. A view costs nothing to form again, and keeping it keeps its base.
// The result of a cheap op costs one pass over memory, small beside the products.
def Llama_View : NativeOpTrait<"IsView"> { let cppNamespace = "::mlir::llama"; }
def Llama_Cheap : NativeOpTrait<"IsCheap"> { let cppNamespace = "::mlir::llama"; }

def Llama_Tensor : RankedTensorOf<[F32, BF16, F64]>;
def Llama_Scalar : 1DTensorOf<[F32, BF16, F64]>; // one element, shape [1]
def Llama_IndexTensor : RankedTensorOf<[I64]>;
def Llama_SymbolArray : TypedArrayAttrBase<FlatSymbolRefAttr, "array of symbols"> {
  let constBuilderCall = "$_builder.getArrayAttr($0)";
}
def Llama_PositiveInt : ConfinedAttr<I64Attr, [IntPositive]>;

//===----------------------------------------------------------------------===//
// Attributes
//===----------------------------------------------------------------------===//

class Llama_Enum<string name, string summary, list<I32EnumAttrCase> cases>
    : I32EnumAttr<name, summary, cases> {
  let cppNamespace = "::mlir::llama";
  let genSpecializedAttr = 0;
}

class Llama_EnumAttr<EnumInfo info, string mnemonic>
    : EnumAttr<Llama_Dialect, info, mnemonic> {
  let assemblyFormat = "`<` $value `>`";
}

def Llama_Mask : Llama_Enum<"Mask", "which keys a query sees", [
  I32EnumAttrCase<"Causal", 0, "causal">, I32EnumAttrCase<"Encoder", 1, "encoder">,
  I32EnumAttrCase<"Images", 2, "images">]>;
def Llama_MaskAttr : Llama_EnumAttr<Llama_Mask, "mask">;

def Llama_RowMask : Llama_Enum<"RowMask", "which rows a gated branch reaches", [
  I32EnumAttrCase<"None", 0, "none">, I32EnumAttrCase<"Present", 1, "present">,
  I32EnumAttrCase<"Image", 2, "image">]>;
def Llama_RowMaskAttr : Llama_EnumAttr<Llama_RowMask, "rows">;

def Llama_Initializer : Llama_Enum<"Initializer", "how training from scratch fills a parameter", [
  I32EnumAttrCase<"Normal", 0, "normal">, I32EnumAttrCase<"Ones", 1, "ones">,
  I32EnumAttrCase<"Zeros", 2, "zeros">, I32EnumAttrCase<"Gate", 3, "gate">]>;
def Llama_InitializerAttr : Llama_EnumAttr<Llama_Initializer, "initializer">;

#endif // LLAMAC_LLAMA_LLAMABASE_TD
