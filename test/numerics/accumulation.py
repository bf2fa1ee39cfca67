#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""How far gradients drift that are summed in bf16 over many micro-batches, and that those summed in f32 do not.

    accumulation.py --llamac build/bin/llamac

A small text model runs one step in bf16 on 1, 4, ... micro-batches, with gradients summed in f32 and in bf16. Their error is
the distance to the gradients of the same model in f32, relative to their norm, over all parameters. The rounding of weights and
activations is in both; what bf16 sums add grows with the number of micro-batches, since a term that is less than 1/256 of the
sum is lost in it.

Checked: the error of f32 sums stays below twice that of one micro-batch; that of bf16 sums grows, and is at the largest number
several times that of f32 sums. llamac compiles the latter only if asked.

Exit status: 0 so it is, 1 it is not, 2 wrong use.
"""

import argparse
import array
import json
import math
import pathlib
import random
import subprocess
import sys
import tempfile

from batch import Sizes, batch_tensors, write_safetensors
from run_case import read_safetensors

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "properties"))
from grids import draw_weights  # noqa: E402

LENGTH = 16  # tokens of a sample; a micro-batch is one sample
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 64, "hidden_size": 32,
          "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
          "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 512,
          "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}


def run(command: list) -> str:
    result = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if result.returncode != 0:
        print(f"exit status {result.returncode} of {' '.join(map(str, command))}\n{result.stderr}")
        sys.exit(1)
    return result.stdout


def gradients(llamac: str, folder: pathlib.Path, micro_batches: int, *options: str) -> dict:
    executable, out = folder / "model", folder / "gradients"
    run([llamac, "compile", folder / "config.json", f"--text-length={LENGTH}", f"--micro-batches={micro_batches}", *options,
         "-o", executable])
    run([executable, "step", f"--weights={folder / 'weights'}", f"--batch={folder / 'batch'}", "--steps=1",
         "--learning-rate=0", f"--gradients={out}", "--threads=1"])
    return read_safetensors(out)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llamac", required=True, help="the compiler")
    parser.add_argument("--micro-batches", default="1,16,256", help="numbers, ascending (1,16,256)")
    arguments = parser.parse_args()
    counts = [int(number) for number in arguments.micro_batches.split(",")]
    errors: dict[str, list[float]] = {"f32": [], "bf16": []}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "config.json").write_text(json.dumps(CONFIG))
        r = random.Random(1)
        write_safetensors(folder / "weights", draw_weights(r, run([arguments.llamac, "import", folder / "config.json",
                                                                   "-o", "-"])))
        print("micro-batches  error with f32 sums  with bf16 sums")
        for count in counts:
            sizes = Sizes(count, LENGTH, 0, 4, 0, CONFIG["vocab_size"], 0)
            batch = batch_tensors(random.Random(2), sizes, [(0, LENGTH)] * count, [LENGTH] * count, [])
            # Words are not equally frequent, so that gradients of samples have something in common.
            words = array.array("q", (int(CONFIG["vocab_size"] * random.Random(i).random() ** 3)
                                      for i in range(count * LENGTH))).tobytes()
            for key in ("input_ids", "labels"):
                batch[key] = ("I64", [count, LENGTH], words)
            write_safetensors(folder / "batch", batch)
            truth = gradients(arguments.llamac, folder, count, "--precision=f32")
            norm = math.hypot(*(tensor.norm() for tensor in truth.values()))
            for accumulate in ("f32", "bf16"):
                got = gradients(arguments.llamac, folder, count, f"--accumulate={accumulate}")
                distance = math.hypot(*(math.dist(got[key].values, truth[key].values) for key in truth))
                errors[accumulate].append(distance / norm)
            print(f"{count:13d}  {errors['f32'][-1]:19.4f}  {errors['bf16'][-1]:14.4f}", flush=True)
    f32, bf16 = errors["f32"], errors["bf16"]
    passed = max(f32) < 2 * f32[0] and bf16[-1] > 2 * bf16[0] and bf16[-1] > 3 * f32[-1]
    print("bf16 sums drift, f32 sums do not" if passed else "expected f32 sums not to drift and bf16 sums to do so")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
