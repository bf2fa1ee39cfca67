//===- Program.cpp - The program of an executable, parsed -----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Machine/Program.h"

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
  return std::accumulate(shape.begin() + std::min(from, shape.size()),
                         shape.end(), int64_t(1), std::multiplies<>());
}

int64_t Buffer::elements() const { return product(shape); }

int64_t Parameter::rowElements() const { return product(checkpointShape, 1); }

LlrtType Program::masterType() const {
  return precision == "f64" ? LLRT_F64 : LLRT_F32;
}

const Buffer *Program::findInput(const std::string &name) const {
  for (const Buffer &input : inputs)
    if (input.name == name)
      return &input;
  return nullptr;
}

namespace {

[[noreturn]] void wrong(const std::string &field, const std::string &expected,
                        const std::string &got) {
  fail("the program in this executable: field '", field, "': expected ",
       expected, ", got ", got);
}

// Reads one JSON object; `where` is its place in the text, for messages.
class Reader {
public:
  Reader(const json &object, std::string where)
      : object(object), where(std::move(where)) {
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
      wrong(place(field), "an integer of at least " + std::to_string(least),
            value.dump());
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
  template <typename Visit>
  void each(const std::string &field, Visit visit) const {
    int64_t index = 0;
    for (const json &element : array(field))
      visit(
          Reader(element, place(field) + "[" + std::to_string(index++) + "]"));
  }

private:
  const json &object;
  std::string where;
};

class Parser {
public:
  explicit Parser(const LlrtProgram &compiled) {
    for (uint64_t i = 0; i < compiled.block_count; ++i)
      blocks.emplace(compiled.block_names[i], compiled.blocks[i]);
  }

  Program parse(const json &text) {
    Reader root(text, "");
    if (root.integer("version", 0) != 1)
      wrong("version", "1", root.at("version").dump());
    readOptions(root);
    readModel(Reader(root.members("model"), "model"));
    Reader operations(root.members("operations"), "operations");
    program.forwardOperations = operations.number("forward");
    program.stepOperations = operations.number("step");
    root.each("arenas", [&](const Reader &arena) {
      program.arenas.push_back({arena.text("name"), arena.integer("bytes", 0)});
    });
    root.each("parameters", [&](const Reader &r) { readParameter(r); });
    root.each("inputs", [&](const Reader &r) {
      program.inputs.push_back(buffer(r, r.text("name")));
    });
    for (const auto &[name, graph] : root.members("graphs").items())
      readGraph(name, Reader(graph, "graphs." + name));
    Reader programs(root.members("programs"), "programs");
    for (const auto &[name, actions] : root.members("programs").items())
      programs.each(name, [&, &name = name](const Reader &r) {
        program.programs[name].push_back(action(r));
      });
    for (const char *name : {"step", "forward"})
      if (!program.programs.count(name))
        wrong(programs.place(name), "a program", "nothing");
    return std::move(program);
  }

private:
  void readOptions(const Reader &root) {
    Reader options(root.members("options"), "options");
    program.options = root.at("options");
    program.batch = options.integer("batch", 1);
    program.textLength = options.integer("text_length", 1);
    program.images = options.integer("images", 0);
    program.microBatches = options.integer("micro_batches", 1);
    program.precision = options.text("precision");
  }

  void readModel(const Reader &model) {
    Program::Model &m = program.model;
    m.type = model.text("model_type");
    m.hash = model.text("hash");
    m.vocabulary = model.integer("vocabulary", 1);
    m.extraRows = model.integer("extra_rows", 0);
    m.beginToken = model.integer("begin_token", 0);
    m.padToken = model.integer("pad_token", 0);
    m.endTokens = model.integers("end_tokens");
    m.initializerRange = model.number("initializer_range");
    bool images = program.images > 0;
    m.imageToken = images ? model.integer("image_token", 0) : -1;
    m.tileSize = images ? model.integer("tile_size", 1) : 0;
    m.tiles = images ? model.integer("tiles", 1) : 0;
  }

  // An address with `bytes` bytes of its arena behind it.
  Address address(const json &value, const std::string &where, int64_t bytes) {
    if (!value.is_array() || value.size() != 2 ||
        !value[0].is_number_integer() || !value[1].is_number_integer())
      wrong(where, "[arena, byte offset]", value.dump());
    Address result = {value[0].get<int64_t>(), value[1].get<int64_t>()};
    if (result.arena < 0 || result.arena >= int64_t(program.arenas.size()))
      wrong(where,
            "one of " + std::to_string(program.arenas.size()) + " arenas",
            value.dump());
    const Arena &arena = program.arenas[result.arena];
    if (result.offset < 0 || bytes > arena.bytes ||
        result.offset > arena.bytes - bytes)
      wrong(where,
            std::to_string(bytes) + " bytes within the " +
                std::to_string(arena.bytes) + " of arena " + arena.name,
            value.dump());
    return result;
  }

  Address address(const Reader &r, const std::string &field, int64_t bytes) {
    return address(r.at(field), r.place(field), bytes);
  }

  Buffer buffer(const Reader &r, const std::string &name) {
    Buffer result = {name, r.type("type"), r.integers("shape"), {}};
    result.address =
        address(r, "address", result.elements() * typeSize(result.type));
    return result;
  }

  void readParameter(const Reader &r) {
    Parameter p;
    p.name = r.text("name");
    p.checkpointKey = r.text("checkpoint_key");
    p.checkpointShape = r.integers("checkpoint_shape");
    int64_t rows = p.checkpointShape.empty() ? 1 : p.checkpointShape[0];
    p.rowBegin = r.integer("row_begin", 0);
    p.rowEnd = r.integer("row_end", p.rowBegin);
    if (p.rowEnd > rows)
      wrong(r.place("row_end"), "at most " + std::to_string(rows),
            std::to_string(p.rowEnd));
    p.elements = r.integer("elements", 0);
    if (int64_t want = (p.rowEnd - p.rowBegin) * p.rowElements();
        p.elements != want)
      wrong(r.place("elements"), std::to_string(want),
            std::to_string(p.elements));
    p.type = r.type("type");
    p.trainable = r.boolean("trainable");
    p.initializer = initializer(r);
    p.address = address(r, "address", p.elements * typeSize(p.type));
    if (p.trainable) {
      int64_t bytes = p.elements * typeSize(program.masterType());
      p.master = address(r, "master", bytes);
      p.gradientType = r.type("gradient_type");
      p.gradient = address(r, "gradient", p.elements * typeSize(p.gradientType));
      p.moment1 = address(r, "moment1", bytes);
      p.moment2 = address(r, "moment2", bytes);
    }
    program.parameters.push_back(std::move(p));
  }

  static Parameter::Initializer initializer(const Reader &r) {
    std::string name = r.text("initializer");
    if (name == "normal")
      return Parameter::Initializer::Normal;
    if (name == "ones")
      return Parameter::Initializer::Ones;
    if (name == "zeros")
      return Parameter::Initializer::Zeros;
    if (name == "gate")
      return Parameter::Initializer::Gate;
    wrong(r.place("initializer"), "one of normal, ones, zeros, gate", name);
  }

  Call call(const Reader &r) {
    Call result = {r.text("block"), nullptr, {}};
    auto found = blocks.find(result.name);
    if (found == blocks.end())
      wrong(r.place("block"), "a block of this executable", result.name);
    result.block = found->second;
    for (const json &value : r.array("buffers"))
      result.buffers.push_back(address(value, r.place("buffers"), 0));
    return result;
  }

  void readGraph(const std::string &name, const Reader &r) {
    Graph &graph = program.graphs[name];
    r.each("calls", [&](const Reader &c) { graph.calls.push_back(call(c)); });
    for (const auto &[output, value] : r.members("outputs").items())
      graph.outputs.emplace(
          output, buffer(Reader(value, r.place("outputs." + output)), output));
    if (!graph.outputs.count("loss"))
      wrong(r.place("outputs.loss"), "an output", "nothing");
  }

  Action action(const Reader &r) {
    Action result;
    std::string kind = r.text("action");
    int64_t size = typeSize(program.masterType());
    if (kind == "run") {
      result.kind = Action::Kind::Run;
      result.graph = r.text("graph");
      if (!program.graphs.count(result.graph))
        wrong(r.place("graph"), "a graph of this program", result.graph);
      result.microBatch = r.integer("micro_batch", 0);
      if (result.microBatch >= program.microBatches)
        wrong(r.place("micro_batch"),
              "less than " + std::to_string(program.microBatches),
              std::to_string(result.microBatch));
    } else if (kind == "gradient_norm") {
      result.kind = Action::Kind::GradientNorm;
      result.call = call(r);
      result.address = address(r, "result", size);
    } else if (kind == "update") {
      result.kind = Action::Kind::Update;
      result.call = call(r);
      result.address = address(r, "hyperparameters", 8 * size);
    } else {
      wrong(r.place("action"), "one of run, gradient_norm, update", kind);
    }
    return result;
  }

  std::unordered_map<std::string, LlrtBlock> blocks;
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

std::vector<std::string> llrt::missingCpuFeatures(const char *const *features) {
  // `__builtin_cpu_supports` takes literals only.
  using Test = bool (*)();
#define LLRT_CPU_TEST(NAME)                                                    \
  {                                                                            \
    NAME, [] { return bool(__builtin_cpu_supports(NAME)); }                    \
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
