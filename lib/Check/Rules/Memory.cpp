//===- Memory.cpp - Reads find what they want (R7) -------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Two actions of a class are ordered if streams and events say so (Order.h). Of each byte the
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
#include "Order.h"

namespace mlir::llamac::check {

namespace {

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
