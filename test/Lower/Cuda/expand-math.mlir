// RUN: llama-opt %s -llama-expand-math | FileCheck %s

// CHECK-LABEL: func.func @in_f32(
// CHECK:         math.roundeven
// CHECK-COUNT-3: llvm.call_intrinsic "llvm.nvvm.ex2.approx"
// CHECK:         llvm.call_intrinsic "llvm.nvvm.rsqrt.approx.f"
func.func @in_f32(%x: f32) -> f32 {
  %y = math.exp %x fastmath<reassoc,contract> : f32
  %z = math.rsqrt %y : f32
  return %z : f32
}

// A vector element by element; sqrt is an instruction.
// CHECK-LABEL: func.func @of_vectors(
// CHECK:         vector.extract
// CHECK:         llvm.call_intrinsic "llvm.nvvm.rsqrt.approx.f"
// CHECK:         vector.insert
// CHECK:         vector.extract
// CHECK:         llvm.call_intrinsic "llvm.nvvm.rsqrt.approx.f"
// CHECK:         math.sqrt {{.*}} : vector<2xf32>
func.func @of_vectors(%x: vector<2xf32>) -> vector<2xf32> {
  %y = math.rsqrt %x : vector<2xf32>
  %z = math.sqrt %y : vector<2xf32>
  return %z : vector<2xf32>
}

// CHECK-LABEL: func.func @narrow(
// CHECK:         arith.extf %{{.*}} : bf16 to f32
// CHECK:         llvm.call_intrinsic "llvm.nvvm.rsqrt.approx.f"
// CHECK:         arith.truncf %{{.*}} : f32 to bf16
// CHECK:         arith.extf %{{.*}} : bf16 to f64
// CHECK:         arith.truncf %{{.*}} : f64 to bf16
func.func @narrow(%x: bf16) -> bf16 {
  %y = math.rsqrt %x : bf16
  %z = math.sin %y : bf16
  return %z : bf16
}
