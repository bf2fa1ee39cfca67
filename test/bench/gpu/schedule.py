# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""How evenly the blocks of causal attention fill the multiprocessors, by counts of tiles.

    schedule.py [--queries 8192] [--heads 32] [--kv-heads 8] [--batch 1]

Each block of a kernel for sm_90a owns a tile, and goes through the tiles of the other side of which the mask leaves something: with
queries and keys in one order that number is a formula (`tiles_of`). A multiprocessor has room for one block and takes the next one
when it is done. What is printed: the tile pairs of all blocks divided by multiprocessors, over what the last one to finish has done.

Blocks of the backward wait for each other: the part of a row tile may be added only when the key tile before has added its own, and was
seen to (`latency`, in pairs of tiles). `chained` goes through time pair by pair, so that waits count; as many parts may be
under way as have places in shared memory.
"""

import argparse
import heapq

MULTIPROCESSORS = 132
# Rows and keys of a tile, whether the block owns rows, of lib/Lower/Cuda/AttentionHopper.cpp for heads up to 128.
KERNELS = {"forward": (128, 128, True), "backward": (64, 128, False)}


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


def chained(queries: int, group: int, heads: int, at_once: int = 16, multiprocessors: int = MULTIPROCESSORS, latency: float = 1.0,
            places: int = 2) -> float:
    """As `balance`, of the backward, with its waits: blocks begin in their order, each where a multiprocessor is free first. Block
    (head, key tile j) has pairs with row tiles from the last to that of its diagonal; a pair takes 1, but cannot end before its part of dQ has a place
    in shared memory: the part `places` before it was added, after that of key tile j - 1 in the same rows."""
    tiles = tiles_of("backward", queries, group)
    at_once = max(n for n in range(1, min(at_once, heads) + 1) if heads % n == 0)
    free = [0.0] * multiprocessors
    added: dict[int, list[float]] = {}  # of each head, when the last key tile's part of the n-th row tile from the end was added
    for first in range(0, heads, at_once):
        for count in tiles:
            for head in range(first, first + at_once):
                before = added.get(head)
                time, mine = heapq.heappop(free), []
                for n in range(count):
                    if n >= places:
                        time = max(time, mine[n - places] - 1)
                    time += 1
                    mine.append(max(time, before[n] if before else 0) + latency)
                added[head] = mine
                heapq.heappush(free, max(time, mine[-1]))
    return sum(tiles) * heads / multiprocessors / max(free)


def table(queries: int, heads: int, kv_heads: int, batch: int) -> list[str]:
    rows = ["| kernel | blocks | tile pairs | most of a block | head after head | heads at once | longest last |", "|---|---|---|---|---|---|---|"]
    for kernel in KERNELS:
        tiles, all_heads = tiles_of(kernel, queries, heads // kv_heads), batch * kv_heads
        rising = sorted(tiles) * all_heads
        rows.append(f"| {kernel} | {len(tiles) * all_heads} | {sum(tiles) * all_heads} | {max(tiles)} | {balance(order_by_heads(tiles, all_heads)):.3f} | "
                    f"{balance(order_at_once(tiles, all_heads)):.3f} | {balance(rising):.3f} |")
    return rows


def waits(queries: int, heads: int, kv_heads: int, batch: int) -> list[str]:
    """Of the backward, how much of the time until the last multiprocessor is done all are busy, with the waits of blocks."""
    rows = ["| from part to part, pairs of tiles | places | as it is | head after head |", "|---|---|---|---|"]
    for latency, places in ((0.0, 2), (0.5, 2), (1.0, 2), (2.0, 2), (1.0, 1), (2.0, 1)):
        at_once, alone = (chained(queries, heads // kv_heads, batch * kv_heads, n, latency=latency, places=places) for n in (16, 1))
        rows.append(f"| {latency} | {places} | {at_once:.3f} | {alone:.3f} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("queries", 8192), ("heads", 32), ("kv-heads", 8), ("batch", 1)):
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default {value}")
    arguments = parser.parse_args()
    sizes = arguments.queries, arguments.heads, arguments.kv_heads, arguments.batch
    print("\n".join(table(*sizes) + [""] + waits(*sizes)))


if __name__ == "__main__":
    main()
