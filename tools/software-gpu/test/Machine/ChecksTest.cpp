//===- ChecksTest.cpp - Every check finds its case, and not its twin --------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// test/ptx/checks/*.ptx: kernels `bad` and `good`, which differ as little as possible. The first
// lines say which check, how to launch, and with how many seeds. x holds 0, 1, 2, ... as u32; y was
// never written. Both have `bytes` bytes.
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
        Gpu gpu(text, options(seed, chip, completion));
        std::vector<uint32_t> x(number("bytes") / 4);
        for (uint32_t i = 0; i < x.size(); ++i)
          x[i] = i;
        LaunchConfig config;
        config.grid.x = number("grid");
        config.block.x = number("block");
        if (fields.contains("cluster"))
          config.cluster = {number("cluster"), 1, 1};
        uint64_t px = gpu.upload(x), py = gpu.allocate<uint8_t>(number("bytes"));
        gpu.run(kernel, config, px, py);
        if (kernel == "good") {
          EXPECT_TRUE(gpu.clean());
          continue;
        }
        std::vector<Report> reports = gpu.reporter.reports();
        ASSERT_FALSE(reports.empty());
        for (const Report &r : reports) {
          EXPECT_EQ(checkName(r.check), fields.at("check")) << gpu.text();
          EXPECT_EQ(r.place.kernel, "bad");
          EXPECT_GT(r.place.line, 0);
          EXPECT_FALSE(r.place.text.empty());
        }
        // Races name both sides.
        if (reports[0].check == Check::Race) {
          ASSERT_EQ(reports[0].others.size(), 1u);
          EXPECT_GT(reports[0].others[0].line, 0);
        }
      }
}

INSTANTIATE_TEST_SUITE_P(Cases, Checks, ::testing::ValuesIn(cases()), [](const auto &info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});
