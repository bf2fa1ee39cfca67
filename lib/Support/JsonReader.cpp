//===- JsonReader.cpp - The fields of a JSON file -------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Support/JsonReader.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MemoryBuffer.h"

#include <cmath>

using namespace llvm;
using namespace mlir::llamac;

//===----------------------------------------------------------------------===//
// The file
//===----------------------------------------------------------------------===//

Error mlir::llamac::inputError(const Twine &message) {
  return createStringError(inconvertibleErrorCode(), message);
}

// Whether brackets nest deeper than in any file of ours: the parser recurses.
static bool nestsTooDeep(StringRef text) {
  constexpr int deepest = 64;
  int depth = 0;
  bool inString = false;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (inString)
      c == '\\' ? void(++i) : void(inString = c != '"');
    else if (c == '"')
      inString = true;
    else if (c == '[' || c == '{')
      depth += 1;
    else if (c == ']' || c == '}')
      depth -= 1;
    if (depth > deepest)
      return true;
  }
  return false;
}

Expected<json::Object> mlir::llamac::readJsonFile(StringRef path, StringRef what) {
  auto buffer = MemoryBuffer::getFile(path, /*IsText=*/true);
  if (!buffer)
    return inputError(path + ": " + buffer.getError().message());
  StringRef text = (*buffer)->getBuffer();
  if (nestsTooDeep(text))
    return inputError(path + ": expected " + what + ", got brackets more than 64 deep");
  Expected<json::Value> root = json::parse(text);
  if (!root) {
    std::string message;
    handleAllErrors(root.takeError(),
                    [&](const ErrorInfoBase &error) { message = error.message(); });
    // "[LINE:COLUMN, byte=N]: MESSAGE"
    auto [place, rest] = StringRef(message).split("]: ");
    return inputError(path + ":" + place.drop_front().split(',').first +
                      ": malformed JSON: " + rest);
  }
  json::Object *object = root->getAsObject();
  if (!object)
    return inputError(path + ": expected a JSON object");
  return std::move(*object);
}

//===----------------------------------------------------------------------===//
// Fields
//===----------------------------------------------------------------------===//

// The value as JSON, cut if it is long.
static std::string show(const json::Value &value) {
  std::string text = formatv("{0}", value);
  constexpr size_t longest = 80;
  return text.size() <= longest ? text : text.substr(0, longest) + "...";
}

void JsonReader::wrong(StringRef field, const Twine &expected, const Twine &got) {
  if (error.empty())
    error = (file + ": field '" + path + field + "': expected " + expected + ", got " + got).str();
}

void JsonReader::wrongValue(StringRef field, const Twine &expected, const json::Value &got) {
  wrong(field, expected, show(got));
}

bool JsonReader::has(StringRef field) const {
  asked.insert(field);
  return object.get(field);
}

const json::Value *JsonReader::get(StringRef field) const {
  asked.insert(field);
  const json::Value *value = object.get(field);
  return value && value->kind() != json::Value::Null ? value : nullptr;
}

int64_t JsonReader::integer(StringRef field, std::optional<int64_t> absent, int64_t least,
                            int64_t most) {
  const json::Value *value = get(field);
  if (!has(field) && absent)
    return *absent;
  std::string expected = formatv("an integer from {0} to {1}", least, most);
  if (!value)
    wrong(field, expected, has(field) ? "null" : "nothing");
  else if (auto number = value->getAsInteger(); number && *number >= least && *number <= most)
    return *number;
  else
    wrongValue(field, expected, *value);
  return least;
}

double JsonReader::number(StringRef field, std::optional<double> absent, bool positive) {
  const json::Value *value = get(field);
  if (!has(field) && absent)
    return *absent;
  StringRef expected = positive ? "a number above 0" : "a number of at least 0";
  if (!value)
    wrong(field, expected, has(field) ? "null" : "nothing");
  else if (auto number = value->getAsNumber();
           number && std::isfinite(*number) && (positive ? *number > 0 : *number >= 0))
    return *number;
  else
    wrongValue(field, expected, *value);
  return 1;
}

std::string JsonReader::text(StringRef field, StringRef absent) {
  const json::Value *value = get(field);
  if (!has(field))
    return absent.str();
  if (!value)
    wrong(field, "a string", "null");
  else if (auto string = value->getAsString())
    return string->str();
  else
    wrongValue(field, "a string", *value);
  return absent.str();
}

bool JsonReader::boolean(StringRef field, bool absent) {
  const json::Value *value = get(field);
  if (!has(field))
    return absent;
  if (!value)
    wrong(field, "true or false", "null");
  else if (auto boolean = value->getAsBoolean())
    return *boolean;
  else
    wrongValue(field, "true or false", *value);
  return absent;
}

SmallVector<int64_t> JsonReader::integers(StringRef field, ArrayRef<int64_t> absent, int64_t most) {
  const json::Value *value = get(field);
  if (!value)
    return to_vector(absent);
  SmallVector<int64_t> result;
  const json::Array *array = value->getAsArray();
  if (!array)
    wrongValue(field, "a list of integers", *value);
  else
    for (const json::Value &element : *array) {
      auto number = element.getAsInteger();
      if (!number || *number < 0 || *number > most)
        wrongValue(field, formatv("integers from 0 to {0}", most), element);
      else
        result.push_back(*number);
    }
  return result;
}

SmallVector<double> JsonReader::numbers(StringRef field) {
  SmallVector<double> result;
  const json::Value *value = get(field);
  if (!value)
    return result;
  const json::Array *array = value->getAsArray();
  if (!array)
    wrongValue(field, "a list of numbers above 0", *value);
  else
    for (const json::Value &element : *array) {
      auto number = element.getAsNumber();
      if (!number || !std::isfinite(*number) || *number <= 0)
        wrongValue(field, "numbers above 0", element);
      else
        result.push_back(*number);
    }
  return result;
}

JsonReader JsonReader::members(StringRef field) {
  static const json::Object empty;
  const json::Value *value = get(field);
  const json::Object *members = value ? value->getAsObject() : &empty;
  if (!members)
    wrongValue(field, "an object", *value);
  return JsonReader(file, path + field.str() + ".", members ? *members : empty, error);
}

void JsonReader::only(StringRef field, const json::Value &wanted) {
  const json::Value *value = get(field);
  if (value && *value != wanted)
    wrongValue(field, Twine(show(wanted)) + " (nothing else is supported)", *value);
}

std::vector<std::string> JsonReader::unread() const {
  std::vector<std::string> result;
  for (const auto &entry : object)
    if (StringRef name = entry.first; !asked.contains(name))
      result.push_back(name.str());
  llvm::sort(result); // an object keeps no order
  return result;
}

void JsonReader::onlyFields(ArrayRef<StringRef> fields) {
  // An object keeps no order: of several unknown fields name the first by name.
  SmallVector<StringRef> unknown;
  for (const auto &entry : object)
    if (StringRef name = entry.first; !is_contained(fields, name))
      unknown.push_back(name);
  if (!unknown.empty())
    wrong(*min_element(unknown), "one of " + join(fields, ", "), "this name");
}
