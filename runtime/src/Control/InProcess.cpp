//===- InProcess.cpp - Control of ranks that are threads ------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Control/InProcess.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <unistd.h>

using namespace llrt;

class InProcess::Member : public Control {
public:
  Member(InProcess &all, int64_t number) : all(all), number(number) {}

  int64_t rank() const override { return number; }
  int64_t size() const override { return int64_t(all.members.size()); }

  void send(int64_t to, const void *data, int64_t bytes) override {
    std::lock_guard lock(all.mutex);
    all.messages[{number, to}].emplace_back(static_cast<const char *>(data), size_t(bytes));
    all.changed.notify_all();
  }

  void receive(int64_t from, void *data, int64_t bytes) override {
    std::unique_lock lock(all.mutex);
    std::deque<std::string> &queue = all.messages[{from, number}];
    all.changed.wait(lock, [&] {
      reply(messageOf(from));
      return all.stopped || !queue.empty();
    });
    requireRunning();
    if (int64_t(queue.front().size()) != bytes)
      throw Failure("rank " + std::to_string(from) + " sent a message of another size");
    std::memcpy(data, queue.front().data(), size_t(bytes));
    queue.pop_front();
  }

  void answer(const std::string &own) override {
    std::lock_guard lock(all.mutex);
    requireRunning();
    reply(own);
  }

  std::vector<std::optional<std::string>> ask(const std::string &own) override {
    std::unique_lock lock(all.mutex);
    // Others that ask, too, answer all earlier questions with their own.
    int64_t mine = ++all.asks;
    all.answers[number] = {INT64_MAX, own};
    all.changed.notify_all();
    auto answered = [&] {
      for (const Answer &answer : all.answers)
        if (answer.ask < mine)
          return false;
      return true;
    };
    all.changed.wait_for(lock, answerTime, answered);
    std::vector<std::optional<std::string>> result;
    result.reserve(all.answers.size());
    for (const Answer &answer : all.answers)
      result.push_back(answer.ask >= mine ? std::optional(answer.text) : std::nullopt);
    return result;
  }

  void tellFailure() override { all.stop(); }

  void abandon(const std::string &message) override {
    {
      std::lock_guard lock(all.mutex);
      if (!all.abandoned) {
        all.abandoned = true;
        std::fprintf(stderr, "%s: error: %s\n", program_invocation_short_name, message.c_str());
        _exit(1); // a rank that does not answer cannot be joined
      }
    }
    for (;;) // another rank speaks
      pause();
  }

private:
  void reply(const std::string &own) {
    Answer &mine = all.answers[number];
    if (mine.ask >= all.asks)
      return;
    mine = {all.asks, own};
    all.changed.notify_all();
  }

  void requireRunning() const {
    if (all.stopped)
      throw PeerFailure(1);
  }

  InProcess &all;
  int64_t number;
};

InProcess::InProcess(int64_t ranks) : answers(ranks) {
  for (int64_t rank = 0; rank < ranks; ++rank)
    members.push_back(std::make_unique<Member>(*this, rank));
}

InProcess::~InProcess() = default;

Control &InProcess::of(int64_t rank) { return *members[rank]; }

void InProcess::stop() {
  std::lock_guard lock(mutex);
  stopped = true;
  changed.notify_all();
}
