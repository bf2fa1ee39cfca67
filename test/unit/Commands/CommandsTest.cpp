//===- CommandsTest.cpp - info, step, evaluate, generate ------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RunCommand.h"

#include "llrt/ProgramFields.h"
#include "src/Data/Tokenizer.h"

#include <cmath>

using namespace llrt;
using namespace llrt::test;
using nlohmann::json;

namespace {

const char *embeddingKey = "model.language_model.embed_tokens.weight";

// A folder with weights and a batch of two samples, with 3 and 5 labels; 3 and
// 6 with images, of which one is predicted from the marker.
struct Files : Folder {
  std::string weights = *this / "w.safetensors", batch = *this / "b.safetensors";

  explicit Files(int64_t images = 0) {
    writeTensors(weights, tinyWeights());
    writeBatch(batch, {3, images ? 6 : 5}, images);
  }

  // `step` with these files and `more`.
  Outcome step(TinyProgram &program, std::vector<std::string> more = {}) {
    std::vector<std::string> words = {"step", "--weights=" + weights, "--batch=" + batch};
    words.insert(words.end(), more.begin(), more.end());
    return run(program, words);
  }
};

// The logits of a token without an image, by the formula of TinyProgram.h.
std::vector<double> logitsOf(int64_t id) {
  std::map<std::string, FloatTensor> w = tinyWeights();
  std::vector<double> logits(V);
  for (int64_t v = 0; v < V; ++v)
    for (int64_t d = 0; d < D; ++d)
      logits[v] += double(w["lm_head.weight"].values[v * D + d]) *
                   w["model.language_model.norm.weight"].values[d] *
                   w[embeddingKey].values[id * D + d];
  return logits;
}

// The sum of the losses of sample `b` of a text batch with `tokens` labels.
double lossOf(int64_t b, int64_t tokens) {
  double loss = 0;
  for (int64_t s = S - tokens; s < S; ++s) { // predicted from the token before
    std::vector<double> logits = logitsOf((b * 31 + (s - 1) * 7) % V);
    double total = 0;
    for (double x : logits)
      total += std::exp(x);
    loss += std::log(total) - logits[(b * 31 + s * 7) % V];
  }
  return loss;
}

double distance(const std::vector<double> &a, const std::vector<double> &b) {
  double sum = 0;
  EXPECT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i)
    sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum);
}

TEST(Main, ExitCodesAndUsage) {
  TinyProgram program(1, 1);
  Outcome none = run(program, {});
  EXPECT_EQ(none.status, 2);
  EXPECT_NE(none.err.find("usage: tiny COMMAND"), std::string::npos);
  Outcome help = run(program, {"--help"});
  EXPECT_EQ(help.status, 0);
  EXPECT_EQ(help.out, none.err);
  EXPECT_EQ(run(program, {"--version"}).out, "llrt 1, program tiny\n");
  Outcome unknown = run(program, {"trian"});
  EXPECT_EQ(unknown.status, 2);
  EXPECT_EQ(unknown.err, "tiny: error: unknown command 'trian'; did you mean "
                         "'train'?\n");
  for (const char *command : {"info", "step", "train", "evaluate", "generate"}) {
    Outcome text = run(program, {command, "--help"});
    EXPECT_EQ(text.status, 0);
    EXPECT_NE(text.out.find(std::string("usage: tiny ") + command), text.out.npos);
  }
  program.content["version"] = 7;
  Outcome broken = run(program, {"info"});
  EXPECT_EQ(broken.status, 2);
  EXPECT_EQ(broken.err, "tiny: error: the program in this executable: field "
                        "'version': expected " +
                            std::to_string(kProgramVersion) + ", got 7\n");
}

TEST(Info, ListsMemoryAndParameters) {
  TinyProgram program(2, 1, 1);
  Outcome outcome = run(program, {"info"});
  EXPECT_EQ(outcome.status, 0);
  std::map<std::string, int64_t> totals;
  for (const json &arena : program.content["stages"][0]["arenas"])
    for (const auto &[name, bytes] : arena["bytes"].items())
      totals[name] += bytes.get<int64_t>();
  EXPECT_LT(totals["forward"], totals["step"]);
  size_t at = 0;
  for (auto [title, name] :
       {std::pair("\nmemory of a rank, GB (10^9 bytes)\n", "step"),
        std::pair("\nmemory of a rank that evaluates or generates\n", "forward")}) {
    size_t begin = outcome.out.find(title, at);
    ASSERT_NE(begin, std::string::npos) << title;
    at = outcome.out.find("  " + std::to_string(totals[name]) + "\n", begin);
    ASSERT_NE(at, std::string::npos) << title;
  }
  EXPECT_NE(outcome.out.find("computation\n  feature_taps = input\n  row_mask "
                             "= both\n\noptions\n"),
            std::string::npos);
  EXPECT_NE(outcome.out.find("  lm_head.weight [1012, 4] f32\n"), std::string::npos);
  EXPECT_NE(outcome.out.find(std::string(embeddingKey) + " [1020, 4] rows 0..1012 f32 frozen\n"),
            std::string::npos);
}

// Loss, token count and logits are those of the formula.
TEST(Step, LossAndLogits) {
  Files files;
  TinyProgram program(2, 1);
  Outcome outcome = files.step(program, {"--logits=" + (files / "l")});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  json line = json::parse(outcome.out);
  EXPECT_EQ(line["step"], 1);
  EXPECT_EQ(line["tokens"], 8);
  EXPECT_NEAR(line["loss"], (lossOf(0, 3) + lossOf(1, 5)) / 8, 1e-4);
  SafeTensors logits(files / "l");
  EXPECT_EQ(logits.at("logits").shape, (std::vector<int64_t>{2, S, V}));
  std::vector<double> got = readTensors(files / "l")["logits"];
  std::vector<double> want = logitsOf(31 + 2 * 7); // sample 1, position 2
  got = {got.begin() + (S + 2) * V, got.begin() + (S + 3) * V};
  EXPECT_LT(distance(got, want), 1e-4);
}

// Micro-batches one after the other give what one batch gives.
TEST(Step, MicroBatchesAreOneBatch) {
  Files files(1);
  std::vector<Tensors> results;
  std::vector<json> lines;
  TinyProgram together(2, 1, 1), apart(1, 2, 1);
  for (TinyProgram *program : {&together, &apart}) {
    Outcome outcome =
        files.step(*program, {"--gradients=" + (files / "g"), "--logits=" + (files / "l")});
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    lines.push_back(json::parse(outcome.out));
    results.push_back(readTensors(files / "g"));
    results.back().merge(readTensors(files / "l"));
  }
  EXPECT_NEAR(lines[0]["loss"], lines[1]["loss"], 1e-5);
  EXPECT_EQ(results[0].size(), 5u);
  double squares = 0;
  for (const auto &[name, values] : results[0]) {
    double norm = distance(values, std::vector<double>(values.size()));
    EXPECT_GT(norm, 0) << name; // the gate's too: images have arrived
    EXPECT_LT(distance(values, results[1][name]), 1e-5 * norm) << name;
    squares += name == "logits" ? 0 : norm * norm;
  }
  EXPECT_NEAR(lines[0]["gradient_norm"], std::sqrt(squares), 1e-4);
}

// The gradient along a direction is the slope of the loss along it.
TEST(Step, GradientsAreTheSlopeOfTheLoss) {
  Files files(1);
  TinyProgram program(2, 1, 1);
  Outcome outcome = files.step(program, {"--gradients=" + (files / "g")});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  Tensors gradients = readTensors(files / "g");
  double slope = 0, h = 1e-2;
  std::map<std::string, FloatTensor> weights = tinyWeights();
  for (auto &[name, tensor] : weights)
    for (size_t i = 0; i < tensor.values.size(); ++i) {
      if (name == embeddingKey && i < V * D)
        continue; // frozen
      double direction = std::cos(double(i) * 3.1);
      slope += direction * gradients[name][i];
      tensor.values[i] += float(h * direction);
    }
  double before = json::parse(outcome.out)["loss"];
  writeTensors(files.weights, weights);
  double up = json::parse(files.step(program).out)["loss"];
  for (auto &[name, tensor] : weights)
    for (size_t i = 0; i < tensor.values.size(); ++i)
      if (name != embeddingKey || i >= V * D)
        tensor.values[i] -= float(2 * h * std::cos(double(i) * 3.1));
  writeTensors(files.weights, weights);
  double down = json::parse(files.step(program).out)["loss"];
  EXPECT_NEAR((up - down) / (2 * h), slope, 1e-2 * std::fabs(slope));
  EXPECT_GT(std::fabs(up - before), 1e-4);
}

// The first step of AdamW, with clipping and decay; gradients are written as
// they were before clipping.
TEST(Step, Update) {
  Files files;
  TinyProgram program(2, 1);
  std::vector<std::string> words = {"--gradients=" + (files / "g"), "--updated=" + (files / "u"),
                                    "--learning-rate=0.01", "--epsilon=0.125",
                                    "--weight-decay=0.5"};
  Outcome outcome = files.step(program, words);
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  double norm = json::parse(outcome.out)["gradient_norm"];
  Tensors whole = readTensors(files / "g");
  words.push_back("--clip=" + std::to_string(norm / 2));
  ASSERT_EQ(files.step(program, words).status, 0);
  EXPECT_EQ(readTensors(files / "g"), whole);
  Tensors updated = readTensors(files / "u");
  for (auto &[name, tensor] : tinyWeights())
    for (size_t i = 0; i < tensor.values.size(); ++i) {
      double w = tensor.values[i];
      if (name != embeddingKey || i >= V * D) {
        double g = whole[name][i] / 2;
        w -= 0.01 * (0.5 * w + g / (std::fabs(g) + 0.125));
      }
      ASSERT_NEAR(updated[name][i], w, 1e-6) << name << " " << i;
    }
}

// --steps on one batch: the loss falls, and the first step's gradients are
// kept.
TEST(Step, SeveralSteps) {
  Files files;
  TinyProgram program(2, 1);
  ASSERT_EQ(files.step(program, {"--gradients=" + (files / "1")}).status, 0);
  Outcome outcome = files.step(
      program, {"--gradients=" + (files / "3"), "--steps=3", "--trace=" + (files / "t")});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(readTensors(files / "1"), readTensors(files / "3"));
  std::istringstream lines(outcome.out);
  std::vector<double> losses;
  for (std::string line; std::getline(lines, line);)
    losses.push_back(json::parse(line)["loss"]);
  ASSERT_EQ(losses.size(), 3u);
  EXPECT_LT(losses[1], losses[0]);
  EXPECT_LT(losses[2], losses[1]);
  // Of each step: four gradients and the sums set to zero, the model and the run that it
  // is, its loss added, the gradient norm, added, the hyperparameters, the update; before
  // all the name of the rank.
  json events = json::parse(readAll(files / "t"))["traceEvents"];
  ASSERT_EQ(events.size(), 37u);
  EXPECT_EQ(events[0]["args"]["name"], "rank 0");
  std::vector<std::string> names;
  for (size_t i = 18; i < 25; ++i) {
    names.push_back(events[i]["name"]);
    EXPECT_EQ(events[i]["args"]["step"], 2);
  }
  EXPECT_EQ(names, (std::vector<std::string>{"step", "step", "add_once", "gradient_norm",
                                             "add_once", "clip_norm", "adamw"}));
}

TEST(Step, NoValidToken) {
  Files files;
  writeBatch(files.batch, {0, 0});
  TinyProgram program(2, 1);
  Outcome outcome = files.step(program, {"--gradients=" + (files / "g")});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  json line = json::parse(outcome.out);
  EXPECT_EQ(line["loss"], 0.0);
  EXPECT_EQ(line["tokens"], 0);
  EXPECT_EQ(line["gradient_norm"], 0.0);
  for (const auto &[name, values] : readTensors(files / "g"))
    EXPECT_EQ(values, std::vector<double>(values.size())) << name;
}

TEST(Step, Refusals) {
  Files files;
  TinyProgram program(1, 3);
  Outcome outcome = files.step(program);
  EXPECT_EQ(outcome.status, 2);
  EXPECT_EQ(outcome.err, "tiny: error: " + files.batch +
                             ": tensor 'input_ids': expected the shape [3, 8], got "
                             "[2, 8]\n");
  TinyProgram right(2, 1);
  EXPECT_EQ(files.step(right, {"--steps=0"}).status, 2);
  EXPECT_EQ(files.step(right, {"--gradients=/nowhere/g"}).status, 2);
  outcome = files.step(right, {"--logits=/nowhere/l"});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_EQ(outcome.err, "tiny: error: /nowhere/l: cannot create the file: No "
                         "such file or directory\n");
  outcome = files.step(right, {"--threads=5000"});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_EQ(outcome.err, "tiny: error: option '--threads': expected at most "
                         "4096, got 5000\n");
}

// Five samples in global batches of four: the ignored fillers change nothing.
TEST(Evaluate, PartialBatches) {
  for (int64_t images : {0, 1}) {
    Files files;
    writeDataset(files / "data", 5, images);
    std::vector<json> lines;
    TinyProgram single(1, 1, images), several(2, 2, images);
    for (TinyProgram *program : {&single, &several}) {
      Outcome outcome =
          run(*program, {"evaluate", "--weights=" + files.weights, "--data=" + (files / "data")});
      ASSERT_EQ(outcome.status, 0) << outcome.err;
      lines.push_back(json::parse(outcome.out));
    }
    EXPECT_EQ(lines[0]["samples"], 5);
    EXPECT_EQ(lines[1]["samples"], 5);
    EXPECT_EQ(lines[0]["tokens"], lines[1]["tokens"]);
    EXPECT_GT(lines[0]["tokens"], 5);
    EXPECT_NEAR(lines[0]["loss"], lines[1]["loss"], 1e-5);
  }
}

// A tokenizer whose ids are not the program's is refused.
TEST(Evaluate, OtherTokens) {
  Files files;
  writeDataset(files / "data", 5, false);
  TinyProgram program(1, 1);
  program.content["model"]["begin_token"] = 3;
  Outcome outcome =
      run(program, {"evaluate", "--weights=" + files.weights, "--data=" + (files / "data")});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_EQ(outcome.err, "tiny: error: " + (files / "data") +
                             "/tokenizer.model: token '<|begin_of_text|>': expected "
                             "id 3 of the program, got 756\n");
}

// Weights with which the most likely token after `word` is `next`: hidden
// states are points on a circle, one per token, and W_next is the point of
// `word`.
struct Chain : Files {
  std::map<std::string, FloatTensor> weights = tinyWeights();

  Chain() : Files(1) {
    writeDataset(*this / "data", 5, true);
    for (auto &[name, tensor] : weights)
      std::fill(tensor.values.begin(), tensor.values.end(), 0.f);
    std::fill_n(weights["model.language_model.norm.weight"].values.begin(), D, 1.f);
    for (int64_t id = 0; id < V; ++id)
      point(embeddingKey, id, id);
  }

  void point(const char *name, int64_t row, int64_t id) {
    double angle = 2 * M_PI * double(id) / double(V);
    weights[name].values[row * D] = float(std::cos(angle));
    weights[name].values[row * D + 1] = float(std::sin(angle));
  }

  void follow(int64_t word, int64_t next) { point("lm_head.weight", next, word); }

  Outcome generate(TinyProgram &program, std::vector<std::string> more) {
    writeTensors(Files::weights, weights);
    std::vector<std::string> words = {"generate", "--weights=" + Files::weights,
                                      "--tokenizer=" + (*this / "data/tokenizer.model"),
                                      "--preprocessor=" +
                                          (*this / "data/preprocessor_config.json")};
    words.insert(words.end(), more.begin(), more.end());
    return run(program, words);
  }
};

// The id of a byte in the tokenizer of the tests.
int64_t idOf(char c) {
  Tokenizer tokenizer(std::string(LLRT_TEST_DATA_DIR) + "/../Data/tokenizer_small.model");
  return tokenizer.encode(std::string(1, c))[0];
}

TEST(Generate, FollowsTheLikeliestToken) {
  Chain files;
  files.follow(idOf('a'), idOf('X'));
  files.follow(idOf('X'), idOf('Z'));
  files.follow(idOf('Z'), endToken);
  for (int64_t batch : {1, 2}) {
    TinyProgram program(batch, 2, 1);
    Outcome outcome = files.generate(program, {"--prompt=a"});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_EQ(outcome.out, "aXZ\n");
    EXPECT_EQ(files.generate(program, {"--prompt=a", "--max-tokens=1"}).out, "aX\n");
  }
  // Without an end the text length, 8, is the end: begin, a, six more.
  files.follow(idOf('Z'), idOf('X'));
  std::fill_n(files.weights["lm_head.weight"].values.begin() + endToken * D, D, 0.f);
  files.follow(idOf('X'), idOf('X'));
  TinyProgram program(1, 1, 1);
  EXPECT_EQ(files.generate(program, {"--prompt=a"}).status, 0);
  EXPECT_EQ(files.generate(program, {"--prompt=X"}).out, "XXXXXXX\n");
}

// A white image moves every hidden state, a black one the other way.
TEST(Generate, SeesImages) {
  Chain files;
  writePng(files / "white.png", R, 255);
  writePng(files / "black.png", R, 0);
  auto &head = files.weights["lm_head.weight"].values;
  head[idOf('W') * D + 2] = 100; // likely where the image is bright
  head[idOf('B') * D + 2] = -100;
  files.weights["model.vision_model.gate"].values[0] = 1;
  files.write("list", (files / "white.png") + "\n" + (files / "black.png") + "\n" +
                          (files / "white.png") + "\n");
  for (int64_t batch : {1, 2}) {
    TinyProgram program(batch, 1, 1);
    EXPECT_EQ(
        files
            .generate(program, {"--prompt=a", "--image=" + (files / "white.png"), "--max-tokens=2"})
            .out,
        "aWW\n");
    EXPECT_EQ(files
                  .generate(program,
                            {"--prompt=a", "--images-list=" + (files / "list"), "--max-tokens=2"})
                  .out,
              (files / "white.png") + "\tWW\n" + (files / "black.png") + "\tBB\n" +
                  (files / "white.png") + "\tWW\n");
  }
}

TEST(Generate, Refusals) {
  Chain files;
  TinyProgram program(1, 1, 1), text(1, 1, 0);
  Outcome outcome = files.generate(program, {"--prompt=1 2 3 4 5 6 7 8 9"});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_NE(outcome.err.find("option '--prompt': expected at most 7 tokens"), std::string::npos)
      << outcome.err;
  outcome = files.generate(text, {"--image=x.png"});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_NE(outcome.err.find("option '--image': expected at most 0 images, as the "
                             "program was compiled, got 1"),
            std::string::npos)
      << outcome.err;
  EXPECT_EQ(files.generate(program, {"--image=" + (files / "none.png")}).status, 2);
}

} // namespace
