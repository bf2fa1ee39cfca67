//===- DistOps.td - Ops of the dist dialect ----------------*- tablegen -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_DIST_DISTOPS_TD
#define LLAMAC_DIST_DISTOPS_TD

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/BuiltinAttributeInterfaces.td"
include "mlir/IR/OpBase.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def Dist_Dialect : Dialect {
  let name = "dist";
  let cppNamespace = "::mlir::dist";
  let summary = "Where and when: actions, their order, and the memory they use";
  let description = [{
    A *program* is what one rank does in one call of an executable: an ordered list
    of *actions* (run a graph on a micro-batch, take the gradient norm, update the
    parameters). At first a graph is a `func.func` whose body applies llama blocks.
    Planning turns it into a `dist.graph`: the same calls on addresses, no values.

    An *arena* is the one allocation of a memory class. `@arena[N]` is its byte N
    (`#dist.address<@arena, N>`). A *buffer* is what begins at an address.

    The buffers of a call of block `f`: its arguments in order, then its results
    that take no argument's place (`llama.in_place`), last its scratch memory.
  }];
  let useDefaultAttributePrinterParser = 1;
}

def Dist_AddressAttr : AttrDef<Dist_Dialect, "Address"> {
  let mnemonic = "address";
  let summary = "A byte of an arena";
  let description = [{
    Ops print it as `@arena[offset]`.

    Example: `#dist.address<@workspace, 128>`
  }];
  let parameters = (ins "::mlir::FlatSymbolRefAttr":$arena, "int64_t":$offset);
  let assemblyFormat = "`<` $arena `,` $offset `>`";
}

def Dist_AddressArray : TypedArrayAttrBase<Dist_AddressAttr, "array of addresses">;
def Dist_Size : ConfinedAttr<I64Attr, [IntNonNegative]>;

class Dist_Op<string mnemonic, list<Trait> traits = []>
    : Op<Dist_Dialect, mnemonic, traits>;
class Dist_UserOp<string mnemonic, list<Trait> traits = []>
    : Dist_Op<mnemonic, !listconcat([DeclareOpInterfaceMethods<SymbolUserOpInterface>], traits)>;

//===----------------------------------------------------------------------===//
// Placements
//===----------------------------------------------------------------------===//

include "dialects/Dist/IR/DistPlacement.td"

//===----------------------------------------------------------------------===//
// Programs and actions
//===----------------------------------------------------------------------===//

def ProgramOp : Dist_Op<"program", [NoTerminator, NoRegionArguments]> {
  let summary = "List the actions of one call of the executable";
  let description = [{
    The actions run one after another, in order. The name is not a symbol: nothing
    in the module refers to a program, and its graph may bear the same name.

    - (C1) the body holds only actions: `dist.run`, `dist.gradient_norm`, `dist.update`
    - (C2) no other program of the module has the name

    Example:
    ```mlir
    dist.program "step" {
      dist.run @step micro_batch = 0
      dist.gradient_norm @gradient_norm
      dist.update @adamw
    }
    ```
  }];
  let arguments = (ins StrAttr:$name);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$name attr-dict-with-keyword custom<Body>($body)";
  let hasVerifier = 1;
}

def RunOp : Dist_UserOp<"run", [HasParent<"ProgramOp">]> {
  let summary = "Run a graph on the inputs of one micro-batch";
  let description = [{
    - (C1) `graph` names a `func.func` or a `dist.graph`
    - (C2) `micro_batch >= 0`

    Example:
    ```mlir
    dist.run @step micro_batch = 0
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$graph, Dist_Size:$micro_batch);
  let assemblyFormat = "$graph `micro_batch` `=` $micro_batch attr-dict";
}

// An action that calls one block over all trainable elements.
class Dist_BlockAction<string mnemonic> : Dist_UserOp<mnemonic, [HasParent<"ProgramOp">]> {
  let arguments = (ins FlatSymbolRefAttr:$block, OptionalAttr<Dist_AddressArray>:$buffers);
  let assemblyFormat = "$block (`(` custom<Buffers>($buffers)^ `)`)? attr-dict";
}

def GradientNormOp : Dist_BlockAction<"gradient_norm"> {
  let summary = "Sum the squares of all gradients";
  let description = [{
    Calls `block` with all gradients; its result is one number. `buffers` are given
    once memory is planned: gradients, result, scratch.

    - (C1) `block` names a function; a `func.func` is a block of type `(tensor<NxT>) -> tensor<1xU>`
    - (C2) `buffers`, if present, are 3, each within an arena

    Example:
    ```mlir
    dist.gradient_norm @gradient_norm(@gradients[0], @workspace[0], @workspace[64])
    ```
  }];
}

def UpdateOp : Dist_BlockAction<"update"> {
  let summary = "Update all trainable parameters";
  let description = [{
    Calls `block` with masters, first moments, second moments, gradients and the 8
    hyperparameters of `llrt/Program.h`. The first three are updated in place; a
    fourth result is the weights in their storage type. `buffers` are given once
    memory is planned: the arguments, the weights if there is such a result, scratch.

    - (C1) `block` names a function; a `func.func` is a block of type `(tensor<NxT>,
      tensor<NxT>, tensor<NxT>, tensor<NxG>, tensor<8xT>) -> (tensor<NxT>, tensor<NxT>,
      tensor<NxT>)`, perhaps with a fourth result, the weights
    - (C2) `buffers`, if present, are 6, or 7 with weights, each within an arena

    Example:
    ```mlir
    dist.update @adamw(@masters[0], @moment1[0], @moment2[0], @gradients[0], @inputs[0], @workspace[0])
    ```
  }];
}

//===----------------------------------------------------------------------===//
// Planned memory
//===----------------------------------------------------------------------===//

def ArenaOp : Dist_Op<"arena", [Symbol]> {
  let summary = "Declare an arena";
  let description = [{
    One allocation, made at start, 64-byte aligned, never moved.

    - (C1) `bytes >= 0`

    Example:
    ```mlir
    dist.arena @workspace bytes = 1048576
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, Dist_Size:$bytes);
  let assemblyFormat = "$sym_name `bytes` `=` $bytes attr-dict";
}

def StorageOp : Dist_UserOp<"storage"> {
  let summary = "Say where a parameter and its training state lie";
  let description = [{
    Master and moments have the elements of the parameter in the master type (f32,
    or f64 under f64), the gradient in the accumulation type (the same, unless bf16
    was asked for). They exist exactly if the parameter is trainable.

    - (C1) `parameter` names a `llama.parameter`
    - (C2) `master`, `gradient`, `moment1`, `moment2` are present if and only if it is not frozen
    - (C3) each address lies within its arena, with room for the parameter in the
      type of what lies there

    Example:
    ```mlir
    dist.storage @"model.norm.weight" at @parameters[0] master @masters[0] gradient @gradients[0] moments @moment1[0], @moment2[0]
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$parameter, Dist_AddressAttr:$address,
                       OptionalAttr<Dist_AddressAttr>:$master, OptionalAttr<Dist_AddressAttr>:$gradient,
                       OptionalAttr<Dist_AddressAttr>:$moment1, OptionalAttr<Dist_AddressAttr>:$moment2);
  let assemblyFormat = [{
    $parameter `at` custom<Address>($address)
    (`master` custom<Address>($master)^ `gradient` custom<Address>($gradient)
     `moments` custom<Address>($moment1) `,` custom<Address>($moment2))? attr-dict
  }];
}

def GraphOp : Dist_Op<"graph", [Symbol, NoTerminator, NoRegionArguments]> {
  let summary = "Call blocks on fixed addresses";
  let description = [{
    What a graph function becomes when memory is planned: the calls in order, the
    places of the named inputs (filled before the calls) and outputs (to be read
    after the last call, before the next run).

    - (C1) the body holds only `dist.input`, `dist.call` and `dist.output`
    - (C2) no two inputs have one name, nor two outputs

    Example:
    ```mlir
    dist.graph @forward {
      dist.input "input_ids" at @inputs[0] : tensor<2x16xi64>
      dist.call @embedding(@inputs[0], @parameters[0], @workspace[64], @workspace[16448])
      dist.output "loss" at @workspace[0] : tensor<1xf32>
    }
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$sym_name attr-dict-with-keyword custom<Body>($body)";
  let hasVerifier = 1;
}

class Dist_NamedBufferOp<string mnemonic> : Dist_UserOp<mnemonic, [HasParent<"GraphOp">]> {
  let arguments = (ins StrAttr:$name, Dist_AddressAttr:$address, TypeAttrOf<AnyRankedTensor>:$type);
  let assemblyFormat = "$name `at` custom<Address>($address) attr-dict `:` $type";
}

def InputOp : Dist_NamedBufferOp<"input"> {
  let summary = "Say where an input of the graph lies";
  let description = [{
    - (C1) the type has a static shape and element type f32, bf16, f64 or i64
    - (C2) the value lies within its arena

    Example:
    ```mlir
    dist.input "labels" at @inputs[256] : tensor<2x16xi64>
    ```
  }];
}

def OutputOp : Dist_NamedBufferOp<"output"> {
  let summary = "Say where an output of the graph lies";
  let description = [{
    - (C1) the type has a static shape and element type f32, bf16, f64 or i64
    - (C2) the value lies within its arena

    Example:
    ```mlir
    dist.output "loss" at @workspace[0] : tensor<1xf32>
    ```
  }];
}

def CallOp : Dist_UserOp<"call", [HasParent<"GraphOp">]> {
  let summary = "Call a block on buffers";
  let description = [{
    - (C1) `block` names a function
    - (C2) a `func.func` has as many arguments, results not in place and scratch
      (1) as there are `buffers`
    - (C3) each buffer begins within its arena

    Example:
    ```mlir
    dist.call @head(@workspace[64], @parameters[0], @workspace[0], @workspace[128])
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$block, Dist_AddressArray:$buffers);
  let assemblyFormat = "$block `(` custom<Buffers>($buffers) `)` attr-dict";
}

#endif // LLAMAC_DIST_DISTOPS_TD
