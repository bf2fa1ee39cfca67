#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Removes one order or one guard from a CUDA executable; the software GPU must report it, or its numbers must differ.

    gpu_mutants.py --llamac build/bin/llamac --software-gpu build/lib/software-gpu --mutants 300
    gpu_mutants.py ... --programs text --kinds barrier,event --seed 7 --keep DIR

An executable holds its kernels as PTX and its program as JSON, both as text. A mutant is the executable with a few of these
bytes blanked:

    barrier   bar.sync, barrier.sync, barrier.cluster.*, bar.warp.sync
    fence     fence.*, membar.*, wgmma.fence
    wait      cp.async.wait_*, cp.async.bulk.wait_group*, wgmma.wait_group; an mbarrier.try_wait with the branch back to it
    guard     the predicate of a store; a branch that jumps forward over code that stores. (Without a guard of loads alone a
              thread loads more, and what it loads is reported if it lies outside, and is not used if the numbers are the same: as
              sizes and addresses are constant, one run proves that such a guard is redundant. They are left out.)
    event     one of the actions that an entry or an item of the program comes after

Each of PROGRAMS is compiled for its chip and makes two steps. Then mutants are drawn, each kind as often, and run with the same
seed of the software GPU. A mutant is found if the software GPU reports it (status 86), if it fails or hangs otherwise, or if
losses, gradients or masters are not those of the program to the bit. Kernels that the program never launches have none. One that is not found must be redundant: REDUNDANT says
which are and why; any other is a failure. A guard that nothing in the program's sizes can fail is redundant by itself.

Exit status: 0 all found or redundant, 1 some not, 2 wrong use. Needs nothing but Python.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import random
import re
import stat
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "numerics"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from grids import COMPILE_LIMIT, Draw, Failure, Steps, draw_batch, draw_weights, execute, expect_success  # noqa: E402
from batch import write_safetensors  # noqa: E402
from mutants import text_config, vision_config  # noqa: E402
from run_case import fail  # noqa: E402
from target import target_environment  # noqa: E402

KINDS = ["barrier", "fence", "wait", "guard", "event"]

# What may be removed without harm: kind, what its line says, a word of the kernel's name, and why.
REDUNDANT: list[tuple[str, str, str, str]] = [
    ("fence", r"wgmma\.fence", "attention_", "the registers of these products get their first values in front of the fence; that is right to the letter of the "
     "ISA only with it, but ptxas puts one there, and the software GPU lets it pass, because nvcc and Triton leave it out"),
]


@dataclasses.dataclass
class Program:
    """A model, its options and the chip that it is compiled for."""
    config: dict
    chip: str = "sm_90a"
    precision: str = "f32"
    grid: dict = dataclasses.field(default_factory=lambda: {"tp": 1, "cp": 1, "pp": 1, "dp": 1})
    options: tuple = ()
    images: int = 0
    micro_batches: int = 2
    text_length: int = 72  # more than one tile of keys


def on_grid(**sizes) -> dict:
    return {"tp": 1, "cp": 1, "pp": 1, "dp": 1} | sizes


# Heads of 16 take the forms of attention on tensor cores.
WIDE = {"hidden_size": 64}

PROGRAMS = {
    "text": Program(text_config()),
    "text_bf16": Program(text_config(**WIDE), precision="bf16", text_length=136),
    "text_sm80": Program(text_config(**WIDE), precision="bf16", chip="sm_80"),
    "text_f64": Program(text_config(), precision="f64", micro_batches=1),
    "recompute": Program(text_config(), options=("--recompute=full",)),
    "vision": Program(vision_config(), images=1),
    "vision_bf16": Program(vision_config(), precision="bf16", images=1),
    "tensor": Program(text_config(), grid=on_grid(tp=2)),
    "pipeline": Program(text_config(), grid=on_grid(pp=2), options=("--schedule=1f1b",), micro_batches=4),
    "sharded": Program(text_config(), grid=on_grid(dp=2), options=("--fsdp=parameters",)),
}


@dataclasses.dataclass
class Mutant:
    kind: str
    where: str  # kernel and line of the PTX, or the place in the program
    text: str  # what is removed
    begin: int
    end: int


# ----------------------------------------------------------------------------------------------------------------------
# Where a mutant can be


def kernel_sites(data: bytes, launched: set[str]) -> list[Mutant]:
    """Of all PTX texts in an executable, for kernels that are launched."""
    found = []
    for image in re.finditer(rb"\.version \d+\.\d+\n[^\0]*", data):
        lines, kernel, labels = [], "", {}
        position = image.start()
        for number, line in enumerate(image.group().split(b"\n")):
            text = line.decode("latin-1")
            if entry := re.search(r"\.entry\s+([\w$.]+)", text):
                kernel = entry[1]
            if label := re.match(r"\s*(\$?[\w$]+):", text):
                labels[label[1]] = number
            lines.append((position, text, kernel))
            position += len(line) + 1
        for number, (start, text, kernel) in enumerate(lines):
            if kernel in launched and (site := kernel_site(lines, number, text, labels)):
                kind, begin, end = site
                found.append(Mutant(kind, f"{kernel}:{number + 1}", text.strip(), start + begin, start + end))
    return found


def kernel_site(lines: list, number: int, text: str, labels: dict[str, int]) -> tuple[str, int, int] | None:
    """Kind, and the part of the line that goes."""
    instruction = re.match(r"\s*(@!?%?\w+\s+)?([a-z][\w.:]*)[^;]*;", text)
    if not instruction:
        return None
    begin, end, opcode = instruction.start(2), instruction.end(), instruction[2]
    begin = instruction.start(1) if instruction[1] else begin
    if re.match(r"bar\.(sync|warp)|barrier\.(cta\.)?sync|barrier\.cluster", opcode):
        return "barrier", begin, end
    if re.match(r"fence|membar|wgmma\.fence", opcode):
        return "fence", begin, end
    if re.match(r"cp\.async\.(bulk\.)?wait|wgmma\.wait", opcode):
        return "wait", begin, end
    if not instruction[1]:
        return None
    if re.match(r"(st|red|atom)\b", opcode):
        return "guard", instruction.start(1), instruction.end(1)
    if opcode.startswith("bra"):
        target = labels.get(re.search(r"(\$?[\w$]+)\s*;", text)[1])
        if target is None:
            return None
        if target > number:
            stores = any(re.search(r"\b(st|red|atom)\.(global|shared)", line) for _, line, _ in lines[number + 1:target])
            return ("guard", begin, end) if stores else None
        for back in range(target, number):  # all of the wait, from the first try to the branch
            if number - target < 8 and (tried := re.search(r"mbarrier\.try_wait", lines[back][1])):
                return "wait", lines[back][0] - lines[number][0] + tried.start(), end
    return None


def event_sites(data: bytes) -> list[Mutant]:
    found = []
    for after in re.finditer(rb'"after":\s*\[([\d,\s]+)\]', data):
        numbers = list(re.finditer(rb"\d+", after[1]))
        for i, number in enumerate(numbers):
            begin, end = after.start(1) + number.start(), after.start(1) + number.end()
            if len(numbers) > 1:  # the comma before it, or behind the first
                begin, end = (begin - 1, end) if i else (begin, end + 1)
            context = data[max(0, after.start() - 60):after.start()].decode("latin-1")
            found.append(Mutant("event", context.rsplit("{", 1)[-1], after.group().decode(), begin, end))
    return found


# ----------------------------------------------------------------------------------------------------------------------
# Runs


def build(name: str, program: Program, arguments: argparse.Namespace, folder: pathlib.Path) -> pathlib.Path:
    """The executable, beside its weights and its batch."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(program.config))
    draw = Draw(program.config, program.grid, 2, program.micro_batches, program.text_length, program.images, [],
                list(program.options))
    command = draw.compile_command(arguments.llamac, folder / "config.json", folder / name, True, program.precision)
    if program.precision == "f64":
        command.append("--lower=reference")
    expect_success(execute(command + ["--target=cuda", f"--chip={program.chip}"], COMPILE_LIMIT))
    model = expect_success(execute([arguments.llamac, "import", str(folder / "config.json"), "-o", "-"], COMPILE_LIMIT))
    r = random.Random(arguments.seed)
    write_safetensors(folder / "weights.safetensors", draw_weights(r, model))
    write_safetensors(folder / "batch.safetensors", draw_batch(r, draw))
    return folder / name


def environment_of(program: Program, arguments: argparse.Namespace) -> dict[str, str] | None:
    options = argparse.Namespace(target="cuda", chip=program.chip, software_gpu=arguments.software_gpu, gpus=1,
                                 gpu_seed=arguments.gpu_seed)
    environment = target_environment(options)
    return environment | {"SOFTWARE_GPU_TIMEOUT": "20"} if environment else None


def run_mutant(mutant: Mutant, data: bytes, executable: pathlib.Path, want: tuple, environment: dict) -> str:
    """How it was found; empty if it was not."""
    with tempfile.TemporaryDirectory(dir=executable.parent) as temporary:
        place = pathlib.Path(temporary)
        for file in ("weights.safetensors", "batch.safetensors"):
            (place / file).symlink_to(executable.parent / file)
        copy = place / executable.name
        copy.write_bytes(data[:mutant.begin] + b" " * (mutant.end - mutant.begin) + data[mutant.end:])
        copy.chmod(copy.stat().st_mode | stat.S_IXUSR)
        try:
            got = Steps(copy, place, environment=environment)
        except Failure as failure:
            return "reported" if "exit status 86" in str(failure) else "hangs" if "not done" in str(failure) else "fails"
        return "" if got.bits == want else "differs"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llamac", required=True, help="the compiler")
    parser.add_argument("--software-gpu", required=True, help="folder of the software GPU's libraries")
    parser.add_argument("--mutants", type=int, default=300, help="how many, of all programs together (300)")
    parser.add_argument("--programs", default=",".join(PROGRAMS), help="some of " + ", ".join(PROGRAMS))
    parser.add_argument("--kinds", default=",".join(KINDS), help="some of " + ", ".join(KINDS))
    parser.add_argument("--seed", type=int, default=1, help="of the draws (1)")
    parser.add_argument("--gpu-seed", type=int, default=1, help="of the software GPU (1)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="mutants that run at once")
    parser.add_argument("--keep", type=pathlib.Path, help="folder to leave programs in; default temporary")
    arguments = parser.parse_args()
    names, kinds = arguments.programs.split(","), arguments.kinds.split(",")
    for value, known, option in [(n, PROGRAMS, "programs") for n in names] + [(k, KINDS, "kinds") for k in kinds]:
        if value not in known:
            fail(f"--{option}: expected some of {', '.join(known)}, got {value}")

    counts, missed, redundant = collections.Counter(), [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or pathlib.Path(temporary)
        for number, name in enumerate(names):
            program, r = PROGRAMS[name], random.Random(f"{arguments.seed} {name}")
            executable = build(name, program, arguments, folder / name)
            data = executable.read_bytes()
            environment = environment_of(program, arguments)
            counters = executable.parent / "counters.jsonl"
            counters.unlink(missing_ok=True)
            counting = environment | {"SOFTWARE_GPU_COUNTERS": str(counters)}
            want = Steps(executable, executable.parent, environment=counting).bits
            launched = set(re.findall(r'"kernel":\s*"([^"]+)"', counters.read_text()))
            sites = collections.defaultdict(list)
            for site in kernel_sites(data, launched) + event_sites(data):
                sites[site.kind].append(site)
            print(f"{name}: {len(launched)} kernels, " + ", ".join(f"{len(sites[kind])} of kind {kind}" for kind in KINDS),
                  flush=True)
            share = arguments.mutants * (number + 1) // len(names) - arguments.mutants * number // len(names)
            chosen, pools = [], {kind: r.sample(sites[kind], len(sites[kind])) for kind in kinds}
            while len(chosen) < share and any(pools.values()):
                for kind in kinds:
                    if pools[kind] and len(chosen) < share:
                        chosen.append(pools[kind].pop())
            with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
                found = pool.map(lambda mutant: run_mutant(mutant, data, executable, want, environment), chosen)
                for mutant, how in zip(chosen, found):
                    reason = next((why for kind, text, kernel, why in REDUNDANT if kind == mutant.kind and
                                   re.search(text, mutant.text) and kernel in mutant.where), None)
                    how = how or ("redundant" if reason else "MISSED")
                    counts[mutant.kind, how] += 1
                    if how == "MISSED":
                        missed.append(mutant)
                        print(f"  missed in {name}: {mutant.kind} {mutant.where}: {mutant.text}", flush=True)
    for (kind, how), count in sorted(counts.items()):
        print(f"{count:5} {kind:8} {how}")
    print(f"{sum(counts.values())} mutants, {len(missed)} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
