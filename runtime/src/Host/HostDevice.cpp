//===- HostDevice.cpp - Memory and queues of one rank on the host ---------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A stream is a queue of tasks: a call, a communication, an event, something to wait for. Nothing
// runs until the host waits; then `wait` goes round the heads of the queues:
//
//   stream 0   [call] [record e] [call]        a call at a head is made at once
//   stream 1   [receive: started, polled]      a communication is started, then asked each round
//   stream 2   [await e] [send]                is passed when e is over
//
// What is written to a stream that is not empty is kept until its turn (`staged`). A round in which
// nothing moves lets the transport idle; after the timeout all ranks are asked what they wait for.
//
//===----------------------------------------------------------------------===//

#include "src/Host/HostDevice.h"

#include "src/Data/Error.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sstream>
#include <sys/mman.h>

using namespace llrt;

// What is written while a stream is busy is kept until its turn. Above this, whatever
// can be done is done before the next write returns, so that a step of many
// micro-batches does not keep all of its inputs.
static constexpr int64_t MostStagedBytes = int64_t(64) << 20;

HostDevice::HostDevice(const Program &program, int64_t rank, int64_t threads, Transport &transport,
                       Control &control, std::chrono::duration<double> timeout)
    : program(program), rank(rank), hostStream{threads}, transport(transport), control(control),
      timeout(timeout) {
  for (const Communicator &communicator : program.communicators)
    members.push_back(communicator.members(program.grid, rank));
}

HostDevice::~HostDevice() {
  queues.clear(); // before the memory of what was started
  for (auto [start, bytes] : maps)
    munmap(start, bytes);
}

void *HostDevice::allocate(int64_t bytes, const std::string &name) {
  size_t size = bytes > 0 ? bytes : 1;
  void *start = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED)
    fail("memory: expected ", bytes, " bytes for arena ", name, ", got: ", std::strerror(errno));
  maps.emplace_back(start, size);
  madvise(start, size, MADV_HUGEPAGE); // advice: may be refused
  return start;
}

//===----------------------------------------------------------------------===//
// Work
//===----------------------------------------------------------------------===//

void HostDevice::write(Stream stream, void *to, int64_t bytes,
                       const std::function<void(std::byte *)> &fill) {
  Queue &queue = queues[stream];
  if (queue.tasks.empty())
    return fill(static_cast<std::byte *>(to)); // it would be done at once
  std::shared_ptr<std::byte[]> data = std::make_shared_for_overwrite<std::byte[]>(size_t(bytes));
  fill(data.get());
  staged += bytes;
  queue.tasks.push_back({[=, this] {
    std::memcpy(to, data.get(), size_t(bytes));
    staged -= bytes;
  }});
  while (staged > MostStagedBytes && round())
    ;
}

void HostDevice::read(Stream stream, const void *from, int64_t bytes, void *to) {
  if (auto queue = queues.find(stream); queue != queues.end() && !queue->second.tasks.empty())
    wait(record(stream));
  std::memcpy(to, from, size_t(bytes));
}

// Split over the threads: gradients are as many bytes as all parameters.
static void zeroBytes(LlrtStream *stream, void *data, int64_t bytes) {
  constexpr int64_t Chunk = int64_t(1) << 20;
  void *args[] = {data, &bytes};
  parallelFor(
      stream,
      [](void **args, int64_t lo, int64_t hi) {
        int64_t end = std::min(hi * Chunk, *static_cast<int64_t *>(args[1]));
        std::memset(static_cast<char *>(args[0]) + lo * Chunk, 0, size_t(end - lo * Chunk));
      },
      args, (bytes + Chunk - 1) / Chunk, 4);
}

void HostDevice::zero(Stream stream, void *to, int64_t bytes) {
  queues[stream].tasks.push_back({[=, this] { zeroBytes(&hostStream, to, bytes); }});
}

void HostDevice::copy(Stream stream, void *to, int64_t toStride, const void *from,
                      int64_t fromStride, int64_t rows, int64_t bytes) {
  queues[stream].tasks.push_back({[=] {
    for (int64_t row = 0; row < rows; ++row)
      std::memmove(static_cast<std::byte *>(to) + row * toStride,
                   static_cast<const std::byte *>(from) + row * fromStride, size_t(bytes));
  }});
}

void HostDevice::call(Stream stream, LlrtBlock block, std::vector<void *> buffers,
                      const Work &work) {
  queues[stream].tasks.push_back(
      {[=, this, buffers = std::move(buffers)]() mutable { block(&hostStream, buffers.data()); },
       work});
}

void HostDevice::communicate(Stream stream, const void *from, void *to, void *scratch,
                             const Work &work) {
  queues[stream].tasks.push_back({nullptr, work, from, to, scratch});
}

Device::Event HostDevice::record(Stream stream) {
  auto event = std::make_shared<Reached>();
  Task task;
  task.record = event;
  queues[stream].tasks.push_back(std::move(task));
  return event;
}

void HostDevice::await(Stream stream, const Event &event) {
  Task task;
  task.await = std::static_pointer_cast<Reached>(event);
  queues[stream].tasks.push_back(std::move(task));
}

Device::Clock::time_point HostDevice::time(const Event &event) const {
  return static_cast<const Reached &>(*event).time;
}

//===----------------------------------------------------------------------===//
// The loop
//===----------------------------------------------------------------------===//

bool HostDevice::visit(Queue &queue) {
  bool finished = false, worked = false;
  auto done = [&] {
    queue.tasks.pop_front();
    finished = true;
  };
  while (!queue.tasks.empty()) {
    Task &task = queue.tasks.front();
    if (task.await) {
      if (!task.await->done)
        break;
      done();
      continue;
    }
    if (task.record) {
      task.record->time = Clock::now();
      task.record->done = true;
      done();
      continue;
    }
    if (worked)
      break;
    try {
      if (task.run) {
        task.run();
      } else {
        if (!queue.started)
          queue.started = std::make_unique<Communication>(transport, *task.work.action,
                                                          members[task.work.action->communicator],
                                                          rank, task.from, task.to, task.scratch);
        if (!queue.started->poll())
          break;
        queue.started.reset();
      }
    } catch (const std::exception &error) {
      if (!task.work.action)
        throw;
      throw Failure(workText(program, task.work) + ": " + error.what());
    }
    done();
    worked = true;
  }
  return finished;
}

bool HostDevice::round() {
  bool finished = false;
  for (auto &[number, queue] : queues)
    finished |= visit(queue);
  return finished;
}

void HostDevice::wait(const Event &event) {
  const auto &reached = static_cast<const Reached &>(*event);
  Clock::time_point moved = Clock::now();
  while (!reached.done) {
    if (round()) {
      moved = Clock::now();
      continue;
    }
    if (Clock::now() - moved > timeout)
      giveUp(program.grid, control, timeout, waitsFor());
    control.answer(waitsFor());
    transport.idle();
  }
}

// `all_reduce on communicator 'tp' (layer 3), item 2 of graph 'forward', micro-batch 0,
// for rank 3`, one behind the other for all streams.
std::string HostDevice::waitsFor() const {
  std::ostringstream text;
  for (const auto &[number, queue] : queues) {
    if (!queue.started)
      continue;
    text << (text.view().empty() ? "" : "; ") << workText(program, queue.tasks.front().work);
    std::vector<int64_t> missing = queue.started->missing();
    text << ", for rank" << (missing.size() > 1 ? "s " : " ");
    for (size_t i = 0; i < missing.size(); ++i)
      text << (i ? ", " : "") << missing[i];
  }
  return text.view().empty() ? "nothing that could be started" : text.str();
}

//===----------------------------------------------------------------------===//
// The target
//===----------------------------------------------------------------------===//

namespace {
class HostDevices final : public Devices {
public:
  HostDevices(const Program &program, const DeviceOptions &options)
      : program(program), options(options) {}

  std::unique_ptr<Device> make(int64_t rank, Transport &transport, Control &control) override {
    return std::make_unique<HostDevice>(program, rank, options.threads, transport, control,
                                        options.timeout);
  }

private:
  const Program &program;
  DeviceOptions options;
};
} // namespace

void llrt::checkTarget(const Program &program) {
  LlrtType type = program.precision == "f64"    ? LLRT_F64
                  : program.precision == "bf16" ? LLRT_BF16
                                                : LLRT_F32;
  // Only f64's reference code calls a library for matrix products.
  if (type == LLRT_F64 || program.options.value(option::lower, "") == "fast")
    if (const char *cause = llrt_host_library_error(type))
      throw Error(cause);
}

std::unique_ptr<Devices> llrt::makeDevices(const Program &program, const Launch &,
                                           const DeviceOptions &options) {
  return std::make_unique<HostDevices>(program, options);
}
