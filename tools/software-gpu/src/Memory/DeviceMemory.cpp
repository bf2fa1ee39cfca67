//===- DeviceMemory.cpp -----------------------------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Memory/DeviceMemory.h"

#include "Support/Clones.h" // __has_feature

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <mutex>
#include <sys/mman.h>

using namespace sgpu;

namespace {
constexpr uint64_t redzone = 256;
constexpr uint64_t firstDevice = uint64_t(0x20) << 40; ///< address of device 0, if free
constexpr uint64_t deviceStride = uint64_t(1) << 42;
constexpr uint64_t farAway = 4096; ///< how far from an allocation a message still names it

/// Where the bytes of an allocation and what is known of them are.
struct View {
  const void *owner = nullptr;
  uint64_t generation = 0;
  uint64_t start = 0, bytes = 0;
  uint8_t *data = nullptr;
  uint8_t *state = nullptr;
  RaceShadow *races = nullptr;
  uint64_t raceOffset = 0;
  bool readOnly = false;
  bool holds(uint64_t address, uint64_t size) const {
    return address - start < bytes && size <= bytes - (address - start);
  }
};

/// Different for every change of every device of the process, so that no thread takes a view of one
/// for a view of another.
uint64_t newGeneration() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

uint8_t *reserve(uint64_t bytes, int protection, void *hint = nullptr) {
  void *p =
      mmap(hint, bytes, protection,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (hint ? MAP_FIXED_NOREPLACE : 0), -1, 0);
  return p == MAP_FAILED ? nullptr : static_cast<uint8_t *>(p);
}
} // namespace

struct DeviceMemory::Impl {
  Impl(const Options &options, Reporter &reporter) : options(options), reporter(reporter) {}

  struct Piece { // [redzone | bytes | redzone], live or in quarantine
    std::shared_ptr<Allocation> allocation;
    uint64_t start = 0, end = 0; // redzones included
    std::unique_ptr<std::vector<uint8_t>> hostState;
    std::unique_ptr<RaceShadow> hostRaces;
    bool live() const { return allocation->freedBy.empty(); }
  };

  const Options options;
  Reporter &reporter;
  mutable std::shared_mutex mutex;
  std::map<uint64_t, Piece> pieces; // by start; host memory too
  std::deque<uint64_t> quarantine;  // starts, oldest first
  std::atomic<uint64_t> generation{newGeneration()};
  uint64_t nextId = 1, next = 0, end = 0, used = 0;
  uint8_t *data = nullptr; // of address `base`
  uint8_t *state = nullptr;
  std::unique_ptr<RaceShadow> races;
  std::atomic_flag locks[1024];
  uint64_t base = 0, reserved = 0, seed = 0;
  bool checkRaces = true, strict = false;
  Touched *touched = nullptr;
  std::vector<std::pair<DeviceMemory *, bool>> peers; // may this device touch its memory?

  const Piece *around(uint64_t address) const {
    auto it = pieces.upper_bound(address);
    if (it == pieces.begin())
      return nullptr;
    --it;
    return address < it->second.end ? &it->second : nullptr;
  }

  /// The live allocation that holds the range; null if there is none. Remembered by each thread
  /// until an allocation is made or freed.
  const View *view(uint64_t address, uint64_t size) const {
    constexpr unsigned ways = 8;
    thread_local View cache[ways];
    thread_local unsigned turn = 0;
    uint64_t now = generation.load(std::memory_order_acquire);
    for (View &v : cache)
      if (v.owner == this && v.generation == now && v.holds(address, size))
        return &v;
    std::shared_lock lock(mutex);
    const Piece *piece = around(address);
    if (!piece) {
      for (const auto &[peer, access] : peers)
        if (access && peer->owns(address))
          return peer->impl->view(address, size);
      return nullptr;
    }
    if (!piece->live())
      return nullptr;
    const Allocation &a = *piece->allocation;
    View v;
    v.owner = this;
    v.generation = generation.load(std::memory_order_acquire);
    v.start = a.address;
    v.bytes = a.bytes;
    v.readOnly = a.readOnly;
    if (a.host) {
      v.data = reinterpret_cast<uint8_t *>(a.address);
      v.state = piece->hostState->data();
      v.races = piece->hostRaces.get();
    } else {
      v.data = data + (a.address - base);
      v.state = state + (a.address - base);
      v.races = races.get();
      v.raceOffset = a.address - base;
    }
    if (!v.holds(address, size))
      return nullptr;
    View &slot = cache[turn++ % ways];
    slot = v;
    return &slot;
  }

  void note(uint64_t address, uint64_t bytes, bool write) const {
    if (touched)
      touched->add(address, bytes, write);
  }
  void lock(uint64_t address) {
    while (locks[address / 16 % 1024].test_and_set(std::memory_order_acquire)) {
    }
  }
  void unlock(uint64_t address) { locks[address / 16 % 1024].clear(std::memory_order_release); }
};

DeviceMemory::DeviceMemory(int ordinal, const Options &options, Reporter &reporter)
    : impl(std::make_unique<Impl>(options, reporter)) {
  capacity = options.memory;
  // Room for redzones and for freed memory that waits in quarantine.
  Impl &m = *impl;
  m.reserved = std::min(capacity * 4 + (uint64_t(64) << 20), deviceStride);
  void *hint = reinterpret_cast<void *>(firstDevice + uint64_t(ordinal) * deviceStride);
#if __has_feature(thread_sanitizer)
  hint = nullptr; // its shadow is there
#endif
  uint8_t *range = reserve(m.reserved, PROT_NONE, hint);
  if (!range)
    range = reserve(m.reserved, PROT_NONE);
  m.data = reserve(m.reserved, PROT_READ | PROT_WRITE);
  m.state = reserve(m.reserved, PROT_READ | PROT_WRITE);
  if (!range || !m.data || !m.state)
    throw Error("cannot reserve " + std::to_string(m.reserved >> 20) +
                " MiB of address space for device " + std::to_string(ordinal) +
                ": make SOFTWARE_GPU_MEMORY smaller");
  base = m.base = reinterpret_cast<uint64_t>(range);
  m.next = base + 4096; // the first bytes are never given out
  m.end = base + m.reserved;
  m.seed = mix(options.seed ^ mix(uint64_t(ordinal)));
  m.checkRaces = options.enabled(Check::Race) || options.enabled(Check::Stream) ||
                 options.enabled(Check::Proxy);
  m.strict = options.enabled(Check::Strict);
  if (m.checkRaces)
    m.races = std::make_unique<RaceShadow>(m.reserved, true);
}

DeviceMemory::~DeviceMemory() {
  munmap(reinterpret_cast<void *>(base), impl->reserved);
  munmap(impl->data, impl->reserved);
  munmap(impl->state, impl->reserved);
}

bool DeviceMemory::owns(uint64_t address) const { return address - base < impl->reserved; }

uint64_t DeviceMemory::allocate(uint64_t bytes, std::string madeBy, uint64_t alignment) {
  Impl &m = *impl;
  std::unique_lock lock(m.mutex);
  alignment = std::max<uint64_t>(alignment, 256);
  if (!bytes || bytes > capacity || m.used + bytes > capacity)
    return 0;
  auto placed = [&](uint64_t start) {
    return (start + redzone + alignment - 1) & ~(alignment - 1);
  };
  auto finish = [&](uint64_t address) {
    return (address + bytes + redzone + 255) & ~uint64_t(255);
  };
  uint64_t start = m.next, address = placed(start), end = finish(address);
  if (end <= m.end) {
    m.next = end;
  } else {
    // The oldest freed piece (with freed neighbours behind it) that is large enough.
    bool found = false;
    for (auto it = m.quarantine.begin(); it != m.quarantine.end() && !found; ++it) {
      auto first = m.pieces.find(*it), last = first;
      uint64_t to = first->second.end;
      address = placed(*it);
      end = finish(address);
      while (end > to) {
        ++last;
        if (last == m.pieces.end() || last->first != to || last->second.live())
          break;
        to = last->second.end;
      }
      if (end > to)
        continue;
      start = *it;
      end = to;
      for (auto p = first; p != m.pieces.end() && p->first < to; p = m.pieces.erase(p))
        std::erase(m.quarantine, p->first);
      found = true;
      break;
    }
    if (!found)
      return 0;
  }
  auto a = std::make_shared<Allocation>();
  a->id = m.nextId++;
  a->address = address;
  a->bytes = bytes;
  a->madeBy = std::move(madeBy);
  Impl::Piece piece;
  piece.allocation = std::move(a);
  piece.start = start;
  piece.end = end;
  m.pieces.emplace(start, std::move(piece));
  m.used += bytes;
  m.generation = newGeneration();
  return address;
}

void DeviceMemory::addHost(void *pointer, uint64_t bytes, std::string madeBy) {
  Impl &m = *impl;
  std::unique_lock lock(m.mutex);
  auto a = std::make_shared<Allocation>();
  a->id = m.nextId++;
  a->address = reinterpret_cast<uint64_t>(pointer);
  a->bytes = bytes;
  a->madeBy = std::move(madeBy);
  a->host = true;
  Impl::Piece piece;
  piece.start = a->address;
  piece.end = a->address + bytes;
  piece.allocation = std::move(a);
  piece.hostState = std::make_unique<std::vector<uint8_t>>(bytes, uint8_t(ByteState::Written));
  if (m.checkRaces)
    piece.hostRaces = std::make_unique<RaceShadow>(bytes, true);
  m.pieces.insert_or_assign(piece.start, std::move(piece));
  m.generation = newGeneration();
}

bool DeviceMemory::free(uint64_t address, std::string freedBy) {
  Impl &m = *impl;
  std::unique_lock lock(m.mutex);
  auto it = m.pieces.upper_bound(address);
  if (it == m.pieces.begin())
    return false;
  --it;
  Impl::Piece &piece = it->second;
  Allocation &a = *piece.allocation;
  if (a.address != address || !piece.live())
    return false;
  if (a.host) {
    m.pieces.erase(it);
    m.generation = newGeneration();
    return true;
  }
  auto freed = std::make_shared<Allocation>(a);
  freed->freedBy = freedBy.empty() ? "the program" : std::move(freedBy);
  m.used -= a.bytes;
  piece.allocation = std::move(freed); // ends `a`
  m.quarantine.push_back(piece.start);
  m.generation = newGeneration();
  uint64_t offset = address - base, bytes = piece.allocation->bytes;
  // Whole pages go back to the system; state 0 is Undefined.
  std::memset(m.state + offset, 0, std::min<uint64_t>(bytes, 8192));
  if (bytes > 8192) {
    uint64_t first = (offset + 4095) & ~uint64_t(4095), last = (offset + bytes) & ~uint64_t(4095);
    madvise(m.data + first, last - first, MADV_DONTNEED);
    madvise(m.state + first, last - first, MADV_DONTNEED);
    std::memset(m.state + last, 0, offset + bytes - last);
  }
  if (m.races)
    m.races->forget(offset, bytes);
  return true;
}

std::shared_ptr<const Allocation> DeviceMemory::find(uint64_t address) const {
  std::shared_lock lock(impl->mutex);
  for (const auto &[peer, access] : impl->peers)
    if (access && peer->owns(address))
      return peer->find(address);
  const Impl::Piece *piece = impl->around(address);
  if (!piece || address - piece->allocation->address >= piece->allocation->bytes)
    return nullptr;
  return piece->allocation;
}

void DeviceMemory::setReadOnly(uint64_t address, bool readOnly) {
  std::unique_lock lock(impl->mutex);
  if (const Impl::Piece *piece = impl->around(address))
    piece->allocation->readOnly = readOnly;
  impl->generation = newGeneration();
}

void DeviceMemory::setKeep(uint64_t address) {
  std::unique_lock lock(impl->mutex);
  if (const Impl::Piece *piece = impl->around(address))
    piece->allocation->keep = true;
}

void DeviceMemory::setPeer(DeviceMemory &other, bool access) {
  std::unique_lock lock(impl->mutex);
  std::erase_if(impl->peers, [&](const auto &p) { return p.first == &other; });
  impl->peers.emplace_back(&other, access);
  impl->generation = newGeneration();
}

void DeviceMemory::note(Touched *touched) { impl->touched = touched; }

uint64_t DeviceMemory::used() const {
  std::shared_lock lock(impl->mutex);
  return impl->used;
}

void DeviceMemory::reportLeaks() {
  std::vector<Report> leaks;
  {
    std::shared_lock lock(impl->mutex);
    for (const auto &[start, piece] : impl->pieces) {
      const Allocation &a = *piece.allocation;
      if (!piece.live() || a.keep || a.host)
        continue;
      Report r{.check = Check::Leak,
               .message = "allocation #" + std::to_string(a.id) + " of " + std::to_string(a.bytes) +
                          " bytes is never freed"};
      r.place.call = a.madeBy;
      r.hasAddress = true;
      r.address = a.address;
      leaks.push_back(std::move(r));
    }
  }
  for (Report &r : leaks)
    impl->reporter.add(std::move(r));
}

uint8_t DeviceMemory::poison(uint64_t address) const {
  return uint8_t(mix(impl->seed ^ (address >> 3)) >> (address & 7) * 8);
}

void DeviceMemory::poison(uint64_t address, uint64_t bytes, uint8_t *to) const {
  for (uint64_t i = 0; i < bytes;) {
    uint64_t word = mix(impl->seed ^ ((address + i) >> 3)) >> ((address + i) & 7) * 8;
    uint64_t size = std::min(bytes - i, 8 - ((address + i) & 7));
    std::memcpy(to + i, &word, size);
    i += size;
  }
}

std::string DeviceMemory::describe(uint64_t address) const {
  std::shared_lock lock(impl->mutex);
  auto text = [&](const Impl::Piece &piece) {
    const Allocation &a = *piece.allocation;
    std::string s = a.host ? "host memory" : "allocation #" + std::to_string(a.id);
    s += " of " + std::to_string(a.bytes) + " bytes, made by " + a.madeBy;
    if (!piece.live())
      s += ", freed by " + a.freedBy;
    return s;
  };
  auto it = impl->pieces.upper_bound(address);
  if (it != impl->pieces.begin()) {
    const Impl::Piece &piece = std::prev(it)->second;
    const Allocation &a = *piece.allocation;
    if (address >= a.address && address - a.address < a.bytes)
      return "byte " + std::to_string(address - a.address) + " of " + text(piece);
    if (address >= a.address && address - (a.address + a.bytes) < farAway)
      return std::to_string(address - (a.address + a.bytes)) + " bytes past the end of " +
             text(piece);
    if (address < a.address)
      return std::to_string(a.address - address) + " bytes before " + text(piece);
  }
  if (it != impl->pieces.end() && it->second.allocation->address - address < farAway)
    return std::to_string(it->second.allocation->address - address) + " bytes before " +
           text(it->second);
  for (const auto &[peer, access] : impl->peers)
    if (peer->owns(address))
      return peer->describe(address) + ", of another device" +
             (access ? "" : ", to which this one has no access (cuCtxEnablePeerAccess)");
  return "in no allocation";
}

namespace {
/// Finds what is wrong with a range that is not in one live allocation.
void refuse(const DeviceMemory &memory, uint64_t address, uint64_t bytes, bool write,
            FaultSink &sink) {
  // The first byte that is not where it should be.
  std::shared_ptr<const Allocation> a = memory.find(address);
  uint64_t where = address;
  bool freed = a && !a->freedBy.empty();
  if (a && !freed)
    where = a->address + a->bytes;
  Fault f{freed ? Check::UseAfterFree : Check::OutOfBounds,
          std::string(write ? "write of " : "read of ") + std::to_string(bytes) + " bytes " +
              (freed ? "in memory that was freed"
               : a   ? "past the end of the allocation"
                     : "outside of every allocation"),
          where};
  sink.fault(f);
}

/// The default: reports at a place of the host.
class PlaceSink final : public FaultSink {
public:
  PlaceSink(const DeviceMemory &memory, Reporter &reporter, const DeviceMemory::PlaceOf &place,
            const Access &access)
      : memory(memory), reporter(reporter), place(place), access(access) {}
  void fault(const Fault &fault) override {
    Report r{.check = fault.check, .message = fault.message, .place = place ? place() : Place()};
    r.hasAddress = true;
    r.address = fault.address;
    r.memory = memory.describe(fault.address);
    if (fault.conflict) {
      Place other;
      other.call = access.work && access.work->name ? access.work->name(fault.conflict->work)
                                                    : "other work of the device";
      other.what = fault.conflict->write ? "write" : "read";
      r.others.push_back(other);
    }
    reporter.add(std::move(r));
  }

private:
  const DeviceMemory &memory;
  Reporter &reporter;
  const DeviceMemory::PlaceOf &place;
  const Access &access;
};
} // namespace

/// Records the access and tells a conflict.
static void race(RaceShadow *races, uint64_t offset, uint64_t address, uint64_t bytes,
                 const Access &access, bool sameValue, bool strict, FaultSink &sink) {
  Conflict conflict;
  if (!races || !races->access(offset, bytes, access, sameValue, conflict))
    return;
  if (conflict.sameValue && !strict)
    return;
  uint64_t where = address + (conflict.offset - offset);
  bool stream = access.work && conflict.work != access.work->id;
  std::string mine = access.write ? "write" : "read", other = conflict.write ? "write" : "read";
  Fault f{conflict.sameValue   ? Check::Strict
          : stream             ? Check::Stream
          : conflict.proxyOnly ? Check::Proxy
                               : Check::Race,
          "", where, &conflict};
  if (stream)
    f.message =
        mine + " of bytes with a " + other +
        " by work of the device that no stream order, event or synchronization puts before it";
  else if (conflict.proxyOnly)
    f.message = mine + " by the async proxy of bytes that a generic " + other +
                " left, without fence.proxy.async between";
  else
    f.message = mine + (conflict.sameValue ? " of the same value" : "") + " races with a " + other +
                " by another thread";
  sink.fault(f);
}

/// What is wrong with the state of bytes that are read; tells the first.
static void states(const uint8_t *state, uint64_t address, uint64_t bytes, FaultSink &sink) {
  for (uint64_t i = 0; i < bytes; ++i) {
    if (state[i] == uint8_t(ByteState::Written))
      continue;
    bool inFlight = state[i] == uint8_t(ByteState::InFlight);
    sink.fault({inFlight ? Check::InFlight : Check::Uninitialized,
                "read of " + std::to_string(bytes) +
                    (inFlight ? " bytes that an asynchronous operation has yet to write"
                              : " bytes that were never written"),
                address + i});
    return;
  }
}

bool DeviceMemory::read(uint64_t address, uint64_t bytes, void *to, const Access &access,
                        FaultSink &sink, bool checkWritten) {
  const View *v = impl->view(address, bytes);
  uint8_t *out = static_cast<uint8_t *>(to);
  if (!v) {
    if (bytes)
      refuse(*this, address, bytes, false, sink);
    for (uint64_t i = 0; i < bytes; ++i)
      out[i] = poison(address + i);
    return !bytes;
  }
  uint64_t offset = address - v->start;
  std::memcpy(to, v->data + offset, bytes);
  if (!allWritten(v->state + offset, bytes)) {
    for (uint64_t i = 0; i < bytes; ++i)
      if (v->state[offset + i] == uint8_t(ByteState::Undefined))
        out[i] = poison(address + i);
    if (checkWritten)
      states(v->state + offset, address, bytes, sink);
  }
  race(v->races, v->raceOffset + offset, address, bytes, access, false, false, sink);
  impl->note(address, bytes, false);
  return true;
}

bool DeviceMemory::write(uint64_t address, uint64_t bytes, const void *from, const Access &access,
                         FaultSink &sink) {
  const View *v = impl->view(address, bytes);
  if (!v) {
    if (bytes)
      refuse(*this, address, bytes, true, sink);
    return !bytes;
  }
  uint64_t offset = address - v->start;
  if (v->readOnly && access.agent) {
    sink.fault({Check::OutOfBounds,
                "write of " + std::to_string(bytes) + " bytes in constant memory", address});
    return false;
  }
  uint8_t *data = v->data + offset, *state = v->state + offset;
  bool same = false;
  if (from && access.agent && bytes <= 16)
    same = allWritten(state, bytes) && !std::memcmp(data, from, bytes);
  if (access.agent && std::memchr(state, int(ByteState::InFlight), bytes))
    sink.fault({Check::InFlight,
                "write of " + std::to_string(bytes) +
                    " bytes that an asynchronous operation has yet to write",
                address});
  race(v->races, v->raceOffset + offset, address, bytes, access, same, impl->strict, sink);
  impl->note(address, bytes, true);
  if (from) {
    std::memcpy(data, from, bytes);
    std::memset(state, int(ByteState::Written), bytes);
  } else {
    setState(address, bytes, ByteState::Undefined);
  }
  return true;
}

bool DeviceMemory::readLanes(uint64_t address, uint64_t size, unsigned count, void *to,
                             const Access &access) {
  uint64_t bytes = size * count;
  const View *v = impl->view(address, bytes);
  if (!v)
    return false;
  uint64_t offset = address - v->start;
  if (!allWritten(v->state + offset, bytes) ||
      (v->races && !v->races->accessLanes(v->raceOffset + offset, size, count, access)))
    return false;
  std::memcpy(to, v->data + offset, bytes);
  impl->note(address, bytes, false);
  return true;
}

bool DeviceMemory::writeLanes(uint64_t address, uint64_t size, unsigned count, const void *from,
                              const Access &access) {
  uint64_t bytes = size * count;
  const View *v = impl->view(address, bytes);
  if (!v || v->readOnly)
    return false;
  uint64_t offset = address - v->start;
  uint8_t *state = v->state + offset;
  if (std::memchr(state, int(ByteState::InFlight), bytes) ||
      (v->races && !v->races->accessLanes(v->raceOffset + offset, size, count, access)))
    return false;
  std::memcpy(v->data + offset, from, bytes);
  std::memset(state, int(ByteState::Written), bytes);
  impl->note(address, bytes, true);
  return true;
}

bool DeviceMemory::check(uint64_t address, uint64_t bytes, const Access &access, FaultSink &sink,
                         bool checkWritten) {
  const View *v = impl->view(address, bytes);
  if (!v) {
    if (bytes)
      refuse(*this, address, bytes, access.write, sink);
    return !bytes;
  }
  uint64_t offset = address - v->start;
  if (!access.write && checkWritten && !allWritten(v->state + offset, bytes))
    states(v->state + offset, address, bytes, sink);
  race(v->races, v->raceOffset + offset, address, bytes, access, false, false, sink);
  impl->note(address, bytes, access.write);
  return true;
}

bool DeviceMemory::atomic(uint64_t address, unsigned bytes, void (*update)(void *, void *),
                          void *context, const Access &access, FaultSink &sink) {
  const View *v = impl->view(address, bytes);
  if (!v) {
    refuse(*this, address, bytes, true, sink);
    return false;
  }
  uint64_t offset = address - v->start;
  if (v->readOnly) {
    sink.fault({Check::OutOfBounds, "atomic operation in constant memory", address});
    return false;
  }
  uint8_t *data = v->data + offset, *state = v->state + offset;
  if (!allWritten(state, bytes)) {
    for (unsigned i = 0; i < bytes; ++i)
      if (state[i] == uint8_t(ByteState::Undefined))
        data[i] = poison(address + i);
    states(state, address, bytes, sink);
  }
  race(v->races, v->raceOffset + offset, address, bytes, access, false, false, sink);
  impl->lock(address);
  update(data, context);
  impl->unlock(address);
  impl->note(address, bytes, false);
  impl->note(address, bytes, true);
  std::memset(state, int(ByteState::Written), bytes);
  return true;
}

bool DeviceMemory::read(uint64_t address, uint64_t bytes, void *to, const Access &access,
                        const PlaceOf &place, bool checkWritten) {
  PlaceSink sink(*this, impl->reporter, place, access);
  return read(address, bytes, to, access, sink, checkWritten);
}

bool DeviceMemory::write(uint64_t address, uint64_t bytes, const void *from, const Access &access,
                         const PlaceOf &place) {
  PlaceSink sink(*this, impl->reporter, place, access);
  return write(address, bytes, from, access, sink);
}

bool DeviceMemory::check(uint64_t address, uint64_t bytes, const Access &access,
                         const PlaceOf &place, bool checkWritten) {
  PlaceSink sink(*this, impl->reporter, place, access);
  return check(address, bytes, access, sink, checkWritten);
}

bool DeviceMemory::copy(uint64_t to, uint64_t from, uint64_t bytes, const Access &readAccess,
                        const Access &writeAccess, const PlaceOf &place) {
  if (!bytes)
    return true;
  PlaceSink readSink(*this, impl->reporter, place, readAccess);
  PlaceSink writeSink(*this, impl->reporter, place, writeAccess);
  if (!check(from, bytes, readAccess, readSink, false) ||
      !check(to, bytes, writeAccess, writeSink, false))
    return false;
  View source = *impl->view(from, bytes); // a copy: the next call may take its place
  View target = *impl->view(to, bytes);
  std::memmove(target.data + (to - target.start), source.data + (from - source.start), bytes);
  std::memmove(target.state + (to - target.start), source.state + (from - source.start), bytes);
  return true;
}

void DeviceMemory::setState(uint64_t address, uint64_t bytes, ByteState state) {
  const View *v = impl->view(address, bytes);
  if (!v)
    return;
  uint64_t offset = address - v->start;
  std::memset(v->state + offset, int(state), bytes);
  if (state == ByteState::InFlight)
    poison(address, bytes, v->data + offset);
}

bool DeviceMemory::written(uint64_t address, uint64_t bytes) const {
  const View *v = impl->view(address, bytes);
  return v && allWritten(v->state + (address - v->start), bytes);
}

const uint8_t *DeviceMemory::stateBytes(uint64_t address, uint64_t bytes) const {
  const View *v = impl->view(address, bytes);
  return v ? v->state + (address - v->start) : nullptr;
}

void *DeviceMemory::host(uint64_t address, uint64_t bytes) const {
  const View *v = impl->view(address, bytes);
  return v ? v->data + (address - v->start) : nullptr;
}
