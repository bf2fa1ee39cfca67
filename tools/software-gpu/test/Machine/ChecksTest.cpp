//===- ChecksTest.cpp - Every check finds its case, and not its twin --------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// test/ptx/checks/*.ptx: kernels `bad` and `good`, which differ as little as possible. The first
// lines say which check, how to launch, and with how many seeds. x holds 0, 1, 2, ... as u32; y was
// never written. Both have `bytes` bytes. `third: freed`: there is a parameter z, which was freed.
// `also`: another check that may tell of the same fault, depending on what completes when. `first: unordered`: kernel `first` runs before, in work that nothing orders before this one.
//===----------------------------------------------------------------------===//
#include "Harness.h"

#include <algorithm>
#include <filesystem>
#include <map>

using namespace sgpu;
using namespace sgpu::machinetest;

namespace {
std::vector<std::string> cases() {
  std::vector<std::string> names;
  for (const auto &e : std::filesystem::directory_iterator(SGPU_TEST_DIR "/ptx/checks"))
    if (e.path().extension() == ".ptx")
      names.push_back(e.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

std::map<std::string, std::string> header(const std::string &text) {
  std::map<std::string, std::string> fields;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line) && line.starts_with("//");)
    if (size_t colon = line.find(": "); colon != line.npos)
      fields[line.substr(3, colon - 3)] = line.substr(colon + 2);
  return fields;
}

class Checks : public ::testing::TestWithParam<std::string> {};
} // namespace

TEST_P(Checks, FindsTheFaultAndNotItsTwin) {
  std::string text = ptxFile("checks/" + GetParam() + ".ptx");
  auto fields = header(text);
  auto number = [&](const std::string &name) { return uint32_t(std::stoul(fields.at(name))); };
  for (uint64_t seed = 1; seed <= number("seeds"); ++seed)
    for (Completion completion : {Completion::Late, Completion::Early, Completion::Random})
      for (std::string kernel : {"bad", "good"}) {
        if (completion != Completion::Late && GetParam() == "deadlock-spin")
          continue;
        SCOPED_TRACE(kernel + ", seed " + std::to_string(seed));
        int chip = text.find(".target sm_90") == text.npos ? 80 : 90;
        Gpu gpu(text, options(seed, chip, completion, fields.at("check") == "strict"));
        std::vector<uint32_t> x(number("bytes") / 4);
        for (uint32_t i = 0; i < x.size(); ++i)
          x[i] = i;
        LaunchConfig config;
        config.grid.x = number("grid");
        config.block.x = number("block");
        if (fields.contains("cluster"))
          config.cluster = {number("cluster"), 1, 1};
        uint64_t px = gpu.upload(x), py = gpu.allocate<uint8_t>(number("bytes"));
        if (fields.contains("first")) {
          gpu.run("first", config, px, py);
          config.work.ordered = [](uint32_t) { return false; };
        }
        if (fields.contains("third")) {
          uint64_t pz = gpu.upload(x);
          gpu.memory.free(pz, "test");
          gpu.run(kernel, config, px, py, pz);
        } else {
          gpu.run(kernel, config, px, py);
        }
        if (kernel == "good") {
          EXPECT_TRUE(gpu.clean());
          continue;
        }
        std::vector<Report> reports = gpu.reporter.reports();
        ASSERT_FALSE(reports.empty());
        bool found = false;
        for (const Report &r : reports) {
          if (!fields.contains("also") || checkName(r.check) != fields.at("also"))
            EXPECT_EQ(checkName(r.check), fields.at("check")) << gpu.text();
          found |= checkName(r.check) == fields.at("check");
          EXPECT_EQ(r.place.kernel, "bad");
          // The same as text and as JSON.
          std::string asText = Reporter::toText(r, seed), json = Reporter::toJson(r, seed);
          EXPECT_NE(asText.find(checkName(r.check)), asText.npos) << asText;
          EXPECT_NE(asText.find(r.message), asText.npos) << asText;
          EXPECT_NE(asText.find("seed " + std::to_string(seed)), asText.npos) << asText;
          EXPECT_NE(json.find("\"seed\":" + std::to_string(seed)), json.npos) << json;
          EXPECT_NE(json.find(std::string("\"check\":\"") + checkName(r.check)), json.npos) << json;
          EXPECT_EQ(json.find('\n'), json.npos);
          if (r.check == Check::Launch) // has no place in the text
            continue;
          EXPECT_NE(asText.find("PTX line " + std::to_string(r.place.line)), asText.npos) << asText;
          EXPECT_NE(json.find("\"line\":" + std::to_string(r.place.line)), json.npos) << json;
          EXPECT_NE(json.find("\"block\":["), json.npos) << json;
          EXPECT_EQ(json.find("\"others\"") != json.npos, asText.find("\n  other") != asText.npos);
          EXPECT_EQ(json.find("\"address\"") != json.npos,
                    asText.find("\n  address 0x") != asText.npos);
          EXPECT_GT(r.place.line, 0);
          EXPECT_FALSE(r.place.text.empty());
        }
        EXPECT_TRUE(found || completion != Completion::Late) << gpu.text();
        // Races name both sides.
        if (reports[0].check == Check::Race) {
          ASSERT_EQ(reports[0].others.size(), 1u);
          EXPECT_GT(reports[0].others[0].line, 0);
        }
      }
}

/// Every kind of fault has a case here, but a leak, which no kernel makes.
TEST(ChecksTable, EveryKindHasACase) {
  std::map<std::string, int> found;
  for (const std::string &name : cases()) {
    std::string text = ptxFile("checks/" + name + ".ptx");
    ++found[header(text).at("check")];
    EXPECT_NE(text.find(".entry bad("), text.npos) << name;
    EXPECT_NE(text.find(".entry good("), text.npos) << name;
  }
  for (unsigned i = 0; i < numChecks; ++i)
    if (Check(i) != Check::Leak) {
      EXPECT_GT(found[checkName(Check(i))], 0)
          << checkName(Check(i)) << " has no case in test/ptx/checks";
    }
}

TEST(ChecksTable, Leak) {
  for (bool bad : {true, false}) {
    Gpu gpu(ptxFile("checks/trap.ptx"), options(3, 80));
    uint64_t p = gpu.allocate<float>(64);
    if (!bad)
      gpu.memory.free(p, "test");
    gpu.memory.reportLeaks();
    EXPECT_EQ(gpu.reporter.count(Check::Leak), uint64_t(bad));
    EXPECT_EQ(gpu.reporter.total(), uint64_t(bad));
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, Checks, ::testing::ValuesIn(cases()), [](const auto &info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});
