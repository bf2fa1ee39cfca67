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
    : options(options), reporter(options, true), random(Random(options.seed).split(0x73747265616d)) {
  for (int i = 0; i < options.devices; ++i) {
    auto d = std::make_unique<Device>();
    d->ordinal = i;
    d->chip = Chip::find(options.chip);
    d->memory = std::make_unique<DeviceMemory>(i, options, reporter);
    devices.push_back(std::move(d));
  }
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
  for (auto &d : devices)
    d->memory->reportLeaks();
  for (const auto &[start, p] : pinned) {
    if (p.registered)
      continue;
    Report r{.check = Check::Leak,
             .message = "pinned host memory of " + std::to_string(p.bytes) + " bytes is never freed",
             .place = callPlace("cuMemHostAlloc")};
    r.hasAddress = true;
    r.address = start;
    reporter.add(std::move(r));
  }
  if (!options.counters.empty())
    for (auto &[kernel, c] : counters)
      if (c.launches > 1)
        append(options.counters, c.toJson());
  return reporter.finish();
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

void Driver::known(const Op &op) {
  joinInto(hostClock, *op.clock);
  timeNow = std::max(timeNow, op.time);
}

std::string Driver::workName(uint32_t id) {
  return id < issued.size() && issued[id].name ? *issued[id].name : "earlier work";
}

OpRef Driver::newOp(CUcontext context, TaskRef task, uint32_t chain,
                    const std::vector<OpRef> &after, Lock &lock) {
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
  pending.insert(op);
  if (!op->waitsFor)
    ready.push_back(op);
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

bool Driver::pendingMayTouch(uint64_t address, uint64_t bytes) {
  auto overlaps = [&](const sgpu_range &r) {
    return r.address < address + bytes && address < r.address + r.bytes;
  };
  uint64_t start = address, size = bytes;
  isPinned(reinterpret_cast<void *>(address), &start, &size);
  for (const OpRef &op : pending) {
    if (!op->task)
      continue;
    if (std::any_of(op->task->reads.begin(), op->task->reads.end(), overlaps) ||
        std::any_of(op->task->writes.begin(), op->task->writes.end(), overlaps))
      return true;
    if (op->task->type == CU_GRAPH_NODE_TYPE_HOST)
      return true; // a function of the program may touch anything
    if (op->task->launch) {
      const std::vector<uint8_t> &p = op->task->launch->parameters;
      for (size_t i = 0; i + 8 <= p.size(); i += 8) {
        uint64_t value;
        std::memcpy(&value, p.data() + i, 8);
        if (value - start < size)
          return true;
      }
    }
  }
  return false;
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
    bool stalled = std::any_of(ready.begin(), ready.end(), [&](const OpRef &op) {
      return op->mark == mark && op->stalled;
    });
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
  pending.erase(op);
  for (const OpRef &d : op->dependents)
    if (--d->waitsFor == 0)
      ready.push_back(d);
  op->dependents.clear();
  op->dependencies.clear();
  op->work.ordered = nullptr;
  op->work.name = nullptr;
  changed.notify_all();
}

void Driver::execute(Lock &lock, const OpRef &op) {
  const Task *task = op->task.get();
  if (!task || !task->run || op->context->error != CUDA_SUCCESS) {
    complete(op);
    return;
  }
  op->running = true;
  Place place = callPlace(task->name);
  auto at = [&] { return place; };
  auto memoryOf = [&](uint64_t address) -> DeviceMemory & {
    Device *d = deviceOf(address);
    return d ? *d->memory : *op->context->device->memory;
  };
  bool exists = true;
  if (task->checked && !op->stalled) {
    Access access;
    access.work = &op->work;
    for (const sgpu_range &r : task->reads)
      exists &= memoryOf(r.address).check(r.address, r.bytes, access, at);
    access.write = true;
    for (const sgpu_range &r : task->writes)
      exists &= memoryOf(r.address).check(r.address, r.bytes, access, at);
  }
  sgpu_progress progress = sgpu_progress::Fault;
  CUresult code = CUDA_ERROR_ILLEGAL_ADDRESS;
  if (exists) {
    code = task->faultCode;
    if (task->unlocked) {
      lock.unlock();
      progress = task->run(*op);
      lock.lock();
    } else {
      progress = task->run(*op);
    }
  }
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
  } else if (task->checked) {
    for (const sgpu_range &r : task->writes)
      memoryOf(r.address).setState(r.address, r.bytes, ByteState::Written);
  }
  complete(op);
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
  while (!op->done) {
    uint64_t mark = need(op);
    if (OpRef next = choose(mark)) {
      execute(lock, next);
      continue;
    }
    changed.wait_for(lock, std::chrono::microseconds(200));
    for (const OpRef &r : ready)
      r->stalled = false;
  }
  known(*op);
}

void Driver::waitAll(Lock &lock, CUcontext context) {
  for (;;) {
    OpRef last;
    for (const OpRef &op : pending)
      if ((!context || op->context == context) &&
          (!last || op->work.id > last->work.id || !last->work.id))
        last = op;
    if (!last)
      break;
    wait(lock, last);
  }
  // Work that was done before, when somebody else waited, is known too.
  for (const auto &[p, s] : state().streams.all())
    if ((!context || s->context == context) && s->last && s->last->done)
      known(*s->last);
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
    *device = (stream ? findStream(static_cast<CUstream>(stream))->context : current())
                  ->device->ordinal;
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
