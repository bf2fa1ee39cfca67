//===- Meeting.h - Where the ranks of a communicator meet -----------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Memory that all ranks map, threads of one process or processes of one machine: an anonymous file
// that others open through /proc/<process>/fd. Nothing is left behind when a process dies. Each
// field has one writer, the rank in whose slot it is; a counter that is stored last with release
// order says that the rest is there. Messages are files of the same kind.
//===----------------------------------------------------------------------===//
#ifndef SGPU_NCCL_MEETING_H
#define SGPU_NCCL_MEETING_H

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

namespace sgpu::nccl {

constexpr int maxRanks = 256;

/// An open file of a process.
struct FileName {
  int32_t process = 0, descriptor = -1;
};

/// Anonymous shared memory: made, or opened by name. Unmapped and closed at the end.
class SharedFile {
public:
  SharedFile() = default;
  SharedFile(const SharedFile &) = delete;
  SharedFile &operator=(const SharedFile &) = delete;
  ~SharedFile();
  bool create(uint64_t bytes);
  bool open(FileName name, uint64_t bytes);
  /// Makes it larger if needed.
  bool resize(uint64_t bytes);
  char *data() const { return memory; }
  FileName name() const;

private:
  bool map(uint64_t bytes);
  int descriptor = -1;
  char *memory = nullptr;
  uint64_t mapped = 0;
};

enum class Kind : int32_t {
  AllReduce,
  ReduceScatter,
  AllGather,
  Broadcast,
  Reduce,
  AlltoAll,
  Gather,
  Scatter,
  Send,
  Recv
};

/// A call as a rank made it. The ranks of a collective must agree in all of it.
struct Call {
  Kind kind = Kind::AllReduce;
  int32_t type = 0,
          op = 0;    ///< op: -1 where the call has none, ncclNumOps for all made by the program
  int32_t root = -1; ///< or the other rank of ncclSend and ncclRecv; -1 where the call has none
  uint64_t count = 0;
  bool operator==(const Call &) const = default;
};

/// Written by its rank alone. A counter that is stored last says that what it counts is there.
struct RankSlot {
  std::atomic<int32_t> joined;  ///< 1: taken, 2: the fields up to `host` are there
  std::atomic<int32_t> left;    ///< the communicator was destroyed
  std::atomic<int32_t> failed;  ///< 1: aborted, or a call of the rank has failed; 2: could not join
  std::atomic<int32_t> waiting; ///< a call in a stream waits for other ranks
  int32_t process, ranks, device;
  char host[64];
  struct Posted {
    Call call;
    FileName file;
    uint64_t bytes;
  } posted[2];                       ///< of the last collectives, by number modulo 2
  std::atomic<uint64_t> collectives; ///< posted so far
  std::atomic<uint64_t> finished;    ///< of which this rank has read all that it needs
  struct Split {
    int32_t color, key;
  } split[2];
  std::atomic<uint64_t> splits;   ///< posted so far
  std::atomic<uint64_t> children; ///< splits up to which this rank has published meetings
  FileName child[2];
  uint64_t childToken[2];
  char doing[400]; ///< what it waits in, for messages; may be torn
};

/// Messages from one rank to another, one at a time: the sender posts the next when the last was
/// received.
struct Channel {
  std::atomic<uint64_t> sent, received; ///< by the sender, by the receiver
  Call call;                            ///< of the sender
  uint64_t bytes;
  FileName file;
  std::atomic<int32_t> refused; ///< the receiver wants something else:
  Call wanted;
};

struct Meeting {
  uint64_t token; ///< of the unique id
  RankSlot ranks[maxRanks];
  Channel channels[maxRanks][maxRanks]; ///< [from][to]
};
static_assert(std::atomic<uint64_t>::is_always_lock_free);

/// What a unique id holds.
struct Ticket {
  uint64_t magic, token;
  FileName file;
};
constexpr uint64_t ticketMagic = 0x736770756e63636c; // "sgpunccl"

/// A new meeting, open as long as this process lives. False if the system refuses.
bool newMeeting(Ticket &ticket);
/// The meeting of a ticket; null, with why in `error`, if there is none.
std::shared_ptr<SharedFile> openMeeting(const Ticket &ticket, std::string &error);
/// Whether a process still runs.
bool isAlive(int32_t process);

} // namespace sgpu::nccl

#endif
