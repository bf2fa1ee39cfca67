//===- Nccl.cpp - The functions of libnccl.so.2 ---------------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Nccl/Comm.h"
#include "Support/OfThread.h"

#include <algorithm>

using namespace sgpu;
using namespace sgpu::nccl;
using namespace sgpu::abi;

namespace {

//===----------------------------------------------------------------------===//
// Communicators
//===----------------------------------------------------------------------===//

struct Registry {
  std::mutex mutex;
  std::map<void *, CommRef> comms;
};
Registry &registry() {
  static auto *all = new Registry; // lives longer than any caller
  return *all;
}
CommRef find(void *handle) {
  std::lock_guard lock(registry().mutex);
  auto it = registry().comms.find(handle);
  return it == registry().comms.end() ? nullptr : it->second;
}
void *add(const CommRef &comm) {
  std::lock_guard lock(registry().mutex);
  registry().comms[comm.get()] = comm;
  return comm.get();
}
void forget(const CommRef &comm) {
  std::lock_guard lock(registry().mutex);
  registry().comms.erase(comm.get());
}

/// The communicator of a handle; null, with the status in `status`, if there is none.
CommRef get(const char *call, void *handle, int &status) {
  CommRef comm = handle ? find(handle) : nullptr;
  if (!comm)
    status = refuse(call, ncclInvalidArgument,
                    handle ? "not a communicator, or one that was destroyed"
                           : "the communicator is null");
  return comm;
}

/// Whether calls may be made on a communicator.
int ensureReady(const char *call, Comm &comm) {
  std::unique_lock lock(comm.mutex);
  bool busy = comm.job || !comm.waiting.empty();
  int async = comm.async;
  std::string text = comm.asyncText;
  bool ended = comm.finalized, revoked = comm.revoked;
  lock.unlock();
  if (busy)
    return refuse(call, ncclInvalidArgument,
                  "the communicator is used before ncclCommGetAsyncError has said that the call "
                  "before is complete");
  if (async != ncclSuccess)
    return remember(async, text);
  if (ended)
    return refuse(call, ncclInvalidUsage, "the communicator was finalized");
  if (revoked)
    return refuse(call, ncclInvalidUsage, "the communicator was revoked");
  return ncclSuccess;
}

/// A communicator on which calls may be made; null, with the status in `status`, else.
CommRef getReady(const char *call, void *handle, int &status) {
  CommRef comm = get(call, handle, status);
  if (comm)
    status = ensureReady(call, *comm);
  return status == ncclSuccess ? comm : nullptr;
}

int cudaFailure(const char *call, int code) {
  const char *name = "?";
  abi::cuGetErrorName(abi::CUresult(code), &name);
  return remember(ncclUnhandledCudaError, std::string(call) + ": the CUDA driver says " + name);
}

/// Reads a configuration into a communicator.
int configure(const char *call, const NcclConfig *config, Comm &comm) {
  if (!config)
    return ncclSuccess;
  NcclConfig c;
  std::memset(&c, 0, sizeof c);
  c.blocking = c.cgaClusterSize = c.minCTAs = c.maxCTAs = c.splitShare = c.trafficClass =
      c.collnetEnable = c.CTAPolicy = c.shrinkShare = c.nvlsCTAs = c.nChannelsPerNetPeer =
          c.nvlinkCentricSched = ncclUndefinedInt;
  if (config->magic != ncclConfigMagic || config->size < offsetof(NcclConfig, cgaClusterSize))
    return refuse(call, ncclInvalidArgument,
                  "the configuration was not made with NCCL_CONFIG_INITIALIZER");
  std::memcpy(&c, config, std::min(config->size, sizeof c)); // older programs have a shorter one
  struct {
    const char *name;
    int value, least, most;
  } fields[] = {{"blocking", c.blocking, 0, 1},
                {"cgaClusterSize", c.cgaClusterSize, 0, 8},
                {"minCTAs", c.minCTAs, 1, INT_MAX},
                {"maxCTAs", c.maxCTAs, 1, INT_MAX},
                {"splitShare", c.splitShare, 0, 1},
                {"trafficClass", c.trafficClass, 0, INT_MAX},
                {"collnetEnable", c.collnetEnable, 0, 1},
                {"CTAPolicy", c.CTAPolicy, 0, 2},
                {"shrinkShare", c.shrinkShare, 0, 1},
                {"nvlsCTAs", c.nvlsCTAs, 1, INT_MAX},
                {"nChannelsPerNetPeer", c.nChannelsPerNetPeer, 1, 32},
                {"nvlinkCentricSched", c.nvlinkCentricSched, 0, 1}};
  for (auto [name, value, least, most] : fields)
    if (value != ncclUndefinedInt && (value < least || value > most))
      return refuse(call, ncclInvalidArgument,
                    std::string("configuration: ") + name + " is " + std::to_string(value) +
                        ", expected " + std::to_string(least) +
                        (most == INT_MAX ? " or more" : " to " + std::to_string(most)));
  if (c.minCTAs != ncclUndefinedInt && c.maxCTAs != ncclUndefinedInt && c.minCTAs > c.maxCTAs)
    return refuse(call, ncclInvalidArgument, "configuration: minCTAs is larger than maxCTAs");
  if (c.blocking != ncclUndefinedInt)
    comm.blocking = c.blocking;
  if (c.commName)
    comm.name = c.commName;
  return ncclSuccess;
}

//===----------------------------------------------------------------------===//
// Groups
//===----------------------------------------------------------------------===//

struct Group {
  int depth = 0;
  int error = ncclSuccess; ///< the first of a call in the group
  std::vector<std::pair<CommRef, Operation>> operations;
  struct Start {
    std::shared_ptr<Job> job;
    void **handle;
    CommRef parent; ///< of a split
  };
  std::vector<Start> starts;
};
Group &group() { return ofThread<Group>(); }

bool isMessage(Kind kind) { return kind == Kind::Send || kind == Kind::Recv; }

bool overlap(uint64_t a, uint64_t aBytes, uint64_t b, uint64_t bBytes) {
  return aBytes && bBytes && a < b + bBytes && b < a + aBytes;
}

/// What the calls of a group on one communicator may not do.
int checkTogether(Comm &comm, const std::vector<Operation> &operations) {
  int toSelf = 0;
  for (size_t i = 0; i < operations.size(); ++i) {
    const Operation &x = operations[i];
    if (isMessage(x.call.kind) && x.call.root == comm.rank)
      toSelf += x.call.kind == Kind::Send ? 1 : -1;
    for (size_t j = 0; j < operations.size(); ++j) {
      const Operation &y = operations[j];
      if (i != j && (overlap(x.recv, x.recvBytes, y.send, y.sendBytes) ||
                     (i < j && overlap(x.recv, x.recvBytes, y.recv, y.recvBytes))))
        return refuse(
            functionName(x.call.kind), ncclInvalidArgument,
            "writes bytes that another call of the group touches: " + describe(y.call) +
                "; calls of a group run at the same time",
            std::max(x.recv, overlap(x.recv, x.recvBytes, y.send, y.sendBytes) ? y.send : y.recv));
    }
  }
  if (toSelf)
    return refuse(toSelf > 0 ? "ncclSend" : "ncclRecv", ncclInvalidUsage,
                  "rank " + std::to_string(comm.rank) +
                      (toSelf > 0 ? " sends to itself without receiving in the same group"
                                  : " receives from itself without sending in the same group"));
  return ncclSuccess;
}

/// Puts the calls of a group on one communicator into their stream. Where there are several streams
/// the first waits for the others before, and they for it after.
int launch(const CommRef &comm, std::vector<Operation> operations) {
  const char *call = functionName(operations.front().call.kind);
  InContext in(*comm);
  std::vector<CUstream> streams;
  for (const Operation &operation : operations) {
    auto stream = static_cast<CUstream>(operation.stream);
    if (std::find(streams.begin(), streams.end(), stream) == streams.end())
      streams.push_back(stream);
  }
  for (CUstream stream : streams) {
    int device;
    if (int code = sgpu_device_of(stream, &device))
      return cudaFailure(call, code);
    if (device != comm->device)
      return refuse(call, ncclUnhandledCudaError,
                    "the stream is of device " + std::to_string(device) + ", the " +
                        comm->describe() + " of device " + std::to_string(comm->device));
  }
  auto join = [](CUstream from, CUstream to) {
    CUevent event;
    int code = cuEventCreate(&event, CU_EVENT_DISABLE_TIMING);
    if (code)
      return code;
    code = cuEventRecord(event, from);
    if (!code)
      code = cuStreamWaitEvent(to, event, 0);
    cuEventDestroy_v2(event);
    return code;
  };
  CUstream stream = streams.front();
  for (size_t i = 1; i < streams.size(); ++i)
    if (int code = join(streams[i], stream))
      return cudaFailure(call, code);
  CUstreamCaptureStatus capture;
  cuuint64_t captureId = 0;
  if (int code = cuStreamGetCaptureInfo_v2(stream, &capture, &captureId, nullptr, nullptr, nullptr))
    return cudaFailure(call, code);
  bool captured = capture == CU_STREAM_CAPTURE_STATUS_ACTIVE;
  // In a graph the calls of a communicator stay in their order, whichever streams they are in.
  if (captured && comm->captureId == captureId && comm->captureNode)
    if (int code = cuStreamUpdateCaptureDependencies_v2(stream, &comm->captureNode, nullptr, 1,
                                                        CU_STREAM_ADD_CAPTURE_DEPENDENCIES))
      return cudaFailure(call, code);
  sgpu_work work;
  work.name = call;
  for (const Operation &operation : operations) {
    if (operation.sendBytes)
      work.reads.push_back({operation.send, operation.sendBytes});
    if (operation.scalarAddress)
      work.reads.push_back({operation.scalarAddress, bytesOf(*elementOf(operation.call.type))});
    if (operation.recvBytes)
      work.writes.push_back({operation.recv, operation.recvBytes});
  }
  uint64_t turn = 0;
  if (!captured) {
    std::lock_guard lock(comm->mutex);
    turn = comm->turns++;
  }
  auto launch = std::make_shared<Launch>(comm, std::move(operations), captured, turn);
  work.run = [launch] { return launch->run(); };
  if (int code = sgpu_enqueue(stream, std::move(work))) {
    std::lock_guard lock(comm->mutex);
    comm->turns -= !captured;
    return cudaFailure(call, code);
  }
  if (captured) {
    const CUgraphNode *nodes = nullptr;
    size_t count = 0;
    cuStreamGetCaptureInfo_v2(stream, &capture, &captureId, nullptr, &nodes, &count);
    comm->captureId = captureId;
    comm->captureNode = count == 1 ? nodes[0] : nullptr;
  }
  for (size_t i = 1; i < streams.size(); ++i)
    if (int code = join(stream, streams[i]))
      return cudaFailure(call, code);
  return ncclSuccess;
}

/// Does what the calls of the group have asked for.
int endGroup() {
  Group done;
  std::swap(done, group());
  bool progress = false;
  int result = done.error;
  if (result == ncclSuccess) {
    std::vector<std::shared_ptr<Job>> jobs;
    for (Group::Start &start : done.starts) {
      // A split is asked for at the parent too: without a color there is no child to ask.
      std::vector<CommRef> asked;
      for (const CommRef &comm : {start.job->comm, start.parent})
        if (comm && !comm->blocking && find(comm.get()))
          asked.push_back(comm);
      if (asked.empty()) {
        jobs.push_back(start.job);
        continue;
      }
      progress = true;
      int status = start.job->step(); // others wait for this rank: it says now that it is there
      for (const CommRef &comm : asked) {
        std::lock_guard lock(comm->mutex);
        if (status == ncclInProgress || status == ncclSuccess)
          comm->job = start.job;
        else
          comm->async = status;
      }
    }
    result = complete(jobs);
  }
  if (result != ncclSuccess) {
    for (Group::Start &start : done.starts)
      if (start.handle) {
        if (start.job->comm)
          forget(start.job->comm);
        *start.handle = nullptr;
      }
    return result;
  }
  // The calls of each communicator, in the order in which they were made.
  std::vector<std::pair<CommRef, std::vector<Operation>>> parts;
  for (auto &[comm, operation] : done.operations) {
    auto it = std::find_if(parts.begin(), parts.end(), [&](auto &p) { return p.first == comm; });
    if (it == parts.end())
      it = parts.insert(parts.end(), {comm, {}});
    it->second.push_back(operation);
  }
  for (auto &[comm, operations] : parts)
    if (int status = checkTogether(*comm, operations))
      return status;
  for (auto &[comm, operations] : parts) {
    if (!comm->blocking) {
      std::lock_guard lock(comm->mutex);
      comm->waiting = std::move(operations);
      comm->polls = int(comm->random.below(3));
      progress = true;
      continue;
    }
    if (int status = launch(comm, std::move(operations)))
      return status;
  }
  return progress ? ncclInProgress : ncclSuccess;
}

/// Ends a call: at once, or with its group.
int endCall(int status = ncclSuccess) {
  if (status != ncclSuccess && group().error == ncclSuccess)
    group().error = status;
  if (group().depth) {
    return status;
  }
  if (status != ncclSuccess) {
    group() = {};
    return status;
  }
  return endGroup();
}

//===----------------------------------------------------------------------===//
// Calls
//===----------------------------------------------------------------------===//

int checkBuffer(const char *call, const char *name, uint64_t address, uint64_t bytes,
                const Comm &comm, Element element) {
  if (!bytes)
    return ncclSuccess;
  if (!address)
    return refuse(call, ncclInvalidArgument, std::string(name) + " is null");
  int device = sgpu_device_of_address(address);
  if (device != comm.device && device != -1)
    return refuse(call, ncclInvalidArgument,
                  std::string(name) +
                      (device < 0 ? " is not memory of a device"
                                  : " is memory of device " + std::to_string(device)) +
                      ", the " + comm.describe() + " is on device " + std::to_string(comm.device),
                  device < 0 ? 0 : address);
  if (address % bytesOf(element))
    return refuse(call, ncclInvalidArgument,
                  std::string(name) + " is not at a multiple of " +
                      std::to_string(bytesOf(element)) + " bytes, its element",
                  address, Check::Misaligned);
  return ncclSuccess;
}

int makeOperation(Kind kind, const void *send, void *recv, size_t count, int type, int op, int root,
                  void *handle, void *stream) {
  const char *call = functionName(kind);
  int status = ncclSuccess;
  CommRef comm = getReady(call, handle, status);
  if (!comm)
    return status;
  bool reduces = kind == Kind::AllReduce || kind == Kind::ReduceScatter || kind == Kind::Reduce;
  bool rooted = kind == Kind::Broadcast || kind == Kind::Reduce || kind == Kind::Gather ||
                kind == Kind::Scatter || isMessage(kind);
  auto element = elementOf(type);
  if (!element)
    return refuse(call, ncclInvalidArgument, "type " + std::to_string(type) + " does not exist");
  if (rooted && (root < 0 || root >= comm->ranks))
    return refuse(call, ncclInvalidArgument,
                  (isMessage(kind) ? "peer " : "root ") + std::to_string(root) + " is not in the " +
                      comm->describe());
  Operation operation;
  operation.stream = stream;
  operation.call = {kind, type, reduces ? op : -1, rooted ? root : -1, count};
  if (reduces) {
    const Comm::UserOp *mine = op >= ncclNumOps && size_t(op - ncclNumOps) < comm->ops.size()
                                   ? &comm->ops[size_t(op - ncclNumOps)]
                                   : nullptr;
    if (op < 0 || (op >= ncclNumOps && (!mine || !mine->live)))
      return refuse(call, ncclInvalidArgument,
                    "operation " + std::to_string(op) + " does not exist for this communicator");
    if (mine && mine->type != type)
      return refuse(call, ncclInvalidArgument,
                    "the scalar of the premultiplied sum has another type than the data");
    if (bytesOf(*element) == 1 && isFloating(*element) && sgpu_capability(comm->device) < 90)
      return refuse(call, ncclInvalidArgument,
                    "reductions of 8-bit floating-point types need sm_90, the device is sm_" +
                        std::to_string(sgpu_capability(comm->device)));
    if (mine) {
      operation.call.op = ncclNumOps;
      operation.scaled = true;
      operation.scalarAddress = mine->onDevice ? mine->address : 0;
      std::memcpy(operation.scalar, mine->scalar, sizeof mine->scalar);
    } else if (op == ncclAvg && isFloating(*element)) {
      operation.scaled = true;
      reciprocal(*element, uint64_t(comm->ranks), operation.scalar);
    }
  }
  if (!count && !isMessage(kind))
    return ncclSuccess; // nothing to do, for no rank
  uint64_t ranks = uint64_t(comm->ranks), part = count * bytesOf(*element);
  bool isRoot = root == comm->rank;
  switch (kind) {
  case Kind::AllReduce:
    operation.sendBytes = operation.recvBytes = part;
    break;
  case Kind::ReduceScatter:
    operation.sendBytes = part * ranks, operation.recvBytes = part;
    break;
  case Kind::AllGather:
    operation.sendBytes = part, operation.recvBytes = part * ranks;
    break;
  case Kind::Broadcast:
    operation.sendBytes = isRoot ? part : 0, operation.recvBytes = part;
    break;
  case Kind::Reduce:
    operation.sendBytes = part, operation.recvBytes = isRoot ? part : 0;
    break;
  case Kind::AlltoAll:
    operation.sendBytes = operation.recvBytes = part * ranks;
    break;
  case Kind::Gather:
    operation.sendBytes = part, operation.recvBytes = isRoot ? part * ranks : 0;
    break;
  case Kind::Scatter:
    operation.sendBytes = isRoot ? part * ranks : 0, operation.recvBytes = part;
    break;
  case Kind::Send:
    operation.sendBytes = part;
    break;
  case Kind::Recv:
    operation.recvBytes = part;
    break;
  }
  operation.send = operation.sendBytes ? uint64_t(send) : 0;
  operation.recv = operation.recvBytes ? uint64_t(recv) : 0;
  if ((status =
           checkBuffer(call, "sendbuff", operation.send, operation.sendBytes, *comm, *element)) ||
      (status =
           checkBuffer(call, "recvbuff", operation.recv, operation.recvBytes, *comm, *element)))
    return status;
  if (overlap(operation.send, operation.sendBytes, operation.recv, operation.recvBytes)) {
    uint64_t mine = part * uint64_t(comm->rank);
    bool fits = false;
    std::string rule = "sendbuff = recvbuff";
    if (kind == Kind::ReduceScatter || kind == Kind::Scatter) {
      fits = operation.recv == operation.send + mine;
      rule = "recvbuff = sendbuff + rank * count elements";
    } else if (kind == Kind::AllGather || kind == Kind::Gather) {
      fits = operation.send == operation.recv + mine;
      rule = "sendbuff = recvbuff + rank * count elements";
    } else if (kind == Kind::AlltoAll) {
      rule = "not possible";
    } else {
      fits = operation.send == operation.recv;
    }
    if (!fits)
      return refuse(call, ncclInvalidArgument,
                    "sendbuff and recvbuff share bytes; in place is " + rule,
                    std::max(operation.send, operation.recv));
  }
  group().operations.push_back({comm, operation});
  return ncclSuccess;
}

int collective(Kind kind, const void *send, void *recv, size_t count, int type, int op, int root,
               void *comm, void *stream) {
  return endCall(makeOperation(kind, send, recv, count, type, op, root, comm, stream));
}

/// A communicator in the current context, without its rank.
int newComm(const char *call, CommRef &comm) {
  if (int code = cuInit(0))
    return cudaFailure(call, code);
  comm = std::make_shared<Comm>();
  CUcontext context = nullptr;
  cuCtxGetCurrent(&context);
  if (!context) { // as the runtime of CUDA does: the primary context of the first device
    if (int code = cuDevicePrimaryCtxRetain(&context, 0))
      return cudaFailure(call, code);
    comm->ownsContext = true;
    cuCtxSetCurrent(context);
  }
  comm->context = context;
  if (int code = sgpu_device_of(nullptr, &comm->device))
    return cudaFailure(call, code);
  return ncclSuccess;
}

int initRank(const char *call, void **handle, int ranks, const NcclUniqueId &id, int rank,
             const NcclConfig *config) {
  if (!handle)
    return refuse(call, ncclInvalidArgument, "the place for the communicator is null");
  *handle = nullptr;
  if (ranks < 1 || rank < 0 || rank >= ranks || ranks > maxRanks)
    return refuse(call, ncclInvalidArgument,
                  "rank " + std::to_string(rank) + " of " + std::to_string(ranks) +
                      ", expected 0 <= rank < ranks <= " + std::to_string(maxRanks));
  CommRef comm;
  if (int status = newComm(call, comm))
    return status;
  if (int status = configure(call, config, *comm))
    return status;
  comm->rank = rank;
  comm->ranks = ranks;
  comm->random = Random(sgpu_options().seed).split(uint64_t(rank) + 1);
  Ticket ticket;
  std::memcpy(&ticket, id.internal, sizeof ticket);
  *handle = add(comm);
  group().starts.push_back({makeInit(call, comm, ticket), handle, nullptr});
  return ncclSuccess;
}

/// Ends a communicator: its handle is gone, others see that it has left.
void leave(const CommRef &comm, bool failed) {
  std::unique_lock lock(comm->mutex);
  if (failed)
    comm->aborted = true;
  comm->destroyed = !failed;
  comm->waiting.clear();
  comm->job = nullptr;
  if (comm->meeting) {
    (failed ? comm->mine().failed : comm->mine().left) = 1;
    comm->mine().waiting = 0;
  }
  lock.unlock();
  forget(comm);
  if (comm->ownsContext)
    abi::cuDevicePrimaryCtxRelease_v2(comm->device);
}

/// Finishes what a communicator that does not block has still to do.
int settle(const CommRef &comm) {
  std::shared_ptr<Job> job;
  std::vector<Operation> waiting;
  {
    std::lock_guard lock(comm->mutex);
    job = std::move(comm->job);
    comm->job = nullptr;
    waiting = std::move(comm->waiting);
    comm->waiting.clear();
  }
  if (job)
    if (int status = complete({job}))
      return status;
  return waiting.empty() ? int(ncclSuccess) : launch(comm, std::move(waiting));
}

} // namespace

// Every function has a second name, for profilers.
#define NCCL(type, name, parameters)                                                               \
  extern "C" __attribute__((visibility("default"))) type name parameters;                          \
  extern "C" __attribute__((visibility("default"), alias(#name))) type p##name parameters;         \
  type name parameters

//===----------------------------------------------------------------------===//
// Versions and texts
//===----------------------------------------------------------------------===//

NCCL(int, ncclGetVersion, (int *version)) {
  if (!version)
    return ncclInvalidArgument;
  *version = ncclVersion;
  return ncclSuccess;
}

NCCL(const char *, ncclGetErrorString, (int result)) {
  switch (result) {
  case ncclSuccess:
    return "success";
  case ncclUnhandledCudaError:
    return "a call of CUDA has failed";
  case ncclSystemError:
    return "a call of the system has failed";
  case ncclInternalError:
    return "fault of the library";
  case ncclInvalidArgument:
    return "a value that the call may not have";
  case ncclInvalidUsage:
    return "a call that may not be made so";
  case ncclRemoteError:
    return "another rank has failed or ended";
  case ncclInProgress:
    return "not complete yet";
  default:
    return "not a result of the library";
  }
}

NCCL(const char *, ncclGetLastError, (void *comm)) {
  struct Last {
    std::string text;
  };
  std::string &text = ofThread<Last>().text;
  text = lastError();
  return text.c_str();
}

NCCL(void, ncclResetDebugInit, ()) {}

//===----------------------------------------------------------------------===//
// Communicators
//===----------------------------------------------------------------------===//

NCCL(int, ncclGetUniqueId, (NcclUniqueId * id)) {
  if (!id)
    return refuse("ncclGetUniqueId", ncclInvalidArgument, "the place for the id is null");
  Ticket ticket;
  if (!newMeeting(ticket))
    return refuse("ncclGetUniqueId", ncclSystemError, "no memory to share with other ranks");
  *id = {};
  std::memcpy(id->internal, &ticket, sizeof ticket);
  return ncclSuccess;
}

NCCL(int, ncclCommInitRank, (void **comm, int ranks, NcclUniqueId id, int rank)) {
  return endCall(initRank("ncclCommInitRank", comm, ranks, id, rank, nullptr));
}

NCCL(int, ncclCommInitRankConfig,
     (void **comm, int ranks, NcclUniqueId id, int rank, NcclConfig *config)) {
  return endCall(initRank("ncclCommInitRankConfig", comm, ranks, id, rank, config));
}

NCCL(int, ncclCommInitRankScalable,
     (void **comm, int ranks, int rank, int idCount, NcclUniqueId *ids, NcclConfig *config)) {
  if (idCount < 1 || !ids)
    return refuse("ncclCommInitRankScalable", ncclInvalidArgument, "there is no unique id");
  return endCall(initRank("ncclCommInitRankScalable", comm, ranks, ids[0], rank, config));
}

NCCL(int, ncclCommInitAll, (void **comms, int count, const int *devices)) {
  const char *call = "ncclCommInitAll";
  if (!comms || count < 1 || count > maxRanks)
    return refuse(call, ncclInvalidArgument,
                  comms ? std::to_string(count) + " devices, expected 1 to " +
                              std::to_string(maxRanks)
                        : "the place for the communicators is null");
  if (int code = cuInit(0))
    return cudaFailure(call, code);
  int there = 0;
  cuDeviceGetCount(&there);
  std::set<int> seen;
  for (int i = 0; i < count; ++i) {
    int device = devices ? devices[i] : i;
    if (device < 0 || device >= there)
      return refuse(call, ncclUnhandledCudaError,
                    "device " + std::to_string(device) + " does not exist, there are " +
                        std::to_string(there) + " (SOFTWARE_GPU_DEVICES)");
    if (!seen.insert(device).second)
      return refuse(call, ncclInvalidUsage,
                    "device " + std::to_string(device) +
                        " is given twice; each rank needs a "
                        "device of its own");
  }
  Ticket ticket;
  if (!newMeeting(ticket))
    return refuse(call, ncclSystemError, "no memory to share with other ranks");
  for (int i = 0; i < count; ++i) {
    auto comm = std::make_shared<Comm>();
    comm->rank = i;
    comm->ranks = count;
    comm->device = devices ? devices[i] : i;
    comm->random = Random(sgpu_options().seed).split(uint64_t(i) + 1);
    if (int code = cuDevicePrimaryCtxRetain(&comm->context, comm->device))
      return cudaFailure(call, code);
    comm->ownsContext = true;
    comms[i] = add(comm);
    group().starts.push_back({makeInit(call, comm, ticket), &comms[i], nullptr});
  }
  return endCall();
}

NCCL(int, ncclCommSplit, (void *handle, int color, int key, void **child, NcclConfig *config)) {
  const char *call = "ncclCommSplit";
  int status = ncclSuccess;
  CommRef parent = getReady(call, handle, status);
  if (!parent)
    return endCall(status);
  if (!child || (color < 0 && color != ncclSplitNoColor))
    return endCall(refuse(call, ncclInvalidArgument,
                          child ? "color " + std::to_string(color) +
                                      ", expected 0 or more or NCCL_SPLIT_NOCOLOR"
                                : "the place for the new communicator is null"));
  *child = nullptr;
  auto comm = std::make_shared<Comm>();
  comm->context = parent->context;
  comm->device = parent->device;
  comm->blocking = parent->blocking;
  comm->random = Random(sgpu_options().seed).split(uint64_t(parent->rank) + 1000);
  status = configure(call, config, *comm);
  if (status != ncclSuccess)
    return endCall(status);
  auto job = makeSplit(parent, color, key, comm);
  if (color != ncclSplitNoColor)
    *child = add(comm);
  group().starts.push_back({job, child, parent});
  return endCall();
}

NCCL(int, ncclCommShrink, (void *handle, int *, int, void **child, NcclConfig *, int)) {
  if (child)
    *child = nullptr;
  return refuse(
      "ncclCommShrink", ncclInvalidUsage,
      "the software GPU does not shrink communicators; use ncclCommSplit or make a new one");
}

NCCL(int, ncclCommFinalize, (void *handle)) {
  const char *call = "ncclCommFinalize";
  if (!handle)
    return ncclSuccess;
  int status = ncclSuccess;
  CommRef comm = getReady(call, handle, status);
  if (!comm)
    return status;
  comm->finalized = true;
  auto job = makeFlush(call, comm);
  if (comm->blocking)
    return complete({job});
  std::lock_guard lock(comm->mutex);
  comm->job = job;
  return ncclInProgress;
}

NCCL(int, ncclCommDestroy, (void *handle)) {
  const char *call = "ncclCommDestroy";
  if (!handle)
    return ncclSuccess;
  int status = ncclSuccess;
  CommRef comm = get(call, handle, status);
  if (!comm)
    return status;
  status = settle(comm);
  if (status == ncclSuccess && comm->ready)
    status = complete({makeFlush(call, comm)});
  leave(comm, status != ncclSuccess);
  return status;
}

NCCL(int, ncclCommAbort, (void *handle)) {
  if (!handle)
    return ncclSuccess;
  int status = ncclSuccess;
  if (CommRef comm = get("ncclCommAbort", handle, status))
    leave(comm, true);
  return status;
}

NCCL(int, ncclCommRevoke, (void *handle, int flags)) {
  if (!handle)
    return ncclSuccess;
  int status = ncclSuccess;
  CommRef comm = get("ncclCommRevoke", handle, status);
  if (!comm)
    return status;
  if (flags)
    return refuse("ncclCommRevoke", ncclInvalidArgument,
                  "flags are " + std::to_string(flags) + ", expected 0");
  std::lock_guard lock(comm->mutex);
  comm->revoked = true;
  return ncclSuccess;
}

NCCL(int, ncclCommGetAsyncError, (void *handle, int *error)) {
  const char *call = "ncclCommGetAsyncError";
  int status = ncclSuccess;
  CommRef comm = get(call, handle, status);
  if (!comm)
    return status;
  if (!error)
    return refuse(call, ncclInvalidArgument, "the place for the error is null");
  std::unique_lock lock(comm->mutex);
  std::shared_ptr<Job> job = comm->job;
  std::vector<Operation> waiting;
  if (!job && !comm->waiting.empty()) {
    if (comm->polls-- > 0) {
      *error = ncclInProgress;
      return ncclSuccess;
    }
    waiting = std::move(comm->waiting);
    comm->waiting.clear();
  }
  lock.unlock();
  int result = ncclSuccess;
  if (job)
    result = job->step();
  else if (!waiting.empty())
    result = launch(comm, std::move(waiting));
  lock.lock();
  if (result == ncclInProgress) {
    *error = result;
    return ncclSuccess;
  }
  comm->job = nullptr;
  if (result != ncclSuccess) {
    comm->async = result;
    comm->asyncText = lastError();
  }
  *error = comm->async;
  return ncclSuccess;
}

#define GETTER(name, value)                                                                        \
  NCCL(int, name, (void *handle, int *to)) {                                                       \
    int status = ncclSuccess;                                                                      \
    CommRef comm = get(#name, handle, status);                                                     \
    if (!comm)                                                                                     \
      return status;                                                                               \
    if (!to)                                                                                       \
      return refuse(#name, ncclInvalidArgument, "the place for the result is null");               \
    if (!comm->ready)                                                                              \
      status = ensureReady(#name, *comm);                                                          \
    if (status != ncclSuccess)                                                                     \
      return status;                                                                               \
    *to = comm->value;                                                                             \
    return ncclSuccess;                                                                            \
  }
GETTER(ncclCommCount, ranks)
GETTER(ncclCommCuDevice, device)
GETTER(ncclCommUserRank, rank)
#undef GETTER

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

NCCL(int, ncclMemAlloc, (void **pointer, size_t bytes)) {
  const char *call = "ncclMemAlloc";
  if (!pointer || !bytes)
    return refuse(call, ncclInvalidArgument,
                  pointer ? "0 bytes" : "the place for the address is null");
  CommRef comm; // for the current context
  if (int status = newComm(call, comm))
    return status;
  abi::CUdeviceptr address = 0;
  if (int code = abi::cuMemAlloc_v2(&address, bytes))
    return cudaFailure(call, code);
  *pointer = reinterpret_cast<void *>(address);
  return ncclSuccess;
}

NCCL(int, ncclMemFree, (void *pointer)) {
  if (!pointer)
    return ncclSuccess;
  if (int code = abi::cuMemFree_v2(reinterpret_cast<abi::CUdeviceptr>(pointer)))
    return cudaFailure("ncclMemFree", code);
  return ncclSuccess;
}

NCCL(int, ncclCommRegister, (void *handle, void *buffer, size_t bytes, void **registration)) {
  const char *call = "ncclCommRegister";
  int status = ncclSuccess;
  CommRef comm = getReady(call, handle, status);
  if (!comm)
    return status;
  if (!registration || !buffer || !bytes)
    return refuse(call, ncclInvalidArgument, "a pointer is null or there are 0 bytes");
  if (!sgpu_resolve(uint64_t(buffer), bytes))
    return refuse(call, ncclInvalidArgument,
                  "the " + std::to_string(bytes) + " bytes are not within one allocation",
                  sgpu_device_of_address(uint64_t(buffer)) < 0 ? 0 : uint64_t(buffer));
  auto *made = new char;
  std::lock_guard lock(comm->mutex);
  comm->registered.insert(made);
  *registration = made;
  return ncclSuccess;
}

NCCL(int, ncclCommDeregister, (void *handle, void *registration)) {
  const char *call = "ncclCommDeregister";
  int status = ncclSuccess;
  CommRef comm = get(call, handle, status);
  if (!comm)
    return status;
  std::lock_guard lock(comm->mutex);
  if (!comm->registered.erase(registration))
    return refuse(call, ncclInvalidArgument, "not a registration of this communicator");
  delete static_cast<char *>(registration);
  return ncclSuccess;
}

// Windows are for kernels that reach into the memory of other ranks. There are none here, and as
// on a machine without them the window is null.
NCCL(int, ncclCommWindowRegister, (void *handle, void *, size_t, void **window, int)) {
  int status = ncclSuccess;
  if (!get("ncclCommWindowRegister", handle, status))
    return status;
  if (!window)
    return refuse("ncclCommWindowRegister", ncclInvalidArgument,
                  "the place for the window is null");
  *window = nullptr;
  return ncclSuccess;
}
NCCL(int, ncclCommWindowDeregister, (void *handle, void *window)) {
  int status = ncclSuccess;
  if (!get("ncclCommWindowDeregister", handle, status))
    return status;
  return window ? refuse("ncclCommWindowDeregister", ncclInvalidArgument, "not a window")
                : int(ncclSuccess);
}

//===----------------------------------------------------------------------===//
// Operations
//===----------------------------------------------------------------------===//

NCCL(int, ncclRedOpCreatePreMulSum,
     (int *op, void *scalar, int type, int residence, void *handle)) {
  const char *call = "ncclRedOpCreatePreMulSum";
  int status = ncclSuccess;
  CommRef comm = getReady(call, handle, status);
  if (!comm)
    return status;
  auto element = elementOf(type);
  if (!op || !scalar || !element ||
      (residence != ncclScalarDevice && residence != ncclScalarHostImmediate))
    return refuse(call, ncclInvalidArgument,
                  !op || !scalar ? "a pointer is null" : "the type or residence does not exist");
  Comm::UserOp made;
  made.live = true;
  made.type = type;
  made.onDevice = residence == ncclScalarDevice;
  if (made.onDevice) {
    made.address = uint64_t(scalar);
    status = checkBuffer(call, "the scalar", made.address, bytesOf(*element), *comm, *element);
    if (status != ncclSuccess)
      return status;
  } else {
    std::memcpy(made.scalar, scalar, bytesOf(*element));
  }
  std::lock_guard lock(comm->mutex);
  size_t i = 0;
  while (i < comm->ops.size() && comm->ops[i].live)
    ++i;
  if (i == comm->ops.size())
    comm->ops.emplace_back();
  comm->ops[i] = made;
  *op = ncclNumOps + int(i);
  return ncclSuccess;
}

NCCL(int, ncclRedOpDestroy, (int op, void *handle)) {
  const char *call = "ncclRedOpDestroy";
  if (op >= 0 && op < ncclNumOps)
    return refuse(call, ncclInvalidArgument, "an operation of the library cannot be destroyed");
  int status = ncclSuccess;
  CommRef comm = get(call, handle, status);
  if (!comm)
    return status;
  std::lock_guard lock(comm->mutex);
  size_t i = size_t(op - ncclNumOps);
  if (op < 0 || i >= comm->ops.size() || !comm->ops[i].live)
    return refuse(call, ncclInvalidArgument, "not an operation of this communicator");
  comm->ops[i].live = false;
  return ncclSuccess;
}

//===----------------------------------------------------------------------===//
// Collectives and messages
//===----------------------------------------------------------------------===//

NCCL(int, ncclAllReduce,
     (const void *send, void *recv, size_t count, int type, int op, void *comm, void *stream)) {
  return collective(Kind::AllReduce, send, recv, count, type, op, -1, comm, stream);
}
NCCL(int, ncclReduceScatter,
     (const void *send, void *recv, size_t count, int type, int op, void *comm, void *stream)) {
  return collective(Kind::ReduceScatter, send, recv, count, type, op, -1, comm, stream);
}
NCCL(int, ncclAllGather,
     (const void *send, void *recv, size_t count, int type, void *comm, void *stream)) {
  return collective(Kind::AllGather, send, recv, count, type, -1, -1, comm, stream);
}
NCCL(int, ncclBroadcast,
     (const void *send, void *recv, size_t count, int type, int root, void *comm, void *stream)) {
  return collective(Kind::Broadcast, send, recv, count, type, -1, root, comm, stream);
}
NCCL(int, ncclBcast, (void *buffer, size_t count, int type, int root, void *comm, void *stream)) {
  return collective(Kind::Broadcast, buffer, buffer, count, type, -1, root, comm, stream);
}
NCCL(int, ncclReduce,
     (const void *send, void *recv, size_t count, int type, int op, int root, void *comm,
      void *stream)) {
  return collective(Kind::Reduce, send, recv, count, type, op, root, comm, stream);
}
NCCL(int, ncclAlltoAll,
     (const void *send, void *recv, size_t count, int type, void *comm, void *stream)) {
  return collective(Kind::AlltoAll, send, recv, count, type, -1, -1, comm, stream);
}
NCCL(int, ncclGather,
     (const void *send, void *recv, size_t count, int type, int root, void *comm, void *stream)) {
  return collective(Kind::Gather, send, recv, count, type, -1, root, comm, stream);
}
NCCL(int, ncclScatter,
     (const void *send, void *recv, size_t count, int type, int root, void *comm, void *stream)) {
  return collective(Kind::Scatter, send, recv, count, type, -1, root, comm, stream);
}
NCCL(int, ncclSend,
     (const void *send, size_t count, int type, int peer, void *comm, void *stream)) {
  return collective(Kind::Send, send, nullptr, count, type, -1, peer, comm, stream);
}
NCCL(int, ncclRecv, (void *recv, size_t count, int type, int peer, void *comm, void *stream)) {
  return collective(Kind::Recv, nullptr, recv, count, type, -1, peer, comm, stream);
}

NCCL(int, ncclGroupStart, ()) {
  ++group().depth;
  return ncclSuccess;
}

NCCL(int, ncclGroupEnd, ()) {
  if (!group().depth)
    return refuse("ncclGroupEnd", ncclInvalidUsage, "there was no ncclGroupStart");
  if (--group().depth)
    return ncclSuccess;
  return endGroup();
}

NCCL(int, ncclGroupSimulateEnd, (void *)) {
  if (!group().depth)
    return refuse("ncclGroupSimulateEnd", ncclInvalidArgument, "there was no ncclGroupStart");
  group() = {};
  return refuse("ncclGroupSimulateEnd", ncclInvalidUsage, "the software GPU knows no times");
}
