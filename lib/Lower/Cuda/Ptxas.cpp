//===- Ptxas.cpp - PTX to machine code ------------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// ptxas is a process. Its results are kept in files named by all that decides them, each with
// a line before the machine code:
//
//   llamac-cubin HASH REGISTERS SHARED STACK SPILLS
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/Cuda/Ptx.h"

#include "llamac/Support/WriteFile.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/BinaryFormat/ELF.h"
#include "llvm/Support/BLAKE3.h"
#include "llvm/Support/CachePruning.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Process.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/Regex.h"
#include "llvm/Support/xxhash.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <thread>

using namespace mlir;
using namespace mlir::llamac;

/// What ptxas is told beside chip and files.
static constexpr StringRef kFlags[] = {"-O3", "-lineinfo", "-v", "--warn-on-spills"};
/// How long it may take to say what it is, and for a kernel: many times what it takes.
static constexpr std::chrono::seconds kMostToAnswer(30), kMostToAssemble(600);
/// Bytes and days of the cache.
static constexpr uint64_t kCacheBytes = uint64_t(256) << 20;
static constexpr int kCacheDays = 60;
static constexpr StringRef kCacheMark = "llamac-cubin";

namespace {
// A file for the time of a call.
struct Temporary {
  SmallString<128> path;
  std::error_code error;
  explicit Temporary(StringRef suffix)
      : error(llvm::sys::fs::createTemporaryFile("llamac", suffix, path)) {}
  ~Temporary() {
    if (!error)
      (void)llvm::sys::fs::remove(path);
  }
};
} // namespace

// Runs `command` and gives what it prints; fails, with that text, if its status is not 0 or it takes
// longer than `most`. Several threads may do so: LLVM's own limit of time is one alarm of the process.
static llvm::Expected<std::string> run(ArrayRef<StringRef> command, std::chrono::seconds most) {
  Temporary log("txt");
  if (log.error)
    return llvm::createStringError("cannot write " + log.path + ": " + log.error.message());
  std::optional<StringRef> redirects[] = {StringRef(), StringRef(log.path), StringRef(log.path)};
  std::string message;
  bool failed = false;
  llvm::sys::ProcessInfo process =
      llvm::sys::ExecuteNoWait(command[0], command, std::nullopt, redirects, 0, &message, &failed);
  int status = -1;
  if (!failed) {
    const auto begin = std::chrono::steady_clock::now();
    llvm::sys::ProcessInfo ended;
    for (auto pause = std::chrono::milliseconds(1);;
         pause = std::min(pause * 2, std::chrono::milliseconds(16))) {
      ended = llvm::sys::Wait(process, /*SecondsToWait=*/0, &message);
      if (ended.Pid != 0)
        break;
      if (std::chrono::steady_clock::now() - begin > most) {
        (void)kill(process.Pid, SIGKILL);
        (void)llvm::sys::Wait(process, std::nullopt);
        return llvm::createStringError(command[0] + ": has not ended in " + Twine(most.count()) +
                                       " s");
      }
      std::this_thread::sleep_for(pause);
    }
    status = ended.ReturnCode;
  }
  auto said = llvm::MemoryBuffer::getFile(log.path);
  std::string text = said ? (*said)->getBuffer().str() : "";
  if (status != 0)
    return llvm::createStringError(command[0] + ": " +
                                   (message.empty() ? StringRef(text).trim() : StringRef(message)));
  return text;
}

//===----------------------------------------------------------------------===//
// Where it is
//===----------------------------------------------------------------------===//

static llvm::Expected<Ptxas> ask(std::string path) {
  Ptxas ptxas;
  ptxas.path = std::move(path);
  llvm::Expected<std::string> version = run({ptxas.path, "--version"}, kMostToAnswer);
  if (!version)
    return version.takeError();
  SmallVector<StringRef> match;
  if (!llvm::Regex("V[0-9]+\\.[0-9]+\\.[0-9]+").match(*version, &match))
    return llvm::createStringError(ptxas.path + " --version: expected a version, as in V13.0.88");
  ptxas.version = match[0].str();
  llvm::Expected<std::string> help = run({ptxas.path, "--help"}, kMostToAnswer);
  if (!help)
    return help.takeError();
  llvm::Regex chip("'(sm_[0-9]+[a-z]?)'");
  for (StringRef rest = *help; chip.match(rest, &match);
       rest = rest.substr(match[0].end() - rest.begin()))
    if (!llvm::is_contained(ptxas.chips, match[1]))
      ptxas.chips.push_back(match[1].str());
  if (ptxas.chips.empty())
    return llvm::createStringError(ptxas.path + " --help: expected the chips that it knows");
  return ptxas;
}

static llvm::Expected<std::unique_ptr<Ptxas>> search() {
  auto made = [](llvm::Expected<Ptxas> found) -> llvm::Expected<std::unique_ptr<Ptxas>> {
    if (!found)
      return found.takeError();
    return std::make_unique<Ptxas>(std::move(*found));
  };
  if (auto named = llvm::sys::Process::GetEnv("LLAMAC_PTXAS"); named && !named->empty()) {
    if (*named == "none")
      return nullptr;
    llvm::ErrorOr<std::string> path = llvm::sys::findProgramByName(*named);
    if (!path)
      return llvm::createStringError("LLAMAC_PTXAS=" + *named + ": " + path.getError().message());
    llvm::Expected<Ptxas> found = ask(*path);
    if (!found)
      return llvm::createStringError("LLAMAC_PTXAS=" + *named + ": " +
                                     llvm::toString(found.takeError()));
    return made(std::move(found));
  }
  if (llvm::ErrorOr<std::string> path = llvm::sys::findProgramByName("ptxas"))
    return made(ask(*path));
  SmallVector<std::string> folders;
  for (const char *variable : {"CUDA_HOME", "CUDA_PATH"})
    if (auto folder = llvm::sys::Process::GetEnv(variable))
      folders.push_back(*folder + "/bin");
  folders.push_back("/usr/local/cuda/bin");
  // Any address of the program tells its path where /proc does not.
  SmallString<128> own(
      llvm::sys::fs::getMainExecutable(nullptr, reinterpret_cast<void *>(&search)));
  own = llvm::sys::path::parent_path(llvm::sys::path::parent_path(own)).str();
  folders.push_back((own + "/cuda/bin").str());
  for (const std::string &folder : folders)
    if (llvm::ErrorOr<std::string> path = llvm::sys::findProgramByName("ptxas", {folder}))
      return made(ask(*path));
  return nullptr;
}

llvm::Expected<const Ptxas *> Ptxas::find() {
  // The text of an error and not the error is kept: everybody who asks gets it.
  static const auto found = [] {
    llvm::Expected<std::unique_ptr<Ptxas>> found = search();
    std::pair<std::unique_ptr<Ptxas>, std::string> result;
    if (found)
      result.first = std::move(*found);
    else
      result.second = llvm::toString(found.takeError());
    return result;
  }();
  if (!found.second.empty())
    return llvm::createStringError(found.second);
  return found.first.get();
}

//===----------------------------------------------------------------------===//
// The cache
//===----------------------------------------------------------------------===//

// Its folder, empty if there is none.
static SmallString<128> cacheFolder() {
  SmallString<128> folder;
  if (auto named = llvm::sys::Process::GetEnv("LLAMAC_CACHE"))
    folder = *named;
  else if (llvm::sys::path::cache_directory(folder) && llvm::sys::path::is_absolute(folder))
    llvm::sys::path::append(folder, "llamac");
  else // a relative XDG_CACHE_HOME or HOME would be another place in each folder
    folder.clear();
  if (!folder.empty() && llvm::sys::fs::create_directories(folder))
    folder.clear();
  return folder;
}

static uint64_t hashOf(StringRef numbers, ArrayRef<char> bytes) {
  return llvm::xxh3_64bits(numbers) ^ llvm::xxh3_64bits(StringRef(bytes.data(), bytes.size()));
}

// The numbers of a cubin as text, and back.
static std::string numbersOf(const Resources &resources) {
  return (Twine(resources.registers) + " " + Twine(resources.shared) + " " +
          Twine(resources.stack) + " " + Twine(resources.spills))
      .str();
}

static std::optional<Cubin> readCached(StringRef path) {
  auto file = llvm::MemoryBuffer::getFile(path, /*IsText=*/false,
                                          /*RequiresNullTerminator=*/false);
  if (!file)
    return std::nullopt;
  auto [line, bytes] = (*file)->getBuffer().split('\n');
  auto [mark, rest] = line.split(' ');
  auto [hash, numbers] = rest.split(' ');
  Cubin cubin;
  cubin.bytes.assign(bytes.begin(), bytes.end());
  uint64_t expected;
  if (mark != kCacheMark || hash.getAsInteger(16, expected) ||
      expected != hashOf(numbers, cubin.bytes))
    return std::nullopt;
  SmallVector<StringRef> values;
  numbers.split(values, ' ');
  int64_t *members[] = {&cubin.resources.registers, &cubin.resources.shared, &cubin.resources.stack,
                        &cubin.resources.spills};
  if (values.size() != std::size(members))
    return std::nullopt;
  for (auto [value, member] : llvm::zip_equal(values, members))
    if (value.getAsInteger(10, *member))
      return std::nullopt;
  return cubin;
}

// What cannot be kept is made again.
static void writeCached(StringRef folder, StringRef path, const Cubin &cubin) {
  std::string numbers = numbersOf(cubin.resources);
  std::string line = (Twine(kCacheMark) + " " + llvm::utohexstr(hashOf(numbers, cubin.bytes)) +
                      " " + numbers + "\n")
                         .str();
  llvm::consumeError(writeFile(path, {line, StringRef(cubin.bytes.data(), cubin.bytes.size())}));
  llvm::CachePruningPolicy policy;
  policy.MaxSizeBytes = kCacheBytes;
  policy.Expiration = std::chrono::hours(24 * kCacheDays);
  llvm::pruneCache(folder, policy);
}

//===----------------------------------------------------------------------===//
// Assembly
//===----------------------------------------------------------------------===//

// The number before `what` in what ptxas says, 0 if it does not say.
static int64_t numberBefore(StringRef text, StringRef what) {
  SmallVector<StringRef> match;
  int64_t number = 0;
  if (llvm::Regex(("([0-9]+) " + what).str()).match(text, &match))
    (void)match[1].getAsInteger(10, number);
  return number;
}

llvm::Expected<Cubin> Ptxas::assemble(StringRef ptx, StringRef chip) const {
  llvm::BLAKE3 key;
  for (StringRef part : {ptx, StringRef(version), chip}) {
    key.update(part);
    key.update(StringRef("\0", 1));
  }
  for (StringRef flag : kFlags)
    key.update(flag);
  SmallString<128> folder = cacheFolder(), path(folder);
  // The name under which pruneCache finds it.
  llvm::sys::path::append(path, "llvmcache-" + llvm::toHex(key.final<20>(), /*LowerCase=*/true));
  if (!folder.empty())
    if (std::optional<Cubin> cached = readCached(path))
      return std::move(*cached);

  Temporary input("ptx"), output("cubin");
  for (Temporary *file : {&input, &output})
    if (file->error)
      return llvm::createStringError("cannot write " + file->path + ": " + file->error.message());
  if (llvm::Error error = writeFile(input.path, ptx))
    return std::move(error);
  std::string chipFlag = ("-arch=" + chip).str();
  SmallVector<StringRef> command = {this->path, chipFlag};
  command.append(std::begin(kFlags), std::end(kFlags));
  command.append({input.path, "-o", output.path});
  llvm::Expected<std::string> said = run(command, kMostToAssemble);
  if (!said)
    return said.takeError();
  auto file = llvm::MemoryBuffer::getFile(output.path, /*IsText=*/false,
                                          /*RequiresNullTerminator=*/false);
  if (!file)
    return llvm::createStringError("cannot read " + output.path + ": " + file.getError().message());
  Cubin cubin;
  StringRef bytes = (*file)->getBuffer();
  if (!bytes.starts_with(llvm::ELF::ElfMagic))
    return llvm::createStringError(this->path + ": expected an ELF file of machine code, got " +
                                   Twine(bytes.size()) + " bytes that are none");
  cubin.bytes.assign(bytes.begin(), bytes.end());
  cubin.resources.registers = numberBefore(*said, "registers");
  cubin.resources.shared = numberBefore(*said, "bytes smem");
  cubin.resources.stack = numberBefore(*said, "bytes stack frame");
  cubin.resources.spills =
      numberBefore(*said, "bytes spill stores") + numberBefore(*said, "bytes spill loads");
  // C7519: a fence that ptxas adds by itself, and that costs nothing.
  for (StringRef line : llvm::split(*said, '\n'))
    if (llvm::Regex("\\(C75[0-9][0-9]\\)").match(line) && !line.contains("(C7519)"))
      cubin.warning = line.trim().str();
  if (!folder.empty() && cubin.warning.empty())
    writeCached(folder, path, cubin);
  return cubin;
}
