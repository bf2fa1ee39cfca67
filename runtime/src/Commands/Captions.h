//===- Captions.h - The data options of a command --------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_COMMANDS_CAPTIONS_H
#define LLRT_COMMANDS_CAPTIONS_H

#include "src/Commands/Arguments.h"
#include "src/Data/Batch.h"
#include "src/Machine/Program.h"

#include <map>
#include <memory>

namespace llrt {

// The tokenizer and, for a model that reads images, the image preprocessor.
// Thread-safe once it is made.
struct Preprocessing {
  std::unique_ptr<const Tokenizer> tokenizer;
  std::unique_ptr<const ImagePipeline> pipeline; // null: a text model
  // All files that describe them, by the names that a HuggingFace folder has
  // for them.
  std::map<std::string, std::string> files;

  // Reads the files of --tokenizer and --preprocessor; where they are not
  // given, those of the first of `folders` that has one (see Tokenizer.h,
  // ImagePipeline.h). Throws Error if ids of special tokens or the tile size
  // are not those of the program.
  Preprocessing(const Program &program, const Arguments &arguments,
                const std::vector<std::string> &folders);
};

// `folder`: where, in words, the files are looked for otherwise.
std::vector<Option> preprocessingOptions(const std::string &folder);

// Captions with images, made into what the program reads.
class Captions {
public:
  // Reads --data, --tokenizer and --preprocessor. `model`: a folder in which
  // tokenizer and preprocessor are looked for if that of the data has none; may
  // be empty.
  Captions(const Program &program, const Arguments &arguments,
           const std::string &model);

  const std::vector<std::string> &shards() const { return files; }
  const Preprocessing &tools() const { return preprocessing; }

  // A batch of `samples`, filled up with ignored samples to as many as a
  // forward takes. `samples` is not empty. May be called on any thread.
  ModelInputs makeInputs(std::vector<Sample> samples) const;

private:
  const Program &program;
  std::vector<std::string> files;
  Preprocessing preprocessing;
};

// --data and the options of Preprocessing.
std::vector<Option> captionOptions();

} // namespace llrt
#endif // LLRT_COMMANDS_CAPTIONS_H
