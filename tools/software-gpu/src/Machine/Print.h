//===- Print.h - The text of printf in a kernel --------------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_MACHINE_PRINT_H
#define SGPU_MACHINE_PRINT_H

#include <cstdint>
#include <functional>
#include <string>

namespace sgpu {

/// What printf(format, ...) prints. next(bytes): the next argument, of 4 or 8 bytes (promoted as C
/// does); string(address): the text at an address, for %s.
std::string formatPrint(const std::string &format, const std::function<uint64_t(unsigned)> &next,
                        const std::function<std::string(uint64_t)> &string);

} // namespace sgpu

#endif
