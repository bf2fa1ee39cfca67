//===- Clones.h - Code for the vector units that the machine has ---*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_SUPPORT_CLONES_H
#define SGPU_SUPPORT_CLONES_H

#ifndef __has_feature
#define __has_feature(x) 0
#endif

/// Before a function: it is compiled for AVX-512, AVX2 and the base, and the loader chooses. The results have
/// the same bits. Not under the thread sanitizer: the loader chooses before that has started.
#if defined(__x86_64__) && defined(__linux__) && !__has_feature(thread_sanitizer)
#define SGPU_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define SGPU_CLONES
#endif

#endif
