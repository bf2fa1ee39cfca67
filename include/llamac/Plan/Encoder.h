//===- Encoder.h - Encoder work among the stages' work ---------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The image encoder is replicated on all stages. For every group of consecutive
// micro-batches each stage encodes its share, the states are gathered, and each
// stage applies the key/value sides of its cross-attention layers; backward in
// reverse. This puts those actions into the launch lists, into idle time where
// they fit.
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_PLAN_ENCODER_H
#define LLAMAC_PLAN_ENCODER_H

#include "llamac/Plan/Partition.h"
#include "llamac/Plan/Timeline.h"

#include <climits>

namespace mlir::llamac::plan {

/// How encoder work is put into a schedule without it.
struct EncoderPolicy {
  /// Groups encoded beyond those that the first stage has begun; at least 1.
  int ahead = 1;
  /// encode(g) comes before the stage's next other action once the first stage
  /// has begun the forward this many micro-batches before the group; at
  /// least 1.
  int lead = 1;
  /// encode_backward(g) comes before the stage's next other action if more than
  /// this many groups wait for it; else only into idle time.
  int backlog = 0;
  /// Idle time counts if it is at least this part of the encoder action.
  double fit = 0;
};

/// A schedule with encoder work in it.
struct EncoderSchedule {
  Schedule schedule;
  EncoderPolicy policy;    ///< what made it
  double seconds = 0;      ///< of the step
  int encodedInFlight = 0; ///< groups between encode and encode_backward, most on a stage
  int statesInFlight = 0;  ///< groups between states and states_gradient, most on a stage
};

/// Puts the encoder work of groups of `groupSize` micro-batches into
/// `schedule`, which has none (but says in how many parts), by one policy: runs the schedule in time, and at
/// each decision of a stage takes the encoder action that the policy forces,
/// else one that fits before the stage's next action can start, else that
/// action. states(g) stands before the stage's first forward of g,
/// states_gradient(g) after its last backward of g. Deterministic; O(actions *
/// stages).
Result<EncoderSchedule> placeEncoder(const Schedule &schedule, const Costs &costs, int groupSize,
                                     const EncoderPolicy &policy);

/// The policy with the shortest step among `encoderPolicies(schedule,
/// groupSize)` that keep at most `mostInFlight` groups between encode and
/// encode_backward on any stage; of equals the first. If none does, the error
/// gives the number that works.
Result<EncoderSchedule> placeEncoder(const Schedule &schedule, const Costs &costs, int groupSize,
                                     int mostInFlight = INT_MAX);
std::vector<EncoderPolicy> encoderPolicies(const Schedule &schedule, int groupSize);

/// For comparison: all groups encoded before the first forward, all
/// encode_backward after the last backward; nothing in bubbles.
Result<EncoderSchedule> placeEncoderOutside(const Schedule &schedule, const Costs &costs,
                                            int groupSize);

} // namespace mlir::llamac::plan

#endif // LLAMAC_PLAN_ENCODER_H
