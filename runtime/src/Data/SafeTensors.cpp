//===- SafeTensors.cpp - Read and write safetensors files ----------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "src/Data/SafeTensors.h"

#include "src/Data/Error.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <limits>
#include <optional>

namespace llrt {

static_assert(std::endian::native == std::endian::little,
              "the elements are used as they lie in the file");

namespace {

using nlohmann::json;
using Views = std::map<std::string, TensorView, std::less<>>;

constexpr uint64_t maxHeaderBytes = 100'000'000; // of the reference reader
constexpr char metadataKey[] = "__metadata__";

// In the order of DType.
struct DTypeInfo {
  const char *name;
  int bits;
};
constexpr DTypeInfo dtypes[] = {
    {"BOOL", 8},        {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
    {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
    {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
    {"I32", 32},        {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},
    {"I64", 64},        {"U64", 64}};
static_assert(std::size(dtypes) == size_t(DType::U64) + 1);

// Bytes of a tensor; nothing if they do not fit 63 bits or end within a byte.
std::optional<size_t> byteCount(DType type, const std::vector<int64_t> &shape) {
  int64_t bits = dtypeBits(type);
  for (int64_t size : shape)
    if (__builtin_mul_overflow(bits, size, &bits))
      return std::nullopt;
  if (bits % 8 != 0)
    return std::nullopt;
  return size_t(bits) / 8;
}

// The unsigned integers of a JSON list.
std::vector<int64_t> readIntegers(const json &list, const std::string &where) {
  std::vector<int64_t> values;
  auto good = [](const json &item) {
    return item.is_number_unsigned() &&
           item.get<uint64_t>() <= uint64_t(std::numeric_limits<int64_t>::max());
  };
  if (!list.is_array() || !std::all_of(list.begin(), list.end(), good))
    fail(where, ": expected a list of integers of at least 0, got ",
         list.dump(-1, ' ', false, json::error_handler_t::replace));
  for (const json &item : list)
    values.push_back(item.get<int64_t>());
  return values;
}

// One entry of a header; `buffer` is what comes after the header. Sets `begin`
// to where the tensor starts in it.
TensorView readEntry(const json &entry, std::span<const std::byte> buffer, const std::string &where,
                     size_t &begin) {
  if (!entry.is_object())
    fail(where, ": expected an object, got ", entry.type_name());
  for (const auto &[key, value] : entry.items())
    if (key != "dtype" && key != "shape" && key != "data_offsets")
      fail(where, ": expected the fields dtype, shape, data_offsets, got '", key, "'");
  for (const char *key : {"dtype", "shape", "data_offsets"})
    if (!entry.contains(key))
      fail(where, ": field '", key, "': missing");

  TensorView view;
  std::string name = entry["dtype"].is_string() ? entry["dtype"].get<std::string>() : "";
  const DTypeInfo *info = std::find_if(std::begin(dtypes), std::end(dtypes),
                                       [&](const DTypeInfo &type) { return name == type.name; });
  if (info == std::end(dtypes))
    fail(where, ": field 'dtype': expected a type of the format such as F32, got ",
         entry["dtype"].dump());
  view.dtype = DType(info - std::begin(dtypes));
  view.shape = readIntegers(entry["shape"], where + ": field 'shape'");

  std::string offsetsWhere = where + ": field 'data_offsets'";
  std::vector<int64_t> offsets = readIntegers(entry["data_offsets"], offsetsWhere);
  if (offsets.size() != 2 || offsets[0] > offsets[1] || uint64_t(offsets[1]) > buffer.size())
    fail(offsetsWhere, ": expected [begin, end) within the ", buffer.size(),
         " bytes after the header, got ", shapeText(offsets));
  std::optional<size_t> bytes = byteCount(view.dtype, view.shape);
  view.bytes = size_t(offsets[1] - offsets[0]);
  if (!bytes)
    fail(where, ": field 'shape': expected a whole number of bytes below 2^60, got ", info->name,
         " ", shapeText(view.shape));
  if (*bytes != view.bytes)
    fail(offsetsWhere, ": expected ", *bytes, " bytes for ", info->name, " ", shapeText(view.shape),
         ", got ", view.bytes);
  begin = size_t(offsets[0]);
  view.data = buffer.data() + begin;
  return view;
}

// Calls convert(element as stored in T) for every element of `view`.
template <typename T, typename Out, typename Convert>
void convertAll(const TensorView &view, Out *out, Convert convert) {
  for (int64_t i = 0, count = view.elements(); i < count; ++i) {
    T value;
    std::memcpy(&value, view.data + size_t(i) * sizeof(T), sizeof(T));
    out[i] = convert(value);
  }
}

template <typename Out, typename FromFloat, typename FromDouble>
void convertFloats(const TensorView &view, Out *out, const std::string &where, FromFloat fromFloat,
                   FromDouble fromDouble) {
  switch (view.dtype) {
  case DType::F16:
    return convertAll<uint16_t>(view, out, [&](uint16_t x) { return fromFloat(floatFromHalf(x)); });
  case DType::BF16:
    return convertAll<uint16_t>(view, out,
                                [&](uint16_t x) { return fromFloat(floatFromBFloat16(x)); });
  case DType::F32:
    return convertAll<float>(view, out, fromFloat);
  case DType::F64:
    return convertAll<double>(view, out, fromDouble);
  default:
    fail(where, ": field 'dtype': expected F16, BF16, F32 or F64, got ", dtypeName(view.dtype));
  }
}

} // namespace

const char *dtypeName(DType type) { return dtypes[size_t(type)].name; }
int dtypeBits(DType type) { return dtypes[size_t(type)].bits; }

std::string shapeText(const std::vector<int64_t> &shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i)
    text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

int64_t TensorView::elements() const { return int64_t(bytes * 8) / dtypeBits(dtype); }

SafeTensors::SafeTensors(const std::string &path) : openedPath(path) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    std::string index = fs::path(path) / "model.safetensors.index.json";
    std::string single = fs::path(path) / "model.safetensors";
    if (fs::exists(index, ignored))
      openIndex(index);
    else if (fs::exists(single, ignored))
      views = openFile(single);
    else
      fail(path,
           ": expected model.safetensors.index.json or model.safetensors "
           "in this folder",
           fs::exists(fs::path(path) / "adapter_model.safetensors", ignored)
               ? ", got an adapter; join it with its model first (PEFT: "
                 "merge_and_unload)"
               : "");
  } else if (path.ends_with(".json")) {
    openIndex(path);
  } else {
    views = openFile(path);
  }
}

Views SafeTensors::openFile(const std::string &path) {
  const MappedFile &file = files.emplace_back(path);
  std::span<const std::byte> bytes = file.bytes();
  uint64_t headerBytes;
  if (bytes.size() < sizeof(headerBytes))
    fail(path, ": expected a safetensors file of at least 8 bytes, got ", bytes.size());
  std::memcpy(&headerBytes, bytes.data(), sizeof(headerBytes));
  uint64_t room = std::min(maxHeaderBytes, bytes.size() - sizeof(headerBytes));
  if (headerBytes > room)
    fail(path, ": header length: expected at most ", room, ", got ", headerBytes,
         bytes.size() - sizeof(headerBytes) < headerBytes
             ? " (the file is cut short, or no safetensors file)"
             : "");
  std::string_view header = file.text().substr(sizeof(headerBytes), headerBytes);
  if (!header.starts_with('{'))
    fail(path, ": header: expected '{' as its first character");
  json entries = parseJson(header, path + ": header");
  std::span<const std::byte> buffer = bytes.subspan(sizeof(headerBytes) + headerBytes);

  Views result;
  struct Extent {
    size_t begin, end;
    const std::string *name;
    bool operator<(const Extent &other) const {
      return std::tie(begin, end) < std::tie(other.begin, other.end);
    }
  };
  std::vector<Extent> extents;
  for (const auto &[name, entry] : entries.items()) {
    if (name == metadataKey) {
      if (!entry.is_object())
        fail(path, ": ", metadataKey, ": expected an object of strings, got ", entry.type_name());
      for (const auto &[key, text] : entry.items()) {
        if (!text.is_string())
          fail(path, ": ", metadataKey, ": field '", key, "': expected a string, got ",
               text.type_name());
        texts.emplace(key, text.get<std::string>());
      }
      continue;
    }
    size_t begin = 0;
    TensorView view = readEntry(entry, buffer, path + ": tensor '" + name + "'", begin);
    auto place = result.emplace(name, std::move(view)).first;
    extents.push_back({begin, begin + place->second.bytes, &place->first});
  }
  std::sort(extents.begin(), extents.end());
  size_t covered = 0;
  for (const Extent &extent : extents) {
    if (extent.begin != covered)
      fail(path, ": tensor '", *extent.name, "': field 'data_offsets': expected to begin at ",
           covered, ", where the tensor before it ends, got ", extent.begin);
    covered = extent.end;
  }
  if (covered != buffer.size())
    fail(path, ": expected ", covered,
         " bytes after the header, as its tensors "
         "need, got ",
         buffer.size());
  return result;
}

void SafeTensors::openIndex(const std::string &indexPath) {
  namespace fs = std::filesystem;
  json index = parseJson(MappedFile(indexPath).text(), indexPath);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object())
    fail(indexPath, ": field 'weight_map': expected an object of tensor names and "
                    "shard files");
  std::map<std::string, Views> shards;
  for (const auto &[name, shard] : index["weight_map"].items()) {
    std::string where = indexPath + ": field 'weight_map': tensor '" + name + "'";
    std::string file = shard.is_string() ? shard.get<std::string>() : "";
    if (file.empty() || fs::path(file).filename() != file || file == "..")
      fail(where, ": expected the name of a file in the same folder, got ", shard.dump());
    if (!shards.contains(file))
      shards.emplace(file, openFile(fs::path(indexPath).parent_path() / file));
    auto found = shards.at(file).find(name);
    if (found == shards.at(file).end())
      fail(where, ": ", file, " holds no such tensor");
    views.insert(*found);
  }
}

const TensorView *SafeTensors::find(std::string_view name) const {
  auto found = views.find(name);
  return found == views.end() ? nullptr : &found->second;
}

const TensorView &SafeTensors::at(std::string_view name) const {
  if (const TensorView *view = find(name))
    return *view;
  fail(openedPath, ": tensor '", name, "': missing");
}

void toFloat(const TensorView &view, float *out, const std::string &where) {
  convertFloats(view, out, where, [](float x) { return x; }, [](double x) { return float(x); });
}

void toDouble(const TensorView &view, double *out, const std::string &where) {
  convertFloats(view, out, where, [](float x) { return double(x); }, [](double x) { return x; });
}

void toBFloat16(const TensorView &view, uint16_t *out, const std::string &where) {
  convertFloats(view, out, where, bfloat16FromFloat, bfloat16FromDouble);
}

std::vector<int64_t> toInt64(const TensorView &view, const std::string &where) {
  std::vector<int64_t> values(size_t(view.elements()));
  auto fill = [&](auto zero) {
    convertAll<decltype(zero)>(view, values.data(), [](auto x) { return int64_t(x); });
  };
  switch (view.dtype) {
  case DType::BOOL: // a byte, 0 or 1
  case DType::U8:
    fill(uint8_t());
    break;
  case DType::I8:
    fill(int8_t());
    break;
  case DType::I16:
    fill(int16_t());
    break;
  case DType::U16:
    fill(uint16_t());
    break;
  case DType::I32:
    fill(int32_t());
    break;
  case DType::U32:
    fill(uint32_t());
    break;
  case DType::I64:
  case DType::U64: // above 2^63: negative, in no range that anyone asks for
    fill(int64_t());
    break;
  default:
    fail(where, ": field 'dtype': expected integers or BOOL, got ", dtypeName(view.dtype));
  }
  return values;
}

uint16_t bfloat16FromFloat(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value)) // keep it a NaN whatever its low bits are
    return uint16_t(bits >> 16 | 0x40);
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// The way to f32 is rounded to odd, so that the second rounding sees on which
// side of a tie the value lies.
uint16_t bfloat16FromDouble(double value) {
  float near = float(value);
  uint32_t bits = std::bit_cast<uint32_t>(near);
  if (!std::isnan(value) && double(near) != value) {
    bits -= std::fabs(double(near)) > std::fabs(value); // towards zero
    bits |= 1;
  }
  return bfloat16FromFloat(std::bit_cast<float>(bits));
}

float floatFromBFloat16(uint16_t bits) { return std::bit_cast<float>(uint32_t(bits) << 16); }

float floatFromHalf(uint16_t bits) {
  int exponent = bits >> 10 & 31;
  int fraction = bits & 1023;
  float size;
  if (exponent == 31)
    size =
        fraction ? std::numeric_limits<float>::quiet_NaN() : std::numeric_limits<float>::infinity();
  else if (exponent == 0)
    size = std::ldexp(float(fraction), -24);
  else
    size = std::ldexp(float(1024 + fraction), exponent - 25);
  return bits >> 15 ? -size : size;
}

FileChecksums writeSafeTensors(const std::string &path, const std::vector<TensorToWrite> &tensors,
                               std::map<std::string, std::string> metadata) {
  std::vector<const TensorToWrite *> order;
  for (const TensorToWrite &tensor : tensors)
    order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const auto *a, const auto *b) {
    int aBits = dtypeBits(a->dtype), bBits = dtypeBits(b->dtype);
    return aBits != bBits ? aBits > bBits : a->name < b->name;
  });

  metadata.emplace("format", "pt");
  json header = {{metadataKey, metadata}};
  size_t end = 0;
  std::vector<size_t> sizes;
  for (const TensorToWrite *tensor : order) {
    std::optional<size_t> bytes = byteCount(tensor->dtype, tensor->shape);
    if (!bytes || header.contains(tensor->name))
      fail(path, ": tensor '", tensor->name,
           bytes ? "': the name is taken" : "': expected a whole number of bytes");
    header[tensor->name] = {{"dtype", dtypeName(tensor->dtype)},
                            {"shape", tensor->shape},
                            {"data_offsets", {end, end + *bytes}}};
    end += *bytes;
    sizes.push_back(*bytes);
  }
  std::string head = header.dump();
  head.resize((head.size() + 7) / 8 * 8, ' ');
  uint64_t headerBytes = head.size();
  if (headerBytes > maxHeaderBytes)
    fail(path, ": header length: expected at most ", maxHeaderBytes, ", got ", headerBytes);

  NewFile file(path);
  FileChecksums sums;
  head.insert(0, reinterpret_cast<const char *>(&headerBytes), sizeof(headerBytes));
  sums.header = checksumOf(std::as_bytes(std::span(head)));
  file.write(head.data(), head.size());
  std::vector<std::byte> filled;
  for (size_t i = 0; i < order.size(); ++i) {
    const void *data = order[i]->data;
    if (order[i]->fill) {
      filled.resize(sizes[i]);
      order[i]->fill(filled.data());
      data = filled.data();
    }
    sums.tensors[order[i]->name] = checksumOf({static_cast<const std::byte *>(data), sizes[i]});
    file.write(data, sizes[i]);
  }
  file.keep();
  return sums;
}

void writeModel(const std::string &folder, const std::vector<TensorToWrite> &tensors,
                const std::map<std::string, std::string> &metadata, int64_t shardBytes,
                Checksums &sums) {
  std::vector<std::vector<TensorToWrite>> shards(1);
  int64_t total = 0, size = 0; // of all, of the last shard
  for (const TensorToWrite &tensor : tensors) {
    int64_t bytes = int64_t(byteCount(tensor.dtype, tensor.shape).value_or(0));
    if (size > 0 && size + bytes > shardBytes) {
      shards.emplace_back();
      size = 0;
    }
    shards.back().push_back(tensor);
    size += bytes;
    total += bytes;
  }
  std::filesystem::path to = folder;
  if (shards.size() == 1)
    return sums.add("model.safetensors",
                    writeSafeTensors(to / "model.safetensors", shards[0], metadata));
  json map = json::object();
  for (size_t i = 0; i < shards.size(); ++i) {
    char name[64];
    std::snprintf(name, sizeof(name), "model-%05zu-of-%05zu.safetensors", i + 1, shards.size());
    sums.add(name, writeSafeTensors(to / name, shards[i], metadata));
    for (const TensorToWrite &tensor : shards[i])
      map[tensor.name] = name;
  }
  json index = {{"metadata", {{"total_size", total}}}, {"weight_map", map}};
  std::string text = index.dump(2) + "\n";
  writeFile(to / "model.safetensors.index.json", text);
  sums.add("model.safetensors.index.json", text);
}

} // namespace llrt
