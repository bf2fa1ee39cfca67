//===- Arguments.cpp - Options of one command -----------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Commands/Arguments.h"

#include "src/Data/Error.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

using namespace llrt;

static size_t editDistance(const std::string &a, const std::string &b) {
  std::vector<size_t> row(b.size() + 1); // distances of a prefix of a to b's
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0]++;
    for (size_t j = 0; j < b.size(); ++j) {
      size_t replaced = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

// The first letters of the words of a name: `lr` of `learning-rate`.
static std::string initials(const std::string &name) {
  std::string result;
  for (size_t i = 0; i < name.size(); ++i)
    if (i == 0 || name[i - 1] == '-')
      result += name[i];
  return result;
}

std::string llrt::didYouMean(const std::string &word, const std::vector<std::string> &names,
                             const std::string &dashes) {
  size_t best = std::max<size_t>(1, (word.size() + 1) / 3) + 1;
  std::string nearest;
  for (const std::string &name : names) {
    size_t distance = editDistance(name, word);
    if (word.size() > 1 && (initials(name) == word || name.starts_with(word)))
      distance = 0;
    if (distance < best) {
      best = distance;
      nearest = name;
    }
  }
  return nearest.empty() ? "; --help lists them" : "; did you mean '" + dashes + nearest + "'?";
}

Arguments::Arguments(std::vector<Option> known, std::span<char *const> given)
    : options(std::move(known)) {
  options.push_back({"help", "", "", "Print this list."});
  for (std::string word : given)
    help |= word == "--help";
  if (help)
    return;
  for (size_t i = 0; i < given.size(); ++i) {
    std::string word = given[i];
    if (!word.starts_with("--"))
      fail("expected an option --name=VALUE, got '", word, "'");
    size_t equals = word.find('=');
    std::string name = word.substr(2, equals == word.npos ? equals : equals - 2);
    const Option *found = option(name);
    if (!found) {
      std::vector<std::string> names;
      for (const Option &other : options)
        names.push_back(other.name);
      fail("unknown option '--", name, "'", didYouMean(name, names, "--"));
    }
    if (equals == word.npos && i + 1 < given.size() &&
        !std::string(given[i + 1]).starts_with("--")) { // --name VALUE
      equals = word.size();
      word += "=" + std::string(given[++i]);
    }
    if (equals == word.npos || (equals + 1 == word.size() && !found->mayBeEmpty))
      fail("option '--", name, "': expected --", name, "=", found->value, ", got '", word, "'");
    std::vector<std::string> &list = values[name];
    if (!list.empty() && found->need != Option::Need::Repeated)
      fail("option '--", name, "': expected one value, got '", list[0], "' and '",
           word.substr(equals + 1), "'");
    list.push_back(word.substr(equals + 1));
  }
  for (const Option &each : options)
    if (each.need == Option::Need::Required && !values.count(each.name))
      fail("option '--", each.name, "': expected --", each.name, "=", each.value, ", got nothing");
}

const Option *Arguments::option(const std::string &name) const {
  for (const Option &each : options)
    if (each.name == name)
      return &each;
  return nullptr;
}

std::string Arguments::helpText() const {
  std::string text;
  for (const Option &each : options) {
    text += "  --" + each.name + (each.value.empty() ? "" : "=" + each.value);
    if (each.need == Option::Need::Required)
      text += " (required)";
    else if (!each.preset.empty())
      text += " (default " + each.preset + ")";
    else if (each.need == Option::Need::Repeated)
      text += " (may be repeated)";
    text += "\n      " + each.help + "\n";
  }
  return text;
}

std::optional<std::string> Arguments::find(const std::string &name) const {
  if (auto found = values.find(name); found != values.end())
    return found->second.front();
  const std::string &preset = option(name)->preset;
  return preset.empty() ? std::nullopt : std::optional(preset);
}

std::string Arguments::text(const std::string &name) const { return find(name).value(); }

std::vector<std::string> Arguments::all(const std::string &name) const {
  auto found = values.find(name);
  return found == values.end() ? std::vector<std::string>() : found->second;
}

int64_t Arguments::integer(const std::string &name, int64_t least) const {
  std::string word = text(name);
  int64_t value = 0;
  auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc() || end != word.data() + word.size() || value < least)
    fail("option '--", name, "': expected an integer of at least ", least, ", got '", word, "'");
  return value;
}

double Arguments::number(const std::string &name, double least, std::optional<double> below) const {
  std::string word = text(name);
  double value = 0;
  auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc() || end != word.data() + word.size() || !std::isfinite(value) ||
      value < least || (below && value >= *below)) {
    std::string range;
    if (std::isfinite(least))
      range += " of at least " + (std::ostringstream() << least).str();
    if (below)
      range += " and less than " + (std::ostringstream() << *below).str();
    fail("option '--", name, "': expected a number", range, ", got '", word, "'");
  }
  return value;
}

std::string Arguments::choice(const std::string &name,
                              std::initializer_list<std::string> choices) const {
  std::string word = text(name);
  if (std::find(choices.begin(), choices.end(), word) != choices.end())
    return word;
  std::string list;
  for (const std::string &each : choices)
    list += (list.empty() ? "" : ", ") + each;
  fail("option '--", name, "': expected one of ", list, ", got '", word, "'");
}
