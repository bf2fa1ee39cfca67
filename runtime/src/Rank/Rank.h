//===- Rank.h - One rank: its memory and its interpreter -------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A program is a list of entries; a run among them is a list of items. All of
// them are queued at once, each in its stream:
//
//   stream 0   begin 0 | block | block | end 0 | begin 1 | block | ...
//   stream 1             all_gather | all_gather | ...
//   stream 2   receive | receive | ...
//
// The rank's thread goes round the heads of the queues: what has all that it
// comes after behind it is started. Calls run to their end at once; collectives
// and transfers are started, then looked after in each round until they are
// done.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_RANK_RANK_H
#define LLRT_RANK_RANK_H

#include "src/Host/Stream.h"
#include "src/Rank/Arenas.h"
#include "src/Rank/Trace.h"
#include "src/Transport/Transport.h"

#include <cstring>
#include <functional>

namespace llrt {

// The order that `llrt/Program.h` gives.
struct Hyperparameters {
  double gradientScale, learningRate, beta1, beta2, epsilon, weightDecay;
  double correction1,
      correction2; // 1 - beta^t, t the number of the step from 1
};

// What a command does between the actions of a program, on the rank's thread.
// Empty: nothing.
struct Events {
  // Before a run: fill the inputs of `graph`. `microBatch` is that of the run.
  std::function<void(const Graph &graph, int64_t microBatch)> prepare;
  // After it: read its outputs.
  std::function<void(const Graph &graph, int64_t microBatch)> finish;
  // Asked for before each update.
  std::function<Hyperparameters()> hyperparameters;
};

// Of all ranks together.
struct Sums {
  double loss;    // of valid tokens
  double squares; // of all elements of the gradient
};

// Owns the arenas of one rank and runs its programs. Ranks share nothing but the
// (constant) program.
class Rank {
public:
  // Rank `number` of the grid. `program` and `transport` must outlive the rank.
  // `threads` is at least 1. A program whose other ranks do not answer for
  // `timeout` is given up, and with it the process.
  Rank(const Program &program, int64_t number, int64_t threads, Transport &transport,
       std::chrono::duration<double> timeout);

  const Program &program() const { return compiled; }
  int64_t number() const { return rank; }
  const Stage &stage() const { return compiled.stages[compiled.stageOf(rank)]; }

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

  // Runs the entries of program `name` before its first update; `runUpdate`
  // runs the others. Of the runs, those of micro-batches below `microBatches`;
  // on a grid of several ranks all.
  void run(const std::string &name, const Events &events, int64_t microBatches);
  void runUpdate(const std::string &name, const Events &events);

  // What the statistics of program `name` came to, after `run`.
  Sums sums(const std::string &name) const;

  // Where the rank's own loops run.
  LlrtStream *stream() { return &hostStream; }

  // Null: no trace. It must outlive the runs.
  void setTrace(Trace *value) { trace = value; }

private:
  class Interpreter;

  template <typename T> T *at(Address address) const {
    return static_cast<T *>(arenas.at(address));
  }
  // The value at `address`, which is of the master type.
  double masterScalar(Address address) const;
  // Sets element `index` of a buffer of the master type.
  void setMasterScalar(Address address, int64_t index, double value) const;

  const Program &compiled;
  int64_t rank;
  Arenas arenas;
  Transport &transport;
  std::chrono::duration<double> timeout;
  LlrtStream hostStream;
  std::vector<std::vector<int64_t>> members; // of each communicator
  double lossSum = 0;                        // of this rank's runs since `run` began
  Trace *trace = nullptr;
};

} // namespace llrt
#endif // LLRT_RANK_RANK_H
