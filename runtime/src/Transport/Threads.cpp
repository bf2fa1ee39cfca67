//===- Threads.cpp - Ranks as threads of one process ----------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Transport/Threads.h"

#include <cstring>

using namespace llrt;

// One rank's view of the meeting point.
class Threads::Member : public Transport {
public:
  Member(Threads &threads, int64_t rank) : threads(threads), rank(rank) {}

  std::unique_ptr<Request> send(int64_t channel, int64_t to, const Label &label,
                                const void *data) override {
    return std::make_unique<Pending>(
        threads.post({channel, rank, to}, true, rank, label, const_cast<void *>(data)));
  }

  std::unique_ptr<Request> receive(int64_t channel, int64_t from, const Label &label,
                                   void *data) override {
    return std::make_unique<Pending>(threads.post({channel, from, rank}, false, rank, label, data));
  }

  void idle() override {
    Place &place = *threads.places[rank];
    std::unique_lock lock(place.mutex);
    place.changed.wait_for(lock, longestIdle, [&] { return place.rung; });
    place.rung = false;
  }

private:
  struct Pending : Request {
    explicit Pending(std::shared_ptr<Message> message) : message(std::move(message)) {}
    bool test() override {
      if (!message->done.load(std::memory_order_acquire))
        return false;
      requireEqual(message->label, message->other);
      return true;
    }
    std::shared_ptr<Message> message;
  };

  Threads &threads;
  int64_t rank;
};

Threads::Threads(int64_t ranks) {
  for (int64_t rank = 0; rank < ranks; ++rank) {
    places.push_back(std::make_unique<Place>());
    members.push_back(std::make_unique<Member>(*this, rank));
  }
}

Threads::~Threads() = default;

Transport &Threads::of(int64_t rank) { return *members[rank]; }

void Threads::ring(int64_t rank) {
  {
    std::lock_guard lock(places[rank]->mutex);
    places[rank]->rung = true;
  }
  places[rank]->changed.notify_one();
}

std::shared_ptr<Threads::Message> Threads::post(const Key &key, bool isSend, int64_t rank,
                                                const Label &label, void *data) {
  auto mine = std::make_shared<Message>();
  mine->label = label;
  mine->data = data;
  mine->rank = rank;
  std::shared_ptr<Message> other;
  {
    std::lock_guard lock(mutex);
    Meeting &meeting = meetings[key];
    auto &others = isSend ? meeting.receives : meeting.sends;
    if (others.empty()) {
      (isSend ? meeting.sends : meeting.receives).push_back(mine);
      return mine;
    }
    other = std::move(others.front());
    others.pop_front();
  }
  mine->other = other->label;
  other->other = label;
  if (mine->other == label && label.bytes) {
    Message &from = isSend ? *mine : *other, &to = isSend ? *other : *mine;
    std::memcpy(to.data, from.data, size_t(label.bytes));
  }
  mine->done.store(true, std::memory_order_release);
  other->done.store(true, std::memory_order_release);
  ring(other->rank);
  return mine;
}
