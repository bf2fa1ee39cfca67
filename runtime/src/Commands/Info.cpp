//===- Info.cpp - OUT info ------------------------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Commands/Commands.h"

#include "llrt/MemoryTable.h"
#include "src/Commands/Memory.h"

#include "src/Commands/Weights.h"

#include <iomanip>
#include <iostream>
#include <unordered_map>

using namespace llrt;

static int info(const Program &program, const Arguments &) {
  std::ostream &out = std::cout;
  out << "program     " << program.model.hash << "\n"
      << "model       " << program.model.type << ", vocabulary " << program.model.vocabulary;
  if (program.images > 0)
    out << ", tiles of " << program.model.tileSize << " pixels, up to " << program.model.tiles
        << " per image";
  out << "\n\ncomputation\n";
  for (const auto &[name, value] : program.model.computation.items())
    out << "  " << name << " = " << (value.is_string() ? value.get<std::string>() : value.dump())
        << "\n";
  out << "\noptions\n";
  for (const auto &[name, value] : program.options.items())
    out << "  " << name << " = " << (value.is_string() ? value.get<std::string>() : value.dump())
        << "\n";

  const Grid &grid = program.grid;
  if (grid.ranks() > 1) {
    out << "\nranks       " << grid.ranks() << ", outermost axis first:";
    for (const Grid::Axis &axis : grid.axes)
      out << " " << axis.name << " " << axis.size;
    out << "\n";
  }
  out << "\n" << memoryTables(memoryOf(program, {"step"}), memoryOf(program, {"forward"}));
  out << "\nfloating-point operations\n"
      << std::setprecision(6) << "  step     " << program.stepOperations << "\n"
      << "  forward  " << program.forwardOperations << "\n";

  if (const auto programs = program.certificate.find(field::programs);
      programs != program.certificate.end()) {
    out << "\nchecked by the compiler: no deadlock, no race; each gradient reduced "
           "once\n";
    for (const auto &[name, facts] : programs->items())
      out << "  " << std::left << std::setw(9) << name << std::right
          << facts.value(field::actions, 0) << " actions, at most "
          << facts.value(field::communicators, 0) << " communicators of a rank, launch queue of "
          << facts.value(field::launchQueue, 0) << "\n";
  }

  int64_t elements = 0, trainable = 0;
  out << "\nparameters\n";
  std::unordered_map<std::string, std::vector<size_t>> stagesOf;
  for (size_t stage = 0; stage < program.stages.size(); ++stage)
    for (const Parameter &p : program.stages[stage].parameters)
      stagesOf[p.name].push_back(stage);
  Weights weights(program);
  for (const Weights::Placed &placed : weights.parameters()) {
    const Parameter &p = *placed.parameter;
    out << "  " << p.checkpointKey << " " << shapeText(p.checkpointShape);
    if (!p.checkpointShape.empty() && p.rowEnd - p.rowBegin != p.checkpointShape[0])
      out << " rows " << p.rowBegin << ".." << p.rowEnd;
    out << " " << typeName(p.type) << (p.trainable ? "" : " frozen");
    if (program.stages.size() > 1)
      out << ", " << stagesText(stagesOf[p.name]);
    for (size_t d = 0; d < p.split.size(); ++d)
      if (!p.split[d].empty()) {
        out << ", dimension " << d << " split over";
        for (size_t axis : p.split[d])
          out << " " << grid.axes[axis].name;
      }
    if (p.shard)
      out << (p.shard->storage ? ", weights and state" : ", state") << " sharded over "
          << grid.axes[p.shard->axis].name;
    out << "\n";
    elements += p.wholeElements();
    trainable += p.trainable ? p.wholeElements() : 0;
  }
  out << "  " << elements << " elements, " << trainable << " trainable\n";
  return 0;
}

Command llrt::infoCommand() {
  return {"info", "Print options, memory, operations and parameters.",
          [](const Program &) { return std::vector<Option>(); }, info};
}
