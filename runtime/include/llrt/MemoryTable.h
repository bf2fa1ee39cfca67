//===- MemoryTable.h - The memory of ranks, as a table ----------*- C++ -*-===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Which arenas there are, in which order they come, what each is called in messages, and
// how they are printed: for the compiler and for executables. Nothing but the standard library.
//
//===----------------------------------------------------------------------===//
#ifndef LLRT_MEMORYTABLE_H
#define LLRT_MEMORYTABLE_H

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace llrt {

/// An arena, and the part of the memory that it belongs to.
struct ArenaKind {
  std::string_view name, part;
};

/// All arenas of a rank, in their order everywhere, and what libraries of a device have beside them.
inline constexpr std::array<ArenaKind, 16> arenaKinds = {{
    {"parameters", "weights"},        // or a rank's shards of them
    {"whole_weights", "weights"},     // gathered blocks
    {"weight_shard", "weights"},      // updated, before they are gathered
    {"masters", "masters"},           //
    {"gradients", "gradients"},       //
    {"whole_gradients", "gradients"}, // of blocks, before they are reduced
    {"gradient_shard", "gradients"},  //
    {"moment1", "moments"},           //
    {"moment2", "moments"},           //
    {"activations", "activations"},   // what one graph leaves for another
    {"workspace", "workspace"},       // what lives within a graph or a block
    {"collectives", "workspace"},     // what those beside compute need
    {"inputs", "workspace"},          //
    {"statistics", "workspace"},      //
    {"cuBLASLt", "cuBLASLt"},         // exactly
    {"NCCL", "NCCL at most"},         // an estimate from above
}};

/// What products and communicators have on a GPU, beside the arenas.
inline constexpr std::string_view productMemory = "cuBLASLt", communicatorMemory = "NCCL";

/// The number of an arena in that order; what is none comes last.
inline size_t arenaNumber(std::string_view name) {
  size_t number = 0;
  while (number < arenaKinds.size() && arenaKinds[number].name != name)
    ++number;
  return number;
}

/// Names and bytes of the arenas of a rank.
using ArenaSizes = std::vector<std::pair<std::string, int64_t>>;

inline int64_t totalBytes(const ArenaSizes &arenas) {
  int64_t total = 0;
  for (const auto &[name, bytes] : arenas)
    total += bytes;
  return total;
}

/// `103.746`: bytes in GB, which are 10^9 bytes.
inline std::string gigabytes(int64_t bytes, int decimals = 3) {
  char text[48];
  std::snprintf(text, sizeof(text), "%.*f", decimals, double(bytes) * 1e-9);
  return text;
}

/// `weights 24.008, masters 5.335, ...`: the parts of a rank's memory in GB; of libraries those that
/// there are.
inline std::string memoryParts(const ArenaSizes &arenas) {
  std::string text;
  std::string_view last;
  for (const ArenaKind &kind : arenaKinds) {
    if (kind.part == last)
      continue;
    last = kind.part;
    int64_t bytes = 0;
    for (const auto &[name, size] : arenas)
      if (size_t number = arenaNumber(name);
          number < arenaKinds.size() && arenaKinds[number].part == kind.part)
        bytes += size;
    const bool isLibrary = kind.name == productMemory || kind.name == communicatorMemory;
    if (bytes > 0 || !isLibrary)
      text += (text.empty() ? "" : ", ") + std::string(kind.part) + " " + gigabytes(bytes);
  }
  return text;
}

/// `stage 2`, `stages 0-3`, `stages 0, 2-3`.
inline std::string stagesText(const std::vector<size_t> &stages) {
  std::string text = stages.size() > 1 ? "stages" : "stage";
  for (size_t begin = 0, end; begin < stages.size(); begin = end) {
    for (end = begin + 1; end < stages.size() && stages[end] == stages[end - 1] + 1; ++end)
      ;
    text += (begin ? ", " : " ") + std::to_string(stages[begin]);
    if (end - begin > 1)
      text += "-" + std::to_string(stages[end - 1]);
  }
  return text;
}

/// A line for each stage, equal ones together; a column in GB for each arena that takes so
/// much that it shows, then their sum, in GB and in bytes.
inline std::string memoryTable(const std::vector<ArenaSizes> &stages) {
  struct Row {
    std::vector<size_t> stages;
    std::vector<int64_t> bytes; // by the number of the arena
    int64_t total;
  };
  std::vector<Row> rows;
  std::vector<int64_t> most(arenaKinds.size() + 1, 0);
  int64_t largest = 0;
  for (size_t stage = 0; stage < stages.size(); ++stage) {
    std::vector<int64_t> bytes(arenaKinds.size() + 1, 0);
    for (const auto &[name, size] : stages[stage])
      bytes[arenaNumber(name)] += size;
    for (size_t number = 0; number < bytes.size(); ++number)
      most[number] = std::max(most[number], bytes[number]);
    int64_t total = totalBytes(stages[stage]);
    largest = std::max(largest, total);
    auto row = std::find_if(rows.begin(), rows.end(),
                            [&](const Row &other) { return other.bytes == bytes; });
    if (row == rows.end())
      row = rows.insert(row, {{}, std::move(bytes), total});
    row->stages.push_back(stage);
  }
  // Three digits behind the point, six for what is below a GB.
  const int decimals = largest < 1'000'000'000 ? 6 : 3;
  const int64_t shows = decimals == 6 ? 500 : 500'000;
  std::vector<std::string> lines(rows.size() + 1);
  auto addColumn = [&](const std::string &head, auto textOf, bool left = false) {
    std::vector<std::string> cells = {head};
    size_t width = head.size();
    for (const Row &row : rows) {
      cells.push_back(textOf(row));
      width = std::max(width, cells.back().size());
    }
    for (size_t line = 0; line < lines.size(); ++line) {
      std::string blanks(width - cells[line].size(), ' ');
      lines[line] += "  " + (left ? cells[line] + blanks : blanks + cells[line]);
    }
  };
  addColumn(
      "", [&](const Row &row) { return stages.size() > 1 ? stagesText(row.stages) : "each rank"; },
      true);
  for (size_t number = 0; number < most.size(); ++number)
    if (most[number] >= shows)
      addColumn(std::string(number < arenaKinds.size() ? arenaKinds[number].name : "others"),
                [&](const Row &row) { return gigabytes(row.bytes[number], decimals); });
  addColumn("total", [&](const Row &row) { return gigabytes(row.total, decimals); });
  addColumn("bytes", [&](const Row &row) { return std::to_string(row.total); });
  std::string text;
  for (const std::string &line : lines)
    text += line + "\n";
  return text;
}

/// The tables of the programs `step` and `forward`. `title`: what is behind that of the first.
inline std::string memoryTables(const std::vector<ArenaSizes> &step,
                                const std::vector<ArenaSizes> &forward,
                                const std::string &title = "") {
  return "memory of a rank, GB (10^9 bytes)" + title + "\n" + memoryTable(step) +
         "memory of a rank that evaluates or generates\n" + memoryTable(forward);
}

} // namespace llrt

#endif // LLRT_MEMORYTABLE_H
