//===- Weights.cpp - Parameters in checkpoint files -----------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Commands/Weights.h"

#include "src/Commands/Random.h"
#include "src/Data/Error.h"
#include "src/Device/Parallel.h"

#include <algorithm>
#include <cstring>
#include <iostream>
#include <set>

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

void llrt::convert(const TensorView &from, LlrtType type, void *to, const std::string &where) {
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
  std::set<std::string> names;
  for (size_t stage = 0; stage < program.stages.size(); ++stage)
    for (const Parameter &p : program.stages[stage].parameters) {
      if (!names.insert(p.name).second)
        continue;
      all.push_back({&p, stage});
      Tensor &tensor = tensors[commonKey(p.checkpointKey)];
      tensor.key = p.checkpointKey;
      tensor.shape = p.checkpointShape;
      tensor.parts.push_back(all.back());
    }
  for (auto &[common, tensor] : tensors) {
    std::sort(tensor.parts.begin(), tensor.parts.end(), [](const Placed &a, const Placed &b) {
      return a.parameter->rowBegin < b.parameter->rowBegin;
    });
    int64_t row = 0;
    for (auto [p, stage] : tensor.parts) {
      if (p->checkpointShape != tensor.shape || p->rowBegin != row)
        fail("the program in this executable: parameter '", p->name, "': expected rows from ", row,
             " of ", shapeText(tensor.shape), ", got rows from ", p->rowBegin, " of ",
             shapeText(p->checkpointShape));
      row = p->rowEnd;
    }
    if (int64_t rows = tensor.shape.empty() ? 1 : tensor.shape[0]; row != rows)
      fail("the program in this executable: tensor '", tensor.key, "': expected ", rows,
           " rows, got ", row);
  }
}

// The part of `whole` that is the parameter `p`.
static TensorView rowsOf(const TensorView &whole, const Parameter &p) {
  TensorView rows = whole;
  if (!rows.shape.empty())
    rows.shape[0] = p.rowEnd - p.rowBegin;
  size_t elementBytes = dtypeBits(whole.dtype) / 8;
  rows.data += p.rowBegin * p.rowElements() * elementBytes;
  rows.bytes = p.wholeElements() * elementBytes;
  return rows;
}

// Elements [begin, begin + count) of `whole`.
static TensorView rangeOf(const TensorView &whole, int64_t begin, int64_t count) {
  size_t elementBytes = dtypeBits(whole.dtype) / 8;
  return {whole.dtype, {count}, whole.data + begin * elementBytes, count * elementBytes};
}

void llrt::takePart(Rank &rank, const Parameter &p, Held held, const TensorView &whole,
                    const std::string &where) {
  const Program &program = rank.program();
  if (!rank.holds(addressOf(p, held), 0))
    return;
  LlrtType type = typeOf(program, p, held);
  forEachRange(program.grid, p, held, rank.number(), [&](int64_t at, int64_t begin, int64_t count) {
    Address to = addressOf(p, held);
    to.offset += at * typeSize(type);
    rank.write(to, count * typeSize(type), [&](std::byte *memory) {
      convert(rangeOf(whole, begin, count), type, memory, where);
    });
  });
}

void llrt::readWhole(const Ranks &ranks, const Weights::Placed &placed, Held held, LlrtType type,
                     std::byte *to) {
  const Program &program = ranks.program();
  const Parameter &p = *placed.parameter;
  LlrtType from = typeOf(program, p, held);
  // Of a shard only what belongs to this parameter is read.
  std::vector<std::byte> buffer;
  for (int64_t owner : owners(program, placed.stage, p, held)) {
    int64_t first = INT64_MAX, last = 0;
    forEachRange(program.grid, p, held, owner, [&](int64_t at, int64_t, int64_t count) {
      first = std::min(first, at);
      last = std::max(last, at + count);
    });
    if (first >= last)
      continue;
    Address address = addressOf(p, held);
    address.offset += first * typeSize(from);
    buffer.resize((last - first) * typeSize(from));
    ranks.read(owner, address, buffer.size(), buffer.data());
    forEachRange(program.grid, p, held, owner, [&](int64_t at, int64_t whole, int64_t count) {
      convert(viewOf(buffer.data() + (at - first) * typeSize(from), from, count), type,
              to + whole * typeSize(type), p.name);
    });
  }
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

// In the metadata of files that hold weights: `Program::Model::computation`.
static constexpr const char *computationKey = "llamac.computation";

// Weights that were trained by another computation are not those of this one.
static void checkComputation(const Program &program, const SafeTensors &files) {
  auto found = files.metadata().find(computationKey);
  if (found == files.metadata().end())
    return;
  std::string where = files.path() + ": metadata '" + computationKey + "'";
  const nlohmann::json trained = parseJson(found->second, where);
  if (!trained.is_object())
    fail(where, ": expected an object, got ", trained.dump());
  const nlohmann::json &here = program.model.computation;
  for (const auto *either : {&here, &trained})
    for (const auto &[name, ignored] : either->items()) {
      nlohmann::json want = here.value(name, nlohmann::json());
      nlohmann::json got = trained.value(name, nlohmann::json());
      if (want != got)
        fail(files.path(), ": these weights were trained with ", name, " = ", got.dump(),
             ", this program computes ", name, " = ", want.dump(),
             ": compile it from the config and the options that they were "
             "trained with");
    }
}

std::string llrt::withoutWrappers(const std::string &key, std::vector<std::string> &removed) {
  // DistributedDataParallel and DeepSpeed, PEFT: before the name of a model.
  static constexpr const char *outer[] = {"module.", "base_model.model."};
  // torch.compile, FSDP, activation checkpointing: around any module.
  static constexpr const char *inner[] = {"_orig_mod.", "_fsdp_wrapped_module.",
                                          "_checkpoint_wrapped_module."};
  std::string name = key;
  for (bool again = true; again;) {
    again = false;
    auto erase = [&](const char *wrapper, size_t at) {
      name.erase(at, std::strlen(wrapper));
      if (std::find(removed.begin(), removed.end(), wrapper) == removed.end())
        removed.push_back(wrapper);
      again = true;
    };
    for (const char *wrapper : outer)
      if (name.starts_with(wrapper))
        erase(wrapper, 0);
    for (const char *wrapper : inner)
      if (size_t at = name.find(wrapper); at != name.npos && (at == 0 || name[at - 1] == '.'))
        erase(wrapper, at);
  }
  return name;
}

// Throws Error if `key` is of an adapter of PEFT: its weights are not those of
// the model.
static void refuseAdapter(const std::string &key, const std::string &path) {
  for (const char *part :
       {".lora_", ".base_layer.", ".modules_to_save.", ".original_module.", "prompt_encoder."})
    if (("." + key).find(part) != key.npos)
      fail(path, ": tensor '", key,
           "': expected the weights of a model, got those of a LoRA adapter or "
           "of a model with one; join them first (PEFT: merge_and_unload)");
}

void Weights::load(Ranks &ranks, const SafeTensors &files) {
  checkComputation(program, files);
  std::vector<std::string> missing, unexpected, misshapen;
  std::map<std::string, std::string> found; // common key -> key in the files
  std::vector<std::string> wrappers;
  size_t wrapped = 0; // tensors
  carried.clear();
  carriedFiles.reset();
  for (const auto &[key, view] : files.tensors()) {
    refuseAdapter(key, files.path());
    std::string plain = withoutWrappers(key, wrappers);
    wrapped += plain != key;
    std::string common = commonKey(plain);
    if (!tensors.count(common) &&
        std::any_of(
            program.model.carried.begin(), program.model.carried.end(),
            [&](const std::string &begin) { return common.starts_with(commonKey(begin)); })) {
      carried.emplace(plain, key);
      continue;
    }
    bool unused = plain.ends_with("rotary_emb.inv_freq") ||
                  (common == "lm_head.weight" && !tensors.count(common));
    if (!unused && (!tensors.count(common) || !found.emplace(common, key).second))
      unexpected.push_back("'" + key + "'");
  }
  for (const auto &[common, tensor] : tensors) {
    if (!found.count(common)) {
      missing.push_back("'" + tensor.key + "'");
      continue;
    }
    const std::vector<int64_t> &shape = files.at(found[common]).shape;
    if (shape != tensor.shape)
      misshapen.push_back("'" + found[common] + "' (expected " + shapeText(tensor.shape) +
                          ", got " + shapeText(shape) + ")");
  }
  std::string faults;
  for (auto &[name, list] : {std::pair("missing ", &missing), std::pair("unexpected ", &unexpected),
                             std::pair("wrong shape ", &misshapen)})
    if (!list->empty())
      faults += (faults.empty() ? "" : "; ") + std::to_string(list->size()) + " " + name +
                firstFew(*list);
  if (!faults.empty())
    fail(files.path(), ": expected the ", tensors.size(),
         " tensors of this program, got: ", faults);

  if (wrapped > 0 && ranks.isRoot()) {
    std::cerr << files.path() << ": read without what wrappers left in the keys "
              << "of " << wrapped << " tensors:";
    for (const std::string &wrapper : wrappers)
      std::cerr << " '" << wrapper << "'";
    std::cerr << "\n";
  }
  for (auto &[common, tensor] : tensors)
    tensor.key = withoutWrappers(found[common], wrappers);
  if (!carried.empty())
    carriedFiles = std::make_shared<SafeTensors>(files.path());
  ranks.each([&](Rank &rank) {
    for (const Parameter &p : rank.stage().parameters) {
      const std::string &key = found.at(commonKey(p.checkpointKey));
      std::string where = files.path() + ": tensor '" + key + "'";
      TensorView rows = rowsOf(files.at(key), p);
      takePart(rank, p, Held::Storage, rows, where);
      if (p.trainable)
        takePart(rank, p, Held::Master, rows, where);
    }
  });
}

// Draws elements of one parameter; a body of parallelFor.
namespace {
struct Draw {
  const Parameter &parameter;
  NormalNumbers numbers;
  double range, gate;
  LlrtType masterType, type;
  std::byte *to; // of `type`
  int64_t whole; // element of the whole parameter that is the first of `to`
};
} // namespace

static double initialValue(const Draw &draw, int64_t element) {
  const Parameter &p = draw.parameter;
  switch (p.initializer) {
  case Initializer::Normal:
    return draw.range * draw.numbers.at(p.rowBegin * p.rowElements() + element);
  case Initializer::Ones:
    return 1;
  case Initializer::Zeros:
    return 0;
  case Initializer::Gate:
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
      values[i] = initialValue(draw, draw.whole + begin + i);
    // What is stored is the master, rounded, as after every later update.
    std::byte rounded[Chunk * sizeof(double)];
    convert(viewOf(values, LLRT_F64, count), draw.masterType, rounded, "");
    convert(viewOf(rounded, draw.masterType, count), draw.type,
            draw.to + begin * typeSize(draw.type), "");
  }
}

void Weights::initialize(Ranks &ranks, uint64_t seed, double gate) const {
  if (!program.model.carried.empty())
    fail("option '--weights': expected weights, got none: this program was "
         "compiled with --images=0, and a checkpoint of its model has the "
         "tensors of images too");
  ranks.each([&](Rank &rank) {
    for (const Parameter &p : rank.stage().parameters)
      for (Held held : {Held::Storage, Held::Master}) {
        if (held == Held::Master && (!p.trainable || !rank.holds(*p.master, 0)))
          continue;
        LlrtType type = typeOf(program, p, held);
        Draw draw = {p,
                     NormalNumbers(seed, commonKey(p.checkpointKey)),
                     program.model.initializerRange,
                     gate,
                     program.masterType(),
                     type,
                     nullptr,
                     0};
        forEachRange(program.grid, p, held, rank.number(),
                     [&](int64_t at, int64_t whole, int64_t count) {
                       Address to = addressOf(p, held);
                       to.offset += at * typeSize(type);
                       rank.write(to, count * typeSize(type), [&](std::byte *memory) {
                         draw.to = memory;
                         draw.whole = whole;
                         void *args[] = {&draw};
                         parallelFor(rank.threads(), drawElements, args, count, 4096);
                       });
                     });
      }
  });
}

std::vector<TensorToWrite> Weights::whole(const Ranks &ranks, Kind kind) const {
  std::vector<TensorToWrite> list;
  for (const auto &[common, tensor] : tensors) {
    if (kind != Kind::Storage &&
        std::none_of(tensor.parts.begin(), tensor.parts.end(),
                     [](const Placed &p) { return p.parameter->trainable; }))
      continue;
    LlrtType type = kind == Kind::Storage ? tensor.parts[0].parameter->type : program.masterType();
    auto fill = [&ranks, type, kind, parts = &tensor.parts](std::byte *to) {
      for (const Placed &placed : *parts) {
        const Parameter &p = *placed.parameter;
        std::byte *rows = to + p.rowBegin * p.rowElements() * typeSize(type);
        bool trained = kind != Kind::Storage && p.trainable;
        if (kind == Kind::Gradients && !p.trainable)
          std::memset(rows, 0, size_t(p.wholeElements() * typeSize(type)));
        else
          readWhole(ranks, placed,
                    !trained                  ? Held::Storage
                    : kind == Kind::Gradients ? Held::Gradient
                                              : Held::Master,
                    type, rows);
      }
    };
    list.push_back({tensor.key, dtypeOf(type), tensor.shape, nullptr, fill});
  }
  if (kind == Kind::Storage)
    for (const auto &[key, keyInFile] : carried) {
      const TensorView &view = carriedFiles->at(keyInFile);
      list.push_back({key, view.dtype, view.shape, view.data});
    }
  return list;
}

std::map<std::string, std::string> Weights::metadata() const {
  if (program.model.computation.empty())
    return {};
  return {{computationKey, program.model.computation.dump()}};
}
