//===- TokenizerTest.cpp - Tests of the tokenizer ------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "src/Data/Tokenizer.h"

#include "TestFiles.h"
#include "src/Data/Files.h"
#include "src/Data/Utf8.h"

#include <chrono>

using namespace llrt;
using namespace llrt::test;

namespace {

// Ids and replaced bytes are those of tiktoken and Python
// (make_tokenizer_golden.py).
TEST(Tokenizer, EqualsTiktoken) {
  Tokenizer tokenizer(golden("tokenizer_small.model"));
  EXPECT_EQ(tokenizer.baseTokens(), 756);
  nlohmann::json expected =
      parseJson(MappedFile(golden("tokenizer_golden.json")).text(), "golden");
  ASSERT_GT(expected["cases"].size(), 200u);
  for (const nlohmann::json &item : expected["cases"]) {
    std::string text = item["text"];
    std::vector<int64_t> ids = tokenizer.encode(text);
    EXPECT_EQ(ids, item["ids"].get<std::vector<int64_t>>()) << text;
    EXPECT_EQ(tokenizer.decode(ids), text);
    EXPECT_EQ(tokenizer.encode(text, /*allowSpecial=*/true),
              item["special_ids"].get<std::vector<int64_t>>())
        << text;
  }
  for (const nlohmann::json &item : expected["broken"]) {
    std::string hex = item["bytes"], bytes;
    for (size_t i = 0; i < hex.size(); i += 2)
      bytes += char(std::stoi(hex.substr(i, 2), nullptr, 16));
    std::string text = item["text"];
    EXPECT_EQ(replaceInvalidUtf8(bytes), text) << hex;
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(bytes)), text) << hex;
  }
}

// Both layouts put 256 names behind the base tokens; HuggingFace's marker is
// last.
TEST(Tokenizer, SpecialTokens) {
  Tokenizer hf(golden("tokenizer_small.model"));
  Tokenizer meta(golden("tokenizer_small.model"), SpecialLayout::Meta);
  int64_t n = hf.baseTokens();
  for (const Tokenizer *tokenizer : {&hf, &meta}) {
    EXPECT_EQ(tokenizer->specialToken("<|begin_of_text|>"), n);
    EXPECT_EQ(tokenizer->specialToken("<|end_of_text|>"), n + 1);
    EXPECT_EQ(tokenizer->specialToken("<|reserved_special_token_1|>"), n + 3);
    EXPECT_EQ(tokenizer->specialToken("<|finetune_right_pad_id|>"), n + 4);
    EXPECT_EQ(tokenizer->specialToken("<|eot_id|>"), n + 9);
    EXPECT_EQ(tokenizer->specialToken("<|python_tag|>"), n + 10);
  }
  EXPECT_EQ(hf.specialToken("<|image|>"), n + 256);
  EXPECT_EQ(hf.specialToken("<|reserved_special_token_2|>"), n + 11);
  EXPECT_EQ(hf.specialToken("<|reserved_special_token_246|>"), n + 255);
  EXPECT_EQ(hf.idCount(), n + 257);
  EXPECT_EQ(meta.specialToken("<|image|>"), n + 11);
  EXPECT_EQ(meta.specialToken("<|reserved_special_token_245|>"), n + 255);
  EXPECT_EQ(meta.idCount(), n + 256);
  EXPECT_ERROR(meta.specialToken("<|reserved_special_token_246|>"),
               "no special");
  EXPECT_EQ(hf.decode({n, n + 256}), "<|begin_of_text|><|image|>");
  EXPECT_ERROR(hf.decode({n + 257}),
               "expected 0 to " + std::to_string(n + 256));
  EXPECT_ERROR(hf.decode({-1}), "got -1");
}

// Without cuts, 60,000 times `x` would be one piece; cuts come after 25,000.
TEST(Tokenizer, CutsLongRuns) {
  Tokenizer tokenizer(golden("tokenizer_small.model"));
  // Python's space is not the pattern's: U+001C ends a run, but not a piece.
  auto joined = [&](const std::vector<std::string> &parts) {
    std::vector<int64_t> ids;
    for (const std::string &part : parts)
      for (int64_t id : tokenizer.encode(part))
        ids.push_back(id);
    return ids;
  };
  std::string run(24'999, 'a');
  // The cut falls between `a` and `b`, which would be joined without it.
  ASSERT_EQ(tokenizer.encode("ab").size(), 1u);
  EXPECT_EQ(tokenizer.encode(run + "abab"), joined({run + "a", "bab"}));
  EXPECT_EQ(tokenizer.encode("a " + run + "abab"),
            joined({"a " + run + "a", "bab"}));
  std::string spaces(25'000, ' ');
  EXPECT_EQ(tokenizer.encode(spaces + "  x"), joined({spaces, "  x"}));
  // Characters count, not bytes.
  std::string wide;
  for (int i = 0; i < 25'000; ++i)
    wide += "\xC3\xA9";
  EXPECT_EQ(tokenizer.encode(wide + "ab"), joined({wide, "ab"}));
  // Blocks of 400,000 characters, here without a long run.
  std::string words;
  while (words.size() < 400'000)
    words += "aaaa ";
  EXPECT_EQ(tokenizer.encode(words.substr(0, 399'999) + "abab"),
            joined({words.substr(0, 399'999) + "a", "bab"}));
}

// A run of 25,000 bytes takes n log n steps; with n * n it would take minutes.
TEST(Tokenizer, LongPiecesAreFast) {
  Tokenizer tokenizer(golden("tokenizer_small.model"));
  std::string text;
  for (int i = 0; i < 500'000; ++i)
    text += "ab"[(i % 1000 * 7919 / 13) % 2];
  auto start = std::chrono::steady_clock::now();
  std::vector<int64_t> ids = tokenizer.encode(text);
  std::chrono::duration<double> seconds =
      std::chrono::steady_clock::now() - start;
  EXPECT_EQ(tokenizer.decode(ids), text);
  EXPECT_LT(seconds.count(), 20); // about 0.2 s in a release build
  // Text that keeps looking like a special token.
  std::string bars;
  for (int i = 0; i < 100'000; ++i)
    bars += "<|";
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(bars, true)), bars);
}

TEST(Tokenizer, RefusesBrokenFiles) {
  Folder folder;
  std::string good = readAll(golden("tokenizer_small.model"));
  auto refusal = [&](const std::string &text) {
    std::string path = folder.write("tokenizer.model", text);
    return errorOf([&] { Tokenizer tokenizer(path); });
  };
  auto has = [](const std::string &message, const std::string &part) {
    return message.find(part) != std::string::npos ? "" : message;
  };
  EXPECT_EQ(has(refusal(""), "byte 0 has none"), "");
  EXPECT_EQ(has(refusal(good.substr(good.find('\n') + 1)),
                "line 1: expected rank 0, got '1'"),
            "");
  EXPECT_EQ(has(refusal("AA== 0\n\nAQ=\n"), "line 3: expected the base64"), "");
  EXPECT_EQ(has(refusal("AA== 0\nAQ== 1x\n"), "line 2: expected rank 1"), "");
  EXPECT_EQ(has(refusal("AA== 0\nAQ==\n"), "line 2: expected rank 1, got ''"),
            "");
  EXPECT_EQ(has(refusal("AA== 0\nA*== 1\n"), "line 2: expected the base64"),
            "");
  EXPECT_EQ(has(refusal(" 0\n"), "line 1: expected the base64"), "");
  EXPECT_EQ(has(refusal("AA== 0\nAQ== 1\nAA== 2\n"),
                "line 3: expected a new token, got that of line 1"),
            "");
  EXPECT_ERROR(Tokenizer tokenizer(folder / "absent"), "absent: cannot open");
}

} // namespace
