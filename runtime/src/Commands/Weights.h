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
// All of them are read, also with the prefixes of wrappers (withoutWrappers).
// Whatever is written has the keys of the file that was read, without them, or
// the program's own if none was.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_COMMANDS_WEIGHTS_H
#define LLRT_COMMANDS_WEIGHTS_H

#include "src/Commands/Ranks.h"
#include "src/Data/SafeTensors.h"
#include "src/Rank/Parts.h"

#include <memory>

namespace llrt {

// The key that all families have in common: `text.*`, `vision_model.*`,
// `multi_modal_projector.*`, `lm_head.weight`; other keys stay as they are.
std::string commonKey(const std::string &key);

// `key` without what the wrappers of PyTorch and PEFT leave in the keys of a
// model that is saved within them, in any nesting: `module.` and
// `base_model.model.` at its start; `_orig_mod.`, `_fsdp_wrapped_module.` and
// `_checkpoint_wrapped_module.` anywhere. Adds those that it had to `removed`,
// each once.
std::string withoutWrappers(const std::string &key, std::vector<std::string> &removed);

// The type of files that holds `type`.
DType dtypeOf(LlrtType type);

// The memory of `elements` elements of `type` as a tensor of a file.
TensorView viewOf(const void *data, LlrtType type, int64_t elements);

// Converts all elements of `from` to `type`, rounding once to nearest even.
// Throws Error, opening with `where`, unless `from` is F16, BF16, F32 or F64.
void convert(const TensorView &from, LlrtType type, void *to, const std::string &where);

// The checkpoint tensors of a program and the parameters that are their rows.
class Weights {
public:
  enum class Kind {
    Storage,  // every tensor, in the type that blocks read
    Masters,  // tensors with a trainable row; frozen rows as they are
    Gradients // tensors with a trainable row; frozen rows zero
  };

  explicit Weights(const Program &program);

  // Fills storage and masters of all ranks from `files`, each element converted
  // from the file's own value, and takes over the file's keys. Throws Error,
  // with the first few names, if tensors are missing, unexpected, or of another
  // shape. A file may hold `rotary_emb.inv_freq` tensors, and `lm_head.weight`
  // for a program whose head is its embedding; they are not read. Throws Error
  // if the files say that they were trained by another computation
  // (`Program::Model::computation`).
  void load(Ranks &ranks, const SafeTensors &files);

  // Draws storage and masters: normal ones from N(0, initializer_range), gates
  // `gate`. An element depends only on `seed`, its key and its index there.
  void initialize(Ranks &ranks, uint64_t seed, double gate) const;

  // What files of weights say beside the tensors: the computation that they are
  // trained by. `load` checks it.
  std::map<std::string, std::string> metadata() const;
  // Whole tensors, to be written within `atRoot`.
  std::vector<TensorToWrite> whole(const Ranks &ranks, Kind kind) const;

  // Writes the file `path`, whole tensors; within `atRoot`.
  void write(const std::string &path, const Ranks &ranks, Kind kind) const {
    writeSafeTensors(path, whole(ranks, kind), metadata());
  }

  // A parameter, in the first stage that has it.
  struct Placed {
    const Parameter *parameter;
    size_t stage;
  };
  // All parameters of the program, each once.
  const std::vector<Placed> &parameters() const { return all; }

private:
  struct Tensor {
    std::string key;
    std::vector<int64_t> shape;
    std::vector<Placed> parts; // by rising row
  };

  const Program &program;
  std::vector<Placed> all;
  std::map<std::string, Tensor> tensors; // by common key
  // Keys of tensors that were loaded from and that the program does not read
  // (`Program::Model::carried`): checkpoints get them as they are.
  std::map<std::string, std::string> carried; // -> key in the file
  std::shared_ptr<SafeTensors> carriedFiles;
};

// Copies the whole of a parameter from the ranks that hold it, converted to
// `type`; within `atRoot`.
void readWhole(const Ranks &ranks, const Weights::Placed &placed, Held held, LlrtType type,
               std::byte *to);

// Fills the buffer `held` of `rank` from the whole parameter, `whole`. Errors
// open with `where`.
void takePart(Rank &rank, const Parameter &p, Held held, const TensorView &whole,
              const std::string &where);

} // namespace llrt
#endif // LLRT_COMMANDS_WEIGHTS_H
