//===- Staging.cpp - Pinned memory of the host ----------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Cuda/Staging.h"

#include "src/Data/Error.h"

#include <algorithm>
#include <bit>

using namespace llrt;
using namespace llrt::cuda;

static int64_t sizeOf(int64_t bytes) {
  return std::max<int64_t>(4096, int64_t(std::bit_ceil(uint64_t(bytes))));
}

Staging::~Staging() {
  const Driver &cuda = driver();
  for (const Busy &each : busy) {
    cuda.cuEventSynchronize(each.done);
    cuda.cuEventDestroy_v2(each.done);
    cuda.cuMemFreeHost(each.piece);
  }
  for (CUevent event : events)
    cuda.cuEventDestroy_v2(event);
  for (auto &[size, pieces] : free)
    for (std::byte *piece : pieces)
      cuda.cuMemFreeHost(piece);
}

void Staging::collect() {
  std::erase_if(busy, [&](const Busy &each) {
    CUresult result = driver().cuEventQuery(each.done);
    if (result == CUDA_ERROR_NOT_READY)
      return false;
    check(result, "cuEventQuery");
    events.push_back(each.done);
    free[each.size].push_back(each.piece);
    busyBytes -= each.size;
    return true;
  });
}

std::byte *Staging::take(int64_t bytes) {
  int64_t size = sizeOf(bytes);
  std::vector<std::byte *> &pieces = free[size];
  if (pieces.empty())
    collect();
  if (!pieces.empty()) {
    std::byte *piece = pieces.back();
    pieces.pop_back();
    return piece;
  }
  void *piece = nullptr;
  if (CUresult result = driver().cuMemHostAlloc(&piece, size_t(size), hostAllocPortable))
    fail("memory: expected ", size,
         " bytes of pinned memory of the host, got: ", errorText(result));
  return static_cast<std::byte *>(piece);
}

void Staging::give(std::byte *piece, int64_t bytes, CUstream stream) {
  CUevent done = nullptr;
  if (events.empty()) {
    check(driver().cuEventCreate(&done, eventDisableTiming), "cuEventCreate");
  } else {
    done = events.back();
    events.pop_back();
  }
  check(driver().cuEventRecord(done, stream), "cuEventRecord");
  busy.push_back({piece, sizeOf(bytes), done});
  busyBytes += sizeOf(bytes);
}

void Staging::give(std::byte *piece, int64_t bytes) { free[sizeOf(bytes)].push_back(piece); }

void Staging::reserve(const std::vector<int64_t> &pieces) {
  std::vector<std::byte *> taken;
  for (int64_t bytes : pieces)
    taken.push_back(take(bytes));
  for (size_t i = 0; i < pieces.size(); ++i)
    give(taken[i], pieces[i]);
}

int64_t Staging::underWay() {
  if (busyBytes > 0)
    collect();
  return busyBytes;
}
