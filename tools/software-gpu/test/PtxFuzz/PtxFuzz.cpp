//===- PtxFuzz.cpp - Texts that the PTX parser must survive -----------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// LLVMFuzzerTestOneInput is the property: no crash; what parses prints to text that parses to the same
// module; errors have a place. Works with libFuzzer (-fsanitize=fuzzer, SGPU_LIBFUZZER), and with the
// driver below:
//   software-gpu-fuzz-ptx <inputs> <seed> <folder or file>...
// It mutates pieces of the files: changed, dropped, repeated, swapped bytes, words and lines; words of
// the vocabulary; instructions drawn from the table. The input that runs is written to
// $SGPU_FUZZ_INPUT (if set) before each run, so that a crash leaves it behind.
//===----------------------------------------------------------------------===//
#include "Ptx/Draw.h"
#include "Ptx/Parser.h"
#include "Ptx/Printer.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

using namespace sgpu::ptx;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  std::string_view text(reinterpret_cast<const char *>(data), size);
  std::vector<Diagnostic> diagnostics;
  std::optional<Module> module = parse(text, diagnostics);
  auto fail = [](const char *what) {
    std::fprintf(stderr, "PtxFuzz: %s\n", what);
    std::abort();
  };
  if (module.has_value() != diagnostics.empty())
    fail("a module and errors, or neither");
  for (const Diagnostic &diagnostic : diagnostics)
    if (diagnostic.line == 0 || diagnostic.column == 0 || diagnostic.message.empty() ||
        diagnostic.str().empty())
      fail("an error without place or text");
  if (diagnostics.size() > 20)
    fail("more than twenty errors");
  if (!module)
    return 0;
  std::string printed = print(*module);
  std::optional<Module> again = parse(printed, diagnostics);
  if (!again)
    fail(("printed text does not parse: " + diagnostics[0].str()).c_str());
  if (*again != *module)
    fail("printed text parses to another module");
  return 0;
}

#ifndef SGPU_LIBFUZZER
namespace {

class Mutator {
public:
  Mutator(uint64_t seed, std::vector<std::string> files)
      : random(seed), draw(seed), files(std::move(files)) {}

  std::string next() {
    std::string text = start();
    for (size_t changes = 1 + below(6); changes--;)
      change(text);
    return text;
  }

private:
  size_t below(size_t limit) { return limit ? size_t(random() % limit) : 0; }

  /// A short text: the head of a file with some of its lines, or drawn instructions.
  std::string start() {
    if (below(3) == 0) {
      std::string text = Drawer::prologue();
      for (size_t lines = below(4); lines--;) {
        std::span<const Form> forms = formsOf(Opcode(1 + below(unsigned(Opcode::Xor))));
        text += "\t" + draw.instruction(forms[below(forms.size())]) + "\n";
      }
      return text + Drawer::epilogue();
    }
    const std::string &file = files[below(files.size())];
    if (file.size() < 1500)
      return file;
    size_t at = below(file.size() - 600), length = 100 + below(500);
    at = file.find('\n', at);
    if (at == std::string::npos)
      return file.substr(file.size() - 500);
    std::string middle = file.substr(at, length);
    if (below(2))
      return Drawer::prologue() + middle + Drawer::epilogue();
    return file.substr(0, 200 + below(600)) + middle + "\n}\n";
  }
  void change(std::string &text) {
    static const char *const pieces[] = {"{",
                                         "}",
                                         "(",
                                         ")",
                                         "[",
                                         "]",
                                         ";",
                                         ",",
                                         ":",
                                         "<",
                                         ">",
                                         "+",
                                         "-",
                                         "|",
                                         "!",
                                         "@",
                                         "%",
                                         "=",
                                         "_",
                                         "/*",
                                         "*/",
                                         "//",
                                         "\"",
                                         "\n",
                                         " ",
                                         "0",
                                         "-1",
                                         "0x",
                                         "0f3F800000",
                                         "0d3FF0000000000000",
                                         "1.5e308",
                                         "0xffffffffffffffff",
                                         "1<<63",
                                         "WARP_SZ",
                                         "generic(",
                                         ".reg .b32 %q<9>;",
                                         ".global .b32 x[3] = {1,2,3};",
                                         ".shared .b8 s[];",
                                         ".loc 1 2 3",
                                         ".section .debug_str {",
                                         ".entry k()",
                                         ".func f(.param .b32 a)",
                                         ".callprototype",
                                         ".branchtargets",
                                         ".pragma \"x\";",
                                         "call (r), f, (a);",
                                         "bra L;",
                                         "L:",
                                         "%r1",
                                         "%rd1",
                                         "%p1",
                                         "%f1",
                                         "%tid.x",
                                         "v4",
                                         ".align 16",
                                         ".extern",
                                         ".weak",
                                         ".v2",
                                         ".param",
                                         ".alias a, b;",
                                         ".version 8.0",
                                         ".target sm_90a",
                                         "{{{{{{{{",
                                         "))))",
                                         "((((((((",
                                         ".b8",
                                         "\0"};
    size_t at = below(text.size() + 1),
           length = std::min(text.size() - at, below(2) ? below(8) : below(60));
    switch (below(9)) {
    case 0:
      text.erase(at, length);
      break;
    case 1:
      text.insert(at, text.substr(at, length));
      break;
    case 2:
      text.insert(at, pieces[below(std::size(pieces))]);
      break;
    case 3:
      if (at < text.size())
        text[at] = char(random());
      break;
    case 4: { // a word for another
      size_t other = below(text.size() + 1);
      std::string word = text.substr(other, below(12));
      text.replace(at, length, word);
      break;
    }
    case 5: { // a suffix
      size_t dot = text.find('.', at);
      if (dot == std::string::npos)
        break;
      size_t end = text.find_first_of(". ,;\t\n", dot + 1);
      Suffix suffix = suffixOf(uint16_t(1 + below(180)));
      if (below(2))
        suffix = suffixOf(uint16_t(0x401 + below(unsigned(Type::Pred))));
      std::string_view name =
          suffix.modifier == Modifier::Type ? nameOf(suffix.type) : nameOf(suffix.modifier);
      if (unsigned(suffix.modifier) > 150 && suffix.modifier != Modifier::Type)
        name = "shared::cta";
      text.replace(dot + 1, end == std::string::npos ? 0 : end - dot - 1, name);
      break;
    }
    case 6: { // a number
      size_t digit = text.find_first_of("0123456789", at);
      if (digit != std::string::npos)
        text.replace(digit, 1, std::to_string(below(2) ? below(300) : random()));
      break;
    }
    case 7: { // drop a line
      size_t line = text.find('\n', at),
             end = line == std::string::npos ? line : text.find('\n', line + 1);
      if (end != std::string::npos)
        text.erase(line, end - line);
      break;
    }
    default: { // swap two pieces
      size_t other = below(text.size() + 1);
      std::string a = text.substr(at, 5);
      if (other + 5 <= text.size() && at + 5 <= text.size() &&
          (other >= at + 5 || at >= other + 5)) {
        std::string b = text.substr(other, 5);
        text.replace(at, 5, b);
        text.replace(other, 5, a);
      }
    }
    }
  }

  std::mt19937_64 random;
  Drawer draw;
  std::vector<std::string> files;
};

} // namespace

int main(int argc, char **argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: %s <inputs> <seed> <folder or file>...\n", argv[0]);
    return 2;
  }
  std::vector<std::string> files;
  auto add = [&](const std::filesystem::path &path) {
    std::ifstream in(path, std::ios::binary);
    std::stringstream text;
    text << in.rdbuf();
    files.push_back(text.str());
  };
  for (int i = 3; i < argc; ++i) {
    if (!std::filesystem::is_directory(argv[i])) {
      add(argv[i]);
      continue;
    }
    for (auto &entry : std::filesystem::recursive_directory_iterator(argv[i]))
      if (entry.path().extension() == ".ptx")
        add(entry.path());
  }
  if (files.empty()) {
    std::fprintf(stderr, "%s: no .ptx files in what was given\n", argv[0]);
    return 2;
  }
  uint64_t inputs = std::strtoull(argv[1], nullptr, 10);
  Mutator mutator(std::strtoull(argv[2], nullptr, 10), std::move(files));
  const char *keep = std::getenv("SGPU_FUZZ_INPUT");
  for (uint64_t i = 0; i < inputs; ++i) {
    std::string text = mutator.next();
    if (keep)
      std::ofstream(keep, std::ios::binary) << text;
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t *>(text.data()), text.size());
  }
  std::printf("%llu inputs\n", static_cast<unsigned long long>(inputs));
}
#endif
