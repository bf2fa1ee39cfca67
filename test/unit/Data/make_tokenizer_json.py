#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Writes tokenizer_small.json, tokenizer_trained.json and tokenizer_json_golden.json.

tokenizer_small.json is tokenizer_small.model in the form of Llama 3's tokenizer.json;
tokenizer_trained.json is learnt by the `tokenizers` package: one merge for each token, no
ignore_merges, an added token that is not special. The ids are those of that package.
Needs: pip install tokenizers. Made with tokenizers 0.23.3.
"""
import base64, json, os
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
           r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def byte_characters():
    """What a byte is written as: itself where it can be seen, else a character from U+0100 on."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in seen]
    return {b: chr(b) for b in seen} | {b: chr(256 + i) for i, b in enumerate(hidden)}


CHARACTERS = byte_characters()
write = lambda token: "".join(CHARACTERS[b] for b in token)


def dress(tokenizer):
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()


def small():
    with open(os.path.join(HERE, "tokenizer_small.model"), "rb") as f:
        ranks = {base64.b64decode(line.split()[0]): int(line.split()[1]) for line in f if line.strip()}
    merges = []
    for token, rank in ranks.items():  # every way to make a token, as transformers converts
        ways = [(token[:i], token[i:]) for i in range(1, len(token))]
        ways = [way for way in ways if way[0] in ranks and way[1] in ranks]
        merges += [(rank, ranks[a], ranks[b], write(a), write(b)) for a, b in ways]
    tokenizer = Tokenizer(models.BPE({write(t): r for t, r in ranks.items()}, [m[3:] for m in sorted(merges)],
                                     ignore_merges=True))
    dress(tokenizer)
    n = len(ranks)
    names = ["begin_of_text", "end_of_text", "reserved_special_token_0", "reserved_special_token_1",
             "finetune_right_pad_id", "step_id", "start_header_id", "end_header_id", "eom_id", "eot_id", "python_tag"]
    names += [f"reserved_special_token_{i}" for i in range(2, 247)] + ["image"]
    tokenizer.add_special_tokens([AddedToken(f"<|{name}|>", special=True, normalized=False) for name in names])
    assert tokenizer.token_to_id("<|image|>") == n + 256
    return tokenizer


def trained(texts):
    tokenizer = Tokenizer(models.BPE())
    dress(tokenizer)
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=list(CHARACTERS.values()), special_tokens=[], show_progress=False))
    tokenizer.add_special_tokens([AddedToken(f"<|{name}|>", special=True, normalized=False)
                                  for name in ("begin_of_text", "end_of_text", "image")])
    tokenizer.add_tokens([AddedToken("camel", normalized=False), AddedToken("camelCase", normalized=False)])
    return tokenizer


def main():
    with open(os.path.join(HERE, "tokenizer_golden.json")) as f:
        texts = [case["text"] for case in json.load(f)["cases"]]
    golden = {}
    for name, tokenizer in ("small", small()), ("trained", trained(texts)):
        tokenizer.save(os.path.join(HERE, f"tokenizer_{name}.json"), pretty=False)
        tokenizer.encode_special_tokens = True  # those in the text stay text
        golden[name] = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    with open(os.path.join(HERE, "tokenizer_json_golden.json"), "w") as f:
        json.dump(golden, f, separators=(",", ":"))
        f.write("\n")


main()
