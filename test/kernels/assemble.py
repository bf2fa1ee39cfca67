#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Assembles all kernels of models with ptxas: none may spill registers, and none may be serialized (C75xx).

    assemble.py --llamac build/bin/llamac [--chips sm_80,sm_90a,sm_100a] [--table FILE] [MODEL[:option...] ...]

With nvdisasm it also looks at the machine code:
- attention for sm_90a has HGMMA and UTMALDG, and tensor cores can be busy for 85 % of its main loop by instructions, 65 % with shared memory (sass.py), for heads of 64
  columns or more;
- attention by mma.sync has HMMA and LDGSTS;
- where a kernel changes the number of its registers, the code behind takes no more than it has then;
- no kernel has local memory (LDL, STL);
- a kernel whose PTX reads or writes global memory 16 bytes at a time does so in the machine code (LDG.E.128, STG.E.128).
ptxas and nvdisasm: of PATH, CUDA_HOME, /usr/local/cuda or build/cuda (tools/setup.sh --cuda).

Exit status: 0 all is well, 1 a kernel is not, 2 wrong use, 77 there is no ptxas or, with --nvdisasm, no nvdisasm.
"""

import argparse
import collections
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import sass

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "numerics" / "golden"
# Real sizes, then small ones that are no multiples of anything.
MODELS = ["llama3-8b:--text-length=8192", "llama3-8b-vision:--batch=2", f"{GOLDEN}/small/config.json:--text-length=33",
          f"{GOLDEN}/small/config.json:--text-length=33:--precision=f32",
          f"{GOLDEN}/text/config.json:--text-length=33:--precision=f64"]
# What the machine code of a kernel with such a name has.
INSTRUCTIONS = [(r"^attention_(forward|backward)_hopper", ["HGMMA", "UTMALDG"]), (r"^attention_(forward|dq|dkv)_mma", ["HMMA", "LDGSTS"])]
# The least share of tensor cores in a main loop.
SHARE, SHARE_OF_ALL = 0.85, 0.65  # by instructions; with shared memory, which products read


def wide_accesses(ptx: str, code: list[str]) -> dict[str, tuple[int, int]]:
    """Of loads and stores, how many 16-byte accesses of global memory PTX and machine code have. Of a load all that is loaded is used:
    ptxas makes it narrower else."""
    uses = collections.Counter(re.findall(r"%\w+", ptx))
    loads = re.findall(r"\bld\.global(?:\.\w+)*\.v(?:4\.\w?32|2\.\w?64)\s*\{([^}]*)\}", ptx)
    return {"LDG": (sum(all(uses[register] > 1 for register in re.findall(r"%\w+", load)) for load in loads),
                    sum(bool(re.match(r"LDG\.E\..*128", c)) for c in code)),
            "STG": (len(re.findall(r"\bst\.global(?:\.\w+)*\.v(?:4\.\w?32|2\.\w?64)\b", ptx)), sum(bool(re.match(r"STG\.E\..*128", c)) for c in code))}


def find(name: str, llamac: pathlib.Path) -> str | None:
    folders = [os.environ[v] + "/bin" for v in ("CUDA_HOME", "CUDA_PATH") if v in os.environ]
    folders += ["/usr/local/cuda/bin", str(llamac.resolve().parent.parent / "cuda/bin")]
    return shutil.which(name) or next(filter(None, (shutil.which(name, path=folder) for folder in folders)), None)


def assemble(ptxas: str, nvdisasm: str | None, chip: str, path: pathlib.Path) -> tuple[dict, list[str]]:
    """What a kernel takes, and what is wrong with it."""
    cubin = path.with_suffix(".assembled")
    result = subprocess.run([ptxas, f"-arch={chip}", "-O3", "-v", str(path), "-o", str(cubin)], capture_output=True, text=True)
    said = result.stdout + result.stderr
    number = lambda pattern: sum(int(n) for n in re.findall(r"(\d+) " + pattern, said))
    facts = {"registers": number("registers"), "shared": number("bytes smem"), "stack": number("bytes stack frame"),
             "spills": number("bytes spill (?:stores|loads)")}
    faults = []
    if result.returncode:
        faults.append(said.strip())
    if facts["spills"]:
        faults.append(f"{facts['spills']} bytes of spills, {facts['registers']} registers")
    # C7519: a fence that ptxas adds by itself.
    faults += [line.strip() for line in said.splitlines() if re.search(r"\(C75\d\d\)", line) and "(C7519)" not in line]
    if nvdisasm and not result.returncode:
        code = sass.parse(sass.disassemble(nvdisasm, cubin))
        names = [name for _, name, _ in code.instructions]
        kinds = {name.split(".")[0] for name in names}
        for pattern, wanted in INSTRUCTIONS:
            if re.search(pattern, path.name):
                faults += [f"no {instruction} in the machine code" for instruction in wanted if instruction not in kinds]
        faults += [f"{kind} in the machine code" for kind in ("LDL", "STL") if kind in kinds]
        faults += [f"{taken} registers where setmaxnreg leaves {given}" for given, taken in sass.given_registers(code) if taken > given]
        if "setmaxnreg" in path.read_text() and not sass.given_registers(code):
            faults.append("no USETMAXREG in the machine code")
        for kind, (asked, found) in wide_accesses(path.read_text(), names).items():
            facts[kind] = found
            if asked and not found:
                faults.append(f"PTX has {asked} accesses of 16 bytes that are no {kind}.E.128 in the machine code")
        if loop := sass.main_loop(code):
            count = sass.cycles(loop)
            facts |= {"tensor": int(count["tensor"]), "issue": int(count["issue"]), "share": round(sass.share(count), 3)}
            if sass.head_size(loop) >= 64 and (sass.share(count) < SHARE or sass.share_of_all(count) < SHARE_OF_ALL):
                faults.append(f"tensor cores are busy for {sass.share(count):.0%} of the main loop, {sass.share_of_all(count):.0%} with shared memory: {count}")
    return facts, faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llamac", required=True, type=pathlib.Path, help="the compiler")
    parser.add_argument("--chips", default="sm_80,sm_90a,sm_100a", help="to assemble for (sm_80,sm_90a,sm_100a)")
    parser.add_argument("--nvdisasm", action="store_true", help="skip all where there is no nvdisasm")
    parser.add_argument("--table", type=argparse.FileType("w"), help="write what each kernel takes there")
    parser.add_argument("models", nargs="*", default=MODELS, metavar="MODEL", help="model, and options of llamac compile after colons")
    arguments = parser.parse_args()
    ptxas, nvdisasm = (find(name, arguments.llamac) for name in ("ptxas", "nvdisasm"))
    if not ptxas:
        print("skipped: there is no ptxas; tools/setup.sh --cuda fetches one")
        return 77
    if arguments.nvdisasm and not nvdisasm:
        print("skipped: there is no nvdisasm; tools/setup.sh --cuda fetches one")
        return 77
    failed = count = 0
    wide = {"LDG": 0, "STG": 0}
    with tempfile.TemporaryDirectory() as temporary, concurrent.futures.ThreadPoolExecutor() as pool:
        jobs = []
        for number, text in enumerate(arguments.models):
            model, *options = text.split(":")
            for chip in arguments.chips.split(","):
                folder = pathlib.Path(temporary) / f"{number}.{chip}"
                command = [arguments.llamac, "compile", model, "--target=cuda", f"--chip={chip}", "--over-memory=allow", *options,
                           f"--kernels={folder}", "-o", f"{temporary}/model"]
                result = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"LLAMAC_PTXAS": "none"})
                if result.returncode:
                    print(f"FAIL {text} for {chip}: {result.stderr.strip()}")
                    failed += 1
                    continue
                jobs += [(text, chip, path, pool.submit(assemble, ptxas, nvdisasm, chip, path)) for path in sorted(folder.glob("*.ptx"))]
        for text, chip, path, job in jobs:
            facts, faults = job.result()
            count += 1
            for kind in wide:
                wide[kind] += facts.get(kind, 0)
            failed += bool(faults)
            for fault in faults:
                print(f"FAIL {text}, {path.stem} for {chip}: {fault}")
            if arguments.table:
                print(text, chip, path.name.split(".")[0], *(f"{key}={value}" for key, value in facts.items()), sep="\t", file=arguments.table)
    for kind, found in wide.items():
        if nvdisasm and count and not found:
            print(f"FAIL no kernel has {kind}.E.128")
            failed += 1
    print(f"{count} kernels with {ptxas}{'' if nvdisasm else '; the machine code was not looked at: no nvdisasm (tools/setup.sh --cuda fetches one)'}: {failed} failures")
    return 1 if failed or not count else 0


if __name__ == "__main__":
    sys.exit(main())
