#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What commands of executables allocate is what `info` says, to the byte; evaluate and generate need less than train.

    allocations.py --llamac build/bin/llamac --log build/lib/liballocations.so

`--log` is allocations.c as a library. Each of CASES is compiled; its tables give the bytes of a rank of each stage for `step`
and for `forward`. The mappings that each command asks the system for must be as many bytes as its table says, of all ranks
(those of one process: threads); an arena of no bytes is one. Needs nothing but Python.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from kills import make_data  # noqa: E402

CONFIG = {"model_type": "llama", "vocab_size": 1016, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
          "num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": 756, "eos_token_id": 757}
ROW = re.compile(r"^  (each rank|stages? [0-9, -]*[0-9])  .* ([0-9]+)$")
# Options, ranks of a stage.
CASES = {
    "one rank": (["--precision=f32"], 1),
    "masters apart": (["--precision=bf16", "--micro-batches=2"], 1),
    "shards": (["--precision=bf16", "--grid=dp=2", "--fsdp=parameters"], 2),
    "shards of gradients": (["--precision=f32", "--grid=dp=2", "--fsdp=gradients"], 2),
    "stages": (["--precision=bf16", "--grid=pp=2,tp=2", "--micro-batches=2"], 2),
}


def tables(info: str) -> dict[str, list[int]]:
    """Bytes of a rank of each stage, for `step` and `forward`."""
    found: dict[str, list[int]] = {}
    lines = info.splitlines()
    for title, program in [("memory of a rank, GB (10^9 bytes)", "step"),
                           ("memory of a rank that evaluates or generates", "forward")]:
        stages: dict[int, int] = {}
        for line in lines[lines.index(title) + 2:]:
            match = ROW.match(line)
            if not match:
                break
            for part in match[1].replace("each rank", "stage 0").split(" ", 1)[1].strip().split(", "):
                first, _, end = part.partition("-")
                for stage in range(int(first), int(end or first) + 1):
                    stages[stage] = int(match[2])
        found[program] = [stages[stage] for stage in range(len(stages))]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llamac", required=True)
    parser.add_argument("--log", required=True)
    arguments = parser.parse_args()
    faults = 0
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        (work / "config.json").write_text(json.dumps(CONFIG))
        data, executable, log = work / "data", work / "model", work / "log"
        make_data(data, 8)
        for case, (options, ranks) in CASES.items():
            subprocess.run([arguments.llamac, "compile", work / "config.json", "--batch=2", "--text-length=16",
                            "--lower=reference", *options, "-o", executable], check=True, capture_output=True)
            info = tables(subprocess.run([executable, "info"], check=True, capture_output=True, text=True).stdout)
            weights = work / f"weights {case}"
            tokenizer = f"--tokenizer={data / 'tokenizer.json'}"
            commands = {
                "train": ("step", [f"--data={data}", f"--checkpoint={weights}", "--steps=1",
                                   "--learning-rate=0.1", tokenizer]),
                "evaluate": ("forward", [f"--weights={weights}", f"--data={data}", tokenizer]),
                "generate": ("forward", [f"--weights={weights}", "--prompt=number", "--max-tokens=1", tokenizer]),
            }
            for command, (program, words) in commands.items():
                log.write_text("")
                environment = os.environ | {"LD_PRELOAD": arguments.log, "LLAMAC_ALLOCATIONS": str(log)}
                done = subprocess.run([executable, command, *words, "--threads=1"], env=environment, capture_output=True,
                                      text=True, timeout=600)
                allocated = [int(line) for line in log.read_text().split() if line != "1"]
                said = ranks * sum(info[program])
                right = done.returncode == 0 and sum(allocated) == said
                faults += not right
                print(f"{case}: {command}: {said} bytes said, {sum(allocated)} allocated, status {done.returncode}"
                      f"{'' if right else '  <-- wrong: ' + done.stderr[-500:]}", flush=True)
            for stage, (step, forward) in enumerate(zip(info["step"], info["forward"])):
                if forward * 2 > step:
                    print(f"{case}: stage {stage}: forward needs {forward} of {step} bytes  <-- too much")
                    faults += 1
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
