//===- Mpi.h - Ranks as MPI processes --------------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_TRANSPORT_MPI_H
#define LLRT_TRANSPORT_MPI_H

#include "src/Transport/Transport.h"

#include <functional>

namespace llrt {

// This process as one rank of an MPI job. Open MPI's library is loaded when it
// is needed: an executable runs without it where it is not installed. All calls
// come from the thread that made the object (MPI_THREAD_FUNNELED).
class Mpi : public Transport {
public:
  // Throws Error if the library is not there or cannot start.
  Mpi();
  ~Mpi() override; // ends MPI; all ranks together

  int64_t rank() const;

  std::unique_ptr<Request> send(int64_t channel, int64_t to, const Label &label,
                                const void *data) override;
  std::unique_ptr<Request> receive(int64_t channel, int64_t from, const Label &label,
                                   void *data) override;
  void idle(const std::string &waitsFor) override;
  std::vector<std::optional<std::string>> ask(const std::string &own) override;
  [[noreturn]] void abandon(const std::string &message) override;

  // What rank 0 may ask of the others while they `serve`.
  struct Question {
    int64_t arena, offset, bytes;
  };

  // Rank 0: the answer of `rank`.
  void ask(int64_t rank, const Question &question, void *to);
  std::string askText(int64_t rank);
  // Rank 0: the others go on. `status` is not 0 if rank 0 has failed.
  void release(int status, const std::string &result);
  // The others: answers questions until `release`. `read` copies the bytes that a
  // question is about. Returns what `release` got.
  std::pair<int, std::string> serve(const std::function<void(const Question &, void *to)> &read,
                                    const std::string &text);

private:
  struct Library;
  class Pending;
  void answerControl(const std::string &own);
  void endIfTerminated(const std::string &own);

  std::unique_ptr<Library> library;
};

} // namespace llrt
#endif // LLRT_TRANSPORT_MPI_H
