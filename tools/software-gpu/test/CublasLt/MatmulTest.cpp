//===- MatmulTest.cpp - Products against a plain reference in f64 -----------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "CublasLt/Product.h"
#include "Setup.h"

#include <algorithm>

namespace {
using namespace sgpu::test;

struct Types {
  const char *name;
  int compute, scale, a, b, c, d;
  bool eight() const { return sizeOf(a) == 1 && a != CUDA_R_8I; }
  bool integer() const { return d == CUDA_R_32I || d == CUDA_R_8I; }
};
constexpr Types allTypes[] = {
    {"F32", CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F},
    {"F32Pedantic", CUBLAS_COMPUTE_32F_PEDANTIC, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F,
     CUDA_R_32F},
    {"TF32", CUBLAS_COMPUTE_32F_FAST_TF32, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F,
     CUDA_R_32F},
    {"FastBF16", CUBLAS_COMPUTE_32F_FAST_16BF, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F,
     CUDA_R_32F},
    {"FastF16", CUBLAS_COMPUTE_32F_FAST_16F, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F,
     CUDA_R_32F},
    {"F64", CUBLAS_COMPUTE_64F, CUDA_R_64F, CUDA_R_64F, CUDA_R_64F, CUDA_R_64F, CUDA_R_64F},
    {"BF16", CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16BF, CUDA_R_16BF, CUDA_R_16BF, CUDA_R_16BF},
    {"BF16ToF32", CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16BF, CUDA_R_16BF, CUDA_R_32F, CUDA_R_32F},
    {"F16", CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16F, CUDA_R_16F, CUDA_R_16F, CUDA_R_16F},
    {"F16ToF32", CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16F, CUDA_R_16F, CUDA_R_32F, CUDA_R_32F},
    {"F16InF16", CUBLAS_COMPUTE_16F, CUDA_R_16F, CUDA_R_16F, CUDA_R_16F, CUDA_R_16F, CUDA_R_16F},
    {"S8ToS32", CUBLAS_COMPUTE_32I, CUDA_R_32I, CUDA_R_8I, CUDA_R_8I, CUDA_R_32I, CUDA_R_32I},
    {"S8", CUBLAS_COMPUTE_32I, CUDA_R_32F, CUDA_R_8I, CUDA_R_8I, CUDA_R_8I, CUDA_R_8I},
    {"S8ToF32", CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_8I, CUDA_R_8I, CUDA_R_32F, CUDA_R_32F},
    {"E4M3", CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_8F_E4M3, CUDA_R_8F_E4M3, CUDA_R_16BF,
     CUDA_R_8F_E4M3},
    {"E4M3ToBF16", CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_8F_E4M3, CUDA_R_8F_E4M3, CUDA_R_16BF,
     CUDA_R_16BF},
    {"E4M3ToF32", CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_8F_E4M3, CUDA_R_8F_E4M3, CUDA_R_32F,
     CUDA_R_32F},
    {"E5M2E4M3", CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_8F_E5M2, CUDA_R_8F_E4M3, CUDA_R_16BF,
     CUDA_R_8F_E5M2},
    {"E4M3E5M2ToF16", CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_8F_E4M3, CUDA_R_8F_E5M2, CUDA_R_16F,
     CUDA_R_16F},
};

double gelu(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}
double geluSlope(double x) {
  double h = 1e-5; // by differences: not the formula under test
  return (gelu(x + h) - gelu(x - h)) / (2 * h);
}

int64_t upTo(int64_t x, int64_t multiple) { return (x + multiple - 1) / multiple * multiple; }

/// A matrix that was drawn: how it lies in memory, and its bytes.
struct Drawn {
  int type;
  int64_t rows, cols, ld, stride;
  bool row;
  Bytes bytes;
  int64_t at(int64_t b, int64_t i, int64_t j) const {
    return b * stride + (row ? i * ld + j : i + j * ld);
  }
  double value(int64_t b, int64_t i, int64_t j) const { return get(type, bytes, at(b, i, j)); }
};

struct Drawer {
  std::mt19937_64 bits;
  explicit Drawer(uint64_t seed) : bits(seed) {}
  int64_t below(int64_t n) { return int64_t(bits() % uint64_t(n)); }
  bool coin() { return below(2); }
  double value(int type) {
    return type == CUDA_R_8I || type == CUDA_R_32I ? double(below(9) - 4)
                                                   : double(below(33) - 16) / 8;
  }

  Drawn matrix(int type, int64_t rows, int64_t cols, bool row, int batches, bool eight,
               bool mayRepeat) {
    int64_t least = row ? cols : rows, count = row ? rows : cols;
    Drawn m{type, rows, cols, least + below(4), 0, row, {}};
    if (eight)
      m.ld = upTo(m.ld, 16 / int64_t(sizeOf(type)));
    m.stride = m.ld * count + below(3) * (eight ? 16 : 1);
    if (mayRepeat && batches > 1 && below(3) == 0)
      m.stride = 0;
    m.bytes.resize(size_t(m.stride * (batches - 1) + m.ld * count) * sizeOf(type));
    for (int64_t i = 0; i < int64_t(m.bytes.size() / sizeOf(type)); ++i)
      put(type, m.bytes, i, value(type));
    return m;
  }
};

/// One drawn product of these types, done and compared.
void drawnProduct(Device &device, const Types &t, uint64_t seed) {
  Drawer draw(seed);
  bool eight = t.eight();
  int64_t m = eight ? 16 * (1 + draw.below(4)) : 1 + draw.below(40);
  int64_t k = eight ? 16 * (1 + draw.below(5)) : 1 + draw.below(60), n = 1 + draw.below(30);
  if (!eight && draw.below(12) == 0)
    k = 520 + draw.below(600); // so long that it can be split
  int batches = draw.below(3) ? 1 : 2 + int(draw.below(2));
  bool ta = eight || draw.coin(), tb = !eight && draw.coin();
  bool rowA = !eight && draw.coin(), rowB = !eight && draw.coin(),
       rowD = !eight && draw.below(3) == 0;
  Drawn a = draw.matrix(t.a, ta ? k : m, ta ? m : k, rowA, batches, eight, true);
  Drawn b = draw.matrix(t.b, tb ? n : k, tb ? k : n, rowB, batches, eight, true);
  bool inPlace = t.c == t.d && draw.coin();
  Drawn c = draw.matrix(t.c, m, n, rowD, batches, eight, !inPlace);
  Drawn d = inPlace ? c : draw.matrix(t.d, m, n, rowD, batches, eight, false);

  // Epilogue.
  std::vector<int> epilogues{CUBLASLT_EPILOGUE_DEFAULT};
  bool mayHave = !rowD && !t.integer() && t.d != CUDA_R_64F;
  if (mayHave) {
    epilogues = {CUBLASLT_EPILOGUE_DEFAULT,  CUBLASLT_EPILOGUE_BIAS,
                 CUBLASLT_EPILOGUE_RELU,     CUBLASLT_EPILOGUE_RELU_BIAS,
                 CUBLASLT_EPILOGUE_GELU,     CUBLASLT_EPILOGUE_GELU_BIAS,
                 CUBLASLT_EPILOGUE_GELU_AUX, CUBLASLT_EPILOGUE_GELU_AUX_BIAS};
    if (!eight)
      for (int e :
           {CUBLASLT_EPILOGUE_RELU_AUX, CUBLASLT_EPILOGUE_RELU_AUX_BIAS, CUBLASLT_EPILOGUE_DRELU,
            CUBLASLT_EPILOGUE_DRELU_BGRAD, CUBLASLT_EPILOGUE_DGELU, CUBLASLT_EPILOGUE_DGELU_BGRAD,
            CUBLASLT_EPILOGUE_BGRADA, CUBLASLT_EPILOGUE_BGRADB})
        epilogues.push_back(e);
  }
  int epilogue = epilogues[size_t(draw.below(int64_t(epilogues.size())))];
  int e = epilogue == CUBLASLT_EPILOGUE_DEFAULT ? 0 : epilogue;
  bool relu = e & 2, bias = e & 4, dRelu = e & 8, gradient = e & 16, isGelu = e & 32,
       dGelu = e & 64, hasAux = e & 128, gradientA = e & 256, gradientB = e & 512;
  int biasType = eight ? (t.d == CUDA_R_32F ? int(CUDA_R_16BF) : t.c) : t.d;
  int64_t biasLength = gradientB ? n : m, biasStride = biasLength + draw.below(3);
  bool hasBias = bias || gradient || gradientA || gradientB;
  Bytes biasBytes(size_t(biasStride * batches) * sizeOf(biasType));
  for (int64_t i = 0; i < biasStride * batches; ++i)
    put(biasType, biasBytes, i, draw.value(biasType));
  bool bitMask = relu || dRelu;
  int64_t auxLd = bitMask ? upTo(m, 128) : upTo(m + draw.below(9), 8),
          auxStride = auxLd * n + (bitMask ? 128 : 8);
  Bytes auxBytes(bitMask ? size_t(auxStride * batches / 8)
                         : size_t(auxStride * batches) * sizeOf(t.d));
  for (int64_t i = 0; !bitMask && i < auxStride * batches; ++i)
    put(t.d, auxBytes, i, draw.value(t.d));
  if (bitMask)
    for (char &x : auxBytes)
      x = char(draw.bits());

  // Scalars, in host or device memory.
  int modes[] = {CUBLASLT_POINTER_MODE_HOST,
                 CUBLASLT_POINTER_MODE_HOST,
                 CUBLASLT_POINTER_MODE_DEVICE,
                 CUBLASLT_POINTER_MODE_DEVICE_VECTOR,
                 CUBLASLT_POINTER_MODE_ALPHA_DEVICE_VECTOR_BETA_ZERO,
                 CUBLASLT_POINTER_MODE_ALPHA_DEVICE_VECTOR_BETA_HOST};
  int mode = modes[draw.below(6)];
  bool alphaVector = mode >= CUBLASLT_POINTER_MODE_DEVICE_VECTOR,
       betaVector = mode == CUBLASLT_POINTER_MODE_DEVICE_VECTOR;
  bool alphaDevice = mode != CUBLASLT_POINTER_MODE_HOST;
  bool betaDevice = mode == CUBLASLT_POINTER_MODE_DEVICE || betaVector;
  int64_t scalarStride = alphaVector ? m + draw.below(2) : 0;
  size_t scalars = alphaVector ? size_t(scalarStride * (batches - 1) + m) : 1;
  Bytes alpha(scalars * sizeOf(t.scale)), beta(scalars * sizeOf(t.scale));
  bool zero = mode == CUBLASLT_POINTER_MODE_ALPHA_DEVICE_VECTOR_BETA_ZERO || draw.below(3) == 0;
  for (int64_t i = 0; i < int64_t(scalars); ++i) {
    put(t.scale, alpha, i,
        t.integer() && t.scale == CUDA_R_32I ? double(1 + draw.below(2)) : draw.value(t.scale));
    put(t.scale, beta, i, zero ? 0 : t.integer() ? 1 : draw.value(t.scale));
  }

  Desc desc(t.compute, t.scale);
  desc.set(CUBLASLT_MATMUL_DESC_TRANSA, int32_t(ta ? CUBLAS_OP_T : CUBLAS_OP_N));
  desc.set(CUBLASLT_MATMUL_DESC_TRANSB, int32_t(tb ? CUBLAS_OP_T : CUBLAS_OP_N));
  desc.set(CUBLASLT_MATMUL_DESC_POINTER_MODE, int32_t(mode));
  desc.set(CUBLASLT_MATMUL_DESC_ALPHA_VECTOR_BATCH_STRIDE, scalarStride);
  desc.set(CUBLASLT_MATMUL_DESC_EPILOGUE, int32_t(epilogue));
  char *biasAt = nullptr, *auxAt = nullptr;
  if (hasBias) {
    biasAt = device.upload(biasBytes);
    desc.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, biasAt);
    desc.set(CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, biasStride);
    if (draw.coin()) // it is the only one
      desc.set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, int32_t(biasType));
  }
  if (hasAux) {
    auxAt = device.upload(auxBytes);
    desc.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, auxAt);
    desc.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, auxLd);
    desc.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, auxStride);
  }
  // Scales of the 8-bit types.
  bool vectors = eight && draw.below(3) == 0, eightOut = eight && sizeOf(t.d) == 1;
  std::vector<float> scaleA{1}, scaleB{1}, scaleD{1}, scaleAux{1};
  char *amaxAt = nullptr, *auxAmaxAt = nullptr;
  auto drawScales = [&](std::vector<float> &scales, int64_t count, int attribute) {
    scales.clear();
    for (int64_t i = 0; i < count; ++i)
      scales.push_back(float(1 + draw.below(8)) / 4);
    desc.set(attribute, device.upload(scales.data(), scales.size() * 4));
  };
  if (eight && (vectors || draw.coin())) {
    drawScales(scaleA, vectors ? m : 1, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER);
    drawScales(scaleB, vectors ? n : 1, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER);
    if (vectors) {
      desc.set(CUBLASLT_MATMUL_DESC_A_SCALE_MODE,
               int32_t(CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F));
      desc.set(CUBLASLT_MATMUL_DESC_B_SCALE_MODE,
               int32_t(CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F));
    }
  }
  if (eightOut && draw.coin()) {
    drawScales(scaleD, 1, CUBLASLT_MATMUL_DESC_D_SCALE_POINTER);
    desc.set(CUBLASLT_MATMUL_DESC_AMAX_D_POINTER, amaxAt = device.allocate(4));
    if (hasAux) {
      drawScales(scaleAux, 1, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_SCALE_POINTER);
      desc.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_AMAX_POINTER, auxAmaxAt = device.allocate(4));
    }
  }

  LayoutOf la(t.a, a.rows, a.cols, a.ld, a.row, batches, a.stride),
      lb(t.b, b.rows, b.cols, b.ld, b.row, batches, b.stride),
      lc(t.c, m, n, c.ld, c.row, batches, c.stride), ld(t.d, m, n, d.ld, d.row, batches, d.stride);
  char *atA = device.upload(a.bytes), *atB = device.upload(b.bytes), *atD = device.upload(d.bytes);
  char *atC = inPlace               ? atD
              : zero && draw.coin() ? device.allocate(c.bytes.size())
                                    : device.upload(c.bytes); // not read if beta is 0

  // An algorithm: one of those that are proposed, or the library's choice.
  const MatmulAlgo *algo = nullptr;
  MatmulHeuristicResult results[8];
  uint64_t workspaceBytes = uint64_t(draw.below(3)) << 20;
  char *workspace = nullptr;
  if (draw.below(4)) {
    Preference preference;
    preference.set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspaceBytes);
    int found = 0;
    ASSERT_EQ(cublasLtMatmulAlgoGetHeuristic(device.handle, desc.desc, la.layout, lb.layout,
                                             lc.layout, ld.layout, preference.preference, 8,
                                             results, &found),
              0)
        << t.name << " seed " << seed;
    ASSERT_GT(found, 0);
    const MatmulHeuristicResult &chosen = results[draw.below(found)];
    EXPECT_LE(chosen.workspaceSize, workspaceBytes);
    algo = &chosen.algo;
    workspaceBytes = chosen.workspaceSize;
  }
  if (workspaceBytes)
    workspace = device.allocate(workspaceBytes);
  const void *alphaAt = alphaDevice ? device.upload(alpha) : alpha.data();
  const void *betaAt = betaDevice ? device.upload(beta) : beta.data();
  ASSERT_EQ(cublasLtMatmul(device.handle, desc.desc, alphaAt, atA, la.layout, atB, lb.layout,
                           betaAt, atC, lc.layout, atD, ld.layout, algo, workspace, workspaceBytes,
                           device.stream),
            0)
      << t.name << " seed " << seed;
  const Bytes alphaWas = alpha;
  if (!alphaDevice) // the call has taken it
    std::fill(alpha.begin(), alpha.end(), char(0x7f));
  Bytes gotD = device.download(atD, d.bytes.size());

  // The reference.
  std::string what = std::string(t.name) + " seed " + std::to_string(seed) + ", " +
                     std::to_string(m) + " x " + std::to_string(n) + " x " + std::to_string(k) +
                     ", epilogue " + std::to_string(epilogue) + ", mode " + std::to_string(mode) +
                     ", batches " + std::to_string(batches);
  int failures = 0;
  auto near = [&](double got, double want, double slack, const char *name, int64_t i, int64_t j) {
    if (!(std::abs(got - want) <= slack) && ++failures < 4)
      ADD_FAILURE() << what << ": " << name << " (" << i << ", " << j << ") is " << got
                    << ", expected " << want << " within " << slack;
  };
  auto limit = [&](int type, double x) {
    double most = type == CUDA_R_8F_E4M3   ? 448
                  : type == CUDA_R_8F_E5M2 ? 57344
                  : type == CUDA_R_8I      ? 127
                                           : 1e300;
    return std::clamp(x, type == CUDA_R_8I ? -128 : -most, most);
  };
  auto smallest = [](int type) { // half of the smallest distance
    return type == CUDA_R_8F_E4M3   ? 0x1p-10
           : type == CUDA_R_8F_E5M2 ? 0x1p-17
           : type == CUDA_R_16F     ? 0x1p-25
                                    : 0;
  };
  double sumRounding = t.scale == CUDA_R_64F             ? 1e-15
                       : t.compute == CUBLAS_COMPUTE_16F ? 1e-3
                                                         : 3e-7;
  Bytes gotBias = hasBias ? device.download(biasAt, biasBytes.size()) : Bytes();
  Bytes gotAux = hasAux ? device.download(auxAt, auxBytes.size()) : Bytes();
  double amax = 0, auxAmax = 0;
  std::vector<bool> touched(d.bytes.size() / sizeOf(t.d), false);
  for (int64_t batch = 0; batch < batches; ++batch) {
    std::vector<double> gradients(size_t(biasLength), 0), gradientSlack(size_t(biasLength), 0);
    for (int64_t j = 0; j < n; ++j)
      for (int64_t i = 0; i < m; ++i) {
        double sum = 0, size = 0;
        for (int64_t p = 0; p < k; ++p) {
          double x = ta ? a.value(batch, p, i) : a.value(batch, i, p),
                 y = tb ? b.value(batch, j, p) : b.value(batch, p, j);
          sum += x * y, size += std::abs(x * y);
          if (gradientA && j == 0)
            gradients[size_t(i)] += x, gradientSlack[size_t(i)] += std::abs(x) * 1e-6;
          if (gradientB && i == 0)
            gradients[size_t(j)] += y, gradientSlack[size_t(j)] += std::abs(y) * 1e-6;
        }
        double factor = get(t.scale, alphaWas, alphaVector ? batch * scalarStride + i : 0) *
                        scaleA[vectors ? size_t(i) : 0] * scaleB[vectors ? size_t(j) : 0];
        double betaValue = get(t.scale, beta, betaVector ? batch * scalarStride + i : 0);
        double value = sum * factor + (betaValue != 0 ? betaValue * c.value(batch, i, j) : 0);
        size = size * std::abs(factor) + std::abs(value) + 1e-6;
        double slack = size * sumRounding * double(k + 8);
        if (bias)
          value += get(biasType, biasBytes, batch * biasStride + i);
        int64_t auxAtElement = batch * auxStride + i + j * auxLd;
        auto bit = [&](const Bytes &bytes) {
          return bytes[size_t(auxAtElement / 8)] >> (auxAtElement % 8) & 1;
        };
        if (relu) {
          if (hasAux && std::abs(value) > slack && bit(gotAux) != (value > 0) && ++failures < 4)
            ADD_FAILURE() << what << ": mask (" << i << ", " << j << ")";
          value = std::max(value, 0.0);
        } else if (isGelu) {
          if (hasAux) {
            double want = limit(t.d, value * scaleAux[0]);
            near(get(t.d, gotAux, auxAtElement), want,
                 slack * 4 + std::abs(want) * roundingOf(t.d) + smallest(t.d), "aux", i, j);
            auxAmax = std::max(auxAmax, std::abs(value));
          }
          value = gelu(value);
        } else if (dRelu) {
          value = bit(auxBytes) ? value : 0;
        } else if (dGelu) {
          double slope = geluSlope(get(t.d, auxBytes, auxAtElement));
          value *= slope, slack = slack * std::abs(slope) + 1e-8 * std::abs(value) + 1e-9;
        }
        if (gradient)
          gradients[size_t(i)] += value, gradientSlack[size_t(i)] += slack + std::abs(value) * 1e-6;
        amax = std::max(amax, std::abs(value));
        double want = limit(t.d, value * scaleD[0]);
        if (t.integer())
          slack += 0.5;
        near(get(t.d, gotD, d.at(batch, i, j)), want,
             slack * 4 + std::abs(want) * roundingOf(t.d) * 1.001 + smallest(t.d), "D", i, j);
        touched[size_t(d.at(batch, i, j))] = true;
      }
    if (gradient || gradientA || gradientB)
      for (int64_t i = 0; i < biasLength; ++i) {
        double want = gradients[size_t(i)];
        near(get(biasType, gotBias, batch * biasStride + i), want,
             gradientSlack[size_t(i)] * 2 + std::abs(want) * roundingOf(biasType) +
                 smallest(biasType) + 1e-6,
             "bias gradient", i, 0);
      }
  }
  if (amaxAt)
    near(get(CUDA_R_32F, device.download(amaxAt, 4), 0), amax, amax * 1e-3, "amax", 0, 0);
  if (auxAmaxAt)
    near(get(CUDA_R_32F, device.download(auxAmaxAt, 4), 0), auxAmax, auxAmax * 1e-3, "amax of aux",
         0, 0);
  // Between the columns nothing has changed.
  for (size_t i = 0; i < touched.size(); ++i)
    if (!touched[i] &&
        std::memcmp(&gotD[i * sizeOf(t.d)], &d.bytes[i * sizeOf(t.d)], sizeOf(t.d)) != 0 &&
        ++failures < 4)
      ADD_FAILURE() << what << ": element " << i << " beside the matrix D has changed";
}

class Matmul : public testing::TestWithParam<Types> {};
INSTANTIATE_TEST_SUITE_P(All, Matmul, testing::ValuesIn(allTypes),
                         [](const auto &info) { return std::string(info.param.name); });

TEST_P(Matmul, DrawnProducts) {
  const char *completions[] = {"late", "early", "random"};
  for (int part = 0; part < 3; ++part)
    EXPECT_TRUE(isClean(inProcess(
        [&] {
          for (uint64_t seed = 0; seed < 25; ++seed) {
            Device device;
            drawnProduct(device, GetParam(), seed + uint64_t(part) * 1000);
          }
        },
        {{"SOFTWARE_GPU_SEED", std::to_string(part)},
         {"SOFTWARE_GPU_COMPLETION", completions[part]}})));
}

} // namespace
