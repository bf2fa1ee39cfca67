//===- InputsTest.cpp - What a rank reads of the global batch -------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "../Data/TestFiles.h"

#include "src/Commands/Inputs.h"
#include "src/Control/InProcess.h"
#include "src/Host/HostDevice.h"
#include "src/Transport/Threads.h"

#include <numeric>

using namespace llrt;
using namespace llrt::test;

namespace {

constexpr int64_t Tokens = 24, Images = 3,
                  Pixels = 4; // of a sample, of an image

// A program on dp 2, pp 2, cp 2, tp 3 with batch 2 and 2 micro-batches: a
// global batch of 8 samples of 24 tokens and 3 images.
struct Job {
  Program program = {};
  ModelInputs inputs;
  std::vector<int64_t> logitTokens;

  Job() {
    program.batch = 2;
    program.microBatches = 2;
    program.textLength = Tokens;
    program.images = Images;
    program.precision = "f32";
    program.grid.axes = {{"dp", 2}, {"pp", 2}, {"cp", 2}, {"tp", 3}};
    for (int stage : {0, 1}) {
      (void)stage;
      program.stages.emplace_back().arenas.push_back({"all", 1 << 16, {{"p", 1 << 16}}});
      program.stages.back().graphs["g"];
    }
    // Token s of sample b is 100 * b + s, image m of it 10 * b + m.
    inputs.shape.samples = 8;
    for (int64_t b = 0; b < 8; ++b) {
      for (int64_t s = 0; s < Tokens; ++s)
        for (auto *list : {&inputs.inputIds, &inputs.positions})
          list->push_back(100 * b + s);
      for (int64_t m = 0; m < Images; ++m) {
        inputs.tiles.push_back(10 * b + m);
        inputs.pixels.insert(inputs.pixels.end(), Pixels, float(10 * b + m));
      }
    }
  }

  // What rank `number` has in input `name` for run `microBatch`.
  template <typename T = int64_t>
  std::vector<T> fill(const char *name, std::vector<int64_t> shape, Split split, int64_t number,
                      int64_t microBatch, std::optional<Input::Images> images = {}) {
    Input input;
    input.name = name;
    input.type = sizeof(T) == 8 ? LLRT_I64 : LLRT_F32;
    input.shape = std::move(shape);
    input.address = {0, 0};
    input.split = std::move(split);
    input.images = images;
    Stage &stage = program.stages[program.stageOf(number)];
    stage.inputs = {input};
    stage.graphs["g"].inputs = {0};
    InProcess control(program.grid.ranks());
    Threads threads(program.grid.ranks());
    Rank rank(program, number, 1,
              std::make_unique<HostDevice>(program, number, 1, threads.of(number),
                                           control.of(number), std::chrono::seconds(1)),
              {"p"});
    setInputs(rank, stage.graphs["g"], inputs, microBatch, 0.25, logitTokens);
    return rank.readValues<T>(input.address, input.elements());
  }

  int64_t rankAt(int64_t dp, int64_t pp, int64_t cp, int64_t tp) const {
    return ((dp * 2 + pp) * 2 + cp) * 3 + tp;
  }
};

// Chunk i and chunk 2n - 1 - i go together.
TEST(Inputs, TokenOrder) {
  EXPECT_EQ(tokenOrder(4, 1), (std::vector<int64_t>{0, 1, 2, 3}));
  EXPECT_EQ(tokenOrder(8, 2), (std::vector<int64_t>{0, 1, 6, 7, 2, 3, 4, 5}));
  EXPECT_EQ(tokenOrder(8, 4), (std::vector<int64_t>{0, 7, 1, 6, 2, 5, 3, 4}));
}

// Sample i of micro-batch m of dp coordinate d is (d * M + m) * batch + i; rank
// c of cp has chunks c and 2n - 1 - c.
TEST(Inputs, SamplesAndChunks) {
  Job job;
  auto want = [](std::vector<int64_t> samples, std::vector<int64_t> places) {
    std::vector<int64_t> values;
    for (int64_t b : samples)
      for (int64_t s : places)
        values.push_back(100 * b + s);
    return values;
  };
  std::vector<int64_t> outer(12), inner(12); // chunks 0 and 3, 1 and 2 of 6
  std::iota(outer.begin(), outer.begin() + 6, 0);
  std::iota(outer.begin() + 6, outer.end(), 18);
  std::iota(inner.begin(), inner.end(), 6);
  Split cp = {{}, {2}};
  EXPECT_EQ(job.fill("input_ids", {2, 12}, cp, job.rankAt(0, 0, 0, 1), 0), want({0, 1}, outer));
  EXPECT_EQ(job.fill("input_ids", {2, 12}, cp, job.rankAt(1, 1, 1, 0), 1), want({6, 7}, inner));
  // Split over tp as well: a contiguous third of the chunks.
  EXPECT_EQ(job.fill("positions", {2, 4}, {{}, {2, 3}}, job.rankAt(0, 0, 0, 1), 1),
            want({2, 3}, {4, 5, 18, 19}));
  // Keys are whole, in the order of all chunks.
  std::vector<int64_t> all = outer;
  all.insert(all.end(), inner.begin(), inner.end());
  for (int64_t c : {0, 1})
    EXPECT_EQ(job.fill("key_positions", {2, 24}, {}, job.rankAt(0, 0, c, 0), 0), want({0, 1}, all));
}

// Places in the sequence become numbers in the order of the chunks, the same for each sample; -1 is none.
TEST(Inputs, TokensWhoseLogitsAreWanted) {
  Job job;
  job.logitTokens = {0, 6, 23};
  // Chunks of 6 come in the order 0, 3, 1, 2.
  EXPECT_EQ(job.fill("logit_tokens", {2, 4}, {}, job.rankAt(1, 1, 1, 2), 1),
            (std::vector<int64_t>{0, 12, 11, -1, 0, 12, 11, -1}));
  EXPECT_EQ(
      errorOf([&] { job.fill("logit_tokens", {4, 2}, {}, 0, 0); }),
      "the program in this executable: input 'logit_tokens': expected shape [2, K], got [4, 2] "
      "of i64");
}

// Images of a group of micro-batches, split over pp and tp and filled up.
TEST(Inputs, Images) {
  Job job;
  // Whole: [B, M] of the micro-batch.
  EXPECT_EQ(job.fill("tiles", {2, 3}, {}, job.rankAt(1, 0, 1, 2), 1),
            (std::vector<int64_t>{60, 61, 62, 70, 71, 72}));
  // Two micro-batches have 12 images, 2 for each of the 6 ranks of pp x tp.
  Input::Images pair = {{1, 3}, 2};
  EXPECT_EQ(job.fill("tiles", {2}, {}, job.rankAt(0, 0, 1, 0), 0, pair),
            (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(job.fill("tiles", {2}, {}, job.rankAt(1, 1, 0, 2), 0, pair),
            (std::vector<int64_t>{71, 72}));
  EXPECT_EQ(job.fill<float>("pixels", {2, Pixels}, {}, job.rankAt(0, 1, 0, 0), 0, pair),
            (std::vector<float>{20, 20, 20, 20, 21, 21, 21, 21}));
  // One micro-batch has 6: over tp only, padded to 3 for each.
  Input::Images single = {{3}, 1};
  EXPECT_EQ(job.fill("tiles", {3}, {}, job.rankAt(0, 0, 0, 1), 1, single),
            (std::vector<int64_t>{30, 31, 32}));
  EXPECT_EQ(job.fill("tiles", {3}, {}, job.rankAt(0, 0, 0, 2), 1, single),
            (std::vector<int64_t>{1, 1, 1})); // images that are not there
  Input::Images uneven = {{1, 3}, 1};         // 6 images over 6 ranks with room for 4
  EXPECT_EQ(job.fill<float>("encoder:pixels", {4, Pixels}, {}, job.rankAt(0, 0, 0, 1), 0, uneven),
            (std::vector<float>{11, 11, 11, 11, 12, 12, 12, 12, //
                                0, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_ERROR(job.fill("tiles", {1}, {}, 0, 0, single),
               "input 'tiles': expected room for the 6 images of a group, got "
               "[1] of i64");
}

TEST(Inputs, Coordinates) {
  Job job;
  EXPECT_EQ(job.fill("coordinate:tp", {1}, {}, job.rankAt(1, 0, 1, 2), 0),
            (std::vector<int64_t>{2}));
  EXPECT_EQ(job.fill("coordinate:cp,tp", {1}, {}, job.rankAt(1, 0, 1, 2), 0),
            (std::vector<int64_t>{5}));
  // Tokens of an image are split without chunks.
  EXPECT_EQ(job.fill("image_positions", {1, 3}, {{}, {2}}, job.rankAt(0, 0, 1, 0), 0),
            (std::vector<int64_t>{3, 4, 5}));
  EXPECT_EQ(job.fill<float>("loss_gradient", {1}, {}, 0, 0), (std::vector<float>{0.25}));
  EXPECT_ERROR(job.fill("coordinate:xp", {1}, {}, 0, 0),
               "expected names of axes behind 'coordinate:'");
  EXPECT_ERROR(job.fill("nonsense", {1}, {}, 0, 0), "unknown input 'nonsense'");
  EXPECT_ERROR(job.fill("input_ids", {2, 24}, {{}, {2}}, 0, 0),
               "input 'input_ids': expected [2, 12], got [2, 24]");
}

} // namespace
