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

Rank::Rank(const Program &program, int64_t number, int64_t threads, std::unique_ptr<Device> memory)
    : compiled(program), rank(number), device(std::move(memory)), hostStream{threads} {
  for (const Communicator &communicator : program.communicators)
    members.push_back(communicator.members(program.grid, rank));
  for (const Arena &arena : stage().arenas)
    arenas.push_back(static_cast<std::byte *>(device->allocate(arena.bytes, arena.name)));
  sumsSoFar = static_cast<double *>(device->allocate(2 * sizeof(double), "sums"));
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

// Buffers: a sum in f64; what is added to it.
template <typename T> static void addTo(LlrtStream *, void **buffers) {
  *static_cast<double *>(buffers[0]) += double(*static_cast<const T *>(buffers[1]));
}

// One pass over entries of a program.
class Rank::Launch {
public:
  Launch(Rank &rank, const std::vector<Action> &entries, const Events &events, int64_t microBatches)
      : rank(rank), device(*rank.device), entries(entries), events(events),
        microBatches(microBatches), ends(entries.size()) {}

  // Issues entries [first, last) and waits until they are done.
  void run(size_t first, size_t last);

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

  void issue(const Work &work);
  void issueRun(const Work &work);
  void issueCall(const Work &work, const Call &call);
  void statistics(const Work &work);
  void update(const Work &work);
  void addLoss(const Work &run, const Graph &graph);
  // Before entry `next` is issued, -1: after the last: reads what would be overwritten.
  void readOutputs(int64_t next);
  // The stream comes after all that was done before the program.
  void enter(Stream stream);
  void await(Stream stream, const Action &action, const std::vector<Event> &ends);
  std::byte *at(Address address, const Action *run) const;
  Event mark(Stream stream) { return rank.trace ? device.record(stream) : nullptr; }
  void note(const Trace::Event &what, Stream stream, Event begin);

  Rank &rank;
  Device &device;
  const std::vector<Action> &entries;
  const Events &events;
  int64_t microBatches;
  Event before;            // what was done before the program
  std::vector<Event> ends; // of the entries that other streams come after
  std::set<Stream> entered;
  std::vector<Unread> unread;
  std::vector<Traced> traced;
};

void Rank::Launch::run(size_t first, size_t last) {
  before = device.record(rank.current);
  std::vector<bool> awaited = awaitedElsewhere(entries);
  for (size_t i = first; i < last; ++i) {
    const Action &entry = entries[i];
    if (entry.kind == Kind::Run && entry.microBatch >= microBatches)
      continue;
    readOutputs(int64_t(i));
    enter(entry.stream);
    await(entry.stream, entry, ends);
    issue({&entry, int64_t(i)});
    if (awaited[i])
      ends[i] = device.record(entry.stream);
  }
  readOutputs(-1);
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

std::byte *Rank::Launch::at(Address address, const Action *run) const {
  if (address.arena >= 0)
    return rank.at(address);
  return rank.at(run->frames[-1 - address.arena]) + address.offset;
}

void Rank::Launch::note(const Trace::Event &what, Stream stream, Event begin) {
  if (rank.trace)
    traced.push_back({what, std::move(begin), device.record(stream)});
}

void Rank::Launch::issue(const Work &work) {
  const Action &action = *work.action;
  Stream stream = action.stream;
  Event begin = mark(stream);
  auto at = [&](Address address) { return this->at(address, work.run); };
  switch (action.kind) {
  case Kind::Call:
    issueCall(work, action.calls[0]);
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
  case Kind::Copy:
    device.copy(stream, at(action.to), 0, at(action.from), 0, 1, action.bytes);
    break;
  case Kind::Run:
    issueRun(work);
    break;
  case Kind::Statistics:
    statistics(work);
    break;
  case Kind::Update:
    update(work);
    break;
  default:
    device.communicate(stream, action.kind == Kind::Receive ? nullptr : at(action.from),
                       action.kind == Kind::Send ? nullptr : at(action.to), work);
  }
  const Action *run = action.kind == Kind::Run ? &action : work.run;
  note({&action, work.entry, work.item, run ? run->microBatch : -1, nullptr, {}, {}}, stream,
       std::move(begin));
}

// A run occupies its stream: what is in it begins after the stream gets there, and the
// stream goes on when all of it is done.
void Rank::Launch::issueRun(const Work &work) {
  const Action &run = *work.action;
  const Graph &graph = rank.stage().graphs.at(run.graph);
  if (events.prepare) {
    rank.current = run.stream;
    events.prepare(graph, run.microBatch);
    rank.current = 0;
  }
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
  addLoss(work, graph);
  if (events.finish)
    unread.push_back({work.entry, device.record(run.stream)});
}

void Rank::Launch::issueCall(const Work &work, const Call &call) {
  std::vector<void *> buffers;
  for (Address address : call.buffers)
    buffers.push_back(at(address, work.run));
  device.call(work.action->stream, call.block, std::move(buffers), work);
}

void Rank::Launch::addLoss(const Work &run, const Graph &graph) {
  auto loss = graph.outputs.find("loss");
  if (loss == graph.outputs.end())
    return;
  const Grid &grid = rank.compiled.grid;
  const Axes &partial = loss->second.partial;
  for (size_t axis = 0; axis < grid.axes.size(); ++axis) {
    const std::string &name = grid.axes[axis].name;
    if (grid.coordinate(rank.rank, axis) != 0 && name != "dp" && name != "pp" &&
        std::find(partial.begin(), partial.end(), axis) == partial.end())
      return;
  }
  bool wide = rank.compiled.masterType() == LLRT_F64;
  device.call(run.action->stream, wide ? addTo<double> : addTo<float>,
              {rank.sumsSoFar, at(loss->second.address, run.action)}, run);
}

void Rank::Launch::statistics(const Work &work) {
  Stream stream = work.action->stream;
  bool wide = rank.compiled.masterType() == LLRT_F64;
  for (const Call &each : work.action->calls) {
    Event begin = mark(stream);
    issueCall(work, each);
    note({work.action, work.entry, -1, -1, &each, {}, {}}, stream, std::move(begin));
    if (rank.compiled.grid.index(rank.rank, each.once) == 0)
      device.call(stream, wide ? addTo<double> : addTo<float>,
                  {rank.sumsSoFar + 1, at(each.address, nullptr)}, work);
  }
  device.copy(stream, at(work.action->to, nullptr), 0, rank.sumsSoFar, 0, 1, 2 * sizeof(double));
}

void Rank::Launch::update(const Work &work) {
  Stream stream = work.action->stream;
  Hyperparameters h = events.hyperparameters();
  const double values[8] = {h.gradientScale, h.learningRate, h.beta1,       h.beta2,
                            h.epsilon,       h.weightDecay,  h.correction1, h.correction2};
  bool wide = rank.compiled.masterType() == LLRT_F64;
  for (const Call &each : work.action->calls) {
    device.write(stream, at(each.address, nullptr), wide ? sizeof(values) : sizeof(values) / 2,
                 [&](std::byte *to) {
                   if (wide)
                     std::copy_n(values, 8, reinterpret_cast<double *>(to));
                   else
                     std::copy_n(values, 8, reinterpret_cast<float *>(to));
                 });
    Event begin = mark(stream);
    issueCall(work, each);
    note({work.action, work.entry, -1, -1, &each, {}, {}}, stream, std::move(begin));
  }
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

// The number of entries before the first update.
static size_t firstUpdate(const std::vector<Action> &entries) {
  return std::find_if(entries.begin(), entries.end(),
                      [](const Action &entry) { return entry.kind == Kind::Update; }) -
         entries.begin();
}

void Rank::run(const std::string &name, const Events &events, int64_t microBatches) {
  const std::vector<Action> &entries = stage().programs.at(name);
  if (compiled.grid.ranks() > 1)
    microBatches = compiled.microBatches;
  device->zero(current, sumsSoFar, 2 * sizeof(double));
  Launch(*this, entries, events, microBatches).run(0, firstUpdate(entries));
}

void Rank::runUpdate(const std::string &name, const Events &events) {
  const std::vector<Action> &entries = stage().programs.at(name);
  Launch(*this, entries, events, compiled.microBatches).run(firstUpdate(entries), entries.size());
}

Sums Rank::sums(const std::string &name) const {
  const std::vector<Action> &entries = stage().programs.at(name);
  auto entry = std::find_if(entries.begin(), entries.end(),
                            [](const Action &each) { return each.kind == Kind::Statistics; });
  Address at = entry->to;
  auto reduced = std::find_if(entry, entries.end(), [&](const Action &each) {
    return each.kind == Kind::AllReduce && each.from == at;
  });
  if (reduced != entries.end())
    at = reduced->to;
  std::vector<double> values = readValues<double>(at, 2);
  return {values[0], values[1]};
}
