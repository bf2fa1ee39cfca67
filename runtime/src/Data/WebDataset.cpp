//===- WebDataset.cpp - Samples from tar files ---------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "src/Data/WebDataset.h"

#include "src/Data/Error.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <set>

namespace llrt {

namespace {

constexpr size_t tarBlock = 512;        // bytes
constexpr size_t maxShards = 1'000'000; // against typing errors in a range

// Text up to the first zero byte.
std::string_view textField(std::string_view header, size_t at, size_t size) {
  std::string_view field = header.substr(at, size);
  return field.substr(0, field.find('\0'));
}

// An octal number, or a binary one behind a byte 0x80 (GNU, for large sizes).
std::optional<uint64_t> numberField(std::string_view header, size_t at,
                                    size_t size) {
  std::string_view field = header.substr(at, size);
  uint64_t value = 0;
  if (uint8_t(field[0]) == 0x80) {
    for (char byte : field.substr(1)) {
      if (value >> 55)
        return std::nullopt;
      value = value << 8 | uint8_t(byte);
    }
    return value;
  }
  field = textField(header, at, size);
  while (field.starts_with(' '))
    field.remove_prefix(1);
  while (field.ends_with(' '))
    field.remove_suffix(1);
  auto [end, error] =
      std::from_chars(field.data(), field.data() + field.size(), value, 8);
  if (!field.empty() &&
      (error != std::errc() || end != field.data() + field.size()))
    return std::nullopt;
  return value;
}

// The sum of the header's bytes, its own field counted as spaces.
uint64_t headerSum(std::string_view header) {
  uint64_t sum = 0;
  for (size_t i = 0; i < tarBlock; ++i)
    sum += i >= 148 && i < 156 ? ' ' : uint8_t(header[i]);
  return sum;
}

// The records of a pax header: `LENGTH KEY=VALUE\n` each, the length of it all.
std::optional<std::map<std::string, std::string>>
readPax(std::string_view text) {
  std::map<std::string, std::string> records;
  while (!text.empty()) {
    size_t length = 0;
    auto [end, error] =
        std::from_chars(text.data(), text.data() + text.size(), length);
    size_t digits = size_t(end - text.data());
    if (error != std::errc() || length > text.size() || length < digits + 3 ||
        text[digits] != ' ' || text[length - 1] != '\n')
      return std::nullopt;
    std::string_view record = text.substr(digits + 1, length - digits - 2);
    size_t equals = record.find('=');
    if (equals == record.npos)
      return std::nullopt;
    records[std::string(record.substr(0, equals))] = record.substr(equals + 1);
    text.remove_prefix(length);
  }
  return records;
}

// Splits at the commas that no brace holds.
std::vector<std::string> splitList(std::string_view text) {
  std::vector<std::string> parts(1);
  int depth = 0;
  for (char c : text) {
    depth += (c == '{') - (c == '}');
    if (c == ',' && depth == 0)
      parts.emplace_back();
    else
      parts.back() += c;
  }
  return parts;
}

// Writes out the braces of `pattern`, the leftmost first.
void expandBraces(const std::string &pattern, std::vector<std::string> &paths) {
  size_t open = pattern.find('{'), close = pattern.find('}', open);
  if (open == pattern.npos || close == pattern.npos) {
    paths.push_back(pattern);
    if (paths.size() > maxShards)
      fail(pattern, ": expected at most ", maxShards, " shards");
    return;
  }
  std::string inside = pattern.substr(open + 1, close - open - 1);
  std::vector<std::string> words = splitList(inside);
  if (size_t dots = inside.find(".."); dots != inside.npos) {
    std::string first = inside.substr(0, dots), last = inside.substr(dots + 2);
    auto number = [&](const std::string &text) {
      uint64_t value = 0;
      auto [end, error] =
          std::from_chars(text.data(), text.data() + text.size(), value);
      if (error != std::errc() || end != text.data() + text.size())
        fail(pattern, ": expected a range {FIRST..LAST} of numbers, got {",
             inside, "}");
      return value;
    };
    uint64_t from = number(first), to = number(last);
    if (from > to || to - from >= maxShards)
      fail(pattern, ": expected a rising range of at most ", maxShards,
           " shards, got {", inside, "}");
    words.clear();
    for (uint64_t value = from; value <= to; ++value) {
      std::string digits = std::to_string(value);
      words.push_back(
          std::string(first.size() - std::min(first.size(), digits.size()),
                      '0') +
          digits);
    }
  }
  for (const std::string &word : words)
    expandBraces(pattern.substr(0, open) + word + pattern.substr(close + 1),
                 paths);
}

} // namespace

std::vector<std::string> expandShards(const std::string &data) {
  namespace fs = std::filesystem;
  std::vector<std::string> paths;
  std::error_code error;
  if (fs::is_directory(data, error)) {
    fs::directory_iterator entries(data, error);
    if (error)
      fail(data, ": cannot read the folder: ", error.message());
    for (const fs::directory_entry &entry : entries)
      if (entry.path().extension() == ".tar")
        paths.push_back(entry.path());
    std::sort(paths.begin(), paths.end());
    if (paths.empty())
      fail(data, ": expected at least one .tar file in this folder");
  } else {
    for (const std::string &pattern : splitList(data))
      expandBraces(pattern, paths);
  }
  for (const std::string &path : paths)
    if (!fs::is_regular_file(path, error))
      fail(path.empty() ? "''" : path,
           ": expected a .tar file or a folder of them",
           fs::exists(path, error) ? "" : ", got nothing of this name");
  return paths;
}

WebDataset::WebDataset(std::vector<std::string> shards)
    : shards(std::move(shards)) {}

void WebDataset::fault(const std::string &what) const {
  fail(file->path(), ": ", what);
}

// The next member that belongs to a sample; nothing at the end of the shard.
std::optional<WebDataset::Member> WebDataset::nextMember() {
  std::string longName;             // from a GNU or pax header
  std::optional<uint64_t> longSize; // from a pax header
  std::string_view text = file->text();
  while (offset < text.size()) {
    std::string where = "tar header at byte " + std::to_string(offset);
    if (text.size() - offset < tarBlock)
      fault(where + ": expected 512 bytes, the file is cut short");
    std::string_view header = text.substr(offset, tarBlock);
    if (header.find_first_not_of('\0') == header.npos)
      break; // the end mark
    std::optional<uint64_t> sum = numberField(header, 148, 8);
    if (!sum || *sum != headerSum(header))
      fault(where + ": wrong checksum: the file is broken, or no tar file");
    char type = header[156];
    bool isRegular = type == '0' || type == '\0' || type == '7';
    bool isExtension = type == 'L' || type == 'K' || type == 'x' || type == 'g';

    Member member;
    member.name = textField(header, 0, 100);
    std::string_view prefix = textField(header, 345, 155);
    if (header.substr(257, 6) == std::string_view("ustar\0", 6) &&
        !prefix.empty())
      member.name = std::string(prefix) + "/" + member.name;
    if (!isExtension && !longName.empty())
      member.name = std::exchange(longName, {});
    if (type == 'S')
      fault("member '" + member.name +
            "': expected a whole file, got a sparse one");

    std::optional<uint64_t> size = numberField(header, 124, 12);
    if (!isExtension && longSize)
      size = std::exchange(longSize, std::nullopt);
    if (type >= '1' && type <= '6') // links, devices and folders have no bytes
      size = 0;
    uint64_t room = text.size() - offset - tarBlock;
    if (!size || *size > room)
      fault("member '" + member.name + "': expected a size of at most " +
            std::to_string(room) + " bytes" +
            (size
                 ? ", got " + std::to_string(*size) + " (the file is cut short)"
                 : ""));
    member.bytes = text.substr(offset + tarBlock, *size);
    size_t padded = (*size + tarBlock - 1) / tarBlock * tarBlock;
    offset = std::min(offset + tarBlock + padded, text.size());

    if (type == 'L') {
      longName = member.bytes.substr(0, member.bytes.find('\0'));
    } else if (type == 'x') {
      auto records = readPax(member.bytes);
      if (!records)
        fault(where + ": expected pax records LENGTH KEY=VALUE");
      if (records->contains("path"))
        longName = (*records)["path"];
      if (records->contains("size")) {
        const std::string &digits = (*records)["size"];
        uint64_t value = 0;
        auto [end, error] = std::from_chars(
            digits.data(), digits.data() + digits.size(), value);
        if (error != std::errc() || end != digits.data() + digits.size())
          fault(where + ": field 'size': expected a number, got '" + digits +
                "'");
        longSize = value;
      }
    }
    if (!isRegular)
      continue;

    const std::string &name = member.name;
    size_t slash = name.rfind('/');
    size_t base = slash == name.npos ? 0 : slash + 1;
    size_t dot = name.find('.', base);
    bool isHidden = name.starts_with("__") && name.ends_with("__") && base == 0;
    if (isHidden || dot == name.npos || dot == base)
      continue;
    member.key = name.substr(0, dot);
    member.field = name.substr(dot + 1);
    for (char &c : member.field)
      if (c >= 'A' && c <= 'Z')
        c += 'a' - 'A';
    return member;
  }
  offset = text.size();
  return std::nullopt;
}

// Reads the next sample into `sample`, or passes over it if that is null.
bool WebDataset::advance(Sample *sample) {
  while (!pending) { // no shard is open, or the open one has come to its end
    if (file)
      place = {place.shard + 1, 0};
    file.reset();
    if (place.shard >= int64_t(shards.size()))
      return false;
    file.emplace(shards[size_t(place.shard)]);
    offset = 0;
    pending = nextMember();
  }
  std::string key = pending->key;
  std::set<std::string> fields;
  if (sample)
    *sample = {file->path(), key, {}};
  while (pending && pending->key == key) {
    if (!fields.insert(pending->field).second)
      fault("member '" + pending->name + "': field '" + pending->field +
            "' appears twice in sample '" + key + "'");
    if (sample)
      sample->fields.emplace(pending->field, pending->bytes);
    pending = nextMember();
  }
  ++place.sample;
  if (!pending) { // stand at the start of the next shard
    place = {place.shard + 1, 0};
    file.reset();
  }
  return true;
}

std::optional<Sample> WebDataset::next() {
  Sample sample;
  if (!advance(&sample))
    return std::nullopt;
  return sample;
}

bool WebDataset::skip() { return advance(nullptr); }

void WebDataset::seek(DataPosition position) {
  if (position.shard < 0 || position.sample < 0 ||
      position.shard > int64_t(shards.size()))
    fail("data position: expected a shard of 0 to ", shards.size(),
         ", got shard ", position.shard, ", sample ", position.sample);
  place = {position.shard, 0};
  file.reset();
  pending.reset();
  for (int64_t done = 0; done < position.sample; ++done)
    if (place.shard != position.shard || !skip())
      fail(position.shard < int64_t(shards.size())
               ? shards[size_t(position.shard)]
               : "data position",
           ": expected at least ", position.sample, " samples, got ", done);
}

} // namespace llrt
