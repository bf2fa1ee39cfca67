//===- Arguments.cpp - Options of a command -------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "tools/llamac/Arguments.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Format.h"

using namespace llvm;
using namespace mlir::llamac;

Error mlir::llamac::commandError(const Twine &message) {
  return createStringError(inconvertibleErrorCode(), message);
}

// The first letters of the words of a name: "lr" of "learning-rate".
static std::string initials(StringRef name) {
  std::string result;
  for (StringRef part : split(name, '-'))
    result += part.take_front();
  return result;
}

std::string mlir::llamac::didYouMean(StringRef word, ArrayRef<std::string> names) {
  unsigned best = std::max<size_t>(1, (word.size() + 1) / 3) + 1; // edits
  StringRef nearest;
  for (StringRef name : names) {
    unsigned distance = word.edit_distance(name);
    if (word.size() > 1 && (initials(name) == word || name.starts_with(word)))
      distance = 0;
    if (distance < best) {
      best = distance;
      nearest = name;
    }
  }
  return nearest.str();
}

// "a, b or c"
static std::string alternatives(ArrayRef<StringRef> words) {
  if (words.size() == 1)
    return words[0].str();
  return join(words.drop_back(), ", ") + " or " + words.back().str();
}

void Arguments::add(StringRef name, int64_t &value, Range values, StringRef help) {
  options.push_back(
      {name.str(), "N", help.str(), false,
       [&value, least = values.least, most = values.most](StringRef text) -> std::string {
         int64_t number;
         if (text.getAsInteger(10, number) || number < least || number > most)
           return ("an integer from " + Twine(least) + " to " + Twine(most)).str();
         value = number;
         return "";
       }});
}

void Arguments::add(StringRef name, std::string &value, OneOf values, StringRef help) {
  std::vector<StringRef> known = std::move(values.words);
  options.push_back({name.str(), join(known, "|"), help.str(), false,
                     [&value, known](StringRef text) -> std::string {
                       if (!is_contained(known, text))
                         return alternatives(known);
                       value = text.str();
                       return "";
                     }});
}

void Arguments::add(StringRef name, std::string &value, Text values, StringRef help) {
  options.push_back({name.str(), values.placeholder.str(), help.str(), false,
                     [&value](StringRef text) -> std::string {
                       if (text.empty())
                         return "a value";
                       value = text.str();
                       return "";
                     }});
}

void Arguments::flag(StringRef name, bool &value, StringRef help) {
  options.push_back({name.str(), "", help.str(), true, [&value](StringRef) -> std::string {
                       value = true;
                       return "";
                     }});
}

Error Arguments::parseOption(ArrayRef<const char *> &arguments) {
  StringRef argument = arguments.front();
  auto [name, value] = argument.drop_front(2).split('=');
  bool hasValue = argument.contains('=');
  auto option = find_if(options, [&](const Option &option) { return option.name == name; });
  if (option == options.end()) {
    std::vector<std::string> names;
    for (const Option &option : options)
      names.push_back(option.name);
    std::string meant = didYouMean(name, names);
    return commandError(
        "unknown option '--" + name + "'" +
        (meant.empty() ? "; --help lists them" : "; did you mean '--" + meant + "'?"));
  }
  if (!seen.insert(name).second)
    return commandError("--" + name + ": given twice");
  if (option->isFlag && hasValue)
    return commandError("--" + name + ": expected no value, got '" + value + "'");
  if (!option->isFlag && !hasValue) { // --name VALUE
    StringRef next = arguments.size() > 1 ? arguments[1] : "-";
    if (next.starts_with("-"))
      return commandError("--" + name + ": expected --" + name + "=" + option->placeholder);
    value = next;
    arguments = arguments.drop_front();
  }
  std::string expected = option->set(value);
  if (!expected.empty())
    return commandError("--" + name + "=" + value + ": expected " + expected);
  return Error::success();
}

Error Arguments::parse(ArrayRef<const char *> arguments) {
  help = any_of(arguments, [](StringRef text) { return text == "--help" || text == "-h"; });
  if (help)
    return Error::success();
  for (; !arguments.empty(); arguments = arguments.drop_front()) {
    StringRef argument = arguments.front();
    if (argument == "-o") {
      if (!output.empty())
        return commandError("-o: given twice");
      if (arguments.size() < 2 || !*arguments[1])
        return commandError("-o: expected a file name after it");
      arguments = arguments.drop_front();
      output = arguments.front();
    } else if (argument.starts_with("--")) {
      if (Error error = parseOption(arguments))
        return error;
    } else if (argument.starts_with("-")) {
      return commandError("unknown option '" + argument + "'");
    } else if (model.empty()) {
      model = argument.str();
    } else {
      return commandError("expected one MODEL, got '" + model + "' and '" + argument + "'");
    }
  }
  if (model.empty())
    return commandError("expected a MODEL: a .mlir file, a config.json, a directory that holds "
                        "one, or the name of a built-in model");
  return Error::success();
}

void Arguments::printOptions(raw_ostream &os) const {
  auto print = [&](StringRef left, StringRef right) {
    constexpr unsigned column = 34;
    os << "  " << left;
    if (left.size() + 2 > column)
      os << "\n" << std::string(column + 2, ' ');
    else
      os << std::string(column - left.size(), ' ');
    os << right << "\n";
  };
  print("-o FILE", "where the result goes; - is standard output");
  for (const Option &option : options)
    print("--" + option.name + (option.isFlag ? "" : "=" + option.placeholder), option.help);
}
