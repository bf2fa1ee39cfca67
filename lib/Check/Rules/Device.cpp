//===- Device.cpp - Nothing stops a device (R5, R6) ------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A communication holds multiprocessors from when it starts until all its members have come. If
// those that wait left no room for the work that others wait for, all would wait for ever. What
// may run beside an action is what no order puts before or behind it, of each other stream one
// thing at a time:
//
//   stream 0   F0 ---- F1 ---- F2      beside F1 run R1, R2 and one of S0, S1: as much of each
//   stream 1      S0 -e- S1            stream as the largest of them holds, together
//   stream 2   R1 ---- R2
//
// The sum over streams is never too small: of what runs at one moment each pair is unordered. Nor
// is what one of those beside the action holds with all that may run beside that one.
//
//===----------------------------------------------------------------------===//
#include "Order.h"

#include <algorithm>

namespace mlir::llamac::check {

namespace {

/// A number of each action; of those of a stream that may run beside another action, the largest.
class Beside {
public:
  Beside(const Order &order, const std::vector<int64_t> &values) : order(order) {
    for (int s = 0; s < order.streams(); ++s) {
      // level[k][i]: the most of actions i to i + 2^k of the stream.
      std::vector<std::vector<int64_t>> &level = most.emplace_back(1);
      for (int action : order.of(s))
        level[0].push_back(values[size_t(action)]);
      for (size_t width = 1; 2 * width <= level[0].size(); width *= 2) {
        const std::vector<int64_t> &half = level.back();
        std::vector<int64_t> next(level[0].size() - 2 * width + 1);
        for (size_t i = 0; i < next.size(); ++i)
          next[i] = std::max(half[i], half[i + width]);
        level.push_back(std::move(next));
      }
    }
  }

  /// The largest beside action i of a stream; 0: none is.
  int64_t largest(int i, int stream) const {
    if (stream == order.streamOf(i))
      return 0;
    const std::vector<int> &list = order.of(stream);
    auto begin = size_t(order.doneBefore(i, stream));
    // Those for which i is done already are the last ones.
    auto end = size_t(std::partition_point(list.begin() + std::ptrdiff_t(begin), list.end(),
                                           [&](int other) { return !order.holds(i, other); }) -
                      list.begin());
    if (begin == end)
      return 0;
    size_t k = 0;
    while ((size_t(2) << k) <= end - begin)
      ++k;
    return std::max(most[size_t(stream)][k][begin],
                    most[size_t(stream)][k][end - (size_t(1) << k)]);
  }
  int64_t sum(int i) const {
    int64_t all = 0;
    for (int s = 0; s < order.streams(); ++s)
      all += largest(i, s);
    return all;
  }
  int64_t largest(int i) const {
    int64_t all = 0;
    for (int s = 0; s < order.streams(); ++s)
      all = std::max(all, largest(i, s));
    return all;
  }

private:
  const Order &order;
  std::vector<std::vector<std::vector<int64_t>>> most;
};

} // namespace

void checkDevice(Findings &found, int c) {
  const std::vector<LaunchedAction> &actions = found.program.classes[c].actions;
  const std::optional<Device> &device = found.program.device;
  if (!device)
    return;
  for (int i = 0; i < int(actions.size()); ++i)
    for (const std::string &what : actions[i].halts)
      found.fault("R5", found.where({c, i}) + " " + what +
                            ": expected between the first and the last action nothing but work "
                            "for streams, as the host would wait for all of them while other "
                            "ranks wait for it");
  Order order(actions);
  std::vector<int64_t> held, withBeside;
  for (const LaunchedAction &a : actions)
    held.push_back(a.held);
  Beside holds(order, held);
  for (int i = 0; i < int(actions.size()); ++i)
    withBeside.push_back(held[size_t(i)] ? held[size_t(i)] + holds.sum(i) : 0);
  Beside groups(order, withBeside);
  auto text = [](int64_t number) { return std::to_string(number); };
  const int64_t all = device->multiprocessors;
  for (int i = 0; i < int(actions.size()); ++i) {
    const LaunchedAction &a = actions[i];
    const int64_t beside = std::min(holds.sum(i), groups.largest(i)), together = a.held + beside;
    found.certificate.held = std::max(found.certificate.held, together);
    if (together > all)
      found.fault("R6", found.where({c, i}) + (a.held ? " and what" : ": what") +
                            " may wait for other ranks beside it: expected to hold at most the " +
                            text(all) + " multiprocessors of the device, got " + text(together) +
                            "; smaller shares of their communicators (llama.share), or events "
                            "between them, make it fit");
    else if (a.grid > 0 && beside + a.grid > all)
      found.fault("R6", found.where({c, i}) +
                            " has a kernel whose thread blocks wait for each "
                            "other: expected at most " +
                            text(all - beside) +
                            ", as many as the device has multiprocessors beside the " +
                            text(beside) + " that communication may hold, got " + text(a.grid));
    else if (a.cluster == 1 && beside == all)
      found.fault("R6", found.where({c, i}) + ": communication beside it may hold all " +
                            text(all) +
                            " multiprocessors while it waits for other ranks: "
                            "expected one to be left; smaller shares of the "
                            "communicators (llama.share) make it fit");
    // However those that wait lie, one group has to have room for the cluster.
    else if (const int64_t group = all / device->groups;
             a.cluster > 1 &&
             beside >= device->groups * std::max<int64_t>(0, group - a.cluster + 1))
      found.fault("R6", found.where({c, i}) + " has a cluster of " + text(a.cluster) +
                            " thread blocks, which run in one group of " + text(group) +
                            " multiprocessors, of which the device has " + text(device->groups) +
                            ": expected room for it in one of them, but communication may hold " +
                            text(beside) + " anywhere");
  }
}

} // namespace mlir::llamac::check
