#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Draws edits of lowered programs; what `llamac check` accepts must train as the program that was not edited.

    mutants.py --llamac build/bin/llamac --mutants 60                 60 edits of each of ten programs
    mutants.py --llamac build/bin/llamac --seed 17 --mutants 60       other edits, other weights, another batch
    mutants.py --llamac build/bin/llamac --programs tied,issue --mutants 20 --keep DIR
    mutants.py --llamac build/bin/llamac --target=cuda --software-gpu=build/lib/software-gpu --gpus=8 --programs issue --waits 20

The programs are those of PROGRAMS: small models on grids of ranks, each with other options. Each is compiled as far as the
lowered text. An edit changes one line of it: any but those that are the code of blocks (the LLVM dialect). First the kind of
line is drawn, so that rare ones come as often as calls; then the line; then what becomes of it: a number, a symbol, a string, a
word or a type is replaced by another that the text has in lines of that kind, or is near it; two elements of a list change
places; an element or an attribute goes; the line goes, stands there twice, or changes places with another.

`llamac check` refuses most. What it accepts is compiled (`--compile-from=lower`) and makes two steps in its precision: losses,
gradient norms, gradients, masters and logits must be those of the unedited program at 1e-10 (same bits are counted, too).
An executable that says that its input does not fit it (exit status 2) is a refusal; one that fails otherwise, or hangs, is missed.

`--waits N`: N edits more, each takes one awaited event from one entry of `step`. With `--target=cuda` the executables run on the software
GPU, which reports work in two streams on the same bytes that nothing orders: a wait that the check lets go must be one that it does
not miss. There with the limits of a simulator on time.

Exit status: 0 none missed, 1 some were, 2 wrong use. Needs nothing but Python.
"""

import argparse
import collections
import dataclasses
import difflib
import json
import math
import os
import pathlib
import random
import re
import shutil
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import grids  # noqa: E402
from grids import COMPILE_LIMIT, Draw, Failure, draw_batch, draw_weights, execute, expect_success  # noqa: E402
from batch import write_safetensors  # noqa: E402
from run_case import fail, read_safetensors  # noqa: E402
from target import add_target_options, target_environment, target_options  # noqa: E402

TOLERANCE = 1e-10
STEP_LIMIT = 40  # seconds
STEPS, RATE = 2, 1e-2
FIELDS = ["loss", "tokens", "gradient_norm"]

TEXT = {"vocab_size": 48, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2, "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "max_position_embeddings": 512, "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
VISION = {"hidden_size": 8, "hidden_act": "gelu", "num_hidden_layers": 2, "num_global_layers": 1, "attention_heads": 2,
          "intermediate_size": 24, "patch_size": 2, "image_size": 4, "max_num_tiles": 4, "norm_eps": 1e-5,
          "vision_output_dim": 16, "intermediate_layers_indices": [0]}


def text_config(**changes) -> dict:
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama"} | TEXT | changes


def vision_config(**changes) -> dict:
    return {"architectures": ["MllamaForConditionalGeneration"], "model_type": "mllama", "image_token_index": 48,
            "text_config": {"model_type": "mllama_text_model", "cross_attention_layers": [1, 3]} | TEXT | changes,
            "vision_config": VISION}


def program(config: dict, micro_batches: int, options: str, batch: int = 1, model_options: str = "", **grid: int) -> Draw:
    return Draw(config, {axis: grid.get(axis, 1) for axis in grids.AXES}, batch, micro_batches, 8,
                1 if "vision_config" in config else 0, model_options.split(), options.split())


PROGRAMS = {
    "issue": program(vision_config(), 2, "", tp=2, pp=2, dp=2),
    "shards": program(vision_config(), 2, "--fsdp=parameters --encoder-shard=images", pp=2, dp=2),
    "tied": program(text_config(tie_word_embeddings=True), 3, "", tp=2, pp=2, dp=2),
    "bubble": program(text_config(), 4, "--fsdp=gradients --schedule=zero-bubble", pp=2, dp=2),
    "cp": program(vision_config(), 2, "--encoder-shard=images --recompute=selective", batch=2, tp=2, cp=2),
    "group": program(vision_config(), 4, "--schedule=interleaved --virtual-stages=2 --encoder-shard=images --encoder-group=2",
                     pp=2, tp=2),
    "adapter": program(vision_config(), 2, "--fsdp=optimizer --encoder-shard=tokens --encoder-axes=tp",
                       model_options="--trainable=adapter", tp=2, dp=2),
    "bf16": program(text_config(), 2, "--fsdp=optimizer", pp=2, dp=2),
    "first": program(vision_config(), 2, "--encoder=first-stage --schedule=gpipe --fsdp=parameters", pp=2, dp=2),
    "frozen": program(text_config(), 2, "--fsdp=parameters --recompute=full",
                      model_options="--trainable=*mlp.down_proj.weight,*lm_head.weight", cp=2, dp=2),
}

# ----------------------------------------------------------------------------------------------------------------------
# Edits

TOKEN = re.compile(r'@"[^"]*"|@[\w.$-]+|"[^"]*"|%\w+|\d+\.\d+(?:[eE][-+]?\d+)?|\b\d+\b|[A-Za-z_][\w.]*')
WORDS = [["all_gather", "all_reduce", "reduce_scatter", "broadcast", "slice"], ["f64", "f32", "bf16", "i64"],
         ["send", "receive"], ["maximum", "accumulate"]]
OPENING, CLOSING = "([{<", ")]}>"


def kind_of(line: str) -> str:
    """Of a line that may be edited: its op; empty: it may not."""
    seen = re.match(r"\s*(?:%\d+ = )?((?:dist|llama|shard)\.\w+|func\.func|module|llvm\.func(?=.*llama\.scratch))\b", line)
    return seen[1] if seen else ""


def lists_of(line: str) -> list[list[tuple[int, int]]]:
    """Elements (begin, end) of the bracketed lists of a line with two or more of them."""
    lists, stack, quoted = [], [], False
    for at, char in enumerate(line):
        if char == '"':
            quoted = not quoted
        if quoted:
            continue
        if char in OPENING:
            stack.append((at + 1, []))
        elif char in CLOSING and not (char == ">" and line[at - 1] == "-") and stack:
            begin, commas = stack.pop()
            edges = [begin, *[c + 1 for c in commas], at + 1]
            elements = [(a + (line[a:a + 1] == " "), b - 1) for a, b in zip(edges, edges[1:])]
            if line[begin:at].strip():
                lists.append(elements)
        elif char == "," and stack:
            stack[-1][1].append(at)
    return lists


class Text:
    """A lowered program as lines."""

    def __init__(self, text: str):
        self.lines = text.split("\n")
        self.kinds = collections.defaultdict(list)
        self.tokens = collections.defaultdict(lambda: collections.defaultdict(list))  # kind of line, first character
        for number, line in enumerate(self.lines):
            if kind := kind_of(line):
                self.kinds[kind].append(number)
                for token in TOKEN.findall(line):
                    self.tokens[kind][self.sort(token)].append(token)

    @staticmethod
    def sort(token: str) -> str:
        return "0" if token[0].isdigit() else token[0] if token[0] in '@"%' else "a"

    def near(self, r: random.Random, number: str) -> str:
        if "." in number:
            return repr(float(number) * r.choice([0, 2, 0.5]))
        n = int(number)
        return str(max(0, r.choice([n + 1, n - 1, n + 64, n - 64, 2 * n, n // 2, 0, n + 8])))

    def replace(self, r: random.Random, kind: str, line: str) -> str | None:
        tokens = list(TOKEN.finditer(line))
        seen = r.choice(tokens)
        token, sort = seen[0], self.sort(seen[0])
        if sort == "a":
            group = next((words for words in WORDS if token in words), None)
            if group is None:
                return None
            new = r.choice([word for word in group if word != token])
        elif sort == "0" and r.random() < 0.5:
            new = self.near(r, token)
        else:
            new = r.choice(self.tokens[kind][sort])
        return None if new == token else line[:seen.start()] + new + line[seen.end():]

    def in_list(self, r: random.Random, line: str) -> str | None:
        lists = lists_of(line)
        if not lists:
            return None
        elements = r.choice(lists)
        if r.random() < 0.5 and len(elements) > 1:
            (a, b), (c, d) = sorted(r.sample(elements, 2))
            return line[:a] + line[c:d] + line[b:c] + line[a:b] + line[d:]
        index = r.randrange(len(elements))
        begin, end = elements[index]
        if len(elements) > 1:  # with one comma
            begin, end = (begin, elements[1][0]) if index == 0 else (elements[index - 1][1], end)
        return line[:begin] + line[end:]

    def without_result(self, lines: list[str], at: int) -> None:
        """Takes the result of entry `at` from what waits for it, up to the end of its program."""
        seen = re.match(r"\s*(%\w+) = ", lines[at])
        if not seen:
            return
        for later in range(at + 1, len(lines)):
            if lines[later].startswith("  }"):
                return
            after = re.search(r" after\(([^)]*)\)", lines[later])
            if not after:
                continue
            names = [name for name in after[1].split(", ") if name != seen[1]]
            lines[later] = (lines[later][:after.start()] + (f" after({', '.join(names)})" if names else "") +
                            lines[later][after.end():])

    def without_wait(self, r: random.Random) -> tuple[str, str]:
        """A mutant in which an entry of `step` does not wait for one of its events, and what was done."""
        begins = [n for n, line in enumerate(self.lines) if line.startswith('  dist.program "step"')]
        waits = []
        for begin in begins:
            for at in range(begin, len(self.lines)):
                if self.lines[at].startswith("  }"):
                    break
                if seen := re.search(r" after\(([^)]*)\)", self.lines[at]):
                    waits += [(at, seen, name) for name in seen[1].split(", ")]
        at, seen, name = r.choice(waits)
        names = [one for one in seen[1].split(", ") if one != name]
        lines, line = list(self.lines), self.lines[at]
        lines[at] = line[:seen.start()] + (f" after({', '.join(names)})" if names else "") + line[seen.end():]
        return "\n".join(lines), f"without {name} of {seen[0]}: {line.strip()}"

    def edited(self, r: random.Random) -> tuple[str, str]:
        """A mutant, and what was done."""
        while True:
            kind = r.choice(sorted(self.kinds))
            at = r.choice(self.kinds[kind])
            line, lines = self.lines[at], list(self.lines)
            how = r.random()
            if how < 0.5:
                new = self.replace(r, kind, line)
            elif how < 0.7:
                new = self.in_list(r, line)
            elif line.rstrip().endswith("{"):
                continue  # begins a region
            elif how < 0.82:
                self.without_result(lines, at)
                del lines[at]
                return "\n".join(lines), f"{kind}, dropped: {line.strip()}"
            elif how < 0.87:
                copy = re.sub(r"^(\s*)%\w+ = ", r"\1%copy = ", line)
                lines.insert(at, copy)
                return "\n".join(lines), f"{kind}, twice: {line.strip()}"
            else:
                other = at + r.choice([1, 1, 1, 2, 3, 5])
                if kind_of(line) and other < len(lines) and kind_of(lines[other]) and not any(
                        lines[n].startswith(("  }", "  dist.graph", "  dist.program")) for n in range(at, other + 1)):
                    moved = lines.pop(at)
                    lines.insert(other, moved)
                    name = re.match(r"\s*(%\w+) = ", moved)
                    for between in range(at, other) if name else []:  # they do not wait for it any more
                        after = re.search(r" after\(([^)]*)\)", lines[between])
                        if after:
                            names = [one for one in after[1].split(", ") if one != name[1]]
                            lines[between] = (lines[between][:after.start()] +
                                              (f" after({', '.join(names)})" if names else "") + lines[between][after.end():])
                    return "\n".join(lines), f"{kind}, moved by {other - at}: {line.strip()}"
                continue
            if new and kind == "llvm.func" and re.sub(r"%\w+", "%", new) == re.sub(r"%\w+", "%", line):
                continue  # names that only the body of the block uses
            if new and new != line:
                lines[at] = new
                matcher = difflib.SequenceMatcher(None, line, new, autojunk=False) if len(line) < 3000 else None
                change = "; ".join(f"'{line[max(0, a - 12):b]}' -> '{new[max(0, c - 12):d]}'"
                                   for tag, a, b, c, d in matcher.get_opcodes() if tag != "equal") if matcher else ""
                return "\n".join(lines), f"{kind}, line {at + 1}: {change} in {line.strip()}"


# ----------------------------------------------------------------------------------------------------------------------
# Runs


@dataclasses.dataclass
class Numbers:
    """What two steps give."""
    lines: list[dict]
    tensors: dict

    def differs(self, want: "Numbers") -> str | None:
        """The first that is not as wanted."""
        for step, (mine, wanted) in enumerate(zip(self.lines, want.lines)):
            for field in FIELDS:
                if not abs(mine[field] - wanted[field]) <= TOLERANCE * abs(wanted[field]):
                    return f"{field} of step {step}: {mine[field]}, not {wanted[field]}"
        if len(self.lines) != len(want.lines) or self.tensors.keys() != want.tensors.keys():
            return "other lines or tensors"
        for key, tensor in want.tensors.items():
            mine = self.tensors[key]
            if mine.shape != tensor.shape:
                return f"{key}: another shape"
            scale = max(tensor.norm(), 1e-3 * math.sqrt(len(tensor.values)))
            if not math.dist(mine.values, tensor.values) <= TOLERANCE * scale:
                return key
        return None


class Refused(Exception):
    pass


def run_steps(executable: pathlib.Path, folder: pathlib.Path, name: str, environment: dict[str, str] | None) -> Numbers:
    files = {kind: folder / f"{name}.{kind}" for kind in ("gradients", "updated", "logits")}
    command = [str(executable), "step", f"--weights={folder / 'weights.safetensors'}", f"--batch={folder / 'batch.safetensors'}",
               f"--steps={STEPS}", f"--learning-rate={RATE}", "--threads=1",
               f"--timeout={10 if environment is None else 120}"]
    command += [f"--{kind}={file}" for kind, file in files.items()]
    result = execute(command, STEP_LIMIT * (1 if environment is None else 10), environment)
    if result.returncode == 2 and "error" in result.stderr:
        raise Refused(result.stderr.splitlines()[0])
    lines = [json.loads(line) for line in expect_success(result).splitlines() if line.startswith("{")]
    lines = [{field: line[field] for field in FIELDS} for line in lines]
    tensors = {f"{kind} {key}": tensor for kind, file in files.items() for key, tensor in read_safetensors(file).items()}
    return Numbers(lines, tensors)


class Program:
    def __init__(self, name: str, arguments: argparse.Namespace, folder: pathlib.Path):
        llamac, seed = arguments.llamac, arguments.seed
        self.name, self.llamac, self.folder, self.draw = name, llamac, folder, PROGRAMS[name]
        self.environment = target_environment(arguments)
        self.refused_by = collections.Counter()
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "config.json"
        config.write_text(json.dumps(self.draw.config))
        r = random.Random(f"{name} {seed}")
        command = self.draw.compile_command(llamac, config, folder / "lowered.mlir", True, "bf16" if name == "bf16" else "f64")
        expect_success(execute(command + ["--compile-to=lower", *target_options(arguments)], COMPILE_LIMIT))
        model = expect_success(execute([llamac, "import", str(config), "-o", "-"], COMPILE_LIMIT))
        write_safetensors(folder / "weights.safetensors", draw_weights(r, model))
        write_safetensors(folder / "batch.safetensors", draw_batch(r, self.draw))
        self.text = Text((folder / "lowered.mlir").read_text())
        if not self.check(folder / "lowered.mlir"):
            raise Failure(f"{name}: the unedited program is refused: {self.message}")
        self.want = self.numbers(folder / "lowered.mlir", "want")

    def check(self, file: pathlib.Path) -> bool:
        result = execute([self.llamac, "check", str(file)], COMPILE_LIMIT)
        if result.returncode not in (0, 1, 2):
            raise Failure(f"exit status {result.returncode} of llamac check\n{result.stderr[-2000:]}")
        if result.returncode:
            self.message = result.stderr.split("\n")[0]
            rule = re.search(r"rule (R\d)", self.message)
            self.refused_by[rule[1] if rule else "text" if result.returncode == 2 else "form"] += 1
        return result.returncode == 0

    def numbers(self, file: pathlib.Path, name: str) -> Numbers:
        executable = self.folder / f"{name}.executable"
        result = execute([self.llamac, "compile", str(file), "--compile-from=lower", "-o", str(executable)], COMPILE_LIMIT)
        if result.returncode in (1, 2):
            raise Refused(result.stderr)
        expect_success(result)
        return run_steps(executable, self.folder, name, self.environment)

    def try_mutant(self, r: random.Random, of_waits: bool) -> tuple[str, str, str]:
        """'refused', 'equal', 'same bits' or 'missed'; what the edit was; what differs."""
        text, what = self.text.without_wait(r) if of_waits else self.text.edited(r)
        file = self.folder / "mutant.mlir"
        file.write_text(text)
        try:
            if not self.check(file):
                return "refused", what, self.message
            got = self.numbers(file, "mutant")
        except Refused as refused:
            return "refused", what, str(refused)
        except Failure as failure:
            return "missed", what, str(failure)[:500]
        if difference := got.differs(self.want):
            return "missed", what, difference
        same = got.lines == self.want.lines and all(
            tensor.values == got.tensors[key].values for key, tensor in self.want.tensors.items())
        return ("same bits" if same else "equal"), what, ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llamac", required=True, help="the compiler")
    parser.add_argument("--mutants", type=int, default=0, help="edits of each program (0)")
    parser.add_argument("--waits", type=int, default=0, help="edits of each program that take a wait from an entry (0)")
    parser.add_argument("--programs", default=",".join(PROGRAMS), help="names of PROGRAMS, with commas between them (all)")
    parser.add_argument("--seed", type=int, default=0, help="of edits, weights and batches (0)")
    parser.add_argument("--first", type=int, default=0, help="number of the first edit (0)")
    parser.add_argument("--verbose", action="store_true", help="print every edit")
    parser.add_argument("--keep", type=pathlib.Path, help="folder to leave programs and missed edits in; default temporary")
    add_target_options(parser)
    arguments = parser.parse_args()
    if arguments.mutants + arguments.waits < 1:
        fail("--mutants, --waits: expected at least one edit")
    os.environ.setdefault("LLAMAC_PTXAS", "none")  # the software GPU reads PTX
    names = arguments.programs.split(",")
    if unknown := [name for name in names if name not in PROGRAMS]:
        fail(f"--programs: expected some of {', '.join(PROGRAMS)}, got {unknown[0]}")
    total, missed = collections.Counter(), []
    for name in names:
        with tempfile.TemporaryDirectory() as temporary:
            tried = Program(name, arguments, (arguments.keep or pathlib.Path(temporary)) / name)
            counts = collections.Counter()
            for number in range(arguments.first, arguments.first + arguments.mutants + arguments.waits):
                of_waits = number >= arguments.first + arguments.mutants
                outcome, what, why = tried.try_mutant(random.Random(f"{name} {arguments.seed} {number}"), of_waits)
                counts[outcome] += 1
                if outcome == "missed":
                    missed.append((name, number))
                    if arguments.keep:
                        shutil.copy(tried.folder / "mutant.mlir", tried.folder / f"missed{number}.mlir")
                if outcome == "missed" or arguments.verbose:
                    print(f"{outcome.upper()} {name} {number}: {what[:600]}\n    {why[:300]}", flush=True)
        total += counts
        by = ", ".join(f"{rule} {count}" for rule, count in sorted(tried.refused_by.items()))
        print(f"{name}: {', '.join(f'{count} {outcome}' for outcome, count in sorted(counts.items()))}; refused by {by}",
              flush=True)
    print(f"{sum(total.values())} edits of {len(names)} programs: {total['refused']} refused, "
          f"{total['equal'] + total['same bits']} accepted with the same numbers ({total['same bits']} with the same bits), "
          f"{len(missed)} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
