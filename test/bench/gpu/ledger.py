#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Counts what the kernels of the standard workloads do, and writes docs/gpu-ledger.md.

    ledger.py --build build [--workloads W1,W3] [--output docs/gpu-ledger.md]

The workloads are those of test/gpu/workloads.py. Each is compiled for sm_90a at its full size, which needs no memory to speak
of; full_size.py reads the launches of a step from the program and counts the bytes of each kernel of loops on blocks of it that
the software GPU runs alone. Kernels of attention are counted in a whole step at a small size (`small`).

It counts; it knows nothing of milliseconds: times are lower bounds, operations / 790 TFLOP/s and bytes / 4.3 TB/s (measured on
an H200), without a word on what is reached. Exit status: 0, or 1 if a run fails or reports a fault.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import itertools
import json
import os
import pathlib
import random
import re
import resource
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
for folder in ("gpu", "kernels", "numerics", "properties"):
    sys.path.insert(0, str(ROOT / "test" / folder))

import assemble  # noqa: E402
import full_size  # noqa: E402
import main_loops  # noqa: E402
from batch import write_safetensors  # noqa: E402
from grids import Draw, draw_batch, draw_weights  # noqa: E402
from target import target_environment  # noqa: E402
from workloads import WORKLOADS, small  # noqa: E402

PEAK, BANDWIDTH = 790e12, 4.3e12  # of an H200, measured: bf16 operations, bytes, a second
MULTIPROCESSORS = 132
CHIP = "sm_90a"
# The blocks that a workload is about.
BLOCKS = {"W1": r"self_layer|cross_layer|cross_key_value", "W2": r"vision_|add\.", "W3": r"self_layer", "W4": r"adamw"}
# Fused loops, as CudaTarget makes them, to kernels; products and attention stay routines.
PIPELINE = ("builtin.module(llama-merge-products{target=cuda},llama-isolate-blocks,builtin.module(llama-chunk-rows,func.func(llama-select-kernels{target=cuda},llama-decompose{fast=true},"
            "cse,llama-fuse-elementwise,llama-pass-destinations),eliminate-empty-tensors,one-shot-bufferize{"
            "bufferize-function-boundaries=true function-boundary-type-conversion=identity-layout-map},func.func(canonicalize,cse,"
            "llama-lower-row-loops,convert-linalg-to-affine-loops,llama-fold-views,llama-fuse-loops,canonicalize,cse),"
            "llama-outline-loops{parallel=false},llama-map-kernels))")


def run(command: list, **options) -> str:
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if result.returncode != 0:
        sys.exit(f"ledger: exit status {result.returncode} of {' '.join(map(str, command))}\n{result.stdout}{result.stderr}")
    return result.stdout


def compile_command(workload, arguments: argparse.Namespace, folder: pathlib.Path, output: str) -> tuple[Draw, list]:
    (folder / "config.json").write_text(json.dumps(workload.config))
    draw = Draw(workload.config, {"tp": 1, "cp": 1, "pp": 1, "dp": 1}, workload.samples, 1, workload.text_length, workload.images, [], [])
    command = draw.compile_command(str(arguments.build / "bin/llamac"), folder / "config.json", folder / output, True, "bf16")
    return draw, [*command, "--target=cuda", f"--chip={CHIP}"]


class Ledger:
    """Of one workload at full size."""

    def __init__(self, name: str, arguments: argparse.Namespace):
        self.blocks_of_interest = re.compile(BLOCKS[name])
        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(temporary)
            _, command = compile_command(WORKLOADS[name], arguments, folder, "step")
            run([*command, f"--kernels={folder / 'kernels'}"], env=os.environ | {"LLAMAC_PTXAS": "none"})
            for step in ("parallelize", "lower"):
                _, command = compile_command(WORKLOADS[name], arguments, folder, f"{step}.mlir")
                run([*command, f"--compile-to={step}"])
            kernels = run([arguments.build / "bin/llama-opt", folder / "parallelize.mlir", f"--pass-pipeline={PIPELINE}"])
            self.blocks = full_size.read_step((folder / "lower.mlir").read_text(), kernels, folder / "kernels", CHIP)
            runner = arguments.build / "tools/software-gpu/software-gpu-run"
            self.moved = full_size.measure_all(self.blocks, runner, arguments.jobs)
            self.facts = {}
            if ptxas := assemble.find("ptxas", arguments.build / "bin/llamac"):
                for file in {launch.file for block in self.blocks.values() for launch in block.launches}:
                    self.facts[file.name], _ = assemble.assemble(ptxas, None, CHIP, file)

    def of_interest(self, name: str) -> bool:
        return self.blocks_of_interest.match(name) is not None

    def sum_over(self, what) -> float:
        """Of the blocks of interest, in a step."""
        return sum(block.calls * what(block) for name, block in self.blocks.items() if self.of_interest(name))

    def moved_by(self, block: full_size.Block) -> list[full_size.Moved]:
        return [self.moved[key] for launch in block.launches if (key := (launch.file.name, launch.grid)) in self.moved]

    def launches(self, of_interest: bool) -> str:
        """Kernels of loops (without common launches of independent nests), of attention, products of a step."""
        loops = attention = products = alone = 0
        for name, block in self.blocks.items():
            if of_interest and not self.of_interest(name):
                continue
            of_loops = len(self.moved_by(block))
            loops += block.calls * of_loops
            alone += block.calls * sum(max(1, len(block.kernels[launch.own].parts)) for launch in block.launches if launch.own in block.kernels)
            attention += block.calls * (len(block.launches) - of_loops)
            products += block.calls * len(block.products)
        return f"{loops} ({alone}) + {attention} + {products}"

    def summary(self, floor: float) -> tuple[str, str, list[str]]:
        """The rows of the two tables of all workloads, and the table of its kernels."""
        ms = 1e3
        operations = self.sum_over(lambda block: sum(p.operations for p in block.products))
        products = self.sum_over(lambda block: sum(max(p.operations / PEAK, p.bytes / BANDWIDTH) for p in block.products)) * ms
        attention = self.sum_over(lambda block: sum(block.attention))
        memory = self.sum_over(lambda block: sum(m.memory for m in self.moved_by(block)))
        least = self.sum_over(lambda block: sum(m.least for m in self.moved_by(block)))
        rows = memory / BANDWIDTH * ms
        bound = products + attention / PEAK * ms + rows
        row = (f"{floor} | {bound:.2f} | {operations / 1e12:.2f} T, {products:.2f} | {attention / 1e12:.2f} T, {attention / PEAK * ms:.2f} | "
               f"{memory / 1e9:.2f} GB, {rows:.2f} | {memory / max(least, 1):.3f} | {self.launches(of_interest=True)} | {self.launches(of_interest=False)} |")
        by_bytes = products - operations / PEAK * ms
        of_floor = 0 if operations == 0 else rows
        other = bound - floor - of_floor - by_bytes
        difference = " ".join(f"{round(part, 2) + 0.0:.2f} |" for part in (bound - floor, of_floor, by_bytes, other))
        return row, difference, self.table()

    def above(self, limit: float = 1.05) -> list[str]:
        """Kernels that move more than they would have to, or touch more sectors, of those that move anything to speak of."""
        found = {}
        for block in self.blocks.values():
            for launch in block.launches:
                moved = self.moved.get((launch.file.name, launch.grid))
                if moved and moved.memory > 1e5 and max(moved.memory / max(moved.least, 1), moved.sectors / max(moved.requests, 1)) > limit:
                    found[launch.kernel] = moved.memory / max(moved.least, 1), moved.sectors / max(moved.requests, 1)
        return [f"`{name}` ({over:.2f}, {sectors:.2f})" for name, (over, sectors) in sorted(found.items())]

    def few_blocks(self) -> list[str]:
        """Kernels that move 4 MB or more through fewer blocks than the GPU has multiprocessors."""
        found = {}
        for block in self.blocks.values():
            for launch in block.launches:
                moved = self.moved.get((launch.file.name, launch.grid))
                if moved and moved.memory >= 4e6 and launch.grid < MULTIPROCESSORS:
                    found[launch.kernel] = launch.grid, moved.memory
        return [f"`{name}` ({grid}, {memory / 1e6:.1f})" for name, (grid, memory) in sorted(found.items())]

    def table(self) -> list[str]:
        rows: dict[tuple, int] = collections.Counter()
        names = {}
        for name, block in self.blocks.items():
            for launch in block.launches:
                key = (launch.file.name, launch.grid)
                if key in self.moved:
                    rows[key] += block.calls
                    names[key] = launch.kernel
        lines = ["| kernel | blocks | launches | MB a launch | over least | with what caches serve | sectors over least | bank conflicts | registers | spills |",
                 "|---|---|---|---|---|---|---|---|---|---|"]
        for key, launches in sorted(rows.items(), key=lambda row: -row[1] * self.moved[row[0]].memory):
            moved, facts = self.moved[key], self.facts.get(key[0], {})
            if moved.bad:
                figures = f"| | | | | ({moved.bad[:80]}) "
            else:
                figures = (f"| {moved.memory / 1e6:.3f} | {moved.memory / max(moved.least, 1):.2f} | {moved.sectors / max(moved.least, 1):.2f} | "
                           f"{moved.sectors / max(moved.requests, 1):.2f} | {moved.conflicts:.0f} ")
            lines.append(f"| `{names[key]}` | {key[1]} | {launches} {figures}| {facts.get('registers', '')} | {facts.get('spills', '')} |")
        return lines


def attention_counts(name: str, arguments: argparse.Namespace) -> list[str]:
    """Of a whole step at a small size: what the kernels of attention do."""
    workload = small(WORKLOADS[name])
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        draw, command = compile_command(workload, arguments, folder, "step")
        run(command)
        r = random.Random(1)
        model = run([arguments.build / "bin/llamac", "import", folder / "config.json", "-o", "-"])
        write_safetensors(folder / "weights.safetensors", draw_weights(r, model))
        write_safetensors(folder / "batch.safetensors", draw_batch(r, draw))
        gpu = argparse.Namespace(target="cuda", chip=CHIP, software_gpu=str(arguments.build / "lib/software-gpu"), gpus=1, gpu_seed=1)
        run([folder / "step", "step", f"--weights={folder / 'weights.safetensors'}", f"--batch={folder / 'batch.safetensors'}", "--steps=1"],
            env=target_environment(gpu) | {"SOFTWARE_GPU_COUNTERS": str(folder / "counters")})
        kernels: dict[str, dict] = {}
        for line in (folder / "counters").read_text().splitlines():
            entry = json.loads(line)
            # A kernel that was launched more than once has a line for each launch and one for all.
            if entry.get("kernel", "").startswith("attention_"):
                if entry["launches"] >= kernels.setdefault(entry["kernel"], entry)["launches"]:
                    kernels[entry["kernel"]] = entry
    lines = ["| kernel | launches | bytes in sectors | over asked | bank conflicts | tensor-core operations |", "|---|---|---|---|---|---|"]
    for kernel in sorted(kernels.values(), key=lambda k: -k["totals"].get("tensorOps", 0)):
        totals = kernel["totals"]
        moved = 32 * totals.get("sectors", 0)
        lines.append(f"| `{kernel['kernel']}` | {kernel['launches']} | {moved} | {moved / max(totals.get('bytes', 0), 1):.2f} | "
                     f"{totals.get('wavefronts', 0) - totals.get('idealWavefronts', 0)} | {totals.get('tensorOps', '')} |")
    return lines


@dataclasses.dataclass
class Report:
    """Of a workload: its row in each table of all, kernels above 1.05, those of few blocks, the table of its kernels, what those of attention do."""
    row: str
    difference: str
    above: list[str]
    few: list[str]
    table: list[str]
    attention: list[str]


def of_workload(name: str, arguments: argparse.Namespace) -> Report:
    ledger = Ledger(name, arguments)
    row, difference, table = ledger.summary(WORKLOADS[name].floor)
    print(f"{name} | {row}", file=sys.stderr)
    if name == "W4":
        table = [line for line in table if line.startswith(("| kernel", "|---", "| `adamw", "| `gradient_norm"))]
        return Report(row, difference, ledger.above(), ledger.few_blocks(), table, [])
    return Report(row, difference, ledger.above(), ledger.few_blocks(), table, attention_counts(name, arguments))


HEAD = """# The GPU ledger

Written by `test/bench/gpu/ledger.sh`. What a step of the standard workloads (`test/gpu/workloads.py`) launches and moves at its full
size. Nothing here was measured on a GPU, and no time is claimed: times are lower bounds, operations / 790 TFLOP/s and bytes / 4.3 TB/s.

- **Launches** are those of the program that `llamac compile` made for the full size: kernels of loops (in brackets how many there would be if independent
  nests had no common launch), of attention, products.
- **Bytes of kernels of loops**: all blocks of a grid do the same on other rows, those at its end perhaps on fewer. The software GPU runs the first and the
  last blocks of each kernel of the full size; the first stand for all others. Bytes are those of the 32-byte sectors that requests touch.
- **Least**: the sectors of each buffer that a kernel reads or writes, once; of a table of which rows are picked, the rows.
- **Over least** counts a buffer of at most 8 MB that is read again by other blocks (weights of a norm, tables of positions, scalars) once: it stays in
  the L2 cache, which has 50 MB. **With what caches serve** counts every read. Large buffers count in full in both.
- **Sectors over least**: sectors that requests touch over those that they would touch, were their bytes side by side.
- **Products** take the longer of their operations and their bytes; **attention** 4 operations for each pair of query and key, head and element of a head
  forward and 10 backward, half of that with a causal mask. The three are not overlapped: the bound is their sum.
"""


DIFFERENCES = ["What makes the difference. The floor of W1 to W3 has the operations of products and attention alone, by the formulas of the model; that of W4 30 bytes a",
               "parameter. **Operations**: what the program computes beyond those formulas (W2: tiles are padded to multiples of 8 tokens)."]
ABOVE = ["Kernels of loops above 1.05 that move 0.1 MB or more (bytes over the least, sectors over the least). Where a row's one number is picked by an index, as the logit",
         "of a label, the least counts 4 bytes, but a sector moves."]


FEW = ["Kernels of loops that move 4 MB or more through fewer blocks than there are multiprocessors (blocks, MB)."]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build", help="build folder")
    parser.add_argument("--workloads", default=",".join(BLOCKS), help="some of " + ", ".join(BLOCKS))
    parser.add_argument("--output", type=pathlib.Path, help="file to write; default standard output")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs of the software GPU at a time (all cores)")
    arguments = parser.parse_args()
    names = arguments.workloads.split(",")
    main_loops.disassembler(arguments.build)  # told before the work, not behind it
    lines = [HEAD, "| | floor, ms | bound, ms | products, ms | attention, ms | kernels of loops, ms | over least | launches | of the whole step |",
             "|---|---|---|---|---|---|---|---|---|"]
    tables, attention, above, few = [], [], [], []
    differences = ["| | bound - floor, ms | kernels of loops | products that their bytes bound | operations |", "|---|---|---|---|---|"]
    with concurrent.futures.ThreadPoolExecutor() as pool:  # of processes that do the work
        for name, report in zip(names, pool.map(lambda name: of_workload(name, arguments), names)):
            lines.append(f"| {name} | {report.row}")
            differences.append(f"| {name} | {report.difference}")
            above += [f"{name}: {', '.join(report.above)}."] if report.above else []
            few += [f"{name}: {', '.join(report.few)}."] if report.few else []
            tables += [f"## {name}: {WORKLOADS[name].what}", "", *report.table, ""]
            if report.attention:
                attention += [f"### {name}", "", *report.attention, ""]
    lines += ["", *DIFFERENCES, "", *differences, ""]
    lines += ABOVE if above else ["No kernel of loops that moves 0.1 MB or more is above 1.05, in bytes or in sectors."]
    lines += [*above, ""]
    lines += FEW if few else ["None of them moves 4 MB or more through fewer blocks than there are multiprocessors (132)."]
    lines += [*few, ""]
    lines += tables
    lines += ["## Attention, at small sizes", "", "A whole step on the software GPU. Bytes in sectors over those asked for: below 1 where lanes share them.", "",
              *attention]
    # A kernel that is there with several masks has one main loop.
    lines += [line for line, _ in itertools.groupby(main_loops.main_loops(arguments.build))] + main_loops.balances()
    text = "\n".join(lines)
    if arguments.output:
        arguments.output.write_text(text)
    else:
        print(text)
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(f"ledger: {sum(s.ru_utime + s.ru_stime for s in spent) / 60:.1f} minutes of CPU", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
