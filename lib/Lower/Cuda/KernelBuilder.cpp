//===- KernelBuilder.cpp - Kernels that read like formulas ----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Each operator makes one op where the builder stands; arith folds constants as they come. A
// kernel grows in its own gpu.module: parameters (buffers, then tensor maps) and shared memory are
// collected, and `launch` makes the gpu.launch_func of them at the end.
//
//   shared memory   one array of bytes; shared() hands out the next multiple of 128
//   control         when(), loop() and their likes are scf ops, whose bodies the lambdas fill
//
//===----------------------------------------------------------------------===//
#include "lib/Lower/Cuda/KernelBuilder.h"

#include "lib/Lower/Cuda/CudaTarget.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace mlir::llamac;

static constexpr unsigned kGlobal = 1, kShared = 3;
static constexpr StringLiteral kSharedName = "smem";

static bool isFloat(Type type) { return isa<FloatType>(getElementTypeOrSelf(type)); }

//===----------------------------------------------------------------------===//
// Numbers
//===----------------------------------------------------------------------===//

template <typename IntOp, typename FloatOp> static Num binary(Num a, Num b) {
  KernelBuilder &k = *a.kernel;
  if constexpr (!std::is_void_v<FloatOp>)
    if (isFloat(a.type()))
      return {&k, FloatOp::create(k, a.value, b.value, arith::FastMathFlags::contract)};
  return {&k, k.createOrFold<IntOp>(a.value, b.value)};
}

static Num compare(arith::CmpIPredicate onIntegers, arith::CmpFPredicate onFloats, Num a, Num b) {
  KernelBuilder &k = *a.kernel;
  if (isFloat(a.type()))
    return {&k, arith::CmpFOp::create(k, onFloats, a.value, b.value)};
  return {&k, k.createOrFold<arith::CmpIOp>(onIntegers, a.value, b.value)};
}

namespace mlir::llamac {
Num operator+(Num a, Num b) { return binary<arith::AddIOp, arith::AddFOp>(a, b); }
Num operator-(Num a, Num b) { return binary<arith::SubIOp, arith::SubFOp>(a, b); }
Num operator*(Num a, Num b) { return binary<arith::MulIOp, arith::MulFOp>(a, b); }
Num operator/(Num a, Num b) { return binary<arith::DivUIOp, arith::DivFOp>(a, b); }
Num operator%(Num a, Num b) { return binary<arith::RemUIOp, void>(a, b); }
Num operator&(Num a, Num b) { return binary<arith::AndIOp, void>(a, b); }
Num operator|(Num a, Num b) { return binary<arith::OrIOp, void>(a, b); }
Num operator^(Num a, Num b) { return binary<arith::XOrIOp, void>(a, b); }
#define LLAMAC_COMPARE(OP, INTEGERS, FLOATS)                                                       \
  Num operator OP(Num a, Num b) {                                                                  \
    return compare(arith::CmpIPredicate::INTEGERS, arith::CmpFPredicate::FLOATS, a, b);            \
  }
LLAMAC_COMPARE(<, slt, OLT)
LLAMAC_COMPARE(<=, sle, OLE)
LLAMAC_COMPARE(>, sgt, OGT)
LLAMAC_COMPARE(>=, sge, OGE)
LLAMAC_COMPARE(==, eq, OEQ)
#undef LLAMAC_COMPARE

Num constantAs(Num like, int64_t value) { return like.kernel->constant(like.type(), value); }
Num constantAs(Num like, float value) { return like.kernel->constant(like.type(), value); }
} // namespace mlir::llamac

Num Num::wide() const {
  return {kernel, kernel->createOrFold<arith::ExtSIOp>(kernel->getI64Type(), value)};
}

Num Num::operator[](int index) const {
  if (isa<VectorType>(type()))
    return {kernel, LLVM::ExtractElementOp::create(*kernel, value, kernel->integer(index).value)};
  return {kernel, LLVM::ExtractValueOp::create(*kernel, value, int64_t(index))};
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

static unsigned bytesOf(Type type) {
  auto vector = dyn_cast<VectorType>(type);
  unsigned lanes = vector ? vector.getNumElements() : 1;
  return lanes * llvm::divideCeil(getElementTypeOrSelf(type).getIntOrFloatBitWidth(), 8);
}

Pointer Pointer::operator+(Num elements) const {
  KernelBuilder &k = *base.kernel;
  if (getConstantIntValue(elements.value) == 0)
    return *this;
  Value moved = LLVM::GEPOp::create(k, base.type(), element, base.value,
                                    ArrayRef<LLVM::GEPArg>{elements.value});
  return {{&k, moved}, element};
}

Num Pointer::load(Num index, int lanes) const {
  KernelBuilder &k = *base.kernel;
  Type type = lanes == 1 ? element : VectorType::get(lanes, element);
  Value at = (*this + index).base.value;
  return {&k, LLVM::LoadOp::create(k, type, at, bytesOf(type))};
}

Pointer Pointer::operator+(int64_t elements) const {
  return *this + base.kernel->integer(elements);
}

void Pointer::store(Num index, Num value) const {
  KernelBuilder &k = *base.kernel;
  Value at = (*this + index).base.value;
  LLVM::StoreOp::create(k, value.value, at, bytesOf(value.type()));
}

// `like` with elements of another type.
static Type withElement(Type like, Type element) {
  auto vector = dyn_cast<VectorType>(like);
  return vector ? VectorType::get(vector.getShape(), element) : element;
}

Num Pointer::loadFloat(Num index, int lanes) const {
  Num stored = load(index, lanes);
  if (element.isF32())
    return stored;
  KernelBuilder &k = *base.kernel;
  return {&k, arith::ExtFOp::create(k, withElement(stored.type(), k.getF32Type()), stored.value)};
}

void Pointer::storeFloat(Num index, Num value) const {
  KernelBuilder &k = *base.kernel;
  if (!element.isF32())
    value = {&k, arith::TruncFOp::create(k, withElement(value.type(), element), value.value)};
  store(index, value);
}

Pointer KernelBuilder::shared(int64_t elements, Type element, int64_t alignment) {
  if (!sharedBase) {
    InsertionGuard guard(*this);
    setInsertionPointToStart(&cast<LLVM::LLVMFuncOp>(kernel).getBody().front());
    sharedBase = LLVM::AddressOfOp::create(*this, LLVM::LLVMPointerType::get(getContext(), kShared),
                                           kSharedName);
  }
  const int64_t begin = llvm::alignTo(sharedSize, alignment);
  Pointer start = Pointer{{this, sharedBase}, getI8Type()} + integer(begin);
  sharedSize = begin + elements * bytesOf(element);
  return {start.base, element};
}

//===----------------------------------------------------------------------===//
// The kernel and its launch
//===----------------------------------------------------------------------===//

KernelBuilder::KernelBuilder(Operation *point, StringRef name, ArrayRef<Value> buffers,
                             unsigned written, int64_t threads)
    : ImplicitLocOpBuilder(point->getLoc(), point->getContext()), point(point), buffers(buffers),
      threads(threads) {
  auto module = point->getParentOfType<ModuleOp>();
  module->setAttr(gpu::GPUDialect::getContainerModuleAttrName(), getUnitAttr());
  auto holder = gpu::GPUModuleOp::create(*this, name);
  SymbolTable(module).insert(holder); // makes the name unique
  setInsertionPointToStart(holder.getBody());
  LLVM::GlobalOp::create(*this, LLVM::LLVMArrayType::get(getI8Type(), 0), /*isConstant=*/false,
                         LLVM::Linkage::External, kSharedName, Attribute(), /*alignment=*/1024,
                         kShared);
  Type pointer = LLVM::LLVMPointerType::get(getContext(), kGlobal);
  auto type = LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(getContext()),
                                          SmallVector<Type>(buffers.size(), pointer));
  auto function = LLVM::LLVMFuncOp::create(*this, holder.getName(), type);
  kernel = function;
  function->setAttr(gpu::GPUDialect::getKernelFuncAttrName(), getUnitAttr());
  function->setAttr(NVVM::NVVMDialect::getKernelFuncAttrName(), getUnitAttr());
  function->setAttr(NVVM::NVVMDialect::getReqntidAttrName(),
                    getDenseI32ArrayAttr({int32_t(threads), 1, 1}));
  // Without it ptxas spills a little where that lets one more block run beside.
  function->setAttr(NVVM::NVVMDialect::getMinctasmAttrName(), getI32IntegerAttr(1));
  Block *entry = function.addEntryBlock(*this);
  for (auto [index, buffer] : llvm::enumerate(buffers)) {
    function.setArgAttr(index, LLVM::LLVMDialect::getNoAliasAttrName(), getUnitAttr());
    if (index < written)
      function.setArgAttr(index, LLVM::LLVMDialect::getReadonlyAttrName(), getUnitAttr());
    auto type = cast<MemRefType>(buffer.getType());
    Pointer argument = {{this, entry->getArgument(index)}, type.getElementType()};
    if (!type.getLayout().isIdentity())
      argument.rowStride = type.getStridesAndOffset().first.front();
    arguments.push_back(argument);
  }
  setInsertionPointToStart(entry);
}

void KernelBuilder::limitRegisters(int64_t count) {
  kernel->setAttr(NVVM::NVVMDialect::getMaxnregAttrName(), getI32IntegerAttr(count));
  kernel->removeAttr(NVVM::NVVMDialect::getMinctasmAttrName());
}

Num KernelBuilder::tensorMap(unsigned index, ArrayRef<int64_t> sizes, ArrayRef<int64_t> strides,
                             ArrayRef<int64_t> box, int64_t swizzle) {
  auto map = getDictionaryAttr({getNamedAttr("argument", getI64IntegerAttr(index)),
                                getNamedAttr("box", getDenseI64ArrayAttr(box)),
                                getNamedAttr("sizes", getDenseI64ArrayAttr(sizes)),
                                getNamedAttr("strides", getDenseI64ArrayAttr(strides)),
                                getNamedAttr("swizzle", getI64IntegerAttr(swizzle)),
                                getNamedAttr("type", TypeAttr::get(arguments[index].element))});
  tensorMaps.push_back(map);
  auto function = cast<LLVM::LLVMFuncOp>(kernel);
  Type pointer = LLVM::LLVMPointerType::get(getContext());
  SmallVector<Type> types(function.getArgumentTypes());
  types.push_back(pointer);
  function.setFunctionType(
      LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(getContext()), types));
  SmallVector<Attribute> attributes;
  if (ArrayAttr before = function.getArgAttrsAttr())
    attributes.assign(before.begin(), before.end());
  attributes.push_back(getDictionaryAttr(
      {getNamedAttr(LLVM::LLVMDialect::getAlignAttrName(), getI64IntegerAttr(64)),
       getNamedAttr(LLVM::LLVMDialect::getByValAttrName(),
                    TypeAttr::get(LLVM::LLVMArrayType::get(getI8Type(), 128))),
       getNamedAttr(NVVM::NVVMDialect::getGridConstantAttrName(), getUnitAttr())}));
  function.setArgAttrsAttr(getArrayAttr(attributes));
  Value address = function.getBody().front().addArgument(pointer, getLoc());
  return {this, address};
}

Operation *KernelBuilder::launch(Grid grid) {
  LLVM::ReturnOp::create(*this, ValueRange());
  if (!sharedBase) // no shared memory
    SymbolTable::lookupSymbolIn(kernel->getParentOp(), kSharedName)->erase();
  setInsertionPoint(point);
  auto index = [&](int64_t value) -> Value { return arith::ConstantIndexOp::create(*this, value); };
  auto name = SymbolTable::getSymbolName(kernel);
  auto symbol = SymbolRefAttr::get(name, {SymbolRefAttr::get(name)});
  gpu::KernelDim3 blocks = {index(grid.x), index(grid.y), index(grid.z)};
  gpu::KernelDim3 size = {index(threads), index(1), index(1)};
  Value dynamic = arith::ConstantIntOp::create(*this, getI32Type(), sharedSize);
  auto launch = gpu::LaunchFuncOp::create(*this, symbol, blocks, size, dynamic, buffers);
  if (!tensorMaps.empty())
    launch->setAttr(kTensorMapsAttr, getArrayAttr(tensorMaps));
  return launch;
}

//===----------------------------------------------------------------------===//
// Control
//===----------------------------------------------------------------------===//

Num KernelBuilder::integer(int64_t value) { return constant(getI32Type(), value); }
Num KernelBuilder::number(float value) { return constant(getF32Type(), value); }

Num KernelBuilder::constant(Type type, int64_t value) {
  if (isFloat(type))
    return constant(type, float(value));
  return {this, arith::ConstantOp::create(*this, getIntegerAttr(type, value))};
}

Num KernelBuilder::constant(Type type, float value) {
  TypedAttr attribute = getFloatAttr(getElementTypeOrSelf(type), value);
  if (auto vector = dyn_cast<VectorType>(type))
    attribute = DenseElementsAttr::get(vector, Attribute(attribute));
  return {this, arith::ConstantOp::create(*this, attribute)};
}

Num KernelBuilder::threadId() { return {this, NVVM::ThreadIdXOp::create(*this, getI32Type())}; }

Num KernelBuilder::threadIdAnew() {
  auto read = LLVM::InlineAsmOp::create(
      *this, TypeRange(getI32Type()), ValueRange(), "mov.u32 $0, %tid.x;", "=r",
      /*has_side_effects=*/true, /*is_align_stack=*/false, LLVM::TailCallKind::None,
      LLVM::AsmDialectAttr::get(getContext(), LLVM::AsmDialect::AD_ATT), ArrayAttr());
  return {this, read.getResult(0)};
}

Num KernelBuilder::blockId(unsigned dimension) {
  switch (dimension) {
  case 0:
    return {this, NVVM::BlockIdXOp::create(*this, getI32Type())};
  case 1:
    return {this, NVVM::BlockIdYOp::create(*this, getI32Type())};
  default:
    return {this, NVVM::BlockIdZOp::create(*this, getI32Type())};
  }
}

static SmallVector<Value> values(ArrayRef<Num> nums) {
  return llvm::map_to_vector(nums, [](Num n) { return n.value; });
}
static Nums nums(KernelBuilder *kernel, ValueRange range) {
  Nums result;
  for (Value value : range)
    result.push_back({kernel, value});
  return result;
}

Nums KernelBuilder::loop(Num low, Num high, int64_t step, ArrayRef<Num> initial,
                         llvm::function_ref<Nums(Num, ArrayRef<Num>)> body) {
  auto loop = scf::ForOp::create(*this, low.value, high.value, integer(step).value, values(initial),
                                 nullptr);
  {
    InsertionGuard guard(*this);
    Block *block = loop.getBody();
    if (initial.empty())
      block->getTerminator()->erase();
    setInsertionPointToEnd(block);
    Nums next = body({this, loop.getInductionVar()}, nums(this, loop.getRegionIterArgs()));
    scf::YieldOp::create(*this, values(next));
  }
  return nums(this, loop.getResults());
}

void KernelBuilder::loop(Num low, Num high, int64_t step, llvm::function_ref<void(Num)> body) {
  loop(low, high, step, {}, [&](Num i, ArrayRef<Num>) {
    body(i);
    return Nums();
  });
}

void KernelBuilder::when(Num condition, llvm::function_ref<void()> then) {
  auto branch = scf::IfOp::create(*this, condition.value, /*withElseRegion=*/false);
  InsertionGuard guard(*this);
  setInsertionPointToStart(branch.thenBlock());
  then();
}

void KernelBuilder::when(Num condition, llvm::function_ref<void()> then,
                         llvm::function_ref<void()> otherwise) {
  auto branch = scf::IfOp::create(*this, condition.value, /*withElseRegion=*/true);
  InsertionGuard guard(*this);
  setInsertionPointToStart(branch.thenBlock());
  then();
  setInsertionPointToStart(branch.elseBlock());
  otherwise();
}

Nums KernelBuilder::when(Num condition, ArrayRef<Num> otherwise, llvm::function_ref<Nums()> then) {
  SmallVector<Value> rest = values(otherwise);
  auto branch = scf::IfOp::create(*this, TypeRange(ValueRange(rest)), condition.value,
                                  /*withElseRegion=*/true);
  {
    InsertionGuard guard(*this);
    setInsertionPointToStart(branch.thenBlock());
    Nums results = then();
    scf::YieldOp::create(*this, values(results));
    setInsertionPointToStart(branch.elseBlock());
    scf::YieldOp::create(*this, rest);
  }
  return nums(this, branch.getResults());
}

Num KernelBuilder::select(Num condition, Num yes, Num no) {
  return {this, createOrFold<arith::SelectOp>(condition.value, yes.value, no.value)};
}

//===----------------------------------------------------------------------===//
// Threads
//===----------------------------------------------------------------------===//

void KernelBuilder::barrier() { intrinsic("llvm.nvvm.barrier.cta.sync.aligned.all", {integer(0)}); }

Num KernelBuilder::barrierAny(Num condition) {
  return intrinsic("llvm.nvvm.barrier.cta.red.or.aligned.all", getI1Type(),
                   {integer(0), condition});
}

Num KernelBuilder::shuffleXor(Num value, int mask) {
  return {this, NVVM::ShflOp::create(*this, value.type(), integer(-1).value, value.value,
                                     integer(mask).value, integer(31).value, NVVM::ShflKind::bfly,
                                     UnitAttr())};
}

Num KernelBuilder::shuffle(Num value, int lane) {
  return {this, NVVM::ShflOp::create(*this, value.type(), integer(-1).value, value.value,
                                     integer(lane).value, integer(31).value, NVVM::ShflKind::idx,
                                     UnitAttr())};
}

void KernelBuilder::syncWarp() { intrinsic("llvm.nvvm.bar.warp.sync", {integer(-1)}); }

Num KernelBuilder::ballot(Num condition) {
  return intrinsic("llvm.nvvm.vote.ballot.sync", getI32Type(), {integer(-1), condition});
}

Num KernelBuilder::countBits(Num bits) {
  return {this, LLVM::CtPopOp::create(*this, bits.type(), bits.value)};
}

Num KernelBuilder::countLeadingZeros(Num bits) {
  return {this, LLVM::CountLeadingZerosOp::create(*this, bits.type(), bits.value,
                                                  /*is_zero_poison=*/false)};
}

Num KernelBuilder::warpMin(Num value) {
  return intrinsic("llvm.nvvm.redux.sync.min", getI32Type(), {value, integer(-1)});
}

Num KernelBuilder::warpMax(Num value) {
  return intrinsic("llvm.nvvm.redux.sync.max", getI32Type(), {value, integer(-1)});
}

//===----------------------------------------------------------------------===//
// Between blocks
//===----------------------------------------------------------------------===//

// Memory that all blocks see in one order.
static constexpr StringLiteral kDevice = "device";

Pointer KernelBuilder::beginInOrder(Pointer counter) {
  kernel->getParentOp()->setAttr(kBegunInOrderAttr, getUnitAttr());
  Pointer number = shared(1, getI32Type());
  when(threadId() == 0, [&] {
    Value before =
        LLVM::AtomicRMWOp::create(*this, LLVM::AtomicBinOp::add, counter.base.value,
                                  integer(1).value, LLVM::AtomicOrdering::monotonic, kDevice);
    number.store(integer(0), {this, before});
  });
  barrier();
  return number;
}

// Assembly: the verifier of a store that releases asks the whole module for its data layout.
static void onGlobal(KernelBuilder &k, Num address, Num value, StringRef text) {
  LLVM::InlineAsmOp::create(
      k, TypeRange(), ValueRange{address.value, value.value}, text, "l,r,~{memory}",
      /*has_side_effects=*/true, /*is_align_stack=*/false, LLVM::TailCallKind::None,
      LLVM::AsmDialectAttr::get(k.getContext(), LLVM::AsmDialect::AD_ATT), ArrayAttr());
}

void KernelBuilder::awaitValue(Pointer at, Num value) {
  onGlobal(*this, at.base, value,
           "{\n.reg .pred other;\n.reg .b32 seen;\n"
           "again_${:uid}:\n"
           "ld.acquire.gpu.global.b32 seen, [$0];\n"
           "setp.ne.b32 other, seen, $1;\n"
           "@other bra again_${:uid};\n}");
}

void KernelBuilder::storeReleased(Pointer at, Num value) {
  onGlobal(*this, at.base, value, "st.release.gpu.global.b32 [$0], $1;");
}

//===----------------------------------------------------------------------===//
// Arithmetic
//===----------------------------------------------------------------------===//

Num KernelBuilder::min(Num a, Num b) { return binary<arith::MinSIOp, void>(a, b); }

Num KernelBuilder::max(Num a, Num b) {
  if (isFloat(a.type()))
    return {this, LLVM::MaxNumOp::create(*this, a.value, b.value)};
  return binary<arith::MaxSIOp, void>(a, b);
}

Num KernelBuilder::fma(Num a, Num b, Num c) {
  return {this, LLVM::FMAOp::create(*this, a.value, b.value, c.value)};
}

Num KernelBuilder::exp2(Num x) { return intrinsic("llvm.nvvm.ex2.approx.ftz", getF32Type(), {x}); }

Num KernelBuilder::log2(Num x) { return intrinsic("llvm.nvvm.lg2.approx.f", getF32Type(), {x}); }

Num KernelBuilder::reciprocal(Num x) { return number(1.f) / x; }

Num KernelBuilder::shiftLeft(Num a, Num bits) { return binary<arith::ShLIOp, void>(a, bits); }

Num KernelBuilder::shiftRight(Num a, int64_t bits) {
  return binary<arith::ShRUIOp, void>(a, constant(a.type(), bits));
}

Num KernelBuilder::vector(ArrayRef<Num> elements) {
  Value result = LLVM::UndefOp::create(
      *this, VectorType::get(int64_t(elements.size()), elements.front().type()));
  for (auto [index, element] : llvm::enumerate(elements))
    result = LLVM::InsertElementOp::create(*this, result, element.value, integer(index).value);
  return {this, result};
}

Num KernelBuilder::narrow(Num value) {
  return {this, createOrFold<arith::TruncIOp>(getI32Type(), value.value)};
}

//===----------------------------------------------------------------------===//
// Copies and matrices
//===----------------------------------------------------------------------===//

void KernelBuilder::copyAsync(Pointer to, Pointer from, Num there) {
  intrinsic("llvm.nvvm.cp.async.cg.shared.global.16.s",
            {to.base, from.base, select(there, integer(16), integer(0))});
}

void KernelBuilder::commitCopies() { intrinsic("llvm.nvvm.cp.async.commit.group", {}); }

void KernelBuilder::waitCopies(int pending) {
  intrinsic("llvm.nvvm.cp.async.wait.group", {integer(pending)});
}

// The members of a structure, or the one value that there is instead.
static Nums members(Num structure) {
  auto type = dyn_cast<LLVM::LLVMStructType>(structure.type());
  if (!type)
    return {structure};
  Nums result;
  for (size_t i = 0; i != type.getBody().size(); ++i)
    result.push_back(structure[i]);
  return result;
}

Nums KernelBuilder::loadMatrices(Pointer at, int count, bool transposed) {
  Type result = getI32Type();
  if (count > 1)
    result = LLVM::LLVMStructType::getLiteral(getContext(), SmallVector<Type>(count, result));
  std::string name = ("llvm.nvvm.ldmatrix.sync.aligned.m8n8.x" + Twine(count) +
                      (transposed ? ".trans" : "") + ".b16")
                         .str();
  return members(intrinsic(name, result, {at.base}));
}

Nums KernelBuilder::multiply(ArrayRef<Num> a, ArrayRef<Num> b, ArrayRef<Num> sums) {
  Nums operands(a);
  llvm::append_range(operands, b);
  llvm::append_range(operands, sums);
  Type result = LLVM::LLVMStructType::getLiteral(getContext(), SmallVector<Type>(4, getF32Type()));
  return members(intrinsic(a.size() == 4 ? "llvm.nvvm.mma.m16n8k16.row.col.bf16"
                                         : "llvm.nvvm.mma.m16n8k8.row.col.bf16",
                           result, operands));
}

Num KernelBuilder::pack(Num low, Num high) {
  Value narrowed =
      arith::TruncFOp::create(*this, VectorType::get(2, getBF16Type()), vector({low, high}).value);
  return {this, LLVM::BitcastOp::create(*this, getI32Type(), narrowed)};
}

Num KernelBuilder::intrinsic(StringRef name, Type result, ArrayRef<Num> operands) {
  auto call = LLVM::CallIntrinsicOp::create(*this, result, getStringAttr(name), values(operands));
  return {this, call.getResult(0)};
}

void KernelBuilder::intrinsic(StringRef name, ArrayRef<Num> operands) {
  LLVM::CallIntrinsicOp::create(*this, getStringAttr(name), values(operands));
}
