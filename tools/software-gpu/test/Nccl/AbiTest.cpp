//===- AbiTest.cpp - Our nccl against NVIDIA's header and library -----------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Child.h"
#include "SameShape.h"
#include "abi/nccl.h"

#include <cstring>
#include <dlfcn.h>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>

#ifdef SGPU_CUDA_HEADERS
#include <nccl.h>

namespace facts = sgpu::abi;
#define SAME(name, value) static_assert(int64_t(::name) == value, #name);
SGPU_NCCL_CONSTANTS(SAME)
#undef SAME
static_assert(NCCL_VERSION_CODE == facts::ncclVersion &&
              NCCL_CONFIG_UNDEF_INT == facts::ncclUndefinedInt &&
              NCCL_SPLIT_NOCOLOR == facts::ncclSplitNoColor &&
              sizeof(ncclUniqueId) == sizeof(facts::NcclUniqueId) &&
              sizeof(ncclSimInfo_t) == sizeof(facts::NcclSimInfo));
#define SAME(member)                                                                               \
  static_assert(offsetof(ncclConfig_t, member) == offsetof(facts::NcclConfig, member) &&           \
                sizeof(ncclConfig_t::member) == sizeof(facts::NcclConfig::member))
SAME(size);
SAME(magic);
SAME(version);
SAME(blocking);
SAME(cgaClusterSize);
SAME(minCTAs);
SAME(maxCTAs);
SAME(netName);
SAME(splitShare);
SAME(trafficClass);
SAME(commName);
SAME(collnetEnable);
SAME(CTAPolicy);
SAME(shrinkShare);
SAME(nvlsCTAs);
SAME(nChannelsPerNetPeer);
SAME(nvlinkCentricSched);
#undef SAME
static_assert(sizeof(ncclConfig_t) == sizeof(facts::NcclConfig));

namespace shapes {
using namespace sgpu::abi;
#define NCCL_FUNCTION(result, name, parameters)                                                    \
  using name = result parameters;                                                                  \
  static_assert(sgpu::test::SameShape<decltype(::name), shapes::name>::value, #name);
#pragma clang diagnostic ignored "-Wdeprecated-declarations"
#include "abi/nccl_functions.def"
#undef NCCL_FUNCTION
} // namespace shapes
#endif

namespace {
using sgpu::test::inProcess;

constexpr const char *realPath = "/usr/local/cuda/lib64/libnccl.so.2";

TEST(NcclAbi, Header) {
#ifdef SGPU_CUDA_HEADERS
  SUCCEED() << "compared when this file was compiled";
#else
  GTEST_SKIP() << "nccl.h is not in /usr/local/cuda/include: nothing to compare with";
#endif
}

/// Of the functions that NVIDIA's header declares, both libraries have the same.
TEST(NcclAbi, Symbols) {
  void *ours = dlopen(SGPU_LIBRARY_DIR "/libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
  ASSERT_TRUE(ours) << dlerror();
#define NCCL_FUNCTION(result, name, parameters)                                                    \
  EXPECT_TRUE(dlsym(ours, #name) && dlsym(ours, "p" #name)) << #name;
#include "abi/nccl_functions.def"
#undef NCCL_FUNCTION
  void *real = dlopen(realPath, RTLD_NOW | RTLD_LOCAL);
  std::ifstream header("/usr/local/cuda/include/nccl.h");
  if (!real || !header)
    GTEST_SKIP() << "/usr/local/cuda has no lib64/libnccl.so.2 or no include/nccl.h: nothing to "
                    "compare with";
  std::string text((std::istreambuf_iterator<char>(header)), {});
  std::regex call("\\b(p?nccl[A-Z]\\w*)\\(");
  std::set<std::string> names;
  for (std::sregex_iterator i(text.begin(), text.end(), call), end; i != end; ++i)
    names.insert((*i)[1]);
  EXPECT_GE(names.size(), 80u);
  for (const std::string &name : names)
    EXPECT_EQ(bool(dlsym(ours, name.c_str())), bool(dlsym(real, name.c_str()))) << name;
}

/// The same calls, as far as they need no driver, give the same results in both libraries.
TEST(NcclAbi, Results) {
  auto results = [](const std::string &path) {
    return [path] {
      void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
      if (!library) {
        std::printf("not there\n");
        return;
      }
      auto call = [&]<typename... Args>(const char *name, Args... args) {
        auto *function = reinterpret_cast<int (*)(Args...)>(dlsym(library, name));
        std::printf("result %s %d\n", name, function(args...));
      };
      void *null = nullptr;
      int x = 0;
      int version = 0;
      call("ncclGetVersion", &version);
      std::printf("result version %d\n", version);
      call("ncclGetVersion", null);
      call("ncclGetUniqueId", null);
      call("ncclGroupEnd");
      call("ncclGroupStart");
      call("ncclGroupStart");
      call("ncclGroupEnd");
      call("ncclGroupEnd");
      call("ncclGroupEnd");
      for (const char *name : {"ncclCommFinalize", "ncclCommAbort", "ncclCommDestroy"})
        call(name, null);
      for (const char *name :
           {"ncclCommGetAsyncError", "ncclCommCount", "ncclCommUserRank", "ncclCommCuDevice"})
        call(name, null, &x);
      call("ncclAllReduce", null, null, size_t(1), 7, 0, null, null);
      call("ncclReduceScatter", null, null, size_t(1), 7, 0, null, null);
      call("ncclAllGather", null, null, size_t(1), 7, null, null);
      call("ncclBroadcast", null, null, size_t(1), 7, 0, null, null);
      call("ncclReduce", null, null, size_t(1), 7, 0, 0, null, null);
      call("ncclAlltoAll", null, null, size_t(1), 7, null, null);
      call("ncclSend", null, size_t(1), 7, 0, null, null);
      call("ncclRecv", null, size_t(1), 7, 0, null, null);
      call("ncclCommRegister", null, &x, size_t(4), &null);
      call("ncclCommDeregister", null, &x);
      call("ncclRedOpCreatePreMulSum", &x, &x, 7, 1, null);
      for (int op : {0, 4, 7})
        call("ncclRedOpDestroy", op, null);
      call("ncclCommRevoke", null, 0);
    };
  };
  auto lines = [](const std::string &text) { // reports of ours stand between them
    std::string kept;
    for (size_t at = 0; (at = text.find("result ", at)) != text.npos;) {
      size_t end = text.find('\n', at);
      kept += text.substr(at, end - at) + "\n";
      at = end;
    }
    return kept;
  };
  sgpu::test::Outcome real = inProcess(results(realPath));
  if (real.text.find("not there") != real.text.npos)
    GTEST_SKIP() << realPath << " is not there: nothing to compare with";
  sgpu::test::Outcome ours = inProcess(results(SGPU_LIBRARY_DIR "/libnccl.so.2"));
  EXPECT_EQ(lines(ours.text), lines(real.text));
  EXPECT_GT(lines(real.text).size(), 500u);
}

} // namespace
