//===- Fragments.h - Which thread holds which element of a matrix -*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Register layouts of mma.sync, wgmma, wmma, ldmatrix. Elements of a thread are numbered through its
// registers, low bits first. Source: PTX ISA 9.0, 9.7.14 and 9.7.15.
//
//===----------------------------------------------------------------------===//
#ifndef SGPU_MACHINE_TENSOR_FRAGMENTS_H
#define SGPU_MACHINE_TENSOR_FRAGMENTS_H

#include <algorithm>

namespace sgpu {

struct Element {
  int row, column;
  bool operator==(const Element &) const = default;
};

// m, n, k of one instruction.
struct MatrixShape {
  int m, n, k;
  bool operator==(const MatrixShape &) const = default;
};

// Elements in one register of the multiplicands: 32-bit registers, or one f64.
constexpr int elementsPerRegister(int bits) { return std::max(1, 32 / bits); }

// A (m x k) of mma.sync with m 8 or 16, and of one warp's 16 rows of wgmma: element `index` of `lane`.
constexpr Element fragmentA(int bits, int m, int lane, int index) {
  int e = elementsPerRegister(bits), r = index / e, halves = m == 16 ? 2 : 1;
  return {lane / 4 + 8 * (r % halves), lane % 4 * e + index % e + r / halves * 4 * e};
}

// B (k x n, n = 8): row is k, column is n.
constexpr Element fragmentB(int bits, int lane, int index) {
  int e = elementsPerRegister(bits), r = index / e;
  return {lane % 4 * e + index % e + r * 4 * e, lane / 4};
}

// C and D (m x n) of mma.sync and of one warp's 16 rows of wgmma, whose columns go on by eights.
constexpr Element fragmentC(int m, int lane, int index) {
  int halves = m == 16 ? 2 : 1, pair = index / 2;
  return {lane / 4 + 8 * (pair % halves), lane % 4 * 2 + index % 2 + pair / halves * 8};
}

// Any matrix of wmma: the ISA leaves its layout open, and this is ours: row-major order dealt out
// register by register (`byColumns`: column-major). f16 fragments hold every element more than once
// where a thread has more places than elements.
constexpr Element fragmentWmma(int bits, int rows, int columns, bool byColumns, int lane,
                               int index) {
  int e = elementsPerRegister(bits), registers = rows * columns / (32 * e);
  int linear = index / e % std::max(registers, 1) * 32 * e + lane * e + index % e;
  return byColumns ? Element{linear % rows, linear / rows}
                   : Element{linear / columns, linear % columns};
}

// 8 x 8 matrix of 16-bit elements (ldmatrix, stmatrix, movmatrix): element 0 or 1 of `lane`.
constexpr Element fragmentMatrix8(bool transposed, int lane, int index) {
  Element e{lane / 4, lane % 4 * 2 + index};
  return transposed ? Element{e.column, e.row} : e;
}

} // namespace sgpu

#endif
