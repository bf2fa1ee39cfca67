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

int main(int argc, char **argv) {
  return llrt::runMain(llrt_program, argc, argv);
}
