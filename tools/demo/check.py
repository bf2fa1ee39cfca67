#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Lets the demonstration's executable caption every flag of its data and counts
the captions that are right, word for word. Then shows it each picture under the
name of another: the captions must follow the pictures, not the names. Exits 1 if
fewer than nine tenths are right.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tarfile

RIGHT = 0.9  # the share that must be right
SHOWN = 5    # captions printed


def captions_of(executable, weights, data, pictures):
    """Caption of each picture file, in order."""
    listed = pictures[0].parent / "pictures.txt"
    listed.write_text("".join(f"{p}\n" for p in pictures))
    done = subprocess.run(
        [executable, "generate", f"--weights={weights}", f"--tokenizer={data}/tokenizer.model",
         f"--preprocessor={data}/preprocessor_config.json", f"--images-list={listed}"],
        capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"demo: generate failed: {done.stderr}")
    return [line.split("\t", 1)[1].strip() for line in done.stdout.splitlines()]


def main():
    parser = argparse.ArgumentParser()
    for name in ("executable", "data", "checkpoints", "metrics", "work"):
        parser.add_argument("--" + name, type=pathlib.Path, required=True)
    arguments = parser.parse_args()

    arguments.work.mkdir(parents=True, exist_ok=True)
    wanted = {}
    for shard in sorted(arguments.data.glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                key, field = member.name.split(".", 1)
                content = tar.extractfile(member).read()
                if field == "png":
                    (arguments.work / f"{key}.png").write_bytes(content)
                elif field == "txt":
                    wanted[key] = content.decode().strip()
    keys = sorted(wanted)
    weights = sorted(arguments.checkpoints.glob("step-*"))[-1]

    def count(names, show):
        """Right captions when picture i is stored under the name names[i]."""
        folder = arguments.work / ("shown" if show else "exchanged")
        folder.mkdir(exist_ok=True)
        for key, name in zip(keys, names):
            (folder / f"{name}.png").write_bytes((arguments.work / f"{key}.png").read_bytes())
        captions = captions_of(arguments.executable, weights, arguments.data,
                               [folder / f"{name}.png" for name in names])
        right = 0
        for key, caption in zip(keys, captions):
            right += caption == wanted[key]
            if show and keys.index(key) < SHOWN or caption != wanted[key]:
                print(f"  {key}.png: {caption!r}" + ("" if caption == wanted[key]
                                                    else f", expected {wanted[key]!r}"))
        return right

    right = count(keys, show=True)
    exchanged = count(keys[1:] + keys[:1], show=False)
    print(f"demo: with pictures exchanged, {exchanged} of {len(keys)} captions follow the picture")
    losses = [json.loads(line)["loss"] for line in arguments.metrics.read_text().splitlines()]
    print(f"demo: loss {losses[0]:.4f} -> {losses[-1]:.4f}, {right} of {len(keys)} captions right")
    if min(right, exchanged) < RIGHT * len(keys):
        sys.exit(1)


if __name__ == "__main__":
    main()
