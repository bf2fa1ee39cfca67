#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Runs run_case.py for all golden cases.

    run_cases.py --llamac build/bin/llamac --target=cuda --software-gpu=build/lib/software-gpu    50 runs
    run_cases.py ... --cases 'text*,aspects' --variants bf16-fast-sm_80 --orders 3

Variants of the host are f32-fast, f32-reference, f64-reference and bf16-fast; of cuda f32-fast-sm_90a, f64-reference-sm_90a,
bf16-fast-sm_80 and bf16-fast-sm_90a. Cases without bf16_error.json have no bf16.

Exit status: 0 all equal, 1 some not, 2 wrong use. Needs nothing but Python.
"""

import argparse
import concurrent.futures
import fnmatch
import pathlib
import subprocess
import sys

from run_case import fail
from target import add_target_options

VARIANTS = {"host": ["f32-fast", "f32-reference", "f64-reference", "bf16-fast"],
            "cuda": ["f32-fast-sm_90a", "f64-reference-sm_90a", "bf16-fast-sm_80", "bf16-fast-sm_90a"]}


def run(arguments: argparse.Namespace, case: pathlib.Path, variant: str) -> tuple[bool, str]:
    precision, lower, *chip = variant.split("-")
    command = [sys.executable, str(pathlib.Path(__file__).with_name("run_case.py")), f"--llamac={arguments.llamac}",
               f"--case={case}", f"--precision={precision}", f"--lower={lower}", f"--orders={arguments.orders}"]
    if chip:
        command += ["--target=cuda", f"--chip={chip[0]}"]
    if arguments.software_gpu:
        command.append(f"--software-gpu={arguments.software_gpu}")
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return result.returncode == 0, f"{'ok  ' if not result.returncode else 'FAIL'} {variant}: {result.stdout.rstrip()}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llamac", required=True, help="the compiler")
    parser.add_argument("--cases", default="*", help="patterns of names, with commas between them (all)")
    parser.add_argument("--variants", help="with commas between them (all of the target)")
    parser.add_argument("--orders", type=int, default=0, help="of run_case.py (0)")
    parser.add_argument("--jobs", type=int, default=2, help="cases at a time (2)")
    add_target_options(parser)
    arguments = parser.parse_args()
    variants = arguments.variants.split(",") if arguments.variants else VARIANTS[arguments.target]
    if unknown := [variant for variant in variants if variant not in VARIANTS[arguments.target]]:
        fail(f"--variants: expected some of {', '.join(VARIANTS[arguments.target])}, got {unknown[0]}")
    golden = pathlib.Path(__file__).resolve().parent / "golden"
    runs = [(case.parent, variant) for case in sorted(golden.glob("*/case.json")) for variant in variants
            if any(fnmatch.fnmatch(case.parent.name, pattern) for pattern in arguments.cases.split(","))
            and (not variant.startswith("bf16") or case.with_name("bf16_error.json").exists())]
    if not runs:
        fail(f"--cases={arguments.cases}: no golden case has such a name")
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for passed, text in pool.map(lambda each: run(arguments, *each), runs):
            failed += not passed
            print(text, flush=True)
    print(f"{len(runs)} runs, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
