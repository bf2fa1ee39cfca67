//===- Transport.cpp - Messages between ranks -----------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Transport/Transport.h"

#include <sstream>

using namespace llrt;

static std::string textOf(const Label &label) {
  std::ostringstream text;
  text << label.kind.data() << " of " << label.bytes << " bytes, tag [";
  for (size_t i = 0; i < label.tag.size(); ++i)
    text << (i ? ", " : "") << label.tag[i];
  text << "]";
  return text.str();
}

void llrt::requireEqual(const Label &own, const Label &other) {
  if (!(own == other))
    throw Failure("messages that do not match: expected " + textOf(own) + ", got " + textOf(other));
}
