//===- Batch.h - Samples to what the model reads ----------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// B samples of the batch, S tokens, M images per sample, R tile side in pixels;
// 4 tile slots per image (maxTiles). All arrays are dense, row-major.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_DATA_BATCH_H
#define LLRT_DATA_BATCH_H

#include "src/Data/ImagePipeline.h"
#include "src/Data/Tokenizer.h"
#include "src/Data/WebDataset.h"

#include <cstdint>
#include <string>
#include <vector>

namespace llrt {

constexpr int64_t ignoredLabel = -100;

// The sizes that a batch must have, and the ids that it may hold.
struct BatchShape {
  int64_t samples;    // B, of the global batch
  int64_t textLength; // S
  int64_t images;     // M; 0: a text model
  int64_t tileSize;   // R; not used if images is 0
  int64_t vocabulary; // labels are -100 or below this
  int64_t extraRows;  // of the embedding behind the vocabulary, for input ids
};

// The tensors that HuggingFace's processor makes, as B.safetensors holds them.
struct Batch {
  BatchShape shape;
  std::vector<int64_t> inputIds;      // [B, S]
  std::vector<int64_t> labels;        // [B, S], not shifted
  std::vector<int64_t> attentionMask; // [B, S], 0 for padding
  std::vector<int64_t> documentIds;   // [B, S]; empty: one document per sample
  // All four are empty if the batch has no image.
  std::vector<float> pixelValues;          // [B, M, 4, 3, R, R]
  std::vector<int64_t> aspectRatioIds;     // [B, M], 0: no image
  std::vector<int64_t> aspectRatioMask;    // [B, M, 4]
  std::vector<int64_t> crossAttentionMask; // [B, S, M, 4]
};

// Reads B.safetensors. Throws Error naming file, tensor, expected and found
// unless
// - every tensor has the shape that `shape` asks for and holds integers or
//   booleans, pixel_values floating-point numbers (F16, BF16, F32, F64), and no
//   tensor has another name; without attention_mask nothing is padding;
// - the four image tensors are there together or not at all, and not if
//   shape.images is 0;
// - input ids lie in [0, vocabulary + extraRows), labels are -100 or lie in
//   [0, vocabulary), masks hold 0 and 1, document ids are at least 0;
// - aspect ratio ids lie in [0, 8], and aspect_ratio_mask marks the tiles of
//   each (the first one for id 0).
Batch readBatch(const std::string &path, const BatchShape &shape);

// The special token that ends a caption.
constexpr const char *captionEnd = "<|end_of_text|>";

// Lays the image m of sample b into `batch`, whose arrays of images are made if
// this is the first one. Markers stand beside each other, at 1, 2, ...: the
// text after the last one sees all images, a marker its own and those before
// it; padding is text here, as in HuggingFace's processor.
void putImage(Batch &batch, int64_t b, int64_t m, const ImageTiles &tiles);

// A batch of captions in the making. A sample is a caption and at most
// shape.images images:
//   <|begin_of_text|> <|image|>... caption <|end_of_text|>
// without markers if there is no image. Labels stand on caption and end. Cut at
// the end, or filled up with `padId`, to S tokens.
//
// The caption is field `txt`, else the one field `NAME.txt`, else the string
// `caption` (else `text`) of `json`, else of the one `NAME.json`. Its images
// are `imageFields`, in that order; if that is empty, all fields whose last
// part is an extension of images (png, jpeg, heic, ...) or whose bytes begin
// like an image, ordered by name, numbers in it by value. A text model
// (shape.images is 0) passes images over.
class CaptionBatch {
public:
  struct Settings {
    const Tokenizer &tokenizer;
    const ImagePipeline *pipeline; // may be null if shape.images is 0
    BatchShape shape;              // samples: the most that are added
    int64_t padId;
    std::vector<std::string> imageFields;
  };
  // What became of a sample.
  struct Added {
    int64_t images = 0;                   // that the model reads
    int64_t imagesPassed = 0;             // that it does not, being a text model
    bool cut = false;                     // the caption, as it is too long
    bool replaced = false;                // bytes of it that are not UTF-8, by U+FFFD
    std::vector<std::string> otherFields; // that nothing was read of
  };

  // Throws Error if ids of the tokenizer or the tile size are not those of
  // the shape.
  explicit CaptionBatch(Settings settings);

  // Adds `sample`. Throws Error naming shard, sample and field if it cannot be
  // read or has more images than the shape; then nothing is added.
  Added add(const Sample &sample);

  int64_t size() const { return added; }

  // The batch, of `samples` samples: those that were added, then empty ones.
  Batch take(int64_t samples);

private:
  std::vector<std::string> imagesOf(const Sample &sample) const;

  Settings settings;
  int64_t beginId, endId, imageId;
  int64_t added = 0;
  Batch batch;
};

// What compiled code reads. Rows of different samples do not depend on each
// other, so that a micro-batch is a range of rows.
struct ModelInputs {
  BatchShape shape;
  std::vector<int64_t> inputIds;  // [B, S]
  std::vector<int64_t> labels;    // [B, S], of the next token; -100 at the end
  std::vector<int64_t> positions; // [B, S], from 0 in each document
  std::vector<int64_t> documents; // [B, S], d, or -1 - d for padding
  // [B, S]: the token sees images begin .. end - 1. 0 and 0: none. 1 and 0, on
  // all rows: the batch has no image (cross-attention branches are times 0).
  std::vector<int64_t> imageBegin, imageEnd;
  std::vector<int64_t> tiles;     // [B, M], real tiles, 1 for a missing image
  std::vector<int64_t> aspectIds; // [B, M], 0 for a missing image
  std::vector<float> pixels;      // [B, M, 4, 3, R, R]
  int64_t validTokens;            // labels that are not -100
};

// Turns `batch` into what compiled code reads. Throws Error, opening with
// `name` and naming sample and row, if a row of cross_attention_mask is not one
// interval of images with exactly their real tiles (a missing image has none).
ModelInputs makeModelInputs(Batch batch, const std::string &name);

} // namespace llrt

#endif // LLRT_DATA_BATCH_H
