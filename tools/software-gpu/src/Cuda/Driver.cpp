//===- Driver.cpp - Executes the work of streams ----------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Cuda/Driver.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

using namespace sgpu;
using namespace sgpu::cuda;

//===----------------------------------------------------------------------===//
// Life of the process
//===----------------------------------------------------------------------===//

namespace {
std::atomic<Driver *> theDriver{nullptr};
int exitStatus = -1; // what the program ends with; -1: it has not come to exit

/// Runs after the handlers and static destructors of the program (the library is never unloaded).
struct AtEnd {
  ~AtEnd() {
    Driver *driver = theDriver;
    if (!driver || driver->finished || exitStatus < 0)
      return;
    int status = driver->finish();
    if (status && exitStatus == 0) {
      std::fflush(nullptr);
      _exit(status);
    }
  }
};
} // namespace

__attribute__((destructor)) static void atEnd() { AtEnd end; }

bool Driver::initialized() { return theDriver != nullptr; }

Driver &Driver::get() {
  static std::mutex once;
  std::lock_guard lock(once);
  if (!theDriver) {
    try {
      theDriver = new Driver(Options::fromEnvironment());
    } catch (const Error &e) {
      std::fprintf(stderr, "software-gpu: %s\n", e.what());
      std::fflush(nullptr);
      _exit(2);
    }
    on_exit([](int status, void *) { exitStatus = status; }, nullptr);
  }
  return *theDriver;
}

State &sgpu::cuda::state() {
  static State *s = new State;
  return *s;
}

Driver::Driver(const Options &options)
    : options(options), reporter(options, true), random(Random(options.seed).split(0x73747265616d)),
      recorder(options.record) {
  for (int i = 0; i < options.devices; ++i) {
    auto d = std::make_unique<Device>();
    d->ordinal = i;
    d->chip = Chip::find(options.chip);
    d->memory = std::make_unique<DeviceMemory>(i, options, reporter);
    devices.push_back(std::move(d));
  }
  for (auto &d : devices)
    for (auto &other : devices)
      if (d != other)
        d->memory->setPeer(*other->memory, false);
  numChains = 1; // 0 is no chain
}

static void append(const std::string &file, const std::string &line) {
  if (std::FILE *f = std::fopen(file.c_str(), "a")) {
    std::fputs((line + "\n").c_str(), f);
    std::fclose(f);
  }
}

void Driver::countLaunch(const Counters &c) {
  if (options.counters.empty())
    return;
  append(options.counters, c.toJson());
  counters[c.kernel].add(c);
}

int Driver::finish() {
  finished = true;
  for (auto f : atExit)
    f();
  // Asked for, though nobody has waited for it: no leak.
  for (uint64_t address : freeing)
    deviceOf(address)->memory->free(address, "cuMemFreeAsync");
  for (auto &d : devices)
    d->memory->reportLeaks();
  for (const auto &[start, p] : pinned) {
    if (p.registered)
      continue;
    Report r{.check = Check::Leak,
             .message =
                 "pinned host memory of " + std::to_string(p.bytes) + " bytes is never freed",
             .place = callPlace("cuMemHostAlloc")};
    r.hasAddress = true;
    r.address = start;
    reporter.add(std::move(r));
  }
  if (!options.counters.empty())
    for (auto &[kernel, c] : counters)
      if (c.launches > 1)
        append(options.counters, c.toJson());
  int status = reporter.finish();
  if (options.omit.empty() || status)
    return status;
  if (!leftOut)
    std::fprintf(stderr,
                 "software-gpu: SOFTWARE_GPU_OMIT=%s: expected the name of an order of this run, "
                 "as SOFTWARE_GPU_ORDERS lists them\n",
                 options.omit.c_str());
  else
    std::fprintf(stderr, "software-gpu: left out: %s\n",
                 enough == Enough::Orders ? "other orders are enough"
                 : enough == Enough::Host ? "other orders and waits of the host are enough"
                                          : "nothing tells of it");
  return leftOut ? 0 : 2;
}

Place sgpu::cuda::callPlace(const std::string &call, const std::string &what) {
  Place p;
  p.call = call;
  p.what = what;
  return p;
}

//===----------------------------------------------------------------------===//
// Order
//===----------------------------------------------------------------------===//

static void joinInto(OrderClock &into, const OrderClock &other) {
  if (into.size() < other.size())
    into.resize(other.size());
  for (size_t i = 0; i < other.size(); ++i)
    into[i] = std::max(into[i], other[i]);
}

static bool covers(const OrderClock &clock, const OrderClock &wanted) {
  for (size_t i = 0; i < wanted.size(); ++i)
    if (wanted[i] > (i < clock.size() ? clock[i] : 0))
      return false;
  return true;
}

/// What this thread has waited for, with the order that was left out. Other threads are not behind
/// it: that one of their ops came later in this run is no order of the program.
static thread_local OrderClock wholeHostClock;

/// Whether the op comes after less than with the order that was left out, and whether the host makes
/// up for it.
void Driver::judge(const Op &op) {
  if (!covers(*op.clock, *op.whole))
    enough = Enough::Nothing;
  else if (!covers(*op.device, *op.wholeDevice))
    enough = std::max(enough, Enough::Host);
}

void Driver::known(const Op &op) {
  joinInto(hostClock, *op.clock);
  if (op.whole)
    joinInto(wholeHostClock, *op.whole);
  timeNow = std::max(timeNow, op.time);
}

void Driver::refused(CUresult code) const {
  if (!leftOut || code < CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED ||
      code > CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD)
    return;
  const char *name = "";
  cuGetErrorName(code, &name);
  std::fprintf(stderr,
               "software-gpu: capture: without the order that SOFTWARE_GPU_OMIT names: %s\n", name);
  std::fflush(nullptr);
  _exit(Reporter::faultStatus);
}

bool Driver::leavesOut(const std::string &order) {
  if (!options.orders.empty())
    append(options.orders, order);
  if (leftOut || order != options.omit)
    return false;
  return leftOut = true;
}

std::string Driver::workName(uint32_t id) {
  return id < issued.size() && issued[id].name ? *issued[id].name : "earlier work";
}

OpRef Driver::newOp(CUcontext context, TaskRef task, uint32_t chain,
                    const std::vector<OpRef> &after, Lock &lock,
                    const std::vector<OpRef> &leftOut) {
  auto op = std::make_shared<Op>();
  op->context = context;
  OrderClock clock = hostClock;
  op->time = timeNow;
  for (const OpRef &before : after)
    if (before) {
      joinInto(clock, *before->clock);
      op->time = std::max(op->time, before->time);
    }
  if (task) {
    if (sequences.size() <= chain)
      sequences.resize(chain + 1);
    if (clock.size() <= chain)
      clock.resize(chain + 1);
    op->chain = chain;
    op->sequence = clock[chain] = ++sequences[chain];
    op->work.id = uint32_t(issued.size());
    issued.push_back({chain, op->sequence, &*names.insert(task->name).first});
    op->time += task->nanoseconds;
  }
  op->task = std::move(task);
  op->clock = std::make_shared<OrderClock>(std::move(clock));
  if (!options.omit.empty()) {
    OrderClock whole = wholeHostClock, device, wholeDevice;
    for (const OpRef &before : after)
      if (before) {
        joinInto(whole, *before->whole);
        joinInto(device, *before->device);
        joinInto(wholeDevice, *before->wholeDevice);
      }
    for (const OpRef &before : leftOut) {
      joinInto(whole, *before->whole);
      joinInto(wholeDevice, *before->wholeDevice);
    }
    if (op->task)
      for (OrderClock *own : {&whole, &device, &wholeDevice}) {
        own->resize(std::max<size_t>(own->size(), chain + 1));
        (*own)[chain] = op->sequence;
      }
    op->whole = std::make_shared<OrderClock>(std::move(whole));
    op->device = std::make_shared<OrderClock>(std::move(device));
    op->wholeDevice = std::make_shared<OrderClock>(std::move(wholeDevice));
    if (op->task && op->task->run)
      judge(*op);
  }
  Op *self = op.get();
  op->work.ordered = [this, self](uint32_t earlier) {
    const Issued &e = issued[earlier];
    return e.chain < self->clock->size() && (*self->clock)[e.chain] >= e.sequence;
  };
  op->work.name = [this](uint32_t id) { return workName(id); };
  for (const OpRef &before : after)
    if (before && !before->done &&
        std::find(before->dependents.begin(), before->dependents.end(), op) ==
            before->dependents.end()) {
      before->dependents.push_back(op);
      op->dependencies.push_back(before);
      ++op->waitsFor;
    }
  op->serial = ++lastSerial;
  pending.emplace(op->serial, op);
  if (!op->waitsFor)
    makeReady(op);
  if (options.completion == Completion::Early) {
    while (!pending.empty() && advance(lock)) {
    }
  } else if (options.completion == Completion::Random) {
    while (random.below(3) == 0 && advance(lock)) {
    }
  }
  while (pending.size() > 4096 && advance(lock)) {
  }
  return op;
}

//===----------------------------------------------------------------------===//
// Execution
//===----------------------------------------------------------------------===//

/// Marks what must be done before `op` is.
uint64_t Driver::need(const OpRef &op) {
  uint64_t mark = ++lastMark;
  std::vector<OpRef> todo{op};
  op->mark = mark;
  while (!todo.empty()) {
    OpRef next = todo.back();
    todo.pop_back();
    for (const std::weak_ptr<Op> &w : next->dependencies)
      if (OpRef d = w.lock(); d && !d->done && d->mark != mark) {
        d->mark = mark;
        todo.push_back(d);
      }
  }
  return mark;
}

/// An op that can run now: one that is marked if there is one (or, sometimes, another one), any
/// with mark 0. Null if none can.
OpRef Driver::choose(uint64_t mark) {
  std::vector<OpRef> wanted, others;
  for (const OpRef &op : ready) {
    if (op->running || op->stalled)
      continue;
    (mark && op->mark == mark ? wanted : others).push_back(op);
  }
  if (!mark)
    return others.empty() ? nullptr : others[random.below(uint32_t(others.size()))];
  bool other = !others.empty() && options.completion != Completion::Late
                   ? random.below(2) == 0
                   : !others.empty() && random.below(8) == 0;
  // What is wanted waits for others (ranks): they may be among the rest.
  if (wanted.empty()) {
    bool stalled = std::any_of(ready.begin(), ready.end(),
                               [&](const OpRef &op) { return op->mark == mark && op->stalled; });
    other = stalled && !others.empty();
    if (!other)
      return nullptr;
  }
  std::vector<OpRef> &from = other ? others : wanted;
  return from[random.below(uint32_t(from.size()))];
}

void Driver::complete(const OpRef &op) {
  op->done = true;
  std::erase(ready, op);
  pending.erase(op->serial);
  for (const OpRef &d : op->dependents)
    if (--d->waitsFor == 0)
      makeReady(d);
  op->dependents.clear();
  op->dependencies.clear();
  op->work.ordered = nullptr;
  op->work.name = nullptr;
  changed.notify_all();
}

DeviceMemory &Driver::memoryOf(const Op &op, uint64_t address) {
  Device *d = deviceOf(address);
  return d ? *d->memory : *op.context->device->memory;
}

void Driver::makeReady(const OpRef &op) {
  ready.push_back(op);
  const Task *task = op->task.get();
  if (!task || task->writes.empty() || op->context->error != CUDA_SUCCESS)
    return;
  std::vector<sgpu_range> reads = task->reads;
  std::sort(reads.begin(), reads.end(),
            [](const sgpu_range &a, const sgpu_range &b) { return a.address < b.address; });
  uint64_t longest = 0;
  for (const sgpu_range &r : reads)
    longest = std::max(longest, r.bytes);
  for (const sgpu_range &w : task->writes) {
    // What it also reads keeps its value.
    auto r = std::lower_bound(reads.begin(), reads.end(), w.address - std::min(w.address, longest),
                              [](const sgpu_range &a, uint64_t b) { return a.address < b; });
    while (r != reads.end() && r->address < w.address + w.bytes &&
           r->address + r->bytes <= w.address)
      ++r;
    if (r != reads.end() && r->address < w.address + w.bytes)
      continue;
    DeviceMemory &m = memoryOf(*op, w.address);
    auto *bytes = static_cast<uint8_t *>(sgpu::cuda::isPageable(*this, w.address)
                                             ? reinterpret_cast<void *>(w.address)
                                             : m.host(w.address, w.bytes));
    if (bytes)
      m.poison(w.address, w.bytes, bytes);
  }
}

static thread_local bool inCallOfHost = false;

bool sgpu::cuda::inHostFunction() {
  if (inCallOfHost)
    Driver::get().reporter.add(Report{
        .check = Check::Argument,
        .message = "a host function calls the driver; it may not, as the driver may wait for it",
        .place = callPlace("cuLaunchHostFunc")});
  return inCallOfHost;
}

// Functions of the program get a thread of their own: they may wait for what another thread of the
// program does after this call. The short wait makes the order of work the same each time.
void Driver::callHost(Lock &lock, const OpRef &op) {
  hostCalls.push_back(op);
  if (!hostThread) {
    hostThread = true;
    std::thread([this] {
      inCallOfHost = true;
      Lock lock(mutex);
      for (;;) {
        hostCalled.wait(lock, [&] { return !hostCalls.empty(); });
        OpRef op = std::move(hostCalls.front());
        hostCalls.pop_front();
        lock.unlock();
        sgpu_progress progress = op->task->run(*op);
        lock.lock();
        settle(op, progress, op->task->faultCode);
      }
    }).detach();
  }
  hostCalled.notify_one();
  changed.wait_for(lock, std::chrono::milliseconds(5), [&] { return op->done; });
}

void Driver::execute(Lock &lock, const OpRef &op) {
  const Task *task = op->task.get();
  if (!task || !task->run || op->context->error != CUDA_SUCCESS) {
    complete(op);
    return;
  }
  op->running = true;
  if (task->type == CU_GRAPH_NODE_TYPE_HOST)
    return callHost(lock, op);
  Place place = callPlace(task->name);
  auto at = [&] { return place; };
  bool exists = true;
  if (task->checked && !op->checked) { // once, however often it waits
    op->checked = true;
    Access access;
    access.work = &op->work;
    for (const sgpu_range &r : task->reads)
      exists &= memoryOf(*op, r.address).check(r.address, r.bytes, access, at, !r.maybe);
    access.write = true;
    for (const sgpu_range &r : task->writes)
      exists &= memoryOf(*op, r.address).check(r.address, r.bytes, access, at);
  }
  if (!exists)
    return settle(op, sgpu_progress::Fault, CUDA_ERROR_ILLEGAL_ADDRESS);
  if (task->unlocked)
    lock.unlock();
  sgpu_progress progress = task->run(*op);
  if (task->unlocked)
    lock.lock();
  settle(op, progress, task->faultCode);
}

void Driver::settle(const OpRef &op, sgpu_progress progress, CUresult code) {
  op->running = false;
  if (progress == sgpu_progress::Wait) {
    op->stalled = true;
    return;
  }
  for (const OpRef &r : ready)
    r->stalled = false; // what waits for others may go on now
  if (progress == sgpu_progress::Fault) {
    if (op->context->error == CUDA_SUCCESS)
      op->context->error = op->faultCode ? op->faultCode : code;
  } else if (op->task->checked) {
    for (const sgpu_range &r : op->task->writes)
      memoryOf(*op, r.address).setState(r.address, r.bytes, ByteState::Written);
  }
  complete(op);
}

void Driver::bringForward(Lock &lock, const OpRef &op) {
  uint64_t mark = need(op);
  while (op->waitsFor) {
    auto next = std::find_if(ready.begin(), ready.end(), [&](const OpRef &r) {
      return r->mark == mark && !r->running && !r->stalled &&
             (!r->task || r->task->type != CU_GRAPH_NODE_TYPE_HOST);
    });
    if (next == ready.end())
      return;
    execute(lock, OpRef(*next));
  }
}

bool Driver::advance(Lock &lock) {
  OpRef op = choose(0);
  if (!op) {
    for (const OpRef &r : ready)
      r->stalled = false; // asked again next time
    return false;
  }
  execute(lock, op);
  return true;
}

void Driver::wait(Lock &lock, const OpRef &op) {
  if (!op)
    return;
  // Marked once, for as long as nobody else marks.
  uint64_t mark = 0;
  std::chrono::microseconds pause(50);
  while (!op->done) {
    if (!mark || mark != lastMark)
      mark = need(op);
    if (OpRef next = choose(mark)) {
      execute(lock, next);
      if (!next->stalled)
        pause = std::chrono::microseconds(50);
      continue;
    }
    // It waits for other threads, or for other processes, which do not tell: asked now and then.
    changed.wait_for(lock, pause);
    pause = std::min(pause * 2, std::chrono::microseconds(1000));
    for (const OpRef &r : ready)
      r->stalled = false;
  }
  known(*op);
}

void Driver::waitAll(Lock &lock, CUcontext context) {
  for (uint64_t last = lastSerial; last;) {
    OpRef op;
    for (const auto &[serial, p] : pending)
      if (serial <= last && (!context || p->context == context))
        op = p;
    if (!op)
      break;
    last = op->serial - 1;
    wait(lock, op);
  }
  // Work that was done before, when somebody else waited, is known too.
  auto knowDone = [&](const OpRef &op) {
    if (op && op->done)
      known(*op);
  };
  for (const auto &[p, s] : state().streams.all())
    if (!context || s->context == context)
      knowDone(s->last);
  for (const auto &[p, c] : state().contexts.all())
    if (!context || p == context)
      for (const OpRef &orphan : c->orphans)
        knowDone(orphan);
}

void sgpu::cuda::waitChecked(Lock &lock, CUcontext context, const OpRef &op) {
  Driver::get().wait(lock, op);
  if (context->error != CUDA_SUCCESS)
    fail(context->error);
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

Device *Driver::deviceOf(uint64_t address) {
  for (auto &d : devices)
    if (d->memory->owns(address))
      return d.get();
  return nullptr;
}

bool Driver::isPinned(const void *pointer, uint64_t *start, uint64_t *bytes) const {
  uint64_t a = reinterpret_cast<uint64_t>(pointer);
  auto it = pinned.upper_bound(a);
  if (it == pinned.begin())
    return false;
  --it;
  if (a - it->first >= it->second.bytes)
    return false;
  if (start)
    *start = it->first;
  if (bytes)
    *bytes = it->second.bytes;
  return true;
}

//===----------------------------------------------------------------------===//
// For the other libraries
//===----------------------------------------------------------------------===//

extern "C" {
int sgpu_enqueue(void *stream, sgpu_work work) {
  return call([&](Driver &driver, Lock &lock) {
    CUstream s = findStream(static_cast<CUstream>(stream));
    auto task = std::make_shared<Task>();
    task->name = std::move(work.name);
    task->type = CU_GRAPH_NODE_TYPE_KERNEL;
    task->reads = std::move(work.reads);
    task->writes = std::move(work.writes);
    task->checked = task->unlocked = true;
    task->faultCode = CUresult(work.faultCode);
    task->nanoseconds = 10000;
    task->run = [run = std::move(work.run)](Op &) { return run(); };
    issue(lock, s, task);
  });
}

int sgpu_device_of(void *stream, int *device) {
  return call([&](Driver &, Lock &) {
    *device =
        (stream ? findStream(static_cast<CUstream>(stream))->context : current())->device->ordinal;
  });
}

void *sgpu_resolve(uint64_t address, uint64_t bytes) {
  if (!Driver::initialized())
    return nullptr;
  Driver &driver = Driver::get();
  if (Device *d = driver.deviceOf(address))
    return d->memory->host(address, bytes);
  std::lock_guard lock(driver.mutex);
  uint64_t start, size;
  void *p = reinterpret_cast<void *>(address);
  if (driver.isPinned(p, &start, &size) && bytes <= start + size - address)
    return p;
  return nullptr;
}

bool sgpu_written(uint64_t address, uint64_t bytes) {
  Device *d = Driver::get().deviceOf(address);
  return !d || d->memory->written(address, bytes);
}

int sgpu_device_of_address(uint64_t address) {
  if (!Driver::initialized())
    return -2;
  Driver &driver = Driver::get();
  if (Device *d = driver.deviceOf(address))
    return d->ordinal;
  std::lock_guard lock(driver.mutex);
  return driver.isPinned(reinterpret_cast<void *>(address)) ? -1 : -2;
}

std::string sgpu_describe(uint64_t address) {
  Driver &driver = Driver::get();
  Device *d = driver.deviceOf(address);
  return (d ? *d : *driver.devices.front()).memory->describe(address);
}

int sgpu_capability(int device) {
  Driver &driver = Driver::get();
  return device >= 0 && device < int(driver.devices.size())
             ? driver.devices[size_t(device)]->chip->capability
             : 0;
}

void sgpu_report(const sgpu::Report &report) { Driver::get().reporter.add(report); }

const sgpu::Options &sgpu_options() { return Driver::get().options; }

bool sgpu_advance() {
  if (!Driver::initialized())
    return false;
  Driver &driver = Driver::get();
  Lock lock(driver.mutex);
  return driver.advance(lock);
}

void sgpu_at_exit(void (*function)()) {
  Driver &driver = Driver::get();
  Lock lock(driver.mutex);
  driver.atExit.push_back(function);
}
}
