//===- CudaDevices.cpp - Which rank has which GPU, and whether it suffices ---===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "llrt/MemoryTable.h"
#include "src/Control/Launch.h"
#include "src/Cuda/CublasLt.h"
#include "src/Cuda/CudaDevice.h"
#include "src/Cuda/NcclExchange.h"
#include "src/Cuda/NcclLibrary.h"
#include "src/Cuda/SharedGpu.h"
#include "src/Data/Error.h"

#include <algorithm>
#include <map>

using namespace llrt;
using namespace llrt::cuda;

namespace {
// The GPUs of the ranks of this process.
class CudaDevices final : public Devices {
public:
  CudaDevices(const Program &program, const Launch &launch, const DeviceOptions &options)
      : program(program), options(options) {
    std::map<int, std::vector<int64_t>> ranksOf;
    if (launch.processes()) {
      ranksOf[gpuOfProcess(launch)].push_back(launch.rank);
    } else {
      int64_t ranks = program.grid.ranks(), count = gpuCount();
      if (ranks > count && count > 1)
        fail("the program is for ", ranks,
             " ranks: expected as many GPUs, or one that all of them "
             "share, got ",
             count, " (CUDA_VISIBLE_DEVICES=0 shows one)");
      for (int64_t rank = 0; rank < ranks; ++rank)
        ranksOf[int(count == 1 ? 0 : rank)].push_back(rank);
    }
    for (const auto &[number, ranks] : ranksOf) {
      auto &gpu = gpus.emplace_back(std::make_unique<Gpu>(number));
      if (program.device)
        gpu->load(*program.device);
      if (ranks.size() > 1 || program.grid.ranks() == 1)
        shared = std::make_unique<SharedGpu>(program, *gpu);
      requireMemory(*gpu, ranks);
      requireMultiprocessors(*gpu);
      for (int64_t rank : ranks)
        gpuOf[rank] = gpu.get();
    }
  }

  std::unique_ptr<Device> make(int64_t rank, Transport &, Control &control) override {
    const Gpu &gpu = *gpuOf.at(rank);
    gpu.enter();
    std::unique_ptr<Exchange> exchange;
    if (shared)
      exchange = shared->end(rank);
    else
      exchange = std::make_unique<NcclExchange>(
          program, rank, gpu, control,
          std::max<std::chrono::duration<double>>(options.timeout, NcclExchange::usualPatience));
    return std::make_unique<CudaDevice>(program, rank, gpu, std::move(exchange), control, options);
  }

  static int64_t gpuCount() {
    int count = 0;
    cuda::check(driver().cuDeviceGetCount(&count), "cuDeviceGetCount");
    return count;
  }

private:
  // A launcher may show each process a GPU of its own, or all of them the same.
  static int gpuOfProcess(const Launch &launch) {
    int64_t count = gpuCount();
    if (count == 1)
      return 0;
    // All processes of a machine tell the same where they can.
    int64_t least = launch.localRank + 1;
    if (int64_t here = launch.knowsLocalSize ? std::max(launch.localSize, least) : least;
        here > count)
      fail("this machine has ", launch.knowsLocalSize ? "" : "at least ", here,
           " ranks that are processes: expected as many GPUs, got ", count,
           "; ranks share a GPU where they are of one process, without a launcher");
    return int(launch.localRank);
  }

  // What is planned must be free: told before the first of it is allocated.
  void requireMemory(const Gpu &gpu, const std::vector<int64_t> &ranks) const {
    int64_t needed = 0, has = gpu.freeBytes(), most = 0;
    ArenaSizes largest; // of the rank that needs most
    for (int64_t rank : ranks) {
      size_t stage = program.stageOf(rank);
      ArenaSizes sizes = memoryOf(program, stage, options.runs);
      if (shared) // no NCCL
        std::erase_if(sizes, [](const auto &each) { return each.first == communicatorMemory; });
      needed += totalBytes(sizes);
      if (totalBytes(sizes) > most) {
        most = totalBytes(sizes);
        largest = std::move(sizes);
      }
    }
    if (needed <= has || options.mayExceedMemory)
      return;
    std::string of = ranks.size() == 1 ? "the rank" : std::to_string(ranks.size()) + " ranks";
    fail("memory: expected ", gigabytes(needed), " GB for ", of, " on GPU ", gpu.number(), " (",
         gpu.name(), "), got ", gigabytes(has), " GB that are free; ",
         ranks.size() == 1 ? "" : "the largest needs ", memoryParts(largest), "; ",
         remedies(ranks.size() > 1));
  }

  // What the program has not been compiled with yet, of what makes it smaller.
  std::string remedies(bool sharesGpu) const {
    auto option = [&](const char *name) {
      const auto value = program.options.find(name);
      return value != program.options.end() && value->is_string() ? value->get<std::string>() : "";
    };
    std::optional<size_t> dp = program.grid.find("dp");
    std::string text;
    auto add = [&](const std::string &what) { text += (text.empty() ? "" : ", ") + what; };
    if (sharesGpu)
      add("a GPU for each rank");
    const bool trains = std::count(options.runs.begin(), options.runs.end(), known::step) > 0;
    if (trains && dp && program.grid.axes[*dp].size > 1 && option("fsdp") != "parameters")
      add("--fsdp=parameters");
    if (trains && option("recompute") != "full")
      add("--recompute=full");
    if (program.batch > 1)
      add("--batch=" + std::to_string(program.batch / 2));
    add("more ranks on tp or pp");
    return "what needs less: " + text +
           " of llamac compile, which with a --machine of so many memory_bytes names the smallest "
           "change that fits; --over-memory=allow begins all the same";
  }

  // Communication that waits for other ranks must leave room to what these wait for.
  void requireMultiprocessors(const Gpu &gpu) const {
    const int64_t held = program.heldMultiprocessors();
    if (!shared && gpu.multiprocessors() <= held)
      fail("GPU ", gpu.number(), " (", gpu.name(), ") has ", gpu.multiprocessors(),
           " multiprocessors: expected more than the ", held,
           " that communication of this program may hold while it waits for other ranks (a part of "
           "a GPU, as MIG makes it, is not enough); compile it for fewer ranks, or take a whole "
           "GPU");
  }

  const Program &program;
  DeviceOptions options;
  std::vector<std::unique_ptr<Gpu>> gpus;
  std::map<int64_t, const Gpu *> gpuOf; // by rank
  std::unique_ptr<SharedGpu> shared;    // where one GPU has all ranks
};
} // namespace

void llrt::checkTarget(const Program &program) {
  // Before there are other threads.
  NcclExchange::setEnvironment(program);
  driver();
  cublasLt();
  if (program.grid.ranks() > 1 && CudaDevices::gpuCount() > 1)
    nccl();
}

std::unique_ptr<Devices> llrt::makeDevices(const Program &program, const Launch &launch,
                                           const DeviceOptions &options) {
  return std::make_unique<CudaDevices>(program, launch, options);
}
