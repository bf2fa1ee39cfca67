//===- Mpi.cpp - Control of MPI processes ---------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Control/Mpi.h"

#include "src/Control/MpiLibrary.h"
#include "src/Data/Error.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <dlfcn.h>
#include <exception>
#include <unistd.h>
#include <utility>

using namespace llrt;
using Clock = std::chrono::steady_clock;

namespace {
// Of the communicator that ranks talk on about themselves.
enum ControlTag : int { AskTag = 1, AnswerTag, BytesTag, FailedTag };
} // namespace

// The most bytes of one MPI message.
static constexpr int64_t pieceBytes = int64_t(1) << 30;

// mpirun ends all processes when one of them dies: SIGTERM, a second later
// SIGKILL. In between each tells what it was waiting for.
static volatile std::sig_atomic_t terminated = 0;
static constexpr std::chrono::milliseconds lastWait(300);

//===----------------------------------------------------------------------===//
// The library
//===----------------------------------------------------------------------===//

// The library on Debian 12; its interface has been the same since Open MPI 2.
static constexpr const char *libraryName = "libmpi.so.40";

MpiLibrary::MpiLibrary() {
  // Its plugins look for symbols of the library: global.
  void *handle = dlopen(libraryName, RTLD_NOW | RTLD_GLOBAL);
  if (!handle)
    fail("MPI: expected Open MPI's ", libraryName,
         " (Debian: libopenmpi3), as a launcher has started this process: ", dlerror());
  auto load = [&](auto &to, const char *name) {
    void *symbol = dlsym(handle, name);
    if (!symbol)
      fail("MPI: ", libraryName, ": expected Open MPI, got a library without ", name);
    to = reinterpret_cast<std::remove_reference_t<decltype(to)>>(symbol);
  };
  load(init, "MPI_Init_thread");
  load(finalize, "MPI_Finalize");
  load(abort, "MPI_Abort");
  load(duplicate, "MPI_Comm_dup");
  load(setErrorHandler, "MPI_Comm_set_errhandler");
  load(commRank, "MPI_Comm_rank");
  load(commSize, "MPI_Comm_size");
  load(isend, "MPI_Isend");
  load(irecv, "MPI_Irecv");
  load(test, "MPI_Test");
  load(iprobe, "MPI_Iprobe");
  load(count, "MPI_Get_count");
  load(errorString, "MPI_Error_string");
  MPI_Comm communicator;
  MPI_Errhandler returns;
  load(communicator, "ompi_mpi_comm_world");
  load(returns, "ompi_mpi_errors_return");
  load(byte, "ompi_mpi_byte");

  int level;
  if (init(nullptr, nullptr, MPI_THREAD_FUNNELED, &level) != MPI_SUCCESS ||
      level < MPI_THREAD_FUNNELED)
    fail("MPI: cannot be started");
  // Communicators of our own, which the error handler of is inherited by.
  check(setErrorHandler(communicator, returns));
  check(duplicate(communicator, &world));
  check(duplicate(communicator, &control));
  check(commRank(world, &rank));
  check(commSize(world, &size));
  std::signal(SIGTERM, [](int) { terminated = 1; });
}

void MpiLibrary::check(int status) const {
  if (status == MPI_SUCCESS)
    return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  errorString(status, text, &length);
  throw Failure(std::string("MPI: ") + text);
}

std::vector<MPI_Request> MpiLibrary::start(bool isSend, void *data, int64_t bytes, int64_t peer,
                                           int tag, MPI_Comm comm) const {
  std::vector<MPI_Request> requests;
  for (int64_t at = 0; at < bytes; at += pieceBytes) {
    char *piece = static_cast<char *>(data) + at;
    int length = int(std::min(pieceBytes, bytes - at));
    MPI_Request &request = requests.emplace_back();
    check(isSend ? isend(piece, length, byte, int(peer), tag, comm, &request)
                 : irecv(piece, length, byte, int(peer), tag, comm, &request));
  }
  return requests;
}

bool MpiLibrary::testAll(std::vector<MPI_Request> &requests) const {
  while (!requests.empty()) {
    int done = 0;
    check(test(&requests.back(), &done, MPI_STATUS_IGNORE));
    if (!done)
      return false;
    requests.pop_back();
  }
  return true;
}

void MpiLibrary::transfer(bool isSend, void *data, int64_t bytes, int64_t peer, int tag) const {
  std::vector<MPI_Request> requests = start(isSend, data, bytes, peer, tag, control);
  while (!testAll(requests)) {
    checkPeers();
    usleep(20);
  }
}

void MpiLibrary::checkPeers() const {
  int peer = MPI_ANY_SOURCE, tag = FailedTag;
  if (arrived(peer, tag) >= 0)
    throw PeerFailure(1);
}

int64_t MpiLibrary::arrived(int &peer, int &tag) const {
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

//===----------------------------------------------------------------------===//
// Messages
//===----------------------------------------------------------------------===//

MpiControl::MpiControl() : library(std::make_unique<MpiLibrary>()) {}

MpiControl::~MpiControl() {
  // A rank that has failed leaves the others behind; the launcher ends them.
  if (std::uncaught_exceptions() == 0)
    library->finalize();
}

int64_t MpiControl::rank() const { return library->rank; }
int64_t MpiControl::size() const { return library->size; }

void MpiControl::send(int64_t to, const void *data, int64_t bytes) {
  library->transfer(true, const_cast<void *>(data), bytes, to, BytesTag);
}

void MpiControl::receive(int64_t from, void *data, int64_t bytes) {
  int peer = int(from), tag = BytesTag;
  while (bytes > 0 && library->arrived(peer, tag) < 0) { // no bytes are no message
    library->checkPeers();
    reply(messageOf(from));
    usleep(20);
  }
  library->transfer(false, data, bytes, from, BytesTag);
}

//===----------------------------------------------------------------------===//
// Ranks that do not answer
//===----------------------------------------------------------------------===//

void MpiControl::answer(const std::string &own) {
  endIfTerminated(own);
  library->checkPeers();
  reply(own);
}

void MpiControl::reply(const std::string &own) {
  for (;;) {
    int peer = MPI_ANY_SOURCE, tag = AskTag;
    if (library->arrived(peer, tag) < 0)
      return;
    char none;
    library->transfer(false, &none, 1, peer, AskTag);
    lowestAsker = std::min<int64_t>(lowestAsker, peer);
    std::string text = own;
    library->transfer(true, text.data(), text.size(), peer, AnswerTag);
  }
}

// Ends the process if it waits though it has been told to end for some time.
void MpiControl::endIfTerminated(const std::string &own) {
  if (!terminated)
    return;
  Clock::time_point now = Clock::now(), &since = terminatedAt;
  if (since == Clock::time_point())
    since = now;
  if (now - since < lastWait)
    return;
  std::fprintf(stderr,
               "%s: error: ended by a signal, perhaps as another rank has died; "
               "rank %d waited: %s\n",
               program_invocation_short_name, library->rank, own.c_str());
  _exit(1);
}

std::vector<std::optional<std::string>> MpiControl::ask(const std::string &own) {
  MpiLibrary &mpi = *library;
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
    answer(own);
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

void MpiControl::tellFailure() {
  if (std::exchange(toldFailure, true))
    return;
  static char none = 0; // requests may still be open when this ends
  try {
    std::vector<MPI_Request> told;
    for (int64_t other = 0; other < library->size; ++other)
      if (other != library->rank)
        for (MPI_Request request :
             library->start(true, &none, 1, other, FailedTag, library->control))
          told.push_back(request);
    for (Clock::time_point end = Clock::now() + answerTime;
         !library->testAll(told) && Clock::now() < end;)
      usleep(1000);
  } catch (const Failure &) { // MPI has failed, too: the launcher ends the others
  }
}

void MpiControl::abandon(const std::string &message) {
  // Of several ranks that give up the lowest one speaks and ends the others.
  if (lowestAsker < library->rank)
    sleep(5);
  std::fprintf(stderr, "%s: error: %s\n", program_invocation_short_name, message.c_str());
  library->abort(library->world, 1);
  _exit(1);
}
