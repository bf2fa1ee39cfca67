//===- MBarrier.cpp - Barriers in shared memory ----------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Machine/Async/MBarrier.h"
#include "Machine/Async/State.h"
#include "Machine/Block.h"

#include <cstring>

namespace sgpu {

namespace {

std::string text(uint64_t n) { return std::to_string(n); }

void fault(Block &block, uint32_t offset, const PlaceOf &place, std::string message) {
  reportAt(block, Check::MBarrier, place(), std::move(message), block, offset);
}

void store(Block &block, uint32_t offset, const MBarrier &barrier) {
  uint64_t bits = barrier.bits();
  std::memcpy(block.shared.bytes.data() + offset, &bits, sizeof bits);
}

/// After every change: completes the phase if nothing is missing.
void settle(Block &block, uint32_t offset, MBarrier &barrier, const PlaceOf &place) {
  if (!barrier.pending && barrier.transactions < 0) {
    fault(block, offset, place,
          "transaction count of the mbarrier cannot come out: all arrivals have come, but " +
              text(uint64_t(-barrier.transactions)) +
              " bytes more were copied than expect_tx announced in phase " + text(barrier.phase));
    barrier.transactions = 0;
  }
  if (!barrier.pending && !barrier.transactions) {
    ++barrier.phase;
    barrier.pending = barrier.expected;
    barrier.completed.join(barrier.arriving);
    barrier.arriving = {};
    countBarrier(block);
  }
  store(block, offset, barrier);
  block.notify();
}

} // namespace

uint64_t MBarrier::bits() const {
  return mix(phase << 40 ^ uint64_t(pending) << 20 ^ expected) ^ uint64_t(transactions);
}

std::string MBarrier::describe() const {
  std::string s = "phase " + text(phase) + " misses " + text(pending) + " of " + text(expected) +
                  " arrivals and " + std::to_string(transactions) + " bytes";
  return s;
}

void initMBarrier(Block &block, uint32_t offset, uint32_t count, Epoch by, const PlaceOf &place) {
  BlockAsync &async = asyncOf(block);
  if (async.mbarriers.count(offset))
    fault(block, offset, place,
          "mbarrier.init of a valid mbarrier, which must be invalidated first");
  if (!count || count > MBarrier::maxCount) {
    fault(block, offset, place,
          "mbarrier.init with count " + text(count) + ", but it must be 1 to " +
              text(MBarrier::maxCount));
    count = 1;
  }
  MBarrier &barrier = async.mbarriers[offset] = {};
  barrier.expected = barrier.pending = count;
  barrier.madeBy = by;
  async.invalidated.erase(offset);
  store(block, offset, barrier);
  block.shared.setState(offset, 8, ByteState::Written);
  store(block, offset, barrier);
  block.shared.races.forget(offset, 8);
}

void invalidateMBarrier(Block &block, uint32_t offset, const PlaceOf &place) {
  if (!findMBarrier(block, offset, place))
    return;
  BlockAsync &async = asyncOf(block);
  async.mbarriers.erase(offset);
  Place p = place();
  async.invalidated[offset] = "PTX line " + std::to_string(p.line);
  block.shared.setState(offset, 8, ByteState::Undefined);
  block.shared.races.forget(offset, 8);
}

MBarrier *findMBarrier(Block &block, uint32_t offset, const PlaceOf &place) {
  BlockAsync &async = asyncOf(block);
  if (offset % 8) {
    reportAt(block, Check::Misaligned, place(), "address of an mbarrier is not a multiple of 8",
             block, offset);
    return nullptr;
  }
  auto found = async.mbarriers.find(offset);
  if (found == async.mbarriers.end()) {
    auto gone = async.invalidated.find(offset);
    fault(block, offset, place,
          gone == async.invalidated.end()
              ? "use of an mbarrier that was never initialised"
              : "use of an mbarrier that was invalidated at " + gone->second);
    return nullptr;
  }
  uint64_t bits;
  std::memcpy(&bits, block.shared.bytes.data() + offset, sizeof bits);
  if (bits != found->second.bits()) {
    fault(block, offset, place, "the bytes of the mbarrier were overwritten by an ordinary store");
    store(block, offset, found->second);
  }
  return &found->second;
}

void expectBytes(Block &block, uint32_t offset, MBarrier &barrier, uint32_t bytes,
                 const PlaceOf &place) {
  barrier.transactions += bytes;
  if (barrier.transactions > int64_t(MBarrier::maxCount)) {
    fault(block, offset, place,
          "expect_tx of " + text(bytes) + " bytes makes the transaction count " +
              text(uint64_t(barrier.transactions)) + ", more than " + text(MBarrier::maxCount));
    barrier.transactions = MBarrier::maxCount;
  }
  store(block, offset, barrier);
}

void arrive(Block &block, uint32_t offset, MBarrier &barrier, uint32_t count,
            const Knowledge &knowledge, bool drop, bool mayComplete, const PlaceOf &place) {
  if (!count || count > MBarrier::maxCount) {
    fault(block, offset, place,
          "arrival with count " + text(count) + ", but it must be 1 to " +
              text(MBarrier::maxCount));
    count = 1;
  }
  if (count > barrier.pending) {
    fault(block, offset, place,
          "arrival of " + text(count) + " at an mbarrier whose phase " + text(barrier.phase) +
              " misses only " + text(barrier.pending) + " of " + text(barrier.expected) +
              " arrivals");
    count = barrier.pending;
  }
  if (!mayComplete && count == barrier.pending) {
    fault(block, offset, place, ".noComplete arrival that completes phase " + text(barrier.phase));
  }
  barrier.arriving.join(knowledge);
  barrier.pending -= count;
  if (drop)
    barrier.expected -= std::min(count, barrier.expected);
  settle(block, offset, barrier, place);
}

void completeBytes(Block &block, uint32_t offset, MBarrier &barrier, uint32_t bytes,
                   const Knowledge &knowledge, const PlaceOf &place) {
  barrier.arriving.join(knowledge);
  barrier.transactions -= bytes;
  if (barrier.transactions < -int64_t(MBarrier::maxCount)) {
    fault(block, offset, place,
          "transaction count of the mbarrier falls below -" + text(MBarrier::maxCount));
    barrier.transactions = 0;
  }
  settle(block, offset, barrier, place);
}

void expectArrival(Block &block, uint32_t offset, MBarrier &barrier, const PlaceOf &place) {
  if (barrier.pending == MBarrier::maxCount)
    fault(block, offset, place, "more pending arrivals than " + text(MBarrier::maxCount));
  else
    ++barrier.pending;
  store(block, offset, barrier);
}

} // namespace sgpu
