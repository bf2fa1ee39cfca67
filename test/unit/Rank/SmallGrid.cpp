//===- SmallGrid.cpp - Programs of ranks that are threads -----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "SmallGrid.h"

#include "src/Host/HostDevice.h"

#include <thread>

using namespace llrt;
using namespace llrt::test;

void llrt::test::runAll(Program &program,
                        const std::function<std::vector<Action>(int64_t rank)> &entries,
                        const std::function<void(Rank &)> &begin,
                        const std::function<void(Rank &)> &end, double timeout) {
  int64_t count = program.grid.ranks();
  InProcess control(count);
  Threads transport(count);
  // Each rank has its own list: a program of its own with the same grid.
  std::vector<Program> programs(count, program);
  std::vector<std::thread> threads;
  std::mutex mutex;
  std::exception_ptr failure;
  for (int64_t number = 0; number < count; ++number) {
    programs[number].stages[0].programs["step"] = entries(number);
    threads.emplace_back([&, number] {
      try {
        Rank rank(programs[number], number, 1,
                  std::make_unique<HostDevice>(programs[number], number, 1, transport.of(number),
                                               control.of(number),
                                               std::chrono::duration<double>(timeout)),
                  {"step"});
        begin(rank);
        rank.run("step", {}, 1);
        std::lock_guard lock(mutex);
        end(rank);
      } catch (...) {
        std::lock_guard lock(mutex);
        if (!failure)
          failure = std::current_exception();
        control.stop();
      }
    });
  }
  for (std::thread &thread : threads)
    thread.join();
  if (failure)
    std::rethrow_exception(failure);
}
