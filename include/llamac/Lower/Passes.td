//===- Passes.td - Parallel program to device program ------*- tablegen -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_LOWER_PASSES_TD
#define LLAMAC_LOWER_PASSES_TD

include "mlir/Pass/PassBase.td"

//===----------------------------------------------------------------------===//
// Collectives
//===----------------------------------------------------------------------===//

def LegalizeCollectivesPass : Pass<"dist-legalize-collectives", "mlir::ModuleOp"> {
  let summary = "Do collectives by those that the target has";
  let description = [{
    A collective that the target lacks, with several rows, another type of result, or a sum added
    to what is there, gets blocks around its plain form: one contiguous part for each member, one
    type, a result that takes the place of what was there. `pack` makes the operand of that,
    `unpack` takes its result to where it belongs. Sums are formed in f32 then, in f64 if operand
    or result has it. Of the graphs, which still have tensors, and of the entries of programs.
    `bytes` is the memory that the target needs beside operand and result; addresses follow when
    memory is planned.

    The host has all of them and needs memory for the parts of other members; with `plain` it
    does without what it has. The numbers are the same to the bit then, but where a sum of bf16
    is added to bf16 (`--accumulate=bf16` with sharded gradients), which the fast lowering
    rounds once less. A collective that has its blocks already keeps them.

    Before:
    ```mlir
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
    ```
    After, with `plain`:
    ```mlir
    func.func @forward(%x: tensor<2x4xf32> {llama.input = "x"}) -> (tensor<2x8xf32> {llama.output = "y"}) {
      %y = shard.all_gather %x on @grid grid_axes = [3] gather_axis = 1 {dist.staging = #dist.staging<unpack = @unpack.2x2x4.f32.f32>} : tensor<2x4xf32> -> tensor<2x8xf32>
      return %y : tensor<2x8xf32>
    }
    dist.program "forward" {
      %0 = dist.run @forward micro_batch = 0
      %1 = dist.collective reduce_scatter @dp from @gradients[0] to @gradients[256] : 1 x 16 x bf16 to_type f32 staging <pack = @pack.32.bf16.f32, unpack = @unpack.16.f32.f32.add, bytes = 64> {accumulate}
    }
    func.func private @unpack.2x2x4.f32.f32(%x: tensor<2x2x4xf32>) -> tensor<2x2x4xf32> attributes {llama.block} {
      %e = tensor.empty() : tensor<2x2x4xf32>
      %t = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2) -> (d1, d0, d2)>, affine_map<(d0, d1, d2) -> (d0, d1, d2)>], iterator_types = ["parallel", "parallel", "parallel"]} ins(%x : tensor<2x2x4xf32>) outs(%e : tensor<2x2x4xf32>) {
      ^bb0(%in: f32, %out: f32):
        linalg.yield %in : f32
      } -> tensor<2x2x4xf32>
      return %t : tensor<2x2x4xf32>
    }
    ```
  }];
  let options = [Option<"targetOption", "target", "std::string", "\"host\"",
                        "What runs the program.">,
                 Option<"plain", "plain", "bool", "false",
                        "Do all in plain form, whatever the target has: for tests.">];
  let dependentDialects = ["mlir::arith::ArithDialect", "mlir::dist::DistDialect",
                           "mlir::linalg::LinalgDialect", "mlir::tensor::TensorDialect"];
}

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

def MergeProductsPass : Pass<"llama-merge-products", "mlir::ModuleOp"> {
  let summary = "Make products that share an operand one product";
  let description = [{
    Of products whose weights, or whose sums of gradients, lie one behind the other in memory in all
    applications of the block (`dist.storage`), one is made: of llama.linear with one input, of a sum
    of llama.linear_dx, of llama.linear_dw with one input that are added to sums so far. So
    query, key and value become one product, gate and up another. The results are columns of one
    tensor, which is also what crosses to other blocks if those read all of it.

    Loops and attention read and write columns where they are; for products and for what crosses
    alone a loop copies them. If that were more than half of all columns, or, of a sum of input
    gradients, more bytes than summands are saved, the products stay. So do those with a bias, and
    those that the target has no routine for.

    The sum of the rows of dy beside a llama.linear_dw of dy, the gradient of a bias, is formed by
    that product (`bias_gradient` of routine.gemm), which reads dy anyway: in f32, and unless a loop
    sums up the same rows for another gradient too.

    `llama.products` on the block says what became of products that might be one,
    `llama.consecutive` which arguments have to lie one behind the other: llama-plan-arenas checks
    it. Only for targets that gain by it (Target::mergesProducts).

    Before:
    ```mlir
    module {
    dist.arena @parameters role = parameters bytes = 512
    llama.parameter @gate : tensor<16x8xbf16> {frozen, initializer = #llama.initializer<normal>}
    llama.parameter @up : tensor<16x8xbf16> {frozen, initializer = #llama.initializer<normal>}
    dist.storage @gate at @parameters[0]
    dist.storage @up at @parameters[256]
    func.func private @mlp(%x: tensor<1x4x8xbf16>, %gate: tensor<16x8xbf16>, %up: tensor<16x8xbf16>) -> tensor<1x4x16xbf16> attributes {llama.block} {
      %g = llama.linear %x, %gate {accumulation = f32} : (tensor<1x4x8xbf16>, tensor<16x8xbf16>) -> tensor<1x4x16xbf16>
      %u = llama.linear %x, %up {accumulation = f32} : (tensor<1x4x8xbf16>, tensor<16x8xbf16>) -> tensor<1x4x16xbf16>
      %y = llama.swiglu %g, %u {statistics = f32} : (tensor<1x4x16xbf16>, tensor<1x4x16xbf16>) -> tensor<1x4x16xbf16>
      return %y : tensor<1x4x16xbf16>
    }
    func.func private @fc(%x: tensor<4x8xbf16>, %dy: tensor<4x16xbf16>, %w: tensor<16x8xf32>, %b: tensor<16xf32>) -> (tensor<16x8xf32> {llama.in_place = 2 : i64}, tensor<16xf32> {llama.in_place = 3 : i64}) attributes {llama.block} {
      %dw = llama.linear_dw %dy, %x {accumulation = f32} : (tensor<4x16xbf16>, tensor<4x8xbf16>) -> tensor<16x8xf32>
      %db = llama.sum_rows %dy {accumulation = f32} : (tensor<4x16xbf16>) -> tensor<16xf32>
      %w1 = llama.add %w, %dw : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32>
      %b1 = llama.add %b, %db : (tensor<16xf32>, tensor<16xf32>) -> tensor<16xf32>
      return %w1, %b1 : tensor<16x8xf32>, tensor<16xf32>
    }
    func.func @forward(%x: tensor<1x4x8xbf16> {llama.input = "x"}) -> (tensor<1x4x16xbf16> {llama.output = "y"}) {
      %y = llama.apply @mlp(%x) parameters [@gate, @up] : (tensor<1x4x8xbf16>) -> tensor<1x4x16xbf16>
      return %y : tensor<1x4x16xbf16>
    }
    }
    ```
    After:
    ```mlir
    func.func private @mlp(%x: tensor<1x4x8xbf16>, %gate: tensor<16x8xbf16>, %up: tensor<16x8xbf16>) -> tensor<1x4x16xbf16> attributes {llama.block, llama.consecutive = [array<i64: 1, 2>], llama.products = ["products by gate, up: one product"]} {
      %e = tensor.empty() : tensor<1x4x32xbf16>
      %both = routine.gemm %x, %gate, %up into %e {k = 8 : i64, m = 4 : i64, n = 32 : i64, transpose_b} : (tensor<1x4x8xbf16>, tensor<16x8xbf16>, tensor<16x8xbf16>, tensor<1x4x32xbf16>) -> tensor<1x4x32xbf16>
      %g = tensor.extract_slice %both[0, 0, 0] [1, 4, 16] [1, 1, 1] : tensor<1x4x32xbf16> to tensor<1x4x16xbf16>
      %u = tensor.extract_slice %both[0, 0, 16] [1, 4, 16] [1, 1, 1] : tensor<1x4x32xbf16> to tensor<1x4x16xbf16>
      %y = llama.swiglu %g, %u {statistics = f32} : (tensor<1x4x16xbf16>, tensor<1x4x16xbf16>) -> tensor<1x4x16xbf16>
      return %y : tensor<1x4x16xbf16>
    }
    func.func private @fc(%x: tensor<4x8xbf16>, %dy: tensor<4x16xbf16>, %w: tensor<16x8xf32>, %b: tensor<16xf32>) -> (tensor<16x8xf32> {llama.in_place = 2 : i64}, tensor<16xf32> {llama.in_place = 3 : i64}) attributes {llama.block, llama.products = ["bias gradient of argument 3: with the product of its weight gradient"]} {
      %e = tensor.empty() : tensor<16xf32>
      %w1, %db = routine.gemm %dy, %x into %w bias_gradient %e {accumulate, k = 4 : i64, m = 16 : i64, n = 8 : i64, transpose_a} : (tensor<4x16xbf16>, tensor<4x8xbf16>, tensor<16x8xf32>, tensor<16xf32>) -> (tensor<16x8xf32>, tensor<16xf32>)
      %b1 = llama.add %b, %db : (tensor<16xf32>, tensor<16xf32>) -> tensor<16xf32>
      return %w1, %b1 : tensor<16x8xf32>, tensor<16xf32>
    }
    ```
  }];
  let options = [Option<"targetOption", "target", "std::string", "\"cuda\"",
                        "What runs the program.">,
                 Option<"lowerOption", "lower", "std::string", "\"fast\"",
                        "fast or reference: which products are routines.">];
  let dependentDialects = ["mlir::linalg::LinalgDialect", "mlir::routine::RoutineDialect",
                           "mlir::tensor::TensorDialect"];
}

//===----------------------------------------------------------------------===//
// Blocks: in this order by the pipeline `llama-lower-blocks`
//===----------------------------------------------------------------------===//

def IsolateBlocksPass : Pass<"llama-isolate-blocks", "mlir::ModuleOp"> {
  let summary = "Give each block a module of its own";
  let description = [{
    Moves the body of each block into a module `@NAME.code` and leaves a
    declaration, by which `llama.apply` still knows the types. The modules are
    lowered independently, on several threads. Blocks that compute the same share
    one module: `llama.code` on the declaration names the function to call.

    Before:
    ```mlir
    func.func private @norm(%x: tensor<8xf32>) -> tensor<8xf32> attributes {llama.block} {
      return %x : tensor<8xf32>
    }
    ```
    After:
    ```mlir
    func.func private @norm(tensor<8xf32>) -> tensor<8xf32> attributes {llama.block, llama.code = @norm.code::@norm}
    builtin.module @norm.code {
      func.func @norm(%x: tensor<8xf32>) -> tensor<8xf32> attributes {llama.block} {
        return %x : tensor<8xf32>
      }
    }
    ```
  }];
}

def ChunkRowsPass : Pass<"llama-chunk-rows", "mlir::ModuleOp"> {
  let summary = "Form logits for one chunk of rows after another";
  let description = [{
    llama.linear_lse and its gradient become the ops that they stand for, which have all logits of
    their rows. Where rows are more than a chunk, these are in a function of their own, a block for a
    chunk's rows, that is called for one chunk after another (routine.chunks), and another one for the
    rows left at the end: logits are temporaries of a chunk. The gradient of the weight is the sum so
    far that each call adds to. The module says what became of logits (`llama.logits`), also of those that
    were never an op to divide, for `info`.

    Before:
    ```mlir
    %lse, %t = llama.linear_lse %x, %w, %y {parts = 1 : i64, chunk = 5 : i64, statistics = f32} : (tensor<2x10x4xbf16>, tensor<12x4xbf16>, tensor<2x10xi64>) -> (tensor<2x10x1xf32>, tensor<2x10xf32>)
    ```
    After: `@lse.chunk0` has the logits of 8 rows, `@lse.chunk1` those of the last 4.
    ```mlir
    %e = tensor.empty() : tensor<2x10x1xf32>
    %f = tensor.empty() : tensor<2x10xf32>
    %0:2 = routine.chunks @lse.chunk0(%x, %w, %y) into(%e, %f) {begins = array<i64: 0, 0, 0, 0, 0>, count = 2 : i64, steps = array<i64: 32, 0, 8, 8, 8>} : (...) -> (...)
    %1:2 = routine.chunks @lse.chunk1(%x, %w, %y) into(%0#0, %0#1) {begins = array<i64: 64, 0, 16, 16, 16>, count = 1 : i64, steps = array<i64: 16, 0, 4, 4, 4>} : (...) -> (...)
    ```
  }];
  let dependentDialects = ["mlir::arith::ArithDialect", "mlir::linalg::LinalgDialect",
                           "mlir::llama::LlamaDialect", "mlir::math::MathDialect",
                           "mlir::routine::RoutineDialect", "mlir::tensor::TensorDialect"];
}

def SelectKernelsPass : Pass<"llama-select-kernels", "mlir::func::FuncOp"> {
  let summary = "Make matrix products and attention calls of the runtime library";
  let description = [{
    Turns llama.linear, linear_dx, linear_dw, attention and attention_grad into ops of the
    routine dialect where the runtime has the types; operand types that it does not
    have are cast first. A llama.linear_dw that is only added to an accumulator
    becomes a product that accumulates. The target says which routines there are: the
    host has products of f64 only for the reference, whose other ops are left to their
    decompositions.

    Before:
    ```mlir
    %g = llama.linear_dw %dy, %x {accumulation = f32} : (tensor<4x3xbf16>, tensor<4x2xbf16>) -> tensor<3x2xf32>
    %n = llama.add %sum, %g : (tensor<3x2xf32>, tensor<3x2xf32>) -> tensor<3x2xf32>
    ```
    After:
    ```mlir
    %n = routine.gemm %dy, %x into %sum {accumulate, k = 4 : i64, m = 3 : i64, n = 2 : i64, transpose_a} : (tensor<4x3xbf16>, tensor<4x2xbf16>, tensor<3x2xf32>) -> tensor<3x2xf32>
    ```
  }];
  let options = [Option<"targetOption", "target", "std::string", "\"host\"",
                        "What runs the blocks.">,
                 Option<"lowerOption", "lower", "std::string", "\"fast\"",
                        "fast, or reference: every op by its decomposition.">];
  let dependentDialects = ["mlir::routine::RoutineDialect", "mlir::tensor::TensorDialect"];
}

def DecomposePass : Pass<"llama-decompose", "mlir::func::FuncOp"> {
  let summary = "Replace every compute op by its meaning in linalg";
  let description = [{
    Calls the decomposition of every op that has one (DecompositionOpInterface);
    calls of routines stay. A sum (also of rows by index) that is only added to an
    argument is summed into that argument. With `fast`, floating-point ops get
    `fastmath<reassoc,contract>`, without which LLVM vectorizes no sum.

    Before:
    ```mlir
    %y = llama.add %a, %b : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
    ```
    After:
    ```mlir
    %e = tensor.empty() : tensor<4xf32>
    %y = linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]} ins(%a, %b : tensor<4xf32>, tensor<4xf32>) outs(%e : tensor<4xf32>) {
    ^bb0(%in: f32, %in_0: f32, %out: f32):
      %0 = arith.addf %in, %in_0 : f32
      linalg.yield %0 : f32
    } -> tensor<4xf32>
    ```
  }];
  let options = [Option<"fast", "fast", "bool", "false", "Allow sums in any order.">];
  let dependentDialects = ["mlir::arith::ArithDialect", "mlir::linalg::LinalgDialect",
                           "mlir::math::MathDialect", "mlir::scf::SCFDialect",
                           "mlir::tensor::TensorDialect"];
}

def FuseElementwisePass : Pass<"llama-fuse-elementwise", "mlir::func::FuncOp"> {
  let summary = "Fuse elementwise ops into the ops that use them";
  let description = [{
    Upstream's fusion of linalg ops, for values with one use, but views stay where
    they are: loops keep the rows that decompositions gave them.

    Before:
    ```mlir
    %e = tensor.empty() : tensor<8xf32>
    %a = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel"]} ins(%x : tensor<8xf32>) outs(%e : tensor<8xf32>) {
    ^bb0(%in: f32, %out: f32):
      %0 = math.exp %in : f32
      linalg.yield %0 : f32
    } -> tensor<8xf32>
    %b = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel"]} ins(%a : tensor<8xf32>) outs(%e : tensor<8xf32>) {
    ^bb0(%in: f32, %out: f32):
      %0 = arith.negf %in : f32
      linalg.yield %0 : f32
    } -> tensor<8xf32>
    ```
    After:
    ```mlir
    %e = tensor.empty() : tensor<8xf32>
    %b = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel"]} ins(%x : tensor<8xf32>) outs(%e : tensor<8xf32>) {
    ^bb0(%in: f32, %out: f32):
      %0 = math.exp %in : f32
      %1 = arith.negf %0 : f32
      linalg.yield %1 : f32
    } -> tensor<8xf32>
    ```
  }];
  let dependentDialects = ["mlir::linalg::LinalgDialect", "mlir::tensor::TensorDialect"];
}

def PassDestinationsPass : Pass<"llama-pass-destinations", "mlir::func::FuncOp"> {
  let summary = "Give a block its arguments and results as buffers";
  let description = [{
    The block gets a memref for each argument, then one for each result that does
    not take an argument's place (`llama.in_place`). A result that does is written
    into that argument: directly where the op that makes it reads the old value
    only element by element, else by a copy. Every use of an empty or a filled tensor
    gets one of its own: two results must not share one.

    Before:
    ```mlir
    func.func @f(%sum: tensor<4xf32>, %g: tensor<4xf32>) -> (tensor<4xf32> {llama.in_place = 0 : i64}) {
      %e = tensor.empty() : tensor<4xf32>
      %n = linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]} ins(%sum, %g : tensor<4xf32>, tensor<4xf32>) outs(%e : tensor<4xf32>) {
    ```
    After:
    ```mlir
    func.func @f(%sum: memref<4xf32>, %g: memref<4xf32>) {
      %0 = bufferization.to_tensor %sum restrict writable : memref<4xf32> to tensor<4xf32>
      %1 = bufferization.to_tensor %g restrict : memref<4xf32> to tensor<4xf32>
      %n = linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]} ins(%0, %1 : tensor<4xf32>, tensor<4xf32>) outs(%0 : tensor<4xf32>) {
      ...
      bufferization.materialize_in_destination %n in restrict writable %sum : (tensor<4xf32>, memref<4xf32>) -> ()
    ```
  }];
  let dependentDialects = ["mlir::bufferization::BufferizationDialect",
                           "mlir::linalg::LinalgDialect", "mlir::memref::MemRefDialect"];
}

def LowerRowLoopsPass : Pass<"llama-lower-row-loops", "mlir::func::FuncOp"> {
  let summary = "Lower sums over rows to loops with the rows outside";
  let description = [{
    A linalg op that reduces leading dimensions and keeps the last one becomes
    loops in that order: every access is contiguous. The column loop gets
    `llama.columns`: threads may share its range, and a sum has the same bits for
    any number of threads. Affine fusion would turn the nest inside out. The same
    for linalg ops inside of loops (updates of rows by index). Copies become
    linalg ops, to be lowered with the rest.

    Before:
    ```mlir
    linalg.generic {indexing_maps = [affine_map<(r, c) -> (r, c)>, affine_map<(r, c) -> (c)>], iterator_types = ["reduction", "parallel"]} ins(%x : memref<64x512xf32>) outs(%s : memref<512xf32>) {
    ^bb0(%in: f32, %out: f32):
      %0 = arith.addf %in, %out : f32
      linalg.yield %0 : f32
    }
    ```
    After:
    ```mlir
    scf.for %r = %c0 to %c64 step %c1 {
      scf.for %c = %c0 to %c512 step %c1 {
        %0 = memref.load %x[%r, %c] : memref<64x512xf32>
        %1 = memref.load %s[%c] : memref<512xf32>
        %2 = arith.addf %0, %1 : f32
        memref.store %2, %s[%c] : memref<512xf32>
      } {llama.columns}
    }
    ```
  }];
  let dependentDialects = ["mlir::linalg::LinalgDialect", "mlir::scf::SCFDialect"];
}

def FoldViewsPass : Pass<"llama-fold-views", "mlir::func::FuncOp"> {
  let summary = "Access buffers directly, not through views";
  let description = [{
    Rewrites loads, stores and operands of routines that go through expand_shape,
    collapse_shape or subview of a buffer, so that two accesses of one buffer name
    one value: affine fusion relies on it. The buffer gets the shape of its views,
    or the finest shape that all of them refine, so that no index needs a division. Columns of a
    buffer that attention takes become a matrix with a stride (memref.reinterpret_cast).

    Before:
    ```mlir
    func.func @f(%m: memref<2x4x8xf32>, %n: memref<8x8xf32>) {
      %v = memref.collapse_shape %m [[0, 1], [2]] : memref<2x4x8xf32> into memref<8x8xf32>
      affine.for %i = 0 to 8 {
        affine.for %j = 0 to 8 {
          %x = affine.load %v[%i, %j] : memref<8x8xf32>
    ```
    After:
    ```mlir
    func.func @f(%m: memref<8x8xf32>, %n: memref<8x8xf32>) {
      affine.for %i = 0 to 8 {
        affine.for %j = 0 to 8 {
          %x = affine.load %m[%i, %j] : memref<8x8xf32>
    ```
  }];
  let dependentDialects = ["mlir::affine::AffineDialect", "mlir::memref::MemRefDialect"];
}

def FuseLoopsPass : Pass<"llama-fuse-loops", "mlir::func::FuncOp"> {
  let summary = "Make neighbouring loops over the same rows one";
  let description = [{
    Moves a loop up into an earlier one of the same range where each row of the
    second needs only the same row of the first, then the same inside. A buffer
    that only one loop uses, one row at a time, becomes a buffer of one row. What
    nobody reads is not written.

    Before:
    ```mlir
    affine.for %r = 0 to 64 {
      affine.store %x, %a[%r] : memref<64xf32>
    }
    affine.for %r = 0 to 64 {
      affine.for %c = 0 to 8 {
        %y = affine.load %a[%r] : memref<64xf32>
        affine.store %y, %b[%r, %c] : memref<64x8xf32>
      }
    }
    ```
    After (`%a` is now `memref<f32>`):
    ```mlir
    affine.for %r = 0 to 64 {
      affine.store %x, %a[] : memref<f32>
      affine.for %c = 0 to 8 {
        %y = affine.load %a[] : memref<f32>
        affine.store %y, %b[%r, %c] : memref<64x8xf32>
      }
    }
    ```
  }];
  let dependentDialects = ["mlir::affine::AffineDialect"];
}

def OutlineLoopsPass : Pass<"llama-outline-loops", "mlir::ModuleOp"> {
  let summary = "Make every outermost loop a function with its range as arguments";
  let description = [{
    An outermost loop becomes a function `(buffers, lo, hi)` that runs iterations
    [lo, hi). `llama.grain` on the call says that the iterations are independent:
    each buffer that the loop writes is indexed, wherever it is used, by the loop's
    own variable in one dimension; the number is the iterations worth a thread.
    Buffers used by one loop only and not indexed so become stack memory of the
    function.

    Before:
    ```mlir
    affine.for %i = 0 to 65536 {
      %x = affine.load %m[%i] : memref<65536xf32>
      affine.store %x, %n[%i] : memref<65536xf32>
    }
    ```
    After:
    ```mlir
    call @f.loop0(%m, %n, %c0, %c65536) {llama.grain = 5462 : i64} : (memref<65536xf32>, memref<65536xf32>, index, index) -> ()
    ```
  }];
  let options = [Option<"parallel", "parallel", "bool", "true",
                        "Let independent iterations run on several threads.">];
  let dependentDialects = ["mlir::affine::AffineDialect", "mlir::func::FuncDialect",
                           "mlir::memref::MemRefDialect"];
}

def BlocksToLLVMPass : Pass<"llama-blocks-to-llvm", "mlir::ModuleOp"> {
  let summary = "Place temporaries in scratch memory and lower a block's module to LLVM";
  let description = [{
    Works on the module of one block. Temporaries get offsets in one scratch
    buffer, shared where lifetimes allow (`llama.scratch` is its size in bytes).
    The block becomes `void NAME(LlrtStream *, void **buffers)`, buffers in order:
    arguments, results that are not in place, scratch. Calls with `llama.grain` go through
    llrt_launch, an op of the routine dialect becomes a call of the routine with a constant
    description (runtime/include/llrt/Kernels.h), everything else is inlined IR of
    private functions whose pointers do not alias.

    Before:
    ```mlir
    func.func @f(%m: memref<65536xf32>, %n: memref<65536xf32>) attributes {llama.block} {
      %c0 = arith.constant 0 : index
      %c65536 = arith.constant 65536 : index
      call @f.loop0(%m, %n, %c0, %c65536) {llama.grain = 5462 : i64} : (memref<65536xf32>, memref<65536xf32>, index, index) -> ()
      return
    }
    ```
    After:
    ```mlir
    llvm.func @f(%stream: !llvm.ptr, %buffers: !llvm.ptr) attributes {llama.scratch = 0 : i64} {
      %m = llvm.load %buffers : !llvm.ptr -> !llvm.ptr
      ...
      llvm.call @llrt_launch(%stream, %kernel, %args) : (!llvm.ptr, !llvm.ptr, !llvm.ptr) -> ()
      llvm.return
    }
    ```
  }];
  let options = [Option<"polynomials", "polynomials", "bool", "false",
                        "f32 exp, log, tanh, erf as polynomials instead of libm calls.">,
                 Option<"alignment", "alignment", "int64_t", "64",
                        "Bytes at a multiple of which temporaries begin: a power of two.">];
  let dependentDialects = ["mlir::LLVM::LLVMDialect", "mlir::arith::ArithDialect",
                           "mlir::cf::ControlFlowDialect", "mlir::memref::MemRefDialect",
                           "mlir::scf::SCFDialect", "mlir::vector::VectorDialect"];
}

def EmitAttentionPass : Pass<"llama-emit-attention", "mlir::ModuleOp"> {
  let summary = "Make attention launches of kernels (cuda)";
  let description = [{
    Every routine.attention_forward and routine.attention_backward becomes launches of kernels
    that are written for its shape, each in a `gpu.module` of its own, with what they hand to
    each other in temporaries: the mask in the form that all kernels read, and for the
    backward the products of the rows of `d_out` and `out`; with `hopper` also sums of `d_q` in f32 and the order in
    which blocks add to them (`llama.begun_in_order`). `llama.form` says how it is computed, the
    first of these that takes shape, type and every chip:

    | form | takes | computes by |
    |---|---|---|
    | `hopper` | bf16, heads of a multiple of 8 up to 256 (backward: 128), `sm_90a` | warpgroups and the copy engine |
    | `mma` | bf16, heads of a multiple of 8 up to 256 | mma.sync and cp.async |
    | `plain` | everything | f32 |

    Before:
    ```mlir
    routine.attention_forward %q, %k, %v masks(%p, %d, %kp, %kd) into %o, %l {mask = #routine.mask<causal>, scale = 0.25 : f64, batch = 1 : i64, queries = 65 : i64, keys = 70 : i64, heads = 2 : i64, kv_heads = 1 : i64, head_size = 16 : i64, images = 0 : i64, tile_count = 0 : i64, tile_stride = 0 : i64, tile_tokens = 0 : i64} : (memref<1x65x2x16xf32>, memref<1x70x1x16xf32>, memref<1x70x1x16xf32>, memref<1x65xi64>, memref<1x65xi64>, memref<1x70xi64>, memref<1x70xi64>, memref<1x65x2x16xf32>, memref<1x65x2xf32>) -> ()
    ```
    After:
    ```mlir
    %rows = memref.alloc() : memref<1x192x4xi32>
    ...
    gpu.launch_func @attention_mask::@attention_mask blocks in (%c1, %c1, %c1) threads in (%c128, %c1, %c1) args(...)
    gpu.launch_func @attention_forward_plain::@attention_forward_plain blocks in (%c3, %c1, %c1) threads in (%c256, %c1, %c1) dynamic_shared_memory_size %c52352_i32 args(...) {llama.form = "plain"}
    ```
  }];
  let options = [Option<"chips", "chips", "std::string", "\"sm_90a\"",
                        "The chips that the kernels have to run on, separated by commas.">];
  let dependentDialects = ["mlir::arith::ArithDialect", "mlir::gpu::GPUDialect", "mlir::LLVM::LLVMDialect",
                           "mlir::memref::MemRefDialect", "mlir::NVVM::NVVMDialect", "mlir::scf::SCFDialect"];
}

//===----------------------------------------------------------------------===//
// Blocks for NVIDIA GPUs
//===----------------------------------------------------------------------===//

def MapKernelsPass : Pass<"llama-map-kernels", "mlir::ModuleOp"> {
  let summary = "Make every outlined loop a kernel of a GPU";
  let description = [{
    Every function of llama-outline-loops becomes a gpu.module of its own with one kernel, every
    call of it a launch with constant sizes. Parallel are the loops whose variables separate
    all that the nest writes, and a loop over columns (`llama.columns`); the other loops run in
    the thread, in their order. The kinds of nests:

    | kind | mapping |
    |---|---|
    | rows: `for row { scalars; for columns {...} ... }` | a row per team of 1 to 1024 threads, its columns in pieces of 16 bytes over them; what a later column loop reads at the same index stays in registers; sums that may be reassociated by shuffles, then through shared memory, in one order; columns under a condition of the row are guarded; a few long rows without sums have several blocks each |
    | all loops parallel | a piece of 16 bytes per thread, or up to 8 pieces that share what they read |
    | sums over outer loops of 64 turns or more | a piece per thread, the turns over threads of a block and over blocks; partial sums meet in shared memory and in a second kernel, in one order |
    | independent elements, of which one buffer is accessed in runs that do not fill sectors of 32 bytes | a block does the inner loops, whose elements of that buffer lie side by side: in shared memory, copied by 16 bytes before or behind that |
    | sums by index: `for row { if (...) { for columns { table[index] += ... } } }` | a first kernel finds the rows of each index; the first of them adds up all, in their order |
    | any other; all with `teams=false` | one thread per iteration of the parallel loops together, one thread if there are none |

    Then launches that do not depend on each other become one, up to 8: those that leave a part of the GPU
    idle, or whose bodies are alike. The kernel has the bodies of all; `llama.parts` are the blocks of each.
    A launch moves to another one over whatever does not touch its buffers.

    Before llama-outline-loops:
    ```mlir
    func.func @sums(%m: memref<512x8xf32>, %s: memref<512xf32>) {
      affine.for %r = 0 to 512 {
        affine.for %c = 0 to 8 {
          %0 = affine.load %m[%r, %c] : memref<512x8xf32>
          %1 = affine.load %s[%r] : memref<512xf32>
          %2 = arith.addf %1, %0 : f32
          affine.store %2, %s[%r] : memref<512xf32>
        }
      }
      return
    }
    ```
    After:
    ```mlir
    gpu.module @sums_loop0 {
      gpu.func @sums_loop0(%m: memref<512x8xf32> {llvm.noalias, llvm.readonly}, %s: memref<512xf32> {llvm.noalias}) kernel attributes {nvvm.reqntid = array<i32: 256, 1, 1>} {
        ... %r = block * 256 + thread
        scf.for %c = %c0 to %c8 step %c1 {
          %0 = memref.load %m[%r, %c] : memref<512x8xf32>
          ...
        }
        gpu.return
      }
    }
    func.func @sums(%m: memref<512x8xf32>, %s: memref<512xf32>) {
      gpu.launch_func @sums_loop0::@sums_loop0 blocks in (%c2, %c1, %c1) threads in (%c256, %c1, %c1) args(%m : memref<512x8xf32>, %s : memref<512xf32>)
      return
    }
    ```
  }];
  let options = [Option<"teams", "teams", "bool", "true",
                        "Share rows and pieces of columns among threads; else one thread takes one "
                        "iteration, which all other mappings are checked against.">];
  let dependentDialects = ["mlir::arith::ArithDialect", "mlir::gpu::GPUDialect",
                           "mlir::memref::MemRefDialect", "mlir::scf::SCFDialect",
                           "mlir::vector::VectorDialect"];
}

def ExpandMathPass : Pass<"llama-expand-math"> {
  let summary = "Write functions as what a GPU has: instructions and polynomials";
  let description = [{
    exp, log, tanh, erf, sin, cos, rsqrt and sqrt, of scalars and vectors, in f32 and f64;
    narrower types by way of f32. No library is called. The largest relative errors: f32 2^-20,
    f64 2^-50 (lib/Lower/Cuda/ExpandMath.cpp has a table). Any other op of the math dialect that
    is no instruction is an error.

    Before:
    ```mlir
    %z = math.rsqrt %y : f32
    ```
    After:
    ```mlir
    %z = llvm.call_intrinsic "llvm.nvvm.rsqrt.approx.f"(%y) : (f32) -> f32
    ```
  }];
  let dependentDialects = ["mlir::LLVM::LLVMDialect", "mlir::arith::ArithDialect",
                           "mlir::math::MathDialect", "mlir::vector::VectorDialect"];
}

def LowerKernelsPass : Pass<"llama-lower-kernels", "mlir::gpu::GPUModuleOp"> {
  let summary = "Lower a kernel to LLVM and NVVM";
  let description = [{
    Buffers become pointers of the kernel (of shared memory, 32 bits wide in PTX), loops
    branches, the rest instructions of LLVM and NVVM. Nothing becomes a call of libdevice: math
    without an instruction must be expanded before and is an error here. Accesses of vectors are
    as wide as their `alignment` says. Each instruction gets a place, which becomes `.loc` in PTX:
    its file and line, else the name of its location as a file with one line, else the kernel's.

    Before:
    ```mlir
    gpu.module @negate {
      gpu.func @negate(%x: memref<256xf32>) kernel attributes {nvvm.reqntid = array<i32: 256>} {
        %t = gpu.thread_id x
        %0 = memref.load %x[%t] : memref<256xf32>
        %1 = arith.negf %0 : f32
        memref.store %1, %x[%t] : memref<256xf32>
        gpu.return
      }
    }
    ```
    After:
    ```mlir
    gpu.module @negate {
      llvm.func @negate(%x: !llvm.ptr) attributes {gpu.kernel, nvvm.kernel, nvvm.reqntid = array<i32: 256>} {
        %0 = nvvm.read.ptx.sreg.tid.x : i32
        %t = llvm.sext %0 : i32 to i64
        %1 = llvm.getelementptr inbounds|nuw %x[%t] : (!llvm.ptr, i64) -> !llvm.ptr, f32
        %2 = llvm.load %1 : !llvm.ptr -> f32
        ...
        llvm.return
      }
    }
    ```
  }];
  let dependentDialects = ["mlir::LLVM::LLVMDialect", "mlir::NVVM::NVVMDialect",
                           "mlir::affine::AffineDialect", "mlir::arith::ArithDialect",
                           "mlir::cf::ControlFlowDialect", "mlir::gpu::GPUDialect",
                           "mlir::memref::MemRefDialect", "mlir::scf::SCFDialect",
                           "mlir::vector::VectorDialect"];
}

def BlocksToCudaPass : Pass<"llama-blocks-to-cuda", "mlir::ModuleOp"> {
  let summary = "Place temporaries in scratch memory and lower the host's side of a block";
  let description = [{
    As llama-blocks-to-llvm, for blocks that launch kernels. The kernels stay: they are
    compiled when the executable is made. What a launch needs to know becomes the attribute
    `llama.launch` of an external global, equal launches share one; its address is what
    llrt_launch gets.

    Before:
    ```mlir
    gpu.module @k {
      llvm.func @k(%x: !llvm.ptr) attributes {gpu.kernel, nvvm.kernel} {
        llvm.return
      }
    }
    func.func @f(%x: memref<256xf32>) attributes {llama.block} {
      %c1 = arith.constant 1 : index
      %c256 = arith.constant 256 : index
      gpu.launch_func @k::@k blocks in (%c1, %c1, %c1) threads in (%c256, %c1, %c1) args(%x : memref<256xf32>)
      return
    }
    ```
    After:
    ```mlir
    llvm.mlir.global external constant @llrt.launch.f.0() {llama.launch = {block = array<i64: 256, 1, 1>, buffers = 1 : i64, grid = array<i64: 1, 1, 1>, kernel = @k::@k, shared = 0 : i64}} : i8
    gpu.module @k { ... }
    llvm.func @f(%stream: !llvm.ptr, %buffers: !llvm.ptr) attributes {llama.scratch = 0 : i64} {
      ...
      llvm.call @llrt_launch(%stream, %kernel, %args) : (!llvm.ptr, !llvm.ptr, !llvm.ptr) -> ()
      llvm.return
    }
    ```
  }];
  let options = [Option<"alignment", "alignment", "int64_t", "256",
                        "Bytes at a multiple of which temporaries begin: a power of two.">];
  let dependentDialects = ["mlir::LLVM::LLVMDialect", "mlir::gpu::GPUDialect"];
}

def PrintPtxPass : Pass<"llama-print-ptx", "mlir::ModuleOp"> {
  let summary = "Print the PTX of lowered kernels";
  let description = [{
    For tests and for eyes: prints what an executable would have for `chip`, kernel by kernel.

    Before:
    ```mlir
    gpu.module @k {
      llvm.func @k(%x: !llvm.ptr) attributes {gpu.kernel, nvvm.kernel} {
        llvm.return
      }
    }
    ```
    After: the same, and on standard output
    ```
    .visible .entry k(
    ```
  }];
  let options = [Option<"chip", "chip", "std::string", "\"sm_90a\"", "As --chip, one of them.">];
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

def PlanArenasPass : Pass<"llama-plan-arenas", "mlir::ModuleOp"> {
  let summary = "Fix every address within the graphs";
  let description = [{
    Needs programs (`dist.program`) whose parameters and frames have their addresses, and
    lowered blocks, whose code says how much scratch memory it takes (`llama.scratch`). Values
    begin where `dist.alignment` of the module says; that must do for the target, too.
    Replaces each graph function by a `dist.graph` of calls and collectives on addresses
    and declares, for every stage, the arenas below. `dist.operands` keeps, for each address,
    what has to be there (#dist.operand), for the check of the program. Programs of a stage share
    its arenas; `needs` of each says how much of which it uses, and so what an executable
    allocates to run it.

    | arena | holds |
    |---|---|
    | `inputs` | named inputs of all graphs |
    | `workspace` | what lives within a graph, by lifetime, scratch memory of the blocks too; outputs stay to the end of the graph |

    Before:
    ```mlir
    llama.parameter @w : tensor<8xf32> {frozen, initializer = #llama.initializer<ones>}
    dist.arena @parameters role = parameters bytes = 64
    dist.storage @w at @parameters[0]
    func.func private @scale(%x: tensor<8xf32>, %w: tensor<8xf32>) -> tensor<8xf32> attributes {llama.block, llama.scratch = 128 : i64}
    func.func @forward(%x: tensor<8xf32> {llama.input = "x"}) -> (tensor<8xf32> {llama.output = "y"}) {
      %y = llama.apply @scale(%x) parameters [@w] : (tensor<8xf32>) -> tensor<8xf32>
      return %y : tensor<8xf32>
    }
    dist.program "forward" {
      %0 = dist.run @forward micro_batch = 0
    }
    ```
    After:
    ```mlir
    dist.arena @parameters role = parameters bytes = 64
    dist.arena @inputs role = inputs bytes = 64
    dist.arena @workspace role = workspace bytes = 192
    dist.graph @forward {
      dist.input "x" at @inputs[0] : tensor<8xf32>
      dist.call @scale(@inputs[0], @parameters[0], @workspace[128], @workspace[0]) {dist.operands = [#dist.operand<input, "x">, #dist.operand<weights, @w>, #dist.operand<value, 0 : i64>, #dist.operand<scratch>]}
      dist.output "y" at @workspace[128] {dist.operands = [#dist.operand<value, 0 : i64>]} : tensor<8xf32>
    }
    dist.program "forward" needs (@parameters[64], @workspace[192], @inputs[64]) {
      %0 = dist.run @forward micro_batch = 0
    }
    ```
  }];
  let options = [Option<"alignment", "alignment", "int64_t", "1",
                        "What the target asks for: a power of two.">];
  let dependentDialects = ["::mlir::dist::DistDialect"];
}

def PlanReservesPass : Pass<"llama-plan-reserves", "mlir::ModuleOp"> {
  let summary = "Plan what the libraries of a target take of its device beside the arenas";
  let description = [{
    Needs lowered blocks and programs whose memory is planned. Of each communicator notes how many
    multiprocessors its calls hold while they wait for other ranks, and how many bytes the library
    takes for it at most (`llama.share`); of each stage (`llama.reserves`) the streams on which blocks
    have products, the bytes of their workspaces, and those of its communicators. Shares grow with
    the largest call; those of all streams of a rank together leave half of the multiprocessors to
    blocks. The runtime keeps to what is noted here, and the check proves that it is enough (R5, R6).

    Nothing is noted for a target without such libraries, as the host.

    Before, with `target=cuda`:
    ```mlir
    module attributes {dist.axes = ["dp", "pp", "cp", "tp"]} {
    shard.grid @grid(shape = 2x1x1x1)
    dist.communicator @dp axes ["dp"]
    dist.arena @gradients role = gradients bytes = 16777216
    dist.program "step" needs (@gradients[16777216]) {
      %0 = dist.collective all_reduce @dp from @gradients[0] to @gradients[0] : 1 x 4194304 x f32
    }
    }
    ```
    After:
    ```mlir
    module attributes {llama.reserves = [{communicators = 308281344 : i64, product_bytes = 0 : i64, product_streams = array<i64>} ]} {
    dist.communicator @dp axes ["dp"] {llama.share = {bytes = 308281344 : i64, multiprocessors = 8 : i64}}
    ```
  }];
  let options = [Option<"targetOption", "target", "std::string", "\"host\"",
                        "What runs the program.">,
                 Option<"chipOption", "chip", "std::string", "\"\"",
                        "Of a GPU, as --chip has it.">];
  let dependentDialects = ["::mlir::dist::DistDialect"];
}

#endif // LLAMAC_LOWER_PASSES_TD
