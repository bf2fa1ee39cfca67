//===- RoundTripTest.cpp - Printed text parses to the same module -----------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Ptx/Draw.h"
#include "Ptx/Parser.h"
#include "Ptx/Printer.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

using namespace sgpu::ptx;

namespace {

void roundTrip(const std::string &text, const std::string &name) {
  std::vector<Diagnostic> diagnostics;
  std::optional<Module> module = parse(text, diagnostics);
  ASSERT_TRUE(module) << name << ": " << diagnostics[0].str();
  std::string printed = print(*module);
  std::optional<Module> again = parse(printed, diagnostics);
  ASSERT_TRUE(again) << name << ": " << diagnostics[0].str();
  EXPECT_TRUE(*again == *module) << name << "\n" << printed;
  EXPECT_EQ(print(*again), printed) << name;
}

// The text of other compilers, and our own cases.
TEST(RoundTrip, Files) {
  unsigned count = 0;
  for (auto &entry : std::filesystem::recursive_directory_iterator(SGPU_TEST_DIR "/ptx")) {
    if (entry.path().extension() != ".ptx")
      continue;
    std::ifstream in(entry.path());
    std::stringstream text;
    text << in.rdbuf();
    roundTrip(text.str(), entry.path().string());
    ++count;
  }
  EXPECT_GE(count, 14u);
}

// Drawn instructions of every form, each parsed by itself so that an error names it.
TEST(RoundTrip, DrawnInstructions) {
  Drawer draw(1);
  for (unsigned o = 1; o <= unsigned(Opcode::Xor); ++o) {
    ASSERT_FALSE(formsOf(Opcode(o)).empty()) << nameOf(Opcode(o)) << " has no form";
    for (const Form &form : formsOf(Opcode(o))) {
      if (form.minimumSm > 90)
        continue;
      unsigned drawn = 0;
      for (int i = 0; i < 12; ++i) {
        std::string line = draw.instruction(form);
        if (line.empty())
          continue;
        ++drawn;
        roundTrip(Drawer::prologue() + "\t" + line + "\n" + Drawer::epilogue(), line);
      }
      EXPECT_GT(drawn, 0u) << form.text;
    }
  }
}

// The vocabulary has no word that no instruction has.
TEST(Table, EveryModifierBelongsToAForm) {
  std::set<uint16_t> used;
  for (unsigned o = 1; o <= unsigned(Opcode::Xor); ++o)
    for (const Form &form : formsOf(Opcode(o)))
      for (const SuffixPattern &pattern : form.suffixes)
        used.insert(pattern.choices.begin(), pattern.choices.end());
  static constexpr Modifier all[] = {
#define MODIFIER(enumerator, text) Modifier::enumerator,
#include "Ptx/Modifiers.def"
  };
  for (Modifier modifier : all)
    EXPECT_TRUE(used.count(uint16_t(modifier))) << nameOf(modifier);
}

// Whole functions: the sum of all of the above must not matter either.
TEST(RoundTrip, DrawnModules) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    Drawer draw(seed);
    std::string text = Drawer::prologue();
    for (int i = 0; i < 300; ++i) {
      std::span<const Form> forms = formsOf(Opcode(1 + draw.below(unsigned(Opcode::Xor))));
      const Form &form = forms[draw.below(forms.size())];
      std::string line = form.minimumSm > 90 ? "" : draw.instruction(form);
      if (line.empty())
        continue;
      if (draw.below(4) == 0)
        text += ".loc 1 " + std::to_string(draw.below(50)) + " 1\n";
      if (draw.below(8) == 0)
        text += "L" + std::to_string(i) + ":\n";
      text += std::string(draw.below(4)   ? "\t"
                          : draw.below(2) ? "\t@%p1 "
                                          : "\t@!%p2 ") +
              line + "\n";
    }
    roundTrip(text + Drawer::epilogue(), "seed " + std::to_string(seed));
  }
}

// Every form of the table is one that ptxas knows: of some drawn instructions it accepts at least one.
TEST(Table, PtxasAcceptsEveryForm) {
  if (std::system("ptxas --version > /dev/null 2>&1") != 0)
    GTEST_SKIP() << "ptxas is not installed";
  Drawer draw(7);
  std::vector<const Form *> formOfLine;
  std::vector<std::string> lines;
  for (unsigned o = 1; o <= unsigned(Opcode::Xor); ++o)
    for (const Form &form : formsOf(Opcode(o))) {
      // Newer than the chips that the machine has, or textures and the like.
      if (form.minimumSm > 90)
        continue;
      for (int i = 0; i < 60; ++i)
        if (std::string line = draw.instruction(form); !line.empty()) {
          formOfLine.push_back(&form);
          lines.push_back(line);
        }
    }
  std::string text = Drawer::prologue();
  size_t first = size_t(std::count(text.begin(), text.end(), '\n')) + 1;
  for (const std::string &line : lines)
    text += "\t" + line + "\n";
  auto folder =
      std::filesystem::temp_directory_path() / ("software-gpu-ptxas-" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  std::string file = (folder / "drawn.ptx").string(), log = (folder / "log").string();
  std::ofstream(file) << text << Drawer::epilogue();
  [[maybe_unused]] int status =
      std::system(("ptxas -arch=sm_90a -o /dev/null " + file + " > " + log + " 2>&1").c_str());
  std::set<size_t> rejected;
  std::ifstream in(log);
  std::map<size_t, std::string> reasons;
  for (std::string line; std::getline(in, line);)
    if (size_t at = line.find(", line "); at != std::string::npos) {
      size_t number = size_t(std::atol(line.c_str() + at + 7));
      rejected.insert(number);
      reasons[number] = line.substr(line.find(';', at) + 1);
    }
  std::map<const Form *, unsigned> accepted;
  std::map<const Form *, std::string> reason;
  for (size_t i = 0; i < lines.size(); ++i) {
    accepted[formOfLine[i]] += !rejected.count(first + i);
    if (rejected.count(first + i))
      reason[formOfLine[i]] = lines[i] + reasons[first + i];
  }
  // If ptxas stopped at its first error, it has said nothing.
  EXPECT_GT(rejected.size(), 0u);
  for (auto &[form, count] : accepted)
    EXPECT_GT(count, 0u) << form->text << "\n  " << reason[form];
  std::filesystem::remove_all(folder);
}

} // namespace
