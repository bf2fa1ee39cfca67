//===- Touched.h - Which bytes a piece of work touched -------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_MEMORY_TOUCHED_H
#define SGPU_MEMORY_TOUCHED_H

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

namespace sgpu {

/// The bytes that were read and those that were written, by address.
class Touched {
public:
  struct Range {
    uint64_t address, bytes;
  };

  /// Thread-safe.
  void add(uint64_t address, uint64_t bytes, bool write) {
    std::lock_guard lock(mutex);
    while (bytes) {
      uint64_t offset = address % pageBytes, size = std::min(bytes, pageBytes - offset);
      Page &page = pages[address - offset];
      for (uint64_t i = offset; i < offset + size; ++i)
        page[i] |= write ? wasWritten : wasRead;
      address += size;
      bytes -= size;
    }
  }
  /// In rising order; neighbours are one range.
  std::vector<Range> reads() const { return ranges(wasRead); }
  std::vector<Range> writes() const { return ranges(wasWritten); }

private:
  static constexpr uint64_t pageBytes = 4096;
  static constexpr uint8_t wasRead = 1, wasWritten = 2;
  using Page = std::array<uint8_t, pageBytes>;

  std::vector<Range> ranges(uint8_t flag) const {
    std::vector<Range> all;
    for (const auto &[address, page] : pages)
      for (uint64_t i = 0; i < pageBytes; ++i)
        if (page[i] & flag) {
          if (!all.empty() && all.back().address + all.back().bytes == address + i)
            ++all.back().bytes;
          else
            all.push_back({address + i, 1});
        }
    return all;
  }

  std::mutex mutex;
  std::map<uint64_t, Page> pages;
};

} // namespace sgpu

#endif
