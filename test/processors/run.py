#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Makes compiler, kernels and libraries behave as on a smaller processor, and runs what depends on it.

    run.py --build build --level x86-64-v2

Our own code is compiled with --cpu=LEVEL (LLAMAC_TEST_CPU in unit_Blocks), oneDNN is held by ONEDNN_MAX_CPU_ISA, which the
host kernels follow, OpenBLAS by OPENBLAS_CORETYPE. Runs: host kernels and compiled blocks (the same bits for any number of
threads among them), a golden vision case in f32 and bf16, the same case on a grid of four ranks.

Exit status: 0 all passed, 1 something failed, 77 this processor lacks the level.
"""

import argparse
import os
import pathlib
import subprocess
import sys

V2 = {"ssse3", "sse4_1", "sse4_2", "popcnt", "cx16"}
V3 = V2 | {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "abm"}
V4 = V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
BF16 = V4 | {"avx512_vnni", "avx512_bf16"}
# Name of the level for LLVM: flags of /proc/cpuinfo, name for oneDNN, name for OpenBLAS.
LEVELS = {
    "x86-64-v2": (V2, "SSE41", "Nehalem"),
    "x86-64-v3": (V3, "AVX2", "Haswell"),
    "x86-64-v4": (V4, "AVX512_CORE", "SkylakeX"),
    "cooperlake": (BF16, "AVX512_CORE_BF16", "SkylakeX"),
    "sapphirerapids": (BF16 | {"amx_tile", "amx_bf16"}, "AVX512_CORE_AMX", "SkylakeX"),
}


def processor_flags() -> set[str]:
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return set(line.split(":", 1)[1].split())
    return set()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", required=True, type=pathlib.Path, help="build folder")
    parser.add_argument("--level", required=True, choices=LEVELS)
    arguments = parser.parse_args()
    needed, onednn, openblas = LEVELS[arguments.level]
    if missing := needed - processor_flags():
        print(f"skipped: this processor has no {', '.join(sorted(missing))}")
        return 77

    environment = dict(os.environ, LLAMAC_TEST_CPU=arguments.level, ONEDNN_MAX_CPU_ISA=onednn,
                       OPENBLAS_CORETYPE=openblas)
    numerics = pathlib.Path(__file__).resolve().parent.parent / "numerics"
    case = [sys.executable, str(numerics / "run_case.py"), "--llamac", str(arguments.build / "bin" / "llamac"), "--case",
            str(numerics / "golden" / "aspects"), f"--compile-option=--cpu={arguments.level}"]
    commands = [[str(arguments.build / "test" / "unit_Host"), "--gtest_brief=1"],
                [str(arguments.build / "test" / "unit_Blocks"), "--gtest_brief=1"],
                case + ["--precision=f32"],
                case + ["--precision=bf16"],
                case + ["--precision=f32", "--grid=tp=2,pp=2", "--micro-batches=2"]]
    failed = 0
    for command in commands:
        print("+", " ".join(command), flush=True)
        failed += subprocess.run(command, env=environment).returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
