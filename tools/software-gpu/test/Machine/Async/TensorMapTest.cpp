//===- TensorMapTest.cpp - Tensor maps and the copies that use them -----------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Machine/Async/AsyncHarness.h"

#include <cmath>
#include <random>

using namespace sgpu;
using namespace sgpu::async_test;

namespace {

TensorMap good() {
  TensorMap m;
  m.type = TensorMapType::BF16, m.rank = 3, m.address = 0x1000;
  m.extent = {64, 10, 7}, m.stride = {2, 128, 2048}, m.box = {32, 4, 2};
  m.swizzle = 2;
  return m;
}

TEST(TensorMap, EncodesAllFields) {
  TensorMap m = good();
  m.elementStride = {1, 2, 3, 1, 1};
  m.l2Promotion = 2, m.oobFill = 1;
  ASSERT_EQ(m.check(90), "");
  alignas(64) uint8_t bytes[TensorMap::encodedBytes];
  m.encode(bytes);
  TensorMap back;
  ASSERT_TRUE(TensorMap::decode(bytes, back));
  EXPECT_EQ(back.type, m.type);
  EXPECT_EQ(back.rank, m.rank);
  EXPECT_EQ(back.address, m.address);
  for (uint32_t d = 0; d < m.rank; ++d) {
    EXPECT_EQ(back.extent[d], m.extent[d]);
    EXPECT_EQ(back.stride[d], m.stride[d]);
    EXPECT_EQ(back.box[d], m.box[d]);
    EXPECT_EQ(back.elementStride[d], m.elementStride[d]);
  }
  EXPECT_EQ(back.swizzle, m.swizzle);
  EXPECT_EQ(back.l2Promotion, m.l2Promotion);
  EXPECT_EQ(back.oobFill, m.oobFill);
  EXPECT_EQ(back.boxBytes(), 32u * 2 * 1 * 2); // ceil(4 / 2) rows, ceil(2 / 3) planes
  bytes[9] ^= 1;
  EXPECT_FALSE(TensorMap::decode(bytes, back)) << "a byte was changed";
}

// Each rule of cuTensorMapEncodeTiled: the field in question, and its twin that is allowed.
TEST(TensorMap, Rules) {
  struct Rule {
    const char *says;
    void (*bad)(TensorMap &);
    void (*good)(TensorMap &);
  };
  const Rule rules[] = {
      {"rank 0", [](TensorMap &m) { m.rank = 0; }, [](TensorMap &m) { m.rank = 1; }},
      {"rank 6", [](TensorMap &m) { m.rank = 6; },
       [](TensorMap &m) { m.rank = 5, m.extent[3] = m.extent[4] = m.box[3] = m.box[4] = 1; }},
      {"global address", [](TensorMap &m) { m.address = 0x1008; },
       [](TensorMap &m) { m.address = 0x1010; }},
      {"global address", [](TensorMap &m) { m.address = 0; }, [](TensorMap &m) { m.address = 16; }},
      {"globalDim[1]", [](TensorMap &m) { m.extent[1] = 0; },
       [](TensorMap &m) { m.extent[1] = 1; }},
      {"globalDim[2]", [](TensorMap &m) { m.extent[2] = (uint64_t(1) << 32) + 1; },
       [](TensorMap &m) { m.extent[2] = uint64_t(1) << 32; }},
      {"globalStrides[0]", [](TensorMap &m) { m.stride[1] = 136; },
       [](TensorMap &m) { m.stride[1] = 144; }},
      {"globalStrides[1]", [](TensorMap &m) { m.stride[2] = uint64_t(1) << 40; },
       [](TensorMap &m) { m.stride[2] = (uint64_t(1) << 40) - 16; }},
      {"boxDim[1]", [](TensorMap &m) { m.box[1] = 257; }, [](TensorMap &m) { m.box[1] = 256; }},
      {"boxDim[2]", [](TensorMap &m) { m.box[2] = 0; }, [](TensorMap &m) { m.box[2] = 1; }},
      {"multiple of 16", [](TensorMap &m) { m.box[0] = 12; }, [](TensorMap &m) { m.box[0] = 16; }},
      {"more than the swizzle", [](TensorMap &m) { m.box[0] = 64; },
       [](TensorMap &m) { m.box[0] = 64, m.swizzle = 3; }},
      {"elementStrides[1]", [](TensorMap &m) { m.elementStride[1] = 9; },
       [](TensorMap &m) { m.elementStride[1] = 8; }},
      {"elementStrides[2]", [](TensorMap &m) { m.elementStride[2] = 0; },
       [](TensorMap &m) { m.elementStride[0] = 0; }},
      {"interleave", [](TensorMap &m) { m.interleave = 3; },
       [](TensorMap &m) { m.interleave = 0; }},
      {"swizzle 7", [](TensorMap &m) { m.swizzle = 7; }, [](TensorMap &m) { m.swizzle = 3; }},
      {"needs sm_100", [](TensorMap &m) { m.swizzle = 4; }, [](TensorMap &m) { m.swizzle = 0; }},
      {"needs sm_100", [](TensorMap &m) { m.type = TensorMapType::U4x16Align8; },
       [](TensorMap &m) { m.type = TensorMapType::U16; }},
      {"l2 promotion", [](TensorMap &m) { m.l2Promotion = 4; },
       [](TensorMap &m) { m.l2Promotion = 3; }},
      {"fill", [](TensorMap &m) { m.oobFill = 2; }, [](TensorMap &m) { m.oobFill = 1; }},
      {"floating-point", [](TensorMap &m) { m.type = TensorMapType::U16, m.oobFill = 1; },
       [](TensorMap &m) { m.type = TensorMapType::F16, m.oobFill = 1; }},
  };
  for (const Rule &r : rules) {
    TensorMap bad = good(), twin = good();
    r.bad(bad), r.good(twin);
    EXPECT_NE(bad.check(90).find(r.says), std::string::npos) << r.says << ": " << bad.check(90);
    EXPECT_EQ(twin.check(90), "") << r.says;
  }
  EXPECT_NE(good().check(80).find("sm_90"), std::string::npos);
}

//===----------------------------------------------------------------------===//
// Copies
//===----------------------------------------------------------------------===//

/// Thread 0 loads a box to shared memory, all copy it to `out` as it lies there.
std::string loadKernel(uint32_t rank, uint64_t bytes) {
  std::string coordinates, loads;
  for (uint32_t d = 0; d < rank; ++d) {
    coordinates += (d ? ", %r1" : "%r1") + std::to_string(d);
    loads += "  ld.param.u32 %r1" + std::to_string(d) + ", [at+" + std::to_string(4 * d) + "];\n";
  }
  return R"(.version 8.0
.target sm_90a
.address_size 64
.visible .entry k(.param .align 64 .b8 map[128], .param .u64 out, .param .align 4 .b8 at[20]) {
  .shared .align 1024 .b8 sm[)" +
         std::to_string(bytes) + R"(];
  .shared .align 8 .b64 bar;
  .reg .pred %p<4>; .reg .b32 %r<24>; .reg .b64 %rd<8>;
  mov.u32 %r0, %tid.x;
  mov.u32 %r1, sm;
  mov.u32 %r2, bar;
  mov.b64 %rd0, map;
  cvta.param.u64 %rd0, %rd0;
  setp.eq.u32 %p0, %r0, 0;
)" + loads +
         R"(
  @%p0 mbarrier.init.shared::cta.b64 [%r2], 1;
  bar.sync 0;
  @%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2], )" +
         std::to_string(bytes) + R"(;
  @%p0 cp.async.bulk.tensor.)" +
         std::to_string(rank) +
         "d.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd0, {" + coordinates +
         R"(}], [%r2];
W: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r2], 0;
  @!%p1 bra W;
  ld.param.u64 %rd1, [out];
  mov.u32 %r3, %r0;
L:
  setp.ge.u32 %p2, %r3, )" +
         std::to_string(bytes / 4) + R"(;
  @%p2 bra D;
  shl.b32 %r4, %r3, 2;
  add.u32 %r4, %r1, %r4;
  ld.shared.b32 %r5, [%r4];
  mul.wide.u32 %rd2, %r3, 4;
  add.u64 %rd2, %rd1, %rd2;
  st.global.b32 [%rd2], %r5;
  add.u32 %r3, %r3, 128;
  bra L;
D:
  ret;
}
)";
}

struct Coordinates {
  int32_t at[5];
};

struct BoxCase {
  const char *name;
  TensorMapType type;
  uint32_t rank;
  std::array<uint64_t, 5> extent;
  std::array<uint32_t, 5> box;
  std::array<uint32_t, 5> step;
  uint32_t swizzle, fill;
  int32_t at[5];
};

const BoxCase boxes[] = {
    {"R1", TensorMapType::F32, 1, {100}, {64}, {1}, 0, 0, {8}},
    {"R1End", TensorMapType::F32, 1, {100}, {64}, {1}, 0, 0, {60}},
    {"R1Before", TensorMapType::F32, 1, {100}, {64}, {1}, 0, 1, {-20}},
    {"R1Outside", TensorMapType::F32, 1, {100}, {64}, {1}, 0, 0, {1000}},
    {"R2Swizzle128", TensorMapType::BF16, 2, {200, 40}, {64, 32}, {1, 1}, 3, 0, {64, 3}},
    {"R2Swizzle64", TensorMapType::BF16, 2, {200, 40}, {32, 32}, {1, 1}, 2, 0, {64, 3}},
    {"R2Swizzle32", TensorMapType::BF16, 2, {200, 40}, {16, 32}, {1, 1}, 1, 0, {64, 3}},
    {"R2Narrow128", TensorMapType::BF16, 2, {200, 40}, {32, 32}, {1, 1}, 3, 0, {64, 3}},
    {"R2Edge", TensorMapType::F16, 2, {200, 40}, {64, 32}, {1, 1}, 3, 1, {170, 30}},
    {"R2Negative", TensorMapType::BF16, 2, {200, 40}, {64, 32}, {1, 1}, 3, 1, {-7, -5}},
    {"R2Steps", TensorMapType::U8, 2, {256, 90}, {64, 31}, {1, 3}, 0, 0, {32, 5}},
    {"R3", TensorMapType::U16, 3, {64, 9, 7}, {16, 4, 3}, {1, 1, 1}, 0, 0, {40, 7, 5}},
    {"R3Steps", TensorMapType::F64, 3, {20, 9, 17}, {4, 4, 9}, {1, 2, 4}, 1, 1, {2, 3, 6}},
    {"R4", TensorMapType::S32, 4, {16, 5, 4, 6}, {8, 2, 3, 2}, {1, 1, 1, 1}, 0, 0, {4, 4, 2, 5}},
    {"R5",
     TensorMapType::U64,
     5,
     {8, 3, 4, 3, 5},
     {4, 2, 3, 2, 3},
     {1, 1, 1, 1, 1},
     0,
     0,
     {2, 1, 2, 2, 3}},
};

class TensorBox : public testing::TestWithParam<BoxCase> {};

/// Where the element with index `i` of the box (dimension 0 fastest) lies in shared memory.
uint64_t tileOffset(uint64_t i, uint32_t elementBytes, uint32_t swizzle) {
  uint64_t at = i * elementBytes;
  // Pieces of 16 bytes within rows of 32, 64 or 128 bytes, xored with the number of the 128-byte line.
  switch (swizzle) {
  case 1:
    return at ^ ((at >> 7 & 1) << 4);
  case 2:
    return at ^ ((at >> 7 & 3) << 4);
  case 3:
    return at ^ ((at >> 7 & 7) << 4);
  default:
    return at;
  }
}

TensorMap mapOf(const BoxCase &c, uint64_t address) {
  TensorMap m;
  m.type = c.type, m.rank = c.rank, m.address = address;
  uint64_t pitch = bytesOf(c.type);
  for (uint32_t d = 0; d < c.rank; ++d) {
    m.extent[d] = c.extent[d], m.box[d] = c.box[d], m.elementStride[d] = c.step[d];
    m.stride[d] = pitch;
    pitch = (pitch * c.extent[d] + 15) / 16 * 16 + (d ? 32 : 16); // padded
  }
  m.swizzle = c.swizzle, m.oobFill = c.fill;
  return m;
}

/// Calls f(index in the box, address of the element in the tensor or -1).
template <typename F> void forBox(const TensorMap &m, const int32_t *at, F f) {
  uint64_t count = m.boxBytes() / bytesOf(m.type);
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t rest = i;
    int64_t address = 0;
    bool inside = true;
    for (uint32_t d = 0; d < m.rank; ++d) {
      uint64_t n = d ? (m.box[d] + m.elementStride[d] - 1) / m.elementStride[d] : m.box[d];
      int64_t c = at[d] + int64_t(rest % n) * (d ? m.elementStride[d] : 1);
      rest /= n;
      inside &= c >= 0 && c < int64_t(m.extent[d]);
      address += c * int64_t(m.stride[d]);
    }
    f(i, inside ? address : -1);
  }
}

TEST_P(TensorBox, LoadsWhatTheMapSays) {
  const BoxCase &c = GetParam();
  uint32_t element = bytesOf(c.type);
  uint64_t total = mapOf(c, 0).stride[c.rank - 1] * c.extent[c.rank - 1] + 64;
  TensorMap shape = mapOf(c, 0x1000);
  uint64_t bytes = shape.boxBytes();
  for (Completion completion : {Completion::Late, Completion::Early}) {
    Gpu gpu(loadKernel(c.rank, bytes), 1, completion);
    std::vector<uint8_t> data(total);
    std::mt19937 random(7);
    for (uint8_t &b : data)
      b = uint8_t(random());
    uint64_t base = gpu.upload(data), out = gpu.zeros<uint8_t>(bytes);
    TensorMap m = mapOf(c, base);
    std::vector<uint8_t> want(bytes);
    static constexpr uint64_t nan = 0x7fffffffffffffff;
    forBox(m, c.at, [&](uint64_t i, int64_t address) {
      uint64_t bits = 0;
      if (address >= 0)
        std::memcpy(&bits, data.data() + address, element);
      else if (c.fill)
        bits = element == 2 ? 0x7fff : element == 4 ? 0x7fffffff : nan;
      std::memcpy(want.data() + tileOffset(i, element, c.swizzle), &bits, element);
    });
    Coordinates at;
    std::copy_n(c.at, 5, at.at);
    gpu.run("k", {}, {m, out, at});
    EXPECT_EQ(gpu.download<uint8_t>(out, bytes), want);
    EXPECT_EQ(gpu.faults(), "");
  }
}

INSTANTIATE_TEST_SUITE_P(Boxes, TensorBox, testing::ValuesIn(boxes),
                         [](const auto &i) { return std::string(i.param.name); });

/// Threads fill a tile in shared memory from `in` (as it lies there); thread 0 stores or reduces it.
std::string storeKernel(const std::string &instruction, uint64_t bytes) {
  return R"(.version 8.0
.target sm_90a
.address_size 64
.visible .entry k(.param .align 64 .b8 map[128], .param .u64 in, .param .u32 x, .param .u32 y) {
  .shared .align 1024 .b8 sm[)" +
         std::to_string(bytes) + R"(];
  .reg .pred %p<4>; .reg .b32 %r<24>; .reg .b64 %rd<8>;
  mov.u32 %r0, %tid.x;
  mov.u32 %r1, sm;
  mov.b64 %rd0, map;
  cvta.param.u64 %rd0, %rd0;
  ld.param.u64 %rd1, [in];
  ld.param.u32 %r10, [x];
  ld.param.u32 %r11, [y];
  setp.eq.u32 %p0, %r0, 0;
  mov.u32 %r3, %r0;
L:
  setp.ge.u32 %p2, %r3, )" +
         std::to_string(bytes / 4) + R"(;
  @%p2 bra D;
  shl.b32 %r4, %r3, 2;
  add.u32 %r4, %r1, %r4;
  mul.wide.u32 %rd2, %r3, 4;
  add.u64 %rd2, %rd1, %rd2;
  ld.global.b32 %r5, [%rd2];
  st.shared.b32 [%r4], %r5;
  add.u32 %r3, %r3, 128;
  bra L;
D:
  fence.proxy.async.shared::cta;
  bar.sync 0;
  @%p0 )" +
         instruction +
         R"( [%rd0, {%r10, %r11}], [%r1];
  @%p0 cp.async.bulk.commit_group;
  @%p0 cp.async.bulk.wait_group 0;
  ret;
}
)";
}

TEST(TensorStore, WritesWhatExistsInTheTensor) {
  BoxCase c{"", TensorMapType::BF16, 2, {50, 20}, {64, 16}, {1, 1}, 3, 0, {-3, 9}};
  uint64_t bytes = mapOf(c, 0x1000).boxBytes();
  Gpu gpu(storeKernel("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group", bytes));
  std::vector<uint16_t> tile(bytes / 2), before(20 * 128);
  for (size_t i = 0; i < tile.size(); ++i)
    tile[i] = uint16_t(i + 1);
  uint64_t in = gpu.upload(tile), base = gpu.upload(before);
  TensorMap m = mapOf(c, base);
  std::vector<uint16_t> want = before;
  forBox(m, c.at, [&](uint64_t i, int64_t address) {
    if (address >= 0)
      want[address / 2] = tile[tileOffset(i, 2, c.swizzle) / 2];
  });
  gpu.run("k", {}, {m, in, c.at[0], c.at[1]});
  EXPECT_EQ(gpu.download<uint16_t>(base, want.size()), want);
  EXPECT_EQ(gpu.faults(), "");
}

TEST(TensorReduce, AddsMinimaMaximaAndBits) {
  BoxCase c{"", TensorMapType::F32, 2, {24, 20}, {16, 8}, {1, 1}, 0, 0, {12, 15}};
  uint64_t bytes = mapOf(c, 0x1000).boxBytes();
  struct {
    const char *op;
    TensorMapType type;
    uint32_t (*apply)(uint32_t, uint32_t);
  } ops[] = {
      {"add", TensorMapType::F32,
       [](uint32_t a, uint32_t b) {
         return std::bit_cast<uint32_t>(std::bit_cast<float>(a) + std::bit_cast<float>(b));
       }},
      {"add", TensorMapType::U32, [](uint32_t a, uint32_t b) { return a + b; }},
      {"min", TensorMapType::S32,
       [](uint32_t a, uint32_t b) { return uint32_t(std::min(int32_t(a), int32_t(b))); }},
      {"max", TensorMapType::U32, [](uint32_t a, uint32_t b) { return std::max(a, b); }},
      {"inc", TensorMapType::U32, [](uint32_t a, uint32_t b) { return a >= b ? 0 : a + 1; }},
      {"dec", TensorMapType::U32, [](uint32_t a, uint32_t b) { return !a || a > b ? b : a - 1; }},
      {"and", TensorMapType::U32, [](uint32_t a, uint32_t b) { return a & b; }},
      {"or", TensorMapType::S32, [](uint32_t a, uint32_t b) { return a | b; }},
      {"xor", TensorMapType::U32, [](uint32_t a, uint32_t b) { return a ^ b; }},
  };
  for (auto &op : ops) {
    Gpu gpu(storeKernel(std::string("cp.reduce.async.bulk.tensor.2d.global.shared::cta.") + op.op +
                            ".tile.bulk_group",
                        bytes));
    std::mt19937 random(3);
    std::vector<uint32_t> tile(bytes / 4), before(20 * 32);
    auto draw = [&] {
      return op.type == TensorMapType::F32 ? std::bit_cast<uint32_t>(float(random() % 100) / 4)
                                           : uint32_t(random());
    };
    for (auto *v : {&tile, &before})
      for (uint32_t &x : *v)
        x = draw();
    uint64_t in = gpu.upload(tile), base = gpu.upload(before);
    BoxCase typed = c;
    typed.type = op.type;
    TensorMap m = mapOf(typed, base);
    std::vector<uint32_t> want = before;
    forBox(m, c.at, [&](uint64_t i, int64_t address) {
      if (address >= 0)
        want[address / 4] = op.apply(want[address / 4], tile[i]);
    });
    gpu.run("k", {}, {m, in, c.at[0], c.at[1]});
    EXPECT_EQ(gpu.download<uint32_t>(base, want.size()), want) << op.op;
    EXPECT_EQ(gpu.faults(), "") << op.op;
  }
}

/// A tensor map that the kernel makes itself, from zeros, then copies to global memory and uses.
TEST(TensorMap, MadeByTheKernel) {
  Gpu gpu(R"(.version 8.3
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 in, .param .u64 out, .param .u64 scratch) {
  .shared .align 1024 .b8 sm[2048];
  .shared .align 128 .b8 map[128];
  .shared .align 8 .b64 bar;
  .reg .pred %p<4>; .reg .b32 %r<16>; .reg .b64 %rd<8>;
  mov.u32 %r0, %tid.x;
  mov.u32 %r1, map;
  mov.u32 %r2, sm;
  mov.u32 %r3, bar;
  ld.param.u64 %rd0, [in];
  ld.param.u64 %rd1, [out];
  ld.param.u64 %rd2, [scratch];
  shl.b32 %r4, %r0, 2;
  add.u32 %r5, %r1, %r4;
  st.shared.b32 [%r5], 0;
  bar.warp.sync 0xffffffff;
  setp.eq.u32 %p0, %r0, 0;
  @%p0 tensormap.replace.tile.global_address.shared::cta.b1024.b64 [%r1], %rd0;
  @%p0 tensormap.replace.tile.rank.shared::cta.b1024.b32 [%r1], 1;
  @%p0 tensormap.replace.tile.box_dim.shared::cta.b1024.b32 [%r1], 0, 32;
  @%p0 tensormap.replace.tile.box_dim.shared::cta.b1024.b32 [%r1], 1, 4;
  mov.u32 %r6, 40;
  @%p0 tensormap.replace.tile.global_dim.shared::cta.b1024.b32 [%r1], 0, %r6;
  mov.u32 %r6, 8;
  @%p0 tensormap.replace.tile.global_dim.shared::cta.b1024.b32 [%r1], 1, %r6;
  mov.u64 %rd3, 160;
  @%p0 tensormap.replace.tile.global_stride.shared::cta.b1024.b64 [%r1], 0, %rd3;
  @%p0 tensormap.replace.tile.element_stride.shared::cta.b1024.b32 [%r1], 0, 1;
  @%p0 tensormap.replace.tile.element_stride.shared::cta.b1024.b32 [%r1], 1, 1;
  @%p0 tensormap.replace.tile.elemtype.shared::cta.b1024.b32 [%r1], 7;
  @%p0 tensormap.replace.tile.interleave_layout.shared::cta.b1024.b32 [%r1], 0;
  @%p0 tensormap.replace.tile.swizzle_mode.shared::cta.b1024.b32 [%r1], 3;
  @%p0 tensormap.replace.tile.fill_mode.shared::cta.b1024.b32 [%r1], 0;
  bar.warp.sync 0xffffffff;
  tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [%rd2], [%r1], 128;
  @%p0 mbarrier.init.shared::cta.b64 [%r3], 1;
  bar.warp.sync 0xffffffff;
  fence.proxy.tensormap::generic.acquire.gpu [%rd2], 128;
  @%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r3], 512;
  @%p0 cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd2, {16, 2}], [%r3];
W: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r3], 0;
  @!%p1 bra W;
  add.u32 %r7, %r2, %r4;
  mul.wide.u32 %rd4, %r0, 4;
  add.u64 %rd5, %rd1, %rd4;
  ld.shared.b32 %r8, [%r7];
  st.global.b32 [%rd5], %r8;
  ld.shared.b32 %r8, [%r7+128];
  st.global.b32 [%rd5+128], %r8;
  ret;
}
)");
  std::vector<float> in(40 * 8), want(64);
  for (size_t i = 0; i < in.size(); ++i)
    in[i] = float(i + 1);
  for (int r = 0; r < 2; ++r)
    for (int c = 0; c < 32; ++c)
      want[((r * 128 + c * 4) ^ ((r & 7) << 4)) / 4] = c + 16 < 40 ? in[(r + 2) * 40 + c + 16] : 0;
  uint64_t out = gpu.zeros<float>(64);
  gpu.run("k", {{1, 1, 1}, {32, 1, 1}}, {gpu.upload(in), out, gpu.zeros<uint8_t>(128)});
  EXPECT_EQ(gpu.download<float>(out, 64), want);
  EXPECT_EQ(gpu.faults(), "");
}

} // namespace
