//===- Sockets.cpp - Frames over TCP connections --------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Control/Sockets.h"

#include "src/Control/Control.h"
#include "src/Data/Error.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <list>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <set>
#include <sys/socket.h>
#include <system_error>
#include <unistd.h>

using namespace llrt;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// Any of a job's frames; a length that is none is not believed.
static constexpr uint32_t frameMark = 0x54524c4c; // "LLRT"
static constexpr int64_t mostBytes = int64_t(1) << 46;

// How long whoever answers at one of several addresses may take to say who it is, and
// how long to the next attempt at a rank that is not there.
static constexpr milliseconds greetingTime(5000), retryTime(100);

// Connections that say nothing, of which so many are kept.
static constexpr size_t mostStrangers = 64;

//===----------------------------------------------------------------------===//
// Sockets
//===----------------------------------------------------------------------===//

Socket &Socket::operator=(Socket &&other) noexcept {
  std::swap(file, other.file);
  return *this;
}

Socket::~Socket() {
  if (file >= 0)
    ::close(file);
}

std::string Socket::peerAddress() const {
  sockaddr_storage address;
  socklen_t length = sizeof(address);
  char text[NI_MAXHOST];
  if (getpeername(file, reinterpret_cast<sockaddr *>(&address), &length) != 0 ||
      getnameinfo(reinterpret_cast<sockaddr *>(&address), length, text, sizeof(text), nullptr, 0,
                  NI_NUMERICHOST) != 0)
    return "";
  std::string result = text, mapped = "::ffff:";
  return result.starts_with(mapped) && result.find('.') != std::string::npos
             ? result.substr(mapped.size())
             : result;
}

bool llrt::isLoopback(const std::string &address) {
  return address.starts_with("127.") || address == "::1";
}

// Non-blocking, without delay of small frames, and a machine that has lost its power
// is noticed after two minutes.
static void prepare(const Socket &socket) {
  fcntl(socket.get(), F_SETFL, fcntl(socket.get(), F_GETFL) | O_NONBLOCK);
  auto set = [&](int level, int name, int value) {
    setsockopt(socket.get(), level, name, &value, sizeof(value));
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 60);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 10);
  set(IPPROTO_TCP, TCP_KEEPCNT, 6);
}

Socket llrt::listenOn(int64_t &port) {
  auto require = [](int status) {
    if (status != 0)
      throw std::system_error(errno, std::generic_category());
  };
  // IPv4 comes in at the same socket; without IPv6 it has one of its own.
  int family = AF_INET6;
  Socket socket(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) {
    family = AF_INET;
    socket = Socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  }
  require(socket ? 0 : -1);
  int on = 1, off = 0;
  // The port of a job that has just ended may be taken at once.
  setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  sockaddr_in6 six = {};
  sockaddr_in four = {};
  six.sin6_family = AF_INET6;
  four.sin_family = AF_INET;
  six.sin6_port = four.sin_port = htons(uint16_t(port));
  bool isSix = family == AF_INET6;
  if (isSix)
    setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
  sockaddr *address =
      isSix ? reinterpret_cast<sockaddr *>(&six) : reinterpret_cast<sockaddr *>(&four);
  socklen_t length = isSix ? sizeof(six) : sizeof(four);
  require(bind(socket.get(), address, length));
  require(listen(socket.get(), SOMAXCONN));
  require(getsockname(socket.get(), address, &length));
  port = ntohs(isSix ? six.sin6_port : four.sin_port);
  return socket;
}

// The addresses of a name; empty, with the cause, if there are none.
static std::vector<std::pair<sockaddr_storage, socklen_t>> resolve(const std::string &host,
                                                                   int64_t port, int &cause) {
  addrinfo hints = {}, *list = nullptr;
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  std::vector<std::pair<sockaddr_storage, socklen_t>> result;
  cause = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list);
  if (cause != 0)
    return result;
  for (addrinfo *each = list; each; each = each->ai_next) {
    auto &[address, length] = result.emplace_back();
    std::memcpy(&address, each->ai_addr, each->ai_addrlen);
    length = each->ai_addrlen;
  }
  freeaddrinfo(list);
  return result;
}

void llrt::requireHost(const std::string &what, const std::string &host) {
  int cause = 0;
  resolve(host, 1, cause);
  if (cause == EAI_NONAME || cause == EAI_NODATA)
    fail(what, ": expected the name or address of a machine, got '", host,
         "': ", gai_strerror(cause));
}

//===----------------------------------------------------------------------===//
// Who is who
//===----------------------------------------------------------------------===//

namespace {

// A Hello as it is sent. Fixed size: of a stranger no more than this is ever read.
struct Card {
  char magic[16];
  char purpose[16];
  char program[80];
  int64_t rank, size;

  explicit Card(const Hello &hello) : Card() {
    std::strncpy(purpose, hello.purpose.c_str(), sizeof(purpose) - 1);
    std::strncpy(program, hello.program.c_str(), sizeof(program) - 1);
    rank = hello.rank;
    size = hello.size;
  }
  Card() : magic("llrt rank, 1.\r\n"), purpose(), program(), rank(0), size(0) {}

  bool isOf(const Card &other) const {
    return std::memcmp(magic, other.magic, sizeof(magic)) == 0 &&
           std::memcmp(purpose, other.purpose, sizeof(purpose)) == 0;
  }
  bool hasProgramOf(const Card &other) const {
    return std::memcmp(program, other.program, sizeof(program)) == 0;
  }
};

// A card on its way.
struct Reader {
  Card card;
  size_t bytes = 0;

  // Reads what has come. False: the other side is gone, or no rank.
  bool read(const Socket &socket, const Card &own) {
    while (bytes < sizeof(card)) {
      ssize_t count = recv(socket.get(), reinterpret_cast<char *>(&card) + bytes,
                           sizeof(card) - bytes, MSG_DONTWAIT);
      if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        break;
      if (count <= 0)
        return false;
      bytes += size_t(count);
    }
    size_t begin = std::min(bytes, sizeof(card.magic));
    return std::memcmp(card.magic, own.magic, begin) == 0 &&
           (bytes < sizeof(card) || card.isOf(own));
  }
  bool done() const { return bytes == sizeof(card); }
};

} // namespace

static bool isIn(const Socket &socket, short events, milliseconds most) {
  pollfd entry = {socket.get(), events, 0};
  return poll(&entry, 1, int(most.count())) > 0;
}

// A card fits into the empty buffer of a new socket.
static bool sendCard(const Socket &socket, const Card &card) {
  return ::send(socket.get(), &card, sizeof(card), MSG_NOSIGNAL) == ssize_t(sizeof(card));
}

static milliseconds timeTo(Deadline deadline, milliseconds most) {
  return std::clamp(std::chrono::duration_cast<milliseconds>(deadline - Clock::now()),
                    milliseconds(0), most);
}

void llrt::meetRanks(const Socket &listener, const Hello &own, int64_t first, Deadline deadline,
                     const std::function<void()> &between,
                     const std::function<void(int64_t rank, Socket socket)> &come) {
  struct Guest {
    Socket socket;
    Reader reader;
  };
  std::list<Guest> guests;
  std::set<int64_t> ranks;
  const Card mine(own);
  int64_t expected = own.size - first;
  size_t strangers = 0;

  auto check = [&](Guest &guest) {
    const Card card = guest.reader.card;
    const std::string address = guest.socket.peerAddress();
    const std::string who = "rank " + std::to_string(card.rank) + " at " + address;
    const bool isNew = card.rank >= first && card.rank < own.size && !ranks.contains(card.rank);
    if (card.size == own.size && card.hasProgramOf(mine) && isNew) {
      ranks.insert(card.rank);
      return come(card.rank, std::move(guest.socket));
    }
    come(-1, std::move(guest.socket));
    if (card.size != own.size)
      fail("launcher: ", who, ": expected the ", own.size, " processes of rank ", own.rank,
           ", got one of ", card.size);
    if (card.rank < 0 || card.rank >= own.size)
      fail("launcher: ", who, ": expected a rank below ", own.size, ", got ", card.rank);
    if (!card.hasProgramOf(mine))
      fail("launcher: ", who, ": expected the executable of rank ", own.rank, " (program ",
           own.program, "), got another one (program ",
           std::string(card.program, strnlen(card.program, sizeof(card.program))), ")");
    fail("launcher: expected one process for each rank, got two for rank ", card.rank,
         "; the second is at ", address);
  };

  while (int64_t(ranks.size()) < expected) {
    between();
    if (Clock::now() >= deadline) {
      std::string missing;
      for (int64_t rank = first; rank < own.size; ++rank)
        if (!ranks.contains(rank))
          missing += (missing.empty() ? "" : ", ") + std::to_string(rank);
      bool one = int64_t(ranks.size()) + 1 == expected;
      throw Failure(
          (one ? "rank " : "ranks ") + missing + (one ? " has" : " have") + " not come in time" +
          (strangers + guests.size() > 0 ? " (others that came are no ranks: " +
                                               std::to_string(strangers + guests.size()) + ")"
                                         : ""));
    }
    std::vector<pollfd> entries = {{listener.get(), POLLIN, 0}};
    for (const Guest &guest : guests)
      entries.push_back({guest.socket.get(), POLLIN, 0});
    poll(entries.data(), entries.size(), int(timeTo(deadline, retryTime).count()));
    if (entries[0].revents)
      if (Socket socket(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC)); socket) {
        prepare(socket);
        if (sendCard(socket, mine))
          guests.push_back({std::move(socket), {}});
      }
    if (guests.size() > size_t(expected) + mostStrangers) {
      ++strangers;
      guests.pop_front();
    }
    for (auto guest = guests.begin(); guest != guests.end();) {
      bool good = guest->reader.read(guest->socket, mine);
      if (good && guest->reader.done()) {
        check(*guest);
        guest = guests.erase(guest);
      } else if (!good) {
        ++strangers;
        guest = guests.erase(guest);
      } else {
        ++guest;
      }
    }
  }
}

Socket llrt::connectToRank(const std::vector<std::string> &hosts, int64_t port, const Hello &own,
                           int64_t rank, Deadline deadline, const std::function<void()> &between) {
  const Card mine(own);
  std::string cause = "no time";
  for (;; usleep(useconds_t(1000 * timeTo(deadline, retryTime).count())))
    for (const std::string &host : hosts) {
      int unresolved = 0;
      auto addresses = resolve(host, port, unresolved);
      if (unresolved)
        cause = host + ": " + gai_strerror(unresolved);
      for (const auto &[address, length] : addresses) {
        between();
        Socket socket(::socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
        if (!socket)
          continue;
        prepare(socket);
        auto to = reinterpret_cast<const sockaddr *>(&address);
        int error = connect(socket.get(), to, length) == 0 ? 0 : errno;
        if (error == EINPROGRESS) {
          error = ETIMEDOUT;
          socklen_t size = sizeof(error);
          if (isIn(socket, POLLOUT, timeTo(deadline, greetingTime)))
            getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size);
        }
        if (error) {
          cause = host + " port " + std::to_string(port) + ": " + std::strerror(error);
          continue;
        }
        Reader reader;
        Deadline patience = hosts.size() == 1 ? deadline : Clock::now() + greetingTime;
        bool good = true;
        while (good && !reader.done() && Clock::now() < std::min(deadline, patience)) {
          isIn(socket, POLLIN, timeTo(deadline, retryTime));
          good = reader.read(socket, mine);
          between();
        }
        // Not before: who has shown a card does not come a second time.
        if (good && reader.done() && reader.card.rank == rank && sendCard(socket, mine))
          return socket;
        cause = host + " port " + std::to_string(port) + ": what answers is not rank " +
                std::to_string(rank) + " of this program";
      }
      if (Clock::now() >= deadline)
        throw Failure("rank " + std::to_string(rank) + " cannot be reached (" + cause + ")");
    }
}

//===----------------------------------------------------------------------===//
// Connections
//===----------------------------------------------------------------------===//

void Connection::send(uint32_t kind, int64_t number, std::string payload) {
  Head out = {frameMark, kind, number, int64_t(payload.size())};
  payload.insert(0, reinterpret_cast<const char *>(&out), sizeof(out));
  queue.push_back({std::move(payload), nullptr, 0, nullptr});
  write();
}

void Connection::send(uint32_t kind, int64_t number, const void *data, int64_t bytes,
                      std::function<void()> done) {
  Head out = {frameMark, kind, number, bytes};
  queue.push_back({std::string(reinterpret_cast<const char *>(&out), sizeof(out)),
                   static_cast<const char *>(data), bytes, std::move(done)});
  write();
}

void Connection::write() {
  while (isOpen() && !queue.empty()) {
    Outgoing &first = queue.front();
    int64_t text = first.text.size();
    bool isText = first.written < text;
    const char *from =
        isText ? first.text.data() + first.written : first.data + (first.written - text);
    int64_t bytes = isText ? text - first.written : text + first.bytes - first.written;
    // A head goes out with the data behind it.
    int flags = MSG_NOSIGNAL | MSG_DONTWAIT | (isText && first.bytes > 0 ? MSG_MORE : 0);
    ssize_t count = bytes ? ::send(socket.get(), from, size_t(bytes), flags) : 0;
    if (count < 0 && errno == EINTR)
      continue;
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
      return;
    // Where the other side is gone there may still be something to read.
    if (count < 0)
      return queue.clear();
    first.written += count;
    if (first.written < text + first.bytes)
      continue;
    std::function<void()> done = std::move(first.done);
    queue.pop_front();
    if (done)
      done();
  }
}

void Connection::read() {
  // A peer that never stops must not keep the others waiting.
  for (int turn = 0; turn < 256 && isOpen(); ++turn) {
    bool isHead = headBytes < int64_t(sizeof(head));
    char *to = isHead ? reinterpret_cast<char *>(&head) + headBytes : payload + payloadBytes;
    int64_t bytes = isHead ? sizeof(head) - headBytes : head.bytes - payloadBytes;
    ssize_t count = bytes ? recv(socket.get(), to, size_t(bytes), MSG_DONTWAIT) : 0;
    if (count < 0 && errno == EINTR)
      continue;
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
      return;
    if (count < 0)
      return fail(std::strerror(errno));
    if (count == 0 && bytes)
      return fail("it was closed");
    if (isHead) {
      headBytes += count;
      if (headBytes < int64_t(sizeof(head)))
        continue;
      payloadBytes = 0;
      payload = head.mark == frameMark && head.bytes >= 0 && head.bytes < mostBytes
                    ? static_cast<char *>(owner.place(*this, head))
                    : nullptr;
      if (!payload)
        return fail("it brought what no rank of this program sends");
    } else {
      payloadBytes += count;
    }
    if (payloadBytes < head.bytes)
      continue;
    headBytes = 0;
    owner.arrived(*this, Head(head));
  }
}

void Connection::progress() {
  read();
  write();
}

void Connection::fail(const std::string &cause) {
  close();
  owner.closed(*this, cause);
}

void Connection::close() {
  Socket end = std::move(socket);
  queue.clear();
}

void Poller::wait(milliseconds most) {
  std::vector<pollfd> entries;
  std::vector<Connection *> open;
  for (Connection *each : connections)
    if (each->isOpen()) {
      open.push_back(each);
      entries.push_back({each->file(), short(POLLIN | (each->hasToWrite() ? POLLOUT : 0)), 0});
    }
  if (poll(entries.data(), entries.size(), int(most.count())) <= 0)
    return;
  for (size_t i = 0; i < open.size(); ++i)
    if (entries[i].revents && open[i]->isOpen())
      open[i]->progress();
}
