#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Time and memory of importing and compiling to the lowered program.

    python3 test/bench/compile/run.py --llamac build/bin/llamac [--runs 15] [--before OTHER/llamac]

Prints seconds (median, least, most), processor seconds (least, median) and peak memory for the large vision models, for the
405B model on 256 ranks, and for 8 and 160 layers of the same kinds. With --before each run has one of the other compiler
beside it, and the ratio of processor time is printed. Exits 1 if a promise of README or docs/performance.md is broken:
5 s, 1 GiB, 1.5 ms of the processor for a layer more; 1.05 times the processor time of before.
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


def measure(compilers, model, runs, more):
    """Of each compiler, in turn: what its runs took."""
    commands = [[str(llamac), "compile", str(model), *more, "--compile-to=lower", "-o", "/dev/null"] for llamac in compilers]
    results = [[] for _ in compilers]
    for number in range(-1, runs):  # the first one warms up
        for command, of_it in zip(commands, results):
            usage = run(command)
            if number >= 0:
                of_it.append(usage)
    return results


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
    parser.add_argument("--before", type=pathlib.Path, help="a compiler to compare with")
    parser.add_argument("--runs", type=int, default=15)
    arguments = parser.parse_args()
    kept = True

    def report(name, model, more=()):
        nonlocal kept
        compilers = [arguments.llamac] + ([arguments.before] if arguments.before else [])
        results = measure(compilers, model, arguments.runs, more)
        seconds = sorted(one.seconds for one in results[0])
        least = [min(one.processor for one in of_it) for of_it in results]  # what others on the machine disturb least
        middle = statistics.median(one.processor for one in results[0])
        memory = [max(one.mebibytes for one in of_it) for of_it in results]
        text = f"{name}: {statistics.median(seconds):.2f} s ({seconds[0]:.2f} to {seconds[-1]:.2f}), " \
               f"processor {least[0]:.3f} s (median {middle:.3f}), {memory[0]:.0f} MiB"
        if arguments.before:
            text += f"; before: processor {least[1]:.3f} s, ratio {least[0] / least[1]:.3f}, {memory[1]:.0f} MiB"
            kept &= least[0] <= 1.05 * least[1] and memory[0] <= 1.05 * memory[1]
        print(text, flush=True)
        kept &= statistics.median(seconds) < 5 and memory[0] < 1024
        return least[0]

    for name in NAMES:
        report(name, name)
    report("llama3-405b-vision on 256 ranks", "llama3-405b-vision",
           ["--grid=tp=8,pp=16,dp=2", "--micro-batches=32", "--over-memory=allow"])
    with tempfile.TemporaryDirectory() as work:
        few = report("8 layers", layers(pathlib.Path(work), 8))
        many = report("160 layers", layers(pathlib.Path(work), 160))
    one = (many - few) / 152
    print(f"160 layers / 8 layers: {many / few:.2f} by processor time, {1000 * one:.2f} ms for a layer more")
    kept &= one < 1.5e-3
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
