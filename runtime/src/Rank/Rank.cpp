//===- Rank.cpp - One rank: its memory and its interpreter ----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Rank/Rank.h"

#include "src/Transport/Communication.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <sstream>

using namespace llrt;
using Kind = Action::Kind;

Rank::Rank(const Program &program, int64_t number, int64_t threads, Transport &transport,
           std::chrono::duration<double> timeout)
    : compiled(program), rank(number), arenas(stage()), transport(transport), timeout(timeout),
      hostStream{threads} {
  for (const Communicator &communicator : program.communicators)
    members.push_back(communicator.members(program.grid, rank));
}

void Rank::write(Address to, int64_t, const std::function<void(std::byte *)> &fill) {
  fill(at<std::byte>(to));
}

void Rank::read(Address from, int64_t bytes, void *to) const {
  std::memcpy(to, at<void>(from), size_t(bytes));
}

double Rank::masterScalar(Address address) const {
  return compiled.masterType() == LLRT_F64 ? *at<double>(address) : double(*at<float>(address));
}

void Rank::setMasterScalar(Address address, int64_t index, double value) const {
  if (compiled.masterType() == LLRT_F64)
    at<double>(address)[index] = value;
  else
    at<float>(address)[index] = float(value);
}

//===----------------------------------------------------------------------===//
// The interpreter
//===----------------------------------------------------------------------===//

// One pass over entries [first, last) of a program.
class Rank::Interpreter {
public:
  Interpreter(Rank &rank, const std::vector<Action> &entries, size_t first, size_t last,
              const Events &events, int64_t microBatches);
  void run();

private:
  using Clock = Trace::Clock;

  struct Run {
    const Action *entry;
    const Graph *graph;
    bool begun = false;
    int64_t left; // items that are not done
    std::vector<bool> done;
    Clock::time_point begin = {};
  };
  // What stands in a queue: an entry or an item, or the begin or end of a run.
  struct Task {
    enum class Part { Whole, Begin, End };
    const Action *action;
    int64_t entry, item; // item -1: an entry
    Part part;
    Run *run; // of an item, a begin or an end
  };
  struct Stream {
    std::deque<Task> queue;
    std::unique_ptr<Communication> started; // of the head
    Clock::time_point begin;                // of the head
  };

  bool ready(const Task &task) const;
  // Whether the head of the stream is done now.
  bool advance(Stream &stream);
  void compute(const Task &task);
  void call(const Task &task, const Call &call);
  void statistics(const Task &task);
  void update(const Task &task);
  void complete(const Task &task, Clock::time_point begin);
  void finish(const Run &run);
  void *at(Address address, const Run *run) const;
  std::string waitsFor() const;
  [[noreturn]] void giveUp() const;

  Rank &rank;
  const Events &events;
  std::vector<bool> done; // by entry
  std::deque<Run> runs;
  std::map<int64_t, Stream> streams;
  std::vector<void *> buffers; // of the call at hand
};

Rank::Interpreter::Interpreter(Rank &rank, const std::vector<Action> &entries, size_t first,
                               size_t last, const Events &events, int64_t microBatches)
    : rank(rank), events(events), done(entries.size()) {
  using Part = Task::Part;
  std::fill_n(done.begin(), first, true);
  for (size_t i = first; i < last; ++i) {
    const Action &entry = entries[i];
    auto push = [&](const Action &action, int64_t item, Part part, Run *run) {
      streams[action.stream].queue.push_back({&action, int64_t(i), item, part, run});
    };
    if (entry.kind != Kind::Run) {
      push(entry, -1, Part::Whole, nullptr);
      continue;
    }
    if (entry.microBatch >= microBatches) {
      done[i] = true;
      continue;
    }
    const Graph &graph = rank.stage().graphs.at(entry.graph);
    int64_t items = graph.items.size();
    Run &run = runs.emplace_back(Run{&entry, &graph, false, items, std::vector<bool>(items)});
    push(entry, -1, Part::Begin, &run);
    for (int64_t item = 0; item < items; ++item)
      push(graph.items[item], item, Part::Whole, &run);
    push(entry, -1, Part::End, &run);
  }
}

void Rank::Interpreter::run() {
  Clock::time_point moved = Clock::now();
  for (;;) {
    bool any = false, left = false;
    for (auto &[number, stream] : streams) {
      if (stream.queue.empty())
        continue;
      any |= advance(stream);
      left |= !stream.queue.empty();
    }
    if (!left)
      return;
    if (any) {
      moved = Clock::now();
      continue;
    }
    if (Clock::now() - moved > rank.timeout)
      giveUp();
    rank.transport.idle(waitsFor());
  }
}

bool Rank::Interpreter::ready(const Task &task) const {
  if (task.part == Task::Part::End)
    return task.run->left == 0;
  bool isItem = task.item >= 0;
  if (isItem && !task.run->begun)
    return false;
  const std::vector<bool> &list = isItem ? task.run->done : done;
  return std::all_of(task.action->after.begin(), task.action->after.end(),
                     [&](int64_t earlier) { return list[earlier]; });
}

bool Rank::Interpreter::advance(Stream &stream) {
  const Task task = stream.queue.front();
  if (!stream.started) {
    if (!ready(task))
      return false;
    // The time of a run is that of its begin.
    if (task.part != Task::Part::End)
      stream.begin = Clock::now();
    const Action &action = *task.action;
    if (action.communicates())
      stream.started = std::make_unique<Communication>(
          rank.transport, action, rank.members[action.communicator], rank.rank,
          at(action.from, task.run), at(action.to, task.run));
    else
      compute(task);
  }
  if (stream.started && !stream.started->poll())
    return false;
  stream.started.reset();
  stream.queue.pop_front();
  complete(task, stream.begin);
  return true;
}

void *Rank::Interpreter::at(Address address, const Run *run) const {
  if (address.arena >= 0)
    return rank.at<void>(address);
  return rank.at<char>(run->entry->frames[-1 - address.arena]) + address.offset;
}

void Rank::Interpreter::call(const Task &task, const Call &call) {
  buffers.clear();
  for (Address address : call.buffers)
    buffers.push_back(at(address, task.run));
  Clock::time_point begin = Clock::now();
  call.block(&rank.hostStream, buffers.data());
  if (rank.trace && task.action->kind != Kind::Call)
    rank.trace->add({task.action, task.entry, -1, -1, &call, begin, Clock::now()});
}

// Split over the threads: gradients are as many bytes as all parameters.
static void zero(LlrtStream *stream, void *data, int64_t bytes) {
  constexpr int64_t Chunk = int64_t(1) << 20;
  void *args[] = {data, &bytes};
  parallelFor(
      stream,
      [](void **args, int64_t lo, int64_t hi) {
        int64_t end = std::min(hi * Chunk, *static_cast<int64_t *>(args[1]));
        std::memset(static_cast<char *>(args[0]) + lo * Chunk, 0, size_t(end - lo * Chunk));
      },
      args, (bytes + Chunk - 1) / Chunk, 4);
}

void Rank::Interpreter::compute(const Task &task) {
  const Action &action = *task.action;
  switch (action.kind) {
  case Kind::Call:
    return call(task, action.calls[0]);
  case Kind::Slice: {
    const std::vector<int64_t> &group = rank.members[action.communicator];
    int64_t index = std::find(group.begin(), group.end(), rank.rank) - group.begin();
    return copySlice(action, index, group.size(), at(action.from, task.run),
                     at(action.to, task.run));
  }
  case Kind::Zero:
    return zero(&rank.hostStream, at(action.to, task.run), action.bytes);
  case Kind::Copy:
    std::memmove(at(action.to, task.run), at(action.from, task.run), size_t(action.bytes));
    return;
  case Kind::Run:
    if (task.part == Task::Part::End)
      return finish(*task.run);
    if (events.prepare)
      events.prepare(*task.run->graph, action.microBatch);
    task.run->begun = true;
    return;
  case Kind::Statistics:
    return statistics(task);
  case Kind::Update:
    return update(task);
  default:
    __builtin_unreachable(); // communicates
  }
}

void Rank::Interpreter::finish(const Run &run) {
  if (auto loss = run.graph->outputs.find("loss"); loss != run.graph->outputs.end()) {
    const Grid &grid = rank.compiled.grid;
    const Axes &partial = loss->second.partial;
    bool counts = true;
    for (size_t axis = 0; axis < grid.axes.size(); ++axis) {
      const std::string &name = grid.axes[axis].name;
      counts &= grid.coordinate(rank.rank, axis) == 0 || name == "dp" || name == "pp" ||
                std::find(partial.begin(), partial.end(), axis) != partial.end();
    }
    if (counts)
      rank.lossSum += rank.masterScalar(loss->second.address);
  }
  if (events.finish)
    events.finish(*run.graph, run.entry->microBatch);
}

void Rank::Interpreter::statistics(const Task &task) {
  double squares = 0;
  for (const Call &each : task.action->calls) {
    call(task, each);
    if (rank.compiled.grid.index(rank.rank, each.once) == 0)
      squares += rank.masterScalar(each.address);
  }
  double *to = rank.at<double>(task.action->to);
  to[0] = rank.lossSum;
  to[1] = squares;
}

void Rank::Interpreter::update(const Task &task) {
  Hyperparameters h = events.hyperparameters();
  const double values[8] = {h.gradientScale, h.learningRate, h.beta1,       h.beta2,
                            h.epsilon,       h.weightDecay,  h.correction1, h.correction2};
  for (const Call &each : task.action->calls) {
    for (int64_t i = 0; i < 8; ++i)
      rank.setMasterScalar(each.address, i, values[i]);
    call(task, each);
  }
}

void Rank::Interpreter::complete(const Task &task, Clock::time_point begin) {
  if (task.part == Task::Part::Begin) {
    task.run->begin = begin;
    return;
  }
  bool isItem = task.item >= 0;
  if (isItem) {
    task.run->done[task.item] = true;
    --task.run->left;
  } else {
    done[task.entry] = true;
  }
  if (!rank.trace)
    return;
  if (task.part == Task::Part::End)
    begin = task.run->begin;
  rank.trace->add({task.action, task.entry, task.item, task.run ? task.run->entry->microBatch : -1,
                   nullptr, begin, Clock::now()});
}

// `all_reduce on communicator 'tp' (layer 3), item 2 of graph 'forward',
// micro-batch 0, for rank 3`, one behind the other for all streams.
std::string Rank::Interpreter::waitsFor() const {
  std::ostringstream text;
  for (const auto &[number, stream] : streams) {
    if (!stream.started)
      continue;
    const Task &task = stream.queue.front();
    const Action &action = *task.action;
    text << (text.view().empty() ? "" : "; ") << actionName(action.kind) << " on communicator '"
         << rank.compiled.communicators[action.communicator].name << "'";
    if (!action.location.empty())
      text << " (" << action.location << ")";
    if (task.run)
      text << ", item " << task.item << " of graph '" << task.run->entry->graph << "', micro-batch "
           << task.run->entry->microBatch;
    else
      text << ", entry " << task.entry;
    if (action.kind == Kind::Send || action.kind == Kind::Receive) {
      const auto &[stage, chunk, microBatch, value] = action.tag;
      text << ", stage " << stage << ", chunk " << chunk << ", micro-batch " << microBatch
           << ", value " << value;
    }
    std::vector<int64_t> missing = stream.started->missing();
    text << ", for rank" << (missing.size() > 1 ? "s " : " ");
    for (size_t i = 0; i < missing.size(); ++i)
      text << (i ? ", " : "") << missing[i];
  }
  return text.view().empty() ? "nothing that could be started" : text.str();
}

void Rank::Interpreter::giveUp() const {
  std::vector<std::optional<std::string>> answers = rank.transport.ask(waitsFor());
  std::string silent, waiting;
  int64_t silentCount = 0;
  auto place = [&](int64_t number) {
    std::string text = rank.compiled.grid.placeText(number);
    return std::to_string(number) + (text.empty() ? "" : " (" + text + ")");
  };
  for (size_t number = 0; number < answers.size(); ++number)
    if (answers[number]) {
      waiting += "\n  rank " + place(number) + " waits: " + *answers[number];
    } else {
      silent += (silent.empty() ? "" : ", ") + place(number);
      ++silentCount;
    }
  std::ostringstream number;
  number << rank.timeout.count() << " s";
  std::string seconds = number.str();
  rank.transport.abandon((silentCount == 0 ? "all ranks have waited for each other for " + seconds
                                           : (silentCount == 1 ? "rank " : "ranks ") + silent +
                                                 (silentCount == 1 ? " has" : " have") +
                                                 " not answered for " + seconds) +
                         waiting);
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
  lossSum = 0;
  Interpreter(*this, entries, 0, firstUpdate(entries), events, microBatches).run();
}

void Rank::runUpdate(const std::string &name, const Events &events) {
  const std::vector<Action> &entries = stage().programs.at(name);
  Interpreter(*this, entries, firstUpdate(entries), entries.size(), events, compiled.microBatches)
      .run();
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
  const double *values = this->at<double>(at);
  return {values[0], values[1]};
}
