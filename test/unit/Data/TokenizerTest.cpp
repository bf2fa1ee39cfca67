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
#include <tuple>

using namespace llrt;
using namespace llrt::test;

namespace {

// Ids and replaced bytes are those of tiktoken and Python
// (make_tokenizer_golden.py).
TEST(Tokenizer, EqualsTiktoken) {
  Tokenizer tokenizer(golden("tokenizer_small.model"));
  EXPECT_EQ(tokenizer.baseTokens(), 756);
  nlohmann::json expected = parseJson(MappedFile(golden("tokenizer_golden.json")).text(), "golden");
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
  EXPECT_ERROR(meta.specialToken("<|reserved_special_token_246|>"), "no special");
  EXPECT_EQ(hf.decode({n, n + 256}), "<|begin_of_text|><|image|>");
  EXPECT_ERROR(hf.decode({n + 257}), "expected 0 to " + std::to_string(n + 256));
  EXPECT_ERROR(hf.decode({-1}), "got -1");
}

// A tokenizer.json gives the ids of huggingface/tokenizers, that of Llama 3's
// form those of the tokenizer.model, too (make_tokenizer_json.py).
TEST(Tokenizer, JsonEqualsHuggingFaceAndTheModel) {
  auto read = [](const std::string &name) {
    return parseJson(MappedFile(golden(name)).text(), name);
  };
  nlohmann::json cases = read("tokenizer_golden.json")["cases"],
                 ids = read("tokenizer_json_golden.json");
  Tokenizer model(golden("tokenizer_small.model"));
  for (const char *name : {"small", "trained"}) {
    Tokenizer tokenizer(golden("tokenizer_" + std::string(name) + ".json"));
    for (size_t i = 0; i < cases.size(); ++i) {
      std::string text = cases[i]["text"];
      std::vector<int64_t> got = tokenizer.encode(text);
      EXPECT_EQ(got, ids[name][i].get<std::vector<int64_t>>()) << text;
      EXPECT_EQ(tokenizer.decode(got), text);
      if (name == std::string("small")) {
        EXPECT_EQ(got, model.encode(text));
        EXPECT_EQ(tokenizer.encode(text, true), model.encode(text, true));
      }
    }
  }
  Tokenizer json(golden("tokenizer_small.json"));
  EXPECT_EQ(json.baseTokens(), model.baseTokens());
  EXPECT_EQ(json.idCount(), model.idCount());
  for (int64_t id = 0; id < model.idCount(); ++id)
    EXPECT_EQ(json.decode({id}), model.decode({id}));
  for (const char *name : {"<|begin_of_text|>", "<|eot_id|>", "<|image|>"})
    EXPECT_EQ(json.specialToken(name), model.specialToken(name));
}

// Every other kind of tokenizer.json is refused by the name of the field.
TEST(Tokenizer, RefusesOtherJson) {
  Folder folder;
  nlohmann::json good = nlohmann::json::parse(readAll(golden("tokenizer_small.json")));
  auto refusal = [&](const std::string &pointer, const nlohmann::json &value) {
    nlohmann::json bad = good;
    bad[nlohmann::json::json_pointer(pointer)] = value;
    std::string path = folder.write("tokenizer.json", bad.dump());
    return errorOf([&] { Tokenizer tokenizer(path); });
  };
  using nlohmann::json;
  for (auto [pointer, value, part] : std::vector<std::tuple<std::string, json, std::string>>{
           {"/model/type", "WordPiece",
            "field 'model.type': expected \"BPE\", as Llama 3 has it, got "
            "\"WordPiece\""},
           {"/model/type", "Unigram", "got \"Unigram\""},
           {"/model/dropout", 0.1, "'model.dropout'"},
           {"/model/byte_fallback", true, "'model.byte_fallback'"},
           {"/model/end_of_word_suffix", "</w>", "'model.end_of_word_suffix'"},
           {"/normalizer",
            {{"type", "NFC"}},
            "field 'normalizer': expected nothing, as Llama 3 has it, got "
            "{\"type\":\"NFC\"}"},
           {"/pre_tokenizer/type", "ByteLevel", "'pre_tokenizer.type'"},
           {"/pre_tokenizer/pretokenizers/0/pattern/Regex", "\\p{N}",
            "field 'pre_tokenizer.pretokenizers[0].pattern.Regex'"},
           {"/pre_tokenizer/pretokenizers/0/behavior", "Removed", "behavior"},
           {"/pre_tokenizer/pretokenizers/1/use_regex", true, "use_regex"},
           {"/pre_tokenizer/pretokenizers/1/add_prefix_space", true, "add_prefix_space"},
           {"/pre_tokenizer/pretokenizers/1/type", "Metaspace", "pretokenizers[1].type"},
           {"/decoder", {{"type", "Sequence"}}, "'decoder.type'"},
           {"/added_tokens/3/lstrip", true, "'added_tokens[3].lstrip'"},
           {"/added_tokens/3/id", -1, "'added_tokens[3].id'"},
           {"/added_tokens/3/id", 757, "id 757 is that of '<|end_of_text|>'"},
           {"/added_tokens/3/content", "<|end_of_text|>", "a new text"},
           {"/model/vocab/a", 100000, "token 'a': expected one of the ids 0"},
           {"/model/vocab/new word", 756,
            "token 'new word': expected the "
            "characters of a byte-level"},
           {"/model/merges/7", "nothing here", "field 'model.merges[7]': expected two tokens"},
           {"/model/merges/7", 3, "field 'model.merges[7]'"},
           {"/model", 3, "field 'model': expected an object"}}) {
    std::string message = refusal(pointer, value);
    EXPECT_NE(message.find(part), std::string::npos) << message;
  }
  folder.write("tokenizer.json", "[]");
  EXPECT_ERROR(Tokenizer tokenizer(folder / "tokenizer.json"),
               "tokenizer.json: expected an object, got []");
}

// Beside a tokenizer.model, tokenizer_config.json says which special tokens
// there are.
TEST(Tokenizer, SpecialTokensOfTheConfig) {
  Folder folder;
  std::filesystem::create_directory(folder / "original");
  for (std::string name : {"tokenizer.model", "original/tokenizer.model"}) {
    folder.write(name, readAll(golden("tokenizer_small.model")));
    folder.write("tokenizer_config.json", "{}");
    EXPECT_EQ(Tokenizer(folder / name).specialToken("<|image|>"), 756 + 256);
    folder.write("tokenizer_config.json",
                 R"({"added_tokens_decoder": {
                      "756": {"content": "<|begin_of_text|>", "special": true},
                      "760": {"content": "<|image|>", "special": true},
                      "800": {"content": "dog", "special": false}}})");
    Tokenizer tokenizer(folder / name);
    EXPECT_EQ(tokenizer.specialToken("<|image|>"), 760);
    EXPECT_EQ(tokenizer.findSpecialToken("<|eot_id|>"), std::nullopt);
    EXPECT_EQ(tokenizer.idCount(), 801);
    EXPECT_EQ(tokenizer.encode("dog"), std::vector<int64_t>{800});
    EXPECT_EQ(tokenizer.encode("<|image|>", true), std::vector<int64_t>{760});
    EXPECT_NE(tokenizer.encode("<|image|>"), std::vector<int64_t>{760});
    EXPECT_ERROR(tokenizer.decode({770}), "got 770");
    folder.write("tokenizer_config.json", R"({"added_tokens_decoder": {"x": {"content": "y"}}})");
    EXPECT_ERROR(Tokenizer bad(folder / name),
                 "tokenizer_config.json: field 'added_tokens_decoder': entry "
                 "'x': expected an id");
  }
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
  EXPECT_EQ(tokenizer.encode("a " + run + "abab"), joined({"a " + run + "a", "bab"}));
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
  std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
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
  EXPECT_EQ(has(refusal(good.substr(good.find('\n') + 1)), "line 1: expected rank 0, got '1'"), "");
  EXPECT_EQ(has(refusal("AA== 0\n\nAQ=\n"), "line 3: expected the base64"), "");
  EXPECT_EQ(has(refusal("AA== 0\nAQ== 1x\n"), "line 2: expected rank 1"), "");
  EXPECT_EQ(has(refusal("AA== 0\nAQ==\n"), "line 2: expected rank 1, got ''"), "");
  EXPECT_EQ(has(refusal("AA== 0\nA*== 1\n"), "line 2: expected the base64"), "");
  EXPECT_EQ(has(refusal(" 0\n"), "line 1: expected the base64"), "");
  EXPECT_EQ(
      has(refusal("AA== 0\nAQ== 1\nAA== 2\n"), "line 3: expected a new token, got that of line 1"),
      "");
  EXPECT_ERROR(Tokenizer tokenizer(folder / "absent"), "absent: cannot open");
}

} // namespace
