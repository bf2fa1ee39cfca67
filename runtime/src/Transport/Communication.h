//===- Communication.h - Collectives and transfers -------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_TRANSPORT_COMMUNICATION_H
#define LLRT_TRANSPORT_COMMUNICATION_H

#include "src/Program/Program.h"
#include "src/Transport/Transport.h"

namespace llrt {

// What a message of `bytes` bytes is that belongs to `action`.
Label labelOf(const Action &action, int64_t bytes);

// A collective or a transfer that has been started: one side of it. Made of
// messages, so that nothing depends on the transport:
//
//   all_gather, broadcast: who has something sends it to all others
//
//   reduce_scatter: member i gets part i of all others and adds them up
//
//   all_reduce: reduce_scatter of equal parts (the last ones may be shorter),
//   then all_gather of the sums
//
// Each sum is formed on one rank, in the order of members, in f32 (f64 if
// either type is f64), rounded once.
class Communication {
public:
  // Starts `action` (whose memory is `from` and `to`) of the rank with number
  // `rank`, one of `members`. Action, memory and transport must outlive it.
  Communication(Transport &transport, const Action &action, const std::vector<int64_t> &members,
                int64_t rank, const void *from, void *to);

  // Goes on as far as it can without waiting; whether it is done.
  bool poll();

  // The ranks whose messages are not here yet, without those it sends to: these
  // may wait for others. Where it only sends, the ranks it sends to.
  std::vector<int64_t> missing() const;

private:
  struct Pending {
    int64_t rank;
    bool isSend;
    std::unique_ptr<Transport::Request> request;
  };

  void send(int64_t member, const void *data, int64_t bytes);
  void receive(int64_t member, void *data, int64_t bytes);
  std::byte *scratch(int64_t bytes);
  // Starts the first messages, or does what can be done when all messages that
  // were started have arrived.
  void advance();
  void gather();
  void broadcast();
  void reduceScatter();
  void allReduce();
  // Reduces `count` elements of all members, of which member i's are at
  // `parts[i]`, into `to` of type toType.
  void reduce(const std::vector<const std::byte *> &parts, int64_t count, std::byte *to) const;
  // `to` = `from`, or += where the action accumulates; both of type toType.
  void store(const std::byte *from, std::byte *to, int64_t count) const;

  Transport &transport;
  const Action &action;
  const std::vector<int64_t> &members;
  int64_t here = 0; // of this rank among the members
  const std::byte *from;
  std::byte *to;
  int phase = 0;
  bool done = false;
  std::vector<Pending> pending;
  std::vector<std::vector<std::byte>> memory;
  std::vector<const std::byte *> parts; // contributions, by member
};

} // namespace llrt
#endif // LLRT_TRANSPORT_COMMUNICATION_H
