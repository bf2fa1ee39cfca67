//===- ArenaPlan.cpp - Places in memory for values with lifetimes ---------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Support/ArenaPlan.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/Support/MathExtras.h"

#include <map>
#include <set>
#include <tuple>

using namespace mlir;
using namespace mlir::llamac;

/// The numbers of the values, by first position, larger ones first.
static llvm::SmallVector<size_t> inOrder(llvm::ArrayRef<PlannedValue> values) {
  auto order = llvm::to_vector(llvm::seq<size_t>(0, values.size()));
  llvm::stable_sort(order, [&](size_t a, size_t b) {
    return std::tuple(values[a].begin, -values[a].bytes) <
           std::tuple(values[b].begin, -values[b].bytes);
  });
  return order;
}

namespace {
/// The free parts of an arena. Neighbours are always joined.
class FreeGaps {
public:
  /// Takes `bytes` (> 0) from the best gap, or from new memory at the end.
  int64_t take(int64_t bytes) {
    auto best = bySize.lower_bound({bytes, 0});
    if (best == bySize.end())
      return extend(bytes);
    auto [gapBytes, offset] = *best;
    erase(offset, gapBytes);
    if (gapBytes > bytes)
      insert(offset + bytes, gapBytes - bytes);
    return offset;
  }

  void giveBack(int64_t offset, int64_t bytes) {
    auto next = byOffset.lower_bound(offset);
    if (next != byOffset.end() && next->first == offset + bytes) {
      bytes += next->second;
      erase(next->first, next->second);
      next = byOffset.lower_bound(offset);
    }
    if (next != byOffset.begin()) {
      auto [before, beforeBytes] = *std::prev(next);
      if (before + beforeBytes == offset) {
        erase(before, beforeBytes);
        offset = before;
        bytes += beforeBytes;
      }
    }
    insert(offset, bytes);
  }

  int64_t size() const { return end; }

private:
  /// New memory at the end, together with the gap that ends there.
  int64_t extend(int64_t bytes) {
    int64_t offset = end;
    if (!byOffset.empty()) {
      auto [last, lastBytes] = *byOffset.rbegin();
      if (last + lastBytes == end) {
        erase(last, lastBytes);
        offset = last;
      }
    }
    end = offset + bytes;
    return offset;
  }

  void insert(int64_t offset, int64_t bytes) {
    byOffset.emplace(offset, bytes);
    bySize.emplace(bytes, offset);
  }

  void erase(int64_t offset, int64_t bytes) {
    byOffset.erase(offset);
    bySize.erase({bytes, offset});
  }

  std::map<int64_t, int64_t> byOffset;          // offset -> bytes
  std::set<std::pair<int64_t, int64_t>> bySize; // bytes, offset
  int64_t end = 0;
};
} // namespace

/// In the order of positions, as it would be done while the program runs.
static int64_t planByPosition(llvm::MutableArrayRef<PlannedValue> values, int64_t alignment) {
  FreeGaps gaps;
  std::set<std::pair<int64_t, size_t>> live; // last position, number
  for (size_t number : inOrder(values)) {
    PlannedValue &value = values[number];
    while (!live.empty() && live.begin()->first < value.begin) {
      PlannedValue &dead = values[live.begin()->second];
      gaps.giveBack(dead.offset, llvm::alignTo(dead.bytes, alignment));
      live.erase(live.begin());
    }
    if (value.bytes == 0) {
      value.offset = 0;
      continue;
    }
    value.offset = gaps.take(llvm::alignTo(value.bytes, alignment));
    live.emplace(value.end, number);
  }
  return gaps.size();
}

/// Larger values first, each in the lowest gap between those that live with it.
static int64_t planBySize(llvm::MutableArrayRef<PlannedValue> values, int64_t alignment) {
  auto order = llvm::to_vector(llvm::seq<size_t>(0, values.size()));
  llvm::stable_sort(order, [&](size_t a, size_t b) {
    return std::tuple(-values[a].bytes, values[a].begin) <
           std::tuple(-values[b].bytes, values[b].begin);
  });
  std::multimap<int64_t, size_t> placed; // by offset
  int64_t size = 0;
  for (size_t number : order) {
    PlannedValue &value = values[number];
    value.offset = 0;
    if (value.bytes == 0)
      continue;
    const int64_t bytes = llvm::alignTo(value.bytes, alignment);
    for (auto [offset, other] : placed) {
      const PlannedValue &there = values[other];
      if (there.end < value.begin || value.end < there.begin)
        continue;
      if (value.offset + bytes <= offset)
        break;
      value.offset =
          std::max<int64_t>(value.offset, offset + llvm::alignTo(there.bytes, alignment));
    }
    placed.emplace(value.offset, number);
    size = std::max(size, value.offset + bytes);
  }
  return size;
}

int64_t llamac::planArena(llvm::MutableArrayRef<PlannedValue> values, int64_t alignment) {
  constexpr size_t kMostBySize = 3000; // which takes time with their square
  int64_t bytes = planByPosition(values, alignment);
  if (values.size() > kMostBySize || bytes == lowerBound(values, alignment))
    return bytes;
  llvm::SmallVector<PlannedValue> others(values);
  if (int64_t smaller = planBySize(others, alignment); smaller < bytes) {
    llvm::copy(others, values.begin());
    bytes = smaller;
  }
  return bytes;
}

int64_t llamac::lowerBound(llvm::ArrayRef<PlannedValue> values, int64_t alignment) {
  std::map<int64_t, int64_t> change; // position -> bytes more than before it
  for (const PlannedValue &value : values) {
    change[value.begin] += llvm::alignTo(value.bytes, alignment);
    change[value.end + 1] -= llvm::alignTo(value.bytes, alignment);
  }
  int64_t live = 0, most = 0;
  for (auto [position, bytes] : change)
    most = std::max(most, live += bytes);
  return most;
}

std::optional<std::pair<size_t, size_t>> llamac::findConflict(llvm::ArrayRef<PlannedValue> values,
                                                              int64_t bytes, int64_t alignment) {
  std::map<int64_t, size_t> byOffset;        // live values that take memory
  std::set<std::pair<int64_t, size_t>> live; // last position, number
  for (size_t number : inOrder(values)) {
    const PlannedValue &value = values[number];
    if (value.offset < 0 || value.offset % alignment != 0 || value.offset + value.bytes > bytes)
      return std::pair(number, number);
    while (!live.empty() && live.begin()->first < value.begin) {
      byOffset.erase(values[live.begin()->second].offset);
      live.erase(live.begin());
    }
    if (value.bytes == 0)
      continue;
    auto next = byOffset.lower_bound(value.offset);
    if (next != byOffset.end() && next->first < value.offset + value.bytes)
      return std::pair(next->second, number);
    if (next != byOffset.begin()) {
      const PlannedValue &before = values[std::prev(next)->second];
      if (before.offset + before.bytes > value.offset)
        return std::pair(std::prev(next)->second, number);
    }
    byOffset.emplace(value.offset, number);
    live.emplace(value.end, number);
  }
  return std::nullopt;
}
