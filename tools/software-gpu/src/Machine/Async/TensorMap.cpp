//===- TensorMap.cpp - Tensor maps (CUtensorMap) and their boxes -----------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Machine/Async/TensorMap.h"

#include <cstring>

namespace sgpu {

namespace {

struct TypeFacts {
  const char *name;
  uint32_t bytes;
  bool isFloat;
};
constexpr TypeFacts facts[] = {
    {"uint8", 1, false},         {"uint16", 2, false},       {"uint32", 4, false},
    {"int32", 4, false},         {"uint64", 8, false},       {"int64", 8, false},
    {"float16", 2, true},        {"float32", 4, true},       {"float64", 8, true},
    {"bfloat16", 2, true},       {"float32_ftz", 4, true},   {"tfloat32", 4, true},
    {"tfloat32_ftz", 4, true},   {"16u4_align8b", 0, false}, {"16u4_align16b", 0, false},
    {"16u6_align16b", 0, false},
};

// The 128 bytes.
struct Encoded {
  uint64_t mark;
  uint64_t address;
  uint64_t stride[TensorMap::maxRank];
  uint32_t extentLess1[TensorMap::maxRank];
  uint16_t box[TensorMap::maxRank];
  uint8_t elementStride[TensorMap::maxRank];
  uint8_t type, rank, interleave, swizzle, l2Promotion, oobFill;
  uint8_t zero[27];
  uint32_t checksum;
};
static_assert(sizeof(Encoded) == TensorMap::encodedBytes);
constexpr uint64_t ourMark = 0x50414d5455504753; // "SGPUTMAP"

uint32_t checksumOf(Encoded e) {
  e.checksum = 0;
  uint8_t bytes[sizeof e];
  std::memcpy(bytes, &e, sizeof e);
  uint32_t sum = 2166136261u;
  for (uint8_t b : bytes)
    sum = (sum ^ b) * 16777619u;
  return sum;
}

std::string number(uint64_t n) { return std::to_string(n); }

} // namespace

uint32_t bytesOf(TensorMapType type) { return facts[static_cast<int>(type)].bytes; }
bool isFloat(TensorMapType type) { return facts[static_cast<int>(type)].isFloat; }
const char *nameOf(TensorMapType type) { return facts[static_cast<int>(type)].name; }

std::string TensorMap::check(int sm) const {
  if (sm < 90)
    return "tensor maps need sm_90, but the device is sm_" + number(sm);
  if (static_cast<size_t>(type) >= std::size(facts))
    return "data type " + number(static_cast<uint64_t>(type)) + " does not exist";
  uint32_t bytes = bytesOf(type);
  if (!bytes)
    return std::string("data type ") + nameOf(type) + " needs sm_100, but the device is sm_" +
           number(sm);
  if (rank < 1 || rank > maxRank)
    return "rank " + number(rank) + " is not 1 to 5";
  if (interleave > 2)
    return "interleave " + number(interleave) + " does not exist";
  if (interleave)
    return "interleave is not supported by the software GPU; use CU_TENSOR_MAP_INTERLEAVE_NONE";
  if (swizzle > 6)
    return "swizzle " + number(swizzle) + " does not exist";
  if (swizzle > 3)
    return "swizzle 128B_ATOM_* needs sm_100, but the device is sm_" + number(sm);
  if (l2Promotion > 3)
    return "l2 promotion " + number(l2Promotion) + " does not exist";
  if (oobFill > 1)
    return "out-of-bound fill " + number(oobFill) + " does not exist";
  if (oobFill && !isFloat(type))
    return std::string("NaN fill needs a floating-point type, but the type is ") + nameOf(type);
  if (!address || address % 16)
    return "global address is null or not a multiple of 16 bytes";
  for (uint32_t d = 0; d < rank; ++d) {
    std::string at = "[" + number(d) + "]";
    if (!extent[d] || extent[d] > (uint64_t(1) << 32))
      return "globalDim" + at + " = " + number(extent[d]) + " is not 1 to 2^32";
    if (!box[d] || box[d] > 256)
      return "boxDim" + at + " = " + number(box[d]) + " is not 1 to 256";
    if (d && (!elementStride[d] || elementStride[d] > 8))
      return "elementStrides" + at + " = " + number(elementStride[d]) + " is not 1 to 8";
    if (d && (stride[d] % 16 || stride[d] >> 40))
      return "globalStrides[" + number(d - 1) + "] = " + number(stride[d]) +
             " bytes is not a multiple of 16 below 2^40";
  }
  uint32_t inner = box[0] * bytes;
  if (inner % 16)
    return "boxDim[0] * " + number(bytes) + " bytes = " + number(inner) +
           " is not a multiple of 16";
  if (swizzle && inner > swizzleBytes())
    return "boxDim[0] * " + number(bytes) + " bytes = " + number(inner) +
           " is more than the swizzle's " + number(swizzleBytes());
  return {};
}

uint64_t TensorMap::boxBytes() const {
  uint64_t bytes = bytesOf(type);
  for (uint32_t d = 0; d < rank; ++d)
    bytes *= boxExtent(d);
  return bytes;
}

void TensorMap::encode(void *to) const {
  Encoded e;
  std::memset(&e, 0, sizeof e);
  e.mark = ourMark;
  e.address = address;
  for (uint32_t d = 0; d < rank; ++d) {
    e.stride[d] = d ? stride[d] : bytesOf(type);
    e.extentLess1[d] = static_cast<uint32_t>(extent[d] - 1);
    e.box[d] = static_cast<uint16_t>(box[d]);
    e.elementStride[d] = static_cast<uint8_t>(d ? elementStride[d] : 1);
  }
  e.type = static_cast<uint8_t>(type);
  e.rank = static_cast<uint8_t>(rank);
  e.interleave = static_cast<uint8_t>(interleave);
  e.swizzle = static_cast<uint8_t>(swizzle);
  e.l2Promotion = static_cast<uint8_t>(l2Promotion);
  e.oobFill = static_cast<uint8_t>(oobFill);
  e.checksum = checksumOf(e);
  std::memcpy(to, &e, sizeof e);
}

bool TensorMap::decode(const void *from, TensorMap &map) {
  Encoded e;
  std::memcpy(&e, from, sizeof e);
  if (e.mark != ourMark || e.checksum != checksumOf(e))
    return false;
  map = {};
  map.type = static_cast<TensorMapType>(e.type);
  map.rank = e.rank;
  map.address = e.address;
  for (uint32_t d = 0; d < e.rank; ++d) {
    map.stride[d] = d ? e.stride[d] : bytesOf(map.type);
    map.extent[d] = uint64_t(e.extentLess1[d]) + 1;
    map.box[d] = e.box[d];
    map.elementStride[d] = e.elementStride[d];
  }
  map.interleave = e.interleave, map.swizzle = e.swizzle;
  map.l2Promotion = e.l2Promotion, map.oobFill = e.oobFill;
  return true;
}

std::string TensorMap::replace(void *bytes, Field field, uint32_t ordinal, uint64_t value) {
  Encoded e;
  std::memcpy(&e, bytes, sizeof e);
  const auto *raw = static_cast<const uint8_t *>(bytes);
  bool blank = std::all_of(raw, raw + sizeof e, [](uint8_t b) { return !b; });
  if (!blank && (e.mark != ourMark || e.checksum != checksumOf(e)))
    return "the bytes are neither a tensor map nor all zero";
  bool hasOrdinal = field == Field::BoxDim || field == Field::GlobalDim ||
                    field == Field::GlobalStride || field == Field::ElementStride;
  if (hasOrdinal && ordinal >= maxRank - (field == Field::GlobalStride))
    return "dimension " + number(ordinal) + " does not exist";
  e.mark = ourMark;
  switch (field) {
  case Field::GlobalAddress:
    e.address = value;
    break;
  case Field::Rank:
    if (value >= maxRank)
      return "rank - 1 = " + number(value) + " is not 0 to 4";
    e.rank = static_cast<uint8_t>(value + 1);
    break;
  case Field::BoxDim:
    e.box[ordinal] = static_cast<uint16_t>(std::min<uint64_t>(value, 0xffff));
    break;
  case Field::GlobalDim:
    e.extentLess1[ordinal] = static_cast<uint32_t>(value - 1);
    break;
  case Field::GlobalStride:
    e.stride[ordinal + 1] = value;
    break;
  case Field::ElementStride:
    e.elementStride[ordinal] = static_cast<uint8_t>(std::min<uint64_t>(value, 0xff));
    break;
  case Field::ElementType: {
    // PTX ISA 9.0, 9.7.9.28: u8, u16, u32, s32, u64, s64, f16, f32, f32.ftz, f64, bf16, tf32, tf32.ftz.
    using T = TensorMapType;
    static constexpr T types[] = {T::U8,  T::U16,    T::U32, T::S32,  T::U64,  T::S64,    T::F16,
                                  T::F32, T::F32Ftz, T::F64, T::BF16, T::TF32, T::TF32Ftz};
    if (value >= std::size(types))
      return "element type " + number(value) + " does not exist on this chip";
    e.type = static_cast<uint8_t>(types[value]);
    break;
  }
  case Field::Interleave:
    e.interleave = static_cast<uint8_t>(std::min<uint64_t>(value, 0xff));
    break;
  case Field::Swizzle:
    e.swizzle = static_cast<uint8_t>(std::min<uint64_t>(value, 0xff));
    break;
  case Field::Fill:
    e.oobFill = static_cast<uint8_t>(std::min<uint64_t>(value, 0xff));
    break;
  }
  e.checksum = checksumOf(e);
  std::memcpy(bytes, &e, sizeof e);
  return {};
}

uint64_t TensorMap::fillBits() const {
  if (!oobFill)
    return 0;
  switch (type) {
  case TensorMapType::F16:
    return 0x7fff;
  case TensorMapType::BF16:
    return 0x7fff;
  case TensorMapType::F64:
    return 0x7fffffffffffffff;
  default:
    return 0x7fffffff;
  }
}

} // namespace sgpu
