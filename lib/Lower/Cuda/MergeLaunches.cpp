//===- MergeLaunches.cpp - One launch for independent nests ---------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Launches of kernels of nests that do not depend on each other become one: the kernel has the
// bodies of all, and the number of a block says which one it runs and where. A launch moves up or
// down to another one over whatever does not touch its buffers.
//
// Not everything is merged: a kernel has the registers of the hungriest body, so only launches
// that leave a part of the GPU idle (then they run beside each other), or whose bodies are alike.
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/Cuda/Nest.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "mlir/Interfaces/ViewLikeInterface.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::llamac;

// Threads that 132 multiprocessors have at a time, and the most launches in one.
static constexpr int64_t kThreadsOfGpu = 132 * 2048, kMostLaunches = 8;

// Static shared memory that a block has at most, on any chip (CUDA C++ Programming Guide 13.0,
// "Technical Specifications per Compute Capability"), and the most that a variable is aligned to.
static constexpr int64_t kMostShared = 48 * 1024, kSharedAlignment = 128;

namespace {
// What an op of a block reads and writes: buffers, whatever the views of them.
struct Touched {
  llvm::SmallPtrSet<Value, 8> reads, writes;
  bool all = false; // anything

  bool conflictsWith(const Touched &other) const {
    auto meets = [](const auto &a, const auto &b) {
      return llvm::any_of(a, [&](Value value) { return b.contains(value); });
    };
    return all || other.all || meets(writes, other.writes) || meets(writes, other.reads) ||
           meets(reads, other.writes);
  }
};

struct Candidate {
  gpu::LaunchFuncOp launch;
  gpu::GPUFuncOp kernel;
  int64_t blocks, threads;
  int64_t shared; // bytes of static shared memory, of a block
  bool hasBarrier;
  std::string ops; // names of the body's ops: equal for equal work, whatever its sizes
};
using Group = SmallVector<Candidate>;

class Merger {
public:
  explicit Merger(func::FuncOp block) : block(block) {}

  void run() {
    SmallVector<Group> groups;
    for (auto launch : llvm::to_vector(block.getBody().front().getOps<gpu::LaunchFuncOp>())) {
      std::optional<Candidate> candidate = candidateOf(launch);
      if (!candidate)
        continue;
      // The nearest group before it that can have it.
      auto place = std::find_if(groups.rbegin(), groups.rend(), [&](Group &group) {
        return fits(group, *candidate) && bringTogether(group, *candidate);
      });
      if (place == groups.rend())
        groups.push_back({*candidate});
      else
        place->push_back(*candidate);
    }
    for (Group &group : groups)
      if (group.size() > 1)
        merge(group);
  }

private:
  std::optional<Candidate> candidateOf(gpu::LaunchFuncOp launch) {
    auto kernel = symbols.lookupNearestSymbolFrom<gpu::GPUFuncOp>(launch, launch.getKernelAttr());
    std::optional<int64_t> blocks = getConstantIntValue(launch.getGridSizeX()),
                           threads = getConstantIntValue(launch.getBlockSizeX());
    if (!kernel || !blocks || !threads || getConstantIntValue(launch.getGridSizeY()) != 1 ||
        getConstantIntValue(launch.getGridSizeZ()) != 1 || launch.getDynamicSharedMemorySize())
      return std::nullopt;
    Candidate candidate{launch, kernel, *blocks, *threads, 0, false, {}};
    for (BlockArgument memory : kernel.getWorkgroupAttributions()) {
      auto type = cast<MemRefType>(memory.getType());
      int64_t bytes = llvm::divideCeil(type.getNumElements() * type.getElementTypeBitWidth(), 8);
      candidate.shared += llvm::alignTo(bytes, kSharedAlignment);
    }
    kernel.walk([&](Operation *op) {
      candidate.hasBarrier |= isa<gpu::BarrierOp>(op);
      candidate.ops += op->getName().getStringRef();
      if (op->getNumResults() == 1 && !op->getResult(0).getType().isIndex())
        llvm::raw_string_ostream(candidate.ops) << op->getResult(0).getType();
    });
    return candidate;
  }

  static bool isSmall(const Candidate &c) { return c.blocks * c.threads <= kThreadsOfGpu; }

  static bool fits(const Group &group, const Candidate &c) {
    int64_t most = c.threads, blocks = c.blocks, shared = c.shared;
    for (const Candidate &other : group)
      most = std::max(most, other.threads), blocks += other.blocks, shared += other.shared;
    // Threads that a body has no use for wait outside of it, and not at its barriers.
    auto canIdle = [&](const Candidate &each) {
      return each.threads == most || (!each.hasBarrier && isSmall(each));
    };
    return group.size() < kMostLaunches && blocks <= INT32_MAX && shared <= kMostShared &&
           canIdle(c) &&
           llvm::all_of(
               group,
               [&](const Candidate &other) {
                 return canIdle(other) && ((isSmall(other) && isSmall(c)) || other.ops == c.ops);
               });
  }

  static Value rootOf(Value buffer) {
    while (auto view = buffer.getDefiningOp<ViewLikeOpInterface>())
      buffer = view.getViewSource();
    return buffer;
  }

  Touched touchedBy(Operation *op) {
    Touched touched;
    if (auto launch = dyn_cast<gpu::LaunchFuncOp>(op)) {
      auto kernel =
          symbols.lookupNearestSymbolFrom<FunctionOpInterface>(op, launch.getKernelAttr());
      for (auto [i, operand] : llvm::enumerate(launch.getKernelOperands())) {
        touched.reads.insert(rootOf(operand));
        if (!kernel || !kernel.getArgAttr(i, LLVM::LLVMDialect::getReadonlyAttrName()))
          touched.writes.insert(rootOf(operand));
      }
      return touched;
    }
    if (isMemoryEffectFree(op) || isa<memref::AllocOp>(op))
      return touched;
    auto effects = dyn_cast<MemoryEffectOpInterface>(op);
    SmallVector<MemoryEffects::EffectInstance> instances;
    if (effects)
      effects.getEffects(instances);
    touched.all = !effects || op->getNumRegions() != 0;
    for (const MemoryEffects::EffectInstance &instance : instances) {
      Value buffer = instance.getValue();
      if (!buffer)
        touched.all = true;
      else if (isa<MemoryEffects::Read>(instance.getEffect()))
        touched.reads.insert(rootOf(buffer));
      else
        touched.writes.insert(rootOf(buffer));
    }
    return touched;
  }

  // Whether `op` may pass all of [from, to).
  bool mayPass(Operation *op, Block::iterator from, Block::iterator to) {
    Touched own = touchedBy(op);
    return std::all_of(from, to,
                       [&](Operation &other) { return !own.conflictsWith(touchedBy(&other)); });
  }

  // Ops between `place` and `op` that make its operands and touch no memory; nothing if others do.
  static bool collectOperands(Operation *op, Operation *place, llvm::SetVector<Operation *> &made) {
    for (Value operand : op->getOperands()) {
      Operation *maker = operand.getDefiningOp();
      if (!maker || maker->isBeforeInBlock(place) || made.contains(maker))
        continue;
      if ((!isMemoryEffectFree(maker) && !isa<memref::AllocOp>(maker)) ||
          maker->getNumRegions() != 0 || !collectOperands(maker, place, made))
        return false;
      made.insert(maker);
    }
    return true;
  }

  // Moves the launch up behind the last one of the group, or the group down to it.
  bool bringTogether(Group &group, Candidate &c) {
    Operation *last = group.back().launch, *launch = c.launch;
    // In one kernel they have no order.
    for (Candidate &other : group)
      if (touchedBy(other.launch).conflictsWith(touchedBy(launch)))
        return false;
    auto behind = std::next(last->getIterator());
    llvm::SetVector<Operation *> makers;
    if (mayPass(launch, behind, launch->getIterator()) &&
        collectOperands(launch, &*behind, makers)) {
      for (Operation *maker : makers)
        maker->moveBefore(&*behind);
      if (&*behind != launch)
        launch->moveAfter(makers.empty() ? last : makers.back());
      return true;
    }
    if (!llvm::all_of(group, [&](Candidate &other) {
          return mayPass(other.launch, behind, launch->getIterator());
        }))
      return false;
    for (Candidate &other : group)
      other.launch->moveBefore(launch);
    return true;
  }

  void merge(Group &group) {
    auto module = block->getParentOfType<ModuleOp>();
    SmallVector<Location> places;
    llvm::SetVector<Value> operands;
    int64_t blocks = 0, threads = 1;
    for (Candidate &c : group) {
      places.push_back(c.kernel.getLoc());
      operands.insert_range(c.launch.getKernelOperands());
      blocks += c.blocks;
      threads = std::max(threads, c.threads);
    }
    Location loc = FusedLoc::get(block.getContext(), places);
    std::string name = (group.front().kernel.getName() + "_and_" + Twine(group.size() - 1)).str();
    auto builder = OpBuilder::atBlockEnd(module.getBody());
    auto holder = gpu::GPUModuleOp::create(builder, loc, name);
    builder.setInsertionPointToStart(holder.getBody());
    auto kernel = gpu::GPUFuncOp::create(
        builder, loc, name, builder.getFunctionType(TypeRange(operands.getArrayRef()), {}));
    kernel->setAttr(gpu::GPUDialect::getKernelFuncAttrName(), builder.getUnitAttr());
    kernel->setAttr("nvvm.reqntid", builder.getDenseI32ArrayAttr({int32_t(threads), 1, 1}));
    kernel->setAttr(kPartsAttr, builder.getDenseI64ArrayAttr(llvm::map_to_vector(
                                    group, [](const Candidate &c) { return c.blocks; })));
    for (auto [i, operand] : llvm::enumerate(operands)) {
      kernel.setArgAttr(i, LLVM::LLVMDialect::getNoAliasAttrName(), builder.getUnitAttr());
      if (llvm::all_of(group, [&](Candidate &c) {
            return llvm::all_of(llvm::enumerate(c.launch.getKernelOperands()), [&](auto each) {
              return each.value() != operand ||
                     c.kernel.getArgAttr(each.index(), LLVM::LLVMDialect::getReadonlyAttrName());
            });
          }))
        kernel.setArgAttr(i, LLVM::LLVMDialect::getReadonlyAttrName(), builder.getUnitAttr());
    }
    builder.setInsertionPointToEnd(&kernel.getBody().front());
    gpu::ReturnOp::create(builder, loc);
    builder.setInsertionPointToStart(&kernel.getBody().front());
    Value number = gpu::BlockIdOp::create(builder, loc, gpu::Dimension::x);
    Value thread = gpu::ThreadIdOp::create(builder, loc, gpu::Dimension::x);
    auto constant = [&](int64_t value) -> Value {
      return arith::ConstantIndexOp::create(builder, loc, value);
    };
    auto isBelow = [&](Value value, int64_t bound) -> Value {
      return arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult, value, constant(bound));
    };
    int64_t first = 0;
    for (Candidate &c : group) {
      if (&c != &group.back()) {
        auto choice = scf::IfOp::create(builder, loc, isBelow(number, first + c.blocks),
                                        /*withElseRegion=*/true);
        builder.setInsertionPointToStart(choice.thenBlock());
        addBody(kernel, c, operands, number, first, thread, threads, builder);
        builder.setInsertionPointToStart(choice.elseBlock());
      } else {
        addBody(kernel, c, operands, number, first, thread, threads, builder);
      }
      first += c.blocks;
    }
    builder.setInsertionPoint(group.back().launch);
    Value one = constant(1);
    gpu::LaunchFuncOp::create(builder, loc, kernel, {constant(blocks), one, one},
                              {constant(threads), one, one},
                              /*dynamicSharedMemorySize=*/Value(), operands.getArrayRef());
    for (Candidate &c : group) {
      c.launch.erase();
      c.kernel->getParentOfType<gpu::GPUModuleOp>().erase();
    }
  }

  static void addBody(gpu::GPUFuncOp kernel, Candidate &c, const llvm::SetVector<Value> &operands,
                      Value number, int64_t first, Value thread, int64_t threads,
                      OpBuilder &builder) {
    Location loc = c.kernel.getLoc();
    IRMapping mapping;
    auto from = c.kernel->getParentOfType<gpu::GPUModuleOp>();
    auto holder = kernel->getParentOfType<gpu::GPUModuleOp>();
    for (auto table : from.getOps<memref::GlobalOp>())
      if (!holder.lookupSymbol(table.getSymName())) {
        OpBuilder::InsertionGuard guard(builder);
        builder.setInsertionPointToStart(holder.getBody());
        builder.clone(*table);
      }
    for (auto [argument, operand] :
         llvm::zip(c.kernel.getArguments(), c.launch.getKernelOperands()))
      mapping.map(argument, kernel.getArgument(llvm::find(operands, operand) - operands.begin()));
    for (auto [i, memory] : llvm::enumerate(c.kernel.getWorkgroupAttributions())) {
      Value added = kernel.addWorkgroupAttribution(memory.getType(), loc);
      if (Attribute alignment =
              c.kernel.getWorkgroupAttributionAttr(i, LLVM::LLVMDialect::getAlignAttrName()))
        kernel.setWorkgroupAttributionAttr(kernel.getNumWorkgroupAttributions() - 1,
                                           LLVM::LLVMDialect::getAlignAttrName(), alignment);
      mapping.map(memory, added);
    }
    OpBuilder::InsertionGuard guard(builder);
    if (c.threads != threads) {
      Value bound = arith::ConstantIndexOp::create(builder, loc, c.threads);
      Value isNeeded =
          arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult, thread, bound);
      auto inside = scf::IfOp::create(builder, loc, isNeeded, /*withElseRegion=*/false);
      builder.setInsertionPoint(inside.thenBlock()->getTerminator());
    }
    Value own = number;
    if (first != 0)
      own = arith::SubIOp::create(builder, loc, number,
                                  arith::ConstantIndexOp::create(builder, loc, first));
    for (Operation &op : c.kernel.getBody().front().without_terminator())
      if (auto id = dyn_cast<gpu::BlockIdOp>(op))
        mapping.map(id.getResult(), own);
      else
        builder.clone(op, mapping);
  }

  SymbolTableCollection symbols;
  func::FuncOp block;
};
} // namespace

void llamac::mergeLaunches(func::FuncOp block) { Merger(block).run(); }
