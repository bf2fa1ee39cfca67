//===- Machine.cpp - What a program runs on -------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Cost/Machine.h"

#include "llamac/Support/JsonReader.h"

#include "mlir/IR/BuiltinTypes.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"

using namespace mlir;
using namespace mlir::llamac;
using llamac::plan::Link;

//===----------------------------------------------------------------------===//
// Presets
//===----------------------------------------------------------------------===//

static constexpr llvm::StringRef kNames[] = {"cpu", "h100-sxm", "h200-sxm", "a100-sxm"};

// Peaks, memory and links are those of the data sheets (dense, no sparsity; f32
// without tensor cores, f64 with). A GPU of a server has one network card.
//
// Parts of the peak, measured on H200 with random data: product of 8192 x 8192
// bf16 matrices 790 of 989 TFLOP/s, copy 4.3 of 4.8 TB/s. Attention of 2048
// tokens, head size 128, every key seen: cuDNN 9.19 on H200, 633 forward and 504
// backward (NVIDIA/cudnn-frontend, benchmark results of 02/2026). The backward
// here is the number of operations that countOperations counts, 4/5 of theirs.
//
// Links inside a server, NCCL 2.27 on 8 H200: all-gather 361 GB/s per GPU, which
// needs 23 us more for 1 MiB (40 GB/s). Between servers 4 x 8 H200 with 400 Gb/s cards
// reach 365 / 8 = 45.6 GB/s a GPU. Source: stas00/ml-engineering, network chapter.
// The latency between servers, and both links of the A100, are estimates: 10 us;
// 80 % of 300 and 91 % of 25 GB/s, the parts that the H200 reaches.
static Machine sxm(llvm::StringRef name, double bf16, double f32, double f64, double bandwidth,
                   int64_t memory, Link inside, Link between) {
  Machine machine;
  machine.name = name.str();
  machine.peak = {bf16, f32, f64};
  machine.memoryBandwidth = bandwidth;
  machine.memoryBytes = memory;
  machine.launchSeconds = 3e-6; // estimate; a CUDA graph hides most of it
  machine.efficiency = {790.0 / 989, 633.0 / 989, 504.0 / 989 * 4 / 5, 4.3 / 4.8};
  machine.insideServer = inside;
  machine.betweenServers = between;
  return machine;
}

// A core of the test machine (AMD Zen 5, docs/performance.md): 450 GFLOP/s f32 and
// 900 bf16 on two cores with oneDNN, its parts of the peak in the table of
// attention there. f64 is half of f32. "Servers" of 2 cores; memory bandwidth and
// links, which are copies in memory, are estimates.
static Machine cpu() {
  Machine machine;
  machine.name = "cpu";
  machine.gpusPerServer = 2;
  machine.peak = {450e9, 225e9, 112e9};
  machine.memoryBandwidth = 20e9;
  // Memory is that of the host where it runs, which its executables compare with at start.
  machine.launchSeconds = 5e-6;
  machine.efficiency = {1, 0.7, 0.7, 1};
  machine.insideServer = machine.betweenServers = {5e-6, 10e9};
  return machine;
}

static std::optional<Machine> preset(llvm::StringRef name) {
  constexpr Link nvlink4 = {23e-6, 361e9}, network400 = {10e-6, 45.6e9};
  if (name == "cpu")
    return cpu();
  if (name == "h100-sxm")
    return sxm(name, 989e12, 67e12, 67e12, 3.35e12, int64_t(80) * 1000 * 1000 * 1000, nvlink4,
               network400);
  if (name == "h200-sxm")
    return sxm(name, 989e12, 67e12, 67e12, 4.8e12, int64_t(141) * 1000 * 1000 * 1000, nvlink4,
               network400);
  if (name == "a100-sxm")
    return sxm(name, 312e12, 19.5e12, 19.5e12, 2.039e12, int64_t(80) * 1000 * 1000 * 1000,
               {23e-6, 240e9}, {10e-6, 22.8e9});
  return std::nullopt;
}

llvm::ArrayRef<llvm::StringRef> llamac::machineNames() { return kNames; }

double Machine::peakOf(Type element) const {
  return element.isBF16() ? peak.bf16 : element.isF32() ? peak.f32 : peak.f64;
}

//===----------------------------------------------------------------------===//
// Files
//===----------------------------------------------------------------------===//

static void readLink(JsonReader reader, Link &link) {
  reader.onlyFields({"latency", "bytes_per_second"});
  link.latency = reader.number("latency", link.latency, /*positive=*/false);
  link.bytesPerSecond = reader.number("bytes_per_second", link.bytesPerSecond);
}

// A part of the peak: above 0, at most 1.
static void readPart(JsonReader &reader, llvm::StringRef field, double &part) {
  part = reader.number(field, part);
  if (part > 1)
    reader.wrongValue(field, "a number above 0 and at most 1", part);
}

llvm::Expected<Machine> llamac::findMachine(llvm::StringRef name) {
  if (std::optional<Machine> machine = preset(name))
    return *machine;
  if (!name.ends_with(".json") && !llvm::sys::fs::exists(name))
    return inputError(name + ": expected a machine file, or one of " +
                      llvm::join(machineNames(), ", "));
  llvm::Expected<llvm::json::Object> object = readJsonFile(name, "a machine");
  if (!object)
    return object.takeError();

  std::string error;
  JsonReader reader(name, "", *object, error);
  reader.onlyFields({"like", "gpus_per_server", "peak", "memory_bandwidth", "memory_bytes",
                     "launch_seconds", "efficiency", "inside_server", "between_servers",
                     "server_speeds"});
  std::string like = reader.text("like", "h100-sxm");
  std::optional<Machine> base = preset(like);
  if (!base)
    reader.wrong("like", "one of " + llvm::join(machineNames(), ", "), "'" + like + "'");
  Machine machine = base.value_or(cpu());
  machine.name = name.str();
  machine.gpusPerServer = reader.integer("gpus_per_server", machine.gpusPerServer, 1, 1 << 16);
  JsonReader peak = reader.members("peak");
  peak.onlyFields({"bf16", "f32", "f64"});
  machine.peak.bf16 = peak.number("bf16", machine.peak.bf16);
  machine.peak.f32 = peak.number("f32", machine.peak.f32);
  machine.peak.f64 = peak.number("f64", machine.peak.f64);
  machine.memoryBandwidth = reader.number("memory_bandwidth", machine.memoryBandwidth);
  if (object->get("memory_bytes"))
    machine.memoryBytes = reader.integer("memory_bytes", 0, 1, int64_t(1) << 50);
  machine.launchSeconds = reader.number("launch_seconds", machine.launchSeconds, false);
  JsonReader parts = reader.members("efficiency");
  parts.onlyFields({"gemm", "attention_forward", "attention_backward", "memory"});
  readPart(parts, "gemm", machine.efficiency.gemm);
  readPart(parts, "attention_forward", machine.efficiency.attentionForward);
  readPart(parts, "attention_backward", machine.efficiency.attentionBackward);
  readPart(parts, "memory", machine.efficiency.memory);
  readLink(reader.members("inside_server"), machine.insideServer);
  readLink(reader.members("between_servers"), machine.betweenServers);
  llvm::SmallVector<double> speeds = reader.numbers("server_speeds");
  machine.serverSpeeds.assign(speeds.begin(), speeds.end());
  if (reader.failed())
    return inputError(error);
  return machine;
}
