//===- BlockWriter.cpp - A block as calls on buffers ----------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A block is only calls, buffers and constants: it is written directly, each buffer as a
// pointer taken from `buffers` or an offset into the scratch buffer. A temporary lives from
// the first to the last call that has it as operand; its place in the scratch buffer is
// planned as arenas are (ArenaPlan.h).
//
//   call @f.loop0(%x, %a, 0, 64) {grain}    llrt_launch(stream, &kernel, {buffers[0], scratch})
//   gpu.launch_func @k::@k ... args(%x)     llrt_launch(stream, &kernel, {buffers[0]})
//   routine.gemm %a, %w into %y        =>   llrt_gemm(stream, &descriptor0, scratch, ...)
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/BlockWriter.h"

#include "dialects/Llama/IR/Llama.h"
#include "dialects/Routine/IR/Routine.h"
#include "llamac/Lower/Passes.h"
#include "llamac/Support/ArenaPlan.h"

#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "llvm/ADT/StringSet.h"

using namespace mlir;
using namespace mlir::llamac;

//===----------------------------------------------------------------------===//
// Scratch memory
//===----------------------------------------------------------------------===//

namespace {
// Where each temporary of a block lies, and the scratch memory of what it calls; how much memory
// they take.
struct Scratch {
  llvm::DenseMap<Value, int64_t> offsets;
  llvm::DenseMap<Operation *, int64_t> calls;
  int64_t bytes = 0;
};
} // namespace

// Scratch bytes of the function that `op` calls, which is written already; null if it is not.
static IntegerAttr scratchOfCallee(routine::ChunksOp op, ModuleOp module) {
  auto callee = module.lookupSymbol<LLVM::LLVMFuncOp>(op.getCallee());
  return callee ? callee->getAttrOfType<IntegerAttr>(kScratchAttr) : IntegerAttr();
}

static int64_t bytesOf(MemRefType type) {
  return type.getNumElements() * llvm::divideCeil(type.getElementTypeBitWidth(), 8);
}

static Scratch planScratch(func::FuncOp function, ModuleOp module, int64_t alignment) {
  Block &body = function.getBody().front();
  llvm::DenseMap<Operation *, int64_t> position;
  for (auto [index, op] : llvm::enumerate(body))
    position[&op] = index;
  SmallVector<Value> buffers;
  SmallVector<PlannedValue> lives;
  for (auto alloc : body.getOps<memref::AllocOp>()) {
    if (alloc->use_empty())
      continue;
    SmallVector<int64_t> at;
    auto use = [&](Operation *user) { at.push_back(position[body.findAncestorOpInBlock(*user)]); };
    for (Operation *user : alloc->getUsers()) {
      use(user);
      if (isa<memref::ReinterpretCastOp>(user))
        llvm::for_each(user->getUsers(), use);
    }
    buffers.push_back(alloc);
    lives.push_back({*llvm::min_element(at), *llvm::max_element(at), bytesOf(alloc.getType())});
  }
  SmallVector<Operation *> calls;
  for (auto call : body.getOps<routine::ChunksOp>())
    if (IntegerAttr bytes = scratchOfCallee(call, module); bytes && bytes.getInt() > 0) {
      calls.push_back(call);
      lives.push_back({position[call], position[call], bytes.getInt()});
    }
  Scratch scratch;
  scratch.bytes = planArena(lives, alignment);
  for (auto [buffer, life] : llvm::zip(buffers, lives))
    scratch.offsets[buffer] = life.offset;
  for (auto [call, life] : llvm::zip_equal(calls, ArrayRef(lives).drop_front(buffers.size())))
    scratch.calls[call] = life.offset;
  return scratch;
}

//===----------------------------------------------------------------------===//
// The block
//===----------------------------------------------------------------------===//

namespace {
// Writes the LLVM function of a block.
class BlockWriter {
public:
  BlockWriter(func::FuncOp block, ModuleOp module, int64_t alignment, KernelMaker kernelOf)
      : block(block), module(module), alignment(alignment), kernelOf(kernelOf), builder(block),
        loc(block.getLoc()), pointer(LLVM::LLVMPointerType::get(block.getContext())) {}

  LogicalResult write() {
    Scratch scratch = planScratch(block, module, alignment);
    std::string name = block.getSymName().str();
    block.setSymName(name + ".buffers");
    auto type = LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(builder.getContext()),
                                            {pointer, pointer});
    auto function = LLVM::LLVMFuncOp::create(builder, loc, name, type);
    function->setAttr(kScratchAttr, builder.getI64IntegerAttr(scratch.bytes));
    entry = function.addEntryBlock(builder);
    builder.setInsertionPointToStart(entry);

    stream = entry->getArgument(0);
    Value buffers = entry->getArgument(1);
    auto loadBuffer = [&](unsigned index) -> Value {
      Value slot = LLVM::GEPOp::create(builder, loc, pointer, pointer, buffers,
                                       ArrayRef<LLVM::GEPArg>{int32_t(index)});
      return LLVM::LoadOp::create(builder, loc, pointer, slot);
    };
    for (BlockArgument argument : block.getArguments())
      pointers[argument] = loadBuffer(argument.getArgNumber());
    if (scratch.bytes > 0) {
      Value base = loadBuffer(block.getNumArguments());
      for (auto alloc : block.getOps<memref::AllocOp>()) {
        auto place = scratch.offsets.find(alloc);
        if (place == scratch.offsets.end())
          continue;
        pointers[alloc] = LLVM::GEPOp::create(builder, loc, pointer, builder.getI8Type(), base,
                                              ArrayRef<LLVM::GEPArg>{constant(place->second)});
      }
      for (auto call : block.getOps<routine::ChunksOp>())
        if (auto place = scratch.calls.find(call); place != scratch.calls.end())
          scratchOfCalls[call] =
              LLVM::GEPOp::create(builder, loc, pointer, builder.getI8Type(), base,
                                  ArrayRef<LLVM::GEPArg>{constant(place->second)});
    }

    for (Operation &op : block.getBody().front()) {
      loc = op.getLoc();
      LogicalResult written = success();
      if (auto call = dyn_cast<func::CallOp>(op))
        written = writeLaunch(call, call.getOperands().drop_back(2));
      else if (auto launch = dyn_cast<gpu::LaunchFuncOp>(op))
        written = writeLaunch(launch, launch.getKernelOperands());
      else if (auto chunks = dyn_cast<routine::ChunksOp>(op))
        written = writeChunks(chunks);
      else if (auto call = dyn_cast<routine::RoutineOpInterface>(op))
        written = writeRoutine(call);
      else if (auto columns = dyn_cast<memref::ReinterpretCastOp>(op))
        pointers[columns] = pointerTo(columns);
      else if (!isa<memref::AllocOp, func::ReturnOp>(op) && !op.hasTrait<OpTrait::ConstantLike>())
        return op.emitOpError("expects only calls of loops and routines and buffers in a block");
      if (failed(written))
        return failure();
    }
    LLVM::ReturnOp::create(builder, loc, ValueRange());
    return success();
  }

private:
  func::FuncOp block;
  ModuleOp module;
  int64_t alignment;
  KernelMaker kernelOf;
  OpBuilder builder;
  Location loc;
  Type pointer;
  Block *entry = nullptr;
  Value stream;
  llvm::DenseMap<Value, Value> pointers;
  llvm::DenseMap<Operation *, Value> scratchOfCalls;
  llvm::StringMap<std::string> descriptions; // their names

  Value constant(int64_t value) {
    return LLVM::ConstantOp::create(builder, loc, builder.getI64IntegerAttr(value));
  }

  // Columns of a buffer begin behind others.
  Value pointerTo(memref::ReinterpretCastOp columns) {
    const int64_t width = bytesOf(MemRefType::get({1}, columns.getType().getElementType()));
    return LLVM::GEPOp::create(
        builder, loc, pointer, builder.getI8Type(), pointers[columns.getSource()],
        ArrayRef<LLVM::GEPArg>{constant(columns.getStaticOffsets()[0] * width)});
  }

  // A routine of the runtime library, declared at first use.
  LLVM::LLVMFuncOp declare(StringRef name, ArrayRef<Type> arguments) {
    if (auto found = module.lookupSymbol<LLVM::LLVMFuncOp>(name))
      return found;
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(module.getBody());
    auto type =
        LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(builder.getContext()), arguments);
    return LLVM::LLVMFuncOp::create(builder, loc, name, type);
  }

  // `op` is a call of a loop or launches a kernel, with `operands` for buffers.
  LogicalResult writeLaunch(Operation *op, ValueRange operands) {
    FailureOr<std::string> kernel = kernelOf(op);
    if (failed(kernel))
      return failure();
    SmallVector<Value> buffers;
    for (Value operand : operands)
      buffers.push_back(pointers[operand]);
    if (kernel->empty()) {
      auto call = cast<func::CallOp>(op);
      for (Value bound : call.getOperands().take_back(2))
        buffers.push_back(constant(*getConstantIntValue(bound)));
      LLVM::CallOp::create(builder, loc, module.lookupSymbol<LLVM::LLVMFuncOp>(call.getCallee()),
                           buffers);
      return success();
    }
    LLVM::CallOp::create(builder, loc, declare("llrt_launch", {pointer, pointer, pointer}),
                         ValueRange{stream,
                                    LLVM::AddressOfOp::create(builder, loc, pointer, *kernel),
                                    arrayOf(buffers)});
    return success();
  }

  // The address of an array on the stack that holds `buffers`.
  Value arrayOf(ArrayRef<Value> buffers) {
    Value array;
    {
      OpBuilder::InsertionGuard guard(builder);
      builder.setInsertionPointToStart(entry);
      array = LLVM::AllocaOp::create(builder, loc, pointer, pointer, constant(buffers.size()));
    }
    for (auto [index, buffer] : llvm::enumerate(buffers)) {
      Value slot = LLVM::GEPOp::create(builder, loc, pointer, pointer, array,
                                       ArrayRef<LLVM::GEPArg>{int32_t(index)});
      LLVM::StoreOp::create(builder, loc, buffer, slot);
    }
    return array;
  }

  // A loop over the chunks that calls a function with this one's interface.
  LogicalResult writeChunks(routine::ChunksOp op) {
    auto callee = module.lookupSymbol<LLVM::LLVMFuncOp>(op.getCallee());
    if (!scratchOfCallee(op, module))
      return op.emitOpError("expects '")
             << op.getCallee() << "' to be a function of the block, before it in the module";
    callee.setLinkage(LLVM::Linkage::Internal);
    Type i64 = builder.getI64Type();
    Block *before = builder.getInsertionBlock();
    Block *body = builder.createBlock(before->getParent(), {}, {i64}, {loc});
    builder.setInsertionPointToEnd(before);
    LLVM::BrOp::create(builder, loc, ValueRange(constant(0)), body);
    builder.setInsertionPointToStart(body);
    Value number = body->getArgument(0);
    SmallVector<Value> buffers;
    for (auto [operand, begin, step] :
         llvm::zip_equal(op->getOperands(), op.getBegins(), op.getSteps())) {
      Value from = pointers[operand];
      if (begin != 0 || step != 0) {
        int64_t bytes =
            llvm::divideCeil(cast<MemRefType>(operand.getType()).getElementTypeBitWidth(), 8);
        Value offset = LLVM::MulOp::create(builder, loc, number, constant(step * bytes));
        offset = LLVM::AddOp::create(builder, loc, offset, constant(begin * bytes));
        from = LLVM::GEPOp::create(builder, loc, pointer, builder.getI8Type(), from,
                                   ArrayRef<LLVM::GEPArg>{offset});
      }
      buffers.push_back(from);
    }
    if (Value scratch = scratchOfCalls.lookup(op))
      buffers.push_back(scratch);
    LLVM::CallOp::create(builder, loc, callee, ValueRange{stream, arrayOf(buffers)});
    Value next = LLVM::AddOp::create(builder, loc, number, constant(1));
    Value more =
        LLVM::ICmpOp::create(builder, loc, LLVM::ICmpPredicate::slt, next, constant(op.getCount()));
    Block *after = builder.createBlock(before->getParent());
    builder.setInsertionPointToEnd(body);
    LLVM::CondBrOp::create(builder, loc, more, body, ValueRange(next), after, ValueRange());
    builder.setInsertionPointToStart(after);
    return success();
  }

  // Address of a constant structure in words of 64 bits.
  Value description(ArrayRef<int64_t> words) {
    std::string key;
    llvm::raw_string_ostream stream(key);
    llvm::interleave(words, stream, ",");
    std::string &name = descriptions[key];
    if (name.empty()) {
      // What the block calls has some of its own.
      for (unsigned number = descriptions.size() - 1; name.empty() || module.lookupSymbol(name);
           ++number)
        name = "descriptor" + std::to_string(number);
      OpBuilder::InsertionGuard guard(builder);
      builder.setInsertionPointToStart(module.getBody());
      auto type = LLVM::LLVMArrayType::get(builder.getI64Type(), words.size());
      LLVM::GlobalOp::create(builder, loc, type, /*isConstant=*/true, LLVM::Linkage::Internal, name,
                             builder.getI64TensorAttr(words), /*alignment=*/8);
    }
    return LLVM::AddressOfOp::create(builder, loc, pointer, name);
  }

  LogicalResult writeRoutine(routine::RoutineOpInterface op) {
    SmallVector<Value> operands{stream, description(op.getDescription())};
    Value null;
    for (Value buffer : op.getRoutineArguments()) {
      if (buffer && !cast<MemRefType>(buffer.getType()).getLayout().isIdentity())
        return op.emitOpError("expects dense operands, but got ") << buffer.getType();
      if (!buffer && !null)
        null = LLVM::ZeroOp::create(builder, loc, pointer);
      operands.push_back(buffer ? pointers[buffer] : null);
    }
    SmallVector<Type> types(operands.size(), pointer);
    LLVM::CallOp::create(builder, loc, declare(op.getRoutine(), types), operands);
    return success();
  }
};
} // namespace

FailureOr<SmallVector<func::FuncOp>> llamac::blocksOf(ModuleOp module) {
  SmallVector<func::FuncOp> blocks, called;
  llvm::StringSet<> callees;
  module.walk([&](routine::ChunksOp op) { callees.insert(op.getCallee()); });
  for (auto function : module.getOps<func::FuncOp>())
    if (function->hasAttr(llama::kBlockAttr))
      (callees.contains(function.getSymName()) ? called : blocks).push_back(function);
  if (blocks.empty() && called.empty())
    return blocks;
  if (blocks.size() != 1)
    return module.emitOpError("expects one block, but got ") << blocks.size();
  called.push_back(blocks.front());
  return called;
}

LogicalResult llamac::writeBlock(func::FuncOp block, ModuleOp module, int64_t alignment,
                                 KernelMaker kernelOf) {
  if (failed(BlockWriter(block, module, alignment, kernelOf).write()))
    return failure();
  block.erase();
  return success();
}
