//===- DeviceInfo.cpp - What an executable has for a device ---------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Commands/DeviceInfo.h"

#include "llrt/MemoryTable.h"

#include <algorithm>
#include <array>
#include <ostream>
#include <set>
#include <span>
#include <tuple>
#include <unordered_map>

using namespace llrt;
using Kind = Action::Kind;

//===----------------------------------------------------------------------===//
// Facts
//===----------------------------------------------------------------------===//

// The version of a PTX text: the word behind `.version`.
static std::string ptxVersion(const LlrtImage &image) {
  constexpr std::string_view mark = ".version ";
  std::string_view text(image.ptx);
  size_t at = text.find(mark);
  if (at == text.npos)
    return "?";
  text.remove_prefix(at + mark.size());
  return std::string(text.substr(0, text.find_first_of(" \n")));
}

// The code for a chip; null if the kernel is not for it.
static const LlrtImage *imageFor(const LlrtCudaKernel &kernel, std::string_view chip) {
  for (const LlrtImage &image : std::span(kernel.images, kernel.image_count))
    if (image.chip == chip)
      return &image;
  return nullptr;
}

static KernelCode codeOf(const LlrtImage &image) {
  return {image.chip,  image.registers, image.shared,
          image.stack, image.spills,    image.cubin != nullptr};
}

// Calls `visit` for each action of a program of the stage, those of its runs too.
template <typename Visit>
static void forEachAction(const Stage &stage, const std::string &program, Visit visit) {
  for (const Action &entry : stage.programs.at(program)) {
    visit(entry);
    if (entry.kind == Kind::Run)
      for (const Action &item : stage.graphs.at(entry.graph).items)
        visit(item);
  }
}

DeviceFacts llrt::deviceFacts(const Program &program) {
  const LlrtDeviceCode &code = *program.device;
  std::span kernels(code.kernels, code.kernel_count);
  DeviceFacts facts;
  for (const char *const *chip = code.chips; *chip; ++chip) {
    DeviceFacts::Chip &of = facts.chips.emplace_back(*chip, "none", true);
    for (const LlrtCudaKernel *kernel : kernels)
      if (const LlrtImage *image = imageFor(*kernel, *chip)) {
        of.ptxVersion = ptxVersion(*image);
        of.hasMachineCode &= image->cubin != nullptr;
      }
  }

  // Equal kernels of several blocks are one.
  std::map<std::tuple<uint64_t, std::string, std::array<int64_t, 10>>, size_t> numbers;
  std::unordered_map<const LlrtCudaKernel *, size_t> numberOf;
  for (const LlrtCudaKernel *kernel : kernels) {
    std::array<int64_t, 10> sizes = {};
    for (size_t i = 0; i < 3; ++i) {
      sizes[i] = kernel->grid[i];
      sizes[3 + i] = kernel->block[i];
      sizes[6 + i] = kernel->cluster[i];
    }
    sizes[9] = kernel->shared;
    auto [entry, isNew] = numbers.try_emplace(
        {kernel->key, kernel->attention ? kernel->attention : "", sizes}, facts.kernels.size());
    numberOf[kernel] = entry->second;
    if (!isNew)
      continue;
    KernelUse &use = facts.kernels.emplace_back();
    use.kernel = kernel;
    for (uint64_t i = 0; i < kernel->image_count; ++i)
      use.codes.push_back(codeOf(kernel->images[i]));
  }

  std::unordered_map<LlrtBlock, const LlrtBlockWork *> works;
  for (const LlrtBlockWork &work : std::span(code.blocks, code.block_count))
    works[work.block] = &work;
  for (const char *name : {known::step, known::forward})
    for (const Stage &stage : program.stages) {
      Launched &launched = facts.launched[name].emplace_back();
      std::vector<int64_t> launches(facts.kernels.size());
      forEachAction(stage, name, [&](const Action &action) {
        launched.communications += action.communicates();
        launched.memsets += action.kind == Kind::Zero;
        auto work = action.kind == Kind::Call ? works.find(action.call.block) : works.end();
        if (work == works.end())
          return;
        launched.products += int64_t(work->second->product_count);
        std::map<std::string_view, int64_t> ofChips;
        std::set<std::string> attention;
        for (const LlrtCudaKernel *kernel :
             std::span(work->second->launches, work->second->launch_count)) {
          ++launches[numberOf.at(kernel)];
          for (const DeviceFacts::Chip &chip : facts.chips)
            ofChips[chip.name] += imageFor(*kernel, chip.name) != nullptr;
          if (kernel->attention)
            attention.insert(kernel->attention);
        }
        int64_t most = 0;
        for (const auto &[chip, count] : ofChips)
          most = std::max(most, count);
        launched.kernels += most;
        if (name == std::string_view(known::step))
          for (const std::string &each : attention)
            ++facts.attention[each];
      });
      for (size_t i = 0; i < launches.size(); ++i) {
        int64_t &most = facts.kernels[i].launches[name];
        most = std::max(most, launches[i]);
      }
    }
  return facts;
}

//===----------------------------------------------------------------------===//
// Texts
//===----------------------------------------------------------------------===//

// `32x1x1` as `32`, `4x2x1` as `4x2`.
static std::string sizesText(const int64_t (&sizes)[3]) {
  size_t count = sizes[2] > 1 ? 3 : sizes[1] > 1 ? 2 : 1;
  std::string text;
  for (size_t i = 0; i < count; ++i)
    text += (i ? "x" : "") + std::to_string(sizes[i]);
  return text;
}

// A number for each chip, `168` if all are alike, else `168/160`; `-` where it is not known.
template <typename Get> static std::string ofChips(const KernelUse &use, Get get) {
  std::vector<std::string> texts;
  for (const KernelCode &code : use.codes) {
    int64_t number = get(code);
    texts.push_back(number < 0 ? "-" : std::to_string(number));
  }
  if (std::all_of(texts.begin(), texts.end(),
                  [&](const std::string &each) { return each == texts.front(); }))
    texts.resize(std::min<size_t>(texts.size(), 1));
  std::string all;
  for (const std::string &each : texts)
    all += (all.empty() ? "" : "/") + each;
  return all;
}

static void printKernels(const DeviceFacts &facts, std::ostream &out) {
  std::vector<std::vector<std::string>> rows = {{"launches", "grid", "threads", "cluster",
                                                 "registers", "shared", "dynamic", "stack",
                                                 "spills", "kernel"}};
  for (const KernelUse &use : facts.kernels) {
    const LlrtCudaKernel &kernel = *use.kernel;
    rows.push_back({std::to_string(use.launches.at(known::step)), sizesText(kernel.grid),
                    sizesText(kernel.block), sizesText(kernel.cluster),
                    ofChips(use, [](const KernelCode &code) { return code.registers; }),
                    ofChips(use, [](const KernelCode &code) { return code.shared; }),
                    std::to_string(kernel.shared),
                    ofChips(use, [](const KernelCode &code) { return code.stack; }),
                    ofChips(use, [](const KernelCode &code) { return code.spills; }),
                    kernel.name + (*kernel.location ? std::string(", ") + kernel.location : "")});
  }
  std::vector<size_t> widths(rows[0].size());
  for (const auto &row : rows)
    for (size_t i = 0; i < row.size(); ++i)
      widths[i] = std::max(widths[i], row[i].size());
  for (const auto &row : rows) {
    out << " ";
    for (size_t i = 0; i < row.size(); ++i)
      out << " " << (i + 1 == row.size() ? "" : std::string(widths[i] - row[i].size(), ' '))
          << row[i];
    out << "\n";
  }
}

void llrt::printDevice(const DeviceFacts &facts, bool all, std::ostream &out) {
  out << "device      cuda:";
  for (size_t i = 0; i < facts.chips.size(); ++i)
    out << (i ? ", " : " ") << facts.chips[i].name << " (PTX " << facts.chips[i].ptxVersion
        << (facts.chips[i].hasMachineCode ? ", machine code" : "") << ")";
  const bool known = std::any_of(facts.chips.begin(), facts.chips.end(),
                                 [](const auto &chip) { return chip.hasMachineCode; });
  out << (known ? "\n" : "; from PTX only: registers and spills are the driver's to choose\n");

  std::set<uint64_t> codes;
  int64_t registers = -1, shared = 0, threads = 0, spilling = 0;
  for (const KernelUse &use : facts.kernels) {
    codes.insert(use.kernel->key);
    threads = std::max(threads, use.threads());
    bool spills = false;
    for (const KernelCode &code : use.codes) {
      registers = std::max(registers, code.registers);
      shared = std::max(shared, std::max<int64_t>(code.shared, 0) + use.kernel->shared);
      spills |= code.spills > 0;
    }
    spilling += spills;
  }
  out << "kernels     " << facts.kernels.size() << ", of " << codes.size() << " different codes";
  if (!facts.kernels.empty()) {
    out << "; at most " << threads << " threads, ";
    if (registers >= 0)
      out << registers << " registers, ";
    out << shared << " bytes of shared memory";
    if (registers >= 0)
      out << "; " << (spilling ? std::to_string(spilling) : "none") << " spill"
          << (spilling == 1 || !spilling ? "s" : "");
  }
  out << "\n";
  for (const char *name : {known::step, known::forward}) {
    const std::vector<Launched> &stages = facts.launched.at(name);
    std::vector<std::pair<Launched, std::vector<size_t>>> different;
    for (size_t stage = 0; stage < stages.size(); ++stage) {
      auto entry = std::find_if(different.begin(), different.end(),
                                [&](const auto &each) { return each.first == stages[stage]; });
      if (entry == different.end())
        entry = different.insert(entry, {stages[stage], {}});
      entry->second.push_back(stage);
    }
    for (const auto &[launched, of] : different) {
      out << "launches    " << name;
      if (different.size() > 1)
        out << ", " << stagesText(of);
      out << ": " << launched.kernels << " kernels, " << launched.products << " matrix products, "
          << launched.communications << " communications, " << launched.memsets << " memsets\n";
    }
  }
  for (const auto &[what, calls] : facts.attention)
    out << "attention   " << what << "; " << calls << (calls == 1 ? " call" : " calls")
        << " of a step\n";
  if (all)
    printKernels(facts, out);
}

nlohmann::json llrt::deviceJson(const DeviceFacts &facts) {
  using json = nlohmann::json;
  auto sizes = [](const int64_t (&of)[3]) { return json::array({of[0], of[1], of[2]}); };
  json device = {
      {"chips", json::array()}, {"kernels", json::array()}, {"attention", json::array()}};
  for (const DeviceFacts::Chip &chip : facts.chips)
    device["chips"].push_back({{"name", chip.name},
                               {"ptx_version", chip.ptxVersion},
                               {"machine_code", chip.hasMachineCode}});
  for (const KernelUse &use : facts.kernels) {
    const LlrtCudaKernel &kernel = *use.kernel;
    json one = {{"name", kernel.name},
                {"location", kernel.location},
                {"grid", sizes(kernel.grid)},
                {"block", sizes(kernel.block)},
                {"cluster", sizes(kernel.cluster)},
                {"dynamic_shared", kernel.shared},
                {"launches", use.launches},
                {"codes", json::array()}};
    if (kernel.attention)
      one["attention"] = kernel.attention;
    for (const KernelCode &code : use.codes) {
      json of = {{"chip", code.chip}, {"machine_code", code.hasMachineCode}};
      if (code.hasMachineCode)
        of.update({{"registers", code.registers},
                   {"shared", code.shared},
                   {"stack", code.stack},
                   {"spills", code.spills}});
      one["codes"].push_back(std::move(of));
    }
    device["kernels"].push_back(std::move(one));
  }
  for (const auto &[name, stages] : facts.launched)
    for (const Launched &of : stages)
      device["launches"][name].push_back({{"kernels", of.kernels},
                                          {"products", of.products},
                                          {"communications", of.communications},
                                          {"memsets", of.memsets}});
  for (const auto &[what, calls] : facts.attention)
    device["attention"].push_back({{"what", what}, {"calls", calls}});
  return device;
}
