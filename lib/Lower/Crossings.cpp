//===- Crossings.cpp - Values that pass between blocks --------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/Crossings.h"

#include "llamac/Support/Alignment.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::llamac;
using func::FuncOp;
using llama::ApplyOp;

RankedTensorType llamac::withoutHeads(RankedTensorType type) {
  if (type.getRank() != 4)
    return type;
  ArrayRef<int64_t> shape = type.getShape();
  return type.clone({shape[0], shape[1], shape[2] * shape[3]});
}

/// The attributes of a value that is whole by its parts; null if those say different things.
static DictionaryAttr attributesOf(ArrayRef<DictionaryAttr> parts, ArrayRef<Type> types) {
  SmallVector<Attribute> placements;
  for (auto [part, type] : llvm::zip_equal(parts, types)) {
    Attribute placement;
    for (NamedAttribute attribute : part ? part.getValue() : ArrayRef<NamedAttribute>())
      if (attribute.getName() != dist::kPlacementAttr)
        return {};
      else
        placement = attribute.getValue();
    if (auto heads = dyn_cast_or_null<dist::PlacementAttr>(placement);
        heads && cast<RankedTensorType>(type).getRank() == 4) {
      if (!cast<ArrayAttr>(heads.getSplit()[3]).empty())
        return {};
      placement = dist::PlacementAttr::get(
          heads.getContext(),
          ArrayAttr::get(heads.getContext(), heads.getSplit().getValue().drop_back()),
          heads.getPartial(), heads.getIsMaximum());
    }
    placements.push_back(placement);
  }
  if (!llvm::all_equal(placements))
    return {};
  NamedAttrList list;
  if (placements[0])
    list.set(dist::kPlacementAttr, placements[0]);
  return list.getDictionary(types[0].getContext());
}

static SmallVector<DictionaryAttr> dictionaries(ArrayAttr attributes, unsigned count,
                                                MLIRContext *context) {
  SmallVector<DictionaryAttr> list;
  for (unsigned i = 0; i < count; ++i)
    list.push_back(attributes ? cast<DictionaryAttr>(attributes[i]) : DictionaryAttr::get(context));
  return list;
}
static SmallVector<DictionaryAttr> ofArguments(FuncOp function) {
  return dictionaries(function.getAllArgAttrs(), function.getNumArguments(), function.getContext());
}
static SmallVector<DictionaryAttr> ofResults(FuncOp function) {
  return dictionaries(function.getAllResultAttrs(), function.getNumResults(),
                      function.getContext());
}

/// `list` with `whole` in the place of the first of `positions`, and without the others.
template <typename T>
static SmallVector<T> joined(ArrayRef<T> list, ArrayRef<unsigned> positions, T whole) {
  const unsigned first = *llvm::min_element(positions);
  SmallVector<T> result;
  for (auto [i, one] : llvm::enumerate(list))
    if (i == first)
      result.push_back(whole);
    else if (!llvm::is_contained(positions, i))
      result.push_back(one);
  return result;
}

template <typename T> static SmallVector<T> at(ArrayRef<T> list, ArrayRef<unsigned> positions) {
  return llvm::map_to_vector(positions, [&](unsigned i) { return list[i]; });
}

/// Gives a function the types and attributes that its body has now.
static void retype(FuncOp function, ArrayRef<DictionaryAttr> arguments,
                   ArrayRef<DictionaryAttr> results) {
  Block &body = function.getBody().front();
  function.setFunctionType(FunctionType::get(function.getContext(), body.getArgumentTypes(),
                                             body.getTerminator()->getOperandTypes()));
  function.setAllArgAttrs(arguments);
  function.setAllResultAttrs(results);
}

void Crossings::index() {
  applications.clear();
  writers.clear();
  readers.clear();
  SymbolTable symbols(module);
  for (auto function : module.getOps<FuncOp>()) {
    if (function.isExternal() || function->hasAttr(llama::kBlockAttr))
      continue;
    for (auto apply : function.getOps<ApplyOp>())
      applications[symbols.lookup(apply.getBlock())].push_back(apply);
    for (bool isResult : {false, true})
      for (unsigned i = 0, e = isResult ? function.getNumResults() : function.getNumArguments();
           i < e; ++i)
        if (StringAttr name = nameOf({function, i}, isResult))
          (isResult ? writers : readers)[name].push_back({function, i});
  }
}

ArrayRef<ApplyOp> Crossings::applicationsOf(FuncOp block) const {
  auto found = applications.find(block);
  return found == applications.end() ? ArrayRef<ApplyOp>() : found->second;
}

StringAttr Crossings::nameOf(Site site, bool isResult) const {
  return isResult ? site.graph.getResultAttrOfType<StringAttr>(site.index, dist::kCrossingAttr)
                  : site.graph.getArgAttrOfType<StringAttr>(site.index, dist::kCrossingAttr);
}

/// Whether what `parts`, values of one graph that it returns, have of a frame is theirs alone: one
/// value has room there. All that read them read that frame.
LogicalResult Crossings::checkFrames(ArrayRef<Value> parts, std::string &reason) const {
  SmallVector<std::pair<int64_t, int64_t>> places; // begin, bytes
  Attribute frame;
  for (Value part : parts)
    for (OpOperand &use : part.getUses()) {
      if (!isa<func::ReturnOp>(use.getOwner()))
        continue;
      auto graph = use.getOwner()->getParentOfType<FuncOp>();
      auto place = graph.getResultAttrOfType<ArrayAttr>(use.getOperandNumber(), dist::kFrameAttr);
      StringAttr name = nameOf({graph, use.getOperandNumber()}, true);
      if (!place || !name) {
        reason = "a graph returns one of the values";
        return failure();
      }
      if (frame && frame != place[0]) {
        reason = "the values lie in different frames";
        return failure();
      }
      frame = place[0];
      auto type = cast<RankedTensorType>(part.getType());
      places.push_back({cast<IntegerAttr>(place[1]).getInt(),
                        type.getNumElements() * type.getElementTypeBitWidth() / 8});
      auto found = readers.find(name);
      for (Site site : found == readers.end() ? ArrayRef<Site>() : found->second)
        if (site.graph.getArgAttrOfType<ArrayAttr>(site.index, dist::kFrameAttr) != place) {
          reason = "a value goes on to another stage";
          return failure();
        }
    }
  if (places.empty())
    return success();
  llvm::sort(places);
  bool dense = places.size() == parts.size();
  for (size_t i = 1; dense && i < places.size(); ++i)
    dense = places[i].first ==
            int64_t(llvm::alignTo(places[i - 1].first + places[i - 1].second, alignmentOf(module)));
  if (!dense)
    reason = "the values do not lie beside each other in their frame";
  return success(dense);
}

FailureOr<Crossing> Crossings::find(FuncOp producer, ArrayRef<unsigned> results,
                                    std::string &reason) const {
  Crossing crossing{producer, SmallVector<unsigned>(results), {}};
  llvm::DenseMap<Operation *, unsigned> found; // applications of a reader that were met
  // The values that are the parts somewhere: results of applications, arguments of graphs.
  SmallVector<SmallVector<Value>> pending;
  for (ApplyOp apply : applicationsOf(producer))
    pending.push_back(
        llvm::map_to_vector(results, [&](unsigned r) { return Value(apply.getResult(r)); }));
  if (!attributesOf(at<DictionaryAttr>(ofResults(producer), results),
                    at<Type>(producer.getResultTypes(), results))) {
    reason = "the values are placed differently on the grid";
    return failure();
  }
  while (!pending.empty()) {
    SmallVector<Value> parts = pending.pop_back_val();
    if (failed(checkFrames(parts, reason)))
      return failure();
    // All parts have the same users, once each.
    for (OpOperand &use : parts[0].getUses()) {
      SmallVector<unsigned> positions;
      for (Value part : parts)
        for (OpOperand &other : part.getUses())
          if (other.getOwner() == use.getOwner())
            positions.push_back(other.getOperandNumber());
      if (positions.size() != parts.size() || !isa<ApplyOp, func::ReturnOp>(use.getOwner())) {
        reason = "the values are not read together";
        return failure();
      }
      auto graph = use.getOwner()->getParentOfType<FuncOp>();
      if (isa<func::ReturnOp>(use.getOwner())) {
        auto sites = readers.find(nameOf({graph, positions[0]}, true));
        for (Site site : sites == readers.end() ? ArrayRef<Site>() : sites->second) {
          SmallVector<Value> arguments;
          for (unsigned position : positions) {
            auto same = readers.find(nameOf({graph, position}, true));
            for (Site other : same == readers.end() ? ArrayRef<Site>() : same->second)
              if (other.graph == site.graph)
                arguments.push_back(other.graph.getArgument(other.index));
          }
          if (arguments.size() != parts.size()) {
            reason = "the values are not read together";
            return failure();
          }
          pending.push_back(arguments);
        }
        continue;
      }
      auto apply = cast<ApplyOp>(use.getOwner());
      auto block = SymbolTable::lookupNearestSymbolFrom<FuncOp>(apply, apply.getBlockAttr());
      auto *reader =
          llvm::find_if(crossing.readers, [&](Crossing::Reader &r) { return r.block == block; });
      if (reader == crossing.readers.end()) {
        crossing.readers.push_back({block, positions});
        reader = std::prev(crossing.readers.end());
      }
      if (reader->arguments != positions ||
          !attributesOf(at<DictionaryAttr>(ofArguments(block), positions),
                        at<Type>(block.getArgumentTypes(), positions))) {
        reason = "the values are read in different ways";
        return failure();
      }
      ++found[block];
    }
    for (Value part : ArrayRef(parts).drop_front())
      if (llvm::range_size(part.getUses()) != llvm::range_size(parts[0].getUses())) {
        reason = "the values are not read together";
        return failure();
      }
  }
  for (Crossing::Reader &reader : crossing.readers)
    if (found[reader.block] != applicationsOf(reader.block).size()) {
      reason = ("'" + reader.block.getSymName() + "' reads values of other blocks too").str();
      return failure();
    }
  return crossing;
}

std::optional<std::pair<FuncOp, SmallVector<unsigned>>>
Crossings::producerOf(FuncOp reader, ArrayRef<unsigned> arguments) const {
  std::optional<std::pair<FuncOp, SmallVector<unsigned>>> producer;
  for (ApplyOp apply : applicationsOf(reader)) {
    FuncOp block;
    SmallVector<unsigned> results;
    for (unsigned argument : arguments) {
      if (argument >= apply.getInputs().size())
        return std::nullopt;
      Value value = apply.getInputs()[argument];
      if (auto of = dyn_cast<BlockArgument>(value)) {
        auto graph = cast<FuncOp>(of.getOwner()->getParentOp());
        auto found = writers.find(nameOf({graph, of.getArgNumber()}, false));
        if (found == writers.end())
          return std::nullopt;
        FuncOp from = found->second[0].graph;
        value = from.getBody().front().getTerminator()->getOperand(found->second[0].index);
      }
      auto maker = value.getDefiningOp<ApplyOp>();
      if (!maker)
        return std::nullopt;
      auto of = SymbolTable::lookupNearestSymbolFrom<FuncOp>(maker, maker.getBlockAttr());
      if (block && of != block)
        return std::nullopt;
      block = of;
      results.push_back(cast<OpResult>(value).getResultNumber());
    }
    if (producer && (producer->first != block || producer->second != results))
      return std::nullopt;
    producer = {block, results};
  }
  return producer;
}

/// In all that read them in a graph, `whole` takes the place of `parts`.
void Crossings::replace(ArrayRef<Value> parts, Value whole) {
  while (!parts[0].use_empty()) {
    Operation *user = parts[0].use_begin()->getOwner();
    SmallVector<unsigned> positions;
    for (Value part : parts)
      for (OpOperand &use : part.getUses())
        if (use.getOwner() == user)
          positions.push_back(use.getOperandNumber());
    SmallVector<Value> operands(user->getOperands());
    user->setOperands(joined<Value>(operands, positions, whole));
    if (!isa<func::ReturnOp>(user))
      continue;
    // Of the parts, the one that comes first in the frame names what crosses.
    auto graph = cast<FuncOp>(user->getParentOp());
    auto offsetOf = [](DictionaryAttr attributes) {
      return cast<IntegerAttr>(attributes.getAs<ArrayAttr>(dist::kFrameAttr)[1]).getInt();
    };
    auto firstOf = [&](ArrayRef<DictionaryAttr> attributes) {
      return *llvm::min_element(attributes, [&](DictionaryAttr a, DictionaryAttr b) {
        return offsetOf(a) < offsetOf(b);
      });
    };
    SmallVector<DictionaryAttr> results = ofResults(graph);
    SmallVector<DictionaryAttr> ofParts = at<DictionaryAttr>(results, positions);
    SmallVector<StringAttr> names = llvm::map_to_vector(ofParts, [](DictionaryAttr attributes) {
      return attributes.getAs<StringAttr>(dist::kCrossingAttr);
    });
    retype(graph, ofArguments(graph), joined<DictionaryAttr>(results, positions, firstOf(ofParts)));
    // The graphs that read it.
    auto sites = readers.find(names[0]);
    if (sites == readers.end())
      continue;
    for (FuncOp reader :
         llvm::map_to_vector(sites->second, [](const Site &site) { return site.graph; })) {
      SmallVector<unsigned> arguments;
      for (StringAttr name : names)
        for (unsigned i = 0; i < reader.getNumArguments(); ++i)
          if (nameOf({reader, i}, false) == name)
            arguments.push_back(i);
      if (arguments.size() != names.size()) // was one already: another graph writes it too
        continue;
      SmallVector<DictionaryAttr> attributes = ofArguments(reader);
      const unsigned first = *llvm::min_element(arguments);
      Block &body = reader.getBody().front();
      SmallVector<Value> old =
          llvm::map_to_vector(arguments, [&](unsigned i) { return Value(body.getArgument(i)); });
      Value one = body.insertArgument(first, whole.getType(), old[0].getLoc());
      replace(old, one);
      for (Value part : old)
        body.eraseArgument(cast<BlockArgument>(part).getArgNumber());
      retype(reader,
             joined<DictionaryAttr>(attributes, arguments,
                                    firstOf(at<DictionaryAttr>(attributes, arguments))),
             ofResults(reader));
    }
  }
}

void Crossings::join(
    const Crossing &crossing, Value whole,
    llvm::function_ref<void(FuncOp reader, Value whole, ArrayRef<Value> old)> split) {
  // The producer.
  FuncOp producer = crossing.producer;
  Operation *end = producer.getBody().front().getTerminator();
  SmallVector<Value> returned(end->getOperands());
  SmallVector<DictionaryAttr> results = ofResults(producer);
  DictionaryAttr attributes = attributesOf(at<DictionaryAttr>(results, crossing.results),
                                           at<Type>(producer.getResultTypes(), crossing.results));
  end->setOperands(joined<Value>(returned, crossing.results, whole));
  retype(producer, ofArguments(producer),
         joined<DictionaryAttr>(results, crossing.results, attributes));

  // Its applications, and all between them and those of the readers.
  const unsigned first = *llvm::min_element(crossing.results);
  for (ApplyOp &apply : applications[producer]) {
    OpBuilder builder(apply);
    SmallVector<Type> types(apply->getResultTypes());
    auto made = ApplyOp::create(builder, apply.getLoc(),
                                joined<Type>(types, crossing.results, whole.getType()),
                                apply->getOperands(), apply->getAttrs());
    SmallVector<Value> parts;
    for (unsigned r : crossing.results)
      parts.push_back(apply.getResult(r));
    replace(parts, made.getResult(first));
    unsigned next = 0;
    for (unsigned r = 0; r < apply.getNumResults(); ++r) {
      if (r == first)
        ++next;
      else if (!llvm::is_contained(crossing.results, r))
        apply.getResult(r).replaceAllUsesWith(made.getResult(next++));
    }
    apply->erase();
    apply = made;
  }

  // The readers.
  for (const Crossing::Reader &reader : crossing.readers) {
    FuncOp block = reader.block;
    Block &body = block.getBody().front();
    SmallVector<DictionaryAttr> arguments = ofArguments(block), ofOutputs = ofResults(block);
    DictionaryAttr of = attributesOf(at<DictionaryAttr>(arguments, reader.arguments),
                                     at<Type>(block.getArgumentTypes(), reader.arguments));
    const unsigned at = *llvm::min_element(reader.arguments);
    SmallVector<Value> old = llvm::map_to_vector(
        reader.arguments, [&](unsigned i) { return Value(body.getArgument(i)); });
    Value one = body.insertArgument(at, whole.getType(), old[0].getLoc());
    split(block, one, old);
    for (Value part : old)
      body.eraseArgument(cast<BlockArgument>(part).getArgNumber());
    // Places of results are numbers of arguments.
    for (DictionaryAttr &result : ofOutputs)
      if (auto place = result.getAs<IntegerAttr>(llama::kInPlaceAttr)) {
        int64_t number = place.getInt();
        int64_t before =
            llvm::count_if(reader.arguments, [&](unsigned i) { return int64_t(i) < number; });
        NamedAttrList changed(result);
        changed.set(llama::kInPlaceAttr,
                    IntegerAttr::get(place.getType(), number - before + (before ? 1 : 0)));
        result = changed.getDictionary(block.getContext());
      }
    retype(block, joined<DictionaryAttr>(arguments, reader.arguments, of), ofOutputs);
  }
  index();
}
