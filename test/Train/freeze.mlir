// RUN: llama-opt %s -llama-freeze="trainable=head.*" | FileCheck %s --check-prefix=PATTERN
// RUN: llama-opt %s -llama-freeze="trainable=adapter" | FileCheck %s --check-prefix=ADAPTER
// RUN: llama-opt %s -llama-freeze="trainable=adapter-without-rows" | FileCheck %s --check-prefix=ROWS
// RUN: llama-opt %s -llama-freeze | FileCheck %s --check-prefix=ALL
// RUN: not llama-opt %s -llama-freeze="trainable=nothing.*" 2>&1 | FileCheck %s --check-prefix=NONE
// NONE: error: --trainable: expects the key of a parameter, a pattern with '*', all, adapter or adapter-without-rows, but nothing is named 'nothing.*'

// ALL-NOT: frozen

// PATTERN: @head.weight : tensor<8x8xf32> {initializer
// PATTERN: @norm.weight : tensor<8xf32> {frozen
llama.parameter @head.weight : tensor<8x8xf32> {initializer = #llama.initializer<normal>}
llama.parameter @norm.weight : tensor<8xf32> {initializer = #llama.initializer<ones>}

// All of a cross-attention layer trains, its norms and feed-forward too; nothing
// of a self-attention layer does.
// ADAPTER: @head.weight : tensor<8x8xf32> {frozen
// ADAPTER: @model.layers.0.mlp.up_proj.weight : tensor<8x8xf32> {frozen
// ADAPTER: @model.layers.1.cross_attn.q_proj.weight : tensor<8x8xf32> {initializer
// ADAPTER: @model.layers.1.mlp.up_proj.weight : tensor<8x8xf32> {initializer
// ADAPTER: @vision_model.class_embedding : tensor<8xf32> {initializer
llama.parameter @model.layers.0.mlp.up_proj.weight : tensor<8x8xf32> {initializer = #llama.initializer<normal>}
llama.parameter @model.layers.1.cross_attn.q_proj.weight : tensor<8x8xf32> {initializer = #llama.initializer<normal>}
llama.parameter @model.layers.1.mlp.up_proj.weight : tensor<8x8xf32> {initializer = #llama.initializer<normal>}
llama.parameter @vision_model.class_embedding : tensor<8xf32> {initializer = #llama.initializer<normal>}

// The extra embedding rows train with the adapter, unless they are left out.
// ADAPTER: @embed : tensor<32x8xf32> {frozen
// ADAPTER: @embed.extra : tensor<8x8xf32> {initializer
// ROWS:    @embed.extra : tensor<8x8xf32> {frozen
llama.parameter @embed : tensor<32x8xf32> {initializer = #llama.initializer<normal>, key = "embed", row_begin = 0 : i64}
llama.parameter @embed.extra : tensor<8x8xf32> {initializer = #llama.initializer<normal>, key = "embed", row_begin = 32 : i64}
