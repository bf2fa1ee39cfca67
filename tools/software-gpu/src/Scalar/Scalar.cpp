//===- Scalar.cpp - The operation of an instruction -------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Scalar/Scalar.h"
#include "Scalar/Rows.h"

using namespace sgpu::scalar;

Operation sgpu::scalar::find(const ptx::Function &function, const ptx::Instruction &instruction,
                             std::string &message) {
  for (auto findIn :
       {findInteger, findFloating, findApproximate, findCompare, findConvert, findVideo}) {
    Operation op;
    Builder builder(function, instruction, op);
    findIn(builder);
    if (op.run)
      return op;
  }
  message = "this form of '" + std::string(ptx::nameOf(instruction.opcode)) +
            "' has no scalar meaning here";
  return {};
}
