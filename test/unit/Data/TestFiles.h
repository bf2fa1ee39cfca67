//===- TestFiles.h - Files that tests write ---------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_TEST_DATA_TESTFILES_H
#define LLRT_TEST_DATA_TESTFILES_H

#include "src/Data/Error.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace llrt::test {

// A file of the golden folder.
inline std::string golden(const std::string &name) {
  return std::string(LLRT_TEST_DATA_DIR) + "/" + name;
}

// A new empty folder that goes away with the object.
class Folder {
public:
  Folder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "llrt-XXXXXX").string();
    path = mkdtemp(pattern.data());
  }
  Folder(const Folder &) = delete;
  ~Folder() { std::filesystem::remove_all(path); }

  std::string operator/(const std::string &name) const { return path / name; }
  // Writes a file into the folder; its path.
  std::string write(const std::string &name, std::string_view bytes) const {
    std::ofstream(path / name, std::ios::binary) << bytes;
    return *this / name;
  }

private:
  std::filesystem::path path;
};

inline std::string readAll(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The message of the Error that `run` throws; a failure of the test if it
// throws none.
template <typename Run> std::string errorOf(Run run) {
  try {
    run();
  } catch (const Error &error) {
    return error.what();
  }
  ADD_FAILURE() << "expected an llrt::Error";
  return "";
}

#define EXPECT_ERROR(statement, part)                                                              \
  do {                                                                                             \
    std::string message = llrt::test::errorOf([&] { statement; });                                 \
    EXPECT_NE(message.find(part), std::string::npos) << message;                                   \
  } while (false)

} // namespace llrt::test

#endif // LLRT_TEST_DATA_TESTFILES_H
