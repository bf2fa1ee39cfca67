//===- PassDestinations.cpp - Arguments and results as buffers ------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One-shot bufferization of a function body whose arguments are memrefs: each
// argument is read through `to_tensor`, each result is materialized in its
// buffer. A result that takes an argument's place must not be materialized by
// upstream's empty-tensor elimination, which would not know that the argument is
// still read; so it is tied to the argument's tensor here.
//
//===----------------------------------------------------------------------===//
#include "llamac/Lower/Passes.h"

#include "dialects/Llama/IR/ColumnSlice.h"
#include "dialects/Llama/IR/Llama.h"

#include "mlir/Dialect/Utils/ReshapeOpsUtils.h"

namespace mlir::llamac {
#define GEN_PASS_DEF_PASSDESTINATIONSPASS
#include "llamac/Lower/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llamac;

// What a view is a view of.
static Value skipViews(Value value) {
  if (auto expand = value.getDefiningOp<tensor::ExpandShapeOp>())
    return expand.getSrc();
  if (auto collapse = value.getDefiningOp<tensor::CollapseShapeOp>())
    return collapse.getSrc();
  return value;
}

// Whether `value` is made in place of `tensor` already: through chains of outputs.
static bool startsAt(Value value, Value tensor) {
  while (value != tensor) {
    if (Value viewed = skipViews(value); viewed != value) {
      value = viewed;
      continue;
    }
    auto result = dyn_cast<OpResult>(value);
    if (!result)
      return false;
    if (auto op = dyn_cast<DestinationStyleOpInterface>(result.getOwner()))
      value = op.getTiedOpOperand(result)->get();
    else if (auto loop = dyn_cast<scf::ForOp>(result.getOwner()))
      value = loop.getTiedLoopInit(result)->get();
    else
      return false;
  }
  return true;
}

// Makes an elementwise op that reads `tensor` at the place it writes `result`
// write there in place. A view of `tensor` counts as `tensor`.
static bool writeInPlace(Value result, Value tensor) {
  auto made = dyn_cast<OpResult>(skipViews(result));
  auto generic = made ? dyn_cast<linalg::GenericOp>(made.getOwner()) : linalg::GenericOp();
  if (!generic || !made.hasOneUse() || generic.getNumParallelLoops() != generic.getNumLoops())
    return false;
  OpOperand *out = generic.getTiedOpOperand(made);
  if (!out->get().getDefiningOp<tensor::EmptyOp>())
    return false;
  AffineMap map = generic.getMatchingIndexingMap(out);
  for (OpOperand *input : generic.getDpsInputOperands())
    if (input->get().getType() == made.getType() && skipViews(input->get()) == tensor &&
        generic.getMatchingIndexingMap(input) == map) {
      out->set(input->get());
      return true;
    }
  return false;
}

// Gives every op that writes an empty or a filled tensor one of its own. CSE makes
// one of several; as the destinations of two results they would be one buffer, and
// upstream's empty-tensor elimination writes the second result over the first.
static void unshareOutputs(Block &body) {
  SmallVector<Operation *> outputs;
  body.walk([&](Operation *op) {
    if (isa<tensor::EmptyOp, linalg::FillOp>(op))
      outputs.push_back(op);
  });
  for (Operation *op : llvm::reverse(outputs)) // users before what they use
    while (!op->use_empty() && !op->hasOneUse()) {
      OpOperand &use = *op->getUses().begin();
      OpBuilder builder(use.getOwner());
      use.set(builder.clone(*op)->getResult(0));
    }
}

// `buffer`, dense, in another shape. After what defines it.
static Value viewOf(OpBuilder &builder, Location loc, Value buffer, ArrayRef<int64_t> shape) {
  auto type = cast<MemRefType>(buffer.getType());
  auto wanted = MemRefType::get(shape, type.getElementType());
  if (type == wanted)
    return buffer;
  auto groups = getReassociationIndicesForReshape(type, wanted);
  if (!groups) // by way of one dimension
    return viewOf(builder, loc, viewOf(builder, loc, buffer, {type.getNumElements()}), shape);
  if (type.getRank() > wanted.getRank())
    return memref::CollapseShapeOp::create(builder, loc, wanted, buffer, *groups);
  return memref::ExpandShapeOp::create(builder, loc, shape, buffer, *groups);
}

// Tensors side by side: each is written in its columns of `buffer`, which is read behind that.
static void writeSideBySide(tensor::ConcatOp concat, Value buffer) {
  Location loc = concat.getLoc();
  OpBuilder builder(concat), atStart(concat);
  atStart.setInsertionPointAfterValue(buffer);
  llama::ColumnSlice slice{SmallVector<int64_t>(concat.getResultType().getShape()),
                           unsigned(concat.getDim()), 0, 0};
  for (Value part : concat.getInputs()) {
    slice.size = cast<RankedTensorType>(part.getType()).getDimSize(slice.dimension);
    // What views view is written, in the shape in which it is made.
    llama::ColumnSlice written = slice;
    for (Value view = part, inner = skipViews(view); inner != view;
         view = inner, inner = skipViews(view))
      if (std::optional<llama::ColumnSlice> seen =
              slice.reshaped(cast<RankedTensorType>(inner.getType()).getShape())) {
        written = *seen;
        part = inner;
      }
    Value place = memref::SubViewOp::create(
        atStart, loc, viewOf(atStart, loc, buffer, written.shape), written.offsets(builder),
        written.sizes(builder), written.strides(builder));
    auto store =
        bufferization::MaterializeInDestinationOp::create(builder, loc, Type(), part, place);
    store.setRestrict(true);
    store.setWritable(true);
    slice.offset += slice.size;
  }
  Value whole = bufferization::ToTensorOp::create(builder, loc, concat.getResultType(), buffer,
                                                  /*restrict=*/true, /*writable=*/false);
  concat.replaceAllUsesWith(whole);
  concat.erase();
}

namespace {
struct PassDestinationsPass : llamac::impl::PassDestinationsPassBase<PassDestinationsPass> {
  void runOnOperation() override {
    func::FuncOp function = getOperation();
    if (function.isExternal() || function.getBody().getBlocks().size() != 1)
      return;
    Block &body = function.getBody().front();
    auto terminator = cast<func::ReturnOp>(body.getTerminator());
    OpBuilder builder = OpBuilder::atBlockBegin(&body);
    unshareOutputs(body);

    auto bufferOf = [&](Type type) -> Type {
      auto tensor = dyn_cast<RankedTensorType>(type);
      if (!tensor || !tensor.hasStaticShape())
        return {};
      return MemRefType::get(tensor.getShape(), tensor.getElementType());
    };
    SmallVector<Type> types;
    for (Type type :
         llvm::concat<const Type>(function.getArgumentTypes(), function.getResultTypes()))
      if (!bufferOf(type)) {
        function.emitOpError(
            "expects arguments and results to be tensors of static shape, but got ")
            << type;
        return signalPassFailure();
      }

    // Which argument each result takes the place of, or -1.
    SmallVector<int64_t> places;
    SmallVector<bool> writable(body.getNumArguments(), false);
    for (unsigned i = 0; i < function.getNumResults(); ++i) {
      auto place = function.getResultAttrOfType<IntegerAttr>(i, llama::kInPlaceAttr);
      places.push_back(place ? place.getInt() : -1);
      if (!place)
        continue;
      int64_t argument = place.getInt();
      if (argument < 0 || argument >= int64_t(body.getNumArguments()) || writable[argument] ||
          body.getArgument(argument).getType() != function.getResultTypes()[i]) {
        function.emitOpError("expects ")
            << llama::kInPlaceAttr << " of result " << i
            << " to name an argument of its type that no other result names, but got " << argument;
        return signalPassFailure();
      }
      writable[argument] = true;
    }

    // Arguments.
    SmallVector<Value> tensors;
    for (BlockArgument argument : body.getArguments()) {
      Type type = argument.getType();
      argument.setType(bufferOf(type));
      types.push_back(argument.getType());
      auto tensor =
          bufferization::ToTensorOp::create(builder, argument.getLoc(), type, argument,
                                            /*restrict=*/true, writable[argument.getArgNumber()]);
      argument.replaceAllUsesExcept(tensor, tensor);
      tensors.push_back(tensor);
    }

    // Results.
    builder.setInsertionPoint(terminator);
    for (auto [result, place] : llvm::zip_equal(terminator.getOperands(), places)) {
      Value value = result, buffer;
      if (place >= 0) {
        buffer = body.getArgument(place);
        if (!startsAt(value, tensors[place]) && !writeInPlace(value, tensors[place]))
          value =
              linalg::CopyOp::create(builder, value.getLoc(), value, tensors[place]).getResult(0);
      } else {
        buffer = body.addArgument(bufferOf(value.getType()), value.getLoc());
        types.push_back(buffer.getType());
        if (auto concat = value.getDefiningOp<tensor::ConcatOp>()) {
          writeSideBySide(concat, buffer);
          continue;
        }
      }
      // A view of a result is written as what it views, so that the op that makes it
      // can write it in its place.
      while (place < 0) {
        OpBuilder atStart = OpBuilder::atBlockBegin(&body);
        if (buffer.getDefiningOp())
          atStart.setInsertionPointAfter(buffer.getDefiningOp());
        if (auto expand = value.getDefiningOp<tensor::ExpandShapeOp>()) {
          buffer = memref::CollapseShapeOp::create(atStart, value.getLoc(),
                                                   cast<MemRefType>(bufferOf(expand.getSrcType())),
                                                   buffer, expand.getReassociationIndices());
          value = expand.getSrc();
        } else if (auto collapse = value.getDefiningOp<tensor::CollapseShapeOp>()) {
          buffer = memref::ExpandShapeOp::create(atStart, value.getLoc(),
                                                 collapse.getSrcType().getShape(), buffer,
                                                 collapse.getReassociationIndices());
          value = collapse.getSrc();
        } else {
          break;
        }
      }
      auto store = bufferization::MaterializeInDestinationOp::create(builder, value.getLoc(),
                                                                     Type(), value, buffer);
      store.setRestrict(true);
      store.setWritable(true);
    }
    for (auto concat : llvm::make_early_inc_range(body.getOps<tensor::ConcatOp>())) {
      OpBuilder atStart = OpBuilder::atBlockBegin(&body);
      writeSideBySide(concat,
                      memref::AllocOp::create(atStart, concat.getLoc(),
                                              cast<MemRefType>(bufferOf(concat.getType()))));
    }
    func::ReturnOp::create(builder, terminator.getLoc());
    terminator.erase();
    function.setResAttrsAttr(nullptr);
    function.setArgAttrsAttr(nullptr);
    function.setType(FunctionType::get(&getContext(), types, {}));
  }
};
} // namespace
