//===- Ranks.cpp - The ranks of a command ---------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Commands/Ranks.h"

#include "src/Commands/Memory.h"
#include "src/Control/InProcess.h"
#include "src/Data/Error.h"
#include "src/Transport/Mpi.h"
#include "src/Transport/Tcp.h"
#include "src/Transport/Threads.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <sched.h>
#include <thread>

using namespace llrt;

// The cores for one process of `launch`.
static int64_t availableCores(const Launch &launch) {
  cpu_set_t set;
  int64_t cores = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
  // Launchers may or may not bind processes to cores of their own.
  return std::min<int64_t>(
      cores, std::max<int64_t>(1, std::thread::hardware_concurrency() / launch.localSize));
}

std::vector<Option> llrt::rankOptions(const Program &program, int64_t spare) {
  Launch launch = Launch::find(program.grid.ranks());
  int64_t here = launch.processes() ? 1 : program.grid.ranks();
  int64_t cores = availableCores(launch) - spare;
  std::vector<Option> options = {
      memoryOption(),
      {"threads", "N", std::to_string(std::max<int64_t>(1, cores / here)),
       "Threads of each rank that compute."},
      {"timeout", "SECONDS", "60",
       "Give up if other ranks do not come at the start, or do not answer, for so long."}};
  if (program.device)
    options.push_back({"graph", "on|off", "on",
                       "Whether a step is given to the GPU as CUDA graphs, from the second on."});
  return options;
}

static int64_t threadsOf(const Arguments &arguments) {
  constexpr int64_t most = 4096; // more than OpenMP can start on any machine
  int64_t count = arguments.integer("threads", 1);
  if (count > most)
    fail("option '--threads': expected at most ", most, ", got ", count);
  return count;
}

// The threads of the ranks and what they are to do.
struct Ranks::Pool {
  InProcess control;
  Threads transport;
  std::mutex mutex;
  std::condition_variable changed;
  const std::function<void(Rank &)> *work = nullptr;
  int64_t turn = 0, busy = 0; // `busy`: ranks that are not done with the turn
  bool end = false;
  std::exception_ptr failure; // the first one
  std::vector<std::unique_ptr<Rank>> ranks;
  std::vector<std::thread> threads;

  explicit Pool(int64_t count) : control(count), transport(count), ranks(count) {}

  ~Pool() {
    {
      std::lock_guard lock(mutex);
      end = true;
    }
    changed.notify_all();
    for (std::thread &thread : threads)
      thread.join();
  }

  // Calls `step`; a failure ends the waiting of all other ranks.
  template <typename Step> void attempt(Step step) {
    try {
      step();
    } catch (...) {
      {
        std::lock_guard lock(mutex);
        if (!failure)
          failure = std::current_exception();
      }
      control.stop();
    }
    std::lock_guard lock(mutex);
    if (--busy == 0)
      changed.notify_all();
  }

  // The life of a rank's thread; `make` makes the rank.
  void live(int64_t number, const std::function<std::unique_ptr<Rank>()> &make) {
    attempt([&] { ranks[number] = make(); });
    for (int64_t done = 0;; ++done) {
      {
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return end || turn > done; });
        if (end)
          break;
      }
      attempt([&] { (*work)(*ranks[number]); });
    }
    ranks[number].reset();
  }

  void wait() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return busy == 0; });
    if (failure)
      std::rethrow_exception(failure);
  }
};

Ranks::Ranks(const Program &program, const Arguments &arguments,
             const std::vector<std::string> &runs)
    : compiled(program), launch(Launch::find(program.grid.ranks())) {
  DeviceOptions options;
  options.runs = runs;
  options.threads = threadsOf(arguments);
  constexpr double mostSeconds = 1e9; // a clock counts nanoseconds in 64 bits
  options.timeout = std::chrono::duration<double>(arguments.number("timeout", 0.1, mostSeconds));
  options.mayExceedMemory = mayExceedMemory(arguments);
  if (program.device)
    options.records = arguments.choice("graph", {"on", "off"}) == "on";
  int64_t count = program.grid.ranks();
  auto makeRank = [=, this, &program](int64_t number, Transport &transport, Control &control) {
    return std::make_unique<Rank>(program, number, options.threads,
                                  devices->make(number, transport, control), runs);
  };
  if (launch.processes() && count > 1) {
    if (launch.kind == Launch::Kind::Mpi) {
      auto mpi = std::make_unique<MpiControl>();
      transport = std::make_unique<MpiTransport>(*mpi);
      control = std::move(mpi);
    } else {
      auto tcp = std::make_unique<TcpControl>(launch, program.model.hash, options.timeout);
      transport = std::make_unique<TcpTransport>(*tcp);
      control = std::move(tcp);
    }
    // Now that others are told of it if it fails.
    devices = makeDevices(program, launch, options);
    single = makeRank(launch.rank, *transport, *control);
    return;
  }
  devices = makeDevices(program, launch, options);
  pool = std::make_unique<Pool>(count);
  pool->busy = count;
  for (int64_t number = 0; number < count; ++number)
    pool->threads.emplace_back([=, this] {
      pool->live(number, [&] {
        return makeRank(number, pool->transport.of(number), pool->control.of(number));
      });
    });
  pool->wait();
}

Ranks::~Ranks() = default;

void Ranks::each(const std::function<void(Rank &)> &work) {
  if (single)
    return work(*single);
  {
    std::lock_guard lock(pool->mutex);
    pool->work = &work;
    pool->busy = pool->ranks.size();
    ++pool->turn;
  }
  pool->changed.notify_all();
  pool->wait();
}

Rank *Ranks::local(int64_t number) const {
  if (pool)
    return pool->ranks[number].get();
  return number == launch.rank ? single.get() : nullptr;
}

void Ranks::setTraces(std::vector<Trace> *traces) {
  for (int64_t number = 0; number < compiled.grid.ranks(); ++number)
    if (Rank *rank = local(number))
      rank->setTrace(traces ? &(*traces)[number] : nullptr);
}

// What rank 0 says to one that serves: send me `bytes` bytes of your memory; or, with
// `bytes` -1, go on, with the status `arena` and the text that follows.
namespace {
struct Question {
  int64_t arena, offset, bytes;
};
} // namespace

std::string Ranks::serve() {
  for (;;) {
    Question question;
    control->receive(0, &question, sizeof(question));
    if (question.bytes < 0) {
      std::string result = control->receiveText(0);
      if (question.arena != 0)
        throw PeerFailure(int(question.arena));
      return result;
    }
    std::vector<std::byte> answer(question.bytes);
    single->read({question.arena, question.offset}, question.bytes, answer.data());
    control->send(0, answer.data(), question.bytes);
  }
}

void Ranks::release(int status, const std::string &result) {
  Question last = {status, 0, -1};
  for (int64_t other = 1; other < control->size(); ++other) {
    control->send(other, &last, sizeof(last));
    control->sendText(other, result);
  }
}

std::string Ranks::atRoot(const std::function<std::string()> &work) {
  if (!control)
    return work();
  if (!isRoot())
    return serve();
  try {
    std::string result = work();
    release(0, result);
    return result;
  } catch (const Error &) {
    release(2, "");
    throw;
  } catch (...) {
    release(1, "");
    throw;
  }
}

void Ranks::read(int64_t rank, Address from, int64_t bytes, void *to) const {
  if (const Rank *here = local(rank))
    return here->read(from, bytes, to);
  Question question = {from.arena, from.offset, bytes};
  control->send(rank, &question, sizeof(question));
  control->receive(rank, to, bytes);
}

std::vector<std::string> Ranks::texts(const std::function<std::string(Rank &)> &make) {
  std::vector<std::string> result;
  each([&](Rank &rank) {
    Control &own = control ? *control : pool->control.of(rank.number());
    std::vector<std::string> all = own.gather(make(rank));
    if (rank.number() == 0)
      result = std::move(all);
  });
  return result;
}

Tracing::Tracing(Ranks &ranks, std::string path)
    : ranks(ranks), file(std::move(path)), traces(ranks.program().grid.ranks()) {
  ranks.atRoot([&] {
    writeTrace(file, {}); // now, not after hours of work
    return std::string();
  });
  ranks.setTraces(&traces);
}

Tracing::~Tracing() { pause(); }

void Tracing::setStep(int64_t number) {
  for (Trace &trace : traces)
    trace.setStep(number);
}

void Tracing::pause() { ranks.setTraces(nullptr); }

void Tracing::write() {
  std::vector<std::string> lines = ranks.texts([&](Rank &rank) {
    std::string text;
    for (const std::string &line : traces[rank.number()].lines(ranks.program(), rank.number()))
      text += (text.empty() ? "" : ",\n") + line;
    return text;
  });
  ranks.atRoot([&] {
    writeTrace(file, lines);
    return std::string();
  });
}
