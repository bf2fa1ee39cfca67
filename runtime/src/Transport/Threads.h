//===- Threads.h - Ranks as threads of one process -------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_TRANSPORT_THREADS_H
#define LLRT_TRANSPORT_THREADS_H

#include "src/Transport/Transport.h"

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>

namespace llrt {

// The meeting point of ranks that are threads of one process. Nothing is
// buffered: a send is done when its receive has been started and the data
// copied, by whichever of the two came last.
class Threads {
public:
  explicit Threads(int64_t ranks);
  ~Threads();

  // The messages of rank `rank`; lives as long as this object.
  Transport &of(int64_t rank);

private:
  class Member;
  struct Message {
    Label label;
    void *data; // of a send only read
    int64_t rank;
    Label other = {}; // the other side's label; written before `done`
    std::atomic<bool> done = false;
  };
  using Key = std::array<int64_t, 3>; // channel, from, to
  struct Meeting {
    std::deque<std::shared_ptr<Message>> sends, receives;
  };
  struct Place {
    std::mutex mutex;
    std::condition_variable changed;
    bool rung = false;
  };

  std::shared_ptr<Message> post(const Key &key, bool isSend, int64_t rank, const Label &label,
                                void *data);
  void ring(int64_t rank);

  std::mutex mutex; // of `meetings`
  std::map<Key, Meeting> meetings;
  std::vector<std::unique_ptr<Place>> places; // by rank
  std::vector<std::unique_ptr<Member>> members;
};

} // namespace llrt
#endif // LLRT_TRANSPORT_THREADS_H
