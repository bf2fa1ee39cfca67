#!/usr/bin/env bash
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# The whole path, once: builds llamac, packs country flags and their names into
# WebDataset shards, compiles tools/demo/config.json into an executable of 4 ranks
# (two pipeline stages, each on two ranks that share its tensors), trains it from
# scratch for at most 5 minutes, then lets it caption every flag.
#
#   tools/demo.sh            last line: demo: loss A -> B, N of M captions right
#
# Environment: STEPS training steps (500), WORK folder of data, executable and
# checkpoints (build/demo), BUILD build folder (build), JOBS parallel jobs (all cores),
# GRID ranks (tp=2,pp=2)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
jobs=${JOBS:-$(nproc)}
build=${BUILD:-build}
work=${WORK:-$build/demo}
steps=${STEPS:-500}
grid=${GRID:-tp=2,pp=2}

# phase WHAT command...: runs the command and says how long it took.
phase() {
  local what=$1 start=$SECONDS
  shift
  echo "== $what: $*"
  "$@"
  echo "== $what: $((SECONDS - start)) s"
}

phase set-up bash tools/setup.sh
phase configure cmake --preset release -B "$build"
phase build cmake --build "$build" --parallel "$jobs" --target llamac llrt llrt_host llrt_main

rm -rf "$work"
mkdir -p "$work"
phase data python3 tools/make-flags-dataset.py "$work/data" --count 60
phase compile "$build/bin/llamac" compile tools/demo/config.json \
  --batch=6 --micro-batches=2 --text-length=24 --images=1 --precision=bf16 \
  --grid="$grid" -o "$work/flags"
echo "== the step trains on the ranks of $grid, as threads of one process"
phase train "$work/flags" train --data="$work/data" --steps="$steps" \
  --learning-rate=2e-3 --warmup=50 --schedule=cosine --clip=1 --gate-init=0.5 \
  --checkpoint="$work/checkpoints" --checkpoint-every="$steps" \
  --metrics="$work/metrics.jsonl"
echo "== caption"
python3 tools/demo/check.py --executable="$work/flags" --data="$work/data" \
  --checkpoints="$work/checkpoints" --metrics="$work/metrics.jsonl" --work="$work/pictures"
