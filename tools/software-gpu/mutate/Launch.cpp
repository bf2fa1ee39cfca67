//===- Launch.cpp -----------------------------------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "mutate/Launch.h"
#include "Machine/Async/TensorMap.h"

#include <algorithm>
#include <cstring>
#include <set>

using namespace sgpu;
using namespace sgpu::mutate;

/// The bytes of a recorded tensor map but for its address.
static TensorMap mapOf(const RecordedMap &from) {
  TensorMap map;
  map.type = TensorMapType(from.type);
  map.rank = from.rank;
  map.interleave = from.interleave;
  map.swizzle = from.swizzle;
  map.l2Promotion = from.l2Promotion;
  map.oobFill = from.fill;
  map.stride[0] = bytesOf(map.type);
  for (uint32_t d = 0; d < map.rank; ++d) {
    map.extent[d] = from.extent[d];
    map.box[d] = from.box[d];
    map.elementStride[d] = from.elementStride[d];
    if (d)
      map.stride[d] = from.stride[d - 1];
  }
  return map;
}

Launch sgpu::mutate::Launch::of(const Recording &recording, const RecordedLaunch &from,
                                const std::set<Begin> &joined) {
  Launch l;
  l.kernel = from.kernel;
  l.ptx = recording.modules.at(from.module);
  size_t target = l.ptx.find(".target sm_");
  if (target != l.ptx.npos)
    l.chip = std::atoi(l.ptx.c_str() + target + 11) >= 90 ? 90 : 80;
  auto three = [](const uint32_t *n) { return Dim3{n[0], n[1], n[2]}; };
  l.config.grid = three(from.grid);
  l.config.block = three(from.block);
  l.config.cluster = three(from.cluster);
  l.config.dynamicShared = l.config.maxDynamicShared = from.shared;
  l.parameters = from.parameters;
  // Where buffers begin in each recorded one.
  std::vector<std::set<uint64_t>> begins(from.buffers.size());
  auto begin = [&](const RecordedPointer &p) {
    if (!joined.contains({p.buffer, p.offset}))
      begins[p.buffer].insert(p.offset);
  };
  for (const RecordedPointer &p : from.pointers)
    begin(p);
  for (const RecordedMap &m : from.maps)
    begin(m.at);
  std::vector<std::vector<uint32_t>> numbers(
      from.buffers.size()); // of ours, in the order of begins
  Random random(1);
  for (size_t i = 0; i < from.buffers.size(); ++i) {
    const RecordedBuffer &whole = from.buffers[i];
    std::vector<uint64_t> at(begins[i].begin(), begins[i].end());
    for (size_t n = 0; n < at.size(); ++n) {
      uint64_t limit = n + 1 < at.size() ? at[n + 1] : whole.bytes, end = at[n];
      for (const auto *ranges : {&whole.reads, &whole.writes})
        for (const RecordedBytes &r : *ranges)
          if (r.offset < limit)
            end = std::max(end, std::min(limit, r.offset + r.bytes.size()));
      Buffer b;
      b.begin = {uint32_t(i), at[n]};
      b.phase = at[n] % 256;
      b.bytes.resize(std::max<uint64_t>(end - at[n], 1));
      b.written.assign(b.bytes.size(), true);
      for (uint8_t &byte : b.bytes)
        byte = uint8_t(random.next());
      auto each = [&](const std::vector<RecordedBytes> &ranges, auto f) {
        for (const RecordedBytes &r : ranges)
          for (uint64_t j = std::max(r.offset, at[n]); j < std::min(r.offset + r.bytes.size(), end);
               ++j)
            f(j - at[n], r.bytes[j - r.offset]);
      };
      each(whole.writes, [&](uint64_t j, uint8_t) { b.written[j] = false; });
      each(whole.reads, [&](uint64_t j, uint8_t byte) {
        b.written[j] = true;
        b.bytes[j] = byte;
      });
      numbers[i].push_back(uint32_t(l.buffers.size()));
      l.buffers.push_back(std::move(b));
    }
  }
  auto parameter = [&](const RecordedPointer &p) {
    auto after = begins[p.buffer].upper_bound(p.offset);
    size_t n = size_t(std::distance(begins[p.buffer].begin(), after)) - 1;
    return Parameter{p.parameter, numbers[p.buffer][n], p.offset - *std::prev(after)};
  };
  for (const RecordedPointer &p : from.pointers)
    l.pointers.push_back(parameter(p));
  for (const RecordedMap &m : from.maps) {
    Parameter p = parameter(m.at);
    l.maps.push_back(p);
    TensorMap map = mapOf(m);
    map.address = 4096; // `run` puts it in
    map.encode(&l.parameters[p.at]);
  }
  return l;
}

sgpu::mutate::Launch::Outcome
sgpu::mutate::Launch::run(const std::string &code, uint64_t seed, Completion completion,
                          std::function<void(const Report &)> told) const {
  Options options;
  options.chip = chip;
  options.seed = seed;
  options.completion = completion;
  options.threads = 1;
  options.checks |= 1u << unsigned(Check::Strict);
  // Far apart, so that an address that strays from one buffer is in no other.
  constexpr uint64_t apart = uint64_t(16) << 20;
  options.memory = apart;
  for (const Buffer &b : buffers)
    options.memory += b.bytes.size() + apart;
  Reporter reporter(options, false);
  reporter.listener = std::move(told);
  DeviceMemory memory(0, options, reporter);
  std::vector<uint64_t> addresses;
  for (const Buffer &b : buffers) {
    uint64_t address = memory.allocate(b.bytes.size() + b.phase, "a buffer", apart);
    if (!address)
      throw Error("no room for a buffer of " + std::to_string(b.bytes.size()) + " bytes");
    memory.setKeep(address);
    address += b.phase;
    Access write;
    write.write = true;
    for (size_t at = 0; at < b.bytes.size();) {
      size_t end = at;
      while (end < b.bytes.size() && b.written[end] == b.written[at])
        ++end;
      if (b.written[at])
        memory.write(address + at, end - at, &b.bytes[at], write, {});
      at = end;
    }
    addresses.push_back(address);
  }
  LaunchConfig c = config;
  c.parameters = parameters;
  for (const Parameter &p : pointers) {
    uint64_t address = addresses[p.buffer] + p.offset;
    std::memcpy(&c.parameters[p.at], &address, sizeof address);
  }
  for (const Parameter &p : maps) {
    TensorMap map;
    TensorMap::decode(&c.parameters[p.at], map);
    map.address = addresses[p.buffer] + p.offset;
    map.encode(&c.parameters[p.at]);
  }
  c.seed = seed;
  c.work.id = 1;
  c.counts = false;
  auto module = Module::load(code, "kernel", *Chip::find(chip), memory, options, reporter);
  module->run(kernel, c);
  Outcome o;
  for (size_t i = 0; i < addresses.size(); ++i) {
    const size_t size = buffers[i].bytes.size();
    const uint8_t *states = memory.stateBytes(addresses[i], size);
    const auto *bytes = static_cast<const uint8_t *>(memory.host(addresses[i], size));
    std::vector<uint8_t> all(2 * size);
    for (size_t at = 0; at < size; ++at)
      if ((all[size + at] = states[at] == uint8_t(ByteState::Written)))
        all[at] = bytes[at];
    o.memory.push_back(std::move(all));
  }
  o.trapped = reporter.count(Check::Trap);
  std::vector<Report> reports = reporter.reports();
  if (!reports.empty()) {
    auto first = std::find_if(reports.begin(), reports.end(),
                              [](const Report &r) { return r.check != Check::Strict; });
    const Report &r = first == reports.end() ? reports.front() : *first;
    if (r.check == Check::OutOfBounds && r.hasAddress)
      for (size_t i = 1; i < buffers.size(); ++i)
        if (buffers[i].begin.first == buffers[i - 1].begin.first && r.address > addresses[i - 1] &&
            r.address < addresses[i])
          o.strayed = buffers[i].begin;
    o.check = checkName(r.check);
    o.report = Reporter::toText(r, seed);
  }
  return o;
}
