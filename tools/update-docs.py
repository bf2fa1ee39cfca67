#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Writes the generated pages of docs/: the reference of ops and passes, and one
block in every form. Then it checks what is written by hand: the IR before each
pass is the first case of the pass's test, every link leads somewhere, and
docs/README.md lists every page. With --check it writes nothing and fails on a page
that is stale; a test runs it so.

    tools/update-docs.py --build build [--check]
"""
import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
LLVM = pathlib.Path("/usr/lib/llvm-22")
DIALECTS = {"llama": "dialects/Llama/IR/LlamaOps.td", "dist": "dialects/Dist/IR/DistOps.td",
            "routine": "dialects/Routine/IR/RoutineOps.td"}
STEPS = ["Train", "Cost", "Shard", "Pipeline", "Lower", "Check"]
# The model of the forms page: one self-attention layer, small enough to read.
CONFIG = """{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 32,
 "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
 "num_key_value_heads": 1, "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
 "tie_word_embeddings": false, "hidden_act": "silu", "max_position_embeddings": 64}
"""
# Form, what it is, and which ops of it are shown: how the line ends that opens them.
FORMS = [
    ("import", "Import: the model graph", """
The layer as the model's authors would write it. Samples and tokens (`?`) are not known
yet, every type is f32.""", ["@self_layer("]),
    ("train", "Train: the training graph", """
Shapes and types are fixed, and the layer has backward blocks. This one forms the gradients
of the parameters from what the forward block kept and what `@self_layer.backward_input`
made, and adds them to those of earlier micro-batches. Below it the step, which applies all
blocks.""", ["@self_layer.backward_weight(", "@step("]),
    ("parallelize", "Parallelize: the program of each rank", """
The actions of a step, in the order in which they are launched.""", ['dist.program "step" {']),
    ("lower", "Lower: addresses and machine code", """
The step is now calls on addresses: an arena and a byte in it. Below it one of the loops of
the backward block, which sums the gradient of a norm's weight: rows outside, columns inside.
The products of that block have become calls of `llrt_gemm` (not shown).""",
     ["dist.graph @step.forward {", "@self_layer.backward_weight.loop1("]),
]
LONGEST = 60  # lines shown of one op


def fail(message):
    sys.exit(f"update-docs: {message}")


def run(*command):
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if result.returncode:
        fail(f"{' '.join(map(str, command))} failed:\n{result.stderr}")
    return result.stdout


def tablegen(td, *flags):
    text = run(LLVM / "bin/mlir-tblgen", *flags, "-I", ROOT, "-I", ROOT / "include", "-I",
               LLVM / "include", ROOT / td)
    return text.replace("[TOC]\n\n", "")


def extract(ir, name):
    """The first op whose opening line has `name` in it, up to its closing brace."""
    lines = ir.splitlines()
    for start, line in enumerate(lines):
        if name in line and line.endswith("{"):
            indent = len(line) - len(line.lstrip())
            end = next(i for i in range(start + 1, len(lines))
                       if lines[i].startswith(" " * indent + "}"))
            found = [text[indent:] for text in lines[start:end + 1]]
            if len(found) > LONGEST:
                found[LONGEST - 1:-1] = [f"  // ... {len(found) - LONGEST} more lines"]
            return "\n".join(found)
    fail(f"no '{name}' in the IR")


def forms(build):
    page = ["# One block in every form", "",
            "A self-attention layer, from the model graph to its loops. Made by",
            "`tools/update-docs.py` from this `config.json`; a test compares the page with what the",
            "tools print.", "", "```json", CONFIG.strip(), "```"]
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder) / "config.json"
        config.write_text(CONFIG)
        for form, title, prose, names in FORMS:
            options = [] if form == "import" else [
                "--text-length=8", "--precision=f32", "--cpu=x86-64-v3", f"--compile-to={form}"]
            command = ["import" if form == "import" else "compile", config, *options, "-o", "-"]
            ir = run(build / "bin/llamac", *command)
            shown = " ".join("config.json" if c is config else c for c in command)
            page += ["", f"## {title}", *prose.splitlines(), "", f"`llamac {shown}`"]
            for name in names:
                page += ["", "```mlir", extract(ir, name), "```"]
    return "\n".join(page) + "\n"


def lines_of(text):
    """Lines that are no comment, without indentation."""
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("//")]


def check_examples(step):
    """The IR before each pass is in the first case of the pass's test."""
    text = (ROOT / f"include/llamac/{step}/Passes.td").read_text()
    for part in re.split(r"^def ", text, flags=re.M)[1:]:
        name = re.search(r'Pass<"\w+?-([\w-]+)"', part).group(1)
        before = re.search(r"Before\b[^\n]*:\n\s*```mlir\n(.*?)```.*?After\b", part, flags=re.S)
        if not before:
            fail(f"pass {name}: expected IR before and after in its description")
        test = next((ROOT / f"test/{step}").rglob(f"{name}.mlir"), None)
        if not test:
            fail(f"pass {name}: expected test/{step}/{name}.mlir, perhaps in a folder below")
        case = lines_of(test.read_text().split("// -----")[0])
        wanted = lines_of(before.group(1))
        if not any(case[i:i + len(wanted)] == wanted for i in range(len(case))):
            fail(f"pass {name}: expected the IR before it in the first case of {test}")


def check_links(pages):
    """Every relative link leads to a file; docs/README.md lists every page."""
    listed = set()
    for page in pages:
        text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text(), flags=re.M | re.S)
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            if "://" in link:
                continue
            target = (page.parent / link).resolve()
            if not target.exists():
                fail(f"{page.relative_to(ROOT)}: link to '{link}', which does not exist")
            if page == DOCS / "README.md":
                listed.add(target)
    for page in pages:
        if page.is_relative_to(DOCS) and page.name != "README.md" and page not in listed:
            fail(f"docs/README.md does not list {page.relative_to(DOCS)}")


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
        path = DOCS / name
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if not arguments.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if arguments.check and stale:
        fail("stale: " + ", ".join(stale) + "; run tools/update-docs.py")
    print(f"update-docs: {len(pages)} pages, {len(stale)} written")

    for step in STEPS:
        check_examples(step)
    check_links(sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")]))


if __name__ == "__main__":
    main()
