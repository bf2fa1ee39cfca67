//===- Encoder.cpp - Encoder work among the stages' work ------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// List scheduling. Every stage proposes its next action and when it could start;
// the earliest proposal of all stages becomes true, and the proposals change. So
// a stage decides with what is known at that time. In the steady state no stage
// idles, so encode is forced on all stages by one event, the first stage's
// progress: then all stages are delayed alike, and the pipeline stays in step.
//
// Where encoder work meets (Schedule::encoderMeets), the first stage that decides
// for it waits, and all others take it at their next decision. So one meeting is
// open at a time, every stage comes to it, and the lists can run: they ran here.
//
//===----------------------------------------------------------------------===//
#include "llamac/Plan/Encoder.h"

#include <algorithm>
#include <climits>
#include <map>
#include <tuple>

namespace mlir::llamac::plan {

namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

class Placer {
public:
  Placer(const Schedule &text, const Costs &costs, int groupSize, const EncoderPolicy &policy)
      : costs(costs), policy(policy), out(text), chunks(text.chunks()) {
    out.groupSize = groupSize;
    stages.resize(text.stages.size());
    size_t groups = out.groups();
    for (size_t s = 0; s < stages.size(); ++s) {
      out.stages[s].clear();
      stages[s].list = withStates(text.stages[s], s);
    }
    size_t count = size_t(chunks) * out.microBatches;
    forwardThere.assign(count, kNever), backwardThere.assign(count, kNever);
    for (int m = 0; m < out.microBatches; ++m)
      forwardThere[slot(0, m)] = 0;
    firstChunk.assign(out.microBatches, kNever);
    encoded.assign(groups, {}), reduced.assign(groups, {});
  }

  Schedule run() {
    for (;;) {
      Proposal best{kNever, {}, false};
      size_t who = 0;
      for (size_t s = 0; s < stages.size(); ++s)
        if (Proposal p = propose(s); p.begin < best.begin)
          best = p, who = s;
      if (best.begin == kNever)
        return std::move(out);
      commit(who, best);
    }
  }

private:
  struct Stage {
    std::vector<Action> list; ///< text work with states and their gradients
    size_t next = 0;          ///< in list
    double free = 0;
    int encode = 0, encodeBackward = 0; ///< next parts, of all groups
    bool waits = false;                 ///< for others, at the open meeting
  };
  struct Gathering {
    size_t stages = 0;
    double last = 0;
  };
  struct Proposal {
    double begin;
    Action action;
    bool fromList;
  };

  size_t slot(int chunk, int microBatch) const {
    return size_t(chunk) * out.microBatches + microBatch;
  }

  /// Each part of states(g) before the first forward of what it is for, or, if that is
  /// not the group's first, behind the forward before it; each part of
  /// states_gradient(g) after the last backward of what it is for. A stage whose backward
  /// ends early enough does all of that behind it: before, it would hold up the others.
  std::vector<Action> withStates(const std::vector<Action> &list, size_t s) const {
    const int parts = out.partsOf(Work::States), count = out.groups() * parts;
    auto partOf = [&](Work work, int number) {
      return Action{work, -1, number / parts, number % parts};
    };
    // The last backward in the list of every part.
    std::vector<size_t> last(count, 0);
    for (size_t i = 0; i < list.size(); ++i)
      if (list[i].work == Work::Backward || list[i].work == Work::BackwardInput)
        for (int part = 0, group = list[i].microBatch / out.groupSize; part < parts; ++part) {
          auto [begin, end] = out.microBatchesOf({Work::StatesGradient, -1, group, part});
          if (begin <= list[i].microBatch && list[i].microBatch < end)
            last[group * parts + part] = i;
        }
    double early = 0; // than the first stage
    for (size_t chunk = 0; chunk < s && chunk < costs.chunks.size(); ++chunk)
      early += costs.chunks[chunk].backward();
    const bool hasTime = early >= out.groupSize * costs.encoder[s].statesGradient;
    for (int ends = parts - 1; ends < count; ends += parts)
      if (hasTime || ends + 1 < count) // between groups nobody idles
        std::fill(&last[ends + 1 - parts], &last[ends], last[ends]);
    // Groups go in order on every stage, because a collective is behind each.
    std::vector<Action> result;
    int begun = 0, ended = 0;
    for (size_t i = 0; i < list.size(); ++i) {
      const bool forward = list[i].work == Work::Forward;
      const int m = list[i].microBatch;
      while (forward && begun < count &&
             (out.microBatchesOf(partOf(Work::States, begun)).first <= m ||
              (begun > parts && begun % parts)))
        result.push_back(partOf(Work::States, begun++));
      result.push_back(list[i]);
      // The rest of the first group behind its first forward.
      if (forward && begun % parts)
        result.push_back(partOf(Work::States, begun++));
      while (ended < count && last[ended] <= i)
        result.push_back(partOf(Work::StatesGradient, ended++));
    }
    return result;
  }

  double gathered(const Gathering &g, double seconds) const {
    return g.stages == stages.size() ? g.last + seconds : kNever;
  }

  /// When the data of a list action is there, as far as known now.
  double there(const Action &a) const {
    switch (a.work) {
    case Work::Forward:
      return forwardThere[slot(a.chunk, a.microBatch)];
    case Work::Backward:
    case Work::BackwardInput:
      return a.chunk + 1 == chunks ? 0 : backwardThere[slot(a.chunk, a.microBatch)];
    case Work::States:
      return gathered(encoded[a.microBatch], costs.gatherSeconds);
    default:
      return 0;
    }
  }

  double duration(size_t s, const Action &a) const {
    if (!isEncoderWork(a.work)) {
      const MicroBatchTimes &t = costs.chunks[a.chunk];
      return a.work == Work::Forward         ? t.forward
             : a.work == Work::Backward      ? t.backward()
             : a.work == Work::BackwardInput ? t.backwardInput
                                             : t.backwardWeight;
    }
    return encoderSeconds(out, costs.encoder[s], a);
  }

  Proposal propose(size_t s) const {
    const Stage &stage = stages[s];
    if (meeting)
      return stage.waits ? Proposal{kNever, {}, false} : Proposal{stage.free, *meeting, false};
    Proposal main{kNever, {}, true};
    if (stage.next < stage.list.size()) {
      main.action = stage.list[stage.next];
      main.begin = std::max(stage.free, there(main.action));
    }
    // The next encode: allowed since `opened`, forced since `due`.
    auto begunAt = [&](int microBatch) {
      return microBatch < 0 ? 0.0 : firstChunk[std::min(microBatch, out.microBatches - 1)];
    };
    const int parts = out.encoderParts;
    Proposal encode{kNever, {Work::Encode, -1, stage.encode / parts, stage.encode % parts}, false};
    if (stage.encode < out.groups() * parts) {
      int first = stage.encode / parts * out.groupSize;
      double opened = begunAt(first - policy.ahead * out.groupSize);
      double due = begunAt(first - policy.lead);
      encode.begin = std::max(stage.free, std::min(opened, due));
      if (due <= main.begin && encode.begin <= main.begin)
        return encode;
    }
    const int group = stage.encodeBackward / parts;
    Proposal backward{
        kNever, {Work::EncodeBackward, -1, group, stage.encodeBackward % parts}, false};
    if (group < out.groups()) {
      backward.begin = std::max(stage.free, gathered(reduced[group], costs.reduceSeconds));
      int late = group + policy.backlog;
      if (late < out.groups() && gathered(reduced[late], costs.reduceSeconds) <= stage.free)
        return backward;
    }
    for (const Proposal &filler : {backward, encode})
      if (filler.begin < main.begin &&
          (stage.next == stage.list.size() ||
           (policy.fit < kNever &&
            main.begin - filler.begin >= policy.fit * duration(s, filler.action))))
        return filler;
    return main;
  }

  void commit(size_t s, const Proposal &p) {
    if (out.encoderMeets && mayMeet(p.action.work))
      meet(s, p);
    else
      run(s, p);
  }

  /// Rank r comes to a meeting, which begins when the last one is there.
  void meet(size_t s, const Proposal &p) {
    meeting = p.action;
    stages[s].waits = true;
    meetingBegin = std::max(meetingBegin, p.begin);
    for (const Stage &stage : stages)
      if (!stage.waits)
        return;
    for (size_t other = 0; other < stages.size(); ++other) {
      stages[other].waits = false;
      run(other, {meetingBegin, *meeting, false});
    }
    meeting.reset();
    meetingBegin = 0;
  }

  void run(size_t s, const Proposal &p) {
    Stage &stage = stages[s];
    const Action &a = p.action;
    double end = p.begin + duration(s, a);
    out.stages[s].push_back(a);
    stage.free = end;
    stage.next += p.fromList;
    auto join = [&](Gathering &g) {
      ++g.stages;
      g.last = std::max(g.last, end);
    };
    switch (a.work) {
    case Work::Forward:
      if (a.chunk == 0)
        firstChunk[a.microBatch] = p.begin;
      if (a.chunk + 1 < chunks)
        forwardThere[slot(a.chunk + 1, a.microBatch)] = end + travel(a.chunk, a.chunk + 1);
      break;
    case Work::Backward:
    case Work::BackwardInput:
      if (a.chunk > 0)
        backwardThere[slot(a.chunk - 1, a.microBatch)] = end + travel(a.chunk, a.chunk - 1);
      break;
    case Work::Encode:
      ++stage.encode;
      if (a.part + 1 == out.encoderParts)
        join(encoded[a.microBatch]);
      break;
    case Work::StatesGradient:
      if (a.part + 1 == out.partsOf(a.work))
        join(reduced[a.microBatch]);
      break;
    case Work::EncodeBackward:
      ++stage.encodeBackward;
      break;
    default:
      break;
    }
  }

  /// Without waiting for the link; execute() gives the exact times in the end.
  double travel(int fromChunk, int toChunk) const {
    int from = out.stageOfChunk[fromChunk], to = out.stageOfChunk[toChunk];
    if (from == to || costs.links.empty())
      return 0;
    const Link &link = costs.links[from][to];
    return link.latency + double(costs.boundaryBytes) / link.bytesPerSecond;
  }

  const Costs &costs;
  const EncoderPolicy &policy;
  Schedule out;
  int chunks;
  std::vector<Stage> stages;
  std::vector<double> forwardThere, backwardThere; // per chunk and micro-batch
  std::vector<double> firstChunk;                  // start of stage 0's forward
  std::vector<Gathering> encoded, reduced;         // per group
  std::optional<Action> meeting;                   // that is open
  double meetingBegin = 0;                         // when its last stage is free
};

std::optional<Error> checkInput(const Schedule &schedule, const Costs &costs, int groupSize,
                                const EncoderPolicy &policy) {
  if (schedule.groupSize)
    return Error{"expected a schedule without encoder work"};
  if (schedule.encoderParts < 1)
    return Error{"expected at least one part of a group's encoder work, got " +
                 std::to_string(schedule.encoderParts)};
  if (groupSize < 1 || groupSize > schedule.microBatches)
    return Error{"expected encoder groups of 1 to " + std::to_string(schedule.microBatches) +
                 " micro-batches, got " + std::to_string(groupSize)};
  if (policy.ahead < 1 || policy.lead < 1 || policy.backlog < 0)
    return Error{"expected at least one group ahead, a lead of at least 1 and "
                 "a backlog of "
                 "at least 0"};
  if (costs.encoder.size() != schedule.stages.size())
    return Error{"expected costs: encoder shares of " + std::to_string(schedule.stages.size()) +
                 ", got " + std::to_string(costs.encoder.size())};
  auto timeline = execute(schedule, costs); // order and sizes of the rest
  return timeline ? std::nullopt : std::optional(Error{timeline.error()});
}

Result<EncoderSchedule> finish(Schedule schedule, const Costs &costs, const EncoderPolicy &policy) {
  auto timeline = execute(schedule, costs);
  if (!timeline)
    return Error{timeline.error()};
  EncoderSchedule result{std::move(schedule), policy, timeline->seconds};
  for (const auto &list : result.schedule.stages) {
    int encoded = 0, states = 0;
    for (const Action &a : list) {
      encoded += (a.work == Work::Encode && a.part == 0) -
                 (a.work == Work::EncodeBackward && a.part + 1 == result.schedule.encoderParts);
      states += (a.work == Work::States && a.part == 0) -
                (a.work == Work::StatesGradient && a.part + 1 == result.schedule.partsOf(a.work));
      result.encodedInFlight = std::max(result.encodedInFlight, encoded);
      result.statesInFlight = std::max(result.statesInFlight, states);
    }
  }
  return result;
}

} // namespace

Result<EncoderSchedule> placeEncoder(const Schedule &schedule, const Costs &costs, int groupSize,
                                     const EncoderPolicy &policy) {
  if (auto error = checkInput(schedule, costs, groupSize, policy))
    return *error;
  return finish(Placer(schedule, costs, groupSize, policy).run(), costs, policy);
}

std::vector<EncoderPolicy> encoderPolicies(const Schedule &schedule, int groupSize) {
  int groups = (schedule.microBatches + groupSize - 1) / groupSize;
  std::vector<EncoderPolicy> policies;
  for (int backlog : {0, 2, 8, groups})
    for (int ahead : {1, 2, 4, 8, 16, groups})
      for (double fit : {0.0, 0.75})
        if (backlog <= groups && ahead <= groups)
          policies.push_back({ahead, 1, backlog, fit});
  return policies;
}

Result<EncoderSchedule> placeEncoder(const Schedule &schedule, const Costs &costs, int groupSize,
                                     int mostInFlight) {
  if (auto error = checkInput(schedule, costs, groupSize, {}))
    return *error;
  std::optional<EncoderSchedule> best;
  int least = INT_MAX;
  for (const EncoderPolicy &policy : encoderPolicies(schedule, groupSize)) {
    auto result = finish(Placer(schedule, costs, groupSize, policy).run(), costs, policy);
    if (!result)
      return result;
    least = std::min(least, result->encodedInFlight);
    if (result->encodedInFlight <= mostInFlight && (!best || result->seconds < best->seconds))
      best = std::move(*result);
  }
  if (!best)
    return Error{"expected memory for at least " + std::to_string(least) + " encoder groups of " +
                 std::to_string(groupSize) + " micro-batches in flight, got " +
                 std::to_string(mostInFlight)};
  return std::move(*best);
}

Result<EncoderSchedule> placeEncoderOutside(const Schedule &schedule, const Costs &costs,
                                            int groupSize) {
  if (auto error = checkInput(schedule, costs, groupSize, {}))
    return *error;
  // Everything is ahead and due at once; everything waits until the end.
  EncoderPolicy policy{schedule.microBatches, schedule.microBatches, schedule.microBatches, kNever};
  return finish(Placer(schedule, costs, groupSize, policy).run(), costs, policy);
}

} // namespace mlir::llamac::plan
