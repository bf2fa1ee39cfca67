//===- Private.h - What libcuda offers to the other libraries ------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// libcuda.so.1 of the software GPU exports these functions beside NVIDIA's. Our libcublasLt and
// libnccl link to it and put their work into its streams with them. Streams are CUstream handles
// (0, legacy and per-thread default included); codes are CUresult numbers (include/abi/cuda.h).
// All functions are thread-safe.
//===----------------------------------------------------------------------===//
#ifndef SGPU_CUDA_PRIVATE_H
#define SGPU_CUDA_PRIVATE_H

#include "Support/Options.h"
#include "Support/Report.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

/// Bytes at an address of a device (or of pinned host memory).
struct sgpu_range {
  uint64_t address = 0, bytes = 0;
  bool maybe =
      false; ///< of a read: the work decides when it runs, so it may never have been written
};

/// What one call of sgpu_work::run has come to.
enum class sgpu_progress {
  Done,  ///< the work is complete
  Wait,  ///< it waits for others (ranks): other work goes on, then it is called again
  Fault, ///< it failed; its context has a sticky error from here on (sgpu_work::faultCode)
};

/// Work for a stream. It is executed later, when somebody waits for it, in an order that the seed
/// draws among those that streams, events and graphs allow.
struct sgpu_work {
  std::string name; ///< of the call, for messages: "cublasLtMatmul"
  /// What it reads and writes; device memory of any device, or pinned. When it starts these are checked:
  /// bounds, freed, read but never written, and races with work of other streams. After it is done
  /// the writes count as written. From when all that comes before is done until then they hold
  /// poison, those that are also read excepted.
  std::vector<sgpu_range> reads, writes;
  /// Called without locks held, never twice at a time. Called again after Wait. A captured one
  /// runs again with each launch of the graph. Bytes are touched through sgpu_resolve. Must not call
  /// functions of libcuda that wait or enqueue.
  std::function<sgpu_progress()> run;
  int faultCode = 719; ///< CUDA_ERROR_LAUNCH_FAILED
};

#define SGPU_EXPORT __attribute__((visibility("default")))

#pragma clang diagnostic push // C++ types, C names: only our own libraries call them
#pragma clang diagnostic ignored "-Wreturn-type-c-linkage"
extern "C" {

/// Puts work into a stream (as a node if the stream is being captured). Returns a CUresult.
SGPU_EXPORT int sgpu_enqueue(void *stream, sgpu_work work);

/// The ordinal of the device of the current context (stream is then 0) or of a stream. Returns a
/// CUresult: CUDA_ERROR_INVALID_CONTEXT without a context, CUDA_ERROR_INVALID_HANDLE.
SGPU_EXPORT int sgpu_device_of(void *stream, int *device);

/// Where bytes are; null unless all of them lie in one live allocation (of any device) or in pinned
/// host memory.
SGPU_EXPORT void *sgpu_resolve(uint64_t address, uint64_t bytes);

/// Whether all of the bytes were written (true for memory of the host); for reads with `maybe`.
SGPU_EXPORT bool sgpu_written(uint64_t address, uint64_t bytes);

/// The device whose memory holds the address; -1 for pinned host memory, -2 for anything else.
SGPU_EXPORT int sgpu_device_of_address(uint64_t address);

/// "allocation #3 of 1024 bytes, made by cuMemAlloc, byte 16", for messages.
SGPU_EXPORT std::string sgpu_describe(uint64_t address);

/// Compute capability: 80, 90.
SGPU_EXPORT int sgpu_capability(int device);

/// Tells a fault (Check::Argument for a call's values; Report::place.call is the call).
SGPU_EXPORT void sgpu_report(const sgpu::Report &report);

/// What the environment said. The process ends with status 2 and a message if it is wrong.
SGPU_EXPORT const sgpu::Options &sgpu_options();

/// Lets pending work go on for one step; for loops of the host that wait for work of other streams
/// or processes. False if nothing could run.
SGPU_EXPORT bool sgpu_advance();

/// Called once at the end of the process, before the faults are summed up.
SGPU_EXPORT void sgpu_at_exit(void (*function)());
}
#pragma clang diagnostic pop

#endif
