//===- Meetings.h - Encoder work that all ranks begin together -*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_PARALLELIZE_PLAN_MEETINGS_H
#define LLAMAC_LIB_PARALLELIZE_PLAN_MEETINGS_H

#include "llamac/Plan/Schedule.h"

namespace mlir::llamac::plan {

/// With Schedule::encoderMeets, where encode(g) and encode_backward(g) stand in
/// the lists. Needs every rank to have each of them once.
class Meetings {
public:
  explicit Meetings(const Schedule &schedule)
      : groups(schedule.groups()), parts(schedule.encoderParts) {
    if (!schedule.encoderMeets)
      return;
    places.resize(schedule.ranks.size() * groups * 2 * parts);
    for (size_t r = 0; r < schedule.ranks.size(); ++r)
      for (size_t i = 0; i < schedule.ranks[r].size(); ++i)
        if (mayMeet(schedule.ranks[r][i].work))
          places[place(r, schedule.ranks[r][i])] = i;
  }

  bool isMeeting(const Action &a) const { return !places.empty() && mayMeet(a.work); }
  /// Whether rank r, which has `done` actions behind it, has come to meeting
  /// `a`.
  bool reached(size_t r, const Action &a, size_t done) const { return done >= places[place(r, a)]; }

private:
  size_t place(size_t r, const Action &a) const {
    size_t kind = (r * groups + a.microBatch) * 2 + (a.work == Work::EncodeBackward);
    return kind * parts + a.part;
  }
  size_t groups, parts;
  std::vector<size_t> places; ///< [rank][group][encode, encode_backward][part]
};

} // namespace mlir::llamac::plan

#endif // LLAMAC_LIB_PARALLELIZE_PLAN_MEETINGS_H
