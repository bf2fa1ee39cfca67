//===- GridProgram.h - A program of several ranks --------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A program as the compiler emits it for a grid, with blocks written by hand:
// two linear layers over embeddings, cut over data, stages, tokens and
// vocabulary.
//
//   x[b,s,:] = E[id[b,s],:]       E [V, D]  rows split over tp
//   y = norm * x                  norm [D]  whole
//   z = y A^T                     A [D, D]  columns split over tp
//   logits = z W^T                W [V, D]  rows split over tp
//
// With two stages the first three are stage 0, the head is stage 1. f64, so
// that all grids must agree to rounding errors of sums.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_TEST_COMMANDS_GRIDPROGRAM_H
#define LLRT_TEST_COMMANDS_GRIDPROGRAM_H

#include "RunCommand.h"

#include <functional>

namespace llrt::test {

struct GridSizes {
  int64_t dp = 1, pp = 1, cp = 1, tp = 1;
  int64_t batch = 1, microBatches = 1;
  // State (1), or state and weights (2), are sharded over dp.
  int64_t shard = 0;
  // The block of this rank's first run never returns.
  int64_t hangs = -1;

  int64_t ranks() const { return dp * pp * cp * tp; }
  std::string text() const; // `2,2,1,1,...`, the members in order
  static GridSizes parse(const std::string &text);
};

class GridProgram {
public:
  explicit GridProgram(const GridSizes &sizes);

  nlohmann::json content;

  // Lives as long as this object, until the next call. One at a time: the
  // blocks know the sizes of the last one.
  const LlrtProgram &get();

private:
  GridSizes sizes;
  std::string text;
  std::vector<const char *> names;
  std::vector<LlrtBlock> blocks;
  LlrtProgram program;
};

// The command in a new process that holds all ranks.
Outcome runThreads(const GridSizes &sizes, std::vector<std::string> words);

// The same in a process for each rank. `processes`: how many, -1 for as many as
// there are ranks.
Outcome runMpi(const GridSizes &sizes, std::vector<std::string> words, int64_t processes = -1);

// Starts the same; the output goes to the files `log`.out and `log`.err.
pid_t startMpi(const GridSizes &sizes, std::vector<std::string> words, const std::string &log,
               int64_t processes = -1);

// Environment variables of a process.
using Variables = std::map<std::string, std::string>;

// What torchrun and srun say to process `rank` of `size` on this machine.
Variables torchrunVariables(int64_t rank, int64_t size, int64_t port);
Variables slurmVariables(int64_t rank, int64_t size, int64_t port);

// A port that nobody listens at.
int64_t freePort();

// The command in processes that find each other over TCP, started as torchrun does.
class TcpJob {
public:
  // `processes`: the ranks that are started, -1 for all; `variables` of each.
  TcpJob(const GridSizes &sizes, const std::vector<std::string> &words, int64_t processes = -1,
         std::function<Variables(int64_t rank)> variables = {});
  ~TcpJob(); // ends those that have not been waited for

  pid_t process(int64_t rank) const { return processes[rank]; }
  std::string out(int64_t rank) const;
  std::string err(int64_t rank) const;
  // Waits for one, or for all: the worst status, rank 0's output, all messages.
  int wait(int64_t rank);
  Outcome wait();
  // Where rank 0 listens, if no `variables` were given.
  const int64_t port = freePort();

private:
  Folder folder;
  std::vector<pid_t> processes; // -1: has ended
};

// The same as a function, to be compared with `runMpi`.
Outcome runTcp(const GridSizes &sizes, std::vector<std::string> words);

// Weights of the program under its keys, all numbers unlike each other.
std::map<std::string, FloatTensor> gridWeights();

} // namespace llrt::test
#endif // LLRT_TEST_COMMANDS_GRIDPROGRAM_H
