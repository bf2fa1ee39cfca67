// RUN: llama-opt %s --split-input-file --verify-diagnostics --dist-place-frames

// expected-error@+1 {{expected a program (dist.program)}}
module {}

// -----

func.func @consume(%y: tensor<8xf32> {dist.frame = ["y", 0]}) {
  return
}
dist.program "step" {
  // expected-error@+1 {{reads frame 'y' 0 before it is written}}
  %0 = dist.run @consume micro_batch = 0 reads [#dist.instance<"y", 0, 0>]
}

// -----

// Two stages that both receive first.
dist.communicator @forward edge [0, 1]
dist.communicator @backward edge [1, 0]
dist.program "step" {
  // expected-error@+1 {{can never start: the entries of the stages wait for each other}}
  %0 = dist.receive @backward <"x", 0, 0> : 8 x f32 tag [0, 0, 0] {stream = 1 : i64}
  %1 = dist.send @forward <"x", 0, 0> : 8 x f32 tag [0, 0, 0] {stream = 2 : i64}
}
dist.program "step" attributes {stage = 1 : i64} {
  %0 = dist.receive @forward <"y", 0, 0> : 8 x f32 tag [0, 0, 0] {stream = 1 : i64}
  %1 = dist.send @backward <"y", 0, 0> : 8 x f32 tag [0, 0, 0] {stream = 2 : i64}
}
