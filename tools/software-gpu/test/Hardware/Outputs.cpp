//===- Outputs.cpp - What the witness kernels write, on any driver --------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//   software-gpu-outputs <libcuda.so.1> <folder of witnesses> <folder for outputs>
// Runs every kernel of test/ptx/witnesses that has no fault, and single tensor-core instructions of many types,
// on device 0 of the library, and writes what each leaves in memory to a file: compare.sh compares two such folders.
// Exit status: 77, there is no driver or no device; 1, a call failed; 2, wrong arguments.
//===----------------------------------------------------------------------===//
#include "Support/Random.h"
#include "abi/cuda.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

using namespace sgpu::abi;

namespace {

void *library;
std::string running = "start";

void check(CUresult result, const char *call) {
  if (result == CUDA_SUCCESS)
    return;
  std::printf("%s: %s gives error %d\n", running.c_str(), call, int(result));
  std::exit(1);
}
template <typename F> F *function(const char *name) {
  auto *f = reinterpret_cast<F *>(dlsym(library, name));
  if (!f) {
    std::printf("the library has no %s\n", name);
    std::exit(1);
  }
  return f;
}
#define CALL(name, ...) check(function<decltype(name)>(#name)(__VA_ARGS__), #name)

using Bytes = std::vector<uint8_t>;
template <typename T> Bytes bytesOf(const std::vector<T> &v) {
  Bytes b(v.size() * sizeof(T));
  std::memcpy(b.data(), v.data(), b.size());
  return b;
}

/// bf16 around zero: multiples of 1/1024, or any exponents.
std::vector<uint16_t> halves(size_t n, uint64_t seed, bool wide = false) {
  sgpu::Random random(seed);
  std::vector<uint16_t> v(n);
  for (uint16_t &x : v) {
    float f = float(int(random.below(2001)) - 1000) / 1024;
    if (wide)
      f = std::ldexp(f, int(random.below(40)) - 20);
    uint32_t bits;
    std::memcpy(&bits, &f, 4);
    x = uint16_t(bits >> 16);
  }
  return v;
}
std::vector<float> floats(size_t n, uint64_t seed) {
  sgpu::Random random(seed);
  std::vector<float> v(n);
  for (float &x : v)
    x = float(int(random.below(2001)) - 1000) / 1024;
  return v;
}

struct Kernel {
  std::string file, name; ///< file: in the folder of witnesses; empty name: the only kernel
  unsigned grid[3] = {1, 1, 1}, block = 128, shared = 0;
};

class Machine {
public:
  Machine(std::string witnesses, std::string outputs)
      : witnesses(std::move(witnesses)), outputs(std::move(outputs)) {}

  CUdeviceptr upload(const Bytes &bytes) {
    CUdeviceptr p = 0;
    CALL(cuMemAlloc_v2, &p, bytes.size());
    CALL(cuMemcpyHtoD_v2, p, bytes.data(), bytes.size());
    buffers.push_back(p);
    return p;
  }
  template <typename T> CUdeviceptr upload(const std::vector<T> &v) { return upload(bytesOf(v)); }
  /// A buffer whose bytes go into the file.
  CUdeviceptr output(size_t bytes, int fill = 0) {
    CUdeviceptr p = upload(Bytes(bytes, uint8_t(fill)));
    written.push_back({p, bytes});
    return p;
  }
  CUtensorMap map(CUdeviceptr at, uint64_t inner, uint64_t outer, uint32_t boxInner,
                  uint32_t boxOuter) {
    CUtensorMap m;
    cuuint64_t extent[] = {inner, outer}, stride[] = {inner * 2};
    cuuint32_t box[] = {boxInner, boxOuter}, step[] = {1, 1};
    CALL(cuTensorMapEncodeTiled, &m, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2,
         reinterpret_cast<void *>(at), extent, stride, box, step, CUtensorMapInterleave(0),
         CU_TENSOR_MAP_SWIZZLE_128B, CUtensorMapL2promotion(0), CUtensorMapFloatOOBfill(0));
    return m;
  }
  /// Runs a kernel and writes the outputs to `<label>.bin`.
  template <typename... Args> void run(const std::string &label, const Kernel &k, Args... args) {
    std::ifstream in(witnesses + "/" + k.file);
    std::string text{std::istreambuf_iterator<char>(in), {}};
    runText(label, text, k, args...);
  }
  template <typename... Args>
  void runText(const std::string &label, const std::string &text, const Kernel &k, Args... args) {
    running = label;
    std::string name = k.name;
    if (name.empty()) {
      size_t at = text.find(".entry ") + 7;
      name = text.substr(at, text.find_first_of("( \n", at) - at);
    }
    CUmodule module;
    CUfunction f;
    CALL(cuModuleLoadData, &module, text.c_str());
    CALL(cuModuleGetFunction, &f, module, name.c_str());
    if (k.shared > 48 * 1024)
      CALL(cuFuncSetAttribute, f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, int(k.shared));
    void *list[] = {&args...};
    CALL(cuLaunchKernel, f, k.grid[0], k.grid[1], k.grid[2], k.block, 1, 1, k.shared, nullptr, list,
         nullptr);
    CALL(cuCtxSynchronize, );
    std::ofstream out(outputs + "/" + label + ".bin", std::ios::binary);
    for (auto [p, bytes] : written) {
      Bytes b(bytes);
      CALL(cuMemcpyDtoH_v2, b.data(), p, bytes);
      out.write(reinterpret_cast<const char *>(b.data()), std::streamsize(bytes));
    }
    CALL(cuModuleUnload, module);
    for (CUdeviceptr p : buffers)
      CALL(cuMemFree_v2, p);
    buffers.clear(), written.clear();
    ++done;
  }
  int done = 0;

private:
  std::string witnesses, outputs;
  std::vector<CUdeviceptr> buffers;
  std::vector<std::pair<CUdeviceptr, size_t>> written;
};

/// A kernel of one warp: out[lane] = one mma of the words in[lane]; `d`, `a`, `b`, `c` words of each.
std::string mmaText(const std::string &name, int d, int a, int b, int c) {
  std::string s = ".version 8.4\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 "
                  "in, .param .u64 out) {\n"
                  ".reg .b32 %r<64>; .reg .b64 %rd<8>;\nmov.u32 %r0, %tid.x;\nld.param.u64 %rd0, "
                  "[in];\nld.param.u64 %rd1, [out];\n";
  int all = a + b + c, next = 1;
  s += "mul.wide.u32 %rd2, %r0, " + std::to_string(4 * all) + ";\nadd.u64 %rd0, %rd0, %rd2;\n";
  s += "mul.wide.u32 %rd2, %r0, " + std::to_string(4 * d) + ";\nadd.u64 %rd1, %rd1, %rd2;\n";
  for (int i = 0; i < all; ++i)
    s += "ld.global.b32 %r" + std::to_string(1 + i) + ", [%rd0+" + std::to_string(4 * i) + "];\n";
  auto list = [&](int n, int first) {
    std::string t = "{";
    for (int i = 0; i < n; ++i)
      t += (i ? ", %r" : "%r") + std::to_string(first + i);
    return t + "}";
  };
  std::string va = list(a, next), vb = list(b, next + a), vc = list(c, next + a + b),
              vd = list(d, 40);
  s += "mma.sync.aligned." + name + " " + vd + ", " + va + ", " + vb + ", " + vc + ";\n";
  for (int i = 0; i < d; ++i)
    s += "st.global.b32 [%rd1+" + std::to_string(4 * i) + "], %r" + std::to_string(40 + i) + ";\n";
  return s + "ret;\n}\n";
}

/// Four warps: out[thread] = a wgmma m64n8 of 2304 bytes of shared memory, accumulators from `in` too.
std::string wgmmaText(const std::string &name, int d, bool transposes) {
  std::string regs = "{";
  for (int i = 0; i < d; ++i)
    regs += (i ? ", %r" : "%r") + std::to_string(10 + i);
  regs += "}";
  std::string s = R"(.version 8.4
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 in, .param .u64 out) {
.shared .align 128 .b8 sm[2304];
.reg .b32 %r<20>; .reg .b64 %rd<16>; .reg .pred %p<4>;
mov.u32 %r0, %tid.x;
ld.param.u64 %rd0, [in];
ld.param.u64 %rd1, [out];
mov.u32 %r1, sm;
mov.u32 %r2, %r0;
L:
mul.wide.u32 %rd2, %r2, 4;
add.u64 %rd2, %rd0, %rd2;
ld.global.b32 %r3, [%rd2];
shl.b32 %r4, %r2, 2;
add.u32 %r4, %r1, %r4;
st.shared.b32 [%r4], %r3;
add.u32 %r2, %r2, 128;
setp.lt.u32 %p0, %r2, 576;
@%p0 bra L;
fence.proxy.async.shared::cta;
bar.sync 0;
shr.u32 %r4, %r1, 4;
cvt.u64.u32 %rd3, %r4;
or.b64 %rd3, %rd3, 68720001024;
add.u64 %rd4, %rd3, 128;
setp.eq.u32 %p1, %r0, %r0;
mul.wide.u32 %rd5, %r0, )" +
                  std::to_string(4 * d) +
                  ";\nadd.u64 %rd6, %rd0, %rd5;\nadd.u64 %rd1, %rd1, %rd5;\n";
  for (int i = 0; i < d; ++i)
    s += "ld.global.b32 %r" + std::to_string(10 + i) + ", [%rd6+" + std::to_string(2304 + 4 * i) +
         "];\n";
  s += "wgmma.fence.sync.aligned;\nwgmma.mma_async.sync.aligned." + name + " " + regs +
       ", %rd3, %rd4, %p1, 1, 1" + (transposes ? ", 0, 0" : "") +
       ";\nwgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n";
  for (int i = 0; i < d; ++i)
    s += "st.global.b32 [%rd1+" + std::to_string(4 * i) + "], %r" + std::to_string(10 + i) + ";\n";
  return s + "ret;\n}\n";
}

/// Words for tensor cores: any bits (`kind` 0), or 16-bit or 8-bit elements of like size.
std::vector<uint32_t> words(size_t n, int kind, uint64_t seed) {
  sgpu::Random random(seed);
  std::vector<uint32_t> v(n);
  for (uint32_t &x : v) {
    x = uint32_t(random.next());
    if (kind == 1) // exponents of moderate size in f16, bf16, tf32 and both f8
      x = (x & 0x87ff87ff) | 0x38003800;
  }
  return v;
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: %s <libcuda.so.1> <folder of witnesses> <folder for outputs>\n",
                 argv[0]);
    return 2;
  }
  library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    std::printf("no driver: %s\n", dlerror());
    return 77;
  }
  int devices = 0;
  if (function<decltype(cuInit)>("cuInit")(0) != CUDA_SUCCESS ||
      function<decltype(cuDeviceGetCount)>("cuDeviceGetCount")(&devices) != CUDA_SUCCESS ||
      !devices) {
    std::printf("no device: %s loads, but has none\n", argv[1]);
    return 77;
  }
  CUdevice device;
  CUcontext context;
  int major = 0, minor = 0;
  CALL(cuDeviceGet, &device, 0);
  CALL(cuDeviceComputeCapability, &major, &minor, device);
  if (major != 9) {
    std::printf("no device of sm_90: device 0 has compute capability %d.%d\n", major, minor);
    return 77;
  }
  CALL(cuDevicePrimaryCtxRetain, &context, device);
  CALL(cuCtxSetCurrent, context);
  std::filesystem::create_directories(argv[3]);
  Machine m(argv[2], argv[3]);
  CUdeviceptr none = 0;

  for (const char *chip : {"80", "90"}) {
    std::string sm = std::string(".sm") + chip;
    bool hopper = sm == ".sm90";
    for (int n : {1, 1000, 5000}) {
      CUdeviceptr x = m.upload(floats(n, 1)), y = m.upload(floats(n, 2)), o = m.output(4 * n);
      m.run("vadd" + sm + "." + std::to_string(n),
            {"triton/vadd_f32" + sm + ".ptx", "vadd", {unsigned(n + 1023) / 1024, 1, 1}}, x, y, o,
            n, none, none);
    }
    for (int cols : {16, 1008, 2048}) {
      CUdeviceptr x = m.upload(halves(5 * cols, 3)), w = m.upload(halves(cols, 4)),
                  o = m.output(10 * cols);
      std::ifstream in(std::string(argv[2]) + "/triton/rmsnorm_bf16" + sm + ".ptx");
      std::string text{std::istreambuf_iterator<char>(in), {}};
      unsigned block = unsigned(std::stoul(text.substr(text.find(".reqntid") + 9)));
      m.run("rmsnorm" + sm + "." + std::to_string(cols),
            {"triton/rmsnorm_bf16" + sm + ".ptx", "", {5, 1, 1}, block, 64}, x, w, o, cols, 1e-5f,
            none, none);
    }
    for (auto [rows, n, k] : {std::tuple{128, 128, 64}, {144, 160, 208}}) {
      CUdeviceptr a = m.upload(halves(rows * k, 1)), b = m.upload(halves(k * n, 2)),
                  c = m.output(2 * rows * n);
      m.run("matmul" + sm + "." + std::to_string(rows),
            {"triton/matmul_bf16" + sm + ".ptx",
             "matmul",
             {unsigned(rows + 127) / 128, unsigned(n + 127) / 128, 1},
             hopper ? 256u : 128u,
             hopper ? 98304u : 65536u},
            a, b, c, rows, n, k, k, n, n, none, none);
    }
    for (int t : {64, 200}) {
      unsigned rows = hopper ? 128 : 64;
      CUdeviceptr q = m.upload(halves(2 * t * 64, 1)), k = m.upload(halves(2 * t * 64, 2)),
                  v = m.upload(halves(2 * t * 64, 3));
      CUdeviceptr o = m.output(4 * t * 64), lse = m.output(8 * t);
      m.run("flash" + sm + "." + std::to_string(t),
            {"triton/flash_causal_bf16" + sm + ".ptx",
             "flash_fwd",
             {(t + rows - 1) / rows, 2, 1},
             128,
             hopper ? 49152u : 24576u},
            q, k, v, o, lse, t, 0.125f, none, none);
    }
  }
  for (auto [rows, n, k] : {std::tuple{128, 128, 64}, {128, 256, 320}}) {
    CUdeviceptr a = m.upload(halves(rows * k, 1)), b = m.upload(halves(n * k, 2)),
                c = m.output(2 * rows * n);
    m.run("matmul_tma." + std::to_string(n),
          {"triton/matmul_tma_bf16.sm90.ptx",
           "matmul_tma",
           {unsigned(rows / 128), unsigned(n / 128), 1},
           128,
           98328},
          m.map(a, k, rows, 64, 128), rows, k, int64_t(k), int64_t(1), m.map(b, k, n, 64, 128), n,
          k, int64_t(k), int64_t(1), m.map(c, n, rows, 64, 128), rows, n, int64_t(n), int64_t(1),
          rows, n, k, none, none);
  }
  const std::string k80 = "nvcc/k80.sm80.ptx", k90 = "nvcc/k90.sm90a.ptx";
  for (bool wide : {false, true}) {
    std::string kind = wide ? ".wide" : "";
    for (const char *kernel : {"wgmma_ss_kmajor", "wgmma_ss_nmajor", "wgmma_rs"}) {
      CUdeviceptr a = m.upload(halves(64 * 64, 1, wide)), b = m.upload(halves(64 * 64, 2, wide)),
                  c = m.output(4 * 64 * 64);
      m.run(kernel + kind, {k90, kernel}, a, b, c);
    }
    int rows = 32, n = 48, k = 64;
    CUdeviceptr a = m.upload(halves(rows * k, 1, wide)), b = m.upload(halves(k * n, 2, wide)),
                c = m.output(4 * rows * n);
    m.run("wmma_bf16" + kind, {k80, "wmma_bf16", {unsigned(n / 16), unsigned(rows / 16), 1}, 32}, a,
          b, c, rows, n, k);
    rows = 128, n = 64, k = 160;
    a = m.upload(halves(rows * k, 1, wide)), b = m.upload(halves(n * k, 2, wide)),
    c = m.output(2 * rows * n);
    m.run("mma_pipe_bf16" + kind,
          {k80, "mma_pipe_bf16", {unsigned(n / 64), unsigned(rows / 64), 1}}, a, b, c, rows, n, k);
  }
  for (int k : {64, 576}) {
    int rows = 256, n = 128;
    CUdeviceptr a = m.upload(halves(rows * k, 1)), b = m.upload(halves(n * k, 2)),
                c = m.output(2 * rows * n);
    m.run("gemm_ws." + std::to_string(k),
          {k90,
           "gemm_ws",
           {unsigned(rows / 128), unsigned(n / 64), 1},
           384,
           (4 * 128 * 64 + 4 * 64 * 64 + 128 * 64) * 2},
          m.map(a, k, rows, 64, 64), m.map(b, k, n, 64, 32), m.map(c, n, rows, 64, 64), k);
  }
  {
    std::vector<float> whole(1536);
    for (size_t i = 0; i < whole.size(); ++i)
      whole[i] = float(i % 7); // sums are exact in any order
    CUdeviceptr x = m.upload(floats(1024, 1)), y = m.output(4096);
    m.run("dsmem_sum", {k90, "dsmem_sum", {8, 1, 1}}, x, y);
    x = m.upload(whole), y = m.output(16);
    CUdeviceptr h = m.output(8), z = m.output(512);
    m.run("vec_red", {k90, "vec_red", {3, 1, 1}}, x, y, h, z);
    x = m.upload(floats(3072, 1)), y = m.output(3072 * 4);
    m.run("bulk_1d", {k90, "bulk_1d", {3, 1, 1}, 256}, x, y);
    x = m.upload(floats(3072, 1)), y = m.output(3072 * 4);
    m.run("barrier_copy", {k80, "barrier_copy", {3, 1, 1}, 256}, x, y);
    x = m.upload(floats(2 * 5 * 512, 1)), y = m.output(2 * 5 * 512 * 4);
    m.run("pipe_copy", {k80, "pipe_copy", {2, 1, 1}}, x, y, 5);
    x = m.upload(whole), y = m.output(8), z = m.output(128);
    m.run("cg_reduce", {k80, "cg_reduce", {3, 1, 1}, 96}, x, y, z, 1500);
    x = m.upload(floats(200, 6)), y = m.output(17 * 200 * 4);
    m.run("math_cov", {k80, "math_cov", {2, 1, 1}}, x, y, 200);
    x = m.upload(floats(1024, 1)), y = m.output(4096);
    m.run("bad_bank", {k80, "bad_bank", {1, 1, 1}, 1024}, x, y); // slow, but right
  }
  for (int n : {255, 1000}) {
    std::string label = "." + std::to_string(n), c80 = "other/c80.sm80.ptx";
    unsigned blocks = unsigned(n + 255) / 256;
    std::vector<float> whole(n, 3);
    CUdeviceptr x = m.upload(floats(n, 1)), y = m.output(4 * n);
    m.run("clang_saxpy" + label, {c80, "saxpy", {blocks, 1, 1}, 256}, 2.5f, x, y, n);
    x = m.upload(whole), y = m.output(4);
    m.run("clang_block_sum" + label, {c80, "block_sum", {blocks, 1, 1}, 256}, x, y, n);
    uint64_t zero = 0, items = uint64_t(n), four = 4, one = 1;
    x = m.upload(floats(n, 1)), y = m.output(4 * n);
    m.run("numba_saxpy" + label, {"other/saxpy.sm80.ptx", "", {blocks, 1, 1}, 256}, 2.5f, zero,
          zero, items, four, x, items, four, zero, zero, items, four, y, items, four);
    x = m.upload(whole), y = m.output(4);
    m.run("numba_blocksum" + label, {"other/blocksum.sm90.ptx", "", {blocks, 1, 1}, 256}, zero,
          zero, items, four, x, items, four, zero, zero, one, four, y, one, four);
  }
  {
    std::vector<int> ints(128, 7);
    CUdeviceptr x = m.upload(ints), y = m.output(512);
    m.run("clang_warp_scan", {"other/c80.sm80.ptx", "warp_scan"}, x, y);
  }
  // Single instructions of the tensor cores: any bits (NaN and infinity too), and numbers of like size.
  struct Form {
    const char *name;
    int d, a, b, c;
  };
  const Form forms[] = {{"m16n8k16.row.col.f32.bf16.bf16.f32", 4, 4, 2, 4},
                        {"m16n8k8.row.col.f32.bf16.bf16.f32", 4, 2, 1, 4},
                        {"m16n8k16.row.col.f32.f16.f16.f32", 4, 4, 2, 4},
                        {"m16n8k16.row.col.f16.f16.f16.f16", 2, 4, 2, 2},
                        {"m16n8k8.row.col.f32.tf32.tf32.f32", 4, 4, 2, 4},
                        {"m16n8k32.row.col.f32.e4m3.e4m3.f32", 4, 4, 2, 4},
                        {"m16n8k32.row.col.f32.e5m2.e4m3.f32", 4, 4, 2, 4},
                        {"m16n8k32.row.col.s32.s8.u8.s32", 4, 4, 2, 4},
                        {"m16n8k32.row.col.satfinite.s32.u8.s8.s32", 4, 4, 2, 4}};
  const Form groups[] = {
      {"m64n8k16.f32.bf16.bf16", 4, 1, 0, 0}, {"m64n8k16.f32.f16.f16", 4, 1, 0, 0},
      {"m64n8k16.f16.f16.f16", 2, 1, 0, 0},   {"m64n8k8.f32.tf32.tf32", 4, 0, 0, 0},
      {"m64n8k32.f32.e4m3.e4m3", 4, 0, 0, 0}, {"m64n8k32.f32.e5m2.e4m3", 4, 0, 0, 0},
      {"m64n8k32.f16.e4m3.e5m2", 2, 0, 0, 0}};
  for (int kind : {0, 1})
    for (int draw = 0; draw < 8; ++draw) {
      std::string label = std::string(kind ? ".like" : ".any") + std::to_string(draw);
      for (const Form &f : forms) {
        CUdeviceptr in = m.upload(words(32 * size_t(f.a + f.b + f.c), kind, uint64_t(draw + 1))),
                    out = m.output(128 * size_t(f.d));
        m.runText(std::string("mma.") + f.name + label, mmaText(f.name, f.d, f.a, f.b, f.c),
                  {"", "k", {1, 1, 1}, 32}, in, out);
      }
      for (const Form &f : groups) {
        CUdeviceptr in = m.upload(words(576 + 128 * size_t(f.d), kind, uint64_t(draw + 1))),
                    out = m.output(512 * size_t(f.d));
        m.runText(std::string("wgmma.") + f.name + label, wgmmaText(f.name, f.d, f.a), {"", "k"},
                  in, out);
      }
    }
  std::printf("%d outputs in %s\n", m.done, argv[3]);
}
