//===- Draw.h - Draws kernels in LLVM IR ---------------------------*- C++ -*-===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Text of LLVM IR without undefined behaviour, whose results are the same on every machine: no
// poison (shifts within the width, divisors that are not zero), no choice of NaN bits (a float is never
// looked at as bits), operations that LLVM defines for signed zeros.
//===----------------------------------------------------------------------===//
#ifndef SGPU_TEST_LLVMIR_DRAW_H
#define SGPU_TEST_LLVMIR_DRAW_H

#include "Support/Random.h"

#include <map>
#include <string>
#include <vector>

namespace sgpu::llvmir {

/// Words that every thread reads, and that it writes: see kernels().
constexpr int integersIn = 6, floatsIn = 4, integersOut = 8, floatsOut = 4, counters = 16;

class Draw {
public:
  explicit Draw(uint64_t seed) : random(seed) {}

  /// A module with `count` functions for the host,
  ///   void body<i>(i32 tid, ptr integers, ptr doubles, ptr out, ptr doublesOut, ptr counters),
  /// of which each thread reads and writes its own i64 and double words, and adds to 16 shared i32
  /// counters. `device`: with kernels k<i> of the same parameters but the first, and atomic intrinsics of NVPTX.
  std::string module(int count, bool device) {
    std::string text =
        "@table = internal constant [16 x i32] [i32 7, i32 -3, i32 100, i32 65536, i32 12345, i32 "
        "0, "
        "i32 1, i32 -1, i32 2147483647, i32 -2147483648, i32 99, i32 5, i32 17, i32 255, i32 256, "
        "i32 31]\n"
        "@bytes = internal constant [8 x i8] c\"\\01\\FF\\80\\7F\\00\\10\\AA\\55\"\n";
    for (int i = 0; i < count; ++i)
      text += body(i);
    if (device)
      for (int i = 0; i < count; ++i) {
        std::string n = std::to_string(i);
        text += "define ptx_kernel void @k" + n +
                "(ptr %a, ptr %b, ptr %c, ptr %d, ptr %e) {\n"
                "  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()\n"
                "  %n = call i32 @llvm.nvvm.read.ptx.sreg.ntid.x()\n"
                "  %g = call i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()\n"
                "  %m = mul i32 %g, %n\n  %i = add i32 %m, %t\n"
                "  call void @body" +
                n + "(i32 %i, ptr %a, ptr %b, ptr %c, ptr %d, ptr %e)\n  ret void\n}\n";
      }
    if (!device) // what clang calls for bfloat; older libgcc lack it
      text += "define weak bfloat @__truncsfbf2(float %x) {\n"
              "  %b = bitcast float %x to i32\n  %o = lshr i32 %b, 16\n  %odd = and i32 %o, 1\n"
              "  %r = add i32 %odd, 32767\n  %s = add i32 %b, %r\n  %h = lshr i32 %s, 16\n"
              "  %nan = fcmp uno float %x, 0.0\n  %v = select i1 %nan, i32 32767, i32 %h\n"
              "  %t = trunc i32 %v to i16\n  %y = bitcast i16 %t to bfloat\n  ret bfloat %y\n}\n";
    if (device)
      text += "declare i32 @llvm.nvvm.read.ptx.sreg.tid.x()\ndeclare i32 "
              "@llvm.nvvm.read.ptx.sreg.ntid.x()\n"
              "declare i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()\n";
    for (const auto &[name, declaration] : declared)
      text += declaration + "\n";
    return text;
  }

private:
  using Pool = std::map<std::string, std::vector<std::string>>; ///< values by type
  Random random;
  std::string code, label;
  Pool pool;
  int numbers = 0, depth = 0;
  bool inFunction = false;
  std::map<std::string, std::string> declared;
  std::vector<std::string>
      functions; ///< of the present body: name of i64 (i32, double-free) helpers

  unsigned below(unsigned n) { return random.below(n); }
  template <size_t N> const char *oneOf(const char *const (&list)[N]) { return list[below(N)]; }
  std::string fresh() { return "%v" + std::to_string(numbers++); }
  std::string freshLabel() { return "L" + std::to_string(numbers++); }
  void line(const std::string &s) { code += "  " + s + "\n"; }
  void place(const std::string &l) { code += l + ":\n", label = l; }
  std::string put(const std::string &type, const std::string &expression) {
    std::string v = fresh();
    line(v + " = " + expression);
    pool[type].push_back(v);
    return v;
  }

  static constexpr const char *integers[] = {"i8",  "i16", "i32",  "i32", "i32",
                                             "i64", "i64", "i128", "i1",  "i24"};
  static constexpr const char *floats[] = {"float", "float", "float", "double", "half", "bfloat"};
  static constexpr const char *integerVectors[] = {"<2 x i16>", "<4 x i8>", "<2 x i32>",
                                                   "<4 x i32>", "<2 x i64>"};
  static constexpr const char *floatVectors[] = {"<2 x half>", "<2 x bfloat>", "<2 x float>",
                                                 "<4 x float>", "<2 x double>"};

  static int width(const std::string &type) { return std::stoi(type.substr(1)); }
  static std::string element(const std::string &vector) {
    return vector.substr(5, vector.size() - 6);
  }
  static int count(const std::string &vector) { return vector[1] - '0'; }
  static bool isVector(const std::string &t) { return t[0] == '<'; }
  static bool isFloat(const std::string &t) { return (isVector(t) ? element(t) : t)[0] != 'i'; }
  static std::string suffix(const std::string &t) {
    auto scalar = [](const std::string &s) {
      return s == "half"     ? std::string("f16")
             : s == "bfloat" ? "bf16"
             : s == "float"  ? "f32"
             : s == "double" ? "f64"
                             : s;
    };
    return isVector(t) ? "v" + std::to_string(count(t)) + scalar(element(t)) : scalar(t);
  }

  std::string constant(const std::string &type) {
    if (isVector(type)) {
      std::string s = "<";
      for (int i = 0; i < count(type); ++i)
        s += (i ? ", " : "") + element(type) + " " + constant(element(type));
      return s + ">";
    }
    if (type[0] == 'i') {
      if (type == "i1")
        return below(2) ? "true" : "false";
      static const char *const some[] = {"0", "1", "-1", "2", "7", "3", "63", "100", "-128", "12"};
      return width(type) >= 32 && below(4) == 0 ? std::to_string(int32_t(random.next()))
                                                : oneOf(some);
    }
    static const char *const some[] = {"0.0",  "1.0", "-1.0", "0.5",  "2.0",
                                       "-3.0", "1.5", "-0.0", "64.0", "0.25"};
    return oneOf(some);
  }
  /// A value of the type, made where there is none.
  std::string value(const std::string &type) {
    auto &list = pool[type];
    if (list.empty() || below(12) == 0)
      return list.empty() && below(3) ? make(type) : constant(type);
    // Mostly late ones, so that results hang together.
    size_t n = list.size();
    return below(3) ? list[n - 1 - below(unsigned(std::min<size_t>(n, 4)))]
                    : list[below(unsigned(n))];
  }
  /// A value that is no constant, so that nothing folds away.
  std::string make(const std::string &type) {
    if (isVector(type)) {
      std::string v = "poison";
      for (int i = 0; i < count(type); ++i) {
        std::string e = value(element(type)), next = fresh();
        line(next + " = insertelement " + type + " " + v + ", " + element(type) + " " + e +
             ", i32 " + std::to_string(i));
        v = next;
      }
      pool[type].push_back(v);
      return v;
    }
    if (type[0] == 'i') {
      std::string from = pool["i64"][below(unsigned(pool["i64"].size()))];
      if (type == "i64")
        return from;
      if (width(type) < 64)
        return put(type, "trunc i64 " + from + " to " + type);
      return put(type, std::string(below(2) ? "sext" : "zext") + " i64 " + from + " to " + type);
    }
    std::string from = pool["double"][below(unsigned(pool["double"].size()))];
    if (type == "double")
      return from;
    if (type == "bfloat") { // by way of float: double to bfloat may round twice elsewhere
      std::string f = put("float", "fptrunc double " + from + " to float");
      return put(type, "fptrunc float " + f + " to bfloat");
    }
    return put(type, "fptrunc double " + from + " to " + type);
  }
  std::string intrinsic(const std::string &name, const std::string &result,
                        const std::vector<std::string> &types,
                        const std::vector<std::string> &arguments,
                        const std::string &immediate = "") {
    std::string parameters, list;
    for (size_t i = 0; i < types.size(); ++i) {
      parameters += (i ? ", " : "") + types[i];
      list += (i ? ", " : "") + types[i] + " " + arguments[i];
    }
    if (!immediate.empty())
      parameters += ", i1", list += ", i1 " + immediate;
    declared[name] = "declare " + result + " @" + name + "(" + parameters + ")";
    return "call " + result + " @" + name + "(" + list + ")";
  }

  void integerOp(const std::string &t) {
    int bits = isVector(t) ? width(element(t)) : width(t);
    std::string a = value(t), b = value(t);
    auto amount = [&] { // within the width
      std::string limit;
      int mask = bits == 24 ? 15 : bits - 1;
      if (!isVector(t)) {
        limit = std::to_string(mask);
      } else {
        limit = "<";
        for (int i = 0; i < count(t); ++i)
          limit += (i ? ", " : "") + element(t) + " " + std::to_string(mask);
        limit += ">";
      }
      return put(t, "and " + t + " " + value(t) + ", " + limit);
    };
    bool wide = bits >= 8;
    switch (below(wide ? 17 : 4)) {
    case 0:
    case 1: {
      static const char *const ops[] = {"and", "or", "xor"};
      put(t, std::string(oneOf(ops)) + " " + t + " " + a + ", " + b);
      return;
    }
    case 2:
    case 3:
    case 4: {
      static const char *const ops[] = {"add", "sub", "mul", "add", "sub"};
      put(t, std::string(oneOf(ops)) + " " + t + " " + a + ", " + b);
      return;
    }
    case 5:
    case 6: {
      static const char *const ops[] = {"shl", "lshr", "ashr"};
      const char *op = oneOf(ops);
      std::string s = amount();
      put(t, std::string(op) + " " + t + " " + a + ", " + s);
      return;
    }
    case 7: { // division: neither by 0 nor by -1
      if (isVector(t))
        return;
      static const char *const ops[] = {"udiv", "sdiv", "urem", "srem"};
      std::string small = put(t, "and " + t + " " + b + ", " +
                                     (below(2)    ? "63"
                                      : bits > 16 ? "8191"
                                                  : "15"));
      std::string d = put(t, "or " + t + " " + small + ", 1");
      put(t, std::string(oneOf(ops)) + " " + t + " " + a + ", " + d);
      return;
    }
    case 8: {
      static const char *const ops[] = {"smin", "smax", "umin", "umax"};
      std::string name = "llvm." + std::string(oneOf(ops)) + "." + suffix(t);
      put(t, intrinsic(name, t, {t, t}, {a, b}));
      return;
    }
    case 9: {
      if (bits == 24)
        return;
      static const char *const ops[] = {"fshl", "fshr"};
      std::string name = "llvm." + std::string(oneOf(ops)) + "." + suffix(t);
      put(t, intrinsic(name, t, {t, t, t}, {a, b, value(t)})); // amounts are modulo the width
      return;
    }
    case 10: {
      static const char *const ops[] = {"ctlz", "cttz", "abs"};
      std::string name = "llvm." + std::string(oneOf(ops)) + "." + suffix(t);
      put(t, intrinsic(name, t, {t}, {a}, "false"));
      return;
    }
    case 11: {
      std::string op = below(2) || bits == 8 || bits == 24 ? "ctpop" : "bswap";
      std::string name = "llvm." + op + "." + suffix(t);
      put(t, intrinsic(name, t, {t}, {a}));
      return;
    }
    case 12: {
      std::string name = "llvm.bitreverse." + suffix(t);
      put(t, intrinsic(name, t, {t}, {a}));
      return;
    }
    case 13: {
      static const char *const ops[] = {"sadd.sat", "uadd.sat", "ssub.sat", "usub.sat"};
      std::string name = "llvm." + std::string(oneOf(ops)) + "." + suffix(t);
      put(t, intrinsic(name, t, {t, t}, {a, b}));
      return;
    }
    case 14: {
      if (isVector(t) || bits > 64)
        return;
      static const char *const ops[] = {"uadd", "sadd", "usub", "ssub", "umul", "smul"};
      std::string name = "llvm." + std::string(oneOf(ops)) + ".with.overflow." + suffix(t);
      std::string pair = "{" + t + ", i1}", v = fresh();
      line(v + " = " + intrinsic(name, pair, {t, t}, {a, b}));
      put(t, "extractvalue " + pair + " " + v + ", 0");
      put("i1", "extractvalue " + pair + " " + v + ", 1");
      return;
    }
    case 15: { // high half of a product
      if (isVector(t) || (bits != 32 && bits != 64 && bits != 16))
        return;
      std::string big = "i" + std::to_string(2 * bits);
      const char *extend = below(2) ? "sext" : "zext";
      std::string x = fresh(), y = fresh(), p = fresh(), h = fresh();
      line(x + " = " + extend + " " + t + " " + a + " to " + big);
      line(y + " = " + extend + " " + t + " " + b + " to " + big);
      line(p + " = mul " + big + " " + x + ", " + y);
      line(h + " = lshr " + big + " " + p + ", " + std::to_string(bits));
      put(t, "trunc " + big + " " + h + " to " + t);
      return;
    }
    default: {
      static const char *const ops[] = {"eq", "ne", "slt", "sle", "ugt", "uge", "ult", "sgt"};
      std::string p = isVector(t) ? "<" + std::to_string(count(t)) + " x i1>" : "i1", c = fresh();
      line(c + " = icmp " + oneOf(ops) + " " + t + " " + a + ", " + b);
      if (p == "i1")
        pool["i1"].push_back(c);
      put(t, "select " + p + " " + c + ", " + t + " " + value(t) + ", " + t + " " + b);
      return;
    }
    }
  }
  void floatOp(const std::string &t) {
    std::string a = value(t), b = value(t), e = isVector(t) ? element(t) : t;
    bool narrow = e == "half" || e == "bfloat";
    switch (below(9)) {
    case 0:
    case 1:
    case 2: {
      static const char *const ops[] = {"fadd", "fsub", "fmul"};
      put(t, std::string(oneOf(ops)) + " " + t + " " + a + ", " + b);
      return;
    }
    case 3:
      if (narrow) // fused elsewhere by way of double, which may round twice
        return;
      put(t, intrinsic("llvm.fma." + suffix(t), t, {t, t, t}, {a, b, value(t)}));
      return;
    case 4:
      if (narrow || isVector(t))
        return;
      if (below(3))
        put(t, "fdiv " + t + " " + a + ", " + b);
      else
        put(t, intrinsic("llvm.sqrt." + suffix(t), t, {t}, {a}));
      return;
    case 5: {
      static const char *const ops[] = {"fabs", "floor",     "ceil", "trunc",
                                        "rint", "roundeven", "fabs"};
      std::string op = oneOf(ops);
      if (narrow && op != "fabs")
        return;
      put(t, intrinsic("llvm." + op + "." + suffix(t), t, {t}, {a}));
      return;
    }
    case 6: {
      if (narrow)
        return;
      static const char *const ops[] = {"minimum", "maximum", "minimumnum", "maximumnum"};
      put(t, intrinsic("llvm." + std::string(oneOf(ops)) + "." + suffix(t), t, {t, t}, {a, b}));
      return;
    }
    case 7:
      put(t, "fneg " + t + " " + a);
      return;
    default: {
      static const char *const ops[] = {"oeq", "olt", "ole", "ogt", "une", "ult",
                                        "uno", "ord", "ueq", "one", "uge"};
      std::string p = isVector(t) ? "<" + std::to_string(count(t)) + " x i1>" : "i1", c = fresh();
      line(c + " = fcmp " + oneOf(ops) + " " + t + " " + a + ", " + b);
      if (p == "i1")
        pool["i1"].push_back(c);
      put(t, "select " + p + " " + c + ", " + t + " " + value(t) + ", " + t + " " + b);
      return;
    }
    }
  }
  void conversion() {
    std::string i = oneOf(integers), f = oneOf(floats);
    switch (below(8)) {
    case 0:
    case 1: { // widths
      std::string j = oneOf(integers);
      if (width(i) < width(j))
        put(j, std::string(below(2) ? "zext " : "sext ") + i + " " + value(i) + " to " + j);
      else if (width(i) > width(j))
        put(j, "trunc " + i + " " + value(i) + " to " + j);
      return;
    }
    case 2: { // integer to float; the narrow ones may round twice elsewhere
      if (f == "bfloat" || f == "half" || width(i) > 64 || width(i) == 1)
        return;
      put(f, std::string(below(2) ? "sitofp " : "uitofp ") + i + " " + value(i) + " to " + f);
      return;
    }
    case 3: {
      if (f == "bfloat" || f == "half" || width(i) > 64 || width(i) == 1 || width(i) == 24)
        return;
      std::string name =
          std::string("llvm.fpto") + (below(2) ? "si" : "ui") + ".sat." + i + "." + suffix(f);
      put(i, intrinsic(name, i, {f}, {value(f)}));
      return;
    }
    case 4:
      put("double", "fpext float " + value("float") + " to double");
      put("float", std::string(below(2) ? "fpext half " + value("half")
                                        : "fpext bfloat " + value("bfloat")) +
                       " to float");
      return;
    case 5:
      put("float", "fptrunc double " + value("double") + " to float");
      put("half", std::string("fptrunc ") +
                      (below(2) ? "float " + value("float") : "double " + value("double")) +
                      " to half");
      put("bfloat", "fptrunc float " + value("float") + " to bfloat");
      return;
    case 6: { // out of a vector, and between vectors of one element type
      std::string t = below(2) ? oneOf(integerVectors) : oneOf(floatVectors);
      std::string v = value(t), e = element(t);
      put(e,
          "extractelement " + t + " " + v + ", i32 " + std::to_string(below(unsigned(count(t)))));
      std::string mask;
      for (int k = 0; k < count(t); ++k)
        mask += std::string(k ? ", " : "") + "i32 " + std::to_string(below(unsigned(2 * count(t))));
      put(t, "shufflevector " + t + " " + v + ", " + t + " " + value(t) + ", <" +
                 std::to_string(count(t)) + " x i32> <" + mask + ">");
      std::string w = value(t), index = put("i32", "and i32 " + value("i32") + ", " +
                                                       std::to_string(count(t) - 1));
      put(e, "extractelement " + t + " " + w + ", i32 " + index);
      return;
    }
    default: { // bits of integers
      static const char *const pairs[][2] = {
          {"i32", "<2 x i16>"}, {"i32", "<4 x i8>"},  {"i64", "<2 x i32>"},  {"<4 x i8>", "i32"},
          {"<2 x i16>", "i32"}, {"<2 x i32>", "i64"}, {"i128", "<4 x i32>"}, {"<4 x i32>", "i128"}};
      auto &[from, to] = pairs[below(8)];
      put(to, std::string("bitcast ") + from + " " + value(from) + " to " + to);
    }
    }
  }
  void memory() {
    switch (below(5)) {
    case 0: {
      std::string i = put("i32", "and i32 " + value("i32") + ", 15"), p = fresh();
      line(p + " = getelementptr i32, ptr @table, i32 " + i);
      put("i32", "load i32, ptr " + p);
      return;
    }
    case 1: {
      std::string i = put("i32", "and i32 " + value("i32") + ", 7"), p = fresh();
      line(p + " = getelementptr i8, ptr @bytes, i32 " + i);
      put("i8", "load i8, ptr " + p);
      return;
    }
    case 2:
    case 3: { // the thread's own memory
      std::string t = below(3) ? (below(2) ? oneOf(integers) : oneOf(floats))
                               : (below(2) ? oneOf(integerVectors) : oneOf(floatVectors));
      if (t == "i1" || t == "i24")
        return;
      std::string v = value(t), p = fresh(), i = put("i32", "and i32 " + value("i32") + ", 3");
      std::string stack = isFloat(t) ? "%floats" : "%stack"; // bits of NaN are never looked at
      line(p + " = getelementptr [16 x i8], ptr " + stack + ", i32 " + i);
      line("store " + t + " " + v + ", ptr " + p + ", align " + (below(2) ? "16" : "4"));
      put(t, "load " + t + ", ptr " + p + ", align 4");
      if (!isFloat(t) && below(2)) { // another width of the same bytes
        std::string q = fresh(), k = put("i32", "and i32 " + value("i32") + ", 15");
        line(q + " = getelementptr i32, ptr %stack, i32 " + k);
        if (below(2))
          put("i32", "load i32, ptr " + q + ", align 4");
        else
          put("i16", "load i16, ptr " + q + ", align 2");
      }
      return;
    }
    default: { // counters of all threads: the result is not looked at, so the order does not matter
      static const char *const ops[] = {"add", "sub"};
      if (inFunction) // which has no counters
        return;
      std::string p = fresh(), i = put("i32", "and i32 " + value("i32") + ", 3");
      switch (below(8)) {
      case 0:
        line(p + " = getelementptr i32, ptr %counters, i32 " + i);
        line(fresh() + " = atomicrmw " + oneOf(ops) + " ptr " + p + ", i32 " + value("i32") +
             " monotonic");
        return;
      case 1:
        line(p + " = getelementptr i32, ptr %counters, i32 4");
        line(fresh() + " = atomicrmw umax ptr " + p + ", i32 " + value("i32") + " monotonic");
        return;
      case 2:
        line(p + " = getelementptr i32, ptr %counters, i32 5");
        line(fresh() + " = atomicrmw min ptr " + p + ", i32 " + value("i32") + " monotonic");
        return;
      case 3:
        line(p + " = getelementptr i32, ptr %counters, i32 6");
        line(fresh() + " = atomicrmw or ptr " + p + ", i32 " + value("i32") + " monotonic");
        return;
      case 5:
        line(p + " = getelementptr i32, ptr %counters, i32 7");
        line(fresh() + " = atomicrmw xor ptr " + p + ", i32 " + value("i32") + " monotonic");
        return;
      case 6: { // counts up to a limit, which must be one for all
        line(p + " = getelementptr i32, ptr %counters, i32 10");
        line(fresh() + " = atomicrmw uinc_wrap ptr " + p + ", i32 1000 monotonic");
        return;
      }
      case 4: { // bytes of the thread itself: a loop around compare-and-swap, whose first load is a plain one
        static const char *const byteOps[] = {"add", "sub", "xor", "umax", "min", "nand", "xchg"};
        std::string t = below(2) ? "i8" : "i16";
        line(p + " = getelementptr " + t + ", ptr %own, i32 " + i);
        put(t, std::string("atomicrmw ") + oneOf(byteOps) + " ptr " + p + ", " + t + " " +
                   value(t) + " monotonic");
        return;
      }
      default:
        line(p + " = getelementptr i64, ptr %counters, i32 4");
        line(fresh() + " = atomicrmw add ptr " + p + ", i64 " + value("i64") + " monotonic");
        return;
      }
    }
    }
  }
  /// Runs `inside` on a copy of the pool; what it made does not leave it.
  template <typename F> void scoped(F inside) {
    Pool before = pool;
    ++depth;
    inside();
    --depth;
    pool = std::move(before);
  }
  std::string anyType() {
    switch (below(4)) {
    case 0:
      return oneOf(floats);
    case 1:
      return below(2) ? oneOf(integerVectors) : oneOf(floatVectors);
    default:
      return oneOf(integers);
    }
  }
  void branch() {
    std::vector<std::string> types = {anyType(), anyType(), "i32", "float"};
    std::string c = value("i1"), yes = freshLabel(), no = freshLabel(), end = freshLabel();
    std::string lastYes, lastNo;
    std::vector<std::string> fromYes, fromNo;
    line("br i1 " + c + ", label %" + yes + ", label %" + no);
    auto arm = [&](const std::string &name, std::vector<std::string> &values, std::string &last) {
      scoped([&] {
        place(name);
        statements(2 + below(5));
        for (const std::string &t : types)
          values.push_back(value(t));
        last = label;
        line("br label %" + end);
      });
    };
    arm(yes, fromYes, lastYes);
    arm(no, fromNo, lastNo);
    place(end);
    for (size_t i = 0; i < types.size(); ++i)
      put(types[i], "phi " + types[i] + " [" + fromYes[i] + ", %" + lastYes + "], [" + fromNo[i] +
                        ", %" + lastNo + "]");
  }
  void choice() { // switch, dense enough for a table of branches
    unsigned cases = 4 + below(6);
    std::string of = put("i32", "and i32 " + value("i32") + ", 15"), end = freshLabel(), phi,
                other = freshLabel();
    std::vector<std::string> labels;
    std::string list;
    for (unsigned i = 0; i < cases; ++i) {
      labels.push_back(freshLabel());
      list += " i32 " + std::to_string(i) + ", label %" + labels.back();
    }
    labels.push_back(other);
    line("switch i32 " + of + ", label %" + other + " [" + list + " ]");
    for (size_t i = 0; i < labels.size(); ++i)
      scoped([&] {
        place(labels[i]);
        statements(1 + below(3));
        phi += std::string(i ? ", [" : "[") + value("i64") + ", %" + label + "]";
        line("br label %" + end);
      });
    place(end);
    put("i64", "phi i64 " + phi);
  }
  void loop() {
    std::vector<std::string> types = {anyType(), "i32", oneOf(floats)};
    std::string turns = put("i32", "and i32 " + value("i32") + ", 7"), head = freshLabel(),
                end = freshLabel(), before;
    std::vector<std::string> first, carried, next;
    for (const std::string &t : types)
      first.push_back(value(t)), carried.push_back(fresh()), next.push_back(fresh());
    before = label;
    std::string i = fresh(), step = fresh(), latch = freshLabel();
    line("br label %" + head);
    Pool outside = pool;
    ++depth;
    place(head);
    line(i + " = phi i32 [0, %" + before + "], [" + step + ", %" + latch + "]");
    for (size_t k = 0; k < types.size(); ++k) {
      line(carried[k] + " = phi " + types[k] + " [" + first[k] + ", %" + before + "], [" + next[k] +
           ", %" + latch + "]");
      pool[types[k]].push_back(carried[k]);
    }
    pool["i32"].push_back(i);
    statements(3 + below(5));
    std::vector<std::string> results;
    for (const std::string &t : types)
      results.push_back(value(t));
    line("br label %" + latch);
    place(latch);
    for (size_t k = 0; k < types.size(); ++k)
      line(next[k] + " = select i1 true, " + types[k] + " " + results[k] + ", " + types[k] + " " +
           results[k]);
    line(step + " = add i32 " + i + ", 1");
    std::string c = fresh();
    line(c + " = icmp ult i32 " + i + ", " + turns);
    --depth;
    pool = std::move(outside);
    line("br i1 " + c + ", label %" + head + ", label %" + end);
    place(end);
    for (size_t k = 0; k < types.size(); ++k)
      pool[types[k]].push_back(next[k]);
  }
  void call() {
    if (functions.empty())
      return;
    const std::string &f = functions[below(unsigned(functions.size()))];
    std::string v = fresh(), s = fresh(), t = fresh();
    line(s + " = insertvalue {i8, i64, [3 x i16]} zeroinitializer, i64 " + value("i64") + ", 1");
    line(t + " = insertvalue {i8, i64, [3 x i16]} " + s + ", i16 " + value("i16") + ", 2, 1");
    std::string callee = "@" + f;
    if (below(4) == 0) { // by a pointer that is not known
      callee = fresh();
      line(callee + " = select i1 " + value("i1") + ", ptr @" + f + ", ptr @" +
           functions[below(unsigned(functions.size()))]);
    }
    line(v + " = call {i64, float} " + callee + "(i32 " + value("i32") + ", float " +
         value("float") + ", {i8, i64, [3 x i16]} " + t + ", <4 x float> " + value("<4 x float>") +
         ")");
    put("i64", "extractvalue {i64, float} " + v + ", 0");
    put("float", "extractvalue {i64, float} " + v + ", 1");
  }
  void statements(unsigned n) {
    while (n--) {
      unsigned r = below(40);
      if (r < 13)
        integerOp(below(4) ? oneOf(integers) : oneOf(integerVectors));
      else if (r < 22)
        floatOp(below(3) ? oneOf(floats) : oneOf(floatVectors));
      else if (r < 29)
        conversion();
      else if (r < 33)
        memory();
      else if (r < 35)
        call();
      else if (depth < 3)
        r < 37 ? branch() : r < 39 ? loop() : choice();
    }
  }
  std::string function(const std::string &name) {
    code.clear(), pool.clear(), label = "entry";
    line("%stack = alloca [80 x i8], align 16");
    line("%floats = alloca [80 x i8], align 16");
    line("store <4 x i32> zeroinitializer, ptr %stack"); // all that is read was written
    for (int i = 1; i < 5; ++i) {
      line("%z" + std::to_string(i) + " = getelementptr i8, ptr %stack, i32 " +
           std::to_string(16 * i));
      line("store <4 x i32> zeroinitializer, ptr %z" + std::to_string(i));
    }
    put("i64", "sext i32 %a to i64");
    put("i64", "extractvalue {i8, i64, [3 x i16]} %s, 1");
    put("i16", "extractvalue {i8, i64, [3 x i16]} %s, 2, 1");
    put("double", "fpext float %b to double");
    pool["i32"].push_back("%a"), pool["float"].push_back("%b"), pool["<4 x float>"].push_back("%x");
    depth = 2, inFunction = true;
    statements(6 + below(8));
    depth = 0, inFunction = false;
    std::string v = fresh(), w = fresh();
    line(v + " = insertvalue {i64, float} poison, i64 " + value("i64") + ", 0");
    line(w + " = insertvalue {i64, float} " + v + ", float " + value("float") + ", 1");
    line("ret {i64, float} " + w);
    return "define internal {i64, float} @" + name +
           "(i32 %a, float %b, {i8, i64, [3 x i16]} %s, <4 x float> %x) noinline {\nentry:\n" +
           code + "}\n";
  }
  std::string body(int number) {
    std::string text, name = std::to_string(number);
    declared["llvm.memset.p0.i64"] = "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)";
    functions.clear();
    for (unsigned i = 0; i < 3; ++i) {
      std::string f = "f" + name + "_" + std::to_string(i);
      text += function(f);
      functions.push_back(f);
    }
    code.clear(), pool.clear(), label = "entry";
    line("%stack = alloca [80 x i8], align 16");
    line("%floats = alloca [80 x i8], align 16");
    line("call void @llvm.memset.p0.i64(ptr align 16 %stack, i8 5, i64 80, i1 false)");
    line("%wide = zext i32 %tid to i64");
    line("%owned = mul i64 %wide, " + std::to_string(8 * integersOut));
    line("%own = getelementptr i8, ptr %out, i64 %owned");
    pool["i32"].push_back("%tid");
    auto read = [&](const char *array, const char *type, int count) {
      std::string first = fresh(), base = fresh();
      line(first + " = mul i64 %wide, " + std::to_string(count));
      line(base + " = getelementptr " + type + ", ptr " + array + ", i64 " + first);
      for (int i = 0; i < count; ++i) {
        std::string p = fresh();
        line(p + " = getelementptr " + type + ", ptr " + base + ", i32 " + std::to_string(i));
        put(type, std::string("load ") + type + ", ptr " + p);
      }
    };
    read("%integers", "i64", integersIn);
    read("%doubles", "double", floatsIn);
    for (const char *t : {"i32", "float", "i16", "half", "i8", "bfloat", "i1"})
      make(t), make(t);
    statements(30 + below(40));
    auto write = [&](const char *array, const char *type, int count, auto draw) {
      std::string first = fresh(), base = fresh();
      line(first + " = mul i64 %wide, " + std::to_string(count));
      line(base + " = getelementptr " + type + ", ptr " + array + ", i64 " + first);
      for (int i = 0; i < count; ++i) {
        std::string v = draw(i), p = fresh();
        line(p + " = getelementptr " + type + ", ptr " + base + ", i32 " + std::to_string(i));
        line(std::string("store ") + type + " " + v + ", ptr " + p);
      }
    };
    write("%out", "i64", integersOut, [&](int i) {
      static const char *const types[] = {"i64", "i32",  "i16",      "i8",
                                          "i1",  "i128", "<4 x i8>", "<2 x i16>"};
      std::string t = types[i];
      if (t == "i64") { // all of them
        std::string sum = "0";
        for (const std::string &v : pool["i64"]) {
          std::string r = fresh(), s = fresh();
          line(r + " = mul i64 " + sum + ", 31");
          line(s + " = add i64 " + r + ", " + v);
          sum = s;
        }
        return sum;
      }
      std::string v = pool[t].empty() ? value(t) : pool[t].back(), w = fresh();
      if (isVector(t)) {
        std::string b = fresh();
        line(b + " = bitcast " + t + " " + v + " to i32");
        v = b, t = "i32";
      }
      line(w + " = " + (width(t) > 64 ? "trunc " : "zext ") + t + " " + v + " to i64");
      return w;
    });
    write("%doublesOut", "double", floatsOut, [&](int i) {
      static const char *const types[] = {"double", "float", "half", "bfloat"};
      std::string t = types[i], v = pool[t].empty() ? value(t) : pool[t].back();
      if (t == "double")
        return v;
      std::string w = fresh();
      line(w + " = fpext " + t + " " + v + " to double");
      return w;
    });
    line("ret void");
    return text + "define void @body" + name +
           "(i32 %tid, ptr %integers, ptr %doubles, ptr %out, ptr %doublesOut, ptr %counters) "
           "{\nentry:\n" +
           code + "}\n";
  }
};

} // namespace sgpu::llvmir

#endif
