//===- Mpi.h - Tensors between MPI processes -------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_TRANSPORT_MPI_H
#define LLRT_TRANSPORT_MPI_H

#include "src/Control/Mpi.h"
#include "src/Transport/Transport.h"

namespace llrt {

// The tensors of this process as one rank of an MPI job, which `control` has
// started and outlives this.
class MpiTransport : public Transport {
public:
  explicit MpiTransport(MpiControl &control) : mpi(control.mpi()) {}

  std::unique_ptr<Request> send(int64_t channel, int64_t to, const Label &label,
                                const void *data) override;
  std::unique_ptr<Request> receive(int64_t channel, int64_t from, const Label &label,
                                   void *data) override;
  void idle() override;

private:
  MpiLibrary &mpi;
  int64_t idles = 0; // calls of `idle` since anything moved, about
  std::chrono::steady_clock::time_point lastIdle;
};

} // namespace llrt
#endif // LLRT_TRANSPORT_MPI_H
