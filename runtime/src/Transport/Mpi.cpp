//===- Mpi.cpp - Tensors between MPI processes ----------------------------===//
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

#include "src/Control/MpiLibrary.h"

#include <chrono>
#include <sched.h>
#include <unistd.h>

using namespace llrt;

namespace {

class Pending : public Transport::Request {
public:
  Pending(MpiLibrary &mpi, bool isSend, int64_t peer, int64_t channel, const Label &label,
          void *data)
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
  MpiLibrary &mpi;
  bool isSend, hasLabel = false;
  int64_t peer;
  int tag;
  Label own, other;
  void *data;
  std::vector<MPI_Request> requests;
};

} // namespace

std::unique_ptr<Transport::Request> MpiTransport::send(int64_t channel, int64_t to,
                                                       const Label &label, const void *data) {
  return std::make_unique<Pending>(mpi, true, to, channel, label, const_cast<void *>(data));
}

std::unique_ptr<Transport::Request> MpiTransport::receive(int64_t channel, int64_t from,
                                                          const Label &label, void *data) {
  return std::make_unique<Pending>(mpi, false, from, channel, label, data);
}

void MpiTransport::idle() {
  using Clock = std::chrono::steady_clock;
  // A short wait keeps the core, a long one leaves it to others.
  if (Clock::now() - lastIdle > std::chrono::milliseconds(1))
    idles = 0;
  if (++idles < 1000)
    sched_yield();
  else
    usleep(50);
  lastIdle = Clock::now();
}
