//===- Cycles.cpp - No rank waits for ever (R4) ----------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The graph has three nodes per action (launch, start, done) and a hub per collective:
//
//   launch(i) -> launch(i+1)     launch -> start -> done     done(previous on stream) -> start
//   done(awaited) -> start       start of each member -> hub -> done of each member
//   start(send) -> done(receive)                start(receive) -> done(send)
//   done(0 .. i-D) -> launch(i)  for a launch queue of D actions
//   done(read) -> launch(i)      results that the host reads before it launches i
//
// A node whose predecessors are all done can run, so running nodes in any order until none is
// left tells whether there is a cycle. More queue only takes edges away: what ran with D runs
// with D + 1. So the smallest D comes out of one run that raises D whenever it is stuck. If no
// D helps, the shortest cycle among the rest is printed.
//
// A device may put streams into one queue, where each thing that was launched waits for those
// before it. That is the order of launching, so where D = 1 suffices it does no harm; else there
// must be a queue for each stream.
//
//===----------------------------------------------------------------------===//
#include "Findings.h"

#include <algorithm>
#include <climits>
#include <set>
#include <unordered_map>

namespace mlir::llamac::check {

namespace {

/// What waits for what, without the launch queue.
class WaitGraph {
public:
  enum Part { Launch, Start, Done };

  WaitGraph(const Program &program, const Matched &matched);

  int node(Place p, Part part) const { return base[p.cls] + 3 * p.action + part; }
  Place placeOf(int n) const {
    int c = int(std::upper_bound(base.begin(), base.end(), n) - base.begin()) - 1;
    return {c, (n - base[c]) / 3};
  }
  bool isHub(int n) const { return n >= actionNodes; }
  bool is(int n, Part part) const { return !isHub(n) && (n - base[placeOf(n).cls]) % 3 == part; }

  const Program &program;
  std::vector<int> waits;       ///< of each node: for how many others
  std::vector<int> first, next; ///< those that wait for node n: next[first[n]] to next[first[n+1]]

private:
  std::vector<int> base; // of each class: its first node
  int actionNodes = 0;   // hubs are behind them
};

/// Runs the nodes of a graph until none can run.
class Runner {
public:
  explicit Runner(const WaitGraph &graph)
      : ran(graph.waits.size(), false), graph(graph), waits(graph.waits),
        donePrefix(graph.program.classes.size(), 0), nextLaunch(donePrefix) {}

  void run();

  int depth = 1;         ///< of the launch queue that sufficed
  std::vector<bool> ran; ///< nodes

private:
  int size(int c) const { return int(graph.program.classes[c].actions.size()); }
  bool waitsForQueueOnly(int c) const {
    int i = nextLaunch[c];
    return i < size(c) && waits[graph.node({c, i}, WaitGraph::Launch)] == 0;
  }
  void finish(int n);
  void launch(int c);

  const WaitGraph &graph;
  std::vector<int> waits, ready;
  // Of each class: actions that are done without a gap from the first on; the next to launch.
  std::vector<int> donePrefix, nextLaunch;
};

} // namespace

WaitGraph::WaitGraph(const Program &program, const Matched &matched) : program(program) {
  int nodes = 0;
  for (const RankClass &cls : program.classes) {
    base.push_back(nodes);
    nodes += 3 * int(cls.actions.size());
  }
  actionNodes = nodes;
  nodes += int(matched.meetings.size());
  std::vector<std::pair<int, int>> edges;
  edges.reserve(size_t(nodes) * 3);
  for (int c = 0; c < int(program.classes.size()); ++c) {
    std::unordered_map<int, int> last, recorder; // stream, event -> action
    const auto &actions = program.classes[c].actions;
    for (int i = 0; i < int(actions.size()); ++i) {
      const LaunchedAction &a = actions[i];
      edges.push_back({node({c, i}, Launch), node({c, i}, Start)});
      edges.push_back({node({c, i}, Start), node({c, i}, Done)});
      if (i + 1 < int(actions.size()))
        edges.push_back({node({c, i}, Launch), node({c, i + 1}, Launch)});
      for (int read : a.readByHost)
        edges.push_back({node({c, read}, Done), node({c, i}, Launch)});
      if (auto previous = last.find(a.stream); previous != last.end())
        edges.push_back({node({c, previous->second}, Done), node({c, i}, Start)});
      for (int event : a.awaits)
        edges.push_back({node({c, recorder[event]}, Done), node({c, i}, Start)});
      for (int event : a.records)
        recorder[event] = i;
      last[a.stream] = i;
    }
  }
  for (auto [send, receive] : matched.pairs) {
    edges.push_back({node(send, Start), node(receive, Done)});
    edges.push_back({node(receive, Start), node(send, Done)});
  }
  for (size_t k = 0; k < matched.meetings.size(); ++k)
    for (Place member : matched.meetings[k]) {
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

/// Node n has run. Launches are made by launch(), which looks at the queue.
void Runner::finish(int n) {
  ran[n] = true;
  for (int e = graph.first[n]; e < graph.first[n + 1]; ++e)
    if (--waits[graph.next[e]] == 0 && !graph.is(graph.next[e], WaitGraph::Launch))
      ready.push_back(graph.next[e]);
}

/// Launches what class c may: launch(i) also waits until actions 0 .. i - D are done.
void Runner::launch(int c) {
  while (waitsForQueueOnly(c) && nextLaunch[c] - donePrefix[c] < depth)
    finish(graph.node({c, nextLaunch[c]++}, WaitGraph::Launch));
}

void Runner::run() {
  const int classes = int(graph.program.classes.size());
  for (;;) {
    for (int c = 0; c < classes; ++c)
      launch(c);
    while (!ready.empty()) {
      int n = ready.back();
      ready.pop_back();
      finish(n);
      if (!graph.is(n, WaitGraph::Done))
        continue;
      int c = graph.placeOf(n).cls;
      while (donePrefix[c] < size(c) && ran[graph.node({c, donePrefix[c]}, WaitGraph::Done)])
        ++donePrefix[c];
      launch(c);
    }
    // Stuck: the least queue that lets some host go on.
    int more = INT_MAX;
    for (int c = 0; c < classes; ++c)
      if (waitsForQueueOnly(c))
        more = std::min(more, nextLaunch[c] - donePrefix[c] + 1);
    if (more == INT_MAX)
      return;
    depth = std::max(depth + 1, more);
  }
}

/// The nodes that did not run and lead to a cycle, not only behind one: those without a
/// successor left are taken off.
static std::vector<bool> leadingToCycles(const WaitGraph &graph, const std::vector<bool> &ran) {
  const int nodes = int(ran.size());
  std::vector<int> out(nodes, 0), ends;
  std::vector<std::vector<int>> previous(nodes);
  std::vector<bool> left(nodes);
  for (int n = 0; n < nodes; ++n)
    left[n] = !ran[n];
  for (int n = 0; n < nodes; ++n)
    for (int e = graph.first[n]; left[n] && e < graph.first[n + 1]; ++e)
      if (left[graph.next[e]])
        ++out[n], previous[graph.next[e]].push_back(n);
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
  return left;
}

/// The shortest cycle through nodes of `left` that is found breadth-first from each of them, in
/// order, until a budget is spent.
static std::vector<int> shortestCycle(const WaitGraph &graph, const std::vector<bool> &left) {
  const int nodes = int(left.size());
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
      for (int e = graph.first[n]; e < graph.first[n + 1]; ++e) {
        int to = graph.next[e];
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
  return best;
}

void checkCycles(Findings &found, const Matched &matched) {
  WaitGraph graph(found.program, matched);
  Runner runner(graph);
  runner.run();
  found.certificate.launchQueue = runner.depth;
  const std::optional<Device> &device = found.program.device;
  for (const RankClass &cls : found.program.classes) {
    std::set<int> streams;
    for (const LaunchedAction &action : cls.actions)
      streams.insert(action.stream);
    found.certificate.streams = std::max(found.certificate.streams, int(streams.size()));
    if (device && runner.depth > 1 && int64_t(streams.size()) > device->queues)
      found.fault("R4", cls.name + " has " + std::to_string(streams.size()) +
                            " streams, and its host has to be " + std::to_string(runner.depth) +
                            " actions ahead: expected at most " + std::to_string(device->queues) +
                            " streams, one for each queue of the device; those that share one "
                            "would wait for each other");
  }
  if (std::find(runner.ran.begin(), runner.ran.end(), false) == runner.ran.end())
    return;
  std::string message = "these actions wait for each other:";
  Place last = {-1, -1};
  for (int n : shortestCycle(graph, leadingToCycles(graph, runner.ran))) {
    if (graph.isHub(n))
      continue;
    Place p = graph.placeOf(n);
    if (p.cls != last.cls || p.action != last.action)
      message += "\n  " + found.where(p);
    last = p;
  }
  found.fault("R4", message);
}

} // namespace mlir::llamac::check
