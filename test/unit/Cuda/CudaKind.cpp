//===- CudaKind.cpp - A GPU as a device -----------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "../Device/DeviceKind.h"

#include "src/Cuda/CudaDevice.h"
#include "src/Cuda/NcclExchange.h"
#include "src/Cuda/SharedGpu.h"

#include <mutex>

using namespace llrt;
using namespace llrt::cuda;
using namespace llrt::test;

// Thread i: to[i] = to[i] * 1664525 + from[i] + 1013904223, 100 turns of a loop before it.
static const char mixText[] = R"(.version 7.0
.target sm_80
.address_size 64
.visible .entry mix(.param .u64 to, .param .u64 from)
{
  .reg .b32 %r<5>;
  .reg .b64 %d<4>;
  .reg .pred %p;
  ld.param.u64 %d1, [to];
  ld.param.u64 %d2, [from];
  mov.u32 %r1, %tid.x;
  mov.u32 %r4, 0;
turn:
  add.u32 %r4, %r4, 1;
  setp.lt.u32 %p, %r4, 100;
  @%p bra turn;
  mul.wide.u32 %d3, %r1, 4;
  add.u64 %d1, %d1, %d3;
  add.u64 %d2, %d2, %d3;
  ld.global.u32 %r2, [%d1];
  ld.global.u32 %r3, [%d2];
  mad.lo.u32 %r2, %r2, 1664525, %r3;
  add.u32 %r2, %r2, 1013904223;
  st.global.u32 [%d1], %r2;
  ret;
})";

static const LlrtImage mixImage = {"sm_80", mixText, sizeof(mixText), nullptr, 0, -1, -1, -1, -1};
static const LlrtCudaKernel mixKernel = {
    "mix", "", nullptr, 1, &mixImage, {1, 1, 1}, {Lanes, 1, 1}, {1, 1, 1}, 0, 2, 0, nullptr, 1};
static const LlrtCudaKernel *const kernels[] = {&mixKernel};
static const char *const chips[] = {"sm_80", nullptr};
static const LlrtDeviceCode code = {1, kernels, chips, 0, nullptr};

// GPU `number`, with the kernels.
static Gpu &gpu(int number) {
  static std::mutex mutex;
  static std::map<int, Gpu> all;
  std::lock_guard lock(mutex);
  auto [entry, isNew] = all.try_emplace(number, number);
  if (isNew)
    entry->second.load(code);
  return entry->second;
}

// What the devices of a program share, as long as there is one of them.
static std::shared_ptr<SharedGpu> sharedOf(const Program &program) {
  static std::mutex mutex;
  static std::map<const Program *, std::weak_ptr<SharedGpu>> all;
  std::lock_guard lock(mutex);
  std::shared_ptr<SharedGpu> found = all[&program].lock();
  if (!found)
    all[&program] = found = std::make_shared<SharedGpu>(program, gpu(0));
  return found;
}

namespace {
class End : public Exchange {
public:
  End(std::shared_ptr<SharedGpu> shared, int64_t rank)
      : shared(std::move(shared)), end(this->shared->end(rank)) {}
  std::shared_ptr<Meeting> start(CUstream stream, const Action &action, const void *from,
                                 void *to) override {
    return end->start(stream, action, from, to);
  }
  bool meets() const override { return end->meets(); }

private:
  std::shared_ptr<SharedGpu> shared;
  std::unique_ptr<Exchange> end;
};
} // namespace

static void mix(LlrtStream *stream, void **buffers) { llrt_launch(stream, &mixKernel, buffers); }

static const DeviceKind sharedGpu = {
    "SharedGpu",
    [](const Program &program, int64_t rank, Transport &, Control &control,
       std::chrono::duration<double> timeout) {
      std::shared_ptr<SharedGpu> shared = sharedOf(program);
      return std::make_unique<CudaDevice>(program, rank, gpu(0),
                                          std::make_unique<End>(shared, rank), control,
                                          DeviceOptions{1, timeout});
    },
    mix,
    mix,
    [](LlrtStream *stream, void **) { stream->failed("out of luck"); },
    false, // the software GPU has a time of its own
    true};

static const DeviceKind gpuEach = {
    "GpuEach",
    [](const Program &program, int64_t rank, Transport &, Control &control,
       std::chrono::duration<double> timeout) {
      static std::once_flag once;
      std::call_once(once, NcclExchange::setEnvironment, program);
      Gpu &own = gpu(int(rank));
      own.enter();
      return std::make_unique<CudaDevice>(
          program, rank, own,
          std::make_unique<NcclExchange>(program, rank, own, control, NcclExchange::usualPatience),
          control, DeviceOptions{1, timeout});
    },
    mix,
    mix,
    [](LlrtStream *stream, void **) { stream->failed("out of luck"); },
    false,
    false}; // NCCL does not

std::vector<DeviceKind> llrt::test::deviceKinds() { return {sharedGpu, gpuEach}; }
