//===- LoadObjects.h - Loads compiled blocks into this process -*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LLAMAC_TEST_BLOCKS_LOADOBJECTS_H
#define LLAMAC_TEST_BLOCKS_LOADOBJECTS_H

#include "llamac/Lower/Target.h"
#include "llrt/Program.h"
#include "runtime/src/Host/Stream.h"

#include "llvm/ExecutionEngine/Orc/LLJIT.h"
#include "llvm/Support/TargetSelect.h"

namespace llamac_test {

/// The objects, with the functions of the runtime that blocks call. Ends the process with a
/// message if they do not load.
inline std::unique_ptr<llvm::orc::LLJIT>
loadObjects(llvm::ArrayRef<mlir::llamac::ObjectFile> objects) {
  llvm::ExitOnError orDie("loading blocks: ");
  llvm::InitializeNativeTarget();
  llvm::InitializeNativeTargetAsmPrinter();
  std::unique_ptr<llvm::orc::LLJIT> jit = orDie(llvm::orc::LLJITBuilder().create());
  llvm::orc::SymbolMap runtime;
  auto define = [&](const char *symbol, auto *address) {
    runtime[jit->mangleAndIntern(symbol)] = {llvm::orc::ExecutorAddr::fromPtr(address),
                                             llvm::JITSymbolFlags::Exported};
  };
  define("llrt_launch", &llrt_launch);
  define("llrt_gemm", &llrt_gemm);
  define("llrt_attention_forward", &llrt_attention_forward);
  define("llrt_attention_backward", &llrt_attention_backward);
  orDie(jit->getMainJITDylib().define(llvm::orc::absoluteSymbols(runtime)));
  for (const mlir::llamac::ObjectFile &object : objects)
    orDie(jit->addObjectFile(llvm::MemoryBuffer::getMemBufferCopy(
        llvm::StringRef(object.bytes.data(), object.bytes.size()), object.name)));
  return jit;
}

/// A block's code.
inline LlrtBlock findBlock(llvm::orc::LLJIT &jit, llvm::StringRef name) {
  return llvm::ExitOnError("loading blocks: ")(jit.lookup(name)).toPtr<LlrtBlock>();
}

} // namespace llamac_test

#endif // LLAMAC_TEST_BLOCKS_LOADOBJECTS_H
