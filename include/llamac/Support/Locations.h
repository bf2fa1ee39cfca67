//===- Locations.h - Where an op of a program comes from -------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Locations as messages print them: `model.mlir:12:10`, or a name that Import gave to an
// application of a block: `self_layer of model.layers.3`. An op of a block that is applied
// somewhere: `x in self_layer of model.layers.3`.
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_SUPPORT_LOCATIONS_H
#define LLAMAC_SUPPORT_LOCATIONS_H

#include "mlir/IR/Operation.h"

namespace mlir::llamac {

/// Empty if nothing is known. A text that is the metadata of a FusedLoc is a name, which
/// unlike a NameLoc does not become the name of the op's results when IR is printed.
std::string locationText(Location location);

/// What `op`, an item of a graph or an entry of a program, belongs to: the gradients that
/// it reduces, if it does, and its location.
std::string sourceText(Operation *op);

} // namespace mlir::llamac

#endif // LLAMAC_SUPPORT_LOCATIONS_H
