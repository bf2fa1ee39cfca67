#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Compiles the model of a golden case, trains it on the case's batch and compares with what PyTorch got.

    run_case.py --llamac build/bin/llamac --case golden/aspects [--precision f32] [--lower fast] [--work DIR] ...
    run_case.py ... --target=cuda --software-gpu=build/lib/software-gpu     on the software GPU

Needs nothing but Python. The files of a case are described in make_golden.py, the commands in docs/Architecture.md.

A tensor `got` equals `want` at t if |got - want| <= t * max(|want|, rms * sqrt(n)): Euclidean norms over its n elements,
rms that of all elements of its kind together (all gradients, say). Under f32 and f64: loss of the first step 1e-5,
everything else 1e-4.

Masters after some steps of AdamW: where the first gradient, wanted or got, is not 0 but below 1e-3 of its tensor's rms or
1e-4 of that of all gradients, rounding decides the sign of the update; so it does for a whole tensor whose first gradient
is not 0 but has an rms below 1e-6 of that of all (attention that sees one key: the gradients of queries and keys are 0).
Such elements need only lie within the largest possible distance of two updates.

Under bf16 an error is allowed to be twice the one PyTorch's own bf16 run makes (bf16_error.json). Tensors with fewer than
64 elements are taken together, as one tensor: the error of a single number says little. Masters are not compared.

With --orders=N the program runs N times more on the software GPU, each time with another seed, and what is asynchronous done early,
at random or late: losses, logits, gradients and masters must be the same to the bit.

Exit status: 0 equal, 1 not equal or a command failed, 2 wrong use.
"""

import argparse
import array
import json
import math
import pathlib
import subprocess
import sys
import tempfile

from target import add_target_options, target_environment, target_options

LOSS_TOLERANCE, TOLERANCE = 1e-5, 1e-4
TINY_GRADIENT = 1e-3  # of the rms of its tensor
BF16_ALLOWANCE, BF16_SMALL, BF16_ROUNDING = 2, 64, 2.0**-9
SHOWN_FAILURES = 60


class Tensor:
    def __init__(self, shape: list[int], values: array.array):
        self.shape, self.values = shape, values

    def norm(self) -> float:
        return math.dist(self.values, bytes(len(self.values)))


def fail(message: str, status: int = 2) -> None:
    print(f"{pathlib.Path(sys.argv[0]).stem}: error: {message}", file=sys.stderr)
    sys.exit(status)


def read_safetensors(path: pathlib.Path) -> dict[str, Tensor]:
    """All floating-point tensors of a file; f32, f64 or bf16."""
    try:
        data = memoryview(path.read_bytes())
        length = int.from_bytes(data[:8], "little")
        header = json.loads(bytes(data[8:8 + length]))
    except (OSError, ValueError) as error:
        fail(f"{path}: {error}", 1)
    tensors = {}
    for key, entry in header.items():
        if key == "__metadata__" or entry["dtype"].startswith("I"):
            continue
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        if entry["dtype"] == "BF16":
            halves = array.array("H", data[begin:end])
            values = array.array("f", array.array("I", (half << 16 for half in halves)).tobytes())
        elif entry["dtype"] in ("F32", "F64"):
            values = array.array("f" if entry["dtype"] == "F32" else "d", data[begin:end].tobytes())
        else:
            fail(f"{path}: {key}: expected F32, F64 or BF16, got {entry['dtype']}", 1)
        if len(values) != math.prod(entry["shape"]):
            fail(f"{path}: {key}: expected {math.prod(entry['shape'])} elements, got {len(values)}", 1)
        tensors[key] = Tensor(entry["shape"], values)
    return tensors


def run(command: list[str], environment: dict[str, str] | None = None) -> str:
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    if result.returncode != 0:
        fail(f"exit status {result.returncode} of {' '.join(command)}\n{result.stdout}{result.stderr}", 1)
    return result.stdout


class Comparison:
    """Collects what differs, and how near the nearest passing tensor is to its limit."""

    def __init__(self):
        self.failures, self.count, self.nearest = [], 0, (0.0, "nothing")

    def check(self, name: str, error: float, limit: float, detail: str = "") -> None:
        self.count += 1
        if not error <= limit:  # a NaN too
            self.failures.append(f"{name}: error {error:.3g}, allowed {limit:.3g}{detail}")
        elif limit > 0:
            self.nearest = max(self.nearest, (error / limit, name))

    def number(self, name: str, got, want: float, limit: float) -> None:
        if not isinstance(got, (int, float)):
            self.failures.append(f"{name}: expected {want}, got {got}")
        else:
            self.check(name, abs(got - want), limit, f"; expected {want}, got {got}")

    def pair(self, name: str, got: Tensor | None, want: Tensor) -> bool:
        """Whether both have the same shape, so that they can be compared."""
        if got is None:
            self.failures.append(f"{name}: missing")
        elif got.shape != want.shape:
            self.failures.append(f"{name}: expected shape {want.shape}, got {got.shape}")
        return got is not None and got.shape == want.shape


def worst_element(got: Tensor, want: Tensor) -> str:
    index = max(range(len(want.values)), key=lambda i: abs(got.values[i] - want.values[i]))
    place, rest = [], index
    for size in reversed(want.shape):
        place.insert(0, rest % size)
        rest //= size
    return f"; norm {want.norm():.3g}, at {place} expected {want.values[index]:.7g}, got {got.values[index]:.7g}"


def root_mean_square(tensors: list[Tensor]) -> float:
    count = sum(len(tensor.values) for tensor in tensors)
    return math.hypot(*(tensor.norm() for tensor in tensors)) / math.sqrt(max(count, 1))


def compare_tensors(comparison: Comparison, kind: str, got: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    rms = root_mean_square(list(want.values()))
    for key, tensor in want.items():
        if comparison.pair(f"{kind} {key}", got.get(key), tensor):
            error = math.dist(got[key].values, tensor.values)
            limit = TOLERANCE * max(tensor.norm(), rms * math.sqrt(len(tensor.values)))
            comparison.check(f"{kind} {key}", error, limit, "" if error <= limit else worst_element(got[key], tensor))


def compare_masters(comparison: Comparison, case: dict, got: dict[str, Tensor], want: dict[str, Tensor],
                    gradients: dict[str, Tensor], got_gradients: dict[str, Tensor]) -> None:
    """Sets elements apart whose update rounding decides, then compares as usual."""
    furthest = 2 * case["steps"] * case["learning_rate"] * 1.1  # one step moves an element by about the rate
    # The error that a gradient may have: one below it, all of a tensor perhaps, has no sign to speak of.
    noise = TOLERANCE * root_mean_square(list(gradients.values()))
    for key, tensor in want.items():
        if not comparison.pair(f"master {key}", got.get(key), tensor):
            continue
        small = max(noise, TINY_GRADIENT * root_mean_square([gradients[key]]))
        own = got_gradients.get(key, gradients[key])
        all_noise = 0 < max(root_mean_square([own]), root_mean_square([gradients[key]])) < noise / 100
        for i, gradient in enumerate(gradients[key].values):
            is_noise = all_noise or 0 < max(abs(gradient), abs(own.values[i])) < small
            if is_noise and abs(got[key].values[i] - tensor.values[i]) <= furthest:
                got[key].values[i] = tensor.values[i]
    compare_tensors(comparison, "master", got, want)


def compare_bf16(comparison: Comparison, got: dict[str, Tensor], want: dict[str, Tensor], errors: dict[str, float],
                 allowance: float) -> None:
    small_got, small_want = [], []
    for key, tensor in want.items():
        if not comparison.pair(key, got.get(key), tensor):
            continue
        if len(tensor.values) < BF16_SMALL:
            small_got.append(math.dist(got[key].values, tensor.values))
            small_want.append(errors.get(key, 0.0))
        else:
            error, limit = math.dist(got[key].values, tensor.values), allowance * errors.get(key, 0.0)
            comparison.check(key, error, limit, "" if error <= limit else worst_element(got[key], tensor))
    comparison.check("small gradients together", math.hypot(*small_got), allowance * math.hypot(*small_want))


def compare_case(arguments: argparse.Namespace, case: dict, folder: pathlib.Path, lines: list[dict]) -> Comparison:
    comparison = Comparison()
    expected = read_safetensors(arguments.case / "expected.safetensors")
    weights = read_safetensors(arguments.case.parent / case["config"] / "model.safetensors")
    gradients = read_safetensors(folder / "gradients.safetensors")
    part = lambda prefix: {key[len(prefix):]: t for key, t in expected.items() if key.startswith(prefix)}
    want = part("gradient.")
    for key in gradients:
        if key not in weights:
            comparison.failures.append(f"gradient {key}: the checkpoint has no such key")
        elif key not in want and case["trainable"] != "all":
            comparison.failures.append(f"gradient {key}: the parameter is frozen")
        elif key not in want:
            want[key] = Tensor(weights[key].shape, array.array("f", bytes(4 * len(weights[key].values))))

    losses = expected["losses"].values
    if len(lines) != case["steps"]:
        comparison.failures.append(f"steps: expected {case['steps']} lines of JSON, got {len(lines)}")
    errors = None
    if arguments.precision == "bf16":
        errors = json.loads((arguments.case / "bf16_error.json").read_text())
    for step, (line, loss) in enumerate(zip(lines, losses)):
        comparison.number(f"tokens of step {step}", line.get("tokens"), case["tokens"], 0)
        if step == 0 and errors:
            comparison.number("loss", line.get("loss"), loss, arguments.bf16_allowance * max(errors["loss"], BF16_ROUNDING * loss))
        elif step == 0:
            comparison.number("loss", line.get("loss"), loss, LOSS_TOLERANCE * loss)
            norm = expected["gradient_norm"].values[0]
            comparison.number("gradient norm", line.get("gradient_norm"), norm, TOLERANCE * norm)
        elif not errors:
            comparison.number(f"loss of step {step}", line.get("loss"), loss, TOLERANCE * loss)

    logits = list(read_safetensors(folder / "logits.safetensors").values())
    logits = logits[0] if len(logits) == 1 else None
    if errors:
        compare_bf16(comparison, gradients | {"logits": logits}, want | {"logits": expected["logits"]},
                     {key.removeprefix("gradient."): error for key, error in errors.items()},
                     arguments.bf16_allowance)
    else:
        compare_tensors(comparison, "tensor", {"logits": logits}, {"logits": expected["logits"]})
        compare_tensors(comparison, "gradient", gradients, want)
        if masters := part("master."):
            compare_masters(comparison, case, read_safetensors(folder / "updated.safetensors"), masters, {
                key: want.get(key) or Tensor([0], array.array("f", [0.0])) for key in masters}, gradients)
    return comparison


FILES = ["gradients", "updated", "logits"]


def bits_of(lines: list[dict], folder: pathlib.Path) -> list:
    """All that a run gives, but the time."""
    return [line | {"seconds": 0} for line in lines] + [(folder / f"{name}.safetensors").read_bytes() for name in FILES]


def compare_orders(comparison: Comparison, arguments: argparse.Namespace, case: dict, executable: pathlib.Path,
                   folder: pathlib.Path, lines: list[dict]) -> None:
    """Runs the program in other orders of the software GPU."""
    wanted = bits_of(lines, folder)
    names = [f"line {number + 1}" for number in range(len(lines))] + FILES
    for number in range(arguments.orders):
        seed, completion = arguments.gpu_seed + 1 + number, ["early", "random", "late"][number % 3]
        environment = target_environment(arguments) | {"SOFTWARE_GPU_SEED": str(seed), "SOFTWARE_GPU_COMPLETION": completion}
        output = run(step_command(arguments, case, executable, folder), environment)
        got = bits_of([json.loads(line) for line in output.splitlines() if line.startswith("{")], folder)
        comparison.count += 1
        different = [name for name, mine, want in zip(names, got, wanted) if mine != want]
        if different or len(got) != len(wanted):
            comparison.failures.append(f"SOFTWARE_GPU_SEED={seed} SOFTWARE_GPU_COMPLETION={completion}: other bits in "
                                       f"{', '.join(different) or 'the number of lines'}")


def compile_command(arguments: argparse.Namespace, case: dict, executable: pathlib.Path) -> list[str]:
    micro_batches = arguments.micro_batches or case["micro_batches"]
    data_parallel = int(dict(axis.split("=") for axis in arguments.grid.split(",")).get("dp", 1))
    if case["batch"] % (micro_batches * data_parallel):
        fail(f"{arguments.case}: {case['batch']} samples do not make {data_parallel} x {micro_batches} micro-batches")
    command = [arguments.llamac, "compile", str(arguments.case.parent / case["config"] / "config.json"),
               f"--batch={case['batch'] // (micro_batches * data_parallel)}", f"--micro-batches={micro_batches}",
               f"--text-length={case['text_length']}", f"--images={case['images']}", f"--grid={arguments.grid}",
               f"--trainable={case['trainable']}", f"--precision={arguments.precision}", f"--lower={arguments.lower}"]
    if "feature_taps" in case:
        command += [f"--feature-taps={case['feature_taps']}", f"--row-mask={case['row_mask']}"]
    return command + target_options(arguments) + arguments.compile_option + ["-o", str(executable)]


def step_command(arguments: argparse.Namespace, case: dict, executable: pathlib.Path, folder: pathlib.Path) -> list[str]:
    command = [str(executable), "step", f"--weights={arguments.case.parent / case['config'] / 'model.safetensors'}",
               f"--batch={arguments.case / 'batch.safetensors'}", f"--steps={case['steps']}",
               f"--learning-rate={case['learning_rate']}", f"--gradients={folder / 'gradients.safetensors'}",
               f"--updated={folder / 'updated.safetensors'}", f"--logits={folder / 'logits.safetensors'}"]
    if case["weight_decay"]:
        command.append(f"--weight-decay={case['weight_decay']}")
    if case["clip"]:
        command.append(f"--clip={case['clip']}")
    return command


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llamac", help="the compiler")
    parser.add_argument("--case", required=True, type=pathlib.Path, help="folder of the case")
    parser.add_argument("--precision", choices=["f32", "f64", "bf16"], default="f32")
    parser.add_argument("--lower", choices=["fast", "reference"], default="fast")
    parser.add_argument("--bf16-allowance", type=float, default=BF16_ALLOWANCE, help="times the error of PyTorch's bf16 run")
    parser.add_argument("--micro-batches", type=int, help="divide the batch into so many; default as the case says")
    parser.add_argument("--grid", default="tp=1,cp=1,pp=1,dp=1")
    add_target_options(parser)
    parser.add_argument("--orders", type=int, default=0, help="runs more in other orders of the software GPU (0)")
    parser.add_argument("--compile-option", action="append", default=[], help="given to llamac compile; may be repeated")
    parser.add_argument("--executable", type=pathlib.Path, help="what `llamac compile` made of the case elsewhere: compile nothing")
    parser.add_argument("--work", type=pathlib.Path, help="folder to leave executable and results in; default temporary")
    arguments = parser.parse_args()
    if bool(arguments.llamac) == bool(arguments.executable):
        parser.error("expected one of --llamac and --executable")
    if arguments.orders and not arguments.software_gpu:
        fail("--orders: expected --software-gpu, whose orders they are")
    try:
        case = json.loads((arguments.case / "case.json").read_text())
    except (OSError, ValueError) as error:
        fail(f"{arguments.case / 'case.json'}: {error}")
    if arguments.precision == "bf16" and not (arguments.case / "bf16_error.json").exists():
        fail(f"{arguments.case}: no bf16_error.json, so nothing to measure bf16 by")

    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.work or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        executable = (arguments.executable or folder / "model").resolve()
        if not arguments.executable:
            run(compile_command(arguments, case, executable))
        output = run(step_command(arguments, case, executable, folder), target_environment(arguments))
        lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        comparison = compare_case(arguments, case, folder, lines)
        compare_orders(comparison, arguments, case, executable, folder, lines)

    for failure in comparison.failures[:SHOWN_FAILURES]:
        print(f"FAIL {failure}")
    if len(comparison.failures) > SHOWN_FAILURES:
        print(f"... and {len(comparison.failures) - SHOWN_FAILURES} more")
    share, name = comparison.nearest
    print(f"{arguments.case.name} {arguments.target} {arguments.precision} {arguments.lower}: {comparison.count} comparisons, "
          f"{len(comparison.failures)} failures; nearest to its limit {name} ({100 * share:.2g} %)")
    return 1 if comparison.failures else 0


if __name__ == "__main__":
    sys.exit(main())
