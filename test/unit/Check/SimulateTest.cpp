//===- SimulateTest.cpp - Bubbles of programs that the compiler made ------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A text model whose stages are equal, but for a head of one word, is compiled as far as
// the device program and executed on a machine on which only operations take time.
//
//===----------------------------------------------------------------------===//
#include "llamac/Cost/Simulate.h"
#include "llamac/Driver/Pipeline.h"
#include "llamac/Import/BuildModel.h"
#include "llamac/Import/ModelConfig.h"
#include "tools/llama-opt/Register.h"

#include <gtest/gtest.h>

using namespace mlir;
using namespace mlir::llamac;

namespace {

constexpr int kStages = 4;
constexpr const char *kMachine = LLRT_TEST_DATA_DIR "/../../bench/stages/operations.json";

struct Outcome {
  plan::Timeline timeline;
  double bubble; ///< idle seconds of a stage, the mean of all
};

FailureOr<Outcome> simulated(StringRef schedule, int microBatches, int chunks) {
  DialectRegistry registry;
  registerToolDialects(registry);
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  ModelConfig config = *builtinModel("llama3-8b");
  config.text.vocabulary = 1;
  config.text.layers = 2 * kStages;
  OwningOpRef<ModuleOp> module = buildModel(config, &context);
  CompileOptions options;
  options.batch = 8;
  options.images = 0;
  options.microBatches = microBatches;
  options.grid = "pp=" + std::to_string(kStages);
  options.schedule = schedule;
  options.virtualStages = chunks;
  options.machine = kMachine;
  recordOptions(*module, options);
  PassManager pm(&context);
  buildPipeline(pm, options, Step::Import, Step::Lower);
  if (failed(pm.run(*module)))
    return failure();
  FailureOr<Simulation> simulation = simulate(*module, "step", *findMachine(kMachine));
  if (failed(simulation))
    return failure();
  return Outcome{*timelineOf(*simulation), simulation->bubble() * simulation->seconds};
}

/// What a stage computes, and its times.
struct Times {
  double forward = 0, backward = 0, weight = 0; ///< of a micro-batch; weight is part of backward
  double idle = 0;                              ///< from the first action of all stages to the last
};

std::vector<Times> timesOf(const plan::Timeline &timeline, int microBatches) {
  double begin = timeline.seconds, end = 0;
  for (const auto &spans : timeline.stages) {
    begin = std::min(begin, spans.front().begin);
    end = std::max(end, spans.back().end);
  }
  std::vector<Times> result;
  for (const auto &spans : timeline.stages) {
    Times &times = result.emplace_back();
    times.idle = end - begin;
    for (const plan::Span &span : spans) {
      double seconds = span.end - span.begin;
      times.idle -= seconds;
      (span.action.work == plan::Work::Forward ? times.forward : times.backward) +=
          seconds / microBatches;
      if (span.action.work == plan::Work::BackwardWeight)
        times.weight += seconds / microBatches;
    }
  }
  return result;
}

// F forward, B whole backward, W its weight half of a stage; p stages of v chunks: idle time is
// (p-1)(F+B) for GPipe and 1F1B, that / v interleaved, and (p-1)(F+B-2W) for ZB-H1.
// They leave out the sum of the losses: an entry of 1 ns, the least, for each micro-batch.
// Source: arXiv 2401.10241 table 1, arXiv 2104.04473 section 2.2.
TEST(Simulate, BubblesOfCompiledProgramsEqualClosedFormulas) {
  for (const char *schedule : {"gpipe", "1f1b", "interleaved", "zero-bubble"})
    for (int m : {kStages, 3 * kStages}) {
      SCOPED_TRACE(schedule + (" " + std::to_string(m)));
      const double losses = 1e-9 * m; // seconds
      bool zeroBubble = schedule == StringRef("zero-bubble");
      int chunks = schedule == StringRef("interleaved") ? 2 : 1;
      FailureOr<Outcome> step = simulated(schedule, m, chunks);
      ASSERT_TRUE(succeeded(step));
      std::vector<Times> stages = timesOf(step->timeline, m);
      ASSERT_EQ(stages.size(), size_t(kStages));
      const Times &first = stages[0];
      if (zeroBubble) { // what the formula asks for
        EXPECT_GT(first.weight, 0);
        EXPECT_LE(first.weight, std::min(first.forward, first.backward - first.weight));
      }
      double expected = (kStages - 1) *
                        (first.forward + first.backward - (zeroBubble ? 2 * first.weight : 0)) /
                        chunks;
      for (const Times &times : stages) {
        EXPECT_NEAR(times.forward, first.forward, 1e-4 * first.forward);
        EXPECT_NEAR(times.backward, first.backward, 1e-4 * first.backward);
        EXPECT_NEAR(times.idle, expected, 1e-4 * expected + losses);
      }
      // The update comes after it, at one time on all stages.
      EXPECT_NEAR(step->bubble, expected, 1e-4 * expected + losses);
    }
}

} // namespace
