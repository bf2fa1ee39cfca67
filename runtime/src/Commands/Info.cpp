//===- Info.cpp - OUT info ------------------------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Commands/Commands.h"

#include "llrt/MemoryTable.h"
#include "src/Commands/DeviceInfo.h"
#include "src/Commands/Memory.h"
#include "src/Commands/Weights.h"

#include <iomanip>
#include <iostream>
#include <set>
#include <unordered_map>

using namespace llrt;

// Everything as one JSON object; docs/commands/info.md says what it has.
static nlohmann::json infoJson(const Program &program) {
  using json = nlohmann::json;
  json memory;
  for (const char *name : {known::step, known::forward})
    for (const ArenaSizes &stage : memoryOf(program, {name})) {
      json of = json::object();
      for (const auto &[arena, bytes] : stage)
        of[arena] = of.value(arena, int64_t(0)) + bytes;
      memory[name].push_back(std::move(of));
    }
  json axes = json::array(), parameters = json::array();
  for (const Grid::Axis &axis : program.grid.axes)
    axes.push_back({{"name", axis.name}, {"size", axis.size}});
  json logits = json::array();
  for (const Program::Logits &of : program.logits)
    logits.push_back({{"block", of.block}, {"chunk", of.chunk}, {"rows", of.rows}});
  Weights weights(program);
  for (const Weights::Placed &placed : weights.parameters()) {
    const Parameter &p = *placed.parameter;
    parameters.push_back({{"key", p.checkpointKey},
                          {"shape", p.checkpointShape},
                          {"rows", json::array({p.rowBegin, p.rowEnd})},
                          {"type", typeName(p.type)},
                          {"trainable", p.trainable}});
  }
  json result = {
      {"program", program.model.hash},
      {"model", {{"type", program.model.type}, {"vocabulary", program.model.vocabulary}}},
      {"computation", program.model.computation},
      {"options", program.options},
      {"logits", logits},
      {"ranks", program.grid.ranks()},
      {"axes", axes},
      {"memory", memory},
      {"operations",
       {{known::step, program.stepOperations}, {known::forward, program.forwardOperations}}},
      {"certificate", program.certificate},
      {"parameters", parameters}};
  if (program.device)
    result["device"] = deviceJson(deviceFacts(program));
  return result;
}

// How many tokens' logits exist together: a line, or one for each block where they differ.
static void printLogits(const Program &program, std::ostream &out) {
  auto textOf = [](const Program::Logits &of) {
    return of.chunk >= of.rows ? "of all " + std::to_string(of.rows) + " tokens of a rank together"
                               : "of " + std::to_string(of.chunk) + " tokens at a time, of " +
                                     std::to_string(of.rows) + " of a rank";
  };
  std::set<std::string> texts;
  for (const Program::Logits &of : program.logits)
    texts.insert(textOf(of));
  if (texts.size() == 1)
    out << "\nlogits      " << *texts.begin() << "\n";
  else if (!texts.empty())
    out << "\n";
  for (const Program::Logits &of : program.logits)
    if (texts.size() > 1)
      out << "logits      " << of.block << ": " << textOf(of) << "\n";
}

static int info(const Program &program, const Arguments &arguments) {
  std::ostream &out = std::cout;
  const bool allKernels = arguments.choice("kernels", {"summary", "all"}) == "all";
  if (arguments.choice("format", {"text", "json"}) == "json") {
    out << infoJson(program).dump(2) << "\n";
    return 0;
  }
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

  printLogits(program, out);
  const Grid &grid = program.grid;
  if (grid.ranks() > 1) {
    out << "\nranks       " << grid.ranks() << ", outermost axis first:";
    for (const Grid::Axis &axis : grid.axes)
      out << " " << axis.name << " " << axis.size;
    out << "\n";
  }
  out << "\n" << memoryTables(memoryOf(program, {"step"}), memoryOf(program, {"forward"}));
  if (program.device) {
    out << "\n";
    printDevice(deviceFacts(program), allKernels, out);
  }
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
    for (const auto &[name, facts] : programs->items())
      if (facts.contains(field::multiprocessors))
        out << "  " << std::left << std::setw(9) << name << std::right
            << "nothing stops the device between entries; communication that waits holds at most "
            << facts.value(field::held, 0) << " of " << facts.value(field::multiprocessors, 0)
            << " multiprocessors; " << facts.value(field::streams, 0) << " streams in "
            << facts.value(field::queues, 0) << " queues\n";
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
          [](const Program &program) {
            std::vector<Option> options = {
                {"format", "text|json", "text", "For eyes, or for programs."},
                {"kernels", "summary|all", "summary",
                 "How much of the kernels of a device: all has a line for each."}};
            return options;
          },
          info};
}
