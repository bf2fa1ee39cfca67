//===- MachineTest.cpp - Presets and machine files ------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Cost/Machine.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/MLIRContext.h"

#include <cstdlib>
#include <fstream>
#include <gmock/gmock.h>

using namespace mlir;
using namespace mlir::llamac;
using testing::EndsWith;

namespace {

// A machine file with this text; the error, or "" if it is right.
struct MachineFile {
  explicit MachineFile(const std::string &text) : path(testing::TempDir() + "machine.json") {
    std::ofstream(path) << text;
  }
  std::string error() const {
    auto machine = findMachine(path);
    return machine ? "" : llvm::toString(machine.takeError());
  }
  std::string path;
};

std::string fieldError(const std::string &text) {
  MachineFile file(text);
  std::string error = file.error();
  EXPECT_EQ(error.rfind(file.path + ":", 0), 0u) << error;
  return error;
}

TEST(Machine, PresetsAreComplete) {
  for (llvm::StringRef name : machineNames()) {
    auto machine = findMachine(name);
    ASSERT_TRUE(bool(machine));
    EXPECT_EQ(machine->name, name);
    EXPECT_GT(machine->peak.f64, 0);
    EXPECT_GE(machine->peak.f32, machine->peak.f64);
    EXPECT_GE(machine->peak.bf16, machine->peak.f32);
    EXPECT_EQ(machine->memoryBytes.has_value(), name != "cpu");
    for (double part : {machine->efficiency.gemm, machine->efficiency.attentionForward,
                        machine->efficiency.attentionBackward, machine->efficiency.memory}) {
      EXPECT_GT(part, 0);
      EXPECT_LE(part, 1);
    }
    EXPECT_GE(machine->insideServer.bytesPerSecond, machine->betweenServers.bytesPerSecond);
  }
}

TEST(Machine, RatesAreThoseOfTheType) {
  MLIRContext context;
  Builder b(&context);
  auto machine = findMachine("h100-sxm");
  ASSERT_TRUE(bool(machine));
  EXPECT_EQ(machine->peakOf(b.getBF16Type()), 989e12);
  EXPECT_EQ(machine->peakOf(b.getF32Type()), 67e12);
  EXPECT_EQ(machine->peakOf(b.getF64Type()), 67e12);
}

// A ring between servers goes through the cards of all its members in a server, but is not
// faster than the links inside.
TEST(Machine, RingsBetweenServersUseTheCardsOfTheirMembers) {
  Machine machine;
  machine.gpusPerServer = 8;
  machine.insideServer = {1, 60};
  machine.betweenServers = {10, 10};
  EXPECT_EQ(machine.collectiveSeconds(1, 1, 960), 0);
  EXPECT_EQ(machine.collectiveSeconds(8, 1, 960), 1 + 840 / 60.); // inside
  EXPECT_EQ(machine.collectiveSeconds(4, 2, 960), 1 + 720 / 60.);
  EXPECT_EQ(machine.collectiveSeconds(16, 1, 960), 10 + 900 / 60.); // 8 cards, 80
  EXPECT_EQ(machine.collectiveSeconds(16, 2, 960), 10 + 900 / 40.); // 4 cards
  EXPECT_EQ(machine.collectiveSeconds(4, 8, 960), 10 + 720 / 10.);  // one
  EXPECT_EQ(machine.collectiveSeconds(2, 64, 960), 10 + 480 / 10.);
}

// Two servers of two, the second one slower; all else is that of the preset.
TEST(Machine, AFileSaysWhatDiffers) {
  MachineFile file(R"({"like": "h200-sxm", "gpus_per_server": 2, "peak": {"bf16": 5e14},
                       "between_servers": {"bytes_per_second": 1e10},
                       "server_speeds": [1, 0.5]})");
  auto machine = findMachine(file.path);
  ASSERT_TRUE(bool(machine)) << llvm::toString(machine.takeError());
  EXPECT_EQ(machine->name, file.path);
  EXPECT_EQ(machine->peak.bf16, 5e14);
  EXPECT_EQ(machine->peak.f32, 67e12);
  EXPECT_EQ(machine->memoryBytes, 141'000'000'000);
  EXPECT_EQ(machine->link(0, 1).bytesPerSecond, 361e9);
  EXPECT_EQ(machine->link(1, 2).bytesPerSecond, 1e10);
  EXPECT_EQ(machine->speed(1), 1);
  EXPECT_EQ(machine->speed(2), 0.5);
  EXPECT_EQ(machine->speed(4), 1);
}

TEST(Machine, ErrorsNameFileAndField) {
  EXPECT_THAT(fieldError(R"({"gpus_per_server": 0})"),
              EndsWith("field 'gpus_per_server': expected an integer from 1 to 65536, got 0"));
  EXPECT_THAT(fieldError(R"({"peak": {"bf16": -1}})"),
              EndsWith("field 'peak.bf16': expected a number above 0, got -1"));
  EXPECT_THAT(
      fieldError(R"({"efficiency": {"gemm": 1.5}})"),
      EndsWith("field 'efficiency.gemm': expected a number above 0 and at most 1, got 1.5"));
  EXPECT_THAT(fieldError(R"({"inside_server": {"latency": "2 us"}})"),
              EndsWith("field 'inside_server.latency': expected a number of at least 0, got "
                       "\"2 us\""));
  EXPECT_THAT(fieldError(R"({"server_speeds": [1, 0]})"),
              EndsWith("field 'server_speeds': expected numbers above 0, got 0"));
  EXPECT_THAT(fieldError(R"({"like": "b200"})"),
              EndsWith("field 'like': expected one of cpu, h100-sxm, h200-sxm, a100-sxm, got "
                       "'b200'"));
  EXPECT_THAT(fieldError(R"({"between_servers": {"bandwidth": 1}})"),
              EndsWith("field 'between_servers.bandwidth': expected one of latency, "
                       "bytes_per_second, got this name"));
  EXPECT_THAT(fieldError("[1]"), EndsWith(": expected a JSON object"));
  EXPECT_THAT(fieldError("{\"peak\": }"), testing::HasSubstr(":1:10: malformed JSON: "));
}

TEST(Machine, UnknownNamesAreRefused) {
  for (const char *name : {"h100", "", "no_such_file.json"}) {
    auto machine = findMachine(name);
    ASSERT_FALSE(bool(machine));
    EXPECT_FALSE(llvm::toString(machine.takeError()).empty());
  }
}

} // namespace
