# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Tables of the ledger on attention for sm_90a: how busy the tensor cores could be in main loops (sass.py, which needs ptxas and
nvdisasm), and how evenly blocks fill the multiprocessors (schedule.py).

    main_loops.py [--build build]
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
for folder in ("kernels", "properties"):
    sys.path.insert(0, str(ROOT / "test" / folder))

import sass  # noqa: E402
import schedule  # noqa: E402
from assemble import find  # noqa: E402
from mutants import text_config  # noqa: E402


def disassembler(build: pathlib.Path) -> str:
    nvdisasm = find("nvdisasm", build / "bin/llamac")
    if not nvdisasm or not find("ptxas", build / "bin/llamac"):
        sys.exit("there is no ptxas or no nvdisasm; tools/setup.sh --cuda fetches them")
    return nvdisasm


def main_loops(build: pathlib.Path) -> list[str]:
    """Main loops by instruction counts of the machine code, for heads of 64, 80 and 128 columns."""
    llamac = build / "bin/llamac"
    nvdisasm = disassembler(build)
    units = ["tensor", "issue", "fma", "alu", "special", "shared"]
    lines = ["## Main loops of attention on sm_90a", "",
             "Cycles that an iteration of a warp, without a mask, takes of each unit of its scheduler, counted in the machine code that ptxas makes. Rates and rules:",
             "`test/kernels/sass.py`. The share is that of the tensor cores if only the busiest unit counts, without shared memory and with it; in turn, if nothing of a group of",
             "four warps overlaps with its own products. `test/kernels/assemble.py` holds the first at 0.85, the second at 0.65 or more.", "",
             "| kernel | head | " + " | ".join(units) + " | share | with shared memory | in turn |", "|---" * (len(units) + 5) + "|"]
    for head in (64, 80, 128):
        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(temporary)
            config = text_config(hidden_size=2 * head, num_attention_heads=2, num_key_value_heads=1, num_hidden_layers=1, vocab_size=256)
            (folder / "config.json").write_text(json.dumps(config))
            command = [llamac, "compile", folder / "config.json", "--target=cuda", "--chip=sm_90a", "--text-length=2048", "--over-memory=allow",
                       f"--kernels={folder / 'kernels'}", "-o", folder / "model"]
            subprocess.run([str(part) for part in command], check=True)
            for path in sorted((folder / "kernels").glob("attention_*_hopper.*.cubin")):
                loop = sass.main_loop(sass.parse(sass.disassemble(nvdisasm, path)))
                if not loop:  # a kernel without products
                    continue
                count = sass.cycles(loop)
                lines.append(f"| `{path.name.split('.')[0]}` | {head} | " + " | ".join(f"{count[unit]:.0f}" for unit in units) +
                             f" | {sass.share(count):.2f} | {sass.share_of_all(count):.2f} | {sass.in_turn(count):.2f} |")
    return lines + [""]


def balances() -> list[str]:
    """How evenly blocks of causal attention fill the multiprocessors."""
    return ["## Tiles of causal attention over multiprocessors", "",
            f"W3: 8,192 tokens, 32 heads, 8 of keys, {schedule.MULTIPROCESSORS} multiprocessors (`test/bench/gpu/schedule.py`). Pairs of tiles that are not skipped, and how much of the time until the",
            "last multiprocessor is done all of them are busy: with the longest tiles of a head first, head after head; with those of up to 16 heads side by side, as it is; with",
            "the longest last.", ""] + schedule.table(8192, 32, 8, 1) + ["",
            "Blocks of the backward wait for each other: busy with these waits, by what passes between the moment when a part of dQ is there and when the next key tile may add its own",
            "(in times of a pair of tiles), and by how many parts may wait in shared memory (2 for heads of 128).", ""] + schedule.waits(8192, 32, 8, 1) + [""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build", help="build folder")
    print("\n".join(main_loops(parser.parse_args().build) + balances()))


if __name__ == "__main__":
    main()
