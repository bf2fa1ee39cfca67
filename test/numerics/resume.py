#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Trains on the host, goes on with CUDA from the checkpoint, and compares with the host alone.

    resume.py --llamac build/bin/llamac --software-gpu build/lib/software-gpu

A vision model in f32: two steps on the host, two more by a program for CUDA on the software GPU, and four on the host. Losses of
the steps, what `evaluate` prints of the last checkpoint and what `generate` continues have to agree: losses at 1e-4, text to the
letter. Then the host goes on from CUDA's checkpoint. Needs nothing but Python. Exit status: 0 or 1.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import checkpoint  # noqa: E402
from target import add_target_options, target_environment  # noqa: E402

TOLERANCE = 1e-4


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llamac", required=True, help="the compiler")
    add_target_options(parser)
    arguments = parser.parse_args()
    arguments.target = "cuda"
    environments = {"host": None, "cuda": target_environment(arguments)}
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        case = checkpoint.cases()[0]
        checkpoint.make_data(folder / "data", case["config"]["vision_config"]["image_size"])
        (folder / "config.json").write_text(json.dumps(case["config"]))

        def run(target: str, *command: object) -> str:
            result = subprocess.run([str(folder / target), *map(str, command)], capture_output=True, text=True,
                                    env=environments[target] or os.environ)
            if result.returncode != 0:
                checkpoint.fail(f"{target} {' '.join(map(str, command))}: status {result.returncode}: {result.stderr}")
            return result.stdout

        for target in ("host", "cuda"):
            checkpoint.run(arguments.llamac, "compile", folder / "config.json", f"--batch={checkpoint.BATCH}",
                           f"--text-length={checkpoint.LENGTH}", "--precision=f32", f"--target={target}", "-o", folder / target)

        def train(target: str, steps: int, name: str) -> list[float]:
            metrics = folder / f"{name}.{target}.{steps}.jsonl"
            run(target, "train", f"--data={folder / 'data'}", f"--steps={steps}", "--learning-rate=0.01", "--gate-init=0.5",
                f"--checkpoint={folder / name}", f"--metrics={metrics}")
            return [json.loads(line)["loss"] for line in metrics.read_text().splitlines() if "loss" in line]

        # What came of a step is read while the next one computes, unless steps are not graphs: the same either way. A step that is
        # not finite is found when the next has begun: nothing of either is kept.
        plain, diverged = folder / "plain.jsonl", folder / "diverged"
        run("cuda", "train", f"--data={folder / 'data'}", "--steps=5", "--learning-rate=0.01", "--gate-init=0.5", "--graph=off",
            f"--metrics={plain}")
        failed = subprocess.run([str(folder / "cuda"), "train", f"--data={folder / 'data'}", "--steps=5", "--learning-rate=1e30",
                                 "--gate-init=0.5", f"--checkpoint={diverged}"], capture_output=True, text=True, env=environments["cuda"])

        want = train("host", 4, "alone")
        got = train("host", 2, "both")
        got += train("cuda", 4, "both")
        wrong = [] if len(got) == len(want) == 4 else [f"expected 4 losses, got {got} and, of the host alone, {want}"]
        wrong += [f"loss of step {step + 1}: expected {w}, got {g}" for step, (g, w) in enumerate(zip(got, want))
                  if not abs(g - w) <= TOLERANCE * abs(w)]
        graphs, streams = train("cuda", 5, "graphs"), [json.loads(line)["loss"] for line in plain.read_text().splitlines()]
        if graphs != streams or len(graphs) != 5:
            wrong.append(f"five steps: {graphs} as graphs, {streams} without")
        if failed.returncode != 1 or "step 2: expected finite numbers" not in failed.stderr or \
                "the checkpoint of step 1 holds what was done" not in failed.stderr or \
                [path.name for path in diverged.glob("step-*")] != ["step-00000001"]:
            wrong.append(f"a step that is not finite: status {failed.returncode}, {failed.stderr}")
        said = {}
        for target in ("host", "cuda"):
            loss = json.loads(run(target, "evaluate", f"--data={folder / 'data'}", f"--weights={folder / 'both'}").splitlines()[-1])
            text = run(target, "generate", f"--weights={folder / 'both'}", "--prompt=flag", "--max-tokens=4")
            said[target] = (loss["loss"], text)
        if abs(said["host"][0] - said["cuda"][0]) > TOLERANCE * abs(said["host"][0]) or said["host"][1] != said["cuda"][1]:
            wrong.append(f"evaluate and generate: host {said['host']}, cuda {said['cuda']}")
        shutil.copytree(folder / "both", folder / "back")
        if len(train("host", 5, "back")) != 1:
            wrong.append("the host does not go on from the checkpoint of cuda")
    for line in wrong:
        print("FAIL", line)
    print(f"losses {got}, of the host alone {want}; {len(wrong)} differences")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
