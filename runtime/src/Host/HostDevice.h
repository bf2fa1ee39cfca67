//===- HostDevice.h - Memory and queues of one rank on the host -*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Streams are queues that the thread of the rank works off while it waits:
//
//   stream 0   call | call | record e | call | call | ...
//   stream 1   all_gather | all_gather | await e | ...
//   stream 2   receive | receive | ...
//
// It goes round the heads of the queues and takes at most one piece of work from each.
// Calls run to their end at once; collectives and transfers are started, then looked
// after in each round until they are done. Awaits and records take no turn.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_HOST_HOSTDEVICE_H
#define LLRT_HOST_HOSTDEVICE_H

#include "src/Device/Device.h"
#include "src/Host/Stream.h"
#include "src/Transport/Communication.h"

#include <deque>
#include <map>

namespace llrt {

class HostDevice : public Device {
public:
  // The device of rank `rank`. `program`, `transport` and `control` must outlive
  // it. Blocks run on `threads` threads, at least 1. `timeout`: see `wait`.
  HostDevice(const Program &program, int64_t rank, int64_t threads, Transport &transport,
             Control &control, std::chrono::duration<double> timeout);
  ~HostDevice() override;

  void *allocate(int64_t bytes, const std::string &name) override;
  void write(Stream stream, void *to, int64_t bytes,
             const std::function<void(std::byte *)> &fill) override;
  void read(Stream stream, const void *from, int64_t bytes, void *to) override;
  void zero(Stream stream, void *to, int64_t bytes) override;
  void copy(Stream stream, void *to, int64_t toStride, const void *from, int64_t fromStride,
            int64_t rows, int64_t bytes) override;
  void call(Stream stream, LlrtBlock block, std::vector<void *> buffers, const Work &work) override;
  void communicate(Stream stream, const void *from, void *to, void *scratch,
                   const Work &work) override;
  Event record(Stream stream) override;
  void await(Stream stream, const Event &event) override;
  void wait(const Event &event) override;
  Clock::time_point time(const Event &event) const override;

private:
  struct Reached : Mark {
    bool done = false;
    Clock::time_point time;
  };
  struct Task {
    std::function<void()> run; // work other than a communication, or
    Work work = {};            // of a call or a communication
    const void *from = nullptr;
    void *to = nullptr, *scratch = nullptr;
    std::shared_ptr<Reached> await = {}, record = {}; // one of them
  };
  struct Queue {
    std::deque<Task> tasks;
    std::unique_ptr<Communication> started; // the head
  };

  // Does what can be done at the head of a queue; whether anything was finished.
  bool visit(Queue &queue);
  // Visits all queues; whether anything was finished.
  bool round();
  std::string waitsFor() const;

  const Program &program;
  int64_t rank;
  LlrtStream hostStream;
  Transport &transport;
  Control &control;
  std::chrono::duration<double> timeout;
  std::vector<std::vector<int64_t>> members; // of each communicator
  std::map<Stream, Queue> queues;
  int64_t staged = 0;                          // bytes of writes that are not done
  std::vector<std::pair<void *, size_t>> maps; // address, bytes
};

} // namespace llrt
#endif // LLRT_HOST_HOSTDEVICE_H
