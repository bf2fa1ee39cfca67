//===- Collectives.h - The memory of the host's collectives -----*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A collective of the host works through its elements in pieces. Beside operand and result
// it has memory for the pieces of others that are there at once, one in each of its slots:
//
//   all_gather      those of all others, where rows lie apart in the result
//   reduce_scatter  those of all others; where rows lie apart in the operand, what goes to
//                   each member too
//   all_reduce      those of all others
//
// The compiler plans the memory, and its bytes say how large a piece is. Nothing but the
// standard library.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_COLLECTIVES_H
#define LLRT_COLLECTIVES_H

#include <algorithm>
#include <cstdint>
#include <string_view>

namespace llrt {

/// A slot begins at a multiple of so many bytes of the memory.
inline constexpr int64_t collectiveAlignment = 64;

/// The slots of a collective of `members` with `outer` rows; `kind` is the word of programs
/// (`all_gather`). 0: it needs no memory.
inline int64_t collectiveSlots(std::string_view kind, int64_t members, int64_t outer) {
  const int64_t others = members - 1;
  if (others <= 0)
    return 0;
  if (kind == "all_gather")
    return outer > 1 ? others : 0;
  if (kind == "reduce_scatter")
    return outer > 1 ? 2 * others + 1 : others;
  return kind == "all_reduce" ? others : 0;
}

/// Bytes that such a collective gets: of each member it has `elements` elements of `width`
/// bytes. A slot holds them all, or a share of an all_reduce, unless all slots together
/// would then have more than 32 MiB; a page each they have.
inline int64_t collectiveScratch(std::string_view kind, int64_t members, int64_t outer,
                                 int64_t elements, int64_t width) {
  constexpr int64_t Most = int64_t(32) << 20, Page = 4096;
  const int64_t slots = collectiveSlots(kind, members, outer);
  if (slots == 0)
    return 0;
  if (kind == "all_reduce")
    elements = (elements + members - 1) / members;
  auto aligned = [](int64_t bytes) { return bytes / collectiveAlignment * collectiveAlignment; };
  return slots * std::min(aligned(elements * width + collectiveAlignment - 1),
                          aligned(std::max(Page, Most / slots)));
}

} // namespace llrt

#endif // LLRT_COLLECTIVES_H
