//===- TokenizerJson.cpp - Read a tokenizer.json --------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The form of huggingface/tokenizers, of which only what Llama 3 has is read;
// everything else that would change an id is refused by its name. Truncation,
// padding and the post-processor are not used: who encodes adds begin and end.
//
//===----------------------------------------------------------------------===//
#include "src/Data/Error.h"
#include "src/Data/Files.h"
#include "src/Data/Tokenizer.h"

#include <array>

namespace llrt {

namespace {

using nlohmann::json;

// Llama 3's split pattern, as `Tokenizer::Pattern` has it.
constexpr const char *splitRegex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3})"
    R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// The fields of an object of the file.
class Fields {
public:
  Fields(const json &object, std::string path, std::string place)
      : object(object), path(std::move(path)), place(std::move(place)) {
    if (!object.is_object())
      fail(this->path, ": ",
           this->place.empty() ? "" : "field '" + this->place + "': ", "expected an object, got ",
           text(object));
  }

  // Null if it is not there.
  const json &get(const char *field) const {
    static const json none;
    auto found = object.find(field);
    return found == object.end() ? none : *found;
  }

  [[noreturn]] void wrong(const char *field, const std::string &expected) const {
    fail(path, ": field '", nameOf(field), "': expected ", expected, ", as Llama 3 has it, got ",
         text(get(field)));
  }

  // The value must be one of `allowed`; null: not there.
  void only(const char *field, std::initializer_list<json> allowed) const {
    for (const json &value : allowed)
      if (get(field) == value)
        return;
    wrong(field, text(*allowed.begin()));
  }

  Fields members(const char *field) const { return {get(field), path, nameOf(field)}; }

  // The object's `type`; what it has instead is named.
  void type(const char *want) const { only("type", {want}); }

private:
  std::string nameOf(const char *field) const {
    return place.empty() ? field : place + "." + field;
  }
  static std::string text(const json &value) {
    std::string dump = value.is_null() ? "nothing" : value.dump();
    return dump.size() > 200 ? dump.substr(0, 200) + "..." : dump;
  }

  const json &object;
  std::string path, place;
};

// The byte that a character of a token stands for; -1: none. Bytes that can be
// seen stand for themselves, the others are U+0100, U+0101, ...
std::array<int, 512> byteOfCharacter() {
  std::array<int, 512> bytes;
  bytes.fill(-1);
  int hidden = 0;
  for (int byte = 0; byte < 256; ++byte) {
    bool seen = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    bytes[size_t(seen ? byte : 256 + hidden++)] = byte;
  }
  return bytes;
}

// The bytes that `token` stands for; nothing if it has another character. All
// characters are below U+0800.
std::optional<std::string> bytesOf(std::string_view token) {
  static const std::array<int, 512> bytes = byteOfCharacter();
  std::string result;
  for (size_t i = 0; i < token.size(); ++i) {
    size_t character = uint8_t(token[i]);
    if (character >= 0xC0) {
      if (character >= 0xE0 || i + 1 == token.size())
        return std::nullopt;
      character = (character & 0x1F) << 6 | (uint8_t(token[++i]) & 0x3F);
    }
    if (character >= bytes.size() || bytes[character] < 0)
      return std::nullopt;
    result += char(bytes[character]);
  }
  return result;
}

} // namespace

void Tokenizer::readJson() {
  MappedFile mapped(filePath);
  json content = parseJson(mapped.text(), filePath);
  Fields file(content, filePath, "");

  Fields model = file.members("model");
  if (!model.get("type").is_null() || !model.get("merges").is_array())
    model.type("BPE");
  file.only("normalizer", {nullptr});
  Fields pre = file.members("pre_tokenizer");
  pre.type("Sequence");
  const json &steps = pre.get("pretokenizers");
  if (!steps.is_array() || steps.size() != 2)
    pre.wrong("pretokenizers", "Split, then ByteLevel");
  Fields split(steps[0], filePath, "pre_tokenizer.pretokenizers[0]");
  split.type("Split");
  split.members("pattern").only("Regex", {splitRegex});
  // What lies between matches, of which there is nothing, or the matches.
  if (split.get("behavior") != "Removed" || split.get("invert") != true) {
    split.only("behavior", {"Isolated"});
    split.only("invert", {false, nullptr});
  }
  Fields bytes(steps[1], filePath, "pre_tokenizer.pretokenizers[1]");
  bytes.type("ByteLevel");
  bytes.only("add_prefix_space", {false});
  bytes.only("use_regex", {false});
  file.members("decoder").type("ByteLevel");
  model.only("dropout", {nullptr, 0, 0.0});
  model.only("continuing_subword_prefix", {nullptr, ""});
  model.only("end_of_word_suffix", {nullptr, ""});
  model.only("byte_fallback", {false, nullptr});
  model.only("ignore_merges", {true, false, nullptr});
  wholePieces = model.get("ignore_merges") == true;

  const json &list = file.get("added_tokens");
  if (!list.is_null() && !list.is_array())
    file.wrong("added_tokens", "a list");
  for (size_t i = 0; i < list.size(); ++i) {
    Fields token(list[i], filePath, "added_tokens[" + std::to_string(i) + "]");
    if (!token.get("id").is_number_unsigned())
      token.wrong("id", "an id");
    if (!token.get("content").is_string())
      token.wrong("content", "a text");
    for (const char *field : {"single_word", "lstrip", "rstrip"})
      token.only(field, {false, nullptr});
    addToken(token.get("id"), token.get("content"), token.get("special") == true);
  }

  const json &vocabulary = model.get("vocab");
  if (!vocabulary.is_object() || vocabulary.empty())
    model.wrong("vocab", "an object of tokens and ids");
  std::vector<const std::string *> names(vocabulary.size());
  tokens.resize(names.size());
  for (auto entry = vocabulary.begin(); entry != vocabulary.end(); ++entry) {
    std::string where = filePath + ": field 'model.vocab': token '" + entry.key() + "': ";
    if (!entry->is_number_unsigned() || entry->get<uint64_t>() >= names.size() ||
        names[entry->get<size_t>()])
      fail(where, "expected one of the ids 0 to ", names.size() - 1, ", each once, got ",
           entry->dump());
    size_t id = *entry;
    names[id] = &entry.key();
    std::optional<std::string> token = bytesOf(entry.key());
    if (auto other = added.find(int64_t(id));
        other != added.end() && other->second.text == entry.key())
      token = entry.key();
    if (!token)
      fail(where, "expected the characters of a byte-level vocabulary");
    tokens[id] = std::move(*token);
  }
  indexTokens([&](size_t id) { return "token '" + *names[id] + "'"; });

  const json &joins = model.get("merges");
  if (!joins.is_array())
    model.wrong("merges", "a list");
  std::unordered_map<std::string_view, uint64_t> ids;
  ids.reserve(names.size());
  for (size_t id = 0; id < names.size(); ++id)
    ids.emplace(*names[id], id);
  merges.emplace();
  merges->reserve(joins.size());
  for (size_t i = 0; i < joins.size(); ++i) {
    // `"a b"`, or `["a", "b"]`.
    std::string left, right;
    if (const json &join = joins[i]; join.is_string()) {
      std::string both = join;
      size_t space = both.find(' ');
      left = both.substr(0, space);
      right = space == both.npos ? "" : both.substr(space + 1);
    } else if (join.is_array() && join.size() == 2 && join[0].is_string() && join[1].is_string()) {
      left = join[0];
      right = join[1];
    }
    auto idOf = [&](const std::string &name) {
      auto found = ids.find(name);
      if (found == ids.end())
        fail(filePath, ": field 'model.merges[", i,
             "]': expected two tokens of the vocabulary that are one together, "
             "got ",
             joins[i].dump());
      return found->second;
    };
    idOf(left + right);
    merges->insert_or_assign(idOf(left) << 32 | idOf(right), int64_t(i));
  }
}

} // namespace llrt
