#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The step of the program that llamac emits beside the step that the planner counts on.

    python3 test/bench/stages/emitted.py --llamac build/bin/llamac --planner build/test/bench_stages
                                         [--rule operations|roofline] [--stages 16,32] [--micro-batches 16,64,128] [--check]

llama3-405b-vision, --trainable=adapter, tp 8, 1F1B, micro-batches of 8 samples of 192 text tokens and one image. `planner` is
what bench_stages --table=balance says; `emitted` is llamac compile --simulate, which executes the entries of the lowered
program of every stage. operations: a machine whose links and memory cost nothing; roofline: h100-sxm.

Columns: stages, micro-batches; seconds of a step by the planner, of the emitted program; emitted over planner; over the
ideal (m + p - 1) * work / p; with the encoder on the first stage of equal numbers of layers (by the planner: no option
makes that program), over emitted; with the encoder on the first stage and layers cut by costs, both emitted.

--check exits 1 if the emitted program breaks a promise of docs/stages.md.
"""
import argparse
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
AT_LEAST = {(16, 64): 1.27, (16, 128): 1.37, (32, 64): 1.41, (32, 128): 1.65}


def output(command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"emitted.py: {' '.join(map(str, command))} failed:\n{done.stderr}")
    return done.stdout


def planned(arguments):
    """(p, m) -> seconds, those of the ideal, with the encoder on the first stage of equal ones."""
    text = output([arguments.planner, "--table=balance", f"--rule={arguments.rule}", f"--stages={arguments.stages}",
                   f"--micro-batches={arguments.micro_batches}"])
    rows = {}
    for line in text.splitlines():
        if re.match(r" *\d+ +\d+ +\d", line):
            p, m, seconds, of_ideal, _, equal = map(float, line.split()[:6])
            rows[int(p), int(m)] = seconds, seconds / of_ideal, seconds * equal
    return rows


def emitted(arguments, machine, p, m, encoder):
    text = output([arguments.llamac, "compile", "llama3-405b-vision", "--batch=8", f"--micro-batches={m}", "--trainable=adapter",
                   f"--grid=tp=8,pp={p}", f"--encoder={encoder}", "--encoder-shard=images", f"--machine={machine}",
                   "--simulate", "--over-memory=allow"])
    return float(re.search(r"simulated step on .*: (\S+) s", text).group(1))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--llamac", type=pathlib.Path, required=True)
    parser.add_argument("--planner", type=pathlib.Path, required=True)
    parser.add_argument("--rule", choices=["operations", "roofline"], default="operations")
    parser.add_argument("--stages", default="16,32")
    parser.add_argument("--micro-batches", default="16,64,128")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    kept = True

    def expect(holds, promise):
        nonlocal kept
        if not holds:
            print(f"emitted.py: not kept: {promise}", file=sys.stderr)
            kept = False

    print("   p    m  planner s  emitted s  / planner  / ideal  first stage equal  first stage")
    machine = "h100-sxm" if arguments.rule == "roofline" else HERE / "operations.json"
    for (p, m), (plan, ideal, equal) in planned(arguments).items():
        step, first = (emitted(arguments, machine, p, m, encoder) for encoder in ("replicated", "first-stage"))
        print(f"{p:4} {m:4} {plan:10.4f} {step:10.4f} {step / plan:10.4f} {step / ideal:8.4f} {equal / step:18.4f} "
              f"{first / step:12.4f}", flush=True)
        if arguments.rule == "operations":
            where = f"with {p} stages, {m} micro-batches"
            expect(first >= step, f"never slower than the encoder on the first stage {where}")
            if least := AT_LEAST.get((p, m)):
                expect(step <= 1.03 * ideal, f"at most 1.03 of the ideal step {where}")
                expect(equal >= least * step, f"encoder on the first stage of equal ones takes {least} times as long {where}")
    sys.exit(1 if arguments.check and not kept else 0)


if __name__ == "__main__":
    main()
