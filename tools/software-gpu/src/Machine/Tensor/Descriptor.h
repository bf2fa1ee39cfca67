//===- Descriptor.h - Matrices of wgmma in shared memory --------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The 64-bit matrix descriptor of wgmma and the addresses that it stands for. A matrix is read in
// pieces of 16 bytes: of T = 16 / sizeof(element) elements along k (K-major) or along m or n
// (MN-major). Source: PTX ISA 9.0, 9.7.15.5.1.2 (canonical layouts).
//
//===----------------------------------------------------------------------===//
#ifndef SGPU_MACHINE_TENSOR_DESCRIPTOR_H
#define SGPU_MACHINE_TENSOR_DESCRIPTOR_H

#include <cstdint>

namespace sgpu {

struct MatrixDescriptor {
  uint32_t start = 0;        // bytes in shared memory, multiple of 16
  uint32_t leading = 0;      // leading dimension byte offset (LBO)
  uint32_t stride = 0;       // stride dimension byte offset (SBO)
  uint32_t baseOffset = 0;   // phase of the swizzle pattern's first row, 0 to 7
  uint32_t swizzleBytes = 0; // 0 (none), 32, 64, 128
  uint32_t unknownBits = 0;  // nonzero if bits that have no meaning are set

  static MatrixDescriptor decode(uint64_t bits);
  uint64_t encode() const;

  // Shared address of the piece that holds elements [T * i, T * i + T) along the contiguous
  // dimension and `line` along the other one. K-major: i counts along k, `line` is m or n.
  // MN-major: i counts along m or n, `line` is k.
  uint32_t pieceAddress(bool mnMajor, int line, int i) const;
};

// Bits 4.. of an address, xored with the row of its pattern: 128, 64, 32 or 0 bytes wide.
// `firstRow` is the row (address / 128) at which the pattern begins.
constexpr uint32_t swizzled(uint32_t address, uint32_t swizzleBytes, uint32_t firstRow = 0) {
  uint32_t pieces = swizzleBytes / 16;
  return pieces ? address ^ ((((address >> 7) - firstRow) & (pieces - 1)) << 4) : address;
}

} // namespace sgpu

#endif
