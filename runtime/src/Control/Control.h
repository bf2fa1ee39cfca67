//===- Control.h - What ranks tell each other about themselves -*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The control plane: bytes of the host between rank 0 and the others (parts of
// checkpoints, texts, addresses, who waits for what, who has failed). Tensors
// of a step go another way (Transport/Transport.h).
//
//                 rank 0
//          /     |      |     \      questions and texts, one pair at a time
//      rank 1  rank 2  rank 3  ...
//
// InProcess.h: ranks are threads. Mpi.h: processes of an MPI job. Tcp.h:
// processes that torchrun or srun has started.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_CONTROL_CONTROL_H
#define LLRT_CONTROL_CONTROL_H

#include <chrono>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace llrt {

// The work failed though the input was right (a disk is full, the loss is not a
// number, a rank is gone): exit status 1.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Another process failed, which has said why: this one says nothing.
struct PeerFailure : Failure {
  explicit PeerFailure(int status) : Failure("another rank has failed"), status(status) {}
  int status; // to end with
};

// How long a rank is given to say what it does.
constexpr std::chrono::seconds answerTime(2);

// One rank's end of the control plane. One thread calls all functions of an object.
// All of them throw Failure if a rank that they need is gone, PeerFailure if one has
// failed and has said why.
class Control {
public:
  virtual ~Control() = default;

  virtual int64_t rank() const = 0;
  virtual int64_t size() const = 0;

  // Bytes from rank 0 to another rank, or from another to rank 0: the k-th send
  // meets the k-th receive, which is of as many bytes. Both wait as long as it
  // takes; who waits to receive answers those who `ask`.
  virtual void send(int64_t to, const void *data, int64_t bytes) = 0;
  virtual void receive(int64_t from, void *data, int64_t bytes) = 0;

  // The same for a text, whose length the receiver does not know.
  void sendText(int64_t to, const std::string &text);
  std::string receiveText(int64_t from);

  // All ranks call them. The texts of all ranks, by rank, at rank 0 (elsewhere
  // nothing); the text of rank 0, everywhere.
  std::vector<std::string> gather(const std::string &own);
  std::string broadcast(const std::string &text);

  // Called while this rank waits for `own`, in words, again and again: tells it to
  // those who ask.
  virtual void answer(const std::string &own) = 0;

  // What the ranks that wait are waiting for, by rank; none for those that do
  // not say so within `answerTime`. Called by a rank that waits in vain, for
  // `own`.
  virtual std::vector<std::optional<std::string>> ask(const std::string &own) = 0;

  // Tells the others that this rank has failed and says why itself: they throw PeerFailure where
  // they wait, or end otherwise. Throws nothing.
  virtual void tellFailure() = 0;

  // Prints `message` and ends all ranks with status 1. Of several ranks that give
  // up, one speaks.
  [[noreturn]] virtual void abandon(const std::string &message) = 0;

protected:
  // What a rank waits for that receives.
  static std::string messageOf(int64_t from) { return "a message of rank " + std::to_string(from); }
};

} // namespace llrt
#endif // LLRT_CONTROL_CONTROL_H
