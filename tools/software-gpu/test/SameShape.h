//===- SameShape.h - Functions that are called alike ----------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_TEST_SAMESHAPE_H
#define SGPU_TEST_SAMESHAPE_H

#include <type_traits>

namespace sgpu::test {

/// Whether two functions get their parameters in the same places: as many, of the same sizes.
template <typename, typename> struct SameShape : std::false_type {};
template <typename R, typename S, typename... A, typename... B> struct SameShape<R(A...), S(B...)> {
  static constexpr bool test() {
    if constexpr (sizeof...(A) != sizeof...(B))
      return false;
    else
      return std::is_void_v<R> == std::is_void_v<S> &&
             std::is_pointer_v<R> == std::is_pointer_v<S> &&
             ((sizeof(A) == sizeof(B) && std::is_pointer_v<A> == std::is_pointer_v<B>) && ...);
  }
  static constexpr bool value = test();
};
static_assert(!SameShape<int(int, void *), int(int, int)>::value &&
              !SameShape<int(int), int(int, int)>::value);

} // namespace sgpu::test

#endif
