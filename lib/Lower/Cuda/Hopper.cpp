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

//===----------------------------------------------------------------------===//
// Tiles
//===----------------------------------------------------------------------===//

int64_t SharedTile::width(int64_t columns) {
  const int64_t used = llvm::alignTo(columns, kStep);
  return int64_t(llvm::alignTo(used, 64)) - used <= kStep ? 64 : 32;
}

int64_t SharedTile::bytes(int64_t rows, int64_t columns) {
  return llvm::alignTo(2 * rows * int64_t(llvm::alignTo(columns, width(columns))), kAlignment);
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

void Hopper::copy(Num to, Pointer from, int64_t bytes, Num barrier) {
  assemble("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [$0], [$1], " +
               std::to_string(bytes) + ", [$2];",
           {to, from.base, barrier}, {});
}

void Hopper::fenceShared() { assemble("fence.proxy.async.shared::cta;", {}, {}); }

void Hopper::fenceGlobal() { assemble("fence.proxy.async.global;", {}, {}); }

void Hopper::copyOut(Pointer to, Num from, int64_t bytes) {
  assemble("cp.async.bulk.global.shared::cta.bulk_group [$0], [$1], " + std::to_string(bytes) +
               ";\ncp.async.bulk.commit_group;",
           {to.base, from}, {});
}

void Hopper::addOut(Pointer to, Num from, int64_t bytes) {
  assemble("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [$0], [$1], " +
               std::to_string(bytes) + ";\ncp.async.bulk.commit_group;",
           {to.base, from}, {});
}

void Hopper::waitRead() { assemble("cp.async.bulk.wait_group.read 0;", {}, {}); }

void Hopper::waitWritten() { assemble("cp.async.bulk.wait_group 0;", {}, {}); }

void Hopper::giveRegisters(int64_t count) {
  assemble("setmaxnreg.dec.sync.aligned.u32 " + std::to_string(count) + ";", {}, {});
}

void Hopper::takeRegisters(int64_t count) {
  assemble("setmaxnreg.inc.sync.aligned.u32 " + std::to_string(count) + ";", {}, {});
}

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

// The descriptor of what a product reads: a part of a tile, `byte` bytes behind the address `begin` (i32).
// Rows of 8 make a unit that repeats every 8 * rowBytes; `transposed` tiles repeat over columns, too,
// from chunk to chunk.
Num Hopper::descriptor(const SharedTile &tile, Num begin, int64_t byte, bool transposed) {
  const int64_t row = tile.rowBytes();
  const int64_t along = transposed ? tile.chunkBytes() : 16; // the leading offset
  const int64_t swizzle = row == 128 ? 1 : 2;
  const int64_t low = byte >> 4 | (along >> 4) << 16, high = (8 * row) >> 4 | swizzle << 30;
  // All of a tile lies below 2^18, so what is added does not carry.
  Num start = k.shiftRight(begin & 0x3ffff, 4) + low;
  Num wide = {&k, arith::ExtUIOp::create(k, k.getI64Type(), start.value)};
  return wide | high << 32;
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
  Num left = a.begin + aRow * a.rowBytes();
  SmallVector<Num> inputs;
  std::string text = "{\n.reg .pred more;\nsetp.ne.b32 more, 0, 0;\nwgmma.fence.sync.aligned;\n";
  for (int64_t column = 0; column < b.columns; column += kStep) {
    const int64_t width = SharedTile::width(b.columns), chunk = column / width,
                  byte = column % width * 2;
    std::string first = std::to_string(count + inputs.size());
    inputs.push_back(descriptor(a, left, chunk * a.chunkBytes() + byte, false));
    std::string second = std::to_string(count + inputs.size());
    inputs.push_back(descriptor(b, b.begin, chunk * b.chunkBytes() + byte, false));
    text += product(b.rows) + sums + ", $" + first + ", $" + second + ", more, 1, 1, 0, 0;\n";
    if (column == 0)
      text += "setp.eq.b32 more, 0, 0;\n";
  }
  text += "wgmma.commit_group.sync.aligned;\n}";
  // The first product does not read the sums.
  return assemble(text, inputs, Nums(count, k.number(0)));
}

void Hopper::begin(ArrayRef<Num> a, const SharedTile &b, Nums &sums) {
  SmallVector<Num> inputs(a);
  std::string text = "{\n.reg .pred more;\nsetp.eq.b32 more, 0, 0;\nwgmma.fence.sync.aligned;\n";
  for (size_t step = 0; step < a.size() / 4; ++step) {
    std::string right = std::to_string(sums.size() + inputs.size());
    inputs.push_back(descriptor(b, b.begin, int64_t(step) * kStep * b.rowBytes(), true));
    text += product(b.columns) + operandList(0, sums.size()) + ", " +
            operandList(sums.size() + 4 * step, 4) + ", $" + right + ", more, 1, 1, 1;\n";
  }
  text += "wgmma.commit_group.sync.aligned;\n}";
  sums = assemble(text, inputs, sums);
}

Nums Hopper::beginOuter(const SharedTile &a, const SharedTile &b, Num first, int64_t chunks) {
  const int64_t columns = chunks * SharedTile::width(b.columns);
  const size_t count = columns / 2;
  const std::string sums = operandList(0, count);
  Num right = b.begin + first * b.chunkBytes();
  SmallVector<Num> inputs;
  std::string text = "{\n.reg .pred more;\nsetp.ne.b32 more, 0, 0;\nwgmma.fence.sync.aligned;\n";
  for (int64_t row = 0; row < a.rows; row += kStep) {
    std::string one = std::to_string(count + inputs.size());
    inputs.push_back(descriptor(a, a.begin, row * a.rowBytes(), true));
    std::string other = std::to_string(count + inputs.size());
    inputs.push_back(descriptor(b, right, row * b.rowBytes(), true));
    text += product(columns) + sums + ", $" + one + ", $" + other + ", more, 1, 1, 1, 1;\n";
    if (row == 0)
      text += "setp.eq.b32 more, 0, 0;\n";
  }
  text += "wgmma.commit_group.sync.aligned;\n}";
  return assemble(text, inputs, Nums(count, k.number(0)));
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

// Lane l gives the address of row l % 8 of matrix l / 8 of 8 x 8: rows 0 to 7 and 8 to 15 of
// columns 0 to 7, then of 8 to 15.
void Hopper::store(const SharedTile &to, Num row, Num lane, ArrayRef<Num> pairs) {
  const int64_t bytes = to.rowBytes();
  Num mine = row + lane % 16;
  // A piece of 16 bytes lies where its number and that of its row differ (the swizzle).
  Num swizzle = (bytes == 128 ? mine & 7 : k.shiftRight(mine, 1) & 3) * 16;
  Num at = to.begin + mine * bytes + (swizzle ^ ((lane / 16) * 16));
  for (size_t i = 0; i != pairs.size() / 4; ++i) {
    const int64_t byte = int64_t(i) * 2 * kStep;
    Num place = (at ^ (byte % bytes)) + byte / bytes * to.chunkBytes();
    assemble("stmatrix.sync.aligned.m8n8.x4.shared.b16 [$0], {$1, $2, $3, $4};",
             {place, pairs[4 * i], pairs[4 * i + 1], pairs[4 * i + 2], pairs[4 * i + 3]}, {});
  }
}
