// RUN: llama-opt %s --split-input-file --verify-diagnostics

// Each case breaks one numbered constraint; its name is in the comment.

// program_c1
dist.program "step" {
  // expected-error@+1 {{'llama.parameter' op is not an entry of a program}}
  llama.parameter @w : tensor<8xf32> {initializer = #llama.initializer<ones>}
}

// -----

// program_c2
// expected-note@+1 {{the other program is here}}
dist.program "step" {}
// expected-error@+1 {{expects a name of its own, but 'step' is taken}}
dist.program "step" {}

// -----

// program_c3
dist.arena @workspace role = workspace bytes = 64
// expected-note@-1 {{the arena is here}}
// expected-error@+1 {{expects 0 bytes at @workspace[65], but the arena ends at 64}}
dist.program "step" needs (@workspace[65]) {}

// -----

// program_c3
dist.arena @workspace role = workspace bytes = 64
// expected-error@+1 {{expects to need arenas of its stage, each once, but got @workspace}}
dist.program "step" needs (@workspace[64], @workspace[0]) {}

// -----

// program_c3
dist.arena @workspace role = workspace bytes = 64 {stage = 1 : i64}
// expected-error@+1 {{expects to need arenas of its stage, each once, but got @workspace}}
dist.program "step" needs (@workspace[64]) {}

// -----

// run_c1
dist.program "step" {
  // expected-error@+1 {{expects 'step' to name a graph}}
  %0 = dist.run @step micro_batch = 0
}

// -----

// run_c2
dist.graph @step {}
dist.program "step" {
  // expected-error@+1 {{attribute 'micro_batch' failed to satisfy constraint: 64-bit signless integer attribute whose value is non-negative}}
  %0 = dist.run @step micro_batch = -1
}

// -----

// run_c3
dist.graph @step {
  dist.frame "kept" bytes = 64
}
dist.arena @activations role = activations bytes = 64
dist.program "step" {
  // expected-error@+1 {{expects an address for each of 0 frame instances and 1 frames of 'step', but got 1}}
  %0 = dist.run @step micro_batch = 0 at (@activations[0])
}

// -----

// communicator_c1
// expected-error@+1 {{expects axes, at least one and all different, or an edge of two different stages}}
dist.communicator @twice axes ["tp", "tp"]

// -----

// communicator_c1
// expected-error@+1 {{expects axes, at least one and all different, or an edge of two different stages}}
dist.communicator @self edge [1, 1]

// -----

// send_c1
dist.communicator @tp axes ["tp"]
dist.program "step" {
  // expected-error@+1 {{expects 'tp' to name a dist.communicator with an edge}}
  %0 = dist.send @tp <"h", 0, 0> : 8 x f32 tag [0, 0, 0]
}

// -----

// send_c2
dist.communicator @forward edge [0, 1]
dist.program "step" {
  // expected-error@+1 {{expects a tag of three numbers, but got 2}}
  %0 = dist.send @forward <"h", 0, 0> : 8 x f32 tag [0, 0]
}

// -----

// send_c3
dist.communicator @forward edge [0, 1]
dist.program "step" {
  // expected-error@+1 {{expects elements of f32, bf16, f64 or i64, but got 'none'}}
  %0 = dist.send @forward <"h", 0, 0> : 8 x none tag [0, 0, 0]
}

// -----

// receive_c1
dist.program "step" {
  // expected-error@+1 {{expects 'forward' to name a dist.communicator with an edge}}
  %0 = dist.receive @forward <"h", 0, 0> : 8 x f32 tag [0, 0, 0]
}

// -----

// receive_c2
dist.communicator @forward edge [0, 1]
dist.program "step" {
  // expected-error@+1 {{expects a tag of three numbers, but got 0}}
  %0 = dist.receive @forward <"h", 0, 0> : 8 x f32 tag []
}

// -----

// receive_c3
dist.communicator @forward edge [0, 1]
dist.program "step" {
  // expected-error@+1 {{expects elements of f32, bf16, f64 or i64, but got 'i8'}}
  %0 = dist.receive @forward <"h", 0, 0> : 8 x i8 tag [0, 0, 0]
}

// -----

// collective_c1
dist.program "step" {
  // expected-error@+1 {{expects 'forward' to name a dist.communicator}}
  %0 = dist.collective all_reduce @forward : 1 x 8 x f32
}

// -----

// collective_c2
dist.communicator @tp axes ["tp"]
dist.program "step" {
  // expected-error@+1 {{expects at least one element, but got 0 x 8}}
  %0 = dist.collective all_reduce @tp : 0 x 8 x f32
}

// -----

// collective_c3
dist.communicator @tp axes ["tp"]
// expected-note@+1 {{the arena is here}}
dist.arena @gradients role = gradients bytes = 64
dist.program "step" {
  // expected-error@+1 {{expects 128 bytes at @gradients[0], but the arena ends at 64}}
  %0 = dist.collective all_reduce @tp from @gradients[0] to @gradients[0] : 1 x 32 x f32
}

// -----

// collective_c4
dist.communicator @tp axes ["tp"]
dist.program "step" {
  // expected-error@+1 {{expects elements of f32, bf16, f64 or i64, but got 'none'}}
  %0 = dist.collective all_reduce @tp : 1 x 8 x none
}

// -----

// collective_c4
dist.communicator @tp axes ["tp"]
dist.program "step" {
  // expected-error@+1 {{expects elements of f32, bf16, f64 or i64, but got 'index'}}
  %0 = dist.collective all_reduce @tp : 1 x 8 x f32 to_type index
}

// -----

// collective_c5
dist.communicator @tp axes ["tp"]
dist.program "step" {
  // expected-error@+1 {{expects 'accumulate' of a reduce_scatter only}}
  %0 = dist.collective all_reduce @tp : 1 x 8 x f32 {accumulate}
}

// -----

// collective_c6
dist.communicator @tp axes ["tp"]
dist.program "step" {
  // expected-error@+1 {{expects 'tp' to name a block}}
  %0 = dist.collective all_reduce @tp : 1 x 8 x bf16 staging <pack = @tp>
}

// -----

// collective_c6
dist.communicator @tp axes ["tp"]
// expected-note@+1 {{the arena is here}}
dist.arena @workspace role = workspace bytes = 64
dist.program "step" {
  // expected-error@+1 {{expects 128 bytes at @workspace[0], but the arena ends at 64}}
  %0 = dist.collective all_reduce @tp : 1 x 8 x f32 staging <bytes = 128, scratch = <@workspace, 0>>
}

// -----

// zero_c1
dist.program "step" {
  // expected-error@+1 {{expects a frame instance or an address}}
  %0 = dist.zero bytes = 64
}

// -----

// zero_c2
// expected-note@+1 {{the arena is here}}
dist.arena @gradients role = gradients bytes = 64
dist.program "step" {
  // expected-error@+1 {{expects 128 bytes at @gradients[0], but the arena ends at 64}}
  %0 = dist.zero bytes = 128 at @gradients[0]
}

// -----

// An entry's block has all its buffers, or all but scratch.
func.func private @add(%s: tensor<1xf64>, %v: tensor<1xf32>) -> (tensor<1xf64> {llama.in_place = 0 : i64}) attributes {llama.block}
dist.arena @statistics role = statistics bytes = 128
dist.program "step" {
  %0 = dist.call @add(@statistics[0], @statistics[64])
  %1 = dist.call @add(@statistics[0], @statistics[64], @statistics[128]) micro_batch = 0
  // expected-error@+1 {{expects 3 buffers for 'add', but got 1}}
  %2 = dist.call @add(@statistics[0])
}

// -----

// graph_c4
func.func private @layer() attributes {llama.block}
dist.arena @workspace role = workspace bytes = 64
dist.graph @step {
  // expected-error@+1 {{expects neither a stream nor events within a graph: its run has them}}
  dist.call @layer(@workspace[0]) {stream = 1 : i64}
}

// -----

// frame_c1
dist.graph @step {
  // expected-error@+1 {{attribute 'bytes' failed to satisfy constraint: 64-bit signless integer attribute whose value is non-negative}}
  dist.frame "kept" bytes = -1
}

// -----

// An address in a frame
func.func private @layer(%x: tensor<8xf32>) -> tensor<8xf32> attributes {llama.block}
dist.graph @step {
  dist.frame "kept" bytes = 64
  // expected-error@+1 {{expects 0 bytes at @kept[128], but the frame ends at 64}}
  dist.call @layer(@kept[0], @kept[0], @kept[128])
}

// -----

// gradient_norm_c1: there is a function, but it is no block
func.func private @norm(%g: tensor<16xf32>) -> tensor<1xf32>
dist.program "step" {
  // expected-error@+1 {{expects 'norm' to name a block}}
  %0 = dist.gradient_norm @norm
}

// -----

// gradient_norm_c1
func.func private @norm(%g: tensor<16xf32>) -> tensor<2xf32> attributes {llama.block}
dist.program "step" {
  // expected-error@+1 {{expects a block of type (tensor<NxT>) -> tensor<1xU>, but got '(tensor<16xf32>) -> tensor<2xf32>'}}
  %0 = dist.gradient_norm @norm
}

// -----

// gradient_norm_c2
func.func private @norm(%g: tensor<16xf32>) -> tensor<1xf32> attributes {llama.block}
dist.arena @gradients role = gradients bytes = 64
dist.program "step" {
  // expected-error@+1 {{expects 2 or 3 buffers, but got 1}}
  %0 = dist.gradient_norm @norm(@gradients[0])
}

// -----

// update_c1
func.func private @adamw(%p: tensor<16xf32>) -> tensor<16xf32> attributes {llama.block}
dist.program "step" {
  // expected-error@+1 {{expects a block that maps masters, two moments, gradients and 8 hyperparameters to new masters and moments, but got '(tensor<16xf32>) -> tensor<16xf32>'}}
  %0 = dist.update @adamw
}

// -----

// update_c2
llvm.func @adamw(!llvm.ptr)
dist.arena @masters role = masters bytes = 64
dist.program "step" {
  // expected-error@+1 {{expects 5 to 7 buffers, but got 2}}
  %0 = dist.update @adamw(@masters[0], @masters[0])
}

// -----

// arena_c1
// expected-error@+1 {{attribute 'bytes' failed to satisfy constraint: 64-bit signless integer attribute whose value is non-negative}}
dist.arena @workspace role = workspace bytes = -64

// -----

// storage_c1
dist.arena @parameters role = parameters bytes = 64
// expected-error@+1 {{expects 'w' to name a llama.parameter}}
dist.storage @w at @parameters[0]

// -----

// storage_c2: state is missing
llama.parameter @w : tensor<16xf32> {initializer = #llama.initializer<ones>}
dist.arena @parameters role = parameters bytes = 64
// expected-error@+1 {{expects master, gradient and moments exactly if the parameter is trainable, but 'w' is trainable}}
dist.storage @w at @parameters[0]

// -----

// storage_c2: state is too much
llama.parameter @w : tensor<16xf32> {frozen, initializer = #llama.initializer<ones>}
dist.arena @parameters role = parameters bytes = 64
// expected-error@+1 {{expects master, gradient and moments exactly if the parameter is trainable, but 'w' is frozen}}
dist.storage @w at @parameters[0] master @parameters[0] gradient @parameters[0] moments @parameters[0], @parameters[0]

// -----

// storage_c3: bf16 parameter with an f32 master
llama.parameter @w : tensor<16xbf16> {initializer = #llama.initializer<ones>}
// expected-note@+1 {{the arena is here}}
dist.arena @parameters role = parameters bytes = 32
dist.arena @state role = parameters bytes = 64
// expected-error@+1 {{expects 64 bytes at @parameters[0], but the arena ends at 32}}
dist.storage @w at @parameters[0] master @parameters[0] gradient @state[0] moments @state[0], @state[0]

// -----

// graph_c1
dist.graph @step {
  // expected-error@+1 {{does not belong in a graph}}
  dist.arena @workspace role = workspace bytes = 0
}

// -----

// graph_c2
dist.arena @inputs role = inputs bytes = 64
dist.graph @step {
  dist.input "x" at @inputs[0] : tensor<1xf32>
  // expected-error@+1 {{expects a name of its own}}
  dist.input "x" at @inputs[0] : tensor<1xf32>
}

// -----

// graph_c3
dist.arena @inputs role = inputs bytes = 64
dist.graph @step {
  dist.input "x" at @inputs[0] : tensor<1xf32>
  // expected-error@+1 {{expects to come before what is no frame}}
  dist.frame "kept" bytes = 64
}

// -----

// input_c1
dist.arena @inputs role = inputs bytes = 64
dist.graph @step {
  // expected-error@+1 {{expects a static shape of f32, bf16, f64 or i64, but got 'tensor<1xi8>'}}
  dist.input "x" at @inputs[0] : tensor<1xi8>
}

// -----

// input_c2
// expected-note@+1 {{the arena is here}}
dist.arena @inputs role = inputs bytes = 64
dist.graph @step {
  // expected-error@+1 {{expects 8 bytes at @inputs[60], but the arena ends at 64}}
  dist.input "x" at @inputs[60] : tensor<2xf32>
}

// -----

// output_c1
dist.arena @workspace role = workspace bytes = 64
dist.graph @step {
  // expected-error@+1 {{expects a static shape of f32, bf16, f64 or i64, but got 'tensor<?xf32>'}}
  dist.output "x" at @workspace[0] : tensor<?xf32>
}

// -----

// output_c2
dist.graph @step {
  // expected-error@+1 {{expects 'workspace' to name a dist.arena}}
  dist.output "x" at @workspace[0] : tensor<1xf32>
}

// -----

// call_c1
dist.graph @step {
  // expected-error@+1 {{expects 'layer' to name a block}}
  dist.call @layer()
}

// -----

// call_c2
func.func private @layer(%x: tensor<8xf32>) -> tensor<8xf32> attributes {llama.block}
dist.arena @workspace role = workspace bytes = 64
dist.graph @step {
  // expected-error@+1 {{expects 3 buffers for 'layer', but got 2}}
  dist.call @layer(@workspace[0], @workspace[32])
}

// -----

// call_c3: an address may be the end of an arena (empty scratch), not behind it
llvm.func @layer(!llvm.ptr)
// expected-note@+1 {{the arena is here}}
dist.arena @workspace role = workspace bytes = 64
dist.graph @step {
  dist.call @layer(@workspace[64])
  // expected-error@+1 {{expects 0 bytes at @workspace[128], but the arena ends at 64}}
  dist.call @layer(@workspace[128])
}

// -----

// unit_c1
dist.arena @parameters role = parameters bytes = 64
// expected-error@+1 {{expects 'w' to name a llama.parameter}}
dist.unit @u parameters [@w] : 16 x f32 weights @parameters[0]

// -----

// unit_c2
// expected-error@+1 {{expects the address of weights or of a gradient}}
dist.unit @u parameters [] : 16 x f32

// -----

// unit_c3
dist.arena @parameters role = parameters bytes = 64
// expected-error@+1 {{expects elements of f32, bf16, f64 or i64, but got 'none'}}
dist.unit @u parameters [] : 16 x none weights @parameters[0]

// -----

// unit_c3
dist.arena @gradients role = gradients bytes = 64
// expected-error@+1 {{expects elements of f32, bf16, f64 or i64, but got '!dist.event'}}
dist.unit @u parameters [] : 16 x f32 gradient @gradients[0] : !dist.event
