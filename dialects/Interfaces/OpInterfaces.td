//===- OpInterfaces.td - Questions every op can answer -----*- tablegen -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_INTERFACES_OPINTERFACES_TD
#define LLAMAC_INTERFACES_OPINTERFACES_TD

include "mlir/IR/OpBase.td"

def DecompositionOpInterface : OpInterface<"DecompositionOpInterface"> {
  let cppNamespace = "::mlir::llama";
  let description = [{
    The meaning of an op in upstream dialects: `linalg`, `tensor`, `arith`,
    `math`, `scf` on tensors of static shape. One decomposition per op, written
    for clarity and executable in every float type; it is the reference that
    faster kernels are checked against.
  }];
  let methods = [InterfaceMethod<
    [{Builds the decomposition at the insertion point of `builder` and returns
      one value for each result, of the result's type.}],
    "::llvm::SmallVector<::mlir::Value>", "decompose",
    (ins "::mlir::OpBuilder &":$builder)>];
}

def DifferentiableOpInterface : OpInterface<"DifferentiableOpInterface"> {
  let cppNamespace = "::mlir::llama";
  let description = [{
    The vector-Jacobian product of an op: from the cotangents of its results to
    those of its operands, built from ordinary ops of the dialect.
  }];
  let methods = [InterfaceMethod<
    [{Builds backward ops at the insertion point of `builder`. `cotangents` has a
      value, or null for zero, per result; the type of a cotangent is that of its
      primal, with the element type of `cotangentType` for block arguments.
      `wanted` says per operand whether a gradient is needed. Returns one value
      per operand, null where it is not wanted or the operand has no gradient.}],
    "::llvm::SmallVector<::mlir::Value>", "buildVjp",
    (ins "::mlir::OpBuilder &":$builder, "::mlir::ValueRange":$cotangents,
         "::llvm::ArrayRef<bool>":$wanted)>];
}

def CostOpInterface : OpInterface<"CostOpInterface"> {
  let cppNamespace = "::mlir::llama";
  let description = [{
    What an op costs on static shapes, by the counting rule of the published
    figures: a product of matrices [m, k] and [k, n] is `2 m k n` operations,
    attention counts every key of every query, all else counts nothing.
    Bytes are those of the operands and results, each once.
  }];
  let methods = [
    InterfaceMethod<"Floating-point operations.", "int64_t", "countOperations", (ins),
                    "", "return 0;">,
    InterfaceMethod<"Bytes read and written at least.", "int64_t", "countBytes", (ins),
                    "", "return ::mlir::llama::detail::bytesOfOperandsAndResults($_op);">];
}

def PlacementOpInterface : OpInterface<"PlacementOpInterface"> {
  let cppNamespace = "::mlir::llama";
  let description = [{
    How an op behaves where ranks hold parts of its operands. Every axis of the grid
    is answered for by itself. On an axis an op may split one index: operands and
    results that have it are split there, other operands whole, other results partial
    sums. Or sums pass through operands in which the op is linear. Or all is whole.
    The verifier makes sure that placements are one of these on every axis.
  }];
  let methods = [InterfaceMethod<"The indices of operands and results.",
                                 "::mlir::llama::PlacementRule", "getPlacementRule", (ins)>];
  let verify = [{ return ::mlir::llama::detail::verifyPlacement($_op); }];
}

def PlacementAttrInterface : AttrInterface<"PlacementAttrInterface"> {
  let cppNamespace = "::mlir::llama";
  let description = [{
    An encoding of tensor types that says how a tensor lies on the grid. It checks the ops
    that have a placement rule, so that they need not know it.
  }];
  let methods = [InterfaceMethod<
    [{Checks the placements of all operands and results of `op`, which implements
      PlacementOpInterface, against its rule. Emits an error if one does not fit.}],
    "::llvm::LogicalResult", "verifyPlacements", (ins "::mlir::Operation *":$op)>];
}

def ReductionOpInterface : OpInterface<"ReductionOpInterface"> {
  let cppNamespace = "::mlir::llama";
  let description = [{
    The sums and maxima that an op forms, on static shapes: what the precision report
    (`llamac check`) lists. Every compute op has to answer, with none if it forms none.
  }];
  let methods = [InterfaceMethod<"The reductions of the op, in the order of its description.",
                                 "::llvm::SmallVector<::mlir::llama::Reduction>",
                                 "getReductions", (ins)>];
}

def ParameterOpInterface : OpInterface<"ParameterOpInterface"> {
  let cppNamespace = "::mlir::llama";
  let description = [{
    A symbol that declares a parameter: what its place in memory has to know of it.
  }];
  let methods = [
    InterfaceMethod<"The tensor, of static shape.", "::mlir::RankedTensorType", "getTensorType",
                    (ins)>,
    InterfaceMethod<"Whether it has no gradient, master or moments.", "bool", "getFrozen", (ins)>];
}

#endif // LLAMAC_INTERFACES_OPINTERFACES_TD
