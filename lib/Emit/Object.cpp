//===- Object.cpp - LLVM dialect to object files --------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A module becomes LLVM IR in a context of its own, so that modules compile on
// several threads. Before LLVM's O2 pipeline the IR gets what MLIR cannot say:
//
// - the processor and 512-bit vectors, as function attributes;
// - for loops that touch bf16 a width of 16 (LLVM's cost model takes 4);
// - on processors without bf16 conversion, bf16 in memory as 16-bit integers and
//   conversions in integer arithmetic (LLVM would call a library per element).
//
//===----------------------------------------------------------------------===//
#include "lib/Emit/Object.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "llvm/Analysis/LoopInfo.h"
#include "llvm/Analysis/ScalarEvolution.h"
#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/InstIterator.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/IR/PassManager.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Support/ThreadPool.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/Transforms/Utils/LoopUtils.h"

#include <mutex>

using namespace mlir;
using namespace mlir::llamac;

static void initializeTargets() {
  static std::once_flag once;
  std::call_once(once, [] {
    llvm::InitializeNativeTarget();
    llvm::InitializeNativeTargetAsmPrinter();
  });
}

static std::unique_ptr<llvm::TargetMachine> targetMachine(const CpuTarget &cpu,
                                                          std::string &error) {
  initializeTargets();
  llvm::Triple triple(cpu.triple);
  const llvm::Target *target = llvm::TargetRegistry::lookupTarget(triple, error);
  if (!target)
    return nullptr;
  return std::unique_ptr<llvm::TargetMachine>(
      target->createTargetMachine(triple, cpu.name, cpu.features, llvm::TargetOptions(),
                                  llvm::Reloc::PIC_, std::nullopt, llvm::CodeGenOptLevel::Default));
}

FailureOr<CpuTarget> llamac::resolveCpu(Location loc, StringRef name) {
  CpuTarget cpu;
  cpu.triple = llvm::sys::getDefaultTargetTriple();
  cpu.name = name.str();
  if (name == "native") {
    cpu.name = llvm::sys::getHostCPUName().str();
    for (const auto &[feature, present] : llvm::sys::getHostCPUFeatures())
      cpu.features += (cpu.features.empty() ? "" : ",") + ((present ? "+" : "-") + feature.str());
  }
  initializeTargets();
  std::string error;
  // Asking the table of a machine for a name that all machines have: an unknown
  // name would make LLVM print a warning and go on.
  CpuTarget generic = cpu;
  generic.name = "generic";
  std::unique_ptr<llvm::TargetMachine> machine = targetMachine(generic, error);
  if (!machine)
    return emitError(loc, "cannot compile for ") << cpu.triple << ": " << error;
  if (!machine->getMCSubtargetInfo()->isCPUStringValid(cpu.name))
    return emitError(loc, "option '--cpu': expected native or a processor of ")
           << cpu.triple << ", got '" << name << "'";
  machine = targetMachine(cpu, error);
  cpu.hasBFloat16 = machine->getMCSubtargetInfo()->checkFeatures("+avx512bf16") &&
                    machine->getMCSubtargetInfo()->checkFeatures("+avx512vl");
  return cpu;
}

//===----------------------------------------------------------------------===//
// bf16
//===----------------------------------------------------------------------===//

// `bits` of a bf16 number as f32.
static llvm::Value *widen(llvm::IRBuilder<> &b, llvm::Value *bits) {
  llvm::Value *wide = b.CreateShl(b.CreateZExt(bits, b.getInt32Ty()), 16);
  return b.CreateBitCast(wide, b.getFloatTy());
}

// The bits of an f32 number rounded to bf16, to nearest even; NaN stays NaN.
static llvm::Value *narrow(llvm::IRBuilder<> &b, llvm::Value *number) {
  llvm::Value *bits = b.CreateBitCast(number, b.getInt32Ty());
  llvm::Value *odd = b.CreateAnd(b.CreateLShr(bits, 16), 1);
  llvm::Value *rounded = b.CreateAdd(bits, b.CreateAdd(odd, b.getInt32(0x7fff)));
  llvm::Value *quiet = b.CreateOr(bits, 0x00400000);
  llvm::Value *isNaN = b.CreateFCmpUNO(number, number);
  return b.CreateTrunc(b.CreateLShr(b.CreateSelect(isNaN, quiet, rounded), 16), b.getInt16Ty());
}

// Replaces bf16 conversions by integer arithmetic, and bf16 loads and stores that
// feed or take them by 16-bit integer ones.
static void expandBFloat16(llvm::Function &function) {
  // Arithmetic in bf16: in f32, rounded (exact enough: f32 has more than twice the digits).
  for (llvm::Instruction &instruction : llvm::make_early_inc_range(llvm::instructions(function))) {
    if (!instruction.getType()->isBFloatTy() ||
        !(llvm::isa<llvm::BinaryOperator>(instruction) || llvm::isa<llvm::UnaryOperator>(instruction)))
      continue;
    llvm::IRBuilder<> b(&instruction);
    llvm::Instruction *wide = instruction.clone();
    for (llvm::Use &operand : wide->operands())
      operand.set(b.CreateFPExt(operand.get(), b.getFloatTy()));
    wide->mutateType(b.getFloatTy());
    b.Insert(wide);
    instruction.replaceAllUsesWith(b.CreateFPTrunc(wide, b.getBFloatTy()));
    instruction.eraseFromParent();
  }
  llvm::SmallVector<llvm::Instruction *> dead;
  for (llvm::Instruction &instruction : llvm::make_early_inc_range(llvm::instructions(function))) {
    llvm::IRBuilder<> b(&instruction);
    if (auto *extension = llvm::dyn_cast<llvm::FPExtInst>(&instruction)) {
      llvm::Value *source = extension->getOperand(0);
      if (!source->getType()->isBFloatTy() || !extension->getType()->isFloatTy())
        continue;
      llvm::Value *bits;
      if (auto *load = llvm::dyn_cast<llvm::LoadInst>(source)) {
        llvm::IRBuilder<> atLoad(load);
        bits = atLoad.CreateAlignedLoad(b.getInt16Ty(), load->getPointerOperand(), load->getAlign());
        dead.push_back(load);
      } else {
        bits = b.CreateBitCast(source, b.getInt16Ty());
      }
      extension->replaceAllUsesWith(widen(b, bits));
      extension->eraseFromParent();
    } else if (auto *truncation = llvm::dyn_cast<llvm::FPTruncInst>(&instruction)) {
      if (!truncation->getType()->isBFloatTy() || !truncation->getOperand(0)->getType()->isFloatTy())
        continue;
      llvm::Value *bits = narrow(b, truncation->getOperand(0));
      for (llvm::User *user : llvm::make_early_inc_range(truncation->users()))
        if (auto *store = llvm::dyn_cast<llvm::StoreInst>(user)) {
          llvm::IRBuilder<> atStore(store);
          atStore.CreateAlignedStore(bits, store->getPointerOperand(), store->getAlign());
          dead.push_back(store);
        }
      if (!truncation->use_empty())
        truncation->replaceAllUsesWith(b.CreateBitCast(bits, b.getBFloatTy()));
      dead.push_back(truncation);
    }
  }
  for (llvm::Instruction *instruction : dead)
    if (llvm::isa<llvm::StoreInst>(instruction) || instruction->use_empty())
      if (instruction->getParent())
        instruction->eraseFromParent();
}

// Gives innermost loops that touch bf16 a vector width: 16, or 8 where the number
// of iterations is small and no multiple of 16.
static void widenLoops(llvm::Function &function, llvm::FunctionAnalysisManager &analyses) {
  auto &loops = analyses.getResult<llvm::LoopAnalysis>(function);
  auto &evolution = analyses.getResult<llvm::ScalarEvolutionAnalysis>(function);
  for (llvm::Loop *loop : loops.getLoopsInPreorder()) {
    if (!loop->isInnermost())
      continue;
    bool touches = llvm::any_of(loop->blocks(), [](llvm::BasicBlock *block) {
      return llvm::any_of(*block, [](llvm::Instruction &i) {
        return i.getType()->isBFloatTy() ||
               (llvm::isa<llvm::StoreInst>(i) && i.getOperand(0)->getType()->isBFloatTy());
      });
    });
    unsigned count = evolution.getSmallConstantTripCount(loop);
    if (!touches || (count != 0 && count < 8))
      continue;
    unsigned width = count == 0 || count % 16 == 0 || count >= 128 ? 16 : 8;
    llvm::addStringMetadataToLoop(loop, "llvm.loop.vectorize.width", width);
  }
}

//===----------------------------------------------------------------------===//
// Compilation
//===----------------------------------------------------------------------===//

FailureOr<ObjectFile> llamac::compileObject(ModuleOp module, const CpuTarget &cpu, bool fast) {
  std::string error;
  std::unique_ptr<llvm::TargetMachine> machine = targetMachine(cpu, error);
  if (!machine)
    return module.emitError("cannot compile for ") << cpu.triple << ": " << error;
  ObjectFile object;
  object.name = module.getSymName().value_or("").str();
  llvm::LLVMContext context;
  std::unique_ptr<llvm::Module> code = translateModuleToLLVMIR(module, context, object.name);
  if (!code)
    return failure();
  code->setTargetTriple(machine->getTargetTriple());
  code->setDataLayout(machine->createDataLayout());

  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager components;
  llvm::ModuleAnalysisManager modules;
  // Loops are vectorized but not unrolled: unrolling doubles compile time and gains
  // nothing on loops that wait for memory. The reference is not vectorized either.
  llvm::PipelineTuningOptions tuning;
  tuning.LoopUnrolling = false;
  tuning.LoopVectorization = fast;
  tuning.SLPVectorization = false;
  llvm::PassBuilder passes(machine.get(), tuning);
  passes.registerModuleAnalyses(modules);
  passes.registerCGSCCAnalyses(components);
  passes.registerFunctionAnalyses(functions);
  passes.registerLoopAnalyses(loops);
  passes.crossRegisterProxies(loops, functions, components, modules);

  for (llvm::Function &function : *code) {
    if (function.isDeclaration())
      continue;
    function.addFnAttr("target-cpu", cpu.name);
    function.addFnAttr("target-features", cpu.features);
    function.addFnAttr("prefer-vector-width", "512");
    function.addFnAttr(llvm::Attribute::NoUnwind);
    if (!cpu.hasBFloat16)
      expandBFloat16(function);
    else if (fast)
      widenLoops(function, functions);
  }
  passes.buildPerModuleDefaultPipeline(llvm::OptimizationLevel::O2).run(*code, modules);

  llvm::raw_svector_ostream stream(object.bytes);
  llvm::legacy::PassManager codegen;
  if (machine->addPassesToEmitFile(codegen, stream, nullptr, llvm::CodeGenFileType::ObjectFile))
    return module.emitError("cannot emit an object file for ") << cpu.triple;
  codegen.run(*code);
  return object;
}

FailureOr<std::vector<ObjectFile>> llamac::compileObjects(ModuleOp program, const CpuTarget &cpu,
                                                          bool fast, unsigned threads) {
  SmallVector<ModuleOp> modules(program.getOps<ModuleOp>());
  SmallVector<FailureOr<ObjectFile>> compiled(modules.size(), failure());
  ParallelDiagnosticHandler diagnostics(program.getContext()); // errors in order of the modules
  llvm::DefaultThreadPool pool(llvm::hardware_concurrency(threads));
  for (size_t i = 0; i < modules.size(); ++i)
    pool.async([&, i] {
      diagnostics.setOrderIDForThread(i);
      compiled[i] = compileObject(modules[i], cpu, fast);
      diagnostics.eraseOrderIDForThread();
    });
  pool.wait();

  std::vector<ObjectFile> objects;
  for (FailureOr<ObjectFile> &object : compiled) {
    if (failed(object))
      return failure();
    objects.push_back(std::move(*object));
  }
  return objects;
}

void llamac::registerObjectTranslations(DialectRegistry &registry) {
  registerBuiltinDialectTranslation(registry);
  registerLLVMDialectTranslation(registry);
}
