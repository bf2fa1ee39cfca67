//===- RaceShadow.cpp -------------------------------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A cell holds the last write and the last read that nothing later covers. A read that comes before
// the present one in every order is dropped (who is in conflict with it is in conflict with the
// present one too); other reads go into a list beside the cell.
//===----------------------------------------------------------------------===//
#include "Memory/RaceShadow.h"

#include "Support/Clones.h"
#include "Support/OfThread.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>
#include <sys/mman.h>
#include <thread>

using namespace sgpu;

namespace {
// Of a site word: 24 bits of site, 3 of scope, one of proxy, one "split".
constexpr uint32_t siteMask = (1u << 24) - 1;
constexpr unsigned scopeShift = 24;
constexpr uint32_t asyncBit = 1u << 27;
constexpr uint32_t splitBit = 1u << 28; // in writerSite: the byte cells hold what is known
constexpr uint32_t hostBit = 1u << 29;  // no agent
} // namespace

/// One or more lanes of a group at one time.
struct RaceShadow::Reader {
  uint64_t group;
  uint32_t time;
  uint32_t lanes;
  uint32_t work;
  uint32_t site; // with flags
};

/// Eight cells side by side, field by field: one vector operation looks at all of them.
struct alignas(64) RaceShadow::Line {
  static constexpr unsigned cells = 8;
  uint64_t writer[cells]; // AgentId << 24 | time; 0: none
  uint64_t reader[cells]; // group << 24 | time; 0: none
  uint32_t readerLanes[cells];
  uint32_t writerWork[cells], readerWork[cells];
  uint32_t writerSite[cells], readerSite[cells];
  uint32_t more[cells]; // readers in the list
};

/// One of them.
struct RaceShadow::Cell {
  uint64_t key; // of Stripe::readers
  uint64_t &writer, &reader;
  uint32_t &readerLanes, &writerWork, &readerWork, &writerSite, &readerSite, &more;

  Cell(Line &line, unsigned i, uint64_t key)
      : key(key), writer(line.writer[i]), reader(line.reader[i]), readerLanes(line.readerLanes[i]),
        writerWork(line.writerWork[i]), readerWork(line.readerWork[i]),
        writerSite(line.writerSite[i]), readerSite(line.readerSite[i]), more(line.more[i]) {}
  void become(const Cell &other) const {
    writer = other.writer, reader = other.reader, readerLanes = other.readerLanes;
    writerWork = other.writerWork, readerWork = other.readerWork;
    writerSite = other.writerSite, readerSite = other.readerSite, more = other.more;
  }
  void clear() const {
    writer = reader = 0;
    readerLanes = writerWork = readerWork = writerSite = readerSite = more = 0;
  }
};

static constexpr uint64_t byteKey = uint64_t(1) << 63;

inline RaceShadow::Cell RaceShadow::wordCell(uint64_t index) const {
  return {words[index / Line::cells], unsigned(index % Line::cells), index};
}
inline RaceShadow::Cell RaceShadow::byteCell(uint64_t offset) const {
  return {byteLines[offset / Line::cells], unsigned(offset % Line::cells), offset | byteKey};
}

/// Cells of shared memory of blocks that have ended, all zeros, for the next ones: much cheaper than the system's.
struct RaceShadow::Spares {
  struct Spare {
    Line *words, *byteLines;
    uint64_t mapped;
  };
  std::vector<Spare> list;
  static constexpr size_t most = 8;
  ~Spares() {
    for (const Spare &s : list)
      unmap(s.words, s.byteLines, s.mapped);
  }
  static void unmap(Line *words, Line *byteLines, uint64_t mapped) {
    munmap(words, mapped);
    munmap(byteLines, 4 * mapped);
  }
};

RaceShadow::RaceShadow(uint64_t bytes, bool threadSafe)
    : bytes(bytes), threadSafe(threadSafe), stripes(new Stripe[threadSafe ? numStripes : 1]) {
  // Lines of bytes of whole lines of words.
  constexpr uint64_t perLine = 4 * Line::cells;
  mapped = (bytes + perLine - 1) / perLine * sizeof(Line);
  if (!bytes)
    return;
  if (!threadSafe) {
    auto &list = ofThread<Spares>().list;
    auto it = std::find_if(list.begin(), list.end(),
                           [&](const Spares::Spare &s) { return s.mapped == mapped; });
    if (it != list.end()) {
      words = it->words, byteLines = it->byteLines;
      list.erase(it);
      return;
    }
  }
  auto map = [](uint64_t size) {
    void *p = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
      throw std::bad_alloc();
    return static_cast<Line *>(p);
  };
  words = map(mapped);
  byteLines = map(4 * mapped);
}

RaceShadow::~RaceShadow() {
  if (!words)
    return;
  if (threadSafe) {
    Spares::unmap(words, byteLines, mapped);
    return;
  }
  std::memset(static_cast<void *>(words), 0, mapped);
  if (hasSplit)
    madvise(byteLines, 4 * mapped, MADV_DONTNEED);
  auto &list = ofThread<Spares>().list;
  list.push_back({words, byteLines, mapped});
  if (list.size() > Spares::most) {
    Spares::unmap(list.front().words, list.front().byteLines, list.front().mapped);
    list.erase(list.begin());
  }
}

inline RaceShadow::Stripe &RaceShadow::lock(uint64_t offset) {
  Stripe &stripe = stripes[threadSafe ? (offset >> stripeShift) % numStripes : 0];
  if (threadSafe)
    for (unsigned tries = 0; stripe.busy.test_and_set(std::memory_order_acquire); ++tries)
      if (tries > 64) // who holds it may not run
        std::this_thread::yield();
  return stripe;
}

inline void RaceShadow::unlock(Stripe &stripe) {
  if (threadSafe)
    stripe.busy.clear(std::memory_order_release);
}

/// Whether two accesses by different agents are in conflict although nothing orders them: not if both
/// are strong and each one's scope takes in the other's block. Warps lie in order of blocks.
static bool strongTogether(uint64_t warp, uint32_t flags, const Access &now) {
  auto takesIn = [&](unsigned scope, uint64_t a, uint64_t b) {
    switch (Scope(scope)) {
    case Scope::Weak:
      return false;
    case Scope::Cta:
      return a == b;
    case Scope::Cluster:
      return a / now.ctasPerCluster == b / now.ctasPerCluster;
    case Scope::Gpu:
    case Scope::Sys:
      return true;
    }
    return false;
  };
  if (!now.agent || flags & hostBit)
    return false;
  uint64_t mine = now.agent->id.warp() / now.warpsPerCta, other = warp / now.warpsPerCta;
  return takesIn(flags >> scopeShift & 7, other, mine) && takesIn(unsigned(now.scope), mine, other);
}

/// Whether earlier lanes are in conflict with the present access, if one of the two is a write.
bool RaceShadow::conflicts(const Reader &earlier, const Access &now, bool strongAllowed) {
  uint32_t work = now.work ? now.work->id : 0;
  if (earlier.work != work)
    return now.work && !now.found.before(*now.work, earlier.work);
  if (earlier.site & hostBit || !now.agent)
    return false; // one after the other within one work of the host
  uint32_t others = earlier.lanes;
  if (earlier.group == now.agent->id.group())
    others &= ~(1u << now.agent->id.lane());
  if (!others)
    return false;
  const uint32_t *times = now.found.row(*now.agent, now.proxy, earlier.group).times;
  for (; others; others &= others - 1)
    if (!times || times[std::countr_zero(others)] < earlier.time)
      return !(strongAllowed && strongTogether(earlier.group >> 2, earlier.site, now));
  return false;
}

/// AgentClock::afterProxyFence.
static bool afterProxyFence(Epoch epoch, const Access &now) {
  const uint32_t *times = now.found.row(*now.agent, now.proxy, epoch.agent.group()).proxyTimes;
  return times && times[epoch.agent.lane()] >= epoch.time;
}

bool RaceShadow::accessCell(Stripe &stripe, Cell cell, const Access &now, bool sameValue,
                            Conflict &conflict) {
  uint32_t work = now.work ? now.work->id : 0;
  bool found = false;
  // The same lanes have read it at the same time, and nobody has written since.
  if (!now.write && now.agent && cell.reader == (now.agent->id.group() << 24 | now.agent->time) &&
      cell.readerWork == work && now.proxy == Proxy::Generic && now.scope == Scope::Weak &&
      !(cell.readerSite & ~siteMask) &&
      !((now.lanes ? now.lanes : 1u << now.agent->id.lane()) & ~cell.readerLanes))
    return false;
  if (cell.writer) {
    AgentId id;
    id.value = cell.writer >> 24;
    Epoch epoch{id, uint32_t(cell.writer & lastTime)};
    Reader writer{id.group(), epoch.time, 1u << id.lane(), cell.writerWork, cell.writerSite};
    if (conflicts(writer, now, true)) {
      conflict = {epoch, cell.writerWork, cell.writerSite & siteMask,
                  true,  false,           now.write && sameValue};
      found = true;
    }
    if ((!found || conflict.sameValue) && now.proxy == Proxy::Async &&
        !(cell.writerSite & (asyncBit | hostBit)) && now.agent && cell.writerWork == work &&
        !afterProxyFence(epoch, now)) {
      conflict = {epoch, cell.writerWork, cell.writerSite & siteMask, true, true};
      found = true;
    }
  }
  uint32_t flags = (now.site & siteMask) | uint32_t(now.scope) << scopeShift |
                   (now.proxy == Proxy::Async ? asyncBit : 0) | (now.agent ? 0 : hostBit);
  AgentId me = now.agent ? now.agent->id : AgentId();
  uint32_t time = now.agent ? std::min(now.agent->time, lastTime) : 1;
  if (now.write) {
    auto check = [&](const Reader &r) {
      if ((found && !conflict.sameValue) || !conflicts(r, now, true))
        return;
      uint32_t others = r.lanes;
      if (now.agent && r.group == me.group() && r.work == work)
        others &= ~(1u << me.lane());
      AgentId id;
      id.value = r.group << 5 | unsigned(std::countr_zero(others ? others : r.lanes));
      conflict = {{id, r.time}, r.work, r.site & siteMask};
      found = true;
    };
    if (cell.reader)
      check({cell.reader >> 24, uint32_t(cell.reader & lastTime), cell.readerLanes, cell.readerWork,
             cell.readerSite});
    if (cell.more) {
      auto it = stripe.readers.find(cell.key);
      if (it != stripe.readers.end()) {
        for (const Reader &r : it->second)
          check(r);
        stripe.readers.erase(it);
      }
      cell.more = 0;
    }
    cell.reader = 0;
    cell.writer = me.value << 24 | time;
    cell.writerWork = work;
    cell.writerSite = flags;
    return found;
  }
  Reader mine{me.group(), time, now.lanes ? now.lanes : 1u << me.lane(), work, flags};
  auto alike = [&](const Reader &r) {
    return r.group == mine.group && r.time == mine.time && r.work == mine.work &&
           (r.site & ~siteMask) == (mine.site & ~siteMask);
  };
  // Whether the earlier reader says nothing that the present one does not say.
  auto covered = [&](const Reader &r) {
    if (r.group == mine.group && r.work == mine.work && !(r.lanes & ~mine.lanes))
      return true;
    return !conflicts(r, now, false);
  };
  if (cell.reader) {
    Reader old{cell.reader >> 24, uint32_t(cell.reader & lastTime), cell.readerLanes,
               cell.readerWork, cell.readerSite};
    if (alike(old)) {
      cell.readerLanes |= mine.lanes;
      return found;
    }
    if (!covered(old)) {
      auto &list = stripe.readers[cell.key];
      if (list.size() >= 8)
        std::erase_if(list, covered);
      auto it = std::find_if(list.begin(), list.end(), [&](const Reader &r) {
        return r.group == old.group && r.time == old.time && r.work == old.work &&
               (r.site & ~siteMask) == (old.site & ~siteMask);
      });
      if (it != list.end())
        it->lanes |= old.lanes;
      else
        list.push_back(old);
      cell.more = 1;
    }
  }
  cell.reader = mine.group << 24 | mine.time;
  cell.readerLanes = mine.lanes;
  cell.readerWork = work;
  cell.readerSite = flags;
  return found;
}

/// What cells side by side mostly need: all of a line in one go.
struct RaceShadow::Quick {
  explicit Quick(const Access &now)
      : now(now), work(now.work ? now.work->id : 0),
        flags((now.site & siteMask) | uint32_t(now.scope) << scopeShift |
              (now.proxy == Proxy::Async ? asyncBit : 0) | (now.agent ? 0 : hostBit)) {
    AgentId me = now.agent ? now.agent->id : AgentId();
    uint32_t time = now.agent ? std::min(now.agent->time, lastTime) : 1;
    group = me.group();
    first = me.lane();
    lanes = now.lanes ? now.lanes : 1u << first;
    reader = group << 24 | time;
    writer = me.value << 24 | time;
  }

  const Access &now;
  uint64_t group, reader, writer; // as in a cell that this access leaves
  uint32_t work, flags;
  uint32_t lanes, first;
  // Looked up last: every lane of these groups is known up to a time; this work comes before.
  uint64_t writerGroup = ~uint64_t(0), readerGroup = ~uint64_t(0);
  uint32_t writerLeast = 0, readerLeast = 0;
  uint32_t writerBefore = ~0u, readerBefore = ~0u;

  /// Looks up what is known of the work and the group of an entry of a cell.
  void lookWork(uint32_t entryWork, uint32_t &before) const {
    if (entryWork != work && entryWork != before && now.work &&
        now.found.before(*now.work, entryWork))
      before = entryWork;
  }
  void lookGroup(uint64_t entryGroup, uint64_t &ofGroup, uint32_t &least) const {
    if (now.agent && entryGroup != ofGroup) {
      ofGroup = entryGroup;
      least = now.found.least(*now.agent, now.proxy, entryGroup);
    }
  }
};

// Vectors of a field of a line, and of what is true of its cells (all ones).
typedef uint64_t Longs __attribute__((vector_size(64)));
typedef uint32_t Ints __attribute__((vector_size(32)));
typedef int64_t LongTruths __attribute__((vector_size(64)));
typedef int32_t Truths __attribute__((vector_size(32)));

/// The access to `cells` (a bit for each) of a line, if nothing is in conflict and no list of readers has to
/// change: then true. Else nothing is done. With `shift` < 32 cell i is of lane q.first + ((lane + i) >> shift), else
/// all are of the agent, or the lanes, of the access.
// No lambdas here: they would not be cloned.
SGPU_CLONES
bool RaceShadow::quickLine(Line &line, uint32_t cells, Quick &q, unsigned shift, uint32_t lane) {
  const Access &now = q.now;
  const Ints iota{0, 1, 2, 3, 4, 5, 6, 7};
  const Truths active = ((Ints{} + cells) >> iota & 1) != 0;
  Ints lanes = Ints{} + q.lanes;
  Longs own = Longs{} + (q.writer >> 24);
  if (shift < 32) {
    Ints l = (q.first + ((iota + lane) >> shift)) & 31;
    lanes = (Ints{} + 1) << l;
    own = (own & ~uint64_t(31)) + __builtin_convertvector(l, Longs);
  }
  const unsigned f = unsigned(std::countr_zero(cells));
  auto *writer = reinterpret_cast<Longs *>(line.writer);
  auto *reader = reinterpret_cast<Longs *>(line.reader);
  auto *writerWork = reinterpret_cast<Ints *>(line.writerWork);
  auto *readerWork = reinterpret_cast<Ints *>(line.readerWork);
  auto *writerSite = reinterpret_cast<Ints *>(line.writerSite);
  auto *readerSite = reinterpret_cast<Ints *>(line.readerSite);
  auto *readerLanes = reinterpret_cast<Ints *>(line.readerLanes);

  // Who wrote.
  if (line.writer[f]) {
    if (line.writerWork[f] == q.work)
      q.lookGroup(line.writer[f] >> 29, q.writerGroup, q.writerLeast);
    else
      q.lookWork(line.writerWork[f], q.writerBefore);
  }
  LongTruths told = LongTruths{} - 1;
  Truths noHost = Truths{} - 1;
  if (now.agent) {
    told = ((*writer >> 29) == q.writerGroup) & ((*writer & lastTime) <= q.writerLeast);
    if (now.proxy == Proxy::Generic)
      told |= (*writer >> 24) == own;
    noHost = (*writerSite & hostBit) == 0;
  }
  LongTruths none = *writer == 0;
  Truths good = (__builtin_convertvector(told, Truths) & noHost & (*writerWork == q.work)) |
                __builtin_convertvector(none, Truths) | (*writerWork == q.writerBefore);
  good &= (*writerSite & splitBit) == 0;

  // Who read.
  if (line.reader[f] && line.readerWork[f] != q.work)
    q.lookWork(line.readerWork[f], q.readerBefore);
  none = *reader == 0;
  const Truths nobody = __builtin_convertvector(none, Truths) | (*readerWork == q.readerBefore);
  const Truths sameWork = *readerWork == q.work;
  Truths mine = sameWork;
  if (now.agent) {
    told = (*reader >> 24) == q.group;
    mine &= __builtin_convertvector(told, Truths) & ((*readerLanes & ~lanes) == 0);
  }
  const LongTruths wide = __builtin_convertvector(active, LongTruths);
  if (now.write) {
    if (now.agent) {
      if (line.reader[f] && line.readerWork[f] == q.work)
        q.lookGroup(line.reader[f] >> 24, q.readerGroup, q.readerLeast);
      told = ((*reader >> 24) == q.readerGroup) & ((*reader & lastTime) <= q.readerLeast);
      mine |= sameWork & __builtin_convertvector(told, Truths);
      mine &= (*readerSite & hostBit) == 0;
    }
    good &= (nobody | mine) & (*reinterpret_cast<Ints *>(line.more) == 0);
    if (__builtin_reduce_or(active & ~good))
      return false;
    *reader = wide ? Longs{} : *reader;
    *writer = wide ? own << 24 | (q.writer & lastTime) : *writer;
    *writerWork = active ? Ints{} + q.work : *writerWork;
    *writerSite = active ? Ints{} + q.flags : *writerSite;
    return true;
  }
  told = *reader == q.reader;
  const Truths alike = __builtin_convertvector(told, Truths) & sameWork &
                       (((*readerSite ^ q.flags) & ~siteMask) == 0);
  good &= nobody | mine | alike;
  if (__builtin_reduce_or(active & ~good))
    return false;
  *reader = wide ? Longs{} + q.reader : *reader;
  *readerLanes = active ? (*readerLanes & (Ints)alike) | lanes : *readerLanes;
  *readerWork = active ? Ints{} + q.work : *readerWork;
  *readerSite = active & ~alike ? Ints{} + q.flags : *readerSite;
  return true;
}

/// A bit for each of the cells [from, to) of one line.
static uint32_t maskOfCells(uint64_t from, uint64_t to) {
  return (2u << (to - 1) % 8) - (1u << from % 8);
}

/// Accesses whole words from `at` on, within one stripe; returns the start of the first that need more, in a line
/// of words of its own.
uint64_t RaceShadow::quickRange(Quick &q, uint64_t at, uint64_t end) const {
  constexpr unsigned n = Line::cells;
  while (at < end) {
    uint64_t next = std::min(end, (at / (4 * n) + 1) * (4 * n));
    Line &line = words[at / (4 * n)];
    if (!(line.writerSite[at / 4 % n] & splitBit)) {
      if (!quickLine(line, maskOfCells(at / 4, next / 4), q, 32, 0))
        return at;
      at = next;
      continue;
    }
    for (uint64_t i = at / 4; i < next / 4; ++i)
      if (!(line.writerSite[i % n] & splitBit))
        return at;
    for (uint64_t b = at; b < next; b = (b / n + 1) * n)
      if (!quickLine(byteLines[b / n], maskOfCells(b, std::min(next, (b / n + 1) * n)), q, 32, 0))
        return at;
    if (q.now.write)
      for (uint64_t i = at / 4; i < next / 4; ++i)
        wordCell(i).become(byteCell(4 * i));
    at = next;
  }
  return at;
}

size_t RaceShadow::accessRanges(std::span<const ByteRange> ranges, const Access &access) {
  Quick q(access);
  for (size_t i = 0; i < ranges.size(); ++i) {
    uint64_t at = ranges[i].offset, end = at + ranges[i].bytes;
    if ((at | end) % 4 || end > bytes || quickRange(q, at, end) != end)
      return i;
  }
  return ranges.size();
}

bool RaceShadow::accessLanes(uint64_t offset, uint64_t size, unsigned count, const Access &now) {
  constexpr unsigned n = Line::cells;
  uint64_t end = offset + size * count;
  if (!std::has_single_bit(size) || offset % size || end > bytes)
    return false;
  Quick q(now);
  const unsigned shift = unsigned(std::countr_zero(size));
  // Cells [from, to) of one form; that of the first lane is `start`.
  auto run = [&](Line *lines, uint64_t from, uint64_t to, uint64_t start, unsigned shiftOfCells) {
    for (uint64_t c = from; c < to; c = (c / n + 1) * n) {
      uint64_t base = c / n * n;
      if (!quickLine(lines[c / n], maskOfCells(c, std::min(to, base + n)), q, shiftOfCells,
                     uint32_t(base - start)))
        return false;
    }
    return true;
  };
  bool good = true;
  for (uint64_t at = offset; at < end && good;) {
    uint64_t part = threadSafe ? std::min(end, ((at >> stripeShift) + 1) << stripeShift) : end;
    Stripe &stripe = lock(at);
    while (at < part && good) {
      uint64_t next = std::min(part, (at / (4 * n) + 1) * (4 * n)); // of one line of words
      unsigned splits = 0, all = 0;
      for (uint64_t i = at / 4; i < (next + 3) / 4; ++i, ++all)
        splits += (words[i / n].writerSite[i % n] & splitBit) != 0;
      if (!splits && size >= 4)
        good = run(words, at / 4, next / 4, offset / 4, shift - 2);
      else
        good = splits == all && run(byteLines, at, next, offset, shift);
      at = next;
    }
    unlock(stripe);
  }
  return good;
}

/// From here on the bytes of the cell are looked after one by one.
void RaceShadow::split(Stripe &stripe, uint64_t index) {
  if (!threadSafe)
    hasSplit = true;
  Cell cell = wordCell(index);
  auto list = cell.more ? stripe.readers.find(cell.key) : stripe.readers.end();
  bool more = list != stripe.readers.end();
  std::vector<Reader> readers;
  if (more) {
    readers = std::move(list->second);
    stripe.readers.erase(list);
  }
  for (unsigned i = 0; i < 4; ++i) {
    Cell byte = byteCell(index * 4 + i);
    byte.become(cell);
    if (more)
      stripe.readers[byte.key] = readers;
  }
  cell.clear();
  cell.writerSite = splitBit;
}

bool RaceShadow::access(uint64_t offset, uint64_t size, const Access &now, bool sameValue,
                        Conflict &conflict) {
  bool found = false;
  Quick quick(now);
  uint64_t at = offset, end = std::min(offset + size, bytes);
  while (at < end) {
    uint64_t part = threadSafe ? std::min(end, ((at >> stripeShift) + 1) << stripeShift) : end;
    Stripe &stripe = lock(at);
    auto one = [&](Cell cell, uint64_t where) {
      Conflict c;
      if (accessCell(stripe, cell, now, sameValue, c) &&
          (!found || (conflict.sameValue && !c.sameValue))) {
        found = true;
        conflict = c;
        conflict.offset = where;
      }
    };
    while (at < part) {
      if (at % 4 == 0 && part - at > 4) {
        at = quickRange(quick, at, part & ~uint64_t(3));
        if (at >= part)
          break;
      }
      // The rest of the line of words, one after the other.
      uint64_t stop = std::min(part, (at / (4 * Line::cells) + 1) * (4 * Line::cells));
      while (at < stop) {
        uint64_t index = at / 4, next = std::min(stop, (index + 1) * 4);
        Cell cell = wordCell(index);
        bool whole = at % 4 == 0 && next - at == 4;
        if (!(cell.writerSite & splitBit)) {
          if (whole) {
            one(cell, at);
            at = next;
            continue;
          }
          split(stripe, index);
        }
        for (; at < next; ++at)
          one(byteCell(at), at);
        if (whole && now.write) // the four say the same now
          cell.become(byteCell(index * 4));
      }
    }
    unlock(stripe);
  }
  return found;
}

void RaceShadow::forget(uint64_t offset, uint64_t size) {
  uint64_t end = std::min(offset + size, bytes);
  uint64_t first = offset / 4, last = (end + 3) / 4; // words
  // What the cells of bytes hold counts only while their word is split, and `split` sets all of it.
  auto clear = [&](uint64_t from, uint64_t to) {
    for (uint64_t i = from; i < to; ++i)
      wordCell(i).clear();
  };
  // Whole pages go back to the system, which hands out zeros later: lines between common borders of pages.
  constexpr uint64_t page = 4096, perPage = page / 64 * Line::cells;
  static_assert(sizeof(Line) % 64 == 0);
  uint64_t a = (first + perPage - 1) / perPage * perPage, b = last / perPage * perPage;
  if (a < b) {
    clear(first, a);
    clear(b, last);
    uint64_t lines = (b - a) / Line::cells;
    madvise(words + a / Line::cells, lines * sizeof(Line), MADV_DONTNEED);
    madvise(byteLines + a / Line::cells * 4, lines * 4 * sizeof(Line), MADV_DONTNEED);
  } else {
    clear(first, last);
  }
  if (first >= last)
    return;
  const uint64_t firstStripe = threadSafe ? first * 4 >> stripeShift : 0;
  const uint64_t lastStripe = threadSafe ? (last * 4 - 1) >> stripeShift : 0;
  for (uint64_t s = firstStripe; s <= std::min(lastStripe, firstStripe + numStripes - 1); ++s)
    if (auto &readers = stripes[s % numStripes].readers; !readers.empty())
      std::erase_if(readers, [&](const auto &entry) {
        uint64_t word = entry.first & byteKey ? (entry.first & ~byteKey) / 4 : entry.first;
        return word >= first && word < last;
      });
}
