//===- TeamPlan.cpp - What threads do in the kernel of a nest -------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Recognises the forms of nests that TeamKernels.cpp lists, and chooses lanes, teams and parts.
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/Cuda/TeamPlan.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include <cmath>
#include <map>
#include <set>

using namespace mlir;
using namespace mlir::llamac;
using namespace mlir::llamac::teams;

// Threads that keep a GPU busy where each has little to do.
static constexpr int64_t kThreadsOfGpu = 4 * kBlocksOfGpu * kThreadsPerBlock / 2;
// The least rows of which a warp has each, where more threads could: eight warps a block.
static constexpr int64_t kRowsOfWarps = 8 * 8 * kBlocksOfGpu;
// The least elements that a block adds up where others idle, to have another launch instead.
static constexpr int64_t kLongSum = 1 << 16;
// The most pieces that a thread does to read less.
static constexpr int64_t kPiecesTogether = 8;

int64_t Columns::turns() const {
  int64_t turns = 1;
  for (Operation *loop : serial)
    turns *= constantRange(loop)->size();
  return turns;
}

SmallVector<int64_t> Columns::sizes() const {
  SmallVector<int64_t> sizes;
  for (auto [i, loop] : llvm::enumerate(parallel))
    sizes.push_back(constantRange(loop)->size() / (i + 1 == parallel.size() ? lanes : 1) /
                    (together.empty() ? 1 : together[i]));
  return sizes;
}

bool Columns::isOfSum(Operation *op) const {
  return llvm::any_of(reductions,
                      [&](const Reduction &r) { return op == r.load || op == r.store; });
}

bool Plan::isFixed(const Columns &columns, Operation *op) const {
  const std::optional<LinearIndex> &sum = element.at(op);
  return sum && llvm::all_of(sum->coefficients, [&](const auto &term) {
           Value value = term.first;
           return !columns.outermost->isAncestor(value.getParentRegion()->getParentOp()) ||
                  llvm::any_of(columns.parallel,
                               [&](Operation *loop) { return inductionVariableOf(loop) == value; });
         });
}

std::string Plan::signature(const Columns &columns, Operation *op) const {
  std::string text;
  llvm::raw_string_ostream out(text);
  out << columns.shape << columns.lanes;
  const std::optional<LinearIndex> &sum = element.at(op);
  if (!sum) {
    out << "?" << op;
    return text;
  }
  SmallVector<std::string> terms;
  for (auto [value, coefficient] : sum->coefficients) {
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
  out << " " << sum->constant;
  return text;
}

static bool mayReassociate(Operation *op) {
  auto math = dyn_cast<arith::ArithFastMathInterface>(op);
  return isa<arith::AddIOp, arith::MaxSIOp, arith::MinSIOp, arith::MaximumFOp, arith::MinimumFOp>(
             op) ||
         (math && isa<arith::AddFOp>(op) &&
          bitEnumContainsAll(math.getFastMathFlagsAttr().getValue(),
                             arith::FastMathFlags::reassoc));
}

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
      chooseTogether(columns);
      made.tile = planTile(made);
      if (made.tile)
        columns.together.clear(); // a thread of a tile does a piece at a time
      made.team = kThreadsPerBlock;
      while (made.team > kWarp && made.team / 2 >= llvm::product_of(columns.sizes()))
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
      if (access.buffer == table && !placed.isOfSum(op))
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
    if (!addBody(*made.body) || made.columns.empty()) // without columns: a thread per row
      return std::nullopt;
    putTurnedFirst();
    chooseLanes();
    chooseTeam();
    findScratch();
    chooseSpread();
    Columns *before = nullptr;
    for (auto &[outermost, columns] : made.columns) {
      if (before && isOfMaximum(columns, *before)) {
        columns.maximum = before->outermost;
        before->isOfNext = true;
      }
      before = &columns;
    }
    findLongSum();
    return std::move(made);
  }

  // The ops of a row: scalars, loops over columns, and conditions for them. What is under a
  // condition is computed anyway, its loads and stores apart.
  bool addBody(Block &block) {
    return llvm::all_of(block.without_terminator(), [&](Operation &op) {
      if (isLoop(op))
        return addColumns(&op, /*withCells=*/true);
      if (auto condition = dyn_cast<scf::IfOp>(op))
        return condition.getNumResults() == 0 && addBody(*condition.thenBlock()) &&
               (!condition.elseBlock() || addBody(*condition.elseBlock()));
      return made.access.contains(&op) ||
             (isScalar(op) && (&block == made.body || isSpeculatable(&op)));
    });
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
      // An element of memory may be there only under the condition.
      if (!buffer.getDefiningOp<memref::AllocaOp>() &&
          llvm::any_of(ops, [](Operation *op) { return op->getParentOfType<scf::IfOp>(); }))
        isCell = false;
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

  // Whether the serial loops only sum up, and are long enough to share them among threads.
  bool isLongSum(Columns &columns) {
    int64_t rows = columns.turns();
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
    int64_t most = std::max<int64_t>(1, columns.turns() / 128);
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
      if (ofElements && (!made.isFixed(columns, &op) ||
                         made.signature(columns, &op) != made.signature(columns, reduction.load)))
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
        if (made.access.contains(&op) && innerStep(&op, columns) == 1 && !columns.isOfSum(&op)) {
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

  // Whether an access of neighbours begins at a multiple of `lanes`.
  bool isMultiple(Operation *op, const Columns &columns, int64_t lanes) const {
    const LinearIndex &element = *made.element.at(op);
    return element.constant % lanes == 0 && llvm::all_of(element.coefficients, [&](auto &term) {
             return term.first == columns.inner() || term.second % lanes == 0;
           });
  }

  bool isOnlySums(const Columns &columns) const {
    return llvm::all_of(*columns.body,
                        [&](Operation &op) { return !isWrite(&op) || columns.isOfSum(&op); });
  }

  // Threads of a team: few idle ones, two to four pieces each; a warp for short rows.
  void chooseTeam() {
    int64_t most = 1, all = 0;
    for (auto &[outermost, columns] : made.columns) {
      most = std::max(most, columns.pieces());
      all += columns.pieces();
    }
    double target = most <= 2 ? 1 : most <= 32 ? most / 2 : std::clamp<int64_t>(most / 2, 32, 512);
    // Many short rows that only add up: a warp has more loads on their way, and waits for no other.
    if (made.rowCount >= kRowsOfWarps && most > kWarp && most <= kWarp * kUnrolledPieces &&
        made.columns.size() == 1 && isOnlySums(made.columns.front().second))
      target = kWarp;
    double best = 0;
    for (int64_t team = 1; team <= kMostThreads; team += team < kWarp ? team : kWarp) {
      int64_t slots = 0;
      for (auto &[outermost, columns] : made.columns)
        slots += llvm::divideCeil(columns.pieces(), team) * team;
      double score = double(slots) / all * (1 + 0.05 * std::abs(std::log2(team / target)));
      // Turned halves in different threads are read twice.
      if (llvm::any_of(made.columns, [&](auto &entry) {
            return entry.second.turned && entry.second.pieces() / 2 % team != 0;
          }))
        score *= 1.5;
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

  // The loop over turned halves becomes the outermost of the columns, also of others of the same
  // shape: then a thread can have both halves.
  void putTurnedFirst() {
    for (auto &[outermost, columns] : made.columns) {
      findTurned(columns);
      if (!columns.turned || *columns.turned == 0)
        continue;
      size_t turned = *columns.turned;
      std::string shape = columns.shape;
      for (auto &[other, same] : made.columns)
        if (same.shape == shape) {
          auto *begin = same.parallel.begin();
          std::rotate(begin, begin + turned, begin + turned + 1);
          same.shape.clear();
          for (Operation *loop : same.parallel)
            same.shape += std::to_string(constantRange(loop)->size()) + "x";
        }
      columns.turned = 0;
    }
  }

  // The innermost loop is cut into pieces and stays.
  void findTurned(Columns &columns) const {
    for (size_t i = 0; i + 1 < columns.parallel.size(); ++i) {
      Value variable = inductionVariableOf(columns.parallel[i]);
      if (constantRange(columns.parallel[i])->size() == 2 &&
          llvm::any_of(*columns.body, [&](Operation &op) {
            auto found = made.element.find(&op);
            return found != made.element.end() && !isWrite(&op) && found->second &&
                   found->second->of(variable) < 0;
          }))
        columns.turned = i;
    }
  }

  // Whether the one sum of `columns` has terms exp(x - maximum), and `before` finds that maximum.
  bool isOfMaximum(const Columns &columns, const Columns &before) const {
    if (made.isUnrolled(columns) || columns.shape != before.shape ||
        columns.lanes != before.lanes || !columns.serial.empty() || !before.serial.empty() ||
        columns.outermost->getBlock() != before.outermost->getBlock() ||
        columns.reductions.size() != 1 || before.reductions.size() != 1)
      return false;
    const Reduction &sum = columns.reductions.front(), &maximum = before.reductions.front();
    auto exp = sum.term.getDefiningOp<math::ExpOp>();
    auto difference = exp ? exp.getOperand().getDefiningOp<arith::SubFOp>() : nullptr;
    if (!isa<arith::AddFOp>(sum.combine) || !isa<arith::MaximumFOp>(maximum.combine) ||
        !difference || !exp->hasOneUse() || !difference->hasOneUse())
      return false;
    auto isOfCell = [&](Operation *op) {
      auto found = made.access.find(op);
      return found != made.access.end() && found->second.buffer == maximum.cell;
    };
    Operation *taken = difference.getRhs().getDefiningOp();
    if (!taken || !isOfCell(taken) || !taken->hasOneUse())
      return false;
    for (Operation &op : *columns.body)
      if ((&op != taken && isOfCell(&op)) || (isWrite(&op) && &op != sum.store))
        return false;
    for (Operation &op : *before.body)
      if (isWrite(&op) && &op != maximum.store)
        return false;
    for (Operation *op = before.outermost->getNextNode(); op != columns.outermost;
         op = op->getNextNode())
      if (!op || isOfCell(op) || op->getNumRegions() != 0)
        return false;
    return true;
  }

  bool isWrite(Operation *op) const {
    auto found = made.access.find(op);
    return found != made.access.end() && found->second.writes;
  }

  // Few long rows: several blocks have one, where threads have nothing to tell each other.
  void chooseSpread() {
    const Columns &columns = made.columns.front().second;
    if (made.columns.size() != 1 || made.rowCount >= kBlocksOfGpu || !columns.reductions.empty() ||
        !made.storedCells.empty() || !made.scratch.empty())
      return;
    for (auto &[op, access] : made.access)
      if (!columns.outermost->isAncestor(op) &&
          (access.writes || llvm::is_contained(writtenBuffers(columns.outermost), access.buffer)))
        return;
    int64_t blocks = std::min(llvm::divideCeil(kBlocksOfGpu, made.rowCount),
                              llvm::divideCeil(columns.pieces(), kThreadsPerBlock));
    if (blocks <= 1)
      return;
    made.team = kThreadsPerBlock;
    made.teams = 1;
    made.spread = blocks;
  }

  // Fewer blocks than half of the GPU takes: a sum for which they are too few, if all that are can
  // be nests of their own.
  void findLongSum() {
    int64_t blocks = llvm::divideCeil(made.rowCount, made.teams) * made.spread;
    auto isPlain = [](Operation *loop) { return isa<affine::AffineForOp>(loop); };
    if (blocks >= kBlocksOfGpu / 2 || !llvm::all_of(made.rows, [&](Operation *row) {
          return isPlain(row) && constantRange(row)->low == 0;
        }))
      return;
    Operation *first = nullptr;
    for (auto &[outermost, columns] : made.columns) {
      if (columns.elements * columns.turns() < kLongSum * blocks / made.rowCount)
        continue;
      // Another that stays would keep the row as long as it is.
      if (!isPlain(outermost) ||
          !(columns.serial.empty() ? isTotal(columns) : isSumByItself(columns)))
        return;
      first = first ? first : outermost;
    }
    made.longSum = first;
  }

  // Whether a loop of a row needs nothing that the row computes, but its number.
  bool isOfRowsOnly(Operation *loop) const {
    if (loop->getBlock() != made.body)
      return false;
    WalkResult result = loop->walk([&](Operation *op) {
      bool fits = llvm::all_of(op->getOperands(), [&](Value value) {
        return loop->isAncestor(value.getParentRegion()->getParentOp()) || isRowValue(value);
      });
      return fits ? WalkResult::advance() : WalkResult::interrupt();
    });
    return !result.wasInterrupted();
  }

  // Whether columns do nothing but add to cells what is there before the nest.
  bool isTotal(const Columns &columns) const {
    if (columns.reductions.empty() || !isOfRowsOnly(columns.outermost))
      return false;
    SmallVector<Value> written = writtenBuffers(nest.loop);
    return llvm::all_of(*columns.body, [&](Operation &op) {
      auto found = made.access.find(&op);
      if (found == made.access.end())
        return true;
      if (!columns.isOfSum(&op))
        return !found->second.writes && !llvm::is_contained(written, found->second.buffer);
      return llvm::all_of(found->second.operands, [&](Value v) { return isRowValue(v); });
    });
  }

  // Whether columns do nothing but add up elements over a long loop, and the ops behind them need
  // none of those before, but by way of memory.
  bool isSumByItself(Columns columns) {
    Operation *loop = columns.outermost;
    bool handsOver = llvm::any_of(*made.body, [&](Operation &op) {
      return op.isBeforeInBlock(loop) && llvm::any_of(op.getUsers(), [&](Operation *user) {
               return loop->isBeforeInBlock(made.body->findAncestorOpInBlock(*user));
             });
    });
    return !handsOver && isOfRowsOnly(loop) && isLongSum(columns) &&
           columns.body->getParentOp() == columns.parallel.back() &&
           nest.function.getOps<memref::AllocaOp>().empty();
  }

  // How many iterations of a loop a thread does, in a nest without rows: the turned halves of a
  // rotation, and some of those for which it loads the same elements.
  void chooseTogether(Columns &columns) {
    columns.together.assign(columns.parallel.size(), 1);
    if (!columns.serial.empty())
      return;
    findTurned(columns);
    if (columns.turned)
      columns.together[*columns.turned] = 2;
    for (size_t i = columns.parallel.size(); i-- > 0;) {
      Value variable = inductionVariableOf(columns.parallel[i]);
      bool isShared = llvm::any_of(*columns.body, [&](Operation &op) {
        auto found = made.element.find(&op);
        return found != made.element.end() && !isWrite(&op) && found->second &&
               found->second->of(variable) == 0;
      });
      for (int64_t factor = 4; isShared && factor > 1; factor /= 2) {
        int64_t together = llvm::product_of(columns.together) * factor;
        if (columns.together[i] == 1 && columns.sizes()[i] % factor == 0 &&
            together <= kPiecesTogether && columns.pieces() / together >= kThreadsOfGpu)
          columns.together[i] = factor;
      }
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
        places.insert(made.signature(found->second, user));
      }
      if (places.size() > 1)
        made.scratch.insert(buffer);
    });
  }

private:
  Nest nest;
  Plan made;
};
} // namespace

std::optional<Plan> teams::planTeams(const Nest &nest) { return Planner(nest).plan(); }
