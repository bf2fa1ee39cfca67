//===- Steps.cpp - One step, one forward ----------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// B samples of a micro-batch, S tokens, V vocabulary entries
//
//===----------------------------------------------------------------------===//

#include "src/Commands/Steps.h"

#include "src/Commands/Inputs.h"
#include "src/Commands/Weights.h"
#include "src/Data/Error.h"

#include <algorithm>
#include <cmath>
#include <cstring>

using namespace llrt;

BatchShape llrt::batchShape(const Program &program, int64_t samples) {
  return {samples,
          program.textLength,
          program.images,
          program.model.tileSize,
          program.model.vocabulary,
          program.model.extraRows};
}

int64_t llrt::roundUpSamples(const Program &program, int64_t samples) {
  int64_t step = program.grid.ranks() == 1 ? program.batch : program.globalBatch();
  return (samples + step - 1) / step * step;
}

static bool isFinite(const StepResult &result) {
  return std::isfinite(result.loss) && std::isfinite(result.gradientNorm);
}

void llrt::requireFinite(int64_t step, const StepResult &result) {
  if (!isFinite(result))
    throw NotFinite("step " + std::to_string(step) + ": expected finite numbers, got loss " +
                    std::to_string(result.loss) + ", gradient norm " +
                    std::to_string(result.gradientNorm));
}

StepResult llrt::runStep(Ranks &ranks, const ModelInputs &inputs, const Optimizer &optimizer,
                         int64_t step) {
  StepQueue steps(ranks, optimizer);
  steps.begin(inputs, step);
  return *steps.finish();
}

std::optional<StepResult> StepQueue::begin(const ModelInputs &inputs, int64_t step) {
  const double lossGradient = inputs.validTokens ? 1.0 / double(inputs.validTokens) : 0;
  const std::array<double, 8> hyperparameters = optimizer.hyperparameters(step);
  ranks.each([&](Rank &rank) {
    Events events;
    events.prepare = [&, lossGradient](const Graph &graph, int64_t microBatch) {
      setInputs(rank, graph, inputs, microBatch, lossGradient);
    };
    setEntryInputs(rank, nullptr);
    rank.begin(known::step, events, ranks.program().microBatches);
  });
  std::optional<StepResult> before = read();
  if (before && !isFinite(*before)) {
    ranks.each([](Rank &rank) { rank.wait(); });
    return before;
  }
  ranks.each([&](Rank &rank) {
    setEntryInputs(rank, &hyperparameters);
    rank.finish();
  });
  const Rank &first = ranks.first();
  unread = {inputs.validTokens, first.readLater(first.stage().sums, 2 * sizeof(double))};
  return before;
}

std::optional<StepResult> StepQueue::finish() {
  ranks.each([](Rank &rank) { rank.wait(); });
  return read();
}

std::optional<StepResult> StepQueue::read() {
  if (!unread)
    return std::nullopt;
  std::array<double, 2> sums; // of all ranks together
  std::memcpy(sums.data(), unread->sums->wait(), sizeof(sums));
  const int64_t tokens = unread->tokens;
  unread.reset();
  return StepResult{sums[0] / double(std::max<int64_t>(1, tokens)), tokens, std::sqrt(sums[1])};
}

// Whether the logits of `graph` are those of tokens that an input numbers.
static bool takesTokens(const Stage &stage, const Graph &graph) {
  return std::any_of(graph.inputs.begin(), graph.inputs.end(),
                     [&](size_t index) { return stage.inputs[index].name == known::logitTokens; });
}

// The logits of `graph`, if this rank is one of those that have them: of equal
// parts, the rank with coordinates 0.
static const Output *logitsOf(const Rank &rank, const Graph &graph) {
  auto found = graph.outputs.find("logits");
  if (found == graph.outputs.end())
    return nullptr;
  const Grid &grid = rank.program().grid;
  for (size_t axis = 0; axis < grid.axes.size(); ++axis) {
    const std::string &name = grid.axes[axis].name;
    bool divides = name == "dp" || name == "pp";
    for (const Axes &axes : found->second.split)
      divides |= std::find(axes.begin(), axes.end(), axis) != axes.end();
    if (!divides && grid.coordinate(rank.number(), axis) != 0)
      return nullptr;
  }
  return &found->second;
}

void Logits::forEachToken(
    const std::function<void(int64_t, int64_t, int64_t, const TensorView &)> &visit) const {
  const Program &program = rank.program();
  const Grid &grid = program.grid;
  std::optional<size_t> cp = grid.find("cp");
  std::vector<int64_t> order = tokenOrder(program.textLength, cp ? grid.axes[*cp].size : 1);
  if (!tokens.empty())
    order = tokens;
  auto part = [&](size_t dimension) {
    return output.split.empty() ? 0 : grid.index(rank.number(), output.split[dimension]);
  };
  int64_t S = output.shape[1], V = output.shape[2]; // of this part
  // Behind the vocabulary there may be padding.
  int64_t begin = part(2) * V;
  int64_t count = std::min(V, program.model.vocabulary - begin);
  if (count <= 0)
    return;
  int64_t sample = firstSample(program, rank.number(), microBatch);
  int64_t rowBytes = V * typeSize(output.type);
  std::vector<std::byte> row(rowBytes);
  Address from = output.address;
  for (int64_t b = 0; b < program.batch; ++b)
    for (int64_t s = 0; s < S; ++s, from.offset += rowBytes) {
      int64_t token = part(1) * S + s;
      if (token >= int64_t(order.size()))
        continue; // fewer are wanted
      rank.read(from, rowBytes, row.data());
      visit(sample + b, order[token], begin, viewOf(row.data(), output.type, count));
    }
}

double llrt::runForward(Ranks &ranks, const ModelInputs &inputs,
                        const std::function<void(const Logits &)> &read,
                        const std::vector<int64_t> &tokens) {
  static const std::vector<int64_t> all;
  ranks.each([&](Rank &rank) {
    Events events;
    events.prepare = [&](const Graph &graph, int64_t microBatch) {
      setInputs(rank, graph, inputs, microBatch, 0, tokens);
    };
    events.finish = [&](const Graph &graph, int64_t microBatch) {
      if (const Output *logits = read ? logitsOf(rank, graph) : nullptr)
        read(Logits(rank, *logits, takesTokens(rank.stage(), graph) ? tokens : all, microBatch));
    };
    setEntryInputs(rank, nullptr);
    rank.run(known::forward, events, inputs.shape.samples / rank.program().batch);
  });
  return ranks.first().readValues<double>(ranks.first().stage().sums, 1)[0];
}

int64_t llrt::logitTokens(const Program &program) {
  const Output *logits = nullptr;
  bool some = false; // not all
  for (const Stage &stage : program.stages)
    for (const Action &entry : stage.programs.at(known::forward))
      if (entry.kind == Action::Kind::Run) {
        const Graph &graph = stage.graphs.at(entry.graph);
        if (auto found = graph.outputs.find("logits"); found != graph.outputs.end()) {
          logits = &found->second;
          some = takesTokens(stage, graph);
        }
      }
  if (!logits)
    fail("the program in this executable: program 'forward': expected an output "
         "'logits', got none");
  std::vector<int64_t> shape = {program.batch, program.textLength, program.model.vocabulary};
  if (some && logits->shape.size() == 3) {
    int64_t parts = logits->split.size() > 1 ? program.grid.size(logits->split[1]) : 1;
    shape[1] = std::clamp<int64_t>(logits->shape[1] * parts, 1, program.textLength);
  }
  const int64_t tokens = shape[1];
  for (size_t d = 0; d < logits->split.size() && d < shape.size(); ++d)
    if (int64_t parts = program.grid.size(logits->split[d]); d == 2)
      shape[d] = (shape[d] + parts - 1) / parts; // it may be padded
    else
      shape[d] /= parts;
  if (logits->shape != shape || logits->type == LLRT_I64)
    fail("the program in this executable: output 'logits': expected shape ", shapeText(shape),
         ", got ", shapeText(logits->shape), " of ", typeName(logits->type));
  return tokens;
}
