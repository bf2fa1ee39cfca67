#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Counts what the kernels of the standard workloads do, on the software GPU, and writes docs/gpu-ledger.md.

    ledger.py --build build [--workloads W1,W3] [--output docs/gpu-ledger.md]

Each workload (WORKLOADS) is compiled for sm_90a at small sizes with the structure of the full one: head sizes, layers of
each kind. One step is run with the counters on. Per kernel the ledger has: launches; bytes of the 32-byte sectors that its
requests touch; these over the least (each buffer that a loop's kernel reads or writes, once; a table of which only some rows are
read counts whole) and over the bytes asked for (below 1 where lanes share them); bank conflicts of shared memory. Caches are not
modelled: what two blocks read counts twice. Row kernels move bytes in proportion to rows times columns, so these figures hold at full size. Beside them stand floors: operations / 790 TFLOP/s, from the formulas of the specification.

It counts; it knows nothing of milliseconds. Exit status: 0, or 1 if a run fails or reports a fault.
"""

import argparse
import collections
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "test/numerics"))
sys.path.insert(0, str(ROOT / "test/properties"))

from batch import write_safetensors  # noqa: E402
from grids import Draw, draw_batch, draw_weights  # noqa: E402
from mutants import text_config, vision_config  # noqa: E402
from target import target_environment  # noqa: E402

import random  # noqa: E402

PEAK, BANDWIDTH = 790e12, 4.3e12  # of an H200, measured: bf16 operations, bytes, a second

LAYER = {"hidden_size": 256, "intermediate_size": 896, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 256}
ENCODER = {"hidden_size": 160, "attention_heads": 2, "intermediate_size": 640, "patch_size": 14, "image_size": 42,
           "max_num_tiles": 4, "num_hidden_layers": 1, "num_global_layers": 1, "vision_output_dim": 320,
           "intermediate_layers_indices": [0]}


def vision(layers: int, crosses: list[int], encoder: dict) -> dict:
    config = vision_config()
    config["text_config"] |= LAYER | {"num_hidden_layers": layers, "cross_attention_layers": crosses}
    config["vision_config"] |= encoder
    config["image_token_index"] = LAYER["vocab_size"]
    return config


# Name: what it is, floor in ms, config, samples, text tokens, images of a sample.
WORKLOADS = {
    "W1": ("four self- and one cross-attention layer of 8B, 8 x 192 text and 2,308 image tokens", 14.1,
           vision(2, [1], ENCODER | {"num_hidden_layers": 1, "num_global_layers": 0}), 1, 192, 1),
    "W2": ("encoder, 40 layers, 8 x 2,308 tokens, head size 80", 149.0, vision(1, [0], ENCODER), 1, 32, 1),
    "W3": ("four layers of 8B, 1 x 8,192 tokens", 64.0, text_config(**LAYER | {"num_hidden_layers": 2}), 1, 256, 0),
}
# Of every workload, too: AdamW on 1e9 parameters moves 30 bytes for each (W4).
OPTIMIZER_FLOOR = 6.98

PIPELINE = ("builtin.module(llama-isolate-blocks,builtin.module(func.func(llama-select-kernels{target=cuda},llama-decompose{fast=true},"
            "cse,llama-fuse-elementwise,llama-pass-destinations),eliminate-empty-tensors,one-shot-bufferize{"
            "bufferize-function-boundaries=true function-boundary-type-conversion=identity-layout-map},func.func(canonicalize,cse,"
            "llama-lower-row-loops,convert-linalg-to-affine-loops,llama-fold-views,llama-fuse-loops,canonicalize,cse),"
            "llama-emit-attention{chips=sm_90a},llama-outline-loops{parallel=false},llama-map-kernels))")
WIDTHS = {"f64": 8, "i64": 8, "f32": 4, "i32": 4, "bf16": 2}


def run(command: list, **options) -> str:
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if result.returncode != 0:
        sys.exit(f"ledger: exit status {result.returncode} of {' '.join(map(str, command))}\n{result.stdout}{result.stderr}")
    return result.stdout


def size_of(memref: str) -> int:
    *sizes, element = re.match(r"memref<([^,>]+)", memref)[1].split("x")
    return math.prod(int(size) for size in sizes) * WIDTHS[element]


def least_bytes(text: str) -> dict[str, int]:
    """Of each kernel that a loop became: what it must read and write."""
    least = {}
    for found in re.finditer(r"gpu\.func @(\w+)\((.*?)\) kernel.*?\n(.*?)gpu\.return", text, re.S):
        total = 0
        for name, memref in re.findall(r"(%arg\d+): (memref<[^>,]*>)", found[2]):
            views = re.findall(rf"(%\w+) = memref\.\w+ {name} (?:to|into|\[)", found[3])
            names = "(?:" + "|".join(re.escape(n) for n in [name, *views]) + ")"
            reads = re.search(rf"load {names}\[", found[3]) is not None
            writes = re.search(rf"store %\w+, {names}\[", found[3]) is not None
            total += size_of(memref) * (reads + writes)
        least[found[1]] = total
    return least


def measure(name: str, arguments: argparse.Namespace) -> tuple[list[dict], dict]:
    _, _, config, samples, length, images = WORKLOADS[name]
    binaries = arguments.build / "bin"
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        (folder / "config.json").write_text(json.dumps(config))
        draw = Draw(config, {"tp": 1, "cp": 1, "pp": 1, "dp": 1}, samples, 1, length, images, [], [])
        options = ["--target=cuda", "--chip=sm_90a"]
        command = draw.compile_command(str(binaries / "llamac"), folder / "config.json", folder / "step", True, "bf16") + options
        run(command)
        run(command[:-len(options) - 2] + options + ["--compile-to=parallelize", "-o", folder / "step.mlir"])
        least = least_bytes(run([binaries / "llama-opt", folder / "step.mlir", f"--pass-pipeline={PIPELINE}"]))
        r = random.Random(1)
        model = run([binaries / "llamac", "import", folder / "config.json", "-o", "-"])
        write_safetensors(folder / "weights.safetensors", draw_weights(r, model))
        write_safetensors(folder / "batch.safetensors", draw_batch(r, draw))
        gpu = argparse.Namespace(target="cuda", chip="sm_90a", software_gpu=str(arguments.build / "lib/software-gpu"), gpus=1,
                                 gpu_seed=1)
        environment = target_environment(gpu) | {"SOFTWARE_GPU_COUNTERS": str(folder / "counters")}
        run([folder / "step", "step", f"--weights={folder / 'weights.safetensors'}", f"--batch={folder / 'batch.safetensors'}",
             "--steps=1"], env=environment)
        kernels: dict[str, dict] = {}
        for line in (folder / "counters").read_text().splitlines():
            entry = json.loads(line)
            if "kernel" not in entry:
                continue
            # A kernel that was launched more than once has a line for each launch and one for all.
            kernel = kernels.setdefault(entry["kernel"], entry)
            if entry["launches"] > kernel["launches"]:
                kernels[entry["kernel"]] = entry
        return list(kernels.values()), least


def table(kernels: list[dict], least: dict) -> list[str]:
    rows = ["| kernel | launches | bytes in sectors | over least | over asked | bank conflicts | tensor-core operations |",
            "|---|---|---|---|---|---|---|"]
    for kernel in sorted(kernels, key=lambda k: -k["totals"].get("sectors", 0)):
        totals, launches = kernel["totals"], kernel["launches"]
        moved, asked = 32 * totals.get("sectors", 0), totals.get("bytes", 0)
        own = least.get(kernel["kernel"], 0) * launches
        rows.append(f"| `{kernel['kernel']}` | {launches} | {moved} | {f'{moved / own:.2f}' if own else ''} | "
                    f"{f'{moved / asked:.2f}' if asked else ''} | {totals.get('wavefronts', 0) - totals.get('idealWavefronts', 0)} | "
                    f"{totals.get('tensorOps', '')} |")
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build", help="build folder")
    parser.add_argument("--workloads", default=",".join(WORKLOADS), help="some of " + ", ".join(WORKLOADS))
    parser.add_argument("--output", type=pathlib.Path, help="file to write; default standard output")
    arguments = parser.parse_args()
    lines = ["# The GPU ledger", "", "Written by `test/bench/gpu/ledger.sh`. What the kernels of the standard workloads do, counted on the software GPU at small",
             "sizes; nothing here was measured on a GPU, and no time is claimed. Bytes are those of the 32-byte sectors that requests touch, without caches; the",
             "least is each buffer of a loop's kernel once. Kernels of attention have no such least. The floor of AdamW on 1e9 parameters (W4) is "
             f"{OPTIMIZER_FLOOR} ms; its kernel is in every table.", ""]
    for name in arguments.workloads.split(","):
        what, floor, *_ = WORKLOADS[name]
        kernels, least = measure(name, arguments)
        totals = collections.Counter()
        for kernel in kernels:
            if own := least.get(kernel["kernel"], 0) * kernel["launches"]:
                totals["moved"] += 32 * kernel["totals"].get("sectors", 0)
                totals["least"] += own
            totals["launches"] += kernel["launches"]
        lines += [f"## {name}: {what}", "",
                  f"Floor of the full size: {floor} ms (operations at {PEAK / 1e12:.0f} TFLOP/s). A step launches {totals['launches']} kernels of "
                  f"our own, {len(kernels)} different ones; the loops' kernels move {totals['moved'] / max(totals['least'], 1):.3f} of the least bytes.", ""]
        lines += table(kernels, least) + [""]
        print(f"{name}: {totals['launches']} launches, {totals['moved'] / max(totals['least'], 1):.3f} of the least bytes", file=sys.stderr)
    text = "\n".join(lines)
    if arguments.output:
        arguments.output.write_text(text)
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
