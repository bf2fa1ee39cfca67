//===- RaceShadow.cpp -------------------------------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A cell holds the last write and the last read that nothing later covers. A read that comes before
// the present one in every order is dropped (who is in conflict with it is in conflict with the
// present one too); other reads go into a list beside the cell.
//===----------------------------------------------------------------------===//
#include "Memory/RaceShadow.h"

#include <algorithm>
#include <bit>
#include <new>
#include <optional>
#include <sys/mman.h>

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

struct RaceShadow::Cell {
  uint64_t writer; // AgentId << 24 | time; 0: none
  uint64_t reader; // group << 24 | time; 0: none
  uint32_t readerLanes;
  uint32_t writerWork, readerWork;
  uint32_t writerSite, readerSite;
  uint32_t more; // readers in the list
};

RaceShadow::RaceShadow(uint64_t bytes, bool threadSafe)
    : bytes(bytes), threadSafe(threadSafe), stripes(new Stripe[threadSafe ? numStripes : 1]) {
  mapped = (bytes + 3) / 4 * sizeof(Cell);
  if (!bytes)
    return;
  auto map = [](uint64_t size) {
    void *p = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
      throw std::bad_alloc();
    return static_cast<Cell *>(p);
  };
  cells = map(mapped);
  byteCells = map(4 * mapped);
}

RaceShadow::~RaceShadow() {
  if (cells)
    munmap(cells, mapped);
  if (byteCells)
    munmap(byteCells, 4 * mapped);
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
  if (earlier.work != work) {
    return now.work && earlier.work && now.work->ordered && !now.work->ordered(earlier.work);
  }
  if (earlier.site & hostBit || !now.agent)
    return false; // one after the other within one work of the host
  uint32_t others = earlier.lanes;
  if (earlier.group == now.agent->id.group())
    others &= ~(1u << now.agent->id.lane());
  if (!others)
    return false;
  const uint32_t *times = now.rows.find(*now.agent, now.proxy, earlier.group).times;
  for (; others; others &= others - 1)
    if (!times || times[std::countr_zero(others)] < earlier.time)
      return !(strongAllowed && strongTogether(earlier.group >> 2, earlier.site, now));
  return false;
}

/// AgentClock::afterProxyFence.
static bool afterProxyFence(Epoch epoch, const Access &now) {
  const uint32_t *times = now.rows.find(*now.agent, now.proxy, epoch.agent.group()).proxyTimes;
  return times && times[epoch.agent.lane()] >= epoch.time;
}

bool RaceShadow::accessCell(Stripe &stripe, Cell &cell, const Access &now, bool sameValue,
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
    if (!(now.write && sameValue) && conflicts(writer, now, true)) {
      conflict = {epoch, cell.writerWork, cell.writerSite & siteMask, true, false, 0};
      found = true;
    } else if (now.proxy == Proxy::Async && !(cell.writerSite & (asyncBit | hostBit)) &&
               now.agent && cell.writerWork == work && !afterProxyFence(epoch, now)) {
      conflict = {epoch, cell.writerWork, cell.writerSite & siteMask, true, true, 0};
      found = true;
    }
  }
  uint32_t flags = (now.site & siteMask) | uint32_t(now.scope) << scopeShift |
                   (now.proxy == Proxy::Async ? asyncBit : 0) | (now.agent ? 0 : hostBit);
  AgentId me = now.agent ? now.agent->id : AgentId();
  uint32_t time = now.agent ? std::min(now.agent->time, lastTime) : 1;
  if (now.write) {
    auto check = [&](const Reader &r) {
      if (found || !conflicts(r, now, true))
        return;
      uint32_t others = r.lanes;
      if (now.agent && r.group == me.group() && r.work == work)
        others &= ~(1u << me.lane());
      AgentId id;
      id.value = r.group << 5 | unsigned(std::countr_zero(others ? others : r.lanes));
      conflict = {{id, r.time}, r.work, r.site & siteMask, false, false, 0};
      found = true;
    };
    if (cell.reader)
      check({cell.reader >> 24, uint32_t(cell.reader & lastTime), cell.readerLanes, cell.readerWork,
             cell.readerSite});
    if (cell.more) {
      auto it = stripe.readers.find(&cell);
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
      auto &list = stripe.readers[&cell];
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

/// What most cells of a read need: the writer is known and nobody else reads. Cells side by side mostly have
/// one writer, which is then looked up once.
class RaceShadow::QuickRead {
public:
  explicit QuickRead(const Access &now)
      : now(now), group(now.agent->id.group()),
        reader(group << 24 | std::min(now.agent->time, lastTime)),
        lanes(now.lanes ? now.lanes : 1u << now.agent->id.lane()),
        work(now.work ? now.work->id : 0),
        flags((now.site & siteMask) | uint32_t(now.scope) << scopeShift |
              (now.proxy == Proxy::Async ? asyncBit : 0)) {}

  /// Reads cells from `first` on; returns the first, up to `last`, that needs more.
  uint64_t run(Cell *cells, uint64_t first, uint64_t last) {
    const QuickRead q = *this; // apart from what is written here
    for (; first < last; ++first) {
      Cell &cell = cells[first];
      if (cell.writerSite & splitBit)
        break;
      if (cell.writer &&
          !(now.rows.knows(cell.writer >> 29, uint32_t(cell.writer & lastTime)) &&
            cell.writerWork == q.work && !(cell.writerSite & hostBit)) &&
          !inOrder(cell))
        break;
      if (cell.reader) {
        if (cell.reader >> 24 != q.group || cell.readerWork != q.work)
          break;
        if (cell.reader == q.reader && !((cell.readerSite ^ q.flags) & ~siteMask)) {
          cell.readerLanes |= q.lanes;
          continue;
        }
        if (cell.readerLanes & ~q.lanes)
          break;
      }
      cell.reader = q.reader;
      cell.readerLanes = q.lanes;
      cell.readerWork = q.work;
      cell.readerSite = q.flags;
    }
    return first;
  }

private:
  bool inOrder(const Cell &cell) {
    if (cell.writerWork != work || cell.writerSite & hostBit)
      return false;
    AgentId id;
    id.value = cell.writer >> 24;
    uint32_t time = uint32_t(cell.writer & lastTime);
    const Access::Rows::Row &row = now.rows.find(*now.agent, now.proxy, id.group());
    auto knows = [&](const uint32_t *times) { return times && times[id.lane()] >= time; };
    if (!knows(row.times) && !(id == now.agent->id))
      return false;
    return now.proxy == Proxy::Generic || cell.writerSite & asyncBit || knows(row.proxyTimes);
  }

  const Access &now;
  uint64_t group, reader;
  uint32_t lanes, work, flags;
};

/// From here on the bytes of the cell are looked after one by one.
void RaceShadow::split(Stripe &stripe, uint64_t index) {
  Cell &cell = cells[index];
  bool more = cell.more && stripe.readers.contains(&cell);
  for (unsigned i = 0; i < 4; ++i) {
    Cell &byte = byteCells[index * 4 + i];
    byte = cell;
    if (more) {
      std::vector<Reader> readers = stripe.readers[&cell];
      stripe.readers[&byte] = std::move(readers);
    }
  }
  if (more)
    stripe.readers.erase(&cell);
  cell = Cell();
  cell.writerSite = splitBit;
}

bool RaceShadow::access(uint64_t offset, uint64_t size, const Access &now, bool sameValue,
                        Conflict &conflict) {
  bool found = false;
  std::optional<QuickRead> quick;
  if (!now.write && now.agent)
    quick.emplace(now);
  uint64_t at = offset, end = std::min(offset + size, bytes);
  while (at < end) {
    uint64_t part = threadSafe ? std::min(end, ((at >> stripeShift) + 1) << stripeShift) : end;
    Stripe &stripe = stripes[threadSafe ? (at >> stripeShift) % numStripes : 0];
    if (threadSafe)
      while (stripe.busy.test_and_set(std::memory_order_acquire)) {
      }
    auto one = [&](Cell &cell, uint64_t where) {
      Conflict c;
      if (accessCell(stripe, cell, now, sameValue, c) && !found) {
        found = true;
        conflict = c;
        conflict.offset = where;
      }
    };
    if (quick && (at | part) % 4 == 0)
      at = quick->run(cells, at / 4, part / 4) * 4;
    while (at < part) {
      uint64_t index = at / 4, next = std::min(part, (index + 1) * 4);
      Cell &cell = cells[index];
      bool whole = at % 4 == 0 && next - at == 4;
      if (!(cell.writerSite & splitBit)) {
        if (whole) {
          one(cell, at);
          at = next;
          if (quick && part % 4 == 0)
            at = quick->run(cells, at / 4, part / 4) * 4;
          continue;
        }
        split(stripe, index);
      }
      for (; at < next; ++at)
        one(byteCells[at], at);
    }
    if (threadSafe)
      stripe.busy.clear(std::memory_order_release);
  }
  return found;
}

void RaceShadow::forget(uint64_t offset, uint64_t size) {
  uint64_t end = std::min(offset + size, bytes);
  auto clear = [&](uint64_t first, uint64_t last) { // cells
    for (uint64_t i = first; i < last; ++i) {
      cells[i] = Cell();
      for (unsigned b = 0; b < 4; ++b)
        byteCells[i * 4 + b] = Cell();
    }
  };
  uint64_t first = offset / 4, last = (end + 3) / 4;
  // Whole pages go back to the system, which hands out zeros later.
  constexpr uint64_t page = 4096, perPage = page / 8; // cells between common page borders
  static_assert(sizeof(Cell) % 8 == 0);
  uint64_t a = (first + perPage - 1) / perPage * perPage, b = last / perPage * perPage;
  if (a < b) {
    clear(first, a);
    clear(b, last);
    madvise(cells + a, (b - a) * sizeof(Cell), MADV_DONTNEED);
    madvise(byteCells + a * 4, (b - a) * 4 * sizeof(Cell), MADV_DONTNEED);
  } else {
    clear(first, last);
  }
  for (unsigned s = 0; s < (threadSafe ? numStripes : 1); ++s)
    std::erase_if(stripes[s].readers, [&](const auto &entry) {
      const Cell *c = entry.first;
      return (c >= cells + first && c < cells + last) ||
             (c >= byteCells + first * 4 && c < byteCells + last * 4);
    });
}
