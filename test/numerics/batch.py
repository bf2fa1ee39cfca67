# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Weights and batches that need no PyTorch: safetensors files, and batches as HuggingFace's processor makes them."""

import array
import dataclasses
import json
import math
import pathlib
import random

TILES_OF_ASPECT = [1, 1, 2, 3, 4, 2, 4, 3, 4]  # llama3-vision specification B3; 0 is a missing image
NO_IMAGE = (0, 0, 0)


def write_safetensors(path: pathlib.Path, tensors: dict[str, tuple[str, list[int], bytes]]) -> None:
    header, offset = {}, 0
    for key, (dtype, shape, data) in tensors.items():
        header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(data for _, _, data in tensors.values()))


@dataclasses.dataclass
class Sizes:
    """B samples, S text tokens, M images per sample, T tile slots, R pixels of a tile, V vocabulary, X extra rows."""
    B: int
    S: int
    M: int
    T: int
    R: int
    V: int
    X: int


def batch_tensors(generator: random.Random, sizes: Sizes, real: list[tuple[int, int]], documents: list[int],
                  images: list[list[tuple[int, int, int]]]) -> dict:
    """Per sample: [begin, end) of the tokens that are no padding; where the second document starts; (aspect ratio id, first
    row that sees the image, end of those rows) per image. No image tensors if `images` is empty."""
    B, S, M, T = sizes.B, sizes.S, sizes.M, sizes.T
    ids = [generator.randrange(sizes.V + sizes.X) for _ in range(B * S)]
    # A padding row on the left sees no key; the gradient through it is no derivative. Its label is the next token's.
    labels = [generator.randrange(sizes.V) if real[i // S][0] < i % S < real[i // S][1] and i % 5 else -100
              for i in range(B * S)]
    mask = [int(real[i // S][0] <= i % S < real[i // S][1]) for i in range(B * S)]
    integers = {"input_ids": ([B, S], ids), "labels": ([B, S], labels), "attention_mask": ([B, S], mask),
                "document_ids": ([B, S], [int(i % S >= documents[i // S]) for i in range(B * S)])}
    tensors = {}
    if images:
        aspects = [aspect for sample in images for aspect, _, _ in sample]
        rows = lambda b, s, m: images[b][m][1] <= s < images[b][m][2]
        integers |= {"aspect_ratio_ids": ([B, M], aspects),
                     "aspect_ratio_mask": ([B, M, T], [int(t < TILES_OF_ASPECT[a]) for a in aspects for t in range(T)]),
                     "cross_attention_mask": ([B, S, M, T], [
                         int(rows(b, s, m) and t < TILES_OF_ASPECT[images[b][m][0]])
                         for b in range(B) for s in range(S) for m in range(M) for t in range(T)])}
        shape = [B, M, T, 3, sizes.R, sizes.R]
        pixels = array.array("f", (generator.gauss(0, 1) for _ in range(math.prod(shape))))
        tensors["pixel_values"] = ("F32", shape, pixels.tobytes())
    return tensors | {key: ("I64", shape, array.array("q", values).tobytes()) for key, (shape, values) in integers.items()}
