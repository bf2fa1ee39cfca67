//===- DeviceMemory.h - Memory of one device -----------------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_MEMORY_DEVICEMEMORY_H
#define SGPU_MEMORY_DEVICEMEMORY_H

#include "Memory/RaceShadow.h"
#include "Memory/Touched.h"
#include "Support/Random.h"
#include "Support/Report.h"

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <shared_mutex>
#include <string>
#include <vector>

namespace sgpu {

/// What is known of a byte. InFlight: an asynchronous operation has been issued that will write it.
enum class ByteState : uint8_t { Undefined, Written, InFlight };

/// Whether all of the bytes with these states were written.
inline bool allWritten(const uint8_t *state, uint64_t bytes) {
  constexpr uint64_t written = 0x0101010101010101 * uint64_t(ByteState::Written);
  uint64_t i = 0, word;
  for (; i + 8 <= bytes; i += 8) {
    std::memcpy(&word, state + i, 8);
    if (word != written)
      return false;
  }
  for (; i < bytes; ++i)
    if (state[i] != uint8_t(ByteState::Written))
      return false;
  return true;
}

/// One allocation, live or freed.
struct Allocation {
  uint64_t id = 0;      ///< 1, 2, ... in the order of allocation
  uint64_t address = 0; ///< as the program sees it
  uint64_t bytes = 0;
  std::string madeBy;    ///< call and place: "cuMemAlloc_v2", "variable x of module y"
  std::string freedBy;   ///< empty while live
  bool readOnly = false; ///< .const variables
  bool host = false;     ///< pinned memory of the host, seen by devices at its own address
  bool keep = false;     ///< belongs to the process (module variables): not a leak
};

/// A fault found by an access, before anybody has said where it happened.
struct Fault {
  Check check;
  std::string message;
  uint64_t address = 0;
  const Conflict *conflict = nullptr; ///< with Race, Proxy, Stream
};

/// Gets the faults of an access.
class FaultSink {
public:
  virtual void fault(const Fault &fault) = 0;

protected:
  ~FaultSink() = default;
};

/// Memory of one device. Addresses lie in a range that the process cannot touch: a host that
/// dereferences one crashes, as on a real machine. The bytes lie elsewhere (`host`).
///
/// Every access, of kernels, copies and library calls alike, goes through `read`, `write`, `atomic`
/// and `check`, which check bounds, redzones, freed memory, bytes never written and races. A check
/// that fails is told to a sink, or reported at `place` (asked only then). An access that is not
/// whole in one live allocation does nothing (a read gives poison). All functions are thread-safe.
class DeviceMemory {
public:
  using PlaceOf = std::function<Place()>;

  /// `ordinal` makes the addresses of several devices distinct.
  DeviceMemory(int ordinal, const Options &options, Reporter &reporter);
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory &) = delete;
  DeviceMemory &operator=(const DeviceMemory &) = delete;

  /// Returns the address, a multiple of `alignment` (a power of two, at least 256), or 0 if there
  /// is not enough memory. Contents are undefined: bits drawn from the seed.
  uint64_t allocate(uint64_t bytes, std::string madeBy, uint64_t alignment = 256);
  /// Makes host memory visible at its own address. Its bytes count as written.
  void addHost(void *pointer, uint64_t bytes, std::string madeBy);
  /// Ends an allocation (or host memory). The address is not used again for a while (quarantine).
  /// False if no live allocation starts there; nothing is reported then.
  bool free(uint64_t address, std::string freedBy);
  /// The allocation that holds the address, live or in quarantine; null if none.
  std::shared_ptr<const Allocation> find(uint64_t address) const;
  void setReadOnly(uint64_t address, bool readOnly);
  void setKeep(uint64_t address);

  /// Names another device, for messages, and says whether this one may touch its memory. Then every
  /// function above and below takes addresses of the other device, too.
  void setPeer(DeviceMemory &other, bool access);

  /// Notes from now on what accesses touch, but for copies and what is outside of memory; null: no longer. Not while there are any.
  void note(Touched *touched);

  uint64_t total() const { return capacity; }
  uint64_t used() const;
  /// Reports every allocation that is still live, is not kept and not of the host.
  void reportLeaks();

  /// Whether the address lies in the range of this device (allocated or not).
  bool owns(uint64_t address) const;

  // The same functions with a sink, for callers that know more than a place.
  bool read(uint64_t address, uint64_t bytes, void *to, const Access &access, FaultSink &sink,
            bool checkWritten = true);
  bool write(uint64_t address, uint64_t bytes, const void *from, const Access &access,
             FaultSink &sink);
  bool check(uint64_t address, uint64_t bytes, const Access &access, FaultSink &sink,
             bool checkWritten = true);
  /// The same for lanes side by side, see RaceShadow::accessLanes; `size` bytes of each. False if something
  /// has to be looked at lane by lane.
  bool readLanes(uint64_t address, uint64_t size, unsigned count, void *to, const Access &access);
  bool writeLanes(uint64_t address, uint64_t size, unsigned count, const void *from,
                  const Access &access);

  /// Reads `bytes` at `address` into `to`. Bytes that were never written come as poison and are
  /// reported if `checkWritten`. Returns whether all of the bytes exist (bytes that do not: poison).
  bool read(uint64_t address, uint64_t bytes, void *to, const Access &access, const PlaceOf &place,
            bool checkWritten = true);
  /// Writes `bytes` from `from`; from null: the bytes become undefined (poison).
  bool write(uint64_t address, uint64_t bytes, const void *from, const Access &access,
             const PlaceOf &place);
  /// Copies what the bytes are and whether they were written; reading undefined bytes is not
  /// reported here but where they are used. Device to device, both of this device.
  bool copy(uint64_t to, uint64_t from, uint64_t bytes, const Access &readAccess,
            const Access &writeAccess, const PlaceOf &place);
  /// An atomic operation: `update(bytes, context)` changes the bytes in place, alone on its
  /// address. bytes <= 16, address aligned to them.
  bool atomic(uint64_t address, unsigned bytes, void (*update)(void *bytes, void *context),
              void *context, const Access &access, FaultSink &sink);
  /// Only the checks of a range, for work that touches the bytes itself through `host` (BLAS, NCCL):
  /// bounds, freed, races and, for reads, written. Returns whether the range exists.
  bool check(uint64_t address, uint64_t bytes, const Access &access, const PlaceOf &place,
             bool checkWritten = true);
  /// After a check: says what the bytes are. InFlight puts poison into them; Undefined ones read as
  /// poison through `read`.
  void setState(uint64_t address, uint64_t bytes, ByteState state);
  /// Whether all of the bytes were written.
  bool written(uint64_t address, uint64_t bytes) const;

  /// Where the bytes are. Null unless all of [address, address + bytes) is in one live allocation.
  void *host(uint64_t address, uint64_t bytes) const;
  /// The ByteState of each, the same way.
  const uint8_t *stateBytes(uint64_t address, uint64_t bytes) const;

  /// Bits of a byte that nobody wrote.
  uint8_t poison(uint64_t address) const;
  /// Those of `bytes` bytes from `address` on.
  void poison(uint64_t address, uint64_t bytes, uint8_t *to) const;

  /// "allocation #3 of 1024 bytes, made by X, byte 16", "4 bytes past ...", for messages.
  std::string describe(uint64_t address) const;

private:
  struct Impl;
  std::unique_ptr<Impl> impl;
  uint64_t base = 0, capacity = 0;
};

} // namespace sgpu

#endif
