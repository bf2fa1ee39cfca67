//===- Partition.cpp - A chain of blocks, cut into chunks -----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Dynamic programming over (chunks used, blocks used). The value of a state is
// the list of chunk times, largest first, compared lexicographically. That
// order is kept when the same time is added to both lists, so the best whole
// has best parts. A first, cheaper pass finds the largest time alone; the
// second leaves out every chunk above it.
//
//===----------------------------------------------------------------------===//
#include "llamac/Plan/Partition.h"

#include <algorithm>
#include <cmath>
#include <functional>

namespace mlir::llamac::plan {

namespace {

constexpr double kPerSecond = 1e15; // femtoseconds: 9,000 s fit into 63 bits
constexpr double kLongest = 9000;   // seconds of all blocks together

/// Prefix sums of the chain; times in femtoseconds at speed 1.
struct Sums {
  std::vector<int64_t> time{0}, residual{0}, fixed{0};
  const PartitionProblem &problem;

  explicit Sums(const PartitionProblem &problem) : problem(problem) {
    for (const BlockCost &block : problem.blocks) {
      time.push_back(time.back() + std::llround(block.seconds() * kPerSecond));
      residual.push_back(residual.back() + block.residualBytes);
      fixed.push_back(fixed.back() + block.parameterBytes + block.optimizerBytes);
    }
  }
  int64_t timeOf(size_t chunk, size_t from, size_t to) const {
    double speed = problem.chunks[chunk].speed;
    int64_t sum = time[to] - time[from];
    return speed == 1 ? sum : std::llround(double(sum) / speed);
  }
  int64_t bytesOf(size_t chunk, size_t from, size_t to) const {
    return fixed[to] - fixed[from] +
           problem.chunks[chunk].inFlight * (residual[to] - residual[from]);
  }
  bool fits(size_t chunk, size_t from, size_t to) const {
    return bytesOf(chunk, from, to) <= problem.chunks[chunk].memoryBytes;
  }
};

/// The smallest possible maximum over chunks of value(chunk, from, to);
/// INT64_MAX if every cut has a chunk of value INT64_MAX.
int64_t smallestMaximum(size_t chunks, size_t blocks,
                        const std::function<int64_t(size_t, size_t, size_t)> &value) {
  // suffix[i]: best of the remaining chunks over blocks [i, blocks).
  std::vector<int64_t> suffix(blocks + 1, INT64_MAX), next;
  suffix[blocks] = INT64_MIN;
  for (size_t c = chunks; c-- > 0;) {
    next.assign(blocks + 1, INT64_MAX);
    for (size_t i = c; i < blocks; ++i)
      for (size_t j = i + 1; j <= blocks; ++j)
        if (suffix[j] != INT64_MAX)
          next[i] = std::min(next[i], std::max(value(c, i, j), suffix[j]));
    suffix.swap(next);
  }
  return suffix[0];
}

Partition finish(const PartitionProblem &problem, std::vector<size_t> begin) {
  Sums sums(problem);
  Partition result;
  result.begin = std::move(begin);
  double speeds = 0, fastest = 0, largestBlock = 0;
  for (size_t c = 0; c < problem.chunks.size(); ++c) {
    size_t from = result.begin[c], to = result.begin[c + 1];
    result.seconds.push_back(double(sums.timeOf(c, from, to)) / kPerSecond);
    result.bytes.push_back(sums.bytesOf(c, from, to));
    speeds += problem.chunks[c].speed;
    fastest = std::max(fastest, problem.chunks[c].speed);
  }
  result.largest = *std::max_element(result.seconds.begin(), result.seconds.end());
  for (const BlockCost &block : problem.blocks)
    largestBlock = std::max(largestBlock, block.seconds());
  result.lowerBound =
      std::max(double(sums.time.back()) / kPerSecond / speeds, largestBlock / fastest);
  return result;
}

} // namespace

std::optional<Error> checkProblem(const PartitionProblem &problem) {
  size_t chunks = problem.chunks.size(), blocks = problem.blocks.size();
  if (chunks == 0)
    return Error{"expected at least 1 stage, got 0"};
  if (chunks > blocks)
    return Error{"expected at most " + std::to_string(blocks) +
                 " stages, one for each block, got " + std::to_string(chunks)};
  double total = 0, slowest = 1;
  for (size_t c = 0; c < chunks; ++c) {
    const ChunkResource &chunk = problem.chunks[c];
    if (!(chunk.speed > 0) || !std::isfinite(chunk.speed))
      return Error{"stage " + std::to_string(c) + ": expected a positive speed, got " +
                   std::to_string(chunk.speed)};
    if (chunk.memoryBytes < 0 || chunk.inFlight < 0)
      return Error{"stage " + std::to_string(c) +
                   ": expected memory and micro-batches in flight of at least 0"};
    slowest = std::min(slowest, chunk.speed);
  }
  for (const BlockCost &block : problem.blocks) {
    for (double time : {block.forward, block.backwardInput, block.backwardWeight})
      if (!(time >= 0) || !std::isfinite(time))
        return Error{"block '" + block.name + "': expected times of at least 0 s, got " +
                     std::to_string(time)};
    for (int64_t bytes : {block.residualBytes, block.parameterBytes, block.optimizerBytes})
      if (bytes < 0)
        return Error{"block '" + block.name + "': expected sizes of at least 0 bytes, got " +
                     std::to_string(bytes)};
    total += block.seconds();
  }
  if (total / slowest > kLongest)
    return Error{"expected blocks of at most 9000 s together, got " +
                 std::to_string(total / slowest) + " s"};
  return std::nullopt;
}

int64_t leastLack(const PartitionProblem &problem) {
  Sums sums(problem);
  return smallestMaximum(
      problem.chunks.size(), problem.blocks.size(), [&](size_t c, size_t i, size_t j) {
        return std::max<int64_t>(0, sums.bytesOf(c, i, j) - problem.chunks[c].memoryBytes);
      });
}

Result<Partition> solvePartition(const PartitionProblem &problem) {
  if (auto error = checkProblem(problem))
    return *error;
  size_t chunks = problem.chunks.size(), blocks = problem.blocks.size();
  Sums sums(problem);

  int64_t largest = smallestMaximum(chunks, blocks, [&](size_t c, size_t i, size_t j) {
    return sums.fits(c, i, j) ? sums.timeOf(c, i, j) : INT64_MAX;
  });
  if (largest == INT64_MAX) {
    int64_t lack = leastLack(problem);
    std::string message = "no cut of " + std::to_string(blocks) + " blocks into " +
                          std::to_string(chunks) +
                          " stages fits into memory: the best cut "
                          "needs " +
                          std::to_string(lack) + " bytes more on a stage";
    // The largest block that no chunk can hold even alone, if there is one.
    int64_t most = 0;
    std::string alone;
    for (size_t b = 0; b < blocks; ++b) {
      int64_t least = INT64_MAX;
      bool anywhere = false;
      for (size_t c = 0; c < chunks; ++c) {
        anywhere |= sums.fits(c, b, b + 1);
        least = std::min(least, sums.bytesOf(c, b, b + 1));
      }
      if (!anywhere && least > most) {
        most = least;
        alone = "; block '" + problem.blocks[b].name + "' alone needs " + std::to_string(least);
      }
    }
    return Error{message + alone};
  }

  // best[i]: sorted times of the remaining chunks over blocks [i, blocks);
  // cut[c][i]: where chunk c ends if it begins at i. Ends grow, so the first
  // best one is smallest.
  using Times = std::vector<int64_t>;
  std::vector<std::optional<Times>> best(blocks + 1), next;
  best[blocks] = Times{};
  std::vector<std::vector<size_t>> cut(chunks, std::vector<size_t>(blocks + 1, 0));
  for (size_t c = chunks; c-- > 0;) {
    next.assign(blocks + 1, std::nullopt);
    for (size_t i = c; i < blocks; ++i)
      for (size_t j = i + 1; j <= blocks; ++j) {
        int64_t time = sums.timeOf(c, i, j);
        if (time > largest)
          break;
        if (!best[j] || !sums.fits(c, i, j))
          continue;
        Times times = *best[j];
        times.insert(std::lower_bound(times.begin(), times.end(), time, std::greater<>()), time);
        if (!next[i] || times < *next[i]) {
          next[i] = std::move(times);
          cut[c][i] = j;
        }
      }
    best.swap(next);
  }
  std::vector<size_t> begin{0};
  for (size_t c = 0; c < chunks; ++c)
    begin.push_back(cut[c][begin.back()]);
  return finish(problem, std::move(begin));
}

std::optional<Error> verifyPartition(const PartitionProblem &problem, const Partition &partition) {
  size_t chunks = problem.chunks.size();
  if (partition.begin.size() != chunks + 1 || partition.seconds.size() != chunks ||
      partition.bytes.size() != chunks)
    return Error{"expected " + std::to_string(chunks) + " stages, got " +
                 std::to_string(partition.seconds.size())};
  if (partition.begin.front() != 0 || partition.begin.back() != problem.blocks.size())
    return Error{"expected stages to hold all blocks"};
  double largest = 0;
  for (size_t c = 0; c < chunks; ++c) {
    std::string name = "stage " + std::to_string(c) + ": ";
    if (partition.begin[c] >= partition.begin[c + 1])
      return Error{name + "expected at least one block"};
    double seconds = 0;
    int64_t bytes = 0;
    for (size_t b = partition.begin[c]; b < partition.begin[c + 1]; ++b) {
      const BlockCost &block = problem.blocks[b];
      seconds += block.seconds() / problem.chunks[c].speed;
      bytes += block.parameterBytes + block.optimizerBytes +
               problem.chunks[c].inFlight * block.residualBytes;
    }
    if (std::abs(seconds - partition.seconds[c]) > 1e-9 * seconds + 1e-12)
      return Error{name + "expected " + std::to_string(seconds) + " s, got " +
                   std::to_string(partition.seconds[c])};
    if (bytes != partition.bytes[c] || bytes > problem.chunks[c].memoryBytes)
      return Error{name + "expected " + std::to_string(bytes) + " bytes within " +
                   std::to_string(problem.chunks[c].memoryBytes) + ", got " +
                   std::to_string(partition.bytes[c])};
    largest = std::max(largest, partition.seconds[c]);
  }
  if (largest != partition.largest || largest < partition.lowerBound * (1 - 1e-9) - 1e-12)
    return Error{"expected the largest stage time " + std::to_string(largest) +
                 " s at or above the lower bound, got " + std::to_string(partition.largest)};
  return std::nullopt;
}

Partition equalCounts(const PartitionProblem &problem) {
  size_t chunks = problem.chunks.size(), blocks = problem.blocks.size();
  size_t size = (blocks + chunks - 1) / chunks, fewer = size * chunks - blocks;
  std::vector<size_t> begin{0};
  for (size_t c = 0; c < chunks; ++c)
    begin.push_back(begin.back() + size - (c < (fewer + 1) / 2 || chunks - c <= fewer / 2));
  return finish(problem, std::move(begin));
}

std::string describeChunk(const PartitionProblem &problem, const Partition &partition,
                          size_t chunk) {
  std::string text;
  for (size_t b = partition.begin[chunk], end = partition.begin[chunk + 1]; b < end;) {
    size_t run = b;
    while (run < end && problem.blocks[run].kind == problem.blocks[b].kind)
      ++run;
    text += (text.empty() ? "" : ", ") +
            (run - b > 1 ? std::to_string(run - b) + " " : std::string()) + problem.blocks[b].kind;
    b = run;
  }
  return text;
}

} // namespace mlir::llamac::plan
