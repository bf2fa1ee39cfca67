//===- Warp.h - 32 threads that run together or apart --------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_MACHINE_WARP_H
#define SGPU_MACHINE_WARP_H

#include "Machine/Block.h"
#include "Machine/Counters.h"
#include "Machine/Instruction.h"

#include <bit>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace sgpu {

struct Function; // Module.h: decoded code of an entry or a device function

/// One activation of a function, shared by the lanes that run it together or apart.
struct Frame {
  const Function *function = nullptr;
  std::shared_ptr<Frame> caller;
  uint32_t returnTo = 0;             ///< index in the caller's code
  const Instruction *call = nullptr; ///< that made it; null in the entry
  std::vector<uint32_t> rows;        ///< 32 words for each row
  std::vector<uint32_t> predicates;
  std::vector<uint32_t> defined;            ///< lanes, by Function::definedIndex
  std::vector<uint32_t> held, heldForWrite; ///< lanes that asynchronous operations own; empty: none
  std::vector<std::shared_ptr<const Place>>
      holders;                 ///< of held registers, by Function::definedIndex; empty: none
  std::vector<uint8_t> params; ///< .param variables of the function: lane-major
  uint32_t localBase = 0;      ///< of its .local variables, in every lane's local memory
  uint32_t localTop = 0;
};

/// A branch at which lanes of a group went different ways, until they meet again. Lanes that come
/// there park; when all are there they go on together. A split ends early when its lanes cannot
/// wait for each other (some spin on what a parked one would do).
struct Split {
  uint32_t pc = 0; ///< where they meet
  std::shared_ptr<Frame> frame;
  uint32_t members = 0; ///< lanes that are still expected to come, parked ones included
};

/// Lanes of a warp that are at the same place.
struct Group {
  uint32_t lanes = 0;
  uint32_t pc = 0;
  std::shared_ptr<Frame> frame;
  enum State : uint8_t {
    Runnable,
    Waiting,   ///< a handler returned Step::Wait; runs again when Cluster::happenings has changed
    AtBarrier, ///< in a barrier of the block or the cluster; woken by it (Block::wake)
    Parked,    ///< at the place where its inner split meets
  } state = Runnable;
  uint64_t since = 0;   ///< Waiting: value of happenings
  uint64_t token = 0;   ///< barriers: phase that it waits for, plus 1; 0: has not arrived
  unsigned barrier = 0; ///< AtBarrier: 0 to 15; 16: that of the cluster
  std::vector<std::shared_ptr<Split>> splits; ///< that it is in, inner last
};

class Warp {
public:
  Warp(Block &block, unsigned index);

  Block &block;
  const unsigned index; ///< in the block
  const uint64_t id;    ///< in the launch, for AgentId
  uint32_t exists = 0;  ///< lanes that were started
  uint32_t exited = 0;

  std::vector<std::unique_ptr<Group>> groups; ///< of lanes that have not exited
  std::vector<uint32_t> specials;             ///< rows of special registers
  std::vector<uint8_t> local, localState;     ///< local memory, lane-major
  uint32_t localStride = 0;                   ///< bytes of one lane there
  std::vector<uint64_t>
      clusterPhase; ///< by lane: phase of the cluster's barrier it arrived for, plus 1
  std::vector<uint32_t> exitedAt;        ///< by lane: index of the instruction in the entry
  std::vector<Counts> *counts = nullptr; ///< of the running function
  uint64_t quiet = 0; ///< instructions since a group parked: parked ones are freed after a while

  // Of the group that runs now:
  Group *group = nullptr;
  Frame *frame = nullptr;
  uint32_t active = 0;           ///< lanes that run the instruction: in the group, guard true
  const uint32_t *bases[3] = {}; ///< rows of registers, constants, special registers

  std::vector<AgentClock> clocks; ///< of the 32 threads
  std::string
      reason; ///< what a waiting group waits for, for the message of a deadlock; may be empty
  /// State of src/Machine/Async of this warp (groups of cp.async, of wgmma), made when needed.
  std::shared_ptr<void> async;
  Random random;

  const uint32_t *u32(Operand op) const { return bases[op.base] + op.row * 32; }
  uint32_t *u32(Operand op) { return const_cast<uint32_t *>(bases[op.base]) + op.row * 32; }
  const uint64_t *u64(Operand op) const { return reinterpret_cast<const uint64_t *>(u32(op)); }
  uint64_t *u64(Operand op) { return reinterpret_cast<uint64_t *>(u32(op)); }
  /// The value of one lane, zero-extended (bytes 4 and 8).
  uint64_t value(Operand op, unsigned lane) const {
    return op.bytes == 8 ? u64(op)[lane] : u32(op)[lane];
  }
  /// Mask of lanes; a constant predicate is all or none.
  uint32_t predicate(Operand op) const {
    return frame->predicates[op.row] ^ (op.negated ? ~0u : 0u);
  }
  /// Sets the active lanes of a predicate.
  void setPredicate(Operand op, uint32_t lanes) {
    uint32_t &p = frame->predicates[op.row];
    p = (p & ~active) | (lanes & active);
  }
  uint64_t address(const AddressOperand &a, unsigned lane) const {
    return (a.base ? value(a.base, lane) : 0) + uint64_t(a.offset);
  }

  /// For `.sync` instructions with a mask of lanes: gathers them. True when all lanes of `members`
  /// that have not exited are in the running group, at this instruction; `active` then has all of
  /// them. False: the handler returns Step::Wait. If members never come, the deadlock is reported.
  bool gather(const Instruction &in, uint32_t members);
  /// The same for `.aligned` instructions: all lanes of the warp that have not exited.
  bool gatherAll(const Instruction &in) { return gather(in, exists & ~exited); }
  /// For `.sync` instructions whose mask is an operand: runs body() once for every set of active
  /// lanes with the same mask, with `active` set to it, all gathered. Returns what the handler returns.
  template <typename Body> Step forMasks(const Instruction &in, Operand mask, Body body);

  /// False, and reported, if an active lane is not in the mask that it names.
  bool namesItself(const Instruction &in, uint32_t mask);

  // Control flow of the running group.
  /// Lanes `taken` (some of the group, perhaps all) go to `target`, the others to the next instruction.
  void branch(const Instruction &in, uint32_t taken, uint32_t target);
  /// Takes lanes (some of the group, not all) out of the running group into one of their own, at `pc`. They meet
  /// again at `meet` (~0: nowhere).
  Group &splitOff(uint32_t lanes, uint32_t pc, uint32_t meet);
  /// Ends the active lanes; to be followed by Step::Jump.
  void exitLanes(const Instruction &in);
  /// Lanes leave the splits from `from` on in a group's list (they will not come there).
  void leaveSplits(Group &g, size_t from);
  void enter(Group &g); ///< makes `g` the running group
  std::shared_ptr<Frame> makeFrame(const Function &function, uint32_t lanes,
                                   const std::shared_ptr<Frame> &caller);
  void growLocal(uint32_t bytes);

  // Checked access of the thread `lane`, see Block::read. `counted` requests are told to the
  // counters as a whole with countGlobal and countShared.
  Actor actor(unsigned lane, const Instruction &in, Scope scope = Scope::Weak);
  /// One request of the active lanes for `bytes` each at addresses[lane]: sectors, bank conflicts.
  /// `sideBySide`: they follow each other, in order.
  void countGlobal(const Instruction &in, const uint64_t *addresses, uint32_t lanes, unsigned bytes,
                   bool sideBySide = false);
  void countShared(const Instruction &in, const uint64_t *addresses, uint32_t lanes, unsigned bytes,
                   bool sideBySide = false);
  void countTensor(const Instruction &in, uint64_t multiplyAdds);

  /// Registers that an asynchronous operation owns from now on, for the active lanes. Touching them
  /// is reported as InFlight with `by`; forWrite: only writing them is. Their values become poison
  /// unless forWrite. `defined`: indices as in Instruction::writes.
  void hold(std::span<const uint32_t> defined, uint32_t lanes, bool forWrite,
            std::shared_ptr<const Place> by);
  void unhold(Frame &frame, std::span<const uint32_t> defined, uint32_t lanes);

  Place place(unsigned lane, const Instruction &in) const;
  /// Reports a fault of a lane at an instruction (if the check is on).
  void report(Check check, unsigned lane, const Instruction &in, std::string message);
};

template <typename Body> Step Warp::forMasks(const Instruction &in, Operand mask, Body body) {
  const uint32_t *masks = u32(mask);
  uint32_t all = active, same = 0, first = masks[std::countr_zero(all)];
  for (uint32_t rest = all; rest; rest &= rest - 1)
    if (masks[std::countr_zero(rest)] == first)
      same |= rest & -rest;
  if (same != all) { // each mask is a group of its own
    splitOff(same, group->pc, in.index + 1);
    return Step::Jump;
  }
  if (!namesItself(in, first))
    return Step::Next;
  if (!gather(in, first))
    return Step::Wait;
  body();
  return Step::Next;
}

/// Runs `body(lane)` for each lane of a mask.
template <typename Body> inline void forLanes(uint32_t lanes, Body body) {
  for (; lanes; lanes &= lanes - 1)
    body(unsigned(std::countr_zero(lanes)));
}

} // namespace sgpu

#endif
