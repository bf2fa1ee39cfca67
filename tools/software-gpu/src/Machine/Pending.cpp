//===- Pending.cpp ----------------------------------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Machine/Pending.h"

#include <algorithm>

using namespace sgpu;

Pending *PendingQueue::add(std::unique_ptr<Pending> work) {
  works.push_back(std::move(work));
  return works.back().get();
}

void PendingQueue::complete(Pending *work) {
  // What has to come first was issued before it.
  while (!work->ready()) {
    bool done = false;
    for (auto &earlier : works) {
      if (earlier.get() == work)
        break;
      if (earlier->ready()) {
        complete(earlier.get());
        done = true;
        break;
      }
    }
    if (!done)
      break;
  }
  auto it =
      std::find_if(works.begin(), works.end(), [&](const auto &w) { return w.get() == work; });
  if (it == works.end())
    return;
  std::unique_ptr<Pending> mine = std::move(*it);
  works.erase(it);
  mine->complete();
}

bool PendingQueue::completeOne(Random &random) {
  std::vector<Pending *> candidates;
  for (auto &w : works)
    if (w->ready())
      candidates.push_back(w.get());
  if (candidates.empty())
    return false;
  complete(candidates[random.below(uint32_t(candidates.size()))]);
  return true;
}

void PendingQueue::completeAll(Random &random) {
  while (completeOne(random)) {
  }
}

const Pending *PendingQueue::writing(const Block *block, Space space, uint64_t address) const {
  for (const auto &w : works)
    for (const Pending::Range &r : w->writes)
      if (r.space == space && (space != Space::Shared || r.block == block) &&
          address - r.address < r.bytes)
        return w.get();
  return nullptr;
}
