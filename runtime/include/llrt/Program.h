//===- Program.h - What an executable carries ------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The compiler emits one object file with the native code of the blocks and one
// `llrt_program`. The runtime library holds `main`.
//
// A block is a function of buffer addresses: first its arguments in order, then
// its results, last its scratch memory. Blocks keep no state.
//
// `text` is the program as JSON; the arenas, addresses and actions in it are the
// ones that the compiler planned. An address is `[arena, byte offset]`, the arena
// an index into `arenas`. Types are `f32`, `bf16`, `f64`, `i64`.
//
//   {
//     "version": 1,
//     "options": {"batch": 2, "text_length": 16, "images": 1, "micro_batches": 2,
//                 "precision": "bf16", "lower": "fast", "trainable": "all", ...},
//     "model": {"model_type": "mllama", "vocabulary": 512, "extra_rows": 8,
//               "image_token": 512, "begin_token": 500, "end_tokens": [501],
//               "pad_token": 504, "tile_size": 42, "tiles": 4,
//               "initializer_range": 0.02, "hash": "sha or fnv of the program"},
//     "operations": {"forward": N, "step": N},    floating-point operations of all
//                                                 micro-batches of one call
//     "arenas": [{"name": "parameters", "bytes": N}, ...],
//     "parameters": [{
//        "name": "model.embed_tokens.weight", "checkpoint_key": the key in files,
//        "checkpoint_shape": [520, 128], "row_begin": 0, "row_end": 512,
//        "type": "bf16", "elements": N, "trainable": true,
//        "initializer": "normal" | "ones" | "zeros" | "gate",
//        "address": [arena, offset],             storage type; read by blocks
//        "master": [arena, offset],              only if trainable; f32 (f64)
//        "gradient": [..], "gradient_type": "f32" ("bf16" only if asked for),
//        "moment1": [..], "moment2": [..]}],
//     "inputs": [{"name": "input_ids", "type": "i64", "shape": [2, 16],
//                 "address": [arena, offset]}],  one micro-batch
//     "graphs": {"step": {"calls": [{"block": "self_layer.forward",
//                                    "buffers": [[arena, offset], ...]}, ...],
//                         "outputs": {"loss": {"type", "shape", "address"}}},
//                "forward": {..., "outputs": {"loss": .., "logits": ..}}},
//     "programs": {"step": [{"action": "run", "graph": "step", "micro_batch": 0}, ...,
//                           {"action": "gradient_norm", "block": "gradient_norm",
//                            "buffers": [...], "result": [arena, offset]},
//                           {"action": "update", "block": "adamw", "buffers": [...],
//                            "hyperparameters": [arena, offset]}],
//                  "forward": [{"action": "run", "graph": "forward",
//                               "micro_batch": 0}, ...]}
//   }
//
// A step starts with gradients all zero; `run` adds to them. Output `loss` is the
// sum over the valid tokens of the micro-batch, [1], f32 (f64 under f64).
// Input `loss_gradient` [1] is 1 / (valid tokens of the whole batch), 0 if there
// are none. `gradient_norm` writes the sum of squares of all gradients, [1].
// `hyperparameters` is f32 (f64) [8]: gradient scale (clipping), learning rate,
// beta1, beta2, epsilon, weight decay, 1 - beta1^t, 1 - beta2^t.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_PROGRAM_H
#define LLRT_PROGRAM_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef void (*LlrtBlock)(void **buffers);

struct LlrtProgram {
  const char *text;               // JSON, `text_bytes` long
  uint64_t text_bytes;
  uint64_t block_count;
  const char *const *block_names; // as in "block" above
  const LlrtBlock *blocks;
  const char *cpu;                // LLVM's name of the CPU that the blocks need
  const char *const *cpu_features; // e.g. "avx512f"; null ends the list
};

extern const struct LlrtProgram llrt_program;

#ifdef __cplusplus
}
#endif
#endif // LLRT_PROGRAM_H
