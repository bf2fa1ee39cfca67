#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Compares what every rank of an executable did with the list of actions that the compiler checked.

    traces.py --llamac build/bin/llamac --seeds 0-19           20 layouts, those of grids.py with the same seeds
    traces.py ... --target=cuda --software-gpu=build/lib/software-gpu     on the software GPU

The program is compiled twice: to the device program (--compile-to=lower), whose entries and graphs are read from the IR, and to
an executable, which runs one step with --trace. For every rank: each entry and each item of each run
must be there once, as the IR has it (graph, block, micro-batch, communicator, tag), and those of a stream in launch order.

Exit status: 0 all as listed, 1 some not, 2 wrong use.
"""

import argparse
import collections
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
                   draw_weights, execute, expect_success, refusal)
from target import add_target_options, target_environment, target_options  # noqa: E402

SYMBOL = r'@(?:"([^"]+)"|([\w.$-]+))'


def symbol(text: str) -> str:
    """The first symbol in `text`."""
    found = re.search(SYMBOL, text)
    return found.group(1) or found.group(2)


def read_device_program(text: str) -> tuple[dict[str, list[dict]], dict[int, list[dict]]]:
    """Items of every graph, entries of the program `step` of every stage, each as a trace names it."""
    graphs, programs, current, in_graph = {}, {}, None, False
    for line in text.splitlines():
        if found := re.match(r"  dist\.graph " + SYMBOL, line):
            current, in_graph = graphs.setdefault(found.group(1) or found.group(2), []), True
        elif found := re.match(r'  dist\.program "(\w+)"(?: needs\([^)]*\))?(?: attributes \{stage = (\d+) : i64\})? \{', line):
            current, in_graph = [], False
            if found.group(1) == "step":
                programs[int(found.group(2) or 0)] = current
        elif line.startswith("  }"):
            current = None
        elif current is not None and (found := re.match(r"    (?:%\w+ = )?dist\.(\w+) (.*)", line)):
            kind, rest = found.groups()
            stream = re.search(r"stream = (\d+) : i64", rest)
            action = {"do": kind, "stream": int(stream.group(1)) if stream else 0}
            if kind in ("call", "gradient_norm", "update"):
                action |= {"do": "call", "block": symbol(rest)}
            elif kind == "collective":
                action["do"] = rest.split()[0]
                action["communicator"] = symbol(rest)
            elif kind in ("send", "receive"):
                action["communicator"] = symbol(rest)
                action["tag"] = [int(n) for n in re.search(r"tag \[([^\]]*)\]", rest).group(1).split(",")]
            elif kind == "run":
                action["graph"] = symbol(rest)
                action["micro_batch"] = int(re.search(r"micro_batch = (\d+)", rest).group(1))
            elif kind in ("frame", "input", "output"):
                continue
            current.append(action)
    return graphs, programs


def what(action: dict) -> str | None:
    """The graph, block or communicator of an action."""
    return action.get("graph") or action.get("block") or action.get("communicator")


def expected(graphs: dict, entries: list[dict]) -> tuple[collections.Counter, dict[int, list]]:
    """All events of one rank, and the order of the entries of each stream."""
    events, streams = collections.Counter(), collections.defaultdict(list)
    for number, entry in enumerate(entries):
        streams[entry["stream"]].append(number)
        if entry["do"] == "run":
            for index, item in enumerate(graphs[entry["graph"]]):
                events[(number, index, item["do"], what(item), entry["micro_batch"])] += 1
        events[(number, None, entry["do"], what(entry), entry.get("micro_batch"), tuple(entry.get("tag", [])))] += 1
    return events, streams


def traced(events: list[dict]) -> tuple[collections.Counter, dict[int, list]]:
    found, streams = collections.Counter(), collections.defaultdict(list)
    for event in events:
        a = event["args"]
        if "item" in a:
            found[(a["entry"], a["item"], a["do"], what(a), a.get("micro_batch"))] += 1
        else:
            found[(a["entry"], None, a["do"], what(a), a.get("micro_batch"), tuple(a.get("tag", [])[1:]))] += 1
            streams[event["tid"]].append(a["entry"])
    return found, streams


def compare(program: str, trace: str) -> tuple[int, list[str]]:
    """Events compared, what differs."""
    graphs, programs = read_device_program(program)
    ranks, names = collections.defaultdict(list), {}
    for event in json.loads(trace)["traceEvents"]:
        if event["ph"] == "M":
            names[event["pid"]] = event["args"]["name"]
        else:
            ranks[event["pid"]].append(event)
    failures, count = [], 0
    for rank, events in ranks.items():
        stage = re.search(r"pp (\d+)|pp=(\d+)", names[rank])
        want, want_streams = expected(graphs, programs[int(stage.group(1) or stage.group(2)) if stage else 0])
        got, got_streams = traced(events)
        count += sum(want.values())
        for event in list((want - got).elements())[:5]:
            failures.append(f"{names[rank]}: not done: {event}")
        for event in list((got - want).elements())[:5]:
            failures.append(f"{names[rank]}: done but not listed: {event}")
        for stream, order in want_streams.items():
            if got_streams[stream] != order:
                failures.append(f"{names[rank]}: stream {stream}: expected entries {order[:20]}, got {got_streams[stream][:20]}")
    if not count:
        failures.append("nothing was traced")
    return count, failures


def run_seed(seed: int, arguments: argparse.Namespace, folder: pathlib.Path) -> list[str]:
    r, llamac, environment = random.Random(seed), arguments.llamac, target_environment(arguments)
    config = folder / "config.json"
    for _ in range(MOST_DRAWS):
        drawn = draw(random.Random(r.getrandbits(64)), 16)
        config.write_text(json.dumps(drawn.config))
        result = execute(drawn.compile_command(llamac, config, folder / "grid", on_grid=True) + target_options(arguments),
                         COMPILE_LIMIT)
        if refusal(result) is None:
            break
    expect_success(result)
    lowered = drawn.compile_command(llamac, config, folder / "program.mlir", on_grid=True)
    expect_success(execute(lowered + target_options(arguments) + ["--compile-to=lower"], COMPILE_LIMIT))
    model = expect_success(execute([llamac, "import", str(config), "-o", "-"], COMPILE_LIMIT))
    write_safetensors(folder / "weights.safetensors", draw_weights(r, model))
    write_safetensors(folder / "batch.safetensors", draw_batch(r, drawn))
    expect_success(execute([str(folder / "grid"), "step", f"--weights={folder / 'weights.safetensors'}",
                            f"--batch={folder / 'batch.safetensors'}", f"--trace={folder / 'trace.json'}", "--threads=1"],
                           RUN_LIMIT * (SOFTWARE_GPU_TIMES if environment else 1), environment))
    count, failures = compare((folder / "program.mlir").read_text(), (folder / "trace.json").read_text())
    grid = "x".join(str(drawn.grid[axis]) for axis in drawn.grid)
    print(f"{'FAIL' if failures else 'ok  '} seed {seed}: {' x '.join(drawn.grid)} {grid}, {' '.join(drawn.options)}; "
          f"{count} events", flush=True)
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llamac", required=True, help="the compiler")
    parser.add_argument("--seeds", required=True, help="FIRST-LAST or one")
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
