# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""How evenly the blocks of causal attention fill the multiprocessors, by counts of tiles.

    schedule.py [--queries 8192] [--heads 32] [--kv-heads 8] [--batch 1]

Each block of a kernel for sm_90a owns a tile, and goes through the tiles of the other side of which the mask leaves something: with
queries and keys in one order that number is a formula (`tiles_of`). A multiprocessor has room for one block and takes the next one
when it is done. What is printed: the tile pairs of all blocks divided by multiprocessors, over what the last one to finish has done.
"""

import argparse
import heapq

MULTIPROCESSORS = 132
# Rows and keys of a tile, whether the block owns rows, of lib/Lower/Cuda/AttentionHopper.cpp for heads up to 128.
KERNELS = {"forward": (128, 128, True), "dq": (128, 128, True), "dkv": (64, 128, False)}


def tiles_of(kernel: str, queries: int, group: int) -> list[int]:
    """Of each tile that a block may own, how many of the others it sees. Row r is query r // group; keys as many as queries."""
    rows, keys, owns_rows = KERNELS[kernel]
    row_tiles, key_tiles = -(-queries * group // rows), -(-queries // keys)
    last = [min(((r + 1) * rows - 1) // group, queries - 1) for r in range(row_tiles)]  # query of each row tile
    if owns_rows:
        return [min(last[r] // keys + 1, key_tiles) for r in range(row_tiles)]
    return [sum(last[r] >= t * keys for r in range(row_tiles)) for t in range(key_tiles)]


def order_by_heads(tiles: list[int], heads: int) -> list[int]:
    """All tiles of a head, those with most to do first, then the next head's."""
    return sorted(tiles, reverse=True) * heads


def order_at_once(tiles: list[int], heads: int, at_once: int = 16) -> list[int]:
    """As AttentionBlock: the tiles of up to `at_once` heads side by side."""
    at_once = max(n for n in range(1, min(at_once, heads) + 1) if heads % n == 0)
    return [tile for tile in sorted(tiles, reverse=True) for _ in range(at_once)] * (heads // at_once)


def balance(blocks: list[int], multiprocessors: int = MULTIPROCESSORS) -> float:
    done = [0] * min(multiprocessors, len(blocks))
    for block in blocks:
        heapq.heapreplace(done, done[0] + block)
    return sum(blocks) / multiprocessors / max(done)


def table(queries: int, heads: int, kv_heads: int, batch: int) -> list[str]:
    rows = ["| kernel | blocks | tile pairs | most of a block | head after head | heads at once | longest last |", "|---|---|---|---|---|---|---|"]
    for kernel in KERNELS:
        tiles, all_heads = tiles_of(kernel, queries, heads // kv_heads), batch * kv_heads
        rising = sorted(tiles) * all_heads
        rows.append(f"| {kernel} | {len(tiles) * all_heads} | {sum(tiles) * all_heads} | {max(tiles)} | {balance(order_by_heads(tiles, all_heads)):.3f} | "
                    f"{balance(order_at_once(tiles, all_heads)):.3f} | {balance(rising):.3f} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("queries", 8192), ("heads", 32), ("kv-heads", 8), ("batch", 1)):
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default {value}")
    arguments = parser.parse_args()
    print("\n".join(table(arguments.queries, arguments.heads, arguments.kv_heads, arguments.batch)))


if __name__ == "__main__":
    main()
