//===- Tar.h - Members of a tar file ----------------------------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Reads v7, ustar, GNU and pax archives: long names, sizes beyond 8 GiB, sparse
// files (GNU's old form and pax forms 0.0, 0.1, 1.0), links. Sources: POSIX pax
// (interchange format); the GNU tar manual, "Storing Sparse Files"; Python's
// tarfile.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_DATA_TAR_H
#define LLRT_DATA_TAR_H

#include "src/Data/Files.h"

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace llrt {

struct TarMember {
  enum class Kind { File, HardLink, SymbolicLink, Other };
  // Where a part of a file's bytes is; between parts are zeros.
  struct Part {
    uint64_t offset;        // in the file
    std::string_view bytes; // in the archive
  };

  std::string name;
  Kind kind = Kind::Other;
  std::string link;  // what a link names, as it stands in the archive
  size_t header = 0; // byte of the archive where its header begins
  uint64_t size = 0; // bytes of the file
  std::vector<Part> parts;
  std::string fault; // why the bytes cannot be had; empty: they can
};

class TarFile {
public:
  // Throws Error if `path` cannot be read or is compressed.
  explicit TarFile(const std::string &path);

  const std::string &path() const { return file.path(); }

  // The next member; nothing after the last one. An end mark ends the archive,
  // unless another archive follows (`cat a.tar b.tar`). Throws Error naming the
  // byte if a header is broken or the file cut short.
  std::optional<TarMember> next();

  // The bytes of a file. A link is followed within the archive: a symbolic one
  // from its own folder, through links to folders too, to the last member of
  // that name; a hard one to the nearest member before it, else the first one
  // behind. Throws Error naming the member if a link leads nowhere, out of the
  // archive or in a circle, or if a sparse map is broken.
  std::string read(const TarMember &member);

  // Whether a link of the archive leads to the file whose header begins at byte
  // `header`.
  bool isLinked(size_t header);

private:
  [[noreturn]] void fault(const std::string &what) const;
  void makeIndex();
  const TarMember &target(const TarMember &link);
  const TarMember *find(const std::string &path, const TarMember *before);

  MappedFile file;
  size_t offset = 0;                               // of the next header
  std::map<std::string, std::string> globalFields; // of pax headers `g`
  // All members by normalized name, in order; made when a link asks for it.
  std::optional<std::map<std::string, std::vector<TarMember>>> index;
  std::optional<std::set<size_t>> linked; // headers of what links lead to
};

} // namespace llrt

#endif // LLRT_DATA_TAR_H
