//===- Driver.h - What libcuda keeps: devices, streams, work -------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Work that the program issues becomes an Op: a node of a graph whose edges are the order that
// streams, events and CUDA graphs give. Ops are executed by whoever waits (Driver::wait), one at a
// time, in an order drawn from the seed among those that the edges allow; late by default: only
// what is waited for. One mutex guards everything; it is not held while functions of the program
// and of other libraries run.
//===----------------------------------------------------------------------===//
#ifndef SGPU_CUDA_DRIVER_H
#define SGPU_CUDA_DRIVER_H

#include "Cuda/Private.h"
#include "Cuda/Recorder.h"
#include "Machine/Machine.h"
#include "abi/cuda.h"

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <unordered_set>

namespace sgpu::cuda {

using namespace abi;

struct Op;
using OpRef = std::shared_ptr<Op>;
/// For each chain (stream, or branch of a graph) the last op that is known to be before.
using OrderClock = std::vector<uint32_t>;
using OrderRef = std::shared_ptr<const OrderClock>;

/// What an op does; also a node of a graph, which runs many times.
struct Task {
  std::string name; ///< "launch of kernel k", "cuMemcpyHtoDAsync_v2"
  CUgraphNodeType type = CU_GRAPH_NODE_TYPE_EMPTY;
  std::vector<sgpu_range> reads, writes; ///< checked before `run` if `checked`
  bool checked = false;
  bool unlocked = false; ///< `run` is called without the lock
  std::function<sgpu_progress(Op &)> run;
  CUresult faultCode = CUDA_ERROR_LAUNCH_FAILED;
  uint64_t nanoseconds = 1000; ///< of simulated time
  // Kernels: what graphs can ask for and change.
  CUfunction function = nullptr;
  std::shared_ptr<LaunchConfig> launch;
  CUDA_HOST_NODE_PARAMS hostFunction{nullptr, nullptr};
  CUDA_MEMCPY3D copy{};
  CUDA_MEMSET_NODE_PARAMS set{};
};
using TaskRef = std::shared_ptr<const Task>;

struct Op {
  TaskRef task;        ///< null: only an order
  uint64_t serial = 0; ///< 1, 2, ... in the order of issue
  Work work;
  uint32_t chain = 0, sequence = 0;
  OrderRef clock; ///< what is before it, itself included
  /// With SOFTWARE_GPU_OMIT: what would be before it with the order that is left out; both by
  /// streams, events and graphs alone, not by what the host has waited for.
  OrderRef whole, device, wholeDevice;
  std::vector<OpRef> dependents;
  unsigned waitsFor = 0; ///< ops that it depends on and that are not done
  std::vector<std::weak_ptr<Op>> dependencies;
  CUcontext context = nullptr;
  bool done = false, running = false, stalled = false, checked = false;
  uint64_t mark = 0;
  uint64_t time = 0;                 ///< simulated nanoseconds at its end
  bool freesMemory = false;          ///< of cuMemFreeAsync
  CUresult faultCode = CUDA_SUCCESS; ///< set by a task that knows better than Task::faultCode
};

struct Device {
  int ordinal = 0;
  const Chip *chip = nullptr;
  std::unique_ptr<DeviceMemory> memory;
  CUcontext primary = nullptr; ///< once retained
  int retained = 0;
  unsigned primaryFlags = 0;
  CUmemoryPool pool = nullptr; ///< the current one
};

/// Something went wrong in a call of the driver: its code.
struct Failure {
  CUresult code;
};

class Driver {
public:
  /// The driver; created by cuInit, never destroyed.
  static Driver &get();
  static bool initialized();
  explicit Driver(const Options &options);

  std::mutex mutex;
  const Options options;
  Reporter reporter;
  std::vector<std::unique_ptr<Device>> devices;
  Random random;
  Recorder recorder;

  // Work.
  OpRef newOp(CUcontext context, TaskRef task, uint32_t chain, const std::vector<OpRef> &after,
              std::unique_lock<std::mutex> &lock, const std::vector<OpRef> &leftOut = {});
  /// Executes ops until `op` is done.
  void wait(std::unique_lock<std::mutex> &lock, const OpRef &op);
  /// Executes all ops of a context (of all contexts with null).
  void waitAll(std::unique_lock<std::mutex> &lock, CUcontext context);
  /// One step of pending work, whichever the seed draws. False if there is none that can run.
  bool advance(std::unique_lock<std::mutex> &lock);
  /// Lists an order that the program asks for (SOFTWARE_GPU_ORDERS). Whether it is to be left out
  /// (SOFTWARE_GPU_OMIT): the first of this name is.
  bool leavesOut(const std::string &order);
  /// Ends the process where a call refuses what is captured without the order that was left out.
  void refused(CUresult code) const;
  /// The host knows that the op is done: what is issued from now on comes after it.
  void known(const Op &op);
  /// Executes what the op comes after, as far as nothing of it has to be waited for. The host does
  /// not know of it.
  void bringForward(std::unique_lock<std::mutex> &lock, const OpRef &op);
  uint32_t newChain() { return numChains++; }
  std::string workName(uint32_t id);

  // Memory. Null if no device and no pinned memory has the address.
  Device *deviceOf(uint64_t address);
  bool isPinned(const void *pointer, uint64_t *start = nullptr, uint64_t *bytes = nullptr) const;
  struct Pinned {
    uint64_t bytes = 0;
    bool registered = false; ///< by cuMemHostRegister
    unsigned flags = 0;
  };
  std::map<uint64_t, Pinned> pinned;
  std::set<uint64_t> freeing; ///< cuMemFreeAsync was called and is not done

  uint64_t timeNow = 0; ///< simulated nanoseconds that the host knows of
  std::vector<void (*)()> atExit;
  void countLaunch(const Counters &counters);
  /// Leaks, counters, summary; the exit status that the faults ask for.
  int finish();
  bool finished = false;

private:
  OpRef choose(uint64_t mark);
  void execute(std::unique_lock<std::mutex> &lock, const OpRef &op);
  /// Gives a function of the program to the thread that calls them.
  void callHost(std::unique_lock<std::mutex> &lock, const OpRef &op);
  /// After a task has run.
  void settle(const OpRef &op, sgpu_progress progress, CUresult code);
  void complete(const OpRef &op);
  /// All that the op comes after is done: nothing else may touch what it writes until it is done.
  void makeReady(const OpRef &op);
  DeviceMemory &memoryOf(const Op &op, uint64_t address);
  uint64_t need(const OpRef &op);

  struct Issued { ///< of each work id
    uint32_t chain = 0, sequence = 0;
    const std::string *name = nullptr;
  };
  std::vector<Issued> issued{1};
  std::set<std::string> names;
  std::vector<uint32_t> sequences; ///< by chain: the last
  OrderClock hostClock;
  uint32_t numChains = 0;
  std::vector<OpRef> ready;
  std::map<uint64_t, OpRef> pending; ///< by serial number
  uint64_t lastSerial = 0, lastMark = 0;
  std::deque<OpRef> hostCalls; ///< functions of the program that are to be called
  bool hostThread = false;
  // What makes up for the order that was left out, so far.
  enum class Enough { Orders, Host, Nothing } enough = Enough::Orders;
  bool leftOut = false;
  void judge(const Op &op);
  std::condition_variable hostCalled;
  std::condition_variable changed;
  std::map<std::string, Counters> counters;
};

/// Live handles, so that a bad one is an error and not a crash.
template <typename T> class Handles {
public:
  T *add(std::unique_ptr<T> object) {
    T *p = object.get();
    live.emplace(p, std::move(object));
    return p;
  }
  bool contains(const T *p) const { return live.contains(const_cast<T *>(p)); }
  void remove(T *p) { live.erase(p); }
  const std::map<T *, std::unique_ptr<T>> &all() const { return live; }

private:
  std::map<T *, std::unique_ptr<T>> live;
};

struct Capture;
} // namespace sgpu::cuda

namespace sgpu::abi {
struct CUctx_st {
  sgpu::cuda::Device *device = nullptr;
  bool primary = false;
  unsigned flags = 0;
  CUresult error = CUDA_SUCCESS; ///< sticky
  CUfunc_cache cacheConfig = CU_FUNC_CACHE_PREFER_NONE;
  CUstream legacy = nullptr;
  std::map<std::thread::id, CUstream> perThread;
  std::set<int> peers;
  sgpu::cuda::OpRef
      orphans[2];            ///< comes after the work of streams that were destroyed; [1]: blocking
  std::set<uint64_t> memory; ///< of cuMemAlloc: it ends with the context
  size_t limits[8] = {1024, 1 << 20, 8 << 20, 0, 2048, 64, 0, 0}; ///< by CUlimit
};
struct CUstream_st {
  CUcontext context = nullptr;
  unsigned flags = 0;
  int priority = 0;
  uint32_t chain = 0;
  uint64_t id = 0;
  bool isLegacy = false;
  sgpu::cuda::OpRef last;
  sgpu::cuda::Capture *capture = nullptr;
  std::vector<CUgraphNode> captureTail;
  // What it is and how far it has been filled, for names of orders: the same in each run, whatever
  // the other threads of the program do.
  std::string name;                 ///< "stream 2": the third that its thread has made, from 0
  uint64_t tasks = 0;               ///< that it was given
  std::string lastTask;             ///< the last of them
  uint64_t waits = 0;               ///< behind it
  std::vector<CUgraphNode> leftOut; ///< what its next node does not come after: SOFTWARE_GPU_OMIT
  bool blocking() const { return !(flags & CU_STREAM_NON_BLOCKING); }
};
struct CUevent_st {
  CUcontext context = nullptr;
  unsigned flags = 0;
  sgpu::cuda::OpRef op;
  sgpu::cuda::Capture *capture = nullptr; ///< last recorded in this one
  std::vector<CUgraphNode> captured;
  std::string place; ///< where it was recorded, for names of orders
};
struct CUmod_st {
  CUcontext context = nullptr;
  std::string name;
  std::shared_ptr<const std::string> text; ///< kept for recordings only
  std::shared_ptr<sgpu::Module> module;    ///< shared with launches that are not done
  std::map<std::string, CUfunction> functions;
  CUlibrary library = nullptr;
};
struct CUfunc_st {
  CUmodule module = nullptr;
  std::string name;
  const sgpu::KernelInfo *info = nullptr;
  uint32_t maxDynamicShared = 0;
  int carveout = -1;
  bool nonPortableCluster = false;
  sgpu::Dim3 requiredCluster{0, 0, 0};
};
struct CUlib_st {
  std::string text, name;
  std::map<CUcontext, CUmodule> modules;
  std::map<std::string, CUkernel> kernels;
};
struct CUkern_st {
  CUlibrary library = nullptr;
  std::string name;
  std::map<int, uint32_t> maxDynamicShared; ///< by device, if it was set for the kernel
};
struct CUmemPoolHandle_st {
  int device = 0;
  bool isDefault = false;
  uint64_t releaseThreshold = 0;
  int reuse[3] = {1, 1, 1};
  uint64_t used = 0, high = 0;
  std::map<CUdeviceptr, uint64_t> live; ///< bytes
  std::set<int> peers;                  ///< other devices that may touch it
};
struct CUgraphNode_st {
  CUgraph graph = nullptr;
  sgpu::cuda::TaskRef task; ///< never null
  std::vector<CUgraphNode> dependencies, leftOut;
  CUgraph child = nullptr;
  std::vector<void *> parameters; ///< given out by cuGraphKernelNodeGetParams_v2
};
struct CUgraph_st {
  std::vector<std::unique_ptr<CUgraphNode_st>>
      nodes;                       ///< each after what it depends on, if captured
  std::vector<CUdeviceptr> memory; ///< of cuMemAllocAsync during capture
  CUcontext context = nullptr;
};
struct CUgraphExec_st {
  struct Node {
    CUgraphNode origin = nullptr;
    sgpu::cuda::TaskRef task;
    std::vector<unsigned> dependencies, leftOut;
    uint32_t chain = 0; ///< 0: that of the stream
    bool enabled = true;
  };
  std::vector<Node> nodes; ///< in an order that the edges allow
  unsigned long long flags = 0;
  CUcontext context = nullptr;
  sgpu::cuda::OpRef last; ///< end of the last launch
};
} // namespace sgpu::abi

namespace sgpu::cuda {

/// A capture in progress.
struct Capture {
  uint64_t id = 0;
  CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
  CUstream origin = nullptr;
  std::thread::id thread;
  CUgraph graph = nullptr;
  bool invalid = false;
  std::set<CUstream> streams;
};

/// Everything with a handle. Guarded by Driver::mutex.
struct State {
  Handles<CUctx_st> contexts;
  Handles<CUstream_st> streams;
  Handles<CUevent_st> events;
  Handles<CUmod_st> modules;
  Handles<CUfunc_st> functions;
  Handles<CUlib_st> libraries;
  Handles<CUkern_st> kernels;
  Handles<CUmemPoolHandle_st> pools;
  Handles<CUgraph_st> graphs;
  Handles<CUgraphExec_st> graphExecs;
  std::set<CUgraphNode> nodes;
  std::map<uint64_t, std::unique_ptr<Capture>> captures;
  uint64_t lastId = 1;
};
State &state();

using Lock = std::unique_lock<std::mutex>;

/// Whether a function of cuLaunchHostFunc calls the driver, which it may not; reported.
bool inHostFunction();

/// Runs the body of a call: locked, failures become codes.
template <typename F> CUresult call(F body) {
  if (!Driver::initialized())
    return CUDA_ERROR_NOT_INITIALIZED;
  if (inHostFunction())
    return CUDA_ERROR_NOT_PERMITTED;
  Driver &driver = Driver::get();
  Lock lock(driver.mutex);
  try {
    body(driver, lock);
    return CUDA_SUCCESS;
  } catch (const Failure &f) {
    driver.refused(f.code);
    return f.code;
  } catch (const std::bad_alloc &) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
}
[[noreturn]] inline void fail(CUresult code) { throw Failure{code}; }
inline void require(bool condition, CUresult code = CUDA_ERROR_INVALID_VALUE) {
  if (!condition)
    fail(code);
}

// Contexts of the thread.
std::vector<CUcontext> &contextStack();
/// The current context; fails with CUDA_ERROR_INVALID_CONTEXT or its sticky error.
CUcontext current();
CUcontext makeContext(Device &device, bool primary);
/// Kernels of a device may touch the memory of another one that a context of it, or a pool of the
/// other device, has opened to it; then all of it, not only that of the pool.
void updatePeers(Device &device);
/// Frees what belongs to it; reports memory that is left.
void destroyContext(Lock &lock, CUcontext context);

/// While it lives, stream 0 is the default stream of the thread, in calls of this thread.
struct DefaultStreamOfThread {
  DefaultStreamOfThread();
  ~DefaultStreamOfThread();
};
/// The stream of a handle: 0 and 1 are the legacy default stream, 2 the thread's. Fails with
/// CUDA_ERROR_INVALID_HANDLE, or with the sticky error of its context.
CUstream findStream(CUstream handle);
/// The stream is given one more task of this name.
void count(CUstream stream, const std::string &task);
/// Puts a task into a stream, or into the graph that the stream is captured into. Null in a capture.
OpRef issue(Lock &lock, CUstream stream, TaskRef task);
/// For calls that no capture may contain: fails with `code` and spoils the captures in progress
/// that forbid it (`always`: all of this context, whatever their mode).
void unsafeInCapture(CUresult code = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, bool always = false);
/// An op that does nothing, after everything that the next work of the stream comes after.
OpRef mark(Lock &lock, CUstream stream, const std::vector<OpRef> &alsoAfter = {},
           const std::vector<OpRef> &leftOut = {});
/// The host waits for all that the stream has to do so far.
void waitFor(Lock &lock, CUstream stream);
CUstream makeStream(CUcontext context, unsigned flags, int priority);
constexpr int leastPriorityOfStreams = 0, greatestPriorityOfStreams = -5;
void destroyModule(CUmodule module);
/// Waits, then fails with the sticky error if the work (or earlier work) has faulted.
void waitChecked(Lock &lock, CUcontext context, const OpRef &op);
void invalidate(Capture &capture);
CUgraphNode addNode(CUgraph graph, TaskRef task, std::vector<CUgraphNode> dependencies);
void destroyGraph(CUgraph graph);
/// The place of a call in messages.
Place callPlace(const std::string &call, const std::string &what = "");
/// The function of a module; fails if there is none of this name.
CUfunction functionOf(CUmodule module, const std::string &name);
/// The module of a library in a context; loaded when first asked for.
CUmodule moduleOf(CUlibrary library, CUcontext context);
/// A kernel handle also stands where a function is expected.
CUfunction findFunction(CUfunction handle);
/// Blocks of a function that one multiprocessor holds at a time.
int activeBlocks(CUfunction function, uint64_t threads, uint64_t dynamicShared);
/// Task of a launch; the configuration is checked (reported, fails).
TaskRef launchTask(CUfunction function, LaunchConfig config, void **parameters, void **extra);
/// Task of a memset or copy of a graph node.
TaskRef copyTask(Driver &driver, const std::string &name, const CUDA_MEMCPY3D &copy, bool stage,
                 bool &pageableTarget);
TaskRef setTask(Driver &driver, const std::string &name, CUdeviceptr to, size_t pitch,
                uint32_t value, unsigned elementSize, size_t width, size_t height);
/// Neither memory of a device nor pinned.
bool isPageable(Driver &driver, uint64_t address);
/// Of a node that does nothing by itself.
TaskRef emptyTask(CUgraphNodeType type);
TaskRef hostTask(const std::string &name, CUhostFn function, void *data);

} // namespace sgpu::cuda

#endif
