//===- ProgramsTest.cpp - Runs the small programs ---------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include <gtest/gtest.h>

#include <cstdio>
#include <string>
#include <sys/wait.h>

namespace {

struct Result {
  int status;
  std::string output;
};

/// Runs a program with our libcuda.so.1 and variables of the environment.
Result run(const std::string &program, const std::string &environment) {
  std::string command = "LD_LIBRARY_PATH=" SGPU_LIBRARY_DIR " " + environment + " " SGPU_PROGRAM_DIR
                        "/software-gpu-program-" + program + " 2>&1";
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

class Programs : public testing::TestWithParam<Program> {};

constexpr const char *environments[] = {
    "SOFTWARE_GPU_SEED=1", "SOFTWARE_GPU_SEED=2", "SOFTWARE_GPU_SEED=3 SOFTWARE_GPU_COMPLETION=random",
    "SOFTWARE_GPU_SEED=4 SOFTWARE_GPU_COMPLETION=early SOFTWARE_GPU_CHIP=sm_80"};

TEST_P(Programs, AreRight) {
  for (const char *environment : environments) {
    Result r = run(GetParam().name, environment);
    EXPECT_EQ(r.status, 0) << environment << "\n" << r.output;
    EXPECT_EQ(r.output.find("software-gpu:"), r.output.npos) << environment << "\n" << r.output;
    EXPECT_NE(r.output.find("right"), r.output.npos) << r.output;
  }
}

TEST_P(Programs, FaultyTwinIsReported) {
  for (const char *environment : environments) {
    Result r = run(std::string(GetParam().name) + " faulty", environment);
    EXPECT_NE(r.status, 0) << environment << "\n" << r.output;
    EXPECT_NE(r.output.find(std::string("software-gpu: ") + GetParam().fault), r.output.npos)
        << environment << "\n" << r.output;
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, Programs,
    testing::Values(Program{"vector_add", "out-of-bounds"}, Program{"reduction", "race"},
                    Program{"gemm", "race"}, Program{"histogram", "race"}, Program{"graph", "stream"}),
    [](const auto &info) { return std::string(info.param.name); });

} // namespace
