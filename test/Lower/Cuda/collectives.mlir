// RUN: llama-opt %s --dist-legalize-collectives=target=cuda | FileCheck %s

// NCCL sums in the type that it sends: so bf16 becomes f32 for the way, and a gradient in f32 stays so. What is not
// summed, or loses nothing, is sent in its own type, bf16; only rows that lie apart are moved.

// CHECK-LABEL: dist.program "step"
// CHECK:         all_gather @dp {{.*}} : 1 x 16 x bf16{{$}}
// CHECK:         all_gather @dp {{.*}} : 2 x 16 x bf16 staging <unpack = @unpack.2x2x16.bf16.bf16>
// CHECK:         broadcast @dp {{.*}} : 2 x 16 x bf16{{$}}
// CHECK:         all_reduce @dp {{.*}} : 1 x 16 x bf16 {maximum}{{$}}
// CHECK:         reduce_scatter @dp {{.*}} : 1 x 16 x bf16 staging <pack = @pack.32.bf16.f32, unpack = @unpack.16.f32.bf16>
// CHECK:         reduce_scatter @dp {{.*}} : 1 x 16 x f32{{$}}
// CHECK:         reduce_scatter @dp {{.*}} : 1 x 16 x f32 staging <unpack = @unpack.16.f32.f32.add> {accumulate}
// CHECK:         all_reduce @dp {{.*}} : 1 x 16 x bf16 staging <pack = @pack.16.bf16.f32, unpack = @unpack.16.f32.bf16>
module attributes {dist.axes = ["dp", "pp", "cp", "tp"]} {
shard.grid @grid(shape = 2x1x1x1)
dist.communicator @dp axes ["dp"]
dist.arena @gradients role = gradients bytes = 1024
dist.program "step" {
  %0 = dist.collective all_gather @dp from @gradients[0] to @gradients[512] : 1 x 16 x bf16
  %1 = dist.collective all_gather @dp from @gradients[0] to @gradients[512] : 2 x 16 x bf16
  %2 = dist.collective broadcast @dp from @gradients[0] to @gradients[0] : 2 x 16 x bf16
  %3 = dist.collective all_reduce @dp from @gradients[0] to @gradients[0] : 1 x 16 x bf16 {maximum}
  %4 = dist.collective reduce_scatter @dp from @gradients[0] to @gradients[512] : 1 x 16 x bf16
  %5 = dist.collective reduce_scatter @dp from @gradients[0] to @gradients[512] : 1 x 16 x f32
  %6 = dist.collective reduce_scatter @dp from @gradients[0] to @gradients[512] : 1 x 16 x f32 {accumulate}
  %7 = dist.collective all_reduce @dp from @gradients[0] to @gradients[0] : 1 x 16 x bf16
}
}
