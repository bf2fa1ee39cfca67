//===- Checksums.h - Files that are known bit by bit ------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A folder's `checksums.json` holds the XXH3 (64 bits) of its files, as 16
// hexadecimal digits, for a safetensors file that of its header and that of
// each tensor:
//
//   {"algorithm": "xxh3-64", "version": 1,
//    "files": {"config.json": "9f0c1d...",
//              "model.safetensors": {"header": "...", "tensors": {"lm_head.weight": "..."}}}}
//
// Header and tensors are all bytes of a safetensors file. Source of the
// algorithm: Cyan4973/xxHash, doc/xxhash_spec.md, XXH3.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_DATA_CHECKSUMS_H
#define LLRT_DATA_CHECKSUMS_H

#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>

namespace llrt {

// XXH3 of `bytes`, 16 hexadecimal digits.
std::string checksumOf(std::span<const std::byte> bytes);

// Those of one file.
struct FileChecksums {
  std::string whole;  // of a file that is not safetensors, else empty
  std::string header; // of a safetensors file: its first 8 bytes and its header
  std::map<std::string, std::string> tensors;
};

// Those of the files of a folder.
class Checksums {
public:
  // Reads FOLDER/checksums.json; none if it is not there. Throws Error if it is
  // not what `text` makes.
  static std::optional<Checksums> read(const std::string &folder);

  void add(const std::string &file, FileChecksums sums) { files[file] = std::move(sums); }

  // The same of a file that is not safetensors and holds `text`.
  void add(const std::string &file, const std::string &text) {
    add(file, FileChecksums{checksumOf(std::as_bytes(std::span(text))), {}, {}});
  }

  // The content of checksums.json.
  std::string text() const;

  // What `verify` looks at.
  enum class Part {
    Files,   // all files but the elements of tensors
    Elements // the tensors
  };

  // Compares the files that `wanted` accepts with what lies in `folder`. Of
  // tensors only numbers `share`, `share` + `shares`, ... are read, so that
  // several ranks can divide them. Throws Error that names the first file that
  // is missing or not the same, and the tensor.
  void verify(const std::string &folder, Part part,
              const std::function<bool(const std::string &file)> &wanted, size_t share = 0,
              size_t shares = 1) const;

private:
  std::map<std::string, FileChecksums> files;
};

} // namespace llrt

#endif // LLRT_DATA_CHECKSUMS_H
