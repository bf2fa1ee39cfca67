#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Everything that needs a GPU, in one call: run.sh says how it is called, pack.py makes what it runs.

Parts, in this order; what the time does not reach is listed as skipped, with the reason:
  kernels    every recorded launch again, alone: the software GPU's outputs bit by bit, or near where instructions are approximate
  witnesses  kernels of other compilers and single tensor-core instructions, bit by bit
  cases      golden cases against PyTorch's numbers, as test/numerics does
  ranks      grids whose ranks share the GPU, the same
  sanitizer  a small step under compute-sanitizer's tools
  workloads  W1 to W4 (workloads.py): steps of llamac and of PyTorch (eager, each SDPA back end, compiled), first losses compared

Prints one table; FOLDER/results.json has it all, FOLDER/*.log what the programs said.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "test/numerics/golden"
sys.path.insert(0, str(ROOT / "test/gpu"))
from workloads import WORKLOADS  # noqa: E402

PARTS = ["kernels", "witnesses", "cases", "ranks", "sanitizer", "workloads"]
TOLERANCE = {"f32": "1e-4", "bf16": "2e-2", "f64": "1e-12"}  # of a kernel alone, where bits differ
SANITIZER = ["memcheck", "racecheck", "initcheck", "synccheck"]
PEERS = ["eager", "flash", "efficient", "cudnn", "math", "compile"]
LLAMAC_STEPS, WARM_UP = 12, 4  # the first prepares, the second is recorded
LOSS_TOLERANCE = 0.02  # two bf16 runs, relative


class Stop(Exception):
    """Why an item has no result: `skipped` or `failed`."""

    def __init__(self, result: str, why: str):
        super().__init__(why)
        self.result = result


@dataclasses.dataclass
class Item:
    part: str
    name: str
    result: str  # same, near, passed, failed, skipped
    figures: str  # for the table
    seconds: float = 0.0
    details: dict = dataclasses.field(default_factory=dict)


class Session:
    def __init__(self, arguments: argparse.Namespace, pack: pathlib.Path, output: pathlib.Path):
        self.arguments, self.pack, self.output = arguments, pack, output
        self.end = time.monotonic() + 60 * arguments.minutes
        self.items: list[Item] = []
        self.list = json.loads((pack / "pack.json").read_text())
        libraries = [str(pack / "lib"), os.environ.get("LD_LIBRARY_PATH", "")]
        self.environment = dict(os.environ)
        if arguments.software_gpu:
            libraries.insert(0, str(arguments.software_gpu))
            self.environment |= {"SOFTWARE_GPU_CHIP": "sm_90"}
        else:
            libraries += wheel_libraries()
            self.environment.setdefault("CUDA_VISIBLE_DEVICES", "0")
        self.environment["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, libraries))
        self.environment.setdefault("XDG_CACHE_HOME", str(output / "cache"))  # measured products, for all programs

    def left(self) -> float:
        return self.end - time.monotonic()

    def run(self, name: str, command: list, limit: float, good: tuple[int, ...] = (0,), **options) -> subprocess.CompletedProcess:
        """Output goes to a log of its own. Stops where time or status are not as they should be."""
        if self.left() < 5:
            raise Stop("skipped", "no time left")
        limit = min(limit, self.left())
        try:
            done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=limit,
                                  env=options.pop("env", self.environment), **options)
        except subprocess.TimeoutExpired:
            raise Stop("failed", f"not done after {limit:.0f} s") from None
        except OSError as error:
            raise Stop("failed", str(error)) from None
        (self.output / f"{name}.log").write_text(f"{' '.join(map(str, command))}\nstatus {done.returncode}\n{done.stdout}\n{done.stderr}")
        if done.returncode not in good:
            last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
            raise Stop("failed", f"status {done.returncode}: {last[:200]}")
        return done

    def add(self, part: str, name: str, work) -> None:
        """`work` gives result, figures, details."""
        begin = time.monotonic()
        try:
            result, figures, details = work()
        except Stop as stop:
            result, figures, details = stop.result, str(stop), {}
        item = Item(part, name, result, figures, round(time.monotonic() - begin, 1), details)
        self.items.append(item)
        print(f"{item.part:10} {item.name:34} {item.result:8} {item.seconds:6.1f} s  {item.figures}", flush=True)
        self.write()

    def write(self) -> None:
        text = json.dumps({"commit": self.list.get("commit"), "machine": self.machine,
                           "items": [dataclasses.asdict(item) for item in self.items]}, indent=1)
        (self.output / "results.json").write_text(text + "\n")

    def find_machine(self) -> None:
        self.machine = {"software_gpu": bool(self.arguments.software_gpu)}
        if shutil.which("nvidia-smi") and not self.arguments.software_gpu:
            try:
                asked = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.sm,clocks.max.sm",
                                        "--format=csv,noheader"], capture_output=True, text=True, timeout=30)
                self.machine["gpu"] = asked.stdout.strip()
            except (OSError, subprocess.TimeoutExpired) as error:
                self.machine["gpu"] = str(error)
        print(f"llamac {self.list.get('commit')} on {self.machine.get('gpu', 'the software GPU')}", flush=True)


def wheel_libraries() -> list[str]:
    """Folders of NVIDIA's PyPI packages: cuBLAS and NCCL of PyTorch's own."""
    folders = []
    for package in ("cu13", "cublas", "nccl", "cuda_runtime"):
        for path in map(pathlib.Path, sys.path):
            if (path / "nvidia" / package / "lib").is_dir():
                folders.append(str(path / "nvidia" / package / "lib"))
    return folders


# ----------------------------------------------------------------------------------------------------------------------
# Correctness


def kernels(session: Session) -> None:
    for entry in session.list["kernels"]:
        def work(entry=entry):
            lines = session.output / f"kernels-{entry['name']}.jsonl"
            done = session.run(f"kernels-{entry['name']}", [session.pack / session.list["replay"], session.pack / entry["file"],
                               f"--json={lines}", f"--tolerance={TOLERANCE[entry['precision']]}"], 90, (0, 1))
            launches = [json.loads(line) for line in lines.read_text().splitlines()]
            count = {word: sum(launch["result"] == word for launch in launches) for word in ("same", "near", "wrong")}
            result = "failed" if count["wrong"] or not launches else "near" if count["near"] else "same"
            not_same = [launch for launch in launches if launch["result"] != "same"]
            return result, done.stdout.strip().splitlines()[-1], {"not_same": not_same, **count}
        session.add("kernels", entry["name"], work)


def witnesses(session: Session) -> None:
    for entry in session.list["witnesses"]:
        def work(entry=entry):
            compare = ROOT / "tools/software-gpu/test/Hardware/compare.sh"
            real = ["software"] if session.arguments.software_gpu else ["libcuda.so.1"]
            environment = {key: value for key, value in session.environment.items() if key != "SOFTWARE_GPU_CHIP"}
            done = session.run("witnesses", [compare, session.pack / entry["folder"], *real, session.output / "witnesses"], 90, (0, 1),
                               env=environment)
            lines = done.stdout.strip().splitlines()
            return "passed" if done.returncode == 0 else "failed", lines[-1] if lines else "no output", {
                "differ": [line for line in lines if line.startswith("differs")]}
        session.add("witnesses", entry["name"], work)


def case_work(session: Session, name: str, entry: dict, options: list):
    def work():
        command = [sys.executable, ROOT / "test/numerics/run_case.py", "--executable", session.pack / entry["executable"],
                   "--case", GOLDEN / entry["case"], "--precision", entry["precision"], "--target=cuda", *options]
        if session.arguments.software_gpu:
            command += [f"--software-gpu={session.arguments.software_gpu}", f"--chip={entry.get('chip', 'sm_90a')}"]
        done = session.run(name, command, 120, (0, 1))
        lines = (done.stdout.strip() or done.stderr.strip() or "no output").splitlines()
        return "passed" if done.returncode == 0 else "failed", lines[-1].split(": ", 1)[-1][:160], {
            "failures": [line for line in lines if line.startswith("FAIL")]}
    return work


def cases(session: Session) -> None:
    for entry in session.list["cases"]:
        name = f"{entry['case']}-{entry['precision']}-{entry['chip']}"
        session.add("cases", name, case_work(session, name, entry, [f"--lower={entry['lower']}"]))


def ranks(session: Session) -> None:
    for entry in session.list["ranks"]:
        name = f"{entry['case']}-{entry['grid'].replace('=', '').replace(',', '')}"
        session.add("ranks", name, case_work(session, name, entry, [f"--grid={entry['grid']}"]))


def sanitizer(session: Session) -> None:
    chosen = next((entry for entry in session.list["cases"] if entry["precision"] == "bf16"), None)
    tool = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    for name in SANITIZER:
        def work(name=name):
            if session.arguments.software_gpu:
                raise Stop("skipped", "the software GPU has checks of its own")
            if not tool or not chosen:
                raise Stop("skipped", "there is no compute-sanitizer" if not tool else "no bf16 case in the pack")
            case = GOLDEN / chosen["case"]
            config = json.loads((case / "case.json").read_text())["config"]
            done = session.run(f"sanitizer-{name}", [tool, f"--tool={name}", "--error-exitcode=99", session.pack / chosen["executable"],
                               "step", f"--weights={GOLDEN / config / 'model.safetensors'}", f"--batch={case / 'batch.safetensors'}"],
                               60, (0, 99))
            found = re.findall(r"(?:ERROR|RACECHECK) SUMMARY: (.*)", done.stdout + done.stderr)
            if not found:
                raise Stop("failed", "no summary: the tool does not work here")
            clean = done.returncode == 0 and re.match(r"0 (errors|hazards)", found[-1])
            return "passed" if clean else "failed", found[-1], {}
        session.add("sanitizer", name, work)


# ----------------------------------------------------------------------------------------------------------------------
# Time


def block_times(trace: pathlib.Path) -> dict[str, float]:
    """Milliseconds of each block in a step, by events of the GPU, over all its calls of the last step traced."""
    events = json.loads(trace.read_text())
    events = [event for event in (events["traceEvents"] if isinstance(events, dict) else events) if event.get("ph") == "X"]
    last = max(event["args"].get("step", 0) for event in events)
    times: dict[str, float] = {}
    for event in events:
        if event["args"].get("do") == "call" and event["args"].get("step") == last:
            times[event["name"]] = times.get(event["name"], 0) + event["dur"] / 1e3
    return times


def is_update(block: str) -> bool:
    return re.match(r"(adamw|gradient_norm|clip_norm|add_once)", block) is not None


def own_step(session: Session, entry: dict, folder: pathlib.Path) -> dict:
    executable = session.pack / entry["executable"]
    files = [f"--weights={folder / 'weights.safetensors'}", f"--batch={folder / 'batch.safetensors'}"]
    done = session.run(f"{entry['name']}-llamac", [executable, "step", *files, f"--steps={LLAMAC_STEPS}"], 150)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    milliseconds = [1e3 * line["seconds"] for line in lines[WARM_UP:]]
    trace = folder / "trace.json"
    session.run(f"{entry['name']}-trace", [executable, "step", *files, "--steps=3", f"--trace={trace}"], 90)
    blocks = block_times(trace)
    return {"ms": statistics.median(milliseconds), "least": min(milliseconds), "most": max(milliseconds), "loss": lines[0]["loss"],
            "update_ms": sum(ms for block, ms in blocks.items() if is_update(block)), "blocks_ms": sum(blocks.values()),
            "blocks": dict(sorted(blocks.items(), key=lambda pair: -pair[1]))}


def workloads(session: Session) -> None:
    for entry in session.list["workloads"]:
        name, workload = entry["name"], WORKLOADS[entry["name"]]
        own: dict = {}
        with tempfile.TemporaryDirectory(dir=session.arguments.scratch) as temporary:
            folder = pathlib.Path(temporary)
            peer = [sys.executable, ROOT / "test/gpu/peer.py", "--workload", name, "--folder", folder]

            if entry["small"]:
                peer += ["--small"]
            if session.arguments.software_gpu:
                peer += ["--device", "cpu"]

            def write():
                if session.arguments.software_gpu and not entry["small"]:
                    raise Stop("skipped", "full sizes are not for the software GPU")
                if subprocess.run([sys.executable, "-c", "import torch, transformers"], capture_output=True).returncode != 0:
                    raise Stop("skipped", f"no PyTorch and transformers in {sys.executable}")
                session.run(f"{name}-write", [*peer, "--write"], 90)
                return "passed", "", {}

            def measure_own():
                own.update(own_step(session, entry, folder))
                forward = own["blocks_ms"] - own["update_ms"]
                ours = own["update_ms"] if workload.is_optimizer else forward
                return "passed", (f"step {own['ms']:.2f} ms ({own['least']:.2f} to {own['most']:.2f}); "
                                  f"{'update' if workload.is_optimizer else 'forward and backward'} {ours:.2f} ms: "
                                  f"{ours / workload.floor:.2f} of the floor {workload.floor}, goal {workload.goal}"), own

            def measure_peer(form):
                done = session.run(f"{name}-{form}", [*peer, "--form", form], 100)
                it = json.loads(done.stdout.strip().splitlines()[-1])
                if "refused" in it:
                    return "skipped", it["refused"][:160], it
                ratio = f", llamac is {it['ms'] / own['ms']:.2f} times as fast" if own else ""
                off = abs(it["loss"] - own["loss"]) / abs(it["loss"]) if own else 0.0
                result = "passed" if off <= LOSS_TOLERANCE else "failed"
                return result, (f"step {it['ms']:.2f} ms (forward and backward {it['forward_backward_ms']:.2f}, update {it['update_ms']:.2f})"
                                f"{ratio}; first losses {100 * off:.2g} % apart"), it

            session.add("workloads", f"{name} inputs", write)
            if session.items[-1].result != "passed":
                continue
            session.add("workloads", f"{name} llamac", measure_own)
            for form in ["eager", "compile"] if workload.is_optimizer else PEERS:
                session.add("workloads", f"{name} PyTorch {form}", lambda form=form: measure_peer(form))


# ----------------------------------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(prog="run.sh", description=__doc__.splitlines()[0])
    parser.add_argument("pack", type=pathlib.Path, help="what pack.py made: a folder or an archive")
    parser.add_argument("--output", type=pathlib.Path, help="folder for results.json and logs; default: OUT of the environment, else gpu-results")
    parser.add_argument("--scratch", help="folder for weights of up to 5 GB at a time; default: that of temporary files")
    parser.add_argument("--minutes", type=float, default=9.5, help="all of it (9.5)")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of " + ", ".join(PARTS))
    parser.add_argument("--software-gpu", type=pathlib.Path, help="folder of its libraries: run there, for a test of this script")
    arguments = parser.parse_args()
    parts = arguments.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--parts: expected some of {', '.join(PARTS)}, got {', '.join(sorted(unknown))}")
    output = (arguments.output or pathlib.Path(os.environ.get("OUT", "gpu-results"))).resolve()
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as temporary:
        pack = arguments.pack
        if pack.is_file():
            with tarfile.open(pack) as archive:
                archive.extractall(temporary, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
            pack = next(pathlib.Path(temporary).iterdir())
        if not (pack / "pack.json").exists():
            parser.error(f"{arguments.pack}: expected a folder with pack.json, or an archive of one; test/gpu/pack.py makes it")
        session = Session(arguments, pack.resolve(), output)
        session.find_machine()
        for part in parts:
            globals()[part](session)
        if not session.items:
            parser.error(f"{arguments.pack}: the pack has nothing of {arguments.parts}")
        session.write()
    count = {word: sum(item.result == word for item in session.items) for word in ("same", "near", "passed", "failed", "skipped")}
    print(", ".join(f"{number} {word}" for word, number in count.items() if number) + f"; {output / 'results.json'}")
    return 1 if count["failed"] or count["skipped"] == len(session.items) else 0


if __name__ == "__main__":
    sys.exit(main())
