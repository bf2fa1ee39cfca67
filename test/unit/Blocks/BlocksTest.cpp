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
                                  double tolerance, const std::string &cpu = "native") {
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
  %o, %lse = llama.attention %q, %k, %v1, %p, %d {mask = #llama.mask<causal>, scale = 0.25 : f64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64, statistics = A} : (tensor<2x16x8x16xT>, tensor<2x16x2x16xT>, tensor<2x16x2x16xT>, tensor<2x16xi64>, tensor<2x16xi64>) -> (tensor<2x16x8x16xT>, tensor<2x16x8xA>)
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
}
