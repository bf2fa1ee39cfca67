//===- Print.cpp ------------------------------------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Machine/Print.h"

#include <bit>
#include <cstdio>
#include <cstring>

using namespace sgpu;

std::string sgpu::formatPrint(const std::string &format,
                              const std::function<uint64_t(unsigned)> &next,
                              const std::function<std::string(uint64_t)> &string) {
  std::string out;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      out += format[i];
      continue;
    }
    std::string spec = "%";
    unsigned bytes = 4;
    ++i;
    for (; i < format.size() && std::strchr("-+ #0123456789.*hlLqjzt", format[i]); ++i) {
      char c = format[i];
      if (c == '*')
        spec += std::to_string(int32_t(next(4)));
      else if (std::strchr("lLqjzt", c))
        bytes = 8;
      else if (c != 'h')
        spec += c;
    }
    if (i == format.size())
      break;
    char c = format[i];
    auto print = [&](auto value) {
      int n = std::snprintf(nullptr, 0, spec.c_str(), value);
      std::string text(size_t(n > 0 ? n : 0) + 1, '\0');
      std::snprintf(text.data(), text.size(), spec.c_str(), value);
      text.pop_back();
      out += text;
    };
    switch (c) {
    case '%':
      out += '%';
      break;
    case 'd':
    case 'i':
      spec += "lld";
      print(bytes == 8 ? static_cast<long long>(next(8))
                       : static_cast<long long>(int32_t(next(4))));
      break;
    case 'u':
    case 'x':
    case 'X':
    case 'o':
      spec += "ll";
      spec += c;
      print(static_cast<unsigned long long>(next(bytes)));
      break;
    case 'c':
      spec += c;
      print(int(next(4)));
      break;
    case 'p':
      spec = "0x%llx";
      print(static_cast<unsigned long long>(next(8)));
      break;
    case 's':
      spec += c;
      print(string(next(8)).c_str());
      break;
    case 'f':
    case 'F':
    case 'e':
    case 'E':
    case 'g':
    case 'G':
    case 'a':
    case 'A':
      spec += c;
      print(std::bit_cast<double>(next(8)));
      break;
    default:
      out += spec + c;
    }
  }
  return out;
}
