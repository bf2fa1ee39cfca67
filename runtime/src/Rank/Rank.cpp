//===- Rank.cpp - One rank: its memory and its programs -------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Rank/Rank.h"

#include <algorithm>
#include <set>

using namespace llrt;
using Kind = Action::Kind;
using Event = Device::Event;
using Stream = Device::Stream;

Rank::Rank(const Program &program, int64_t number, int64_t threads, std::unique_ptr<Device> memory,
           const std::vector<std::string> &runs)
    : compiled(program), rank(number), device(std::move(memory)), sizes(stage().memoryOf(runs)),
      arenas(sizes.size()), hostThreads(threads) {
  for (const Communicator &communicator : program.communicators)
    members.push_back(communicator.members(program.grid, rank));
  for (size_t i = 0; i < arenas.size(); ++i)
    if (sizes[i])
      arenas[i] = static_cast<std::byte *>(device->allocate(*sizes[i], stage().arenas[i].name));
  device->prepare([this, runs](const Device::Visitor &visitor) { show(runs, visitor); });
}

void Rank::show(const std::vector<std::string> &runs, const Device::Visitor &visitor) const {
  auto showOne = [&](const Work &work) {
    const Action &action = *work.action;
    auto place = [&](Address address) { return at(address, work.run); };
    if (action.kind == Kind::Call) {
      std::vector<void *> buffers;
      for (Address address : action.call.buffers)
        buffers.push_back(place(address));
      visitor.call(action.stream, action.call.block, std::move(buffers));
    } else if (action.communicates()) {
      visitor.communicate(action.stream,
                          action.kind == Kind::Receive ? nullptr : place(action.from),
                          action.kind == Kind::Send ? nullptr : place(action.to), work);
    }
  };
  auto write = [&](size_t input) {
    const Input &to = stage().inputs[input];
    visitor.write(to.elements() * typeSize(to.type));
  };
  for (const std::string &name : runs) {
    const std::vector<Action> &entries = stage().programs.at(name);
    for (size_t input : stage().entryInputs)
      write(input);
    for (size_t i = 0; i < entries.size(); ++i) {
      const Action &entry = entries[i];
      showOne({&entry, int64_t(i)});
      if (entry.kind != Kind::Run)
        continue;
      const Graph &graph = stage().graphs.at(entry.graph);
      for (size_t input : graph.inputs)
        write(input);
      for (size_t item = 0; item < graph.items.size(); ++item)
        showOne({&graph.items[item], int64_t(i), int64_t(item), &entry});
    }
  }
}

void Rank::write(Address to, int64_t bytes, const std::function<void(std::byte *)> &fill) {
  device->write(current, at(to), bytes, fill);
}

void Rank::read(Address from, int64_t bytes, void *to) const {
  device->read(current, at(from), bytes, to);
}

//===----------------------------------------------------------------------===//
// Issuing a program
//===----------------------------------------------------------------------===//

// Of a list of actions: those that one of another stream comes after.
static std::vector<bool> awaitedElsewhere(const std::vector<Action> &list) {
  std::vector<bool> result(list.size());
  for (const Action &action : list)
    for (int64_t earlier : action.after)
      if (list[earlier].stream != action.stream)
        result[earlier] = true;
  return result;
}

// One pass over entries of a program.
class Rank::Launch {
public:
  Launch(Rank &rank, const std::vector<Action> &entries, const Events &events, int64_t microBatches)
      : Launch(rank, entries, events, microBatches, 0, entries.size()) {}
  // Only of entries [first, last): those before are issued, and all streams have come together after them.
  Launch(Rank &rank, const std::vector<Action> &entries, const Events &events, int64_t microBatches,
         size_t first, size_t last)
      : rank(rank), device(*rank.device), entries(entries), events(events),
        microBatches(microBatches), first(first), last(last), ends(entries.size()) {}

  // Issues the entries and waits until they are done.
  void run();
  // Issues the entries; stream 0 comes after all of them.
  void issueAll();
  // Prepares the runs, and does nothing else.
  void prepareRuns();

private:
  // A run whose outputs the host is still to read.
  struct Unread {
    int64_t entry;
    Event end;
  };
  struct Traced {
    Trace::Event what;
    Event begin, end;
  };

  void issueEntries();
  void prepare(const Action &run);
  void issue(const Work &work);
  void issueRun(const Work &work);
  void issueCall(const Work &work);
  // Before entry `next` is issued, -1: after the last: reads what would be overwritten.
  void readOutputs(int64_t next);
  // The stream comes after all that was done before the program.
  void enter(Stream stream);
  void await(Stream stream, const Action &action, const std::vector<Event> &ends);
  Event mark(Stream stream) { return rank.trace ? device.record(stream) : nullptr; }
  void note(const Trace::Event &what, Stream stream, Event begin);

  Rank &rank;
  Device &device;
  const std::vector<Action> &entries;
  const Events &events;
  int64_t microBatches;
  size_t first, last;
  Event before;            // what was done before the program
  std::vector<Event> ends; // of the entries that other streams come after
  std::set<Stream> entered;
  std::vector<Unread> unread;
  std::vector<Traced> traced;
};

void Rank::Launch::run() {
  issueEntries();
  std::vector<Event> all;
  for (Stream stream : entered)
    all.push_back(device.record(stream));
  for (const Event &event : all)
    device.wait(event);
  if (!rank.trace)
    return;
  for (Traced &each : traced) {
    each.what.begin = device.time(each.begin);
    each.what.end = device.time(each.end);
  }
  std::stable_sort(traced.begin(), traced.end(),
                   [](const Traced &a, const Traced &b) { return a.what.end < b.what.end; });
  for (const Traced &each : traced)
    rank.trace->add(each.what);
}

void Rank::Launch::issueAll() {
  issueEntries();
  for (Stream stream : entered)
    if (stream != rank.current)
      device.await(rank.current, device.record(stream));
}

void Rank::Launch::prepareRuns() {
  for (size_t i = first; i < last; ++i)
    if (entries[i].kind == Kind::Run && entries[i].microBatch < microBatches && events.prepare)
      prepare(entries[i]);
}

// What it writes gets there in the run's stream.
void Rank::Launch::prepare(const Action &run) {
  rank.current = run.stream;
  events.prepare(rank.stage().graphs.at(run.graph), run.microBatch);
  rank.current = 0;
}

void Rank::Launch::issueEntries() {
  before = device.record(rank.current);
  std::vector<bool> awaited = awaitedElsewhere(entries);
  for (size_t i = first; i < last; ++i) {
    const Action &entry = entries[i];
    if (entry.microBatch >= microBatches)
      continue;
    readOutputs(int64_t(i));
    enter(entry.stream);
    await(entry.stream, entry, ends);
    issue({&entry, int64_t(i)});
    if (awaited[i])
      ends[i] = device.record(entry.stream);
  }
  readOutputs(-1);
}

void Rank::Launch::enter(Stream stream) {
  if (entered.insert(stream).second)
    device.await(stream, before);
}

// `ends`: of the list that the action is in. A stream has its own order.
void Rank::Launch::await(Stream stream, const Action &action, const std::vector<Event> &ends) {
  for (int64_t earlier : action.after)
    if (ends[earlier])
      device.await(stream, ends[earlier]);
}

void Rank::Launch::note(const Trace::Event &what, Stream stream, Event begin) {
  if (rank.trace)
    traced.push_back({what, std::move(begin), device.record(stream)});
}

void Rank::Launch::issue(const Work &work) {
  const Action &action = *work.action;
  Stream stream = action.stream;
  Event begin = mark(stream);
  auto at = [&](Address address) { return rank.at(address, work.run); };
  switch (action.kind) {
  case Kind::Call:
    issueCall(work);
    break;
  case Kind::Slice: {
    const std::vector<int64_t> &group = rank.members[action.communicator];
    int64_t index = std::find(group.begin(), group.end(), rank.rank) - group.begin();
    int64_t bytes = action.elements * typeSize(action.type);
    device.copy(stream, at(action.to), bytes, at(action.from) + index * bytes,
                int64_t(group.size()) * bytes, action.outer, bytes);
    break;
  }
  case Kind::Zero:
    device.zero(stream, at(action.to), action.bytes);
    break;
  case Kind::Run:
    issueRun(work);
    break;
  case Kind::AllGather:
  case Kind::AllReduce:
  case Kind::ReduceScatter:
  case Kind::Broadcast:
  case Kind::Send:
  case Kind::Receive:
    device.communicate(stream, action.kind == Kind::Receive ? nullptr : at(action.from),
                       action.kind == Kind::Send ? nullptr : at(action.to),
                       action.scratchBytes ? at(action.scratch) : nullptr, work);
  }
  const Action *run = action.kind == Kind::Run ? &action : work.run;
  note({&action, work.entry, work.item, run ? run->microBatch : -1, {}, {}}, stream,
       std::move(begin));
}

// A run occupies its stream: what is in it begins after the stream gets there, and the
// stream goes on when all of it is done.
void Rank::Launch::issueRun(const Work &work) {
  const Action &run = *work.action;
  const Graph &graph = rank.stage().graphs.at(run.graph);
  if (events.prepare)
    prepare(run);
  Event begin = device.record(run.stream);
  std::vector<bool> awaited = awaitedElsewhere(graph.items);
  std::vector<Event> ends(graph.items.size());
  std::set<Stream> others;
  for (size_t i = 0; i < graph.items.size(); ++i) {
    const Action &item = graph.items[i];
    if (item.stream != run.stream && others.insert(item.stream).second) {
      enter(item.stream);
      device.await(item.stream, begin);
    }
    await(item.stream, item, ends);
    issue({&item, work.entry, int64_t(i), &run});
    if (awaited[i])
      ends[i] = device.record(item.stream);
  }
  for (Stream stream : others)
    device.await(run.stream, device.record(stream));
  if (events.finish)
    unread.push_back({work.entry, device.record(run.stream)});
}

void Rank::Launch::issueCall(const Work &work) {
  const Call &call = work.action->call;
  std::vector<void *> buffers;
  for (Address address : call.buffers)
    buffers.push_back(rank.at(address, work.run));
  device.call(work.action->stream, call.block, std::move(buffers), work);
}

// The outputs of a run are there until the next entry of its stream, the next run, or
// what comes after it. To wait here cannot end in a circle of ranks: the compiler has
// checked `forward`, whose outputs are read, for hosts that launch an action only when
// the one before it is done, or has said how far ahead a host must be.
void Rank::Launch::readOutputs(int64_t next) {
  std::erase_if(unread, [&](const Unread &each) {
    const Action &run = entries[each.entry];
    if (next >= 0) {
      const Action &entry = entries[next];
      const std::vector<int64_t> &after = entry.after;
      if (entry.kind != Kind::Run && entry.stream != run.stream &&
          std::find(after.begin(), after.end(), each.entry) == after.end())
        return false;
    }
    device.wait(each.end);
    rank.current = run.stream;
    events.finish(rank.stage().graphs.at(run.graph), run.microBatch);
    rank.current = 0;
    return true;
  });
}

//===----------------------------------------------------------------------===//
// Programs
//===----------------------------------------------------------------------===//

// The first entry of an update: it reads the hyperparameters.
static size_t firstOfUpdate(const Stage &stage, const std::vector<Action> &entries) {
  const Input *input = nullptr;
  for (size_t index : stage.entryInputs)
    if (stage.inputs[index].name == known::hyperparameters)
      input = &stage.inputs[index];
  auto reads = [&](const Action &entry) {
    const std::vector<Address> &buffers = entry.call.buffers;
    return input && entry.kind == Kind::Call &&
           std::find(buffers.begin(), buffers.end(), input->address) != buffers.end();
  };
  return std::find_if(entries.begin(), entries.end(), reads) - entries.begin();
}

void Rank::run(const std::string &name, const Events &events, int64_t microBatches) {
  begin(name, events, microBatches);
  finish();
  wait();
}

void Rank::begin(const std::string &name, const Events &events, int64_t microBatches) {
  if (compiled.grid.ranks() > 1)
    microBatches = compiled.microBatches;
  begun = {name, events, microBatches, nullptr};
  Played &state = played[{name, microBatches}];
  // What was written before is there: a device has what it needed for that again.
  if (!state.ran)
    device->wait(device->record(current));
  // Not where the host looks in between. What is loaded when it is first used is there
  // after the first run.
  if (!std::exchange(state.ran, true) || !device->records() || trace || events.finish)
    return;
  begun->state = &state;
  if (!waited)
    state.turn ^= 1;
  play(0);
}

void Rank::finish() {
  if (begun->state) {
    play(1);
  } else {
    const Device::Clock::time_point begin = Device::Clock::now();
    Launch(*this, stage().programs.at(begun->name), begun->events, begun->microBatches).run();
    played[{begun->name, begun->microBatches}].took = Device::Clock::now() - begin;
  }
  waited = !begun->state;
  begun.reset();
}

void Rank::play(size_t half) {
  std::shared_ptr<Device::Recording> &recording =
      begun->state->recordings[begun->state->turn][half];
  const std::vector<Action> &entries = stage().programs.at(begun->name);
  size_t middle = firstOfUpdate(stage(), entries);
  if (half == 1 && middle == entries.size())
    return;
  Launch launch(*this, entries, begun->events, begun->microBatches, half == 0 ? 0 : middle,
                half == 0 ? middle : entries.size());
  if (!recording) {
    device->beginRecording(current, begun->state->took);
    launch.issueAll();
    recording = device->endRecording(current);
  } else {
    device->rewrite(recording);
    launch.prepareRuns();
  }
  device->play(current, recording);
  waited = false;
}

void Rank::wait() {
  if (!waited)
    device->wait(device->record(current));
  waited = true;
}

std::unique_ptr<Device::Reading> Rank::readLater(Address from, int64_t bytes) const {
  return device->readLater(current, at(from), bytes);
}
