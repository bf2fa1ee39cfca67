//===- Rank.cpp - One rank: its memory and its interpreter ----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Machine/Rank.h"

#include "src/Data/Error.h"

#include <algorithm>
#include <cstring>

using namespace llrt;

Rank::Rank(const Program &program, int64_t number, int64_t threads)
    : compiled(program), number(number), arenas(stage()) {
  llrt_set_threads(threads);
}

const Buffer &Rank::output(const std::string &graph,
                           const std::string &output) const {
  const auto &outputs = stage().graphs.at(graph).outputs;
  auto found = outputs.find(output);
  if (found == outputs.end())
    fail("the program in this executable: graph '", graph,
         "': expected an output '", output, "', got none");
  return found->second;
}

double Rank::masterScalar(Address address) const {
  return compiled.masterType() == LLRT_F64 ? *at<double>(address)
                                           : double(*at<float>(address));
}

void Rank::setMasterScalar(Address address, int64_t index, double value) const {
  if (compiled.masterType() == LLRT_F64)
    at<double>(address)[index] = value;
  else
    at<float>(address)[index] = float(value);
}

void Rank::call(const Call &call, int64_t microBatch) {
  std::vector<void *> buffers;
  for (Address address : call.buffers)
    buffers.push_back(arenas.at(address));
  Trace::Clock::time_point begin = Trace::Clock::now();
  call.block(buffers.data());
  if (trace)
    trace->add(call.name, microBatch, begin, Trace::Clock::now());
}

void Rank::run(const std::string &name, const Events &events,
               int64_t microBatches) {
  for (const Action &action : stage().programs.at(name)) {
    switch (action.kind) {
    case Action::Kind::Run:
      if (action.microBatch >= microBatches)
        break;
      if (events.prepare)
        events.prepare(action.microBatch);
      for (const Action &item : stage().graphs.at(action.graph).items)
        call(item.calls[0], action.microBatch);
      if (events.finish)
        events.finish(action.microBatch);
      break;
    case Action::Kind::Statistics: {
      double squares = 0;
      for (const Call &each : action.calls) {
        call(each, -1);
        squares += masterScalar(each.address);
      }
      if (events.gradientsReady)
        events.gradientsReady(squares);
      break;
    }
    case Action::Kind::Update: {
      Hyperparameters h = events.hyperparameters();
      const double values[8] = {h.gradientScale, h.learningRate, h.beta1,
                                h.beta2,         h.epsilon,      h.weightDecay,
                                h.correction1,   h.correction2};
      for (const Call &each : action.calls) {
        for (int64_t i = 0; i < 8; ++i)
          setMasterScalar(each.address, i, values[i]);
        call(each, -1);
      }
      break;
    }
    default:
      fail("the program in this executable: expected no ",
           actionName(action.kind));
    }
  }
}

void Rank::zeroGradients() {
  // Split over the threads: these are the bytes of all trainable parameters.
  constexpr int64_t Chunk = int64_t(1) << 20;
  for (const Parameter &p : stage().parameters) {
    if (!p.trainable)
      continue;
    int64_t bytes = p.elements * typeSize(compiled.masterType());
    void *args[] = {at<void>(*p.gradient), &bytes};
    llrt_parallel_for(
        [](void **args, int64_t lo, int64_t hi) {
          int64_t end = std::min(hi * Chunk, *static_cast<int64_t *>(args[1]));
          std::memset(static_cast<char *>(args[0]) + lo * Chunk, 0,
                      end - lo * Chunk);
        },
        args, (bytes + Chunk - 1) / Chunk, 4);
  }
}
