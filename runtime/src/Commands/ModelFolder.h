//===- ModelFolder.h - A HuggingFace folder, read and written --*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
//   config.json                      the program's own
//   generation_config.json           read for its end tokens
//   model.safetensors, or shards with model.safetensors.index.json
//   tokenizer.json, tokenizer.model, original/tokenizer.model, and
//   tokenizer_config.json            see Tokenizer.h
//   processor_config.json, preprocessor_config.json   see ImagePipeline.h
//   checksums.json                   of a checkpoint of ours, see Checksums.h
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_COMMANDS_MODELFOLDER_H
#define LLRT_COMMANDS_MODELFOLDER_H

#include "src/Commands/Captions.h"
#include "src/Commands/Weights.h"

namespace llrt {

// Of the option --weights, for `--help`.
constexpr const char *weightsHelp =
    "Weights: a safetensors file, an index, a HuggingFace folder, or a folder "
    "of checkpoints, of which the newest is taken.";

// The complete checkpoints `step-N` of a folder of checkpoints, oldest first.
std::vector<std::string> completeCheckpoints(const std::string &folder);

// What --weights names: weights and the files beside them.
class ModelFolder {
public:
  // `path`: a safetensors file, a `*.index.json`, a HuggingFace folder, or a
  // folder of checkpoints, of which the newest complete one is taken. Compares
  // the small files, and headers, with checksums.json if there is one; `all`:
  // also those that only training reads. Throws Error.
  explicit ModelFolder(const std::string &path, bool all = false);

  const std::string &folder() const { return directory; }
  // The file or folder of the weights.
  const std::string &weights() const { return weightsPath; }

  // Compares all tensors with checksums.json, each rank some of them; says which
  // checkpoint of a folder was taken, and what cannot be compared. Throws Error.
  void verify(Ranks &ranks) const;

  // Verifies, then loads the weights into all ranks.
  void load(Ranks &ranks, Weights &weights) const;

  // What `generation_config.json` says of end tokens; empty if it says nothing.
  std::vector<int64_t> endTokens() const;

private:
  bool wanted(const std::string &file) const;

  std::string given; // the folder that was named
  std::string weightsPath, directory;
  bool all;
  std::optional<Checksums> checksums;
};

// The tokens that end a text: those of the program's config, of the
// generation_config.json beside the weights, and that of captions.
std::vector<int64_t> endTokens(const Program &program, const ModelFolder &model,
                               const Preprocessing &preprocessing);

// The files of a HuggingFace folder beside its weights, by name: config.json of
// the program, or if that has none of `model`; generation_config.json, tokenizer and processor from where they
// were read. `model`: what training began with; null: drawn weights.
std::map<std::string, std::string>
modelFiles(const Program &program, const Preprocessing &preprocessing, const ModelFolder *model);

} // namespace llrt
#endif // LLRT_COMMANDS_MODELFOLDER_H
