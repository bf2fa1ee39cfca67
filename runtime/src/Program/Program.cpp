//===- Program.cpp - The program of an executable, parsed -----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One pass over the JSON, in the order in which later parts name earlier ones: grid, communicators,
// then of each stage arenas, parameters, inputs, graphs, programs. Reader gives a field of an
// object or says what is wrong with it and where; Parser knows what the fields mean. What an action has is
// said by Actions.def.
//
//   address   every one is checked against its arena or frame, with the bytes that are used there
//   used      of each arena the end of what a graph or a program uses: not beyond what it says it
//             needs
//
//===----------------------------------------------------------------------===//

#include "src/Program/Program.h"

#include "llrt/Collectives.h"
#include "src/Data/Error.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <string_view>
#include <unordered_map>

using namespace llrt;
using nlohmann::json;

int64_t llrt::typeSize(LlrtType type) {
  switch (type) {
  case LLRT_BF16:
    return 2;
  case LLRT_F32:
    return 4;
  case LLRT_F64:
  case LLRT_I64:
    return 8;
  }
  __builtin_unreachable();
}

const char *llrt::typeName(LlrtType type) {
  switch (type) {
  case LLRT_BF16:
    return "bf16";
  case LLRT_F32:
    return "f32";
  case LLRT_F64:
    return "f64";
  case LLRT_I64:
    return "i64";
  }
  __builtin_unreachable();
}

static int64_t product(const std::vector<int64_t> &shape, size_t from = 0) {
  return std::accumulate(shape.begin() + std::min(from, shape.size()), shape.end(), int64_t(1),
                         std::multiplies<>());
}

int64_t Buffer::elements() const { return product(shape); }

int64_t Parameter::rowElements() const { return product(checkpointShape, 1); }

int64_t Parameter::wholeElements() const { return product(inFiles.empty() ? shape : inFiles); }

LlrtType Program::masterType() const { return precision == "f64" ? LLRT_F64 : LLRT_F32; }

int64_t Program::globalBatch() const {
  std::optional<size_t> dp = grid.find("dp");
  return batch * microBatches * (dp ? grid.axes[*dp].size : 1);
}

bool Action::communicates() const {
  ActionMembers members = actionInfo(kind).members;
  return members == ActionMembers::Transfer ||
         (members == ActionMembers::Collective && kind != Kind::Slice);
}

namespace {

[[noreturn]] void wrong(const std::string &field, const std::string &expected,
                        const std::string &got) {
  fail("the program in this executable: field '", field, "': expected ", expected, ", got ", got);
}

// Reads one JSON object; `where` is its place in the text, for messages.
class Reader {
public:
  Reader(const json &object, std::string where) : object(object), where(std::move(where)) {
    if (!object.is_object())
      wrong(this->where, "an object", object.type_name());
  }

  std::string place(const std::string &field) const {
    return where.empty() ? field : where + "." + field;
  }

  const json &at(const std::string &field) const {
    auto found = object.find(field);
    if (found == object.end())
      wrong(place(field), "a value", "nothing");
    return *found;
  }

  bool has(const std::string &field) const { return object.contains(field); }

  int64_t integer(const std::string &field, int64_t least) const {
    const json &value = at(field);
    if (!value.is_number_integer() || value.get<int64_t>() < least)
      wrong(place(field), "an integer of at least " + std::to_string(least), value.dump());
    return value.get<int64_t>();
  }

  double number(const std::string &field) const {
    if (!at(field).is_number())
      wrong(place(field), "a number", at(field).dump());
    return at(field).get<double>();
  }

  std::string text(const std::string &field) const {
    if (!at(field).is_string())
      wrong(place(field), "a string", at(field).dump());
    return at(field).get<std::string>();
  }

  bool boolean(const std::string &field) const {
    if (!at(field).is_boolean())
      wrong(place(field), "true or false", at(field).dump());
    return at(field).get<bool>();
  }

  const json &array(const std::string &field) const {
    if (!at(field).is_array())
      wrong(place(field), "an array", at(field).type_name());
    return at(field);
  }

  const json &members(const std::string &field) const {
    if (!at(field).is_object())
      wrong(place(field), "an object", at(field).type_name());
    return at(field);
  }

  // Non-negative integers.
  std::vector<int64_t> integers(const std::string &field) const {
    std::vector<int64_t> result;
    for (const json &value : array(field)) {
      if (!value.is_number_integer() || value.get<int64_t>() < 0)
        wrong(place(field), "integers of at least 0", value.dump());
      result.push_back(value.get<int64_t>());
    }
    return result;
  }

  LlrtType type(const std::string &field) const {
    std::string name = text(field);
    for (LlrtType type : {LLRT_F32, LLRT_BF16, LLRT_F64, LLRT_I64})
      if (name == typeName(type))
        return type;
    wrong(place(field), "one of f32, bf16, f64, i64", name);
  }

  // Calls `visit(Reader)` for each object of an array.
  template <typename Visit> void each(const std::string &field, Visit visit) const {
    int64_t index = 0;
    for (const json &element : array(field))
      visit(Reader(element, place(field) + "[" + std::to_string(index++) + "]"));
  }

private:
  const json &object;
  std::string where;
};

class Parser {
public:
  explicit Parser(const LlrtProgram &compiled) {
    program.device = compiled.device;
    for (uint64_t i = 0; i < compiled.block_count; ++i)
      blocks.emplace(compiled.block_names[i], compiled.blocks[i]);
  }

  Program parse(const json &text) {
    Reader root(text, "");
    if (root.integer(field::version, 0) != kProgramVersion)
      wrong(field::version, std::to_string(kProgramVersion), root.at(field::version).dump());
    readOptions(root);
    readModel(Reader(root.members(field::model), field::model));
    Reader operations(root.members(field::operations), field::operations);
    program.forwardOperations = operations.number(known::forward);
    program.stepOperations = operations.number(known::step);
    if (root.has(field::certificate))
      program.certificate = root.members(field::certificate);
    if (root.has(field::logits))
      root.each(field::logits, [&](const Reader &of) {
        program.logits.push_back(
            {of.text(field::block), of.integer(field::chunk, 1), of.integer(field::rows, 1)});
      });
    root.each(field::axes, [&](const Reader &axis) {
      program.grid.axes.push_back({axis.text(field::name), axis.integer(field::size, 1)});
    });
    if (program.grid.ranks() > LLRT_MOST_RANKS)
      wrong(field::axes, "at most " + std::to_string(LLRT_MOST_RANKS) + " ranks",
            std::to_string(program.grid.ranks()));
    root.each(field::communicators, [&](const Reader &r) { readCommunicator(r); });
    if (root.has(field::locations))
      for (const json &text : root.array(field::locations)) {
        if (!text.is_string())
          wrong(field::locations, "strings", text.dump());
        locations.push_back(text.get<std::string>());
      }
    std::optional<size_t> pp = program.grid.find("pp");
    int64_t stages = pp ? program.grid.axes[*pp].size : 1;
    root.each(field::stages, [&](const Reader &r) { readStage(r); });
    if (int64_t(program.stages.size()) != stages)
      wrong(field::stages, std::to_string(stages) + ", the size of axis pp",
            std::to_string(program.stages.size()));
    return std::move(program);
  }

private:
  void readOptions(const Reader &root) {
    Reader options(root.members(field::options), field::options);
    program.options = root.at(field::options);
    program.batch = options.integer(option::batch, 1);
    program.textLength = options.integer(option::textLength, 1);
    program.images = options.integer(option::images, 0);
    program.microBatches = options.integer(option::microBatches, 1);
    program.precision = options.text(option::precision);
  }

  void readModel(const Reader &r) {
    Program::Model &m = program.model;
    m.type = r.text(model::type);
    m.hash = r.text(model::hash);
    m.vocabulary = r.integer(model::vocabulary, 1);
    m.extraRows = r.integer(model::extraRows, 0);
    m.beginToken = r.integer(model::beginToken, 0);
    m.padToken = r.integer(model::padToken, 0);
    m.endTokens = r.integers(model::endTokens);
    m.initializerRange = r.number(model::initializerRange);
    if (r.has(model::carried))
      for (const json &key : r.array(model::carried))
        m.carried.push_back(key.get<std::string>());
    if (r.has(model::computation))
      m.computation = r.members(model::computation);
    if (r.has(model::config)) {
      m.config = r.text(model::config);
      if (!json::accept(m.config))
        wrong(r.place(model::config), "the text of a JSON file", m.config);
    }
    bool images = program.images > 0;
    m.imageToken = images ? r.integer(model::imageToken, 0) : -1;
    m.tileSize = images ? r.integer(model::tileSize, 1) : 0;
    m.tiles = images ? r.integer(model::tiles, 1) : 0;
  }

  size_t axis(const json &value, const std::string &where) const {
    std::optional<size_t> found;
    if (value.is_string())
      found = program.grid.find(value.get<std::string>());
    if (!found)
      wrong(where, "the name of an axis", value.dump());
    return *found;
  }

  // Names of axes, outermost first, none twice.
  Axes axes(const json &value, const std::string &where) const {
    if (!value.is_array())
      wrong(where, "names of axes", value.dump());
    Axes result;
    for (const json &name : value) {
      result.push_back(axis(name, where));
      if (result.size() > 1 && result.back() <= result[result.size() - 2])
        wrong(where, "axes outermost first, as in 'axes'", value.dump());
    }
    return result;
  }

  Axes axes(const Reader &r, const std::string &field) const {
    return r.has(field) ? axes(r.at(field), r.place(field)) : Axes();
  }

  // The field `split`, for a tensor of `rank` dimensions.
  Split split(const Reader &r, size_t rank) const {
    Split result;
    if (!r.has(field::split))
      return result;
    for (const json &dimension : r.array(field::split))
      result.push_back(axes(dimension, r.place(field::split)));
    if (result.size() != rank)
      wrong(r.place(field::split), std::to_string(rank) + " lists of axes",
            r.at(field::split).dump());
    return result;
  }

  void readCommunicator(const Reader &r) {
    Communicator result;
    result.name = r.text(field::name);
    if (r.has(field::edge)) {
      std::vector<int64_t> edge = r.integers(field::edge);
      std::optional<size_t> pp = program.grid.find("pp");
      int64_t stages = pp ? program.grid.axes[*pp].size : 1;
      if (edge.size() != 2 || edge[0] == edge[1] || edge[0] >= stages || edge[1] >= stages)
        wrong(r.place(field::edge),
              "two coordinates less than " + std::to_string(stages) + ", the size of axis pp",
              r.at(field::edge).dump());
      result.axes = {*pp};
      result.edge = {edge[0], edge[1]};
    } else {
      result.axes = axes(r.at(field::axes), r.place(field::axes));
    }
    if (r.has(field::multiprocessors)) {
      result.multiprocessors = r.integer(field::multiprocessors, 1);
      result.bytes = r.integer(field::bytes, 0);
    }
    program.communicators.push_back(std::move(result));
  }

  void readStage(const Reader &root) {
    stage = &program.stages.emplace_back();
    usedBy.clear();
    root.each(field::arenas, [&](const Reader &arena) {
      Arena &read = stage->arenas.emplace_back();
      read.name = arena.text(field::name);
      Reader needs(arena.members(field::bytes), arena.place(field::bytes));
      for (const auto &[name, bytes] : arena.members(field::bytes).items()) {
        read.needs[name] = needs.integer(name, 0);
        read.bytes = std::max(read.bytes, read.needs[name]);
      }
    });
    if (root.has(field::reserves)) {
      Reader reserves(root.members(field::reserves), root.place(field::reserves));
      stage->productStreams = reserves.integers(field::productStreams);
      stage->productBytes = reserves.integer(field::productBytes, 0);
    }
    root.each(field::parameters, [&](const Reader &r) { readParameter(r); });
    root.each(field::inputs, [&](const Reader &r) { readInput(r); });
    for (const auto &[name, graph] : root.members(field::graphs).items())
      readGraph(name, Reader(graph, root.place("graphs." + name)));
    Reader programs(root.members(field::programs), root.place(field::programs));
    for (const char *name : {known::step, known::forward}) {
      if (!programs.has(name))
        wrong(programs.place(name), "a program", "nothing");
      std::vector<Action> &entries = stage->programs[name];
      used.assign(stage->arenas.size(), -1);
      programs.each(name, [&](const Reader &r) { entries.push_back(action(r, entries, nullptr)); });
      for (const Parameter &p : stage->parameters)
        use(p.address, (p.shard && p.shard->storage ? p.stateElements(program.grid) : p.elements) *
                           typeSize(p.type));
      stage->sums = address(root, field::sums, 2 * sizeof(double));
      for (size_t i = 0; i < used.size(); ++i) {
        auto need = stage->arenas[i].needs.find(name);
        if (used[i] >= 0 && (need == stage->arenas[i].needs.end() || need->second < used[i]))
          wrong(root.place(field::arenas) + "[" + std::to_string(i) + "]." + field::bytes + "." +
                    name,
                "at least the " + std::to_string(used[i]) + " that the program uses",
                need == stage->arenas[i].needs.end() ? "nothing" : std::to_string(need->second));
      }
    }
    std::vector<bool> ofGraphs(stage->inputs.size());
    for (const auto &[name, graph] : stage->graphs)
      for (size_t input : graph.inputs)
        ofGraphs[input] = true;
    for (size_t input = 0; input < ofGraphs.size(); ++input)
      if (!ofGraphs[input])
        stage->entryInputs.push_back(input);
  }

  // An address with `bytes` bytes of its arena, or of its frame of `graph`
  // (null: there are no frames), behind it.
  Address address(const json &value, const std::string &where, int64_t bytes,
                  const Graph *graph) const {
    if (!value.is_array() || value.size() != 2 || !value[0].is_number_integer() ||
        !value[1].is_number_integer())
      wrong(where, "[arena, byte offset]", value.dump());
    Address result = {value[0].get<int64_t>(), value[1].get<int64_t>()};
    bool isFrame = result.arena < 0;
    int64_t index = isFrame ? -1 - result.arena : result.arena;
    int64_t arenas = stage->arenas.size(), frames = graph ? graph->frames.size() : 0;
    if (index >= (isFrame ? frames : arenas))
      wrong(where,
            "one of " + std::to_string(arenas) + " arenas" +
                (frames ? " or " + std::to_string(frames) + " frames" : ""),
            value.dump());
    int64_t size = isFrame ? graph->frames[index].bytes : stage->arenas[index].bytes;
    if (result.offset < 0 || bytes > size || result.offset > size - bytes)
      wrong(where,
            std::to_string(bytes) + " bytes within the " + std::to_string(size) + " of " +
                (isFrame ? "frame " + graph->frames[index].name
                         : "arena " + stage->arenas[index].name),
            value.dump());
    if (!isFrame)
      use(result, bytes);
    return result;
  }

  // Notes that what is read uses `bytes` bytes at `address`, which is in no frame.
  void use(Address address, int64_t bytes) const {
    used.resize(stage->arenas.size(), -1);
    used[address.arena] = std::max(used[address.arena], address.offset + bytes);
  }

  Address address(const Reader &r, const std::string &field, int64_t bytes,
                  const Graph *graph = nullptr) const {
    return address(r.at(field), r.place(field), bytes, graph);
  }

  // The members that inputs and outputs have in common.
  void readBuffer(const Reader &r, Buffer &to, const Graph *graph) const {
    to.type = r.type(field::type);
    to.shape = r.integers(field::shape);
    to.split = split(r, to.shape.size());
    to.address = address(r, field::address, to.elements() * typeSize(to.type), graph);
  }

  void readInput(const Reader &r) {
    Input input;
    input.name = r.text(field::name);
    readBuffer(r, input, nullptr);
    if (r.has(field::images)) {
      Reader images(r.at(field::images), r.place(field::images));
      input.images = {axes(images.at(field::axes), images.place(field::axes)),
                      images.integer(field::group, 1)};
    }
    stage->inputs.push_back(std::move(input));
  }

  void readParameter(const Reader &r) {
    Parameter p;
    p.name = r.text(field::name);
    p.checkpointKey = r.text(field::checkpointKey);
    p.checkpointShape = r.integers(field::checkpointShape);
    int64_t rows = p.checkpointShape.empty() ? 1 : p.checkpointShape[0];
    p.rowBegin = r.integer(field::rowBegin, 0);
    p.rowEnd = r.integer(field::rowEnd, p.rowBegin);
    if (p.rowEnd > rows)
      wrong(r.place(field::rowEnd), "at most " + std::to_string(rows), std::to_string(p.rowEnd));
    p.shape = r.integers(field::shape);
    if (int64_t want = (p.rowEnd - p.rowBegin) * p.rowElements(); p.wholeElements() != want) {
      p.inFiles = p.checkpointShape;
      if (!p.inFiles.empty())
        p.inFiles[0] = p.rowEnd - p.rowBegin;
      bool holds = p.inFiles.size() == 2 && p.shape.size() == 2;
      for (size_t d = 0; holds && d < 2; ++d)
        holds = p.inFiles[d] <= p.shape[d];
      if (!holds)
        wrong(r.place(field::shape), std::to_string(want) + " elements", r.at(field::shape).dump());
    }
    p.split = split(r, p.shape.size());
    int64_t parts = 1;
    for (size_t dimension = 0; dimension < p.split.size(); ++dimension) {
      int64_t size = program.grid.size(p.split[dimension]);
      if (p.shape[dimension] % size)
        wrong(r.place(field::split),
              "a divisor of dimension " + std::to_string(dimension) + ", " +
                  std::to_string(p.shape[dimension]),
              std::to_string(size) + " parts");
      parts *= size;
    }
    p.elements = r.integer(field::elements, 0);
    if (p.elements != product(p.shape) / parts)
      wrong(r.place(field::elements), std::to_string(product(p.shape) / parts),
            std::to_string(p.elements));
    p.type = r.type(field::type);
    p.trainable = r.boolean(field::trainable);
    p.initializer = initializer(r);
    // Elements of the state, and of the weights, at their addresses.
    if (r.has(field::shard))
      p.shard = shard(Reader(r.at(field::shard), r.place(field::shard)), p.elements);
    int64_t stateElements = p.stateElements(program.grid);
    int64_t weightElements = p.shard && p.shard->storage ? stateElements : p.elements;
    p.address = address(r, field::address, weightElements * typeSize(p.type));
    if (p.trainable) {
      int64_t bytes = stateElements * typeSize(program.masterType());
      p.master = address(r, field::master, bytes);
      p.gradientType = r.type(field::gradientType);
      p.gradient = address(r, field::gradient, stateElements * typeSize(p.gradientType));
      p.moment1 = address(r, field::moment1, bytes);
      p.moment2 = address(r, field::moment2, bytes);
    }
    stage->parameters.push_back(std::move(p));
  }

  Parameter::Shard shard(const Reader &r, int64_t elements) const {
    Parameter::Shard result = {axis(r.at(field::axis), r.place(field::axis)),
                               r.integer(field::begin, 0), r.integer(field::elements, 0),
                               r.boolean(field::storage)};
    if (elements > result.elements || result.begin > result.elements - elements)
      wrong(r.place(field::begin),
            std::to_string(elements) + " elements within the unit of " +
                std::to_string(result.elements),
            std::to_string(result.begin));
    if (int64_t parts = program.grid.axes[result.axis].size; result.elements % parts)
      wrong(r.place(field::elements), "a multiple of " + std::to_string(parts),
            std::to_string(result.elements));
    return result;
  }

  static Initializer initializer(const Reader &r) {
    std::string name = r.text(field::initializer), words;
    for (size_t i = 0; i < std::size(initializerWords); ++i) {
      if (name == initializerWords[i])
        return Initializer(i);
      words += std::string(i ? ", " : "") + initializerWords[i];
    }
    wrong(r.place(field::initializer), "one of " + words, name);
  }

  Call call(const Reader &r, const Graph *graph) const {
    Call result = {r.text(field::block), nullptr, {}};
    auto found = blocks.find(result.name);
    if (found == blocks.end())
      wrong(r.place(field::block), "a block of this executable", result.name);
    result.block = found->second;
    for (const json &value : r.array(field::buffers))
      result.buffers.push_back(address(value, r.place(field::buffers), 0, graph));
    return result;
  }

  void readGraph(const std::string &name, const Reader &r) {
    Graph &graph = stage->graphs[name];
    used.assign(stage->arenas.size(), -1);
    r.each(field::frames, [&](const Reader &f) {
      graph.frames.push_back({f.text(field::name), f.integer(field::bytes, 0)});
    });
    for (const json &input : r.array(field::inputs)) {
      auto found = std::find_if(stage->inputs.begin(), stage->inputs.end(),
                                [&](const Input &known) { return json(known.name) == input; });
      if (found == stage->inputs.end())
        wrong(r.place(field::inputs), "the name of an input", input.dump());
      graph.inputs.push_back(found - stage->inputs.begin());
      use(found->address, found->elements() * typeSize(found->type));
    }
    r.each(field::items,
           [&](const Reader &item) { graph.items.push_back(action(item, graph.items, &graph)); });
    for (const auto &[output, value] : r.members(field::outputs).items()) {
      Reader member(value, r.place("outputs." + output));
      Output &to = graph.outputs[output];
      to.name = output;
      readBuffer(member, to, nullptr);
      to.partial = axes(member, field::partial);
      if (output == known::loss && (to.type != program.masterType() || to.elements() != 1))
        wrong(member.place(field::type),
              std::string("one element of ") + typeName(program.masterType()), typeName(to.type));
    }
    usedBy[name] = used;
  }

  // The action `r`, which comes after `earlier`: an item of `graph`, or an
  // entry of a program (null).
  Action action(const Reader &r, const std::vector<Action> &earlier, const Graph *graph) const {
    Action result;
    result.kind = actionKind(r, graph);
    result.stream = r.has(field::stream) ? r.integer(field::stream, 0) : 0;
    if (r.has(field::location)) {
      size_t location = r.integer(field::location, 0);
      if (location >= locations.size())
        wrong(r.place(field::location), "less than " + std::to_string(locations.size()),
              std::to_string(location));
      result.location = locations[location];
    }
    if (r.has(field::after))
      result.after = r.integers(field::after);
    for (int64_t index : result.after)
      if (index >= int64_t(earlier.size()))
        wrong(r.place(field::after), "indices of earlier actions", std::to_string(index));
    switch (actionInfo(result.kind).members) {
    case ActionMembers::None:
      break;
    case ActionMembers::Call:
      result.call = call(r, graph);
      if (r.has(field::microBatch))
        result.microBatch = microBatch(r, program.microBatches);
      break;
    case ActionMembers::Collective:
    case ActionMembers::Transfer:
      readCommunication(r, graph, result);
      break;
    case ActionMembers::Memory:
      result.bytes = r.integer(field::bytes, 0);
      result.to = address(r, field::at, result.bytes, graph);
      break;
    case ActionMembers::Run:
      readRun(r, result);
      break;
    }
    return result;
  }

  static Action::Kind actionKind(const Reader &r, const Graph *graph) {
    std::string word = r.text(field::action), known;
    for (const ActionInfo &info : allActions) {
      if (graph && info.where == ActionInfo::Entry)
        continue;
      if (word == info.word)
        return info.kind;
      known += (known.empty() ? "" : ", ") + std::string(info.word);
    }
    wrong(r.place(field::action), "one of " + known, word);
  }

  void readCommunication(const Reader &r, const Graph *graph, Action &to) const {
    using Kind = Action::Kind;
    to.communicator = r.integer(field::communicator, 0);
    if (to.communicator >= program.communicators.size())
      wrong(r.place(field::communicator),
            "less than " + std::to_string(program.communicators.size()),
            std::to_string(to.communicator));
    const Communicator &communicator = program.communicators[to.communicator];
    std::vector<int64_t> members = communicator.members(program.grid, stageRank());
    bool transfers = to.kind == Kind::Send || to.kind == Kind::Receive;
    if (members.empty() || (transfers && members.size() != 2))
      wrong(r.place(field::communicator),
            transfers ? "one of two ranks of which this stage is one"
                      : "one of which this stage is a member",
            communicator.name);
    to.type = to.toType = r.type(field::type);
    to.elements = r.integer(field::elements, 0);
    if (transfers) {
      int64_t bytes = to.elements * typeSize(to.type);
      (to.kind == Kind::Send ? to.from : to.to) = address(r, field::at, bytes, graph);
      std::vector<int64_t> tag = r.integers(field::tag);
      if (tag.size() != to.tag.size())
        wrong(r.place(field::tag), "[stage, chunk, micro-batch, value]", r.at(field::tag).dump());
      std::copy(tag.begin(), tag.end(), to.tag.begin());
      return;
    }
    to.outer = r.has(field::outer) ? r.integer(field::outer, 0) : 1;
    int64_t count = members.size(), part = to.outer * to.elements;
    bool reduces = to.kind == Kind::AllReduce || to.kind == Kind::ReduceScatter;
    if (reduces) {
      if (to.type == LLRT_I64)
        wrong(r.place(field::type), "one of f32, bf16, f64", "i64");
      if (r.has(field::toType))
        to.toType = r.type(field::toType);
      if (to.toType == LLRT_I64)
        wrong(r.place(field::toType), "one of f32, bf16, f64", "i64");
      std::string word = r.has(field::reduction) ? r.text(field::reduction) : known::sum;
      if (word != known::sum && word != known::max)
        wrong(r.place(field::reduction), "sum or max", word);
      to.reduction = word == known::sum ? Action::Reduction::Sum : Action::Reduction::Max;
      if (r.has(field::accumulate) && to.kind == Kind::AllReduce)
        wrong(r.place(field::accumulate), "nothing for an all_reduce",
              r.at(field::accumulate).dump());
      to.accumulate = r.has(field::accumulate) && r.boolean(field::accumulate);
    }
    bool splits = to.kind == Kind::ReduceScatter || to.kind == Kind::Slice;
    to.from = address(r, field::from, (splits ? count : 1) * part * typeSize(to.type), graph);
    to.to = address(r, field::to,
                    (to.kind == Kind::AllGather ? count : 1) * part * typeSize(to.toType), graph);
    const int64_t slots = collectiveSlots(actionName(to.kind), count, to.outer);
    if (slots == 0 || part == 0 || !r.has(field::scratchBytes))
      return;
    // A slot of its least size holds any element.
    to.scratchBytes = r.integer(field::scratchBytes, 0);
    if (to.scratchBytes < slots * collectiveAlignment)
      wrong(r.place(field::scratchBytes),
            "at least " + std::to_string(slots * collectiveAlignment) + ", for the parts of others",
            std::to_string(to.scratchBytes));
    to.scratch = address(r, field::scratch, to.scratchBytes, graph);
  }

  // The number of a micro-batch, or group, less than `count`.
  static int64_t microBatch(const Reader &r, int64_t count) {
    int64_t number = r.integer(field::microBatch, 0);
    if (number >= count)
      wrong(r.place(field::microBatch), "less than " + std::to_string(count),
            std::to_string(number));
    return number;
  }

  void readRun(const Reader &r, Action &to) const {
    to.graph = r.text(field::graph);
    auto found = stage->graphs.find(to.graph);
    if (found == stage->graphs.end())
      wrong(r.place(field::graph), "a graph of this program", to.graph);
    const Graph &graph = found->second;
    for (size_t arena = 0; arena < stage->arenas.size(); ++arena)
      used[arena] = std::max(used[arena], usedBy.at(to.graph)[arena]);
    int64_t least = program.microBatches; // groups, for an encoder's graph
    for (size_t input : graph.inputs)
      if (const auto &images = stage->inputs[input].images)
        least = std::min(least, (program.microBatches + images->group - 1) / images->group);
    to.microBatch = microBatch(r, least);
    const json &frames = r.array(field::frames);
    if (frames.size() != graph.frames.size())
      wrong(r.place(field::frames), std::to_string(graph.frames.size()) + " addresses",
            std::to_string(frames.size()));
    for (size_t i = 0; i < frames.size(); ++i)
      to.frames.push_back(
          address(frames[i], r.place(field::frames), graph.frames[i].bytes, nullptr));
  }

  // A rank of the stage that is read.
  int64_t stageRank() const {
    std::optional<size_t> pp = program.grid.find("pp");
    return pp ? program.grid.moved(0, {*pp}, program.stages.size() - 1) : 0;
  }

  Stage *stage = nullptr; // the one that is read
  // Of each of its arenas the end of what the graph or program that is read is known to use
  // (of a block's buffers the size is not known), -1: nothing; and of its graphs.
  mutable std::vector<int64_t> used;
  std::map<std::string, std::vector<int64_t>> usedBy;
  std::unordered_map<std::string, LlrtBlock> blocks;
  std::vector<std::string> locations;
  Program program;
};

} // namespace

Program Program::parse(const LlrtProgram &compiled) {
  json text;
  try {
    text = json::parse(std::string_view(compiled.text, compiled.text_bytes));
  } catch (const json::exception &error) {
    fail("the program in this executable is not JSON: ", error.what());
  }
  return Parser(compiled).parse(text);
}

int64_t Program::communicatorBytes(size_t stage) const {
  int64_t bytes = 0;
  for (const Communicator &each : communicators)
    if (!each.edge || each.edge->first == int64_t(stage) || each.edge->second == int64_t(stage))
      bytes += each.bytes;
  return bytes;
}

int64_t Program::heldMultiprocessors() const {
  int64_t held = 0;
  if (const auto programs = certificate.find(field::programs); programs != certificate.end())
    for (const auto &[name, facts] : programs->items())
      held = std::max(held, facts.value(field::held, int64_t(0)));
  return held;
}

std::vector<std::optional<int64_t>> Stage::memoryOf(const std::vector<std::string> &runs) const {
  std::vector<std::optional<int64_t>> bytes(arenas.size());
  for (size_t i = 0; i < arenas.size(); ++i)
    for (const std::string &name : runs)
      if (auto need = arenas[i].needs.find(name); need != arenas[i].needs.end())
        bytes[i] = std::max(bytes[i].value_or(0), need->second);
  return bytes;
}

ArenaSizes llrt::memoryOf(const Program &program, size_t stage,
                          const std::vector<std::string> &runs) {
  const Stage &of = program.stages[stage];
  ArenaSizes sizes;
  std::vector<std::optional<int64_t>> bytes = of.memoryOf(runs);
  for (size_t i = 0; i < bytes.size(); ++i)
    if (bytes[i])
      sizes.emplace_back(of.arenas[i].name, *bytes[i]);
  if (of.productBytes)
    sizes.emplace_back(productMemory, of.productBytes);
  if (int64_t all = program.communicatorBytes(stage))
    sizes.emplace_back(communicatorMemory, all);
  return sizes;
}

std::vector<std::string> llrt::missingCpuFeatures(const char *const *features) {
  // `__builtin_cpu_supports` takes literals only.
  using Test = bool (*)();
#define LLRT_CPU_TEST(NAME)                                                                        \
  {                                                                                                \
    NAME, [] { return bool(__builtin_cpu_supports(NAME)); }                                        \
  }
  static const std::pair<std::string_view, Test> tests[] = {
      LLRT_CPU_TEST("sse3"),         LLRT_CPU_TEST("ssse3"),
      LLRT_CPU_TEST("sse4.1"),       LLRT_CPU_TEST("sse4.2"),
      LLRT_CPU_TEST("popcnt"),       LLRT_CPU_TEST("aes"),
      LLRT_CPU_TEST("avx"),          LLRT_CPU_TEST("avx2"),
      LLRT_CPU_TEST("bmi"),          LLRT_CPU_TEST("bmi2"),
      LLRT_CPU_TEST("f16c"),         LLRT_CPU_TEST("fma"),
      LLRT_CPU_TEST("lzcnt"),        LLRT_CPU_TEST("movbe"),
      LLRT_CPU_TEST("gfni"),         LLRT_CPU_TEST("vpclmulqdq"),
      LLRT_CPU_TEST("vaes"),         LLRT_CPU_TEST("avx512f"),
      LLRT_CPU_TEST("avx512vl"),     LLRT_CPU_TEST("avx512bw"),
      LLRT_CPU_TEST("avx512dq"),     LLRT_CPU_TEST("avx512cd"),
      LLRT_CPU_TEST("avx512vbmi"),   LLRT_CPU_TEST("avx512ifma"),
      LLRT_CPU_TEST("avx512vbmi2"),  LLRT_CPU_TEST("avx512vnni"),
      LLRT_CPU_TEST("avx512bitalg"), LLRT_CPU_TEST("avx512vpopcntdq"),
      LLRT_CPU_TEST("avx512bf16"),   LLRT_CPU_TEST("avx512fp16"),
      LLRT_CPU_TEST("avxvnni"),      LLRT_CPU_TEST("amx-tile"),
      LLRT_CPU_TEST("amx-int8"),     LLRT_CPU_TEST("amx-bf16"),
  };
#undef LLRT_CPU_TEST
  __builtin_cpu_init();
  std::vector<std::string> missing;
  for (; features && *features; ++features)
    for (const auto &[name, present] : tests)
      if (name == *features && !present())
        missing.push_back(*features);
  return missing;
}
