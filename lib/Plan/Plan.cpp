//===- Plan.cpp - From costs to what every stage does when ----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// 1. The schedule of the text's work, by its name or from a file.
// 2. The partition: seconds of the links with their key/value sides, bytes as they are sharded,
//    micro-batches in flight as the schedule has them.
// 3. The times of the schedule with that partition.
// 4. The encoder's work, put where the stages would wait otherwise (Encoder.h), or around the
//    work of the first stage.
// 5. The times again, transfers placed in them: the launch lists.
//
//===----------------------------------------------------------------------===//
#include "llamac/Plan/Plan.h"

#include "llamac/Plan/Encoder.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace mlir::llamac::plan {

/// Parts of the encoder's work on a group at most, each a piece of its own.
static constexpr int kMostEncoderParts = 8;

static Error wrong(const char *option, const std::string &message) {
  return {std::string("--") + option + ": " + message};
}

/// Adds seconds; both have the three fields.
template <typename Into, typename From> static void addSeconds(Into &into, const From &from) {
  into.forward += from.forward;
  into.backwardInput += from.backwardInput;
  into.backwardWeight += from.backwardWeight;
}

//===----------------------------------------------------------------------===//
// Schedule of the text
//===----------------------------------------------------------------------===//

namespace {
struct NamedSchedule {
  std::string_view name;
  Result<Schedule> (*make)(const PlanOptions &options);
};
using O = const PlanOptions &;
const NamedSchedule kSchedules[] = {
    {"1f1b", [](O o) { return oneForwardOneBackward(o.stages, o.microBatches); }},
    {"gpipe", [](O o) { return gpipe(o.stages, o.microBatches); }},
    {"interleaved",
     [](O o) {
       return interleaved(o.stages, o.microBatches, o.virtualStages,
                          o.consecutive > 0 ? o.consecutive : o.stages);
     }},
    {"sequential", [](O o) { return sequential(o.stages, o.microBatches); }},
    {"zero-bubble", [](O o) { return zeroBubbleH1(o.stages, o.microBatches); }},
};
} // namespace

std::vector<std::string_view> scheduleNames() {
  std::vector<std::string_view> names;
  for (const NamedSchedule &one : kSchedules)
    names.push_back(one.name);
  return names;
}

static Result<Schedule> namedSchedule(const PlanOptions &o) {
  for (const NamedSchedule &one : kSchedules)
    if (one.name == o.schedule)
      return one.make(o);
  return readCsv(o.scheduleCsv, o.schedule);
}

static Result<Schedule> makeSchedule(const PlanOptions &o, size_t links) {
  auto text = [](auto number) { return std::to_string(number); };
  if (o.virtualStages > 1 && o.schedule != "interleaved")
    return wrong("virtual-stages", "expected 1 with --schedule=" + o.schedule +
                                       " (only interleaved takes more), got " +
                                       text(o.virtualStages));
  if (size_t(o.stages) * o.virtualStages > links)
    return wrong(o.virtualStages > 1 ? "virtual-stages" : "grid",
                 "expected at most " + text(links) +
                     " pipeline stages (pp * virtual-stages), one for each layer, the embedding "
                     "and the head, got " +
                     text(o.stages * o.virtualStages));
  Result<Schedule> made = namedSchedule(o);
  if (!made)
    return wrong("schedule", made.error());
  // Only a file may be for something else.
  if (int(made->stages.size()) != o.stages || made->microBatches != o.microBatches)
    return wrong("schedule", o.schedule + ": expected " + text(o.stages) + " rows and " +
                                 text(o.microBatches) + " micro-batches, got " +
                                 text(made->stages.size()) + " and " + text(made->microBatches));
  if (size_t(made->chunks()) > links)
    return wrong("schedule", o.schedule + ": expected at most " + text(links) + " stages, got " +
                                 text(made->chunks()));
  return made;
}

//===----------------------------------------------------------------------===//
// Partition
//===----------------------------------------------------------------------===//

/// Bytes of a block on one rank, as its state is sharded. Master and moments are as large as
/// the gradient, each.
static void shardBytes(BlockCost &block, Fsdp fsdp, int64_t dataRanks) {
  int64_t gradients = block.optimizerBytes / 3, weights = block.parameterBytes - gradients;
  int64_t shards = block.optimizerBytes;
  if (fsdp != Fsdp::None && dataRanks > 1)
    shards += gradients + (fsdp == Fsdp::Parameters ? 0 : weights);
  block.optimizerBytes = shards / (fsdp == Fsdp::None ? 1 : dataRanks);
  const bool whole = fsdp == Fsdp::None || fsdp == Fsdp::Optimizer || dataRanks == 1;
  block.parameterBytes =
      (fsdp == Fsdp::Parameters ? weights / dataRanks : weights) + (whole ? gradients : 0);
}

/// The chain to be cut: links with their key/value sides, and an encoder on the first stage.
static PartitionProblem problemOf(const ModelCosts &costs, const PlanOptions &o,
                                  const Schedule &schedule) {
  PartitionProblem problem;
  problem.blocks = costs.links;
  for (size_t link = 0; link < problem.blocks.size(); ++link) {
    BlockCost &block = problem.blocks[link];
    const BlockCost &sides = costs.keyValues[link];
    addSeconds(block, sides);
    block.residualBytes += sides.residualBytes;
    block.parameterBytes += sides.parameterBytes;
    block.optimizerBytes += sides.optimizerBytes;
  }
  if (costs.hasEncoder() && o.encoder.firstStage) {
    problem.blocks[0].forward += costs.encoderTimes.forward / double(o.encoder.ranks);
    problem.blocks[0].backwardInput += costs.encoderTimes.backward() / double(o.encoder.ranks);
  }
  for (BlockCost &block : problem.blocks)
    shardBytes(block, o.fsdp, o.dataRanks);
  problem.chunks.resize(schedule.chunks());
  std::vector<InFlight> inFlight = plan::inFlight(schedule);
  for (int chunk = 0; chunk < schedule.chunks(); ++chunk) {
    const int stage = schedule.stageOfChunk[chunk];
    ChunkResource &resource = problem.chunks[chunk];
    resource.speed = o.network.speed(stage * o.ranksOfStage);
    if (!o.stageMemory.empty())
      resource.memoryBytes =
          std::max<int64_t>(0, o.stageMemory[stage] / (schedule.chunks() / o.stages));
    resource.inFlight = std::max(1, inFlight[chunk].both);
  }
  return problem;
}

static Result<Partition> cutChain(PartitionProblem problem, bool capped) {
  Result<Partition> solved = solvePartition(problem);
  if (int64_t lack = capped ? leastLack(problem) : 0) {
    for (ChunkResource &resource : problem.chunks)
      resource.memoryBytes += lack;
    solved = solvePartition(problem);
  }
  if (!solved)
    return wrong("grid", solved.error());
  return solved;
}

//===----------------------------------------------------------------------===//
// Times
//===----------------------------------------------------------------------===//

static Costs timesOf(const ModelCosts &model, const PlanOptions &o, const Schedule &schedule,
                     const Partition &partition) {
  Costs costs;
  std::vector<MicroBatchTimes> sidesOfStage(o.stages);
  for (int chunk = 0; chunk < schedule.chunks(); ++chunk) {
    MicroBatchTimes times;
    for (size_t link = partition.begin[chunk]; link < partition.begin[chunk + 1]; ++link) {
      addSeconds(times, model.links[link]);
      addSeconds(sidesOfStage[schedule.stageOfChunk[chunk]], model.keyValues[link]);
    }
    costs.chunks.push_back(times);
  }
  costs.boundaryBytes = model.boundaryBytes;
  for (int from = 0; from < o.stages; ++from) {
    std::vector<Link> &row = costs.links.emplace_back();
    for (int to = 0; to < o.stages; ++to)
      row.push_back(o.network.link(from * o.ranksOfStage, to * o.ranksOfStage));
  }
  if (!model.hasEncoder())
    return costs;
  const double bytes = double(model.stateBytes) * double(o.encoder.group);
  costs.gatherSeconds = o.network.collectiveSeconds(o.encoder.ranks, 1, bytes);
  // Gradients are summed in f32 at least.
  costs.reduceSeconds = o.network.collectiveSeconds(o.encoder.ranks, 1, 2 * bytes);
  for (int stage = 0; stage < o.stages; ++stage) {
    double share = o.encoder.firstStage && stage > 0 ? 0 : 1.0 / double(o.encoder.ranks);
    costs.encoder.push_back({model.encoderTimes.forward * share, sidesOfStage[stage].forward,
                             sidesOfStage[stage].backward(),
                             model.encoderTimes.backward() * share});
  }
  return costs;
}

//===----------------------------------------------------------------------===//
// The encoder's work
//===----------------------------------------------------------------------===//

/// Puts the work of an encoder on the first stage into the schedule: encode(g) before the
/// first forward of the group, its backward after the group's last backward; the other
/// stages only take the states, which the encode actions stand for.
///
///   stage 0   encode0 states0 F0 F1 B0 B1 states_gradient0 encode_backward0
///   stage 1   encode0 states0 F0 B0 F1 B1 states_gradient0 encode_backward0
static void placeOnFirstStage(Schedule &schedule, int group) {
  schedule.groupSize = group;
  for (size_t stage = 0; stage < schedule.stages.size(); ++stage) {
    std::vector<Action> with;
    auto everyGroup = [&](Work work) {
      for (int g = 0; g < schedule.groups(); ++g)
        with.push_back({work, -1, g});
    };
    if (stage > 0)
      everyGroup(Work::Encode);
    std::vector<int> left(schedule.groups(), 0); // backward actions of a group
    std::vector<bool> begun(schedule.groups(), false);
    auto isLast = [&](const Action &action) {
      return action.work == Work::Backward || action.work == Work::BackwardWeight;
    };
    for (const Action &action : schedule.stages[stage])
      left[action.microBatch / group] += isLast(action);
    for (const Action &action : schedule.stages[stage]) {
      const int g = action.microBatch / group;
      if (!begun[g]) {
        if (stage == 0)
          with.push_back({Work::Encode, -1, g});
        with.push_back({Work::States, -1, g});
        begun[g] = true;
      }
      with.push_back(action);
      if (isLast(action) && --left[g] == 0) {
        with.push_back({Work::StatesGradient, -1, g});
        if (stage == 0)
          with.push_back({Work::EncodeBackward, -1, g});
      }
    }
    if (stage > 0)
      everyGroup(Work::EncodeBackward);
    schedule.stages[stage] = std::move(with);
  }
}

/// Parts of the encoder's work on a group that fit between the actions of a stage: of half the
/// shortest backward at most, but no more than kMostEncoderParts.
static int countEncoderParts(const Costs &costs, int64_t group, size_t applications) {
  double least = std::numeric_limits<double>::infinity(), most = 0;
  for (const MicroBatchTimes &times : costs.chunks)
    if (times.backward() > 0)
      least = std::min(least, times.backward());
  for (const EncoderTimes &times : costs.encoder)
    most = std::max(most, double(group) * std::max(times.encode, times.encodeBackward));
  const int64_t wanted = least > 0 ? int64_t(std::ceil(std::min(2 * most / least, 1e6))) : 1;
  return int(
      std::clamp<int64_t>(wanted, 1, std::min<int64_t>(kMostEncoderParts, int64_t(applications))));
}

/// The part of each application, of `parts` of equal seconds.
static std::vector<int> cutEncoder(const std::vector<ModelCosts::Application> &encoder, int parts) {
  double total = 0, before = 0;
  for (const ModelCosts::Application &one : encoder)
    total += one.seconds;
  std::vector<int> partOf;
  for (const ModelCosts::Application &one : encoder) {
    int part = total > 0 ? int(parts * (before + one.seconds / 2) / total) : 0;
    partOf.push_back(std::min(part, parts - 1));
    before += one.seconds;
  }
  return partOf;
}

/// Puts the encoder's work into the plan's schedule.
static std::optional<Error> placeEncoderWork(Plan &plan, const ModelCosts &model,
                                             const PlanOptions &o, const Costs &costs) {
  plan.encoderPart.assign(model.encoder.size(), 0);
  // One stage has no bubbles to encode ahead in.
  if (o.encoder.firstStage || o.stages == 1) {
    placeOnFirstStage(plan.schedule, int(o.encoder.group));
    return std::nullopt;
  }
  // Tokens that stages share are gathered in the encoder's layers.
  plan.schedule.encoderMeets = o.encoder.meetsStages;
  if (!plan.schedule.encoderMeets) {
    plan.schedule.encoderParts = countEncoderParts(costs, o.encoder.group, model.encoder.size());
    plan.schedule.splitsStates = true;
    plan.encoderPart = cutEncoder(model.encoder, plan.schedule.encoderParts);
  }
  Result<EncoderSchedule> placed = placeEncoder(plan.schedule, costs, int(o.encoder.group));
  if (!placed)
    return wrong("encoder-group", placed.error());
  plan.schedule = placed->schedule;
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// All of it
//===----------------------------------------------------------------------===//

Result<Plan> makePlan(const ModelCosts &costs, const PlanOptions &o) {
  Result<Schedule> schedule = makeSchedule(o, costs.links.size());
  if (!schedule)
    return Error{schedule.error()};
  Plan plan;
  plan.schedule = *schedule;
  for (const std::vector<Action> &actions : plan.schedule.stages)
    for (const Action &action : actions)
      plan.splitBackward |= action.work == Work::BackwardInput;

  if (!o.stageMemory.empty() && int(o.stageMemory.size()) != o.stages)
    return wrong("stage-memory", "expected " + std::to_string(o.stages) +
                                     " numbers, one for each stage, got " +
                                     std::to_string(o.stageMemory.size()));
  Result<Partition> partition =
      cutChain(problemOf(costs, o, plan.schedule), !o.stageMemory.empty());
  if (!partition)
    return Error{partition.error()};
  plan.partition = *partition;

  const Costs times = timesOf(costs, o, plan.schedule, plan.partition);
  if (costs.hasEncoder())
    if (std::optional<Error> error = placeEncoderWork(plan, costs, o, times))
      return *error;
  Result<Timeline> timeline = execute(plan.schedule, times);
  if (!timeline)
    return wrong("schedule", timeline.error());
  plan.launches = placeTransfers(plan.schedule, *timeline);
  plan.seconds = timeline->seconds;
  return plan;
}

} // namespace mlir::llamac::plan
