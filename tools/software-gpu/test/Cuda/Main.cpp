//===- Main.cpp - Kernels and start of the tests of the driver --------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "CudaTest.h"

#include <cstdlib>

const char *const sgpu::cudatest::kernels = R"(
.version 8.0
.target sm_90
.address_size 64
.visible .global .align 4 .u32 counter = 7;
.visible .const .align 4 .u32 fixed[2] = {11, 12};
.extern .shared .align 16 .b8 dynamic[];

.visible .entry fill(.param .u64 p, .param .u32 value, .param .u32 n)
{
  .reg .pred %q;
  .reg .b32 %r<6>;
  .reg .b64 %d<3>;
  ld.param.u64 %d1, [p];
  ld.param.u32 %r1, [value];
  ld.param.u32 %r2, [n];
  mov.u32 %r3, %ctaid.x;
  mov.u32 %r4, %ntid.x;
  mov.u32 %r5, %tid.x;
  mad.lo.u32 %r3, %r3, %r4, %r5;
  setp.ge.u32 %q, %r3, %r2;
  @%q ret;
  mul.wide.u32 %d2, %r3, 4;
  add.u64 %d1, %d1, %d2;
  st.global.u32 [%d1], %r1;
  ret;
}
.visible .entry increment(.param .u64 p, .param .u32 n)
{
  .reg .pred %q;
  .reg .b32 %r<6>;
  .reg .b64 %d<3>;
  ld.param.u64 %d1, [p];
  ld.param.u32 %r2, [n];
  mov.u32 %r3, %ctaid.x;
  mov.u32 %r4, %ntid.x;
  mov.u32 %r5, %tid.x;
  mad.lo.u32 %r3, %r3, %r4, %r5;
  setp.ge.u32 %q, %r3, %r2;
  @%q ret;
  mul.wide.u32 %d2, %r3, 4;
  add.u64 %d1, %d1, %d2;
  ld.global.u32 %r1, [%d1];
  add.u32 %r1, %r1, 1;
  st.global.u32 [%d1], %r1;
  ret;
}
.visible .entry wild(.param .u64 p)
{
  .reg .b64 %d1;
  ld.param.u64 %d1, [p];
  st.global.u32 [%d1+1048576], 1;
  ret;
}
.visible .entry crooked(.param .u64 p)
{
  .reg .b64 %d1;
  ld.param.u64 %d1, [p];
  st.global.u32 [%d1+2], 1;
  ret;
}
.visible .entry stops()
{
  trap;
}
.visible .entry cluster(.param .u64 p)
{
  .reg .b32 %r<4>;
  .reg .b64 %d<3>;
  ld.param.u64 %d1, [p];
  mov.u32 %r1, %cluster_nctarank;
  mov.u32 %r2, %cluster_ctarank;
  mad.lo.u32 %r1, %r1, 100, %r2;
  mov.u32 %r3, %ctaid.x;
  mul.wide.u32 %d2, %r3, 4;
  add.u64 %d1, %d1, %d2;
  st.global.u32 [%d1], %r1;
  ret;
}
.visible .entry backwards(.param .u64 p)
{
  .reg .b32 %r<5>;
  .reg .b64 %d<3>;
  ld.param.u64 %d1, [p];
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, dynamic;
  mad.lo.u32 %r3, %r1, 4, %r2;
  st.shared.u32 [%r3], %r1;
  bar.sync 0;
  sub.u32 %r4, 63, %r1;
  mad.lo.u32 %r3, %r4, 4, %r2;
  ld.shared.u32 %r4, [%r3];
  mul.wide.u32 %d2, %r1, 4;
  add.u64 %d1, %d1, %d2;
  st.global.u32 [%d1], %r4;
  ret;
}
.visible .entry variables(.param .u64 p)
{
  .reg .b32 %r<4>;
  .reg .b64 %d1;
  ld.param.u64 %d1, [p];
  ld.global.u32 %r1, [counter];
  ld.const.u32 %r2, [fixed];
  ld.const.u32 %r3, [fixed+4];
  st.global.u32 [%d1], %r1;
  st.global.u32 [%d1+4], %r2;
  st.global.u32 [%d1+8], %r3;
  add.u32 %r1, %r1, 1;
  st.global.u32 [counter], %r1;
  ret;
}
.visible .entry small(.param .u64 p, .param .u8 a, .param .align 8 .b8 b[24]) .maxntid 64, 1, 1
{
  .local .align 4 .b8 stack[32];
  .shared .align 4 .b8 fixedShared[256];
  ret;
}
)";

int main(int argc, char **argv) {
  setenv("SOFTWARE_GPU_DEVICES", "2", 1);
  setenv("SOFTWARE_GPU_MEMORY", "16M", 1);
  testing::InitGoogleTest(&argc, argv);
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  return RUN_ALL_TESTS();
}
