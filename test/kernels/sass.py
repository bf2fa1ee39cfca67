# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Machine code of kernels as nvdisasm prints it: instructions, loops, and how busy the tensor cores of an sm_90a could be.

The main loop of a kernel is, of the loops with the most products of warpgroups (HGMMA), the smallest, and of it the way from its
head back to its head that takes all products and, of those, the fewest instructions: tiles that need no mask.

What one iteration of a warp takes of its scheduler, in cycles (`cycles`). A scheduler starts one instruction each cycle; units that
take a warp's 32 threads in parts are busy for longer. Rates for compute capability 9.0, results each cycle and multiprocessor of
four schedulers: CUDA C++ Programming Guide, "Throughput of Native Arithmetic Instructions".

  tensor    m64nNk16 of bf16: N / 2 (4,096 operations each cycle and multiprocessor: 989.4 TFLOP/s, 132 of them, 1,830 MHz)
  issue     1 for each instruction
  fma       1 for add, multiply, fma of f32 (128 results); 2 for integer products (64)
  alu       2 for integers, compare, minimum, maximum, select, conversion to bf16 (64)
  special   8 for ex2, rcp ... (16)
  shared    128 bytes each cycle, for all four schedulers: the operands of products that lie there, once for the four warps, loads and
            stores of each of these, what the copy engine brings, half of it for each of the two groups that share it, and what it takes

Two groups of four warps take turns, so each scheduler has a warp of each; all units can be busy at one time. So an iteration of both takes at
least the greatest of these twice. `share` is the tensor cores' share of it if instructions alone count (tensor / the greatest of all but
shared), `share_of_all` if shared memory counts too. `in_turn` is the share if nothing at all
of a group's instructions overlaps with its own products: 2 tensor / (tensor + the greatest of issue, fma, alu, special).
"""

import dataclasses
import re
import subprocess

# Instructions by the unit that takes them; the others only take the scheduler.
FMA = {"FADD": 1, "FFMA": 1, "FMUL": 1, "IMAD": 2}
ALU = {"BMSK", "F2FP", "FMNMX", "FSEL", "FSET", "FSETP", "I2FP", "IADD3", "IMNMX", "ISETP", "LEA", "LOP3", "MOV", "PLOP3", "POPC", "PRMT",
       "SEL", "SGXT", "SHF", "VIADD", "VIMNMX"}
PRODUCT = re.compile(r"HGMMA\.64x(\d+)x16")
FROM_REGISTERS = re.compile(r"R\d+, R\d+, gdesc")  # the left side of a product


@dataclasses.dataclass
class Code:
    """Instructions as (predicate, name, text), and the number of the instruction behind each label."""
    instructions: list[tuple[str, str, str]]
    labels: dict[str, int]


def disassemble(nvdisasm: str, cubin) -> str:
    return subprocess.run([nvdisasm, "-c", str(cubin)], capture_output=True, text=True, check=True).stdout


def parse(text: str) -> Code:
    code = Code([], {})
    for line in text.splitlines():
        if label := re.match(r"\s*(\.L\w+):", line):
            code.labels[label[1]] = len(code.instructions)
        elif found := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(@!?U?P\w+\s+)?((\S+).*?)\s*;", line):
            code.instructions.append(((found[1] or "").strip(), found[3], found[2]))
    return code


def blocks_of(code: Code) -> tuple[list[range], list[list[int]]]:
    """Basic blocks in the order of the text, and the blocks that may follow each."""
    ends = {i + 1 for i, (_, name, _) in enumerate(code.instructions) if name.split(".")[0] in ("BRA", "EXIT", "RET")}
    starts = sorted(s for s in {0} | set(code.labels.values()) | ends if s < len(code.instructions))
    number = {start: n for n, start in enumerate(starts)}
    blocks = [range(s, e) for s, e in zip(starts, starts[1:] + [len(code.instructions)])]
    following = []
    for block in blocks:
        predicate, name, text = code.instructions[block[-1]]
        to = []
        if target := re.match(r"BRA.*`\((\.L\w+)\)", text):
            to.append(number[code.labels[target[1]]])
        conditional = predicate or re.match(r"BRA(\.\w+)* !?U?P\d", text)
        if name.split(".")[0] not in ("BRA", "EXIT", "RET") or conditional:
            to.append(number.get(block.stop))
        following.append([n for n in to if n is not None])
    return blocks, following


def registers_of(name: str, text: str) -> int:
    """The number behind the highest register that an instruction names, with those that wide operands take beside it."""
    beside = 3 if ".128" in name else 1 if re.search(r"\.64\b|\.WIDE\b", f"{name} {text}") else 0
    product = PRODUCT.match(name)
    most = 0
    for place, register in enumerate(re.findall(r"\bR(\d+)\b", text)):
        # A product names the first of its sums, and of four pairs of its left side.
        own = (int(product[1]) // 2 - 1 if place == 0 else 3) if product else beside
        most = max(most, int(register) + own + 1)
    return most


def given_registers(code: Code) -> list[tuple[int, int]]:
    """For each change of the number of registers (setmaxnreg) that number, and how many the code behind it takes: more than there are would
    end the kernel, and ptxas does not say so."""
    blocks, following = blocks_of(code)
    number = {i: n for n, block in enumerate(blocks) for i in block}
    found = []
    for at, (_, name, text) in enumerate(code.instructions):
        if not (given := re.match(r"USETMAXREG.*\b0x([0-9a-f]+)", text)):
            continue
        ways, seen, most = [(number[at], at)], set(), 0
        while ways:
            block, first = ways.pop()
            for _, name, text in code.instructions[first:blocks[block].stop]:
                most = max(most, registers_of(name, text))
            ways += [(b, blocks[b].start) for b in following[block] if b not in seen]
            seen.update(following[block])
        found.append((int(given[1], 16), most))
    return found


def main_loop(code: Code) -> list[tuple[str, str, str]]:
    """The instructions of the main loop; empty if no loop has products."""
    blocks, following = blocks_of(code)
    before: list[list[int]] = [[] for _ in blocks]
    for block, others in enumerate(following):
        for other in others:
            before[other].append(block)
    columns = [sum(int(m[1]) for i in block if (m := PRODUCT.match(code.instructions[i][1]))) for block in blocks]
    best: tuple[int, int, int, set[int]] | None = None
    for last, others in enumerate(following):
        for head in others:
            if head > last:
                continue
            body, left = {head}, [last]
            while left:
                block = left.pop()
                if block not in body:
                    body.add(block)
                    left += before[block]
            products = sum(columns[b] for b in body)
            if products and (best is None or (products, -len(body)) > best[:2]) and (0 not in body or head == 0):
                best = (products, -len(body), head, body)
    if best is None:
        return []
    _, _, head, body = best
    # From the last block on: the best way from each to the head. Loops within (a wait that tries again) are left out.
    ways: dict[int, tuple[int, int, list[int]]] = {}
    for block in sorted(body, reverse=True):
        found = [(0, 0, [])] if head in following[block] else []
        found += [ways[b] for b in following[block] if b > block and b in ways]
        if found:
            products, size, way = max(found, key=lambda f: f[:2])
            ways[block] = (products + columns[block], size - len(blocks[block]), [block] + way)
    return [code.instructions[i] for block in ways[head][2] for i in blocks[block]]


def head_size(loop: list[tuple[str, str, str]]) -> int:
    """Columns of the products whose left side is in registers: of a head."""
    return max((int(m[1]) for _, name, text in loop if (m := PRODUCT.match(name)) and FROM_REGISTERS.search(text)), default=0)


def cycles(loop: list[tuple[str, str, str]]) -> dict[str, float]:
    """Cycles that an iteration of the main loop of an attention kernel takes of each unit: see the head."""
    count = {"tensor": 0.0, "issue": float(len(loop)), "fma": 0.0, "alu": 0.0, "special": 0.0, "shared": 0.0}
    tile, head = 0, head_size(loop)  # rows or keys of the tile of the others, columns of a head
    for _, name, text in loop:
        kind = name.split(".")[0]
        if product := PRODUCT.match(name):
            columns = int(product[1])
            count["tensor"] += columns / 2
            count["shared"] += 32 * columns / 128
            if not FROM_REGISTERS.search(text):
                count["shared"] += 64 * 32 / 128
                tile = columns
        elif kind in FMA:
            count["fma"] += FMA[kind]
        elif kind in ALU:
            count["alu"] += 2
        elif kind == "MUFU":
            count["special"] += 8
        elif kind in ("LDS", "STS", "STSM", "SHFL"):
            # Accesses of 16 bytes are done for 8 threads at a time, by each of four warps. What is stored 16 bytes at a time are
            # sums for the copy engine, which reads them.
            times = 4 if ".128" in name or kind == "STSM" else 2 if ".64" in name else 1
            count["shared"] += 4 * times * (2 if kind == "STS" and ".128" in name else 1)
    width = 64 if -head % 64 <= 16 else 32  # as SharedTile::width
    count["shared"] += 2 * tile * 2 * (head + -head % width) / 128 / 2
    return count


def share(count: dict[str, float]) -> float:
    return count["tensor"] / max(cycles for unit, cycles in count.items() if unit != "shared")


def share_of_all(count: dict[str, float]) -> float:
    return count["tensor"] / max(count.values())


def in_turn(count: dict[str, float]) -> float:
    others = max(count[unit] for unit in ("issue", "fma", "alu", "special"))
    return min(1.0, 2 * count["tensor"] / (count["tensor"] + others))
