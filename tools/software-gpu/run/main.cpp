//===- software-gpu-run - Runs one kernel of a PTX file ---------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Machine/Machine.h"

#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <optional>
#include <sstream>

using namespace sgpu;

static const char *usage =
    R"(usage: software-gpu-run FILE.ptx [KERNEL [options] [arguments]]
Without a kernel: lists the kernels. Options:
  --grid X[,Y[,Z]]  --block X[,Y[,Z]]  --cluster X[,Y[,Z]]   default 1
  --shared BYTES    dynamic shared memory
  --print N         values shown of each output buffer (default 8)
  --counters        prints the counters as JSON
Arguments, one for each parameter of the kernel:
  TYPE:VALUE         a number; TYPE is u8, s8, u16, s16, u32, s32, u64, s64, f32 or f64
  TYPE[N]            a buffer of N elements that nobody wrote; shown at the end
  TYPE[N]:zero       the same, zeros
  TYPE[N]:index      0, 1, 2, ...
  TYPE[N]:random     numbers of the seed: -1 to 1, integers 0 to 99
  TYPE:@FILE         a buffer with the bytes of a file
Faults are reported on stderr; the exit status is then 86. The environment variables SOFTWARE_GPU_*
are described in docs/software-gpu.md.
)";

[[noreturn]] static void refuse(const std::string &message) {
  std::cerr << "software-gpu-run: " << message << "\n";
  std::exit(2);
}

static Dim3 parseDim(const std::string &option, const std::string &text) {
  Dim3 d;
  char rest = 0;
  int n = std::sscanf(text.c_str(), "%u,%u,%u%c", &d.x, &d.y, &d.z, &rest);
  if (n < 1 || n > 3)
    refuse(option + " " + text + ": expected X, X,Y or X,Y,Z");
  if (n < 3)
    d.z = 1;
  if (n < 2)
    d.y = 1;
  return d;
}

static unsigned sizeOf(const std::string &type) {
  static const std::pair<const char *, unsigned> sizes[] = {
      {"u8", 1},  {"s8", 1},  {"u16", 2}, {"s16", 2}, {"u32", 4},
      {"s32", 4}, {"u64", 8}, {"s64", 8}, {"f32", 4}, {"f64", 8}};
  for (auto [name, size] : sizes)
    if (type == name)
      return size;
  refuse("type " + type + ": expected u8, s8, u16, s16, u32, s32, u64, s64, f32 or f64");
}

/// The bytes of a number of a type.
static std::vector<uint8_t> bytesOf(const std::string &type, double real, int64_t whole) {
  std::vector<uint8_t> bytes(sizeOf(type));
  if (type == "f32") {
    float f = float(real);
    std::memcpy(bytes.data(), &f, 4);
  } else if (type == "f64") {
    std::memcpy(bytes.data(), &real, 8);
  } else {
    std::memcpy(bytes.data(), &whole, bytes.size());
  }
  return bytes;
}

static std::string show(const std::string &type, const uint8_t *from) {
  std::ostringstream out;
  if (type == "f32") {
    float f;
    std::memcpy(&f, from, 4);
    out << f;
  } else if (type == "f64") {
    double f;
    std::memcpy(&f, from, 8);
    out << f;
  } else {
    uint64_t u = 0;
    unsigned size = sizeOf(type);
    std::memcpy(&u, from, size);
    if (type[0] == 's')
      out << (int64_t(u << (64 - 8 * size)) >> (64 - 8 * size));
    else
      out << u;
  }
  return out.str();
}

int main(int argc, char **argv) {
  try {
    std::vector<std::string> args(argv + 1, argv + argc);
    if (args.empty() || args[0] == "--help" || args[0] == "-h") {
      std::cout << usage;
      return args.empty() ? 2 : 0;
    }
    Options options = Options::fromEnvironment();
    Reporter reporter(options, true);
    DeviceMemory memory(0, options, reporter);
    std::ifstream file(args[0], std::ios::binary);
    if (!file)
      refuse("cannot read " + args[0]);
    std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    const Chip &chip = *Chip::find(options.chip);
    auto module = Module::load(text, args[0], chip, memory, options, reporter);
    if (args.size() == 1) {
      for (const std::string &name : module->kernels())
        std::cout << name << "\n";
      return 0;
    }
    const KernelInfo *info = module->kernel(args[1]);
    if (!info)
      refuse(args[0] + " has no kernel " + args[1]);
    LaunchConfig config;
    config.seed = options.seed;
    config.work.id = 1;
    config.parameters.resize(info->paramBytes);
    config.block = info->requiredBlock.x ? info->requiredBlock : Dim3{};
    unsigned print = 8;
    bool counters = false;
    struct Buffer {
      std::string type;
      uint64_t address, count;
    };
    std::vector<Buffer> buffers;
    size_t parameter = 0;
    Random random(options.seed);
    for (size_t i = 2; i < args.size(); ++i) {
      const std::string &a = args[i];
      auto value = [&]() -> const std::string & {
        if (i + 1 == args.size())
          refuse(a + " expects a value");
        return args[++i];
      };
      if (a == "--grid") {
        config.grid = parseDim(a, value());
      } else if (a == "--block") {
        config.block = parseDim(a, value());
      } else if (a == "--cluster") {
        config.cluster = parseDim(a, value());
      } else if (a == "--shared") {
        config.dynamicShared = config.maxDynamicShared = uint32_t(std::stoul(value()));
      } else if (a == "--print") {
        print = unsigned(std::stoul(value()));
      } else if (a == "--counters") {
        counters = true;
      } else if (a.starts_with("--")) {
        refuse("unknown option " + a);
      } else {
        if (parameter == info->paramOffsets.size())
          refuse("more arguments than the " + std::to_string(parameter) + " parameters of " +
                 args[1]);
        size_t bracket = a.find('['), colon = a.find(':');
        std::vector<uint8_t> bytes;
        if (bracket == a.npos && colon == a.npos)
          refuse("argument " + a + ": expected TYPE:VALUE, TYPE[N] or TYPE:@FILE");
        std::string type = a.substr(0, std::min(bracket, colon));
        unsigned size = sizeOf(type);
        bool fromFile = colon != a.npos && a.size() > colon + 1 && a[colon + 1] == '@';
        if (bracket != a.npos || fromFile) {
          std::vector<uint8_t> data;
          uint64_t count = 0;
          std::string fill = colon == a.npos ? "" : a.substr(colon + 1);
          if (fromFile) {
            std::ifstream in(fill.substr(1), std::ios::binary);
            if (!in)
              refuse("cannot read " + fill.substr(1));
            data.assign(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
            count = data.size() / size;
          } else {
            count = std::stoull(a.substr(bracket + 1));
            for (uint64_t n = 0; n < count && !fill.empty(); ++n) {
              double unit = double(random.next() >> 11) / double(uint64_t(1) << 53);
              std::vector<uint8_t> one;
              if (fill == "zero")
                one = bytesOf(type, 0, 0);
              else if (fill == "index")
                one = bytesOf(type, double(n), int64_t(n));
              else if (fill == "random")
                one = bytesOf(type, 2 * unit - 1, int64_t(unit * 100));
              else
                refuse("argument " + a + ": expected zero, index or random");
              data.insert(data.end(), one.begin(), one.end());
            }
          }
          uint64_t address = memory.allocate(count * size, "argument " + a);
          if (!address)
            refuse("argument " + a + ": does not fit into the memory of the device");
          memory.setKeep(address);
          Access access;
          access.write = true;
          if (!data.empty())
            memory.write(address, data.size(), data.data(), access, {});
          buffers.push_back({type, address, count});
          bytes.resize(8);
          std::memcpy(bytes.data(), &address, 8);
        } else {
          std::string number = a.substr(colon + 1);
          bytes = bytesOf(type, std::stod(number),
                          type[0] == 'f' ? 0 : int64_t(std::stoll(number, nullptr, 0)));
        }
        if (bytes.size() != info->paramSizes[parameter])
          refuse("argument " + a + " has " + std::to_string(bytes.size()) + " bytes, parameter " +
                 std::to_string(parameter) + " of " + args[1] + " has " +
                 std::to_string(info->paramSizes[parameter]));
        std::memcpy(config.parameters.data() + info->paramOffsets[parameter++], bytes.data(),
                    bytes.size());
      }
    }
    if (parameter != info->paramOffsets.size())
      refuse(args[1] + " has " + std::to_string(info->paramOffsets.size()) + " parameters, got " +
             std::to_string(parameter) + " arguments");
    LaunchResult result = module->run(args[1], config);
    if (print)
      for (const Buffer &b : buffers) {
        std::cout << b.type << "[" << b.count << "]:";
        for (uint64_t n = 0; n < std::min<uint64_t>(b.count, print); ++n) {
          unsigned size = sizeOf(b.type);
          if (!memory.written(b.address + n * size, size)) {
            std::cout << " ?";
            continue;
          }
          uint8_t one[8];
          memory.read(b.address + n * size, size, one, Access{}, DeviceMemory::PlaceOf());
          std::cout << " " << show(b.type, one);
        }
        std::cout << (b.count > print ? " ...\n" : "\n");
      }
    if (counters)
      std::cout << result.counters.toJson() << "\n";
    return reporter.finish();
  } catch (const std::exception &e) {
    std::cerr << "software-gpu-run: " << e.what() << "\n";
    return 2;
  }
}
