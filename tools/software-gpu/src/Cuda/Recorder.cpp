//===- Recorder.cpp ---------------------------------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Cuda/Recorder.h"

#include "Cuda/Recording.h"
#include "Machine/Async/TensorMap.h"
#include "Memory/Touched.h"

#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <stdexcept>

using namespace sgpu;

namespace {
/// What a launch has of one allocation.
struct Part {
  std::shared_ptr<const Allocation> allocation;
  uint64_t begin = ~uint64_t(0), end = 0; ///< addresses
  RecordedBuffer buffer;
};

/// The parts of memory that a launch knows of; null where it has to be left out.
class Parts {
public:
  explicit Parts(const DeviceMemory &memory) : memory(memory) {}

  /// The index of the part; it holds the range from now on. Throws if it cannot be repeated elsewhere.
  uint32_t add(uint64_t address, uint64_t bytes) {
    std::shared_ptr<const Allocation> a = memory.find(address);
    if (!a || a->host || a->keep)
      throw std::runtime_error(memory.describe(address));
    uint32_t i = 0;
    while (i != all.size() && all[i].allocation->address != a->address)
      ++i;
    if (i == all.size())
      all.push_back({a, ~uint64_t(0), 0, {}});
    Part &part = all[i];
    part.begin = std::min(part.begin, address & ~uint64_t(1023));
    part.end = std::max(part.end, address + bytes);
    return i;
  }
  std::vector<Part> all;

private:
  const DeviceMemory &memory;
};

/// Whether an address is one of an allocation that a recording can hold.
bool isBuffer(const DeviceMemory &memory, uint64_t address) {
  std::shared_ptr<const Allocation> a = memory.find(address);
  return a && a->freedBy.empty() && !a->host && !a->keep;
}

void addParameters(RecordedLaunch &launch, const KernelInfo &info, const DeviceMemory &memory,
                   Parts &parts) {
  for (size_t i = 0; i < info.paramOffsets.size(); ++i) {
    const uint32_t offset = info.paramOffsets[i], size = uint32_t(info.paramSizes[i]);
    TensorMap map;
    if (size == TensorMap::encodedBytes &&
        TensorMap::decode(launch.parameters.data() + offset, map)) {
      RecordedMap recorded;
      recorded.at = {offset, parts.add(map.address, 1), map.address};
      recorded.type = uint32_t(map.type);
      recorded.rank = map.rank;
      recorded.interleave = map.interleave;
      recorded.swizzle = map.swizzle;
      recorded.l2Promotion = map.l2Promotion;
      recorded.fill = map.oobFill;
      for (uint32_t d = 0; d < map.rank; ++d) {
        recorded.extent[d] = map.extent[d];
        recorded.box[d] = map.box[d];
        recorded.elementStride[d] = map.elementStride[d];
        if (d)
          recorded.stride[d - 1] = map.stride[d];
      }
      launch.maps.push_back(recorded);
      continue;
    }
    // A pointer, or a struct that has some.
    uint64_t address = 0;
    for (uint32_t at = offset; at + sizeof address <= offset + size; at += sizeof address) {
      std::memcpy(&address, launch.parameters.data() + at, sizeof address);
      if (isBuffer(memory, address))
        launch.pointers.push_back({at, parts.add(address, 1), address});
    }
  }
}

/// Bytes of memory, of ranges in the order of addresses, in a copy of the part's allocation. A part
/// begins at a multiple of 1,024, behind which there may be other allocations before its own.
std::vector<RecordedBytes> cut(const std::vector<Touched::Range> &ranges, const Part &part,
                               const std::vector<uint8_t> &copy) {
  std::vector<RecordedBytes> bytes;
  const Allocation &a = *part.allocation;
  for (const Touched::Range &r : ranges) {
    if (r.address < a.address || r.address >= a.address + a.bytes)
      continue;
    const uint8_t *from = copy.data() + (r.address - a.address);
    bytes.push_back({r.address - part.begin, {from, from + r.bytes}});
  }
  return bytes;
}

std::vector<uint8_t> copyOf(const DeviceMemory &memory, const Allocation &a) {
  const auto *from = static_cast<const uint8_t *>(memory.host(a.address, a.bytes));
  return from ? std::vector<uint8_t>(from, from + a.bytes) : std::vector<uint8_t>();
}
} // namespace

LaunchResult Recorder::record(const std::string &text, const KernelInfo &info,
                              const LaunchConfig &config, DeviceMemory &memory,
                              const std::function<LaunchResult()> &run) {
  if (file.empty())
    return run();
  RecordedLaunch launch;
  launch.module = std::hash<std::string>()(text);
  launch.kernel = info.name;
  auto three = [](const Dim3 &from, uint32_t *to) {
    to[0] = from.x, to[1] = from.y, to[2] = from.z;
  };
  three(config.grid, launch.grid);
  three(config.block, launch.block);
  three(config.cluster, launch.cluster);
  launch.shared = config.dynamicShared;
  std::string module = recordOf(launch.module, text);
  if (!seen.insert(recordOf(launch)).second)
    return run();
  launch.parameters = config.parameters;

  // What parameters point to, as it is before: nobody knows yet what of it will be read.
  std::string problem;
  Parts parts(memory);
  std::vector<std::vector<uint8_t>> before;
  try {
    addParameters(launch, info, memory, parts);
  } catch (const std::exception &error) {
    problem = error.what();
  }
  for (const Part &part : parts.all)
    before.push_back(copyOf(memory, *part.allocation));

  Touched touched;
  memory.note(&touched);
  LaunchResult result = run();
  memory.note(nullptr);
  if (result.status != LaunchStatus::Ok)
    return result;

  std::vector<Touched::Range> reads = touched.reads(), writes = touched.writes();
  try {
    for (const auto *ranges : {&reads, &writes})
      for (const Touched::Range &r : *ranges)
        if (parts.add(r.address, r.bytes) >= before.size())
          throw std::runtime_error("reached through another pointer: " +
                                   memory.describe(r.address));
  } catch (const std::exception &error) {
    problem = error.what();
  }
  if (!problem.empty()) {
    std::fprintf(stderr,
                 "software-gpu: SOFTWARE_GPU_RECORD: kernel %s is left out: it touches %s\n",
                 info.name.c_str(), problem.c_str());
    return result;
  }
  for (size_t i = 0; i < parts.all.size(); ++i) {
    Part &part = parts.all[i];
    part.buffer.bytes = part.end - part.begin;
    part.buffer.reads = cut(reads, part, before[i]);
    part.buffer.writes = cut(writes, part, copyOf(memory, *part.allocation));
  }
  auto place = [&](RecordedPointer &p) { p.offset -= parts.all[p.buffer].begin; };
  for (RecordedPointer &p : launch.pointers)
    place(p);
  for (RecordedMap &map : launch.maps)
    place(map.at);
  for (Part &part : parts.all)
    launch.buffers.push_back(std::move(part.buffer));
  std::ofstream(file, std::ios::binary | std::ios::app)
      << (seen.insert(module).second ? module : "") + recordOf(launch);
  return result;
}
