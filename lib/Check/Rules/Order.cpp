//===- Order.cpp - What is done when an action starts ---------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Order.h"

#include <algorithm>
#include <unordered_map>

namespace mlir::llamac::check {

void Order::join(int *into, int done) {
  const int *from = &before[size_t(done) * actionsOf.size()];
  for (size_t s = 0; s < actionsOf.size(); ++s)
    into[s] = std::max(into[s], from[s]);
  into[number[done]] = std::max(into[number[done]], position[done] + 1);
}

Order::Order(const std::vector<LaunchedAction> &actions) {
  std::map<int, int> streamNumber;
  for (const LaunchedAction &a : actions) {
    auto [entry, isNew] = streamNumber.try_emplace(a.stream, int(streamNumber.size()));
    number.push_back(entry->second);
  }
  actionsOf.resize(streamNumber.size());
  before.resize(actions.size() * actionsOf.size(), 0);
  position.resize(actions.size());
  std::unordered_map<int, int> recorder; // event -> action
  for (int i = 0; i < int(actions.size()); ++i) {
    const LaunchedAction &a = actions[i];
    std::vector<int> &list = actionsOf[number[i]];
    int *mine = &before[size_t(i) * actionsOf.size()];
    if (!list.empty())
      join(mine, list.back());
    for (int event : a.awaits)
      join(mine, recorder[event]);
    for (int event : a.records)
      recorder[event] = i;
    position[i] = int(list.size());
    list.push_back(i);
  }
}

} // namespace mlir::llamac::check
