#!/usr/bin/env python3
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Writes formats_golden.safetensors beside this script: files of every format, kind of
pixels and orientation that is read, and what Pillow and transformers make of them.

Per case NAME.file, the bytes of a file, and NAME.rgb, [height, width, 3], after
ImageOps.exif_transpose (as in image_utils.load_image) and image_transforms.convert_to_rgb.
Needs: pip install transformers pillow numpy safetensors torch. Made with transformers
5.23.0, Pillow 13.0.0.
"""
import io, os, struct, zlib
import numpy as np
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo
from safetensors.numpy import save_file
from transformers.image_transforms import convert_to_rgb

HERE = os.path.dirname(os.path.abspath(__file__))
draw = np.random.default_rng(5)

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

tensors = {}
def add(name, data):
    with Image.open(io.BytesIO(data)) as image:
        tensors[name + ".rgb"] = convert_to_rgb(ImageOps.exif_transpose(image), return_numpy=True)
    tensors[name + ".file"] = np.frombuffer(data, np.uint8)

def orient(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    return exif
small = Image.fromarray(picture(31, 22))
translucent = Image.fromarray(picture(31, 22, 4), "RGBA")
palette = small.quantize(40)
deep = (picture(31, 22).astype(np.uint16) * 3)[..., 0]  # 0 to 765
for orientation in range(1, 9):
    add(f"exif_jpeg_{orientation}", encode(small, "JPEG", exif=orient(orientation)))
for kind in ["PNG", "WEBP", "TIFF"]:
    for orientation in [3, 6, 7]:
        add(f"exif_{kind.lower()}_{orientation}", encode(small, kind, exif=orient(orientation), **(dict(lossless=True) if kind == "WEBP" else {})))
xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="8"/></x:xmpmeta>'
add("xmp_jpeg_8", encode(small, "JPEG", xmp=xmp))
add("xmp_webp_8", encode(small, "WEBP", lossless=True, xmp=xmp))
info = PngInfo()
info.add_itxt("XML:com.adobe.xmp", xmp.decode())
add("xmp_png_8", encode(small, "PNG", pnginfo=info))
info = PngInfo()
profile = orient(5).tobytes()
info.add_text("Raw profile type exif", f"\nexif\n{len(profile):8}\n{profile.hex()}\n", zip=True)
add("profile_png_5", encode(small, "PNG", pnginfo=info))
big_endian = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
add("exif_big_endian_6", encode(small, "JPEG", exif=b"Exif\0\0" + big_endian))

add("webp", encode(small, "WEBP", lossless=True))
add("webp_alpha", encode(translucent, "WEBP", lossless=True, exact=True))
add("webp_lossy", encode(small, "WEBP", quality=70))
add("webp_lossy_alpha", encode(translucent, "WEBP", quality=80))
add("webp_animated", encode(small, "WEBP", lossless=True, save_all=True, append_images=[small.rotate(180)]))
add("webp_animated_alpha", encode(translucent, "WEBP", lossless=True, exact=True, save_all=True, append_images=[translucent.rotate(180)]))
add("gif", encode(palette, "GIF"))
add("gif_interlaced", encode(palette, "GIF", interlace=True))
add("gif_gray", encode(small.convert("L"), "GIF"))
add("gif_transparent", encode(palette, "GIF", transparency=3))
add("gif_animated", encode(palette, "GIF", save_all=True, append_images=[palette.rotate(180)]))
def gif_frame(screen, frame, clear):
    """A GIF whose frame is a part of the screen, or stands out of it."""
    data = bytearray(encode(palette.crop((0, 0, frame[2], frame[3])), "GIF", interlace=False, **(dict(transparency=clear) if clear is not None else {})))
    data[6:10] = struct.pack("<HH", *screen)
    at = data.rindex(b"," + struct.pack("<HHHH", 0, 0, frame[2], frame[3]))
    data[at + 1:at + 5] = struct.pack("<HH", frame[0], frame[1])
    return bytes(data)
add("gif_part", gif_frame((30, 20), (4, 5, 12, 10), None))
add("gif_part_transparent", gif_frame((30, 20), (4, 5, 12, 10), 2))
add("gif_out_of_screen", gif_frame((10, 8), (4, 5, 12, 10), None))

for compression in [None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "lzma"]:
    add(f"tiff_{compression}", encode(small, "TIFF", **(dict(compression=compression) if compression else {})))
add("tiff_jpeg", encode(small, "TIFF", compression="jpeg", quality=90))
for mode in ["1", "L", "P", "LA", "RGBA", "CMYK", "I", "F"]:
    image = palette if mode == "P" else translucent.convert(mode) if mode in ("LA", "RGBA") else small.convert(mode)
    add(f"tiff_{mode}", encode(image, "TIFF"))
    if mode in ("1", "P", "RGBA", "CMYK"):
        add(f"tiff_{mode}_lzw", encode(image, "TIFF", compression="tiff_lzw"))
add("tiff_group4", encode(small.convert("1"), "TIFF", compression="group4"))
add("tiff_gray16", encode(Image.fromarray(deep), "TIFF"))
add("tiff_pages", encode(small, "TIFF", save_all=True, append_images=[small.rotate(180)]))
def tiff(rows, width, tags, order="<", strips=True):
    """A TIFF of one strip; tags: number -> (type, values)."""
    height = len(rows)
    data = b"".join(rows)
    tags = {256: (3, [width]), 257: (3, [height]), 259: (3, [1])} | (
        {273: (4, [8]), 278: (3, [height]), 279: (4, [len(data)])} if strips else {}) | tags
    count, extra, entries = len(tags), b"", b""
    begin = 8 + len(data) + len(data) % 2
    for tag, (kind, values) in sorted(tags.items()):
        packed = struct.pack(order + {3: "H", 4: "I"}[kind] * len(values), *values)
        if len(packed) > 4:
            where = begin + 2 + 12 * count + 4 + len(extra)
            extra += packed
            packed = struct.pack(order + "I", where)
        entries += struct.pack(order + "HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    return ((b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, begin) + data + b"\0" * (len(data) % 2) +
            struct.pack(order + "H", count) + entries + b"\0" * 4 + extra)
wide = picture(9, 12, 4).astype(np.uint16) * 257 + 13
for order in "<>":
    def rows16(samples):
        return [samples[y].astype(order + "u2").tobytes() for y in range(9)]
    name = "little" if order == "<" else "big"
    add(f"tiff_rgb16_{name}", tiff(rows16(wide[..., :3]), 12, {258: (3, [16] * 3), 262: (3, [2]), 277: (3, [3])}, order))
    add(f"tiff_rgba16_{name}", tiff(rows16(wide), 12, {258: (3, [16] * 4), 262: (3, [2]), 277: (3, [4]), 338: (3, [2])}, order))
    add(f"tiff_gray16_{name}", tiff(rows16(wide[..., 0] // 150), 12, {258: (3, [16]), 262: (3, [1]), 277: (3, [1])}, order))
    add(f"tiff_cmyk16_{name}", tiff(rows16(wide), 12, {258: (3, [16] * 4), 262: (3, [5]), 277: (3, [4])}, order))
bytes4 = picture(9, 12, 4)
rows8 = [bytes4[y].tobytes() for y in range(9)]
for extra in [None, 0, 1, 2]:
    add(f"tiff_extra_{extra}", tiff(rows8, 12, {258: (3, [8] * 4), 262: (3, [2]), 277: (3, [4])} | ({338: (3, [extra])} if extra is not None else {})))
packed = [bytes4[y].tobytes()[:6] for y in range(9)]
for bits in [1, 2, 4]:
    for photometric in [0, 1]:
        add(f"tiff_{bits}bit_{photometric}", tiff([row[:(12 * bits + 7) // 8] for row in packed], 12, {258: (3, [bits]), 262: (3, [photometric]), 277: (3, [1])}))
add("tiff_white_is_zero", tiff([bytes4[y, :, 0].tobytes() for y in range(9)], 12, {258: (3, [8]), 262: (3, [0]), 277: (3, [1])}))
add("tiff_signed16", tiff([(wide[y, :, 0].astype(np.int32) // 100 - 200).astype("<i2").tobytes() for y in range(9)], 12,
                              {258: (3, [16]), 262: (3, [1]), 277: (3, [1]), 339: (3, [2])}))
add("tiff_orientation_5", tiff(rows8, 12, {258: (3, [8] * 4), 262: (3, [2]), 277: (3, [4]), 338: (3, [0]), 274: (3, [5])}))
data = np.zeros((16, 32, 3), np.uint8)
data[:9, :21] = np.concatenate([bytes4, bytes4[:, ::-1]], 1)[:, :21, :3]
add("tiff_tiles", tiff([data[:, :16].tobytes() + data[:, 16:].tobytes()], 21,
                           {257: (3, [9]), 258: (3, [8] * 3), 262: (3, [2]), 277: (3, [3]), 322: (3, [16]), 323: (3, [16]),
                            324: (4, [8, 8 + 768]), 325: (4, [768, 768])}, strips=False))
add("tiff_planes", tiff([bytes4[..., c].tobytes() for c in range(3)], 12,
                            {257: (3, [9]), 258: (3, [8] * 3), 262: (3, [2]), 277: (3, [3]), 284: (3, [2]), 273: (4, [8, 8 + 108, 8 + 216]),
                             278: (3, [9]), 279: (4, [108] * 3)}))

for mode in ["1", "L", "P", "RGB"]:
    add(f"bmp_{mode}", encode(palette if mode == "P" else small.convert(mode), "BMP"))
def bmp(width, height, bits, data, packing=0, colours=b"", header=40, masks=b""):
    head = struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, packing, len(data), 0, 0, len(colours) // 4, 0) + masks
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(colours) + len(data), 0, 0, 14 + len(head) + len(colours)) + head + colours + data
colours = draw.integers(0, 256, 64).astype(np.uint8).tobytes()
noise = draw.integers(0, 256, 4000).astype(np.uint8).tobytes()
add("bmp_4bit", bmp(13, 6, 4, noise[:8 * 6], colours=colours))
add("bmp_1bit_colours", bmp(13, 6, 1, noise[:4 * 6], colours=colours[:8]))
add("bmp_555", bmp(13, 6, 16, noise[:28 * 6]))
add("bmp_565", bmp(13, 6, 16, noise[:28 * 6], 3, masks=struct.pack("<III", 0xF800, 0x7E0, 0x1F)))
add("bmp_32", bmp(13, 6, 32, noise[:52 * 6]))
add("bmp_top_down", bmp(13, -6, 24, noise[:40 * 6]))
add("bmp_alpha", bmp(13, 6, 32, noise[:52 * 6], 3, header=56, masks=struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)))
add("bmp_rle8", bmp(6, 4, 8, bytes([3, 1, 2, 7, 1, 9, 0, 0, 0, 4, 5, 6, 7, 8, 2, 2, 0, 0, 2, 3, 0, 2, 1, 1, 1, 4, 0, 0, 6, 15, 0, 1]), 1, colours=colours))
add("bmp_rle4", bmp(6, 4, 4, bytes([6, 0x12, 0, 0, 0, 4, 0x34, 0x56, 2, 0x78, 0, 0, 5, 0x9A, 1, 0xB0, 0, 0, 6, 0xCD, 0, 1]), 2, colours=colours))
add("bmp_core", b"BM" + struct.pack("<IHHI", 0, 0, 0, 26) + struct.pack("<IHHHH", 12, 13, 6, 1, 24) + noise[:40 * 6])

def png(width, height, depth, kind, rows, *chunks):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)) +
            b"".join(chunk(name, data) for name, data in chunks) +
            chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))) + chunk(b"IEND", b""))
big16 = wide.astype(">u2")
gray16 = [(wide[y, :, 0] // 150).astype(">u2").tobytes() for y in range(9)]
add("png_gray16", png(12, 9, 16, 0, gray16))
add("png_gray16_transparent", png(12, 9, 16, 0, gray16, (b"tRNS", struct.pack(">H", int(wide[2, 3, 0] // 150)))))
add("png_rgb16", png(12, 9, 16, 2, [big16[y, :, :3].tobytes() for y in range(9)]))
add("png_rgb16_transparent", png(12, 9, 16, 2, [big16[y, :, :3].tobytes() for y in range(9)], (b"tRNS", big16[2, 3, :3].tobytes())))
add("png_rgba16", png(12, 9, 16, 6, [big16[y].tobytes() for y in range(9)]))
add("png_la16", png(12, 9, 16, 4, [big16[y, :, :2].tobytes() for y in range(9)]))
for bits in [1, 2, 4]:
    rows = [row[:(12 * bits + 7) // 8] for row in packed]
    add(f"png_gray_{bits}", png(12, 9, bits, 0, rows))
    for clear in [0, 1]:
        add(f"png_gray_{bits}_transparent_{clear}", png(12, 9, bits, 0, rows, (b"tRNS", struct.pack(">H", clear))))
    add(f"png_short_palette_{bits}", png(12, 9, bits, 3, rows, (b"PLTE", colours[:3 * max(1, 2**bits - 1)])))
for cut in [12, 14, 16, 17, 20]:  # IEND, the checksum of the last IDAT chunk, that of the pixels
    add(f"png_cut_{cut}", encode(small, "PNG")[:-cut])
whole = encode(small, "PNG")
add("png_wrong_crc", whole[:-13] + bytes([whole[-13] ^ 1]) + whole[-12:])  # of IDAT
for mode in ["LA", "RGBA"]:
    add(f"tiff_big_{mode}", encode(translucent.convert(mode), "TIFF", big_tiff=True))
add("gif_cut_2", encode(palette, "GIF")[:-2])


path = os.path.join(HERE, "formats_golden.safetensors")
save_file(tensors, path)
os.chmod(path, 0o644)
print(len(tensors) // 2, "cases")
