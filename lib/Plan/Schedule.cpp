//===- Schedule.cpp - Pipeline schedules as data --------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Generators write each stage's list in one loop. The validator first counts
// (every action once, in its place), then runs the lists head by head; what is
// left when no head can run is impossible, and one of the heads is named.
//
//===----------------------------------------------------------------------===//
#include "llamac/Plan/Schedule.h"

#include "Meetings.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <tuple>

namespace mlir::llamac::plan {

namespace {

std::optional<Error> checkSizes(int stages, int microBatches) {
  if (stages < 1)
    return Error{"expected at least 1 pipeline rank, got " + std::to_string(stages)};
  if (microBatches < 1)
    return Error{"expected at least 1 micro-batch, got " + std::to_string(microBatches)};
  return std::nullopt;
}

Schedule emptySchedule(int stages, int microBatches, int chunks = 1) {
  Schedule schedule;
  schedule.microBatches = microBatches;
  schedule.stages.resize(stages);
  for (int c = 0; c < stages * chunks; ++c)
    schedule.stageOfChunk.push_back(c % stages);
  return schedule;
}

/// Where a cell of a file was; empty for generated schedules.
using Columns = std::vector<std::vector<int>>;

/// Runs the lists in order; see validate().
class Validator {
public:
  Validator(const Schedule &schedule, const Columns *columns, const std::string &name)
      : schedule(schedule), columns(columns), name(name) {}

  std::optional<Error> run() {
    if (auto error = count())
      return error;
    return order();
  }

private:
  std::string at(int stage, size_t index) const {
    std::string place = columns
                            ? name + ": row " + std::to_string(stage + 1) + ", column " +
                                  std::to_string((*columns)[stage][index])
                            : "rank " + std::to_string(stage) + ", action " + std::to_string(index);
    return place + ": '" + toString(schedule.stages[stage][index]) + "'";
  }
  size_t slot(int chunk, int microBatch) const {
    return size_t(chunk) * schedule.microBatches + microBatch;
  }

  std::optional<Error> count() {
    int chunks = schedule.chunks(), stages = int(schedule.stages.size());
    // A bit per Work for each chunk and micro-batch, and for each stage and
    // group.
    std::vector<uint8_t> seen(size_t(chunks) * schedule.microBatches);
    std::vector<uint8_t> seenGroup(size_t(stages) * schedule.groups());
    std::map<std::tuple<int, int, Work>, int> parts; // seen of a stage's group
    for (int s = 0; s < stages; ++s)
      for (size_t i = 0; i < schedule.stages[s].size(); ++i) {
        const Action &a = schedule.stages[s][i];
        bool group = isEncoderWork(a.work);
        int limit = group ? schedule.groups() : schedule.microBatches;
        if (a.microBatch < 0 || a.microBatch >= limit)
          return Error{at(s, i) + " expects a number below " + std::to_string(limit)};
        if (!group && (a.chunk < 0 || a.chunk >= chunks))
          return Error{at(s, i) + " expects a stage below " + std::to_string(chunks)};
        if (!group && schedule.stageOfChunk[a.chunk] != s)
          return Error{at(s, i) + " is of a stage that belongs to rank " +
                       std::to_string(schedule.stageOfChunk[a.chunk])};
        if (group) {
          int &next = parts[{s, a.microBatch, a.work}];
          if (a.part != next)
            return Error{at(s, i) + " is part " + std::to_string(a.part) + ", expected part " +
                         std::to_string(next)};
          if (++next < schedule.partsOf(a.work))
            continue; // seen when all parts are
        }
        uint8_t bit = uint8_t(1u << unsigned(a.work));
        uint8_t &bits = group ? seenGroup[size_t(s) * schedule.groups() + a.microBatch]
                              : seen[slot(a.chunk, a.microBatch)];
        if (bits & bit)
          return Error{at(s, i) + " stands here a second time"};
        bits |= bit;
        constexpr uint8_t whole = 2, halves = 4 | 8;
        if (!group && (bits & whole) && (bits & halves))
          return Error{at(s, i) + " is there although the backward is there already, " +
                       "whole or in halves"};
      }
    for (int c = 0; c < chunks; ++c)
      for (int m = 0; m < schedule.microBatches; ++m) {
        uint8_t bits = seen[slot(c, m)];
        const char *missing = !(bits & 1)                 ? "F"
                              : !(bits & (2 | 4))         ? "B"
                              : (bits & 4) && !(bits & 8) ? "W"
                                                          : nullptr;
        if (missing)
          return Error{(columns ? name + ": row " + std::to_string(schedule.stageOfChunk[c] + 1)
                                : "rank " + std::to_string(schedule.stageOfChunk[c])) +
                       ": '" + std::to_string(c) + missing + std::to_string(m) + "' is missing"};
      }
    for (int s = 0; s < stages; ++s)
      for (int g = 0; g < schedule.groups(); ++g)
        for (Work work : {Work::Encode, Work::States, Work::StatesGradient, Work::EncodeBackward})
          if (!(seenGroup[size_t(s) * schedule.groups() + g] >> unsigned(work) & 1))
            return Error{"rank " + std::to_string(s) + ": '" + toString({work, -1, g}) +
                         "' is missing"};
    return std::nullopt;
  }

  /// What `a` of stage s still waits for, or nothing.
  std::optional<Action> waitsFor(int s, const Action &a) const {
    auto ran = [&](int chunk, unsigned bits) {
      return (done[slot(chunk, a.microBatch)] & bits) != 0;
    };
    int g = a.microBatch, group = schedule.groupSize ? a.microBatch / schedule.groupSize : 0;
    switch (a.work) {
    case Work::Forward:
      if (a.chunk > 0 && !ran(a.chunk - 1, 1))
        return Action{Work::Forward, a.chunk - 1, a.microBatch};
      if (schedule.groupSize) {
        int parts = schedule.partsOf(Work::States), part = parts - 1;
        while (part > 0 && schedule.microBatchesOf({Work::States, -1, group, part}).first > g)
          --part;
        if (states[s] <= group * parts + part)
          return Action{Work::States, -1, group, part};
      }
      return std::nullopt;
    case Work::Backward:
    case Work::BackwardInput:
      if (!ran(a.chunk, 1))
        return Action{Work::Forward, a.chunk, a.microBatch};
      if (a.chunk + 1 < schedule.chunks() && !ran(a.chunk + 1, 2 | 4))
        return Action{Work::Backward, a.chunk + 1, a.microBatch};
      return std::nullopt;
    case Work::BackwardWeight:
      if (!ran(a.chunk, 4))
        return Action{Work::BackwardInput, a.chunk, a.microBatch};
      return std::nullopt;
    case Work::Encode:
      if (auto before = inOrder(encoded[s], a))
        return before;
      return allCameTo(a) ? std::nullopt : std::optional(a);
    case Work::States:
      for (int other : encoded)
        if (other < (g + 1) * schedule.encoderParts)
          return Action{Work::Encode, -1, g};
      return inOrder(states[s], a);
    case Work::StatesGradient: {
      auto [begin, end] = schedule.microBatchesOf(a);
      for (int c = 0; c < schedule.chunks(); ++c)
        for (int m = begin; schedule.stageOfChunk[c] == s && m < end; ++m)
          if (!(done[slot(c, m)] & (2 | 4)))
            return Action{Work::Backward, c, m};
      return inOrder(gradients[s], a);
    }
    case Work::EncodeBackward:
      for (int other : gradients)
        if (other < (g + 1) * schedule.partsOf(Work::StatesGradient))
          return Action{Work::StatesGradient, -1, g};
      return allCameTo(a) ? std::nullopt : std::optional(a);
    }
    return std::nullopt;
  }

  /// What comes before `a` in the order of its parts, of which `count` are done.
  std::optional<Action> inOrder(int count, const Action &a) const {
    int parts = schedule.partsOf(a.work);
    if (count == a.microBatch * parts + a.part)
      return std::nullopt;
    return Action{a.work, -1, count / parts, count % parts};
  }

  bool allCameTo(const Action &a) const {
    for (size_t s = 0; meetings->isMeeting(a) && s < head.size(); ++s)
      if (!meetings->reached(s, a, head[s]))
        return false;
    return true;
  }

  std::optional<Error> order() {
    int stages = int(schedule.stages.size());
    done.assign(size_t(schedule.chunks()) * schedule.microBatches, 0);
    encoded.assign(stages, 0), states.assign(stages, 0), gradients.assign(stages, 0);
    head.assign(stages, 0);
    meetings.emplace(schedule);
    for (bool moved = true; moved;) {
      moved = false;
      for (int s = 0; s < stages; ++s)
        for (; head[s] < schedule.stages[s].size(); ++head[s], moved = true) {
          const Action &a = schedule.stages[s][head[s]];
          if (waitsFor(s, a))
            break;
          if (a.work == Work::Encode)
            ++encoded[s];
          else if (a.work == Work::States)
            ++states[s];
          else if (a.work == Work::StatesGradient)
            ++gradients[s];
          else if (!isEncoderWork(a.work))
            done[slot(a.chunk, a.microBatch)] |= uint8_t(1u << unsigned(a.work));
        }
    }
    for (int s = 0; s < stages; ++s)
      if (head[s] < schedule.stages[s].size()) {
        const Action &a = schedule.stages[s][head[s]];
        return Error{at(s, head[s]) + " can never start: it waits for '" +
                     toString(*waitsFor(s, a)) + "', which comes later or waits for it"};
      }
    return std::nullopt;
  }

  const Schedule &schedule;
  const Columns *columns;
  const std::string &name;
  std::vector<uint8_t> done;
  std::vector<int> encoded, states, gradients; // parts finished, per stage
  std::vector<size_t> head;                    // of the list of each stage
  std::optional<Meetings> meetings;
};

} // namespace

std::pair<int, int> Schedule::microBatchesOf(const Action &action) const {
  int begin = action.microBatch * groupSize;
  int end = std::min(microBatches, begin + groupSize);
  if (!splitsStates)
    return {begin, end};
  int middle = action.work == Work::States ? begin + 1 : std::max(begin, end - kLateGradients);
  return action.part == 0 ? std::pair(begin, middle) : std::pair(middle, end);
}

std::string toString(const Action &action) {
  static const char *const names[] = {
      "F", "B", "I", "W", "encode", "states", "states_gradient", "encode_backward"};
  std::string text = isEncoderWork(action.work) ? "" : std::to_string(action.chunk);
  return text + names[unsigned(action.work)] + std::to_string(action.microBatch);
}

Result<Schedule> gpipe(int stages, int microBatches) {
  if (auto error = checkSizes(stages, microBatches))
    return *error;
  Schedule schedule = emptySchedule(stages, microBatches);
  for (int s = 0; s < stages; ++s)
    for (Work work : {Work::Forward, Work::Backward})
      for (int m = 0; m < microBatches; ++m)
        schedule.stages[s].push_back({work, s, m});
  return schedule;
}

Result<Schedule> sequential(int stages, int microBatches) {
  if (auto error = checkSizes(stages, microBatches))
    return *error;
  Schedule schedule = emptySchedule(stages, microBatches);
  for (int s = 0; s < stages; ++s)
    for (int m = 0; m < microBatches; ++m)
      for (Work work : {Work::Forward, Work::Backward})
        schedule.stages[s].push_back({work, s, m});
  return schedule;
}

Result<Schedule> oneForwardOneBackward(int stages, int microBatches) {
  return interleaved(stages, microBatches, 1, std::max(stages, microBatches));
}

Result<Schedule> interleaved(int stages, int microBatches, int chunks, int consecutive) {
  if (auto error = checkSizes(stages, microBatches))
    return *error;
  if (chunks < 1 || consecutive < 1)
    return Error{"expected at least 1 chunk per rank and 1 consecutive "
                 "micro-batch, got " +
                 std::to_string(chunks) + " and " + std::to_string(consecutive)};
  // Micro-batches of the smallest group; the last one if there is a rest.
  auto smallest = [](int n, int m) { return m % n ? m % n : std::min(n, m); };
  auto works = [&](int n, int m) { return n >= 1 && m >= 1 && smallest(n, m) >= stages; };
  if (chunks > 1 && !works(consecutive, microBatches)) {
    int n = consecutive, m = microBatches;
    bool any = microBatches >= stages; // then N = microBatches works
    for (int distance = 1; any && n == consecutive; ++distance)
      for (int candidate : {consecutive - distance, consecutive + distance})
        if (n == consecutive && works(candidate, microBatches))
          n = candidate;
    for (int distance = 1; consecutive >= stages && m == microBatches; ++distance)
      for (int candidate : {microBatches - distance, microBatches + distance})
        if (m == microBatches && works(consecutive, candidate))
          m = candidate;
    std::string hint;
    if (any)
      hint += "; nearest number of consecutive micro-batches that works: " + std::to_string(n);
    if (consecutive >= stages)
      hint += "; nearest number of micro-batches that works: " + std::to_string(m);
    else if (!any)
      hint += "; " + std::to_string(stages) + " micro-batches, all consecutive, work";
    return Error{"interleaved: expected groups of at least " + std::to_string(stages) +
                 " micro-batches, one for each pipeline rank, got " +
                 (smallest(consecutive, microBatches) == microBatches % consecutive ? "a last group"
                                                                                    : "groups") +
                 " of " + std::to_string(smallest(consecutive, microBatches)) + hint};
  }

  Schedule schedule = emptySchedule(stages, microBatches, chunks);
  // The order of (chunk, micro-batch) on a stage; backwards take the chunks in
  // reverse.
  std::vector<std::pair<int, int>> order;
  for (int first = 0; first < microBatches; first += consecutive)
    for (int c = 0; c < chunks; ++c)
      for (int m = first; m < std::min(microBatches, first + consecutive); ++m)
        order.push_back({c, m});
  int total = int(order.size());
  for (int s = 0; s < stages; ++s) {
    int warmUp = chunks == 1
                     ? stages - 1 - s
                     : 2 * (stages - 1 - s) + (chunks - 1) * std::min(consecutive, microBatches);
    warmUp = std::min(warmUp, total);
    for (int i = 0; i < total + warmUp; ++i) {
      if (i < total)
        schedule.stages[s].push_back({Work::Forward, order[i].first * stages + s, order[i].second});
      if (int k = i - warmUp; k >= 0)
        schedule.stages[s].push_back(
            {Work::Backward, (chunks - 1 - order[k].first) * stages + s, order[k].second});
    }
  }
  return schedule;
}

Result<Schedule> zeroBubbleH1(int stages, int microBatches) {
  if (auto error = checkSizes(stages, microBatches))
    return *error;
  Schedule schedule = emptySchedule(stages, microBatches);
  for (int s = 0; s < stages; ++s) {
    int forward = 0, weight = 0;
    auto &list = schedule.stages[s];
    while (forward < std::min(stages - 1 - s, microBatches))
      list.push_back({Work::Forward, s, forward++});
    for (int input = 0; input < microBatches; ++input) {
      if (forward < microBatches)
        list.push_back({Work::Forward, s, forward++});
      list.push_back({Work::BackwardInput, s, input});
      if (input >= s)
        list.push_back({Work::BackwardWeight, s, weight++});
    }
    while (weight < microBatches)
      list.push_back({Work::BackwardWeight, s, weight++});
  }
  return schedule;
}

Result<Schedule> readCsv(std::string_view text, const std::string &name) {
  Schedule schedule;
  Columns columns;
  int row = 0;
  while (!text.empty()) {
    size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r'))
      line.remove_suffix(1);
    if (line.empty() && text.empty())
      break;
    ++row;
    schedule.stages.emplace_back();
    columns.emplace_back();
    for (int column = 1;; ++column) {
      size_t comma = line.find(',');
      std::string_view cell = line.substr(0, comma);
      while (cell.starts_with(' ') || cell.starts_with('\t'))
        cell.remove_prefix(1);
      while (cell.ends_with(' ') || cell.ends_with('\t'))
        cell.remove_suffix(1);
      if (!cell.empty()) {
        auto bad = [&](const std::string &what) {
          return Error{name + ": row " + std::to_string(row) + ", column " +
                       std::to_string(column) + ": " + what + ", got '" + std::string(cell) + "'"};
        };
        static constexpr std::string_view letters = "FBIW";
        int chunk = -1, microBatch = -1;
        const char *first = cell.data(), *last = first + cell.size();
        auto afterChunk = std::from_chars(first, last, chunk);
        size_t work =
            afterChunk.ptr < last ? letters.find(*afterChunk.ptr) : std::string_view::npos;
        if (afterChunk.ec != std::errc() || work == std::string_view::npos)
          return bad("expected a cell like 3F12, letter F, B, I or W");
        auto afterBatch = std::from_chars(afterChunk.ptr + 1, last, microBatch);
        if (afterBatch.ec != std::errc() || afterBatch.ptr != last)
          return bad("expected a cell like 3F12, letter F, B, I or W");
        constexpr int limit = 1 << 16;
        if (chunk < 0 || chunk >= limit || microBatch < 0 || microBatch >= limit)
          return bad("expected numbers from 0 to 65535");
        if (chunk >= schedule.chunks())
          schedule.stageOfChunk.resize(chunk + 1, -1);
        int &stage = schedule.stageOfChunk[chunk];
        if (stage >= 0 && stage != row - 1)
          return bad("stage " + std::to_string(chunk) + " belongs to row " +
                     std::to_string(stage + 1) + " already");
        stage = row - 1;
        schedule.microBatches = std::max(schedule.microBatches, microBatch + 1);
        schedule.stages.back().push_back({Work(work), chunk, microBatch});
        columns.back().push_back(column);
      }
      if (comma == std::string_view::npos)
        break;
      line.remove_prefix(comma + 1);
    }
    if (schedule.stages.back().empty())
      return Error{name + ": row " + std::to_string(row) +
                   ": expected at least one action, got none"};
  }
  if (schedule.stages.empty())
    return Error{name + ": expected one row for each pipeline rank, got an empty file"};
  for (int c = 0; c < schedule.chunks(); ++c)
    if (schedule.stageOfChunk[c] < 0)
      return Error{name + ": expected every stage up to " + std::to_string(schedule.chunks() - 1) +
                   ", but stage " + std::to_string(c) + " has no action"};
  // Counting takes a byte for each chunk and micro-batch, so a file must be
  // dense.
  if (int64_t(schedule.chunks()) * schedule.microBatches > int64_t(64) << 20)
    return Error{name + ": expected at most 67108864 stages times micro-batches"};
  if (auto error = Validator(schedule, &columns, name).run())
    return *error;
  return schedule;
}

std::string writeCsv(const Schedule &schedule) {
  std::string text;
  for (const auto &list : schedule.stages) {
    bool first = true;
    for (const Action &action : list) {
      if (isEncoderWork(action.work))
        continue;
      text += (first ? "" : ",") + toString(action);
      first = false;
    }
    text += '\n';
  }
  return text;
}

std::optional<Error> validate(const Schedule &schedule) {
  return Validator(schedule, nullptr, "").run();
}

std::vector<InFlight> inFlight(const Schedule &schedule) {
  std::vector<InFlight> now(schedule.chunks()), peak(schedule.chunks());
  for (const auto &list : schedule.stages)
    for (const Action &a : list) {
      if (isEncoderWork(a.work))
        continue;
      InFlight &n = now[a.chunk], &p = peak[a.chunk];
      if (a.work == Work::Forward)
        ++n.residuals, ++n.both;
      else if (a.work == Work::Backward)
        --n.residuals, --n.both;
      else if (a.work == Work::BackwardInput)
        --n.residuals, ++n.carried;
      else
        --n.carried, --n.both;
      p.residuals = std::max(p.residuals, n.residuals);
      p.carried = std::max(p.carried, n.carried);
      p.both = std::max(p.both, n.both);
    }
  return peak;
}

} // namespace mlir::llamac::plan
