//===- Result.h - A value or one error message -----------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_PLAN_RESULT_H
#define LLAMAC_PLAN_RESULT_H

#include <string>
#include <utility>
#include <variant>

namespace mlir::llamac::plan {

/// Why something is impossible: lower case, no full stop, expected and found,
/// and the nearest value that works where there is one.
struct Error {
  std::string message;
};

/// A T or the Error that stands in its place. The standard's std::expected is
/// C++23.
template <typename T> class Result {
public:
  Result(T value) : state(std::move(value)) {}
  Result(Error error) : state(std::move(error)) {}
  explicit operator bool() const { return state.index() == 0; }
  T &operator*() { return std::get<0>(state); }
  const T &operator*() const { return std::get<0>(state); }
  T *operator->() { return &std::get<0>(state); }
  const T *operator->() const { return &std::get<0>(state); }
  const std::string &error() const { return std::get<1>(state).message; }

private:
  std::variant<T, Error> state;
};

} // namespace mlir::llamac::plan

#endif // LLAMAC_PLAN_RESULT_H
