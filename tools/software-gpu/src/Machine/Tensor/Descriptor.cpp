//===- Descriptor.cpp - Matrices of wgmma in shared memory -----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Machine/Tensor/Descriptor.h"

namespace sgpu {

namespace {
constexpr uint32_t swizzles[4] = {0, 128, 64, 32}; // by bits 63-62
constexpr uint64_t meaningful =
    0x3fffull | 0x3fffull << 16 | 0x3fffull << 32 | 7ull << 49 | 3ull << 62;
} // namespace

MatrixDescriptor MatrixDescriptor::decode(uint64_t bits) {
  MatrixDescriptor d;
  d.start = static_cast<uint32_t>(bits & 0x3fff) << 4;
  d.leading = static_cast<uint32_t>(bits >> 16 & 0x3fff) << 4;
  d.stride = static_cast<uint32_t>(bits >> 32 & 0x3fff) << 4;
  d.baseOffset = static_cast<uint32_t>(bits >> 49 & 7);
  d.swizzleBytes = swizzles[bits >> 62];
  d.unknownBits = (bits & ~meaningful) != 0;
  return d;
}

uint64_t MatrixDescriptor::encode() const {
  uint64_t mode = 0;
  while (swizzles[mode] != swizzleBytes)
    ++mode;
  auto field = [](uint32_t bytes) { return static_cast<uint64_t>((bytes & 0x3ffff) >> 4); };
  return field(start) | field(leading) << 16 | field(stride) << 32 |
         static_cast<uint64_t>(baseOffset) << 49 | mode << 62;
}

uint32_t MatrixDescriptor::pieceAddress(bool mnMajor, int line, int i) const {
  uint32_t pieces =
      swizzleBytes ? swizzleBytes / 16 : 1; // along the contiguous dimension of an atom
  uint32_t inner = static_cast<uint32_t>(line) % 8, outer = static_cast<uint32_t>(line) / 8;
  uint32_t within = static_cast<uint32_t>(i) % pieces, chunk = static_cast<uint32_t>(i) / pieces;
  uint32_t offset = inner * 16 * pieces + within * 16;
  if (!mnMajor)
    // One instruction reads 32 bytes along k; a swizzled atom is at least that wide, and its leading
    // dimension offset is not used: pieces go on by 16 bytes.
    offset += outer * stride + chunk * (swizzleBytes ? 16 * pieces : leading);
  else if (swizzleBytes)
    offset += outer * stride + chunk * leading;
  else
    offset += outer * leading + chunk * stride;
  return swizzled(start + offset, swizzleBytes, baseOffset);
}

} // namespace sgpu
