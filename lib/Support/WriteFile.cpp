//===- WriteFile.cpp - A file as a whole ----------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Support/WriteFile.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;

llvm::Error llamac::writeFile(llvm::StringRef path, llvm::ArrayRef<llvm::StringRef> parts) {
  auto failed = [&](const llvm::Twine &why) {
    return llvm::createStringError("cannot write " + path + ": " + why);
  };
  llvm::Expected<llvm::sys::fs::TempFile> file = llvm::sys::fs::TempFile::create(path + ".%%%%%%");
  if (!file)
    return failed(llvm::toString(file.takeError()));
  std::error_code error;
  {
    llvm::raw_fd_ostream stream(file->FD, /*shouldClose=*/false);
    for (llvm::StringRef part : parts)
      stream << part;
    stream.flush();
    error = stream.error();
    stream.clear_error(); // else its destructor ends the process
  }
  if (error) {
    llvm::consumeError(file->discard());
    return failed(error.message());
  }
  if (llvm::Error kept = file->keep(path))
    return failed(llvm::toString(std::move(kept)));
  return llvm::Error::success();
}
