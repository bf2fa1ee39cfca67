//===- SharedGpu.h - Ranks that share a GPU ---------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The ranks are threads of one process, so that the addresses of all are good for all.
// Members come to a communication one after the other; the last one puts the work of all of
// them into a stream of the group:
//
//   stream of rank 0   ... ready |   (nothing more)        | wait for done | ...
//   stream of rank 1   ... ready |                         | wait for done | ...
//   stream of group          wait for both, copies or sums, done
//
// Between `ready` and `done` the device of a rank keeps back what its stream is to get, and
// the host goes on. No work on the GPU ever waits for work that is not there yet: streams
// may share queues of the GPU. Sums are formed in the order of members (Sums.c).
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_CUDA_SHAREDGPU_H
#define LLRT_CUDA_SHAREDGPU_H

#include "src/Cuda/Exchange.h"
#include "src/Cuda/Gpu.h"

#include <deque>
#include <map>
#include <mutex>

namespace llrt::cuda {

class SharedGpu {
public:
  // `program` and `gpu` must outlive it. Throws Error if its kernels cannot be loaded, or if a
  // communicator has more members than LLRT_MOST_SUMMANDS.
  SharedGpu(const Program &program, const Gpu &gpu);
  // The ends and their devices are gone.
  ~SharedGpu();
  SharedGpu(const SharedGpu &) = delete;
  SharedGpu &operator=(const SharedGpu &) = delete;

  // The end of rank `rank`, which this must outlive.
  std::unique_ptr<Exchange> end(int64_t rank);

private:
  class End;
  class Shared;
  // What one member brings.
  struct Side {
    const Action *action = nullptr; // null: it has not come
    const void *from = nullptr;
    void *to = nullptr;
    CUevent ready = nullptr;
  };
  struct Group {
    std::vector<int64_t> members;
    CUstream stream = nullptr;
    std::vector<int64_t> next;                // of each member: the number of its next one
    std::deque<std::shared_ptr<Shared>> open; // that not all have come to
    int64_t first = 0;                        // the number of the first of them
  };

  std::shared_ptr<Shared> come(int64_t rank, CUstream stream, const Action &action,
                               const void *from, void *to);
  // All have come: puts the work into the group's stream.
  void perform(Group &group, Shared &meeting);
  void sum(Group &group, const std::vector<Side> &sides, std::vector<void *> to, int64_t offset,
           int64_t stride) const;
  CUevent takeEvent();

  const Program &program;
  const Gpu &gpu;
  CUmodule module = nullptr;
  std::map<std::pair<LlrtType, LlrtType>, CUfunction> sums; // by the types of `from` and `to`
  std::mutex mutex;                                         // of all that follows
  std::map<std::pair<size_t, int64_t>, Group> groups;       // by communicator and first member
  std::vector<CUevent> events;                              // not in use
};

} // namespace llrt::cuda
#endif // LLRT_CUDA_SHAREDGPU_H
