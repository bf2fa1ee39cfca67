//===- SupportTest.cpp - Environment and reports ----------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Support/Random.h"
#include "Support/Report.h"

#include <cstdlib>
#include <fstream>
#include <gtest/gtest.h>
#include <set>

using namespace sgpu;

namespace {
/// Sets variables for one test.
struct Environment : ::testing::Test {
  static constexpr const char *names[] = {
      "SOFTWARE_GPU_DEVICES",    "SOFTWARE_GPU_CHIP",    "SOFTWARE_GPU_MEMORY",
      "SOFTWARE_GPU_SEED",       "SOFTWARE_GPU_CHECKS",  "SOFTWARE_GPU_REPORT",
      "SOFTWARE_GPU_COMPLETION", "SOFTWARE_GPU_THREADS", "SOFTWARE_GPU_COUNTERS",
      "SOFTWARE_GPU_TIMEOUT",    "SOFTWARE_GPU_RECORD",  "SOFTWARE_GPU_DRIVER",
      "SOFTWARE_GPU_RESIDENT",   "SOFTWARE_GPU_ORDERS",  "SOFTWARE_GPU_OMIT"};
  void SetUp() override { clear(); }
  void TearDown() override { clear(); }
  void clear() {
    for (const char *name : names)
      unsetenv(name);
  }
  void set(const char *name, const char *value) { setenv(name, value, 1); }
  std::string error() {
    try {
      Options::fromEnvironment();
    } catch (const Error &e) {
      return e.what();
    }
    return "";
  }
};
} // namespace

TEST_F(Environment, Defaults) {
  Options o = Options::fromEnvironment();
  EXPECT_EQ(o.devices, 1);
  EXPECT_EQ(o.chip, 90);
  EXPECT_EQ(o.driver, 13000);
  EXPECT_EQ(o.seed, 1u);
  EXPECT_TRUE(o.enabled(Check::Race));
  EXPECT_EQ(o.completion, Completion::Late);
}

TEST_F(Environment, EveryVariable) {
  set("SOFTWARE_GPU_DEVICES", "4");
  set("SOFTWARE_GPU_CHIP", "sm_80");
  set("SOFTWARE_GPU_MEMORY", "512M");
  set("SOFTWARE_GPU_SEED", "0xff");
  set("SOFTWARE_GPU_CHECKS", "-race,-leak");
  set("SOFTWARE_GPU_REPORT", "/tmp/x");
  set("SOFTWARE_GPU_COMPLETION", "random");
  set("SOFTWARE_GPU_THREADS", "3");
  set("SOFTWARE_GPU_TIMEOUT", "7");
  set("SOFTWARE_GPU_RESIDENT", "3");
  set("SOFTWARE_GPU_COUNTERS", "/tmp/y");
  set("SOFTWARE_GPU_RECORD", "/tmp/z");
  set("SOFTWARE_GPU_DRIVER", "12.4");
  set("SOFTWARE_GPU_ORDERS", "/tmp/w");
  set("SOFTWARE_GPU_OMIT", "stream 0 after 1 (x)");
  Options o = Options::fromEnvironment();
  EXPECT_EQ(o.devices, 4);
  EXPECT_EQ(o.chip, 80);
  EXPECT_EQ(o.memory, uint64_t(512) << 20);
  EXPECT_EQ(o.seed, 255u);
  EXPECT_FALSE(o.enabled(Check::Race));
  EXPECT_FALSE(o.enabled(Check::Leak));
  EXPECT_TRUE(o.enabled(Check::OutOfBounds));
  EXPECT_EQ(o.report, "/tmp/x");
  EXPECT_EQ(o.orders, "/tmp/w");
  EXPECT_EQ(o.omit, "stream 0 after 1 (x)");
  EXPECT_EQ(o.completion, Completion::Random);
  EXPECT_EQ(o.threads, 3);
  EXPECT_EQ(o.timeout, 7);
  EXPECT_EQ(o.resident, 3);
  EXPECT_EQ(o.counters, "/tmp/y");
  EXPECT_EQ(o.record, "/tmp/z");
  EXPECT_EQ(o.driver, 12040);
}

TEST_F(Environment, ListsOfChecks) {
  set("SOFTWARE_GPU_CHECKS", "none");
  EXPECT_EQ(Options::fromEnvironment().checks, 0u);
  set("SOFTWARE_GPU_CHECKS", "race,out-of-bounds");
  Options o = Options::fromEnvironment();
  for (unsigned i = 0; i < numChecks; ++i)
    EXPECT_EQ(o.enabled(Check(i)), Check(i) == Check::Race || Check(i) == Check::OutOfBounds);
  set("SOFTWARE_GPU_CHECKS", "all,-race");
  EXPECT_FALSE(Options::fromEnvironment().enabled(Check::Race));
  EXPECT_TRUE(Options::fromEnvironment().enabled(Check::Leak));
}

TEST_F(Environment, BadValuesNameTheVariableAndWhatIsAccepted) {
  for (auto [name, value, wanted] : {std::tuple("SOFTWARE_GPU_DEVICES", "0", "1 to 16"),
                                     {"SOFTWARE_GPU_DEVICES", "two", "1 to 16"},
                                     {"SOFTWARE_GPU_DEVICES", "17", "1 to 16"},
                                     {"SOFTWARE_GPU_CHIP", "90", "sm_80 or sm_90"},
                                     {"SOFTWARE_GPU_MEMORY", "1T", "512M"},
                                     {"SOFTWARE_GPU_MEMORY", "G", "512M"},
                                     {"SOFTWARE_GPU_SEED", "-1", "whole number"},
                                     {"SOFTWARE_GPU_SEED", "1x", "whole number"},
                                     {"SOFTWARE_GPU_SEED", "0x", "whole number"},
                                     {"SOFTWARE_GPU_CHECKS", "races", "uninitialized"},
                                     {"SOFTWARE_GPU_CHECKS", "race,,leak", "uninitialized"},
                                     {"SOFTWARE_GPU_COMPLETION", "soon", "late, early or random"},
                                     {"SOFTWARE_GPU_THREADS", "0", "1 to 1024"},
                                     {"SOFTWARE_GPU_TIMEOUT", "0", "1 to 1000000"},
                                     {"SOFTWARE_GPU_RESIDENT", "0", "1 to 1000000"},
                                     {"SOFTWARE_GPU_DRIVER", "11.8", "12.0 to 12.9, or 13.0"},
                                     {"SOFTWARE_GPU_DRIVER", "12.x", "12.0 to 12.9, or 13.0"}}) {
    clear();
    set(name, value);
    std::string message = error();
    EXPECT_NE(message.find(std::string(name) + "=" + value), std::string::npos) << message;
    EXPECT_NE(message.find(wanted), std::string::npos) << message;
  }
}

TEST(Checks, HaveDifferentNames) {
  std::set<std::string> names;
  for (unsigned i = 0; i < numChecks; ++i)
    names.insert(checkName(Check(i)));
  EXPECT_EQ(names.size(), numChecks);
}

namespace {
Report sample(int line) {
  Report r{.check = Check::Race, .message = "write races"};
  r.place.kernel = "k";
  r.place.line = line;
  r.place.source = "x.cu:3";
  r.place.text = "st.shared.u32 [%r1], %r2;";
  r.place.thread = {5, 0, 0};
  r.hasAddress = true;
  r.address = 0x480;
  r.memory = "byte 128 of \"s\"";
  Place other = r.place;
  other.line = 10;
  r.others.push_back(other);
  return r;
}
} // namespace

TEST(Reports, TextHasEverything) {
  EXPECT_EQ(
      Reporter::toText(sample(12), 7),
      "software-gpu: race: write races\n"
      "  at kernel k (PTX line 12, x.cu:3), block (0,0,0), thread (5,0,0): st.shared.u32 [%r1], "
      "%r2;\n"
      "  address 0x480, byte 128 of \"s\"\n"
      "  other: kernel k (PTX line 10, x.cu:3), block (0,0,0), thread (5,0,0): st.shared.u32 "
      "[%r1], %r2;\n"
      "  seed 7\n");
}

TEST(Reports, JsonIsOneLine) {
  EXPECT_EQ(
      Reporter::toJson(sample(12), 7),
      R"({"check":"race","message":"write races","at":{"kernel":"k","line":12,"source":"x.cu:3",)"
      R"("block":[0,0,0],"thread":[5,0,0],"text":"st.shared.u32 [%r1], %r2;"},"address":"0x480",)"
      R"("memory":"byte 128 of \"s\"","others":[{"kernel":"k","line":10,"source":"x.cu:3",)"
      R"("block":[0,0,0],"thread":[5,0,0],"text":"st.shared.u32 [%r1], %r2;"}],"seed":7})");
}

TEST(Reports, AreCountedAndLimitedPerPlace) {
  Options options;
  options.report = ::testing::TempDir() + "/software-gpu-report.jsonl";
  std::remove(options.report.c_str());
  Reporter reporter(options, false);
  EXPECT_EQ(reporter.finish(), 0);
  for (int i = 0; i < 100; ++i)
    reporter.add(sample(12));
  reporter.add(sample(13));
  EXPECT_EQ(reporter.total(), 101u);
  EXPECT_EQ(reporter.count(Check::Race), 101u);
  EXPECT_EQ(reporter.reports().size(), Reporter::limit + 1);
  EXPECT_EQ(reporter.finish(), Reporter::faultStatus);
  std::ifstream in(options.report);
  unsigned lines = 0;
  for (std::string line; std::getline(in, line); ++lines)
    EXPECT_TRUE(line.starts_with("{\"check\":\"race\"")) << line;
  EXPECT_EQ(lines, Reporter::limit + 1);
}

TEST(Reports, ChecksThatAreOffSayNothing) {
  Options options;
  options.checks = ~(1u << unsigned(Check::Race));
  Reporter reporter(options, false);
  reporter.add(sample(12));
  EXPECT_EQ(reporter.total(), 0u);
}

TEST(Random, SameSeedSameNumbersAndSplitsAreApart) {
  Random a(5), b(5);
  EXPECT_EQ(a.next(), b.next());
  Random x = a.split(1), y = b.split(1), z = a.split(2);
  EXPECT_EQ(x.next(), y.next());
  EXPECT_NE(x.next(), z.next());
  unsigned seen[10] = {};
  for (int i = 0; i < 1000; ++i)
    ++seen[a.below(10)];
  for (unsigned n : seen)
    EXPECT_GT(n, 50u);
}
