//===- Sites.cpp ------------------------------------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "mutate/Sites.h"

#include <cctype>
#include <map>
#include <regex>
#include <set>

using namespace sgpu::mutate;

namespace {
struct Statement {
  size_t begin, end; ///< with its predicate and semicolon
  size_t opcodeAt;
  uint32_t line;
  std::string predicate; ///< "%p1", "!%p1"; empty without
  std::string opcode, operands;
};
} // namespace

/// The instructions of all functions, and before which of them each label stands. Comments are no part of one.
static std::vector<Statement> statementsOf(const std::string &ptx,
                                           std::map<std::string, size_t> &labels) {
  std::vector<Statement> all;
  uint32_t line = 1;
  int depth = 0;
  for (size_t at = 0; at < ptx.size();) {
    char c = ptx[at];
    if (c == '\n' || std::isspace(static_cast<unsigned char>(c))) {
      line += c == '\n';
      ++at;
      continue;
    }
    if (ptx.compare(at, 2, "//") == 0 || ptx.compare(at, 4, ".loc") == 0) {
      at = std::min(ptx.find('\n', at), ptx.size());
      continue;
    }
    if (c == '{' || c == '}') { // at the start of a statement: a block
      depth += c == '{' ? 1 : -1;
      ++at;
      continue;
    }
    if (!depth) { // directives and heads of functions
      ++at;
      continue;
    }
    // A statement or a label.
    size_t end = at;
    bool isLabel = false;
    for (; end < ptx.size() && ptx[end] != ';'; ++end)
      if (ptx[end] == ':' && (end + 1 == ptx.size() || ptx[end + 1] != ':') &&
          ptx[end - 1] != ':') {
        isLabel = true;
        break;
      }
    std::string text = ptx.substr(at, end - at);
    if (isLabel) {
      labels[text] = all.size();
      at = end + 1;
      continue;
    }
    end = std::min(end + 1, ptx.size());
    static const std::regex form(R"(^(?:@(!?%?[\w$]+)\s+)?([a-z][\w.:]*)\s*([^]*)$)");
    std::smatch match;
    if (std::regex_match(text, match, form))
      all.push_back({at, end, at + size_t(match.position(2)), line, match[1], match[2], match[3]});
    for (; at < end; ++at)
      line += ptx[at] == '\n';
  }
  return all;
}

static bool touchesMemory(const std::string &opcode) {
  static const std::regex form(
      R"(^(ld|st|ldu|red|atom|cp|mbarrier|stmatrix|ldmatrix|wgmma|mma|bar|barrier|fence|prefetch|multimem)\b(?!\.param).*)");
  return std::regex_match(opcode, form);
}

/// Gives bits of no meaning to the registers that statements [from, to) would set, where a
/// predicate holds; empty if they do more than to load and to compute, branch out (`labels`: those
/// that they may go to), or leave a predicate to others.
static std::string garbageOf(const std::vector<Statement> &all, size_t from, size_t to,
                             const std::string &predicate, const std::set<std::string> &labels) {
  static const std::regex load(R"(^ld\.(?!param|shared|local).*\.[busf](16|32|64)$)");
  static const std::regex name(R"(%(p|rs|rd|r|fd|f)\d+)");
  std::set<std::string> seen;
  std::string text;
  bool loads = false;
  auto usedOutside = [&](const std::string &predicate) {
    const std::regex use(predicate + "(?!\\d)");
    for (size_t i = 0; i < all.size(); ++i)
      if ((i < from || i >= to) && std::regex_search(all[i].predicate + " " + all[i].operands, use))
        return true;
    return false;
  };
  for (size_t i = from; i < to; ++i) {
    const Statement &s = all[i];
    if (s.opcode.starts_with("bra")) {
      if (!labels.contains(std::regex_replace(s.operands, std::regex(R"(\s|;)"), "")))
        return "";
      continue;
    }
    if (touchesMemory(s.opcode)) {
      if (!std::regex_match(s.opcode, load))
        return "";
      loads = true;
    }
    // What comes before the first comma, or all in the first braces; two predicates of one setp.
    std::string set = s.operands.substr(0, s.operands.find_first_of(",["));
    if (s.operands.starts_with("{"))
      set = s.operands.substr(0, s.operands.find('}'));
    for (std::sregex_iterator r(set.begin(), set.end(), name), end; r != end; ++r) {
      if (!seen.insert(r->str()).second)
        continue;
      const std::string kind = (*r)[1];
      if (kind == "p") {
        if (usedOutside(r->str()))
          return "";
        continue;
      }
      const bool half = kind == "rs", wide = kind == "rd" || kind == "fd";
      text += "@" + predicate + " mov.b" +
              (half   ? "16 "
               : wide ? "64 "
                      : "32 ") +
              r->str() + ", " +
              (half   ? "0x7fc7"
               : wide ? "0x7ff8123456789abd"
                      : "0x7fc12347") +
              "; ";
    }
  }
  return loads ? text : "";
}

/// The opcodes before and behind one, which is `*`; without moves: where those stand is the
/// register allocator's choice.
static std::string aroundOf(const std::vector<Statement> &all, size_t at) {
  constexpr size_t reach = 6;
  auto counts = [](const Statement &s) { return !s.opcode.starts_with("mov."); };
  std::string text = "*";
  for (size_t i = at, n = 0; i-- > 0 && n < reach;)
    if (counts(all[i]) && ++n)
      text = all[i].opcode + " " + text;
  for (size_t i = at + 1, n = 0; i < all.size() && n < reach; ++i)
    if (counts(all[i]) && ++n)
      text += " " + all[i].opcode;
  return text;
}

std::vector<Site> sgpu::mutate::sitesOf(const std::string &ptx) {
  std::map<std::string, size_t> labels;
  std::vector<Statement> all = statementsOf(ptx, labels);
  std::vector<Site> sites;
  std::map<std::string, uint32_t> numbers; // of each kind
  auto matches = [](const std::string &text, const char *form) {
    return std::regex_search(text, std::regex(form));
  };
  auto inverse = [](const std::string &predicate) {
    return predicate[0] == '!' ? predicate.substr(1) : "!" + predicate;
  };
  for (size_t i = 0; i < all.size(); ++i) {
    const Statement &s = all[i];
    const std::string text = ptx.substr(s.begin, s.end - s.begin);
    auto add = [&](const char *kind, size_t begin, std::string mutant, std::string works) {
      std::string old = ptx.substr(begin, s.end - begin);
      sites.push_back({kind,
                       s.line,
                       ++numbers[kind],
                       0,
                       aroundOf(all, i),
                       begin,
                       s.end,
                       text,
                       std::move(mutant),
                       (s.predicate.empty() ? "" : "@" + s.predicate + " ") + "trap; " + old,
                       std::move(works),
                       {}});
    };
    if (matches(s.opcode, R"(^(bar|barrier)\.)"))
      add("barrier", s.begin, "", "");
    else if (matches(s.opcode, R"(^(fence|membar)\b|^wgmma\.fence)"))
      add("fence", s.begin, "", "");
    else if (matches(s.opcode, R"(^cp\.async\.(bulk\.)?(wait|commit)|^wgmma\.(wait|commit))"))
      add("wait", s.begin, "", "");
    else if (matches(s.opcode, R"(^mbarrier\.(arrive|init|expect_tx|complete_tx))"))
      add("arrival", s.begin, "", "");

    if (s.opcode.starts_with("bra") && !s.predicate.empty()) {
      auto label = labels.find(std::regex_replace(s.operands, std::regex(R"(\s)"), ""));
      if (label == labels.end())
        continue;
      size_t target = label->second;
      if (target <= i) {
        for (size_t back = target; back < i && i - target < 8; ++back)
          if (matches(all[back].opcode, R"(^mbarrier\.(try|test)_wait)")) {
            add("wait", all[back].begin, "", "");
            sites.back().text = ptx.substr(all[back].begin, s.end - all[back].begin);
            sites.back().reached = "trap; " + sites.back().text;
            sites.back().line = all[back].line;
            // With a time limit of 0 it does not wait.
            std::string asks = ptx.substr(all[back].begin, s.begin - all[back].begin);
            if (all[back].opcode.starts_with("mbarrier.try_wait"))
              asks.insert(asks.find(';'), ", 0");
            sites.back().works = asks + "@" + s.predicate + " trap;";
            break;
          }
        continue;
      }
      bool memory = false;
      for (size_t between = i + 1; between < target; ++between)
        memory |= touchesMemory(all[between].opcode);
      if (memory) {
        add("guard", s.begin, "", "@" + s.predicate + " trap; " + text);
        sites.back().reached = "trap; " + text;
        std::set<std::string> inside; // labels of what it keeps back, and where it goes on
        for (const auto &[label, at] : labels)
          if (at > i && at <= target)
            inside.insert(label);
        std::string garbage = garbageOf(all, i + 1, target, s.predicate, inside);
        if (!garbage.empty())
          sites.back().unused = garbage + text;
      }
    } else if (!s.predicate.empty() && touchesMemory(s.opcode)) {
      add("guard", s.begin, ptx.substr(s.opcodeAt, s.end - s.opcodeAt),
          "@" + inverse(s.predicate) + " trap; " + text);
      sites.back().reached = "trap; " + text;
    } else if (matches(s.opcode, R"(^cp\.async\.c[ag]\.)")) {
      std::smatch match;
      static const std::regex size(R"(^(.*\],\s*)(\d+)(,\s*)(%\w+)\s*$)");
      if (std::regex_match(s.operands, match, size)) {
        std::string whole = match[2], given = match[4];
        add("guard", s.opcodeAt,
            s.opcode + " " + match[1].str() + whole + match[3].str() + whole + ";",
            "{ .reg .pred partly$; setp.ne.u32 partly$, " + given + ", " + whole +
                "; @partly$ trap; } " + text);
        sites.back().reached = "trap; " + text;
      }
    }
  }
  for (Site &site : sites)
    site.of = numbers[site.kind];
  return sites;
}
