//===- CostTest.cpp - Operations that the llama ops count -----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "dialects/Llama/IR/Llama.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Parser/Parser.h"

#include <gtest/gtest.h>

using namespace mlir;

// Operations of all ops of a function body with these arguments.
static int64_t operations(const std::string &arguments, const std::string &body) {
  MLIRContext context(MLIRContext::Threading::DISABLED);
  context.loadDialect<llama::LlamaDialect>();
  auto module = parseSourceString<ModuleOp>(
      "func.func @f(" + arguments + ") {\n" + body + "\nreturn }", &context);
  EXPECT_TRUE(module);
  int64_t sum = 0;
  if (module)
    module->walk([&](llama::CostOpInterface op) { sum += op.countOperations(); });
  return sum;
}

// 6 rows, 8 channels in, 5 out: 2 * 6 * 8 * 5 each.
TEST(Cost, LinearCountsTwoPerMultiplication) {
  const std::string arguments =
      "%x: tensor<2x3x8xf32>, %w: tensor<5x8xf32>, %dy: tensor<2x3x5xf32>";
  EXPECT_EQ(operations(arguments, "%y = llama.linear %x, %w {accumulation = f32} : "
                                  "(tensor<2x3x8xf32>, tensor<5x8xf32>) -> tensor<2x3x5xf32>"),
            480);
  EXPECT_EQ(operations(arguments, "%y = llama.linear_dx %dy, %w {accumulation = f32} : "
                                  "(tensor<2x3x5xf32>, tensor<5x8xf32>) -> tensor<2x3x8xf32>"),
            480);
  EXPECT_EQ(operations(arguments, "%y = llama.linear_dw %dy, %x {accumulation = f32} : "
                                  "(tensor<2x3x5xf32>, tensor<2x3x8xf32>) -> tensor<5x8xf32>"),
            480);
}

// 4 S T H D of each of B = 2 samples, S = 3, T = 6, H = 4, D = 5; the gradient twice that.
TEST(Cost, AttentionCountsEveryKeyOfEveryQuery) {
  const std::string q = "tensor<2x3x4x5xf32>", k = "tensor<2x6x2x5xf32>", lse = "tensor<2x3x4xf32>",
                    ids = "tensor<2x3xi64>", keyIds = "tensor<2x6xi64>",
                    masks = ids + ", " + ids + ", " + keyIds + ", " + keyIds;
  const std::string arguments =
      "%q: " + q + ", %k: " + k + ", %l: " + lse + ", %p: " + ids + ", %r: " + keyIds;
  const std::string attributes =
      " {mask = #llama.mask<causal>, scale = 0.5 : f64, tile_count = 0 : i64, tile_stride = 0 : "
      "i64, tile_tokens = 0 : i64, statistics = f32} : (";
  EXPECT_EQ(operations(arguments, "%y:2 = llama.attention %q, %k, %k, %p, %p, %r, %r" + attributes +
                                      q + ", " + k + ", " + k + ", " + masks + ") -> (" + q + ", " +
                                      lse + ")"),
            4 * 2 * 3 * 6 * 4 * 5);
  EXPECT_EQ(
      operations(arguments, "%y:3 = llama.attention_grad %q, %q, %k, %k, %q, %l, %p, %p, %r, %r" +
                                attributes + q + ", " + q + ", " + k + ", " + k + ", " + q + ", " +
                                lse + ", " + masks + ") -> (" + q + ", " + k + ", " + k + ")"),
      8 * 2 * 3 * 6 * 4 * 5);
}

TEST(Cost, RowOpsCountNothing) {
  EXPECT_EQ(operations("%x: tensor<2x8xf32>", "%y = llama.gelu %x {statistics = f32} : "
                                              "(tensor<2x8xf32>) -> tensor<2x8xf32>"),
            0);
}

// 2 * 2^20 * 2^20 * 2^23 operations are 2^64: what is more than an int64_t holds is its largest.
TEST(Cost, DoesNotOverflow) {
  EXPECT_EQ(operations("%x: tensor<1x1048576x1048576xbf16>, %w: tensor<8388608x1048576xbf16>",
                       "%y = llama.linear %x, %w {accumulation = f32} : "
                       "(tensor<1x1048576x1048576xbf16>, tensor<8388608x1048576xbf16>) -> "
                       "tensor<1x1048576x8388608xbf16>"),
            INT64_MAX);
}

// As many as take 256 MiB, at least 1,024, in chunks of about the same size; what is asked for in steps of 8.
TEST(LinearLse, SizeOfAChunk) {
  using llama::headChunk;
  EXPECT_EQ(headChunk(0, 192, 128256, 4), 192);
  EXPECT_EQ(headChunk(0, 8192, 128256, 4), 1024);
  EXPECT_EQ(headChunk(0, 1536, 128256, 4), 768);
  EXPECT_EQ(headChunk(0, 8192, 16032, 4),
            4096); // an eighth of the vocabulary: 4,186 rows would fit
  EXPECT_EQ(headChunk(0, 8192, 16032, 8), 2048);
  EXPECT_EQ(headChunk(0, 8193, 8, 4), 8193);
  EXPECT_EQ(headChunk(1, 100, 10, 4), 8);
  EXPECT_EQ(headChunk(24, 100, 10, 4), 24);
  EXPECT_EQ(headChunk(1000, 100, 10, 4), 100);
}

// 6 rows, 8 channels, 5 entries: a product forward, those of the gradients that are used.
TEST(Cost, LinearLseCountsProductsOnceEach) {
  const std::string arguments = "%x: tensor<2x3x8xf32>, %w: tensor<5x8xf32>, %y: tensor<2x3xi64>, "
                                "%l: tensor<2x3x1xf32>, %t: tensor<2x3xf32>";
  EXPECT_EQ(
      operations(arguments,
                 "%r:2 = llama.linear_lse %x, %w, %y {parts = 1 : i64, chunk = 2 : i64, "
                 "statistics = f32} : (tensor<2x3x8xf32>, tensor<5x8xf32>, tensor<2x3xi64>) -> "
                 "(tensor<2x3x1xf32>, tensor<2x3xf32>)"),
      480);
  const std::string gradient =
      "%dx, %dw = llama.linear_lse_grad %l, %t, %x, %w, %y, %l {chunk = 2 : i64, statistics = f32, "
      "accumulation = f32, element_type = f32} : (tensor<2x3x1xf32>, tensor<2x3xf32>, "
      "tensor<2x3x8xf32>, tensor<5x8xf32>, tensor<2x3xi64>, tensor<2x3x1xf32>) -> "
      "(tensor<2x3x8xf32>, tensor<5x8xf32>)\n";
  const std::string useInput = "%a = llama.gelu %dx {statistics = f32} : (tensor<2x3x8xf32>) -> "
                               "tensor<2x3x8xf32>\n",
                    useWeight = "%b = llama.gelu %dw {statistics = f32} : (tensor<5x8xf32>) -> "
                                "tensor<5x8xf32>\n";
  EXPECT_EQ(operations(arguments, gradient + useInput), 480);
  EXPECT_EQ(operations(arguments, gradient + useWeight), 480);
  EXPECT_EQ(operations(arguments, gradient + useInput + useWeight), 960);
}
