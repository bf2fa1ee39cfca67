//===- Tar.cpp - Members of a tar file -----------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "src/Data/Tar.h"

#include "src/Data/Error.h"

#include <algorithm>
#include <charconv>
#include <utility>

namespace llrt {

namespace {

constexpr size_t tarBlock = 512; // bytes
constexpr int maxLinks = 40;     // followed one after the other, as in Linux
// Against archives of few bytes that stand for many.
constexpr uint64_t maxSparseSize = uint64_t(1) << 32;

// Text up to the first zero byte.
std::string_view textField(std::string_view header, size_t at, size_t size) {
  std::string_view field = header.substr(at, size);
  return field.substr(0, field.find('\0'));
}

std::optional<uint64_t> parseNumber(std::string_view text, int base = 10) {
  uint64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size())
    return std::nullopt;
  return value;
}

// An octal number, or a binary one behind a byte 0x80 (GNU, for large sizes).
std::optional<uint64_t> numberField(std::string_view header, size_t at, size_t size) {
  std::string_view field = header.substr(at, size);
  if (uint8_t(field[0]) == 0x80) {
    uint64_t value = 0;
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
  return field.empty() ? 0 : parseNumber(field, 8);
}

bool isZero(std::string_view bytes) { return bytes.find_first_not_of('\0') == bytes.npos; }

// Whether the checksum is that of the header's bytes, its own field counted as
// spaces. Some old programs summed signed bytes.
bool hasChecksum(std::string_view header) {
  std::optional<uint64_t> wanted = numberField(header, 148, 8);
  uint64_t sum = 0, signedSum = 0;
  for (size_t i = 0; i < tarBlock; ++i) {
    char byte = i >= 148 && i < 156 ? ' ' : header[i];
    sum += uint8_t(byte);
    signedSum += uint64_t(int64_t(static_cast<signed char>(byte)));
  }
  return wanted && (*wanted == sum || *wanted == signedSum);
}

using PaxFields = std::vector<std::pair<std::string, std::string>>;

// The records of a pax header: `LENGTH KEY=VALUE\n` each, the length of it all.
std::optional<PaxFields> readPax(std::string_view text) {
  PaxFields records;
  while (!text.empty() && text[0] != '\0') {
    size_t length = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), length);
    size_t digits = size_t(end - text.data());
    if (error != std::errc() || length > text.size() || length < digits + 3 ||
        text[digits] != ' ' || text[length - 1] != '\n')
      return std::nullopt;
    std::string_view record = text.substr(digits + 1, length - digits - 2);
    size_t equals = record.find('=');
    if (equals == record.npos)
      return std::nullopt;
    records.emplace_back(record.substr(0, equals), record.substr(equals + 1));
    text.remove_prefix(length);
  }
  return records;
}

// Takes `bytes`, the parts of a sparse file one after the other, apart: `map`
// holds offset and size of each. False if they do not fit.
bool placeParts(TarMember &member, const std::vector<uint64_t> &map, std::string_view bytes) {
  member.parts.clear();
  if (map.size() % 2 != 0)
    return false;
  for (size_t i = 0; i < map.size(); i += 2) {
    uint64_t offset = map[i], size = map[i + 1];
    if (size > bytes.size() || offset > member.size || size > member.size - offset)
      return false;
    if (size != 0)
      member.parts.push_back({offset, bytes.substr(0, size)});
    bytes.remove_prefix(size);
  }
  return true;
}

// The numbers that pax form 1.0 has before the bytes: a count, then offset and
// size of each part, a line each, filled up to a whole block. Nothing if they
// are broken.
std::optional<std::vector<uint64_t>> readSparseLines(std::string_view &bytes) {
  std::vector<uint64_t> numbers;
  size_t at = 0;
  uint64_t wanted = 1; // the count is read as one of the numbers
  while (numbers.size() < wanted) {
    size_t end = bytes.find('\n', at);
    std::optional<uint64_t> number =
        end == bytes.npos ? std::nullopt : parseNumber(bytes.substr(at, end - at));
    if (!number)
      return std::nullopt;
    if (numbers.empty() && *number > bytes.size())
      return std::nullopt;
    if (numbers.empty())
      wanted = 1 + 2 * *number;
    numbers.push_back(*number);
    at = end + 1;
  }
  at = (at + tarBlock - 1) / tarBlock * tarBlock;
  if (at > bytes.size())
    return std::nullopt;
  bytes.remove_prefix(at);
  numbers.erase(numbers.begin());
  return numbers;
}

// Lays the parts of a sparse member in pax form out. False if the records are
// broken.
bool readPaxSparse(TarMember &member, const PaxFields &records) {
  auto last = [&](std::string_view key) -> std::optional<std::string> {
    for (size_t i = records.size(); i-- > 0;)
      if (records[i].first == key)
        return records[i].second;
    return std::nullopt;
  };
  std::string_view bytes = member.parts.empty() ? "" : member.parts[0].bytes;
  std::optional<std::string> size = last("GNU.sparse.realsize");
  if (!size)
    size = last("GNU.sparse.size");
  std::optional<uint64_t> realSize = size ? parseNumber(*size) : std::nullopt;
  if (!realSize)
    return false;
  member.size = *realSize;

  std::optional<std::vector<uint64_t>> map;
  if (std::optional<std::string> text = last("GNU.sparse.map")) { // 0.1
    map.emplace();
    for (std::string_view rest = *text; !rest.empty();) {
      size_t comma = rest.find(',');
      std::optional<uint64_t> number = parseNumber(rest.substr(0, comma));
      if (!number)
        return false;
      map->push_back(*number);
      rest.remove_prefix(comma == rest.npos ? rest.size() : comma + 1);
    }
  } else if (last("GNU.sparse.major") == "1") { // 1.0
    map = readSparseLines(bytes);
  } else { // 0.0
    map.emplace();
    for (const auto &[key, value] : records) {
      if (key != "GNU.sparse.offset" && key != "GNU.sparse.numbytes")
        continue;
      std::optional<uint64_t> number = parseNumber(value);
      if (!number || (map->size() % 2 == 0) != (key == "GNU.sparse.offset"))
        return false;
      map->push_back(*number);
    }
  }
  return map && placeParts(member, *map, bytes);
}

// `path` without `.`, `..`, doubled and leading slashes; nothing if it leads
// out of the archive.
std::optional<std::string> normalize(std::string_view path) {
  std::vector<std::string_view> words;
  while (!path.empty()) {
    size_t slash = path.find('/');
    std::string_view word = path.substr(0, slash);
    path.remove_prefix(slash == path.npos ? path.size() : slash + 1);
    if (word == ".." && words.empty())
      return std::nullopt;
    if (word == "..")
      words.pop_back();
    else if (!word.empty() && word != ".")
      words.push_back(word);
  }
  std::string result;
  for (std::string_view word : words)
    result += (result.empty() ? "" : "/") + std::string(word);
  return result;
}

// What the symbolic link `name` means by `link`.
std::string beside(const std::string &name, const std::string &link) {
  size_t slash = name.rfind('/');
  if (link.starts_with('/') || slash == name.npos)
    return link;
  return name.substr(0, slash + 1) + link;
}

} // namespace

TarFile::TarFile(const std::string &path) : file(path) {
  constexpr std::pair<std::string_view, const char *> packers[] = {{"\x1f\x8b", "gzip"},
                                                                   {"BZh", "bzip2"},
                                                                   {"\xfd"
                                                                    "7zXZ",
                                                                    "xz"},
                                                                   {"\x28\xb5\x2f\xfd", "zstd"},
                                                                   {"\x04\x22\x4d\x18", "lz4"}};
  for (auto [mark, packer] : packers)
    if (file.text().starts_with(mark))
      fail(path, ": expected a tar file, got one packed by ", packer,
           "; unpack the shards first: a place in a packed one cannot be found "
           "without reading all before it");
}

void TarFile::fault(const std::string &what) const { fail(file.path(), ": ", what); }

std::optional<TarMember> TarFile::next() {
  std::string longName, longLink; // from GNU headers
  PaxFields records;              // from a pax header
  bool ended = false;
  std::string_view text = file.text();
  while (offset < text.size()) {
    std::string where = "tar header at byte " + std::to_string(offset);
    std::string_view header = text.substr(offset, tarBlock);
    if (ended && (header.size() < tarBlock || !hasChecksum(header)) && !isZero(header))
      break; // what follows the end mark is no archive
    if (header.size() < tarBlock && !isZero(header))
      fault(where + ": expected 512 bytes, the file is cut short");
    if (isZero(header)) {
      ended = true;
      offset += header.size();
      continue;
    }
    if (!hasChecksum(header))
      fault(where + ": wrong checksum: the file is broken, or no tar file");
    ended = false;

    TarMember member;
    member.header = offset;
    char type = header[156];
    bool isExtension = type == 'L' || type == 'K' || type == 'x' || type == 'X' || type == 'g';
    member.name = textField(header, 0, 100);
    std::string_view prefix = textField(header, 345, 155);
    if (header.substr(257, 6) == std::string_view("ustar\0", 6) && !prefix.empty())
      member.name = std::string(prefix) + "/" + member.name;
    member.link = textField(header, 157, 100);
    std::optional<uint64_t> size = numberField(header, 124, 12);
    bool isPaxSparse = false;
    if (!isExtension) {
      if (!longName.empty())
        member.name = longName;
      if (!longLink.empty())
        member.link = longLink;
      PaxFields all(globalFields.begin(), globalFields.end());
      all.insert(all.end(), records.begin(), records.end());
      std::string sparseName;
      for (const auto &[key, value] : all) {
        isPaxSparse |=
            key == "GNU.sparse.map" || key == "GNU.sparse.size" || key == "GNU.sparse.realsize";
        if (key == "path") {
          member.name = value;
        } else if (key == "linkpath") {
          member.link = value;
        } else if (key == "GNU.sparse.name") {
          sparseName = value;
        } else if (key == "size") {
          size = parseNumber(value);
          if (!size)
            fault(where + ": field 'size': expected a number, got '" + value + "'");
        }
      }
      if (!sparseName.empty())
        member.name = sparseName;
    }
    if (type >= '1' && type <= '6') // links, devices and folders have no bytes
      size = 0;

    // GNU's old sparse form goes on in blocks behind the header.
    size_t begin = offset + tarBlock;
    std::vector<uint64_t> map;
    bool goodMap = true;
    auto readMap = [&](std::string_view block, size_t at, int count) {
      for (int i = 0; i < count; ++i, at += 24) {
        std::optional<uint64_t> from = numberField(block, at, 12),
                                bytes = numberField(block, at + 12, 12);
        goodMap &= from && bytes;
        if (from && bytes && *bytes != 0)
          map.insert(map.end(), {*from, *bytes});
      }
    };
    if (type == 'S') {
      readMap(header, 386, 4);
      for (bool more = header[482] != '\0'; more; begin += tarBlock) {
        if (text.size() - begin < tarBlock)
          fault(where + ": expected more of its sparse map, the file is cut "
                        "short");
        std::string_view block = text.substr(begin, tarBlock);
        readMap(block, 0, 21);
        more = block[504] != '\0';
      }
    }

    uint64_t room = text.size() - begin;
    if (!size || *size > room)
      fault("member '" + member.name + "': expected a size of at most " + std::to_string(room) +
            " bytes" + (size ? ", got " + std::to_string(*size) + " (the file is cut short)" : ""));
    std::string_view bytes = text.substr(begin, *size);
    size_t padded = (*size + tarBlock - 1) / tarBlock * tarBlock;
    offset = std::min(begin + padded, text.size());

    if (type == 'L') {
      longName = textField(bytes, 0, bytes.size());
      continue;
    }
    if (type == 'K') {
      longLink = textField(bytes, 0, bytes.size());
      continue;
    }
    if (isExtension) {
      std::optional<PaxFields> read = readPax(bytes);
      if (!read)
        fault(where + ": expected pax records LENGTH KEY=VALUE");
      if (type == 'g')
        for (auto &[key, value] : *read)
          globalFields[key] = value;
      else
        records = std::move(*read);
      continue;
    }

    bool isFolder = type == '5' || (type == '\0' && member.name.ends_with('/'));
    if (type == '1')
      member.kind = TarMember::Kind::HardLink;
    else if (type == '2')
      member.kind = TarMember::Kind::SymbolicLink;
    else if (!isFolder && (type == '0' || type == '\0' || type == '7' || type == 'S'))
      member.kind = TarMember::Kind::File;
    member.size = *size;
    if (member.kind == TarMember::Kind::File) {
      member.parts = {{0, bytes}};
      if (type == 'S') {
        std::optional<uint64_t> realSize = numberField(header, 483, 12);
        member.size = realSize.value_or(0);
        goodMap &= realSize && placeParts(member, map, bytes);
      } else if (isPaxSparse) {
        goodMap = readPaxSparse(member, records);
      }
      if (!goodMap)
        member.fault = "expected a sparse file whose map fits its bytes";
      else if (member.size > maxSparseSize && member.size != *size)
        member.fault = "expected a sparse file of at most " + std::to_string(maxSparseSize) +
                       " bytes, got one of " + std::to_string(member.size);
    } else if (type == 'M') {
      member.kind = TarMember::Kind::File;
      member.fault = "expected a whole file, got the rest of one that another "
                     "volume of the archive begins";
    }
    return member;
  }
  offset = text.size();
  return std::nullopt;
}

// The member `path` means, links followed; null if there is none. `before`: it
// is a hard link's, which means what stands before it.
const TarMember *TarFile::find(const std::string &path, const TarMember *before) {
  auto found = index->find(path);
  if (found == index->end())
    return nullptr;
  const std::vector<TarMember> &all = found->second;
  if (!before)
    return &all.back();
  const TarMember *best = nullptr;
  for (const TarMember &each : all)
    if (each.header < before->header || (!best && each.header > before->header))
      best = &each;
  return best;
}

void TarFile::makeIndex() {
  if (index)
    return;
  index.emplace();
  size_t here = std::exchange(offset, 0);
  auto fields = std::exchange(globalFields, {});
  try {
    while (std::optional<TarMember> member = next())
      if (auto name = normalize(member->name))
        (*index)[*name].push_back(std::move(*member));
  } catch (const Error &) { // it is met again where it stands
  }
  offset = here;
  globalFields = fields;
}

bool TarFile::isLinked(size_t header) {
  if (!linked) {
    linked.emplace();
    makeIndex();
    for (const auto &[name, members] : *index)
      for (const TarMember &member : members)
        if (member.kind == TarMember::Kind::HardLink ||
            member.kind == TarMember::Kind::SymbolicLink) {
          try {
            linked->insert(target(member).header);
          } catch (const Error &) { // a fault of that link
          }
        }
  }
  return linked->contains(header);
}

const TarMember &TarFile::target(const TarMember &link) {
  makeIndex();
  auto refuse = [&](const std::string &reason) {
    fault("member '" + link.name +
          "': expected a link to a file of this "
          "archive, got '" +
          link.link + "', " + reason);
  };
  const TarMember *at = &link;
  for (int steps = 0; at->kind != TarMember::Kind::File; ++steps) {
    bool isHard = at->kind == TarMember::Kind::HardLink;
    if (steps == maxLinks)
      refuse("which leads in a circle");
    if (!isHard && at->kind != TarMember::Kind::SymbolicLink)
      refuse("which is no file");
    std::optional<std::string> path = normalize(isHard ? at->link : beside(at->name, at->link));
    if (!path)
      refuse("which leads out of it");
    const TarMember *found = find(*path, isHard ? at : nullptr);
    // Not there: perhaps a folder on the way is a link.
    for (; !found; ++steps) {
      const TarMember *folder = nullptr;
      size_t slash = 0;
      while (!folder && (slash = path->find('/', slash)) != path->npos) {
        folder = find(path->substr(0, slash), nullptr);
        if (folder && folder->kind != TarMember::Kind::SymbolicLink)
          folder = nullptr;
        if (!folder)
          ++slash;
      }
      if (!folder)
        refuse("which is not in it");
      if (steps == maxLinks)
        refuse("which leads in a circle");
      path = normalize(beside(folder->name, folder->link) + path->substr(slash));
      if (!path)
        refuse("which leads out of it");
      found = find(*path, nullptr);
    }
    at = found;
  }
  return *at;
}

std::string TarFile::read(const TarMember &member) {
  const TarMember &from = member.kind == TarMember::Kind::File ? member : target(member);
  if (!from.fault.empty())
    fault("member '" + from.name + "': " + from.fault);
  std::string bytes;
  if (from.parts.size() == 1 && from.parts[0].bytes.size() == from.size)
    return std::string(from.parts[0].bytes);
  bytes.resize(from.size);
  for (const TarMember::Part &part : from.parts)
    part.bytes.copy(&bytes[part.offset], part.bytes.size());
  return bytes;
}

} // namespace llrt
