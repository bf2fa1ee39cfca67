//===- JsonTextsTest.cpp - Tests of the texts of a JSON object -----------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "src/Data/JsonTexts.h"

#include "TestFiles.h"

using namespace llrt;
using namespace llrt::test;

namespace {

using Texts = std::map<std::string, std::string>;

Texts read(std::string_view text) { return readJsonTexts(text, "a.json"); }

// What Python's json.loads takes beyond the standard, and what it makes of it
// (lone surrogates as U+FFFD, which UTF-8 can hold).
TEST(JsonTexts, TakesWhatPythonTakes) {
  EXPECT_EQ(read(R"({"a": "x", "b": 1, "c": null, "d": {"a": "inner"}})"), (Texts{{"a", "x"}}));
  EXPECT_EQ(read(" \t\r\n{ } \n"), Texts{});
  EXPECT_EQ(read(R"({"a":"x","n":[NaN, Infinity, -Infinity, -0, 1.5e+9, 1E9999,)"
                 R"( 123456789012345678901234567890, true, false, null, []]})"),
            (Texts{{"a", "x"}}));
  // Duplicate keys: the last one, whatever it is.
  EXPECT_EQ(read(R"({"a":"x","a":"y"})"), (Texts{{"a", "y"}}));
  EXPECT_EQ(read(R"({"a":"x","a":1})"), Texts{});
  EXPECT_EQ(read("\xEF\xBB\xBF{\"a\":\"x\"}"), (Texts{{"a", "x"}}));
  EXPECT_EQ(read(R"({"a":"\"\\\/\b\f\n\r\t\u00e9\u4E2d\ud83d\uDE00"})"),
            (Texts{{"a", "\"\\/\b\f\n\r\té中😀"}}));
  for (const char *lone : {R"(\ud83d)", R"(\ude00)", R"(\ud83d\u0041)", R"(\ud83dx)",
                           R"(\ud83d\ud83d\ude00)", "\xED\xA0\xBD"}) {
    std::string want = "\xEF\xBF\xBD";
    std::string_view text = lone;
    want += text.ends_with("0041")                       ? "A"
            : text.ends_with('x')                        ? "x"
            : text.ends_with("ude00") && text.size() > 6 ? "😀"
                                                         : "";
    EXPECT_EQ(read("{\"a\":\"" + std::string(lone) + "\"}"), (Texts{{"a", want}})) << lone;
  }
  std::string deep(990, '['), back(990, ']');
  EXPECT_EQ(read("{\"b\":" + deep + back + ",\"a\":\"x\"}"), (Texts{{"a", "x"}}));
}

TEST(JsonTexts, RefusesWhatPythonRefuses) {
  for (const char *bad : {"",
                          "[]",
                          "\"x\"",
                          "null",
                          "{",
                          "{\"a\"}",
                          "{\"a\":}",
                          "{\"a\":1,}",
                          "{a:1}",
                          "{'a':1}",
                          "{\"a\":01}",
                          "{\"a\":1.}",
                          "{\"a\":.5}",
                          "{\"a\":-}",
                          "{\"a\":+1}",
                          "{\"a\":1e}",
                          "{\"a\":nan}",
                          "{\"a\":-NaN}",
                          "{\"a\":\"x}",
                          "{\"a\":\"\\x\"}",
                          "{\"a\":\"\\u12g4\"}",
                          "{\"a\":\"\\ud83d\\u12\"}",
                          "{\"a\":\"\n\"}",
                          "{\"a\":[1 2]}",
                          "{\"a\":[1,]}",
                          "{} {}",
                          "{\"a\":\"\xff\"}",
                          "{\"a\":\"\xED\xA0\"}",
                          "{\"a\":tru}",
                          "{\"a\" 1}",
                          "{\"a\":\"\\"})
    EXPECT_ERROR(read(bad), "a.json: expected JSON: ");
  EXPECT_ERROR(read("{\"a\":" + std::string(100000, '[')), "1000 levels");
  EXPECT_ERROR(read("{\"a\":x}"), "a value at byte 5");
}

} // namespace
