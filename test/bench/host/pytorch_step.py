#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The peer of llamac's host benchmark: a training step of the model in config.json by PyTorch and transformers.

    python3 pytorch_step.py --write FOLDER                          weights and batch for both sides
    python3 pytorch_step.py --folder FOLDER --threads 2 [--precision bf16] [--steps 7]

A step is forward, backward and AdamW on one batch, eager mode, attention through `scaled_dot_product_attention`
(transformers' default). f32: everything in f32. bf16: the model and its activations are bf16, AdamW runs on f32 masters,
the masters are then rounded into the model; gradients are bf16, as autograd makes them. llamac does the same work, but
keeps gradients in f32. Prints one line of JSON: seconds per step (median, 10th and 90th percentile), `cpu_s` (median of
processor seconds over all threads: with one thread, what a busy machine hardly changes), tokens with a label, the loss of
every step, warm-up first.

The installed transformers taps block outputs and masks only the feed-forward branch of rows without an image, so compile
llamac's side with `--feature-taps=output --row-mask=ffn`; then the first losses agree too.
"""

# Shapes: B samples, S text tokens, one image of four tiles per sample.

import argparse
import json
import pathlib
import sys
import time

import torch
import transformers
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "numerics"))
import make_golden  # noqa: E402: the weights and batches of the golden files, larger


def write(folder: pathlib.Path, config: dict, batch: int, length: int) -> None:
    """FOLDER/{config.json, model.safetensors, batch.safetensors}; captions, every image fills its four tiles."""
    make_golden.write_model(folder, config)
    case = dict(samples=["bi" + "t" * (length - 3) + "e"] * batch, images=[[(2, 2)]] * batch)
    save_file(make_golden.make_batch(config, case), folder / "batch.safetensors")


def measure(arguments: argparse.Namespace, config: dict) -> dict:
    dtype = torch.bfloat16 if arguments.precision == "bf16" else torch.float32
    model = transformers.MllamaForConditionalGeneration.from_pretrained(
        arguments.folder, attn_implementation="sdpa", dtype=dtype).train()
    parameters = list(model.parameters())
    masters = parameters
    if dtype == torch.bfloat16:
        masters = [p.detach().float().requires_grad_() for p in parameters]
    optimizer = torch.optim.AdamW(masters, lr=1e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0)
    batch = load_file(arguments.folder / "batch.safetensors")
    inputs = make_golden.model_inputs(batch)
    tokens = int((batch["labels"][:, 1:] != make_golden.IGNORED).sum())
    vocabulary = config["text_config"]["vocab_size"]

    def step() -> float:
        for parameter in parameters:
            parameter.grad = None
        loss = model.loss_function(model(**inputs).logits, batch["labels"], vocabulary, num_items_in_batch=tokens)
        loss.backward()
        if masters is not parameters:
            for master, parameter in zip(masters, parameters):
                master.grad = parameter.grad.float()
        optimizer.step()
        if masters is not parameters:
            with torch.no_grad():
                for master, parameter in zip(masters, parameters):
                    parameter.copy_(master)
        return loss.item()

    losses, seconds, busy = [], [], []
    for i in range(arguments.warm_up + arguments.steps):
        begin, busy_begin = time.perf_counter(), time.process_time()
        losses.append(step())
        if i >= arguments.warm_up:
            seconds.append(time.perf_counter() - begin)
            busy.append(time.process_time() - busy_begin)
    times = torch.tensor(seconds, dtype=torch.float64)
    return {"precision": arguments.precision, "threads": arguments.threads, "parameters": sum(p.numel() for p in parameters),
            "batch": batch["input_ids"].shape[0], "text_length": batch["input_ids"].shape[1], "tokens": tokens,
            "steps": arguments.steps, "median_s": round(times.median().item(), 4),
            "p10": round(times.quantile(0.1).item(), 4), "p90": round(times.quantile(0.9).item(), 4),
            "cpu_s": round(torch.tensor(busy).median().item(), 4), "losses": losses, "torch": torch.__version__, "transformers": transformers.__version__}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=pathlib.Path, metavar="FOLDER", help="write model and batch, and stop")
    parser.add_argument("--batch", type=int, default=2, help="with --write: samples")
    parser.add_argument("--text-length", type=int, default=192, help="with --write: tokens per sample")
    parser.add_argument("--folder", type=pathlib.Path, help="what --write made")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warm-up", type=int, default=2, help="steps before the clock runs")
    parser.add_argument("--steps", type=int, default=7, help="timed steps, at least 5")
    arguments = parser.parse_args()
    config = json.loads((HERE / "config.json").read_text())
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(arguments.threads)
    if arguments.write:
        write(arguments.write, config, arguments.batch, arguments.text_length)
    elif arguments.folder is None or arguments.steps < 5:
        parser.error("expected --write, or --folder and at least 5 steps")
    else:
        print(json.dumps(measure(arguments, config)))


if __name__ == "__main__":
    main()
