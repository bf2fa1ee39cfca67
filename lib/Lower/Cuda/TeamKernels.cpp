//===- TeamKernels.cpp - Rows per team of threads, columns in pieces ------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A nest of independent rows is
//
//   for row { scalars; for columns { maps, sums }; scalars; for columns { ... } ... }
//
// A row belongs to a team of 1 to 1024 threads. Every thread computes the scalars. The columns
// are cut into pieces of `lanes` neighbours, 16 bytes of the widest element type, and piece p
// belongs to thread p mod team. A thread goes through its pieces one after the other, unrolled
// if they are few. So all column loops of a row find an element in the same thread: what one
// writes and another reads at the same index is handed over in registers. Where indices differ, a
// barrier stands between.
//
// A sum over columns (any combining op that may be reassociated) is summed by lanes as a tree,
// then over a thread's pieces, then over lanes of the warp by shuffles in butterfly order, then
// over warps through shared memory: one order, whatever the scheduling.
//
// A buffer of which a row has one element ("cell") is a value in the thread; the first thread
// of the team stores it when the row is done.
//
// A nest whose loops are all parallel has no rows: its pieces belong to all threads of the grid.
//
// Loops that are not parallel stay loops in the thread; what they add to at one place is carried
// in registers. If they are long and only add up (a sum over rows), threads of a block and blocks
// share them, and a second kernel adds up the partial sums. A sum of rows by index is done by the
// first row of each index.
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/Cuda/Nest.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Affine/Utils.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include <cmath>
#include <map>
#include <set>

using namespace mlir;
using namespace mlir::llamac;

// The most pieces of a thread that are unrolled, and how many at a time in a loop.
static constexpr int64_t kUnrolledPieces = 8, kPiecesAtOnce = 4;
static constexpr int64_t kWarp = 32, kMostThreads = 1024, kPieceBytes = 16;
// Blocks of kThreadsPerBlock that keep a GPU of 132 multiprocessors busy.
static constexpr int64_t kBlocksOfGpu = 264;
// Rows of a block that finds the rows of one index.
static constexpr int64_t kRowsOfList = 64;
// Rows of a column sum whose elements are loaded before they are added.
static constexpr int64_t kRowsAtOnce = 4;

namespace {
// A cell to which the columns add: `store(combine(load, term))`.
struct Reduction {
  Value cell;
  Operation *load, *combine, *store;
  Value term;
};

// One loop nest over the columns of a row, or the whole of a nest without rows.
struct Columns {
  Operation *outermost;
  SmallVector<Operation *> parallel, serial;
  Block *body;
  int64_t elements = 1; // of the parallel loops together
  int64_t lanes = 1;    // neighbours in a piece: divides the innermost parallel loop
  SmallVector<Reduction> reductions;
  std::string shape; // sizes of the parallel loops

  int64_t pieces() const { return elements / lanes; }
  Value inner() const { return parallel.empty() ? Value() : inductionVariableOf(parallel.back()); }
};

// What is known of a nest before code is made.
struct Plan {
  SmallVector<Operation *> rows; // parallel loops whose iterations are rows; may be empty
  int64_t rowCount = 1;
  Block *body = nullptr;                          // of the row
  llvm::MapVector<Operation *, Columns> columns;  // loops in it
  llvm::DenseMap<Operation *, LoopAccess> access; // all loads and stores
  llvm::DenseMap<Operation *, std::optional<LinearIndex>> element;
  llvm::SetVector<Value> cells, loadedCells, storedCells;
  llvm::SetVector<Value> scratch; // stack buffers that need memory, one for each row
  int64_t team = 1, teams = 1;    // threads of a team, teams of a block
  // Sums over the serial loops of a nest without rows, if those are cut into parts: pieces of a
  // block beside each other, parts.
  int64_t width = 0, parts = 1;
  // A sum of rows by index, `for row { if (...) { for columns { table[index] += ... } } }`:
  // where the columns are.
  scf::IfOp condition;

  bool isUnrolled(const Columns &c) const {
    return llvm::divideCeil(c.pieces(), team) <= kUnrolledPieces;
  }
};
} // namespace

static bool mayReassociate(Operation *op) {
  auto math = dyn_cast<arith::ArithFastMathInterface>(op);
  return isa<arith::AddIOp, arith::MaxSIOp, arith::MinSIOp, arith::MaximumFOp, arith::MinimumFOp>(
             op) ||
         (math && isa<arith::AddFOp>(op) &&
          bitEnumContainsAll(math.getFastMathFlagsAttr().getValue(),
                             arith::FastMathFlags::reassoc));
}

// What `combine` leaves unchanged.
static TypedAttr neutralOf(OpBuilder &builder, Operation *combine, Type type) {
  if (isa<arith::AddFOp, arith::AddIOp>(combine))
    return builder.getZeroAttr(type);
  bool isMax = isa<arith::MaximumFOp, arith::MaxSIOp>(combine);
  if (auto real = dyn_cast<FloatType>(type))
    return builder.getFloatAttr(type, APFloat::getInf(real.getFloatSemantics(), isMax));
  unsigned width = type.getIntOrFloatBitWidth();
  return builder.getIntegerAttr(type, isMax ? APInt::getSignedMinValue(width)
                                            : APInt::getSignedMaxValue(width));
}

//===----------------------------------------------------------------------===//
// The plan
//===----------------------------------------------------------------------===//

namespace {
class Planner {
public:
  explicit Planner(const Nest &nest) : nest(nest) {}

  std::optional<Plan> plan() {
    nest.loop->walk([&](Operation *op) {
      if (std::optional<LoopAccess> access = loopAccessOf(op)) {
        made.access[op] = *access;
        made.element[op] = linearElement(*access);
      }
    });
    SmallVector<Operation *> band = perfectBand(nest.loop);
    if (band.empty())
      return std::nullopt;
    if (scf::ForOp columns = columnsLoop(nest.loop); columns && columns != band.back())
      return planByIndex(columns);
    SmallVector<Operation *> parallel = parallelLoops(band, writtenBuffers(nest.loop), true);
    // All in one: no rows. A sum that is innermost is better shared by a team.
    Block &innermost = band.back()->getRegion(0).front();
    if (!parallel.empty() && isStraight(innermost) &&
        (parallel.size() == band.size() || parallel.back() == band.back())) {
      if (!addColumns(nest.loop, /*withCells=*/false))
        return std::nullopt;
      Columns &columns = made.columns.front().second;
      bool isSum = isLongSum(columns);
      chooseLanes();
      if (isSum) {
        chooseParts(columns);
        return std::move(made);
      }
      made.team = kThreadsPerBlock;
      while (made.team > kWarp && made.team / 2 >= columns.pieces())
        made.team /= 2;
      return std::move(made);
    }
    return planRows(band, parallel);
  }

private:
  std::optional<Plan> planByIndex(scf::ForOp loop) {
    made.condition = dyn_cast<scf::IfOp>(loop->getParentOp());
    made.rows = {nest.loop};
    made.body = &nest.loop->getRegion(0).front();
    made.rowCount = constantRange(nest.loop)->size();
    if (!made.condition || made.condition->getParentOp() != nest.loop ||
        made.condition.elseBlock() || made.condition.getNumResults() != 0 || !constantRange(loop) ||
        made.rowCount == 0 || made.rowCount > INT32_MAX || constantRange(nest.loop)->low != 0)
      return std::nullopt;
    // Before the columns only scalars; nothing behind them.
    for (auto [block, last] : {std::pair(made.body, made.condition.getOperation()),
                               std::pair(made.condition.thenBlock(), loop.getOperation())})
      for (Operation &op : block->without_terminator())
        if (&op != last && (!isScalarOrLoad(op) || last->isBeforeInBlock(&op)))
          return std::nullopt;
    Columns columns;
    columns.outermost = loop;
    columns.parallel = {loop.getOperation()};
    columns.body = loop.getBody();
    columns.elements = constantRange(loop)->size();
    columns.shape = std::to_string(columns.elements);
    if (columns.elements == 0 || columns.elements > INT32_MAX || !isStraight(*columns.body))
      return std::nullopt;
    made.columns[loop] = columns;
    chooseLanes();
    // One element of one table is added to.
    Columns &placed = made.columns.front().second;
    if (!findReductions(placed, /*ofElements=*/true, /*inOrder=*/true) ||
        placed.reductions.size() != 1)
      return std::nullopt;
    Value table = placed.reductions.front().cell;
    for (auto &[op, access] : made.access)
      if (access.buffer == table && !isSumOf(op, placed))
        return std::nullopt;
    if (!innerStep(placed.reductions.front().store, placed))
      return std::nullopt;
    int64_t pieces = llvm::alignTo(placed.pieces(), kWarp);
    made.team = std::min(pieces, kThreadsPerBlock);
    return std::move(made);
  }

  bool isScalarOrLoad(Operation &op) const {
    auto found = made.access.find(&op);
    return found == made.access.end() ? isScalar(op) : !found->second.writes;
  }

  std::optional<Plan> planRows(ArrayRef<Operation *> band, ArrayRef<Operation *> parallel) {
    // Rows: the parallel loops that contain all others; none if there is one iteration only.
    size_t count = 0;
    while (count < parallel.size() && parallel[count] == band[count])
      ++count;
    if (count == 0)
      return std::nullopt;
    made.rows.assign(band.begin(), band.begin() + count);
    for (Operation *loop : made.rows)
      made.rowCount *= constantRange(loop)->size();
    made.body = &made.rows.back()->getRegion(0).front();
    if (made.rowCount == 0 || made.rowCount > INT32_MAX)
      return std::nullopt;
    findCells();
    for (Operation &op : made.body->without_terminator()) {
      if (isLoop(op)) {
        if (!addColumns(&op, /*withCells=*/true))
          return std::nullopt;
      } else if (!made.access.contains(&op) && !isScalar(op)) {
        return std::nullopt;
      }
    }
    if (made.columns.empty())
      return std::nullopt; // a thread per row
    chooseLanes();
    chooseTeam();
    findScratch();
    return std::move(made);
  }

  static bool isScalar(Operation &op) {
    return op.getNumRegions() == 0 && isMemoryEffectFree(&op) &&
           !isa<affine::AffineMinOp, affine::AffineMaxOp>(op);
  }

  bool isStraight(Block &block) const {
    return llvm::all_of(block.without_terminator(),
                        [&](Operation &op) { return made.access.contains(&op) || isScalar(op); });
  }

  // Whether `value` is the same in all of a row.
  bool isRowValue(Value value) const {
    if (!nest.loop->isAncestor(value.getParentRegion()->getParentOp()))
      return true;
    return llvm::any_of(made.rows,
                        [&](Operation *loop) { return inductionVariableOf(loop) == value; });
  }

  // Cells: buffers with one index in all of the row.
  void findCells() {
    llvm::MapVector<Value, SmallVector<Operation *>> accesses;
    nest.loop->walk([&](Operation *op) {
      if (auto found = made.access.find(op); found != made.access.end())
        accesses[found->second.buffer].push_back(op);
    });
    for (auto &[buffer, ops] : accesses) {
      const std::optional<LinearIndex> &first = made.element[ops.front()];
      bool isCell =
          first && llvm::all_of(ops, [&](Operation *op) {
            const std::optional<LinearIndex> &element = made.element[op];
            if (!element)
              return false;
            LinearIndex difference = *element;
            difference.add(*first, -1);
            return difference.constant == 0 &&
                   llvm::all_of(difference.coefficients, [](auto &t) { return t.second == 0; }) &&
                   llvm::all_of(element->coefficients,
                                [&](auto &t) { return isRowValue(t.first); });
          });
      if (!isCell)
        continue;
      made.cells.insert(buffer);
      if (!made.access[ops.front()].writes)
        made.loadedCells.insert(buffer);
      if (!buffer.getDefiningOp<memref::AllocaOp>() &&
          llvm::any_of(ops, [&](Operation *op) { return made.access[op].writes; }))
        made.storedCells.insert(buffer);
    }
  }

  bool addColumns(Operation *outermost, bool withCells) {
    Columns columns;
    columns.outermost = outermost;
    SmallVector<Operation *> band = perfectBand(outermost);
    if (band.empty())
      return false;
    columns.body = &band.back()->getRegion(0).front();
    if (!isStraight(*columns.body))
      return false;
    SmallVector<Value> written;
    for (Value buffer : writtenBuffers(outermost))
      if (!withCells || !made.cells.contains(buffer))
        written.push_back(buffer);
    columns.parallel = parallelLoops(band, written, /*own=*/!withCells);
    for (Operation *loop : band)
      if (!llvm::is_contained(columns.parallel, loop))
        columns.serial.push_back(loop);
    if (columns.parallel.empty())
      return false;
    for (Operation *loop : columns.parallel) {
      int64_t size = constantRange(loop)->size();
      columns.elements *= size;
      columns.shape += std::to_string(size) + "x";
    }
    if (columns.elements == 0 || llvm::any_of(columns.serial, [](Operation *loop) {
          return constantRange(loop)->size() == 0;
        }))
      return false;
    if (withCells && !findReductions(columns))
      return false;
    made.columns[outermost] = columns;
    return true;
  }

  static int64_t rowsOf(const Columns &columns) {
    int64_t rows = 1;
    for (Operation *loop : columns.serial)
      rows *= constantRange(loop)->size();
    return rows;
  }

  // Whether the serial loops only sum up, and are long enough to share them among threads.
  bool isLongSum(Columns &columns) {
    int64_t rows = rowsOf(columns);
    if (rows >= 64 && rows <= INT32_MAX && columns.elements <= INT32_MAX &&
        findReductions(columns, /*ofElements=*/true))
      return true;
    columns.reductions.clear();
    return false;
  }

  // How many neighbours are in a block, and into how many parts the rows are cut to fill the
  // GPU. Partial sums are at most one for 128 rows.
  void chooseParts(const Columns &columns) {
    made.team = kThreadsPerBlock;
    int64_t most = std::max<int64_t>(1, rowsOf(columns) / 128);
    for (made.width = kWarp; made.width > kWarp / 4; made.width /= 2)
      if (llvm::divideCeil(columns.pieces(), made.width) * most >= kBlocksOfGpu)
        break;
    int64_t beside = llvm::divideCeil(columns.pieces(), made.width);
    made.parts = std::clamp<int64_t>(llvm::divideCeil(kBlocksOfGpu, beside), 1, most);
  }

  // Cells (or elements) that the columns write must be sums, and not be used otherwise.
  bool findReductions(Columns &columns, bool ofElements = false, bool inOrder = false) {
    for (Operation &op : columns.body->without_terminator()) {
      auto found = made.access.find(&op);
      if (found == made.access.end() || !found->second.writes ||
          (!ofElements && !made.cells.contains(found->second.buffer)))
        continue;
      Reduction reduction;
      reduction.cell = found->second.buffer;
      reduction.store = &op;
      reduction.combine = op.getOperand(0).getDefiningOp();
      if ((!ofElements && !columns.serial.empty()) || !reduction.combine ||
          reduction.combine->getNumOperands() != 2 ||
          (!inOrder && !mayReassociate(reduction.combine)) ||
          reduction.combine->getBlock() != columns.body || !reduction.combine->hasOneUse())
        return false;
      Type type = reduction.combine->getResult(0).getType();
      if (!inOrder && !type.isF32() && !type.isInteger(32) && !type.isF64() && !type.isInteger(64))
        return false;
      reduction.load = nullptr;
      for (Operation &other : columns.body->without_terminator()) {
        auto access = made.access.find(&other);
        if (access == made.access.end() || access->second.buffer != reduction.cell || &other == &op)
          continue;
        if (reduction.load || access->second.writes)
          return false;
        reduction.load = &other;
      }
      if (!reduction.load || !reduction.load->hasOneUse())
        return false;
      if (ofElements && (!isFixed(made, columns, &op) ||
                         signature(made, columns, &op) != signature(made, columns, reduction.load)))
        return false;
      Value loaded = reduction.load->getResult(0);
      Value a = reduction.combine->getOperand(0), b = reduction.combine->getOperand(1);
      if ((a == loaded) == (b == loaded))
        return false;
      reduction.term = a == loaded ? b : a;
      columns.reductions.push_back(reduction);
    }
    return !ofElements || !columns.reductions.empty();
  }

  // The coefficient of a piece's innermost loop in an address, if the address is a sum that has
  // it directly.
  std::optional<int64_t> innerStep(Operation *op, const Columns &columns) const {
    const std::optional<LinearIndex> &element = made.element.at(op);
    if (!element)
      return std::nullopt;
    for (auto [value, coefficient] : element->coefficients)
      if (value != columns.inner() && dependsOn(value, columns))
        return std::nullopt;
    return element->of(columns.inner());
  }

  // Whether a value of the body may differ between neighbours.
  static bool dependsOn(Value value, const Columns &columns) {
    Operation *op = value.getDefiningOp();
    if (!op || op->getBlock() != columns.body)
      return value == columns.inner();
    return llvm::any_of(op->getOperands(), [&](Value v) { return dependsOn(v, columns); });
  }

  // Neighbours per piece: 16 bytes of the widest type that is accessed one beside the other, if
  // addresses are multiples of it.
  void chooseLanes() {
    std::map<std::string, int64_t> ofShape;
    for (auto &[outermost, columns] : made.columns) {
      int64_t lanes = kPieceBytes;
      int64_t inner = constantRange(columns.parallel.back())->size();
      bool any = false;
      for (Operation &op : *columns.body)
        if (made.access.contains(&op) && innerStep(&op, columns) == 1 && !isSumOf(&op, columns)) {
          any = true;
          Type type = cast<MemRefType>(made.access[&op].buffer.getType()).getElementType();
          lanes = std::min<int64_t>(
              lanes, kPieceBytes / std::max<int64_t>(1, type.getIntOrFloatBitWidth() / 8));
        }
      if (!any)
        lanes = 1;
      while (lanes > 1 &&
             (inner % lanes != 0 || constantRange(columns.parallel.back())->low % lanes != 0 ||
              !llvm::all_of(*columns.body, [&](Operation &op) {
                return !made.access.contains(&op) || innerStep(&op, columns) != 1 ||
                       isMultiple(&op, columns, lanes);
              })))
        lanes /= 2;
      auto [found, isNew] = ofShape.try_emplace(columns.shape, lanes);
      if (!isNew)
        found->second = std::min(found->second, lanes);
    }
    for (auto &[outermost, columns] : made.columns)
      columns.lanes = ofShape[columns.shape];
  }

  // Whether an access is of a sum that stays in registers.
  static bool isSumOf(Operation *op, const Columns &columns) {
    return llvm::any_of(columns.reductions,
                        [&](const Reduction &r) { return op == r.load || op == r.store; });
  }

  // Whether an access of neighbours begins at a multiple of `lanes`.
  bool isMultiple(Operation *op, const Columns &columns, int64_t lanes) const {
    const LinearIndex &element = *made.element.at(op);
    return element.constant % lanes == 0 && llvm::all_of(element.coefficients, [&](auto &term) {
             return term.first == columns.inner() || term.second % lanes == 0;
           });
  }

  // Threads of a team: few idle ones, two to four pieces each; a warp for short rows.
  void chooseTeam() {
    int64_t most = 1, all = 0;
    for (auto &[outermost, columns] : made.columns) {
      most = std::max(most, columns.pieces());
      all += columns.pieces();
    }
    double target = most <= 2 ? 1 : most <= 32 ? most / 2 : std::clamp<int64_t>(most / 2, 32, 512);
    double best = 0;
    for (int64_t team = 1; team <= kMostThreads; team += team < kWarp ? team : kWarp) {
      int64_t slots = 0;
      for (auto &[outermost, columns] : made.columns)
        slots += llvm::divideCeil(columns.pieces(), team) * team;
      double score = double(slots) / all * (1 + 0.05 * std::abs(std::log2(team / target)));
      if (best == 0 || score < best)
        best = score, made.team = team;
    }
    if (made.team <= kThreadsPerBlock / 2) {
      made.teams = kThreadsPerBlock / made.team;
      int64_t fewer = made.teams;
      while (fewer > 1 && (made.rowCount % fewer != 0 || (fewer * made.team) % kWarp != 0))
        --fewer;
      if (fewer * made.team >= 128)
        made.teams = fewer;
      made.teams = std::min<int64_t>(
          made.teams,
          llvm::alignTo(llvm::divideCeil(made.rowCount, 1) * made.team, kWarp) / made.team);
      made.teams = std::max<int64_t>(made.teams, 1);
    }
  }

  // Stack buffers whose elements do not stay in one thread's registers.
  void findScratch() {
    nest.function.walk([&](memref::AllocaOp alloca) {
      Value buffer = alloca.getResult();
      if (made.cells.contains(buffer))
        return;
      std::set<std::string> places;
      for (Operation *user : buffer.getUsers()) {
        auto found = made.columns.find(made.body->findAncestorOpInBlock(*user));
        if (found == made.columns.end() || !made.isUnrolled(found->second) ||
            !found->second.serial.empty() || user->getBlock() != found->second.body) {
          made.scratch.insert(buffer);
          return;
        }
        places.insert(signature(made, found->second, user));
      }
      if (places.size() > 1)
        made.scratch.insert(buffer);
    });
  }

public:
  // Whether an access has the same element in every iteration of the serial loops.
  static bool isFixed(const Plan &plan, const Columns &columns, Operation *op) {
    const std::optional<LinearIndex> &element = plan.element.at(op);
    return element && llvm::all_of(element->coefficients, [&](const auto &term) {
             Value value = term.first;
             return !columns.outermost->isAncestor(value.getParentRegion()->getParentOp()) ||
                    llvm::any_of(columns.parallel, [&](Operation *loop) {
                      return inductionVariableOf(loop) == value;
                    });
           });
  }

  // Names the element that an access has in a piece: equal names, equal elements.
  static std::string signature(const Plan &plan, const Columns &columns, Operation *op) {
    std::string text;
    llvm::raw_string_ostream out(text);
    out << columns.shape << columns.lanes;
    const std::optional<LinearIndex> &element = plan.element.at(op);
    if (!element) {
      out << "?" << op;
      return text;
    }
    SmallVector<std::string> terms;
    for (auto [value, coefficient] : element->coefficients) {
      std::string term;
      llvm::raw_string_ostream termOut(term);
      auto *loop = llvm::find_if(columns.parallel,
                                 [v = value](Operation *l) { return inductionVariableOf(l) == v; });
      if (loop != columns.parallel.end())
        termOut << " p" << loop - columns.parallel.begin();
      else
        termOut << " " << value.getAsOpaquePointer();
      termOut << "*" << coefficient;
      terms.push_back(term);
    }
    llvm::sort(terms);
    for (const std::string &term : terms)
      out << term;
    out << " " << element->constant;
    return text;
  }

private:
  Nest nest;
  Plan made;
};

//===----------------------------------------------------------------------===//
// The code
//===----------------------------------------------------------------------===//

// Index base + offset of a parallel loop.
struct Index {
  Value base; // i32 or i64
  int64_t offset = 0;
};

// Where a piece is.
struct Place {
  SmallVector<Index> indices; // of the parallel loops; the innermost at the first lane
  Value guard;                // i1: whether the piece is there; none: it is
  int64_t ordinal = 0;        // of the thread's pieces
};

using Lanes = SmallVector<Value>; // one value for all neighbours, or one each

class Emitter {
public:
  Emitter(const Nest &nest, const Plan &plan)
      : nest(nest), plan(plan), builder(nest.loop->getContext()), loc(nest.loop->getLoc()) {}

  void emit() {
    if (plan.condition)
      return emitByIndex();
    int64_t total = 1;
    if (plan.rows.empty()) {
      const Columns &columns = plan.columns.front().second;
      total = columns.elements;
      blocks = plan.width == 0 ? llvm::divideCeil(columns.pieces(), plan.team)
                               : llvm::divideCeil(columns.pieces(), plan.width) * plan.parts;
    } else {
      blocks = llvm::divideCeil(plan.rowCount, plan.teams);
    }
    numberType = total > INT32_MAX ? builder.getI64Type() : builder.getI32Type();
    threads = plan.team * plan.teams;

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
    // Partial sums: for each sum, for each part its elements.
    if (plan.parts > 1)
      for (const Reduction &r : plan.columns.front().second.reductions)
        scratch.push_back(memref::AllocOp::create(
            builder, loc, MemRefType::get({plan.parts, total}, r.combine->getResult(0).getType())));
    kernel = makeKernel(nest, blocks, threads, scratch);
    begin(scratch.size());
    Value block =
        blocks > 1 ? number(gpu::BlockIdOp::create(builder, loc, gpu::Dimension::x)) : Value();
    if (!plan.rows.empty())
      emitRow(block);
    else if (plan.width == 0)
      emitAll(block);
    else
      emitParts(block);
    if (plan.parts > 1) {
      threads = kThreadsPerBlock / 2;
      blocks = llvm::divideCeil(total, threads);
      kernel = makeKernel(nest, blocks, threads, scratch, "_sum");
      begin(scratch.size());
      emitSum();
    }
  }

private:
  // Goes to an empty kernel: its buffers, constants, thread number.
  void begin(unsigned scratch) {
    flat.clear();
    uniform.clear();
    known.clear();
    builder.setInsertionPoint(kernel.getBody().front().getTerminator());
    unsigned arguments = nest.function.getNumArguments();
    for (auto [i, buffer] : llvm::enumerate(plan.scratch))
      flat[buffer] = flatten(kernel.getArgument(arguments + i));
    for (BlockArgument argument : nest.function.getArguments())
      uniform.map(argument, kernel.getArgument(argument.getArgNumber()));
    for (Operation &op : nest.function.getBody().front().without_terminator())
      if (&op != nest.loop && !isa<memref::AllocaOp>(op))
        builder.clone(op, uniform);

    partial.clear();
    for (unsigned i = plan.scratch.size(); i < scratch; ++i)
      partial.push_back(flatten(kernel.getArgument(arguments + i)));
    thread = number(gpu::ThreadIdOp::create(builder, loc, gpu::Dimension::x));
  }

  //===--- Small things ---------------------------------------------------===//

  Value number(Value index) {
    return arith::IndexCastUIOp::create(builder, loc, numberType, index);
  }
  Value constant(Type type, int64_t value) {
    return arith::ConstantOp::create(builder, loc, builder.getIntegerAttr(type, value));
  }
  Value constant(int64_t value) { return constant(numberType, value); }
  Value add(Value a, Value b) {
    auto flags = arith::IntegerOverflowFlags::nsw | arith::IntegerOverflowFlags::nuw;
    return !a ? b : !b ? a : Value(arith::AddIOp::create(builder, loc, a, b, flags));
  }
  Value multiply(Value a, int64_t factor) {
    auto flags = arith::IntegerOverflowFlags::nsw | arith::IntegerOverflowFlags::nuw;
    return factor == 1 ? a
                       : Value(arith::MulIOp::create(builder, loc, a, constant(a.getType(), factor),
                                                     flags));
  }
  // `value`, not negative, as a number of `type`.
  Value resize(Value value, Type type) {
    if (value.getType() == type)
      return value;
    if (value.getType().isIndex() || type.isIndex())
      return arith::IndexCastUIOp::create(builder, loc, type, value);
    if (type.isInteger(64))
      return arith::ExtUIOp::create(builder, loc, type, value);
    return arith::TruncIOp::create(builder, loc, type, value);
  }
  Value conjunction(Value a, Value b) {
    return !a ? b : !b ? a : Value(arith::AndIOp::create(builder, loc, a, b));
  }
  // What `make` makes if `guard` holds, else zero.
  Value guarded(Value guard, Type type, llvm::function_ref<Value()> make) {
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
  void guarded(Value guard, llvm::function_ref<void()> make) {
    if (!guard)
      return make();
    auto ifOp = scf::IfOp::create(builder, loc, guard, /*withElseRegion=*/false);
    OpBuilder::InsertionGuard restore(builder);
    builder.setInsertionPoint(ifOp.thenBlock()->getTerminator());
    make();
  }
  // A buffer as its elements, one after the other.
  Value flatten(Value buffer) {
    auto type = cast<MemRefType>(buffer.getType());
    if (type.getRank() == 1)
      return buffer;
    auto flatType = MemRefType::get({type.getNumElements()}, type.getElementType(),
                                    MemRefLayoutAttrInterface(), type.getMemorySpace());
    return memref::ReinterpretCastOp::create(builder, loc, flatType, buffer, int64_t(0),
                                             ArrayRef<int64_t>{type.getNumElements()},
                                             ArrayRef<int64_t>{1});
  }
  Value flatBuffer(Value buffer) {
    if (Value found = flat.lookup(buffer))
      return found;
    OpBuilder::InsertionGuard restore(builder);
    Value mapped = uniform.lookup(buffer);
    builder.setInsertionPointAfterValue(mapped);
    return flat[buffer] = flatten(mapped);
  }

  //===--- Numbers --------------------------------------------------------===//

  // The variables of loops from the number of an iteration of them together.
  SmallVector<Value> iterations(ArrayRef<Operation *> loops, Value together, int64_t lanes = 1) {
    SmallVector<Value> values(loops.size());
    for (size_t i = loops.size(); i-- > 0;) {
      LoopRange range = *constantRange(loops[i]);
      int64_t size = range.size() / (i + 1 == loops.size() ? lanes : 1);
      Value value = together;
      if (i > 0) {
        if (size == 1) {
          value = constant(together.getType(), 0);
        } else {
          Value by = constant(together.getType(), size);
          value = arith::RemUIOp::create(builder, loc, together, by);
          together = arith::DivUIOp::create(builder, loc, together, by);
        }
      }
      values[i] = value;
    }
    return values;
  }

  // Indices of the parallel loops in piece `first` + `more`.
  Place placeOf(const Columns &columns, Value first, int64_t more, Value guard, int64_t ordinal) {
    Place place;
    place.guard = guard;
    place.ordinal = ordinal;
    int64_t low = constantRange(columns.parallel.back())->low;
    if (columns.parallel.size() == 1) {
      place.indices.push_back({multiply(first, columns.lanes), more * columns.lanes + low});
      return place;
    }
    if (more != 0)
      first = add(first, constant(first.getType(), more));
    SmallVector<Value> values = iterations(columns.parallel, first, columns.lanes);
    for (auto [loop, value] : llvm::zip(columns.parallel, values))
      place.indices.push_back({value, constantRange(loop)->low});
    place.indices.back().base = multiply(values.back(), columns.lanes);
    return place;
  }

  // The number of the element that an access has at the first lane, or at `lane`.
  Value elementNumber(Operation *op, const Columns *columns, const Place *place, int64_t lane) {
    const LoopAccess &access = plan.access.at(op);
    auto type = cast<MemRefType>(access.buffer.getType());
    int64_t rows = plan.scratch.contains(access.buffer) ? plan.rowCount : 1;
    Type width =
        type.getNumElements() * rows > INT32_MAX ? builder.getI64Type() : builder.getI32Type();
    Value sum;
    int64_t constantPart = 0;
    if (const std::optional<LinearIndex> &element = plan.element.at(op)) {
      constantPart = element->constant;
      bool negative = constantPart < 0;
      SmallVector<std::pair<Value, int64_t>> terms;
      for (auto [value, coefficient] : element->coefficients) {
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

  Value elementIndex(Operation *op, const Columns *columns, const Place *place, int64_t lane = 0) {
    Value value = elementNumber(op, columns, place, lane);
    return resize(value, builder.getIndexType());
  }

  const Index *indexOf(Value variable, const Columns &columns, const Place &place) const {
    for (auto [loop, index] : llvm::zip(columns.parallel, place.indices))
      if (inductionVariableOf(loop) == variable)
        return &index;
    return nullptr;
  }

  // A value of the nest: of the kernel, of the row, of a loop, of the piece.
  Lanes lookup(Value value, const Columns *columns, const Place *place) {
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

  //===--- Elements -------------------------------------------------------===//

  using Key = std::pair<void *, std::string>;
  Key keyOf(Operation *op, const Columns &columns, const Place &place) {
    std::string name = Planner::signature(plan, columns, op);
    return {plan.access.at(op).buffer.getAsOpaquePointer(),
            name + "#" + std::to_string(place.ordinal)};
  }

  bool hasMemory(Value buffer) const {
    return plan.scratch.contains(buffer) || !buffer.getDefiningOp<memref::AllocaOp>();
  }

  // How an access goes through the neighbours of a piece: 0 all have one element, 1 elements
  // lie one beside the other, none: each on its own.
  std::optional<int64_t> stepOf(Operation *op, const Columns &columns) {
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

  Lanes loadPiece(Operation *op, const Columns &columns, const Place &place) {
    Value buffer = plan.access.at(op).buffer;
    Key key = keyOf(op, columns, place);
    if (auto found = known.find(key); found != known.end())
      return found->second;
    Type type = cast<MemRefType>(buffer.getType()).getElementType();
    Lanes lanes;
    std::optional<int64_t> step = stepOf(op, columns);
    Value from = flatBuffer(buffer);
    auto loadOne = [&](int64_t lane) {
      return guarded(place.guard, type, [&]() -> Value {
        Value index = elementIndex(op, &columns, &place, lane);
        return memref::LoadOp::create(builder, op->getLoc(), from, ValueRange{index});
      });
    };
    if (columns.lanes == 1 || step == 0) {
      lanes.push_back(loadOne(0));
    } else if (step == 1) {
      auto vector = VectorType::get({columns.lanes}, type);
      Value piece = guarded(place.guard, vector, [&]() -> Value {
        Value index = elementIndex(op, &columns, &place);
        return vector::LoadOp::create(builder, op->getLoc(), vector, from, ValueRange{index},
                                      /*nontemporal=*/false, alignmentOf(vector));
      });
      for (int64_t lane = 0; lane < columns.lanes; ++lane)
        lanes.push_back(vector::ExtractOp::create(builder, op->getLoc(), piece, lane));
    } else {
      for (int64_t lane = 0; lane < columns.lanes; ++lane)
        lanes.push_back(loadOne(lane));
    }
    known[key] = lanes;
    return lanes;
  }

  static llvm::MaybeAlign alignmentOf(VectorType vector) {
    return llvm::Align(vector.getNumElements() *
                       llvm::divideCeil(vector.getElementTypeBitWidth(), 8));
  }

  void storePiece(Operation *op, const Columns &columns, const Place &place, Lanes lanes) {
    Value buffer = plan.access.at(op).buffer;
    Key key = keyOf(op, columns, place);
    // Other names may be of the same elements.
    std::string name = Planner::signature(plan, columns, op) + "#";
    for (auto entry = known.begin(); entry != known.end();) {
      bool other = entry->first.first == key.first && entry->first.second.rfind(name, 0) != 0;
      entry = other ? known.erase(entry) : std::next(entry);
    }
    known[key] = lanes;
    if (hasMemory(buffer) && !carried.count(key))
      writePiece(op, columns, place, lanes);
  }

  void writePiece(Operation *op, const Columns &columns, const Place &place, Lanes lanes) {
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
        memref::StoreOp::create(builder, op->getLoc(), lanes.size() == 1 ? lanes[0] : lanes[lane],
                                to, ValueRange{index});
      }
    });
  }

  //===--- Bodies ---------------------------------------------------------===//

  Value combine(Operation *op, Value a, Value b) {
    if (!a)
      return b;
    Operation *made = builder.clone(*op);
    made->setOperands({a, b});
    return made->getResult(0);
  }

  // The body of `columns` for one piece; sums of the piece go into `sums`.
  void emitPiece(const Columns &columns, const Place &place, llvm::MapVector<Value, Value> &sums) {
    llvm::DenseMap<Value, Lanes> outer = lanesOf;
    for (Operation &op : columns.body->without_terminator()) {
      const Reduction *reduction = nullptr;
      bool isTerm = false;
      for (const Reduction &r : columns.reductions)
        if (&op == r.load || &op == r.combine || &op == r.store)
          reduction = &r, isTerm = &op == r.combine;
      if (reduction) {
        if (isTerm && (plan.width != 0 || plan.condition))
          addPiece(*reduction, columns, place);
        else if (isTerm)
          sumPiece(*reduction, columns, place, sums);
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
        SmallVector<Value> values = llvm::map_to_vector(operands, [&](const Lanes &lanes) {
          return lanes.size() == 1 ? lanes[0] : lanes[lane];
        });
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

  // Adds a piece's terms to the thread's sum: neighbours as a tree, then to what is there.
  void sumPiece(const Reduction &reduction, const Columns &columns, const Place &place,
                llvm::MapVector<Value, Value> &sums) {
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

  // Adds a piece's terms, each to the thread's sum of that element.
  void addPiece(const Reduction &reduction, const Columns &columns, const Place &place) {
    Lanes terms = lookup(reduction.term, &columns, &place);
    for (auto [lane, sum] : llvm::enumerate(elementSums[reduction.cell]))
      sum = combine(reduction.combine, sum, terms.size() == 1 ? terms[0] : terms[lane]);
  }

  // The body for all `places`, inside the loops that are not parallel.
  void emitPlaces(const Columns &columns, ArrayRef<Place> places,
                  llvm::MapVector<Value, Value> &sums) {
    if (columns.serial.empty()) {
      for (const Place &place : places)
        emitPiece(columns, place, sums);
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
        std::string name = Planner::signature(plan, columns, &op);
        if (!Planner::isFixed(plan, columns, &op) ||
            names.try_emplace(buffer, name).first->second != name)
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
      emitPiece(columns, place, sums);
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

  //===--- Sums over the serial loops, in parts -----------------------------===//

  // A block has `width` pieces beside each other and goes through one part of the rows (the
  // iterations of the serial loops), 256 / width at a time. The sums of its threads meet in
  // shared memory; those of the parts in a second kernel.
  void emitParts(Value block) {
    const Columns &columns = plan.columns.front().second;
    int64_t rows = 1;
    for (Operation *loop : columns.serial)
      rows *= constantRange(loop)->size();
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

  Value remainder(Value value, int64_t by) {
    return arith::RemUIOp::create(builder, loc, value, constant(by));
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
      llvm::MapVector<Value, Value> none;
      for (int64_t i = 0; i < together; ++i) {
        Value turn = i == 0 ? loop.getInductionVar() : add(loop.getInductionVar(), constant(i));
        Value row = add(first, multiply(turn, deep));
        SmallVector<Value> values = iterations(columns.serial, row);
        for (auto [serial, value] : llvm::zip(columns.serial, values)) {
          if (int64_t low = constantRange(serial)->low)
            value = add(value, constant(low));
          uniform.map(inductionVariableOf(serial), resize(value, builder.getIndexType()));
        }
        place.ordinal = i;
        emitPiece(columns, place, none);
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
            memref::StoreOp::create(builder, loc, sum, partial[i], ValueRange{to});
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
        Value memory = partial[i];
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

  //===--- Sums by index ----------------------------------------------------===//

  // The first row of an index does the sum of all rows of that index, in their order. Which
  // those are is found by a kernel before: for each row whether it is the first, and the next.
  void emitByIndex() {
    const Columns &columns = plan.columns.front().second;
    numberType = builder.getI32Type();
    builder.setInsertionPoint(nest.call);
    Value lists =
        memref::AllocOp::create(builder, loc, MemRefType::get({2, plan.rowCount}, numberType));
    threads = kRowsOfList;
    blocks = llvm::divideCeil(plan.rowCount, threads);
    kernel = makeKernel(nest, blocks, threads, lists, "_list");
    begin(1);
    emitLists(columns);

    threads = plan.team;
    int64_t beside = llvm::divideCeil(columns.pieces(), threads);
    blocks = plan.rowCount * beside;
    kernel = makeKernel(nest, blocks, threads, lists);
    begin(1);
    Value block = number(gpu::BlockIdOp::create(builder, loc, gpu::Dimension::x));
    Value own = arith::DivUIOp::create(builder, loc, block, constant(beside));
    Value piece = add(multiply(remainder(block, beside), threads), thread);
    Type index = builder.getIndexType();
    Value isFirst =
        memref::LoadOp::create(builder, loc, partial[0], ValueRange{resize(own, index)});
    Value guard =
        arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ne, isFirst, constant(0));
    if (columns.pieces() % threads != 0)
      guard = conjunction(guard, arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult,
                                                       piece, constant(columns.pieces())));
    guarded(guard, [&] {
      const Reduction &r = columns.reductions.front();
      Place place = placeOf(columns, piece, 0, Value(), 0);
      emitRowScalars(own);
      Lanes sums = loadPiece(r.load, columns, place);
      sums.resize(columns.lanes, sums[0]);
      SmallVector<Value> initial{own};
      initial.append(sums);
      SmallVector<Type> types(ValueRange(initial).getTypes());
      auto loop = scf::WhileOp::create(builder, loc, types, initial);
      SmallVector<Location> locations(types.size(), loc);
      {
        OpBuilder::InsertionGuard restore(builder);
        Block *before = builder.createBlock(&loop.getBefore(), {}, types, locations);
        Value at = before->getArgument(0);
        Value link = resize(add(at, constant(plan.rowCount)), index);
        Value next = memref::LoadOp::create(builder, loc, partial[0], ValueRange{link});
        known.clear();
        emitRowScalars(at);
        elementSums[r.cell].assign(before->args_begin() + 1, before->args_end());
        llvm::MapVector<Value, Value> none;
        emitPiece(columns, place, none);
        SmallVector<Value> values{next};
        values.append(elementSums[r.cell]);
        Value more =
            arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::sge, next, constant(0));
        scf::ConditionOp::create(builder, loc, more, values);
        Block *after = builder.createBlock(&loop.getAfter(), {}, types, locations);
        scf::YieldOp::create(builder, loc, after->getArguments());
      }
      known.clear();
      emitRowScalars(own);
      writePiece(r.store, columns, place, Lanes(llvm::drop_begin(loop.getResults())));
    });
  }

  // The scalars of a row, also those under the condition.
  void emitRowScalars(Value number) {
    uniform.map(inductionVariableOf(nest.loop), resize(number, builder.getIndexType()));
    scf::IfOp condition = plan.condition;
    for (Block *block : {plan.body, condition.thenBlock()})
      for (Operation &op : block->without_terminator())
        if (&op != condition.getOperation() && !isLoop(op))
          emitScalar(op);
  }

  // The number of the first element that a row adds to, -1 if it adds to none.
  Value keyOf(Value row) {
    Operation *store = plan.columns.front().second.reductions.front().store;
    scf::IfOp condition = plan.condition;
    Type type = builder.getI64Type();
    auto orNone = [&](Value holds, llvm::function_ref<Value()> make) -> Value {
      auto ifOp = scf::IfOp::create(builder, loc, type, holds, /*withElseRegion=*/true);
      OpBuilder::InsertionGuard restore(builder);
      builder.setInsertionPointToEnd(ifOp.thenBlock());
      Value made = make();
      scf::YieldOp::create(builder, loc, made);
      builder.setInsertionPointToEnd(ifOp.elseBlock());
      Value none = constant(type, -1);
      scf::YieldOp::create(builder, loc, none);
      return ifOp.getResult(0);
    };
    Value there = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult, row,
                                        constant(plan.rowCount));
    return orNone(there, [&]() -> Value {
      uniform.map(inductionVariableOf(nest.loop), resize(row, builder.getIndexType()));
      for (Operation &op : plan.body->without_terminator())
        if (&op != condition.getOperation())
          emitScalar(op);
      return orNone(uniform.lookup(condition.getCondition()), [&]() -> Value {
        for (Operation &op : condition.thenBlock()->without_terminator())
          if (!isLoop(op))
            emitScalar(op);
        const Columns &columns = plan.columns.front().second;
        Place place = placeOf(columns, constant(0), 0, Value(), 0);
        return resize(elementNumber(store, &columns, &place, 0), type);
      });
    });
  }

  // A thread per row compares its key with all others, a block's number of them at a time.
  void emitLists(const Columns &columns) {
    Type i64 = builder.getI64Type(), index = builder.getIndexType();
    auto space = gpu::AddressSpaceAttr::get(builder.getContext(), gpu::AddressSpace::Workgroup);
    Value keys = kernel.addWorkgroupAttribution(
        MemRefType::get({threads}, i64, MemRefLayoutAttrInterface(), space), loc);
    Value own = thread;
    if (blocks > 1)
      own = add(multiply(number(gpu::BlockIdOp::create(builder, loc, gpu::Dimension::x)), threads),
                own);
    Value key = keyOf(own);
    auto loop = scf::ForOp::create(builder, loc, constant(0), constant(plan.rowCount),
                                   constant(threads), ValueRange{constant(1), constant(-1)});
    {
      OpBuilder::InsertionGuard restore(builder);
      builder.setInsertionPointToEnd(loop.getBody());
      Value other = keyOf(add(loop.getInductionVar(), thread));
      memref::StoreOp::create(builder, loc, other, keys, ValueRange{resize(thread, index)});
      gpu::BarrierOp::create(builder, loc);
      auto inner = scf::ForOp::create(builder, loc, constant(0), constant(threads), constant(1),
                                      loop.getRegionIterArgs());
      {
        OpBuilder::InsertionGuard restore(builder);
        builder.setInsertionPointToEnd(inner.getBody());
        Value isFirst = inner.getRegionIterArg(0), next = inner.getRegionIterArg(1);
        Value that = memref::LoadOp::create(builder, loc, keys,
                                            ValueRange{resize(inner.getInductionVar(), index)});
        Value row = add(loop.getInductionVar(), inner.getInductionVar());
        auto compare = [&](arith::CmpIPredicate predicate, Value a, Value b) -> Value {
          return arith::CmpIOp::create(builder, loc, predicate, a, b);
        };
        Value same = compare(arith::CmpIPredicate::eq, key, that);
        Value earlier = conjunction(same, compare(arith::CmpIPredicate::ult, row, own));
        Value later = conjunction(conjunction(same, compare(arith::CmpIPredicate::ugt, row, own)),
                                  compare(arith::CmpIPredicate::slt, next, constant(0)));
        isFirst = arith::SelectOp::create(builder, loc, earlier, constant(0), isFirst);
        next = arith::SelectOp::create(builder, loc, later, row, next);
        scf::YieldOp::create(builder, loc, ValueRange{isFirst, next});
      }
      gpu::BarrierOp::create(builder, loc);
      scf::YieldOp::create(builder, loc, inner.getResults());
    }
    Value there = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult, own,
                                        constant(plan.rowCount));
    guarded(there, [&] {
      Value adds =
          arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::sge, key, constant(i64, 0));
      Value isFirst = arith::SelectOp::create(builder, loc, adds, loop.getResult(0), constant(0));
      memref::StoreOp::create(builder, loc, isFirst, partial[0], ValueRange{resize(own, index)});
      memref::StoreOp::create(builder, loc, loop.getResult(1), partial[0],
                              ValueRange{resize(add(own, constant(plan.rowCount)), index)});
    });
  }

  //===--- Rows -----------------------------------------------------------===//

  // No rows: one piece per thread.
  void emitAll(Value block) {
    const Columns &columns = plan.columns.front().second;
    Value piece = thread;
    if (block)
      piece = add(multiply(block, threads), piece);
    Value guard;
    if (blocks * threads != columns.pieces())
      guard = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult, piece,
                                    constant(columns.pieces()));
    llvm::MapVector<Value, Value> sums;
    guarded(guard, [&] {
      Place place = placeOf(columns, piece, 0, Value(), 0);
      emitPlaces(columns, place, sums);
    });
  }

  void emitRow(Value block) {
    member = thread;
    row = block ? block : constant(0);
    if (plan.teams > 1) {
      Value team = arith::DivUIOp::create(builder, loc, thread, constant(plan.team));
      member = arith::RemUIOp::create(builder, loc, thread, constant(plan.team));
      row = block ? add(multiply(block, plan.teams), team) : team;
    }
    if (blocks * plan.teams != plan.rowCount)
      active = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult, row,
                                     constant(plan.rowCount));
    SmallVector<Value> values = iterations(plan.rows, row);
    for (auto [loop, value] : llvm::zip(plan.rows, values)) {
      if (int64_t low = constantRange(loop)->low)
        value = add(value, constant(low));
      uniform.map(inductionVariableOf(loop), resize(value, builder.getIndexType()));
    }
    for (Value cell : plan.loadedCells) {
      order(cell, "load", false);
      cellValues[cell] = loadScalar(firstAccess(cell));
    }
    for (Operation &op : plan.body->without_terminator()) {
      if (auto found = plan.columns.find(&op); found != plan.columns.end())
        emitColumns(found->second);
      else
        emitScalar(op);
    }
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

  Value loadScalar(Operation *op) {
    Value from = flatBuffer(plan.access.at(op).buffer);
    Type type = cast<MemRefType>(from.getType()).getElementType();
    return guarded(active, type, [&]() -> Value {
      Value index = elementIndex(op, nullptr, nullptr);
      return memref::LoadOp::create(builder, op->getLoc(), from, ValueRange{index});
    });
  }

  void storeScalar(Operation *op, Value value) {
    Value to = flatBuffer(plan.access.at(op).buffer);
    Value index = elementIndex(op, nullptr, nullptr);
    memref::StoreOp::create(builder, op->getLoc(), value, to, ValueRange{index});
  }

  void emitScalar(Operation &op) {
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
      guarded(conjunction(plan.team > 1 ? first : Value(), active),
              [&] { storeScalar(&op, value); });
      forget(buffer);
      return;
    }
    if (!isCell)
      order(buffer, "load", false);
    uniform.map(op.getResult(0), isCell ? cellValues.lookup(buffer) : loadScalar(&op));
  }

  void forget(Value buffer) {
    for (auto entry = known.begin(); entry != known.end();)
      entry =
          entry->first.first == buffer.getAsOpaquePointer() ? known.erase(entry) : std::next(entry);
  }

  // A barrier before an access by other threads than those of the accesses since the last one.
  void order(Value buffer, std::string name, bool writes) {
    if (!hasMemory(buffer))
      return;
    SmallVector<std::pair<std::string, bool>> &before = since[buffer];
    bool conflict = llvm::any_of(before, [&](auto &other) {
      return (other.first != name || name == "store") && (writes || other.second);
    });
    if (conflict && plan.team > 1) {
      gpu::BarrierOp::create(builder, loc);
      since.clear();
    }
    since[buffer].push_back({name, writes});
  }

  void emitColumns(const Columns &columns) {
    for (Operation &op : *columns.body)
      if (auto found = plan.access.find(&op);
          found != plan.access.end() && !plan.cells.contains(found->second.buffer)) {
        bool fixed = Planner::isFixed(plan, columns, &op);
        std::string name = Planner::signature(plan, columns, &op);
        order(found->second.buffer, fixed ? name : name + "~", found->second.writes);
      }

    llvm::MapVector<Value, Value> sums;
    int64_t pieces = columns.pieces(), full = pieces / plan.team, rest = pieces % plan.team;
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
        places.push_back(placeOf(columns, member, p * plan.team, active, p));
      if (rest != 0)
        places.push_back(placeOf(columns, member, full * plan.team, restGuard(), full));
      emitPlaces(columns, places, sums);
    } else {
      emitLoop(columns, full, sums);
      std::map<Key, Lanes> before = known;
      SmallVector<Place> places;
      for (int64_t p = full / kPiecesAtOnce * kPiecesAtOnce; p < full; ++p)
        places.push_back(placeOf(columns, member, p * plan.team, active, p));
      if (rest != 0)
        places.push_back(placeOf(columns, member, full * plan.team, restGuard(), full));
      emitPlaces(columns, places, sums);
      known = before;
    }
    shareSums(columns, sums);
  }

  // The pieces of a thread that come as fours, in a loop.
  void emitLoop(const Columns &columns, int64_t full, llvm::MapVector<Value, Value> &sums) {
    int64_t turns = full / kPiecesAtOnce;
    if (turns == 0)
      return;
    SmallVector<Value> initial;
    for (const Reduction &reduction : columns.reductions)
      initial.push_back(arith::ConstantOp::create(
          builder, loc,
          neutralOf(builder, reduction.combine, reduction.combine->getResult(0).getType())));
    for (Value buffer : writtenBuffers(columns.outermost))
      forget(buffer);
    std::map<Key, Lanes> before = known;
    // Pieces in the loop are none of those that are known.
    for (auto entry = known.begin(); entry != known.end();)
      entry = known.erase(entry);
    Value zero = constant(0), end = constant(turns * kPiecesAtOnce * plan.team),
          step = constant(kPiecesAtOnce * plan.team);
    auto loop = scf::ForOp::create(builder, loc, zero, end, step, initial);
    {
      OpBuilder::InsertionGuard restore(builder);
      if (initial.empty())
        builder.setInsertionPoint(loop.getBody()->getTerminator());
      else
        builder.setInsertionPointToEnd(loop.getBody());
      for (auto [reduction, value] : llvm::zip(columns.reductions, loop.getRegionIterArgs()))
        sums[reduction.cell] = value;
      Value first = add(loop.getInductionVar(), member);
      SmallVector<Place> places;
      for (int64_t p = 0; p < kPiecesAtOnce; ++p)
        places.push_back(placeOf(columns, first, p * plan.team, active, p));
      emitPlaces(columns, places, sums);
      if (!initial.empty()) {
        SmallVector<Value> yielded;
        for (const Reduction &reduction : columns.reductions)
          yielded.push_back(sums.lookup(reduction.cell));
        scf::YieldOp::create(builder, loc, yielded);
      }
    }
    for (auto [reduction, value] : llvm::zip(columns.reductions, loop.getResults()))
      sums[reduction.cell] = value;
    known = before;
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
  void shareSums(const Columns &columns, llvm::MapVector<Value, Value> &sums) {
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

  Nest nest;
  const Plan &plan;
  OpBuilder builder;
  Location loc;
  gpu::GPUFuncOp kernel;
  int64_t blocks = 1, threads = 1;
  Type numberType;
  Value thread, member, row, active; // thread of block, of team; row; whether there is such a row
  IRMapping uniform;                 // values of the kernel, the row, the serial loops
  llvm::DenseMap<Value, Value> flat; // buffers as one row of elements
  llvm::DenseMap<Value, Lanes> lanesOf;
  llvm::DenseMap<Value, Value> cellValues;
  llvm::MapVector<Value, Lanes> elementSums; // of a thread's part of the rows
  SmallVector<Value> partial;                // memory of the sums of parts
  std::map<Key, Lanes> known;                // elements in registers
  std::set<Key> carried;                     // of those, what is stored after the loop only
  llvm::DenseMap<Value, SmallVector<std::pair<std::string, bool>>> since; // the last barrier
};
} // namespace

bool llamac::mapToTeams(const Nest &nest) {
  std::optional<Plan> plan = Planner(nest).plan();
  if (!plan)
    return false;
  Emitter(nest, *plan).emit();
  return true;
}
