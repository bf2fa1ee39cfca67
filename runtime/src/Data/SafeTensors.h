//===- SafeTensors.h - Read and write safetensors files ---------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The format: 8 bytes little-endian length of the header, the header (JSON:
// name -> dtype, shape, data_offsets), the elements, row-major, little-endian.
// Source: huggingface/safetensors, README.md and safetensors/src/tensor.rs.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_DATA_SAFETENSORS_H
#define LLRT_DATA_SAFETENSORS_H

#include "src/Data/Checksums.h"
#include "src/Data/Files.h"

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace llrt {

// Element types of the format, all of them.
enum class DType {
  BOOL,
  F4,
  F6_E2M3,
  F6_E3M2,
  U8,
  I8,
  F8_E5M2,
  F8_E4M3,
  F8_E8M0,
  F8_E4M3FNUZ,
  F8_E5M2FNUZ,
  I16,
  U16,
  F16,
  BF16,
  I32,
  U32,
  F32,
  C64,
  F64,
  I64,
  U64
};

// The name in a header (`BF16`), and the bits of one element (F4 and F6 are
// packed; a tensor of them is a whole number of bytes).
const char *dtypeName(DType type);
int dtypeBits(DType type);

// A shape as messages show it: `[2, 128]`.
std::string shapeText(const std::vector<int64_t> &shape);

// One tensor of an open SafeTensors, which owns the memory.
struct TensorView {
  DType dtype;
  std::vector<int64_t> shape; // no entry: one element (a scalar)
  const std::byte *data;      // may not be aligned to the element size
  size_t bytes;
  int64_t elements() const;
};

// The tensors of a file, or of the shards of a model, mapped into memory.
class SafeTensors {
public:
  // `path`: a safetensors file; a `*.index.json`; or a folder (a HuggingFace
  // model: its model.safetensors.index.json if there is one, else its
  // model.safetensors). All headers are checked in full here; elements are not
  // touched. Throws Error: no byte of a file can make this crash.
  explicit SafeTensors(const std::string &path);

  // Null if there is no such tensor.
  const TensorView *find(std::string_view name) const;
  // Throws Error if there is no such tensor.
  const TensorView &at(std::string_view name) const;
  // All tensors, sorted by name.
  const std::map<std::string, TensorView, std::less<>> &tensors() const { return views; }
  // `__metadata__` of all files together; of equal keys the first file's.
  const std::map<std::string, std::string> &metadata() const { return texts; }
  const std::string &path() const { return openedPath; }

private:
  std::map<std::string, TensorView, std::less<>> openFile(const std::string &);
  void openIndex(const std::string &indexPath);

  std::string openedPath;
  std::vector<MappedFile> files;
  std::map<std::string, TensorView, std::less<>> views;
  std::map<std::string, std::string> texts;
};

// Element conversion, rounding to nearest, ties to even. `out` has room for
// view.elements(). Throws Error, opening with `where`, unless the dtype is F16,
// BF16, F32 or F64. A bfloat16 is given as its 16 bits.
void toFloat(const TensorView &view, float *out, const std::string &where);
void toDouble(const TensorView &view, double *out, const std::string &where);
void toBFloat16(const TensorView &view, uint16_t *out, const std::string &where);
// Throws Error, opening with `where`, unless the dtype is an integer or BOOL.
std::vector<int64_t> toInt64(const TensorView &view, const std::string &where);

uint16_t bfloat16FromFloat(float value);
uint16_t bfloat16FromDouble(double value); // rounded once
float floatFromBFloat16(uint16_t bits);
float floatFromHalf(uint16_t bits);

struct TensorToWrite {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;
  const void *data; // row-major, whole; may be null if there are no elements
  // If set, `data` is not used: called when it is the tensor's turn, to write the
  // elements to `to`.
  std::function<void(std::byte *to)> fill = {};
};

// Writes `path`: elements first to a new file in the same folder, which takes
// the name `path` once it is safely on the disk, so that a crash leaves the old
// file. Tensors are laid out by falling element size, then name: every one is
// aligned. `metadata` gets {"format": "pt"}, which transformers asks for, if it
// has none. Returns the checksums of what was to be written. Throws Error if it
// cannot be written, or if two tensors have one name.
FileChecksums writeSafeTensors(const std::string &path, const std::vector<TensorToWrite> &tensors,
                               std::map<std::string, std::string> metadata = {});

// Writes the weights of a HuggingFace folder: FOLDER/model.safetensors, or, if
// the elements take more than `shardBytes`, shards of at most so many (a larger
// tensor has a shard of its own), model-00001-of-00002.safetensors, and
// model.safetensors.index.json. All get `metadata`. Adds what was written to
// `sums`.
void writeModel(const std::string &folder, const std::vector<TensorToWrite> &tensors,
                const std::map<std::string, std::string> &metadata, int64_t shardBytes,
                Checksums &sums);

} // namespace llrt

#endif // LLRT_DATA_SAFETENSORS_H
