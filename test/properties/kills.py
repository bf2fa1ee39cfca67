#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Kills a training at random moments, again and again; nothing may be lost.

    kills.py --llamac build/bin/llamac [--kills 200] [--seed 1] [--work DIR]

After every kill the newest complete checkpoint is whole by its checksums and no older than the one before; the same
command goes on from it. At the end the checkpoint has the same bits as that of a run that was never killed.
SIGINT and SIGTERM end a training with a checkpoint. Needs nothing but Python, and mpirun if it is there.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIG = {"model_type": "llama", "vocab_size": 1016, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
          "num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": 756, "eos_token_id": 757}


def fail(message: str) -> None:
    print(f"kills: error: {message}", file=sys.stderr)
    sys.exit(1)


def checkpoints(run: pathlib.Path) -> list[int]:
    names = [path.name for path in run.glob("step-*")] if run.exists() else []
    return sorted(int(name[5:]) for name in names if not name.endswith(".tmp"))


def make_data(folder: pathlib.Path, samples: int = 20) -> None:
    """A folder for --data: a tokenizer, and a shard of texts."""
    folder.mkdir()
    (folder / "tokenizer.json").write_bytes((ROOT / "test/unit/Data/tokenizer_small.json").read_bytes())
    with tarfile.open(folder / "0.tar", "w") as tar:
        for i in range(samples):
            text = folder / "text"
            text.write_text(f"number {i} is {i * i}")
            tar.add(text, f"{i:03}.txt")
            text.unlink()


def check_signals(llamac: str, work: pathlib.Path) -> None:
    """SIGINT and SIGTERM: the step is finished, a checkpoint written, status 1, under mpirun too."""
    executable = work / "two"
    subprocess.run([llamac, "compile", work / "config.json", "--batch=1", "--text-length=16", "--grid=dp=2",
                    "--precision=f32", "-o", executable], check=True)
    launchers = {"no launcher": []}
    if shutil.which("mpirun"):
        launchers["mpirun"] = ["mpirun", "-n", "2", "--oversubscribe", "--mca", "odls_base_sigkill_timeout", "8"]
    environment = os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    for launcher, words in launchers.items():
        for number in signal.SIGINT, signal.SIGTERM:
            run = work / f"{launcher} {number}"
            metrics = work / f"{launcher} {number}.jsonl"
            process = subprocess.Popen(
                words + [executable, "train", f"--data={work / 'data'}", "--steps=1000000", "--learning-rate=0.001",
                         f"--checkpoint={run}", "--checkpoint-every=1000000", f"--metrics={metrics}", "--threads=1"],
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True)
            while process.poll() is None and not (metrics.exists() and metrics.stat().st_size):
                time.sleep(0.05)
            process.send_signal(number)
            _, told = process.communicate()
            steps = checkpoints(run)
            wanted = f"stopped by a signal after step {steps[-1] if steps else 0} of 1000000"
            if process.returncode != 1 or len(steps) != 1 or wanted not in told:
                fail(f"{launcher}, {number.name}: status {process.returncode}, checkpoints {steps}: {told[-1000:]}")
    print(f"signals end a training with a checkpoint: {', '.join(launchers)}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--llamac", required=True)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = pathlib.Path(arguments.work or temporary)
        work.mkdir(exist_ok=True)
        make_data(work / "data")
        (work / "config.json").write_text(json.dumps(CONFIG))
        executable = work / "model"
        subprocess.run([arguments.llamac, "compile", work / "config.json", "--batch=2", "--text-length=16",
                        "--precision=bf16", "-o", executable], check=True)

        def train(run: str, steps: int, every: int) -> list:
            return [executable, "train", f"--data={work / 'data'}", f"--steps={steps}", "--learning-rate=0.001",
                    f"--checkpoint={work / run}", f"--checkpoint-every={every}", "--shuffle=7", "--threads=1",
                    "--shard-size=1e-4"]

        draw = random.Random(arguments.seed)
        newest, kills, longest = 0, 0, 1.0
        while kills < arguments.kills:
            process = subprocess.Popen(train("run", 10**6, 1), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            # Anywhere between its start and some checkpoints after it.
            time.sleep(draw.uniform(0, longest))
            process.send_signal(signal.SIGKILL)
            if process.wait() != -signal.SIGKILL:
                fail(f"after {kills} kills, at step {newest}: {process.stderr.read().decode()}")
            kills += 1
            steps = checkpoints(work / "run")
            now = steps[-1] if steps else 0
            if now < newest:
                fail(f"kill {kills}: step {newest} was complete, the newest is now {now}")
            longest = min(5.0, longest * 1.5) if now == newest else max(0.2, longest * 0.9)
            newest = now
            if newest:
                check = subprocess.run([executable, "evaluate", f"--weights={work / 'run'}", f"--data={work / 'data'}",
                                        "--threads=1"], capture_output=True, text=True)
                if check.returncode != 0:
                    fail(f"kill {kills}: {check.stderr}")
        if newest == 0:
            fail("no checkpoint was written between the kills")
        subprocess.run(train("run", newest + 1, 1), check=True, stderr=subprocess.DEVNULL)
        subprocess.run(train("whole", newest + 1, 10**6), check=True, stderr=subprocess.DEVNULL)
        name = f"step-{newest + 1:08}"
        files = sorted(path.name for path in (work / "whole" / name).iterdir())
        if files != sorted(path.name for path in (work / "run" / name).iterdir()):
            fail(f"{name}: other files than those of a run that was never killed")
        for file in files:
            if (work / "run" / name / file).read_bytes() != (work / "whole" / name / file).read_bytes():
                fail(f"{name}/{file}: other bytes than those of a run that was never killed")
        print(f"{kills} kills, {newest} steps, {len(files)} files of {name} equal")
        check_signals(arguments.llamac, work)


if __name__ == "__main__":
    main()
