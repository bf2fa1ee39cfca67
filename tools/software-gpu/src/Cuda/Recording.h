//===- Recording.h - Launches with what they read and wrote --------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What SOFTWARE_GPU_RECORD names: launches that software-gpu-replay repeats on any driver. A file is a
// sequence of records, each written at once, so that several processes may append to one file:
//   'M', hash, text                 a module
//   'L', a Launch                   a launch of a kernel of a module that came before
//
//===----------------------------------------------------------------------===//
#ifndef SGPU_CUDA_RECORDING_H
#define SGPU_CUDA_RECORDING_H

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace sgpu {

/// Bytes of a buffer, from `offset` on.
struct RecordedBytes {
  uint64_t offset = 0;
  std::vector<uint8_t> bytes;
};

/// A part of an allocation. Its address was a multiple of 1,024.
struct RecordedBuffer {
  uint64_t bytes = 0;
  std::vector<RecordedBytes> reads;  ///< before the launch
  std::vector<RecordedBytes> writes; ///< after it
};

/// A parameter that holds the address of a buffer.
struct RecordedPointer {
  uint32_t parameter = 0; ///< byte of the parameters
  uint32_t buffer = 0;
  uint64_t offset = 0; ///< in the buffer
};

/// A parameter that is a tensor map; fields as cuTensorMapEncodeTiled takes them.
struct RecordedMap {
  RecordedPointer at;
  uint32_t type = 0, rank = 0, interleave = 0, swizzle = 0, l2Promotion = 0, fill = 0;
  uint64_t extent[5] = {}, stride[5] = {}; ///< stride[0] belongs to dimension 1
  uint32_t box[5] = {}, elementStride[5] = {};
};

struct RecordedLaunch {
  uint64_t module = 0; ///< hash of its text
  std::string kernel;
  uint32_t grid[3] = {}, block[3] = {}, cluster[3] = {}; ///< cluster 0: none
  uint32_t shared = 0;
  std::vector<uint8_t> parameters;
  std::vector<RecordedPointer> pointers;
  std::vector<RecordedMap> maps;
  std::vector<RecordedBuffer> buffers;
};

struct Recording {
  std::map<uint64_t, std::string> modules;
  std::vector<RecordedLaunch> launches;

  /// Throws std::runtime_error with file and reason.
  static Recording read(const std::string &file);
};

/// The record of a module, of a launch.
std::string recordOf(uint64_t module, const std::string &text);
std::string recordOf(const RecordedLaunch &launch);

} // namespace sgpu

#endif
