//===- LayoutTest.cpp - Matrices in registers and in shared memory ------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The layouts are written here a second time, as the tables of the ISA have them.
//===----------------------------------------------------------------------===//
#include "Machine/Async/AsyncHarness.h"
#include "Machine/Tensor/Arithmetic.h"
#include "Machine/Tensor/Descriptor.h"
#include "Machine/Tensor/Fragments.h"

#include <cmath>
#include <random>

using namespace sgpu;
using namespace sgpu::async_test;
using T = TensorType;

namespace {

//===----------------------------------------------------------------------===//
// mma.sync
//===----------------------------------------------------------------------===//

struct Form {
  const char *name; ///< shape.row.col.d.a.b.c
  int m, k;
  T a, b, d;
  int sm;
};

const Form forms[] = {
    {"m16n8k8.row.col.f32.f16.f16.f32", 16, 8, T::F16, T::F16, T::F32, 80},
    {"m16n8k16.row.col.f32.f16.f16.f32", 16, 16, T::F16, T::F16, T::F32, 80},
    {"m16n8k16.row.col.f16.f16.f16.f16", 16, 16, T::F16, T::F16, T::F16, 80},
    {"m16n8k8.row.col.f16.f16.f16.f16", 16, 8, T::F16, T::F16, T::F16, 80},
    {"m16n8k8.row.col.f32.bf16.bf16.f32", 16, 8, T::BF16, T::BF16, T::F32, 80},
    {"m16n8k16.row.col.f32.bf16.bf16.f32", 16, 16, T::BF16, T::BF16, T::F32, 80},
    {"m16n8k4.row.col.f32.tf32.tf32.f32", 16, 4, T::TF32, T::TF32, T::F32, 80},
    {"m16n8k8.row.col.f32.tf32.tf32.f32", 16, 8, T::TF32, T::TF32, T::F32, 80},
    {"m8n8k4.row.col.f64.f64.f64.f64", 8, 4, T::F64, T::F64, T::F64, 80},
    {"m16n8k4.row.col.f64.f64.f64.f64", 16, 4, T::F64, T::F64, T::F64, 90},
    {"m16n8k8.row.col.f64.f64.f64.f64", 16, 8, T::F64, T::F64, T::F64, 90},
    {"m16n8k16.row.col.f64.f64.f64.f64", 16, 16, T::F64, T::F64, T::F64, 90},
    {"m8n8k16.row.col.s32.s8.s8.s32", 8, 16, T::S8, T::S8, T::S32, 80},
    {"m16n8k16.row.col.s32.u8.s8.s32", 16, 16, T::U8, T::S8, T::S32, 80},
    {"m16n8k32.row.col.s32.s8.u8.s32", 16, 32, T::S8, T::U8, T::S32, 80},
    {"m8n8k32.row.col.s32.s4.u4.s32", 8, 32, T::S4, T::U4, T::S32, 80},
    {"m16n8k32.row.col.s32.s4.s4.s32", 16, 32, T::S4, T::S4, T::S32, 80},
    {"m16n8k64.row.col.s32.u4.s4.s32", 16, 64, T::U4, T::S4, T::S32, 80},
    {"m16n8k16.row.col.f32.e4m3.e5m2.f32", 16, 16, T::E4M3, T::E5M2, T::F32, 90},
    {"m16n8k32.row.col.f32.e5m2.e4m3.f32", 16, 32, T::E5M2, T::E4M3, T::F32, 90},
    {"m16n8k32.row.col.f16.e4m3.e4m3.f16", 16, 32, T::E4M3, T::E4M3, T::F16, 90},
};

/// Small integers as bits of each type: exact in all of them.
uint64_t bitsOfInteger(T type, int v) {
  switch (type) {
  case T::F64:
    return std::bit_cast<uint64_t>(double(v));
  case T::F32:
  case T::TF32:
    return std::bit_cast<uint32_t>(float(v));
  case T::S32:
    return uint32_t(v);
  case T::F16:
    return roundedTo(T::F16, v);
  case T::BF16:
    return roundedTo(T::BF16, v);
  case T::E4M3: { // 1 = 0x38, 2 = 0x40, 3 = 0x44, 4 = 0x48
    static constexpr uint8_t e4m3[] = {0, 0x38, 0x40, 0x44, 0x48};
    return e4m3[std::abs(v)] | (v < 0 ? 0x80 : 0);
  }
  case T::E5M2: {
    static constexpr uint8_t e5m2[] = {0, 0x3c, 0x40, 0x42, 0x44};
    return e5m2[std::abs(v)] | (v < 0 ? 0x80 : 0);
  }
  default:
    return uint64_t(v) & ((1u << bitsOf(type)) - 1);
  }
}

/// Row and column of element `i` of A, B, C by the text of the ISA, for each shape.
Element isaA(const Form &f, int lane, int i) {
  int g = lane >> 2, t = lane % 4, bits = bitsOf(f.a);
  if (f.m == 8)
    return bits == 64 ? Element{g, t} : Element{g, t * (32 / bits) + i};
  switch (bits) {
  case 64:
    return {i % 2 == 0 ? g : g + 8, f.k == 4 ? t : (i / 2) * 4 + t};
  case 32:
    return {i == 0 || i == 2 ? g : g + 8, i < 2 ? t : t + 4};
  case 16:
    if (f.k == 8)
      return {i < 2 ? g : g + 8, t * 2 + (i & 1)};
    return {(i < 2 || (i >= 4 && i < 6)) ? g : g + 8, t * 2 + (i & 1) + (i >= 4 ? 8 : 0)};
  case 8:
    if (f.k == 16)
      return {i < 4 ? g : g + 8, t * 4 + (i & 3)};
    return {(i < 4 || (i >= 8 && i < 12)) ? g : g + 8, t * 4 + (i & 3) + (i >= 8 ? 16 : 0)};
  default:
    if (f.k == 32)
      return {i < 8 ? g : g + 8, t * 8 + (i & 7)};
    return {(i < 8 || (i >= 16 && i < 24)) ? g : g + 8, t * 8 + (i & 7) + (i >= 16 ? 32 : 0)};
  }
}

Element isaB(const Form &f, int lane, int i) {
  int g = lane >> 2, t = lane % 4;
  switch (bitsOf(f.b)) {
  case 64:
  case 32:
    return {t + i * 4, g};
  case 16:
    return {t * 2 + (i & 1) + (i >= 2 ? 8 : 0), g};
  case 8:
    return {t * 4 + (i & 3) + (i >= 4 ? 16 : 0), g};
  default:
    return {t * 8 + (i & 7) + (i >= 8 ? 32 : 0), g};
  }
}

Element isaC(const Form &f, int lane, int i) {
  int g = lane >> 2, t = lane % 4;
  if (f.m == 8)
    return {g, t * 2 + (i & 1)};
  return {i < 2 ? g : g + 8, t * 2 + (i & 1)};
}

/// A kernel of one warp: every thread loads its registers of A, B and C, multiplies, stores D.
std::string mmaKernel(const Form &f, int na, int nb, int nc, bool wide) {
  auto list = [&](const char *name, int n) {
    std::string s = "{";
    for (int i = 0; i < n; ++i)
      s += (i ? ", %" : "%") + std::string(name) + std::to_string(i);
    return s + "}";
  };
  std::string type = wide ? "b64" : "b32";
  std::string declared = f.d == T::F32 ? "f32" : f.d == T::F64 ? "f64" : "b32";
  std::string s =
      ".version 8.7\n.target sm_90a\n.address_size 64\n"
      ".visible .entry k(.param .u64 pa, .param .u64 pb, .param .u64 pc, .param .u64 pd) {\n"
      "  .reg .b64 %p<8>; .reg .b32 %t<4>;\n  .reg ." +
      std::string(wide ? "f64" : "b32") + " %a<16>, %b<16>;\n  .reg ." + declared +
      " %c<8>, %d<8>;\n  mov.u32 %t0, %tid.x;\n";
  auto base = [&](const char *param, int n, int reg) {
    return "  ld.param.u64 %p" + std::to_string(reg) + ", [" + param +
           "];\n  mul.wide.u32 %p7, %t0, " + std::to_string(n * (wide ? 8 : 4)) +
           ";\n  add.u64 %p" + std::to_string(reg) + ", %p" + std::to_string(reg) + ", %p7;\n";
  };
  s += base("pa", na, 0) + base("pb", nb, 1) + base("pc", nc, 2) + base("pd", nc, 3);
  auto load = [&](const char *name, int n, int reg, const std::string &as) {
    std::string r;
    for (int i = 0; i < n; ++i)
      r += "  ld.global." + as + " %" + name + std::to_string(i) + ", [%p" + std::to_string(reg) +
           "+" + std::to_string(i * (wide ? 8 : 4)) + "];\n";
    return r;
  };
  s += load("a", na, 0, type) + load("b", nb, 1, type) + load("c", nc, 2, declared);
  s += "  mma.sync.aligned." + std::string(f.name) + " " + list("d", nc) + ", " + list("a", na) +
       ", " + list("b", nb) + ", " + list("c", nc) + ";\n";
  for (int i = 0; i < nc; ++i)
    s += "  st.global." + declared + " [%p3+" + std::to_string(i * (wide ? 8 : 4)) + "], %d" +
         std::to_string(i) + ";\n";
  return s + "  ret;\n}\n";
}

class MmaLayout : public testing::TestWithParam<Form> {};

/// Products of small integers and of one-hot matrices, packed and unpacked by the ISA's tables.
TEST_P(MmaLayout, EqualsPlainProduct) {
  const Form &f = GetParam();
  bool wide = f.a == T::F64;
  int ab = bitsOf(f.a), db = bitsOf(f.d), word = wide ? 64 : 32;
  int na = f.m * f.k * ab / 32 / word, nb = f.k * 8 * ab / 32 / word, nc = f.m * 8 * db / 32 / word;
  Gpu gpu(mmaKernel(f, na, nb, nc, wide));
  std::mt19937 random(3);
  auto pack = [&](const std::vector<int> &matrix, int columns, T type, int registers, auto layout) {
    int bits = bitsOf(type), per = wide ? 1 : 32 / bits;
    std::vector<uint64_t> words(size_t(registers) * 32);
    for (int l = 0; l < 32; ++l)
      for (int i = 0; i < registers * per; ++i) {
        Element e = layout(f, l, i);
        words[l * registers + i / per] |= bitsOfInteger(type, matrix[e.row * columns + e.column])
                                          << (i % per * (wide ? 0 : bits));
      }
    return words;
  };
  auto upload = [&](const std::vector<uint64_t> &words) {
    if (wide)
      return gpu.upload(words);
    return gpu.upload(std::vector<uint32_t>(words.begin(), words.end()));
  };
  for (int round = 0; round < 12; ++round) {
    std::vector<int> a(f.m * f.k), b(f.k * 8), c(f.m * 8), expected(f.m * 8);
    if (round < 4) {
      bool isUnsigned = f.a == T::U8 || f.a == T::U4, bUnsigned = f.b == T::U8 || f.b == T::U4;
      for (int &v : a)
        v = int(random() % 5) - (isUnsigned ? 0 : 2);
      for (int &v : b)
        v = int(random() % 5) - (bUnsigned ? 0 : 2);
      for (int &v : c)
        v = int(random() % 5) - 2;
    } else { // one-hot
      a[random() % a.size()] = 1;
      for (int &v : b)
        v = int(random() % 4);
    }
    for (int i = 0; i < f.m; ++i)
      for (int j = 0; j < 8; ++j) {
        expected[i * 8 + j] = c[i * 8 + j];
        for (int k = 0; k < f.k; ++k)
          expected[i * 8 + j] += a[i * f.k + k] * b[k * 8 + j];
      }
    uint64_t pd = wide ? gpu.zeros<uint64_t>(nc * 32) : gpu.zeros<uint32_t>(nc * 32);
    gpu.run("k", {{1, 1, 1}, {32, 1, 1}},
            {upload(pack(a, f.k, f.a, na, isaA)), upload(pack(b, 8, f.b, nb, isaB)),
             upload(pack(c, 8, f.d, nc, isaC)), pd});
    std::vector<uint64_t> want = pack(expected, 8, f.d, nc, isaC);
    if (wide) {
      ASSERT_EQ(gpu.download<uint64_t>(pd, nc * 32), want) << f.name << " round " << round;
    } else {
      ASSERT_EQ(gpu.download<uint32_t>(pd, nc * 32),
                std::vector<uint32_t>(want.begin(), want.end()))
          << f.name << " round " << round;
    }
  }
  EXPECT_EQ(gpu.faults(), "");
}

INSTANTIATE_TEST_SUITE_P(Forms, MmaLayout, testing::ValuesIn(forms),
                         [](const auto &i) { return replaced(i.param.name, ".", "_"); });

//===----------------------------------------------------------------------===//
// mma.sync of single bits
//===----------------------------------------------------------------------===//

struct BitForm {
  const char *name;
  int m, k;
  bool isXor;
};

const BitForm bitForms[] = {
    {"m8n8k128.row.col.s32.b1.b1.s32.xor.popc", 8, 128, true},
    {"m16n8k128.row.col.s32.b1.b1.s32.xor.popc", 16, 128, true},
    {"m16n8k256.row.col.s32.b1.b1.s32.xor.popc", 16, 256, true},
    {"m8n8k128.row.col.s32.b1.b1.s32.and.popc", 8, 128, false},
    {"m16n8k128.row.col.s32.b1.b1.s32.and.popc", 16, 128, false},
    {"m16n8k256.row.col.s32.b1.b1.s32.and.popc", 16, 256, false},
};

/// Row and column of bit `i` of A and B by the text of the ISA.
Element isaBitA(const BitForm &f, int lane, int i) {
  int g = lane >> 2, t = lane % 4;
  if (f.m == 8)
    return {g, t * 32 + i};
  if (f.k == 128)
    return {i < 32 ? g : g + 8, t * 32 + (i & 31)};
  return {i < 32 || (i >= 64 && i < 96) ? g : g + 8, t * 32 + (i & 31) + (i >= 64 ? 128 : 0)};
}
Element isaBitB(const BitForm &, int lane, int i) {
  return {lane % 4 * 32 + (i & 31) + (i >= 32 ? 128 : 0), lane >> 2};
}

class MmaBits : public testing::TestWithParam<BitForm> {};

/// D = C + the number of places where the bits of a row of A and a column of B differ (xor) or are both
/// set (and); of drawn bits, few, half and nearly all set; C of any 32 bits: sums wrap.
TEST_P(MmaBits, EqualsCounts) {
  const BitForm &f = GetParam();
  int na = f.m * f.k / 1024, nb = f.k * 8 / 1024, nc = f.m * 8 / 32;
  Form asForm{f.name, f.m, f.k, T::U4, T::U4, T::S32, 80};
  Gpu gpu(mmaKernel(asForm, na, nb, nc, false));
  std::mt19937 random(7);
  for (int round = 0; round < 12; ++round) {
    std::vector<uint8_t> a(f.m * f.k), b(f.k * 8);
    unsigned percent[] = {50, 5, 95, 50};
    for (uint8_t &v : a)
      v = random() % 100 < percent[round % 4];
    for (uint8_t &v : b)
      v = random() % 100 < percent[(round / 4 + round) % 4];
    std::vector<uint32_t> wordsA(na * 32), wordsB(nb * 32), c(nc * 32), want(nc * 32);
    for (int l = 0; l < 32; ++l) {
      for (int i = 0; i < na * 32; ++i) {
        Element e = isaBitA(f, l, i);
        wordsA[l * na + i / 32] |= uint32_t(a[e.row * f.k + e.column]) << (i % 32);
      }
      for (int i = 0; i < nb * 32; ++i) {
        Element e = isaBitB(f, l, i);
        wordsB[l * nb + i / 32] |= uint32_t(b[e.row * 8 + e.column]) << (i % 32);
      }
      for (int i = 0; i < nc; ++i) {
        Element e = isaC(asForm, l, i);
        uint32_t &sum = want[l * nc + i];
        sum = c[l * nc + i] = random();
        for (int k = 0; k < f.k; ++k) {
          uint8_t x = a[e.row * f.k + k], y = b[k * 8 + e.column];
          sum += f.isXor ? x != y : x && y;
        }
      }
    }
    uint64_t pd = gpu.zeros<uint32_t>(want.size());
    gpu.run("k", {{1, 1, 1}, {32, 1, 1}},
            {gpu.upload(wordsA), gpu.upload(wordsB), gpu.upload(c), pd});
    ASSERT_EQ(gpu.download<uint32_t>(pd, want.size()), want) << f.name << " round " << round;
  }
  EXPECT_EQ(gpu.faults(), "");
}

INSTANTIATE_TEST_SUITE_P(Forms, MmaBits, testing::ValuesIn(bitForms),
                         [](const auto &i) { return replaced(i.param.name, ".", "_"); });

//===----------------------------------------------------------------------===//
// wgmma descriptors
//===----------------------------------------------------------------------===//

/// The canonical layouts of PTX ISA 9.0, 9.7.15.5.1.2.1.3, in bytes: where element (mn, k) lies.
uint32_t canonical(const MatrixDescriptor &d, bool mnMajor, int elementBytes, int mn, int k) {
  int T = 16 / elementBytes;        // elements of 128 bits
  uint32_t W = d.swizzleBytes / 16; // atom width in units of 128 bits
  uint32_t at;
  auto units = [&](uint32_t n) { return n * 16; };
  if (mnMajor && !W) // ((T,1,m),(8,k)):((1,T,SBO),(1T,LBO))
    at = uint32_t(mn % T * elementBytes) + mn / T * d.stride + units(k % 8) + k / 8 * d.leading;
  else if (mnMajor) // ((T,W,m),(8,k)):((1,T,LBO),(W T,SBO))
    at = uint32_t(mn % T * elementBytes) + units(mn / T % W) + mn / T / W * d.leading +
         units(k % 8 * W) + k / 8 * d.stride;
  else if (!W) // ((8,m),(T,2k)):((1T,SBO),(1,LBO))
    at = units(mn % 8) + mn / 8 * d.stride + uint32_t(k % T * elementBytes) + k / T * d.leading;
  else // ((8,m),(T,2k)):((W T,SBO),(1,T))
    at = units(mn % 8 * W) + mn / 8 * d.stride + uint32_t(k % T * elementBytes) + units(k / T);
  at += d.start;
  if (W) // Swizzle<log2 W, 4, 3> on the address
    at ^= (at >> 7 & (W - 1)) << 4;
  return at;
}

TEST(MatrixDescriptor, EncodesAndDecodes) {
  MatrixDescriptor d{
      .start = 0x12340, .leading = 8192, .stride = 1024, .baseOffset = 5, .swizzleBytes = 64};
  MatrixDescriptor e = MatrixDescriptor::decode(d.encode());
  EXPECT_EQ(e.start, d.start);
  EXPECT_EQ(e.leading, d.leading);
  EXPECT_EQ(e.stride, d.stride);
  EXPECT_EQ(e.baseOffset, d.baseOffset);
  EXPECT_EQ(e.swizzleBytes, d.swizzleBytes);
  EXPECT_EQ(d.encode() >> 62, 2u);
}

/// The first two examples of the ISA with numbers: tf32 K-major without swizzle, bf16 MN-major with 32.
TEST(MatrixDescriptor, ExamplesOfTheIsa) {
  MatrixDescriptor k{.start = 0, .leading = 64 * 4, .stride = 32 * 4};
  // Exact layout ((8,2),(4,4)):((4,32),(1,64)) in elements of 4 bytes.
  for (int mn = 0; mn < 16; ++mn)
    for (int kk = 0; kk < 16; kk += 4)
      EXPECT_EQ(k.pieceAddress(false, mn, kk / 4),
                uint32_t((mn % 8 * 4 + mn / 8 * 32 + kk / 4 * 64) * 4));
  MatrixDescriptor m{.start = 0, .leading = 128 * 2, .stride = 256 * 2, .swizzleBytes = 32};
  // Swizzle<1,4,3> o ((8,2,2),(8,2)):((1,8,128),(16,256)) in elements of 2 bytes.
  for (int mn = 0; mn < 32; mn += 8)
    for (int kk = 0; kk < 16; ++kk) {
      uint32_t at = uint32_t(mn / 8 % 2 * 8 + mn / 16 * 128 + kk % 8 * 16 + kk / 8 * 256) * 2;
      at ^= (at >> 7 & 1) << 4;
      EXPECT_EQ(m.pieceAddress(true, kk, mn / 8), at);
    }
}

TEST(MatrixDescriptor, PiecesAreTheCanonicalLayouts) {
  for (uint32_t swizzle : {0u, 32u, 64u, 128u})
    for (bool mnMajor : {false, true})
      for (int bytes : {1, 2, 4}) {
        if (mnMajor && bytes != 2)
          continue; // the ISA transposes 16-bit types only
        MatrixDescriptor d{.start = 2048, .leading = 4096, .stride = 1024, .swizzleBytes = swizzle};
        int T = 16 / bytes, K = 32 / bytes;
        for (int mn = 0; mn < 256; ++mn)
          for (int k = 0; k < K; ++k) {
            uint32_t piece = mnMajor ? d.pieceAddress(true, k, mn / T) + mn % T * bytes
                                     : d.pieceAddress(false, mn, k / T) + k % T * bytes;
            ASSERT_EQ(piece, canonical(d, mnMajor, bytes, mn, k))
                << swizzle << " " << mnMajor << " " << bytes << " " << mn << " " << k;
          }
      }
}

/// A pattern that does not begin at a multiple of its size: the base offset says where.
TEST(MatrixDescriptor, BaseOffset) {
  MatrixDescriptor whole{.start = 1024, .stride = 1024, .swizzleBytes = 128};
  MatrixDescriptor shifted{
      .start = 1024 + 3 * 128, .stride = 1024, .baseOffset = 3, .swizzleBytes = 128};
  for (int mn = 0; mn < 8; ++mn)
    for (int i = 0; i < 2; ++i)
      EXPECT_EQ(shifted.pieceAddress(false, mn, i), whole.pieceAddress(false, mn, i) + 3 * 128);
}

//===----------------------------------------------------------------------===//
// wgmma
//===----------------------------------------------------------------------===//

struct WgmmaForm {
  const char *types; ///< d.a.b
  T a, b, d;
  int n;
  uint32_t swizzleA, swizzleB;
  bool mMajorA, nMajorB, registersA;
  int scaleA, scaleB, startA, startB; ///< start: bytes into the first atom
};

/// A kernel of one warpgroup: the image goes to shared memory, then D = A B + C (or without C).
std::string wgmmaKernel(const WgmmaForm &f, uint32_t bytes) {
  int registers = f.n / (f.d == T::F16 ? 4 : 2);
  std::string acc = f.d == T::F32 ? "f32" : "b32", d = "{";
  for (int i = 0; i < registers; ++i)
    d += (i ? ", %d" : "%d") + std::to_string(i);
  d += "}";
  int k = 256 / bitsOf(f.a);
  bool half = f.a == T::F16 || f.a == T::BF16, integer = f.d == T::S32;
  std::string s =
      ".version 8.0\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 image, "
      ".param .u64 ra, .param .u64 c, .param .u64 o, .param .u64 da, .param .u64 db, "
      ".param .u32 scale) {\n  .shared .align 1024 .b8 sm[" +
      std::to_string(bytes) + "];\n  .reg .b64 %p<16>; .reg .b32 %r<16>; .reg .pred %q<4>; .reg ." +
      acc + " %d<" + std::to_string(registers) + ">; .reg .b32 %a<4>;\n" +
      R"(  mov.u32 %r0, %tid.x;
  ld.param.u64 %p0, [image];
  mov.u32 %r1, sm;
  mov.u32 %r2, %r0;
$copy:
  mul.wide.u32 %p1, %r2, 16;
  add.u64 %p1, %p0, %p1;
  ld.global.v4.b32 {%r4, %r5, %r6, %r7}, [%p1];
  shl.b32 %r8, %r2, 4;
  add.u32 %r8, %r1, %r8;
  st.shared.v4.b32 [%r8], {%r4, %r5, %r6, %r7};
  add.u32 %r2, %r2, 128;
  setp.lt.u32 %q0, %r2, )" +
      std::to_string(bytes / 16) + R"(;
  @%q0 bra $copy;
  fence.proxy.async.shared::cta;
  bar.sync 0;
  ld.param.u64 %p2, [da];
  ld.param.u64 %p3, [db];
  shr.u32 %r9, %r1, 4;
  cvt.u64.u32 %p4, %r9;
  add.u64 %p2, %p2, %p4;
  add.u64 %p3, %p3, %p4;
  mul.wide.u32 %p5, %r0, 4;
  ld.param.u64 %p6, [ra];
  add.u64 %p6, %p6, %p5;
  ld.param.u64 %p7, [c];
  add.u64 %p7, %p7, %p5;
  ld.param.u64 %p8, [o];
  add.u64 %p8, %p8, %p5;
  ld.param.u32 %r10, [scale];
  setp.ne.u32 %q1, %r10, 0;
)";
  auto at = [](const char *base, int i) {
    return "[" + std::string(base) + "+" + std::to_string(i * 512) + "]";
  };
  if (f.registersA)
    for (int i = 0; i < 4; ++i)
      s += "  ld.global.b32 %a" + std::to_string(i) + ", " + at("%p6", i) + ";\n";
  for (int i = 0; i < registers; ++i)
    s += "  ld.global." + acc + " %d" + std::to_string(i) + ", " + at("%p7", i) + ";\n";
  s += "  wgmma.fence.sync.aligned;\n  wgmma.mma_async.sync.aligned.m64n" + std::to_string(f.n) +
       "k" + std::to_string(k) + "." + f.types + " " + d + ", " +
       (f.registersA ? "{%a0, %a1, %a2, %a3}" : "%p2") + ", %p3, %q1";
  if (!integer)
    s += ", " + std::to_string(f.scaleA) + ", " + std::to_string(f.scaleB);
  if (half && !f.registersA)
    s += f.mMajorA ? ", 1" : ", 0";
  if (half)
    s += f.nMajorB ? ", 1" : ", 0";
  s += ";\n  wgmma.commit_group.sync.aligned;\n  wgmma.wait_group.sync.aligned 0;\n";
  for (int i = 0; i < registers; ++i)
    s += "  st.global." + acc + " " + at("%p8", i) + ", %d" + std::to_string(i) + ";\n";
  return s + "  ret;\n}\n";
}

/// Strides of a matrix of `lines` along m or n that lies dense.
MatrixDescriptor dense(uint32_t swizzle, bool mnMajor, int lines, int start) {
  MatrixDescriptor d{.start = uint32_t(start), .swizzleBytes = swizzle};
  if (!mnMajor) {
    d.stride = swizzle ? 8 * swizzle : 128;
    d.leading = swizzle ? 16 : 128 * uint32_t(lines / 8);
  } else if (swizzle) {
    d.stride = 8 * swizzle;
    d.leading = 16 * swizzle;
  } else {
    d.leading = 128;
    d.stride = 256;
  }
  return d;
}

class WgmmaLayout : public testing::TestWithParam<WgmmaForm> {};

TEST_P(WgmmaLayout, EqualsPlainProduct) {
  const WgmmaForm &f = GetParam();
  int bytes = bitsOf(f.a) / 8, K = 32 / bytes, registers = f.n / (f.d == T::F16 ? 4 : 2);
  MatrixDescriptor da = dense(f.swizzleA, f.mMajorA, 64, f.startA),
                   db = dense(f.swizzleB, f.nMajorB, f.n, f.startB);
  uint32_t endA = 0, size = 0;
  for (int i = 0; i < 64; ++i)
    for (int k = 0; k < K; ++k)
      endA = std::max(endA, canonical(da, f.mMajorA, bytes, i, k) + 16);
  endA = (endA + 1023) / 1024 * 1024;
  db.start += endA;
  for (int j = 0; j < f.n; ++j)
    for (int k = 0; k < K; ++k)
      size = std::max(size, canonical(db, f.nMajorB, bytes, j, k) + 16);
  size = (size + 1023) / 1024 * 1024;
  Gpu gpu(wgmmaKernel(f, size));
  std::mt19937 random(5);
  for (int round = 0; round < 5; ++round) {
    std::vector<int> a(64 * K), b(K * f.n), c(64 * f.n), expected(64 * f.n);
    bool oneHot = round > 1;
    for (int &v : a)
      v = oneHot ? 0 : int(random() % 5) - (f.a == T::U8 ? 0 : 2);
    if (oneHot)
      a[random() % a.size()] = 1;
    for (int &v : b)
      v = int(random() % 5) - (f.b == T::U8 ? 0 : 2);
    for (int &v : c)
      v = int(random() % 5) - 2;
    uint32_t scaleD = round != 1;
    for (int i = 0; i < 64; ++i)
      for (int j = 0; j < f.n; ++j) {
        int &e = expected[i * f.n + j] = scaleD ? c[i * f.n + j] : 0;
        for (int k = 0; k < K; ++k)
          e += a[i * K + k] * b[k * f.n + j] * f.scaleA * f.scaleB;
      }
    std::vector<uint8_t> image(size);
    auto place = [&](const MatrixDescriptor &d, bool mnMajor, T type, int mn, int k, int v) {
      uint64_t bits = bitsOfInteger(type, v);
      std::memcpy(image.data() + canonical(d, mnMajor, bytes, mn, k), &bits, size_t(bytes));
    };
    for (int k = 0; k < K; ++k) {
      for (int i = 0; i < 64 && !f.registersA; ++i)
        place(da, f.mMajorA, f.a, i, k, a[i * K + k]);
      for (int j = 0; j < f.n; ++j)
        place(db, f.nMajorB, f.b, j, k, b[k * f.n + j]);
    }
    // A in registers, by the figures of the ISA: warp w has rows 16 w .. 16 w + 15, laid out as for
    // mma.sync; D likewise, by eights of columns.
    Form asMma{"", 16, K, f.a, f.b, f.d, 90};
    int per = 32 / bitsOf(f.a), perD = f.d == T::F16 ? 2 : 1;
    std::vector<uint32_t> ra(4 * 128), acc(registers * 128), want(registers * 128);
    for (int t = 0; t < 128; ++t) {
      for (int i = 0; i < 4 * per; ++i) {
        Element e = isaA(asMma, t % 32, i);
        ra[i / per * 128 + t] |= uint32_t(
            bitsOfInteger(f.a, a[(t / 32 * 16 + e.row) * K + e.column]) << (i % per * bitsOf(f.a)));
      }
      for (int i = 0; i < registers * perD; ++i) {
        int row = t / 32 * 16 + t % 32 / 4 + 8 * (i / 2 % 2),
            column = i / 4 * 8 + t % 4 * 2 + i % 2;
        acc[i / perD * 128 + t] |=
            uint32_t(bitsOfInteger(f.d, c[row * f.n + column]) << (i % perD * 16));
        want[i / perD * 128 + t] |=
            uint32_t(bitsOfInteger(f.d, expected[row * f.n + column]) << (i % perD * 16));
      }
    }
    uint64_t out = gpu.zeros<uint32_t>(want.size());
    gpu.run("k", {},
            {gpu.upload(image), gpu.upload(ra), gpu.upload(acc), out, da.encode(), db.encode(),
             scaleD});
    ASSERT_EQ(gpu.download<uint32_t>(out, want.size()), want)
        << f.types << " n " << f.n << " round " << round;
  }
  EXPECT_EQ(gpu.faults(), "");
}

std::vector<WgmmaForm> wgmmaForms() {
  std::vector<WgmmaForm> all;
  // Every swizzle of A and B, both majors of both, 16-bit types.
  for (uint32_t swizzle : {0u, 32u, 64u, 128u})
    for (int majors = 0; majors < 4; ++majors)
      all.push_back({"f32.bf16.bf16", T::BF16, T::BF16, T::F32, 64, swizzle, swizzle,
                     (majors & 1) != 0, (majors & 2) != 0, false, 1, 1, 0, 0});
  // Mixed swizzles; a step of k within the atom; widths of N.
  all.push_back(
      {"f32.bf16.bf16", T::BF16, T::BF16, T::F32, 128, 128, 64, false, false, false, 1, 1, 32, 32});
  all.push_back(
      {"f32.bf16.bf16", T::BF16, T::BF16, T::F32, 256, 128, 128, false, true, false, 1, 1, 96, 0});
  all.push_back(
      {"f32.bf16.bf16", T::BF16, T::BF16, T::F32, 8, 64, 0, false, false, false, 1, 1, 32, 0});
  all.push_back(
      {"f32.f16.f16", T::F16, T::F16, T::F32, 24, 32, 128, true, false, false, 1, 1, 0, 64});
  all.push_back(
      {"f16.f16.f16", T::F16, T::F16, T::F16, 40, 128, 128, false, false, false, 1, 1, 0, 0});
  all.push_back(
      {"f32.tf32.tf32", T::TF32, T::TF32, T::F32, 32, 128, 32, false, false, false, 1, 1, 0, 0});
  all.push_back(
      {"f32.e4m3.e5m2", T::E4M3, T::E5M2, T::F32, 48, 64, 128, false, false, false, 1, 1, 0, 0});
  all.push_back(
      {"f16.e5m2.e4m3", T::E5M2, T::E4M3, T::F16, 16, 0, 32, false, false, false, 1, 1, 0, 0});
  all.push_back({"s32.s8.u8", T::S8, T::U8, T::S32, 32, 128, 128, false, false, false, 1, 1, 0, 0});
  all.push_back({"s32.u8.s8", T::U8, T::S8, T::S32, 96, 0, 0, false, false, false, 1, 1, 0, 0});
  // A in registers; negated.
  all.push_back(
      {"f32.bf16.bf16", T::BF16, T::BF16, T::F32, 64, 128, 128, false, true, true, 1, 1, 0, 0});
  all.push_back(
      {"f32.bf16.bf16", T::BF16, T::BF16, T::F32, 64, 128, 128, false, false, true, -1, 1, 0, 0});
  all.push_back(
      {"f32.f16.f16", T::F16, T::F16, T::F32, 64, 128, 128, false, false, false, 1, -1, 0, 0});
  all.push_back(
      {"f32.f16.f16", T::F16, T::F16, T::F32, 64, 128, 128, false, false, false, -1, -1, 0, 0});
  all.push_back(
      {"f32.tf32.tf32", T::TF32, T::TF32, T::F32, 64, 128, 128, false, false, true, 1, 1, 0, 0});
  all.push_back(
      {"f32.e4m3.e4m3", T::E4M3, T::E4M3, T::F32, 64, 128, 128, false, false, true, 1, 1, 0, 0});
  all.push_back({"s32.s8.s8", T::S8, T::S8, T::S32, 64, 128, 128, false, false, true, 1, 1, 0, 0});
  return all;
}

INSTANTIATE_TEST_SUITE_P(Forms, WgmmaLayout, testing::ValuesIn(wgmmaForms()), [](const auto &i) {
  const WgmmaForm &f = i.param;
  return std::to_string(i.index) + "_" + replaced(f.types, ".", "_") + "_n" + std::to_string(f.n) +
         "_A" + std::to_string(f.swizzleA) + (f.mMajorA ? "m" : "k") + "_B" +
         std::to_string(f.swizzleB) + (f.nMajorB ? "n" : "k") + (f.registersA ? "_RS" : "");
});

} // namespace
