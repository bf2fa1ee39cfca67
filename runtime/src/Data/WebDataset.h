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

#include "src/Data/Tar.h"

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
  // Why it cannot be used: a field that appears twice, a link that leads
  // nowhere, a broken sparse map. Empty: nothing is wrong so far.
  std::string fault;
};

// A place between two samples: the next one is sample `sample` of shard
// `shard`.
struct DataPosition {
  int64_t shard = 0, sample = 0;
  auto operator<=>(const DataPosition &) const = default;
};

// The shards that `--data` names: a folder (its *.tar files, sorted; hidden
// ones are not among them), or a list of files separated by commas, in which
// `{000..012}` stands for each number of the range, with the zeros of its first
// bound, and `{a,b}` for each word. Throws Error if there is none, if one is no
// regular file, or if a folder holds a packed one.
std::vector<std::string> expandShards(const std::string &data);

// Reads samples one after the other. Links are followed within their archive;
// files without a text beside them that links lead to belong to the samples of
// the links and are none of their own.
// Members that are neither files nor links, and those named `__x__` or with a
// name that starts with a dot, are passed over. Throws Error naming shard and
// byte on a broken archive; what is wrong with one sample is its `fault`.
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

  // The first member, with its shard, that was passed over as its name has no
  // dot and so no field; empty if there was none.
  const std::string &firstWithoutField() const { return nameWithoutField; }

private:
  struct Member {
    TarMember file;
    std::string key, field;
  };
  bool advance(Sample *sample);
  std::optional<Member> nextMember();
  void fillPending();

  std::vector<std::string> shards;
  DataPosition place;
  std::optional<TarFile> tar;  // shard place.shard, if it is open
  std::vector<Member> pending; // the members of the next sample
  std::optional<Member> ahead; // the first one behind them
  std::string nameWithoutField;
};

} // namespace llrt

#endif // LLRT_DATA_WEBDATASET_H
