//===- Report.cpp -----------------------------------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Support/Report.h"
#include "Support/Json.h"

#include <cstdio>
#include <unistd.h>

using namespace sgpu;

static std::string triple(const Dim3 &d) {
  return "(" + std::to_string(d.x) + "," + std::to_string(d.y) + "," + std::to_string(d.z) + ")";
}

static std::string hex(uint64_t value) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

/// "kernel k (PTX line 12, x.cu:3), block (0,0,0), thread (5,0,0): st.shared.f32 [%r1], %f1"
static std::string toText(const Place &place) {
  std::string s;
  if (!place.kernel.empty()) {
    s = "kernel " + place.kernel;
    if (place.line) {
      s += " (PTX line " + std::to_string(place.line);
      if (!place.source.empty())
        s += ", " + place.source;
      s += "), block " + triple(place.block) + ", thread " + triple(place.thread);
    }
  } else {
    s = !place.rank.empty() ? place.rank : place.call.empty() ? "the host" : "call " + place.call;
  }
  if (!place.what.empty())
    s += ", " + place.what;
  if (!place.text.empty())
    s += ": " + place.text;
  return s;
}

std::string Reporter::toText(const Report &report, uint64_t seed) {
  std::string s = std::string("software-gpu: ") + checkName(report.check) + ": " + report.message +
                  "\n  at " + ::toText(report.place) + "\n";
  if (report.hasAddress) {
    s += "  address " + hex(report.address);
    if (!report.memory.empty())
      s += ", " + report.memory;
    s += "\n";
  }
  for (const Place &other : report.others)
    s += "  other: " + ::toText(other) + "\n";
  return s + "  seed " + std::to_string(seed) + "\n";
}

static Json toJson(const Place &place) {
  Json j;
  if (!place.kernel.empty()) {
    j.add("kernel", place.kernel);
    if (place.line) {
      j.add("line", place.line);
      if (!place.source.empty())
        j.add("source", place.source);
      j.add("block", std::vector<uint64_t>{place.block.x, place.block.y, place.block.z});
      j.add("thread", std::vector<uint64_t>{place.thread.x, place.thread.y, place.thread.z});
    }
  } else if (!place.rank.empty()) {
    j.add("rank", place.rank);
  } else {
    j.add("call", place.call);
  }
  if (!place.what.empty())
    j.add("what", place.what);
  if (!place.text.empty())
    j.add("text", place.text);
  return j;
}

std::string Reporter::toJson(const Report &report, uint64_t seed) {
  Json j;
  j.add("check", checkName(report.check));
  j.add("message", report.message);
  j.add("at", ::toJson(report.place));
  if (report.hasAddress) {
    j.add("address", hex(report.address));
    if (!report.memory.empty())
      j.add("memory", report.memory);
  }
  if (!report.others.empty()) {
    std::vector<Json> others;
    for (const Place &other : report.others)
      others.push_back(::toJson(other));
    j.add("others", others);
  }
  j.add("seed", seed);
  return j.str();
}

Reporter::Reporter(const Options &options, bool text) : options(options), text(text) {}

void Reporter::add(Report report) {
  if (!options.enabled(report.check))
    return;
  std::lock_guard lock(mutex);
  if (listener)
    listener(report);
  ++counts[unsigned(report.check)];
  const Place &place = report.place;
  uint64_t &times =
      seen[{report.check, place.kernel.empty() ? place.call : place.kernel, place.line}];
  if (++times > limit)
    return;
  if (text)
    std::fputs(toText(report, options.seed).c_str(), stderr);
  if (!options.report.empty())
    if (std::FILE *file = std::fopen(options.report.c_str(), "a")) {
      std::fputs((toJson(report, options.seed) + "\n").c_str(), file);
      std::fclose(file);
    }
  // The order that was left out is missed: nothing else is asked.
  if (text && !options.omit.empty()) {
    std::fflush(nullptr);
    _exit(faultStatus);
  }
  kept.push_back(std::move(report));
}

std::vector<Report> Reporter::reports() const {
  std::lock_guard lock(mutex);
  return kept;
}

uint64_t Reporter::count(Check check) const {
  std::lock_guard lock(mutex);
  return counts[unsigned(check)];
}

uint64_t Reporter::total() const {
  std::lock_guard lock(mutex);
  uint64_t sum = 0;
  for (uint64_t n : counts)
    sum += n;
  return sum;
}

void Reporter::clear() {
  std::lock_guard lock(mutex);
  kept.clear();
  seen.clear();
  counts.fill(0);
}

int Reporter::finish() {
  uint64_t sum = total();
  if (!sum)
    return 0;
  if (text) {
    std::lock_guard lock(mutex);
    std::string s = "software-gpu: " + std::to_string(sum) + (sum == 1 ? " fault:" : " faults:");
    const char *separator = " ";
    for (unsigned i = 0; i < numChecks; ++i)
      if (counts[i]) {
        s += separator + std::to_string(counts[i]) + " " + checkName(Check(i));
        separator = ", ";
      }
    std::fprintf(stderr, "%s; seed %llu (SOFTWARE_GPU_SEED)\n", s.c_str(),
                 static_cast<unsigned long long>(options.seed));
  }
  return faultStatus;
}
