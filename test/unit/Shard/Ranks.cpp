//===- Ranks.cpp - Runs the graphs of a program on several ranks ----------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Ranks.h"

#include "../Blocks/LoadObjects.h"

#include "dialects/Llama/IR/Llama.h"
#include "llamac/Lower/Passes.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Shard/IR/ShardOps.h"
#include "mlir/Pass/PassManager.h"

#include <cmath>
#include <cstring>
#include <gtest/gtest.h>

using namespace mlir;
using namespace llamac_test;

[[noreturn]] static void fail(const Twine &message) {
  llvm::report_fatal_error(message, /*gen_crash_diag=*/false);
}

double llamac_test::relativeError(const Tensor &got, const Tensor &want) {
  if (got.shape != want.shape)
    return INFINITY;
  double difference = 0, norm = 0;
  for (size_t i = 0; i < want.values.size(); ++i) {
    difference += (got.values[i] - want.values[i]) * (got.values[i] - want.values[i]);
    norm += want.values[i] * want.values[i];
  }
  double least = 1e-3 * std::sqrt(double(want.values.size()));
  return std::sqrt(difference) / std::max(std::sqrt(norm), least);
}

Layout llamac_test::layoutOf(ArrayAttr split, ArrayAttr partial) {
  auto names = [](ArrayAttr array) {
    std::vector<std::string> result;
    if (array)
      for (auto name : array.getAsRange<StringAttr>())
        result.push_back(name.str());
    return result;
  };
  Layout layout;
  if (split)
    for (auto axes : split.getAsRange<ArrayAttr>())
      layout.split.push_back(names(axes));
  layout.partial = names(partial);
  return layout;
}

//===----------------------------------------------------------------------===//
// Tensors
//===----------------------------------------------------------------------===//

static std::vector<int64_t> shapeOf(Type type) {
  return cast<RankedTensorType>(type).getShape().vec();
}

static size_t count(ArrayRef<int64_t> shape) {
  size_t elements = 1;
  for (int64_t size : shape)
    elements *= size;
  return elements;
}

// Calls `visit(offset in whole, offset in part)` for each element of the part that begins
// at `begin` in a tensor of shape `whole`.
static void visitPart(ArrayRef<int64_t> whole, ArrayRef<int64_t> part, ArrayRef<int64_t> begin,
                      llvm::function_ref<void(size_t, size_t)> visit) {
  for (size_t i = 0, elements = count(part); i < elements; ++i) {
    size_t rest = i, at = 0, stride = 1;
    for (int64_t d = whole.size() - 1; d >= 0; --d) {
      at += (begin[d] + rest % part[d]) * stride;
      rest /= part[d];
      stride *= whole[d];
    }
    visit(at, i);
  }
}

// Part `index` of `parts` along `dimension`.
static Tensor slice(const Tensor &tensor, unsigned dimension, int64_t index, int64_t parts) {
  Tensor result{tensor.shape, {}};
  result.shape[dimension] /= parts;
  result.values.resize(count(result.shape));
  std::vector<int64_t> begin(tensor.shape.size());
  begin[dimension] = index * result.shape[dimension];
  visitPart(tensor.shape, result.shape, begin,
            [&](size_t from, size_t to) { result.values[to] = tensor.values[from]; });
  return result;
}

//===----------------------------------------------------------------------===//
// Where ranks are
//===----------------------------------------------------------------------===//

std::vector<int64_t> Ranks::coordinates(int64_t rank) const {
  std::vector<int64_t> result(axes.size());
  for (int64_t i = axes.size() - 1; i >= 0; --i) {
    result[i] = rank % axes[i].size;
    rank /= axes[i].size;
  }
  return result;
}

static size_t numberOf(ArrayRef<llamac::Axis> axes, const std::string &name) {
  for (size_t i = 0; i < axes.size(); ++i)
    if (axes[i].name == name)
      return i;
  fail("no axis " + name);
}

int64_t Ranks::sizeOf(const std::vector<std::string> &names) const {
  int64_t size = 1;
  for (const std::string &name : names)
    size *= axes[numberOf(axes, name)].size;
  return size;
}

// The linear index of the rank on the axes `names`, the last one fastest.
int64_t Ranks::indexOn(const std::vector<std::string> &names, int64_t rank) const {
  int64_t index = 0;
  for (const std::string &name : names)
    index = index * axes[numberOf(axes, name)].size + coordinates(rank)[numberOf(axes, name)];
  return index;
}

Tensor Ranks::part(const Tensor &whole, const Layout &layout, int64_t rank) const {
  Tensor result = whole;
  for (size_t d = 0; d < layout.split.size(); ++d)
    result = slice(result, d, indexOn(layout.split[d], rank), sizeOf(layout.split[d]));
  return result;
}

Tensor Ranks::whole(const std::vector<Tensor> &parts, const Layout &layout, StringRef name) const {
  std::vector<int64_t> shape = parts[0].shape;
  for (size_t d = 0; d < layout.split.size(); ++d)
    shape[d] *= sizeOf(layout.split[d]);
  // Axes on which the tensor is whole: ranks there hold copies.
  std::vector<std::string> copies;
  for (const llamac::Axis &axis : axes)
    if (!llvm::is_contained(layout.partial, axis.name) &&
        llvm::none_of(layout.split,
                      [&](auto &names) { return llvm::is_contained(names, axis.name); }))
      copies.push_back(axis.name);
  std::vector<Tensor> found(sizeOf(copies), Tensor{shape, std::vector<double>(count(shape))});
  for (int64_t rank = 0; rank < ranks; ++rank) {
    std::vector<int64_t> begin(shape.size());
    for (size_t d = 0; d < layout.split.size(); ++d)
      begin[d] = indexOn(layout.split[d], rank) * parts[rank].shape[d];
    Tensor &into = found[indexOn(copies, rank)];
    visitPart(shape, parts[rank].shape, begin,
              [&](size_t to, size_t from) { into.values[to] += parts[rank].values[from]; });
  }
  for (const Tensor &copy : found)
    EXPECT_LT(relativeError(copy, found[0]), 1e-13)
        << name.str() << ": ranks hold different copies";
  return found[0];
}

std::vector<Tensor> Ranks::collective(Operation *op, const std::vector<Tensor> &values) const {
  std::vector<std::string> names, others;
  auto over = op->getAttrOfType<DenseI16ArrayAttr>("grid_axes").asArrayRef();
  for (int16_t axis : over)
    names.push_back(axes[axis].name);
  for (const llamac::Axis &axis : axes)
    if (!llvm::is_contained(names, axis.name))
      others.push_back(axis.name);
  int64_t members = sizeOf(names);
  std::vector<Tensor> results(ranks);
  for (int64_t rank = 0; rank < ranks; ++rank) {
    // The ranks of the group, in order.
    std::vector<const Tensor *> group(members);
    for (int64_t other = 0; other < ranks; ++other)
      if (indexOn(others, other) == indexOn(others, rank))
        group[indexOn(names, other)] = &values[other];
    auto reduced = [&](bool isMaximum) {
      Tensor result = *group[0];
      for (int64_t member = 1; member < members; ++member)
        for (size_t i = 0; i < result.values.size(); ++i)
          result.values[i] = isMaximum ? std::max(result.values[i], group[member]->values[i])
                                       : result.values[i] + group[member]->values[i];
      return result;
    };
    if (auto gather = dyn_cast<shard::AllGatherOp>(op)) {
      unsigned dimension = gather.getGatherAxis().getZExtValue();
      Tensor &result = results[rank];
      result.shape = values[rank].shape;
      result.shape[dimension] *= members;
      result.values.resize(count(result.shape));
      for (int64_t member = 0; member < members; ++member) {
        std::vector<int64_t> begin(result.shape.size());
        begin[dimension] = member * values[rank].shape[dimension];
        visitPart(result.shape, group[member]->shape, begin,
                  [&](size_t to, size_t from) { result.values[to] = group[member]->values[from]; });
      }
    } else if (auto reduce = dyn_cast<shard::AllReduceOp>(op)) {
      results[rank] = reduced(reduce.getReduction() == shard::ReductionKind::Max);
    } else if (auto scatter = dyn_cast<shard::ReduceScatterOp>(op)) {
      results[rank] = slice(reduced(scatter.getReduction() == shard::ReductionKind::Max),
                            scatter.getScatterAxis().getZExtValue(), indexOn(names, rank), members);
    } else if (auto take = dyn_cast<shard::AllSliceOp>(op)) {
      results[rank] =
          slice(values[rank], take.getSliceAxis().getZExtValue(), indexOn(names, rank), members);
    } else {
      fail("a graph holds " + op->getName().getStringRef());
    }
    if (results[rank].shape != shapeOf(op->getResult(0).getType()))
      fail("a collective does not make the shape it says");
  }
  return results;
}

//===----------------------------------------------------------------------===//
// Blocks
//===----------------------------------------------------------------------===//

struct CompiledBlock {
  LlrtBlock function = nullptr;
  int64_t scratch = 0;
  std::vector<Type> arguments, results;
  std::vector<int64_t> inPlace; // per result: the argument, or -1
};

struct Ranks::State {
  std::unique_ptr<llvm::orc::LLJIT> jit;
  llvm::StringMap<CompiledBlock> blocks;
};

Ranks::Ranks(ModuleOp module)
    : state(std::make_unique<State>()), module(module), axes(llamac::axesOf(module)) {
  for (const llamac::Axis &axis : axes)
    ranks *= axis.size;
  for (auto block : module.getOps<func::FuncOp>()) {
    if (!block->hasAttr(llama::kBlockAttr))
      continue;
    CompiledBlock &entry = state->blocks[block.getName()];
    entry.arguments = std::vector<Type>(block.getArgumentTypes());
    entry.results = std::vector<Type>(block.getResultTypes());
    for (unsigned i = 0; i < block.getNumResults(); ++i) {
      auto place = block.getResultAttrOfType<IntegerAttr>(i, llama::kInPlaceAttr);
      entry.inPlace.push_back(place ? place.getInt() : -1);
    }
  }

  OwningOpRef<ModuleOp> lowered = module.clone();
  auto target = llvm::cantFail(llamac::makeTarget({.lower = "reference"}));
  PassManager pm(module.getContext());
  llamac::buildLowerBlocksPipeline(pm, target);
  if (failed(pm.run(*lowered)))
    fail("the blocks do not lower");
  auto objects = target->compile(*lowered, 2);
  if (failed(objects))
    fail("the blocks do not compile");

  state->jit = loadObjects(*objects);
  for (auto block : lowered->getOps<func::FuncOp>()) {
    auto code = block->getAttrOfType<SymbolRefAttr>(llamac::kCodeAttr);
    if (!code)
      continue;
    auto function = cast<LLVM::LLVMFuncOp>(SymbolTable::lookupSymbolIn(*lowered, code));
    CompiledBlock &entry = state->blocks[block.getName()];
    entry.scratch = function->getAttrOfType<IntegerAttr>(llamac::kScratchAttr).getInt();
    entry.function = findBlock(*state->jit, code.getLeafReference().getValue());
  }
}

Ranks::~Ranks() = default;

// The bytes of a tensor of `type`: f64, i64 or f32 (pixels).
static std::vector<char> encode(const Tensor &tensor, Type type) {
  Type element = cast<RankedTensorType>(type).getElementType();
  std::vector<char> bytes;
  auto put = [&](auto value) {
    const char *from = reinterpret_cast<const char *>(&value);
    bytes.insert(bytes.end(), from, from + sizeof(value));
  };
  for (double value : tensor.values) {
    if (element.isInteger(64))
      put(int64_t(value));
    else if (element.isF32())
      put(float(value));
    else
      put(value);
  }
  return bytes;
}

// Results are f64 or i64.
static Tensor decode(const std::vector<char> &bytes, Type type) {
  Tensor tensor{shapeOf(type), std::vector<double>(bytes.size() / 8)};
  std::memcpy(tensor.values.data(), bytes.data(), bytes.size());
  if (cast<RankedTensorType>(type).getElementType().isInteger(64))
    for (double &value : tensor.values)
      value = double(llvm::bit_cast<int64_t>(value));
  return tensor;
}

void Ranks::call(StringRef block, const std::vector<Tensor *> &arguments,
                 std::vector<Tensor> &results) const {
  const CompiledBlock &entry = state->blocks.find(block)->second;
  std::vector<std::vector<char>> buffers;
  for (auto [argument, type] : llvm::zip_equal(arguments, entry.arguments)) {
    if (argument->shape != shapeOf(type))
      fail(block + " is called with a wrong shape");
    buffers.push_back(encode(*argument, type));
  }
  std::vector<size_t> places;
  for (auto [type, place] : llvm::zip_equal(entry.results, entry.inPlace)) {
    Type element = cast<RankedTensorType>(type).getElementType();
    if (!element.isF64() && !element.isInteger(64))
      fail(block + " has a result that is neither f64 nor i64");
    places.push_back(place >= 0 ? place : buffers.size());
    if (place < 0)
      buffers.emplace_back(8 * count(shapeOf(type)), '\xff'); // NaN where nothing is written
  }
  buffers.emplace_back(entry.scratch);
  std::vector<void *> pointers;
  for (auto &buffer : buffers)
    pointers.push_back(buffer.data());
  LlrtStream stream;
  entry.function(&stream, pointers.data());
  for (auto [type, place] : llvm::zip_equal(entry.results, places))
    results.push_back(decode(buffers[place], type));
}

//===----------------------------------------------------------------------===//
// Graphs
//===----------------------------------------------------------------------===//

Ranks::Values Ranks::run(StringRef name, const Values &inputs, const Values &parameters) const {
  ModuleOp module = this->module;
  auto graph = module.lookupSymbol<func::FuncOp>(name);
  llvm::DenseMap<Value, std::vector<Tensor>> values;
  std::map<std::string, std::vector<Tensor>> weights, gradients;
  for (auto parameter : module.getOps<llama::ParameterOp>()) {
    Layout layout = layoutOf(parameter.getSplitAttr(), {});
    for (int64_t rank = 0; rank < ranks; ++rank)
      weights[parameter.getSymName().str()].push_back(
          part(parameters.at(parameter.getSymName().str()), layout, rank));
  }
  for (BlockArgument argument : graph.getArguments()) {
    unsigned i = argument.getArgNumber();
    auto input = graph.getArgAttrOfType<StringAttr>(i, llama::kInputAttr).getValue();
    Layout layout = layoutOf(graph.getArgAttrOfType<ArrayAttr>(i, llamac::kSplitAttr), {});
    bool isCoordinate = input.consume_front(llamac::kCoordinatePrefix);
    SmallVector<StringRef> names;
    input.split(names, ',');
    for (int64_t rank = 0; rank < ranks; ++rank) {
      if (isCoordinate)
        values[argument].push_back({{1}, {double(indexOn({names.begin(), names.end()}, rank))}});
      else
        values[argument].push_back(part(inputs.at(input.str()), layout, rank));
    }
  }

  Operation *end = graph.getBody().front().getTerminator();
  for (Operation &op : graph.getBody().front().without_terminator()) {
    auto apply = dyn_cast<llama::ApplyOp>(op);
    if (!apply) {
      values[op.getResult(0)] = collective(&op, values[op.getOperand(0)]);
      continue;
    }
    const CompiledBlock &block = state->blocks.find(apply.getBlock())->second;
    unsigned firstGradient = block.arguments.size() - apply.getGradients().size();
    for (int64_t rank = 0; rank < ranks; ++rank) {
      std::vector<Tensor *> arguments;
      for (Value input : apply.getInputs())
        arguments.push_back(&values[input][rank]);
      for (auto parameter : apply.getParameters().getAsRange<FlatSymbolRefAttr>())
        arguments.push_back(&weights.at(parameter.getValue().str())[rank]);
      for (auto [i, parameter] :
           llvm::enumerate(apply.getGradients().getAsRange<FlatSymbolRefAttr>())) {
        auto &gradient = gradients[parameter.getValue().str()];
        gradient.resize(ranks);
        if (gradient[rank].values.empty()) {
          gradient[rank].shape = shapeOf(block.arguments[firstGradient + i]);
          gradient[rank].values.resize(count(gradient[rank].shape));
        }
        arguments.push_back(&gradient[rank]);
      }
      std::vector<Tensor> results;
      call(apply.getBlock(), arguments, results);
      for (auto [i, result] : llvm::enumerate(apply.getResults())) {
        values[result].resize(ranks);
        values[result][rank] = results[i];
      }
      for (auto [i, parameter] :
           llvm::enumerate(apply.getGradients().getAsRange<FlatSymbolRefAttr>()))
        gradients[parameter.getValue().str()][rank] = results[apply.getNumResults() + i];
    }
  }

  Values outputs;
  for (OpOperand &result : end->getOpOperands()) {
    unsigned i = result.getOperandNumber();
    auto output = graph.getResultAttrOfType<StringAttr>(i, llama::kOutputAttr).str();
    Layout layout = layoutOf(graph.getResultAttrOfType<ArrayAttr>(i, llamac::kSplitAttr),
                             graph.getResultAttrOfType<ArrayAttr>(i, llamac::kPartialAttr));
    outputs[output] = whole(values[result.get()], layout, output);
  }
  for (auto &[parameter, parts] : gradients) {
    auto op = module.lookupSymbol<llama::ParameterOp>(parameter);
    outputs[parameter] = whole(parts, layoutOf(op.getSplitAttr(), op.getPartialAttr()), parameter);
  }
  return outputs;
}
