//===- Reserves.h - What libraries take of a device -------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Beside the arenas of a program a device has to have room for the libraries that its target
// uses, and multiprocessors for communication that waits. llama-plan-reserves plans both, the
// check (R5, R6) finds whether the plan is that of the program, the runtime keeps to it.
//
//   dist.communicator @tp axes ["tp"] {llama.share = {bytes = N, multiprocessors = 16}}
//   module attributes {llama.reserves = [{communicators = N, product_bytes = N, product_streams = [0]}]}
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LOWER_RESERVES_H
#define LLAMAC_LOWER_RESERVES_H

#include "llamac/Lower/Target.h"

#include "dialects/Dist/IR/Dist.h"

#include "llvm/ADT/MapVector.h"

namespace mlir::llamac {

/// Attribute of a dist.communicator: its CommunicatorShare; absent: it takes nothing.
inline constexpr llvm::StringLiteral kShareAttr = "llama.share";
/// Module attribute: the StageReserves of each stage; absent: the target has none.
inline constexpr llvm::StringLiteral kReservesAttr = "llama.reserves";

/// What the libraries take of the device of a rank of a stage.
struct StageReserves {
  SmallVector<int64_t> productStreams; ///< streams on which blocks have products, rising
  int64_t productBytes = 0;            ///< for all of them
  int64_t communicatorBytes = 0;       ///< for all communicators of the rank, from above
  bool operator==(const StageReserves &) const = default;
};

struct Reserves {
  llvm::MapVector<StringRef, CommunicatorShare> shares; ///< by communicator
  std::vector<StageReserves> stages;
};

/// What `target` takes for a module whose memory is planned and whose blocks have their code.
Reserves computeReserves(ModuleOp module, const Target &target);

/// What is noted of a communicator, and of the stages (empty: nothing).
CommunicatorShare shareOf(dist::CommunicatorOp communicator);
std::vector<StageReserves> reservesOf(ModuleOp module);

/// What the code of the block `name` asks of the device of `target`; null without code.
std::optional<BlockWork> workOf(SymbolTableCollection &symbols, ModuleOp module, StringRef name,
                                const Target &target);

} // namespace mlir::llamac

#endif // LLAMAC_LOWER_RESERVES_H
