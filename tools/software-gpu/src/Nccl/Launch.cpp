//===- Launch.cpp - Calls of a rank as they run in a stream ---------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Nccl/Comm.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace sgpu::nccl {
using namespace abi;

/// Whether a collective of this kind takes the data of a rank to others.
static bool gives(const Operation &operation, int rank) {
  switch (operation.call.kind) {
  case Kind::Broadcast:
  case Kind::Scatter:
    return rank == operation.call.root;
  default:
    return true;
  }
}

static char *bytesAt(uint64_t address, uint64_t bytes) {
  return bytes ? static_cast<char *>(sgpu_resolve(address, bytes)) : nullptr;
}

/// Copies what others will read into the file, multiplied if the operation asks for it.
void Launch::post(Operation &operation, SharedFile &file) {
  uint64_t bytes = operation.sendBytes;
  if (!bytes)
    return;
  if (!file.resize(bytes))
    hang(functionName(operation.call.kind),
         "no memory for a message of " + std::to_string(bytes) + " bytes", {}, Check::Argument);
  std::memcpy(file.data(), bytesAt(operation.send, bytes), bytes);
  if (!operation.scaled)
    return;
  Element element = *elementOf(operation.call.type);
  const char *scalar = operation.scalar;
  if (operation.scalarAddress)
    scalar = bytesAt(operation.scalarAddress, bytesOf(element));
  scale(element, file.data(), scalar, bytes / bytesOf(element));
}

/// Whether NVLink SHARP forms a sum: within the switch, in an order that differs from call to call
/// (github.com/NVIDIA/nccl, issue 1497), the same for all ranks. By default where more than two
/// GPUs of a server meet.
static bool sumsInSwitch(const Comm &c, Element element) {
  const char *enable = std::getenv("NCCL_NVLS_ENABLE");
  bool hasSums = element == Element::F16 || element == Element::BF16 || element == Element::F32;
  return c.ranks > 2 && hasSums && !(enable && !std::strcmp(enable, "0")) &&
         !std::getenv("NCCL_ALGO");
}

/// All ranks have posted: reads what this rank gets.
void Launch::finish(Operation &operation) {
  Comm &c = *comm;
  const Call &call = operation.call;
  Element element = *elementOf(call.type);
  uint64_t part = call.count * bytesOf(element);
  char *to = bytesAt(operation.recv, operation.recvBytes);
  if (!to)
    return; // this rank only gives
  auto of = [&](int r, auto use) {
    RankSlot::Posted &posted = c.slot(r).posted[operation.number % 2];
    SharedFile file;
    if (file.open(posted.file, posted.bytes))
      use(static_cast<const char *>(file.data()));
    else
      hang(functionName(call.kind), "the message of " + c.who(r) + " cannot be read", c.everybody(),
           Check::Argument);
  };
  switch (call.kind) {
  case Kind::AllReduce:
  case Kind::Reduce:
  case Kind::ReduceScatter: {
    uint64_t from = call.kind == Kind::ReduceScatter ? part * uint64_t(c.rank) : 0;
    Fold how = call.op == ncclProd  ? Fold::Prod
               : call.op == ncclMax ? Fold::Max
               : call.op == ncclMin ? Fold::Min
                                    : Fold::Sum;
    int first = 0;
    if (how == Fold::Sum && call.kind != Kind::Reduce && sumsInSwitch(c, element))
      first = int(mix(sgpu_options().seed ^ mix(operation.number)) % uint64_t(c.ranks));
    for (int i = 0; i < c.ranks; ++i)
      of((first + i) % c.ranks, [&](const char *data) {
        if (i == 0)
          std::memcpy(to, data + from, part);
        else
          fold(element, how, to, data + from, call.count);
      });
    if (call.op == ncclAvg && !isFloating(element))
      divide(element, to, uint64_t(c.ranks), call.count);
    break;
  }
  case Kind::AllGather:
  case Kind::Gather:
    for (int r = 0; r < c.ranks; ++r)
      of(r, [&](const char *data) { std::memcpy(to + part * uint64_t(r), data, part); });
    break;
  case Kind::AlltoAll:
    for (int r = 0; r < c.ranks; ++r)
      of(r, [&](const char *data) {
        std::memcpy(to + part * uint64_t(r), data + part * uint64_t(c.rank), part);
      });
    break;
  case Kind::Broadcast:
    of(call.root, [&](const char *data) { std::memcpy(to, data, part); });
    break;
  case Kind::Scatter:
    of(call.root, [&](const char *data) { std::memcpy(to, data + part * uint64_t(c.rank), part); });
    break;
  case Kind::Send:
  case Kind::Recv:
    break;
  }
}

sgpu_progress Launch::fail(int status, const std::string &why, bool tell,
                           const Operation &operation) {
  Comm &c = *comm;
  c.async = status;
  c.asyncText = why;
  c.mine().failed = 1;
  const char *call = functionName(operation.call.kind);
  if (tell)
    refuse(call, status, why);
  else
    remember(status, std::string(call) + ": " + why);
  return sgpu_progress::Fault;
}

/// One call as text for both sides of a disagreement.
static std::string both(Comm &c, int a, const Call &x, int b, const Call &y, const char *between) {
  return c.who(a) + " calls " + describe(x) + between + c.who(b) + " calls " + describe(y);
}

bool Launch::stepCollective(Operation &operation) {
  Comm &c = *comm;
  bool moved = false;
  if (!operation.posted) {
    operation.number = c.mine().collectives;
    SharedFile &file = c.files[operation.number % 2];
    bool data = gives(operation, c.rank);
    if (data)
      post(operation, file);
    c.mine().posted[operation.number % 2] = {operation.call, file.name(),
                                             data ? operation.sendBytes : 0};
    c.mine().collectives.store(operation.number + 1, std::memory_order_release);
    operation.posted = moved = true;
  }
  bool all = true;
  for (int r = 0; r < c.ranks; ++r) {
    if (c.slot(r).collectives.load(std::memory_order_acquire) <= operation.number) {
      all = false;
      continue;
    }
    const Call &other = c.slot(r).posted[operation.number % 2].call;
    if (!(other == operation.call)) {
      int a = std::min(r, c.rank), b = std::max(r, c.rank);
      const Call &first = r < c.rank ? other : operation.call;
      const Call &second = r < c.rank ? operation.call : other;
      failed = fail(ncclInvalidUsage,
                    "ranks disagree in collective " + std::to_string(operation.number + 1) +
                        " of the " + c.describe() + ": " + both(c, a, first, b, second, ", "),
                    true, operation);
      return true;
    }
  }
  if (!all)
    return moved;
  if (!operation.finished) {
    finish(operation);
    c.mine().finished.store(operation.number + 1, std::memory_order_release);
    operation.finished = moved = true;
  }
  // Complete only when all have read: a process that ends takes its message with it.
  for (int r = 0; r < c.ranks; ++r)
    if (c.slot(r).finished.load(std::memory_order_acquire) <= operation.number)
      return moved;
  operation.done = true;
  return true;
}

bool Launch::stepSend(Operation &operation) {
  Comm &c = *comm;
  int peer = operation.call.root;
  Channel &channel = c.meeting->channels[c.rank][peer];
  if (!operation.posted) {
    if (channel.received.load(std::memory_order_acquire) != channel.sent)
      return false; // an earlier message is on its way
    SharedFile &file = c.sendFiles[peer];
    post(operation, file);
    channel.call = operation.call;
    channel.bytes = operation.sendBytes;
    channel.file = file.name();
    operation.number = channel.sent;
    channel.sent.store(operation.number + 1, std::memory_order_release);
    operation.posted = true;
    return true;
  }
  if (channel.refused.load(std::memory_order_acquire)) {
    failed = fail(ncclInvalidUsage,
                  "ranks disagree in message " + std::to_string(operation.number + 1) + ": " +
                      both(c, c.rank, operation.call, peer, channel.wanted, ", "),
                  true, operation);
    return true;
  }
  operation.done = channel.received.load(std::memory_order_acquire) > operation.number;
  return operation.done;
}

bool Launch::stepReceive(Operation &operation) {
  Comm &c = *comm;
  int peer = operation.call.root;
  Channel &channel = c.meeting->channels[peer][c.rank];
  uint64_t number = channel.received;
  if (channel.sent.load(std::memory_order_acquire) <= number)
    return false;
  if (channel.call.count != operation.call.count || channel.call.type != operation.call.type) {
    channel.wanted = operation.call;
    channel.refused.store(1, std::memory_order_release);
    failed = fail(ncclInvalidUsage,
                  "ranks disagree in message " + std::to_string(number + 1) + ": " +
                      both(c, peer, channel.call, c.rank, operation.call, ", "),
                  true, operation);
    return true;
  }
  if (channel.bytes) {
    SharedFile file;
    if (!file.open(channel.file, channel.bytes))
      hang("ncclRecv", "the message of " + c.who(peer) + " cannot be read", c.everybody(),
           Check::Argument);
    std::memcpy(bytesAt(operation.recv, operation.recvBytes), file.data(), channel.bytes);
  }
  channel.received.store(number + 1, std::memory_order_release);
  operation.done = true;
  return true;
}

/// Lets every call go on as far as it can. Whether anything has happened.
bool Launch::step() {
  bool moved = false, collective = false;
  std::set<std::pair<Kind, int>> busy; // one message at a time in each direction
  for (Operation &operation : operations) {
    if (operation.done || failed)
      continue;
    Kind kind = operation.call.kind;
    if (kind == Kind::Send || kind == Kind::Recv) {
      if (!busy.insert({kind, operation.call.root}).second)
        continue;
      moved |= kind == Kind::Send ? stepSend(operation) : stepReceive(operation);
    } else if (!collective) {
      moved |= stepCollective(operation);
      collective = !operation.done;
    }
  }
  return moved;
}

/// Whether what the operation waits for from a rank can still come.
bool Launch::canCome(int r, const Operation &operation, std::string &why) {
  Comm &c = *comm;
  if (r == c.rank)
    return true;
  RankSlot &slot = c.slot(r);
  // First whether it is gone, then whether it has done its part before.
  if (slot.left)
    why = " has destroyed its communicator";
  else if (slot.failed)
    why = " has failed or aborted";
  else if (!isAlive(slot.process))
    why = " has ended";
  bool here = false;
  if (operation.call.kind == Kind::Send)
    here = operation.posted && c.meeting->channels[c.rank][r].received > operation.number;
  else if (operation.call.kind == Kind::Recv)
    here = c.meeting->channels[r][c.rank].sent > c.meeting->channels[r][c.rank].received;
  else
    here = !operation.posted || slot.finished > operation.number;
  if (here)
    why.clear();
  if (why.empty())
    return true;
  why = c.who(r) + why + " while " + c.who(c.rank) + " waits in " + describe(operation.call);
  return false;
}

std::string Launch::doing() const {
  std::string text;
  bool collective = false;
  for (const Operation &operation : operations) {
    bool message = operation.call.kind == Kind::Send || operation.call.kind == Kind::Recv;
    if (operation.done || (!message && collective))
      continue;
    text += (text.empty() ? "waits in " : ", ") + describe(operation.call);
    if (!message)
      text += " (its collective " + std::to_string(operation.number + 1) + ")";
    collective |= !message;
  }
  return text;
}

void Launch::start() {
  Comm &c = *comm;
  c.current = this;
  started = true;
  failed.reset();
  patience.reset();
  gone.clear();
  for (Operation &operation : operations)
    operation.posted = operation.finished = operation.done = false;
}

sgpu_progress Launch::run() {
  Comm &c = *comm;
  std::lock_guard lock(c.mutex);
  c.lastRun = std::chrono::steady_clock::now();
  auto end = [&](sgpu_progress progress) {
    if (c.current == this)
      c.current = nullptr;
    if (!captured)
      ++c.turn;
    started = false;
    c.mine().waiting = 0;
    return progress;
  };
  if (c.destroyed) {
    refuse(functionName(operations.front().call.kind), ncclInvalidUsage,
           "a graph launches a call of a communicator that was destroyed");
    return sgpu_progress::Fault;
  }
  if (c.aborted || c.revoked)
    return end(sgpu_progress::Done);
  if (!started) {
    if (c.current || (!captured && c.turn != turn))
      return sgpu_progress::
          Wait; // calls of a communicator run in the order in which they were made
    start();
  }
  bool moved = false;
  while (step())
    moved = true;
  if (failed)
    return end(*failed);
  if (std::all_of(operations.begin(), operations.end(),
                  [](const Operation &operation) { return operation.done; }))
    return end(sgpu_progress::Done);
  if (moved || !c.mine().waiting) {
    patience.reset();
    std::snprintf(c.mine().doing, sizeof c.mine().doing, "%s", doing().c_str());
    c.mine().waiting = 1;
  }
  if (c.lastRun - lastCheck > std::chrono::milliseconds(50)) {
    lastCheck = c.lastRun;
    gone.clear();
    for (const Operation &operation : operations) {
      bool message = operation.call.kind == Kind::Send || operation.call.kind == Kind::Recv;
      for (int r = 0; r < c.ranks && gone.empty() && !operation.done; ++r)
        if (!message || r == operation.call.root)
          canCome(r, operation, gone);
    }
    if (!gone.empty()) { // it goes on waiting, as on a device, until the program aborts it
      c.async = remember(ncclRemoteError, gone);
      c.asyncText = gone;
    }
  }
  const char *call = functionName(operations.front().call.kind);
  double waited = patience.look();
  if (!gone.empty() && waited > std::min(10.0, timeout()))
    hang(call, gone + "; the communicator was not aborted", c.everybody());
  if (waited > timeout())
    hang(call,
         "nothing has come for " + std::to_string(sgpu_options().timeout) +
             " s (SOFTWARE_GPU_TIMEOUT) in the " + c.describe(),
         c.everybody());
  return sgpu_progress::Wait;
}

} // namespace sgpu::nccl
