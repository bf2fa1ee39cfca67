//===- BatchTest.cpp - Tests of batches and model inputs -----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "src/Data/Batch.h"

#include "TestFiles.h"
#include "src/Data/SafeTensors.h"

#include <cmath>
#include <functional>

using namespace llrt;
using namespace llrt::test;

namespace {

using Ints = std::vector<int64_t>;

constexpr int64_t tile = 14; // R

// A good B.safetensors of two samples, four tokens, two images, kept in memory
// so that a test can spoil one thing of it.
struct BatchFile {
  BatchShape shape = {2, 4, 2, tile, 100, 8};
  Ints ids = {1, 107, 3, 4, 1, 5, 6, 7};
  Ints labels = {-100, -100, 3, 4, -100, 5, 99, -100};
  Ints attention = {1, 1, 1, 1, 1, 1, 1, 0};
  Ints documents = {0, 0, 1, 1, 2, 2, 2, 2};
  std::vector<float> pixels = std::vector<float>(2 * 2 * 4 * 3 * tile * tile, 0.5f);
  Ints aspects = {1, 6, 2, 0};
  Ints aspectMask = {1, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0, 0, 0};
  // [2, 4, 2, 4]
  Ints cross = {0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1,
                1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0,
                0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0};

  std::vector<TensorToWrite> tensors() const {
    return {{"input_ids", DType::I64, {2, 4}, ids.data()},
            {"labels", DType::I64, {2, 4}, labels.data()},
            {"attention_mask", DType::I64, {2, 4}, attention.data()},
            {"document_ids", DType::I64, {2, 4}, documents.data()},
            {"pixel_values", DType::F32, {2, 2, 4, 3, tile, tile}, pixels.data()},
            {"aspect_ratio_ids", DType::I64, {2, 2}, aspects.data()},
            {"aspect_ratio_mask", DType::I64, {2, 2, 4}, aspectMask.data()},
            {"cross_attention_mask", DType::I64, {2, 4, 2, 4}, cross.data()}};
  }

  Batch read(const std::vector<TensorToWrite> &tensors) const {
    Folder folder;
    writeSafeTensors(folder / "B.safetensors", tensors);
    return readBatch(folder / "B.safetensors", shape);
  }
  ModelInputs inputs() const { return makeModelInputs(read(tensors()), "B"); }
};

// Every array of the inputs, worked out by hand.
TEST(Batch, ModelInputsOfAFile) {
  BatchFile file;
  ModelInputs inputs = file.inputs();
  EXPECT_EQ(inputs.inputIds, file.ids);
  EXPECT_EQ(inputs.labels, (Ints{-100, 3, 4, -100, 5, 99, -100, -100}));
  EXPECT_EQ(inputs.validTokens, 4);
  EXPECT_EQ(inputs.positions, (Ints{0, 1, 0, 1, 0, 1, 2, 3}));
  EXPECT_EQ(inputs.documents, (Ints{0, 0, 1, 1, 2, 2, 2, -3}));
  EXPECT_EQ(inputs.imageBegin, (Ints{0, 0, 0, 1, 0, 0, 0, 0}));
  EXPECT_EQ(inputs.imageEnd, (Ints{0, 1, 2, 2, 0, 1, 1, 1}));
  EXPECT_EQ(inputs.tiles, (Ints{1, 4, 2, 1}));
  EXPECT_EQ(inputs.aspectIds, file.aspects);
  EXPECT_EQ(inputs.pixels, file.pixels);
}

// Without documents positions run through, padding included; without the image
// tensors every row says so.
TEST(Batch, ModelInputsWithoutImages) {
  BatchFile file;
  std::vector<TensorToWrite> tensors = file.tensors();
  tensors.resize(3);
  ModelInputs inputs = makeModelInputs(file.read(tensors), "B");
  EXPECT_EQ(inputs.positions, (Ints{0, 1, 2, 3, 0, 1, 2, 3}));
  EXPECT_EQ(inputs.documents, (Ints{0, 0, 0, 0, 0, 0, 0, -1}));
  EXPECT_EQ(inputs.imageBegin, Ints(8, 1));
  EXPECT_EQ(inputs.imageEnd, Ints(8, 0));
  EXPECT_EQ(inputs.tiles, Ints(4, 1));
  EXPECT_EQ(inputs.aspectIds, Ints(4, 0));
  EXPECT_EQ(inputs.pixels, std::vector<float>(file.pixels.size()));
  file.shape.images = 0; // a text model
  inputs = makeModelInputs(file.read(tensors), "B");
  EXPECT_TRUE(inputs.tiles.empty() && inputs.pixels.empty());
}

// A collator may have made any integers, booleans of masks, half floats of
// pixels, and left out a mask that masks nothing.
TEST(Batch, OtherElementTypes) {
  BatchFile file;
  file.attention.assign(8, 1);
  ModelInputs want = file.inputs();
  std::vector<TensorToWrite> tensors = file.tensors();
  tensors.erase(tensors.begin() + 2); // attention_mask
  std::vector<int32_t> ids(file.ids.begin(), file.ids.end());
  std::vector<int16_t> labels(file.labels.begin(), file.labels.end());
  std::vector<uint32_t> documents(file.documents.begin(), file.documents.end());
  std::vector<int8_t> aspects(file.aspects.begin(), file.aspects.end());
  std::vector<uint8_t> aspectMask(file.aspectMask.begin(), file.aspectMask.end());
  std::vector<uint8_t> cross(file.cross.begin(), file.cross.end());
  std::vector<uint16_t> brains(file.pixels.size(), 0x3f00); // 0.5
  std::vector<uint16_t> halves(file.pixels.size(), 0x3800);
  tensors[0] = {"input_ids", DType::I32, {2, 4}, ids.data()};
  tensors[1] = {"labels", DType::I16, {2, 4}, labels.data()};
  tensors[2] = {"document_ids", DType::U32, {2, 4}, documents.data()};
  tensors[3] = {"pixel_values", DType::BF16, {2, 2, 4, 3, tile, tile}, brains.data()};
  tensors[4] = {"aspect_ratio_ids", DType::I8, {2, 2}, aspects.data()};
  tensors[5] = {"aspect_ratio_mask", DType::BOOL, {2, 2, 4}, aspectMask.data()};
  tensors[6] = {"cross_attention_mask", DType::BOOL, {2, 4, 2, 4}, cross.data()};
  for (bool half : {false, true}) {
    if (half)
      tensors[3] = {"pixel_values", DType::F16, {2, 2, 4, 3, tile, tile}, halves.data()};
    ModelInputs got = makeModelInputs(file.read(tensors), "B");
    EXPECT_EQ(got.inputIds, want.inputIds);
    EXPECT_EQ(got.labels, want.labels);
    EXPECT_EQ(got.documents, want.documents);
    EXPECT_EQ(got.imageEnd, want.imageEnd);
    EXPECT_EQ(got.tiles, want.tiles);
    EXPECT_EQ(got.aspectIds, want.aspectIds);
    EXPECT_EQ(got.pixels, want.pixels);
  }
  tensors[3].dtype = DType::U16;
  EXPECT_ERROR(file.read(tensors), "tensor 'pixel_values': field 'dtype': "
                                   "expected F16, BF16, F32 or F64, got U16");
  tensors[3].dtype = DType::F16;
  tensors[0].dtype = DType::F32;
  EXPECT_ERROR(file.read(tensors), "tensor 'input_ids': field 'dtype': "
                                   "expected integers or BOOL, got F32");
}

// One wrong thing, one message that names file, tensor, place and values.
TEST(Batch, RefusesBrokenFiles) {
  auto expect = [](std::function<void(BatchFile &)> spoil, const std::string &part) {
    BatchFile file;
    spoil(file);
    EXPECT_ERROR(file.inputs(), part);
  };
  expect([](BatchFile &f) { f.ids[5] = 108; },
         "B.safetensors: tensor 'input_ids': element [1, 1]: expected 0 to "
         "107, got 108");
  expect([](BatchFile &f) { f.ids[0] = -1; }, "got -1");
  expect([](BatchFile &f) { f.labels[2] = 100; },
         "tensor 'labels': element [0, 2]: expected -100 or 0 to 99, got 100");
  expect([](BatchFile &f) { f.labels[2] = -1; }, "got -1");
  expect([](BatchFile &f) { f.attention[0] = 2; }, "expected 0 or 1, got 2");
  expect([](BatchFile &f) { f.documents[0] = -1; }, "tensor 'document_ids'");
  expect([](BatchFile &f) { f.aspects[0] = 9; }, "expected 0 to 8, got 9");
  expect([](BatchFile &f) { f.aspectMask[1] = 1; },
         "tensor 'aspect_ratio_mask': element [0, 0, 1]: expected 0 for aspect "
         "ratio "
         "id 1, got 1");
  expect([](BatchFile &f) { f.pixels[1] = std::nanf(""); },
         "tensor 'pixel_values': element [0, 0, 0, 0, 0, 1]: expected a finite "
         "number, got nan");
  expect([](BatchFile &f) { f.shape.samples = 3; }, "expected the shape [3, 4], got [2, 4]");
  expect([](BatchFile &f) { f.shape.tileSize = 28; },
         "tensor 'pixel_values': expected the shape [2, 2, 4, 3, 28, 28]");
  expect([](BatchFile &f) { f.shape.images = 0; }, "the program has no images");
  auto row = [](const char *reason) {
    return "B: tensor 'cross_attention_mask': sample 0, row 3: expected one "
           "interval "
           "of images with exactly their real tiles, got image " +
           std::string(reason);
  };
  expect([](BatchFile &f) { f.cross[28] = 0; }, row("1 with other tiles"));
  expect([](BatchFile &f) { f.cross[25] = 1; }, row("0 with other tiles"));
  expect([](BatchFile &f) { f.cross[36] = 1; },
         "sample 1, row 0: expected one interval of images with exactly their "
         "real "
         "tiles, got image 1 which is missing");

  // A tensor less, of another type, too much.
  for (size_t missing : {size_t(0), size_t(5)}) {
    BatchFile file;
    std::vector<TensorToWrite> tensors = file.tensors();
    std::string name = tensors[missing].name;
    tensors.erase(tensors.begin() + int64_t(missing));
    EXPECT_ERROR(file.read(tensors), "tensor '" + name + "': missing");
  }
  BatchFile file;
  std::vector<TensorToWrite> tensors = file.tensors();
  tensors[0].dtype = DType::F64;
  EXPECT_ERROR(file.read(tensors),
               "tensor 'input_ids': field 'dtype': expected integers or BOOL, got F64");
  tensors = file.tensors();
  tensors[0].name = "inputs";
  EXPECT_ERROR(file.read(tensors), "tensor 'inputs': expected only the tensors");
}

// Images that a row sees with one between them left out are no interval.
TEST(Batch, RefusesGaps) {
  Batch batch;
  batch.shape = {1, 1, 3, tile, 100, 8};
  batch.inputIds = {1};
  batch.labels = {-100};
  batch.attentionMask = {1};
  batch.aspectRatioIds = {1, 1, 1};
  batch.aspectRatioMask = {1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0};
  batch.crossAttentionMask = {1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0};
  EXPECT_ERROR(makeModelInputs(batch, "B"), "row 0: expected one interval of images "
                                            "with exactly their real tiles, got image "
                                            "2 after a gap");
  batch.crossAttentionMask = {0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0};
  ModelInputs inputs = makeModelInputs(batch, "B");
  EXPECT_EQ(inputs.imageBegin, Ints{1});
  EXPECT_EQ(inputs.imageEnd, Ints{3});
}

struct Captions {
  Folder folder;
  Tokenizer tokenizer{golden("tokenizer_small.model")};
  ImagePipeline pipeline{
      folder.write("p.json", R"({"size":{"height":42,"width":42},"image_mean":[0.5,0.5,0.5],
                    "image_std":[0.5,0.5,0.5]})")};
  SafeTensors images{golden("images_golden.safetensors")};
  int64_t n = tokenizer.baseTokens();
  int64_t pad = n + 4;
  BatchShape shape = {1, 8, 2, 42, n + 256, 8};

  std::string image(const std::string &name) {
    const TensorView &view = images.at(name + ".file");
    return {reinterpret_cast<const char *>(view.data), view.bytes};
  }
  Batch make(std::vector<std::map<std::string, std::string>> fields) {
    shape.samples = int64_t(fields.size());
    CaptionBatch batch({tokenizer, &pipeline, shape, pad, imageFields});
    added.clear();
    for (auto &sample : fields)
      added.push_back(batch.add({"a.tar", std::to_string(batch.size()), sample, ""}));
    return batch.take(batch.size());
  }
  std::vector<std::string> imageFields;
  std::vector<CaptionBatch::Added> added; // by `make`
};

// A short caption is padded, a long one cut; the special text in it stays text.
TEST(Batch, CaptionsBecomeTokens) {
  Captions captions;
  Ints text = captions.tokenizer.encode("aaab flag");
  ASSERT_LT(text.size(), 5u);
  Batch batch = captions.make(
      {{{"txt", "aaab flag"}, {"png", captions.image("png_rgb_42x84")}},
       {{"json", R"({"caption":"<|image|> 123 456 789 0"})"}, {"jpg", captions.image("jpeg_420")}},
       {{"json", R"({"text":"aaab flag"})"}}});
  int64_t n = captions.n;
  Ints first = {n, n + 256}, labels = {-100, -100}, bare = {n}, bareLabels = {-100};
  for (Ints *list : {&first, &labels, &bare, &bareLabels}) {
    list->insert(list->end(), text.begin(), text.end());
    list->push_back(n + 1);
  }
  Ints attention(first.size(), 1);
  first.resize(8, captions.pad);
  labels.resize(8, -100);
  attention.resize(8, 0);
  auto row = [](const Ints &all, int64_t b, int64_t size) {
    return Ints(all.begin() + b * size, all.begin() + (b + 1) * size);
  };
  EXPECT_EQ(row(batch.inputIds, 0, 8), first);
  EXPECT_EQ(row(batch.labels, 0, 8), labels);
  EXPECT_EQ(row(batch.attentionMask, 0, 8), attention);

  Ints cut = {n, n + 256};
  for (int64_t id : captions.tokenizer.encode("<|image|> 123 456 789 0"))
    cut.push_back(id);
  ASSERT_GT(cut.size(), 8u);
  cut.resize(8);
  EXPECT_EQ(row(batch.inputIds, 1, 8), cut);
  EXPECT_EQ(row(batch.attentionMask, 1, 8), Ints(8, 1));
  bare.resize(8, captions.pad);
  EXPECT_EQ(row(batch.inputIds, 2, 8), bare);

  EXPECT_EQ(batch.aspectRatioIds, (Ints{2, 0, 6, 0, 0, 0}));
  EXPECT_EQ(row(batch.aspectRatioMask, 0, 8), (Ints{1, 1, 0, 0, 1, 0, 0, 0}));
  // From the marker (position 1) to the end, padding too, as the processor has
  // it.
  ModelInputs inputs = makeModelInputs(batch, "batch");
  EXPECT_EQ(inputs.imageBegin, Ints(24, 0));
  EXPECT_EQ(inputs.imageEnd,
            (Ints{0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(inputs.tiles, (Ints{2, 1, 4, 1, 1, 1}));
  EXPECT_EQ(inputs.validTokens, int64_t(text.size()) + 1 + 6 + int64_t(text.size()) + 1);

  // The pixels are those of the pipeline, in the first image's place.
  ImageTiles tiles = captions.pipeline.process(decodeImage(captions.image("jpeg_420"), "jpeg"));
  size_t size = tiles.pixels.size();
  EXPECT_EQ(std::vector<float>(batch.pixelValues.begin() + int64_t(2 * size),
                               batch.pixelValues.begin() + int64_t(3 * size)),
            tiles.pixels);
  for (size_t i = size; i < 2 * size; ++i)
    ASSERT_EQ(batch.pixelValues[i], 0);
}

// What a batch of captions writes to a file is read again without complaint.
TEST(Batch, CaptionBatchIsAValidFile) {
  Captions captions;
  Batch batch =
      captions.make({{{"txt", "a"}, {"jpeg", captions.image("jpeg_gray")}}, {{"txt", "b"}}});
  std::string path = captions.folder / "B.safetensors";
  writeSafeTensors(
      path, {{"input_ids", DType::I64, {2, 8}, batch.inputIds.data()},
             {"labels", DType::I64, {2, 8}, batch.labels.data()},
             {"attention_mask", DType::I64, {2, 8}, batch.attentionMask.data()},
             {"pixel_values", DType::F32, {2, 2, 4, 3, 42, 42}, batch.pixelValues.data()},
             {"aspect_ratio_ids", DType::I64, {2, 2}, batch.aspectRatioIds.data()},
             {"aspect_ratio_mask", DType::I64, {2, 2, 4}, batch.aspectRatioMask.data()},
             {"cross_attention_mask", DType::I64, {2, 8, 2, 4}, batch.crossAttentionMask.data()}});
  Batch read = readBatch(path, batch.shape);
  EXPECT_EQ(read.inputIds, batch.inputIds);
  EXPECT_EQ(read.crossAttentionMask, batch.crossAttentionMask);
  EXPECT_EQ(read.pixelValues, batch.pixelValues);
  // Samples without any image make a batch without images.
  EXPECT_TRUE(captions.make({{{"txt", "a"}}}).pixelValues.empty());
}

// The images of a sample, whatever their fields are called, in the order of
// their names; every text row sees both, the first marker only its own.
TEST(Batch, SeveralImagesInOrder) {
  Captions captions;
  std::string wide = captions.image("png_rgb_42x84"), tall = captions.image("png_rgb_90x30");
  using Fields = std::map<std::string, std::string>;
  for (auto [first, second] : {std::pair{"0.png", "1.png"},
                               {"2.jpg", "10.jpg"},
                               {"jpg", "1.jpg"},
                               {"image.9.jpeg", "image.10.jpe"},
                               {"img0.webp", "img1.jfif"},
                               {"a", "b"},
                               {"jpg", "png"}}) {
    SCOPED_TRACE(first);
    for (bool turned : {false, true}) {
      Batch batch = captions.make(
          {Fields{{"txt", "flag"}, {first, turned ? tall : wide}, {second, turned ? wide : tall}}});
      EXPECT_EQ(batch.aspectRatioIds, turned ? (Ints{7, 2}) : (Ints{2, 7}));
      EXPECT_EQ(batch.inputIds[1], captions.n + 256);
      EXPECT_EQ(batch.inputIds[2], captions.n + 256);
      ModelInputs inputs = makeModelInputs(batch, "batch");
      EXPECT_EQ(inputs.imageEnd, (Ints{0, 1, 2, 2, 2, 2, 2, 2}));
      EXPECT_EQ(captions.added[0].images, 2);
    }
  }
  // Named fields count alone, in their order.
  captions.imageFields = {"seg.png", "jpg"};
  Batch batch =
      captions.make({Fields{{"txt", "x"}, {"jpg", wide}, {"seg.png", tall}, {"depth.png", "?"}}});
  EXPECT_EQ(batch.aspectRatioIds, (Ints{7, 2}));
  EXPECT_EQ(captions.added[0].otherFields, std::vector<std::string>{"depth.png"});
}

// What was not read of a sample is told.
TEST(Batch, TellsWhatBecameOfSamples) {
  Captions captions;
  captions.make({{{"a.txt", "flag flag flag flag flag flag flag"}, {"json", "{}"}, {"cls", "3"}},
                 {{"txt", "\xff"}}});
  EXPECT_TRUE(captions.added[0].cut);
  EXPECT_EQ(captions.added[0].otherFields, (std::vector<std::string>{"cls", "json"}));
  EXPECT_FALSE(captions.added[0].replaced);
  EXPECT_TRUE(captions.added[1].replaced);
  captions.shape.images = 0; // a text model
  captions.make({{{"txt", "a"}, {"png", "not looked at"}}});
  EXPECT_EQ(captions.added[0].imagesPassed, 1);
}

// A sample that cannot be read leaves the batch as it was.
TEST(Batch, BadSampleLeavesNothing) {
  Captions captions;
  captions.shape.samples = 2;
  CaptionBatch batch({captions.tokenizer, &captions.pipeline, captions.shape, captions.pad, {}});
  std::string png = captions.image("png_rgba");
  EXPECT_ERROR(
      batch.add({"a.tar", "1", {{"txt", "a"}, {"1.png", png}, {"2.png", png.substr(0, 50)}}, ""}),
      "a.tar: sample '1': field '2.png': broken PNG");
  EXPECT_ERROR(batch.add({"a.tar", "1", {{"txt", "a"}}, "a fault"}), "a fault");
  batch.add({"a.tar", "2", {{"txt", "b"}}, ""});
  batch.add({"a.tar", "3", {{"txt", "c"}}, ""});
  Batch got = batch.take(2);
  EXPECT_EQ(got.inputIds, captions.make({{{"txt", "b"}}, {{"txt", "c"}}}).inputIds);
  EXPECT_TRUE(got.pixelValues.empty());
}

TEST(Batch, RefusesBrokenSamples) {
  Captions captions;
  std::string png = captions.image("png_rgba");
  EXPECT_ERROR(captions.make({{{"png", png}}}),
               "a.tar: sample '0': expected a field 'txt' or 'json'");
  EXPECT_ERROR(captions.make({{{"json", "{"}}}), "sample '0': field 'json'");
  EXPECT_ERROR(captions.make({{{"json", "[1]"}}}),
               "field 'json': expected JSON: an object at byte 0");
  EXPECT_ERROR(captions.make({{{"json", R"({"caption":null})"}}}), "expected a string 'caption'");
  EXPECT_ERROR(captions.make({{{"json", R"({"text":1})"}}}), "expected a string");
  EXPECT_ERROR(captions.make({{{"txt", "a"}, {"png", png}, {"jpg", png}, {"2.webp", png}}}),
               "expected at most 2 images, got fields 'jpg', 'png', '2.webp'; name "
               "those to read with --image-fields, or compile with --images=3");
  EXPECT_ERROR(captions.make({{{"txt", "a"}, {"png", "x"}}}),
               "a.tar: sample '0': field 'png': expected a PNG, JPEG, WebP, "
               "GIF, TIFF or BMP image, got something else");
  // What is named as an image and cannot be read is no text.
  EXPECT_ERROR(captions.make({{{"txt", "a"}, {"heic", "xxxxftypheic"}}}),
               "field 'heic': expected a PNG, JPEG, WebP, GIF, TIFF or BMP "
               "image, got HEIF; convert it");
  EXPECT_ERROR(captions.make({{{"a.txt", "a"}, {"b.txt", "b"}}}),
               "expected one caption, got fields 'a.txt' and 'b.txt'");
  captions.shape.tileSize = 56;
  EXPECT_ERROR(captions.make({{{"txt", "a"}}}), "field 'size': expected 56");
  captions.shape.tileSize = 42;
  captions.shape.vocabulary = 512;
  EXPECT_ERROR(captions.make({{{"txt", "a"}}}), "expected token ids below the "
                                                "vocabulary of 512");
}

} // namespace
