//===- Deadlock.cpp - A proof that no rank waits for ever
//------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The graph has three nodes per action (launch, start, done) and a hub per
// collective:
//
//   launch(i) -> launch(i+1)     launch -> start -> done     done(previous on stream) -> start
//   done(awaited) -> start        start of each member -> hub -> done of each
//   member start(send) -> done(receive)  start(receive) -> done(send) done(0 ..
//   i-D) -> launch(i)   for a launch queue of D actions
//
// A node whose predecessors are all done can run, so running nodes in any order
// until none is left tells whether there is a cycle. More queue only takes
// edges away: what ran with D runs with D + 1. So the smallest D comes out of
// one run that raises D whenever it is stuck. If no D helps, the shortest cycle
// among the rest is printed.
//
//===----------------------------------------------------------------------===//
#include "llamac/Plan/Deadlock.h"

#include <algorithm>
#include <climits>
#include <map>
#include <set>
#include <tuple>
#include <unordered_map>

namespace mlir::llamac::plan {

namespace {

const char *name(CallKind kind) {
  static const char *const names[] = {"send",       "receive",        "all_reduce",
                                      "all_gather", "reduce_scatter", "broadcast"};
  return names[unsigned(kind)];
}
bool isPair(const Call &call) {
  return call.kind == CallKind::Send || call.kind == CallKind::Receive;
}

/// An action of a class.
struct Place {
  int cls;
  int action;
};

class Checker {
public:
  explicit Checker(const Program &program) : program(program) {}

  Certificate run() {
    if (!wellFormed())
      return std::move(certificate);
    for (int c = 0; c < classes(); ++c) {
      streamsAndEvents(c);
      sizes(c);
      reductions(c);
    }
    match();
    if (certificate.faults.empty())
      for (int c = 0; c < classes(); ++c)
        memory(c);
    if (!structural)
      cycles();
    return std::move(certificate);
  }

private:
  int classes() const { return int(program.classes.size()); }
  const LaunchedAction &at(Place p) const { return program.classes[p.cls].actions[p.action]; }
  std::string where(Place p) const {
    return program.classes[p.cls].name + ", action " + std::to_string(p.action) + " (" +
           at(p).location + ")";
  }
  void fault(const char *rule, std::string message) {
    structural |= rule[1] <= '3';
    if (++counts[rule] <= 10)
      certificate.faults.push_back({rule, std::move(message)});
  }

  /// Numbers that the other checks index with.
  bool wellFormed() {
    for (int c = 0; c < classes(); ++c)
      for (int i = 0; i < int(program.classes[c].actions.size()); ++i) {
        const LaunchedAction &a = at({c, i});
        auto member = [&](int communicator) {
          if (communicator < 0 || communicator >= int(program.communicators.size()))
            return false;
          const auto &members = program.communicators[communicator].classes;
          return std::find(members.begin(), members.end(), c) != members.end();
        };
        for (const Call &call : a.calls) {
          if (!member(call.communicator))
            fault("R1", where({c, i}) + " calls " + name(call.kind) +
                            " on a communicator that it does not belong to");
          else if (isPair(call)) {
            const auto &members = program.communicators[call.communicator].classes;
            if (call.peer == c ||
                std::find(members.begin(), members.end(), call.peer) == members.end())
              fault("R1", where({c, i}) + " names a peer that is not on communicator '" +
                              program.communicators[call.communicator].name + "'");
          }
          if (!isPair(call) && member(call.communicator))
            if (uint32_t axes = program.communicators[call.communicator].axes;
                axes && axes != call.axes)
              fault("R1", where({c, i}) + " is over other axes than communicator '" +
                              program.communicators[call.communicator].name + "'");
          if (call.gradient >= int(program.classes[c].gradients.size()))
            fault("R9", where({c, i}) + " reduces a gradient that is not declared");
        }
      }
    return certificate.faults.empty();
  }

  void streamsAndEvents(int c) {
    std::map<int, Place> streamOf; // communicator -> an action that uses it
    std::set<int> recorded;
    const auto &actions = program.classes[c].actions;
    for (int i = 0; i < int(actions.size()); ++i) {
      const LaunchedAction &a = actions[i];
      for (const Call &call : a.calls) {
        auto [first, isNew] = streamOf.try_emplace(call.communicator, Place{c, i});
        if (!isNew && at(first->second).stream != a.stream)
          fault("R2", "communicator '" + program.communicators[call.communicator].name +
                          "' is on stream " + std::to_string(at(first->second).stream) + " in " +
                          where(first->second) + " and on stream " + std::to_string(a.stream) +
                          " in " + where({c, i}));
      }
      for (int event : a.awaits)
        if (!recorded.count(event))
          fault("R3", where({c, i}) + " awaits event " + std::to_string(event) +
                          ", which is not recorded before it");
      recorded.insert(a.records.begin(), a.records.end());
    }
  }

  /// A call moves the bytes that its action reads and writes, in their types.
  void sizes(int c) {
    if (program.types.empty())
      return;
    for (int i = 0; i < int(program.classes[c].actions.size()); ++i) {
      const LaunchedAction &a = at({c, i});
      if (a.calls.size() != 1)
        continue;
      const Call &call = a.calls[0];
      int to = call.toType < 0 ? call.type : call.toType;
      auto known = [&](int type) { return type >= 0 && type < int(program.types.size()); };
      if (!known(call.type) || !known(to)) {
        fault("R1", where({c, i}) + " has an unknown type");
        continue;
      }
      int64_t share = call.count * program.types[call.type].bytes;
      int64_t result = call.count * program.types[to].bytes;
      int64_t ranks = program.communicators[call.communicator].ranks;
      int64_t want[2] = {share, result}; // read, written
      if (call.kind == CallKind::AllGather)
        want[1] *= ranks;
      if (call.kind == CallKind::ReduceScatter)
        want[0] *= ranks;
      int64_t got[2] = {0, 0};
      bool types = true;
      for (const Access &access : a.accesses) {
        got[access.write] += access.end - access.begin;
        types &= access.type < 0 || access.type == (access.write ? to : call.type);
      }
      if (call.kind == CallKind::Send)
        want[1] = 0;
      if (call.kind == CallKind::Receive)
        want[0] = 0;
      if (call.kind == CallKind::Broadcast && got[0] == 0)
        want[0] = 0;
      // A result that is added reads what is there, too.
      bool bytes = got[1] == want[1] &&
                   (got[0] == want[0] || (!isPair(call) && got[0] == want[0] + want[1]));
      if (!bytes || !types)
        fault("R1", where({c, i}) + " calls " + name(call.kind) + " of " +
                        std::to_string(call.count) + " elements, but reads " +
                        std::to_string(got[0]) + " bytes and writes " + std::to_string(got[1]) +
                        (types ? "" : " of another type"));
    }
  }

  void reductions(int c) {
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
          fault("R9", "gradient '" + gradient.name + "' of " + std::to_string(gradient.count) +
                          " elements of type " + typeName(gradient.type) + " is reduced as " +
                          std::to_string(call.count) + " of type " + typeName(call.type) + " in " +
                          where({c, i}));
        if (axes & call.axes)
          fault("R9", "gradient '" + gradient.name + "' is reduced twice over one axis: in " +
                          where({c, last[call.gradient]}) + " and in " + where({c, i}));
        if (call.axes & ~gradient.partialAxes)
          fault("R9", "gradient '" + gradient.name +
                          "' is reduced over an axis on which it is whole in " + where({c, i}));
        axes |= call.axes;
        last[call.gradient] = i;
      }
    for (size_t g = 0; g < cls.gradients.size(); ++g)
      if (cls.gradients[g].partialAxes & ~done[g])
        fault("R9", cls.name + ": gradient '" + cls.gradients[g].name +
                        "' is not reduced over every axis on which it is "
                        "partial: " +
                        axesOf(cls.gradients[g].partialAxes) + "; reduced: " + axesOf(done[g]));
  }

  std::string typeName(int type) const {
    return type >= 0 && type < int(program.types.size()) ? program.types[type].name
                                                         : std::to_string(type);
  }
  std::string axesOf(uint32_t bits) const {
    std::string text;
    for (int axis = 0; axis < 32; ++axis)
      if (bits >> axis & 1)
        text += (text.empty() ? "" : ", ") +
                (axis < int(program.axes.size()) ? program.axes[axis] : std::to_string(axis));
    return text.empty() ? "none" : text;
  }

  /// Pairs the k-th calls; fills `pairs` and `meetings`.
  void match() {
    using Calls = std::vector<std::pair<Place, const Call *>>;
    std::map<std::tuple<int, int, int>, std::pair<Calls, Calls>> sends; // communicator, from, to
    std::vector<std::map<int, Calls>> collectives(program.communicators.size());
    for (int c = 0; c < classes(); ++c)
      for (int i = 0; i < int(program.classes[c].actions.size()); ++i) {
        const LaunchedAction &a = at({c, i});
        for (const Call &call : a.calls)
          if (call.kind == CallKind::Send)
            sends[{call.communicator, c, call.peer}].first.push_back({{c, i}, &call});
          else if (call.kind == CallKind::Receive)
            sends[{call.communicator, call.peer, c}].second.push_back({{c, i}, &call});
          else
            collectives[call.communicator][c].push_back({{c, i}, &call});
      }

    auto differ = [&](const Call &a, const Call &b) -> const char * {
      return a.tag != b.tag       ? "tensor"
             : a.count != b.count ? "count"
             : a.type != b.type   ? "type"
                                  : nullptr;
    };
    for (auto &[key, lists] : sends) {
      auto &[out, in] = lists;
      for (size_t k = 0; k < std::max(out.size(), in.size()); ++k) {
        if (k >= out.size() || k >= in.size()) {
          Place place = k < out.size() ? out[k].first : in[k].first;
          fault("R1", where(place) + (k < out.size() ? " sends, but nothing receives it"
                                                     : " receives, but nothing sends it"));
          break;
        }
        if (const char *what = differ(*out[k].second, *in[k].second)) {
          fault("R1", std::string("send and receive differ in ") + what + ": " +
                          where(out[k].first) + " and " + where(in[k].first));
          break;
        }
        pairs.push_back({out[k].first, in[k].first});
      }
    }
    for (size_t q = 0; q < collectives.size(); ++q) {
      if (collectives[q].empty())
        continue;
      const std::vector<int> &members = program.communicators[q].classes;
      size_t longest = 0;
      int first = members.front();
      for (int c : members)
        if (collectives[q][c].size() > longest)
          longest = collectives[q][c].size(), first = c;
      const std::string &communicator = program.communicators[q].name;
      for (size_t k = 0; k < longest; ++k) {
        auto &[firstPlace, firstCall] = collectives[q][first][k];
        std::vector<Place> meeting;
        for (int c : members) {
          if (k >= collectives[q][c].size()) {
            fault("R1", where(firstPlace) + ": " + name(firstCall->kind) + " on communicator '" +
                            communicator + "' has no partner in " + program.classes[c].name);
            return;
          }
          auto &[place, call] = collectives[q][c][k];
          const char *what = call->kind != firstCall->kind ? "kind" : differ(*call, *firstCall);
          if (what) {
            fault("R1", "call " + std::to_string(k) + " on communicator '" + communicator +
                            "' differs in " + what + ": " + where(firstPlace) + " and " +
                            where(place));
            return;
          }
          meeting.push_back(place);
        }
        meetings.push_back(std::move(meeting));
      }
    }
  }

  //===--- R7 -------------------------------------------------------------===//

  /// The last value of some bytes.
  struct Bytes {
    int64_t end;
    int writer; ///< action; -1: before the step
    uint64_t value;
    int type; ///< -1: any
    std::vector<int> readers;
  };

  void memory(int c) {
    const auto &actions = program.classes[c].actions;
    // before[i][s]: how many actions of stream s are done when action i starts,
    // as far as this class's host, streams and events tell.
    std::map<int, int> streamNumber;
    for (const LaunchedAction &a : actions)
      streamNumber.try_emplace(a.stream, int(streamNumber.size()));
    size_t streams = streamNumber.size();
    std::vector<int> before(actions.size() * streams, 0), number(actions.size()),
        position(actions.size()), last(streams, -1);
    std::unordered_map<int, int> recorder;
    auto join = [&](int *into, int done) { // that action `done` is done
      const int *from = &before[done * streams];
      for (size_t s = 0; s < streams; ++s)
        into[s] = std::max(into[s], from[s]);
      into[number[done]] = std::max(into[number[done]], position[done] + 1);
    };
    for (int i = 0; i < int(actions.size()); ++i) {
      const LaunchedAction &a = actions[i];
      int s = number[i] = streamNumber[a.stream];
      position[i] = last[s] < 0 ? 0 : position[last[s]] + 1;
      int *mine = &before[i * streams];
      if (last[s] >= 0)
        join(mine, last[s]);
      for (int event : a.awaits)
        join(mine, recorder[event]);
      for (int event : a.records)
        recorder[event] = i;
      last[s] = i;
    }
    auto ordered = [&](int first, int second) {
      return first < 0 || first == second ||
             before[second * streams + number[first]] > position[first];
    };

    std::map<int, std::map<int64_t, Bytes>> arenas;
    // Cuts the bytes at `where`, so that an access covers whole entries.
    auto cut = [](std::map<int64_t, Bytes> &bytes, int64_t where) {
      auto next = bytes.upper_bound(where);
      if (next == bytes.begin())
        return;
      auto entry = std::prev(next);
      if (entry->first < where && where < entry->second.end) {
        Bytes rest = entry->second;
        entry->second.end = where;
        bytes.emplace(where, std::move(rest));
      }
    };
    for (const Access &access : program.classes[c].initial)
      arenas[access.arena][access.begin] = {access.end, -1, access.value, access.type, {}};
    // The end of the program is one more reader, after everything.
    auto place = [&](int i) {
      return i < int(actions.size()) ? where({c, i}) : program.classes[c].name + ", the end,";
    };
    for (int i = 0; i <= int(actions.size()); ++i)
      for (const Access &access :
           i < int(actions.size()) ? actions[i].accesses : program.classes[c].final) {
        auto &bytes = arenas[access.arena];
        cut(bytes, access.begin);
        cut(bytes, access.end);
        auto range = [&] {
          return "bytes " + std::to_string(access.begin) + " to " + std::to_string(access.end);
        };
        auto entry = bytes.lower_bound(access.begin);
        int64_t covered = access.begin;
        if (!access.write) {
          for (; entry != bytes.end() && entry->first < access.end; ++entry) {
            Bytes &old = entry->second;
            if (entry->first != covered)
              break;
            covered = old.end;
            if (old.value != access.value)
              fault("R7", place(i) + " reads " + range() + " and finds the value of " +
                              (old.writer < 0 ? "the start" : where({c, old.writer})));
            else if (old.type >= 0 && access.type >= 0 && old.type != access.type)
              fault("R7", place(i) + " reads " + range() + " in another type than it has from " +
                              (old.writer < 0 ? "the start" : where({c, old.writer})));
            else if (i < int(actions.size()) && !ordered(old.writer, i))
              fault("R7", where({c, i}) + " reads " + range() + ", which " +
                              where({c, old.writer}) + " may not have written yet");
            old.readers.push_back(i);
          }
          if (covered < access.end)
            fault("R7", place(i) + " reads " + range() + ", which nothing has written");
          continue;
        }
        while (entry != bytes.end() && entry->first < access.end) {
          const Bytes &old = entry->second;
          if (!ordered(old.writer, i))
            fault("R7", where({c, i}) + " writes " + range() + ", which " + where({c, old.writer}) +
                            " may still write");
          for (int reader : old.readers)
            if (!ordered(reader, i)) {
              fault("R7", where({c, i}) + " writes " + range() + ", which " + where({c, reader}) +
                              " may still read");
              break;
            }
          entry = bytes.erase(entry);
        }
        bytes[access.begin] = {access.end, i, access.value, access.type, {}};
      }
  }

  //===--- R4 -------------------------------------------------------------===//

  enum Part { Launch, Start, Done };
  int node(Place p, Part part) const { return base[p.cls] + 3 * p.action + part; }

  void buildGraph() {
    int nodes = 0;
    for (const RankClass &cls : program.classes) {
      base.push_back(nodes);
      nodes += 3 * int(cls.actions.size());
    }
    actionNodes = nodes;
    nodes += int(meetings.size());
    std::vector<std::pair<int, int>> edges;
    edges.reserve(size_t(nodes) * 3);
    for (int c = 0; c < classes(); ++c) {
      std::unordered_map<int, int> last, recorder; // stream, event -> action
      const auto &actions = program.classes[c].actions;
      for (int i = 0; i < int(actions.size()); ++i) {
        const LaunchedAction &a = actions[i];
        edges.push_back({node({c, i}, Launch), node({c, i}, Start)});
        edges.push_back({node({c, i}, Start), node({c, i}, Done)});
        if (i + 1 < int(actions.size()))
          edges.push_back({node({c, i}, Launch), node({c, i + 1}, Launch)});
        if (auto previous = last.find(a.stream); previous != last.end())
          edges.push_back({node({c, previous->second}, Done), node({c, i}, Start)});
        for (int event : a.awaits)
          edges.push_back({node({c, recorder[event]}, Done), node({c, i}, Start)});
        for (int event : a.records)
          recorder[event] = i;
        last[a.stream] = i;
      }
    }
    for (auto [send, receive] : pairs) {
      edges.push_back({node(send, Start), node(receive, Done)});
      edges.push_back({node(receive, Start), node(send, Done)});
    }
    for (size_t k = 0; k < meetings.size(); ++k)
      for (Place member : meetings[k]) {
        edges.push_back({node(member, Start), actionNodes + int(k)});
        edges.push_back({actionNodes + int(k), node(member, Done)});
      }
    first.assign(nodes + 1, 0);
    waits.assign(nodes, 0);
    for (auto [from, to] : edges)
      ++first[from + 1], ++waits[to];
    for (int n = 0; n < nodes; ++n)
      first[n + 1] += first[n];
    next.resize(edges.size());
    std::vector<int> fill(first.begin(), first.end() - 1);
    for (auto [from, to] : edges)
      next[fill[from]++] = to;
  }

  Place placeOf(int n) const {
    int c = int(std::upper_bound(base.begin(), base.end(), n) - base.begin()) - 1;
    return {c, (n - base[c]) / 3};
  }

  void cycles() {
    buildGraph();
    std::vector<int> ready;
    std::vector<bool> ran(waits.size(), false);
    // The queue: launch(i) also waits until actions 0 .. i - D are done.
    std::vector<int> donePrefix(classes(), 0), nextLaunch(classes(), 0);
    auto size = [&](int c) { return int(program.classes[c].actions.size()); };
    int depth = 1;
    auto mayLaunch = [&](int c) {
      int i = nextLaunch[c];
      return i < size(c) && waits[node({c, i}, Launch)] == 0 && i - donePrefix[c] < depth;
    };
    auto launch = [&](int c) {
      while (mayLaunch(c)) {
        int n = node({c, nextLaunch[c]++}, Launch);
        ran[n] = true;
        for (int e = first[n]; e < first[n + 1]; ++e)
          if (--waits[next[e]] == 0 && !isLaunch(next[e]))
            ready.push_back(next[e]);
      }
    };
    for (;;) {
      for (int c = 0; c < classes(); ++c)
        launch(c);
      while (!ready.empty()) {
        int n = ready.back();
        ready.pop_back();
        ran[n] = true;
        for (int e = first[n]; e < first[n + 1]; ++e)
          if (--waits[next[e]] == 0 && !isLaunch(next[e]))
            ready.push_back(next[e]);
        if (n >= actionNodes)
          continue;
        Place p = placeOf(n);
        if ((n - base[p.cls]) % 3 == Done) {
          while (donePrefix[p.cls] < size(p.cls) && ran[node({p.cls, donePrefix[p.cls]}, Done)])
            ++donePrefix[p.cls];
          launch(p.cls);
        }
      }
      // Stuck: the least queue that lets some host go on.
      int more = INT_MAX;
      for (int c = 0; c < classes(); ++c)
        if (int i = nextLaunch[c]; i < size(c) && waits[node({c, i}, Launch)] == 0)
          more = std::min(more, i - donePrefix[c] + 1);
      if (more == INT_MAX)
        break;
      depth = std::max(depth + 1, more);
    }
    certificate.launchQueue = depth;
    if (std::find(ran.begin(), ran.end(), false) != ran.end())
      reportCycle(ran);
  }
  bool isLaunch(int n) const { return n < actionNodes && (n - base[placeOf(n).cls]) % 3 == Launch; }

  /// Breadth-first from the nodes that did not run, in order, until the budget
  /// is spent; prints the shortest cycle found. Every such node leads back to a
  /// cycle, since it waits for another such node.
  void reportCycle(const std::vector<bool> &ran) {
    int nodes = int(waits.size());
    // Take off what merely waits behind a cycle: nodes without a successor
    // left.
    std::vector<int> out(nodes, 0);
    std::vector<std::vector<int>> previous(nodes);
    std::vector<bool> left(nodes);
    for (int n = 0; n < nodes; ++n)
      left[n] = !ran[n];
    for (int n = 0; n < nodes; ++n)
      for (int e = first[n]; left[n] && e < first[n + 1]; ++e)
        if (left[next[e]])
          ++out[n], previous[next[e]].push_back(n);
    std::vector<int> ends;
    for (int n = 0; n < nodes; ++n)
      if (left[n] && out[n] == 0)
        ends.push_back(n);
    while (!ends.empty()) {
      int n = ends.back();
      ends.pop_back();
      left[n] = false;
      for (int p : previous[n])
        if (left[p] && --out[p] == 0)
          ends.push_back(p);
    }
    std::vector<int> best, parent(nodes), seen(nodes, -1), distance(nodes), queue;
    int64_t budget = 10'000'000;
    for (int from = 0; from < nodes && budget > 0; ++from) {
      if (!left[from])
        continue;
      queue.assign(1, from);
      seen[from] = from;
      distance[from] = 0;
      bool found = false;
      for (size_t head = 0; head < queue.size() && !found; ++head) {
        int n = queue[head];
        if (!best.empty() && distance[n] + 1 >= int(best.size()))
          break;
        for (int e = first[n]; e < first[n + 1]; ++e) {
          int to = next[e];
          --budget;
          if (to == from) {
            best.clear();
            for (int step = n; step != from; step = parent[step])
              best.push_back(step);
            best.push_back(from);
            std::reverse(best.begin(), best.end());
            found = true;
            break;
          }
          if (left[to] && seen[to] != from) {
            seen[to] = from;
            parent[to] = n;
            distance[to] = distance[n] + 1;
            queue.push_back(to);
          }
        }
      }
    }
    std::string message = "these actions wait for each other:";
    int lastClass = -1, lastAction = -1;
    for (int n : best) {
      if (n >= actionNodes)
        continue;
      Place p = placeOf(n);
      if (p.cls != lastClass || p.action != lastAction)
        message += "\n  " + where(p);
      lastClass = p.cls, lastAction = p.action;
    }
    fault("R4", message);
  }

  const Program &program;
  Certificate certificate;
  std::map<std::string, int> counts;
  bool structural = false; // R1 to R3 are broken
  std::vector<std::pair<Place, Place>> pairs;
  std::vector<std::vector<Place>> meetings;
  std::vector<int> base, first, next, waits;
  int actionNodes = 0;
};

} // namespace

Certificate checkProgram(const Program &program) { return Checker(program).run(); }

} // namespace mlir::llamac::plan
