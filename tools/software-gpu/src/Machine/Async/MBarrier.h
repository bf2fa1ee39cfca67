//===- MBarrier.h - Barriers in shared memory ----------------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// An mbarrier counts arrivals and bytes of bulk copies. A phase is complete when no arrival and no
// byte is missing; then the next begins. Source: PTX ISA 9.0, 9.7.13.15.
//===----------------------------------------------------------------------===//
#ifndef SGPU_MACHINE_ASYNC_MBARRIER_H
#define SGPU_MACHINE_ASYNC_MBARRIER_H

#include "Memory/Clocks.h"
#include "Support/Report.h"

#include <functional>
#include <string>

namespace sgpu {

class Block;

struct MBarrier {
  static constexpr uint32_t maxCount = (1u << 20) - 1; ///< of arrivals, and of bytes

  uint32_t expected = 0;    ///< arrivals of the phases to come
  uint32_t pending = 0;     ///< arrivals that this phase misses
  int64_t transactions = 0; ///< bytes that this phase misses; below 0: they came before expect_tx
  uint64_t phase = 0;       ///< phases completed
  Knowledge arriving;       ///< of those that arrived in this phase
  Knowledge completed;      ///< of all that arrived in completed phases
  Epoch madeBy;             ///< mbarrier.init

  /// The 64 bits in memory. A store to them is noticed by the next operation.
  uint64_t bits() const;
  /// What mbarrier.arrive returns: phase and pending count before it.
  uint64_t state() const { return phase << 20 | pending; }
  std::string describe() const; ///< "phase 2 misses 1 of 4 arrivals and 2048 bytes"
};

using PlaceOf = std::function<Place()>;

/// mbarrier.init at an offset of the block's shared memory. Faults go to `place`.
void initMBarrier(Block &block, uint32_t offset, uint32_t count, Epoch by, const PlaceOf &place);
void invalidateMBarrier(Block &block, uint32_t offset, const PlaceOf &place);
/// The mbarrier at an offset; null, reported, if there is none or it was overwritten.
MBarrier *findMBarrier(Block &block, uint32_t offset, const PlaceOf &place);
/// Raises the bytes that the phase misses.
void expectBytes(Block &block, uint32_t offset, MBarrier &barrier, uint32_t bytes,
                 const PlaceOf &place);
/// `count` arrivals, which know `knowledge`. `drop`: also of the phases to come. `mayComplete`:
/// false for .noComplete.
void arrive(Block &block, uint32_t offset, MBarrier &barrier, uint32_t count,
            const Knowledge &knowledge, bool drop, bool mayComplete, const PlaceOf &place);
/// Bytes of a bulk copy have come.
void completeBytes(Block &block, uint32_t offset, MBarrier &barrier, uint32_t bytes,
                   const Knowledge &knowledge, const PlaceOf &place);
/// cp.async.mbarrier.arrive without .noinc: one more arrival is expected in this phase.
void expectArrival(Block &block, uint32_t offset, MBarrier &barrier, const PlaceOf &place);

} // namespace sgpu

#endif
