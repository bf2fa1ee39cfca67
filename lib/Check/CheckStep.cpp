//===- CheckStep.cpp - What the programs of a stage have to do ------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Rules that no order of memory accesses says. The entries of a program pass through phases:
//
//   Begun    --zero of the sums-->                        Working   runs, norms; each gives what
//                                                                   the next entry adds to a sum
//   Working  --all_reduce of the sums, if several ranks-> Reduced
//   Reduced  --call: hyperparameters of this step-->      Clipped   in a program that trains
//   Clipped  --update-->                                  Done      gathers of updated weights
//
// Every graph runs once on each micro-batch, or group of them. Norm and update take gradients
// that are whole, complete (the terms of all applications in all runs, each counted once:
// Written::content) and summed over all axes over which they are partial.
//
//===----------------------------------------------------------------------===//
#include "ProgramReader.h"

#include "runtime/include/llrt/ProgramFields.h"

#include "llvm/ADT/StringSet.h"

using namespace mlir;
using namespace mlir::llamac;
using dist::AddressAttr;
using dist::InstanceAttr;

/// The trained parameters of the stage, those of the encoder, and who uses them.
LogicalResult ProgramReader::readTrained(dist::ProgramOp source) {
  count = microBatches;
  llvm::StringSet<> seen;
  for (auto program : module.getOps<dist::ProgramOp>()) {
    if (int64_t(program.getStage()) != stage)
      continue;
    for (auto run : program.getBody().getOps<dist::RunOp>()) {
      if (!microBatches && program == source) // of a module made by hand: what there is
        count = std::max<int64_t>(count, run.getMicroBatch() + 1);
      if (!seen.insert(run.getGraph()).second)
        continue;
      FailureOr<const GraphItems *> graph = items.readGraph(run, run.getGraph());
      if (failed(graph))
        return failure();
      for (auto [application, name] : (*graph)->weights) {
        if ((*graph)->imageAxes)
          imageAxes[name] = bitsOf(items.axes, (*graph)->imageAxes);
        if (program == source)
          applications[name].insert({application, (*graph)->imageAxes ? 1 : 0});
      }
    }
  }
  const int64_t ranks = sizeOfAxis(items.axes, "dp");
  for (auto parameter : module.getOps<llama::ParameterOp>()) {
    dist::StorageOp place = items.storage.lookup(parameter.getSymName());
    if (!place || !place.getGradient())
      continue;
    auto *arena = items.arenas.find(place.getGradient()->getArena().getValue());
    if (arena == items.arenas.end())
      return place.emitOpError("expects arenas of one stage");
    int64_t elements = place.getShard() ? (*place.getShard())[1] / ranks
                                        : parameter.getTensorType().getNumElements();
    int64_t begin = place.getGradient()->getOffset();
    trained.push_back({parameter.getSymName(), place, parameter, arena->second, begin,
                       begin + elements * widthOf(items.gradientType), elements,
                       axesOfGradient(parameter)});
  }
  return success();
}

/// The instances of a run are those of its frames and of its micro-batch.
void ProgramReader::checkInstances(dist::RunOp run, const GraphItems &graph,
                                   ArrayRef<InstanceAttr> used) {
  const int64_t number = run.getMicroBatch();
  auto wrong = [&](const Twine &message) {
    items.fault("R7", locationOf(run, run.getGraph() + " " + Twine(number)) + " " + message);
  };
  for (auto [instance, frame] : llvm::zip(used, graph.frames)) {
    StringRef name = instance.getFrame().getValue();
    if (name != frame.first) {
      wrong("has an instance of '" + name + "' for its frame '" + frame.first + "'");
      continue;
    }
    if (weightsOf.contains(name) || gradientOf.contains(name)) {
      if (instance.getOffset())
        wrong("reads '" + name + "' not from its first byte on");
      continue;
    }
    int64_t of = number, offset = 0;
    if (!graph.imageAxes && graph.groupFrames.contains(frame.second)) {
      of = number / items.groupSize;
      offset = number % items.groupSize * statesBytes(graph, frame.second);
    }
    if (instance.getNumber() != of || instance.getOffset() != offset)
      wrong("uses '" + name + "' " + Twine(instance.getNumber()) + " from byte " +
            Twine(instance.getOffset()) + " on, but expected " + Twine(of) + " from byte " +
            Twine(offset) + " on");
  }
  if (!ran[run.getGraph()].insert(number).second)
    wrong("runs a second time");
}

/// Bytes of a micro-batch in a frame of a group.
int64_t ProgramReader::statesBytes(const GraphItems &graph, int frame) {
  int64_t bytes = 0;
  for (const Item &item : graph.items)
    for (const Use &use : item.uses)
      if (use.space == -1 - frame)
        bytes = std::max(bytes, use.end);
  return bytes;
}

/// Every graph runs once on each micro-batch, or group of micro-batches.
void ProgramReader::checkRuns(dist::ProgramOp program) {
  for (auto &[name, numbers] : ran) {
    FailureOr<const GraphItems *> graph = items.readGraph(program, name);
    int64_t wanted = runsOf(bool((*graph)->imageAxes));
    if (int64_t(numbers.size()) != wanted || *numbers.begin() != 0 ||
        *numbers.rbegin() + 1 != wanted)
      items.fault("R9", cls->name + ": '" + name + "' runs " + Twine(numbers.size()) +
                            " times, but expected once for each of " + Twine(wanted) +
                            ((*graph)->imageAxes ? " groups of" : "") + " micro-batches");
    losses += bool((*graph)->loss);
  }
}

/// Gradients within the bytes of `use` are whole there, complete, and summed over all axes
/// over which they are partial; adds them to `covered`.
void ProgramReader::checkGradients(const Use &use, const Twine &where,
                                   llvm::SetVector<size_t> &covered) {
  uint64_t want = 0, got = 0;
  for (auto [i, one] : llvm::enumerate(trained)) {
    if (one.arena != use.space || one.end <= use.begin || one.begin >= use.end)
      continue;
    if (one.begin < use.begin || one.end > use.end)
      items.fault("R9", where + " has a part of the gradient of '" + one.name + "'");
    if (!covered.insert(i))
      items.fault("R9", where + " has the gradient of '" + one.name + "' a second time");
    want += expected(one);
  }
  Named &bytes = named[use.space];
  auto entry = bytes.upper_bound(use.begin);
  if (entry != bytes.begin())
    --entry;
  for (; entry != bytes.end() && entry->first < use.end; ++entry)
    if (entry->second.end > use.begin)
      got += entry->second.content;
  if (want == got)
    return;
  // Which one, if each lies by itself.
  std::string which;
  for (auto &one : trained)
    if (one.arena == use.space && one.begin >= use.begin && one.end <= use.end && which.empty())
      if (auto at = bytes.find(one.begin);
          at == bytes.end() || at->second.end > one.end || at->second.content != expected(one))
        which = one.name.str();
  items.fault("R9", where +
                        " reads gradients that are not the sum of what every application and "
                        "micro-batch adds, once over each axis: '" +
                        which + "' or one that lies with it");
}

/// What has to be in the gradient of a parameter (Written::content).
uint64_t ProgramReader::expected(const Trained &one) {
  auto number = items.parameterNumber.find(one.name);
  if (number == items.parameterNumber.end())
    return 1; // nothing adds to it
  uint64_t sum = 0;
  for (auto [application, ofEncoder] : applications[one.name])
    for (int64_t n = 0, e = runsOf(ofEncoder); n < e; ++n)
      sum += contribution(number->second, application, n);
  return sum * items.factorOf(one.axes);
}

/// Each collective between graphs is one of those that a step is made of.
void ProgramReader::checkCollective(dist::CollectiveOp op, const Item &item) {
  auto frame = [](std::optional<InstanceAttr> instance) {
    return instance ? instance->getFrame().getValue() : StringRef();
  };
  bool ofUnit =
      weightsOf.contains(frame(op.getWrites())) || gradientOf.contains(frame(op.getReads()));
  if ((op.getReads() || op.getWrites()) && !ofUnit &&
      (!op->hasAttr(dist::kPlacedAttr) || !op->hasAttr(dist::kCrossingAttr)))
    items.fault("R7", item.what + " does not say which value it moves, and how that lies");
}

/// A norm takes whole gradients, and counts each on one of the ranks that have it.
void ProgramReader::checkNorm(dist::GradientNormOp op, const Item &item) {
  if (item.uses.empty())
    return;
  for (const Use &use : item.uses)
    if (use.writes)
      items.expectNoState(use, "the result of " + item.what);
  size_t before = inNorm.size();
  checkGradients(item.uses[0], item.what, inNorm);
  for (size_t i : inNorm.getArrayRef().drop_front(before)) {
    Trained &one = trained[i];
    uint32_t once = 0;
    for (auto [number, axis] : llvm::enumerate(items.axes))
      if (axis.size > 1 && (axis.name != "dp" || !one.place.getShard()) &&
          (axis.name != "pp" || stagesOf.lookup(one.name) > 1))
        once |= 1u << number;
    if (auto split = one.op.getSplit())
      for (auto names : split->getAsRange<ArrayAttr>())
        once &= ~bitsOf(items.axes, names);
    if (once != bitsOf(items.axes, op.getOnce()))
      items.fault("R9", item.what + " counts the gradient of '" + one.name +
                            "' not once over the axes on which all ranks have the same");
  }
}

/// The update takes each gradient together with master and moments of the same parameter, and
/// writes its weights.
void ProgramReader::checkUpdate(dist::UpdateOp op, const Item &item) {
  auto block = items.symbols.lookup<func::FuncOp>(op.getBlock());
  const bool givesWeights = block.getNumResults() == 4;
  if (item.uses.size() < (givesWeights ? 6u : 5u))
    return;
  items.expectNoState(item.uses[4], "the hyperparameters of " + item.what);
  llvm::SetVector<size_t> covered;
  checkGradients(item.uses[3], item.what, covered);
  auto width = [&](Type type) { return widthOf(cast<RankedTensorType>(type).getElementType()); };
  const int64_t gradientWidth = width(block.getArgumentTypes()[3]);
  const int64_t masterWidth = width(block.getArgumentTypes()[0]);
  const int64_t ranks = sizeOfAxis(items.axes, "dp");
  updated.clear();
  for (auto [i, one] : llvm::enumerate(trained)) {
    auto wrong = [&](StringRef what) {
      items.fault("R9", item.what + " does not update the " + what + " of '" + one.name + "'");
    };
    if (!covered.contains(i)) {
      wrong("gradient");
      continue;
    }
    const int64_t element = (one.begin - item.uses[3].begin) / gradientWidth;
    std::pair<StringRef, std::optional<AddressAttr>> held[] = {
        {"master", one.place.getMaster()},
        {"first moment", one.place.getMoment1()},
        {"second moment", one.place.getMoment2()}};
    for (auto [k, what] : llvm::enumerate(held))
      if (!isAt(what.second, item.uses[k], element * masterWidth))
        wrong(what.first);
    // Weights: of the block, or the masters; gathered where each rank has a part.
    Type type = one.op.getTensorType().getElementType();
    const Use &weights = item.uses[givesWeights ? 5 : 0];
    const int64_t offset = element * widthOf(type);
    if (weights.type != typeNumber(type))
      wrong("weights, which have another type,");
    if (!one.place.getShard() || one.place.getShardStorage()) {
      if (!isAt(one.place.getAddress(), weights, offset))
        wrong("weights");
      continue;
    }
    auto arena = llvm::find_if(items.arenas, [&](auto &a) { return a.second == weights.space; });
    auto from =
        AddressAttr::get(op.getContext(), FlatSymbolRefAttr::get(op.getContext(), arena->first),
                         weights.begin + offset);
    auto same = llvm::find_if(updated, [&](const Updated &u) { return u.from == from; });
    if (same == updated.end()) {
      updated.push_back({from, (*one.place.getShard())[1] / ranks, type, {}});
      same = updated.end() - 1;
    }
    same->parameters.push_back(one.place);
  }
}

/// The sums: zero, then the loss of every run that gives it and every norm, each on one of the
/// ranks that have it; then once over all ranks. Then the hyperparameters from them, the update,
/// the updated weights to all.
void ProgramReader::checkEntries(dist::ProgramOp program) {
  enum Phase { Begun, Working, Reduced, Clipped, Done } phase = Begun;
  uint32_t all = 0;
  for (auto [i, axis] : llvm::enumerate(items.axes))
    all |= axis.size > 1 ? 1u << i : 0;
  AddressAttr sums, given;
  llvm::DenseMap<Attribute, StringRef> inputs; // by address
  for (auto output : program.getBody().getOps<dist::OutputOp>())
    if (auto type = dyn_cast<RankedTensorType>(output.getType());
        output.getName() == llrt::field::sums && type.getNumElements() == 2 &&
        type.getElementType().isF64())
      sums = output.getAddress();
  for (auto input : program.getBody().getOps<dist::InputOp>()) {
    inputs[input.getAddress()] = input.getName();
    if (input.getName() == llrt::known::hyperparameters)
      given = input.getAddress();
  }
  auto finish = [&](bool holds, const Twine &what) {
    if (!holds)
      items.fault("R9", cls->name + ": program '" + program.getName() + "' " + what);
  };
  if (!sums)
    return finish(false, "has no output 'sums', two f64");
  auto isSum = [&](Attribute address, int64_t number) {
    auto at = cast<AddressAttr>(address);
    return at.getArena() == sums.getArena() && at.getOffset() == sums.getOffset() + 8 * number;
  };
  // What waits to be added: the loss of a run, or a norm.
  struct Waiting {
    Operation *by;
    AddressAttr at;
    int64_t sum;      // its number
    std::string once; // the input that says which ranks count it
  };
  std::optional<Waiting> waiting;
  auto inputOf = [](ArrayRef<StringRef> axes) { return "once:" + llvm::join(axes, ","); };
  Attribute clipped; // where
  std::vector<bool> gathered(updated.size(), false);
  for (auto entry : program.getBody().getOps<dist::EntryOpInterface>()) {
    Operation &op = *entry;
    auto expect = [&](bool holds, const Twine &what) {
      if (!holds)
        items.fault("R9",
                    cls->name + ": " + locationOf(&op, op.getName().getStringRef()) + " " + what);
    };
    auto call = dyn_cast<dist::CallOp>(op);
    const size_t count = call && call.getBuffers() ? call.getBuffers()->size() : 0;
    auto collective = dyn_cast<dist::CollectiveOp>(op);
    const bool isPlain = collective && !collective.getReads() && !collective.getWrites() &&
                         !collective.getGradients();
    const bool moves = isa<dist::SendOp, dist::ReceiveOp>(op) || op.hasAttr(dist::kPlacedAttr) ||
                       (collective && (collective.getReads() || collective.getWrites()));
    if (waiting && !call && !moves) {
      items.fault("R9", cls->name + ": what " + locationOf(waiting->by, "an entry") +
                            " gives is not added to the sums");
      waiting.reset();
    }
    if (auto zero = dyn_cast<dist::ZeroOp>(op);
        zero && zero.getAddress() && zero.getAddress()->getArena() == sums.getArena()) {
      expect(phase == Begun && zero.getAddress() == sums && zero.getBytes() == 16,
             "does not set the sums to zero, once");
      phase = Working;
    } else if (call && waiting && count == 4) {
      ArrayAttr buffers = *call.getBuffers();
      auto run = dyn_cast<dist::RunOp>(waiting->by);
      expect(isSum(buffers[0], waiting->sum) && buffers[1] == waiting->at &&
                 call.getMicroBatch() ==
                     (run ? std::optional<uint64_t>(run.getMicroBatch()) : std::nullopt),
             "does not add what " + locationOf(waiting->by, "the entry before") +
                 " gives to its sum");
      expect(inputs.lookup(buffers[2]) == waiting->once,
             "does not count once over the axes on which all ranks have the same");
      waiting.reset();
    } else if (call) {
      // Without other ranks the sums are those of all.
      expect(phase == (all ? Reduced : Working) && count == 4 &&
                 isSum((*call.getBuffers())[0], 0) && (*call.getBuffers())[1] == given &&
                 !call.getMicroBatch(),
             "does neither add to the sums nor find the hyperparameters from those of all ranks");
      if (count == 4)
        clipped = (*call.getBuffers())[2];
      phase = Clipped;
    } else if (auto update = dyn_cast<dist::UpdateOp>(op)) {
      expect(phase == Clipped && update.getBuffers() && (*update.getBuffers())[4] == clipped,
             "does not come once, with hyperparameters from the sums of all ranks");
      phase = Done;
    } else if (isPlain) {
      AddressAttr from = collective.getFrom().value_or(AddressAttr());
      AddressAttr to = collective.getTo().value_or(AddressAttr());
      auto group = items.symbols.lookup<dist::CommunicatorOp>(collective.getCommunicator());
      uint32_t over = group.getAxes() ? bitsOf(items.axes, *group.getAxes()) : 0;
      bool isCopy =
          !collective.getMaximum() && !collective.getAccumulate() && !collective.getToType();
      if (phase <= Working && all) {
        expect(phase == Working && collective.getKind() == dist::CollectiveKind::AllReduce &&
                   isCopy && from == sums && to == sums &&
                   collective.getOuter() * collective.getElements() == 2 &&
                   collective.getType().isF64() && over == all,
               "does not sum loss and norm over all ranks");
        phase = Reduced;
        continue;
      }
      expect(phase == Done, "moves what no gradient, value or unit is");
      auto one = llvm::find_if(updated, [&](const Updated &u) { return u.from == from; });
      if (one == updated.end()) {
        expect(false, "does not gather updated weights");
        continue;
      }
      bool fits = collective.getKind() == dist::CollectiveKind::AllGather && isCopy &&
                  collective.getOuter() == 1 &&
                  int64_t(collective.getElements()) == one->elements &&
                  collective.getType() == one->type && !gathered[one - updated.begin()] &&
                  group.getAxes() && axesOf(group) == SmallVector<StringRef>{"dp"};
      for (dist::StorageOp place : one->parameters)
        fits &= to.getArena() == place.getAddress().getArena() &&
                to.getOffset() + (*place.getShard())[0] * widthOf(one->type) ==
                    place.getAddress().getOffset();
      expect(fits, "does not gather updated weights to where they belong");
      gathered[one - updated.begin()] = true;
    } else if (!moves) {
      // What moves values between stages may end for others later.
      expect(phase == Working || phase == Begun, "comes behind the sums of loss and norm");
      if (auto norm = dyn_cast<dist::GradientNormOp>(op); norm && norm.getBuffers()) {
        SmallVector<StringRef> once;
        for (auto axis : norm.getOnce().getAsRange<StringAttr>())
          once.push_back(axis.getValue());
        waiting = {&op, cast<AddressAttr>((*norm.getBuffers())[1]), 1, inputOf(once)};
      } else if (auto run = dyn_cast<dist::RunOp>(op)) {
        FailureOr<const GraphItems *> graph = items.readGraph(&op, run.getGraph());
        if (dist::OutputOp loss = (*graph)->loss) {
          SmallVector<StringRef> once;
          for (const Axis &axis : items.axes)
            if (axis.size > 1 && axis.name != "dp" && axis.name != "pp" &&
                !(loss.getPartial() &&
                  llvm::is_contained(*loss.getPartial(),
                                     StringAttr::get(op.getContext(), axis.name))))
              once.push_back(axis.name);
          waiting = {&op, loss.getAddress(), 0, inputOf(once)};
        }
      }
      expect(!waiting || phase == Working, "gives what is added before the sums are zero");
    }
  }
  if (waiting)
    finish(false, "does not add what its last entry gives to the sums");
  const bool trains = program.getName() == llrt::known::step && !trained.empty();
  finish(phase == (trains ? Done
                   : all  ? Reduced
                          : Working),
         trains ? "does not end with an update" : "does not end with the sum of its losses");
  for (bool one : gathered)
    finish(one, "does not gather all updated weights");
  if (trains)
    for (auto [i, one] : llvm::enumerate(trained))
      finish(inNorm.contains(i), "does not count the gradient of '" + one.name + "' in the norm");
}
