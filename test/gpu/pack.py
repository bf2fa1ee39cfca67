#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Makes what run.sh needs on a machine with a GPU and without LLVM: executables, and recordings of the software GPU.

    pack.py --build build [--output build/gpu] [--parts cases,ranks,kernels,witnesses,workloads] [--archive FILE.tar.xz]

The folder holds pack.json, which lists the rest: `bin` (programs for CUDA, with PTX and, where there is ptxas, machine code), `kernels`
(recordings: each kernel's launch with what it read and wrote on the software GPU), `software-gpu` (the program that repeats
them, that of the witnesses, and the software GPU itself), `lib` (libraries of this system that the programs need and that the
other one may not have). Golden cases are those of test/numerics/golden, which travels with the repository.

Exit status: 0, or 1 if a program does not compile or the software GPU reports a fault.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "test/numerics/golden"
for folder in ("test/numerics", "test/properties", "test/gpu"):
    sys.path.insert(0, str(ROOT / folder))

import run_case  # noqa: E402
from batch import write_safetensors  # noqa: E402
from grids import Draw, draw_batch, draw_weights  # noqa: E402
from mutants import text_config, vision_config  # noqa: E402
from workloads import WORKLOADS, small  # noqa: E402

PARTS = ["cases", "ranks", "kernels", "witnesses", "workloads"]
# Name, precision, lowering, chips. Attention for sm_80 runs on any later chip, from its PTX.
CASES = [("aspects", "f32", "fast", "sm_90a"), ("aspects", "bf16", "fast", "sm_90a"), ("aspects", "bf16", "fast", "sm_80"),
         ("aspects", "f64", "reference", "sm_90a"), ("separated_markers", "f32", "fast", "sm_90a"),
         ("text", "bf16", "fast", "sm_90a"), ("text_documents", "f32", "fast", "sm_90a"), ("adapter", "f32", "fast", "sm_90a")]
RANKS = [("aspects", "f32", "tp=2,cp=1,pp=2,dp=1"), ("aspects", "f32", "tp=1,cp=2,pp=1,dp=2")]
# Head sizes and forms that golden cases are too small for: heads of 128 (grouped) and 80, lengths that are no multiples.
HEADS = {"hidden_size": 256, "intermediate_size": 256, "num_attention_heads": 2, "num_key_value_heads": 1,
         "vocab_size": 64}
ENCODER = {"hidden_size": 160, "attention_heads": 2, "intermediate_size": 192, "patch_size": 14, "image_size": 42,
           "max_num_tiles": 4, "num_hidden_layers": 1, "num_global_layers": 1, "vision_output_dim": 320,
           "intermediate_layers_indices": [0]}


def heads_program() -> Draw:
    config = vision_config()
    config["text_config"] |= HEADS | {"num_hidden_layers": 2, "cross_attention_layers": [1]}
    config["vision_config"] |= ENCODER
    config["image_token_index"] = HEADS["vocab_size"]
    # Norms alone are trained: their gradients need all of attention, and recordings of AdamW stay small.
    return Draw(config, {"tp": 1, "cp": 1, "pp": 1, "dp": 1}, 1, 1, 150, 1, ["--trainable=*norm*"], [])


def run(command: list, **options) -> str:
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if result.returncode != 0:
        sys.exit(f"pack: exit status {result.returncode} of {' '.join(map(str, command))}\n{result.stdout}{result.stderr}")
    return result.stdout


class Pack:
    def __init__(self, build: pathlib.Path, output: pathlib.Path):
        self.build, self.output = build, output
        self.llamac = str(build / "bin/llamac")
        self.list: dict = {"cases": [], "ranks": [], "kernels": [], "witnesses": [], "workloads": []}
        for folder in ("bin", "kernels", "lib"):
            (output / folder).mkdir(parents=True)

    def executable(self, name: str) -> pathlib.Path:
        return self.output / "bin" / name

    def finish_executable(self, path: pathlib.Path) -> str:
        """Strips it, and takes along what it is linked with but for the C library."""
        run(["strip", path])
        for line in run(["ldd", path]).splitlines():
            name, _, rest = line.strip().partition(" => ")
            if rest.startswith("/") and not name.startswith(("libc.", "libm.", "libdl.", "libpthread.", "librt.", "ld-linux")):
                shutil.copy(rest.split()[0], self.output / "lib" / name)
        return str(path.relative_to(self.output))

    def arguments(self, case: str, precision: str, lower: str, chip: str, grid: str) -> argparse.Namespace:
        return argparse.Namespace(llamac=self.llamac, case=GOLDEN / case, precision=precision, lower=lower, grid=grid,
                                  micro_batches=None, target="cuda", chip=chip, compile_option=[])

    def compile_case(self, case: str, precision: str, lower: str, chip: str, grid: str) -> str:
        path = self.executable("-".join([case, precision, lower, chip, grid.replace("=", "").replace(",", "")]))
        if not path.exists():
            description = json.loads((GOLDEN / case / "case.json").read_text())
            run(run_case.compile_command(self.arguments(case, precision, lower, chip, grid), description, path))
            self.finish_executable(path)
        return str(path.relative_to(self.output))

    def cases(self, most: int) -> None:
        for case, precision, lower, chip in CASES[:most]:
            executable = self.compile_case(case, precision, lower, chip, "tp=1,cp=1,pp=1,dp=1")
            self.list["cases"].append({"case": case, "precision": precision, "lower": lower, "chip": chip, "executable": executable})

    def ranks(self, most: int) -> None:
        for case, precision, grid in RANKS[:most]:
            executable = self.compile_case(case, precision, "fast", "sm_90a", grid)
            self.list["ranks"].append({"case": case, "precision": precision, "grid": grid, "executable": executable})

    def record(self, name: str, precision: str, command: list, folder: pathlib.Path) -> None:
        recording = self.output / "kernels" / name
        # Code for sm_80, too, is recorded on the chip that repeats it: tensor cores of sm_80 round sums differently.
        run(command, cwd=folder, env=os.environ | {"LD_LIBRARY_PATH": str(self.build / "lib/software-gpu"), "SOFTWARE_GPU_CHIP": "sm_90",
                                                   "SOFTWARE_GPU_RECORD": str(recording)})
        self.list["kernels"].append({"name": name, "file": str(recording.relative_to(self.output)), "precision": precision})

    def kernels(self, most: int) -> None:
        """Records one step of golden cases, and of a program with the heads of real models, in every form of attention."""
        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(temporary)
            for case, precision, lower, chip in CASES[:min(most, 3)]:
                executable = self.output / self.compile_case(case, precision, lower, chip, "tp=1,cp=1,pp=1,dp=1")
                arguments = self.arguments(case, precision, lower, chip, "")
                description = json.loads((GOLDEN / case / "case.json").read_text()) | {"steps": 1}
                self.record(f"{case}-{precision}-{chip}", precision,
                            run_case.step_command(arguments, description, executable, folder), folder)
            if most < 4:
                return
            draw = heads_program()
            (folder / "config.json").write_text(json.dumps(draw.config))
            r = random.Random(1)
            model = run([self.llamac, "import", folder / "config.json", "-o", "-"])
            write_safetensors(folder / "weights.safetensors", draw_weights(r, model))
            write_safetensors(folder / "batch.safetensors", draw_batch(r, draw))
            for precision, chip in [("bf16", "sm_90a"), ("bf16", "sm_80"), ("f32", "sm_80")]:
                executable = folder / f"{precision}-{chip}"
                run(draw.compile_command(self.llamac, folder / "config.json", executable, True, precision) +
                    ["--target=cuda", f"--chip={chip}"])
                self.record(f"heads-{precision}-{chip}", precision,
                            [executable, "step", f"--weights={folder / 'weights.safetensors'}",
                             f"--batch={folder / 'batch.safetensors'}"], folder)

    def software_gpu(self) -> None:
        folder = self.output / "software-gpu"
        (folder / "lib/software-gpu").mkdir(parents=True)
        for library in (self.build / "lib/software-gpu").glob("libcuda.so*"):
            shutil.copy(library, folder / "lib/software-gpu", follow_symlinks=False)
        for name in ("software-gpu-outputs", "software-gpu-replay"):
            found = next(path for path in self.build.rglob(name) if path.is_file())
            shutil.copy(found, folder / name)
            self.finish_executable(folder / name)
        self.list["replay"] = "software-gpu/software-gpu-replay"

    def workloads(self, is_small: bool) -> None:
        with tempfile.TemporaryDirectory() as temporary:
            for name, workload in WORKLOADS.items():
                workload = small(workload) if is_small else workload
                config = pathlib.Path(temporary) / "config.json"
                config.write_text(json.dumps(workload.config))
                path = self.executable(name)
                # As the installed transformers has it: features behind the layers, row masks on the feed-forward branch.
                form = ["--feature-taps=output", "--row-mask=ffn"] if workload.images else []
                run([self.llamac, "compile", config, "--target=cuda", "--chip=sm_90a", "--precision=bf16", f"--batch={workload.samples}",
                     f"--text-length={workload.text_length}", f"--images={workload.images}", *form, "-o", path])
                self.list["workloads"].append({"name": name, "executable": self.finish_executable(path),
                                               "small": is_small})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build", help="build folder")
    parser.add_argument("--output", type=pathlib.Path, help="folder to make; default BUILD/gpu. What was there is removed if it is a pack")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of " + ", ".join(PARTS))
    parser.add_argument("--most", type=int, default=100, help="cases of each part, the first ones (all)")
    parser.add_argument("--small", action="store_true", help="workloads that a CPU can do, for a test of run.sh")
    parser.add_argument("--archive", type=pathlib.Path, help="also write all of it as one compressed file")
    arguments = parser.parse_args()
    build, parts = arguments.build.resolve(), arguments.parts.split(",")
    output = (arguments.output or build / "gpu").resolve()
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--parts: expected some of {', '.join(PARTS)}, got {', '.join(sorted(unknown))}")
    if output.exists():
        if any(output.iterdir()) and not (output / "pack.json").exists():
            parser.error(f"--output: {output} is there and is no pack")
        shutil.rmtree(output)
    pack = Pack(build, output)
    if "cases" in parts:
        pack.cases(arguments.most)
    if "ranks" in parts:
        pack.ranks(arguments.most)
    if "kernels" in parts:
        pack.kernels(arguments.most)
    if "witnesses" in parts or "kernels" in parts:
        pack.software_gpu()
    if "witnesses" in parts:
        pack.list["witnesses"].append({"name": "witnesses", "folder": "software-gpu"})
    if "workloads" in parts:
        pack.workloads(arguments.small)
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True)
    pack.list["commit"] = commit.stdout.strip()
    (output / "pack.json").write_text(json.dumps(pack.list, indent=1) + "\n")
    if arguments.archive:
        with tarfile.open(arguments.archive, "w:xz") as archive:
            archive.add(output, output.name)
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    packed = f", {arguments.archive.stat().st_size / 1e6:.1f} MB as {arguments.archive}" if arguments.archive else ""
    print(f"{output}: {size / 1e6:.1f} MB{packed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
