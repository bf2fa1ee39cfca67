//===- Exchange.h - How ranks on GPUs reach each other ----------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Two ways: NcclExchange.h where each rank has a GPU, SharedGpu.h where all ranks are threads of
// one process and have the same one.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_CUDA_EXCHANGE_H
#define LLRT_CUDA_EXCHANGE_H

#include "src/Cuda/Driver.h"
#include "src/Program/Program.h"

#include <memory>
#include <vector>

namespace llrt::cuda {

// One rank's end. One thread calls all functions of an object.
class Exchange {
public:
  // A communication that cannot be put into streams before all members have come to it.
  class Meeting {
  public:
    virtual ~Meeting() = default;
    // Once all have come: lets `stream` wait for the result. Else false, and nothing is done.
    virtual bool join(CUstream stream) = 0;
    // The ranks that have not come.
    virtual std::vector<int64_t> missing() = 0;
  };

  virtual ~Exchange() = default;

  // This rank's side of a communication, after what `stream` has been given: puts it there,
  // or returns the meeting that the stream is to join before it gets more work. `action` must
  // outlive the work. Throws Failure.
  virtual std::shared_ptr<Meeting> start(CUstream stream, const Action &action, const void *from,
                                         void *to) = 0;

  // Whether `start` returns meetings of several ranks.
  virtual bool meets() const { return false; }

  // Throws Failure if what was started has failed.
  virtual void check() {}

  // Ends what was started and is not done. Nothing is started any more.
  virtual void abort() {}
};

} // namespace llrt::cuda
#endif // LLRT_CUDA_EXCHANGE_H
