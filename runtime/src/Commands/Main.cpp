//===- Main.cpp - The main of every executable ----------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// In a file of its own, so that tests can link the rest with programs of
// theirs.
//
//===----------------------------------------------------------------------===//

#include "src/Commands/Commands.h"

#include <cstdlib>
#include <unistd.h>

// libgomp's workers spin for milliseconds between two parallel regions. Where
// anything else runs on the machine (the thread that decodes images is enough)
// they take the cores from those they wait for: steps 10 times slower, measured.
// A few microseconds of spinning keep the regions cheap. libgomp reads its
// environment before `main`, hence the second start. The user's choice wins.
static void limitSpinning(char **argv) {
  if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY"))
    return;
  setenv("GOMP_SPINCOUNT", "300", 1);
  execv("/proc/self/exe", argv); // returns only if it failed: then go on
}

int main(int argc, char **argv) {
  limitSpinning(argv);
  return llrt::runMain(llrt_program, argc, argv);
}
