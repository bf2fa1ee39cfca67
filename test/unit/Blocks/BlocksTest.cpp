//===- BlocksTest.cpp - Compiled blocks against the reference -------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Each block is compiled twice: every op by its decomposition, no fusion, one
// thread, libm (reference), and as for training (fast). Both run on the same drawn
// inputs. `T` in a block's text stands for the element type.
//
//===----------------------------------------------------------------------===//
#include "CompiledBlock.h"

#include "llrt/Kernels.h"

#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace llamac_test;
using testing::AnyOf;
using testing::Each;
using testing::Eq;

// `text` with T for the element type and A for the type of sums.
static std::string withType(std::string text, const std::string &type) {
  auto replace = [&](const std::string &from, const std::string &to) {
    for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
      text.replace(at, from.size(), to);
  };
  replace("xT>", "x" + type + ">");
  replace("xA>", type == "f64" ? "xf64>" : "xf32>");
  replace("= A}", type == "f64" ? "= f64}" : "= f32}");
  replace("= A,", type == "f64" ? "= f64," : "= f32,");
  replace("= T}", "= " + type + "}");
  replace("= T,", "= " + type + ",");
  return text;
}

// |got - want| / |want|, Euclidean norms.
static double relativeError(const Array &got, const Array &want) {
  double difference = 0, norm = 0;
  for (int64_t i = 0; i < want.elements; ++i) {
    difference += (got.values[i] - want.values[i]) * (got.values[i] - want.values[i]);
    norm += want.values[i] * want.values[i];
  }
  return norm == 0 ? std::sqrt(difference) : std::sqrt(difference / norm);
}

static void expectFastIsReference(const std::string &text, const std::string &type,
                                  double tolerance, const std::string &cpu = "") {
  SCOPED_TRACE(type);
  CompiledBlock reference(withType(text, type), true), fast(withType(text, type), false, cpu);
  auto arguments = drawArguments(fast, 1);
  auto want = reference(arguments), got = fast(arguments);
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    double norm = 0;
    for (double value : want[i].values)
      norm += std::abs(value);
    EXPECT_GT(norm, 0) << "result " << i << " is zero: the test tests nothing";
    EXPECT_LT(relativeError(got[i], want[i]), tolerance) << "result " << i;
  }
}

static const char *kSelfLayer = R"mlir(
func.func private @self_layer(%h: tensor<2x16x128xT>, %table: tensor<2x16x2x8xA>, %p: tensor<2x16xi64> {test.below = 16 : i64, test.counts}, %d: tensor<2x16xi64> {test.below = 2 : i64, test.least = -1 : i64},
    %n1: tensor<128xT>, %wq: tensor<128x128xT>, %wk: tensor<32x128xT>, %wv: tensor<32x128xT>, %wo: tensor<128x128xT>,
    %n2: tensor<128xT>, %w1: tensor<384x128xT>, %w3: tensor<384x128xT>, %w2: tensor<128x384xT>) -> tensor<2x16x128xT> attributes {llama.block} {
  %x = llama.rms_norm %h, %n1 {epsilon = 1.0e-5 : f64, statistics = A} : (tensor<2x16x128xT>, tensor<128xT>) -> tensor<2x16x128xT>
  %q0 = llama.linear %x, %wq {accumulation = A} : (tensor<2x16x128xT>, tensor<128x128xT>) -> tensor<2x16x128xT>
  %k0 = llama.linear %x, %wk {accumulation = A} : (tensor<2x16x128xT>, tensor<32x128xT>) -> tensor<2x16x32xT>
  %v0 = llama.linear %x, %wv {accumulation = A} : (tensor<2x16x128xT>, tensor<32x128xT>) -> tensor<2x16x32xT>
  %q1 = llama.split_heads %q0 {head_size = 16 : i64} : (tensor<2x16x128xT>) -> tensor<2x16x8x16xT>
  %k1 = llama.split_heads %k0 {head_size = 16 : i64} : (tensor<2x16x32xT>) -> tensor<2x16x2x16xT>
  %v1 = llama.split_heads %v0 {head_size = 16 : i64} : (tensor<2x16x32xT>) -> tensor<2x16x2x16xT>
  %q = llama.rope %q1, %table : (tensor<2x16x8x16xT>, tensor<2x16x2x8xA>) -> tensor<2x16x8x16xT>
  %k = llama.rope %k1, %table : (tensor<2x16x2x16xT>, tensor<2x16x2x8xA>) -> tensor<2x16x2x16xT>
  %o, %lse = llama.attention %q, %k, %v1, %p, %d, %p, %d {mask = #llama.mask<causal>, scale = 0.25 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64, statistics = A} : (tensor<2x16x8x16xT>, tensor<2x16x2x16xT>, tensor<2x16x2x16xT>, tensor<2x16xi64>, tensor<2x16xi64>, tensor<2x16xi64>, tensor<2x16xi64>) -> (tensor<2x16x8x16xT>, tensor<2x16x8xA>)
  %om = llama.merge_heads %o : (tensor<2x16x8x16xT>) -> tensor<2x16x128xT>
  %a = llama.linear %om, %wo {accumulation = A} : (tensor<2x16x128xT>, tensor<128x128xT>) -> tensor<2x16x128xT>
  %h1 = llama.add %h, %a : (tensor<2x16x128xT>, tensor<2x16x128xT>) -> tensor<2x16x128xT>
  %y = llama.rms_norm %h1, %n2 {epsilon = 1.0e-5 : f64, statistics = A} : (tensor<2x16x128xT>, tensor<128xT>) -> tensor<2x16x128xT>
  %g = llama.linear %y, %w1 {accumulation = A} : (tensor<2x16x128xT>, tensor<384x128xT>) -> tensor<2x16x384xT>
  %u = llama.linear %y, %w3 {accumulation = A} : (tensor<2x16x128xT>, tensor<384x128xT>) -> tensor<2x16x384xT>
  %s = llama.swiglu %g, %u {statistics = A} : (tensor<2x16x384xT>, tensor<2x16x384xT>) -> tensor<2x16x384xT>
  %f = llama.linear %s, %w2 {accumulation = A} : (tensor<2x16x384xT>, tensor<128x384xT>) -> tensor<2x16x128xT>
  %r = llama.add %h1, %f : (tensor<2x16x128xT>, tensor<2x16x128xT>) -> tensor<2x16x128xT>
  return %r : tensor<2x16x128xT>
}
)mlir";

TEST(Blocks, SelfAttentionLayer) {
  expectFastIsReference(kSelfLayer, "f32", 1e-5);
  expectFastIsReference(kSelfLayer, "f64", 1e-12);
  // Roundings to bf16 (half a unit is 2^-9) fall elsewhere where sums differ.
  expectFastIsReference(kSelfLayer, "bf16", 0.02);
}

// Every kind of gradient, added to what is there: products, sums over rows, rows by
// index, a gate.
static const char *kGradients = R"mlir(
func.func private @gradients(%dy: tensor<2x16x48xT>, %x: tensor<2x16x32xT>, %dx: tensor<2x16x32xT>,
    %ids: tensor<2x16xi64> {test.below = 9 : i64}, %gate: tensor<1xT>, %w: tensor<48x32xA>,
    %norm: tensor<32xA>, %bias: tensor<48xA>, %table: tensor<8x32xA>, %g: tensor<1xA>)
    -> (tensor<48x32xA> {llama.in_place = 5 : i64}, tensor<32xA> {llama.in_place = 6 : i64},
        tensor<48xA> {llama.in_place = 7 : i64}, tensor<8x32xA> {llama.in_place = 8 : i64},
        tensor<1xA> {llama.in_place = 9 : i64}) attributes {llama.block} {
  %0 = llama.linear_dw %dy, %x {accumulation = A} : (tensor<2x16x48xT>, tensor<2x16x32xT>) -> tensor<48x32xA>
  %1 = llama.add %w, %0 : (tensor<48x32xA>, tensor<48x32xA>) -> tensor<48x32xA>
  %2 = llama.rms_norm_dw %dx, %x {epsilon = 1.0e-5 : f64, statistics = A, accumulation = A} : (tensor<2x16x32xT>, tensor<2x16x32xT>) -> tensor<32xA>
  %3 = llama.add %norm, %2 : (tensor<32xA>, tensor<32xA>) -> tensor<32xA>
  %4 = llama.sum_rows %dy {accumulation = A} : (tensor<2x16x48xT>) -> tensor<48xA>
  %5 = llama.add %bias, %4 : (tensor<48xA>, tensor<48xA>) -> tensor<48xA>
  %6 = llama.embed_grad %dx, %ids {rows = 8 : i64, offset = 0 : i64, padding_index = 3 : i64, accumulation = A} : (tensor<2x16x32xT>, tensor<2x16xi64>) -> tensor<8x32xA>
  %7 = llama.add %table, %6 : (tensor<8x32xA>, tensor<8x32xA>) -> tensor<8x32xA>
  %8 = llama.gate_grad %dx, %x, %gate {rows = #llama.rows<none>, accumulation = A} : (tensor<2x16x32xT>, tensor<2x16x32xT>, tensor<1xT>) -> tensor<1xA>
  %9 = llama.add %g, %8 : (tensor<1xA>, tensor<1xA>) -> tensor<1xA>
  return %1, %3, %5, %7, %9 : tensor<48x32xA>, tensor<32xA>, tensor<48xA>, tensor<8x32xA>, tensor<1xA>
}
)mlir";

TEST(Blocks, GradientsAreAddedInPlace) {
  expectFastIsReference(kGradients, "f32", 1e-5);
  expectFastIsReference(kGradients, "f64", 1e-12);
  expectFastIsReference(kGradients, "bf16", 1e-5); // inputs are exact, sums in f32
}

// The vocabulary is large enough for rows to be shared among threads.
static const char *kHead = R"mlir(
func.func private @head(%h: tensor<2x48x32xT>, %labels: tensor<2x48xi64> {test.least = -2 : i64, test.below = 1000 : i64},
    %norm: tensor<32xT>, %w: tensor<1000x32xT>) -> (tensor<1xA>, tensor<2x48x1000xA>) attributes {llama.block} {
  %x = llama.rms_norm %h, %norm {epsilon = 1.0e-5 : f64, statistics = A} : (tensor<2x48x32xT>, tensor<32xT>) -> tensor<2x48x32xT>
  %l = llama.linear %x, %w {accumulation = A, element_type = A} : (tensor<2x48x32xT>, tensor<1000x32xT>) -> tensor<2x48x1000xA>
  %m = llama.row_max %l {statistics = A} : (tensor<2x48x1000xA>) -> tensor<2x48xA>
  %s = llama.row_sum_exp %l, %m {statistics = A} : (tensor<2x48x1000xA>, tensor<2x48xA>) -> tensor<2x48xA>
  %t = llama.target_logit %l, %labels {statistics = A} : (tensor<2x48x1000xA>, tensor<2x48xi64>) -> tensor<2x48xA>
  %loss = llama.cross_entropy %m, %s, %t, %labels : (tensor<2x48xA>, tensor<2x48xA>, tensor<2x48xA>, tensor<2x48xi64>) -> tensor<1xA>
  return %loss, %l : tensor<1xA>, tensor<2x48x1000xA>
}
)mlir";

// The same with logits in chunks of CHUNK rows: 96 rows, the last chunk smaller; forward, and both gradients.
static std::string chunkedHead(int chunk) {
  std::string text = R"mlir(
func.func private @head(%h: tensor<2x48x32xT>, %labels: tensor<2x48xi64> {test.below = 1000 : i64, test.least = -100 : i64}, %scale: tensor<1xA>, %w: tensor<1000x32xT>, %so_far: tensor<1000x32xA>)
    -> (tensor<1xA>, tensor<2x48x32xT>, tensor<1000x32xA> {llama.in_place = 4 : i64}) attributes {llama.block} {
  %lse, %t = llama.linear_lse %h, %w, %labels {parts = 1 : i64, chunk = CHUNK : i64, statistics = A} : (tensor<2x48x32xT>, tensor<1000x32xT>, tensor<2x48xi64>) -> (tensor<2x48x1xA>, tensor<2x48xA>)
  %m = llama.row_max %lse {statistics = A} : (tensor<2x48x1xA>) -> tensor<2x48xA>
  %s = llama.row_sum_exp %lse, %m {statistics = A} : (tensor<2x48x1xA>, tensor<2x48xA>) -> tensor<2x48xA>
  %loss = llama.cross_entropy %m, %s, %t, %labels : (tensor<2x48xA>, tensor<2x48xA>, tensor<2x48xA>, tensor<2x48xi64>) -> tensor<1xA>
  %ds, %dt = llama.cross_entropy_grad %scale, %s, %labels : (tensor<1xA>, tensor<2x48xA>, tensor<2x48xi64>) -> (tensor<2x48xA>, tensor<2x48xA>)
  %dl = llama.row_sum_exp_grad %ds, %lse, %m {statistics = A} : (tensor<2x48xA>, tensor<2x48x1xA>, tensor<2x48xA>) -> tensor<2x48x1xA>
  %dh, %dw = llama.linear_lse_grad %dl, %dt, %h, %w, %labels, %lse {chunk = CHUNK : i64, statistics = A, accumulation = A, element_type = T} : (tensor<2x48x1xA>, tensor<2x48xA>, tensor<2x48x32xT>, tensor<1000x32xT>, tensor<2x48xi64>, tensor<2x48x1xA>) -> (tensor<2x48x32xT>, tensor<1000x32xA>)
  %sum = llama.add %so_far, %dw : (tensor<1000x32xA>, tensor<1000x32xA>) -> tensor<1000x32xA>
  return %loss, %dh, %sum : tensor<1xA>, tensor<2x48x32xT>, tensor<1000x32xA>
}
)mlir";
  for (size_t at = 0; (at = text.find("CHUNK", at)) != std::string::npos;)
    text.replace(at, 5, std::to_string(chunk));
  return text;
}

TEST(Blocks, HeadInChunks) {
  expectFastIsReference(chunkedHead(40), "f32", 1e-5);
  expectFastIsReference(chunkedHead(40), "f64", 1e-12);
  expectFastIsReference(chunkedHead(40), "bf16", 0.01);
}

// Chunks give what all rows together give.
TEST(Blocks, SizeOfChunksChangesRoundingOnly) {
  for (auto [type, tolerance] : {std::pair("f64", 1e-13), {"f32", 1e-6}, {"bf16", 0.005}})
    for (bool reference : {false, true}) {
      SCOPED_TRACE(type);
      CompiledBlock whole(withType(chunkedHead(0), type), reference);
      auto arguments = drawArguments(whole, 3);
      auto want = whole(arguments);
      for (int chunk : {8, 40, 88, 96}) {
        auto got = CompiledBlock(withType(chunkedHead(chunk), type), reference)(arguments);
        ASSERT_EQ(got.size(), want.size());
        for (size_t i = 0; i < got.size(); ++i)
          EXPECT_LT(relativeError(got[i], want[i]), tolerance)
              << "result " << i << ", chunk " << chunk;
      }
    }
}

TEST(Blocks, HeadAndLoss) {
  expectFastIsReference(kHead, "f32", 1e-5);
  expectFastIsReference(kHead, "f64", 1e-12);
  expectFastIsReference(kHead, "bf16", 0.01);
}

// Rows are summed by one thread each, columns too; products are cut by their sizes.
TEST(Blocks, SameBitsForAnyNumberOfThreads) {
  for (const char *type : {"f32", "bf16", "f64"})
    for (const std::string &text :
         {std::string(kSelfLayer), std::string(kGradients), std::string(kHead), chunkedHead(40)}) {
      SCOPED_TRACE(type);
      CompiledBlock block(withType(text, type), false);
      auto arguments = drawArguments(block, 2);
      auto one = block(arguments);
      for (int threads : {2, 3, 7}) {
        auto several = block(arguments, threads);
        for (size_t i = 0; i < one.size(); ++i)
          EXPECT_EQ(one[i].values, several[i].values) << "result " << i << ", threads " << threads;
      }
    }
}

// A processor that has the instructions runs the code that others get without them.
TEST(Blocks, ProcessorsWithoutBFloat16Round) {
  for (const char *cpu : {"x86-64-v2", "x86-64-v3"}) {
    expectFastIsReference(kSelfLayer, "bf16", 0.02, cpu);
    expectFastIsReference(kHead, "bf16", 0.01, cpu);
  }
}

// An executable needs no C library function for the fast code's sake.
TEST(Blocks, NeedOnlyTheRuntime) {
  for (const char *cpu : {"x86-64-v2", "haswell", "skylake-avx512", "cooperlake"})
    for (const std::string &text :
         {std::string(kSelfLayer), std::string(kGradients), std::string(kHead), chunkedHead(40)})
      EXPECT_THAT(CompiledBlock(withType(text, "bf16"), false, cpu).undefinedSymbols(),
                  Each(AnyOf(testing::StartsWith("llrt_"), Eq("memcpy"), Eq("memset"))))
          << cpu;
}
