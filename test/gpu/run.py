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

Where workloads are to be timed, the others have half of the time at most. What is cut because the time ends is `skipped`, what takes
longer than it may `failed`. Prints one table; FOLDER has three files: table.txt, results.json with all figures, log.txt with what the
programs said. Each item is written when it is done: SIGTERM and what breaks lose nothing that was measured.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "test/numerics/golden"
sys.path.insert(0, str(ROOT / "test/gpu"))
from workloads import LEARNING_RATE, WORKLOADS, steps  # noqa: E402

PARTS = ["kernels", "witnesses", "cases", "ranks", "sanitizer", "workloads"]
TOLERANCE = {"f32": "1e-4", "bf16": "2e-2", "f64": "1e-12"}  # of a kernel alone, where bits differ
SANITIZER = ["memcheck", "racecheck", "initcheck", "synccheck"]
BACK_ENDS = ["flash", "efficient", "cudnn", "math"]  # of PyTorch's attention
# Two bf16 runs with the same weights and batch, relative: the first loss, the norm of its gradients, the loss of the first step that is timed.
TOLERANCES = {"loss": 0.005, "gradient norm": 0.05, "later loss": 0.1}


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
    def __init__(self, arguments: argparse.Namespace, pack: pathlib.Path, output: pathlib.Path, scratch: str):
        self.arguments, self.pack, self.output, self.scratch = arguments, pack, output, pathlib.Path(scratch)
        self.end = time.monotonic() + 60 * arguments.minutes
        self.items: list[Item] = []
        self.list = json.loads((pack / "pack.json").read_text())
        self.part_end = self.end
        self.is_waiting = self.is_asked_to_stop = False  # for a program; by a signal
        # What programs remember lies where it can be written, and is empty at first: measured products, PyTorch's compiled code.
        cache = pathlib.Path(scratch) / "cache"
        self.peer_environment = dict(os.environ) | {"XDG_CACHE_HOME": str(cache), "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
                                                    "TRITON_CACHE_DIR": str(cache / "triton")}
        libraries = [os.environ.get("LD_LIBRARY_PATH", ""), str(pack / "lib")]
        if arguments.software_gpu:
            libraries.insert(0, str(arguments.software_gpu.resolve()))
        else:
            libraries += nvidia_libraries()
            self.peer_environment.setdefault("CUDA_VISIBLE_DEVICES", "0")
        # PyTorch finds its libraries itself, and does without ours.
        self.environment = self.peer_environment | {"LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries))}
        if arguments.software_gpu:
            self.environment |= {"SOFTWARE_GPU_CHIP": "sm_90"}

    def left(self) -> float:
        return min(self.end, self.part_end) - time.monotonic()

    def run(self, name: str, command: list, limit: float, good: tuple[int, ...] = (0,), **options) -> subprocess.CompletedProcess:
        """Output goes to the log. Stops where time or status are not as they should be; nothing that the program started is left then."""
        if self.left() < 5:
            raise Stop("skipped", "no time left")
        if self.arguments.software_gpu:
            limit *= 10  # a machine that emulates, and may have much else to do
        until = min(limit, self.left())
        try:
            process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                       errors="replace", start_new_session=True, env=options.pop("env", self.environment), **options)
        except OSError as error:
            raise Stop("failed", str(error)) from None
        ended = True
        try:
            self.is_waiting = True  # from here on a signal finds what it has to end
            self.stop_if_asked()
            stdout, stderr = process.communicate(timeout=until)
        except subprocess.TimeoutExpired:
            ended = False
        finally:
            self.is_waiting = False
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if not ended:
            stdout, stderr = process.communicate()
        status = f"status {process.returncode}" if ended else f"cut after {until:.0f} s"
        with (self.output / "log.txt").open("a") as log:
            log.write(f"==== {name}: {status}\n{' '.join(map(str, command))}\n{stdout}\n{stderr}\n")
        if not ended:
            raise Stop("failed", f"not done after {until:.0f} s") if until == limit else Stop(
                "skipped", f"cut after {until:.0f} s: no time left")
        if process.returncode not in good:
            last = (stderr.strip() or stdout.strip() or "no output").splitlines()[-1]
            raise Stop("failed", f"{status}: {last[:200]}")
        return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)

    def stop_if_asked(self) -> None:
        if self.is_asked_to_stop:
            raise KeyboardInterrupt

    def add(self, part: str, name: str, work) -> None:
        """`work` gives result, figures, details, and whatever it raises is its result."""
        self.stop_if_asked()
        begin = time.monotonic()
        try:
            result, figures, details = work()
        except Stop as stop:
            result, figures, details = stop.result, str(stop), {}
        except Exception as error:  # output that is not as expected, say: the other items go on
            result, figures, details = "failed", f"{type(error).__name__}: {error}"[:200], {"trace": traceback.format_exc()}
        item = Item(part, name, result, figures, round(details.get("seconds", time.monotonic() - begin), 1), details)
        self.items.append(item)
        self.say(f"{item.part:10} {item.name:34} {item.result:8} {item.seconds:6.1f} s  {item.figures}")
        self.write()

    def say(self, line: str) -> None:
        print(line, flush=True)
        with (self.output / "table.txt").open("a") as table:
            table.write(line + "\n")

    def write(self) -> None:
        text = json.dumps({"commit": self.list.get("commit"), "machine": self.machine,
                           "items": [dataclasses.asdict(item) for item in self.items]}, indent=1)
        (self.output / "results.json").write_text(text + "\n")

    def do(self, parts: list[str]) -> None:
        """In the order of PARTS, as far as the time goes."""
        def stop(*_):
            self.is_asked_to_stop = True
            if self.is_waiting:
                self.stop_if_asked()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        half = self.end - 30 * self.arguments.minutes if "workloads" in parts and self.list["workloads"] else self.end
        try:
            for part in filter(parts.__contains__, PARTS):
                self.part_end = self.end if part == "workloads" else half
                globals()[part](self)
        except KeyboardInterrupt:
            self.items.append(Item("run", "all", "failed", "stopped by a signal"))
            self.say("stopped by a signal: what is missing above did not run")
        self.write()

    def find_machine(self) -> None:
        self.machine = {"software_gpu": bool(self.arguments.software_gpu)}
        if shutil.which("nvidia-smi") and not self.arguments.software_gpu:
            try:
                asked = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.sm,clocks.max.sm",
                                        "--format=csv,noheader"], capture_output=True, text=True, timeout=30)
                self.machine["gpu"] = asked.stdout.strip()
            except (OSError, subprocess.TimeoutExpired) as error:
                self.machine["gpu"] = str(error)
        self.say(f"llamac {self.list.get('commit')} on {self.machine.get('gpu', 'the software GPU')}")


def nvidia_libraries() -> list[str]:
    """Folders where cuBLAS, NCCL and the driver may be if the loader does not know them: PyTorch's own packages first."""
    packages = [path / "nvidia" / package / "lib" for package in ("cu13", "cublas", "nccl", "cuda_runtime") for path in map(pathlib.Path, sys.path)]
    usual = [pathlib.Path("/usr/local/cuda/lib64"), pathlib.Path("/usr/local/nvidia/lib64")]
    return [str(folder) for folder in packages + usual if folder.is_dir()]


# ----------------------------------------------------------------------------------------------------------------------
# Correctness


def kernels(session: Session) -> None:
    for entry in session.list["kernels"]:
        def work(entry=entry):
            lines = session.scratch / f"kernels-{entry['name']}.jsonl"
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
            folders = map(pathlib.Path, session.environment["LD_LIBRARY_PATH"].split(os.pathsep))
            driver = next((folder / "libcuda.so.1" for folder in folders if (folder / "libcuda.so.1").exists()), "libcuda.so.1")
            real = "software" if session.arguments.software_gpu else driver
            environment = {key: value for key, value in session.environment.items() if key != "SOFTWARE_GPU_CHIP"}
            done = session.run("witnesses", [compare, session.pack / entry["folder"], real, session.scratch / "witnesses"], 90, (0, 1),
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
    executable, (warm_up, timed) = session.pack / entry["executable"], steps(entry["small"])
    command = [executable, "step", f"--weights={folder / 'weights.safetensors'}", f"--batch={folder / 'batch.safetensors'}",
               f"--learning-rate={LEARNING_RATE}"]
    done = session.run(f"{entry['name']}-llamac", [*command, f"--steps={warm_up + timed}"], 150)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    milliseconds = [1e3 * line["seconds"] for line in lines[warm_up:]]
    result = {"ms": statistics.median(milliseconds), "least": min(milliseconds), "most": max(milliseconds),
              "losses": [line["loss"] for line in lines], "gradient_norm": lines[0]["gradient_norm"]}
    trace = folder / "trace.json"
    session.run(f"{entry['name']}-trace", [*command, "--steps=3", f"--trace={trace}"], 90)
    blocks = block_times(trace)
    return result | {"update_ms": sum(ms for block, ms in blocks.items() if is_update(block)), "blocks_ms": sum(blocks.values()),
                     "blocks": dict(sorted(blocks.items(), key=lambda pair: -pair[1]))}


def apart(ours: dict, peer: dict, later: int) -> dict[str, float]:
    """How far two runs that should be the same are apart, relative."""
    relative = lambda a, b: abs(a - b) / max(abs(b), 1e-30)
    return {"loss": relative(ours["losses"][0], peer["losses"][0]), "gradient norm": relative(ours["gradient_norm"], peer["gradient_norm"]),
            "later loss": relative(ours["losses"][later], peer["losses"][later])}


class WorkloadRun:
    """A workload of the pack, and what came of it."""

    def __init__(self, session: Session, entry: dict, folder: pathlib.Path):
        self.session, self.entry, self.folder = session, entry, folder
        self.name, self.workload, self.own = entry["name"], WORKLOADS[entry["name"]], {}

    def measure_own(self):
        self.own = own_step(self.session, self.entry, self.folder)
        own, workload = self.own, self.workload
        forward = own["blocks_ms"] - own["update_ms"]
        ours = own["update_ms"] if workload.is_optimizer else forward
        figures = (f"step {own['ms']:.2f} ms ({own['least']:.2f} to {own['most']:.2f}); "
                   f"{'update' if workload.is_optimizer else 'forward and backward'} {ours:.2f} ms")
        if not self.entry["small"]:  # floor and goal are of the full size
            figures += f": {ours / workload.floor:.2f} of the floor {workload.floor}, goal {workload.goal}"
        return "passed", figures, own

    def add_peers(self, command: list, forms: list[str], limit: float) -> None:
        """All forms in one process; each is there as soon as it is done, whatever becomes of the next."""
        why = Stop("failed", "no result")
        try:
            self.session.run(f"{self.name}-{'-'.join(forms)}", [*command, "--workloads", self.name, "--forms", ",".join(forms)], limit,
                             env=self.session.peer_environment)
        except Stop as stop:
            why = stop
        for form in forms:
            self.session.add("workloads", f"{self.name} PyTorch {form}", lambda form=form: self.judge(form, why))

    def judge(self, form: str, why: Stop):
        path = self.folder / f"{form}.json"
        if not path.exists():
            raise why
        it, own = json.loads(path.read_text()), self.own
        if "refused" in it:  # a back end may lack this attention; PyTorch's own choice must run
            return "failed" if form == "eager" else "skipped", it["refused"][:160], it
        figures = (f"step {it['ms']:.2f} ms (inputs {it['inputs_ms']:.2f}, forward and backward {it['forward_backward_ms']:.2f}, "
                   f"gradients to f32 {it['widen_ms']:.2f}, update {it['update_ms']:.2f})")
        if not own:
            return "skipped", figures + "; nothing of llamac to compare with", it
        part = "update_ms" if self.workload.is_optimizer else "ms"
        if own[part] > 0 and it[part] > 0:  # without a GPU PyTorch's side has no clock
            figures += f", llamac is {it[part] / own[part]:.2f} times as fast"
        it["apart"] = apart(own, it, steps(self.entry["small"])[0])
        off = [f"{what} {100 * value:.2g} %" for what, value in it["apart"].items() if not value <= TOLERANCES[what]]
        return ("failed" if off else "passed"), figures + "; apart: " + (", ".join(off) or ", ".join(
            f"{what} {100 * value:.2g} %" for what, value in it["apart"].items())), it


def workloads(session: Session) -> None:
    """What matters most is first for all workloads: llamac's times, then PyTorch's back ends, then what it compiles, which takes longest."""
    entries = session.list["workloads"]
    if not entries:
        return
    with tempfile.TemporaryDirectory(dir=session.scratch) as temporary:
        folder, is_small = pathlib.Path(temporary), entries[0]["small"]
        runs = [WorkloadRun(session, entry, folder / entry["name"]) for entry in entries]
        command = [sys.executable, ROOT / "test/gpu/peer.py", "--folder", folder]
        command += ["--small"] if is_small else []
        command += ["--device", "cpu"] if session.arguments.software_gpu else []

        def write():
            if session.arguments.software_gpu and not is_small:
                raise Stop("skipped", "full sizes are not for the software GPU")
            try:
                session.run("pytorch", [sys.executable, "-c", "import torch, transformers, safetensors"], 120, env=session.peer_environment)
            except Stop as stop:
                if "status" not in str(stop):  # it took too long, or the time is over
                    raise
                raise Stop("skipped", f"no PyTorch, transformers and safetensors in {sys.executable}: {stop}") from None
            session.run("inputs", [*command, "--workloads", ",".join(run.name for run in runs), "--write"], 150, env=session.peer_environment)
            return "passed", "", {}

        session.add("workloads", "inputs", write)
        runs = [run for run in runs if (run.folder / "batch.safetensors").exists()]
        for run in runs:
            session.add("workloads", f"{run.name} llamac", run.measure_own)
        for run in runs:
            run.add_peers(command, ["eager"] if run.workload.is_optimizer else ["eager", *BACK_ENDS], 120)
        for run in runs:
            run.add_peers(command, ["compile"], 150)


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
    if arguments.software_gpu and not (arguments.software_gpu / "libcuda.so.1").exists():
        parser.error(f"--software-gpu={arguments.software_gpu}: expected a folder with libcuda.so.1")
    output = (arguments.output or pathlib.Path(os.environ.get("OUT", "gpu-results"))).resolve()
    output.mkdir(parents=True, exist_ok=True)
    for name in ("table.txt", "results.json", "log.txt"):  # of an earlier run
        (output / name).unlink(missing_ok=True)
    if arguments.scratch and not os.path.isdir(arguments.scratch):
        parser.error(f"--scratch={arguments.scratch}: expected a folder")
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as temporary:
        pack = arguments.pack
        if pack.is_file():
            unpacked = pathlib.Path(temporary) / "pack"
            try:
                with tarfile.open(pack) as archive:
                    archive.extractall(unpacked, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
            except (OSError, EOFError, tarfile.TarError) as error:
                parser.error(f"{pack}: expected an archive that pack.py made: {error}")
            pack = next(unpacked.iterdir(), unpacked)
        if not (pack / "pack.json").exists():
            parser.error(f"{arguments.pack}: expected a folder with pack.json, or an archive of one; test/gpu/pack.py makes it")
        session = Session(arguments, pack.resolve(), output, temporary)
        session.find_machine()
        if not any(session.list["cases" if part == "sanitizer" else part] for part in parts):
            parser.error(f"{arguments.pack}: the pack has nothing of {arguments.parts}")
        session.do(parts)
    count = {word: sum(item.result == word for item in session.items) for word in ("same", "near", "passed", "failed", "skipped")}
    session.say(", ".join(f"{number} {word}" for word, number in count.items() if number) + f"; {output / 'results.json'}")
    return 1 if count["failed"] or count["skipped"] == len(session.items) else 0


if __name__ == "__main__":
    sys.exit(main())
