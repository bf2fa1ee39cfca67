//===- Products.cpp - Matrix products by cuBLASLt -------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// cuBLASLt takes matrices by columns. A matrix by rows is its transpose by columns, so
// C = op(A) op(B) is asked for as
//
//   C^T [n, m] = op(B)^T [n, k] * op(A)^T [k, m]
//
// whose operands lie in memory as they should: the roles of A and B change, the leading
// dimensions are the row lengths, and bias[n] is one number for each row of C^T, as the
// epilogue wants it. The gradient of a bias[m] is one for each column, the sum over k of what
// cuBLASLt calls B.
//
// The same bits each time: sums over k are not split, or the parts are added in a fixed order
// (no CUBLASLT_REDUCTION_SCHEME_INPLACE), and each stream has its own workspace. Products of
// f32 are in f32: TF32 is not asked for.
//
//===----------------------------------------------------------------------===//

#include "src/Cuda/Products.h"

#include "src/Control/Control.h"
#include "src/Cuda/Gpu.h"
#include "src/Cuda/Stream.h"
#include "src/Data/Error.h"
#include "src/Data/Files.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

using namespace llrt;
using namespace llrt::cuda;

struct Products::Plan {
  Key key;
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t left = nullptr, right = nullptr, result = nullptr;
  std::vector<cublasLtMatmulAlgo_t> candidates; // the best first, as cuBLASLt thinks
  cublasLtMatmulAlgo_t chosen = {};
  std::vector<cublasLtMatmulAlgo_t> loaded; // those that ran

  Plan() = default;
  Plan(const Plan &) = delete;
  Plan &operator=(const Plan &) = delete;
  ~Plan() {
    const CublasLt &blas = cublasLt();
    for (cublasLtMatrixLayout_t layout : {left, right, result})
      if (layout)
        blas.cublasLtMatrixLayoutDestroy(layout);
    if (operation)
      blas.cublasLtMatmulDescDestroy(operation);
  }
};

Products::Products(const std::string &gpu) : gpu(gpu) {
  check(cublasLt().cublasLtCreate(&handle), "cublasLtCreate");
}

Products::~Products() {
  plans.clear();
  cublasLt().cublasLtDestroy(handle);
}

//===----------------------------------------------------------------------===//
// Plans
//===----------------------------------------------------------------------===//

static cudaDataType_t dataTypeOf(int64_t type) {
  switch (type) {
  case LLRT_BF16:
    return CUDA_R_16BF;
  case LLRT_F64:
    return CUDA_R_64F;
  default:
    return CUDA_R_32F;
  }
}

// What cuBLASLt may count on at most.
static constexpr int64_t MostAlignment = 256;

static int64_t alignmentOf(const void *pointer) { // null: the most
  auto bits = reinterpret_cast<uintptr_t>(pointer) | uintptr_t(MostAlignment);
  return int64_t(bits & (~bits + 1));
}

// Whether sums over k have one order, whatever else the GPU does: what is summed up apart is added
// in a fixed order, in f32. In place (CUBLASLT_REDUCTION_SCHEME_INPLACE) each adds when it is ready.
static bool hasFixedOrder(const cublasLtMatmulAlgo_t &algorithm) {
  uint32_t scheme = CUBLASLT_REDUCTION_SCHEME_NONE;
  size_t written = 0;
  return cublasLt().cublasLtMatmulAlgoConfigGetAttribute(
             &algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme, sizeof(scheme),
             &written) == CUBLAS_STATUS_SUCCESS &&
         (scheme == CUBLASLT_REDUCTION_SCHEME_NONE ||
          scheme == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
}

std::pair<Products::Plan *, bool> Products::plan(const LlrtGemm &gemm, const Operands &operands,
                                                 bool workspace) {
  int64_t alignments[] = {alignmentOf(operands.a), alignmentOf(operands.b), alignmentOf(operands.c),
                          alignmentOf(operands.bias)};
  int64_t workspaceBytes = workspace ? LLRT_CUDA_WORKSPACE_BYTES : 0;
  cublasLtEpilogue_t epilogue = !operands.bias       ? CUBLASLT_EPILOGUE_DEFAULT
                                : gemm.bias_gradient ? CUBLASLT_EPILOGUE_BGRADB
                                                     : CUBLASLT_EPILOGUE_BIAS;
  Key key = {gemm.type,        gemm.result_type, gemm.m,          gemm.n,        gemm.k,
             gemm.transpose_a, gemm.transpose_b, gemm.accumulate, epilogue,      alignments[0],
             alignments[1],    alignments[2],    alignments[3],   workspaceBytes};
  auto [entry, isNew] = plans.try_emplace(key);
  Plan &plan = entry->second;
  if (!isNew)
    return {&plan, false};
  plan.key = key;
  try {
    const CublasLt &blas = cublasLt();
    cudaDataType_t type = dataTypeOf(gemm.type), resultType = dataTypeOf(gemm.result_type);
    bool isDouble = gemm.type == LLRT_F64;
    check(blas.cublasLtMatmulDescCreate(&plan.operation,
                                        isDouble ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F,
                                        isDouble ? CUDA_R_64F : CUDA_R_32F),
          "cublasLtMatmulDescCreate");
    auto set = [&](cublasLtMatmulDescAttributes_t attribute, auto value) {
      // NOLINTNEXTLINE(bugprone-multi-level-implicit-pointer-conversion): the driver takes it so
      check(blas.cublasLtMatmulDescSetAttribute(plan.operation, attribute, &value, sizeof(value)),
            "cublasLtMatmulDescSetAttribute");
    };
    set(CUBLASLT_MATMUL_DESC_TRANSA, gemm.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, gemm.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    if (operands.bias) { // of the type of the result: cuBLASLt has no other
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
      set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, resultType);
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, operands.bias);
    }
    auto layout = [&](cublasLtMatrixLayout_t &into, cudaDataType_t of, int64_t rows,
                      int64_t columns) { // of the stored matrix, by columns
      check(blas.cublasLtMatrixLayoutCreate(&into, of, uint64_t(rows), uint64_t(columns), rows),
            "cublasLtMatrixLayoutCreate");
    };
    layout(plan.left, type, gemm.transpose_b ? gemm.k : gemm.n, gemm.transpose_b ? gemm.n : gemm.k);
    layout(plan.right, type, gemm.transpose_a ? gemm.m : gemm.k,
           gemm.transpose_a ? gemm.k : gemm.m);
    layout(plan.result, resultType, gemm.n, gemm.m);
    if (auto found = known.find(key); found != known.end())
      use(plan, found->second);
    if (!plan.candidates.empty())
      return {&plan, true};

    cublasLtMatmulPreference_t preference = nullptr;
    check(blas.cublasLtMatmulPreferenceCreate(&preference), "cublasLtMatmulPreferenceCreate");
    auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      check(blas.cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)),
            "cublasLtMatmulPreferenceSetAttribute");
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t(workspaceBytes));
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
           uint32_t(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, uint32_t(alignments[1]));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, uint32_t(alignments[0]));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, uint32_t(alignments[2]));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, uint32_t(alignments[2]));
    constexpr int Most = 8;
    cublasLtMatmulHeuristicResult_t results[Most] = {};
    int found = 0;
    cublasStatus_t status = blas.cublasLtMatmulAlgoGetHeuristic(
        handle, plan.operation, plan.left, plan.right, plan.result, plan.result, preference, Most,
        results, &found);
    blas.cublasLtMatmulPreferenceDestroy(preference);
    for (int i = 0; i < found; ++i)
      if (results[i].state == CUBLAS_STATUS_SUCCESS && hasFixedOrder(results[i].algo))
        plan.candidates.push_back(results[i].algo);
    if (plan.candidates.empty())
      check(status != CUBLAS_STATUS_SUCCESS ? status : CUBLAS_STATUS_NOT_SUPPORTED,
            "cublasLtMatmulAlgoGetHeuristic");
    plan.chosen = plan.candidates.front();
  } catch (...) {
    plans.erase(entry);
    throw;
  }
  return {&plan, true};
}

// Unless cuBLASLt says that it cannot be.
void Products::use(Plan &plan, const cublasLtMatmulAlgo_t &algorithm) const {
  cublasLtMatmulHeuristicResult_t result = {};
  if (hasFixedOrder(algorithm) &&
      cublasLt().cublasLtMatmulAlgoCheck(handle, plan.operation, plan.left, plan.right, plan.result,
                                         plan.result, &algorithm,
                                         &result) == CUBLAS_STATUS_SUCCESS &&
      int64_t(result.workspaceSize) <= plan.key.back()) {
    plan.candidates = {algorithm};
    plan.chosen = algorithm;
  }
}

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

cublasStatus_t Products::multiply(CUstream stream, void *workspace, const LlrtGemm &gemm,
                                  const Plan &plan, const cublasLtMatmulAlgo_t &algorithm,
                                  const Operands &operands) const {
  double one = 1, zero = 0;
  float oneF = 1, zeroF = 0;
  bool isDouble = gemm.type == LLRT_F64;
  const void *alpha = isDouble ? static_cast<void *>(&one) : &oneF;
  const void *beta = gemm.accumulate ? alpha : isDouble ? static_cast<void *>(&zero) : &zeroF;
  return cublasLt().cublasLtMatmul(handle, plan.operation, alpha, operands.b, plan.left, operands.a,
                                   plan.right, beta, operands.c, plan.result, operands.c,
                                   plan.result, &algorithm, workspace, size_t(plan.key.back()),
                                   stream);
}

// Every row of `to` becomes `row`: each copy doubles what there is.
static void fillRows(CUstream stream, void *to, const void *row, int64_t rows, int64_t bytes) {
  copyRows(stream, to, bytes, row, bytes, 1, bytes);
  for (int64_t done = 1; done < rows; done *= 2)
    copyRows(stream, static_cast<std::byte *>(to) + done * bytes, bytes, to, bytes,
             std::min(done, rows - done), bytes);
}

// cuBLASLt adds no bias to f64: there C is the bias in every row before the product is added.
static bool addsToBias(const LlrtGemm &gemm, const void *bias) {
  if (gemm.bias_gradient) {
    if (gemm.result_type != LLRT_F32)
      throw Failure("cuBLASLt forms a bias gradient of f32 only beside a result of f32");
    return false;
  }
  if (bias && gemm.type != gemm.result_type)
    throw Failure("cuBLASLt adds no bias of bf16 to f32");
  if (!bias || gemm.type != LLRT_F64)
    return false;
  if (gemm.accumulate)
    throw Failure("no bias where the result is added to another, of f64");
  return true;
}

void Products::run(CUstream stream, void *workspace, const LlrtGemm &gemm, const void *a,
                   const void *b, void *bias, void *c) {
  if (addsToBias(gemm, bias)) {
    fillRows(stream, c, bias, gemm.m, gemm.n * int64_t(sizeof(double)));
    LlrtGemm added = gemm;
    added.accumulate = 1;
    return run(stream, workspace, added, a, b, nullptr, c);
  }
  Operands operands = {a, b, bias, c};
  auto [plan, isNew] = this->plan(gemm, operands, workspace);
  if (bias && !isNew)
    check(
        cublasLt().cublasLtMatmulDescSetAttribute(
            // NOLINTNEXTLINE(bugprone-multi-level-implicit-pointer-conversion): the driver takes it so
            plan->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof(bias)),
        "cublasLtMatmulDescSetAttribute");
  check(multiply(stream, workspace, gemm, *plan, plan->chosen, operands), "cublasLtMatmul");
}

void Products::prepare(CUstream stream, void *workspace, const LlrtGemm &gemm, const void *a,
                       const void *b, void *bias, void *c) {
  if (addsToBias(gemm, bias)) {
    LlrtGemm added = gemm;
    added.accumulate = 1;
    return prepare(stream, workspace, added, a, b, nullptr, c);
  }
  Operands operands = {a, b, bias, c};
  auto [plan, isNew] = this->plan(gemm, operands, workspace);
  if (isNew)
    return measure(stream, workspace, gemm, *plan, operands);
  if (std::none_of(plan->loaded.begin(), plan->loaded.end(), [&](const auto &each) {
        return std::ranges::equal(each.data, plan->chosen.data);
      })) {
    check(multiply(stream, workspace, gemm, *plan, plan->chosen, operands), "cublasLtMatmul");
    plan->loaded.push_back(plan->chosen);
  }
}

void Products::measure(CUstream stream, void *workspace, const LlrtGemm &gemm, Plan &plan,
                       const Operands &operands) {
  // Later products take what cuBLASLt proposes.
  constexpr std::chrono::seconds Most(60);
  constexpr int Turns = 3;
  const Driver &cuda = driver();
  auto start = std::chrono::steady_clock::now();
  CUevent begin = nullptr, end = nullptr;
  check(cuda.cuEventCreate(&begin, 0), "cuEventCreate");
  check(cuda.cuEventCreate(&end, 0), "cuEventCreate");
  float least = 0;
  bool any = false;
  for (const cublasLtMatmulAlgo_t &algorithm : plan.candidates) {
    // The first time the code of the product is loaded.
    if (multiply(stream, workspace, gemm, plan, algorithm, operands) != CUBLAS_STATUS_SUCCESS)
      continue;
    plan.loaded.push_back(algorithm);
    bool several = keeps && plan.candidates.size() > 1 && spent < Most;
    check(cuda.cuEventRecord(begin, stream), "cuEventRecord");
    for (int turn = 0; several && turn < Turns; ++turn)
      check(multiply(stream, workspace, gemm, plan, algorithm, operands), "cublasLtMatmul");
    check(cuda.cuEventRecord(end, stream), "cuEventRecord");
    check(cuda.cuEventSynchronize(end), "cuEventSynchronize");
    float time = 0;
    check(cuda.cuEventElapsedTime(&time, begin, end), "cuEventElapsedTime");
    if (!any || time < least) {
      plan.chosen = algorithm;
      least = time;
    }
    any = true;
    if (!several)
      break;
  }
  cuda.cuEventDestroy_v2(begin);
  cuda.cuEventDestroy_v2(end);
  known[plan.key] = plan.chosen;
  spent += std::chrono::steady_clock::now() - start;
}

//===----------------------------------------------------------------------===//
// Choices
//===----------------------------------------------------------------------===//

std::string Products::textOf(const Choices &choices) {
  std::ostringstream text;
  for (const auto &[key, algorithm] : choices) {
    for (int64_t value : key)
      text << value << " ";
    text << ":" << std::hex;
    for (uint64_t word : algorithm.data)
      text << " " << word;
    text << std::dec << "\n";
  }
  return text.str();
}

Products::Choices Products::parse(const std::string &lines) {
  Choices choices;
  std::istringstream text(lines);
  for (std::string line; std::getline(text, line);) {
    std::istringstream words(line);
    Key key;
    cublasLtMatmulAlgo_t algorithm;
    std::string colon;
    for (int64_t &value : key)
      words >> value;
    words >> colon >> std::hex;
    for (uint64_t &word : algorithm.data)
      words >> word;
    if (words && colon == ":" && hasFixedOrder(algorithm))
      choices.emplace(key, algorithm);
  }
  return choices;
}

void Products::adopt(const std::string &lines) {
  for (const auto &[key, algorithm] : parse(lines))
    known[key] = algorithm;
  for (auto &[key, plan] : plans)
    if (auto found = known.find(key); found != known.end())
      use(plan, found->second);
}

void Products::forget() {
  for (auto &[key, plan] : plans)
    known[key] = plan.chosen = plan.candidates.front();
}

// The user's file; empty: there is no place for one.
std::string Products::file() const {
  // A relative path would be another place in each folder: it counts as none, as XDG has it.
  auto variable = [](const char *name) {
    const char *value = std::getenv(name);
    return std::string(value && *value == '/' ? value : "");
  };
  std::string folder = variable("XDG_CACHE_HOME"), home = variable("HOME"), name = gpu;
  if (folder.empty() && home.empty())
    return "";
  for (char &c : name)
    if (!std::isalnum(static_cast<unsigned char>(c)))
      c = '-';
  return (folder.empty() ? home + "/.cache" : folder) + "/llamac/products-" +
         std::to_string(cublasLt().cublasLtGetVersion()) + "-" + name + ".txt";
}

static std::string readText(const std::filesystem::path &path) {
  std::error_code error;
  std::ostringstream text;
  if (std::filesystem::is_regular_file(path, error))
    text << std::ifstream(path).rdbuf();
  return text.str();
}

// Replaces the user's file as a whole, or only tries; returns whether that can be. Ranks of one
// process and other processes may do the same.
static bool write(const std::filesystem::path &path, const std::string &text, bool tries) {
  if (path.empty())
    return false;
  std::error_code error;
  std::filesystem::create_directories(path.parent_path(), error);
  try {
    NewFile file(path);
    file.write(text.data(), text.size());
    if (!tries)
      file.keep();
    return true;
  } catch (const Error &) {
    return false;
  }
}

void Products::load() {
  std::string text = readText(file());
  keeps = write(file(), text + "\n", /*tries=*/true);
  loaded = parse(text);
  adopt(text);
}

bool Products::keep(std::string &lines) const {
  Choices all = parse(lines), there = parse(readText(file()));
  for (const auto &[key, algorithm] : there) {
    auto before = loaded.find(key);
    if (before != loaded.end() && std::ranges::equal(before->second.data, algorithm.data))
      all.emplace(key, algorithm);
    else // another process has been first
      all[key] = algorithm;
  }
  lines = textOf(all);
  return lines == textOf(there) || write(file(), lines, /*tries=*/false);
}

void llrt_gemm(LlrtStream *stream, const LlrtGemm *gemm, const void *a, const void *b, void *bias,
               void *c) {
  try {
    auto work = stream->preparing ? &Products::prepare : &Products::run;
    (stream->products->*work)(stream->handle, stream->workspace, *gemm, a, b, bias, c);
  } catch (const std::exception &error) {
    stream->failed("matrix product of " + std::to_string(gemm->m) + " x " +
                   std::to_string(gemm->k) + " and " + std::to_string(gemm->k) + " x " +
                   std::to_string(gemm->n) + ": " + error.what());
  }
}
