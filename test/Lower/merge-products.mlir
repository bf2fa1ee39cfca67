// RUN: llama-opt %s --split-input-file --llama-merge-products | FileCheck %s
// RUN: llama-opt %s --split-input-file --llama-merge-products=lower=reference | FileCheck %s --check-prefix=REFERENCE

// The weights of gate and up lie one behind the other: one product, whose columns others read.

// CHECK-LABEL: func.func private @mlp(
// CHECK-SAME:      %[[X:[a-z0-9]+]]: tensor<1x4x8xbf16>, %[[GATE:[a-z0-9]+]]: tensor<16x8xbf16>, %[[UP:[a-z0-9]+]]: tensor<16x8xbf16>)
// CHECK-SAME:      llama.consecutive = [array<i64: 1, 2>], llama.products = ["products by gate, up: one product"]
// CHECK:         %[[BOTH:.*]] = routine.gemm %[[X]], %[[GATE]], %[[UP]] into %{{.*}} {k = 8 : i64, m = 4 : i64, n = 32 : i64, transpose_b} : {{.*}} -> tensor<1x4x32xbf16>
// CHECK:         %[[G:.*]] = tensor.extract_slice %[[BOTH]][0, 0, 0] [1, 4, 16] [1, 1, 1]
// CHECK:         %[[U:.*]] = tensor.extract_slice %[[BOTH]][0, 0, 16] [1, 4, 16] [1, 1, 1]
// CHECK:         %[[Y:.*]] = llama.swiglu %[[G]], %[[U]]
// CHECK:         return %[[Y]]

// The gradient of a bias comes with the product of the weight gradient, which reads all of dy.

// CHECK-LABEL: func.func private @fc(
// CHECK-SAME:      %[[X:[a-z0-9]+]]: tensor<4x8xbf16>, %[[DY:[a-z0-9]+]]: tensor<4x16xbf16>, %[[W:[a-z0-9]+]]: tensor<16x8xf32>, %[[B:[a-z0-9]+]]: tensor<16xf32>)
// CHECK-SAME:      llama.products = ["bias gradient of argument 3: with the product of its weight gradient"]
// CHECK-NOT:     llama.sum_rows
// CHECK-NOT:     llama.linear_dw
// CHECK:         %[[BOTH:.*]]:2 = routine.gemm %[[DY]], %[[X]] into %[[W]] bias_gradient %{{.*}} {accumulate, k = 4 : i64, m = 16 : i64, n = 8 : i64, transpose_a}
// CHECK:         %[[SUM:.*]] = llama.add %[[B]], %[[BOTH]]#1
// CHECK:         return %[[BOTH]]#0, %[[SUM]]

// Only products that are routines are one: the reference has those of f64 alone.
// REFERENCE-LABEL: func.func private @mlp(
// REFERENCE-COUNT-2: llama.linear %
// REFERENCE-NOT: routine.gemm
module {
dist.arena @parameters role = parameters bytes = 512
llama.parameter @gate : tensor<16x8xbf16> {frozen, initializer = #llama.initializer<normal>}
llama.parameter @up : tensor<16x8xbf16> {frozen, initializer = #llama.initializer<normal>}
dist.storage @gate at @parameters[0]
dist.storage @up at @parameters[256]
func.func private @mlp(%x: tensor<1x4x8xbf16>, %gate: tensor<16x8xbf16>, %up: tensor<16x8xbf16>) -> tensor<1x4x16xbf16> attributes {llama.block} {
  %g = llama.linear %x, %gate {accumulation = f32} : (tensor<1x4x8xbf16>, tensor<16x8xbf16>) -> tensor<1x4x16xbf16>
  %u = llama.linear %x, %up {accumulation = f32} : (tensor<1x4x8xbf16>, tensor<16x8xbf16>) -> tensor<1x4x16xbf16>
  %y = llama.swiglu %g, %u {statistics = f32} : (tensor<1x4x16xbf16>, tensor<1x4x16xbf16>) -> tensor<1x4x16xbf16>
  return %y : tensor<1x4x16xbf16>
}
func.func private @fc(%x: tensor<4x8xbf16>, %dy: tensor<4x16xbf16>, %w: tensor<16x8xf32>, %b: tensor<16xf32>) -> (tensor<16x8xf32> {llama.in_place = 2 : i64}, tensor<16xf32> {llama.in_place = 3 : i64}) attributes {llama.block} {
  %dw = llama.linear_dw %dy, %x {accumulation = f32} : (tensor<4x16xbf16>, tensor<4x8xbf16>) -> tensor<16x8xf32>
  %db = llama.sum_rows %dy {accumulation = f32} : (tensor<4x16xbf16>) -> tensor<16xf32>
  %w1 = llama.add %w, %dw : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %b1 = llama.add %b, %db : (tensor<16xf32>, tensor<16xf32>) -> tensor<16xf32>
  return %w1, %b1 : tensor<16x8xf32>, tensor<16xf32>
}
func.func @forward(%x: tensor<1x4x8xbf16> {llama.input = "x"}) -> (tensor<1x4x16xbf16> {llama.output = "y"}) {
  %y = llama.apply @mlp(%x) parameters [@gate, @up] : (tensor<1x4x8xbf16>) -> tensor<1x4x16xbf16>
  return %y : tensor<1x4x16xbf16>
}
}

// -----

// What crosses from the block to its backward, by way of a frame, is one value.

// CHECK-LABEL: func.func private @mlp.forward(
// CHECK-SAME:      %[[X:[a-z0-9]+]]: tensor<1x4x8xbf16>, %[[GATE:[a-z0-9]+]]: tensor<16x8xbf16>, %[[UP:[a-z0-9]+]]: tensor<16x8xbf16>)
// CHECK-SAME:      -> (tensor<1x4x16xbf16>, tensor<1x4x32xbf16>)
// CHECK-SAME:      llama.consecutive = [array<i64: 1, 2>], llama.products = ["products by gate, up: one product"]
// CHECK:         %[[BOTH:.*]] = routine.gemm %[[X]], %[[GATE]], %[[UP]] into %{{.*}} {k = 8 : i64, m = 4 : i64, n = 32 : i64, transpose_b} : {{.*}} -> tensor<1x4x32xbf16>
// CHECK-DAG:     %[[G:.*]] = tensor.extract_slice %[[BOTH]][0, 0, 0] [1, 4, 16] [1, 1, 1]
// CHECK-DAG:     %[[U:.*]] = tensor.extract_slice %[[BOTH]][0, 0, 16] [1, 4, 16] [1, 1, 1]
// CHECK:         %[[Y:.*]] = llama.swiglu %[[G]], %[[U]]
// CHECK:         return %[[Y]], %[[BOTH]]

// The gradients of both are written side by side, so the sum of input gradients is one product.

// CHECK-LABEL: func.func private @mlp.backward_input(
// CHECK-SAME:      %[[DY:[a-z0-9]+]]: tensor<1x4x16xbf16>, %[[BOTH:[a-z0-9]+]]: tensor<1x4x32xbf16>, %[[GATE:[a-z0-9]+]]: tensor<16x8xbf16>, %[[UP:[a-z0-9]+]]: tensor<16x8xbf16>)
// CHECK-SAME:      -> (tensor<1x4x8xbf16>, tensor<1x4x32xbf16>)
// CHECK-SAME:      llama.consecutive = [array<i64: 2, 3>]
// CHECK-DAG:     %[[G:.*]] = tensor.extract_slice %[[BOTH]][0, 0, 0]
// CHECK-DAG:     %[[U:.*]] = tensor.extract_slice %[[BOTH]][0, 0, 16]
// CHECK:         %[[DG:.*]], %[[DU:.*]] = llama.swiglu_grad %[[DY]], %[[G]], %[[U]]
// CHECK-NOT:     llama.linear_dx
// CHECK:         %[[D:.*]] = tensor.concat dim(2) %[[DG]], %[[DU]]
// CHECK:         %[[DX:.*]] = routine.gemm %[[D]], %[[GATE]], %[[UP]] into %{{.*}} {k = 32 : i64, m = 4 : i64, n = 8 : i64}
// CHECK-NOT:     llama.add
// CHECK:         return %[[DX]], %[[D]]

// And so are the gradients of the weights, summed where they lie.

// CHECK-LABEL: func.func private @mlp.backward_weight(
// CHECK-SAME:      %[[X:[a-z0-9]+]]: tensor<1x4x8xbf16>, %[[D:[a-z0-9]+]]: tensor<1x4x32xbf16>, %[[GATE:[a-z0-9]+]]: tensor<16x8xf32>, %[[UP:[a-z0-9]+]]: tensor<16x8xf32>)
// CHECK-SAME:      -> (tensor<16x8xf32> {llama.in_place = 2 : i64}, tensor<16x8xf32> {llama.in_place = 3 : i64})
// CHECK-NEXT:    %[[SUMS:.*]]:2 = routine.gemm %[[D]], %[[X]] into %[[GATE]], %[[UP]] {accumulate, k = 4 : i64, m = 32 : i64, n = 8 : i64, transpose_a}
// CHECK-NEXT:    return %[[SUMS]]#0, %[[SUMS]]#1

// CHECK-LABEL: func.func @forward(
// CHECK-SAME:      -> (tensor<1x4x32xbf16> {dist.crossing = "y.1", dist.frame = ["kept", 0]})
// CHECK:         %[[F:.*]]:2 = llama.apply @mlp.forward
// CHECK:         return %[[F]]#1 : tensor<1x4x32xbf16>
// CHECK-LABEL: func.func @backward(
// CHECK-SAME:      %[[K:[a-z0-9]+]]: tensor<1x4x32xbf16> {dist.crossing = "y.1", dist.frame = ["kept", 0]})
// CHECK:         %[[B:.*]]:2 = llama.apply @mlp.backward_input(%{{.*}}, %[[K]])
// CHECK:         llama.apply @mlp.backward_weight(%{{.*}}, %[[B]]#1) gradients [@gate, @up]
module {
dist.arena @parameters role = parameters bytes = 512
dist.arena @gradients role = gradients bytes = 1024
dist.arena @moment1 role = moment1 bytes = 1024
dist.arena @moment2 role = moment2 bytes = 1024
dist.arena @masters role = masters bytes = 1024
llama.parameter @gate : tensor<16x8xbf16> {initializer = #llama.initializer<normal>}
dist.storage @gate at @parameters[0] master @masters[0] gradient @gradients[0] moments @moment1[0], @moment2[0]
llama.parameter @up : tensor<16x8xbf16> {initializer = #llama.initializer<normal>}
dist.storage @up at @parameters[256] master @masters[512] gradient @gradients[512] moments @moment1[512], @moment2[512]

func.func private @mlp.forward(%x: tensor<1x4x8xbf16>, %gate: tensor<16x8xbf16>, %up: tensor<16x8xbf16>) -> (tensor<1x4x16xbf16>, tensor<1x4x16xbf16>, tensor<1x4x16xbf16>) attributes {llama.block} {
  %g = llama.linear %x, %gate {accumulation = f32} : (tensor<1x4x8xbf16>, tensor<16x8xbf16>) -> tensor<1x4x16xbf16>
  %u = llama.linear %x, %up {accumulation = f32} : (tensor<1x4x8xbf16>, tensor<16x8xbf16>) -> tensor<1x4x16xbf16>
  %y = llama.swiglu %g, %u {statistics = f32} : (tensor<1x4x16xbf16>, tensor<1x4x16xbf16>) -> tensor<1x4x16xbf16>
  return %y, %g, %u : tensor<1x4x16xbf16>, tensor<1x4x16xbf16>, tensor<1x4x16xbf16>
}
func.func private @mlp.backward_input(%dy: tensor<1x4x16xbf16>, %g: tensor<1x4x16xbf16>, %u: tensor<1x4x16xbf16>, %gate: tensor<16x8xbf16>, %up: tensor<16x8xbf16>) -> (tensor<1x4x8xbf16>, tensor<1x4x16xbf16>, tensor<1x4x16xbf16>) attributes {llama.block} {
  %dg, %du = llama.swiglu_grad %dy, %g, %u {statistics = f32} : (tensor<1x4x16xbf16>, tensor<1x4x16xbf16>, tensor<1x4x16xbf16>) -> (tensor<1x4x16xbf16>, tensor<1x4x16xbf16>)
  %b = llama.linear_dx %du, %up {accumulation = f32} : (tensor<1x4x16xbf16>, tensor<16x8xbf16>) -> tensor<1x4x8xbf16>
  %a = llama.linear_dx %dg, %gate {accumulation = f32} : (tensor<1x4x16xbf16>, tensor<16x8xbf16>) -> tensor<1x4x8xbf16>
  %dx = llama.add %b, %a : (tensor<1x4x8xbf16>, tensor<1x4x8xbf16>) -> tensor<1x4x8xbf16>
  return %dx, %du, %dg : tensor<1x4x8xbf16>, tensor<1x4x16xbf16>, tensor<1x4x16xbf16>
}
func.func private @mlp.backward_weight(%x: tensor<1x4x8xbf16>, %du: tensor<1x4x16xbf16>, %dg: tensor<1x4x16xbf16>, %gate: tensor<16x8xf32>, %up: tensor<16x8xf32>) -> (tensor<16x8xf32> {llama.in_place = 3 : i64}, tensor<16x8xf32> {llama.in_place = 4 : i64}) attributes {llama.block} {
  %u = llama.linear_dw %du, %x {accumulation = f32} : (tensor<1x4x16xbf16>, tensor<1x4x8xbf16>) -> tensor<16x8xf32>
  %g = llama.linear_dw %dg, %x {accumulation = f32} : (tensor<1x4x16xbf16>, tensor<1x4x8xbf16>) -> tensor<16x8xf32>
  %a = llama.add %gate, %g : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %b = llama.add %up, %u : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  return %a, %b : tensor<16x8xf32>, tensor<16x8xf32>
}
func.func @forward(%x: tensor<1x4x8xbf16> {llama.input = "x"}) -> (tensor<1x4x16xbf16> {dist.crossing = "y.1", dist.frame = ["kept", 0]}, tensor<1x4x16xbf16> {dist.crossing = "y.2", dist.frame = ["kept", 128]}) {
  %y:3 = llama.apply @mlp.forward(%x) parameters [@gate, @up] : (tensor<1x4x8xbf16>) -> (tensor<1x4x16xbf16>, tensor<1x4x16xbf16>, tensor<1x4x16xbf16>)
  return %y#1, %y#2 : tensor<1x4x16xbf16>, tensor<1x4x16xbf16>
}
func.func @backward(%x: tensor<1x4x8xbf16> {llama.input = "x"}, %dy: tensor<1x4x16xbf16> {llama.input = "dy"}, %u: tensor<1x4x16xbf16> {dist.crossing = "y.2", dist.frame = ["kept", 128]}, %g: tensor<1x4x16xbf16> {dist.crossing = "y.1", dist.frame = ["kept", 0]}) {
  %d:3 = llama.apply @mlp.backward_input(%dy, %g, %u) parameters [@gate, @up] : (tensor<1x4x16xbf16>, tensor<1x4x16xbf16>, tensor<1x4x16xbf16>) -> (tensor<1x4x8xbf16>, tensor<1x4x16xbf16>, tensor<1x4x16xbf16>)
  llama.apply @mlp.backward_weight(%x, %d#1, %d#2) gradients [@gate, @up] : (tensor<1x4x8xbf16>, tensor<1x4x16xbf16>, tensor<1x4x16xbf16>) -> ()
  return
}
}

// -----

// Query, key and value: the loops of the rotary positions read columns of the product. The value is
// read by others as it is, so a loop copies it.

// CHECK-LABEL: func.func private @qkv(
// CHECK-SAME:      llama.products = ["products by q, k, v: one product"]
// CHECK:         %[[ALL:.*]] = routine.gemm %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}} into %{{.*}} {k = 8 : i64, m = 4 : i64, n = 32 : i64, transpose_b}
// CHECK:         %[[Q:.*]] = tensor.extract_slice %[[ALL]][0, 0, 0] [1, 4, 16] [1, 1, 1]
// CHECK:         %[[K:.*]] = tensor.extract_slice %[[ALL]][0, 0, 16] [1, 4, 8] [1, 1, 1]
// CHECK:         %[[V:.*]] = tensor.extract_slice %{{.*}}[0, 24] [4, 8] [1, 1]
// CHECK:         %[[COPY:.*]] = linalg.copy ins(%[[V]]
// CHECK:         %[[VALUE:.*]] = tensor.expand_shape %[[COPY]]
// CHECK:         llama.split_heads %[[Q]]
// CHECK:         llama.split_heads %[[K]]
// CHECK:         return %{{.*}}, %{{.*}}, %[[VALUE]]
module {
dist.arena @parameters role = parameters bytes = 512
llama.parameter @q : tensor<16x8xbf16> {frozen, initializer = #llama.initializer<normal>}
dist.storage @q at @parameters[0]
llama.parameter @k : tensor<8x8xbf16> {frozen, initializer = #llama.initializer<normal>}
dist.storage @k at @parameters[256]
llama.parameter @v : tensor<8x8xbf16> {frozen, initializer = #llama.initializer<normal>}
dist.storage @v at @parameters[384]

func.func private @qkv(%x: tensor<1x4x8xbf16>, %table: tensor<1x4x2x4xf32>, %q: tensor<16x8xbf16>, %k: tensor<8x8xbf16>, %v: tensor<8x8xbf16>) -> (tensor<1x4x2x8xbf16>, tensor<1x4x1x8xbf16>, tensor<1x4x8xbf16>) attributes {llama.block} {
  %a = llama.linear %x, %q {accumulation = f32} : (tensor<1x4x8xbf16>, tensor<16x8xbf16>) -> tensor<1x4x16xbf16>
  %b = llama.linear %x, %k {accumulation = f32} : (tensor<1x4x8xbf16>, tensor<8x8xbf16>) -> tensor<1x4x8xbf16>
  %c = llama.linear %x, %v {accumulation = f32} : (tensor<1x4x8xbf16>, tensor<8x8xbf16>) -> tensor<1x4x8xbf16>
  %ah = llama.split_heads %a {head_size = 8 : i64} : (tensor<1x4x16xbf16>) -> tensor<1x4x2x8xbf16>
  %ar = llama.rope %ah, %table : (tensor<1x4x2x8xbf16>, tensor<1x4x2x4xf32>) -> tensor<1x4x2x8xbf16>
  %bh = llama.split_heads %b {head_size = 8 : i64} : (tensor<1x4x8xbf16>) -> tensor<1x4x1x8xbf16>
  %br = llama.rope %bh, %table : (tensor<1x4x1x8xbf16>, tensor<1x4x2x4xf32>) -> tensor<1x4x1x8xbf16>
  return %ar, %br, %c : tensor<1x4x2x8xbf16>, tensor<1x4x1x8xbf16>, tensor<1x4x8xbf16>
}
func.func @forward(%x: tensor<1x4x8xbf16> {llama.input = "x"}, %t: tensor<1x4x2x4xf32> {llama.input = "t"}) -> (tensor<1x4x8xbf16> {llama.output = "y"}) {
  %y:3 = llama.apply @qkv(%x, %t) parameters [@q, @k, @v] : (tensor<1x4x8xbf16>, tensor<1x4x2x4xf32>) -> (tensor<1x4x2x8xbf16>, tensor<1x4x1x8xbf16>, tensor<1x4x8xbf16>)
  return %y#2 : tensor<1x4x8xbf16>
}
}

// -----

// The weights of the key do not lie behind those of the query: key and value are one.

// CHECK-LABEL: func.func private @qkv(
// CHECK-SAME:      llama.products = ["products by q, k, v: not one behind the other in memory, but q; k, v", "products by k, v: one product"]
// CHECK:         llama.linear %{{.*}}, %arg2
// CHECK:         routine.gemm %{{.*}}, %arg3, %arg4 into
module {
dist.arena @parameters role = parameters bytes = 640
llama.parameter @q : tensor<16x8xbf16> {frozen, initializer = #llama.initializer<normal>}
dist.storage @q at @parameters[0]
llama.parameter @k : tensor<8x8xbf16> {frozen, initializer = #llama.initializer<normal>}
dist.storage @k at @parameters[384]
llama.parameter @v : tensor<8x8xbf16> {frozen, initializer = #llama.initializer<normal>}
dist.storage @v at @parameters[512]

func.func private @qkv(%x: tensor<1x4x8xbf16>, %table: tensor<1x4x2x4xf32>, %q: tensor<16x8xbf16>, %k: tensor<8x8xbf16>, %v: tensor<8x8xbf16>) -> (tensor<1x4x2x8xbf16>, tensor<1x4x1x8xbf16>, tensor<1x4x8xbf16>) attributes {llama.block} {
  %a = llama.linear %x, %q {accumulation = f32} : (tensor<1x4x8xbf16>, tensor<16x8xbf16>) -> tensor<1x4x16xbf16>
  %b = llama.linear %x, %k {accumulation = f32} : (tensor<1x4x8xbf16>, tensor<8x8xbf16>) -> tensor<1x4x8xbf16>
  %c = llama.linear %x, %v {accumulation = f32} : (tensor<1x4x8xbf16>, tensor<8x8xbf16>) -> tensor<1x4x8xbf16>
  %ah = llama.split_heads %a {head_size = 8 : i64} : (tensor<1x4x16xbf16>) -> tensor<1x4x2x8xbf16>
  %ar = llama.rope %ah, %table : (tensor<1x4x2x8xbf16>, tensor<1x4x2x4xf32>) -> tensor<1x4x2x8xbf16>
  %bh = llama.split_heads %b {head_size = 8 : i64} : (tensor<1x4x8xbf16>) -> tensor<1x4x1x8xbf16>
  %br = llama.rope %bh, %table : (tensor<1x4x1x8xbf16>, tensor<1x4x2x4xf32>) -> tensor<1x4x1x8xbf16>
  return %ar, %br, %c : tensor<1x4x2x8xbf16>, tensor<1x4x1x8xbf16>, tensor<1x4x8xbf16>
}
func.func @forward(%x: tensor<1x4x8xbf16> {llama.input = "x"}, %t: tensor<1x4x2x4xf32> {llama.input = "t"}) -> (tensor<1x4x8xbf16> {llama.output = "y"}) {
  %y:3 = llama.apply @qkv(%x, %t) parameters [@q, @k, @v] : (tensor<1x4x8xbf16>, tensor<1x4x2x4xf32>) -> (tensor<1x4x2x8xbf16>, tensor<1x4x1x8xbf16>, tensor<1x4x8xbf16>)
  return %y#2 : tensor<1x4x8xbf16>
}
}

// -----

// In one application they lie so, in another they do not.
//
// CHECK-LABEL: func.func private @qkv(
// CHECK-SAME:      llama.products = ["products by q, k, v: not one behind the other in memory, but q; k; v"]
// CHECK-COUNT-3: llama.linear %
// CHECK-NOT:     routine.gemm
module {
dist.arena @parameters role = parameters bytes = 1024
llama.parameter @q : tensor<16x8xbf16> {frozen, initializer = #llama.initializer<normal>}
dist.storage @q at @parameters[0]
llama.parameter @k : tensor<8x8xbf16> {frozen, initializer = #llama.initializer<normal>}
dist.storage @k at @parameters[256]
llama.parameter @v : tensor<8x8xbf16> {frozen, initializer = #llama.initializer<normal>}
dist.storage @v at @parameters[384]
llama.parameter @q2 : tensor<16x8xbf16> {frozen, initializer = #llama.initializer<normal>}
dist.storage @q2 at @parameters[512]
llama.parameter @v2 : tensor<8x8xbf16> {frozen, initializer = #llama.initializer<normal>}
dist.storage @v2 at @parameters[768]
llama.parameter @k2 : tensor<8x8xbf16> {frozen, initializer = #llama.initializer<normal>}
dist.storage @k2 at @parameters[896]

func.func private @qkv(%x: tensor<1x4x8xbf16>, %table: tensor<1x4x2x4xf32>, %q: tensor<16x8xbf16>, %k: tensor<8x8xbf16>, %v: tensor<8x8xbf16>) -> (tensor<1x4x2x8xbf16>, tensor<1x4x1x8xbf16>, tensor<1x4x8xbf16>) attributes {llama.block} {
  %a = llama.linear %x, %q {accumulation = f32} : (tensor<1x4x8xbf16>, tensor<16x8xbf16>) -> tensor<1x4x16xbf16>
  %b = llama.linear %x, %k {accumulation = f32} : (tensor<1x4x8xbf16>, tensor<8x8xbf16>) -> tensor<1x4x8xbf16>
  %c = llama.linear %x, %v {accumulation = f32} : (tensor<1x4x8xbf16>, tensor<8x8xbf16>) -> tensor<1x4x8xbf16>
  %ah = llama.split_heads %a {head_size = 8 : i64} : (tensor<1x4x16xbf16>) -> tensor<1x4x2x8xbf16>
  %ar = llama.rope %ah, %table : (tensor<1x4x2x8xbf16>, tensor<1x4x2x4xf32>) -> tensor<1x4x2x8xbf16>
  %bh = llama.split_heads %b {head_size = 8 : i64} : (tensor<1x4x8xbf16>) -> tensor<1x4x1x8xbf16>
  %br = llama.rope %bh, %table : (tensor<1x4x1x8xbf16>, tensor<1x4x2x4xf32>) -> tensor<1x4x1x8xbf16>
  return %ar, %br, %c : tensor<1x4x2x8xbf16>, tensor<1x4x1x8xbf16>, tensor<1x4x8xbf16>
}
func.func @forward(%x: tensor<1x4x8xbf16> {llama.input = "x"}, %t: tensor<1x4x2x4xf32> {llama.input = "t"}) -> (tensor<1x4x8xbf16> {llama.output = "y"}) {
  %y:3 = llama.apply @qkv(%x, %t) parameters [@q, @k, @v] : (tensor<1x4x8xbf16>, tensor<1x4x2x4xf32>) -> (tensor<1x4x2x8xbf16>, tensor<1x4x1x8xbf16>, tensor<1x4x8xbf16>)
  %z:3 = llama.apply @qkv(%x, %t) parameters [@q2, @k2, @v2] : (tensor<1x4x8xbf16>, tensor<1x4x2x4xf32>) -> (tensor<1x4x2x8xbf16>, tensor<1x4x1x8xbf16>, tensor<1x4x8xbf16>)
  return %y#2 : tensor<1x4x8xbf16>
}
}

// -----

// Sharded weights are whole in the frame of their unit, one behind the other there; those of another
// unit are elsewhere.
//
// CHECK-LABEL: func.func private @qkv(
// CHECK-SAME:      llama.products = ["products by q, k, v: not one behind the other in memory, but q, k; v", "products by q, k: one product"]
module attributes {dist.axes = ["dp", "pp", "cp", "tp"]} {
shard.grid @grid(shape = 2x1x1x1)
llama.parameter @q : tensor<16x8xbf16> {frozen, initializer = #llama.initializer<normal>}
llama.parameter @k : tensor<8x8xbf16> {frozen, initializer = #llama.initializer<normal>}
llama.parameter @v : tensor<8x8xbf16> {frozen, initializer = #llama.initializer<normal>}
dist.arena @parameters role = parameters bytes = 256
dist.storage @q at @parameters[0] {shard = array<i64: 0, 192>, shard_storage}
dist.storage @k at @parameters[0] {shard = array<i64: 128, 192>, shard_storage}
dist.storage @v at @parameters[192] {shard = array<i64: 192, 64>, shard_storage}
func.func private @qkv(%x: tensor<1x4x8xbf16>, %table: tensor<1x4x2x4xf32>, %q: tensor<16x8xbf16>, %k: tensor<8x8xbf16>, %v: tensor<8x8xbf16>) -> (tensor<1x4x2x8xbf16>, tensor<1x4x1x8xbf16>, tensor<1x4x8xbf16>) attributes {llama.block} {
  %a = llama.linear %x, %q {accumulation = f32} : (tensor<1x4x8xbf16>, tensor<16x8xbf16>) -> tensor<1x4x16xbf16>
  %b = llama.linear %x, %k {accumulation = f32} : (tensor<1x4x8xbf16>, tensor<8x8xbf16>) -> tensor<1x4x8xbf16>
  %c = llama.linear %x, %v {accumulation = f32} : (tensor<1x4x8xbf16>, tensor<8x8xbf16>) -> tensor<1x4x8xbf16>
  %ah = llama.split_heads %a {head_size = 8 : i64} : (tensor<1x4x16xbf16>) -> tensor<1x4x2x8xbf16>
  %ar = llama.rope %ah, %table : (tensor<1x4x2x8xbf16>, tensor<1x4x2x4xf32>) -> tensor<1x4x2x8xbf16>
  %bh = llama.split_heads %b {head_size = 8 : i64} : (tensor<1x4x8xbf16>) -> tensor<1x4x1x8xbf16>
  %br = llama.rope %bh, %table : (tensor<1x4x1x8xbf16>, tensor<1x4x2x4xf32>) -> tensor<1x4x1x8xbf16>
  return %ar, %br, %c : tensor<1x4x2x8xbf16>, tensor<1x4x1x8xbf16>, tensor<1x4x8xbf16>
}
func.func @forward(%x: tensor<1x4x8xbf16> {llama.input = "x"}, %t: tensor<1x4x2x4xf32> {llama.input = "t"}) -> (tensor<1x4x8xbf16> {llama.output = "y"}) {
  %y:3 = llama.apply @qkv(%x, %t) parameters [@q, @k, @v] : (tensor<1x4x8xbf16>, tensor<1x4x2x4xf32>) -> (tensor<1x4x2x8xbf16>, tensor<1x4x1x8xbf16>, tensor<1x4x8xbf16>)
  return %y#2 : tensor<1x4x8xbf16>
}
}

// -----

// Products of two inputs, with a bias, or by what is no parameter, stay.
//
// CHECK-LABEL: func.func private @apart(
// CHECK-NOT:     llama.products
// CHECK-COUNT-5: llama.linear %
// CHECK-NOT:     routine.gemm
module {
dist.arena @parameters role = parameters bytes = 512
llama.parameter @a : tensor<8x8xbf16> {frozen, initializer = #llama.initializer<normal>}
dist.storage @a at @parameters[0]
llama.parameter @b : tensor<8x8xbf16> {frozen, initializer = #llama.initializer<normal>}
dist.storage @b at @parameters[128]
llama.parameter @c : tensor<8x8xbf16> {frozen, initializer = #llama.initializer<normal>}
dist.storage @c at @parameters[256]
llama.parameter @d : tensor<8x8xbf16> {frozen, initializer = #llama.initializer<normal>}
dist.storage @d at @parameters[384]

func.func private @apart(%x: tensor<1x4x8xbf16>, %z: tensor<1x4x8xbf16>, %u: tensor<8x8xbf16>, %bias: tensor<8xbf16>, %a: tensor<8x8xbf16>, %b: tensor<8x8xbf16>, %c: tensor<8x8xbf16>, %d: tensor<8x8xbf16>) -> (tensor<1x4x8xbf16>) attributes {llama.block} {
  %0 = llama.linear %x, %a {accumulation = f32} : (tensor<1x4x8xbf16>, tensor<8x8xbf16>) -> tensor<1x4x8xbf16>
  %1 = llama.linear %z, %b {accumulation = f32} : (tensor<1x4x8xbf16>, tensor<8x8xbf16>) -> tensor<1x4x8xbf16>
  %2 = llama.linear %x, %c, %bias {accumulation = f32} : (tensor<1x4x8xbf16>, tensor<8x8xbf16>, tensor<8xbf16>) -> tensor<1x4x8xbf16>
  %3 = llama.linear %x, %d, %bias {accumulation = f32} : (tensor<1x4x8xbf16>, tensor<8x8xbf16>, tensor<8xbf16>) -> tensor<1x4x8xbf16>
  %w = llama.add %u, %u : (tensor<8x8xbf16>, tensor<8x8xbf16>) -> tensor<8x8xbf16>
  %4 = llama.linear %x, %w {accumulation = f32} : (tensor<1x4x8xbf16>, tensor<8x8xbf16>) -> tensor<1x4x8xbf16>
  %5 = llama.add %0, %1 : (tensor<1x4x8xbf16>, tensor<1x4x8xbf16>) -> tensor<1x4x8xbf16>
  %6 = llama.add %2, %3 : (tensor<1x4x8xbf16>, tensor<1x4x8xbf16>) -> tensor<1x4x8xbf16>
  %7 = llama.add %5, %6 : (tensor<1x4x8xbf16>, tensor<1x4x8xbf16>) -> tensor<1x4x8xbf16>
  %8 = llama.add %7, %4 : (tensor<1x4x8xbf16>, tensor<1x4x8xbf16>) -> tensor<1x4x8xbf16>
  return %8 : tensor<1x4x8xbf16>
}
func.func @forward(%x: tensor<1x4x8xbf16> {llama.input = "x"}, %z: tensor<1x4x8xbf16> {llama.input = "z"}, %u: tensor<8x8xbf16> {llama.input = "u"}, %bias: tensor<8xbf16> {llama.input = "bias"}) -> (tensor<1x4x8xbf16> {llama.output = "y"}) {
  %y = llama.apply @apart(%x, %z, %u, %bias) parameters [@a, @b, @c, @d] : (tensor<1x4x8xbf16>, tensor<1x4x8xbf16>, tensor<8x8xbf16>, tensor<8xbf16>) -> tensor<1x4x8xbf16>
  return %y : tensor<1x4x8xbf16>
}
}

// -----

// Both results are wanted by a graph, which has a place for each: all columns would have to be
// copied.
//
// CHECK-LABEL: func.func private @two(
// CHECK-SAME:      llama.products = ["products by a, b: 16 of 16 columns would have to be copied: a graph returns one of the values"]
// CHECK-COUNT-2: llama.linear %
module {
dist.arena @parameters role = parameters bytes = 256
llama.parameter @a : tensor<8x8xbf16> {frozen, initializer = #llama.initializer<normal>}
dist.storage @a at @parameters[0]
llama.parameter @b : tensor<8x8xbf16> {frozen, initializer = #llama.initializer<normal>}
dist.storage @b at @parameters[128]

func.func private @two(%x: tensor<1x4x8xbf16>, %a: tensor<8x8xbf16>, %b: tensor<8x8xbf16>) -> (tensor<1x4x8xbf16>, tensor<1x4x8xbf16>) attributes {llama.block} {
  %0 = llama.linear %x, %a {accumulation = f32} : (tensor<1x4x8xbf16>, tensor<8x8xbf16>) -> tensor<1x4x8xbf16>
  %1 = llama.linear %x, %b {accumulation = f32} : (tensor<1x4x8xbf16>, tensor<8x8xbf16>) -> tensor<1x4x8xbf16>
  return %0, %1 : tensor<1x4x8xbf16>, tensor<1x4x8xbf16>
}
func.func @forward(%x: tensor<1x4x8xbf16> {llama.input = "x"}) -> (tensor<1x4x8xbf16> {llama.output = "y"}, tensor<1x4x8xbf16> {llama.output = "z"}) {
  %y:2 = llama.apply @two(%x) parameters [@a, @b] : (tensor<1x4x8xbf16>) -> (tensor<1x4x8xbf16>, tensor<1x4x8xbf16>)
  return %y#0, %y#1 : tensor<1x4x8xbf16>, tensor<1x4x8xbf16>
}
}

// -----

// A sum in f32 of products of bf16: one product into f32.
//
// CHECK-LABEL: func.func private @into_f32(
// CHECK-SAME:      llama.products = ["input gradients by a, b: one product"]
// CHECK:         routine.gemm %{{.*}}, %{{.*}}, %{{.*}} into %{{.*}} {k = 16 : i64, m = 4 : i64, n = 8 : i64} : {{.*}} -> tensor<1x4x8xf32>
// CHECK-NOT:     llama.add %{{.*}} : (tensor<1x4x8xf32>
module {
dist.arena @parameters role = parameters bytes = 256
llama.parameter @a : tensor<8x8xbf16> {frozen, initializer = #llama.initializer<normal>}
dist.storage @a at @parameters[0]
llama.parameter @b : tensor<8x8xbf16> {frozen, initializer = #llama.initializer<normal>}
dist.storage @b at @parameters[128]

func.func private @into_f32(%x: tensor<1x4x8xbf16>, %a: tensor<8x8xbf16>, %b: tensor<8x8xbf16>) -> (tensor<1x4x8xf32>) attributes {llama.block} {
  %0 = llama.add %x, %x : (tensor<1x4x8xbf16>, tensor<1x4x8xbf16>) -> tensor<1x4x8xbf16>
  %1 = llama.linear_dx %x, %a {accumulation = f32, element_type = f32} : (tensor<1x4x8xbf16>, tensor<8x8xbf16>) -> tensor<1x4x8xf32>
  %2 = llama.linear_dx %0, %b {accumulation = f32, element_type = f32} : (tensor<1x4x8xbf16>, tensor<8x8xbf16>) -> tensor<1x4x8xf32>
  %3 = llama.add %1, %2 : (tensor<1x4x8xf32>, tensor<1x4x8xf32>) -> tensor<1x4x8xf32>
  return %3 : tensor<1x4x8xf32>
}
func.func @forward(%x: tensor<1x4x8xbf16> {llama.input = "x"}) -> (tensor<1x4x8xf32> {llama.output = "y"}) {
  %y = llama.apply @into_f32(%x) parameters [@a, @b] : (tensor<1x4x8xbf16>) -> tensor<1x4x8xf32>
  return %y : tensor<1x4x8xf32>
}
}

// -----

// In a sum of three the first summand has weights elsewhere.
//
// CHECK-LABEL: func.func private @sum(
// CHECK-SAME:      llama.products = ["input gradients by a, b, c: not one behind the other in memory, but a; b, c", "input gradients by b, c: one product"]
// CHECK:         %[[A:.*]] = llama.linear_dx
// CHECK:         %[[WIDE:.*]] = tensor.concat
// CHECK:         %[[REST:.*]] = routine.gemm %[[WIDE]], %{{.*}}, %{{.*}} into %{{.*}} {k = 16 : i64, m = 4 : i64, n = 8 : i64}
// CHECK:         %[[SUM:.*]] = llama.add %[[A]], %[[REST]]
// CHECK:         return %[[SUM]]
module {
dist.arena @parameters role = parameters bytes = 512
llama.parameter @a : tensor<8x8xbf16> {frozen, initializer = #llama.initializer<normal>}
dist.storage @a at @parameters[0]
llama.parameter @b : tensor<8x8xbf16> {frozen, initializer = #llama.initializer<normal>}
dist.storage @b at @parameters[256]
llama.parameter @c : tensor<8x8xbf16> {frozen, initializer = #llama.initializer<normal>}
dist.storage @c at @parameters[384]

func.func private @sum(%x: tensor<1x4x8xbf16>, %a: tensor<8x8xbf16>, %b: tensor<8x8xbf16>, %c: tensor<8x8xbf16>) -> (tensor<1x4x8xbf16>) attributes {llama.block} {
  %0 = llama.add %x, %x : (tensor<1x4x8xbf16>, tensor<1x4x8xbf16>) -> tensor<1x4x8xbf16>
  %1 = llama.add %x, %0 : (tensor<1x4x8xbf16>, tensor<1x4x8xbf16>) -> tensor<1x4x8xbf16>
  %2 = llama.linear_dx %x, %a {accumulation = f32} : (tensor<1x4x8xbf16>, tensor<8x8xbf16>) -> tensor<1x4x8xbf16>
  %3 = llama.linear_dx %0, %b {accumulation = f32} : (tensor<1x4x8xbf16>, tensor<8x8xbf16>) -> tensor<1x4x8xbf16>
  %4 = llama.add %2, %3 : (tensor<1x4x8xbf16>, tensor<1x4x8xbf16>) -> tensor<1x4x8xbf16>
  %5 = llama.linear_dx %1, %c {accumulation = f32} : (tensor<1x4x8xbf16>, tensor<8x8xbf16>) -> tensor<1x4x8xbf16>
  %6 = llama.add %4, %5 : (tensor<1x4x8xbf16>, tensor<1x4x8xbf16>) -> tensor<1x4x8xbf16>
  return %6 : tensor<1x4x8xbf16>
}
func.func @forward(%x: tensor<1x4x8xbf16> {llama.input = "x"}) -> (tensor<1x4x8xbf16> {llama.output = "y"}) {
  %y = llama.apply @sum(%x) parameters [@a, @b, @c] : (tensor<1x4x8xbf16>) -> tensor<1x4x8xbf16>
  return %y : tensor<1x4x8xbf16>
}
}

// -----

// So it is where sums are added in another order, ...

// CHECK-LABEL: func.func private @fc.backward_weight(
// CHECK-SAME:      %[[X:[a-z0-9]+]]: tensor<1x4x8xbf16>, %[[DY:[a-z0-9]+]]: tensor<1x4x16xbf16>, %[[W:[a-z0-9]+]]: tensor<16x8xf32>, %[[B:[a-z0-9]+]]: tensor<16xf32>)
// CHECK-SAME:      llama.products = ["bias gradient of bias: with the product of its weight gradient"]
// CHECK-NOT:     llama.sum_rows
// CHECK-NOT:     llama.linear_dw
// CHECK:         %[[BOTH:.*]]:2 = routine.gemm %[[DY]], %[[X]] into %[[W]] bias_gradient %{{.*}} {accumulate, k = 4 : i64, m = 16 : i64, n = 8 : i64, transpose_a}
// CHECK:         %[[SUM:.*]] = llama.add %[[B]], %[[BOTH]]#1
// CHECK:         return %[[BOTH]]#0, %[[SUM]]

// ... or added to nothing.

// CHECK-LABEL: func.func private @first.backward_weight(
// CHECK-SAME:      %[[X:[a-z0-9]+]]: tensor<4x8xf32>, %[[DY:[a-z0-9]+]]: tensor<4x16xf32>)
// CHECK-SAME:      llama.products = ["bias gradient: with the product of its weight gradient"]
// CHECK:         %[[BOTH:.*]]:2 = routine.gemm %[[DY]], %[[X]] into %{{.*}} bias_gradient %{{.*}} {k = 4 : i64, m = 16 : i64, n = 8 : i64, transpose_a}
// CHECK:         return %[[BOTH]]#0, %[[BOTH]]#1

// A loop that sums up the rows for another gradient reads dy anyway.

// CHECK-LABEL: func.func private @beside.backward_weight(
// CHECK-SAME:      llama.products = ["bias gradient of bias: beside another sum of the same rows"]
// CHECK-NOT:     routine.gemm
// CHECK:         llama.linear_dw
// CHECK:         llama.sum_rows
// CHECK:         llama.layer_norm_dw

// In f64 there is none: cuBLASLt has no epilogues for it.

// CHECK-LABEL: func.func private @double.backward_weight(
// CHECK-NOT:     routine.gemm
// CHECK:         llama.sum_rows

// REFERENCE-LABEL: func.func private @fc.backward_weight(
// REFERENCE-NOT: routine.gemm
// REFERENCE-LABEL: func.func private @double.backward_weight(
// REFERENCE-NOT: routine.gemm
module {
llama.parameter @weight : tensor<16x8xbf16> {initializer = #llama.initializer<normal>}
llama.parameter @bias : tensor<16xbf16> {initializer = #llama.initializer<zeros>}
llama.parameter @norm : tensor<16xbf16> {initializer = #llama.initializer<ones>}
func.func private @fc.backward_weight(%x: tensor<1x4x8xbf16>, %dy: tensor<1x4x16xbf16>, %w: tensor<16x8xf32>, %b: tensor<16xf32>) -> (tensor<16x8xf32> {llama.in_place = 2 : i64}, tensor<16xf32> {llama.in_place = 3 : i64}) attributes {llama.block} {
  %db = llama.sum_rows %dy {accumulation = f32} : (tensor<1x4x16xbf16>) -> tensor<16xf32>
  %dw = llama.linear_dw %dy, %x {accumulation = f32} : (tensor<1x4x16xbf16>, tensor<1x4x8xbf16>) -> tensor<16x8xf32>
  %1 = llama.add %b, %db : (tensor<16xf32>, tensor<16xf32>) -> tensor<16xf32>
  %0 = llama.add %w, %dw : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  return %0, %1 : tensor<16x8xf32>, tensor<16xf32>
}
func.func private @first.backward_weight(%x: tensor<4x8xf32>, %dy: tensor<4x16xf32>) -> (tensor<16x8xf32>, tensor<16xf32>) attributes {llama.block} {
  %dw = llama.linear_dw %dy, %x {accumulation = f32} : (tensor<4x16xf32>, tensor<4x8xf32>) -> tensor<16x8xf32>
  %db = llama.sum_rows %dy {accumulation = f32} : (tensor<4x16xf32>) -> tensor<16xf32>
  return %dw, %db : tensor<16x8xf32>, tensor<16xf32>
}
func.func private @beside.backward_weight(%x: tensor<1x4x8xbf16>, %z: tensor<1x4x16xbf16>, %dy: tensor<1x4x16xbf16>, %w: tensor<16x8xf32>, %b: tensor<16xf32>, %n: tensor<16xf32>) -> (tensor<16x8xf32> {llama.in_place = 3 : i64}, tensor<16xf32> {llama.in_place = 4 : i64}, tensor<16xf32> {llama.in_place = 5 : i64}) attributes {llama.block} {
  %dw = llama.linear_dw %dy, %x {accumulation = f32} : (tensor<1x4x16xbf16>, tensor<1x4x8xbf16>) -> tensor<16x8xf32>
  %db = llama.sum_rows %dy {accumulation = f32} : (tensor<1x4x16xbf16>) -> tensor<16xf32>
  %dn = llama.layer_norm_dw %dy, %z {accumulation = f32, epsilon = 1.000000e-05 : f64, statistics = f32} : (tensor<1x4x16xbf16>, tensor<1x4x16xbf16>) -> tensor<16xf32>
  %0 = llama.add %w, %dw : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %1 = llama.add %b, %db : (tensor<16xf32>, tensor<16xf32>) -> tensor<16xf32>
  %2 = llama.add %n, %dn : (tensor<16xf32>, tensor<16xf32>) -> tensor<16xf32>
  return %0, %1, %2 : tensor<16x8xf32>, tensor<16xf32>, tensor<16xf32>
}
func.func private @double.backward_weight(%x: tensor<4x8xf64>, %dy: tensor<4x16xf64>) -> (tensor<16x8xf64>, tensor<16xf64>) attributes {llama.block} {
  %dw = llama.linear_dw %dy, %x {accumulation = f64} : (tensor<4x16xf64>, tensor<4x8xf64>) -> tensor<16x8xf64>
  %db = llama.sum_rows %dy {accumulation = f64} : (tensor<4x16xf64>) -> tensor<16xf64>
  return %dw, %db : tensor<16x8xf64>, tensor<16xf64>
}
func.func @backward(%x: tensor<1x4x8xbf16> {llama.input = "x"}, %z: tensor<1x4x16xbf16> {llama.input = "z"}, %dy: tensor<1x4x16xbf16> {llama.input = "dy"}) {
  llama.apply @fc.backward_weight(%x, %dy) gradients [@weight, @bias] : (tensor<1x4x8xbf16>, tensor<1x4x16xbf16>) -> ()
  llama.apply @beside.backward_weight(%x, %z, %dy) gradients [@weight, @bias, @norm] : (tensor<1x4x8xbf16>, tensor<1x4x16xbf16>, tensor<1x4x16xbf16>) -> ()
  return
}
}

// -----

// Another product reads one part where it is made, and wants it dense: the wide tensor has a copy.
//
// CHECK-LABEL: func.func private @dense(
// CHECK-SAME:      llama.products = ["input gradients by a, b: one product"]
// CHECK:         llama.add
// CHECK:         %[[PART:.*]] = llama.add
// CHECK:         linalg.copy
// CHECK-NOT:     llama.linear_dx
// CHECK:         llama.linear_dw %[[PART]], %{{.*}}
module {
dist.arena @parameters role = parameters bytes = 256
llama.parameter @a : tensor<8x8xbf16> {frozen, initializer = #llama.initializer<normal>}
dist.storage @a at @parameters[0]
llama.parameter @b : tensor<8x8xbf16> {frozen, initializer = #llama.initializer<normal>}
dist.storage @b at @parameters[128]

func.func private @dense(%x: tensor<1x4x8xbf16>, %a: tensor<8x8xbf16>, %b: tensor<8x8xbf16>) -> (tensor<1x4x8xf32>, tensor<8x8xf32>) attributes {llama.block} {
  %0 = llama.add %x, %x : (tensor<1x4x8xbf16>, tensor<1x4x8xbf16>) -> tensor<1x4x8xbf16>
  %1 = llama.add %0, %x : (tensor<1x4x8xbf16>, tensor<1x4x8xbf16>) -> tensor<1x4x8xbf16>
  %2 = llama.linear_dx %0, %a {accumulation = f32, element_type = f32} : (tensor<1x4x8xbf16>, tensor<8x8xbf16>) -> tensor<1x4x8xf32>
  %3 = llama.linear_dx %1, %b {accumulation = f32, element_type = f32} : (tensor<1x4x8xbf16>, tensor<8x8xbf16>) -> tensor<1x4x8xf32>
  %4 = llama.add %2, %3 : (tensor<1x4x8xf32>, tensor<1x4x8xf32>) -> tensor<1x4x8xf32>
  %5 = llama.linear_dw %1, %x {accumulation = f32, element_type = f32} : (tensor<1x4x8xbf16>, tensor<1x4x8xbf16>) -> tensor<8x8xf32>
  return %4, %5 : tensor<1x4x8xf32>, tensor<8x8xf32>
}
func.func @forward(%x: tensor<1x4x8xbf16> {llama.input = "x"}) -> (tensor<1x4x8xf32> {llama.output = "y"}, tensor<8x8xf32> {llama.output = "z"}) {
  %y:2 = llama.apply @dense(%x) parameters [@a, @b] : (tensor<1x4x8xbf16>) -> (tensor<1x4x8xf32>, tensor<8x8xf32>)
  return %y#0, %y#1 : tensor<1x4x8xf32>, tensor<8x8xf32>
}
}

// -----

// A sum of input gradients that is one product is a part of the next: a product writes no columns.
//
// CHECK-LABEL: func.func private @chain(
// CHECK-SAME:      llama.products = ["input gradients by a, b: one product", "input gradients by c, d: one product"]
// CHECK:         %[[SUM:.*]] = routine.gemm
// CHECK:         %[[COPY:.*]] = linalg.copy ins(%{{.*}} : tensor<4x8xbf16>)
// CHECK:         tensor.concat
// CHECK-NOT:     %[[SUM]]
// CHECK:         routine.gemm
module {
dist.arena @parameters role = parameters bytes = 512
llama.parameter @a : tensor<8x8xbf16> {frozen, initializer = #llama.initializer<normal>}
dist.storage @a at @parameters[0]
llama.parameter @b : tensor<8x8xbf16> {frozen, initializer = #llama.initializer<normal>}
dist.storage @b at @parameters[128]
llama.parameter @c : tensor<8x8xbf16> {frozen, initializer = #llama.initializer<normal>}
dist.storage @c at @parameters[256]
llama.parameter @d : tensor<8x8xbf16> {frozen, initializer = #llama.initializer<normal>}
dist.storage @d at @parameters[384]

func.func private @chain(%x: tensor<1x4x8xbf16>, %a: tensor<8x8xbf16>, %b: tensor<8x8xbf16>, %c: tensor<8x8xbf16>, %d: tensor<8x8xbf16>) -> tensor<1x4x8xbf16> attributes {llama.block} {
  %0 = llama.add %x, %x : (tensor<1x4x8xbf16>, tensor<1x4x8xbf16>) -> tensor<1x4x8xbf16>
  %1 = llama.add %0, %x : (tensor<1x4x8xbf16>, tensor<1x4x8xbf16>) -> tensor<1x4x8xbf16>
  %2 = llama.linear_dx %0, %a {accumulation = f32, element_type = bf16} : (tensor<1x4x8xbf16>, tensor<8x8xbf16>) -> tensor<1x4x8xbf16>
  %3 = llama.linear_dx %1, %b {accumulation = f32, element_type = bf16} : (tensor<1x4x8xbf16>, tensor<8x8xbf16>) -> tensor<1x4x8xbf16>
  %4 = llama.add %2, %3 : (tensor<1x4x8xbf16>, tensor<1x4x8xbf16>) -> tensor<1x4x8xbf16>
  %5 = llama.add %1, %x : (tensor<1x4x8xbf16>, tensor<1x4x8xbf16>) -> tensor<1x4x8xbf16>
  %6 = llama.linear_dx %4, %c {accumulation = f32, element_type = bf16} : (tensor<1x4x8xbf16>, tensor<8x8xbf16>) -> tensor<1x4x8xbf16>
  %7 = llama.linear_dx %5, %d {accumulation = f32, element_type = bf16} : (tensor<1x4x8xbf16>, tensor<8x8xbf16>) -> tensor<1x4x8xbf16>
  %8 = llama.add %6, %7 : (tensor<1x4x8xbf16>, tensor<1x4x8xbf16>) -> tensor<1x4x8xbf16>
  return %8 : tensor<1x4x8xbf16>
}
func.func @forward(%x: tensor<1x4x8xbf16> {llama.input = "x"}) -> (tensor<1x4x8xbf16> {llama.output = "y"}) {
  %y = llama.apply @chain(%x) parameters [@a, @b, @c, @d] : (tensor<1x4x8xbf16>) -> tensor<1x4x8xbf16>
  return %y : tensor<1x4x8xbf16>
}
}

// -----

// The weight's gradient is read before the sum of the rows is formed: the product has both where it is.
//
// CHECK-LABEL: func.func private @early(
// CHECK:         %[[BOTH:.*]]:2 = routine.gemm
// CHECK:         llama.add %{{.*}}, %[[BOTH]]#0
// CHECK:         llama.add %{{.*}}, %[[BOTH]]#1
// CHECK-NOT:     llama.sum_rows
module {
func.func private @early(%x: tensor<4x8xbf16>, %dy: tensor<4x16xbf16>, %w: tensor<16x8xf32>, %b: tensor<16xf32>) -> (tensor<16x8xf32>, tensor<16xf32>) attributes {llama.block} {
  %dw = llama.linear_dw %dy, %x {accumulation = f32, element_type = f32} : (tensor<4x16xbf16>, tensor<4x8xbf16>) -> tensor<16x8xf32>
  %w1 = llama.add %w, %dw : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
  %db = llama.sum_rows %dy {accumulation = f32, element_type = f32} : (tensor<4x16xbf16>) -> tensor<16xf32>
  %b1 = llama.add %b, %db : (tensor<16xf32>, tensor<16xf32>) -> tensor<16xf32>
  return %w1, %b1 : tensor<16x8xf32>, tensor<16xf32>
}
}
