#!/usr/bin/env bash
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# All that needs a GPU, in one call of at most ten minutes, on a machine with driver, CUDA libraries and PyTorch but without
# LLVM. PACK is what test/gpu/pack.py made elsewhere, a folder or an archive: see docs/cuda.md.
#
#   test/gpu/run.sh PACK [--output FOLDER] [--minutes 9.5] [--parts cases,...] [--software-gpu FOLDER]
#
# Exit status: 0 all that ran is right, 1 something is not, 2 wrong use.
set -euo pipefail
exec "${PYTHON:-python3}" "$(dirname "${BASH_SOURCE[0]}")/run.py" "$@"
