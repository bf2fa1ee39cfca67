//===- ScheduleProgram.h - A schedule in the form of the check -*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_TEST_RULES_SCHEDULEPROGRAM_H
#define LLAMAC_TEST_RULES_SCHEDULEPROGRAM_H

#include "llamac/Check/Rules.h"
#include "llamac/Plan/Timeline.h"

namespace mlir::llamac::check {

/// The program of a schedule as planned, before there is IR: compute on stream
/// 0, a communicator and stream for each pipeline edge and direction, two for
/// image states and their gradients, addresses reused once their last reader
/// has ended in the timeline behind `launches` (of placeTransfers), one
/// gradient per stage (and one for the encoder) reduced at the end. Locations
/// are "rank 2: 2F5".
Program scheduleProgram(const plan::Schedule &schedule,
                        const std::vector<std::vector<plan::Launch>> &launches);

} // namespace mlir::llamac::check

#endif // LLAMAC_TEST_RULES_SCHEDULEPROGRAM_H
