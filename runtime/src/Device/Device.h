//===- Device.h - Memory and queues of one rank ----------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A device has memory, and streams in which it does what it is given: the work of a
// stream in order, later. Streams know nothing of each other but for events:
//
//   stream 0   call | call | record e |        call | ...
//   stream 1   receive     | await e  | send |        ...
//   host       (has gone on)                          wait | read
//
// A rank issues a whole program like this and then waits. The host blocks in `read`
// and `wait` alone, and in nothing that another rank would have to do something for.
// One thread calls all functions of an object.
//
// Each target has its own library, with its devices and what compiled blocks call:
// src/Host (libllrt_host.a), src/Cuda (libllrt_cuda.a). An executable has one of them.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_DEVICE_DEVICE_H
#define LLRT_DEVICE_DEVICE_H

#include "src/Control/Launch.h"
#include "src/Program/Program.h"
#include "src/Transport/Transport.h"

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace llrt {

// What a piece of work is called in messages: an entry of a program, or an item of the
// graph that an entry runs. What is pointed at must outlive the work.
struct Work {
  const Action *action;        // the entry or the item
  int64_t entry;               // in its program
  int64_t item = -1;           // in the graph of `run`; -1: the entry itself
  const Action *run = nullptr; // of an item: the entry
};

// `all_reduce on communicator 'tp' (layer 3), item 2 of graph 'forward', micro-batch 0`,
// `call of block 'loss', entry 4`.
std::string workText(const Program &program, const Work &work);

class Device {
public:
  using Clock = std::chrono::steady_clock;

  // A stream, by the number that a program gives it. It is there when it is first used.
  using Stream = int64_t;

  // A point of a stream. Belongs to the device that made it.
  class Mark {
  public:
    virtual ~Mark() = default;
  };
  using Event = std::shared_ptr<Mark>;

  // Work that has been recorded and can be done again, all at once. Belongs to the device
  // that made it.
  class Recording {
  public:
    virtual ~Recording() = default;
  };

  virtual ~Device() = default; // frees all memory; drops work that is not done

  // Memory that is all zero, at a multiple of 256, until the device ends. `name` is for
  // messages. Throws Error, with what was wanted, if there is not enough.
  virtual void *allocate(int64_t bytes, const std::string &name) = 0;

  // What programs will ask of a device, each piece in the order in which they do.
  struct Visitor {
    std::function<void(Stream, LlrtBlock, std::vector<void *>)> call;
    std::function<void(Stream, const void *from, void *to, const Work &)> communicate;
    std::function<void(int64_t bytes)> write; // of the host, for a run or a program
  };

  // Lets the device make ready what programs will ask for, before anything is written: all
  // memory is zero, and is so afterwards. `visit` shows it to a visitor, as often as it is called.
  // All ranks call it, once.
  virtual void prepare(const std::function<void(const Visitor &)> &visit) {}

  // Brings `bytes` bytes that `fill` makes to `to`. `fill` is called before this
  // returns, with the memory to fill: what it read may change afterwards.
  virtual void write(Stream stream, void *to, int64_t bytes,
                     const std::function<void(std::byte *)> &fill) = 0;

  // Copies `bytes` bytes at `from` to `to` of the host, as they are when the stream has
  // done what it was given; waits for that.
  virtual void read(Stream stream, const void *from, int64_t bytes, void *to) = 0;

  // Bytes that are on their way to the host. Belongs to the device that made it.
  class Reading {
  public:
    virtual ~Reading() = default;
    // Waits until they are there, as `Device::wait` does. They stay as long as this.
    virtual const std::byte *wait() = 0;
  };

  // The same as `read`, but for the waiting.
  virtual std::unique_ptr<Reading> readLater(Stream stream, const void *from, int64_t bytes);

  virtual void zero(Stream stream, void *to, int64_t bytes) = 0;

  // Copies `rows` times `bytes` bytes, whose beginnings are `toStride` and `fromStride`
  // bytes apart. One row may overlap itself.
  virtual void copy(Stream stream, void *to, int64_t toStride, const void *from, int64_t fromStride,
                    int64_t rows, int64_t bytes) = 0;

  // All that the block does. Throws Failure, or `wait` does, if it fails.
  virtual void call(Stream stream, LlrtBlock block, std::vector<void *> buffers,
                    const Work &work) = 0;

  // This rank's side of `work.action`, a collective, a send or a receive. The k-th on a
  // communicator meets the k-th of the other members. `scratch`: the memory that it has
  // beside operand and result, `scratchBytes` of the action; null if none.
  virtual void communicate(Stream stream, const void *from, void *to, void *scratch,
                           const Work &work) = 0;

  // Done when all that the stream was given before is done.
  virtual Event record(Stream stream) = 0;

  // What the stream is given later waits for `event`.
  virtual void await(Stream stream, const Event &event) = 0;

  // The host waits for `event`. Throws Failure, with the name of the work, if a block or
  // a communication fails. Where nothing has moved for the timeout of the device, asks
  // all ranks what they wait for, prints it and ends them.
  virtual void wait(const Event &event) = 0;

  // Whether this device records: what follows is called only then.
  virtual bool records() const { return false; }

  // Work that is given from here on is recorded and not done, beginning with that of `stream`;
  // other streams come in by events. No reads, no waits. `took`: how long it took when it was done
  // piece by piece.
  virtual void beginRecording(Stream stream, std::chrono::duration<double> took) {}

  // The end of it, in the same stream, which has awaited all others.
  virtual std::shared_ptr<Recording> endRecording(Stream stream) { return nullptr; }

  // Writes from here to `play` make the data of those that were recorded, in their order,
  // and nothing else is given.
  virtual void rewrite(const std::shared_ptr<Recording> &recording) {}

  // Does all that was recorded, in `stream`, with the data of the last writes.
  virtual void play(Stream stream, const std::shared_ptr<Recording> &recording) {}

  // When `event`, which is done, was.
  virtual Clock::time_point time(const Event &event) const = 0;
};

// For a device that waits in vain for `own`, in words: asks all ranks what they wait for,
// prints it and ends them.
[[noreturn]] void giveUp(const Grid &grid, Control &control, std::chrono::duration<double> timeout,
                         const std::string &own);

//===----------------------------------------------------------------------===//
// What the library of a target has
//===----------------------------------------------------------------------===//

struct DeviceOptions {
  int64_t threads = 1; // of each rank, for what runs on the host
  std::chrono::duration<double> timeout = std::chrono::seconds(60); // see Device::wait
  bool records = true;             // whether devices that can record do
  bool mayExceedMemory = false;    // whether to begin where less is free than is planned
  std::vector<std::string> runs{}; // the programs that will be run: they say what memory is needed
};

// The devices of the ranks of this process, and what they share.
class Devices {
public:
  virtual ~Devices() = default;

  // The device of rank `rank`, on the thread of that rank. `transport` and `control` must
  // outlive it, and so must this.
  virtual std::unique_ptr<Device> make(int64_t rank, Transport &transport, Control &control) = 0;
};

// Throws Error if this machine lacks what the target needs: a library, a driver, a device.
void checkTarget(const Program &program);

// `program` must outlive it. Throws Error as `checkTarget` does, and if there are too few
// devices for the ranks.
std::unique_ptr<Devices> makeDevices(const Program &program, const Launch &launch,
                                     const DeviceOptions &options);

} // namespace llrt
#endif // LLRT_DEVICE_DEVICE_H
