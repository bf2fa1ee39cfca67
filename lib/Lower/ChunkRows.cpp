//===- ChunkRows.cpp - Logits for one chunk of rows after another ---------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A chunk is a block of its own, made of the same ops on fewer rows, and goes through the same
// passes. Rows of a tensor lie one behind the other, so the rows of a chunk are a part of each
// operand from an offset on.
//
//   linear_lse %x, %w, %y {chunk = 8}          chunks @head.chunk0(%x, %w, %y) 4 times
//     on 35 rows                          =>   chunks @head.chunk1(%x, %w, %y) once, from row 32 on
//
//===----------------------------------------------------------------------===//
#include "llamac/Lower/Passes.h"

#include "dialects/Llama/IR/Llama.h"
#include "dialects/Routine/IR/Routine.h"
#include "runtime/include/llrt/ProgramFields.h"

namespace mlir::llamac {
#define GEN_PASS_DEF_CHUNKROWSPASS
#include "llamac/Lower/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llamac;
using namespace mlir::llama;
namespace field = llrt::field;

static RankedTensorType typeOf(Value value) { return cast<RankedTensorType>(value.getType()); }

namespace {
// An operand or result of the op whose rows are divided.
struct Part {
  Value value;
  bool isRows; // a row of it for each row of the input; else it is whole in every call

  // Elements of a row.
  int64_t width(int64_t rows) const { return isRows ? typeOf(value).getNumElements() / rows : 0; }
  // The type of `count` of its `rows` rows: a matrix, or a vector where a row is one element of a
  // value with one dimension less than the input.
  Type typeOfRows(int64_t count, unsigned inputRank, int64_t rows) const {
    RankedTensorType type = typeOf(value);
    if (!isRows)
      return type;
    SmallVector<int64_t> shape = {count};
    if (type.getRank() == inputRank)
      shape.push_back(width(rows));
    return type.clone(shape);
  }
};

// One op, divided.
struct Division {
  Operation *op;
  Value input;
  int64_t rows, chunk;
  SmallVector<Part> operands; // all of them, in order
  SmallVector<Part> results;  // those that are used
};

struct ChunkRowsPass : llamac::impl::ChunkRowsPassBase<ChunkRowsPass> {
  using ChunkRowsPassBase::ChunkRowsPassBase;

  void runOnOperation() override {
    noted.clear(); // of the module before
    SmallVector<func::FuncOp> blocks(getOperation().getOps<func::FuncOp>());
    for (func::FuncOp block : blocks) {
      SmallVector<Operation *> ops;
      block.walk([&](Operation *op) {
        if (isa<LinearLseOp, LinearLseGradOp>(op))
          ops.push_back(op);
        else if (auto target = dyn_cast<TargetLogitOp>(op)) // of logits that are whole
          note(rowsOf(target.getLogits()), rowsOf(target.getLogits()));
      });
      for (Operation *op : ops) {
        if (auto lse = dyn_cast<LinearLseOp>(op))
          lower(lse, block);
        else
          lower(cast<LinearLseGradOp>(op), block);
      }
    }
    if (!noted.empty())
      getOperation()->setAttr(kLogitsAttr, ArrayAttr::get(&getContext(), noted.getArrayRef()));
  }

  static int64_t rowsOf(Value value) {
    return typeOf(value).getNumElements() / typeOf(value).getShape().back();
  }

  void note(int64_t chunk, int64_t rows) {
    Builder b(&getContext());
    noted.insert(b.getDictionaryAttr({b.getNamedAttr(field::chunk, b.getI64IntegerAttr(chunk)),
                                      b.getNamedAttr(field::rows, b.getI64IntegerAttr(rows))}));
  }

  template <typename Op> void lower(Op op, func::FuncOp block) {
    Division division = divide(op);
    note(division.chunk, division.rows);
    if (division.chunk >= division.rows)
      expand(op);
    else
      call(division, block);
  }

  // Puts the ops for which `op` stands in its place.
  template <typename Op> static void expand(Op op) {
    OpBuilder b(op);
    for (auto [result, value] : llvm::zip_equal(op->getResults(), op.expand(b)))
      if (value)
        result.replaceAllUsesWith(value);
    op->erase();
  }

  template <typename Op> static Division divide(Op op) {
    Division division;
    division.op = op;
    division.input = op.getInput();
    division.rows = rowsOf(division.input);
    division.chunk = headChunk(op.getChunk(), division.rows, typeOf(op.getWeight()).getDimSize(0),
                               op.getStatistics().getIntOrFloatBitWidth() / 8);
    for (Value operand : op->getOperands())
      division.operands.push_back({operand, operand != op.getWeight() && operand != op.getBias()});
    for (OpResult result : op->getResults())
      if (!result.use_empty())
        division.results.push_back({result, !isSum(result)});
    // Sums come first: the callee takes them before the results that it only writes.
    llvm::stable_sort(division.results,
                      [](const Part &a, const Part &b) { return !a.isRows && b.isRows; });
    return division;
  }

  // Whether each chunk adds to the result.
  static bool isSum(OpResult result) {
    auto gradient = dyn_cast<LinearLseGradOp>(result.getOwner());
    return gradient && result == gradient.getDWeight();
  }

  // The function that does the op for `count` rows.
  func::FuncOp makeCallee(const Division &division, func::FuncOp block, int64_t count) {
    OpBuilder b(block);
    Location loc = division.op->getLoc();
    unsigned rank = typeOf(division.input).getRank();
    SmallVector<Type> arguments, results;
    for (const Part &part : division.operands)
      arguments.push_back(part.typeOfRows(count, rank, division.rows));
    for (const Part &part : division.results) {
      results.push_back(part.typeOfRows(count, rank, division.rows));
      if (!part.isRows)
        arguments.push_back(results.back());
    }
    std::string name;
    do
      name = (block.getSymName() + ".chunk" + Twine(number++)).str();
    while (getOperation().lookupSymbol(name));
    auto callee = func::FuncOp::create(b, loc, name, b.getFunctionType(arguments, results));
    callee.setPrivate();
    callee->setAttr(kBlockAttr, b.getUnitAttr());
    Block *body = callee.addEntryBlock();
    b.setInsertionPointToStart(body);
    IRMapping map;
    for (auto [part, argument] : llvm::zip(division.operands, body->getArguments()))
      map.map(part.value, argument);
    // Operands may be one value; its type is the same then.
    Operation *op = b.clone(*division.op, map);
    for (auto [old, now] : llvm::zip(division.op->getResults(), op->getResults()))
      now.setType(Part{old, !isSum(cast<OpResult>(old))}.typeOfRows(count, rank, division.rows));
    SmallVector<Value> values;
    unsigned sum = division.operands.size();
    for (auto [index, part] : llvm::enumerate(division.results)) {
      Value value = op->getResult(cast<OpResult>(part.value).getResultNumber());
      if (!part.isRows) {
        callee.setResultAttr(index, kInPlaceAttr, b.getI64IntegerAttr(sum));
        value = AddOp::create(b, loc, body->getArgument(sum++), value, TypeAttr());
      }
      values.push_back(value);
    }
    func::ReturnOp::create(b, loc, values);
    if (auto lse = dyn_cast<LinearLseOp>(op))
      expand(lse);
    else
      expand(cast<LinearLseGradOp>(op));
    return callee;
  }

  void call(const Division &division, func::FuncOp block) {
    Operation *op = division.op;
    OpBuilder b(op);
    SmallVector<Value> inputs, outputs;
    SmallVector<Type> types;
    for (const Part &part : division.operands)
      inputs.push_back(part.value);
    SmallVector<AddOp> sums; // of each result, null where there is none
    for (const Part &part : division.results) {
      RankedTensorType type = typeOf(part.value);
      types.push_back(type);
      AddOp sum;
      if (!part.isRows && part.value.hasOneUse())
        sum = dyn_cast<AddOp>(*part.value.user_begin());
      if (sum && (sum.getRhs() != part.value || sum.getType() != type ||
                  sum.getLhs().getType() != type || !isa<BlockArgument>(sum.getLhs())))
        sum = {};
      sums.push_back(sum);
      if (sum) {
        outputs.push_back(sum.getLhs());
        continue;
      }
      Value empty =
          tensor::EmptyOp::create(b, op->getLoc(), type.getShape(), type.getElementType());
      if (!part.isRows) {
        Value zero =
            arith::ConstantOp::create(b, op->getLoc(), b.getFloatAttr(type.getElementType(), 0));
        empty = linalg::FillOp::create(b, op->getLoc(), zero, empty).getResult(0);
      }
      outputs.push_back(empty);
    }
    auto callRows = [&](int64_t begin, int64_t count, int64_t rows) {
      func::FuncOp callee = makeCallee(division, block, rows);
      SmallVector<int64_t> begins, steps;
      auto add = [&](const Part &part) {
        begins.push_back(begin * part.width(division.rows));
        steps.push_back(rows * part.width(division.rows));
      };
      llvm::for_each(division.operands, add);
      llvm::for_each(division.results, add);
      auto made = routine::ChunksOp::create(b, op->getLoc(), types, callee.getSymName(), inputs,
                                            outputs, count, begins, steps);
      outputs.assign(made.result_begin(), made.result_end());
    };
    int64_t whole = division.rows / division.chunk, rest = division.rows % division.chunk;
    callRows(0, whole, division.chunk);
    if (rest)
      callRows(whole * division.chunk, 1, rest);
    for (auto [part, value, sum] : llvm::zip_equal(division.results, outputs, sums)) {
      Value old = part.value;
      if (sum)
        old = sum;
      old.replaceAllUsesWith(value);
      if (sum)
        sum.erase();
    }
    op->erase();
  }

  unsigned number = 0;        // of functions made
  SetVector<Attribute> noted; // kLogitsAttr
};
} // namespace
