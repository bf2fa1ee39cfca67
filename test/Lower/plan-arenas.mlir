// RUN: llama-opt %s --split-input-file --llama-plan-arenas | FileCheck %s

// Scratch and result of a call live at the same time.

// CHECK:      dist.arena @parameters role = parameters bytes = 64
// CHECK-NEXT: dist.arena @workspace role = workspace bytes = 192
// CHECK-NEXT: dist.arena @inputs role = inputs bytes = 64
// CHECK-LABEL: dist.graph @forward {
// CHECK-NEXT:    dist.input "x" at @inputs[0] : tensor<8xf32>
// CHECK-NEXT:    dist.call @scale(@inputs[0], @parameters[0], @workspace[128], @workspace[0]) {dist.operands = [#dist.operand<input, "x">, #dist.operand<weights, @w>, #dist.operand<value, 0 : i64>, #dist.operand<scratch>]}
// CHECK-NEXT:    dist.output "y" at @workspace[128] {dist.operands = [#dist.operand<value, 0 : i64>]} : tensor<8xf32>
// CHECK-NEXT:  }
// CHECK-NOT:   func.func @forward
// CHECK:       dist.program "forward" needs(@parameters[64], @workspace[192], @inputs[64]) {
llama.parameter @w : tensor<8xf32> {frozen, initializer = #llama.initializer<ones>}
dist.arena @parameters role = parameters bytes = 64
dist.storage @w at @parameters[0]
func.func private @scale(%x: tensor<8xf32>, %w: tensor<8xf32>) -> tensor<8xf32> attributes {llama.block, llama.scratch = 128 : i64}
func.func @forward(%x: tensor<8xf32> {llama.input = "x"}) -> (tensor<8xf32> {llama.output = "y"}) {
  %y = llama.apply @scale(%x) parameters [@w] : (tensor<8xf32>) -> tensor<8xf32>
  return %y : tensor<8xf32>
}
dist.program "forward" {
  %0 = dist.run @forward micro_batch = 0
}

// -----

// Two pieces of a step. What flows between them lies in a frame, at the offsets that
// both name; a run will say where the frame lies. Collectives are items on addresses.

// CHECK:      dist.communicator @tp axes ["tp"]
// CHECK:      dist.arena @masters role = masters bytes = 4096
// CHECK:      dist.arena @workspace role = workspace bytes = 256
// CHECK-NEXT: dist.arena @inputs role = inputs bytes = 128
module attributes {dist.axes = ["dp", "pp", "cp", "tp"]} {
shard.grid @grid(shape = 1x1x1x2)
llama.parameter @a : tensor<17xbf16> {initializer = #llama.initializer<ones>}
llama.parameter @b : tensor<17xbf16> {frozen, initializer = #llama.initializer<ones>}
llama.parameter @c : tensor<17xbf16> {initializer = #llama.initializer<ones>}
dist.arena @parameters role = parameters bytes = 2112
dist.arena @gradients role = gradients bytes = 4096
dist.arena @moment1 role = moment1 bytes = 4096
dist.arena @moment2 role = moment2 bytes = 4096
dist.arena @masters role = masters bytes = 4096
dist.arena @statistics role = statistics bytes = 192
dist.storage @a at @parameters[0] master @masters[0] gradient @gradients[0] moments @moment1[0], @moment2[0]
dist.storage @b at @parameters[2048]
dist.storage @c at @parameters[64] master @masters[128] gradient @gradients[128] moments @moment1[128], @moment2[128]

func.func private @layer(%x: tensor<17xbf16>, %w: tensor<17xbf16>) -> tensor<17xbf16> attributes {llama.block, llama.scratch = 0 : i64}
func.func private @layer.forward(%x: tensor<17xbf16>, %w: tensor<17xbf16>) -> (tensor<17xbf16>, tensor<17xf32>) attributes {llama.block, llama.scratch = 64 : i64}
func.func private @head(%x: tensor<17xbf16>) -> tensor<1xf32> attributes {llama.block, llama.scratch = 0 : i64}
func.func private @head.backward(%d: tensor<1xf32>, %x: tensor<17xbf16>) -> tensor<17xbf16> attributes {llama.block, llama.scratch = 0 : i64}
func.func private @layer.backward_weight(%d: tensor<17xbf16>, %r: tensor<17xf32>, %g: tensor<17xf32>)
    -> (tensor<17xf32> {llama.in_place = 2 : i64}) attributes {llama.block, llama.scratch = 0 : i64}
func.func private @gradient_norm(%g: tensor<1024xf32>) -> tensor<1xf32> attributes {llama.block, llama.scratch = 256 : i64}
func.func private @adamw(%p: tensor<1024xf32>, %m: tensor<1024xf32>, %v: tensor<1024xf32>, %g: tensor<1024xf32>, %h: tensor<8xf32>)
    -> (tensor<1024xf32> {llama.in_place = 0 : i64}, tensor<1024xf32> {llama.in_place = 1 : i64}, tensor<1024xf32> {llama.in_place = 2 : i64}, tensor<1024xbf16>)
    attributes {llama.block, llama.scratch = 128 : i64}

// CHECK-LABEL: dist.graph @forward {
// CHECK-NEXT:    dist.frame "kept" bytes = 192
// CHECK-NEXT:    dist.input "x" at @inputs[0] : tensor<17xbf16>
// CHECK-NEXT:    dist.call @layer(@inputs[0], @parameters[2048], @workspace[0], @workspace[0])
// CHECK-NEXT:    dist.call @layer.forward(@workspace[0], @parameters[0], @kept[0], @kept[64], @workspace[64]) {dist.operands = [#dist.operand<value, 0 : i64>, #dist.operand<weights, @a>, #dist.operand<crossing, "kept 0">, #dist.operand<crossing, "kept 64">, #dist.operand<scratch>]}
// CHECK-NEXT:    dist.call @head(@kept[0], @statistics[128], @workspace[0])
// CHECK-NEXT:    dist.output "loss" at @statistics[128] {dist.operands = [#dist.operand<output, "loss">]} : tensor<1xf32>
// CHECK-NEXT:  }
func.func @forward(%x: tensor<17xbf16> {llama.input = "x"}) -> (tensor<1xf32> {llama.output = "loss", dist.at = #dist.address<@statistics, 128>}, tensor<17xbf16> {dist.frame = ["kept", 0]}, tensor<17xf32> {dist.frame = ["kept", 64]}) {
  %y1 = llama.apply @layer(%x) parameters [@b] : (tensor<17xbf16>) -> tensor<17xbf16>
  %y2, %r = llama.apply @layer.forward(%y1) parameters [@a] : (tensor<17xbf16>) -> (tensor<17xbf16>, tensor<17xf32>)
  %loss = llama.apply @head(%y2) : (tensor<17xbf16>) -> tensor<1xf32>
  return %loss, %y2, %r : tensor<1xf32>, tensor<17xbf16>, tensor<17xf32>
}

// Gradients are updated where they are: they are the last buffer before scratch.
// CHECK-LABEL: dist.graph @backward {
// CHECK-NEXT:    dist.frame "kept" bytes = 192
// CHECK-NEXT:    dist.input "loss_gradient" at @inputs[64] : tensor<1xf32>
// CHECK-NEXT:    dist.call @head.backward(@inputs[64], @kept[0], @workspace[0], @workspace[0])
// CHECK-NEXT:    %{{.*}} = dist.collective all_reduce @tp from @workspace[0] to @workspace[64] : 1 x 17 x bf16
// CHECK-NEXT:    dist.call @layer.backward_weight(@workspace[64], @kept[64], @gradients[128], @workspace[0])
// CHECK-NEXT:{{^ +}}}
func.func @backward(%d: tensor<1xf32> {llama.input = "loss_gradient"}, %y2: tensor<17xbf16> {dist.frame = ["kept", 0]}, %r: tensor<17xf32> {dist.frame = ["kept", 64]}) {
  %dy = llama.apply @head.backward(%d, %y2) : (tensor<1xf32>, tensor<17xbf16>) -> tensor<17xbf16>
  %sum = shard.all_reduce %dy on @grid grid_axes = [3] : tensor<17xbf16> -> tensor<17xbf16>
  llama.apply @layer.backward_weight(%sum, %r) gradients [@c] : (tensor<17xbf16>, tensor<17xf32>) -> ()
  return
}

// The optimizer has the workspace for itself.
// CHECK-LABEL: dist.program "step"
// CHECK-SAME:    needs(@parameters[2112], @masters[4096], @gradients[4096], @moment1[4096], @moment2[4096], @workspace[256], @inputs[128], @statistics[192]) {
// CHECK:         dist.gradient_norm @gradient_norm(@gradients[0], @statistics[64], @workspace[0])
// CHECK-NEXT:    %{{.*}} = dist.update @adamw(@masters[0], @moment1[0], @moment2[0], @gradients[0], @statistics[0], @parameters[0], @workspace[0])
dist.program "step" {
  %0 = dist.run @forward micro_batch = 0 writes [#dist.instance<"kept", 0, 0>]
  %1 = dist.run @backward micro_batch = 0 reads [#dist.instance<"kept", 0, 0>]
  %2 = dist.gradient_norm @gradient_norm(@gradients[0], @statistics[64])
  %3 = dist.update @adamw(@masters[0], @moment1[0], @moment2[0], @gradients[0], @statistics[0], @parameters[0])
}
}

// -----

// Without scratch and without rounded weights.
// CHECK:     dist.update @adamw(@parameters[0], @moment1[0], @moment2[0], @gradients[0], @moment1[0], @workspace[0])
llama.parameter @a : tensor<16xf64> {initializer = #llama.initializer<ones>}
dist.arena @parameters role = parameters bytes = 8192
dist.arena @gradients role = gradients bytes = 8192
dist.arena @moment1 role = moment1 bytes = 8192
dist.arena @moment2 role = moment2 bytes = 8192
dist.storage @a at @parameters[0] master @parameters[0] gradient @gradients[0] moments @moment1[0], @moment2[0]
func.func private @copy(%x: tensor<4xf64>) -> tensor<4xf64> attributes {llama.block, llama.scratch = 0 : i64}
func.func private @adamw(%p: tensor<1024xf64>, %m: tensor<1024xf64>, %v: tensor<1024xf64>, %g: tensor<1024xf64>, %h: tensor<8xf64>)
    -> (tensor<1024xf64> {llama.in_place = 0 : i64}, tensor<1024xf64> {llama.in_place = 1 : i64}, tensor<1024xf64> {llama.in_place = 2 : i64})
    attributes {llama.block, llama.scratch = 0 : i64}
func.func @step(%x: tensor<4xf64> {llama.input = "x"}) -> (tensor<4xf64> {llama.output = "loss"}) {
  %y = llama.apply @copy(%x) : (tensor<4xf64>) -> tensor<4xf64>
  return %y : tensor<4xf64>
}
dist.program "step" {
  %0 = dist.run @step micro_batch = 0
  %2 = dist.update @adamw(@parameters[0], @moment1[0], @moment2[0], @gradients[0], @moment1[0])
}

// -----

// A result in the place of an argument is the same buffer, alive as long as either;
// the block is given it once. Scratch sizes come from the code of an isolated block.
// CHECK-LABEL: dist.graph @forward
// CHECK:         dist.call @make(@inputs[0], @workspace[64], @workspace[0])
// CHECK-NEXT:    dist.call @add(@workspace[64], @inputs[0], @workspace[0])
// CHECK-NEXT:    dist.output "y" at @workspace[64]
func.func private @make(tensor<8xf32>) -> tensor<8xf32> attributes {llama.block, llama.code = @make.code::@make}
builtin.module @make.code {
  llvm.func @make(!llvm.ptr) attributes {llama.scratch = 64 : i64}
}
func.func private @add(tensor<8xf32>, tensor<8xf32>) -> (tensor<8xf32> {llama.in_place = 0 : i64}) attributes {llama.block, llama.code = @make.code::@make}
func.func @forward(%x: tensor<8xf32> {llama.input = "x"}) -> (tensor<8xf32> {llama.output = "y"}) {
  %m = llama.apply @make(%x) : (tensor<8xf32>) -> tensor<8xf32>
  %y = llama.apply @add(%m, %x) : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
  return %y : tensor<8xf32>
}
dist.program "forward" {
  %0 = dist.run @forward micro_batch = 0
}

// -----

// Whole weights of a unit are read from its frame, at the parameter's place in the unit;
// the run gives the frame after those of its arguments.
// CHECK-LABEL: dist.graph @forward
// CHECK-NEXT:    dist.frame "u weights" bytes = 128
// CHECK-NEXT:    dist.input "x"
// CHECK-NEXT:    dist.call @scale(@inputs[0], @"u weights"[64], @workspace[64], @workspace[0])
llama.parameter @w : tensor<8xf32> {frozen, initializer = #llama.initializer<ones>}
dist.arena @parameters role = parameters bytes = 64
dist.unit @u parameters [@w] : 32 x f32 weights @parameters[0]
dist.storage @w at @parameters[0] {shard = array<i64: 16, 32>, shard_storage}
func.func private @scale(tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32> attributes {llama.block, llama.code = @scale.code::@scale}
builtin.module @scale.code {
  llvm.func @scale(!llvm.ptr) attributes {llama.scratch = 64 : i64}
}
func.func @forward(%x: tensor<8xf32> {llama.input = "x"}) -> (tensor<8xf32> {llama.output = "y"}) attributes {dist.weights = [@u]} {
  %y = llama.apply @scale(%x) parameters [@w] : (tensor<8xf32>) -> tensor<8xf32>
  return %y : tensor<8xf32>
}
dist.program "forward" {
  %0 = dist.run @forward micro_batch = 0 reads [#dist.instance<"u weights", 0, 0>] at (@parameters[0])
}

// -----

// Two programs of a stage share its arenas; each needs what it names of them, as much as it uses:
// inputs, outputs, buffers and scratch of calls in graphs and entries, both sides of collectives,
// what is set to zero, sent and received, frames of runs. Arenas of parameters and their state are
// needed whole or not at all.

// CHECK-LABEL: dist.graph @work
// CHECK:       dist.program "step" needs(@parameters[4096], @masters[4096], @gradients[4096], @moment1[4096], @moment2[4096], @activations[4096], @workspace[128], @inputs[192], @statistics[256]) {
// CHECK:       dist.program "forward" needs(@parameters[4096], @activations[192], @workspace[0], @inputs[64], @statistics[128]) {
module attributes {dist.axes = ["dp", "pp", "cp", "tp"]} {
shard.grid @grid(shape = 1x2x1x4)
dist.communicator @tp axes ["tp"]
dist.communicator @edge edge [0, 1]
llama.parameter @a : tensor<16xf32> {initializer = #llama.initializer<ones>}
dist.arena @parameters role = parameters bytes = 4096
dist.arena @masters role = masters bytes = 4096
dist.arena @gradients role = gradients bytes = 4096
dist.arena @moment1 role = moment1 bytes = 4096
dist.arena @moment2 role = moment2 bytes = 4096
dist.arena @activations role = activations bytes = 4096
dist.arena @statistics role = statistics bytes = 4096
dist.storage @a at @parameters[0] master @masters[0] gradient @gradients[0] moments @moment1[0], @moment2[0]
func.func private @double(tensor<16xf32>) -> tensor<16xf32> attributes {llama.block, llama.scratch = 0 : i64}
func.func private @adamw(%p: tensor<16xf32>, %m: tensor<16xf32>, %v: tensor<16xf32>, %g: tensor<16xf32>, %h: tensor<8xf32>)
    -> (tensor<16xf32> {llama.in_place = 0 : i64}, tensor<16xf32> {llama.in_place = 1 : i64}, tensor<16xf32> {llama.in_place = 2 : i64})
    attributes {llama.block, llama.scratch = 100 : i64}
func.func @work(%x: tensor<16xf32> {llama.input = "x"}, %z: tensor<16xf32> {llama.input = "z"}, %w: tensor<16xf32> {llama.input = "w"}) -> (tensor<16xf32> {dist.frame = ["kept", 64]}) {
  %y = llama.apply @double(%x) : (tensor<16xf32>) -> tensor<16xf32>
  return %y : tensor<16xf32>
}
func.func @apply(%x: tensor<16xf32> {llama.input = "x"}) -> (tensor<16xf32> {llama.output = "y", dist.at = #dist.address<@statistics, 64>}) {
  %y = llama.apply @double(%x) : (tensor<16xf32>) -> tensor<16xf32>
  return %y : tensor<16xf32>
}
dist.program "step" {
  dist.output "sums" at @statistics[240] : tensor<2xf64>
  %0 = dist.run @work micro_batch = 0 writes [#dist.instance<"kept", 0, 0>] at (@activations[3968])
  %1 = dist.update @adamw(@masters[0], @moment1[0], @moment2[0], @gradients[0], @statistics[0])
}
dist.program "forward" {
  dist.input "once:" at @statistics[0] : tensor<1xf64>
  %0 = dist.run @apply micro_batch = 0
  %1 = dist.zero bytes = 64 at @activations[0]
  %2 = dist.collective all_gather @tp from @activations[0] to @activations[64] : 1 x 8 x f32
  %3 = dist.send @edge <"v", 0, 0> : 8 x f32 tag [0, 0, 0] at @activations[128]
}
}
