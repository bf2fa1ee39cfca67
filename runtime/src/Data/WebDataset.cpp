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

namespace llrt {

namespace {

constexpr size_t maxShards = 1'000'000; // against typing errors in a range

std::string lowerCase(std::string text) {
  for (char &c : text)
    if (c >= 'A' && c <= 'Z')
      c += 'a' - 'A';
  return text;
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
      auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
      if (error != std::errc() || end != text.data() + text.size())
        fail(pattern, ": expected a range {FIRST..LAST} of numbers, got {", inside, "}");
      return value;
    };
    uint64_t from = number(first), to = number(last);
    if (from > to || to - from >= maxShards)
      fail(pattern, ": expected a rising range of at most ", maxShards, " shards, got {", inside,
           "}");
    words.clear();
    for (uint64_t value = from; value <= to; ++value) {
      std::string digits = std::to_string(value);
      words.push_back(std::string(first.size() - std::min(first.size(), digits.size()), '0') +
                      digits);
    }
  }
  for (const std::string &word : words)
    expandBraces(pattern.substr(0, open) + word + pattern.substr(close + 1), paths);
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
    for (const fs::directory_entry &entry : entries) {
      std::string name = entry.path().filename();
      std::string lower = lowerCase(name);
      if (name.starts_with('.')) // `._a.tar` of macOS; no shell's *.tar has it
        continue;
      if (lower.ends_with(".tar"))
        paths.push_back(entry.path());
      for (const char *packed : {".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar.lz4"})
        if (lower.ends_with(packed))
          fail(entry.path().string(),
               ": expected unpacked .tar files in this folder; unpack it, or "
               "name the shards to read");
    }
    std::sort(paths.begin(), paths.end());
    if (paths.empty())
      fail(data, ": expected at least one .tar file in this folder");
  } else {
    for (const std::string &pattern : splitList(data))
      expandBraces(pattern, paths);
  }
  for (const std::string &path : paths)
    if (!fs::is_regular_file(path, error))
      fail(path.empty() ? "''" : path, ": expected a .tar file or a folder of them",
           fs::exists(path, error) ? "" : ", got nothing of this name");
  return paths;
}

WebDataset::WebDataset(std::vector<std::string> shards) : shards(std::move(shards)) {}

// The next member that belongs to a sample; nothing at the end of the shard.
std::optional<WebDataset::Member> WebDataset::nextMember() {
  while (std::optional<TarMember> found = tar->next()) {
    if (found->kind == TarMember::Kind::Other)
      continue;
    Member member = {std::move(*found), {}, {}};
    const std::string &name = member.file.name;
    size_t slash = name.rfind('/');
    size_t base = slash == name.npos ? 0 : slash + 1;
    size_t dot = name.find('.', base);
    bool isHidden = name.starts_with("__") && name.ends_with("__") && base == 0;
    if (isHidden || dot == base)
      continue;
    if (dot == name.npos) {
      if (nameWithoutField.empty())
        nameWithoutField = tar->path() + ": '" + name + "'";
      continue;
    }
    member.key = name.substr(0, dot);
    member.field = lowerCase(name.substr(dot + 1));
    return member;
  }
  return std::nullopt;
}

// Fills `pending` with the members of the next sample of the shard, passing
// over files that only links of other samples make use of.
void WebDataset::fillPending() {
  auto isText = [](const Member &member) {
    return member.field.ends_with("txt") || member.field.ends_with("json");
  };
  auto isStored = [&](const Member &member) { return tar->isLinked(member.file.header); };
  do {
    pending.clear();
    if (!ahead)
      ahead = nextMember();
    while (ahead && (pending.empty() || ahead->key == pending[0].key)) {
      pending.push_back(std::move(*ahead));
      ahead = nextMember();
    }
  } while (!pending.empty() && std::none_of(pending.begin(), pending.end(), isText) &&
           std::all_of(pending.begin(), pending.end(), isStored));
}

// Reads the next sample into `sample`, or passes over it if that is null.
bool WebDataset::advance(Sample *sample) {
  while (pending.empty()) { // no shard is open, or the open one is at its end
    if (tar)
      place = {place.shard + 1, 0};
    tar.reset();
    if (place.shard >= int64_t(shards.size()))
      return false;
    tar.emplace(shards[size_t(place.shard)]);
    fillPending();
  }
  if (sample)
    *sample = {tar->path(), pending[0].key, {}, {}};
  for (const Member &member : pending) {
    if (!sample || !sample->fault.empty())
      continue;
    try {
      if (!sample->fields.emplace(member.field, tar->read(member.file)).second)
        fail(tar->path(), ": member '", member.file.name, "': field '", member.field,
             "' appears twice in sample '", member.key, "'");
    } catch (const Error &error) {
      sample->fault = error.what();
    }
  }
  fillPending();
  ++place.sample;
  if (pending.empty()) { // stand at the start of the next shard
    place = {place.shard + 1, 0};
    tar.reset();
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
  if (position.shard < 0 || position.sample < 0 || position.shard > int64_t(shards.size()))
    fail("data position: expected a shard of 0 to ", shards.size(), ", got shard ", position.shard,
         ", sample ", position.sample);
  place = {position.shard, 0};
  tar.reset();
  pending.clear();
  ahead.reset();
  for (int64_t done = 0; done < position.sample; ++done)
    if (place.shard != position.shard || !skip())
      fail(position.shard < int64_t(shards.size()) ? shards[size_t(position.shard)]
                                                   : "data position",
           ": expected at least ", position.sample, " samples, got ", done);
}

} // namespace llrt
