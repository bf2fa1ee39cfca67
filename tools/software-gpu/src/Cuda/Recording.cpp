//===- Recording.cpp --------------------------------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Cuda/Recording.h"

#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <type_traits>

using namespace sgpu;

namespace {
/// Appends values; numbers in the order of the machine's bytes (x86-64 and AArch64: little endian).
struct Writer {
  std::string out;
  template <typename T> void value(const T &v) {
    if constexpr (std::is_trivially_copyable_v<T>) {
      out.append(reinterpret_cast<const char *>(&v), sizeof v);
    } else {
      value(uint64_t(v.size()));
      for (const auto &element : v)
        transfer(*this, element);
    }
  }
};

struct Reader {
  const std::string &in;
  size_t at = 0;
  void require(uint64_t bytes) const {
    if (bytes > in.size() - at)
      throw std::runtime_error("it ends within a record");
  }
  template <typename T> void value(T &v) {
    if constexpr (std::is_trivially_copyable_v<T>) {
      require(sizeof v);
      std::memcpy(&v, in.data() + at, sizeof v);
      at += sizeof v;
    } else {
      uint64_t size = 0;
      value(size);
      require(size);
      v.resize(size);
      for (auto &element : v)
        transfer(*this, element);
    }
  }
};

template <typename A, typename T>
  requires std::is_arithmetic_v<std::remove_const_t<T>>
void transfer(A &archive, T &v) {
  archive.value(v);
}
template <typename A, typename T>
  requires std::is_same_v<std::remove_const_t<T>, RecordedBytes>
void transfer(A &archive, T &v) {
  archive.value(v.offset);
  archive.value(v.bytes);
}
template <typename A, typename T>
  requires std::is_same_v<std::remove_const_t<T>, RecordedBuffer>
void transfer(A &archive, T &v) {
  archive.value(v.bytes);
  archive.value(v.reads);
  archive.value(v.writes);
}
template <typename A, typename T>
  requires(std::is_same_v<std::remove_const_t<T>, RecordedPointer> ||
           std::is_same_v<std::remove_const_t<T>, RecordedMap>)
void transfer(A &archive, T &v) {
  archive.value(v);
}
template <typename A, typename T>
  requires std::is_same_v<std::remove_const_t<T>, RecordedLaunch>
void transfer(A &archive, T &v) {
  archive.value(v.module);
  archive.value(v.kernel);
  archive.value(v.grid);
  archive.value(v.block);
  archive.value(v.cluster);
  archive.value(v.shared);
  archive.value(v.parameters);
  archive.value(v.pointers);
  archive.value(v.maps);
  archive.value(v.buffers);
}
} // namespace

std::string sgpu::recordOf(uint64_t module, const std::string &text) {
  Writer w;
  w.value('M');
  w.value(module);
  w.value(text);
  return w.out;
}

std::string sgpu::recordOf(const RecordedLaunch &launch) {
  Writer w;
  w.value('L');
  transfer(w, launch);
  return w.out;
}

Recording Recording::read(const std::string &file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream)
    throw std::runtime_error(file + ": cannot be read");
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  Recording recording;
  Reader r{text};
  try {
    while (r.at != text.size()) {
      char kind = 0;
      r.value(kind);
      if (kind == 'M') {
        uint64_t module = 0;
        r.value(module);
        r.value(recording.modules[module]);
      } else if (kind == 'L') {
        transfer(r, recording.launches.emplace_back());
        if (!recording.modules.contains(recording.launches.back().module))
          throw std::runtime_error("a launch of a module that is not there");
      } else {
        throw std::runtime_error("expected a record at byte " + std::to_string(r.at - 1));
      }
    }
  } catch (const std::exception &error) {
    throw std::runtime_error(file + ": not a recording of launches: " + error.what());
  }
  return recording;
}
