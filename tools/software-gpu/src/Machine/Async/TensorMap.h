//===- TensorMap.h - Tensor maps (CUtensorMap) and their boxes --*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What cuTensorMapEncodeTiled takes, the rules that it checks, and where the elements of a box lie
// in global and in shared memory. NVIDIA's 128 bytes are opaque; ours have a layout of their own.
// Source: cuda.h of CUDA 13.0 (numbers and rules), PTX ISA 9.0, 5.5 (tile mode).
//
//===----------------------------------------------------------------------===//
#ifndef SGPU_MACHINE_ASYNC_TENSORMAP_H
#define SGPU_MACHINE_ASYNC_TENSORMAP_H

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

namespace sgpu {

// Numbers of CUtensorMapDataType.
enum class TensorMapType : uint8_t {
  U8,
  U16,
  U32,
  S32,
  U64,
  S64,
  F16,
  F32,
  F64,
  BF16,
  F32Ftz,
  TF32,
  TF32Ftz,
  U4x16Align8,
  U4x16Align16,
  U6x16Align16
};

// Bytes of one element; 0 for the packed types, which need sm_100.
uint32_t bytesOf(TensorMapType);
bool isFloat(TensorMapType);
const char *nameOf(TensorMapType);

struct TensorMap {
  static constexpr int maxRank = 5, encodedBytes = 128, encodedAlignment = 64;

  TensorMapType type = TensorMapType::F32;
  uint32_t rank = 1;
  uint64_t address = 0;                   // device address of element 0
  std::array<uint64_t, maxRank> extent{}; // elements of each dimension, innermost first
  std::array<uint64_t, maxRank> stride{}; // bytes; [0] is the size of an element
  std::array<uint32_t, maxRank> box{};    // elements
  std::array<uint32_t, maxRank> elementStride{1, 1, 1, 1, 1}; // traversal step of each dimension
  uint32_t interleave = 0;                                    // 0 none, 1 16 bytes, 2 32 bytes
  uint32_t swizzle = 0; // 0 none, 1 32, 2 64, 3 128 bytes; 4.. need sm_100
  uint32_t l2Promotion = 0;
  uint32_t oobFill = 0; // 0 zero, 1 NaN

  // Empty, or which field breaks which rule ("box[0] * 2 bytes = 24 is not a multiple of 16").
  std::string check(int sm) const;

  // The opaque bytes. Only for a map without fault.
  void encode(void *to) const;
  // False if the bytes were not made by encode (never encoded, or overwritten).
  static bool decode(const void *from, TensorMap &);

  // What tensormap.replace sets, in its numbers. `ordinal` is the dimension, where the field has one
  // (strides: 0 is that of dimension 1).
  enum class Field : uint8_t {
    GlobalAddress,
    Rank,
    BoxDim,
    GlobalDim,
    GlobalStride,
    ElementStride,
    ElementType,
    Interleave,
    Swizzle,
    Fill
  };
  // Changes a field in opaque bytes, which must be those of a map, or all zero. Empty, or what is wrong.
  static std::string replace(void *bytes, Field field, uint32_t ordinal, uint64_t value);

  uint32_t swizzleBytes() const { return swizzle ? 16u << swizzle : 0; }
  // Elements that a box has along `d` in shared memory.
  uint32_t boxExtent(int d) const {
    return d ? (box[d] + elementStride[d] - 1) / elementStride[d] : box[0];
  }
  uint64_t boxBytes() const;

  // One run of a box along dimension 0. In shared memory it takes [offset, offset + box[0] elements)
  // before swizzling; elements [first, last) exist in the tensor, at `global` + i * element size for
  // element i (`global` may lie outside of the tensor if first > 0).
  struct Row {
    uint32_t offset;
    uint64_t global;
    uint32_t first, last;
  };
  // Calls f(Row) for every row of the box at `coordinates` (elements, may be negative), in order of
  // shared memory.
  template <typename F> void forEachRow(const int32_t *coordinates, F f) const;

  // Bits of the fill of one element that does not exist.
  uint64_t fillBits() const;
};

template <typename F> void TensorMap::forEachRow(const int32_t *coordinates, F f) const {
  uint32_t rows = 1;
  for (uint32_t d = 1; d < rank; ++d)
    rows *= boxExtent(d);
  uint32_t rowBytes = box[0] * bytesOf(type);
  int64_t begin = coordinates[0], extent0 = static_cast<int64_t>(extent[0]);
  int64_t first = std::min<int64_t>(std::max<int64_t>(-begin, 0), box[0]);
  int64_t last = std::min<int64_t>(std::max<int64_t>(extent0 - begin, first), box[0]);
  for (uint32_t r = 0; r < rows; ++r) {
    int64_t at = begin * bytesOf(type);
    bool exists = true;
    for (uint32_t d = 1, rest = r; d < rank; rest /= boxExtent(d), ++d) {
      int64_t c = coordinates[d] + static_cast<int64_t>(rest % boxExtent(d)) * elementStride[d];
      exists &= c >= 0 && c < static_cast<int64_t>(extent[d]);
      at += c * static_cast<int64_t>(stride[d]);
    }
    f(Row{r * rowBytes, address + static_cast<uint64_t>(at), static_cast<uint32_t>(first),
          static_cast<uint32_t>(exists ? last : first)});
  }
}

} // namespace sgpu

#endif
