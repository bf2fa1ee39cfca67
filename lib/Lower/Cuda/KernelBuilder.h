//===- KernelBuilder.h - Kernels that read like formulas -------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// For kernels that we write by hand (attention): numbers with operators, loops and branches that
// take lambdas, pointers with a type of element, instructions by name. It makes arith, scf, llvm
// and nvvm ops, one for each operator, in an `llvm.func` in a gpu.module of its own, and the launch of
// it. Arithmetic of constants is folded as it is built.
//
//   KernelBuilder k(op, "scale", {x, y}, /*written=*/1, /*threads=*/256);
//   Num i = k.blockId(0) * 256 + k.threadId();
//   k.when(i < n, [&] { k.argument(1).store(i, k.argument(0).load(i) * 2.f); });
//   k.launch({divideCeil(n, 256), 1, 1});
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_LOWER_CUDA_KERNELBUILDER_H
#define LLAMAC_LIB_LOWER_CUDA_KERNELBUILDER_H

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

#include <array>

namespace mlir::llamac {

class KernelBuilder;

/// A value of a kernel: i1, i32, i64, f32, bf16, or a vector. Both sides of an operator have one
/// type; a C++ number takes the type of the other side. Integers are signed in comparisons and
/// unsigned in divisions, where none is negative. Sums and products of floats may be fused to fma.
struct Num {
  KernelBuilder *kernel = nullptr;
  Value value;

  Type type() const { return value.getType(); }
  Num wide() const;          ///< i64 of an i32
  Num operator[](int) const; ///< an element of a vector or a member of a structure
  explicit operator bool() const { return bool(value); }
};
using Nums = SmallVector<Num>;

/// A constant of the type of `like`.
Num constantAs(Num like, int64_t value);
Num constantAs(Num like, float value);

#define LLAMAC_NUM_OPERATOR(OP)                                                                    \
  Num operator OP(Num, Num);                                                                       \
  inline Num operator OP(Num a, int64_t b) { return a OP constantAs(a, b); }                       \
  inline Num operator OP(int64_t a, Num b) { return constantAs(b, a) OP b; }                       \
  inline Num operator OP(Num a, float b) { return a OP constantAs(a, b); }                         \
  inline Num operator OP(float a, Num b) { return constantAs(b, a) OP b; }                         \
  inline Num operator OP(Num a, int b) { return a OP int64_t(b); }                                 \
  inline Num operator OP(int a, Num b) { return int64_t(a) OP b; }
LLAMAC_NUM_OPERATOR(+)
LLAMAC_NUM_OPERATOR(-)
LLAMAC_NUM_OPERATOR(*)
LLAMAC_NUM_OPERATOR(/)
LLAMAC_NUM_OPERATOR(%)
LLAMAC_NUM_OPERATOR(&)
LLAMAC_NUM_OPERATOR(|)
LLAMAC_NUM_OPERATOR(^)
LLAMAC_NUM_OPERATOR(<)
LLAMAC_NUM_OPERATOR(<=)
LLAMAC_NUM_OPERATOR(>)
LLAMAC_NUM_OPERATOR(>=)
LLAMAC_NUM_OPERATOR(==)
#undef LLAMAC_NUM_OPERATOR

/// The address of the first of many elements in global (address space 1) or shared (3) memory.
struct Pointer {
  Num base;
  Type element;
  /// Of an argument that is some columns of a wider matrix: elements from row to row of that. Else 0.
  int64_t rowStride = 0;

  Pointer operator+(Num elements) const;
  Pointer operator+(int64_t elements) const;
  /// The same address, of elements of another type.
  Pointer as(Type other) const { return {base, other}; }
  /// The element `index` further on, or `lanes` of them as a vector, at an address that is a
  /// multiple of their size in bytes.
  Num load(Num index, int lanes = 1) const;
  void store(Num index, Num value) const;
  /// As `load`, widened to f32, and `store` of f32 narrowed to the element.
  Num loadFloat(Num index, int lanes = 1) const;
  void storeFloat(Num index, Num value) const;
};

/// The sizes of a launch.
struct Grid {
  int64_t x = 1, y = 1, z = 1;
};

/// Builds one kernel: see the head of this file.
class KernelBuilder : public ImplicitLocOpBuilder {
public:
  /// Begins a kernel on `buffers` (memrefs) that is to run in front of `point`, an op of the block
  /// function. Those from `written` on are written and do not overlap any other, the others are only
  /// read. `name` is made unique in the module.
  KernelBuilder(Operation *point, StringRef name, ArrayRef<Value> buffers, unsigned written,
                int64_t threads);

  /// The most registers of a thread: for a kernel that changes their number as it runs.
  void limitRegisters(int64_t count);

  /// Ends the kernel and makes its launch, before `point`.
  Operation *launch(Grid grid);

  Pointer argument(unsigned index) const { return arguments[index]; }
  /// One more parameter: buffer `index` as a tensor of dimensions `sizes`, the innermost first, that the
  /// copy engine cuts boxes from (LlrtTensorMap). Its address.
  Num tensorMap(unsigned index, ArrayRef<int64_t> sizes, ArrayRef<int64_t> strides,
                ArrayRef<int64_t> box, int64_t swizzle);
  /// Shared memory of the block, behind what was taken before, at a multiple of `alignment` bytes (a power of
  /// two from 128 to 1024).
  Pointer shared(int64_t elements, Type element, int64_t alignment = 128);

  Num integer(int64_t value); ///< i32
  Num number(float value);    ///< f32
  Num constant(Type type, int64_t value);
  Num constant(Type type, float value);

  Num threadId();
  /// The same, but what is derived from it before is not kept for it: where registers are scarce.
  Num threadIdAnew();
  Num blockId(unsigned dimension); ///< 0: x, 1: y, 2: z

  //===--- Control ---===//
  /// for (i = low; i < high; i += step) values = body(i, values); returns the last values.
  Nums loop(Num low, Num high, int64_t step, ArrayRef<Num> values,
            llvm::function_ref<Nums(Num i, ArrayRef<Num> values)> body);
  Nums loop(int64_t low, int64_t high, int64_t step, ArrayRef<Num> values,
            llvm::function_ref<Nums(Num i, ArrayRef<Num> values)> body) {
    return loop(integer(low), integer(high), step, values, body);
  }
  void loop(Num low, Num high, int64_t step, llvm::function_ref<void(Num i)> body);
  void when(Num condition, llvm::function_ref<void()> then);
  void when(Num condition, llvm::function_ref<void()> then, llvm::function_ref<void()> otherwise);
  /// `then()` if `condition`, else `otherwise`.
  Nums when(Num condition, ArrayRef<Num> otherwise, llvm::function_ref<Nums()> then);
  Num select(Num condition, Num yes, Num no);

  //===--- Threads ---===//
  void barrier();
  /// A barrier of the block that tells whether `condition` holds for any thread.
  Num barrierAny(Num condition);
  /// `value` of the lane whose number differs in the bits of `mask`; all lanes of the warp take part.
  Num shuffleXor(Num value, int mask);
  /// `value` of lane `lane`; all lanes of the warp take part.
  Num shuffle(Num value, int lane);
  /// Orders the memory of the lanes of the warp, which all come here.
  void syncWarp();
  /// The lanes of the warp, which all come here, for which `condition` holds.
  Num ballot(Num condition);
  Num countBits(Num bits);
  Num countLeadingZeros(Num bits);
  /// Least and greatest i32 of the warp.
  Num warpMin(Num value);
  Num warpMax(Num value);

  //===--- Between blocks, in global memory ---===//
  /// Takes the number (i32) of this block in the order in which blocks begin from `counter` (i32),
  /// which has to be 0 before the kernel, and returns where in shared memory it is. All threads of
  /// the block meet at a barrier. A block of such a kernel may wait for those with lower numbers,
  /// which run or are done, however many have room at one time; its number in the grid must not be
  /// used (kBegunInOrderAttr).
  Pointer beginInOrder(Pointer counter);
  /// `storeReleased` stores `value` (i32) behind all that this thread has written or seen;
  /// `awaitValue` waits until it is there, and sees what that thread saw.
  void awaitValue(Pointer at, Num value);
  void storeReleased(Pointer at, Num value);

  //===--- Arithmetic ---===//
  Num min(Num a, Num b); ///< i32, i64
  Num max(Num a, Num b); ///< integers; of floats the one that is not NaN
  Num fma(Num a, Num b, Num c);
  Num exp2(Num x);       ///< ex2.approx.ftz: relative error 2^-22
  Num log2(Num x);       ///< lg2.approx: absolute error 2^-22 near 1, else relative
  Num reciprocal(Num x); ///< 1 / x, rounded
  Num shiftLeft(Num a, Num bits);
  Num shiftRight(Num a, int64_t bits); ///< of a number that is not negative
  Num vector(ArrayRef<Num> elements);
  /// The low 32 bits of an i64.
  Num narrow(Num value);

  //===--- Copies that run beside the thread (cp.async) ---===//
  /// 16 bytes from global to shared memory; zeros unless `there`.
  void copyAsync(Pointer to, Pointer from, Num there);
  /// Ends a group of copies of this thread.
  void commitCopies();
  /// Waits until at most `pending` groups of this thread are under way.
  void waitCopies(int pending);

  //===--- Matrices of bf16 (mma.sync), by all lanes of a warp ---===//
  /// `count` matrices of 8 x 8; lane 8 m + r says where row r of matrix m lies. Of each a lane gets two
  /// elements of row lane / 4, of column lane / 4 with `transposed`.
  Nums loadMatrices(Pointer at, int count, bool transposed = false);
  /// sums[16, 8] + a[16, depth] * b[depth, 8], depth 16 or 8; fragments as the PTX ISA has them for m16n8k16 and
  /// m16n8k8: 4 and 2, or 2 and 1 numbers of i32, sums 4 of f32.
  Nums multiply(ArrayRef<Num> a, ArrayRef<Num> b, ArrayRef<Num> sums);
  /// Two f32 as bf16 in an i32, `low` in the lower half.
  Num pack(Num low, Num high);

  /// A call of an LLVM intrinsic.
  Num intrinsic(StringRef name, Type result, ArrayRef<Num> operands);
  void intrinsic(StringRef name, ArrayRef<Num> operands);

private:
  Operation *point;
  Operation *kernel;
  SmallVector<Value> buffers;
  SmallVector<Pointer> arguments;
  SmallVector<Attribute> tensorMaps;
  int64_t threads, sharedSize = 0;
  Value sharedBase;
};

} // namespace mlir::llamac

#endif // LLAMAC_LIB_LOWER_CUDA_KERNELBUILDER_H
