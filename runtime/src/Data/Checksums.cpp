//===- Checksums.cpp - Files that are known bit by bit --------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "src/Data/Checksums.h"

#include "src/Data/Error.h"
#include "src/Data/Files.h"
#include "src/Data/SafeTensors.h"

#include <cstdio>
#include <cstring>
#include <filesystem>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace llrt {

namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr const char *fileName = "checksums.json";
constexpr const char *algorithm = "xxh3-64";
constexpr int version = 1;

std::string readSum(const json &value, const std::string &where) {
  std::string sum = value.is_string() ? value.get<std::string>() : "";
  if (sum.size() != 16 || sum.find_first_not_of("0123456789abcdef") != sum.npos)
    fail(where, ": expected 16 hexadecimal digits, got ", value.dump());
  return sum;
}

[[noreturn]] void failDiffers(const std::string &what, const std::string &folder,
                              const std::string &want, const std::string &got) {
  fail(what, ": expected the checksum ", want, " of ", (fs::path(folder) / fileName).string(),
       ", got ", got, ": the file has changed since it was written (if on purpose, remove ",
       fileName, ")");
}

// The bytes of a safetensors file before its elements; all if there are none.
std::span<const std::byte> headerOf(const MappedFile &file) {
  std::span<const std::byte> bytes = file.bytes();
  uint64_t length = 0;
  if (bytes.size() < sizeof(length))
    return bytes;
  std::memcpy(&length, bytes.data(), sizeof(length));
  return bytes.first(sizeof(length) + std::min<uint64_t>(length, bytes.size() - sizeof(length)));
}

} // namespace

std::string checksumOf(std::span<const std::byte> bytes) {
  char digits[17];
  std::snprintf(digits, sizeof(digits), "%016llx",
                static_cast<unsigned long long>(XXH3_64bits(bytes.data(), bytes.size())));
  return digits;
}

std::optional<Checksums> Checksums::read(const std::string &folder) {
  std::string path = fs::path(folder) / fileName;
  if (!fs::exists(path))
    return std::nullopt;
  json content = parseJson(MappedFile(path).text(), path);
  if (!content.is_object() || content.size() != 3 ||
      content.value("algorithm", json()) != algorithm ||
      content.value("version", json()) != version || !content.value("files", json()).is_object())
    fail(path, ": expected the fields 'algorithm' (\"", algorithm, "\"), 'version' (", version,
         ") and 'files'");
  Checksums result;
  for (const auto &[file, value] : content["files"].items()) {
    std::string where = path + ": file '" + file + "'";
    FileChecksums sums;
    if (value.is_object()) {
      if (value.size() != 2 || !value.contains("header") ||
          !value.value("tensors", json()).is_object())
        fail(where, ": expected the fields 'header' and 'tensors'");
      sums.header = readSum(value["header"], where + ": field 'header'");
      for (const auto &[name, sum] : value["tensors"].items())
        sums.tensors[name] = readSum(sum, where + ": tensor '" + name + "'");
    } else {
      sums.whole = readSum(value, where);
    }
    if (fs::path(file).filename() != file)
      fail(where, ": expected the name of a file in this folder");
    result.add(file, std::move(sums));
  }
  return result;
}

std::string Checksums::text() const {
  json list = json::object();
  for (const auto &[file, sums] : files)
    if (sums.header.empty())
      list[file] = sums.whole;
    else
      list[file] = {{"header", sums.header}, {"tensors", sums.tensors}};
  json content = {{"algorithm", algorithm}, {"version", version}, {"files", list}};
  return content.dump(1) + "\n";
}

void Checksums::verify(const std::string &folder, Part part,
                       const std::function<bool(const std::string &)> &wanted, size_t share,
                       size_t shares) const {
  size_t number = 0; // of tensors seen
  for (const auto &[name, sums] : files) {
    if (!wanted(name))
      continue;
    std::string path = fs::path(folder) / name;
    if (part == Part::Files) {
      MappedFile file(path);
      bool plain = sums.header.empty();
      std::string got = checksumOf(plain ? file.bytes() : headerOf(file));
      if (const std::string &want = plain ? sums.whole : sums.header; got != want)
        failDiffers(path + (plain ? "" : ": header"), folder, want, got);
      continue;
    }
    if (sums.header.empty())
      continue;
    SafeTensors file(path);
    for (const auto &[tensor, want] : sums.tensors) {
      const TensorView &view = file.at(tensor);
      if (number++ % shares != share)
        continue;
      if (std::string got = checksumOf({view.data, view.bytes}); got != want)
        failDiffers(path + ": tensor '" + tensor + "'", folder, want, got);
    }
    if (file.tensors().size() != sums.tensors.size())
      fail(path, ": expected the ", sums.tensors.size(), " tensors of ",
           (fs::path(folder) / fileName).string(), ", got ", file.tensors().size());
  }
}

} // namespace llrt
