//===- software-gpu-replay - Repeats recorded launches on a driver ----------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Cuda/Recording.h"
#include "Support/Json.h"
#include "abi/cuda.h"

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fstream>
#include <memory>
#include <optional>
#include <stdexcept>
#include <sys/wait.h>
#include <unistd.h>

using namespace sgpu;
using namespace sgpu::abi;

static const char *usage =
    R"(usage: software-gpu-replay FILE [--library=LIBCUDA] [--json=FILE] [--tolerance=X] [--kernel=NAME] [--seconds=N]
Repeats the launches of a recording (SOFTWARE_GPU_RECORD) on device 0 of the driver libcuda.so.1, or of the library
given, and compares what they write, byte by byte; bytes that they did not write must stay as they were. Prints a line for each
kernel. A difference of floating-point values counts as one beyond the tolerance X (0), relative to the norm of
what the buffer should get; the type is not known, so f32, bf16 and f64 are tried, and the nearest counts.
A launch that spoils the context, ends the process or does not end within N seconds (60) counts as wrong, and what comes after it is
repeated in a new process.
Exit status: 0 all are the same, 1 some differ or fail, 2 wrong use, 77 there is no driver or no device.
)";

namespace {
void *library = nullptr;

template <typename F> F *function(const char *name) {
  auto *f = reinterpret_cast<F *>(dlsym(library, name));
  if (!f)
    throw std::runtime_error(std::string("the library has no ") + name);
  return f;
}
void check(CUresult result, const char *call) {
  if (result == CUDA_SUCCESS)
    return;
  const char *text = nullptr;
  function<decltype(cuGetErrorName)>("cuGetErrorName")(result, &text);
  throw std::runtime_error(std::string(call) + ": " +
                           (text ? text : std::to_string(int(result)).c_str()));
}
#define CALL(name, ...) check(function<decltype(name)>(#name)(__VA_ARGS__), #name)

using Bytes = std::vector<uint8_t>;

/// Memory of the device that is given back.
class DeviceBuffer {
public:
  explicit DeviceBuffer(uint64_t bytes) { CALL(cuMemAlloc_v2, &all, bytes + slack); }
  ~DeviceBuffer() { function<decltype(cuMemFree_v2)>("cuMemFree_v2")(all); }
  DeviceBuffer(const DeviceBuffer &) = delete;
  DeviceBuffer &operator=(const DeviceBuffer &) = delete;
  CUdeviceptr address() const { return (all + slack - 1) & ~CUdeviceptr(slack - 1); }

private:
  static constexpr uint64_t slack = 1024; // so that addresses are multiples, as those recorded were
  CUdeviceptr all = 0;
};

/// What is found of a launch.
struct Outcome {
  uint64_t written = 0, different = 0, strayed = 0; ///< bytes
  double error = 0;                                 ///< relative, the greatest of all buffers
  std::string problem;                              ///< a call of the driver that failed
};

template <typename T> double as(const uint8_t *from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return double(value);
}
double asBf16(const uint8_t *from) {
  const uint8_t word[4] = {0, 0, from[0], from[1]};
  return as<float>(word);
}

/// The relative difference of two buffers read as numbers of `size` bytes.
double relativeError(const Bytes &got, const Bytes &want, size_t size,
                     double (*value)(const uint8_t *)) {
  if (want.size() % size)
    return INFINITY;
  double error = 0, norm = 0;
  for (size_t i = 0; i < want.size(); i += size) {
    double w = value(want.data() + i), g = value(got.data() + i);
    if (w == g || (std::isnan(w) && std::isnan(g)))
      continue; // infinities, too
    error += (w - g) * (w - g);
  }
  for (size_t i = 0; i < want.size(); i += size)
    norm += std::pow(value(want.data() + i), 2);
  return error == 0 ? 0 : std::sqrt(error / norm);
}
double relativeError(const Bytes &got, const Bytes &want) {
  double least = INFINITY;
  for (double e : {relativeError(got, want, 4, as<float>), relativeError(got, want, 2, asBf16),
                   relativeError(got, want, 8, as<double>)})
    if (e < least) // not a NaN
      least = e;
  return least;
}

/// The contents of a buffer before a launch: what was read, and a pattern.
Bytes contentsOf(const RecordedBuffer &buffer) {
  Bytes contents(buffer.bytes);
  for (uint64_t i = 0; i < buffer.bytes; ++i)
    contents[i] = uint8_t(0x5A + i * 37);
  for (const RecordedBytes &part : buffer.reads)
    std::copy(part.bytes.begin(), part.bytes.end(), contents.begin() + int64_t(part.offset));
  return contents;
}

Outcome compare(const RecordedBuffer &buffer, const Bytes &before, const Bytes &after) {
  Outcome outcome;
  Bytes expected = before, got, want;
  for (const RecordedBytes &part : buffer.writes) {
    std::copy(part.bytes.begin(), part.bytes.end(), expected.begin() + int64_t(part.offset));
    outcome.written += part.bytes.size();
    want.insert(want.end(), part.bytes.begin(), part.bytes.end());
    got.insert(got.end(), after.begin() + int64_t(part.offset),
               after.begin() + int64_t(part.offset + part.bytes.size()));
  }
  for (size_t i = 0; i < want.size(); ++i)
    outcome.different += want[i] != got[i];
  for (size_t i = 0; i < after.size(); ++i)
    outcome.strayed += after[i] != expected[i];
  outcome.strayed -= outcome.different;
  outcome.error = outcome.different ? relativeError(got, want) : 0;
  return outcome;
}

Outcome replay(const Recording &recording, const RecordedLaunch &launch) {
  Outcome outcome;
  CUmodule module;
  CUfunction f;
  CALL(cuModuleLoadData, &module, recording.modules.at(launch.module).c_str());
  CALL(cuModuleGetFunction, &f, module, launch.kernel.c_str());
  if (launch.shared)
    CALL(cuFuncSetAttribute, f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
         int(launch.shared));
  std::vector<std::unique_ptr<DeviceBuffer>> buffers;
  std::vector<Bytes> before;
  for (const RecordedBuffer &buffer : launch.buffers) {
    buffers.push_back(std::make_unique<DeviceBuffer>(buffer.bytes));
    before.push_back(contentsOf(buffer));
    CALL(cuMemcpyHtoD_v2, buffers.back()->address(), before.back().data(), buffer.bytes);
  }
  alignas(64) unsigned char parameters[4096];
  if (launch.parameters.size() > sizeof parameters)
    throw std::runtime_error("more than 4096 bytes of parameters");
  std::memcpy(parameters, launch.parameters.data(), launch.parameters.size());
  auto addressOf = [&](const RecordedPointer &p) {
    return buffers.at(p.buffer)->address() + p.offset;
  };
  for (const RecordedPointer &p : launch.pointers) {
    CUdeviceptr address = addressOf(p);
    std::memcpy(parameters + p.parameter, &address, sizeof address);
  }
  for (const RecordedMap &map : launch.maps) {
    CUtensorMap encoded;
    CALL(cuTensorMapEncodeTiled, &encoded, CUtensorMapDataType(map.type), map.rank,
         reinterpret_cast<void *>(addressOf(map.at)), map.extent, map.stride, map.box,
         map.elementStride, CUtensorMapInterleave(map.interleave), CUtensorMapSwizzle(map.swizzle),
         CUtensorMapL2promotion(map.l2Promotion), CUtensorMapFloatOOBfill(map.fill));
    std::memcpy(parameters + map.at.parameter, &encoded, sizeof encoded);
  }
  CUlaunchConfig config = {};
  config.gridDimX = launch.grid[0], config.gridDimY = launch.grid[1],
  config.gridDimZ = launch.grid[2];
  config.blockDimX = launch.block[0], config.blockDimY = launch.block[1],
  config.blockDimZ = launch.block[2];
  config.sharedMemBytes = launch.shared;
  CUlaunchAttribute cluster = {};
  if (launch.cluster[0]) {
    cluster.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
    cluster.value.clusterDim = {launch.cluster[0], launch.cluster[1], launch.cluster[2]};
    config.attrs = &cluster;
    config.numAttrs = 1;
  }
  size_t size = launch.parameters.size();
  void *extra[] = {reinterpret_cast<void *>(1), parameters, reinterpret_cast<void *>(2), &size,
                   nullptr}; // CU_LAUNCH_PARAM_BUFFER_POINTER, _SIZE, _END
  CALL(cuLaunchKernelEx, &config, f, nullptr, extra);
  CALL(cuCtxSynchronize, );
  for (size_t i = 0; i < buffers.size(); ++i) {
    Bytes after(launch.buffers[i].bytes);
    CALL(cuMemcpyDtoH_v2, after.data(), buffers[i]->address(), after.size());
    Outcome one = compare(launch.buffers[i], before[i], after);
    outcome.written += one.written;
    outcome.different += one.different;
    outcome.strayed += one.strayed;
    outcome.error = std::max(outcome.error, one.error);
  }
  CALL(cuModuleUnload, module);
  return outcome;
}

/// The value of `--name=value`.
std::optional<std::string> option(const std::string &argument, const std::string &name) {
  if (!argument.starts_with("--" + name + "="))
    return std::nullopt;
  return argument.substr(name.size() + 3);
}

/// What was asked for.
struct Options {
  std::string file, json, only, library = "libcuda.so.1";
  double tolerance = 0;
  unsigned seconds = 60;
};

/// What a process that repeats launches ends with, beside what the library makes of it.
enum Status { Done = 0, ContextLost = 3, NoDriver = 77 };
enum class Word : char { Same = 's', Near = 'n', Wrong = 'w' };

/// Says how a launch came out.
void tell(const Options &options, const RecordedLaunch &launch, Word word, const Outcome &outcome) {
  const char *text = word == Word::Same ? "same" : word == Word::Near ? "near" : "wrong";
  if (word != Word::Same)
    std::printf("%s: %s: %llu of %llu bytes differ, relative difference %.2g, %llu bytes outside "
                "of them%s%s\n",
                text, launch.kernel.c_str(), (unsigned long long)outcome.different,
                (unsigned long long)outcome.written, outcome.error,
                (unsigned long long)outcome.strayed, outcome.problem.empty() ? "" : "; ",
                outcome.problem.c_str());
  std::fflush(stdout); // the next launch may end the process
  Json line;
  line.add("kernel", launch.kernel);
  line.add("result", text);
  line.add("written", outcome.written);
  line.add("different", outcome.different);
  line.add("outside", outcome.strayed);
  line.add("relative_difference", std::to_string(outcome.error));
  if (!outcome.problem.empty())
    line.add("problem", outcome.problem);
  if (!options.json.empty())
    std::ofstream(options.json, std::ios::app) << line.str() << "\n";
}

/// Repeats launches, in a process of its own; writes a Word for each to `to`.
Status repeat(const Options &options, const Recording &recording,
              const std::vector<const RecordedLaunch *> &launches, size_t first, int to) {
  library = dlopen(options.library.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (!library) {
    std::printf("no driver: %s\n", dlerror());
    return NoDriver;
  }
  CUcontext context;
  CUdevice device;
  try {
    CALL(cuInit, 0);
    CALL(cuDeviceGet, &device, 0);
    CALL(cuDevicePrimaryCtxRetain, &context, device);
    CALL(cuCtxSetCurrent, context);
  } catch (const std::exception &error) {
    std::printf("no device: %s\n", error.what());
    return NoDriver;
  }
  for (size_t i = first; i < launches.size(); ++i) {
    Outcome outcome;
    alarm(options.seconds);
    try {
      outcome = replay(recording, *launches[i]);
    } catch (const std::exception &error) {
      outcome.problem = error.what();
    }
    alarm(0);
    Word word = !outcome.problem.empty() || outcome.strayed || !(outcome.error <= options.tolerance)
                    ? Word::Wrong
                : outcome.different ? Word::Near
                                    : Word::Same;
    tell(options, *launches[i], word, outcome);
    if (write(to, &word, 1) != 1)
      return Done; // nobody listens
    // A fault of a kernel stays: every later call returns it until the process ends.
    if (!outcome.problem.empty() && function<decltype(cuCtxSynchronize)>("cuCtxSynchronize")())
      return ContextLost;
  }
  return Done;
}
} // namespace

int main(int argc, char **argv) {
  Options options;
  auto refuse = [](const std::string &argument, const char *expected) {
    std::fprintf(stderr, "software-gpu-replay: %s: expected %s\n", argument.c_str(), expected);
    return 2;
  };
  for (int i = 1; i < argc; ++i) {
    std::string argument = argv[i];
    char *end = nullptr;
    if (auto v = option(argument, "library")) {
      options.library = *v;
    } else if (auto v = option(argument, "json")) {
      options.json = *v;
    } else if (auto v = option(argument, "kernel")) {
      options.only = *v;
    } else if (auto v = option(argument, "tolerance")) {
      options.tolerance = std::strtod(v->c_str(), &end);
      if (v->empty() || *end || !(options.tolerance >= 0))
        return refuse(argument, "a number from 0");
    } else if (auto v = option(argument, "seconds")) {
      unsigned long seconds = std::strtoul(v->c_str(), &end, 10);
      if (v->empty() || *end || seconds < 1 || seconds > 86400)
        return refuse(argument, "a whole number from 1 to 86400");
      options.seconds = unsigned(seconds);
    } else if (!argument.starts_with("-") && options.file.empty()) {
      options.file = argument;
    } else {
      std::fputs(usage, argument == "--help" ? stdout : stderr);
      return argument == "--help" ? 0 : 2;
    }
  }
  if (options.file.empty()) {
    std::fputs(usage, stderr);
    return 2;
  }
  Recording recording;
  try {
    recording = Recording::read(options.file);
  } catch (const std::exception &error) {
    std::fprintf(stderr, "software-gpu-replay: %s\n", error.what());
    return 2;
  }
  std::vector<const RecordedLaunch *> launches;
  for (const RecordedLaunch &launch : recording.launches)
    if (options.only.empty() || launch.kernel == options.only)
      launches.push_back(&launch);
  if (!options.json.empty())
    std::ofstream(options.json, std::ios::trunc);
  int same = 0, near = 0, wrong = 0, bad = 0;
  size_t next = 0;
  while (next < launches.size()) {
    int ends[2];
    if (pipe(ends)) {
      std::perror("software-gpu-replay: pipe");
      return 2;
    }
    std::fflush(nullptr);
    pid_t child = fork();
    if (child < 0) {
      std::perror("software-gpu-replay: fork");
      return 2;
    }
    if (child == 0) {
      close(ends[0]);
      std::exit(repeat(options, recording, launches, next, ends[1]));
    }
    close(ends[1]);
    size_t begun = next;
    for (Word word; read(ends[0], &word, 1) == 1; ++next)
      ++(word == Word::Same ? same : word == Word::Near ? near : wrong);
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == NoDriver && next == 0)
      return NoDriver; // later a launch has made it so
    if (WIFEXITED(status) && WEXITSTATUS(status) != Done && WEXITSTATUS(status) != ContextLost)
      bad = WEXITSTATUS(status); // the library's
    if (WIFEXITED(status) && next != begun)
      continue;
    if (next == launches.size())
      break;
    Outcome outcome;
    outcome.problem = WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM
                          ? "not done after " + std::to_string(options.seconds) + " s"
                          : "the process ended";
    tell(options, *launches[next++], Word::Wrong, outcome);
    ++wrong;
  }
  std::printf("%d launches: %d the same, %d near, %d wrong\n", same + near + wrong, same, near,
              wrong);
  return same + near + wrong == 0 || wrong ? 1 : bad;
}
