//===- Communication.cpp - Collectives and transfers ----------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A communication goes through phases: advance() starts the messages of the next one, poll() goes
// on when all of them have arrived. Elements are taken in pieces that fit into the slots of the
// scratch memory (Collectives.h); with several rows a piece is packed, since it is in parts:
//
//   all_reduce   phase 1   a piece has a share for each member; share i of all goes to member i
//                phase 2   the sum of the own share goes to all
//                phase 1   of the next piece ...
//
// Sums are in the order of members, whoever comes first.
//
//===----------------------------------------------------------------------===//

#include "src/Transport/Communication.h"

#include "llrt/Collectives.h"
#include "src/Data/Error.h"
#include "src/Data/SafeTensors.h"

#include <algorithm>
#include <cstring>

using namespace llrt;
using Kind = Action::Kind;

Communication::Communication(Transport &transport, const Action &action,
                             const std::vector<int64_t> &members, int64_t rank, const void *from,
                             void *to, void *scratch)
    : transport(transport), action(action), members(members),
      here(std::find(members.begin(), members.end(), rank) - members.begin()),
      from(static_cast<const std::byte *>(from)), to(static_cast<std::byte *>(to)),
      scratch(static_cast<std::byte *>(scratch)) {
  if (int64_t slots =
          collectiveSlots(actionName(action.kind), int64_t(members.size()), action.outer)) {
    slotBytes = action.scratchBytes / slots / collectiveAlignment * collectiveAlignment;
    if (slotBytes == 0 && action.elements > 0)
      fail("expected at least ", slots * collectiveAlignment,
           " bytes of memory for the parts of others, got ", action.scratchBytes);
  }
  parts.resize(members.size());
  advance();
}

bool Communication::poll() {
  while (!done) {
    std::erase_if(pending, [](Pending &p) { return p.request->test(); });
    if (!pending.empty())
      return false;
    advance();
  }
  return true;
}

std::vector<int64_t> Communication::missing() const {
  std::vector<int64_t> result;
  bool receives =
      std::any_of(pending.begin(), pending.end(), [](const Pending &p) { return !p.isSend; });
  for (const Pending &p : pending)
    if (p.isSend != receives)
      result.push_back(p.rank);
  std::sort(result.begin(), result.end());
  result.erase(std::unique(result.begin(), result.end()), result.end());
  return result;
}

Label llrt::labelOf(const Action &action, int64_t bytes) {
  Label result = {{}, bytes, action.tag};
  if (action.kind != Kind::Send && action.kind != Kind::Receive)
    result.tag[0] = action.outer * action.elements;
  Kind kind = action.kind == Kind::Receive ? Kind::Send : action.kind;
  std::strncpy(result.kind.data(), actionName(kind), result.kind.size() - 1);
  return result;
}

void Communication::send(int64_t member, const void *data, int64_t bytes) {
  int64_t rank = members[member];
  pending.push_back(
      {rank, true,
       transport.send(int64_t(action.communicator), rank, labelOf(action, bytes), data)});
}

void Communication::receive(int64_t member, void *data, int64_t bytes) {
  int64_t rank = members[member];
  pending.push_back(
      {rank, false,
       transport.receive(int64_t(action.communicator), rank, labelOf(action, bytes), data)});
}

bool Communication::nextPiece(int64_t all, int64_t shares) {
  begin = end;
  int64_t most = slotBytes ? slotBytes / typeSize(action.type) * shares : all;
  end = std::min(all, begin + most);
  return begin < end;
}

template <typename Row> void Communication::eachRow(int64_t part, Row row) const {
  const int64_t count = members.size(), elements = action.elements;
  for (int64_t at = begin; at < end;) {
    int64_t number = at / elements, column = at % elements;
    int64_t n = std::min(end - at, elements - column);
    row((number * count + part) * elements + column, at - begin, n);
    at += n;
  }
}

void Communication::advance() {
  switch (action.kind) {
  case Kind::AllGather:
    return gather();
  case Kind::Broadcast:
    return broadcast();
  case Kind::ReduceScatter:
    return reduceScatter();
  case Kind::AllReduce:
    return allReduce();
  case Kind::Send:
  case Kind::Receive:
    if (phase++ == 1) {
      done = true;
      return;
    }
    {
      int64_t bytes = action.elements * typeSize(action.type);
      if (action.kind == Kind::Send)
        send(1 - here, from, bytes);
      else
        receive(1 - here, to, bytes);
    }
    return;
  default:
    __builtin_unreachable();
  }
}

void Communication::gather() {
  const int64_t count = members.size(), size = typeSize(action.type);
  if (phase == 1)
    for (int64_t i = 0; i < count; ++i)
      eachRow(i, [&](int64_t whole, int64_t piece, int64_t n) {
        if (parts[i] + piece * size != to + whole * size)
          std::memmove(to + whole * size, parts[i] + piece * size, size_t(n * size));
      });
  phase = 1;
  if (!nextPiece(action.outer * action.elements)) {
    done = true;
    return;
  }
  const int64_t bytes = (end - begin) * size;
  int64_t slots = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (i == here) {
      parts[i] = from + begin * size;
      continue;
    }
    send(i, from + begin * size, bytes);
    // With one row the part is contiguous in `to`.
    std::byte *part = action.outer == 1 ? to + (i * action.elements + begin) * size : slot(slots++);
    receive(i, part, bytes);
    parts[i] = part;
  }
}

void Communication::broadcast() {
  int64_t bytes = action.outer * action.elements * typeSize(action.type);
  if (phase++ == 1) {
    done = true;
    return;
  }
  if (here != 0)
    return receive(0, to, bytes);
  for (int64_t i = 1; i < int64_t(members.size()); ++i)
    send(i, from, bytes);
  if (to != from) // in place, others may still be reading
    std::memmove(to, from, size_t(bytes));
}

void Communication::reduceScatter() {
  const int64_t count = members.size(), size = typeSize(action.type);
  if (phase == 1)
    reduce(end - begin, to + begin * typeSize(action.toType));
  phase = 1;
  if (!nextPiece(action.outer * action.elements)) {
    done = true;
    return;
  }
  const int64_t bytes = (end - begin) * size;
  int64_t slots = 0;
  for (int64_t i = 0; i < count; ++i) {
    const std::byte *own = from + (i * action.elements + begin) * size;
    if (action.outer > 1 && count > 1) {
      std::byte *packed = slot(slots++);
      eachRow(i, [&](int64_t whole, int64_t piece, int64_t n) {
        std::memcpy(packed + piece * size, from + whole * size, size_t(n * size));
      });
      own = packed;
    }
    if (i == here) {
      parts[i] = own;
      continue;
    }
    send(i, own, bytes);
    std::byte *other = slot(slots++);
    receive(i, other, bytes);
    parts[i] = other;
  }
}

void Communication::allReduce() {
  const int64_t count = members.size();
  const int64_t size = typeSize(action.type), sumSize = typeSize(action.toType);
  auto share = [&] { return (end - begin + count - 1) / count; };
  auto first = [&](int64_t i) { return std::min(end, begin + i * share()); };
  auto length = [&](int64_t i) { return first(i + 1) - first(i); };
  if (phase == 1) { // The sum of this member's share goes to all.
    reduce(length(here), to + first(here) * sumSize);
    // What was sent from `from`, perhaps the same memory, is not read again.
    for (int64_t i = 0; i < count; ++i)
      if (i != here) {
        send(i, to + first(here) * sumSize, length(here) * sumSize);
        receive(i, to + first(i) * sumSize, length(i) * sumSize);
      }
    phase = 2;
    return;
  }
  phase = 1;
  if (!nextPiece(action.outer * action.elements, count)) {
    done = true;
    return;
  }
  int64_t slots = 0;
  for (int64_t i = 0; i < count; ++i) { // Member i gets share i of all.
    if (i == here) {
      parts[i] = from + first(here) * size;
      continue;
    }
    send(i, from + first(i) * size, length(i) * size);
    std::byte *other = slot(slots++);
    receive(i, other, length(here) * size);
    parts[i] = other;
  }
}

//===----------------------------------------------------------------------===//
// Arithmetic
//===----------------------------------------------------------------------===//

template <typename T> static T read(const std::byte *from, LlrtType type, int64_t i) {
  switch (type) {
  case LLRT_F32:
    return T(reinterpret_cast<const float *>(from)[i]);
  case LLRT_F64:
    return T(reinterpret_cast<const double *>(from)[i]);
  case LLRT_BF16:
    return T(floatFromBFloat16(reinterpret_cast<const uint16_t *>(from)[i]));
  case LLRT_I64:
    break;
  }
  __builtin_unreachable();
}

template <typename T> static void write(std::byte *to, LlrtType type, int64_t i, T value) {
  switch (type) {
  case LLRT_F32:
    reinterpret_cast<float *>(to)[i] = float(value);
    return;
  case LLRT_F64:
    reinterpret_cast<double *>(to)[i] = double(value);
    return;
  case LLRT_BF16:
    reinterpret_cast<uint16_t *>(to)[i] =
        std::is_same_v<T, float> ? bfloat16FromFloat(float(value)) : bfloat16FromDouble(value);
    return;
  case LLRT_I64:
    break;
  }
  __builtin_unreachable();
}

// T: the type of the sums.
template <typename T>
static void reduceAs(const std::vector<const std::byte *> &parts, LlrtType type, int64_t count,
                     Action::Reduction reduction, LlrtType toType, bool accumulate, std::byte *to) {
  constexpr int64_t Block = 1024;
  T sums[Block];
  alignas(8) std::byte rounded[Block * 8];
  for (int64_t begin = 0; begin < count; begin += Block) {
    int64_t n = std::min(Block, count - begin);
    for (int64_t i = 0; i < n; ++i)
      sums[i] = read<T>(parts[0], type, begin + i);
    for (size_t part = 1; part < parts.size(); ++part)
      for (int64_t i = 0; i < n; ++i) {
        T value = read<T>(parts[part], type, begin + i);
        sums[i] = reduction == Action::Reduction::Sum ? sums[i] + value
                  // A value that is not a number must not get lost.
                  : value > sums[i] || value != value ? value
                                                      : sums[i];
      }
    for (int64_t i = 0; i < n; ++i) {
      if (accumulate) { // to a sum that is rounded
        write(rounded, toType, i, sums[i]);
        sums[i] = read<T>(to, toType, begin + i) + read<T>(rounded, toType, i);
      }
      write(to, toType, begin + i, sums[i]);
    }
  }
}

void Communication::reduce(int64_t count, std::byte *to) const {
  bool wide = action.type == LLRT_F64 || action.toType == LLRT_F64;
  auto *as = wide ? reduceAs<double> : reduceAs<float>;
  as(parts, action.type, count, action.reduction, action.toType, action.accumulate, to);
}
