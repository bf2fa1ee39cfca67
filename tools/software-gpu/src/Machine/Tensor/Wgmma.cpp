//===- Wgmma.cpp - Matrix products of four warps ------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A wgmma.mma_async is one object for its warpgroup: it starts when the last of the four warps has
// issued it, reads shared memory through the async proxy, and owns the accumulator registers (and
// reads the A registers) until each warp has waited for it. Operations of a warpgroup complete in
// order. Starting together orders no memory: what all four warps read (B) must be known to each of them.
// Source: PTX ISA 9.0, 9.7.15.
//===----------------------------------------------------------------------===//
#include "Machine/Async/State.h"
#include "Machine/Decoders.h"
#include "Machine/Launch.h"
#include "Machine/Tensor/Descriptor.h"
#include "Machine/Tensor/Fragments.h"
#include "Machine/Tensor/Types.h"
#include "Support/OfThread.h"

#include <algorithm>
#include <cstring>

namespace sgpu {

using ptx::Modifier;
using ptx::Opcode;

namespace {

struct WgmmaExtra {
  MatrixShape shape;
  TensorType a, b, d;
  std::vector<Operand> accumulators; ///< d
  std::vector<Operand> registersA;   ///< empty: A is in shared memory
  Operand descriptorA, descriptorB;
  Operand scaleD;
  bool negateA = false, negateB = false;
  bool mMajorA = false, nMajorB = false;
  bool saturate = false;
  std::vector<uint32_t> accumulatorIndices, sourceIndices; ///< as Function::definedIndex

  int elementsPerAccumulator() const { return d == TensorType::F16 ? 2 : 1; }
};

constexpr int warpRows = 16; // of D, and of A, for each warp

/// Where element `index` of a lane stands in Accumulator::values: indexOf(lane, 0) + indexOf(0, index).
constexpr int indexOf(int lane, int index) {
  Element e = fragmentC(16, lane, index);
  return e.column * warpRows + e.row;
}
constexpr std::array<int, 32> laneIndices = [] {
  std::array<int, 32> a{};
  for (int l = 0; l < 32; ++l)
    a[l] = indexOf(l, 0);
  return a;
}();

} // namespace

struct Accumulator {
  Warp *warp;
  std::shared_ptr<Frame> frame;
  std::vector<uint32_t> indices;
  const WgmmaExtra *form;
  std::vector<uint32_t> values; ///< [n][16], bits of the type of D
  int pending = 0;              ///< operations that are not complete
  int held = 0;                 ///< operations that the warp has not waited for
};

class WgmmaOp {
public:
  struct Part {
    std::shared_ptr<Accumulator> accumulator;
    std::vector<uint32_t> a; ///< words of the A registers, [register][lane]
    bool scaleD = true;
    Knowledge known; ///< of this warp
  };
  Block *block;
  unsigned group;
  uint64_t number;
  const Instruction *in;
  const WgmmaExtra *form;
  uint64_t descriptorA = 0, descriptorB = 0;
  std::array<Part, 4> parts;
  uint32_t arrived = 0;
  std::shared_ptr<const Place> place;
  Task task;

  Warp &firstWarp() const { return *block->warps[group * 4]; }
  AgentId agent() const { return AgentId(firstWarp().id, AgentKind::Wgmma, 0); }
  uint32_t time() const { return uint32_t(std::min<uint64_t>(number + 1, lastTime)); }
  void complete();

private:
  std::span<const Multiplicand::Run> readMatrix(uint64_t descriptor, bool mnMajor, int lines,
                                                TensorType type, bool ofOneWarp,
                                                std::vector<uint8_t> &bytes) const;
  ClockRef commonTo(ClockRef Knowledge::*part) const;
};

/// Where the bytes of a matrix of wgmma are.
struct MatrixPlan {
  uint64_t descriptor = 0, form = 0; ///< what it was made for; form 0: nothing
  std::vector<ByteRange> ranges;
  std::vector<Multiplicand::Run> runs; ///< by the bytes of the ranges, one behind the other
  std::array<size_t, 5> parts{};       ///< ranges of each warp, if the warps read parts

  void make(const MatrixDescriptor &d, bool mnMajor, int lines, int k, int per, bool ofOneWarp);
};

void MatrixPlan::make(const MatrixDescriptor &d, bool mnMajor, int lines, int k, int per,
                      bool ofOneWarp) {
  ranges.clear(), runs.clear();
  int outer = mnMajor ? k : lines, pieces = (mnMajor ? lines : k) / per;
  uint32_t total = 0;
  for (int warp = 0; warp < (ofOneWarp ? 4 : 1); ++warp) {
    int fromLine = 0, toLine = outer, fromPiece = 0, toPiece = pieces;
    if (ofOneWarp) {
      int &from = mnMajor ? fromPiece : fromLine, &to = mnMajor ? toPiece : toLine;
      int size = mnMajor ? warpRows / per : warpRows;
      from = warp * size, to = from + size;
    }
    for (int line = fromLine; line < toLine; ++line)
      for (int i = fromPiece; i < toPiece;) {
        // Two pieces that lie side by side, in either order, are one range.
        uint32_t first = d.pieceAddress(mnMajor, line, i), second = 0;
        bool two = i % 2 == 0 && i + 1 < toPiece &&
                   (first ^ (second = d.pieceAddress(mnMajor, line, i + 1))) == 16;
        bool swapped = two && second < first;
        ranges.push_back({swapped ? second : first, two ? 32u : 16u});
        auto run = [&](uint32_t at) {
          runs.push_back({mnMajor ? i * per : line, mnMajor ? line : i * per, at});
          ++i;
        };
        run(total + 16 * swapped);
        if (two)
          run(total + 16 * !swapped);
        total += ranges.back().bytes;
      }
    parts[warp + 1] = ranges.size();
  }
}

/// What all four warps know.
ClockRef WgmmaOp::commonTo(ClockRef Knowledge::*part) const {
  ClockRef first = parts[0].known.*part;
  std::shared_ptr<VectorClock> common;
  for (const Part &p : parts) {
    const ClockRef &other = p.known.*part;
    if (!first || !other)
      return nullptr;
    if (other == first)
      continue;
    if (!common)
      common = std::make_shared<VectorClock>(*first);
    common->meet(*other);
  }
  return common ? ClockRef(common) : first;
}

/// Reads a matrix in shared memory. The result says where its elements are in `bytes`: along k, or along the
/// lines if `mnMajor`; it lives until the next call. `ofOneWarp`: 16 lines are read by one warp, else
/// all warps read all.
std::span<const Multiplicand::Run> WgmmaOp::readMatrix(uint64_t bits, bool mnMajor, int lines,
                                                       TensorType type, bool ofOneWarp,
                                                       std::vector<uint8_t> &bytes) const {
  int per = 128 / bitsOf(type), k = form->shape.k;
  // Loops use few descriptors, again and again.
  auto &plans = ofThread<std::array<MatrixPlan, 64>>();
  uint64_t formBits = uint64_t(lines) << 32 | uint64_t(k) << 16 | uint64_t(per) << 4 | 4 |
                      uint64_t(mnMajor) << 1 | uint64_t(ofOneWarp);
  MatrixPlan &plan = plans[mix(bits ^ formBits) % plans.size()];
  if (plan.descriptor != bits || plan.form != formBits) {
    plan.descriptor = bits, plan.form = formBits;
    plan.make(MatrixDescriptor::decode(bits), mnMajor, lines, k, per, ofOneWarp);
  }
  AgentClock clock;
  clock.id = agent();
  clock.time = time();
  if (!ofOneWarp) {
    clock.known.all = commonTo(&Knowledge::all);
    clock.known.proxy = commonTo(&Knowledge::proxy);
  }
  Actor actor;
  actor.warp = &firstWarp(), actor.instruction = in, actor.clock = &clock;
  actor.proxy = Proxy::Async, actor.what = "wgmma.mma_async";
  actor.place = place.get();
  bytes.resize(plan.runs.size() * 16);
  uint8_t *to = bytes.data();
  // Of one warp at a time: the warps know different things.
  for (int warp = 0; warp < (ofOneWarp ? 4 : 1); ++warp) {
    if (ofOneWarp)
      clock.known = parts[warp].known;
    std::span<const ByteRange> ranges(plan.ranges.data() + plan.parts[warp],
                                      plan.ranges.data() + plan.parts[warp + 1]);
    block->readShared(actor, ranges, to, 16);
    to += plan.runs.size() * 16 / (ofOneWarp ? 4 : 1);
  }
  return plan.runs;
}

void WgmmaOp::complete() {
  const MatrixShape &s = form->shape;
  bool integer = form->d == TensorType::S32;
  struct Buffers {
    Multiplicand a, b;
    std::vector<int32_t> ia, ib;
    std::vector<uint32_t> acc;
    std::vector<uint8_t> bytes;
  };
  auto &[a, b, ia, ib, acc, bytes] = ofThread<Buffers>();
  if (integer) {
    ia.assign(size_t(s.k) * 64, 0), ib.assign(size_t(s.k) * s.n, 0);
  } else {
    a.resize(64, s.k), b.resize(s.n, s.k, !form->nMajorB);
  }
  uint32_t signA = form->negateA ? 1u << (bitsOf(form->a) - 1) : 0;
  uint32_t signB = form->negateB ? 1u << (bitsOf(form->b) - 1) : 0;
  // Integers are bytes, K-major: [k][lines].
  auto putIntegers = [&](TensorType type, std::span<const Multiplicand::Run> runs, int lines,
                         std::vector<int32_t> &to) {
    for (const Multiplicand::Run &r : runs)
      for (int i = 0; i < 16; ++i)
        to[(r.k + i) * lines + r.line] = integerOf(type, bytes[r.at + i]);
  };
  if (form->registersA.empty()) {
    auto runs = readMatrix(descriptorA, form->mMajorA, 64, form->a, true, bytes);
    if (integer)
      putIntegers(form->a, runs, 64, ia);
    else
      a.setRuns(form->a, form->mMajorA, runs, bytes.data(), signA);
  } else {
    int bits = bitsOf(form->a), per = elementsPerRegister(bits);
    uint32_t mask = bits == 32 ? ~0u : (1u << bits) - 1;
    for (int w = 0; w < 4; ++w)
      for (int r = 0; r < 4; ++r)
        for (int l = 0; l < 32; ++l)
          for (int j = 0; j < per; ++j) {
            Element e = fragmentA(bits, 16, l, r * per + j);
            uint32_t element = parts[w].a[r * 32 + l] >> (j * bits) & mask;
            if (integer)
              ia[e.column * 64 + w * warpRows + e.row] = integerOf(form->a, element);
            else
              a.set(form->a, w * warpRows + e.row, e.column, element ^ signA);
          }
  }
  auto runs = readMatrix(descriptorB, form->nMajorB, s.n, form->b, false, bytes);
  if (integer)
    putIntegers(form->b, runs, s.n, ib);
  else
    b.setRuns(form->b, form->nMajorB, runs, bytes.data(), signB);

  acc.resize(size_t(s.n) * 64);
  for (int w = 0; w < 4; ++w)
    for (int n = 0; n < s.n; ++n) {
      uint32_t *to = &acc[size_t(n) * 64 + w * warpRows];
      if (parts[w].scaleD)
        std::copy_n(&parts[w].accumulator->values[size_t(n) * warpRows], warpRows, to);
      else
        std::fill_n(to, warpRows, 0);
    }
  if (integer)
    multiplyAddInteger(64, s.n, s.k, ia.data(), ib.data(), reinterpret_cast<int32_t *>(acc.data()),
                       form->saturate);
  else
    multiplyAdd(sumRuleFor(TensorUnit::Wgmma, 90, form->a, form->d), a, b, acc.data());
  for (int w = 0; w < 4; ++w) {
    Accumulator &to = *parts[w].accumulator;
    for (int n = 0; n < s.n; ++n)
      std::copy_n(&acc[size_t(n) * 64 + w * warpRows], warpRows, &to.values[size_t(n) * warpRows]);
    if (--to.pending)
      continue;
    // Nothing else will change them: into the registers, which stay held until the wait.
    int per = form->elementsPerAccumulator();
    for (size_t r = 0; r < form->accumulators.size(); ++r) {
      uint32_t *row = to.frame->rows.data() + form->accumulators[r].row * 32;
      for (int j = 0; j < per; ++j) {
        const uint32_t *from = to.values.data() + indexOf(0, int(r) * per + j);
        for (int l = 0; l < 32; ++l)
          row[l] = from[laneIndices[l]] << (16 * j) | (j ? row[l] : 0);
      }
    }
  }
  Warpgroup &warpgroup = asyncOf(*block).warpgroups[group];
  warpgroup.ops.pop_front();
  ++warpgroup.completed;
  block->notify();
}

namespace {

/// A fault of a register of wgmma, said once for an instruction.
void registerFault(Warp &warp, const Instruction &in, std::string message) {
  warp.report(Check::InFlight, 0, in, std::move(message));
}

/// A thread that changes registers of wgmma must run a wgmma.fence before the next one that uses them.
/// Compilers set registers to their first values after the fence, which ptxas puts right; so only
/// registers count that a wgmma has used before. To the letter (Check::Strict) all count.
void checkFenced(Warp &warp, const Instruction &in, const std::vector<Operand> &registers,
                 const char *what) {
  WarpAsync &async = asyncOf(warp);
  if (!async.fences) {
    registerFault(warp, in,
                  std::string("wgmma.mma_async without a wgmma.fence before it: its ") + what +
                      " registers may not have been written yet");
    return;
  }
  for (size_t i = 0; warp.block.launch.strict && i < registers.size(); ++i) {
    if (registers[i].base != Operand::Register || async.fencedFrame != warp.frame ||
        std::equal(warp.u32(registers[i]), warp.u32(registers[i]) + 32,
                   async.fencedRows.begin() + size_t(registers[i].row) * 32))
      continue;
    warp.report(Check::Strict, 0, in,
                std::string(what) + " register " + std::to_string(i) +
                    " was set after the last wgmma.fence");
    break;
  }
  for (size_t i = 0; i < registers.size(); ++i) {
    auto last = registers[i].base == Operand::Register ? async.released.find(registers[i].row)
                                                       : async.released.end();
    if (last == async.released.end() || last->second.frame != warp.frame ||
        last->second.fences != async.fences ||
        std::equal(last->second.words.begin(), last->second.words.end(), warp.u32(registers[i])))
      continue;
    registerFault(warp, in,
                  std::string(what) + " register " + std::to_string(i) +
                      " was changed after an earlier wgmma, with no wgmma.fence since");
    return;
  }
}

/// Remembers registers that a wait gives back.
void remember(Warp &warp, const Frame &frame, const std::vector<Operand> &registers) {
  WarpAsync &async = asyncOf(warp);
  for (const Operand &r : registers) {
    if (r.base != Operand::Register)
      continue;
    WarpAsync::Released &last = async.released[r.row];
    last.frame = &frame;
    last.fences = async.fences;
    std::copy_n(frame.rows.data() + size_t(r.row) * 32, 32, last.words.begin());
    if (async.fencedFrame == &frame)
      std::copy(last.words.begin(), last.words.end(),
                async.fencedRows.begin() + size_t(r.row) * 32);
  }
}

/// The accumulator of an operation that starts: the one that operations in flight have, or a new one.
std::shared_ptr<Accumulator> takeAccumulator(Warp &warp, const Instruction &in, const WgmmaExtra &x,
                                             bool reads,
                                             const std::shared_ptr<const Place> &place) {
  WarpAsync &async = asyncOf(warp);
  for (auto &a : async.accumulators) {
    if (a->frame.get() != warp.frame)
      continue;
    if (a->indices == x.accumulatorIndices && a->form->d == x.d)
      return a;
    for (uint32_t i : x.accumulatorIndices)
      if (std::find(a->indices.begin(), a->indices.end(), i) != a->indices.end()) {
        registerFault(warp, in,
                      "accumulator registers that an earlier wgmma of another shape still owns");
        break;
      }
  }
  checkFenced(warp, in, x.accumulators, "accumulator");
  auto a = std::make_shared<Accumulator>();
  a->warp = &warp, a->frame = warp.group->frame, a->form = &x, a->indices = x.accumulatorIndices;
  a->values.assign(size_t(x.shape.n) * warpRows, 0);
  int per = x.elementsPerAccumulator();
  for (size_t r = 0; r < x.accumulators.size(); ++r) {
    const uint32_t *row = warp.u32(x.accumulators[r]);
    uint32_t defined = warp.frame->defined[x.accumulatorIndices[r]];
    if (reads && (warp.active & ~defined))
      warp.report(Check::Uninitialized, unsigned(std::countr_zero(warp.active & ~defined)), in,
                  "accumulator register " + std::to_string(r) + " was never written");
    for (int j = 0; j < per; ++j) {
      uint32_t *to = a->values.data() + indexOf(0, int(r) * per + j);
      for (int l = 0; l < 32; ++l)
        to[laneIndices[l]] = per == 2 ? row[l] >> (16 * j) & 0xffff : row[l];
    }
    warp.frame->defined[x.accumulatorIndices[r]] = ~0u;
  }
  warp.hold(x.accumulatorIndices, warp.active, false, place);
  async.accumulators.push_back(a);
  return a;
}

Step runWgmma(Warp &warp, const Instruction &in) {
  if (!warp.gatherAll(in))
    return Step::Wait;
  const auto &x = *static_cast<const WgmmaExtra *>(in.extra);
  Block &block = warp.block;
  BlockAsync &async = asyncOf(block);
  WarpAsync &mine = asyncOf(warp);
  unsigned group = warp.index / 4, quarter = warp.index % 4;
  if (group * 4 + 4 > block.warps.size() || warp.active != ~0u) {
    warp.report(Check::Argument, unsigned(std::countr_zero(warp.active)), in,
                "wgmma needs a warpgroup of four whole warps, but the block has " +
                    std::to_string(block.warps.size()) +
                    " warps, or threads of the warp have exited");
    return Step::Next;
  }
  if (async.warpgroups.size() <= group)
    async.warpgroups.resize((block.warps.size() + 3) / 4);
  Warpgroup &warpgroup = async.warpgroups[group];
  uint64_t number = warpgroup.issued[quarter]++;
  std::shared_ptr<WgmmaOp> op;
  if (number - warpgroup.completed < warpgroup.ops.size()) {
    op = warpgroup.ops[number - warpgroup.completed];
  } else {
    op = std::make_shared<WgmmaOp>();
    op->block = &block, op->group = group, op->number = number, op->in = &in, op->form = &x;
    std::shared_ptr<const Place> &known = warpgroup.places[&in];
    if (!known) {
      Place place = op->firstWarp().place(0, in);
      place.what = "wgmma.mma_async";
      known = std::make_shared<const Place>(std::move(place));
    }
    op->place = known;
    warpgroup.ops.push_back(op);
    op->descriptorB = warp.u64(x.descriptorB)[0];
    if (x.descriptorA)
      op->descriptorA = warp.u64(x.descriptorA)[0];
  }
  if (op->in != &in) {
    warp.report(
        Check::Barrier, 0, in,
        "the warps of a warpgroup run different wgmma instructions: another one is at PTX line " +
            std::to_string(op->in->line));
    --warpgroup.issued[quarter];
    return Step::Next;
  }
  auto uniform = [&](Operand d, uint64_t expected, const char *name) {
    const uint64_t *v = warp.u64(d);
    if (!std::all_of(v, v + 32, [&](uint64_t value) { return value == expected; }))
      warp.report(Check::Argument, 0, in,
                  std::string(name) + " differs between threads of the warpgroup");
  };
  uniform(x.descriptorB, op->descriptorB, "descriptor of B");
  if (x.descriptorA)
    uniform(x.descriptorA, op->descriptorA, "descriptor of A");

  WgmmaOp::Part &part = op->parts[quarter];
  if (x.scaleD) {
    uint32_t p = warp.predicate(x.scaleD);
    if (p && p != ~0u)
      warp.report(Check::Argument, 0, in, "scale-d differs between threads of the warp");
    part.scaleD = p & 1;
  }
  if (!x.registersA.empty()) {
    checkFenced(warp, in, x.registersA, "A");
    for (size_t i = 0; i < x.registersA.size(); ++i) {
      const Operand &r = x.registersA[i];
      part.a.insert(part.a.end(), warp.u32(r), warp.u32(r) + 32);
      if (r.base != Operand::Register)
        continue;
      uint32_t index = x.sourceIndices[i];
      if (!warp.frame->held.empty() && warp.frame->held[index])
        registerFault(warp, in,
                      "A register " + std::to_string(i) +
                          " is an accumulator that an earlier wgmma still owns");
      if (warp.frame->defined[index] != ~0u)
        warp.report(Check::Uninitialized, unsigned(std::countr_one(warp.frame->defined[index])), in,
                    "A register " + std::to_string(i) + " was never written");
      if (!mine.heldSources[index]++)
        warp.hold(std::span(&index, 1), warp.active, true, op->place);
    }
  }
  part.accumulator = takeAccumulator(warp, in, x, part.scaleD, op->place);
  ++part.accumulator->pending;
  ++part.accumulator->held;
  mine.mine[number] = op;
  part.known = startedBy(warp, warp.active);
  warp.countTensor(in, uint64_t(warpRows) * x.shape.n * x.shape.k);
  op->arrived |= 1u << quarter;
  if (op->arrived == 15) {
    WgmmaOp *o = op.get();
    Warpgroup *w = &warpgroup;
    op->task.start(
        block.cluster, *op->place, {}, [o, keep = op] { o->complete(); }, {},
        [o, w] { return w->ops.front().get() == o; });
    block.notify();
  }
  return Step::Next;
}

Step runFence(Warp &warp, const Instruction &in) {
  if (!warp.gatherAll(in))
    return Step::Wait;
  WarpAsync &async = asyncOf(warp);
  ++async.fences;
  if (warp.block.launch.strict) {
    async.fencedFrame = warp.frame;
    async.fencedRows.assign(warp.frame->rows.begin(), warp.frame->rows.end());
  }
  return Step::Next;
}

Step runCommit(Warp &warp, const Instruction &in) {
  if (!warp.gatherAll(in))
    return Step::Wait;
  WarpAsync &async = asyncOf(warp);
  BlockAsync &block = asyncOf(warp.block);
  unsigned group = warp.index / 4;
  if (group < block.warpgroups.size())
    async.committed = block.warpgroups[group].issued[warp.index % 4];
  async.groupEnds.push_back(async.committed);
  return Step::Next;
}

/// mode[0]: groups that may stay pending.
Step runWait(Warp &warp, const Instruction &in) {
  if (!warp.gatherAll(in))
    return Step::Wait;
  WarpAsync &async = asyncOf(warp);
  uint32_t time = 0;
  AgentId agent;
  while (async.groupEnds.size() > in.mode[0]) {
    uint64_t end = async.groupEnds.front();
    for (; async.waited < end; ++async.waited) {
      std::shared_ptr<WgmmaOp> op = async.mine[async.waited];
      if (op->arrived != 15)
        return waitFor(warp, "wgmma.wait_group: other warps of the warpgroup have not issued the "
                             "wgmma.mma_async of PTX line " +
                                 std::to_string(op->in->line));
      op->task.finish(warp.block.cluster);
      time = op->time();
      agent = op->agent();
      Accumulator &a = *op->parts[warp.index % 4].accumulator;
      if (!--a.held) {
        warp.unhold(*a.frame, a.indices, ~0u);
        remember(warp, *a.frame, a.form->accumulators);
        std::erase_if(async.accumulators, [&](const auto &other) { return other.get() == &a; });
      }
      remember(warp, *a.frame, op->form->registersA);
      for (uint32_t index : op->form->sourceIndices) {
        auto it = async.heldSources.find(index);
        if (it != async.heldSources.end() && !--it->second) {
          async.heldSources.erase(it);
          warp.unhold(*a.frame, std::span(&index, 1), ~0u);
        }
      }
      async.mine.erase(async.waited);
    }
    async.groupEnds.pop_front();
  }
  // They are of one agent: the last one's time is later than the others'.
  if (time) {
    Knowledge k;
    tellCompletion(k, agent, time);
    acquire(warp.clocks.data(), warp.active, k);
  }
  return Step::Next;
}

//===----------------------------------------------------------------------===//
// Decoders
//===----------------------------------------------------------------------===//

void checkForm(DecodeContext &c) {
  c.needs(90);
  if (!c.ast.has(Modifier::Sync) || !c.ast.has(Modifier::Aligned))
    c.fail("expects .sync.aligned");
  c.in.gathers = true;
}

void decodeWgmma(DecodeContext &c) {
  checkForm(c);
  WgmmaExtra x;
  x.shape = {c.ast.shape.m, c.ast.shape.n, c.ast.shape.k};
  if (c.ast.types.size() != 3)
    c.fail("expects the types of d, a and b");
  if (c.ast.type(1) == ptx::Type::B1)
    c.fail("wgmma of .b1 is not supported");
  auto type = [&](ptx::Type t) {
    std::optional<TensorType> r = tensorTypeOf(t);
    if (!r)
      c.fail("type ." + std::string(ptx::nameOf(t)) + " is not supported");
    return *r;
  };
  x.d = type(c.ast.type(0)), x.a = type(c.ast.type(1)), x.b = type(c.ast.type(2));
  auto fp8 = [](TensorType t) { return t == TensorType::E4M3 || t == TensorType::E5M2; };
  auto int8 = [](TensorType t) { return t == TensorType::S8 || t == TensorType::U8; };
  bool half = x.a == TensorType::F16 || x.a == TensorType::BF16;
  bool toF32 = x.d == TensorType::F32, toF16 = x.d == TensorType::F16;
  bool known = (x.a == TensorType::F16 && x.b == x.a && (toF32 || toF16)) ||
               (x.a == TensorType::BF16 && x.b == x.a && toF32) ||
               (x.a == TensorType::TF32 && x.b == x.a && toF32) ||
               (fp8(x.a) && fp8(x.b) && (toF32 || toF16)) ||
               (int8(x.a) && int8(x.b) && x.d == TensorType::S32);
  if (!known)
    c.fail("this combination of types does not exist");
  int k = 256 / bitsOf(x.a);
  if (x.shape.m != 64 || x.shape.k != k || x.shape.n < 8 || x.shape.n > 256 || x.shape.n % 8 ||
      (int8(x.a) && x.shape.n > 32 && x.shape.n % 16))
    c.fail("expects shape m64nNk" + std::to_string(k) + " with N a multiple of " +
           (int8(x.a) ? "16 (8, 24 too)" : "8") + " up to 256");
  x.saturate = c.ast.has(Modifier::Satfinite);

  const auto &ops = c.ast.operands;
  if (ops.size() < 4)
    c.fail("expects d, a, b-desc, scale-d, ...");
  x.accumulators = c.destinations(ops[0]);
  int registers = x.shape.n / (toF16 ? 4 : 2);
  if (int(x.accumulators.size()) != registers)
    c.fail("expects " + std::to_string(registers) + " registers for d, got " +
           std::to_string(x.accumulators.size()));
  bool inRegisters = ops[1].kind == ptx::Operand::Vector;
  if (inRegisters) {
    x.registersA = c.sources(ops[1], ptx::Type::B32);
    if (x.registersA.size() != 4)
      c.fail("expects 4 registers for a, got " + std::to_string(x.registersA.size()));
  } else {
    x.descriptorA = c.source(ops[1], ptx::Type::B64);
  }
  x.descriptorB = c.source(ops[2], ptx::Type::B64);
  if ((x.descriptorA && x.descriptorA.bytes != 8) || x.descriptorB.bytes != 8)
    c.fail("expects matrix descriptors of 64 bits");
  x.scaleD = c.source(ops[3], ptx::Type::Pred);
  if (x.scaleD.base != Operand::Predicate)
    c.fail("expects a predicate for scale-d");
  size_t next = 4, scales = int8(x.a) ? 0 : 2, transposes = half ? (inRegisters ? 1 : 2) : 0;
  if (ops.size() != next + scales + transposes)
    c.fail("expects " + std::to_string(next + scales + transposes) + " operands, got " +
           std::to_string(ops.size()));
  auto choice = [&](int64_t low) {
    int64_t v = c.immediate(ops[next++]);
    if (v != 1 && v != low)
      c.fail(low < 0 ? "expects 1 or -1 for imm-scale" : "expects 0 or 1 for imm-trans");
    return v;
  };
  if (scales) {
    x.negateA = choice(-1) < 0;
    x.negateB = choice(-1) < 0;
  }
  if (transposes == 2)
    x.mMajorA = choice(0);
  if (transposes)
    x.nMajorB = choice(0);
  for (const Operand &o : x.accumulators)
    x.accumulatorIndices.push_back(c.function.definedIndex(o));
  for (const Operand &o : x.registersA)
    x.sourceIndices.push_back(o.base == Operand::Register ? c.function.definedIndex(o) : 0);
  c.in.propagates = true;
  c.in.touchesHeld = true;
  c.extra(std::move(x));
  c.in.execute = runWgmma;
}

void decodeSparse(DecodeContext &c) { c.fail("sparse wgmma is not supported"); }

void decodeFence(DecodeContext &c) {
  checkForm(c);
  c.in.execute = runFence;
}

void decodeCommit(DecodeContext &c) {
  checkForm(c);
  c.in.execute = runCommit;
}

void decodeWait(DecodeContext &c) {
  checkForm(c);
  if (c.ast.operands.size() != 1)
    c.fail("expects the number of groups that may stay pending");
  int64_t n = c.immediate(c.ast.operands[0]);
  if (n < 0 || n > 255)
    c.fail("expects 0 to 255 groups");
  c.in.mode[0] = uint8_t(n);
  c.in.execute = runWait;
}

const RegisterDecoders decoders({{Opcode::WgmmaMmaAsync, decodeWgmma},
                                 {Opcode::WgmmaMmaAsyncSp, decodeSparse},
                                 {Opcode::WgmmaFence, decodeFence},
                                 {Opcode::WgmmaCommitGroup, decodeCommit},
                                 {Opcode::WgmmaWaitGroup, decodeWait}});

} // namespace
} // namespace sgpu
