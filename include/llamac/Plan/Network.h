//===- Network.h - Servers of GPUs and the links between them ---*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What a plan needs to know of a machine: how fast each GPU is, and how fast data travel.
// "GPU" is what runs one rank. GPUs are numbered through all servers:
//
//   server 0: 0 1 .. 7 --+-- network --+-- server 1: 8 9 .. 15
//             inside     |   between   |
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_PLAN_NETWORK_H
#define LLAMAC_PLAN_NETWORK_H

#include "llamac/Plan/Timeline.h"

#include <algorithm>
#include <cstdint>
#include <vector>

namespace mlir::llamac::plan {

struct Network {
  int64_t gpusPerServer = 8;

  /// Of one GPU, in one direction; what collectives and transfers really get.
  Link insideServer, betweenServers;

  /// Speed of each server, 1 is that for which seconds are given; empty: all alike.
  std::vector<double> serverSpeeds;

  /// The link between two GPUs.
  const Link &link(int64_t from, int64_t to) const {
    return from / gpusPerServer == to / gpusPerServer ? insideServer : betweenServers;
  }
  /// Seconds of an all-gather or reduce-scatter of `ranks` GPUs, `stride` apart: each
  /// sends its part of `bytes` (of the whole tensor) to all others. An all-reduce is
  /// one of both. Source: bus bandwidth as nccl-tests define it. Between servers a ring
  /// goes through the network cards of all members in a server: 8 with 400 Gb/s each
  /// reach what the links inside do.
  double collectiveSeconds(int64_t ranks, int64_t stride, double bytes) const {
    if (ranks == 1)
      return 0;
    const bool within = ranks * stride <= gpusPerServer;
    const int64_t together = std::clamp<int64_t>(gpusPerServer / stride, 1, ranks);
    const double rate = within ? insideServer.bytesPerSecond
                               : std::min(insideServer.bytesPerSecond,
                                          double(together) * betweenServers.bytesPerSecond);
    return (within ? insideServer : betweenServers).latency +
           bytes * double(ranks - 1) / double(ranks) / rate;
  }
  /// Speed of a GPU. Servers past the end of the list have speed 1.
  double speed(int64_t gpu) const {
    size_t server = gpu / gpusPerServer;
    return server < serverSpeeds.size() ? serverSpeeds[server] : 1;
  }
};

} // namespace mlir::llamac::plan

#endif // LLAMAC_PLAN_NETWORK_H
