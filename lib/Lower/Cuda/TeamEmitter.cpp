//===- TeamEmitter.cpp - Code of a piece of columns -----------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What all kernels of teams share: numbers of elements, loads and stores of pieces, what a thread
// knows of them, the body of a piece, scalars.
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/Cuda/TeamEmitter.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Affine/Utils.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::llamac;
using namespace mlir::llamac::teams;

// What `combine` leaves unchanged.
TypedAttr teams::neutralOf(OpBuilder &builder, Operation *combine, Type type) {
  if (isa<arith::AddFOp, arith::AddIOp>(combine))
    return builder.getZeroAttr(type);
  bool isMax = isa<arith::MaximumFOp, arith::MaxSIOp>(combine);
  if (auto real = dyn_cast<FloatType>(type))
    return builder.getFloatAttr(type, APFloat::getInf(real.getFloatSemantics(), isMax));
  unsigned width = type.getIntOrFloatBitWidth();
  return builder.getIntegerAttr(type, isMax ? APInt::getSignedMinValue(width)
                                            : APInt::getSignedMaxValue(width));
}

void TeamEmitter::begin(int64_t blockCount, int64_t threadCount, ValueRange memory,
                        StringRef suffix) {
  blocks = blockCount;
  threads = threadCount;
  kernel = makeKernel(nest, blocks, threads, memory, suffix);
  flat.clear();
  uniform.clear();
  known.clear();
  added.clear();
  builder.setInsertionPoint(kernel.getBody().front().getTerminator());
  unsigned arguments = nest.function.getNumArguments();
  for (unsigned i = 0; i < memory.size(); ++i)
    added.push_back(flatten(kernel.getArgument(arguments + i)));
  for (BlockArgument argument : nest.function.getArguments())
    uniform.map(argument, kernel.getArgument(argument.getArgNumber()));
  for (Operation &op : nest.function.getBody().front().without_terminator())
    if (&op != nest.loop && !isa<memref::AllocaOp>(op))
      builder.clone(op, uniform);
  thread = number(gpu::ThreadIdOp::create(builder, loc, gpu::Dimension::x));
}

//===--- Small things -----------------------------------------------------===//

Value TeamEmitter::add(Value a, Value b) {
  auto flags = arith::IntegerOverflowFlags::nsw | arith::IntegerOverflowFlags::nuw;
  return !a ? b : !b ? a : Value(arith::AddIOp::create(builder, loc, a, b, flags));
}

Value TeamEmitter::multiply(Value a, int64_t factor) {
  auto flags = arith::IntegerOverflowFlags::nsw | arith::IntegerOverflowFlags::nuw;
  return factor == 1
             ? a
             : Value(arith::MulIOp::create(builder, loc, a, constant(a.getType(), factor), flags));
}

// `value`, not negative, as a number of `type`.
Value TeamEmitter::resize(Value value, Type type) {
  if (value.getType() == type)
    return value;
  if (value.getType().isIndex() || type.isIndex())
    return arith::IndexCastUIOp::create(builder, loc, type, value);
  if (type.isInteger(64))
    return arith::ExtUIOp::create(builder, loc, type, value);
  return arith::TruncIOp::create(builder, loc, type, value);
}

// What `make` makes if `guard` holds, else zero.
Value TeamEmitter::guarded(Value guard, Type type, llvm::function_ref<Value()> make) {
  if (!guard)
    return make();
  auto ifOp = scf::IfOp::create(builder, loc, type, guard, /*withElseRegion=*/true);
  OpBuilder::InsertionGuard restore(builder);
  builder.setInsertionPointToEnd(ifOp.thenBlock());
  Value made = make();
  scf::YieldOp::create(builder, loc, made);
  builder.setInsertionPointToEnd(ifOp.elseBlock());
  Value zero = arith::ConstantOp::create(builder, loc, builder.getZeroAttr(type));
  scf::YieldOp::create(builder, loc, zero);
  return ifOp.getResult(0);
}

void TeamEmitter::guarded(Value guard, llvm::function_ref<void()> make) {
  if (!guard)
    return make();
  auto ifOp = scf::IfOp::create(builder, loc, guard, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard restore(builder);
  builder.setInsertionPoint(ifOp.thenBlock()->getTerminator());
  make();
}

// A buffer as its elements, one after the other.
Value TeamEmitter::flatten(Value buffer) {
  auto type = cast<MemRefType>(buffer.getType());
  if (type.getRank() == 1)
    return buffer;
  auto flatType = MemRefType::get({type.getNumElements()}, type.getElementType(),
                                  MemRefLayoutAttrInterface(), type.getMemorySpace());
  return memref::ReinterpretCastOp::create(builder, loc, flatType, buffer, int64_t(0),
                                           ArrayRef<int64_t>{type.getNumElements()},
                                           ArrayRef<int64_t>{1});
}

Value TeamEmitter::flatBuffer(Value buffer) {
  if (Value found = flat.lookup(buffer))
    return found;
  OpBuilder::InsertionGuard restore(builder);
  Value mapped = uniform.lookup(buffer);
  builder.setInsertionPointAfterValue(mapped);
  return flat[buffer] = flatten(mapped);
}

Value TeamEmitter::combine(Operation *op, Value a, Value b) {
  if (!a)
    return b;
  Operation *made = builder.clone(*op);
  made->setOperands({a, b});
  return made->getResult(0);
}

//===--- Numbers ----------------------------------------------------------===//

SmallVector<Value> TeamEmitter::iterations(ArrayRef<int64_t> sizes, Value together) {
  SmallVector<Value> values(sizes.size());
  for (size_t i = sizes.size(); i-- > 0;) {
    Value value = together;
    if (i > 0) {
      if (sizes[i] == 1) {
        value = constant(together.getType(), 0);
      } else {
        Value by = constant(together.getType(), sizes[i]);
        value = arith::RemUIOp::create(builder, loc, together, by);
        together = arith::DivUIOp::create(builder, loc, together, by);
      }
    }
    values[i] = value;
  }
  return values;
}

void TeamEmitter::mapVariables(ArrayRef<Operation *> loops, Value together) {
  SmallVector<int64_t> sizes =
      llvm::map_to_vector(loops, [](Operation *loop) { return constantRange(loop)->size(); });
  SmallVector<Value> values = iterations(sizes, together);
  for (auto [loop, value] : llvm::zip(loops, values)) {
    if (int64_t low = constantRange(loop)->low)
      value = add(value, constant(low));
    uniform.map(inductionVariableOf(loop), resize(value, builder.getIndexType()));
  }
}

// Indices of the parallel loops in piece `first` + `more`.
Place TeamEmitter::placeOf(const Columns &columns, Value first, int64_t more, Value guard,
                           int64_t ordinal, int64_t below) {
  Place place;
  place.guard = guard;
  place.ordinal = ordinal;
  int64_t low = constantRange(columns.parallel.back())->low;
  if (columns.parallel.size() == 1) {
    place.indices.push_back({multiply(first, columns.lanes), more * columns.lanes + low});
    return place;
  }
  SmallVector<int64_t> sizes = columns.sizes();
  // Loops [inner, end) go round within `together` pieces, a multiple of `below`.
  size_t inner = 0;
  int64_t together = 1;
  if (below > 0)
    for (size_t i = sizes.size(); i-- > 0 && inner == 0;) {
      together *= sizes[i];
      if (together % below == 0)
        inner = i;
    }
  if (inner > 0) {
    int64_t outer = more / together;
    more %= together;
    for (size_t i = inner; i-- > 0; outer /= sizes[i])
      place.indices.insert(place.indices.begin(),
                           {Value(), outer % sizes[i] + constantRange(columns.parallel[i])->low});
  }
  if (more != 0)
    first = add(first, constant(first.getType(), more));
  SmallVector<Value> values = iterations(ArrayRef(sizes).drop_front(inner), first);
  for (auto [loop, value] : llvm::zip(ArrayRef(columns.parallel).drop_front(inner), values))
    place.indices.push_back({value, constantRange(loop)->low});
  place.indices.back().base = multiply(values.back(), columns.lanes);
  return place;
}

// The number of the element that an access has at the first lane, or at `lane`.
Value TeamEmitter::elementNumber(Operation *op, const Columns *columns, const Place *place,
                                 int64_t lane) {
  const LoopAccess &access = plan.access.at(op);
  auto type = cast<MemRefType>(access.buffer.getType());
  int64_t rows = plan.scratch.contains(access.buffer) ? plan.rowCount : 1;
  Type width =
      type.getNumElements() * rows > INT32_MAX ? builder.getI64Type() : builder.getI32Type();
  Value sum;
  int64_t constantPart = 0;
  if (const std::optional<LinearIndex> &element = plan.element.at(op)) {
    const Tile *tile = plan.tile && plan.tile->buffer == access.buffer ? &*plan.tile : nullptr;
    constantPart = element->constant - (tile ? tile->first : 0);
    bool negative = constantPart < 0;
    SmallVector<std::pair<Value, int64_t>> terms;
    for (auto [value, coefficient] : element->coefficients) {
      if (tile && llvm::any_of(ArrayRef(columns->parallel).take_front(tile->outer),
                               [v = value](Operation *l) { return inductionVariableOf(l) == v; }))
        continue;
      negative |= coefficient < 0;
      if (const Index *index = columns ? indexOf(value, *columns, *place) : nullptr) {
        int64_t more = value == columns->inner() ? lane : 0;
        constantPart += coefficient * (index->offset + more);
        if (index->base)
          terms.push_back({resize(index->base, width), coefficient});
      } else {
        Lanes lanes = lookup(value, columns, place);
        terms.push_back({resize(lanes.size() == 1 ? lanes[0] : lanes[lane], width), coefficient});
      }
    }
    for (auto [value, coefficient] : terms) {
      if (negative) {
        Value factor = constant(width, coefficient);
        Value term = arith::MulIOp::create(builder, loc, value, factor);
        sum = sum ? Value(arith::AddIOp::create(builder, loc, sum, term)) : term;
      } else {
        sum = add(sum, multiply(value, coefficient));
      }
    }
    if (negative && sum && constantPart != 0) {
      sum = arith::AddIOp::create(builder, loc, sum, constant(width, constantPart));
      constantPart = 0;
    }
  } else {
    SmallVector<Value> operands;
    for (Value operand : access.operands) {
      Lanes lanes = lookup(operand, columns, place);
      operands.push_back(lanes.size() == 1 ? lanes[0] : lanes[lane]);
    }
    auto indices = affine::expandAffineMap(builder, loc, access.map, operands);
    for (auto [index, size] : llvm::zip(*indices, type.getShape())) {
      sum = sum ? multiply(sum, size) : Value();
      sum = add(sum, resize(index, width));
    }
  }
  if (rows != 1)
    sum = add(multiply(resize(row, width), type.getNumElements()), sum);
  if (!sum)
    return constant(width, constantPart);
  return constantPart == 0 ? sum : add(sum, constant(width, constantPart));
}

const Index *TeamEmitter::indexOf(Value variable, const Columns &columns,
                                  const Place &place) const {
  for (auto [loop, index] : llvm::zip(columns.parallel, place.indices))
    if (inductionVariableOf(loop) == variable)
      return &index;
  return nullptr;
}

// A value of the nest: of the kernel, of the row, of a loop, of the piece.
Lanes TeamEmitter::lookup(Value value, const Columns *columns, const Place *place) {
  if (auto found = lanesOf.find(value); found != lanesOf.end())
    return found->second;
  if (const Index *index = columns ? indexOf(value, *columns, *place) : nullptr) {
    Lanes lanes;
    for (int64_t lane = 0; lane < (value == columns->inner() ? columns->lanes : 1); ++lane) {
      Value sum = index->base;
      if (index->offset + lane != 0 || !sum) {
        Type type = sum ? sum.getType() : numberType;
        sum = add(sum, constant(type, index->offset + lane));
      }
      lanes.push_back(resize(sum, builder.getIndexType()));
    }
    return lanesOf[value] = lanes;
  }
  return {uniform.lookup(value)};
}

//===--- Elements ---------------------------------------------------------===//

TeamEmitter::Key TeamEmitter::keyOf(Operation *op, const Columns &columns, const Place &place) {
  std::string name = plan.signature(columns, op);
  return {plan.access.at(op).buffer.getAsOpaquePointer(),
          name + "#" + std::to_string(place.ordinal)};
}

// How an access goes through the neighbours of a piece: 0 all have one element, 1 elements
// lie one beside the other, none: each on its own.
std::optional<int64_t> TeamEmitter::stepOf(Operation *op, const Columns &columns) {
  const std::optional<LinearIndex> &element = plan.element.at(op);
  if (!element)
    return std::nullopt;
  for (auto [value, coefficient] : element->coefficients)
    if (value != columns.inner())
      if (auto found = lanesOf.find(value); found != lanesOf.end() && found->second.size() > 1)
        return std::nullopt;
  int64_t step = element->of(columns.inner());
  return step == 0 || step == 1 ? std::optional(step) : std::nullopt;
}

Value TeamEmitter::isTaken(Operation *load, const Columns &columns, const Place &place) {
  auto select = load->hasOneUse() ? dyn_cast<arith::SelectOp>(*load->user_begin()) : nullptr;
  if (!select || select->getBlock() != load->getBlock() ||
      select.getCondition() == load->getResult(0))
    return Value();
  Value condition = select.getCondition();
  Operation *decides = condition.getDefiningOp();
  if (decides && decides->getBlock() == load->getBlock() && !decides->isBeforeInBlock(load))
    return Value();
  Lanes lanes = lookup(condition, &columns, &place);
  if (lanes.size() != 1)
    return Value();
  if (select.getTrueValue() == load->getResult(0))
    return lanes[0];
  return arith::XOrIOp::create(builder, loc, lanes[0], constant(builder.getI1Type(), 1));
}

Lanes TeamEmitter::loadPiece(Operation *op, const Columns &columns, const Place &place) {
  Value buffer = plan.access.at(op).buffer;
  Key key = keyOf(op, columns, place);
  if (auto found = known.find(key); found != known.end())
    return found->second;
  Type type = cast<MemRefType>(buffer.getType()).getElementType();
  Lanes lanes;
  std::optional<int64_t> step = stepOf(op, columns);
  Value from = flatBuffer(buffer);
  Value taken = isTaken(op, columns, place);
  Value guard = conjunction(place.guard, taken);
  auto loadOne = [&](int64_t lane) {
    return guarded(guard, type, [&]() -> Value {
      Value index = elementIndex(op, &columns, &place, lane);
      return memref::LoadOp::create(builder, op->getLoc(), from, ValueRange{index});
    });
  };
  if (columns.lanes == 1 || step == 0) {
    lanes.push_back(loadOne(0));
  } else if (step == 1) {
    auto vector = VectorType::get({columns.lanes}, type);
    Value piece = guarded(guard, vector, [&]() -> Value {
      Value index = elementIndex(op, &columns, &place);
      return vector::LoadOp::create(builder, op->getLoc(), vector, from, ValueRange{index},
                                    /*nontemporal=*/false, alignmentOf(vector));
    });
    for (int64_t lane = 0; lane < columns.lanes; ++lane)
      lanes.push_back(vector::ExtractOp::create(builder, op->getLoc(), piece, lane));
  } else if (lanes = loadWindow(op, columns, place); lanes.empty()) {
    for (int64_t lane = 0; lane < columns.lanes; ++lane)
      lanes.push_back(loadOne(lane));
  }
  if (!taken)
    known[key] = lanes;
  return lanes;
}

// Loads of one window are equal: LLVM makes them one, for nothing writes to the buffer.
Lanes TeamEmitter::loadWindow(Operation *op, const Columns &columns, const Place &place) {
  Value buffer = plan.access.at(op).buffer;
  const std::optional<LinearIndex> &element = plan.element.at(op);
  if (!element || stepOf(op, columns) || llvm::is_contained(writtenBuffers(nest.loop), buffer))
    return {};
  int64_t step = element->of(columns.inner()), first = element->constant % columns.lanes;
  auto isBeside = [&](Operation &other) {
    auto found = plan.access.find(&other);
    const std::optional<LinearIndex> &that = plan.element.lookup(&other);
    return &other != op && found != plan.access.end() && found->second.buffer == buffer && that &&
           that->of(columns.inner()) == step;
  };
  if (step < 2 || step > kMostWindow || first >= step || element->constant < 0 ||
      llvm::any_of(
          element->coefficients,
          [&](auto &term) {
            return term.second < 0 || (term.first != columns.inner() &&
                                       (term.second % columns.lanes != 0 ||
                                        lookup(term.first, &columns, &place).size() != 1));
          }) ||
      llvm::none_of(*columns.body, isBeside))
    return {};
  Type type = cast<MemRefType>(buffer.getType()).getElementType();
  auto vector = VectorType::get({columns.lanes}, type);
  Lanes window;
  for (int64_t i = 0; i < step; ++i) {
    Value piece = guarded(place.guard, vector, [&]() -> Value {
      Value number = elementNumber(op, &columns, &place, 0);
      Value more = constant(number.getType(), i * columns.lanes - first);
      Value index =
          resize(arith::AddIOp::create(builder, loc, number, more), builder.getIndexType());
      return vector::LoadOp::create(builder, op->getLoc(), vector, flatBuffer(buffer),
                                    ValueRange{index}, /*nontemporal=*/false, alignmentOf(vector));
    });
    for (int64_t lane = 0; lane < columns.lanes; ++lane)
      window.push_back(vector::ExtractOp::create(builder, op->getLoc(), piece, lane));
  }
  Lanes lanes;
  for (int64_t lane = 0; lane < columns.lanes; ++lane)
    lanes.push_back(window[step * lane + first]);
  return lanes;
}

void TeamEmitter::storePiece(Operation *op, const Columns &columns, const Place &place,
                             Lanes lanes) {
  Value buffer = plan.access.at(op).buffer;
  Key key = keyOf(op, columns, place);
  // Other names may be of the same elements.
  std::string name = plan.signature(columns, op) + "#";
  for (auto entry = known.begin(); entry != known.end();) {
    bool other = entry->first.first == key.first && entry->first.second.rfind(name, 0) != 0;
    entry = other ? known.erase(entry) : std::next(entry);
  }
  known[key] = lanes;
  if (hasMemory(buffer) && !carried.count(key))
    writePiece(op, columns, place, lanes);
}

void TeamEmitter::writePiece(Operation *op, const Columns &columns, const Place &place,
                             Lanes lanes) {
  Value to = flatBuffer(plan.access.at(op).buffer);
  std::optional<int64_t> step = stepOf(op, columns);
  guarded(place.guard, [&] {
    if (columns.lanes > 1 && step == 1) {
      auto vector = VectorType::get({columns.lanes}, lanes[0].getType());
      SmallVector<Value> values;
      for (int64_t lane = 0; lane < columns.lanes; ++lane)
        values.push_back(lanes.size() == 1 ? lanes[0] : lanes[lane]);
      Value piece = vector::FromElementsOp::create(builder, op->getLoc(), vector, values);
      Value index = elementIndex(op, &columns, &place);
      vector::StoreOp::create(builder, op->getLoc(), piece, to, ValueRange{index},
                              /*nontemporal=*/false, alignmentOf(vector));
      return;
    }
    for (int64_t lane = 0; lane < columns.lanes; ++lane) {
      Value index = elementIndex(op, &columns, &place, lane);
      memref::StoreOp::create(builder, op->getLoc(), lanes.size() == 1 ? lanes[0] : lanes[lane], to,
                              ValueRange{index});
    }
  });
}

//===--- Bodies -----------------------------------------------------------===//

// The body of `columns` for one piece.
void TeamEmitter::emitPiece(const Columns &columns, const Place &place) {
  llvm::DenseMap<Value, Lanes> outer = lanesOf;
  for (Operation &op : columns.body->without_terminator()) {
    const Reduction *reduction = nullptr;
    bool isTerm = false;
    for (const Reduction &r : columns.reductions)
      if (&op == r.load || &op == r.combine || &op == r.store)
        reduction = &r, isTerm = &op == r.combine;
    if (reduction) {
      if (isTerm)
        addTerms(*reduction, columns, place);
      continue;
    }
    if (auto found = plan.access.find(&op); found != plan.access.end()) {
      if (plan.cells.contains(found->second.buffer))
        lanesOf[op.getResult(0)] = {cellValues.lookup(found->second.buffer)};
      else if (found->second.writes)
        storePiece(&op, columns, place, lookup(op.getOperand(0), &columns, &place));
      else
        lanesOf[op.getResult(0)] = loadPiece(&op, columns, place);
      continue;
    }
    SmallVector<Lanes> operands;
    size_t count = 1;
    for (Value operand : op.getOperands()) {
      operands.push_back(lookup(operand, &columns, &place));
      count = std::max(count, operands.back().size());
    }
    SmallVector<Lanes> results(op.getNumResults());
    for (size_t lane = 0; lane < count; ++lane) {
      SmallVector<Value> values = llvm::map_to_vector(
          operands, [&](const Lanes &lanes) { return lanes.size() == 1 ? lanes[0] : lanes[lane]; });
      if (auto apply = dyn_cast<affine::AffineApplyOp>(op)) {
        results[0].push_back(
            affine::expandAffineMap(builder, op.getLoc(), apply.getAffineMap(), values)->front());
        continue;
      }
      IRMapping mapping;
      for (auto [from, to] : llvm::zip(op.getOperands(), values))
        mapping.map(from, to);
      Operation *clone = builder.clone(op, mapping);
      for (auto [i, result] : llvm::enumerate(clone->getResults()))
        results[i].push_back(result);
    }
    for (auto [result, lanes] : llvm::zip(op.getResults(), results))
      lanesOf[result] = lanes;
  }
  lanesOf = outer;
}

//===--- Scalars ----------------------------------------------------------===//

Value TeamEmitter::loadScalar(Operation *op) {
  Value from = flatBuffer(plan.access.at(op).buffer);
  Type type = cast<MemRefType>(from.getType()).getElementType();
  return guarded(active, type, [&]() -> Value {
    Value index = elementIndex(op, nullptr, nullptr);
    return memref::LoadOp::create(builder, op->getLoc(), from, ValueRange{index});
  });
}

void TeamEmitter::storeScalar(Operation *op, Value value) {
  Value to = flatBuffer(plan.access.at(op).buffer);
  Value index = elementIndex(op, nullptr, nullptr);
  memref::StoreOp::create(builder, op->getLoc(), value, to, ValueRange{index});
}

void TeamEmitter::emitScalar(Operation &op) {
  auto found = plan.access.find(&op);
  if (found == plan.access.end()) {
    if (auto apply = dyn_cast<affine::AffineApplyOp>(op)) {
      SmallVector<Value> operands =
          llvm::map_to_vector(op.getOperands(), [&](Value v) { return uniform.lookup(v); });
      uniform.map(
          op.getResult(0),
          affine::expandAffineMap(builder, op.getLoc(), apply.getAffineMap(), operands)->front());
      return;
    }
    builder.clone(op, uniform);
    return;
  }
  Value buffer = found->second.buffer;
  bool isCell = plan.cells.contains(buffer);
  if (found->second.writes) {
    Value value = uniform.lookup(op.getOperand(0));
    if (isCell) {
      cellValues[buffer] = value;
      return;
    }
    order(buffer, "store", true);
    Value first =
        arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::eq, member, constant(0));
    guarded(conjunction(plan.team > 1 ? first : Value(), active), [&] { storeScalar(&op, value); });
    forget(buffer);
    return;
  }
  if (!isCell)
    order(buffer, "load", false);
  uniform.map(op.getResult(0), isCell ? cellValues.lookup(buffer) : loadScalar(&op));
}

void TeamEmitter::forget(Value buffer) {
  for (auto entry = known.begin(); entry != known.end();)
    entry =
        entry->first.first == buffer.getAsOpaquePointer() ? known.erase(entry) : std::next(entry);
}

// A barrier before an access by other threads than those of the accesses since the last one.
void TeamEmitter::order(Value buffer, std::string name, bool writes) {
  if (!hasMemory(buffer))
    return;
  SmallVector<std::pair<std::string, bool>> &before = since[buffer];
  bool conflict = llvm::any_of(before, [&](auto &other) {
    return (other.first != name || name == "store") && (writes || other.second);
  });
  if (conflict && plan.team > 1 && plan.spread == 1) {
    gpu::BarrierOp::create(builder, loc);
    since.clear();
  }
  since[buffer].push_back({name, writes});
}

void TeamEmitter::addTerms(const Reduction &reduction, const Columns &columns, const Place &place) {
  Lanes terms = lookup(reduction.term, &columns, &place);
  for (auto [lane, sum] : llvm::enumerate(elementSums[reduction.cell]))
    sum = combine(reduction.combine, sum, terms.size() == 1 ? terms[0] : terms[lane]);
}
