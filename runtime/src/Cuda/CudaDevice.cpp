//===- CudaDevice.cpp - Memory and queues of one rank on a GPU ------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// In four parts: memory and what goes to and from it, work that is put into streams, waiting (with
// the names of what is under way), recordings.
//
//   put      now, into the stream of the driver; or, behind a communication that has not met yet,
//            onto `held` of its queue, to be put there while the host waits
//   wait     polls the event, lets the exchange meet, takes what is done off `underWay`; says who
//            waits for whom after the timeout
//   record   a step becomes a CUDA graph; later writes change the data of its copies
//
//===----------------------------------------------------------------------===//

#include "src/Cuda/CudaDevice.h"

#include "src/Data/Error.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <sstream>
#include <thread>

using namespace llrt;
using namespace llrt::cuda;

// What writes may keep of the host's memory, beside those of a program, before the next one waits
// for them.
static constexpr int64_t MostStagedBytes = int64_t(64) << 20;

struct CudaDevice::Base {
  CUevent event = nullptr;
  Clock::time_point time;

  ~Base() { driver().cuEventDestroy_v2(event); }
};

struct CudaDevice::Reached : Mark {
  CudaDevice &device;
  CUevent event;
  std::shared_ptr<Base> base;
  bool recorded = false; // not where it is held back
  mutable bool done = false;

  Reached(CudaDevice &device, CUevent event) : device(device), event(event) {}
  ~Reached() override { device.events.push_back(event); }
};

// A piece of pinned memory that a copy to the host fills.
struct CudaDevice::Piece : Reading {
  CudaDevice &device;
  std::byte *memory;
  int64_t bytes;
  Event filled;

  Piece(CudaDevice &device, int64_t bytes)
      : device(device), memory(device.staging.take(bytes)), bytes(bytes) {}
  ~Piece() override {
    if (filled && !static_cast<const Reached &>(*filled).done)
      // The copy may be under way, or behind what waits for a rank that does not come.
      device.unread.emplace_back(memory, bytes);
    else
      device.staging.give(memory, bytes);
  }
  const std::byte *wait() override {
    device.wait(filled);
    return memory;
  }
};

struct CudaDevice::Graph : Recording {
  CudaDevice &device;
  CUgraphExec handle = nullptr;
  CUstream recordedIn = nullptr;                       // until the recording ends
  std::vector<std::pair<std::byte *, int64_t>> pieces; // and their bytes, in the order of writes
  bool communicates = false;
  Clock::time_point begin;                  // of the last time that it was played
  std::chrono::duration<double> longest{0}; // that it took; 0: it has not been played
  std::chrono::duration<double> took{0};    // piece by piece

  explicit Graph(CudaDevice &device) : device(device) {}
  ~Graph() override {
    device.gpu.enter();
    if (CUgraph graph = nullptr; recordedIn) { // it has failed
      driver().cuStreamEndCapture(recordedIn, &graph);
      if (graph)
        driver().cuGraphDestroy(graph);
    }
    if (handle)
      driver().cuGraphExecDestroy(handle);
    for (auto [piece, bytes] : pieces)
      device.staging.give(piece, bytes);
  }
};

CudaDevice::CudaDevice(const Program &program, int64_t rank, const Gpu &gpu,
                       std::unique_ptr<Exchange> exchange, Control &control,
                       const DeviceOptions &options)
    : program(program), rank(rank), gpu(gpu), control(control), timeout(options.timeout),
      mayRecord(options.records), exchange(std::move(exchange)), products(gpu.name()) {
  gpu.enter();
  for (const Communicator &communicator : program.communicators)
    members.push_back(communicator.members(program.grid, rank));
  const Stage &stage = program.stages[program.stageOf(rank)];
  for (const auto &[name, entries] : stage.programs)
    for (const Action &entry : entries)
      queue(entry.stream);
  for (int64_t stream : stage.productStreams) {
    CUdeviceptr start = take(LLRT_CUDA_WORKSPACE_BYTES, "the workspace of products");
    // NOLINTNEXTLINE(performance-no-int-to-ptr): the driver takes it so
    queue(stream).stream.workspace = reinterpret_cast<void *>(start);
  }
  startClock();
}

CudaDevice::~CudaDevice() {
  const Driver &cuda = driver();
  gpu.enter();
  // After a failure a stream may wait for a rank that does not come. NCCL waits for the end of graphs
  // with its calls before it ends: those that run end themselves when they are done.
  bool waits = std::uncaught_exceptions() > 0;
  recording = rewritten = nullptr;
  for (auto &[number, queue] : queues)
    for (UnderWay &piece : queue.underWay) {
      if (piece.started || (piece.graph && piece.graph->communicates))
        waits |= cuda.cuEventQuery(piece.done->event) != CUDA_SUCCESS;
      piece.graph = nullptr;
    }
  if (waits)
    exchange->abort();
  cuda.cuCtxSynchronize(); // what was put into streams uses all that follows
  for (auto [piece, bytes] : unread)
    staging.give(piece, bytes);
  for (auto &[number, queue] : queues) {
    queue.held.clear();
    queue.underWay.clear();
    cuda.cuStreamDestroy_v2(queue.stream.handle);
  }
  base.reset();
  for (CUevent event : events)
    cuda.cuEventDestroy_v2(event);
  for (CUdeviceptr each : memory)
    cuda.cuMemFree_v2(each);
}

CUdeviceptr CudaDevice::take(int64_t bytes, const std::string &what) {
  CUdeviceptr start = 0;
  if (CUresult result = driver().cuMemAlloc_v2(&start, size_t(bytes)))
    fail("memory: expected ", bytes, " bytes for ", what, ", got: ", errorText(result), "; GPU ",
         gpu.number(), " (", gpu.name(), ") has ", gpu.freeBytes(), " left");
  memory.push_back(start);
  return start;
}

void *CudaDevice::allocate(int64_t bytes, const std::string &name) {
  gpu.enter();
  int64_t size = std::max<int64_t>(bytes, 1);
  CUdeviceptr start = take(size, "arena " + name);
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the driver takes it so
  zero(0, reinterpret_cast<void *>(start), size);
  wait(record(0)); // whichever stream comes to it first
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the driver takes it so
  return reinterpret_cast<void *>(start);
}

//===----------------------------------------------------------------------===//
// Work
//===----------------------------------------------------------------------===//

CudaDevice::Queue &CudaDevice::queue(Stream stream) {
  gpu.enter();
  auto [entry, isNew] = queues.try_emplace(stream);
  Queue &queue = entry->second;
  if (isNew) {
    queue.stream = {&gpu, nullptr, &products, &maps, nullptr, "", false};
    check(driver().cuStreamCreateWithPriority(&queue.stream.handle, streamNonBlocking, 0),
          "cuStreamCreateWithPriority");
  }
  return queue;
}

void CudaDevice::put(Queue &queue, Step step) {
  if (!queue.held.empty() || !step())
    queue.held.push_back(std::move(step));
}

void CudaDevice::put(Queue &queue, std::function<void(CUstream)> work) {
  put(queue, Step([work = std::move(work), handle = queue.stream.handle] {
        work(handle);
        return true;
      }));
}

bool CudaDevice::putHeld() {
  bool any = false;
  for (auto &[number, queue] : queues)
    while (!queue.held.empty() && queue.held.front()()) {
      queue.held.pop_front();
      any = true;
    }
  return any;
}

void CudaDevice::write(Stream stream, void *to, int64_t bytes,
                       const std::function<void(std::byte *)> &fill) {
  if (bytes <= 0)
    return;
  Queue &queue = this->queue(stream);
  auto take = [&](int64_t count) {
    if (!rewritten)
      return staging.take(count);
    if (nextPiece == rewritten->pieces.size() || rewritten->pieces[nextPiece].second != count)
      throw Failure("a write that was not recorded");
    return rewritten->pieces[nextPiece++].first;
  };
  auto send = [&](std::byte *piece, int64_t at, int64_t count) {
    if (rewritten)
      return;
    put(queue, [=, this](CUstream handle) {
      check(driver().cuMemcpyHtoDAsync_v2(CUdeviceptr(to) + CUdeviceptr(at), piece, size_t(count),
                                          handle),
            "cuMemcpyHtoDAsync");
      if (recording)
        recording->pieces.emplace_back(piece, count);
      else
        staging.give(piece, count, handle);
    });
    // Not where the copies may come after what other ranks have to do.
    if (!recording && staging.underWay() > MostStagedBytes + programBytes && !communicates())
      wait(record(stream));
  };
  if (bytes <= Staging::MostBytes) {
    std::byte *piece = take(bytes);
    fill(piece);
    return send(piece, 0, bytes);
  }
  auto data = std::make_unique_for_overwrite<std::byte[]>(size_t(bytes));
  fill(data.get());
  for (int64_t at = 0; at < bytes; at += Staging::MostBytes) {
    int64_t count = std::min(Staging::MostBytes, bytes - at);
    std::byte *piece = take(count);
    std::memcpy(piece, data.get() + at, size_t(count));
    send(piece, at, count);
  }
}

void CudaDevice::read(Stream stream, const void *from, int64_t bytes, void *to) {
  Queue &queue = this->queue(stream);
  if (bytes <= 0)
    return wait(record(stream));
  for (int64_t at = 0; at < bytes; at += Staging::MostBytes) {
    int64_t count = std::min(Staging::MostBytes, bytes - at);
    std::byte *piece = staging.take(Staging::MostBytes); // the one that is there for it
    put(queue, [=, this](CUstream handle) {
      check(driver().cuMemcpyDtoHAsync_v2(piece, CUdeviceptr(from) + CUdeviceptr(at), size_t(count),
                                          handle),
            "cuMemcpyDtoHAsync");
    });
    wait(record(stream));
    std::memcpy(static_cast<std::byte *>(to) + at, piece, size_t(count));
    staging.give(piece, Staging::MostBytes);
  }
}

std::unique_ptr<Device::Reading> CudaDevice::readLater(Stream stream, const void *from,
                                                       int64_t bytes) {
  if (bytes > Staging::MostBytes)
    return Device::readLater(stream, from, bytes);
  Queue &queue = this->queue(stream);
  auto piece = std::make_unique<Piece>(*this, bytes);
  put(queue, [=, this, to = piece->memory](CUstream handle) {
    check(driver().cuMemcpyDtoHAsync_v2(to, CUdeviceptr(from), size_t(bytes), handle),
          "cuMemcpyDtoHAsync");
  });
  piece->filled = record(stream);
  return piece;
}

void CudaDevice::zero(Stream stream, void *to, int64_t bytes) {
  if (bytes > 0)
    put(queue(stream), [=, this](CUstream handle) {
      check(driver().cuMemsetD8Async(CUdeviceptr(to), 0, size_t(bytes), handle), "cuMemsetD8Async");
    });
}

void CudaDevice::copy(Stream stream, void *to, int64_t toStride, const void *from,
                      int64_t fromStride, int64_t rows, int64_t bytes) {
  put(queue(stream),
      [=](CUstream handle) { copyRows(handle, to, toStride, from, fromStride, rows, bytes); });
}

void CudaDevice::call(Stream stream, LlrtBlock block, std::vector<void *> buffers,
                      const Work &work) {
  Queue &queue = this->queue(stream);
  put(queue, [=, this, &queue, buffers = std::move(buffers)](CUstream) mutable {
    block(&queue.stream, buffers.data());
    if (!queue.stream.error.empty())
      throw Failure(workText(program, work) + ": " + std::exchange(queue.stream.error, ""));
  });
  if (!recording)
    queue.underWay.push_back({work, mark(queue), nullptr, nullptr});
}

void CudaDevice::communicate(Stream stream, const void *from, void *to, void *, const Work &work) {
  Queue &queue = this->queue(stream);
  auto started = std::make_shared<Started>();
  put(queue, Step([=, this, handle = queue.stream.handle] {
        try {
          if (!std::exchange(started->begun, true))
            started->meeting = exchange->start(handle, *work.action, from, to);
          return !started->meeting || started->meeting->join(handle);
        } catch (const std::exception &error) {
          throw Failure(workText(program, work) + ": " + error.what());
        }
      }));
  if (recording)
    recording->communicates = true;
  else
    queue.underWay.push_back({work, mark(queue), started, nullptr});
}

// Between the first and the last piece of work of a program nothing is allocated, loaded, connected
// or waited for: while other ranks wait for this one, what drains the GPU would never end (rule R5
// of the compiler's check). So all of it is done here.
void CudaDevice::prepare(const std::function<void(const Visitor &)> &visit) {
  products.load();
  std::set<std::pair<LlrtBlock, std::vector<void *>>> calls;
  struct Communication {
    Stream stream;
    const void *from;
    void *to;
    Work work;
  };
  // Of each communicator those that differ, in their order on all members.
  std::map<size_t, std::vector<Communication>> communications;
  std::vector<int64_t> pieces;
  auto differs = [](const Action &one, const Action &other) {
    return std::tuple(one.kind, one.type, one.outer * one.elements, one.reduction) !=
           std::tuple(other.kind, other.type, other.outer * other.elements, other.reduction);
  };
  auto call = [&](Stream stream, LlrtBlock block, std::vector<void *> buffers) {
    auto [entry, isNew] = calls.emplace(block, std::move(buffers));
    if (!isNew)
      return;
    LlrtStream prepared = queue(stream).stream;
    prepared.preparing = true;
    std::vector<void *> copy = entry->second;
    block(&prepared, copy.data());
    if (!prepared.error.empty())
      throw Failure(prepared.error);
  };
  Visitor visitor;
  visitor.call = call;
  visitor.communicate = [&](Stream stream, const void *from, void *to, const Work &work) {
    std::vector<Communication> &known = communications[work.action->communicator];
    if (std::all_of(known.begin(), known.end(), [&](const Communication &each) {
          return differs(*each.work.action, *work.action);
        }))
      known.push_back({stream, from, to, work});
  };
  // Twice: of a step that computes, and of the next one, whose inputs are written meanwhile.
  visitor.write = [&](int64_t bytes) {
    programBytes += 2 * bytes;
    for (int turn = 0; turn < 2; ++turn)
      for (int64_t rest = bytes; rest > 0; rest -= Staging::MostBytes)
        pieces.push_back(std::min(rest, Staging::MostBytes));
  };
  visit(visitor);
  // For what the host reads: sums of steps, anything at once.
  pieces.insert(pieces.end(), 4, 1);
  pieces.push_back(Staging::MostBytes);
  staging.reserve(pieces);

  auto gathered = [&] { // at rank 0
    std::string all;
    for (const std::string &choices : control.gather(products.choices()))
      all += choices;
    return all;
  };
  std::string all = gathered();
  if (control.broadcast(rank == 0 && products.keep(all) ? "kept" : "") != "kept") {
    products.forget();
    all = gathered();
  }
  products.adopt(control.broadcast(all));
  // What others have chosen is loaded, too.
  calls.clear();
  visitor.communicate = [](Stream, const void *, void *, const Work &) {};
  visitor.write = [](int64_t) {};
  visit(visitor);
  wait(record(0));

  // NCCL makes connections, takes memory for them and loads code when they are first used. One
  // communicator after the other, in one order everywhere.
  if (!exchange->meets())
    for (const auto &[number, list] : communications)
      for (const Communication &each : list) {
        communicate(each.stream, each.from, each.to, nullptr, each.work);
        wait(record(each.stream));
      }
  // Nobody begins while another is at this.
  control.gather("");
  control.broadcast("");
}

//===----------------------------------------------------------------------===//
// Events
//===----------------------------------------------------------------------===//

// Nothing is under way. The difference of two events is a float in milliseconds: to a microsecond
// within ten seconds.
void CudaDevice::startClock() {
  const Driver &cuda = driver();
  auto next = std::make_shared<Base>();
  CUstream handle = queue(0).stream.handle;
  check(cuda.cuEventCreate(&next->event, 0), "cuEventCreate");
  check(cuda.cuEventRecord(next->event, handle), "cuEventRecord");
  while (true) { // at once: the GPU has nothing else to do
    CUresult result = cuda.cuEventQuery(next->event);
    if (result == CUDA_SUCCESS)
      break;
    if (result != CUDA_ERROR_NOT_READY)
      check(result, "cuEventQuery");
  }
  next->time = Clock::now();
  base = std::move(next);
}

std::shared_ptr<CudaDevice::Reached> CudaDevice::mark(Queue &queue) {
  if (events.empty())
    check(driver().cuEventCreate(&events.emplace_back(), 0), "cuEventCreate");
  auto reached = std::make_shared<Reached>(*this, events.back());
  events.pop_back();
  reached->base = base;
  put(queue, [this, reached](CUstream handle) {
    check(driver().cuEventRecord(reached->event, handle), "cuEventRecord");
    reached->recorded = true;
  });
  return reached;
}

Device::Event CudaDevice::record(Stream stream) { return mark(queue(stream)); }

void CudaDevice::await(Stream stream, const Event &event) {
  auto reached = std::static_pointer_cast<Reached>(event);
  Queue &queue = this->queue(stream);
  put(queue, Step([=, this, handle = queue.stream.handle] {
        if (!reached->recorded)
          return false;
        check(driver().cuStreamWaitEvent(handle, reached->event, 0), "cuStreamWaitEvent");
        return true;
      }));
  if (!recording)
    queue.underWay.push_back({{}, std::move(reached), nullptr, nullptr});
}

Device::Clock::time_point CudaDevice::time(const Event &event) const {
  const auto &reached = static_cast<const Reached &>(*event);
  gpu.enter();
  float milliseconds = 0;
  cuda::check(driver().cuEventElapsedTime(&milliseconds, reached.base->event, reached.event),
              "cuEventElapsedTime");
  return reached.base->time + std::chrono::duration_cast<Clock::duration>(
                                  std::chrono::duration<double, std::milli>(milliseconds));
}

void CudaDevice::beginRecording(Stream stream, std::chrono::duration<double> took) {
  auto graph = std::make_shared<Graph>(*this);
  graph->took = took;
  CUstream handle = queue(stream).stream.handle;
  check(driver().cuStreamBeginCapture_v2(handle, CU_STREAM_CAPTURE_MODE_RELAXED),
        "cuStreamBeginCapture");
  graph->recordedIn = handle;
  recording = std::move(graph);
}

std::shared_ptr<Device::Recording> CudaDevice::endRecording(Stream stream) {
  const Driver &cuda = driver();
  CUgraph graph = nullptr;
  recording->recordedIn = nullptr;
  check(cuda.cuStreamEndCapture(queue(stream).stream.handle, &graph), "cuStreamEndCapture");
  CUresult result = cuda.cuGraphInstantiateWithFlags(&recording->handle, graph, 0);
  cuda.cuGraphDestroy(graph);
  check(result, "cuGraphInstantiate");
  return std::exchange(recording, nullptr);
}

void CudaDevice::rewrite(const std::shared_ptr<Recording> &of) {
  rewritten = std::static_pointer_cast<Graph>(of);
  nextPiece = 0;
}

void CudaDevice::play(Stream stream, const std::shared_ptr<Recording> &of) {
  auto graph = std::static_pointer_cast<Graph>(of);
  if (rewritten && nextPiece != rewritten->pieces.size())
    throw Failure("fewer writes than were recorded");
  rewritten = nullptr;
  Queue &queue = this->queue(stream);
  graph->begin = Clock::now();
  check(driver().cuGraphLaunch(graph->handle, queue.stream.handle), "cuGraphLaunch");
  queue.underWay.push_back({{}, mark(queue), nullptr, graph});
}

bool CudaDevice::isDone(const Reached &event) {
  if (!event.recorded)
    return false;
  if (!event.done) {
    CUresult result = driver().cuEventQuery(event.event);
    if (result == CUDA_ERROR_NOT_READY)
      return false;
    check(result, "cuEventQuery");
    event.done = true;
  }
  return true;
}

bool CudaDevice::progress() {
  bool any = putHeld();
  for (auto &[number, queue] : queues)
    while (!queue.underWay.empty() && isDone(*queue.underWay.front().done)) {
      if (Graph *graph = queue.underWay.front().graph.get())
        graph->longest =
            std::max<std::chrono::duration<double>>(graph->longest, Clock::now() - graph->begin);
      queue.underWay.pop_front();
      any = true;
    }
  return any;
}

static bool isCommunication(const Work &work) { return work.action && work.action->communicates(); }

bool CudaDevice::communicates() const {
  return std::any_of(queues.begin(), queues.end(), [](const auto &each) {
    const std::deque<UnderWay> &list = each.second.underWay;
    return !list.empty() && (isCommunication(list.front().work) ||
                             (list.front().graph && list.front().graph->communicates));
  });
}

void CudaDevice::check(CUresult result, const char *what) {
  if (result == CUDA_SUCCESS)
    return;
  std::string text = errorText(result), where;
  // Work ends in order: what is at the heads of the streams was at work.
  for (const auto &[number, queue] : queues)
    if (!queue.underWay.empty() && queue.underWay.front().graph)
      where += std::string(where.empty() ? "" : "; or ") +
               "a step, given as CUDA graphs (--graph=off tells which part)";
    else if (!queue.underWay.empty() && queue.underWay.front().work.action)
      where += (where.empty() ? "" : "; or ") + workText(program, queue.underWay.front().work);
  throw Failure((where.empty() ? what : where) + ": GPU " + std::to_string(gpu.number()) +
                (program.grid.ranks() > 1 ? " of rank " + std::to_string(rank) : "") + ": " + text);
}

void CudaDevice::wait(const Event &event) {
  gpu.enter();
  const auto &reached = static_cast<const Reached &>(*event);
  Clock::time_point moved = Clock::now();
  auto pause = std::chrono::microseconds(0);
  while (!isDone(reached)) {
    if (progress() || !communicates()) {
      // The GPU computes, however long it takes.
      moved = Clock::now();
    } else if (auto most = patience(); Clock::now() - moved > most) {
      giveUp(program.grid, control, most, waitsFor());
    }
    control.answer(waitsFor());
    exchange->check();
    // Short at first: steps can be short.
    std::this_thread::sleep_for(pause);
    pause = std::min(pause + std::chrono::microseconds(1), std::chrono::microseconds(100));
  }
  progress();
  const bool isIdle = std::all_of(queues.begin(), queues.end(), [](const auto &each) {
    return each.second.held.empty() && each.second.underWay.empty();
  });
  if (isIdle && Clock::now() - base->time > std::chrono::seconds(1))
    startClock();
}

// How long nothing may move. What is in a graph cannot be seen: it gets ten times as long as
// it ever took, at first as piece by piece.
std::chrono::duration<double> CudaDevice::patience() const {
  std::chrono::duration<double> result = timeout;
  for (const auto &[number, queue] : queues)
    if (!queue.underWay.empty())
      if (const Graph *graph = queue.underWay.front().graph.get())
        result = std::max(result, 10 * (graph->longest.count() > 0 ? graph->longest : graph->took));
  return result;
}

std::string CudaDevice::waitsFor() const {
  std::ostringstream text;
  for (const auto &[number, queue] : queues)
    if (!queue.underWay.empty() && queue.underWay.front().graph)
      return "its GPU, which does a step as CUDA graphs (--graph=off tells which part)";
  for (const auto &[number, queue] : queues) {
    if (queue.underWay.empty() || !isCommunication(queue.underWay.front().work))
      continue;
    const Work &work = queue.underWay.front().work;
    text << (text.view().empty() ? "" : "; ") << workText(program, work);
    const Started &started = *queue.underWay.front().started;
    std::vector<int64_t> others;
    if (started.meeting)
      others = started.meeting->missing();
    if (others.empty()) { // all have come, or it is not known who has
      others = members[work.action->communicator];
      std::erase(others, rank);
    }
    text << ", for rank" << (others.size() > 1 ? "s " : " ");
    for (size_t i = 0; i < others.size(); ++i)
      text << (i ? ", " : "") << others[i];
  }
  return text.view().empty() ? "its GPU, which computes" : text.str();
}
