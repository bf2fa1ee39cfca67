//===- WebDataset.h - Samples from tar files --------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A WebDataset is a list of tar files, the shards, read in order. The key of a
// member is its path up to the first dot of the file name, its field the rest
// in lower case (`a/b.seg.png`: key `a/b`, field `seg.png`); consecutive
// members of one key are a sample. Source: webdataset/webdataset,
// tariterators.py.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_DATA_WEBDATASET_H
#define LLRT_DATA_WEBDATASET_H

#include "src/Data/Files.h"

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace llrt {

struct Sample {
  std::string shard, key;
  std::map<std::string, std::string> fields; // bytes of each
};

// A place between two samples: the next one is sample `sample` of shard
// `shard`.
struct DataPosition {
  int64_t shard = 0, sample = 0;
  auto operator<=>(const DataPosition &) const = default;
};

// The shards that `--data` names: a folder (its *.tar files, sorted), or a list
// of files separated by commas, in which `{000..012}` stands for each number of
// the range, with the zeros of its first bound, and `{a,b}` for each word.
// Throws Error if there is none, or if one is no regular file.
std::vector<std::string> expandShards(const std::string &data);

// Reads samples one after the other. Reads ustar files with GNU long names and
// pax paths; members that are no regular files, and those named `__x__` or with
// a name that starts with a dot or holds none, are passed over. Throws Error
// naming shard and member on a broken file, a repeated field, a sparse member.
class WebDataset {
public:
  explicit WebDataset(std::vector<std::string> shards);

  // The next sample; nothing after the last one of the last shard.
  std::optional<Sample> next();
  // Passes over the next sample without reading it; false if there is none.
  bool skip();

  // Where `next` goes on. `seek` to it, in a later run too, gives the same
  // samples.
  DataPosition position() const { return place; }
  // Goes to `position`; reads the headers before it in its shard. Throws Error
  // if there is no such place.
  void seek(DataPosition position);

private:
  struct Member {
    std::string name, key, field;
    std::string_view bytes;
  };
  bool advance(Sample *sample);
  std::optional<Member> nextMember();
  [[noreturn]] void fault(const std::string &what) const;

  std::vector<std::string> shards;
  DataPosition place;
  std::optional<MappedFile> file; // of shard place.shard, if it is open
  size_t offset = 0;              // in it, of the next header
  std::optional<Member> pending;  // the first member of the next sample
};

} // namespace llrt

#endif // LLRT_DATA_WEBDATASET_H
