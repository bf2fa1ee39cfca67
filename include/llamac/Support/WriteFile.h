//===- WriteFile.h - A file as a whole -------------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_SUPPORT_WRITEFILE_H
#define LLAMAC_SUPPORT_WRITEFILE_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

namespace mlir::llamac {

/// Writes `parts`, one behind the other, to a file that takes the name `path` when all is written:
/// whoever reads it, at any time, sees all or nothing. An error (`cannot write PATH: REASON`, a
/// full disk too) leaves what was there. LLVM's own writeToOutput ends the process then.
llvm::Error writeFile(llvm::StringRef path, llvm::ArrayRef<llvm::StringRef> parts);

} // namespace mlir::llamac

#endif // LLAMAC_SUPPORT_WRITEFILE_H
