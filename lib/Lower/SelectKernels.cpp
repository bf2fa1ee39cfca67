//===- SelectKernels.cpp - Calls of runtime routines ----------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One pattern per op. The operands of a routine are dense, so leading dimensions
// need no view: `m` says how many rows there are.
//
//===----------------------------------------------------------------------===//
#include "llamac/Lower/Passes.h"

#include "dialects/Llama/IR/Llama.h"
#include "dialects/Routine/IR/Routine.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

namespace mlir::llamac {
#define GEN_PASS_DEF_SELECTKERNELSPASS
#include "llamac/Lower/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llamac;
using namespace mlir::llama;

static RankedTensorType tensorOf(Value value) { return cast<RankedTensorType>(value.getType()); }

// Rows and columns of a tensor seen as a matrix: the last dimension is the column.
static int64_t columns(Value value) { return tensorOf(value).getShape().back(); }
static int64_t rows(Value value) { return tensorOf(value).getNumElements() / columns(value); }

static Value castTo(PatternRewriter &rewriter, Location loc, Value value, Type element) {
  if (!value || getElementTypeOrSelf(value) == element)
    return value;
  return CastOp::create(rewriter, loc, value, element);
}

static Value emptyLike(PatternRewriter &rewriter, Location loc, RankedTensorType type) {
  return tensor::EmptyOp::create(rewriter, loc, type.getShape(), type.getElementType());
}

namespace {
// A product as routine.gemm says it.
struct Product {
  Value a, b, bias;
  int64_t m, n, k;
  bool transposeA = false, transposeB = false;
};
} // namespace

// The product into `into`, or into a new tensor of `type` (cast to it if the
// runtime has no such result type).
static Value emitProduct(PatternRewriter &rewriter, Location loc, const Product &p,
                         RankedTensorType type, Value into = {}) {
  Type element = getElementTypeOrSelf(p.a);
  RankedTensorType made = type;
  if (type.getElementType() != element && !(element.isBF16() && type.getElementType().isF32()))
    made = type.clone(element);
  Value out = into ? into : emptyLike(rewriter, loc, made);
  auto op =
      routine::GemmOp::create(rewriter, loc, TypeRange(made), p.a, p.b, p.bias, out, Value(), p.m,
                              p.n, p.k, p.transposeA, p.transposeB, /*accumulate=*/bool(into));
  return castTo(rewriter, loc, op.getResult(0), type.getElementType());
}

namespace {
template <typename Op> struct SelectPattern : OpRewritePattern<Op> {
  SelectPattern(MLIRContext *context, const Target &target, PatternBenefit benefit = 1)
      : OpRewritePattern<Op>(context, benefit), target(target) {}
  const Target &target;
};

// Each row of `value` plus `row`, in the type of `value`.
Value addRow(PatternRewriter &rewriter, Location loc, Value value, Value row) {
  RankedTensorType type = tensorOf(value);
  AffineMap same = rewriter.getMultiDimIdentityMap(type.getRank());
  AffineMap column = same.getMinorSubMap(1);
  SmallVector<utils::IteratorType> loops(type.getRank(), utils::IteratorType::parallel);
  auto sum = linalg::GenericOp::create(
      rewriter, loc, type, ValueRange{value, castTo(rewriter, loc, row, type.getElementType())},
      emptyLike(rewriter, loc, type), {same, column, same}, loops,
      [](OpBuilder &b, Location loc, ValueRange arguments) {
        Value added = arith::AddFOp::create(b, loc, arguments[0], arguments[1]);
        linalg::YieldOp::create(b, loc, added);
      });
  return sum.getResult(0);
}

struct LinearPattern : SelectPattern<LinearOp> {
  using SelectPattern::SelectPattern;
  LogicalResult matchAndRewrite(LinearOp op, PatternRewriter &rewriter) const override {
    if (!target.hasRoutine(op))
      return failure();
    Value x = op.getInput(), w = op.getWeight(), bias = op.getBias();
    // No library of GPUs adds one of bf16 to f32 (logits); the loop is fused with those that
    // read the result.
    bool apart =
        bias && getElementTypeOrSelf(bias).isBF16() && op.getType().getElementType().isF32();
    Product p{x, w, apart ? Value() : bias, rows(x), rows(w), columns(x), false, true};
    Value result = emitProduct(rewriter, op.getLoc(), p, op.getType());
    rewriter.replaceOp(op, apart ? addRow(rewriter, op.getLoc(), result, bias) : result);
    return success();
  }
};

struct LinearDxPattern : SelectPattern<LinearDxOp> {
  using SelectPattern::SelectPattern;
  LogicalResult matchAndRewrite(LinearDxOp op, PatternRewriter &rewriter) const override {
    if (!target.hasRoutine(op))
      return failure();
    Value dy = op.getCotangent(), w = op.getWeight();
    Product p{dy, w, {}, rows(dy), columns(w), columns(dy)};
    rewriter.replaceOp(op, emitProduct(rewriter, op.getLoc(), p, op.getType()));
    return success();
  }
};

Product weightProduct(LinearDwOp op) {
  Value dy = op.getCotangent(), x = op.getInput();
  return {dy, x, {}, columns(dy), columns(x), rows(dy), true, false};
}

struct LinearDwPattern : SelectPattern<LinearDwOp> {
  using SelectPattern::SelectPattern;
  LogicalResult matchAndRewrite(LinearDwOp op, PatternRewriter &rewriter) const override {
    if (!target.hasRoutine(op))
      return failure();
    rewriter.replaceOp(op, emitProduct(rewriter, op.getLoc(), weightProduct(op), op.getType()));
    return success();
  }
};

// `sum + linear_dw(..)` where the product has no other use and the type of the sum.
struct AccumulatePattern : SelectPattern<AddOp> {
  using SelectPattern::SelectPattern;
  LogicalResult matchAndRewrite(AddOp op, PatternRewriter &rewriter) const override {
    auto product = op.getRhs().getDefiningOp<LinearDwOp>();
    if (!product || !product->hasOneUse() || !target.hasRoutine(product) ||
        op.getLhs().getType() != op.getType() || product.getType() != op.getType())
      return failure();
    Type from = getElementTypeOrSelf(product.getCotangent()), to = op.getType().getElementType();
    if (from != to && !(from.isBF16() && to.isF32()))
      return failure();
    rewriter.replaceOp(
        op, emitProduct(rewriter, op.getLoc(), weightProduct(product), op.getType(), op.getLhs()));
    rewriter.eraseOp(product);
    return success();
  }
};

routine::Mask maskOf(Mask mask) {
  switch (mask) {
  case Mask::Causal:
    return routine::Mask::Causal;
  case Mask::Encoder:
    return routine::Mask::Encoder;
  case Mask::Images:
    return routine::Mask::Images;
  }
  llvm_unreachable("unknown mask");
}

// Makes the attention routine `Routine` with the sizes and the masks of `op`: `inputs`,
// the masks, then new tensors of the types `outputs`.
template <typename Routine, typename Op>
ResultRange emitAttention(Op op, PatternRewriter &rewriter, ArrayRef<Value> inputs,
                          ArrayRef<RankedTensorType> outputs) {
  ArrayRef<int64_t> q = tensorOf(op.getQuery()).getShape(), k = tensorOf(op.getKey()).getShape();
  int64_t images = op.getMask() == Mask::Images ? columns(op.getMasks()[2]) : 0;
  SmallVector<Value> operands(inputs);
  llvm::append_range(operands, op.getMasks());
  for (RankedTensorType type : outputs)
    operands.push_back(emptyLike(rewriter, op.getLoc(), type));
  auto size = [&](int64_t value) { return rewriter.getI64IntegerAttr(value); };
  typename Routine::Properties sizes;
  sizes.mask = routine::MaskAttr::get(rewriter.getContext(), maskOf(op.getMask()));
  sizes.scale = op.getScaleAttr();
  sizes.batch = size(q[0]);
  sizes.queries = size(q[1]);
  sizes.keys = size(k[1]);
  sizes.heads = size(q[2]);
  sizes.kv_heads = size(k[2]);
  sizes.head_size = size(q[3]);
  sizes.images = size(images);
  sizes.tile_count = op.getTileCountAttr();
  sizes.tile_stride = op.getTileStrideAttr();
  sizes.tile_tokens = op.getTileTokensAttr();
  SmallVector<Type> types(outputs.begin(), outputs.end());
  return Routine::create(rewriter, op.getLoc(), types, operands, sizes)->getResults();
}

struct AttentionPattern : SelectPattern<AttentionOp> {
  using SelectPattern::SelectPattern;
  LogicalResult matchAndRewrite(AttentionOp op, PatternRewriter &rewriter) const override {
    if (!target.hasRoutine(op))
      return failure();
    rewriter.replaceOp(op, emitAttention<routine::AttentionForwardOp>(
                               op, rewriter, {op.getQuery(), op.getKey(), op.getValue()},
                               {tensorOf(op.getResult()), tensorOf(op.getLse())}));
    return success();
  }
};

struct AttentionGradPattern : SelectPattern<AttentionGradOp> {
  using SelectPattern::SelectPattern;
  LogicalResult matchAndRewrite(AttentionGradOp op, PatternRewriter &rewriter) const override {
    if (!target.hasRoutine(op))
      return failure();
    Type element = getElementTypeOrSelf(op.getQuery());
    SmallVector<Value> inputs{op.getCotangent(), op.getQuery(), op.getKey(), op.getValue(),
                              op.getOutput()};
    for (Value &input : inputs)
      input = castTo(rewriter, op.getLoc(), input, element);
    inputs.push_back(op.getLse());
    SmallVector<RankedTensorType> made;
    for (Type type : op.getResultTypes())
      made.push_back(cast<RankedTensorType>(type).clone(element));
    SmallVector<Value> results(
        emitAttention<routine::AttentionBackwardOp>(op, rewriter, inputs, made));
    for (auto [result, type] : llvm::zip_equal(results, op.getResultTypes()))
      result = castTo(rewriter, op.getLoc(), result, getElementTypeOrSelf(type));
    rewriter.replaceOp(op, results);
    return success();
  }
};

struct SelectKernelsPass : llamac::impl::SelectKernelsPassBase<SelectKernelsPass> {
  using SelectKernelsPassBase::SelectKernelsPassBase;
  explicit SelectKernelsPass(std::shared_ptr<const Target> given) : target(std::move(given)) {}

  void getDependentDialects(DialectRegistry &registry) const override {
    SelectKernelsPassBase::getDependentDialects(registry);
    registry.insert<arith::ArithDialect, linalg::LinalgDialect>();
  }

  LogicalResult initialize(MLIRContext *context) override {
    return makeTarget(target, {.name = targetOption, .lower = lowerOption}, context);
  }

  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    patterns.add<AccumulatePattern>(&getContext(), *target, /*benefit=*/2);
    patterns.add<LinearPattern, LinearDxPattern, LinearDwPattern, AttentionPattern,
                 AttentionGradPattern>(&getContext(), *target);
    GreedyRewriteConfig config;
    config.setUseTopDownTraversal(false); // see the addition before the product
    config.enableFolding(false);
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns), config)))
      signalPassFailure();
  }

private:
  std::shared_ptr<const Target> target; // null until one is made from the options
};
} // namespace

std::unique_ptr<Pass> llamac::createSelectKernelsPass(std::shared_ptr<const Target> target) {
  return std::make_unique<SelectKernelsPass>(std::move(target));
}
