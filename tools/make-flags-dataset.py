#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Makes the demonstration data set: flags of countries and their names.

Needs the Debian packages iso-flags-png-320x240 (pictures, public domain) and
iso-codes (names), nothing else; the same options give the same bytes. Writes

  DIR/flags-000.tar, ...          WebDataset shards, XX.png and XX.txt per country
  DIR/tokenizer.model             256 bytes and merges learnt from the captions
  DIR/preprocessor_config.json    how images become tiles
  DIR/held-out.txt                countries that are in no shard: code, tab, caption
  DIR/held-out/flags-000.tar      their samples

Of flags that look alike (Chad and Romania, Indonesia and Monaco) one is taken.
The model's vocabulary is the base tokens plus 256 special ones; the last line
printed says how many that is.
"""
import argparse, base64, collections, hashlib, io, json, os, re, struct, sys, tarfile, zlib

FLAGS = "/usr/share/iso-flags-png-320x240"
NAMES = "/usr/share/iso-codes/json/iso_3166-1.json"
PARTS = "/usr/share/iso-codes/json/iso_3166-2.json"
# Two flags look alike if the mean difference of a colour channel, of 0 to 255, over
# a grid of patches is below this: Chad and Romania (12.8) are alike, Mali and Senegal
# (13.2) are not.
ALIKE = 13.0
GRID = 12  # patches along each side
SPECIAL_TOKENS = 256


def fail(message):
    sys.exit(f"make-flags-dataset: error: {message}")


def read_countries():
    """(code, name) of the entries of ISO 3166-1 that have subdivisions: states, few territories."""
    with open(NAMES, encoding="utf-8") as file:
        entries = json.load(file)["3166-1"]
    with open(PARTS, encoding="utf-8") as file:
        divided = {entry["code"].partition("-")[0] for entry in json.load(file)["3166-2"]}
    for entry in entries:
        if entry["alpha_2"] not in divided:
            continue
        name = entry.get("common_name", entry["name"])
        turned = re.fullmatch(r"(.*), (.* of(?: the)?)", name)  # "Congo, Republic of the"
        yield entry["alpha_2"].lower(), f"{turned[2]} {turned[1]}" if turned else name


def read_pixels(path, data):
    """Rows of RGBA bytes of a PNG of 8 bits and four channels, as the package has."""
    width, height, *kind = struct.unpack(">IIBBBBB", data[16:29])
    if kind != [8, 6, 0, 0, 0]:
        fail(f"{path}: expected an RGBA PNG of 8 bits without interlace")
    packed, at = b"", 8
    while at < len(data):
        length, name = struct.unpack(">I4s", data[at:at + 8])
        if name == b"IDAT":
            packed += data[at + 8:at + 8 + length]
        at += 12 + length
    raw = zlib.decompress(packed)
    stride, rows = width * 4, []
    above = bytes(stride)
    for y in range(height):
        start = y * (stride + 1)
        how, row = raw[start], bytearray(raw[start + 1:start + 1 + stride])
        if how == 1:
            for i in range(4, stride):
                row[i] = (row[i] + row[i - 4]) & 255
        elif how == 2:
            row = bytearray((a + b) & 255 for a, b in zip(row, above))
        elif how == 3:
            for i in range(stride):
                row[i] = (row[i] + ((row[i - 4] if i >= 4 else 0) + above[i]) // 2) & 255
        elif how == 4:
            for i in range(stride):
                a, b, c = (row[i - 4], above[i], above[i - 4]) if i >= 4 else (0, above[i], 0)
                pa, pb, pc = abs(b - c), abs(a - c), abs(a + b - 2 * c)
                row[i] = (row[i] + (a if pa <= pb and pa <= pc else b if pb <= pc else c)) & 255
        rows.append(row)
        above = row
    return rows


def fingerprint(rows):
    """Mean colours, over white, of a grid of patches."""
    height, width = len(rows), len(rows[0]) // 4
    means = []
    for v in range(GRID):
        patch = rows[v * height // GRID:(v + 1) * height // GRID]
        for u in range(GRID):
            left, right = u * width // GRID * 4, (u + 1) * width // GRID * 4
            pixels = [row[x:x + 4] for row in patch for x in range(left, right, 4)]
            for channel in range(3):
                total = sum(255 + (p[channel] - 255) * p[3] / 255 for p in pixels)
                means.append(total / len(pixels))
    return means


def choose(count, seed):
    """`count` countries whose flags differ: (code, caption, bytes of the PNG)."""
    countries = sorted(read_countries(),
                       key=lambda c: hashlib.sha256(f"{seed} {c[0]}".encode()).digest())
    chosen, prints = [], {}
    for code, name in countries:
        if len(chosen) == count:
            break
        path = f"{FLAGS}/{code}.png"
        if not os.path.exists(path):
            continue
        with open(path, "rb") as file:
            data = file.read()
        mine = fingerprint(read_pixels(path, data))
        near = [other for other, print_ in prints.items()
                if sum(abs(a - b) for a, b in zip(mine, print_)) / len(mine) < ALIKE]
        if near:
            print(f"left out {code} ({name}): looks like {near[0]}")
            continue
        prints[code] = mine
        chosen.append((code, f"The flag of {name}.", data))
    if len(chosen) < count:
        fail(f"expected at most {len(chosen)} countries with distinct flags, got {count}")
    return chosen


def write_shards(folder, samples, size):
    """WebDataset shards of `size` samples each, without times or owners."""
    os.makedirs(folder, exist_ok=True)
    for shard, start in enumerate(range(0, len(samples), size)):
        path = os.path.join(folder, f"flags-{shard:03d}.tar")
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for code, caption, data in samples[start:start + size]:
                for name, content in (f"{code}.png", data), (f"{code}.txt", caption.encode()):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


def learn_tokens(captions, merges):
    """The 256 bytes, then the pairs that are most frequent when their turn comes."""
    # Words as Llama 3's split pattern cuts them, as far as captions need it.
    pieces = re.compile(r"[^\r\n\w]?[^\W\d_]+|\d{1,3}| ?[^\s\w]+|\s+")
    words = collections.Counter(word.encode() for text in captions for word in pieces.findall(text))
    tokens = [bytes([byte]) for byte in range(256)]
    words = [([bytes([byte]) for byte in word], count) for word, count in sorted(words.items())]
    while len(tokens) < 256 + merges:
        pairs = collections.Counter()
        for parts, count in words:
            for pair in zip(parts, parts[1:]):
                pairs[pair] += count
        pairs = {pair: count for pair, count in pairs.items() if pair[0] + pair[1] not in tokens}
        if not pairs:
            fail(f"--merges: expected at most {len(tokens) - 256} for these captions, got {merges}")
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        tokens.append(best[0] + best[1])
        for parts, _ in words:
            i = 0
            while i + 1 < len(parts):
                if (parts[i], parts[i + 1]) == best:
                    parts[i:i + 2] = [tokens[-1]]
                i += 1
    return tokens


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="DIR", help="where to write; made if it is not there")
    parser.add_argument("--count", type=int, default=60, help="countries to train on (60)")
    parser.add_argument("--held-out", type=int, default=10, help="countries kept out of the shards (10)")
    parser.add_argument("--tile-size", type=int, default=56, help="pixels of a tile's side, a multiple of 14 (56)")
    parser.add_argument("--merges", type=int, default=256, help="tokens beside the 256 bytes (256)")
    parser.add_argument("--samples-per-shard", type=int, default=32, help="(32)")
    parser.add_argument("--seed", type=int, default=1, help="which countries, in which order (1)")
    options = parser.parse_args()
    for name, least in ("count", 1), ("held_out", 0), ("tile_size", 14), ("merges", 0), ("samples_per_shard", 1):
        if getattr(options, name) < least:
            fail(f"--{name.replace('_', '-')}: expected at least {least}, got {getattr(options, name)}")
    if options.tile_size % 14:
        fail(f"--tile-size: expected a multiple of 14, the patch size, got {options.tile_size}")
    for path, package in (FLAGS, "iso-flags-png-320x240"), (NAMES, "iso-codes"), (PARTS, "iso-codes"):
        if not os.path.exists(path):
            fail(f"{path}: not there; install the Debian package {package}")

    chosen = choose(options.count + options.held_out, options.seed)
    train, held_out = chosen[:options.count], chosen[options.count:]
    tokens = learn_tokens([caption for _, caption, _ in train], options.merges)
    os.makedirs(options.folder, exist_ok=True)
    for folder in options.folder, os.path.join(options.folder, "held-out"):
        if os.path.isdir(folder):  # no shard of an earlier run may stay
            for name in os.listdir(folder):
                if re.fullmatch(r"flags-\d+\.tar", name):
                    os.remove(os.path.join(folder, name))
    write_shards(options.folder, train, options.samples_per_shard)
    write_shards(os.path.join(options.folder, "held-out"), held_out, options.samples_per_shard)

    def put(name, text):
        with open(os.path.join(options.folder, name), "w", encoding="utf-8", newline="\n") as file:
            file.write(text)

    put("held-out.txt", "".join(f"{code}\t{caption}\n" for code, caption, _ in held_out))
    put("tokenizer.model", "".join(f"{base64.b64encode(token).decode()} {rank}\n"
                                   for rank, token in enumerate(tokens)))
    config = {
        "image_processor_type": "MllamaImageProcessor",
        "do_convert_rgb": True, "do_resize": True, "do_rescale": True, "do_normalize": True, "do_pad": True,
        "size": {"height": options.tile_size, "width": options.tile_size},
        "resample": 2, "rescale_factor": 0.00392156862745098,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "max_image_tiles": 4,
    }
    put("preprocessor_config.json", json.dumps(config, indent=2) + "\n")
    print(f"{options.folder}: {len(train)} samples, {len(held_out)} held out, {len(tokens)} base tokens, "
          f"vocabulary {len(tokens) + SPECIAL_TOKENS}")


if __name__ == "__main__":
    main()
