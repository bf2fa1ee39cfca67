//===- SymbolsTest.cpp - Symbols of libcuda.so.1 against NVIDIA's stub ------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include <gtest/gtest.h>

#include <cstring>
#include <elf.h>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <string>

namespace {

/// Functions that a shared library defines: those of its table of dynamic symbols. Names with a
/// version have it behind an @.
std::set<std::string> functionsOf(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(file)), {});
  std::set<std::string> names;
  auto at = [&]<typename T>(uint64_t offset, T *) {
    T value{};
    if (offset + sizeof value <= bytes.size())
      std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
  };
  Elf64_Ehdr header = at(0, (Elf64_Ehdr *)nullptr);
  EXPECT_EQ(std::memcmp(header.e_ident, ELFMAG, SELFMAG), 0) << path;
  auto section = [&](unsigned i) {
    return at(header.e_shoff + uint64_t(i) * header.e_shentsize, (Elf64_Shdr *)nullptr);
  };
  bool versions = false;
  for (unsigned i = 0; i < header.e_shnum; ++i) {
    Elf64_Shdr s = section(i);
    versions |= s.sh_type == SHT_GNU_verdef;
    if (s.sh_type != SHT_DYNSYM)
      continue;
    uint64_t strings = section(s.sh_link).sh_offset;
    for (uint64_t o = 0; o < s.sh_size; o += sizeof(Elf64_Sym)) {
      Elf64_Sym symbol = at(s.sh_offset + o, (Elf64_Sym *)nullptr);
      if (symbol.st_shndx != SHN_UNDEF && ELF64_ST_TYPE(symbol.st_info) == STT_FUNC)
        names.insert(bytes.c_str() + strings + symbol.st_name);
    }
  }
  EXPECT_FALSE(versions) << path << " has versions of symbols; NVIDIA's has none";
  return names;
}

const std::set<std::string> &ours() {
  static const std::set<std::string> names = functionsOf(SGPU_LIBRARY_DIR "/libcuda.so.1");
  return names;
}

TEST(Symbols, AreThoseOfTheHeader) {
  std::set<std::string> declared;
#define CUDA_FUNCTION(name, parameters) declared.insert(#name);
#include "abi/cuda_functions.def"
  for (const std::string &name : declared)
    EXPECT_TRUE(ours().contains(name)) << name << " is declared and not exported";
  for (const std::string &name : ours())
    EXPECT_TRUE(declared.contains(name) || name.starts_with("sgpu_")) << name;
}

#ifdef SGPU_NVIDIA_STUB
TEST(Symbols, AreNvidias) {
  std::set<std::string> theirs = functionsOf(SGPU_NVIDIA_STUB);
  ASSERT_GT(theirs.size(), 500u);
  for (const std::string &name : ours())
    EXPECT_TRUE(theirs.contains(name) || name.starts_with("sgpu_"))
        << name << " is not a function of NVIDIA's library";
}

// What we lack is said, so that it is known.
TEST(Symbols, LackingOnes) {
  unsigned count = 0;
  std::string lacking;
  for (const std::string &name : functionsOf(SGPU_NVIDIA_STUB))
    if (!ours().contains(name) && !name.ends_with("_ptsz") && !name.ends_with("_ptds")) {
      lacking += " " + name;
      ++count;
    }
  std::printf("%u functions of NVIDIA's library are not there:%s\n", count, lacking.c_str());
}
#else
TEST(Symbols, AreNvidias) {
  GTEST_SKIP() << "NVIDIA's stub libcuda.so is not installed (/usr/local/cuda/lib64/stubs)";
}
#endif

#ifdef SGPU_NVIDIA_HEADER
// cuda.h gives functions the names of their newest symbols (cuMemAlloc is cuMemAlloc_v2): where we
// have any form of a function we have that one.
TEST(Symbols, AreWhatProgramsAreLinkedWith) {
  std::ifstream header(SGPU_NVIDIA_HEADER "/cuda.h");
  ASSERT_TRUE(header.good());
  std::map<std::string, std::string> renamed;
  std::regex macro(R"(\s*#define\s+(cu[A-Z]\w*)\s+(?:__CUDA_API_PT[DS][SZ]\()?(cu[A-Z]\w*)\)?\s*)");
  std::smatch match;
  for (std::string line; std::getline(header, line);)
    if (std::regex_match(line, match, macro))
      renamed[match[1]] = match[2];
  EXPECT_GT(renamed.size(), 100u);
  EXPECT_EQ(renamed["cuMemcpyHtoD"], "cuMemcpyHtoD_v2");
  for (const std::string &name : ours()) {
    size_t v = name.rfind("_v");
    std::string base = v != name.npos && v + 3 == name.size() ? name.substr(0, v) : name;
    if (auto it = renamed.find(base); it != renamed.end())
      EXPECT_TRUE(ours().contains(it->second)) << it->second;
  }
}
#endif

} // namespace
