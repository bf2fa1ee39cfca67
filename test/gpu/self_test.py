#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Tests run.sh without a GPU: packs the first case, runs it on the software GPU, and asks whether a changed byte is noticed; what
becomes of programs that hang, fail or say nothing; how workloads are judged.

    self_test.py --build build [--workloads]      with --workloads also packs and runs them, small; needs PyTorch and transformers, minutes

Exit status: 0 all is well, 1 not.
"""

import argparse
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import run as gpu_run  # noqa: E402


def command(pack: pathlib.Path, output: pathlib.Path, build: pathlib.Path, *options: str) -> list[str]:
    return ["bash", str(HERE / "run.sh"), str(pack), f"--output={output}", f"--software-gpu={build / 'lib/software-gpu'}", *options]


def run(pack: pathlib.Path, output: pathlib.Path, build: pathlib.Path, *options: str) -> tuple[int, str]:
    # As on a machine that has nothing of this one: no LLVM on the PATH, no home.
    done = subprocess.run(command(pack, output, build, *options), capture_output=True, text=True,
                          env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable})
    print(done.stdout + done.stderr, end="")
    return done.returncode, done.stdout + done.stderr


def results(output: pathlib.Path) -> dict[str, str]:
    return {f"{item['part']} {item['name']}": item["result"] for item in json.loads((output / "results.json").read_text())["items"]}


def fake_pack(folder: pathlib.Path, *scripts: str) -> pathlib.Path:
    """A pack of kernels that are shell scripts: what run.sh makes of programs that go wrong."""
    folder.mkdir()
    (folder / "replay").write_text('#!/bin/sh\nexec sh "$1"\n')
    (folder / "replay").chmod(0o755)
    entries = []
    for i, script in enumerate(scripts):
        (folder / f"k{i}").write_text(script)
        entries.append({"name": f"k{i}", "file": f"k{i}", "precision": "f32"})
    (folder / "pack.json").write_text(json.dumps({"commit": "none", "replay": "replay", "kernels": entries, "witnesses": [], "cases": [],
                                                  "ranks": [], "workloads": []}))
    return folder


def is_gone(pid_file: pathlib.Path) -> bool:
    stat = pathlib.Path("/proc") / pid_file.read_text().strip() / "stat"
    for _ in range(100):
        try:
            if stat.read_text().rpartition(")")[2].split()[0] == "Z":  # it waits for its parent to notice
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.1)
    return False


def check_faults(folder: pathlib.Path, build: pathlib.Path) -> None:
    output, child = folder / "faults", folder / "child"
    # The child keeps the pipe open: it has to end with its parent.
    hangs = f"sleep 600 & echo $! > {child}; echo said before; wait"
    pack = fake_pack(folder / "fake", "exit 0", "echo broken >&2; exit 7", hangs, "exit 0")
    begin = time.monotonic()
    status, text = run(pack, output, build, "--parts=kernels", "--minutes=0.4")
    assert status == 1 and time.monotonic() - begin < 60, f"a program that hangs: status {status} after {time.monotonic() - begin:.0f} s"
    got = results(output)
    assert got == {"kernels k0": "failed", "kernels k1": "failed", "kernels k2": "skipped", "kernels k3": "skipped"}, got
    assert "status 7: broken" in text and "no time left" in text and (output / "table.txt").read_text() == text, text
    assert "said before" in (output / "log.txt").read_text(), "what a program said before it was cut is lost"
    assert sorted(path.name for path in output.iterdir()) == ["log.txt", "results.json", "table.txt"]
    assert is_gone(child), "a child of a program that was cut goes on"

    child.unlink()
    process = subprocess.Popen(command(pack, output, build, "--parts=kernels", "--minutes=5"), stdout=subprocess.DEVNULL)
    while not child.exists() or not child.read_text():
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 1, "SIGTERM"
    got = results(output)
    assert got == {"kernels k0": "failed", "kernels k1": "failed", "run all": "failed"}, got
    assert is_gone(child), "a program goes on after SIGTERM"

    (folder / "no-archive").write_text("this is none")
    status, text = run(folder / "no-archive", output, build)
    assert status == 2 and "expected an archive" in text, text
    status, text = run(pack, output, build, f"--scratch={folder / 'none'}")
    assert status == 2 and "--scratch" in text, text


def check_judgement(folder: pathlib.Path) -> None:
    """What is said of a workload from the figures of both sides."""
    own = {"ms": 10.0, "update_ms": 2.0, "losses": [7.0, 6.9, 6.8, 6.7], "gradient_norm": 3.0}
    peer = {"form": "eager", "ms": 20.0, "inputs_ms": 1.0, "forward_backward_ms": 14.0, "widen_ms": 1.0, "update_ms": 4.0,
            "losses": [7.01, 6.9, 6.75, 6.7], "gradient_norm": 3.05}

    def judge(it: dict, workload: str = "W1", form: str = "eager", ours: dict = own):
        of = gpu_run.WorkloadRun(None, {"name": workload, "small": True}, folder)
        of.own = ours
        (folder / f"{form}.json").write_text(json.dumps(it))
        return of.judge(form, gpu_run.Stop("skipped", "cut"))

    result, figures, _ = judge(peer)
    assert result == "passed" and "2.00 times as fast" in figures, (result, figures)
    assert "2.00 times as fast" in judge(peer, "W4")[1]  # update against update
    assert "times as fast" not in judge(peer | {"ms": 0.0})[1], "a figure without a clock"
    assert judge(peer | {"losses": [7.1, 6.9, 6.75, 6.7]})[0] == "failed"
    assert judge(peer | {"losses": [7.0, 6.9, 5.0, 6.7]})[0] == "failed"
    assert judge(peer | {"gradient_norm": 3.5})[0] == "failed"
    assert judge(peer | {"losses": [float("nan")] * 4})[0] == "failed"
    assert judge({"refused": "no kernel"})[0] == "failed", "PyTorch's own choice has to run"
    assert judge({"refused": "no kernel"}, form="flash")[0] == "skipped"
    assert judge(peer, ours={})[0] == "skipped"
    (folder / "eager.json").unlink()
    try:
        gpu_run.WorkloadRun(None, {"name": "W1", "small": True}, folder).judge("eager", gpu_run.Stop("skipped", "cut"))
        raise AssertionError("a form without figures is judged")
    except gpu_run.Stop as stop:
        assert stop.result == "skipped"

    event = lambda name, step, microseconds: {"ph": "X", "name": name, "dur": microseconds, "args": {"do": "call", "step": step}}
    (folder / "trace.json").write_text(json.dumps({"traceEvents": [
        event("head", 1, 9000), event("head", 2, 1000), event("head", 2, 500), event("adamw", 2, 250),
        {"ph": "X", "name": "copy", "dur": 7, "args": {"do": "copy", "step": 2}}, {"ph": "M", "name": "rank 0"}]}))
    assert gpu_run.block_times(folder / "trace.json") == {"head": 1.5, "adamw": 0.25}
    assert gpu_run.is_update("adamw") and not gpu_run.is_update("head.backward")


def check_workloads(folder: pathlib.Path, build: pathlib.Path) -> None:
    subprocess.run([sys.executable, str(HERE / "pack.py"), f"--build={build}", f"--output={folder / 'workloads'}", "--parts=workloads",
                    "--small"], check=True)
    status, text = run(folder / "workloads", folder / "figures", build, "--parts=workloads", "--minutes=60")
    got = results(folder / "figures")
    wanted = [f"workloads {name} {of}" for name in gpu_run.WORKLOADS for of in ("llamac", "PyTorch eager")]
    assert status == 0 and all(got.get(name) == "passed" for name in wanted), text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, required=True, help="build folder")
    parser.add_argument("--workloads", action="store_true", help="run them, too, with PyTorch")
    arguments = parser.parse_args()
    build = arguments.build.resolve()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        check_judgement(folder)
        check_faults(folder, build)
        if arguments.workloads:
            check_workloads(folder, build)
        archive, output = folder / "pack.tar.xz", folder / "output"
        subprocess.run([sys.executable, str(HERE / "pack.py"), f"--build={build}", f"--output={folder / 'pack'}",
                        "--parts=cases,kernels,witnesses", "--most=1", f"--archive={archive}"], check=True)
        status, _ = run(archive, output, build)
        expected = {"kernels aspects-f32-sm_90a": "same", "witnesses witnesses": "passed", "cases aspects-f32-sm_90a": "passed"}
        got = {name: result for name, result in results(output).items() if result != "skipped"}
        assert status == 0 and got == expected, f"expected status 0 and {expected}, got {status} and {got}"

        # One byte of the last launches' numbers: the recording is whole, and what a kernel writes is no longer what it says.
        recording = folder / "pack/kernels/aspects-f32-sm_90a"
        whole = recording.read_bytes()
        for offset in (1, 13, 29, 61, 125, 253, 509):
            data = bytearray(whole)
            data[-offset] ^= 0x40
            recording.write_bytes(data)
            status, _ = run(folder / "pack", output, build, "--parts=kernels")
            (item,) = json.loads((output / "results.json").read_text())["items"]
            assert status == 1 and item["result"] == "failed", f"a changed byte, {offset} from the end: status {status}, {item}"
            if item["details"].get("wrong") == 1:
                break
        assert item["details"].get("wrong") == 1, f"no changed byte was compared: {item}"

        # Without time nothing is right or wrong, and that is told.
        status, text = run(folder / "pack", output, build, "--parts=kernels", "--minutes=0.01")
        assert status == 1 and "no time left" in text, f"no time: status {status}"
        status, text = run(folder, output, build)
        assert status == 2 and "pack.json" in text, f"no pack: status {status}"
    return 0


if __name__ == "__main__":
    sys.exit(main())
