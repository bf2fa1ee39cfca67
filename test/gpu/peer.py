#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The peer of run.py's workloads: the same model and batch in PyTorch with transformers, on a GPU.

    peer.py --workload W1 --folder FOLDER --write                 weights and batch for both sides
    peer.py --workload W1 --folder FOLDER --form eager|compile|flash|efficient|cudnn|math

A step is forward, backward and AdamW: model and activations in bf16, masters and moments in f32 (fused AdamW), masters rounded
into the model; gradients are bf16, as autograd makes them, where llamac's are f32. Forms: `eager` and `compile` leave attention to
PyTorch's own choice, the others name a back end of scaled_dot_product_attention. Prints one line of JSON: milliseconds
by events of the GPU (medians), the first loss; or `refused`, with PyTorch's reason.
"""

import argparse
import json
import pathlib
import statistics
import sys

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.nn.attention import SDPBackend, sdpa_kernel

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent / "numerics"))
import make_golden  # noqa: E402: batches as HuggingFace's processor makes them
from workloads import WORKLOADS, Workload, small  # noqa: E402

BACK_ENDS = {"flash": SDPBackend.FLASH_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION,
             "cudnn": SDPBackend.CUDNN_ATTENTION, "math": SDPBackend.MATH}
STEPS, WARM_UP = 10, 3
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


def measure(folder: pathlib.Path, workload: Workload, form: str, device: str) -> dict:
    model = make_model(workload.config, device)
    model.load_state_dict(load_file(folder / "weights.safetensors", device=device), strict=False)
    parameters = list(model.parameters())
    masters = [parameter.detach().float().requires_grad_() for parameter in parameters]
    optimizer = torch.optim.AdamW(masters, lr=1e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0, fused=device == "cuda")
    batch = {key: value.to(device) for key, value in load_file(folder / "batch.safetensors").items()}
    inputs = {key: value.bfloat16() if key == "pixel_values" else value for key, value in make_golden.model_inputs(batch).items()}
    tokens = int((batch["labels"][:, 1:] != make_golden.IGNORED).sum())
    text = workload.config.get("text_config", workload.config)
    run = torch.compile(model) if form == "compile" else model

    def forward_backward() -> torch.Tensor:
        for parameter in parameters:
            parameter.grad = None
        loss = model.loss_function(run(**inputs).logits, batch["labels"], text["vocab_size"], num_items_in_batch=tokens)
        loss.backward()
        return loss.detach()

    def update() -> None:
        used = [(master, parameter) for master, parameter in zip(masters, parameters) if parameter.grad is not None]
        for master, parameter in used:
            master.grad = parameter.grad.float()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_copy_([parameter for _, parameter in used], [master for master, _ in used])

    clock = (lambda: torch.cuda.Event(enable_timing=True)) if device == "cuda" else None
    losses, parts = [], []
    for _ in range(WARM_UP + STEPS):
        marks = [clock() for _ in range(3)] if clock else []
        for i, work in enumerate((lambda: losses.append(forward_backward()), update)):
            if marks:
                marks[i].record()
            work()
        if marks:
            marks[2].record()
            torch.cuda.synchronize()
            parts.append((marks[0].elapsed_time(marks[1]), marks[1].elapsed_time(marks[2]), marks[0].elapsed_time(marks[2])))
        else:
            parts.append((0.0, 0.0, 0.0))  # no time is taken where there is no GPU
    medians = [statistics.median(column) for column in zip(*parts[WARM_UP:])]
    return {"form": form, "forward_backward_ms": medians[0], "update_ms": medians[1], "ms": medians[2], "loss": losses[0].item(),
            "torch": torch.__version__, "transformers": transformers.__version__}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workload", required=True, choices=WORKLOADS)
    parser.add_argument("--folder", required=True, type=pathlib.Path, help="with the weights and the batch")
    parser.add_argument("--write", action="store_true", help="make them, and stop")
    parser.add_argument("--form", choices=["eager", "compile", *BACK_ENDS], default="eager")
    parser.add_argument("--small", action="store_true", help="the size that tests of run.sh have")
    parser.add_argument("--device", default="cuda", help="cpu: everything but the clock, for a test of this script")
    arguments = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    workload = WORKLOADS[arguments.workload]
    if arguments.small:
        workload = small(workload)
    if arguments.write:
        write(arguments.folder, workload, arguments.device)
        return
    try:
        if arguments.form in BACK_ENDS:
            with sdpa_kernel(BACK_ENDS[arguments.form]):
                result = measure(arguments.folder, workload, arguments.form, arguments.device)
        else:
            result = measure(arguments.folder, workload, arguments.form, arguments.device)
    except RuntimeError as error:  # no kernel of that back end for this attention, say
        result = {"form": arguments.form, "refused": str(error).strip().splitlines()[-1]}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
