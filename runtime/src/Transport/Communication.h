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
// What others send and what has no place yet goes through slots of planned memory
// (llrt/Collectives.h), a piece of the elements after the other:
//
//   elements   |  piece 0  |  piece 1  | ..  |     each: sent, received, added up,
//   slots        | of member 1 | of member 2 |     then the next
//
// Each sum is formed on one rank, in the order of members, in f32 (f64 if
// either type is f64), rounded once: how large a piece is makes no difference.
class Communication {
public:
  // Starts `action` (whose memory is `from`, `to` and `scratch`) of the rank with
  // number `rank`, one of `members`. `from` and `to` are the same or apart. Action,
  // members, memory and transport must outlive it.
  Communication(Transport &transport, const Action &action, const std::vector<int64_t> &members,
                int64_t rank, const void *from, void *to, void *scratch);

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
  // The memory of a slot.
  std::byte *slot(int64_t number) { return scratch + number * slotBytes; }
  // Takes the next of `all` elements, `shares` slots of them at most; false: there are
  // none left.
  bool nextPiece(int64_t all, int64_t shares = 1);
  // Calls `row(element of [outer][members][elements], element of the piece, elements)` for
  // each row that the piece has of part `part`.
  template <typename Row> void eachRow(int64_t part, Row row) const;
  // Starts the first messages, or does what can be done when all messages that
  // were started have arrived.
  void advance();
  void gather();
  void broadcast();
  void reduceScatter();
  void allReduce();
  // Reduces `count` elements of all members, of which member i's are at
  // `parts[i]`, into `to` of type toType, or adds the result to what is there.
  void reduce(int64_t count, std::byte *to) const;

  Transport &transport;
  const Action &action;
  const std::vector<int64_t> &members;
  int64_t here = 0; // of this rank among the members
  const std::byte *from;
  std::byte *to, *scratch;
  int64_t slotBytes = 0;
  int phase = 0;
  bool done = false;
  int64_t begin = 0, end = 0; // elements of the piece
  std::vector<Pending> pending;
  std::vector<const std::byte *> parts; // contributions to the piece, by member
};

} // namespace llrt
#endif // LLRT_TRANSPORT_COMMUNICATION_H
