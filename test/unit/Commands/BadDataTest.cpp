//===- BadDataTest.cpp - Data that is broken, empty, changed --------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RunCommand.h"

#include <cmath>
#include <fcntl.h>
#include <unistd.h>

using namespace llrt;
using namespace llrt::test;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

using Words = std::vector<std::string>;

// Twelve captions with images in two shards, and a third of one bad sample.
struct BadData : Folder {
  std::string data = *this / "data", weights = *this / "w.safetensors";

  BadData() {
    writeDataset(data, 12, true);
    writeTensors(weights, tinyWeights());
    writeShard("2.tar", "broken");
  }

  // A shard of one sample, whose image has these bytes.
  void writeShard(const std::string &name, const std::string &image) {
    write("9.png", image);
    write("9.txt", "it is 9");
    ASSERT_EQ(
        std::system(("cd " + (*this / "") + " && tar -cf data/" + name + " 9.png 9.txt").c_str()),
        0);
  }

  Words train(int64_t steps, Words more = {}) {
    Words words = {"train",       "--data=" + data,
                   "--shuffle=1", "--learning-rate=0.01",
                   "--seed=3",    "--steps=" + std::to_string(steps)};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }

  Words evaluate(Words more = {}) {
    Words words = {"evaluate", "--data=" + data, "--weights=" + weights};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }

  std::string checkpoint(const std::string &folder, int64_t step) {
    std::string digits = std::to_string(step);
    std::string path = *this / folder + "/step-" + std::string(8 - digits.size(), '0') + digits;
    return fs::exists(path) ? readAll(path + "/optimizer.safetensors") : "none";
  }
};

bool contains(const std::string &text, const std::string &part) {
  return text.find(part) != text.npos;
}

// A bad sample ends the training behind a checkpoint of the last step, from
// which --on-bad-sample=skip goes on, to where it comes with it from the start.
TEST(BadData, EndsBehindACheckpointOrIsSkipped) {
  BadData files;
  TinyProgram program(2, 2, 1); // 12 samples are 3 steps
  std::string keep = "--checkpoint=" + (files / "c"), skip = "--on-bad-sample=skip";
  std::string where = files.data + "/2.tar: sample '9': field 'png': ";
  Outcome stopped = run(program, files.train(6, {keep}));
  EXPECT_EQ(stopped.status, 2);
  EXPECT_TRUE(contains(stopped.err, "tiny: error: " + where)) << stopped.err;
  EXPECT_TRUE(contains(stopped.err, "(--on-bad-sample=skip goes on without "
                                    "it); the checkpoint of step 3 holds what "
                                    "was done"))
      << stopped.err;
  EXPECT_NE(files.checkpoint("c", 3), "none");

  Outcome skipped = run(program, files.train(6, {keep, skip}));
  EXPECT_EQ(skipped.status, 0) << skipped.err;
  EXPECT_TRUE(contains(skipped.err, "skipped: " + where)) << skipped.err;
  EXPECT_TRUE(contains(skipped.err, "read 12 samples, 12 images\n"
                                    "12 captions cut at 8 tokens\n"
                                    "1 bad sample skipped\n"))
      << skipped.err;
  Outcome whole = run(program, files.train(6, {"--checkpoint=" + (files / "w"), skip}));
  EXPECT_EQ(whole.status, 0) << whole.err;
  EXPECT_EQ(files.checkpoint("c", 6), files.checkpoint("w", 6));
  EXPECT_NE(files.checkpoint("c", 6), "none");
}

// Too many bad samples end the run, even if nothing else comes.
TEST(BadData, LimitOfBadSamples) {
  BadData files;
  TinyProgram program(1, 1, 1);
  for (char name = 'a'; name <= 'l'; ++name)
    files.writeShard(std::string("bad-") + name + ".tar", "broken");
  Outcome outcome = run(program, files.evaluate({"--on-bad-sample=skip"}));
  EXPECT_EQ(outcome.status, 2);
  EXPECT_TRUE(contains(outcome.err, "option '--bad-sample-limit': expected at most 0.1 of "
                                    "the samples to be bad, got 11 of 23; the last one: "))
      << outcome.err;
  outcome = run(program, files.evaluate({"--on-bad-sample=skip", "--bad-sample-limit=0.6"}));
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(json::parse(outcome.out)["skipped"], 13);
  EXPECT_EQ(json::parse(outcome.out)["samples"], 12);
  // A training of which all samples are bad does not go round for ever.
  fs::remove(files.data + "/0.tar");
  fs::remove(files.data + "/1.tar");
  outcome = run(program, files.train(2, {"--on-bad-sample=skip", "--bad-sample-limit=2"}));
  EXPECT_EQ(outcome.status, 2) << outcome.err;
}

// Shards that have changed are refused, or accepted and told.
TEST(BadData, ChangedShards) {
  BadData files;
  TinyProgram program(2, 2, 1);
  std::string keep = "--checkpoint=" + (files / "c");
  ASSERT_EQ(run(program, files.train(6, {keep})).status, 2);
  files.writeShard("2.tar", readAll(files / "9.png") + std::string(20'000, 'x'));
  fs::remove(files.data + "/2.tar"); // repaired by taking the sample out
  Outcome refused = run(program, files.train(6, {keep}));
  EXPECT_EQ(refused.status, 2);
  EXPECT_TRUE(contains(refused.err, "field 'data': expected shard 2 (name, "
                                    "bytes) to be none, as this run has it, "
                                    "got [\"2.tar\","))
      << refused.err;
  EXPECT_TRUE(contains(refused.err, "--changed-data=accept")) << refused.err;
  Outcome accepted = run(program, files.train(6, {keep, "--changed-data=accept"}));
  EXPECT_EQ(accepted.status, 0) << accepted.err;
  EXPECT_TRUE(contains(accepted.err, "shard 2.tar is gone")) << accepted.err;
  // Accepted once, it is the data of the training.
  EXPECT_EQ(run(program, files.train(8, {keep})).status, 0);
  // A shard in the middle of which the training stands has become shorter.
  files.writeShard("1.tar", "broken");
  accepted = run(program, files.train(9, {keep, "--changed-data=accept", "--on-bad-sample=skip"}));
  EXPECT_EQ(accepted.status, 0) << accepted.err;
  EXPECT_TRUE(contains(accepted.err, "shard 1.tar has changed: ")) << accepted.err;
}

// Numbers that are not finite, and metrics that cannot be written, end the
// training behind a checkpoint of the last good step.
TEST(BadData, CheckpointBeforeAnyFailure) {
  BadData files;
  fs::remove(files.data + "/2.tar");
  TinyProgram program(2, 2, 1);
  std::string keep = "--checkpoint=" + (files / "c");
  Words words = files.train(9, {keep, "--weights=" + files.weights});
  words[3] = "--learning-rate=1e37";
  Outcome outcome = run(program, words);
  EXPECT_EQ(outcome.status, 1) << outcome.err;
  EXPECT_TRUE(contains(outcome.err, "expected finite numbers")) << outcome.err;
  EXPECT_TRUE(contains(outcome.err, "; the checkpoint of step 1 holds what was "
                                    "done"))
      << outcome.err;
  EXPECT_NE(files.checkpoint("c", 1), "none");
  EXPECT_EQ(files.checkpoint("c", 2), "none");

  keep = "--checkpoint=" + (files / "d");
  outcome = run(program, files.train(9, {keep, "--metrics=/dev/full"}));
  EXPECT_EQ(outcome.status, 1) << outcome.err;
  EXPECT_TRUE(contains(outcome.err, "/dev/full: cannot be written; the "
                                    "checkpoint of step 1 holds"))
      << outcome.err;
  EXPECT_NE(files.checkpoint("d", 1), "none");
}

// Without a checkpoint it is said at start and end that nothing is kept.
TEST(BadData, NothingIsKept) {
  BadData files;
  fs::remove(files.data + "/2.tar");
  TinyProgram program(2, 2, 1);
  Outcome outcome = run(program, files.train(1));
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_TRUE(outcome.err.starts_with("nothing of this training will be kept: "
                                      "--checkpoint=DIR is not given\n"))
      << outcome.err;
  EXPECT_TRUE(outcome.err.ends_with("nothing of this training is kept\n")) << outcome.err;
}

// What was read, cut, skipped and passed over is told.
TEST(BadData, EvaluateTells) {
  BadData files;
  TinyProgram program(2, 2, 1), text(2, 2, 0);
  Outcome outcome = run(program, files.evaluate({"--on-bad-sample=skip"}));
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  json line = json::parse(outcome.out);
  EXPECT_EQ(line["samples"], 12);
  EXPECT_EQ(line["images"], 12);
  EXPECT_EQ(line["skipped"], 1);
  EXPECT_EQ(line["cut"], 12);
  outcome = run(text, files.evaluate());
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_TRUE(contains(outcome.err, "13 images passed over: the program was "
                                    "compiled for text alone\n"))
      << outcome.err;
  // No image, though the program reads images; fields and members that nothing
  // was read of; captions that are too long, and with bytes that are not UTF-8.
  fs::create_directories(files / "t");
  files.write("t/1.txt", "a long, long, long, long, long, long caption");
  files.write("t/2.txt", "\xff");
  files.write("t/2.cls", "7");
  files.write("t/README", "");
  ASSERT_EQ(std::system(
                ("cd " + (files / "t") + " && tar -cf ../t.tar README 1.txt 2.txt 2.cls").c_str()),
            0);
  Words words = {"evaluate", "--data=" + (files / "t.tar"), "--weights=" + files.weights,
                 "--tokenizer=" + files.data + "/tokenizer.model",
                 "--preprocessor=" + files.data + "/preprocessor_config.json"};
  outcome = run(program, words);
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "1 caption cut at 8 tokens\n"
                         "1 caption with bytes that are not UTF-8, read as U+FFFD\n"
                         "no sample has an image, though the program reads images\n"
                         "fields that nothing was read of: cls (1)\n"
                         "members without a field were passed over, first " +
                             (files / "t.tar") + ": 'README'\n");
  EXPECT_EQ(json::parse(outcome.out)["cut"], 1);

  // Nothing to evaluate, or numbers that are none, are failures.
  files.write("empty.tar", std::string(1024, '\0'));
  words[1] = "--data=" + (files / "empty.tar");
  outcome = run(program, words);
  EXPECT_EQ(outcome.status, 1);
  EXPECT_TRUE(contains(outcome.err, "expected at least one sample that can be "
                                    "read, got none"))
      << outcome.err;
  auto weights = tinyWeights();
  weights["model.language_model.norm.weight"].values[0] = NAN;
  writeTensors(files.weights, weights);
  words[1] = "--data=" + (files / "t.tar");
  outcome = run(program, words);
  EXPECT_EQ(outcome.status, 1);
  EXPECT_TRUE(json::parse(outcome.out)["loss"].is_null()) << outcome.out;
  EXPECT_TRUE(contains(outcome.err, "expected a finite loss")) << outcome.err;
}

// A name that is not UTF-8 is told in UTF-8, and does not harm a checkpoint.
TEST(BadData, MessagesAreUtf8) {
  BadData files;
  fs::remove(files.data + "/2.tar");
  fs::rename(files.data + "/1.tar", files.data + "/\xff.tar");
  TinyProgram program(2, 2, 1);
  std::string keep = "--checkpoint=" + (files / "c");
  for (int64_t steps : {1, 2})
    EXPECT_EQ(run(program, files.train(steps, {keep})).status, 0);
  files.writeShard("z\xff.tar", "broken");
  Outcome outcome = run(program, files.evaluate());
  EXPECT_EQ(outcome.status, 2);
  EXPECT_TRUE(contains(outcome.err, "/z\xEF\xBF\xBD.tar: sample '9'")) << outcome.err;
}

// A prompt may be empty; a list may come from Windows, or the standard input;
// logits that are no numbers end the command.
TEST(BadData, Generate) {
  BadData files;
  writePng(files / "a.png", R, 200);
  TinyProgram program(1, 1, 1);
  auto generate = [&](Words more) {
    Words words = {"generate", "--weights=" + files.weights, "--max-tokens=1",
                   "--tokenizer=" + files.data + "/tokenizer.model",
                   "--preprocessor=" + files.data + "/preprocessor_config.json"};
    words.insert(words.end(), more.begin(), more.end());
    return run(program, words);
  };
  Outcome given = generate({"--prompt="}), none = generate({});
  EXPECT_EQ(given.status, 0) << given.err;
  EXPECT_EQ(given.out, none.out);
  std::string image = files / "a.png";
  std::string plain = files.write("plain", image + "\n" + image + "\n");
  std::string windows = files.write("windows", "\xEF\xBB\xBF" + image + "\r\n\r\n" + image);
  Outcome want = generate({"--prompt=a", "--images-list=" + plain});
  EXPECT_EQ(want.status, 0) << want.err;
  EXPECT_EQ(generate({"--prompt=a", "--images-list=" + windows}).out, want.out);
  int before = dup(STDIN_FILENO), list = open(windows.c_str(), O_RDONLY);
  dup2(list, STDIN_FILENO);
  EXPECT_EQ(generate({"--prompt=a", "--images-list=-"}).out, want.out);
  dup2(before, STDIN_FILENO);
  Outcome empty = generate({"--images-list=" + files.write("empty", "\n")});
  EXPECT_EQ(empty.status, 2);
  EXPECT_TRUE(contains(empty.err, "option '--images-list': expected paths")) << empty.err;

  auto weights = tinyWeights();
  weights["model.language_model.norm.weight"].values[0] = NAN;
  writeTensors(files.weights, weights);
  Outcome failed = generate({"--prompt=a"});
  EXPECT_EQ(failed.status, 1);
  EXPECT_TRUE(contains(failed.err, "expected logits that are numbers, got nan")) << failed.err;
}

} // namespace
