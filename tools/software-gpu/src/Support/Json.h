//===- Json.h - Writes JSON objects of one line --------------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_SUPPORT_JSON_H
#define SGPU_SUPPORT_JSON_H

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace sgpu {

/// An object whose members are written in the order of `add`.
class Json {
public:
  void add(std::string_view name, std::string_view value) { member(name, quote(value)); }
  template <typename T>
    requires std::is_integral_v<T>
  void add(std::string_view name, T value) {
    member(name, std::to_string(value));
  }
  void add(std::string_view name, const Json &value) { member(name, value.str()); }
  void add(std::string_view name, const std::vector<uint64_t> &values) {
    std::string list;
    for (uint64_t v : values)
      list += (list.empty() ? "" : ",") + std::to_string(v);
    member(name, "[" + list + "]");
  }
  void add(std::string_view name, const std::vector<Json> &values) {
    std::string list;
    for (const Json &v : values)
      list += (list.empty() ? "" : ",") + v.str();
    member(name, "[" + list + "]");
  }
  std::string str() const { return "{" + text + "}"; }

private:
  void member(std::string_view name, const std::string &value) {
    if (!text.empty())
      text += ",";
    text += quote(name) + ":" + value;
  }
  static std::string quote(std::string_view value) {
    std::string s = "\"";
    for (char c : value) {
      if (c == '"' || c == '\\') {
        s += '\\';
        s += c;
      } else if (static_cast<unsigned char>(c) < 0x20) {
        char escaped[8];
        std::snprintf(escaped, sizeof escaped, "\\u%04x", unsigned(c));
        s += escaped;
      } else {
        s += c;
      }
    }
    return s + "\"";
  }
  std::string text;
};

} // namespace sgpu

#endif
