# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Options of test scripts that say for which target a program is compiled and where it runs.

A program for CUDA runs on the software GPU if `--software-gpu` names the folder with its libraries, else on the GPUs of this
machine. The software GPU has to find nothing: a report makes the program end with status 86, and so the test fail.
"""

import argparse
import os


def add_target_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", choices=["host", "cuda"], default="host", help="what the program is compiled for (host)")
    parser.add_argument("--chip", default="sm_90a", help="of --target=cuda (sm_90a)")
    parser.add_argument("--software-gpu", help="folder of the software GPU's libraries; default: the GPUs of this machine")
    parser.add_argument("--gpus", type=int, default=1, help="that the software GPU has; ranks share one (1)")
    parser.add_argument("--gpu-seed", type=int, default=1, help="of the software GPU's order of things (1)")


def target_options(arguments: argparse.Namespace) -> list[str]:
    """Options of `llamac compile`."""
    return [] if arguments.target == "host" else [f"--target={arguments.target}", f"--chip={arguments.chip}"]


def target_environment(arguments: argparse.Namespace) -> dict[str, str] | None:
    """The environment of the program; None: as it is."""
    if arguments.target == "host" or not arguments.software_gpu:
        return None
    path = os.pathsep.join(filter(None, [arguments.software_gpu, os.environ.get("LD_LIBRARY_PATH")]))
    chip = arguments.chip.split(",")[-1].rstrip("a")
    return os.environ | {"LD_LIBRARY_PATH": path, "SOFTWARE_GPU_CHIP": chip, "SOFTWARE_GPU_DEVICES": str(arguments.gpus),
                         "SOFTWARE_GPU_SEED": str(arguments.gpu_seed)}
