//===- Program.h - The program of an executable, parsed --------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The JSON of `llrt/Program.h` as C++ values, checked once: every address lies
// in its arena or frame, every block, graph and communicator that is named
// exists, sizes agree with shapes. What comes after may rely on it.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_PROGRAM_PROGRAM_H
#define LLRT_PROGRAM_PROGRAM_H

#include "llrt/Kernels.h"
#include "llrt/MemoryTable.h"
#include "llrt/Program.h"
#include "llrt/ProgramFields.h"
#include "src/Program/Grid.h"

#include <nlohmann/json.hpp>

#include <array>
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

// A byte of an arena (an index into `Stage::arenas`) or, within a graph, of a
// frame: `arena` is -1 - f for frame f of the run.
struct Address {
  int64_t arena, offset;

  bool operator==(const Address &) const = default;
};

// Memory of a graph, which its run gives it.
struct Frame {
  std::string name;
  int64_t bytes;
};

struct Arena {
  std::string name;
  int64_t bytes;                        // the most that a program needs
  std::map<std::string, int64_t> needs; // by program; one that is not named needs none
};

// A named tensor of a stage: an input or an output of its graphs.
struct Buffer {
  std::string name;
  LlrtType type;
  std::vector<int64_t> shape; // of this rank's part
  Address address;
  Split split;

  int64_t elements() const;
};

struct Input : Buffer {
  // For an input of the encoder: the first dimension counts the images of
  // `group` consecutive micro-batches, split over `axes`.
  struct Images {
    Axes axes;
    int64_t group;
  };
  std::optional<Images> images;
};

struct Output : Buffer {
  Axes partial; // the true value is the sum over these
};

// A parameter: rows [rowBegin, rowEnd) of the checkpoint tensor
// `checkpointKey`, of which a rank holds a part.
struct Parameter {

  // A part of a flat unit of parameters. Element e of this rank's part of the
  // parameter is element `begin + e` of the unit; coordinate c of `axis` holds
  // elements [c, c + 1) * elements / size.
  struct Shard {
    size_t axis;
    int64_t begin, elements;
    bool storage; // the weights are sharded as their state is
  };

  std::string name;
  std::string checkpointKey;
  std::vector<int64_t> checkpointShape; // of the checkpoint tensor; empty for a scalar
  int64_t rowBegin, rowEnd;             // 0, 1 for a scalar
  std::vector<int64_t> shape;           // of the whole parameter
  // Where `shape` is padded, so that ranks can share it: the part of it, from
  // 0 on, that files have. What is behind it is zero. Otherwise empty.
  std::vector<int64_t> inFiles;
  Split split;
  LlrtType type;    // of storage, the type that blocks read
  int64_t elements; // of this rank's part
  bool trainable;
  Initializer initializer;
  Address address;
  LlrtType gradientType = LLRT_F32; // in which gradients are summed
  // Set exactly if `trainable`; all but the gradient have the master type. The
  // start of the shard if there is one.
  std::optional<Address> master, gradient, moment1, moment2;
  std::optional<Shard> shard; // absent: state and weights are whole

  int64_t rowElements() const;   // elements of one row of the checkpoint tensor
  int64_t wholeElements() const; // of the whole parameter, without padding
  // Elements at `master`, `gradient` and the moments of one rank.
  int64_t stateElements(const Grid &grid) const {
    return shard ? shard->elements / grid.axes[shard->axis].size : elements;
  }
};

// One call of a compiled block.
struct Call {
  std::string name;
  LlrtBlock block;
  std::vector<Address> buffers;
};

// What a rank does: an item of a graph or an entry of a program. Which members
// count is said beside each.
struct Action {
  using Kind = ActionKind;
  enum class Reduction { Sum, Max };

  Kind kind;
  int64_t stream = 0;
  std::vector<int64_t> after; // indices of earlier actions of the same list
  std::string location;       // for messages; may be empty

  llrt::Call call; // Call

  size_t communicator = 0; // collectives, Slice, Send, Receive
  LlrtType type = LLRT_F32;
  int64_t outer = 1, elements = 0; // Send, Receive: outer is 1
  // Zero (its `to`) as well; Send: from; Receive: to.
  Address from = {}, to = {};
  Reduction reduction = Reduction::Sum; // AllReduce, ReduceScatter
  LlrtType toType = LLRT_F32;           // AllReduce, ReduceScatter
  bool accumulate = false;              // ReduceScatter
  // AllGather, AllReduce, ReduceScatter: memory beside `from` and `to` (llrt/Collectives.h).
  Address scratch = {};
  int64_t scratchBytes = 0;
  // Send, Receive: stage, chunk, micro-batch, value.
  std::array<int64_t, 4> tag = {};

  int64_t bytes = 0; // Zero

  std::string graph;           // Run
  int64_t microBatch = 0;      // Run; of an encoder's graph: the group; Call of an entry
  std::vector<Address> frames; // Run

  bool communicates() const; // a collective, Send or Receive
};

struct Graph {
  std::vector<Frame> frames;
  std::vector<size_t> inputs; // indices into Stage::inputs
  std::vector<Action> items;
  std::map<std::string, Output> outputs;
};

// What all ranks with one coordinate on axis `pp` have in common.
struct Stage {
  std::vector<Arena> arenas;
  std::vector<Parameter> parameters;
  std::vector<Input> inputs;
  std::vector<size_t> entryInputs; // those that no graph reads, but entries of programs
  Address sums;                    // two f64, of all ranks when a program is over: the losses
                                   // of valid tokens, the squares of the gradient's elements
  std::map<std::string, Graph> graphs;
  std::map<std::string, std::vector<Action>> programs;
  // On a device: the streams on which blocks have products, and the bytes of memory beside the
  // arenas that these have together, the same for each.
  std::vector<int64_t> productStreams;
  int64_t productBytes = 0;

  // The bytes of each arena with which all of the programs named `runs` can be run; absent
  // where none of them needs it.
  std::vector<std::optional<int64_t>> memoryOf(const std::vector<std::string> &runs) const;
};

struct Program {
  nlohmann::json options; // as given to the compiler, see `docs/commands/info.md`
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
    // Beginnings of keys of tensors that checkpoints of the model have and this
    // program does not read: those of images, where it was compiled without.
    std::vector<std::string> carried;
    // Names and values: what is computed with the weights and cannot be read off
    // their shapes. Weights that were trained here carry it.
    nlohmann::json computation = nlohmann::json::object();
    std::string config; // the text of a config.json; empty: not known
  } model;

  double forwardOperations, stepOperations;
  nlohmann::json certificate; // what the compiler proved; null: nothing
  // What a block has of logits: those of `chunk` tokens together, of `rows` of a rank.
  struct Logits {
    std::string block;
    int64_t chunk, rows;
  };
  std::vector<Logits> logits;
  Grid grid;
  std::vector<Communicator> communicators;
  std::vector<Stage> stages;

  const LlrtDeviceCode *device = nullptr; // the kernels of the executable; null on the host

  // Type of masters, moments, norms and losses: f32, or f64 under f64.
  LlrtType masterType() const;

  // Samples of one step: batch * microBatches on each coordinate of `dp`.
  int64_t globalBatch() const;

  // Bytes that the communicators of a rank of the stage take at most beside its arenas.
  int64_t communicatorBytes(size_t stage) const;

  // Multiprocessors that communication holds at a time, at most, while it waits for other ranks.
  int64_t heldMultiprocessors() const;

  size_t stageOf(int64_t rank) const { return grid.coordinate(rank, "pp"); }

  // Throws Error if the text is not a program or a block is missing.
  static Program parse(const LlrtProgram &compiled);
};

// What a rank of the stage has of its device's memory to run the programs named `runs`: its
// arenas, and what libraries take beside them.
ArenaSizes memoryOf(const Program &program, size_t stage, const std::vector<std::string> &runs);

// What this machine's CPU lacks of `features` (LLVM's names, ended by null).
// Features that the C++ compiler knows no test for are taken to be there.
std::vector<std::string> missingCpuFeatures(const char *const *features);

} // namespace llrt
#endif // LLRT_PROGRAM_PROGRAM_H
