#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Removes one order or one guard from what llamac makes for CUDA; the software GPU must report it, or the numbers must differ.

    gpu_mutants.py --build build                                           everything that is in a kernel, some events of each program
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

Events: EVENTS are programs on grids of ranks. Each order that `step` states between its entries (`after` in the executable's
JSON) is an event. If other orders lead from one entry to the other, that alone shows that it is redundant. Of the others some are drawn: each is
removed in a copy of the executable, which makes two steps. It is found if the software GPU reports it, if
it fails or hangs without a report, or if losses, gradients or masters are not those of the program to the bit.

What is not found must be redundant: gpu_mutants_redundant.json (--reasons) says which are and why; any other is a failure. A reason holds
for one place of a kernel and cannot cover another: it is a failure, too, if it holds for a place that is found somewhere, for two places of one
code, or, when all has run, for none.

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
# Ranks that share a GPU, and ranks with one each, by NCCL.
EVENTS = {name: Program(draw, gpus=(1, 4)[number % 2]) for number, (name, draw) in enumerate(EVENTS.items())}


@dataclasses.dataclass
class Reason:
    """Why a place may be removed without harm. Regular expressions say which: `kernel` the whole name of the kernel (the program, of an event);
    `around` the opcodes before and behind, moves left out, the place itself is `*` (an event: what the two entries do)."""
    kernel: str
    kind: str
    around: str
    why: str
    number: str = ""  # among the places of this kind in the kernel, "4/5"; empty: `around` is enough

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
class Event:
    """Entry `later` of a program comes after entry `earlier`: bytes of the executable that say so."""
    where: str
    text: str
    around: str  # what they do
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
            if name != "step":  # the other programs do not run here
                continue
            doing = [f"{one['do']} {one.get('block', '')}".strip() for one in (stages[stage]["programs"][name][int(number[0])], entry)]
            found.append(Event(f"stage {stage}, {name}, entry {later}", f"after {number[0].decode()}", f"{name}: {doing[0]} * {doing[1]}",
                               begin, end, leads(orders, *pair)))
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
        got = Steps(executable, folder, environment=environment, limit=EVENT_LIMIT)
    except Failure as failure:
        text = str(failure)
        checks = re.findall(r"^software-gpu: ([a-z-]+): ", text, re.M)
        if "exit status 86" not in text:  # the program gave up by itself: after a report, or it is to blame, and frees nothing
            checks = [check for check in checks if check != "leak"]
        if checks:
            return "reported", checks[0]
        return ("hangs" if "not done" in text else "fails"), ""
    return "missed" if got.bits == want else "differs", ""


def mutate_program(name: str, arguments: argparse.Namespace) -> list[dict]:
    program, r = EVENTS[name], random.Random(f"{arguments.seed} {name}")
    executable = build(name, program, arguments)
    data = executable.read_bytes()
    # Ranks that share a GPU have orders besides those of the program, by what their host waits for; with a GPU each they do not.
    ways = [environment_of(dataclasses.replace(program, gpus=gpus), arguments) for gpus in (program.gpus, 5 - program.gpus)]
    wants = [Steps(executable, executable.parent, environment=way).bits for way in ways]
    sites = event_sites(data)
    alone = [(number, event) for number, event in enumerate(sites, 1) if not event.implied]
    chosen = r.sample(alone, min(len(alone), arguments.events))

    def remove(event: Event) -> tuple[str, str]:
        for way, want in zip(ways, wants):
            how, check = without_event(event, data, executable, want, way)
            if how != "missed":
                break
        return how, check

    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        found = list(pool.map(remove, (event for _, event in chosen)))
    print(f"{name}: {len(sites)} events, {len(sites) - len(alone)} implied, {len(chosen)} removed", flush=True)
    outcomes = [(number, event, "implied", "") for number, event in enumerate(sites, 1) if event.implied]
    outcomes += [(number, event, how, check) for (number, event), (how, check) in zip(chosen, found)]
    return [{"kind": "event", "where": f"{name}: {event.where}", "kernel": name, "text": event.text, "around": event.around,
             "number": number, "of": len(sites), "outcome": how, "check": check} for number, event, how, check in outcomes]


# ----------------------------------------------------------------------------------------------------------------------
# What came of it


def family_of(mutant: dict) -> str:
    kernel = mutant["kernel"]
    if mutant["kind"] == "event":
        return "programs on grids"
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
    "implied": "Other orders lead from one entry to the other: streams, other events, messages between ranks.",
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
        "One barrier, fence, wait, arrival, guard or event removed at a time, on [the software GPU](software-gpu.md#one-order-removed).",
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
    parser.add_argument("--events", type=int, default=20, help="mutants of each program's events, drawn (20)")
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
