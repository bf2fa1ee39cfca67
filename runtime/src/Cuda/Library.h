//===- Library.h - Libraries that are loaded at run time --------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_CUDA_LIBRARY_H
#define LLRT_CUDA_LIBRARY_H

#include <string>
#include <vector>

namespace llrt::cuda {

// A library that the process loads when it is first asked for and never unloads.
class Library {
public:
  // Loads the first of `names` that is there. Throws Error, with the reason of the system for
  // each, and `remedy`: what to install.
  Library(const std::vector<const char *> &names, const std::string &remedy);

  // A function of it. Throws Error if the library has none of that name.
  void *find(const char *function) const;

  template <typename Function> void find(Function &function, const char *name) const {
    function = reinterpret_cast<Function>(find(name));
  }

private:
  std::string name;
  void *handle = nullptr;
};

// The members of a table of functions. FUNCTIONS(X) names them as X(symbol, parameters); all return
// the table's `Result`.
#define LLRT_LIBRARY_MEMBER(name, parameters) Result(*name) parameters = nullptr;
#define LLRT_LIBRARY_FIND(name, parameters) library.find(name, #name);
#define LLRT_LIBRARY_FUNCTIONS(FUNCTIONS)                                                          \
  FUNCTIONS(LLRT_LIBRARY_MEMBER)                                                                   \
  void find(const Library &library) { FUNCTIONS(LLRT_LIBRARY_FIND) }

} // namespace llrt::cuda
#endif // LLRT_CUDA_LIBRARY_H
