//===- Threads.cpp - Ranks as threads of one process ----------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Transport/Threads.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <thread>
#include <unistd.h>

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

  void idle(const std::string &waitsFor) override {
    if (threads.stopped)
      throw Failure("another rank has failed");
    Place &place = *threads.places[rank];
    std::unique_lock lock(place.mutex);
    place.waits = &waitsFor;
    // The time only bounds how late a rank sees that it has waited too long.
    place.changed.wait_for(lock, std::chrono::milliseconds(100), [&] { return place.rung; });
    place.rung = false;
    place.waits = nullptr;
  }

  std::vector<std::optional<std::string>> ask(const std::string &own) override {
    std::vector<std::optional<std::string>> result;
    {
      std::lock_guard lock(threads.places[rank]->mutex);
      threads.places[rank]->waits = &own; // if another rank asks, too
    }
    auto end = std::chrono::steady_clock::now() + answerTime;
    for (int64_t other = 0; other < int64_t(threads.places.size()); ++other) {
      std::optional<std::string> &answer = result.emplace_back();
      if (other == rank)
        answer = own;
      // A rank that waits looks after its requests from time to time.
      while (!answer && std::chrono::steady_clock::now() < end) {
        Place &place = *threads.places[other];
        if (std::lock_guard lock(place.mutex); place.waits)
          answer = *place.waits;
        else
          std::this_thread::yield();
      }
    }
    return result;
  }

  void abandon(const std::string &message) override {
    // Of several ranks that give up the first one speaks.
    if (threads.abandoned.exchange(true))
      for (;;)
        pause();
    std::fprintf(stderr, "%s: error: %s\n", program_invocation_short_name, message.c_str());
    _exit(1); // a rank that does not answer cannot be joined
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

void Threads::stop() {
  stopped = true;
  for (size_t rank = 0; rank < places.size(); ++rank)
    ring(rank);
}

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
