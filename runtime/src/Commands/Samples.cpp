//===- Samples.cpp - The order of samples ---------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Commands/Samples.h"

#include "src/Commands/Random.h"
#include "src/Data/Error.h"

using namespace llrt;
using nlohmann::json;

json Samples::Place::toJson() const {
  return {{"epoch", epoch},
          {"shard", windowStart.shard},
          {"sample", windowStart.sample},
          {"window", window},
          {"index", index}};
}

Samples::Place Samples::Place::fromJson(const json &json, const std::string &where) {
  auto read = [&](const char *field) {
    auto found = json.find(field);
    if (found == json.end() || !found->is_number_integer() || *found < 0)
      fail(where, ": field '", field, "': expected an integer of at least 0, got ",
           found == json.end() ? "nothing" : found->dump());
    return found->get<int64_t>();
  };
  if (!json.is_object())
    fail(where, ": expected an object, got ", json.type_name());
  Place place;
  place.epoch = read("epoch");
  place.windowStart = {read("shard"), read("sample")};
  place.window = read("window");
  place.index = read("index");
  return place;
}

Samples::Samples(std::vector<std::string> shards, uint64_t seed, int64_t window)
    : dataset(std::move(shards)), seed(seed), windowSize(window) {}

void Samples::readWindow() {
  dataset.seek(here.windowStart);
  while (int64_t(window.size()) < windowSize) {
    std::optional<Sample> sample = dataset.next();
    if (!sample)
      break;
    window.push_back(std::move(*sample));
  }
  // Fisher and Yates' shuffle. The remainder favours small numbers by less than
  // window / 2^64.
  for (uint64_t i = window.size(); i > 1; --i) {
    auto bits = philox(
        {uint32_t(i), uint32_t(here.window), uint32_t(here.window >> 32), uint32_t(here.epoch)},
        {uint32_t(seed), uint32_t(seed >> 32)});
    uint64_t other = (uint64_t(bits[0]) << 32 | bits[1]) % i;
    std::swap(window[i - 1], window[other]);
  }
}

Sample Samples::next() {
  if (window.empty())
    readWindow();
  if (here.index >= int64_t(window.size())) {
    bool ended = window.empty();
    if (ended && here.window == 0)
      fail("option '--data': expected at least one sample, got none");
    int64_t epoch = here.epoch;
    if (ended)
      here = {epoch + 1, {}, 0, 0};
    else
      here = {epoch, dataset.position(), here.window + 1, 0};
    window.clear();
    return next();
  }
  return std::move(window[here.index++]);
}

void Samples::seek(Place place) {
  window.clear();
  here = place;
}
