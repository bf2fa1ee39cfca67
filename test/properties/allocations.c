// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Loaded before the C library (LD_PRELOAD): writes the size of every private writable mapping
// without a file that is asked for to the file $LLAMAC_ALLOCATIONS, a line each.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

void *mmap(void *address, size_t bytes, int protection, int flags, int file, off_t offset) {
  void *(*next)(void *, size_t, int, int, int, off_t) =
      (void *(*)(void *, size_t, int, int, int, off_t))dlsym(RTLD_NEXT, "mmap");
  const char *path = getenv("LLAMAC_ALLOCATIONS");
  FILE *list = path && file == -1 && !address && flags == (MAP_PRIVATE | MAP_ANONYMOUS) &&
                       protection == (PROT_READ | PROT_WRITE)
                   ? fopen(path, "a")
                   : NULL;
  if (list) {
    fprintf(list, "%zu\n", bytes);
    fclose(list);
  }
  return next(address, bytes, protection, flags, file, offset);
}
