//===- Control.cpp - What ranks tell each other about themselves ----------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Control/Control.h"

using namespace llrt;

void Control::sendText(int64_t to, const std::string &text) {
  int64_t bytes = text.size();
  send(to, &bytes, sizeof(bytes));
  send(to, text.data(), bytes);
}

std::string Control::receiveText(int64_t from) {
  int64_t bytes = 0;
  receive(from, &bytes, sizeof(bytes));
  std::string text(size_t(bytes), ' ');
  receive(from, text.data(), bytes);
  return text;
}

std::vector<std::string> Control::gather(const std::string &own) {
  if (rank() != 0) {
    sendText(0, own);
    return {};
  }
  std::vector<std::string> texts = {own};
  for (int64_t other = 1; other < size(); ++other)
    texts.push_back(receiveText(other));
  return texts;
}

std::string Control::broadcast(const std::string &text) {
  if (rank() != 0)
    return receiveText(0);
  for (int64_t other = 1; other < size(); ++other)
    sendText(other, text);
  return text;
}
