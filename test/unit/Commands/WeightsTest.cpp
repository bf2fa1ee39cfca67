//===- WeightsTest.cpp - Parameters in checkpoint files -------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RunCommand.h"

#include "src/Commands/Weights.h"

#include <cmath>

using namespace llrt;
using namespace llrt::test;
namespace fs = std::filesystem;

namespace {

const char *embeddingKey = "model.language_model.embed_tokens.weight";

// A rank on one thread: forked tests must not inherit a pool of threads.
struct Loaded {
  TinyProgram tiny;
  Program program;
  Ranks ranks;
  const Rank &rank;
  Weights weights;

  explicit Loaded(TinyProgram edited = TinyProgram(1, 1))
      : tiny(std::move(edited)), program(Program::parse(tiny.get())),
        ranks(program, arguments(program), {"step"}), rank(ranks.first()), weights(program) {}

  static Arguments arguments(const Program &program) {
    char threads[] = "--threads=1";
    char *words[] = {threads};
    return Arguments(rankOptions(program), words);
  }
};

// Storage types as under --precision=bf16.
TinyProgram bf16Program() {
  TinyProgram program(1, 1);
  for (nlohmann::json &p : program.content["stages"][0]["parameters"])
    p["type"] = "bf16";
  return program;
}

TEST(Weights, CommonKeys) {
  for (auto [key, common] :
       {std::pair("language_model.model.layers.0.x", "text.layers.0.x"),
        std::pair("model.language_model.layers.0.x", "text.layers.0.x"),
        std::pair("model.layers.0.x", "text.layers.0.x"),
        std::pair("vision_model.y", "vision_model.y"),
        std::pair("model.vision_model.y", "vision_model.y"),
        std::pair("multi_modal_projector.bias", "multi_modal_projector.bias"),
        std::pair("model.multi_modal_projector.bias", "multi_modal_projector.bias"),
        std::pair("language_model.lm_head.weight", "lm_head.weight"),
        std::pair("lm_head.weight", "lm_head.weight"), std::pair("z", "z")})
    EXPECT_EQ(commonKey(key), common);
}

// Files of the released family are read, and written under the same keys.
TEST(Weights, KeepTheKeysOfTheFile) {
  Folder folder;
  std::map<std::string, FloatTensor>
      weights = tinyWeights(),
      released = {{"language_model.model.embed_tokens.weight", weights[embeddingKey]},
                  {"language_model.model.norm.weight", weights["model.language_model.norm.weight"]},
                  {"vision_model.gate", weights["model.vision_model.gate"]},
                  {"language_model.lm_head.weight", weights["lm_head.weight"]}};
  // Not a weight: passed over.
  std::map<std::string, FloatTensor> file = released;
  file["language_model.model.rotary_emb.inv_freq"] = {{1}, {1}};
  writeTensors(folder / "in.safetensors", file);

  Loaded loaded;
  loaded.weights.load(loaded.ranks, SafeTensors(folder / "in.safetensors"));
  loaded.weights.write(folder / "out.safetensors", loaded.ranks, Weights::Kind::Storage);
  writeTensors(folder / "want.safetensors", released);
  EXPECT_EQ(readTensors(folder / "out.safetensors"), readTensors(folder / "want.safetensors"));
}

// What wrappers leave in keys is removed, whatever their nesting, and told;
// what is written has none of it.
TEST(Weights, KeysOfWrappers) {
  std::vector<std::string> removed;
  for (auto [key, plain] :
       {std::pair("module.model.norm.weight", "model.norm.weight"),
        std::pair("_orig_mod.module._orig_mod.lm_head.weight", "lm_head.weight"),
        std::pair("base_model.model.model.layers.0.x", "model.layers.0.x"),
        std::pair("module.base_model.model._orig_mod.vision_model.y", "vision_model.y"),
        std::pair("model.layers.3._orig_mod.mlp._fsdp_wrapped_module.z", "model.layers.3.mlp.z"),
        std::pair("model.submodule.x", "model.submodule.x"),
        std::pair("my_orig_mod.x", "my_orig_mod.x")})
    EXPECT_EQ(withoutWrappers(key, removed), plain);
  EXPECT_EQ(removed, (std::vector<std::string>{"module.", "_orig_mod.", "base_model.model.",
                                               "_fsdp_wrapped_module."}));

  Folder folder;
  for (std::string prefix : {"module.", "_orig_mod.", "base_model.model.", "module._orig_mod."}) {
    std::map<std::string, FloatTensor> file;
    for (const auto &[key, tensor] : tinyWeights())
      file[prefix + key] = tensor;
    writeTensors(folder / "in.safetensors", file);
    Loaded loaded;
    testing::internal::CaptureStderr();
    loaded.weights.load(loaded.ranks, SafeTensors(folder / "in.safetensors"));
    std::string told = testing::internal::GetCapturedStderr();
    EXPECT_NE(told.find("in.safetensors: read without what wrappers left in "
                        "the keys of 4 tensors: '"),
              std::string::npos)
        << told;
    loaded.weights.write(folder / "out.safetensors", loaded.ranks, Weights::Kind::Storage);
    writeTensors(folder / "want.safetensors", tinyWeights());
    EXPECT_EQ(readTensors(folder / "out.safetensors"), readTensors(folder / "want.safetensors"));
    // Twice the same tensor is not decided.
    file["lm_head.weight"] = tinyWeights()["lm_head.weight"];
    writeTensors(folder / "in.safetensors", file);
    Loaded twice;
    EXPECT_ERROR(twice.weights.load(twice.ranks, SafeTensors(folder / "in.safetensors")),
                 "1 unexpected '");
  }
}

// An adapter is no model: it is refused by name.
TEST(Weights, RefusesAdapters) {
  Folder folder;
  for (std::string key :
       {"base_model.model.lm_head.lora_A.weight", "base_model.model.lm_head.base_layer.weight",
        "base_model.model.lm_head.modules_to_save.default.weight"}) {
    std::map<std::string, FloatTensor> file = tinyWeights();
    file[key] = {{1}, {1}};
    writeTensors(folder / "in.safetensors", file);
    Loaded loaded;
    EXPECT_ERROR(loaded.weights.load(loaded.ranks, SafeTensors(folder / "in.safetensors")),
                 "tensor '" + key +
                     "': expected the weights of a model, got "
                     "those of a LoRA adapter");
  }
  fs::rename(folder / "in.safetensors", folder / "adapter_model.safetensors");
  EXPECT_ERROR(SafeTensors files(folder / ""), "got an adapter");
}

// The frozen rows of a tensor with trainable rows are zeros among gradients and
// themselves among masters; frozen tensors are in neither.
TEST(Weights, JoinRows) {
  TinyProgram tiny(1, 1);
  nlohmann::json &gate = tiny.content["stages"][0]["parameters"][3];
  gate["trainable"] = false;
  Loaded loaded(std::move(tiny));
  Folder folder;
  writeTensors(folder / "in.safetensors", tinyWeights());
  loaded.weights.load(loaded.ranks, SafeTensors(folder / "in.safetensors"));
  loaded.ranks.each([](Rank &rank) {
    for (const Parameter &p : rank.stage().parameters)
      if (p.trainable) {
        rank.writeValues(*p.gradient, std::vector<float>(p.elements, 2));
        rank.writeValues(*p.master, std::vector<float>(p.elements, 3));
      }
  });
  loaded.weights.write(folder / "g.safetensors", loaded.ranks, Weights::Kind::Gradients);
  loaded.weights.write(folder / "u.safetensors", loaded.ranks, Weights::Kind::Masters);
  Tensors gradients = readTensors(folder / "g.safetensors"),
          masters = readTensors(folder / "u.safetensors");
  EXPECT_EQ(gradients.count("model.vision_model.gate"), 0u);
  EXPECT_EQ(masters.count("model.vision_model.gate"), 0u);
  EXPECT_EQ(gradients.size(), 3u);
  FloatTensor given = tinyWeights()[embeddingKey];
  for (int64_t i = 0; i < (V + X) * D; ++i) {
    EXPECT_EQ(gradients[embeddingKey][i], i < V * D ? 0 : 2);
    EXPECT_EQ(masters[embeddingKey][i], i < V * D ? given.values[i] : 3);
  }
}

// Masters keep what the storage type cannot hold.
TEST(Weights, MastersHaveTheValueOfTheFile) {
  Loaded loaded(bf16Program());
  Folder folder;
  writeTensors(folder / "in.safetensors", tinyWeights());
  loaded.weights.load(loaded.ranks, SafeTensors(folder / "in.safetensors"));
  const Parameter &head = loaded.program.stages[0].parameters[4];
  FloatTensor given = tinyWeights()["lm_head.weight"];
  auto masters = loaded.rank.readValues<float>(*head.master, head.elements);
  auto weights = loaded.rank.readValues<uint16_t>(head.address, head.elements);
  for (int64_t i = 0; i < head.elements; ++i) {
    EXPECT_EQ(masters[i], given.values[i]);
    float stored = floatFromBFloat16(weights[i]);
    EXPECT_NEAR(stored, given.values[i], std::fabs(given.values[i]) / 256);
    EXPECT_EQ(stored, floatFromBFloat16(bfloat16FromFloat(given.values[i])));
  }
}

// One message tells what is missing, what is too much, and which shapes differ.
TEST(Weights, Refusals) {
  Loaded loaded;
  Folder folder;
  std::map<std::string, FloatTensor> weights = tinyWeights();
  weights.erase("lm_head.weight");
  for (const char *name : {"a", "b", "c", "d", "e"})
    weights[name] = {{1}, {1}};
  weights["model.vision_model.gate"] = {{2}, {1, 2}};
  std::string path = folder / "in.safetensors";
  writeTensors(path, weights);
  EXPECT_EQ(errorOf([&] { loaded.weights.load(loaded.ranks, SafeTensors(path)); }),
            path + ": expected the 4 tensors of this program, got: 1 missing "
                   "'lm_head.weight'; 5 unexpected 'a', 'b', 'c' and 2 more; 1 wrong "
                   "shape 'model.vision_model.gate' (expected [1], got [2])");
  // The same tensor under the keys of two families.
  weights = tinyWeights();
  weights["language_model.lm_head.weight"] = weights["lm_head.weight"];
  writeTensors(path, weights);
  EXPECT_ERROR(loaded.weights.load(loaded.ranks, SafeTensors(path)),
               "1 unexpected 'lm_head.weight'");
}

// Drawn weights depend on seed and key, not on how a tensor is divided.
TEST(Weights, Initialize) {
  TinyProgram whole(1, 1);
  // The same tensor as one frozen parameter; its memory is that of both parts.
  nlohmann::json &parameters = whole.content["stages"][0]["parameters"];
  parameters[0]["row_end"] = V + X;
  parameters[0]["elements"] = (V + X) * D;
  parameters[0]["shape"] = {V + X, D};
  parameters.erase(1);
  Loaded divided, undivided(std::move(whole));
  Folder folder;
  std::vector<Tensors> drawn;
  for (Loaded *loaded : {&divided, &undivided}) {
    loaded->weights.initialize(loaded->ranks, 7, 0.25);
    loaded->weights.write(folder / "w", loaded->ranks, Weights::Kind::Storage);
    drawn.push_back(readTensors(folder / "w"));
  }
  EXPECT_EQ(drawn[0], drawn[1]);
  EXPECT_EQ(drawn[0]["model.vision_model.gate"], std::vector<double>{0.25});
  EXPECT_EQ(drawn[0]["model.language_model.norm.weight"], std::vector<double>(D, 1));
  double squares = 0; // initializer_range 0.5
  for (double x : drawn[0]["lm_head.weight"])
    squares += x * x / (V * D);
  EXPECT_NEAR(squares, 0.25, 0.03);
  divided.weights.initialize(divided.ranks, 8, 0.25);
  divided.weights.write(folder / "w", divided.ranks, Weights::Kind::Storage);
  EXPECT_NE(readTensors(folder / "w")["lm_head.weight"], drawn[0]["lm_head.weight"]);
}

} // namespace
