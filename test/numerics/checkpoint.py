#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What train writes is a HuggingFace folder.

    checkpoint.py --llamac build/bin/llamac [--transformers]

Trains a vision and a text model for two steps. Without --transformers, names of files, keys, shapes and fields of the
checkpoints are compared with those that transformers has; needs nothing but Python. With it, the folders are loaded by
from_pretrained (model, tokenizer and processor) and their logits compared with those of the executable; needs torch
and transformers in the Python that LLAMAC_ORACLE names, or in this one.

Exit status: 0 equal, 1 not equal or a command failed, 77 no transformers (the test is skipped).
"""

import argparse
import json
import os
import pathlib
import random
import struct
import subprocess
import sys
import tarfile
import tempfile
import zlib

HERE = pathlib.Path(__file__).resolve().parent
TOKENIZER = HERE.parent / "unit/Data/tokenizer_small.json"
BASE, BATCH, LENGTH = 756, 2, 24
SKIPPED = 77
TOLERANCE = {"f32": 1e-4, "bf16": 2e-2}  # of the norm of the logits

TOKENS = {"vocab_size": BASE + 256, "bos_token_id": BASE, "eos_token_id": BASE + 1, "pad_token_id": BASE + 4}
TOKENIZER_CONFIG = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|begin_of_text|>",
                    "eos_token": "<|end_of_text|>", "pad_token": "<|finetune_right_pad_id|>"}


def fail(message: str) -> None:
    print(f"checkpoint: error: {message}", file=sys.stderr)
    sys.exit(1)


def run(*command: object) -> str:
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if result.returncode != 0:
        fail(f"{' '.join(map(str, command))}: status {result.returncode}: {result.stderr}")
    return result.stdout


def png(side: int, shade: int) -> bytes:
    rows = b"".join(b"\0" + bytes((x * 7 + shade) % 256 for x in range(3 * side)) for y in range(side))
    chunk = lambda name, data: struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def read_header(path: pathlib.Path) -> dict:
    data = path.read_bytes()
    header = json.loads(data[8:8 + int.from_bytes(data[:8], "little")])
    header.pop("__metadata__", None)
    return header


def cases() -> list[dict]:
    golden = HERE / "golden"
    vision = json.loads((golden / "small/config.json").read_text())
    vision["text_config"] |= TOKENS
    # What this version computes; the type is another one than that of the weights.
    vision |= {"image_token_index": BASE + 256, "transformers_version": "5.23.0", "torch_dtype": "bfloat16"}
    del vision["architectures"]
    text = json.loads((golden / "text/config.json").read_text()) | TOKENS | {"max_position_embeddings": 4096}
    return [{"name": "vision", "config": vision, "golden": golden / "small", "precision": "f32", "shards": "5"},
            {"name": "shards", "config": vision, "golden": golden / "small", "precision": "f32", "shards": "1e-4"},
            {"name": "text", "config": text, "golden": golden / "text", "precision": "f32", "shards": "5"},
            {"name": "bf16", "config": text, "golden": golden / "text", "precision": "bf16", "shards": "5"}]


def make_data(folder: pathlib.Path, side: int) -> None:
    folder.mkdir()
    (folder / "tokenizer.json").write_bytes(TOKENIZER.read_bytes())
    (folder / "tokenizer_config.json").write_text(json.dumps(TOKENIZER_CONFIG))
    (folder / "processor_config.json").write_text(json.dumps(
        {"processor_class": "MllamaProcessor", "image_processor": {
            "image_processor_type": "MllamaImageProcessor", "size": {"height": side, "width": side},
            "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "max_image_tiles": 4, "resample": 2,
            "do_resize": True, "do_rescale": True, "do_normalize": True, "do_pad": True, "do_convert_rgb": True}}))
    with tarfile.open(folder / "0.tar", "w") as tar:
        for i in range(4):
            for field, content in ("png", png(side + 3 * i, 40 * i)), ("txt", f"flag {i}".encode()):
                file = folder / "file"
                file.write_bytes(content)
                tar.add(file, f"{i:03}.{field}")
                file.unlink()


def train(llamac: str, case: dict, work: pathlib.Path) -> pathlib.Path:
    """The folder of the run; the executable is `model` beside it."""
    folder = work / case["name"]
    folder.mkdir()
    vision = "vision_config" in case["config"]
    make_data(folder / "data", case["config"]["vision_config"]["image_size"] if vision else 14)
    (folder / "config.json").write_text(json.dumps(case["config"]))
    run(llamac, "compile", folder / "config.json", f"--batch={BATCH}", f"--text-length={LENGTH}",
        f"--precision={case['precision']}", "-o", folder / "model")
    run(folder / "model", "train", f"--data={folder / 'data'}", "--steps=2", "--learning-rate=0.01", "--gate-init=0.5",
        f"--checkpoint={folder / 'run'}", f"--shard-size={case['shards']}")
    return folder / "run"


def check(case: dict, checkpoint: pathlib.Path) -> None:
    vision = "vision_config" in case["config"]
    expected = {"config.json", "generation_config.json", "optimizer.safetensors", "state.json", "checksums.json",
                "tokenizer.json", "tokenizer_config.json"} | ({"processor_config.json"} if vision else set())
    names = {path.name for path in checkpoint.iterdir()}
    weights = sorted(name for name in names if name.startswith("model"))
    if names - set(weights) != expected:
        fail(f"{case['name']}: expected the files {sorted(expected)}, got {sorted(names)}")
    tensors = {}
    if case["shards"] == "5":
        if weights != ["model.safetensors"]:
            fail(f"{case['name']}: expected model.safetensors, got {weights}")
        tensors = read_header(checkpoint / weights[0])
    else:
        index = json.loads((checkpoint / "model.safetensors.index.json").read_text())
        shards = [f"model-{i + 1:05}-of-{len(weights) - 1:05}.safetensors" for i in range(len(weights) - 1)]
        if len(shards) < 2 or weights != shards + ["model.safetensors.index.json"]:
            fail(f"{case['name']}: expected several shards and their index, got {weights}")
        for shard in shards:
            header = read_header(checkpoint / shard)
            if any(index["weight_map"][key] != shard for key in header):
                fail(f"{case['name']}: weight_map does not say what lies in {shard}")
            tensors |= header
        if set(index["weight_map"]) != set(tensors):
            fail(f"{case['name']}: weight_map has other keys than the shards")

    # What transformers itself wrote for the same model with another vocabulary.
    golden = json.loads((case["golden"] / "config.json").read_text())
    before = golden.get("text_config", golden)["vocab_size"]
    shapes = {}
    for key, entry in read_header(case["golden"] / "model.safetensors").items():
        shapes[key] = entry["shape"]
        if key.endswith(("embed_tokens.weight", "lm_head.weight")):
            shapes[key][0] += TOKENS["vocab_size"] - before
    if {key: entry["shape"] for key, entry in tensors.items()} != shapes:
        fail(f"{case['name']}: expected the keys and shapes of {case['golden']}, got {sorted(tensors)[:5]}, ...")
    dtype = {"f32": "F32", "bf16": "BF16"}[case["precision"]]
    if any(entry["dtype"] != dtype for entry in tensors.values()):
        fail(f"{case['name']}: expected all weights in {dtype}")

    config = json.loads((checkpoint / "config.json").read_text())
    name = {"f32": "float32", "bf16": "bfloat16"}[case["precision"]]
    want = case["config"] | {"architectures": ["MllamaForConditionalGeneration" if vision else "LlamaForCausalLM"],
                             ("torch_dtype" if "torch_dtype" in case["config"] else "dtype"): name}
    if config != want:
        fail(f"{case['name']}: config.json: expected {want}, got {config}")
    generation = json.loads((checkpoint / "generation_config.json").read_text())
    if generation != {"bos_token_id": BASE, "eos_token_id": [BASE + 1]}:
        fail(f"{case['name']}: generation_config.json: got {generation}")
    print(f"{case['name']}: {len(names)} files, {len(tensors)} tensors")


# ---- with transformers ----

def oracle_python() -> str | None:
    python = os.environ.get("LLAMAC_ORACLE", sys.executable)
    try:
        found = subprocess.run([python, "-c", "import torch, transformers, PIL, safetensors"], capture_output=True)
    except OSError:
        return None
    return python if found.returncode == 0 else None


def compare(folder: pathlib.Path, precision: str) -> None:
    """In the oracle's Python: logits of transformers and of the executable on one batch."""
    import torch
    from PIL import Image
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

    checkpoint = folder / "run/step-00000002"
    texts = ["<|begin_of_text|>flag 1", "<|begin_of_text|>it's the other flag"]
    vision = "vision_config" in json.loads((folder / "config.json").read_text())
    options = {"padding": "max_length", "max_length": LENGTH, "return_tensors": "pt", "add_special_tokens": False}
    if vision:
        model, info = AutoModelForImageTextToText.from_pretrained(checkpoint, output_loading_info=True)
        processor = AutoProcessor.from_pretrained(checkpoint)
        side = processor.image_processor.size["height"]
        draw = random.Random(1)
        images = [[Image.frombytes("RGB", (side, high), draw.randbytes(3 * side * high))] for high in (side, side + 5)]
        texts = [text.replace("<|begin_of_text|>", "<|begin_of_text|><|image|>") for text in texts]
        batch = dict(processor(images=images, text=texts, **options))
    else:
        model, info = AutoModelForCausalLM.from_pretrained(checkpoint, output_loading_info=True)
        batch = dict(AutoTokenizer.from_pretrained(checkpoint)(texts, **options))
        batch.pop("token_type_ids", None)
    wrong = {name: keys for name, keys in info.items() if keys}
    if wrong:
        fail(f"{folder.name}: from_pretrained: {wrong}")
    kind = {"f32": torch.float32, "bf16": torch.bfloat16}[precision]
    if model.dtype != kind:
        fail(f"{folder.name}: from_pretrained: expected {kind}, got {model.dtype}")
    model.eval()
    with torch.no_grad():
        want = model(**batch).logits.float()
    batch["labels"] = batch["input_ids"].clone()
    batch["labels"][batch["attention_mask"] == 0] = -100
    batch["labels"][batch["labels"] >= TOKENS["vocab_size"]] = -100
    batch = {key: value.contiguous() for key, value in batch.items()}
    save_file(batch, folder / "batch.safetensors")
    run(folder / "model", "step", f"--weights={folder / 'run'}", f"--batch={folder / 'batch.safetensors'}",
        f"--logits={folder / 'logits.safetensors'}")
    got = load_file(folder / "logits.safetensors")["logits"].float()
    real = batch["attention_mask"] == 1
    error = ((got - want)[real].norm() / want[real].norm()).item()
    print(f"{folder.name}: logits {tuple(got.shape)}, error {error:.1e}")
    if not error <= TOLERANCE[precision]:
        fail(f"{folder.name}: logits: expected an error of at most {TOLERANCE[precision]}, got {error}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--llamac")
    parser.add_argument("--transformers", action="store_true")
    parser.add_argument("--compare", nargs=2, metavar=("FOLDER", "PRECISION"), help="internal")
    arguments = parser.parse_args()
    if arguments.compare:
        return compare(pathlib.Path(arguments.compare[0]), arguments.compare[1])
    python = oracle_python() if arguments.transformers else None
    if arguments.transformers and not python:
        print("skipped: no torch and transformers in LLAMAC_ORACLE, nor in this Python")
        sys.exit(SKIPPED)
    with tempfile.TemporaryDirectory() as work:
        for case in cases():
            folder = train(arguments.llamac, case, pathlib.Path(work))
            check(case, folder / "step-00000002")
            if python:
                print(run(python, __file__, "--compare", folder.parent, case["precision"]), end="")


if __name__ == "__main__":
    main()
