//===- Module.cpp - Loads modules, checks launches --------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Machine/Module.h"
#include "Machine/Block.h"
#include "Ptx/Parser.h"

#include <algorithm>
#include <cstring>

using namespace sgpu;

const Chip *Chip::find(int capability) {
  // A100 and H100.
  static const Chip chips[] = {{.capability = 80,
                                .name = "Software GPU (sm_80)",
                                .multiprocessors = 108,
                                .sharedPerBlock = 48 << 10,
                                .sharedPerBlockOptin = 163 << 10,
                                .sharedPerSm = 164 << 10,
                                .registersPerSm = 65536,
                                .clusterBlocks = 1},
                               {.capability = 90,
                                .name = "Software GPU (sm_90)",
                                .multiprocessors = 132,
                                .sharedPerBlock = 48 << 10,
                                .sharedPerBlockOptin = 227 << 10,
                                .sharedPerSm = 228 << 10,
                                .registersPerSm = 65536,
                                .clusterBlocks = 8}};
  for (const Chip &c : chips)
    if (c.capability == capability)
      return &c;
  return nullptr;
}

//===----------------------------------------------------------------------===//
// Loading
//===----------------------------------------------------------------------===//

Module::Module() = default;

Module::~Module() {
  if (impl)
    for (const Variable &v : impl->variables)
      if (v.address)
        impl->memory.free(v.address, "cuModuleUnload");
}

std::unique_ptr<Module> Module::load(std::string_view text, std::string name, const Chip &chip,
                                     DeviceMemory &memory, const Options &options,
                                     Reporter &reporter) {
  std::vector<ptx::Diagnostic> diagnostics;
  std::optional<ptx::Module> ast = ptx::parse(text, diagnostics);
  if (!ast) {
    std::string message = name + ":";
    for (const ptx::Diagnostic &d : diagnostics)
      message += " " + d.str() + "\n";
    throw Error(message);
  }
  auto fits = [&] {
    int sm = int(ast->sm);
    if (ast->smSuffix == 'a')
      return chip.capability == sm;
    if (ast->smSuffix == 'f')
      return chip.capability / 10 == sm / 10 && chip.capability >= sm;
    return chip.capability >= sm;
  };
  if (!fits())
    throw Error(name + ": .target sm_" + std::to_string(ast->sm) +
                (ast->smSuffix ? std::string(1, ast->smSuffix) : "") + " does not run on sm_" +
                std::to_string(chip.capability));
  if (ast->addressSize != 64)
    throw Error(name + ": .address_size 32 is not supported, expected 64");
  std::unique_ptr<Module> module(new Module);
  module->impl = std::make_unique<Impl>(chip, memory, options, reporter);
  module->impl->name = std::move(name);
  module->impl->ast = std::move(*ast);
  module->impl->placeVariables();
  return module;
}

/// Gives .global and .const variables memory and their first values.
void Module::Impl::placeVariables() {
  variables.resize(ast.variables.size());
  auto placed = [](const ptx::Variable &v) {
    return v.space == ptx::StateSpace::Global || v.space == ptx::StateSpace::Const;
  };
  for (size_t i = 0; i < ast.variables.size(); ++i) {
    const ptx::Variable &v = ast.variables[i];
    if (!placed(v))
      continue;
    if (v.linkage == ptx::Linkage::Extern)
      throw Error(name + ": PTX line " + std::to_string(v.line) + ": variable " + v.name +
                  " is only declared (.extern): expected its definition");
    uint64_t bytes = v.byteSize();
    variables[i].bytes = bytes;
    variables[i].address = memory.allocate(std::max<uint64_t>(bytes, 1),
                                           "variable " + v.name + " of " + name, v.alignment);
    if (!variables[i].address)
      throw Error(name + ": variable " + v.name + " of " + std::to_string(bytes) +
                  " bytes does not fit into the memory of the device");
    memory.setKeep(variables[i].address);
  }
  for (size_t i = 0; i < ast.variables.size(); ++i) {
    const ptx::Variable &v = ast.variables[i];
    if (!placed(v) || !variables[i].bytes)
      continue;
    std::vector<uint8_t> bytes(variables[i].bytes);
    if (!v.initializer.empty())
      std::memcpy(bytes.data(), v.initializer.data(), std::min(bytes.size(), v.initializer.size()));
    for (const ptx::Relocation &r : v.relocations) {
      uint64_t value = r.symbol.kind == ptx::Symbol::Function ? functionWindow | r.symbol.index
                                                              : variables[r.symbol.index].address;
      value = (value + uint64_t(r.addend)) >> r.shift;
      std::memcpy(bytes.data() + r.offset, &value, r.bytes);
    }
    Access writes;
    writes.write = true;
    memory.write(variables[i].address, bytes.size(), bytes.data(), writes, {});
    if (v.space == ptx::StateSpace::Const)
      memory.setReadOnly(variables[i].address, true);
  }
}

Program *Module::Impl::program(const std::string &kernel) {
  auto it = programs.find(kernel);
  if (it != programs.end())
    return it->second.get();
  for (uint32_t i = 0; i < ast.functions.size(); ++i)
    if (ast.functions[i].isEntry && ast.functions[i].name == kernel)
      return (programs[kernel] = decode(*this, i)).get();
  return nullptr;
}

const KernelInfo *Module::kernel(const std::string &name) {
  Program *p = impl->program(name);
  return p ? &p->info : nullptr;
}

std::vector<std::string> Module::kernels() const {
  std::vector<std::string> names;
  for (const ptx::Function &f : impl->ast.functions)
    if (f.isEntry)
      names.push_back(f.name);
  return names;
}

const Module::Variable *Module::variable(const std::string &name) const {
  for (size_t i = 0; i < impl->variables.size(); ++i)
    if (impl->ast.variables[i].name == name && impl->variables[i].address)
      return &impl->variables[i];
  return nullptr;
}

//===----------------------------------------------------------------------===//
// Launching
//===----------------------------------------------------------------------===//

/// What the chip or the kernel does not allow in a configuration; empty if it is allowed.
static std::string refuse(const KernelInfo &k, const LaunchConfig &c, const Chip &chip,
                          const Dim3 &cluster, uint32_t sharedEnd, LaunchStatus &status) {
  auto text = [](const Dim3 &d) {
    return std::to_string(d.x) + " x " + std::to_string(d.y) + " x " + std::to_string(d.z);
  };
  status = LaunchStatus::InvalidConfiguration;
  if (!c.grid.count() || !c.block.count())
    return "grid of " + text(c.grid) + " blocks of " + text(c.block) +
           " threads: expected no zeros";
  if (c.grid.x > 0x7fffffff || c.grid.y > 65535 || c.grid.z > 65535)
    return "grid of " + text(c.grid) + " blocks: at most 2147483647 x 65535 x 65535";
  if (c.block.x > 1024 || c.block.y > 1024 || c.block.z > 64 ||
      c.block.count() > chip.threadsPerBlock)
    return "block of " + text(c.block) + " threads: at most 1024 x 1024 x 64, and " +
           std::to_string(chip.threadsPerBlock) + " in all";
  if (k.requiredBlock.x && !(c.block == k.requiredBlock))
    return "block of " + text(c.block) + " threads: the kernel requires " + text(k.requiredBlock) +
           " (.reqntid)";
  if (c.block.count() > k.maxThreads)
    return "block of " + std::to_string(c.block.count()) + " threads: the kernel allows " +
           std::to_string(k.maxThreads) + " (.maxntid)";
  if (k.requiredCluster.x && !(cluster == k.requiredCluster))
    return "cluster of " + text(cluster) + " blocks: the kernel requires " +
           text(k.requiredCluster) + " (.reqnctapercluster)";
  if (cluster.count() > chip.clusterBlocks)
    return "cluster of " + text(cluster) + " blocks: " +
           (chip.clusterBlocks == 1 ? "the chip has no clusters"
                                    : "at most " + std::to_string(chip.clusterBlocks));
  if (c.grid.x % cluster.x || c.grid.y % cluster.y || c.grid.z % cluster.z)
    return "grid of " + text(c.grid) + " blocks is not a multiple of the cluster " + text(cluster);
  if (c.parameters.size() != k.paramBytes)
    return std::to_string(c.parameters.size()) + " bytes of parameters: the kernel has " +
           std::to_string(k.paramBytes);
  status = LaunchStatus::OutOfResources;
  uint32_t shared = sharedEnd - window::sharedStart;
  uint32_t most = c.maxDynamicShared ? chip.sharedPerBlockOptin : chip.sharedPerBlock;
  if (k.staticShared > chip.sharedPerBlock)
    return std::to_string(k.staticShared) + " bytes of static shared memory: at most " +
           std::to_string(chip.sharedPerBlock);
  if (shared > most || (c.maxDynamicShared && c.dynamicShared > c.maxDynamicShared))
    return std::to_string(shared) + " bytes of shared memory (" + std::to_string(k.staticShared) +
           " static, " + std::to_string(c.dynamicShared) + " dynamic): " +
           (c.maxDynamicShared && c.dynamicShared > c.maxDynamicShared
                ? "the function's attribute allows " + std::to_string(c.maxDynamicShared) +
                      " dynamic"
                : "at most " + std::to_string(most) +
                      (c.maxDynamicShared ? ""
                                          : " without a larger dynamic size set for the function"));
  uint32_t warps = uint32_t((c.block.count() + 31) / 32);
  uint32_t registers = (k.registers + 7) / 8 * 8 * warps * 32;
  if (registers > chip.registersPerSm)
    return std::to_string(c.block.count()) + " threads of about " + std::to_string(k.registers) +
           " registers: a block has " + std::to_string(chip.registersPerSm);
  return "";
}

static Dim3 clusterOf(const LaunchConfig &config, const KernelInfo &info) {
  return config.cluster.x         ? config.cluster
         : info.requiredCluster.x ? info.requiredCluster
                                  : Dim3{1, 1, 1};
}

static uint32_t sharedEndOf(const LaunchConfig &config, const Program &program) {
  return config.dynamicShared ? program.dynamicStart + config.dynamicShared : program.sharedEnd;
}

LaunchStatus Module::check(const std::string &kernel, const LaunchConfig &config) {
  Program *program = impl->program(kernel);
  if (!program)
    throw Error(impl->name + ": has no kernel " + kernel);
  LaunchStatus status;
  std::string why = refuse(program->info, config, impl->chip, clusterOf(config, program->info),
                           sharedEndOf(config, *program), status);
  if (why.empty())
    return LaunchStatus::Ok;
  Report r{.check = Check::Launch, .message = "launch of " + why};
  r.place.kernel = kernel;
  impl->reporter.add(std::move(r));
  return status;
}

LaunchResult Module::run(const std::string &kernel, const LaunchConfig &config) {
  LaunchResult result;
  result.status = check(kernel, config);
  if (result.status != LaunchStatus::Ok) {
    result.fault = Check::Launch;
    return result;
  }
  Program *program = impl->program(kernel);
  Dim3 cluster = clusterOf(config, program->info);
  uint32_t sharedEnd = sharedEndOf(config, *program);
  Launch launch{.program = *program,
                .config = config,
                .chip = impl->chip,
                .options = impl->options,
                .memory = impl->memory,
                .reporter = impl->reporter,
                .kernel = kernel,
                .cluster = cluster,
                .warpsPerBlock = unsigned((config.block.count() + 31) / 32),
                .sharedEnd = sharedEnd,
                .random = Random(mix(config.seed) ^ impl->options.seed).split(config.work.id)};
  launch.checkRaces = impl->reporter.enabled(Check::Race) || impl->reporter.enabled(Check::Proxy);
  launch.strict = impl->reporter.enabled(Check::Strict);
  execute(launch);
  result.counters = std::move(launch.counters);
  if (launch.faulted) {
    result.status = LaunchStatus::Faulted;
    result.fault = launch.fault;
  }
  return result;
}
