#!/usr/bin/env bash
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Counts what the kernels of the standard workloads do and writes docs/gpu-ledger.md. Needs a build, and
# ptxas and nvdisasm (tools/setup.sh --cuda).
cd "$(dirname "$0")/../../.." && exec python3 test/bench/gpu/ledger.py --output docs/gpu-ledger.md "$@"
