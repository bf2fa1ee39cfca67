/*===- OldLibraries.c - A driver and an NCCL that are too old --------------===*\
|*
|* Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
|* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
|*
|* What they have beside these functions is not asked for.
|*
\*===----------------------------------------------------------------------===*/

int cuInit(unsigned flags) { return (void)flags, 0; }
int cuDriverGetVersion(int *version) { return *version = 11040, 0; }
int cuGetErrorName(int error, const char **name) { return *name = "", error; }
int cuGetErrorString(int error, const char **text) { return *text = "", error; }
int ncclGetVersion(int *version) { return *version = 21510, 0; }
