//===- Tcp.h - Tensors over TCP --------------------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A connection between each two ranks. Nothing is buffered: data leaves the sender's
// memory only when the receiver has named the place for it, and is read into that
// place. So a connection can always be emptied by whoever looks after it, whatever
// else stands in its queue, and no send is done before its receive has begun.
//
//   receiver   ready(channel, label) ----->
//            <----- data(channel), payload     sender, once the send has begun, too
//            <----- refuse(channel, label)       or, if its label is another one
//
// Between two ranks the k-th send of a channel meets the k-th receive.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_TRANSPORT_TCP_H
#define LLRT_TRANSPORT_TCP_H

#include "src/Control/Tcp.h"
#include "src/Transport/Transport.h"

#include <deque>
#include <map>

namespace llrt {

// The tensors of one rank of a job over TCP.
class TcpTransport : public Transport, private Connection::Owner {
public:
  // Connects all ranks with each other; all make theirs at the same time. `control`
  // must outlive this. Throws Failure if a rank cannot be reached.
  explicit TcpTransport(TcpControl &control);
  ~TcpTransport() override;

  std::unique_ptr<Request> send(int64_t channel, int64_t to, const Label &label,
                                const void *data) override;
  std::unique_ptr<Request> receive(int64_t channel, int64_t from, const Label &label,
                                   void *data) override;
  void idle() override;

private:
  class Pending;
  struct Message {
    Label label;
    void *data; // of a send only read
    bool done = false;
    Label other = {}; // the other side's label; known when `done`
  };
  // What one channel of a connection waits for, first in first out.
  struct Channel {
    std::deque<std::shared_ptr<Message>> sends, receives;
    std::deque<Label> ready; // receives that the other side has begun
  };
  struct Peer {
    std::unique_ptr<Connection> connection;
    std::map<int64_t, Channel> channels;
    Label coming; // a label on its way
  };

  void *place(Connection &connection, const Head &head) override;
  void arrived(Connection &connection, const Head &head) override;
  void closed(Connection &connection, const std::string &cause) override;

  void adopt(int64_t peer, Socket socket);
  void match(Peer &peer, int64_t channel);
  void finish(Message &message, const Label &other);
  void close();

  TcpControl &control;
  std::vector<Peer> peers; // by rank
  bool moved = false;      // a message is done since the last `idle`
};

} // namespace llrt
#endif // LLRT_TRANSPORT_TCP_H
