#!/usr/bin/env bash
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# The demonstration in small: a few flags, a short training. Every caption must be
# right, and must follow the picture when pictures are exchanged. Then training goes
# on from the checkpoint, and the trained model reads its captions better than flags
# it has never seen.
#
#   pictures.sh LLAMAC WORK
set -euo pipefail
llamac=$1
work=$2
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

rm -rf "$work"
mkdir -p "$work"
python3 "$root/tools/make-flags-dataset.py" "$work/data" --count 60 --samples-per-shard 8
mkdir "$work/unseen"
mv "$work"/data/flags-00[1-9].tar "$work/unseen"
"$llamac" compile "$root/tools/demo/config.json" --batch=4 --text-length=24 --images=1 --precision=bf16 -o "$work/flags"
train() {
  "$work/flags" train --data="$work/data" --steps="$1" --learning-rate=2e-3 --warmup=10 --clip=1 --gate-init=0.5 \
    --checkpoint="$work/checkpoints" --checkpoint-every=40 --metrics="$work/metrics.jsonl" --threads=2
}
train 120
train 200 # goes on from step 120
test "$(wc -l <"$work/metrics.jsonl")" -eq 200
python3 "$root/tools/demo/check.py" --executable="$work/flags" --data="$work/data" \
  --checkpoints="$work/checkpoints" --metrics="$work/metrics.jsonl" --work="$work/pictures"

loss() {
  "$work/flags" evaluate --data="$1" --weights="$work/checkpoints/step-00000200" --tokenizer="$work/data/tokenizer.model" \
    --preprocessor="$work/data/preprocessor_config.json" |
    python3 -c 'import json, sys; print(json.loads(sys.stdin.readline())["loss"])'
}
seen=$(loss "$work/data")
unseen=$(loss "$work/unseen")
echo "loss of flags seen $seen, not seen $unseen"
python3 -c "import sys; sys.exit(not $seen < $unseen)"
