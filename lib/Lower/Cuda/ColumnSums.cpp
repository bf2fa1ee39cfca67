//===- ColumnSums.cpp - Sums over many rows of each column ----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
//     for row { for columns { sum[column] += term } }
//
// A block has `width` pieces beside each other and goes through one part of the rows, 256 / width at
// a time; every thread keeps the sums of its piece in registers. The sums of the threads meet in
// shared memory, and those of the parts in a second kernel. The order depends on sizes only.
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/Cuda/TeamEmitter.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::llamac;
using namespace mlir::llamac::teams;

// Rows whose elements are loaded before they are added.
static constexpr int64_t kRowsAtOnce = 4;

namespace {
class ColumnSumEmitter : TeamEmitter {
public:
  ColumnSumEmitter(const Nest &nest, const Plan &plan) : TeamEmitter(nest, plan) {}

  void emit() {
    const Columns &columns = plan.columns.front().second;
    numberType = columns.elements > INT32_MAX ? builder.getI64Type() : builder.getI32Type();
    builder.setInsertionPoint(nest.call);
    // Partial sums: for each sum, for each part its elements.
    SmallVector<Value> partial;
    if (plan.parts > 1)
      for (const Reduction &r : columns.reductions)
        partial.push_back(memref::AllocOp::create(
            builder, loc,
            MemRefType::get({plan.parts, columns.elements}, r.combine->getResult(0).getType())));
    begin(llvm::divideCeil(columns.pieces(), plan.width) * plan.parts, plan.team, partial);
    emitParts(blocks > 1 ? number(gpu::BlockIdOp::create(builder, loc, gpu::Dimension::x))
                         : Value());
    if (plan.parts == 1)
      return;
    constexpr int64_t threadsOfSum = kThreadsPerBlock / 2;
    begin(llvm::divideCeil(columns.elements, threadsOfSum), threadsOfSum, partial, "_sum");
    emitSum();
  }

private:
  // A block has `width` pieces beside each other and goes through one part of the rows (the
  // iterations of the serial loops), 256 / width at a time. The sums of its threads meet in
  // shared memory; those of the parts in a second kernel.
  void emitParts(Value block) {
    const Columns &columns = plan.columns.front().second;
    int64_t rows = columns.turns();
    int64_t deep = threads / plan.width, beside = llvm::divideCeil(columns.pieces(), plan.width);
    int64_t rowsOfPart = llvm::alignTo(llvm::divideCeil(rows, plan.parts), deep);
    Value x = arith::RemUIOp::create(builder, loc, thread, constant(plan.width)),
          y = arith::DivUIOp::create(builder, loc, thread, constant(plan.width));
    Value firstPiece = constant(0), part = constant(0);
    if (block) {
      firstPiece = multiply(plan.parts == 1 ? block : remainder(block, beside), plan.width);
      if (plan.parts > 1)
        part = arith::DivUIOp::create(builder, loc, block, constant(beside));
    }
    Value piece = add(firstPiece, x);
    Value there;
    if (columns.pieces() % plan.width != 0)
      there = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult, piece,
                                    constant(columns.pieces()));
    // Rows first + i * deep for i in [0, turns).
    Value first = add(multiply(part, rowsOfPart), y);
    Value end = arith::MinUIOp::create(
        builder, loc, add(multiply(part, rowsOfPart), constant(rowsOfPart)), constant(rows));
    Value left = arith::SubIOp::create(builder, loc, add(end, constant(deep - 1)), first);
    Value some = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult, first, end);
    some = conjunction(some, there);
    Value turns = arith::SelectOp::create(
        builder, loc, some, arith::DivUIOp::create(builder, loc, left, constant(deep)),
        constant(0));
    Value whole = arith::SubIOp::create(builder, loc, turns, remainder(turns, kRowsAtOnce));
    for (const Reduction &r : columns.reductions) {
      Value neutral = arith::ConstantOp::create(
          builder, loc, neutralOf(builder, r.combine, r.combine->getResult(0).getType()));
      elementSums[r.cell].assign(columns.lanes, neutral);
    }
    Place place = placeOf(columns, piece, 0, Value(), 0);
    emitTurns(columns, place, constant(0), whole, kRowsAtOnce, first, deep);
    emitTurns(columns, place, whole, turns, 1, first, deep);
    meet(columns, x, y, deep, firstPiece, part);
  }

  // Turns [from, to) of emitParts, `together` at a time.
  void emitTurns(const Columns &columns, Place place, Value from, Value to, int64_t together,
                 Value first, int64_t deep) {
    SmallVector<Value> initial;
    for (auto &[buffer, lanes] : elementSums)
      initial.append(lanes.begin(), lanes.end());
    auto take = [&](ValueRange values) {
      size_t next = 0;
      for (auto &[buffer, lanes] : elementSums)
        for (Value &lane : lanes)
          lane = values[next++];
    };
    auto loop = scf::ForOp::create(builder, loc, from, to, constant(together), initial);
    {
      OpBuilder::InsertionGuard restore(builder);
      builder.setInsertionPointToEnd(loop.getBody());
      take(loop.getRegionIterArgs());
      known.clear();
      for (int64_t i = 0; i < together; ++i) {
        Value turn = i == 0 ? loop.getInductionVar() : add(loop.getInductionVar(), constant(i));
        Value row = add(first, multiply(turn, deep));
        mapVariables(columns.serial, row);
        place.ordinal = i;
        emitPiece(columns, place);
      }
      SmallVector<Value> yielded;
      for (auto &[buffer, lanes] : elementSums)
        yielded.append(lanes.begin(), lanes.end());
      scf::YieldOp::create(builder, loc, yielded);
    }
    known.clear();
    take(loop.getResults());
  }

  // Adds up what the `deep` threads of every element have; then the element gets it, or the
  // partial sum of this part.
  void meet(const Columns &columns, Value x, Value y, int64_t deep, Value firstPiece, Value part) {
    int64_t elements = plan.width * columns.lanes;
    auto space = gpu::AddressSpaceAttr::get(builder.getContext(), gpu::AddressSpace::Workgroup);
    Columns single = columns;
    single.lanes = 1;
    // Four neighbours of 32 bits are one store: quads of all pieces, then the second quads, 16
    // banks further.
    Type index = builder.getIndexType();
    struct Layout {
      Value memory;
      int64_t quad, plane, row;
    };
    SmallVector<Layout> layouts;
    for (const Reduction &r : columns.reductions) {
      Type type = r.combine->getResult(0).getType();
      Layout layout;
      layout.quad = columns.lanes % 4 == 0 && type.getIntOrFloatBitWidth() == 32 ? 4 : 1;
      int64_t planes = columns.lanes / layout.quad;
      layout.plane = plan.width * layout.quad + (planes == 2 && layout.quad == 4 ? 16 : 0);
      layout.row = planes * layout.plane;
      layout.memory = kernel.addWorkgroupAttribution(
          MemRefType::get({deep * layout.row}, type, MemRefLayoutAttrInterface(), space), loc);
      kernel.setWorkgroupAttributionAttr(kernel.getNumWorkgroupAttributions() - 1,
                                         LLVM::LLVMDialect::getAlignAttrName(),
                                         builder.getI64IntegerAttr(kPieceBytes));
      layouts.push_back(layout);
      Value at = add(multiply(y, layout.row), multiply(x, layout.quad));
      const Lanes &lanes = elementSums[r.cell];
      for (int64_t plane = 0; plane < planes; ++plane) {
        Value to = resize(plane == 0 ? at : add(at, constant(plane * layout.plane)), index);
        ArrayRef<Value> values = ArrayRef(lanes).slice(plane * layout.quad, layout.quad);
        if (layout.quad == 1) {
          memref::StoreOp::create(builder, loc, values[0], layout.memory, ValueRange{to});
        } else {
          auto vector = VectorType::get({layout.quad}, type);
          Value quad = vector::FromElementsOp::create(builder, loc, vector, values);
          vector::StoreOp::create(builder, loc, quad, layout.memory, ValueRange{to},
                                  /*nontemporal=*/false, alignmentOf(vector));
        }
      }
    }
    gpu::BarrierOp::create(builder, loc);
    for (int64_t from = 0; from < elements; from += threads) {
      Value local = from == 0 ? thread : add(thread, constant(from));
      Value element = add(multiply(firstPiece, columns.lanes), local);
      Value guard;
      if (from + threads > elements)
        guard = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult, local,
                                      constant(elements));
      if (columns.pieces() % plan.width != 0) {
        Value inside = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult, element,
                                             constant(columns.elements));
        guard = conjunction(guard, inside);
      }
      guarded(guard, [&] {
        for (auto [i, r] : llvm::enumerate(columns.reductions)) {
          const Layout &layout = layouts[i];
          Value at = arith::DivUIOp::create(builder, loc, local, constant(columns.lanes));
          Value lane = remainder(local, columns.lanes);
          at = multiply(at, layout.quad);
          at = add(at, multiply(arith::DivUIOp::create(builder, loc, lane, constant(layout.quad)),
                                layout.plane));
          at = add(at, remainder(lane, layout.quad));
          Value sum;
          for (int64_t row = 0; row < deep; ++row) {
            Value from = resize(row == 0 ? at : add(at, constant(row * layout.row)), index);
            sum = combine(r.combine, sum,
                          memref::LoadOp::create(builder, loc, layout.memory, ValueRange{from}));
          }
          if (plan.parts == 1) {
            addTo(r, single, element, sum);
          } else {
            Value to = resize(add(multiply(part, columns.elements), element), index);
            memref::StoreOp::create(builder, loc, sum, added[i], ValueRange{to});
          }
        }
      });
    }
  }

  // Combines `sum` with what is in the buffer.
  void addTo(const Reduction &r, const Columns &single, Value element, Value sum) {
    Place place = placeOf(single, element, 0, Value(), 0);
    Value before = loadPiece(r.load, single, place)[0];
    writePiece(r.store, single, place, {combine(r.combine, before, sum)});
  }

  // The second kernel: a thread per element adds up its partial sums, eight of them in turn.
  void emitSum() {
    Columns single = plan.columns.front().second;
    single.lanes = 1;
    Value element = thread;
    if (blocks > 1)
      element =
          add(multiply(number(gpu::BlockIdOp::create(builder, loc, gpu::Dimension::x)), threads),
              element);
    Value guard;
    if (blocks * threads != single.elements)
      guard = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult, element,
                                    constant(single.elements));
    guarded(guard, [&] {
      for (auto [i, r] : llvm::enumerate(single.reductions)) {
        Value memory = added[i];
        auto load = [&](Value part) -> Value {
          Value from = add(multiply(part, single.elements), element);
          return memref::LoadOp::create(builder, loc, memory,
                                        ValueRange{resize(from, builder.getIndexType())});
        };
        constexpr int64_t kTogether = 8;
        int64_t whole = plan.parts / kTogether * kTogether;
        Lanes sums;
        if (whole != 0) {
          Value neutral = arith::ConstantOp::create(
              builder, loc, neutralOf(builder, r.combine, r.combine->getResult(0).getType()));
          Lanes initial(kTogether, neutral);
          auto loop = scf::ForOp::create(builder, loc, constant(0), constant(whole),
                                         constant(kTogether), initial);
          OpBuilder::InsertionGuard restore(builder);
          builder.setInsertionPointToEnd(loop.getBody());
          for (int64_t k = 0; k < kTogether; ++k) {
            Value part = loop.getInductionVar();
            sums.push_back(combine(r.combine, loop.getRegionIterArg(k),
                                   load(k == 0 ? part : add(part, constant(k)))));
          }
          scf::YieldOp::create(builder, loc, sums);
          sums.assign(loop.getResults().begin(), loop.getResults().end());
        }
        for (int64_t k = whole; k < plan.parts; ++k)
          sums.push_back(load(constant(k)));
        Value sum;
        for (Value each : sums)
          sum = combine(r.combine, sum, each);
        addTo(r, single, element, sum);
      }
    });
  }
};
} // namespace

void teams::emitColumnSums(const Nest &nest, const Plan &plan) {
  ColumnSumEmitter(nest, plan).emit();
}
