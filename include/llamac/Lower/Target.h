//===- Target.h - What runs a program --------------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// All that the compiler has to know of a device, asked through one interface. Which targets
// there are is known to one table (lib/Lower/Target.cpp); nothing else compares names.
//
//   blocks --tensors, loops: the same for all--> loops --addCodePasses--> code --compile--> objects
//            |                                                                               |
//            hasRoutine: a product or attention is a call                  linkArguments --> executable
//
//   collectives --hasCollective, or in plain form; collectiveScratch--> their memory is planned
//   communicators, products --shareOf, productBytes--> what libraries take beside (Reserves.h)
//   a whole program --limits, workOf--> the check: nothing waits for ever, or for the host
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LOWER_TARGET_H
#define LLAMAC_LOWER_TARGET_H

#include "dialects/Dist/IR/DistCollective.h"
#include "llamac/Support/Alignment.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/DialectRegistry.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/Support/Error.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace llvm {
class Module;
}

namespace mlir::llamac {

/// How blocks are lowered, on any target: `--lower`.
enum class Lowering {
  Fast,     ///< routines and fused loops on all threads
  Reference ///< every op by its decomposition: what `Fast` is checked against
};

/// What a target is made for, by the command line's names and values.
struct TargetOptions {
  std::string name = "host";  ///< `--target`
  std::string lower = "fast"; ///< `--lower`: fast or reference
  std::string cpu = "native"; ///< `--cpu`: this machine's, or LLVM's name of one
  std::string chip = {};      ///< `--chip`: of a GPU, `sm_80,sm_90a`; empty: the target's default
};

/// The processor that host code is made for.
struct CpuTarget {
  std::string triple;   ///< of this machine
  std::string name;     ///< as `-mcpu` takes it; never `native`
  std::string features; ///< as `-mattr` takes it, may be empty
  bool hasBFloat16;     ///< whether it converts f32 to bf16 by an instruction
  bool hasFma;          ///< whether it multiplies and adds in one instruction
};

/// What the calls of a communicator are like, on each of its members.
struct CommunicatorUse {
  int64_t ranks;             ///< members of a group
  bool isEdge;               ///< transfers from one rank to another
  bool besideCompute = true; ///< on a stream where no block runs
  bool hasAllReduce = false;
  int64_t bytes = 0; ///< of the largest call
};

/// What a communicator takes of the device of each member.
struct CommunicatorShare {
  /// That its calls hold at most, from when they start until all members have come.
  int64_t multiprocessors = 0;
  int64_t bytes = 0; ///< of memory beside the program's, estimated from above
  bool operator==(const CommunicatorShare &) const = default;
};

/// What a device has for work that waits: on it nothing waits for ever for want of room if a
/// program keeps within that (R4 and R6 of Check/Rules.h).
struct DeviceLimits {
  int64_t multiprocessors; ///< the fewest of the GPUs that the program is for
  int64_t groups;          ///< of multiprocessors; a cluster runs within one
  int64_t queues;          ///< streams that never wait for each other
};

/// What the code of a block asks of a device.
struct BlockWork {
  bool hasProducts = false;       ///< its stream needs memory for them (Target::productBytes)
  int64_t cluster = 1;            ///< thread blocks of the largest cluster of a kernel
  int64_t grid = 0;               ///< of the largest kernel whose thread blocks wait for each other
  SmallVector<std::string> halts; ///< what makes the host wait for the device, each in words
};

/// A relocatable ELF file in memory, position independent.
struct ObjectFile {
  std::string name; ///< of the module that it was made from
  SmallVector<char, 0> bytes;
};

/// One target. Objects of it are immutable, and all threads may ask them.
class Target {
public:
  virtual ~Target() = default;

  /// Its name for `--target`.
  virtual StringRef name() const = 0;
  /// The machine (Cost/Machine.h) that programs are planned for where none is named.
  virtual StringRef machine() const = 0;
  Lowering lowering() const { return how; }
  /// The processor of the executable, which is the host of any device.
  const CpuTarget &cpu() const { return processor; }

  /// Where memory of this target begins: arenas, values in them, temporaries of blocks.
  virtual Alignment alignment() const = 0;

  /// Whether the runtime has a routine (of the routine dialect) for `op`, a matrix product or
  /// attention of the llama dialect, with the element types that its operands have.
  virtual bool hasRoutine(Operation *op) const = 0;

  /// Whether products that share an operand are faster as one (llama-merge-products). Last bits may
  /// be others then.
  virtual bool mergesProducts() const { return false; }

  /// Whether it has a collective with these rows and types, which adds to what is there if it
  /// says so. Every target has those in plain form (dist::Collective::plain).
  virtual bool hasCollective(const dist::Collective &what) const = 0;

  /// Bytes of memory that a rank has to give it for `what`, which it has, beside operand and
  /// result. The same on all members.
  virtual int64_t collectiveScratch(const dist::Collective &what) const = 0;

  /// What it gives a communicator on each member; all members plan the same. Nothing where
  /// communication takes neither multiprocessors nor memory of its own.
  virtual CommunicatorShare shareOf(const CommunicatorUse &) const { return {}; }

  /// Bytes of device memory beside the arenas for each stream on which blocks have products.
  virtual int64_t productBytes() const { return 0; }

  /// None: the host does all work itself, and nothing that waits holds what others need.
  virtual std::optional<DeviceLimits> limits() const { return std::nullopt; }

  /// What `function`, the code of a block that this target made, asks of its device.
  virtual BlockWork workOf(Operation *function) const { return {}; }

  /// Adds the passes that turn a block's module of loops and routines on buffers into code that
  /// `compile` takes, to a pass manager of `builtin.module`.
  virtual void addCodePasses(OpPassManager &pm) const = 0;

  /// Compiles each `builtin.module` directly in `program` to an object file, in the order of the
  /// modules whatever `threads` (0: one per core); code of a device comes behind them. Emits an
  /// error if one cannot be compiled. A device's kernels are written into `kernelFolder` too,
  /// for eyes and tools, if it is not empty.
  virtual FailureOr<std::vector<ObjectFile>> compile(ModuleOp program, unsigned threads = 0,
                                                     StringRef kernelFolder = {}) const = 0;

  /// What it is for of `--chip`, the default where nothing was named; empty on the host.
  virtual std::string chipNames() const { return {}; }

  /// The symbol, defined by what `compile` makes, of the table of all code of the device
  /// (LlrtProgram::device); empty if there is none apart from the host's.
  virtual StringRef deviceCode() const { return {}; }

  /// The archives of the runtime that an executable is linked with, in that order, `NAME` of
  /// `libNAME.a`.
  virtual SmallVector<StringRef> runtimeLibraries() const = 0;
  /// What the linker gets behind them: the libraries of others.
  SmallVector<StringRef> linkArguments() const;

protected:
  /// Whether `op` is a product or attention as the routine dialect has them: f32 and bf16 for
  /// `Fast`; products of f64 for `Reference` too. Tensors of known sizes that are not empty.
  bool isProduct(Operation *op) const;
  bool isAttention(Operation *op) const;

  Target(Lowering how, CpuTarget processor) : how(how), processor(std::move(processor)) {}

private:
  Lowering how;
  CpuTarget processor;
};

/// The target that `options` ask for. An error names the option and says what there is.
llvm::Expected<std::shared_ptr<const Target>> makeTarget(const TargetOptions &options);

/// The same for a pass, from its options, unless it was given a `target`. An error is emitted.
LogicalResult makeTarget(std::shared_ptr<const Target> &target, const TargetOptions &options,
                         MLIRContext *context);

/// The object file of a module called `name` that `write` fills with constants.
FailureOr<ObjectFile> compileData(Location loc, const CpuTarget &cpu, StringRef name,
                                  llvm::function_ref<void(llvm::Module &)> write);

/// Translations from MLIR to LLVM IR that `compile` needs.
void registerObjectTranslations(DialectRegistry &registry);

} // namespace mlir::llamac

#endif // LLAMAC_LOWER_TARGET_H
