//===- MergeProducts.cpp - Products that share an operand as one ----------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Weights that lie one behind the other are one matrix, their rows below each other. Products of
// one value by them are one product then, whose results are columns of one tensor:
//
//   x W_q^T, x W_k^T, x W_v^T                =  x [W_q; W_k; W_v]^T           columns q | k | v
//   dq W_q + dk W_k + dv W_v                 =  [dq | dk | dv] [W_q; W_k; W_v]
//   dW_q += dq^T x, dW_k += .., dW_v += ..   =  [dW_q; dW_k; dW_v] += [dq | dk | dv]^T x
//
// Loops read and write columns of a wider tensor where they are, and so does attention if they
// begin at multiples of 16 bytes. Products want their operands dense: a loop copies columns, which
// costs memory traffic. It is done for half of them at most, and for a sum of input gradients if
// the summands that are saved are more bytes. What other blocks read crosses to them as one value
// (Crossings.h).
//
// A product of a weight gradient reads all of dy, so the gradient of the bias, the sum of its rows,
// comes with it:
//
//   dW += dy^T x, sum_rows dy                =  dW += dy^T x, sums of the rows of dy^T
//
//===----------------------------------------------------------------------===//
#include "llamac/Lower/Passes.h"

#include "dialects/Llama/IR/ColumnSlice.h"
#include "dialects/Llama/IR/DecompositionBuilder.h"
#include "dialects/Routine/IR/Routine.h"
#include "lib/Lower/Crossings.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/TypeSwitch.h"

namespace mlir::llamac {
#define GEN_PASS_DEF_MERGEPRODUCTSPASS
#include "llamac/Lower/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llamac;
using namespace mlir::llama;
using func::FuncOp;

static RankedTensorType tensorOf(Value value) { return cast<RankedTensorType>(value.getType()); }
static int64_t columns(Value value) { return withoutHeads(tensorOf(value)).getShape().back(); }

/// What `value` is a view of: heads merged or split.
static Value withoutViews(Value value) {
  while (Operation *op = value.getDefiningOp()) {
    if (!isa<MergeHeadsOp, SplitHeadsOp>(op))
      break;
    value = op->getOperand(0);
  }
  return value;
}

/// The uses of `value` and of its views.
static SmallVector<OpOperand *> usesOf(Value value) {
  SmallVector<OpOperand *> uses;
  for (OpOperand &use : value.getUses())
    if (isa<MergeHeadsOp, SplitHeadsOp>(use.getOwner()))
      uses.append(usesOf(use.getOwner()->getResult(0)));
    else
      uses.push_back(&use);
  return uses;
}

/// Erases views of `value` that nothing reads.
static void eraseViews(Value value) {
  for (Operation *user : llvm::make_early_inc_range(value.getUsers()))
    if (isa<MergeHeadsOp, SplitHeadsOp>(user)) {
      eraseViews(user->getResult(0));
      if (user->use_empty())
        user->erase();
    }
}

namespace {
/// Products of a block that may be one.
struct Products {
  enum Kind {
    Outputs,        ///< llama.linear of one input
    InputGradients, ///< a sum of llama.linear_dx
    WeightGradients ///< llama.linear_dw with one input, each added to a sum so far
  } kind;
  SmallVector<Operation *> ops;
  SmallVector<Value> arguments;   ///< of the block: the weights, or the sums so far
  Operation *root = nullptr;      ///< of InputGradients: the sum
  SmallVector<std::string> names; ///< of the parameters, for reports

  size_t size() const { return ops.size(); }
  /// The part of the wide value that belongs to product i.
  Value part(size_t i) const {
    return kind == Outputs ? ops[i]->getResult(0) : ops[i]->getOperand(0);
  }
  SmallVector<Value> parts() const {
    return llvm::map_to_vector(llvm::seq<size_t>(0, size()), [&](size_t i) { return part(i); });
  }
};

class Merger {
public:
  Merger(ModuleOp module, const Target &target)
      : module(module), target(target), crossings(module) {
    for (auto place : module.getOps<dist::StorageOp>())
      storage[place.getParameter()].push_back(place);
  }
  void run();

private:
  std::string nameOf(FuncOp block, Value argument) const;
  bool liesBehind(FuncOp block, Value first, Value second) const;
  void addRuns(FuncOp block, Products all, SmallVectorImpl<Products> &found);
  SmallVector<Products> findOutputs(FuncOp block);
  SmallVector<Products> findInputGradients(FuncOp block);
  SmallVector<Products> findWeightGradients(FuncOp block);
  bool canAccumulate(LinearDwOp op) const;

  void mergeOutputs(FuncOp block, const Products &products);
  void mergeInputGradients(FuncOp block, const Products &products);
  bool mergeArriving(FuncOp block, const Products &products);
  void rewriteGradients(const Products &products, Value wide);
  void formBiasGradients(FuncOp block);

  /// Also a product that was made one before.
  bool isRoutine(Operation *op) const { return isa<routine::GemmOp>(op) || target.hasRoutine(op); }
  bool wantsDense(OpOperand &use, bool aligned) const;
  bool isReadDense(Value part, bool aligned, ArrayRef<Operation *> taking = {}) const;
  bool isMadeDense(Value part, bool aligned) const;
  Value concatenate(OpBuilder &builder, Location loc, ArrayRef<Value> parts,
                    ArrayRef<bool> copied) const;
  FailureOr<Crossing> findCrossing(FuncOp producer, ArrayRef<Value> parts, int64_t &copied,
                                   std::string &reason);
  void join(const Crossing &crossing, Value wide);
  std::optional<SmallVector<unsigned>> argumentsOf(const Products &products) const;

  ModuleOp module;
  const Target &target;
  Crossings crossings;
  llvm::StringMap<SmallVector<dist::StorageOp>> storage; // one for each stage that has it
};
} // namespace

/// Notes at the block what became of products that might be one.
static void report(FuncOp block, const Twine &text) {
  Builder builder(block.getContext());
  SmallVector<Attribute> notes;
  if (auto before = block->getAttrOfType<ArrayAttr>(kProductsAttr))
    llvm::append_range(notes, before);
  Attribute note = builder.getStringAttr(text);
  if (!llvm::is_contained(notes, note))
    notes.push_back(note);
  block->setAttr(kProductsAttr, builder.getArrayAttr(notes));
}
static void report(FuncOp block, const Products &products, const Twine &what) {
  static constexpr StringRef kinds[] = {"products by ", "input gradients by ",
                                        "weight gradients of "};
  report(block, kinds[products.kind] + llvm::join(products.names, ", ") + ": " + what);
}
static constexpr StringRef kMerged = "one product";

//===----------------------------------------------------------------------===//
// Which products
//===----------------------------------------------------------------------===//

/// The parameter whose weights, or gradient, argument `argument` of the block is; null if it is
/// an input.
static StringAttr parameterOf(ApplyOp apply, unsigned argument) {
  const size_t inputs = apply.getInputs().size(), weights = apply.getParameters().size();
  if (argument < inputs)
    return {};
  Attribute name = argument < inputs + weights ? apply.getParameters()[argument - inputs]
                                               : apply.getGradients()[argument - inputs - weights];
  return cast<FlatSymbolRefAttr>(name).getAttr();
}

static unsigned numberOf(Value argument) { return cast<BlockArgument>(argument).getArgNumber(); }

std::string Merger::nameOf(FuncOp block, Value argument) const {
  ArrayRef<ApplyOp> applications = crossings.applicationsOf(block);
  StringAttr name =
      applications.empty() ? StringAttr() : parameterOf(applications[0], numberOf(argument));
  return name ? name.str() : "argument " + std::to_string(numberOf(argument));
}

/// Whether argument `second` begins where `first` ends, in all applications of the block.
bool Merger::liesBehind(FuncOp block, Value first, Value second) const {
  RankedTensorType type = tensorOf(first);
  const int64_t elements = type.getNumElements(),
                bytes = elements * type.getElementTypeBitWidth() / 8;
  auto consecutive = [&](std::optional<dist::AddressAttr> a, std::optional<dist::AddressAttr> b) {
    return a && b && a->getArena() == b->getArena() && b->getOffset() == a->getOffset() + bytes;
  };
  auto behind = [&](dist::StorageOp a, dist::StorageOp b, bool isGradient) {
    auto placeOf = [&](dist::StorageOp op) -> std::optional<dist::AddressAttr> {
      if (!isGradient)
        return op.getAddress();
      return op.getGradientSum() ? op.getGradientSum() : op.getGradient();
    };
    if (!a.getShard() || !b.getShard())
      return !a.getShard() && !b.getShard() && consecutive(placeOf(a), placeOf(b));
    // In their unit, and so where that is whole.
    ArrayRef<int64_t> inA = *a.getShard(), inB = *b.getShard();
    return inA[1] == inB[1] && inB[0] == inA[0] + elements &&
           a.getAddress().getArena() == b.getAddress().getArena() &&
           (placeOf(a) == placeOf(b) || consecutive(placeOf(a), placeOf(b)));
  };
  return llvm::all_of(crossings.applicationsOf(block), [&](ApplyOp apply) {
    StringAttr a = parameterOf(apply, numberOf(first)), b = parameterOf(apply, numberOf(second));
    auto ofA = a ? storage.find(a) : storage.end(), ofB = b ? storage.find(b) : storage.end();
    if (ofA == storage.end() || ofB == storage.end() || ofA->second.size() != ofB->second.size())
      return false;
    const bool isGradient =
        numberOf(first) >= apply.getInputs().size() + apply.getParameters().size();
    return llvm::all_of(llvm::zip(ofA->second, ofB->second), [&](auto pair) {
      return behind(std::get<0>(pair), std::get<1>(pair), isGradient);
    });
  });
}

/// Adds the runs of `all` whose arguments lie one behind the other, and says so if that is not one.
void Merger::addRuns(FuncOp block, Products all, SmallVectorImpl<Products> &found) {
  if (all.size() < 2 || crossings.applicationsOf(block).empty())
    return;
  for (Value argument : all.arguments)
    all.names.push_back(nameOf(block, argument));
  const int none = -1;
  SmallVector<int> next(all.size(), none), before(all.size(), none);
  for (size_t i = 0; i < all.size(); ++i)
    for (size_t j = 0; j < all.size(); ++j)
      if (i != j && next[i] == none && before[j] == none &&
          liesBehind(block, all.arguments[i], all.arguments[j])) {
        next[i] = int(j);
        before[j] = int(i);
      }
  std::string runs;
  for (size_t i = 0; i < all.size(); ++i) {
    if (before[i] != none)
      continue;
    Products run{all.kind, {}, {}, all.root, {}};
    for (int at = int(i); at != none; at = next[at]) {
      run.ops.push_back(all.ops[at]);
      run.arguments.push_back(all.arguments[at]);
      run.names.push_back(all.names[at]);
    }
    if (run.size() > 1)
      found.push_back(run);
    runs += (runs.empty() ? "" : "; ") + llvm::join(run.names, ", ");
    if (run.size() == all.size())
      return;
  }
  report(block, all, "not one behind the other in memory, but " + runs);
}

SmallVector<Products> Merger::findOutputs(FuncOp block) {
  llvm::MapVector<Value, Products> byInput;
  for (auto op : block.getOps<LinearOp>()) {
    auto weight = dyn_cast<BlockArgument>(op.getWeight());
    if (!weight || op.getBias() || !isRoutine(op) ||
        op.getType().getElementType() != tensorOf(op.getInput()).getElementType())
      continue;
    Products &products = byInput[op.getInput()];
    products.kind = Products::Outputs;
    products.ops.push_back(op);
    products.arguments.push_back(weight);
  }
  SmallVector<Products> found;
  for (auto &[input, products] : byInput)
    addRuns(block, products, found);
  return found;
}

/// The summands of `value`, if it is a sum of input gradients that nothing else reads.
static bool findSummands(Value value, bool isRoot, SmallVectorImpl<LinearDxOp> &summands) {
  if (!isRoot && !value.hasOneUse())
    return false;
  if (auto product = value.getDefiningOp<LinearDxOp>()) {
    summands.push_back(product);
    Type from = tensorOf(product.getCotangent()).getElementType(),
         to = tensorOf(value).getElementType();
    return (from == to || (from.isBF16() && to.isF32())) && isa<BlockArgument>(product.getWeight());
  }
  auto add = value.getDefiningOp<AddOp>();
  return add && add.getLhs().getType() == add.getType() &&
         add.getRhs().getType() == add.getType() && findSummands(add.getLhs(), false, summands) &&
         findSummands(add.getRhs(), false, summands);
}

SmallVector<Products> Merger::findInputGradients(FuncOp block) {
  SmallVector<Products> found;
  llvm::SmallPtrSet<Operation *, 8> inner;
  SmallVector<AddOp> adds(block.getOps<AddOp>());
  for (AddOp add : llvm::reverse(adds)) {
    SmallVector<LinearDxOp> summands;
    if (inner.contains(add) || !findSummands(add.getResult(), true, summands) ||
        !llvm::all_of(summands, [&](LinearDxOp op) { return isRoutine(op); }))
      continue;
    Products products{Products::InputGradients, {}, {}, add, {}};
    for (LinearDxOp op : summands) {
      products.ops.push_back(op);
      products.arguments.push_back(op.getWeight());
      for (Operation *user = *op->user_begin(); user != add; user = *user->user_begin())
        inner.insert(user);
    }
    addRuns(block, products, found);
  }
  return found;
}

/// Whether the gradient is added to an argument, whose place the sum takes, by the routine.
bool Merger::canAccumulate(LinearDwOp op) const {
  if (!isRoutine(op) || !op->hasOneUse())
    return false;
  auto add = dyn_cast<AddOp>(*op->user_begin());
  if (!add || add.getRhs() != op.getResult() || !add->hasOneUse() ||
      !isa<func::ReturnOp>(*add->user_begin()))
    return false;
  auto sum = dyn_cast<BlockArgument>(add.getLhs());
  auto place = op->getParentOfType<FuncOp>().getResultAttrOfType<IntegerAttr>(
      add->use_begin()->getOperandNumber(), kInPlaceAttr);
  Type from = tensorOf(op.getCotangent()).getElementType(), to = add.getType().getElementType();
  return sum && place && place.getInt() == sum.getArgNumber() && sum.getType() == add.getType() &&
         op.getType() == add.getType() && (from == to || (from.isBF16() && to.isF32()));
}

SmallVector<Products> Merger::findWeightGradients(FuncOp block) {
  llvm::MapVector<Value, Products> byInput;
  for (auto op : block.getOps<LinearDwOp>()) {
    if (!canAccumulate(op))
      continue;
    Products &products = byInput[op.getInput()];
    products.kind = Products::WeightGradients;
    products.ops.push_back(op);
    products.arguments.push_back(cast<AddOp>(*op->user_begin()).getLhs());
  }
  SmallVector<Products> found;
  for (auto &[input, products] : byInput)
    addRuns(block, products, found);
  return found;
}

//===----------------------------------------------------------------------===//
// Who reads and writes columns
//===----------------------------------------------------------------------===//

/// Whether each of the parts, side by side, begins at a multiple of 16 bytes in every row.
static bool areAligned(ArrayRef<Value> parts) {
  return llvm::all_of(parts, [](Value part) {
    return columns(part) * tensorOf(part).getElementTypeBitWidth() % 128 == 0;
  });
}

/// Whether who reads wants a dense tensor: a routine, but attention takes the columns of queries,
/// keys and values where they are, if they are aligned.
bool Merger::wantsDense(OpOperand &use, bool aligned) const {
  Operation *op = use.getOwner();
  if (!isRoutine(op))
    return false;
  Value value = use.get();
  bool takesColumns = llvm::TypeSwitch<Operation *, bool>(op)
                          .Case<AttentionOp, AttentionGradOp>([&](auto attention) {
                            return value == attention.getQuery() || value == attention.getKey() ||
                                   value == attention.getValue();
                          })
                          .Default([](Operation *) { return false; });
  return !takesColumns || !aligned;
}

/// The same of any that reads `part` or a view of it, beside `taking`, which take all parts
/// together.
bool Merger::isReadDense(Value part, bool aligned, ArrayRef<Operation *> taking) const {
  return llvm::any_of(usesOf(withoutViews(part)), [&](OpOperand *use) {
    return wantsDense(*use, aligned) && !llvm::is_contained(taking, use->getOwner());
  });
}

/// Whether what makes `part` does not write columns: no loop, nor the gradient of attention.
bool Merger::isMadeDense(Value part, bool aligned) const {
  Operation *maker = withoutViews(part).getDefiningOp();
  return !maker || isa<tensor::ExtractSliceOp>(maker) ||
         (isRoutine(maker) && !(isa<AttentionGradOp>(maker) && aligned));
}

//===----------------------------------------------------------------------===//
// What crosses
//===----------------------------------------------------------------------===//

/// The arguments of the block whose values, or views of them, are the parts.
std::optional<SmallVector<unsigned>> Merger::argumentsOf(const Products &products) const {
  SmallVector<unsigned> arguments;
  for (Value part : products.parts()) {
    auto argument = dyn_cast<BlockArgument>(withoutViews(part));
    if (!argument || llvm::is_contained(arguments, argument.getArgNumber()))
      return std::nullopt;
    arguments.push_back(argument.getArgNumber());
  }
  return arguments;
}

/// How `parts`, values of `producer` that it returns or views of which it returns, cross to
/// others. Adds the columns that readers have to copy to `copied`.
FailureOr<Crossing> Merger::findCrossing(FuncOp producer, ArrayRef<Value> parts, int64_t &copied,
                                         std::string &reason) {
  SmallVector<unsigned> results;
  for (Value part : parts)
    for (OpOperand *use : usesOf(withoutViews(part)))
      if (isa<func::ReturnOp>(use->getOwner()))
        results.push_back(use->getOperandNumber());
  if (results.size() != parts.size()) {
    reason = "not each of the values is read by other blocks, once";
    return failure();
  }
  FailureOr<Crossing> crossing = crossings.find(producer, results, reason);
  if (failed(crossing))
    return failure();
  for (Crossing::Reader &reader : crossing->readers) {
    // Ops that take the whole value.
    SmallVector<Operation *> whole;
    for (const SmallVector<Products> &list :
         {findInputGradients(reader.block), findWeightGradients(reader.block)})
      for (const Products &products : list)
        if (argumentsOf(products) == reader.arguments)
          llvm::append_range(whole, products.ops);
    const bool aligned = areAligned(parts);
    for (unsigned argument : reader.arguments) {
      Value value = reader.block.getArgument(argument);
      if (isReadDense(value, aligned, whole))
        copied += columns(value);
    }
  }
  return crossing;
}

/// The columns of `wide` from `offset` on, of `type` without heads.
static Value slice(OpBuilder &builder, Location loc, Value wide, int64_t offset,
                   RankedTensorType type) {
  ColumnSlice part{SmallVector<int64_t>(tensorOf(wide).getShape()), unsigned(type.getRank() - 1),
                   offset, type.getShape().back()};
  return tensor::ExtractSliceOp::create(builder, loc, type, wide, part.offsets(builder),
                                        part.sizes(builder), part.strides(builder));
}

/// A dense copy, made by a loop over rows.
static Value copy(OpBuilder &builder, Location loc, Value value) {
  DecompositionBuilder d(builder, loc);
  Value rows = d.rows(value);
  Value made = linalg::CopyOp::create(builder, loc, rows, d.empty(shapeOf(rows), elementOf(rows)))
                   .getResult(0);
  return d.view(made, shapeOf(value));
}

static Value viewAs(OpBuilder &builder, Location loc, Value value, RankedTensorType type) {
  if (value.getType() == type)
    return value;
  if (type.getRank() == 4)
    return SplitHeadsOp::create(builder, loc, value,
                                builder.getI64IntegerAttr(type.getShape().back()));
  return MergeHeadsOp::create(builder, loc, value);
}

/// Lets `wide` cross; readers find the parts in its columns, or take it whole.
void Merger::join(const Crossing &crossing, Value wide) {
  llvm::DenseMap<Operation *, SmallVector<Products>> takeWhole;
  for (const Crossing::Reader &reader : crossing.readers)
    for (const SmallVector<Products> &list :
         {findInputGradients(reader.block), findWeightGradients(reader.block)})
      for (const Products &products : list)
        if (argumentsOf(products) == reader.arguments) {
          takeWhole[reader.block].push_back(products);
          report(reader.block, products, kMerged);
        }
  crossings.join(crossing, wide, [&](FuncOp reader, Value whole, ArrayRef<Value> old) {
    for (const Products &products : takeWhole[reader])
      rewriteGradients(products, whole);
    const bool aligned = areAligned(old);
    int64_t offset = 0;
    for (Value value : old) {
      const int64_t from = offset;
      offset += columns(value);
      eraseViews(value);
      if (value.use_empty())
        continue;
      OpBuilder builder = OpBuilder::atBlockBegin(&reader.getBody().front());
      RankedTensorType type = tensorOf(value);
      Value part = slice(builder, value.getLoc(), whole, from, withoutHeads(type));
      if (isReadDense(value, aligned))
        part = copy(builder, value.getLoc(), part);
      value.replaceAllUsesWith(viewAs(builder, value.getLoc(), part, type));
    }
  });
}

//===----------------------------------------------------------------------===//
// One product
//===----------------------------------------------------------------------===//

static Value emptyOf(OpBuilder &builder, Location loc, RankedTensorType type) {
  return tensor::EmptyOp::create(builder, loc, type.getShape(), type.getElementType());
}

static std::string tooManyCopies(int64_t copied, int64_t all) {
  return std::to_string(copied) + " of " + std::to_string(all) + " columns would have to be copied";
}

void Merger::mergeOutputs(FuncOp block, const Products &products) {
  const size_t count = products.size();
  SmallVector<bool> copied, returned;
  int64_t all = 0;
  for (Value part : products.parts()) {
    all += columns(part);
    SmallVector<OpOperand *> uses = usesOf(part);
    copied.push_back(isReadDense(part, areAligned(products.parts())));
    returned.push_back(
        llvm::any_of(uses, [](OpOperand *use) { return isa<func::ReturnOp>(use->getOwner()); }));
  }
  // What is returned crosses as one, or each part dense.
  std::string reason;
  FailureOr<Crossing> crossing = failure();
  int64_t copiedByReaders = 0;
  if (llvm::is_contained(returned, true) && !llvm::is_contained(copied, true))
    crossing = findCrossing(block, products.parts(), copiedByReaders, reason);
  if (succeeded(crossing) && 2 * copiedByReaders > all) {
    crossing = failure();
    reason = tooManyCopies(copiedByReaders, all);
  }
  int64_t copies = 0;
  for (size_t i = 0; i < count; ++i) {
    copied[i] = copied[i] || (returned[i] && failed(crossing));
    copies += copied[i] ? columns(products.part(i)) : 0;
  }
  if (2 * copies > all) {
    std::string text = tooManyCopies(copies, all);
    return report(block, products, reason.empty() ? text : text + ": " + reason);
  }

  auto first = cast<LinearOp>(*llvm::min_element(
      products.ops, [](Operation *a, Operation *b) { return a->isBeforeInBlock(b); }));
  OpBuilder builder(first);
  Location loc = first.getLoc();
  Value input = first.getInput();
  SmallVector<int64_t> shape(first.getType().getShape());
  shape.back() = all;
  RankedTensorType type = first.getType().clone(shape);
  Value wide =
      routine::GemmOp::create(builder, loc, TypeRange(type), input, products.arguments, Value(),
                              emptyOf(builder, loc, type), Value(), type.getNumElements() / all,
                              all, columns(input), false, /*transpose_b=*/true, false)
          .getResult(0);
  if (succeeded(crossing))
    join(*crossing, wide);
  int64_t offset = 0;
  for (size_t i = 0; i < count; ++i) {
    Value part = slice(builder, loc, wide, offset, tensorOf(products.part(i)));
    offset += columns(part);
    if (copied[i])
      part = copy(builder, loc, part);
    products.part(i).replaceAllUsesWith(part);
  }
  for (Operation *op : products.ops)
    op->erase();
  report(block, products, kMerged);
}

Value Merger::concatenate(OpBuilder &builder, Location loc, ArrayRef<Value> parts,
                          ArrayRef<bool> copied) const {
  SmallVector<Value> dense;
  for (auto [part, isCopied] : llvm::zip_equal(parts, copied)) {
    Value value = viewAs(builder, loc, part, withoutHeads(tensorOf(part)));
    dense.push_back(isCopied ? copy(builder, loc, value) : value);
  }
  return tensor::ConcatOp::create(builder, loc, tensorOf(dense[0]).getRank() - 1, dense);
}

/// Makes the products one, of `wide`.
void Merger::rewriteGradients(const Products &products, Value wide) {
  Operation *first = products.ops[0];
  auto block = first->getParentOfType<FuncOp>();
  SmallVector<Value> arguments;
  const int64_t all = columns(wide), rows = tensorOf(wide).getNumElements() / all;
  if (products.kind == Products::InputGradients) {
    OpBuilder builder(products.root);
    for (Operation *op : products.ops)
      arguments.push_back(cast<LinearDxOp>(op).getWeight());
    RankedTensorType type = tensorOf(first->getResult(0));
    Value sum =
        routine::GemmOp::create(builder, products.root->getLoc(), TypeRange(type), wide, arguments,
                                Value(), emptyOf(builder, products.root->getLoc(), type), Value(),
                                rows, columns(first->getResult(0)), all, false, false, false)
            .getResult(0);
    // In the sum it takes the place of one summand; additions of the others go.
    for (Operation *op : ArrayRef(products.ops).drop_back()) {
      auto add = cast<AddOp>(*op->user_begin());
      Value other = add.getLhs() == op->getResult(0) ? add.getRhs() : add.getLhs();
      add.replaceAllUsesWith(other);
      add->erase();
      op->erase();
    }
    products.ops.back()->getResult(0).replaceAllUsesWith(sum);
    products.ops.back()->erase();
    // What of it is left comes behind.
    for (Operation *last = sum.getDefiningOp(), *user = nullptr;; last = user) {
      user = last->hasOneUse() ? *last->user_begin() : nullptr;
      if (!user || !user->isBeforeInBlock(last))
        break;
      user->moveAfter(last);
    }
    return;
  }
  SmallVector<Type> types;
  SmallVector<AddOp> adds;
  for (Operation *op : products.ops) {
    adds.push_back(cast<AddOp>(*op->user_begin()));
    arguments.push_back(adds.back().getLhs());
    types.push_back(arguments.back().getType());
  }
  Value input = cast<LinearDwOp>(first).getInput();
  // The whole is an argument, or was made for a sum of input gradients.
  OpBuilder builder(block.getBody().front().getTerminator());
  auto sums = routine::GemmOp::create(builder, first->getLoc(), types, wide, input, Value(),
                                      arguments, Value(), all, columns(input), rows,
                                      /*transpose_a=*/true, false, /*accumulate=*/true);
  for (auto [add, sum] : llvm::zip_equal(adds, sums.getResults())) {
    add.replaceAllUsesWith(sum);
    add->erase();
  }
  for (Operation *op : products.ops)
    op->erase();
}

void Merger::mergeInputGradients(FuncOp block, const Products &products) {
  if (argumentsOf(products))
    return; // parts that another block makes
  SmallVector<bool> copied;
  bool isReturned = false;
  int64_t all = 0, copies = 0;
  SmallVector<bool> returned;
  for (Value part : products.parts()) {
    all += columns(part);
    Value value = withoutViews(part);
    const bool aligned = areAligned(products.parts());
    copied.push_back(isMadeDense(part, aligned) || isReadDense(part, aligned, products.ops));
    returned.push_back(llvm::any_of(
        usesOf(value), [](OpOperand *use) { return isa<func::ReturnOp>(use->getOwner()); }));
    isReturned |= returned.back();
  }
  std::string reason;
  FailureOr<Crossing> crossing = failure();
  if (isReturned)
    crossing = findCrossing(block, products.parts(), copies, reason);
  for (size_t i = 0; i < products.size(); ++i) {
    copied[i] = copied[i] || (returned[i] && failed(crossing));
    copies += copied[i] ? columns(products.part(i)) : 0;
  }
  // A copy reads and writes its columns; a summand less is written and read once less.
  auto bytes = [](Value value, int64_t columns) {
    return columns * tensorOf(value).getElementTypeBitWidth() / 8;
  };
  Value sum = products.root->getResult(0);
  if (bytes(products.part(0), copies) > bytes(sum, columns(sum)) * int64_t(products.size() - 1)) {
    std::string text = tooManyCopies(copies, all);
    return report(block, products, reason.empty() ? text : text + ": " + reason);
  }
  OpBuilder builder(products.root);
  Value wide = concatenate(builder, products.root->getLoc(), products.parts(), copied);
  report(block, products, kMerged);
  rewriteGradients(products, wide);
  if (succeeded(crossing))
    join(*crossing, wide);
}

/// Products of what another block makes. Returns whether they are one now.
bool Merger::mergeArriving(FuncOp block, const Products &products) {
  std::optional<SmallVector<unsigned>> arguments = argumentsOf(products);
  if (!arguments)
    return report(block, products, "their operands are no arguments"), false;
  auto made = crossings.producerOf(block, *arguments);
  if (!made)
    return report(block, products, "not one block makes their operands"), false;
  auto [producer, results] = *made;
  Operation *end = producer.getBody().front().getTerminator();
  SmallVector<Value> parts;
  SmallVector<bool> copied;
  int64_t all = 0, copies = 0;
  for (unsigned result : results) {
    parts.push_back(end->getOperand(result));
    all += columns(parts.back());
  }
  for (Value part : parts) {
    const bool aligned = areAligned(parts);
    copied.push_back(isMadeDense(part, aligned) || isReadDense(part, aligned));
    copies += copied.back() ? columns(part) : 0;
  }
  std::string reason;
  FailureOr<Crossing> crossing = findCrossing(producer, parts, copies, reason);
  if (failed(crossing))
    return report(block, products, reason), false;
  if (2 * copies > all)
    return report(block, products, tooManyCopies(copies, all)), false;
  OpBuilder builder(end);
  join(*crossing, concatenate(builder, end->getLoc(), parts, copied));
  return true;
}

/// Sums of rows of f32 that a product of the block forms with what it reads anyway.
void Merger::formBiasGradients(FuncOp block) {
  for (SumRowsOp sum : llvm::make_early_inc_range(block.getOps<SumRowsOp>())) {
    Value dy = withoutViews(sum.getInput());
    LinearDwOp product;
    bool isShared = false;
    for (OpOperand *use : usesOf(dy)) {
      auto dw = dyn_cast<LinearDwOp>(use->getOwner());
      if (dw && isRoutine(dw) && withoutViews(dw.getCotangent()) == dy)
        product = dw;
      // A kernel that sums up the rows of several sums reads them once.
      isShared |= use->getOwner() != sum && !isRoutine(use->getOwner()) &&
                  llvm::is_contained(use->getOwner()->getResultTypes(), sum.getType());
    }
    if (!product || sum->use_empty() || !product.getType().getElementType().isF32() ||
        !sum.getType().getElementType().isF32() ||
        llvm::any_of(sum->getUsers(), [&](Operation *u) { return u->isBeforeInBlock(product); }))
      continue;
    auto add = dyn_cast<AddOp>(*sum->user_begin());
    auto target = dyn_cast_if_present<BlockArgument>(add ? add.getLhs() : Value());
    std::string name = "bias gradient" + (target ? " of " + nameOf(block, target) : "");
    if (isShared) {
      report(block, name + ": beside another sum of the same rows");
      continue;
    }
    report(block, name + ": with the product of its weight gradient");
    OpBuilder builder(product); // what it reads is there, and what reads it comes behind
    Location loc = product.getLoc();
    AddOp sums = canAccumulate(product) ? cast<AddOp>(*product->user_begin()) : AddOp();
    Value into = sums ? sums.getLhs() : emptyOf(builder, loc, product.getType());
    const int64_t m = columns(product.getCotangent()), n = columns(product.getInput());
    auto both = routine::GemmOp::create(
        builder, loc, {product.getType(), sum.getType()}, product.getCotangent(),
        product.getInput(), Value(), into, emptyOf(builder, loc, sum.getType()), m, n,
        tensorOf(product.getInput()).getNumElements() / n, /*transpose_a=*/true, false,
        /*accumulate=*/bool(sums));
    (sums ? sums.getResult() : product.getResult()).replaceAllUsesWith(both.getResult(0));
    sum.replaceAllUsesWith(both.getResult(1));
    if (sums)
      sums->erase();
    product->erase();
    sum->erase();
  }
}

//===----------------------------------------------------------------------===//
// The pass
//===----------------------------------------------------------------------===//

void Merger::run() {
  SmallVector<FuncOp> blocks;
  for (auto function : module.getOps<FuncOp>())
    if (function->hasAttr(kBlockAttr) && !function.isExternal())
      blocks.push_back(function);
  for (FuncOp block : blocks)
    for (const Products &products : findOutputs(block))
      mergeOutputs(block, products);
  for (FuncOp block : blocks) {
    SmallVector<Products> found = findInputGradients(block);
    for (const Products &products : llvm::reverse(found)) // first ones first
      mergeInputGradients(block, products);
  }
  for (FuncOp block : blocks)
    for (bool changed = true; changed;) {
      SmallVector<Products> arriving = findWeightGradients(block);
      llvm::append_range(arriving, llvm::make_filter_range(findInputGradients(block),
                                                           [&](const Products &products) {
                                                             return argumentsOf(products);
                                                           }));
      changed = llvm::any_of(
          arriving, [&](const Products &products) { return mergeArriving(block, products); });
    }
  for (FuncOp block : blocks)
    formBiasGradients(block);
  // Where memory is planned, these arguments must lie one behind the other.
  for (FuncOp block : blocks) {
    SmallVector<Attribute> runs;
    block.walk([&](routine::GemmOp gemm) {
      for (OperandRange parts : {gemm.getB(), gemm.getC()})
        if (parts.size() > 1)
          runs.push_back(
              DenseI64ArrayAttr::get(block.getContext(), llvm::map_to_vector(parts, [](Value part) {
                                       return int64_t(cast<BlockArgument>(part).getArgNumber());
                                     })));
    });
    if (!runs.empty())
      block->setAttr(kConsecutiveAttr, ArrayAttr::get(block.getContext(), runs));
  }
}

namespace {
struct MergeProductsPass : llamac::impl::MergeProductsPassBase<MergeProductsPass> {
  using MergeProductsPassBase::MergeProductsPassBase;
  explicit MergeProductsPass(std::shared_ptr<const Target> given) : target(std::move(given)) {}

  LogicalResult initialize(MLIRContext *context) override {
    return makeTarget(target, {.name = targetOption, .lower = lowerOption}, context);
  }

  void runOnOperation() override { Merger(getOperation(), *target).run(); }

private:
  std::shared_ptr<const Target> target; // null until one is made from the options
};
} // namespace

std::unique_ptr<Pass> llamac::createMergeProductsPass(std::shared_ptr<const Target> target) {
  return std::make_unique<MergeProductsPass>(std::move(target));
}
