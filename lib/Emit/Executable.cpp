//===- Executable.cpp - Device program to executable ----------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One object file per block module, one with the table `llrt_program`, and the
// runtime library go through the system's compiler driver, which knows where the C
// library is. lld is used where LLVM's own is installed, as it links ten times as
// fast as GNU ld.
//
//===----------------------------------------------------------------------===//
#include "llamac/Emit/Emit.h"

#include "llamac/Lower/RuntimeTable.h"
#include "llamac/Lower/Target.h"
#include "runtime/include/llrt/Program.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "llvm/IR/DerivedTypes.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Process.h"
#include "llvm/Support/Program.h"

using namespace mlir;
using namespace mlir::llamac;

/// Where LLVM 22's linker is on Debian.
static constexpr llvm::StringLiteral kLldDirectory = "/usr/lib/llvm-22/bin";

/// Names of blocks in object files begin with this, so that a block `read` does not
/// become the C library's.
static constexpr llvm::StringLiteral kBlockPrefix = "llrt.block.";

/// Features that the code of `cpu` may use, in the order of LLVM's table.
static std::vector<std::string> featuresOf(const llvm::MCSubtargetInfo &cpu) {
  std::vector<std::string> features;
  for (const llvm::SubtargetFeatureKV &feature : cpu.getAllProcessorFeatures())
    if (cpu.getFeatureBits().test(feature.Value))
      features.push_back(feature.Key);
  return features;
}

/// The object file with `llrt_program`.
static FailureOr<ObjectFile> makeTable(Location loc, const ProgramText &program,
                                       const Target &target) {
  const CpuTarget &cpu = target.cpu();
  std::string message;
  llvm::Triple triple(cpu.triple);
  const llvm::Target *processors = llvm::TargetRegistry::lookupTarget(triple, message);
  if (!processors)
    return emitError(loc, "cannot compile for ") << cpu.triple << ": " << message;
  std::unique_ptr<llvm::MCSubtargetInfo> subtarget(
      processors->createMCSubtargetInfo(triple, cpu.name, cpu.features));
  return compileData(loc, cpu, "llrt_program", [&](llvm::Module &module) {
    RuntimeTable table(module);
    llvm::Constant *null = table.null();
    SmallVector<llvm::Constant *> names, blocks, features;
    auto *blockType = llvm::FunctionType::get(llvm::Type::getVoidTy(module.getContext()),
                                              {null->getType(), null->getType()}, false);
    for (const ProgramText::Block &block : program.blocks) {
      names.push_back(table.string(block.name));
      std::string symbol = (kBlockPrefix + block.code.getLeafReference().getValue()).str();
      blocks.push_back(
          cast<llvm::Constant>(module.getOrInsertFunction(symbol, blockType).getCallee()));
    }
    for (const std::string &feature : featuresOf(*subtarget))
      features.push_back(table.string(feature));
    features.push_back(null);
    StringRef device = target.deviceCode();
    using P = LlrtProgram;
    table.define("llrt_program",
                 table.structure<P>({{&P::text, table.string(program.json)},
                                     {&P::text_bytes, table.number(program.json.size())},
                                     {&P::block_count, table.number(program.blocks.size())},
                                     {&P::block_names, table.array(names)},
                                     {&P::blocks, table.array(blocks)},
                                     {&P::cpu, table.string(cpu.name)},
                                     {&P::cpu_features, table.array(features)},
                                     {&P::target, table.string(target.name())},
                                     {&P::device, device.empty() ? null
                                                                 : module.getOrInsertGlobal(
                                                                       device, null->getType())}}));
  });
}

/// The folder of the runtime library.
static FailureOr<std::string> findRuntime(Location loc, const Target &target,
                                          const EmitOptions &options) {
  SmallString<128> directory(options.runtimeDirectory);
  if (directory.empty())
    if (auto variable = llvm::sys::Process::GetEnv("LLAMAC_RUNTIME_DIR"))
      directory = *variable;
  if (directory.empty()) {
    // Any address of the program tells its path where /proc does not.
    directory = llvm::sys::fs::getMainExecutable(nullptr, reinterpret_cast<void *>(&findRuntime));
    directory = llvm::sys::path::parent_path(llvm::sys::path::parent_path(directory)).str();
    llvm::sys::path::append(directory, "lib");
  }
  for (StringRef library : target.runtimeLibraries()) {
    SmallString<128> file(directory);
    llvm::sys::path::append(file, "lib" + library + ".a");
    if (!llvm::sys::fs::exists(file))
      return emitError(loc, "runtime library not found: expected ")
             << file << "; LLAMAC_RUNTIME_DIR names another folder";
  }
  return directory.str().str();
}

static FailureOr<std::string> findLinker(Location loc, const EmitOptions &options) {
  std::string wanted = options.linker;
  if (wanted.empty())
    wanted = llvm::sys::Process::GetEnv("LLAMAC_LINKER").value_or("");
  SmallVector<StringRef> names = {wanted};
  if (wanted.empty())
    names = {LLAMAC_DEFAULT_LINKER, "c++", "g++", "clang++"};
  for (StringRef name : names)
    if (llvm::ErrorOr<std::string> path = llvm::sys::findProgramByName(name))
      return *path;
  return emitError(loc, "no compiler found to link with: tried ")
         << llvm::join(names, ", ") << "; LLAMAC_LINKER names another";
}

/// Bytes that the executable may take at most.
static uint64_t mostBytes(ArrayRef<std::string> files, StringRef runtime) {
  uint64_t bytes = 0, size;
  auto add = [&](const Twine &file) {
    if (!llvm::sys::fs::file_size(file, size))
      bytes += size;
  };
  for (const std::string &file : files)
    add(file);
  add(runtime + "/libllrt.a");
  return bytes;
}

/// Links `objects` (paths), which lie in the folder `directory`, into `path`.
static LogicalResult link(Location loc, const Target &target, const EmitOptions &options,
                          ArrayRef<std::string> objects, StringRef directory, StringRef path) {
  FailureOr<std::string> runtime = findRuntime(loc, target, options);
  FailureOr<std::string> linker = findLinker(loc, options);
  if (failed(runtime) || failed(linker))
    return failure();
  // The file takes its name when it is complete.
  SmallString<128> unfinished;
  llvm::sys::fs::createUniquePath(path + ".%%%%%%%%.tmp", unfinished, /*MakeAbsolute=*/false);
  std::string search = "-L" + *runtime, lld = ("-B" + kLldDirectory).str();
  SmallVector<StringRef> command = {*linker};
  command.append(objects.begin(), objects.end());
  command.push_back(search);
  auto libraries = llvm::map_to_vector(target.runtimeLibraries(),
                                       [](StringRef name) { return ("-l" + name).str(); });
  llvm::append_range(command, libraries);
  llvm::append_range(command, target.linkArguments());
  command.append({"-static-libstdc++", "-static-libgcc", "-Wl,--gc-sections"});
  if (llvm::sys::fs::exists(kLldDirectory + "/ld.lld"))
    command.append({lld, "-fuse-ld=lld"});
  command.append({"-o", unfinished});

  // What the linker says is of interest if it is not the disk that is full: then it crashes.
  std::string log = (directory + "/log").str(), message;
  std::optional<StringRef> redirects[] = {std::nullopt, StringRef(log), StringRef(log)};
  int status = llvm::sys::ExecuteAndWait(*linker, command, std::nullopt, redirects, 0, 0, &message);
  std::error_code error;
  if (status == 0) {
    error = llvm::sys::fs::rename(unfinished, path);
    if (!error)
      return success();
  }
  (void)llvm::sys::fs::remove(unfinished);
  if (error)
    return emitError(loc, "cannot write ") << path << ": " << error.message();
  SmallString<128> folder(path);
  (void)llvm::sys::fs::make_absolute(folder);
  llvm::sys::path::remove_filename(folder);
  for (StringRef place : {StringRef(folder), directory})
    if (auto space = llvm::sys::fs::disk_space(place);
        space && space->available < mostBytes(objects, *runtime))
      return emitError(loc, "cannot write ")
             << path << ": the disk of " << place << " has " << space->available
             << " bytes left, and the executable takes up to " << mostBytes(objects, *runtime);
  auto said = llvm::MemoryBuffer::getFile(log);
  return emitError(loc, "linking failed with status ")
         << status << (message.empty() ? "" : ", ") << message << ": " << llvm::join(command, " ")
         << (said ? "\n" + (*said)->getBuffer().rtrim().str() : "");
}

/// Writes the object files into `directory` and links them.
static LogicalResult writeAndLink(Location loc, const Target &target, const EmitOptions &options,
                                  ArrayRef<ObjectFile> objects, StringRef directory,
                                  StringRef path) {
  std::vector<std::string> files;
  for (auto [number, object] : llvm::enumerate(objects)) {
    SmallString<128> file(directory);
    llvm::sys::path::append(file, Twine(number) + ".o");
    std::error_code error;
    llvm::raw_fd_ostream stream(file, error);
    if (!error) {
      stream.write(object.bytes.data(), object.bytes.size());
      stream.close();
      error = stream.error();
    }
    if (error) {
      stream.clear_error();
      return emitError(loc, "cannot write ") << file << ": " << error.message();
    }
    files.push_back(file.str().str());
  }
  return link(loc, target, options, files, directory, path);
}

/// A new folder in that of TMPDIR, or in /tmp if that cannot be used.
static std::error_code makeTemporaryFolder(SmallString<128> &directory) {
  if (!llvm::sys::fs::createUniqueDirectory("llamac", directory))
    return {};
  SmallString<128> model;
  llvm::sys::fs::createUniquePath("/tmp/llamac-%%%%%%%%", model, /*MakeAbsolute=*/false);
  directory = model;
  return llvm::sys::fs::create_directory(directory, /*IgnoreExisting=*/false);
}

LogicalResult llamac::emitExecutable(ModuleOp program, const Target &target,
                                     const EmitOptions &options, StringRef path) {
  Location loc = program.getLoc();
  FailureOr<ProgramText> text = writeProgramText(program);
  if (failed(text))
    return failure();
  DialectRegistry translations;
  registerObjectTranslations(translations);
  program->getContext()->appendDialectRegistry(translations);
  OwningOpRef<ModuleOp> copy = program.clone();
  SymbolTableCollection symbols;
  llvm::DenseSet<Attribute> renamed; // several blocks may share code
  for (const ProgramText::Block &block : text->blocks)
    if (renamed.insert(block.code).second) {
      auto function = cast<LLVM::LLVMFuncOp>(symbols.lookupSymbolIn(*copy, block.code));
      function.setSymName((kBlockPrefix + function.getSymName()).str());
    }
  FailureOr<std::vector<ObjectFile>> objects =
      target.compile(*copy, /*threads=*/0, options.kernelFolder);
  if (failed(objects))
    return failure();
  FailureOr<ObjectFile> table = makeTable(loc, *text, target);
  if (failed(table))
    return failure();
  objects->push_back(std::move(*table));

  SmallString<128> directory;
  if (std::error_code error = makeTemporaryFolder(directory))
    return emitError(loc, "cannot make the temporary folder ")
           << directory << ": " << error.message() << " (TMPDIR names where)";
  LogicalResult done = writeAndLink(loc, target, options, *objects, directory, path);
  (void)llvm::sys::fs::remove_directories(directory);
  return done;
}
