//===- RunCommand.cpp - Executables in a process of their own -------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RunCommand.h"

#include "src/Commands/Commands.h"

#include <cmath>
#include <cstdlib>
#include <fcntl.h>
#include <iostream>
#include <png.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace llrt;
using namespace llrt::test;

pid_t llrt::test::start(TinyProgram &program, std::vector<std::string> words,
                        const std::string &log) {
  words.insert(words.begin(), "/somewhere/tiny");
  const LlrtProgram &compiled = program.get();
  pid_t process = fork();
  if (process != 0)
    return process;
  for (auto [file, target] : {std::pair(".out", STDOUT_FILENO), std::pair(".err", STDERR_FILENO)})
    dup2(open((log + file).c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644), target);
  std::vector<char *> arguments;
  for (std::string &word : words)
    arguments.push_back(word.data());
  int status = runMain(compiled, arguments.size(), arguments.data());
  std::cout.flush();
  std::fflush(nullptr);
  _exit(status);
}

int llrt::test::waitFor(pid_t process) {
  int status = 0;
  waitpid(process, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

Outcome llrt::test::run(TinyProgram &program, std::vector<std::string> words) {
  Folder folder;
  int status = waitFor(start(program, std::move(words), folder / "log"));
  return {status, readAll(folder / "log.out"), readAll(folder / "log.err")};
}

Tensors llrt::test::readTensors(const std::string &path) {
  SafeTensors file(path);
  Tensors result;
  for (const auto &[name, view] : file.tensors()) {
    result[name].resize(view.elements());
    toDouble(view, result[name].data(), name);
  }
  return result;
}

void llrt::test::writeTensors(const std::string &path,
                              const std::map<std::string, FloatTensor> &tensors) {
  std::vector<TensorToWrite> list;
  for (const auto &[name, tensor] : tensors)
    list.push_back({name, DType::F32, tensor.shape, tensor.values.data()});
  writeSafeTensors(path, list);
}

std::map<std::string, FloatTensor>
llrt::test::unlikeWeights(const std::map<std::string, std::vector<int64_t>> &shapes) {
  std::map<std::string, FloatTensor> weights;
  int64_t i = 0;
  for (const auto &[name, shape] : shapes) {
    FloatTensor &tensor = weights[name] = {shape, {}};
    int64_t elements = 1;
    for (int64_t size : shape)
      elements *= size;
    for (int64_t e = 0; e < elements; ++e)
      tensor.values.push_back(float(std::sin(double(++i) * 1.7)));
  }
  return weights;
}

std::map<std::string, FloatTensor> llrt::test::tinyWeights() {
  return unlikeWeights({{"model.language_model.embed_tokens.weight", {V + X, D}},
                        {"model.language_model.norm.weight", {D}},
                        {"model.vision_model.gate", {1}},
                        {"lm_head.weight", {V, D}}});
}

void llrt::test::writeBatch(const std::string &path, const std::vector<int64_t> &tokens,
                            int64_t images) {
  int64_t B = tokens.size();
  std::vector<int64_t> ids(B * S), labels(B * S, -100), mask(B * S, 1);
  for (int64_t b = 0; b < B; ++b)
    for (int64_t s = 0; s < S; ++s) {
      ids[b * S + s] = s == 1 && images ? imageToken : (b * 31 + s * 7) % V;
      if (s >= S - tokens[b]) // unshifted: all but the first can be predicted
        labels[b * S + s] = ids[b * S + s];
    }
  std::vector<int64_t> ratios(B, 1), tiles(B * 4), cross(B * S * 4);
  std::vector<float> pixels(B * 4 * 3 * R * R);
  for (int64_t b = 0; b < B; ++b) {
    tiles[b * 4] = 1;
    std::fill_n(pixels.begin() + b * 4 * 3 * R * R, 3 * R * R, float(b + 1));
    for (int64_t s = 1; s < S; ++s)
      cross[(b * S + s) * 4] = 1;
  }
  std::vector<TensorToWrite> list = {{"input_ids", DType::I64, {B, S}, ids.data()},
                                     {"labels", DType::I64, {B, S}, labels.data()},
                                     {"attention_mask", DType::I64, {B, S}, mask.data()}};
  if (images) {
    list.push_back({"pixel_values", DType::F32, {B, 1, 4, 3, R, R}, pixels.data()});
    list.push_back({"aspect_ratio_ids", DType::I64, {B, 1}, ratios.data()});
    list.push_back({"aspect_ratio_mask", DType::I64, {B, 1, 4}, tiles.data()});
    list.push_back({"cross_attention_mask", DType::I64, {B, S, 1, 4}, cross.data()});
  }
  writeSafeTensors(path, list);
}

void llrt::test::writePng(const std::string &path, int64_t side, uint8_t gray) {
  png_image image = {};
  image.version = PNG_IMAGE_VERSION;
  image.width = image.height = png_uint_32(side);
  image.format = PNG_FORMAT_GRAY;
  std::vector<uint8_t> pixels(side * side, gray);
  ASSERT_TRUE(png_image_write_to_file(&image, path.c_str(), 0, pixels.data(), 0, nullptr));
}

void llrt::test::writeDataset(const std::string &folder, int64_t samples, bool images) {
  namespace fs = std::filesystem;
  fs::create_directories(folder + "/files");
  for (int64_t i = 0; i < samples; ++i) {
    std::string base = folder + "/files/" + std::to_string(1000 + i);
    std::ofstream(base + ".txt") << "it is " << i;
    if (images)
      writePng(base + ".png", R, uint8_t(10 * i));
  }
  // Two shards: names that begin with 1000 to 1003, and the others.
  std::string tar = "cd " + folder + "/files && tar --sort=name -cf ";
  ASSERT_EQ(std::system((tar + "../0.tar $(ls | grep '^100[0-3]')").c_str()), 0);
  ASSERT_EQ(std::system((tar + "../1.tar $(ls | grep -v '^100[0-3]')").c_str()), 0);
  fs::remove_all(folder + "/files");
  fs::copy_file(std::string(LLRT_TEST_DATA_DIR) + "/../Data/tokenizer_small.model",
                folder + "/tokenizer.model");
  if (images)
    std::ofstream(folder + "/preprocessor_config.json") << R"({"size": {"height": 14, "width": 14},
               "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]})";
}
