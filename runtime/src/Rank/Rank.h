//===- Rank.h - One rank: its memory and its programs ----------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A program is a list of entries; a run among them is a list of items. The rank issues
// them in launch order to its device, each into its stream, with an event wherever an
// action comes after one of another stream, and waits when all are issued:
//
//   stream 0   write inputs | e0 | block | block | await e1 | write inputs | ...
//   stream 1                 await e0 | all_gather | all_gather | e1 | ...
//   stream 2   receive | receive | ...
//
// A run occupies its stream: its items, of whatever stream, come after the event at its
// begin (e0), and its stream goes on after the last item of each other stream (e1).
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_RANK_RANK_H
#define LLRT_RANK_RANK_H

#include "src/Device/Device.h"
#include "src/Rank/Trace.h"

#include <array>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>

namespace llrt {

// What a command does with the runs of a program, on the rank's thread. Empty: nothing.
struct Events {
  // As a run is issued: writes the inputs of `graph`, which get there in the run's
  // stream. `microBatch` is that of the run.
  std::function<void(const Graph &graph, int64_t microBatch)> prepare;
  // When it is over: reads its outputs.
  std::function<void(const Graph &graph, int64_t microBatch)> finish;
};

// Has the arenas of one rank in its device and runs its programs. Ranks share nothing but
// the (constant) program.
class Rank {
public:
  // Rank `number` of the grid, on `device`, with the memory that the programs named `runs`
  // need: only these can be run. `program` must outlive the rank. `threads`, at least 1, are
  // for loops of the host. Throws Error if there is not enough memory.
  Rank(const Program &program, int64_t number, int64_t threads, std::unique_ptr<Device> device,
       const std::vector<std::string> &runs);

  const Program &program() const { return compiled; }
  int64_t number() const { return rank; }
  const Stage &stage() const { return compiled.stages[compiled.stageOf(rank)]; }

  // Whether `bytes` bytes at `address` are in this memory. What only other programs use need
  // not be.
  bool holds(Address address, int64_t bytes) const {
    const std::optional<int64_t> &size = sizes[address.arena];
    return size && bytes <= *size && address.offset <= *size - bytes;
  }

  // Lets `fill` make the `bytes` bytes at `to`, in the memory that it is given. Work
  // that was issued before does not see them, later work does.
  void write(Address to, int64_t bytes, const std::function<void(std::byte *)> &fill);

  // Copies `bytes` bytes at `from` to `to`, as they are when all issued work is done.
  void read(Address from, int64_t bytes, void *to) const;

  // The same for numbers of a type.
  template <typename T> void writeValues(Address to, const std::vector<T> &values) {
    write(to, int64_t(values.size() * sizeof(T)), [&](std::byte *memory) {
      std::memcpy(memory, values.data(), values.size() * sizeof(T));
    });
  }
  template <typename T> std::vector<T> readValues(Address from, int64_t count) const {
    std::vector<T> values(count);
    read(from, count * int64_t(sizeof(T)), values.data());
    return values;
  }

  // Copies `bytes` bytes at `from` to the host, as they are when all that was issued is done.
  std::unique_ptr<Device::Reading> readLater(Address from, int64_t bytes) const;

  // Runs program `name`, whose inputs (`Stage::entryInputs`) are there. Of the runs,
  // and what belongs to them, those of micro-batches below `microBatches`; on a grid
  // of several ranks all.
  void run(const std::string &name, const Events &events, int64_t microBatches);

  // The same in two halves, which need not be done when the second returns:
  //   begin      issues what comes before the first entry that reads the hyperparameters,
  //              and does not need them
  //   finish     issues the rest
  // So the host may look at an earlier program while the device is busy with the first half of the
  // next, before that changes weights. Where the device does not record, `begin` does nothing and
  // `finish` all, and waits.
  void begin(const std::string &name, const Events &events, int64_t microBatches);
  void finish();
  // Waits for all that was issued. The data of a program's inputs stay in memory of the host until it is done:
  // where nobody waits, at most two may be under way.
  void wait();
  // Whether all that was issued has been waited for.
  bool isIdle() const { return waited; }

  // Of the host, for loops of the rank's own.
  int64_t threads() const { return hostThreads; }

  // Null: no trace. It must outlive the runs.
  void setTrace(Trace *value) { trace = value; }

private:
  class Launch;

  // Plays one half of what has begun, recorded now or before.
  void play(size_t half);

  // Shows what the programs named `runs` will do.
  void show(const std::vector<std::string> &runs, const Device::Visitor &visitor) const;

  std::byte *at(Address address) const { return arenas[address.arena] + address.offset; }
  // The same for an address of an item of a graph, which may be in a frame of `run`.
  std::byte *at(Address address, const Action *run) const {
    return address.arena >= 0 ? at(address) : at(run->frames[-1 - address.arena]) + address.offset;
  }

  const Program &compiled;
  int64_t rank;
  std::unique_ptr<Device> device;
  std::vector<std::optional<int64_t>> sizes; // of the arenas; absent: not there
  std::vector<std::byte *> arenas;
  int64_t hostThreads;
  std::vector<std::vector<int64_t>> members; // of each communicator
  Device::Stream current = 0;                // where the host's writes and reads go
  Trace *trace = nullptr;

  // A program that ran, by its name and micro-batches. On a device that records, runs after the first
  // are recorded, in two halves, and played from then on: one recording, and another for runs that begin while the
  // one before may still read the data of its inputs.
  struct Played {
    bool ran = false;
    std::chrono::duration<double> took{0}; // that the last run took that was not played
    std::array<std::array<std::shared_ptr<Device::Recording>, 2>, 2> recordings;
    size_t turn = 0;
  };
  std::map<std::pair<std::string, int64_t>, Played> played;
  // What `begin` was called with, for `finish`.
  struct Begun {
    std::string name;
    Events events;
    int64_t microBatches;
    Played *state = nullptr; // null: nothing is issued yet
  };
  std::optional<Begun> begun;
  bool waited = true; // for all that was issued
};

} // namespace llrt
#endif // LLRT_RANK_RANK_H
