//===- BlockCostsTest.cpp - Seconds of blocks -----------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Cost/BlockCosts.h"
#include "llamac/Driver/Pipeline.h"
#include "llamac/Import/BuildModel.h"
#include "llamac/Import/ModelConfig.h"
#include "llamac/Import/Statistics.h"
#include "llamac/Shard/Passes.h"
#include "llamac/Train/Passes.h"

#include "dialects/Llama/IR/Llama.h"
#include "mlir/Dialect/Shard/IR/ShardDialect.h"
#include "mlir/Parser/Parser.h"

#include <gtest/gtest.h>

using namespace mlir;
using namespace mlir::llamac;

namespace {

// 100 operations and 10 bytes a second, half of that reached; a launch takes 1000 s.
// Servers of 4, 8 bytes a second between two GPUs of one, 1 between others.
Machine slowMachine() {
  Machine machine = *findMachine("cpu");
  machine.peak = {100, 100, 100};
  machine.memoryBandwidth = 10;
  machine.launchSeconds = 1000;
  machine.efficiency = {0.5, 0.5, 0.25, 0.5};
  machine.gpusPerServer = 4;
  machine.insideServer = {3, 8};
  machine.betweenServers = {30, 1};
  return machine;
}

double seconds(const std::string &block, CostRule rule) {
  MLIRContext context(MLIRContext::Threading::DISABLED);
  context.loadDialect<llama::LlamaDialect, mlir::shard::ShardDialect>();
  auto module = parseSourceString<ModuleOp>(block, &context);
  EXPECT_TRUE(module);
  return module ? blockSeconds(*module->getOps<func::FuncOp>().begin(), slowMachine(), rule) : 0;
}

// 2 * 4 * 8 * 16 operations; f32 tensors of 4 x 8, 16 x 8 and 4 x 16.
constexpr double kOperations = 1024, kBytes = 4 * (32 + 128 + 64);

TEST(BlockCosts, TheLongerOfOperationsAndBytes) {
  const std::string linear = R"mlir(
    func.func private @linear(%x: tensor<4x8xf32>, %w: tensor<16x8xf32>) -> tensor<4x2x8xf32> {
      %y = llama.linear %x, %w {accumulation = f32} : (tensor<4x8xf32>, tensor<16x8xf32>) -> tensor<4x16xf32>
      %h = llama.split_heads %y {head_size = 8 : i64} : (tensor<4x16xf32>) -> tensor<4x2x8xf32>
      return %h : tensor<4x2x8xf32>
    })mlir";
  EXPECT_DOUBLE_EQ(seconds(linear, CostRule::Operations), kOperations / 100);
  // Bytes take longer; the view is free.
  EXPECT_DOUBLE_EQ(seconds(linear, CostRule::Roofline), kBytes / 5 + 1000);
}

// The sum so far is read; the product writes the new one.
TEST(BlockCosts, ASumInPlaceIsPartOfTheProduct) {
  EXPECT_DOUBLE_EQ(seconds(R"mlir(
    func.func private @weight(%dy: tensor<4x16xf32>, %x: tensor<4x8xf32>, %sum: tensor<16x8xf32>) -> (tensor<16x8xf32> {llama.in_place = 2 : i64}) {
      %dw = llama.linear_dw %dy, %x {accumulation = f32} : (tensor<4x16xf32>, tensor<4x8xf32>) -> tensor<16x8xf32>
      %0 = llama.add %sum, %dw : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
      return %0 : tensor<16x8xf32>
    })mlir",
                           CostRule::Roofline),
                   kBytes / 5 + 4 * 128 / 5. + 1000);
}

// A sum over a large table costs what the tokens' rows cost: 3 rows of 4 channels
// are read, and twice moved in the sum; 3 ids.
TEST(BlockCosts, AnEmbeddingTouchesTheRowsOfItsTokens) {
  EXPECT_DOUBLE_EQ(seconds(R"mlir(
    func.func private @rows(%dh: tensor<3x4xf32>, %ids: tensor<3xi64>, %sum: tensor<1000x4xf32>) -> (tensor<1000x4xf32> {llama.in_place = 2 : i64}) {
      %d = llama.embed_grad %dh, %ids {rows = 1000 : i64, offset = 0 : i64, accumulation = f32} : (tensor<3x4xf32>, tensor<3xi64>) -> tensor<1000x4xf32>
      %0 = llama.add %sum, %d : (tensor<1000x4xf32>, tensor<1000x4xf32>) -> tensor<1000x4xf32>
      return %0 : tensor<1000x4xf32>
    })mlir",
                           CostRule::Roofline),
                   (3 * 48 + 24) / 5. + 1000);
}

// Of 64 bytes each of four ranks sends its quarter to three others; of two ranks in
// different servers half to one.
TEST(BlockCosts, CollectivesTakeTheTimeOfTheirLinks) {
  const std::string blocks = R"mlir(
    shard.grid @grid(shape = 2x4)
    func.func private @collectives(%x: tensor<4xf32>, %y: tensor<16xf32>) -> tensor<8xf32> {
      %0 = shard.all_gather %x on @grid grid_axes = [1] gather_axis = 0 : tensor<4xf32> -> tensor<16xf32>
      %1 = shard.all_reduce %y on @grid grid_axes = [1] : tensor<16xf32> -> tensor<16xf32>
      %2 = shard.reduce_scatter %y on @grid grid_axes = [0] scatter_axis = 0 : tensor<16xf32> -> tensor<8xf32>
      return %2 : tensor<8xf32>
    })mlir";
  EXPECT_DOUBLE_EQ(seconds(blocks, CostRule::Roofline), 3 * (3 + 48 / 8.) + (30 + 32));
  EXPECT_EQ(seconds(blocks, CostRule::Operations), 0);
}

//===----------------------------------------------------------------------===//
// A training graph
//===----------------------------------------------------------------------===//

struct Graph {
  explicit Graph(const char *trainable) : context(MLIRContext::Threading::DISABLED) {
    options.trainable = trainable;
    module = buildModel(*builtinModel("llama3-8b-vision"), &context);
    statistics = module->clone();
    PassManager passes(&context);
    buildPipeline(passes, options, Step::Import, Step::Train);
    EXPECT_TRUE(succeeded(passes.run(*module)));
  }
  std::vector<ApplicationCost> costs(CostRule rule) {
    Machine machine = *findMachine("h100-sxm");
    machine.peak = {1, 1, 1}; // seconds are operations
    auto result = applicationCosts(*module, machine, rule);
    EXPECT_TRUE(succeeded(result));
    return succeeded(result) ? *result : std::vector<ApplicationCost>();
  }
  MLIRContext context;
  CompileOptions options;
  OwningOpRef<ModuleOp> module, statistics;
};

// All operations of the forward are there, each in its part of the model.
TEST(ApplicationCosts, ForwardsAreThoseOfTheModel) {
  Graph graph("all");
  PassManager passes(&graph.context);
  passes.addPass(createSpecializePass({1, graph.options.textLength, 1}));
  ASSERT_TRUE(succeeded(passes.run(*graph.statistics)));
  auto counts = countOperations(*graph.statistics);
  ASSERT_TRUE(succeeded(counts));
  plan::BalanceModel model = balanceModel(graph.costs(CostRule::Operations));
  double text = 0, keyValue = 0;
  for (const plan::BlockCost &block : model.blocks)
    text += block.forward;
  for (const plan::MicroBatchTimes &side : model.keyValue)
    keyValue += side.forward;
  EXPECT_EQ(model.encoder.forward, counts->encoder + counts->projector);
  EXPECT_EQ(keyValue, counts->crossKeyValue);
  EXPECT_EQ(text, counts->cross + counts->text + counts->head);
}

// 40 layers between embedding and head; a product has two backward products, and
// attention twice its operations.
TEST(ApplicationCosts, TheChainIsTheTextModel) {
  plan::BalanceModel model = balanceModel(Graph("all").costs(CostRule::Operations));
  ASSERT_EQ(model.blocks.size(), 42u);
  EXPECT_EQ(model.blocks.front().kind, "embedding");
  EXPECT_EQ(model.blocks[1].name, "language_model.model.layers.0.");
  EXPECT_EQ(model.blocks[4].kind, "cross_layer");
  EXPECT_GT(model.keyValue[4].forward, 0);
  EXPECT_EQ(model.keyValue[1].forward, 0);
  const plan::BlockCost &head = model.blocks.back();
  EXPECT_EQ(head.kind, "head");
  EXPECT_EQ(head.backwardInput, head.forward);
  EXPECT_EQ(head.backwardWeight, head.forward);
  EXPECT_EQ(model.blocks[1].backwardInput + model.blocks[1].backwardWeight,
            2 * model.blocks[1].forward);
}

// A frozen layer has no weight half and no optimizer; below the first trainable one
// there is no backward at all.
TEST(ApplicationCosts, FrozenLayersCostLess) {
  plan::BalanceModel model =
      balanceModel(Graph("adapter-without-rows").costs(CostRule::Operations));
  for (size_t layer : {1, 2, 3}) {
    EXPECT_EQ(model.blocks[layer].backwardInput, 0);
    EXPECT_EQ(model.blocks[layer].residualBytes, 0);
  }
  EXPECT_GT(model.blocks[5].backwardInput, 0);
  EXPECT_EQ(model.blocks[5].backwardWeight, 0);
  EXPECT_EQ(model.blocks[5].optimizerBytes, 0);
  EXPECT_GT(model.blocks[5].residualBytes, 0);
  EXPECT_GT(model.blocks[4].backwardWeight, 0);
}

// bf16 weights with f32 gradients; master and moments in f32.
TEST(ApplicationCosts, BytesOfALayer) {
  plan::BalanceModel model = balanceModel(Graph("all").costs(CostRule::Operations));
  int64_t width = 4096, keys = 1024, feedForward = 14336;
  int64_t parameters = 2 * width * width + 2 * width * keys + 3 * width * feedForward + 2 * width;
  EXPECT_EQ(model.blocks[1].parameterBytes, parameters * (2 + 4));
  EXPECT_EQ(model.blocks[1].optimizerBytes, parameters * 12);
}

// Cut at their collectives, blocks cost what they cost before; half of the heads and
// half of the tokens is half of the operations.
TEST(ApplicationCosts, AreThoseOfBlocksCutAtTheirCollectives) {
  Graph graph("adapter");
  auto whole = graph.costs(CostRule::Operations);
  auto run = [&](std::unique_ptr<Pass> pass) {
    PassManager passes(&graph.context);
    passes.addPass(std::move(pass));
    EXPECT_TRUE(succeeded(passes.run(*graph.module)));
  };
  ShardPassOptions sharding;
  sharding.grid = "tp=2";
  run(createShardPass(sharding));
  run(createLocalizePass());
  auto operations = graph.costs(CostRule::Operations), local = graph.costs(CostRule::Roofline);
  run(createSplitBlocksPass());
  auto split = graph.costs(CostRule::Roofline);
  ASSERT_EQ(split.size(), local.size());
  for (size_t i = 0; i < split.size(); ++i) {
    const plan::BlockCost &got = split[i].cost, &want = local[i].cost;
    EXPECT_EQ(got.kind, want.kind);
    EXPECT_EQ(got.name, want.name);
    EXPECT_EQ(split[i].part, local[i].part);
    EXPECT_NEAR(got.forward, want.forward, 1e-12 * want.forward) << got.name;
    EXPECT_EQ(got.parameterBytes, want.parameterBytes) << got.name;
    EXPECT_EQ(got.optimizerBytes, want.optimizerBytes) << got.name;
    if (split[i].part != "encoder")
      EXPECT_EQ(operations[i].cost.seconds(), whole[i].cost.seconds() / 2) << got.name;
  }
}

// Each block takes at least as long as its operations alone.
TEST(ApplicationCosts, RooflineIsNotFaster) {
  Graph graph("all");
  auto operations = graph.costs(CostRule::Operations), roofline = graph.costs(CostRule::Roofline);
  ASSERT_EQ(operations.size(), roofline.size());
  for (size_t i = 0; i < roofline.size(); ++i)
    EXPECT_GE(roofline[i].cost.seconds(), operations[i].cost.seconds()) << i;
}

TEST(ApplicationCosts, RefusesAGraphWithoutTags) {
  MLIRContext context(MLIRContext::Threading::DISABLED);
  ScopedDiagnosticHandler quiet(&context, [](Diagnostic &) { return success(); });
  OwningOpRef<ModuleOp> module = buildModel(*builtinModel("llama3-8b"), &context);
  EXPECT_TRUE(failed(applicationCosts(*module, *findMachine("cpu"), CostRule::Operations)));
}

} // namespace
