//===- ProgramsTest.cpp - Runs the small programs ---------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace {

struct Result {
  int status;
  std::string output;
};

/// Runs a program with our libcuda.so.1 and variables of the environment.
Result run(const std::string &program, const std::string &environment) {
  std::string command = "LD_LIBRARY_PATH=" SGPU_LIBRARY_DIR " " + environment +
                        " " SGPU_PROGRAM_DIR "/" + program + " 2>&1";
  std::FILE *pipe = popen(command.c_str(), "r");
  Result r{-1, ""};
  char buffer[4096];
  while (size_t n = std::fread(buffer, 1, sizeof buffer, pipe))
    r.output.append(buffer, n);
  int status = pclose(pipe);
  r.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return r;
}

struct Program {
  const char *name;
  const char *fault; ///< of its twin: the beginning of the report
};

class Programs : public testing::TestWithParam<Program> {
protected:
  /// The program as it was built: "own", "nvidia"; empty if it was not.
  static std::string built(const char *kind) {
    std::string path = std::string(kind) + "/" + GetParam().name;
    return std::filesystem::exists(SGPU_PROGRAM_DIR "/" + path) ? path : "";
  }
};

constexpr int faultStatus = 86;
constexpr const char *environments[] = {
    "SOFTWARE_GPU_SEED=1",
    "SOFTWARE_GPU_SEED=2",
    "SOFTWARE_GPU_SEED=77 SOFTWARE_GPU_DEVICES=2",
    "SOFTWARE_GPU_SEED=3 SOFTWARE_GPU_COMPLETION=random",
    "SOFTWARE_GPU_SEED=5 SOFTWARE_GPU_COMPLETION=random SOFTWARE_GPU_THREADS=1",
    "SOFTWARE_GPU_SEED=4 SOFTWARE_GPU_COMPLETION=early SOFTWARE_GPU_CHIP=sm_80"};

void expectRight(const std::string &program) {
  for (const char *environment : environments) {
    Result r = run(program, environment);
    EXPECT_EQ(r.status, 0) << environment << "\n" << r.output;
    EXPECT_EQ(r.output.find("software-gpu:"), r.output.npos) << environment << "\n" << r.output;
    EXPECT_TRUE(r.output.ends_with("right\n")) << environment << "\n" << r.output;
  }
}

TEST_P(Programs, AreRight) { expectRight(built("own")); }

TEST_P(Programs, FaultyTwinIsReported) {
  for (const char *environment : environments) {
    Result r = run(built("own") + " faulty", environment);
    // 1: the program has seen that its numbers are wrong.
    EXPECT_TRUE(r.status == faultStatus || r.status == 1) << environment << "\n" << r.output;
    EXPECT_NE(r.output.find(std::string("software-gpu: ") + GetParam().fault), r.output.npos)
        << environment << "\n"
        << r.output;
  }
}

// The same text, compiled with NVIDIA's cuda.h and linked with NVIDIA's libcuda.so.
TEST_P(Programs, BuiltForNvidiaAreRight) {
  if (built("nvidia").empty())
    GTEST_SKIP() << "NVIDIA's cuda.h and stub libcuda.so are not installed (/usr/local/cuda), or "
                    "the program opens the library itself";
  expectRight(built("nvidia"));
  Result r = run(built("nvidia") + " faulty", environments[0]);
  EXPECT_NE(r.output.find(std::string("software-gpu: ") + GetParam().fault), r.output.npos)
      << r.output;
}

// One seed gives one order of everything, and so the same text (but for host threads and addresses
// of the host, of which these programs print none).
TEST_P(Programs, OneSeedIsOneRun) {
  for (const char *environment :
       {"SOFTWARE_GPU_THREADS=1 SOFTWARE_GPU_SEED=9",
        "SOFTWARE_GPU_THREADS=1 SOFTWARE_GPU_SEED=9 SOFTWARE_GPU_COMPLETION=random"})
    EXPECT_EQ(run(built("own") + " faulty", environment).output,
              run(built("own") + " faulty", environment).output);
}

INSTANTIATE_TEST_SUITE_P(All, Programs,
                         testing::Values(Program{"vector_add", "out-of-bounds"},
                                         Program{"reduction", "race"}, Program{"gemm", "race"},
                                         Program{"histogram", "race"}, Program{"graph", "stream"},
                                         Program{"opened", "out-of-bounds"}),
                         [](const auto &info) { return std::string(info.param.name); });

//===----------------------------------------------------------------------===//
// The environment
//===----------------------------------------------------------------------===//

TEST(Environment, BadValuesEndTheProgram) {
  struct {
    const char *variable, *expected;
  } cases[] = {
      {"SOFTWARE_GPU_CHIP=sm_100", "SOFTWARE_GPU_CHIP=sm_100: expected sm_80 or sm_90"},
      {"SOFTWARE_GPU_DEVICES=0", "SOFTWARE_GPU_DEVICES=0: expected a whole number from 1 to 16"},
      {"SOFTWARE_GPU_MEMORY=12Q", "SOFTWARE_GPU_MEMORY=12Q: expected bytes"},
      {"SOFTWARE_GPU_SEED=x", "SOFTWARE_GPU_SEED=x: expected a whole number"},
      {"SOFTWARE_GPU_CHECKS=rase", "SOFTWARE_GPU_CHECKS=rase: expected a list"},
      {"SOFTWARE_GPU_COMPLETION=soon", "SOFTWARE_GPU_COMPLETION=soon: expected late"}};
  for (const auto &c : cases) {
    Result r = run("own/vector_add", c.variable);
    EXPECT_EQ(r.status, 2) << c.variable;
    EXPECT_NE(r.output.find(c.expected), r.output.npos) << r.output;
  }
}

TEST(Environment, ChipWithSuffixIsTheSameChip) {
  EXPECT_EQ(run("own/vector_add", "SOFTWARE_GPU_CHIP=sm_90a").output, "right\n");
}

TEST(Environment, ChecksCanBeTakenAway) {
  Result r = run("own/histogram faulty", "SOFTWARE_GPU_CHECKS=-race");
  EXPECT_EQ(r.output.find("software-gpu:"), r.output.npos) << r.output;
  r = run("own/histogram faulty", "SOFTWARE_GPU_CHECKS=race");
  EXPECT_NE(r.output.find("software-gpu: race"), r.output.npos) << r.output;
}

TEST(Environment, SeedIsNamed) {
  Result r = run("own/vector_add faulty", "SOFTWARE_GPU_SEED=4711");
  EXPECT_NE(r.output.find("\n  seed 4711\n"), r.output.npos) << r.output;
  EXPECT_NE(r.output.find("seed 4711 (SOFTWARE_GPU_SEED)"), r.output.npos) << r.output;
}

TEST(Environment, MemoryIsWhatADeviceHas) {
  // Three vectors of 4000 bytes fit into 1 MiB with their redzones.
  EXPECT_EQ(run("own/vector_add", "SOFTWARE_GPU_MEMORY=1M").output, "right\n");
}

TEST(Environment, ReportAndCountersAreJsonLines) {
  std::string folder = testing::TempDir() + "/software-gpu-" + std::to_string(getpid());
  std::filesystem::create_directories(folder);
  run("own/vector_add faulty",
      "SOFTWARE_GPU_REPORT=" + folder + "/report SOFTWARE_GPU_COUNTERS=" + folder + "/counters");
  auto lines = [](const std::string &path) {
    std::ifstream file(path);
    std::vector<std::string> all;
    for (std::string line; std::getline(file, line);)
      all.push_back(line);
    return all;
  };
  std::vector<std::string> report = lines(folder + "/report"),
                           counters = lines(folder + "/counters");
  ASSERT_FALSE(report.empty());
  EXPECT_EQ(report[0].find("{\"check\":\"out-of-bounds\""), 0u) << report[0];
  EXPECT_NE(report[0].find("\"kernel\":\"add_unbounded\""), report[0].npos) << report[0];
  ASSERT_EQ(counters.size(), 1u); // one launch
  EXPECT_NE(counters[0].find("\"kernel\":\"add_unbounded\""), counters[0].npos) << counters[0];
  std::filesystem::remove_all(folder);
}

} // namespace
