//===- SharedGpu.cpp - Ranks that share a GPU -----------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Cuda/SharedGpu.h"

#include "src/Control/Control.h"
#include "src/Cuda/Sums.h"
#include "src/Data/Error.h"
#include "src/Transport/Communication.h"

#include <algorithm>

using namespace llrt;
using namespace llrt::cuda;
using Kind = Action::Kind;

// PTX of Sums.c, made by the build.
static const char sumsText[] =
#include "Sums.inc"
    ;

// A communication of a group.
class SharedGpu::Shared final : public Exchange::Meeting {
public:
  Shared(SharedGpu &gpu, const Group &group)
      : gpu(gpu), members(group.members), sides(members.size()) {}

  ~Shared() override {
    std::lock_guard lock(gpu.mutex);
    // The streams have been told to wait: the events may be recorded again.
    for (const Side &side : sides)
      if (side.ready)
        gpu.events.push_back(side.ready);
    if (done)
      gpu.events.push_back(done);
  }

  bool join(CUstream stream) override {
    std::lock_guard lock(gpu.mutex);
    if (!done)
      return false;
    check(driver().cuStreamWaitEvent(stream, done, 0), "cuStreamWaitEvent");
    return true;
  }

  std::vector<int64_t> missing() override {
    std::lock_guard lock(gpu.mutex);
    std::vector<int64_t> result;
    for (size_t i = 0; i < sides.size(); ++i)
      if (!sides[i].action)
        result.push_back(members[i]);
    return result;
  }

  SharedGpu &gpu;
  std::vector<int64_t> members;
  std::vector<Side> sides; // by member
  CUevent done = nullptr;  // null: not all have come
};

class SharedGpu::End final : public Exchange {
public:
  End(SharedGpu &gpu, int64_t rank) : gpu(gpu), rank(rank) {}

  std::shared_ptr<Meeting> start(CUstream stream, const Action &action, const void *from,
                                 void *to) override {
    return gpu.come(rank, stream, action, from, to);
  }

  bool meets() const override { return gpu.program.grid.ranks() > 1; }

private:
  SharedGpu &gpu;
  int64_t rank;
};

SharedGpu::SharedGpu(const Program &program, const Gpu &gpu) : program(program), gpu(gpu) {
  for (const Communicator &each : program.communicators)
    if (int64_t members = each.edge ? 2 : program.grid.size(each.axes);
        members > LLRT_MOST_SUMMANDS)
      fail("communicator '", each.name, "' has ", members, " ranks: expected at most ",
           LLRT_MOST_SUMMANDS,
           " where they share a GPU; with a GPU for each rank there may be more");
  gpu.enter();
  const Driver &cuda = driver();
  if (CUresult result = cuda.cuModuleLoadDataEx(&module, sumsText, 0, nullptr, nullptr))
    fail("GPU ", gpu.number(), " (", gpu.name(), ", ", gpu.chip(),
         ") cannot load the sums of ranks that share it: ", errorText(result));
  for (auto [type, name] : {std::pair(LLRT_F32, "f32"), {LLRT_F64, "f64"}, {LLRT_BF16, "bf16"}})
    for (auto [toType, toName] :
         {std::pair(LLRT_F32, "f32"), {LLRT_F64, "f64"}, {LLRT_BF16, "bf16"}}) {
      std::string kernel = std::string("sum_") + name + "_" + toName;
      check(cuda.cuModuleGetFunction(&sums[{type, toType}], module, kernel.c_str()),
            "cuModuleGetFunction");
    }
  // Now: in a step nothing is made.
  for (size_t i = 0; i < program.communicators.size(); ++i)
    for (int64_t rank = 0; rank < program.grid.ranks(); ++rank) {
      std::vector<int64_t> members = program.communicators[i].members(program.grid, rank);
      if (std::find(members.begin(), members.end(), rank) == members.end())
        continue;
      Group &group = groups[{i, members.front()}];
      if (group.stream)
        continue;
      check(cuda.cuStreamCreateWithPriority(&group.stream, streamNonBlocking, 0),
            "cuStreamCreateWithPriority");
      group.next.resize(members.size());
      group.members = std::move(members);
    }
}

SharedGpu::~SharedGpu() {
  gpu.enter();
  const Driver &cuda = driver();
  cuda.cuCtxSynchronize();
  for (auto &[key, group] : groups) {
    group.open.clear();
    cuda.cuStreamDestroy_v2(group.stream);
  }
  for (CUevent event : events)
    cuda.cuEventDestroy_v2(event);
  cuda.cuModuleUnload(module);
}

std::unique_ptr<Exchange> SharedGpu::end(int64_t rank) {
  return std::make_unique<End>(*this, rank);
}

CUevent SharedGpu::takeEvent() {
  CUevent event = nullptr;
  if (events.empty()) {
    check(driver().cuEventCreate(&event, eventDisableTiming), "cuEventCreate");
  } else {
    event = events.back();
    events.pop_back();
  }
  return event;
}

std::shared_ptr<SharedGpu::Shared>
SharedGpu::come(int64_t rank, CUstream stream, const Action &action, const void *from, void *to) {
  const std::vector<int64_t> members =
      program.communicators[action.communicator].members(program.grid, rank);
  std::shared_ptr<Shared> meeting; // it may end here, not before the lock does
  std::lock_guard lock(mutex);
  Group &group = groups.at({action.communicator, members.front()});
  size_t index =
      std::find(group.members.begin(), group.members.end(), rank) - group.members.begin();
  auto number = size_t(group.next[index]++ - group.first);
  while (group.open.size() <= number)
    group.open.push_back(std::make_shared<Shared>(*this, group));
  meeting = group.open[number];
  CUevent ready = takeEvent();
  check(driver().cuEventRecord(ready, stream), "cuEventRecord");
  meeting->sides[index] = {&action, from, to, ready};
  if (std::all_of(meeting->sides.begin(), meeting->sides.end(),
                  [](const Side &side) { return side.action; })) {
    // The last one to come to it has come to those before it.
    group.open.pop_front();
    ++group.first;
    perform(group, *meeting);
  }
  return meeting;
}

// Throws Failure if two members do different things.
static void compare(const Action &one, const Action &other) {
  if (one.kind == Kind::Send || one.kind == Kind::Receive)
    if (one.kind == other.kind)
      throw Failure(std::string("both members ") + actionName(one.kind));
  auto label = [](const Action &action) {
    return labelOf(action, action.outer * action.elements * typeSize(action.type));
  };
  requireEqual(label(one), label(other));
}

void SharedGpu::perform(Group &group, Shared &meeting) {
  const Driver &cuda = driver();
  const std::vector<Side> &sides = meeting.sides;
  for (size_t i = 1; i < sides.size(); ++i)
    compare(*sides[i].action, *sides[0].action);
  for (const Side &side : sides)
    check(cuda.cuStreamWaitEvent(group.stream, side.ready, 0), "cuStreamWaitEvent");

  const Action &action = *sides[0].action;
  auto count = int64_t(sides.size());
  int64_t size = typeSize(action.type), row = action.elements * size;
  auto copy = [&](void *to, int64_t toStride, const void *from, int64_t fromStride) {
    copyRows(group.stream, to, toStride, from, fromStride, action.outer, row);
  };
  switch (action.kind) {
  case Kind::AllGather:
    for (const Side &side : sides)
      for (int64_t i = 0; i < count; ++i)
        copy(static_cast<std::byte *>(side.to) + i * row, count * row, sides[i].from, row);
    break;
  case Kind::Broadcast:
    for (const Side &side : sides)
      copy(side.to, row, sides[0].from, row);
    break;
  case Kind::AllReduce: {
    std::vector<void *> to;
    for (const Side &side : sides)
      to.push_back(side.to);
    sum(group, sides, to, 0, action.elements);
    break;
  }
  case Kind::ReduceScatter:
    for (int64_t i = 0; i < count; ++i)
      sum(group, sides, {sides[i].to}, i * row, count * action.elements);
    break;
  default: { // a send and a receive
    bool isFirst = action.kind == Kind::Send;
    copy(sides[isFirst ? 1 : 0].to, row, sides[isFirst ? 0 : 1].from, row);
  }
  }
  CUevent done = takeEvent();
  check(cuda.cuEventRecord(done, group.stream), "cuEventRecord");
  meeting.done = done;
}

// The sum of what lies `offset` bytes behind `from` of each side, with rows that are
// `stride` elements apart.
void SharedGpu::sum(Group &group, const std::vector<Side> &sides, std::vector<void *> to,
                    int64_t offset, int64_t stride) const {
  const Action &action = *sides[0].action;
  LlrtSum parameter = {};
  for (size_t i = 0; i < sides.size(); ++i)
    parameter.from[i] = static_cast<const std::byte *>(sides[i].from) + offset;
  std::copy(to.begin(), to.end(), parameter.to);
  parameter.members = int(sides.size());
  parameter.targets = int(to.size());
  parameter.max = action.reduction == Action::Reduction::Max;
  parameter.accumulate = action.accumulate;
  parameter.outer = action.outer;
  parameter.elements = action.elements;
  parameter.stride = stride;
  constexpr int64_t Threads = 256, MostBlocks = 1024;
  int64_t blocks = (action.outer * action.elements + Threads - 1) / Threads;
  if (blocks == 0)
    return;
  CUlaunchConfig config = {};
  config.gridDimX = unsigned(std::min(blocks, MostBlocks));
  config.blockDimX = Threads;
  config.gridDimY = config.gridDimZ = config.blockDimY = config.blockDimZ = 1;
  config.hStream = group.stream;
  void *parameters[] = {&parameter};
  auto found = sums.find({action.type, action.toType});
  if (found == sums.end())
    throw Failure("a sum of integers");
  check(driver().cuLaunchKernelEx(&config, found->second, parameters, nullptr), "cuLaunchKernelEx");
}
