//===- Gradients.cpp - Every gradient is reduced once (R9) --------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A gradient is a partial sum over some axes of the grid. Going through the launch list, the
// axes of every call that reduces it are taken off: none may be taken twice, none that is not
// there, and none may be left.
//
//===----------------------------------------------------------------------===//
#include "Findings.h"

namespace mlir::llamac::check {

void checkGradients(Findings &found, int c) {
  const Program &program = found.program;
  const RankClass &cls = program.classes[c];
  std::vector<uint32_t> done(cls.gradients.size(), 0);
  std::vector<int> last(cls.gradients.size(), -1);
  for (int i = 0; i < int(cls.actions.size()); ++i)
    for (const Call &call : cls.actions[i].calls) {
      if (call.gradient < 0)
        continue;
      const Gradient &gradient = cls.gradients[call.gradient];
      uint32_t &axes = done[call.gradient];
      if (call.count != gradient.count || call.type != gradient.type)
        found.fault("R9", "gradient '" + gradient.name + "' of " + std::to_string(gradient.count) +
                              " elements of type " + found.typeName(gradient.type) +
                              " is reduced as " + std::to_string(call.count) + " of type " +
                              found.typeName(call.type) + " in " + found.where({c, i}));
      if (axes & call.axes)
        found.fault("R9", "gradient '" + gradient.name + "' is reduced twice over one axis: in " +
                              found.where({c, last[call.gradient]}) + " and in " +
                              found.where({c, i}));
      if (call.axes & ~gradient.partialAxes)
        found.fault("R9", "gradient '" + gradient.name +
                              "' is reduced over an axis on which it is whole in " +
                              found.where({c, i}));
      axes |= call.axes;
      last[call.gradient] = i;
    }
  for (size_t g = 0; g < cls.gradients.size(); ++g)
    if (cls.gradients[g].partialAxes & ~done[g])
      found.fault("R9", cls.name + ": gradient '" + cls.gradients[g].name +
                            "' is not reduced over every axis on which it is "
                            "partial: " +
                            found.axesOf(cls.gradients[g].partialAxes) +
                            "; reduced: " + found.axesOf(done[g]));
}

} // namespace mlir::llamac::check
