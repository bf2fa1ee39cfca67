//===- MemoryTest.cpp - Tests of the memory table and the host's memory ---===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Commands/Memory.h"

#include "src/Control/InProcess.h"
#include "src/Host/HostDevice.h"
#include "src/Rank/Rank.h"
#include "src/Transport/Threads.h"

#include "RunCommand.h"
#include "TinyProgram.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

using namespace llrt;
using namespace llrt::test;
using nlohmann::json;
using testing::HasSubstr;

TEST(MemoryTable, EqualStagesAreOneLineAndArenasHaveOneOrder) {
  ArenaSizes first = {{"inputs", 1}, {"activations", 2'500'000'000}, {"parameters", 4'000'000'000}};
  ArenaSizes second = {{"parameters", 4'000'000'000}, {"activations", 1'000'000}};
  EXPECT_EQ(memoryTable({first, second, second, first}),
            "               parameters  activations  total       bytes\n"
            "  stages 0, 3       4.000        2.500  6.500  6500000001\n"
            "  stages 1-2        4.000        0.001  4.001  4001000000\n");
  EXPECT_EQ(memoryTable({{{"workspace", 1500}, {"cuBLASLt", 500}}}),
            "             workspace  cuBLASLt     total  bytes\n"
            "  each rank   0.000002  0.000001  0.000002   2000\n");
  EXPECT_EQ(memoryParts(first), "weights 4.000, masters 0.000, gradients 0.000, "
                                "moments 0.000, activations 2.500, workspace 0.000");
  EXPECT_THAT(memoryParts({{"cuBLASLt", 33'554'432}, {"NCCL", 1'000'000'000}}),
              HasSubstr(", workspace 0.000, cuBLASLt 0.034, NCCL at most 1.000"));
}

namespace {
// A tree of the files that are asked for memory.
struct Root {
  std::string path;
  Root() {
    path = (std::filesystem::temp_directory_path() / "llrt-root-XXXXXX").string();
    path = mkdtemp(path.data());
  }
  ~Root() { std::filesystem::remove_all(path); }
  void write(const std::string &name, const std::string &text) {
    std::filesystem::create_directories(std::filesystem::path(path + name).parent_path());
    std::ofstream(path + name) << text;
  }
};
} // namespace

TEST(HostMemory, IsTheSmallestOfMeminfoAndControlGroups) {
  Root root;
  EXPECT_FALSE(findHostMemory(root.path));
  root.write("/proc/meminfo", "MemTotal: 9 kB\nMemAvailable:   1000 kB\n");
  EXPECT_EQ(findHostMemory(root.path)->bytes, 1'024'000);
  EXPECT_EQ(findHostMemory(root.path)->source, "MemAvailable");
  // Version 2: a group without a limit in one with a limit.
  root.write("/proc/self/cgroup", "0::/job/step\n");
  root.write("/sys/fs/cgroup/job/step/memory.max", "max\n");
  root.write("/sys/fs/cgroup/job/memory.max", "600000\n");
  root.write("/sys/fs/cgroup/job/memory.current", "250000\n");
  root.write("/sys/fs/cgroup/job/memory.stat", "anon 1\ninactive_file 50000\n");
  EXPECT_EQ(findHostMemory(root.path)->bytes, 400'000);
  EXPECT_EQ(findHostMemory(root.path)->source, "the limit of the control group /job");
  // Version 1, in a container that mounts its group at the top; no limit is a
  // huge number there.
  root.write("/proc/self/cgroup", "5:cpu:/x\n4:memory,hugetlb:/docker/abc\n");
  root.write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(findHostMemory(root.path)->source, "MemAvailable");
  root.write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "5000\n");
  root.write("/sys/fs/cgroup/memory/memory.usage_in_bytes", "6000\n");
  EXPECT_EQ(findHostMemory(root.path)->bytes, 0);
}

namespace {
// A program whose `step` needs 2^60 bytes more than `forward`, and twice its workspace.
TinyProgram withLargeStep() {
  TinyProgram program(2, 1, 1);
  json &arenas = program.content["stages"][0]["arenas"];
  arenas.push_back({{"name", "moment1"}, {"bytes", {{"step", int64_t(1) << 60}}}});
  arenas[3]["bytes"]["step"] = 2 * arenas[3]["bytes"]["forward"].get<int64_t>();
  return program;
}

// Notes what is allocated.
struct Noting : HostDevice {
  using HostDevice::HostDevice;
  ArenaSizes arenas;
  void *allocate(int64_t bytes, const std::string &name) override {
    arenas.emplace_back(name, bytes);
    return HostDevice::allocate(bytes, name);
  }
};
} // namespace

// The arenas of the programs that are run, each once, as large as the largest of them needs,
// and no others: what the table and the check say.
TEST(HostMemory, PlannedIsAllocated) {
  TinyProgram tiny = withLargeStep();
  tiny.content["stages"][0]["arenas"][4]["bytes"]["step"] = 4096;
  Program program = Program::parse(tiny.get());
  const int64_t work = program.stages[0].arenas[3].needs.at("forward");
  for (const auto &runs : std::vector<std::vector<std::string>>{
           {}, {"forward"}, {"step"}, {"forward", "step"}, {"step", "forward"}}) {
    InProcess control(1);
    Threads meeting(1);
    auto device = std::make_unique<Noting>(program, 0, 1, meeting.of(0), control.of(0),
                                           std::chrono::seconds(1));
    Noting &noting = *device;
    Rank rank(program, 0, 1, std::move(device), runs);
    EXPECT_EQ(noting.arenas, memoryOf(program, runs)[0]);
    const bool steps = std::count(runs.begin(), runs.end(), "step");
    EXPECT_EQ(noting.arenas.size(), runs.empty() ? 0 : steps ? 5 : 3);
    EXPECT_EQ(rank.holds({4, 0}, 4096), steps);
    EXPECT_FALSE(rank.holds({4, 8}, 4096));
    EXPECT_EQ(rank.holds({3, 0}, work), !runs.empty());
    EXPECT_EQ(rank.holds({3, 0}, work + 1), steps);
  }
}

// What runs forward alone is not stopped by what step needs, neither before it begins nor when
// it allocates; but by what forward needs.
TEST(HostMemory, ForwardNeedsNothingOfStep) {
  TinyProgram program = withLargeStep();
  Folder folder;
  writeDataset(folder / "data", 12, true);
  writeTensors(folder / "w.safetensors", tinyWeights());
  const std::string weights = "--weights=" + (folder / "w.safetensors");
  const std::vector<std::string> evaluate = {"evaluate", "--data=" + (folder / "data"), weights};
  Outcome outcome = run(program, evaluate);
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  outcome =
      run(program, {"train", "--data=" + (folder / "data"), "--checkpoint=" + (folder / "run"),
                    weights, "--steps=1", "--learning-rate=1"});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_THAT(outcome.err, HasSubstr("memory: expected 1152921504.607 GB for the rank on this"));
  program.content["stages"][0]["arenas"][0]["bytes"]["forward"] = int64_t(1) << 60;
  for (const std::vector<std::string> &words :
       {evaluate,
        {"generate", "--prompt=a", "--tokenizer=" + (folder / "data/tokenizer.model"),
         "--preprocessor=" + (folder / "data/preprocessor_config.json"), weights}}) {
    outcome = run(program, words);
    EXPECT_EQ(outcome.status, 2);
    EXPECT_THAT(outcome.err, HasSubstr("memory: expected 1152921504.607 GB for the rank on this"));
  }
}

// Before anything is allocated or read.
TEST(HostMemory, WhatDoesNotFitDoesNotBegin) {
  TinyProgram program(2, 1);
  json &arena = program.content["stages"][0]["arenas"][0];
  arena["bytes"]["step"] = int64_t(1) << 60;
  Folder folder;
  test::writeBatch(folder / "b.safetensors", {3, 5});
  std::vector<std::string> words = {"step", "--weights=none",
                                    "--batch=" + (folder / "b.safetensors")};
  Outcome outcome = run(program, words);
  EXPECT_EQ(outcome.status, 2);
  EXPECT_THAT(outcome.err,
              HasSubstr("memory: expected 1152921504.607 GB for the rank on this host, got "));
  EXPECT_THAT(outcome.err, HasSubstr("--over-memory=allow begins all the same"));
  words.push_back("--over-memory=allow");
  outcome = run(program, words);
  EXPECT_EQ(outcome.status, 2);
  EXPECT_THAT(outcome.err, HasSubstr("for arena"));
}
