//===- Files.h - Read and write whole files ---------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_DATA_FILES_H
#define LLRT_DATA_FILES_H

#include <nlohmann/json.hpp>

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace llrt {

// A file mapped into memory for reading, until the object dies. Pages are read
// when they are touched. The file must not be shortened meanwhile.
class MappedFile {
public:
  // Throws Error if `path` cannot be opened or is no regular file.
  explicit MappedFile(const std::string &path);
  MappedFile(MappedFile &&other) noexcept;
  MappedFile &operator=(MappedFile &&) = delete;
  ~MappedFile();

  const std::string &path() const { return filePath; }
  // The whole file; stays where it is when the object is moved.
  std::span<const std::byte> bytes() const { return contents; }
  std::string_view text() const {
    return {reinterpret_cast<const char *>(contents.data()), contents.size()};
  }

private:
  std::string filePath;
  std::span<const std::byte> contents;
};

// A new file in the folder of `path`, which takes that name once it is whole: until then, and after
// a crash, there is what was there before.
class NewFile {
public:
  // Throws Error if there can be none: what is there is replaced as a whole, so it must not be a
  // device, a pipe or a folder.
  explicit NewFile(const std::string &path);
  NewFile(const NewFile &) = delete;
  NewFile &operator=(const NewFile &) = delete;
  // What was not kept is gone.
  ~NewFile();

  // Throws Error.
  void write(const void *data, size_t bytes);
  // Gives it the name; returns when that is on the disk. Throws Error.
  void keep();

private:
  void check(bool good) const;

  std::string path, temporary;
  int descriptor;
};

// Writes the file `path` anew; returns when it is on the disk. Throws Error.
void writeFile(const std::string &path, std::string_view text);

// Waits until a file, or the entries of a folder, are on the disk. Throws
// Error.
void syncToDisk(const std::string &path);

// Parses JSON strictly: no duplicate keys, at most 16 levels deep. `where`
// opens the message of the Error that bad text throws.
nlohmann::json parseJson(std::string_view text, const std::string &where);

} // namespace llrt

#endif // LLRT_DATA_FILES_H
