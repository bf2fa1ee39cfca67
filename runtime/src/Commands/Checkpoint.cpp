//===- Checkpoint.cpp - Save a training and go on with it -----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Commands/Checkpoint.h"

#include "src/Commands/Commands.h"
#include "src/Data/Error.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <unistd.h>

using namespace llrt;
namespace fs = std::filesystem;

static constexpr const char *Unfinished = ".tmp";

// The complete checkpoints of `folder`, oldest first.
static std::vector<fs::path> completeOnes(const std::string &folder) {
  std::vector<fs::path> found;
  for (const fs::directory_entry &entry : fs::directory_iterator(folder)) {
    std::string name = entry.path().filename();
    bool digits = name.starts_with("step-") && name.size() > 5 &&
                  name.find_first_not_of("0123456789", 5) == name.npos;
    if (digits && entry.is_directory())
      found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end(),
            [](const fs::path &a, const fs::path &b) {
              return std::stoll(a.filename().string().substr(5)) <
                     std::stoll(b.filename().string().substr(5));
            });
  return found;
}

// Waits until a file, or the entries of a folder, are on the disk.
static void syncToDisk(const fs::path &path) {
  int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  bool done = file >= 0 && fsync(file) == 0;
  int cause = errno;
  if (file >= 0)
    close(file);
  if (!done)
    throw Failure(path.string() +
                  ": cannot be written: " + std::strerror(cause));
}

// The tensors that an update of a parameter reads and writes.
static constexpr std::pair<const char *, Held> optimizerParts[] = {
    {"master.", Held::Master},
    {"moment1.", Held::Moment1},
    {"moment2.", Held::Moment2}};

static std::vector<int64_t> rowsShape(const Parameter &p) {
  std::vector<int64_t> shape = p.checkpointShape;
  if (!shape.empty())
    shape[0] = p.rowEnd - p.rowBegin;
  return shape;
}

Checkpoints::Checkpoints(std::string path, int64_t keep)
    : folder(std::move(path)), keep(keep) {
  std::error_code cause;
  fs::create_directories(folder, cause);
  if (!fs::is_directory(folder))
    fail("option '--checkpoint': expected a folder, got ", folder, ": ",
         cause ? cause.message() : "not a folder");
}

std::optional<std::string> Checkpoints::newest() const {
  std::vector<fs::path> found = completeOnes(folder);
  return found.empty() ? std::nullopt : std::optional(found.back().string());
}

void Checkpoints::save(const Ranks &ranks, const Weights &weights,
                       const TrainingState &state) const try {
  std::string digits = std::to_string(state.step);
  fs::path path =
      fs::path(folder) /
      ("step-" + std::string(8 - std::min<size_t>(8, digits.size()), '0') +
       digits);
  fs::path unfinished = path.string() + Unfinished;
  fs::remove_all(unfinished);
  fs::create_directory(unfinished);

  weights.write(unfinished / "model.safetensors", ranks,
                Weights::Kind::Storage);
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
  writeSafeTensors(unfinished / "optimizer.safetensors", tensors);
  nlohmann::ordered_json json = {{"version", 1},
                                 {"step", state.step},
                                 {"place", state.place.toJson()},
                                 {"options", state.options},
                                 {"computation", ranks.program().model.computation},
                                 {"program", ranks.program().model.hash}};
  std::ofstream file(unfinished / "state.json");
  file << json.dump(2) << "\n";
  file.close();
  if (!file)
    throw Failure((unfinished / "state.json").string() + ": cannot be written");
  syncToDisk(unfinished / "state.json");
  syncToDisk(unfinished);
  fs::rename(unfinished, path);
  syncToDisk(folder);

  std::vector<fs::path> complete = completeOnes(folder);
  for (size_t i = 0; i + keep < complete.size(); ++i) {
    // Half-removed, it must not look complete.
    fs::path removed = complete[i].string() + Unfinished;
    fs::rename(complete[i], removed);
  }
  for (const fs::directory_entry &entry : fs::directory_iterator(folder))
    if (std::string name = entry.path().filename();
        name.starts_with("step-") && name.ends_with(Unfinished))
      fs::remove_all(entry.path());
} catch (
    const std::runtime_error &cause) { // of the file system, or of a writer
  throw Failure("checkpoint of step " + std::to_string(state.step) + ": " +
                cause.what());
}

static void loadOptimizer(const std::string &file, Ranks &ranks,
                          const Weights &weights) {
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
             shapeText(rowsShape(p)), ", got ", dtypeName(view.dtype), " ",
             shapeText(view.shape));
      ++expected;
    }
  }
  if (tensors.tensors().size() != expected)
    fail(file, ": expected ", expected, " tensors, got ",
         tensors.tensors().size(), ": other parameters were trained");
  ranks.each([&](Rank &rank) {
    for (const Parameter &p : rank.stage().parameters)
      if (p.trainable)
        for (auto [prefix, held] : optimizerParts)
          takePart(rank, p, held, tensors.at(prefix + p.name),
                   file + ": tensor '" + prefix + p.name + "'");
  });
}

TrainingState llrt::loadCheckpoint(const std::string &path, Ranks &ranks,
                                   Weights &weights,
                                   const nlohmann::ordered_json &options) {
  std::string file = path + "/state.json";
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
    fail(file, ": field 'step': expected an integer of at least 0, got ",
         field("step").dump());
  state.step = field("step");
  state.place =
      Samples::Place::fromJson(field("place"), file + ": field 'place'");
  nlohmann::json saved = field("options"), wanted = options;
  if (!saved.is_object())
    fail(file, ": field 'options': expected an object, got ", saved.dump());
  for (const auto *either : {&saved, &wanted})
    for (const auto &[name, value] : either->items()) {
      nlohmann::json want = wanted.value(name, nlohmann::json());
      nlohmann::json got = saved.value(name, nlohmann::json());
      if (want != got)
        fail(file, ": field '", name, "': expected ", want.dump(),
             ", as this run has it, got ", got.dump());
    }
  state.options = options;
  weights.load(ranks, SafeTensors(path + "/model.safetensors"));
  loadOptimizer(path + "/optimizer.safetensors", ranks, weights);
  return state;
}
