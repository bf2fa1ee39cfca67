//===- Tokenizer.h - Text to token ids and back -----------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Byte-pair encoding as Llama 3 defines it: `tokenizer.model` (lines of base64
// token bytes, a space, the rank), the split pattern, 256 special tokens behind
// the N base tokens. Source: meta-llama/llama-models,
// models/llama3/tokenizer.py; openai/tiktoken, src/lib.rs (order of merges).
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_DATA_TOKENIZER_H
#define LLRT_DATA_TOKENIZER_H

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace llrt {

// Where the ids of the special tokens lie behind the N base tokens.
enum class SpecialLayout {
  HuggingFace, // N + 11 .. N + 255 reserved, `<|image|>` at N + 256
  Meta,        // `<|image|>` at N + 11, reserved tokens N + 12 .. N + 255
};

// Thread-safe once it is made.
class Tokenizer {
public:
  // Reads `path`, a `tokenizer.model` of any number N of base tokens. Throws
  // Error naming the line if ranks are not 0, 1, 2, ..., if base64 is broken,
  // or if a token appears twice; and if one of the 256 single bytes is missing.
  explicit Tokenizer(const std::string &path,
                     SpecialLayout layout = SpecialLayout::HuggingFace);
  Tokenizer(const Tokenizer &) = delete; // ranks points into tokens
  ~Tokenizer();

  // The ids of `text`, without start or end token. With `allowSpecial` the text
  // of a special token becomes its id, else it is text like any other. Bytes
  // that are not UTF-8 become U+FFFD, as Python's decode(errors="replace") does
  // it.
  // \p{L} and \p{N} are those of PCRE2's Unicode version (14 in Debian 12):
  // letters that are younger may be split otherwise than by tiktoken.
  std::vector<int64_t> encode(std::string_view text,
                              bool allowSpecial = false) const;

  // The bytes of `ids`, special tokens as their text. May end within a UTF-8
  // character. Throws Error on an id that has no token.
  std::string decode(const std::vector<int64_t> &ids) const;

  // The id of a special token, such as `<|begin_of_text|>`; none if unknown.
  std::optional<int64_t> findSpecialToken(std::string_view name) const;
  // The same; Error if unknown.
  int64_t specialToken(std::string_view name) const;

  int64_t baseTokens() const { return int64_t(tokens.size()); } // N
  // One more than the largest id.
  int64_t idCount() const { return int64_t(tokens.size() + specials.size()); }
  const std::string &path() const { return filePath; }

private:
  struct Pattern; // the compiled split pattern

  void encodeBlock(std::string_view block, bool allowSpecial,
                   std::vector<int64_t> &ids) const;
  void encodeOrdinary(std::string_view text, std::vector<int64_t> &ids) const;
  void mergePiece(std::string_view piece, std::vector<int64_t> &ids) const;

  std::string filePath;
  std::vector<std::string> tokens;   // base token of each rank
  std::vector<std::string> specials; // special token of id N + k
  std::unordered_map<std::string_view, int64_t> ranks;
  std::unordered_map<std::string_view, int64_t> specialIds;
  std::unique_ptr<Pattern> pattern;
};

} // namespace llrt

#endif // LLRT_DATA_TOKENIZER_H
