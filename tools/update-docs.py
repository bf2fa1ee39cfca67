#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Writes the generated pages of docs/: the reference of ops and passes, and one
block in every form. With --check it only compares and fails on a difference, so
that the pages cannot go stale (a test runs it so).

    tools/update-docs.py --build build [--check]
"""
import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
LLVM = pathlib.Path("/usr/lib/llvm-22")
DIALECTS = {"llama": "dialects/Llama/IR/LlamaOps.td", "dist": "dialects/Dist/IR/DistOps.td"}
STEPS = ["Train", "Parallelize", "Lower"]
# The model of the forms page: one self-attention layer, small enough to read.
CONFIG = """{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 32,
 "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
 "num_key_value_heads": 1, "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
 "tie_word_embeddings": false, "hidden_act": "silu", "max_position_embeddings": 64}
"""
FORMS = [
    ("import", "Imported: the model graph, sizes of a batch unknown", ["self_layer"]),
    ("train", "Train: static shapes, types, backward by slices",
     ["self_layer.backward_input", "self_layer.backward_weight", "step"]),
    ("parallelize", "Parallelize: the actions of each rank", ["dist.program"]),
    ("lower", "Lower: addresses, kernels, library calls", ["dist.graph", "self_layer.backward_weight"]),
]
LONGEST = 60  # lines shown of one function


def run(*command):
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"update-docs: {' '.join(map(str, command))} failed:\n{result.stderr}")
    return result.stdout


def tablegen(td, *flags):
    return run(LLVM / "bin/mlir-tblgen", *flags, "-I", ROOT, "-I", ROOT / "include", "-I",
               LLVM / "include", ROOT / td)


def extract(ir, name):
    """The op that defines `name` (a symbol, or an op's name), by its indentation."""
    lines = ir.splitlines()
    symbol = re.compile(rf"^\s*\S*func.*@\"?{re.escape(name)}\"?\(|^\s*{re.escape(name)} @step\b")
    for start, line in enumerate(lines):
        if symbol.search(line):
            indent = len(line) - len(line.lstrip())
            end = next(i for i in range(start + 1, len(lines))
                       if lines[i].startswith(" " * indent + "}"))
            found = [text[indent:] for text in lines[start:end + 1]]
            if len(found) > LONGEST:
                found[LONGEST - 1:-1] = [f"  // ... {len(found) - LONGEST} more lines"]
            return "\n".join(found)
    sys.exit(f"update-docs: no '{name}' in the IR")


def forms(build):
    page = ["# One block in every form", "",
            "Made by `tools/update-docs.py` from a model of one layer; a test compares it with",
            "what the tools print. Long functions are cut.", "", "```json", CONFIG.strip(), "```"]
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder) / "config.json"
        config.write_text(CONFIG)
        for form, title, names in FORMS:
            llamac = build / "bin/llamac"
            if form == "import":
                command = ["import", config, "-o", "-"]
            else:
                command = ["compile", config, "--text-length=8", "--precision=f32",
                           "--cpu=x86-64-v3", f"--compile-to={form}", "-o", "-"]
            shown = " ".join("config.json" if c is config else str(c) for c in command)
            ir = run(llamac, *command).replace(folder + "/", "")
            page += ["", f"## {title}", "", f"`llamac {shown}`"]
            for name in names:
                page += ["", "```mlir", extract(ir, name), "```"]
    return "\n".join(page) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()

    pages = {}
    for dialect, td in DIALECTS.items():
        pages[f"reference/{dialect}.md"] = tablegen(td, "-gen-dialect-doc", f"-dialect={dialect}")
    for step in STEPS:
        td = f"include/llamac/{step}/Passes.td"
        pages[f"reference/passes-{step.lower()}.md"] = (
            f"# Passes of {step}\n\n" + tablegen(td, "-gen-pass-doc"))
    pages["one-block-in-every-form.md"] = forms(arguments.build)

    stale = []
    for name, text in pages.items():
        path = ROOT / "docs" / name
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if not arguments.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if arguments.check and stale:
        sys.exit("update-docs: stale: " + ", ".join(stale) + "; run tools/update-docs.py")
    print(f"update-docs: {len(pages)} pages, {len(stale)} " + ("stale" if arguments.check else "written"))


if __name__ == "__main__":
    main()
