//===- OneDnn.cpp - Matrix products by oneDNN, loaded when first used -----===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "OneDnn.h"

#include "Scratch.h"
#include "llrt/Kernels.h"

#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <dnnl.h>
#include <map>
#include <string>
#include <vector>

extern "C" int omp_get_max_threads(void);
extern "C" void omp_set_num_threads(int count);

using namespace llrt;

void llrt::stopProcess(const char *what, const char *message) {
  fflush(stdout);
  fprintf(stderr, "llrt: error: %s: %s\n", what, message);
  _Exit(1); // other threads may be at work: no destructors
}

// The functions of oneDNN that are used, without their prefix `dnnl_`.
#define ONEDNN_FUNCTIONS(X)                                                                        \
  X(engine_create)                                                                                 \
  X(stream_create)                                                                                 \
  X(stream_destroy)                                                                                \
  X(memory_desc_init_by_strides)                                                                   \
  X(memory_desc_get_size)                                                                          \
  X(memory_create)                                                                                 \
  X(memory_destroy)                                                                                \
  X(memory_set_data_handle)                                                                        \
  X(matmul_desc_init)                                                                              \
  X(post_ops_create)                                                                               \
  X(post_ops_append_sum)                                                                           \
  X(post_ops_destroy)                                                                              \
  X(primitive_attr_create)                                                                         \
  X(primitive_attr_set_post_ops)                                                                   \
  X(primitive_attr_set_scratchpad_mode)                                                            \
  X(primitive_attr_destroy)                                                                        \
  X(primitive_desc_create)                                                                         \
  X(primitive_desc_query_md)                                                                       \
  X(primitive_desc_destroy)                                                                        \
  X(primitive_create)                                                                              \
  X(primitive_execute)                                                                             \
  X(primitive_destroy)                                                                             \
  X(get_effective_cpu_isa)

namespace {
struct Library {
#define X(name) decltype(&dnnl_##name) name = nullptr;
  ONEDNN_FUNCTIONS(X)
#undef X
  dnnl_engine_t engine = nullptr;
  int isa = 0;
  std::string error;

  Library() {
    const char *package = " (Debian package libdnnl2)";
    void *handle = dlopen("libdnnl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
      error = std::string("cannot load oneDNN 2: ") + dlerror() + package;
      return;
    }
#define X(function)                                                                                \
  function = reinterpret_cast<decltype(function)>(dlsym(handle, "dnnl_" #function));               \
  if (!function)                                                                                   \
    error = "libdnnl.so.2 has no function dnnl_" #function;
    ONEDNN_FUNCTIONS(X)
#undef X
    if (error.empty() && engine_create(&engine, dnnl_cpu, 0) != dnnl_success)
      error = "oneDNN cannot use this CPU";
    if (error.empty())
      isa = get_effective_cpu_isa();
    else
      error += package;
  }
};
} // namespace

static const Library &tryLibrary() {
  static const Library *library = new Library; // lives as long as any thread
  return *library;
}

static const Library &library() {
  const Library &result = tryLibrary();
  if (!result.error.empty())
    stopProcess("host kernels", result.error.c_str());
  return result;
}

static void check(dnnl_status_t status, const char *what) {
  if (status != dnnl_success)
    stopProcess(what, ("oneDNN status " + std::to_string(status)).c_str());
}

const char *llrt::oneDnnError() {
  const std::string &error = tryLibrary().error;
  return error.empty() ? nullptr : error.c_str();
}

// The constants of dnnl_cpu_isa_t are sets of bits: a larger set includes all
// instructions of the smaller ones.
static bool hasIsa(int isa) { return (library().isa & isa) == isa; }

CpuLevel llrt::cpuLevel() {
  if (hasIsa(dnnl_cpu_isa_avx512_core_bf16))
    return CpuLevel::Avx512Bf16;
  if (hasIsa(dnnl_cpu_isa_avx512_core))
    return CpuLevel::Avx512;
  return hasIsa(dnnl_cpu_isa_avx2) ? CpuLevel::Avx2 : CpuLevel::Baseline;
}

bool llrt::hasBf16Matmul() { return cpuLevel() == CpuLevel::Avx512Bf16; }

namespace {
// What a thread keeps: its stream, its plans, oneDNN's working memory.
struct ThreadState {
  dnnl_stream_t stream = nullptr;
  std::map<Matmul, MatmulPlan> plans;
  std::vector<dnnl_memory_t> memories;
  std::vector<dnnl_primitive_t> primitives;
  Scratch scratchpad;

  ThreadState() {
    check(library().stream_create(&stream, library().engine, dnnl_stream_default_flags),
          "dnnl_stream_create");
  }
  ~ThreadState() {
    for (dnnl_memory_t memory : memories)
      library().memory_destroy(memory);
    for (dnnl_primitive_t primitive : primitives)
      library().primitive_destroy(primitive);
    library().stream_destroy(stream);
  }
};
} // namespace

static ThreadState &threadState() {
  static thread_local ThreadState state;
  return state;
}

static dnnl_memory_desc_t matrix(int64_t type, int64_t rows, int64_t columns, int64_t rowStride,
                                 int64_t columnStride) {
  dnnl_dims_t dims = {rows, columns}, strides = {rowStride, columnStride};
  dnnl_memory_desc_t result;
  check(library().memory_desc_init_by_strides(&result, 2, dims,
                                              type == LLRT_BF16 ? dnnl_bf16 : dnnl_f32, strides),
        "dnnl_memory_desc_init_by_strides");
  return result;
}

// oneDNN reads OpenMP's count for the calling thread, most implementations when
// a primitive is made, some (f32 below AVX-512) again at each run.
static void useOneThread() {
  if (omp_get_max_threads() != 1)
    omp_set_num_threads(1);
}

MatmulPlan *llrt::findMatmul(const Matmul &matmul) {
  ThreadState &state = threadState();
  auto [position, isNew] = state.plans.try_emplace(matmul);
  MatmulPlan &plan = position->second;
  if (!isNew)
    return &plan;

  const Library &dnnl = library();
  const Matmul &d = matmul;
  dnnl_memory_desc_t a = matrix(d.type, d.m, d.k, d.aRow, d.aColumn);
  dnnl_memory_desc_t b = matrix(d.type, d.k, d.n, d.bRow, d.bColumn);
  dnnl_memory_desc_t bias = matrix(d.type, 1, d.n, d.n, 1);
  dnnl_memory_desc_t c = matrix(d.resultType, d.m, d.n, d.cRow, 1);
  dnnl_matmul_desc_t description;
  check(dnnl.matmul_desc_init(&description, &a, &b, d.bias ? &bias : nullptr, &c),
        "dnnl_matmul_desc_init");

  // Working memory is ours: oneDNN's own belongs to the creating thread.
  dnnl_primitive_attr_t attributes;
  dnnl_post_ops_t postOps;
  check(dnnl.primitive_attr_create(&attributes), "dnnl_primitive_attr_create");
  check(dnnl.post_ops_create(&postOps), "dnnl_post_ops_create");
  if (d.accumulate)
    check(dnnl.post_ops_append_sum(postOps, 1.f), "dnnl_post_ops_append_sum");
  check(dnnl.primitive_attr_set_post_ops(attributes, postOps), "dnnl_primitive_attr_set_post_ops");
  check(dnnl.primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user),
        "dnnl_primitive_attr_set_scratchpad_mode");

  useOneThread();
  dnnl_primitive_desc_t compiled;
  check(dnnl.primitive_desc_create(&compiled, &description, attributes, dnnl.engine, nullptr),
        "dnnl_primitive_desc_create");
  dnnl_primitive_t primitive;
  check(dnnl.primitive_create(&primitive, compiled), "dnnl_primitive_create");
  state.primitives.push_back(primitive);

  auto memory = [&](const dnnl_memory_desc_t *layout) {
    dnnl_memory_t result;
    check(dnnl.memory_create(&result, layout, dnnl.engine, DNNL_MEMORY_NONE), "dnnl_memory_create");
    state.memories.push_back(result);
    return result;
  };
  const dnnl_memory_desc_t *scratchpad =
      dnnl.primitive_desc_query_md(compiled, dnnl_query_scratchpad_md, 0);
  plan.primitive = primitive;
  plan.a = memory(&a);
  plan.b = memory(&b);
  plan.bias = d.bias ? memory(&bias) : nullptr;
  plan.c = memory(&c);
  plan.scratchpad = memory(scratchpad);
  plan.scratchpadBytes = dnnl.memory_desc_get_size(scratchpad);

  dnnl.primitive_desc_destroy(compiled);
  dnnl.post_ops_destroy(postOps);
  dnnl.primitive_attr_destroy(attributes);
  return &plan;
}

void MatmulPlan::run(const void *aData, const void *bData, void *cData,
                     const void *biasData) const {
  const Library &dnnl = library();
  ThreadState &state = threadState();
  useOneThread();
  dnnl_exec_arg_t arguments[5];
  int count = 0;
  auto pass = [&](int name, void *memory, const void *data) {
    auto handle = static_cast<dnnl_memory_t>(memory);
    dnnl.memory_set_data_handle(handle, const_cast<void *>(data));
    arguments[count++] = {name, handle};
  };
  pass(DNNL_ARG_SRC, a, aData);
  pass(DNNL_ARG_WEIGHTS, b, bData);
  pass(DNNL_ARG_DST, c, cData);
  if (bias)
    pass(DNNL_ARG_BIAS, bias, biasData);
  if (scratchpadBytes)
    pass(DNNL_ARG_SCRATCHPAD, scratchpad, state.scratchpad.reserve(scratchpadBytes));
  check(dnnl.primitive_execute(static_cast<dnnl_primitive_t>(primitive), state.stream, count,
                               arguments),
        "dnnl_primitive_execute");
}
