//===- Arenas.cpp - The memory of a rank ----------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Rank/Arenas.h"

#include "src/Data/Error.h"

#include <cerrno>
#include <cstring>
#include <sys/mman.h>

using namespace llrt;

Arenas::Arenas(const Stage &stage) {
  starts.reserve(stage.arenas.size());
  for (const Arena &arena : stage.arenas) {
    size_t bytes = arena.bytes > 0 ? arena.bytes : 1;
    void *start = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) {
      std::string cause = std::strerror(errno);
      for (auto [mapped, size] : starts)
        munmap(mapped, size);
      fail("memory: expected ", arena.bytes, " bytes for arena ", arena.name, ", got: ", cause);
    }
    madvise(start, bytes, MADV_HUGEPAGE); // advice: may be refused
    starts.emplace_back(start, bytes);
  }
}

Arenas::~Arenas() {
  for (auto [start, bytes] : starts)
    munmap(start, bytes);
}
