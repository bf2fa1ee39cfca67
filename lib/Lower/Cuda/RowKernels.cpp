//===- RowKernels.cpp - Rows per team of threads --------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A row is a team's: every thread of it computes the scalars and its own pieces of every column loop.
// What a column loop writes or reads stays in registers for those that follow, where they find it in
// the same thread. Sums over columns are shared by all threads of the team. A nest of independent
// elements has no rows: its pieces belong to all threads of the grid.
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/Cuda/TeamEmitter.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::llamac;
using namespace mlir::llamac::teams;

// Pieces of a thread that a loop takes at a time, where they are too many to be unrolled.
static constexpr int64_t kPiecesAtOnce = 4;

namespace {
class RowEmitter : TeamEmitter {
public:
  RowEmitter(const Nest &nest, const Plan &plan) : TeamEmitter(nest, plan) {}

  void emit() {
    const Columns &first = plan.columns.front().second;
    bool hasRows = !plan.rows.empty();
    numberType =
        !hasRows && first.elements > INT32_MAX ? builder.getI64Type() : builder.getI32Type();
    // Scratch memory: one row after the other.
    SmallVector<Value> scratch;
    builder.setInsertionPoint(nest.call);
    for (Value buffer : plan.scratch) {
      auto type = cast<MemRefType>(buffer.getType());
      SmallVector<int64_t> shape{plan.rowCount};
      shape.append(type.getShape().begin(), type.getShape().end());
      scratch.push_back(
          memref::AllocOp::create(builder, loc, MemRefType::get(shape, type.getElementType())));
    }
    begin(hasRows ? llvm::divideCeil(plan.rowCount, plan.teams) * plan.spread
                  : llvm::divideCeil(llvm::product_of(first.sizes()), plan.team),
          plan.team * plan.teams, scratch);
    for (auto [buffer, memory] : llvm::zip(plan.scratch, added))
      flat[buffer] = memory;
    Value block =
        blocks > 1 ? number(gpu::BlockIdOp::create(builder, loc, gpu::Dimension::x)) : Value();
    if (hasRows)
      emitRow(block);
    else
      emitAll(block);
  }

private:
  // The body for all `places`, inside the loops that are not parallel.
  void emitPlaces(const Columns &columns, ArrayRef<Place> places) {
    if (columns.serial.empty()) {
      for (const Place &place : places)
        emitPiece(columns, place);
      return;
    }
    // Elements that every iteration writes anew, at one place: carried from one to the next.
    SmallVector<Operation *> stores;
    llvm::DenseSet<Value> written, mixed;
    llvm::DenseMap<Value, std::string> names;
    for (Operation &op : *columns.body)
      if (auto found = plan.access.find(&op); found != plan.access.end()) {
        Value buffer = found->second.buffer;
        if (found->second.writes) {
          written.insert(buffer);
          stores.push_back(&op);
        }
        std::string name = plan.signature(columns, &op);
        if (!plan.isFixed(columns, &op) || names.try_emplace(buffer, name).first->second != name)
          mixed.insert(buffer);
      }
    llvm::erase_if(stores,
                   [&](Operation *op) { return mixed.contains(plan.access.at(op).buffer); });
    SmallVector<std::tuple<Operation *, const Place *, Key>> values;
    SmallVector<Value> initial;
    for (Operation *op : stores)
      for (const Place &place : places) {
        Key key = keyOf(op, columns, place);
        if (!carried.insert(key).second)
          continue;
        Lanes lanes = isRead(op, columns) || known.count(key)
                          ? loadPiece(op, columns, place)
                          : Lanes{Value(arith::ConstantOp::create(
                                builder, loc, builder.getZeroAttr(op->getOperand(0).getType())))};
        if (lanes.size() == 1)
          lanes.resize(columns.lanes, lanes[0]);
        values.push_back({op, &place, key});
        initial.append(lanes);
      }
    // In the loop: what is read there is not known before or after.
    for (auto entry = known.begin(); entry != known.end();)
      entry = written.contains(Value::getFromOpaquePointer(entry->first.first)) ? known.erase(entry)
                                                                                : std::next(entry);
    std::map<Key, Lanes> before = known;
    SmallVector<scf::ForOp> loops;
    for (Operation *loop : columns.serial) {
      LoopRange range = *constantRange(loop);
      Value low = arith::ConstantIndexOp::create(builder, loc, range.low),
            high = arith::ConstantIndexOp::create(builder, loc, range.high),
            one = arith::ConstantIndexOp::create(builder, loc, 1);
      auto made = scf::ForOp::create(builder, loc, low, high, one,
                                     loops.empty() ? ValueRange(initial)
                                                   : ValueRange(loops.back().getRegionIterArgs()));
      uniform.map(inductionVariableOf(loop), made.getInductionVar());
      loops.push_back(made);
      builder.setInsertionPointToStart(made.getBody());
    }
    ValueRange arguments = loops.back().getRegionIterArgs();
    for (auto [i, value] : llvm::enumerate(values)) {
      ValueRange part = arguments.slice(i * columns.lanes, columns.lanes);
      known[std::get<2>(value)] = Lanes(part.begin(), part.end());
    }
    for (const Place &place : places)
      emitPiece(columns, place);
    SmallVector<Value> yielded;
    for (auto &value : values) {
      Lanes lanes = known.at(std::get<2>(value));
      if (lanes.size() == 1)
        lanes.resize(columns.lanes, lanes[0]);
      yielded.append(lanes);
    }
    for (scf::ForOp loop : llvm::reverse(loops)) {
      builder.setInsertionPointToEnd(loop.getBody());
      if (!loop.getBody()->empty() && isa<scf::YieldOp>(loop.getBody()->back()))
        loop.getBody()->back().erase();
      builder.setInsertionPointToEnd(loop.getBody());
      scf::YieldOp::create(builder, loc, yielded);
      yielded.assign(loop.getResults().begin(), loop.getResults().end());
    }
    builder.setInsertionPointAfter(loops.front());
    known = before;
    for (auto &[op, place, key] : values)
      carried.erase(key);
    for (auto [i, value] : llvm::enumerate(values)) {
      auto [op, place, key] = value;
      Lanes lanes(ArrayRef(yielded).slice(i * columns.lanes, columns.lanes));
      storePiece(op, columns, *place, lanes);
    }
  }

  // Whether the body reads what `store` writes.
  bool isRead(Operation *store, const Columns &columns) const {
    return llvm::any_of(*columns.body, [&](Operation &op) {
      auto found = plan.access.find(&op);
      return found != plan.access.end() && !found->second.writes &&
             found->second.buffer == plan.access.at(store).buffer;
    });
  }

  // No rows: a thread's pieces.
  void emitAll(Value block) {
    const Columns &columns = plan.columns.front().second;
    SmallVector<int64_t> sizes = columns.sizes();
    int64_t count = llvm::product_of(sizes), together = llvm::product_of(columns.together);
    if (sizes.size() == 1 && together > 1)
      return emitSideBySide(columns, block, together);
    Value piece = thread;
    if (block)
      piece = add(multiply(block, threads), piece);
    Value guard;
    if (blocks * threads != count)
      guard =
          arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult, piece, constant(count));
    guarded(guard, [&] {
      // A thread's iterations of a loop are as far from each other as they can be.
      SmallVector<Place> places{placeOf(columns, piece, 0, Value(), 0)};
      for (auto [i, together] : llvm::enumerate(columns.together)) {
        bool inner = i + 1 == sizes.size();
        SmallVector<Place> once = places;
        for (int64_t k = 1; k < together; ++k)
          for (Place place : once) {
            place.indices[i].offset += k * sizes[i] * (inner ? columns.lanes : 1);
            place.ordinal = places.size();
            places.push_back(place);
          }
      }
      emitPlaces(columns, places);
    });
  }

  // One loop: the pieces of a block lie side by side.
  void emitSideBySide(const Columns &columns, Value block, int64_t together) {
    Value first = thread;
    if (block)
      first = add(multiply(block, threads * together), first);
    SmallVector<Place> places;
    for (int64_t k = 0; k < together; ++k) {
      Value guard;
      if (blocks * threads * together != columns.pieces()) {
        Value piece = k == 0 ? first : add(first, constant(k * threads));
        guard = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult, piece,
                                      constant(columns.pieces()));
      }
      places.push_back(placeOf(columns, first, k * threads, guard, k));
    }
    emitPlaces(columns, places);
  }

  void emitRow(Value block) {
    member = thread;
    row = block ? block : constant(0);
    if (plan.spread > 1) {
      member = add(multiply(remainder(block, plan.spread), plan.team), thread);
      row = arith::DivUIOp::create(builder, loc, block, constant(plan.spread));
    }
    if (plan.teams > 1) {
      Value team = arith::DivUIOp::create(builder, loc, thread, constant(plan.team));
      member = arith::RemUIOp::create(builder, loc, thread, constant(plan.team));
      row = block ? add(multiply(block, plan.teams), team) : team;
    }
    if (blocks * plan.teams != plan.rowCount * plan.spread)
      active = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult, row,
                                     constant(plan.rowCount));
    mapVariables(plan.rows, row);
    for (Value cell : plan.loadedCells) {
      order(cell, "load", false);
      cellValues[cell] = loadScalar(firstAccess(cell));
    }
    emitBody(*plan.body);
    if (plan.storedCells.empty())
      return;
    // Not before the other threads have loaded what was there.
    for (Value cell : plan.storedCells)
      order(cell, "store", true);
    Value first =
        arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::eq, member, constant(0));
    guarded(conjunction(plan.team > 1 ? first : Value(), active), [&] {
      for (Value cell : plan.storedCells)
        storeScalar(firstAccess(cell), cellValues.lookup(cell));
    });
  }

  void emitBody(Block &block) {
    for (Operation &op : block.without_terminator())
      if (auto found = plan.columns.find(&op); found != plan.columns.end())
        emitColumns(found->second);
      else if (auto condition = dyn_cast<scf::IfOp>(op))
        emitCondition(condition);
      else
        emitScalar(op);
  }

  // Not a branch, for there may be barriers in it: a row for which the condition does not hold
  // loads and stores nothing there.
  void emitCondition(scf::IfOp op) {
    Value all = active, holds = uniform.lookup(op.getCondition());
    for (Block *block : {op.thenBlock(), op.elseBlock()}) {
      if (!block)
        continue;
      if (block == op.elseBlock())
        holds = arith::XOrIOp::create(builder, loc, holds, constant(builder.getI1Type(), 1));
      active = conjunction(all, holds);
      std::map<Key, Lanes> before = known;
      llvm::DenseMap<Value, Value> cells = cellValues;
      emitBody(*block);
      known = before;
      for (Value buffer : writtenBuffers(op))
        forget(buffer);
      for (auto &[cell, value] : cellValues)
        if (Value old = cells.lookup(cell); old && old != value)
          value = arith::SelectOp::create(builder, loc, holds, value, old);
    }
    active = all;
  }

  Operation *firstAccess(Value buffer) const {
    Operation *first = nullptr;
    nest.loop->walk([&](Operation *op) {
      auto found = plan.access.find(op);
      if (found == plan.access.end() || found->second.buffer != buffer)
        return WalkResult::advance();
      first = op;
      return WalkResult::interrupt();
    });
    return first;
  }

  void emitColumns(const Columns &columns) {
    if (columns.isOfNext)
      return;
    const Columns *maximum =
        columns.maximum ? &plan.columns.find(columns.maximum)->second : nullptr;
    for (Operation &op : *columns.body)
      if (auto found = plan.access.find(&op);
          found != plan.access.end() && !plan.cells.contains(found->second.buffer)) {
        bool fixed = plan.isFixed(columns, &op);
        std::string name = plan.signature(columns, &op);
        order(found->second.buffer, fixed ? name : name + "~", found->second.writes);
      }

    sums.clear();
    int64_t pieces = columns.pieces(), full = pieces / plan.threadsOfRow(),
            rest = pieces % plan.threadsOfRow();
    auto restGuard = [&]() -> Value {
      if (rest == 0)
        return active;
      Value inside =
          arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult, member, constant(rest));
      return conjunction(active, inside);
    };
    if (plan.isUnrolled(columns)) {
      SmallVector<Place> places;
      for (int64_t p = 0; p < full; ++p)
        places.push_back(
            placeOf(columns, member, p * plan.threadsOfRow(), active, p, plan.threadsOfRow()));
      if (rest != 0)
        places.push_back(placeOf(columns, member, full * plan.threadsOfRow(), restGuard(), full,
                                 plan.threadsOfRow()));
      emitPlaces(columns, places);
    } else {
      emitLoop(columns, maximum, full);
      std::map<Key, Lanes> before = known;
      SmallVector<Place> places;
      for (int64_t p = full / kPiecesAtOnce * kPiecesAtOnce; p < full; ++p)
        places.push_back(placeOf(columns, member, p * plan.threadsOfRow(), active, p));
      if (rest != 0)
        places.push_back(placeOf(columns, member, full * plan.threadsOfRow(), restGuard(), full));
      emitWithMaximum(columns, maximum, places);
      known = before;
    }
    if (maximum) {
      const Reduction &m = maximum->reductions.front(), &s = columns.reductions.front();
      Value own = sums.lookup(m.cell);
      shareSums(*maximum);
      sums[s.cell] = rescale(s, sums.lookup(s.cell), own, cellValues.lookup(m.cell));
    }
    shareSums(columns);
  }

  // The body for `places`; first the maximum, if there is one to find on the way: what was summed up
  // so far is then less the new one.
  void emitWithMaximum(const Columns &columns, const Columns *maximum, ArrayRef<Place> places) {
    if (!maximum)
      return emitPlaces(columns, places);
    const Reduction &m = maximum->reductions.front(), &s = columns.reductions.front();
    Value before = sums.lookup(m.cell), cell = cellValues.lookup(m.cell);
    emitPlaces(*maximum, places);
    Value largest = sums.lookup(m.cell);
    sums[s.cell] = rescale(s, sums.lookup(s.cell), before, largest);
    cellValues[m.cell] = largest;
    emitPlaces(columns, places);
    cellValues[m.cell] = cell;
  }

  // sum * exp(from - to), with the ops of the sum's terms.
  Value rescale(const Reduction &s, Value sum, Value from, Value to) {
    Operation *exp = s.term.getDefiningOp();
    Operation *difference = builder.clone(*exp->getOperand(0).getDefiningOp());
    difference->setOperands({from, to});
    Operation *factor = builder.clone(*exp);
    factor->setOperands(difference->getResults());
    return arith::MulFOp::create(builder, loc, sum, factor->getResult(0));
  }

  // The pieces of a thread that come as fours, in a loop.
  void emitLoop(const Columns &columns, const Columns *maximum, int64_t full) {
    int64_t turns = full / kPiecesAtOnce;
    if (turns == 0)
      return;
    SmallVector<Reduction> reductions = columns.reductions;
    SmallVector<Value> initial;
    for (const Reduction &reduction : reductions)
      initial.push_back(arith::ConstantOp::create(
          builder, loc,
          neutralOf(builder, reduction.combine, reduction.combine->getResult(0).getType())));
    if (maximum) {
      // Not -inf: it would be less itself where the first elements are -inf.
      reductions.push_back(maximum->reductions.front());
      auto type = cast<FloatType>(reductions.back().combine->getResult(0).getType());
      initial.push_back(arith::ConstantOp::create(
          builder, loc,
          builder.getFloatAttr(type,
                               APFloat::getLargest(type.getFloatSemantics(), /*Negative=*/true))));
    }
    for (Value buffer : writtenBuffers(columns.outermost))
      forget(buffer);
    std::map<Key, Lanes> before = known;
    // Pieces in the loop are none of those that are known.
    for (auto entry = known.begin(); entry != known.end();)
      entry = known.erase(entry);
    Value zero = constant(0), end = constant(turns * kPiecesAtOnce * plan.threadsOfRow()),
          step = constant(kPiecesAtOnce * plan.threadsOfRow());
    auto loop = scf::ForOp::create(builder, loc, zero, end, step, initial);
    {
      OpBuilder::InsertionGuard restore(builder);
      if (initial.empty())
        builder.setInsertionPoint(loop.getBody()->getTerminator());
      else
        builder.setInsertionPointToEnd(loop.getBody());
      for (auto [reduction, value] : llvm::zip(reductions, loop.getRegionIterArgs()))
        sums[reduction.cell] = value;
      Value first = add(loop.getInductionVar(), member);
      SmallVector<Place> places;
      for (int64_t p = 0; p < kPiecesAtOnce; ++p)
        places.push_back(placeOf(columns, first, p * plan.threadsOfRow(), active, p));
      emitWithMaximum(columns, maximum, places);
      if (!initial.empty()) {
        SmallVector<Value> yielded;
        for (const Reduction &reduction : reductions)
          yielded.push_back(sums.lookup(reduction.cell));
        scf::YieldOp::create(builder, loc, yielded);
      }
    }
    for (auto [reduction, value] : llvm::zip(reductions, loop.getResults()))
      sums[reduction.cell] = value;
    known = before;
  }

  // Adds a piece's terms to the thread's sum: neighbours as a tree, then to what is there.
  void addTerms(const Reduction &reduction, const Columns &columns, const Place &place) override {
    Lanes terms = lookup(reduction.term, &columns, &place);
    Type type = reduction.combine->getResult(0).getType();
    if (terms.size() == 1)
      terms.resize(columns.lanes, terms[0]);
    while (terms.size() > 1) {
      Lanes halves;
      for (size_t i = 0; i < terms.size() / 2; ++i)
        halves.push_back(combine(reduction.combine, terms[2 * i], terms[2 * i + 1]));
      if (terms.size() % 2 != 0)
        halves.push_back(terms.back());
      terms = halves;
    }
    Value term = terms[0];
    if (place.guard) {
      Value neutral =
          arith::ConstantOp::create(builder, loc, neutralOf(builder, reduction.combine, type));
      term = arith::SelectOp::create(builder, loc, place.guard, term, neutral);
    }
    sums[reduction.cell] = combine(reduction.combine, sums.lookup(reduction.cell), term);
  }

  //===--- Sums of a team -------------------------------------------------===//

  Value shuffle(Value value, int64_t distance) {
    Type type = value.getType(), i32 = builder.getI32Type();
    if (type.getIntOrFloatBitWidth() == 32)
      return gpu::ShuffleOp::create(builder, loc, value, int32_t(distance), int32_t(kWarp),
                                    gpu::ShuffleMode::XOR)
          .getShuffleResult();
    Type i64 = builder.getI64Type();
    Value bits = type == i64 ? value : Value(arith::BitcastOp::create(builder, loc, i64, value));
    Value low = arith::TruncIOp::create(builder, loc, i32, bits);
    Value shift = constant(i64, 32);
    Value high = arith::TruncIOp::create(builder, loc, i32,
                                         arith::ShRUIOp::create(builder, loc, bits, shift));
    low = arith::ExtUIOp::create(builder, loc, i64, shuffle(low, distance));
    high = arith::ExtUIOp::create(builder, loc, i64, shuffle(high, distance));
    bits =
        arith::OrIOp::create(builder, loc, low, arith::ShLIOp::create(builder, loc, high, shift));
    return type == i64 ? bits : Value(arith::BitcastOp::create(builder, loc, type, bits));
  }

  Value butterfly(Operation *op, Value value, int64_t width) {
    for (int64_t distance = width / 2; distance > 0; distance /= 2)
      value = combine(op, value, shuffle(value, distance));
    return value;
  }

  // Every thread of the team gets the sums of all of its threads.
  void shareSums(const Columns &columns) {
    if (columns.reductions.empty())
      return;
    int64_t warps = plan.team / kWarp;
    for (const Reduction &r : columns.reductions)
      sums[r.cell] = butterfly(r.combine, sums.lookup(r.cell), std::min(plan.team, kWarp));
    if (warps > 1) {
      // Each warp's sum to shared memory, a place of its own for every sum of the kernel. It is
      // read by 16 bytes: what no warp writes there is filled.
      Value lane = arith::RemUIOp::create(builder, loc, member, constant(kWarp));
      Value warp = arith::DivUIOp::create(builder, loc, member, constant(kWarp));
      Value team = plan.teams > 1
                       ? Value(arith::DivUIOp::create(builder, loc, thread, constant(plan.team)))
                       : Value();
      auto at = [&](int64_t width, Value number, int64_t more) {
        Value sum = team ? add(multiply(team, width), number) : number;
        if (more != 0 || !sum)
          sum = add(sum, constant(more));
        return resize(sum, builder.getIndexType());
      };
      struct Place {
        Value memory;
        int64_t width;    // elements of a team
        VectorType piece; // of 16 bytes
      };
      SmallVector<Place> places;
      for (const Reduction &r : columns.reductions) {
        Type type = r.combine->getResult(0).getType();
        int64_t each = kPieceBytes * 8 / type.getIntOrFloatBitWidth();
        int64_t width = llvm::alignTo(warps, each);
        auto space = gpu::AddressSpaceAttr::get(builder.getContext(), gpu::AddressSpace::Workgroup);
        Value memory = kernel.addWorkgroupAttribution(
            MemRefType::get({plan.teams * width}, type, MemRefLayoutAttrInterface(), space), loc);
        kernel.setWorkgroupAttributionAttr(kernel.getNumWorkgroupAttributions() - 1,
                                           LLVM::LLVMDialect::getAlignAttrName(),
                                           builder.getI64IntegerAttr(kPieceBytes));
        places.push_back({memory, width, VectorType::get({each}, type)});
      }
      auto isLane = [&](int64_t number) -> Value {
        return arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::eq, lane,
                                     constant(number));
      };
      guarded(isLane(0), [&] {
        for (auto [r, place] : llvm::zip(columns.reductions, places))
          memref::StoreOp::create(builder, loc, sums.lookup(r.cell), place.memory,
                                  ValueRange{at(place.width, warp, 0)});
      });
      for (auto [r, place] : llvm::zip(columns.reductions, places))
        if (int64_t more = place.width - warps) {
          Value fills =
              arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult, warp, constant(more));
          guarded(conjunction(isLane(1), fills), [&] {
            Value neutral = arith::ConstantOp::create(
                builder, loc, neutralOf(builder, r.combine, place.piece.getElementType()));
            memref::StoreOp::create(builder, loc, neutral, place.memory,
                                    ValueRange{at(place.width, warp, warps)});
          });
        }
      gpu::BarrierOp::create(builder, loc);
      since.clear();
      for (auto [r, place] : llvm::zip(columns.reductions, places)) {
        Value sum, parts;
        int64_t each = place.piece.getNumElements();
        for (int64_t w = 0; w < warps; ++w) {
          if (w % each == 0)
            parts = vector::LoadOp::create(builder, loc, place.piece, place.memory,
                                           ValueRange{at(place.width, Value(), w)},
                                           /*nontemporal=*/false, alignmentOf(place.piece));
          Value part = vector::ExtractOp::create(builder, loc, parts, w % each);
          sum = combine(r.combine, sum, part);
        }
        sums[r.cell] = sum;
      }
    }
    for (const Reduction &r : columns.reductions)
      cellValues[r.cell] = combine(r.combine, cellValues.lookup(r.cell), sums.lookup(r.cell));
  }

  llvm::MapVector<Value, Value> sums; // the thread's, of the column loop that is emitted
};
} // namespace

void teams::emitRows(const Nest &nest, const Plan &plan) { RowEmitter(nest, plan).emit(); }
