//===- StreamTest.cpp - Streams, events, host functions ---------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "CudaTest.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <unistd.h>

using namespace sgpu::cudatest;

namespace {

TEST_F(Cuda, Streams) {
  CUstream s = nullptr;
  int least, greatest, priority = 9;
  OK(cuCtxGetStreamPriorityRange(&least, &greatest));
  OK(cuStreamCreateWithPriority(&s, CU_STREAM_NON_BLOCKING,
                                greatest - 100)); // brought into the range
  OK(cuStreamGetPriority(s, &priority));
  EXPECT_EQ(priority, greatest);
  unsigned flags = 0;
  OK(cuStreamGetFlags(s, &flags));
  EXPECT_EQ(flags, unsigned(CU_STREAM_NON_BLOCKING));
  CUcontext of = nullptr;
  OK(cuStreamGetCtx(s, &of));
  EXPECT_EQ(of, context);
  CUdevice device = 7;
  OK(cuStreamGetDevice(s, &device));
  EXPECT_EQ(device, 0);
  unsigned long long id = 0, legacy = 0;
  OK(cuStreamGetId(s, &id));
  OK(cuStreamGetId(nullptr, &legacy));
  EXPECT_NE(id, legacy);
  OK(cuStreamQuery(s));
  OK(cuStreamSynchronize(s));
  OK(cuStreamDestroy_v2(s));
  FAILS(CUDA_ERROR_INVALID_HANDLE, cuStreamDestroy_v2(s));
  FAILS(CUDA_ERROR_INVALID_HANDLE, cuStreamSynchronize(s));
  FAILS(CUDA_ERROR_INVALID_HANDLE, cuStreamQuery(s));
  FAILS(CUDA_ERROR_INVALID_HANDLE, cuStreamGetFlags(s, &flags));
  FAILS(CUDA_ERROR_INVALID_HANDLE, cuStreamDestroy_v2(nullptr));
  FAILS(CUDA_ERROR_INVALID_HANDLE, cuStreamDestroy_v2(streamPerThread));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuStreamCreate(&s, 8));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuStreamCreate(nullptr, 0));
}

TEST_F(Cuda, WorkOfAnotherContextIsRefused) {
  CUcontext other;
  CUstream s;
  CUevent e;
  OK(cuCtxCreate_v2(&other, 0, 1));
  OK(cuStreamCreate(&s, 0));
  OK(cuEventCreate(&e, 0));
  OK(cuCtxSetCurrent(context));
  Words w(4);
  FAILS(CUDA_ERROR_INVALID_HANDLE, fill(w.p, 1, 4, s)); // a function of this context
  FAILS(CUDA_ERROR_INVALID_HANDLE, cuEventRecord(e, nullptr));
  OK(cuStreamWaitEvent(nullptr, e, 0)); // allowed between contexts
  OK(cuCtxDestroy_v2(other));
}

TEST_F(Cuda, Events) {
  CUevent a, b, plain;
  OK(cuEventCreate(&a, CU_EVENT_DEFAULT));
  OK(cuEventCreate(&b, CU_EVENT_BLOCKING_SYNC));
  OK(cuEventCreate(&plain, CU_EVENT_DISABLE_TIMING));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuEventCreate(&a, 0x100));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuEventCreate(nullptr, 0));
  OK(cuEventQuery(a)); // never recorded: nothing to wait for
  OK(cuEventSynchronize(a));
  float ms = -1;
  FAILS(CUDA_ERROR_INVALID_HANDLE, cuEventElapsedTime_v2(&ms, a, b));
  Words w(100);
  OK(cuEventRecord(a, nullptr));
  OK(fill(w.p, 1, 100));
  OK(cuEventRecord(b, nullptr));
  FAILS(CUDA_ERROR_NOT_READY, cuEventElapsedTime_v2(&ms, a, b));
  OK(cuEventSynchronize(b));
  OK(cuEventQuery(a));
  OK(cuEventElapsedTime_v2(&ms, a, b));
  EXPECT_GT(ms, 0);
  float back;
  OK(cuEventElapsedTime(&back, b, a));
  EXPECT_EQ(back, -ms);
  OK(cuEventRecord(plain, nullptr));
  OK(cuEventSynchronize(plain));
  FAILS(CUDA_ERROR_INVALID_HANDLE, cuEventElapsedTime_v2(&ms, a, plain));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuEventElapsedTime_v2(nullptr, a, b));
  for (CUevent e : {a, b, plain})
    OK(cuEventDestroy_v2(e));
  FAILS(CUDA_ERROR_INVALID_HANDLE, cuEventDestroy_v2(a));
  FAILS(CUDA_ERROR_INVALID_HANDLE, cuEventRecord(a, nullptr));
  FAILS(CUDA_ERROR_INVALID_HANDLE, cuEventSynchronize(a));
  FAILS(CUDA_ERROR_INVALID_HANDLE, cuEventQuery(nullptr));
  FAILS(CUDA_ERROR_INVALID_HANDLE, cuStreamWaitEvent(nullptr, a, 0));
}

// Simulated time never goes back, over streams and whoever waits first.
TEST_F(Cuda, TimeNeverGoesBack) {
  constexpr int n = 40;
  CUstream streams[3];
  CUevent events[n];
  for (CUstream &s : streams)
    OK(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
  for (CUevent &e : events)
    OK(cuEventCreate(&e, 0));
  Words w(3 * 64);
  for (int i = 0; i < n; ++i) {
    CUstream s = streams[i * 7 % 3];
    if (i && i % 4 == 0)
      OK(cuStreamWaitEvent(s, events[i - 1], 0));
    OK(fill(w.p + i * 7 % 3 * 256, unsigned(i), 64, s));
    OK(cuEventRecord(events[i], s));
  }
  OK(cuCtxSynchronize());
  for (int i = 0; i < n; ++i)
    for (int j = i + 1; j < n; ++j) {
      bool ordered = i * 7 % 3 == j * 7 % 3; // in one stream
      float ms;
      OK(cuEventElapsedTime_v2(&ms, events[i], events[j]));
      if (ordered)
        EXPECT_GT(ms, 0) << i << " " << j;
    }
  for (int i = 4; i < n; i += 4) { // through the wait
    float ms;
    OK(cuEventElapsedTime_v2(&ms, events[i - 1], events[i]));
    EXPECT_GT(ms, 0) << i;
  }
  for (CUevent e : events)
    OK(cuEventDestroy_v2(e));
  for (CUstream s : streams)
    OK(cuStreamDestroy_v2(s));
}

TEST_F(Cuda, QueriesLetWorkGoOn) {
  Words w(100);
  OK(fill(w.p, 1, 100));
  CUresult r = cuStreamQuery(nullptr);
  EXPECT_TRUE(r == CUDA_ERROR_NOT_READY || r == CUDA_SUCCESS);
  for (int i = 0; i < 1000 && cuStreamQuery(nullptr) == CUDA_ERROR_NOT_READY; ++i) {
  }
  OK(cuStreamQuery(nullptr));
}

TEST_F(Cuda, WorkOfADestroyedStreamIsDone) {
  CUstream s;
  OK(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
  Words w(100);
  OK(fill(w.p, 3, 100, s));
  OK(cuStreamDestroy_v2(s));
  OK(cuCtxSynchronize());
  EXPECT_EQ(w.get(), all(100, 3));
}

TEST(StreamOrder, IsChecked) {
  REPORTED("stream: .*(\n.*)*other: ", [] { // two streams, no event
    CUstream a, b;
    MUST(cuStreamCreate(&a, CU_STREAM_NON_BLOCKING));
    MUST(cuStreamCreate(&b, CU_STREAM_NON_BLOCKING));
    Words w(100);
    MUST(fill(w.p, 1, 100, a));
    MUST(increment(w.p, 100, b));
    MUST(cuCtxSynchronize());
  });
  REPORTED("stream", [] { // the event is recorded before the work, not after it
    CUstream a, b;
    CUevent e;
    MUST(cuStreamCreate(&a, CU_STREAM_NON_BLOCKING));
    MUST(cuStreamCreate(&b, CU_STREAM_NON_BLOCKING));
    MUST(cuEventCreate(&e, 0));
    Words w(100);
    MUST(cuEventRecord(e, a));
    MUST(fill(w.p, 1, 100, a));
    MUST(cuStreamWaitEvent(b, e, 0));
    MUST(increment(w.p, 100, b));
    MUST(cuCtxSynchronize());
  });
  CLEAN([] {
    CUstream a, b;
    CUevent e;
    MUST(cuStreamCreate(&a, CU_STREAM_NON_BLOCKING));
    MUST(cuStreamCreate(&b, CU_STREAM_NON_BLOCKING));
    MUST(cuEventCreate(&e, 0));
    Words w(100);
    MUST(fill(w.p, 1, 100, a));
    MUST(cuEventRecord(e, a));
    MUST(cuEventRecord(e, a));
    MUST(cuStreamWaitEvent(b, e, 0));
    MUST(cuEventDestroy_v2(e)); // the wait stays
    MUST(increment(w.p, 100, b));
    MUST(cuCtxSynchronize());
    WANT(w.get() == all(100, 2));
  });
  REPORTED("stream", [] { // a non-blocking stream does not wait for the legacy stream
    CUstream a;
    MUST(cuStreamCreate(&a, CU_STREAM_NON_BLOCKING));
    Words w(100);
    MUST(fill(w.p, 1, 100, nullptr));
    MUST(increment(w.p, 100, a));
    MUST(cuCtxSynchronize());
  });
  CLEAN([] { // a blocking one does, in both directions
    CUstream a;
    MUST(cuStreamCreate(&a, CU_STREAM_DEFAULT));
    Words w(100);
    MUST(fill(w.p, 1, 100, nullptr));
    MUST(increment(w.p, 100, a));
    MUST(increment(w.p, 100, nullptr));
    MUST(increment(w.p, 100, streamPerThread));
    MUST(increment(w.p, 100, streamLegacy));
    WANT(w.get() == all(100, 5));
  });
  REPORTED("stream", [] { // synchronized with another stream than that of the work
    CUstream a, b;
    MUST(cuStreamCreate(&a, CU_STREAM_NON_BLOCKING));
    MUST(cuStreamCreate(&b, CU_STREAM_NON_BLOCKING));
    Words w(100);
    MUST(fill(w.p, 1, 100, a));
    MUST(cuStreamSynchronize(b));
    MUST(increment(w.p, 100, b));
    MUST(cuCtxSynchronize());
  });
  CLEAN([] {
    CUstream a, b;
    MUST(cuStreamCreate(&a, CU_STREAM_NON_BLOCKING));
    MUST(cuStreamCreate(&b, CU_STREAM_NON_BLOCKING));
    Words w(100);
    MUST(fill(w.p, 1, 100, a));
    MUST(cuStreamSynchronize(a));
    MUST(increment(w.p, 100, b));
    MUST(cuCtxSynchronize());
  });
}

// Work of a stream that is destroyed stays before what waits for it, also when it was done early.
TEST(StreamOrder, OfDestroyedStreams) {
  for (const char *completion : {"late", "early", "random"}) {
    CLEAN_WITH(completion, [&] {
      Words w(100);
      for (int i = 0; i < 20; ++i) {
        CUstream s;
        MUST(cuStreamCreate(&s, i % 2 ? CU_STREAM_NON_BLOCKING : CU_STREAM_DEFAULT));
        MUST(fill(w.p, 1, 100, s));
        MUST(cuStreamDestroy_v2(s));
        if (i % 2)
          MUST(cuCtxSynchronize());
        MUST(increment(w.p, 100, nullptr));
        MUST(cuCtxSynchronize());
      }
    });
    REPORTED_WITH(completion, "stream", [&] {
      Words w(100);
      CUstream s;
      MUST(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
      MUST(fill(w.p, 1, 100, s));
      MUST(cuStreamDestroy_v2(s));
      MUST(increment(w.p, 100, nullptr)); // waits for blocking streams alone
      MUST(cuCtxSynchronize());
    });
  }
}

struct Calls {
  std::mutex mutex;
  std::vector<int> order;
};

/// The orders of a run of `work`, as SOFTWARE_GPU_ORDERS lists them.
static std::string ordersOf(void (*work)()) {
  std::string file = testing::TempDir() + "orders." + std::to_string(getpid()), text;
  setenv("SOFTWARE_GPU_ORDERS", file.c_str(), 0); // the process that runs `work` has it
  CLEAN(work);
  unsetenv("SOFTWARE_GPU_ORDERS");
  if (std::FILE *f = std::fopen(file.c_str(), "r")) {
    for (int c; (c = std::fgetc(f)) != EOF;)
      text += char(c);
    std::fclose(f);
  }
  unlink(file.c_str());
  return text;
}

/// Two streams and an event.
struct TwoStreams {
  Words w{100};
  CUstream s, t;
  CUevent e;
  TwoStreams() {
    MUST(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
    MUST(cuStreamCreate(&t, CU_STREAM_NON_BLOCKING));
    MUST(cuEventCreate(&e, 0));
  }
};

// A wait that the one behind it makes redundant; one that is needed; one for what the host has
// waited for.
static void threeWaits() {
  TwoStreams two;
  MUST(fill(two.w.p, 1, 100, two.s));
  MUST(cuEventRecord(two.e, two.s));
  MUST(cuStreamWaitEvent(two.t, two.e, 0));
  MUST(increment(two.w.p, 100, two.s));
  MUST(cuEventRecord(two.e, two.s));
  MUST(cuStreamWaitEvent(two.t, two.e, 0));
  MUST(increment(two.w.p, 100, two.t));
  MUST(cuEventRecord(two.e, two.t));
  MUST(cuStreamSynchronize(two.t));
  MUST(cuStreamWaitEvent(two.s, two.e, 0));
  MUST(increment(two.w.p, 100, two.s));
  MUST(cuStreamSynchronize(two.s));
  WANT(two.w.get() == all(100, 4));
}

// A fork and a join of a capture.
static void forkAndJoin() {
  TwoStreams two;
  MUST(fill(two.w.p, 1, 100, two.s));
  MUST(cuStreamBeginCapture_v2(two.s, CU_STREAM_CAPTURE_MODE_GLOBAL));
  MUST(increment(two.w.p, 100, two.s));
  MUST(cuEventRecord(two.e, two.s));
  MUST(cuStreamWaitEvent(two.t, two.e, 0));
  MUST(increment(two.w.p, 100, two.t));
  MUST(cuEventRecord(two.e, two.t));
  MUST(cuStreamWaitEvent(two.s, two.e, 0));
  CUgraph graph;
  CUgraphExec exec;
  MUST(cuStreamEndCapture(two.s, &graph));
  MUST(cuGraphInstantiateWithFlags(&exec, graph, 0));
  MUST(cuGraphLaunch(exec, two.s));
  MUST(cuStreamSynchronize(two.s));
  WANT(two.w.get() == all(100, 3));
  MUST(cuGraphExecDestroy(exec));
  MUST(cuGraphDestroy(graph));
}

// Once in a test: the process that runs `work` goes through the test again, up to it.
class OneLeftOut : public testing::Test {
protected:
  const std::string name = "main stream "; // 0 is the default stream
  const std::string back = name + "1 after 2 (launch of kernel increment), wait 1 for " + name +
                           "2 after 1 (launch of kernel increment)";
  void TearDown() override { unsetenv("SOFTWARE_GPU_OMIT"); }
  static void without(const std::string &order) { setenv("SOFTWARE_GPU_OMIT", order.c_str(), 1); }
};

TEST_F(OneLeftOut, OfStreams) {
  const std::string first =
      name + "2 after 0, wait 1 for " + name + "1 after 1 (launch of kernel fill)";
  const std::string second =
      name + "2 after 0, wait 2 for " + name + "1 after 2 (launch of kernel increment)";
  EXPECT_EQ(ordersOf(threeWaits), first + "\n" + second + "\n" + back + "\n");
  without(first);
  ALONE("late", 0, "left out: other orders are enough", threeWaits);
  without(second);
  REPORTED("stream: (read|write) of bytes with a write by work", threeWaits);
  without(back);
  ALONE("late", 0, "left out: other orders and waits of the host are enough", threeWaits);
  without("stream 7 after 0");
  ALONE("late", 2, "SOFTWARE_GPU_OMIT=stream 7 after 0: expected the name of an order", threeWaits);
}

TEST_F(OneLeftOut, OfACapture) {
  const std::string fork =
      name + "2 after 0, wait 1 for " + name + "1 after 2 (launch of kernel increment)";
  EXPECT_EQ(ordersOf(forkAndJoin), fork + "\n" + back + "\n");
  without(fork);
  REPORTED("capture: .*: CUDA_ERROR_STREAM_CAPTURE_ISOLATION", forkAndJoin);
  without(back);
  REPORTED("capture: .*: CUDA_ERROR_STREAM_CAPTURE_UNJOINED", forkAndJoin);
}

TEST_F(Cuda, HostFunctions) {
  static Calls calls;
  calls.order.clear();
  CUstream s;
  OK(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
  static int ids[20];
  for (int i = 0; i < 20; ++i) {
    ids[i] = i;
    OK(cuLaunchHostFunc(
        s,
        [](void *p) {
          std::lock_guard lock(calls.mutex);
          calls.order.push_back(*static_cast<int *>(p));
        },
        &ids[i]));
  }
  OK(cuStreamSynchronize(s));
  std::vector<int> want(20);
  for (int i = 0; i < 20; ++i)
    want[i] = i;
  EXPECT_EQ(calls.order, want);
  FAILS(CUDA_ERROR_INVALID_VALUE, cuLaunchHostFunc(s, nullptr, nullptr));
  // After the copy before it, before the copy after it.
  unsigned *pinned;
  OK(cuMemAllocHost_v2(reinterpret_cast<void **>(&pinned), 8));
  Words w(1);
  OK(fill(w.p, 20, 1, s));
  OK(cuMemcpyDtoHAsync_v2(pinned, w.p, 4, s));
  OK(cuLaunchHostFunc(
      s,
      [](void *p) {
        auto *words = static_cast<unsigned *>(p);
        words[1] = words[0] * 2 + 2;
      },
      pinned));
  OK(cuMemcpyHtoDAsync_v2(w.p, pinned + 1, 4, s));
  OK(cuStreamSynchronize(s));
  EXPECT_EQ(w.get(), all(1, 42));
  OK(cuMemFreeHost(pinned));
  // The older form is told the stream and its state.
  struct Told {
    CUstream stream = nullptr;
    CUresult status = CUDA_ERROR_UNKNOWN;
  } told;
  OK(cuStreamAddCallback(
      s,
      [](CUstream stream, CUresult status, void *p) { *static_cast<Told *>(p) = {stream, status}; },
      &told, 0));
  OK(cuStreamSynchronize(s));
  EXPECT_EQ(told.stream, s);
  EXPECT_EQ(told.status, CUDA_SUCCESS);
  FAILS(CUDA_ERROR_INVALID_VALUE, cuStreamAddCallback(s, nullptr, nullptr, 0));
  OK(cuStreamDestroy_v2(s));
}

// A function of the host may wait for what the program does after the calls that issue work.
TEST(HostFunctions, MayWaitForTheProgram) {
  for (const char *completion : {"late", "early", "random"})
    CLEAN_WITH(completion, [&] {
      static std::atomic<bool> go{false};
      CUstream s;
      MUST(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
      MUST(cuLaunchHostFunc(
          s,
          [](void *) {
            while (!go)
              std::this_thread::yield();
          },
          nullptr));
      Words w(10);
      MUST(fill(w.p, 1, 10, s));
      cuStreamQuery(s);
      go = true;
      MUST(cuStreamSynchronize(s));
      WANT(w.get() == all(10, 1));
    });
}

TEST(HostFunctions, MayNotCallTheDriver) {
  REPORTED("argument: a host function calls the driver", [] {
    static CUresult result;
    MUST(cuLaunchHostFunc(nullptr, [](void *) { result = cuCtxSynchronize(); }, nullptr));
    MUST(cuCtxSynchronize());
    WANT(result == CUDA_ERROR_NOT_PERMITTED);
  });
}

// A fault of a kernel is told by every call until its context ends.
TEST(Sticky, ErrorsStay) {
  REPORTED("out-of-bounds", [] {
    Words w(4);
    MUST(launch(kernel("wild"), 1, 1, nullptr, {&w.p}));
    WANT(cuCtxSynchronize() == CUDA_ERROR_ILLEGAL_ADDRESS);
    WANT(cuCtxSynchronize() == CUDA_ERROR_ILLEGAL_ADDRESS);
    CUdeviceptr p;
    CUstream s;
    WANT(cuMemAlloc_v2(&p, 4) == CUDA_ERROR_ILLEGAL_ADDRESS);
    WANT(cuStreamCreate(&s, 0) == CUDA_ERROR_ILLEGAL_ADDRESS);
    WANT(fill(w.p, 1, 4) == CUDA_ERROR_ILLEGAL_ADDRESS);
    // Another context goes on.
    CUcontext other;
    MUST(cuCtxCreate_v2(&other, 0, 1));
    MUST(cuMemAlloc_v2(&p, 4));
    MUST(cuMemFree_v2(p));
    MUST(cuCtxDestroy_v2(other));
    MUST(cuDevicePrimaryCtxReset_v2(0));
    CUcontext again;
    MUST(cuDevicePrimaryCtxRetain(&again, 0));
    MUST(cuCtxSetCurrent(again));
    MUST(cuCtxSynchronize());
  });
  REPORTED("misaligned", [] {
    Words w(4);
    MUST(launch(kernel("crooked"), 1, 1, nullptr, {&w.p}));
    WANT(cuStreamSynchronize(nullptr) == CUDA_ERROR_MISALIGNED_ADDRESS);
  });
  REPORTED("trap", [] {
    MUST(launch(kernel("stops"), 1, 1, nullptr, {}));
    WANT(cuCtxSynchronize() == CUDA_ERROR_LAUNCH_FAILED);
  });
}

} // namespace
