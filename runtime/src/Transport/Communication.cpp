//===- Communication.cpp - Collectives and transfers ----------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "src/Transport/Communication.h"

#include "src/Data/SafeTensors.h"

#include <algorithm>
#include <cstring>

using namespace llrt;
using Kind = Action::Kind;

Communication::Communication(Transport &transport, const Action &action,
                             const std::vector<int64_t> &members, int64_t rank, const void *from,
                             void *to)
    : transport(transport), action(action), members(members),
      here(std::find(members.begin(), members.end(), rank) - members.begin()),
      from(static_cast<const std::byte *>(from)), to(static_cast<std::byte *>(to)) {
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

std::byte *Communication::scratch(int64_t bytes) { return memory.emplace_back(bytes).data(); }

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

// Copies [outer][bytes], whose rows are `fromStride` and `toStride` bytes
// apart.
static void copyRows(std::byte *to, int64_t toStride, const std::byte *from, int64_t fromStride,
                     int64_t outer, int64_t bytes) {
  for (int64_t row = 0; row < outer; ++row)
    std::memmove(to + row * toStride, from + row * fromStride, size_t(bytes));
}

void Communication::gather() {
  int64_t count = members.size(), row = action.elements * typeSize(action.type);
  if (phase++ == 0) {
    parts.resize(count);
    for (int64_t i = 0; i < count; ++i) {
      if (i == here)
        continue;
      send(i, from, action.outer * row);
      // With one row the part is contiguous in `to`.
      std::byte *part = action.outer == 1 ? to + i * row : scratch(action.outer * row);
      receive(i, part, action.outer * row);
      parts[i] = part;
    }
    parts[here] = from;
    return;
  }
  for (int64_t i = 0; i < count; ++i)
    if (parts[i] != to + i * row)
      copyRows(to + i * row, count * row, parts[i], row, action.outer, row);
  done = true;
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
  int64_t count = members.size(), row = action.elements * typeSize(action.type);
  int64_t part = action.outer * row;
  if (phase++ == 0) {
    parts.resize(count);
    for (int64_t i = 0; i < count; ++i) {
      const std::byte *own = from + i * row;
      if (action.outer > 1 && count > 1) {
        std::byte *packed = scratch(part);
        copyRows(packed, row, own, count * row, action.outer, row);
        own = packed;
      }
      if (i == here) {
        parts[i] = own;
        continue;
      }
      send(i, own, part);
      std::byte *other = scratch(part);
      receive(i, other, part);
      parts[i] = other;
    }
    return;
  }
  int64_t elements = action.outer * action.elements;
  std::byte *sum = scratch(elements * typeSize(action.toType));
  reduce(parts, elements, sum);
  store(sum, to, elements);
  done = true;
}

void Communication::allReduce() {
  int64_t count = members.size(), elements = action.outer * action.elements;
  int64_t size = typeSize(action.type), sumSize = typeSize(action.toType);
  int64_t chunk = (elements + count - 1) / count;
  auto begin = [&](int64_t i) { return std::min(elements, i * chunk); };
  auto length = [&](int64_t i) { return begin(i + 1) - begin(i); };
  switch (phase++) {
  case 0: // Member i gets chunk i of all.
    parts.resize(count);
    for (int64_t i = 0; i < count; ++i) {
      if (i == here) {
        parts[i] = from + begin(here) * size;
        continue;
      }
      send(i, from + begin(i) * size, length(i) * size);
      std::byte *other = scratch(length(here) * size);
      receive(i, other, length(here) * size);
      parts[i] = other;
    }
    return;
  case 1: { // Its sum goes to all.
    std::byte *sum = scratch(length(here) * sumSize);
    reduce(parts, length(here), sum);
    parts[here] = sum;
    for (int64_t i = 0; i < count; ++i) {
      if (i == here)
        continue;
      send(i, sum, length(here) * sumSize);
      std::byte *other = scratch(length(i) * sumSize);
      receive(i, other, length(i) * sumSize);
      parts[i] = other;
    }
    return;
  }
  default: // What was sent from `from`, perhaps the same memory, is not read
           // again.
    for (int64_t i = 0; i < count; ++i)
      store(parts[i], to + begin(i) * sumSize, length(i));
    done = true;
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
                     Action::Reduction reduction, LlrtType toType, std::byte *to) {
  constexpr int64_t Block = 1024;
  T sums[Block];
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
    for (int64_t i = 0; i < n; ++i)
      write(to, toType, begin + i, sums[i]);
  }
}

void Communication::reduce(const std::vector<const std::byte *> &parts, int64_t count,
                           std::byte *to) const {
  bool wide = action.type == LLRT_F64 || action.toType == LLRT_F64;
  auto *as = wide ? reduceAs<double> : reduceAs<float>;
  as(parts, action.type, count, action.reduction, action.toType, to);
}

void Communication::store(const std::byte *from, std::byte *to, int64_t count) const {
  LlrtType type = action.toType;
  if (!action.accumulate) {
    // No elements have no address.
    std::copy_n(from, size_t(count * typeSize(type)), to);
    return;
  }
  for (int64_t i = 0; i < count; ++i)
    if (type == LLRT_F64)
      write(to, type, i, read<double>(to, type, i) + read<double>(from, type, i));
    else
      write(to, type, i, read<float>(to, type, i) + read<float>(from, type, i));
}
