#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""One training step of a 60-million-parameter vision model: llamac against PyTorch eager, in turn, in one run.

    python3 test/bench/host/run.py --llamac build/bin/llamac --python /path/to/venv/bin/python [--threads 2] [--rounds 3]

The venv holds test/numerics/requirements.txt. Same weights, same batch, same threads (see pytorch_step.py). Each round
runs one side, then the other; a side's figure is the median of the medians of its rounds, and the ratio is taken round by
round, so that it holds when the machine's speed drifts. Prints one line per precision; exits 1 if the first losses differ.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
WARM_UP = 2
STEPS = 5


def output(command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"run.py: {' '.join(map(str, command))} failed:\n{done.stderr}")
    return done.stdout


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--llamac", type=pathlib.Path, required=True)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    peer = [arguments.python, HERE / "pytorch_step.py"]

    with tempfile.TemporaryDirectory() as work:
        folder = pathlib.Path(work)
        output(peer + ["--write", folder])
        for precision in ("f32", "bf16"):
            executable = folder / f"model.{precision}"
            output([arguments.llamac, "compile", folder / "config.json", "--batch=2", "--text-length=192",
                    "--images=1", f"--precision={precision}", "--feature-taps=output", "--row-mask=ffn",
                    "-o", executable])
            ours, theirs = [], []
            for _ in range(arguments.rounds):
                lines = output([executable, "step", f"--weights={folder}/model.safetensors",
                                f"--batch={folder}/batch.safetensors", f"--steps={WARM_UP + STEPS}",
                                f"--threads={arguments.threads}"]).splitlines()
                steps = [json.loads(line) for line in lines]
                ours.append(statistics.median(step["seconds"] for step in steps[WARM_UP:]))
                torch = json.loads(output(peer + ["--folder", folder, "--threads", arguments.threads,
                                                  "--precision", precision, "--steps", STEPS]))
                theirs.append(torch["median_s"])
            ratios = sorted(t / o for o, t in zip(ours, theirs))
            print(f"{precision}: llamac {statistics.median(ours):.3f} s, PyTorch {statistics.median(theirs):.3f} s a step; "
                  f"PyTorch / llamac {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})", flush=True)
            first = torch["losses"][0]
            if abs(steps[0]["loss"] - first) > (1e-4 if precision == "f32" else 1e-2) * first:
                sys.exit(f"run.py: first losses differ: {steps[0]['loss']} and {first}")


if __name__ == "__main__":
    main()
