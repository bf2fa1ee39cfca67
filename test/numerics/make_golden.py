#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Makes the golden files: what PyTorch and transformers compute for small models, to compare llamac with.

    python3 make_golden.py                                     the committed set, into golden/
    python3 make_golden.py --config tiny --out /tmp/golden     the same vision cases for a larger model

OUT/<config>/ holds `config.json` and `model.safetensors`, an ordinary HuggingFace checkpoint with the key names of the
released models; it is loaded back with `from_pretrained`, so it is one. OUT/<case>/ holds

    case.json             which configuration, options and shapes; see `write_case`
    batch.safetensors     what the executable's `step --batch` reads
    expected.safetensors  `loss` [1] and `losses` [steps], `logits` [B,S,V] and `gradient.<key>` of the first step,
                          `gradient_norm` [1] (before clipping), `master.<key>` after all steps (not in every case)
    bf16_error.json       for two cases: how far PyTorch's own bf16 run is from its f32 run, the Euclidean norm of the
                          difference per gradient, of `logits` and of `loss`

A parameter without `gradient.<key>` got no gradient from autograd: its gradient is zero. All weights are bf16 numbers
stored as f32, so that the same f32 result is the reference for the bf16 run.

Two things in which implementations differ (OUT/oracle.json says what the installed transformers does by itself):
  feature taps   `output` is the state after an encoder block, `input` the state that enters it
  row mask       text rows that no image covers: `ffn` zeroes the feed-forward branch of a cross-attention layer,
                 `both` zeroes the attention branch as well
Both are set by hooks on the unchanged modules, see `set_feature_taps` and `set_row_mask`.
"""

# Shapes: B samples, S text tokens, M images per sample, T = 4 tile slots, R tile side in pixels, V vocabulary.

import argparse
import fnmatch
import json
import math
import pathlib
import zlib

import numpy
import torch
import transformers
from safetensors.torch import save_file
from transformers.models.mllama.processing_mllama import (
    convert_sparse_cross_attention_mask_to_dense,
    get_cross_attention_token_mask,
)

IGNORED = -100  # label of a token that is not to be predicted
TILES = 4
ASPECTS = [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (3, 1), (4, 1)]  # (tiles high, tiles wide); ids from 1

# The smallest model with every feature on. Frequencies of its rope: one kept, one blended.
SMALL = {
    "architectures": ["MllamaForConditionalGeneration"], "model_type": "mllama", "image_token_index": 96,
    "text_config": {
        "model_type": "mllama_text_model", "vocab_size": 96, "hidden_size": 32, "intermediate_size": 40,
        "num_hidden_layers": 5, "num_attention_heads": 8, "num_key_value_heads": 2, "hidden_act": "silu",
        "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 1024},
        "max_position_embeddings": 4096, "cross_attention_layers": [1, 3], "tie_word_embeddings": False,
        "bos_token_id": 90, "eos_token_id": 91, "pad_token_id": 92},
    "vision_config": {
        "model_type": "mllama_vision_model", "hidden_size": 16, "hidden_act": "gelu", "num_hidden_layers": 4,
        "num_global_layers": 2, "attention_heads": 2, "intermediate_size": 32, "num_channels": 3, "patch_size": 7,
        "image_size": 14, "max_num_tiles": 4, "norm_eps": 1e-05, "vision_output_dim": 64,
        "intermediate_layers_indices": [0, 1, 3]}}

# Larger, with the released patch size.
TINY = {
    "architectures": ["MllamaForConditionalGeneration"], "model_type": "mllama", "image_token_index": 512,
    "text_config": {
        "model_type": "mllama_text_model", "vocab_size": 512, "hidden_size": 128, "intermediate_size": 384,
        "num_hidden_layers": 10, "num_attention_heads": 8, "num_key_value_heads": 2, "hidden_act": "silu",
        "rms_norm_eps": 1e-05, "rope_theta": 500000.0,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 64},
        "max_position_embeddings": 512, "cross_attention_layers": [3, 8], "tie_word_embeddings": False,
        "bos_token_id": 500, "eos_token_id": 501, "pad_token_id": 504},
    "vision_config": {
        "model_type": "mllama_vision_model", "hidden_size": 64, "hidden_act": "gelu", "num_hidden_layers": 4,
        "num_global_layers": 2, "attention_heads": 4, "intermediate_size": 256, "num_channels": 3, "patch_size": 14,
        "image_size": 42, "max_num_tiles": 4, "norm_eps": 1e-05, "vision_output_dim": 256,
        "intermediate_layers_indices": [1, 2, 3]}}

# A text model. Frequencies of its rope: one kept, one blended, two divided by the factor.
TEXT = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 96, "hidden_size": 32,
    "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "hidden_act": "silu", "rms_norm_eps": 1e-05, "rope_theta": 1000.0,
    "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                     "original_max_position_embeddings": 128},
    "max_position_embeddings": 512, "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": False,
    "bos_token_id": 90, "eos_token_id": 91, "pad_token_id": 92}

CONFIGS = {"small": SMALL, "tiny": TINY, "text": TEXT}

# A sample is a word, one letter per token: b begin of text, e end of text, i image marker, t text, q text of the
# prompt (not to be predicted), p the padding token used as a real one, . padding. A label is the token's own id,
# except on i, q and padding, and on b when `first_label` is false.
VISION_CASES = [
    dict(name="marker_first", samples=["ibttttttte", "ibttttte.."], images=[[(1, 1)], [(2, 2)]], masters=True,
         notes="the image covers every row"),
    dict(name="text_before_marker", samples=["btttitttttte", "bqqittttte.."], images=[[(1, 3)], [(1, 1)]], masters=True,
         notes="rows before the marker see no image"),
    dict(name="text_before_marker_ffn", samples=["btttitttttte", "bqqittttte.."], images=[[(1, 3)], [(1, 1)]],
         row_mask="ffn", notes="as text_before_marker, other row mask"),
    dict(name="text_before_marker_output", samples=["btttitttttte", "bqqittttte.."], images=[[(1, 3)], [(1, 1)]],
         feature_taps="output", notes="as text_before_marker, other feature taps"),
    dict(name="text_before_marker_output_ffn", samples=["btttitttttte", "bqqittttte.."], images=[[(1, 3)], [(1, 1)]],
         feature_taps="output", row_mask="ffn", notes="as text_before_marker; transformers as installed"),
    dict(name="adjacent_markers", samples=["bttiittttte", "biitttttttt"], images=[[(1, 2), (1, 1)], [(2, 1), (3, 1)]],
         notes="both images cover the same rows"),
    dict(name="separated_markers", samples=["bqittttqittttte", "ibtittttttte..."],
         images=[[(1, 4), (1, 1)], [(1, 1), (2, 2)]], masters=True, notes="an image covers the rows up to the next one"),
    dict(name="fewer_images", samples=["bitttitttte", "btittttttte", "bttttttttt."], images=[[(1, 2), (2, 1)], [(4, 1)], []],
         notes="two, one and no image: missing images have aspect id 0, one tile in the mask, zero pixels"),
    dict(name="aspects", samples=["bittttttttte", "ibttttttttte", "btitttttttte", "bqqittttttte"],
         images=[[(1, 1)], [(1, 3)], [(2, 2)], [(4, 1)]], masters=True, bf16=True, notes="four aspect ratios"),
    dict(name="no_images", samples=["bttttttttte", "btttttte..."], images=None,
         notes="the four image tensors are absent; cross-attention layers change nothing and get no gradient"),
    dict(name="right_padding", samples=["bittte.....", "bttittttte."], images=[[(1, 2)], [(2, 2)]],
         notes="padding rows lie behind the marker, so the image covers them"),
    dict(name="left_padding", samples=[".....bittte", ".bttittttte"], images=[[(1, 2)], [(2, 2)]],
         notes="positions count from the first padding token; no label depends on a row that sees no key"),
    dict(name="left_padding_first_label", samples=["...bitttttt", ".btttttitte"], images=[[(1, 2)], [(2, 2)]],
         first_label=True, masters=True,
         notes="the begin token is predicted from a padding row, which sees no key and weighs all S keys alike; "
               "the gradient passes through those weights; the padding token's embedding row gets none"),
    dict(name="one_token", samples=["i", "b"], images=[[(1, 2)], []],
         notes="nothing to predict: loss and gradients are zero"),
    dict(name="micro_batches", samples=["bitttttttte", "bqqqite....", "ibttttte...", "btttitttte."],
         images=[[(1, 1)], [(1, 3)], [(2, 2)], [(4, 1)]], micro_batches=2, masters=True,
         notes="micro-batches with unlike numbers of valid tokens"),
    dict(name="micro_batch_without_images", samples=["bitttttttte", "btittte....", "bttttttttte", "btttte....."],
         images=[[(2, 1)], [(1, 2)], [], []], micro_batches=2, notes="the second micro-batch has no image"),
    dict(name="adapter", samples=["bttitttttte", "ibqqtttte.."], images=[[(1, 3)], [(2, 2)]], trainable="adapter",
         masters=True, notes="the text model is frozen but for the 8 extra embedding rows: gradient rows below V are 0"),
    dict(name="clip_decay", samples=["btitttttte", "ibtttttte."], images=[[(1, 2)], [(3, 1)]], masters=True, clip=0.5,
         weight_decay=0.1, notes="clipping at a norm and decay of every tensor"),
]
TEXT_CASES = [
    dict(name="text", samples=["bttttttttttttttttttttttttttttttte", "bqqqqqqtttttttttpttttttttttttttte"], masters=True,
         bf16=True, notes="one input token is the padding token: its embedding row gets no gradient"),
    dict(name="text_right_padding", samples=["btttttttttte", "bttttte.....", "bqqte......."], masters=True, notes=""),
    dict(name="text_left_padding", samples=["btttttttttte", ".....bttttte", "........btte"], first_label=True,
         notes="see left_padding_first_label"),
    dict(name="text_documents", samples=["btttebttttebtttttte", "bttttttebte........"], masters=True, documents=True,
         notes="packed documents: positions restart, no attention across; padding is a document of its own"),
    dict(name="text_micro_batches", samples=["btttttttte", "bqqte.....", "btte......", "btttttte.."], micro_batches=4,
         notes="micro-batches with unlike numbers of valid tokens"),
]


def key_of(name: str, config: dict) -> str:
    """The key of a parameter in released checkpoints; in memory transformers nests Mllama's parts in a `model`."""
    if config["model_type"] == "llama":
        return name
    if name == "lm_head.weight":
        return "language_model.lm_head.weight"
    return name.replace("model.language_model.", "language_model.model.", 1).removeprefix("model.")


def draw_weight(key: str, shape: torch.Size) -> torch.Tensor:
    """A weight that hides nothing: no gate is 0, no norm weight 1, no bias 0. Depends on key and shape only."""
    generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
    draw = torch.randn(shape, generator=generator)
    leaf = key.split(".")[-1]
    if "gate" in leaf and tuple(shape) == (1,):
        value = 0.5 * torch.sign(draw) + 0.2 * draw.clamp(-2, 2)
    elif leaf == "bias":
        value = 0.2 * draw
    elif "norm" in key and leaf == "weight":
        value = 1 + 0.2 * draw
    elif "embed" in key and "patch_embedding" not in key:
        value = 0.5 * draw
    else:
        value = draw / math.sqrt(math.prod(shape[1:]))
    return value.bfloat16().float()


def write_model(folder: pathlib.Path, config: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    model_class = getattr(transformers, config["architectures"][0])
    model = model_class(model_class.config_class(**config))
    weights = {}
    for name, parameter in model.named_parameters():
        key = key_of(name, config)
        weights[key] = draw_weight(key, parameter.shape)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def load_model(folder: pathlib.Path, config: dict, dtype: torch.dtype) -> torch.nn.Module:
    model, info = getattr(transformers, config["architectures"][0]).from_pretrained(
        folder, attn_implementation="eager", dtype=dtype, output_loading_info=True)
    assert not any(info.values()), f"{folder}: not an ordinary checkpoint: {info}"
    return model.train()


def native_taps(model: torch.nn.Module) -> str:
    """What transformers taps by itself: runs the encoder's first part once and looks at the first recorded state."""
    encoder = model.model.vision_model.transformer
    x = torch.ones(1, TILES * 8, model.config.vision_config.hidden_size, dtype=model.dtype)
    return "input" if torch.equal(encoder(x).hidden_states[0], x) else "output"


def set_feature_taps(model: torch.nn.Module, taps: str) -> None:
    """Makes entry k of the encoder's recorded states the one before (`input`) or after (`output`) block k."""
    if taps == native_taps(model):
        return
    assert taps == "input", "this transformers taps the input of a block; make `output` from it"

    def shift(module, arguments, output):
        output.hidden_states = (arguments[0],) + tuple(output.hidden_states[:-1])
        return output

    model.model.vision_model.transformer.register_forward_hook(shift)


def set_row_mask(model: torch.nn.Module, row_mask: str) -> None:
    """`both`: multiplies the output of cross-attention by the row mask. transformers does `ffn` by itself."""
    if row_mask == "ffn":
        return
    for layer in model.model.language_model.layers:
        if not hasattr(layer, "cross_attn"):
            continue

        def remember(module, arguments, keywords):
            mask = keywords["full_text_row_masked_out_mask"]  # [B,1,S,1]
            module.cross_attn.row_mask = mask[:, 0]

        def multiply(module, arguments, output):
            return (output[0] * module.row_mask,) + tuple(output[1:])

        layer.register_forward_pre_hook(remember, with_kwargs=True)
        layer.cross_attn.register_forward_hook(multiply)


def native_row_mask(folder: pathlib.Path, config: dict) -> str:
    """What transformers masks by itself: does a row that no image covers change with the pixels?"""
    model = load_model(folder, config, torch.float32)
    batch = make_batch(config, dict(name="probe", samples=["bttit"], images=[[(1, 1)]]))
    inputs = model_inputs(batch)
    first = model(**inputs).logits[0, 0]
    inputs["pixel_values"] = inputs["pixel_values"] + 1
    return "both" if torch.equal(first, model(**inputs).logits[0, 0]) else "ffn"


def make_batch(config: dict, case: dict) -> dict[str, torch.Tensor]:
    text = config.get("text_config", config)
    samples, images = case["samples"], case.get("images")
    generator = torch.Generator().manual_seed(zlib.crc32("".join(samples).encode()))
    ordinary = lambda: int(torch.randint(0, text["bos_token_id"], (1,), generator=generator))
    special = {"b": text["bos_token_id"], "e": text["eos_token_id"], "i": config.get("image_token_index"),
               "p": text["pad_token_id"], ".": text["pad_token_id"]}
    no_label = "iq." if case.get("first_label") or not any(s[0] == "." for s in samples) else "biq."
    ids = [[special[c] if c in special else ordinary() for c in sample] for sample in samples]
    batch = {
        "input_ids": torch.tensor(ids),
        "labels": torch.tensor([[IGNORED if c in no_label else i for c, i in zip(s, row)] for s, row in zip(samples, ids)]),
        "attention_mask": torch.tensor([[int(c != ".") for c in sample] for sample in samples])}
    if case.get("documents"):
        batch["document_ids"] = torch.tensor(
            [[sample[:s + 1].count("b") + (c == ".") - 1 for s, c in enumerate(sample)] for sample in samples])
    if images is not None:
        batch |= make_images(config, case, generator, ids)
    return batch


def make_images(config: dict, case: dict, generator: torch.Generator, ids: list[list[int]]) -> dict[str, torch.Tensor]:
    """What the image processor makes of images with the given (tiles high, tiles wide), with random pixels."""
    images, side = case["images"], config["vision_config"]["image_size"]
    slots = max(len(row) for row in images)
    pixels = torch.zeros(len(images), slots, TILES, 3, side, side)
    tile_mask = torch.zeros(len(images), slots, TILES, dtype=torch.int64)
    tile_mask[:, :, 0] = 1  # of missing images too
    aspect_ids = torch.zeros(len(images), slots, dtype=torch.int64)  # 0: no image
    for b, row in enumerate(images):
        for m, (high, wide) in enumerate(row):
            tile_mask[b, m, :high * wide] = 1
            aspect_ids[b, m] = 1 + ASPECTS.index((high, wide))
            pixels[b, m, :high * wide] = torch.randn(high * wide, 3, side, side, generator=generator)
    cross_mask = convert_sparse_cross_attention_mask_to_dense(
        [get_cross_attention_token_mask(row, config["image_token_index"]) for row in ids],
        num_tiles=[[high * wide for high, wide in row] for row in images], max_num_tiles=TILES, length=len(ids[0]))
    return {"pixel_values": pixels, "aspect_ratio_ids": aspect_ids, "aspect_ratio_mask": tile_mask,
            "cross_attention_mask": torch.from_numpy(cross_mask)}


def model_inputs(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The keyword arguments of the model's forward for a batch; document ids become a mask and positions."""
    inputs = {name: tensor for name, tensor in batch.items() if name not in ("labels", "document_ids")}
    inputs["use_cache"] = False
    documents = batch.get("document_ids")
    if documents is not None:
        length = documents.shape[1]
        before = torch.ones(length, length, dtype=torch.bool).tril()
        same = documents[:, :, None] == documents[:, None, :]
        sees = same & before & batch["attention_mask"][:, None, :].bool()  # [B,S,S]
        inputs["attention_mask"] = torch.where(sees, 0.0, torch.finfo(torch.float32).min)[:, None]
        inputs["position_ids"] = (same & before).sum(-1) - 1
    return inputs


def trainable_rows(key: str, config: dict, trainable: str) -> slice | None:
    """Which rows of a parameter train: `slice(None)` is all of them, None is none."""
    if trainable == "all":
        return slice(None)
    extra = slice(config.get("text_config", config)["vocab_size"], None)
    if trainable not in ("adapter", "adapter-without-rows"):  # patterns of keys
        matches = lambda name: any(fnmatch.fnmatchcase(name, pattern) for pattern in trainable.split(","))
        return slice(None) if matches(key) else extra if matches(key + ".extra") and "embed_tokens" in key else None
    if key == "language_model.model.embed_tokens.weight":
        return extra if trainable == "adapter" else None
    crosses = [f"language_model.model.layers.{i}." for i in config["text_config"]["cross_attention_layers"]]
    return slice(None) if key.startswith(("vision_model.", "multi_modal_projector.", *crosses)) else None


def run(folder: pathlib.Path, config: dict, case: dict, batch: dict[str, torch.Tensor], dtype: torch.dtype,
        steps: int) -> dict[str, torch.Tensor]:
    """Trains `steps` steps on one batch with the optimizer options of the case and returns what `expected` holds."""
    model = load_model(folder, config, dtype)
    if case.get("images") is not None:
        set_feature_taps(model, case["feature_taps"])
        set_row_mask(model, case["row_mask"])
    parameters = {}
    for name, parameter in model.named_parameters():
        key = key_of(name, config)
        rows = trainable_rows(key, config, case["trainable"])
        parameter.requires_grad_(rows is not None)
        if rows is not None:
            parameters[key] = (parameter, rows)
    optimizer = torch.optim.AdamW([p for p, _ in parameters.values()], lr=case["learning_rate"], betas=(0.9, 0.95),
                                  eps=1e-8, weight_decay=case["weight_decay"])
    inputs, vocabulary = model_inputs(batch), config.get("text_config", config)["vocab_size"]
    result, losses = {}, []
    for step in range(steps):
        optimizer.zero_grad(set_to_none=True)
        logits = model(**inputs).logits
        # Sum over valid tokens divided by their number; 0 if there is none.
        loss = model.loss_function(logits, batch["labels"], vocabulary, num_items_in_batch=max(case["tokens"], 1))
        loss.backward()
        losses.append(loss.detach().reshape(1))
        for parameter, rows in parameters.values():
            if parameter.grad is not None and rows.start is not None:
                parameter.grad[:rows.start] = 0
        if step == 0:
            gradients = {key: p.grad.detach().clone() for key, (p, _) in parameters.items() if p.grad is not None}
            result |= {"gradient." + key: gradient for key, gradient in gradients.items()}
            result["logits"] = logits.detach().contiguous()
            result["gradient_norm"] = torch.linalg.vector_norm(
                torch.stack([torch.linalg.vector_norm(g.float()) for g in gradients.values()])).reshape(1)
        if case["clip"]:
            torch.nn.utils.clip_grad_norm_([p for p, _ in parameters.values()], case["clip"])
        optimizer.step()
    result |= {"master." + key: p.detach().clone() for key, (p, _) in parameters.items()}
    result |= {"loss": losses[0], "losses": torch.cat(losses)}
    return result


def write_case(out: pathlib.Path, name: str, config: dict, case: dict) -> None:
    case = {"feature_taps": "input", "row_mask": "both", "trainable": "all", "micro_batches": 1, "steps": 3,
            "learning_rate": 1e-3, "weight_decay": 0.0, "clip": 0.0} | case
    batch = make_batch(config, case)
    case["tokens"] = int((batch["labels"][:, 1:] != IGNORED).sum())
    expected = run(out / name, config, case, batch, torch.float32, case["steps"])
    assert case["clip"] == 0 or expected["gradient_norm"] > case["clip"], "clipping would change nothing"
    if not case.get("masters"):
        expected = {key: t for key, t in expected.items() if not key.startswith("master.")}
    folder = out / case["name"]
    folder.mkdir(parents=True, exist_ok=True)
    save_file(batch, folder / "batch.safetensors")
    save_file(expected, folder / "expected.safetensors")
    described = {
        "config": name,  # the folder beside this one that holds config.json and model.safetensors
        "feature_taps": case["feature_taps"], "row_mask": case["row_mask"], "trainable": case["trainable"],
        "batch": len(case["samples"]),  # samples in all: micro_batches times as many as one micro-batch has
        "text_length": len(case["samples"][0]),
        "images": batch["pixel_values"].shape[1] if "pixel_values" in batch else int(config["model_type"] == "mllama"),
        "micro_batches": case["micro_batches"], "tokens": case["tokens"],  # valid ones, in the whole batch
        "steps": case["steps"], "learning_rate": case["learning_rate"], "weight_decay": case["weight_decay"],
        "clip": case["clip"],  # largest norm of the gradient, 0: none
        "samples": case["samples"],  # one letter per token, see make_golden.py
        "notes": case["notes"]}
    if config["model_type"] == "llama":
        del described["feature_taps"], described["row_mask"]
    (folder / "case.json").write_text(json.dumps(described, indent=1) + "\n")
    if case.get("bf16"):
        rounded = run(out / name, config, case, batch, torch.bfloat16, 1)
        errors = {key: float(torch.linalg.vector_norm(rounded[key].float() - expected[key])) for key in expected
                  if key in ("loss", "logits") or key.startswith("gradient.")}
        (folder / "bf16_error.json").write_text(json.dumps(errors, indent=1) + "\n")
    print(f"{case['name']}: loss {float(expected['loss']):.6f} over {case['tokens']} tokens, "
          f"gradient norm {float(expected['gradient_norm']):.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", choices=["committed", "tiny"], default="committed", help="committed is small and text")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "golden")
    parser.add_argument("--case", action="append", help="make only this one; may be repeated")
    arguments = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    vision = "small" if arguments.config == "committed" else "tiny"
    jobs = [(vision, VISION_CASES)] + ([("text", TEXT_CASES)] if arguments.config == "committed" else [])
    for name, cases in jobs:
        write_model(arguments.out / name, CONFIGS[name])
        for case in cases:
            if not arguments.case or case["name"] in arguments.case:
                write_case(arguments.out, name, CONFIGS[name], case)
    folder = arguments.out / vision
    (arguments.out / "oracle.json").write_text(json.dumps({
        "torch": torch.__version__, "transformers": transformers.__version__, "numpy": numpy.__version__,
        "native_feature_taps": native_taps(load_model(folder, CONFIGS[vision], torch.float32)),
        "native_row_mask": native_row_mask(folder, CONFIGS[vision])}, indent=1) + "\n")


if __name__ == "__main__":
    main()
