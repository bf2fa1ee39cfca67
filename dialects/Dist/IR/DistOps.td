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
include "mlir/IR/EnumAttr.td"
include "mlir/IR/OpBase.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "dialects/Dist/IR/DistInterfaces.td"

def Dist_Dialect : Dialect {
  let name = "dist";
  let cppNamespace = "::mlir::dist";
  let summary = "Where and when: actions, their order, and the memory they use";
  let description = [{
    A *program* is what one rank does in one call of an executable: an ordered list
    of *entries* (run a graph on a micro-batch, send, receive, reduce, update). Ranks of
    one pipeline stage have one program. At first a graph is a `func.func` whose body
    applies llama blocks; planning turns it into a `dist.graph`: the same calls and
    collectives on addresses, no values.

    An *arena* is the one allocation of a memory class. `@arena[N]` is its byte N
    (`#dist.address<@arena, N>`). A *buffer* is what begins at an address. A *frame* is
    what one graph leaves for another: an *instance* of it for each micro-batch. A graph
    knows the offsets within its frames, a run says where they lie.

    Text order is launch order. Entries of one stream run one after another; an entry
    waits for the *events* that it names. A *communicator* is one group of ranks for each
    value of the grid axes that it does not have.

    The buffers of a call of block `f`: its arguments in order, then its results
    that take no argument's place (`llama.in_place`), last its scratch memory.
  }];
  let useDefaultAttributePrinterParser = 1;
  let useDefaultTypePrinterParser = 1;
}

def Dist_AddressAttr : AttrDef<Dist_Dialect, "Address"> {
  let mnemonic = "address";
  let summary = "A byte of an arena or of a frame";
  let description = [{
    Ops print it as `@arena[offset]`.

    Example: `#dist.address<@workspace, 128>`
  }];
  let parameters = (ins "::mlir::FlatSymbolRefAttr":$arena, "int64_t":$offset);
  let assemblyFormat = "`<` $arena `,` $offset `>`";
}

def Dist_InstanceAttr : AttrDef<Dist_Dialect, "Instance"> {
  let mnemonic = "instance";
  let summary = "An instance of a frame, from a byte of it on";
  let description = [{
    `number` is the micro-batch, or the group of micro-batches, that it belongs to.

    Example: `#dist.instance<"kept", 3, 0>`
  }];
  let parameters = (ins "::mlir::StringAttr":$frame, "int64_t":$number, "int64_t":$offset);
  let assemblyFormat = "`<` $frame `,` $number `,` $offset `>`";
}

def Dist_OperandKind : I32EnumAttr<"OperandKind", "what an operand of a planned graph is", [
  I32EnumAttrCase<"Value", 0, "value">, I32EnumAttrCase<"Input", 1, "input">,
  I32EnumAttrCase<"Crossing", 2, "crossing">, I32EnumAttrCase<"Weights", 3, "weights">,
  I32EnumAttrCase<"Gradient", 4, "gradient">, I32EnumAttrCase<"Scratch", 5, "scratch">,
  I32EnumAttrCase<"Output", 6, "output">]> {
  let cppNamespace = "::mlir::dist";
}

def Dist_OperandAttr : AttrDef<Dist_Dialect, "Operand"> {
  let mnemonic = "operand";
  let summary = "What an operand of a planned graph has to be";
  let description = [{
    The address says where it lies, this what is there:

    | kind | what |
    |---|---|
    | `value` | the number of a value that the graph makes |
    | `input` | the name of an input of the graph |
    | `crossing` | the name of a value that another graph makes or reads, which lies in a frame |
    | `weights`, `gradient` | a parameter: its whole weights or the sum of its gradient on this rank |
    | `scratch` | nothing: memory that the call may use |
    | `output` | the name of an output that lies apart from the workspace, for entries |

    Example: `#dist.operand<weights, @model.norm.weight>`
  }];
  let parameters = (ins EnumParameter<Dist_OperandKind>:$kind,
                        OptionalParameter<"::mlir::Attribute">:$what);
  let assemblyFormat = "`<` $kind (`,` $what^)? `>`";
}

def Dist_Event : TypeDef<Dist_Dialect, "Event"> {
  let mnemonic = "event";
  let summary = "That an entry of a program is done";
  let description = "Example: `!dist.event`";
  let builderCall = "$_builder.getType<::mlir::dist::EventType>()";
}

def Dist_CollectiveKind : I32EnumAttr<"CollectiveKind", "what a collective does", [
  I32EnumAttrCase<"AllGather", 0, "all_gather">, I32EnumAttrCase<"AllReduce", 1, "all_reduce">,
  I32EnumAttrCase<"ReduceScatter", 2, "reduce_scatter">, I32EnumAttrCase<"Broadcast", 3, "broadcast">,
  I32EnumAttrCase<"Slice", 4, "slice">]> {
  let cppNamespace = "::mlir::dist";
}

def Dist_StagingAttr : AttrDef<Dist_Dialect, "Staging"> {
  let mnemonic = "staging";
  let summary = "The memory of a collective beside operand and result, and what it is for";
  let description = [{
    A target that lacks a collective does it in its plain form: one contiguous part for each
    member, one type, a result that takes the place of what was there. Then `pack` is the block
    that makes the plain operand, at `packed`, and `unpack` makes of the plain result, at
    `received`, the result itself, or adds it to what is there. Where a block is absent there
    is nothing to do; without `received` the result is unpacked from where the operand was
    packed (all_reduce). Sums are formed in f32, or in f64 if operand or result has it.

    `bytes`, at `scratch`: what the target needs to do it, and the blocks for themselves.
    Addresses are there once memory is planned.

    Example: `#dist.staging<pack = @pack.2x4x64.bf16.f32, packed = <@workspace, 0>, bytes = 512, scratch = <@workspace, 2048>>`
  }];
  let parameters = (ins OptionalParameter<"::mlir::FlatSymbolRefAttr">:$pack,
                        OptionalParameter<"::mlir::dist::AddressAttr">:$packed,
                        OptionalParameter<"::mlir::dist::AddressAttr">:$received,
                        OptionalParameter<"::mlir::FlatSymbolRefAttr">:$unpack,
                        DefaultValuedParameter<"int64_t", "0">:$bytes,
                        OptionalParameter<"::mlir::dist::AddressAttr">:$scratch);
  let assemblyFormat = "`<` struct(params) `>`";
}

def Dist_AddressArray : TypedArrayAttrBase<Dist_AddressAttr, "array of addresses">;
def Dist_InstanceArray : TypedArrayAttrBase<Dist_InstanceAttr, "array of frame instances">;
def Dist_SymbolArray : TypedArrayAttrBase<FlatSymbolRefAttr, "array of symbols">;
def Dist_Size : ConfinedAttr<I64Attr, [IntNonNegative]>;
def Dist_Stage : DefaultValuedAttr<Dist_Size, "0">;
def Dist_Stream : DefaultValuedAttr<Dist_Size, "0">;

class Dist_Op<string mnemonic, list<Trait> traits = []>
    : Op<Dist_Dialect, mnemonic, traits>;
class Dist_UserOp<string mnemonic, list<Trait> traits = []>
    : Dist_Op<mnemonic, !listconcat([DeclareOpInterfaceMethods<SymbolUserOpInterface>], traits)>;

// What takes a place in the launch order: it waits for the events `after` and its
// predecessors on `stream`; its result is the event that it is done.
class Dist_Entry<string mnemonic, dag args = (ins), string parent = "ProgramOp",
                 list<Trait> traits = []>
    : Dist_Op<mnemonic, !listconcat([ParentOneOf<[parent, "ProgramOp"]>, EntryOpInterface], traits)> {
  let arguments = !con((ins Variadic<Dist_Event>:$after), args, (ins Dist_Stream:$stream));
  let results = (outs Dist_Event:$done);
}

// One that uses memory which may be that of frame instances.
class Dist_FrameEntry<string mnemonic, dag args, string parent = "ProgramOp">
    : Dist_Entry<mnemonic, args, parent, [DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let extraClassDeclaration = [{
    ::llvm::SmallVector<::mlir::dist::EntryUse> getUses(int64_t members);
    void setPlaces(::llvm::ArrayRef<::mlir::dist::AddressAttr> places);
  }];
}

//===----------------------------------------------------------------------===//
// Placements
//===----------------------------------------------------------------------===//

include "dialects/Dist/IR/DistPlacement.td"

//===----------------------------------------------------------------------===//
// Programs and entries
//===----------------------------------------------------------------------===//

def CommunicatorOp : Dist_Op<"communicator", [Symbol]> {
  let summary = "Declare a group of ranks that communicate";
  let description = [{
    With `axes`: for each value of the other coordinates, the ranks that differ only on
    these axes of the grid, in rank order. With `edge = [a, b]`: the two ranks of stages a
    and b whose other coordinates agree, the sender first. All of a communicator's calls
    are on one stream. Transfers go along an edge; a collective on it is of its two ranks.

    - (C1) it has either `axes`, at least one, all different, or an `edge` of two different stages

    Example:
    ```mlir
    dist.communicator @tp axes ["tp"]
    dist.communicator @"forward 0 to 1" edge [0, 1]
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, OptionalAttr<StrArrayAttr>:$axes,
                       OptionalAttr<DenseI64ArrayAttr>:$edge);
  let assemblyFormat = "$sym_name (`axes` $axes^)? (`edge` $edge^)? attr-dict";
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// The communicator `name`, declared at the start of the module if it is not there.
    static CommunicatorOp declare(::mlir::SymbolTable &symbols, ::llvm::StringRef name,
                                  ::mlir::ArrayAttr axes, ::mlir::DenseI64ArrayAttr edge = {});
  }];
}

def ProgramOp : Dist_UserOp<"program", [NoTerminator, NoRegionArguments]> {
  let summary = "List the entries of one call of the executable";
  let description = [{
    The entries in launch order, for the ranks of one stage. The name is not a symbol:
    nothing in the module refers to a program, and its graph may bear the same name.

    Before them come the inputs that entries read, filled before the program begins, and
    the output `sums`, read when it is over: the sums of the losses of all tokens and of the
    squares of all elements of the gradient, two f64.

    `needs` says, once memory is planned, which arenas a rank must have to run it: each by the
    address of its first byte that is not needed. An arena of the weights or their state is
    needed whole or not at all; that of the weights always, as they are loaded.

    - (C1) the body holds only entries, `dist.input` and `dist.output`
    - (C2) no other program of the module has the name and the stage
    - (C3) `needs`, if present, names arenas of the stage, none twice, with addresses in them or
      at their ends

    Example:
    ```mlir
    dist.program "step" needs (@parameters[4096], @workspace[128], @statistics[192]) {
      dist.input "hyperparameters" at @statistics[64] : tensor<8xf64>
      %0 = dist.run @step micro_batch = 0
      %1 = dist.gradient_norm @gradient_norm
      %2 = dist.update @adamw
    }
    ```
  }];
  let arguments = (ins StrAttr:$name, Dist_Stage:$stage, OptionalAttr<Dist_AddressArray>:$needs);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    $name (`needs` `(` custom<Buffers>($needs)^ `)`)? attr-dict-with-keyword custom<Body>($body)
  }];
  let hasVerifier = 1;
}

def RunOp : Dist_FrameEntry<"run", (ins FlatSymbolRefAttr:$graph, Dist_Size:$micro_batch,
                               DefaultValuedAttr<Dist_InstanceArray, "{}">:$reads,
                               DefaultValuedAttr<Dist_InstanceArray, "{}">:$writes,
                               OptionalAttr<Dist_AddressArray>:$frames)> {
  let summary = "Run a graph on one micro-batch";
  let description = [{
    Reads and writes frame instances; `frames` says, once memory is planned, where those
    that it reads and then those that it writes lie. A graph of the image encoder runs on a
    group of micro-batches, whose number `micro_batch` is.

    - (C1) `graph` names a `func.func` or a `dist.graph`
    - (C2) `micro_batch >= 0`
    - (C3) `frames`, if present, are as many as `reads` and `writes`, and as the frames of the `dist.graph`

    Example:
    ```mlir
    %0 = dist.run @forward micro_batch = 3 writes [#dist.instance<"kept", 3, 0>] at (@activations[64])
    ```
  }];
  let assemblyFormat = [{
    $graph `micro_batch` `=` $micro_batch (`reads` $reads^)? (`writes` $writes^)?
    (`at` `(` custom<Buffers>($frames)^ `)`)? (`after` `(` $after^ `)`)? attr-dict
  }];
}

// One end of a transfer between two stages.
class Dist_Transfer<string mnemonic>
    : Dist_FrameEntry<mnemonic, (ins FlatSymbolRefAttr:$communicator, Dist_InstanceAttr:$instance,
                            TypeAttr:$type, Dist_Size:$elements, DenseI64ArrayAttr:$tag,
                            OptionalAttr<Dist_AddressAttr>:$address)> {
  let assemblyFormat = [{
    $communicator $instance `:` $elements `x` $type `tag` $tag (`at` custom<Address>($address)^)?
    (`after` `(` $after^ `)`)? attr-dict
  }];
}

def SendOp : Dist_Transfer<"send"> {
  let summary = "Send a frame instance to another stage";
  let description = [{
    It is done when the receiver has the data. `tag` says which tensor it is: stage and
    micro-batch that made it, and its number among what goes that way.

    - (C1) `communicator` names a `dist.communicator` with an edge
    - (C2) `tag` has three numbers
    - (C3) `type` is f32, bf16, f64 or i64

    Example:
    ```mlir
    %1 = dist.send @"forward 0 to 1" #dist.instance<"h", 0, 0> : 256 x f32 tag [0, 0, 0] after(%0) {stream = 1 : i64}
    ```
  }];
}

def ReceiveOp : Dist_Transfer<"receive"> {
  let summary = "Receive a frame instance from another stage";
  let description = [{
    - (C1) `communicator` names a `dist.communicator` with an edge
    - (C2) `tag` has three numbers
    - (C3) `type` is f32, bf16, f64 or i64

    Example:
    ```mlir
    %0 = dist.receive @"forward 0 to 1" #dist.instance<"x", 0, 0> : 256 x f32 tag [0, 0, 0] {stream = 2 : i64}
    ```
  }];
}

def CollectiveOp : Dist_FrameEntry<"collective", (ins
    Dist_CollectiveKind:$kind, FlatSymbolRefAttr:$communicator,
    OptionalAttr<Dist_InstanceAttr>:$reads, OptionalAttr<Dist_InstanceAttr>:$writes,
    OptionalAttr<Dist_AddressAttr>:$from, OptionalAttr<Dist_AddressAttr>:$to,
    Dist_Size:$outer, Dist_Size:$elements, TypeAttr:$type, OptionalAttr<TypeAttr>:$to_type,
    UnitAttr:$maximum, UnitAttr:$accumulate,
    OptionalAttr<Dist_SymbolArray>:$gradients,
    OptionalAttr<Dist_StagingAttr>:$staging), "GraphOp"> {
  let summary = "Communicate within a communicator";
  let description = [{
    Between [outer][elements] of each rank and [outer][members][elements]: `all_gather`
    from the first to the second, `reduce_scatter` back, with a sum; `all_reduce` sums in
    place of each; `broadcast` takes the first member's; `slice` takes a rank's own part and
    does not communicate. Sums are in the order of the members, in `to_type` if given, else
    in `type`; `maximum` instead of the sum if asked for; `accumulate` adds the result to
    what is at `to`. `gradients` names the parameters whose gradients it reduces. Between
    graphs it reads and writes frame instances. `staging` says how the target does it, and in
    which memory; what it does is the same.

    - (C1) `communicator` names a `dist.communicator`
    - (C2) `outer` and `elements` are at least 1
    - (C3) `from` and `to` lie within their arenas
    - (C4) `type` and `to_type` are f32, bf16, f64 or i64
    - (C5) only a `reduce_scatter` has `accumulate`
    - (C6) the blocks of `staging` are blocks, and its addresses lie within their arenas

    Example:
    ```mlir
    %0 = dist.collective all_reduce @tp from @workspace[0] to @workspace[0] : 1 x 256 x f32
    ```
  }];
  let assemblyFormat = [{
    $kind $communicator (`reads` $reads^)? (`writes` $writes^)?
    (`from` custom<Address>($from)^)? (`to` custom<Address>($to)^)?
    `:` $outer `x` $elements `x` $type (`to_type` $to_type^)?
    (`gradients` $gradients^)? (`staging` $staging^)? (`after` `(` $after^ `)`)? attr-dict
  }];
  let extraClassDeclaration = [{
    ::llvm::SmallVector<::mlir::dist::EntryUse> getUses(int64_t members);
    void setPlaces(::llvm::ArrayRef<::mlir::dist::AddressAttr> places);
    /// What it does, among so many ranks.
    ::mlir::dist::Collective getCollective(int64_t members);
  }];
}

def ZeroOp : Dist_FrameEntry<"zero", (ins OptionalAttr<Dist_InstanceAttr>:$writes, Dist_Size:$bytes,
                                 OptionalAttr<Dist_AddressAttr>:$address,
                                 OptionalAttr<Dist_SymbolArray>:$gradients)> {
  let summary = "Fill memory with zeros";
  let description = [{
    Of a frame instance, whose address is known once frames are placed, or of an arena.
    `gradients` names the parameters whose gradients begin there; a `dist.collective` that
    names the same has to reduce them.

    - (C1) it has `writes` or an `address`
    - (C2) `address`, if present, has room for `bytes` in its arena

    Example:
    ```mlir
    %0 = dist.zero writes #dist.instance<"states_gradient", 0, 0> bytes = 4096
    %1 = dist.zero bytes = 8192 at @gradients[0]
    ```
  }];
  let assemblyFormat = [{
    (`writes` $writes^)? `bytes` `=` $bytes (`at` custom<Address>($address)^)?
    (`gradients` $gradients^)? (`after` `(` $after^ `)`)? attr-dict
  }];
}

// A call of a block on arenas.
class Dist_BlockEntry<string mnemonic, dag more, string parent = "ProgramOp">
    : Dist_Entry<mnemonic, !con((ins FlatSymbolRefAttr:$block,
                                     OptionalAttr<Dist_AddressArray>:$buffers), more), parent,
                 [DeclareOpInterfaceMethods<SymbolUserOpInterface>]>;

def CallOp : Dist_BlockEntry<"call", (ins OptionalAttr<Dist_Size>:$micro_batch), "GraphOp"> {
  let summary = "Call a block on buffers";
  let description = [{
    In a graph, or between its runs. With `micro_batch` it belongs to a run: it is left out
    where the run is. `buffers` of an entry lack the scratch memory until memory is planned.

    - (C1) `block` names a function
    - (C2) a `func.func` has as many arguments, results not in place and scratch
      (1) as there are `buffers`
    - (C3) each buffer begins within its arena

    Example:
    ```mlir
    dist.call @head(@workspace[64], @parameters[0], @workspace[0], @workspace[128])
    ```
  }];
  let assemblyFormat = [{
    $block (`(` custom<Buffers>($buffers)^ `)`)? (`micro_batch` `=` $micro_batch^)?
    (`after` `(` $after^ `)`)? attr-dict
  }];
}

def GradientNormOp : Dist_BlockEntry<"gradient_norm",
                                     (ins DefaultValuedAttr<StrArrayAttr, "{}">:$once)> {
  let summary = "Sum the squares of gradients";
  let description = [{
    Calls `block` with gradients that lie one after another; its result is one number, which a
    `dist.call` behind it adds to the sum of the program: only ranks with coordinate 0 on the
    axes `once` count it, on the others lies the same. `buffers` are gradients, result, and
    scratch once memory is planned.

    - (C1) `block` names a function; a `func.func` is a block of type `(tensor<NxT>) -> tensor<1xU>`
    - (C2) `buffers`, if present, are 2 or 3, each within an arena

    Example:
    ```mlir
    %0 = dist.gradient_norm @gradient_norm(@gradients[0], @statistics[256], @workspace[64])
    ```
  }];
  let assemblyFormat = [{
    $block (`(` custom<Buffers>($buffers)^ `)`)? (`once` $once^)? (`after` `(` $after^ `)`)? attr-dict
  }];
}

def UpdateOp : Dist_BlockEntry<"update", (ins)> {
  let summary = "Update all trainable parameters";
  let description = [{
    Calls `block` with masters, first moments, second moments, gradients and the 8
    hyperparameters of `llama.adamw`. The first three are updated in place; a
    fourth result is the weights in their storage type. `buffers` are the arguments, the
    weights if there is such a result, and scratch once memory is planned. Like every entry
    it waits for nothing but its events and its stream.

    - (C1) `block` names a function; a `func.func` is a block of type `(tensor<NxT>,
      tensor<NxT>, tensor<NxT>, tensor<NxG>, tensor<8xT>) -> (tensor<NxT>, tensor<NxT>,
      tensor<NxT>)`, perhaps with a fourth result, the weights
    - (C2) `buffers`, if present, are 5, one more with weights and one more with scratch, each
      within an arena

    Example:
    ```mlir
    %0 = dist.update @adamw(@masters[0], @moment1[0], @moment2[0], @gradients[0], @statistics[128], @workspace[0])
    ```
  }];
  let assemblyFormat = [{
    $block (`(` custom<Buffers>($buffers)^ `)`)? (`after` `(` $after^ `)`)? attr-dict
  }];
}

//===----------------------------------------------------------------------===//
// Planned memory
//===----------------------------------------------------------------------===//

// In the order of llrt/MemoryTable.h, which says what messages call them.
def Dist_ArenaRole : I32EnumAttr<"ArenaRole", "what an arena is for", [
  I32EnumAttrCase<"Parameters", 0, "parameters">, // or a rank's shards of them
  I32EnumAttrCase<"WholeWeights", 1, "whole_weights">, // gathered blocks
  I32EnumAttrCase<"WeightShard", 2, "weight_shard">, // updated, before they are gathered
  I32EnumAttrCase<"Masters", 3, "masters">,
  I32EnumAttrCase<"Gradients", 4, "gradients">,
  I32EnumAttrCase<"WholeGradients", 5, "whole_gradients">, // of blocks, before they are reduced
  I32EnumAttrCase<"GradientShard", 6, "gradient_shard">,
  I32EnumAttrCase<"Moment1", 7, "moment1">, I32EnumAttrCase<"Moment2", 8, "moment2">,
  I32EnumAttrCase<"Activations", 9, "activations">, // what one graph leaves for another
  I32EnumAttrCase<"Workspace", 10, "workspace">, // what lives within a graph or a block
  I32EnumAttrCase<"Collectives", 11, "collectives">, // what those beside compute need
  I32EnumAttrCase<"Inputs", 12, "inputs">,
  I32EnumAttrCase<"Statistics", 13, "statistics">]> {
  let cppNamespace = "::mlir::dist";
}

def ArenaOp : Dist_Op<"arena", [Symbol]> {
  let summary = "Declare an arena";
  let description = [{
    One allocation of each rank of a stage, made at start, never moved. It and
    the values in it begin at multiples of `dist.alignment` bytes, an attribute of the module
    (without it: 64). The
    role says what it is for; executables and tables call it so. The symbol is only a name.

    - (C1) `bytes >= 0`

    Example:
    ```mlir
    dist.arena @workspace role = workspace bytes = 1048576
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, Dist_ArenaRole:$role, Dist_Size:$bytes,
                       Dist_Stage:$stage);
  let assemblyFormat = "$sym_name `role` `=` $role `bytes` `=` $bytes attr-dict";
}

def StorageOp : Dist_UserOp<"storage"> {
  let summary = "Say where a parameter and its training state lie";
  let description = [{
    Master and moments have the elements of the parameter in the master type (f32,
    or f64 under f64), the gradient in the accumulation type (the same, unless bf16
    was asked for). They exist exactly if the parameter is trainable. One for each stage
    that has the parameter; the arenas say which.

    With `shard = [begin, elements]` the state is sharded over the axis dp: it lies in a
    flat unit of so many elements, in which the parameter is from element `begin` on, and
    each rank has an equal part of the unit; addresses are those of the part. With
    `shard_storage` so are the weights. `gradient_sum` is where a rank sums the gradient of
    all micro-batches before it is sharded.

    - (C1) `parameter` names a `llama.parameter`
    - (C2) `master`, `gradient`, `moment1`, `moment2` are present if and only if it is not frozen
    - (C3) each address lies within its arena, with room for the parameter in the
      type of what lies there, unless it is that of a shard

    Example:
    ```mlir
    dist.storage @"model.norm.weight" at @parameters[0] master @masters[0] gradient @gradients[0] moments @moment1[0], @moment2[0]
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$parameter, Dist_AddressAttr:$address,
                       OptionalAttr<Dist_AddressAttr>:$master, OptionalAttr<Dist_AddressAttr>:$gradient,
                       OptionalAttr<Dist_AddressAttr>:$moment1, OptionalAttr<Dist_AddressAttr>:$moment2,
                       OptionalAttr<Dist_AddressAttr>:$gradient_sum,
                       OptionalAttr<DenseI64ArrayAttr>:$shard, UnitAttr:$shard_storage);
  let assemblyFormat = [{
    $parameter `at` custom<Address>($address)
    (`master` custom<Address>($master)^ `gradient` custom<Address>($gradient)
     `moments` custom<Address>($moment1) `,` custom<Address>($moment2))? attr-dict
  }];
}

def UnitOp : Dist_UserOp<"unit", [Symbol]> {
  let summary = "Declare parameters that are sharded over dp as one";
  let description = [{
    The parameters lie one after another in a flat unit of `elements`; `dist.storage` says
    where each begins. Each of the ranks on dp has an equal part, its shard: of the
    weights, if `weights` is their address, and of the gradient, if `gradient` is. A program
    gathers whole weights into the frame "<unit> weights", and reduces what its runs wrote
    into the frame "<unit> gradient".

    - (C1) each of `parameters` names a `llama.parameter`
    - (C2) `weights` or `gradient` is there, each within its arena
    - (C3) `type` and `gradient_type` are f32, bf16, f64 or i64

    Example:
    ```mlir
    dist.unit @"layer 0" parameters [@"model.norm.weight"] : 1024 x f32 weights @parameters[0] gradient @gradients[0] : f32
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, Dist_SymbolArray:$parameters, Dist_Size:$elements,
                       TypeAttr:$type, OptionalAttr<Dist_AddressAttr>:$weights,
                       OptionalAttr<Dist_AddressAttr>:$gradient, OptionalAttr<TypeAttr>:$gradient_type);
  let assemblyFormat = [{
    $sym_name `parameters` $parameters `:` $elements `x` $type
    (`weights` custom<Address>($weights)^)?
    (`gradient` custom<Address>($gradient)^ `:` $gradient_type)? attr-dict
  }];
}

def GraphOp : Dist_Op<"graph", [Symbol, NoTerminator, NoRegionArguments]> {
  let summary = "Call blocks on fixed addresses";
  let description = [{
    What a graph function becomes when memory is planned: the frames that a run gives it,
    the calls and collectives in order, the places of the named inputs (filled before the
    calls) and outputs (to be read after the last call, before the next run).

    - (C1) the body holds only `dist.frame`, `dist.input`, `dist.call`, `dist.collective` and
      `dist.output`
    - (C2) no two frames have one name, nor two inputs, nor two outputs
    - (C3) the frames come first
    - (C4) a call or a collective has neither a stream nor events: all of a graph is on the stream
      of its run

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

def FrameOp : Dist_Op<"frame", [HasParent<"GraphOp">]> {
  let summary = "Declare a frame of a graph";
  let description = [{
    Addresses `@name[N]` in the graph mean byte N of the instance that a run gives.

    - (C1) `bytes >= 0`

    Example:
    ```mlir
    dist.frame "kept" bytes = 4096
    ```
  }];
  let arguments = (ins StrAttr:$name, Dist_Size:$bytes);
  let assemblyFormat = "$name `bytes` `=` $bytes attr-dict";
}

class Dist_NamedBufferOp<string mnemonic>
    : Dist_UserOp<mnemonic, [ParentOneOf<["GraphOp", "ProgramOp"]>]> {
  let assemblyFormat = "$name `at` custom<Address>($address) attr-dict `:` $type";
}

def InputOp : Dist_NamedBufferOp<"input"> {
  let summary = "Say where an input of the graph, or of the entries of a program, lies";
  let description = [{
    `split` says, for each dimension, over which axes the whole input is split. `images =
    [group, axes...]`: the first dimension counts the images of a group of micro-batches,
    split over the axes and padded with images that are not there.

    - (C1) the type has a static shape and element type f32, bf16, f64 or i64
    - (C2) the value lies within its arena

    Example:
    ```mlir
    dist.input "labels" at @inputs[256] : tensor<2x16xi64>
    ```
  }];
  let arguments = (ins StrAttr:$name, Dist_AddressAttr:$address, TypeAttrOf<AnyRankedTensor>:$type,
                       OptionalAttr<ArrayAttr>:$split, OptionalAttr<ArrayAttr>:$images);
}

def OutputOp : Dist_NamedBufferOp<"output"> {
  let summary = "Say where an output of the graph or program lies";
  let description = [{
    `split` as in dist.input; `partial` names the axes over which the whole output is the
    sum of the ranks' values.

    - (C1) the type has a static shape and element type f32, bf16, f64 or i64
    - (C2) the value lies within its arena

    Example:
    ```mlir
    dist.output "loss" at @workspace[0] : tensor<1xf32>
    ```
  }];
  let arguments = (ins StrAttr:$name, Dist_AddressAttr:$address, TypeAttrOf<AnyRankedTensor>:$type,
                       OptionalAttr<ArrayAttr>:$split, OptionalAttr<ArrayAttr>:$partial);
}

#endif // LLAMAC_DIST_DISTOPS_TD
