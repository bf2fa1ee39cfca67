//===- AttentionTest.cpp - Attention against its formulas in double -------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// B batch, S queries, T keys, H query heads, K key and value heads, D head size
//
//===----------------------------------------------------------------------===//
#include "AttentionProblems.h"
#include "src/Host/Stream.h"

using namespace values;

namespace {

//===----------------------------------------------------------------------===//
// Comparison
//===----------------------------------------------------------------------===//

Result runKernels(const Problem &p, const Inputs &in, int64_t threads = 1) {
  LlrtStream stream{threads};
  const int64_t type = p.at.type;
  Result r = {Array(type, p.queryCount()), Array(LLRT_F32, p.rowCount()),
              Array(type, p.queryCount()), Array(type, p.keyCount()), Array(type, p.keyCount())};
  auto *lse = static_cast<float *>(r.lse.data());
  llrt_attention_forward(&stream, &p.at, in.q.data(), in.k.data(), in.v.data(), p.mask0.data(),
                         p.mask1.data(), p.mask2.data(), p.mask3.data(), r.out.data(), lse);
  llrt_attention_backward(&stream, &p.at, in.dOut.data(), in.q.data(), in.k.data(), in.v.data(),
                          p.mask0.data(), p.mask1.data(), p.mask2.data(), p.mask3.data(),
                          r.out.data(), lse, r.dQ.data(), r.dK.data(), r.dV.data());
  return r;
}

// Compares with the reference on 1 and 2 threads, which must agree bit by bit.
void check(const Problem &p) {
  const LlrtAttention &at = p.at;
  SCOPED_TRACE(testing::Message() << "type " << at.type << ", mask " << at.mask << ", B "
                                  << at.batch << ", S " << at.queries << ", T " << at.keys << ", H "
                                  << at.heads << ", K " << at.kv_heads << ", D " << at.head_size);
  Inputs in = drawInputs(p);
  Result found = runKernels(p, in, 2);
  EXPECT_TRUE(runKernels(p, in) == found) << "1 and 2 threads differ";

  compare(p, in, found);
}

class Attention : public testing::TestWithParam<int64_t> {};
INSTANTIATE_TEST_SUITE_P(Types, Attention, testing::Values(int64_t(LLRT_F32), int64_t(LLRT_BF16)),
                         [](const auto &info) { return info.param == LLRT_F32 ? "f32" : "bf16"; });

//===----------------------------------------------------------------------===//
// Tests
//===----------------------------------------------------------------------===//

// The gradient formulas of the reference agree with differences of its forward.
TEST(AttentionReference, GradientsMatchCentralDifferences) {
  for (const Problem &p :
       {causal(LLRT_F32, {1, 4, 2, 3}, 6, 2, 1, 1), encoder(LLRT_F32, {2, 2, 1, 4}, 2, 3, 2),
        images(LLRT_F32, {1, 2, 2, 4}, 5, 2, 2, 2)}) {
    Inputs in = drawInputs(p);
    Doubles inputs[] = {in.q.doubles(), in.k.doubles(), in.v.doubles()};
    Doubles dOut = in.dOut.doubles();
    Backward backward = backwardReference(p, dOut, inputs[0], inputs[1], inputs[2]);
    auto loss = [&] {
      Doubles out = forwardReference(p, inputs[0], inputs[1], inputs[2]).out;
      double sum = 0;
      for (size_t i = 0; i != out.size(); ++i)
        sum += dOut[i] * out[i];
      return sum;
    };
    // A query that sees nothing has constant weights, whose derivative is 0;
    // the formulas give its scores a gradient on purpose (Kernels.h). Leave it
    // out.
    Problem seen = p;
    bool uniform = false;
    for (int64_t b = 0; b != p.at.batch; ++b)
      for (int64_t i = 0; i != p.at.queries; ++i) {
        bool any = false;
        for (int64_t j = 0; j != p.at.keys; ++j)
          any |= p.sees(b, i, j);
        if (any)
          continue;
        uniform = true;
        int64_t row = p.at.heads * p.at.head_size;
        std::fill_n(dOut.begin() + (b * p.at.queries + i) * row, row, 0.);
      }
    if (uniform)
      backward = backwardReference(p, dOut, inputs[0], inputs[1], inputs[2]);
    const Doubles *gradients[] = {&backward.dQ, &backward.dK, &backward.dV};
    const double step = 1e-5;
    for (int which = 0; which != 3; ++which)
      for (size_t i = 0; i != inputs[which].size(); ++i) {
        double &x = inputs[which][i], before = x;
        x = before + step;
        double above = loss();
        x = before - step;
        double below = loss();
        x = before;
        EXPECT_NEAR((*gradients[which])[i], (above - below) / (2 * step), 1e-8)
            << "input " << which << "[" << i << "]";
      }
  }
}

TEST_P(Attention, CausalMatchesFormulas) {
  for (int64_t length : {1, 2, 17, 128, 131, 300})
    check(causal(GetParam(), {2, 4, 2, 16}, length));
}

// Documents end inside tiles and at their edges.
TEST_P(Attention, DocumentsDoNotSeeEachOther) {
  check(causal(GetParam(), {1, 2, 2, 16}, 384, 3));
  check(causal(GetParam(), {2, 2, 1, 16}, 290, 7));
}

// Queries in the padding on the left see no key and weigh all keys alike.
TEST_P(Attention, QueriesThatSeeNothingWeighAllKeysAlike) {
  check(causal(GetParam(), {1, 4, 2, 16}, 300, 1, 150, 20));
  check(causal(GetParam(), {2, 2, 1, 8}, 9, 2, 3, 0));
  check(causal(GetParam(), {1, 1, 1, 16}, 140, 1, 140, 0)); // nothing but padding
}

// Positions need not ascend: a rank may hold any rows of the text.
TEST_P(Attention, CausalWorksInAnyOrderOfRows) {
  Problem p = causal(GetParam(), {2, 4, 2, 16}, 270, 2, 0, 5);
  std::mt19937 generator(6);
  for (int64_t b = 0; b != p.at.batch; ++b) {
    std::vector<int64_t> order(p.at.queries);
    for (size_t i = 0; i != order.size(); ++i)
      order[i] = b * p.at.queries + i;
    std::shuffle(order.begin(), order.end(), generator);
    Problem before = p;
    for (size_t i = 0; i != order.size(); ++i) {
      p.mask0[b * p.at.queries + i] = before.mask0[order[i]];
      p.mask1[b * p.at.queries + i] = before.mask1[order[i]];
    }
  }
  check(p); // the keys in another order than the queries
  p.mask2 = p.mask0;
  p.mask3 = p.mask1;
  check(p);
}

// A rank may hold some of the queries and all keys.
TEST_P(Attention, SomeQueriesMatchFormulas) {
  Problem text = causal(GetParam(), {2, 4, 2, 16}, 300, 2, 3, 5);
  check(someQueries(text, 75, 150));
  check(someQueries(text, 170, 130));
  Problem image = encoder(GetParam(), {5, 2, 2, 16}, 4, 40, 37);
  check(someQueries(image, 35, 50));
  check(someQueries(image, 120, 40));
}

// 1 to 8 query heads share a key and value head.
TEST_P(Attention, HeadsShareKeys) {
  for (int64_t group = 1; group <= 8; ++group)
    check(causal(GetParam(), {1, 2 * group, 2, 8}, 150));
  check(causal(GetParam(), {1, 130, 1, 4},
               20)); // more heads than a tile has rows
}

TEST_P(Attention, EveryHeadSize) {
  for (int64_t size : {1, 3, 4, 16, 64, 80, 128, 129})
    check(causal(GetParam(), {1, 2, 1, size}, 70));
}

TEST_P(Attention, EncoderMatchesFormulas) {
  check(encoder(GetParam(), {5, 2, 2, 16}, 4, 40, 37));
  check(encoder(GetParam(), {2, 2, 2, 80}, 4, 192, 161));
  check(encoder(GetParam(), {2, 1, 1, 4}, 1, 5, 5));
}

TEST_P(Attention, ImagesMatchFormulas) {
  check(images(GetParam(), {2, 4, 2, 16}, 65, 3, 4, 41));
  check(images(GetParam(), {1, 8, 1, 16}, 1, 1, 2, 5));
  check(images(GetParam(), {3, 2, 2, 8}, 200, 2, 2, 301));
}

// One group of heads on two threads goes through tiles in two passes, two
// groups in one pass: both orders add up alike.
TEST_P(Attention, BothBackwardOrdersMatchFormulas) {
  check(causal(GetParam(), {1, 4, 1, 16}, 400, 2, 3, 0)); // two passes
  check(causal(GetParam(), {2, 4, 1, 16}, 400, 2, 3, 0)); // one pass
  check(causal(GetParam(), {3, 4, 1, 16}, 200));
}

// Scores far apart: weights underflow to 0, nothing overflows.
TEST_P(Attention, LargeScoresStayFinite) {
  Problem p = causal(GetParam(), {1, 2, 2, 16}, 200);
  p.at.scale = 64;
  Inputs in = drawInputs(p);
  Result r = runKernels(p, in);
  for (const Array *array : {&r.out, &r.lse, &r.dQ, &r.dK, &r.dV})
    for (double value : array->doubles())
      ASSERT_TRUE(std::isfinite(value));
  Forward wanted = forwardReference(p, in.q.doubles(), in.k.doubles(), in.v.doubles());
  expectClose(r.out.doubles(), wanted.out, GetParam() == LLRT_F32 ? 1e-3 : 3e-2, "out");
}

// A NaN reaches the rows that see it and no other.
TEST_P(Attention, NaNReachesOnlyRowsThatSeeIt) {
  Problem p = causal(GetParam(), {1, 1, 1, 16}, 200);
  Inputs in = drawInputs(p);
  in.k.set(150 * 16, NAN);
  Doubles out = runKernels(p, in).out.doubles();
  for (int64_t i = 0; i != 200; ++i)
    EXPECT_EQ(std::isnan(out[i * 16]), i >= 150) << "query " << i;
}

} // namespace
