#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Time and memory of compiling the 405B vision model for 128 and for 16,384 ranks, the check of the program included.

    python3 test/bench/compile/scale.py --llamac build/bin/llamac [--runs 5]

The two sizes run in turn. Prints seconds (median, least, most; of the processors too) and peak memory of each, the ratio of the medians and
the load of the machine before and after. Exits 1 if a promise of docs/performance.md is broken: 10 s, 1 GiB, 10 % between the two.
"""
import argparse
import os
import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from run import run  # noqa: E402

MOST_SECONDS, MOST_MIB, MOST_APART = 10, 1024, 0.1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--llamac", type=pathlib.Path, required=True)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()

    def command(dp):
        return [str(arguments.llamac), "compile", "llama3-405b-vision", "--batch=8", "--micro-batches=32",
                "--trainable=adapter", f"--grid=tp=8,cp=1,pp=16,dp={dp}", "--compile-to=lower", "-o", "/dev/null"]

    before = os.getloadavg()[0]
    run(command(1))
    results = {1: [], 128: []}
    for _ in range(arguments.runs):
        for dp, of in results.items():
            of.append(run(command(dp)))
    kept, medians = True, {}
    for dp, of in results.items():
        seconds = sorted(one.seconds for one in of)
        memory = max(one.mebibytes for one in of)
        medians[dp] = statistics.median(seconds)
        print(f"dp={dp}, {128 * dp} ranks: {medians[dp]:.2f} s ({seconds[0]:.2f} to {seconds[-1]:.2f}), "
              f"{statistics.median(one.processor for one in of):.2f} s of processor, {memory:.0f} MiB")
        kept &= medians[dp] < MOST_SECONDS and memory < MOST_MIB
    ratio = medians[128] / medians[1]
    print(f"dp=128 / dp=1: {ratio:.3f}; load {before:.1f} before, {os.getloadavg()[0]:.1f} after")
    kept &= abs(ratio - 1) <= MOST_APART
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
