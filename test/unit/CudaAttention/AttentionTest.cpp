//===- AttentionTest.cpp - Attention on a GPU against its formulas --------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The kernels of llama-emit-attention on the software GPU: any fault that it finds (a race, a
// read of what nobody wrote, a barrier that some miss) ends the process with status 86. The chip is
// SOFTWARE_GPU_CHIP's. More drawn problems: LLAMAC_ATTENTION_CASES (24),
// from number LLAMAC_ATTENTION_FIRST; LLAMAC_ATTENTION_PTX names a folder for the PTX.
// Where there is ptxas, the kernels of some head sizes (LLAMAC_ATTENTION_SIZES=all: of all) are assembled.
//
//===----------------------------------------------------------------------===//
#include "../Host/AttentionProblems.h"
#include "DeviceBlock.h"

#include <fstream>
#include <functional>
#include <sstream>

using namespace values;
using llamac_test::DeviceBlock;

namespace {

std::string environment(const char *name, const char *otherwise) {
  const char *value = getenv(name);
  return value ? value : otherwise;
}

// What LLVM calls the chip of the software GPU.
std::string chip() {
  std::string chip = environment("SOFTWARE_GPU_CHIP", "sm_90");
  return chip == "sm_90" ? "sm_90a" : chip;
}

//===----------------------------------------------------------------------===//
// A problem as a block
//===----------------------------------------------------------------------===//

// `memref<4x2xf32>`; shapes do not matter to routines, numbers of elements do.
std::string buffer(int64_t count, const char *element) {
  return "memref<" + std::to_string(count) + "x" + element + ">";
}

// One routine on the function's arguments: `reads` before the masks, `writes` behind them.
std::string blockText(const Problem &p, const char *name, const std::vector<std::string> &reads,
                      const std::vector<std::string> &writes) {
  const LlrtAttention &at = p.at;
  std::vector<std::string> types = reads;
  size_t masks = 0;
  for (const auto *mask : {&p.mask0, &p.mask1, &p.mask2, &p.mask3})
    if (!mask->empty()) {
      types.push_back(buffer(mask->size(), "i64"));
      ++masks;
    }
  types.insert(types.end(), writes.begin(), writes.end());
  auto list = [](size_t begin, size_t end) {
    std::string text;
    for (size_t i = begin; i != end; ++i)
      text += (i == begin ? "%a" : ", %a") + std::to_string(i);
    return text;
  };
  std::ostringstream out;
  out << "func.func @block(";
  for (size_t i = 0; i != types.size(); ++i)
    out << (i ? ", " : "") << "%a" << i << ": " << types[i];
  out << ") {\n  routine." << name << " " << list(0, reads.size()) << " masks("
      << list(reads.size(), reads.size() + masks) << ") into "
      << list(reads.size() + masks, types.size());
  const char *kinds[] = {"causal", "encoder", "images"};
  out.precision(17);
  out << " {mask = #routine.mask<" << kinds[at.mask] << ">, scale = " << std::scientific << at.scale
      << " : f64, batch = " << at.batch << " : i64, queries = " << at.queries
      << " : i64, keys = " << at.keys << " : i64, heads = " << at.heads
      << " : i64, kv_heads = " << at.kv_heads << " : i64, head_size = " << at.head_size
      << " : i64, images = " << at.images << " : i64, tile_count = " << at.tile_count
      << " : i64, tile_stride = " << at.tile_stride << " : i64, tile_tokens = " << at.tile_tokens
      << " : i64} : (";
  for (size_t i = 0; i != types.size(); ++i)
    out << (i ? ", " : "") << types[i];
  out << ") -> ()\n  return\n}\n";
  return out.str();
}

// Saves the PTX of a block's kernels if asked for.
void savePtx(const DeviceBlock &block) {
  static int number = 0;
  std::string folder = environment("LLAMAC_ATTENTION_PTX", "");
  if (folder.empty())
    return;
  for (const auto &[name, ptx] : block.kernels())
    std::ofstream(folder + "/" + name + "." + chip() + "." + std::to_string(number) + ".ptx")
        << ptx;
  ++number;
}

// Forward and backward of a problem, as blocks.
struct Blocks {
  DeviceBlock forward, backward;

  Blocks(const Problem &p, const std::string &chips, const std::string &chip)
      : forward(text(p, true), chips, chip), backward(text(p, false), chips, chip) {}

private:
  static std::string text(const Problem &p, bool forward) {
    const char *element = p.at.type == LLRT_F32 ? "f32" : "bf16";
    std::string query = buffer(p.queryCount(), element), key = buffer(p.keyCount(), element),
                row = buffer(p.rowCount(), "f32");
    return forward ? blockText(p, "attention_forward", {query, key, key}, {query, row})
                   : blockText(p, "attention_backward", {query, query, key, key, query, row},
                               {query, key, key});
  }
};

// `change` gets the backward before it runs.
Result runKernels(const Problem &p, Inputs &in, const std::string &chips,
                  const std::function<void(DeviceBlock &)> &change = {}) {
  const int64_t type = p.at.type;
  Result r = {Array(type, p.queryCount()), Array(LLRT_F32, p.rowCount()),
              Array(type, p.queryCount()), Array(type, p.keyCount()), Array(type, p.keyCount())};
  Blocks blocks(p, chips, chip());
  if (change)
    change(blocks.backward);
  const DeviceBlock &forward = blocks.forward, &backward = blocks.backward;
  savePtx(forward);
  savePtx(backward);
  using llamac_test::HostBuffer;
  auto of = [](Array &array, int64_t type, bool written) {
    return HostBuffer{array.data(), array.size() * bytesOf(type), written};
  };
  auto addMasks = [&](std::vector<HostBuffer> &to) {
    for (const auto *mask : {&p.mask0, &p.mask1, &p.mask2, &p.mask3})
      if (!mask->empty())
        to.push_back({const_cast<int64_t *>(mask->data()), mask->size() * 8, false});
  };
  std::vector<HostBuffer> arguments = {of(in.q, type, false), of(in.k, type, false),
                                       of(in.v, type, false)};
  addMasks(arguments);
  arguments.push_back(of(r.out, type, true));
  arguments.push_back(of(r.lse, LLRT_F32, true));
  forward.run(arguments);
  arguments = {of(in.dOut, type, false), of(in.q, type, false),  of(in.k, type, false),
               of(in.v, type, false),    of(r.out, type, false), of(r.lse, LLRT_F32, false)};
  addMasks(arguments);
  for (Array *gradient : {&r.dQ, &r.dK, &r.dV})
    arguments.push_back(of(*gradient, type, true));
  backward.run(arguments);
  return r;
}

void check(const Problem &p, const std::string &chips, uint32_t seed = 5) {
  const LlrtAttention &at = p.at;
  SCOPED_TRACE(testing::Message() << "case " << seed << ", chips " << chips << ", type " << at.type
                                  << ", mask " << at.mask << ", B " << at.batch << ", S "
                                  << at.queries << ", T " << at.keys << ", H " << at.heads << ", K "
                                  << at.kv_heads << ", D " << at.head_size);
  Inputs in = drawInputs(p, seed);
  compare(p, in, runKernels(p, in, chips));
}

// A form: a type, and chips that all have it. f32 has the plain form, bf16 that of mma.sync, and where the chip is
// sm_90 that of sm_90a.
struct Form {
  const char *name;
  int64_t type;
  const char *chips;
};
std::vector<Form> forms() {
  std::vector<Form> forms = {{"plain", LLRT_F32, "sm_80"}, {"mma", LLRT_BF16, "sm_80"}};
  if (chip() == "sm_90a")
    forms.push_back({"hopper", LLRT_BF16, "sm_90a"});
  return forms;
}

class CudaAttention : public testing::TestWithParam<Form> {};
INSTANTIATE_TEST_SUITE_P(Forms, CudaAttention, testing::ValuesIn(forms()),
                         [](const auto &info) { return info.param.name; });

//===----------------------------------------------------------------------===//
// Tests
//===----------------------------------------------------------------------===//

// One tile, several, and lengths that are no multiples of one.
TEST_P(CudaAttention, CausalMatchesFormulas) {
  check(causal(GetParam().type, {1, 1, 1, 64}, 64), GetParam().chips);
  check(causal(GetParam().type, {2, 4, 2, 16}, 1), GetParam().chips);
  check(causal(GetParam().type, {2, 4, 2, 16}, 131), GetParam().chips);
}

// Padding on the left: queries that see nothing weigh all keys alike.
TEST_P(CudaAttention, QueriesThatSeeNothingWeighAllKeysAlike) {
  check(causal(GetParam().type, {1, 2, 1, 24}, 150, 2, 70, 5), GetParam().chips);
}

TEST_P(CudaAttention, EncoderMatchesFormulas) {
  check(encoder(GetParam().type, {3, 2, 2, 80}, 2, 40, 37), GetParam().chips);
}

TEST_P(CudaAttention, ImagesMatchFormulas) {
  check(images(GetParam().type, {2, 4, 1, 16}, 70, 3, 2, 30), GetParam().chips);
}

// The least and the greatest; half steps of 8 columns; heads whose sums are divided between blocks.
TEST_P(CudaAttention, HeadSizesOfEveryKindMatchFormulas) {
  std::vector<int64_t> sizes = {8, 24, 136, 200, 256};
  if (GetParam().type == LLRT_F32)
    sizes = {1, 3, 100, 260};
  for (int64_t size : sizes)
    check(causal(GetParam().type, {1, 2, 1, size}, 70), GetParam().chips);
}

// More tiles of keys and of rows than the form by mma.sync lists at a time (heads of more than 192 columns: 32 tiles).
TEST(CudaAttentionLists, OfManyTilesMatchFormulas) {
  check(someQueries(causal(LLRT_BF16, {1, 8, 1, 200}, 1060, 2), 990, 70), "sm_80");
}

// So many tiles of keys that every stage of a pipeline is filled more than once.
TEST_P(CudaAttention, ManyTilesMatchFormulas) {
  const int64_t length = GetParam().name == std::string("hopper") ? 400 : 200;
  check(causal(GetParam().type, {1, 1, 1, 80}, length, 1, 0, 9), GetParam().chips);
}

// The same with another mask; the first queries see nothing.
TEST_P(CudaAttention, ManyTilesOfImagesMatchFormulas) {
  check(images(GetParam().type, {1, 2, 1, 24}, 200, 2, 2, 150), GetParam().chips);
}

// Drawn problems: sizes, types, masks, heads.
Problem drawProblem(uint32_t seed) {
  std::mt19937 generator(seed);
  auto draw = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(generator);
  };
  const int64_t type = draw(0, 2) ? LLRT_BF16 : LLRT_F32;
  const int64_t kvHeads = draw(1, 3), group = draw(1, 5);
  // Mostly sizes that models have; some that none has.
  const int64_t sizes[] = {64, 80, 128, 128, 8 * draw(1, 32), 8 * draw(1, 16), draw(1, 40)};
  Sizes s = {draw(1, 2), kvHeads * group, kvHeads, sizes[draw(0, 6)]};
  auto length = [&] { return draw(0, 3) ? draw(1, 100) : draw(100, 300); };
  switch (draw(0, 3)) {
  case 0: {
    int64_t n = length();
    return causal(type, s, n, draw(1, 1 + n / 8), draw(0, 2) ? 0 : draw(0, n - 1),
                  draw(0, 1) ? 0 : draw(0, n / 2));
  }
  case 1: { // part of the queries, as a rank of context parallelism has
    int64_t n = length(), first = draw(0, n - 1);
    return someQueries(causal(type, s, n, draw(1, 4)), first, draw(1, n - first));
  }
  case 2: {
    int64_t tiles = draw(1, 4), stride = draw(1, 60);
    s.batch = draw(1, 3);
    return encoder(type, s, tiles, stride, draw(1, stride));
  }
  default:
    return images(type, s, length(), draw(1, 3), draw(1, 4), draw(1, 40));
  }
}

TEST(CudaAttentionDrawn, MatchesFormulas) {
  const int first = std::stoi(environment("LLAMAC_ATTENTION_FIRST", "0"));
  const int cases = std::stoi(environment("LLAMAC_ATTENTION_CASES", "24"));
  for (int seed = first; seed != first + cases; ++seed)
    check(drawProblem(seed), seed % 2 ? "sm_80" : chip(), seed);
}

//===----------------------------------------------------------------------===//
// Blocks that wait for each other: the backward of sm_90a
//===----------------------------------------------------------------------===//

// In processes of their own: a fault ends one with status 86.
class CudaAttentionOrder : public testing::Test {
protected:
  // Three tiles of keys, ten of rows.
  const Problem p = causal(LLRT_BF16, {1, 2, 1, 64}, 300);

  void SetUp() override {
    if (chip() != "sm_90a")
      GTEST_SKIP() << "the form is for sm_90a";
    GTEST_FLAG_SET(death_test_style, "threadsafe");
  }
  // Runs p some times, in other orders, with as many blocks at one time as `resident` says (empty: any number), and ends the
  // process: with 0 if it is right, or changed (then faults make it 86).
  [[noreturn]] void run(const char *resident,
                        const std::function<void(DeviceBlock &)> &change = {}) const {
    setenv("SOFTWARE_GPU_SEED", "2", 1); // with 1, blocks keep the order by chance
    if (*resident)
      setenv("SOFTWARE_GPU_RESIDENT", resident, 1);
    Inputs in = drawInputs(p, 5);
    for (int i = 0; i != 3; ++i)
      compare(p, in, runKernels(p, in, "sm_90a", change));
    exit(HasFailure() && !change ? 1 : 0);
  }
};

// Each run has other orders of blocks.
TEST_F(CudaAttentionOrder, OfBlocksChangesNoBit) {
  Inputs in = drawInputs(p, 5);
  const Result first = runKernels(p, in, "sm_90a");
  for (int i = 0; i != 4; ++i)
    EXPECT_TRUE(runKernels(p, in, "sm_90a") == first);
}

// A block that adds its part before its turn is found.
TEST_F(CudaAttentionOrder, IsKeptByWaits) {
  EXPECT_EXIT(run("", [](DeviceBlock &b) { b.change("@other bra again_[0-9]+;", ""); }),
              testing::ExitedWithCode(86), "software-gpu: race: ");
}

// However few have room, blocks wait only for such as have begun. With numbers of the grid they would wait for ever.
TEST_F(CudaAttentionOrder, NeedsRoomForOneBlock) {
  EXPECT_EXIT(run("1"), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(run("2"), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(run("1",
                  [](DeviceBlock &b) {
                    b.change("atom\\.global\\.add\\.u32\\s+(%r[0-9]+), [^;]*;",
                             "mov.u32 $1, %ctaid.x;");
                  }),
              testing::ExitedWithCode(1), "software-gpu: deadlock: ");
}

//===----------------------------------------------------------------------===//
// Machine code
//===----------------------------------------------------------------------===//

// Head sizes whose kernels are assembled.
std::vector<int64_t> assembledSizes() {
  if (environment("LLAMAC_ATTENTION_SIZES", "") != "all")
    return {80, 128};
  std::vector<int64_t> sizes;
  for (int64_t size = 8; size <= 256; size += 8)
    sizes.push_back(size);
  return sizes;
}

class CudaAttentionCode : public testing::TestWithParam<int64_t> {};

// No kernel spills registers, and ptxas leaves what is asynchronous as it is.
TEST_P(CudaAttentionCode, AssemblesWithoutSpills) {
  const int64_t size = GetParam();
  struct Code {
    int64_t type;
    const char *chips, *chip;
  };
  const Code codes[] = {{LLRT_F32, "sm_80", "sm_80"},
                        {LLRT_BF16, "sm_80", "sm_80"},
                        {LLRT_BF16, "sm_80", "sm_90a"},
                        {LLRT_BF16, "sm_80", "sm_100a"},
                        {LLRT_BF16, "sm_90a", "sm_90a"}};
  for (const Code &code : codes)
    for (const Problem &p : {causal(code.type, {1, 8, 2, size}, 300),
                             images(code.type, {1, 3, 1, size}, 300, 2, 2, 50)}) {
      Blocks blocks(p, code.chips, code.chip);
      for (const DeviceBlock *block : {&blocks.forward, &blocks.backward}) {
        std::vector<llamac_test::Assembled> all = block->assemble();
        if (all.empty())
          GTEST_SKIP() << "there is no ptxas; tools/setup.sh --cuda fetches one";
        for (const auto &[name, registers, spills, problem] : all) {
          EXPECT_EQ(spills, 0) << name << ", head size " << size << ", " << code.chip << ", mask "
                               << p.at.mask << ": " << registers << " registers";
          EXPECT_EQ(problem, "") << name << ", head size " << size << ", " << code.chip;
        }
      }
    }
}

INSTANTIATE_TEST_SUITE_P(HeadSizes, CudaAttentionCode, testing::ValuesIn(assembledSizes()),
                         [](const auto &info) { return std::to_string(info.param); });

} // namespace
