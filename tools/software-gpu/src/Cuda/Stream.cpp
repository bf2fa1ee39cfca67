//===- Stream.cpp - Streams, events and their capture -----------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Cuda/Driver.h"

#include <algorithm>
#include <unistd.h>

using namespace sgpu;
using namespace sgpu::cuda;
using namespace sgpu::abi;

//===----------------------------------------------------------------------===//
// Order of a stream
//===----------------------------------------------------------------------===//

CUstream sgpu::cuda::makeStream(CUcontext context, unsigned flags, int priority) {
  auto stream = std::make_unique<CUstream_st>();
  stream->context = context;
  stream->flags = flags;
  stream->priority = priority;
  stream->chain = Driver::get().newChain();
  stream->id = state().lastId++;
  static thread_local int made = 0;
  stream->name = (gettid() == getpid() ? "main stream " : "stream ") + std::to_string(made++);
  return state().streams.add(std::move(stream));
}

static thread_local int defaultStreamOfThread = 0;
DefaultStreamOfThread::DefaultStreamOfThread() { ++defaultStreamOfThread; }
DefaultStreamOfThread::~DefaultStreamOfThread() { --defaultStreamOfThread; }

CUstream sgpu::cuda::findStream(CUstream handle) {
  if (!handle && defaultStreamOfThread)
    handle = streamPerThread;
  CUstream stream = handle;
  if (!handle || handle == streamLegacy) {
    stream = current()->legacy;
  } else if (handle == streamPerThread) {
    CUcontext c = current();
    CUstream &mine = c->perThread[std::this_thread::get_id()];
    if (!mine)
      mine = makeStream(c, CU_STREAM_DEFAULT, 0);
    stream = mine;
  }
  require(state().streams.contains(stream), CUDA_ERROR_INVALID_HANDLE);
  require(stream->context->error == CUDA_SUCCESS, stream->context->error);
  return stream;
}

/// What the next work of a stream comes after. The legacy stream and all other streams of its
/// context that are not non-blocking wait for each other.
static std::vector<OpRef> before(CUstream stream) {
  std::vector<OpRef> ops{stream->last};
  if (stream->isLegacy) {
    for (const auto &[other, object] : state().streams.all())
      if (other->context == stream->context && other != stream && other->blocking())
        ops.push_back(other->last);
    ops.push_back(stream->context->orphans[true]);
  } else if (stream->blocking()) {
    ops.push_back(stream->context->legacy->last);
  }
  return ops;
}

static void refuseImplicit(CUstream stream);

OpRef sgpu::cuda::mark(Lock &lock, CUstream stream, const std::vector<OpRef> &alsoAfter,
                       const std::vector<OpRef> &leftOut) {
  refuseImplicit(stream);
  std::vector<OpRef> after = before(stream);
  after.insert(after.end(), alsoAfter.begin(), alsoAfter.end());
  return stream->last =
             Driver::get().newOp(stream->context, nullptr, stream->chain, after, lock, leftOut);
}

//===----------------------------------------------------------------------===//
// Capture
//===----------------------------------------------------------------------===//

static thread_local CUstreamCaptureMode threadMode = CU_STREAM_CAPTURE_MODE_GLOBAL;

void sgpu::cuda::invalidate(Capture &capture) { capture.invalid = true; }

void sgpu::cuda::unsafeInCapture(CUresult code, bool always) {
  bool found = false;
  for (auto &[id, c] : state().captures) {
    bool own = c->thread == std::this_thread::get_id();
    bool forbids = always && c->origin->context == current();
    if (threadMode != CU_STREAM_CAPTURE_MODE_RELAXED && c->mode != CU_STREAM_CAPTURE_MODE_RELAXED)
      forbids |= own || (threadMode == CU_STREAM_CAPTURE_MODE_GLOBAL &&
                         c->mode == CU_STREAM_CAPTURE_MODE_GLOBAL);
    if (forbids) {
      invalidate(*c);
      found = true;
    }
  }
  if (found)
    fail(code);
}

/// Work in the legacy stream would be ordered with streams that are being captured.
static void refuseImplicit(CUstream stream) {
  if (!stream->isLegacy)
    return;
  bool found = false;
  for (const auto &[other, object] : state().streams.all())
    if (other->context == stream->context && other->capture && other->blocking()) {
      invalidate(*other->capture);
      found = true;
    }
  require(!found, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
}

/// For calls that ask for the state of a stream.
static void refuseCapturing(CUstream stream) {
  if (stream->capture) {
    invalidate(*stream->capture);
    fail(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  }
  refuseImplicit(stream);
}

void sgpu::cuda::count(CUstream stream, const std::string &task) {
  ++stream->tasks;
  stream->waits = 0;
  stream->lastTask = task;
}

OpRef sgpu::cuda::issue(Lock &lock, CUstream stream, TaskRef task) {
  count(stream, task->name);
  if (Capture *c = stream->capture) {
    require(!c->invalid, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    stream->captureTail = {addNode(c->graph, std::move(task), stream->captureTail)};
    return nullptr;
  }
  refuseImplicit(stream);
  OpRef op =
      Driver::get().newOp(stream->context, std::move(task), stream->chain, before(stream), lock);
  return stream->last = op;
}

static void endCapture(Capture *capture) {
  State &s = state();
  for (CUstream stream : capture->streams)
    if (s.streams.contains(stream)) {
      stream->capture = nullptr;
      stream->captureTail.clear();
    }
  for (const auto &[event, object] : s.events.all())
    if (event->capture == capture) {
      event->capture = nullptr;
      event->captured.clear();
    }
  s.captures.erase(capture->id);
}

CUresult abi::cuStreamBeginCapture_v2(CUstream hStream, CUstreamCaptureMode mode) {
  return call([&](Driver &, Lock &) {
    CUstream stream = findStream(hStream);
    require(mode >= 0 && mode <= CU_STREAM_CAPTURE_MODE_RELAXED);
    require(!stream->isLegacy, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    if (stream->capture) {
      invalidate(*stream->capture);
      fail(CUDA_ERROR_ILLEGAL_STATE);
    }
    State &s = state();
    auto c = std::make_unique<Capture>();
    c->id = s.lastId++;
    c->mode = mode;
    c->origin = stream;
    c->thread = std::this_thread::get_id();
    c->graph = s.graphs.add(std::make_unique<CUgraph_st>());
    c->graph->context = stream->context;
    c->streams.insert(stream);
    stream->capture = c.get();
    stream->captureTail.clear();
    uint64_t id = c->id;
    s.captures[id] = std::move(c);
  });
}

CUresult abi::cuStreamEndCapture(CUstream hStream, CUgraph *phGraph) {
  return call([&](Driver &, Lock &) {
    CUstream stream = findStream(hStream);
    require(phGraph);
    *phGraph = nullptr;
    Capture *c = stream->capture;
    require(c, CUDA_ERROR_ILLEGAL_STATE);
    if (c->origin != stream) {
      invalidate(*c);
      fail(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
    }
    if (c->mode != CU_STREAM_CAPTURE_MODE_RELAXED && c->thread != std::this_thread::get_id())
      fail(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
    // All that the other streams have captured must be before what this stream does next.
    std::set<CUgraphNode> joined;
    std::vector<CUgraphNode> todo = stream->captureTail;
    while (!todo.empty()) {
      CUgraphNode n = todo.back();
      todo.pop_back();
      if (joined.insert(n).second)
        todo.insert(todo.end(), n->dependencies.begin(), n->dependencies.end());
    }
    bool unjoined = false;
    for (CUstream other : c->streams)
      if (state().streams.contains(other))
        for (CUgraphNode n : other->captureTail)
          unjoined |= !joined.contains(n);
    CUgraph graph = c->graph;
    bool invalid = c->invalid;
    endCapture(c);
    if (invalid || unjoined) {
      destroyGraph(graph);
      fail(invalid ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
    }
    *phGraph = graph;
  });
}

static CUstreamCaptureStatus captureStatus(CUstream stream) {
  return !stream->capture           ? CU_STREAM_CAPTURE_STATUS_NONE
         : stream->capture->invalid ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                    : CU_STREAM_CAPTURE_STATUS_ACTIVE;
}

CUresult abi::cuStreamIsCapturing(CUstream hStream, CUstreamCaptureStatus *status) {
  return call([&](Driver &, Lock &) {
    CUstream stream = findStream(hStream);
    require(status);
    if (stream->isLegacy)
      for (const auto &[other, object] : state().streams.all())
        require(other->context != stream->context || !other->capture || !other->blocking(),
                CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
    *status = captureStatus(stream);
  });
}

static void captureInfo(CUstream hStream, CUstreamCaptureStatus *status, cuuint64_t *id,
                        CUgraph *graph, const CUgraphNode **dependencies,
                        const CUgraphEdgeData **edges, size_t *count) {
  CUstream stream = findStream(hStream);
  require(status);
  *status = captureStatus(stream);
  if (*status != CU_STREAM_CAPTURE_STATUS_ACTIVE)
    return;
  if (id)
    *id = stream->capture->id;
  if (graph)
    *graph = stream->capture->graph;
  if (dependencies)
    *dependencies = stream->captureTail.data();
  if (edges)
    *edges = nullptr; // all edges are plain
  if (count)
    *count = stream->captureTail.size();
}

CUresult abi::cuStreamGetCaptureInfo_v3(CUstream hStream, CUstreamCaptureStatus *captureStatus_out,
                                        cuuint64_t *id_out, CUgraph *graph_out,
                                        const CUgraphNode **dependencies_out,
                                        const CUgraphEdgeData **edgeData_out,
                                        size_t *numDependencies_out) {
  return call([&](Driver &, Lock &) {
    captureInfo(hStream, captureStatus_out, id_out, graph_out, dependencies_out, edgeData_out,
                numDependencies_out);
  });
}

CUresult abi::cuStreamGetCaptureInfo_v2(CUstream hStream, CUstreamCaptureStatus *captureStatus_out,
                                        cuuint64_t *id_out, CUgraph *graph_out,
                                        const CUgraphNode **dependencies_out,
                                        size_t *numDependencies_out) {
  return cuStreamGetCaptureInfo_v3(hStream, captureStatus_out, id_out, graph_out, dependencies_out,
                                   nullptr, numDependencies_out);
}

CUresult abi::cuStreamUpdateCaptureDependencies_v2(CUstream hStream, CUgraphNode *dependencies,
                                                   const CUgraphEdgeData *, size_t numDependencies,
                                                   unsigned int flags) {
  return call([&](Driver &, Lock &) {
    CUstream stream = findStream(hStream);
    require(flags <= CU_STREAM_SET_CAPTURE_DEPENDENCIES && (!numDependencies || dependencies));
    require(stream->capture, CUDA_ERROR_ILLEGAL_STATE);
    require(!stream->capture->invalid, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    std::vector<CUgraphNode> given(dependencies, dependencies + numDependencies);
    for (CUgraphNode n : given)
      require(state().nodes.contains(n) && n->graph == stream->capture->graph);
    if (flags == CU_STREAM_SET_CAPTURE_DEPENDENCIES)
      stream->captureTail.clear();
    for (CUgraphNode n : given)
      if (std::find(stream->captureTail.begin(), stream->captureTail.end(), n) ==
          stream->captureTail.end())
        stream->captureTail.push_back(n);
  });
}

CUresult abi::cuStreamUpdateCaptureDependencies(CUstream hStream, CUgraphNode *dependencies,
                                                size_t numDependencies, unsigned int flags) {
  return cuStreamUpdateCaptureDependencies_v2(hStream, dependencies, nullptr, numDependencies,
                                              flags);
}

CUresult abi::cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode) {
  if (!mode || *mode < 0 || *mode > CU_STREAM_CAPTURE_MODE_RELAXED)
    return CUDA_ERROR_INVALID_VALUE;
  std::swap(*mode, threadMode);
  return CUDA_SUCCESS;
}

//===----------------------------------------------------------------------===//
// Streams
//===----------------------------------------------------------------------===//

CUresult abi::cuStreamCreateWithPriority(CUstream *phStream, unsigned int flags, int priority) {
  return call([&](Driver &, Lock &) {
    CUcontext c = current();
    require(phStream && !(flags & ~unsigned(CU_STREAM_NON_BLOCKING)));
    *phStream = makeStream(c, flags,
                           std::clamp(priority, greatestPriorityOfStreams, leastPriorityOfStreams));
  });
}

CUresult abi::cuStreamCreate(CUstream *phStream, unsigned int Flags) {
  return cuStreamCreateWithPriority(phStream, Flags, 0);
}

// Work that is left in the stream is still done.
CUresult abi::cuStreamDestroy_v2(CUstream hStream) {
  return call([&](Driver &driver, Lock &lock) {
    require(hStream && hStream != streamLegacy && hStream != streamPerThread,
            CUDA_ERROR_INVALID_HANDLE);
    require(state().streams.contains(hStream), CUDA_ERROR_INVALID_HANDLE);
    if (Capture *c = hStream->capture) {
      invalidate(*c);
      c->streams.erase(hStream);
      if (c->origin == hStream) {
        CUgraph graph = c->graph;
        endCapture(c);
        destroyGraph(graph);
      }
    }
    // The legacy stream and cuCtxSynchronize still come after its work.
    OpRef &orphans = hStream->context->orphans[hStream->blocking()];
    if (hStream->last)
      orphans = driver.newOp(hStream->context, nullptr, 0, {orphans, hStream->last}, lock);
    std::erase_if(hStream->context->perThread, [&](auto &p) { return p.second == hStream; });
    state().streams.remove(hStream);
  });
}

CUresult abi::cuStreamGetPriority(CUstream hStream, int *priority) {
  return call([&](Driver &, Lock &) {
    require(priority);
    *priority = findStream(hStream)->priority;
  });
}

CUresult abi::cuStreamGetFlags(CUstream hStream, unsigned int *flags) {
  return call([&](Driver &, Lock &) {
    require(flags);
    *flags = findStream(hStream)->flags;
  });
}

CUresult abi::cuStreamGetId(CUstream hStream, unsigned long long *streamId) {
  return call([&](Driver &, Lock &) {
    require(streamId);
    *streamId = findStream(hStream)->id;
  });
}

CUresult abi::cuStreamGetCtx(CUstream hStream, CUcontext *pctx) {
  return call([&](Driver &, Lock &) {
    require(pctx);
    *pctx = findStream(hStream)->context;
  });
}

CUresult abi::cuStreamGetDevice(CUstream hStream, CUdevice *device) {
  return call([&](Driver &, Lock &) {
    require(device);
    *device = findStream(hStream)->context->device->ordinal;
  });
}

/// The last op of a stream; for the legacy stream an op after all that it waits for.
static OpRef lastOf(Lock &lock, CUstream stream) {
  return stream->isLegacy ? mark(lock, stream) : stream->last;
}

void sgpu::cuda::waitFor(Lock &lock, CUstream stream) {
  waitChecked(lock, stream->context, lastOf(lock, stream));
}

/// Lets a step of work go on, then says whether all of the ops are done.
static void query(Driver &driver, Lock &lock, CUcontext context, const std::vector<OpRef> &ops) {
  auto done = [](const OpRef &op) { return !op || op->done; };
  if (!std::all_of(ops.begin(), ops.end(), done))
    driver.advance(lock);
  require(context->error == CUDA_SUCCESS, context->error);
  require(std::all_of(ops.begin(), ops.end(), done), CUDA_ERROR_NOT_READY);
  for (const OpRef &op : ops)
    if (op)
      driver.known(*op);
}

CUresult abi::cuStreamQuery(CUstream hStream) {
  return call([&](Driver &driver, Lock &lock) {
    CUstream stream = findStream(hStream);
    refuseCapturing(stream);
    query(driver, lock, stream->context,
          stream->isLegacy ? before(stream) : std::vector<OpRef>{stream->last});
  });
}

CUresult abi::cuStreamSynchronize(CUstream hStream) {
  return call([&](Driver &, Lock &lock) {
    CUstream stream = findStream(hStream);
    refuseCapturing(stream);
    waitChecked(lock, stream->context, lastOf(lock, stream));
  });
}

TaskRef sgpu::cuda::hostTask(const std::string &name, CUhostFn function, void *data) {
  auto task = std::make_shared<Task>();
  task->name = name;
  task->type = CU_GRAPH_NODE_TYPE_HOST;
  task->unlocked = true;
  task->hostFunction = {function, data};
  task->run = [function, data](Op &) {
    function(data);
    return sgpu_progress::Done;
  };
  return task;
}

CUresult abi::cuLaunchHostFunc(CUstream hStream, CUhostFn fn, void *userData) {
  return call([&](Driver &, Lock &lock) {
    CUstream stream = findStream(hStream);
    require(fn);
    issue(lock, stream, hostTask("cuLaunchHostFunc", fn, userData));
  });
}

// The older form; it may not be captured.
CUresult abi::cuStreamAddCallback(CUstream hStream, CUstreamCallback callback, void *userData,
                                  unsigned int flags) {
  return call([&](Driver &, Lock &lock) {
    CUstream stream = findStream(hStream);
    require(callback && !flags);
    refuseCapturing(stream);
    auto task = std::make_shared<Task>(*hostTask("cuStreamAddCallback", nullptr, nullptr));
    task->run = [=](Op &) {
      callback(hStream, CUDA_SUCCESS, userData);
      return sgpu_progress::Done;
    };
    issue(lock, stream, task);
  });
}

//===----------------------------------------------------------------------===//
// Events
//===----------------------------------------------------------------------===//

/// "stream 2 after 12 (launch of kernel k)": where it is, for names of orders.
static std::string placeOf(CUstream stream) {
  return stream->name + " after " + std::to_string(stream->tasks) +
         (stream->tasks ? " (" + stream->lastTask + ")" : "");
}

/// A node that does nothing keeps the order that a capture has left out in mind.
static void addLeftOut(CUstream stream) {
  if (!stream->capture || stream->leftOut.empty())
    return;
  CUgraphNode node =
      addNode(stream->capture->graph, emptyTask(CU_GRAPH_NODE_TYPE_EMPTY), stream->captureTail);
  node->leftOut = std::move(stream->leftOut);
  stream->leftOut.clear();
  stream->captureTail = {node};
}

static CUevent findEvent(CUevent event) {
  require(event && state().events.contains(event), CUDA_ERROR_INVALID_HANDLE);
  return event;
}

CUresult abi::cuEventCreate(CUevent *phEvent, unsigned int Flags) {
  return call([&](Driver &, Lock &) {
    CUcontext c = current();
    constexpr unsigned known = CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING;
    require(phEvent && !(Flags & ~known));
    auto event = std::make_unique<CUevent_st>();
    event->context = c;
    event->flags = Flags;
    *phEvent = state().events.add(std::move(event));
  });
}

CUresult abi::cuEventDestroy_v2(CUevent hEvent) {
  return call([&](Driver &, Lock &) { state().events.remove(findEvent(hEvent)); });
}

CUresult abi::cuEventRecordWithFlags(CUevent hEvent, CUstream hStream, unsigned int flags) {
  return call([&](Driver &, Lock &lock) {
    CUevent event = findEvent(hEvent);
    CUstream stream = findStream(hStream);
    require(flags == 0);
    require(event->context == stream->context, CUDA_ERROR_INVALID_HANDLE);
    event->place = placeOf(stream);
    if (Capture *c = stream->capture) {
      require(!c->invalid, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
      event->capture = c;
      event->captured = stream->captureTail;
      event->op = nullptr;
      return;
    }
    OpRef op = mark(lock, stream);
    event->capture = nullptr;
    event->captured.clear();
    event->op = std::move(op);
  });
}

CUresult abi::cuEventRecord(CUevent hEvent, CUstream hStream) {
  return cuEventRecordWithFlags(hEvent, hStream, 0);
}

static void refuseCaptured(CUevent event) {
  if (event->capture) {
    invalidate(*event->capture);
    fail(CUDA_ERROR_CAPTURED_EVENT);
  }
}

CUresult abi::cuEventQuery(CUevent hEvent) {
  return call([&](Driver &driver, Lock &lock) {
    CUevent event = findEvent(hEvent);
    refuseCaptured(event);
    query(driver, lock, event->context, {event->op});
  });
}

CUresult abi::cuEventSynchronize(CUevent hEvent) {
  return call([&](Driver &, Lock &lock) {
    CUevent event = findEvent(hEvent);
    refuseCaptured(event);
    waitChecked(lock, event->context, event->op);
  });
}

CUresult abi::cuEventElapsedTime_v2(float *pMilliseconds, CUevent hStart, CUevent hEnd) {
  return call([&](Driver &, Lock &) {
    CUevent start = findEvent(hStart), end = findEvent(hEnd);
    require(pMilliseconds);
    refuseCaptured(start);
    refuseCaptured(end);
    require(!((start->flags | end->flags) & CU_EVENT_DISABLE_TIMING) && start->op && end->op &&
                start->context == end->context,
            CUDA_ERROR_INVALID_HANDLE);
    require(start->op->done && end->op->done, CUDA_ERROR_NOT_READY);
    *pMilliseconds = float((double(end->op->time) - double(start->op->time)) * 1e-6);
  });
}

CUresult abi::cuEventElapsedTime(float *pMilliseconds, CUevent hStart, CUevent hEnd) {
  return cuEventElapsedTime_v2(pMilliseconds, hStart, hEnd);
}

CUresult abi::cuStreamWaitEvent(CUstream hStream, CUevent hEvent, unsigned int Flags) {
  return call([&](Driver &driver, Lock &lock) {
    CUstream stream = findStream(hStream);
    CUevent event = findEvent(hEvent);
    require(!(Flags & ~1u));
    if (event->capture || event->op) {
      ++stream->waits;
      if (driver.leavesOut(placeOf(stream) + ", wait " + std::to_string(stream->waits) + " for " +
                           event->place)) {
        if (event->op)
          mark(lock, stream, {}, {event->op});
        stream->leftOut = event->captured;
        return addLeftOut(stream);
      }
    }
    if (Capture *c = event->capture) {
      require(!stream->isLegacy, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
      if (stream->capture && stream->capture != c) {
        invalidate(*stream->capture);
        invalidate(*c);
        fail(CUDA_ERROR_STREAM_CAPTURE_MERGE);
      }
      require(!c->invalid, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
      if (!stream->capture) {
        stream->capture = c;
        c->streams.insert(stream);
      }
      for (CUgraphNode n : event->captured)
        if (std::find(stream->captureTail.begin(), stream->captureTail.end(), n) ==
            stream->captureTail.end())
          stream->captureTail.push_back(n);
      return addLeftOut(stream);
    }
    if (stream->capture) {
      require(!stream->capture->invalid, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
      invalidate(*stream->capture);
      fail(CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
    }
    if (event->op)
      mark(lock, stream, {event->op});
  });
}
