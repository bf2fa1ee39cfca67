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
// - on processors without bf16 conversion, 16-bit integers for every bf16 value and
//   conversions in integer arithmetic (LLVM would call a library per element);
// - on processors without fused multiply-add, two instructions (LLVM would call libm).
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/Host/HostTarget.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/GPU/GPUToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/NVVM/NVVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "llvm/ADT/PostOrderIterator.h"
#include "llvm/Analysis/LoopInfo.h"
#include "llvm/Analysis/ScalarEvolution.h"
#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/InstIterator.h"
#include "llvm/IR/IntrinsicInst.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/IR/PassManager.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Support/ThreadPool.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/Transforms/Utils/BasicBlockUtils.h"
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

llvm::Expected<CpuTarget> llamac::resolveCpu(StringRef name) {
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
    return llvm::createStringError("cannot compile for " + cpu.triple + ": " + error);
  if (!machine->getMCSubtargetInfo()->isCPUStringValid(cpu.name))
    return llvm::createStringError("--cpu: expected native or a processor of " + cpu.triple +
                                   ", got '" + name + "'");
  machine = targetMachine(cpu, error);
  cpu.hasBFloat16 = machine->getMCSubtargetInfo()->checkFeatures("+avx512bf16") &&
                    machine->getMCSubtargetInfo()->checkFeatures("+avx512vl");
  cpu.hasFma = machine->getMCSubtargetInfo()->checkFeatures("+fma");
  return cpu;
}

//===----------------------------------------------------------------------===//
// bf16
//===----------------------------------------------------------------------===//

// `bits` of a bf16 number as f32.
static llvm::Value *widen(llvm::IRBuilder<> &b, llvm::Value *bits) {
  llvm::Type *type = bits->getType();
  llvm::Value *wide = b.CreateShl(b.CreateZExt(bits, type->getWithNewType(b.getInt32Ty())), 16);
  return b.CreateBitCast(wide, type->getWithNewType(b.getFloatTy()));
}

// The bits of an f32 number rounded to bf16, to nearest even; NaN stays NaN.
static llvm::Value *narrow(llvm::IRBuilder<> &b, llvm::Value *number) {
  llvm::Type *type = number->getType();
  llvm::Value *bits = b.CreateBitCast(number, type->getWithNewType(b.getInt32Ty()));
  llvm::Value *odd = b.CreateAnd(b.CreateLShr(bits, 16), 1);
  llvm::Value *bias = llvm::ConstantInt::get(bits->getType(), 0x7fff);
  llvm::Value *rounded = b.CreateAdd(bits, b.CreateAdd(odd, bias));
  llvm::Value *quiet = b.CreateOr(bits, 0x00400000);
  llvm::Value *isNaN = b.CreateFCmpUNO(number, number);
  return b.CreateTrunc(b.CreateLShr(b.CreateSelect(isNaN, quiet, rounded), 16),
                       type->getWithNewType(b.getInt16Ty()));
}

namespace {
// Rewrites a function so that no value of it has the type bfloat: each becomes its
// 16 bits. Conversions are integer arithmetic, operations work in f32 (exact enough:
// f32 has more than twice the digits) and round. What only moves bf16 (loads, stores,
// selects, phis) moves integers; left as bfloat it would be vectorized, and code
// generation would call a library for each element.
class BFloat16Expansion {
public:
  explicit BFloat16Expansion(llvm::Function &function) : function(function) {}

  // Fails, naming the instruction, if something of type bfloat is left.
  llvm::Error run() {
    llvm::EliminateUnreachableBlocks(function); // what is left has an order
    for (llvm::BasicBlock *block : llvm::ReversePostOrderTraversal<llvm::Function *>(&function))
      for (llvm::Instruction &instruction : llvm::make_early_inc_range(*block))
        rewrite(instruction);
    for (auto [old, integer] : phis)
      for (auto [value, block] : llvm::zip_equal(old->incoming_values(), old->blocks()))
        integer->addIncoming(bits(value), block);
    for (llvm::Instruction *instruction : dead)
      instruction->replaceAllUsesWith(llvm::PoisonValue::get(instruction->getType()));
    for (llvm::Instruction *instruction : dead)
      instruction->eraseFromParent();
    for (llvm::Instruction &instruction : llvm::instructions(function))
      if (isBFloat(&instruction) || llvm::any_of(instruction.operands(), [](llvm::Use &use) {
            return isBFloat(use.get());
          })) {
        std::string text;
        llvm::raw_string_ostream(text) << instruction;
        return llvm::createStringError(
            "expected an instruction that can be made without bf16, got" + text);
      }
    return llvm::Error::success();
  }

private:
  llvm::Function &function;
  llvm::DenseMap<llvm::Value *, llvm::Value *> integers; // of rewritten instructions
  llvm::SmallVector<std::pair<llvm::PHINode *, llvm::PHINode *>> phis;
  llvm::SmallVector<llvm::Instruction *> dead;

  static bool isBFloat(llvm::Value *value) {
    return value->getType()->getScalarType()->isBFloatTy();
  }

  static llvm::Type *integerType(llvm::Type *type) {
    return type->getWithNewType(llvm::Type::getInt16Ty(type->getContext()));
  }

  static llvm::Type *floatType(llvm::Type *type) {
    return type->getWithNewType(llvm::Type::getFloatTy(type->getContext()));
  }

  // The integer that holds `value`; `value` itself if it is not of type bfloat.
  llvm::Value *bits(llvm::Value *value) {
    if (!isBFloat(value))
      return value;
    if (auto *constant = llvm::dyn_cast<llvm::Constant>(value))
      return llvm::ConstantExpr::getBitCast(constant, integerType(constant->getType()));
    auto found = integers.find(value);
    return found == integers.end() ? value : found->second; // run() tells what is left
  }

  llvm::Value *wide(llvm::IRBuilder<> &b, llvm::Value *value) {
    return isBFloat(value) && bits(value) != value ? widen(b, bits(value)) : value;
  }

  void replace(llvm::Instruction &old, llvm::Value *integer) {
    integers[&old] = integer;
    dead.push_back(&old);
  }

  void rewrite(llvm::Instruction &old) {
    bool takes = llvm::any_of(old.operands(), [](llvm::Use &use) { return isBFloat(use.get()); });
    if (!takes && !isBFloat(&old))
      return;
    llvm::IRBuilder<> b(&old);
    llvm::Type *type = old.getType();
    if (auto *phi = llvm::dyn_cast<llvm::PHINode>(&old)) {
      llvm::PHINode *integer = b.CreatePHI(integerType(type), phi->getNumIncomingValues());
      phis.push_back({phi, integer});
      replace(old, integer);
    } else if (auto *load = llvm::dyn_cast<llvm::LoadInst>(&old)) {
      replace(old, b.CreateAlignedLoad(integerType(type), load->getPointerOperand(),
                                       load->getAlign(), load->isVolatile()));
    } else if (auto *store = llvm::dyn_cast<llvm::StoreInst>(&old)) {
      b.CreateAlignedStore(bits(store->getValueOperand()), store->getPointerOperand(),
                           store->getAlign(), store->isVolatile());
      dead.push_back(&old);
    } else if (auto *select = llvm::dyn_cast<llvm::SelectInst>(&old)) {
      replace(old, b.CreateSelect(select->getCondition(), bits(select->getTrueValue()),
                                  bits(select->getFalseValue())));
    } else if (llvm::isa<llvm::FreezeInst>(old)) {
      replace(old, b.CreateFreeze(bits(old.getOperand(0))));
    } else if (llvm::isa<llvm::BitCastInst>(old)) {
      if (isBFloat(&old))
        replace(old, b.CreateBitCast(bits(old.getOperand(0)), integerType(type)));
      else
        old.setOperand(0, bits(old.getOperand(0)));
    } else if (llvm::isa<llvm::FPTruncInst>(old)) {
      // From f64 in two roundings, as PyTorch does.
      llvm::Value *number = old.getOperand(0);
      replace(old, narrow(b, b.CreateFPTrunc(number, floatType(number->getType()))));
    } else if (llvm::isa<llvm::FPExtInst>(old)) {
      old.replaceAllUsesWith(b.CreateFPExt(wide(b, old.getOperand(0)), type));
      dead.push_back(&old);
    } else if (old.getOpcode() == llvm::Instruction::FNeg) {
      replace(old, b.CreateXor(bits(old.getOperand(0)),
                               llvm::ConstantInt::get(integerType(type), 0x8000)));
    } else {
      rewriteOperation(b, old);
    }
  }

  // Arithmetic, comparisons, conversions from and to integers, intrinsics: the same
  // on f32. Anything else stays, and run() tells.
  void rewriteOperation(llvm::IRBuilder<> &b, llvm::Instruction &old) {
    llvm::Type *type = isBFloat(&old) ? floatType(old.getType()) : old.getType();
    llvm::SmallVector<llvm::Value *> operands;
    llvm::Value *result = nullptr;
    auto *intrinsic = llvm::dyn_cast<llvm::IntrinsicInst>(&old);
    if (!intrinsic && !llvm::isa<llvm::BinaryOperator, llvm::FCmpInst, llvm::CastInst>(old))
      return;
    for (llvm::Value *operand : intrinsic ? llvm::SmallVector<llvm::Value *>(intrinsic->args())
                                          : llvm::SmallVector<llvm::Value *>(old.operands()))
      operands.push_back(wide(b, operand));
    if (intrinsic) {
      result = b.CreateIntrinsic(type, intrinsic->getIntrinsicID(), operands);
    } else if (auto *compare = llvm::dyn_cast<llvm::FCmpInst>(&old)) {
      result = b.CreateFCmp(compare->getPredicate(), operands[0], operands[1]);
    } else if (auto *cast = llvm::dyn_cast<llvm::CastInst>(&old)) {
      result = b.CreateCast(cast->getOpcode(), operands[0], type);
    } else {
      result = b.CreateBinOp(llvm::cast<llvm::BinaryOperator>(old).getOpcode(), operands[0],
                             operands[1]);
    }
    if (auto *operation = llvm::dyn_cast<llvm::Instruction>(result);
        operation && llvm::isa<llvm::FPMathOperator>(old) &&
        llvm::isa<llvm::FPMathOperator>(operation))
      operation->copyFastMathFlags(&old);
    if (isBFloat(&old)) {
      replace(old, narrow(b, result));
    } else {
      old.replaceAllUsesWith(result);
      dead.push_back(&old);
    }
  }
};
} // namespace

// Lets fused multiply-adds round twice. They come from polynomials, which do not need
// the one rounding; a processor without the instruction would call libm for each.
static void relaxFma(llvm::Function &function) {
  for (llvm::Instruction &instruction : llvm::make_early_inc_range(llvm::instructions(function)))
    if (auto *fma = llvm::dyn_cast<llvm::IntrinsicInst>(&instruction);
        fma && fma->getIntrinsicID() == llvm::Intrinsic::fma) {
      llvm::IRBuilder<> b(fma);
      llvm::SmallVector<llvm::Value *> operands(fma->args());
      fma->replaceAllUsesWith(
          b.CreateIntrinsic(fma->getType(), llvm::Intrinsic::fmuladd, operands, fma));
      fma->eraseFromParent();
    }
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

/// Appends the object file of `code` to `object`.
static LogicalResult emitObject(Location loc, llvm::TargetMachine &machine, llvm::Module &code,
                                ObjectFile &object) {
  llvm::raw_svector_ostream stream(object.bytes);
  llvm::legacy::PassManager codegen;
  if (machine.addPassesToEmitFile(codegen, stream, nullptr, llvm::CodeGenFileType::ObjectFile))
    return emitError(loc, "cannot emit an object file for ") << machine.getTargetTriple().str();
  codegen.run(code);
  return success();
}

FailureOr<ObjectFile> llamac::compileData(Location loc, const CpuTarget &cpu, StringRef name,
                                          llvm::function_ref<void(llvm::Module &)> write) {
  // Data only: any processor of the triple can read it.
  CpuTarget generic = cpu;
  generic.name = "generic";
  generic.features.clear();
  std::string error;
  std::unique_ptr<llvm::TargetMachine> machine = targetMachine(generic, error);
  if (!machine)
    return emitError(loc, "cannot compile for ") << cpu.triple << ": " << error;
  llvm::LLVMContext context;
  llvm::Module module(name, context);
  module.setTargetTriple(machine->getTargetTriple());
  module.setDataLayout(machine->createDataLayout());
  write(module);
  ObjectFile object;
  object.name = name.str();
  if (failed(emitObject(loc, *machine, module, object)))
    return failure();
  return object;
}

/// Compiles one module.
static FailureOr<ObjectFile> compileObject(ModuleOp module, const CpuTarget &cpu, bool fast) {
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
    if (fast && !cpu.hasFma)
      relaxFma(function);
    if (!cpu.hasBFloat16) {
      if (llvm::Error left = BFloat16Expansion(function).run())
        return module.emitError("cannot compile for ")
               << cpu.name << ": " << llvm::toString(std::move(left));
    } else if (fast) {
      widenLoops(function, functions);
    }
  }
  passes.buildPerModuleDefaultPipeline(llvm::OptimizationLevel::O2).run(*code, modules);

  if (failed(emitObject(module.getLoc(), *machine, *code, object)))
    return failure();
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
  registerGPUDialectTranslation(registry);
  registerLLVMDialectTranslation(registry);
  registerNVVMDialectTranslation(registry);
}
