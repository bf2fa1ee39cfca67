#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Compares the gradients of an executable in f64 with central differences of its loss.

    gradients.py --llamac build/bin/llamac ops   [--only CASE]   every differentiable op, one parameter at a time
    gradients.py --llamac build/bin/llamac model                 every parameter tensor of a small vision model

Needs nothing but Python. For a parameter w with gradient g and a random direction d of norm 1, <g, d> must equal

    (8 (f(w + h d) - f(w - h d)) - (f(w + 2 h d) - f(w - 2 h d))) / 12 h,    f the loss,

within 1e-8 of |g|, plus what rounding does to f: the error of the formula is h^4 / 30 times the fifth derivative.

`ops` compiles one model in which each case is a block of its own: the float operands of the op are parameters, its integer
operands inputs; the result goes through one linear layer, shared by all cases, into a cross-entropy; the losses are added.
A differentiable op of dialects/Llama/IR/*.td that no case uses is a failure.

`model` also compares the gradients under --recompute=full, and under --recompute=selective in micro-batches, with those of
a plain compilation.

Not checked, because the gradient is by convention not the derivative: the padding row of an embedding (0).

Exit status: 0 equal, 1 not equal or a command failed, 2 wrong use.
"""

import argparse
import array
import concurrent.futures
import json
import math
import pathlib
import random
import re
import sys
import tempfile

from batch import NO_IMAGE, Sizes, batch_tensors, write_safetensors
from run_case import Tensor, fail, read_safetensors, root_mean_square, run

HERE = pathlib.Path(__file__).resolve().parent
STEP = 2e-3  # h
TOLERANCE, ROUNDING = 1e-8, 2e-15  # of |g|; of the loss, for one of its values
EQUAL = 1e-12

# B samples, S text tokens, M images per sample, A images, T tile slots, N tokens of a tile, C channels, V vocabulary,
# X extra embedding rows. Image tokens, put side by side, are as many as text tokens: M * T * N = S, so that all cases
# share labels [B, S].
B, S, M, T, N, C, V, X = 2, 24, 2, 4, 3, 16, 7, 2
A, TILE_SIZE = B * M, 2
PADDING_ID = 4
HEAD = "head.weight"  # the linear layer behind the cases

INPUTS = {name: [B, S] for name in ("input_ids", "labels", "positions", "documents", "key_positions", "key_documents",
                                    "image_begin", "image_end")}
INPUTS |= {"image_positions": [1, T * N], "tiles": [B, M], "aspect_ratio_ids": [B, M], "pixels": [B, M, T, 3, TILE_SIZE, TILE_SIZE]}

# ----------------------------------------------------------------------------------------------------------------------
# Cases: a block per op


def type_of(shape: list[int], element: str = "f32") -> str:
    return f"tensor<{'x'.join(map(str, shape))}x{element}>"


def input_type(name: str) -> str:
    return type_of(INPUTS[name], "f32" if name == "pixels" else "i64")


class Value:
    def __init__(self, name: str, type: str):
        self.name, self.type = name, type


class Block:
    """The body of a case: `op` appends a line and gives its results."""

    def __init__(self):
        self.lines, self.results = [], 0

    def op(self, name: str, operands: list[Value], *shapes: list[int], attributes: str = "", element: str = "f32"):
        results = [Value(f"%{self.results + i}", type_of(shape, element)) for i, shape in enumerate(shapes)]
        self.results += len(results)
        types = ", ".join(result.type for result in results)
        self.lines.append(f"  {', '.join(result.name for result in results)} = llama.{name} "
                          f"{', '.join(operand.name for operand in operands)} {{{attributes}}} : "
                          f"({', '.join(operand.type for operand in operands)}) -> "
                          f"{types if len(results) == 1 else f'({types})'}")
        return results[0] if len(results) == 1 else results


class Case:
    def __init__(self, name: str, parameters: dict[str, list[int]], inputs: list[str], constants: list[str], build):
        self.name, self.parameters, self.inputs, self.constants = name, parameters, inputs, constants
        self.block = Block()
        values = [Value(f"%{key}", type_of(shape)) for key, shape in parameters.items()]
        integers = [Value(f"%{key}", input_type(key)) for key in inputs]
        self.arguments = integers + values
        self.result = build(self.block, *values, *integers)

    def key(self, parameter: str) -> str:
        return f"{self.name}.{parameter}"


CASES: list[Case] = []


def case(name: str, parameters: dict[str, list[int]], inputs: list[str] = [], constants: list[str] = []):
    """Adds a case. The decorated function gets a Block, the parameters and the inputs; it returns a value [B, S, C], or
    a loss [1]. `constants` are the parameters that have no gradient."""
    return lambda build: CASES.append(Case(name, parameters, inputs, constants, build))


STATISTICS, ACCUMULATION, EPSILON = "statistics = f32", "accumulation = f32", "epsilon = 1.0e-5 : f64"
TEXT = [B, S, C]
TILES = [A, T * N, C]  # of one image


def as_text(b: Block, x: Value, tiles: Value) -> Value:
    return b.op("images_to_tokens", [x, tiles], TEXT)


@case("embed", {"table": [V, C], "extra": [X, C]}, ["input_ids"])
def _(b, table, extra, ids):
    rows = b.op("embed", [ids, table], TEXT, attributes=f"padding_index = {PADDING_ID} : i64")
    return b.op("add", [rows, b.op("embed", [ids, extra], TEXT, attributes=f"offset = {V} : i64")], TEXT)


@case("embed_without_extra", {"table": [V + X, C]}, ["input_ids"])
def _(b, table, ids):
    return b.op("embed", [ids, table], TEXT)


@case("rms_norm", {"input": TEXT, "norm": [C]})
def _(b, x, weight):
    return b.op("rms_norm", [x, weight], TEXT, attributes=f"{EPSILON}, {STATISTICS}")


@case("layer_norm", {"input": TEXT, "norm": [C], "bias": [C]})
def _(b, x, weight, bias):
    return b.op("layer_norm", [x, weight, bias], TEXT, attributes=f"{EPSILON}, {STATISTICS}")


@case("linear", {"input": [B, S, 10], "weight": [C, 10]})
def _(b, x, weight):
    return b.op("linear", [x, weight], TEXT, attributes=ACCUMULATION)


@case("linear_with_bias", {"input": [B, S, 10], "weight": [C, 10], "bias": [C]})
def _(b, x, weight, bias):
    return b.op("linear", [x, weight, bias], TEXT, attributes=f"{ACCUMULATION}, element_type = f32")


def rope_case(attributes: str):
    def build(b, x, positions):
        table = b.op("rope_table", [positions], [B, S, 2, 2], attributes=f"frequencies = array<f64: 1.0, 0.1>, {STATISTICS}")
        return b.op("merge_heads", [b.op("rope", [x, table], [B, S, 4, 4], attributes=attributes)], TEXT)
    return build


case("rope", {"input": [B, S, 4, 4]}, ["positions"])(rope_case(""))
case("rope_inverse", {"input": [B, S, 4, 4]}, ["positions"])(rope_case("inverse"))


# A view and its inverse fold away, so the norm of each head stands between them.
@case("split_heads", {"input": TEXT, "norm": [4]})
def _(b, x, weight):
    heads = b.op("split_heads", [x], [B, S, 4, 4], attributes="head_size = 4 : i64")
    heads = b.op("rms_norm", [heads, weight], [B, S, 4, 4], attributes=f"{EPSILON}, {STATISTICS}")
    return b.op("merge_heads", [heads], TEXT)


@case("merge_heads", {"input": [B, S, 2, 8]})
def _(b, x):
    return b.op("merge_heads", [x], TEXT)


def attention(b, q, k, v, masks, kind: str, shape: list[int], tiles: tuple[int, int, int] = (0, 0, 0)) -> Value:
    o, _ = b.op("attention", [q, k, v, *masks], shape, shape[:3],
                attributes=f"mask = #llama.mask<{kind}>, scale = 0.5 : f64, tile_count = {tiles[0]} : i64, "
                f"tile_stride = {tiles[1]} : i64, tile_tokens = {tiles[2]} : i64, {STATISTICS}")
    return b.op("merge_heads", [o], shape[:2] + [C])


@case("attention_causal", {"query": [B, S, 4, 4], "key": [B, S, 2, 4], "value": [B, S, 2, 4]}, ["positions", "documents", "key_positions", "key_documents"])
def _(b, q, k, v, *masks):
    return attention(b, q, k, v, masks, "causal", [B, S, 4, 4])


@case("attention_encoder", {name: [A, T * N, 4, 4] for name in ("query", "key", "value")}, ["tiles", "image_positions"])
def _(b, q, k, v, tiles, positions):
    o = attention(b, q, k, v, [tiles, positions], "encoder", [A, T * N, 4, 4], (T, N, N - 1))
    return as_text(b, o, tiles)


@case("attention_images", {"query": [B, S, 4, 4], "key": [B, M * T * 2, 2, 4], "value": [B, M * T * 2, 2, 4]},
      ["image_begin", "image_end", "tiles"])
def _(b, q, k, v, begin, end, tiles):
    return attention(b, q, k, v, [begin, end, tiles], "images", [B, S, 4, 4], (T, 2, 2))


@case("swiglu", {"branch": TEXT, "up": TEXT})
def _(b, gate, up):
    return b.op("swiglu", [gate, up], TEXT, attributes=STATISTICS)


@case("gelu", {"input": TEXT})
def _(b, x):
    return b.op("gelu", [x], TEXT, attributes=STATISTICS)


@case("add", {"lhs": TEXT, "rhs": TEXT})
def _(b, x, y):
    return b.op("add", [b.op("add", [x, y], TEXT), x], TEXT)  # two uses of one value


# Under f64 this cast changes nothing; an add takes operands of unlike types, which the model graph would have.
@case("cast", {"input": TEXT, "other": TEXT})
def _(b, x, y):
    wide = b.op("cast", [x], TEXT, attributes="element_type = f64", element="f64")
    return b.op("add", [y, wide], TEXT)


def gated_case(rows: str):
    def build(b, x, branch, gate, *masks):
        return b.op("gated_residual", [x, branch, gate, *masks], TEXT, attributes=f"rows = #llama.rows<{rows}>, {STATISTICS}")
    return build


GATED = {"input": TEXT, "branch": TEXT, "gate": [1]}
case("gated_residual_none", GATED)(gated_case("none"))
case("gated_residual_present", GATED, ["image_begin", "image_end"])(gated_case("present"))
case("gated_residual_image", GATED, ["image_begin", "image_end"])(gated_case("image"))


def tile_embed_case(slots: int):
    def build(b, x, table, gate, ids):
        return as_text(b, b.op("tile_embed_add", [x, table, gate, ids], TILES, attributes=STATISTICS), ids)
    case(f"tile_embed_add_{slots}", {"input": TILES, "table": [9, slots, C], "gate": [1]}, ["aspect_ratio_ids"])(build)


tile_embed_case(T)  # one vector per tile
tile_embed_case(T * N)  # one per token


@case("patches", {"weight": [C, 3 * TILE_SIZE**2]}, ["pixels", "tiles"])
def _(b, weight, pixels, tiles):
    x = b.op("patchify", [pixels], [A, T, 3 * TILE_SIZE**2], attributes=f"patch_size = {TILE_SIZE} : i64, element_type = f32")
    x = b.op("linear", [x, weight], [A, T, C], attributes=ACCUMULATION)
    return as_text(b, b.op("pad_tokens", [x], TILES, attributes=f"tiles = {T} : i64, multiple = {N} : i64"), tiles)


@case("prepend_class", {"input": [A, T * (N - 1), C], "token": [C]}, ["tiles"])
def _(b, x, token, tiles):
    return as_text(b, b.op("prepend_class", [x, token], TILES, attributes=f"tiles = {T} : i64"), tiles)


@case("position_embed_add", {"input": TILES, "table": [N, C], "gate": [1]}, ["tiles"])
def _(b, x, table, gate, tiles):
    return as_text(b, b.op("position_embed_add", [x, table, gate], TILES, attributes=STATISTICS), tiles)


@case("pad_tokens", {"input": [A, T * (N - 1), C]}, ["tiles"])
def _(b, x, tiles):
    return as_text(b, b.op("pad_tokens", [x], TILES, attributes=f"tiles = {T} : i64, multiple = {N} : i64"), tiles)


@case("drop_tokens", {"input": [A, T * (N + 2), C]}, ["tiles"])
def _(b, x, tiles):
    return as_text(b, b.op("drop_tokens", [x], TILES, attributes=f"tiles = {T} : i64, tokens = {N} : i64"), tiles)


@case("tap_concat", {name: [B, S, C // 4] for name in ("final", "tap0", "tap1", "tap2")})
def _(b, *states):
    return b.op("tap_concat", list(states), TEXT)


@case("images_to_tokens", {"input": TILES}, ["tiles"])
def _(b, x, tiles):
    return as_text(b, x, tiles)


ROWS = [B, S]
LABELS = ["labels"]


# The four ops of the loss, each with operands of its own; the maximum is a constant to them.
@case("row_sum_exp", {"logits": [B, S, V], "other": [B, S, V], "target": ROWS}, LABELS, ["other"])
def _(b, logits, other, target, labels):
    maximum = b.op("row_max", [other], ROWS, attributes=STATISTICS)
    total = b.op("row_sum_exp", [logits, maximum], ROWS, attributes=STATISTICS)
    return b.op("cross_entropy", [maximum, total, target, labels], [1])


@case("target_logit", {"logits": [B, S, V], "other": [B, S, V], "sum": ROWS}, LABELS, ["other"])
def _(b, logits, other, total, labels):
    maximum = b.op("row_max", [other], ROWS, attributes=STATISTICS)
    target = b.op("target_logit", [logits, labels], ROWS, attributes=STATISTICS)
    return b.op("cross_entropy", [maximum, total, target, labels], [1])


def softmax_loss(b, logits, labels):
    maximum = b.op("row_max", [logits], ROWS, attributes=STATISTICS)
    total = b.op("row_sum_exp", [logits, maximum], ROWS, attributes=STATISTICS)
    target = b.op("target_logit", [logits, labels], ROWS, attributes=STATISTICS)
    return b.op("cross_entropy", [maximum, total, target, labels], [1])


case("cross_entropy", {"logits": [B, S, V]}, LABELS)(softmax_loss)


def linear_lse(parts: int):
    def build(b, x, weight, labels):
        lse, target = b.op("linear_lse", [x, weight, labels], [B, S, parts], ROWS,
                           attributes=f"parts = {parts} : i64, chunk = 20 : i64, {STATISTICS}")
        maximum = b.op("row_max", [lse], ROWS, attributes=STATISTICS)
        total = b.op("row_sum_exp", [lse, maximum], ROWS, attributes=STATISTICS)
        return b.op("cross_entropy", [maximum, total, target, labels], [1])
    return build


case("linear_lse", {"input": TEXT, "weight": [V, C]}, LABELS)(linear_lse(1))
case("linear_lse_parts", {"input": TEXT, "weight": [V, C]}, LABELS)(linear_lse(V))


# ----------------------------------------------------------------------------------------------------------------------
# The model of the cases


def block_text(name: str, arguments: list[Value], block: Block, result: Value) -> str:
    head = ", ".join(f"{value.name}: {value.type}" for value in arguments)
    return "\n".join([f"func.func private @{name}({head}) -> {result.type} attributes {{llama.block}} {{", *block.lines,
                      f"  return {result.name} : {result.type}", "}"])


def model_text(cases: list[Case]) -> str:
    head, loss = Block(), type_of([1])
    hidden, weight, labels = Value("%h", type_of(TEXT)), Value("%w", type_of([V, C])), Value("%l", type_of(ROWS, "i64"))
    head_loss = softmax_loss(head, head.op("linear", [hidden, weight], [B, S, V], attributes=ACCUMULATION), labels)
    lines = ['module attributes {llama.model = {model_type = "mllama", '
             f"vocabulary = {V} : i64, extra_rows = {X} : i64, begin_token = 0 : i64, end_tokens = [1], pad_token = {PADDING_ID} : i64, "
             f"image_token = {V} : i64, tile_size = {TILE_SIZE} : i64, tiles = {T} : i64, initializer_range = 2.0e-2 : f64}}}} {{"]
    declare = lambda key, shape, more="": lines.append(
        f'llama.parameter @"{key}" : {type_of(shape)} {{initializer = #llama.initializer<normal>{more}}}')
    declare(HEAD, [V, C])
    for item in cases:
        for name, shape in item.parameters.items():
            declare(item.key(name), shape, ", frozen" if name in item.constants else "")
    lines.append(block_text("head", [hidden, labels, weight], head, head_loss))
    for item in cases:
        lines.append(block_text(item.name, item.arguments, item.block, item.result))

    body, total = [], None
    for i, item in enumerate(cases):
        keys = ", ".join(f'@"{item.key(name)}"' for name in item.parameters)
        types = ", ".join(value.type for value in item.arguments[:len(item.inputs)])
        body.append(f"  %y{i} = llama.apply @{item.name}({', '.join(f'%{name}' for name in item.inputs)}) "
                    f"parameters [{keys}] : ({types}) -> {item.result.type}")
        if item.result.type != loss:
            body.append(f'  %loss{i} = llama.apply @head(%y{i}, %labels) parameters [@"{HEAD}"] : '
                        f"({item.result.type}, {labels.type}) -> {loss}")
    losses = [Value(f"%loss{i}" if item.result.type != loss else f"%y{i}", loss) for i, item in enumerate(cases)]
    total = Block()
    addends = [Value(f"%a{i}", loss) for i in range(len(losses))]
    sum_so_far = addends[0]
    for value in addends[1:]:
        sum_so_far = total.op("add", [sum_so_far, value], [1])
    lines.append(block_text("total", addends, total, sum_so_far))
    body.append(f"  %total = llama.apply @total({', '.join(value.name for value in losses)}) : "
                f"({', '.join(value.type for value in losses)}) -> {loss}")
    signature = ", ".join(f'%{name}: {input_type(name)} {{llama.input = "{name}"}}' for name in INPUTS)
    return "\n".join(lines + [f'func.func @model({signature}) -> ({loss} {{llama.output = "loss"}}) {{', *body,
                              f"  return %total : {loss}", "}", "}", ""])


# ----------------------------------------------------------------------------------------------------------------------
# Weights and batches


def draw_weights(cases: list[Case], generator: random.Random) -> dict[str, Tensor]:
    """Normal numbers of deviation 1; norms about 1, sums above 1, matrices such that rows of results stay of order 1."""
    weights = {HEAD: Tensor([V, C], array.array("d", (generator.gauss(0, 0.3) for _ in range(V * C))))}
    for item in cases:
        for name, shape in item.parameters.items():
            draw = {"norm": lambda: generator.gauss(1, 0.3), "sum": lambda: 1 + abs(generator.gauss(0, 1)),
                    "weight": lambda: generator.gauss(0, 0.3)}.get(name, lambda: generator.gauss(0, 1))
            weights[item.key(name)] = Tensor(shape, array.array("d", (draw() for _ in range(math.prod(shape)))))
    return weights


BATCHES = {  # real tokens, second document, images
    "right padding, two images": ([(0, S), (0, 17)], [10, 6], [[(2, 4, 12), (8, 12, S)], [(1, 5, S), (6, 5, S)]]),
    "left padding, missing images": ([(5, S), (0, S)], [S, 9], [[(3, 7, S), NO_IMAGE], [NO_IMAGE, NO_IMAGE]]),
    "no image": ([(2, S), (0, 20)], [15, S], []),
}

# ----------------------------------------------------------------------------------------------------------------------
# The check


class Program:
    """An executable, weights and a batch: the loss anywhere near the weights."""

    def __init__(self, executable: pathlib.Path, weights: dict[str, Tensor], batch: pathlib.Path):
        self.executable, self.weights, self.batch = executable, weights, batch
        self.bytes = {key: ("F64", tensor.shape, tensor.values.tobytes()) for key, tensor in weights.items()}
        self.runs = 0

    def step(self, changed: dict[str, array.array], *options: str) -> float:
        file = self.executable.with_suffix(".weights")
        write_safetensors(file, self.bytes | {
            key: ("F64", self.weights[key].shape, values.tobytes()) for key, values in changed.items()})
        output = run([str(self.executable), "step", f"--weights={file}", f"--batch={self.batch}", "--steps=1",
                      "--learning-rate=0", "--threads=1", *options])
        self.runs += 1
        return json.loads(output.splitlines()[-1])["loss"]

    def gradients(self) -> dict[str, Tensor]:
        file = self.executable.with_suffix(".gradients")
        self.loss = self.step({}, f"--gradients={file}")
        return read_safetensors(file)

    def derivative(self, direction: dict[str, array.array]) -> float:
        """Of the loss, along `direction`."""
        moved = lambda h: self.step({key: array.array("d", (w + h * d for w, d in zip(self.weights[key].values, values)))
                                     for key, values in direction.items()})
        return (8 * (moved(STEP) - moved(-STEP)) - (moved(2 * STEP) - moved(-2 * STEP))) / (12 * STEP)

    def rounding(self) -> float:
        """The error that rounding of the loss makes in `derivative`."""
        return 18 / 12 * ROUNDING * abs(self.loss) / STEP


def draw_direction(tensors: dict[str, Tensor], generator: random.Random, padding_rows: dict[str, int]) -> dict:
    direction = {key: array.array("d", (generator.gauss(0, 1) for _ in t.values)) for key, t in tensors.items()}
    for key, row in padding_rows.items():
        if key in direction:
            width = tensors[key].shape[1]
            direction[key][row * width:(row + 1) * width] = array.array("d", [0.0] * width)
    norm = math.hypot(*(math.hypot(*values) for values in direction.values()))
    return {key: array.array("d", (value / norm for value in values)) for key, values in direction.items()}


class Report:
    def __init__(self):
        self.failures, self.count, self.nearest = [], 0, (0.0, "nothing")

    def check(self, name: str, error: float, limit: float, detail: str) -> None:
        self.count += 1
        if not error <= limit:  # a NaN too
            self.failures.append(f"{name}: error {error:.3g}, allowed {limit:.3g}; {detail}")
        else:
            self.nearest = max(self.nearest, (error / limit, name))

    def direction(self, name: str, program: Program, gradients: dict[str, Tensor], keys: list[str], generator: random.Random,
                  padding_rows: dict[str, int]) -> None:
        if missing := [key for key in keys if key not in gradients]:
            self.failures.append(f"{name}: no gradient of {', '.join(missing)}")
            return
        direction = draw_direction({key: program.weights[key] for key in keys}, generator, padding_rows)
        got = sum(math.fsum(g * d for g, d in zip(gradients[key].values, direction[key])) for key in keys)
        want = program.derivative(direction)
        norm = math.hypot(*(gradients[key].norm() for key in keys))
        self.check(name, abs(got - want), TOLERANCE * norm + program.rounding(),
                   f"gradient {got:.15g}, central difference {want:.15g}, norm of the gradient {norm:.3g}")

    def equal(self, name: str, got: dict[str, Tensor], want: dict[str, Tensor]) -> None:
        if got.keys() != want.keys():
            self.failures.append(f"{name}: expected gradients of the same parameters, got others: {got.keys() ^ want.keys()}")
            return
        rms = root_mean_square(list(want.values()))
        for key, tensor in want.items():
            error = math.dist(got[key].values, tensor.values)
            limit = EQUAL * max(tensor.norm(), rms * math.sqrt(len(tensor.values)))
            self.check(f"{name}, {key}", error, limit, f"norm {tensor.norm():.3g}")

    def close(self, title: str) -> int:
        for failure in self.failures:
            print(f"FAIL {failure}")
        share, name = self.nearest
        print(f"{title}: {self.count} comparisons, {len(self.failures)} failures; "
              f"nearest to its limit {name} ({100 * share:.2g} %)")
        return 1 if self.failures or not self.count else 0


def compile_model(llamac: str, model: pathlib.Path, executable: pathlib.Path, *options: str) -> pathlib.Path:
    run([llamac, "compile", str(model), "--precision=f64", "--lower=reference", *options, "-o", str(executable)])
    return executable.resolve()


def differentiable_ops() -> set[str]:
    found = {op for path in (HERE.parent.parent / "dialects/Llama/IR").glob("*.td")
             for op in re.findall(r'Llama_ComputeOp<"(\w+)", \[[^\]]*\bLlama_Vjp\b', path.read_text())}
    if not found:
        fail("dialects/Llama/IR/*.td: expected ops with a gradient")
    return found


def check_ops(llamac: str, folder: pathlib.Path, only: str | None) -> int:
    cases = [item for item in CASES if only in (None, item.name)]
    if not cases:
        fail(f"--only={only}: expected one of {', '.join(item.name for item in CASES)}")
    report, generator = Report(), random.Random(1)
    used = {line.split("llama.")[1].split()[0] for item in CASES for line in item.block.lines}
    report.failures += [f"llama.{op} is differentiable and has no case" for op in sorted(differentiable_ops() - used)]

    model = folder / "ops.mlir"
    model.write_text(model_text(cases))
    executable = compile_model(llamac, model, folder / "ops", f"--batch={B}", f"--text-length={S}", f"--images={M}")
    weights = draw_weights(cases, generator)
    padding_rows = {"embed.table": PADDING_ID}
    for number, (name, description) in enumerate(BATCHES.items()):
        batch = folder / f"batch{number}.safetensors"
        write_safetensors(batch, batch_tensors(generator, Sizes(B, S, M, T, TILE_SIZE, V, X), *description))
        program = Program(executable, weights, batch)
        gradients = program.gradients()
        checked = [HEAD]
        for item in cases:
            if number == 0 or set(item.inputs) - {"labels"}:  # another batch is another case only if it has integer operands
                checked += [item.key(parameter) for parameter in item.parameters if parameter not in item.constants]
        for key in checked:
            for i in range(2):
                report.direction(f"{key}, {name}, direction {i}", program, gradients, [key], generator, padding_rows)
    return report.close("ops")


def check_model(llamac: str, folder: pathlib.Path) -> int:
    report, generator = Report(), random.Random(2)
    config = HERE / "golden/small/config.json"
    weights = {key: Tensor(tensor.shape, array.array("d", tensor.values))
               for key, tensor in read_safetensors(config.parent / "model.safetensors").items()}
    padding_rows = {"language_model.model.embed_tokens.weight": json.loads(config.read_text())["text_config"]["pad_token_id"]}

    # The four executables; two compilers at a time.
    shape = ["--text-length=11", "--images=2"]
    options = {"plain": ["--batch=3", *shape], "full": ["--batch=3", *shape, "--recompute=full"],
               "selective": ["--batch=1", *shape, "--recompute=selective", "--micro-batches=3"],
               "one_image": ["--batch=2", "--text-length=11", "--images=1", "--row-mask=ffn", "--feature-taps=output"]}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        compiled = {name: pool.submit(compile_model, llamac, config, folder / name, *more) for name, more in options.items()}
    program = lambda name, golden: Program(compiled[name].result(), weights, HERE / "golden" / golden / "batch.safetensors")

    # Two, one and no image; padding on the right; text before the first image. One tensor at a time.
    plain = program("plain", "fewer_images")
    gradients = plain.gradients()
    for key in weights:
        report.direction(key, plain, gradients, [key], generator, padding_rows)
    for name in ("full", "selective"):
        report.equal(f"recompute {name}", program(name, "fewer_images").gradients(), gradients)

    # Another graph, and other batches: all tensors at once.
    for golden in ("left_padding", "right_padding", "no_images"):
        other = program("one_image", golden)
        found = other.gradients()
        for i in range(2):
            report.direction(f"{golden}, direction {i}", other, found, list(weights), generator, padding_rows)
    return report.close("model")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llamac", required=True, help="the compiler")
    parser.add_argument("--only", help="ops: one case")
    parser.add_argument("--work", type=pathlib.Path, help="folder to leave models and executables in; default temporary")
    parser.add_argument("what", choices=["ops", "model"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.work or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if arguments.what == "ops":
            return check_ops(arguments.llamac, folder, arguments.only)
        return check_model(arguments.llamac, folder)


if __name__ == "__main__":
    sys.exit(main())
