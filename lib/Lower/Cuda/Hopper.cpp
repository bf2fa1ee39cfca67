//===- Hopper.cpp - Instructions of sm_90a --------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// All are inline assembly: the ops of the nvvm dialect lack products with the left side in registers,
// and waits that carry the sums, without which the sums could be read before the wait.
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/Cuda/Hopper.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace mlir::llamac;

static constexpr int64_t kStep = 16; // of the inner dimension of a product of bf16
static constexpr int64_t kStepBytes = 2 * kStep;

//===----------------------------------------------------------------------===//
// Tiles
//===----------------------------------------------------------------------===//

SmallVector<TileChunk> llamac::chunksOf(int64_t columns) {
  SmallVector<TileChunk> chunks;
  int64_t left = llvm::alignTo(columns, kStep), begin = 0;
  while (left > 0) {
    int64_t width = left >= 64 ? 64 : left >= 32 ? 32 : 16;
    chunks.push_back({begin, width});
    begin += width;
    left -= width;
  }
  return chunks;
}

SmallVector<ChunkRun> llamac::runsOf(ArrayRef<TileChunk> chunks) {
  SmallVector<ChunkRun> runs;
  for (auto [number, chunk] : llvm::enumerate(chunks)) {
    // A product has at most 256 columns.
    if (!runs.empty() && chunk.width == 64 && runs.back().columns < 256)
      runs.back().columns += 64;
    else
      runs.push_back({number, chunk.width});
  }
  return runs;
}

int64_t SharedTile::offset(size_t number) const { return chunks[number].column * 2 * rows; }

int64_t SharedTile::bytes(int64_t rows, int64_t columns) {
  return llvm::alignTo(rows * 2 * int64_t(llvm::alignTo(columns, kStep)), 1024);
}

Num Hopper::address(Pointer shared) {
  return {&k, LLVM::PtrToIntOp::create(k, k.getI32Type(), shared.base.value)};
}

//===----------------------------------------------------------------------===//
// Assembly
//===----------------------------------------------------------------------===//

// The operand of an instruction is `$N`: results are counted first, then inputs. The results are f32, as
// many as `tied`, whose values they have before.
Nums Hopper::assemble(const std::string &text, ArrayRef<Num> inputs, ArrayRef<Num> tied) {
  std::string constraints;
  auto add = [&](const Twine &constraint) {
    constraints += (constraints.empty() ? "" : ",") + constraint.str();
  };
  SmallVector<Value> operands;
  for (size_t i = 0; i < tied.size(); ++i)
    add("=f");
  for (Num input : inputs) {
    bool isWord = input.type().isIntOrFloat() && input.type().getIntOrFloatBitWidth() == 32;
    add(isWord ? "r" : "l");
    operands.push_back(input.value);
  }
  for (auto [number, sum] : llvm::enumerate(tied)) {
    add(Twine(number));
    operands.push_back(sum.value);
  }
  add("~{memory}");
  Type result;
  if (tied.size() == 1)
    result = k.getF32Type();
  else if (!tied.empty())
    result = LLVM::LLVMStructType::getLiteral(k.getContext(),
                                              SmallVector<Type>(tied.size(), k.getF32Type()));
  auto op = LLVM::InlineAsmOp::create(
      k, result ? TypeRange(result) : TypeRange(), operands, text, constraints,
      /*has_side_effects=*/true, /*is_align_stack=*/false, LLVM::TailCallKind::None,
      LLVM::AsmDialectAttr::get(k.getContext(), LLVM::AsmDialect::AD_ATT), ArrayAttr());
  Nums results;
  if (!result)
    return results;
  Num all = {&k, op.getResult(0)};
  if (tied.size() == 1)
    return {all};
  for (size_t i = 0; i < tied.size(); ++i)
    results.push_back(all[int(i)]);
  return results;
}

//===----------------------------------------------------------------------===//
// Barriers and copies
//===----------------------------------------------------------------------===//

void Hopper::initialize(Num barrier, int64_t arrivals) {
  assemble("mbarrier.init.shared::cta.b64 [$0], " + std::to_string(arrivals) + ";", {barrier}, {});
}

void Hopper::fenceInitialized() { assemble("fence.mbarrier_init.release.cluster;", {}, {}); }

void Hopper::arrive(Num barrier) {
  assemble("mbarrier.arrive.shared::cta.b64 _, [$0];", {barrier}, {});
}

void Hopper::arriveExpecting(Num barrier, int64_t bytes) {
  assemble("mbarrier.arrive.expect_tx.shared::cta.b64 _, [$0], " + std::to_string(bytes) + ";",
           {barrier}, {});
}

void Hopper::wait(Num barrier, Num parity) {
  // A wait may give up before the phase is complete.
  assemble("{\n.reg .pred done;\n"
           "again_${:uid}:\n"
           "mbarrier.try_wait.parity.shared::cta.b64 done, [$0], $1;\n"
           "@!done bra again_${:uid};\n}",
           {barrier, parity}, {});
}

void Hopper::copy(Num to, Num map, ArrayRef<Num> coordinates, Num barrier) {
  std::string list;
  for (size_t i = 0; i < coordinates.size(); ++i)
    list += (i ? ", $" : "$") + std::to_string(3 + i);
  SmallVector<Num> inputs = {to, map, barrier};
  inputs.append(coordinates.begin(), coordinates.end());
  assemble("cp.async.bulk.tensor." + std::to_string(coordinates.size()) +
               "d.shared::cluster.global.mbarrier::complete_tx::bytes [$0], [$1, {" + list +
               "}], [$2];",
           inputs, {});
}

void Hopper::giveRegisters(int64_t count) {
  assemble("setmaxnreg.dec.sync.aligned.u32 " + std::to_string(count) + ";", {}, {});
}

void Hopper::takeRegisters(int64_t count) {
  assemble("setmaxnreg.inc.sync.aligned.u32 " + std::to_string(count) + ";", {}, {});
}

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

// The descriptor of what a product reads: a part of a chunk that begins `byte` bytes (i32) into it.
// Rows of 8 make a unit that repeats every 8 * rowBytes; `transposed` tiles repeat over columns, too,
// from chunk to chunk.
Num Hopper::descriptor(const SharedTile &tile, size_t chunk, Num byte, bool transposed) {
  const int64_t row = tile.chunks[chunk].rowBytes();
  Num start = tile.begin + tile.offset(chunk) + byte;
  Num low = {&k, arith::ShRUIOp::create(k, (start & 0x3ffff).value, k.integer(4).value)};
  const int64_t along = transposed ? tile.rows * row : 16; // the leading offset
  const int64_t swizzle = row == 128 ? 1 : row == 64 ? 2 : 3;
  const int64_t fixed = (along >> 4) << 16 | ((8 * row) >> 4) << 32 | swizzle << 62;
  Num wide = {&k, arith::ExtUIOp::create(k, k.getI64Type(), low.value)};
  return wide | fixed;
}

static std::string operandList(size_t first, size_t count) {
  std::string text = "{";
  for (size_t i = 0; i < count; ++i)
    text += (i ? ", $" : "$") + std::to_string(first + i);
  return text + "}";
}

static std::string product(int64_t columns) {
  return "wgmma.mma_async.sync.aligned.m64n" + std::to_string(columns) + "k16.f32.bf16.bf16 ";
}

Nums Hopper::beginTransposed(const SharedTile &a, Num aRow, const SharedTile &b) {
  const size_t count = b.rows / 2;
  const std::string sums = operandList(0, count);
  SmallVector<Num> inputs;
  std::string text = "{\n.reg .pred more;\nsetp.ne.b32 more, 0, 0;\nwgmma.fence.sync.aligned;\n";
  for (auto [number, chunk] : llvm::enumerate(b.chunks))
    for (int64_t step = 0; step < chunk.width / kStep; ++step) {
      Num left = aRow * a.chunks[number].rowBytes() + step * kStepBytes;
      std::string first = std::to_string(count + inputs.size());
      inputs.push_back(descriptor(a, number, left, false));
      std::string second = std::to_string(count + inputs.size());
      inputs.push_back(descriptor(b, number, k.integer(step * kStepBytes), false));
      text += product(b.rows) + sums + ", $" + first + ", $" + second + ", more, 1, 1, 0, 0;\n";
      if (number == 0 && step == 0)
        text += "setp.eq.b32 more, 0, 0;\n";
    }
  text += "wgmma.commit_group.sync.aligned;\n}";
  // The first product does not read the sums.
  return assemble(text, inputs, Nums(count, k.number(0)));
}

void Hopper::begin(ArrayRef<Num> a, const SharedTile &b, MutableArrayRef<Nums> sums) {
  SmallVector<ChunkRun> runs = runsOf(b.chunks);
  Nums all;
  for (const Nums &part : sums)
    all.append(part.begin(), part.end());
  SmallVector<Num> inputs(a);
  std::string text = "{\n.reg .pred more;\nsetp.eq.b32 more, 0, 0;\nwgmma.fence.sync.aligned;\n";
  size_t place = 0;
  for (auto [run, part] : llvm::zip_equal(runs, sums)) {
    const int64_t row = b.chunks[run.first].rowBytes();
    for (size_t step = 0; step < a.size() / 4; ++step) {
      std::string right = std::to_string(all.size() + inputs.size());
      inputs.push_back(descriptor(b, run.first, k.integer(int64_t(step) * kStep * row), true));
      text += product(run.columns) + operandList(place, part.size()) + ", " +
              operandList(all.size() + 4 * step, 4) + ", $" + right + ", more, 1, 1, 1;\n";
    }
    place += part.size();
  }
  text += "wgmma.commit_group.sync.aligned;\n}";
  Nums results = assemble(text, inputs, all);
  place = 0;
  for (Nums &part : sums)
    for (Num &sum : part)
      sum = results[place++];
}

void Hopper::wait(int pending, ArrayRef<Nums *> sums) {
  Nums all;
  for (const Nums *part : sums)
    all.append(part->begin(), part->end());
  Nums results =
      assemble("wgmma.wait_group.sync.aligned " + std::to_string(pending) + ";", {}, all);
  size_t place = 0;
  for (Nums *part : sums)
    for (Num &sum : *part)
      sum = results[place++];
}

Nums Hopper::pairs(ArrayRef<Num> sums) {
  Nums result;
  for (size_t i = 0; i < sums.size(); i += 2) {
    Num both = k.vector({sums[i], sums[i + 1]});
    Value narrow = arith::TruncFOp::create(k, VectorType::get(2, k.getBF16Type()), both.value);
    result.push_back({&k, LLVM::BitcastOp::create(k, k.getI32Type(), narrow)});
  }
  return result;
}
