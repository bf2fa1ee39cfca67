//===- ShardTest.cpp - A grid of ranks computes what one rank does --------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A model is compiled twice, for one rank and sharded over a grid, its collectives taken
// out of the blocks. Both run a training step and a forward pass in f64 on the same
// drawn values: loss, logits and the gradient of every parameter have to agree.
//
//===----------------------------------------------------------------------===//
#include "Ranks.h"

#include "dialects/Dist/IR/Dist.h"
#include "dialects/Llama/IR/Llama.h"
#include "dialects/Routine/IR/Routine.h"
#include "llamac/Cost/Passes.h"
#include "llamac/Driver/Pipeline.h"
#include "llamac/Import/BuildModel.h"
#include "llamac/Import/ModelConfig.h"
#include "llamac/Lower/Passes.h"
#include "llamac/Lower/Target.h"
#include "llamac/Shard/Passes.h"

#include "mlir/Dialect/Shard/IR/ShardDialect.h"
#include "mlir/Dialect/Shard/IR/ShardOps.h"
#include "mlir/InitAllDialects.h"
#include "mlir/InitAllExtensions.h"

#include <gtest/gtest.h>
#include <random>

using namespace mlir;
using namespace llamac_test;

// Fixed by the project's promise on layouts.
static constexpr double kTolerance = 1e-10;

static MLIRContext &context() {
  static MLIRContext *context = [] {
    DialectRegistry registry;
    registerAllDialects(registry);
    registerAllExtensions(registry);
    registry.insert<llama::LlamaDialect, dist::DistDialect, routine::RoutineDialect>();
    llamac::registerRoutineBufferization(registry);
    llamac::registerObjectTranslations(registry);
    return new MLIRContext(registry);
  }();
  return *context;
}

namespace {

enum class Model { Text, Vision };

struct Case {
  Model model;
  std::string grid;
  std::string recompute = "none";
  std::string encoderShard = "images";
  std::vector<std::string> encoderAxes = {};
  int64_t batch = 2, images = 1;
  std::string trainable = "all";
  bool tiedEmbeddings = false;
};

// The training graph of one rank. Text: 4 heads, 2 of keys and values. Vision: 8 and 2,
// two cross-attention layers, 32 tokens of the encoder, or 96, which 3 ranks can share.
OwningOpRef<ModuleOp> trainingGraph(const Case &c) {
  std::string folder = LLRT_TEST_DATA_DIR "/../../numerics/golden/";
  auto config = llamac::readModelConfig(folder + (c.model == Model::Text ? "text" : "small") +
                                        "/config.json");
  if (!config)
    llvm::report_fatal_error(config.takeError());
  if (config->vision && c.grid == "pp=3")
    config->vision->tileSize = 4 * config->vision->patchSize;
  config->text.tiedEmbeddings = c.tiedEmbeddings;
  OwningOpRef<ModuleOp> module = llamac::buildModel(*config, &context());
  llamac::CompileOptions options;
  options.batch = c.batch;
  options.textLength = 16;
  options.images = c.model == Model::Text ? 0 : c.images;
  options.precision = "f64";
  options.recompute = c.recompute;
  options.trainable = c.trainable;
  PassManager pm(&context());
  llamac::buildPipeline(pm, options, llamac::Step::Import, llamac::Step::Train);
  EXPECT_TRUE(succeeded(pm.run(*module)));
  return module;
}

OwningOpRef<ModuleOp> shardedGraph(ModuleOp whole, const Case &c) {
  OwningOpRef<ModuleOp> module = whole.clone();
  PassManager pm(&context());
  llamac::ShardPassOptions options;
  options.grid = c.grid;
  options.encoderShard = c.encoderShard;
  options.encoderAxes = llvm::SmallVector<std::string>(c.encoderAxes.begin(), c.encoderAxes.end());
  pm.addPass(llamac::createShardPass(options));
  pm.addPass(llamac::createLocalizePass());
  pm.addPass(llamac::createSplitBlocksPass());
  EXPECT_TRUE(succeeded(pm.run(*module)));
  return module;
}

// Inputs that a loader could have made: two documents, padding, rows without image.
Ranks::Values drawInputs(ModuleOp module) {
  std::mt19937 generator(1);
  auto below = [&](int64_t bound) { return double(generator() % bound); };
  Ranks::Values inputs;
  auto step = module.lookupSymbol<func::FuncOp>("step");
  for (BlockArgument argument : step.getArguments()) {
    auto name = step.getArgAttrOfType<StringAttr>(argument.getArgNumber(), llama::kInputAttr).str();
    Tensor &tensor = inputs[name];
    tensor.shape = cast<RankedTensorType>(argument.getType()).getShape().vec();
    size_t elements = cast<RankedTensorType>(argument.getType()).getNumElements();
    int64_t tokens = tensor.shape.size() > 1 ? tensor.shape[1] : 1;
    for (size_t i = 0; i < elements; ++i) {
      int64_t token = i % tokens;
      double value = generator() / 4294967296.0 * 2 - 1; // pixels
      if (name == "input_ids")
        value = below(100); // 96 and above: extra rows
      else if (name == "labels")
        value = token % 5 == 3 ? -100 : below(96);
      else if (name == "positions" || name == "key_positions")
        value = token < 6 ? token : token - 6;
      else if (name == "documents" || name == "key_documents")
        value = token == 15 ? -2 : token < 6 ? 0 : 1;
      else if (name == "image_begin")
        value = token < 4 ? 1 : 0;
      else if (name == "image_end")
        value = 1;
      else if (name == "image_positions")
        value = token;
      else if (name == "tiles")
        value = 1 + below(4);
      else if (name == "aspect_ratio_ids")
        value = 1 + below(8);
      else if (name == "loss_gradient")
        value = 0.25;
      tensor.values.push_back(value);
    }
  }
  return inputs;
}

Ranks::Values drawParameters(ModuleOp module) {
  std::mt19937 generator(2);
  std::normal_distribution<double> normal;
  Ranks::Values parameters;
  for (auto parameter : module.getOps<llama::ParameterOp>()) {
    Tensor &tensor = parameters[parameter.getSymName().str()];
    tensor.shape = parameter.getTensorType().getShape().vec();
    for (int64_t i = 0, e = parameter.getTensorType().getNumElements(); i < e; ++i)
      tensor.values.push_back(tensor.shape.size() == 1 ? 1 + 0.3 * normal(generator)
                                                       : 0.3 * normal(generator));
  }
  return parameters;
}

// The largest error of an output or gradient, and whose it is.
std::pair<double, std::string> compare(const Ranks::Values &got, const Ranks::Values &want) {
  std::pair<double, std::string> worst = {0, ""};
  EXPECT_EQ(got.size(), want.size());
  for (const auto &[name, tensor] : want) {
    double norm = 0;
    for (double value : tensor.values)
      norm += value * value;
    EXPECT_GT(norm, 0) << name << " is zero: the test tests nothing";
    double error = got.count(name) ? relativeError(got.at(name), tensor) : INFINITY;
    if (!(error <= worst.first))
      worst = {error, name};
  }
  return worst;
}

void expectSame(const Case &c) {
  SCOPED_TRACE(c.grid + " recompute=" + c.recompute + " encoder by " + c.encoderShard);
  OwningOpRef<ModuleOp> module = trainingGraph(c), sharded = shardedGraph(*module, c);
  Ranks one(*module), many(*sharded);
  auto inputs = drawInputs(*module), parameters = drawParameters(*module);
  for (const char *graph : {"forward", "step"}) {
    auto [error, name] =
        compare(many.run(graph, inputs, parameters), one.run(graph, inputs, parameters));
    EXPECT_LT(error, kTolerance) << graph << ": " << name;
  }
}

} // namespace

TEST(Shard, TextTensorParallel) {
  for (const char *recompute : {"none", "selective", "full"})
    expectSame({Model::Text, "tp=2", recompute});
}

// 4 ranks share 2 heads of keys and values.
TEST(Shard, TextGroupedHeads) {
  expectSame({Model::Text, "tp=4"});
  expectSame({Model::Text, "tp=4", "full"});
}

TEST(Shard, TextContextParallel) {
  expectSame({Model::Text, "cp=2"});
  expectSame({Model::Text, "cp=4", "full"});
}

TEST(Shard, TextContextAndTensorParallel) {
  expectSame({Model::Text, "cp=2,tp=2"});
  expectSame({Model::Text, "cp=2,tp=4", "full"});
}

// The table's gradient is the sum of two, which have to be partial over the same axes.
TEST(Shard, TiedEmbeddings) {
  Case c = {Model::Text, "cp=2,tp=4"};
  c.tiedEmbeddings = true;
  expectSame(c);
}

TEST(Shard, Vision) {
  expectSame({Model::Vision, "tp=4", "full"});
  expectSame({Model::Vision, "cp=2,tp=2", "none", "images", {}, 1, 2});
}

TEST(Shard, EncoderByTokens) {
  expectSame({Model::Vision, "pp=3", "full", "tokens", {"pp"}, 1, 2});
  expectSame({Model::Vision, "tp=2", "none", "tokens", {"tp"}});
  expectSame({Model::Vision, "pp=2,tp=2", "full", "tokens", {"tp", "pp"}});
  expectSame({Model::Vision, "cp=2,tp=4", "none", "tokens", {"cp", "tp"}});
}

TEST(Shard, OnlyTheAdapterIsTrained) {
  Case c = {Model::Vision, "cp=2,tp=2", "none"};
  c.trainable = "adapter";
  expectSame(c);
}

// A sum that is left out anywhere shows: every reduce-scatter in turn becomes a slice.
TEST(Shard, AMissingSumIsFound) {
  Case c = {Model::Text, "cp=2,tp=2"};
  OwningOpRef<ModuleOp> module = trainingGraph(c), sharded = shardedGraph(*module, c);
  auto inputs = drawInputs(*module), parameters = drawParameters(*module);
  auto want = Ranks(*module).run("step", inputs, parameters);
  Ranks many(*sharded);
  SmallVector<shard::ReduceScatterOp> sums;
  sharded->lookupSymbol<func::FuncOp>("step").walk(
      [&](shard::ReduceScatterOp op) { sums.push_back(op); });
  ASSERT_GE(sums.size(), 10u);
  for (shard::ReduceScatterOp sum : sums) {
    OpBuilder b(sum);
    auto slice =
        shard::AllSliceOp::create(b, sum.getLoc(), sum.getType(), sum.getGridAttr(),
                                  sum.getGridAxesAttr(), sum.getInput(), sum.getScatterAxisAttr());
    sum.getResult().replaceAllUsesWith(slice.getResult());
    EXPECT_GT(compare(many.run("step", inputs, parameters), want).first, 1e-4);
    slice.getResult().replaceAllUsesWith(sum.getResult());
    slice.erase();
  }
}
