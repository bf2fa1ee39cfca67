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
// A block is a function of a stream, to which it gives its work (Kernels.h), and of
// buffer addresses: first its arguments in order, then its results, last its scratch
// memory. Blocks keep no state.
//
// `text` is the program as JSON; the arenas, addresses and actions in it are the
// ones that the compiler planned. An address is `[arena, byte offset]`, the arena
// an index into `arenas` of the stage; within a graph also `[-1 - f, byte offset]`,
// a byte of frame f of the run. Types are `f32`, `bf16`, `f64`, `i64`.
//
//   {
//     "version": 4,
//     "options": {"batch": 2, "text_length": 16, "images": 1, "micro_batches": 2,
//                 "precision": "bf16", "lower": "fast", "trainable": "all", ...},
//     "model": {"model_type": "mllama", "vocabulary": 512, "extra_rows": 8,
//               "image_token": 512, "begin_token": 500, "end_tokens": [501],
//               "pad_token": 504, "tile_size": 42, "tiles": 4,
//               "initializer_range": 0.02, "hash": "sha or fnv of the program",
//               "carried": ["vision_model.", ...],  beginnings of keys that checkpoints
//                                                 have and the program does not read
//               "computation": {"feature_taps": "input", ...},   what is computed with
//                                                 the weights beside their shapes: names
//                                                 and values; checkpoints carry it too
//               "config": "the text of its config.json; absent: not known"},
//     "operations": {"forward": N, "step": N},    floating-point operations of all
//                                                 micro-batches of one call
//     "certificate": {"programs": {"step": {"actions": N, "communicators": N,
//                     "launch_queue": N, ...}, ...}, "gradient_reductions": N, ...},
//                                                 what the compiler proved, for `info`;
//                                                 absent: nothing
//     "logits": [{"block": "head.forward", "chunk": 1024, "rows": 4096}, ...],
//                                                 of each block that has logits: how many
//                                                 tokens' exist together, of how many of a rank
//     "axes": [{"name": "dp", "size": 2}, ...],   outermost first; a rank is the
//                                                 row-major index of its coordinates
//     "communicators": [
//        {"name": "tp", "axes": ["tp"]},          a group for each value of the other
//                                                 coordinates; members by rank
//        {"name": "forward 0 to 1", "edge": [0, 1],   two ranks: 0 and 1 on axis pp,
//                                                 all else equal
//         "multiprocessors": 4, "bytes": N}],     on a device: that its calls hold at most while
//                                                 they wait; memory beside the arenas, at most
//     "stages": [STAGE, ...],                     one for each coordinate of axis pp:
//                                                 all that its ranks have
//     "locations": ["self_layer of model.layers.3", ...]   what actions come from
//   }
//
// Lists of axes name them outermost first. A tensor's `split` has one list for each
// dimension: the axes that split it into contiguous equal parts, of which a rank has
// the one with the row-major index of its coordinates. Without `split` it is whole.
//
// STAGE:
//   {
//     "arenas": [{"name": "parameters", "bytes": {"step": N, "forward": M}}, ...],
//                                                what each program needs of it; a program
//                                                that is not named needs none
//     "reserves": {"product_streams": [0],        on a device: the streams on which blocks have
//                  "product_bytes": N},           products, and the memory that these have beside
//                                                 the arenas, all together
//     "parameters": [{
//        "name": "model.embed_tokens.weight", "checkpoint_key": the key in files,
//        "checkpoint_shape": [520, 128], "row_begin": 0, "row_end": 512,
//        "shape": [512, 128],                    of the whole parameter; if larger than
//                                                rows and checkpoint_shape, padded
//        "split": [["tp"], []],
//        "type": "bf16", "elements": N,          of this rank's part
//        "trainable": true,
//        "initializer": "normal" | "ones" | "zeros" | "gate",
//        "address": [arena, offset],             storage type; read by blocks
//        "master": [arena, offset],              only if trainable; f32 (f64)
//        "gradient": [..], "gradient_type": "f32" ("bf16" only if asked for),
//        "moment1": [..], "moment2": [..],
//        "shard": {"axis": "dp", "begin": N, "elements": L, "storage": false}}],
//
//        `shard`, if there: master, gradient and moments hold a part of a flat unit
//        of L elements, of which element N + e is element e of this rank's part of
//        the parameter. Coordinate c of n has elements c*L/n to (c+1)*L/n of the
//        unit, and the addresses are where these begin. `storage`: so are the
//        weights and their address.
//
//     "inputs": [{"name": "input_ids", "type": "i64", "shape": [2, 16],
//                 "address": [arena, offset], "split": [[], ["cp"]],
//                 "images": {"axes": ["pp", "tp"], "group": 2}}],
//     "sums": ADDRESS,                         two f64, to be read when a program is over:
//                                              of all ranks the sum of the losses of valid
//                                              tokens, of the squares of the gradient
//     "graphs": {"step": {
//        "frames": [{"name": "residuals", "bytes": N}],  memory given by the run
//        "inputs": ["input_ids", ...],           filled before the run
//        "items": [ACTION, ...],
//        "outputs": {"loss": {"type", "shape", "address", "split",
//                             "partial": ["cp"]}}}},   the axes to sum over
//     "programs": {"step": [ACTION, ...], "forward": [ACTION, ...]}
//   }
//
// An input holds the data of one micro-batch of its coordinate on axis dp: sample i
// of micro-batch m is sample (dp * M + m) * batch + i of the global batch, M the
// micro-batches of a step. Where axis cp has n > 1 ranks, the S tokens of text inputs
// are in the order of 2n chunks 0, 2n-1, 1, 2n-2, ..., and `split` splits that order;
// labels are of the next token of the sequence as it was before. Inputs:
//
//   input_ids, labels, positions, documents,
//   key_positions, key_documents, image_begin, image_end    i64 [batch, S]
//   tiles, aspect_ratio_ids    i64 [batch, images]
//   pixels                     [batch, images, tiles, 3, tile_size, tile_size]
//   image_positions            i64 [1, T]: 0, 1, .. T-1
//   vocabulary_bias            [V'] 0, behind the vocabulary -1e30
//   table_ids                  i64 [batch, S] input_ids, behind the vocabulary -1
//   logit_tokens               i64 [batch, K] numbers in that order of the tokens whose logits
//                              are an output, -1 for none
//   loss_gradient              [1] 1 / (valid tokens of the global batch) or 0
//   coordinate:tp,tpr          i64 [1]: row-major index on these axes
//
// Inputs that no graph lists are read by entries and filled before a program begins:
//
//   hyperparameters            f64 [8]: clip (0: never), learning rate, beta1, beta2,
//                              epsilon, weight decay, 1 - beta1^t, 1 - beta2^t
//   once:tp,tpr                f64 [1]: 1 on ranks with coordinate 0 on these axes (which may
//                              be none), else 0: all ranks on them have the same, one counts
//
// With `images` the first dimension counts the images of `group` consecutive
// micro-batches (in order of micro-batch, sample, image), split over `axes` after it
// is filled up with images that are not there; `micro_batch` of the run is then the
// number of the group. An input `encoder:NAME` is as NAME: so a stage has both.
//
// ACTION: {"do": ..., "stream": 0, "after": [i, ...], "location": i}, and what Actions.def says.
// `location` (default none): for messages, the index of a text in `locations`. `stream` (default
// 0): the actions of a stream are done one after the other, in order. `after`: indices of earlier
// actions of the same list that are done before this one starts. An item runs in the stream that
// it names, within the time of its run, which occupies its own stream until all items are done.
//
// Runs add to gradients; a program sets them to zero first. `loss` is a sum over valid
// tokens, [1], f32 (f64 under f64). Entries add it to `sums` after each run that gives it, and
// the squares of the gradient, by blocks; an all_reduce over all ranks follows. A block makes
// of `sums` and `hyperparameters` what the update reads: where a sum is not finite, it leaves
// weights and optimizer as they are.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_PROGRAM_H
#define LLRT_PROGRAM_H

#include "Kernels.h"

#include <stdint.h>

// The most ranks that a program may be for: above it a product of sizes would be no
// number of ranks. The compiler and the runtime check it.
#define LLRT_MOST_RANKS ((int64_t)1 << 24)

#ifdef __cplusplus
extern "C" {
#endif

typedef void (*LlrtBlock)(LlrtStream *stream, void **buffers);

// Target cuda: what a call of a block puts into its stream.
struct LlrtBlockWork {
  LlrtBlock block;
  uint64_t launch_count;
  const struct LlrtCudaKernel *const *launches; // in their order
  uint64_t product_count;                       // matrix products
};

// Target cuda: all kernels that blocks launch.
struct LlrtDeviceCode {
  uint64_t kernel_count;
  const struct LlrtCudaKernel *const *kernels;
  const char *const *chips; // that there is code for; null ends the list
  uint64_t block_count;
  const struct LlrtBlockWork *blocks; // of which code is different
};

struct LlrtProgram {
  const char *text; // JSON, `text_bytes` long
  uint64_t text_bytes;
  uint64_t block_count;
  const char *const *block_names; // as in "block" above
  const LlrtBlock *blocks;
  const char *cpu;                     // LLVM's name of the CPU that the blocks need
  const char *const *cpu_features;     // e.g. "avx512f"; null ends the list
  const char *target;                  // `--target`: "host", "cuda"
  const struct LlrtDeviceCode *device; // null on the host
};

extern const struct LlrtProgram llrt_program;

#ifdef __cplusplus
}
#endif
#endif // LLRT_PROGRAM_H
