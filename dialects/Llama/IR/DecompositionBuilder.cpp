//===- DecompositionBuilder.cpp - Formulas as linalg.generic --------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "dialects/Llama/IR/DecompositionBuilder.h"

#include "dialects/Llama/IR/ColumnSlice.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/ReshapeOpsUtils.h"

using namespace mlir;
using namespace mlir::llama;

static constexpr auto kFlags = arith::FastMathFlags::reassoc | arith::FastMathFlags::contract;

//===----------------------------------------------------------------------===//
// Scalar
//===----------------------------------------------------------------------===//

static Value constantOf(OpBuilder &b, Location loc, Type type, double number) {
  TypedAttr value;
  if (isa<FloatType>(type))
    value = b.getFloatAttr(type, number);
  else
    value = b.getIntegerAttr(type, static_cast<int64_t>(number));
  return arith::ConstantOp::create(b, loc, value);
}

Scalar Scalar::constant(double number) const { return with(constantOf(*b, loc, type(), number)); }

Scalar Scalar::to(Type wanted) const {
  Type from = type();
  if (from == wanted)
    return *this;
  if (isa<FloatType>(from)) {
    if (from.getIntOrFloatBitWidth() < wanted.getIntOrFloatBitWidth())
      return with(arith::ExtFOp::create(*b, loc, wanted, value));
    return with(arith::TruncFOp::create(*b, loc, wanted, value));
  }
  if (isa<FloatType>(wanted))
    return with(arith::SIToFPOp::create(*b, loc, wanted, to(b->getI64Type()).value));
  return with(arith::IndexCastOp::create(*b, loc, wanted, value));
}

Scalar Scalar::exp() const { return with(math::ExpOp::create(*b, loc, value, kFlags)); }
Scalar Scalar::log() const { return with(math::LogOp::create(*b, loc, value, kFlags)); }
Scalar Scalar::erf() const { return with(math::ErfOp::create(*b, loc, value, kFlags)); }
Scalar Scalar::tanh() const { return with(math::TanhOp::create(*b, loc, value, kFlags)); }
Scalar Scalar::cos() const { return with(math::CosOp::create(*b, loc, value, kFlags)); }
Scalar Scalar::sin() const { return with(math::SinOp::create(*b, loc, value, kFlags)); }
Scalar Scalar::sqrt() const { return with(math::SqrtOp::create(*b, loc, value, kFlags)); }
Scalar Scalar::rsqrt(double factor, double epsilon) const {
  return with(math::RsqrtOp::create(*b, loc, (*this * factor + epsilon).value, kFlags));
}

template <typename FloatOp, typename IntegerOp>
static Value arithmetic(OpBuilder &b, Location loc, Value x, Value y) {
  if (isa<FloatType>(x.getType()))
    return FloatOp::create(b, loc, x, y, kFlags);
  return IntegerOp::create(b, loc, x, y);
}

Scalar Scalar::add(Scalar y) const {
  return with(arithmetic<arith::AddFOp, arith::AddIOp>(*b, loc, value, y.value));
}
Scalar Scalar::subtract(Scalar y) const {
  return with(arithmetic<arith::SubFOp, arith::SubIOp>(*b, loc, value, y.value));
}
Scalar Scalar::multiply(Scalar y) const {
  return with(arithmetic<arith::MulFOp, arith::MulIOp>(*b, loc, value, y.value));
}
Scalar Scalar::divide(Scalar y) const {
  return with(arithmetic<arith::DivFOp, arith::DivUIOp>(*b, loc, value, y.value));
}
Scalar Scalar::remainder(Scalar y) const {
  return with(arithmetic<arith::RemFOp, arith::RemUIOp>(*b, loc, value, y.value));
}

static Value compare(OpBuilder &b, Location loc, Value x, Value y, arith::CmpFPredicate floats,
                     arith::CmpIPredicate integers) {
  if (isa<FloatType>(x.getType()))
    return arith::CmpFOp::create(b, loc, floats, x, y, kFlags);
  return arith::CmpIOp::create(b, loc, integers, x, y);
}

Scalar Scalar::less(Scalar y) const {
  return with(
      compare(*b, loc, value, y.value, arith::CmpFPredicate::OLT, arith::CmpIPredicate::slt));
}
Scalar Scalar::lessOrEqual(Scalar y) const {
  return with(
      compare(*b, loc, value, y.value, arith::CmpFPredicate::OLE, arith::CmpIPredicate::sle));
}
Scalar Scalar::equal(Scalar y) const {
  return with(
      compare(*b, loc, value, y.value, arith::CmpFPredicate::OEQ, arith::CmpIPredicate::eq));
}

Scalar llama::operator&(Scalar x, Scalar y) {
  return x.with(arith::AndIOp::create(*x.b, x.loc, x.value, y.value));
}
Scalar llama::operator|(Scalar x, Scalar y) {
  return x.with(arith::OrIOp::create(*x.b, x.loc, x.value, y.value));
}
Scalar llama::select(Scalar condition, Scalar ifTrue, Scalar ifFalse) {
  return condition.with(arith::SelectOp::create(*condition.b, condition.loc, condition.value,
                                                ifTrue.value, ifFalse.value));
}
Scalar llama::maximum(Scalar x, Scalar y) {
  return x.with(arith::MaximumFOp::create(*x.b, x.loc, x.value, y.value, kFlags));
}

//===----------------------------------------------------------------------===//
// Body, Operand
//===----------------------------------------------------------------------===//

Scalar Body::operator[](unsigned i) {
  Scalar &argument = arguments[i];
  if (isa<FloatType>(argument.type()))
    argument = argument.to(compute);
  return argument;
}

Scalar Body::constant(double number) const { return {b, loc, constantOf(b, loc, compute, number)}; }

Scalar Body::indexConstant(int64_t number) const {
  return {b, loc, arith::ConstantIndexOp::create(b, loc, number)};
}

Scalar Body::index(unsigned dimension) const {
  return {b, loc, linalg::IndexOp::create(b, loc, dimension)};
}

Scalar Body::extract(Value tensor, ArrayRef<Scalar> at) const {
  SmallVector<Value> indices;
  for (Scalar index : at)
    indices.push_back(index.to(b.getIndexType()).getValue());
  Scalar element(b, loc, tensor::ExtractOp::create(b, loc, tensor, indices));
  return isa<FloatType>(element.type()) ? element.to(compute) : element;
}

Operand::Operand(Value value, ArrayRef<unsigned> loops) : value(value) {
  for (unsigned loop : loops)
    indices.push_back(getAffineDimExpr(loop, value.getContext()));
}

Operand Operand::at(Value value, ArrayRef<AffineExpr> expressions) {
  Operand operand(value);
  operand.indices.assign(expressions.begin(), expressions.end());
  return operand;
}

//===----------------------------------------------------------------------===//
// DecompositionBuilder
//===----------------------------------------------------------------------===//

Value DecompositionBuilder::empty(ArrayRef<int64_t> shape, Type element) {
  return tensor::EmptyOp::create(b, loc, shape, element);
}

Value DecompositionBuilder::fill(ArrayRef<int64_t> shape, Type element, double number) {
  Value constant = constantOf(b, loc, element, number);
  return linalg::FillOp::create(b, loc, constant, empty(shape, element)).getResult(0);
}

Value DecompositionBuilder::view(Value value, ArrayRef<int64_t> shape) {
  auto type = cast<RankedTensorType>(value.getType());
  auto wanted = RankedTensorType::get(shape, type.getElementType());
  if (type == wanted)
    return value;
  if (auto slice = value.getDefiningOp<tensor::ExtractSliceOp>())
    if (std::optional<ColumnSlice> part = ColumnSlice::of(slice))
      if (std::optional<ColumnSlice> seen = part->reshaped(shape))
        return tensor::ExtractSliceOp::create(b, loc, view(slice.getSource(), seen->shape),
                                              seen->offsets(b), seen->sizes(b), seen->strides(b));
  auto groups = getReassociationIndicesForReshape(type, wanted);
  if (!groups) // neither joins nor splits dimensions: by way of one dimension
    return view(flat(value), shape);
  if (type.getRank() > wanted.getRank())
    return tensor::CollapseShapeOp::create(b, loc, wanted, value, *groups);
  return tensor::ExpandShapeOp::create(b, loc, wanted, value, *groups);
}

Value DecompositionBuilder::rows(Value value) {
  auto type = cast<RankedTensorType>(value.getType());
  int64_t columns = type.getRank() ? type.getShape().back() : 1;
  return view(value, {type.getNumElements() / columns, columns});
}

Value DecompositionBuilder::flat(Value value) {
  return view(value, {cast<RankedTensorType>(value.getType()).getNumElements()});
}

SmallVector<Value>
DecompositionBuilder::many(StringRef iterators, Type compute, ArrayRef<Operand> inputs,
                           ArrayRef<Operand> outputs,
                           llvm::function_ref<SmallVector<Scalar>(Body &)> body) {
  SmallVector<utils::IteratorType> loops;
  for (char letter : iterators)
    loops.push_back(letter == 'r' ? utils::IteratorType::reduction : utils::IteratorType::parallel);
  SmallVector<Value> ins, outs;
  SmallVector<Type> types;
  SmallVector<AffineMap> maps;
  auto mapOf = [&](const Operand &operand) {
    return AffineMap::get(loops.size(), 0, operand.indices, b.getContext());
  };
  for (const Operand &input : inputs) {
    ins.push_back(input.value);
    maps.push_back(mapOf(input));
  }
  for (const Operand &output : outputs) {
    outs.push_back(output.value);
    types.push_back(output.value.getType());
    maps.push_back(mapOf(output));
  }
  auto generic = linalg::GenericOp::create(
      b, loc, types, ins, outs, maps, loops,
      [&](OpBuilder &nested, Location loc, ValueRange arguments) {
        Body x(nested, loc, compute, arguments);
        SmallVector<Value> results;
        for (auto [result, type] : llvm::zip_equal(body(x), types))
          results.push_back(result.to(cast<RankedTensorType>(type).getElementType()).getValue());
        linalg::YieldOp::create(nested, loc, results);
      });
  return llvm::to_vector_of<Value>(generic.getResults());
}

Value DecompositionBuilder::one(StringRef iterators, Type compute, ArrayRef<Operand> inputs,
                                Operand output, llvm::function_ref<Scalar(Body &)> body) {
  return many(iterators, compute, inputs, output,
              [&](Body &x) -> SmallVector<Scalar> { return {body(x)}; })
      .front();
}

SmallVector<Value>
DecompositionBuilder::elementwise(Type compute, ArrayRef<Value> inputs, TypeRange results,
                                  llvm::function_ref<SmallVector<Scalar>(Body &)> body) {
  bool vector = shapeOf(inputs.front()).size() < 2;
  SmallVector<unsigned> loops = vector ? SmallVector<unsigned>{0} : SmallVector<unsigned>{0, 1};
  SmallVector<Operand> ins, outs;
  for (Value input : inputs)
    ins.push_back({vector ? flat(input) : rows(input), loops});
  for (Type result : results)
    outs.push_back(
        {empty(shapeOf(ins.front().value), cast<RankedTensorType>(result).getElementType()),
         loops});
  SmallVector<Value> values = many(vector ? "p" : "pp", compute, ins, outs, body);
  for (auto [value, result] : llvm::zip_equal(values, results))
    value = view(value, cast<RankedTensorType>(result).getShape());
  return values;
}

Value DecompositionBuilder::cast(Value value, Type element) {
  auto type = llvm::cast<RankedTensorType>(value.getType());
  if (type.getElementType() == element)
    return value;
  return elementwise(element, {value}, type.clone(element),
                     [](Body &x) -> SmallVector<Scalar> { return {x[0]}; })
      .front();
}

Value DecompositionBuilder::columnSum(Type element, ArrayRef<Operand> inputs, int64_t columns,
                                      llvm::function_ref<Scalar(Body &)> body) {
  return one("rp", element, inputs, {fill({columns}, element, 0), {1}},
             [&](Body &x) { return x[inputs.size()] + body(x); });
}

Value DecompositionBuilder::total(Value value) {
  Type type = elementOf(value);
  return one("pr", type, {{value, {1}}}, {fill({1}, type, 0), {0}},
             [](Body &x) { return x[1] + x[0]; });
}

Value DecompositionBuilder::tanh(Value gate, Type type) {
  return one("p", type, {{gate, {0}}}, {empty({1}, type), {0}},
             [](Body &x) { return x[0].tanh(); });
}

Value DecompositionBuilder::gatherRows(
    Value rows, int64_t count,
    llvm::function_ref<std::pair<Scalar, std::optional<Scalar>>(Scalar)> source) {
  Type element = elementOf(rows);
  return one("pp", element, {}, {empty({count, shapeOf(rows)[1]}, element), {0, 1}}, [&](Body &x) {
    auto [row, valid] = source(x.index(0));
    Scalar value = x.extract(rows, {row, x.index(1)});
    return valid ? select(*valid, value, x.constant(0)) : value;
  });
}

Value DecompositionBuilder::scatterAdd(Value table, Value rows, Value ids, int64_t offset,
                                       std::optional<int64_t> padding, Value factor) {
  int64_t columns = shapeOf(table)[1];
  Type element = elementOf(table);
  auto number = [&](int64_t i) -> Value { return arith::ConstantIndexOp::create(b, loc, i); };
  // table[row, :] += factor * rows[r, :], in place.
  auto addRow = [&](OpBuilder &b, Value table, Value r, Value row) -> Value {
    auto zero = b.getIndexAttr(0), one = b.getIndexAttr(1);
    SmallVector<OpFoldResult> to = {row, zero}, from = {r, zero},
                              sizes = {one, b.getIndexAttr(columns)}, strides = {one, one};
    auto slice = [&](Value tensor, ArrayRef<OpFoldResult> at) -> Value {
      return tensor::ExtractSliceOp::create(
          b, loc, RankedTensorType::get({columns}, elementOf(tensor)), tensor, at, sizes, strides);
    };
    Value sum = DecompositionBuilder(b, loc).one(
        "p", element, {{slice(rows, from), {0}}}, {slice(table, to), {0}},
        [&](Body &x) { return x[1] + (factor ? x.scalar(factor) * x[0] : x[0]); });
    return tensor::InsertSliceOp::create(b, loc, sum, table, to, sizes, strides);
  };
  auto loop = scf::ForOp::create(
      b, loc, number(0), number(shapeOf(rows)[0]), number(1), table,
      [&](OpBuilder &b, Location loc, Value r, ValueRange tables) {
        Scalar id(b, loc, tensor::ExtractOp::create(b, loc, ids, r));
        Scalar row = id - offset;
        Scalar valid = row >= 0 & row < shapeOf(table)[0];
        if (padding) {
          Scalar padded = id == *padding;
          valid = select(padded, padded.constant(0), valid);
        }
        auto branch = scf::IfOp::create(
            b, loc, valid.getValue(),
            [&](OpBuilder &b, Location loc) {
              Value at = Scalar(b, loc, row.getValue()).to(b.getIndexType()).getValue();
              scf::YieldOp::create(b, loc, addRow(b, tables[0], r, at));
            },
            [&](OpBuilder &b, Location loc) { scf::YieldOp::create(b, loc, tables[0]); });
        scf::YieldOp::create(b, loc, branch.getResult(0));
      });
  return loop.getResult(0);
}
