//===- Transport.h - Tensors between ranks ---------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What a rank needs of the others: messages from one rank to another. All
// collectives are made of these (Communication.h), so that every transport adds
// the same numbers in the same order. A message belongs to a channel; between
// two ranks the k-th send of a channel meets the k-th receive of that channel.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_TRANSPORT_TRANSPORT_H
#define LLRT_TRANSPORT_TRANSPORT_H

#include "llrt/Kernels.h"
#include "src/Control/Control.h"

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>

namespace llrt {

// What a message is, as both sides must see it.
struct Label {
  std::array<char, 16> kind; // `all_gather`; `send` for a send and its receive
  int64_t bytes;
  // Of a send and its receive; of a collective its elements, which come in pieces.
  std::array<int64_t, 4> tag = {};

  bool operator==(const Label &) const = default;
};

// Throws Failure, with both, unless the two sides agree.
void requireEqual(const Label &own, const Label &other);

// The most that `idle` waits: how late a rank sees what is not a message.
constexpr std::chrono::milliseconds longestIdle(100);

// The messages of one rank. One thread calls all functions of an object.
class Transport {
public:
  // A message on its way.
  class Request {
  public:
    virtual ~Request() = default;
    // Whether it is done: the memory may be used again. Throws Failure if the
    // two sides have different labels.
    virtual bool test() = 0;
  };

  virtual ~Transport() = default;

  // Starts to send `data` to rank `to`; the memory must stay as it is until the
  // request is done. The same for the memory of a receive.
  virtual std::unique_ptr<Request> send(int64_t channel, int64_t to, const Label &label,
                                        const void *data) = 0;
  virtual std::unique_ptr<Request> receive(int64_t channel, int64_t from, const Label &label,
                                           void *data) = 0;

  // Called where no request makes progress: returns when that may have changed.
  virtual void idle() = 0;
};

} // namespace llrt
#endif // LLRT_TRANSPORT_TRANSPORT_H
