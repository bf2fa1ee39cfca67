//===- Samples.h - The order of samples ------------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Training reads the dataset again and again. Each reading (epoch) is cut into
// windows of consecutive samples; the samples of a window are shuffled, by a
// generator seeded with seed, epoch and number of the window:
//
//   dataset   | 0 1 2 3 | 4 5 6 7 | 8 9 |      windows of 4
//   epoch 0   | 2 0 3 1 | 5 4 7 6 | 9 8 |
//   epoch 1   | 3 1 0 2 | ...
//
// So a place in the training is a handful of numbers, and only one window is in
// memory.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_COMMANDS_SAMPLES_H
#define LLRT_COMMANDS_SAMPLES_H

#include "src/Data/WebDataset.h"

#include <nlohmann/json.hpp>

namespace llrt {

class Samples {
public:
  // A place between two samples.
  struct Place {
    int64_t epoch = 0;
    DataPosition windowStart; // where the window begins in the dataset
    int64_t window = 0;       // its number in the epoch
    int64_t index = 0;        // samples of the window that are behind us

    nlohmann::json toJson() const;
    // Throws Error, opening with `where`, if `json` is not what toJson makes.
    static Place fromJson(const nlohmann::json &json, const std::string &where);
  };

  // `window` 1: the dataset's own order.
  Samples(std::vector<std::string> shards, uint64_t seed, int64_t window);

  // The next sample; after the last one an epoch begins. Throws Error if the
  // dataset holds no sample.
  Sample next();

  Place place() const { return here; }
  void seek(Place place);

  // As that of the dataset.
  const std::string &firstWithoutField() const { return dataset.firstWithoutField(); }

private:
  void readWindow();

  WebDataset dataset;
  uint64_t seed;
  int64_t windowSize;
  Place here;
  std::vector<Sample> window; // shuffled; empty: not read yet
};

} // namespace llrt
#endif // LLRT_COMMANDS_SAMPLES_H
