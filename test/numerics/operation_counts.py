#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Compares operations counted in the IR with the formulas of the llama3-vision specification, exactly.

    operation_counts.py --llamac build/bin/llamac

Forward: what `llamac import --statistics` prints, part by part, against D3. Step: the matrix products in the blocks that
the training graph applies, counted here from their types, against what backward must do (D2): for every product of the
forward one for the gradient of its input and one for that of its weight, twice the operations for attention; no weight
gradient for a frozen parameter, no input gradient that nothing trainable needs.

Exit status: 0 equal, 1 not equal or a command failed, 2 wrong use.
"""

import argparse
import math
import pathlib
import re
import sys
import tempfile

from run_case import run

# S text tokens, T tile slots, K key and value heads, HD head size, V vocabulary, DV encoder width, P values of a patch.
S, T, K, HD, V, DV, DV_FFN, P, ENCODER_LAYERS = 192, 4, 8, 128, 128256, 1280, 5120, 588, 40


class Model:
    """One sample with one image. D width, L self-attention layers, C cross-attention layers, F feed-forward width, `below`
    the self-attention layers before the first cross-attention layer."""

    def __init__(self, name: str, D: int, L: int, C: int, F: int, below: int):
        self.name, self.D, self.L, self.C, self.F, self.below = name, D, L, C, F, below

    def forward(self, tile_size: int) -> dict[str, int]:
        """D3."""
        D, g = self.D, tile_size // 14
        n = g * g + 1
        N, Nv = T * (n + -n % 8), T * n
        return {"encoder": ENCODER_LAYERS * (2 * N * (4 * DV**2 + 2 * DV * DV_FFN) + 4 * N**2 * DV) + self.patches(tile_size),
                "projector": 2 * Nv * 6 * DV * D,
                "cross keys and values": self.C * 2 * Nv * 2 * D * K * HD,
                "cross layers": self.C * S * (2 * (2 * D**2 + 3 * D * self.F) + 4 * Nv * D),
                "text layers": self.L * (S * self.text_products() + self.text_attention()),
                "head": 2 * S * V * D}

    def text_products(self) -> int:
        return 2 * (2 * self.D**2 + 2 * self.D * K * HD + 3 * self.D * self.F)

    def text_attention(self) -> int:
        return 4 * S**2 * self.D

    def patches(self, tile_size: int) -> int:
        return 2 * T * (tile_size // 14)**2 * P * DV

    def step(self, tile_size: int, trainable: str) -> int:
        """Pixels have no gradient. A frozen text layer costs its forward and its input gradient; without trained embedding
        rows, layers below the first cross-attention layer have no backward."""
        forward = self.forward(tile_size)
        step = 3 * sum(forward.values()) - self.patches(tile_size)
        if trainable != "all":
            step -= forward["head"] + self.L * S * self.text_products()
        if trainable == "adapter-without-rows":
            step -= self.below * (S * self.text_products() + 2 * self.text_attention())
        return step

    def weight_gradients(self, trainable: str) -> int:
        """Products that form one: 6 of an encoder layer, patches, projector; 7 of a cross or a text layer, the head."""
        adapter = 6 * ENCODER_LAYERS + 2 + 7 * self.C
        return adapter + 7 * self.L + 1 if trainable == "all" else adapter


MODELS = [  # the last number follows from spec C and E5
    (Model("llama3.2-11b-vision", 4096, 32, 8, 14336, 3), [560, 336]),
    (Model("llama3.2-90b-vision", 8192, 80, 20, 28672, 3), [560, 336]),
    (Model("llama3-405b-vision", 16384, 126, 32, 53248, 2), [336]),
]


def shapes(types: str) -> list[list[int]]:
    return [[int(size) for size in shape.split("x")[:-1]] for shape in re.findall(r"tensor<([^>]*)>", types)]


def operations_of(op: str, operands: list[list[int]]) -> int:
    if op in ("attention", "attention_grad"):
        query, key = operands[0 if op == "attention" else 1], operands[1 if op == "attention" else 2]
        return (4 if op == "attention" else 8) * math.prod(query) * key[1]
    if op == "linear_lse":
        return 2 * math.prod(operands[0]) * operands[1][0]
    if op == "linear_lse_grad":  # of one product; logits that are formed again do not count
        return 2 * math.prod(operands[2]) * operands[3][0]
    other = {"linear": operands[1][0], "linear_dx": operands[1][1], "linear_dw": operands[1][-1]}[op]
    return 2 * math.prod(operands[0]) * other


def count_step(text: str) -> tuple[int, int]:
    """Operations and weight-gradient products of @step."""
    blocks, applied, function, gradients = {}, [], None, {}
    for line in text.splitlines():
        if found := re.match(r"\s*func\.func (?:private )?@([\w.]+)\(", line):
            function, gradients = blocks.setdefault(found[1], [0, 0]), {}
            inside_step = found[1] == "step"
            continue
        # The products of linear_lse_grad are those of its results that are read: %d_input, %d_weight.
        for name, operations in list(gradients.items()):
            if re.search(re.escape(name) + r"\b", line):
                function[0] += operations
                function[1] += name.startswith("%d_weight")
                del gradients[name]
        if found := re.search(r"llama\.(linear\w*|attention|attention_grad) .* : \((.*)\) -> ", line):
            operations = operations_of(found[1], shapes(found[2]))
            if found[1] == "linear_lse_grad":
                gradients = dict.fromkeys(re.match(r"\s*(%\w+), (%\w+) = ", line).groups(), operations)
                continue
            function[0] += operations
            function[1] += found[1] == "linear_dw"
        elif (found := re.search(r"llama\.apply @([\w.]+)\(", line)) and inside_step:
            applied.append(found[1])
    return sum(blocks[name][0] for name in applied), sum(blocks[name][1] for name in applied)


def check(llamac: str, folder: pathlib.Path) -> int:
    failures, count = [], 0

    def expect(what: str, got, want) -> None:
        nonlocal count
        count += 1
        if got != want:
            failures.append(f"{what}: expected {want}, got {got}")

    for model, tile_sizes in MODELS:
        for tile_size in tile_sizes:
            name = f"{model.name} at {tile_size} pixels"
            options = [f"--tile-size={tile_size}", f"--text-length={S}"]
            output = run([llamac, "import", model.name, "--statistics", *options])
            got = {part: int(number) for part, number in re.findall(r"^ *([^:\n]+): (\d+)$", output, re.MULTILINE)}
            forward = model.forward(tile_size)
            for part, want in forward.items():
                expect(f"{name}, {part}", got.get(part), want)
            total = re.search(r"^operations of a forward.*: (\d+)$", output, re.MULTILINE)
            expect(f"{name}, forward", total and int(total[1]), sum(forward.values()))
            for trainable, chunk in (("all", "none"), ("adapter", "none"), ("adapter-without-rows", "none"), ("all", "64"),
                                     ("adapter", "64")):
                file = folder / "train.mlir"
                choice = [f"--trainable={trainable}", f"--head-chunk={chunk}"]
                run([llamac, "compile", model.name, *options, *choice, "--compile-to=train", "-o", str(file)])
                text = file.read_text()
                expect(f"{name}, logits in chunks, {' '.join(choice)}", "llama.linear_lse " in text, chunk != "none")
                operations, weight_gradients = count_step(text)
                expect(f"{name}, step, {' '.join(choice)}", operations, model.step(tile_size, trainable))
                expect(f"{name}, weight gradients, {' '.join(choice)}", weight_gradients, model.weight_gradients(trainable))
    for failure in failures:
        print(f"FAIL {failure}")
    print(f"operation counts: {count} comparisons, {len(failures)} failures")
    return 1 if failures else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llamac", required=True, help="the compiler")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return check(arguments.llamac, pathlib.Path(folder))


if __name__ == "__main__":
    sys.exit(main())
