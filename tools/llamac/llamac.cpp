//===- llamac.cpp - The compiler's command line ---------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
//   llamac import  MODEL [options] [-o FILE]     model -> model graph
//   llamac compile MODEL [options] -o FILE       model -> any later form
//   llamac check   MODEL [options]               proves the program of all ranks
//
// Exit status: 0 done, 1 a check failed or the result cannot be written, 2 the command line or an
// input file is wrong. Messages: `llamac: error: ...`, one line.
//
//===----------------------------------------------------------------------===//
#include "tools/llama-opt/Register.h"
#include "tools/llamac/Arguments.h"

#include "dialects/Dist/IR/Dist.h"
#include "llamac/Check/Certificate.h"
#include "llamac/Cost/Simulate.h"
#include "llamac/Driver/Memory.h"
#include "llamac/Driver/Pipeline.h"
#include "llamac/Emit/Emit.h"
#include "llamac/Import/BuildModel.h"
#include "llamac/Import/ModelConfig.h"
#include "llamac/Import/Statistics.h"
#include "llamac/Pipeline/StageReport.h"
#include "llamac/Support/Grid.h"

#include "mlir/IR/Verifier.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Support/FileUtilities.h"
#include "mlir/Support/Timing.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Config/llvm-config.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/ToolOutputFile.h"

#include <numeric>

using namespace mlir;
using namespace mlir::llamac;
using llvm::Error;
using llvm::Expected;

namespace {

constexpr int kDone = 0, kFailed = 1, kWrongInput = 2;
enum class Mode { Import, Compile, Check };
// Limits of one micro-batch: sizes computed from them stay within 64 bits.
constexpr int64_t kMostSamples = 1 << 16, kMostTokens = 1 << 20, kMostImages = 1 << 8;
constexpr StringRef kStepNames[] = {"import", "train", "parallelize", "lower", "emit"};
constexpr StringRef kSummary =
    "usage: llamac COMMAND MODEL [options]\n"
    "\n"
    "  llamac import  MODEL [options] [-o FILE]   make the model graph\n"
    "  llamac compile MODEL [options] -o FILE     make an executable that trains the model\n"
    "  llamac check   MODEL [options]             prove that its ranks cannot hang or race\n"
    "\n"
    "MODEL is a config.json, a HuggingFace directory, a .mlir file or one of\n"
    "  {0}\n"
    "\n"
    "llamac COMMAND --help lists the options of a command, llamac --version the versions.\n";

/// What the commands share.
struct Command {
  Arguments arguments;
  int64_t tileSize = 0;
  std::string featureTaps = "input", rowMask = "both";
  bool statistics = false, timing = false, precisionReport = false, simulate = false;
  std::string timeline, kernels;
  CompileOptions options;
  std::string compileFrom = "import", compileTo = "emit";

  void addImportOptions() {
    arguments.add("tile-size", tileSize, Arguments::Range(1, 1 << 14),
                  "pixels of an image tile's side (config)");
    arguments.add("feature-taps", featureTaps, Arguments::OneOf({"input", "output"}),
                  "side of an encoder layer that its tap reads (that of the config's "
                  "transformers_version; input)");
    arguments.add("row-mask", rowMask, Arguments::OneOf({"both", "ffn"}),
                  "branches of a cross-attention layer that skip rows without image (that of "
                  "the config's transformers_version; both)");
    arguments.flag("statistics", statistics, "print sizes and operations; -o is optional then");
    arguments.flag("timing", timing, "print where compile time goes");
  }
};

} // namespace

static int report(const llvm::Twine &message) {
  llvm::errs() << "llamac: error: " << message << "\n";
  return kWrongInput;
}
/// What could not be written is the fault of neither the command line nor an input.
static int reportWriting(const llvm::Twine &path, std::error_code error) {
  report(path + ": cannot be written: " + error.message());
  return kFailed;
}
static int report(Error error) { return report(llvm::toString(std::move(error))); }

// Diagnostics in the form of every other message.
static LogicalResult printDiagnostic(Diagnostic &diagnostic) {
  auto print = [](Diagnostic &diagnostic, StringRef kind) {
    llvm::errs() << "llamac: " << kind << ": ";
    if (auto place = diagnostic.getLocation()->findInstanceOf<FileLineColLoc>())
      llvm::errs() << place.getFilename().getValue() << ":" << place.getLine() << ":"
                   << place.getColumn() << ": ";
    llvm::errs() << diagnostic << "\n";
  };
  switch (diagnostic.getSeverity()) {
  case DiagnosticSeverity::Error:
    print(diagnostic, "error");
    break;
  case DiagnosticSeverity::Warning:
    print(diagnostic, "warning");
    break;
  default:
    print(diagnostic, "note");
    break;
  }
  for (Diagnostic &note : diagnostic.getNotes())
    print(note, "note");
  return success();
}

// The module of MODEL: parsed, or imported.
static Expected<OwningOpRef<ModuleOp>> loadModule(Command &command, MLIRContext &context) {
  StringRef model = command.arguments.model;
  if (model.ends_with(".mlir")) {
    for (StringRef name : {"tile-size", "feature-taps", "row-mask"})
      if (command.arguments.given(name))
        return commandError("--" + name + ": " + model + " is imported already");
    if (!llvm::sys::fs::exists(model))
      return commandError(model + ": No such file or directory");
    auto module = parseSourceFile<ModuleOp>(model, ParserConfig(&context));
    if (!module) // what is wrong in it has been printed
      return commandError(model + ": expected a module that verifies");
    return module;
  }

  ModelOverrides overrides;
  if (command.arguments.given("tile-size"))
    overrides.tileSize = command.tileSize;
  if (command.arguments.given("feature-taps"))
    overrides.featureTaps =
        command.featureTaps == "input" ? FeatureTaps::Input : FeatureTaps::Output;
  if (command.arguments.given("row-mask"))
    overrides.rowMask = command.rowMask == "both" ? RowMask::Both : RowMask::FeedForward;
  Expected<ModelConfig> config = findModelConfig(model, overrides);
  if (!config)
    return config.takeError();
  for (const std::string &note : config->notes)
    llvm::errs() << "llamac: note: " << note << "\n";
  OwningOpRef<ModuleOp> module =
      buildModel(*config, &context,
                 /*withImages=*/!command.arguments.given("images") || command.options.images > 0);
  if (failed(verify(*module)))
    return commandError(model + ": the model graph is not valid, which is a fault of llamac");
  return module;
}

// Whether the model graph takes images; the number of them follows from that.
static Error settleImages(Command &command, ModuleOp module) {
  auto model = module.lookupSymbol<func::FuncOp>("model");
  if (!model)
    return commandError(Twine(command.arguments.model) +
                        ": expected a model graph with a function @model");
  bool hasImages = false;
  for (unsigned i = 0; i < model.getNumArguments(); ++i)
    if (auto name = model.getArgAttrOfType<StringAttr>(i, llama::kInputAttr))
      hasImages |= name.getValue() == "pixels";
  int64_t &images = command.options.images;
  if (!command.arguments.given("images"))
    images = hasImages;
  if (hasImages && images == 0)
    return commandError(Twine("--images=0: ") + command.arguments.model +
                        " was imported with images; compile its config.json");
  if (!hasImages && images != 0)
    return commandError("--images=" + Twine(images) + ": expected 0 for a text-only model");
  return Error::success();
}

// Prints parameters, and the operations of a forward of one micro-batch.
static LogicalResult printStatistics(const Command &command, ModuleOp module,
                                     llvm::raw_ostream &os) {
  OwningOpRef<ModuleOp> copy = module.clone();
  const CompileOptions &options = command.options;
  PassManager pm(module.getContext());
  pm.addPass(createSpecializePass(
      {options.batch, options.textLength, std::max<int64_t>(1, options.images)}));
  pm.addPass(createFreezePass({options.trainable}));
  if (failed(pm.run(*copy)))
    return failure();
  ParameterCounts parameters = countParameters(*copy);
  FailureOr<OperationCounts> operations = countOperations(*copy);
  if (failed(operations))
    return failure();
  os << "checkpoint tensors: " << countText(parameters.tensors) << "\n";
  os << "parameters: " << countText(parameters.elements) << "\n";
  os << "trainable: " << countText(parameters.trainable) << "\n";
  os << "operations of a forward, " << options.batch << " x (" << options.textLength << " tokens, "
     << options.images << " images): " << countText(operations->total()) << "\n";
  for (auto [name, count] : {std::pair("encoder", operations->encoder),
                             {"projector", operations->projector},
                             {"cross keys and values", operations->crossKeyValue},
                             {"cross layers", operations->cross},
                             {"text layers", operations->text},
                             {"head", operations->head}})
    os << "  " << name << ": " << countText(count) << "\n";
  return success();
}

static int writeFile(StringRef path, llvm::function_ref<void(llvm::raw_ostream &)> write) {
  std::string message;
  std::unique_ptr<llvm::ToolOutputFile> file = openOutputFile(path, &message);
  if (!file)
    return report(message);
  write(file->os());
  file->os().flush();
  if (std::error_code error = file->os().error()) {
    file->os().clear_error();
    return reportWriting(path == "-" ? "standard output" : path, error);
  }
  file->keep();
  return kDone;
}

static int writeModule(ModuleOp module, StringRef path) {
  return writeFile(path, [&](llvm::raw_ostream &os) {
    module.print(os, OpPrintingFlags().printNameLocAsPrefix());
    os << "\n";
  });
}

// Options of a step that was done before the file was written.
static Error checkOptionsOfDoneSteps(const Command &command, Step from) {
  auto done = [&](Step step, StringRef name) -> Error {
    if (step > from || !command.arguments.given(name))
      return Error::success();
    return commandError("--" + name + ": --compile-from=" + command.compileFrom +
                        " goes on from a form that is past it");
  };
#define LLAMAC_OPTION(STEP, TYPE, FIELD, NAME, DEFAULT, VALUES, HELP)                              \
  if (Error error = done(Step::STEP, NAME))                                                        \
    return error;
#include "llamac/Driver/Options.def"
  return done(Step::Train, "statistics");
}

static Step stepOf(StringRef name) {
  return Step(llvm::find(kStepNames, name) - std::begin(kStepNames));
}

// What the types ask of the options of later steps.
static Error settlePrecision(Command &command) {
  CompileOptions &options = command.options;
  if (options.accumulate == "bf16" && options.precision != "bf16")
    return commandError("--accumulate=bf16: expected --precision=bf16, got " + options.precision);
  if (options.precision == "f64") {
    if (command.arguments.given("lower") && options.lower != "reference")
      return commandError("--lower=" + options.lower + ": expected reference with --precision=f64");
    options.lower = "reference";
  }
  return Error::success();
}

// The defaults of the encoder's options depend on each other: all axes that may split its
// work; the fewest micro-batches that give each rank equally many images, else tokens, else
// all micro-batches of the step in one group, with images that are none.
static Error settleEncoder(const Arguments &arguments, CompileOptions &options, const Grid &grid,
                           ModuleOp module) {
  bool first = options.encoder == "first-stage";
  auto sizeOf = [&](StringRef axis) {
    return axis == "tp" ? grid.tp : axis == "cp" ? grid.cp : grid.pp;
  };
  if (!arguments.given("encoder-axes") && options.encoderAxes.empty())
    options.encoderAxes = first ? "tp,cp" : "tp,cp,pp";
  SmallVector<StringRef> axes;
  StringRef(options.encoderAxes).split(axes, ',', -1, /*KeepEmpty=*/false);
  int64_t ranks = 1;
  for (StringRef axis : axes) {
    if (axis != "tp" && axis != "cp" && (axis != "pp" || first))
      return commandError("--encoder-axes=" + options.encoderAxes + ": expected some of " +
                          (first ? "tp,cp" : "tp,cp,pp") + ", got " + axis);
    ranks *= sizeOf(axis);
  }
  if (arguments.given("encoder-group")) {
    if (options.encoderGroup > options.microBatches)
      return commandError("--encoder-group=" + Twine(options.encoderGroup) +
                          ": expected at most --micro-batches (" + Twine(options.microBatches) +
                          ")");
    return Error::success();
  }
  if (options.encoderShard == "tokens" || options.images == 0)
    return Error::success();
  int64_t images = options.batch * options.images;
  int64_t group = ranks / std::gcd(ranks, images);
  if (group <= options.microBatches)
    options.encoderGroup = group;
  else if (!arguments.given("encoder-shard") && encoderTokens(module) % ranks == 0)
    options.encoderShard = "tokens";
  else
    options.encoderGroup = options.microBatches;
  return Error::success();
}

static Error checkCompileOptions(const Command &command) {
  const CompileOptions &options = command.options;
  Step from = stepOf(command.compileFrom), to = stepOf(command.compileTo);
  if (Expected<std::shared_ptr<const Target>> target = makeTarget(targetOf(options)); !target)
    return target.takeError();
  bool isMlir = StringRef(command.arguments.model).ends_with(".mlir");
  if (command.arguments.given("compile-from") && !isMlir)
    return commandError("--compile-from: expected a .mlir file, got " + command.arguments.model);
  if (from >= to && !(from == Step::Import && to == Step::Import))
    return commandError("--compile-to=" + command.compileTo + ": expected a step after " +
                        command.compileFrom);
  if (command.simulate || !command.timeline.empty()) {
    if (to < Step::Parallelize)
      return commandError(
          "--simulate, --timeline: expected --compile-to=parallelize or a later step");
    StringRef path = command.timeline;
    if (!path.empty() && llvm::none_of(ArrayRef<StringRef>{".json", ".svg", ".txt", ".csv"},
                                       [&](StringRef end) { return path.ends_with(end); }))
      return commandError("--timeline=" + path +
                          ": expected a name that ends in .json, .svg, .txt or .csv");
  }
  if (command.arguments.output.empty() && !command.statistics && !command.simulate &&
      command.timeline.empty())
    return commandError("expected -o FILE");
  if (to == Step::Emit && command.arguments.output == "-")
    return commandError("-o -: an executable needs a file name");
  return checkOptionsOfDoneSteps(command, from);
}

// Whether a file can be made at `path`, asked before the work is done.
static Error checkOutput(StringRef path) {
  if (path.empty() || path == "-")
    return Error::success();
  if (llvm::sys::fs::is_directory(path))
    return commandError("-o " + path + ": expected a file name, got a folder");
  SmallString<128> folder(path);
  (void)llvm::sys::fs::make_absolute(folder);
  if (!llvm::sys::fs::exists(path))
    llvm::sys::path::remove_filename(folder);
  if (std::error_code error = llvm::sys::fs::access(folder, llvm::sys::fs::AccessMode::Write))
    return commandError("-o " + path + ": cannot write " + folder + ": " + error.message());
  return Error::success();
}

// Makes the folder that option `name` gives, asked before the work is done.
static Error makeFolder(StringRef name, StringRef path) {
  if (path.empty())
    return Error::success();
  std::error_code error = llvm::sys::fs::create_directories(path);
  if (!error && !llvm::sys::fs::is_directory(path))
    error = std::make_error_code(std::errc::not_a_directory);
  if (!error)
    error = llvm::sys::fs::access(path, llvm::sys::fs::AccessMode::Write);
  if (error)
    return commandError("--" + name + "=" + path +
                        ": expected a folder to write into: " + error.message());
  return Error::success();
}

// Refuses a program that needs more memory than a rank has, and says what would fit. `start` is
// the form after step `from`, null if it is too late to change options; `options` are those that
// were given.
static LogicalResult checkMemory(const Command &command, const CompileOptions &options,
                                 ModuleOp module, int64_t memory, ModuleOp start, Step from) {
  std::vector<llrt::ArenaSizes> stages = memoryOf(module);
  const int64_t needed = neededBytes(module);
  if (needed <= memory)
    return success();
  size_t stage = 0;
  while (llrt::totalBytes(stages[stage]) < needed)
    ++stage;
  InFlightDiagnostic error = emitError(UnknownLoc::get(module.getContext()))
                             << "--machine=" << options.machine << ": a rank"
                             << (stages.size() > 1 ? " of stage " + std::to_string(stage) : "")
                             << " needs " << llrt::gigabytes(needed) << " GB, but has "
                             << llrt::gigabytes(memory)
                             << " GB: " << llrt::memoryParts(stages[stage]);
  if (start) {
    auto settle = [&](CompileOptions &changed) {
      FailureOr<Grid> grid = parseGrid(changed.grid, start.getLoc());
      if (failed(grid))
        return false;
      Error error = settleEncoder(command.arguments, changed, *grid, start);
      bool possible = !error;
      llvm::consumeError(std::move(error));
      return possible;
    };
    for (const Remedy &remedy : findRemedies(start, from, options, memory, settle))
      if (remedy.change.empty())
        error.attachNote() << "no sharding, recomputation, smaller micro-batch or larger grid that "
                              "was tried needs less";
      else
        error.attachNote() << (remedy.bytes <= memory ? "fits with " : "nothing fits; with ")
                           << remedy.change << ": " << llrt::gigabytes(remedy.bytes) << " GB";
  }
  error.attachNote() << "--over-memory=allow goes on without the memory";
  return error;
}

// Executes the step on paper and says or draws how it went.
static int simulateStep(const Command &command, ModuleOp module) {
  Expected<Machine> machine = findMachine(command.options.machine);
  if (!machine)
    return report("--machine: " + llvm::toString(machine.takeError()));
  FailureOr<Simulation> simulation = simulate(module, "step", *machine);
  if (failed(simulation))
    return kFailed;
  if (command.simulate)
    (command.arguments.output == "-" ? llvm::errs() : llvm::outs())
        << llamac::report(*simulation, module, *machine);
  StringRef path = command.timeline;
  if (path.empty())
    return kDone;
  std::string text;
  if (path.ends_with(".json")) {
    text = traceJson(*simulation);
  } else {
    FailureOr<plan::Timeline> timeline = timelineOf(*simulation);
    if (failed(timeline)) // what is wrong with it has been printed
      return kWrongInput;
    if (path.ends_with(".csv")) {
      plan::Schedule schedule = scheduleOf(*timeline);
      if (std::optional<plan::Error> error = plan::validate(schedule))
        return report("--timeline=" + path + ": the program is no schedule: " + error->message);
      text = writeCsv(schedule);
    } else {
      text = path.ends_with(".svg") ? drawSvg(*timeline) : drawText(*timeline);
    }
  }
  return writeFile(path, [&](llvm::raw_ostream &os) { os << text; });
}

// Whether the memory of the module's programs is planned.
static bool isDeviceProgram(ModuleOp module) {
  SymbolTable symbols(module);
  auto programs = module.getOps<dist::ProgramOp>();
  return !programs.empty() && llvm::all_of(programs, [&](dist::ProgramOp program) {
    auto entries = program.getBody().getOps<dist::EntryOpInterface>();
    return llvm::all_of(entries, [&](dist::EntryOpInterface entry) {
      FlatSymbolRefAttr graph = entry.getGraphAttr();
      return !graph || isa_and_nonnull<dist::GraphOp>(symbols.lookup(graph.getAttr()));
    });
  });
}

// Imports if need be, runs the steps, writes what comes out.
static int run(Command &command, Mode mode) {
  const bool isCompile = mode != Mode::Import;
  Step from = stepOf(command.compileFrom),
       to = isCompile ? stepOf(command.compileTo) : Step::Import;
  StringRef output = command.arguments.output;
  if (output.empty() && isCompile)
    to = std::min(to, Step::Lower); // nothing to emit: only to say how it goes
  if (Error error = checkOutput(output))
    return report(std::move(error));
  DialectRegistry registry;
  registerToolDialects(registry);
  MLIRContext context(registry);
  context.printOpOnDiagnostic(false);
  ScopedDiagnosticHandler handler(&context, printDiagnostic);
  DefaultTimingManager timing;
  timing.setEnabled(command.timing);
  timing.setOutput(createOutputStrategy(DefaultTimingManager::OutputFormat::Text, llvm::errs()));
  TimingScope total = timing.getRootScope();

  TimingScope importing = total.nest("Import");
  Expected<OwningOpRef<ModuleOp>> loaded = loadModule(command, context);
  if (!loaded)
    return report(loaded.takeError());
  ModuleOp module = **loaded;
  importing.stop();
  // A device program is checked as it is.
  if (mode == Mode::Check && isDeviceProgram(module)) {
    command.compileFrom = "lower";
    from = Step::Lower;
    if (Error error = checkOptionsOfDoneSteps(command, from))
      return report(std::move(error));
  }

  if (from == Step::Import) {
    module->removeAttr(kOptionsAttr);
    if (Error error = settleImages(command, module))
      return report(std::move(error));
    bool toStdout = output != "-";
    if (command.statistics &&
        failed(printStatistics(command, module, toStdout ? llvm::outs() : llvm::errs())))
      return kWrongInput;
    if (command.statistics && output.empty())
      return kDone;
  }
  restoreOptions(module, command.options,
                 [&](StringRef name) { return command.arguments.given(name); });
  if (Error error = settlePrecision(command))
    return report(std::move(error));
  if (command.arguments.given("target") && !command.arguments.given("chip"))
    command.options.chip.clear(); // of the target that the file was made for
  Expected<std::shared_ptr<const Target>> target = makeTarget(targetOf(command.options));
  if (!target) // of a file that names another machine's
    return report(target.takeError());
  command.options.chip = (*target)->chipNames(); // what it is, where nothing was named
  if (!command.kernels.empty() && ((*target)->deviceCode().empty() || to < Step::Emit))
    return report("--kernels: expected --target=cuda and an executable to make");
  if (Error error = makeFolder("kernels", command.kernels))
    return report(std::move(error));
  if (to >= Step::Parallelize)
    command.options.machine = machineOf(command.options, **target);
  const CompileOptions given = command.options; // before what follows from them
  if (isCompile && from < Step::Parallelize) {
    FailureOr<Grid> grid = parseGrid(command.options.grid, module.getLoc());
    if (failed(grid)) // what is wrong with it has been printed
      return kWrongInput;
    if (Error error = settleEncoder(command.arguments, command.options, *grid, module))
      return report(std::move(error));
  }
  if (to > Step::Import)
    recordOptions(module, command.options);
  std::optional<int64_t> memory;
  if (to >= Step::Parallelize) {
    Expected<Machine> machine = findMachine(command.options.machine);
    if (machine && command.options.overMemory == "refuse")
      memory = machine->memoryBytes;
    else if (!machine && from < Step::Parallelize)
      return report("--machine: " + llvm::toString(machine.takeError()));
    llvm::consumeError(machine.takeError()); // the file of a program that was planned elsewhere
    if (!memory && (*target)->limits() && command.options.overMemory == "refuse")
      llvm::errs() << "llamac: note: --machine=" << command.options.machine
                   << " does not say how much memory a GPU has: what the program needs is not "
                      "compared\n";
  }
  // What other options would be tried with, if the program does not fit.
  OwningOpRef<ModuleOp> start;
  if (memory && from < Step::Parallelize)
    start = module.clone();

  // Step by step, the form that each leaves verified. Verifying after every pass
  // would cost more than the passes for a model of many layers.
  if (from < Step::Train && to >= Step::Train) {
    TimingScope scope = total.nest("Train");
    PassManager pm(&context);
    pm.enableTiming(scope);
    pm.enableVerifier(false);
    buildPipeline(pm, command.options, Step::Import, Step::Train);
    if (failed(pm.run(module)) || failed(verify(module)))
      return kWrongInput;
  }
  if (from < Step::Lower && to >= Step::Parallelize &&
      failed(buildPrograms(module, command.options, from, to, memory, total)))
    return kWrongInput;
  if (memory && failed(checkMemory(command, given, module, *memory, start.get(), from)))
    return mode == Mode::Check ? kFailed : kWrongInput;
  if (to >= Step::Lower) {
    TimingScope scope = total.nest("Check");
    PassManager pm(&context);
    pm.enableTiming(scope);
    pm.enableVerifier(false); // it has been, and the pass changes no op
    buildCheck(pm, *target);
    if (failed(pm.run(module)))
      return kFailed;
  }
  if (isCompile && output != "-")
    printStages(module, llvm::outs());
  if (mode == Mode::Check) {
    printStages(module, llvm::outs());
    printCertificate(module, llvm::outs());
    printMemory(module, command.options.machine, memory, llvm::outs());
    if (command.precisionReport)
      printPrecisionReport(module, llvm::outs());
    return kDone;
  }

  if (command.simulate || !command.timeline.empty()) {
    int status = simulateStep(command, module);
    if (status != kDone || output.empty())
      return status;
  }
  if (to < Step::Emit)
    return writeModule(module, output.empty() ? "-" : output);
  TimingScope emitting = total.nest("Emit");
  EmitOptions emit;
  emit.kernelFolder = command.kernels;
  if (failed(emitExecutable(module, **target, emit, output)))
    return kFailed;
  return kDone;
}

static int runImport(ArrayRef<const char *> rest) {
  Command command;
  Arguments &arguments = command.arguments;
  command.addImportOptions();
#define LLAMAC_SIZE_OPTION(STEP, TYPE, FIELD, NAME, DEFAULT, VALUES, HELP)                         \
  arguments.add(NAME, command.options.FIELD, Arguments::VALUES, HELP);
#define LLAMAC_OPTION(STEP, TYPE, FIELD, NAME, DEFAULT, VALUES, HELP)
#include "llamac/Driver/Options.def"
  if (Error error = arguments.parse(rest))
    return report(std::move(error));
  if (arguments.help) {
    llvm::outs() << "usage: llamac import MODEL [options] [-o FILE]\n\n"
                    "Makes the model graph (f32, no batch size) and prints it. The sizes of a\n"
                    "micro-batch are for --statistics alone.\n\n";
    arguments.printOptions(llvm::outs());
    return kDone;
  }
  if (StringRef(arguments.model).ends_with(".mlir") && !command.statistics)
    return report(arguments.model + ": expected a model to import, got a .mlir file");
  return run(command, Mode::Import);
}

// What decides the program.
static void addCompileOptions(Command &command) {
  command.addImportOptions();
#define LLAMAC_OPTION(STEP, TYPE, FIELD, NAME, DEFAULT, VALUES, HELP)                              \
  command.arguments.add(NAME, command.options.FIELD, Arguments::VALUES, HELP);
#include "llamac/Driver/Options.def"
  command.arguments.add("compile-from", command.compileFrom,
                        Arguments::OneOf(ArrayRef(kStepNames).drop_back().vec()),
                        "last step that a .mlir file has behind it (import)");
}

static int runCompile(ArrayRef<const char *> rest) {
  Command command;
  Arguments &arguments = command.arguments;
  addCompileOptions(command);
  arguments.add("compile-to", command.compileTo, Arguments::OneOf(ArrayRef(kStepNames).vec()),
                "last step (emit)");
  arguments.flag("simulate", command.simulate,
                 "print the step as the machine would run it: time, bubble, load, MFU");
  arguments.add("timeline", command.timeline, Arguments::Text("FILE"),
                "write the simulated step: .json (Perfetto), .svg, .txt, or .csv, its schedule");
  arguments.add("kernels", command.kernels, Arguments::Text("FOLDER"),
                "with --target=cuda, write PTX and machine code of all kernels there");
  if (Error error = arguments.parse(rest))
    return report(std::move(error));
  if (arguments.help) {
    llvm::outs() << "usage: llamac compile MODEL [options] -o FILE\n\n"
                    "Makes an executable that trains the model, or any form on the way there.\n\n";
    arguments.printOptions(llvm::outs());
    return kDone;
  }
  if (Error error = checkCompileOptions(command))
    return report(std::move(error));
  return run(command, Mode::Compile);
}

static int runCheck(ArrayRef<const char *> rest) {
  Command command;
  Arguments &arguments = command.arguments;
  command.compileTo = "lower";
  addCompileOptions(command);
  arguments.flag("precision-report", command.precisionReport,
                 "print every reduction: its types, length and axes");
  if (Error error = arguments.parse(rest))
    return report(std::move(error));
  if (arguments.help) {
    llvm::outs()
        << "usage: llamac check MODEL|PROGRAM.mlir [options]\n\n"
           "Compiles the model as far as the device program (or reads one that\n"
           "--compile-to=lower wrote) and proves that no rank waits for ever, no memory is\n"
           "used too early or too long, and every gradient is reduced once. Prints what\n"
           "was proved, or the fault with its places; exits 1 then.\n\n";
    arguments.printOptions(llvm::outs());
    return kDone;
  }
  if (!arguments.output.empty())
    return report("-o: check writes no file");
  arguments.output = "-";
  if (Error error = checkCompileOptions(command))
    return report(std::move(error));
  return run(command, Mode::Check);
}

static int runTool(ArrayRef<const char *> arguments) {
  StringRef name = arguments.empty() ? "" : arguments.front();
  if (name == "import")
    return runImport(arguments.drop_front());
  if (name == "compile")
    return runCompile(arguments.drop_front());
  if (name == "check")
    return runCheck(arguments.drop_front());
  if (name == "--help" || name == "-h") {
    llvm::outs() << llvm::formatv(kSummary.data(), llvm::join(builtinModelNames(), " "));
    return kDone;
  }
  if (name == "--version") {
    llvm::outs() << "llamac 0.1.0, LLVM " LLVM_VERSION_STRING "\n";
    return kDone;
  }
  if (name.empty())
    return report("expected a command: import, compile or check (llamac --help)");
  std::string meant = didYouMean(name, {"import", "compile", "check"});
  return report("unknown command '" + name + "'" +
                (meant.empty() ? "" : "; did you mean '" + meant + "'?") + "; see llamac --help");
}

int main(int argc, char **argv) {
  llvm::InitLLVM init(argc, argv);
  int status = runTool(ArrayRef<const char *>(argv + 1, argc - 1));
  llvm::outs().flush();
  if (std::error_code error = llvm::outs().error()) { // a stream that is left so would abort
    llvm::outs().clear_error();
    return reportWriting("standard output", error);
  }
  return status;
}
