#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Tests run.sh without a GPU: packs the first case, runs it on the software GPU, and asks whether a changed byte is noticed.

    self_test.py --build build

Exit status: 0 all is well, 1 not.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent


def run(pack: pathlib.Path, output: pathlib.Path, build: pathlib.Path, *options: str) -> tuple[int, str]:
    done = subprocess.run(["bash", str(HERE / "run.sh"), str(pack), f"--output={output}", f"--software-gpu={build / 'lib/software-gpu'}",
                           *options], capture_output=True, text=True)
    print(done.stdout + done.stderr, end="")
    return done.returncode, done.stdout + done.stderr


def results(output: pathlib.Path) -> dict[str, str]:
    return {f"{item['part']} {item['name']}": item["result"] for item in json.loads((output / "results.json").read_text())["items"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, required=True, help="build folder")
    build = parser.parse_args().build.resolve()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        archive, output = folder / "pack.tar.xz", folder / "output"
        subprocess.run([sys.executable, str(HERE / "pack.py"), f"--build={build}", f"--output={folder / 'pack'}",
                        "--parts=cases,kernels,witnesses", "--most=1", f"--archive={archive}"], check=True)
        status, _ = run(archive, output, build)
        expected = {"kernels aspects-f32-sm_90a": "same", "witnesses witnesses": "passed", "cases aspects-f32-sm_90a": "passed"}
        got = {name: result for name, result in results(output).items() if result != "skipped"}
        assert status == 0 and got == expected, f"expected status 0 and {expected}, got {status} and {got}"

        # The last byte of a recording is one that the last launch wrote.
        recording = folder / "pack/kernels/aspects-f32-sm_90a"
        data = bytearray(recording.read_bytes())
        data[-1] ^= 0x40
        recording.write_bytes(data)
        status, _ = run(folder / "pack", output, build, "--parts=kernels")
        got = results(output)
        assert status == 1 and got == {"kernels aspects-f32-sm_90a": "failed"}, f"a changed byte: status {status}, {got}"

        # Without time nothing is right or wrong, and that is told.
        status, text = run(folder / "pack", output, build, "--parts=kernels", "--minutes=0.01")
        assert status == 1 and "no time left" in text, f"no time: status {status}"
        status, text = run(folder, output, build)
        assert status == 2 and "pack.json" in text, f"no pack: status {status}"
    return 0


if __name__ == "__main__":
    sys.exit(main())
