//===- Arguments.h - Options of a command ----------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A command declares its options, each with the variable it sets, and parses.
// Strict: `--name=value`, `--name value` or `--flag`, each once, `-o FILE`, and exactly one
// MODEL; anything else is an error that names the nearest option. Options not
// given leave their variable alone.
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_TOOLS_ARGUMENTS_H
#define LLAMAC_TOOLS_ARGUMENTS_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/raw_ostream.h"

#include <functional>
#include <string>
#include <vector>

namespace mlir::llamac {

class Arguments {
public:
  /// What an option accepts.
  struct Range {
    int64_t least, most;
  };
  struct OneOf {
    OneOf(std::vector<llvm::StringRef> words) : words(std::move(words)) {}
    std::vector<llvm::StringRef> words;
  };
  /// Any text but the empty one; `placeholder` stands for it in the help.
  struct Text {
    llvm::StringRef placeholder;
  };

  void add(llvm::StringRef name, int64_t &value, Range values, llvm::StringRef help);
  void add(llvm::StringRef name, std::string &value, OneOf values, llvm::StringRef help);
  void add(llvm::StringRef name, std::string &value, Text values, llvm::StringRef help);
  void flag(llvm::StringRef name, bool &value, llvm::StringRef help);

  /// Parses what follows the command's name.
  llvm::Error parse(llvm::ArrayRef<const char *> arguments);

  /// Whether the command line has the option.
  bool given(llvm::StringRef name) const { return seen.contains(name); }

  /// Lines for --help.
  void printOptions(llvm::raw_ostream &os) const;

  std::string model;  ///< the one argument that is no option
  std::string output; ///< of -o, empty if not given
  bool help = false;  ///< --help or -h: the rest was not checked

private:
  struct Option {
    std::string name, placeholder, help;
    bool isFlag = false;
    /// Takes the value; returns what was expected if it is wrong, else "".
    std::function<std::string(llvm::StringRef)> set;
  };
  /// Parses the option that `arguments` begins with; leaves it, or its value, in front.
  llvm::Error parseOption(llvm::ArrayRef<const char *> &arguments);

  std::vector<Option> options;
  llvm::StringSet<> seen;
};

/// The one of `names` that `word` may stand for: it begins with it, has it as its initials, or is
/// a third of its letters away; "" if there is none.
std::string didYouMean(llvm::StringRef word, llvm::ArrayRef<std::string> names);

/// An error of one line, for `llamac: error: ...`.
llvm::Error commandError(const llvm::Twine &message);

} // namespace mlir::llamac

#endif // LLAMAC_TOOLS_ARGUMENTS_H
