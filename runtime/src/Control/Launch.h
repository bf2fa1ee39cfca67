//===- Launch.h - How the process was started ------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Launchers tell the processes that they start who they are, in the environment:
//
//   mpirun, srun --mpi=pmix   OMPI_COMM_WORLD_*, PMIX_RANK, PMI_*   ranks meet over MPI
//   torchrun                  RANK WORLD_SIZE LOCAL_RANK            over TCP, at
//                             MASTER_ADDR MASTER_PORT                 that address
//   srun                      SLURM_PROCID SLURM_NTASKS             over TCP, at the
//                             SLURM_LOCALID ...                       first node of the job
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_CONTROL_LAUNCH_H
#define LLRT_CONTROL_LAUNCH_H

#include <cstdint>
#include <string>
#include <vector>

namespace llrt {

// What a launcher has told this process.
struct Launch {
  enum class Kind {
    None, // no launcher: all ranks are threads of this process
    Mpi,
    Tcp
  };
  Kind kind = Kind::None;
  int64_t rank = 0, size = 1;
  // Processes on this machine, and the number of this one among them. Where no variable says how many
  // there are: all, and not `knowsLocalSize`.
  int64_t localRank = 0, localSize = 1;
  bool knowsLocalSize = false;

  // With Tcp: who has started us, where rank 0 may be met (the first that answers), and
  // the variables that this was read from.
  std::string launcher;
  std::vector<std::string> hosts;
  int64_t port = 0;
  std::string hostName, portName;

  // Whether each rank is a process of its own.
  bool processes() const { return kind != Kind::None; }

  // The number of this process among those of its launcher; 0 without one, or if it is
  // not to be read. Throws nothing.
  static int64_t process();

  // Reads the variables. Throws Error if they are not complete or contradict each
  // other, or if the processes are not one for each of `ranks` ranks.
  static Launch find(int64_t ranks);
};

} // namespace llrt
#endif // LLRT_CONTROL_LAUNCH_H
