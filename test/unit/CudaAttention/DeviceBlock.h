//===- DeviceBlock.h - A block's kernels on a driver -----------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_TEST_UNIT_CUDAATTENTION_DEVICEBLOCK_H
#define LLAMAC_TEST_UNIT_CUDAATTENTION_DEVICEBLOCK_H

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace llamac_test {

/// Memory of the host that an argument of a block gets its values from, or gives them to.
struct HostBuffer {
  void *data;
  size_t bytes;
  bool written;
};

/// What ptxas says of a kernel.
struct Assembled {
  std::string name;
  int64_t registers, spills;
  std::string problem; ///< an error, or that it serializes what is asynchronous
};

/// A module with one function of routines on memrefs, made kernels for a chip by
/// llama-emit-attention, and run on libcuda.so.1 without the runtime: temporaries are allocated, launches
/// made in order. Faults of the software GPU end the process with status 86.
class DeviceBlock {
public:
  /// Code for `chip` in the form for all of `chips` (commas between). Ends the process if the module cannot be
  /// compiled.
  DeviceBlock(const std::string &module, const std::string &chips, const std::string &chip);
  ~DeviceBlock();

  /// Runs the function on its arguments. Ends the process if the driver refuses.
  void run(const std::vector<HostBuffer> &arguments) const;
  /// Names of the kernels and their PTX, in the order of launches.
  const std::vector<std::pair<std::string, std::string>> &kernels() const;
  /// Replaces what matches `pattern` in the code of kernels by `by`, for tests of what is wrong then. Ends the process if
  /// nothing does.
  void change(const std::string &pattern, const std::string &by);
  /// All kernels assembled by ptxas; empty if there is none.
  std::vector<Assembled> assemble() const;
  /// `llama.form` of the launches that have one.
  std::string form() const;

private:
  struct Code;
  std::unique_ptr<Code> code;
};

} // namespace llamac_test
#endif // LLAMAC_TEST_UNIT_CUDAATTENTION_DEVICEBLOCK_H
