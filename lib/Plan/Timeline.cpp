//===- Timeline.cpp - When every action of a schedule runs ----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Within a stage the order is fixed, and transfers of one link keep the sender's
// order, so start times are longest paths: run each stage's list until its head
// has no time yet, go round until nothing moves.
//
//===----------------------------------------------------------------------===//
#include "llamac/Plan/Timeline.h"

#include "Meetings.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <numeric>
#include <tuple>

namespace mlir::llamac::plan {

namespace {

constexpr double kUnknown = -1;

/// Runs a validated schedule.
class Executor {
public:
  Executor(const Schedule &schedule, const Costs &costs)
      : schedule(schedule), costs(costs), meetings(schedule) {
    size_t count = size_t(schedule.chunks()) * schedule.microBatches;
    forward.assign(count, kUnknown);
    arrivedForward = arrivedBackward = forward;
    encoded.assign(schedule.groups(), Gathering{});
    gradients = encoded;
  }

  Timeline run() {
    size_t stages = schedule.stages.size();
    timeline.stages.resize(stages);
    free.assign(stages, 0);
    for (bool moved = true; moved;) {
      moved = false;
      for (size_t s = 0; s < stages; ++s)
        while (timeline.stages[s].size() < schedule.stages[s].size() && step(s))
          moved = true;
    }
    for (double time : free)
      timeline.seconds = std::max(timeline.seconds, time);
    return std::move(timeline);
  }

private:
  /// A collective over all stages: it starts when the last one is there.
  struct Gathering {
    size_t stages = 0;
    double last = 0;
  };

  size_t slot(int chunk, int microBatch) const {
    return size_t(chunk) * schedule.microBatches + microBatch;
  }

  bool step(size_t s) {
    const Action &a = schedule.stages[s][timeline.stages[s].size()];
    double data = arrival(a);
    if (data == kUnknown)
      return false;
    if (meetings.isMeeting(a)) {
      double begin = meetingBegin(a);
      if (begin == kUnknown)
        return false;
      data = std::max(data, begin);
    }
    double begin = std::max(free[s], data);
    double end = begin + duration(s, a);
    timeline.stages[s].push_back({a, begin, end});
    free[s] = end;
    finish(a, end);
    return true;
  }

  /// When the last stage is free for meeting `a`.
  double meetingBegin(const Action &a) {
    auto [known, isNew] = meetingBegins.try_emplace({a.work, a.microBatch, a.part}, kUnknown);
    if (known->second != kUnknown)
      return known->second;
    double begin = 0;
    for (size_t s = 0; s < free.size(); ++s) {
      if (!meetings.reached(s, a, timeline.stages[s].size()))
        return kUnknown;
      begin = std::max(begin, free[s]);
    }
    return known->second = begin;
  }

  /// When the data is there that `a` waits for.
  double arrival(const Action &a) const {
    auto gathered = [&](const Gathering &g, double seconds) {
      return g.stages == schedule.stages.size() ? g.last + seconds : kUnknown;
    };
    switch (a.work) {
    case Work::Forward:
      return a.chunk ? arrivedForward[slot(a.chunk, a.microBatch)] : 0;
    case Work::Backward:
    case Work::BackwardInput:
      return a.chunk + 1 < schedule.chunks() ? arrivedBackward[slot(a.chunk, a.microBatch)]
                                             : forward[slot(a.chunk, a.microBatch)];
    case Work::States:
      return gathered(encoded[a.microBatch], costs.gatherSeconds);
    case Work::EncodeBackward:
      return gathered(gradients[a.microBatch], costs.reduceSeconds);
    case Work::BackwardWeight:
    case Work::Encode:
    case Work::StatesGradient:
      return 0; // after what stands before it in the same list
    }
    return 0;
  }

  double duration(size_t s, const Action &a) const {
    if (!isEncoderWork(a.work)) {
      const MicroBatchTimes &times = costs.chunks[a.chunk];
      return a.work == Work::Forward         ? times.forward
             : a.work == Work::Backward      ? times.backward()
             : a.work == Work::BackwardInput ? times.backwardInput
                                             : times.backwardWeight;
    }
    const EncoderTimes &times = costs.encoder[s];
    return encoderSeconds(schedule, times, a);
  }

  void finish(const Action &a, double end) {
    if (a.work == Work::Forward) {
      forward[slot(a.chunk, a.microBatch)] = end;
      send(a, a.chunk + 1, arrivedForward, end);
    } else if (a.work == Work::Backward || a.work == Work::BackwardInput) {
      send(a, a.chunk - 1, arrivedBackward, end);
    } else if ((a.work == Work::Encode || a.work == Work::StatesGradient) &&
               a.part + 1 == schedule.partsOf(a.work)) {
      Gathering &g = (a.work == Work::Encode ? encoded : gradients)[a.microBatch];
      ++g.stages;
      g.last = std::max(g.last, end);
    }
  }

  void send(const Action &a, int toChunk, std::vector<double> &arrived, double end) {
    if (toChunk < 0 || toChunk >= schedule.chunks())
      return;
    int from = schedule.stageOfChunk[a.chunk], to = schedule.stageOfChunk[toChunk];
    double &arrival = arrived[slot(toChunk, a.microBatch)];
    arrival = end;
    if (from == to)
      return;
    Link link = costs.links.empty() ? Link{} : costs.links[from][to];
    double &linkFree = links[{from, to, a.work == Work::Forward}];
    double begin = std::max(end, linkFree);
    linkFree = begin + double(costs.boundaryBytes) / link.bytesPerSecond;
    arrival = linkFree + link.latency;
    timeline.transfers.push_back({a, from, to, begin, arrival});
  }

  const Schedule &schedule;
  const Costs &costs;
  Timeline timeline;
  std::vector<double> free; // per stage
  std::vector<double> forward, arrivedForward, arrivedBackward;
  std::vector<Gathering> encoded, gradients; // per group
  std::map<std::tuple<int, int, bool>, double> links;
  Meetings meetings;
  std::map<std::tuple<Work, int, int>, double> meetingBegins; // and group, part
};

/// The letter of an action in pictures.
char letter(Work work) { return "FBIWesgd"[unsigned(work)]; }

/// What the letters and colours of pictures mean; forward, backward, its halves, encoder work.
struct Sign {
  const char *name, *colour;
};
constexpr Sign signs[] = {{"forward", "#8fb8de"},
                          {"backward", "#f2b880"},
                          {"backward, input half", "#f2b880"},
                          {"backward, weight half", "#b7d7a8"},
                          {"encode", "#c9a0dc"},
                          {"image states", "#e4d3ee"},
                          {"gradient of image states", "#d7bde2"},
                          {"encode backward", "#a678c0"}};

/// The kinds of work that a timeline has.
std::vector<Work> worksOf(const Timeline &timeline) {
  bool seen[std::size(signs)] = {};
  for (const auto &spans : timeline.stages)
    for (const Span &span : spans)
      seen[unsigned(span.action.work)] = true;
  std::vector<Work> works;
  for (size_t work = 0; work < std::size(signs); ++work)
    if (seen[work])
      works.push_back(Work(work));
  return works;
}

/// Marks of a time axis: at most `count` steps of 1, 2 or 5 times a power of ten, in a unit in
/// which they are easy to read.
struct Axis {
  double step = 0;    ///< seconds; 0: nothing to mark
  double perUnit = 1; ///< seconds of a unit
  const char *unit = "s";

  Axis(double seconds, int count) {
    if (!(seconds > 0) || count < 1)
      return;
    step = std::pow(10, std::floor(std::log10(seconds / count)));
    for (double factor : {2.0, 2.5, 2.0})
      if (seconds / step > count)
        step *= factor;
    for (auto [name, length] : {std::pair("ms", 1e-3), {"us", 1e-6}})
      if (seconds < perUnit)
        unit = name, perUnit = length;
  }
};

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", value);
  return text;
}

} // namespace

double encoderSeconds(const Schedule &schedule, const EncoderTimes &times, const Action &action) {
  if (!mayMeet(action.work)) {
    auto [begin, end] = schedule.microBatchesOf(action);
    return (end - begin) * (action.work == Work::States ? times.states : times.statesGradient);
  }
  int first = action.microBatch * schedule.groupSize;
  int size = std::min(schedule.groupSize, schedule.microBatches - first);
  return size * (action.work == Work::Encode ? times.encode : times.encodeBackward) /
         schedule.encoderParts;
}

double Timeline::busy(size_t stage) const {
  double sum = 0;
  for (const Span &span : stages[stage])
    sum += span.end - span.begin;
  return sum;
}

Result<Timeline> execute(const Schedule &schedule, const Costs &costs) {
  if (auto error = validate(schedule))
    return *error;
  size_t stages = schedule.stages.size();
  auto sized = [&](const char *what, size_t want, size_t got) {
    return Error{std::string("expected ") + what + " of " + std::to_string(want) + ", got " +
                 std::to_string(got)};
  };
  if (costs.chunks.size() != size_t(schedule.chunks()))
    return sized("costs: stages", schedule.chunks(), costs.chunks.size());
  if (schedule.groupSize && costs.encoder.size() != stages)
    return sized("costs: encoder shares", stages, costs.encoder.size());
  if (!costs.links.empty() && costs.links.size() != stages)
    return sized("costs: links", stages, costs.links.size());
  for (const auto &row : costs.links)
    if (row.size() != stages)
      return sized("costs: links", stages, row.size());
  return Executor(schedule, costs).run();
}

Costs equalCosts(const Schedule &schedule, MicroBatchTimes chunk, EncoderTimes encoder) {
  Costs costs;
  costs.chunks.assign(schedule.chunks(), chunk);
  costs.encoder.assign(schedule.stages.size(), encoder);
  return costs;
}

std::vector<std::vector<Launch>> placeTransfers(const Schedule &schedule,
                                                const Timeline &timeline) {
  size_t stages = schedule.stages.size();
  std::vector<std::vector<Transfer>> incoming(stages);
  for (const Transfer &transfer : timeline.transfers)
    incoming[transfer.to].push_back(transfer);
  // What was sent, by stage in the order of its list.
  std::vector<std::vector<Transfer>> outgoing(stages);
  for (const Transfer &transfer : timeline.transfers)
    outgoing[transfer.from].push_back(transfer);
  std::vector<std::vector<Launch>> lists(stages);
  for (size_t s = 0; s < stages; ++s) {
    // At equal times by sender; transfers of one link stay in the sender's
    // order.
    std::vector<size_t> order(incoming[s].size());
    std::iota(order.begin(), order.end(), size_t(0));
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      const Transfer &x = incoming[s][a], &y = incoming[s][b];
      return std::tuple(x.begin, x.from, a) < std::tuple(y.begin, y.from, b);
    });
    size_t in = 0, out = 0;
    for (const Span &span : timeline.stages[s]) {
      for (; in < order.size() && incoming[s][order[in]].begin <= span.begin; ++in) {
        const Transfer &t = incoming[s][order[in]];
        lists[s].push_back({Launch::Receive, t.action, t.from, t.begin, t.end});
      }
      lists[s].push_back({Launch::Compute, span.action, -1, span.begin, span.end});
      if (out < outgoing[s].size() && outgoing[s][out].action == span.action) {
        const Transfer &t = outgoing[s][out++];
        lists[s].push_back({Launch::Send, t.action, t.to, t.begin, t.end});
      }
    }
  }
  return lists;
}

Schedule scheduleOf(const Timeline &timeline) {
  std::map<std::tuple<Work, int, int>, double> ends;
  Schedule schedule;
  bool halves = false;
  for (size_t s = 0; s < timeline.stages.size(); ++s)
    for (const Span &span : timeline.stages[s]) {
      const Action &a = span.action;
      if (isEncoderWork(a.work))
        continue;
      ends[{a.work, a.chunk, a.microBatch}] = span.end;
      halves |= a.work == Work::BackwardInput || a.work == Work::BackwardWeight;
      schedule.microBatches = std::max(schedule.microBatches, a.microBatch + 1);
      if (a.chunk >= schedule.chunks())
        schedule.stageOfChunk.resize(a.chunk + 1, 0);
      schedule.stageOfChunk[a.chunk] = int(s);
    }
  // What is not there, takes no time and stands where it can first run.
  std::vector<std::multimap<double, Action>> lists(timeline.stages.size()); // by begin
  for (int c = schedule.chunks() - 1; c >= 0; --c)
    for (int m = 0; m < schedule.microBatches; ++m) {
      auto fill = [&](Work work, std::initializer_list<std::tuple<Work, int, int>> after) {
        double ready = 0;
        for (const auto &other : after)
          if (auto found = ends.find(other); found != ends.end())
            ready = std::max(ready, found->second);
        if (ends.try_emplace({work, c, m}, ready).second)
          lists[schedule.stageOfChunk[c]].insert({ready, {work, c, m}});
      };
      Work first = halves ? Work::BackwardInput : Work::Backward;
      fill(first, {{Work::Forward, c, m}, {first, c + 1, m}});
      if (halves)
        fill(Work::BackwardWeight, {{first, c, m}});
    }
  for (size_t s = 0; s < lists.size(); ++s) {
    for (const Span &span : timeline.stages[s])
      if (!isEncoderWork(span.action.work))
        lists[s].insert({span.begin, span.action});
    auto &list = schedule.stages.emplace_back();
    for (const auto &[begin, action] : lists[s])
      list.push_back(action);
  }
  return schedule;
}

std::string drawText(const Timeline &timeline, int columns) {
  std::string text;
  double scale = timeline.seconds > 0 ? columns / timeline.seconds : 0;
  for (size_t s = 0; s < timeline.stages.size(); ++s) {
    std::string line(columns, '.');
    for (const Span &span : timeline.stages[s]) {
      size_t begin = std::min<size_t>(size_t(span.begin * scale + 0.5), columns);
      size_t end = std::min<size_t>(size_t(span.end * scale + 0.5), columns);
      std::string label = letter(span.action.work) + std::to_string(span.action.microBatch);
      label.resize(std::max(label.size(), end - begin), '-');
      line.replace(begin, end - begin, label, 0, end - begin);
    }
    std::string name = std::to_string(s);
    text += "stage " + std::string(name.size() < 3 ? 3 - name.size() : 0, ' ') + name + "  " +
            line + "\n";
  }
  const Axis axis(timeline.seconds, columns / 12);
  std::string marks(columns + 12, ' ');
  for (int i = 0; axis.step > 0 && i * axis.step <= timeline.seconds; ++i) {
    std::string mark = "|" + number(i * axis.step / axis.perUnit);
    marks.replace(size_t(i * axis.step * scale + 0.5), mark.size(), mark);
  }
  marks.resize(marks.find_last_not_of(' ') + 1);
  text += std::string("time, ") + axis.unit + std::string(axis.unit[1] ? 3 : 4, ' ') + marks + "\n";
  std::string legend;
  for (Work work : worksOf(timeline))
    legend += (legend.empty() ? "" : ", ") + std::string(1, letter(work)) + " " +
              signs[unsigned(work)].name;
  text += legend + (legend.empty() ? "" : ", ") +
          ". idle; behind a letter the micro-batch, of the encoder the group\n";
  return text;
}

std::string drawSvg(const Timeline &timeline) {
  constexpr double width = 1600, row = 22, left = 60, right = 40;
  const double bottom = row * double(timeline.stages.size());
  double scale = timeline.seconds > 0 ? width / timeline.seconds : 0;
  std::string svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" +
                    number(left + width + right) + "\" height=\"" + number(bottom + 2 * row + 4) +
                    "\" font-family=\"sans-serif\" font-size=\"10\">\n";
  auto text = [&](double x, double y, const std::string &words, const char *anchor = "start") {
    svg += "<text x=\"" + number(x) + "\" y=\"" + number(y) + "\" text-anchor=\"" + anchor + "\">" +
           words + "</text>\n";
  };
  const Axis axis(timeline.seconds, 16);
  text(4, bottom + 16, std::string("time, ") + axis.unit);
  for (int i = 0; axis.step > 0 && i * axis.step <= timeline.seconds; ++i) {
    const double x = left + i * axis.step * scale;
    svg += "<line x1=\"" + number(x) + "\" y1=\"0\" x2=\"" + number(x) + "\" y2=\"" +
           number(bottom + 5) + "\" stroke=\"#bbbbbb\"/>\n";
    text(x, bottom + 16, number(i * axis.step / axis.perUnit), "middle");
  }
  double next = left;
  for (Work work : worksOf(timeline)) {
    const Sign &sign = signs[unsigned(work)];
    svg += "<rect x=\"" + number(next) + "\" y=\"" + number(bottom + row + 4) +
           "\" width=\"14\" height=\"14\" fill=\"" + sign.colour + "\"/>\n";
    text(next + 18, bottom + row + 15, sign.name);
    next += 180;
  }
  for (size_t s = 0; s < timeline.stages.size(); ++s) {
    double y = row * double(s);
    svg += "<text x=\"4\" y=\"" + number(y + 14) + "\">stage " + std::to_string(s) + "</text>\n";
    for (const Span &span : timeline.stages[s]) {
      double x = left + span.begin * scale, w = (span.end - span.begin) * scale;
      std::string name = toString(span.action);
      svg += "<g><title>" + name + ": " + number(span.begin) + " s to " + number(span.end) +
             " s</title><rect x=\"" + number(x) + "\" y=\"" + number(y) + "\" width=\"" +
             number(w) + "\" height=\"" + number(row - 2) + "\" fill=\"" +
             signs[unsigned(span.action.work)].colour + "\" stroke=\"white\"/>";
      std::string label = std::to_string(span.action.microBatch);
      if (w > 7 * double(label.size()))
        svg +=
            "<text x=\"" + number(x + 2) + "\" y=\"" + number(y + 14) + "\">" + label + "</text>";
      svg += "</g>\n";
    }
  }
  return svg + "</svg>\n";
}

} // namespace mlir::llamac::plan
