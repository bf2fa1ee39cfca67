//===- Match.cpp - Calls that belong together agree (R1, R2, R3) --------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Calls are matched by their number: the k-th send from one class to another on a communicator
// is for the k-th receive there, the k-th collective on a communicator is that of all members.
//
//   stage 0   send 0 -- send 1 -- send 2         pairs: (send k, receive k)
//   stage 1   receive 0 -- receive 1             receive 2 is missing: R1
//
//===----------------------------------------------------------------------===//
#include "Findings.h"

#include <algorithm>
#include <set>
#include <tuple>

namespace mlir::llamac::check {

static const char *name(CallKind kind) {
  static const char *const names[] = {"send",       "receive",        "all_reduce",
                                      "all_gather", "reduce_scatter", "broadcast"};
  return names[unsigned(kind)];
}

static bool isPair(const Call &call) {
  return call.kind == CallKind::Send || call.kind == CallKind::Receive;
}

bool checkNumbers(Findings &found) {
  const Program &program = found.program;
  for (int c = 0; c < found.classes(); ++c)
    for (int i = 0; i < int(program.classes[c].actions.size()); ++i) {
      const LaunchedAction &a = found.at({c, i});
      auto member = [&](int communicator) {
        if (communicator < 0 || communicator >= int(program.communicators.size()))
          return false;
        const auto &members = program.communicators[communicator].classes;
        return std::find(members.begin(), members.end(), c) != members.end();
      };
      for (const Call &call : a.calls) {
        if (!member(call.communicator))
          found.fault("R1", found.where({c, i}) + " calls " + name(call.kind) +
                                " on a communicator that it does not belong to");
        else if (isPair(call)) {
          const auto &members = program.communicators[call.communicator].classes;
          if (call.peer == c ||
              std::find(members.begin(), members.end(), call.peer) == members.end())
            found.fault("R1", found.where({c, i}) + " names a peer that is not on communicator '" +
                                  program.communicators[call.communicator].name + "'");
        }
        if (!isPair(call) && member(call.communicator))
          if (uint32_t axes = program.communicators[call.communicator].axes;
              axes && axes != call.axes)
            found.fault("R1", found.where({c, i}) + " is over other axes than communicator '" +
                                  program.communicators[call.communicator].name + "'");
        if (call.gradient >= int(program.classes[c].gradients.size()))
          found.fault("R9", found.where({c, i}) + " reduces a gradient that is not declared");
      }
    }
  return found.certificate.faults.empty();
}

void checkStreams(Findings &found, int c) {
  const Program &program = found.program;
  std::map<int, Place> streamOf; // communicator -> an action that uses it
  std::set<int> recorded;
  const auto &actions = program.classes[c].actions;
  for (int i = 0; i < int(actions.size()); ++i) {
    const LaunchedAction &a = actions[i];
    for (const Call &call : a.calls) {
      auto [first, isNew] = streamOf.try_emplace(call.communicator, Place{c, i});
      if (!isNew && found.at(first->second).stream != a.stream)
        found.fault("R2", "communicator '" + program.communicators[call.communicator].name +
                              "' is on stream " + std::to_string(found.at(first->second).stream) +
                              " in " + found.where(first->second) + " and on stream " +
                              std::to_string(a.stream) + " in " + found.where({c, i}));
    }
    for (int event : a.awaits)
      if (!recorded.count(event))
        found.fault("R3", found.where({c, i}) + " awaits event " + std::to_string(event) +
                              ", which is not recorded before it");
    recorded.insert(a.records.begin(), a.records.end());
  }
}

void checkSizes(Findings &found, int c) {
  const Program &program = found.program;
  if (program.types.empty())
    return;
  for (int i = 0; i < int(program.classes[c].actions.size()); ++i) {
    const LaunchedAction &a = found.at({c, i});
    if (a.calls.size() != 1)
      continue;
    const Call &call = a.calls[0];
    int to = call.toType < 0 ? call.type : call.toType;
    auto known = [&](int type) { return type >= 0 && type < int(program.types.size()); };
    if (!known(call.type) || !known(to)) {
      found.fault("R1", found.where({c, i}) + " has an unknown type");
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
      if (access.scratch)
        continue;
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
    bool bytes =
        got[1] == want[1] && (got[0] == want[0] || (!isPair(call) && got[0] == want[0] + want[1]));
    if (!bytes || !types)
      found.fault("R1", found.where({c, i}) + " calls " + name(call.kind) + " of " +
                            std::to_string(call.count) + " elements, but reads " +
                            std::to_string(got[0]) + " bytes and writes " + std::to_string(got[1]) +
                            (types ? "" : " of another type"));
  }
}

Matched matchCalls(Findings &found) {
  const Program &program = found.program;
  Matched matched;
  using Calls = std::vector<std::pair<Place, const Call *>>;
  std::map<std::tuple<int, int, int>, std::pair<Calls, Calls>> sends; // communicator, from, to
  std::vector<std::map<int, Calls>> collectives(program.communicators.size());
  for (int c = 0; c < found.classes(); ++c)
    for (int i = 0; i < int(program.classes[c].actions.size()); ++i) {
      const LaunchedAction &a = found.at({c, i});
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
        found.fault("R1",
                    found.where(place) + (k < out.size() ? " sends, but nothing receives it"
                                                         : " receives, but nothing sends it"));
        break;
      }
      if (const char *what = differ(*out[k].second, *in[k].second)) {
        found.fault("R1", std::string("send and receive differ in ") + what + ": " +
                              found.where(out[k].first) + " and " + found.where(in[k].first));
        break;
      }
      matched.pairs.push_back({out[k].first, in[k].first});
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
          found.fault("R1", found.where(firstPlace) + ": " + name(firstCall->kind) +
                                " on communicator '" + communicator + "' has no partner in " +
                                program.classes[c].name);
          return matched;
        }
        auto &[place, call] = collectives[q][c][k];
        const char *what = call->kind != firstCall->kind ? "kind" : differ(*call, *firstCall);
        if (what) {
          found.fault("R1", "call " + std::to_string(k) + " on communicator '" + communicator +
                                "' differs in " + what + ": " + found.where(firstPlace) + " and " +
                                found.where(place));
          return matched;
        }
        meeting.push_back(place);
      }
      matched.meetings.push_back(std::move(meeting));
    }
  }
  return matched;
}

} // namespace mlir::llamac::check
