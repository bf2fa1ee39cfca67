//===- Kernels.h - What compiled blocks call --------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The functions that the code of a compiled block calls: loops or kernels, matrix
// products and attention. Every call site passes a constant description; all
// memory is the caller's. Each takes the stream that the block was given; on the
// host the work is done when the call returns, on a GPU it is put into the stream.
// They are called only with descriptions that the compiler made, so they report no
// errors. On the host a fault (no oneDNN for f32 or bf16, no OpenBLAS for f64) prints one
// message and ends the process with status 1; `llrt_host_library_error` lets `main` find
// out before any work is done. On a GPU the stream keeps the first error, which
// `Device::call` throws when the block returns.
//
// Each target has its own library with these functions: libllrt_host.a, libllrt_cuda.a.
//
// B batch, S queries, T keys, H query heads, K key and value heads, D head size
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_KERNELS_H
#define LLRT_KERNELS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Element types; the numbers are part of the interface with compiled code.
enum LlrtType : int64_t { LLRT_F32 = 0, LLRT_BF16 = 1, LLRT_F64 = 2, LLRT_I64 = 3 };

// A queue of work of one rank on its device: what is launched on it runs in order.
// Blocks get one and hand it on; they know nothing else of it.
typedef struct LlrtStream LlrtStream;

// A generated loop: does the rows [lo, hi) of a kernel whose buffers are `args`.
typedef void (*LlrtLoopBody)(void **args, int64_t lo, int64_t hi);

// Target host: the kernel of a loop over `n` rows.
struct LlrtKernel {
  LlrtLoopBody body;
  int64_t n, grain; // grain: the least number of rows worth a thread of its own, at least 1
};

// Target cuda: the code of a kernel for one chip.
struct LlrtImage {
  const char *chip; // `sm_80`, `sm_90a`
  const char *ptx;  // ends with a NUL, which `ptx_bytes` counts
  uint64_t ptx_bytes;
  const void *cubin; // of ptxas; null where there was none
  uint64_t cubin_bytes;
  int64_t registers, shared; // of a thread; static, of a block, in bytes. By ptxas, else -1
  int64_t stack, spills;     // bytes of a thread: local memory; what it stores and loads there for
                             // want of registers
};

// Target cuda: a buffer as a tensor that the copy engine (TMA) cuts boxes from, as
// cuTensorMapEncodeTiled takes it. Dimensions: innermost first. Outside of the tensor are zeros.
struct LlrtTensorMap {
  int64_t argument;   // of the launch: the buffer
  int64_t type;       // LlrtType
  int64_t rank;       // dimensions, 1 to 5
  int64_t sizes[5];   // in elements
  int64_t strides[4]; // in bytes, of dimensions 1 to rank - 1; multiples of 16
  int64_t box[5];     // in elements, each at most 256
  int64_t swizzle;    // bytes over which 16-byte pieces change places: 0 (none), 32, 64, 128
};

// Target cuda: a kernel and how it is launched. Parameters: a pointer for each of `buffers`
// arguments, then 128 bytes for each tensor map.
struct LlrtCudaKernel {
  const char *name;      // of the entry in all images
  const char *location;  // what it comes from, for messages
  const char *attention; // form and sizes of the attention that it computes; null: it is of none
  uint64_t image_count;  // at least 1; a chip without one leaves the launch out
  const struct LlrtImage *images;
  int64_t grid[3], block[3]; // x, y, z: blocks, threads of one
  int64_t cluster[3];        // blocks; 1, 1, 1: no clusters
  int64_t shared;            // bytes of dynamic shared memory
  int64_t buffers;
  uint64_t map_count;
  const struct LlrtTensorMap *maps;
  uint64_t key; // of the code: where it is the same, so are all images
};

// Target cuda: what each stream of products has for them beside the planned arenas.
#define LLRT_CUDA_WORKSPACE_BYTES ((int64_t)32 << 20)

// Puts `kernel`, a LlrtKernel or what the target has instead, into the stream with the
// buffers `args`, an array that need not outlive the call.
void llrt_launch(LlrtStream *stream, const void *kernel, void **args);

// C[m, n] = op(A)[m, k] * op(B)[k, n] (+ C if `accumulate`) (+ bias[n] if `bias`
// is not null). All matrices are dense, row-major. `transpose_a`: A is stored
// [k, m]. `transpose_b`: B is stored [n, k], the layout of a checkpoint's linear
// weight. A and B have `type`, C has `result_type`, bias has `type`.
// Types: (f32, f32), (bf16, bf16), (bf16, f32), (f64, f64). Sums are in f32 (f64
// for f64), the same bits for any number of threads. k is at least 1. A thread's first call with a description compiles it
// and grows its scratch memory; later calls only run it. Source: oneDNN matmul
// primitive (f32, bf16); OpenBLAS dgemm (f64). On a GPU: cublasLtMatmul, sums of one run the
// same bits in the next.
// `bias_gradient` (a GPU only): bias is not read but written, bias[m] = the sum over k of
// op(A)[m, k], whatever C is added to; f32, as C is then.
struct LlrtGemm {
  int64_t type, result_type, m, n, k, transpose_a, transpose_b, accumulate, bias_gradient;
};
void llrt_gemm(LlrtStream *stream, const struct LlrtGemm *gemm, const void *a, const void *b,
               void *bias, void *c);

// Which keys a query sees.
//   LLRT_MASK_CAUSAL   of the queries: mask0 positions [B, S], mask1 documents
//       [B, S]; of the keys: mask2 positions [B, T], mask3 documents [B, T].
//       A padded token carries document -1 - d instead of d. Query i sees key j
//       if key j is not padded, both belong to the same document (d) and key j's
//       position is at most query i's.
//   LLRT_MASK_ENCODER  mask0 tiles [B]: number of real tiles of each image; mask1
//       positions [S]: the token of its image that a query is. The tokens (the
//       keys, T = tile_count * tile_stride) are `tile_count` tiles of
//       `tile_stride` tokens, of which the first `tile_tokens` are real. A token
//       is invalid if its tile or itself is padding; invalid queries do not see
//       invalid keys, all else is seen.
//   LLRT_MASK_IMAGES   mask0 begin [B, S], mask1 end [B, S], mask2 tiles [B,
//       images]. Keys are [images][tile_count][tile_tokens]. Query i sees the
//       real tiles of images begin <= m < end. A query with begin >= end sees
//       every key, padded tiles too (spec section C, mask lowering).
// All mask data is i64; masks that are not named are not read. A query that sees no key at all (padding before the first
// token of its document, say) weighs all T keys alike, P = 1/T, and its scores get
// the gradient of a softmax at that P (what adding finfo.min to every score does in
// the reference implementation).
enum LlrtMask : int64_t { LLRT_MASK_CAUSAL = 0, LLRT_MASK_ENCODER = 1, LLRT_MASK_IMAGES = 2 };

struct LlrtAttention {
  int64_t type; // of q, k, v, out and their gradients; f32 or bf16
  int64_t batch, queries, keys, heads, kv_heads, head_size;
  int64_t mask, images, tile_count, tile_stride, tile_tokens;
  double scale; // > 0
};

// out[b,i,h,:] = sum_j P[b,h,i,j] v[b,j,h/(H/K),:], P = softmax_j(scale * q . k)
// over the keys that query i sees; lse[b,i,h] = log sum_j exp(scale * q . k) over
// the same keys, f32, so -inf for a query that sees none: the mark by which the
// backward knows it. q, out [B, S, H, D]; k, v [B, T, K, D]; lse [B, S, H]. Scores
// exist only one tile at a time. The same bits for any number of threads. Source: FlashAttention-2, algorithm 1 (arXiv 2307.08691).
void llrt_attention_forward(LlrtStream *stream, const struct LlrtAttention *attention,
                            const void *q, const void *k, const void *v, const int64_t *mask0,
                            const int64_t *mask1, const int64_t *mask2, const int64_t *mask3,
                            void *out, float *lse);

// Gradients of the above for the cotangent d_out [B, S, H, D]: d_q like q, d_k
// and d_v like k (summed over the query heads that share them), all overwritten.
// The same bits for any number of threads. Source: algorithm 2 of the same paper.
void llrt_attention_backward(LlrtStream *stream, const struct LlrtAttention *attention,
                             const void *d_out, const void *q, const void *k, const void *v,
                             const int64_t *mask0, const int64_t *mask1, const int64_t *mask2,
                             const int64_t *mask3, const void *out, const float *lse, void *d_q,
                             void *d_k, void *d_v);

// Null if the libraries for `type` (LlrtType) can be used on this machine, else
// what is missing and which Debian package brings it.
const char *llrt_host_library_error(int64_t type);

#ifdef __cplusplus
}
#endif
#endif // LLRT_KERNELS_H
