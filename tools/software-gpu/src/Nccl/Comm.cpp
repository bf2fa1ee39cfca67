//===- Comm.cpp - Communicators: start, split, end ------------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Nccl/Comm.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <unistd.h>

namespace sgpu::nccl {
using namespace abi;

//===----------------------------------------------------------------------===//
// Texts
//===----------------------------------------------------------------------===//

std::optional<Element> elementOf(int32_t type) {
  constexpr Element elements[] = {Element::S8,  Element::U8,   Element::S32,  Element::U32,
                                  Element::S64, Element::U64,  Element::F16,  Element::F32,
                                  Element::F64, Element::BF16, Element::E4M3, Element::E5M2};
  if (type < 0 || type >= ncclNumTypes)
    return std::nullopt;
  return elements[type];
}

const char *functionName(Kind kind) {
  constexpr const char *names[] = {
      "ncclAllReduce", "ncclReduceScatter", "ncclAllGather", "ncclBroadcast", "ncclReduce",
      "ncclAlltoAll",  "ncclGather",        "ncclScatter",   "ncclSend",      "ncclRecv"};
  return names[int(kind)];
}

std::string describe(const Call &call) {
#define NAME(name, value) #name,
  static constexpr const char *types[] = {SGPU_NCCL_TYPES(NAME)};
  static constexpr const char *ops[] = {SGPU_NCCL_OPS(NAME)};
#undef NAME
  std::string s = std::string(functionName(call.kind)) + " of " + std::to_string(call.count) + " " +
                  types[std::clamp(call.type, 0, ncclNumTypes - 1)];
  if (call.op >= 0)
    s += std::string(" with ") + (call.op < ncclNumOps ? ops[call.op] : "a premultiplied sum");
  if (call.root >= 0)
    s += (call.kind == Kind::Send   ? " to rank "
          : call.kind == Kind::Recv ? " from rank "
                                    : ", root ") +
         std::to_string(call.root);
  return s;
}

std::string Comm::describe() const {
  return "communicator " + (name.empty() ? "" : "\"" + name + "\" ") + "of " +
         std::to_string(ranks) + (ranks == 1 ? " rank" : " ranks");
}

std::string Comm::who(int r) {
  return "rank " + std::to_string(r) + " (process " + std::to_string(slot(r).process) +
         ", device " + std::to_string(slot(r).device) + ")";
}

static Place rankPlace(const std::string &who, const std::string &what) {
  Place place;
  place.rank = who;
  place.what = what;
  return place;
}

std::vector<Place> Comm::everybody() {
  std::vector<Place> places;
  for (int r = 0; r < ranks; ++r) {
    RankSlot &s = slot(r);
    if (s.joined != 2) {
      places.push_back(rankPlace("rank " + std::to_string(r), "has not joined"));
      continue;
    }
    std::string text(s.doing, strnlen(s.doing, sizeof s.doing));
    if (s.left)
      text = "has destroyed its communicator";
    else if (s.failed)
      text = "has failed or aborted";
    else if (!isAlive(s.process))
      text = (s.waiting ? text + "; " : "") + "its process has ended";
    else if (!s.waiting)
      text = "waits for nothing here; it has started " + std::to_string(s.collectives) +
             " collectives";
    places.push_back(rankPlace(who(r), text));
  }
  return places;
}

static std::mutex textMutex;
static std::string &text() {
  static auto *s = new std::string;
  return *s;
}
std::string lastError() {
  std::lock_guard lock(textMutex);
  return text();
}
int remember(int status, const std::string &why) {
  std::lock_guard lock(textMutex);
  text() = why;
  return status;
}

int refuse(const char *call, int status, const std::string &why, uint64_t address, Check check) {
  Report report;
  report.check = check;
  report.message = why;
  report.place.call = call;
  if (address) {
    report.hasAddress = true;
    report.address = address;
    report.memory = sgpu_describe(address);
  }
  sgpu_report(report);
  return remember(status, std::string(call) + ": " + why);
}

double Patience::look() {
  auto now = std::chrono::steady_clock::now();
  waited += std::min<std::chrono::duration<double>>(now - last, std::chrono::seconds(1));
  last = now;
  return waited.count();
}

double timeout() {
  return sgpu_options().enabled(Check::Deadlock) ? double(sgpu_options().timeout) : 1e30;
}

void hang(const char *call, const std::string &message, std::vector<Place> others, Check check) {
  static std::mutex once; // never released
  once.lock();
  Report report;
  report.check = check;
  report.message = message;
  report.place.call = call;
  report.others = std::move(others);
  sgpu_report(report);
  std::fflush(nullptr);
  _exit(Reporter::faultStatus);
}

//===----------------------------------------------------------------------===//
// Start and split
//===----------------------------------------------------------------------===//

namespace {

struct InitJob : Job {
  Ticket ticket;
  bool joined = false;

  int fail(int status, const std::string &why) {
    if (comm->meeting && joined)
      comm->mine().failed = 2;
    return refuse(call, status, why);
  }

  int join() {
    std::string error;
    comm->file = openMeeting(ticket, error);
    if (!comm->file)
      return fail(ncclInvalidArgument, error);
    comm->meeting = reinterpret_cast<Meeting *>(comm->file->data());
    RankSlot &slot = comm->mine();
    int32_t free = 0;
    if (!slot.joined.compare_exchange_strong(free, 1))
      return fail(ncclInvalidUsage, "rank " + std::to_string(comm->rank) +
                                        " has joined with this unique id before; each "
                                        "communicator needs an id of its own");
    joined = true;
    slot.process = getpid();
    slot.ranks = comm->ranks;
    slot.device = comm->device;
    const char *host = std::getenv("NCCL_HOSTID"); // devices of another machine, as in NCCL
    if (host && *host)
      std::strncpy(slot.host, host, sizeof slot.host - 1);
    else
      gethostname(slot.host, sizeof slot.host - 1);
    slot.joined.store(2, std::memory_order_release);
    return ncclInProgress;
  }

  int step() override {
    if (!joined)
      if (int status = join(); status != ncclInProgress)
        return status;
    bool all = true;
    for (int r = 0; r < maxRanks; ++r) {
      RankSlot &slot = comm->slot(r);
      if (slot.joined != 2) {
        all &= r >= comm->ranks;
        continue;
      }
      if (slot.ranks != comm->ranks)
        return fail(ncclInvalidUsage, "rank " + std::to_string(comm->rank) + " is one of " +
                                          std::to_string(comm->ranks) + " ranks, rank " +
                                          std::to_string(r) + " one of " +
                                          std::to_string(slot.ranks));
      if (r < comm->ranks && r != comm->rank && slot.device == comm->device &&
          std::strcmp(slot.host, comm->mine().host) == 0)
        return fail(ncclInvalidUsage, "ranks " + std::to_string(std::min(r, comm->rank)) + " and " +
                                          std::to_string(std::max(r, comm->rank)) +
                                          " are both on device " + std::to_string(comm->device) +
                                          "; each rank needs a device of its own");
      if (slot.failed == 2)
        return fail(ncclRemoteError, comm->who(r) + " could not join");
    }
    if (!all)
      return ncclInProgress;
    if (!comm->ready)
      watch(comm);
    comm->ready = true;
    return ncclSuccess;
  }

  std::vector<Place> waitsFor() override {
    std::vector<Place> places;
    for (int r = 0; comm->meeting && r < comm->ranks; ++r)
      places.push_back(comm->slot(r).joined == 2
                           ? rankPlace(comm->who(r), "has joined")
                           : rankPlace("rank " + std::to_string(r), "has not joined"));
    return places;
  }
};

struct SplitJob : Job {
  CommRef parent;
  int color = 0, key = 0;
  bool posted = false;
  uint64_t number = 0;
  std::shared_ptr<Job> init;

  int step() override {
    if (init)
      return init->step();
    RankSlot &mine = parent->mine();
    if (!posted) {
      posted = true;
      number = mine.splits;
      mine.split[number % 2] = {color, key};
      mine.splits.store(number + 1, std::memory_order_release);
    }
    struct Member {
      int key, rank;
    };
    std::vector<Member> members;
    for (int r = 0; r < parent->ranks; ++r) {
      RankSlot &slot = parent->slot(r);
      if (slot.splits.load(std::memory_order_acquire) <= number) {
        if (slot.left || slot.failed || !isAlive(slot.process))
          return refuse(call, ncclRemoteError, parent->who(r) + " does not take part in the split");
        return ncclInProgress;
      }
      if (slot.split[number % 2].color == color)
        members.push_back({slot.split[number % 2].key, r});
    }
    if (color == ncclSplitNoColor)
      return ncclSuccess;
    std::sort(members.begin(), members.end(), [](const Member &a, const Member &b) {
      return a.key != b.key ? a.key < b.key : a.rank < b.rank;
    });
    Ticket ticket;
    RankSlot &leader = parent->slot(members.front().rank);
    if (members.front().rank == parent->rank) {
      if (!newMeeting(ticket))
        return refuse(call, ncclSystemError, "no memory to share with other ranks");
      mine.child[number % 2] = ticket.file;
      mine.childToken[number % 2] = ticket.token;
      mine.children.store(number + 1, std::memory_order_release);
    } else if (leader.children.load(std::memory_order_acquire) <= number) {
      return ncclInProgress;
    } else {
      ticket = {ticketMagic, leader.childToken[number % 2], leader.child[number % 2]};
    }
    comm->ranks = int(members.size());
    comm->rank = int(std::find_if(members.begin(), members.end(),
                                  [&](const Member &m) { return m.rank == parent->rank; }) -
                     members.begin());
    init = makeInit(call, comm, ticket);
    return init->step();
  }

  std::vector<Place> waitsFor() override {
    if (init)
      return init->waitsFor();
    std::vector<Place> places;
    for (int r = 0; r < parent->ranks; ++r)
      places.push_back(rankPlace(parent->who(r), parent->slot(r).splits > number
                                                     ? "has called ncclCommSplit"
                                                     : "has not called ncclCommSplit"));
    return places;
  }
};

struct FlushJob : Job {
  int step() override {
    {
      std::lock_guard lock(comm->mutex);
      if (comm->aborted || !comm->ready || (comm->turn == comm->turns && !comm->current))
        return ncclSuccess;
    }
    InContext in(*comm);
    int device;
    if (sgpu_device_of(nullptr, &device) != 0)
      return remember(ncclUnhandledCudaError, "the context of the communicator has failed");
    moved = sgpu_advance();
    return ncclInProgress;
  }
  std::vector<Place> waitsFor() override { return comm->everybody(); }
};

} // namespace

std::shared_ptr<Job> makeInit(const char *call, CommRef comm, const Ticket &ticket) {
  auto job = std::make_shared<InitJob>();
  job->call = call;
  job->comm = std::move(comm);
  job->ticket = ticket;
  return job;
}

std::shared_ptr<Job> makeSplit(CommRef parent, int color, int key, CommRef child) {
  auto job = std::make_shared<SplitJob>();
  job->call = "ncclCommSplit";
  job->comm = std::move(child);
  job->parent = std::move(parent);
  job->color = color;
  job->key = key;
  return job;
}

std::shared_ptr<Job> makeFlush(const char *call, CommRef comm) {
  auto job = std::make_shared<FlushJob>();
  job->call = call;
  job->comm = std::move(comm);
  return job;
}

int complete(const std::vector<std::shared_ptr<Job>> &jobs) {
  std::vector<std::shared_ptr<Job>> left = jobs;
  int result = ncclSuccess;
  Patience patience;
  while (!left.empty()) {
    size_t before = left.size();
    std::erase_if(left, [&](const std::shared_ptr<Job> &job) {
      int status = job->step();
      if (status != ncclInProgress && status != ncclSuccess && result == ncclSuccess)
        result = status;
      return status != ncclInProgress;
    });
    if (left.empty() || result != ncclSuccess)
      break;
    bool moved = left.size() != before;
    for (const auto &job : left)
      moved |= job->moved;
    if (moved) {
      patience.reset();
      continue;
    }
    if (patience.look() > timeout()) {
      Job &job = *left.front();
      hang(job.call,
           "no rank has come for " + std::to_string(sgpu_options().timeout) +
               " s (SOFTWARE_GPU_TIMEOUT)",
           job.waitsFor());
    }
    usleep(100);
  }
  return result;
}

//===----------------------------------------------------------------------===//
// Work for ranks of other processes
//===----------------------------------------------------------------------===//

namespace {
struct Watcher {
  std::mutex mutex;
  std::vector<std::weak_ptr<Comm>> comms;
  std::thread *thread = nullptr; ///< of `process`: one that was forked has none
  int process = 0;
  std::atomic<bool> stop = false;
};
Watcher &watcher() {
  static auto *w = new Watcher;
  return *w;
}

/// Whether ranks of other processes wait while nothing here calls its work.
bool isWanted(Comm &comm) {
  std::unique_lock lock(comm.mutex, std::try_to_lock);
  if (!lock || comm.aborted || comm.destroyed ||
      std::chrono::steady_clock::now() - comm.lastRun < std::chrono::milliseconds(10))
    return false;
  for (int r = 0; r < comm.ranks; ++r)
    if (comm.slot(r).waiting && comm.slot(r).process != comm.mine().process)
      return true;
  return false;
}

void watchAll() {
  Watcher &w = watcher();
  while (!w.stop) {
    usleep(5000);
    std::vector<std::weak_ptr<Comm>> comms;
    {
      std::lock_guard lock(w.mutex);
      std::erase_if(w.comms, [](const std::weak_ptr<Comm> &c) { return c.expired(); });
      comms = w.comms;
    }
    for (const std::weak_ptr<Comm> &c : comms)
      if (CommRef comm = c.lock(); comm && !w.stop && isWanted(*comm))
        sgpu_advance();
  }
}

void stopWatching() {
  Watcher &w = watcher();
  w.stop = true;
  if (w.thread && w.process == getpid())
    w.thread->join();
}
} // namespace

void watch(const CommRef &comm) {
  bool several = false;
  for (int r = 0; r < comm->ranks; ++r)
    several |= comm->slot(r).process != comm->mine().process;
  if (!several)
    return;
  Watcher &w = watcher();
  std::lock_guard lock(w.mutex);
  w.comms.push_back(comm);
  if (w.process == getpid())
    return;
  w.process = getpid();
  sgpu_at_exit(stopWatching);
  w.thread = new std::thread(watchAll);
}

} // namespace sgpu::nccl
