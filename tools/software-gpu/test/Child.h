//===- Child.h - Runs parts of a test in processes of their own -----*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A process that uses libcuda ends with status 86 if there was a fault, and reads the environment
// once: so each case is a child of the test. Expectations of gtest that fail in it make it end
// with status 1. The test itself never calls libcuda.
//===----------------------------------------------------------------------===//
#ifndef SGPU_TEST_CHILD_H
#define SGPU_TEST_CHILD_H

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <gtest/gtest.h>
#include <map>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace sgpu::test {

using Environment = std::map<std::string, std::string>;

/// Exit status (-1: killed) and all that it printed.
struct Outcome {
  int status = -1;
  std::string text;
};

/// Runs functions at the same time, each in its process.
inline std::vector<Outcome> inProcesses(const std::vector<std::function<void()>> &functions,
                                        const Environment &environment = {}) {
  std::fflush(nullptr);
  std::vector<std::FILE *> files;
  std::vector<pid_t> children;
  for (const auto &function : functions) {
    std::FILE *file = std::tmpfile();
    pid_t child = fork();
    if (child == 0) {
      dup2(fileno(file), 1);
      dup2(fileno(file), 2);
      std::setvbuf(stdout, nullptr, _IONBF, 0);
      for (const auto &[name, value] : environment)
        setenv(name.c_str(), value.c_str(), 1);
      auto parts = [] { // expectations that failed, those before the fork included
        return ::testing::UnitTest::GetInstance()
            ->current_test_info()
            ->result()
            ->total_part_count();
      };
      int before = parts();
      function();
      std::exit(parts() != before ? 1 : 0);
    }
    files.push_back(file);
    children.push_back(child);
  }
  std::vector<Outcome> outcomes;
  for (size_t i = 0; i < functions.size(); ++i) {
    Outcome outcome;
    int status = 0;
    waitpid(children[i], &status, 0);
    outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    std::rewind(files[i]);
    char buffer[4096];
    while (size_t n = std::fread(buffer, 1, sizeof buffer, files[i]))
      outcome.text.append(buffer, n);
    std::fclose(files[i]);
    outcomes.push_back(outcome);
  }
  return outcomes;
}
inline Outcome inProcess(const std::function<void()> &function,
                         const Environment &environment = {}) {
  return inProcesses({function}, environment)[0];
}

/// It went well and nothing was reported.
inline ::testing::AssertionResult isClean(const Outcome &outcome) {
  if (outcome.status == 0 && outcome.text.find("software-gpu:") == outcome.text.npos)
    return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "status " << outcome.status << "\n" << outcome.text;
}
/// These words were reported (each of them), nothing failed beside.
inline ::testing::AssertionResult isReported(const Outcome &outcome,
                                             const std::vector<std::string> &words) {
  bool found = outcome.status == 86;
  for (const std::string &word : words)
    found &= outcome.text.find(word) != outcome.text.npos;
  if (found)
    return ::testing::AssertionSuccess();
  auto result = ::testing::AssertionFailure() << "status " << outcome.status << ", expected 86 and";
  for (const std::string &word : words)
    result << " \"" << word << "\"";
  return result << "\n" << outcome.text;
}

} // namespace sgpu::test

#endif
