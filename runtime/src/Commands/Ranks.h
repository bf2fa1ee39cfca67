//===- Ranks.h - The ranks of a command ------------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A command is the same in every process: with no launcher one process holds
// all ranks, each on a thread of its own; with a launcher (MPI, torchrun, srun)
// each process holds one. What only one may do (print, write files) it does
// `atRoot`, where the memory of all ranks can be read.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_COMMANDS_RANKS_H
#define LLRT_COMMANDS_RANKS_H

#include "src/Commands/Arguments.h"
#include "src/Control/Launch.h"
#include "src/Rank/Rank.h"
#include "src/Transport/Transport.h"

#include <functional>

namespace llrt {

class Ranks {
public:
  // The ranks of this process, as --threads and --timeout say, with the memory that the
  // programs named `runs` need. `program` must outlive this. Throws Error if there is not
  // enough memory.
  Ranks(const Program &program, const Arguments &arguments, const std::vector<std::string> &runs);
  ~Ranks();

  const Program &program() const { return compiled; }

  // Whether rank 0 is one of this process.
  bool isRoot() const { return launch.rank == 0; }

  // The lowest rank of this process.
  const Rank &first() const { return *local(launch.rank); }

  // Calls `work` for each rank of this process, on its thread; waits for all.
  // Throws what the first one throws that fails.
  void each(const std::function<void(Rank &)> &work);

  // Calls `work` in the process of rank 0; the others wait, however long it
  // takes, and let it `read`. No rank may run anything. Returns in all
  // processes what `work` has returned. Throws in all of them if it throws: in
  // the others PeerFailure.
  std::string atRoot(const std::function<std::string()> &work);

  // Within `atRoot`: copies `bytes` bytes at `from` in the memory of rank
  // `rank`.
  void read(int64_t rank, Address from, int64_t bytes, void *to) const;

  // Rank i records in `(*traces)[i]` from now on; null: no longer.
  void setTraces(std::vector<Trace> *traces);

  // The texts that `make` makes of all ranks, by rank, in the process of rank
  // 0; elsewhere nothing.
  std::vector<std::string> texts(const std::function<std::string(Rank &)> &make);

  // Waits until all processes are here, however long it takes.
  void meet() {
    atRoot([] { return std::string(); });
  }

private:
  struct Pool;

  // Rank 0: the others go on with `result`. `status` is not 0 if it has failed.
  void release(int status, const std::string &result);
  // The others: stand by until then, and let rank 0 read.
  std::string serve();

  // Rank `number`; null if it is not one of this process.
  Rank *local(int64_t number) const;

  const Program &compiled;
  Launch launch;
  std::unique_ptr<Devices> devices; // before the ranks, which use it
  std::unique_ptr<Control> control; // of `single`
  std::unique_ptr<Transport> transport;
  std::unique_ptr<Rank> single; // the only rank of this process, or
  std::unique_ptr<Pool> pool;   // all ranks
};

// Records what all ranks do from its making to its end.
class Tracing {
public:
  // Throws Error if `file` cannot be created.
  Tracing(Ranks &ranks, std::string file);
  ~Tracing();
  // Later events belong to step `number`.
  void setStep(int64_t number);
  // No more events.
  void pause();
  // Throws Error if the file cannot be written.
  void write();

private:
  Ranks &ranks;
  std::string file;
  std::vector<Trace> traces; // by rank
};

// The options that say how ranks are made: --threads, --timeout and others. `spare`: threads the
// command needs itself.
std::vector<Option> rankOptions(const Program &program, int64_t spare = 0);

} // namespace llrt
#endif // LLRT_COMMANDS_RANKS_H
