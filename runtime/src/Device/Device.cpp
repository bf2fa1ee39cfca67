//===- Device.cpp - Memory and queues of one rank -------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Device/Device.h"

#include <sstream>

using namespace llrt;

namespace {
// What is there.
class Done : public Device::Reading {
public:
  explicit Done(int64_t count) : bytes(size_t(count)) {}
  const std::byte *wait() override { return bytes.data(); }
  std::vector<std::byte> bytes;
};
} // namespace

std::unique_ptr<Device::Reading> Device::readLater(Stream stream, const void *from, int64_t bytes) {
  auto reading = std::make_unique<Done>(bytes);
  read(stream, from, bytes, reading->bytes.data());
  return reading;
}
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

void llrt::giveUp(const Grid &grid, Control &control, std::chrono::duration<double> timeout,
                  const std::string &own) {
  std::vector<std::optional<std::string>> answers = control.ask(own);
  std::string silent, waiting;
  int64_t silentCount = 0;
  auto place = [&](int64_t number) {
    std::string text = grid.placeText(number);
    return std::to_string(number) + (text.empty() ? "" : " (" + text + ")");
  };
  for (size_t number = 0; number < answers.size(); ++number)
    if (answers[number]) {
      waiting += "\n  rank " + place(number) + " waits: " + *answers[number];
    } else {
      silent += (silent.empty() ? "" : ", ") + place(number);
      ++silentCount;
    }
  std::ostringstream number;
  number << timeout.count() << " s";
  std::string seconds = number.str();
  control.abandon((silentCount == 0 ? "all ranks have waited for each other for " + seconds
                                    : (silentCount == 1 ? "rank " : "ranks ") + silent +
                                          (silentCount == 1 ? " has" : " have") +
                                          " not answered for " + seconds) +
                  waiting);
}
