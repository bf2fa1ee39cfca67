// RUN: llama-opt %s -llama-outline-loops -llama-map-kernels -llama-expand-math -llama-lower-kernels -llama-print-ptx -o /dev/null > %t
// RUN: sed '/^}/q' %t > %t.parts
// RUN: sed '1,/^}/d' %t | sed -n '/^.version/,$p' > %t.sum
// RUN: %software_gpu/../../tools/software-gpu/software-gpu-run %t.parts total_loop0_parts --grid 19 --block 256 --print 3 "s32[1]" "s32[131103]:index" "s32[292]" | FileCheck %s --check-prefix=PARTS
// RUN: %software_gpu/../../tools/software-gpu/software-gpu-run %t.sum total_loop0 --grid 1 --block 96 "s32[1]" "s32[131103]:index" "s32[292]:index" | FileCheck %s --check-prefix=SUM

// A long sum of one row in two kernels. Of 0, 1, 2, ...: parts of 448 numbers; 292 of them, here 0, 1, 2,
// ... too, with the 287 numbers that are left over.
// PARTS: s32[292]: 100128 300832 501536 ...
// SUM:   s32[1]: 37627719
func.func @total(%x: memref<131103xi32>, %s: memref<1xi32>) {
  %zero = arith.constant 0 : i32
  affine.for %r = 0 to 1 {
    affine.store %zero, %s[%r] : memref<1xi32>
    affine.for %c = 0 to 131103 {
      %0 = affine.load %x[%c] : memref<131103xi32>
      %1 = affine.load %s[%r] : memref<1xi32>
      %2 = arith.addi %1, %0 : i32
      affine.store %2, %s[%r] : memref<1xi32>
    }
  }
  return
}
