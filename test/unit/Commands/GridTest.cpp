//===- GridTest.cpp - Commands on grids of ranks --------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "GridProgram.h"

#include <chrono>
#include <cmath>
#include <csignal>
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace llrt;
using namespace llrt::test;
using nlohmann::json;

namespace {

// A folder with weights and a batch of 8 samples.
struct Files : Folder {
  Files() {
    writeTensors(*this / "w.safetensors", gridWeights());
    writeBatch(*this / "b.safetensors", {3, 5, 0, 7, 1, 4, 6, 2});
  }

  // `step`, all that it writes to NAME.g, .u and .l.
  std::vector<std::string> step(const std::string &name, std::vector<std::string> more = {}) {
    std::vector<std::string> words = {"step",
                                      "--weights=" + (*this / "w.safetensors"),
                                      "--batch=" + (*this / "b.safetensors"),
                                      "--steps=2",
                                      "--clip=0.5",
                                      "--weight-decay=0.1",
                                      "--gradients=" + (*this / name) + ".g",
                                      "--updated=" + (*this / name) + ".u",
                                      "--logits=" + (*this / name) + ".l"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }

  Tensors results(const std::string &name) {
    Tensors all;
    for (const char *part : {".g", ".u", ".l"})
      for (auto &[key, values] : readTensors(*this / name + part))
        all[part + key] = values;
    return all;
  }
};

double distance(const std::vector<double> &a, const std::vector<double> &b) {
  double sum = 0;
  EXPECT_EQ(a.size(), b.size());
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum);
}

// The lines of `step` without the time.
std::vector<json> linesOf(const std::string &text) {
  std::vector<json> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    lines.push_back(json::parse(line));
    lines.back().erase("seconds");
  }
  return lines;
}

// Each has a global batch of 8: dp x micro-batches x batch.
const GridSizes single = {.batch = 8},
                grids[] = {
                    {.dp = 2, .batch = 2, .microBatches = 2},
                    {.tp = 2, .batch = 4, .microBatches = 2},
                    {.cp = 2, .batch = 4, .microBatches = 2},
                    {.pp = 2, .batch = 2, .microBatches = 4},
                    {.dp = 2, .batch = 4, .shard = 1},
                    {.dp = 2, .cp = 2, .batch = 2, .microBatches = 2, .shard = 2},
                    {.dp = 2, .pp = 2, .cp = 2, .tp = 2, .batch = 2, .microBatches = 2},
                    {.dp = 2, .pp = 2, .tp = 4, .batch = 1, .microBatches = 4, .shard = 1},
};

// Loss, gradients, updated weights and logits do not depend on the grid.
TEST(Grid, EveryGridGivesWhatOneRankGives) {
  Files files;
  Outcome one = runThreads(single, files.step("one"));
  ASSERT_EQ(one.status, 0) << one.err;
  Tensors want = files.results("one");
  EXPECT_EQ(want.size(), 9u);
  std::vector<json> wantLines = linesOf(one.out);
  ASSERT_EQ(wantLines.size(), 2u);
  EXPECT_NE(wantLines[0]["loss"], wantLines[1]["loss"]);
  for (const GridSizes &grid : grids) {
    SCOPED_TRACE(grid.text());
    Outcome outcome = runThreads(grid, files.step("many"));
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    std::vector<json> lines = linesOf(outcome.out);
    ASSERT_EQ(lines.size(), 2u);
    for (size_t i : {0, 1})
      for (const char *field : {"loss", "tokens", "gradient_norm"})
        EXPECT_NEAR(lines[i][field], wantLines[i][field], 1e-12) << field;
    for (auto &[name, values] : files.results("many")) {
      double norm = distance(values, std::vector<double>(values.size()));
      EXPECT_GT(norm, 0) << name;
      EXPECT_LT(distance(values, want[name]), 1e-12 * norm) << name;
    }
  }
}

// The gradient along a direction is the slope of the loss along it.
TEST(Grid, GradientsAreTheSlopeOfTheLoss) {
  Files files;
  GridSizes grid = grids[6];
  std::map<std::string, FloatTensor> weights = gridWeights();
  Outcome here = runThreads(grid, files.step("x"));
  ASSERT_EQ(here.status, 0) << here.err;
  Tensors gradients = readTensors(files / "x.g");
  double slope = 0, h = 1e-3;
  for (auto &[name, tensor] : weights)
    for (size_t i = 0; i < tensor.values.size(); ++i) {
      // As moved, after rounding to the f32 of the file.
      float before = tensor.values[i];
      tensor.values[i] += float(h * std::cos(double(i) * 3.1));
      slope += (double(tensor.values[i]) - before) * gradients[name][i];
    }
  writeTensors(files / "w.safetensors", weights);
  Outcome there = runThreads(grid, files.step("x"));
  double moved = double(linesOf(there.out)[0]["loss"]) - double(linesOf(here.out)[0]["loss"]);
  EXPECT_NEAR(moved, slope, 0.02 * std::fabs(slope));
  EXPECT_GT(std::fabs(slope), 1e-5);
}

// Ranks as threads, as MPI processes, as processes that find each other over TCP.
using Runner = Outcome (*)(const GridSizes &, std::vector<std::string>);
Outcome runMpiRanks(const GridSizes &sizes, std::vector<std::string> words) {
  return runMpi(sizes, std::move(words));
}

// Threads, MPI and TCP give the same bits.
TEST(Grid, ProcessesGiveTheBitsOfThreads) {
  Files files;
  for (size_t i : {0, 3, 5, 6}) {
    SCOPED_TRACE(grids[i].text());
    Outcome threads = runThreads(grids[i], files.step("threads"));
    ASSERT_EQ(threads.status, 0) << threads.err;
    for (Runner run : {Runner(runMpiRanks), Runner(runTcp)}) {
      Outcome other = run(grids[i], files.step("other"));
      ASSERT_EQ(other.status, 0) << other.err;
      EXPECT_EQ(other.err, threads.err);
      EXPECT_EQ(linesOf(other.out), linesOf(threads.out)); // only rank 0 prints
      for (const char *part : {".g", ".u", ".l"})
        EXPECT_EQ(readAll(files / "other" + part), readAll(files / "threads" + part)) << part;
    }
  }
}

// The trace of a rank holds every entry and every item of its programs, in each
// stream in the order of the program.
TEST(Grid, TraceIsTheProgram) {
  Files files;
  GridSizes sizes = grids[6];
  json program = GridProgram(sizes).content;
  for (Runner run : {runThreads, runMpiRanks, runTcp}) {
    SCOPED_TRACE(run == runTcp ? "TCP" : run == runThreads ? "threads" : "MPI");
    std::vector<std::string> words = files.step("x", {"--trace=" + (files / "t")});
    Outcome outcome = run(sizes, words);
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    json events = json::parse(readAll(files / "t"))["traceEvents"];
    int64_t checked = 0;
    for (int64_t rank = 0; rank < sizes.ranks(); ++rank) {
      const json &stage = program["stages"][rank / (sizes.cp * sizes.tp) % 2];
      for (int64_t step : {1, 2}) {
        // By stream: entry, item (-1: none), what, communicator or block.
        std::map<int64_t, std::vector<json>> want, got;
        for (size_t e = 0; e < stage["programs"]["step"].size(); ++e) {
          const json &entry = stage["programs"]["step"][e];
          auto expect = [&](const json &action, int64_t item) {
            std::string kind = action["do"], with;
            if (kind == "call")
              with = action["block"];
            else if (action.contains("communicator"))
              with = program["communicators"][size_t(action["communicator"])]["name"];
            want[action.value("stream", 0)].push_back(
                {e, item, kind, with, action.value("tag", json())});
          };
          if (entry["do"] == "run") {
            const json &items = stage["graphs"][std::string(entry["graph"])]["items"];
            for (size_t i = 0; i < items.size(); ++i)
              expect(items[i], int64_t(i));
          }
          expect(entry, -1);
        }
        double last = 0;
        for (const json &event : events) {
          const json &args = event["args"];
          if (event["pid"] != rank || event["ph"] != "X" || args["step"] != step)
            continue;
          std::string with = args.value("block", args.value("communicator", ""));
          got[event["tid"]].push_back(
              {args["entry"], args.value("item", -1), args["do"], with, args.value("tag", json())});
          double end = double(event["ts"]) + double(event["dur"]);
          EXPECT_GE(event["dur"], 0);
          EXPECT_GE(end, last); // in the order in which they ended
          last = end;
          ++checked;
        }
        EXPECT_EQ(got, want) << "rank " << rank;
      }
    }
    EXPECT_GT(checked, 500);
  }
}

// A training goes on with any grid from the checkpoint of any other, and all
// grids begin with the same weights.
TEST(Grid, CheckpointsDoNotDependOnTheGrid) {
  Folder folder;
  writeDataset(folder / "data", 9, false);
  auto words = [&](int64_t steps, const std::string &checkpoint) {
    return std::vector<std::string>{"train",
                                    "--data=" + (folder / "data"),
                                    "--steps=" + std::to_string(steps),
                                    "--learning-rate=0.01",
                                    "--seed=5",
                                    "--checkpoint=" + (folder / checkpoint),
                                    "--checkpoint-every=1",
                                    "--keep=9",
                                    "--metrics=" + (folder / checkpoint) + ".jsonl"};
  };
  Outcome one = runThreads(single, words(4, "one"));
  ASSERT_EQ(one.status, 0) << one.err;
  // The first step here, the second there, the third and fourth by processes.
  Outcome first = runThreads(grids[5], words(1, "many"));
  ASSERT_EQ(first.status, 0) << first.err;
  Outcome second = runThreads(grids[7], words(2, "many"));
  ASSERT_EQ(second.status, 0) << second.err;
  EXPECT_NE(second.err.find("going on from"), std::string::npos);
  Outcome third = runMpi(grids[3], words(3, "many"));
  ASSERT_EQ(third.status, 0) << third.err;
  Outcome fourth = runTcp(grids[5], words(4, "many"));
  ASSERT_EQ(fourth.status, 0) << fourth.err;
  for (const char *file : {"model", "optimizer"})
    for (const char *step : {"1", "2", "3", "4"}) {
      std::string path = std::string("/step-0000000") + step + "/" + file + ".safetensors";
      Tensors got = readTensors(folder / "many" + path);
      Tensors want = readTensors(folder / "one" + path);
      ASSERT_EQ(got.size(), want.size());
      for (auto &[name, values] : want) {
        double norm = distance(values, std::vector<double>(values.size()));
        EXPECT_LT(distance(values, got[name]), 1e-10 * (norm + 1e-10)) << path << " " << name;
      }
    }
  // What was drawn, before any update, to the bit.
  EXPECT_EQ(linesOf(readAll(folder / "many.jsonl")).size(), 4u);
}

TEST(Grid, EvaluateAndGenerate) {
  Files files;
  writeDataset(files / "data", 5, false); // fewer samples than a global batch
  std::vector<std::string> evaluate = {"evaluate", "--data=" + (files / "data"),
                                       "--weights=" + (files / "w.safetensors")},
                           generate = {"generate", "--prompt=it is",
                                       "--weights=" + (files / "w.safetensors"),
                                       "--tokenizer=" + (files / "data/tokenizer.model")};
  Outcome one = runThreads(single, evaluate);
  ASSERT_EQ(one.status, 0) << one.err;
  json want = json::parse(one.out);
  EXPECT_EQ(want["samples"], 5);
  Outcome text = runThreads(single, generate);
  ASSERT_EQ(text.status, 0) << text.err;
  EXPECT_GT(text.out.size(), std::string("it is\n").size());
  for (size_t i : {0, 2, 6, 7})
    for (Runner run : {runThreads, runMpiRanks, runTcp}) {
      if (run != runThreads && i != 6)
        continue;
      SCOPED_TRACE(grids[i].text());
      Outcome loss = run(grids[i], evaluate);
      ASSERT_EQ(loss.status, 0) << loss.err;
      EXPECT_NEAR(json::parse(loss.out)["loss"], want["loss"], 1e-12);
      EXPECT_EQ(json::parse(loss.out)["tokens"], want["tokens"]);
      EXPECT_EQ(run(grids[i], generate).out, text.out);
    }
}

TEST(Grid, InfoShowsStagesAndParts) {
  Outcome outcome = runThreads(grids[7], {"info"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  for (const char *line :
       {"ranks       16, outermost axis first: dp 2 pp 2 cp 1 tp 4\n", "\n  stage 1  ",
        "  model.mix.weight [4, 4] f64, stage 0, dimension 1 split over tp, "
        "state sharded over dp\n",
        "  lm_head.weight [1012, 4] f64, stage 1, dimension 0 split over tp"})
    EXPECT_NE(outcome.out.find(line), std::string::npos) << line;
}

//===----------------------------------------------------------------------===//
// What goes wrong
//===----------------------------------------------------------------------===//

// The process of rank `rank` of a job whose command line holds `word`.
pid_t findProcess(const std::string &word, int64_t rank) {
  std::string variable = "OMPI_COMM_WORLD_RANK=" + std::to_string(rank);
  for (const auto &entry : std::filesystem::directory_iterator("/proc")) {
    std::string path = entry.path();
    auto holds = [&](const char *file, const std::string &text) {
      std::ifstream stream(path + file);
      return std::string(std::istreambuf_iterator<char>(stream), {}).find(text) !=
             std::string::npos;
    };
    if (holds("/cmdline", word) && holds("/environ", variable + '\0'))
      return std::stol(entry.path().filename());
  }
  return -1;
}

// Two processes of which the second gets `signal` while they train.
struct Disturbed : Files {
  int status;
  std::string err;
  double seconds; // from the signal to the end

  explicit Disturbed(int signal) {
    std::vector<std::string> words = {"step", "--weights=" + (*this / "w.safetensors"),
                                      "--batch=" + (*this / "b.safetensors"), "--steps=1000000",
                                      "--timeout=1"};
    pid_t job = startMpi({.tp = 2, .batch = 8}, words, *this / "log");
    while (readAll(*this / "log.out").find("\"step\":3") == std::string::npos) {
      if (waitpid(job, &status, WNOHANG) == job) { // it has failed by itself
        ADD_FAILURE() << readAll(*this / "log.err");
        return;
      }
      usleep(1000);
    }
    auto begin = std::chrono::steady_clock::now();
    pid_t process = findProcess(*this / "w.safetensors", 1);
    EXPECT_GT(process, 0);
    kill(process, signal);
    status = waitFor(job);
    seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    err = readAll(*this / "log.err");
  }
};

TEST(Failures, AThreadThatDoesNotAnswer) {
  Files files;
  GridSizes sizes = {.dp = 2, .tp = 2, .batch = 4, .hangs = 3};
  Outcome outcome = runThreads(sizes, files.step("x", {"--timeout=1"}));
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find("error: rank 3 (dp 1, tp 1) has not answered for "
                             "1 s\n"),
            std::string::npos)
      << outcome.err;
  EXPECT_NE(outcome.err.find("  rank 2 (dp 1, tp 0) waits: all_reduce on "
                             "communicator 'tp' (a test), item 2 of graph "
                             "'begin', micro-batch 0, for rank 3\n"),
            std::string::npos)
      << outcome.err;
  EXPECT_NE(outcome.err.find("  rank 0 (dp 0, tp 0) waits: all_reduce on "
                             "communicator 'all' (a test), entry 4, for ranks "
                             "2, 3\n"),
            std::string::npos)
      << outcome.err;
  EXPECT_EQ(outcome.err.find("error", outcome.err.find("error") + 1),
            std::string::npos)
      << outcome.err; // it is said once
}

TEST(Failures, AProcessThatDoesNotAnswer) {
  Disturbed job(SIGSTOP);
  EXPECT_EQ(job.status, 1) << job.err;
  EXPECT_LT(job.seconds, 10);
  EXPECT_NE(job.err.find("rank 1 (tp 1) has not answered for 1 s"), std::string::npos) << job.err;
  EXPECT_NE(job.err.find("rank 0 (tp 0) waits: "), std::string::npos) << job.err;
  // The signal comes at any moment of a step: rank 0 waits in what came next.
  EXPECT_THAT(job.err, testing::ContainsRegex("rank 0 \\(tp 0\\) waits: [a-z_]+ on communicator "
                                              "'(tp|all)' \\(a test\\)"));
}

TEST(Failures, AProcessThatDies) {
  Disturbed job(SIGKILL);
  EXPECT_NE(job.status, 0) << job.err; // mpirun's: 128 + the signal
  EXPECT_LT(job.seconds, 10);
  EXPECT_NE(job.err.find("another rank has died; rank 0 waited: "), std::string::npos) << job.err;
}

// An error in one place is one message, and the status of all.
TEST(Failures, BadInputOnManyRanks) {
  Files files;
  std::vector<std::string> words = files.step("x");
  words[1] = "--weights=/nowhere";
  for (Runner run : {runThreads, runMpiRanks}) {
    Outcome outcome = run(grids[0], words);
    EXPECT_EQ(outcome.status, 2) << outcome.err;
    size_t place = outcome.err.find("grid: error: ");
    ASSERT_NE(place, std::string::npos) << outcome.err;
    EXPECT_EQ(outcome.err.find("grid: error: ", place + 1), std::string::npos) << outcome.err;
  }
  words = files.step("x");
  words[6] = "--gradients=/nowhere/x"; // found by rank 0 alone, in the first step
  for (Runner run : {runThreads, runMpiRanks, runTcp}) {
    Outcome outcome = run(grids[0], words);
    EXPECT_EQ(outcome.status, 2) << outcome.err;
  }
}

TEST(Failures, LaunchesThatDoNotFit) {
  Files files;
  Outcome three = runMpi({.dp = 2, .batch = 4}, files.step("x"), 3);
  EXPECT_EQ(three.status, 2);
  EXPECT_NE(three.err.find("grid: error: launcher: expected 2 processes, one for each "
                           "rank of the program, got 3; start it without a launcher (all "
                           "ranks in one process), or with 'mpirun -n 2', 'srun -n 2' or "
                           "torchrun, one process for each rank\n"),
            std::string::npos)
      << three.err;
}

} // namespace
