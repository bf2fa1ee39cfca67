#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Tests run_case.py with a compiler that answers from the golden files, right or with one planted fault.

Needs nothing but Python: this file is also that compiler, and the executable that it makes.
"""

import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent


def read(path: pathlib.Path) -> tuple[dict, bytearray]:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    return header, bytearray(data[8 + length:])


def write(path: str, header: dict, data: bytearray) -> None:
    text = json.dumps(header).encode()
    pathlib.Path(path).write_bytes(len(text).to_bytes(8, "little") + text + data)


def act_as_executable(options: dict[str, str], fault: str) -> None:
    """Writes what the case expects; `fault` is `<file> <key> <element> <amount>` or `<field> <amount>`."""
    case_folder = pathlib.Path(options["--batch"]).parent
    case = json.loads((case_folder / "case.json").read_text())
    header, data = read(case_folder / "expected.safetensors")
    words = fault.split()
    for file, prefix in (("gradients", "gradient."), ("updated", "master."), ("logits", "logits")):
        part = {key.removeprefix("gradient.").removeprefix("master."): entry for key, entry in header.items()
                if key.startswith(prefix) and key != "gradient_norm"}
        changed = bytearray(data)
        if len(words) == 4 and words[0] == file:
            offset = part[words[1]]["data_offsets"][0] + 4 * int(words[2])
            struct.pack_into("<f", changed, offset, struct.unpack_from("<f", changed, offset)[0] + float(words[3]))
        if words == ["drop", file]:
            part.popitem()
        write(options["--" + file], part, changed)
    number = lambda key, i=0: struct.unpack_from("<f", data, header[key]["data_offsets"][0] + 4 * i)[0]
    for step in range(int(options["--steps"])):
        line = {"loss": number("losses", step), "tokens": case["tokens"], "gradient_norm": number("gradient_norm")}
        if len(words) == 2 and words[0] in line:
            line[words[0]] += float(words[1])
        print(json.dumps(line))


def run_case(case: str, fault: str, *options: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, HERE / "run_case.py", "--llamac", HERE / "self_test.py", "--case",
                           HERE / "golden" / case, *options], env=os.environ | {"LLAMAC_TEST_FAULT": fault},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def main() -> int:
    gate = "language_model.model.layers.1.cross_attn_attn_gate"
    query = "language_model.model.layers.1.cross_attn.q_proj.weight"
    checks = [  # case, fault, options, exit status, words in the output
        ("aspects", "", [], 0, " 0 failures"),
        ("one_token", "", [], 0, " 0 failures"),
        ("no_images", "", [], 0, " 0 failures"),
        ("adapter", "", [], 0, " 0 failures"),
        ("text_documents", "", ["--precision=f64", "--lower=reference"], 0, " 0 failures"),
        ("micro_batches", "", ["--micro-batches=4"], 0, " 0 failures"),
        ("micro_batches", "", ["--micro-batches=3"], 2, "4 samples do not make 1 x 3 micro-batches"),
        ("aspects", "", ["--precision=bf16"], 0, " 0 failures"),
        ("adapter", "", ["--precision=bf16"], 2, "no bf16_error.json"),
        ("aspects", "loss 0.001", [], 1, "FAIL loss: error 0.001"),
        ("one_token", "loss 0.001", [], 1, "FAIL loss"),
        ("aspects", "tokens 1", [], 1, "FAIL tokens of step 0"),
        ("aspects", "gradient_norm 0.001", [], 1, "FAIL gradient norm"),
        ("aspects", "gradients " + gate + " 0 0.001", [], 1, "FAIL gradient " + gate),
        ("aspects", "gradients " + query + " 33 nan", [], 1, "FAIL gradient " + query + ": error nan"),
        ("aspects", "gradients " + query + " 33 0.01", [], 1, "at [1, 1] expected"),
        ("aspects", "updated " + query + " 5 0.01", [], 1, "FAIL master " + query),
        ("aspects", "logits logits 0 1", [], 1, "FAIL tensor logits"),
        ("aspects", "drop gradients", [], 1, ": missing"),
        ("aspects", "drop updated", [], 1, ": missing"),
        ("aspects", "gradients " + query + " 33 0.1", ["--precision=bf16"], 1, "FAIL " + query),
        ("aspects", "status 3", [], 1, "exit status 3"),
    ]
    wrong = 0
    for case, fault, options, status, words in checks:
        result = run_case(case, fault, *options)
        if result.returncode != status or words not in result.stdout:
            wrong += 1
            print(f"{case}, fault '{fault}', {options}: expected exit {status} and '{words}', "
                  f"got exit {result.returncode} and\n{result.stdout}")
    print(f"{len(checks)} checks, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "compile":
        shutil.copy(__file__, sys.argv[sys.argv.index("-o") + 1])
    elif len(sys.argv) > 1 and sys.argv[1] == "step":
        planted = os.environ["LLAMAC_TEST_FAULT"]
        if planted.startswith("status"):
            sys.exit(int(planted.split()[1]))
        act_as_executable(dict(option.split("=", 1) for option in sys.argv[2:]), planted)
    else:
        sys.exit(main())
