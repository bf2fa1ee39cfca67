//===- Pending.h - Asynchronous work of a cluster ------------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_MACHINE_PENDING_H
#define SGPU_MACHINE_PENDING_H

#include "Machine/Instruction.h"
#include "Support/Random.h"
#include "Support/Report.h"

#include <list>
#include <memory>
#include <vector>

namespace sgpu {

class Block;

/// An operation that was issued and has not happened yet. Bytes that it will write are InFlight
/// (setState) from the issue on. An instruction that must wait completes what it waits for with
/// PendingQueue::complete; all else completes when the scheduler wants it: under Late only when
/// nothing else can run (or after a long time of only spinning).
class Pending {
public:
  virtual ~Pending() = default;
  /// Reads and writes now; marks what it wrote; tells mbarriers and groups. Called once.
  virtual void complete() = 0;
  /// Whether it may complete now (what must come before it has). Default: always.
  virtual bool ready() const { return true; }
  /// Whether nobody has to wait for it before the block ends (else `Block` reports at its end that
  /// shared memory goes away under it). Default: true.
  virtual bool mayOutlive() const { return true; }

  struct Range {
    Block *block = nullptr; ///< for Space::Shared
    Space space = Space::Global;
    uint64_t address = 0, bytes = 0;
  };
  std::vector<Range> writes; ///< for messages about bytes in flight
  Place place;               ///< who issued it, with `what`
};

/// All pending work of one cluster. Used by the one host thread that runs the cluster.
class PendingQueue {
public:
  Pending *add(std::unique_ptr<Pending> work);
  /// Completes this one (with what must come before it); it is gone then.
  void complete(Pending *work);
  /// Completes one that is ready, drawn by `random`. False if there is none.
  bool completeOne(Random &random);
  void completeAll(Random &random);
  bool empty() const { return works.empty(); }
  size_t size() const { return works.size(); }
  /// The pending work that will write this byte; null if none.
  const Pending *writing(const Block *block, Space space, uint64_t address) const;
  const std::list<std::unique_ptr<Pending>> &all() const { return works; }

private:
  std::list<std::unique_ptr<Pending>> works;
};

} // namespace sgpu

#endif
