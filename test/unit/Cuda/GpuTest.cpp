//===- GpuTest.cpp - Kernels, memory, libraries ---------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Gpus.h"

#include "src/Control/Launch.h"
#include "src/Cuda/Library.h"
#include "src/Cuda/NcclLibrary.h"
#include "src/Data/Error.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

using namespace llrt;
using namespace llrt::cuda;
using namespace llrt::test;

namespace {

std::string errorOf(const std::function<void()> &work) {
  try {
    work();
  } catch (const Error &error) {
    return error.what();
  }
  ADD_FAILURE() << "expected an error";
  return "";
}

//===----------------------------------------------------------------------===//
// Images
//===----------------------------------------------------------------------===//

std::string chosen(const std::vector<const char *> &chips, int major, int minor) {
  const char *chip = chipFor(chips, major, minor);
  return chip ? chip : "none";
}

TEST(Chips, TheLatestThatRuns) {
  EXPECT_EQ(chosen({"sm_80", "sm_90a"}, 9, 0), "sm_90a");
  EXPECT_EQ(chosen({"sm_90a", "sm_80"}, 9, 0), "sm_90a");
  EXPECT_EQ(chosen({"sm_90", "sm_90a"}, 9, 0), "sm_90a");
  EXPECT_EQ(chosen({"sm_90a", "sm_90"}, 9, 0), "sm_90a");
  EXPECT_EQ(chosen({"sm_80", "sm_90a"}, 10, 0), "sm_80"); // sm_90a runs on 9.0 alone
  EXPECT_EQ(chosen({"sm_80", "sm_90a"}, 8, 9), "sm_80");
  EXPECT_EQ(chosen({"sm_80", "sm_86", "sm_90"}, 8, 9), "sm_86");
  EXPECT_EQ(chosen({"sm_80", "sm_100a"}, 12, 0), "sm_80");
  EXPECT_EQ(chosen({"sm_100a"}, 10, 0), "sm_100a");
  EXPECT_EQ(chosen({"sm_90a"}, 8, 0), "none");
  EXPECT_EQ(chosen({"sm_90"}, 8, 0), "none");
  EXPECT_EQ(chosen({}, 8, 0), "none");
}

TEST(Images, CubinsRunOnTheirMajorVersion) {
  auto runs = [](const char *chip, int major, int minor) {
    return cubinRuns({chip, "", 1, "code", 4, -1, -1, -1, -1}, major, minor);
  };
  EXPECT_TRUE(runs("sm_80", 8, 0));
  EXPECT_TRUE(runs("sm_80", 8, 9));
  EXPECT_FALSE(runs("sm_86", 8, 0));
  EXPECT_FALSE(runs("sm_80", 9, 0));
  EXPECT_TRUE(runs("sm_90a", 9, 0));
  EXPECT_FALSE(runs("sm_100a", 10, 3));
  EXPECT_FALSE(cubinRuns({"sm_80", "", 1, nullptr, 0, -1, -1, -1, -1}, 8, 0));
}

//===----------------------------------------------------------------------===//
// Kernels that cannot be loaded
//===----------------------------------------------------------------------===//

// The message of the load of one kernel with that text.
std::string loadError(const char *chip, const std::string &text, const char *name = "k") {
  LlrtImage image = {chip, text.c_str(), text.size() + 1, nullptr, 0, -1, -1, -1, -1};
  LlrtCudaKernel kernel = {name,      "layer 3", nullptr, 1, &image,  {1, 1, 1}, {1, 1, 1},
                           {1, 1, 1}, 0,         0,       0, nullptr, 1};
  const LlrtCudaKernel *kernels[] = {&kernel};
  const char *chips[] = {chip, nullptr};
  LlrtDeviceCode code = {1, kernels, chips, 0, nullptr};
  return errorOf([&] {
    Gpu gpu(0);
    gpu.load(code);
  });
}

std::string kernelText(const std::string &version, const std::string &body) {
  return ".version " + version + "\n.target sm_80\n.address_size 64\n.visible .entry k()\n{\n" +
         body + "\n}\n";
}

TEST(Kernels, NoCodeForTheChip) {
  EXPECT_EQ(loadError("sm_200", kernelText("7.0", "ret;")),
            "GPU 0 (" + Gpu(0).name() + ") is " + Gpu(0).chip() +
                ", the program has code for sm_200; --chip=" + Gpu(0).chip() +
                " of llamac compile");
}

TEST(Kernels, ADriverThatIsTooOld) {
  std::string message = loadError("sm_80", kernelText("19.5", "ret;"));
  EXPECT_TRUE(message.starts_with("kernel k (layer 3): NVIDIA's driver (for CUDA ")) << message;
  EXPECT_NE(message.find("is too old for its code (PTX .version 19.5): install a later driver"),
            std::string::npos)
      << message;
}

TEST(Kernels, CodeThatIsWrongOrNotThere) {
  std::string message = loadError("sm_80", kernelText("7.0", "frobnicate.u32 %r1;"));
  EXPECT_TRUE(message.starts_with("kernel k (layer 3): GPU 0 (sm_")) << message;
  EXPECT_NE(message.find("cannot load its code for sm_80: CUDA_ERROR_INVALID_PTX"),
            std::string::npos)
      << message;
  message = loadError("sm_80", kernelText("7.0", "ret;"), "other");
  EXPECT_TRUE(message.starts_with("kernel other (layer 3): not in its code: CUDA_ERROR_NOT_FOUND"))
      << message;
}

// A driver older than the ptxas of a cubin does not take it; the PTX beside it does.
TEST(Kernels, ACubinThatTheDriverRefuses) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  auto load = [] {
    setenv("SOFTWARE_GPU_DRIVER", "12.4", 1);
    alignas(8) static const unsigned char code[64] = {0x7f, 'E', 'L', 'F', 2, 1, 1};
    static const std::string text = kernelText("7.0", "ret;");
    try {
      Gpu gpu(0);
      std::string chip = gpu.chip();
      LlrtImage image = {
          chip.c_str(), text.c_str(), text.size() + 1, code, sizeof(code), -1, -1, -1, -1};
      LlrtCudaKernel kernel = {"k",       "", nullptr, 1, &image,  {1, 1, 1}, {1, 1, 1},
                               {1, 1, 1}, 0,  0,       0, nullptr, 1};
      const LlrtCudaKernel *kernels[] = {&kernel};
      const char *chips[] = {chip.c_str(), nullptr};
      gpu.load({1, kernels, chips, 0, nullptr});
    } catch (const Error &error) {
      std::fprintf(stderr, "%s\n", error.what());
      std::exit(1);
    }
    std::exit(0);
  };
  EXPECT_EXIT(load(), testing::ExitedWithCode(0), "");
}

//===----------------------------------------------------------------------===//
// Memory, libraries
//===----------------------------------------------------------------------===//

// Rows that are farther apart than the driver lets a pitch be.
TEST(Memory, RowsFarApart) {
  OneGpu one;
  constexpr uint64_t pitch = (uint64_t(1) << 31) + 256, bytes = 64;
  const Driver &cuda = driver();
  CUdeviceptr from = 0;
  check(cuda.cuMemAlloc_v2(&from, pitch + bytes), "cuMemAlloc");
  void *to = one.device.allocate(2 * bytes, "rows");
  std::vector<std::byte> rows(2 * bytes), got(2 * bytes);
  for (size_t i = 0; i < rows.size(); ++i)
    rows[i] = std::byte(i + 1);
  CUstream stream = nullptr;
  check(cuda.cuStreamCreateWithPriority(&stream, streamNonBlocking, 0), "cuStreamCreate");
  for (uint64_t row = 0; row < 2; ++row)
    check(cuda.cuMemcpyHtoDAsync_v2(from + row * pitch, rows.data() + row * bytes, bytes, stream),
          "cuMemcpyHtoDAsync");
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the driver takes it so
  copyRows(stream, to, bytes, reinterpret_cast<void *>(from), int64_t(pitch), 2, bytes);
  check(cuda.cuMemcpyDtoHAsync_v2(got.data(), CUdeviceptr(to), got.size(), stream),
        "cuMemcpyDtoHAsync");
  check(cuda.cuCtxSynchronize(), "cuCtxSynchronize");
  EXPECT_EQ(got, rows);
  cuda.cuStreamDestroy_v2(stream);
  cuda.cuMemFree_v2(from);
}

// What a rank allocates is what is planned for it.
TEST(Memory, IsWhatIsPlanned) {
  Program program = makeProgram({}, {}, 3 << 20);
  program.stages[0].arenas = {{"all", 3 << 20, {{"step", 3 << 20}}},
                              {"more", 2 << 20, {{"step", 1 << 20}, {"forward", 2 << 20}}},
                              {"of another", 1 << 20, {{"forward", 1 << 20}}}};
  program.stages[0].productStreams = {0, 2};
  program.stages[0].productBytes = 2 * LLRT_CUDA_WORKSPACE_BYTES;
  Gpu gpu(0);
  SharedGpu shared(program, gpu);
  InProcess control(1);
  int64_t before = gpu.freeBytes();
  CudaDevice device(program, 0, gpu, shared.end(0), control.of(0), DeviceOptions());
  for (const std::optional<int64_t> &bytes : program.stages[0].memoryOf({"step"}))
    if (bytes)
      device.allocate(*bytes, "an arena");
  EXPECT_EQ(before - gpu.freeBytes(), (4 << 20) + program.stages[0].productBytes);
  EXPECT_EQ(before - gpu.freeBytes(), totalBytes(memoryOf(program, 0, {"step"})));
}

TEST(Memory, TooLittleIsToldBeforeAnythingIsAllocated) {
  Program program = makeProgram({}, {}, int64_t(1) << 44);
  program.stages[0].productStreams = {0};
  program.stages[0].productBytes = LLRT_CUDA_WORKSPACE_BYTES;
  program.batch = 4;
  program.options = {{"recompute", "none"}};
  std::string message = errorOf([&] { makeDevices(program, {}, {.runs = {"step"}}); });
  EXPECT_TRUE(message.starts_with("memory: expected 17592.220 GB for the rank on GPU 0 ("))
      << message;
  EXPECT_NE(message.find("), got "), std::string::npos) << message;
  EXPECT_NE(
      message.find(", cuBLASLt 0.034; what needs less: --recompute=full, --batch=2, more ranks "
                   "on tp or pp of llamac compile"),
      std::string::npos)
      << message;
  // What is not free is not there; of ranks that share a GPU the sum counts, and no NCCL.
  program = makeProgram({{"dp", 2}}, {{0}}, 0);
  program.communicators[0].bytes = int64_t(1) << 44;
  program.stages[0].arenas = {{"parameters", int64_t(1) << 43, {{"step", int64_t(1) << 43}}}};
  message = errorOf([&] { makeDevices(program, {}, {.runs = {"step"}}); });
  EXPECT_NE(message.find("got "), std::string::npos) << message;
  EXPECT_NE(message.find("weights 8796.093"), std::string::npos) << message;
  EXPECT_NE(message.find("NCCL at most 17592.186"), std::string::npos) << message;
  EXPECT_NE(message.find("; --over-memory=allow begins all the same"), std::string::npos)
      << message;
  EXPECT_NO_THROW(makeDevices(program, {}, {.mayExceedMemory = true, .runs = {"step"}}));
}

// A GPU on which what waits for other ranks would leave no room for what they wait for.
TEST(Memory, TooFewMultiprocessors) {
  Program program = makeProgram({{"dp", 2}}, {{0}}, 0);
  Gpu gpu(0);
  auto hold = [&](int64_t held) {
    program.certificate = {{"programs", {{"step", {{"held", held}}}}}};
    makeDevices(program, {}, {});
  };
  EXPECT_NO_THROW(hold(gpu.multiprocessors() - 1));
  EXPECT_EQ(errorOf([&] { hold(gpu.multiprocessors()); }),
            "GPU 0 (" + gpu.name() + ") has " + std::to_string(gpu.multiprocessors()) +
                " multiprocessors: expected more than the " +
                std::to_string(gpu.multiprocessors()) +
                " that communication of this program may hold while it waits for other ranks (a "
                "part of a GPU, as MIG makes it, is not enough); compile it for fewer ranks, or "
                "take a whole GPU");
}

TEST(Ranks, AsManyGpusOrOne) {
  Program program = makeProgram({{"dp", 7}}, {{0}}, 0);
  EXPECT_EQ(errorOf([&] { makeDevices(program, {}, {}); }),
            "the program is for 7 ranks: expected as many GPUs, or one that all of them share, got "
            "6 (CUDA_VISIBLE_DEVICES=0 shows one)");
  Launch launch;
  launch.kind = Launch::Kind::Tcp;
  launch.size = launch.localSize = 7;
  launch.knowsLocalSize = true;
  EXPECT_EQ(errorOf([&] { makeDevices(program, launch, {}); }),
            "this machine has 7 ranks that are processes: expected as many GPUs, got 6; ranks "
            "share a GPU where they are of one process, without a launcher");
  // Of 7 processes some may be elsewhere.
  launch.knowsLocalSize = false;
  launch.localRank = 5;
  EXPECT_NO_THROW(makeDevices(program, launch, {}));
  launch.localRank = 6;
  EXPECT_EQ(errorOf([&] { makeDevices(program, launch, {}); }),
            "this machine has at least 7 ranks that are processes: expected as many GPUs, got 6; "
            "ranks share a GPU where they are of one process, without a launcher");
}

TEST(Ranks, MoreThanTheSumsOfOneGpuTake) {
  Gpu gpu(0);
  EXPECT_NO_THROW(SharedGpu(makeProgram({{"dp", 64}}, {{0}}, 0), gpu));
  EXPECT_EQ(
      errorOf([&] { SharedGpu(makeProgram({{"dp", 65}}, {{0}}, 0), gpu); }),
      "communicator 'dp' has 65 ranks: expected at most 64 where they share a GPU; with a GPU "
      "for each rank there may be more");
}

// The GPU of a process is the one with its number on its machine, as the launcher says: ranks need
// not go from machine to machine in order.
TEST(Ranks, TheirNumberOnTheirMachine) {
  struct Case {
    std::map<std::string, std::string> variables;
    int64_t localRank, localSize;
    bool knows;
  };
  const std::map<std::string, std::string> torch = {
      {"RANK", "2"}, {"WORLD_SIZE", "4"}, {"MASTER_ADDR", "localhost"}, {"MASTER_PORT", "29500"}};
  auto with = [&](std::map<std::string, std::string> variables) {
    variables.insert(torch.begin(), torch.end());
    return variables;
  };
  const Case cases[] = {
      {with({{"LOCAL_RANK", "0"}}), 0, 4, false},
      {with({{"LOCAL_RANK", "1"}, {"LOCAL_WORLD_SIZE", "2"}}), 1, 2, true},
      {{{"OMPI_COMM_WORLD_RANK", "2"},
        {"OMPI_COMM_WORLD_SIZE", "4"},
        {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
        {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}},
       1,
       2,
       true},
      {{{"PMIX_RANK", "2"},
        {"SLURM_NTASKS", "4"},
        {"SLURM_LOCALID", "1"},
        {"SLURM_TASKS_PER_NODE", "2(x2)"}},
       1,
       2,
       true},
      {{{"SLURM_PROCID", "3"},
        {"SLURM_NTASKS", "4"},
        {"SLURM_LOCALID", "0"},
        {"SLURM_STEP_TASKS_PER_NODE", "3,1"},
        {"MASTER_ADDR", "localhost"}},
       0,
       3,
       true},
      {{{"PMI_RANK", "3"}, {"PMI_SIZE", "4"}}, 3, 4, false},
  };
  for (const Case &each : cases) {
    for (const auto &[name, value] : each.variables)
      setenv(name.c_str(), value.c_str(), 1);
    Launch launch = Launch::find(4);
    for (const auto &[name, value] : each.variables)
      unsetenv(name.c_str());
    SCOPED_TRACE(each.variables.begin()->first);
    EXPECT_EQ(launch.localRank, each.localRank);
    EXPECT_EQ(launch.localSize, each.localSize);
    EXPECT_EQ(launch.knowsLocalSize, each.knows);
  }
}

// NCCL reads it once, whichever rank is first: it is there before ranks begin.
TEST(Ranks, WhatNcclTakesFromTheEnvironment) {
  unsetenv("NCCL_GRAPH_REGISTER");
  unsetenv("NCCL_NVLS_ENABLE");
  Program program = makeProgram({{"dp", 2}}, {{0}}, 0);
  program.communicators[0].edge = {0, 1};
  program.communicators[0].multiprocessors = 3;
  checkTarget(program);
  EXPECT_STREQ(std::getenv("NCCL_MAX_P2P_NCHANNELS"), "3");
  EXPECT_STREQ(std::getenv("NCCL_GRAPH_REGISTER"), "0");
  EXPECT_STREQ(std::getenv("NCCL_NVLS_ENABLE"), "0");
}

TEST(Libraries, WhatIsMissingIsNamed) {
  std::string message =
      errorOf([] { Library({"libnone.so.13", "libnone.so.12"}, "it is part of nothing"); });
  EXPECT_EQ(message, "this program runs on a GPU and needs libnone.so.13: libnone.so.13: cannot "
                     "open shared object file: No such file or directory; libnone.so.12: cannot "
                     "open shared object file: No such file or directory; it is part of nothing");
  EXPECT_EQ(errorOf([] { Library({"libc.so.6"}, "").find("cuInit"); }),
            "libc.so.6 is too old for this program: expected one with cuInit");
}

// Those lack functions that the program takes.
TEST(Libraries, OldOnesAreToldByTheirVersion) {
  Library old({OLD_LIBRARIES}, "");
  EXPECT_EQ(errorOf([&] { Driver{old}; }), "NVIDIA's driver is too old: expected one for CUDA 12.0 "
                                           "or later, got one for 11.4");
  EXPECT_EQ(errorOf([&] { Nccl{old}; }), "NCCL is too old: expected 2.18 or later, got 2.15");
}

} // namespace
