#!/usr/bin/env bash
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# From a fresh clone to the summary line of the tests: set-up, configure, build,
# test. Run again, it does only what has changed.
#
#   tools/test.sh [argument of ctest...]     e.g. tools/test.sh -R Lower
#
# Environment: JOBS  parallel jobs (all cores)
#              BUILD build folder (build)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
jobs=${JOBS:-$(nproc)}
build=${BUILD:-build}

# phase WHAT command...: runs the command and says how long it took.
phase() {
  local what=$1 start=$SECONDS
  shift
  echo "== $what: $*"
  "$@" || {
    local status=$?
    echo "== $what: failed after $((SECONDS - start)) s" >&2
    exit "$status"
  }
  echo "== $what: $((SECONDS - start)) s"
}

phase set-up bash tools/setup.sh
phase configure cmake --preset release -B "$build"
phase build cmake --build "$build" --parallel "$jobs"
phase test ctest --test-dir "$build" --output-on-failure --parallel "$jobs" "$@"
