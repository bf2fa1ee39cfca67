//===- ModelFolder.cpp - A HuggingFace folder, read and written -----------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Commands/ModelFolder.h"

#include "src/Data/Error.h"

#include <algorithm>
#include <filesystem>
#include <iostream>

using namespace llrt;
namespace fs = std::filesystem;
using Json = nlohmann::ordered_json; // files keep the order of their fields

static constexpr const char *generationFile = "generation_config.json";

static int64_t stepOf(const fs::path &checkpoint) {
  return std::stoll(checkpoint.filename().string().substr(5));
}

std::vector<std::string> llrt::completeCheckpoints(const std::string &folder) {
  std::vector<std::string> found;
  std::error_code ignored;
  for (const fs::directory_entry &entry : fs::directory_iterator(folder, ignored)) {
    std::string name = entry.path().filename();
    bool digits = name.starts_with("step-") && name.size() > 5 && name.size() < 24 &&
                  name.find_first_not_of("0123456789", 5) == name.npos;
    if (digits && entry.is_directory())
      found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end(),
            [](const std::string &a, const std::string &b) { return stepOf(a) < stepOf(b); });
  return found;
}

static bool holdsWeights(const fs::path &folder) {
  return fs::exists(folder / "model.safetensors") ||
         fs::exists(folder / "model.safetensors.index.json");
}

// Where to go on if `folder` is damaged, as the end of a message.
static std::string checkpointBefore(const fs::path &folder) {
  fs::path whole = fs::path(folder / "").parent_path(); // without a slash
  std::string before;
  for (const std::string &other :
       completeCheckpoints(whole.has_parent_path() ? whole.parent_path() : "."))
    if (fs::path(other).filename() == whole.filename())
      return before.empty() ? ""
                            : "; the checkpoint before it is " + before + ": it is taken if " +
                                  whole.string() + " is moved away";
    else
      before = other;
  return "";
}

// Calls `read`; the message of an Error gets the checkpoint before `folder`.
template <typename Read> static void offeringAnother(const std::string &folder, Read read) {
  try {
    read();
  } catch (const Error &error) {
    fail(error.what(), checkpointBefore(folder));
  }
}

ModelFolder::ModelFolder(const std::string &path, bool all) : weightsPath(path), all(all) {
  if (!fs::is_directory(path)) {
    directory = fs::path(path).parent_path();
    if (directory.empty())
      directory = ".";
    given = directory;
  } else {
    if (std::vector<std::string> found = completeCheckpoints(path);
        !found.empty() && !holdsWeights(path))
      weightsPath = found.back();
    directory = weightsPath;
    given = path;
  }
  offeringAnother(directory, [&] {
    checksums = Checksums::read(directory);
    if (checksums)
      checksums->verify(directory, Checksums::Part::Files,
                        [&](const std::string &file) { return wanted(file); });
  });
}

// A folder without what training alone needs, or without files that this
// program does not read, is as good for everything else.
bool ModelFolder::wanted(const std::string &file) const {
  return all || (file != "optimizer.safetensors" && file != "state.json" &&
                 fs::exists(fs::path(directory) / file));
}

void ModelFolder::verify(Ranks &ranks) const {
  if (ranks.isRoot() && fs::path(directory) != fs::path(given))
    std::cerr << "weights of " << directory << "\n";
  if (!checksums) {
    if (all && ranks.isRoot())
      std::cerr << directory << ": not compared with checksums: it has no "
                << "checksums.json\n";
    return;
  }
  // Rank 0 speaks for the one that has found a fault, before anything goes on.
  std::vector<std::string> faults = ranks.texts([&](Rank &rank) -> std::string {
    try {
      checksums->verify(
          directory, Checksums::Part::Elements,
          [&](const std::string &file) { return wanted(file); }, size_t(rank.number()),
          size_t(ranks.program().grid.ranks()));
      return "";
    } catch (const Error &error) {
      return error.what();
    }
  });
  ranks.atRoot([&] {
    for (const std::string &fault : faults)
      if (!fault.empty())
        fail(fault, checkpointBefore(directory));
    return std::string();
  });
}

void ModelFolder::load(Ranks &ranks, Weights &weights) const {
  verify(ranks);
  weights.load(ranks, SafeTensors(weightsPath));
}

// The file's object.
static Json readObject(const std::string &path) {
  std::string text(MappedFile(path).text());
  if (!parseJson(text, path).is_object())
    fail(path, ": expected a JSON object");
  return Json::parse(text);
}

// The ids of field `eos_token_id`: one, a list, or null.
static std::vector<int64_t> readEndTokens(const Json &config, const std::string &path) {
  Json value = config.value("eos_token_id", Json());
  if (value.is_null())
    return {};
  if (!value.is_array())
    value = Json::array({value});
  std::vector<int64_t> ids;
  for (const Json &id : value) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0)
      fail(path,
           ": field 'eos_token_id': expected a token id or a list of them, "
           "got ",
           config["eos_token_id"].dump());
    ids.push_back(id);
  }
  return ids;
}

std::vector<int64_t> ModelFolder::endTokens() const {
  std::string path = fs::path(directory) / generationFile;
  if (!fs::exists(path))
    return {};
  return readEndTokens(readObject(path), path);
}

static void addMissing(std::vector<int64_t> &list, int64_t id) {
  if (std::find(list.begin(), list.end(), id) == list.end())
    list.push_back(id);
}

std::vector<int64_t> llrt::endTokens(const Program &program, const ModelFolder &model,
                                     const Preprocessing &preprocessing) {
  std::vector<int64_t> ids = program.model.endTokens;
  for (int64_t id : model.endTokens())
    addMissing(ids, id);
  if (std::optional<int64_t> id = preprocessing.tokenizer->findSpecialToken(captionEnd))
    addMissing(ids, *id);
  return ids;
}

// The name that transformers has for the type of the weights.
static const char *typeOfWeights(const Program &program) {
  return program.precision == "f64"   ? "float64"
         : program.precision == "f32" ? "float32"
                                      : "bfloat16";
}

// Transformers gives a model the type that its config names, whatever the type
// of the weights.
static void setType(Json &config, const char *type, bool always) {
  bool older = config.contains("torch_dtype");
  if (older)
    config["torch_dtype"] = type;
  if (config.contains("dtype") || (always && !older))
    config["dtype"] = type;
}

static std::string configText(const Program &program, Json config) {
  if (!config.contains("architectures"))
    config["architectures"] =
        Json::array({config.value("model_type", "") == "mllama" ? "MllamaForConditionalGeneration"
                                                                : "LlamaForCausalLM"});
  setType(config, typeOfWeights(program), true);
  for (const char *part : {"text_config", "vision_config"})
    if (config.contains(part) && config[part].is_object())
      setType(config[part], typeOfWeights(program), false);
  if (program.model.tileSize > 0) // it may have been compiled for another
    config["vision_config"]["image_size"] = program.model.tileSize;
  return config.dump(2) + "\n";
}

std::map<std::string, std::string> llrt::modelFiles(const Program &program,
                                                    const Preprocessing &preprocessing,
                                                    const ModelFolder *model) {
  std::map<std::string, std::string> files = preprocessing.files;
  fs::path folder = model ? model->folder() : "";
  if (std::string config = folder / "config.json"; !program.model.config.empty())
    files["config.json"] = configText(program, Json::parse(program.model.config));
  else if (model && fs::exists(config))
    files["config.json"] = configText(program, readObject(config));

  Json generation = Json::object();
  std::vector<int64_t> ends;
  fs::path path = folder / generationFile;
  if (model && fs::exists(path)) {
    generation = readObject(path);
    ends = model->endTokens();
  } else {
    generation["bos_token_id"] = program.model.beginToken;
  }
  if (ends.empty())
    ends = program.model.endTokens;
  addMissing(ends, preprocessing.tokenizer->specialToken(captionEnd));
  generation["eos_token_id"] = ends;
  files[generationFile] = generation.dump(2) + "\n";
  return files;
}
