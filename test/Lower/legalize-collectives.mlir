// RUN: llama-opt %s --split-input-file --dist-legalize-collectives=plain | FileCheck %s
// RUN: llama-opt %s --split-input-file --dist-legalize-collectives | FileCheck %s --check-prefix=HOST
// RUN: llama-opt %s --split-input-file --dist-legalize-collectives=plain --dist-legalize-collectives | FileCheck %s
// RUN: llama-opt %s --split-input-file --dist-legalize-collectives=plain --llama-lower-blocks --llama-plan-arenas | FileCheck %s --check-prefix=PLAN

// The operand of the gather is contiguous, its result is not. A sum in another type that is
// added to what is there: converted before, added behind.

// CHECK-LABEL: func.func @forward
// CHECK:         shard.all_gather %{{.*}} gather_axis = 1 {dist.staging = #dist.staging<unpack = @unpack.2x2x4.f32.f32>} : tensor<2x4xf32> -> tensor<2x8xf32>
// CHECK:         dist.collective reduce_scatter @dp from @gradients[0] to @gradients[256] : 1 x 16 x bf16 to_type f32 staging <pack = @pack.32.bf16.f32, unpack = @unpack.16.f32.f32.add, bytes = 64> {accumulate}
// CHECK:       func.func private @unpack.2x2x4.f32.f32(%[[X:.*]]: tensor<2x2x4xf32>) -> tensor<2x2x4xf32> attributes {llama.block} {
// CHECK:         linalg.generic {indexing_maps = [#[[SWAPPED:.*]], #[[SAME:.*]]], iterator_types = ["parallel", "parallel", "parallel"]} ins(%[[X]] : tensor<2x2x4xf32>)
// CHECK-NEXT:    ^bb0(%[[IN:.*]]: f32, %{{.*}}: f32):
// CHECK-NEXT:      linalg.yield %[[IN]] : f32
// CHECK:       func.func private @pack.32.bf16.f32(%{{.*}}: tensor<32xbf16>) -> tensor<32xf32>
// CHECK:         arith.extf
// CHECK:       func.func private @unpack.16.f32.f32.add(%{{.*}}: tensor<16xf32>, %{{.*}}: tensor<16xf32>) -> (tensor<16xf32> {llama.in_place = 1 : i64})
// CHECK:         ^bb0(%[[SUM:.*]]: f32, %[[THERE:.*]]: f32, %{{.*}}: f32):
// CHECK-NEXT:      arith.addf %[[THERE]], %[[SUM]] : f32

// The host has both, and needs memory for the parts of the other member.
// HOST-LABEL: func.func @forward
// HOST:         shard.all_gather %{{.*}} gather_axis = 1 {dist.staging = #dist.staging<bytes = 64>}
// HOST:         dist.collective reduce_scatter {{.*}} : 1 x 16 x bf16 to_type f32 staging <bytes = 64> {accumulate}
// HOST-NOT:   func.func private

// Values and what a collective has beside them do not overlap.
// PLAN:       dist.arena @workspace role = workspace bytes = 256
// PLAN-NEXT:  dist.arena @inputs
// PLAN:       dist.collective all_gather @tp from @inputs[0] to @workspace[0] : 2 x 4 x f32 staging <received = <@workspace, 64>, unpack = @unpack.2x2x4.f32.f32, scratch = <@workspace, 0>>
// PLAN:       dist.collective reduce_scatter @dp from @gradients[0] to @gradients[256] : 1 x 16 x bf16 to_type f32 staging <pack = @pack.32.bf16.f32, packed = <@workspace, 0>, received = <@workspace, 128>, unpack = @unpack.16.f32.f32.add, bytes = 64, scratch = <@workspace, 192>> {accumulate}
module attributes {dist.axes = ["dp", "pp", "cp", "tp"]} {
shard.grid @grid(shape = 2x1x1x2)
dist.communicator @dp axes ["dp"]
dist.arena @gradients role = gradients bytes = 1024
func.func @forward(%x: tensor<2x4xf32> {llama.input = "x"}) -> (tensor<2x8xf32> {llama.output = "y"}) {
  %y = shard.all_gather %x on @grid grid_axes = [3] gather_axis = 1 : tensor<2x4xf32> -> tensor<2x8xf32>
  return %y : tensor<2x8xf32>
}
dist.program "forward" {
  %0 = dist.run @forward micro_batch = 0
  %1 = dist.collective reduce_scatter @dp from @gradients[0] to @gradients[256] : 1 x 16 x bf16 to_type f32 {accumulate}
}
}

// -----

// Two streams have memory of their own, two collectives of one stream the same; those of the
// stream of runs have the workspace. A sum of bf16 is formed in f32, in the place of what was
// packed; a maximum rounds nothing. Rows of the operand are put together by part; what is
// plain already needs nothing.

// CHECK-LABEL: func.func @step
// CHECK:         shard.reduce_scatter {{.*}} scatter_axis = 1 {dist.staging = #dist.staging<pack = @pack.3x2x4.f64.f64, bytes = 128>} : tensor<3x8xf64> -> tensor<3x4xf64>
// CHECK-LABEL: dist.program "step"
// CHECK:         all_reduce @dp {{.*}} : 1 x 40 x bf16 staging <pack = @pack.40.bf16.f32, unpack = @unpack.40.f32.bf16, bytes = 128> {stream = 1 : i64}
// CHECK:         all_reduce @tp {{.*}} : 1 x 40 x f32 staging <bytes = 128> {stream = 2 : i64}
// CHECK:         all_reduce @dp {{.*}} : 1 x 16 x bf16 staging <bytes = 64> {maximum, stream = 1 : i64}
// CHECK:         all_gather @dp {{.*}} : 1 x 16 x f32
// CHECK-NOT:     staging
// CHECK:         slice @dp {{.*}} : 1 x 16 x f32
// CHECK-NOT:     staging
// CHECK:         broadcast @dp {{.*}} : 2 x 16 x i64
// CHECK-NOT:     staging
// CHECK:       func.func private @pack.3x2x4.f64.f64(%{{.*}}: tensor<3x2x4xf64>) -> tensor<2x3x4xf64>

// PLAN:       dist.arena @collectives role = collectives bytes = 448
// PLAN:       all_reduce @dp {{.*}} packed = <@collectives, 0>, unpack = @unpack.40.f32.bf16, bytes = 128, scratch = <@collectives, 192>>
// PLAN:       all_reduce @tp {{.*}} staging <bytes = 128, scratch = <@collectives, 320>>
// PLAN:       all_reduce @dp {{.*}} staging <bytes = 64, scratch = <@collectives, 0>>
module attributes {dist.axes = ["dp", "pp", "cp", "tp"]} {
shard.grid @grid(shape = 2x1x1x2)
dist.communicator @dp axes ["dp"]
dist.communicator @tp axes ["tp"]
dist.arena @gradients role = gradients bytes = 1024
func.func @step(%x: tensor<3x8xf64> {llama.input = "x"}) -> (tensor<3x4xf64> {llama.output = "y"}) {
  %y = shard.reduce_scatter %x on @grid grid_axes = [3] reduction = sum scatter_axis = 1 : tensor<3x8xf64> -> tensor<3x4xf64>
  return %y : tensor<3x4xf64>
}
dist.program "step" {
  %0 = dist.run @step micro_batch = 0
  %1 = dist.collective all_reduce @dp from @gradients[0] to @gradients[0] : 1 x 40 x bf16 {stream = 1 : i64}
  %2 = dist.collective all_reduce @tp from @gradients[128] to @gradients[128] : 1 x 40 x f32 {stream = 2 : i64}
  %3 = dist.collective all_reduce @dp from @gradients[0] to @gradients[0] : 1 x 16 x bf16 {maximum, stream = 1 : i64}
  %4 = dist.collective all_gather @dp from @gradients[0] to @gradients[512] : 1 x 16 x f32
  %5 = dist.collective slice @dp from @gradients[0] to @gradients[512] : 1 x 16 x f32
  %6 = dist.collective broadcast @dp from @gradients[0] to @gradients[0] : 2 x 16 x i64
}
}
