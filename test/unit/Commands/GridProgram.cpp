//===- GridProgram.cpp - A program of several ranks -----------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "GridProgram.h"

#include "llrt/Collectives.h"
#include "llrt/ProgramFields.h"
#include "src/Commands/Commands.h"
#include "src/Control/Sockets.h"

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <iostream>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>

using namespace llrt;
using namespace llrt::test;
using nlohmann::json;

std::string GridSizes::text() const {
  std::string result;
  for (int64_t value : {dp, pp, cp, tp, batch, microBatches, shard, hangs})
    result += (result.empty() ? "" : ",") + std::to_string(value);
  return result;
}

GridSizes GridSizes::parse(const std::string &text) {
  GridSizes result;
  std::istringstream stream(text);
  char comma;
  stream >> result.dp >> comma >> result.pp >> comma >> result.cp >> comma >> result.tp >> comma >>
      result.batch >> comma >> result.microBatches >> comma >> result.shard >> comma >>
      result.hangs;
  return result;
}

//===----------------------------------------------------------------------===//
// Blocks
//===----------------------------------------------------------------------===//

namespace {

// What a compiled block has as constants. T tokens of a rank's micro-batch, v
// and d its parts of V and D.
int64_t T, v, d;
int64_t counts[4]; // of the state of E, norm, A, W
int64_t hangingRank;

template <typename Type> Type *as(void *buffer) { return static_cast<Type *>(buffer); }

// ids [T], tp, E [v, D] -> x [T, D], partial over tp
void embed(LlrtStream *, void **buffers) {
  const int64_t *ids = as<int64_t>(buffers[0]);
  int64_t first = *as<int64_t>(buffers[1]) * v;
  const double *table = as<double>(buffers[2]);
  double *x = as<double>(buffers[3]);
  for (int64_t t = 0; t < T; ++t)
    for (int64_t k = 0; k < D; ++k)
      x[t * D + k] = ids[t] >= first && ids[t] < first + v ? table[(ids[t] - first) * D + k] : 0;
}

// x, norm, A [D, d], tp -> y [T, D], z [T, D] partial over tp
void mix(LlrtStream *, void **buffers) {
  const double *x = as<double>(buffers[0]), *norm = as<double>(buffers[1]);
  const double *a = as<double>(buffers[2]);
  int64_t first = *as<int64_t>(buffers[3]) * d;
  double *y = as<double>(buffers[4]), *z = as<double>(buffers[5]);
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t k = 0; k < D; ++k)
      y[t * D + k] = norm[k] * x[t * D + k];
    for (int64_t n = 0; n < D; ++n) {
      z[t * D + n] = 0;
      for (int64_t k = 0; k < d; ++k)
        z[t * D + n] += a[n * d + k] * y[t * D + first + k];
    }
  }
}

// z, W [v, D] -> logits [T, v], largest [T]
void head(LlrtStream *, void **buffers) {
  const double *z = as<double>(buffers[0]), *w = as<double>(buffers[1]);
  double *logits = as<double>(buffers[2]), *largest = as<double>(buffers[3]);
  for (int64_t t = 0; t < T; ++t) {
    largest[t] = -INFINITY;
    for (int64_t n = 0; n < v; ++n) {
      double &logit = logits[t * v + n] = 0;
      for (int64_t k = 0; k < D; ++k)
        logit += w[n * D + k] * z[t * D + k];
      largest[t] = std::max(largest[t], logit);
    }
  }
}

// logits, largest, labels, tp -> sums [2, T]: of exponentials, of the label
void sums(LlrtStream *, void **buffers) {
  const double *logits = as<double>(buffers[0]);
  const double *largest = as<double>(buffers[1]);
  const int64_t *labels = as<int64_t>(buffers[2]);
  int64_t first = *as<int64_t>(buffers[3]) * v;
  double *out = as<double>(buffers[4]);
  for (int64_t t = 0; t < T; ++t) {
    out[t] = 0;
    for (int64_t n = 0; n < v; ++n)
      out[t] += std::exp(logits[t * v + n] - largest[t]);
    bool here = labels[t] >= first && labels[t] < first + v;
    out[T + t] = here ? logits[t * v + labels[t] - first] : 0;
  }
}

// largest, sums, labels -> loss [1]
void loss(LlrtStream *, void **buffers) {
  const double *largest = as<double>(buffers[0]), *sum = as<double>(buffers[1]);
  const int64_t *labels = as<int64_t>(buffers[2]);
  double &loss = *as<double>(buffers[3]) = 0;
  for (int64_t t = 0; t < T; ++t)
    if (labels[t] >= 0)
      loss += std::log(sum[t]) + largest[t] - sum[T + t];
}

// logits, largest, sums, labels, tp, loss_gradient, z, W -> dW +=, dz partial
void headBackward(LlrtStream *, void **buffers) {
  const double *logits = as<double>(buffers[0]);
  const double *largest = as<double>(buffers[1]), *sum = as<double>(buffers[2]);
  const int64_t *labels = as<int64_t>(buffers[3]);
  int64_t first = *as<int64_t>(buffers[4]) * v;
  double scale = *as<double>(buffers[5]);
  const double *z = as<double>(buffers[6]), *w = as<double>(buffers[7]);
  double *dw = as<double>(buffers[8]), *dz = as<double>(buffers[9]);
  for (int64_t t = 0; t < T; ++t) {
    std::fill_n(dz + t * D, D, 0.0);
    for (int64_t n = 0; n < v && labels[t] >= 0; ++n) {
      double g = std::exp(logits[t * v + n] - largest[t]) / sum[t];
      g = scale * (g - (labels[t] == first + n));
      for (int64_t k = 0; k < D; ++k) {
        dw[n * D + k] += g * z[t * D + k];
        dz[t * D + k] += g * w[n * D + k];
      }
    }
  }
}

// dz, y, A, tp -> dA +=, dy [T, d]
void mixBackward(LlrtStream *, void **buffers) {
  const double *dz = as<double>(buffers[0]), *y = as<double>(buffers[1]);
  const double *a = as<double>(buffers[2]);
  int64_t first = *as<int64_t>(buffers[3]) * d;
  double *da = as<double>(buffers[4]), *dy = as<double>(buffers[5]);
  for (int64_t t = 0; t < T; ++t)
    for (int64_t k = 0; k < d; ++k) {
      double &sum = dy[t * d + k] = 0;
      for (int64_t n = 0; n < D; ++n) {
        da[n * d + k] += dz[t * D + n] * y[t * D + first + k];
        sum += dz[t * D + n] * a[n * d + k];
      }
    }
}

// dy [T, D], x, norm, ids, tp -> dnorm +=, dE +=
void embedBackward(LlrtStream *, void **buffers) {
  const double *dy = as<double>(buffers[0]), *x = as<double>(buffers[1]);
  const double *norm = as<double>(buffers[2]);
  const int64_t *ids = as<int64_t>(buffers[3]);
  int64_t first = *as<int64_t>(buffers[4]) * v;
  double *dnorm = as<double>(buffers[5]), *de = as<double>(buffers[6]);
  for (int64_t t = 0; t < T; ++t)
    for (int64_t k = 0; k < D; ++k) {
      dnorm[k] += dy[t * D + k] * x[t * D + k];
      if (ids[t] >= first && ids[t] < first + v)
        de[(ids[t] - first) * D + k] += dy[t * D + k] * norm[k];
    }
}

// the number of the rank ->
void hang(LlrtStream *, void **buffers) {
  if (*as<int64_t>(buffers[0]) == hangingRank)
    for (;;)
      pause();
}

// gradient -> sum of squares [1]
template <int P> void squares(LlrtStream *, void **buffers) {
  double &sum = *as<double>(buffers[1]) = 0;
  for (int64_t i = 0; i < counts[P]; ++i)
    sum += as<double>(buffers[0])[i] * as<double>(buffers[0])[i];
}

// sum [1], value [1], factor [1] -> the sum
void addOnce(LlrtStream *, void **buffers) {
  if (*as<double>(buffers[2]) != 0)
    *as<double>(buffers[0]) += *as<double>(buffers[1]);
}

// sums [2], given [8] -> hyperparameters [8]
void clipNorm(LlrtStream *, void **buffers) {
  const double *sums = as<double>(buffers[0]), *given = as<double>(buffers[1]);
  std::copy_n(given, 8, as<double>(buffers[2]));
  double ratio = given[0] / (std::sqrt(sums[1]) + 1e-6);
  as<double>(buffers[2])[0] = given[0] > 0 ? std::min(1.0, ratio) : 1;
}

// hyperparameters, master, gradient, moments -> weights
template <int P> void adamw(LlrtStream *, void **buffers) {
  const double *h = as<double>(buffers[0]), *g = as<double>(buffers[2]);
  double *master = as<double>(buffers[1]), *m = as<double>(buffers[3]);
  double *n = as<double>(buffers[4]), *weights = as<double>(buffers[5]);
  for (int64_t i = 0; i < counts[P]; ++i) {
    double gradient = g[i] * h[0];
    m[i] = h[2] * m[i] + (1 - h[2]) * gradient;
    n[i] = h[3] * n[i] + (1 - h[3]) * gradient * gradient;
    master[i] -= h[1] * (h[5] * master[i] + m[i] / h[6] / (std::sqrt(n[i] / h[7]) + h[4]));
    weights[i] = master[i];
  }
}

struct Block {
  const char *name;
  LlrtBlock code;
};
constexpr Block allBlocks[] = {{"embed", embed},
                               {"mix", mix},
                               {"head", head},
                               {"sums", sums},
                               {"loss", loss},
                               {"head_backward", headBackward},
                               {"mix_backward", mixBackward},
                               {"embed_backward", embedBackward},
                               {"hang", hang},
                               {"squares0", squares<0>},
                               {"squares1", squares<1>},
                               {"squares2", squares<2>},
                               {"squares3", squares<3>},
                               {"add_once", addOnce},
                               {"clip_norm", clipNorm},
                               {"adamw0", adamw<0>},
                               {"adamw1", adamw<1>},
                               {"adamw2", adamw<2>},
                               {"adamw3", adamw<3>}};

//===----------------------------------------------------------------------===//
// The program
//===----------------------------------------------------------------------===//

enum { DpCp, Tp, All, Forward, Backward, Dp, Cp }; // communicators

// One stage: its memory and its actions.
struct StageText {
  int64_t bytes = 0;
  json parameters = json::array(), inputs = json::array(), graphs, step, forward;
  json sums, given, hyperparameters; // of the loss and the norm; given and of the step

  // An input of entries: 1 on the ranks with coordinate 0 on `axes`.
  json once(const json &axes) {
    std::string name = "once:";
    for (const json &axis : axes)
      name += (name.back() == ':' ? "" : ",") + axis.get<std::string>();
    for (const json &known : inputs)
      if (known["name"] == name)
        return known["address"];
    return input(name, {1});
  }

  json take(int64_t elements) {
    json address = {0, bytes};
    bytes += (elements * 8 + 63) / 64 * 64;
    return address;
  }

  json input(const std::string &name, std::vector<int64_t> shape, json split = {}) {
    int64_t elements = 1;
    for (int64_t size : shape)
      elements *= size;
    json address = take(elements);
    bool real = name == "loss_gradient" || name == "hyperparameters" || name.starts_with("once:");
    inputs.push_back(
        {{"name", name}, {"type", real ? "f64" : "i64"}, {"shape", shape}, {"address", address}});
    if (!split.is_null())
      inputs.back()["split"] = split;
    return address;
  }
};

json call(const std::string &block, json buffers) {
  return {{"do", "call"}, {"block", block}, {"buffers", buffers}};
}

json reduce(int communicator, int64_t elements, json from, json to, const char *reduction = "sum") {
  return {{"do", "all_reduce"}, {"communicator", communicator}, {"type", "f64"},
          {"outer", 1},         {"elements", elements},         {"from", from},
          {"to", to},           {"reduction", reduction},       {"location", 1}};
}

json transfer(const char *kind, int communicator, json at, json tag, int stream) {
  return {{"do", kind},      {"communicator", communicator},
          {"type", "f64"},   {"elements", T * D},
          {"at", at},        {"tag", tag},
          {"stream", stream}};
}

json runOf(const char *graph, int64_t microBatch, json frames) {
  return {{"do", "run"}, {"graph", graph}, {"micro_batch", microBatch}, {"frames", frames}};
}

} // namespace

GridProgram::GridProgram(const GridSizes &given) : sizes(given) {
  const auto &[dp, pp, cp, tp, B, M, shard, hangs] = sizes;
  T = B * S / cp;
  v = V / tp;
  d = D / tp;
  hangingRank = hangs;

  std::vector<StageText> stages(pp);
  for (StageText &stage : stages) {
    stage.sums = stage.take(2);
    stage.given = stage.input("hyperparameters", {8});
    stage.hyperparameters = stage.take(8);
  }
  StageText &first = stages.front(), &last = stages.back();
  struct Param {
    json weights, gradient; // what blocks read and add to, whole
    StageText *stage;
    json zero;          // the gradient
    json norm, update;  // calls
    json before, after; // around the update
  };
  // State of a parameter of `elements` elements: a unit of its own, filled up
  // to a multiple of the ranks that share it.
  auto parameter = [&](int index, StageText &stage, const char *key, std::vector<int64_t> shape,
                       int64_t elements, const char *initializer, json split) {
    int64_t unit = shard ? (elements + dp - 1) / dp * dp : elements;
    int64_t held = shard ? unit / dp : elements;
    counts[index] = held;
    Param p;
    p.stage = &stage;
    json state[4]; // master, gradient, moments
    for (json &address : state)
      address = stage.take(held);
    p.weights = stage.take(unit);
    json storage = shard == 2 ? stage.take(held) : p.weights;
    p.gradient = shard ? stage.take(unit) : state[1];
    p.zero = {{"do", "zero"}, {"at", p.gradient}, {"bytes", elements * 8}};
    json text = {{"name", key},
                 {"checkpoint_key", key},
                 {"checkpoint_shape", shape},
                 {"row_begin", 0},
                 {"row_end", shape[0]},
                 {"shape", shape},
                 {"type", "f64"},
                 {"elements", elements},
                 {"trainable", true},
                 {"initializer", initializer},
                 {"address", storage},
                 {"master", state[0]},
                 {"gradient", state[1]},
                 {"gradient_type", "f64"},
                 {"moment1", state[2]},
                 {"moment2", state[3]}};
    if (!split.is_null())
      text["split"] = split;
    if (shard)
      text["shard"] = {{"axis", "dp"}, {"begin", 0}, {"elements", unit}, {"storage", shard == 2}};
    stage.parameters.push_back(text);

    std::string number = std::to_string(index);
    json once = split.is_null() ? json({"tp"}) : json::array();
    if (!shard)
      once.insert(once.begin(), {"dp", "cp"});
    else
      once.insert(once.begin(), "cp");
    std::sort(once.begin(), once.end(), [](const json &a, const json &b) {
      return std::string("dp pp cp tp").find(a.get<std::string>()) <
             std::string("dp pp cp tp").find(b.get<std::string>());
    });
    json result = stage.take(1);
    json squares = {stage.sums[0], stage.sums[1].get<int64_t>() + 8};
    p.norm = {call("squares" + number, {state[1], result}),
              call("add_once", {squares, result, stage.once(once)})};
    // The updated part of the weights.
    json part = shard ? stage.take(held) : p.weights;
    if (shard == 2)
      part = storage;
    p.update = call("adamw" + number,
                    {stage.hyperparameters, state[0], state[1], state[2], state[3], part});
    if (shard) {
      // Over cp first, then a part each over dp.
      p.before = {reduce(Cp, unit, p.gradient, p.gradient),
                  {{"do", "reduce_scatter"},
                   {"communicator", Dp},
                   {"type", "f64"},
                   {"outer", 1},
                   {"elements", held},
                   {"from", p.gradient},
                   {"to", state[1]},
                   {"reduction", "sum"}}};
      p.after = {{"do", "all_gather"}, {"communicator", Dp}, {"type", "f64"},  {"outer", 1},
                 {"elements", held},   {"from", part},       {"to", p.weights}};
    } else {
      p.before = json::array({reduce(DpCp, elements, p.gradient, p.gradient)});
    }
    return p;
  };
  json rows = {json::array({"tp"}), json::array()};
  json columns = {json::array(), json::array({"tp"})};
  Param params[] = {parameter(0, first, "model.embed_tokens.weight", {V, D}, v * D, "normal", rows),
                    parameter(1, first, "model.norm.weight", {D}, D, "ones", {}),
                    parameter(2, first, "model.mix.weight", {D, D}, D * d, "normal", columns),
                    parameter(3, last, "lm_head.weight", {V, D}, v * D, "normal", rows)};
  auto &[embedding, norm, mixing, headWeights] = params;

  json tokens = {json::array(), json::array({"cp"})};
  json ids = first.input("input_ids", {B, S / cp}, tokens);
  json tpFirst = first.input("coordinate:tp", {1});
  json number = first.input("coordinate:dp,pp,cp,tp", {1});
  bool one = pp == 1;
  json tpLast = one ? tpFirst : last.input("coordinate:tp", {1});
  json labels = last.input("labels", {B, S / cp}, tokens);
  json scale = last.input("loss_gradient", {1});

  // Memory of a run of stage 0: x, y [T, D] each; z and dz lie apart, as they
  // are sent.
  std::vector<json> frames, z, dz, zLast, dzLast;
  for (int64_t m = 0; m < M; ++m) {
    frames.push_back(first.take(2 * T * D));
    z.push_back(first.take(T * D));
    dz.push_back(first.take(T * D));
    zLast.push_back(one ? z[m] : last.take(T * D));
    dzLast.push_back(one ? dz[m] : last.take(T * D));
  }
  json x = {-1, 0}, y = {-1, T * D * 8}, frameZ = {-2, 0};
  json partial = first.take(T * D), dyPart = first.take(T * d), dy = first.take(T * D);
  json frameList = json::array(
      {{{"name", "residuals"}, {"bytes", 2 * T * D * 8}}, {{"name", "z"}, {"bytes", T * D * 8}}});
  auto graph = [](json frames, json inputs, json items, json outputs) {
    return json{{"frames", frames},
                {"inputs", inputs},
                {"items", items},
                {"outputs", outputs.is_null() ? json::object() : outputs}};
  };
  json gather = {{"do", "all_gather"}, {"communicator", Tp}, {"type", "f64"}, {"outer", T},
                 {"elements", d},      {"from", dyPart},     {"to", dy},      {"location", 1}};
  // What is reduced is on a stream of its own, as it may be.
  auto onStream1 = [](json item, json after) {
    item["stream"] = 1;
    item["after"] = after;
    return item;
  };
  auto afterwards = [](json item, json after) {
    item["after"] = after;
    return item;
  };
  first.graphs["begin"] = graph(
      frameList, {"input_ids", "coordinate:tp", "coordinate:dp,pp,cp,tp"},
      {call("hang", json::array({number})), call("embed", {ids, tpFirst, embedding.weights, x}),
       onStream1(reduce(Tp, T * D, x, x), {1}),
       afterwards(call("mix", {x, norm.weights, mixing.weights, tpFirst, y, partial}), {2}),
       onStream1(reduce(Tp, T * D, partial, frameZ), {3})},
      {});
  first.graphs["begin_backward"] = graph(
      frameList, {"input_ids", "coordinate:tp"},
      {call("mix_backward", {frameZ, y, mixing.weights, tpFirst, mixing.gradient, dyPart}), gather,
       call("embed_backward",
            {dy, x, norm.weights, ids, tpFirst, norm.gradient, embedding.gradient})},
      {});
  json logits = last.take(T * v), largest = last.take(T), sum = last.take(2 * T),
       lossAt = last.take(1), dzPartial = last.take(T * D);
  json lossOutput = {{"type", "f64"},
                     {"shape", json::array({1})},
                     {"address", lossAt},
                     {"partial", json::array({"cp"})}};
  json headItems = {call("head", {frameZ, headWeights.weights, logits, largest}),
                    reduce(Tp, T, largest, largest, "max"),
                    call("sums", {logits, largest, labels, tpLast, sum}),
                    reduce(Tp, 2 * T, sum, sum), call("loss", {largest, sum, labels, lossAt})};
  // Frames of the head: residuals is dz here.
  json headFrames =
      json::array({{{"name", "dz"}, {"bytes", T * D * 8}}, {{"name", "z"}, {"bytes", T * D * 8}}});
  last.graphs["head"] =
      graph(headFrames, {"labels", "coordinate:tp"}, headItems,
            {{"loss", lossOutput},
             {"logits",
              {{"type", "f64"},
               {"shape", {B, S / cp, v}},
               {"address", logits},
               {"split", {json::array(), json::array({"cp"}), json::array({"tp"})}}}}});
  headItems.push_back(
      call("head_backward", {logits, largest, sum, labels, tpLast, scale, frameZ,
                             headWeights.weights, headWeights.gradient, dzPartial}));
  headItems.push_back(reduce(Tp, T * D, dzPartial, json({-1, 0})));
  last.graphs["head_step"] = graph(headFrames, {"labels", "coordinate:tp", "loss_gradient"},
                                   headItems, {{"loss", lossOutput}});

  // All forwards, then all backwards. Streams: 2 what is sent, 3 what comes.
  for (StageText &stage : stages)
    stage.step = stage.forward = json::array({{{"do", "zero"}, {"at", stage.sums}, {"bytes", 16}}});
  json onceLoss = last.once({"tp"});
  for (bool isStep : {true, false}) {
    json &begin = isStep ? first.step : first.forward;
    json &end = isStep ? last.step : last.forward;
    for (const Param &p : params) {
      if (shard == 2)
        (isStep ? p.stage->step : p.stage->forward).push_back(p.after);
      if (isStep)
        p.stage->step.push_back(p.zero);
    }
    for (int64_t m = 0; m < M; ++m) {
      begin.push_back(runOf("begin", m, {frames[m], z[m]}));
      if (!one) {
        int64_t ran = begin.size() - 1;
        begin.push_back(transfer("send", Forward, z[m], {0, 0, m, 0}, 2));
        begin.back()["after"] = {ran};
        end.push_back(transfer("receive", Forward, zLast[m], {0, 0, m, 0}, 3));
      }
      int64_t got = int64_t(end.size()) - 1;
      end.push_back(runOf(isStep ? "head_step" : "head", m, {dzLast[m], zLast[m]}));
      if (!one)
        end.back()["after"] = {got};
      int64_t ran = end.size() - 1;
      end.push_back(call("add_once", {last.sums, lossAt, onceLoss}));
      end.back()["micro_batch"] = m;
      if (isStep && !one) {
        end.push_back(transfer("send", Backward, dzLast[m], {1, 0, m, 1}, 2));
        end.back()["after"] = {ran};
      }
    }
    for (int64_t m = 0; isStep && m < M; ++m) {
      int64_t got = -1;
      if (!one) {
        begin.push_back(transfer("receive", Backward, dz[m], {1, 0, m, 1}, 3));
        got = int64_t(begin.size()) - 1;
      }
      begin.push_back(runOf("begin_backward", m, {frames[m], dz[m]}));
      if (got >= 0)
        begin.back()["after"] = {got};
    }
    for (StageText &stage : stages) {
      json &list = isStep ? stage.step : stage.forward;
      for (Param &p : params)
        if (isStep && p.stage == &stage)
          for (const json &part : {p.before, p.norm})
            for (const json &each : part)
              list.push_back(each);
      list.push_back(reduce(All, 2, stage.sums, stage.sums));
      if (!isStep)
        continue;
      list.push_back(call("clip_norm", {stage.sums, stage.given, stage.hyperparameters}));
      for (Param &p : params)
        if (p.stage == &stage)
          list.push_back(p.update);
      for (Param &p : params)
        if (shard == 1 && p.stage == &stage)
          list.push_back(p.after);
    }
  }

  // Collectives have memory of their own, for pieces of eight elements.
  auto giveScratch = [&](StageText &stage, json &actions) {
    for (json &action : actions) {
      const int64_t members[] = {dp * cp, tp, dp * pp * cp * tp, 2, 2, dp, cp};
      if (!action.contains("communicator") || action.contains("tag"))
        continue;
      int64_t slots = collectiveSlots(action["do"].get<std::string>(),
                                      members[action["communicator"].get<size_t>()],
                                      action["outer"].get<int64_t>());
      if (slots == 0)
        continue;
      action["scratch"] = stage.take(slots * 8);
      action["scratch_bytes"] = slots * collectiveAlignment;
    }
  };
  for (StageText &stage : stages) {
    for (json &graph : stage.graphs)
      giveScratch(stage, graph["items"]);
    giveScratch(stage, stage.step);
    giveScratch(stage, stage.forward);
  }

  json stageList = json::array();
  for (StageText &stage : stages)
    stageList.push_back(
        {{"arenas", json::array({{{"name", "all"},
                                  {"bytes", {{"step", stage.bytes}, {"forward", stage.bytes}}}}})},
         {"parameters", stage.parameters},
         {"inputs", stage.inputs},
         {"sums", stage.sums},
         {"graphs", stage.graphs},
         {"programs", {{"step", stage.step}, {"forward", stage.forward}}}});
  json communicators = json::array({{{"name", "dp,cp"}, {"axes", {"dp", "cp"}}},
                                    {{"name", "tp"}, {"axes", {"tp"}}},
                                    {{"name", "all"}, {"axes", {"dp", "pp", "cp", "tp"}}}});
  if (one) // numbers stay the same
    for (const char *name : {"forward", "backward"})
      communicators.push_back({{"name", name}, {"axes", {"tp"}}});
  else {
    communicators.push_back({{"name", "forward 0 to 1"}, {"edge", {0, 1}}});
    communicators.push_back({{"name", "backward 1 to 0"}, {"edge", {1, 0}}});
  }
  communicators.push_back({{"name", "dp"}, {"axes", {"dp"}}});
  communicators.push_back({{"name", "cp"}, {"axes", {"cp"}}});
  json axes = json::array();
  for (auto [name, size] :
       {std::pair("dp", dp), std::pair("pp", pp), std::pair("cp", cp), std::pair("tp", tp)})
    axes.push_back({{"name", name}, {"size", size}});
  content = {{"version", kProgramVersion},
             {"options",
              {{"batch", B},
               {"text_length", S},
               {"images", 0},
               {"micro_batches", M},
               {"precision", "f64"}}},
             {"model",
              {{"model_type", "grid"},
               {"vocabulary", V},
               {"extra_rows", 0},
               {"begin_token", beginToken},
               {"end_tokens", json::array({endToken})},
               {"pad_token", padToken},
               {"initializer_range", 0.5},
               {"hash", "grid"}}},
             {"operations", {{"forward", 1e6}, {"step", 3e6}}},
             {"axes", axes},
             {"communicators", communicators},
             {"locations", {"nothing", "a test"}},
             {"stages", stageList}};
}

const LlrtProgram &GridProgram::get() {
  text = content.dump();
  names.clear();
  blocks.clear();
  for (const Block &block : allBlocks) {
    names.push_back(block.name);
    blocks.push_back(block.code);
  }
  static const char *const features[] = {nullptr};
  program = {text.data(), text.size(), blocks.size(), names.data(), blocks.data(),
             "tiny",      features,    "host",        nullptr};
  return program;
}

std::map<std::string, FloatTensor> llrt::test::gridWeights() {
  return unlikeWeights({{"model.embed_tokens.weight", {V, D}},
                        {"model.norm.weight", {D}},
                        {"model.mix.weight", {D, D}},
                        {"lm_head.weight", {V, D}}});
}

//===----------------------------------------------------------------------===//
// Processes
//===----------------------------------------------------------------------===//

static int runGrid(const std::string &sizes, std::vector<std::string> words) {
  GridProgram program(GridSizes::parse(sizes));
  words.insert(words.begin(), "grid");
  std::vector<char *> arguments;
  for (std::string &word : words)
    arguments.push_back(word.data());
  return runMain(program.get(), arguments.size(), arguments.data());
}

static pid_t startProcess(const std::vector<std::string> &words, const std::string &log,
                          const Variables &variables = {}) {
  pid_t process = fork();
  if (process != 0)
    return process;
  for (const auto &[name, value] : variables)
    setenv(name.c_str(), value.c_str(), 1);
  for (auto [file, target] : {std::pair(".out", STDOUT_FILENO), std::pair(".err", STDERR_FILENO)})
    dup2(open((log + file).c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644), target);
  std::vector<char *> arguments;
  for (const std::string &word : words)
    arguments.push_back(const_cast<char *>(word.c_str()));
  arguments.push_back(nullptr);
  execvp(arguments[0], arguments.data());
  _exit(127);
}

// This executable, as `main` below understands it.
static std::vector<std::string> commandLine(const GridSizes &sizes,
                                            std::vector<std::string> words) {
  if (words[0] != "info")
    words.push_back("--threads=1");
  words.insert(words.begin(),
               {std::filesystem::read_symlink("/proc/self/exe"), "--grid=" + sizes.text()});
  return words;
}

Outcome llrt::test::runThreads(const GridSizes &sizes, std::vector<std::string> words) {
  Folder folder;
  int status = waitFor(startProcess(commandLine(sizes, std::move(words)), folder / "log"));
  return {status, readAll(folder / "log.out"), readAll(folder / "log.err")};
}

pid_t llrt::test::startMpi(const GridSizes &sizes, std::vector<std::string> words,
                           const std::string &log, int64_t processes) {
  std::vector<std::string> line = commandLine(sizes, std::move(words));
  line.insert(line.begin(),
              {"mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n",
               std::to_string(processes < 0 ? sizes.ranks() : processes)});
  return startProcess(line, log);
}

Outcome llrt::test::runMpi(const GridSizes &sizes, std::vector<std::string> words,
                           int64_t processes) {
  Folder folder;
  int status = waitFor(startMpi(sizes, std::move(words), folder / "log", processes));
  return {status, readAll(folder / "log.out"), readAll(folder / "log.err")};
}

Variables llrt::test::torchrunVariables(int64_t rank, int64_t size, int64_t port) {
  return {{"RANK", std::to_string(rank)},       {"WORLD_SIZE", std::to_string(size)},
          {"LOCAL_RANK", std::to_string(rank)}, {"LOCAL_WORLD_SIZE", std::to_string(size)},
          {"MASTER_ADDR", "localhost"},         {"MASTER_PORT", std::to_string(port)}};
}

Variables llrt::test::slurmVariables(int64_t rank, int64_t size, int64_t port) {
  return {{"SLURM_PROCID", std::to_string(rank)},
          {"SLURM_NTASKS", std::to_string(size)},
          {"SLURM_LOCALID", std::to_string(rank)},
          {"SLURM_LAUNCH_NODE_IPADDR", "127.0.0.1"},
          {"MASTER_PORT", std::to_string(port)}};
}

int64_t llrt::test::freePort() {
  int64_t port = 0;
  Socket listener = listenOn(port);
  return port;
}

TcpJob::TcpJob(const GridSizes &sizes, const std::vector<std::string> &words, int64_t count,
               std::function<Variables(int64_t rank)> variables) {
  for (int64_t rank = 0; rank < (count < 0 ? sizes.ranks() : count); ++rank)
    processes.push_back(
        startProcess(commandLine(sizes, words), folder / std::to_string(rank),
                     variables ? variables(rank) : torchrunVariables(rank, sizes.ranks(), port)));
}

TcpJob::~TcpJob() {
  for (pid_t process : processes)
    if (process > 0) {
      kill(process, SIGKILL);
      waitFor(process);
    }
}

std::string TcpJob::out(int64_t rank) const {
  return readAll(folder / (std::to_string(rank) + ".out"));
}

std::string TcpJob::err(int64_t rank) const {
  return readAll(folder / (std::to_string(rank) + ".err"));
}

int TcpJob::wait(int64_t rank) { return waitFor(std::exchange(processes[rank], -1)); }

Outcome TcpJob::wait() {
  Outcome outcome = {0, "", ""};
  for (size_t rank = 0; rank < processes.size(); ++rank)
    outcome.status = std::max(outcome.status, wait(int64_t(rank)));
  for (size_t rank = 0; rank < processes.size(); ++rank)
    outcome.err += err(int64_t(rank));
  outcome.out = out(0);
  return outcome;
}

Outcome llrt::test::runTcp(const GridSizes &sizes, std::vector<std::string> words) {
  return TcpJob(sizes, words).wait();
}

// `--grid=SIZES COMMAND ...` is the executable of a GridProgram; else all
// tests.
int main(int argc, char **argv) {
  std::string word = argc > 1 ? argv[1] : "";
  if (word.starts_with("--grid="))
    return runGrid(word.substr(7), {argv + 2, argv + argc});
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
