// RUN: not llama-opt %s -llama-expand-math 2>&1 | FileCheck %s

// CHECK: error: 'math.powf' op has no form for a GPU: expected one of the functions of 'llama-expand-math'
func.func @f(%x: f32) -> f32 {
  %y = math.powf %x, %x : f32
  return %y : f32
}
