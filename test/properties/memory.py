#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Draws programs; more sharding and more recomputation must never need more memory, and what is refused must be right.

    memory.py --llamac build/bin/llamac --seeds 0-19

A seed always gives the same draws: a small model of grids.py on a grid of up to 16 ranks, or a published one on up to 2,048,
with its schedule, encoder placement, batch and what trains. `llamac check` says what each stage of the program needs with

    --fsdp=none >= optimizer >= gradients >= parameters      and
    --recompute=none >= selective >= full                    on the stage that needs most

(with --schedule=zero-bubble not: the weight half of a backward keeps what the other half formed again, so on the last stage, which
runs them one behind the other, there is nothing to save). A small model may need SLACK more: where a rank keeps the values of a layer or two, what is formed again in the workspace, and
what passes from block to block in frames, can weigh more than what is saved.

What a small program needs of each arena is what its check found used of it, up to the alignment: to the byte what executables
allocate.

On a machine with as much memory as the program needs it must be accepted with the same total; with a byte less it is refused,
or cut in another way that fits. Each change that a refusal names is compiled: it must need what was said, and fit.

Exit status: 0 all hold, 1 some do not, 2 wrong use.
"""

import argparse
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import grids  # noqa: E402

LEVELS = ["none", "optimizer", "gradients", "parameters"]
RECOMPUTE = ["none", "selective", "full"]
ALIGNMENT = 64
NEEDS = re.compile(r'dist\.program "\w+" needs ?\(([^)]*)\)')
PEAK = re.compile(r'\{bytes = (\d+) : i64, name = "([^"]+)", peak = (\d+) : i64')
ROW = re.compile(r"^  (each rank|stages? [0-9, -]*[0-9])  .* ([0-9]+)$")
REMEDY = re.compile(r"note: fits with (.*): ([0-9.]+) GB$")
GB = 10 ** 9
SLACK = 1.1


def draw_published(r: random.Random) -> tuple[str, list[str], int]:
    """A published model, options, ranks on dp."""
    model, tp, pp = r.choice([("llama3-8b", 1, 1), ("llama3-8b", 2, 2), ("llama3-8b-vision", 2, 1),
                              ("llama3.2-11b-vision", 4, 1), ("llama3.2-11b-vision", 1, 2),
                              ("llama3.2-90b-vision", 8, 4), ("llama3-70b", 4, 4), ("llama3-405b", 8, 16),
                              ("llama3-405b-vision", 8, 8)])
    dp = r.choice([2, 2, 3, 4, 8, 16])
    options = [f"--grid=tp={tp},cp={r.choice([1, 1, 2])},pp={pp},dp={dp}", f"--batch={r.choice([1, 2, 4])}",
               f"--text-length={r.choice([256, 512, 2048])}", f"--micro-batches={max(pp, r.choice([1, 4, 8]))}"]
    if pp > 1:
        schedule = r.choice(["1f1b", "gpipe", "interleaved", "zero-bubble", "sequential"])
        options += [f"--schedule={schedule}"] + (["--virtual-stages=2"] if schedule == "interleaved" else [])
    options.append(f"--trainable={r.choice(['all', 'all', 'adapter', '*norm*'] if 'vision' in model else ['all', '*mlp*'])}")
    return model, options, dp


def draw(r: random.Random, folder: pathlib.Path) -> tuple[str, list[str], int]:
    if r.random() < 0.35:
        return draw_published(r)
    small = grids.draw(r, 16)
    config = folder / "config.json"
    config.write_text(json.dumps(small.config))
    options = [f"--batch={small.batch}", f"--micro-batches={small.micro_batches}", f"--text-length={small.text_length}",
               f"--images={small.images}", f"--precision={r.choice(['bf16', 'f32'])}", *small.model_options,
               "--grid=" + ",".join(f"{axis}={size}" for axis, size in small.grid.items()), *small.options]
    return str(config), options, small.grid["dp"]


class Compiler:
    def __init__(self, llamac: str) -> None:
        self.llamac = llamac
        self.command: list[str] = []

    def check(self, model: str, options: list[str]) -> subprocess.CompletedProcess:
        # The last of an option counts.
        last = {option.split("=")[0]: option for option in options}
        self.command = [self.llamac, "check", model, *last.values()]
        return subprocess.run(self.command, capture_output=True, text=True, timeout=600)

    def totals(self, model: str, options: list[str]) -> list[int] | str:
        """Bytes of each stage for the program that needs most there, or what was said instead."""
        done = self.check(model, options)
        if done.returncode != 0:
            return done.stderr.strip()
        stages: dict[int, int] = {}
        for line in done.stdout.splitlines():
            if match := ROW.match(line):
                for part in match[1].replace("each rank", "stage 0").split(" ", 1)[1].strip().split(", "):
                    first, _, end = part.partition("-")
                    for stage in range(int(first), int(end or first) + 1):
                        stages[stage] = max(stages.get(stage, 0), int(match[2]))
        return [stages[stage] for stage in range(len(stages))]


def wasted(llamac: str, model: str, options: list[str], folder: pathlib.Path) -> list[str]:
    """Arenas of which the programs need other bytes than they use, and than they have."""
    lowered = folder / "lowered.mlir"
    subprocess.run([llamac, "compile", model, *options, "--compile-to=lower", "-o", lowered], check=True, capture_output=True)
    text, needs = lowered.read_text(), {}
    for program in NEEDS.finditer(text):
        for name, end in re.findall(r"@([\w.]+)\[(\d+)\]", program[1]):
            needs[name] = max(needs.get(name, 0), int(end))
    peaks = [(name, int(size), -(-int(peak) // ALIGNMENT) * ALIGNMENT) for size, name, peak in PEAK.findall(text)]
    return [f"@{name} of {size} bytes, {peak} used: programs need {needs.get(name)}"
            for name, size, peak in peaks if not size == peak == needs.get(name)] or ([] if peaks else ["no certificate"])


def faults(compiler: Compiler, r: random.Random, folder: pathlib.Path) -> list[str] | None:
    """What does not hold; None for a draw that is no program."""
    model, options, dp = draw(r, folder)
    slack = SLACK if model.endswith(".json") else 1
    found = []
    first = compiler.totals(model, options)
    if isinstance(first, str) or not first:
        return None
    if model.endswith(".json"):
        found += wasted(compiler.llamac, model, options, folder)
    if dp > 1:
        levels = {level: compiler.totals(model, [*options, f"--fsdp={level}"]) for level in LEVELS}
        for less, more in zip(LEVELS, LEVELS[1:]):
            if max(levels[more]) > slack * max(levels[less]):
                found.append(f"fsdp {less} {max(levels[less])} < {more} {max(levels[more])} bytes")
    if "--schedule=zero-bubble" not in options:
        levels = {level: compiler.totals(model, [*options, f"--recompute={level}"]) for level in RECOMPUTE}
        for less, more in zip(RECOMPUTE, RECOMPUTE[1:]):
            if max(levels[more]) > slack * max(levels[less]):
                found.append(f"recompute {less} {max(levels[less])} < {more} {max(levels[more])} bytes")

    machine = folder / "machine.json"

    def with_memory(memory: int) -> list[str]:
        machine.write_text(json.dumps({"like": "cpu", "memory_bytes": memory}))
        return [*options, f"--machine={machine}"]

    needed = max(first)
    exact = compiler.totals(model, with_memory(needed))
    if exact != first:
        found.append(f"with {needed} bytes: {exact}")
    memory = r.choice([needed - 1, needed * 9 // 10, needed * 2 // 3])
    capped = with_memory(memory)
    done = compiler.check(model, capped)
    if done.returncode == 0:
        fits = compiler.totals(model, capped)
        if isinstance(fits, str) or max(fits) > memory:
            found.append(f"accepted with {memory} bytes: {fits}")
    elif done.returncode != 1 or "error: --machine=" not in done.stderr:
        found.append(f"with {memory} bytes: status {done.returncode}: {done.stderr}")
    for line in done.stderr.splitlines():
        if match := REMEDY.search(line):
            changed = compiler.totals(model, [*capped, *match[1].split()])
            if isinstance(changed, str) or max(changed) > memory or f"{max(changed) / GB:.3f}" != match[2]:
                found.append(f"'{match[0]}' with {memory} bytes: {changed}")
    if isinstance(allowed := compiler.totals(model, [*with_memory(1), "--over-memory=allow"]), str):
        found.append(f"--over-memory=allow: {allowed}")
    return [f"{fault}\n    {' '.join([model, *options])}" for fault in found]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llamac", required=True)
    parser.add_argument("--seeds", required=True, help="A-B, or one number")
    arguments = parser.parse_args()
    first, _, end = arguments.seeds.partition("-")
    compiler, wrong, refused, count = Compiler(arguments.llamac), 0, 0, 0
    for seed in range(int(first), int(end or first) + 1):
        r = random.Random(seed)
        found = None
        with tempfile.TemporaryDirectory() as folder:
            while found is None:
                found = faults(compiler, r, pathlib.Path(folder))
                refused += found is None
        count += 1
        wrong += bool(found)
        for fault in found:
            print(f"seed {seed}: {fault}", flush=True)
    print(f"{count} programs, {wrong} with faults; {refused} draws were no programs")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
