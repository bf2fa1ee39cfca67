//===- TileKernels.cpp - Independent elements by way of shared memory -----===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// In a nest of independent elements neighbouring threads may access a buffer in runs that do not
// fill sectors of 32 bytes: every fifth element, or 14 elements of a patch. A block then does a
// tile, all iterations of the inner loops, of which the elements of that buffer lie side by side,
// each accessed once. They are in shared memory: copied there before, or to the buffer behind it,
// 16 bytes of a thread beside those of the next.
//
//   for row, column {
//     a[row, column] = x[row, 2 * column]
//     b[row, column] = x[row, 2 * column + 1]
//   }
//
//     a block has a row; x[row, ...] is copied to shared memory
//
//   for image, y, x, i, j { out[image, y, x, i, j] = pixels[image, y, i, x, j] }
//
//     a block has image and y; its threads go through i, x, j, as the pixels lie;
//     out[image, y, ...] is put together in shared memory
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/Cuda/TeamEmitter.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace mlir::llamac;
using namespace mlir::llamac::teams;

// Bytes of a sector of memory, and of a tile at most: all of static shared memory.
static constexpr int64_t kSectorBytes = 32, kMostTileBytes = 48 << 10;

static int64_t bytesOf(Value buffer) {
  return cast<MemRefType>(buffer.getType()).getElementTypeBitWidth() / 8;
}

namespace {
class TilePlanner {
public:
  explicit TilePlanner(const Plan &plan) : plan(plan), columns(plan.columns.front().second) {
    for (Operation *loop : columns.parallel)
      sizes.push_back(constantRange(loop)->size());
  }

  std::optional<Tile> find() const {
    if (columns.parallel.size() < 2 || !columns.serial.empty() || columns.turned ||
        !columns.reductions.empty())
      return std::nullopt;
    for (Operation &op : *columns.body) {
      if (!isRagged(&op))
        continue;
      std::optional<Tile> tile = sideBySide(plan.access.at(&op).buffer), other = inOrderOf(&op);
      auto bytes = [](const Tile &t) { return t.elements * bytesOf(t.buffer); };
      if (!tile || (other && bytes(*other) < bytes(*tile)))
        tile = other;
      if (tile)
        return tile;
    }
    return std::nullopt;
  }

private:
  // Coefficients of the parallel loops in the number of the accessed element, if it is a sum of
  // their variables only, none backwards, from 0 on.
  std::optional<SmallVector<int64_t>> coefficients(Operation *op) const {
    const std::optional<LinearIndex> &element = plan.element.lookup(op);
    if (!element)
      return std::nullopt;
    SmallVector<int64_t> steps;
    size_t found = 0;
    for (Operation *loop : columns.parallel) {
      steps.push_back(element->of(inductionVariableOf(loop)));
      found += steps.back() != 0;
      if (steps.back() < 0 || constantRange(loop)->low != 0)
        return std::nullopt;
    }
    return found == element->coefficients.size() ? std::optional(steps) : std::nullopt;
  }

  // Whether neighbours access runs that do not fill sectors, with a run's neighbours elsewhere.
  bool isRagged(Operation *op) const {
    if (!plan.access.contains(op))
      return false;
    auto steps = coefficients(op);
    if (!steps)
      return false;
    int64_t run = 1, bytes = bytesOf(plan.access.at(op).buffer);
    for (size_t i = sizes.size(); i-- > 0;) {
      if (sizes[i] == 1)
        continue;
      if ((*steps)[i] == 0) // read again
        return false;
      if ((*steps)[i] != run)
        return run * bytes % kSectorBytes != 0;
      run *= sizes[i];
    }
    return false;
  }

  // Whether the elements of all accesses of `buffer` in the loops from `outer` on are
  // [first, first + elements), each once, in pieces of 16 bytes.
  bool fill(Value buffer, Tile &tile) const {
    const int64_t lanes = kPieceBytes / bytesOf(buffer);
    SmallVector<std::pair<int64_t, SmallVector<int64_t>>> numbers; // constant, steps
    int64_t low = INT64_MAX, high = INT64_MIN, iterations = 1;
    for (size_t i = tile.outer; i < sizes.size(); ++i)
      iterations *= sizes[i];
    for (Operation &op : *columns.body) {
      auto found = plan.access.find(&op);
      if (found == plan.access.end() || found->second.buffer != buffer)
        continue;
      auto steps = coefficients(&op);
      if (!steps || found->second.writes != tile.writes)
        return false;
      for (size_t i = 0; i < tile.outer; ++i)
        if ((*steps)[i] % lanes != 0 ||
            (!numbers.empty() && (*steps)[i] != numbers.front().second[i]))
          return false;
      int64_t constant = plan.element.at(&op)->constant, last = constant;
      for (size_t i = tile.outer; i < sizes.size(); ++i)
        last += (*steps)[i] * (sizes[i] - 1);
      low = std::min(low, constant), high = std::max(high, last);
      numbers.push_back({constant, *steps});
    }
    tile.first = low, tile.elements = high - low + 1;
    if (tile.elements * bytesOf(buffer) > kMostTileBytes || low % lanes != 0 ||
        tile.elements % lanes != 0 || tile.elements != iterations * int64_t(numbers.size()))
      return false;
    llvm::BitVector seen(tile.elements);
    for (auto &[constant, steps] : numbers)
      for (int64_t i = 0; i < iterations; ++i) {
        int64_t number = constant - low, rest = i;
        for (size_t k = sizes.size(); k-- > tile.outer; rest /= sizes[k])
          number += steps[k] * (rest % sizes[k]);
        seen.set(number);
      }
    return seen.all();
  }

  // The smallest tile whose elements of `buffer` lie side by side.
  std::optional<Tile> sideBySide(Value buffer) const {
    Tile tile;
    tile.buffer = buffer;
    tile.writes = llvm::is_contained(writtenBuffers(columns.outermost), buffer);
    for (tile.outer = sizes.size() - 1; tile.outer > 0; --tile.outer)
      if (fill(buffer, tile))
        return tile;
    return std::nullopt;
  }

  // The smallest tile that goes through the buffer of `load` side by side if its loops are in
  // another order, and whose elements of the one buffer that is written fit in shared memory.
  std::optional<Tile> inOrderOf(Operation *load) const {
    SmallVector<Value> written = writtenBuffers(columns.outermost);
    Value from = plan.access.at(load).buffer;
    if (plan.access.at(load).writes || written.size() != 1 || written.front() == from)
      return std::nullopt;
    SmallVector<int64_t> steps = *coefficients(load);
    Tile tile;
    tile.buffer = written.front();
    tile.writes = true;
    tile.load = load;
    tile.lanes = kPieceBytes / bytesOf(from);
    for (tile.outer = sizes.size() - 1; tile.outer > 0; --tile.outer) {
      tile.order.clear();
      for (size_t i = tile.outer; i < sizes.size(); ++i)
        tile.order.push_back(i);
      llvm::sort(tile.order, [&](size_t a, size_t b) {
        return std::pair(-steps[a], a) < std::pair(-steps[b], b);
      });
      int64_t run = 1;
      llvm::SmallBitVector inRun(sizes.size());
      for (size_t i : llvm::reverse(tile.order)) {
        if (steps[i] != run)
          break;
        run *= sizes[i];
        inRun.set(i);
      }
      auto isMultiple = [&](size_t i) { return inRun[i] || steps[i] % tile.lanes == 0; };
      if (run * bytesOf(from) % kSectorBytes == 0 &&
          plan.element.at(load)->constant % tile.lanes == 0 &&
          llvm::all_of(llvm::seq<size_t>(0, sizes.size()), isMultiple) && fill(tile.buffer, tile))
        return tile;
    }
    return std::nullopt;
  }

  const Plan &plan;
  const Columns &columns;
  SmallVector<int64_t> sizes; // of the parallel loops
};

class TileEmitter : TeamEmitter {
public:
  TileEmitter(const Nest &nest, const Plan &plan)
      : TeamEmitter(nest, plan), tile(*plan.tile), columns(plan.columns.front().second) {}

  void emit() {
    numberType = columns.elements > INT32_MAX ? builder.getI64Type() : builder.getI32Type();
    SmallVector<int64_t> sizes = columns.sizes(), all;
    for (Operation *loop : columns.parallel)
      all.push_back(constantRange(loop)->size());
    int64_t tiles = llvm::product_of(ArrayRef(all).take_front(tile.outer));
    int64_t iterations = llvm::product_of(ArrayRef(all).drop_front(tile.outer));
    int64_t pieces = iterations / (tile.load ? tile.lanes : columns.lanes);
    begin(tiles, std::min<int64_t>(kThreadsPerBlock, llvm::alignTo(pieces, kWarp)), {});
    Value block =
        tiles > 1 ? number(gpu::BlockIdOp::create(builder, loc, gpu::Dimension::x)) : constant(0);
    for (auto [i, value] :
         llvm::enumerate(TeamEmitter::iterations(ArrayRef(all).take_front(tile.outer), block)))
      outer.push_back({value, constantRange(columns.parallel[i])->low});

    auto space = gpu::AddressSpaceAttr::get(builder.getContext(), gpu::AddressSpace::Workgroup);
    Value inBuffer = flatBuffer(tile.buffer);
    Value memory = kernel.addWorkgroupAttribution(
        MemRefType::get({tile.elements}, cast<MemRefType>(inBuffer.getType()).getElementType(),
                        MemRefLayoutAttrInterface(), space),
        loc);
    kernel.setWorkgroupAttributionAttr(kernel.getNumWorkgroupAttributions() - 1,
                                       LLVM::LLVMDialect::getAlignAttrName(),
                                       builder.getI64IntegerAttr(kPieceBytes));
    flat[tile.buffer] = memory;
    if (!tile.writes) {
      copy(inBuffer, memory);
      gpu::BarrierOp::create(builder, loc);
    }
    forPieces(pieces, [&](Value piece) {
      if (tile.load)
        return emitInOrder(all, piece);
      Place place;
      place.indices = outer;
      SmallVector<Value> values =
          TeamEmitter::iterations(ArrayRef(sizes).drop_front(tile.outer), piece);
      for (Value value : values)
        place.indices.push_back({value, 0});
      place.indices.back().base = multiply(values.back(), columns.lanes);
      emitPiece(columns, place);
    });
    if (tile.writes) {
      gpu::BarrierOp::create(builder, loc);
      copy(memory, inBuffer);
    }
  }

private:
  // The body for pieces [0, count), thread after thread.
  void forPieces(int64_t count, llvm::function_ref<void(Value)> body) {
    if (count == threads)
      return body(thread);
    auto loop = scf::ForOp::create(builder, loc, thread, constant(count), constant(threads));
    OpBuilder::InsertionGuard restore(builder);
    builder.setInsertionPoint(loop.getBody()->getTerminator());
    body(loop.getInductionVar());
    known.clear();
    window.clear();
  }

  // The tile between its place in the buffer and shared memory, by 16 bytes.
  void copy(Value from, Value to) {
    auto vector = VectorType::get({kPieceBytes / bytesOf(tile.buffer)},
                                  cast<MemRefType>(from.getType()).getElementType());
    auto type = cast<MemRefType>(tile.buffer.getType());
    Type width = type.getNumElements() > INT32_MAX ? builder.getI64Type() : builder.getI32Type();
    const LinearIndex &element = *plan.element.at(anyAccess());
    Value begin = constant(width, tile.first);
    for (size_t i = 0; i < tile.outer; ++i)
      if (int64_t step = element.of(inductionVariableOf(columns.parallel[i])))
        begin = add(begin, multiply(resize(outer[i].base, width), step));
    forPieces(tile.elements / vector.getNumElements(), [&](Value piece) {
      Value local = multiply(piece, vector.getNumElements());
      Value global = add(begin, resize(local, width));
      auto index = [&](Value memory) {
        return resize(memory == flat[tile.buffer] ? local : global, builder.getIndexType());
      };
      Value value = vector::LoadOp::create(builder, loc, vector, from, ValueRange{index(from)},
                                           /*nontemporal=*/false, alignmentOf(vector));
      vector::StoreOp::create(builder, loc, value, to, ValueRange{index(to)},
                              /*nontemporal=*/false, alignmentOf(vector));
    });
  }

  Operation *anyAccess() const {
    for (Operation &op : *columns.body)
      if (auto found = plan.access.find(&op);
          found != plan.access.end() && found->second.buffer == tile.buffer)
        return &op;
    return nullptr;
  }

  // Neighbours in the buffer of `load`, each an iteration of its own.
  void emitInOrder(ArrayRef<int64_t> sizes, Value piece) {
    Columns single = columns;
    single.lanes = 1;
    SmallVector<int64_t> inOrder;
    for (size_t loop : tile.order)
      inOrder.push_back(sizes[loop]);
    SmallVector<Place> places;
    Value first = multiply(piece, tile.lanes);
    for (int64_t lane = 0; lane < tile.lanes; ++lane) {
      Place place;
      place.indices = outer;
      place.indices.resize(sizes.size());
      place.ordinal = lane;
      Value iteration = lane == 0 ? first : add(first, constant(lane));
      for (auto [loop, value] : llvm::zip(tile.order, TeamEmitter::iterations(inOrder, iteration)))
        place.indices[loop] = {value, 0};
      places.push_back(place);
    }
    Value from = flatBuffer(plan.access.at(tile.load).buffer);
    auto vector = VectorType::get({tile.lanes}, cast<MemRefType>(from.getType()).getElementType());
    Value loaded =
        vector::LoadOp::create(builder, tile.load->getLoc(), vector, from,
                               ValueRange{elementIndex(tile.load, &single, &places.front())},
                               /*nontemporal=*/false, alignmentOf(vector));
    for (auto [lane, place] : llvm::enumerate(places)) {
      known[keyOf(tile.load, single, place)] = {
          vector::ExtractOp::create(builder, tile.load->getLoc(), loaded, int64_t(lane))};
      emitPiece(single, place);
    }
  }

  // Stores that together have all elements of some pieces are kept until the last of them.
  void writePiece(Operation *op, const Columns &columns, const Place &place, Lanes lanes) override {
    SmallVector<Operation *> together = windowOf(op, columns);
    if (together.empty())
      return TeamEmitter::writePiece(op, columns, place, lanes);
    if (lanes.size() == 1)
      lanes.resize(columns.lanes, lanes[0]);
    window[op] = lanes;
    if (!llvm::all_of(together, [&](Operation *other) { return window.count(other) != 0; }))
      return;
    auto vector = VectorType::get({columns.lanes}, lanes[0].getType());
    int64_t step = together.size();
    Value number = elementNumber(together.front(), &columns, &place, 0);
    for (int64_t piece = 0; piece < step; ++piece) {
      SmallVector<Value> values;
      for (int64_t i = piece * columns.lanes; i < (piece + 1) * columns.lanes; ++i)
        values.push_back(window[together[i % step]][i / step]);
      Value at = add(number, constant(number.getType(), piece * columns.lanes));
      vector::StoreOp::create(builder, op->getLoc(),
                              vector::FromElementsOp::create(builder, op->getLoc(), vector, values),
                              flatBuffer(tile.buffer),
                              ValueRange{resize(at, builder.getIndexType())},
                              /*nontemporal=*/false, alignmentOf(vector));
    }
    for (Operation *other : together)
      window.erase(other);
  }

  // The stores of every step-th element, first, first + 1, ... of which `op` is one, if they are
  // `step` and begin at a multiple of the neighbours.
  SmallVector<Operation *> windowOf(Operation *op, const Columns &columns) const {
    const LinearIndex &element = *plan.element.at(op);
    int64_t step = element.of(columns.inner());
    if (plan.access.at(op).buffer != tile.buffer || columns.lanes == 1 || step < 2 ||
        step > kMostWindow)
      return {};
    std::map<int64_t, Operation *> stores;
    for (Operation &other : *columns.body) {
      auto found = plan.access.find(&other);
      if (found == plan.access.end() || found->second.buffer != tile.buffer)
        continue;
      LinearIndex difference = *plan.element.at(&other);
      difference.add(element, -1);
      if (llvm::all_of(difference.coefficients, [](auto &term) { return term.second == 0; }))
        stores[difference.constant] = &other;
    }
    int64_t first = element.constant + stores.begin()->first - tile.first;
    if (int64_t(stores.size()) != step || first % columns.lanes != 0 ||
        stores.rbegin()->first - stores.begin()->first != step - 1)
      return {};
    for (size_t i = tile.outer; i < columns.parallel.size(); ++i)
      if (columns.parallel[i] != columns.parallel.back() &&
          element.of(inductionVariableOf(columns.parallel[i])) % columns.lanes != 0)
        return {};
    return llvm::map_to_vector(stores, [](auto &store) { return store.second; });
  }

  const Tile &tile;
  const Columns &columns;
  SmallVector<Index> outer; // of the block
  llvm::DenseMap<Operation *, Lanes> window;
};
} // namespace

std::optional<Tile> teams::planTile(const Plan &plan) { return TilePlanner(plan).find(); }

void teams::emitTiles(const Nest &nest, const Plan &plan) { TileEmitter(nest, plan).emit(); }
