// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Loaded before the C library (LD_PRELOAD): writes the calls of NVIDIA's libraries that take memory
// of a device or of the host, load code, or make the host wait, and the launches of kernels, to the
// file $LLAMAC_CALLS, a line each: the name, and the bytes where it has some. The libraries are loaded at
// run time, so what dlsym gives is put between.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void note(const char *name, size_t bytes) {
  const char *path = getenv("LLAMAC_CALLS");
  FILE *list = path ? fopen(path, "a") : NULL;
  if (list) {
    fprintf(list, "%s %zu\n", name, bytes);
    fclose(list);
  }
}

struct Id {
  char bytes[128];
};

// X(name, bytes, parameters, arguments): all return a status.
#define CALLS(X)                                                                                   \
  X(cuMemAlloc_v2, bytes, (void *at, size_t bytes), (at, bytes))                                   \
  X(cuMemHostAlloc, bytes, (void *at, size_t bytes, unsigned flags), (at, bytes, flags))           \
  X(cuMemFree_v2, 0, (unsigned long long at), (at))                                                \
  X(cuMemFreeHost, 0, (void *at), (at))                                                            \
  X(cuModuleLoadDataEx, 0, (void *a, void *b, unsigned c, void *d, void *e), (a, b, c, d, e))      \
  X(cuModuleUnload, 0, (void *a), (a))                                                             \
  X(cuStreamCreateWithPriority, 0, (void *a, unsigned b, int c), (a, b, c))                        \
  X(cuCtxSynchronize, 0, (void), ())                                                               \
  X(cuEventSynchronize, 0, (void *a), (a))                                                         \
  X(cuLaunchKernelEx, 0, (void *a, void *b, void *c, void *d), (a, b, c, d))                       \
  X(cuGraphLaunch, 0, (void *a, void *b), (a, b))                                                  \
  X(cublasLtCreate, 0, (void *a), (a))                                                             \
  X(ncclCommInitRankConfig, 0, (void *a, int b, struct Id c, int d, void *e), (a, b, c, d, e))     \
  X(ncclCommDestroy, 0, (void *a), (a))

#define X(name, size, parameters, arguments)                                                       \
  static int(*next_##name) parameters;                                                             \
  static int my_##name parameters {                                                                \
    note(#name, size);                                                                             \
    return next_##name arguments;                                                                  \
  }
CALLS(X)
#undef X

void *dlsym(void *library, const char *name) {
  static void *(*next)(void *, const char *);
  if (!next)
    next = (void *(*)(void *, const char *))dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.34");
  void *found = next(library, name);
#define X(symbol, size, parameters, arguments)                                                     \
  if (found && strcmp(name, #symbol) == 0) {                                                       \
    *(void **)&next_##symbol = found;                                                              \
    return (void *)my_##symbol;                                                                    \
  }
  CALLS(X)
#undef X
  return found;
}
