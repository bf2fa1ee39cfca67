//===- Meetings.h - Encoder work that all stages begin together -*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_PLAN_PLAN_MEETINGS_H
#define LLAMAC_LIB_PLAN_PLAN_MEETINGS_H

#include "llamac/Plan/Schedule.h"

namespace mlir::llamac::plan {

/// With Schedule::encoderMeets, where encode(g) and encode_backward(g) stand in
/// the lists. Needs every stage to have each of them once.
class Meetings {
public:
  explicit Meetings(const Schedule &schedule)
      : groups(schedule.groups()), parts(schedule.encoderParts) {
    if (!schedule.encoderMeets)
      return;
    places.resize(schedule.stages.size() * groups * 2 * parts);
    for (size_t s = 0; s < schedule.stages.size(); ++s)
      for (size_t i = 0; i < schedule.stages[s].size(); ++i)
        if (mayMeet(schedule.stages[s][i].work))
          places[place(s, schedule.stages[s][i])] = i;
  }

  bool isMeeting(const Action &a) const { return !places.empty() && mayMeet(a.work); }
  /// Whether stage s, which has `done` actions behind it, has come to meeting
  /// `a`.
  bool reached(size_t s, const Action &a, size_t done) const { return done >= places[place(s, a)]; }

private:
  size_t place(size_t s, const Action &a) const {
    size_t kind = (s * groups + a.microBatch) * 2 + (a.work == Work::EncodeBackward);
    return kind * parts + a.part;
  }
  size_t groups, parts;
  std::vector<size_t> places; ///< [stage][group][encode, encode_backward][part]
};

} // namespace mlir::llamac::plan

#endif // LLAMAC_LIB_PLAN_PLAN_MEETINGS_H
