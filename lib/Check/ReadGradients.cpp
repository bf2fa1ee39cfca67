//===- ReadGradients.cpp - Which collectives reduce which gradients -------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A gradient is a partial sum over the axes on which its parameter lies whole and its terms do
// not. Each has to be reduced once over exactly these, in one of three ways:
//
//   --fsdp=none         gradient --------------all_reduce (step's end)--------> in place
//   --fsdp=optimizer    sum of the step ---reduce_scatter over dp (step's end)---> shard
//   --fsdp=gradients    frame of the unit --reduce_scatter over dp, each run--> shard,
//                       which is reduced over the other axes at the step's end
//
// What has to be is found from parameters and storage, not from the collectives.
//
//===----------------------------------------------------------------------===//
#include "ProgramReader.h"

#include "runtime/include/llrt/ProgramFields.h"

using namespace mlir;
using namespace mlir::llamac;
using dist::AddressAttr;
using dist::InstanceAttr;

/// Whole weights come from the shards of their unit; its gradient goes there.
void ProgramReader::checkUnit(dist::CollectiveOp op, const Item &item) {
  auto unitOf = [](auto &units, std::optional<InstanceAttr> instance) {
    return instance ? units.lookup(instance->getFrame()) : dist::UnitOp();
  };
  const int64_t ranks = items.communicators[items.communicator(op.getCommunicator())].ranks;
  const int64_t elements = int64_t(op.getOuter()) * op.getElements() * ranks;
  auto group = items.symbols.lookup<dist::CommunicatorOp>(op.getCommunicator());
  const bool overData = group.getAxes() && axesOf(group) == SmallVector<StringRef>{"dp"} &&
                        op.getOuter() == 1 && !op.getMaximum() && !op.getToType();
  auto isOf = [&](dist::UnitOp unit, std::optional<AddressAttr> shard,
                  std::optional<AddressAttr> address) {
    return overData && shard == address && elements == int64_t(unit.getElements());
  };
  if (dist::UnitOp unit = unitOf(weightsOf, op.getWrites()))
    if (op.getKind() != dist::CollectiveKind::AllGather ||
        !isOf(unit, unit.getWeights(), op.getFrom()) || op.getType() != unit.getType() ||
        op.getAccumulate() || op.getWrites()->getOffset())
      faults.push_back({"R7", item.what + " does not gather the weights of '" +
                                  unit.getSymName().str() + "' from their shards"});
  if (dist::UnitOp unit = unitOf(gradientOf, op.getReads()))
    if (op.getKind() != dist::CollectiveKind::ReduceScatter || !op.getAccumulate() ||
        !isOf(unit, unit.getGradient(), op.getTo()) || op.getReads()->getOffset() ||
        op.getGradients() != unit.getParameters())
      faults.push_back({"R9", item.what + " does not add the gradient of '" +
                                  unit.getSymName().str() + "' to its shards"});
}

uint32_t ProgramReader::axesOfGradient(llama::ParameterOp parameter) {
  auto image = imageAxes.find(parameter.getSymName());
  return gradientAxes(items.axes, parameter,
                      image == imageAxes.end() ? std::nullopt : std::optional(image->second),
                      stagesOf.lookup(parameter.getSymName()));
}

/// The gradients of the stage: one unit for each list of parameters that are reduced
/// together. What the check needs to know of a unit is found from its parameters, not from
/// its collectives.
LogicalResult ProgramReader::readGradients() {
  auto fault = [&](const Twine &message) { faults.push_back({"R9", message.str()}); };
  // What is sharded and has no sum of the step beside it is reduced over dp after every run.
  auto isInShards = [&](StringRef name) {
    dist::StorageOp place = items.storage.lookup(name);
    return place && place.getShard() && !place.getGradientSum();
  };
  auto partialAxes = [&](llama::ParameterOp parameter) {
    uint32_t bits = axesOfGradient(parameter);
    for (auto [i, axis] : llvm::enumerate(items.axes))
      if (axis.name == "dp" && isInShards(parameter.getSymName()))
        bits &= ~(1u << i);
    return bits;
  };

  llvm::StringMap<int> unitOf;
  for (auto program : module.getOps<dist::ProgramOp>()) {
    if (int64_t(program.getStage()) != stage || program.getName() != llrt::known::step)
      continue;
    for (auto op : program.getBody().getOps<dist::CollectiveOp>()) {
      if (!op.getGradients() || op.getGradients()->empty() || !op.getFrom() || op.getReads())
        continue;
      auto [unit, isNew] = units.try_emplace(*op.getGradients(), int(cls->gradients.size()));
      std::string where = locationOf(op, "a " + stringifyCollectiveKind(op.getKind()));
      const int64_t count = op.getOuter() * op.getElements();
      const bool scatters = op.getKind() == dist::CollectiveKind::ReduceScatter;
      const int64_t ranks = items.communicators[items.communicator(op.getCommunicator())].ranks;
      const int64_t bytes = count * (scatters ? ranks : 1) * widthOf(op.getType());
      auto from = *op.getFrom();
      int64_t needed = count;
      StringRef misplaced;
      bool sums = !op.getMaximum() && !op.getAccumulate() &&
                  (scatters || op.getKind() == dist::CollectiveKind::AllReduce);
      for (auto name : op.getGradients()->getAsRange<FlatSymbolRefAttr>()) {
        auto parameter = items.symbols.lookup<llama::ParameterOp>(name.getAttr());
        dist::StorageOp place = items.storage.lookup(name.getValue());
        if (!parameter || !place || !place.getGradient())
          return op.emitOpError("names '")
                 << name.getValue() << "', which has no gradient on stage " << stage;
        if (isNew) {
          if (name == (*op.getGradients())[0]) {
            std::string text = name.getValue().str();
            if (op.getGradients()->size() > 1)
              text += " and " + std::to_string(op.getGradients()->size() - 1) + " more";
            cls->gradients.push_back(
                {text, partialAxes(parameter), count, typeNumber(items.gradientType)});
          } else if (partialAxes(parameter) != cls->gradients.back().partialAxes) {
            fault("gradients of '" + cast<FlatSymbolRefAttr>((*op.getGradients())[0]).getValue() +
                  "' and '" + name.getValue() +
                  "' are partial over different axes, but reduced together by " + where);
          }
          if (!unitOf.try_emplace(name.getValue(), unit->second).second)
            fault("gradient of '" + name.getValue() +
                  "' is reduced twice, in two pieces: again by " + where);
        }
        sums &= !scatters || place.getGradientSum(); // of which each rank gets a part
        // All of it has to be reduced: the sum of this rank, or the shard of its unit.
        bool sum = place.getGradientSum().has_value() && scatters;
        AddressAttr at = sum ? *place.getGradientSum() : *place.getGradient();
        int64_t elements = parameter.getTensorType().getNumElements();
        if (auto shard = place.getShard(); shard && !sum)
          for (const Axis &axis : items.axes)
            if (axis.name == "dp")
              elements = (*shard)[1] / axis.size;
        int64_t begin = at.getOffset(), end = begin + elements * widthOf(op.getType());
        if (at.getArena() != from.getArena() || begin < from.getOffset() ||
            end > from.getOffset() + bytes)
          needed = std::max(needed + 1, (end - from.getOffset()) / widthOf(op.getType()));
        // The sum goes to where the norm and the update read it.
        if (auto shard = place.getShard(); !shard)
          elements = parameter.getTensorType().getNumElements();
        else
          elements = (*shard)[1] / sizeOfAxis(items.axes, "dp");
        const AddressAttr to = op.getTo().value_or(from), result = *place.getGradient();
        const int64_t width = widthOf(op.getToType().value_or(op.getType()));
        if (result.getArena() != to.getArena() || result.getOffset() < to.getOffset() ||
            result.getOffset() + elements * width > to.getOffset() + count * width ||
            (!scatters && to != from))
          misplaced = name.getValue();
      }
      if (!sums)
        fault("gradient of '" + cast<FlatSymbolRefAttr>((*op.getGradients())[0]).getValue() +
              "' is not summed by " + where);
      if (needed != count) // the check names both
        cls->gradients[unit->second].count = needed;
      else if (!misplaced.empty())
        fault("sum of the gradient of '" + misplaced + "' is not where it belongs: by " + where);
    }
  }
  for (auto parameter : module.getOps<llama::ParameterOp>()) {
    dist::StorageOp place = items.storage.lookup(parameter.getSymName());
    if (!place || !place.getGradient() || unitOf.contains(parameter.getSymName()))
      continue;
    if (uint32_t bits = partialAxes(parameter))
      cls->gradients.push_back({parameter.getSymName().str(), bits,
                                parameter.getTensorType().getNumElements(),
                                typeNumber(items.gradientType)});
  }
  return success();
}
