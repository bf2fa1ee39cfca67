#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Removes one order or one guard from what llamac makes for CUDA; the software GPU must report it, or the numbers must differ.

    gpu_mutants.py --build build                                           everything that is in a kernel, some events of each program and way
    gpu_mutants.py --build build --kernels 100 --events 3 --seed 7         some of it
    gpu_mutants.py --build build --programs text,sharded --keep DIR
    gpu_mutants.py --build build --record docs/gpu-mutants.md

Kernels: KERNELS are compiled and make two steps, ATTENTION are tests of unit_CudaAttention; the software GPU records every
launch (SOFTWARE_GPU_RECORD). software-gpu-mutate runs each launch by itself, each buffer an allocation of its own, without each
barrier, fence, wait, arrival and guard of its PTX, one at a time. A mutant is found if the software GPU reports it in one
launch of this code, with check `strict` too, or if the memory after it differs. The tool shows by runs that no thread comes to a
place, that a guard holds for all threads that come to it, that what a load would bring is not used. What is not needed at the
sizes of one launch (a stage that so few tiles do not fill twice) counts as found elsewhere if the same instruction of the same kernel,
the n-th of as many of its kind, is found at other sizes.

Events: EVENTS are programs on grids of ranks; each makes two steps in three WAYS. Each wait of a stream for an event is an order: between
entries, where a program begins in a stream, between a run and what is in it, where ranks that share a GPU meet. The software GPU lists them
(SOFTWARE_GPU_ORDERS) and runs the program without one (SOFTWARE_GPU_OMIT). It is found if the software GPU reports it, if a capture is refused,
if the program fails or hangs without a report, or if losses, gradients or masters are not those of the program to the bit. The run
itself shows that one is redundant: all work comes after the same work as with it.

What is not found must be redundant: gpu_mutants_redundant.json (--reasons) says which are and why; any other is a failure. A reason holds
for one place of a kernel, or as many waits as it says (`most`), and cannot cover another: it is a failure, too, if it holds for a place that is
found somewhere, for two places of one code, for more waits, or, when all has run, for none.

Exit status: 0 all found or redundant, 1 some not, or a reason is wrong, 2 wrong use. Needs nothing but Python.
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
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "numerics"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from grids import COMPILE_LIMIT, Draw, Failure, Steps, draw_batch, draw_weights, execute, expect_success  # noqa: E402
from batch import write_safetensors  # noqa: E402
from mutants import program, text_config, vision_config  # noqa: E402
from run_case import fail  # noqa: E402
from target import target_environment  # noqa: E402


@dataclasses.dataclass
class Program:
    """A model with its options, and how it is compiled for CUDA."""
    draw: Draw
    precision: str = "f32"
    chip: str = "sm_90a"
    gpus: int = 1


def one_rank(config: dict, text_length: int = 72, images: int = 0, **how) -> Program:
    """More tokens than a tile of attention has keys."""
    return Program(Draw(config, {"tp": 1, "cp": 1, "pp": 1, "dp": 1}, 2, 1, text_length, images, [], []), **how)


# Heads of 16 take the forms of attention on tensor cores.
WIDE = {"hidden_size": 64}
KERNELS = {
    "text": one_rank(text_config()),
    "text_bf16": one_rank(text_config(**WIDE), text_length=136, precision="bf16"),
    "text_sm80": one_rank(text_config(**WIDE), precision="bf16", chip="sm_80"),
    "text_f64": one_rank(text_config(), text_length=24, precision="f64"),
    "vision": one_rank(vision_config(), images=1),
    "vision_bf16": one_rank(vision_config(), images=1, precision="bf16"),
    # Ranks that share a GPU: sums of the runtime's own.
    "sums": Program(program(text_config(), 1, "", tp=2)),
    "sums_bf16": Program(program(text_config(), 1, "--fsdp=parameters", dp=2), precision="bf16"),
}
# Attention on tensor cores is removed from where its sizes fill every stage of its pipelines: in ATTENTION.
OF_PROGRAMS = r"(?!attention_\w+_(mma|hopper)(_\d+)?$).*"
# Tests of unit_CudaAttention, for every form: all stages of the pipelines; every mask, tiles that end early, rows that see nothing.
ATTENTION = {
    "attention": "Forms/CudaAttention.ManyTiles*",
    "masks": "Forms/CudaAttention.QueriesThatSeeNothing*:Forms/CudaAttention.Encoder*:Forms/CudaAttention.Images*-*/hopper",
}
EVENT_LIMIT = 100  # seconds, five times as many on the software GPU: what takes longer hangs, on a machine with much else to do too
LAST_LAYERS = "--trainable=*mlp.down_proj.weight,*lm_head.weight"
EVENTS = {
    "pipeline": program(text_config(), 3, "", pp=2),
    "zero_bubble": program(text_config(), 4, "--schedule=zero-bubble", pp=2),
    "interleaved": program(text_config(), 4, "--schedule=interleaved --virtual-stages=2", pp=2),
    "first_stage": program(vision_config(), 2, "--encoder=first-stage --schedule=gpipe", pp=2),
    "replicated": program(vision_config(), 2, "--encoder-shard=images", pp=2),
    "tensor": program(vision_config(), 2, "", tp=2),
    "context": program(vision_config(), 2, "--encoder-shard=images --recompute=selective", batch=2, cp=2),
    "sharded": program(text_config(), 2, "--fsdp=parameters", dp=2),
    "adapter": program(vision_config(), 2, "--fsdp=optimizer --encoder-shard=tokens --encoder-axes=tp",
                       model_options="--trainable=adapter", tp=2, dp=2),
    "frozen": program(text_config(), 2, "--fsdp=gradients --recompute=full", model_options=LAST_LAYERS, dp=2),
}
EVENTS = {name: Program(draw) for name, draw in EVENTS.items()}


@dataclasses.dataclass
class Reason:
    """Why a place may be removed without harm. Regular expressions say which: `kernel` the whole name of the kernel (the program, of an event);
    `around` the opcodes before and behind, moves left out, the place itself is `*` (an event: what the two entries do)."""
    kernel: str
    kind: str
    around: str
    why: str
    number: str = ""  # among the places of this kind in the kernel, "4/5"; empty: `around` is enough
    most: int = 1  # how many places it holds for, of an event

    def holds(self, mutant: dict) -> bool:
        return bool(mutant["kind"] == self.kind and re.fullmatch(self.kernel, mutant["kernel"]) and
                    self.number in ("", f"{mutant.get('number')}/{mutant.get('of')}") and re.search(self.around, mutant["around"]))

    def __str__(self) -> str:
        return f"reason for {self.kind} of {self.kernel}, around {self.around}"


def read_reasons(file: pathlib.Path) -> list[Reason]:
    try:
        reasons = [Reason(**reason) for reason in json.loads(file.read_text())]
        for reason in reasons:
            re.compile(reason.kernel), re.compile(reason.around)
        return reasons
    except (OSError, ValueError, TypeError, re.error) as error:
        fail(f"--reasons: {file}: expected a list of objects with kernel, kind, around and why: {error}")


# ----------------------------------------------------------------------------------------------------------------------
# Programs


def build(name: str, program: Program, arguments: argparse.Namespace) -> pathlib.Path:
    """The executable, beside its weights and its batch."""
    folder = arguments.keep / name
    folder.mkdir(parents=True, exist_ok=True)
    config, draw, llamac = folder / "config.json", program.draw, str(arguments.build / "bin/llamac")
    config.write_text(json.dumps(draw.config))
    command = draw.compile_command(llamac, config, folder / name, True, program.precision)
    if program.precision == "f64":
        command.append("--lower=reference")
    expect_success(execute(command + ["--target=cuda", f"--chip={program.chip}"], COMPILE_LIMIT))
    model = expect_success(execute([llamac, "import", str(config), "-o", "-"], COMPILE_LIMIT))
    r = random.Random(arguments.seed)
    write_safetensors(folder / "weights.safetensors", draw_weights(r, model))
    write_safetensors(folder / "batch.safetensors", draw_batch(r, draw))
    return folder / name


def environment_of(program: Program, arguments: argparse.Namespace) -> dict[str, str]:
    options = argparse.Namespace(target="cuda", chip=program.chip, software_gpu=str(arguments.build / "lib/software-gpu"),
                                 gpus=program.gpus, gpu_seed=1)
    # The choice of products is their own: other programs change that of the user meanwhile.
    return target_environment(options) | {"SOFTWARE_GPU_TIMEOUT": "20", "XDG_CACHE_HOME": str(arguments.keep / "cache")}


# ----------------------------------------------------------------------------------------------------------------------
# Kernels


def record(name: str, arguments: argparse.Namespace) -> pathlib.Path:
    """The recording of a program, or of tests of attention."""
    file = arguments.keep / f"{name}.recording"
    file.unlink(missing_ok=True)
    recording = {"SOFTWARE_GPU_RECORD": str(file), "SOFTWARE_GPU_CHECKS": "all,strict"}
    if name in ATTENTION:
        command = [str(arguments.build / "test/unit_CudaAttention"), f"--gtest_filter={ATTENTION[name]}"]
        result = execute(command, COMPILE_LIMIT, os.environ | recording | {"SOFTWARE_GPU_CHIP": "sm_90"})
        expect_success(result)
        said = result.stderr
    else:
        executable = build(name, KERNELS[name], arguments)
        said = Steps(executable, executable.parent, environment=environment_of(KERNELS[name], arguments) | recording).said
    for left_out in re.findall(r"SOFTWARE_GPU_RECORD: (kernel .*)", said):
        print(f"{name}: {left_out}", flush=True)
    return file


def mutate_kernels(names: list[str], arguments: argparse.Namespace) -> list[dict]:
    recordings = [record(name, arguments) for name in names]
    places, tool = [], str(arguments.build / "tools/software-gpu/software-gpu-mutate")
    for title, kernels, of in (("programs", OF_PROGRAMS, KERNELS), ("attention", ".*", ATTENTION)):
        files = [str(file) for file in recordings if file.stem in of]
        command = [tool, "--jobs", str(arguments.jobs), "--seconds", "120", "--seed", str(arguments.seed), "--kernels", kernels]
        if arguments.kernels:
            command += ["--mutants", str(arguments.kernels)]
        if files:
            outcomes = arguments.keep / f"{title}.jsonl"
            with outcomes.open("w") as file:
                status = subprocess.run(command + files, stdout=file).returncode
            if status not in (0, 1):
                raise Failure(f"software-gpu-mutate: exit status {status}")
            places += read_outcomes(outcomes)
    return places


def read_outcomes(file: pathlib.Path) -> list[dict]:
    """Of software-gpu-mutate."""
    # The same place in several launches of one code: found in one is found.
    order = ["reported", "differs", "hangs", "fails", "missed", "unused", "idle", "unreached"]
    places: dict[tuple, dict] = {}
    for line in map(json.loads, file.read_text().splitlines()):
        mutant = {key: line[key] for key in ("kind", "kernel", "number", "of", "around", "code", "outcome")}
        mutant |= {"where": f"{pathlib.Path(line['file']).stem}: {line['kernel']}:{line['line']}",
                   "text": " ".join(line["text"].split()), "check": line.get("check", "")}
        known = places.setdefault((line["code"], line["at"]), mutant)
        if order.index(mutant["outcome"]) < order.index(known["outcome"]):
            known.update(mutant)
    return list(places.values())


# ----------------------------------------------------------------------------------------------------------------------
# Events


@dataclasses.dataclass
class Way:
    """How the ranks of a program run: GPUs, options, the environment."""
    name: str
    gpus: int
    options: tuple[str, ...] = ()


# Ranks that share a GPU meet in the runtime; of those with one each, by NCCL, the second step is a graph. What this has recorded is one place.
WAYS = [Way("one GPU", 1), Way("GPU each", 4), Way("no graph", 4, ("--graph=off",))]


def list_orders(executable: pathlib.Path, way: Way, environment: dict) -> tuple[list[str], list]:
    """The names of all orders of two steps, and what the steps give."""
    file = executable.with_suffix(".orders")
    for _ in range(2):  # the first run may measure products: other work before the steps
        file.unlink(missing_ok=True)
        got = Steps(executable, executable.parent, environment=environment | {"SOFTWARE_GPU_ORDERS": str(file)}, options=way.options)
    # Ranks that share a GPU come in any order: sorted by numbers.
    numbers = lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]  # noqa: E731
    return sorted(set(file.read_text().splitlines()), key=numbers), got.bits


def outcome_of(executable: pathlib.Path, folder: pathlib.Path, want: list, environment: dict, options: tuple[str, ...] = ()) -> tuple[str, str]:
    """How a mutant was found, by what check; `missed` if it was not."""
    try:
        got = Steps(executable, folder, environment=environment, limit=EVENT_LIMIT, options=options)
    except Failure as failure:
        text = str(failure)
        if "SOFTWARE_GPU_OMIT=" in text:  # it has no such order
            raise
        checks = re.findall(r"^software-gpu: ([a-z-]+): ", text, re.M)
        if "exit status 86" not in text:  # the program gave up by itself: after a report, or it is to blame, and frees nothing
            checks = [check for check in checks if check != "leak"]
        if checks:
            return "reported", checks[0]
        return ("hangs" if "not done" in text else "fails"), ""
    if got.bits != want:
        return "differs", ""
    enough = re.search(r"^software-gpu: left out: other orders (and waits of the host )?are enough", got.said, re.M)
    return ("host" if enough[1] else "orders") if enough else "missed", ""


def without(order: str, way: Way, executable: pathlib.Path, want: list, environment: dict) -> tuple[str, str]:
    """What came of a program without one of its orders, with one of two seeds: with another the host may have waited for less."""
    worst = "host"
    # The launches are the same: check `stream` is to find it, in a third of the time. What it does not find all of them look at.
    for seed, checks in ((1, "stream"), (2, "stream"), (1, "all"), (2, "all")):
        with tempfile.TemporaryDirectory(dir=executable.parent) as temporary:
            place = pathlib.Path(temporary)
            for file in (executable.name, "weights.safetensors", "batch.safetensors"):
                (place / file).symlink_to(executable.parent / file)
            mutant = {"SOFTWARE_GPU_OMIT": order, "SOFTWARE_GPU_SEED": str(seed), "SOFTWARE_GPU_CHECKS": checks}
            how, check = outcome_of(place / executable.name, place, want, environment | mutant, way.options)
        if how not in ("missed", "host"):
            return how, check
        worst = max(worst, how)
    return worst, ""


def mutate_program(name: str, arguments: argparse.Namespace) -> list[dict]:
    program, r = EVENTS[name], random.Random(f"{arguments.seed} {name}")
    executable = build(name, program, arguments)
    mutants, seen = [], set()
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for way in WAYS:
            environment = environment_of(dataclasses.replace(program, gpus=way.gpus), arguments)
            orders, want = list_orders(executable, way, environment)
            if way.options:  # the first step is the same
                orders = [order for order in orders if order not in seen]
            seen |= set(orders)
            chosen = r.sample(orders, min(len(orders), arguments.events)) if arguments.events else orders
            found = list(pool.map(lambda order: without(order, way, executable, want, environment), chosen))
            print(f"{name}, {way.name}: {len(orders)} orders, {len(chosen)} removed", flush=True)
            for order, (how, check) in zip(chosen, found):
                mutants.append({"kind": "event", "where": f"{name}, {way.name}", "kernel": name, "text": order,
                                "around": f"{way.name}: {order}", "outcome": how, "check": check})
    return mutants


# ----------------------------------------------------------------------------------------------------------------------
# What came of it


def family_of(mutant: dict) -> str:
    kernel = mutant["kernel"]
    if mutant["kind"] == "event":
        return f"programs on grids, {mutant['where'].split(', ')[1]}"
    if form := re.fullmatch(r"attention_\w+_(plain|mma|hopper)(?:_\d+)?", kernel):
        return f"attention, {form[1]}"
    if kernel.startswith("attention_"):
        return "attention, masks and rows"
    if kernel.startswith("sum_"):
        return "sums of ranks that share a GPU"
    if kernel.endswith("_list") or kernel.startswith(("embedding_", "add_extra")):
        return "sums by index, gathers"
    if "_weight_loop" in kernel or kernel.endswith("_sum") or kernel.startswith("gradient_norm"):
        return "sums over rows and over all"
    return "rows and elementwise"


FOUND = ["reported", "differs", "hangs", "fails"]
# What the run itself shows.
SHOWN = {
    "unused": "The guard keeps back loads alone, and what they would bring is not used: with NaNs in its place the memory is the same.",
    "idle": "The guard holds for every thread that comes to it, or the wait is over for every thread: sizes are constants.",
    "orders": "Without it all work comes after the same work: by streams, by other events.",
    "host": "Without it all work comes after the same work, as the host has waited before it went on.",
}


def judge(found: list[dict], reasons: list[Reason], whole: bool) -> list[str]:
    """Turns what is missed into `elsewhere` and `redundant`; returns what is wrong with the reasons. `whole`: nothing was left out."""
    same = lambda mutant: (mutant["kernel"], mutant["kind"], mutant["number"], mutant["of"], mutant["text"].split()[0])  # noqa: E731
    kernels = [mutant for mutant in found if mutant["kind"] != "event"]
    seen = {same(mutant): mutant["where"] for mutant in kernels if mutant["outcome"] in FOUND}
    for mutant in kernels:
        if mutant["outcome"] == "missed" and same(mutant) in seen:
            mutant |= {"outcome": "elsewhere", "why": f"found in {seen[same(mutant)]}"}
    wrong = []
    for reason in reasons:
        mine = [mutant for mutant in found if reason.holds(mutant)]
        for mutant in mine:
            if mutant["outcome"] in [*FOUND, "elsewhere"]:
                wrong.append(f"{reason}: it holds for a place that is found: {mutant['where']}")
        places = collections.Counter((mutant["kernel"], mutant["code"]) for mutant in mine if mutant["kind"] != "event")
        wrong += [f"{reason}: it holds for {count} places of {kernel}" for (kernel, _), count in places.items() if count > 1]
        if (events := sum(mutant["kind"] == "event" and mutant["outcome"] in ("missed", "host") for mutant in mine)) > reason.most:
            wrong.append(f"{reason}: it holds for {events} places, expected at most {reason.most}")
        missed = [mutant for mutant in mine if mutant["outcome"] == "missed"]
        if whole and not missed:
            wrong.append(f"{reason}: it holds for nothing that is missed")
        for mutant in missed:
            mutant |= {"outcome": "redundant", "why": reason.why}
    return wrong


def table(rows: list[list], aligned: str) -> str:
    head, *body = rows
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in [head, list(aligned.split()), *body]) + "\n"


def report(found: list[dict], arguments: argparse.Namespace, whole: bool) -> str:
    """The figures of a run as a page."""
    outcomes = [*FOUND, "elsewhere", "redundant", "missed"]
    of = lambda mutant: "redundant" if mutant["outcome"] in SHOWN else mutant["outcome"]  # noqa: E731
    reached = [mutant for mutant in found if mutant["outcome"] != "unreached"]

    def counted(title: str, key) -> str:
        names = sorted({key(mutant) for mutant in reached})
        rows = [[title, "mutants", *outcomes]]
        for name in [*names, "all"]:
            mine = [mutant for mutant in reached if name in ("all", key(mutant))]
            rows.append([name, len(mine), *(sum(of(mutant) == outcome for mutant in mine) or "" for outcome in outcomes)])
        return table(rows, "---" + " ---:" * (len(outcomes) + 1))

    checks = collections.Counter(mutant["check"] for mutant in reached if mutant["outcome"] == "reported")
    why = collections.defaultdict(list)
    for mutant in reached:
        if of(mutant) == "redundant":
            why[mutant.get("why") or SHOWN[mutant["outcome"]], mutant["outcome"] in SHOWN].append(mutant)
    rows = [["mutants", "kind", "why nothing tells of it", "shown by", "for example"]]
    for (reason, shown), mine in sorted(why.items(), key=lambda item: -len(item[1])):
        kinds = ", ".join(sorted({mutant["kind"] for mutant in mine}))
        rows.append([len(mine), kinds, reason, "the run" if shown else "reading",
                     f"`{mine[0]['where']}`: `{mine[0]['text']}`".replace("|", "\\|")])
    missed = [f"- {mutant['kind']} of {mutant['where']}: `{mutant['text']}`" for mutant in found if mutant["outcome"] == "missed"]
    options = f"--build build --events {arguments.events} --record docs/gpu-mutants.md"
    if arguments.outcomes:
        options = "--build build --outcomes FILE... --record docs/gpu-mutants.md"
    elif not whole:
        options += f" --programs {arguments.programs} --kernels {arguments.kernels} --seed {arguments.seed}"
    return "\n".join([
        "# Mutants of kernels and programs for CUDA", "",
        "One barrier, fence, wait, arrival or guard [of a kernel](software-gpu.md#one-order-removed), or one event "
        "[of streams](software-gpu.md#one-order-of-streams-removed), removed at a time, on the software GPU.",
        f"Made by `test/properties/gpu_mutants.py {options}`" + (" from the outcomes of earlier runs." if arguments.outcomes else ".") +
        " The script says what is removed and when a mutant",
        "counts as found. `elsewhere`: the sizes of this launch do not need it, and the same instruction of the same kernel is found at other sizes. "
        f"Places that no thread comes to ({len(found) - len(reached)}) are not counted.", "",
        counted("kernels of", family_of), counted("kind", lambda mutant: mutant["kind"]),
        "Reported by: " + ", ".join(f"`{check}` {count}" for check, count in checks.most_common()) + ".", "",
        "## Redundant",
        "`reading`: of the code. gpu_mutants_redundant.json has the place and the reason; a reason that holds for another place too fails the run.", "",
        table(rows, "---: --- --- --- ---"), *(["## Missed", *missed, ""] if missed else [])])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, required=True, help="the build folder")
    parser.add_argument("--kernels", type=int, default=0, help="mutants of kernels of programs, as many of tests of attention, drawn (0: all)")
    parser.add_argument("--events", type=int, default=20, help="mutants of each program's events in each way, drawn; 0: all (20)")
    names = [*ATTENTION, *KERNELS, *EVENTS]
    parser.add_argument("--programs", default=",".join(names), help="some of " + ", ".join(names))
    parser.add_argument("--seed", type=int, default=1, help="of the draws (1)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="mutants that run at once")
    parser.add_argument("--keep", type=pathlib.Path, help="folder to leave programs and recordings in; default temporary")
    parser.add_argument("--outcomes", type=pathlib.Path, nargs="*", default=[],
                        help="mutants.json, kernels.jsonl of earlier runs with --keep: takes what they found, and runs nothing")
    parser.add_argument("--reasons", type=pathlib.Path, default=pathlib.Path(__file__).with_name("gpu_mutants_redundant.json"),
                        help="what is redundant, and why (gpu_mutants_redundant.json)")
    parser.add_argument("--record", type=pathlib.Path, help="file to write the figures into, as Markdown")
    arguments = parser.parse_args()
    chosen = arguments.programs.split(",")
    for name in chosen:
        if name not in names:
            fail(f"--programs: expected some of {', '.join(names)}, got {name}")
    arguments.build = arguments.build.absolute()
    reasons, whole = read_reasons(arguments.reasons), set(chosen) == set(names) and not arguments.kernels and not arguments.outcomes
    with tempfile.TemporaryDirectory() as temporary:
        arguments.keep = (arguments.keep or pathlib.Path(temporary)).resolve()
        arguments.keep.mkdir(parents=True, exist_ok=True)
        found = []
        for file in arguments.outcomes:
            found += read_outcomes(file) if file.suffix == ".jsonl" else json.loads(file.read_text())
        if not arguments.outcomes:
            kernels = [name for name in chosen if name not in EVENTS]
            found += mutate_kernels(kernels, arguments) if kernels else []
            for name in chosen:
                if name in EVENTS:
                    found += mutate_program(name, arguments)
                (arguments.keep / "mutants.json").write_text(json.dumps(found, indent=1))
    wrong = judge(found, reasons, whole)
    if arguments.record:
        arguments.record.write_text(report(found, arguments, whole))
    for (kind, outcome), count in sorted(collections.Counter((m["kind"], m["outcome"]) for m in found).items()):
        print(f"{count:5} {kind:8} {outcome}")
    missed = [mutant for mutant in found if mutant["outcome"] == "missed"]
    for mutant in missed:
        print(f"missed: {mutant['kind']} {mutant['where']}: {mutant['text']}\n  around {mutant['around']}")
    for line in wrong:
        print(line)
    print(f"{len(found)} mutants, {len(missed)} missed" + (f", {len(wrong)} wrong reasons" if wrong else ""))
    return 1 if missed or wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        fail(str(failure), 1)
