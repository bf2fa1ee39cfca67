//===- Launch.h - How the process was started ------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_TRANSPORT_LAUNCH_H
#define LLRT_TRANSPORT_LAUNCH_H

#include <cstdint>

namespace llrt {

// What a launcher has told this process through its environment.
struct Launch {
  bool processes = false; // started by a launcher of MPI processes
  int64_t rank = 0, size = 1;
  int64_t localSize = 1; // processes on this machine

  // The number of this process among those of its launcher; 0 without one.
  static int64_t process();

  // Reads the variables of Open MPI's mpirun, or of PMI and PMIx (srun). Throws
  // Error if the processes are not one for each of `ranks` ranks, or if a
  // launcher has started them that the host target cannot use.
  static Launch find(int64_t ranks);
};

} // namespace llrt
#endif // LLRT_TRANSPORT_LAUNCH_H
