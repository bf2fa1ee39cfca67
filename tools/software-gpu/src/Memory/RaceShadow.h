//===- RaceShadow.h - Last accesses of every byte ------------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_MEMORY_RACESHADOW_H
#define SGPU_MEMORY_RACESHADOW_H

#include "Memory/Clocks.h"

#include <cstdint>
#include <functional>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace sgpu {

enum class Scope : uint8_t { Weak, Cta, Cluster, Gpu, Sys }; ///< Weak: an ordinary access
enum class Proxy : uint8_t { Generic, Async };

/// Work of a device on its memory: a kernel launch, a copy, a library call. Ids increase; 0 is no
/// work. `ordered(earlier)`: whether work `earlier` is complete before this one starts, by stream
/// order, events or synchronisation of the host. Empty: always.
struct Work {
  uint32_t id = 0;
  std::function<bool(uint32_t earlier)> ordered;
};

/// One access of one agent, as the race check sees it.
struct Access {
  const AgentClock *agent = nullptr; ///< null: work of the host or of a library, as a whole
  const Work *work = nullptr;        ///< null in memory that no other work sees (shared memory)
  uint32_t site = 0;                 ///< who asks for it, for messages: index of a PTX line or call
  Scope scope = Scope::Weak;
  Proxy proxy = Proxy::Generic;
  bool write = false;
  bool read = true;                  ///< both: an atomic operation
  uint32_t cta = 0, cluster = 0;     ///< of the agent, for scopes
};

/// The other side of a race.
struct Conflict {
  Epoch epoch;
  uint32_t work = 0;
  uint32_t site = 0;
  bool write = false;
  bool proxyOnly = false;   ///< ordered, but not across the proxies
  uint64_t offset = 0;      ///< first byte in conflict
};

/// Shadow of a range of bytes, in cells of 4 bytes that split into bytes where accesses are smaller.
/// Memory comes from the system when touched. Thread-safe if made so.
class RaceShadow {
public:
  RaceShadow(uint64_t bytes, bool threadSafe);
  ~RaceShadow();
  RaceShadow(const RaceShadow &) = delete;
  RaceShadow &operator=(const RaceShadow &) = delete;

  /// Records an access to [offset, offset + bytes). Returns true and fills `conflict` if it is in
  /// conflict with an earlier one. `sameValue`: a write leaves the bytes as they are, which does
  /// not conflict with other writes.
  bool access(uint64_t offset, uint64_t bytes, const Access &access, bool sameValue,
              Conflict &conflict);
  /// Forgets all accesses to the range (allocation made or freed, mbarrier invalidated).
  void forget(uint64_t offset, uint64_t bytes);

private:
  struct Cell;
  struct Reader;
  bool accessCell(Cell &cell, const Access &access, bool sameValue, Conflict &conflict);
  uint64_t bytes;
  Cell *cells = nullptr;     // one for 4 bytes
  Cell *byteCells = nullptr; // one for each byte
  struct Lock;
  std::vector<Lock> locks;
  std::unordered_map<Cell *, std::vector<Reader>> readers[64];
};

} // namespace sgpu

#endif
