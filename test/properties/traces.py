#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Compares what every rank of an executable did with the list of actions that the compiler checked.

    traces.py --llamac build/bin/llamac --seeds 0-19           20 layouts, those of grids.py with the same seeds
    traces.py ... --target=cuda --software-gpu=build/lib/software-gpu     on the software GPU

The program is compiled twice: to the device program (--compile-to=lower), whose entries and graphs are read from the IR, and to
an executable, which runs one step with --trace. For every rank: each entry and each item of each run
must be there once, as the IR has it (graph, block, micro-batch, communicator, tag, bytes of a part that is sent), and those of a
stream in launch order. A collective that the target lacks is three actions: the block that packs, the plain form, the block that
unpacks. Sums are sent in the type in which they are formed, f32 or f64; all else in its own: with --precision=bf16 two bytes an
element.

Then the trace is changed, 40 times: an event goes, is there twice, changes places with the next of its stream, or has
another block, communicator, micro-batch, tag or size. Each must be told.

Exit status: 0 all as listed, 1 some not, 2 wrong use.
"""

import argparse
import collections
import copy
import json
import pathlib
import random
import re
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "numerics"))

from batch import write_safetensors  # noqa: E402
from grids import (COMPILE_LIMIT, MOST_DRAWS, RUN_LIMIT, SOFTWARE_GPU_TIMES, Failure, draw, draw_batch,  # noqa: E402
                   draw_weights, execute, expect_success, most_of, refusal)
from target import add_target_options, target_environment, target_options  # noqa: E402

SYMBOL = r'@(?:"([^"]+)"|([\w.$-]+))'
SIZES = {"bf16": 2, "f32": 4, "f64": 8, "i64": 8}
MUTANTS = 40  # of each trace


def symbol(text: str) -> str:
    """The first symbol in `text`."""
    found = re.search(SYMBOL, text)
    return found.group(1) or found.group(2)


def collective(action: dict, text: str) -> list[dict]:
    """The actions of one `dist.collective`: its plain form, if it has blocks around it."""
    outer, elements, of, to = re.search(r" : (\d+) x (\d+) x (\w+)(?: to_type (\w+))?", text).groups()
    kind, to = text.split()[0], to or of
    staging = re.search(r" staging <((?:[^<>]|<[^<>]*>)*)>", text)
    blocks = {name: re.search(rf"\b{name} = {SYMBOL}", staging[1]) if staging else None for name in ("pack", "unpack")}
    sums = kind in ("all_reduce", "reduce_scatter") and not ("maximum" in text and of == to)
    if sums and any(blocks.values()):
        of = "f64" if "f64" in (of, to) else "f32"
    done = action | {"do": kind, "communicator": symbol(text)}
    if kind != "slice":  # which sends nothing
        done["bytes"] = int(outer) * int(elements) * SIZES[of]
    call = lambda name: [action | {"do": "call", "block": blocks[name][1] or blocks[name][2]}] if blocks[name] else []
    return call("pack") + [done] + call("unpack")


def read_device_program(text: str) -> tuple[dict[str, list[dict]], dict[int, list[dict]]]:
    """Items of every graph, entries of the program `step` of every stage, each as a trace names it."""
    graphs, programs, current = {}, {}, None
    for line in text.splitlines():
        if found := re.match(r"  dist\.graph " + SYMBOL, line):
            current = graphs.setdefault(found.group(1) or found.group(2), [])
        elif found := re.match(r'  dist\.program "(\w+)"(?: needs\([^)]*\))?(?: attributes \{stage = (\d+) : i64\})? \{', line):
            current = []
            if found.group(1) == "step":
                programs[int(found.group(2) or 0)] = current
        elif line.startswith("  }"):
            current = None
        elif current is not None and (found := re.match(r"    (?:%\w+ = )?dist\.(\w+) (.*)", line)):
            kind, rest = found.groups()
            stream = re.search(r"stream = (\d+) : i64", rest)
            action = {"do": kind, "stream": int(stream.group(1)) if stream else 0}
            if kind in ("frame", "input", "output"):
                continue
            if kind == "collective":
                current += collective(action, rest)
                continue
            if kind in ("call", "gradient_norm", "update"):
                action |= {"do": "call", "block": symbol(rest)}
            elif kind in ("send", "receive"):
                action["communicator"] = symbol(rest)
                action["tag"] = [int(n) for n in re.search(r"tag \[([^\]]*)\]", rest).group(1).split(",")]
                elements, of = re.search(r" : (\d+) x (\w+) tag", rest).groups()
                action["bytes"] = int(elements) * SIZES[of]
            elif kind == "run":
                action["graph"] = symbol(rest)
                action["micro_batch"] = int(re.search(r"micro_batch = (\d+)", rest).group(1))
            current.append(action)
    return graphs, programs


def what(action: dict) -> str | None:
    """The graph, block or communicator of an action."""
    return action.get("graph") or action.get("block") or action.get("communicator")


def key(entry: int, item: int | None, action: dict, tag: list[int], micro_batch: int | None) -> tuple:
    """What an event must be."""
    return entry, item, action["do"], what(action), micro_batch, tuple(tag), action.get("bytes")


def expected(graphs: dict, entries: list[dict]) -> tuple[collections.Counter, dict[tuple, list[int]]]:
    """All events of one rank; the order of the entries of each stream, and of the items of each run in each stream."""
    events, orders = collections.Counter(), collections.defaultdict(list)
    for number, entry in enumerate(entries):
        orders[None, entry["stream"]].append(number)
        if entry["do"] == "run":
            for index, item in enumerate(graphs[entry["graph"]]):
                events[key(number, index, item, item.get("tag", []), entry["micro_batch"])] += 1
                orders[number, item["stream"]].append(index)
        events[key(number, None, entry, entry.get("tag", []), entry.get("micro_batch"))] += 1
    return events, orders


def traced(events: list[dict]) -> tuple[collections.Counter, dict[tuple, list[int]]]:
    found, orders = collections.Counter(), collections.defaultdict(list)
    for event in events:
        a = event["args"]
        found[key(a["entry"], a.get("item"), a, a.get("tag", [])[1:], a.get("micro_batch"))] += 1
        if "item" in a:
            orders[a["entry"], event["tid"]].append(a["item"])
        else:
            orders[None, event["tid"]].append(a["entry"])
    return found, orders


def compare(program: tuple[dict, dict], trace: list[dict]) -> tuple[int, list[str]]:
    """Events compared, what differs."""
    graphs, programs = program
    ranks, names = collections.defaultdict(list), {}
    for event in trace:
        if event["ph"] == "M":
            names[event["pid"]] = event["args"]["name"]
        else:
            ranks[event["pid"]].append(event)
    failures, count = [], 0
    for rank, name in names.items():
        stage = re.search(r"pp (\d+)|pp=(\d+)", name)
        want, want_orders = expected(graphs, programs[int(stage.group(1) or stage.group(2)) if stage else 0])
        got, got_orders = traced(ranks[rank])
        count += sum(want.values())
        for event in list((want - got).elements())[:5]:
            failures.append(f"{name}: not done: {event}")
        for event in list((got - want).elements())[:5]:
            failures.append(f"{name}: done but not listed: {event}")
        for (run, stream), order in want_orders.items():
            if got_orders[run, stream] != order:
                where = f"stream {stream}" + ("" if run is None else f" in entry {run}")
                failures.append(f"{name}: {where}: expected {order[:20]}, got {got_orders[run, stream][:20]}")
    if not count:
        failures.append("nothing was traced")
    return count, failures


def mutant(r: random.Random, trace: list[dict]) -> tuple[str, list[dict]]:
    """A trace with one thing changed, and which."""
    trace = list(trace)
    while True:
        at = r.choice([n for n, event in enumerate(trace) if event["ph"] != "M"])
        event = copy.deepcopy(trace[at])
        args, how = event["args"], r.choice(["gone", "twice", "moved", "block", "graph", "communicator", "micro_batch", "tag", "bytes"])
        if how == "gone":
            del trace[at]
        elif how == "twice":
            trace.insert(at, event)
        elif how == "moved":
            same = lambda other: (other["pid"], other["tid"], "item" in other["args"]) == (event["pid"], event["tid"], "item" in args)
            later = next((n for n in range(at + 1, len(trace)) if trace[n]["ph"] != "M" and same(trace[n])), None)
            if later is None or "item" in args and trace[later]["args"]["entry"] != args["entry"]:
                continue
            trace[at], trace[later] = trace[later], trace[at]
        elif how not in args:
            continue
        else:
            old = args[how]
            args[how] = old + "2" if isinstance(old, str) else old[:-1] + [old[-1] + 1] if isinstance(old, list) else old + 1
            trace[at] = event
        return f"{how}: {event['args']}", trace


def run_seed(seed: int, arguments: argparse.Namespace, folder: pathlib.Path) -> list[str]:
    r, llamac, environment = random.Random(seed), arguments.llamac, target_environment(arguments)
    config = folder / "config.json"
    for _ in range(MOST_DRAWS):
        drawn = draw(random.Random(r.getrandbits(64)), 16, most_of(arguments.target))
        config.write_text(json.dumps(drawn.config))
        compile_to = lambda output: drawn.compile_command(llamac, config, output, True, arguments.precision) + target_options(arguments)
        result = execute(compile_to(folder / "grid"), COMPILE_LIMIT)
        if refusal(result) is None:
            break
    expect_success(result)
    expect_success(execute(compile_to(folder / "program.mlir") + ["--compile-to=lower"], COMPILE_LIMIT))
    model = expect_success(execute([llamac, "import", str(config), "-o", "-"], COMPILE_LIMIT))
    write_safetensors(folder / "weights.safetensors", draw_weights(r, model))
    write_safetensors(folder / "batch.safetensors", draw_batch(r, drawn))
    limit = RUN_LIMIT * (SOFTWARE_GPU_TIMES if environment else 1)
    expect_success(execute([str(folder / "grid"), "step", f"--weights={folder / 'weights.safetensors'}",
                            f"--batch={folder / 'batch.safetensors'}", f"--trace={folder / 'trace.json'}", "--threads=1",
                            f"--timeout={limit}"],
                           limit, environment))
    program = read_device_program((folder / "program.mlir").read_text())
    trace = json.loads((folder / "trace.json").read_text())["traceEvents"]
    count, failures = compare(program, trace)
    for _ in range(0 if failures else MUTANTS):
        change, changed = mutant(r, trace)
        if not compare(program, changed)[1]:
            failures.append(f"a changed trace passes: {change}")
    grid = "x".join(str(drawn.grid[axis]) for axis in drawn.grid)
    print(f"{'FAIL' if failures else 'ok  '} seed {seed}: {' x '.join(drawn.grid)} {grid}, {' '.join(drawn.options)}; "
          f"{count} events", flush=True)
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llamac", required=True, help="the compiler")
    parser.add_argument("--seeds", required=True, help="FIRST-LAST or one")
    parser.add_argument("--precision", choices=["f64", "f32", "bf16"], default="f64", help="of the program (f64)")
    add_target_options(parser)
    arguments = parser.parse_args()
    first, _, last = arguments.seeds.partition("-")
    failed = 0
    for seed in range(int(first), int(last or first) + 1):
        with tempfile.TemporaryDirectory() as temporary:
            try:
                failures = run_seed(seed, arguments, pathlib.Path(temporary))
            except Failure as failure:
                failures = [str(failure)]
                print(f"FAIL seed {seed}", flush=True)
        print("".join(f"  {failure}\n" for failure in failures), end="", flush=True)
        failed += bool(failures)
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
