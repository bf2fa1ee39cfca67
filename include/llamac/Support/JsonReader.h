//===- JsonReader.h - The fields of a JSON file ----------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A JsonReader looks up one field at a time and keeps the first thing that is
// wrong; after that it returns defaults, so that the code reads like the file:
//
//   llvm::Expected<llvm::json::Object> object = readJsonFile(path, "a config.json");
//   std::string error;
//   JsonReader reader(path, "", *object, error);
//   int64_t width = reader.integer("hidden_size", 4096);
//   if (reader.failed()) ... error is "config.json: field 'hidden_size': expected ..."
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_SUPPORT_JSONREADER_H
#define LLAMAC_SUPPORT_JSONREADER_H

#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/JSON.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mlir::llamac {

/// An error that is one line of text; the command line is to blame (exit code 2).
llvm::Error inputError(const llvm::Twine &message);

/// The JSON object that a file holds. `what` is expected in messages: "a config.json".
llvm::Expected<llvm::json::Object> readJsonFile(llvm::StringRef path, llvm::StringRef what);

/// The fields of one JSON object of a file.
class JsonReader {
public:
  static constexpr int64_t kMaxSize = 1 << 24; ///< of one dimension

  /// `error` is shared by the readers of a file: the first thing wrong in it.
  JsonReader(llvm::StringRef file, std::string path, const llvm::json::Object &object,
             std::string &error)
      : file(file), path(std::move(path)), object(object), error(error) {}

  /// Records `field: expected ..., got ...` unless something was wrong before.
  void wrong(llvm::StringRef field, const llvm::Twine &expected, const llvm::Twine &got);
  void wrongValue(llvm::StringRef field, const llvm::Twine &expected, const llvm::json::Value &got);

  /// The field's value; null if it is absent or null.
  const llvm::json::Value *get(llvm::StringRef field) const;
  /// Whether the field is there, with a value or as `null`.
  bool has(llvm::StringRef field) const;
  // One value; `null` is wrong where a value is expected.
  int64_t integer(llvm::StringRef field, std::optional<int64_t> absent, int64_t least = 1,
                  int64_t most = kMaxSize);
  /// A finite number; `positive`: above 0, otherwise at least 0.
  double number(llvm::StringRef field, std::optional<double> absent, bool positive = true);
  std::string text(llvm::StringRef field, llvm::StringRef absent);
  bool boolean(llvm::StringRef field, bool absent);
  /// A list of integers from 0 to `most`.
  llvm::SmallVector<int64_t> integers(llvm::StringRef field, llvm::ArrayRef<int64_t> absent,
                                      int64_t most);
  /// A list of numbers above 0; empty if it is absent.
  llvm::SmallVector<double> numbers(llvm::StringRef field);
  /// An object; empty if it is absent.
  JsonReader members(llvm::StringRef field);
  /// A field that may only say what this compiler builds anyway.
  void only(llvm::StringRef field, const llvm::json::Value &wanted);
  /// The object has no other fields than these.
  void onlyFields(llvm::ArrayRef<llvm::StringRef> fields);
  /// Fields of the object that none of the above has looked up, in order of names.
  std::vector<std::string> unread() const;
  /// The field's name from the root of the file: "text_config.hidden_size".
  std::string nameOf(llvm::StringRef field) const { return path + field.str(); }

  bool failed() const { return !error.empty(); }

private:
  llvm::StringRef file;
  std::string path; // of the object, with a dot at its end, or empty
  const llvm::json::Object &object;
  std::string &error;
  mutable llvm::StringSet<> asked; // fields that were looked up
};

} // namespace mlir::llamac

#endif // LLAMAC_SUPPORT_JSONREADER_H
