// RUN: llama-opt %s --split-input-file --verify-diagnostics --llama-plan-arenas

// expected-error@+1 {{expected a program (dist.program) that runs a graph}}
module {}

// -----

dist.program "step" {
  %0 = dist.run @step micro_batch = 0
}
// expected-error@+1 {{has its memory planned already}}
dist.graph @step {}

// -----

// A block that is not lowered has no known scratch size.
func.func private @f(%x: tensor<8xf32>) -> tensor<8xf32> attributes {llama.block}
func.func @step(%x: tensor<8xf32> {llama.input = "x"}) -> (tensor<8xf32> {llama.output = "y"}) {
  // expected-error@+1 {{expects a lowered block, but 'f' has no code with the attribute llama.scratch}}
  %y = llama.apply @f(%x) : (tensor<8xf32>) -> tensor<8xf32>
  return %y : tensor<8xf32>
}
dist.program "step" {
  %0 = dist.run @step micro_batch = 0
}

// -----

// expected-error@+1 {{expects argument 0 to have a name (llama.input) or a frame (dist.frame)}}
func.func @step(%x: tensor<8xf32>) {
  return
}
dist.program "step" {
  %0 = dist.run @step micro_batch = 0
}

// -----

// expected-error@+1 {{expects tensors of static shape of f32, bf16, f64 or i64, but got 'tensor<?xf32>'}}
func.func @step(%x: tensor<?xf32> {llama.input = "x"}) {
  return
}
dist.program "step" {
  %0 = dist.run @step micro_batch = 0
}

// -----

func.func @step(%x: tensor<8xf32> {llama.input = "x"}) {
  return
}
// expected-error@+1 {{expects input 'x' to have one type in all graphs, but got 'tensor<9xf32>' and 'tensor<8xf32>'}}
func.func @forward(%x: tensor<9xf32> {llama.input = "x"}) {
  return
}
dist.program "step" {
  %0 = dist.run @step micro_batch = 0
  %1 = dist.run @forward micro_batch = 0
}

// -----

// %m is read after @add took its place.
func.func private @make(%x: tensor<8xf32>) -> tensor<8xf32> attributes {llama.block, llama.scratch = 0 : i64}
func.func private @add(%m: tensor<8xf32>) -> (tensor<8xf32> {llama.in_place = 0 : i64}) attributes {llama.block, llama.scratch = 0 : i64}
func.func @step(%x: tensor<8xf32> {llama.input = "x"}) -> (tensor<8xf32> {llama.output = "y"}, tensor<8xf32> {llama.output = "z"}) {
  %m = llama.apply @make(%x) : (tensor<8xf32>) -> tensor<8xf32>
  // expected-error@+1 {{expects input 0, whose place result 0 takes, to be no input of the graph and not to be read any more}}
  %y = llama.apply @add(%m) : (tensor<8xf32>) -> tensor<8xf32>
  return %y, %m : tensor<8xf32>, tensor<8xf32>
}
dist.program "step" {
  %0 = dist.run @step micro_batch = 0
}

// -----

// A gradient is a sum: its block adds to the argument.
llama.parameter @w : tensor<8xf32> {initializer = #llama.initializer<ones>}
func.func private @dw(%d: tensor<8xf32>, %g: tensor<8xf32>) -> tensor<8xf32> attributes {llama.block, llama.scratch = 0 : i64}
func.func @step(%d: tensor<8xf32> {llama.input = "loss_gradient"}) {
  // expected-error@+1 {{expects result 0 of 'dw' to take the place of argument 1, the gradient so far}}
  llama.apply @dw(%d) gradients [@w] : (tensor<8xf32>) -> ()
  return
}
dist.program "step" {
  %0 = dist.run @step micro_batch = 0
}

// -----

// A parameter that the stage does not have.
llama.parameter @w : tensor<8xf32> {frozen, initializer = #llama.initializer<ones>}
func.func private @scale(%x: tensor<8xf32>, %w: tensor<8xf32>) -> tensor<8xf32> attributes {llama.block, llama.scratch = 0 : i64}
func.func @step(%x: tensor<8xf32> {llama.input = "x"}) -> (tensor<8xf32> {llama.output = "y"}) {
  // expected-error@+1 {{expects a dist.storage of 'w' on stage 0}}
  %y = llama.apply @scale(%x) parameters [@w] : (tensor<8xf32>) -> tensor<8xf32>
  return %y : tensor<8xf32>
}
dist.program "step" {
  %0 = dist.run @step micro_batch = 0
}

// -----

// The optimizer's block must fit the state.
llama.parameter @w : tensor<8xf32> {initializer = #llama.initializer<ones>}
dist.arena @parameters role = parameters bytes = 4096
func.func private @adamw(%p: tensor<2048xf32>, %m: tensor<2048xf32>, %v: tensor<2048xf32>, %g: tensor<2048xf32>, %h: tensor<8xf32>)
    -> (tensor<2048xf32> {llama.in_place = 0 : i64}, tensor<2048xf32> {llama.in_place = 1 : i64}, tensor<2048xf32> {llama.in_place = 2 : i64})
    attributes {llama.block, llama.scratch = 0 : i64}
func.func @step() {
  return
}
dist.program "step" {
  %0 = dist.run @step micro_batch = 0
  // expected-error@+1 {{expects buffer 0 of 'adamw' to fit into @parameters, but got 'tensor<2048xf32>'}}
  %1 = dist.update @adamw(@parameters[0], @parameters[0], @parameters[0], @parameters[0], @parameters[0])
}

// -----

// expected-error@+1 {{expects @u in dist.weights to name a dist.unit with weights}}
func.func @step() attributes {dist.weights = [@u]} {
  return
}
dist.program "step" {
  %0 = dist.run @step micro_batch = 0
}

// -----

dist.arena @parameters role = parameters bytes = 64
dist.unit @u parameters [] : 16 x f32 weights @parameters[0]
// expected-error@+1 {{expects @u in dist.gradients to name a dist.unit with a gradient}}
func.func @step() attributes {dist.gradients = [@u]} {
  return
}
dist.program "step" {
  %0 = dist.run @step micro_batch = 0
}

// -----

// Arguments that a block takes for one matrix.
dist.arena @parameters role = parameters bytes = 256
llama.parameter @a : tensor<8xf32> {frozen, initializer = #llama.initializer<ones>}
llama.parameter @b : tensor<8xf32> {frozen, initializer = #llama.initializer<ones>}
dist.storage @a at @parameters[0]
dist.storage @b at @parameters[64]
func.func private @block(%x: tensor<8xf32>, %a: tensor<8xf32>, %b: tensor<8xf32>) -> tensor<8xf32> attributes {llama.block, llama.scratch = 0 : i64, llama.consecutive = [array<i64: 1, 2>]}
func.func @forward(%x: tensor<8xf32> {llama.input = "x"}) -> (tensor<8xf32> {llama.output = "y"}) {
  // expected-error@+1 {{expects argument 2 of 'block' to be a parameter that lies behind the one before (llama.consecutive)}}
  %y = llama.apply @block(%x) parameters [@a, @b] : (tensor<8xf32>) -> tensor<8xf32>
  return %y : tensor<8xf32>
}
dist.program "forward" {
  %0 = dist.run @forward micro_batch = 0
}
