//===- Checkpoint.h - Save a training and go on with it --------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
//   DIR/step-00000100/model.safetensors      all weights, HuggingFace keys, the
//                                            type that blocks read; or shards
//                     config.json, ...       see ModelFolder.h
//                     optimizer.safetensors  master.P, moment1.P, moment2.P of
//                                            each trainable parameter P, f32
//                                            (f64)
//                     state.json             step, place in the data, options
//                     checksums.json         of all other files
//
// All tensors are whole: a checkpoint does not depend on the grid.
//
// A checkpoint is written as `step-00000100.tmp` and takes its name when all of
// it is safely on the disk. So a folder without `.tmp` is complete, whenever
// the process was killed.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_COMMANDS_CHECKPOINT_H
#define LLRT_COMMANDS_CHECKPOINT_H

#include "src/Commands/ModelFolder.h"
#include "src/Commands/Samples.h"

namespace llrt {

// Where a training is.
struct TrainingState {
  int64_t step = 0; // steps done
  Samples::Place place;
  // What the next run must have in common with this one: a flat list of option
  // names and values. `data`: name and size of each shard.
  nlohmann::ordered_json options;
};

class Checkpoints {
public:
  // `folder` is made if it is not there. `keep`: complete checkpoints that
  // stay. `shardBytes`: of weights in a file.
  Checkpoints(std::string folder, int64_t keep, int64_t shardBytes);

  // The newest complete checkpoint; none if there is none.
  std::optional<std::string> newest() const;

  // Writes the checkpoint of `state`, with `files` beside the weights, and
  // removes the oldest ones, and what interrupted runs left. Throws Failure if
  // it cannot be written. Within `atRoot`.
  void save(const Ranks &ranks, const Weights &weights, const TrainingState &state,
            const std::map<std::string, std::string> &files) const;

private:
  std::string folder;
  int64_t keep, shardBytes;
};

// Fills all ranks from `checkpoint` and returns where it was, with the options
// that it was written with. Throws Error if a file of it is missing or broken,
// or if those options are not `options`; `otherData`: shards may differ.
TrainingState loadCheckpoint(const ModelFolder &checkpoint, Ranks &ranks, Weights &weights,
                             const nlohmann::ordered_json &options, bool otherData);

} // namespace llrt
#endif // LLRT_COMMANDS_CHECKPOINT_H
