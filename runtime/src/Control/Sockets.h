//===- Sockets.h - Frames over TCP connections -----------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A connection carries frames both ways, none of which waits in a system call:
//
//   | mark kind number bytes | payload | mark kind number bytes | payload | ...
//
// What is to be written stands in a queue; what comes is read to the place that
// the owner of the connection names when the head of a frame is here. One Poller
// waits for all connections of a process. IPv4 and IPv6.
//
// Before the first frame both sides say who they are (meetRanks, connectToRank):
// whoever says anything else is left alone.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_CONTROL_SOCKETS_H
#define LLRT_CONTROL_SOCKETS_H

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace llrt {

using Deadline = std::chrono::steady_clock::time_point;

// A file descriptor that is closed at the end.
class Socket {
public:
  explicit Socket(int file = -1) : file(file) {}
  Socket(Socket &&other) noexcept : file(other.file) { other.file = -1; }
  Socket &operator=(Socket &&other) noexcept;
  ~Socket();

  int get() const { return file; }
  explicit operator bool() const { return file >= 0; }

  // The other side's address, as digits: `10.0.0.7`, `::1`; empty if there is none.
  std::string peerAddress() const;

private:
  int file;
};

// Whether an address in digits is of this machine alone.
bool isLoopback(const std::string &address);

// Listens on all addresses of this machine. `port` 0: any, which it is set to.
// Throws std::system_error, as where the port is in use.
Socket listenOn(int64_t &port);

// Throws Error, which opens with `what`, if the name is that of no machine.
void requireHost(const std::string &what, const std::string &host);

// What a process says of itself first.
struct Hello {
  std::string purpose; // of the connection, at most 15 letters
  std::string program; // what all ranks must have in common
  int64_t rank = 0, size = 0;
};

// Takes connections until each of ranks [first, own.size) has `come`, or throws:
// Failure, which names the missing ones, at `deadline`; Error if a rank has another
// program or size than `own` or has come twice (it has `come` as -1, so that it can be
// told); what `between` throws, which is called from time to time. Whoever is no rank
// is left alone.
void meetRanks(const Socket &listener, const Hello &own, int64_t first, Deadline deadline,
               const std::function<void()> &between,
               const std::function<void(int64_t rank, Socket socket)> &come);

// A connection to rank `rank` (not our own), at the first of `hosts` where it is met.
// Tries again until `deadline`, then throws Failure with the last cause.
Socket connectToRank(const std::vector<std::string> &hosts, int64_t port, const Hello &own,
                     int64_t rank, Deadline deadline, const std::function<void()> &between);

struct Head {
  uint32_t mark;
  uint32_t kind;
  int64_t number;
  int64_t bytes; // of the payload
};

class Connection {
public:
  class Owner {
  public:
    virtual ~Owner() = default;
    // Where the payload of a frame goes; null if no such frame may come: the
    // connection is closed.
    virtual void *place(Connection &connection, const Head &head) = 0;
    // The payload is there.
    virtual void arrived(Connection &connection, const Head &head) = 0;
    // The other side is gone, or has sent what is no frame.
    virtual void closed(Connection &connection, const std::string &cause) = 0;
  };

  // `peer` is the rank on the other side. `owner` must outlive the connection.
  Connection(Socket socket, int64_t peer, Owner &owner)
      : peer(peer), socket(std::move(socket)), owner(owner) {}

  const int64_t peer;
  // Of the other side. Not of this machine if it can be helped.
  std::string peerAddress() const { return socket.peerAddress(); }

  // Queues a frame and writes what can be written.
  void send(uint32_t kind, int64_t number, std::string payload = {});
  // The same with a payload that stays where it is until `done`.
  void send(uint32_t kind, int64_t number, const void *data, int64_t bytes,
            std::function<void()> done);

  // Reads and writes what can be without waiting.
  void progress();

  bool isOpen() const { return bool(socket); }
  bool hasToWrite() const { return !queue.empty(); }
  int file() const { return socket.get(); }
  // Forgets all that is queued.
  void close();

private:
  struct Outgoing {
    std::string text; // head, and payload if it is ours
    const char *data;
    int64_t bytes;
    std::function<void()> done;
    int64_t written = 0; // of text and data together
  };

  void read();
  void write();
  void fail(const std::string &cause);

  Socket socket;
  Owner &owner;
  std::deque<Outgoing> queue;
  Head head = {};
  int64_t headBytes = 0; // that have come
  char *payload = nullptr;
  int64_t payloadBytes = 0; // that have come
};

// Waits for all connections of a process.
class Poller {
public:
  void add(Connection &connection) { connections.push_back(&connection); }
  void remove(Connection &connection) { std::erase(connections, &connection); }

  // Lets them progress; waits until one of them can, at most for `most`.
  void wait(std::chrono::milliseconds most);

private:
  std::vector<Connection *> connections;
};

} // namespace llrt
#endif // LLRT_CONTROL_SOCKETS_H
