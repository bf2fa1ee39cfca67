//===- FoldViews.cpp - Access buffers directly, not through views ---------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A buffer's views all name the same dense elements. A shape is told by its
// strides: [2, 4, 8] has 64 (all elements), 32, 8, 1. The buffer gets the shape
// whose strides all accessed views have in common: then an index of the buffer is
// a sum of multiples of the view's indices,
//
//   views [8, 8] and [2, 4, 8]: strides {64, 8, 1} and {64, 32, 8, 1}
//   buffer [8, 8]: element (a, b, c) of the second view is (4 * a + b, c)
//
//===----------------------------------------------------------------------===//
#include "llamac/Lower/Passes.h"

#include "dialects/Routine/IR/Routine.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"

namespace mlir::llamac {
#define GEN_PASS_DEF_FOLDVIEWSPASS
#include "llamac/Lower/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llamac;

// Elements of all dimensions from `i` on, for i = 0 .. rank.
static SmallVector<int64_t> strides(ArrayRef<int64_t> shape) {
  SmallVector<int64_t> products(shape.size() + 1, 1);
  for (int64_t i = shape.size() - 1; i >= 0; --i)
    products[i] = products[i + 1] * shape[i];
  return products;
}

static MemRefType typeOf(Value value) { return cast<MemRefType>(value.getType()); }

namespace {
// One use of a buffer through the dense view `view`: a load, store or subview.
struct Access {
  OpOperand *operand;
  ArrayRef<int64_t> shape; // of the view
  // Of a subview, while its source still has the type that it was made for.
  llvm::SmallBitVector droppedDims;
};

struct FoldViewsPass : llamac::impl::FoldViewsPassBase<FoldViewsPass> {
  void runOnOperation() override {
    func::FuncOp function = getOperation();
    SmallVector<Value> buffers(llvm::make_filter_range(
        function.getArguments(), [](Value v) { return isa<MemRefType>(v.getType()); }));
    function.walk([&](Operation *op) {
      if (isa<memref::AllocOp, memref::GetGlobalOp>(op))
        buffers.push_back(op->getResult(0));
    });
    for (Value buffer : buffers)
      if (failed(foldViewsOf(buffer)))
        return signalPassFailure();
    function.setType(FunctionType::get(&getContext(), function.getBody().getArgumentTypes(), {}));
  }

  LogicalResult foldViewsOf(Value buffer) {
    SmallVector<Access> accesses;
    SmallVector<Operation *> views;
    SmallVector<Value> pending{buffer};
    while (!pending.empty()) {
      Value view = pending.pop_back_val();
      for (OpOperand &use : view.getUses()) {
        Operation *user = use.getOwner();
        if (isa<memref::ExpandShapeOp, memref::CollapseShapeOp>(user)) {
          views.push_back(user);
          pending.push_back(user->getResult(0));
        } else if (isa<routine::RoutineOpInterface>(user)) {
          routineUses.push_back(&use);
        } else if (isa<memref::LoadOp, memref::StoreOp, affine::AffineLoadOp, affine::AffineStoreOp,
                       memref::SubViewOp>(user)) {
          auto subview = dyn_cast<memref::SubViewOp>(user);
          accesses.push_back({&use, typeOf(view).getShape(),
                              subview ? subview.getDroppedDims() : llvm::SmallBitVector()});
        } else {
          return user->emitOpError("expects loads, stores and views of a buffer only");
        }
      }
    }

    for (OpOperand *use : std::exchange(routineUses, {}))
      use->set(buffer);
    if (accesses.empty()) {
      for (Operation *view : llvm::reverse(views))
        view->erase();
      return success();
    }

    // The strides that all accesses have in common, and the shape they give.
    SmallVector<int64_t> common = strides(accesses.front().shape);
    bool fixed = buffer.getDefiningOp<memref::GetGlobalOp>() != nullptr;
    auto keep = [&](ArrayRef<int64_t> shape) {
      SmallVector<int64_t> own = strides(shape);
      llvm::erase_if(common, [&](int64_t s) { return !llvm::is_contained(own, s); });
    };
    for (const Access &access : accesses)
      keep(access.shape);
    common.erase(llvm::unique(common), common.end());
    SmallVector<int64_t> shape;
    for (size_t i = 0; i + 1 < common.size(); ++i)
      shape.push_back(common[i] / common[i + 1]);
    if (fixed && ArrayRef<int64_t>(shape) != typeOf(buffer).getShape())
      shape.assign(typeOf(buffer).getShape().begin(), typeOf(buffer).getShape().end());
    buffer.setType(MemRefType::get(shape, typeOf(buffer).getElementType()));

    for (const Access &access : accesses)
      if (failed(rewrite(access, buffer)))
        return failure();
    for (Operation *view : llvm::reverse(views))
      view->erase();
    return success();
  }

  // For an element of `shape` given by `indices`, its indices in `buffer`.
  FailureOr<SmallVector<AffineExpr>>
  indicesIn(Operation *user, Value buffer, ArrayRef<int64_t> shape, ArrayRef<AffineExpr> indices) {
    SmallVector<int64_t> to = strides(typeOf(buffer).getShape()), from = strides(shape);
    SmallVector<AffineExpr> result(to.size() - 1, getAffineConstantExpr(0, &getContext()));
    for (size_t i = 0; i < shape.size(); ++i) {
      if (shape[i] == 1)
        continue;
      size_t k = 0; // the dimension of the buffer that this one is part of
      while (k + 1 < to.size() && !(to[k + 1] <= from[i + 1] && from[i] <= to[k]))
        ++k;
      if (k + 1 == to.size())
        return user->emitOpError("expects a view that refines the buffer's shape");
      result[k] = result[k] + indices[i] * (from[i + 1] / to[k + 1]);
    }
    return result;
  }

  LogicalResult rewrite(const Access &access, Value buffer) {
    Operation *user = access.operand->getOwner();
    if (auto subview = dyn_cast<memref::SubViewOp>(user)) {
      for (OpOperand &use : llvm::make_early_inc_range(subview->getUses()))
        if (isa<routine::AttentionForwardOp, routine::AttentionBackwardOp>(use.getOwner())) {
          FailureOr<Value> columns = columnsOf(subview, access.shape, buffer);
          if (failed(columns))
            return failure();
          use.set(*columns);
        } else if (failed(rewriteAccess(use.getOwner(), buffer, access, subview))) {
          return failure();
        }
      subview.erase();
      return success();
    }
    return rewriteAccess(user, buffer, access, {});
  }

  // What a routine gets of `subview` of a dense view of `shape`: some columns of the buffer as a
  // matrix.
  FailureOr<Value> columnsOf(memref::SubViewOp subview, ArrayRef<int64_t> shape, Value buffer) {
    OpBuilder builder(subview);
    ArrayRef<int64_t> sizes = subview.getStaticSizes(), offsets = subview.getStaticOffsets();
    int64_t rows = 1, inner = 1;
    size_t d = 0; // the dimension that is cut
    while (d + 1 < shape.size() && sizes[d] == shape[d])
      rows *= shape[d++];
    for (size_t i = d + 1; i < shape.size(); ++i) {
      inner *= shape[i];
      if (sizes[i] != shape[i])
        return subview.emitOpError("expects one dimension that is cut, for a routine");
    }
    if (ShapedType::isDynamic(offsets[d]) || ShapedType::isDynamic(sizes[d]) ||
        !llvm::all_of(subview.getStaticStrides(), [](int64_t stride) { return stride == 1; }))
      return subview.emitOpError("expects constant columns, for a routine");
    const int64_t stride = shape[d] * inner, offset = offsets[d] * inner;
    SmallVector<int64_t> matrix{rows, sizes[d] * inner}, strides{stride, 1};
    auto type = MemRefType::get(matrix, typeOf(buffer).getElementType(),
                                StridedLayoutAttr::get(&getContext(), offset, strides));
    return memref::ReinterpretCastOp::create(builder, subview.getLoc(), type, buffer, offset,
                                             matrix, strides)
        .getResult();
  }

  // Makes the load or store `user` of the view of `access`, or of a subview of
  // that, one of `buffer`.
  LogicalResult rewriteAccess(Operation *user, Value buffer, const Access &access,
                              memref::SubViewOp subview) {
    MLIRContext *context = &getContext();
    SmallVector<AffineExpr> indices;
    SmallVector<Value> operands;
    unsigned dims = 0, symbols = 0;
    if (auto load = dyn_cast<affine::AffineReadOpInterface>(user)) {
      AffineMap map = load.getAffineMap();
      indices.assign(map.getResults().begin(), map.getResults().end());
      operands.assign(load.getMapOperands().begin(), load.getMapOperands().end());
      dims = map.getNumDims(), symbols = map.getNumSymbols();
    } else if (auto store = dyn_cast<affine::AffineWriteOpInterface>(user)) {
      AffineMap map = store.getAffineMap();
      indices.assign(map.getResults().begin(), map.getResults().end());
      operands.assign(store.getMapOperands().begin(), store.getMapOperands().end());
      dims = map.getNumDims(), symbols = map.getNumSymbols();
    } else if (isa<memref::LoadOp, memref::StoreOp>(user)) {
      auto load = dyn_cast<memref::LoadOp>(user);
      for (Value index : load ? load.getIndices() : cast<memref::StoreOp>(user).getIndices()) {
        indices.push_back(getAffineDimExpr(dims++, context));
        operands.push_back(index);
      }
    } else {
      return user->emitOpError("expects a load or store of a subview");
    }

    bool affineAccess = isa<affine::AffineReadOpInterface, affine::AffineWriteOpInterface>(user);
    if (subview) {
      // Index of the source: offset + stride * index, for dropped dimensions the offset.
      SmallVector<AffineExpr> source;
      size_t next = 0;
      for (auto [i, offset, stride] :
           llvm::enumerate(subview.getMixedOffsets(), subview.getMixedStrides())) {
        std::optional<int64_t> step = getConstantIntValue(stride);
        if (!step)
          return subview.emitOpError("expects constant strides");
        AffineExpr expr = getAffineConstantExpr(0, context);
        if (std::optional<int64_t> constant = getConstantIntValue(offset)) {
          expr = getAffineConstantExpr(*constant, context);
        } else {
          affineAccess = false;
          expr = getAffineSymbolExpr(symbols++, context);
          operands.push_back(cast<Value>(offset));
        }
        if (!access.droppedDims[i])
          expr = expr + indices[next++] * *step;
        source.push_back(expr);
      }
      indices = source;
    }

    auto inBuffer = indicesIn(user, buffer, access.shape, indices);
    if (failed(inBuffer))
      return failure();
    AffineMap map = AffineMap::get(dims, symbols, *inBuffer, context);
    OpBuilder builder(user);
    Location loc = user->getLoc();
    Value stored = user->getNumResults() ? Value() : user->getOperand(0), loaded;
    if (affineAccess) {
      if (stored)
        affine::AffineStoreOp::create(builder, loc, stored, buffer, map, operands);
      else
        loaded = affine::AffineLoadOp::create(builder, loc, buffer, map, operands);
    } else {
      SmallVector<Value> values;
      for (AffineExpr expr : map.getResults()) {
        if (auto dim = dyn_cast<AffineDimExpr>(expr)) {
          values.push_back(operands[dim.getPosition()]);
          continue;
        }
        values.push_back(affine::makeComposedAffineApply(
            builder, loc, AffineMap::get(dims, symbols, expr), getAsOpFoldResult(operands)));
      }
      if (stored)
        memref::StoreOp::create(builder, loc, stored, buffer, values);
      else
        loaded = memref::LoadOp::create(builder, loc, buffer, values);
    }
    if (loaded)
      user->getResult(0).replaceAllUsesWith(loaded);
    user->erase();
    return success();
  }

  SmallVector<OpOperand *> routineUses;
};
} // namespace
