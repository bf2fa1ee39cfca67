//===- Meetings.h - Encoder work that all ranks begin together -*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_PARALLELIZE_PLAN_MEETINGS_H
#define LLAMAC_LIB_PARALLELIZE_PLAN_MEETINGS_H

#include "llamac/Parallelize/Plan/Schedule.h"

namespace mlir::llamac::plan {

/// With Schedule::encoderMeets, where encode(g) and encode_backward(g) stand in
/// the lists. Needs every rank to have each of them once.
class Meetings {
public:
  explicit Meetings(const Schedule &schedule) : groups(schedule.groups()) {
    if (!schedule.encoderMeets)
      return;
    places.resize(schedule.ranks.size() * groups * 2);
    for (size_t r = 0; r < schedule.ranks.size(); ++r)
      for (size_t i = 0; i < schedule.ranks[r].size(); ++i)
        if (isKind(schedule.ranks[r][i].work))
          places[place(r, schedule.ranks[r][i])] = i;
  }

  bool isMeeting(const Action &a) const {
    return !places.empty() && isKind(a.work);
  }
  /// Whether rank r, which has `done` actions behind it, has come to meeting
  /// `a`.
  bool reached(size_t r, const Action &a, size_t done) const {
    return done >= places[place(r, a)];
  }

private:
  static bool isKind(Work work) {
    return work == Work::Encode || work == Work::EncodeBackward;
  }
  size_t place(size_t r, const Action &a) const {
    return (r * groups + a.microBatch) * 2 + (a.work == Work::EncodeBackward);
  }
  size_t groups;
  std::vector<size_t> places; ///< [rank][group][encode, encode_backward]
};

} // namespace mlir::llamac::plan

#endif // LLAMAC_LIB_PARALLELIZE_PLAN_MEETINGS_H
