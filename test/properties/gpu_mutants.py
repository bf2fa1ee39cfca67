#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Removes one order or one guard from what llamac makes for CUDA; the software GPU must report it, or the numbers must differ.

    gpu_mutants.py --build build                                           everything that is in a kernel, some events of each program
    gpu_mutants.py --build build --kernels 100 --events 3 --seed 7         some of it
    gpu_mutants.py --build build --programs text,issue --keep DIR
    gpu_mutants.py --build build --record docs/gpu-mutants.md

Kernels: KERNELS are compiled and make two steps, ATTENTION are tests of unit_CudaAttention; the software GPU records every
launch (SOFTWARE_GPU_RECORD). software-gpu-mutate runs each launch by itself, each buffer an allocation of its own, without each
barrier, fence, wait, arrival and guard of its PTX, one at a time. A mutant is found if the software GPU reports it in one
launch of this code, with check `strict` too, or if the memory after it differs. That no thread comes to a place, or that a guard holds
for all threads that come to it, is shown by the tool with a trap in its place.

Events: EVENTS are programs on grids of ranks. Each order that the program states between its entries (`after` in the executable's
JSON) is removed in a copy of the executable, which makes two steps. It is found if the software GPU reports it (status 86), if
it fails or hangs otherwise, or if losses, gradients or masters are not those of the program to the bit.

What is not found must be redundant: REDUNDANT says which are and why; any other is a failure. Not all of it has been run through yet: docs/gpu-mutants.md.

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
}
# Tests of unit_CudaAttention, for every form: all stages of the pipelines; every mask, tiles that end early, rows that see nothing.
ATTENTION = {
    "attention": "Forms/CudaAttention.ManyTiles*",
    "masks": "Forms/CudaAttention.QueriesThatSeeNothing*:Forms/CudaAttention.Encoder*:Forms/CudaAttention.Images*",
}
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
# Ranks that share a GPU, and ranks with one each, by NCCL.
EVENTS = {name: Program(draw, gpus=(1, 4)[number % 2]) for number, (name, draw) in enumerate(EVENTS.items())}


@dataclasses.dataclass
class Reason:
    """What may be removed without harm: kind, what the text says, where (program: kernel:line); and why."""
    kind: str
    text: str
    where: str
    why: str

    def holds(self, mutant: dict) -> bool:
        return bool(re.search(self.kind, mutant["kind"]) and re.search(self.text, mutant["text"]) and
                    re.search(self.where, mutant["where"]))


SHORT = r"^(text_bf16|vision_bf16|masks): attention_\w+_hopper"
REDUNDANT = [
    Reason("wait", r"wgmma\.commit_group", r": attention_\w+_hopper", "another commit_group comes before the wait for these products, and "
           "takes them in"),
    Reason("arrival", r"mbarrier\.init", SHORT, "so few tiles do not come to this stage of the pipeline: nobody touches its mbarrier"),
    Reason("barrier", r"bar.sync 0", r": embedding_backward_weight_\w+_list", "it keeps the next chunk of indices from this one's readers, "
           "and behind the last chunk there is no next one: LLVM has unrolled the loop"),
]

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
    return target_environment(options) | {"SOFTWARE_GPU_TIMEOUT": "20"}


# ----------------------------------------------------------------------------------------------------------------------
# Kernels


def record(name: str, arguments: argparse.Namespace) -> pathlib.Path:
    """The recording of a program, or of tests of attention."""
    file = arguments.keep / f"{name}.recording"
    file.unlink(missing_ok=True)
    recording = {"SOFTWARE_GPU_RECORD": str(file), "SOFTWARE_GPU_CHECKS": "all,strict"}
    if name in ATTENTION:
        command = [str(arguments.build / "test/unit_CudaAttention"), f"--gtest_filter={ATTENTION[name]}"]
        expect_success(execute(command, COMPILE_LIMIT, os.environ | recording | {"SOFTWARE_GPU_CHIP": "sm_90"}))
    else:
        executable = build(name, KERNELS[name], arguments)
        Steps(executable, executable.parent, environment=environment_of(KERNELS[name], arguments) | recording)
    return file


def mutate_kernels(names: list[str], arguments: argparse.Namespace) -> list[dict]:
    recordings = [str(record(name, arguments)) for name in names]
    command = [str(arguments.build / "tools/software-gpu/software-gpu-mutate"), "--jobs", str(arguments.jobs), "--seconds", "300",
               "--seed", str(arguments.seed)]
    if arguments.kernels:
        command += ["--mutants", str(arguments.kernels)]
    outcomes = arguments.keep / "kernels.jsonl"
    with outcomes.open("w") as file:
        status = subprocess.run(command + recordings, stdout=file).returncode
    if status not in (0, 1):
        raise Failure(f"software-gpu-mutate: exit status {status}")
    return read_outcomes(outcomes)


def read_outcomes(file: pathlib.Path) -> list[dict]:
    """Of software-gpu-mutate."""
    # The same place in several launches of one code: found in one is found.
    order = ["reported", "differs", "hangs", "fails", "missed", "unused", "idle", "unreached"]
    places: dict[tuple, dict] = {}
    for line in map(json.loads, file.read_text().splitlines()):
        mutant = {"kind": line["kind"], "where": f"{pathlib.Path(line['file']).stem}: {line['kernel']}:{line['line']}", "kernel": line["kernel"],
                  "text": " ".join(line["text"].split()), "outcome": line["outcome"], "check": line.get("check", "")}
        known = places.setdefault((line["code"], line["at"]), mutant)
        if order.index(mutant["outcome"]) < order.index(known["outcome"]):
            known.update(mutant)
    return list(places.values())


# ----------------------------------------------------------------------------------------------------------------------
# Events


@dataclasses.dataclass
class Event:
    """Entry `later` of a program comes after entry `earlier`: bytes of the executable that say so."""
    where: str
    text: str
    begin: int
    end: int
    implied: bool  # other orders lead from one to the other


def event_sites(data: bytes) -> list[Event]:
    lists = list(re.finditer(rb'"after":\s*\[([\d,\s]+)\]', data))
    if not lists:
        return []
    begin = data.rindex(b'{"version":', 0, lists[0].start())
    stages = json.JSONDecoder().raw_decode(data[begin:data.index(b"\0", begin)].decode())[0]["stages"]
    programs = [((number, name), entries) for number, stage in enumerate(stages) for name, entries in stage["programs"].items()]
    places = [(*key, later) for key, entries in programs for later, entry in enumerate(entries) if entry.get("after")]
    if len(places) != len(lists):
        raise Failure(f"expected orders between entries of programs alone: {len(places)} of {len(lists)}")
    orders = orders_of(programs)
    found = []
    for after, (stage, name, later) in zip(lists, places):
        numbers = list(re.finditer(rb"\d+", after[1]))
        for i, number in enumerate(numbers):
            begin, end = after.start(1) + number.start(), after.start(1) + number.end()
            if len(numbers) > 1:  # the comma before it, or behind the first
                begin, end = (begin - 1, end) if i else (begin, end + 1)
            pair = (stage, name, int(number[0])), (stage, name, later)
            entry = stages[stage]["programs"][name][later]
            found.append(Event(f"stage {stage}, {name}, entry {later} ({entry['do']})", f"after {number[0].decode()}", begin, end,
                               leads(orders, *pair)))
    return found


def orders_of(programs: list) -> dict[tuple, set]:
    """For each entry (stage, program, number) those that start when it is over: the next of its stream, those that come after
    it, the receive of what it sends."""
    orders, last, sent = collections.defaultdict(set), {}, {}
    message = lambda name, entry: (name, entry["communicator"], *entry["tag"])  # noqa: E731
    for (stage, name), entries in programs:
        for number, entry in enumerate(entries):
            here, stream = (stage, name, number), (stage, name, entry.get("stream", 0))
            if stream in last:
                orders[last[stream]].add(here)
            last[stream] = here
            for earlier in entry.get("after", []):
                orders[stage, name, earlier].add(here)
            if entry["do"] == "send":
                sent[message(name, entry)] = here
    for (stage, name), entries in programs:
        for number, entry in enumerate(entries):
            if entry["do"] == "receive" and message(name, entry) in sent:
                orders[sent[message(name, entry)]].add((stage, name, number))
    return orders


def leads(orders: dict[tuple, set], earlier: tuple, later: tuple) -> bool:
    """Whether orders lead from one entry to another in more than one step."""
    reached, todo = set(), [next for next in orders[earlier] if next != later]
    while todo:
        entry = todo.pop()
        if entry == later:
            return True
        if entry not in reached:
            reached.add(entry)
            todo += orders[entry]
    return False


def without_event(event: Event, data: bytes, executable: pathlib.Path, want: tuple, environment: dict) -> tuple[str, str]:
    """How it was found, by what check; `missed` if it was not."""
    with tempfile.TemporaryDirectory(dir=executable.parent) as temporary:
        place = pathlib.Path(temporary)
        for file in ("weights.safetensors", "batch.safetensors"):
            (place / file).symlink_to(executable.parent / file)
        copy = place / executable.name
        copy.write_bytes(data[:event.begin] + b" " * (event.end - event.begin) + data[event.end:])
        copy.chmod(copy.stat().st_mode | stat.S_IXUSR)
        return outcome_of(copy, place, want, environment)


def outcome_of(executable: pathlib.Path, folder: pathlib.Path, want: tuple, environment: dict) -> tuple[str, str]:
    """How a mutant was found, by what check; `missed` if it was not."""
    try:
        got = Steps(executable, folder, environment=environment)
    except Failure as failure:
        text = str(failure)
        if "exit status 86" in text:
            return "reported", (re.search(r"software-gpu: ([\w-]+): ", text) or [0, ""])[1]
        return ("hangs" if "not done" in text else "fails"), ""
    return "missed" if got.bits == want else "differs", ""


def mutate_program(name: str, arguments: argparse.Namespace) -> list[dict]:
    program, r = EVENTS[name], random.Random(f"{arguments.seed} {name}")
    executable, environment = build(name, program, arguments), environment_of(program, arguments)
    data, want = executable.read_bytes(), Steps(executable, executable.parent, environment=environment).bits
    sites = event_sites(data)
    chosen = r.sample(sites, min(len(sites), arguments.events))
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        found = list(pool.map(lambda event: without_event(event, data, executable, want, environment), chosen))
    print(f"{name}: {len(chosen)} of {len(sites)} events", flush=True)
    return [{"kind": "event", "where": f"{name}: {event.where}", "kernel": name, "text": event.text,
             "outcome": "implied" if how == "missed" and event.implied else how, "check": check}
            for event, (how, check) in zip(chosen, found)]


# ----------------------------------------------------------------------------------------------------------------------
# What came of it


def family_of(mutant: dict) -> str:
    kernel = mutant["kernel"]
    if mutant["kind"] == "event":
        return "programs on grids"
    if form := re.match(r"attention_(?:forward|dq|dkv)_(plain|mma|hopper)", kernel):
        return f"attention, {form[1]}"
    if kernel.startswith("attention_"):
        return "attention, masks and rows"
    if kernel.endswith("_list") or kernel.startswith(("embedding_", "add_extra")):
        return "sums by index, gathers"
    if "_weight_loop" in kernel or kernel.endswith("_sum") or kernel.startswith("gradient_norm"):
        return "sums over rows and over all"
    return "rows and elementwise"


FOUND = ["reported", "differs", "hangs", "fails"]
# What the run itself shows to be redundant.
SHOWN = {
    "unused": "The guard keeps back loads alone, and what they would bring is not used: with NaNs in its place the memory is the same.",
    "idle": "The guard holds for every thread that comes to it, or the wait is over for every thread: sizes are constants.",
    "implied": "Other orders lead from one entry to the other: streams, other events, messages between ranks.",
}


def table(rows: list[list], aligned: str) -> str:
    head, *body = rows
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in [head, list(aligned.split()), *body]) + "\n"


def report(found: list[dict], arguments: argparse.Namespace) -> str:
    """The figures of a run as a page."""
    outcomes = [*FOUND, "redundant", "missed"]
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
            why[mutant.get("why") or SHOWN[mutant["outcome"]]].append(mutant)
    rows = [["mutants", "kind", "why nothing tells of it", "for example"]]
    for reason, mine in sorted(why.items(), key=lambda item: -len(item[1])):
        kinds = ", ".join(sorted({mutant["kind"] for mutant in mine}))
        rows.append([len(mine), kinds, reason, f"`{mine[0]['where']}`: `{mine[0]['text']}`".replace("|", "\\|")])
    return "\n".join([
        "# Mutants of kernels and programs for CUDA", "",
        "One barrier, fence, wait, arrival, guard or event removed at a time, on [the software GPU](software-gpu.md#one-order-removed).",
        "Made by `test/properties/gpu_mutants.py --build build --record docs/gpu-mutants.md`, which says what is removed and when a mutant",
        f"counts as found; here with `--programs={arguments.programs} --kernels={arguments.kernels} --events={arguments.events} "
        f"--seed={arguments.seed}` (0: all). Places that no thread comes to ({len(found) - len(reached)}) are not counted.", "",
        counted("kernels of", family_of), counted("kind", lambda mutant: mutant["kind"]),
        "Reported by: " + ", ".join(f"`{check}` {count}" for check, count in checks.most_common()) + ".", "",
        "## Redundant", "", table(rows, "---: --- --- ---")])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, required=True, help="the build folder")
    parser.add_argument("--kernels", type=int, default=0, help="mutants of kernels, drawn from all (0: all)")
    parser.add_argument("--events", type=int, default=20, help="mutants of each program's events, drawn (20)")
    names = [*ATTENTION, *KERNELS, *EVENTS]
    parser.add_argument("--programs", default=",".join(names), help="some of " + ", ".join(names))
    parser.add_argument("--seed", type=int, default=1, help="of the draws (1)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="mutants that run at once")
    parser.add_argument("--keep", type=pathlib.Path, help="folder to leave programs and recordings in; default temporary")
    parser.add_argument("--outcomes", type=pathlib.Path, nargs="*", default=[],
                        help="mutants.json, kernels.jsonl of earlier runs with --keep: takes what they found, and runs nothing")
    parser.add_argument("--record", type=pathlib.Path, help="file to write the figures into, as Markdown")
    arguments = parser.parse_args()
    chosen = arguments.programs.split(",")
    for name in chosen:
        if name not in names:
            fail(f"--programs: expected some of {', '.join(names)}, got {name}")
    arguments.build = arguments.build.absolute()
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
    for mutant in found:
        if mutant["outcome"] == "missed" and (reason := next((r for r in REDUNDANT if r.holds(mutant)), None)):
            mutant |= {"outcome": "redundant", "why": reason.why}
    if arguments.record:
        arguments.record.write_text(report(found, arguments))
    for (kind, outcome), count in sorted(collections.Counter((m["kind"], m["outcome"]) for m in found).items()):
        print(f"{count:5} {kind:8} {outcome}")
    missed = [mutant for mutant in found if mutant["outcome"] == "missed"]
    for mutant in missed:
        print(f"missed: {mutant['kind']} {mutant['where']}: {mutant['text']}")
    print(f"{len(found)} mutants, {len(missed)} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
