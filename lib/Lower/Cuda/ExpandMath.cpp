//===- ExpandMath.cpp - Math of kernels without a library -----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A GPU has no math library of its own, and NVIDIA's bitcode one comes with the CUDA toolkit
// only. So functions become what the chip has: an instruction, or a polynomial after the
// argument was brought near zero.
//
//   function  f32                                   f64
//   exp       2^n * ex2.approx(r), 2^-21            2^n * Taylor(r), |r| <= ln(2) / 2, 2^-51
//   log       upstream's polynomial, 2 ulp          e ln 2 + 2 atanh((m - 1) / (m + 1)), 2^-51
//   tanh      upstream's rational function, 2^-20   expm1(-2 |x|), 2^-50
//   erf       upstream's polynomials, 2^-20         a positive series; erfc's fraction, 2^-50
//   sin, cos  as f64                                Taylor(x - n pi / 2), 2^-51 for |x| < 2^20
//   rsqrt     rsqrt.approx, 2^-22                   1 / sqrt.rn
//   sqrt      sqrt.rn, exact                        sqrt.rn, exact
//
// The figures are the largest relative errors (absolute ones of sin, cos, tanh of f32).
// Narrower types are computed in f32 and rounded once.
// Sources: Abramowitz and Stegun 7.1.6 (the series of erf), 7.1.14 (the fraction of erfc);
// W. J. Cody and W. Waite, Software Manual for the Elementary Functions, 1980 (arguments).
//
//===----------------------------------------------------------------------===//
#include "llamac/Lower/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

#include <limits>

namespace mlir::llamac {
#define GEN_PASS_DEF_EXPANDMATHPASS
#include "llamac/Lower/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llamac;

namespace {
// Formulas on scalars or vectors of one floating-point type, as IR. No fast-math flags: the
// order of the operations is what makes them exact.
class Formula {
public:
  Formula(OpBuilder &builder, Location loc, Type type)
      : builder(builder), loc(loc), type(type), integers(withElement(builder.getI64Type())) {}

  Value constant(double value) {
    FloatAttr number = builder.getFloatAttr(getElementTypeOrSelf(type), value);
    return arith::ConstantOp::create(builder, loc, ofAll(type, number));
  }
  Value integer(int64_t value) {
    return arith::ConstantOp::create(builder, loc,
                                     ofAll(integers, builder.getI64IntegerAttr(value)));
  }
  Value add(Value a, Value b) { return arith::AddFOp::create(builder, loc, a, b); }
  Value sub(Value a, Value b) { return arith::SubFOp::create(builder, loc, a, b); }
  Value mul(Value a, Value b) { return arith::MulFOp::create(builder, loc, a, b); }
  Value div(Value a, Value b) { return arith::DivFOp::create(builder, loc, a, b); }
  Value fma(Value a, Value b, Value c) { return math::FmaOp::create(builder, loc, a, b, c); }
  Value abs(Value a) { return math::AbsFOp::create(builder, loc, a); }
  Value round(Value a) { return math::RoundEvenOp::create(builder, loc, a); }
  Value less(Value a, Value b) {
    return arith::CmpFOp::create(builder, loc, arith::CmpFPredicate::OLT, a, b);
  }
  Value isNan(Value a) {
    return arith::CmpFOp::create(builder, loc, arith::CmpFPredicate::UNO, a, a);
  }
  Value equal(Value a, Value b) {
    return arith::CmpFOp::create(builder, loc, arith::CmpFPredicate::OEQ, a, b);
  }
  Value select(Value condition, Value a, Value b) {
    return arith::SelectOp::create(builder, loc, condition, a, b);
  }
  Value withSign(Value a, Value sign) { return math::CopySignOp::create(builder, loc, a, sign); }

  // Of f64: the bits, and a number of bits.
  Value bits(Value a) { return arith::BitcastOp::create(builder, loc, integers, a); }
  Value number(Value bits) { return arith::BitcastOp::create(builder, loc, type, bits); }
  Value toInteger(Value a) { return arith::FPToSIOp::create(builder, loc, integers, a); }
  Value toNumber(Value a) { return arith::SIToFPOp::create(builder, loc, type, a); }
  Value addInteger(Value a, Value b) { return arith::AddIOp::create(builder, loc, a, b); }
  Value subInteger(Value a, Value b) { return arith::SubIOp::create(builder, loc, a, b); }
  Value andInteger(Value a, Value b) { return arith::AndIOp::create(builder, loc, a, b); }
  Value orInteger(Value a, Value b) { return arith::OrIOp::create(builder, loc, a, b); }
  Value left(Value a, int64_t by) { return arith::ShLIOp::create(builder, loc, a, integer(by)); }
  Value right(Value a, int64_t by) { return arith::ShRSIOp::create(builder, loc, a, integer(by)); }
  Value isZero(Value a) {
    return arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::eq, a, integer(0));
  }

  // c[0] + c[1] x + c[2] x^2 + ...
  Value polynomial(Value x, ArrayRef<double> coefficients) {
    Value sum = constant(coefficients.back());
    for (double coefficient : llvm::reverse(coefficients.drop_back()))
      sum = fma(sum, x, constant(coefficient));
    return sum;
  }

  // x, between the bounds; NaN stays.
  Value clamp(Value x, double low, double high) {
    x = select(less(x, constant(low)), constant(low), x);
    return select(less(constant(high), x), constant(high), x);
  }

  OpBuilder &builder;
  Location loc;
  Type type;

private:
  Type withElement(Type element) {
    if (auto vector = dyn_cast<VectorType>(type))
      return VectorType::get(vector.getShape(), element);
    return element;
  }
  static TypedAttr ofAll(Type type, TypedAttr value) {
    if (auto shaped = dyn_cast<ShapedType>(type))
      return DenseElementsAttr::get(shaped, Attribute(value));
    return value;
  }

  Type integers;
};
} // namespace

// 1/0!, 1/1!, ..., 1/n!.
static SmallVector<double> inverseFactorials(int n) {
  SmallVector<double> result = {1};
  for (int i = 1; i <= n; ++i)
    result.push_back(result.back() / i);
  return result;
}

// Every second one, beginning with `first`, the signs changing.
static SmallVector<double> alternating(ArrayRef<double> all, size_t first) {
  SmallVector<double> result;
  double sign = 1;
  for (size_t i = first; i < all.size(); i += 2, sign = -sign)
    result.push_back(sign * all[i]);
  return result;
}

static constexpr double kLog2E = 1.4426950408889634074;
static constexpr double kLn2High = 6.93147180369123816490e-01; // its last 32 bits are 0
static constexpr double kLn2Low = 1.90821492927058770002e-10;

//===----------------------------------------------------------------------===//
// f64
//===----------------------------------------------------------------------===//

// exp(x) = 2^n exp(r), n = round(x / ln 2). 2^n is a product of two, so that neither leaves
// the range where the result does not.
static Value expF64(Formula &f, Value x) {
  Value inside = f.clamp(x, -800, 800);
  Value n = f.round(f.mul(inside, f.constant(kLog2E)));
  Value r = f.fma(n, f.constant(-kLn2High), inside);
  r = f.fma(n, f.constant(-kLn2Low), r);
  Value y = f.polynomial(r, inverseFactorials(14));
  Value exponent = f.toInteger(n), half = f.right(exponent, 1);
  auto power = [&](Value i) { return f.number(f.left(f.addInteger(i, f.integer(1023)), 52)); };
  y = f.mul(f.mul(y, power(half)), power(f.subInteger(exponent, half)));
  return f.select(f.isNan(x), x, y);
}

// log(2^e m) = e ln 2 + 2 atanh(s), s = (m - 1) / (m + 1), m from sqrt(1/2) to sqrt(2).
static Value logF64(Formula &f, Value x) {
  Value smallest = f.constant(std::numeric_limits<double>::min());
  Value isSmall = f.less(x, smallest);
  Value scaled = f.select(isSmall, f.mul(x, f.constant(0x1p54)), x);
  Value word = f.bits(scaled);
  // The exponent, of m in [1/2, 1); m below sqrt(1/2) is doubled.
  Value fraction =
      f.orInteger(f.andInteger(word, f.integer(0x000fffffffffffff)), f.integer(0x3fe0000000000000));
  Value m = f.number(fraction);
  Value e = f.toNumber(f.subInteger(f.right(word, 52), f.integer(1022)));
  Value isLow = f.less(m, f.constant(0.70710678118654752440));
  m = f.select(isLow, f.add(m, m), m);
  e = f.select(isLow, f.sub(e, f.constant(1)), e);
  e = f.select(isSmall, f.sub(e, f.constant(54)), e);
  Value s = f.div(f.sub(m, f.constant(1)), f.add(m, f.constant(1)));
  Value squared = f.mul(s, s);
  SmallVector<double> odd;
  for (int i = 0; i <= 11; ++i)
    odd.push_back(2.0 / (2 * i + 3));
  Value tail = f.mul(f.mul(s, squared), f.polynomial(squared, odd));
  Value y = f.add(f.fma(e, f.constant(kLn2Low), tail), f.add(s, s));
  y = f.fma(e, f.constant(kLn2High), y);
  constexpr double infinity = std::numeric_limits<double>::infinity();
  y = f.select(f.equal(x, f.constant(infinity)), x, y);
  y = f.select(f.equal(x, f.constant(0)), f.constant(-infinity), y);
  y = f.select(f.less(x, f.constant(0)), f.constant(std::numeric_limits<double>::quiet_NaN()), y);
  return f.select(f.isNan(x), x, y);
}

// With u = exp(-2|x|) - 1, tanh |x| = -u / (u + 2); near 0 u is a series without its 1.
static Value tanhF64(Formula &f, Value x) {
  Value y = f.mul(f.abs(x), f.constant(-2));
  Value far = f.sub(expF64(f, y), f.constant(1));
  SmallVector<double> terms = inverseFactorials(21);
  Value near = f.mul(y, f.polynomial(f.clamp(y, -1, 0), ArrayRef(terms).drop_front()));
  Value u = f.select(f.less(y, f.constant(-1)), far, near);
  Value result = f.div(f.sub(f.constant(0), u), f.add(u, f.constant(2)));
  return f.withSign(result, x);
}

// erf x = 2/sqrt(pi) x exp(-x^2) sum_n (2 x^2)^n / (2n + 1)!! up to 2.5; beyond, 1 - erfc x,
// erfc x = exp(-x^2)/sqrt(pi) / (x + (1/2)/(x + (2/2)/(x + (3/2)/(x + ...)))).
static Value erfF64(Formula &f, Value x) {
  Value a = f.abs(x);
  Value bell = expF64(f, f.mul(f.sub(f.constant(0), a), a));
  SmallVector<double> terms = {1};
  for (int n = 1; n <= 36; ++n)
    terms.push_back(terms.back() / (2 * n + 1));
  Value inside = f.clamp(a, 0, 2.5);
  Value series = f.polynomial(f.mul(f.add(inside, inside), inside), terms);
  Value near = f.mul(f.mul(f.constant(1.12837916709551257390), inside), f.mul(bell, series));
  Value outside = f.clamp(a, 2, 30);
  Value fraction = outside;
  for (int n = 24; n > 0; --n)
    fraction = f.add(outside, f.div(f.constant(n * 0.5), fraction));
  Value far =
      f.sub(f.constant(1), f.div(f.mul(f.constant(0.56418958354775628695), bell), fraction));
  Value result = f.select(f.less(f.constant(2.5), a), far, near);
  return f.select(f.isNan(x), x, f.withSign(result, x));
}

// x - n pi/2 with pi/2 in three parts, n = round(2 x / pi), and n's lowest two bits say which
// of sin, cos, -sin, -cos it is. `shift` 1 is cos.
static Value sineF64(Formula &f, Value x, int64_t shift) {
  Value n = f.round(f.mul(x, f.constant(0.63661977236758134308)));
  Value r = f.fma(n, f.constant(-1.57079632679489655800e+00), x);
  r = f.fma(n, f.constant(-6.12323399573676603587e-17), r);
  r = f.fma(n, f.constant(1.49738490485916983e-33), r);
  Value squared = f.mul(r, r);
  SmallVector<double> terms = inverseFactorials(20);
  Value sine = f.mul(r, f.polynomial(squared, alternating(terms, 1)));
  Value cosine = f.polynomial(squared, alternating(terms, 0));
  Value quarter = f.addInteger(f.toInteger(n), f.integer(shift));
  Value isSine = f.isZero(f.andInteger(quarter, f.integer(1)));
  Value isPositive = f.isZero(f.andInteger(quarter, f.integer(2)));
  Value y = f.select(isSine, sine, cosine);
  return f.select(isPositive, y, f.sub(f.constant(0), y));
}

//===----------------------------------------------------------------------===//
// f32
//===----------------------------------------------------------------------===//

// An intrinsic on f32, element by element.
static Value callF32(Formula &f, StringRef intrinsic, Value x) {
  auto call = [&](Value element) {
    return LLVM::CallIntrinsicOp::create(f.builder, f.loc, element.getType(),
                                         f.builder.getStringAttr(intrinsic), ValueRange{element})
        .getResults();
  };
  auto vector = dyn_cast<VectorType>(f.type);
  if (!vector)
    return call(x);
  Value flat = x, result = f.constant(0);
  auto flatType = VectorType::get({vector.getNumElements()}, vector.getElementType());
  if (vector != flatType) {
    flat = vector::ShapeCastOp::create(f.builder, f.loc, flatType, x);
    result = vector::ShapeCastOp::create(f.builder, f.loc, flatType, result);
  }
  for (int64_t i = 0; i < vector.getNumElements(); ++i) {
    Value element = vector::ExtractOp::create(f.builder, f.loc, flat, i);
    result = vector::InsertOp::create(f.builder, f.loc, call(element), result, i);
  }
  if (vector != flatType)
    result = vector::ShapeCastOp::create(f.builder, f.loc, vector, result);
  return result;
}

// exp(x) = 2^n 2^r with n = round(x / ln 2), r from the part of x / ln 2 that is left, in two
// parts: the product in one would be wrong by |x| 2^-24. n is split so that 2^n is in range.
static Value expF32(Formula &f, Value x) {
  constexpr double high = 0x1.715476p+0, low = 0x1.4ae0c0p-26;
  Value inside = f.clamp(x, -120, 120);
  Value n = f.round(f.mul(inside, f.constant(high)));
  Value r = f.fma(inside, f.constant(high), f.sub(f.constant(0), n));
  r = f.fma(inside, f.constant(low), r);
  auto exp2 = [&](Value exponent) { return callF32(f, "llvm.nvvm.ex2.approx", exponent); };
  Value y = exp2(r), less = f.clamp(n, -126, 126);
  y = f.mul(f.mul(y, exp2(less)), exp2(f.sub(n, less)));
  return f.select(f.isNan(x), x, y);
}

static Value rsqrtF32(Formula &f, Value x) { return callF32(f, "llvm.nvvm.rsqrt.approx.f", x); }

//===----------------------------------------------------------------------===//
// Patterns
//===----------------------------------------------------------------------===//

namespace {
template <typename Op> struct Expand : OpRewritePattern<Op> {
  using Write = Value (*)(Formula &, Value);
  Expand(MLIRContext *context, unsigned width, Write write)
      : OpRewritePattern<Op>(context, /*benefit=*/10), width(width), write(write) {}

  LogicalResult matchAndRewrite(Op op, PatternRewriter &rewriter) const override {
    if (getElementTypeOrSelf(op.getType()).getIntOrFloatBitWidth() != width)
      return failure();
    Formula formula(rewriter, op.getLoc(), op.getType());
    rewriter.replaceOp(op, write(formula, op.getOperand()));
    return success();
  }

  unsigned width;
  Write write;
};

// Computes an op of a type narrower than `least` bits in that type.
template <typename Op> struct Widen : OpRewritePattern<Op> {
  Widen(MLIRContext *context, unsigned least)
      : OpRewritePattern<Op>(context, /*benefit=*/20), least(least) {}

  LogicalResult matchAndRewrite(Op op, PatternRewriter &rewriter) const override {
    if (getElementTypeOrSelf(op.getType()).getIntOrFloatBitWidth() >= least)
      return failure();
    Type wide = least == 32 ? Type(rewriter.getF32Type()) : Type(rewriter.getF64Type());
    if (auto vector = dyn_cast<VectorType>(op.getType()))
      wide = VectorType::get(vector.getShape(), wide);
    Value x = arith::ExtFOp::create(rewriter, op.getLoc(), wide, op.getOperand());
    Value y = Op::create(rewriter, op.getLoc(), x);
    rewriter.replaceOpWithNewOp<arith::TruncFOp>(op, op.getType(), y);
    return success();
  }

  unsigned least;
};

struct ExpandMathPass : llamac::impl::ExpandMathPassBase<ExpandMathPass> {
  void runOnOperation() override {
    MLIRContext *context = &getContext();
    RewritePatternSet patterns(context);
    patterns.add<Widen<math::ExpOp>, Widen<math::LogOp>, Widen<math::TanhOp>, Widen<math::ErfOp>,
                 Widen<math::RsqrtOp>, Widen<math::SqrtOp>>(context, 32u);
    patterns.add<Widen<math::SinOp>, Widen<math::CosOp>>(context, 64u);
    patterns.add<Expand<math::ExpOp>>(context, 64u, expF64);
    patterns.add<Expand<math::LogOp>>(context, 64u, logF64);
    patterns.add<Expand<math::TanhOp>>(context, 64u, tanhF64);
    patterns.add<Expand<math::ErfOp>>(context, 64u, erfF64);
    patterns.add<Expand<math::SinOp>>(context, 64u,
                                      [](Formula &f, Value x) { return sineF64(f, x, 0); });
    patterns.add<Expand<math::CosOp>>(context, 64u,
                                      [](Formula &f, Value x) { return sineF64(f, x, 1); });
    patterns.add<Expand<math::RsqrtOp>>(context, 64u, [](Formula &f, Value x) {
      return f.div(f.constant(1), Value(math::SqrtOp::create(f.builder, f.loc, x)));
    });
    patterns.add<Expand<math::ExpOp>>(context, 32u, expF32);
    patterns.add<Expand<math::RsqrtOp>>(context, 32u, rsqrtF32);
    populateMathPolynomialApproximationPatterns(patterns, [](StringRef name) {
      return llvm::is_contained({"math.log", "math.tanh", "math.erf"}, name);
    });
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      return signalPassFailure();
    // What is left must be an instruction.
    WalkResult result = getOperation()->walk([](Operation *op) {
      if (!isa<math::MathDialect>(op->getDialect()) ||
          isa<math::FmaOp, math::AbsFOp, math::AbsIOp, math::SqrtOp, math::CopySignOp,
              math::RoundEvenOp, math::FloorOp, math::CeilOp, math::TruncOp>(op))
        return WalkResult::advance();
      op->emitOpError("has no form for a GPU: expected one of the functions of "
                      "'llama-expand-math'");
      return WalkResult::interrupt();
    });
    if (result.wasInterrupted())
      signalPassFailure();
  }
};
} // namespace
