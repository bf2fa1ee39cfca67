#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What executables for CUDA allocate on a device is what `info` says, to the byte; and nothing is taken, loaded or waited for in a step.

    cuda_memory.py --llamac build/bin/llamac --calls build/lib/libcuda_calls.so --software-gpu build/lib/software-gpu

`--calls` is cuda_calls.c as a library. Each of CASES is compiled and makes three steps on the software GPU: the first gives its work
piece by piece, the second is recorded as a graph, the third is played. What it asks the driver for must be as many bytes as the
arenas and the memory of cuBLASLt of all its ranks in `info --format=json`; what NCCL may take is listed apart, an estimate. After
the first kernel no call may take memory of the device or of the host, make a stream, load code, make a communicator or wait for
the whole device, until the steps are over (rule R5 of `llamac check`, which says so before anything runs).

Then the device gets exactly the memory that is needed: the step is made. With a byte less it is refused with need, have and
remedies before the first allocation, status 2. Needs nothing but Python.
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from grids import Draw, draw_batch, draw_weights, write_safetensors  # noqa: E402
from mutants import text_config  # noqa: E402

CONFIG = text_config(num_hidden_layers=2)
# Options, the grid, micro-batches, GPUs.
CASES = {
    "one rank": ([], {}, 1, 1),
    "a GPU for each rank": (["--fsdp=gradients"], {"pp": 2, "dp": 2}, 2, 4),
    "tensors are split": (["--fsdp=parameters"], {"tp": 2, "dp": 2}, 2, 4),
    "ranks that share a GPU": ([], {"tp": 2, "dp": 2}, 1, 1),
}
# What may not come between the first and the last kernel of the steps.
STOPS = {"cuMemAlloc_v2", "cuMemHostAlloc", "cuMemFree_v2", "cuMemFreeHost", "cuModuleLoadDataEx", "cuModuleUnload",
         "cuStreamCreateWithPriority", "cuCtxSynchronize", "cuEventSynchronize", "cublasLtCreate", "ncclCommInitRankConfig",
         "ncclCommDestroy"}
LAUNCHES = {"cuLaunchKernelEx", "cuGraphLaunch"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llamac", required=True)
    parser.add_argument("--calls", required=True)
    parser.add_argument("--software-gpu", required=True)
    arguments = parser.parse_args()
    faults = 0
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        executable, log = work / "model", work / "calls"
        for case, (options, grid, micro_batches, gpus) in CASES.items():
            draw = Draw(CONFIG, {axis: grid.get(axis, 1) for axis in ("tp", "cp", "pp", "dp")}, 2, micro_batches, 16, 0, [], options)
            (work / "config.json").write_text(json.dumps(CONFIG))
            subprocess.run([arguments.llamac, "compile", work / "config.json", "--target=cuda", "--batch=2", "--text-length=16",
                            f"--micro-batches={micro_batches}", "--grid=" + ",".join(f"{a}={n}" for a, n in draw.grid.items()),
                            *options, "-o", executable], check=True, capture_output=True,
                           env=os.environ | {"LLAMAC_PTXAS": "none"})
            r = random.Random(1)
            model = subprocess.run([arguments.llamac, "import", work / "config.json", "-o", "-"], check=True, capture_output=True,
                                   text=True).stdout
            write_safetensors(work / "weights", draw_weights(r, model))
            write_safetensors(work / "batch", draw_batch(r, draw))
            info = json.loads(subprocess.run([executable, "info", "--format=json"], check=True, capture_output=True).stdout)
            stages, ranks = info["memory"]["step"], info["ranks"]
            nccl = sum(stage.get("NCCL", 0) for stage in stages)
            said = sum(sum(stage.values()) for stage in stages) - nccl
            said *= ranks // len(stages)
            environment = os.environ | {
                "LD_LIBRARY_PATH": arguments.software_gpu, "SOFTWARE_GPU_DEVICES": str(gpus), "LLAMAC_CALLS": str(log),
                "LD_PRELOAD": arguments.calls, "XDG_CACHE_HOME": str(work / "cache")}

            def step(steps: int, **more: str) -> subprocess.CompletedProcess:
                log.write_text("")
                return subprocess.run([executable, "step", f"--weights={work / 'weights'}", f"--batch={work / 'batch'}",
                                       f"--steps={steps}", "--learning-rate=0.01"], env=environment | more, capture_output=True,
                                      text=True, timeout=900)

            def wrong(what: str) -> None:
                nonlocal faults
                faults += 1
                print(f"{case}: {what}  <-- wrong", flush=True)

            done = step(3)
            calls = [line.split() for line in log.read_text().splitlines()]
            allocated = sum(int(size) for call, size in calls if call == "cuMemAlloc_v2")
            print(f"{case}: {said} bytes said (NCCL at most {nccl} beside), {allocated} allocated, status {done.returncode}", flush=True)
            if done.returncode != 0 or len(done.stdout.splitlines()) != 3:
                wrong(done.stderr[-800:])
                continue
            if allocated != said:
                wrong("other bytes are allocated than info says")
            launches = [i for i, (call, _) in enumerate(calls) if call in LAUNCHES]
            shares = ranks > gpus
            stops = {call for call, _ in calls[launches[0]:launches[-1]]} & STOPS
            # Where ranks share a GPU nothing on it waits for a host: its groups may make their streams.
            if stops - ({"cuStreamCreateWithPriority"} if shares else set()):
                wrong(f"within the steps: {', '.join(sorted(stops))}")
            if (ranks == 1 or not shares) and "cuGraphLaunch" not in {call for call, _ in calls}:
                wrong("no step was a graph")

            # Of one GPU: what is there is what one asks for. A GPU of several has the ranks of its own.
            need = max(sum(stage.values()) for stage in stages) if not shares else said
            exact = step(1, SOFTWARE_GPU_MEMORY=str(need), SOFTWARE_GPU_CHECKS="none")
            if exact.returncode != 0:
                wrong(f"with {need} bytes: {exact.stderr[-400:]}")
            less = step(1, SOFTWARE_GPU_MEMORY=str(need - 1), SOFTWARE_GPU_CHECKS="none")
            calls = [line.split() for line in log.read_text().splitlines()]
            if less.returncode != 2 or "memory: expected " not in less.stderr or "what needs less: " not in less.stderr:
                wrong(f"with a byte less: status {less.returncode}: {less.stderr[-400:]}")
            if any(call in ("cuMemAlloc_v2", "ncclCommInitRankConfig") for call, _ in calls):
                wrong("it was refused after the first allocation")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
