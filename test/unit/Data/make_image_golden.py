#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Writes images_golden.safetensors and images_golden.json beside this script.

The inputs are drawn here; what they become is computed by Pillow and by
transformers' MllamaImageProcessorPil. Stored per case: the encoded file, the RGB
image that convert_to_rgb makes of it, and the canvas before normalization, as
bytes (the normalization is undone and must give whole numbers).
Needs: pip install transformers pillow numpy safetensors torch. Made with
transformers 5.23.0, Pillow 13.0.0.
"""
import io, json, os
import numpy as np
from PIL import Image
from safetensors.numpy import save_file
from transformers.image_transforms import convert_to_rgb
from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil

HERE = os.path.dirname(os.path.abspath(__file__))
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
draw = np.random.default_rng(3)

def picture(height, width, channels=3):
    """Smooth colours with edges and some noise, so that every filter tap matters."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [128 + 100 * np.sin(x / (3 + c) + y / (5 - c)) + 60 * ((x // 5 + y // 7) % 2) for c in range(channels)]
    noise = draw.integers(-25, 26, (height, width, channels))
    return np.clip(np.stack(planes, -1) + noise, 0, 255).astype(np.uint8)

def encode(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()

cases = []  # name, tile, file bytes
def add(name, tile, data):
    cases.append((name, tile, data))

# Shapes: one per canvas, up and down, equal size, extreme.
for h, w, tile in [(20, 30, 42), (42, 42, 42), (42, 84, 42), (50, 140, 42), (21, 90, 42), (90, 30, 42), (70, 75, 42),
                   (150, 40, 42), (140, 31, 42), (300, 20, 42), (5, 200, 42), (1, 1, 42), (1, 64, 42), (64, 1, 42), (133, 171, 56),
                   (57, 57, 56), (113, 111, 56), (56, 168, 56), (100, 101, 56), (41, 43, 42), (85, 84, 42), (181, 83, 42)]:
    add(f"png_rgb_{h}x{w}", tile, encode(Image.fromarray(picture(h, w)), "PNG"))
# JPEG: subsampling, gray, progressive, CMYK.
for name, image, options in [
        ("420", Image.fromarray(picture(67, 91)), dict(quality=85)), ("444", Image.fromarray(picture(45, 70)), dict(quality=95, subsampling=0)),
        ("422", Image.fromarray(picture(61, 53)), dict(quality=70, subsampling=1)), ("progressive", Image.fromarray(picture(50, 60)), dict(progressive=True)),
        ("gray", Image.fromarray(picture(50, 60)[..., 0]), {}), ("cmyk", Image.fromarray(picture(40, 50)).convert("CMYK"), {})]:
    add("jpeg_" + name, 42, encode(image, "JPEG", **options))
# PNG colour types.
gray, colour, alpha = picture(37, 53)[..., 0], picture(37, 53), picture(37, 53, 4)
add("png_gray", 42, encode(Image.fromarray(gray), "PNG"))
add("png_gray_1bit", 42, encode(Image.fromarray(gray).convert("1"), "PNG"))
add("png_palette", 42, encode(Image.fromarray(colour).quantize(100), "PNG"))
add("png_palette_2bit", 42, encode(Image.fromarray(colour).quantize(4), "PNG"))
add("png_palette_transparent", 42, encode(Image.fromarray(colour).quantize(16), "PNG", transparency=bytes([0, 77, 255, 128])))
add("png_rgba", 42, encode(Image.fromarray(alpha, "RGBA"), "PNG"))
add("png_gray_alpha", 42, encode(Image.fromarray(alpha[..., :2].copy(), "LA"), "PNG"))
add("png_gray_transparent_colour", 42, encode(Image.fromarray(gray), "PNG", transparency=int(gray[3, 5])))
add("png_rgb_transparent_colour", 42, encode(Image.fromarray(colour), "PNG", transparency=tuple(map(int, colour[3, 5]))))

tensors, index = {}, []
for name, tile, data in cases:
    with Image.open(io.BytesIO(data)) as image:
        rgb = convert_to_rgb(image, return_numpy=True)
        processor = MllamaImageProcessorPil(size={"height": tile, "width": tile}, image_mean=MEAN, image_std=STD)
        out = processor(images=[[image]], return_tensors="np")
        # The same without normalization gives the bytes of the canvas.
        raw = processor(images=[[image]], do_normalize=False, do_rescale=False, return_tensors="np")
    ratio = int(out["aspect_ratio_ids"][0, 0])
    count = int(out["num_tiles"][0][0])
    tiles = raw["pixel_values"][0, 0]
    assert np.array_equal(tiles, np.round(tiles)) and not tiles[count:].any() and not out["pixel_values"][0, 0, count:].any()
    # What the normalization must give, checked here so that the bytes suffice.
    want = ((tiles[:count].astype(np.float64) / 255).astype(np.float32) - np.float32(MEAN)[:, None, None]) / np.float32(STD)[:, None, None]
    assert np.abs(want - out["pixel_values"][0, 0, :count]).max() < 1e-6, name
    tensors[name + ".file"] = np.frombuffer(data, np.uint8)
    if not name.startswith("png_rgb_"):  # those are lossless: their tiles say it all
        tensors[name + ".rgb"] = rgb
    tensors[name + ".tiles"] = tiles[:count].astype(np.uint8)
    index.append(dict(name=name, tile=tile, aspect_ratio_id=ratio, tiles=count,
                      mask=out["aspect_ratio_mask"][0, 0].tolist(), sum=float(out["pixel_values"].astype(np.float64).sum())))
save_file(tensors, os.path.join(HERE, "images_golden.safetensors"))
os.chmod(os.path.join(HERE, "images_golden.safetensors"), 0o644)
with open(os.path.join(HERE, "images_golden.json"), "w") as f:
    json.dump(index, f, separators=(",", ":"))
    f.write("\n")
