//===- Options.cpp ----------------------------------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Support/Options.h"

#include <charconv>
#include <cstdlib>
#include <string_view>

using namespace sgpu;

static constexpr const char *names[numChecks] = {
    "uninitialized", "out-of-bounds", "use-after-free", "misaligned", "leak",     "race",
    "in-flight",     "proxy",         "barrier",        "deadlock",   "mbarrier", "launch",
    "stream",        "argument",      "trap",           "strict"};

const char *sgpu::checkName(Check check) { return names[unsigned(check)]; }

namespace {
[[noreturn]] void refuse(const char *variable, std::string_view value, const std::string &wanted) {
  throw Error(std::string(variable) + "=" + std::string(value) + ": expected " + wanted);
}

/// The value of a variable; null if it is not set or empty.
const char *get(const char *variable) {
  const char *value = std::getenv(variable);
  return value && *value ? value : nullptr;
}

uint64_t number(const char *variable, std::string_view text, uint64_t least, uint64_t most) {
  int base = text.starts_with("0x") ? 16 : 10;
  std::string_view digits = base == 16 ? text.substr(2) : text;
  uint64_t value = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (error != std::errc() || end != digits.data() + digits.size() || value < least || value > most)
    refuse(variable, text,
           "a whole number from " + std::to_string(least) + " to " + std::to_string(most));
  return value;
}

uint64_t size(const char *variable, std::string_view text) {
  unsigned shift = 0;
  std::string_view digits = text;
  switch (text.empty() ? 0 : text.back()) {
  case 'K':
    shift = 10;
    break;
  case 'M':
    shift = 20;
    break;
  case 'G':
    shift = 30;
    break;
  }
  if (shift)
    digits.remove_suffix(1);
  uint64_t value = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  constexpr uint64_t most = uint64_t(1) << 40;
  if (error != std::errc() || end != digits.data() + digits.size() || value > most >> shift ||
      (value << shift) < (uint64_t(1) << 20))
    refuse(variable, text, "bytes, also as 512M or 16G, from 1M to 1024G");
  return value << shift;
}

uint32_t checkSet(const char *variable, std::string_view text) {
  uint32_t set = 0;
  bool first = true;
  for (std::string_view rest = text; !rest.empty() || first;) {
    size_t comma = rest.find(',');
    std::string_view word = rest.substr(0, comma);
    rest = comma == rest.npos ? std::string_view() : rest.substr(comma + 1);
    bool remove = word.starts_with('-');
    if (remove) {
      word.remove_prefix(1);
      if (first)
        set = allChecks; // "-race": all but this one
    }
    uint32_t bits = word == "all" ? allChecks : 0;
    bool known = word == "all" || word == "none";
    for (unsigned i = 0; i < numChecks; ++i)
      if (word == names[i]) {
        bits = 1u << i;
        known = true;
      }
    if (!known) {
      std::string wanted = "a list of all, none";
      for (const char *name : names)
        wanted += std::string(", ") + name;
      refuse(variable, text, wanted + "; a minus takes one away");
    }
    set = remove ? set & ~bits : set | bits;
    first = false;
  }
  return set;
}
} // namespace

Options Options::fromEnvironment() {
  Options o;
  if (const char *v = get("SOFTWARE_GPU_DEVICES"))
    o.devices = int(number("SOFTWARE_GPU_DEVICES", v, 1, 16));
  if (const char *v = get("SOFTWARE_GPU_CHIP")) {
    std::string_view text = v;
    if (text == "sm_80")
      o.chip = 80;
    else if (text == "sm_90" || text == "sm_90a")
      o.chip = 90;
    else
      refuse("SOFTWARE_GPU_CHIP", text, "sm_80 or sm_90");
  }
  if (const char *v = get("SOFTWARE_GPU_DRIVER")) {
    std::string_view text = v;
    bool is12 = text.size() == 4 && text.starts_with("12.") && text[3] >= '0' && text[3] <= '9';
    if (!is12 && text != "13.0")
      refuse("SOFTWARE_GPU_DRIVER", text, "12.0 to 12.9, or 13.0");
    o.driver = is12 ? 12000 + (text[3] - '0') * 10 : 13000;
  }
  if (const char *v = get("SOFTWARE_GPU_MEMORY"))
    o.memory = size("SOFTWARE_GPU_MEMORY", v);
  if (const char *v = get("SOFTWARE_GPU_SEED"))
    o.seed = number("SOFTWARE_GPU_SEED", v, 0, ~uint64_t(0));
  if (const char *v = get("SOFTWARE_GPU_COMPLETION")) {
    std::string_view text = v;
    if (text == "late")
      o.completion = Completion::Late;
    else if (text == "early")
      o.completion = Completion::Early;
    else if (text == "random")
      o.completion = Completion::Random;
    else
      refuse("SOFTWARE_GPU_COMPLETION", text, "late, early or random");
  }
  if (const char *v = get("SOFTWARE_GPU_THREADS"))
    o.threads = int(number("SOFTWARE_GPU_THREADS", v, 1, 1024));
  if (const char *v = get("SOFTWARE_GPU_RESIDENT"))
    o.resident = int(number("SOFTWARE_GPU_RESIDENT", v, 1, 1000000));
  if (const char *v = get("SOFTWARE_GPU_TIMEOUT"))
    o.timeout = int(number("SOFTWARE_GPU_TIMEOUT", v, 1, 1000000));
  if (const char *v = get("SOFTWARE_GPU_CHECKS"))
    o.checks = checkSet("SOFTWARE_GPU_CHECKS", v);
  if (const char *v = get("SOFTWARE_GPU_REPORT"))
    o.report = v;
  if (const char *v = get("SOFTWARE_GPU_COUNTERS"))
    o.counters = v;
  if (const char *v = get("SOFTWARE_GPU_RECORD"))
    o.record = v;
  if (const char *v = get("SOFTWARE_GPU_ORDERS"))
    o.orders = v;
  if (const char *v = get("SOFTWARE_GPU_OMIT"))
    o.omit = v;
  return o;
}
