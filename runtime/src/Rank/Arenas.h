//===- Arenas.h - The memory of a rank -------------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_RANK_ARENAS_H
#define LLRT_RANK_ARENAS_H

#include "src/Program/Program.h"

#include <vector>

namespace llrt {

// One allocation per arena of `stage`, made once, never moved, all zero at
// the start, on page boundaries. A page takes memory when it is first touched,
// so a command that runs only `forward` pays only for the arenas of `forward`.
class Arenas {
public:
  // Throws Error if the system gives no memory.
  explicit Arenas(const Stage &stage);
  ~Arenas();
  Arenas(const Arenas &) = delete;
  Arenas &operator=(const Arenas &) = delete;

  void *at(Address address) const {
    return static_cast<char *>(starts[address.arena].first) + address.offset;
  }

private:
  std::vector<std::pair<void *, size_t>> starts; // address, bytes mapped
};

} // namespace llrt
#endif // LLRT_RANK_ARENAS_H
