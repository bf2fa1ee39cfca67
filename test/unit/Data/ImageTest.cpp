//===- ImageTest.cpp - Tests of images and their tiles -------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "src/Data/ImagePipeline.h"

#include "TestFiles.h"
#include "src/Data/SafeTensors.h"

#include <png.h>

#include <algorithm>
#include <cmath>
#include <random>

using namespace llrt;
using namespace llrt::test;

namespace {

std::string configText(int64_t tile, const std::string &more = "") {
  std::string side = std::to_string(tile);
  return "{\"image_processor_type\":\"MllamaImageProcessor\",\"size\":{"
         "\"height\":" +
         side + ",\"width\":" + side +
         "},\"image_mean\":[0.48145466,0.4578275,0.40821073],"
         "\"image_std\":[0.26862954,0.26130258,0.27577711]" +
         more + "}";
}

std::string_view bytesOf(const TensorView &view) {
  return {reinterpret_cast<const char *>(view.data), view.bytes};
}

// The largest difference of two lists of bytes.
template <typename A, typename B> int largestDifference(const A &a, const B &b, size_t count) {
  int most = 0;
  for (size_t i = 0; i < count; ++i)
    most = std::max(most, std::abs(int(uint8_t(a[i])) - int(uint8_t(b[i]))));
  return most;
}

// Decoding equals PIL, tiles equal transformers (make_image_golden.py): bit for
// bit before normalization, to rounding after it.
TEST(Image, EqualsTransformers) {
  SafeTensors file(golden("images_golden.safetensors"));
  nlohmann::json cases = parseJson(MappedFile(golden("images_golden.json")).text(), "golden");
  ASSERT_GT(cases.size(), 30u);
  Folder folder;
  for (const nlohmann::json &item : cases) {
    std::string name = item["name"];
    SCOPED_TRACE(name);
    int64_t side = item["tile"], tiles = item["tiles"];
    ImagePipeline pipeline(folder.write("p.json", configText(side)));
    Image image = decodeImage(bytesOf(file.at(name + ".file")), name);
    if (const TensorView *rgb = file.find(name + ".rgb")) {
      ASSERT_EQ(rgb->shape, (std::vector<int64_t>{image.height, image.width, 3}));
      EXPECT_EQ(largestDifference(image.pixels, bytesOf(*rgb), rgb->bytes), 0);
    }

    FittedImage fitted = pipeline.fit(image);
    ASSERT_EQ(fitted.aspectRatioId, item["aspect_ratio_id"].get<int64_t>());
    Canvas canvas = canvases[size_t(fitted.aspectRatioId - 1)];
    std::string_view want = bytesOf(file.at(name + ".tiles")); // [tiles, 3, R, R]
    ASSERT_EQ(want.size(), size_t(tiles * 3 * side * side));
    int most = 0;
    size_t at = 0;
    for (int64_t tile = 0; tile < tiles; ++tile)
      for (int64_t channel = 0; channel < 3; ++channel)
        for (int64_t y = 0; y < side; ++y)
          for (int64_t x = 0; x < side; ++x, ++at) {
            int64_t row = tile / canvas.wide * side + y;
            int64_t column = tile % canvas.wide * side + x;
            int got =
                fitted.canvas.pixels[size_t((row * fitted.canvas.width + column) * 3 + channel)];
            most = std::max(most, std::abs(got - int(uint8_t(want[at]))));
          }
    EXPECT_EQ(most, 0);

    ImageTiles result = pipeline.process(image);
    EXPECT_EQ(result.tiles, tiles);
    ASSERT_EQ(result.pixels.size(), size_t(4 * 3 * side * side));
    const double mean[] = {0.48145466, 0.4578275, 0.40821073};
    const double deviation[] = {0.26862954, 0.26130258, 0.27577711};
    double sum = 0, worst = 0;
    for (size_t i = 0; i < result.pixels.size(); ++i) {
      size_t channel = i / size_t(side * side) % 3;
      double expected =
          i < want.size() ? (uint8_t(want[i]) / 255.0 - mean[channel]) / deviation[channel] : 0;
      worst = std::max(worst, std::fabs(result.pixels[i] - expected));
      sum += result.pixels[i];
    }
    EXPECT_LT(worst, 1e-6);
    EXPECT_NEAR(sum, item["sum"].get<double>(), 1e-7 * double(want.size()) + 1e-3);
    int64_t marked = 0;
    for (int64_t bit : item["mask"].get<std::vector<int64_t>>())
      marked += bit;
    EXPECT_EQ(tilesOfAspect(fitted.aspectRatioId), marked);
  }
}

// Every format, kind of pixels and orientation becomes what Pillow and
// transformers make of it (make_format_golden.py). Other versions of the
// decoders of lossy formats may round otherwise.
TEST(Image, FormatsEqualPillow) {
  SafeTensors file(golden("formats_golden.safetensors"));
  int64_t count = 0;
  for (const auto &[tensor, rgb] : file.tensors()) {
    if (!tensor.ends_with(".rgb"))
      continue;
    std::string name = tensor.substr(0, tensor.size() - 4);
    SCOPED_TRACE(name);
    ++count;
    Image image;
    EXPECT_NO_THROW(image = decodeImage(bytesOf(file.at(name + ".file")), name));
    std::vector<int64_t> shape = {image.height, image.width, 3};
    EXPECT_EQ(rgb.shape, shape);
    if (rgb.shape != shape)
      continue;
    bool isLossy = name.find("lossy") != name.npos || name.find("jpeg") != name.npos;
    EXPECT_LE(largestDifference(image.pixels, bytesOf(rgb), rgb.bytes), isLossy ? 2 : 0);
    EXPECT_EQ(beginsLikeImage(bytesOf(file.at(name + ".file"))), !name.starts_with("bmp"));
  }
  EXPECT_GT(count, 100);
}

// An interlaced PNG of one row of samples; PIL writes neither 16 bits nor
// interlaced files. `transparent`: gray value that is fully transparent, or -1.
std::string pngOf(int depth, int type, int width, std::string row, int transparent = -1) {
  std::string bytes;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  png_set_write_fn(
      png, &bytes,
      [](png_structp from, png_bytep data, size_t size) {
        static_cast<std::string *>(png_get_io_ptr(from))
            ->append(reinterpret_cast<char *>(data), size);
      },
      nullptr);
  png_set_IHDR(png, info, png_uint_32(width), 1, depth, type, PNG_INTERLACE_ADAM7,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_color_16 colour = {};
  colour.gray = png_uint_16(transparent);
  if (transparent >= 0)
    png_set_tRNS(png, info, nullptr, 0, &colour);
  png_bytep rows[] = {reinterpret_cast<png_bytep>(row.data())};
  png_set_rows(png, info, rows);
  png_write_png(png, info, PNG_TRANSFORM_IDENTITY, nullptr);
  png_destroy_write_struct(&png, &info);
  return bytes;
}

// 16-bit colours keep their high byte, 16-bit gray is clamped, as PIL does;
// alpha lays them over white; 2 bits spread over 0 to 255, and PIL compares
// what they become with the transparent value.
TEST(Image, DepthsOfPng) {
  using Bytes = std::vector<uint8_t>;
  Image image = decodeImage(
      pngOf(16, PNG_COLOR_TYPE_RGB, 2, "\x12\xff\x34\x80\x56\x7f\xff\xff\x80\x01\x01\x01"), "rgb");
  EXPECT_EQ(image.width, 2);
  EXPECT_EQ(image.pixels, (Bytes{0x12, 0x34, 0x56, 0xff, 0x80, 0x01}));
  image = decodeImage(
      pngOf(16, PNG_COLOR_TYPE_GRAY_ALPHA, 2, std::string("\x64\x11\x33\x00\x64\x11\x00\xff", 8)),
      "gray alpha");
  // 100 * 0.2 + 255 * 0.8, and white.
  EXPECT_EQ(image.pixels, (Bytes{224, 224, 224, 255, 255, 255}));
  image = decodeImage(pngOf(2, PNG_COLOR_TYPE_GRAY, 4, "\x1b", 2), "gray");
  EXPECT_EQ(image.pixels[6], 170);
  image = decodeImage(pngOf(2, PNG_COLOR_TYPE_GRAY, 4, "\x1b"), "gray");
  EXPECT_EQ(image.pixels[6], 170);
}

// A broken or strange image is an error, whatever is broken.
TEST(Image, RefusesBrokenImages) {
  EXPECT_ERROR(decodeImage("", "a.png"),
               "a.png: expected a PNG, JPEG, WebP, GIF, TIFF or BMP image");
  EXPECT_ERROR(decodeImage("GIF89a", "a.png"), "a.png: broken GIF");
  EXPECT_ERROR(decodeImage("\x89PNG\r\n\x1a\n", "a.png"), "cut short");
  EXPECT_ERROR(decodeImage("\xff\xd8\xff\xd9", "a.jpg"), "a.jpg: broken JPEG");
  SafeTensors file(golden("images_golden.safetensors"));
  std::mt19937 draw(1);
  for (const char *name : {"png_rgba.file", "png_palette_transparent.file", "jpeg_420.file",
                           "jpeg_progressive.file", "jpeg_cmyk.file"}) {
    std::string good(bytesOf(file.at(name)));
    EXPECT_ERROR(decodeImage(good.substr(0, good.size() / 2), name), "broken");
    for (int round = 0; round < 200; ++round) {
      std::string bad = good;
      for (unsigned i = 0, n = 1 + draw() % 5; i < n; ++i)
        bad[draw() % std::min<size_t>(bad.size(), 800)] = char(draw());
      // Sizes beyond 4096 would only cost time here.
      if (bad[0] == '\x89' && (bad[16] || bad[17] || bad[20] || bad[21]))
        continue;
      try {
        decodeImage(bad, name);
      } catch (const Error &) {
      }
    }
  }
  SafeTensors formats(golden("formats_golden.safetensors"));
  for (const char *name : {"webp", "webp_lossy", "gif", "tiff_tiff_lzw", "tiff_jpeg", "bmp_rle8",
                           "bmp_RGB", "exif_jpeg_6"}) {
    std::string good(bytesOf(formats.at(std::string(name) + ".file")));
    EXPECT_ERROR(decodeImage(good.substr(0, good.size() / 2), name), "broken");
    for (int round = 0; round < 100; ++round) {
      std::string bad = good;
      bad[draw() % bad.size()] = char(draw());
      try {
        decodeImage(bad, name);
      } catch (const Error &) {
      }
    }
  }
  // Codes of a GIF that cannot be.
  std::string gif(bytesOf(formats.at("gif.file")));
  gif.replace(gif.size() - 60, 50, 50, '\xff');
  EXPECT_ERROR(decodeImage(gif, "a.gif"), "a.gif: broken GIF: its data");
  // A header that asks for 2^31 - 1 pixels a side.
  std::string huge(bytesOf(file.at("png_rgba.file")));
  huge.replace(16, 8, std::string("\x7f\xff\xff\xff\x7f\xff\xff\xff", 8));
  EXPECT_ERROR(decodeImage(huge, "huge"), "broken PNG");
}

TEST(ImagePipeline, RefusesBrokenConfigs) {
  Folder folder;
  auto expect = [&](const std::string &text, const std::string &part) {
    std::string path = folder.write("p.json", text);
    EXPECT_ERROR(ImagePipeline pipeline(path), part);
  };
  EXPECT_EQ(ImagePipeline(folder.write("p.json", configText(560))).tileSize(), 560);
  ImagePipeline full(
      folder.write("p.json", configText(56, ",\"do_pad\":true,\"do_resize\":true,"
                                            "\"max_image_tiles\":4,\"resample\":2,"
                                            "\"rescale_factor\":0.00392156862745098")));
  expect("[]", "p.json: expected a JSON object, got array");
  expect("{", "p.json: expected JSON");
  expect("{}", "field 'size': expected equal height and width, 1 to 8192, got nothing");
  expect(configText(56, ",\"do_pad\":false"), "field 'do_pad': expected true, got false");
  expect(configText(56, ",\"do_normalize\":null"), "field 'do_normalize'");
  expect(configText(56, ",\"resample\":3"), "field 'resample': expected 2, got 3");
  expect(configText(56, ",\"max_image_tiles\":9"), "field 'max_image_tiles'");
  expect(configText(56, ",\"rescale_factor\":0"), "field 'rescale_factor'");
  expect(configText(0), "field 'size'");
  expect(configText(56, ",\"size\":1"), "key 'size' appears twice");
  expect("{\"size\":{\"height\":56,\"width\":55}}", "got {\"height\":56,\"width\":55}");
  expect("{\"size\":{\"height\":56,\"width\":56}}", "field 'image_mean'");
  expect("{\"size\":{\"height\":56,\"width\":56},\"image_mean\":[0,0,0],"
         "\"image_std\":[1,1,0]}",
         "field 'image_std': expected three numbers greater");
  expect("{\"image_processor_type\":\"CLIPImageProcessor\"}", "field 'image_processor_type'");
  // As transformers 5 writes a processor_config.json.
  auto nested = [](const std::string &text) {
    return "{\"image_processor\":" + text + ",\"processor_class\":\"MllamaProcessor\"}";
  };
  EXPECT_EQ(ImagePipeline(folder.write("p.json", nested(configText(42)))).tileSize(), 42);
  expect(nested(configText(56, ",\"resample\":3")),
         "p.json: field 'image_processor': field 'resample': expected 2, got 3");
  expect(nested("3"), "field 'image_processor': expected a JSON object, got number");
}

// An image of the wanted size stays as it is; one colour stays one colour.
TEST(Image, ResizeKeepsWhatItMust) {
  Image image = {3, 2, {}};
  for (int i = 0; i < 18; ++i)
    image.pixels.push_back(uint8_t(i * 14));
  EXPECT_EQ(resizeBilinear(image, 3, 2).pixels, image.pixels);
  Image flat = {7, 5, std::vector<uint8_t>(7 * 5 * 3, 201)};
  for (auto [width, height] : {std::pair{1, 1}, {3, 40}, {100, 2}}) {
    Image resized = resizeBilinear(flat, width, height);
    EXPECT_EQ(resized.pixels, std::vector<uint8_t>(size_t(width * height * 3), 201));
  }
}

} // namespace
