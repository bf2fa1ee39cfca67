//===- Tokenizer.cpp - Text to token ids and back ------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "src/Data/Tokenizer.h"

#include "src/Data/Error.h"
#include "src/Data/Files.h"
#include "src/Data/Utf8.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <queue>
#include <tuple>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace llrt {

namespace {

using nlohmann::json;

// `\s` is written out: PCRE2 counts U+180E as space, Unicode and tiktoken do
// not.
#define SPACE                                                                                      \
  "\\t-\\r \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}"                           \
  "\\x{202F}\\x{205F}\\x{3000}"
constexpr char splitPattern[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
                                "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
                                "|\\p{N}{1,3}"
                                "| ?[^" SPACE "\\p{L}\\p{N}]+[\\r\\n]*"
                                "|[" SPACE "]*[\\r\\n]+"
                                "|[" SPACE "]+(?![^" SPACE "])"
                                "|[" SPACE "]+";
#undef SPACE

// Text is cut after so many characters, and so are runs of space and of other
// characters. Source: meta-llama/llama-models, tokenizer.py.
constexpr int64_t maxBlockCharacters = 400'000;
constexpr int64_t maxRunCharacters = 25'000;

constexpr int64_t specialCount = 256; // without HuggingFace's `<|image|>`

std::vector<std::string> specialNames(SpecialLayout layout) {
  const char *const first[] = {"begin_of_text",
                               "end_of_text",
                               "reserved_special_token_0",
                               "reserved_special_token_1",
                               "finetune_right_pad_id",
                               "step_id",
                               "start_header_id",
                               "end_header_id",
                               "eom_id",
                               "eot_id",
                               "python_tag"};
  std::vector<std::string> names(std::begin(first), std::end(first));
  bool meta = layout == SpecialLayout::Meta;
  if (meta)
    names.push_back("image");
  for (int64_t reserved = 2; int64_t(names.size()) < specialCount; ++reserved)
    names.push_back("reserved_special_token_" + std::to_string(reserved));
  if (!meta)
    names.push_back("image");
  for (std::string &name : names)
    name = "<|" + name + "|>";
  return names;
}

// Standard base64 with padding; nothing if `text` is anything else.
std::optional<std::string> decodeBase64(std::string_view text) {
  constexpr std::string_view alphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  if (text.empty() || text.size() % 4 != 0)
    return std::nullopt;
  size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  std::string bytes;
  uint32_t bits = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    bool isPadding = i >= text.size() - padding;
    size_t digit = isPadding ? 0 : alphabet.find(text[i]);
    if (digit == alphabet.npos)
      return std::nullopt;
    bits = bits << 6 | uint32_t(digit);
    if (i % 4 == 3)
      for (int shift : {16, 8, 0})
        bytes += char(bits >> shift & 255);
  }
  bytes.resize(bytes.size() - padding);
  return bytes;
}

// Python's str.isspace, which decides Meta's cuts (not the split pattern).
bool isPythonSpace(uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

} // namespace

struct Tokenizer::Pattern {
  pcre2_code *code;

  Pattern() {
    int error;
    PCRE2_SIZE offset;
    code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(splitPattern), PCRE2_ZERO_TERMINATED,
                         PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
    if (!code)
      fail("PCRE2 refuses the split pattern at offset ", offset, " (error ", error,
           "); expected a PCRE2 with Unicode support");
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE); // if PCRE2 has it: only speed
  }
  ~Pattern() { pcre2_code_free(code); }
};

Tokenizer::~Tokenizer() = default;

Tokenizer::Tokenizer(const std::string &path, SpecialLayout layout)
    : filePath(path), pattern(std::make_unique<Pattern>()) {
  if (path.ends_with(".json"))
    readJson();
  else
    readModel(layout);
}

void Tokenizer::addToken(int64_t id, const std::string &text, bool special) {
  auto [place, isNew] = added.emplace(id, Added{text, special});
  std::string where = filePath + ": added token '" + text + "'";
  if (!isNew)
    fail(where, ": id ", id, " is that of '", place->second.text, "'");
  if (text.empty() || !addedIds.emplace(place->second.text, id).second)
    fail(where, ": expected a new text");
  allSpecial &= special;
  auto at = std::lower_bound(addedSizes.begin(), addedSizes.end(), text.size(), std::greater<>());
  if (at == addedSizes.end() || *at != text.size())
    addedSizes.insert(at, text.size());
}

// Makes `ranks`. `place(id)`: what a message says of where a token stands.
void Tokenizer::indexTokens(const std::function<std::string(size_t)> &place) {
  ranks.reserve(tokens.size());
  for (size_t id = 0; id < tokens.size(); ++id)
    if (auto [other, isNew] = ranks.emplace(tokens[id], id); !isNew)
      fail(filePath, ": ", place(id), ": expected a new token, got that of ",
           place(size_t(other->second)));
  for (int byte = 0; byte < 256; ++byte)
    if (!ranks.contains(std::string(1, char(byte))))
      fail(filePath, ": expected a token for each of the 256 bytes, byte ", byte, " has none");
}

void Tokenizer::readModel(SpecialLayout layout) {
  const std::string &path = filePath;
  MappedFile file(path);
  std::string_view text = file.text();
  std::vector<int64_t> lines; // of each token
  for (int64_t line = 1; !text.empty(); ++line) {
    size_t end = text.find('\n');
    std::string_view entry = text.substr(0, end);
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
    if (entry.ends_with('\r'))
      entry.remove_suffix(1);
    if (entry.empty())
      continue;
    auto where = [&] { return path + ": line " + std::to_string(line) + ": "; };
    size_t space = entry.find(' ');
    std::string_view number = space == entry.npos ? "" : entry.substr(space + 1);
    std::optional<std::string> token = decodeBase64(entry.substr(0, space));
    if (!token)
      fail(where(), "expected the base64 of a token, a space, a rank");
    int64_t rank = -1;
    auto [stop, error] = std::from_chars(number.data(), number.data() + number.size(), rank);
    if (error != std::errc() || stop != number.data() + number.size() ||
        rank != int64_t(tokens.size()))
      fail(where(), "expected rank ", tokens.size(), ", got '", number, "'");
    tokens.push_back(std::move(*token));
    lines.push_back(line);
  }
  indexTokens([&](size_t rank) { return "line " + std::to_string(lines[rank]); });

  // In a HuggingFace folder the file itself lies in `original`.
  namespace fs = std::filesystem;
  fs::path folder = fs::path(path).parent_path();
  if (folder.filename() == "original")
    folder = folder.parent_path();
  std::string config = folder / "tokenizer_config.json";
  json list;
  if (fs::exists(config)) {
    json object = parseJson(MappedFile(config).text(), config);
    list = object.is_object() ? object.value("added_tokens_decoder", json()) : json();
  }
  if (!list.is_object() || list.empty()) {
    for (const std::string &name : specialNames(layout))
      addToken(baseTokens() + int64_t(added.size()), name, true);
    return;
  }
  for (const auto &[key, entry] : list.items()) {
    std::string where = config + ": field 'added_tokens_decoder': entry '" + key + "'";
    int64_t id = -1;
    auto [stop, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || stop != key.data() + key.size() || id < 0 || !entry.is_object() ||
        !entry.value("content", json()).is_string())
      fail(where, ": expected an id with an object that has 'content'");
    if (id < baseTokens()) // one of the file
      continue;
    addToken(id, entry["content"], entry.value("special", json(true)) == true);
  }
}

std::optional<int64_t> Tokenizer::findSpecialToken(std::string_view name) const {
  auto found = addedIds.find(name);
  return found == addedIds.end() ? std::nullopt : std::optional(found->second);
}

int64_t Tokenizer::specialToken(std::string_view name) const {
  if (std::optional<int64_t> id = findSpecialToken(name))
    return *id;
  fail(filePath, ": no special token '", name, "'");
}

std::string Tokenizer::decode(const std::vector<int64_t> &ids) const {
  std::string text;
  for (int64_t id : ids) {
    auto found = added.find(id);
    if (found == added.end() && (id < 0 || id >= baseTokens()))
      fail(filePath, ": token id: expected 0 to ", idCount() - 1, ", got ", id);
    text += found != added.end() ? found->second.text : tokens[size_t(id)];
  }
  return text;
}

int64_t Tokenizer::idCount() const {
  return std::max(baseTokens(), added.empty() ? 0 : added.rbegin()->first + 1);
}

// Cuts the text as Meta's tokenizer does and encodes each part by itself.
std::vector<int64_t> Tokenizer::encode(std::string_view bytes, bool allowSpecial) const {
  std::string text = replaceInvalidUtf8(bytes);
  std::vector<int64_t> ids;
  size_t start = 0;
  int64_t block = 0, run = 0; // characters since the last cut, of this run
  bool inSpace = false;
  for (size_t at = 0; at < text.size();) {
    Utf8Part part = readUtf8(std::string_view(text).substr(at));
    bool isSpace = isPythonSpace(part.character);
    bool newBlock = block == maxBlockCharacters;
    if (newBlock || isSpace != inSpace)
      run = 0;
    if (newBlock || run == maxRunCharacters) {
      encodeBlock(std::string_view(text).substr(start, at - start), allowSpecial, ids);
      start = at;
      run = 0;
    }
    block = newBlock ? 1 : block + 1;
    ++run;
    inSpace = isSpace;
    at += part.bytes;
  }
  encodeBlock(std::string_view(text).substr(start), allowSpecial, ids);
  return ids;
}

void Tokenizer::encodeBlock(std::string_view block, bool allowSpecial,
                            std::vector<int64_t> &ids) const {
  size_t start = 0;
  for (size_t at = 0; (allowSpecial || !allSpecial) && at < block.size();) {
    // The longest added token that begins here.
    auto found = addedIds.end();
    for (size_t size : addedSizes) {
      if (size <= block.size() - at)
        found = addedIds.find(block.substr(at, size));
      if (found != addedIds.end() && (allowSpecial || !added.at(found->second).special))
        break;
      found = addedIds.end();
    }
    if (found == addedIds.end()) {
      ++at;
      continue;
    }
    encodeOrdinary(block.substr(start, at - start), ids);
    ids.push_back(found->second);
    at = start = at + found->first.size();
  }
  encodeOrdinary(block.substr(start), ids);
}

void Tokenizer::encodeOrdinary(std::string_view text, std::vector<int64_t> &ids) const {
  std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(
      pcre2_match_data_create(1, nullptr), pcre2_match_data_free);
  for (size_t at = 0; at < text.size();) {
    // The pattern matches at every place of every text; `encode` has made the
    // text valid UTF-8.
    auto find = [&](uint32_t options) {
      return pcre2_match(pattern->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                         options | PCRE2_NO_UTF_CHECK, match.get(), nullptr);
    };
    int result = find(0);
    if (result == PCRE2_ERROR_JIT_STACKLIMIT)
      result = find(PCRE2_NO_JIT);
    size_t end = result < 0 ? at : pcre2_get_ovector_pointer(match.get())[1];
    if (end <= at)
      fail("cannot split text at byte ", at, " (PCRE2 error ", result, ")");
    mergePiece(text.substr(at, end - at), ids);
    at = end;
  }
}

int64_t Tokenizer::priority(int64_t left, int64_t right, std::string_view together) const {
  if (merges) {
    auto found = merges->find(uint64_t(left) << 32 | uint64_t(right));
    return found == merges->end() ? -1 : found->second;
  }
  auto found = ranks.find(together);
  return found == ranks.end() ? -1 : found->second;
}

// Joins the neighbours of lowest priority, the leftmost such pair first, until
// none join. Pairs wait in a heap; one that an earlier join has taken apart is
// passed over: O(n log n).
void Tokenizer::mergePiece(std::string_view piece, std::vector<int64_t> &ids) const {
  if (auto found = ranks.find(piece); wholePieces && found != ranks.end()) {
    ids.push_back(found->second);
    return;
  }
  // The parts of the piece: [at, end[at]) starts at byte `at` and is the token
  // id[at]; end[at] is 0 where no part starts. start[e] is where the part that
  // ends at e starts.
  size_t size = piece.size();
  std::vector<size_t> end(size), start(size + 1);
  std::vector<int64_t> id(size);
  for (size_t at = 0; at < size; ++at) {
    end[at] = at + 1;
    start[at + 1] = at;
    id[at] = ranks.at(piece.substr(at, 1));
  }
  using Pair = std::tuple<int64_t, size_t, size_t, size_t>;
  // priority, begin, middle, end
  std::priority_queue<Pair, std::vector<Pair>, std::greater<>> pairs;
  auto propose = [&](size_t left) { // the part at `left` and the next one
    size_t middle = end[left];
    if (middle == size)
      return;
    size_t stop = end[middle];
    int64_t order = priority(id[left], id[middle], piece.substr(left, stop - left));
    if (order >= 0)
      pairs.emplace(order, left, middle, stop);
  };
  for (size_t at = 0; at < size; ++at)
    propose(at);
  while (!pairs.empty()) {
    auto [order, left, middle, stop] = pairs.top();
    pairs.pop();
    if (end[left] != middle || end[middle] != stop)
      continue;
    end[middle] = 0;
    end[left] = stop;
    start[stop] = left;
    id[left] = ranks.at(piece.substr(left, stop - left));
    propose(left);
    if (left != 0)
      propose(start[left]);
  }
  for (size_t at = 0; at < size; at = end[at])
    ids.push_back(id[at]);
}

} // namespace llrt
