//===- Certificate.h - What is proved of a device program -------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A device program (the form that Lower leaves) is read back as launch lists, one for each
// pipeline stage, and checked by the rules of Check/Rules.h. The runs are flattened: an
// action is a call of a block, a collective, a transfer. What an action reads and writes is
// known twice: by address, and by name (a value of a graph, a byte of a frame instance, a
// byte of an arena that holds state). The names say which value a read has to find; the
// addresses say which one it will find.
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_CHECK_CERTIFICATE_H
#define LLAMAC_CHECK_CERTIFICATE_H

#include "llamac/Check/Rules.h"
#include "llamac/Lower/Target.h"

#include "mlir/IR/BuiltinOps.h"

namespace mlir::llamac {

/// Module attribute: what dist-check proved, `{ranks = 16 : i64, ...}`; see docs/commands/llamac-check.md.
inline constexpr llvm::StringLiteral kCertificateAttr = "llama.certificate";

/// Module attribute: the reductions inside blocks, noted by dist-note-reductions:
/// `[{op, type, result, length, count}, ...]`.
inline constexpr llvm::StringLiteral kReductionsAttr = "llama.reductions";

/// The launch lists of the programs `name` on `target`, one class for each stage. Gradients that are not
/// reduced in one piece, and the like, are added to `faults`. Fails with a message if the
/// module is no device program.
FailureOr<check::Program> readProgram(ModuleOp module, StringRef name, const Target &target,
                                      std::vector<check::Fault> &faults);

/// Adds to `faults` what is wrong with the places of parameters and their state, and with the
/// graphs as a whole: see CheckStorage.cpp.
void checkStorage(ModuleOp module, std::vector<check::Fault> &faults);

/// Prints `llama.certificate`.
void printCertificate(ModuleOp module, llvm::raw_ostream &os);

/// Prints every reduction of a step: those of collectives, those inside blocks.
void printPrecisionReport(ModuleOp module, llvm::raw_ostream &os);

} // namespace mlir::llamac

#endif // LLAMAC_CHECK_CERTIFICATE_H
