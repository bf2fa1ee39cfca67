//===- Checkpoint.cpp - Save a training and go on with it -----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Commands/Checkpoint.h"

#include "src/Commands/Commands.h"
#include "src/Data/Error.h"

#include <filesystem>

using namespace llrt;
namespace fs = std::filesystem;

static constexpr const char *Unfinished = ".tmp";

// The tensors that an update of a parameter reads and writes.
static constexpr std::pair<const char *, Held> optimizerParts[] = {
    {"master.", Held::Master}, {"moment1.", Held::Moment1}, {"moment2.", Held::Moment2}};

static std::vector<int64_t> rowsShape(const Parameter &p) {
  std::vector<int64_t> shape = p.checkpointShape;
  if (!shape.empty())
    shape[0] = p.rowEnd - p.rowBegin;
  return shape;
}

Checkpoints::Checkpoints(std::string path, int64_t keep, int64_t shardBytes)
    : folder(std::move(path)), keep(keep), shardBytes(shardBytes) {
  std::error_code cause;
  fs::create_directories(folder, cause);
  if (!fs::is_directory(folder))
    fail("option '--checkpoint': expected a folder, got ", folder, ": ",
         cause ? cause.message() : "not a folder");
}

std::optional<std::string> Checkpoints::newest() const {
  std::vector<std::string> found = completeCheckpoints(folder);
  return found.empty() ? std::nullopt : std::optional(found.back());
}

void Checkpoints::save(const Ranks &ranks, const Weights &weights, const TrainingState &state,
                       const std::map<std::string, std::string> &files) const try {
  std::string digits = std::to_string(state.step);
  fs::path path = fs::path(folder) /
                  ("step-" + std::string(8 - std::min<size_t>(8, digits.size()), '0') + digits);
  fs::path unfinished = path.string() + Unfinished;
  fs::remove_all(unfinished);
  fs::create_directory(unfinished);

  Checksums sums;
  auto write = [&](const std::string &name, const std::string &text) {
    writeFile(unfinished / name, text);
    sums.add(name, text);
  };
  for (const auto &[name, text] : files)
    write(name, text);
  writeModel(unfinished, weights.whole(ranks, Weights::Kind::Storage), weights.metadata(),
             shardBytes, sums);
  std::vector<TensorToWrite> tensors;
  LlrtType type = ranks.program().masterType();
  for (const Weights::Placed &placed : weights.parameters()) {
    const Parameter &p = *placed.parameter;
    if (p.trainable)
      for (auto [name, held] : optimizerParts)
        tensors.push_back({name + p.name, dtypeOf(type), rowsShape(p), nullptr,
                           [&ranks, &placed, held = held, type](std::byte *to) {
                             readWhole(ranks, placed, held, type, to);
                           }});
  }
  sums.add("optimizer.safetensors",
           writeSafeTensors(unfinished / "optimizer.safetensors", tensors));
  nlohmann::ordered_json json = {{"version", 1},
                                 {"step", state.step},
                                 {"place", state.place.toJson()},
                                 {"options", state.options},
                                 {"computation", ranks.program().model.computation},
                                 {"program", ranks.program().model.hash}};
  write("state.json", json.dump(2) + "\n");
  writeFile(unfinished / "checksums.json", sums.text());
  syncToDisk(unfinished);
  fs::rename(unfinished, path);
  syncToDisk(folder);

  std::vector<std::string> complete = completeCheckpoints(folder);
  for (size_t i = 0; i + keep < complete.size(); ++i)
    // Half-removed, it must not look complete.
    fs::rename(complete[i], complete[i] + Unfinished);
  for (const fs::directory_entry &entry : fs::directory_iterator(folder))
    if (std::string name = entry.path().filename();
        name.starts_with("step-") && name.ends_with(Unfinished))
      fs::remove_all(entry.path());
} catch (const std::runtime_error &cause) { // of the file system, or of a writer
  throw Failure("checkpoint of step " + std::to_string(state.step) + ": " + cause.what());
}

static void loadOptimizer(const std::string &file, Ranks &ranks, const Weights &weights) {
  SafeTensors tensors(file);
  DType type = dtypeOf(ranks.program().masterType());
  size_t expected = 0;
  for (const Weights::Placed &placed : weights.parameters()) {
    const Parameter &p = *placed.parameter;
    if (!p.trainable)
      continue;
    for (auto [prefix, held] : optimizerParts) {
      std::string name = prefix + p.name;
      const TensorView &view = tensors.at(name);
      if (view.dtype != type || view.shape != rowsShape(p))
        fail(file, ": tensor '", name, "': expected ", dtypeName(type), " ",
             shapeText(rowsShape(p)), ", got ", dtypeName(view.dtype), " ", shapeText(view.shape));
      ++expected;
    }
  }
  if (tensors.tensors().size() != expected)
    fail(file, ": expected ", expected, " tensors, got ", tensors.tensors().size(),
         ": other parameters were trained");
  ranks.each([&](Rank &rank) {
    for (const Parameter &p : rank.stage().parameters)
      if (p.trainable)
        for (auto [prefix, held] : optimizerParts)
          takePart(rank, p, held, tensors.at(prefix + p.name),
                   file + ": tensor '" + prefix + p.name + "'");
  });
}

// Says how the shards of a run differ from those of the one before: the first
// difference.
static std::string differentShard(const nlohmann::json &now, const nlohmann::json &before) {
  size_t count = std::min(now.size(), before.size()), i = 0;
  while (i < count && now[i] == before[i])
    ++i;
  auto one = [&](const nlohmann::json &list) {
    return i < list.size() ? list[i].dump() : std::string("none");
  };
  return "expected shard " + std::to_string(i) + " (name, bytes) to be " + one(now) +
         ", as this run has it, got " + one(before);
}

TrainingState llrt::loadCheckpoint(const ModelFolder &checkpoint, Ranks &ranks, Weights &weights,
                                   const nlohmann::ordered_json &options, bool otherData) {
  std::string file = checkpoint.folder() + "/state.json";
  nlohmann::json json = parseJson(MappedFile(file).text(), file);
  auto field = [&](const char *name) {
    if (!json.is_object() || !json.contains(name))
      fail(file, ": field '", name, "': expected a value, got nothing");
    return json[name];
  };
  if (field("version") != 1)
    fail(file, ": field 'version': expected 1, got ", field("version").dump());
  TrainingState state;
  if (!field("step").is_number_unsigned())
    fail(file, ": field 'step': expected an integer of at least 0, got ", field("step").dump());
  state.step = field("step");
  state.place = Samples::Place::fromJson(field("place"), file + ": field 'place'");
  nlohmann::json saved = field("options"), wanted = options;
  if (!saved.is_object())
    fail(file, ": field 'options': expected an object, got ", saved.dump());
  for (const auto *either : {&saved, &wanted})
    for (const auto &[name, value] : either->items()) {
      nlohmann::json want = wanted.value(name, nlohmann::json());
      nlohmann::json got = saved.value(name, nlohmann::json());
      if (want == got || (otherData && name == "data"))
        continue;
      if (name == "data")
        fail(file, ": field 'data': ", differentShard(want, got),
             "; --changed-data=accept goes on with the shards as they are");
      fail(file, ": field '", name, "': expected ", want.dump(), ", as this run has it, got ",
           got.dump());
    }
  state.options = saved;
  checkpoint.load(ranks, weights);
  loadOptimizer(checkpoint.folder() + "/optimizer.safetensors", ranks, weights);
  return state;
}
