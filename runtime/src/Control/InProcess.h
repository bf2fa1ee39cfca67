//===- InProcess.h - Control of ranks that are threads ---------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_CONTROL_INPROCESS_H
#define LLRT_CONTROL_INPROCESS_H

#include "src/Control/Control.h"

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>

namespace llrt {

// The control plane of ranks that are threads of one process.
class InProcess {
public:
  explicit InProcess(int64_t ranks);
  ~InProcess();

  // The end of rank `rank`; lives as long as this object.
  Control &of(int64_t rank);

  // A rank has failed: all others throw PeerFailure where they wait.
  void stop();

private:
  class Member;

  std::mutex mutex; // of all that follows
  std::condition_variable changed;
  std::map<std::pair<int64_t, int64_t>, std::deque<std::string>> messages; // from, to
  int64_t asks = 0; // how often a rank has asked what the others wait for
  struct Answer {
    int64_t ask = 0; // the last one that `text` was said after
    std::string text;
  };
  std::vector<Answer> answers; // by rank
  bool stopped = false, abandoned = false;

  std::vector<std::unique_ptr<Member>> members;
};

} // namespace llrt
#endif // LLRT_CONTROL_INPROCESS_H
