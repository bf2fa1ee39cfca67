//===- Weights.cpp - Parameters in checkpoint files -----------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Commands/Weights.h"

#include "src/Commands/Random.h"
#include "src/Data/Error.h"

#include <algorithm>
#include <cstring>
#include <deque>

using namespace llrt;

std::string llrt::commonKey(const std::string &key) {
  // The first prefix that fits is replaced; longer ones come before shorter.
  static constexpr std::pair<const char *, const char *> prefixes[] = {
      {"language_model.model.", "text."},
      {"model.language_model.", "text."},
      {"language_model.lm_head.", "lm_head."},
      {"model.vision_model.", "vision_model."},
      {"model.multi_modal_projector.", "multi_modal_projector."},
      {"model.", "text."},
  };
  for (auto [prefix, common] : prefixes)
    if (key.starts_with(prefix))
      return common + key.substr(std::strlen(prefix));
  return key;
}

DType llrt::dtypeOf(LlrtType type) {
  switch (type) {
  case LLRT_F32:
    return DType::F32;
  case LLRT_BF16:
    return DType::BF16;
  case LLRT_F64:
    return DType::F64;
  case LLRT_I64:
    return DType::I64;
  }
  __builtin_unreachable();
}

TensorView llrt::viewOf(const void *data, LlrtType type, int64_t elements) {
  return {dtypeOf(type),
          {elements},
          static_cast<const std::byte *>(data),
          size_t(elements * typeSize(type))};
}

void llrt::convert(const TensorView &from, LlrtType type, void *to,
                   const std::string &where) {
  switch (type) {
  case LLRT_F32:
    return toFloat(from, static_cast<float *>(to), where);
  case LLRT_BF16:
    return toBFloat16(from, static_cast<uint16_t *>(to), where);
  case LLRT_F64:
    return toDouble(from, static_cast<double *>(to), where);
  case LLRT_I64:
    break;
  }
  __builtin_unreachable();
}

Weights::Weights(const Program &program) : program(program) {
  for (const Parameter &p : program.stages[0].parameters) {
    Tensor &tensor = tensors[commonKey(p.checkpointKey)];
    tensor.key = p.checkpointKey;
    tensor.shape = p.checkpointShape;
    tensor.parts.push_back(&p);
  }
  for (auto &[common, tensor] : tensors) {
    std::sort(tensor.parts.begin(), tensor.parts.end(),
              [](const Parameter *a, const Parameter *b) {
                return a->rowBegin < b->rowBegin;
              });
    int64_t row = 0;
    for (const Parameter *p : tensor.parts) {
      if (p->checkpointShape != tensor.shape || p->rowBegin != row)
        fail("the program in this executable: parameter '", p->name,
             "': expected rows from ", row, " of ", shapeText(tensor.shape),
             ", got rows from ", p->rowBegin, " of ",
             shapeText(p->checkpointShape));
      row = p->rowEnd;
    }
    if (int64_t rows = tensor.shape.empty() ? 1 : tensor.shape[0]; row != rows)
      fail("the program in this executable: tensor '", tensor.key,
           "': expected ", rows, " rows, got ", row);
  }
}

// The part of `whole` that is the parameter `p`.
static TensorView rowsOf(const TensorView &whole, const Parameter &p) {
  TensorView rows = whole;
  if (!rows.shape.empty())
    rows.shape[0] = p.rowEnd - p.rowBegin;
  size_t elementBytes = dtypeBits(whole.dtype) / 8;
  rows.data += p.rowBegin * p.rowElements() * elementBytes;
  rows.bytes = p.elements * elementBytes;
  return rows;
}

// "'a', 'b', 'c' and 4 more"
static std::string firstFew(const std::vector<std::string> &names) {
  std::string text;
  for (size_t i = 0; i < std::min<size_t>(names.size(), 3); ++i)
    text += (i ? ", " : "") + names[i];
  if (names.size() > 3)
    text += " and " + std::to_string(names.size() - 3) + " more";
  return text;
}

void Weights::load(const Rank &rank, const SafeTensors &files) {
  std::vector<std::string> missing, unexpected, misshapen;
  std::map<std::string, std::string> found; // common key -> key in the files
  for (const auto &[key, view] : files.tensors()) {
    std::string common = commonKey(key);
    bool unused = key.ends_with("rotary_emb.inv_freq") ||
                  (common == "lm_head.weight" && !tensors.count(common));
    if (!unused &&
        (!tensors.count(common) || !found.emplace(common, key).second))
      unexpected.push_back("'" + key + "'");
  }
  for (const auto &[common, tensor] : tensors) {
    if (!found.count(common)) {
      missing.push_back("'" + tensor.key + "'");
      continue;
    }
    const std::vector<int64_t> &shape = files.at(found[common]).shape;
    if (shape != tensor.shape)
      misshapen.push_back("'" + found[common] + "' (expected " +
                          shapeText(tensor.shape) + ", got " +
                          shapeText(shape) + ")");
  }
  std::string faults;
  for (auto &[name, list] :
       {std::pair("missing ", &missing), std::pair("unexpected ", &unexpected),
        std::pair("wrong shape ", &misshapen)})
    if (!list->empty())
      faults += (faults.empty() ? "" : "; ") + std::to_string(list->size()) +
                " " + name + firstFew(*list);
  if (!faults.empty())
    fail(files.path(), ": expected the ", tensors.size(),
         " tensors of this program, got: ", faults);

  for (auto &[common, tensor] : tensors) {
    tensor.key = found[common];
    const TensorView &view = files.at(tensor.key);
    std::string where = files.path() + ": tensor '" + tensor.key + "'";
    for (const Parameter *p : tensor.parts) {
      convert(rowsOf(view, *p), p->type, rank.at<void>(p->address), where);
      if (p->trainable)
        convert(rowsOf(view, *p), program.masterType(),
                rank.at<void>(*p->master), where);
    }
  }
}

// Writes elements [lo, hi) of one parameter; a body of llrt_parallel_for.
namespace {
struct Draw {
  const Parameter &parameter;
  NormalNumbers numbers;
  double range, gate;
  LlrtType masterType;
  std::byte *storage, *master; // master: null if frozen
};
} // namespace

static double initialValue(const Draw &draw, int64_t element) {
  const Parameter &p = draw.parameter;
  switch (p.initializer) {
  case Parameter::Initializer::Normal:
    return draw.range * draw.numbers.at(p.rowBegin * p.rowElements() + element);
  case Parameter::Initializer::Ones:
    return 1;
  case Parameter::Initializer::Zeros:
    return 0;
  case Parameter::Initializer::Gate:
    return draw.gate;
  }
  __builtin_unreachable();
}

static void drawElements(void **args, int64_t lo, int64_t hi) {
  const Draw &draw = *static_cast<const Draw *>(args[0]);
  constexpr int64_t Chunk = 1024;
  double values[Chunk];
  for (int64_t begin = lo; begin < hi; begin += Chunk) {
    int64_t count = std::min(Chunk, hi - begin);
    for (int64_t i = 0; i < count; ++i)
      values[i] = initialValue(draw, begin + i);
    // What is stored is the master, rounded, as after every later update.
    TensorView exact = viewOf(values, LLRT_F64, count);
    std::byte rounded[Chunk * sizeof(double)];
    convert(exact, draw.masterType, rounded, "");
    int64_t masterSize = typeSize(draw.masterType);
    if (draw.master)
      std::memcpy(draw.master + begin * masterSize, rounded,
                  count * masterSize);
    LlrtType type = draw.parameter.type;
    convert(viewOf(rounded, draw.masterType, count), type,
            draw.storage + begin * typeSize(type), "");
  }
}

void Weights::initialize(const Rank &rank, uint64_t seed, double gate) const {
  for (const auto &[common, tensor] : tensors)
    for (const Parameter *p : tensor.parts) {
      Draw draw = {*p,
                   NormalNumbers(seed, common),
                   program.model.initializerRange,
                   gate,
                   program.masterType(),
                   rank.at<std::byte>(p->address),
                   p->trainable ? rank.at<std::byte>(*p->master) : nullptr};
      void *args[] = {&draw};
      llrt_parallel_for(drawElements, args, p->elements, 4096);
    }
}

void Weights::write(const std::string &path, const Rank &rank,
                    Kind kind) const {
  std::deque<std::vector<std::byte>> joined; // tensors of several parameters
  std::vector<TensorToWrite> list;
  for (const auto &[common, tensor] : tensors) {
    if (kind != Kind::Storage &&
        std::none_of(tensor.parts.begin(), tensor.parts.end(),
                     [](const Parameter *p) { return p->trainable; }))
      continue;
    LlrtType type =
        kind == Kind::Storage ? tensor.parts[0]->type : program.masterType();
    // Where the rows of `p` are, and in which type; null for zeros.
    auto source = [&](const Parameter &p) -> std::pair<const void *, LlrtType> {
      if (kind == Kind::Gradients)
        return {p.trainable ? rank.at<void>(*p.gradient) : nullptr, p.gradientType};
      if (kind == Kind::Masters && p.trainable)
        return {rank.at<void>(*p.master), type};
      return {rank.at<void>(p.address), p.type};
    };
    auto [data, dataType] = source(*tensor.parts[0]);
    if (tensor.parts.size() > 1 || dataType != type) {
      int64_t elements = 0;
      for (const Parameter *p : tensor.parts)
        elements += p->elements;
      std::vector<std::byte> &whole =
          joined.emplace_back(elements * typeSize(type)); // zeros
      for (const Parameter *p : tensor.parts)
        if (auto [rows, rowType] = source(*p); rows)
          convert(viewOf(rows, rowType, p->elements), type,
                  whole.data() +
                      p->rowBegin * p->rowElements() * typeSize(type),
                  tensor.key);
      data = whole.data();
    }
    list.push_back({tensor.key, dtypeOf(type), tensor.shape, data});
  }
  writeSafeTensors(path, list);
}
