//===- PartsTest.cpp - Options, optimizer, random numbers, programs -------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "GridProgram.h"

#include "llrt/ProgramFields.h"
#include "src/Commands/Optimizer.h"
#include "src/Commands/Random.h"
#include "src/Program/Program.h"

#include <cmath>
#include <set>

using namespace llrt;
using namespace llrt::test;

namespace {

Arguments parse(std::vector<std::string> words) {
  std::vector<char *> given;
  for (std::string &word : words)
    given.push_back(word.data());
  std::vector<Option> options =
      optimizerOptions({"learning-rate", "X", "", "The rate.", Option::Need::Required});
  options.push_back({"image", "FILE", "", "An image.", Option::Need::Repeated});
  return Arguments(options, given);
}

TEST(Arguments, Values) {
  Arguments given = parse({"--learning-rate=1e-3", "--image=a=b", "--image=c"});
  EXPECT_EQ(given.number("learning-rate", 0), 1e-3);
  EXPECT_EQ(given.integer("warmup", 0), 0); // the default
  EXPECT_EQ(given.all("image"), (std::vector<std::string>{"a=b", "c"}));
  EXPECT_FALSE(given.find("clip") == std::nullopt);
  // A value may stand behind its option, a negative number too.
  given = parse({"--learning-rate", "-1e-3", "--image", "c=d"});
  EXPECT_EQ(given.number("learning-rate", -1), -1e-3);
  EXPECT_EQ(given.all("image"), std::vector<std::string>{"c=d"});
}

// Every message names the option, what was expected and what was found.
TEST(Arguments, Refusals) {
  EXPECT_ERROR(parse({"--learning-rat=1"}),
               "unknown option '--learning-rat'; did you mean '--learning-rate'?");
  EXPECT_ERROR(parse({"--learning-rate=1", "--weightdecay=0"}), "did you mean '--weight-decay'?");
  EXPECT_ERROR(parse({"--lr=1"}), "did you mean '--learning-rate'?");
  EXPECT_ERROR(parse({"--learning=1"}), "did you mean '--learning-rate'?");
  EXPECT_ERROR(parse({"--zz=1"}), "unknown option '--zz'; --help lists them");
  EXPECT_ERROR(parse({}), "option '--learning-rate': expected --learning-rate=X, "
                          "got nothing");
  for (std::vector<std::string> words :
       {std::vector<std::string>{"--learning-rate"}, {"--learning-rate", "--clip=1"}})
    EXPECT_ERROR(parse(words), "expected --learning-rate=X, got '--learning-rate'");
  EXPECT_ERROR(parse({"learning-rate=1"}),
               "expected an option --name=VALUE, got 'learning-rate=1'");
  EXPECT_ERROR(parse({"--learning-rate=1", "--learning-rate=2"}),
               "expected one value, got '1' and '2'");
  Arguments given = parse({"--learning-rate=1x", "--warmup=1.5", "--beta1=1", "--schedule=line",
                           "--epsilon=-1", "--clip=inf"});
  EXPECT_ERROR(given.number("learning-rate", 0),
               "option '--learning-rate': expected a number of at least 0, got '1x'");
  EXPECT_ERROR(given.integer("warmup", 0),
               "option '--warmup': expected an integer of at least 0, got '1.5'");
  EXPECT_ERROR(given.number("beta1", 0, 1),
               "expected a number of at least 0 and less than 1, got '1'");
  EXPECT_ERROR(given.choice("schedule", {"constant", "cosine"}),
               "expected one of constant, cosine, got 'line'");
  EXPECT_ERROR(given.number("epsilon", 0), "got '-1'");
  EXPECT_ERROR(given.number("clip", 0), "got 'inf'");
}

TEST(Arguments, HelpListsEveryOptionWithItsDefault) {
  Arguments given = parse({"--help", "--nonsense"});
  EXPECT_TRUE(given.helpAsked());
  std::string text = given.helpText();
  EXPECT_NE(text.find("--learning-rate=X (required)"), text.npos);
  EXPECT_NE(text.find("--beta2=X (default 0.95)"), text.npos);
  EXPECT_NE(text.find("--image=FILE (may be repeated)"), text.npos);
}

TEST(Optimizer, Schedules) {
  Optimizer cosine(
      parse({"--learning-rate=2", "--schedule=cosine", "--warmup=10", "--min-learning-rate=1"}),
      110);
  EXPECT_DOUBLE_EQ(cosine.rate(1), 0.2);
  EXPECT_DOUBLE_EQ(cosine.rate(10), 2);
  EXPECT_DOUBLE_EQ(cosine.rate(60), 1.5); // half way
  EXPECT_DOUBLE_EQ(cosine.rate(110), 1);
  Optimizer constant(parse({"--learning-rate=2", "--warmup=4"}), 8);
  EXPECT_DOUBLE_EQ(constant.rate(3), 1.5);
  EXPECT_DOUBLE_EQ(constant.rate(8), 2);
  // A schedule that is all warm-up divides by nothing.
  EXPECT_DOUBLE_EQ(
      Optimizer(parse({"--learning-rate=2", "--schedule=cosine", "--warmup=5"}), 5).rate(5), 2);
  EXPECT_ERROR(Optimizer(parse({"--learning-rate=1", "--min-learning-rate=2"}), 1),
               "option '--min-learning-rate': expected at most --learning-rate (1), got "
               "2");
}

TEST(Optimizer, Hyperparameters) {
  Optimizer clip(parse({"--learning-rate=1", "--clip=3", "--weight-decay=0.25"}), 1);
  std::array<double, 8> wanted = {
      3, 1, 0.9, 0.95, 1e-8, 0.25, 1 - 0.9 * 0.9 * 0.9, 1 - 0.95 * 0.95 * 0.95};
  for (size_t i = 0; i < 8; ++i)
    EXPECT_DOUBLE_EQ(clip.hyperparameters(3)[i], wanted[i]);
  EXPECT_EQ(Optimizer(parse({"--learning-rate=1"}), 1).hyperparameters(1)[0], 0);
}

// The known answers of Random123, the authors' library.
TEST(Random, Philox) {
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Random, NormalNumbers) {
  constexpr int64_t count = 200000;
  NormalNumbers numbers(1, "a"), other(1, "b"), reseeded(2, "a");
  double sum = 0, squares = 0, cubes = 0, fourth = 0, neighbours = 0;
  for (int64_t i = 0; i < count; ++i) {
    double x = numbers.at(i);
    sum += x, squares += x * x, cubes += x * x * x, fourth += x * x * x * x;
    neighbours += x * numbers.at(i + 1);
  }
  // Five standard errors of each estimate.
  double error = 5 / std::sqrt(double(count));
  EXPECT_NEAR(sum / count, 0, error);
  EXPECT_NEAR(squares / count, 1, error * std::sqrt(2));
  EXPECT_NEAR(cubes / count, 0, error * std::sqrt(15));
  EXPECT_NEAR(fourth / count, 3, error * std::sqrt(96));
  EXPECT_NEAR(neighbours / count, 0, error);
  EXPECT_EQ(numbers.at(7), NormalNumbers(1, "a").at(7));
  EXPECT_NE(numbers.at(7), other.at(7));
  EXPECT_NE(numbers.at(7), reseeded.at(7));
}

// A program that is not as llrt/Program.h says ends with one message.
TEST(Program, Refusals) {
  auto refuse = [](auto edit, const char *message) {
    TinyProgram program(1, 1);
    edit(program.content);
    EXPECT_ERROR(Program::parse(program.get()), message);
  };
  using J = nlohmann::json &;
  refuse([](J j) { j["version"] = 1; },
         ("field 'version': expected " + std::to_string(kProgramVersion) + ", got 1").c_str());
  refuse([](J j) { j["stages"][0]["parameters"][1].erase("master"); },
         "field 'stages[0].parameters[1].master': expected a value, got nothing");
  refuse([](J j) { j["stages"][0]["parameters"][0]["elements"] = 5; },
         "field 'stages[0].parameters[0].elements': expected 4048, got 5");
  refuse([](J j) { j["stages"][0]["parameters"][0]["address"] = {0, 1 << 20}; },
         "field 'stages[0].parameters[0].address': expected 16192 bytes within");
  refuse([](J j) { j["stages"][0]["graphs"]["step"]["items"][0]["block"] = "x"; },
         "field 'stages[0].graphs.step.items[0].block': expected a block of this "
         "executable, "
         "got x");
  refuse([](J j) { j["stages"][0]["programs"].erase("forward"); },
         "field 'stages[0].programs.forward': expected a program, got nothing");
  refuse([](J j) { j["stages"][0]["programs"]["step"][5]["micro_batch"] = 1; },
         "expected less than 1, got 1");
  refuse([](J j) { j["stages"][0]["inputs"][0]["type"] = "u8"; },
         "field 'stages[0].inputs[0].type': expected one of f32, bf16, f64, "
         "i64, got u8");
  refuse([](J j) { j = 3; }, "expected an object, got number");
}

// The same of what only grids have.
TEST(Program, RefusalsOnGrids) {
  auto refuse = [](auto edit, const char *message) {
    GridProgram program(
        {.dp = 2, .pp = 2, .cp = 2, .tp = 2, .batch = 1, .microBatches = 2, .shard = 1});
    edit(program.content);
    EXPECT_ERROR(Program::parse(program.get()), message);
  };
  using J = nlohmann::json &;
  auto stage = [](J j) -> J { return j["stages"][0]; };
  auto step = [&](J j, const char *kind) -> J {
    for (J entry : stage(j)["programs"]["step"])
      if (entry["do"] == kind)
        return entry;
    throw std::runtime_error(kind);
  };
  refuse([](J j) { j["stages"].erase(1); },
         "field 'stages': expected 2, the size of axis pp, got 1");
  refuse([](J j) { j["locations"].erase(1); }, ".location': expected less than 1, got 1");
  refuse([](J j) { j["locations"][0] = 3; }, "field 'locations': expected strings, got 3");
  refuse([](J j) { j["axes"][0]["size"] = 1 << 20; },
         "field 'axes': expected at most 1048576 ranks");
  refuse([](J j) { j["communicators"][0]["axes"] = {"xp"}; },
         "field 'communicators[0].axes': expected the name of an axis, got "
         "\"xp\"");
  refuse([](J j) { j["communicators"][0]["axes"] = {"cp", "dp"}; },
         "expected axes outermost first, as in 'axes', got [\"cp\",\"dp\"]");
  refuse([](J j) { j["communicators"][3]["edge"] = {0, 2}; },
         "field 'communicators[3].edge': expected two coordinates less than 2");
  refuse([&](J j) { stage(j)["parameters"][0]["split"] = {{"tp"}}; },
         "field 'stages[0].parameters[0].split': expected 2 lists of axes");
  refuse(
      [&](J j) {
        stage(j)["parameters"][1]["split"] = nlohmann::json::array({{"dp", "cp", "tp"}});
      },
      "field 'stages[0].parameters[1].split': expected a divisor of dimension "
      "0, 4, got 8 parts");
  refuse([&](J j) { stage(j)["parameters"][1]["shard"]["begin"] = 3; },
         "field 'stages[0].parameters[1].shard.begin': expected 4 elements "
         "within the unit of 4, got 3");
  refuse([&](J j) { stage(j)["parameters"][1]["shard"]["elements"] = 5; },
         "field 'stages[0].parameters[1].shard.elements': expected a multiple "
         "of 2, got 5");
  refuse([&](J j) { stage(j)["graphs"]["begin"]["inputs"][0] = "x"; },
         "field 'stages[0].graphs.begin.inputs': expected the name of an "
         "input, got \"x\"");
  refuse([&](J j) { stage(j)["graphs"]["begin"]["items"][2]["after"] = {2}; },
         "field 'stages[0].graphs.begin.items[2].after': expected indices of "
         "earlier actions, got 2");
  refuse([&](J j) { stage(j)["graphs"]["begin"]["items"][1]["buffers"][3] = {-3, 0}; },
         "expected one of 1 arenas or 2 frames, got [-3,0]");
  refuse([&](J j) { stage(j)["graphs"]["begin"]["items"][2]["to"] = {-1, 1 << 20}; },
         "bytes within the 256 of frame residuals, got [-1,1048576]");
  refuse([&](J j) { stage(j)["graphs"]["begin"]["items"][0]["do"] = "send"; },
         "field 'stages[0].graphs.begin.items[0].do': expected one of call, "
         "all_gather, all_reduce, reduce_scatter, broadcast, slice, zero, "
         "copy, got send");
  refuse([&](J j) { stage(j)["graphs"]["begin"]["items"][2]["communicator"] = 7; },
         "communicator': expected less than 7, got 7");
  refuse([&](J j) { step(j, "send")["communicator"] = 2; },
         "expected one of two ranks of which this stage is one, got all");
  refuse([&](J j) { step(j, "send")["tag"] = {1, 2, 3}; },
         "expected [stage, chunk, micro-batch, value], got [1,2,3]");
  refuse([&](J j) { step(j, "reduce_scatter")["type"] = "i64"; },
         "type': expected one of f32, bf16, f64, got i64");
  refuse([&](J j) { step(j, "reduce_scatter")["reduction"] = "min"; },
         "reduction': expected sum or max, got min");
  refuse([&](J j) { step(j, "reduce_scatter")["scratch_bytes"] = 8; },
         "scratch_bytes': expected at least 64, for the parts of others, got 8");
  refuse([&](J j) { step(j, "reduce_scatter")["scratch"] = {0, 1 << 30}; },
         "scratch': expected 64 bytes within the");
  refuse([&](J j) { step(j, "all_reduce")["accumulate"] = true; },
         "accumulate': expected nothing for an all_reduce, got true");
  refuse([&](J j) { step(j, "run")["frames"].erase(1); }, "frames': expected 2 addresses, got 1");
  refuse([&](J j) { step(j, "run")["graph"] = "x"; },
         "graph': expected a graph of this program, got x");
  refuse([&](J j) { stage(j).erase("sums"); },
         "field 'stages[0].sums': expected a value, got nothing");
  refuse([&](J j) { stage(j)["programs"]["step"][0]["do"] = "update"; },
         "copy, send, receive, run, got update");
  refuse(
      [&](J j) {
        stage(j)["graphs"]["begin"]["outputs"]["loss"] = {
            {"type", "f32"}, {"shape", {1}}, {"address", {0, 0}}};
      },
      "outputs.loss.type': expected one element of f64, got f32");
}

// What a program says that it needs of an arena covers all that its actions, of whatever kind,
// name: each address of `step` is moved in turn to an arena that only `forward` needs.
TEST(Program, NeedsWhatItsActionsName) {
  GridProgram program(
      {.dp = 2, .pp = 2, .cp = 2, .tp = 2, .batch = 1, .microBatches = 2, .shard = 1});
  nlohmann::json &stage = program.content["stages"][0];
  std::set<std::string> kinds;
  int64_t moved = 0;
  // `elsewhere`: a second arena, of which another program needs as much.
  const nlohmann::json elsewhere = {{"name", "elsewhere"}, {"bytes", stage["arenas"][0]["bytes"]}};
  stage["arenas"].push_back(elsewhere);
  stage["arenas"][1]["bytes"].erase("step");
  EXPECT_NO_THROW(Program::parse(program.get()));
  auto move = [&](nlohmann::json &address, const std::string &what) {
    if (address[0] < 0) // a frame, which is where the run says
      return;
    auto refuse = [&] {
      std::string message = errorOf([&] { Program::parse(program.get()); });
      EXPECT_NE(message.find("field 'stages[0].arenas[1].bytes.step': expected at least the "),
                message.npos)
          << what << ": " << message;
    };
    address[0] = 1;
    refuse();
    // It needs what begins there, too; of a block's buffers only the compiler knows how much.
    if (what != "call") {
      stage["arenas"][1]["bytes"]["step"] = address[1];
      refuse();
      stage["arenas"][1]["bytes"].erase("step");
    }
    address[0] = 0;
    ++moved;
  };
  auto moveAll = [&](nlohmann::json &list) {
    for (nlohmann::json &action : list) {
      std::string kind = action["do"];
      kinds.insert(kind);
      for (const char *field : {"at", "from", "to"})
        if (action.contains(field))
          move(action[field], kind);
      // Others have the same form.
      if (kind == "all_reduce" || kind == "reduce_scatter") {
        action["do"] = kind == "all_reduce" ? "broadcast" : "slice";
        move(action["from"], action["do"]);
        move(action["to"], action["do"]);
        action["do"] = kind;
      }
      for (const char *field : {"buffers", "frames"})
        if (action.contains(field))
          for (nlohmann::json &address : action[field])
            move(address, kind);
    }
  };
  std::set<std::string> graphs;
  for (nlohmann::json &entry : stage["programs"]["step"])
    if (entry["do"] == "run")
      graphs.insert(entry["graph"]);
  moveAll(stage["programs"]["step"]);
  for (const std::string &name : graphs) {
    nlohmann::json &graph = stage["graphs"][name];
    moveAll(graph["items"]);
    for (nlohmann::json &output : graph["outputs"])
      move(output["address"], "output");
    for (nlohmann::json &input : stage["inputs"])
      if (std::count(graph["inputs"].begin(), graph["inputs"].end(), input["name"]))
        move(input["address"], "input");
  }
  for (nlohmann::json &p : stage["parameters"])
    move(p["address"], "parameter");
  move(stage["sums"], "sums");
  EXPECT_EQ(kinds, (std::set<std::string>{"all_gather", "all_reduce", "call", "receive",
                                          "reduce_scatter", "run", "send", "zero"}));
  EXPECT_GT(moved, 50);
}

TEST(Program, CpuWithoutAFeature) {
  static const char *const names[] = {"avx512fp16", "amx-tile",   "avx512f",
                                      "avxvnni",    "avx512bf16", nullptr};
  std::vector<std::string> missing = missingCpuFeatures(names);
  if (missing.empty())
    GTEST_SKIP() << "this CPU has every feature that could be missing";
  TinyProgram program(1, 1);
  program.cpuFeatures = {"sse3", missing[0].c_str(), nullptr};
  Outcome outcome = run(program, {"evaluate", "--data=x", "--weights=y"});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_EQ(outcome.err, "tiny: error: this machine's CPU: expected one like tiny, "
                         "got one without " +
                             missing[0] + "; compile on this machine, or for its CPU\n");
}

} // namespace
