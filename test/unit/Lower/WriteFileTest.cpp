//===- WriteFileTest.cpp - All of a file or nothing -----------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Support/WriteFile.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"

#include <csignal>
#include <sys/resource.h>

#include <gtest/gtest.h>

using namespace mlir;

namespace {

// An empty folder for files, and what is in it.
class WriteFile : public testing::Test {
protected:
  void SetUp() override {
    ASSERT_FALSE(llvm::sys::fs::createUniqueDirectory("llamac-write", folder));
    path = (folder + "/file").str();
  }
  void TearDown() override { (void)llvm::sys::fs::remove_directories(folder); }

  std::string write(llvm::ArrayRef<llvm::StringRef> parts) const {
    return llvm::toString(llamac::writeFile(path, parts));
  }
  std::string text() const {
    auto file = llvm::MemoryBuffer::getFile(path);
    return file ? (*file)->getBuffer().str() : "nothing";
  }
  int files() const {
    std::error_code error;
    int count = 0;
    for (llvm::sys::fs::directory_iterator it(folder, error), end; it != end && !error;
         it.increment(error))
      ++count;
    return count;
  }

  llvm::SmallString<64> folder;
  std::string path;
};

TEST_F(WriteFile, PartsBehindEachOther) {
  EXPECT_EQ(write({"one, ", "two"}), "");
  EXPECT_EQ(text(), "one, two");
  EXPECT_EQ(write({"three"}), "");
  EXPECT_EQ(text(), "three");
  EXPECT_EQ(files(), 1);
}

TEST_F(WriteFile, NoFolder) {
  path = (folder + "/nowhere/file").str();
  EXPECT_EQ(write({"text"}), "cannot write " + path + ": No such file or directory");
}

// As on a full disk: the system takes no more than so many bytes.
TEST_F(WriteFile, WhatWasThereStays) {
  EXPECT_EQ(write({"text"}), "");
  auto *handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit little = {1024, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &little), 0);
  std::string error = write({std::string(100000, 'x')});
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(error, "cannot write " + path + ": File too large");
  EXPECT_EQ(text(), "text");
  EXPECT_EQ(files(), 1);
}

} // namespace
