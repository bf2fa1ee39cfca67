//===- Mpi.cpp - Ranks as MPI processes -----------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A message is two MPI messages of one tag, the channel: the label, then the
// data in pieces that MPI's int can count. MPI keeps their order.
//
//===----------------------------------------------------------------------===//

#include "src/Transport/Mpi.h"

#include "src/Data/Error.h"

#define OMPI_SKIP_MPICXX 1 // the C interface only
#include <mpi.h>           // types only: the library is loaded at run time

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <exception>
#include <sched.h>
#include <unistd.h>

using namespace llrt;
using Clock = std::chrono::steady_clock;

// Of the communicator that ranks talk on about themselves.
enum ControlTag : int { AskTag = 1, AnswerTag, QuestionTag, DataTag };

// Questions that are not about memory, by their `bytes`.
static constexpr int64_t TextBytes = -1; // the text of the rank
static constexpr int64_t ReleaseBytes =
    -2; // no more: `arena` is a status, `offset` the bytes of a text

// The most bytes of one MPI message.
static constexpr int64_t PieceBytes = int64_t(1) << 30;

// mpirun ends all processes when one of them dies: SIGTERM, a second later
// SIGKILL. In between each tells what it was waiting for.
static volatile std::sig_atomic_t terminated = 0;
static constexpr std::chrono::milliseconds LastWait(300);

struct Mpi::Library {
  decltype(&MPI_Init_thread) init;
  decltype(&MPI_Finalize) finalize;
  decltype(&MPI_Abort) abort;
  decltype(&MPI_Comm_dup) duplicate;
  decltype(&MPI_Comm_set_errhandler) setErrorHandler;
  decltype(&MPI_Comm_rank) commRank;
  decltype(&MPI_Comm_size) commSize;
  decltype(&MPI_Isend) isend;
  decltype(&MPI_Irecv) irecv;
  decltype(&MPI_Test) test;
  decltype(&MPI_Iprobe) iprobe;
  decltype(&MPI_Get_count) count;
  decltype(&MPI_Error_string) errorString;
  MPI_Comm world, control;
  MPI_Datatype byte;
  int rank = 0, size = 1;
  int64_t lowestAsker = INT64_MAX;
  int64_t idles = 0; // calls of `idle` since anything moved, about
  Clock::time_point lastIdle, terminatedAt;

  void check(int status) const {
    if (status == MPI_SUCCESS)
      return;
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    errorString(status, text, &length);
    throw Failure(std::string("MPI: ") + text);
  }

  // Starts all pieces of a message.
  std::vector<MPI_Request> start(bool isSend, void *data, int64_t bytes, int64_t peer, int tag,
                                 MPI_Comm comm) const {
    std::vector<MPI_Request> requests;
    for (int64_t at = 0; at < bytes; at += PieceBytes) {
      char *piece = static_cast<char *>(data) + at;
      int length = int(std::min(PieceBytes, bytes - at));
      MPI_Request &request = requests.emplace_back();
      check(isSend ? isend(piece, length, byte, int(peer), tag, comm, &request)
                   : irecv(piece, length, byte, int(peer), tag, comm, &request));
    }
    return requests;
  }

  bool testAll(std::vector<MPI_Request> &requests) const {
    while (!requests.empty()) {
      int done = 0;
      check(test(&requests.back(), &done, MPI_STATUS_IGNORE));
      if (!done)
        return false;
      requests.pop_back();
    }
    return true;
  }

  // The same for messages about ranks, waiting. Costs no core while it waits.
  void transfer(bool isSend, void *data, int64_t bytes, int64_t peer, int tag) const {
    std::vector<MPI_Request> requests = start(isSend, data, bytes, peer, tag, control);
    while (!testAll(requests))
      usleep(20);
  }

  // The size of a message of `tag` that has arrived from `peer`, which may be
  // MPI_ANY_SOURCE; -1: there is none.
  int64_t arrived(int &peer, int &tag) const {
    int found = 0;
    MPI_Status status;
    check(iprobe(peer, tag, control, &found, &status));
    if (!found)
      return -1;
    int bytes = 0;
    check(count(&status, byte, &bytes));
    peer = status.MPI_SOURCE;
    tag = status.MPI_TAG;
    return bytes;
  }
};

// The library on Debian 12; its interface has been the same since Open MPI 2.
static constexpr const char *LibraryName = "libmpi.so.40";

Mpi::Mpi() : library(std::make_unique<Library>()) {
  Library &mpi = *library;
  // Its plugins look for symbols of the library: global.
  void *handle = dlopen(LibraryName, RTLD_NOW | RTLD_GLOBAL);
  if (!handle)
    fail("MPI: expected Open MPI's ", LibraryName,
         " (Debian: libopenmpi3), as a launcher has started this process: ", dlerror());
  auto load = [&](auto &to, const char *name) {
    void *symbol = dlsym(handle, name);
    if (!symbol)
      fail("MPI: ", LibraryName, ": expected Open MPI, got a library without ", name);
    to = reinterpret_cast<std::remove_reference_t<decltype(to)>>(symbol);
  };
  load(mpi.init, "MPI_Init_thread");
  load(mpi.finalize, "MPI_Finalize");
  load(mpi.abort, "MPI_Abort");
  load(mpi.duplicate, "MPI_Comm_dup");
  load(mpi.setErrorHandler, "MPI_Comm_set_errhandler");
  load(mpi.commRank, "MPI_Comm_rank");
  load(mpi.commSize, "MPI_Comm_size");
  load(mpi.isend, "MPI_Isend");
  load(mpi.irecv, "MPI_Irecv");
  load(mpi.test, "MPI_Test");
  load(mpi.iprobe, "MPI_Iprobe");
  load(mpi.count, "MPI_Get_count");
  load(mpi.errorString, "MPI_Error_string");
  MPI_Comm world;
  MPI_Errhandler returns;
  load(world, "ompi_mpi_comm_world");
  load(returns, "ompi_mpi_errors_return");
  load(mpi.byte, "ompi_mpi_byte");

  int level;
  if (mpi.init(nullptr, nullptr, MPI_THREAD_FUNNELED, &level) != MPI_SUCCESS ||
      level < MPI_THREAD_FUNNELED)
    fail("MPI: cannot be started");
  // Communicators of our own, which the error handler of is inherited by.
  mpi.check(mpi.setErrorHandler(world, returns));
  mpi.check(mpi.duplicate(world, &mpi.world));
  mpi.check(mpi.duplicate(world, &mpi.control));
  mpi.check(mpi.commRank(mpi.world, &mpi.rank));
  mpi.check(mpi.commSize(mpi.world, &mpi.size));
  std::signal(SIGTERM, [](int) { terminated = 1; });
}

Mpi::~Mpi() {
  // A rank that has failed leaves the others behind; the launcher ends them.
  if (std::uncaught_exceptions() == 0)
    library->finalize();
}

int64_t Mpi::rank() const { return library->rank; }

//===----------------------------------------------------------------------===//
// Messages
//===----------------------------------------------------------------------===//

class Mpi::Pending : public Transport::Request {
public:
  Pending(Library &mpi, bool isSend, int64_t peer, int64_t channel, const Label &label, void *data)
      : mpi(mpi), isSend(isSend), peer(peer), tag(int(channel)), own(label), other(label),
        data(data) {
    requests = mpi.start(isSend, &other, sizeof(other), peer, tag, mpi.world);
    if (isSend)
      for (MPI_Request request : mpi.start(true, data, own.bytes, peer, tag, mpi.world))
        requests.push_back(request);
  }

  bool test() override {
    if (!mpi.testAll(requests))
      return false;
    if (isSend || hasLabel)
      return true;
    requireEqual(own, other);
    hasLabel = true;
    requests = mpi.start(false, data, own.bytes, peer, tag, mpi.world);
    return mpi.testAll(requests);
  }

private:
  Library &mpi;
  bool isSend, hasLabel = false;
  int64_t peer;
  int tag;
  Label own, other;
  void *data;
  std::vector<MPI_Request> requests;
};

std::unique_ptr<Transport::Request> Mpi::send(int64_t channel, int64_t to, const Label &label,
                                              const void *data) {
  return std::make_unique<Pending>(*library, true, to, channel, label, const_cast<void *>(data));
}

std::unique_ptr<Transport::Request> Mpi::receive(int64_t channel, int64_t from, const Label &label,
                                                 void *data) {
  return std::make_unique<Pending>(*library, false, from, channel, label, data);
}

//===----------------------------------------------------------------------===//
// Ranks that do not answer
//===----------------------------------------------------------------------===//

// Tells those who ask what this rank does.
void Mpi::answerControl(const std::string &own) {
  for (;;) {
    int peer = MPI_ANY_SOURCE, tag = AskTag;
    if (library->arrived(peer, tag) < 0)
      return;
    char none;
    library->transfer(false, &none, 1, peer, AskTag);
    library->lowestAsker = std::min<int64_t>(library->lowestAsker, peer);
    std::string text = own;
    library->transfer(true, text.data(), text.size(), peer, AnswerTag);
  }
}

// Ends the process if it waits though it has been told to end for some time.
void Mpi::endIfTerminated(const std::string &own) {
  if (!terminated)
    return;
  Clock::time_point now = Clock::now(), &since = library->terminatedAt;
  if (since == Clock::time_point())
    since = now;
  if (now - since < LastWait)
    return;
  std::fprintf(stderr,
               "%s: error: ended by a signal, perhaps as another rank has died; "
               "rank %d waited: %s\n",
               program_invocation_short_name, library->rank, own.c_str());
  _exit(1);
}

void Mpi::idle(const std::string &waitsFor) {
  Library &mpi = *library;
  answerControl(waitsFor);
  endIfTerminated(waitsFor);
  Clock::time_point now = Clock::now();
  // A short wait keeps the core, a long one leaves it to others.
  if (now - mpi.lastIdle > std::chrono::milliseconds(1))
    mpi.idles = 0;
  if (++mpi.idles < 1000)
    sched_yield();
  else
    usleep(50);
  mpi.lastIdle = Clock::now();
}

std::vector<std::optional<std::string>> Mpi::ask(const std::string &own) {
  Library &mpi = *library;
  std::vector<std::optional<std::string>> result(mpi.size);
  result[mpi.rank] = own;
  char none = 0;
  std::vector<MPI_Request> asked;
  for (int64_t other = 0; other < mpi.size; ++other)
    if (other != mpi.rank)
      for (MPI_Request request : mpi.start(true, &none, 1, other, AskTag, mpi.control))
        asked.push_back(request); // done or not: the process ends soon
  Clock::time_point end = Clock::now() + answerTime;
  int64_t left = mpi.size - 1;
  while (left > 0 && Clock::now() < end) {
    answerControl(own);
    endIfTerminated(own);
    int peer = MPI_ANY_SOURCE, tag = AnswerTag;
    int64_t bytes = mpi.arrived(peer, tag);
    if (bytes < 0) {
      usleep(1000);
      continue;
    }
    std::string answer(size_t(bytes), ' ');
    mpi.transfer(false, answer.data(), bytes, peer, AnswerTag);
    left -= !result[peer];
    result[peer] = std::move(answer);
  }
  return result;
}

void Mpi::abandon(const std::string &message) {
  // Of several ranks that give up the lowest one speaks and ends the others.
  if (library->lowestAsker < library->rank)
    sleep(5);
  std::fprintf(stderr, "%s: error: %s\n", program_invocation_short_name, message.c_str());
  library->abort(library->world, 1);
  _exit(1);
}

//===----------------------------------------------------------------------===//
// Rank 0 and the others
//===----------------------------------------------------------------------===//

void Mpi::ask(int64_t rank, const Question &question, void *to) {
  Question copy = question;
  library->transfer(true, &copy, sizeof(copy), rank, QuestionTag);
  library->transfer(false, to, question.bytes, rank, DataTag);
}

std::string Mpi::askText(int64_t rank) {
  Question question = {0, 0, TextBytes};
  library->transfer(true, &question, sizeof(question), rank, QuestionTag);
  int64_t bytes = 0;
  library->transfer(false, &bytes, sizeof(bytes), rank, DataTag);
  std::string text(size_t(bytes), ' ');
  library->transfer(false, text.data(), bytes, rank, DataTag);
  return text;
}

void Mpi::release(int status, const std::string &result) {
  // Of the same tag as questions: MPI keeps their order.
  Question head = {status, int64_t(result.size()), ReleaseBytes};
  std::string text = result;
  for (int64_t other = 1; other < library->size; ++other) {
    library->transfer(true, &head, sizeof(head), other, QuestionTag);
    library->transfer(true, text.data(), text.size(), other, DataTag);
  }
}

std::pair<int, std::string> Mpi::serve(const std::function<void(const Question &, void *to)> &read,
                                       const std::string &text) {
  Library &mpi = *library;
  for (;;) {
    Question question;
    mpi.transfer(false, &question, sizeof(question), 0, QuestionTag);
    if (question.bytes == ReleaseBytes) {
      std::string result(size_t(question.offset), ' ');
      mpi.transfer(false, result.data(), question.offset, 0, DataTag);
      return {int(question.arena), result};
    }
    if (question.bytes != TextBytes) {
      std::vector<std::byte> answer(question.bytes);
      read(question, answer.data());
      mpi.transfer(true, answer.data(), question.bytes, 0, DataTag);
      continue;
    }
    int64_t bytes = text.size();
    std::string copy = text;
    mpi.transfer(true, &bytes, sizeof(bytes), 0, DataTag);
    mpi.transfer(true, copy.data(), bytes, 0, DataTag);
  }
}
