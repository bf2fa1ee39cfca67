//===- Weights.h - Parameters in checkpoint files --------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Files name tensors by HuggingFace keys, of which there are several families:
//
//   released     language_model.model.*  vision_model.* multi_modal_projector.*
//                language_model.lm_head.weight
//   in memory    model.language_model.*  model.vision_model.*
//                model.multi_modal_projector.*  lm_head.weight
//   text models  model.*  lm_head.weight
//
// All of them are read. Whatever is written has the keys of the file that was
// read, or the program's own if none was.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_COMMANDS_WEIGHTS_H
#define LLRT_COMMANDS_WEIGHTS_H

#include "src/Data/SafeTensors.h"
#include "src/Machine/Rank.h"

namespace llrt {

// The key that all families have in common: `text.*`, `vision_model.*`,
// `multi_modal_projector.*`, `lm_head.weight`; other keys stay as they are.
std::string commonKey(const std::string &key);

// The type of files that holds `type`.
DType dtypeOf(LlrtType type);

// The memory of `elements` elements of `type` as a tensor of a file.
TensorView viewOf(const void *data, LlrtType type, int64_t elements);

// Converts all elements of `from` to `type`, rounding once to nearest even.
// Throws Error, opening with `where`, unless `from` is F16, BF16, F32 or F64.
void convert(const TensorView &from, LlrtType type, void *to,
             const std::string &where);

// The checkpoint tensors of a program and the parameters that are their rows.
class Weights {
public:
  enum class Kind {
    Storage,  // every tensor, in the type that blocks read
    Masters,  // tensors with a trainable row; frozen rows as they are
    Gradients // tensors with a trainable row; frozen rows zero
  };

  explicit Weights(const Program &program);

  // Fills storage and masters from `files`, each converted from the file's own
  // value, and takes over the file's keys. Throws Error, with the first few
  // names, if tensors are missing, unexpected, or of another shape. A file may
  // hold `rotary_emb.inv_freq` tensors, and `lm_head.weight` for a program
  // whose head is its embedding; they are not read.
  void load(const Rank &rank, const SafeTensors &files);

  // Draws storage and masters: normal ones from N(0, initializer_range), gates
  // `gate`. An element depends only on `seed`, its key and its index there.
  void initialize(const Rank &rank, uint64_t seed, double gate) const;

  // Writes the file `path`.
  void write(const std::string &path, const Rank &rank, Kind kind) const;

private:
  struct Tensor {
    std::string key;
    std::vector<int64_t> shape;
    std::vector<const Parameter *> parts; // by rising row
  };

  const Program &program;
  std::map<std::string, Tensor> tensors; // by common key
};

} // namespace llrt
#endif // LLRT_COMMANDS_WEIGHTS_H
