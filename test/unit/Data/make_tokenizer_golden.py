#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Writes tokenizer_small.model and tokenizer_golden.json beside this script.

The vocabulary: 256 bytes in a scrambled order and merges learnt from the test
texts. The ids are those of the `tiktoken` package with Llama 3's split pattern.
Needs: pip install tiktoken regex. Made with tiktoken 0.14.0, regex 2026.11.15.
"""
import base64, collections, json, os, random
import regex, tiktoken

HERE = os.path.dirname(os.path.abspath(__file__))
PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
           r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
MERGES = 500

texts = [
    "", " ", "a", "\n", "Hello, world!", "  leading and trailing  ", "\t\ttabs\tx",
    "it's I'm you're we've they'll he'd don't", "IT'S I'M YOU'RE 'S'T'RE'Ve'lL'D",
    "it'\u017f long s", "'", "''s", "' s", "x'sy'tz", "1", "12", "123", "1234567890",
    "3.14159, 1,000,000; 0x1F", "\u0661\u0662\u0663\u0664 \u0967\u0968 \u2167 \u00bd\u00b2",
    "\u00e9 e\u0301 \u0301", "stra\u00dfe STRASSE \ufb01", "\u4f60\u597d\uff0c\u4e16\u754c\u3002",
    "\u3053\u3093\u306b\u3061\u306f\u3000\u4e16\u754c", "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22 \ud55c\uad6d\uc5b4", "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 ok \U0001f1f3\U0001f1f4",
    "a\u00a0b\u00a0\u00a0c", "a\u180eb \u180e\u180e c", "a\u0085b\u0085\u0085 c", "a\u2028b\u2029c",
    "\u2003em\u2003\u2003space \u205f\u3000", "zero\u200bwidth\ufeffbom", "a\u001cb\u001d\u001e\u001fc",
    "line\r\nline\r\n\r\n  indented\n\n\n   \n x", "   \n   ", "\r\r\n\n\r", "a \n b  \n  c   ",
    "!!!\n\n???\r\n", " !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", "__init__ snake_case camelCase",
    "def f(x):\n    return x ** 2  # square\n", "http://example.org/a?b=c&d=%20", "\x00\x01\x7f",
    "\ufffd", "\U0010ffff\ue000", "\U00020000\U0001d54f\U00016fe0", "\u01c5 \u02b0 \u00aa \u1d43", "\u24b6 \u2460 \u3007 \u3021",
    "<|begin_of_text|>", "<|image|>a flag<|end_of_text|>", "<|not_special|> <| image|> <|image|",
    "a" * 300, "ab" * 200, " " * 100 + "x", " " * 100, "\n" * 50 + " " * 50 + "\n",
    "aaaaabaaaaab" * 20, "the " * 100, "-" * 200, "x" + "\u0301" * 60, "the flag of Norway and the flag of the Republic of Moldova",
]
draw = random.Random(7)
alphabet = "abcABCzZ019'sStT \n\r\t\u00a0\u3000\u180e\u0085.,!_-\u00e9\u0301\u00df\u4e16\u0661\u00b2\U0001f600\u200d<|>"
texts += ["".join(draw.choice(alphabet) for _ in range(draw.randint(1, 60))) for _ in range(200)]

def learn(texts):
    words = collections.Counter(piece.encode() for text in texts for piece in regex.findall(PATTERN, text))
    single = [bytes([b]) for b in range(256)]
    draw.shuffle(single)
    tokens = list(single)
    words = [([bytes([b]) for b in word], count) for word, count in words.items()]
    while len(tokens) < 256 + MERGES:
        pairs = collections.Counter()
        for parts, count in words:
            for pair in zip(parts, parts[1:]):
                pairs[pair] += count
        pairs = {pair: n for pair, n in pairs.items() if pair[0] + pair[1] not in set(tokens)}
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        tokens.append(best[0] + best[1])
        for parts, _ in words:
            i = 0
            while i + 1 < len(parts):
                if (parts[i], parts[i + 1]) == best:
                    parts[i:i + 2] = [best[0] + best[1]]
                i += 1
    return tokens

tokens = learn(texts)
special = {"<|begin_of_text|>": len(tokens), "<|end_of_text|>": len(tokens) + 1, "<|image|>": len(tokens) + 256}
encoding = tiktoken.Encoding("small", pat_str=PATTERN, mergeable_ranks={t: i for i, t in enumerate(tokens)},
                             special_tokens=special)
with open(os.path.join(HERE, "tokenizer_small.model"), "wb") as f:
    for rank, token in enumerate(tokens):
        f.write(base64.b64encode(token) + b" %d\n" % rank)
cases = [{"text": t, "ids": encoding.encode(t, disallowed_special=()),
          "special_ids": encoding.encode(t, allowed_special="all")} for t in texts]
# Bytes that are not UTF-8: as hexadecimal, with what Python's errors="replace" makes of them.
broken = [b"\xff", b"a\x80b", b"\xc3", b"\xc3(", b"\xe2\x82", b"\xe2\x82x", b"\xf0\x9f\x98", b"\xf0\x9f\x98\xf0\x9f\x98\x80",
          b"\xed\xa0\x80", b"\xc0\x80", b"\xe0\x80\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"ok\xf1\x80\x80\xe1\x80"]
broken += [bytes(draw.choice([0x41, 0x80, 0xbf, 0xc2, 0xe0, 0xa0, 0xed, 0x9f, 0xf0, 0x90, 0xf4, 0x8f, 0xff]) for _ in range(12))
           for _ in range(100)]
replaced = [{"bytes": b.hex(), "text": b.decode(errors="replace")} for b in broken]
with open(os.path.join(HERE, "tokenizer_golden.json"), "w") as f:
    json.dump({"cases": cases, "broken": replaced}, f, separators=(",", ":"))
    f.write("\n")
