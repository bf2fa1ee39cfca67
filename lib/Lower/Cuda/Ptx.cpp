//===- Ptx.cpp - Kernels as PTX -------------------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/Cuda/Ptx.h"

#include "llamac/Lower/Passes.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "llvm-c/Target.h"
#include "llvm/IR/DiagnosticInfo.h"
#include "llvm/IR/DiagnosticPrinter.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Target/TargetMachine.h"

#include <mutex>

namespace mlir::llamac {
#define GEN_PASS_DEF_PRINTPTXPASS
#include "llamac/Lower/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llamac;

/// The oldest chips with bf16.
static constexpr unsigned kLeastChip = 80;

static const llvm::Triple &triple() {
  static const llvm::Triple triple("nvptx64-nvidia-cuda");
  return triple;
}

static const llvm::Target *nvptx() {
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeNVPTXTargetInfo();
    LLVMInitializeNVPTXTarget();
    LLVMInitializeNVPTXTargetMC();
    LLVMInitializeNVPTXAsmPrinter();
    // Addresses of shared memory in 32 bits.
    auto &options = llvm::cl::getRegisteredOptions();
    if (auto option = options.find("nvptx-short-ptr"); option != options.end())
      option->second->addOccurrence(0, "nvptx-short-ptr", "true");
  });
  std::string error;
  return llvm::TargetRegistry::lookupTarget(triple(), error);
}

// Without features, LLVM writes the lowest version of PTX that has the chip.
static std::unique_ptr<llvm::TargetMachine> machineFor(StringRef chip) {
  return std::unique_ptr<llvm::TargetMachine>(
      nvptx()->createTargetMachine(triple(), chip, "", llvm::TargetOptions(), std::nullopt,
                                   std::nullopt, llvm::CodeGenOptLevel::Aggressive));
}

llvm::Error llamac::checkChip(StringRef chip) {
  if (!nvptx())
    return llvm::createStringError("this LLVM has no code generator for NVIDIA GPUs");
  StringRef number = chip;
  unsigned value = 0;
  // Asking the table of a chip that is there: for an unknown one LLVM prints a warning.
  if (!number.consume_front("sm_") || number.consumeInteger(10, value) ||
      !machineFor("sm_80")->getMCSubtargetInfo()->isCPUStringValid(chip))
    return llvm::createStringError("expected chips that LLVM knows, as in sm_80,sm_90a");
  if (number == "f")
    return llvm::createStringError("expected a chip and no family: sm_" + Twine(value) + " or sm_" +
                                   Twine(value) + "a");
  if (value < kLeastChip)
    return llvm::createStringError("expected sm_80 or later: older chips have no bf16");
  return llvm::Error::success();
}

std::string llamac::entryName(StringRef kernel) {
  std::string name = kernel.str();
  for (char &c : name)
    if (!llvm::isAlnum(c))
      c = '_';
  return name;
}

FailureOr<std::string> llamac::writePtx(gpu::GPUModuleOp kernel, StringRef chip) {
  llvm::LLVMContext context;
  std::string problems;
  context.setDiagnosticHandlerCallBack(
      [](const llvm::DiagnosticInfo *info, void *text) {
        if (info->getSeverity() != llvm::DS_Error)
          return;
        llvm::raw_string_ostream stream(*static_cast<std::string *>(text));
        llvm::DiagnosticPrinterRawOStream printer(stream);
        info->print(printer);
      },
      &problems);
  std::unique_ptr<llvm::TargetMachine> machine = machineFor(chip);
  // The translation takes alignments from it: without, 8 bytes would be two loads of 4.
  StringRef layout = LLVM::LLVMDialect::getDataLayoutAttrName();
  kernel->setAttr(layout, StringAttr::get(kernel.getContext(),
                                          machine->createDataLayout().getStringRepresentation()));
  std::unique_ptr<llvm::Module> code = translateModuleToLLVMIR(kernel, context, kernel.getName());
  kernel->removeAttr(layout);
  if (!code)
    return failure();
  code->setTargetTriple(machine->getTargetTriple());
  for (llvm::Function &function : *code)
    if (!function.isDeclaration())
      function.setName(entryName(function.getName()));

  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager components;
  llvm::ModuleAnalysisManager modules;
  // Kernels are vectors of 16 bytes already, and have an order for each sum: a vector of several
  // iterations of a loop would be shuffled together in registers, and add up in another order.
  llvm::PipelineTuningOptions tuning;
  tuning.LoopVectorization = false;
  llvm::PassBuilder passes(machine.get(), tuning);
  passes.registerModuleAnalyses(modules);
  passes.registerCGSCCAnalyses(components);
  passes.registerFunctionAnalyses(functions);
  passes.registerLoopAnalyses(loops);
  passes.crossRegisterProxies(loops, functions, components, modules);
  passes.buildPerModuleDefaultPipeline(llvm::OptimizationLevel::O3).run(*code, modules);

  SmallVector<char, 0> text;
  llvm::raw_svector_ostream stream(text);
  llvm::legacy::PassManager codegen;
  if (machine->addPassesToEmitFile(codegen, stream, nullptr, llvm::CodeGenFileType::AssemblyFile))
    return kernel.emitError("cannot emit PTX for ") << chip;
  codegen.run(*code);
  if (!problems.empty())
    return kernel.emitError("cannot compile for ") << chip << ": " << problems;
  return std::string(text.data(), text.size());
}

namespace {
struct PrintPtxPass : llamac::impl::PrintPtxPassBase<PrintPtxPass> {
  using PrintPtxPassBase::PrintPtxPassBase;

  void getDependentDialects(DialectRegistry &registry) const override {
    registerObjectTranslations(registry);
  }

  void runOnOperation() override {
    if (llvm::Error error = checkChip(chip)) {
      getOperation().emitError("chip=") << chip << ": " << llvm::toString(std::move(error));
      return signalPassFailure();
    }
    WalkResult result = getOperation().walk([&](gpu::GPUModuleOp kernel) {
      FailureOr<std::string> ptx = writePtx(kernel, chip);
      if (failed(ptx))
        return WalkResult::interrupt();
      llvm::outs() << *ptx;
      return WalkResult::advance();
    });
    if (result.wasInterrupted())
      signalPassFailure();
    markAllAnalysesPreserved();
  }
};
} // namespace
