//===- Rules.cpp - All rules, one after another -------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Findings.h"

namespace mlir::llamac::check {

void Findings::fault(const char *rule, std::string message) {
  structural |= rule[1] <= '3';
  if (++counts[rule] <= 10)
    certificate.faults.push_back({rule, std::move(message)});
}

std::string Findings::where(Place p) const {
  return program.classes[p.cls].name + ", action " + std::to_string(p.action) + " (" +
         at(p).location + ")";
}

std::string Findings::typeName(int type) const {
  return type >= 0 && type < int(program.types.size()) ? program.types[type].name
                                                       : std::to_string(type);
}

std::string Findings::axesOf(uint32_t bits) const {
  std::string text;
  for (int axis = 0; axis < 32; ++axis)
    if (bits >> axis & 1)
      text += (text.empty() ? "" : ", ") +
              (axis < int(program.axes.size()) ? program.axes[axis] : std::to_string(axis));
  return text.empty() ? "none" : text;
}

Certificate checkProgram(const Program &program) {
  Findings found(program);
  if (!checkNumbers(found))
    return std::move(found.certificate);
  for (int c = 0; c < found.classes(); ++c) {
    checkStreams(found, c);
    checkSizes(found, c);
    checkGradients(found, c);
  }
  Matched matched = matchCalls(found);
  if (found.certificate.faults.empty())
    for (int c = 0; c < found.classes(); ++c) {
      checkMemory(found, c);
      checkDevice(found, c);
    }
  if (!found.structural)
    checkCycles(found, matched);
  return std::move(found.certificate);
}

} // namespace mlir::llamac::check
