//===- Executor.cpp - Runs the blocks of a launch ---------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Each host thread takes clusters, in an order of the seed, and runs them in turns: warp after warp
// for some instructions each, in an order of the seed. A warp runs one of its groups of lanes at a
// time. When nothing of a cluster can run, asynchronous work completes (late, the default), then
// splits of warps are given up, and then it is a deadlock.
//
// Kernels whose blocks can communicate (atomics or strong accesses on global memory) run on one host
// thread, with several clusters in turns, so that the seed alone decides what happens.
//===----------------------------------------------------------------------===//
#include "Machine/Module.h"
#include "Machine/Warp.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <numeric>
#include <system_error>
#include <thread>
#include <unistd.h>

using namespace sgpu;

namespace {
constexpr unsigned leastSlice = 32, sliceSpread = 224; ///< instructions of a warp in one turn
constexpr uint64_t parkedPatience = 20000; ///< instructions of a warp until parked lanes are freed
constexpr uint64_t spinPatience = 2000; ///< of a cluster without a sign of life: some completions
constexpr uint64_t deadPatience = uint64_t(1) << 26; ///< the same until it counts as a deadlock
constexpr unsigned timeoutPatience =
    100;                                ///< rounds of waits that ended early without a sign of life
constexpr uint64_t clusterTurn = 20000; ///< of a cluster until the next one has its turn
} // namespace

void Launch::fail(Check check) {
  std::lock_guard lock(mutex);
  if (!faulted)
    fault = check;
  faulted = true;
  if (check == Check::Trap || check == Check::Deadlock)
    stop = true;
}

Dim3 sgpu::blockIndex(const Launch &launch, uint64_t linear) {
  const Dim3 &c = launch.cluster, &g = launch.config.grid;
  uint64_t size = c.count(), cluster = linear / size;
  uint32_t rank = uint32_t(linear % size);
  uint32_t gx = g.x / c.x, gy = g.y / c.y;
  return {uint32_t(cluster % gx) * c.x + rank % c.x,
          uint32_t(cluster / gx % gy) * c.y + rank / c.x % c.y,
          uint32_t(cluster / gx / gy) * c.z + rank / c.x / c.y};
}

Cluster::Cluster(Worker &worker, uint64_t linear)
    : worker(worker), launch(worker.launch), linear(linear), random(launch.random.split(linear)) {
  uint32_t size = uint32_t(launch.cluster.count());
  for (uint32_t rank = 0; rank < size; ++rank)
    blocks.push_back(
        std::make_unique<Block>(launch, *this, blockIndex(launch, linear * size + rank), rank));
}

Cluster::~Cluster() = default;

Block::Block(Launch &launch, Cluster &cluster, Dim3 index, uint32_t rank)
    : launch(launch), cluster(cluster), index(index),
      linear(cluster.linear * launch.cluster.count() + rank), rank(rank),
      shared(launch.sharedEnd, launch.checkRaces), barriers(16),
      random(cluster.random.split(rank + 1)) {
  shared.poisonSeed = random.next();
  for (uint32_t i = window::sharedStart; i < shared.end; i += 8) {
    uint64_t bits = mix(shared.poisonSeed ^ (i >> 3));
    std::memcpy(&shared.bytes[i], &bits, std::min(8u, shared.end - i));
  }
  for (unsigned w = 0; w < launch.warpsPerBlock; ++w) {
    warps.push_back(std::make_unique<Warp>(*this, w));
    live += unsigned(std::popcount(warps.back()->exists));
  }
  started = true;
}

Block::~Block() = default;

void Block::notify() {
  ++cluster.happenings;
  ++cluster.worker.events;
}

//===----------------------------------------------------------------------===//
// One warp
//===----------------------------------------------------------------------===//

namespace {
/// Parked lanes go on without those that they wait for. False if there are none.
bool freeParked(Warp &w) {
  bool any = false;
  for (size_t i = 0; i < w.groups.size(); ++i) {
    Group &g = *w.groups[i];
    if (g.state != Group::Parked)
      continue;
    g.state = Group::Runnable;
    w.leaveSplits(g, g.splits.size() - 1);
    any = true;
  }
  return any;
}

/// A group at the place where its inner split meets: it parks, or goes on if all are there.
void meet(Warp &w, Group &g) {
  std::shared_ptr<Split> split = g.splits.back();
  w.quiet = 0;
  for (size_t i = 0; i < w.groups.size(); ++i) {
    Group &other = *w.groups[i];
    if (&other == &g || other.state != Group::Parked || other.splits.back() != split)
      continue;
    g.lanes |= other.lanes;
    w.groups.erase(w.groups.begin() + ptrdiff_t(i));
    break;
  }
  if (g.lanes == split->members) {
    g.splits.pop_back();
  } else {
    g.state = Group::Parked;
  }
}

/// Reports undefined or held operands of the lanes that run.
[[gnu::noinline]] void badOperands(Warp &w, const Instruction &in, uint32_t undefined) {
  const Function &f = *w.frame->function;
  auto name = [&](uint32_t i) -> std::string {
    for (size_t r = 0; r < f.ast->registers.size(); ++r) {
      bool predicate = f.ast->registers[r].type == ptx::Type::Pred;
      uint32_t index = f.registerRow[r] + (predicate ? f.rows : 0);
      if (index == i)
        return f.ast->registers[r].name;
    }
    return "a register";
  };
  auto check = [&](uint32_t i) {
    uint32_t lanes = w.active & ~w.frame->defined[i];
    if (!lanes)
      return;
    w.report(Check::Uninitialized, unsigned(std::countr_zero(lanes)), in,
             "reads register " + name(i) + ", which was never written");
    w.frame->defined[i] |= lanes; // once is enough
  };
  if (undefined) {
    for (uint32_t i : in.reads.first(in.checked))
      check(i);
    if (in.guard)
      check(f.definedIndex(in.guard));
  }
}

[[gnu::noinline]] void heldOperands(Warp &w, const Instruction &in) {
  const Function &f = *w.frame->function;
  auto check = [&](std::span<const uint32_t> list, const std::vector<uint32_t> &held, bool write) {
    if (held.empty())
      return;
    for (uint32_t i : list)
      if (uint32_t lanes = w.active & held[i]) {
        unsigned lane = unsigned(std::countr_zero(lanes));
        std::string name = "a register";
        for (size_t r = 0; r < f.ast->registers.size(); ++r)
          if (f.ast->registers[r].type != ptx::Type::Pred && f.registerRow[r] == i)
            name = "register " + f.ast->registers[r].name;
        Report r{.check = Check::InFlight,
                 .message = std::string(write ? "writes " : "reads ") + name +
                            ", which an asynchronous operation uses until its wait",
                 .place = w.place(lane, in)};
        r.others.push_back(*w.frame->holders[i]);
        w.block.launch.reporter.add(std::move(r));
      }
  };
  check(in.reads, w.frame->held, false);
  check(in.writes, w.frame->held, true);
  check(in.writes, w.frame->heldForWrite, true);
}

/// Runs the group that was entered until it cannot go on or `budget` is used up. Returns what is left.
uint64_t runGroup(Warp &w, uint64_t budget) {
  Group *g = w.group;
  const Instruction *code = w.frame->function->code.data();
  const bool checkRegisters = w.block.launch.reporter.enabled(Check::Uninitialized);
  std::vector<Counts> *counts = w.counts;
  while (budget) {
    if (!g->splits.empty() && g->pc == g->splits.back()->pc &&
        g->frame == g->splits.back()->frame) {
      meet(w, *g);
      if (g->state != Group::Runnable)
        return budget;
      continue;
    }
    const Instruction &in = code[g->pc];
    Frame &frame = *w.frame;
    uint32_t active = g->lanes;
    uint32_t undefined = 0;
    if (in.guard) {
      active &= frame.predicates[in.guard.row] ^ (in.guard.negated ? ~0u : 0u);
      undefined = g->lanes & ~frame.defined[frame.function->rows + in.guard.row];
    }
    --budget;
    Counts &c = (*counts)[in.index];
    ++c.executions;
    if (undefined) [[unlikely]] {
      w.active = g->lanes;
      if (checkRegisters)
        badOperands(w, in, undefined);
    }
    if (!active) {
      ++g->pc;
      continue;
    }
    if (in.splits && active != g->lanes) {
      // The lanes that skip it go on to the next instruction and wait there.
      w.active = g->lanes;
      w.splitOff(g->lanes & ~active, g->pc + 1, g->pc + 1);
      w.quiet = 0;
    }
    w.active = active;
    if (checkRegisters) {
      for (uint32_t i : in.reads.first(in.checked))
        undefined |= active & ~frame.defined[i];
      if (undefined) [[unlikely]]
        badOperands(w, in, undefined);
    }
    if ((!frame.held.empty() || !frame.heldForWrite.empty()) && !in.touchesHeld) [[unlikely]]
      heldOperands(w, in);
    Step step = in.execute(w, in);
    if (step == Step::Next) [[likely]] {
      active = w.active; // may have grown: lanes that were gathered
      c.lanes += unsigned(std::popcount(active));
      if (!in.propagates)
        for (uint32_t i : in.writes)
          frame.defined[i] |= active;
      ++g->pc;
      continue;
    }
    if (step == Step::Wait) {
      --c.executions;
      if (w.active != g->lanes && (w.active & g->lanes)) {
        w.splitOff(g->lanes & ~w.active, g->pc + 1, g->pc + 1);
        w.quiet = 0;
      }
      if (g->state == Group::Runnable)
        g->state = Group::Waiting;
      g->since = w.block.cluster.happenings;
      return budget;
    }
    c.lanes += unsigned(std::popcount(active));
    // Jump: perhaps another group, another function, none.
    if (!w.group)
      return budget;
    g = w.group;
    code = w.frame->function->code.data();
    counts = w.counts;
    if (g->state != Group::Runnable)
      return budget;
  }
  return budget;
}

bool canRun(const Warp &w, const Group &g) {
  return g.state == Group::Runnable ||
         (g.state == Group::Waiting && g.since != w.block.cluster.happenings);
}

/// Groups that are at the same place by chance become one again.
void mergeAlike(Warp &w, Group &g) {
  for (size_t i = 0; i < w.groups.size();) {
    Group &o = *w.groups[i];
    if (&o != &g && o.state == Group::Runnable && o.pc == g.pc && o.frame == g.frame &&
        o.splits == g.splits && !o.token && !g.token) {
      g.lanes |= o.lanes;
      w.groups.erase(w.groups.begin() + ptrdiff_t(i));
    } else {
      ++i;
    }
  }
}

/// One turn of a warp. Returns the instructions that it ran.
uint64_t runWarp(Warp &w, uint64_t budget) {
  uint64_t start = budget;
  for (unsigned tries = 0; budget && tries < 1024; ++tries) {
    Group *ready[32];
    unsigned count = 0;
    bool parked = false;
    for (auto &g : w.groups) {
      if (canRun(w, *g))
        ready[count++] = g.get();
      parked |= g->state == Group::Parked;
    }
    if (!count)
      break;
    if (parked && w.quiet > parkedPatience) {
      w.quiet = 0;
      freeParked(w);
      continue;
    }
    Group *g = count == 1 ? ready[0] : ready[w.random.below(count)];
    g->state = Group::Runnable;
    if (count > 1)
      mergeAlike(w, *g);
    w.enter(*g);
    // With several groups each runs a part of the turn: none starves.
    uint64_t part = count > 1 ? std::min<uint64_t>(budget, 1 + w.random.below(64)) : budget;
    uint64_t left = runGroup(w, part);
    budget -= part - left;
    w.quiet += part - left;
  }
  return start - budget;
}
} // namespace

//===----------------------------------------------------------------------===//
// One cluster
//===----------------------------------------------------------------------===//

namespace {
/// What a group waits for, for messages.
std::string waitsFor(const Group &g) {
  switch (g.state) {
  case Group::AtBarrier:
    return g.barrier == 16 ? "waits in the barrier of the cluster"
                           : "waits in barrier " + std::to_string(g.barrier);
  case Group::Waiting:
    return "waits here";
  case Group::Parked:
    return "waits for lanes of its warp";
  case Group::Runnable:
    return "spins here";
  }
  return "";
}

void reportDeadlock(Cluster &c, bool spinning) {
  Report r;
  bool atBarrier = false, gathering = false;
  unsigned live = 0, waiting = 0;
  for (auto &b : c.blocks)
    for (auto &w : b->warps) {
      for (auto &g : w->groups) {
        live += unsigned(std::popcount(g->lanes));
        bool first = r.others.empty() && r.place.kernel.empty();
        w->enter(*g);
        const Instruction &in = g->frame->function->code[g->pc];
        if (g->state == Group::AtBarrier) {
          waiting += unsigned(std::popcount(g->lanes));
          atBarrier = true;
        }
        gathering |=
            g->state == Group::Waiting && in.gathers && g->lanes != (w->exists & ~w->exited);
        Place p = w->place(unsigned(std::countr_zero(g->lanes)), in);
        char lanes[32];
        std::snprintf(lanes, sizeof lanes, ", lanes 0x%08x", g->lanes);
        p.what = waitsFor(*g) + lanes;
        if (g->state == Group::Waiting && !w->reason.empty())
          p.what = "waits for " + w->reason + lanes;
        bool better =
            g->state == Group::AtBarrier && r.place.what.find("barrier") == std::string::npos;
        if (first) {
          r.place = p;
        } else if (better) {
          r.others.push_back(std::move(r.place));
          r.place = p;
        } else if (r.others.size() < 8) {
          r.others.push_back(p);
        }
      }
    }
  if (atBarrier && !spinning) {
    r.check = Check::Barrier;
    r.message = std::to_string(waiting) + " threads wait in barriers that the other " +
                std::to_string(live - waiting) +
                (live == waiting ? " threads do not complete" : " live threads never reach");
    if (live == waiting)
      r.message = std::to_string(waiting) + " threads wait in barriers that nobody completes";
  } else if (gathering && !spinning) {
    r.check = Check::Barrier;
    r.message = "lanes wait for lanes that their mask names and that never reach the instruction";
  } else {
    r.check = Check::Deadlock;
    r.message = spinning ? "no thread of the block does anything but wait in a loop"
                         : "no thread of the block can go on";
  }
  c.launch.reporter.add(std::move(r));
}

bool finished(const Cluster &c) {
  for (auto &b : c.blocks)
    if (b->live)
      return false;
  return true;
}

/// Completes some of the pending work: one, or of much a part that is up to the seed. False if there
/// is none that can complete.
bool completeSome(Cluster &c) {
  uint32_t count = 1 + c.random.below(uint32_t(c.pending.size() / 2 + 1));
  bool any = false;
  while (count-- && c.pending.completeOne(c.random))
    any = true;
  c.happenings += any;
  return any;
}

/// Runs a cluster for about `budget` instructions. True when it has ended.
bool runCluster(Cluster &c, uint64_t budget, uint64_t &lastEvents, uint64_t &quiet,
                unsigned &timeouts) {
  Launch &launch = c.launch;
  std::vector<Warp *> order;
  for (auto &b : c.blocks)
    for (auto &w : b->warps)
      if (!w->groups.empty())
        order.push_back(w.get());
  uint64_t used = 0;
  while (used < budget) {
    if (launch.stop)
      return true;
    std::erase_if(order, [](const Warp *w) { return w->groups.empty(); });
    if (order.empty())
      break;
    for (size_t i = order.size(); i > 1; --i)
      std::swap(order[i - 1], order[c.random.below(uint32_t(i))]);
    uint64_t round = 0;
    for (Warp *w : order) {
      round += runWarp(*w, leastSlice + c.random.below(sliceSpread));
      if (c.pending.empty())
        continue;
      if (launch.options.completion == Completion::Early) {
        c.pending.completeAll(c.random);
        ++c.happenings;
      } else if (launch.options.completion == Completion::Random && c.random.below(4) == 0) {
        completeSome(c);
      }
    }
    used += round;
    c.executed += round;
    c.timeout = false;
    if (c.worker.events != lastEvents) {
      lastEvents = c.worker.events;
      quiet = 0;
      timeouts = 0;
    } else {
      quiet += round;
    }
    if (!round) {
      if (completeSome(c))
        continue;
      bool freed = false;
      for (Warp *w : order)
        freed |= freeParked(*w);
      if (freed)
        continue;
      if (finished(c))
        break;
      // Waits that may end before what they wait for do so now, until that leads nowhere.
      if (++timeouts <= timeoutPatience) {
        c.timeout = true;
        ++c.happenings;
        continue;
      }
      reportDeadlock(c, false);
      launch.fail(Check::Deadlock);
      c.dead = true;
      return true;
    }
    if (quiet > spinPatience && completeSome(c))
      quiet = 0;
    if (quiet > deadPatience) {
      reportDeadlock(c, true);
      launch.fail(Check::Deadlock);
      c.dead = true;
      return true;
    }
  }
  if (!finished(c))
    return false;
  return true;
}

/// What a cluster leaves behind when it ends.
void endCluster(Cluster &c) {
  if (c.dead || c.launch.stop)
    return;
  for (const auto &p : c.pending.all())
    if (!p->mayOutlive()) {
      Report r{.check = Check::InFlight,
               .message = "an asynchronous operation is not complete when its block ends",
               .place = p->place};
      c.launch.reporter.add(std::move(r));
    }
  c.pending.completeAll(c.random);
}

struct Resident {
  std::unique_ptr<Cluster> cluster;
  uint64_t turns = 0;
};

void work(Worker &worker, std::atomic<uint64_t> &next, uint64_t clusters, uint64_t multiplier,
          uint64_t shift, bool together) {
  Launch &launch = worker.launch;
  Random random = launch.random.split(~uint64_t(0) - next);
  std::vector<Resident> residents;
  uint64_t events = 0, quiet = 0;
  unsigned timeouts = 0;
  const uint64_t room = launch.options.resident ? uint64_t(launch.options.resident) : ~uint64_t(0);
  uint64_t most = launch.config.cooperative ? ~uint64_t(0)
                  : together                ? std::min<uint64_t>(1 + random.below(4), room)
                                            : 1;
  while (!launch.stop) {
    while (residents.size() < most) {
      uint64_t i = next++;
      if (i >= clusters)
        break;
      uint64_t linear =
          uint64_t((static_cast<unsigned __int128>(i) * multiplier + shift) % clusters);
      residents.push_back({std::make_unique<Cluster>(worker, linear)});
    }
    if (residents.empty())
      break;
    size_t i = residents.size() == 1 ? 0 : random.below(uint32_t(residents.size()));
    uint64_t turn = residents.size() == 1 ? clusterTurn : 64 + random.below(2000);
    Resident &r = residents[i];
    if (runCluster(*r.cluster, turn, events, quiet, timeouts)) {
      endCluster(*r.cluster);
      residents.erase(residents.begin() + ptrdiff_t(i));
      quiet = 0;
    } else if (++r.turns % 64 == 0 && together && most < room) {
      ++most; // it may wait for a block that has not started
    }
  }
}
} // namespace

/// "ld.global.v4.f32"
static std::string opcodeText(const ptx::Instruction &in) {
  std::string text(ptx::nameOf(in.opcode));
  for (const ptx::Suffix &s : in.suffixes)
    switch (s.modifier) {
    case ptx::Modifier::Type:
      text += "." + std::string(ptx::nameOf(s.type));
      break;
    case ptx::Modifier::Space:
      text += "." + std::string(ptx::nameOf(s.space));
      break;
    case ptx::Modifier::Shape:
      text += ".m" + std::to_string(in.shape.m) + "n" + std::to_string(in.shape.n);
      if (in.shape.k)
        text += "k" + std::to_string(in.shape.k);
      break;
    default:
      text += "." + std::string(ptx::nameOf(s.modifier));
    }
  return text;
}

namespace {
/// Host threads that run blocks, kept from launch to launch. They sleep while there is nothing to do. Never destroyed: a
/// program may end while they sleep.
class Helpers {
public:
  static Helpers &get() {
    static std::mutex mutex;
    static Helpers *helpers = nullptr;
    std::lock_guard lock(mutex);
    if (!helpers || helpers->process != getpid()) // a process that was forked has no threads
      helpers = new Helpers;
    return *helpers;
  }
  /// Calls `body` here and, as far as they come in time, in up to `count` helpers; returns when all are done.
  void run(unsigned count, const std::function<void()> &body) noexcept {
    Job job{&body, count};
    {
      std::lock_guard lock(mutex);
      jobs.push_back(&job);
      try {
        for (; threads < count; ++threads)
          std::thread([this] { help(); }).detach();
      } catch (const std::system_error &) {
        // The system gives no more threads: those there are will do.
      }
    }
    for (unsigned i = 0; i < count; ++i)
      come.notify_one();
    body();
    std::unique_lock lock(mutex);
    std::erase(jobs, &job); // who has not come yet need not
    left.wait(lock, [&] { return !job.running; });
  }

private:
  struct Job {
    const std::function<void()> *body;
    unsigned wanted;
    unsigned running = 0;
  };
  void help() {
    std::unique_lock lock(mutex);
    for (;;) {
      come.wait(lock, [&] { return !jobs.empty(); });
      Job &job = *jobs.front();
      ++job.running;
      if (!--job.wanted)
        std::erase(jobs, &job);
      lock.unlock();
      (*job.body)();
      lock.lock();
      if (!--job.running)
        left.notify_all();
    }
  }

  const int process = getpid();
  std::mutex mutex;
  std::condition_variable come, left;
  std::vector<Job *> jobs; ///< that want helpers
  unsigned threads = 0;
};
} // namespace

/// Adds what a host thread has counted.
static void count(Launch &launch, const Worker &w) {
  Counters &c = launch.counters;
  c.barriers += w.barriers;
  for (size_t f = 0; f < w.counts.size(); ++f)
    for (size_t i = 0; i < w.counts[f].size(); ++i) {
      const Counts &n = w.counts[f][i];
      if (!n.executions)
        continue;
      const Function &function = *launch.program.functions[f];
      if (i >= function.ast->instructions.size())
        continue; // the implicit end has no line
      LineCounters &line = c.lines[function.code[i].line];
      line.add(n);
      if (line.opcode.empty())
        line.opcode = opcodeText(function.ast->instructions[i]);
    }
}

void sgpu::execute(Launch &launch) {
  uint64_t clusters = launch.config.grid.count() / launch.cluster.count();
  // The order of clusters: i * multiplier + shift, multiplier without a common factor.
  uint64_t multiplier = 1, shift = 0;
  if (clusters > 1) {
    do
      multiplier = 1 + launch.random.next() % (clusters - 1);
    while (std::gcd(multiplier, clusters) != 1);
    shift = launch.random.next() % clusters;
  }
  bool together = launch.program.communicates || launch.config.cooperative;
  static const unsigned cores =
      std::max(1u, std::thread::hardware_concurrency()); // asks the system
  unsigned threads = launch.options.threads > 0 ? unsigned(launch.options.threads) : cores;
  threads = together ? 1 : unsigned(std::min<uint64_t>(threads, clusters));
  std::atomic<uint64_t> next{0};
  auto body = [&] {
    Worker w{launch, {}, 0, 0};
    for (const auto &f : launch.program.functions)
      w.counts.emplace_back(f ? f->code.size() : 0);
    work(w, next, clusters, multiplier, shift, together);
    if (!launch.config.counts)
      return;
    std::lock_guard lock(launch.mutex);
    count(launch, w);
  };
  Counters &c = launch.counters;
  c.kernel = launch.kernel;
  c.launches = 1;
  c.blocks = launch.config.grid.count();
  if (threads > 1)
    Helpers::get().run(threads - 1, body);
  else
    body();
}
