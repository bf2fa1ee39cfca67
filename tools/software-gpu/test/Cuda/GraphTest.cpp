//===- GraphTest.cpp - Capture and graphs -----------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "CudaTest.h"

#include <algorithm>
#include <thread>

using namespace sgpu::cudatest;

namespace {

class Graphs : public Cuda {
protected:
  void SetUp() override {
    Cuda::SetUp();
    MUST(cuStreamCreate(&a, CU_STREAM_NON_BLOCKING));
    MUST(cuStreamCreate(&b, CU_STREAM_NON_BLOCKING));
    MUST(cuEventCreate(&e, CU_EVENT_DISABLE_TIMING));
    MUST(cuEventCreate(&f, CU_EVENT_DISABLE_TIMING));
  }
  void TearDown() override {
    CUgraph g;
    cuStreamEndCapture(a, &g);
    for (CUevent event : {e, f})
      EXPECT_EQ(cuEventDestroy_v2(event), CUDA_SUCCESS);
    for (CUstream s : {a, b})
      EXPECT_EQ(cuStreamDestroy_v2(s), CUDA_SUCCESS);
    Cuda::TearDown();
  }
  void capture(CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL) {
    ASSERT_EQ(cuStreamBeginCapture_v2(a, mode), CUDA_SUCCESS);
  }
  /// The capture is spoiled: its end says so and gives no graph.
  void expectInvalid() {
    CUstreamCaptureStatus status;
    EXPECT_EQ(cuStreamIsCapturing(a, &status), CUDA_SUCCESS);
    EXPECT_EQ(status, CU_STREAM_CAPTURE_STATUS_INVALIDATED);
    CUgraph g = reinterpret_cast<CUgraph>(1);
    FAILS(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(a, &g));
    EXPECT_EQ(g, nullptr);
    EXPECT_EQ(cuStreamIsCapturing(a, &status), CUDA_SUCCESS);
    EXPECT_EQ(status, CU_STREAM_CAPTURE_STATUS_NONE);
  }
  CUstream a, b;
  CUevent e, f;
};

TEST_F(Graphs, CaptureOfTwoStreams) {
  Words x(64), y(64);
  CUgraph g = nullptr;
  CUgraphExec exec = nullptr;
  capture();
  CUstreamCaptureStatus status;
  OK(cuStreamIsCapturing(a, &status));
  EXPECT_EQ(status, CU_STREAM_CAPTURE_STATUS_ACTIVE);
  OK(fill(x.p, 1, 64, a));
  OK(cuEventRecord(e, a));
  OK(cuStreamWaitEvent(b, e, 0)); // b joins the capture
  OK(cuStreamIsCapturing(b, &status));
  EXPECT_EQ(status, CU_STREAM_CAPTURE_STATUS_ACTIVE);
  cuuint64_t id = 0, idOfB = 1;
  CUgraph of = nullptr;
  const CUgraphNode *tail = nullptr;
  size_t count = 0;
  OK(cuStreamGetCaptureInfo_v3(a, &status, &id, &of, &tail, nullptr, &count));
  OK(cuStreamGetCaptureInfo_v2(b, &status, &idOfB, nullptr, nullptr, nullptr));
  EXPECT_EQ(id, idOfB);
  EXPECT_EQ(count, 1u);
  OK(increment(x.p, 64, a));
  OK(cuMemcpyDtoDAsync_v2(y.p, x.p, 0, b)); // nothing
  OK(fill(y.p, 8, 64, b));
  OK(cuEventRecord(f, b));
  OK(cuStreamWaitEvent(a, f, 0));
  OK(increment(y.p, 64, a));
  OK(cuStreamEndCapture(a, &g));
  EXPECT_EQ(g, of);
  OK(cuStreamIsCapturing(b, &status));
  EXPECT_EQ(status, CU_STREAM_CAPTURE_STATUS_NONE);
  CUgraphNode nodes[8], roots[8];
  size_t numNodes = 8, numRoots = 8, numEdges = 0;
  OK(cuGraphGetNodes(g, nodes, &numNodes));
  OK(cuGraphGetRootNodes(g, roots, &numRoots));
  OK(cuGraphGetEdges_v2(g, nullptr, nullptr, nullptr, &numEdges));
  EXPECT_EQ(numNodes, 4u);
  EXPECT_EQ(numRoots, 1u);
  EXPECT_EQ(numEdges, 4u);
  CUgraphNodeType type;
  OK(cuGraphNodeGetType(roots[0], &type));
  EXPECT_EQ(type, CU_GRAPH_NODE_TYPE_KERNEL);
  OK(cuGraphInstantiateWithFlags(&exec, g, 0));
  OK(cuGraphDestroy(g)); // the executable graph needs it no more
  for (int round = 0; round < 3; ++round) {
    OK(cuMemsetD32Async(x.p, 0, 64, a));
    OK(cuMemsetD32Async(y.p, 0, 64, a));
    OK(cuGraphLaunch(exec, a));
    OK(cuStreamSynchronize(a));
    EXPECT_EQ(x.get(), all(64, 2));
    EXPECT_EQ(y.get(), all(64, 9));
  }
  OK(cuGraphExecDestroy(exec));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphExecDestroy(exec));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphLaunch(exec, a));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphDestroy(g));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphInstantiateWithFlags(&exec, g, 0));
}

TEST_F(Graphs, CaptureThatCannotBegin) {
  CUgraph g;
  FAILS(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
        cuStreamBeginCapture_v2(nullptr, CU_STREAM_CAPTURE_MODE_GLOBAL));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuStreamBeginCapture_v2(a, CUstreamCaptureMode(7)));
  FAILS(CUDA_ERROR_ILLEGAL_STATE, cuStreamEndCapture(a, &g)); // none
  capture();
  FAILS(CUDA_ERROR_ILLEGAL_STATE, cuStreamBeginCapture_v2(a, CU_STREAM_CAPTURE_MODE_GLOBAL));
  expectInvalid();
}

TEST_F(Graphs, CallsThatSpoilACapture) {
  CUdeviceptr p = 0;
  void *h;
  Words w(4);
  unsigned value[4];
  capture();
  FAILS(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuStreamSynchronize(a));
  expectInvalid();
  capture();
  FAILS(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuStreamQuery(a));
  expectInvalid();
  capture();
  FAILS(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuCtxSynchronize());
  expectInvalid();
  capture();
  FAILS(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuMemAlloc_v2(&p, 4));
  expectInvalid();
  capture();
  FAILS(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuMemAllocHost_v2(&h, 4));
  expectInvalid();
  capture();
  FAILS(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuMemFree_v2(w.p));
  expectInvalid();
  capture();
  FAILS(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuMemcpyHtoD_v2(w.p, value, 4));
  expectInvalid();
  capture();
  OK(cuEventRecord(e, a));
  FAILS(CUDA_ERROR_CAPTURED_EVENT, cuEventSynchronize(e));
  expectInvalid();
  capture();
  OK(cuEventRecord(e, a));
  FAILS(CUDA_ERROR_CAPTURED_EVENT, cuEventQuery(e));
  FAILS(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, fill(w.p, 1, 4, a)); // whatever comes after it
  expectInvalid();
  // A capture in relaxed mode allows what is only unsafe.
  capture(CU_STREAM_CAPTURE_MODE_RELAXED);
  OK(cuMemAlloc_v2(&p, 4));
  OK(cuMemFree_v2(p));
  CUgraph g;
  OK(cuStreamEndCapture(a, &g));
  OK(cuGraphDestroy(g));
  // So does a thread for itself.
  CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
  OK(cuThreadExchangeStreamCaptureMode(&mode));
  EXPECT_EQ(mode, CU_STREAM_CAPTURE_MODE_GLOBAL);
  capture();
  OK(cuMemAlloc_v2(&p, 4));
  OK(cuMemFree_v2(p));
  OK(cuThreadExchangeStreamCaptureMode(&mode));
  OK(cuStreamEndCapture(a, &g));
  OK(cuGraphDestroy(g));
}

TEST_F(Graphs, StreamsThatDoNotFit) {
  CUgraph g = nullptr;
  Words w(64);
  // Two captures cannot be joined.
  capture();
  OK(cuStreamBeginCapture_v2(b, CU_STREAM_CAPTURE_MODE_GLOBAL));
  OK(cuEventRecord(e, b));
  FAILS(CUDA_ERROR_STREAM_CAPTURE_MERGE, cuStreamWaitEvent(a, e, 0));
  FAILS(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(b, &g));
  expectInvalid();
  // A stream that joined is ended by the origin alone.
  capture();
  OK(cuEventRecord(e, a));
  OK(cuStreamWaitEvent(b, e, 0));
  FAILS(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, cuStreamEndCapture(b, &g));
  expectInvalid();
  // Work of a stream that does not come back.
  capture();
  OK(cuEventRecord(e, a));
  OK(cuStreamWaitEvent(b, e, 0));
  OK(fill(w.p, 1, 64, b));
  FAILS(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, cuStreamEndCapture(a, &g));
  // An event of before the capture.
  OK(cuEventRecord(f, b));
  capture();
  FAILS(CUDA_ERROR_STREAM_CAPTURE_ISOLATION, cuStreamWaitEvent(a, f, 0));
  expectInvalid();
  // The legacy stream waits for blocking streams.
  CUstream blocking;
  OK(cuStreamCreate(&blocking, CU_STREAM_DEFAULT));
  OK(cuStreamBeginCapture_v2(blocking, CU_STREAM_CAPTURE_MODE_RELAXED));
  FAILS(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, fill(w.p, 1, 64, nullptr));
  FAILS(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(blocking, &g));
  OK(cuStreamDestroy_v2(blocking));
  // Another thread ends it.
  capture();
  std::thread([&] {
    EXPECT_EQ(cuCtxSetCurrent(context), CUDA_SUCCESS);
    CUgraph other;
    FAILS(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, cuStreamEndCapture(a, &other));
  }).join();
  OK(cuStreamEndCapture(a, &g));
  OK(cuGraphDestroy(g));
  // The origin is destroyed: its capture ends.
  CUstream short_;
  OK(cuStreamCreate(&short_, CU_STREAM_NON_BLOCKING));
  OK(cuStreamBeginCapture_v2(short_, CU_STREAM_CAPTURE_MODE_GLOBAL));
  OK(cuStreamDestroy_v2(short_));
}

TEST_F(Graphs, MadeByHand) {
  Words x(64), y(64);
  unsigned *pinned;
  OK(cuMemAllocHost_v2(reinterpret_cast<void **>(&pinned), 256));
  CUgraph g;
  OK(cuGraphCreate(&g, 0));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphCreate(&g, 1));
  CUgraphNode set, inc, copy, host, empty;
  CUDA_MEMSET_NODE_PARAMS m{};
  m.dst = x.p;
  m.value = 10;
  m.elementSize = 4;
  m.width = 64;
  m.height = 1;
  OK(cuGraphAddMemsetNode(&set, g, nullptr, 0, &m, context));
  OK(cuGraphAddEmptyNode(&empty, g, &set, 1));
  unsigned n = 64;
  void *parameters[] = {&x.p, &n};
  CUDA_KERNEL_NODE_PARAMS k{};
  k.func = kernel("increment");
  k.gridDimX = k.gridDimY = k.gridDimZ = k.blockDimY = k.blockDimZ = 1;
  k.blockDimX = 64;
  k.kernelParams = parameters;
  OK(cuGraphAddKernelNode_v2(&inc, g, &empty, 1, &k));
  CUDA_MEMCPY3D c{};
  c.srcMemoryType = CU_MEMORYTYPE_DEVICE;
  c.srcDevice = x.p;
  c.dstMemoryType = CU_MEMORYTYPE_HOST;
  c.dstHost = pinned;
  c.WidthInBytes = 256;
  c.Height = c.Depth = 1;
  OK(cuGraphAddMemcpyNode(&copy, g, nullptr, 0, &c, context));
  CUgraphNode from[] = {inc}, to[] = {copy};
  OK(cuGraphAddDependencies_v2(g, from, to, nullptr, 1));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphAddDependencies_v2(g, from, to, nullptr, 1));   // again
  FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphAddDependencies_v2(g, from, from, nullptr, 1)); // itself
  CUDA_HOST_NODE_PARAMS h{[](void *p) { ++static_cast<unsigned *>(p)[5]; }, pinned};
  OK(cuGraphAddHostNode(&host, g, &copy, 1, &h));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphAddHostNode(&host, g, &copy, 1, nullptr));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphAddEmptyNode(&host, nullptr, nullptr, 0));
  size_t count = 4;
  CUgraphNode before[4];
  OK(cuGraphNodeGetDependencies_v2(copy, before, nullptr, &count));
  ASSERT_EQ(count, 1u);
  EXPECT_EQ(before[0], inc);
  CUDA_KERNEL_NODE_PARAMS got;
  OK(cuGraphKernelNodeGetParams_v2(inc, &got));
  EXPECT_EQ(got.func, k.func);
  EXPECT_EQ(got.blockDimX, 64u);
  EXPECT_EQ(*static_cast<unsigned *>(got.kernelParams[1]), 64u);
  FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphKernelNodeGetParams_v2(copy, &got));
  CUgraphExec exec;
  OK(cuGraphInstantiateWithFlags(&exec, g, 0));
  OK(cuGraphUpload(exec, a));
  OK(cuGraphLaunch(exec, a));
  OK(cuStreamSynchronize(a));
  EXPECT_EQ(pinned[4], 11u);
  EXPECT_EQ(pinned[5], 12u);
  // One node of the executable graph gets other parameters: half of the words.
  n = 3;
  OK(cuGraphExecKernelNodeSetParams_v2(exec, inc, &k));
  OK(cuGraphLaunch(exec, a));
  OK(cuStreamSynchronize(a));
  EXPECT_EQ(pinned[2], 11u);
  EXPECT_EQ(pinned[3], 10u);
  FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphExecKernelNodeSetParams_v2(exec, copy, &k));
  // So do the others.
  m.value = 30;
  OK(cuGraphExecMemsetNodeSetParams(exec, set, &m, context));
  CUDA_HOST_NODE_PARAMS minus{[](void *p) { --static_cast<unsigned *>(p)[5]; }, pinned};
  OK(cuGraphExecHostNodeSetParams(exec, host, &minus));
  CUDA_MEMCPY3D part = c;
  part.WidthInBytes = 32;
  OK(cuGraphExecMemcpyNodeSetParams(exec, copy, &part, context));
  std::fill(pinned, pinned + 64, 0u);
  OK(cuGraphLaunch(exec, a));
  OK(cuStreamSynchronize(a));
  EXPECT_EQ(pinned[0], 31u);
  EXPECT_EQ(pinned[5], 29u);
  EXPECT_EQ(pinned[8], 0u);
  FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphExecMemsetNodeSetParams(exec, copy, &m, context));
  // A node can be left out.
  unsigned enabled = 0;
  OK(cuGraphNodeGetEnabled(exec, inc, &enabled));
  EXPECT_EQ(enabled, 1u);
  OK(cuGraphNodeSetEnabled(exec, inc, 0));
  OK(cuGraphLaunch(exec, a));
  OK(cuStreamSynchronize(a));
  EXPECT_EQ(pinned[0], 30u);
  OK(cuGraphNodeSetEnabled(exec, inc, 1));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphNodeSetEnabled(exec, host, 0));
  // The graph has kept its own.
  CUDA_MEMSET_NODE_PARAMS wasSet;
  CUDA_MEMCPY3D wasCopy;
  CUDA_HOST_NODE_PARAMS wasHost;
  OK(cuGraphMemsetNodeGetParams(set, &wasSet));
  EXPECT_EQ(wasSet.value, 10u);
  OK(cuGraphMemcpyNodeGetParams(copy, &wasCopy));
  EXPECT_EQ(wasCopy.WidthInBytes, 256u);
  OK(cuGraphHostNodeGetParams(host, &wasHost));
  EXPECT_EQ(wasHost.fn, h.fn);
  OK(cuGraphMemsetNodeSetParams(set, &m));
  OK(cuGraphMemcpyNodeSetParams(copy, &wasCopy));
  OK(cuGraphHostNodeSetParams(host, &wasHost));
  OK(cuGraphMemsetNodeGetParams(set, &wasSet));
  EXPECT_EQ(wasSet.value, 30u);
  FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphMemsetNodeGetParams(copy, &wasSet));
  CUgraphNode after[4];
  count = 4;
  OK(cuGraphNodeGetDependentNodes(inc, after, &count));
  ASSERT_EQ(count, 1u);
  EXPECT_EQ(after[0], copy);
  OK(cuGraphRemoveDependencies(g, from, to, 1));
  count = 4;
  OK(cuGraphNodeGetDependencies(copy, after, &count));
  EXPECT_EQ(count, 0u);
  FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphRemoveDependencies(g, from, to, 1)); // it is not there
  OK(cuGraphAddDependencies(g, from, to, 1));
  // The whole graph is updated.
  k.func = kernel("fill");
  unsigned value = 77;
  n = 64;
  void *three[] = {&x.p, &value, &n};
  k.kernelParams = three;
  OK(cuGraphKernelNodeSetParams_v2(inc, &k));
  CUgraphExecUpdateResultInfo info;
  OK(cuGraphExecUpdate_v2(exec, g, &info));
  EXPECT_EQ(info.result, CU_GRAPH_EXEC_UPDATE_SUCCESS);
  OK(cuGraphLaunch(exec, a));
  OK(cuStreamSynchronize(a));
  EXPECT_EQ(pinned[63], 77u);
  // Not if its shape has changed.
  CUgraph larger, other;
  OK(cuGraphClone(&larger, g));
  CUgraphNode more;
  OK(cuGraphAddEmptyNode(&more, larger, nullptr, 0));
  FAILS(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, cuGraphExecUpdate_v2(exec, larger, &info));
  EXPECT_EQ(info.result, CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED);
  EXPECT_EQ(info.errorNode, more);
  OK(cuGraphDestroyNode(more));
  FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphDestroyNode(more));
  OK(cuGraphExecUpdate_v2(exec, larger, &info));
  // A graph within a graph.
  OK(cuGraphCreate(&other, 0));
  CUgraphNode child, last;
  OK(cuGraphAddChildGraphNode(&child, other, nullptr, 0, g));
  CUgraph inside = nullptr;
  OK(cuGraphChildGraphNodeGetGraph(child, &inside));
  EXPECT_NE(inside, nullptr);
  value = 5;
  k.kernelParams = three;
  three[0] = &y.p;
  OK(cuGraphAddKernelNode_v2(&last, other, &child, 1, &k));
  CUgraphExec nested;
  OK(cuGraphInstantiateWithFlags(&nested, other, 0));
  std::fill(pinned, pinned + 64, 0u);
  OK(cuGraphLaunch(nested, a));
  OK(cuStreamSynchronize(a));
  EXPECT_EQ(pinned[63], 77u);
  EXPECT_EQ(y.get(), all(64, 5));
  for (CUgraphExec x : {exec, nested})
    OK(cuGraphExecDestroy(x));
  for (CUgraph x : {g, larger, other})
    OK(cuGraphDestroy(x));
  OK(cuMemFreeHost(pinned));
}

TEST_F(Graphs, CirclesAreRefused) {
  CUgraph g;
  CUgraphNode n[2];
  OK(cuGraphCreate(&g, 0));
  OK(cuGraphAddEmptyNode(&n[0], g, nullptr, 0));
  OK(cuGraphAddEmptyNode(&n[1], g, &n[0], 1));
  CUgraphNode from[] = {n[1]}, to[] = {n[0]};
  cuGraphAddDependencies_v2(g, from, to, nullptr, 1);
  CUgraphExec exec;
  FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphInstantiateWithFlags(&exec, g, 0));
  OK(cuGraphDestroy(g));
}

TEST_F(Graphs, MemoryOfAGraph) {
  CUgraph g;
  CUgraphExec exec;
  CUdeviceptr p;
  Words w(64);
  capture();
  OK(cuMemAllocAsync(&p, 256, a));
  OK(fill(p, 21, 64, a));
  OK(cuMemcpyDtoDAsync_v2(w.p, p, 256, a));
  OK(cuMemFreeAsync(p, a));
  OK(cuStreamEndCapture(a, &g));
  OK(cuGraphInstantiateWithFlags(&exec, g, 0));
  for (int i = 0; i < 2; ++i) {
    OK(cuGraphLaunch(exec, a));
    OK(cuStreamSynchronize(a));
    EXPECT_EQ(w.get(), all(64, 21));
  }
  OK(cuGraphExecDestroy(exec));
  OK(cuGraphDestroy(g));
}

TEST_F(Graphs, LaunchWithinACapture) {
  Words w(64);
  CUgraph inner, outer;
  CUgraphExec innerExec, outerExec;
  capture();
  OK(increment(w.p, 64, a));
  OK(cuStreamEndCapture(a, &inner));
  OK(cuGraphInstantiateWithFlags(&innerExec, inner, 0));
  capture();
  OK(fill(w.p, 1, 64, a));
  OK(cuGraphLaunch(innerExec, a));
  OK(cuGraphLaunch(innerExec, a));
  OK(cuStreamEndCapture(a, &outer));
  OK(cuGraphInstantiateWithFlags(&outerExec, outer, 0));
  OK(cuGraphLaunch(outerExec, b));
  OK(cuStreamSynchronize(b));
  EXPECT_EQ(w.get(), all(64, 3));
  for (CUgraphExec x : {innerExec, outerExec})
    OK(cuGraphExecDestroy(x));
  for (CUgraph x : {inner, outer})
    OK(cuGraphDestroy(x));
}

// Branches of a graph without an edge between are like streams without an event.
TEST(GraphOrder, IsChecked) {
  auto run = [](bool joined) {
    Words w(64);
    CUgraph g;
    CUgraphExec exec;
    CUgraphNode one, two;
    MUST(cuGraphCreate(&g, 0));
    unsigned n = 64, value = 3;
    void *p[] = {&w.p, &value, &n}, *q[] = {&w.p, &n};
    CUDA_KERNEL_NODE_PARAMS k{};
    k.gridDimX = k.gridDimY = k.gridDimZ = k.blockDimY = k.blockDimZ = 1;
    k.blockDimX = 64;
    k.func = kernel("fill");
    k.kernelParams = p;
    MUST(cuGraphAddKernelNode_v2(&one, g, nullptr, 0, &k));
    k.func = kernel("increment");
    k.kernelParams = q;
    MUST(cuGraphAddKernelNode_v2(&two, g, &one, joined, &k));
    MUST(cuGraphInstantiateWithFlags(&exec, g, 0));
    MUST(cuGraphLaunch(exec, nullptr));
    MUST(cuCtxSynchronize());
    MUST(cuGraphLaunch(exec, nullptr)); // launches of one graph follow each other
    MUST(cuGraphLaunch(exec, nullptr));
    MUST(cuCtxSynchronize());
    WANT(!joined || w.get() == all(64, 4));
    MUST(cuGraphExecDestroy(exec));
    MUST(cuGraphDestroy(g));
  };
  REPORTED("stream", [&] { run(false); });
  CLEAN([&] { run(true); });
}

} // namespace
