// RUN: llama-opt %s -llama-add-optimizer -split-input-file | FileCheck %s

// All trainable elements at once: 3 and 20 are padded to 16 and 32, 48 to 1024.
// The master is the parameter itself.
// CHECK-LABEL: func.func private @gradient_norm(
// CHECK-SAME:      %{{.*}}: tensor<1024xf32>) -> tensor<1xf32>
// CHECK-LABEL: func.func private @add_once(
// CHECK-SAME:      %{{.*}}: tensor<1xf64>, %{{.*}}: tensor<1xf32>, %{{.*}}: tensor<1xf64>) -> (tensor<1xf64> {llama.in_place = 0 : i64})
// CHECK-LABEL: func.func private @clip_norm(
// CHECK-SAME:      %{{.*}}: tensor<2xf64>, %{{.*}}: tensor<8xf64>) -> tensor<8xf32>
// CHECK-LABEL: func.func private @adamw(
// CHECK-SAME:      -> (tensor<1024xf32> {llama.in_place = 0 : i64}, tensor<1024xf32> {llama.in_place = 1 : i64}, tensor<1024xf32> {llama.in_place = 2 : i64})
llama.parameter @w : tensor<3xf32> {initializer = #llama.initializer<ones>}
llama.parameter @frozen : tensor<4096xf32> {frozen, initializer = #llama.initializer<ones>}
llama.parameter @v : tensor<20xf32> {initializer = #llama.initializer<ones>}

// -----

// A bf16 weight is the rounded f32 master.
// CHECK-LABEL: func.func private @adamw(
// CHECK:         %[[MASTER:[a-z_]*]], %{{.*}}, %{{.*}} = llama.adamw
// CHECK:         %[[WEIGHT:.*]] = llama.cast %[[MASTER]] {element_type = bf16}
// CHECK:         return %[[MASTER]], {{.*}}, %[[WEIGHT]]
llama.parameter @w : tensor<3xbf16> {initializer = #llama.initializer<ones>}
