//===- Tcp.cpp - Control over TCP -----------------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Rank 0 listens where the launcher has said, the others come there. When all are
// there it welcomes them and listens no more. From then on a connection that ends
// without a goodbye is a rank that has died:
//
//   rank 2   x (killed)
//   rank 0     connection 2 ends: says which rank is gone, tells the others
//   rank 1     told: ends without a word
//
// If rank 0 itself dies, each of the others says so. What ranks wait for is asked
// through rank 0, too.
//
//===----------------------------------------------------------------------===//

#include "src/Control/Tcp.h"

#include "src/Data/Error.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <sstream>
#include <system_error>
#include <unistd.h>
#include <utility>

using namespace llrt;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

namespace {

// Kinds of frames, what their number is and their payload.
enum Kind : uint32_t {
  Welcome = 1, // all ranks are there
  Bytes,       // of `send`
  Ask,         // the rank that asks
  Answer,      // the rank that asked; payload: Said, then the text
  Failed,      // a rank has failed and says why itself; its status
  Goodbye      // the rank that ends
};
struct Said {
  int64_t rank;
};

} // namespace

// How late a rank that waits sees that another one is gone, if nothing wakes it.
static constexpr milliseconds longestWait(100);

// The most that anything but Bytes is long.
static constexpr int64_t mostText = int64_t(1) << 24;

TcpControl::TcpControl(const Launch &launch, const std::string &program,
                       std::chrono::duration<double> timeout)
    : own(launch.rank), count(launch.size), program(program), timeout(timeout), connections(count),
      coming(count), inbox(count), ended(count), said(count) {
  try {
    meet(launch);
  } catch (const Error &) {
    tellAll(Failed, 2, own);
    flush(answerTime);
    throw;
  } catch (...) {
    tellAll(Failed, 1, own);
    flush(answerTime);
    throw;
  }
}

void TcpControl::meet(const Launch &launch) {
  auto deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(timeout);
  auto inTime = [&](const std::string &what) {
    std::ostringstream text;
    text << launch.launcher << ": " << what << "; waited " << timeout.count() << " s (--timeout)";
    return text.str();
  };
  Hello hello = this->hello("control");
  if (own == 0) {
    for (const std::string &host : launch.hosts)
      if (launch.hosts.size() == 1)
        requireHost(launch.hostName, host);
    int64_t port = launch.port;
    Socket listener;
    try {
      listener = listenOn(port);
    } catch (const std::system_error &error) {
      fail(launch.portName, ": expected a port that rank 0 can listen on, got ", launch.port, ": ",
           error.code().message(), "; set MASTER_PORT to another one for all ranks");
    }
    try {
      // Who has come is told if another does not come.
      meetRanks(
          listener, hello, 1, deadline, [] {},
          [&](int64_t peer, Socket socket) { adopt(peer, std::move(socket)); });
    } catch (const Failure &failure) {
      throw Failure(inTime(failure.what() + (" to port " + std::to_string(port)) + " of rank 0"));
    }
    tellAll(Welcome, 0, 0);
    welcome = true;
    return;
  }
  if (launch.hosts.size() == 1)
    requireHost(launch.hostName, launch.hosts[0]);
  try {
    adopt(0, connectToRank(launch.hosts, launch.port, hello, 0, deadline, [] {}));
  } catch (const Failure &failure) {
    throw Failure(inTime(failure.what()));
  }
  // Rank 0 has a time of its own, which may have begun later, and says who is missing.
  deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(timeout) + answerTime;
  while (!welcome) {
    pump(milliseconds(100));
    check();
    if (Clock::now() >= deadline)
      throw Failure(inTime("rank 0 does not go on"));
  }
}

void TcpControl::adopt(int64_t peer, Socket socket) {
  auto connection = std::make_unique<Connection>(std::move(socket), peer,
                                                 static_cast<Connection::Owner &>(*this));
  poll.add(*connection);
  if (peer < 0)
    strangers.push_back(std::move(connection));
  else
    connections[peer] = std::move(connection);
}

TcpControl::~TcpControl() {
  if (std::uncaught_exceptions() > 0) {
    tellFailure();
    return;
  }
  if (failed || death || toldFailure)
    return;
  // The goodbye of a rank that ends well is the last that its connections carry.
  tellAll(Goodbye, own, own);
  flush(answerTime);
}

void TcpControl::tellFailure() {
  if (failed || death || std::exchange(toldFailure, true))
    return;
  tellAll(Failed, 1, own);
  flush(answerTime);
}

void TcpControl::tellAll(uint32_t kind, int64_t number, int64_t except) {
  for (auto *list : {&connections, &strangers})
    for (auto &connection : *list)
      if (connection && connection->isOpen() && connection->peer != except)
        connection->send(kind, number);
}

// Waits until all that was queued is on its way.
void TcpControl::flush(milliseconds most) {
  auto end = Clock::now() + most;
  auto queued = [&] {
    for (auto *list : {&connections, &strangers})
      for (auto &connection : *list)
        if (connection && connection->isOpen() && connection->hasToWrite())
          return true;
    return false;
  };
  while (queued() && Clock::now() < end)
    pump(milliseconds(10));
}

void TcpControl::pump(milliseconds most) { poll.wait(most); }

void TcpControl::check() {
  pump(milliseconds(0));
  if (failed)
    throw PeerFailure(*failed);
  if (death)
    throw Failure(*death +
                  (waiting.empty() ? "" : "; rank " + std::to_string(own) + " waited: " + waiting));
}

//===----------------------------------------------------------------------===//
// Frames
//===----------------------------------------------------------------------===//

void *TcpControl::place(Connection &connection, const Head &head) {
  if (connection.peer < 0 || (head.kind != Bytes && head.bytes > mostText))
    return nullptr;
  std::string &text = coming[connection.peer];
  text.resize(size_t(head.bytes));
  return text.data();
}

void TcpControl::arrived(Connection &connection, const Head &head) {
  const int64_t peer = connection.peer;
  std::string text = std::move(coming[peer]);
  coming[peer].clear();
  switch (head.kind) {
  case Welcome:
    welcome = true;
    return;
  case Bytes:
    inbox[peer].push_back(std::move(text));
    return;
  case Ask:
    askers.insert(head.number);
    lowestAsker = std::min(lowestAsker, head.number);
    if (own == 0)
      tellAll(Ask, head.number, head.number);
    return;
  case Answer:
    if (head.number == own)
      takeAnswer(text);
    else if (own == 0 && head.number > 0 && head.number < count && connections[head.number])
      connections[head.number]->send(Answer, head.number, std::move(text));
    return;
  case Failed:
    failed = int(head.number);
    if (own == 0)
      tellAll(Failed, head.number, peer);
    return;
  case Goodbye:
    ended[peer] = true;
    return;
  default: // of a later version
    return;
  }
}

void TcpControl::closed(Connection &connection, const std::string &cause) {
  const int64_t peer = connection.peer;
  if (peer < 0 || ended[peer] || failed || death)
    return;
  death = "rank " + std::to_string(peer) + " has died: its connection ended without a word (" +
          cause + ")";
  // Of all that see it, rank 0 speaks.
  if (own == 0)
    tellAll(Failed, 1, peer);
}

void TcpControl::send(int64_t to, const void *data, int64_t bytes) {
  waiting.clear();
  bool sent = false;
  connections[to]->send(Bytes, own, data, bytes, [&] { sent = true; });
  while (!sent) {
    check();
    if (!connections[to]->isOpen() || ended[to])
      throw Failure("rank " + std::to_string(to) + " has ended before rank " + std::to_string(own));
    pump(longestWait);
  }
}

void TcpControl::receive(int64_t from, void *data, int64_t bytes) {
  waiting.clear();
  while (inbox[from].empty()) {
    check();
    reply(messageOf(from));
    if (inbox[from].empty() && ended[from])
      throw Failure("rank " + std::to_string(from) + " has ended before rank " +
                    std::to_string(own));
    if (inbox[from].empty())
      pump(longestWait);
  }
  std::string text = std::move(inbox[from].front());
  inbox[from].pop_front();
  if (int64_t(text.size()) != bytes)
    throw Failure("rank " + std::to_string(from) + ": expected a message of " +
                  std::to_string(bytes) + " bytes, got " + std::to_string(text.size()));
  std::copy_n(text.data(), text.size(), static_cast<char *>(data));
}

//===----------------------------------------------------------------------===//
// Ranks that do not answer
//===----------------------------------------------------------------------===//

void TcpControl::takeAnswer(const std::string &text) {
  Said from;
  if (text.size() < sizeof(from))
    return;
  std::memcpy(&from, text.data(), sizeof(from));
  if (from.rank >= 0 && from.rank < count)
    said[from.rank] = text.substr(sizeof(from));
}

void TcpControl::answer(const std::string &text) {
  waiting = text;
  check();
  reply(text);
}

void TcpControl::reply(const std::string &text) {
  Said mine = {own};
  std::string payload(reinterpret_cast<const char *>(&mine), sizeof(mine));
  for (int64_t asker : std::exchange(askers, {})) {
    int64_t to = own == 0 ? asker : 0;
    if (to >= 0 && to < count && connections[to] && connections[to]->isOpen())
      connections[to]->send(Answer, asker, payload + text);
  }
}

std::vector<std::optional<std::string>> TcpControl::ask(const std::string &text) {
  std::fill(said.begin(), said.end(), std::nullopt);
  said[own] = text;
  tellAll(Ask, own, own);
  Clock::time_point end = Clock::now() + answerTime;
  auto done = [&] {
    return std::all_of(said.begin(), said.end(), [](const auto &each) { return bool(each); });
  };
  while (!done() && Clock::now() < end) {
    answer(text);
    pump(milliseconds(10));
  }
  if (!said[0])
    for (std::optional<std::string> &each : said)
      if (&each != &said[0] && !each)
        each = "unknown, as it is asked through rank 0";
  return said;
}

void TcpControl::abandon(const std::string &message) {
  // Of several ranks that give up the lowest one speaks.
  Clock::time_point end = Clock::now() + std::chrono::seconds(5);
  while (lowestAsker < own && !failed && !death && Clock::now() < end)
    pump(milliseconds(10));
  if (!failed) {
    std::fprintf(stderr, "%s: error: %s\n", program_invocation_short_name, message.c_str());
    tellAll(Failed, 1, own);
    flush(answerTime);
  }
  _exit(1);
}
