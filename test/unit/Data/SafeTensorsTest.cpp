//===- SafeTensorsTest.cpp - Tests of safetensors files ------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "src/Data/SafeTensors.h"

#include "TestFiles.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <sys/stat.h>

using namespace llrt;
using namespace llrt::test;

namespace {

// A file of this header and this many zero bytes after it.
std::string fileOf(const std::string &header, size_t bytes) {
  uint64_t size = header.size();
  std::string file(reinterpret_cast<const char *>(&size), sizeof(size));
  return file + header + std::string(bytes, '\0');
}

// The error that a file of this header and buffer size gives.
std::string refusal(const std::string &header, size_t bytes) {
  Folder folder;
  std::string path = folder.write("w.safetensors", fileOf(header, bytes));
  return errorOf([&] { SafeTensors file(path); });
}

#define EXPECT_REFUSED(header, bytes, part)                                                        \
  do {                                                                                             \
    std::string message = refusal(header, bytes);                                                  \
    EXPECT_NE(message.find(part), std::string::npos) << message;                                   \
  } while (false)

// What is written is read again: names, shapes, bytes, metadata; every tensor
// is aligned to its elements.
TEST(SafeTensors, RoundTrip) {
  Folder folder;
  std::vector<float> weights = {1, 2, 3, 4, 5, 6};
  std::vector<uint8_t> flags = {1, 0, 1};
  double one = 1.5;
  std::string path = folder / "w.safetensors";
  writeSafeTensors(path,
                   {{"flags", DType::BOOL, {3}, flags.data()},
                    {"weights", DType::F32, {2, 3}, weights.data()},
                    {"scalar", DType::F64, {}, &one},
                    {"empty", DType::BF16, {0, 4}, nullptr}},
                   {{"step", "7"}});
  SafeTensors file(path);
  EXPECT_EQ(file.tensors().size(), 4u);
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.metadata().at("step"), "7");
  const TensorView &view = file.at("weights");
  EXPECT_EQ(view.dtype, DType::F32);
  EXPECT_EQ(view.shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(std::memcmp(view.data, weights.data(), view.bytes), 0);
  EXPECT_EQ(file.at("scalar").elements(), 1);
  EXPECT_EQ(file.at("empty").elements(), 0);
  EXPECT_EQ(file.find("absent"), nullptr);
  EXPECT_ERROR(file.at("absent"), "tensor 'absent': missing");
  for (const auto &[name, tensor] : file.tensors())
    EXPECT_EQ(uintptr_t(tensor.data) % uintptr_t(dtypeBits(tensor.dtype) / 8), 0u);
  // Nothing but the file stays in the folder.
  size_t entries = 0;
  for (auto &entry : std::filesystem::directory_iterator(folder / "")) {
    (void)entry;
    ++entries;
  }
  EXPECT_EQ(entries, 1u);
}

// A folder or an index opens the shards it names, and only the tensors it
// names.
TEST(SafeTensors, ShardedModel) {
  Folder folder;
  float values[] = {1, 2};
  writeSafeTensors(folder / "a.safetensors",
                   {{"x", DType::F32, {1}, values}, {"z", DType::F32, {1}, values}});
  writeSafeTensors(folder / "b.safetensors", {{"y", DType::F32, {1}, values + 1}});
  auto writeIndex = [&](const std::string &map) {
    return folder.write("model.safetensors.index.json",
                        "{\"metadata\":{\"total_size\":8},\"weight_map\":" + map + "}");
  };
  std::string index = writeIndex(R"({"x":"a.safetensors","y":"b.safetensors"})");
  for (const std::string &path : {folder / "", index}) {
    SafeTensors file(path);
    EXPECT_EQ(file.tensors().size(), 2u);
    float y;
    toFloat(file.at("y"), &y, "y");
    EXPECT_EQ(y, 2);
  }
  writeIndex(R"({"y":"a.safetensors"})");
  EXPECT_ERROR(SafeTensors file(index), "a.safetensors holds no such tensor");
  writeIndex(R"({"y":"../a.safetensors"})");
  EXPECT_ERROR(SafeTensors file(index), "expected the name of a file in the same");
  writeIndex(R"({"y":3})");
  EXPECT_ERROR(SafeTensors file(index), "tensor 'y'");
  writeIndex(R"({"y":"c.safetensors"})");
  EXPECT_ERROR(SafeTensors file(index), "c.safetensors: cannot open");
  writeIndex("[]");
  EXPECT_ERROR(SafeTensors file(index), "field 'weight_map'");
  Folder none;
  EXPECT_ERROR(SafeTensors file(none / ""), "expected model.safetensors");
}

// Every rule of the format has its own message.
TEST(SafeTensors, RefusesBrokenFiles) {
  auto entry = [](const std::string &dtype, const std::string &shape, const std::string &offsets) {
    return "{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
  };
  auto one = [&](const std::string &dtype, const std::string &shape, const std::string &offsets) {
    return "{\"x\":" + entry(dtype, shape, offsets) + "}";
  };
  Folder folder;
  std::string path = folder.write("short", "1234567");
  EXPECT_ERROR(SafeTensors file(path), "at least 8 bytes, got 7");
  folder.write("short", std::string(8, '\xff'));
  EXPECT_ERROR(SafeTensors file(path), "header length: expected at most 0");
  EXPECT_ERROR(SafeTensors file(folder / "absent"), "absent: cannot open");

  EXPECT_REFUSED(" {}", 0, "expected '{'");
  EXPECT_REFUSED("{\"x\":", 0, "expected JSON");
  EXPECT_REFUSED("{\"\xff\":1}", 0, "expected JSON");
  EXPECT_REFUSED("{\"x\":" + std::string(100'000, '['), 0, "at most 16 levels");
  EXPECT_REFUSED("{\"x\":1}", 0, "tensor 'x': expected an object");
  EXPECT_REFUSED("{\"__metadata__\":{\"a\":1}}", 0, "expected a string");
  EXPECT_REFUSED(one("F31", "[1]", "[0,4]"), 4, "field 'dtype'");
  EXPECT_REFUSED("{\"x\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "field 'data_offsets': missing");
  EXPECT_REFUSED(one("F32", "[-1]", "[0,4]"), 4, "at least 0, got [-1]");
  EXPECT_REFUSED(one("F32", "[1.5]", "[0,4]"), 4, "field 'shape'");
  EXPECT_REFUSED(one("F32", "[2]", "[0,4]"), 4, "expected 8 bytes for F32 [2]");
  EXPECT_REFUSED(one("F32", "[4294967296,4294967296]", "[0,0]"), 0, "below 2^60");
  EXPECT_REFUSED(one("F4", "[3]", "[0,2]"), 2, "whole number of bytes");
  EXPECT_REFUSED(one("F32", "[1]", "[0,8]"), 4, "within the 4 bytes");
  EXPECT_REFUSED(one("F32", "[1]", "[4,0]"), 4, "[begin, end)");
  EXPECT_REFUSED(one("F32", "[1]", "[0]"), 4, "[begin, end)");
  EXPECT_REFUSED(one("F32", "[1]", "[0,18446744073709551615]"), 4, "field 'data_offsets'");
  EXPECT_REFUSED(one("F32", "[1]", "[4,8]"), 8, "expected to begin at 0");
  EXPECT_REFUSED(one("F32", "[1]", "[0,4]"), 8, "expected 4 bytes after");
  std::string x = entry("F32", "[2]", "[0,8]");
  EXPECT_REFUSED("{\"x\":" + x + ",\"y\":" + x + "}", 8, "expected to begin at 8");
  EXPECT_REFUSED("{\"x\":" + x + ",\"x\":" + x + "}", 8, "appears twice");
}

// Trailing spaces and sub-byte types are legal.
TEST(SafeTensors, AcceptsWhatTheFormatAllows) {
  Folder folder;
  std::string path = folder.write("w", fileOf("{\"x\":{\"dtype\":\"F4\",\"shape\":[2,3],"
                                              "\"data_offsets\":[0,3]}}     ",
                                              3));
  SafeTensors file(path);
  EXPECT_EQ(file.at("x").elements(), 6);
  EXPECT_EQ(SafeTensors(folder.write("e", fileOf("{}", 0))).tensors().size(), 0u);
}

// Files with random damage are read or refused, never more.
TEST(SafeTensors, SurvivesDamage) {
  Folder folder;
  std::string path = folder / "w";
  std::vector<float> data(16);
  writeSafeTensors(path, {{"alpha", DType::F32, {4, 2}, data.data()},
                          {"beta", DType::BF16, {3}, data.data()},
                          {"gamma", DType::I64, {}, data.data()}});
  std::string good = readAll(path);
  std::mt19937 draw(1);
  int refused = 0;
  for (int round = 0; round < 500; ++round) {
    std::string bad = good;
    for (unsigned i = 0, n = 1 + draw() % 4; i < n; ++i)
      bad[draw() % bad.size()] = char(draw() % 2 ? draw() : "[]{},:\"019-"[draw() % 11]);
    if (draw() % 4 == 0)
      bad.resize(draw() % bad.size());
    folder.write("w", bad);
    try {
      SafeTensors file(path);
      for (const auto &[name, view] : file.tensors())
        for (size_t i = 0; i < view.bytes; ++i)
          data[0] += float(view.data[i]); // every byte is there
    } catch (const Error &) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 250);
}

TEST(SafeTensors, WriterRefuses) {
  Folder folder;
  float x = 0;
  EXPECT_ERROR(
      writeSafeTensors(folder / "w", {{"x", DType::F32, {1}, &x}, {"x", DType::F32, {1}, &x}}),
      "tensor 'x': the name is taken");
  EXPECT_ERROR(writeSafeTensors(folder / "no/w", {{"x", DType::F32, {1}, &x}}), "cannot create");
  // What is no file is not replaced by one, as /dev/null would be.
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_ERROR(writeSafeTensors(folder / "pipe", {{"x", DType::F32, {1}, &x}}),
               "expected the name of a regular file, got a device or a pipe");
  EXPECT_TRUE(std::filesystem::is_fifo(folder / "pipe"));
  EXPECT_ERROR(writeSafeTensors(folder / "", {{"x", DType::F32, {1}, &x}}), "got a directory");
}

// Every f16 value; ties and overflow of bf16; one rounding from f64.
TEST(SafeTensors, Conversions) {
  EXPECT_EQ(floatFromHalf(0x3c00), 1.0f);
  EXPECT_EQ(floatFromHalf(0xc000), -2.0f);
  EXPECT_EQ(floatFromHalf(0x0001), std::ldexp(1.0f, -24));
  EXPECT_EQ(floatFromHalf(0x7bff), 65504.0f);
  EXPECT_TRUE(std::signbit(floatFromHalf(0x8000)));
  EXPECT_TRUE(std::isinf(floatFromHalf(0xfc00)));
  EXPECT_TRUE(std::isnan(floatFromHalf(0x7c01)));
  for (uint32_t bits = 0; bits < 0x10000; ++bits) { // the compiler's own type
    _Float16 half;
    uint16_t low = uint16_t(bits);
    std::memcpy(&half, &low, 2);
    float want = float(half), got = floatFromHalf(low);
    EXPECT_TRUE(want == got || (std::isnan(want) && std::isnan(got))) << bits;
  }

  EXPECT_EQ(bfloat16FromFloat(1.0f), 0x3f80);
  EXPECT_EQ(bfloat16FromFloat(1.0f + std::ldexp(1.0f, -8)),
            0x3f80); // tie to even
  EXPECT_EQ(bfloat16FromFloat(1.0f + 3 * std::ldexp(1.0f, -8)), 0x3f82);
  EXPECT_EQ(bfloat16FromFloat(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_TRUE(std::isnan(
      floatFromBFloat16(bfloat16FromFloat(std::numeric_limits<float>::signaling_NaN()))));
  // Just above a tie; rounding to f32 first would make it a tie and go down.
  double above = 1.0 + std::ldexp(1.0, -8) + std::ldexp(1.0, -40);
  EXPECT_EQ(bfloat16FromFloat(float(above)), 0x3f80);
  EXPECT_EQ(bfloat16FromDouble(above), 0x3f81);
  double below = 1.0 + 3 * std::ldexp(1.0, -8) - std::ldexp(1.0, -40);
  EXPECT_EQ(bfloat16FromDouble(below), 0x3f81);
  EXPECT_EQ(bfloat16FromDouble(-below), 0xbf81);
  EXPECT_EQ(bfloat16FromDouble(1e300), 0x7f80);
  EXPECT_EQ(bfloat16FromDouble(1e-300), 0);
  EXPECT_TRUE(std::isnan(floatFromBFloat16(bfloat16FromDouble(std::nan("")))));

  // From a tensor that is not aligned.
  std::string bytes = "x";
  for (uint16_t half : {0x3c00, 0x3e00})
    bytes.append(reinterpret_cast<const char *>(&half), 2);
  TensorView view = {DType::F16, {2}, reinterpret_cast<const std::byte *>(bytes.data()) + 1, 4};
  float floats[2];
  double doubles[2];
  uint16_t brains[2];
  toFloat(view, floats, "t");
  toDouble(view, doubles, "t");
  toBFloat16(view, brains, "t");
  EXPECT_EQ(floats[1], 1.5f);
  EXPECT_EQ(doubles[1], 1.5);
  EXPECT_EQ(brains[1], 0x3fc0);
  view.dtype = DType::I16;
  EXPECT_ERROR(toFloat(view, floats, "t"), "t: field 'dtype': expected F16");
  view.dtype = DType::BF16;
  EXPECT_ERROR(toInt64(view, "t"), "expected integers or BOOL, got BF16");
}

} // namespace
