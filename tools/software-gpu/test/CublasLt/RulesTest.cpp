//===- RulesTest.cpp - Rules of cublasLtMatmul, each broken once and kept once ------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Setup.h"

namespace {
using namespace sgpu::test;

/// A right product of bf16 (or e4m3) that a case changes in one place.
struct Product {
  Device &device;
  bool eight;
  int64_t m = 64, n = 48, k = 32, pad = 16; ///< leading dimensions are longer by `pad`
  int compute = CUBLAS_COMPUTE_32F, scale = CUDA_R_32F, typeA, typeB, typeC, typeD;
  bool transA, transB = false;
  int batches[4] = {1, 1, 1, 1};
  int64_t stride[4] = {}, ld[4] = {};
  char *at[4] = {};
  float one = 1, half = 0.5f;
  const void *alpha = &one, *beta = &half;
  uint64_t maxWorkspace = 1 << 20, workspaceBytes = 0;
  unsigned promised[4] = {256, 256, 256, 256};
  char *workspace = nullptr;
  bool ownAlgo = false; ///< the library chooses
  MatmulHeuristicResult result{};
  std::vector<std::function<void(Desc &)>> attributes;
  std::function<void()> afterHeuristic;
  std::function<void(Desc &)> beforeProduct;
  std::function<void(LayoutOf &b)> afterLayouts;
  int heuristic = -1;

  Product(Device &device, bool eight)
      : device(device), eight(eight), typeA(eight ? CUDA_R_8F_E4M3 : CUDA_R_16BF), typeB(typeA),
        typeC(CUDA_R_16BF), typeD(CUDA_R_16BF), transA(eight) {
    ld[0] = (transA ? k : m) + pad, ld[1] = k + pad, ld[2] = ld[3] = m + pad;
    for (int i = 0; i < 4; ++i)
      at[i] = zeros(64 << 10);
  }
  char *zeros(size_t bytes) {
    char *p = device.allocate(bytes);
    EXPECT_EQ(cuMemsetD8Async(CUdeviceptr(p), 0, bytes, device.stream), 0);
    return p;
  }
  template <typename T> void set(int attribute, T value) {
    attributes.push_back([=](Desc &desc) { desc.set(attribute, value); });
  }
  /// The status of the heuristic if it fails, else that of the product.
  int run() {
    Desc desc(compute, scale);
    desc.set(CUBLASLT_MATMUL_DESC_TRANSA, int32_t(transA));
    desc.set(CUBLASLT_MATMUL_DESC_TRANSB, int32_t(transB));
    for (auto &attribute : attributes)
      attribute(desc);
    LayoutOf a(typeA, transA ? k : m, transA ? m : k, ld[0], false, batches[0], stride[0]),
        b(typeB, transB ? n : k, transB ? k : n, ld[1], false, batches[1], stride[1]),
        c(typeC, m, n, ld[2], false, batches[2], stride[2]),
        d(typeD, m, n, ld[3], false, batches[3], stride[3]);
    if (afterLayouts)
      afterLayouts(b);
    if (!ownAlgo) {
      Preference preference;
      preference.set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, maxWorkspace);
      for (int i = 0; i < 4; ++i)
        preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES + i, uint32_t(promised[i]));
      int found = 0;
      heuristic =
          cublasLtMatmulAlgoGetHeuristic(device.handle, desc.desc, a.layout, b.layout, c.layout,
                                         d.layout, preference.preference, 1, &result, &found);
      if (heuristic) // the product says why
        return cublasLtMatmul(device.handle, desc.desc, alpha, at[0], a.layout, at[1], b.layout,
                              beta, at[2], c.layout, at[3], d.layout, nullptr, workspace,
                              workspaceBytes, device.stream);
      if (!workspace && !workspaceBytes && result.workspaceSize) {
        workspaceBytes = result.workspaceSize;
        workspace = device.allocate(workspaceBytes);
      }
    }
    if (afterHeuristic)
      afterHeuristic();
    if (beforeProduct)
      beforeProduct(desc);
    return cublasLtMatmul(device.handle, desc.desc, alpha, at[0], a.layout, at[1], b.layout, beta,
                          at[2], c.layout, at[3], d.layout, ownAlgo ? nullptr : &result.algo,
                          workspace, workspaceBytes, device.stream);
  }
};

struct Rule {
  const char *name;
  bool eight;
  std::function<void(Product &, bool faulty)> change;
  int status; ///< of the broken one; 0: it is found when it runs
  std::vector<std::string> words;
};
constexpr int invalid = CUBLAS_STATUS_INVALID_VALUE, unsupported = CUBLAS_STATUS_NOT_SUPPORTED;

void epilogue(Product &p, int e) { p.set(CUBLASLT_MATMUL_DESC_EPILOGUE, int32_t(e)); }

const std::vector<Rule> &rules() {
  static const std::vector<Rule> all = {
      // Alignment
      {"PromisedAlignment",
       false,
       [](Product &p, bool faulty) {
         p.promised[0] = faulty ? 256 : 16;
         p.at[0] += 16;
       },
       invalid,
       {"argument: matrix A is not at a multiple of 256 bytes, as the preference promised"}},
      {"PromisedAlignmentOfD",
       false,
       [](Product &p, bool faulty) {
         p.promised[3] = faulty ? 64 : 32;
         p.at[3] += 32;
       },
       invalid,
       {"matrix D is not at a multiple of 64 bytes"}},
      {"Element",
       false,
       [](Product &p, bool faulty) {
         p.promised[1] = 1;
         p.at[1] += faulty ? 1 : 2;
       },
       invalid,
       {"misaligned: matrix B is not at a multiple of 2 bytes"}},
      // Workspace
      {"WorkspaceSize",
       false,
       [](Product &p, bool faulty) {
         p.afterHeuristic = [&p, faulty] {
           ASSERT_GT(p.result.workspaceSize, 0u);
           p.workspaceBytes = p.result.workspaceSize - faulty;
         };
       },
       invalid,
       {"workspace has 255 bytes, the algorithm needs 256"}},
      {"WorkspaceNull",
       false,
       [](Product &p, bool faulty) {
         p.afterHeuristic = [&p, faulty] {
           if (faulty)
             p.workspace = nullptr;
         };
       },
       invalid,
       {"workspace is null, the algorithm needs 256 bytes"}},
      {"WorkspaceAlignment",
       false,
       [](Product &p, bool faulty) {
         p.workspace = p.device.allocate(1024) + (faulty ? 8 : 16);
         p.workspaceBytes = 512;
       },
       invalid,
       {"workspace is not at a multiple of 16 bytes"}},
      {"WorkspaceTooShortInMemory",
       false,
       [](Product &p, bool faulty) {
         p.workspace = p.device.allocate(faulty ? 128 : 256);
         p.workspaceBytes = 256;
       },
       0,
       {"out-of-bounds", "call cublasLtMatmul"}},
      // Overlap
      {"DWithA",
       false,
       [](Product &p, bool faulty) { p.at[3] = p.at[0] + (faulty ? 0 : 32768); },
       invalid,
       {"A and D share bytes"}},
      {"DWithB",
       false,
       [](Product &p, bool faulty) { p.at[3] = p.at[1] + (faulty ? 256 : 32768); },
       invalid,
       {"B and D share bytes"}},
      {"DWithC",
       false,
       [](Product &p, bool faulty) { p.at[3] = p.at[2] + (faulty ? 256 : 0); },
       invalid,
       {"C and D share bytes; C and D may be the same matrix, or share nothing"}},
      {"DIsCInAnotherLayout",
       false,
       [](Product &p, bool faulty) {
         p.at[3] = p.at[2];
         p.ld[3] += faulty ? 8 : 0;
       },
       invalid,
       {"C and D share bytes"}},
      {"DWithBias",
       false,
       [](Product &p, bool faulty) {
         epilogue(p, CUBLASLT_EPILOGUE_BIAS);
         p.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.at[3] + (faulty ? 0 : 32768));
       },
       invalid,
       {"D and the bias share bytes"}},
      {"WorkspaceWithB",
       false,
       [](Product &p, bool faulty) {
         p.workspace = p.at[1] + (faulty ? 0 : 32768);
         p.workspaceBytes = 4096;
       },
       invalid,
       {"B and the workspace share bytes"}},
      {"DBetweenColumnsOfA",
       false,
       [](Product &p, bool faulty) { // interleaved, but nothing shared
         p.ld[0] = p.ld[3] = 2 * p.m;
         p.promised[3] = 128;
         p.at[3] = p.at[0] + p.m * (faulty ? 0 : 2);
         p.n = p.k;
       },
       invalid,
       {"A and D share bytes"}},
      // Epilogues
      {"BiasPointer",
       false,
       [](Product &p, bool faulty) {
         epilogue(p, CUBLASLT_EPILOGUE_BIAS);
         p.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, faulty ? nullptr : p.zeros(128));
       },
       invalid,
       {"epilogue 4 needs CUBLASLT_MATMUL_DESC_BIAS_POINTER"}},
      {"BiasTooShort",
       false,
       [](Product &p, bool faulty) {
         epilogue(p, CUBLASLT_EPILOGUE_BIAS);
         p.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.zeros(faulty ? 126 : 128));
       },
       0,
       {"out-of-bounds", "call cublasLtMatmul"}},
      {"BiasGradientType",
       false,
       [](Product &p, bool faulty) {
         p.typeC = p.typeD = CUDA_R_32F;
         epilogue(p, CUBLASLT_EPILOGUE_BGRADB);
         p.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.zeros(512));
         p.set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, int32_t(faulty ? CUDA_R_16BF : CUDA_R_32F));
       },
       unsupported,
       {"bias of CUDA_R_16BF, expected CUDA_R_32F"}},
      {"BiasAlignment",
       false,
       [](Product &p, bool faulty) {
         epilogue(p, CUBLASLT_EPILOGUE_BIAS);
         char *bias = p.zeros(256);
         p.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
         p.beforeProduct = [bias, faulty](Desc &desc) {
           desc.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias + (faulty ? 8 : 16));
         };
       },
       invalid,
       {"the bias is not at a multiple of 16 bytes, as it was when the algorithm was chosen"}},
      {"BiasType",
       false,
       [](Product &p, bool faulty) {
         epilogue(p, CUBLASLT_EPILOGUE_BIAS);
         p.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.zeros(512));
         p.set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, int32_t(faulty ? CUDA_R_16F : CUDA_R_16BF));
       },
       unsupported,
       {"bias of CUDA_R_16F, expected CUDA_R_16BF"}},
      {"AuxPointer",
       false,
       [](Product &p, bool faulty) {
         epilogue(p, CUBLASLT_EPILOGUE_GELU_AUX);
         p.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, faulty ? nullptr : p.zeros(8192));
         p.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p.m);
       },
       invalid,
       {"epilogue 160 needs CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER"}},
      {"AuxLdTooShort",
       false,
       [](Product &p, bool faulty) {
         epilogue(p, CUBLASLT_EPILOGUE_GELU_AUX);
         p.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, p.zeros(8192));
         p.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p.m - (faulty ? 8 : 0));
       },
       invalid,
       {"CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD is 56, expected a multiple of 8 that is at least "
        "64"}},
      {"AuxLdMultiple",
       false,
       [](Product &p, bool faulty) {
         epilogue(p, CUBLASLT_EPILOGUE_GELU_AUX);
         p.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, p.zeros(8192));
         p.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p.m + (faulty ? 4 : 8));
       },
       invalid,
       {"AUX_LD is 68, expected a multiple of 8"}},
      {"AuxLdOfMask",
       false,
       [](Product &p, bool faulty) {
         epilogue(p, CUBLASLT_EPILOGUE_RELU_AUX);
         p.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, p.zeros(8192));
         p.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p.m + (faulty ? 8 : 64));
       },
       invalid,
       {"AUX_LD is 72, expected a multiple of 128"}},
      {"AuxTooShort",
       false,
       [](Product &p, bool faulty) {
         epilogue(p, CUBLASLT_EPILOGUE_GELU_AUX);
         p.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, p.zeros(64 * 48 * 2 - (faulty ? 16 : 0)));
         p.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p.m);
       },
       0,
       {"out-of-bounds"}},
      {"AuxAlignment",
       false,
       [](Product &p, bool faulty) {
         epilogue(p, CUBLASLT_EPILOGUE_GELU_AUX);
         p.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, p.zeros(8192) + (faulty ? 8 : 16));
         p.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p.m);
       },
       invalid,
       {"misaligned: the aux matrix is not at a multiple of 16 bytes"}},
      {"AuxNeverWritten",
       false,
       [](Product &p, bool faulty) {
         epilogue(p, CUBLASLT_EPILOGUE_DGELU);
         p.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER,
               faulty ? p.device.allocate(8192) : p.zeros(8192));
         p.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p.m);
       },
       0,
       {"uninitialized"}},
      {"UnknownEpilogue",
       false,
       [](Product &p, bool faulty) { epilogue(p, faulty ? 3 : 2); },
       invalid,
       {"epilogue 3 does not exist"}},
      // Shapes, leading dimensions, batches, types
      {"LeadingDimension",
       false,
       [](Product &p, bool faulty) {
         p.ld[1] = p.k - faulty;
         p.promised[1] = 2;
       },
       invalid,
       {"matrix B has leading dimension 31, expected at least 32, its rows"}},
      {"Shape",
       false,
       [](Product &p, bool faulty) {
         p.afterLayouts = [faulty](LayoutOf &b) {
           b.set(CUBLASLT_MATRIX_LAYOUT_ROWS, uint64_t(faulty ? 33 : 32));
         };
       },
       invalid,
       {"matrix B is 33 x 48, expected 32 x 48 for D of 64 x 48 and k of 32"}},
      {"BatchCounts",
       false,
       [](Product &p, bool faulty) {
         for (int i = 0; i < 4; ++i)
           p.batches[i] = faulty && i == 1 ? 3 : 2, p.stride[i] = 4096;
       },
       invalid,
       {"batch counts of the matrices differ: 3 and 2"}},
      {"BatchStrideOfD",
       false,
       [](Product &p, bool faulty) {
         for (int i = 0; i < 4; ++i)
           p.batches[i] = 2, p.stride[i] = i == 3 ? 80 * 48 - (faulty ? 16 : 0) : 0;
       },
       invalid,
       {"batches of D overlap: stride 3824 elements, a batch spans 3840"}},
      {"BatchStrideOfBiasGradient",
       false,
       [](Product &p, bool faulty) {
         for (int i = 0; i < 4; ++i)
           p.batches[i] = 2, p.stride[i] = 4096;
         epilogue(p, CUBLASLT_EPILOGUE_BGRADB);
         p.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.zeros(512));
         p.set(CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, int64_t(faulty ? 40 : 48));
       },
       invalid,
       {"BIAS_BATCH_STRIDE is 40, the bias gradient of a batch has 48 elements"}},
      {"BatchStrideOfAux",
       false,
       [](Product &p, bool faulty) {
         for (int i = 0; i < 4; ++i)
           p.batches[i] = 2, p.stride[i] = 4096;
         epilogue(p, CUBLASLT_EPILOGUE_GELU_AUX);
         p.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, p.zeros(16384));
         p.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p.m);
         p.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, int64_t(faulty ? 0 : 64 * 48));
       },
       invalid,
       {"AUX_BATCH_STRIDE is 0, the aux matrix of a batch spans 3072"}},
      {"Types",
       false,
       [](Product &p, bool faulty) { p.typeB = faulty ? CUDA_R_16F : CUDA_R_16BF; },
       unsupported,
       {"no product of compute type 68, scale CUDA_R_32F, A CUDA_R_16BF, B CUDA_R_16F"}},
      {"ScaleType",
       false,
       [](Product &p, bool faulty) { p.scale = faulty ? CUDA_R_16F : CUDA_R_32F; },
       unsupported,
       {"scale CUDA_R_16F"}},
      {"Algorithm",
       false,
       [](Product &p, bool faulty) {
         p.afterHeuristic = [&p, faulty] {
           if (faulty)
             p.result.algo = {};
         };
       },
       invalid,
       {"algorithm was not made by a heuristic or by cublasLtMatmulAlgoInit"}},
      // 8-bit types
      {"EightBitTN",
       true,
       [](Product &p, bool faulty) {
         p.transA = !faulty;
         p.ld[0] = 96;
       },
       unsupported,
       {"8-bit floating-point types need A transposed and B not (TN), found NN"}},
      {"EightBitLeadingDimension",
       true,
       [](Product &p, bool faulty) { p.ld[1] = p.k + (faulty ? 8 : 16); },
       unsupported,
       {"leading dimension of B is 40 bytes, expected a multiple of 16 for 8-bit"}},
      {"EightBitK",
       true,
       [](Product &p, bool faulty) { p.k = faulty ? 24 : 16; },
       unsupported,
       {"need m and k that are multiples of 16, found 64 and 24"}},
      {"EightBitAlignment",
       true,
       [](Product &p, bool faulty) {
         p.promised[0] = 1;
         p.at[0] += faulty ? 8 : 16;
         p.ownAlgo = true;
       },
       invalid,
       {"misaligned: matrix A is not at a multiple of 16 bytes"}},
      {"EightBitBoth",
       true,
       [](Product &p, bool faulty) {
         p.typeA = CUDA_R_8F_E5M2;
         p.typeB = faulty ? CUDA_R_8F_E5M2 : CUDA_R_8F_E4M3;
       },
       unsupported,
       {"no product of", "A CUDA_R_8F_E5M2, B CUDA_R_8F_E5M2"}},
      {"ScaleOfWideD",
       true,
       [](Product &p, bool faulty) {
         p.set(faulty ? CUBLASLT_MATMUL_DESC_D_SCALE_POINTER : CUBLASLT_MATMUL_DESC_A_SCALE_POINTER,
               p.zeros(4));
       },
       unsupported,
       {"scale or amax of D with D of CUDA_R_16BF"}},
      {"ScaleModes",
       true,
       [](Product &p, bool faulty) {
         p.set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, p.zeros(256));
         p.set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, p.zeros(256));
         p.set(CUBLASLT_MATMUL_DESC_A_SCALE_MODE,
               int32_t(CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F));
         if (!faulty)
           p.set(CUBLASLT_MATMUL_DESC_B_SCALE_MODE,
                 int32_t(CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F));
       },
       unsupported,
       {"scale modes of A and B must both be scalars or both be vectors"}},
      {"ScaleVectorTooShort",
       true,
       [](Product &p, bool faulty) {
         p.set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, p.zeros(faulty ? 252 : 256));
         p.set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, p.zeros(192));
         for (int mode : {CUBLASLT_MATMUL_DESC_A_SCALE_MODE, CUBLASLT_MATMUL_DESC_B_SCALE_MODE})
           p.set(mode, int32_t(CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F));
       },
       0,
       {"out-of-bounds"}},
      {"ScaleWithoutEightBit",
       false,
       [](Product &p, bool faulty) {
         if (faulty)
           p.set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, p.zeros(4));
       },
       unsupported,
       {"scales and amax without 8-bit floating-point types"}},
      // Pointers and memory
      {"NullA",
       false,
       [](Product &p, bool faulty) { p.at[0] = faulty ? nullptr : p.at[0]; },
       invalid,
       {"a matrix is null"}},
      {"NullAlpha",
       false,
       [](Product &p, bool faulty) { p.alpha = faulty ? nullptr : p.alpha; },
       invalid,
       {"alpha is null"}},
      {"NullC",
       false,
       [](Product &p, bool faulty) {
         static const float zero = 0;
         p.at[2] = nullptr;
         p.beta = faulty ? &p.half : &zero;
       },
       invalid,
       {"matrix C is null and beta is not 0"}},
      {"AlphaOnDevice",
       false,
       [](Product &p, bool faulty) {
         static float host[2] = {1, 1};
         p.set(CUBLASLT_MATMUL_DESC_POINTER_MODE, int32_t(CUBLASLT_POINTER_MODE_DEVICE));
         char *there = p.zeros(8);
         p.alpha = faulty ? reinterpret_cast<char *>(host) : there;
         p.beta = there + 4;
       },
       0,
       {"out-of-bounds"}},
      {"HostMatrix",
       false,
       [](Product &p, bool faulty) {
         static char host[65536];
         if (faulty)
           p.at[0] = host + (256 - reinterpret_cast<uintptr_t>(host) % 256);
       },
       0,
       {"out-of-bounds"}},
      {"DTooShort",
       false,
       [](Product &p, bool faulty) { p.at[3] = p.zeros(80 * 47 * 2 + 64 * 2 - (faulty ? 2 : 0)); },
       0,
       {"out-of-bounds"}},
      {"ANeverWritten",
       false,
       [](Product &p, bool faulty) { p.at[0] = faulty ? p.device.allocate(65536) : p.at[0]; },
       0,
       {"uninitialized", "call cublasLtMatmul"}},
      {"CNeverWritten",
       false,
       [](Product &p, bool faulty) { // allowed where beta is 0
         static const float zero = 0;
         p.at[2] = p.device.allocate(65536);
         p.beta = faulty ? &p.half : &zero;
       },
       0,
       {"uninitialized"}},
      {"CNeverWrittenBetaOnDevice",
       false,
       [](Product &p, bool faulty) {
         p.set(CUBLASLT_MATMUL_DESC_POINTER_MODE, int32_t(CUBLASLT_POINTER_MODE_DEVICE));
         p.at[2] = p.device.allocate(65536);
         float scalars[2] = {1, faulty ? 1.0f : 0.0f};
         char *there = p.device.upload(scalars, 8);
         EXPECT_EQ(cuStreamSynchronize(p.device.stream), 0);
         p.alpha = there, p.beta = there + 4;
       },
       0,
       {"uninitialized: matrix C has bytes that were never written, and beta is not 0"}},
      {"UseAfterFree",
       false,
       [](Product &p, bool faulty) {
         CUdeviceptr gone;
         EXPECT_EQ(cuMemAlloc_v2(&gone, 65536), 0);
         EXPECT_EQ(cuMemsetD8Async(gone, 0, 65536, p.device.stream), 0);
         if (!faulty)
           p.device.memory.push_back(gone);
         else
           EXPECT_EQ(cuMemFree_v2(gone), 0);
         p.at[0] = reinterpret_cast<char *>(gone);
       },
       0,
       {"use-after-free"}},
  };
  return all;
}

class CublasLtRules : public testing::TestWithParam<Rule> {};
INSTANTIATE_TEST_SUITE_P(All, CublasLtRules, testing::ValuesIn(rules()),
                         [](const auto &info) { return std::string(info.param.name); });

TEST_P(CublasLtRules, BrokenAndKept) {
  const Rule &rule = GetParam();
  for (bool faulty : {false, true}) {
    Outcome outcome = inProcess([&] {
      Device device;
      Product product(device, rule.eight);
      rule.change(product, faulty);
      EXPECT_EQ(product.run(), faulty ? rule.status : 0);
      int end = cuStreamSynchronize(device.stream);
      if (!faulty)
        EXPECT_EQ(end, 0);
    });
    if (faulty)
      EXPECT_TRUE(isReported(outcome, rule.words));
    else
      EXPECT_TRUE(isClean(outcome));
  }
}

} // namespace
