//===- Sites.h - Orders and guards in PTX --------------------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_MUTATE_SITES_H
#define SGPU_MUTATE_SITES_H

#include <cstdint>
#include <string>
#include <vector>

namespace sgpu::mutate {

/// A place where something can be removed.
///
///   barrier  bar.*, barrier.*
///   fence    fence.*, membar.*, wgmma.fence
///   wait     cp.async.wait_*, .commit_group, cp.async.bulk.* and wgmma.* alike; an mbarrier.try_wait or test_wait
///            with the branch back to it
///   arrival  mbarrier.arrive*, .expect_tx, .init
///   guard    the predicate of an instruction that touches memory or an mbarrier; a branch forward over such ones; the size
///            of a cp.async that is less than whole for some
struct Site {
  const char *kind;
  uint32_t line;   ///< of the text
  uint32_t number; ///< 1: the first of its kind in the text
  uint32_t of;     ///< so many of its kind are there
  /// Opcodes before and behind it, which is `*`: tells it from others, whatever the registers and
  /// sizes.
  std::string around;
  size_t begin, end;   ///< bytes of the text
  std::string text;    ///< what stands there
  std::string mutant;  ///< what then stands there
  std::string reached; ///< the same with a trap before it: whether a thread comes there
  std::string
      works; ///< traps where a guard keeps a thread away, where a wait has to wait; else empty
  std::string
      unused; ///< of a guard of loads alone: NaNs for the threads that it keeps away; else empty
};

std::vector<Site> sitesOf(const std::string &ptx);

} // namespace sgpu::mutate

#endif
