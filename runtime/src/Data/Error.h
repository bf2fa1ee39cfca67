//===- Error.h - The one exception of bad input -----------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_DATA_ERROR_H
#define LLRT_DATA_ERROR_H

#include <sstream>
#include <stdexcept>
#include <string>

namespace llrt {

// Thrown for every fault of an input file or of a value that a user gave. The
// message is complete (`FILE: field 'x': expected ..., got ...`, no full stop);
// a command prints `NAME: error: ` before it and exits with status 2.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Throws an Error whose message is `parts` written one after the other.
template <typename... Parts> [[noreturn]] void fail(const Parts &...parts) {
  std::ostringstream message;
  (message << ... << parts);
  throw Error(message.str());
}

} // namespace llrt

#endif // LLRT_DATA_ERROR_H
