# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What a step of a model launches at its full size, and what each kernel of loops moves, without running the step.

`llamac compile` gives the program of a step, the launches of each block and the PTX of each kernel. All blocks of a grid do the
same on other rows, those at its end perhaps on fewer, so the software GPU runs some blocks of each kernel alone (`software-gpu-run`): the
last ones, and some of the others, whose counts are multiplied. Which addresses a kernel touches does not depend on the floating-point numbers in them: there is
memory for integers only. With the address of an access traced to a parameter of the kernel, the count is one for each buffer.
"""

import collections
import concurrent.futures
import dataclasses
import json
import math
import os
import pathlib
import re
import struct
import subprocess
import tempfile

WIDTHS = {"f64": 8, "i64": 8, "f32": 4, "i32": 4, "bf16": 2}
CACHED = 8 << 20  # bytes of a buffer that stays in the L2 cache (50 MB) while a kernel runs
SAMPLE = 32  # blocks that are run at the start of a grid, and at its end; of grids of four times as many or fewer all are
SECTOR = 32  # bytes


def elements_of(memref: str) -> tuple[int, str]:
    *sizes, element = re.match(r"memref<([^,>]+)", memref)[1].split("x")
    return math.prod(int(size) for size in sizes), element


def size_of(memref: str) -> int:
    count, element = elements_of(memref)
    return count * WIDTHS[element]


@dataclasses.dataclass
class Kernel:
    """One that loops became: the types of its buffers; of several nests, the blocks of each."""
    buffers: list[str]
    parts: list[int]


def kernels_of(text: str) -> dict[str, Kernel]:
    kernels = {}
    for name, arguments, attributes in re.findall(r"gpu\.func @(\w+)\((.*?)\) (?:workgroup\(.*?\) )?kernel (.*)", text):
        parts = re.search(r"llama\.parts = array<i64: ([\d, ]+)>", attributes)
        kernels[name] = Kernel(re.findall(r"%arg\d+: (memref<[^>,]*>)", arguments),
                               [int(part) for part in parts[1].split(",")] if parts else [])
    return kernels


@dataclasses.dataclass
class Launch:
    """One of a block. `kernel`: of its file; `own`: its name in the block's module."""
    kernel: str
    own: str
    grid: int
    threads: int
    file: pathlib.Path


@dataclasses.dataclass
class Product:
    operations: float
    bytes: float  # of its matrices, once; of one that is added to twice


@dataclasses.dataclass
class Block:
    calls: int = 0  # in a step
    launches: list[Launch] = dataclasses.field(default_factory=list)
    products: list[Product] = dataclasses.field(default_factory=list)
    attention: list[float] = dataclasses.field(default_factory=list)  # operations of each
    kernels: dict[str, Kernel] = dataclasses.field(default_factory=dict)


def number(text: str, name: str) -> int:
    return int(re.search(rf"\b{name} = (-?\d+) :", text)[1])


def attention_operations(line: str) -> float:
    """4 * queries * keys * size of a head and head forward (causal: half), 2.5 times that backward; tiles by their tokens."""
    keys = number(line, "tile_count") * number(line, "tile_tokens") or number(line, "keys")
    queries = keys if "<encoder>" in line else number(line, "queries")
    pairs = queries * keys / (2 if "<causal>" in line else 1)
    forward = 4 * pairs * number(line, "head_size") * number(line, "heads") * number(line, "batch")
    return forward * (2.5 if "attention_backward" in line else 1)


def modules_of(text: str) -> dict[str, str]:
    """The text of each module of code."""
    parts = re.split(r"^  module @([\w.]+)", text, flags=re.M)
    return {name: body[:body.find("\n  }\n")] for name, body in zip(parts[1::2], parts[2::2])}


def read_step(program: str, kernels: str, folder: pathlib.Path, chip: str) -> dict[str, Block]:
    """The blocks that a step calls. `program`: of llamac compile --compile-to=lower; `kernels`: after llama-map-kernels, with
    products and attention still as routines; `folder`: of --kernels."""
    code_of = dict(re.findall(r"^  func\.func private @([\w.]+)\(.*?llama\.code = @[\w.]+::@([\w.]+)", program, re.M))
    module_of = dict(re.findall(r"^  func\.func private @([\w.]+)\(.*?llama\.code = @([\w.]+)::", program, re.M))
    graphs = {name: re.findall(r"dist\.\w+ @([\w.]+)\(", body)
              for name, body in re.findall(r"^  dist\.graph @([\w.]+)[^\n]*\{\n(.*?)^  \}", program, re.M | re.S)}
    step = re.search(r'^  dist\.program "step".*?\n(.*?)^  \}', program, re.M | re.S)[1]
    calls = collections.Counter(re.findall(r"dist\.\w+ @([\w.]+)\(", step))
    for graph in re.findall(r"dist\.run @([\w.]+)", step):
        calls.update(graphs[graph])
    files = {}
    for line in (folder / "launches.jsonl").read_text().splitlines():
        entry = json.loads(line)
        files[entry["launch"]] = entry
    programs, routines = modules_of(program), modules_of(kernels)
    blocks = {}
    for name, count in calls.items():
        if name not in code_of:
            continue
        module, code = module_of[name], code_of[name]
        block = blocks[name] = Block(count)
        lower = programs[module]
        own = dict(re.findall(r"@(llrt\.launch\.[\w.]+)\(\) .*?kernel = @\w+::@(\w+)", lower))
        body = re.search(rf"^    llvm\.func @{re.escape(code)}\(.*?\n(.*?)^    \}}", lower, re.M | re.S)[1]
        addresses = dict(re.findall(r"(%\w+) = llvm\.mlir\.addressof @(llrt\.launch\.[\w.]+)", body))
        for value in re.findall(r"llvm\.call @llrt_launch\(%\w+, (%\w+),", body):
            symbol = addresses[value]
            entry = files[symbol]
            block.launches.append(Launch(entry["code"].rsplit(".", 1)[0], own[symbol], math.prod(entry["grid"]),
                                         math.prod(entry["block"]), folder / f"{entry['code']}.{chip}.ptx"))
        body = re.search(rf"^    func\.func @{re.escape(code)}\(.*?\n(.*?)^    \}}", routines[module], re.M | re.S)[1]
        for line in body.splitlines():
            if "routine.gemm" in line:
                matrices = [size_of(memref) for memref in re.findall(r"memref<[^>]*>", line[line.rindex(" : ("):])]
                result = matrices[-2 if " bias_gradient " in line else -1]
                size = sum(matrices) + (result if "{accumulate" in line else 0)
                block.products.append(Product(2.0 * math.prod(number(line, name) for name in "mnk"), size))
            elif "routine.attention_" in line:
                block.attention.append(attention_operations(line))
        block.kernels = kernels_of(routines[module])
    return blocks


def parameters_of_lines(ptx: str) -> dict[int, int | None]:
    """Of each line of PTX that accesses global memory: the number of the parameter that the address comes from, none for a constant."""
    roots: dict[str, set] = collections.defaultdict(set)
    lines = [line.strip() for line in ptx.splitlines()]
    changed = True
    while changed:
        changed = False
        for line in lines:
            found = re.match(r"(?:@!?%p\d+ )?(\w[\w.:]*)\s+(%rd\d+), (.*);", line)
            if not found or found[1].startswith(("ld.global", "ld.shared")):
                continue
            parameter = re.search(r"_param_(\d+)\]", found[3]) if found[1].startswith("ld.param") else None
            new = {int(parameter[1])} if parameter else set().union(*(roots[r] for r in re.findall(r"%rd\d+", found[3])))
            if not new <= roots[found[2]]:
                roots[found[2]] |= new
                changed = True
    result = {}
    for i, line in enumerate(lines, 1):
        if re.search(r"\b(ld|st)\.global", line):
            from_ = roots[re.search(r"\[(%rd\d+)", line)[1]] if "[%rd" in line else set()
            result[i] = next(iter(from_)) if len(from_) == 1 else None
    return result


@dataclasses.dataclass
class Moved:
    """What a launch moves, in bytes."""
    sectors: float = 0  # of the 32-byte pieces that its requests touch, without caches
    memory: float = 0  # of those: all of large buffers; of what stays in the L2 cache each byte once
    least: float = 0  # each buffer that is read or written once, in sectors; of a table what is asked for
    requests: float = 0  # sectors that the requests would touch at least, were their bytes side by side
    conflicts: float = 0  # passes of shared memory beyond those that the size needs
    bad: str = ""  # why there are no figures


def run_blocks(text: str, launch: Launch, buffers: list[str], first: int, count: int, runner: pathlib.Path) -> dict | str:
    """The counters of blocks [first, first + count) of a launch, or why there are none."""
    entry = re.search(r"\.entry (\w+)\(", text)[1]
    with tempfile.TemporaryDirectory() as temporary:
        file = pathlib.Path(temporary) / "kernel.ptx"
        file.write_text(re.sub(r"(mov\.u32\s+(%r\d+), %ctaid\.x;)", rf"\1 add.u32 \2, \2, {first};", text))
        arguments = []
        for i, memref in enumerate(buffers):
            total, element = elements_of(memref)
            if element == "i32":  # lists of sums by index: each row is the first of its index, and the last
                (path := pathlib.Path(temporary) / str(i)).write_bytes(struct.pack("<i", 1) * (total // 2) + struct.pack("<i", -1) * (total // 2))
                arguments.append(f"s32:@{path}")
            elif element == "i64":  # numbers of rows are all different
                arguments.append(f"s64[{min(total, 1 << 20)}]:index")
            else:  # an access outside of memory counts and does nothing else
                arguments.append(f"{'u16' if element == 'bf16' else element}[64]")
        result = subprocess.run([runner, file, entry, "--grid", str(count), "--block", str(launch.threads), "--counters", "--print", "0",
                                 *arguments], capture_output=True, text=True, env=os.environ | {"SOFTWARE_GPU_CHECKS": "none"})
    if result.returncode == 0:
        return next(json.loads(line) for line in result.stdout.splitlines() if line.startswith("{"))
    return next(iter((result.stderr or result.stdout).splitlines()), f"exit status {result.returncode}")


def samples(blocks: int) -> list[tuple[int, int, int]]:
    """Of a grid: first block of those to run, how many, and how many blocks they stand for."""
    if blocks <= 4 * SAMPLE:
        return [(0, blocks, blocks)]
    return [(0, SAMPLE, blocks - SAMPLE), (blocks - SAMPLE, SAMPLE, SAMPLE)]


def measure(launch: Launch, kernel: Kernel, runner: pathlib.Path) -> Moved:
    text = launch.file.read_text()
    lines = parameters_of_lines(text)
    moved = Moved()
    by: dict[tuple, list[float]] = collections.defaultdict(lambda: [0, 0])
    first = 0
    for blocks in kernel.parts or [launch.grid]:
        for begin, sample, stands_for in samples(blocks):
            counters = run_blocks(text, launch, kernel.buffers, first + begin, sample, runner)
            if isinstance(counters, str):
                return Moved(bad=counters)
            scale = stands_for / sample
            for line in counters["lines"]:
                moved.conflicts += scale * (line.get("wavefronts", 0) - line.get("idealWavefronts", 0))
                if not line.get("requests"):
                    continue
                sectors, asked = SECTOR * line["sectors"], line["bytes"]
                side_by_side = SECTOR * line["requests"] * math.ceil(asked / line["requests"] / SECTOR)
                moved.requests += scale * min(sectors, side_by_side)
                key = (lines.get(line["line"]), line["opcode"].startswith("st"))
                by[key][0] += scale * sectors
                by[key][1] += scale * asked
        first += blocks
    # The sample of a sum by index has rows of all different indices; the table has not more rows than that.
    by_index = any("xi32>" in memref for memref in kernel.buffers)
    for (parameter, writes), (sectors, asked) in by.items():
        size = size_of(kernel.buffers[parameter]) if parameter is not None else 0
        if by_index and asked > size > 0:
            sectors *= size / asked
        moved.sectors += sectors
        whole = SECTOR * math.ceil(size / SECTOR)
        moved.least += min(whole, SECTOR * math.ceil(asked / SECTOR))
        moved.memory += min(sectors, whole) if not writes and size <= CACHED else sectors
    return moved


def measure_all(blocks: dict[str, Block], runner: pathlib.Path, threads: int) -> dict[tuple, Moved]:
    """Of each different launch of a kernel of loops, by (file, grid)."""
    jobs = {}
    for block in blocks.values():
        for launch in block.launches:
            if launch.own in block.kernels:
                jobs.setdefault((launch.file.name, launch.grid), (launch, block.kernels[launch.own], runner))
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return dict(zip(jobs, pool.map(lambda job: measure(*job), jobs.values())))
