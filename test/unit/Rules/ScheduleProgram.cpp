//===- ScheduleProgram.cpp - A schedule in the form of the check ----------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "ScheduleProgram.h"

#include <algorithm>
#include <limits>
#include <map>
#include <tuple>

namespace mlir::llamac::check {

using namespace plan;

namespace {

enum Kind : uint64_t {
  Output,
  Residual,
  Carried,
  InputGradient,
  Sum,
  Share,
  Z,
  KeyValue,
  DZ,
  AllDZ
};
uint64_t key(Kind kind, int stage, int number) {
  return uint64_t(kind) << 56 | uint64_t(unsigned(stage + 1)) << 32 | unsigned(number);
}

/// When an action runs in the timeline. A collective begins with the last of
/// its members, which is not known here, so it ends never.
struct Times {
  double begin, end;
};
constexpr double kNever = std::numeric_limits<double>::infinity();

/// Gives values addresses and actions the events that this takes. Values have
/// one size. A value whose users have all ended in the timeline when an action
/// begins gives its place to what that action writes. Being launched before is
/// not enough: a receive that waits for a send to end, which waits for a
/// receive of the peer, closes a cycle. Since computing takes time, only
/// transfers could wait for each other at one instant, so what a transfer has
/// read never becomes the target of another.
void placeValues(RankClass &cls, const std::vector<Times> &times) {
  constexpr int64_t bytes = 64;
  struct Slot {
    int64_t begin;
    std::vector<int> users; ///< writer and readers of its last value
    double until = 0;       ///< end of the last of them
    bool sent = false;      ///< a transfer has read it
  };
  std::map<uint64_t, int> lastUse;
  for (int i = 0; i < int(cls.actions.size()); ++i)
    for (const Access &access : cls.actions[i].accesses)
      lastUse[access.value] = i;
  std::map<uint64_t, Slot> live;
  std::vector<Slot> free;
  int64_t top = 0;
  for (int i = 0; i < int(cls.actions.size()); ++i) {
    LaunchedAction &a = cls.actions[i];
    std::map<int, int> latest; // other stream -> its last action to wait for
    auto await = [&](const std::vector<int> &users) {
      for (int user : users)
        if (int stream = cls.actions[user].stream; stream != a.stream)
          latest[stream] = std::max(user, latest.try_emplace(stream, user).first->second);
    };
    for (Access &access : a.accesses) {
      auto found = live.find(access.value);
      if (found == live.end()) { // a write of a new value
        Slot slot{top, {}};
        auto old = std::find_if(free.begin(), free.end(), [&](const Slot &slot) {
          return slot.until <= times[i].begin && (a.calls.empty() || !slot.sent);
        });
        if (old == free.end()) {
          top += bytes;
        } else {
          slot = std::move(*old);
          free.erase(old);
        }
        await(slot.users);
        slot = {slot.begin, {}};
        found = live.emplace(access.value, std::move(slot)).first;
      } else {
        await({found->second.users.front()});
      }
      access.begin = found->second.begin;
      access.end = access.begin + bytes;
      Slot &slot = found->second;
      slot.users.push_back(i);
      if (!access.write || a.calls.empty()) // the readers of a transfer end after it
        slot.until = std::max(slot.until, times[i].end);
      slot.sent |= !access.write && !a.calls.empty();
    }
    for (const Access &access : a.accesses)
      if (auto found = live.find(access.value); found != live.end() && lastUse[access.value] == i) {
        free.push_back(std::move(found->second));
        live.erase(found);
      }
    for (auto [stream, action] : latest)
      a.awaits.push_back(action);
    a.records.push_back(i);
  }
}

} // namespace

Program scheduleProgram(const Schedule &schedule,
                        const std::vector<std::vector<Launch>> &launches) {
  Program program;
  int ranks = int(schedule.stages.size()), stages = schedule.chunks();
  auto communicator = [&](std::string name, std::vector<int> classes) {
    program.communicators.push_back({std::move(name), std::move(classes)});
    return int(program.communicators.size()) - 1;
  };
  std::vector<int> all;
  for (int r = 0; r < ranks; ++r)
    all.push_back(r);
  int gather = schedule.groupSize ? communicator("image states", all) : -1;
  int reduce = schedule.groupSize ? communicator("image state gradients", all) : -1;
  std::map<std::tuple<int, int, bool>, int> edges; // from, to, forward
  auto edge = [&](int from, int to, bool forward) {
    auto [found, isNew] = edges.try_emplace({from, to, forward}, -1);
    if (isNew)
      found->second = communicator((forward ? "forward " : "backward ") + std::to_string(from) +
                                       " to " + std::to_string(to),
                                   {from, to});
    return found->second;
  };

  for (int r = 0; r < ranks; ++r) {
    RankClass cls;
    cls.name = "rank " + std::to_string(r);
    // Running sums change their value with every addition.
    std::map<int, int> additions;
    std::vector<Times> times;
    Times now{0, 0};
    auto emit = [&](const std::string &what, int stream, std::vector<uint64_t> reads,
                    std::vector<uint64_t> writes) -> LaunchedAction & {
      LaunchedAction &a = cls.actions.emplace_back();
      times.push_back(now);
      a.stream = stream;
      a.location = cls.name + ": " + what;
      for (uint64_t value : reads)
        a.accesses.push_back({0, 0, 0, value, false});
      for (uint64_t value : writes)
        a.accesses.push_back({0, 0, 0, value, true});
      return a;
    };
    auto sum = [&](int stage, std::vector<uint64_t> &reads, std::vector<uint64_t> &writes) {
      int &n = additions[stage];
      if (n > 0)
        reads.push_back(key(Sum, stage, n));
      writes.push_back(key(Sum, stage, ++n));
    };
    auto collective = [&](CallKind kind, int on, uint64_t tag, uint64_t in, uint64_t out,
                          const std::string &what) {
      now = {now.end, kNever};
      emit(what, 1 + on, {in}, {out}).calls.push_back({kind, on, -1, tag, 1 << 20, 1});
    };
    for (const Launch &launch : launches[r]) {
      const Action &a = launch.action;
      int m = a.microBatch, s = a.chunk;
      std::string what = toString(a);
      now = {launch.begin, launch.end};
      bool forward = a.work == Work::Forward;
      if (launch.kind != Launch::Compute) {
        bool send = launch.kind == Launch::Send;
        int on = send ? edge(r, launch.peer, forward) : edge(launch.peer, r, forward);
        uint64_t value = key(forward ? Output : InputGradient, s, m);
        LaunchedAction &action = emit((send ? "send " : "receive ") + what, 1 + on,
                                      send ? std::vector{value} : std::vector<uint64_t>{},
                                      send ? std::vector<uint64_t>{} : std::vector{value});
        action.calls.push_back(
            {send ? CallKind::Send : CallKind::Receive, on, launch.peer, value, 1 << 16, 1});
        continue;
      }
      std::vector<uint64_t> reads, writes;
      int g = schedule.groupSize ? m / schedule.groupSize : -1;
      switch (a.work) {
      case Work::Forward:
        if (s > 0)
          reads.push_back(key(Output, s - 1, m));
        if (g >= 0)
          reads.push_back(key(KeyValue, r, g));
        writes.push_back(key(Residual, s, m));
        if (s + 1 < stages)
          writes.push_back(key(Output, s, m));
        emit(what, 0, reads, writes);
        break;
      case Work::Backward:
      case Work::BackwardInput:
        reads.push_back(key(Residual, s, m));
        if (s + 1 < stages)
          reads.push_back(key(InputGradient, s + 1, m));
        if (g >= 0)
          reads.push_back(key(KeyValue, r, g));
        if (a.work == Work::Backward)
          sum(s, reads, writes);
        else
          writes.push_back(key(Carried, s, m));
        if (s > 0)
          writes.push_back(key(InputGradient, s, m));
        emit(what, 0, reads, writes);
        break;
      case Work::BackwardWeight:
        reads = {key(Residual, s, m), key(Carried, s, m)};
        sum(s, reads, writes);
        emit(what, 0, reads, writes);
        break;
      case Work::Encode:
        emit(what, 0, {}, {key(Share, r, m)});
        collective(CallKind::AllGather, gather, key(Z, 0, m), key(Share, r, m), key(Z, r, m),
                   "gather " + what);
        break;
      case Work::States:
        emit(what, 0, {key(Z, r, m)}, {key(KeyValue, r, m)});
        break;
      case Work::StatesGradient:
        emit(what, 0, {key(KeyValue, r, m)}, {key(DZ, r, m)});
        collective(CallKind::ReduceScatter, reduce, key(DZ, 0, m), key(DZ, r, m), key(AllDZ, r, m),
                   "reduce " + what);
        break;
      case Work::EncodeBackward:
        reads = {key(AllDZ, r, m), key(Share, r, m)};
        sum(-1, reads, writes);
        emit(what, 0, reads, writes);
        break;
      }
    }
    // Gradients of the stages over the data axis (bit 0), inside the class;
    // those of the encoder over the pipeline too (bit 1), across classes.
    now = {kNever, kNever};
    int own = communicator("data of rank " + std::to_string(r), {r});
    for (auto [stage, n] : additions) {
      bool encoder = stage < 0;
      std::string gradient = encoder ? "encoder" : "stage " + std::to_string(stage);
      cls.gradients.push_back({gradient, encoder ? 3u : 1u, 1 << 24, 0});
      int on = encoder ? reduce : own;
      LaunchedAction &action =
          emit("reduce " + gradient, 1 + on, {key(Sum, stage, n)}, {key(Sum, stage, n + 1)});
      action.calls.push_back({CallKind::AllReduce, on, -1, key(Sum, stage, 0), 1 << 24, 0,
                              int(cls.gradients.size()) - 1, encoder ? 3u : 1u});
    }
    placeValues(cls, times);
    program.classes.push_back(std::move(cls));
  }
  return program;
}

} // namespace mlir::llamac::check
