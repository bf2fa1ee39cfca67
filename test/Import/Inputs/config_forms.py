#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Forms in which a config.json may be written, and what transformers makes of each.

    config_forms.py check LLAMAC FORMS.json    `llamac import` agrees with the file
    config_forms.py make FORMS.json            writes `transformers` into the file again; needs transformers 5.23

An entry of the file has a `name`, a `model` (`llama`, or `mllama`: then `fields` are those of `text_config`, beside `top`
and `vision` for the file's top level and `vision_config`), and

    transformers   rope's frequencies; or {"fails": the exception's name}
    says           text that a note or the error of llamac must hold; without it there must be no note
    refused        true where llamac refuses what transformers computes

What transformers cannot load, llamac must refuse.
"""
import json
import pathlib
import re
import subprocess
import sys
import tempfile

TEXT = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 4096, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3}
VISION = {"hidden_size": 16, "num_hidden_layers": 2, "num_global_layers": 1, "attention_heads": 2, "intermediate_size": 32,
          "patch_size": 14, "image_size": 28, "vision_output_dim": 32, "intermediate_layers_indices": [0]}


def config_of(form: dict) -> dict:
    if form["model"] == "llama":
        return {"model_type": "llama"} | TEXT | form.get("fields", {})
    return {"model_type": "mllama", "image_token_index": 512,
            "text_config": TEXT | {"cross_attention_layers": [0]} | form.get("fields", {}),
            "vision_config": VISION | form.get("vision", {})} | form.get("top", {})


def check(llamac: str, path: str) -> int:
    wrong = 0
    for form in json.loads(pathlib.Path(path).read_text()):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "config.json"
            file.write_text(json.dumps(config_of(form)))
            done = subprocess.run([llamac, "import", str(file)], capture_output=True, text=True)
        want, faults = form["transformers"], []
        if form.get("refused") or "fails" in want:
            if done.returncode != 2:
                faults.append(f"exit status {done.returncode}, expected 2")
        elif done.returncode:
            faults.append(f"exit status {done.returncode}: {done.stderr}")
        else:
            got = [float(x) for x in re.search(r"array<f64: ([^>]*)>", done.stdout).group(1).split(",")]
            if len(got) != len(want["frequencies"]) or any(
                    abs(a - b) > 1e-6 * abs(b) for a, b in zip(got, want["frequencies"])):
                faults.append(f"frequencies {got}, expected {want['frequencies']}")
        if form.get("says", "") not in done.stderr:
            faults.append(f"expected a message with '{form['says']}', got '{done.stderr}'")
        if "says" not in form and done.stderr:
            faults.append(f"expected no message, got '{done.stderr}'")
        wrong += bool(faults)
        for fault in faults:
            print(f"{form['name']} ({form['model']}): {fault}")
    return int(wrong > 0)


def make(path: str) -> int:
    import transformers
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
    from transformers.models.mllama.modeling_mllama import MllamaRotaryEmbedding
    transformers.utils.logging.set_verbosity_error()
    forms = json.loads(pathlib.Path(path).read_text())
    for form in forms:
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "config.json").write_text(json.dumps(config_of(form)))
            try:
                config = transformers.AutoConfig.from_pretrained(folder)
                rope = LlamaRotaryEmbedding if form["model"] == "llama" else MllamaRotaryEmbedding
                form["transformers"] = {"frequencies": rope(config.get_text_config()).inv_freq.tolist()}
            except Exception as error:  # whatever it is: the file cannot be used
                form["transformers"] = {"fails": type(error).__name__}
    lines = ",\n".join(" " + json.dumps(form) for form in forms)
    pathlib.Path(path).write_text("[\n" + lines + "\n]\n")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["check"] and len(sys.argv) == 4:
        sys.exit(check(*sys.argv[2:]))
    if sys.argv[1:2] == ["make"] and len(sys.argv) == 3:
        sys.exit(make(sys.argv[2]))
    sys.exit(__doc__)
