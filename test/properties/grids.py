#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Draws models, batches and ways to run them on a grid of ranks; each must train as one rank does.

    grids.py --llamac build/bin/llamac --seeds 0-59            60 programs
    grids.py --llamac build/bin/llamac --seeds 17 --keep DIR   one; everything stays in DIR
    grids.py --llamac build/bin/llamac --seeds 0-59 --ranks=tcp    ranks are processes that meet over TCP, too

A seed always gives the same draws. Drawn are: the grid (axes of 1 to 4 ranks, at most 16 in all), FSDP level, schedule,
placement of the encoder, micro-batches, recompute, chunks of the head, what trains, a small model with as many layers as it likes, batches with
padding, documents, missing images and none. The program is compiled in f64 and makes two steps, as does that of one rank on
the same global batch. Equal at 1e-10, in the sense of run_case.py, must be: losses, gradient norms, every gradient of the
first step, every master after the second. With --precision=f32 both are compiled in f32, with the fast kernels, and must be equal
at 1e-4; elements of masters whose update rounding decides are set apart, as run_case.py does. With --ranks=tcp the program on
the grid runs a second time, each rank in a process of its own, started as torchrun does: all that it gives must be the same to
the bit. --ranks=mpi: the same with mpirun. With --plain-collectives it is compiled once more with all collectives in plain
form (llama-opt --dist-legalize-collectives=plain, of the compiler's folder) and must give the same bits; so must the two in bf16,
with the fast kernels.

With --target=cuda the program on the grid is for CUDA, that of one rank for the host; models are small, since a software GPU is
slow. --ways gives each seed the next of WAYS: a precision, ranks that share a GPU or have one each, threads or processes.
--wide draws few heads, of sizes up to 256, and up to 140 tokens (with --most-ranks=2: minutes for a seed in f64, less in bf16).

With --precision=bf16 numbers are measured as run_case.py does, with the bf16 of the host, of one rank and of the same grid, in
the place of PyTorch's: the error of each tensor of the first step, the distance to one rank in f64, may be twice the larger of
theirs; or twice that of an average element of the host's gradients, as a tensor may be all rounding (that of the queries of rows that
see one key). Tensors with fewer than 64 elements are taken together; one error says little of a number (a gate), so each has at least the relative
error of all gradients. Masters, whose first updates have the sign of a gradient and no size, are
within the furthest that two steps can lead apart, and the loss of a step with them is finite. That the limits see a term that is missing is part of the test: the sum of gradients
without one sample, the one that can be seen best, must break them.

A draw that llamac refuses (exit status 2 and one line `llamac: error: ...`) is printed and counted, and the seed goes on to
its next draw. Any other failure, of the compiler too, is one. Needs nothing but Python.

Exit status: 0 all equal, 1 some not, 2 wrong use.
"""

import argparse
import array
import dataclasses
import json
import math
import os
import pathlib
import random
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "numerics"))

from batch import NO_IMAGE, Sizes, batch_tensors, write_safetensors  # noqa: E402
from run_case import (BF16_ALLOWANCE, BF16_ROUNDING, BF16_SMALL, Comparison, Tensor, compare_bf16, compare_masters, fail,  # noqa: E402
                      read_safetensors, root_mean_square)
from target import add_target_options, target_environment, target_options  # noqa: E402

TOLERANCES = {"f64": 1e-10, "f32": 1e-4}
PRECISIONS = [*TOLERANCES, "bf16"]
STEPS, RATE = 2, 1e-2
EPSILON = 1e-8  # of AdamW, the default
COMPILE_LIMIT, RUN_LIMIT = 900, 300  # seconds; what takes longer hangs, on a machine with much else to do too
SOFTWARE_GPU_TIMES = 5  # so much longer a run on the software GPU may take
MOST_DRAWS = 30  # of a seed, until one is not refused
AXES = ["tp", "cp", "pp", "dp"]
# Precision, GPUs, ranks: of seed n the one at n modulo their number.
WAYS = [("f64", 1, "threads"), ("bf16", 16, "tcp"), ("f64", 16, "threads"), ("bf16", 1, "threads"), ("f64", 16, "mpi"),
        ("f64", 1, "threads"), ("bf16", 16, "threads"), ("f64", 16, "tcp"), ("bf16", 16, "mpi"), ("f64", 16, "threads")]
PATTERNS = ["*.layers.0.*", "*norm*", "*mlp.down_proj.weight,*lm_head.weight", "*embed_tokens*"]
VISION_PATTERNS = ["vision_model.*", "*cross_attn*", "*.extra", "multi_modal_projector.*", "*gate*"]
# Parts of the names of parameters, of which a few train by themselves.
PARTS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "layernorm", "lm_head", ".norm.", "embed_tokens"]
VISION_PARTS = ["cross_attn.q_proj", "cross_attn.k_proj", "cross_attn.v_proj", "cross_attn.o_proj", "q_norm", "k_norm",
                "cross_attn_attn_gate", "cross_attn_mlp_gate", "fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias", "class_embedding",
                "patch_embedding", "positional", "tile_embedding", "global_transformer", "vision_model.transformer", "layernorm_pre",
                "layernorm_post", "multi_modal_projector.weight", "multi_modal_projector.bias"]


# ----------------------------------------------------------------------------------------------------------------------
# Draws


@dataclasses.dataclass(frozen=True)
class Most:
    """The largest sizes that are drawn."""
    layers: int = 9
    vision_layers: int = 3
    patches: int = 3  # along a side of a tile
    samples: int = 3  # of a micro-batch
    micro_batches: int = 8  # or as many as stages
    rounds: int = 2  # of an interleaved schedule
    tokens: int = 24  # of a sample
    heads: tuple[int, ...] = (2, 3, 4, 6, 8, 12)  # these, of the text layers
    head_sizes: tuple[int, int] = (4, 8)  # one of these
    vision_head: int = 4  # the size of heads of the encoder


# What the software GPU does in seconds, and heads that tensor cores take.
SMALL = Most(layers=3, vision_layers=2, patches=2, samples=2, micro_batches=4, rounds=1, tokens=16, vision_head=8)


def most_of(target: str) -> Most:
    return Most() if target == "host" else SMALL


def draw_wide(r: random.Random) -> Most:
    """Few heads of any size that tensor cores take, and more tokens than a tile of attention has."""
    sizes = [r.choice([64, 80, 128, 8 * r.randint(1, 32)]) for _ in range(3)]
    return dataclasses.replace(SMALL, layers=2, vision_layers=1, patches=4, samples=1, micro_batches=2, tokens=140, heads=(1, 2, 3, 4),
                               head_sizes=(sizes[0], sizes[1]), vision_head=sizes[2])


def draw_config(r: random.Random, tp: int, most: Most) -> dict:
    # Mostly as many heads as tp divides; now and then any.
    heads = r.choice([n for n in most.heads if n % tp == 0 or r.random() < 0.05])
    head_size = r.choice(most.head_sizes)
    # Sizes that no tp divides are padded.
    vocabulary, layers = r.choice([48, 96, 49, 97]), r.randint(1, most.layers)
    text = {"vocab_size": vocabulary, "hidden_size": heads * head_size, "intermediate_size": r.choice([24, 48, 25, 47]),
            "num_hidden_layers": layers, "num_attention_heads": heads,
            "num_key_value_heads": r.choice([n for n in range(1, heads + 1) if heads % n == 0]), "hidden_act": "silu",
            "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 512, "tie_word_embeddings": False,
            "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    if r.random() < 0.25:
        text["tie_word_embeddings"] = r.random() < 0.3
        return {"architectures": ["LlamaForCausalLM"], "model_type": "llama"} | text
    vision_heads, vision_layers, patch = r.choice([2, 4]), r.randint(1, most.vision_layers), 2
    taps = sorted(r.sample(range(vision_layers), r.randint(1, vision_layers)))
    width = vision_heads * most.vision_head
    vision = {"hidden_size": width, "hidden_act": "gelu", "num_hidden_layers": vision_layers,
              "num_global_layers": r.choice([0, 1, 2]), "attention_heads": vision_heads, "intermediate_size": 24,
              "patch_size": patch, "image_size": patch * r.randint(1, most.patches), "max_num_tiles": 4, "norm_eps": 1e-5,
              "vision_output_dim": width * (1 + len(taps)), "intermediate_layers_indices": taps}
    crosses = sorted(r.sample(range(layers), r.randint(1, (layers + 2) // 3)))
    return {"architectures": ["MllamaForConditionalGeneration"], "model_type": "mllama", "image_token_index": vocabulary,
            "text_config": {"model_type": "mllama_text_model", "cross_attention_layers": crosses} | text,
            "vision_config": vision}


def draw_grid(r: random.Random, most_ranks: int) -> dict[str, int]:
    while True:
        grid = {axis: r.choice([1, 1, 2, 2, 3, 4]) for axis in AXES}
        if math.prod(grid.values()) <= most_ranks:
            return grid


@dataclasses.dataclass
class Draw:
    config: dict
    grid: dict[str, int]
    batch: int  # samples of a micro-batch
    micro_batches: int
    text_length: int
    images: int  # per sample
    model_options: list[str]  # of llamac compile, which both programs share
    options: list[str]  # of the program on the grid
    batch_tensors: dict = dataclasses.field(default_factory=dict)  # once the batch is drawn

    @property
    def samples(self) -> int:
        return self.batch * self.micro_batches * self.grid["dp"]

    def compile_command(self, llamac: str, config: pathlib.Path, executable: pathlib.Path, on_grid: bool,
                        precision: str = "f64") -> list[str]:
        micro_batches = self.micro_batches * (1 if on_grid else self.grid["dp"])
        command = [llamac, "compile", str(config), f"--precision={precision}", f"--batch={self.batch}",
                   f"--micro-batches={micro_batches}", f"--text-length={self.text_length}", f"--images={self.images}",
                   *self.model_options]
        if on_grid:
            command += ["--grid=" + ",".join(f"{axis}={size}" for axis, size in self.grid.items()), *self.options]
        return command + ["-o", str(executable)]


def draw_schedule(r: random.Random, grid: dict[str, int], most: Most) -> tuple[list[str], int]:
    """Options, and micro-batches that suit them (fewer than stages too)."""
    pp = grid["pp"]
    micro_batches = r.choice([n for n in (1, 2, 3, 4, 5, pp, 2 * pp) if n <= max(most.micro_batches, pp)])
    if pp == 1:
        return [], micro_batches
    kind = r.choice(["1f1b", "gpipe", "interleaved", "zero-bubble", "sequential"])
    if kind != "interleaved":
        return [f"--schedule={kind}"], micro_batches
    options = ["--schedule=interleaved", f"--virtual-stages={r.choice([2, 2, 3])}"]
    consecutive = pp
    if r.random() < 0.4:
        consecutive = r.choice([pp, pp + 1, 2 * pp])
        options.append(f"--consecutive={consecutive}")
    return options, consecutive * r.randint(1, most.rounds) + r.choice([0, 0, pp])


def draw_encoder(r: random.Random, grid: dict[str, int], micro_batches: int) -> list[str]:
    options = []
    if r.random() < 0.2 and grid["pp"] > 1:
        return ["--encoder=first-stage"]
    if r.random() < 0.7:
        options.append(f"--encoder-shard={r.choice(['images', 'tokens'])}")
    axes = [axis for axis in ("tp", "cp", "pp") if grid[axis] > 1]
    if axes and r.random() < 0.5:
        options.append("--encoder-axes=" + ",".join(axis for axis in axes if r.random() < 0.6 or axis == axes[-1]))
    if r.random() < 0.4:
        options.append(f"--encoder-group={r.randint(1, micro_batches)}")
    return options


def draw(r: random.Random, most_ranks: int, most: Most = Most()) -> Draw:
    grid = draw_grid(r, most_ranks)
    config = draw_config(r, grid["tp"], most)
    is_vision = config["model_type"] == "mllama"
    options, micro_batches = draw_schedule(r, grid, most)
    if grid["dp"] > 1:
        options.append(f"--fsdp={r.choice(['none', 'optimizer', 'gradients', 'parameters'])}")
    if is_vision and math.prod(grid.values()) > 1:
        options += draw_encoder(r, grid, micro_batches)
    if (recompute := r.choice(["none", "none", "selective", "full"])) != "none":
        options.append(f"--recompute={recompute}")
    model_options = []
    if is_vision and r.random() < 0.3:
        model_options += [f"--feature-taps={r.choice(['input', 'output'])}", f"--row-mask={r.choice(['both', 'ffn'])}"]
    if r.random() < 0.5:
        choices = PATTERNS + (3 * ["adapter"] + ["adapter-without-rows"] + VISION_PATTERNS if is_vision else [])
        trainable = r.choice(choices)
        if r.random() < 0.5:
            parts = r.sample(PARTS + (VISION_PARTS if is_vision else []), r.choice([1, 1, 2, 3]))
            trainable = ",".join(f"*{part}*" for part in parts)
        if config.get("tie_word_embeddings"):
            trainable = trainable.removesuffix(",*lm_head.weight")
        model_options.append(f"--trainable={trainable}")
    # Mostly lengths that the tokens' axes divide; now and then any.
    step = 2 * grid["cp"] * grid["tp"]
    length = r.randint(1, most.tokens) if r.random() < 0.1 else step * r.randint(1, max(1, most.tokens // step))
    batch = r.choice([n for n in (1, 1, 2, 3) if n <= most.samples])
    drawn = Draw(config, grid, batch, micro_batches, length, r.choice([1, 1, 2]) if is_vision else 0, model_options, options)
    if r.random() < 0.4:  # logits of a few tokens at a time, which divide a rank's tokens or not
        drawn.options.append(f"--head-chunk={r.choice([1, 8, 16, 24])}")
    return drawn


def draw_batch(r: random.Random, draw: Draw) -> dict:
    """Padding on either side or none, one or two documents, images seen from some row on, missing images."""
    text = draw.config.get("text_config", draw.config)
    is_vision, S = "vision_config" in draw.config, draw.text_length
    sizes = Sizes(draw.samples, S, draw.images, 4, draw.config["vision_config"]["image_size"] if is_vision else 0,
                  text["vocab_size"], 8 if is_vision else 0)
    has_images = is_vision and r.random() < 0.85
    side, real, documents, images = r.choice(["left", "right", "none"]), [], [], []
    for _ in range(draw.samples):
        count = S if side == "none" else r.randint(1, S)
        real.append((S - count, S) if side == "left" else (0, count))
        documents.append(r.choice([S, r.randint(1, S)]))
        starts = sorted(r.randint(0, S) for _ in range(draw.images)) + [S]
        images.append([NO_IMAGE if r.random() < 0.2 else (r.randint(1, 8), begin, end)
                       for begin, end in zip(starts, starts[1:])])
    return batch_tensors(r, sizes, real, documents, images if has_images else [])


def draw_weights(r: random.Random, model: str) -> dict[str, tuple[str, list[int], bytes]]:
    """Of the parameters that a model graph declares, under their checkpoint keys: normal numbers; norms about 1; gates that
    are open, so that every gradient counts. Wide rows have smaller ones, so that no softmax sees one key alone."""
    parts: dict[str, list[tuple[int, list[int], array.array]]] = {}
    for line in model.splitlines():
        found = re.match(r'\s*llama\.parameter @"?([^" ]+)"? : tensor<([\dx]+)xf\d+> \{(.*)\}', line)
        if not found:
            continue
        name, shape, attributes = found[1], [int(size) for size in found[2].split("x")], found[3]
        spread = {"ones": (1, 0.1), "zeros": (0, 0.1), "gate": (0.8, 0.2)}.get(
            re.search(r"initializer<(\w+)>", attributes)[1], (0, min(0.2, 2 / math.sqrt(shape[-1]))))
        values = array.array("d", (r.gauss(*spread) for _ in range(math.prod(shape))))
        if seen := re.search(r"checkpoint_shape = array<i64: ([\d, ]+)>", attributes):
            shape = [int(size) for size in seen[1].split(",")]
        key = seen[1] if (seen := re.search(r'key = "([^"]+)"', attributes)) else name
        row = int(seen[1]) if (seen := re.search(r"row_begin = (\d+)", attributes)) else 0
        parts.setdefault(key, []).append((row, shape, values))
    weights = {}
    for key, pieces in parts.items():
        pieces.sort(key=lambda piece: piece[0])
        shape = [sum(shape[0] for _, shape, _ in pieces)] + pieces[0][1][1:]
        weights[key] = ("F64", shape, b"".join(values.tobytes() for _, _, values in pieces))
    return weights


# ----------------------------------------------------------------------------------------------------------------------
# Runs


class Failure(Exception):
    pass


def execute(command: list[str], limit: int, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=limit,
                              env=environment)
    except subprocess.TimeoutExpired:
        raise Failure(f"not done after {limit} s: {shlex.join(command)}") from None


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def execute_ranks(command: list[str], ranks: int, launcher: str, limit: int,
                  environment: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    """The command in a process for each rank. What rank 0 prints, what all say, the worst status."""
    if launcher == "mpi":
        return execute(["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", str(ranks), *command],
                       limit, environment)
    variables = {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks), "MASTER_ADDR": "localhost",
                 "MASTER_PORT": str(free_port())}
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                  env=(environment or os.environ) | variables | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
                 for rank in range(ranks)]
    end, outputs = time.monotonic() + limit, []
    try:
        for process in processes:
            outputs.append(process.communicate(timeout=max(0, end - time.monotonic())))
    except subprocess.TimeoutExpired:
        raise Failure(f"not done after {limit} s as {ranks} processes: {shlex.join(command)}") from None
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()
    status = max((process.returncode for process in processes), key=abs)
    return subprocess.CompletedProcess(command, status, outputs[0][0], "".join(error for _, error in outputs))


def expect_success(result: subprocess.CompletedProcess) -> str:
    if result.returncode != 0:
        raise Failure(f"exit status {result.returncode} of {shlex.join(result.args)}\n{result.stdout}{result.stderr}")
    return result.stdout


def refusal(result: subprocess.CompletedProcess) -> str | None:
    """The message of a compiler that refuses its options or the sizes."""
    lines = result.stderr.splitlines()
    if "runtime library not found" in result.stderr:
        fail(lines[0])
    # What names no option is a pass that failed.
    if (result.returncode == 2 and lines and lines[0].startswith("llamac: error: --") and
            all(line.startswith(("llamac: error: ", "llamac: note: ")) for line in lines)):
        return lines[0].removeprefix("llamac: error: ")
    return None


def compile_plain(command: list[str], executable: pathlib.Path) -> None:
    """Compiles what `command` does, with all collectives in plain form, to `executable`."""
    llamac, form, plain = command[0], f"{executable}.mlir", f"{executable}.plain.mlir"
    end = command.index("-o")
    for one in (command[:end] + ["--compile-to=parallelize", "-o", form],
                [str(pathlib.Path(llamac).with_name("llama-opt")), form, "--dist-legalize-collectives=plain", "-o", plain],
                [llamac, "compile", plain, "--compile-from=parallelize", "-o", str(executable)]):
        expect_success(execute(one, COMPILE_LIMIT))


def compare_plain(drawn: "Draw", arguments: argparse.Namespace, folder: pathlib.Path, got: "Steps") -> None:
    """The program on the grid, and the same in bf16, give the same bits with plain collectives."""
    for precision in (arguments.precision, "bf16"):
        executable = folder / f"grid-{precision}"
        command = drawn.compile_command(arguments.llamac, folder / "config.json", executable, True, precision)
        if precision == "bf16":
            expect_success(execute(command, COMPILE_LIMIT))
            got = Steps(executable, folder)
        compile_plain(command, folder / f"plain-{precision}")
        plain = Steps(folder / f"plain-{precision}", folder)
        if plain.bits != got.bits:
            raise Failure(f"plain collectives do not give the same bits in {precision}: {plain.lines}, not {got.lines}")


class Steps:
    """What two steps of an executable give."""

    def __init__(self, executable: pathlib.Path, folder: pathlib.Path, ranks: int = 1, launcher: str = "threads",
                 environment: dict[str, str] | None = None, batch: str = "batch", limit: int = RUN_LIMIT, options: tuple[str, ...] = ()):
        name = executable.name
        self.command = [str(executable), "step", f"--weights={folder / 'weights.safetensors'}",
                        f"--batch={folder / batch}.safetensors", f"--steps={STEPS}", f"--learning-rate={RATE}",
                        f"--gradients={folder / name}.gradients", f"--updated={folder / name}.updated", "--threads=1", *options]
        processes = ranks > 1 and launcher != "threads"
        if environment:  # a rank may have to wait long for another, and for the software GPU's libnccl
            limit *= SOFTWARE_GPU_TIMES
            self.command.append(f"--timeout={limit}")
            environment = environment | {"SOFTWARE_GPU_TIMEOUT": str(limit)}
        if processes:
            result = execute_ranks(self.command, ranks, launcher, limit, environment)
        else:
            result = execute(self.command, limit, environment)
        self.lines = [json.loads(line) for line in expect_success(result).splitlines() if line.startswith("{")]
        self.said = result.stderr
        if len(self.lines) != STEPS:
            raise Failure(f"expected {STEPS} lines of JSON, got {len(self.lines)} of {shlex.join(self.command)}")
        files = (pathlib.Path(f"{folder / name}.{kind}") for kind in ("gradients", "updated"))
        self.bits = [file.read_bytes() for file in files], [line | {"seconds": 0} for line in self.lines]
        self.gradients = read_safetensors(pathlib.Path(f"{folder / name}.gradients"))
        self.masters = read_safetensors(pathlib.Path(f"{folder / name}.updated"))


def compare(got: Steps, want: Steps, precision: str) -> Comparison:
    comparison, tolerance = Comparison(), TOLERANCES[precision]
    for step, (mine, wanted) in enumerate(zip(got.lines, want.lines)):
        for field in ("loss", "tokens", "gradient_norm"):
            comparison.number(f"{field} of step {step}", mine.get(field), wanted[field], tolerance * abs(wanted[field]))
    for kind, mine, wanted in (("gradient", got.gradients, want.gradients), ("master", got.masters, want.masters)):
        for key in mine.keys() - wanted.keys():
            comparison.failures.append(f"{kind} {key}: not expected, one rank has none")
        if kind == "master" and precision == "f32":
            compare_masters(comparison, {"steps": STEPS, "learning_rate": RATE}, mine, wanted, want.gradients, got.gradients)
            continue
        rms = root_mean_square(list(wanted.values()))
        for key, tensor in wanted.items():
            if comparison.pair(f"{kind} {key}", mine.get(key), tensor):
                limit = tolerance * max(tensor.norm(), rms * math.sqrt(len(tensor.values)))
                if kind == "master" and key in got.gradients and key in want.gradients:
                    # Where a gradient is all rounding (rows that see one key) AdamW makes a step of it: g / (|g| + epsilon).
                    limit += STEPS * RATE / EPSILON * math.dist(got.gradients[key].values, want.gradients[key].values)
                comparison.check(f"{kind} {key}", math.dist(mine[key].values, tensor.values), limit,
                                 f"; norm {tensor.norm():.3g}")
    return comparison


class Bf16:
    """The limits of bf16: what the host gives in f64, and how far its own bf16 programs are from it."""

    def __init__(self, drawn: Draw, arguments: argparse.Namespace, folder: pathlib.Path):
        config = folder / "config.json"
        self.want, *others = [self.steps(drawn, arguments, config, folder / name, on_grid, precision) for name, on_grid, precision
                              in (("one", False, "f64"), ("one-bf16", False, "bf16"), ("grid-bf16", True, "bf16"))]
        self.errors = {}
        for key, tensor in self.want.gradients.items():
            self.errors[key] = max(math.dist(each.gradients[key].values, tensor.values) for each in others)
        count = sum(len(tensor.values) for tensor in self.want.gradients.values())
        average = math.hypot(*self.errors.values()) / math.sqrt(max(count, 1))
        relative = math.hypot(*self.errors.values()) / max(self.want.lines[0]["gradient_norm"], sys.float_info.min)
        for key, tensor in self.want.gradients.items():
            self.errors[key] = max(self.errors[key], average * math.sqrt(len(tensor.values)))
            if len(tensor.values) < BF16_SMALL:
                self.errors[key] = max(self.errors[key], relative * tensor.norm())
        self.loss_error = max(abs(each.lines[0]["loss"] - self.want.lines[0]["loss"]) for each in others)
        self.missing = self.term(drawn, folder)

    @staticmethod
    def steps(drawn: Draw, arguments: argparse.Namespace, config: pathlib.Path, executable: pathlib.Path, on_grid: bool,
              precision: str) -> Steps:
        expect_success(execute(drawn.compile_command(arguments.llamac, config, executable, on_grid, precision), COMPILE_LIMIT))
        return Steps(executable, folder=executable.parent)

    def term(self, drawn: Draw, folder: pathlib.Path) -> dict[str, list[float]]:
        """What one sample adds to each gradient: the sample that is furthest above the error in one of them."""
        _, shape, values = drawn.batch_tensors["labels"]
        samples = range(shape[0] if any(label >= 0 for label in array.array("q", values)) else 0)
        terms = [self.term_of(drawn, folder, sample) for sample in samples]
        return max(terms, default={}, key=lambda term: max((math.hypot(*term[key]) / max(self.errors[key], sys.float_info.min)
                                                            for key in term), default=0))

    def term_of(self, drawn: Draw, folder: pathlib.Path, sample: int) -> dict[str, list[float]]:
        _, shape, values = drawn.batch_tensors["labels"]
        labels, length = array.array("q", values), shape[1]
        labels[sample * length:(sample + 1) * length] = array.array("q", [-100] * length)
        rest = sum(label >= 0 for label in labels) / self.want.lines[0]["tokens"]
        if not rest:
            return {key: list(tensor.values) for key, tensor in self.want.gradients.items()}
        write_safetensors(folder / "rest.safetensors", drawn.batch_tensors | {"labels": ("I64", shape, labels.tobytes())})
        without = Steps(folder / "one", folder, batch="rest").gradients
        return {key: [whole - rest * part for whole, part in zip(tensor.values, without[key].values)]
                for key, tensor in self.want.gradients.items()}

    def compare(self, got: Steps) -> Comparison:
        comparison = Comparison()
        for step, (mine, wanted) in enumerate(zip(got.lines, self.want.lines)):
            comparison.number(f"tokens of step {step}", mine.get("tokens"), wanted["tokens"], 0)
            if step == 0:
                comparison.number("loss", mine.get("loss"), wanted["loss"],
                                  BF16_ALLOWANCE * max(self.loss_error, BF16_ROUNDING * wanted["loss"]))
            elif not isinstance(mine.get("loss"), float | int):  # null is not finite; masters are those that rounding has moved
                comparison.failures.append(f"loss of step {step}: expected a finite number, got {mine.get('loss')}")
        norm = math.hypot(*self.errors.values())
        comparison.number("gradient norm", got.lines[0].get("gradient_norm"), self.want.lines[0]["gradient_norm"],
                          BF16_ALLOWANCE * norm)
        compare_bf16(comparison, got.gradients, self.want.gradients, self.errors, BF16_ALLOWANCE)
        furthest = 2 * STEPS * RATE * 1.1
        for key, tensor in self.want.masters.items():
            if comparison.pair(f"master {key}", got.masters.get(key), tensor):
                distance = max(map(lambda x, y: abs(x - y), got.masters[key].values, tensor.values))
                if not distance <= furthest:
                    comparison.failures.append(f"master {key}: {distance:.3g} away, at most {furthest:.3g}")
        for kind, mine, wanted in (("gradient", got.gradients, self.want.gradients), ("master", got.masters, self.want.masters)):
            for key in mine.keys() - wanted.keys():
                comparison.failures.append(f"{kind} {key}: not expected, one rank has none")
        return comparison

    def seen(self, got: Steps) -> tuple[int, int]:
        """In how many tensors the missing term breaks the limit, of how many that it is a part of."""
        count = total = 0
        for key, term in self.missing.items():
            if not any(term):
                continue
            comparison = Comparison()
            values = array.array("d", (x - y for x, y in zip(got.gradients[key].values, term)))
            limit = BF16_ALLOWANCE * self.errors[key]
            comparison.check(key, math.dist(values, self.want.gradients[key].values), limit)
            total, count = total + 1, count + bool(comparison.failures)
        return count, total


@dataclasses.dataclass
class Outcome:
    passed: bool
    refused: int


def run_seed(seed: int, arguments: argparse.Namespace, folder: pathlib.Path) -> Outcome:
    r, refused, commands, seen = random.Random(seed), 0, [], ""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.json"
    if arguments.ways:
        arguments.precision, arguments.gpus, arguments.ranks = WAYS[seed % len(WAYS)]
    try:
        for _ in range(MOST_DRAWS):
            most = draw_wide(r) if arguments.wide else most_of(arguments.target)
            drawn = draw(random.Random(r.getrandbits(64)), arguments.most_ranks, most)
            config.write_text(json.dumps(drawn.config))
            commands = [drawn.compile_command(arguments.llamac, config, folder / "grid", True, arguments.precision) +
                        target_options(arguments)]
            result = execute(commands[0], COMPILE_LIMIT)
            if (message := refusal(result)) is None:
                break
            refused += 1
            print(f"     seed {seed}: refused: {message}", flush=True)
        else:
            raise Failure(f"all of {MOST_DRAWS} draws were refused")
        expect_success(result)
        model = expect_success(execute([arguments.llamac, "import", str(config), "-o", "-"], COMPILE_LIMIT))
        write_safetensors(folder / "weights.safetensors", draw_weights(r, model))
        drawn.batch_tensors = draw_batch(r, drawn)
        write_safetensors(folder / "batch.safetensors", drawn.batch_tensors)
        environment, ranks = target_environment(arguments), math.prod(drawn.grid.values())
        got = None
        if not (arguments.ways and arguments.ranks != "threads"):
            got = Steps(folder / "grid", folder, environment=environment)
            commands.append(got.command)
        if arguments.ranks != "threads":
            there = Steps(folder / "grid", folder, ranks, arguments.ranks, environment)
            if got and there.bits != got.bits:
                raise Failure(f"ranks as processes ({arguments.ranks}) do not give the bits of threads: {there.lines}, "
                              f"not {got.lines}")
            got = there
        if arguments.plain_collectives:
            compare_plain(drawn, arguments, folder, got)
        if arguments.precision == "bf16":
            limits = Bf16(drawn, arguments, folder)
            comparison = limits.compare(got)
            count, total = limits.seen(got)
            seen = f"; without a sample {count} of {total} gradients break it"
            if total and not count:
                comparison.failures.append("the limits do not see that a sample is missing")
        else:
            commands.append(drawn.compile_command(arguments.llamac, config, folder / "one", False, arguments.precision))
            expect_success(execute(commands[-1], COMPILE_LIMIT))
            want = Steps(folder / "one", folder)
            commands.append(want.command)
            comparison = compare(got, want, arguments.precision)
        failures = comparison.failures
    except Failure as failure:
        failures = [str(failure)]
    ranks = "x".join(str(drawn.grid[axis]) for axis in AXES)
    share = (f"seed to repeat: {seed}" if failures else
             f"{100 * comparison.nearest[0]:.2g} % of the limit ({comparison.nearest[1]}){seen}")
    way = f"{arguments.precision}, GPUs {arguments.gpus}, {arguments.ranks}; " if arguments.ways else ""
    print(f"{'FAIL' if failures else 'ok  '} seed {seed}: {way}tp x cp x pp x dp {ranks}, {drawn.config['model_type']}, "
          f"{drawn.micro_batches} x {drawn.batch} x {drawn.text_length} tokens, {drawn.images} images, "
          f"{' '.join(drawn.model_options + drawn.options) or 'no options'}; {share}", flush=True)
    if failures:
        print("\n".join("  " + failure for failure in failures[:20]))
        print("\n".join("  " + shlex.join(command) for command in commands), flush=True)
    return Outcome(not failures, refused)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llamac", required=True, help="the compiler")
    parser.add_argument("--seeds", required=True, help="FIRST-LAST or one")
    parser.add_argument("--precision", choices=PRECISIONS, default="f64", help="of both programs (f64)")
    parser.add_argument("--ranks", choices=["threads", "tcp", "mpi"], default="threads",
                        help="threads of one process; or processes, too, which meet over TCP or MPI (threads)")
    parser.add_argument("--plain-collectives", action="store_true",
                        help="compile the program on the grid with plain collectives, too, and compare the bits")
    parser.add_argument("--ways", action="store_true",
                        help="of --target=cuda: each seed has a precision, GPUs and ranks of its own")
    add_target_options(parser)
    parser.add_argument("--wide", action="store_true", help="heads of up to 256, up to 140 tokens")
    parser.add_argument("--most-ranks", type=int, default=16, help="largest grid (16)")
    parser.add_argument("--keep", type=pathlib.Path, help="folder to leave everything in; default temporary")
    arguments = parser.parse_args()
    if not re.fullmatch(r"\d+(-\d+)?", arguments.seeds):
        fail(f"--seeds={arguments.seeds}: expected FIRST-LAST or one number")
    if arguments.plain_collectives and arguments.target != "host":
        fail("--plain-collectives: expected --target=host; other targets do what they lack in plain form")
    if arguments.ways and arguments.target != "cuda":
        fail("--ways: expected --target=cuda")
    if arguments.most_ranks < 1:
        fail(f"--most-ranks={arguments.most_ranks}: expected at least 1")
    first, _, last = arguments.seeds.partition("-")
    failed, refused = [], 0
    for seed in range(int(first), int(last or first) + 1):
        with tempfile.TemporaryDirectory() as temporary:
            outcome = run_seed(seed, arguments, arguments.keep / str(seed) if arguments.keep else pathlib.Path(temporary))
        refused += outcome.refused
        if not outcome.passed:
            failed.append(seed)
    print(f"{len(failed)} failed{': ' + str(failed) if failed else ''}; {refused} draws were refused")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
