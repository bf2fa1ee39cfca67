//===- LegalizeCollectives.cpp - Collectives that the target has ----------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A collective stays one op, before and after: what it means to values, gradients and other
// ranks is what it was. The target is asked whether it has it. If not, the op gets the blocks
// that lead to its plain form and back (DistCollective.h), ordinary blocks of one loop, which
// the target compiles like any other:
//
//   reduce_scatter @dp  2 x 64 x bf16, to_type f32   =   pack:           2 x 4 x 64 bf16 -> f32
//                                                        reduce_scatter: 1 x 128 x f32
//
// Then it is asked how much memory it takes for what it is now to do. Addresses follow when
// memory is planned (llama-plan-arenas), the steps as actions of their own when the program
// is written (ProgramText.cpp).
//
//===----------------------------------------------------------------------===//
#include "llamac/Lower/Passes.h"

#include "GraphCollective.h"

#include "dialects/Llama/IR/Llama.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "llvm/ADT/StringExtras.h"

namespace mlir::llamac {
#define GEN_PASS_DEF_LEGALIZECOLLECTIVESPASS
#include "llamac/Lower/Passes.h.inc"
} // namespace mlir::llamac

using namespace mlir;
using namespace mlir::llamac;
using func::FuncOp;

static std::string textOf(Type type) {
  std::string text;
  llvm::raw_string_ostream(text) << type;
  return text;
}

/// `value` as an element of `type`: rounded once, or as it is.
static Value converted(OpBuilder &b, Location loc, Value value, Type type) {
  unsigned from = value.getType().getIntOrFloatBitWidth(), to = type.getIntOrFloatBitWidth();
  if (from < to)
    return arith::ExtFOp::create(b, loc, type, value);
  return from > to ? Value(arith::TruncFOp::create(b, loc, type, value)) : value;
}

/// The sum of two numbers of one type; of bf16 in f32, rounded once.
static Value added(OpBuilder &b, Location loc, Value x, Value y) {
  Type type = x.getType(), in = type.isBF16() ? Type(b.getF32Type()) : type;
  Value sum = arith::AddFOp::create(b, loc, converted(b, loc, x, in), converted(b, loc, y, in));
  return converted(b, loc, sum, type);
}

namespace {
class Legalizer {
public:
  Legalizer(ModuleOp module, const Target &target, bool plain)
      : module(module), target(target), plain(plain), symbols(module), axes(axesOf(module)) {}

  LogicalResult run();

private:
  FailureOr<dist::StagingAttr> staging(Operation *op, dist::StagingAttr known,
                                       const dist::Collective &what);
  FlatSymbolRefAttr block(StringRef kind, FunctionType type);

  ModuleOp module;
  const Target &target;
  bool plain;
  SymbolTable symbols;
  SmallVector<Axis> axes;
};
} // namespace

/// The block `pack.2x4x64.bf16.f32`, made if it is not there: moves the first dimension and the
/// second of three, converts, and adds to a second argument if it has one.
FlatSymbolRefAttr Legalizer::block(StringRef kind, FunctionType type) {
  auto from = cast<RankedTensorType>(type.getInput(0));
  auto to = cast<RankedTensorType>(type.getResult(0));
  const bool adds = type.getNumInputs() == 2;
  std::string name = (kind + ".").str();
  llvm::interleave(
      from.getShape(), [&](int64_t size) { name += std::to_string(size); }, [&] { name += "x"; });
  name += "." + textOf(from.getElementType()) + "." + textOf(to.getElementType());
  if (adds)
    name += ".add";
  if (symbols.lookup(name))
    return FlatSymbolRefAttr::get(module.getContext(), name);

  OpBuilder b = OpBuilder::atBlockEnd(module.getBody());
  Location loc = NameLoc::get(b.getStringAttr("collectives"));
  auto function = FuncOp::create(b, loc, name, type);
  function.setPrivate();
  function->setAttr(llama::kBlockAttr, b.getUnitAttr());
  if (adds)
    function.setResultAttr(0, llama::kInPlaceAttr, b.getI64IntegerAttr(1));
  symbols.insert(function);
  Block *body = function.addEntryBlock();
  b.setInsertionPointToStart(body);
  AffineMap same = b.getMultiDimIdentityMap(to.getRank()), read = same;
  if (to.getRank() == 3)
    read = AffineMap::getPermutationMap(ArrayRef<unsigned>{1, 0, 2}, b.getContext());
  SmallVector<AffineMap> maps = {read};
  if (adds)
    maps.push_back(same);
  maps.push_back(same);
  Value empty = tensor::EmptyOp::create(b, loc, to.getShape(), to.getElementType());
  SmallVector<utils::IteratorType> loops(to.getRank(), utils::IteratorType::parallel);
  auto result = linalg::GenericOp::create(b, loc, to, body->getArguments(), empty, maps, loops,
                                          [&](OpBuilder &b, Location loc, ValueRange arguments) {
                                            Value value = converted(b, loc, arguments[0],
                                                                    to.getElementType());
                                            if (adds)
                                              value = added(b, loc, arguments[1], value);
                                            linalg::YieldOp::create(b, loc, value);
                                          });
  func::ReturnOp::create(b, loc, result.getResults());
  return FlatSymbolRefAttr::get(module.getContext(), name);
}

/// How the target does `what`, in which memory; null if there is nothing to say.
FailureOr<dist::StagingAttr> Legalizer::staging(Operation *op, dist::StagingAttr known,
                                                const dist::Collective &what) {
  FlatSymbolRefAttr pack, unpack;
  if (known) {
    pack = known.getPack();
    unpack = known.getUnpack();
  } else if (plain || !target.hasCollective(what)) {
    if (FunctionType type = what.packType())
      pack = block("pack", type);
    if (FunctionType type = what.unpackType())
      unpack = block("unpack", type);
  }
  const dist::Collective done = pack || unpack ? what.plain() : what;
  if (!target.hasCollective(done))
    return op->emitOpError("is not among the collectives of the target, not in plain form either");
  const int64_t bytes = target.collectiveScratch(done);
  if (!pack && !unpack && !bytes)
    return dist::StagingAttr();
  return dist::StagingAttr::get(op->getContext(), pack, {}, {}, unpack, bytes, {});
}

LogicalResult Legalizer::run() {
  for (auto graph : llvm::make_early_inc_range(module.getOps<FuncOp>())) {
    if (graph.isExternal() || graph->hasAttr(llama::kBlockAttr))
      continue;
    for (Operation &op : graph.getBody().front()) {
      if (!isGraphCollective(&op))
        continue;
      GraphCollective collective = readCollective(&op, axes);
      if (collective.what.kind == dist::CollectiveKind::Slice) // communicates nothing
        continue;
      FailureOr<dist::StagingAttr> made =
          staging(&op, op.getAttrOfType<dist::StagingAttr>(dist::kStagingAttr), collective.what);
      if (failed(made))
        return failure();
      if (*made)
        op.setAttr(dist::kStagingAttr, *made);
    }
  }
  for (auto program : module.getOps<dist::ProgramOp>())
    for (auto op : program.getBody().getOps<dist::CollectiveOp>()) {
      if (op.getKind() == dist::CollectiveKind::Slice)
        continue;
      auto group = symbols.lookup<dist::CommunicatorOp>(op.getCommunicator());
      FailureOr<dist::StagingAttr> made =
          staging(op, op.getStagingAttr(), op.getCollective(ranksOf(axes, group)));
      if (failed(made))
        return failure();
      if (*made)
        op.setStagingAttr(*made);
    }
  return success();
}

namespace {
struct LegalizeCollectivesPass
    : llamac::impl::LegalizeCollectivesPassBase<LegalizeCollectivesPass> {
  using LegalizeCollectivesPassBase::LegalizeCollectivesPassBase;
  explicit LegalizeCollectivesPass(std::shared_ptr<const Target> given)
      : target(std::move(given)) {}

  void getDependentDialects(DialectRegistry &registry) const override {
    LegalizeCollectivesPassBase::getDependentDialects(registry);
    registry.insert<func::FuncDialect>(); // of blocks, where a program has none yet
  }

  LogicalResult initialize(MLIRContext *context) override {
    return makeTarget(target, {.name = targetOption}, context);
  }

  void runOnOperation() override {
    if (failed(Legalizer(getOperation(), *target, plain).run()))
      signalPassFailure();
  }

private:
  std::shared_ptr<const Target> target;
};
} // namespace

std::unique_ptr<Pass> llamac::createLegalizeCollectivesPass(std::shared_ptr<const Target> target) {
  return std::make_unique<LegalizeCollectivesPass>(std::move(target));
}
