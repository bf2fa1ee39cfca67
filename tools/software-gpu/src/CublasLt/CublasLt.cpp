//===- CublasLt.cpp - The functions of libcublasLt.so.13 ------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "CublasLt/Problem.h"
#include "Cuda/Private.h"
#include "Support/Random.h"
#include "abi/cuda.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <set>

using namespace sgpu;
using namespace sgpu::abi;
using namespace sgpu::cublaslt;

namespace {

/// What a handle points at. Only its address matters.
struct Context {};

struct Handles {
  std::mutex mutex;
  std::set<Context *> alive;
};
Handles &handles() {
  static auto *all = new Handles; // lives longer than any caller
  return *all;
}
bool isHandle(void *handle) {
  std::lock_guard lock(handles().mutex);
  return handles().alive.count(static_cast<Context *>(handle));
}

/// Tells a rule that a call broke. Returns the status.
int tell(const char *call, const Verdict &verdict, uint64_t address = 0,
         Check check = Check::Argument) {
  Report report;
  report.check = check;
  report.message = verdict.why;
  report.place.call = call;
  if (address) {
    report.hasAddress = true;
    report.address = address;
    report.memory = sgpu_describe(address);
  }
  sgpu_report(report);
  return verdict.status;
}

template <typename T> T read(const void *opaque) { return loadAs<T>(opaque); }

int capabilityOf(void *stream) {
  int device = 0;
  if (sgpu_device_of(stream, &device) != 0)
    device = 0; // the library would make the primary context of device 0
  return sgpu_capability(device);
}

template <typename T> int create(void **to, T value, size_t bytes) {
  if (!to)
    return CUBLAS_STATUS_INVALID_VALUE;
  *to = std::calloc(1, bytes);
  if (!*to)
    return CUBLAS_STATUS_ALLOC_FAILED;
  std::memcpy(*to, &value, sizeof value);
  return CUBLAS_STATUS_SUCCESS;
}
template <typename T> int init(void *to, size_t size, T value, size_t bytes) {
  if (size < bytes)
    return CUBLAS_STATUS_ALLOC_FAILED;
  if (!to)
    return CUBLAS_STATUS_INVALID_VALUE;
  std::memset(to, 0, bytes);
  std::memcpy(to, &value, sizeof value);
  return CUBLAS_STATUS_SUCCESS;
}

Layout makeLayout(int32_t type, uint64_t rows, uint64_t cols, int64_t ld) {
  Layout layout;
  layout.type = type, layout.rows = rows, layout.cols = cols, layout.ld = ld;
  return layout;
}
MatmulDesc makeDesc(int32_t compute, int32_t scale) {
  MatmulDesc desc;
  desc.computeType = compute, desc.scaleType = scale;
  return desc;
}
TransformDesc makeTransform(int32_t scale) {
  TransformDesc desc;
  desc.scaleType = scale;
  return desc;
}

/// One operand of a call: name, the pieces that it occupies, whether it is written.
struct Operand {
  std::string name;
  std::vector<Piece> pieces;
  bool written;
};

/// Nothing that is written may share bytes with anything else; C and D may be the same matrix.
Verdict checkOverlaps(const std::vector<Operand> &operands, bool cIsD, uint64_t &at) {
  for (size_t i = 0; i < operands.size(); ++i)
    for (size_t j = i + 1; j < operands.size(); ++j) {
      const Operand &x = operands[i], &y = operands[j];
      if ((!x.written && !y.written) || (cIsD && x.name == "C" && y.name == "D"))
        continue;
      if (auto byte = overlap(x.pieces, y.pieces)) {
        at = *byte;
        std::string hint = x.name == "C" && y.name == "D"
                               ? "; C and D may be the same matrix, or share nothing"
                               : "";
        return invalid(x.name + " and " + y.name + " share bytes" + hint);
      }
    }
  return {};
}

bool dimensionsEqual(const Layout &x, const Layout &y) {
  return x.type == y.type && x.order == y.order && x.ld == y.ld && x.rows == y.rows &&
         x.cols == y.cols && (x.batchCount == 1 || x.batchStride == y.batchStride);
}

/// alpha or beta in host memory, copied: the call may return before the work runs.
struct Scalars {
  double alpha[1] = {}, beta[1] = {}; // bytes of up to 8
};

void addRange(std::vector<sgpu_range> &ranges, const std::vector<Piece> &pieces,
              bool maybe = false) {
  for (const Piece &piece : pieces)
    ranges.push_back({piece.address, piece.bytes, maybe});
}

/// First byte to one past the last.
Piece spanOf(const std::vector<Piece> &pieces) {
  if (pieces.empty())
    return {0, 0};
  return {pieces.front().address,
          pieces.back().address + pieces.back().bytes - pieces.front().address};
}

} // namespace

extern "C" {
#define EXPORT __attribute__((visibility("default")))

EXPORT size_t cublasLtGetVersion() { return cublasLtVersion; }
EXPORT size_t cublasLtGetCudartVersion() { return cublasLtCudartVersion; }

EXPORT const char *cublasLtGetStatusName(int status) {
  switch (status) {
#define NAME(name, value)                                                                          \
  case value:                                                                                      \
    return #name;
    SGPU_CUBLAS_STATUSES(NAME)
#undef NAME
  }
  return "unrecognized status";
}

EXPORT const char *cublasLtGetStatusString(int status) {
  switch (status) {
  case CUBLAS_STATUS_SUCCESS:
    return "success";
  case CUBLAS_STATUS_NOT_INITIALIZED:
    return "the library was not initialized";
  case CUBLAS_STATUS_ALLOC_FAILED:
    return "the resource allocation failed";
  case CUBLAS_STATUS_INVALID_VALUE:
    return "an unsupported value or parameter was passed to the function";
  case CUBLAS_STATUS_ARCH_MISMATCH:
    return "the function requires an architectural feature absent from the device";
  case CUBLAS_STATUS_MAPPING_ERROR:
    return "an access to GPU memory space failed";
  case CUBLAS_STATUS_EXECUTION_FAILED:
    return "the function failed to launch on the GPU";
  case CUBLAS_STATUS_INTERNAL_ERROR:
    return "an internal operation failed";
  case CUBLAS_STATUS_NOT_SUPPORTED:
    return "the requested functionality is not supported";
  case CUBLAS_STATUS_LICENSE_ERROR:
    return "the license check failed";
  }
  return "unrecognized status";
}

EXPORT int cublasLtGetProperty(int type, int *value) {
  if (!value || type < 0 || type > 2)
    return CUBLAS_STATUS_INVALID_VALUE;
  const int parts[] = {int(cublasLtVersion / 10000), int(cublasLtVersion / 100 % 100),
                       int(cublasLtVersion % 100)};
  *value = parts[type];
  return CUBLAS_STATUS_SUCCESS;
}

// There is no cache of heuristics; the number is kept, rounded up to 32 as in the real library.
static std::atomic<size_t> cacheCapacity = 8192;
EXPORT int cublasLtHeuristicsCacheGetCapacity(size_t *capacity) {
  if (!capacity)
    return CUBLAS_STATUS_INVALID_VALUE;
  *capacity = cacheCapacity;
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT int cublasLtHeuristicsCacheSetCapacity(size_t capacity) {
  cacheCapacity = (capacity + 31) / 32 * 32;
  return CUBLAS_STATUS_SUCCESS;
}

// Nothing is logged: what is wrong is reported by the software GPU.
EXPORT int cublasLtLoggerSetCallback(void (*)(int, const char *, const char *)) { return 0; }
EXPORT int cublasLtLoggerSetFile(FILE *) { return 0; }
EXPORT int cublasLtLoggerOpenFile(const char *file) {
  std::FILE *opened = file ? std::fopen(file, "a") : nullptr;
  if (file && !opened)
    return CUBLAS_STATUS_INVALID_VALUE;
  if (opened)
    std::fclose(opened);
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT int cublasLtLoggerSetLevel(int level) {
  return level < 0 || level > 6 ? CUBLAS_STATUS_INVALID_VALUE : CUBLAS_STATUS_SUCCESS;
}
EXPORT int cublasLtLoggerSetMask(int) { return 0; }
EXPORT int cublasLtLoggerForceDisable() { return 0; }

EXPORT int cublasLtCreate(void **handle) {
  if (!handle)
    return CUBLAS_STATUS_INVALID_VALUE;
  // The library of a major version of CUDA does not start with the driver of an earlier one.
  int driver = 0;
  if (cuDriverGetVersion(&driver) != CUDA_SUCCESS || driver < 13000)
    return CUBLAS_STATUS_NOT_INITIALIZED;
  auto *context = new Context;
  std::lock_guard lock(handles().mutex);
  handles().alive.insert(context);
  *handle = context;
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT int cublasLtDestroy(void *handle) {
  if (!handle)
    return CUBLAS_STATUS_INVALID_VALUE;
  std::lock_guard lock(handles().mutex);
  if (!handles().alive.erase(static_cast<Context *>(handle)))
    return tell("cublasLtDestroy", invalid("not a handle, or destroyed before"));
  delete static_cast<Context *>(handle);
  return CUBLAS_STATUS_SUCCESS;
}

#define ATTRIBUTES(prefix, table)                                                                  \
  EXPORT int prefix##SetAttribute(void *object, int attribute, const void *buffer, size_t size) {  \
    return setAttribute(table, object, attribute, buffer, size);                                   \
  }                                                                                                \
  EXPORT int prefix##GetAttribute(const void *object, int attribute, void *buffer, size_t size,    \
                                  size_t *written) {                                               \
    return getAttribute(table, object, attribute, buffer, size, written);                          \
  }
#define DESTROY(prefix)                                                                            \
  EXPORT int prefix##Destroy(void *object) {                                                       \
    std::free(object);                                                                             \
    return CUBLAS_STATUS_SUCCESS;                                                                  \
  }
ATTRIBUTES(cublasLtMatrixLayout, layoutAttributes)
ATTRIBUTES(cublasLtMatmulDesc, descAttributes)
ATTRIBUTES(cublasLtMatrixTransformDesc, transformAttributes)
ATTRIBUTES(cublasLtMatmulPreference, preferenceAttributes)
ATTRIBUTES(cublasLtEmulationDesc, emulationAttributes)
ATTRIBUTES(cublasLtMatmulAlgoConfig, configAttributes)
DESTROY(cublasLtMatrixLayout)
DESTROY(cublasLtMatmulDesc)
DESTROY(cublasLtMatrixTransformDesc)
DESTROY(cublasLtMatmulPreference)
DESTROY(cublasLtEmulationDesc)

EXPORT int cublasLtMatrixLayoutCreate(void **layout, int type, uint64_t rows, uint64_t cols,
                                      int64_t ld) {
  return create(layout, makeLayout(type, rows, cols, ld), layoutBytes);
}
EXPORT int cublasLtMatrixLayoutInit_internal(void *layout, size_t size, int type, uint64_t rows,
                                             uint64_t cols, int64_t ld) {
  return init(layout, size, makeLayout(type, rows, cols, ld), layoutBytes);
}
EXPORT int cublasLtMatmulDescCreate(void **desc, int compute, int scale) {
  return create(desc, makeDesc(compute, scale), descBytes);
}
EXPORT int cublasLtMatmulDescInit_internal(void *desc, size_t size, int compute, int scale) {
  return init(desc, size, makeDesc(compute, scale), descBytes);
}
EXPORT int cublasLtMatrixTransformDescCreate(void **desc, int scale) {
  return create(desc, makeTransform(scale), transformBytes);
}
EXPORT int cublasLtMatrixTransformDescInit_internal(void *desc, size_t size, int scale) {
  return init(desc, size, makeTransform(scale), transformBytes);
}
EXPORT int cublasLtMatmulPreferenceCreate(void **preference) {
  return create(preference, Preference{}, preferenceBytes);
}
EXPORT int cublasLtMatmulPreferenceInit_internal(void *preference, size_t size) {
  return init(preference, size, Preference{}, preferenceBytes);
}
EXPORT int cublasLtEmulationDescCreate(void **desc) {
  return create(desc, EmulationDesc{}, emulationBytes);
}
EXPORT int cublasLtEmulationDescInit_internal(void *desc, size_t size) {
  return init(desc, size, EmulationDesc{}, emulationBytes);
}

EXPORT int cublasLtMatmulAlgoGetHeuristic(void *handle, const void *desc, const void *a,
                                          const void *b, const void *c, const void *d,
                                          const void *preference, int requested,
                                          MatmulHeuristicResult *results, int *returned) {
  if (!isHandle(handle))
    return CUBLAS_STATUS_NOT_INITIALIZED;
  if (!desc || !a || !b || !c || !d || !preference || requested < 1 || !results || !returned)
    return CUBLAS_STATUS_INVALID_VALUE;
  *returned = 0;
  Problem problem;
  Verdict verdict = makeProblem(read<MatmulDesc>(desc), read<Layout>(a), read<Layout>(b),
                                read<Layout>(c), read<Layout>(d), capabilityOf(nullptr), problem);
  if (!verdict)
    return verdict.status;
  auto wanted = read<Preference>(preference);
  std::optional<int32_t> only;
  if (wanted.searchMode == CUBLASLT_SEARCH_LIMITED_BY_ALGO_ID)
    only = read<Algo>(&results[0].algo).id;
  auto found = search(problem, wanted, only);
  *returned = int(std::min<size_t>(found.size(), size_t(requested)));
  std::copy_n(found.begin(), *returned, results);
  return *returned ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

/// Whether types can be multiplied at all, in some shape.
/// Which part of a sum in place is ready first: another one each time, and with each seed.
static uint32_t firstPart() {
  static std::atomic<uint64_t> launches = 0;
  return Random(sgpu_options().seed).split(launches++).below(1 << 16);
}

static bool typesFit(const int32_t (&types)[6]) {
  Layout layouts[4];
  for (int i = 0; i < 4; ++i)
    layouts[i] = makeLayout(types[i + 2], 16, 16, 16);
  MatmulDesc desc = makeDesc(types[0], types[1]);
  desc.transA = CUBLAS_OP_T;
  Problem problem;
  return bool(makeProblem(desc, layouts[0], layouts[1], layouts[2], layouts[3],
                          capabilityOf(nullptr), problem));
}

EXPORT int cublasLtMatmulAlgoGetIds(void *handle, int compute, int scale, int a, int b, int c,
                                    int d, int requested, int *ids, int *returned) {
  if (!isHandle(handle))
    return CUBLAS_STATUS_NOT_INITIALIZED;
  if (requested < 1 || !ids)
    return CUBLAS_STATUS_INVALID_VALUE;
  if (!typesFit({compute, scale, a, b, c, d}))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  int count = std::min(requested, int(kinds.size()));
  for (int i = 0; i < count; ++i)
    ids[i] = kinds[i].id;
  if (returned)
    *returned = count;
  return CUBLAS_STATUS_SUCCESS;
}

EXPORT int cublasLtMatmulAlgoInit(void *handle, int compute, int scale, int a, int b, int c, int d,
                                  int id, MatmulAlgo *algo) {
  if (!isHandle(handle))
    return CUBLAS_STATUS_NOT_INITIALIZED;
  const Kind *kind = findKind(id);
  if (!algo || !kind)
    return CUBLAS_STATUS_INVALID_VALUE;
  const int32_t types[6] = {compute, scale, a, b, c, d};
  if (!typesFit(types))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  Algo made = makeAlgo(*kind, types);
  *algo = {};
  std::memcpy(algo, &made, sizeof made);
  return CUBLAS_STATUS_SUCCESS;
}

EXPORT int cublasLtMatmulAlgoCheck(void *handle, const void *desc, const void *a, const void *b,
                                   const void *c, const void *d, const MatmulAlgo *algo,
                                   MatmulHeuristicResult *result) {
  if (!isHandle(handle))
    return CUBLAS_STATUS_NOT_INITIALIZED;
  if (!desc || !a || !b || !c || !d || !algo || !result)
    return CUBLAS_STATUS_INVALID_VALUE;
  Problem problem;
  Verdict verdict = makeProblem(read<MatmulDesc>(desc), read<Layout>(a), read<Layout>(b),
                                read<Layout>(c), read<Layout>(d), capabilityOf(nullptr), problem);
  uint64_t workspace = 0;
  float waves = 0;
  if (verdict)
    verdict = checkAlgo(problem, read<Algo>(algo), workspace, waves);
  result->algo = *algo;
  result->state = verdict.status;
  result->workspaceSize = workspace;
  result->wavesCount = waves;
  return verdict.status;
}

EXPORT int cublasLtMatmulAlgoCapGetAttribute(const MatmulAlgo *algo, int attribute, void *buffer,
                                             size_t size, size_t *written) {
  Algo made = algo ? read<Algo>(algo) : Algo{};
  const Kind *kind = findKind(made.id);
  if (!made.filled || !kind)
    return CUBLAS_STATUS_INVALID_VALUE;
  uint64_t value = 0;
  size_t bytes = 4;
  switch (attribute) {
  case CUBLASLT_ALGO_CAP_SPLITK_SUPPORT:
    value = kind->splitK;
    break;
  case CUBLASLT_ALGO_CAP_REDUCTION_SCHEME_MASK:
    value = kind->splitK
                ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE | CUBLASLT_REDUCTION_SCHEME_INPLACE
                : 0;
    break;
  case CUBLASLT_ALGO_CAP_STRIDED_BATCH_SUPPORT:
  case CUBLASLT_ALGO_CAP_OUT_OF_PLACE_RESULT_SUPPORT:
    value = 1;
    break;
  case CUBLASLT_ALGO_CAP_CTA_SWIZZLING_SUPPORT:
  case CUBLASLT_ALGO_CAP_UPLO_SUPPORT:
  case CUBLASLT_ALGO_CAP_CUSTOM_OPTION_MAX:
  case CUBLASLT_ALGO_CAP_CUSTOM_MEMORY_ORDER:
  case CUBLASLT_ALGO_CAP_LD_NEGATIVE:
  case CUBLASLT_ALGO_CAP_POINTER_ARRAY_BATCH_SUPPORT:
  case CUBLASLT_ALGO_CAP_FLOATING_POINT_EMULATION_SUPPORT:
    break;
  case CUBLASLT_ALGO_CAP_TILE_IDS: // arrays; of one here
    value = uint64_t(kind->tile);
    break;
  case CUBLASLT_ALGO_CAP_STAGES_IDS:
    value = uint64_t(kind->stages);
    break;
  case CUBLASLT_ALGO_CAP_POINTER_MODE_MASK:
    value = 31;
    break;
  case CUBLASLT_ALGO_CAP_EPILOGUE_MASK:
#define OR(name, bits) value |= uint64_t(bits);
    SGPU_CUBLASLT_EPILOGUES(OR)
#undef OR
    break;
  case CUBLASLT_ALGO_CAP_NUMERICAL_IMPL_FLAGS:
    value = implFlags(made), bytes = 8;
    break;
  case CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_A_BYTES:
  case CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_B_BYTES:
  case CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_C_BYTES:
  case CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_D_BYTES: {
    int i = attribute - CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_A_BYTES;
    unsigned element = bytesOf(elementOf(made.types[i + 2]).value_or(Element::F64));
    value = std::max(kind->alignment, element);
    break;
  }
  default:
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  if (size == 0) {
    if (!written)
      return CUBLAS_STATUS_INVALID_VALUE;
    *written = bytes;
    return CUBLAS_STATUS_SUCCESS;
  }
  bool array = attribute == CUBLASLT_ALGO_CAP_TILE_IDS || attribute == CUBLASLT_ALGO_CAP_STAGES_IDS;
  if (!buffer || (array ? size < bytes : size != bytes))
    return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(buffer, &value, bytes);
  if (written)
    *written = bytes;
  return CUBLAS_STATUS_SUCCESS;
}

EXPORT int cublasLtMatmul(void *handle, const void *descPointer, const void *alpha, const void *a,
                          const void *aLayout, const void *b, const void *bLayout, const void *beta,
                          const void *c, const void *cLayout, void *d, const void *dLayout,
                          const MatmulAlgo *algoPointer, void *workspace, size_t workspaceSize,
                          void *stream) {
  const char *call = "cublasLtMatmul";
  if (!isHandle(handle))
    return CUBLAS_STATUS_NOT_INITIALIZED;
  if (!descPointer || !aLayout || !bLayout || !cLayout || !dLayout)
    return tell(call, invalid("a descriptor is null"));
  auto problem = std::make_shared<Problem>();
  Product &p = problem->product;
  Verdict verdict =
      makeProblem(read<MatmulDesc>(descPointer), read<Layout>(aLayout), read<Layout>(bLayout),
                  read<Layout>(cLayout), read<Layout>(dLayout), capabilityOf(stream), *problem);
  if (!verdict)
    return tell(call, verdict);
  const MatmulDesc &desc = problem->desc;

  // The algorithm and its workspace.
  uint64_t addresses[4] = {uint64_t(a), uint64_t(b), uint64_t(c), uint64_t(d)};
  uint64_t needed = 0;
  const char *names = "ABCD";
  for (int i = 0; i < 4; ++i) {
    unsigned multiple = problem->eightBit ? 16 : bytesOf(*elementOf(problem->layouts[i].type));
    if (addresses[i] % multiple)
      return tell(call,
                  invalid(std::string("matrix ") + names[i] + " is not at a multiple of " +
                          std::to_string(multiple) + " bytes"),
                  addresses[i], Check::Misaligned);
  }
  if (algoPointer) {
    Algo algo = read<Algo>(algoPointer);
    float waves;
    if (Verdict checked = checkAlgo(*problem, algo, needed, waves); !checked)
      return tell(call, checked);
    p.splitK = std::max(1, algo.splitK);
    if (algo.reductionScheme == CUBLASLT_REDUCTION_SCHEME_INPLACE)
      p.inPlace = true, p.rotated = firstPart();
    if (workspaceSize < needed)
      return tell(call, invalid("workspace has " + std::to_string(workspaceSize) +
                                " bytes, the algorithm needs " + std::to_string(needed)));
    for (int i = 0; i < 4; ++i)
      if (addresses[i] & ((uint64_t(1) << algo.alignment[i]) - 1))
        return tell(call,
                    invalid(std::string("matrix ") + names[i] + " is not at a multiple of " +
                            std::to_string(1u << algo.alignment[i]) +
                            " bytes, as the preference promised when the algorithm was chosen"),
                    addresses[i]);
    if (p.epilogue & epilogueAnyBias && desc.bias & ((uint64_t(1) << algo.biasAlignment) - 1))
      return tell(call,
                  invalid("the bias is not at a multiple of " +
                          std::to_string(1u << algo.biasAlignment) +
                          " bytes, as it was when the algorithm was chosen"),
                  desc.bias);
  } else { // chosen for the pointers as they are
    Preference preference;
    preference.maxWorkspace = workspace ? workspaceSize : 0;
    preference.reductionMask = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    for (int i = 0; i < 4; ++i)
      preference.minAlignment[i] = 1u << std::countr_zero(addresses[i] | 256);
    auto found = search(*problem, preference);
    if (found.empty())
      return tell(call, unsupported("no algorithm for this product and the alignment of its "
                                    "matrices"));
    p.splitK = std::max(1, read<Algo>(&found[0].algo).splitK);
    needed = found[0].workspaceSize;
  }
  if (needed && (!workspace || uint64_t(workspace) % 16))
    return tell(call,
                invalid(workspace ? "workspace is not at a multiple of 16 bytes"
                                  : "workspace is null, the algorithm needs " +
                                        std::to_string(needed) + " bytes"),
                uint64_t(workspace));
  if (p.m == 0 || p.n == 0)
    return CUBLAS_STATUS_SUCCESS;
  if (!a || !b || !d)
    return tell(call, invalid("a matrix is null"));

  // alpha and beta: in host memory (copied now) or in device memory (read when it runs).
  bool alphaOnDevice = desc.pointerMode != CUBLASLT_POINTER_MODE_HOST;
  bool betaOnDevice = desc.pointerMode == CUBLASLT_POINTER_MODE_DEVICE ||
                      desc.pointerMode == CUBLASLT_POINTER_MODE_DEVICE_VECTOR;
  unsigned scaleBytes = bytesOf(p.scale);
  auto scalars = std::make_shared<Scalars>();
  if (!alpha || (!beta && !p.betaZero))
    return tell(call, invalid(alpha ? "beta is null" : "alpha is null"));
  if (!alphaOnDevice)
    std::memcpy(scalars->alpha, alpha, scaleBytes);
  if (!betaOnDevice && !p.betaZero) {
    std::memcpy(scalars->beta, beta, scaleBytes);
    p.betaZero = loadElement<double>(p.scale, scalars->beta, 0) == 0;
  }
  if (!p.betaZero && !c)
    return tell(call, invalid("matrix C is null and beta is not 0"));

  // What is touched.
  std::vector<Operand> operands;
  auto vectorBytes = [&](int64_t count, int64_t stride, unsigned size, uint64_t address) {
    Matrix row{Element::S8, nullptr, count * size, 1, count * size, stride * int64_t(size), false};
    return piecesOf(row, p.batches, address);
  };
  auto add = [&](const char *name, std::vector<Piece> pieces, bool written) {
    operands.push_back({name, std::move(pieces), written});
  };
  if (p.k) {
    add("A", piecesOf(p.a, p.batches, addresses[0]), false);
    add("B", piecesOf(p.b, p.batches, addresses[1]), false);
  }
  if (!p.betaZero)
    add("C", piecesOf(p.c, p.batches, addresses[2]), false);
  add("D", piecesOf(p.d, p.batches, addresses[3]), true);
  int64_t scalarsPerBatch = p.alphaVector ? p.m : 1;
  int64_t scalarStride = p.alphaVector ? p.alphaBatchStride : 0;
  if (alphaOnDevice)
    add("alpha", vectorBytes(scalarsPerBatch, scalarStride, scaleBytes, uint64_t(alpha)), false);
  if (betaOnDevice)
    add("beta", vectorBytes(scalarsPerBatch, scalarStride, scaleBytes, uint64_t(beta)), false);
  if (p.epilogue & epilogueAnyBias) {
    int64_t length = p.epilogue & epilogueBiasGradientB ? p.n : p.m;
    add("the bias", vectorBytes(length, p.biasBatchStride, bytesOf(p.biasElement), desc.bias),
        p.epilogue & epilogueAnyGradient);
    if (desc.bias % bytesOf(p.biasElement))
      return tell(call, invalid("the bias is not at a multiple of its element"), desc.bias,
                  Check::Misaligned);
  }
  if (p.epilogue & epilogueAux) {
    bool bits = p.epilogue & (epilogueRelu | epilogueDRelu);
    Matrix aux{bits ? Element::S8 : p.auxElement,
               nullptr,
               bits ? (p.m + 7) / 8 : p.m,
               p.n,
               bits ? p.auxLd / 8 : p.auxLd,
               bits ? p.auxBatchStride / 8 : p.auxBatchStride,
               false};
    add("the aux matrix", piecesOf(aux, p.batches, desc.aux),
        p.epilogue & (epilogueRelu | epilogueGelu));
    if (desc.aux % 16)
      return tell(call, invalid("the aux matrix is not at a multiple of 16 bytes"), desc.aux,
                  Check::Misaligned);
  }
  struct {
    const char *name;
    uint64_t address;
    int64_t count;
    bool written;
  } factors[] = {{"the scale of A", desc.scaleA, p.scaleARows ? p.m : 1, false},
                 {"the scale of B", desc.scaleB, p.scaleBCols ? p.n : 1, false},
                 {"the scale of C", desc.scaleC, 1, false},
                 {"the scale of D", desc.scaleD, 1, false},
                 {"the scale of the aux matrix", desc.auxScale, 1, false},
                 {"the amax of D", desc.amaxD, 1, true},
                 {"the amax of the aux matrix", desc.auxAmax, 1, true}};
  for (auto &f : factors)
    if (f.address)
      add(f.name, {{f.address, uint64_t(f.count) * 4}}, f.written);
  if (needed)
    add("the workspace", {{uint64_t(workspace), needed}}, true);
  bool cIsD =
      addresses[2] == addresses[3] && dimensionsEqual(problem->layouts[2], problem->layouts[3]);
  uint64_t at = 0;
  if (Verdict shared = checkOverlaps(operands, cIsD, at); !shared)
    return tell(call, shared, at);

  sgpu_work work;
  work.name = call;
  auto spans = std::make_shared<std::vector<Piece>>();
  auto piecesOfC = std::make_shared<std::vector<Piece>>();
  std::vector<std::string> order;
  for (const Operand &operand : operands) {
    bool maybe = operand.name == "C" && betaOnDevice; // not read if beta is 0
    addRange(operand.written ? work.writes : work.reads, operand.pieces, maybe);
    if (maybe)
      *piecesOfC = operand.pieces;
    order.push_back(operand.name);
    spans->push_back(spanOf(operand.pieces));
  }
  uint64_t seed = sgpu_options().seed;
  work.run = [problem, scalars, spans, piecesOfC, order, seed, call] {
    Product product = problem->product;
    product.alpha = reinterpret_cast<const char *>(scalars->alpha);
    product.beta = reinterpret_cast<const char *>(scalars->beta);
    char *scratch = nullptr;
    uint64_t scratchBytes = 0;
    for (size_t i = 0; i < order.size(); ++i) {
      const std::string &name = order[i];
      char *data = nullptr;
      if ((*spans)[i].bytes) {
        data = static_cast<char *>(sgpu_resolve((*spans)[i].address, (*spans)[i].bytes));
        if (!data)
          return sgpu_progress::Fault; // reported when the ranges were checked
      }
      if (name == "A")
        product.a.data = data;
      else if (name == "B")
        product.b.data = data;
      else if (name == "C")
        product.c.data = data;
      else if (name == "D")
        product.d.data = data;
      else if (name == "alpha")
        product.alpha = data;
      else if (name == "beta")
        product.beta = data;
      else if (name == "the bias")
        product.bias = data;
      else if (name == "the aux matrix")
        product.aux = data;
      else if (name == "the scale of A")
        product.scaleA = data;
      else if (name == "the scale of B")
        product.scaleB = data;
      else if (name == "the scale of C")
        product.scaleC = data;
      else if (name == "the scale of D")
        product.scaleD = data;
      else if (name == "the scale of the aux matrix")
        product.auxScale = data;
      else if (name == "the amax of D")
        product.amaxD = data;
      else if (name == "the amax of the aux matrix")
        product.auxAmax = data;
      else if (name == "the workspace")
        scratch = data, scratchBytes = (*spans)[i].bytes;
    }
    if (scratch) { // what an algorithm leaves there is nobody's business
      Random random(seed);
      for (uint64_t i = 0; i + 8 <= scratchBytes; i += 8) {
        uint64_t bits = random.next();
        std::memcpy(scratch + i, &bits, 8);
      }
    }
    for (const Piece &piece : *piecesOfC)
      if (readsC(product) && !sgpu_written(piece.address, piece.bytes)) {
        tell(call, invalid("matrix C has bytes that were never written, and beta is not 0"),
             piece.address, Check::Uninitialized);
        break;
      }
    multiply(product);
    return sgpu_progress::Done;
  };
  return sgpu_enqueue(stream, std::move(work)) == 0 ? CUBLAS_STATUS_SUCCESS
                                                    : CUBLAS_STATUS_EXECUTION_FAILED;
}

EXPORT int cublasLtMatrixTransform(void *handle, const void *descPointer, const void *alpha,
                                   const void *a, const void *aLayout, const void *beta,
                                   const void *b, const void *bLayout, void *c, const void *cLayout,
                                   void *stream) {
  const char *call = "cublasLtMatrixTransform";
  if (!isHandle(handle))
    return CUBLAS_STATUS_NOT_INITIALIZED;
  if (!descPointer || !cLayout || !c || (a && (!aLayout || !alpha)) || (b && (!bLayout || !beta)))
    return tell(call, invalid("a descriptor, a scalar or C is null"));
  auto desc = read<TransformDesc>(descPointer);
  auto scale = elementOf(desc.scaleType);
  if (!scale || desc.pointerMode != CUBLASLT_POINTER_MODE_HOST)
    return tell(call, unsupported("alpha and beta must be in host memory, of a known type"));
  Matrix matrices[3];
  int64_t batches = 0;
  const void *layouts[3] = {aLayout, bLayout, cLayout};
  const void *pointers[3] = {a, b, c};
  std::vector<Operand> operands;
  for (int i : {2, 0, 1}) {
    if (!pointers[i])
      continue;
    auto l = read<Layout>(layouts[i]);
    auto element = elementOf(l.type);
    std::string name = std::string("matrix ") + "ABC"[i];
    bool row = l.order == CUBLASLT_ORDER_ROW;
    if (!element || (l.order != CUBLASLT_ORDER_COL && !row))
      return tell(call, unsupported(name + " has a type or order that transforms do not take"));
    if (l.ld < int64_t(row ? l.cols : l.rows))
      return tell(call, invalid(name + " has leading dimension " + std::to_string(l.ld) +
                                ", expected at least " + std::to_string(row ? l.cols : l.rows)));
    matrices[i] = {*element,
                   nullptr,
                   int64_t(l.rows),
                   int64_t(l.cols),
                   l.ld,
                   l.batchCount > 1 ? l.batchStride : 0,
                   row};
    if (i == 2)
      batches = l.batchCount;
    bool trans = i == 0 ? desc.transA : i == 1 ? desc.transB : 0;
    if (l.batchCount != batches ||
        matrices[i].rows != (trans ? matrices[2].cols : matrices[2].rows) ||
        matrices[i].cols != (trans ? matrices[2].rows : matrices[2].cols))
      return tell(call, invalid(name + " does not have the shape or batches of C"));
    operands.push_back(
        {std::string(1, "ABC"[i]), piecesOf(matrices[i], batches, uint64_t(pointers[i])), i == 2});
  }
  uint64_t at = 0;
  bool same = a == c && aLayout && !desc.transA &&
              dimensionsEqual(read<Layout>(aLayout), read<Layout>(cLayout));
  if (!same)
    if (Verdict shared = checkOverlaps(operands, false, at); !shared)
      return tell(call, shared, at);
  double alphaValue = a ? loadElement<double>(*scale, alpha, 0) : 0;
  double betaValue = b ? loadElement<double>(*scale, beta, 0) : 0;
  sgpu_work work;
  work.name = call;
  for (const Operand &operand : operands)
    addRange(operand.written ? work.writes : work.reads, operand.pieces);
  std::array<Matrix, 3> kept = {matrices[0], matrices[1], matrices[2]};
  work.run = [kept, operands, desc, alphaValue, betaValue, batches] {
    std::array<Matrix, 3> m = kept;
    for (const Operand &operand : operands) {
      Piece span = spanOf(operand.pieces);
      if (!span.bytes)
        return sgpu_progress::Done;
      m[operand.name[0] - 'A'].data = static_cast<char *>(sgpu_resolve(span.address, span.bytes));
      if (!m[operand.name[0] - 'A'].data)
        return sgpu_progress::Fault;
    }
    transform(m[0], desc.transA, alphaValue, m[1], desc.transB, betaValue, m[2], batches);
    return sgpu_progress::Done;
  };
  return sgpu_enqueue(stream, std::move(work)) == 0 ? CUBLAS_STATUS_SUCCESS
                                                    : CUBLAS_STATUS_EXECUTION_FAILED;
}

} // extern "C"
