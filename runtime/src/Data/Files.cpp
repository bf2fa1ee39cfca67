//===- Files.cpp - Read and write whole files ----------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "src/Data/Files.h"

#include "src/Data/Error.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace llrt {

MappedFile::MappedFile(const std::string &path) : filePath(path) {
  int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0)
    fail(path, ": cannot open: ", std::strerror(errno));
  struct stat info;
  bool known = fstat(descriptor, &info) == 0;
  if (!known || !S_ISREG(info.st_mode)) {
    close(descriptor);
    fail(path, ": expected a regular file",
         known && S_ISDIR(info.st_mode) ? ", got a directory" : "");
  }
  size_t size = size_t(info.st_size);
  void *address = nullptr;
  if (size != 0) // an empty range cannot be mapped
    address = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
  int error = errno;
  close(descriptor);
  if (address == MAP_FAILED)
    fail(path, ": cannot map: ", std::strerror(error));
  contents = {static_cast<const std::byte *>(address), size};
}

MappedFile::MappedFile(MappedFile &&other) noexcept
    : filePath(std::move(other.filePath)), contents(std::exchange(other.contents, {})) {}

MappedFile::~MappedFile() {
  if (!contents.empty())
    munmap(const_cast<std::byte *>(contents.data()), contents.size());
}

NewFile::NewFile(const std::string &path) : path(path), temporary(path + ".XXXXXX") {
  std::error_code none;
  if (std::filesystem::exists(path, none) && !std::filesystem::is_regular_file(path, none))
    fail(path, ": expected the name of a regular file, got ",
         std::filesystem::is_directory(path, none) ? "a directory" : "a device or a pipe");
  descriptor = mkostemp(temporary.data(), O_CLOEXEC); // in place of the six letters
  if (descriptor < 0)
    fail(path, ": cannot create a file in its folder: ", std::strerror(errno));
}

NewFile::~NewFile() {
  if (descriptor >= 0)
    close(descriptor);
  if (!temporary.empty())
    unlink(temporary.c_str());
}

void NewFile::check(bool good) const {
  if (!good)
    fail(path, ": cannot write: ", std::strerror(errno));
}

void NewFile::write(const void *data, size_t bytes) {
  for (const char *from = static_cast<const char *>(data); bytes != 0;) {
    ssize_t done = ::write(descriptor, from, bytes);
    if (done < 0 && errno == EINTR)
      continue;
    check(done > 0);
    from += done;
    bytes -= size_t(done);
  }
}

void NewFile::keep() {
  check(fchmod(descriptor, 0644) == 0 && fsync(descriptor) == 0);
  check(close(std::exchange(descriptor, -1)) == 0);
  check(rename(temporary.c_str(), path.c_str()) == 0);
  temporary.clear();
  std::string folder = std::filesystem::path(path).parent_path();
  syncToDisk(folder.empty() ? "." : folder);
}

void writeFile(const std::string &path, std::string_view text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (!file)
    fail(path, ": cannot be written: ", std::strerror(errno));
  syncToDisk(path);
}

void syncToDisk(const std::string &path) {
  int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  bool done = file >= 0 && fsync(file) == 0;
  int cause = errno;
  if (file >= 0)
    close(file);
  if (!done)
    fail(path, ": cannot be written: ", std::strerror(cause));
}

nlohmann::json parseJson(std::string_view text, const std::string &where) {
  using Event = nlohmann::json::parse_event_t;
  constexpr int maxDepth = 16;
  std::vector<std::set<std::string>> keys; // of every open object
  auto check = [&](int depth, Event event, nlohmann::json &value) {
    if (depth > maxDepth)
      fail(where, ": expected JSON of at most ", maxDepth, " levels");
    if (event == Event::object_start)
      keys.emplace_back();
    else if (event == Event::object_end)
      keys.pop_back();
    else if (event == Event::key && !keys.back().insert(value).second)
      fail(where, ": key '", value.get<std::string>(), "' appears twice in one JSON object");
    return true;
  };
  try {
    return nlohmann::json::parse(text, check);
  } catch (const nlohmann::json::exception &error) {
    fail(where, ": expected JSON: ", error.what());
  }
}

} // namespace llrt
