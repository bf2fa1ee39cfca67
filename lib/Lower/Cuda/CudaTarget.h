//===- CudaTarget.h - NVIDIA GPUs as a target ------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LIB_LOWER_CUDA_CUDATARGET_H
#define LLAMAC_LIB_LOWER_CUDA_CUDATARGET_H

#include "llamac/Lower/Target.h"

namespace mlir::llamac {

/// Attribute of an external global of a lowered block, what llrt_launch gets as kernel:
/// `{kernel = @K::@K, grid = [x, y, z], block = [x, y, z], shared = bytes, buffers = count}`,
/// where the launch has clusters also `cluster = [x, y, z]`, tensor maps `maps`, its own chips `chips`,
/// where it is of an attention `attention`.
inline constexpr llvm::StringLiteral kLaunchAttr = "llama.launch";
/// Attribute of a gpu.launch_func: its tensor maps (LlrtTensorMap), each one parameter more behind
/// the buffers: `[{argument = i, type = f32, sizes = [..], strides = [..], box = [..], swizzle = n}]`.
inline constexpr llvm::StringLiteral kTensorMapsAttr = "llama.tensor_maps";
/// Attribute of a gpu.launch_func that computes an attention: its form, direction and sizes, for
/// `info`: "mma forward: bf16, 2 x 192 queries, 192 keys, 32 heads on 8 of 128, causal".
inline constexpr llvm::StringLiteral kAttentionAttr = "llama.attention";

/// Attribute of a gpu.launch_func, `["sm_90a"]`: only for those chips; on others it is left out.
/// Without it: for all.
inline constexpr llvm::StringLiteral kChipsAttr = "llama.chips";

/// On a kernel (gpu.module), a unit: its blocks number themselves in the order in which they begin,
/// and wait only for those with lower numbers, which run already or are done.
inline constexpr llvm::StringLiteral kBegunInOrderAttr = "llama.begun_in_order";

/// Kernels and routines on NVIDIA GPUs (runtime/src/Cuda). `chips`: LLVM's names, as in
/// `sm_80,sm_90a`; empty is sm_90a. An error if LLVM or ptxas, where there is one, does not know
/// one of them, or one is older than sm_80.
llvm::Expected<std::shared_ptr<const Target>> makeCudaTarget(Lowering how, CpuTarget cpu,
                                                             StringRef chips);

} // namespace mlir::llamac

#endif // LLAMAC_LIB_LOWER_CUDA_CUDATARGET_H
