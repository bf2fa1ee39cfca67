//===- TinyProgram.cpp - A program that was not compiled ------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TinyProgram.h"

#include "llrt/ProgramFields.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>

using namespace llrt::test;
using nlohmann::json;

namespace {

// Buffers of the blocks, in order. Graph blocks end with loss and logits
// (logits: scratch memory of `step`).
enum {
  Ids,
  Labels,
  Begin,
  End,
  Pixels,
  LossGradient,
  Frozen,
  Extra,
  Norm,
  Gate,
  Head,
  DExtra,
  DNorm,
  DGate,
  DHead,
  Loss,
  Logits
};

template <typename T> T *as(void *buffer) { return static_cast<T *>(buffer); }

template <int64_t B, int64_t M, bool Backward> void tinyModel(LlrtStream *, void **buffers) {
  auto *ids = as<int64_t>(buffers[Ids]), *labels = as<int64_t>(buffers[Labels]);
  auto *begin = as<int64_t>(buffers[Begin]), *end = as<int64_t>(buffers[End]);
  auto *norm = as<float>(buffers[Norm]), *head = as<float>(buffers[Head]);
  float scale = *as<float>(buffers[LossGradient]), loss = 0;
  constexpr int64_t pixels = M * 4 * 3 * R * R;
  for (int64_t b = 0; b < B; ++b) {
    float mean = 0;
    for (int64_t i = 0; i < pixels; ++i)
      mean += as<float>(buffers[Pixels])[b * pixels + i] / float(pixels);
    for (int64_t s = b * S; s < (b + 1) * S; ++s) {
      float image = begin[s] < end[s] ? mean : 0;
      const float *row = ids[s] < V ? as<float>(buffers[Frozen]) + ids[s] * D
                                    : as<float>(buffers[Extra]) + (ids[s] - V) * D;
      float h[D], *logits = as<float>(buffers[Logits]) + s * V, total = 0;
      for (int64_t d = 0; d < D; ++d)
        h[d] = norm[d] * row[d] + *as<float>(buffers[Gate]) * image;
      for (int64_t v = 0; v < V; ++v) {
        logits[v] = 0;
        for (int64_t d = 0; d < D; ++d)
          logits[v] += head[v * D + d] * h[d];
        total += std::exp(logits[v]);
      }
      if (labels[s] < 0)
        continue;
      loss += std::log(total) - logits[labels[s]];
      if (!Backward)
        continue;
      float dh[D] = {};
      for (int64_t v = 0; v < V; ++v) {
        float g = scale * (std::exp(logits[v]) / total - float(v == labels[s]));
        for (int64_t d = 0; d < D; ++d) {
          dh[d] += g * head[v * D + d];
          as<float>(buffers[DHead])[v * D + d] += g * h[d];
        }
      }
      for (int64_t d = 0; d < D; ++d) {
        as<float>(buffers[DNorm])[d] += dh[d] * row[d];
        *as<float>(buffers[DGate]) += dh[d] * image;
        if (ids[s] >= V)
          as<float>(buffers[DExtra])[(ids[s] - V) * D + d] += dh[d] * norm[d];
      }
    }
  }
  *as<float>(buffers[Loss]) = loss;
}

void waitBlock(LlrtStream *, void **) { std::this_thread::sleep_for(std::chrono::milliseconds(5)); }

constexpr int64_t sizes[] = {X * D, D, 1, V *D}; // of the trainable parameters

void gradientNorm(LlrtStream *, void **buffers) { // four gradients, the sum of squares
  double sum = 0;
  for (int p = 0; p < 4; ++p)
    for (int64_t i = 0; i < sizes[p]; ++i)
      sum += std::pow(double(as<float>(buffers[p])[i]), 2);
  *as<float>(buffers[4]) = float(sum);
}

void addOnce(LlrtStream *, void **buffers) { // sum, value, factor
  if (*as<double>(buffers[2]) != 0)
    *as<double>(buffers[0]) += *as<float>(buffers[1]);
}

void clipNorm(LlrtStream *, void **buffers) { // sums, given hyperparameters, those of the step
  const double *sums = as<double>(buffers[0]), *given = as<double>(buffers[1]);
  double norm = std::sqrt(sums[1]);
  double scale = given[0] > 0 ? std::min(1.0, given[0] / (norm + 1e-6)) : 1;
  if (!std::isfinite(sums[0]) || !std::isfinite(norm))
    scale = NAN;
  for (int i = 0; i < 8; ++i)
    as<float>(buffers[2])[i] = float(i ? given[i] : scale);
}

void adamw(LlrtStream *, void **buffers) { // hyperparameters; five buffers of each parameter
  const float *h = as<float>(buffers[0]);
  if (std::isnan(h[0]))
    return;
  for (int p = 0; p < 4; ++p)
    for (int64_t i = 0; i < sizes[p]; ++i) {
      float &weight = as<float>(buffers[1 + 5 * p])[i];
      float &master = as<float>(buffers[2 + 5 * p])[i];
      float gradient = as<float>(buffers[3 + 5 * p])[i] * h[0];
      float &m = as<float>(buffers[4 + 5 * p])[i];
      float &v = as<float>(buffers[5 + 5 * p])[i];
      m = h[2] * m + (1 - h[2]) * gradient;
      v = h[3] * v + (1 - h[3]) * gradient * gradient;
      master -= h[1] * (h[5] * master + m / h[6] / (std::sqrt(v / h[7]) + h[4]));
      weight = master;
    }
}

// Gives out addresses of arena `index`, aligned to 64 bytes.
struct Space {
  int64_t index, bytes = 0;

  json take(int64_t size) {
    json address = {index, bytes};
    bytes += (size + 63) / 64 * 64;
    return address;
  }
};

} // namespace

TinyProgram::TinyProgram(int64_t batch, int64_t microBatches, int64_t images, bool slow) {
  Space parameters{0}, training{1}, inputs{2}, work{3};
  std::vector<json> buffers(Logits + 1);
  json list = json::array(), optimizer = json::array();
  auto parameter = [&](const char *key, std::vector<int64_t> shape, int64_t begin, int64_t end,
                       const char *initializer, int value, int gradient) {
    std::vector<int64_t> rows = shape;
    rows[0] = end - begin;
    int64_t elements = 1;
    for (int64_t size : rows)
      elements *= size;
    std::string name = key + (begin || end != shape[0] ? "#" + std::to_string(begin) : "");
    json p = {{"name", name},
              {"checkpoint_key", key},
              {"checkpoint_shape", shape},
              {"row_begin", begin},
              {"row_end", end},
              {"type", "f32"},
              {"elements", elements},
              {"shape", rows},
              {"trainable", gradient >= 0},
              {"initializer", initializer},
              {"address", parameters.take(elements * 4)}};
    buffers[value] = p["address"];
    if (gradient >= 0) {
      optimizer.push_back(p["address"]);
      for (const char *part : {"master", "gradient", "moment1", "moment2"}) {
        p[part] = training.take(elements * 4);
        optimizer.push_back(p[part]);
      }
      p["gradient_type"] = "f32";
      buffers[gradient] = p["gradient"];
    }
    list.push_back(p);
  };
  const char *embedding = "model.language_model.embed_tokens.weight";
  parameter(embedding, {V + X, D}, 0, V, "normal", Frozen, -1);
  parameter(embedding, {V + X, D}, V, V + X, "normal", Extra, DExtra);
  parameter("model.language_model.norm.weight", {D}, 0, D, "ones", Norm, DNorm);
  parameter("model.vision_model.gate", {1}, 0, 1, "gate", Gate, DGate);
  parameter("lm_head.weight", {V, D}, 0, V, "normal", Head, DHead);

  json inputList = json::array();
  auto input = [&](const char *name, const char *type, std::vector<int64_t> shape, int buffer) {
    int64_t elements = 1;
    for (int64_t size : shape)
      elements *= size;
    buffers[buffer] = inputs.take(elements * 8);
    inputList.push_back(
        {{"name", name}, {"type", type}, {"shape", shape}, {"address", buffers[buffer]}});
  };
  input("input_ids", "i64", {batch, S}, Ids);
  input("labels", "i64", {batch, S}, Labels);
  input("image_begin", "i64", {batch, S}, Begin);
  input("image_end", "i64", {batch, S}, End);
  input("pixels", "f32", {batch, images, 4, 3, R, R}, Pixels);
  input("loss_gradient", "f32", {1}, LossGradient);
  json inputNames = json::array(); // of graphs
  for (const json &each : inputList)
    inputNames.push_back(each["name"]);
  auto entryInput = [&](const char *name, int64_t elements) {
    json address = inputs.take(elements * 8);
    inputList.push_back(
        {{"name", name}, {"type", "f64"}, {"shape", {elements}}, {"address", address}});
    return address;
  };
  json given = entryInput("hyperparameters", 8), once = entryInput("once:", 1);

  buffers[Loss] = work.take(4);
  buffers[Logits] = work.take(batch * S * V * 4);
  json norm = work.take(4), hyperparameters = work.take(32), sums = work.take(16);
  json squares = {sums[0], sums[1].get<int64_t>() + 8};
  json loss = {{"type", "f32"}, {"shape", json::array({1})}, {"address", buffers[Loss]}};
  json logits = {{"type", "f32"}, {"shape", {batch, S, V}}, {"address", buffers[Logits]}};
  json normBuffers = {buffers[DExtra], buffers[DNorm], buffers[DGate], buffers[DHead], norm};
  optimizer.insert(optimizer.begin(), hyperparameters);
  json step = json::array(), forward = json::array();
  for (const json &p : list)
    if (p["trainable"])
      step.push_back(
          {{"do", "zero"}, {"at", p["gradient"]}, {"bytes", p["elements"].get<int64_t>() * 4}});
  auto call = [](const char *block, json buffers) {
    return json{{"do", "call"}, {"block", block}, {"buffers", buffers}};
  };
  for (json *program : {&step, &forward})
    program->push_back({{"do", "zero"}, {"at", sums}, {"bytes", 16}});
  for (int64_t m = 0; m < microBatches; ++m) {
    for (auto [program, graph] : {std::pair(&step, "step"), std::pair(&forward, "forward")}) {
      program->push_back(
          {{"do", "run"}, {"graph", graph}, {"micro_batch", m}, {"frames", json::array()}});
      program->push_back(call("add_once", {sums, buffers[Loss], once}));
      program->back()["micro_batch"] = m;
    }
  }
  step.push_back(call("gradient_norm", normBuffers));
  step.push_back(call("add_once", {squares, norm, once}));
  step.push_back(call("clip_norm", {sums, given, hyperparameters}));
  step.push_back(call("adamw", optimizer));

  auto graph = [&](const char *block, json outputs) {
    std::vector<json> given = buffers;
    if (block == std::string("forward")) // which has no gradients
      for (int gradient : {DExtra, DNorm, DGate, DHead})
        given[gradient] = buffers[Loss];
    json items = json::array({{{"do", "call"}, {"block", block}, {"buffers", given}}});
    if (slow && block == std::string("step"))
      items.push_back({{"do", "call"}, {"block", "wait"}, {"buffers", json::array()}});
    return json{
        {"frames", json::array()}, {"inputs", inputNames}, {"items", items}, {"outputs", outputs}};
  };
  auto both = [](int64_t bytes) { return json{{"step", bytes}, {"forward", bytes}}; };
  content = {{"version", kProgramVersion},
             {"options",
              {{"batch", batch},
               {"text_length", S},
               {"images", images},
               {"micro_batches", microBatches},
               {"precision", "f32"}}},
             {"model",
              {{"model_type", "tiny"},
               {"vocabulary", V},
               {"extra_rows", X},
               {"image_token", imageToken},
               {"begin_token", beginToken},
               {"end_tokens", json::array({endToken})},
               {"config", R"({"model_type":"mllama","torch_dtype":"bfloat16",
                       "text_config":{"factor":8.0,"dtype":"bfloat16"},
                       "vision_config":{"image_size":28}})"},
               {"pad_token", padToken},
               {"tile_size", R},
               {"tiles", 4},
               {"initializer_range", 0.5},
               {"hash", "tiny"},
               {"computation", {{"feature_taps", "input"}, {"row_mask", "both"}}}}},
             {"operations", {{"forward", 1e6}, {"step", 3e6}}},
             {"axes", json::array()},
             {"communicators", json::array()},
             {"stages",
              json::array({{{"arenas",
                             {{{"name", "parameters"}, {"bytes", both(parameters.bytes)}},
                              {{"name", "training"}, {"bytes", {{"step", training.bytes}}}},
                              {{"name", "inputs"}, {"bytes", both(inputs.bytes)}},
                              {{"name", "workspace"}, {"bytes", both(work.bytes)}}}},
                            {"parameters", list},
                            {"inputs", inputList},
                            {"sums", sums},
                            {"graphs",
                             {{"step", graph("step", {{"loss", loss}})},
                              {"forward", graph("forward", {{"loss", loss}, {"logits", logits}})}}},
                            {"programs", {{"step", step}, {"forward", forward}}}}})}};

  names = {"step", "forward", "gradient_norm", "add_once", "clip_norm", "adamw", "wait"};
  bool two = batch == 2, sees = images == 1;
  blocks = {two    ? sees ? tinyModel<2, 1, true> : tinyModel<2, 0, true>
            : sees ? tinyModel<1, 1, true>
                   : tinyModel<1, 0, true>,
            two    ? sees ? tinyModel<2, 1, false> : tinyModel<2, 0, false>
            : sees ? tinyModel<1, 1, false>
                   : tinyModel<1, 0, false>,
            gradientNorm,
            addOnce,
            clipNorm,
            adamw,
            waitBlock};
}

const LlrtProgram &TinyProgram::get() {
  text = content.dump();
  namePointers.clear();
  for (const std::string &name : names)
    namePointers.push_back(name.c_str());
  program = {text.data(),         text.size(),   blocks.size(),
             namePointers.data(), blocks.data(), "tiny",
             cpuFeatures.data(),  "host",        nullptr};
  return program;
}
