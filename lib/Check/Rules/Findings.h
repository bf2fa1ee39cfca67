//===- Findings.h - What the rules have in common --------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_CHECK_RULES_FINDINGS_H
#define LLAMAC_LIB_CHECK_RULES_FINDINGS_H

#include "llamac/Check/Rules.h"

#include <map>

namespace mlir::llamac::check {

/// An action of a class.
struct Place {
  int cls;
  int action;
};

/// The program that is checked, and what is wrong with it so far.
class Findings {
public:
  explicit Findings(const Program &program) : program(program) {}

  /// Notes a fault; of each rule at most ten are listed.
  void fault(const char *rule, std::string message);

  int classes() const { return int(program.classes.size()); }
  const LaunchedAction &at(Place p) const { return program.classes[p.cls].actions[p.action]; }
  /// An action, for messages.
  std::string where(Place p) const;
  std::string typeName(int type) const;
  std::string axesOf(uint32_t bits) const;

  const Program &program;
  Certificate certificate;
  bool structural = false; ///< R1 to R3 are broken: waits have no meaning

private:
  std::map<std::string, int> counts; // by rule
};

/// Calls that belong together.
struct Matched {
  std::vector<std::pair<Place, Place>> pairs; ///< a send, its receive
  std::vector<std::vector<Place>> meetings;   ///< a collective on all members
};

/// R1: numbers that the other rules index with. Nothing else may be checked if they are wrong.
bool checkNumbers(Findings &found);
/// R2 and R3 of a class.
void checkStreams(Findings &found, int cls);
/// R1 of a class: a call moves the bytes that its action reads and writes, in their types.
void checkSizes(Findings &found, int cls);
/// R1: pairs the k-th calls.
Matched matchCalls(Findings &found);
/// R9 of a class.
void checkGradients(Findings &found, int cls);
/// R7 of a class.
void checkMemory(Findings &found, int cls);
/// R5 and R6 of a class; finds Certificate::held.
void checkDevice(Findings &found, int cls);
/// R4; finds Certificate::launchQueue and streams.
void checkCycles(Findings &found, const Matched &matched);

} // namespace mlir::llamac::check

#endif // LLAMAC_LIB_CHECK_RULES_FINDINGS_H
