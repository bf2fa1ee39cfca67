//===- DistInterfaces.td - What every entry can answer ------*- tablegen -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_DIST_DISTINTERFACES_TD
#define LLAMAC_DIST_DISTINTERFACES_TD

include "mlir/IR/OpBase.td"

def EntryOpInterface : OpInterface<"EntryOpInterface"> {
  let cppNamespace = "::mlir::dist";
  let description = [{
    An entry of a program: what takes a place in the launch order of a rank.

    What it *runs* is one of four: a graph (`getGraphAttr`), a block on buffers
    (`getBlockAttr`), a communication (`getCommunicatorAttr`), or it fills bytes by itself
    (`getBytes`). A pass that asks these, and which memory the entry uses (`getUses`), need
    not know of which kind it is: frames are placed, programs simulated and read back by them.

    Most answers are the accessors of the op's own arguments: an argument `block` or
    `communicator` is one by its name.
  }];
  let methods = [
    InterfaceMethod<"The stream in which it runs.", "uint64_t", "getStream", (ins)>,
    InterfaceMethod<"The events that it waits for.", "::mlir::Operation::operand_range",
                    "getAfter", (ins)>,
    InterfaceMethod<"The graph that it runs, or null.", "::mlir::FlatSymbolRefAttr",
                    "getGraphAttr", (ins), "", "return {};">,
    InterfaceMethod<"The block that it calls, or null.", "::mlir::FlatSymbolRefAttr",
                    "getBlockAttr", (ins), "", "return {};">,
    InterfaceMethod<"The buffers of the block that it calls, as far as they are planned.",
                    "::std::optional<::mlir::ArrayAttr>", "getBuffers", (ins), "",
                    "return ::std::nullopt;">,
    InterfaceMethod<[{The communicator whose members meet in it, or null: none of them is done
                      before all have begun.}],
                    "::mlir::FlatSymbolRefAttr", "getCommunicatorAttr", (ins), "", "return {};">,
    InterfaceMethod<"Bytes that it fills by itself.", "uint64_t", "getBytes", (ins), "",
                    "return 0;">,
    InterfaceMethod<[{The memory that it uses, but for the buffers of its block. `members`: ranks
                      of a group of its communicator.}],
                    "::llvm::SmallVector<::mlir::dist::EntryUse>", "getUses",
                    (ins "int64_t":$members), "", "return {};">,
    InterfaceMethod<[{Says where the frame instances among its uses lie; `places` has an address
                      for each use, null where it has no instance.}],
                    "void", "setPlaces", (ins "::llvm::ArrayRef<::mlir::dist::AddressAttr>":$places),
                    "", "return;">];
}

#endif // LLAMAC_DIST_DISTINTERFACES_TD
