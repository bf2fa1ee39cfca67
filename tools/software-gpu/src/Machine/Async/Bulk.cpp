//===- Bulk.cpp - Bulk copies and reductions, plain and by tensor maps --------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// cp.async.bulk, cp.async.bulk.tensor (tile mode), their reductions and prefetches; st.async and
// red.async. Each operation of a thread, and of each destination of a multicast, is one object in the
// queue of the cluster. It works in the async proxy, in two steps: it reads its source, then writes
// its destination and signals; cp.async.bulk.wait_group.read forces only the first.
// Source: PTX ISA 9.0, 9.7.9.25 to 9.7.9.27.
//===----------------------------------------------------------------------===//
#include "Machine/Async/Reduce.h"
#include "Machine/Async/State.h"
#include "Machine/Async/TensorMap.h"
#include "Machine/Decoders.h"
#include "Machine/Launch.h"
#include "Machine/Tensor/Descriptor.h"

#include <cstring>

namespace sgpu {

using ptx::Modifier;
using ptx::Opcode;

/// One bulk operation. Its agent has two times: of its reads, and of its writes. It is one of 32
/// that its warp takes in turn: copies of one thread complete in any order, and that one of them is
/// over tells nothing of the others.
class BulkCopy {
public:
  // Who.
  Block *issuer;
  Warp *warp;
  unsigned lane;
  const Instruction *in;
  const char *what;
  Place place;
  Knowledge known;
  AgentId agent;
  uint32_t readTime, writeTime;
  // From where to where. Global addresses, or offsets in the shared memory of a block.
  Block *fromShared = nullptr, *toShared = nullptr;
  uint64_t from = 0, to = 0;
  uint64_t bytes = 0;
  bool tensor = false; ///< the global side is a box of `map`
  TensorMap map;
  int32_t coordinates[TensorMap::maxRank] = {};
  bool reduces = false;
  Reduction reduction;
  bool genericProxy = false; ///< st.async, red.async
  // What it tells.
  bool signals = false;
  uint32_t barrier = 0; ///< offset in toShared

  std::vector<uint8_t> data;    ///< as in shared memory, before swizzling
  std::vector<uint8_t> unknown; ///< of data: bytes without a value; empty: none
  bool readDone = false;
  Task task;

  void readSource();
  void complete();
  Actor actor(AgentClock &clock, uint32_t time) const;

private:
  void loadTensor(const Actor &actor);
  void readGlobal(const Actor &actor, uint64_t address, uint64_t size, uint64_t at);
  void writeGlobal(const Actor &actor, uint64_t address, uint64_t size, const uint8_t *from);
  void writeShared(const Actor &actor);
  void reduce(Block &block, const Actor &actor, Space space, uint64_t address, uint64_t size,
              const uint8_t *values);
};

namespace {

/// Calls f(address, offset in data, bytes) for pieces of a tile in shared memory; whole if it is not
/// swizzled.
template <typename F> void forTile(uint32_t start, uint64_t bytes, uint32_t swizzleBytes, F f) {
  if (!swizzleBytes)
    return f(start, uint64_t(0), bytes);
  for (uint64_t at = 0; at < bytes; at += 16)
    f(swizzled(start + uint32_t(at), swizzleBytes), at, std::min<uint64_t>(16, bytes - at));
}

} // namespace

Actor BulkCopy::actor(AgentClock &clock, uint32_t time) const {
  clock.id = agent;
  clock.time = time;
  clock.known = known;
  Actor a;
  a.warp = warp, a.lane = lane, a.instruction = in, a.clock = &clock, a.what = what;
  a.proxy = genericProxy ? Proxy::Generic : Proxy::Async;
  a.place = &place;
  return a;
}

void BulkCopy::readGlobal(const Actor &actor, uint64_t address, uint64_t size, uint64_t at) {
  issuer->read(actor, Space::Global, address, uint32_t(size), data.data() + at, 1, false);
  DeviceMemory &memory = memoryOf(*issuer);
  if (memory.written(address, size))
    return;
  unknown.resize(data.size());
  for (uint64_t i = 0; i < size; ++i)
    unknown[at + i] = !memory.written(address + i, 1);
}

void BulkCopy::loadTensor(const Actor &actor) {
  uint32_t element = bytesOf(map.type);
  uint64_t fill = map.fillBits();
  for (uint64_t i = 0; i < data.size(); i += element)
    std::memcpy(data.data() + i, &fill, element);
  map.forEachRow(coordinates, [&](const TensorMap::Row &row) {
    if (row.first < row.last)
      readGlobal(actor, row.global + row.first * element, (row.last - row.first) * element,
                 row.offset + row.first * element);
  });
  if (map.type == TensorMapType::F32Ftz || map.type == TensorMapType::TF32Ftz)
    for (uint64_t i = 0; i < data.size(); i += 4) {
      uint32_t bits;
      std::memcpy(&bits, data.data() + i, 4);
      if (!(bits & 0x7f800000))
        bits &= 0x80000000;
      std::memcpy(data.data() + i, &bits, 4);
    }
}

void BulkCopy::readSource() {
  if (readDone)
    return;
  readDone = true;
  if (data.size() == bytes)
    return; // st.async brings its data
  AgentClock clock;
  Actor who = actor(clock, readTime);
  data.resize(bytes);
  if (!fromShared) {
    if (tensor)
      loadTensor(who);
    else
      readGlobal(who, from, bytes, 0);
    return;
  }
  // From shared memory: only what exists in the tensor is used.
  std::vector<uint8_t> used(tensor ? bytes : 0);
  if (tensor)
    map.forEachRow(coordinates, [&](const TensorMap::Row &row) {
      uint32_t element = bytesOf(map.type);
      std::memset(used.data() + row.offset + row.first * element, 1,
                  (row.last - row.first) * element);
    });
  forTile(uint32_t(from), bytes, tensor ? map.swizzleBytes() : 0,
          [&](uint32_t address, uint64_t at, uint64_t size) {
            bool any = !tensor || std::memchr(used.data() + at, 1, size);
            if (any)
              fromShared->read(who, Space::Shared, address, uint32_t(size), data.data() + at, 1,
                               !tensor || !std::memchr(used.data() + at, 0, size));
          });
}

void BulkCopy::reduce(Block &block, const Actor &who, Space space, uint64_t address, uint64_t size,
                      const uint8_t *values) {
  struct Context {
    const Reduction &reduction;
    const uint8_t *value;
  } context{reduction, values};
  unsigned step = reduction.bytes();
  for (uint64_t i = 0; i < size; i += step, context.value += step)
    block.atomic(
        who, space, address + i, step,
        [](void *place, void *c) {
          auto &[reduction, from] = *static_cast<Context *>(c);
          uint64_t old = 0, value = 0;
          std::memcpy(&old, place, reduction.bytes());
          std::memcpy(&value, from, reduction.bytes());
          old = reduction.apply(old, value);
          std::memcpy(place, &old, reduction.bytes());
        },
        &context);
}

void BulkCopy::writeGlobal(const Actor &who, uint64_t address, uint64_t size,
                           const uint8_t *values) {
  if (!reduces) {
    memoryOf(*issuer).setState(address, size, ByteState::Undefined); // no longer in flight
    issuer->write(who, Space::Global, address, uint32_t(size), values, 1);
    return;
  }
  reduce(*issuer, who, Space::Global, address, size, values);
}

void BulkCopy::writeShared(const Actor &who) {
  uint32_t swizzleBytes = tensor ? map.swizzleBytes() : 0;
  Block &block = *toShared;
  if (reduces) {
    reduce(block, who, Space::Shared, to, bytes, data.data());
    return;
  }
  // The swizzle mostly permutes within the tile; then one write does.
  std::vector<uint8_t> image(bytes), lacks(unknown.empty() ? 0 : bytes);
  bool within = true;
  forTile(uint32_t(to), bytes, swizzleBytes, [&](uint32_t address, uint64_t at, uint64_t size) {
    within &= address >= to && address + size <= to + bytes;
    if (!within)
      return;
    std::memcpy(image.data() + (address - to), data.data() + at, size);
    if (!unknown.empty())
      std::memcpy(lacks.data() + (address - to), unknown.data() + at, size);
  });
  auto put = [&](uint32_t address, uint64_t size, const uint8_t *values, const uint8_t *undefined) {
    block.shared.setState(address, uint32_t(size), ByteState::Undefined); // no longer in flight
    block.write(who, Space::Shared, address, uint32_t(size), values, 1);
    for (uint64_t i = 0; undefined && i < size; ++i)
      if (undefined[i])
        block.shared.setState(uint32_t(address + i), 1, ByteState::Undefined);
  };
  if (within)
    return put(uint32_t(to), bytes, image.data(), unknown.empty() ? nullptr : lacks.data());
  forTile(uint32_t(to), bytes, swizzleBytes, [&](uint32_t address, uint64_t at, uint64_t size) {
    put(address, size, data.data() + at, unknown.empty() ? nullptr : unknown.data() + at);
  });
}

void BulkCopy::complete() {
  readSource();
  if (toShared && toShared != issuer && !toShared->live) {
    reportAt(*issuer, Check::OutOfBounds, place,
             "writes to shared memory of a block of the cluster that has exited");
    return;
  }
  AgentClock clock;
  Actor who = actor(clock, writeTime);
  if (reduces)
    who.scope = Scope::Gpu;
  if (toShared)
    writeShared(who);
  else if (tensor)
    map.forEachRow(coordinates, [&](const TensorMap::Row &row) {
      uint32_t element = bytesOf(map.type);
      if (row.first < row.last)
        writeGlobal(who, row.global + row.first * element, (row.last - row.first) * element,
                    data.data() + row.offset + row.first * element);
    });
  else
    writeGlobal(who, to, bytes, data.data());
  if (signals) {
    PlaceOf at = [this] { return place; };
    if (MBarrier *b = findMBarrier(*toShared, barrier, at)) {
      Knowledge k;
      tellCompletion(k, clock.id, writeTime);
      completeBytes(*toShared, barrier, *b, uint32_t(bytes), k, at);
    }
  }
  data = {};
  unknown = {};
  issuer->notify();
}

namespace {

struct BulkExtra {
  AddressOperand to, from, barrier, map;
  std::vector<Operand> coordinates;
  Operand size, mask;
  std::vector<Operand> values; ///< st.async, red.async
  bool toShared = false, fromShared = false, remote = false, signals = false, tensor = false;
  bool reduces = false, prefetch = false, multicast = false, asyncStore = false;
  uint32_t rank = 0;
  Reduction reduction;
  Space toSpace = Space::Shared;
  const char *what = "";
};

/// Marks what it will write as in flight, and puts it into the queue and its group.
void start(Warp &warp, std::shared_ptr<BulkCopy> copy) {
  Block &block = warp.block;
  std::vector<Pending::Range> writes;
  DeviceMemory &memory = memoryOf(block);
  if (!copy->reduces) {
    if (copy->toShared) {
      forTile(uint32_t(copy->to), copy->bytes, copy->tensor ? copy->map.swizzleBytes() : 0,
              [&](uint32_t address, uint64_t, uint64_t size) {
                copy->toShared->shared.setState(address, uint32_t(size), ByteState::InFlight);
              });
      writes.push_back({copy->toShared, Space::Shared, copy->to, copy->bytes});
    } else if (copy->tensor) {
      uint32_t element = bytesOf(copy->map.type);
      copy->map.forEachRow(copy->coordinates, [&](const TensorMap::Row &row) {
        if (row.first == row.last)
          return;
        uint64_t address = row.global + row.first * element;
        uint64_t size = (row.last - row.first) * element;
        memory.setState(address, size, ByteState::InFlight);
        writes.push_back({nullptr, Space::Global, address, size});
      });
    } else {
      memory.setState(copy->to, copy->bytes, ByteState::InFlight);
      writes.push_back({nullptr, Space::Global, copy->to, copy->bytes});
    }
  }
  if (!copy->signals)
    asyncOf(warp).bulk[copy->lane].open.push_back(copy);
  BulkCopy *c = copy.get();
  copy->task.start(
      block.cluster, copy->place, std::move(writes), [c, keep = copy] { c->complete(); },
      [c] { return !c->toShared && (!c->fromShared || c->readDone); });
}

/// The thread must know of the mbarrier.init.
bool knowsInit(Warp &warp, unsigned lane, const Instruction &in, const MBarrier &barrier) {
  const AgentClock &clock = warp.clocks[lane];
  if (clock.knowsInit(barrier.madeBy)) {
    if (warp.block.launch.strict && !clock.initFenced(barrier.madeBy))
      warp.report(
          Check::Strict, lane, in,
          "the copy signals an mbarrier whose mbarrier.init neither fence.mbarrier_init nor "
          "fence.proxy.async has published");
    return true;
  }
  warp.report(Check::Race, lane, in,
              "mbarrier used without an order after its mbarrier.init by another thread");
  return false;
}

/// Checks the rows of a box in global memory; false if one does not exist.
bool checkBox(Block &block, const Actor &actor, const TensorMap &map, const int32_t *coordinates,
              bool write) {
  bool ok = true;
  uint32_t element = bytesOf(map.type);
  map.forEachRow(coordinates, [&](const TensorMap::Row &row) {
    if (ok && row.first < row.last)
      ok = block.check(actor, Space::Global, row.global + row.first * element,
                       (row.last - row.first) * element, 1, write);
  });
  return ok;
}

/// The tensor map of a lane; false if there is none (reported).
bool readMap(const Actor &actor, uint64_t address, uint32_t rank, TensorMap &map) {
  alignas(64) uint8_t bytes[TensorMap::encodedBytes];
  if (!actor.warp->block.read(actor, Space::Generic, address, sizeof bytes, bytes,
                              TensorMap::encodedAlignment))
    return false;
  std::string fault;
  if (!TensorMap::decode(bytes, map))
    fault = "the address of the tensor map does not hold a valid one";
  else if (map.rank != rank)
    fault = "the tensor map has rank " + std::to_string(map.rank) + ", but the instruction is ." +
            std::to_string(rank) + "d";
  else
    fault = map.check(90);
  if (fault.empty())
    return true;
  actor.warp->report(Check::Argument, actor.lane, *actor.instruction, fault);
  return false;
}

ptx::Type reductionType(TensorMapType type) {
  switch (type) {
  case TensorMapType::U32:
    return ptx::Type::U32;
  case TensorMapType::S32:
    return ptx::Type::S32;
  case TensorMapType::U64:
    return ptx::Type::U64;
  case TensorMapType::S64:
    return ptx::Type::S64;
  case TensorMapType::F16:
    return ptx::Type::F16;
  case TensorMapType::BF16:
    return ptx::Type::BF16;
  case TensorMapType::F32:
  case TensorMapType::F32Ftz:
    return ptx::Type::F32;
  case TensorMapType::F64:
    return ptx::Type::F64;
  default:
    return ptx::Type::None;
  }
}

void issueLane(Warp &warp, const Instruction &in, const BulkExtra &x, unsigned l) {
  Block &block = warp.block;
  WarpAsync &async = asyncOf(warp);
  Actor who = warp.actor(l, in);
  who.what = x.what;
  auto reject = [&](Check check, std::string message) {
    warp.report(check, l, in, std::move(message));
  };

  auto copy = std::make_shared<BulkCopy>();
  copy->issuer = &block, copy->warp = &warp, copy->lane = l, copy->in = &in, copy->what = x.what;
  copy->tensor = x.tensor, copy->reduces = x.reduces, copy->reduction = x.reduction;
  copy->signals = x.signals, copy->genericProxy = x.asyncStore;
  if (x.tensor) {
    if (!readMap(who, warp.address(x.map, l), x.rank, copy->map))
      return;
    for (uint32_t d = 0; d < x.rank; ++d)
      copy->coordinates[d] = int32_t(warp.value(x.coordinates[d], l));
    copy->bytes = copy->map.boxBytes();
    if (x.reduces) {
      copy->reduction.type = reductionType(copy->map.type);
      if (!copy->reduction.exists())
        return reject(Check::Argument, std::string("reduction that does not exist for elements ") +
                                           nameOf(copy->map.type));
    }
  } else if (x.asyncStore) {
    for (const Operand &v : x.values) {
      uint64_t value = warp.value(v, l);
      const auto *p = reinterpret_cast<const uint8_t *>(&value);
      copy->data.insert(copy->data.end(), p, p + in.bytes);
    }
    copy->bytes = copy->data.size();
  } else {
    copy->bytes = uint32_t(warp.value(x.size, l));
    if (copy->bytes % 16)
      return reject(Check::Argument, "size " + std::to_string(copy->bytes) +
                                         " of a bulk copy is not a multiple of 16");
  }
  if (!copy->bytes)
    return;
  uint32_t sharedAlignment = x.tensor ? 128 : x.asyncStore ? uint32_t(copy->bytes) : 16;

  // The source.
  if (x.fromShared) {
    uint64_t address = warp.address(x.from, l);
    uint32_t offset = 0;
    Block *source = sharedTarget(who, Space::Shared, address, offset);
    if (!source || !block.check(who, Space::Shared, address, copy->bytes, sharedAlignment, false))
      return;
    reportInFlight(who, *source, offset, copy->bytes, "reads");
    copy->fromShared = source, copy->from = offset;
  } else if (!x.asyncStore && !x.tensor) {
    copy->from = warp.address(x.from, l);
    if (!block.check(who, Space::Global, copy->from, copy->bytes, 16, false))
      return;
  }
  if (x.tensor && !checkBox(block, who, copy->map, copy->coordinates, !x.toShared && !x.prefetch))
    return;
  if (x.prefetch)
    return;

  // The destinations.
  std::vector<Block *> targets;
  if (x.toShared) {
    uint64_t address = warp.address(x.to, l);
    uint32_t offset = 0;
    Block *target = sharedTarget(who, x.toSpace, address, offset);
    if (!target || !block.check(who, x.toSpace, address, copy->bytes, sharedAlignment, true))
      return;
    copy->to = offset;
    if (x.multicast) {
      uint32_t mask = uint32_t(warp.value(x.mask, l)) & 0xffff;
      if (!mask || mask >> block.cluster.blocks.size())
        return reject(Check::Argument, "multicast mask names blocks that the cluster of " +
                                           std::to_string(block.cluster.blocks.size()) +
                                           " does not have, or none");
      for (auto &b : block.cluster.blocks)
        if (mask >> b->rank & 1)
          targets.push_back(b.get());
    } else {
      targets.push_back(target);
    }
    if (x.signals) {
      uint32_t barrier = 0;
      Block *at = sharedTarget(who, x.toSpace, warp.address(x.barrier, l), barrier);
      if (!at)
        return;
      if (!x.multicast && at != target)
        return reject(Check::Argument, "the mbarrier is not in the block that the copy writes to");
      PlaceOf place = [&] { return warp.place(l, in); };
      MBarrier *b = findMBarrier(x.multicast ? *at : *target, barrier, place);
      if (!b)
        return;
      knowsInit(warp, l, in, *b);
      copy->barrier = barrier;
    }
    for (Block *t : targets)
      forTile(uint32_t(copy->to), copy->bytes, x.tensor ? copy->map.swizzleBytes() : 0,
              [&, reported = false](uint32_t at, uint64_t, uint64_t size) mutable {
                if (!reported && !x.reduces)
                  reported = reportInFlight(who, *t, at, size, "overwrites");
              });
  } else {
    if (!x.tensor) {
      copy->to = warp.address(x.to, l);
      if (!block.check(who, Space::Global, copy->to, copy->bytes, 16, true))
        return;
    }
    targets.push_back(nullptr);
  }
  copy->place = warp.place(l, in);
  copy->place.what = x.what;
  copy->known = startedBy(warp, 1u << l);
  const unsigned agent = (l + async.bulkCopies[l]++) % 32;
  async.bulkIssuer[agent] = uint8_t(l);
  copy->agent = AgentId(warp.id, AgentKind::Bulk, agent);
  copy->readTime = ++async.bulkTime[agent];
  copy->writeTime = ++async.bulkTime[agent];
  for (Block *t : targets) {
    auto one = t == targets.back() ? copy : std::make_shared<BulkCopy>(*copy);
    one->toShared = t;
    start(warp, one);
  }
}

Step runBulk(Warp &warp, const Instruction &in) {
  const auto &x = *static_cast<const BulkExtra *>(in.extra);
  forLanes(warp.active, [&](unsigned l) { issueLane(warp, in, x, l); });
  return Step::Next;
}

Step runCommit(Warp &warp, const Instruction &) {
  WarpAsync &async = asyncOf(warp);
  forLanes(warp.active, [&](unsigned l) {
    BulkLane &lane = async.bulk[l];
    lane.groups.push_back(std::move(lane.open));
    lane.open.clear();
  });
  return Step::Next;
}

/// mode[0]: groups that may stay pending; mode[1]: .read.
Step runWait(Warp &warp, const Instruction &in) {
  WarpAsync &async = asyncOf(warp);
  forLanes(warp.active, [&](unsigned l) {
    BulkLane &lane = async.bulk[l];
    Knowledge k;
    if (in.mode[1]) {
      for (size_t g = 0; g + in.mode[0] < lane.groups.size(); ++g)
        for (auto &copy : lane.groups[g]) {
          copy->readSource();
          tellCompletion(k, copy->agent, copy->readTime);
        }
    } else {
      while (lane.groups.size() > in.mode[0]) {
        for (auto &copy : lane.groups.front()) {
          copy->task.finish(warp.block.cluster);
          tellCompletion(k, copy->agent, copy->writeTime);
        }
        lane.groups.pop_front();
      }
    }
    warp.clocks[l].acquire(k);
  });
  return Step::Next;
}

Reduction decodeReduction(DecodeContext &c, ptx::Type type) {
  Reduction r;
  r.operation = c.ast.firstOf({Modifier::Add, Modifier::Min, Modifier::Max, Modifier::Inc,
                               Modifier::Dec, Modifier::And, Modifier::Or, Modifier::Xor});
  r.type = type;
  if (r.operation == Modifier::Type)
    c.fail("expects a reduction: .add, .min, .max, .inc, .dec, .and, .or or .xor");
  return r;
}

/// Spaces of destination and source, as PTX has them for the opcode.
void decodeSpaces(DecodeContext &c, BulkExtra &x) {
  if (c.ast.spaces.size() != 2)
    c.fail("expects the state spaces of destination and source");
  ptx::StateSpace to = c.ast.space(0), from = c.ast.space(1);
  x.toShared = to == ptx::StateSpace::SharedCluster || to == ptx::StateSpace::SharedCta ||
               to == ptx::StateSpace::Shared;
  x.remote = to == ptx::StateSpace::SharedCluster;
  x.fromShared = from == ptx::StateSpace::SharedCta || from == ptx::StateSpace::Shared;
  bool toGlobal = to == ptx::StateSpace::Global, fromGlobal = from == ptx::StateSpace::Global;
  if (!(x.toShared && fromGlobal) && !(toGlobal && x.fromShared) && !(x.remote && x.fromShared))
    c.fail("expects .shared::cluster.global, .shared::cta.global, .global.shared::cta or "
           ".shared::cluster.shared::cta");
  x.signals = c.ast.has(Modifier::MbarrierCompleteTxBytes);
  bool group = c.ast.has(Modifier::BulkGroup);
  if (x.toShared ? !x.signals || group : x.signals || !group)
    c.fail(x.toShared ? "expects .mbarrier::complete_tx::bytes" : "expects .bulk_group");
  x.multicast = c.ast.has(Modifier::MulticastCluster);
  if (x.multicast && (!x.remote || x.fromShared))
    c.fail(".multicast::cluster needs .shared::cluster.global");
  for (Modifier m : {Modifier::CpMask, Modifier::CtaGroup1, Modifier::CtaGroup2})
    if (c.ast.has(m))
      c.fail("." + std::string(ptx::nameOf(m)) + " needs sm_100");
}

/// The operands after those that are always there: multicast mask, cache policy.
void decodeRest(DecodeContext &c, BulkExtra &x, size_t next) {
  const auto &ops = c.ast.operands;
  if (x.multicast) {
    if (next >= ops.size())
      c.fail("expects a mask of blocks for .multicast::cluster");
    x.mask = c.source(ops[next++], ptx::Type::U16);
  }
  if (c.ast.has(Modifier::L2CacheHint)) {
    if (next >= ops.size())
      c.fail("expects a cache policy for .L2::cache_hint");
    c.source(ops[next++], ptx::Type::B64);
  }
  if (next != ops.size())
    c.fail("expects " + std::to_string(next) + " operands, got " + std::to_string(ops.size()));
}

void finish(DecodeContext &c, BulkExtra &x) {
  x.what = c.ast.opcode == Opcode::StAsync    ? "st.async"
           : c.ast.opcode == Opcode::RedAsync ? "red.async"
           : x.reduces ? (x.tensor ? "cp.reduce.async.bulk.tensor" : "cp.reduce.async.bulk")
                       : (x.tensor ? "cp.async.bulk.tensor" : "cp.async.bulk");
  c.extra(x);
  c.in.execute = runBulk;
}

void decodeBulk(DecodeContext &c) {
  c.needs(90);
  BulkExtra x;
  const auto &ops = c.ast.operands;
  if (c.ast.opcode == Opcode::CpAsyncBulkPrefetch) {
    if (ops.size() < 2)
      c.fail("expects [source], size");
    x.prefetch = true;
    x.from = c.address(ops[0]);
    x.size = c.source(ops[1], ptx::Type::U32);
    decodeRest(c, x, 2);
    return finish(c, x);
  }
  x.reduces = c.ast.opcode == Opcode::CpReduceAsyncBulk;
  decodeSpaces(c, x);
  size_t need = x.signals ? 4 : 3;
  if (ops.size() < need)
    c.fail(x.signals ? "expects [destination], [source], size, [mbarrier]"
                     : "expects [destination], [source], size");
  x.to = c.address(ops[0]);
  x.from = c.address(ops[1]);
  x.size = c.source(ops[2], ptx::Type::U32);
  if (x.signals)
    x.barrier = c.address(ops[3]);
  if (x.reduces) {
    x.reduction = decodeReduction(c, c.ast.type());
    if (!x.reduction.exists() ||
        (x.toShared && (x.reduction.type == ptx::Type::F16 || x.reduction.type == ptx::Type::BF16 ||
                        x.reduction.type == ptx::Type::F32 || x.reduction.type == ptx::Type::F64)))
      c.fail("this reduction does not exist for ." + std::string(ptx::nameOf(c.ast.type())));
    if (!x.toShared && !x.fromShared)
      c.fail("reductions read shared memory");
  }
  decodeRest(c, x, need);
  finish(c, x);
}

void decodeTensor(DecodeContext &c) {
  c.needs(90);
  BulkExtra x;
  x.tensor = true;
  x.prefetch = c.ast.opcode == Opcode::CpAsyncBulkPrefetchTensor;
  x.reduces = c.ast.opcode == Opcode::CpReduceAsyncBulkTensor;
  static constexpr Modifier ranks[] = {Modifier::Dim1, Modifier::Dim2, Modifier::Dim3,
                                       Modifier::Dim4, Modifier::Dim5};
  for (uint32_t r = 0; r < 5; ++r)
    if (c.ast.has(ranks[r]))
      x.rank = r + 1;
  if (!x.rank)
    c.fail("expects .1d to .5d");
  for (Modifier m : {Modifier::Im2col, Modifier::Im2colW, Modifier::Im2colW128,
                     Modifier::Im2colNoOffs, Modifier::TileGather4, Modifier::TileScatter4})
    if (c.ast.has(m))
      c.fail("." + std::string(ptx::nameOf(m)) + " is not supported, only .tile");
  if (!x.prefetch)
    decodeSpaces(c, x);
  const auto &ops = c.ast.operands;
  auto tensor = [&](const ptx::Operand &op) {
    x.map = c.address(op);
    if (op.kind != ptx::Operand::Address || op.elements.size() != x.rank)
      c.fail("expects [tensorMap, {" + std::to_string(x.rank) + " coordinates}]");
    for (const ptx::Operand &e : op.elements)
      x.coordinates.push_back(c.source(e, ptx::Type::S32));
  };
  size_t next;
  if (x.prefetch) {
    if (ops.empty())
      c.fail("expects [tensorMap, coordinates]");
    tensor(ops[0]);
    next = 1;
  } else if (x.toShared) {
    if (ops.size() < 3)
      c.fail("expects [destination], [tensorMap, coordinates], [mbarrier]");
    x.to = c.address(ops[0]);
    tensor(ops[1]);
    x.barrier = c.address(ops[2]);
    next = 3;
  } else {
    if (ops.size() < 2)
      c.fail("expects [tensorMap, coordinates], [source]");
    tensor(ops[0]);
    x.from = c.address(ops[1]);
    next = 2;
  }
  if (x.reduces)
    x.reduction = decodeReduction(c, ptx::Type::U32);
  decodeRest(c, x, next);
  finish(c, x);
}

/// st.async{.weak}.shared::cluster.mbarrier::complete_tx::bytes{.vec}.type [a], b, [mbar];
/// red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.op.type [a], b, [mbar].
void decodeStore(DecodeContext &c) {
  c.needs(90);
  BulkExtra x;
  x.asyncStore = x.toShared = x.remote = x.signals = true;
  x.reduces = c.ast.opcode == Opcode::RedAsync;
  const auto &ops = c.ast.operands;
  if (ops.size() != 3)
    c.fail("expects [address], value, [mbarrier]");
  if (!c.ast.has(Modifier::MbarrierCompleteTxBytes))
    c.fail("expects .mbarrier::complete_tx::bytes");
  unsigned bytes = ptx::bytesOf(c.ast.type());
  if (bytes != 4 && bytes != 8)
    c.fail("expects a type of 32 or 64 bits");
  c.in.bytes = uint8_t(bytes);
  x.to = c.address(ops[0]);
  x.values = c.sources(ops[1], c.ast.type());
  x.barrier = c.address(ops[2]);
  x.toSpace = c.ast.spaces.empty() ? Space::Generic : Space::Shared;
  if (x.values.size() != c.ast.vector)
    c.fail("expects " + std::to_string(c.ast.vector) + " values");
  if (x.reduces) {
    x.reduction = decodeReduction(c, c.ast.type());
    if (!x.reduction.exists() || x.values.size() != 1)
      c.fail("this reduction does not exist for ." + std::string(ptx::nameOf(c.ast.type())));
  }
  finish(c, x);
}

void decodeCommit(DecodeContext &c) {
  c.needs(90);
  c.in.execute = runCommit;
}

void decodeWait(DecodeContext &c) {
  c.needs(90);
  if (c.ast.operands.size() != 1)
    c.fail("expects the number of groups that may stay pending");
  int64_t n = c.immediate(c.ast.operands[0]);
  if (n < 0 || n > 255)
    c.fail("expects 0 to 255 groups");
  c.in.mode[0] = uint8_t(n);
  c.in.mode[1] = c.ast.has(Modifier::Read);
  c.in.execute = runWait;
}

const RegisterDecoders decoders({{Opcode::CpAsyncBulk, decodeBulk},
                                 {Opcode::CpAsyncBulkPrefetch, decodeBulk},
                                 {Opcode::CpReduceAsyncBulk, decodeBulk},
                                 {Opcode::CpAsyncBulkTensor, decodeTensor},
                                 {Opcode::CpAsyncBulkPrefetchTensor, decodeTensor},
                                 {Opcode::CpReduceAsyncBulkTensor, decodeTensor},
                                 {Opcode::CpAsyncBulkCommitGroup, decodeCommit},
                                 {Opcode::CpAsyncBulkWaitGroup, decodeWait},
                                 {Opcode::StAsync, decodeStore},
                                 {Opcode::RedAsync, decodeStore}});

} // namespace
} // namespace sgpu
