//===- SmallGrid.h - Programs of ranks that are threads --------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_TEST_MACHINE_SMALLGRID_H
#define LLRT_TEST_MACHINE_SMALLGRID_H

#include "SmallProgram.h"

#include "src/Control/InProcess.h"
#include "src/Rank/Rank.h"
#include "src/Transport/Threads.h"

#include <gtest/gtest.h>

namespace llrt::test {

// Runs `entries(rank)` on a thread for each rank, after `begin` has filled its
// memory; `end` sees it then. Rethrows what the first one throws.
void runAll(Program &program, const std::function<std::vector<Action>(int64_t rank)> &entries,
            const std::function<void(Rank &)> &begin, const std::function<void(Rank &)> &end,
            double timeout = 20);

} // namespace llrt::test
#endif // LLRT_TEST_MACHINE_SMALLGRID_H
