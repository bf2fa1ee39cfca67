//===- Timeline.h - When every action of a schedule runs -------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Executes a schedule against durations: every stage computes one action at a
// time in launch order, transfers run beside it, one at a time for each pair of
// stages and direction. No closed formula is used; tests compare with them.
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_PLAN_TIMELINE_H
#define LLAMAC_PLAN_TIMELINE_H

#include "llamac/Plan/Schedule.h"

#include <limits>

namespace mlir::llamac::plan {

/// Seconds of one micro-batch on the chunk as it is (its speed counted).
struct MicroBatchTimes {
  double forward = 0, backwardInput = 0, backwardWeight = 0;
  double backward() const { return backwardInput + backwardWeight; }
};

/// Seconds of one micro-batch on one stage: its share of the encoder, and the
/// key/value sides of its own cross-attention layers.
struct EncoderTimes {
  double encode = 0, states = 0, statesGradient = 0, encodeBackward = 0;
};

/// Seconds of an action of encoder work on a stage with these times.
double encoderSeconds(const Schedule &schedule, const EncoderTimes &times, const Action &action);

/// A transfer of n bytes holds the link for n / bytesPerSecond and arrives
/// latency later.
struct Link {
  double latency = 0; ///< seconds
  double bytesPerSecond = std::numeric_limits<double>::infinity();
};

struct Costs {
  std::vector<MicroBatchTimes> chunks;  ///< one per chunk
  std::vector<EncoderTimes> encoder;    ///< one per stage; may be empty without encoder work
  double gatherSeconds = 0;             ///< image states of one group, to all stages
  double reduceSeconds = 0;             ///< gradient of the image states of one group
  int64_t boundaryBytes = 0;            ///< what one chunk sends the next, per micro-batch
  std::vector<std::vector<Link>> links; ///< [from][to]; empty: transfers take no time
};

/// One action on the compute stream of a stage.
struct Span {
  Action action;
  double begin, end; ///< seconds from the start of the step
};

/// One send of the result of `action`, with its receive.
struct Transfer {
  Action action;
  int from, to;      ///< stages
  double begin, end; ///< begin: the result is there and the link is free
};

struct Timeline {
  std::vector<std::vector<Span>> stages; ///< in launch order
  std::vector<Transfer> transfers;       ///< per link in order
  double seconds = 0;                    ///< of the step
  double busy(size_t stage) const;       ///< seconds of compute
};

/// Runs the schedule. Errors are those of validate(), or costs of another size.
Result<Timeline> execute(const Schedule &schedule, const Costs &costs);

/// The same costs for every chunk: for pictures and placement before costs are
/// known.
Costs equalCosts(const Schedule &schedule, MicroBatchTimes chunk = {1, 1, 1},
                 EncoderTimes encoder = {1, 1, 1, 1});

/// One entry of a stage's launch list with transfers in it.
struct Launch {
  enum Kind : uint8_t { Compute, Send, Receive } kind;
  Action action;     ///< for transfers: the action whose result travels
  int peer;          ///< the other stage of a transfer, else -1
  double begin, end; ///< seconds in the timeline
};

/// Launch lists with sends right after the action whose result they carry and
/// receives before the first action that starts, by the timeline, once the send
/// can begin. A receive placed only at its use would hold back the sender's
/// stream and need a deeper launch queue. Chunks on one stage need no transfer.
/// The timeline is of this schedule.
std::vector<std::vector<Launch>> placeTransfers(const Schedule &schedule, const Timeline &timeline);

/// The order of the timeline's work without that of the encoder. A backward, or half of one,
/// that is not there (nothing of the chunk is trained) stands where it could first run.
Schedule scheduleOf(const Timeline &timeline);

/// One line per stage, `columns` wide: an action is its letter and micro-batch,
/// then "-"; idle time is ".". Encoder work: e, s, g, d. Below them a time axis and what the
/// letters mean.
std::string drawText(const Timeline &timeline, int columns = 120);

/// The same as a picture with an axis and a legend; a tooltip on each action has its exact times.
std::string drawSvg(const Timeline &timeline);

} // namespace mlir::llamac::plan

#endif // LLAMAC_PLAN_TIMELINE_H
