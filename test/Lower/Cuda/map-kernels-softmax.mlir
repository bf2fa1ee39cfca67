// RUN: llama-opt %s -llama-outline-loops -llama-map-kernels -llama-expand-math -llama-lower-kernels -llama-print-ptx -o /dev/null > %t
// RUN: FileCheck %s --input-file=%t
// RUN: %software_gpu/../../tools/software-gpu/software-gpu-run %t softmax_loop0 --grid 2 --block 512 --print 2 "f32[64]" "f32[262144]:index" "f32[64]" | FileCheck %s --check-prefix=NUMBERS

// The elements rise: each turn has a new maximum. The sum is that of exp(-k).
// NUMBERS: f32[64]: 131071 262143 ...
// NUMBERS: f32[64]: 1.58198 1.58198 ...

// Rows that are too long for registers: the maximum and the sum of exponentials less it go through the row together.
// CHECK: .visible .entry softmax_loop0(
// CHECK-COUNT-4: ld.global.nc.v4.b32
// CHECK:       bra
// CHECK-NOT:   ld.global.nc.v4.b32
// CHECK:       shfl.sync.bfly
func.func @softmax(%x: memref<64x131072xf32>, %m: memref<64xf32>, %s: memref<64xf32>) {
  %none = arith.constant 0xFF800000 : f32
  %zero = arith.constant 0.0 : f32
  affine.for %r = 0 to 64 {
    affine.store %none, %m[%r] : memref<64xf32>
    affine.for %c = 0 to 131072 {
      %0 = affine.load %x[%r, %c] : memref<64x131072xf32>
      %1 = affine.load %m[%r] : memref<64xf32>
      %2 = arith.maximumf %0, %1 fastmath<reassoc> : f32
      affine.store %2, %m[%r] : memref<64xf32>
    }
    affine.store %zero, %s[%r] : memref<64xf32>
    affine.for %c = 0 to 131072 {
      %0 = affine.load %x[%r, %c] : memref<64x131072xf32>
      %1 = affine.load %m[%r] : memref<64xf32>
      %2 = arith.subf %0, %1 : f32
      %3 = math.exp %2 fastmath<reassoc> : f32
      %4 = affine.load %s[%r] : memref<64xf32>
      %5 = arith.addf %4, %3 fastmath<reassoc> : f32
      affine.store %5, %s[%r] : memref<64xf32>
    }
  }
  return
}
