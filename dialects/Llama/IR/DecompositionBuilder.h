//===- DecompositionBuilder.h - Formulas as linalg.generic -----*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What the decompositions are written with: `Scalar`, a value in the body of a
// `linalg.generic` with the operators of its type, and `DecompositionBuilder`,
// which makes the generics. All shapes are static. Float operations carry
// fastmath<reassoc,contract>, so that sums vectorize; infinities keep their
// meaning.
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LLAMA_DECOMPOSITIONBUILDER_H
#define LLAMAC_LLAMA_DECOMPOSITIONBUILDER_H

#include "dialects/Llama/IR/Llama.h"
#include "mlir/Dialect/Arith/IR/Arith.h"

namespace mlir::llama {

inline Type elementOf(Value value) {
  return llvm::cast<RankedTensorType>(value.getType()).getElementType();
}
inline ArrayRef<int64_t> shapeOf(Value value) {
  return llvm::cast<RankedTensorType>(value.getType()).getShape();
}

/// A float, i64, index or i1 in the body of a generic. Operators want operands
/// of one type; `/` and `%` of integers want them not negative; comparisons of
/// integers are signed, those of floats ordered.
class Scalar {
public:
  Scalar(OpBuilder &b, Location loc, Value value) : b(&b), loc(loc), value(value) {}

  Value getValue() const { return value; }
  Type type() const { return value.getType(); }

  /// `number` in the type of this scalar.
  Scalar constant(double number) const;
  /// Converted to `type`: between floats, between i64 and index, from these to floats.
  Scalar to(Type type) const;
  /// Rounded to the float type `element`, in the type of this scalar.
  Scalar rounded(Type element) const { return to(element).to(type()); }

  Scalar exp() const;
  Scalar log() const;
  Scalar erf() const;
  Scalar tanh() const;
  Scalar cos() const;
  Scalar sin() const;
  Scalar sqrt() const;
  /// 1 / sqrt(this * factor + epsilon)
  Scalar rsqrt(double factor, double epsilon) const;

// Each operator for two scalars, and for a scalar and a number in its type.
#define LLAMAC_OPERATOR(SYMBOL, FUNCTION)                                                          \
  friend Scalar operator SYMBOL(Scalar x, Scalar y) { return x.FUNCTION(y); }                      \
  friend Scalar operator SYMBOL(Scalar x, double y) { return x.FUNCTION(x.constant(y)); }          \
  friend Scalar operator SYMBOL(double x, Scalar y) { return y.constant(x).FUNCTION(y); }
  LLAMAC_OPERATOR(+, add)
  LLAMAC_OPERATOR(-, subtract)
  LLAMAC_OPERATOR(*, multiply)
  LLAMAC_OPERATOR(/, divide)
  LLAMAC_OPERATOR(%, remainder)
  LLAMAC_OPERATOR(<, less)
  LLAMAC_OPERATOR(<=, lessOrEqual)
  LLAMAC_OPERATOR(==, equal)
#undef LLAMAC_OPERATOR
  friend Scalar operator>=(Scalar x, Scalar y) { return y <= x; }
  friend Scalar operator>=(Scalar x, double y) { return x.constant(y) <= x; }
  friend Scalar operator&(Scalar x, Scalar y);
  friend Scalar operator|(Scalar x, Scalar y);
  friend Scalar select(Scalar condition, Scalar ifTrue, Scalar ifFalse);
  /// The larger one; NaN if one is NaN.
  friend Scalar maximum(Scalar x, Scalar y);

private:
  Scalar with(Value result) const { return {*b, loc, result}; }
  Scalar add(Scalar y) const;
  Scalar subtract(Scalar y) const;
  Scalar multiply(Scalar y) const;
  Scalar divide(Scalar y) const;
  Scalar remainder(Scalar y) const;
  Scalar less(Scalar y) const;
  Scalar lessOrEqual(Scalar y) const;
  Scalar equal(Scalar y) const;

  OpBuilder *b;
  Location loc;
  Value value;
};

/// The body of a generic.
class Body {
public:
  Body(OpBuilder &b, Location loc, Type compute, ValueRange arguments)
      : b(b), loc(loc), compute(compute) {
    for (Value argument : arguments)
      this->arguments.push_back({b, loc, argument});
  }

  /// Argument i: the inputs, then the values so far of the outputs. Floats are
  /// converted to the type the body computes in.
  Scalar operator[](unsigned i);
  /// `number` in the type the body computes in.
  Scalar constant(double number) const;
  Scalar indexConstant(int64_t number) const;
  /// The number of the current iteration of loop `dimension`, an index.
  Scalar index(unsigned dimension) const;
  /// An element of a tensor outside; floats are converted like arguments.
  Scalar extract(Value tensor, ArrayRef<Scalar> at) const;
  /// The element of a tensor [1] outside.
  Scalar scalar(Value tensor) const { return extract(tensor, indexConstant(0)); }

private:
  OpBuilder &b;
  Location loc;
  Type compute;
  SmallVector<Scalar> arguments;
};

/// A tensor and how the loops of a generic index it.
struct Operand {
  /// Dimension i of the tensor is indexed by loop `loops[i]`.
  Operand(Value value, ArrayRef<unsigned> loops);
  Operand(Value value, std::initializer_list<unsigned> loops)
      : Operand(value, ArrayRef<unsigned>(loops)) {}
  /// Dimension i of the tensor is indexed by `expressions[i]` of the loops.
  static Operand at(Value value, ArrayRef<AffineExpr> expressions);

  Value value;
  SmallVector<AffineExpr> indices;

private:
  explicit Operand(Value value) : value(value) {}
};

class DecompositionBuilder {
public:
  DecompositionBuilder(OpBuilder &b, Location loc) : b(b), loc(loc) {}

  Value empty(ArrayRef<int64_t> shape, Type element);
  Value fill(ArrayRef<int64_t> shape, Type element, double number);

  /// The same elements in another shape.
  Value view(Value value, ArrayRef<int64_t> shape);
  /// As [R, C]: all dimensions but the last joined.
  Value rows(Value value);
  /// As [R]: all dimensions joined.
  Value flat(Value value);

  /// A generic: `iterators` has a letter per loop, outermost first, `p` parallel
  /// or `r` reduction. `body` returns one scalar per output, in the float type
  /// `compute`; it is rounded to the output's type.
  SmallVector<Value> many(StringRef iterators, Type compute, ArrayRef<Operand> inputs,
                          ArrayRef<Operand> outputs,
                          llvm::function_ref<SmallVector<Scalar>(Body &)> body);
  /// The same with one output.
  Value one(StringRef iterators, Type compute, ArrayRef<Operand> inputs, Operand output,
            llvm::function_ref<Scalar(Body &)> body);
  /// A generic over the elements of tensors of one shape; results have the shape.
  SmallVector<Value> elementwise(Type compute, ArrayRef<Value> inputs, TypeRange results,
                                 llvm::function_ref<SmallVector<Scalar>(Body &)> body);
  /// `value` in another element type.
  Value cast(Value value, Type element);
  /// result[c] = sum over r of body(r, c), summed in `element`, shape [columns].
  /// Loop 0, a reduction, runs over rows, loop 1 over columns: the Lower step knows
  /// column sums by this and gives columns, not rows, to threads.
  Value columnSum(Type element, ArrayRef<Operand> inputs, int64_t columns,
                  llvm::function_ref<Scalar(Body &)> body);
  /// The sum of all elements of `value` [R], shape [1].
  Value total(Value value);
  /// tanh of a tensor [1], shape [1]. Bodies read it by `Body::scalar`, not as an
  /// operand, so that fusion does not repeat it for every element.
  Value tanh(Value gate, Type type);
  /// result[r, c] = rows[source(r), c], or 0 where `source` gives a second value
  /// that is false; `count` rows.
  Value gatherRows(Value rows, int64_t count,
                   llvm::function_ref<std::pair<Scalar, std::optional<Scalar>>(Scalar)> source);
  /// table[ids[r] - offset, c] += factor * rows[r, c] for all r in turn; rows with
  /// the id `padding` or out of range are skipped. `factor` [1] or null, for 1.
  Value scatterAdd(Value table, Value rows, Value ids, int64_t offset,
                   std::optional<int64_t> padding, Value factor);

private:
  OpBuilder &b;
  Location loc;
};

} // namespace mlir::llama

#endif // LLAMAC_LLAMA_DECOMPOSITIONBUILDER_H
