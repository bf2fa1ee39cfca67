#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""How long jax.jit(step).lower(...).compile() takes for a sharded training step on 512 host devices.

    VENV/bin/python test/bench/compile/jax_step.py [--groups 32] [--layers scan|unroll] [--micro-batches 32]

The venv holds requirements.txt. One process compiles once; nothing is executed and no tensor allocated: arguments are
shapes with shardings. The step is the text side of llama3-405b-vision: embedding, 126 self-attention layers (width 16384,
128 heads, 8 of keys and values, 53248) and 32 cross-attention layers to image states, head and loss; the cross-attention
layers train in bf16 with f32 masters and AdamW, the rest is frozen; gradients of all micro-batches are summed in f32 by a loop.
Mesh: data 64 x tensor 8; parameters and state sharded over both, activations by the compiler.

--groups: how many of the 32 groups of four self-attention layers and one cross-attention layer (the last has two).
--layers=scan: one jax.lax.scan over all groups but the last; unroll: every layer is in the program.

What compares and what does not: sizes of layers, the trained set, micro-batches, tensor parallelism and sharding over data are
those of a real step. XLA has no pipeline: all layers are on all devices, so there are no stages, no schedule, no program of
sends and receives, and nothing is proved of the order of collectives. There is no image encoder. XLA ends with machine code
for the CPU, llamac --compile-to=lower before it. Attention forms its scores.

Prints one line of JSON: seconds of lower and compile, seconds of the processors for all of it with the start of the process,
peak MiB, the load of the machine before.
"""
import argparse
import json
import os
import resource
import time

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=512"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P  # noqa: E402

WIDTH, FEED_FORWARD, HEADS, KEY_VALUE_HEADS, HEAD = 16384, 53248, 128, 8, 128
VOCABULARY, GROUPS, SELF_LAYERS, LAST_SELF_LAYERS = 128256, 32, 4, 2
SAMPLES, TOKENS, IMAGE_TOKENS = 8, 192, 4 * 577
DATA, TENSOR = 64, 8

# Columns of a product over tensor, rows over data; and the other way round.
COLUMN, ROW, ONE = P("data", "tensor"), P("tensor", "data"), P(None)


def mlp(x, w):
    return (jax.nn.silu(x @ w["gate"]) * (x @ w["up"])) @ w["down"]


def norm(x, scale):
    y = x.astype(jnp.float32)
    return (y * jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + 1e-5)).astype(x.dtype) * scale


def heads(x, count):
    return x.reshape(*x.shape[:-1], count, HEAD)


def attend(q, k, v, mask):
    group = HEADS // KEY_VALUE_HEADS
    q = q.reshape(*q.shape[:2], KEY_VALUE_HEADS, group, HEAD)
    scores = jnp.einsum("bsghd,btgd->bghst", q, k, preferred_element_type=jnp.float32) * HEAD ** -0.5
    weights = jax.nn.softmax(jnp.where(mask, scores, -1e30), -1).astype(v.dtype)
    return jnp.einsum("bghst,btgd->bsghd", weights, v).reshape(*q.shape[:2], HEADS * HEAD)


def rotate(x):
    angles = jnp.arange(x.shape[1])[:, None] * 500000.0 ** (-jnp.arange(HEAD // 2) * 2 / HEAD)
    cos, sin = jnp.cos(angles)[:, None], jnp.sin(angles)[:, None]
    a, b = jnp.split(x.astype(jnp.float32), 2, -1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1).astype(x.dtype)


def self_layer(x, w):
    y = norm(x, w["norm1"])
    q, k, v = heads(y @ w["q"], HEADS), heads(y @ w["k"], KEY_VALUE_HEADS), heads(y @ w["v"], KEY_VALUE_HEADS)
    causal = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))
    x = x + attend(rotate(q), rotate(k), v, causal) @ w["o"]
    return x + mlp(norm(x, w["norm2"]), w)


def cross_layer(x, states, w):
    y = norm(x, w["norm1"])
    q = norm(heads(y @ w["q"], HEADS), w["q_norm"])
    k = norm(heads(states @ w["k"], KEY_VALUE_HEADS), w["k_norm"])
    v = heads(states @ w["v"], KEY_VALUE_HEADS)
    x = x + jnp.tanh(w["gate1"]) * (attend(q, k, v, jnp.bool_(True)) @ w["o"])
    return x + jnp.tanh(w["gate2"]) * mlp(norm(x, w["norm2"]), w)


def layer_shapes(is_cross):
    keys = KEY_VALUE_HEADS * HEAD
    shapes = {"q": ((WIDTH, HEADS * HEAD), COLUMN), "k": ((WIDTH, keys), COLUMN), "v": ((WIDTH, keys), COLUMN),
              "o": ((HEADS * HEAD, WIDTH), ROW), "gate": ((WIDTH, FEED_FORWARD), COLUMN),
              "up": ((WIDTH, FEED_FORWARD), COLUMN), "down": ((FEED_FORWARD, WIDTH), ROW),
              "norm1": ((WIDTH,), ONE), "norm2": ((WIDTH,), ONE)}
    if is_cross:
        shapes |= {"q_norm": ((HEAD,), ONE), "k_norm": ((HEAD,), ONE), "gate1": ((1,), ONE), "gate2": ((1,), ONE)}
    return shapes


def loss_of(trained, frozen, micro_batch):
    """The sum over tokens. `trained` and `frozen` hold layers of groups, stacked for a scan or in a list."""
    x, states = frozen["embedding"][micro_batch["tokens"]], micro_batch["states"]

    def group(x, layers):
        selves, cross = layers
        for number, w in enumerate(selves):
            if number == len(selves) - 1:
                x = cross_layer(x, states, cross)
            x = self_layer(x, w)
        return x, None

    if isinstance(trained["groups"], dict):
        x, _ = jax.lax.scan(group, x, (frozen["groups"], trained["groups"]))
    else:
        for layers in zip(frozen["groups"], trained["groups"]):
            x, _ = group(x, layers)
    x, _ = group(x, (frozen["last"], trained["last"]))
    logits = (norm(x, frozen["norm"]) @ frozen["head"]).astype(jnp.float32)
    picked = jnp.take_along_axis(logits, micro_batch["labels"][..., None], -1)[..., 0]
    return jnp.sum(jax.nn.logsumexp(logits, -1) - picked)


def step(masters, moments, frozen, batch):
    weights = jax.tree.map(lambda w: w.astype(jnp.bfloat16), masters)

    def accumulate(sums, micro_batch):
        loss, gradients = jax.value_and_grad(loss_of)(weights, frozen, micro_batch)
        return jax.tree.map(lambda s, g: s + g.astype(jnp.float32), sums, gradients), loss

    gradients, losses = jax.lax.scan(accumulate, jax.tree.map(jnp.zeros_like, masters), batch)
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, moments[0], gradients)
    second = jax.tree.map(lambda v, g: 0.95 * v + 0.05 * g * g, moments[1], gradients)
    masters = jax.tree.map(lambda w, m, v: w - 1e-4 * (m / (jnp.sqrt(v) + 1e-8) + 0.1 * w), masters, first, second)
    return masters, (first, second), jnp.sum(losses)


def arguments_of(mesh, groups, scan, micro_batches):
    """Masters, moments, frozen weights and the batch as shapes with shardings."""
    def tensor(shape, spec, dtype=jnp.bfloat16):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))

    def layer(is_cross, dtype=jnp.bfloat16, stacked=()):
        return {name: tensor((*stacked, *shape), P(*[None] * len(stacked), *spec), dtype)
                for name, (shape, spec) in layer_shapes(is_cross).items()}

    count = groups - 1
    selves = [layer(False, stacked=(count,) if scan else ()) for _ in range(SELF_LAYERS)]
    frozen = {"embedding": tensor((VOCABULARY, WIDTH), P("tensor", "data")), "norm": tensor((WIDTH,), ONE),
              "head": tensor((WIDTH, VOCABULARY), COLUMN),
              "groups": selves if scan else [selves] * count,
              "last": [layer(False) for _ in range(LAST_SELF_LAYERS)]}
    masters = {"groups": layer(True, jnp.float32, (count,)) if scan else [layer(True, jnp.float32)] * count,
               "last": layer(True, jnp.float32)}
    samples = SAMPLES * DATA
    batch = {"tokens": tensor((micro_batches, samples, TOKENS), P(None, "data"), jnp.int32),
             "labels": tensor((micro_batches, samples, TOKENS), P(None, "data"), jnp.int32),
             "states": tensor((micro_batches, samples, IMAGE_TOKENS, WIDTH), P(None, "data"))}
    return masters, (masters, masters), frozen, batch


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--groups", type=int, default=GROUPS)
    parser.add_argument("--layers", choices=["scan", "unroll"], default="scan")
    parser.add_argument("--micro-batches", type=int, default=32)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    mesh = jax.make_mesh((DATA, TENSOR), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
    shapes = arguments_of(mesh, arguments.groups, arguments.layers == "scan", arguments.micro_batches)
    shardings = jax.tree.map(lambda shape: shape.sharding, shapes[:2])
    jitted = jax.jit(step, donate_argnums=(0, 1), out_shardings=(*shardings, None))
    start = time.monotonic()
    lowered = jitted.lower(*shapes)
    middle = time.monotonic()
    lowered.compile()
    end = time.monotonic()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"layers": arguments.layers, "groups": arguments.groups, "devices": DATA * TENSOR,
                      "lower_s": round(middle - start, 2), "compile_s": round(end - middle, 2),
                      "processor_s": round(usage.ru_utime + usage.ru_stime, 1), "MiB": usage.ru_maxrss // 1024,
                      "load": round(load, 1)}))


if __name__ == "__main__":
    main()
