//===- RuntimeTableTest.cpp - Tables have the runtime's layout ------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "llamac/Lower/RuntimeTable.h"

#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"

#include <gtest/gtest.h>

using namespace mlir::llamac;

namespace {

struct Sample {
  const char *name;
  int64_t sizes[3];
  uint64_t count;
};

class RuntimeTableTest : public testing::Test {
protected:
  RuntimeTableTest() { module.setDataLayout("e-m:e-p:64:64-i64:64"); }

  uint64_t word(llvm::Constant *value) {
    return llvm::cast<llvm::ConstantInt>(value)->getZExtValue();
  }

  llvm::LLVMContext context;
  llvm::Module module{"table", context};
  RuntimeTable table{module};
};

// Members lie where the structure has them, in whatever order they are given.
TEST_F(RuntimeTableTest, MembersAreAtTheirNames) {
  llvm::Constant *value = table.structure<Sample>({{&Sample::count, table.number(7)},
                                                   {&Sample::name, table.string("some")},
                                                   {&Sample::sizes, table.numbers({1, 2, 3})}});
  const llvm::DataLayout &layout = module.getDataLayout();
  EXPECT_EQ(layout.getTypeAllocSize(value->getType()), sizeof(Sample));
  EXPECT_EQ(value->getAggregateElement(0u), table.string("some"));
  EXPECT_EQ(word(value->getAggregateElement(1)->getAggregateElement(2)), 3u);
  EXPECT_EQ(word(value->getAggregateElement(2)), 7u);
}

// A member that is not given, or is of another size, is not passed over.
TEST_F(RuntimeTableTest, AMissingMemberEndsTheCompiler) {
  auto count = [&] { return RuntimeTable::Member<Sample>(&Sample::count, table.number(7)); };
  auto name = [&] { return RuntimeTable::Member<Sample>(&Sample::name, table.null()); };
  auto sizes = [&](std::vector<int64_t> values) {
    return RuntimeTable::Member<Sample>(&Sample::sizes, table.numbers(values));
  };
  EXPECT_DEATH(table.structure<Sample>({name(), count()}), "Sample.*no value at byte 8");
  EXPECT_DEATH(table.structure<Sample>({name(), sizes({1, 2, 3})}), "Sample.*no value at byte 32");
  EXPECT_DEATH(table.structure<Sample>({sizes({1, 2, 3}), count()}), "Sample.*no value at byte 0");
  EXPECT_DEATH(table.structure<Sample>({name(), sizes({1, 2}), count()}),
               "Sample.*another size at byte 8");
}

} // namespace
