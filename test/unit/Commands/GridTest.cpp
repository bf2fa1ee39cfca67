//===- GridTest.cpp - Commands on grids of ranks --------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "GridProgram.h"

#include <cmath>

using namespace llrt;
using namespace llrt::test;
using nlohmann::json;

namespace {

// A folder with weights and a batch of 8 samples.
struct Files : Folder {
  Files() {
    writeTensors(*this / "w.safetensors", gridWeights());
    writeBatch(*this / "b.safetensors", {3, 5, 0, 7, 1, 4, 6, 2});
  }

  // `step`, all that it writes to NAME.g, .u and .l.
  std::vector<std::string> step(const std::string &name,
                                std::vector<std::string> more = {}) {
    std::vector<std::string> words = {"step",
                                      "--weights=" + (*this / "w.safetensors"),
                                      "--batch=" + (*this / "b.safetensors"),
                                      "--steps=2",
                                      "--clip=0.5",
                                      "--weight-decay=0.1",
                                      "--gradients=" + (*this / name) + ".g",
                                      "--updated=" + (*this / name) + ".u",
                                      "--logits=" + (*this / name) + ".l"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }

  Tensors results(const std::string &name) {
    Tensors all;
    for (const char *part : {".g", ".u", ".l"})
      for (auto &[key, values] : readTensors(*this / name + part))
        all[part + key] = values;
    return all;
  }
};

double distance(const std::vector<double> &a, const std::vector<double> &b) {
  double sum = 0;
  EXPECT_EQ(a.size(), b.size());
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum);
}

// The lines of `step` without the time.
std::vector<json> linesOf(const std::string &text) {
  std::vector<json> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    lines.push_back(json::parse(line));
    lines.back().erase("seconds");
  }
  return lines;
}

// Each has a global batch of 8: dp x micro-batches x batch.
const GridSizes single = {.batch = 8}, grids[] = {
    {.dp = 2, .batch = 2, .microBatches = 2},
    {.tp = 2, .batch = 4, .microBatches = 2},
    {.cp = 2, .batch = 4, .microBatches = 2},
    {.pp = 2, .batch = 2, .microBatches = 4},
    {.dp = 2, .batch = 4, .shard = 1},
    {.dp = 2, .cp = 2, .batch = 2, .microBatches = 2, .shard = 2},
    {.dp = 2, .pp = 2, .cp = 2, .tp = 2, .batch = 2, .microBatches = 2},
    {.dp = 2, .pp = 2, .tp = 4, .batch = 1, .microBatches = 4, .shard = 1},
};

// Loss, gradients, updated weights and logits do not depend on the grid.
TEST(Grid, EveryGridGivesWhatOneRankGives) {
  Files files;
  Outcome one = runThreads(single, files.step("one"));
  ASSERT_EQ(one.status, 0) << one.err;
  Tensors want = files.results("one");
  EXPECT_EQ(want.size(), 9u);
  std::vector<json> wantLines = linesOf(one.out);
  ASSERT_EQ(wantLines.size(), 2u);
  EXPECT_NE(wantLines[0]["loss"], wantLines[1]["loss"]);
  for (const GridSizes &grid : grids) {
    SCOPED_TRACE(grid.text());
    Outcome outcome = runThreads(grid, files.step("many"));
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    std::vector<json> lines = linesOf(outcome.out);
    ASSERT_EQ(lines.size(), 2u);
    for (size_t i : {0, 1})
      for (const char *field : {"loss", "tokens", "gradient_norm"})
        EXPECT_NEAR(lines[i][field], wantLines[i][field], 1e-12) << field;
    for (auto &[name, values] : files.results("many")) {
      double norm = distance(values, std::vector<double>(values.size()));
      EXPECT_GT(norm, 0) << name;
      EXPECT_LT(distance(values, want[name]), 1e-12 * norm) << name;
    }
  }
}

// The gradient along a direction is the slope of the loss along it.
TEST(Grid, GradientsAreTheSlopeOfTheLoss) {
  Files files;
  GridSizes grid = grids[6];
  std::map<std::string, FloatTensor> weights = gridWeights();
  Outcome here = runThreads(grid, files.step("x"));
  ASSERT_EQ(here.status, 0) << here.err;
  Tensors gradients = readTensors(files / "x.g");
  double slope = 0, h = 1e-3;
  for (auto &[name, tensor] : weights)
    for (size_t i = 0; i < tensor.values.size(); ++i) {
      // As moved, after rounding to the f32 of the file.
      float before = tensor.values[i];
      tensor.values[i] += float(h * std::cos(double(i) * 3.1));
      slope += (double(tensor.values[i]) - before) * gradients[name][i];
    }
  writeTensors(files / "w.safetensors", weights);
  Outcome there = runThreads(grid, files.step("x"));
  double moved = double(linesOf(there.out)[0]["loss"]) -
                 double(linesOf(here.out)[0]["loss"]);
  EXPECT_NEAR(moved, slope, 0.02 * std::fabs(slope));
  EXPECT_GT(std::fabs(slope), 1e-5);
}

// Threads and MPI give the same bits.
TEST(Grid, ProcessesGiveTheBitsOfThreads) {
  Files files;
  for (size_t i : {0, 3, 5, 6}) {
    SCOPED_TRACE(grids[i].text());
    Outcome threads = runThreads(grids[i], files.step("threads"));
    Outcome mpi = runMpi(grids[i], files.step("mpi"));
    ASSERT_EQ(threads.status, 0) << threads.err;
    ASSERT_EQ(mpi.status, 0) << mpi.err;
    EXPECT_EQ(linesOf(mpi.out), linesOf(threads.out)); // only rank 0 prints
    for (const char *part : {".g", ".u", ".l"})
      EXPECT_EQ(readAll(files / "mpi" + part),
                readAll(files / "threads" + part))
          << part;
  }
}

} // namespace
