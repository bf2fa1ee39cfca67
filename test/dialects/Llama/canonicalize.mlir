// RUN: llama-opt %s -canonicalize | FileCheck %s

// Heads of merged heads are the heads.
// CHECK-LABEL: @split_of_merged
// CHECK-NEXT:    return %arg0
func.func @split_of_merged(%o: tensor<2x16x8x16xf32>) -> tensor<2x16x8x16xf32> {
  %x = llama.merge_heads %o : (tensor<2x16x8x16xf32>) -> tensor<2x16x128xf32>
  %h = llama.split_heads %x {head_size = 16 : i64} : (tensor<2x16x128xf32>) -> tensor<2x16x8x16xf32>
  return %h : tensor<2x16x8x16xf32>
}

// Heads of another size are not.
// CHECK-LABEL: @split_otherwise
// CHECK:         llama.merge_heads
// CHECK:         llama.split_heads
func.func @split_otherwise(%o: tensor<2x16x8x16xf32>) -> tensor<2x16x4x32xf32> {
  %x = llama.merge_heads %o : (tensor<2x16x8x16xf32>) -> tensor<2x16x128xf32>
  %h = llama.split_heads %x {head_size = 32 : i64} : (tensor<2x16x128xf32>) -> tensor<2x16x4x32xf32>
  return %h : tensor<2x16x4x32xf32>
}

// Merged heads of split channels are the channels, whatever the head size.
// CHECK-LABEL: @merge_of_split
// CHECK-NEXT:    return %arg0
func.func @merge_of_split(%x: tensor<2x16x128xf32>) -> tensor<2x16x128xf32> {
  %h = llama.split_heads %x {head_size = 16 : i64} : (tensor<2x16x128xf32>) -> tensor<2x16x8x16xf32>
  %y = llama.merge_heads %h : (tensor<2x16x8x16xf32>) -> tensor<2x16x128xf32>
  return %y : tensor<2x16x128xf32>
}

// A cast to the type it has is nothing.
// CHECK-LABEL: @cast_to_itself
// CHECK-NEXT:    return %arg0
func.func @cast_to_itself(%x: tensor<4xf32>) -> tensor<4xf32> {
  %y = llama.cast %x {element_type = f32} : (tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}

// A cast there and back rounds: it stays.
// CHECK-LABEL: @cast_there_and_back
// CHECK:         llama.cast
// CHECK:         llama.cast
func.func @cast_there_and_back(%x: tensor<4xf32>) -> tensor<4xf32> {
  %b = llama.cast %x {element_type = bf16} : (tensor<4xf32>) -> tensor<4xbf16>
  %y = llama.cast %b {element_type = f32} : (tensor<4xbf16>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}
