// RUN: llama-opt %s | llama-opt | FileCheck %s
// RUN: llama-opt %s --mlir-print-op-generic | llama-opt | FileCheck %s

// Every op prints as it was written, also after a trip through the generic form.

llama.parameter @w : tensor<1000xf32> {initializer = #llama.initializer<ones>}
llama.parameter @frozen : tensor<3xbf16> {frozen, initializer = #llama.initializer<ones>}

func.func private @scale(%x: tensor<8xf32>, %w: tensor<1000xf32>) -> tensor<8xf32> attributes {llama.block}
// The second result takes the place of argument 1, so it needs no buffer.
func.func private @accumulate(%x: tensor<8xf32>, %g: tensor<1000xf32>)
    -> (tensor<1xf32>, tensor<1000xf32> {llama.in_place = 1 : i64}) attributes {llama.block}
func.func private @add_once(%s: tensor<1xf64>, %v: tensor<1xf32>, %f: tensor<1xf64>)
    -> (tensor<1xf64> {llama.in_place = 0 : i64}) attributes {llama.block}
func.func private @gradient_norm(%g: tensor<1024xf32>) -> tensor<1xf32> attributes {llama.block}
func.func private @adamw(%p: tensor<1024xf32>, %m: tensor<1024xf32>, %v: tensor<1024xf32>, %g: tensor<1024xf32>, %h: tensor<8xf32>)
    -> (tensor<1024xf32> {llama.in_place = 0 : i64}, tensor<1024xf32> {llama.in_place = 1 : i64}, tensor<1024xf32> {llama.in_place = 2 : i64}) attributes {llama.block}
func.func @forward(%x: tensor<8xf32>) -> tensor<8xf32> {
  return %x : tensor<8xf32>
}

// CHECK:      dist.arena @parameters role = parameters bytes = 4160
// CHECK-NEXT: dist.arena @gradients role = gradients bytes = 4096
// CHECK-NEXT: dist.arena @workspace role = workspace bytes = 8192
dist.arena @parameters role = parameters bytes = 4160
dist.arena @gradients role = gradients bytes = 4096
dist.arena @workspace role = workspace bytes = 8192

// CHECK:      dist.storage @w at @parameters[0] master @parameters[0] gradient @gradients[0] moments @workspace[0], @workspace[4096]
// CHECK-NEXT: dist.storage @frozen at @parameters[4096]{{$}}
dist.storage @w at @parameters[0] master @parameters[0] gradient @gradients[0] moments @workspace[0], @workspace[4096]
dist.storage @frozen at @parameters[4096]

// Sharded weights and gradients.
// CHECK:      dist.unit @u parameters [@w] : 1024 x f32 weights @parameters[0] gradient @gradients[0] : f32
dist.unit @u parameters [@w] : 1024 x f32 weights @parameters[0] gradient @gradients[0] : f32

// CHECK-LABEL: dist.graph @step {
// CHECK-NEXT:    dist.input "x" at @workspace[64] : tensor<8xf32>
// CHECK-NEXT:    dist.call @scale(@workspace[64], @parameters[0], @workspace[128], @workspace[8192])
// CHECK-NEXT:    dist.call @accumulate(@workspace[128], @gradients[0], @workspace[0], @workspace[8192])
// CHECK-NEXT:    dist.output "loss" at @workspace[0] : tensor<1xf32>
// CHECK-NEXT:  }
dist.graph @step {
  dist.input "x" at @workspace[64] : tensor<8xf32>
  dist.call @scale(@workspace[64], @parameters[0], @workspace[128], @workspace[8192])
  dist.call @accumulate(@workspace[128], @gradients[0], @workspace[0], @workspace[8192])
  dist.output "loss" at @workspace[0] : tensor<1xf32>
}

// An address alone has a form of its own.
// CHECK: dist.graph @empty attributes {note = #dist.address<@workspace, 64>} {
dist.graph @empty attributes {note = #dist.address<@workspace, 64>} {}

// A graph on frames: collectives within it, what a run gives it.
// CHECK:      dist.communicator @tp axes ["tp"]
// CHECK-NEXT: dist.communicator @"forward 0 to 1" edge [0, 1]
dist.communicator @tp axes ["tp"]
dist.communicator @"forward 0 to 1" edge [0, 1]
// CHECK-LABEL: dist.graph @layer {
// CHECK-NEXT:    dist.frame "kept" bytes = 64
// CHECK-NEXT:    dist.input "ids" at @workspace[0] {images = [2, "tp"], split = {{\[\[}}], ["cp"]]} : tensor<2x4xi64>
// CHECK-NEXT:    %{{.*}} = dist.collective all_gather @tp from @kept[0] to @workspace[64] : 2 x 4 x f32
// CHECK-NEXT:    %{{.*}} = dist.collective all_reduce @tp from @kept[0] to @kept[0] : 1 x 8 x bf16 to_type f32 {maximum}
// CHECK-NEXT:    %{{.*}} = dist.collective all_reduce @tp from @kept[0] to @kept[0] : 1 x 8 x f32 staging <bytes = 64, scratch = <@workspace, 64>>
// CHECK-NEXT:    dist.output "loss" at @kept[32] {partial = ["cp"]} : tensor<1xf32>
dist.graph @layer {
  dist.frame "kept" bytes = 64
  dist.input "ids" at @workspace[0] {images = [2, "tp"], split = [[], ["cp"]]} : tensor<2x4xi64>
  %0 = dist.collective all_gather @tp from @kept[0] to @workspace[64] : 2 x 4 x f32
  %1 = dist.collective all_reduce @tp from @kept[0] to @kept[0] : 1 x 8 x bf16 to_type f32 {maximum}
  %2 = dist.collective all_reduce @tp from @kept[0] to @kept[0] : 1 x 8 x f32 staging <bytes = 64, scratch = <@workspace, 64>>
  dist.output "loss" at @kept[32] {partial = ["cp"]} : tensor<1xf32>
}

// Before memory is planned: graphs are functions, entries name no buffers.
// CHECK-LABEL: dist.program "forward" {
// CHECK-NEXT:    %{{.*}} = dist.run @forward micro_batch = 0
// CHECK-NEXT:    %{{.*}} = dist.gradient_norm @gradient_norm{{$}}
// CHECK-NEXT:    %{{.*}} = dist.call @add_once micro_batch = 0
// CHECK-NEXT:    %{{.*}} = dist.update @adamw{{$}}
dist.program "forward" {
  %0 = dist.run @forward micro_batch = 0
  %1 = dist.gradient_norm @gradient_norm
  %2 = dist.call @add_once micro_batch = 0
  %3 = dist.update @adamw
}

// After: graphs are dist.graph. A program may bear the name of its graph.
// CHECK-LABEL: dist.program "step" {
// CHECK-NEXT:    dist.input "hyperparameters" at @workspace[256] : tensor<8xf64>
// CHECK-NEXT:    dist.output "sums" at @workspace[0] : tensor<2xf64>
// CHECK-NEXT:    %{{.*}} = dist.zero bytes = 4096 at @gradients[0]
// CHECK-NEXT:    %{{.*}} = dist.run @step micro_batch = 0
// CHECK-NEXT:    %[[ACT:.*]] = dist.run @step micro_batch = 1
// CHECK-NEXT:    %{{.*}} = dist.gradient_norm @gradient_norm(@gradients[0], @workspace[0], @workspace[64]) once ["tp"] after(%[[ACT]])
// CHECK-NEXT:    %{{.*}} = dist.call @add_once(@workspace[0], @workspace[64], @workspace[128], @workspace[192])
// CHECK-NEXT:    %{{.*}} = dist.update @adamw(@parameters[0], @workspace[0], @workspace[4096], @gradients[0], @workspace[0], @workspace[0])
dist.program "step" {
  dist.input "hyperparameters" at @workspace[256] : tensor<8xf64>
  dist.output "sums" at @workspace[0] : tensor<2xf64>
  %0 = dist.zero bytes = 4096 at @gradients[0]
  %1 = dist.run @step micro_batch = 0
  %2 = dist.run @step micro_batch = 1
  %3 = dist.gradient_norm @gradient_norm(@gradients[0], @workspace[0], @workspace[64]) once ["tp"] after(%2)
  %4 = dist.call @add_once(@workspace[0], @workspace[64], @workspace[128], @workspace[192])
  %5 = dist.update @adamw(@parameters[0], @workspace[0], @workspace[4096], @gradients[0], @workspace[0], @workspace[0])
}

// Another stage has a program of the same name, and a frame goes to it.
// CHECK-LABEL: dist.program "step" attributes {stage = 1 : i64} {
// CHECK-NEXT:    %[[GOT:.*]] = dist.receive @"forward 0 to 1" <"kept", 3, 0> : 16 x f32 tag [0, 3, 0] at @workspace[0] {stream = 1 : i64}
// CHECK-NEXT:    %[[ACT:.*]] = dist.run @layer micro_batch = 3 reads [#dist.instance<"kept", 3, 0>] at(@workspace[0]) after(%[[GOT]])
// CHECK-NEXT:    %{{.*}} = dist.send @"forward 0 to 1" <"kept", 3, 32> : 8 x f32 tag [1, 3, 0] at @workspace[32] after(%[[ACT]]) {stream = 2 : i64}
// CHECK-NEXT:    %{{.*}} = dist.zero writes <"kept", 4, 0> bytes = 64 at @workspace[64]
dist.program "step" attributes {stage = 1 : i64} {
  %0 = dist.receive @"forward 0 to 1" <"kept", 3, 0> : 16 x f32 tag [0, 3, 0] at @workspace[0] {stream = 1 : i64}
  %1 = dist.run @layer micro_batch = 3 reads [#dist.instance<"kept", 3, 0>] at(@workspace[0]) after(%0)
  %2 = dist.send @"forward 0 to 1" <"kept", 3, 32> : 8 x f32 tag [1, 3, 0] at @workspace[32] after(%1) {stream = 2 : i64}
  %3 = dist.zero writes <"kept", 4, 0> bytes = 64 at @workspace[64]
}
