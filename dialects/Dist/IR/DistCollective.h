//===- DistCollective.h - What a collective does ----------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A collective of dist.collective may have several rows, sum in another type than it gets or
// gives, and add to what is there. Its *plain* form has none of these. What lies between the
// two is work of one rank, for blocks:
//
//   [outer][members][n] x bf16 --pack--> [members][outer][n] x f32    operand
//                                              | reduce_scatter, plain
//   [outer][n] x f32        <--unpack--  [outer][n] x f32             result
//        + what is there
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_DIST_DISTCOLLECTIVE_H
#define LLAMAC_DIST_DISTCOLLECTIVE_H

#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"

#include "dialects/Dist/IR/DistEnums.h.inc"

namespace mlir::dist {

/// A collective between [outer][elements] of each member and [outer][members][elements], as
/// dist.collective has it.
struct Collective {
  CollectiveKind kind;
  int64_t members, outer, elements;
  Type type, toType; ///< of operand and result
  bool maximum = false, accumulate = false;

  /// Whether it makes one value of those of all members.
  bool reduces() const {
    return kind == CollectiveKind::AllReduce || kind == CollectiveKind::ReduceScatter;
  }

  /// The same with one row, one type and a result that takes the place of what was there. Its
  /// type is that in which sums are formed: f64 if operand or result has it, else f32.
  Collective plain() const;

  /// The types of the blocks between it and its plain form, null where there is nothing to do:
  /// (operand) -> plain operand; (plain result) -> result, which gets what is there as a second
  /// argument, whose place it takes, if it accumulates.
  FunctionType packType() const;
  FunctionType unpackType() const;

  /// Bytes of the plain operand, and of the plain result, that a block has made or is to take:
  /// 0 where there is none. An all_reduce whose operand was made is done in its place.
  int64_t packedBytes() const;
  int64_t receivedBytes() const;

  /// Bytes that these blocks read and write.
  int64_t stagedBytes(bool pack, bool unpack) const;
};

} // namespace mlir::dist

#endif // LLAMAC_DIST_DISTCOLLECTIVE_H
