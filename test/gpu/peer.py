#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The peer of run.py's workloads: the same model and batch in PyTorch with transformers, on a GPU.

    peer.py --workloads W1,W2 --folder FOLDER --write             weights and batches for both sides: FOLDER/W1/...
    peer.py --workloads W1 --folder FOLDER --forms eager,flash    some of eager, compile, flash, efficient, cudnn, math

A step is the batch's way from the host to the GPU, forward, backward and AdamW, as llamac's is: model and activations in bf16,
masters and moments in f32 (fused AdamW), masters rounded into the model; gradients are bf16, as autograd makes them, and widened for
AdamW, where llamac's are f32 from the start. Forms: `eager` and `compile` leave attention to PyTorch's own choice, the others name a
back end of scaled_dot_product_attention. All forms start from the same weights, in one process, since PyTorch takes longer to load
than to run them. FOLDER/NAME/FORM.json is there as soon as a form is done: milliseconds by events of the GPU (medians), the
losses, the first gradient norm; or `refused`, with PyTorch's reason.
"""

import argparse
import gc
import json
import pathlib
import statistics
import sys
import time

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.nn.attention import SDPBackend, sdpa_kernel

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent / "numerics"))
import make_golden  # noqa: E402: batches as HuggingFace's processor makes them
from workloads import LEARNING_RATE, WORKLOADS, Workload, small, steps  # noqa: E402

BACK_ENDS = {"flash": SDPBackend.FLASH_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION,
             "cudnn": SDPBackend.CUDNN_ATTENTION, "math": SDPBackend.MATH}
MODELS = {"MllamaForConditionalGeneration": (transformers.MllamaForConditionalGeneration, transformers.MllamaConfig),
          "LlamaForCausalLM": (transformers.LlamaForCausalLM, transformers.LlamaConfig)}


def make_model(config: dict, device: str) -> torch.nn.Module:
    model_class, config_class = MODELS[config["architectures"][0]]
    torch.manual_seed(1)
    with torch.device(device):
        model = model_class._from_config(config_class(**config), attn_implementation="sdpa", dtype=torch.bfloat16)
    with torch.no_grad():  # gates are closed at first: then nothing of an image would count
        for key, parameter in model.named_parameters():
            if "gate" in key and parameter.numel() == 1:
                parameter.fill_(0.5)
    return model.train()


def write(folder: pathlib.Path, workload: Workload, device: str) -> None:
    """FOLDER/{weights,batch}.safetensors; captions, each image fills its four tiles."""
    model = make_model(workload.config, device)
    save_file({key: value.detach().cpu().contiguous() for key, value in model.named_parameters()}, folder / "weights.safetensors")
    length = workload.text_length
    sample = "bi" + "t" * (length - 3) + "e" if workload.images else "b" + "t" * (length - 2) + "e"
    case = {"samples": [sample] * workload.samples}
    if workload.images:
        case["images"] = [[(2, 2)] * workload.images] * workload.samples
    save_file(make_golden.make_batch(workload.config, case), folder / "batch.safetensors")


def measure(folder: pathlib.Path, workload: Workload, form: str, device: str, warm_up: int, timed: int) -> dict:
    model = make_model(workload.config, device)
    missing = model.load_state_dict(load_file(folder / "weights.safetensors", device=device), strict=False).missing_keys
    if missing := set(missing) & {key for key, _ in model.named_parameters()}:
        raise RuntimeError(f"the weights lack {', '.join(sorted(missing))}")
    parameters = list(model.parameters())
    masters = [parameter.detach().float().requires_grad_() for parameter in parameters]
    optimizer = torch.optim.AdamW(masters, lr=LEARNING_RATE, betas=(0.9, 0.95), eps=1e-8, weight_decay=0, fused=device == "cuda")
    host = load_file(folder / "batch.safetensors")
    tokens = int((host["labels"][:, 1:] != make_golden.IGNORED).sum())
    if bool(host["attention_mask"].all()):  # without one, attention is causal by a flag and reads no mask
        del host["attention_mask"]
    text = workload.config.get("text_config", workload.config)
    run = torch.compile(model) if form == "compile" else model

    def take_batch() -> dict:
        return {key: value.to(device) for key, value in host.items()}

    def forward_backward(batch: dict) -> torch.Tensor:
        for parameter in parameters:
            parameter.grad = None
        inputs = {key: value.bfloat16() if key == "pixel_values" else value for key, value in make_golden.model_inputs(batch).items()}
        loss = model.loss_function(run(**inputs).logits, batch["labels"], text["vocab_size"], num_items_in_batch=tokens)
        loss.backward()
        return loss.detach()

    def widen() -> list:
        used = [(master, parameter) for master, parameter in zip(masters, parameters) if parameter.grad is not None]
        for master, _ in used:
            if master.grad is None:
                master.grad = torch.empty_like(master)
        torch._foreach_copy_([master.grad for master, _ in used], [parameter.grad for _, parameter in used])
        return used

    def update(used: list) -> None:
        optimizer.step()
        with torch.no_grad():
            torch._foreach_copy_([parameter for _, parameter in used], [master for master, _ in used])

    losses, norm, parts = [], None, []
    for _ in range(warm_up + timed):
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(5)] if device == "cuda" else []
        if marks:
            torch.cuda.synchronize()
            marks[0].record()
        batch = take_batch()
        if marks:
            marks[1].record()
        losses.append(forward_backward(batch))
        if marks:
            marks[2].record()
        used = widen()
        if norm is None:
            norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(master.grad) for master, _ in used])).item()
        if marks:
            marks[3].record()
        update(used)
        if marks:
            marks[4].record()
            torch.cuda.synchronize()
        # No time is taken where there is no GPU.
        parts.append([a.elapsed_time(b) for a, b in zip(marks, marks[1:])] + [marks[0].elapsed_time(marks[4])] if marks else [0.0] * 5)
    inputs_ms, forward_backward_ms, widen_ms, update_ms, ms = (statistics.median(column) for column in zip(*parts[warm_up:]))
    return {"form": form, "inputs_ms": inputs_ms, "forward_backward_ms": forward_backward_ms, "widen_ms": widen_ms, "update_ms": update_ms,
            "ms": ms, "losses": [loss.item() for loss in losses], "gradient_norm": norm, "torch": torch.__version__,
            "transformers": transformers.__version__}


def write_json(path: pathlib.Path, value: dict) -> None:
    """All of it or nothing: who reads it may be told to stop waiting at any time."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value))
    part.rename(path)


def attempt(folder: pathlib.Path, workload: Workload, form: str, device: str, warm_up: int, timed: int) -> dict:
    begin = time.monotonic()
    try:
        if form in BACK_ENDS:
            with sdpa_kernel(BACK_ENDS[form]):
                result = measure(folder, workload, form, device, warm_up, timed)
        else:
            result = measure(folder, workload, form, device, warm_up, timed)
    except RuntimeError as error:  # no kernel of that back end for this attention, say
        lines = str(error).strip().splitlines() or [type(error).__name__]
        result = {"form": form, "refused": f"{type(error).__name__}: {lines[-1] if len(lines[-1]) > 20 else lines[0]}"}
    return result | {"seconds": time.monotonic() - begin}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workloads", required=True, help="some of " + ",".join(WORKLOADS))
    parser.add_argument("--folder", required=True, type=pathlib.Path, help="with a folder for each workload's weights and batch")
    parser.add_argument("--write", action="store_true", help="make them, and stop")
    parser.add_argument("--forms", default="eager", help="some of eager,compile," + ",".join(BACK_ENDS))
    parser.add_argument("--small", action="store_true", help="the size that tests of run.sh have")
    parser.add_argument("--device", default="cuda", help="cpu: everything but the clock, for a test of this script")
    arguments = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for name in arguments.workloads.split(","):
        workload, folder = WORKLOADS[name], arguments.folder / name
        if arguments.small:
            workload = small(workload)
        if arguments.write:
            folder.mkdir(exist_ok=True)
            write(folder, workload, arguments.device)
            continue
        for form in arguments.forms.split(","):
            write_json(folder / f"{form}.json", attempt(folder, workload, form, arguments.device, *steps(arguments.small)))
            gc.collect()  # nothing of one form is left for the next
            if arguments.device == "cuda":
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
