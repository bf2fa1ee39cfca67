//===- Comm.h - A communicator and its work -------------------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_NCCL_COMM_H
#define SGPU_NCCL_COMM_H

#include "Cuda/Private.h"
#include "Nccl/Meeting.h"
#include "Nccl/Reduce.h"
#include "Support/Random.h"
#include "abi/cuda.h"
#include "abi/nccl.h"

#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <vector>

namespace sgpu::nccl {

struct Comm;
using CommRef = std::shared_ptr<Comm>;

/// Element of an ncclDataType_t; nothing for other numbers.
std::optional<Element> elementOf(int32_t type);
/// "ncclAllReduce of 100 ncclFloat32 with ncclSum", "ncclSend of 3 ncclInt8 to rank 1"
std::string describe(const Call &call);
const char *functionName(Kind kind);

/// Time spent waiting for other ranks. Time between two looks counts for at most a second: then
/// this process had something else to do.
class Patience {
public:
  void reset() { waited = {}, last = std::chrono::steady_clock::now(); }
  /// Seconds since `reset`.
  double look();

private:
  std::chrono::steady_clock::time_point last = std::chrono::steady_clock::now();
  std::chrono::duration<double> waited{};
};

/// One call of a rank.
struct Operation {
  Call call;
  uint64_t send = 0, recv = 0;           ///< addresses; 0: this rank has none
  uint64_t sendBytes = 0, recvBytes = 0; ///< of those
  /// What values are multiplied by before the sum: nothing, an immediate, or a scalar on the device.
  bool scaled = false;
  uint64_t scalarAddress = 0;
  char scalar[8] = {};
  void *stream = nullptr;
  // While it runs.
  bool posted = false, finished = false, done = false;
  uint64_t number = 0;
};

/// The calls of one group on one communicator: one work in a stream. All go on at the same time,
/// but collectives in the order in which they were called.
class Launch {
public:
  Launch(CommRef comm, std::vector<Operation> operations, bool captured, uint64_t turn)
      : comm(std::move(comm)), operations(std::move(operations)), captured(captured), turn(turn) {}
  sgpu_progress run();

private:
  void start();
  bool step();
  bool stepCollective(Operation &operation);
  bool stepSend(Operation &operation);
  bool stepReceive(Operation &operation);
  void post(Operation &operation, SharedFile &file);
  void finish(Operation &operation);
  sgpu_progress fail(int status, const std::string &why, bool tell, const Operation &operation);
  bool canCome(int rank, const Operation &operation, std::string &why);
  std::string doing() const;

  const CommRef comm;
  std::vector<Operation> operations;
  const bool captured; ///< runs with each launch of a graph
  const uint64_t turn; ///< else: its place among those of the communicator
  bool started = false;
  std::optional<sgpu_progress> failed;
  Patience patience;
  std::chrono::steady_clock::time_point lastCheck{};
  std::string gone; ///< why a rank that it waits for cannot come
};

/// Something that the host waits for: the start of a communicator, a split, the end of its work.
/// `step` is called until it says something else than ncclInProgress; after ncclSuccess it may be
/// called again and says the same.
struct Job {
  virtual ~Job() = default;
  virtual int step() = 0;
  /// What it waits for: one line for each rank.
  virtual std::vector<Place> waitsFor() = 0;
  const char *call = "";
  CommRef comm;
  bool moved = false; ///< the last step has let work go on
};

struct Comm {
  std::mutex mutex;
  std::shared_ptr<SharedFile> file;
  Meeting *meeting = nullptr; ///< null until the job has come that far
  int rank = 0, ranks = 1, device = 0;
  abi::CUcontext context = nullptr;
  bool ownsContext = false; ///< the primary context was retained for it
  bool blocking = true;
  std::string name;
  /// State of calls that are not blocking; also ncclRemoteError and what else comes later.
  int async = abi::ncclSuccess;
  std::string asyncText;
  bool ready = false, finalized = false, aborted = false, destroyed = false, revoked = false;
  std::shared_ptr<Job> job;       ///< of a communicator that does not block
  std::vector<Operation> waiting; ///< calls of one that does not block, not yet in a stream
  int polls = 0;
  Random random{0};

  uint64_t turns = 0, turn = 0; ///< launches so far, done so far (without graphs)
  Launch *current = nullptr;
  SharedFile files[2];
  std::map<int, SharedFile> sendFiles;
  uint64_t captureId = 0;
  abi::CUgraphNode captureNode = nullptr;
  struct UserOp {
    bool live = false, onDevice = false;
    int type = 0;
    uint64_t address = 0;
    char scalar[8] = {};
  };
  std::vector<UserOp> ops;
  std::set<void *> registered;
  std::chrono::steady_clock::time_point lastRun{};

  RankSlot &slot(int r) { return meeting->ranks[r]; }
  RankSlot &mine() { return meeting->ranks[rank]; }
  /// "communicator of 4 ranks", with its name if it has one.
  std::string describe() const;
  /// "rank 2 (process 17, device 2)"
  std::string who(int r);
  /// What each rank waits for.
  std::vector<Place> everybody();
};

/// The context of a communicator is current for the thread while this lives.
class InContext {
public:
  explicit InContext(const Comm &comm) { abi::cuCtxPushCurrent_v2(comm.context); }
  ~InContext() {
    abi::CUcontext old;
    abi::cuCtxPopCurrent_v2(&old);
  }
};

/// Keeps the text for ncclGetLastError. Returns the status.
int remember(int status, const std::string &why);
/// Reports a wrong call and remembers it. Returns the status.
int refuse(const char *call, int status, const std::string &why, uint64_t address = 0,
           Check check = Check::Argument);
std::string lastError();
/// After nobody has come for too long: says what each rank waits for and ends the process.
[[noreturn]] void hang(const char *call, const std::string &message, std::vector<Place> others,
                       Check check = Check::Deadlock);
/// Seconds after which that happens.
double timeout();

/// Lets the work of this process go on while ranks of other processes wait for it and the program
/// is elsewhere.
void watch(const CommRef &comm);

/// A job that makes `comm` a rank of the meeting of a ticket.
std::shared_ptr<Job> makeInit(const char *call, CommRef comm, const Ticket &ticket);
/// A job that splits `parent`; `child` is null for a rank without a color.
std::shared_ptr<Job> makeSplit(CommRef parent, int color, int key, CommRef child);
/// A job that waits for all launches of a communicator.
std::shared_ptr<Job> makeFlush(const char *call, CommRef comm);
/// Steps jobs until all are done. The first status that is not ncclSuccess.
int complete(const std::vector<std::shared_ptr<Job>> &jobs);

} // namespace sgpu::nccl

#endif
