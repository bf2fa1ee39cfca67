//===- DistPlacement.td - How values lie on the grid -------*- tablegen -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_DIST_DISTPLACEMENT_TD
#define LLAMAC_DIST_DISTPLACEMENT_TD

include "dialects/Interfaces/OpInterfaces.td"
include "mlir/IR/TensorEncoding.td"

def Dist_PlacementAttr
    : AttrDef<Dist_Dialect, "Placement", [DeclareAttrInterfaceMethods<VerifiableTensorEncoding>,
                                          DeclareAttrInterfaceMethods<PlacementAttrInterface>]> {
  let mnemonic = "placement";
  let summary = "How a tensor lies on the axes of the grid";
  let description = [{
    An encoding of tensor types; the shape stays that of the whole tensor. `split` names
    for each dimension the axes that split it into equal parts, outermost first. Over
    the axes `partial` the true value is the sum of what the ranks hold, or, with
    `reduction = max`, the maximum. On an axis that it does not name the tensor is whole.

    - (C1) `split` has one array of names per dimension
    - (C2) an axis is named once

    Example: `tensor<2x64x512xf32, #dist.placement<[[], ["cp"], []], partial = ["tp"]>>`
  }];
  let parameters = (ins "::mlir::ArrayAttr":$split, "::mlir::ArrayAttr":$partial,
                        "bool":$isMaximum);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
}

def ConvertOp : Dist_Op<"convert", [Pure]> {
  let summary = "Change how a tensor lies on the grid";
  let description = [{
    The same value with another placement: parts are gathered, sums formed, parts taken.
    It becomes collectives once shapes are local.

    - (C1) input and result differ in their placements only
    - (C2) a result is partial over an axis only if the input is, with the same reduction
    - (C3) no axis moves from one dimension to another

    Example:
    ```mlir
    %y = dist.convert %x : tensor<2x64x512xf32, #dist.placement<[[], [], []], partial = ["tp"]>> -> tensor<2x64x512xf32, #dist.placement<[[], ["tp"], []]>>
    ```
  }];
  let arguments = (ins AnyRankedTensor:$input);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
}

#endif // LLAMAC_DIST_DISTPLACEMENT_TD
