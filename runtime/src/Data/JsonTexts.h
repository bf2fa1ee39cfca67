//===- JsonTexts.h - The texts of a JSON object -----------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_DATA_JSONTEXTS_H
#define LLRT_DATA_JSONTEXTS_H

#include <map>
#include <string>
#include <string_view>

namespace llrt {

// The members of the JSON object `bytes` whose value is a string, as UTF-8.
// Takes what Python's `json.loads` takes, which is more than the standard and
// more than `parseJson`: NaN, Infinity and -Infinity, numbers of any size,
// duplicate keys (the last one counts, also if it is no string), a byte order
// mark, surrogates without a partner (read as U+FFFD). Levels: 1000 at most.
// Throws Error, opening with `where`, if `bytes` is no such object.
// Source: CPython, Modules/_json.c, Lib/json/decoder.py.
std::map<std::string, std::string> readJsonTexts(std::string_view bytes, const std::string &where);

} // namespace llrt

#endif // LLRT_DATA_JSONTEXTS_H
