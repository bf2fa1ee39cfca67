//===- TrainTest.cpp - train and its checkpoints --------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RunCommand.h"

#include "src/Commands/Samples.h"
#include "src/Data/Tokenizer.h"

#include <algorithm>
#include <cmath>
#include <csignal>
#include <random>
#include <set>
#include <thread>

using namespace llrt;
using namespace llrt::test;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

std::vector<std::string> join(std::vector<std::string> a, const std::vector<std::string> &b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// The id of a byte in the tokenizer of the tests.
int64_t idOfByte(char c) {
  return Tokenizer(std::string(LLRT_TEST_DATA_DIR) + "/../Data/tokenizer_small.model")
      .encode(std::string(1, c))[0];
}

// A dataset of six samples and folders for checkpoints.
struct Training : Folder {
  explicit Training(bool images = false) { writeDataset(*this / "data", 6, images); }

  // The command line of a training of `steps` steps with checkpoints in
  // `folder`.
  std::vector<std::string> words(int64_t steps, const std::string &folder,
                                 std::vector<std::string> more = {}) {
    return join({"train", "--data=" + (*this / "data"), "--steps=" + std::to_string(steps),
                 "--learning-rate=0.01", "--seed=5", "--shuffle=4", "--gate-init=0.5", "--keep=100",
                 "--checkpoint=" + (*this / folder)},
                more);
  }

  // Both files of the checkpoint of `step` in `folder`, byte by byte.
  std::string checkpoint(const std::string &folder, int64_t step) {
    std::string path = *this / folder + "/step-0000000" + std::to_string(step);
    EXPECT_TRUE(fs::exists(path + "/optimizer.safetensors")) << path;
    return readAll(path + "/model.safetensors") + readAll(path + "/optimizer.safetensors");
  }

  std::vector<json> metrics(const std::string &file) {
    std::vector<json> lines;
    std::ifstream text(*this / file);
    for (std::string line; std::getline(text, line);)
      lines.push_back(json::parse(line));
    return lines;
  }
};

// Six steps at once, or two, then two, then two: the same bits, with images
// too.
TEST(Train, GoesOnAsIfNeverStopped) {
  for (bool images : {false, true}) {
    Training files(images);
    TinyProgram program(1, 2, images);
    Outcome whole = run(program, files.words(6, "whole", {"--metrics=" + (files / "m1")}));
    ASSERT_EQ(whole.status, 0) << whole.err;
    for (int64_t steps : {2, 4, 6}) {
      Outcome part = run(program, files.words(steps, "parts", {"--metrics=" + (files / "m2")}));
      ASSERT_EQ(part.status, 0) << part.err;
      EXPECT_EQ(part.err.starts_with("going on from "), steps > 2) << part.err;
    }
    EXPECT_EQ(files.checkpoint("whole", 6), files.checkpoint("parts", 6));
    std::vector<json> one = files.metrics("m1"), other = files.metrics("m2");
    ASSERT_EQ(one.size(), 6u);
    ASSERT_EQ(other.size(), 6u);
    for (size_t i = 0; i < 6; ++i) {
      EXPECT_EQ(one[i]["step"], i + 1);
      EXPECT_EQ(one[i]["loss"], other[i]["loss"]);
      EXPECT_EQ(one[i]["learning_rate"], 0.01);
    }
    // Twelve samples of a dataset of six: the loss of the second epoch is
    // lower.
    EXPECT_LT(
        one[3]["loss"].get<double>() + one[4]["loss"].get<double>() + one[5]["loss"].get<double>(),
        one[0]["loss"].get<double>() + one[1]["loss"].get<double>() + one[2]["loss"].get<double>());
    // Done is done.
    Outcome again = run(program, files.words(6, "parts"));
    EXPECT_EQ(again.status, 0);
    EXPECT_NE(again.err.find("nothing to do"), std::string::npos);
  }
}

// What an interrupted save left is neither read nor kept.
TEST(Train, PassesOverAnUnfinishedCheckpoint) {
  Training files;
  TinyProgram program(1, 1);
  ASSERT_EQ(run(program, files.words(2, "c")).status, 0);
  ASSERT_EQ(run(program, files.words(4, "whole")).status, 0);
  std::string unfinished = files / "c/step-00000003.tmp";
  fs::create_directory(unfinished);
  std::ofstream(unfinished + "/model.safetensors") << "half";
  Outcome outcome = run(program, files.words(4, "c"));
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("going on from " + (files / "c/step-00000002")), std::string::npos);
  EXPECT_FALSE(fs::exists(unfinished));
  EXPECT_EQ(files.checkpoint("c", 4), files.checkpoint("whole", 4));
}

// Killed at any moment, three times over, it ends where an unharmed run ends.
TEST(Train, SurvivesKill) {
  Training files;
  TinyProgram slow(1, 1, 0, true);
  std::vector<std::string> more = {"--checkpoint-every=1"};
  ASSERT_EQ(run(slow, files.words(9, "whole", more)).status, 0);
  int64_t kills = 0;
  for (int64_t step : {2, 4, 6}) {
    pid_t process = start(slow, files.words(9, "killed", more), files / "log");
    std::string until = files / "killed/step-0000000" + std::to_string(step);
    for (int i = 0; i < 3000 && !fs::exists(until); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    kill(process, SIGKILL);
    kills += waitFor(process) == -SIGKILL;
  }
  EXPECT_GE(kills, 2);
  Outcome outcome = run(slow, files.words(9, "killed", more));
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(files.checkpoint("killed", 9), files.checkpoint("whole", 9));
}

// A signal ends the training after the step, with a checkpoint and status 1.
TEST(Train, SavesOnSigterm) {
  Training files;
  TinyProgram slow(1, 1, 0, true);
  pid_t process =
      start(slow, files.words(5000, "c", {"--metrics=" + (files / "m")}), files / "log");
  for (int i = 0; i < 3000 && files.metrics("m").empty(); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  kill(process, SIGTERM);
  EXPECT_EQ(waitFor(process), 1);
  int64_t done = files.metrics("m").back()["step"];
  EXPECT_NE(
      readAll(files / "log.err")
          .find("tiny: error: stopped by a signal after step " + std::to_string(done) + " of 5000"),
      std::string::npos)
      << readAll(files / "log.err");
  ASSERT_LT(done, 10);
  Outcome more = run(slow, files.words(done + 1, "c"));
  EXPECT_EQ(more.status, 0) << more.err;
  ASSERT_EQ(run(slow, files.words(done + 1, "whole")).status, 0);
  EXPECT_EQ(files.checkpoint("c", done + 1), files.checkpoint("whole", done + 1));
}

// A checkpoint that does not fit, or cannot be read, is an error.
TEST(Train, RefusesOtherCheckpoints) {
  Training files;
  TinyProgram program(1, 1);
  ASSERT_EQ(run(program, files.words(1, "c")).status, 0);
  std::string path = files / "c/step-00000001";
  Outcome other = run(program, files.words(2, "c", {"--clip=1"}));
  EXPECT_EQ(other.status, 2);
  EXPECT_NE(other.err.find(path + "/state.json: field 'clip': expected 1.0, as this "
                                  "run has it, got 0.0"),
            std::string::npos)
      << other.err;
  // Another set of trainable parameters.
  TinyProgram frozen(1, 1);
  frozen.content["stages"][0]["parameters"][3]["trainable"] = false;
  other = run(frozen, files.words(2, "c"));
  EXPECT_EQ(other.status, 2);
  EXPECT_NE(other.err.find("expected 9 tensors, got 12"), std::string::npos) << other.err;
  // Cut off, and gone.
  fs::resize_file(path + "/optimizer.safetensors", 1000);
  EXPECT_EQ(run(program, files.words(2, "c")).status, 2);
  fs::remove(path + "/optimizer.safetensors");
  EXPECT_EQ(run(program, files.words(2, "c")).status, 2);
  std::ofstream(path + "/state.json") << "{";
  EXPECT_EQ(run(program, files.words(2, "c")).status, 2);
}

// Weights say by which computation they were trained; another one neither goes
// on with them nor measures them. Weights from elsewhere say nothing.
TEST(Train, RefusesWeightsOfAnotherComputation) {
  Training files;
  TinyProgram program(1, 1), other(1, 1);
  ASSERT_EQ(run(program, files.words(1, "c")).status, 0);
  std::string path = files / "c/step-00000001";
  json state = json::parse(readAll(path + "/state.json"));
  EXPECT_EQ(state["computation"], program.content["model"]["computation"]);
  EXPECT_EQ(run(program, files.words(2, "c")).status, 0);
  other.content["model"]["computation"]["feature_taps"] = "output";
  std::vector<std::string> evaluate = {"evaluate", "--data=" + (files / "data"),
                                       "--weights=" + path};
  EXPECT_EQ(run(program, evaluate).status, 0);
  for (const auto &words : {files.words(3, "c"), evaluate}) {
    Outcome refused = run(other, words);
    EXPECT_EQ(refused.status, 2);
    EXPECT_NE(refused.err.find(": these weights were trained with feature_taps "
                               "= \"input\", this program computes "
                               "feature_taps = \"output\": compile it"),
              std::string::npos)
        << refused.err;
  }
  writeTensors(files / "foreign.safetensors", tinyWeights());
  evaluate.back() = "--weights=" + (files / "foreign.safetensors");
  EXPECT_EQ(run(other, evaluate).status, 0);
}

// A program that leaves out the images of its model carries their tensors from
// checkpoint to checkpoint; it has none to draw.
TEST(Train, CarriesTensorsThatItDoesNotRead) {
  Training files;
  TinyProgram program(1, 1);
  program.content["model"]["carried"] = {"vision_model."};
  Outcome drawn = run(program, files.words(1, "c"));
  EXPECT_EQ(drawn.status, 2);
  EXPECT_NE(drawn.err.find("option '--weights': expected weights, got none"), std::string::npos)
      << drawn.err;
  auto tensors = tinyWeights();
  tensors["vision_model.class_embedding"] = {{3}, {1, 2, 3}};
  writeTensors(files / "whole.safetensors", tensors);
  std::string weights = "--weights=" + (files / "whole.safetensors");
  Outcome first = run(program, files.words(1, "c", {weights}));
  ASSERT_EQ(first.status, 0) << first.err;
  Outcome second = run(program, files.words(2, "c"));
  ASSERT_EQ(second.status, 0) << second.err;
  Tensors got = readTensors(files / "c/step-00000002/model.safetensors");
  EXPECT_EQ(got["vision_model.class_embedding"], (std::vector<double>{1, 2, 3}));
  TinyProgram strict(1, 1);
  EXPECT_EQ(run(strict, files.words(1, "d", {weights})).status, 2);
}

// Only the newest --keep checkpoints stay.
TEST(Train, KeepsTheNewest) {
  Training files;
  TinyProgram program(1, 1);
  std::vector<std::string> words = files.words(5, "c", {"--checkpoint-every=1"});
  std::replace(words.begin(), words.end(), std::string("--keep=100"), std::string("--keep=2"));
  ASSERT_EQ(run(program, words).status, 0);
  std::vector<std::string> left;
  for (const auto &entry : fs::directory_iterator(files / "c"))
    left.push_back(entry.path().filename());
  std::sort(left.begin(), left.end());
  EXPECT_EQ(left, (std::vector<std::string>{"step-00000004", "step-00000005"}));
}

// A checkpoint's weights are those that other commands read.
TEST(Train, CheckpointsAreWeights) {
  Training files;
  writeTensors(files / "w.safetensors", tinyWeights());
  TinyProgram program(1, 1);
  ASSERT_EQ(run(program, files.words(3, "c", {"--weights=" + (files / "w.safetensors")})).status,
            0);
  std::vector<double> losses;
  for (std::string weights : {files / "w.safetensors", files / "c/step-00000003"}) {
    Outcome outcome =
        run(program, {"evaluate", "--data=" + (files / "data"), "--weights=" + weights});
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    losses.push_back(json::parse(outcome.out)["loss"]);
  }
  EXPECT_LT(losses[1], losses[0]);
}

// What transformers looks for: config, generation config, weights under their
// name, tokenizer and preprocessor as they were read.
TEST(Train, ChecksumsAndFilesOfAFolder) {
  Training files(true);
  TinyProgram program(1, 1, 1);
  ASSERT_EQ(run(program, files.words(1, "c")).status, 0);
  fs::path path = files / "c/step-00000001";
  std::set<std::string> names;
  for (const auto &entry : fs::directory_iterator(path))
    names.insert(entry.path().filename());
  EXPECT_EQ(names,
            (std::set<std::string>{"checksums.json", "config.json", "generation_config.json",
                                   "model.safetensors", "optimizer.safetensors",
                                   "preprocessor_config.json", "state.json", "tokenizer.model"}));
  for (const char *name : {"tokenizer.model", "preprocessor_config.json"})
    EXPECT_EQ(readAll(path / name), readAll(files / "data/" + name));
  // The type of the weights, wherever the config names one; the tile size of
  // the program; 8.0 stays a number that is no integer.
  EXPECT_EQ(json::parse(readAll(path / "config.json")),
            json::parse(R"({"model_type": "mllama", "torch_dtype": "float32",
                            "architectures": ["MllamaForConditionalGeneration"],
                            "text_config": {"factor": 8.0, "dtype": "float32"},
                            "vision_config": {"image_size": 14}})"));
  EXPECT_NE(readAll(path / "config.json").find("8.0"), std::string::npos);
  EXPECT_EQ(json::parse(readAll(path / "generation_config.json")),
            (json{{"bos_token_id", beginToken}, {"eos_token_id", {endToken}}}));
  json sums = json::parse(readAll(path / "checksums.json"));
  EXPECT_EQ(sums["algorithm"], "xxh3-64");
  names.erase("checksums.json");
  for (const auto &[name, sum] : sums["files"].items())
    EXPECT_EQ(names.erase(name), 1u) << name;
  EXPECT_EQ(names.size(), 0u);
  EXPECT_EQ(sums["files"]["model.safetensors"]["tensors"].size(), 4u);
}

// A generation_config.json beside the weights is carried over; the token that
// captions end with is added to what it stops at.
TEST(Train, CarriesFilesOfTheWeightsOver) {
  Training files;
  fs::create_directory(files / "w");
  writeTensors(files / "w/model.safetensors", tinyWeights());
  files.write("w/generation_config.json",
              R"({"temperature": 0.6, "eos_token_id": 7, "do_sample": true})");
  // Neither is there beside the data.
  fs::rename(files / "data/tokenizer.model", files / "w/tokenizer.model");
  files.write("w/tokenizer_config.json", "{}");
  TinyProgram program(1, 1);
  Outcome outcome = run(program, files.words(1, "c", {"--weights=" + (files / "w")}));
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  fs::remove_all(files / "w"); // what follows needs it no more
  for (int64_t step : {1, 2}) {
    ASSERT_EQ(run(program, files.words(step, "c")).status, 0);
    std::string path = files / "c/step-0000000" + std::to_string(step) + "/";
    EXPECT_EQ(readAll(path + "tokenizer_config.json"), "{}");
    EXPECT_EQ(json::parse(readAll(path + "generation_config.json")),
              (json{{"temperature", 0.6}, {"eos_token_id", {7, endToken}}, {"do_sample", true}}));
  }
}

// Weights above --shard-size are several files with an index.
TEST(Train, WritesShards) {
  Training files;
  TinyProgram program(1, 1);
  ASSERT_EQ(run(program, files.words(2, "one")).status, 0);
  std::vector<std::string> small = {"--shard-size=1e-5"}; // 10,000 bytes
  ASSERT_EQ(run(program, files.words(2, "c", small)).status, 0);
  std::string path = files / "c/step-00000002";
  EXPECT_FALSE(fs::exists(path + "/model.safetensors"));
  json index = json::parse(readAll(path + "/model.safetensors.index.json"));
  EXPECT_EQ(index["metadata"]["total_size"], 4 * ((V + X) * D + D + 1 + V * D));
  std::set<std::string> shards;
  for (const auto &[name, file] : index["weight_map"].items())
    shards.insert(file);
  EXPECT_EQ(shards, (std::set<std::string>{"model-00001-of-00003.safetensors",
                                           "model-00002-of-00003.safetensors",
                                           "model-00003-of-00003.safetensors"}));
  EXPECT_EQ(readTensors(path), readTensors(files / "one/step-00000002/model.safetensors"));
  ASSERT_EQ(run(program, files.words(3, "c")).status, 0);
  ASSERT_EQ(run(program, files.words(3, "one")).status, 0);
  EXPECT_EQ(files.checkpoint("c", 3), files.checkpoint("one", 3));
}

// One bit of any file of a checkpoint: the run ends with the name of the file
// and, of an element, of the tensor, and with the checkpoint before it.
TEST(Train, NoticesEveryFlippedBit) {
  Training files(true);
  TinyProgram program(1, 1, 1);
  ASSERT_EQ(run(program, files.words(2, "c", {"--checkpoint-every=1", "--shard-size=1e-5"})).status,
            0);
  std::string path = files / "c/step-00000002", before = files / "c/step-00000001";
  std::mt19937 draw(3);
  for (const auto &entry : fs::directory_iterator(path)) {
    std::string file = entry.path(), good = readAll(file);
    std::vector<size_t> places = {0, good.size() - 1};
    for (int i = 0; i < 4; ++i)
      places.push_back(draw() % good.size());
    if (entry.path().extension() == ".safetensors")
      places.push_back(20); // within the header
    for (size_t place : places) {
      std::string bad = good;
      bad[place] = char(bad[place] ^ 1 << draw() % 8);
      std::ofstream(file, std::ios::binary) << bad;
      Outcome outcome = run(program, files.words(3, "c"));
      EXPECT_EQ(outcome.status, 2) << file << " byte " << place;
      // A broken checksums.json may blame the file of the sum that is broken.
      if (entry.path().filename() != "checksums.json")
        EXPECT_NE(outcome.err.find(file + ": "), std::string::npos) << outcome.err;
      EXPECT_NE(outcome.err.find("; the checkpoint before it is " + before), std::string::npos)
          << outcome.err;
    }
    std::ofstream(file, std::ios::binary) << good;
  }
  // An element: its tensor is named, whatever reads it.
  std::string file = path + "/model-00003-of-00003.safetensors", good = readAll(file), bad = good;
  bad.back() = char(bad.back() ^ 1);
  std::ofstream(file, std::ios::binary) << bad;
  for (const std::string &command : {"evaluate", "generate"}) {
    std::vector<std::string> words = {command, "--weights=" + (files / "c")};
    if (command == "evaluate")
      words.push_back("--data=" + (files / "data"));
    Outcome outcome = run(program, words);
    EXPECT_EQ(outcome.status, 2);
    EXPECT_NE(outcome.err.find(file + ": tensor 'model.vision_model.gate': "
                                      "expected the checksum "),
              std::string::npos)
        << outcome.err;
  }
  std::ofstream(file, std::ios::binary) << good;
  // Missing, and cut off.
  fs::resize_file(path + "/optimizer.safetensors", 1000);
  EXPECT_EQ(run(program, files.words(3, "c")).status, 2);
  fs::remove(path + "/optimizer.safetensors");
  Outcome missing = run(program, files.words(3, "c"));
  EXPECT_EQ(missing.status, 2);
  EXPECT_NE(missing.err.find("optimizer.safetensors: cannot open"), std::string::npos);
  // The checkpoint before it is taken, as the message says.
  fs::rename(path, files / "away");
  Outcome outcome = run(program, files.words(3, "c"));
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_TRUE(outcome.err.starts_with("going on from " + before));
}

// Tokenizer and preprocessor in every form in which a folder has them; the
// weights' folder is searched after that of the data.
TEST(Evaluate, FindsTokenizerAndPreprocessor) {
  Training files(true);
  TinyProgram program(1, 1, 1);
  fs::path hf = files / "hf";
  fs::create_directories(hf / "original");
  writeTensors(hf / "model.safetensors", tinyWeights());
  auto evaluate = [&](std::vector<std::string> more = {}) {
    return run(program,
               join({"evaluate", "--data=" + (files / "data"), "--weights=" + hf.string()}, more));
  };
  Outcome want = evaluate();
  ASSERT_EQ(want.status, 0) << want.err;
  fs::rename(files / "data/tokenizer.model", files / "t");
  fs::rename(files / "data/preprocessor_config.json", files / "p");
  Outcome none = evaluate();
  EXPECT_EQ(none.status, 2);
  EXPECT_EQ(none.err, "tiny: error: option '--tokenizer': expected "
                      "tokenizer.json or tokenizer.model or "
                      "original/tokenizer.model in " +
                          (files / "data") + " or " + hf.string() + ", or the name of a file\n");
  std::string processor = "{\"image_processor\": " + readAll(files / "p") + "}";
  std::string json = std::string(LLRT_TEST_DATA_DIR) + "/../Data/tokenizer_small.json";
  for (fs::path folder : {hf, fs::path(files / "data")})
    for (const char *tokenizer : {"tokenizer.json", "tokenizer.model", "original/tokenizer.model"})
      for (const char *images : {"processor_config.json", "preprocessor_config.json"}) {
        fs::create_directories((folder / tokenizer).parent_path());
        bool isJson = tokenizer == std::string("tokenizer.json");
        bool isNested = images == std::string("processor_config.json");
        fs::copy_file(isJson ? json : files / "t", folder / tokenizer);
        // Of transformers 4, without what is asked for: passed over.
        std::ofstream(folder / "processor_config.json")
            << "{\"processor_class\": \"MllamaProcessor\"}";
        std::ofstream(folder / images) << (isNested ? processor : readAll(files / "p"));
        Outcome got = evaluate();
        EXPECT_EQ(got.out, want.out) << got.err;
        std::string named = folder / images;
        EXPECT_EQ(
            evaluate({"--preprocessor=" + named, "--tokenizer=" + (folder / tokenizer).string()})
                .out,
            want.out);
        for (std::string file : {tokenizer, images, "processor_config.json"})
          fs::remove(folder / file);
      }
}

// Generation stops at the end tokens of the config, at those of
// generation_config.json, and at the one that captions end with.
TEST(Generate, StopsAtEveryEndToken) {
  Training files;
  TinyProgram program(1, 1);
  program.content["model"]["end_tokens"] = {idOfByte('c')};
  fs::path hf = files / "hf";
  fs::create_directories(hf);
  fs::copy_file(files / "data/tokenizer.model", hf / "tokenizer.model");
  // Hidden states are points on a circle: after `a` comes `b`, then `next`.
  auto generate = [&](int64_t next) {
    std::map<std::string, FloatTensor> weights = tinyWeights();
    for (auto &[name, tensor] : weights)
      std::fill(tensor.values.begin(), tensor.values.end(), 0.f);
    auto point = [&](const char *name, int64_t row, int64_t id) {
      double angle = 2 * M_PI * double(id) / double(V);
      weights[name].values[row * D] = float(std::cos(angle));
      weights[name].values[row * D + 1] = float(std::sin(angle));
    };
    std::fill_n(weights["model.language_model.norm.weight"].values.begin(), D, 1.f);
    for (int64_t id = 0; id < V; ++id)
      point("model.language_model.embed_tokens.weight", id, id);
    point("lm_head.weight", idOfByte('b'), idOfByte('a'));
    point("lm_head.weight", next, idOfByte('b'));
    writeTensors(hf / "model.safetensors", weights);
    return run(program, {"generate", "--prompt=a", "--max-tokens=2", "--weights=" + hf.string()});
  };
  EXPECT_EQ(generate(idOfByte('x')).out, "abx\n");
  EXPECT_EQ(generate(idOfByte('c')).out, "ab\n");
  EXPECT_EQ(generate(endToken).out, "ab\n");
  for (std::string ids : {"ID", "[5, ID]"}) {
    ids.replace(ids.find("ID"), 2, std::to_string(idOfByte('x')));
    std::ofstream(hf / "generation_config.json") << "{\"eos_token_id\": " << ids << "}";
    EXPECT_EQ(generate(idOfByte('x')).out, "ab\n");
    EXPECT_EQ(generate(idOfByte('c')).out, "ab\n");
    EXPECT_EQ(generate(endToken).out, "ab\n");
  }
  for (const char *text : {"{}", "{\"eos_token_id\": null}"}) {
    std::ofstream(hf / "generation_config.json") << text;
    EXPECT_EQ(generate(idOfByte('x')).out, "abx\n");
  }
  std::ofstream(hf / "generation_config.json") << "{\"eos_token_id\": [\"</s>\"]}";
  Outcome bad = generate(endToken);
  EXPECT_EQ(bad.status, 2);
  EXPECT_NE(bad.err.find("generation_config.json: field 'eos_token_id': "
                         "expected a token id or a list of them, got "
                         "[\"</s>\"]"),
            std::string::npos)
      << bad.err;
}

// The folder of a run stands for its newest checkpoint, with tokenizer and
// preprocessor, for every command that reads weights.
TEST(Train, FolderOfARunIsItsNewestCheckpoint) {
  Training files(true);
  TinyProgram program(1, 1, 1);
  ASSERT_EQ(run(program, files.words(3, "c", {"--checkpoint-every=1"})).status, 0);
  fs::create_directory(files / "c/step-00000009.tmp");
  fs::create_directory(files / "only");
  for (const char *shard : {"0.tar", "1.tar"})
    fs::copy_file(files / "data/" + shard, files / "only/" + shard);
  writePng(files / "i.png", R, 40);
  for (std::string command : {"evaluate", "generate"}) {
    std::vector<std::string> outs;
    for (std::string weights : {"c", "c/step-00000003", "c/step-00000003/"}) {
      std::vector<std::string> words = {command, "--weights=" + (files / weights)};
      words.push_back(command == "evaluate" ? "--data=" + (files / "only")
                                            : "--image=" + (files / "i.png"));
      Outcome outcome = run(program, words);
      ASSERT_EQ(outcome.status, 0) << outcome.err;
      outs.push_back(outcome.out);
    }
    EXPECT_EQ(outs[0], outs[1]);
    EXPECT_EQ(outs[0], outs[2]);
  }
  Outcome other =
      run(program, {"evaluate", "--data=" + (files / "only"), "--weights=" + (files / "only")});
  EXPECT_EQ(other.status, 2);
}

// A broken image ends the run with its name, from the thread that reads ahead.
TEST(Train, BrokenImage) {
  Training files(true);
  fs::create_directory(files / "bad");
  fs::copy(files / "data", files / "bad", fs::copy_options::recursive);
  ASSERT_EQ(std::system(("cd " + (files / "bad") +
                         " && echo no > 9.png && echo no > 9.txt && "
                         "tar -cf 2.tar 9.png 9.txt")
                            .c_str()),
            0);
  TinyProgram program(1, 1, 1);
  Outcome outcome = run(program, {"train", "--data=" + (files / "bad"), "--steps=9",
                                  "--learning-rate=0.01", "--shuffle=1"});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_NE(outcome.err.find("2.tar: sample '9': field 'png'"), std::string::npos) << outcome.err;
}

TEST(Train, StopsWhenTheLossIsNotANumber) {
  Training files;
  std::map<std::string, FloatTensor> weights = tinyWeights();
  weights["model.language_model.norm.weight"].values[0] = NAN;
  writeTensors(files / "w.safetensors", weights);
  TinyProgram program(1, 1);
  Outcome outcome = run(program, files.words(3, "c", {"--weights=" + (files / "w.safetensors")}));
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find("step 1: expected finite numbers, got loss nan"), std::string::npos)
      << outcome.err;
  EXPECT_TRUE(fs::is_empty(files / "c"));
}

TEST(Train, OptionsAreChecked) {
  Training files;
  TinyProgram program(1, 1);
  Outcome outcome = run(program, files.words(1, "c", {"--shufle=3"}));
  EXPECT_EQ(outcome.status, 2);
  EXPECT_EQ(outcome.err, "tiny: error: unknown option '--shufle'; did you mean '--shuffle'?\n");
}

// Each epoch has every sample once; windows do not mix; `seek` goes on in the
// middle of one; seeds differ.
TEST(Samples, Order) {
  Training files;
  std::vector<std::string> shards = expandShards(files / "data");
  auto keys = [](Samples &samples, int64_t count) {
    std::string text;
    for (int64_t i = 0; i < count; ++i)
      text += samples.next().key.back();
    return text;
  };
  Samples plain(shards, 1, 1);
  EXPECT_EQ(keys(plain, 8), "01234501");
  Samples samples(shards, 1, 4);
  std::string order = keys(samples, 18);
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    std::string first = order.substr(epoch * 6, 4), last = order.substr(epoch * 6 + 4, 2);
    EXPECT_TRUE(std::is_permutation(first.begin(), first.end(), "0123"));
    EXPECT_TRUE(std::is_permutation(last.begin(), last.end(), "45"));
  }
  EXPECT_NE(order.substr(0, 4) + order.substr(6, 4), "01230123");
  for (int64_t stop = 0; stop <= 18; ++stop) {
    Samples begun(shards, 1, 4), goneOn(shards, 1, 4);
    std::string head = keys(begun, stop);
    goneOn.seek(Samples::Place::fromJson(begun.place().toJson(), ""));
    EXPECT_EQ(head + keys(goneOn, 18 - stop), order);
  }
  Samples other(shards, 2, 4);
  EXPECT_NE(keys(other, 18), order);
  files.write("empty.tar", std::string(1024, '\0'));
  Samples none({files / "empty.tar"}, 1, 4);
  EXPECT_ERROR(none.next(), "option '--data': expected at least one sample, got none");
}

} // namespace
