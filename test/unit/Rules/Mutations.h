//===- Mutations.h - An interpreter of launch lists, and faults -*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What the checker is held against. The interpreter shares no code with it: it
// runs a program in random order with values in memory, and two runs are alike
// if every action wrote the same values.
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_TEST_RULES_MUTATIONS_H
#define LLAMAC_TEST_RULES_MUTATIONS_H

#include "llamac/Check/Rules.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <tuple>
#include <vector>

namespace mlir::llamac::check {

//===--- Interpreter ------------------------------------------------------===//

inline uint64_t mix(uint64_t a, uint64_t b) {
  a ^= b + 0x9e3779b97f4a7c15ull + (a << 6) + (a >> 2);
  a *= 0xff51afd7ed558ccdull;
  return a ^ (a >> 33);
}

using Memory = std::map<int64_t, std::pair<int64_t, uint64_t>>;

/// Splits what lies over `where`, so that bytes from there on are apart.
inline void splitAt(Memory &memory, int64_t where) {
  auto next = memory.upper_bound(where);
  if (next == memory.begin())
    return;
  auto &[begin, rest] = *std::prev(next);
  if (begin < where && where < rest.first) {
    memory[where] = rest;
    rest.first = where;
  }
}

/// What bytes [begin, end) hold, as one number that tells where each value
/// begins and ends.
inline uint64_t load(Memory &memory, int64_t begin, int64_t end) {
  splitAt(memory, begin);
  splitAt(memory, end);
  uint64_t result = 3, previous = 0;
  for (auto at = memory.lower_bound(begin); at != memory.end() && at->first < end; ++at)
    if (at->second.second != previous) {
      previous = at->second.second;
      result = mix(mix(result, uint64_t(at->first - begin)), previous);
    }
  return result;
}

inline void store(Memory &memory, int64_t begin, int64_t end, uint64_t value) {
  splitAt(memory, begin);
  splitAt(memory, end);
  memory.erase(memory.lower_bound(begin), memory.lower_bound(end));
  memory[begin] = {end, value};
}

struct Outcome {
  bool hangs = false;
  /// Per class and location: all that it wrote and, for a reduction, how often.
  std::map<std::pair<int, std::string>, uint64_t> written;
};

/// Runs the program once; each host has a queue of `queue` launches.
inline Outcome interpret(const Program &program, std::mt19937 &random, int queue = 1 << 30) {
  struct Running {
    int launched = 0;                        // next action of the host
    std::map<int, std::vector<int>> streams; // launched, not done
    std::vector<char> state;                 // 0 not launched, 1 launched, 2 started, 3 done
    std::vector<std::vector<int>> waits;     // actions whose events it awaits
    std::map<int, int> recorder;
    std::map<int, Memory> memory; // by arena
    std::vector<uint64_t> input;  // hash of what an action read
  };
  int classes = int(program.classes.size());
  std::vector<Running> ranks(classes);
  for (int c = 0; c < classes; ++c) {
    ranks[c].state.resize(program.classes[c].actions.size());
    ranks[c].waits.resize(ranks[c].state.size());
    ranks[c].input.resize(ranks[c].state.size());
    for (const Access &x : program.classes[c].initial)
      store(ranks[c].memory[x.arena], x.begin, x.end, x.value);
  }
  // Calls that have started, in order, per communicator: sends, receives by
  // (from, to), and collectives by member.
  struct Posted {
    int cls, action;
    const Call *call;
  };
  std::map<std::tuple<int, int, int>, std::vector<Posted>> sends, receives;
  std::map<std::pair<int, int>, std::vector<Posted>> collectives;
  std::map<std::tuple<int, int, const Call *>, size_t> numberOf;
  Outcome outcome;
  auto actionOf = [&](int c, int i) -> const LaunchedAction & {
    return program.classes[c].actions[i];
  };
  auto post = [&](int c, int i) {
    const LaunchedAction &a = actionOf(c, i);
    uint64_t read = 7;
    for (const Access &x : a.accesses)
      if (!x.write)
        read = mix(read, load(ranks[c].memory[x.arena], x.begin, x.end));
    ranks[c].input[i] = read;
    for (const Call &call : a.calls) {
      auto &list = call.kind == CallKind::Send      ? sends[{call.communicator, c, call.peer}]
                   : call.kind == CallKind::Receive ? receives[{call.communicator, call.peer, c}]
                                                    : collectives[{call.communicator, c}];
      numberOf[{c, i, &call}] = list.size();
      list.push_back({c, i, &call});
    }
  };
  // The value that a started call gives, or nothing while its partners are
  // missing.
  auto result = [&](int c, int i, const Call &call) -> std::optional<uint64_t> {
    size_t k = numberOf[{c, i, &call}];
    auto what = [](const Call &x) {
      return mix(mix(uint64_t(x.count), uint64_t(x.type)), uint64_t(x.axes));
    };
    if (call.kind == CallKind::Send)
      return receives[{call.communicator, c, call.peer}].size() > k ? std::optional(0)
                                                                    : std::nullopt;
    if (call.kind == CallKind::Receive) {
      auto &list = sends[{call.communicator, call.peer, c}];
      if (list.size() <= k)
        return std::nullopt;
      const Posted &p = list[k];
      // Bytes of another count or type are other values.
      return mix(mix(ranks[p.cls].input[p.action], what(*p.call)), what(call));
    }
    const Communicator &group = program.communicators[call.communicator];
    uint64_t sum = mix(mix(uint64_t(call.kind), what(call)), group.axes);
    for (int member : group.classes) {
      auto &list = collectives[{call.communicator, member}];
      if (list.size() <= k)
        return std::nullopt;
      const Posted &p = list[k];
      sum = mix(sum, mix(mix(ranks[p.cls].input[p.action], what(*p.call)), uint64_t(p.call->kind)));
    }
    return sum;
  };
  for (;;) {
    std::vector<std::function<void()>> moves;
    bool allDone = true;
    for (int c = 0; c < classes; ++c) {
      Running &rank = ranks[c];
      int size = int(rank.state.size()), i = rank.launched;
      if (i < size) {
        allDone = false;
        bool blocked = false;
        // All actions up to i - queue are done.
        for (int k = 0; !blocked && k <= i - queue; ++k)
          blocked = rank.state[k] != 3;
        if (!blocked)
          moves.push_back([&, c, i] {
            Running &rank = ranks[c];
            const LaunchedAction &a = actionOf(c, i);
            for (int event : a.awaits) // an event that was not recorded does nothing
              if (auto found = rank.recorder.find(event); found != rank.recorder.end())
                rank.waits[i].push_back(found->second);
            for (int event : a.records)
              rank.recorder[event] = i;
            rank.state[i] = 1;
            rank.streams[a.stream].push_back(i);
            ++rank.launched;
          });
      }
      for (auto &[stream, list] : rank.streams) {
        if (list.empty())
          continue;
        allDone = false;
        int head = list.front();
        const LaunchedAction &a = actionOf(c, head);
        if (rank.state[head] == 1) {
          bool ready = true;
          for (int other : rank.waits[head])
            ready &= rank.state[other] == 3;
          if (ready)
            moves.push_back([&, c, head] {
              ranks[c].state[head] = 2;
              post(c, head);
            });
          continue;
        }
        uint64_t value = rank.input[head];
        bool ready = true;
        for (const Call &call : a.calls) {
          auto got = result(c, head, call);
          ready &= got.has_value();
          value = mix(value, got.value_or(0));
        }
        if (ready)
          moves.push_back([&, c, head, value, stream = stream] {
            Running &rank = ranks[c];
            const LaunchedAction &a = actionOf(c, head);
            uint64_t all = value;
            for (const Access &x : a.accesses)
              if (x.write) {
                uint64_t v = mix(value, x.value);
                store(rank.memory[x.arena], x.begin, x.end, v);
                all = mix(all, v);
              }
            // An action that only reads shows nothing.
            if (all != value || !a.calls.empty()) {
              // Whatever the order of actions of one location.
              outcome.written[{c, a.location}] += mix(11, all);
            }
            rank.state[head] = 3;
            auto &list = rank.streams[stream];
            list.erase(list.begin());
          });
      }
    }
    if (moves.empty()) {
      outcome.hangs = !allDone;
      return outcome;
    }
    // Several moves from one look: each stays possible, since moves only enable
    // more, but a move of a rank may change its own lists; so one per look.
    moves[random() % moves.size()]();
  }
}

//===--- Mutations
//----------------------------------------------------------===//

inline constexpr const char *kMutations[] = {"drop",         "swap",          "retype",
                                             "regroup",      "wrong peer",    "wrong count",
                                             "missing wait", "double reduce", "missing reduce"};
inline constexpr int kMutationKinds = std::size(kMutations);

/// Applies one fault to a random place; false if the program has no such place.
inline bool mutate(Program &program, int kind, std::mt19937 &random) {
  struct Site {
    int cls, action;
  };
  auto pick = [&](auto suits) -> std::optional<Site> {
    std::vector<Site> sites;
    for (int c = 0; c < int(program.classes.size()); ++c)
      for (int i = 0; i < int(program.classes[c].actions.size()); ++i)
        if (suits(c, i, program.classes[c].actions[i]))
          sites.push_back({c, i});
    return sites.empty() ? std::nullopt : std::optional(sites[random() % sites.size()]);
  };
  auto calls = [](int, int, const LaunchedAction &a) { return !a.calls.empty(); };
  auto pairs = [](int, int, const LaunchedAction &a) {
    return !a.calls.empty() && a.calls[0].peer >= 0;
  };
  auto reduces = [](int, int, const LaunchedAction &a) {
    return !a.calls.empty() && a.calls[0].gradient >= 0;
  };
  std::optional<Site> site;
  auto actions = [&]() -> auto & { return program.classes[site->cls].actions; };
  switch (kind) {
  case 0:
    if (!(site = pick([](int, int, const LaunchedAction &) { return true; })))
      return false;
    actions().erase(actions().begin() + site->action);
    return true;
  case 1:
    if (!(site = pick([&](int c, int i, const LaunchedAction &) {
            return i + 1 < int(program.classes[c].actions.size());
          })))
      return false;
    {
      int other = site->action + 1 + int(random() % 6);
      other = std::min(other, int(actions().size()) - 1);
      std::swap(actions()[site->action], actions()[other]);
    }
    return true;
  case 2:
    if (!(site = pick(calls)))
      return false;
    actions()[site->action].calls[0].type += 1;
    return true;
  case 3: {
    if (!(site = pick(calls)))
      return false;
    Call &call = actions()[site->action].calls[0];
    std::vector<int> others;
    for (int q = 0; q < int(program.communicators.size()); ++q) {
      auto &members = program.communicators[q].classes;
      if (q != call.communicator &&
          std::find(members.begin(), members.end(), site->cls) != members.end())
        others.push_back(q);
    }
    if (others.empty())
      return false;
    call.communicator = others[random() % others.size()];
    return true;
  }
  case 4: {
    if (!(site = pick(pairs)))
      return false;
    Call &call = actions()[site->action].calls[0];
    int peer = int(random() % program.classes.size());
    if (peer == call.peer)
      return false;
    call.peer = peer;
    return true;
  }
  case 5:
    if (!(site = pick(calls)))
      return false;
    actions()[site->action].calls[0].count /= 2;
    return true;
  case 6: {
    if (!(site = pick([](int, int, const LaunchedAction &a) { return !a.awaits.empty(); })))
      return false;
    auto &awaits = actions()[site->action].awaits;
    awaits.erase(awaits.begin() + int(random() % awaits.size()));
    return true;
  }
  case 7: {
    if (!(site = pick(reduces)))
      return false;
    LaunchedAction copy = actions()[site->action];
    // Reduces in place again, on all members.
    int q = copy.calls[0].communicator;
    std::string gradient = program.classes[site->cls].gradients[copy.calls[0].gradient].name;
    for (int c : program.communicators[q].classes)
      for (auto &list = program.classes[c].actions; auto &a : list)
        if (!a.calls.empty() && a.calls[0].gradient >= 0 &&
            program.classes[c].gradients[a.calls[0].gradient].name == gradient) {
          LaunchedAction again = a;
          std::erase_if(again.accesses, [](const Access &x) { return !x.write; });
          for (Access &x : again.accesses)
            x.write = false;
          again.accesses.push_back(again.accesses[0]);
          again.accesses.back().write = true;
          list.push_back(again);
          break;
        }
    return true;
  }
  default: {
    if (!(site = pick(reduces)))
      return false;
    int q = actions()[site->action].calls[0].communicator;
    std::string gradient =
        program.classes[site->cls].gradients[actions()[site->action].calls[0].gradient].name;
    for (int c : program.communicators[q].classes)
      std::erase_if(program.classes[c].actions, [&](const LaunchedAction &a) {
        return !a.calls.empty() && a.calls[0].gradient >= 0 &&
               program.classes[c].gradients[a.calls[0].gradient].name == gradient;
      });
    return true;
  }
  }
}

} // namespace mlir::llamac::check

#endif // LLAMAC_TEST_RULES_MUTATIONS_H
