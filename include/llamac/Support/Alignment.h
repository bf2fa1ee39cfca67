//===- Alignment.h - Where values may begin --------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Memory is laid out by passes that know no target. What a target asks for
// (llamac/Lower/Target.h), the driver tells the first of them, dist-build-program, which notes it
// at the module for those behind it.
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_SUPPORT_ALIGNMENT_H
#define LLAMAC_SUPPORT_ALIGNMENT_H

#include "mlir/IR/BuiltinOps.h"

namespace mlir::llamac {

/// What a target asks for, in bytes: powers of two, of 2048 at most.
struct Alignment {
  int64_t values;     ///< of arenas, and of values in them
  int64_t parameters; ///< of parameters and their state, many of which lie one behind the other
};

/// Attribute of a module, i64: every value in an arena or a frame begins at a multiple of so many
/// bytes. Without it 64: a cache line, and the widest vector register.
inline constexpr llvm::StringLiteral kAlignmentAttr = "dist.alignment";

inline int64_t alignmentOf(ModuleOp module) {
  auto bytes = module->getAttrOfType<IntegerAttr>(kAlignmentAttr);
  return bytes ? bytes.getInt() : 64;
}

} // namespace mlir::llamac

#endif // LLAMAC_SUPPORT_ALIGNMENT_H
