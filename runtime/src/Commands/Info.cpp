//===- Info.cpp - OUT info ------------------------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Commands/Commands.h"

#include "src/Data/SafeTensors.h"

#include <iomanip>
#include <iostream>

using namespace llrt;

static int info(const Program &program, const Arguments &) {
  std::ostream &out = std::cout;
  out << "program     " << program.model.hash << "\n"
      << "model       " << program.model.type << ", vocabulary "
      << program.model.vocabulary;
  if (program.images > 0)
    out << ", tiles of " << program.model.tileSize << " pixels, up to "
        << program.model.tiles << " per image";
  out << "\n\noptions\n";
  for (const auto &[name, value] : program.options.items())
    out << "  " << name << " = "
        << (value.is_string() ? value.get<std::string>() : value.dump())
        << "\n";

  out << "\nmemory of rank 0, bytes\n";
  int64_t total = 0;
  for (const Arena &arena : program.stages[0].arenas) {
    out << "  " << std::setw(16) << arena.bytes << "  " << arena.name << "\n";
    total += arena.bytes;
  }
  out << "  " << std::setw(16) << total << "  total\n"
      << "\nfloating-point operations\n"
      << std::setprecision(6) << "  step     " << program.stepOperations << "\n"
      << "  forward  " << program.forwardOperations << "\n";

  int64_t elements = 0, trainable = 0;
  out << "\nparameters\n";
  for (const Parameter &p : program.stages[0].parameters) {
    out << "  " << p.checkpointKey << " " << shapeText(p.checkpointShape);
    if (!p.checkpointShape.empty() &&
        p.rowEnd - p.rowBegin != p.checkpointShape[0])
      out << " rows " << p.rowBegin << ".." << p.rowEnd;
    out << " " << typeName(p.type) << (p.trainable ? "" : " frozen") << "\n";
    elements += p.elements;
    trainable += p.trainable ? p.elements : 0;
  }
  out << "  " << elements << " elements, " << trainable << " trainable\n";
  return 0;
}

Command llrt::infoCommand() {
  return {"info", "Print options, memory, operations and parameters.",
          [](const Program &) { return std::vector<Option>(); }, info};
}
