//===- Device.cpp - Memory and queues of one rank -------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Device/Device.h"

#include <sstream>

using namespace llrt;
using Kind = Action::Kind;

std::string llrt::workText(const Program &program, const Work &work) {
  const Action &action = *work.action;
  std::ostringstream text;
  text << actionName(action.kind);
  if (action.communicates())
    text << " on communicator '" << program.communicators[action.communicator].name << "'";
  else if (action.kind == Kind::Call)
    text << " of block '" << action.call.name << "'";
  if (!action.location.empty())
    text << " (" << action.location << ")";
  if (work.run)
    text << ", item " << work.item << " of graph '" << work.run->graph << "', micro-batch "
         << work.run->microBatch;
  else
    text << ", entry " << work.entry;
  if (action.kind == Kind::Send || action.kind == Kind::Receive) {
    const auto &[stage, chunk, microBatch, value] = action.tag;
    text << ", stage " << stage << ", chunk " << chunk << ", micro-batch " << microBatch
         << ", value " << value;
  }
  return text.str();
}
