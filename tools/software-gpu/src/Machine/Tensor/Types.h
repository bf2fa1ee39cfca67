//===- Types.h - Tensor-core types of PTX --------------------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#ifndef SGPU_MACHINE_TENSOR_TYPES_H
#define SGPU_MACHINE_TENSOR_TYPES_H

#include "Machine/Tensor/Arithmetic.h"
#include "Ptx/Ast.h"

#include <optional>

namespace sgpu {

/// Nothing if tensor cores of sm_80 and sm_90 have no such type.
std::optional<TensorType> tensorTypeOf(ptx::Type type);

} // namespace sgpu

#endif
