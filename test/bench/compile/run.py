#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Time and memory of importing and compiling to the lowered program.

    python3 test/bench/compile/run.py --llamac build/bin/llamac [--runs 15]

Prints seconds (median, least, most) and peak memory for the large vision models, and the cost of 160 layers against 8 of
the same kinds. Exits 1 if a promise of README or docs/performance.md is broken: 5 s, 1 GiB, 1.5 times.
"""
import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
import typing

NAMES = ["llama3.2-11b-vision", "llama3.2-90b-vision", "llama3-405b-vision"]


class Usage(typing.NamedTuple):
    """What one process took."""
    seconds: float
    mebibytes: float
    processor: float  # seconds of all its threads


def run(command):
    start = time.monotonic()
    silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=silent)
    _, status, usage = os.wait4(pid, 0)
    if status:
        sys.exit(f"{pathlib.Path(sys.argv[0]).name}: {' '.join(command)} failed")
    return Usage(time.monotonic() - start, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime)


def measure(llamac, model, runs):
    command = [str(llamac), "compile", str(model), "--compile-to=lower", "-o", "/dev/null"]
    run(command)
    results = [run(command) for _ in range(runs)]
    return sorted(one.seconds for one in results), max(one.mebibytes for one in results)


def layers(folder, count):
    """A text model of `count` layers, 8B's sizes."""
    path = folder / f"{count}.json"
    path.write_text(json.dumps({
        "model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": count, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_act": "silu",
        "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "max_position_embeddings": 8192}))
    return path


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--llamac", type=pathlib.Path, required=True)
    parser.add_argument("--runs", type=int, default=15)
    arguments = parser.parse_args()
    kept = True

    def report(name, model):
        seconds, memory = measure(arguments.llamac, model, arguments.runs)
        print(f"{name}: {statistics.median(seconds):.2f} s ({seconds[0]:.2f} to {seconds[-1]:.2f}), {memory:.0f} MiB",
              flush=True)
        return statistics.median(seconds), memory

    for name in NAMES:
        seconds, memory = report(name, name)
        kept &= seconds < 5 and memory < 1024
    with tempfile.TemporaryDirectory() as work:
        few, _ = report("8 layers", layers(pathlib.Path(work), 8))
        many, _ = report("160 layers", layers(pathlib.Path(work), 160))
    print(f"160 layers / 8 layers: {many / few:.2f}")
    kept &= many / few < 1.5
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
