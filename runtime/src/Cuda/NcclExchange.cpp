//===- NcclExchange.cpp - Ranks with a GPU each ---------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Cuda/NcclExchange.h"
#include "src/Device/Device.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <future>
#include <map>
#include <numeric>
#include <thread>
#include <unistd.h>
#include <utility>

using namespace llrt;
using namespace llrt::cuda;
using Kind = Action::Kind;

namespace {
// The id of a group, by its communicator and its first member.
struct GroupId {
  int64_t communicator, first;
  ncclUniqueId id;
};
} // namespace

// The ids of all groups: the first member of each makes it, rank 0 tells all.
static std::map<std::pair<int64_t, int64_t>, ncclUniqueId> shareIds(const std::vector<GroupId> &own,
                                                                    Control &control) {
  std::string bytes(own.size() * sizeof(GroupId), '\0');
  std::memcpy(bytes.data(), own.data(), bytes.size());
  std::string all;
  for (const std::string &each : control.gather(bytes))
    all += each;
  all = control.broadcast(all);
  std::map<std::pair<int64_t, int64_t>, ncclUniqueId> ids;
  for (size_t at = 0; at < all.size(); at += sizeof(GroupId)) {
    GroupId group;
    std::memcpy(&group, all.data() + at, sizeof(group));
    ids[{group.communicator, group.first}] = group.id;
  }
  return ids;
}

// Transfers have a number of channels of their own, which only the environment bounds; NCCL reads
// it once. All processes have the same program. And what is recorded as a graph is not registered with
// the other ranks: recording would wait for them, and take memory that is not planned (rule R5).
void NcclExchange::setEnvironment(const Program &program) {
  setenv("NCCL_GRAPH_REGISTER", "0", /*overwrite=*/0);
  // What NVLink switches sum up has another order each time (github.com/NVIDIA/nccl, issue 1497).
  setenv("NCCL_NVLS_ENABLE", "0", /*overwrite=*/0);
  int64_t most = 0;
  for (const Communicator &each : program.communicators)
    if (each.edge)
      most = std::max(most, each.multiprocessors);
  if (most > 0)
    setenv("NCCL_MAX_P2P_NCHANNELS", std::to_string(most).c_str(), /*overwrite=*/1);
}

// A communicator of `size` members, of which this rank is number `index`. NCCL's call ends when all of
// them have come: it has a thread of its own, which is left behind if they do not. (NCCL can make
// communicators without blocking, but then no later call blocks either, those in a graph too.)
static ncclComm_t meet(const Communicator &communicator, const Grid &grid, const ncclUniqueId &id,
                       int size, int index, const Gpu &gpu, Control &control,
                       std::chrono::duration<double> patience) {
  using Clock = std::chrono::steady_clock;
  ncclConfig_t config;
  if (communicator.multiprocessors)
    config.maxCTAs = int(communicator.multiprocessors);
  // It may outlive all that is here.
  std::packaged_task<std::pair<ncclResult_t, ncclComm_t>()> task(
      [=, context = gpu.handle()]() mutable {
        cuda::check(driver().cuCtxSetCurrent(context), "cuCtxSetCurrent");
        ncclComm_t made = nullptr;
        ncclResult_t result = nccl().ncclCommInitRankConfig(&made, size, id, index, &config);
        return std::pair(result, made);
      });
  auto made = task.get_future();
  std::thread(std::move(task)).detach();
  const std::string waitsFor = "NCCL, which makes communicator '" + communicator.name + "' of " +
                               std::to_string(size) + " ranks";
  try {
    for (auto begin = Clock::now();
         made.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready;) {
      control.answer(waitsFor);
      if (Clock::now() - begin > patience)
        giveUp(grid, control, patience, waitsFor);
    }
  } catch (...) {
    // What ends the process must not take down what that thread uses.
    on_exit(
        [](int status, void *) {
          std::fflush(nullptr);
          _exit(status);
        },
        nullptr);
    throw;
  }
  const auto [result, handle] = made.get();
  try {
    cuda::check(result, "ncclCommInitRankConfig");
  } catch (const Failure &failure) {
    throw Failure("communicator '" + communicator.name + "': " + failure.what() +
                  (result == ncclInvalidUsage ? "; each rank needs a GPU of its own" : ""));
  }
  return handle;
}

// One order for all: nobody waits for who waits for him. A stage that makes what it shares with the next
// stage, then what it shares with the one before, waits for all stages behind it, one after the
// other; so those of even stages with the next one come first, at once, then those of odd ones.
std::vector<size_t> NcclExchange::makingOrder(const Program &program) {
  auto turn = [&](size_t number) {
    const auto &edge = program.communicators[number].edge;
    return edge ? 1 + std::min(edge->first, edge->second) % 2 : 0;
  };
  std::vector<size_t> order(program.communicators.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return std::pair(turn(a), a) < std::pair(turn(b), b); });
  return order;
}

NcclExchange::NcclExchange(const Program &program, int64_t rank, const Gpu &gpu, Control &control,
                           std::chrono::duration<double> patience)
    : control(control) {
  const Nccl &library = nccl();
  size_t count = program.communicators.size();
  std::vector<std::vector<int64_t>> members(count);
  std::vector<GroupId> own;
  for (size_t i = 0; i < count; ++i) {
    members[i] = program.communicators[i].members(program.grid, rank);
    if (std::find(members[i].begin(), members[i].end(), rank) == members[i].end())
      members[i].clear();
    if (members[i].empty() || members[i].front() != rank)
      continue;
    GroupId &group = own.emplace_back();
    group.communicator = int64_t(i);
    group.first = rank;
    cuda::check(library.ncclGetUniqueId(&group.id), "ncclGetUniqueId");
  }
  auto ids = shareIds(own, control);
  communicators.resize(count);
  peers.resize(count);
  for (size_t i : makingOrder(program)) {
    if (members[i].empty())
      continue;
    auto index = int(std::find(members[i].begin(), members[i].end(), rank) - members[i].begin());
    peers[i] = 1 - index;
    try {
      communicators[i] =
          meet(program.communicators[i], program.grid, ids.at({int64_t(i), members[i].front()}),
               int(members[i].size()), index, gpu, control, patience);
    } catch (...) {
      abort();
      throw;
    }
  }
}

NcclExchange::~NcclExchange() {
  if (std::uncaught_exceptions() > 0)
    abort();
  for (ncclComm_t each : communicators)
    if (each)
      nccl().ncclCommDestroy(each);
}

static ncclDataType_t dataTypeOf(LlrtType type) {
  switch (type) {
  case LLRT_F32:
    return ncclFloat32;
  case LLRT_BF16:
    return ncclBfloat16;
  case LLRT_F64:
    return ncclFloat64;
  case LLRT_I64:
    return ncclInt64;
  }
  __builtin_unreachable();
}

std::shared_ptr<Exchange::Meeting> NcclExchange::start(CUstream stream, const Action &action,
                                                       const void *from, void *to) {
  const Nccl &library = nccl();
  ncclComm_t communicator = communicators[action.communicator];
  ncclDataType_t type = dataTypeOf(action.type);
  auto count = size_t(action.outer * action.elements);
  ncclRedOp_t reduction = action.reduction == Action::Reduction::Max ? ncclMax : ncclSum;
  bool reduces = action.kind == Kind::AllReduce || action.kind == Kind::ReduceScatter;
  bool strided =
      action.outer > 1 && (action.kind == Kind::AllGather || action.kind == Kind::ReduceScatter);
  // The compiler makes what NCCL can do (dist-legalize-collectives).
  if (strided || (reduces && (action.toType != action.type || action.accumulate)))
    throw Failure("NCCL has no such communication: expected contiguous elements of one type that "
                  "are not added to others");
  switch (action.kind) {
  case Kind::AllGather:
    cuda::check(library.ncclAllGather(from, to, count, type, communicator, stream),
                "ncclAllGather");
    break;
  case Kind::AllReduce:
    cuda::check(library.ncclAllReduce(from, to, count, type, reduction, communicator, stream),
                "ncclAllReduce");
    break;
  case Kind::ReduceScatter:
    cuda::check(library.ncclReduceScatter(from, to, count, type, reduction, communicator, stream),
                "ncclReduceScatter");
    break;
  case Kind::Broadcast:
    cuda::check(library.ncclBroadcast(from, to, count, type, 0, communicator, stream),
                "ncclBroadcast");
    break;
  case Kind::Send:
    cuda::check(
        library.ncclSend(from, count, type, peers[action.communicator], communicator, stream),
        "ncclSend");
    break;
  default:
    cuda::check(library.ncclRecv(to, count, type, peers[action.communicator], communicator, stream),
                "ncclRecv");
  }
  return nullptr;
}

void NcclExchange::check() {
  for (ncclComm_t each : communicators) {
    if (!each)
      continue;
    ncclResult_t result = ncclSuccess;
    cuda::check(nccl().ncclCommGetAsyncError(each, &result), "ncclCommGetAsyncError");
    if (result != ncclInProgress)
      cuda::check(result, "NCCL");
  }
}

// NCCL's ends wait for each other, however they are taken down. So the others, who may wait for this
// rank, learn first that it will not come, and take theirs down, too.
void NcclExchange::abort() {
  control.tellFailure();
  for (ncclComm_t &each : communicators)
    if (each)
      nccl().ncclCommAbort(std::exchange(each, nullptr));
}
