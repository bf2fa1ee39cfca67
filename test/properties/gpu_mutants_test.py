#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""gpu_mutants.py on a part of what there is, on ways in which programs end, and on outcomes and reasons that are wrong: it must refuse
those.

    gpu_mutants_test.py --build build [--programs text,sharded] [--events 2]

Exit status: 0 all as expected, 1 not, 2 wrong use.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from gpu_mutants import outcome_of

GATE = pathlib.Path(__file__).with_name("gpu_mutants.py")


def gate(build: pathlib.Path, *options: str) -> tuple[int, str]:
    result = subprocess.run([sys.executable, str(GATE), f"--build={build}", *options], capture_output=True, text=True)
    return result.returncode, result.stdout + result.stderr


# What a program says, its exit status, what came of it then.
RACE = "software-gpu: race: write races with a read by another thread"
LEAK = "software-gpu: leak: allocation #3 of 1024 bytes is never freed"
ENDS = [
    (RACE, 86, ("reported", "race")),
    (LEAK, 86, ("reported", "leak")),
    ("software-gpu: capture: without the order that SOFTWARE_GPU_OMIT names: CUDA_ERROR_STREAM_CAPTURE_UNJOINED", 86, ("reported", "capture")),
    (f"{RACE}\n{LEAK}\nprogram: error: a product failed", 1, ("reported", "race")),
    (f"program: error: a product failed\n{LEAK}", 1, ("fails", "")),
    ("program: error: a product failed", 1, ("fails", "")),
    ("software-gpu: SOFTWARE_GPU_SEED: expected a number", 2, ("fails", "")),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, required=True, help="the build folder")
    parser.add_argument("--programs", default="text,sharded", help="of gpu_mutants.py (text,sharded)")
    parser.add_argument("--events", type=int, default=2, help="of gpu_mutants.py (2)")
    arguments = parser.parse_args()
    failures = 0

    def expect(what: str, got: tuple[int, str], status: int, text: str) -> None:
        nonlocal failures
        if got[0] != status or text not in got[1]:
            failures += 1
            print(f"{what}: expected exit status {status} and '{text}', got {got[0]}:\n{got[1]}")

    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        program = folder / "program"
        for said, status, outcome in ENDS:
            program.write_text(f"#!/bin/sh\ncat >&2 <<END\n{said}\nEND\nexit {status}\n")
            program.chmod(0o755)
            got = outcome_of(program, folder, (), {"PATH": os.defpath})
            if got != outcome:
                failures += 1
                print(f"a program that ends with {status} and says\n{said}\nexpected {outcome}, got {got}")
        expect("the gate", gate(arguments.build, f"--programs={arguments.programs}", f"--events={arguments.events}", f"--keep={folder}"),
               0, " 0 missed")
        if failures:
            return 1
        mutants = json.loads((folder / "mutants.json").read_text())
        known = json.loads(GATE.with_name("gpu_mutants_redundant.json").read_text())
        found = next(m for m in mutants if m["outcome"] == "reported" and m["kind"] == "barrier")
        others = [m for m in mutants if m["kernel"] != found["kernel"]]
        exactly = {"kernel": re.escape(found["kernel"]), "kind": "barrier", "around": f"^{re.escape(found['around'])}$", "why": "faked"}

        def judged(outcomes: list[dict], reasons: list) -> tuple[int, str]:
            files = folder / "outcomes.json", folder / "reasons.json"
            files[0].write_text(json.dumps(outcomes))
            files[1].write_text(json.dumps(reasons))
            return gate(arguments.build, f"--outcomes={files[0]}", f"--reasons={files[1]}")

        expect("a reason for what is found", judged(mutants, [*known, exactly]), 1, "it holds for a place that is found")
        missed = found | {"outcome": "missed"}
        expect("what is missed", judged([*others, missed], known), 1, f"missed: barrier {found['where']}")
        expect("what is missed, with its reason", judged([*others, missed], [*known, exactly]), 0, " 0 missed")
        another = missed | {"number": found["number"] + 1}
        expect("a reason for two places", judged([*others, missed, another], [*known, exactly]), 1, "it holds for 2 places")
        bigger = found | {"code": 1, "where": "other sizes"}
        expect("what is found at other sizes", judged([*others, missed, bigger], known), 0, " 0 missed")
        expect("a reason for what is found at other sizes", judged([*others, missed, bigger], [*known, exactly]), 1, "that is found")
        expect("another instruction that is found", judged([*others, another, bigger], known), 1, f"missed: barrier {found['where']}")
        expect("a reason for nothing", judged(mutants, [*known, exactly | {"kernel": "nothing"}]), 0, " 0 missed")  # not all has run
        wait = {"kind": "event", "kernel": "program", "where": "program, one GPU", "text": "a wait", "around": "one GPU: a wait",
                "outcome": "missed", "check": ""}
        waits = {"kernel": "program", "kind": "event", "around": "a wait$", "why": "faked"}
        expect("a reason for more waits than it says", judged([*mutants, wait, wait], [*known, waits]), 1, "2 places, expected at most 1")
        expect("a reason for as many", judged([*mutants, wait, wait], [*known, waits | {"most": 2}]), 0, " 0 missed")
        expect("what is no reason", judged(mutants, [{"kernel": "k"}]), 2, "--reasons")
    print("not as expected" if failures else "all as expected")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
