//===- Train.cpp - OUT train ----------------------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// While a step computes, one thread reads the images of the next:
//
//   reader   | batch 1 | batch 2 |     | batch 3 |     | ...
//   compute            | step 1        | step 2        | ...
//
//===----------------------------------------------------------------------===//

#include "src/Commands/Captions.h"
#include "src/Commands/Checkpoint.h"
#include "src/Commands/Commands.h"
#include "src/Commands/Memory.h"
#include "src/Commands/Progress.h"
#include "src/Commands/Steps.h"
#include "src/Data/Error.h"
#include "src/Data/Utf8.h"

#include <cmath>
#include <csignal>
#include <filesystem>
#include <future>
#include <iostream>
#include <unistd.h>

using namespace llrt;

static constexpr int64_t TracedSteps = 10;

static std::vector<Option> trainOptions(const Program &program) {
  std::vector<Option> options = captionOptions();
  for (Option &option : optimizerOptions(
           {"learning-rate", "X", "", "The rate after the warm-up.", Option::Need::Required}))
    options.push_back(std::move(option));
  for (Option &option : std::vector<Option>{
           {"steps", "N", "", "Updates of the whole training.", Option::Need::Required},
           {"weights", "PATH", "",
            "Weights to begin with: a safetensors file, an index, a "
            "HuggingFace folder, or a folder of checkpoints; drawn at random if "
            "not given."},
           {"gate-init", "X", "0", "Drawn weights: value of the gates."},
           {"seed", "N", "0", "Of drawn weights and of the order of samples."},
           {"shuffle", "N", "1000",
            "Samples that are shuffled among themselves; 1: keep the order."},
           {"checkpoint", "DIR", "",
            "Save checkpoints here; go on from the newest one that is here."},
           {"changed-data", "stop|accept", "stop",
            "What to do if the shards are not those of the checkpoint."},
           {"checkpoint-every", "N", "1000",
            "Steps from one checkpoint to the next; there is always one at the "
            "end."},
           {"keep", "N", "2", "Checkpoints that are kept, the newest."},
           {"shard-size", "GB", "5",
            "Weights above so many gigabytes are written as several files."},
           {"metrics", "FILE", "", "Write a line of JSON for each step."},
           {"trace", "FILE", "",
            "Write what each rank did in the first " + std::to_string(TracedSteps) +
                " steps, and when (Chrome trace JSON)."}})
    options.push_back(std::move(option));
  for (Option &option : rankOptions(program, program.images > 0))
    options.push_back(std::move(option));
  return options;
}

// The one variable of the process: a signal handler can reach nothing else.
static volatile std::sig_atomic_t signalled = 0;

// From here on the first SIGINT or SIGTERM only sets `signalled`, which the
// process of rank 0 tells; the second one ends the process.
static void catchSignals(bool isRoot) {
  struct sigaction action = {};
  action.sa_handler = [](int) { signalled = 1; };
  if (isRoot)
    action.sa_handler = [](int) {
      static constexpr char text[] =
          "\nsignal: this step is finished, then training ends; another signal "
          "ends it at once\n";
      signalled = 1;
      [[maybe_unused]] ssize_t told = write(STDERR_FILENO, text, sizeof(text) - 1);
    };
  action.sa_flags = SA_RESETHAND | SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

namespace {

// Reads the global batches one after the other, one ahead of the caller.
class BatchReader {
public:
  struct Loaded {
    Captions::Loaded batch;
    Samples::Place after; // where the next batch begins
  };

  // Text is read when it is asked for: that takes no time worth a thread.
  BatchReader(const Program &program, Captions &captions, Samples &samples)
      : policy(program.images > 0 ? std::launch::async : std::launch::deferred), read([&] {
          auto loaded = captions.load([&]() -> std::optional<Sample> {
            int64_t epoch = samples.place().epoch;
            Sample sample = samples.next();
            if (samples.place().epoch != epoch)
              captions.beginEpoch();
            return sample;
          });
          loaded->counts.withoutField = samples.firstWithoutField();
          return Loaded{std::move(*loaded), samples.place()};
        }) {
    pending = std::async(policy, read);
  }

  Loaded next() {
    Loaded loaded = pending.get();
    pending = std::async(policy, read);
    return loaded;
  }

private:
  std::launch policy;
  std::function<Loaded()> read;
  std::future<Loaded> pending; // its destructor waits for the thread
};

} // namespace

// What must not change when a training goes on.
static nlohmann::ordered_json options(const Optimizer &optimizer, uint64_t seed, int64_t shuffle,
                                      const std::vector<std::string> &shards) {
  nlohmann::ordered_json result = optimizer.description();
  result["seed"] = seed;
  result["shuffle"] = shuffle;
  result["data"] = nlohmann::json::array();
  for (const std::string &shard : shards) // they may move, all together
    result["data"].push_back({replaceInvalidUtf8(std::filesystem::path(shard).filename().string()),
                              std::filesystem::file_size(shard)});
  return result;
}

// Where to go on at `place` of the shards `before` in those of now, `names` in
// `shards`: at the same sample of the shard of that name, at the end of it if
// it has become too short, in the next epoch if it is gone. `say` is told what
// has changed.
static Samples::Place carryOver(Samples::Place place, const nlohmann::json &before,
                                const nlohmann::json &now, const std::vector<std::string> &shards,
                                const std::function<void(const std::string &)> &say) {
  auto indexOf = [](const nlohmann::json &list, const nlohmann::json &name) {
    size_t i = 0;
    while (i < list.size() && list[i][0] != name)
      ++i;
    return i;
  };
  for (const nlohmann::json &shard : before) {
    size_t i = indexOf(now, shard[0]);
    if (i == now.size())
      say("shard " + shard[0].get<std::string>() + " is gone");
    else if (now[i][1] != shard[1])
      say("shard " + shard[0].get<std::string>() + " has changed: " + shard[1].dump() +
          " bytes before, " + now[i][1].dump() + " now");
  }
  for (const nlohmann::json &shard : now)
    if (indexOf(before, shard[0]) == before.size())
      say("shard " + shard[0].get<std::string>() + " is new");

  size_t shard = size_t(place.windowStart.shard);
  size_t here = shard < before.size() ? indexOf(now, before[shard][0]) : now.size();
  if (here == now.size()) {
    say("going on with the next epoch");
    return {place.epoch + 1, {}, 0, 0};
  }
  place.windowStart.shard = int64_t(here);
  try {
    WebDataset(shards).seek(place.windowStart);
  } catch (const Error &) { // too short now
    place.windowStart = {int64_t(here) + 1, 0};
    place.index = 0;
  }
  return place;
}

// What ended a training, with what the user has of it.
[[noreturn]] static void endWith(std::exception_ptr failure, const std::string &kept) {
  try {
    std::rethrow_exception(failure);
  } catch (const PeerFailure &) { // another process says it
    throw;
  } catch (const Error &error) {
    throw Error(error.what() + kept);
  } catch (const std::exception &error) {
    throw Failure(error.what() + kept);
  }
}

static int train(const Program &program, const Arguments &arguments) {
  int64_t steps = arguments.integer("steps", 1);
  Optimizer optimizer(arguments, steps);
  int64_t every = arguments.integer("checkpoint-every", 1);
  int64_t keep = arguments.integer("keep", 1);
  int64_t shuffle = arguments.integer("shuffle", 1);
  uint64_t seed = arguments.integer("seed", 0);
  double gate = arguments.number("gate-init", -INFINITY);
  double shardSize = arguments.number("shard-size", 0);
  bool acceptsData = arguments.choice("changed-data", {"stop", "accept"}) == "accept";
  std::optional<Checkpoints> checkpoints;
  if (auto folder = arguments.find("checkpoint"))
    checkpoints.emplace(*folder, keep, int64_t(shardSize * 1e9));
  // What there is to begin with: a checkpoint, given weights, or nothing.
  std::optional<ModelFolder> model;
  const std::optional<std::string> newest = checkpoints ? checkpoints->newest() : std::nullopt;
  if (newest)
    model.emplace(*newest, /*all=*/true);
  else if (auto path = arguments.find("weights"))
    model.emplace(*path);
  Captions captions(program, arguments, model ? model->folder() : "");

  requireMemory(program, arguments, {"step"});
  Ranks ranks(program, arguments, {"step"});
  Weights weights(program);
  TrainingState state;
  state.options = options(optimizer, seed, shuffle, captions.shards());
  auto say = [&](const std::string &line) {
    if (ranks.isRoot())
      std::cerr << replaceInvalidUtf8(line) + "\n";
  };
  if (!checkpoints)
    say("nothing of this training will be kept: --checkpoint=DIR is not given");
  if (newest) {
    nlohmann::ordered_json now = state.options;
    state = loadCheckpoint(*model, ranks, weights, now, acceptsData);
    say("going on from " + *newest);
    if (state.options["data"] != now["data"])
      state.place =
          carryOver(state.place, state.options["data"], now["data"], captions.shards(), say);
    state.options = now;
  } else if (model) {
    model->load(ranks, weights);
  } else {
    weights.initialize(ranks, seed, gate);
  }

  Samples samples(captions.shards(), seed, shuffle);
  samples.seek(state.place);
  std::optional<Progress> progress; // rank 0 shows it
  if (ranks.isRoot())
    progress.emplace(program, arguments.find("metrics"), state.step, steps);
  if (state.step >= steps) {
    if (ranks.isRoot())
      std::cerr << "nothing to do: step " << state.step << " of " << steps << " is done\n";
    return 0;
  }
  std::optional<Tracing> tracing;
  if (auto file = arguments.find("trace"))
    tracing.emplace(ranks, *file);
  std::map<std::string, std::string> files;
  if (checkpoints)
    files = modelFiles(program, captions.tools(), model ? &*model : nullptr);
  if (checkpoints && !files.contains("config.json"))
    say("checkpoints will have no config.json: this program was compiled from a "
        "module without one (llama.model, config)");
  auto save = [&] {
    ranks.atRoot([&] {
      checkpoints->save(ranks, weights, state, files);
      return std::string();
    });
  };

  catchSignals(ranks.isRoot());
  int64_t firstTraced = state.step + 1, saved = state.step;
  BatchReader reader(program, captions, samples);
  // What ends the training early. After it the state is that of the last step,
  // so that it can be saved.
  std::exception_ptr failure;
  auto attempt = [&](const auto &work) {
    try {
      work();
    } catch (...) {
      failure = std::current_exception();
    }
    return !failure;
  };
  // A signal or a failure that has reached rank 0 alone counts for all.
  std::string stop;
  auto stopped = [&] {
    stop = ranks.atRoot([&] {
      return std::string(failure ? "failure" : signalled ? "signal" : "");
    });
    return stop != "";
  };
  DataCounts counts;
  // A step whose result is still to be read, while the next one computes.
  struct Pending {
    int64_t number;
    BatchReader::Loaded loaded;
  };
  std::optional<Pending> pending;
  StepQueue queue(ranks, optimizer);
  bool saidNoImage = false;
  constexpr int64_t enoughSamples = 1000; // to wonder that none has an image
  // What came of the pending step.
  auto settle = [&](const StepResult &result) {
    const auto [number, loaded] = std::exchange(pending, std::nullopt).value();
    requireFinite(number, result);
    state.step = number;
    state.place = loaded.after;
    counts = loaded.batch.counts;
    if (progress)
      attempt([&] {
        for (const std::string &why : loaded.batch.skipped)
          progress->print("skipped: " + why + "\n");
        if (!saidNoImage && program.images > 0 && counts.images == 0 &&
            counts.samples >= enoughSamples) {
          saidNoImage = true;
          progress->print("none of the first " + std::to_string(counts.samples) +
                          " samples has an image\n");
        }
        progress->add(number, result, optimizer.rate(number));
      });
    if (checkpoints && number % every == 0) {
      save();
      saved = number;
    }
  };
  auto settleLast = [&] {
    if (std::optional<StepResult> result = queue.finish())
      settle(*result);
  };
  try {
    for (int64_t number = state.step + 1; number <= steps && !stopped(); ++number) {
      if (tracing)
        tracing->setStep(number);
      if (tracing && number == firstTraced + TracedSteps)
        tracing->pause();
      BatchReader::Loaded loaded;
      // All processes read the same data, and fail together.
      if (!attempt([&] { loaded = reader.next(); }))
        break;
      if (std::optional<StepResult> result = queue.begin(loaded.batch.inputs, number))
        settle(*result);
      pending = {number, std::move(loaded)};
      // A checkpoint is of a step that nothing has come after.
      if (queue.isIdle() || (checkpoints && number % every == 0))
        settleLast();
    }
    settleLast();
  } catch (const NotFinite &) { // nothing was updated, in all processes
    failure = std::current_exception();
  }
  std::string kept = checkpoints ? "" : "; nothing of the training is kept";
  if (checkpoints && saved != state.step) {
    try {
      save();
      saved = state.step;
    } catch (const std::exception &error) {
      if (!failure)
        throw;
      kept = std::string("; ") + error.what();
    }
  }
  if (checkpoints && saved > 0 && saved == state.step)
    kept = "; the checkpoint of step " + std::to_string(saved) + " holds what was done";
  if (tracing && !failure)
    tracing->write();
  if (progress) {
    progress->print(counts.text(program));
    if (!checkpoints)
      progress->print("nothing of this training is kept\n");
  }
  if (failure)
    endWith(failure, kept);
  if (stop == "failure")
    throw PeerFailure(1);
  if (state.step < steps)
    throw Failure("stopped by a signal after step " + std::to_string(state.step) + " of " +
                  std::to_string(steps) +
                  (checkpoints ? "; the same command goes on from there" : kept));
  return 0;
}

Command llrt::trainCommand() {
  return {"train", "Train on captions with images.", trainOptions, train};
}
