//===- Stream.cpp - Loops of compiled blocks ------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Host/Stream.h"

void llrt_launch(LlrtStream *stream, const void *kernel, void **args) {
  const auto &loop = *static_cast<const LlrtKernel *>(kernel);
  llrt::parallelFor(stream, loop.body, args, loop.n, loop.grain);
}
