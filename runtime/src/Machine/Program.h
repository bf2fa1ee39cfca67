//===- Program.h - The program of an executable, parsed --------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The JSON of `llrt/Program.h` as C++ values, checked once: every address lies
// in its arena, every block that is called exists, sizes agree with shapes.
// What comes after may rely on it.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_MACHINE_PROGRAM_H
#define LLRT_MACHINE_PROGRAM_H

#include "llrt/Kernels.h"
#include "llrt/Program.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace llrt {

// Bytes of one element.
int64_t typeSize(LlrtType type);

// `f32`, `bf16`, `f64`, `i64`.
const char *typeName(LlrtType type);

// A byte of an arena; `arena` is an index into `Program::arenas`.
struct Address {
  int64_t arena, offset;
};

struct Arena {
  std::string name;
  int64_t bytes;
};

// A named input or output of a graph.
struct Buffer {
  std::string name;
  LlrtType type;
  std::vector<int64_t> shape;
  Address address;

  int64_t elements() const;
};

// A parameter: rows [rowBegin, rowEnd) of the checkpoint tensor
// `checkpointKey`.
struct Parameter {
  enum class Initializer { Normal, Ones, Zeros, Gate };

  std::string name;
  std::string checkpointKey;
  std::vector<int64_t>
      checkpointShape;      // of the whole tensor; empty for a scalar
  int64_t rowBegin, rowEnd; // 0, 1 for a scalar
  LlrtType type;            // of storage, the type that blocks read
  int64_t elements;         // of the rows
  bool trainable;
  Initializer initializer;
  Address address;
  LlrtType gradientType = LLRT_F32; // in which gradients are summed
  // Set exactly if `trainable`; all but the gradient have the master type.
  std::optional<Address> master, gradient, moment1, moment2;

  int64_t rowElements() const; // elements of one row of the checkpoint tensor
};

// One call of a compiled block.
struct Call {
  std::string name;
  LlrtBlock block;
  std::vector<Address> buffers;
};

struct Graph {
  std::vector<Call> calls;
  std::map<std::string, Buffer> outputs;
};

struct Action {
  enum class Kind { Run, GradientNorm, Update };

  Kind kind;
  std::string graph;      // Run
  int64_t microBatch = 0; // Run
  Call call;              // GradientNorm, Update
  Address address = {}; // GradientNorm: its result; Update: its hyperparameters
};

struct Program {
  nlohmann::json
      options; // as given to the compiler, see `docs/commands/info.md`
  int64_t batch, textLength, images, microBatches;
  std::string precision;

  struct Model {
    std::string type, hash;
    int64_t vocabulary, extraRows;
    int64_t imageToken; // -1: the model reads no images
    int64_t beginToken, padToken;
    std::vector<int64_t> endTokens;
    int64_t tileSize, tiles; // pixels of a tile's side; tiles per image
    double initializerRange;
  } model;

  double forwardOperations, stepOperations;
  std::vector<Arena> arenas;
  std::vector<Parameter> parameters;
  std::vector<Buffer> inputs; // of one micro-batch
  std::map<std::string, Graph> graphs;
  std::map<std::string, std::vector<Action>> programs;

  // Type of masters, gradients, moments, norms and losses: f32, or f64 under
  // f64.
  LlrtType masterType() const;

  // Samples of one step: batch * microBatches.
  int64_t globalBatch() const { return batch * microBatches; }

  // Null if there is none.
  const Buffer *findInput(const std::string &name) const;

  // Throws Error if the text is not a program or a block is missing.
  static Program parse(const LlrtProgram &compiled);
};

// What this machine's CPU lacks of `features` (LLVM's names, ended by null).
// Features that the C++ compiler knows no test for are taken to be there.
std::vector<std::string> missingCpuFeatures(const char *const *features);

} // namespace llrt
#endif // LLRT_MACHINE_PROGRAM_H
