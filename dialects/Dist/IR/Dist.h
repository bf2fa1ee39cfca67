//===- Dist.h - The dist dialect -------------------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_DIST_DIST_H
#define LLAMAC_DIST_DIST_H

#include "dialects/Interfaces/OpInterfaces.h"
#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/IR/TensorEncoding.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "dialects/Dist/IR/DistCollective.h"
#include "dialects/Dist/IR/DistDialect.h.inc"
#define GET_ATTRDEF_CLASSES
#include "dialects/Dist/IR/DistAttributes.h.inc"
#define GET_TYPEDEF_CLASSES
#include "dialects/Dist/IR/DistTypes.h.inc"

namespace mlir::dist {

/// Memory that an entry uses: `bytes` from `address` on, or, before frames are placed, of
/// `instance`.
struct EntryUse {
  InstanceAttr instance; ///< null: it is of no frame
  AddressAttr address;   ///< null: not planned
  int64_t bytes;         ///< 0 of a frame of a run: its graph says
  Type type;             ///< of the elements; null: any
  bool reads, writes;
};

} // namespace mlir::dist

#include "dialects/Dist/IR/DistInterfaces.h.inc"
#define GET_OP_CLASSES
#include "dialects/Dist/IR/DistOps.h.inc"

namespace mlir::dist {

/// Attribute of a graph's arguments: `[group, axes...]` as in dist.input.
inline constexpr llvm::StringLiteral kImagesAttr = "dist.images";

/// Attribute of a graph of the image encoder: the axes that split the images, if any.
inline constexpr llvm::StringLiteral kImageAxesAttr = "dist.image_axes";

/// Attributes of a graph function: the units whose gathered weights it reads, and to whose
/// gradients it adds. They lie in frames of their own (weightsFrame, gradientFrame).
inline constexpr llvm::StringLiteral kWeightsAttr = "dist.weights";
inline constexpr llvm::StringLiteral kGradientsAttr = "dist.gradients";

/// The frame of a unit's whole weights.
inline std::string weightsFrame(llvm::StringRef unit) { return (unit + " weights").str(); }
/// The frame of a unit's whole gradient of one run.
inline std::string gradientFrame(llvm::StringRef unit) { return (unit + " gradient").str(); }

/// Attribute of a graph's arguments and results: `[frame, N]`, the value is number N of
/// the frame. Every graph that has the frame has all its values.
inline constexpr llvm::StringLiteral kFrameAttr = "dist.frame";

/// Attribute of results of graph functions: the address where the value lies, for entries.
inline constexpr llvm::StringLiteral kAddressAttr = "dist.at";

/// Attribute of calls, collectives and outputs of a planned graph: an OperandAttr for each of
/// their addresses, what has to be there. Two values may share an address one after the
/// other; the check of a program tells them apart.
inline constexpr llvm::StringLiteral kOperandsAttr = "dist.operands";

/// Attribute of arguments and results of graphs that lie in frames, of transfers, and of what
/// a program does with such values between graphs: their name, the same in all graphs.
inline constexpr llvm::StringLiteral kCrossingAttr = "dist.crossing";
/// The names of the image states and of their gradient, whose instances are groups.
inline constexpr llvm::StringLiteral kStatesCrossing = "image states";
inline constexpr llvm::StringLiteral kStatesGradientCrossing = "gradient of image states";

/// Attribute of arguments and results of blocks that are not whole on every axis: their
/// PlacementAttr.
inline constexpr llvm::StringLiteral kPlacementAttr = "dist.placement";

/// Attribute of collectives of graph functions: their StagingAttr, before memory is planned.
inline constexpr llvm::StringLiteral kStagingAttr = "dist.staging";

/// Attribute of collectives that move a value from one placement to another: the types of the
/// whole value, before and after, with their placements. Kind, group and sizes follow.
inline constexpr llvm::StringLiteral kPlacedAttr = "dist.placed";

} // namespace mlir::dist

#endif // LLAMAC_DIST_DIST_H
