//===- Mpi.h - Control of MPI processes ------------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_CONTROL_MPI_H
#define LLRT_CONTROL_MPI_H

#include "src/Control/Control.h"

#include <memory>

namespace llrt {

struct MpiLibrary;

// The control plane of this process as one rank of an MPI job. All calls come from
// the thread that made the object (MPI_THREAD_FUNNELED).
class MpiControl : public Control {
public:
  // Starts MPI. Throws Error if the library is not there or cannot start.
  MpiControl();
  ~MpiControl() override; // ends MPI; all ranks together

  // What a transport of this process calls.
  MpiLibrary &mpi() { return *library; }

  int64_t rank() const override;
  int64_t size() const override;
  void send(int64_t to, const void *data, int64_t bytes) override;
  void receive(int64_t from, void *data, int64_t bytes) override;
  void answer(const std::string &own) override;
  std::vector<std::optional<std::string>> ask(const std::string &own) override;
  void tellFailure() override;
  [[noreturn]] void abandon(const std::string &message) override;

private:
  // Tells what this rank waits for to those who have asked.
  void reply(const std::string &own);
  void endIfTerminated(const std::string &own);

  std::unique_ptr<MpiLibrary> library;
  int64_t lowestAsker = INT64_MAX;
  std::chrono::steady_clock::time_point terminatedAt = {};
  bool toldFailure = false;
};

} // namespace llrt
#endif // LLRT_CONTROL_MPI_H
