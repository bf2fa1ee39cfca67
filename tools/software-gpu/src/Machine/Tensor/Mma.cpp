//===- Mma.cpp - mma.sync and wmma --------------------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Machine/Decoders.h"
#include "Machine/Launch.h"
#include "Machine/Tensor/Fragments.h"
#include "Machine/Tensor/Types.h"
#include "Machine/Warp.h"
#include "Support/OfThread.h"

#include <cstring>

namespace sgpu {

using ptx::Modifier;
using ptx::Opcode;

std::optional<TensorType> tensorTypeOf(ptx::Type type) {
  switch (type) {
  case ptx::Type::F16:
    return TensorType::F16;
  case ptx::Type::BF16:
    return TensorType::BF16;
  case ptx::Type::TF32:
    return TensorType::TF32;
  case ptx::Type::E4M3:
    return TensorType::E4M3;
  case ptx::Type::E5M2:
    return TensorType::E5M2;
  case ptx::Type::F64:
    return TensorType::F64;
  case ptx::Type::S8:
    return TensorType::S8;
  case ptx::Type::U8:
    return TensorType::U8;
  case ptx::Type::S4:
    return TensorType::S4;
  case ptx::Type::U4:
    return TensorType::U4;
  case ptx::Type::F32:
    return TensorType::F32;
  case ptx::Type::S32:
    return TensorType::S32;
  default:
    return std::nullopt;
  }
}

namespace {

/// Register layout of a matrix: where element `index` of a lane lies.
using Layout = Element (*)(const MatrixShape &, int bits, int lane, int index);

/// A matrix in registers of a warp.
struct Fragment {
  int rows = 0, columns = 0;
  int bits = 32;    ///< of an element
  int elements = 0; ///< of a lane, in all its registers
  Layout layout = nullptr;
  std::vector<Operand> registers;
};

struct MmaExtra {
  MatrixShape shape;
  TensorType a, b, c, d;
  bool isB1 = false, isXor = false, saturate = false;
  Fragment fa, fb, fc, fd;
};

Element layoutA(const MatrixShape &s, int bits, int lane, int index) {
  return fragmentA(bits, s.m, lane, index);
}
Element layoutB(const MatrixShape &, int bits, int lane, int index) {
  return fragmentB(bits, lane, index);
}
Element layoutC(const MatrixShape &s, int, int lane, int index) {
  return fragmentC(s.m, lane, index);
}
Element wmmaA(const MatrixShape &s, int bits, int lane, int index) {
  return fragmentWmma(bits, s.m, s.k, false, lane, index);
}
Element wmmaB(const MatrixShape &s, int bits, int lane, int index) {
  return fragmentWmma(bits, s.k, s.n, bits < 8, lane, index); // so they lie in memory
}
Element wmmaC(const MatrixShape &s, int bits, int lane, int index) {
  return fragmentWmma(bits, s.m, s.n, false, lane, index);
}

/// Calls f(row, column, bits of the element) for the elements of all lanes.
template <typename F>
void forElements(Warp &warp, const MatrixShape &s, const Fragment &f, F visit) {
  if (f.bits == 64) {
    for (int i = 0; i < f.elements; ++i)
      for (int l = 0; l < 32; ++l) {
        Element e = f.layout(s, 64, l, i);
        visit(e.row, e.column, warp.u64(f.registers[i])[l]);
      }
    return;
  }
  int per = 32 / f.bits;
  uint32_t mask = f.bits == 32 ? ~0u : (1u << f.bits) - 1;
  for (size_t r = 0; r < f.registers.size(); ++r) {
    const uint32_t *row = warp.u32(f.registers[r]);
    for (int l = 0; l < 32; ++l)
      for (int j = 0; j < per; ++j) {
        int index = int(r) * per + j;
        if (index >= f.elements)
          return;
        Element e = f.layout(s, f.bits, l, index);
        visit(e.row, e.column, uint64_t(row[l] >> (j * f.bits) & mask));
      }
  }
}

/// Sets the elements of all lanes from value(row, column).
template <typename F>
void setElements(Warp &warp, const MatrixShape &s, const Fragment &f, F value) {
  if (f.bits == 64) {
    for (int i = 0; i < f.elements; ++i)
      for (int l = 0; l < 32; ++l) {
        Element e = f.layout(s, 64, l, i);
        warp.u64(f.registers[i])[l] = value(e.row, e.column);
      }
    return;
  }
  int per = 32 / f.bits;
  for (size_t r = 0; r < f.registers.size(); ++r) {
    uint32_t *row = warp.u32(f.registers[r]);
    for (int l = 0; l < 32; ++l) {
      uint32_t word = 0;
      for (int j = 0; j < per; ++j) {
        Element e = f.layout(s, f.bits, l, int(r) * per + j);
        word |= uint32_t(value(e.row, e.column)) << (j * f.bits);
      }
      row[l] = word;
    }
  }
}

void multiplyIntegers(Warp &warp, const MmaExtra &x) {
  const MatrixShape &s = x.shape;
  std::vector<int32_t> a(s.k * s.m), b(s.k * s.n), acc(s.n * s.m);
  auto valueOf = [&](TensorType type, uint64_t bits) -> int32_t {
    if (x.isB1)
      return x.isXor ? (bits ? 1 : -1) : int32_t(bits);
    return integerOf(type, uint32_t(bits));
  };
  forElements(warp, s, x.fa, [&](int r, int c, uint64_t v) { a[c * s.m + r] = valueOf(x.a, v); });
  forElements(warp, s, x.fb, [&](int r, int c, uint64_t v) { b[r * s.n + c] = valueOf(x.b, v); });
  forElements(warp, s, x.fc, [&](int r, int c, uint64_t v) { acc[c * s.m + r] = int32_t(v); });
  if (x.isXor) {
    // With bits as +1 and -1 the products sum to k - 2 * (number of places that differ).
    std::vector<int32_t> dot(acc.size());
    multiplyAddInteger(s.m, s.n, s.k, a.data(), b.data(), dot.data(), false);
    for (size_t i = 0; i < acc.size(); ++i)
      acc[i] += (s.k - dot[i]) / 2;
  } else {
    multiplyAddInteger(s.m, s.n, s.k, a.data(), b.data(), acc.data(), x.saturate);
  }
  setElements(warp, s, x.fd, [&](int r, int c) { return uint64_t(uint32_t(acc[c * s.m + r])); });
}

void multiplyDoubles(Warp &warp, const MmaExtra &x) {
  const MatrixShape &s = x.shape;
  std::vector<double> a(s.k * s.m), b(s.k * s.n), acc(s.n * s.m);
  forElements(warp, s, x.fa,
              [&](int r, int c, uint64_t v) { a[c * s.m + r] = std::bit_cast<double>(v); });
  forElements(warp, s, x.fb,
              [&](int r, int c, uint64_t v) { b[r * s.n + c] = std::bit_cast<double>(v); });
  forElements(warp, s, x.fc,
              [&](int r, int c, uint64_t v) { acc[c * s.m + r] = std::bit_cast<double>(v); });
  multiplyAddF64(s.m, s.n, s.k, a.data(), b.data(), acc.data());
  setElements(warp, s, x.fd,
              [&](int r, int c) { return std::bit_cast<uint64_t>(acc[c * s.m + r]); });
}

void multiplyFloats(Warp &warp, const MmaExtra &x) {
  const MatrixShape &s = x.shape;
  int m = (s.m + 15) / 16 * 16;
  struct Buffers {
    Multiplicand a, b;
    std::vector<uint32_t> acc;
  };
  auto &[a, b, acc] = ofThread<Buffers>();
  a.resize(m, s.k), b.resize(s.n, s.k);
  acc.assign(size_t(s.n) * m, 0);
  forElements(warp, s, x.fa, [&](int r, int c, uint64_t v) { a.set(x.a, r, c, uint32_t(v)); });
  forElements(warp, s, x.fb, [&](int r, int c, uint64_t v) { b.set(x.b, c, r, uint32_t(v)); });
  // The accumulators have the type of D while they are summed.
  forElements(warp, s, x.fc, [&](int r, int c, uint64_t v) {
    acc[c * m + r] = x.c == x.d ? uint32_t(v)
                     : x.d == TensorType::F32
                         ? roundedTo(TensorType::F32, valueOf(TensorType::F16, uint32_t(v)))
                         : roundedTo(TensorType::F16, valueOf(TensorType::F32, uint32_t(v)));
  });
  multiplyAdd(sumRuleFor(TensorUnit::Mma, warp.block.launch.chip.capability, x.a, x.d), a, b,
              acc.data());
  setElements(warp, s, x.fd, [&](int r, int c) { return uint64_t(acc[c * m + r]); });
}

Step runMma(Warp &warp, const Instruction &in) {
  if (!warp.gatherAll(in))
    return Step::Wait;
  const auto &x = *static_cast<const MmaExtra *>(in.extra);
  if (x.d == TensorType::S32)
    multiplyIntegers(warp, x);
  else if (x.d == TensorType::F64)
    multiplyDoubles(warp, x);
  else
    multiplyFloats(warp, x);
  warp.countTensor(in, uint64_t(x.shape.m) * x.shape.n * x.shape.k);
  return Step::Next;
}

//===----------------------------------------------------------------------===//
// Decoding
//===----------------------------------------------------------------------===//

void checkAligned(DecodeContext &c) {
  if (!c.ast.has(Modifier::Sync) || !c.ast.has(Modifier::Aligned))
    c.fail("expects .sync.aligned");
  c.in.gathers = true;
}

/// Fills a fragment and checks the number of registers.
Fragment fragment(DecodeContext &c, const ptx::Operand &op, bool writes, const char *name, int rows,
                  int columns, int bits, int registers, Layout layout) {
  Fragment f;
  f.rows = rows, f.columns = columns, f.bits = bits, f.layout = layout;
  f.elements = registers * (bits == 64 ? 1 : 32 / bits);
  f.registers =
      writes ? c.destinations(op) : c.sources(op, bits == 64 ? ptx::Type::F64 : ptx::Type::B32);
  if (int(f.registers.size()) != registers)
    c.fail(std::string("expects ") + std::to_string(registers) + " registers for " + name +
           ", got " + std::to_string(f.registers.size()));
  return f;
}

/// Types of d, a, b, c and what follows from them; `allowed` says which shapes the type of A has.
MmaExtra decodeTypes(DecodeContext &c) {
  MmaExtra x;
  x.shape = {c.ast.shape.m, c.ast.shape.n, c.ast.shape.k};
  std::vector<ptx::Type> types = c.ast.types;
  if (types.size() == 2) // .dtype.ctype of wmma.mma: f16 multiplicands
    types = {types[0], ptx::Type::F16, ptx::Type::F16, types[1]};
  if (types.size() != 4)
    c.fail("expects the types of d, a, b and c");
  x.isB1 = types[1] == ptx::Type::B1 && types[2] == ptx::Type::B1;
  auto type = [&](ptx::Type t) {
    if (x.isB1 && t == ptx::Type::B1)
      return TensorType::U4; // never looked at
    std::optional<TensorType> r = tensorTypeOf(t);
    if (!r)
      c.fail("type ." + std::string(ptx::nameOf(t)) +
             " is not supported by tensor cores of this chip");
    return *r;
  };
  x.d = type(types[0]), x.a = type(types[1]), x.b = type(types[2]), x.c = type(types[3]);
  x.isXor = c.ast.has(Modifier::Xor);
  x.saturate = c.ast.has(Modifier::Satfinite);
  if (x.isB1 && !c.ast.has(Modifier::Popc))
    c.fail("expects .xor.popc or .and.popc");
  auto isFp8 = [](TensorType t) { return t == TensorType::E4M3 || t == TensorType::E5M2; };
  auto is8 = [](TensorType t) { return t == TensorType::S8 || t == TensorType::U8; };
  auto is4 = [](TensorType t) { return t == TensorType::S4 || t == TensorType::U4; };
  bool same =
      x.a == x.b || (isFp8(x.a) && isFp8(x.b)) || (is8(x.a) && is8(x.b)) || (is4(x.a) && is4(x.b));
  bool results = false;
  switch (x.a) {
  case TensorType::F16:
    results = (x.d == TensorType::F16 || x.d == TensorType::F32) &&
              (x.c == TensorType::F16 || x.c == TensorType::F32);
    break;
  case TensorType::E4M3:
  case TensorType::E5M2:
    c.needs(90);
    results = x.d == x.c && (x.d == TensorType::F16 || x.d == TensorType::F32);
    break;
  case TensorType::BF16:
  case TensorType::TF32:
    results = x.d == TensorType::F32 && x.c == TensorType::F32;
    break;
  case TensorType::F64:
    results = x.d == TensorType::F64 && x.c == TensorType::F64;
    break;
  default:
    results = x.d == TensorType::S32 && x.c == TensorType::S32;
  }
  if (!same || !results)
    c.fail("this combination of types does not exist");
  return x;
}

void decodeMma(DecodeContext &c) {
  checkAligned(c);
  if (c.ast.has(Modifier::Sp) || c.ast.has(Modifier::SpOrderedMetadata))
    c.fail("sparse mma is not supported");
  for (Modifier m : {Modifier::KindF8f6f4, Modifier::KindMxf8f6f4, Modifier::KindMxf4,
                     Modifier::KindMxf4nvf4, Modifier::BlockScale})
    if (c.ast.has(m))
      c.fail("." + std::string(ptx::nameOf(m)) + " needs sm_120a");
  if (c.ast.suffixes.size() < 2 || !c.ast.has(Modifier::Row) || !c.ast.has(Modifier::Col))
    c.fail("expects .row.col");
  if (c.ast.shape == ptx::Shape{8, 8, 4} && c.ast.type(1) == ptx::Type::F16)
    c.fail("m8n8k4 of f16 is not supported (it is slow on every chip after sm_70); use m16n8k8");
  MmaExtra x = decodeTypes(c);
  int bits = x.isB1 ? 1 : bitsOf(x.a);
  struct Form {
    int bits, m, k, capability;
  };
  static constexpr Form forms[] = {
      {16, 16, 8, 80},  {16, 16, 16, 80}, {32, 16, 4, 80},  {32, 16, 8, 80}, {64, 8, 4, 80},
      {64, 16, 4, 90},  {64, 16, 8, 90},  {64, 16, 16, 90}, {8, 8, 16, 80},  {8, 16, 16, 80},
      {8, 16, 32, 80},  {4, 8, 32, 80},   {4, 16, 32, 80},  {4, 16, 64, 80}, {1, 8, 128, 80},
      {1, 16, 128, 80}, {1, 16, 256, 80}};
  bool fp8 = x.a == TensorType::E4M3 || x.a == TensorType::E5M2;
  const Form *form = nullptr;
  for (const Form &f : forms)
    if (f.bits == bits && f.m == x.shape.m && f.k == x.shape.k && x.shape.n == 8 &&
        !(fp8 && f.m == 8))
      form = &f;
  if (!form)
    c.fail("this shape does not exist for ." + std::string(ptx::nameOf(c.ast.type(1))));
  c.needs(form->capability);
  const auto &ops = c.ast.operands;
  if (ops.size() != 4)
    c.fail("expects d, a, b, c");
  const MatrixShape &s = x.shape;
  int accBits = bitsOf(x.d), cBits = bitsOf(x.c), word = bits == 64 ? 64 : 32;
  x.fd = fragment(c, ops[0], true, "d", s.m, s.n, accBits,
                  s.m * s.n * accBits / 32 / (accBits == 64 ? 64 : 32), layoutC);
  x.fa = fragment(c, ops[1], false, "a", s.m, s.k, bits, s.m * s.k * bits / 32 / word, layoutA);
  x.fb = fragment(c, ops[2], false, "b", s.k, s.n, bits, s.k * s.n * bits / 32 / word, layoutB);
  x.fc = fragment(c, ops[3], false, "c", s.m, s.n, cBits,
                  s.m * s.n * cBits / 32 / (cBits == 64 ? 64 : 32), layoutC);
  c.extra(std::move(x));
  c.in.execute = runMma;
}

//===----------------------------------------------------------------------===//
// wmma
//===----------------------------------------------------------------------===//

/// Registers that PTX gives to a wmma fragment.
int wmmaRegisters(int bits, TensorType type, bool accumulator, int elements) {
  if (!accumulator && type == TensorType::F16)
    return 8;
  return bits == 64 ? elements / 32 : elements * bits / 1024;
}

bool wmmaShape(const MatrixShape &s, int bits, bool isB1) {
  bool wide =
      s == MatrixShape{16, 16, 16} || s == MatrixShape{8, 32, 16} || s == MatrixShape{32, 8, 16};
  if (isB1)
    return s == MatrixShape{8, 8, 128};
  switch (bits) {
  case 64:
    return s == MatrixShape{8, 8, 4};
  case 32:
    return s == MatrixShape{16, 16, 8};
  case 4:
    return s == MatrixShape{8, 8, 32};
  default:
    return wide;
  }
}

void decodeWmmaMma(DecodeContext &c) {
  checkAligned(c);
  MmaExtra x = decodeTypes(c);
  int bits = x.isB1 ? 1 : bitsOf(x.a);
  const MatrixShape &s = x.shape;
  bool fp8 = x.a == TensorType::E4M3 || x.a == TensorType::E5M2;
  if (fp8 || !wmmaShape(s, bits, x.isB1))
    c.fail("this shape does not exist for ." +
           std::string(ptx::nameOf(c.ast.types.size() == 4 ? c.ast.type(1) : ptx::Type::F16)));
  const auto &ops = c.ast.operands;
  if (ops.size() != 4)
    c.fail("expects d, a, b, c");
  int dBits = bitsOf(x.d), cBits = bitsOf(x.c);
  x.fd = fragment(c, ops[0], true, "d", s.m, s.n, dBits, wmmaRegisters(dBits, x.d, true, s.m * s.n),
                  wmmaC);
  x.fa = fragment(c, ops[1], false, "a", s.m, s.k, bits, wmmaRegisters(bits, x.a, false, s.m * s.k),
                  wmmaA);
  x.fb = fragment(c, ops[2], false, "b", s.k, s.n, bits, wmmaRegisters(bits, x.b, false, s.k * s.n),
                  wmmaB);
  x.fc = fragment(c, ops[3], false, "c", s.m, s.n, cBits,
                  wmmaRegisters(cBits, x.c, true, s.m * s.n), wmmaC);
  c.extra(std::move(x));
  c.in.execute = runMma;
}

struct WmmaMemory {
  MatrixShape shape;
  Fragment fragment;
  bool rowMajor = true, stores = false;
  Operand stride; ///< in elements; None: the matrix is dense
};

/// wmma.load and wmma.store. One register holds elements that follow each other in a row: with a
/// row-major matrix they are one access of memory.
Step runWmmaMemory(Warp &warp, const Instruction &in) {
  if (!warp.gatherAll(in))
    return Step::Wait;
  const auto &x = *static_cast<const WmmaMemory *>(in.extra);
  const Fragment &f = x.fragment;
  Block &block = warp.block;
  unsigned bytes = unsigned(std::max(f.bits / 8, 1));
  int per = f.bits == 64 ? 1 : 32 / f.bits;
  bool together = x.rowMajor || per == 1 || f.bits < 8;
  for (size_t r = 0; r < f.registers.size(); ++r) {
    uint64_t addresses[32];
    int pieces = together ? 1 : per;
    for (int p = 0; p < pieces; ++p) {
      unsigned size = together ? unsigned(f.bits == 64 ? 8 : 4) : bytes;
      forLanes(warp.active, [&](unsigned l) {
        Element e = f.layout(x.shape, f.bits, int(l), int(r) * per + p);
        int64_t stride = x.stride ? int64_t(uint32_t(warp.value(x.stride, l)))
                                  : (x.rowMajor ? f.columns : f.rows);
        int64_t linear = x.rowMajor ? e.row * stride + e.column : e.column * stride + e.row;
        addresses[l] = warp.address(in.address, l) + uint64_t(linear * f.bits / 8);
        Actor actor = warp.actor(l, in);
        actor.what = x.stores ? "wmma.store" : "wmma.load";
        uint64_t value = 0;
        uint64_t *wide = f.bits == 64 ? warp.u64(f.registers[r]) + l : nullptr;
        uint32_t *narrow = f.bits == 64 ? nullptr : warp.u32(f.registers[r]) + l;
        if (x.stores) {
          value = wide ? *wide : *narrow >> (p * f.bits);
          block.write(actor, in.space, addresses[l], size, &value, size);
        } else {
          block.read(actor, in.space, addresses[l], size, &value, size);
          if (wide)
            *wide = value;
          else if (together)
            *narrow = uint32_t(value);
          else
            *narrow = (p ? *narrow : 0) | uint32_t(value) << (p * f.bits);
        }
      });
      if (in.space == Space::Shared)
        warp.countShared(in, addresses, warp.active, size);
      else if (in.space == Space::Global ||
               (addresses[std::countr_zero(warp.active)] & window::mask) == 0)
        warp.countGlobal(in, addresses, warp.active, size);
    }
  }
  return Step::Next;
}

void decodeWmmaMemory(DecodeContext &c) {
  checkAligned(c);
  WmmaMemory x;
  x.stores = c.ast.opcode == Opcode::WmmaStore;
  x.shape = {c.ast.shape.m, c.ast.shape.n, c.ast.shape.k};
  const MatrixShape &s = x.shape;
  bool isA = c.ast.has(Modifier::A), isB = c.ast.has(Modifier::B);
  x.rowMajor = c.ast.has(Modifier::Row);
  if (x.rowMajor == c.ast.has(Modifier::Col))
    c.fail("expects .row or .col");
  bool isB1 = c.ast.type() == ptx::Type::B1;
  std::optional<TensorType> type = isB1 ? TensorType::U4 : tensorTypeOf(c.ast.type());
  if (!type)
    c.fail("type ." + std::string(ptx::nameOf(c.ast.type())) + " is not supported");
  int bits = isB1 ? 1 : bitsOf(*type);
  bool accumulator = !isA && !isB;
  if (!accumulator && !wmmaShape(s, bits, isB1))
    c.fail("this shape does not exist for ." + std::string(ptx::nameOf(c.ast.type())));
  if (bits < 8 && x.rowMajor == isB)
    c.fail("matrices of less than 8 bits are .row for A and .col for B");
  int rows = isB ? s.k : s.m, columns = isA ? s.k : s.n;
  const auto &ops = c.ast.operands;
  if (ops.size() < 2 || ops.size() > 3)
    c.fail("expects a vector of registers, an address and perhaps a stride");
  const ptx::Operand &vector = ops[x.stores ? 1 : 0];
  x.fragment = fragment(c, vector, !x.stores, "the matrix", rows, columns, bits,
                        wmmaRegisters(bits, *type, accumulator, rows * columns),
                        isA   ? wmmaA
                        : isB ? wmmaB
                              : wmmaC);
  c.in.space = c.space(c.ast.space());
  c.in.address = c.address(ops[x.stores ? 0 : 1]);
  if (ops.size() == 3)
    x.stride = c.source(ops[2], ptx::Type::U32);
  c.extra(std::move(x));
  c.in.execute = runWmmaMemory;
}

const RegisterDecoders decoders({{Opcode::Mma, decodeMma},
                                 {Opcode::WmmaMma, decodeWmmaMma},
                                 {Opcode::WmmaLoad, decodeWmmaMemory},
                                 {Opcode::WmmaStore, decodeWmmaMemory}});

} // namespace
} // namespace sgpu
