//===- MapKernels.cpp - Outlined loops as kernels of a GPU ----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Every function that llama-outline-loops made becomes one kernel. Which loops of a nest are
// parallel is told by the indices of what it writes (LoopAccess.h); the others run in the
// thread, in their order, so that every sum has one order.
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/Cuda/Nest.h"
#include "llamac/Lower/Passes.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Affine/Utils.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/IRMapping.h"

namespace mlir::llamac {
#define GEN_PASS_DEF_MAPKERNELSPASS
#include "llamac/Lower/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llamac;

gpu::GPUFuncOp llamac::makeKernel(const Nest &nest, int64_t blocks, int64_t threads,
                                  ValueRange scratch, StringRef suffix) {
  auto module = nest.call->getParentOfType<ModuleOp>();
  Location loc = nest.loop->getLoc();
  func::FuncOp function = nest.function;
  auto builder = OpBuilder::atBlockEnd(module.getBody());
  // PTX has no dots in names.
  std::string name = (function.getSymName() + suffix).str();
  llvm::replace(name, '.', '_');
  while (module.lookupSymbol(name))
    name += '_';
  auto holder = gpu::GPUModuleOp::create(builder, loc, name);
  builder.setInsertionPointToStart(holder.getBody());
  SmallVector<Value> operands(nest.call->getOperands());
  operands.append(scratch.begin(), scratch.end());
  auto kernel =
      gpu::GPUFuncOp::create(builder, loc, name, builder.getFunctionType(TypeRange(operands), {}));
  kernel->setAttr(gpu::GPUDialect::getKernelFuncAttrName(), builder.getUnitAttr());
  kernel->setAttr("nvvm.reqntid", builder.getDenseI32ArrayAttr({int32_t(threads), 1, 1}));
  Footprint footprint(nest.loop);
  for (unsigned i = 0; i < operands.size(); ++i) {
    kernel.setArgAttr(i, LLVM::LLVMDialect::getNoAliasAttrName(), builder.getUnitAttr());
    if (i < function.getNumArguments() && !footprint.writes.contains(function.getArgument(i)))
      kernel.setArgAttr(i, LLVM::LLVMDialect::getReadonlyAttrName(), builder.getUnitAttr());
  }
  builder.setInsertionPointToEnd(&kernel.getBody().front());
  gpu::ReturnOp::create(builder, loc);
  // Constant tables are part of the kernel's module.
  for (auto get : function.getOps<memref::GetGlobalOp>())
    if (!holder.lookupSymbol(get.getName())) {
      builder.setInsertionPointToStart(holder.getBody());
      builder.clone(*module.lookupSymbol(get.getName()));
    }

  builder.setInsertionPoint(nest.call);
  auto index = [&](int64_t value) -> Value {
    return arith::ConstantIndexOp::create(builder, loc, value);
  };
  Value one = index(1);
  gpu::LaunchFuncOp::create(builder, loc, kernel, {index(blocks), one, one},
                            {index(threads), one, one}, /*dynamicSharedMemorySize=*/Value(),
                            operands);
  return kernel;
}

SmallVector<Operation *> llamac::perfectBand(Operation *outermost) {
  SmallVector<Operation *> band;
  for (Operation *loop = outermost; loop && isLoop(*loop) && constantRange(loop);) {
    band.push_back(loop);
    Block &body = loop->getRegion(0).front();
    loop = llvm::hasNItems(body, 2) ? &body.front() : nullptr;
  }
  return band;
}

SmallVector<Operation *> llamac::parallelLoops(ArrayRef<Operation *> band, ArrayRef<Value> written,
                                               bool own) {
  SmallVector<Operation *> parallel;
  SmallVector<Value> variables;
  for (Operation *loop : band) {
    variables.push_back(inductionVariableOf(loop));
    bool separated = llvm::all_of(written, [&](Value buffer) {
      bool drop = own && buffer.getDefiningOp<memref::AllocaOp>() &&
                  variables.front() == inductionVariableOf(band.front());
      return areSeparated(buffer, band.front(), ArrayRef(variables).drop_front(drop ? 1 : 0));
    });
    if (separated)
      parallel.push_back(loop);
    else
      variables.pop_back();
  }
  return parallel;
}

SmallVector<Value> llamac::writtenBuffers(Operation *op) {
  llvm::SetVector<Value> written;
  op->walk([&](Operation *inner) {
    if (std::optional<LoopAccess> access = loopAccessOf(inner); access && access->writes)
      written.insert(access->buffer);
  });
  return written.takeVector();
}

namespace {
// Clones ops of a nest into a kernel, affine ops as plain ones. A loop that has a place is not
// a loop there: its variable is the place's value.
class Cloner {
public:
  Cloner(OpBuilder &builder, IRMapping &mapping) : builder(builder), mapping(mapping) {}

  void replaceLoop(Operation *loop, Value variable) { places[loop] = variable; }

  LogicalResult cloneBody(Block &block) {
    for (Operation &op : block)
      if (!op.hasTrait<OpTrait::IsTerminator>() && failed(clone(op)))
        return failure();
    return success();
  }

  LogicalResult clone(Operation &op) {
    Location loc = op.getLoc();
    if (Value place = places.lookup(&op)) {
      mapping.map(inductionVariableOf(&op), place);
      return cloneBody(op.getRegion(0).front());
    }
    if (isLoop(op)) {
      std::optional<LoopRange> range = constantRange(&op);
      if (!range || op.getNumResults() != 0)
        return op.emitOpError("expects constant bounds, step 1 and no values carried along");
      auto loop =
          scf::ForOp::create(builder, loc, arith::ConstantIndexOp::create(builder, loc, range->low),
                             arith::ConstantIndexOp::create(builder, loc, range->high),
                             arith::ConstantIndexOp::create(builder, loc, 1));
      mapping.map(inductionVariableOf(&op), loop.getInductionVar());
      OpBuilder::InsertionGuard guard(builder);
      builder.setInsertionPoint(loop.getBody()->getTerminator());
      return cloneBody(op.getRegion(0).front());
    }
    if (auto ifOp = dyn_cast<scf::IfOp>(op); ifOp && ifOp.getNumResults() == 0) {
      auto made = scf::IfOp::create(builder, loc, mapping.lookupOrDefault(ifOp.getCondition()),
                                    /*withElseRegion=*/ifOp.elseBlock() != nullptr);
      OpBuilder::InsertionGuard guard(builder);
      builder.setInsertionPoint(made.thenBlock()->getTerminator());
      if (failed(cloneBody(*ifOp.thenBlock())))
        return failure();
      if (!ifOp.elseBlock())
        return success();
      builder.setInsertionPoint(made.elseBlock()->getTerminator());
      return cloneBody(*ifOp.elseBlock());
    }
    if (std::optional<LoopAccess> access = loopAccessOf(&op)) {
      SmallVector<Value> operands = llvm::map_to_vector(
          access->operands, [&](Value v) { return mapping.lookupOrDefault(v); });
      auto indices = affine::expandAffineMap(builder, loc, access->map, operands);
      if (!indices)
        return op.emitOpError("expects indices that arithmetic can be made for");
      Value buffer = mapping.lookupOrDefault(access->buffer);
      if (access->writes) {
        memref::StoreOp::create(builder, loc, mapping.lookupOrDefault(op.getOperand(0)), buffer,
                                *indices);
      } else {
        Value value = memref::LoadOp::create(builder, loc, buffer, *indices);
        mapping.map(op.getResult(0), value);
      }
      return success();
    }
    if (auto apply = dyn_cast<affine::AffineApplyOp>(op)) {
      SmallVector<Value> operands = llvm::map_to_vector(
          apply.getMapOperands(), [&](Value v) { return mapping.lookupOrDefault(v); });
      auto values = affine::expandAffineMap(builder, loc, apply.getAffineMap(), operands);
      if (!values)
        return op.emitOpError("expects an index that arithmetic can be made for");
      mapping.map(apply.getResult(), values->front());
      return success();
    }
    if (op.getNumRegions() != 0)
      return op.emitOpError("is in a loop, but no kernel can be made of it");
    builder.clone(op, mapping);
    return success();
  }

private:
  OpBuilder &builder;
  IRMapping &mapping;
  llvm::DenseMap<Operation *, Value> places;
};

struct MapKernelsPass : llamac::impl::MapKernelsPassBase<MapKernelsPass> {
  using MapKernelsPassBase::MapKernelsPassBase;

  void runOnOperation() override {
    SmallVector<func::CallOp> calls;
    getOperation().walk([&](func::CallOp call) { calls.push_back(call); });
    for (func::CallOp call : calls) {
      Nest nest;
      if (failed(takeNest(call, nest)))
        return signalPassFailure();
      for (Nest &part : teams ? takeApart(nest) : SmallVector<Nest>{nest}) {
        if ((!teams || !mapToTeams(part)) && failed(mapPlain(part)))
          return signalPassFailure();
        part.call.erase();
        part.function.erase();
      }
    }
    if (teams)
      for (auto block : getOperation().getOps<func::FuncOp>())
        if (!block.isExternal())
          mergeLaunches(block);
    if (!calls.empty())
      getOperation()->setAttr(gpu::GPUDialect::getContainerModuleAttrName(),
                              UnitAttr::get(&getContext()));
  }

  // The nest that `call` runs, with the range that the call gives.
  LogicalResult takeNest(func::CallOp call, Nest &nest) {
    auto function = getOperation().lookupSymbol<func::FuncOp>(call.getCallee());
    if (!function || function.isExternal())
      return call.emitOpError("expects the function of an outlined loop");
    Operation *loop = nullptr;
    for (Operation &op : function.getBody().front())
      if (isLoop(op))
        loop = &op;
    if (!loop || call.getNumOperands() < 2)
      return call.emitOpError("expects the function of an outlined loop");
    // The bounds are the last arguments.
    unsigned first = function.getNumArguments() - 2;
    for (unsigned i : {0, 1}) {
      std::optional<int64_t> bound = getConstantIntValue(call.getOperand(first + i));
      if (!bound)
        return call.emitOpError("expects a constant range");
      Value argument = function.getArgument(first + i);
      for (Operation *user : llvm::make_early_inc_range(argument.getUsers()))
        if (auto affineLoop = dyn_cast<affine::AffineForOp>(user))
          i == 0 ? affineLoop.setConstantLowerBound(*bound)
                 : affineLoop.setConstantUpperBound(*bound);
      if (argument.use_empty())
        continue;
      OpBuilder builder(loop);
      argument.replaceAllUsesWith(arith::ConstantIndexOp::create(builder, loop->getLoc(), *bound));
    }
    call->eraseOperands(first, 2);
    llvm::BitVector bounds(first + 2);
    bounds.set(first, first + 2);
    if (failed(function.eraseArguments(bounds)))
      return call.emitOpError("expects the function of an outlined loop");
    nest = {function, loop, call};
    return success();
  }

  // The parallel loops of a nest, outer ones first: of loops that directly contain each other
  // those whose variables separate all that is written, or the loop over columns.
  static SmallVector<Operation *> parallelLoopsOf(const Nest &nest) {
    SmallVector<Operation *> parallel =
        parallelLoops(perfectBand(nest.loop), writtenBuffers(nest.loop), /*own=*/true);
    if (parallel.empty())
      if (scf::ForOp columns = columnsLoop(nest.loop); columns && constantRange(columns))
        parallel.push_back(columns);
    return parallel;
  }

  // One thread for every iteration of the parallel loops together; all else happens in the
  // thread, in its order.
  LogicalResult mapPlain(Nest &nest) {
    SmallVector<Operation *> loops = parallelLoopsOf(nest);
    int64_t total = 1;
    for (Operation *loop : loops)
      total *= constantRange(loop)->size();
    if (total == 0)
      return success();
    Location loc = nest.loop->getLoc();
    int64_t threads = std::min<int64_t>(kThreadsPerBlock, llvm::alignTo(total, 32));
    if (total == 1)
      threads = 1;
    int64_t blocks = llvm::divideCeil(total, threads);
    OpBuilder builder(&getContext());
    gpu::GPUFuncOp kernel = makeKernel(nest, blocks, threads);
    IRMapping mapping;
    mapping.map(nest.function.getArguments(), kernel.getArguments());
    builder.setInsertionPoint(kernel.getBody().front().getTerminator());
    Cloner cloner(builder, mapping);
    // Constants and stack buffers, which LLVM wants in the entry.
    for (Operation &op : nest.function.getBody().front().without_terminator())
      if (&op != nest.loop)
        builder.clone(op, mapping);

    if (!loops.empty()) {
      // The thread's number, then its iteration of each loop.
      Type type = total <= INT32_MAX ? builder.getI32Type() : builder.getI64Type();
      auto constant = [&](int64_t value) -> Value {
        return arith::ConstantOp::create(builder, loc, builder.getIntegerAttr(type, value));
      };
      auto number = [&](Value index) -> Value {
        return arith::IndexCastUIOp::create(builder, loc, type, index);
      };
      Value thread = number(gpu::ThreadIdOp::create(builder, loc, gpu::Dimension::x));
      if (blocks > 1) {
        Value block = number(gpu::BlockIdOp::create(builder, loc, gpu::Dimension::x));
        Value first = arith::MulIOp::create(builder, loc, block, constant(threads));
        thread = arith::AddIOp::create(builder, loc, first, thread);
      }
      if (blocks * threads != total) {
        Value inside =
            arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult, thread, constant(total));
        auto ifOp = scf::IfOp::create(builder, loc, inside, /*withElseRegion=*/false);
        builder.setInsertionPoint(ifOp.thenBlock()->getTerminator());
      }
      for (Operation *loop : llvm::reverse(loops)) {
        LoopRange range = *constantRange(loop);
        Value iteration = thread;
        if (loop != loops.front()) {
          iteration = arith::RemUIOp::create(builder, loc, thread, constant(range.size()));
          thread = arith::DivUIOp::create(builder, loc, thread, constant(range.size()));
        }
        if (range.low != 0)
          iteration = arith::AddIOp::create(builder, loc, iteration, constant(range.low));
        cloner.replaceLoop(
            loop, arith::IndexCastOp::create(builder, loc, builder.getIndexType(), iteration));
      }
    }
    return cloner.clone(*nest.loop);
  }
};
} // namespace
