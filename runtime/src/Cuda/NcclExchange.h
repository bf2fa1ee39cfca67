//===- NcclExchange.h - Ranks with a GPU each -------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_CUDA_NCCLEXCHANGE_H
#define LLRT_CUDA_NCCLEXCHANGE_H

#include "src/Control/Control.h"
#include "src/Cuda/Exchange.h"
#include "src/Cuda/Gpu.h"
#include "src/Cuda/NcclLibrary.h"

namespace llrt::cuda {

// NCCL's communicators of one rank: one for each of the program that the rank belongs to. What
// is started is in its stream at once. A communicator has as many channels as are planned for it
// (Communicator::multiprocessors). NCCL sums in an order of its own, the same each time.
// Ranks may be threads or processes.
class NcclExchange : public Exchange {
public:
  // Sets what NCCL takes from the environment, for all ranks of the process: before their threads begin.
  static void setEnvironment(const Program &program);

  // Meets all other ranks, which do the same, on the rank's GPU. Throws Error without NCCL, Failure
  // if a communicator cannot be made or a rank is gone. If it takes longer than `patience` to make
  // one, asks all ranks what they wait for, prints it and ends them. `control` must outlive it.
  NcclExchange(const Program &program, int64_t rank, const Gpu &gpu, Control &control,
               std::chrono::duration<double> patience);
  ~NcclExchange() override;

  std::shared_ptr<Meeting> start(CUstream stream, const Action &action, const void *from,
                                 void *to) override;
  void check() override;
  void abort() override;

  // The numbers of the program's communicators in the order in which all ranks make them.
  static std::vector<size_t> makingOrder(const Program &program);

  // The least `patience` of programs: NCCL loads its code, and makes one communicator after the other.
  // That takes a minute on large machines.
  static constexpr std::chrono::minutes usualPatience{10};

private:
  Control &control;
  std::vector<ncclComm_t> communicators; // by number; null: the rank is not in it
  std::vector<int> peers;                // the other one where there are two members
};

} // namespace llrt::cuda
#endif // LLRT_CUDA_NCCLEXCHANGE_H
