//===- OfThread.h - An object for each host thread ------------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_SUPPORT_OFTHREAD_H
#define SGPU_SUPPORT_OFTHREAD_H

#include <unistd.h>

namespace sgpu {

/// The object of type T that belongs to the calling host thread, made at its first use. Unlike an object declared
/// thread_local it may be used until the process ends: exit() destroys those of its thread before static
/// destructors of the program run, and these may launch and wait. So that of the main
/// thread is never destroyed; those of other threads end with them.
template <typename T> T &ofThread() {
  static thread_local T *object = nullptr;
  if (object)
    return *object;
  struct Owner {
    ~Owner() {
      if (gettid() == getpid())
        return;
      delete object;
      object = nullptr; // who comes later gets a new one, which is not destroyed
    }
  };
  object = new T;
  static thread_local Owner owner;
  (void)&owner;
  return *object;
}

} // namespace sgpu

#endif
