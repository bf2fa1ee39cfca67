//===- Order.h - What is done when an action starts ------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Streams and events order the actions of a class. Each has a clock: how many actions of every
// stream are done when it starts.
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_CHECK_RULES_ORDER_H
#define LLAMAC_LIB_CHECK_RULES_ORDER_H

#include "Findings.h"

namespace mlir::llamac::check {

/// Which actions of a class are done when another starts.
class Order {
public:
  explicit Order(const std::vector<LaunchedAction> &actions);

  /// Whether `first` (-1: what was there before the step) is done when `second` starts, or is
  /// the same.
  bool holds(int first, int second) const {
    return first < 0 || first == second || doneBefore(second, number[first]) > position[first];
  }

  /// Streams are numbered in the order in which they first come.
  int streams() const { return int(actionsOf.size()); }
  int streamOf(int action) const { return number[action]; }
  /// The actions of a stream, in its order.
  const std::vector<int> &of(int stream) const { return actionsOf[stream]; }
  /// How many actions of `stream` are done when `action` starts.
  int doneBefore(int action, int stream) const {
    return before[size_t(action) * actionsOf.size() + size_t(stream)];
  }

private:
  /// Adds to the clock `into` that action `done` is done.
  void join(int *into, int done);

  std::vector<int> before;           // [action][stream]
  std::vector<int> number, position; // of an action: its stream, and where in it
  std::vector<std::vector<int>> actionsOf;
};

} // namespace mlir::llamac::check

#endif // LLAMAC_LIB_CHECK_RULES_ORDER_H
