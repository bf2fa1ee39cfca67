#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Draws models, batches and options, and compares llamac with PyTorch on each. A developer's tool, not part of ctest.

    fuzz.py --llamac build/bin/llamac --seeds 0-59             60 cases, about 4 s each
    fuzz.py --llamac build/bin/llamac --seeds 17 --keep DIR    one case; model, batch and results stay in DIR

Needs torch and transformers (requirements.txt). A seed always gives the same case. It prints one line per case, and for
one that fails what run_case.py says and the command to run again. What is drawn: see `draw_config`, `draw_samples` and
`draw_case`; how it is judged: see run_case.py. Every size is drawn from ordinary and awkward values: odd widths, prime
vocabularies, a single token, a single layer.

Exit status: 0 all equal, 1 some not.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import torch
import transformers

import make_golden

PATTERNS = ["*.layers.0.*", "*norm*", "*_proj.weight,*lm_head.weight", "*embed_tokens*"]
VISION_PATTERNS = ["vision_model.*", "*cross_attn*", "*.extra", "multi_modal_projector.bias", "*gate*"]
LIMIT = 300  # seconds of one case
# Where a few tokens decide a tensor, one bf16 run is a poor measure of the error of another.
BF16_ALLOWANCE = 4


def draw_rope(r: random.Random) -> dict:
    """The fields of a config that say how positions rotate, in each form they are written in."""
    theta = r.choice([100.0, 10000.0, 500000.0])
    scaling = {"rope_type": "llama3", "factor": r.choice([2.0, 8.0]), "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": r.choice([16, 128, 4096])}
    return r.choice([{"rope_theta": theta}, {"rope_theta": theta, "rope_scaling": None},
                     {"rope_theta": theta, "rope_scaling": scaling},
                     {"rope_parameters": {"rope_theta": theta, "rope_type": "default"}},
                     {"rope_parameters": {"rope_theta": theta} | scaling}])


def draw_text(r: random.Random) -> dict:
    head_size = r.choice([4, 6, 8, 10, 16, 20, 32, 64, 80, 128])
    heads = r.choice([n for n in (1, 2, 3, 4, 6, 8, 12) if n * head_size <= 256])
    vocabulary = r.choice([17, 64, 97, 130, 256, 301])
    return {"vocab_size": vocabulary, "hidden_size": heads * head_size, "intermediate_size": r.choice([1, 8, 37, 96, 130]),
            "num_hidden_layers": r.randint(1, 5), "num_attention_heads": heads,
            "num_key_value_heads": r.choice([n for n in range(1, heads + 1) if heads % n == 0]), "hidden_act": "silu",
            "rms_norm_eps": r.choice([1e-5, 1e-6]), "max_position_embeddings": 8192, "tie_word_embeddings": False,
            "bos_token_id": vocabulary - 6, "eos_token_id": vocabulary - 5, "pad_token_id": vocabulary - 4} | draw_rope(r)


def draw_vision(r: random.Random) -> dict:
    head_size = r.choice([4, 5, 8, 16, 20, 64, 80])
    heads = r.choice([n for n in (1, 2, 3, 4, 8) if n * head_size <= 160])
    layers, patch = r.randint(1, 4), r.choice([1, 2, 5, 7, 14])
    taps = sorted(r.sample(range(layers), r.randint(1, layers)))
    return {"model_type": "mllama_vision_model", "hidden_size": heads * head_size, "hidden_act": "gelu",
            "num_hidden_layers": layers, "num_global_layers": r.choice([0, 1, 2]), "attention_heads": heads,
            "intermediate_size": r.choice([1, 24, 50]), "num_channels": 3, "patch_size": patch,
            "image_size": patch * r.randint(1, 4), "max_num_tiles": make_golden.TILES, "norm_eps": r.choice([1e-5, 1e-6]),
            "vision_output_dim": heads * head_size * (1 + len(taps)), "intermediate_layers_indices": taps}


def draw_config(r: random.Random) -> dict:
    text = draw_text(r)
    if r.random() < 0.35:
        text["tie_word_embeddings"] = r.random() < 0.5
        if r.random() < 0.3:
            text["pad_token_id"] = None
        if r.random() < 0.4:  # heads need not fill the width
            text["head_dim"] = r.choice([2, 4, 16, 24, 64])
            text["hidden_size"] = text["num_attention_heads"] * r.choice([3, 5, 8, 24])
        return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": False,
                "mlp_bias": False} | text
    crosses = r.sample(range(text["num_hidden_layers"]), r.randint(1, text["num_hidden_layers"]))
    return {"architectures": ["MllamaForConditionalGeneration"], "model_type": "mllama",
            "image_token_index": text["vocab_size"] + r.randrange(8),
            "text_config": {"model_type": "mllama_text_model", "cross_attention_layers": sorted(crosses)} | text,
            "vision_config": draw_vision(r)}


def draw_samples(r: random.Random, count: int, length: int, config: dict) -> tuple[list[str], list | None]:
    """Letters (see make_golden.VISION_CASES) and images of each sample, padded on one side or not at all."""
    is_vision = config["model_type"] == "mllama"
    may_pad = is_vision or config["pad_token_id"] is not None
    side = r.choice(["left", "right", "none"]) if may_pad else "none"
    most_images = r.choice([0, 1, 2, 3]) if is_vision else 0
    samples, images = [], []
    for _ in range(count):
        real = length if side == "none" else r.randint(1, length)
        letters = ["b"] + [r.choice("tttttq" + "p" * may_pad) for _ in range(real - 1)]
        for place in r.sample(range(real), min(real, r.randint(0, most_images))):
            letters[place] = "i"
        images.append([r.choice(make_golden.ASPECTS) for letter in letters if letter == "i"])
        padding = "." * (length - real)
        samples.append(padding + "".join(letters) if side == "left" else "".join(letters) + padding)
    return samples, images if any(images) else None


def draw_case(r: random.Random, config: dict) -> tuple[dict, list[str]]:
    """A case of make_golden, and options of run_case.py."""
    is_vision = config["model_type"] == "mllama"
    micro_batches = r.choice([1, 1, 2, 3])
    length = r.choice([1, 2, 3, 7, 16, 17, 31, 48, 64, 70])
    samples, images = draw_samples(r, micro_batches * r.randint(1, 3), length, config)
    case = dict(name="case", samples=samples, images=images, micro_batches=micro_batches, masters=True, steps=2, notes="",
                first_label=r.random() < 0.3)
    if is_vision:
        case |= dict(feature_taps=r.choice(["input", "output"]), row_mask=r.choice(["both", "ffn"]))
    elif "." not in "".join(samples) and r.random() < 0.3:
        case |= dict(documents=True, samples=["".join("b" if r.random() < 0.2 else c for c in s) for s in samples])
    # What is frozen must leave something that the loss depends on.
    if r.random() < 0.4 and (images or not is_vision):
        choices = PATTERNS + (VISION_PATTERNS + ["adapter", "adapter-without-rows"] if is_vision else [])
        case["trainable"] = r.choice(choices)
        if config.get("tie_word_embeddings"):
            case["trainable"] = case["trainable"].removesuffix(",*lm_head.weight")
    # PyTorch's decay would take the frozen rows of a table too, and spare parameters that no gradient reaches.
    if r.random() < 0.3 and case.get("trainable") not in ("adapter", "*.extra") and (images or not is_vision):
        case["weight_decay"] = 0.1
    labels = [c not in "iq." + "b" * (not case["first_label"]) for s in samples for c in s[1:]]
    if r.random() < 0.3 and any(labels) and "trainable" not in case:
        case["clip"] = 1e-3
    precision = r.choice(["f32", "f32", "f32", "f64", "bf16"])
    if precision == "bf16" and config.get("text_config", config)["intermediate_size"] == 1:
        precision = "f32"  # one number that all of a tensor is a multiple of
    case["bf16"] = precision == "bf16"
    lower = "reference" if precision == "f64" else r.choice(["fast", "fast", "reference"])
    recompute = r.choice(["none", "none", "selective", "full"])
    return case, [f"--precision={precision}", f"--lower={lower}", f"--compile-option=--recompute={recompute}"]


def run_seed(seed: int, llamac: str, folder: pathlib.Path) -> bool:
    r = random.Random(seed)
    config = draw_config(r)
    case, options = draw_case(r, config)
    text = config.get("text_config", config)
    described = (f"seed {seed}: {config['model_type']} {text['num_hidden_layers']} layers, "
                 f"{text['num_attention_heads']}/{text['num_key_value_heads']} heads, "
                 f"{len(case['samples'])} x {len(case['samples'][0])} tokens, {case['micro_batches']} micro-batches, "
                 f"{case.get('trainable', 'all')}, {' '.join(options)}")
    make_golden.write_model(folder / "model", config)
    make_golden.write_case(folder, "model", config, case)
    command = [sys.executable, str(pathlib.Path(__file__).parent / "run_case.py"), "--llamac", llamac, "--case",
               str(folder / "case"), "--work", str(folder / "work"), f"--bf16-allowance={BF16_ALLOWANCE}", *options]
    try:
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT)
        passed, output = result.returncode == 0, result.stdout
    except subprocess.TimeoutExpired:
        passed, output = False, f"not done after {LIMIT} s\n"
    print(("ok   " if passed else "FAIL ") + described, flush=True)
    if not passed:
        print(output + "samples: " + json.dumps(case["samples"]) + "\nagain: " + " ".join(command), flush=True)
    return passed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llamac", required=True, help="the compiler")
    parser.add_argument("--seeds", required=True, help="FIRST-LAST or one")
    parser.add_argument("--keep", type=pathlib.Path, help="folder to leave every case in; default temporary")
    arguments = parser.parse_args()
    first, _, last = arguments.seeds.partition("-")
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    failed = []
    for seed in range(int(first), int(last or first) + 1):
        with tempfile.TemporaryDirectory() as temporary:
            folder = arguments.keep / str(seed) if arguments.keep else pathlib.Path(temporary)
            if not run_seed(seed, arguments.llamac, folder):
                failed.append(seed)
    print(f"{len(failed)} failed: {failed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
