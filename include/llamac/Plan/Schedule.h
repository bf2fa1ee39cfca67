//===- Schedule.h - Pipeline schedules as data -----------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What every stage (one pipeline rank) does, in launch order. Blocks are cut into chunks; a
// stage has one, or several if the schedule is interleaved. The same object feeds the IR,
// the simulator and the picture. 1F1B on 3 stages, 4 micro-batches (a backward
// is two wide):
//
//   stage 0  F0 F1 F2 .. .. .. .. B0 B0 F3 B1 B1 .. B2 B2 .. B3 B3
//   stage 1  .. F0 F1 .. .. B0 B0 F2 B1 B1 F3 B2 B2 .. B3 B3
//   stage 2  .. .. F0 B0 B0 F1 B1 B1 F2 B2 B2 F3 B3 B3
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
  BackwardInput,  ///< I: gradient of the chunk's input
  BackwardWeight, ///< W: gradients of the chunk's parameters
  Encode,         ///< this stage's share of the images of a group
  States,         ///< image states arrive; key/value sides of this stage's cross layers
  StatesGradient, ///< backward of the key/value sides; the sum of dZ leaves
  EncodeBackward, ///< backward of this stage's share of the images of a group
};

/// True for the four kinds that concern a group of micro-batches and every
/// stage.
inline bool isEncoderWork(Work work) { return work >= Work::Encode; }
/// Whether all stages may begin it together (Schedule::encoderMeets).
inline bool mayMeet(Work work) { return work == Work::Encode || work == Work::EncodeBackward; }

/// One action of one stage.
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
  std::vector<int> stageOfChunk;           ///< that holds it
  std::vector<std::vector<Action>> stages; ///< the actions of each, in launch order
  int groupSize = 0; ///< micro-batches of an encoder group; 0: no encoder work
  /// encode(g), and encode_backward(g), are so many actions of equal length, one
  /// after the other on each stage, with others between: they fit into shorter
  /// idle times.
  int encoderParts = 1;
  /// encode(g), and encode_backward(g), of all stages begin together: there are
  /// collectives of all ranks in them (tokens split over the stages).
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

/// All forwards, then all backwards. `stages` and `microBatches` at least 1, as
/// below. Source: Huang et al., GPipe, arXiv 1811.06965.
Result<Schedule> gpipe(int stages, int microBatches);

/// One micro-batch after the other: forward and backward through all stages before the next
/// begins. Holds least memory of all schedules (one micro-batch on every stage) and is idle for
/// (stages - 1) / stages of the time: a bound for memory, and an order in which a hang is easy to
/// read.
Result<Schedule> sequential(int stages, int microBatches);

/// Warm-up of stages - 1 - s forwards on stage s, then one forward, one backward.
/// Source: Narayanan et al., PipeDream-Flush, arXiv 2006.09503.
Result<Schedule> oneForwardOneBackward(int stages, int microBatches);

/// `chunks` chunks per stage; groups of `consecutive` micro-batches (the paper's
/// N) pass one chunk before the next. The last group, of microBatches mod
/// consecutive unless that is 0, must have at least `stages` micro-batches: with
/// fewer, a forward of the next chunk waits for a forward that its own stage has
/// behind it. The error names the nearest N and the nearest number of
/// micro-batches that work. Source: Llama 3, arXiv 2407.21783, section 3.3.2;
/// Narayanan et al., arXiv 2104.04473.
Result<Schedule> interleaved(int stages, int microBatches, int chunks, int consecutive);

/// ZB-H1: 1F1B with split backward; stage s runs its weight halves s
/// micro-batches late, so that at most `stages` micro-batches hold memory, as in
/// 1F1B. Source: Qi et al., Zero Bubble Pipeline Parallelism, arXiv 2401.10241.
Result<Schedule> zeroBubbleH1(int stages, int microBatches);

/// Reads PyTorch's form: one row per stage, cells
/// `<stage><F|B|I|W><micro-batch>`, empty cells for idle slots. Checked like
/// any schedule; errors begin with `name: row R, column C` (from 1) and name
/// the cell.
Result<Schedule> readCsv(std::string_view text, const std::string &name);

/// Writes PyTorch's form, without empty cells; leaves encoder work out, which
/// is placed from costs (Encoder.h) and not read back.
std::string writeCsv(const Schedule &schedule);

/// Checks that every chunk has F once and B, or I and W, once for every
/// micro-batch, all on its stage, and that the order can run: F waits
/// for F of the chunk before, B and I for F and for B or I of the chunk after,
/// W for I; encoder work likewise, of all stages together if it meets. The error names the action that can never
/// start and what it waits for.
std::optional<Error> validate(const Schedule &schedule);

/// Greatest number of micro-batches whose memory lives at once.
struct InFlight {
  int residuals = 0; ///< forward done, B or I not
  int carried = 0;   ///< I done, W not: what zero-bubble carries between the halves
  int both = 0;      ///< forward done, B or W not
};
/// Per chunk, from the launch order of its stage.
std::vector<InFlight> inFlight(const Schedule &schedule);

} // namespace mlir::llamac::plan

#endif // LLAMAC_PLAN_SCHEDULE_H
