//===- Steps.cpp - One step, one forward ----------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Commands/Steps.h"

#include "src/Commands/Commands.h"
#include "src/Commands/Weights.h"
#include "src/Data/Error.h"

#include <cmath>
#include <cstring>
#include <numeric>

using namespace llrt;

BatchShape llrt::batchShape(const Program &program, int64_t samples) {
  return {samples,
          program.textLength,
          program.images,
          program.model.tileSize,
          program.model.vocabulary,
          program.model.extraRows};
}

// Copies micro-batch `microBatch` of `inputs` into the memory of the program.
static void setInputs(const Rank &rank, const ModelInputs &inputs,
                      int64_t microBatch, double lossGradient) {
  auto set = [&](const Buffer &to, const auto &from) {
    size_t size = sizeof(from[0]);
    size_t count = to.elements();
    if (from.size() < (microBatch + 1) * count)
      fail("the program in this executable: input '", to.name, "': expected ",
           from.size() / inputs.shape.samples * rank.program().batch,
           " elements, got ", count);
    const auto *rows = from.data() + microBatch * count;
    if (size == sizeof(int64_t) && to.type == LLRT_I64)
      std::memcpy(rank.at<void>(to.address), rows, count * size);
    else if (size == sizeof(float) && to.type != LLRT_I64)
      convert(viewOf(rows, LLRT_F32, int64_t(count)), to.type,
              rank.at<void>(to.address), to.name);
    else
      fail("the program in this executable: input '", to.name,
           "': expected another type, got ", typeName(to.type));
  };
  for (const Buffer &to : rank.stage().inputs) {
    if (to.name == "input_ids")
      set(to, inputs.inputIds);
    else if (to.name == "labels")
      set(to, inputs.labels);
    else if (to.name == "positions" || to.name == "key_positions")
      set(to, inputs.positions);
    else if (to.name == "documents" || to.name == "key_documents")
      set(to, inputs.documents);
    else if (to.name == "image_begin")
      set(to, inputs.imageBegin);
    else if (to.name == "image_end")
      set(to, inputs.imageEnd);
    else if (to.name == "tiles")
      set(to, inputs.tiles);
    else if (to.name == "image_positions") // 0, 1, .. of every image
      std::iota(rank.at<int64_t>(to.address),
                rank.at<int64_t>(to.address) + to.elements(), 0);
    else if (to.name == "aspect_ratio_ids")
      set(to, inputs.aspectIds);
    else if (to.name == "pixels")
      set(to, inputs.pixels);
    else if (to.name == "loss_gradient")
      rank.setMasterScalar(to.address, 0, lossGradient);
    else
      fail("the program in this executable: unknown input '", to.name, "'");
  }
}

void llrt::requireFinite(int64_t step, const StepResult &result) {
  if (!std::isfinite(result.loss) || !std::isfinite(result.gradientNorm))
    throw Failure("step " + std::to_string(step) +
                  ": expected finite numbers, got loss " +
                  std::to_string(result.loss) + ", gradient norm " +
                  std::to_string(result.gradientNorm));
}

StepResult llrt::runStep(Rank &rank, const ModelInputs &inputs,
                         const Optimizer &optimizer, int64_t step,
                         const std::function<void()> &gradientsReady) {
  const Program &program = rank.program();
  int64_t tokens = inputs.validTokens;
  StepResult result = {0, tokens, 0};
  Address loss = rank.output("step", "loss").address;
  rank.zeroGradients();
  Events events;
  events.prepare = [&](int64_t microBatch) {
    setInputs(rank, inputs, microBatch, tokens ? 1.0 / double(tokens) : 0);
  };
  events.finish = [&](int64_t) { result.loss += rank.masterScalar(loss); };
  events.gradientsReady = [&](double sumOfSquares) {
    result.gradientNorm = std::sqrt(sumOfSquares);
    if (gradientsReady)
      gradientsReady();
  };
  events.hyperparameters = [&] {
    return optimizer.hyperparameters(step, result.gradientNorm);
  };
  rank.run("step", events, program.microBatches);
  result.loss = tokens ? result.loss / double(tokens) : 0;
  return result;
}

double llrt::runForward(Rank &rank, const ModelInputs &inputs,
                        const std::function<void(int64_t)> &finish) {
  double sum = 0;
  Address loss = rank.output("forward", "loss").address;
  Events events;
  events.prepare = [&](int64_t microBatch) {
    setInputs(rank, inputs, microBatch, 0);
  };
  events.finish = [&](int64_t microBatch) {
    sum += rank.masterScalar(loss);
    if (finish)
      finish(microBatch);
  };
  rank.run("forward", events, inputs.shape.samples / rank.program().batch);
  return sum;
}

const Buffer &llrt::logitsOutput(const Rank &rank) {
  const Program &program = rank.program();
  const Buffer &logits = rank.output("forward", "logits");
  std::vector<int64_t> shape = {program.batch, program.textLength,
                                program.model.vocabulary};
  if (logits.shape != shape || logits.type == LLRT_I64)
    fail("the program in this executable: output 'logits': expected shape ",
         shapeText(shape), ", got ", shapeText(logits.shape), " of ",
         typeName(logits.type));
  return logits;
}
