//===- Tokenizer.h - Text to token ids and back -----------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Byte-pair encoding as Llama 3 defines it, in two forms:
//
//   tokenizer.model  lines of base64 token bytes, a space, the rank; the split
//                    pattern and 256 special tokens behind the N base tokens
//                    are not in the file. Beside it, `tokenizer_config.json`
//                    may say what the special tokens are
//                    (`added_tokens_decoder`). Source: meta-llama/llama-models,
//                    models/llama3/tokenizer.py; openai/tiktoken, src/lib.rs
//                    (order of merges)
//   tokenizer.json   of huggingface/tokenizers: a byte-level BPE with Llama 3's
//                    split pattern, its merges and its added tokens. Source:
//                    tokenizers/src/models/bpe/word.rs (order of merges),
//                    pre_tokenizers/byte_level.rs (how bytes are written)
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_DATA_TOKENIZER_H
#define LLRT_DATA_TOKENIZER_H

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace llrt {

// Where the ids of the special tokens lie behind the N base tokens of a
// tokenizer.model, if no tokenizer_config.json says so.
enum class SpecialLayout {
  HuggingFace, // N + 11 .. N + 255 reserved, `<|image|>` at N + 256
  Meta,        // `<|image|>` at N + 11, reserved tokens N + 12 .. N + 255
};

// Thread-safe once it is made.
class Tokenizer {
public:
  // Reads `path`, which is a tokenizer.json if its name ends in `.json`, else a
  // tokenizer.model, of any number N of base tokens. Throws Error naming line or
  // field if base tokens are not 0, 1, 2, ..., if one is broken, appears twice,
  // or if one of the 256 single bytes is missing; and if a tokenizer.json is of
  // another kind.
  explicit Tokenizer(const std::string &path, SpecialLayout layout = SpecialLayout::HuggingFace);
  Tokenizer(const Tokenizer &) = delete; // ranks points into tokens
  ~Tokenizer();

  // The ids of `text`, without start or end token. With `allowSpecial` the text
  // of a special token becomes its id, else it is text like any other; that of
  // an added token that is not special always becomes its id. Bytes
  // that are not UTF-8 become U+FFFD, as Python's decode(errors="replace") does
  // it.
  // \p{L} and \p{N} are those of PCRE2's Unicode version (14 in Debian 12):
  // letters that are younger may be split otherwise than by tiktoken.
  std::vector<int64_t> encode(std::string_view text, bool allowSpecial = false) const;

  // The bytes of `ids`, special tokens as their text. May end within a UTF-8
  // character. Throws Error on an id that has no token.
  std::string decode(const std::vector<int64_t> &ids) const;

  // The id of a special token, such as `<|begin_of_text|>`; none if unknown.
  std::optional<int64_t> findSpecialToken(std::string_view name) const;
  // The same; Error if unknown.
  int64_t specialToken(std::string_view name) const;

  int64_t baseTokens() const { return int64_t(tokens.size()); } // N
  // One more than the largest id.
  int64_t idCount() const;
  const std::string &path() const { return filePath; }

private:
  struct Pattern; // the compiled split pattern

  void readModel(SpecialLayout layout);
  void readJson();
  void addToken(int64_t id, const std::string &text, bool special);
  void indexTokens(const std::function<std::string(size_t)> &place);
  // The priority of joining the parts with ids `left` and `right`, whose bytes
  // are `together`: the lower the sooner; -1 if they do not join.
  int64_t priority(int64_t left, int64_t right, std::string_view together) const;

  void encodeBlock(std::string_view block, bool allowSpecial, std::vector<int64_t> &ids) const;
  void encodeOrdinary(std::string_view text, std::vector<int64_t> &ids) const;
  void mergePiece(std::string_view piece, std::vector<int64_t> &ids) const;

  std::string filePath;
  std::vector<std::string> tokens;                     // bytes of the base tokens
  std::unordered_map<std::string_view, int64_t> ranks; // their ids
  // Of a tokenizer.json: ids of a pair, left * 2^32 + right, and its place in
  // the list of merges. Of a tokenizer.model parts join to any token.
  std::optional<std::unordered_map<uint64_t, int64_t>> merges;
  bool wholePieces = true; // a piece that is a token is not taken apart

  struct Added {
    std::string text;
    bool special;
  };
  std::map<int64_t, Added> added; // by id
  std::unordered_map<std::string_view, int64_t> addedIds;
  std::vector<size_t> addedSizes; // bytes, each once, falling
  bool allSpecial = true;         // all added tokens are
  std::unique_ptr<Pattern> pattern;
};

} // namespace llrt

#endif // LLRT_DATA_TOKENIZER_H
