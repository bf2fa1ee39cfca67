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
#include "src/Program/Program.h"

#include <functional>
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

// What became of the data so far.
struct DataCounts {
  int64_t samples = 0;                        // that were read
  int64_t images = 0;                         // of them
  int64_t imagesPassed = 0;                   // that a text model does not read
  int64_t cut = 0;                            // captions longer than the text length
  int64_t replaced = 0;                       // captions with bytes that are not UTF-8
  int64_t skipped = 0;                        // samples that cannot be read
  std::map<std::string, int64_t> otherFields; // nothing was read of, and how often
  std::string withoutField;                   // WebDataset::firstWithoutField

  // Says it all, in lines. `program`: that read them.
  std::string text(const Program &program) const;
  // The lines of it about what was left out or is strange.
  std::string notes(const Program &program) const;
};

// Captions with images, made into what the program reads.
class Captions {
public:
  // Reads --data, --tokenizer, --preprocessor, --image-fields, --on-bad-sample
  // and --bad-sample-limit. `model`: a folder in which tokenizer and
  // preprocessor are looked for if that of the data has none; may be empty.
  Captions(const Program &program, const Arguments &arguments, const std::string &model);

  const std::vector<std::string> &shards() const { return files; }
  const Preprocessing &tools() const { return preprocessing; }

  // A batch, and what is to be said about it.
  struct Loaded {
    ModelInputs inputs;
    std::vector<std::string> skipped; // why, of each sample that was skipped
    DataCounts counts;                // of all batches so far
  };

  // Makes a batch of what `next` gives: a global batch of samples, fewer if
  // there are no more, filled up with ignored ones to as many as a forward
  // takes. Nothing if there is no sample left. Throws Error on a sample that
  // cannot be read, or, if they are to be skipped, on too many of them. May be
  // called on any thread, by one at a time.
  std::optional<Loaded> load(const std::function<std::optional<Sample>()> &next);

  // The dataset is read again: the limit of bad samples counts anew.
  void beginEpoch() { epochRead = epochBad = 0; }

private:
  const Program &program;
  std::vector<std::string> files;
  Preprocessing preprocessing;
  std::vector<std::string> imageFields;
  bool skips;
  double limit;
  DataCounts counts;
  int64_t epochRead = 0, epochBad = 0;
};

// --data and the options of Preprocessing.
std::vector<Option> captionOptions();

} // namespace llrt
#endif // LLRT_COMMANDS_CAPTIONS_H
