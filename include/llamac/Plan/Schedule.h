//===- Schedule.h - Pipeline schedules as data -----------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What every pipeline rank does, in launch order. The same object feeds the IR,
// the simulator and the picture. 1F1B on 3 ranks, 4 micro-batches (a backward
// is two wide):
//
//   rank 0  F0 F1 F2 .. .. .. .. B0 B0 F3 B1 B1 .. B2 B2 .. B3 B3
//   rank 1  .. F0 F1 .. .. B0 B0 F2 B1 B1 F3 B2 B2 .. B3 B3
//   rank 2  .. .. F0 B0 B0 F1 B1 B1 F2 B2 B2 F3 B3 B3
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_PLAN_SCHEDULE_H
#define LLAMAC_PLAN_SCHEDULE_H

#include "llamac/Plan/Result.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mlir::llamac::plan {

enum class Work : uint8_t {
  Forward,        ///< F
  Backward,       ///< B: both halves at once
  BackwardInput,  ///< I: gradient of the stage's input
  BackwardWeight, ///< W: gradients of the stage's parameters
  Encode,         ///< this rank's share of the images of a group
  States,         ///< image states arrive; key/value sides of this rank's cross layers
  StatesGradient, ///< backward of the key/value sides; the sum of dZ leaves
  EncodeBackward, ///< backward of this rank's share of the images of a group
};

/// True for the four kinds that concern a group of micro-batches and every
/// rank.
inline bool isEncoderWork(Work work) { return work >= Work::Encode; }
/// Whether all ranks may begin it together (Schedule::encoderMeets).
inline bool mayMeet(Work work) { return work == Work::Encode || work == Work::EncodeBackward; }

/// One action of one rank.
struct Action {
  Work work;
  int chunk;      ///< in the order of the chain; -1:
                  ///< encoder work
  int microBatch; ///< for encoder work: the group
  int part = 0;   ///< of encoder work, in the order they run (Schedule::partsOf)
  bool operator==(const Action &) const = default;
};

/// "3F12" in PyTorch's form; encoder work is "encode2", "states2",
/// "states_gradient2", "encode_backward2".
std::string toString(const Action &action);

struct Schedule {
  int microBatches = 0;
  std::vector<int> stageOfChunk; ///< that holds it
  std::vector<std::vector<Action>>
      ranks;         ///< launch order of each stage, which is one pipeline rank
  int groupSize = 0; ///< micro-batches of an encoder group; 0: no encoder work
  /// encode(g), and encode_backward(g), are so many actions of equal length, one
  /// after the other on each rank, with others between: they fit into shorter
  /// idle times.
  int encoderParts = 1;
  /// encode(g), and encode_backward(g), of all ranks begin together: there are
  /// collectives of all ranks in them (tokens split over the pipeline's ranks).
  bool encoderMeets = false;
  int chunks() const { return int(stageOfChunk.size()); }
  /// states(g) is one action, or two: the group's first micro-batch, so that its
  /// forward need not wait for the others, and the rest behind that forward.
  /// states_gradient(g) is one, or two: all but the last kLateGradients micro-batches
  /// before the backwards of these, and these.
  bool splitsStates = false;
  static constexpr int kLateGradients = 2;

  int partsOf(Work work) const {
    return !isEncoderWork(work) ? 1 : mayMeet(work) ? encoderParts : 1 + splitsStates;
  }
  /// The micro-batches [first, second) of a part of states(g) or states_gradient(g).
  std::pair<int, int> microBatchesOf(const Action &action) const;
  int groups() const { return groupSize ? (microBatches + groupSize - 1) / groupSize : 0; }
};

/// All forwards, then all backwards. `ranks` and `microBatches` at least 1, as
/// below. Source: Huang et al., GPipe, arXiv 1811.06965.
Result<Schedule> gpipe(int ranks, int microBatches);

/// One micro-batch after the other: forward and backward through all stages before the next
/// begins. Holds least memory of all schedules (one micro-batch on every rank) and is idle for
/// (ranks - 1) / ranks of the time: a bound for memory, and an order in which a hang is easy to
/// read.
Result<Schedule> sequential(int ranks, int microBatches);

/// Warm-up of ranks - 1 - r forwards, then one forward, one backward.
/// Source: Narayanan et al., PipeDream-Flush, arXiv 2006.09503.
Result<Schedule> oneForwardOneBackward(int ranks, int microBatches);

/// `chunks` stages per rank; groups of `consecutive` micro-batches (the paper's
/// N) pass one chunk before the next. The last group, of microBatches mod
/// consecutive unless that is 0, must have at least `ranks` micro-batches: with
/// fewer, a forward of the next chunk waits for a forward that its own rank has
/// behind it. The error names the nearest N and the nearest number of
/// micro-batches that work. Source: Llama 3, arXiv 2407.21783, section 3.3.2;
/// Narayanan et al., arXiv 2104.04473.
Result<Schedule> interleaved(int ranks, int microBatches, int chunks, int consecutive);

/// ZB-H1: 1F1B with split backward; rank r runs its weight halves r
/// micro-batches late, so that at most `ranks` micro-batches hold memory, as in
/// 1F1B. Source: Qi et al., Zero Bubble Pipeline Parallelism, arXiv 2401.10241.
Result<Schedule> zeroBubbleH1(int ranks, int microBatches);

/// Reads PyTorch's form: one row per rank, cells
/// `<stage><F|B|I|W><micro-batch>`, empty cells for idle slots. Checked like
/// any schedule; errors begin with `name: row R, column C` (from 1) and name
/// the cell.
Result<Schedule> readCsv(std::string_view text, const std::string &name);

/// Writes PyTorch's form, without empty cells; leaves encoder work out, which
/// is placed from costs (Encoder.h) and not read back.
std::string writeCsv(const Schedule &schedule);

/// Checks that every stage has F once and B, or I and W, once for every
/// micro-batch, all on the stage's rank, and that the order can run: F waits
/// for F of the stage before, B and I for F and for B or I of the stage after,
/// W for I; encoder work likewise, of all ranks together if it meets. The error names the action that can never
/// start and what it waits for.
std::optional<Error> validate(const Schedule &schedule);

/// Greatest number of micro-batches whose memory lives at once.
struct InFlight {
  int residuals = 0; ///< forward done, B or I not
  int carried = 0;   ///< I done, W not: what zero-bubble carries between the halves
  int both = 0;      ///< forward done, B or W not
};
/// Per stage, from the launch order of its rank.
std::vector<InFlight> inFlight(const Schedule &schedule);

} // namespace mlir::llamac::plan

#endif // LLAMAC_PLAN_SCHEDULE_H
