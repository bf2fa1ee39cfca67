//===- Tcp.cpp - Tensors over TCP -----------------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Transport/Tcp.h"

#include <sstream>
#include <utility>

using namespace llrt;
using Clock = std::chrono::steady_clock;

namespace {
// Kinds of frames; their number is the channel.
enum Kind : uint32_t { Ready = 1, Data, Refuse };
} // namespace

TcpTransport::TcpTransport(TcpControl &control) : control(control), peers(control.size()) {
  const int64_t own = control.rank(), count = control.size();
  // Each listens somewhere; rank 0 tells all where: a line of address and port for
  // each rank. The address is what rank 0 has seen; `-` for itself and for those on
  // its machine: they are where rank 0 is.
  int64_t port = 0;
  Socket listener = listenOn(port);
  std::vector<std::string> ports = control.gather(std::to_string(port));
  std::string table;
  for (size_t rank = 0; rank < ports.size(); ++rank) {
    std::string address = rank ? control.peerAddress(int64_t(rank)) : "-";
    table += (isLoopback(address) ? "-" : address) + " " + ports[rank] + "\n";
  }
  std::istringstream places(control.broadcast(table));
  auto deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(control.meetingTime());
  auto check = [&] { control.check(); };
  Hello hello = control.hello("tensors");
  // To the lower ranks, which listen already; then the higher ones come.
  for (int64_t rank = 0; rank < own; ++rank) {
    std::string address;
    int64_t at = 0;
    places >> address >> at;
    if (address == "-")
      address = control.peerAddress(0);
    adopt(rank, connectToRank({address}, at, hello, rank, deadline, check));
  }
  if (own + 1 < count)
    meetRanks(listener, hello, own + 1, deadline, check,
              [&](int64_t peer, Socket socket) { adopt(peer, std::move(socket)); });
}

TcpTransport::~TcpTransport() { close(); }

void TcpTransport::adopt(int64_t peer, Socket socket) {
  if (peer < 0)
    return;
  peers[peer].connection = std::make_unique<Connection>(std::move(socket), peer,
                                                        static_cast<Connection::Owner &>(*this));
  control.poller().add(*peers[peer].connection);
}

// The rank has failed: what others still send has no place any more.
void TcpTransport::close() {
  for (Peer &peer : peers)
    if (peer.connection) {
      control.poller().remove(*peer.connection);
      peer.connection->close();
      peer.channels.clear();
    }
}

//===----------------------------------------------------------------------===//
// Messages
//===----------------------------------------------------------------------===//

class TcpTransport::Pending : public Transport::Request {
public:
  Pending(TcpTransport &transport, Peer &peer, std::shared_ptr<Message> message)
      : transport(transport), peer(peer), message(std::move(message)) {}

  ~Pending() override {
    if (!message->done) // its memory is gone
      transport.close();
  }

  bool test() override {
    if (!message->done)
      peer.connection->progress();
    if (!message->done)
      return false;
    requireEqual(message->label, message->other);
    return true;
  }

private:
  TcpTransport &transport;
  Peer &peer;
  std::shared_ptr<Message> message;
};

std::unique_ptr<Transport::Request> TcpTransport::send(int64_t channel, int64_t to,
                                                       const Label &label, const void *data) {
  Peer &peer = peers[to];
  auto message = std::make_shared<Message>(Message{label, const_cast<void *>(data)});
  peer.channels[channel].sends.push_back(message);
  match(peer, channel);
  return std::make_unique<Pending>(*this, peer, std::move(message));
}

std::unique_ptr<Transport::Request> TcpTransport::receive(int64_t channel, int64_t from,
                                                          const Label &label, void *data) {
  Peer &peer = peers[from];
  auto message = std::make_shared<Message>(Message{label, data});
  peer.channels[channel].receives.push_back(message);
  peer.connection->send(Ready, channel,
                        std::string(reinterpret_cast<const char *>(&label), sizeof(label)));
  return std::make_unique<Pending>(*this, peer, std::move(message));
}

void TcpTransport::finish(Message &message, const Label &other) {
  message.other = other;
  message.done = true;
  moved = true;
}

// Sends what has both sides.
void TcpTransport::match(Peer &peer, int64_t number) {
  Channel &channel = peer.channels[number];
  while (!channel.sends.empty() && !channel.ready.empty()) {
    std::shared_ptr<Message> message = std::move(channel.sends.front());
    Label other = channel.ready.front();
    channel.sends.pop_front();
    channel.ready.pop_front();
    if (message->label == other) {
      peer.connection->send(Data, number, message->data, message->label.bytes,
                            [this, message, other] { finish(*message, other); });
      continue;
    }
    const Label &own = message->label;
    peer.connection->send(Refuse, number,
                          std::string(reinterpret_cast<const char *>(&own), sizeof(own)));
    finish(*message, other);
  }
}

void *TcpTransport::place(Connection &connection, const Head &head) {
  Peer &peer = peers[connection.peer];
  if (head.kind != Data)
    return head.bytes == sizeof(Label) ? &peer.coming : nullptr;
  auto channel = peer.channels.find(head.number);
  if (channel == peer.channels.end() || channel->second.receives.empty())
    return nullptr;
  Message &message = *channel->second.receives.front();
  if (head.bytes != message.label.bytes)
    return nullptr;
  return head.bytes ? message.data : &peer.coming; // no elements have no address
}

void TcpTransport::arrived(Connection &connection, const Head &head) {
  Peer &peer = peers[connection.peer];
  if (head.kind == Ready) {
    peer.channels[head.number].ready.push_back(peer.coming);
    return match(peer, head.number);
  }
  auto &receives = peer.channels[head.number].receives;
  if (receives.empty())
    return;
  std::shared_ptr<Message> message = std::move(receives.front());
  receives.pop_front();
  finish(*message, head.kind == Data ? message->label : peer.coming);
}

// The control plane says what has become of the rank.
void TcpTransport::closed(Connection &, const std::string &) {}

void TcpTransport::idle() {
  // A message may have come while others were looked after.
  if (!std::exchange(moved, false))
    control.poller().wait(longestIdle);
}
