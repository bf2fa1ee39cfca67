//===- Arguments.h - Options of one command --------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_COMMANDS_ARGUMENTS_H
#define LLRT_COMMANDS_ARGUMENTS_H

#include <cstdint>
#include <initializer_list>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace llrt {

// One `--name=VALUE` of a command, as `--help` shows it.
struct Option {
  enum class Need { Optional, Required, Repeated };

  std::string name;   // without the dashes
  std::string value;  // what stands for the value in `--help`: FILE, N, ...
  std::string preset; // the value if the option is not given; empty: none
  std::string help;
  Need need = Need::Optional; // Repeated: optional, may be given several times
  bool mayBeEmpty = false;    // `--name=` gives the empty text
};

// The options that were given, checked against those that there are. Every
// function throws Error with the option, what was expected and what was found.
class Arguments {
public:
  // `given`: what follows the command's name. Each is `--name=VALUE`, `--name
  // VALUE`, or `--help`.
  Arguments(std::vector<Option> options, std::span<char *const> given);

  // `--help` was given; then nothing else has been checked.
  bool helpAsked() const { return help; }

  // The options, their defaults and what they mean, one per paragraph.
  std::string helpText() const;

  // The value or the default; none if neither is there.
  std::optional<std::string> find(const std::string &name) const;

  // The same, for options that have a default or are required.
  std::string text(const std::string &name) const;

  // All values of a repeated option, in order.
  std::vector<std::string> all(const std::string &name) const;

  // A decimal integer of at least `least`.
  int64_t integer(const std::string &name, int64_t least) const;

  // A finite number of at least `least` and, if `below` is given, less than it.
  double number(const std::string &name, double least,
                std::optional<double> below = std::nullopt) const;

  // One of `choices`.
  std::string choice(const std::string &name, std::initializer_list<std::string> choices) const;

private:
  const Option *option(const std::string &name) const;

  std::vector<Option> options;
  std::map<std::string, std::vector<std::string>> values;
  bool help = false;
};

// What an unknown `word` may stand for, to be put behind the message: the one of
// `names` (in messages with `dashes` before it) that begins with it, has it as
// its initials, or is a third of its letters away; else where names are listed.
std::string didYouMean(const std::string &word, const std::vector<std::string> &names,
                       const std::string &dashes = "");

} // namespace llrt
#endif // LLRT_COMMANDS_ARGUMENTS_H
