//===- Tcp.h - Control over TCP --------------------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_CONTROL_TCP_H
#define LLRT_CONTROL_TCP_H

#include "src/Control/Control.h"
#include "src/Control/Launch.h"
#include "src/Control/Sockets.h"

#include <set>

namespace llrt {

// The control plane of processes that find each other by a host and a port: a
// connection from each rank to rank 0.
class TcpControl : public Control, private Connection::Owner {
public:
  // Meets the other ranks of `launch` for at most `timeout`. `program` is what all
  // must have in common. Throws Error where the variables of the launch cannot be
  // right, Failure if a rank does not come.
  TcpControl(const Launch &launch, const std::string &program,
             std::chrono::duration<double> timeout);
  // Tells the others that this rank ends, and whether it has failed.
  ~TcpControl() override;

  // For a transport of the same ranks: how it introduces itself; what all its
  // connections wait in; where rank 0 sees the others, by rank (there alone), and
  // this one sees rank 0; how long ranks may take to meet.
  Hello hello(const std::string &purpose) const { return {purpose, program, own, count}; }
  Poller &poller() { return poll; }
  std::string peerAddress(int64_t peer) const { return connections[peer]->peerAddress(); }
  std::chrono::duration<double> meetingTime() const { return timeout; }
  // Throws what another rank's end has come to. To be called while anything waits.
  void check();

  int64_t rank() const override { return own; }
  int64_t size() const override { return count; }
  void send(int64_t to, const void *data, int64_t bytes) override;
  void receive(int64_t from, void *data, int64_t bytes) override;
  void answer(const std::string &text) override;
  std::vector<std::optional<std::string>> ask(const std::string &text) override;
  void tellFailure() override;
  [[noreturn]] void abandon(const std::string &message) override;

private:
  void *place(Connection &connection, const Head &head) override;
  void arrived(Connection &connection, const Head &head) override;
  void closed(Connection &connection, const std::string &cause) override;

  void meet(const Launch &launch);
  void adopt(int64_t peer, Socket socket);
  void tellAll(uint32_t kind, int64_t number, int64_t except);
  // Tells what this rank waits for to those who have asked.
  void reply(const std::string &text);
  void takeAnswer(const std::string &text);
  void flush(std::chrono::milliseconds most);
  void pump(std::chrono::milliseconds most);

  int64_t own, count;
  std::string program;
  std::chrono::duration<double> timeout;
  Poller poll;
  // By rank; at rank 0 all but its own, elsewhere rank 0's alone.
  std::vector<std::unique_ptr<Connection>> connections;
  std::vector<std::unique_ptr<Connection>> strangers; // ranks of another program
  std::vector<std::string> coming;                    // payload on its way, by rank
  std::vector<std::deque<std::string>> inbox;         // by rank
  std::vector<bool> ended;                            // by rank: has said goodbye
  std::set<int64_t> askers;                           // that have no answer yet
  std::vector<std::optional<std::string>> said;       // answers to `ask`, by rank
  int64_t lowestAsker = INT64_MAX;
  bool welcome = false, toldFailure = false;
  std::optional<int> failed;        // the status of a rank that has failed
  std::optional<std::string> death; // of a rank that has said nothing
  std::string waiting;              // what this rank has last waited for
};

} // namespace llrt
#endif // LLRT_CONTROL_TCP_H
