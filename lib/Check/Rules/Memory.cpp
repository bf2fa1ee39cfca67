//===- Memory.cpp - Reads find what they want (R7) -------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Two actions of a class are ordered if streams and events say so. That is known from a clock
// for each action: how many actions of every stream are done when it starts. Of each byte the
// last writer and its readers are kept, in the order of the launch list:
//
//   bytes   0       64          192      256
//           | W 3    | W 5       |  start |        W i: written by action i
//           | R 4, 9 |           |  R 2   |        R i: read by action i since
//
// A read wants an entry with its value whose writer comes before it; a write comes behind the
// writer and the readers of every entry that it takes.
//
//===----------------------------------------------------------------------===//
#include "Findings.h"

#include <algorithm>
#include <unordered_map>

namespace mlir::llamac::check {

namespace {

/// Which actions of a class are done when another starts.
class Order {
public:
  explicit Order(const std::vector<LaunchedAction> &actions);

  /// Whether `first` (-1: what was there before the step) is done when `second` starts, or is
  /// the same.
  bool holds(int first, int second) const {
    return first < 0 || first == second ||
           before[second * streams + number[first]] > position[first];
  }

private:
  /// Adds to the clock `into` that action `done` is done.
  void join(int *into, int done) {
    const int *from = &before[done * streams];
    for (size_t s = 0; s < streams; ++s)
      into[s] = std::max(into[s], from[s]);
    into[number[done]] = std::max(into[number[done]], position[done] + 1);
  }

  size_t streams;
  std::vector<int> before;           // [action][stream]: actions of the stream that are done
  std::vector<int> number, position; // of an action: its stream, and where in it
};

/// The last value of some bytes.
struct Bytes {
  int64_t end;
  int writer; ///< action; -1: before the step
  uint64_t value;
  int type; ///< -1: any
  std::vector<int> readers;
};

/// What the actions of one class, one after another, do to its arenas.
class Memory {
public:
  Memory(Findings &found, int cls)
      : found(found), cls(cls), actions(found.program.classes[cls].actions), order(actions) {
    for (const Access &access : found.program.classes[cls].initial)
      arenas[access.arena][access.begin] = {access.end, -1, access.value, access.type, {}};
  }

  /// Action i does `access`. The end of the program is one more reader, after everything.
  void apply(int i, const Access &access);

private:
  using Arena = std::map<int64_t, Bytes>; // by first byte
  void read(int i, const Access &access, Arena &bytes);
  void write(int i, const Access &access, Arena &bytes);
  bool isEnd(int i) const { return i == int(actions.size()); }
  std::string place(int i) const {
    return isEnd(i) ? found.program.classes[cls].name + ", the end," : found.where({cls, i});
  }
  std::string writerOf(const Bytes &bytes) const {
    return bytes.writer < 0 ? "the start" : found.where({cls, bytes.writer});
  }
  static std::string range(const Access &access) {
    return "bytes " + std::to_string(access.begin) + " to " + std::to_string(access.end);
  }

  Findings &found;
  int cls;
  const std::vector<LaunchedAction> &actions;
  Order order;
  std::map<int, Arena> arenas;
};

} // namespace

Order::Order(const std::vector<LaunchedAction> &actions) {
  std::map<int, int> streamNumber;
  for (const LaunchedAction &a : actions)
    streamNumber.try_emplace(a.stream, int(streamNumber.size()));
  streams = streamNumber.size();
  before.resize(actions.size() * streams, 0);
  number.resize(actions.size());
  position.resize(actions.size());
  std::vector<int> last(streams, -1);
  std::unordered_map<int, int> recorder; // event -> action
  for (int i = 0; i < int(actions.size()); ++i) {
    const LaunchedAction &a = actions[i];
    int s = number[i] = streamNumber[a.stream];
    position[i] = last[s] < 0 ? 0 : position[last[s]] + 1;
    int *mine = &before[i * streams];
    if (last[s] >= 0)
      join(mine, last[s]);
    for (int event : a.awaits)
      join(mine, recorder[event]);
    for (int event : a.records)
      recorder[event] = i;
    last[s] = i;
  }
}

/// Cuts the entry over the byte `where`, so that an access covers whole entries.
static void cut(std::map<int64_t, Bytes> &bytes, int64_t where) {
  auto next = bytes.upper_bound(where);
  if (next == bytes.begin())
    return;
  auto entry = std::prev(next);
  if (entry->first < where && where < entry->second.end) {
    Bytes rest = entry->second;
    entry->second.end = where;
    bytes.emplace(where, std::move(rest));
  }
}

void Memory::apply(int i, const Access &access) {
  Arena &bytes = arenas[access.arena];
  cut(bytes, access.begin);
  cut(bytes, access.end);
  if (access.write)
    write(i, access, bytes);
  else
    read(i, access, bytes);
}

void Memory::read(int i, const Access &access, Arena &bytes) {
  int64_t covered = access.begin;
  for (auto entry = bytes.lower_bound(access.begin);
       entry != bytes.end() && entry->first < access.end; ++entry) {
    Bytes &old = entry->second;
    if (entry->first != covered)
      break;
    covered = old.end;
    if (old.value != access.value)
      found.fault("R7", place(i) + " reads " + range(access) + " and finds the value of " +
                            writerOf(old));
    else if (old.type >= 0 && access.type >= 0 && old.type != access.type)
      found.fault("R7", place(i) + " reads " + range(access) +
                            " in another type than it has from " + writerOf(old));
    else if (!isEnd(i) && !order.holds(old.writer, i))
      found.fault("R7", place(i) + " reads " + range(access) + ", which " + writerOf(old) +
                            " may not have written yet");
    old.readers.push_back(i);
  }
  if (covered < access.end)
    found.fault("R7", place(i) + " reads " + range(access) + ", which nothing has written");
}

void Memory::write(int i, const Access &access, Arena &bytes) {
  auto entry = bytes.lower_bound(access.begin);
  while (entry != bytes.end() && entry->first < access.end) {
    const Bytes &old = entry->second;
    if (!order.holds(old.writer, i))
      found.fault("R7", place(i) + " writes " + range(access) + ", which " + writerOf(old) +
                            " may still write");
    for (int reader : old.readers)
      if (!order.holds(reader, i)) {
        found.fault("R7", place(i) + " writes " + range(access) + ", which " +
                              found.where({cls, reader}) + " may still read");
        break;
      }
    entry = bytes.erase(entry);
  }
  bytes[access.begin] = {access.end, i, access.value, access.type, {}};
}

void checkMemory(Findings &found, int cls) {
  Memory memory(found, cls);
  const RankClass &list = found.program.classes[cls];
  for (int i = 0; i < int(list.actions.size()); ++i)
    for (const Access &access : list.actions[i].accesses)
      memory.apply(i, access);
  for (const Access &access : list.final)
    memory.apply(int(list.actions.size()), access);
}

} // namespace mlir::llamac::check
