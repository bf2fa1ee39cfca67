//===- Opcodes.cpp - The table of all forms of all opcodes ------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A row: opcode, suffixes, operands, minimum PTX version (times ten), minimum chip.
// Suffixes: a blank between places, `|` between choices, `?` after a place that may be left out;
// `$name` is a set of `sets` below; a number like m16n8k16 is any shape.
// Operands: letters of OperandKind, `:` and a type (or the index of a type suffix, or `w` for twice
// the width of the first type), `?` after one that may be left out.
// Source: PTX ISA 9.0, chapter 9.7; compared with ptxas (test/Ptx/RoundTripTest.cpp).
//===----------------------------------------------------------------------===//
#include "Ptx/Opcodes.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <unordered_map>

using namespace sgpu::ptx;

namespace {

struct Set {
  std::string_view name, choices;
};
constexpr Set sets[] = {
    {"int", "u16|u32|u64|s16|s32|s64"},
    {"int32", "u32|s32"},
    {"int3264", "u32|u64|s32|s64"},
    {"rnd", "rn|rz|rm|rp"},
    {"f16", "f16|f16x2"},
    {"bf16", "bf16|bf16x2"},
    {"cmp", "eq|ne|lt|le|gt|ge"},
    {"cmpu", "eq|ne|lt|le|gt|ge|lo|ls|hi|hs"},
    {"cmpf", "eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan"},
    {"bool", "and|or|xor"},
    {"b", "b16|b32|b64"},
    {"mem", "b8|b16|b32|b64|u8|u16|u32|u64|s8|s16|s32|s64|f32|f64"},
    {"sem", "relaxed|acquire|release|acq_rel"},
    {"scope", "cta|cluster|gpu|sys"},
    {"ldspace", "const|global|local|param|param::entry|param::func|shared|shared::cta|"
                "shared::cluster"},
    {"stspace", "global|local|param|param::func|shared|shared::cta|shared::cluster"},
    {"memspace", "global|shared|shared::cta|shared::cluster"},
    {"atspace", "global|shared|shared::cta|shared::cluster"},
    {"cta", "shared|shared::cta"},
    {"shared", "shared|shared::cta|shared::cluster"},
    {"l1", "L1::evict_normal|L1::evict_unchanged|L1::evict_first|L1::evict_last|L1::no_allocate"},
    {"l2", "L2::evict_normal|L2::evict_first|L2::evict_last"},
    {"pre", "L2::64B|L2::128B|L2::256B"},
    {"dim", "1d|2d|3d|4d|5d"},
    {"load", "tile|tile::gather4|im2col|im2col::w|im2col::w::128"},
    {"redop", "and|or|xor|add|inc|dec|min|max"},
};

struct Row {
  Opcode opcode;
  const char *suffixes, *operands;
  uint16_t version = 0, sm = 0;
  bool architectureOnly = false;
};

using O = Opcode;
constexpr Row rows[] = {
    // Integer and float arithmetic.
    {O::Add, "sat? s32", "d a a"},
    {O::Add, "$int", "d a a"},
    {O::Add, "u16x2|s16x2", "d a a", 80, 90},
    {O::Add, "cc $int3264", "d a a"},
    {O::Add, "$rnd? ftz? sat? f32", "d a a"},
    {O::Add, "$rnd? ftz? f32x2", "d a a", 86, 100},
    {O::Add, "$rnd? f64", "d a a"},
    {O::Add, "rn? ftz? sat? $f16", "d a a", 42, 53},
    {O::Add, "rn? $bf16", "d a a", 78, 90},
    {O::Add, "$rnd? sat? f32 f16|bf16", "d a:1 a:0", 86, 100},
    {O::Sub, "sat? s32", "d a a"},
    {O::Sub, "$int", "d a a"},
    {O::Sub, "cc $int3264", "d a a"},
    {O::Sub, "$rnd? ftz? sat? f32", "d a a"},
    {O::Sub, "$rnd? ftz? f32x2", "d a a", 86, 100},
    {O::Sub, "$rnd? f64", "d a a"},
    {O::Sub, "rn? ftz? sat? $f16", "d a a", 42, 53},
    {O::Sub, "rn? $bf16", "d a a", 78, 90},
    {O::Sub, "$rnd? sat? f32 f16|bf16", "d a:1 a:0", 86, 100},
    {O::Addc, "cc? $int3264", "d a a"},
    {O::Subc, "cc? $int3264", "d a a"},
    {O::Mul, "hi|lo $int", "d a a"},
    {O::Mul, "wide u16|u32|s16|s32", "d:w a a"},
    {O::Mul, "$rnd? ftz? sat? f32", "d a a"},
    {O::Mul, "$rnd? ftz? f32x2", "d a a", 86, 100},
    {O::Mul, "$rnd? f64", "d a a"},
    {O::Mul, "rn? ftz? sat? $f16", "d a a", 42, 53},
    {O::Mul, "rn? $bf16", "d a a", 78, 90},
    {O::Mad, "hi|lo $int", "d a a a"},
    {O::Mad, "wide u16|u32|s16|s32", "d:w a a a:w"},
    {O::Mad, "hi sat s32", "d a a a"},
    {O::Mad, "hi|lo cc $int3264", "d a a a"},
    {O::Mad, "$rnd ftz? sat? f32", "d a a a"},
    {O::Mad, "$rnd f64", "d a a a"},
    {O::Madc, "hi|lo cc? $int3264", "d a a a"},
    {O::Mul24, "hi|lo $int32", "d a a"},
    {O::Mad24, "hi|lo $int32", "d a a a"},
    {O::Mad24, "hi sat s32", "d a a a"},
    {O::Sad, "$int", "d a a a"},
    {O::Div, "$int", "d a a"},
    {O::Div, "approx|full ftz? f32", "d a a"},
    {O::Div, "$rnd ftz? f32", "d a a"},
    {O::Div, "$rnd f64", "d a a"},
    {O::Rem, "$int", "d a a"},
    {O::Abs, "s16|s32|s64", "d a"},
    {O::Abs, "ftz? f32", "d a"},
    {O::Abs, "f64", "d a"},
    {O::Abs, "ftz? $f16", "d a", 65, 53},
    {O::Abs, "$bf16", "d a", 70, 80},
    {O::Neg, "s16|s32|s64", "d a"},
    {O::Neg, "ftz? f32", "d a"},
    {O::Neg, "f64", "d a"},
    {O::Neg, "ftz? $f16", "d a", 60, 53},
    {O::Neg, "$bf16", "d a", 70, 80},
    {O::Min, "$int", "d a a"},
    {O::Min, "relu? s16x2", "d a a", 80, 90},
    {O::Min, "u16x2", "d a a", 80, 90},
    {O::Min, "relu s32", "d a a", 80, 90},
    {O::Min, "ftz? f32", "d a a"},
    {O::Min, "ftz? NaN xorsign.abs? f32", "d a a", 70, 80},
    {O::Min, "ftz? xorsign.abs f32", "d a a", 72, 86},
    {O::Min, "ftz? NaN? abs? f32", "d a a a", 88, 100},
    {O::Min, "f64", "d a a"},
    {O::Min, "ftz? NaN? $f16", "d a a", 70, 80},
    {O::Min, "ftz? NaN? xorsign.abs $f16", "d a a", 72, 86},
    {O::Min, "NaN? $bf16", "d a a", 70, 80},
    {O::Min, "NaN? xorsign.abs $bf16", "d a a", 72, 86},
    {O::Max, "$int", "d a a"},
    {O::Max, "relu? s16x2", "d a a", 80, 90},
    {O::Max, "u16x2", "d a a", 80, 90},
    {O::Max, "relu s32", "d a a", 80, 90},
    {O::Max, "ftz? f32", "d a a"},
    {O::Max, "ftz? NaN xorsign.abs? f32", "d a a", 70, 80},
    {O::Max, "ftz? xorsign.abs f32", "d a a", 72, 86},
    {O::Max, "ftz? NaN? abs? f32", "d a a a", 88, 100},
    {O::Max, "f64", "d a a"},
    {O::Max, "ftz? NaN? $f16", "d a a", 70, 80},
    {O::Max, "ftz? NaN? xorsign.abs $f16", "d a a", 72, 86},
    {O::Max, "NaN? $bf16", "d a a", 70, 80},
    {O::Max, "NaN? xorsign.abs $bf16", "d a a", 72, 86},
    {O::Fma, "$rnd ftz? sat? f32", "d a a a"},
    {O::Fma, "$rnd ftz? f32x2", "d a a a", 86, 100},
    {O::Fma, "$rnd f64", "d a a a"},
    {O::Fma, "rn ftz? sat? $f16", "d a a a", 42, 53},
    {O::Fma, "rn ftz? relu $f16", "d a a a", 70, 80},
    {O::Fma, "rn relu? $bf16", "d a a a", 70, 80},
    {O::Fma, "rn oob relu? f16|f16x2|bf16|bf16x2", "d a a a", 81, 90},
    {O::Fma, "$rnd sat? f32 f16|bf16", "d a:1 a:1 a:0", 86, 100},
    {O::Rcp, "approx|rn|rz|rm|rp ftz? f32", "d a"},
    {O::Rcp, "$rnd f64", "d a"},
    {O::Rcp, "approx ftz f64", "d a"},
    {O::Sqrt, "approx|rn|rz|rm|rp ftz? f32", "d a"},
    {O::Sqrt, "$rnd f64", "d a"},
    {O::Rsqrt, "approx ftz? f32", "d a"},
    {O::Rsqrt, "approx ftz? f64", "d a"},
    {O::Sin, "approx ftz? f32", "d a"},
    {O::Cos, "approx ftz? f32", "d a"},
    {O::Lg2, "approx ftz? f32", "d a"},
    {O::Ex2, "approx ftz? f32", "d a"},
    {O::Ex2, "approx $f16", "d a", 70, 75},
    {O::Ex2, "approx ftz $bf16", "d a", 78, 90},
    {O::Tanh, "approx f32", "d a", 70, 75},
    {O::Tanh, "approx $f16", "d a", 70, 75},
    {O::Tanh, "approx $bf16", "d a", 78, 90},
    {O::Testp, "finite|infinite|number|notanumber|normal|subnormal f32|f64", "p a"},
    {O::Copysign, "f32|f64", "d a a"},
    // Bits.
    {O::Popc, "b32|b64", "d:u32 a"},
    {O::Clz, "b32|b64", "d:u32 a"},
    {O::Bfind, "shiftamt? $int3264", "d:u32 a"},
    {O::Fns, "b32", "d a:b32 a:b32 a:s32", 60, 30},
    {O::Brev, "b32|b64", "d a"},
    {O::Bfe, "$int3264", "d a a:u32 a:u32"},
    {O::Bfi, "b32|b64", "d a a a:u32 a:u32"},
    {O::Szext, "clamp|wrap $int32", "d a a:u32", 76, 70},
    {O::Bmsk, "clamp|wrap b32", "d a:u32 a:u32", 76, 70},
    {O::Dp4a, "$int32 $int32", "d:b32 a:0 a:1 a:b32", 50, 61},
    {O::Dp2a, "lo|hi $int32 $int32", "d:b32 a:0 a:1 a:b32", 50, 61},
    {O::And, "pred|b16|b32|b64", "d a a"},
    {O::Or, "pred|b16|b32|b64", "d a a"},
    {O::Xor, "pred|b16|b32|b64", "d a a"},
    {O::Not, "pred|b16|b32|b64", "d a"},
    {O::Cnot, "$b", "d a"},
    {O::Lop3, "b32", "d a a a i", 43, 50},
    {O::Lop3, "and|or b32", "dp a a a i P", 82, 70},
    {O::Shf, "l|r clamp|wrap b32", "d a a a:u32", 31, 32},
    {O::Shl, "$b", "d a a:u32"},
    {O::Shr, "b16|b32|b64|u16|u32|u64|s16|s32|s64", "d a a:u32"},
    {O::Prmt, "b32 f4e|b4e|rc8|ecl|ecr|rc16?", "d a a a:b32"},
    // Comparison and selection.
    {O::Set, "eq|ne u32|s32|f32 $b", "d a:1 a:1"},
    {O::Set, "$cmp u32|s32|f32 s16|s32|s64", "d a:1 a:1"},
    {O::Set, "$cmpu u32|s32|f32 u16|u32|u64", "d a:1 a:1"},
    {O::Set, "$cmpf ftz? u32|s32|f32 f32", "d a:1 a:1"},
    {O::Set, "$cmpf u32|s32|f32 f64", "d a:1 a:1"},
    {O::Set, "eq|ne $bool u32|s32|f32 $b", "d a:1 a:1 P"},
    {O::Set, "$cmp $bool u32|s32|f32 s16|s32|s64", "d a:1 a:1 P"},
    {O::Set, "$cmpu $bool u32|s32|f32 u16|u32|u64", "d a:1 a:1 P"},
    {O::Set, "$cmpf $bool ftz? u32|s32|f32 f32", "d a:1 a:1 P"},
    {O::Set, "$cmpf $bool u32|s32|f32 f64", "d a:1 a:1 P"},
    {O::Set, "$cmpf ftz? f16|u16|s16|u32|s32 f16", "d a:1 a:1", 42, 53},
    {O::Set, "$cmpf $bool ftz? f16|u16|s16|u32|s32 f16", "d a:1 a:1 P", 42, 53},
    {O::Set, "$cmpf bf16|u16|s16|u32|s32 bf16", "d a:1 a:1", 78, 90},
    {O::Set, "$cmpf $bool bf16|u16|s16|u32|s32 bf16", "d a:1 a:1 P", 78, 90},
    {O::Set, "$cmpf ftz? f16x2|u32|s32 f16x2", "d a:1 a:1", 65, 53},
    {O::Set, "$cmpf $bool ftz? f16x2|u32|s32 f16x2", "d a:1 a:1 P", 65, 53},
    {O::Set, "$cmpf bf16x2|u32|s32 bf16x2", "d a:1 a:1", 78, 90},
    {O::Set, "$cmpf $bool bf16x2|u32|s32 bf16x2", "d a:1 a:1 P", 78, 90},
    {O::Setp, "eq|ne $b", "pq a a"},
    {O::Setp, "$cmp s16|s32|s64", "pq a a"},
    {O::Setp, "$cmpu u16|u32|u64", "pq a a"},
    {O::Setp, "$cmpf ftz? f32", "pq a a"},
    {O::Setp, "$cmpf f64", "pq a a"},
    {O::Setp, "eq|ne $bool $b", "pq a a P"},
    {O::Setp, "$cmp $bool s16|s32|s64", "pq a a P"},
    {O::Setp, "$cmpu $bool u16|u32|u64", "pq a a P"},
    {O::Setp, "$cmpf $bool ftz? f32", "pq a a P"},
    {O::Setp, "$cmpf $bool f64", "pq a a P"},
    {O::Setp, "$cmpf ftz? f16", "p a a", 42, 53},
    {O::Setp, "$cmpf $bool ftz? f16", "p a a P", 42, 53},
    {O::Setp, "$cmpf ftz? f16x2", "pq a a", 42, 53},
    {O::Setp, "$cmpf $bool ftz? f16x2", "pq a a P", 42, 53},
    {O::Setp, "$cmpf bf16", "p a a", 78, 90},
    {O::Setp, "$cmpf $bool bf16", "p a a P", 78, 90},
    {O::Setp, "$cmpf bf16x2", "pq a a", 78, 90},
    {O::Setp, "$cmpf $bool bf16x2", "pq a a P", 78, 90},
    {O::Selp, "b16|b32|b64|u16|u32|u64|s16|s32|s64|f32|f64", "d a a P"},
    {O::Slct, "b16|b32|b64|u16|u32|u64|s16|s32|s64|f32|f64 s32", "d a a a:1"},
    {O::Slct, "ftz? b16|b32|b64|u16|u32|u64|s16|s32|s64|f32|f64 f32", "d a a a:1"},
    // Moves and conversions.
    {O::Mov, "pred", "d a"},
    {O::Mov, "b16|b32|b64|u16|u32|u64|s16|s32|s64|f32|f64", "dm M"},
    {O::Mov, "b128", "dm M", 83, 70},
    {O::Cvt, "sat? u8|u16|u32|u64|s8|s16|s32|s64 u8|u16|u32|u64|s8|s16|s32|s64", "D:0 S:1"},
    {O::Cvt, "rni|rzi|rmi|rpi ftz? sat? u8|u16|u32|u64|s8|s16|s32|s64 f32", "D:0 S:1"},
    {O::Cvt, "rni|rzi|rmi|rpi sat? u8|u16|u32|u64|s8|s16|s32|s64 f16|f64", "D:0 S:1"},
    {O::Cvt, "rni|rzi|rmi|rpi u8|u16|u32|u64|s8|s16|s32|s64 bf16", "D:0 S:1", 78, 90},
    {O::Cvt, "$rnd ftz? sat? f32 u8|u16|u32|u64|s8|s16|s32|s64", "D:0 S:1"},
    {O::Cvt, "$rnd sat? f16|f64 u8|u16|u32|u64|s8|s16|s32|s64", "D:0 S:1"},
    {O::Cvt, "$rnd bf16 u8|u16|u32|u64|s8|s16|s32|s64", "D:0 S:1", 78, 90},
    {O::Cvt, "rni|rzi|rmi|rpi? ftz? sat? f32 f32", "D:0 S:1"},
    {O::Cvt, "rni|rzi|rmi|rpi? sat? f16 f16", "D:0 S:1"},
    {O::Cvt, "rni|rzi|rmi|rpi? sat? f64 f64", "D:0 S:1"},
    {O::Cvt, "rni|rzi|rmi|rpi? bf16 bf16", "D:0 S:1", 78, 90},
    {O::Cvt, "ftz? sat? f32 f16", "D:0 S:1"},
    {O::Cvt, "ftz? f32 bf16", "D:0 S:1", 71, 80},
    {O::Cvt, "ftz? sat? f64 f32", "D:0 S:1"},
    {O::Cvt, "sat? f64 f16", "D:0 S:1"},
    {O::Cvt, "f64 bf16", "D:0 S:1", 78, 90},
    {O::Cvt, "$rnd ftz? sat? f16 f32", "D:0 S:1"},
    {O::Cvt, "$rnd ftz? bf16 f32", "D:0 S:1", 70, 80},
    {O::Cvt, "$rnd ftz? sat? f32 f64", "D:0 S:1"},
    {O::Cvt, "$rnd sat? f16 f64", "D:0 S:1"},
    {O::Cvt, "$rnd bf16 f64", "D:0 S:1", 78, 90},
    {O::Cvt, "$rnd f16 bf16", "D:0 S:1", 78, 90},
    {O::Cvt, "$rnd bf16 f16", "D:0 S:1", 78, 90},
    {O::Cvt, "rn|rz relu? satfinite? f16|bf16 f32", "d a:1", 70, 80},
    {O::Cvt, "rn|rz relu? satfinite? f16x2|bf16x2 f32", "d a:f32 a:f32", 70, 80},
    {O::Cvt, "rs relu? satfinite? f16x2|bf16x2 f32", "d a:f32 a:f32 a:b32", 87, 100, true},
    {O::Cvt, "rna satfinite? tf32 f32", "d:b32 a:f32", 70, 80},
    {O::Cvt, "rn|rz relu? satfinite? tf32 f32", "d:b32 a:f32", 78, 90},
    {O::Cvt, "rn satfinite relu? e4m3x2|e5m2x2 f32", "d:b16 a:f32 a:f32", 78, 89},
    {O::Cvt, "rn satfinite relu? e4m3x2|e5m2x2 f16x2", "d:b16 a:b32", 78, 89},
    {O::Cvt, "rn relu? f16x2 e4m3x2|e5m2x2", "d:b32 a:b16", 78, 89},
    {O::CvtPack, "sat u16|s16 s32", "d:u32 a:s32 a:s32", 65, 72},
    {O::CvtPack, "sat u8|s8 s32 b32", "d:u32 a:s32 a:s32 a:u32", 65, 72},
    {O::Isspacep,
     "const|global|local|shared|shared::cta|shared::cluster|param|param::entry|"
     "param::func",
     "p a:b64"},
    {O::Cvta, "const|global|local|shared|shared::cta|shared::cluster|param|param::entry u32|u64",
     "d M"},
    {O::Cvta, "to const|global|local|shared|shared::cta|shared::cluster|param|param::entry u32|u64",
     "d a"},
    {O::Mapa, "shared::cluster? u32|u64", "d M a:u32", 78, 90},
    {O::Getctarank, "shared::cluster? u32|u64", "d:u32 M", 78, 90},
    // Memory.
    {O::Ld, "weak? global? ca|cg|cs|lu|cv? L2::cache_hint? $pre? v2|v4? $mem", "dv m a:b64?"},
    {O::Ld, "weak? global? $l1 L2::cache_hint? $pre? v2|v4? $mem", "dv m a:b64?", 74, 70},
    {O::Ld, "weak? $ldspace ca|cg|cs|lu|cv? v2|v4? $mem", "dv m"},
    {O::Ld, "weak? $ldspace? ca|cg|cs|lu|cv? L2::cache_hint? $pre? b128", "dv m a:b64?", 83, 70},
    {O::Ld, "weak? global? $l1? $l2? L2::cache_hint? $pre? v8 b32|u32|s32|f32", "dv m a:b64?", 88,
     100},
    {O::Ld, "weak? global? $l1? $l2? L2::cache_hint? $pre? v4 b64|u64|s64|f64", "dv m a:b64?", 88,
     100},
    {O::Ld, "volatile $memspace? $pre? v2|v4? $mem", "dv m"},
    {O::Ld, "volatile $memspace? $pre? b128", "dv m", 83, 70},
    {O::Ld, "relaxed|acquire $scope $memspace? $l1? L2::cache_hint? $pre? v2|v4? $mem",
     "dv m a:b64?", 60, 70},
    {O::Ld, "relaxed|acquire $scope $memspace? $l1? L2::cache_hint? $pre? b128", "dv m a:b64?", 83,
     70},
    {O::Ld, "mmio relaxed sys global? $mem", "dv m", 82, 70},
    {O::Ld, "global ca|cg|cs? nc L2::cache_hint? $pre? v2|v4? $mem", "dv m a:b64?"},
    {O::Ld, "global nc $l1 L2::cache_hint? $pre? v2|v4? $mem", "dv m a:b64?", 74, 70},
    {O::Ld, "global nc $l1? L2::cache_hint? $pre? b128", "dv m a:b64?", 83, 70},
    {O::Ldu, "global? v2|v4? $mem", "dv m"},
    {O::St, "weak? global? wb|cg|cs|wt? L2::cache_hint? v2|v4? $mem", "m av a:b64?"},
    {O::St, "weak? global? $l1 L2::cache_hint? v2|v4? $mem", "m av a:b64?", 74, 70},
    {O::St, "weak? $stspace wb|cg|cs|wt? v2|v4? $mem", "m av"},
    {O::St, "weak? $stspace? wb|cg|cs|wt? L2::cache_hint? b128", "m av a:b64?", 83, 70},
    {O::St, "weak? global? $l1? $l2? L2::cache_hint? v8 b32|u32|s32|f32", "m av a:b64?", 88, 100},
    {O::St, "weak? global? $l1? $l2? L2::cache_hint? v4 b64|u64|s64|f64", "m av a:b64?", 88, 100},
    {O::St, "volatile $memspace? v2|v4? $mem", "m av"},
    {O::St, "volatile $memspace? b128", "m av", 83, 70},
    {O::St, "relaxed|release $scope $memspace? $l1? L2::cache_hint? v2|v4? $mem", "m av a:b64?", 60,
     70},
    {O::St, "relaxed|release $scope $memspace? $l1? L2::cache_hint? b128", "m av a:b64?", 83, 70},
    {O::St, "mmio relaxed sys global? $mem", "m av", 82, 70},
    {O::StAsync,
     "weak? shared::cluster? mbarrier::complete_tx::bytes v2|v4? "
     "b32|b64|u32|u64|s32|s64|f32|f64",
     "m av m", 81, 90},
    {O::StBulk, "weak? $cta?", "m a:b64 i", 86, 100},
    {O::Prefetch, "global|local? L1|L2", "m"},
    {O::Prefetch, "global L2::evict_last|L2::evict_normal", "m", 74, 80},
    {O::Prefetch, "const|param? tensormap", "m", 80, 90},
    {O::Prefetchu, "L1", "m"},
    {O::Applypriority, "global? L2::evict_normal", "m i", 74, 80},
    {O::Discard, "global? L2", "m i", 74, 80},
    {O::Createpolicy,
     "fractional L2::evict_last|L2::evict_normal|L2::evict_first|"
     "L2::evict_unchanged L2::evict_first|L2::evict_unchanged? b64",
     "d a:f32?", 74, 80},
    {O::Createpolicy,
     "range global? L2::evict_last|L2::evict_normal|L2::evict_first|"
     "L2::evict_unchanged L2::evict_first|L2::evict_unchanged? b64",
     "d m a:u32 a:u32", 74, 80},
    {O::Atom, "$sem? $scope? $atspace? and|or|xor|exch L2::cache_hint? b32|b64", "d m a a:b64?"},
    {O::Atom, "$sem? $scope? $atspace? cas L2::cache_hint? b32|b64", "d m a a a:b64?"},
    {O::Atom, "$sem? $scope? $atspace? cas L2::cache_hint? b16", "d m a a a:b64?", 63, 70},
    {O::Atom, "$sem? $scope? $atspace? exch L2::cache_hint? b128", "d m a a:b64?", 83, 90},
    {O::Atom, "$sem? $scope? $atspace? cas L2::cache_hint? b128", "d m a a a:b64?", 83, 90},
    {O::Atom, "$sem? $scope? $atspace? add L2::cache_hint? u32|s32|u64|f32|f64", "d m a a:b64?"},
    {O::Atom, "$sem? $scope? $atspace? inc|dec L2::cache_hint? u32", "d m a a:b64?"},
    {O::Atom, "$sem? $scope? $atspace? min|max L2::cache_hint? $int3264", "d m a a:b64?"},
    {O::Atom, "$sem? $scope? $atspace? add noftz L2::cache_hint? $f16", "d m a a:b64?", 62, 70},
    {O::Atom, "$sem? $scope? $atspace? add noftz L2::cache_hint? $bf16", "d m a a:b64?", 78, 90},
    {O::Atom, "$sem? $scope? global add L2::cache_hint? v2|v4 f32", "dv m av a:b64?", 81, 90},
    {O::Atom, "$sem? $scope? global add|min|max noftz L2::cache_hint? v2|v4|v8 f16|bf16",
     "dv m av a:b64?", 81, 90},
    {O::Atom, "$sem? $scope? global add|min|max noftz L2::cache_hint? v2|v4 f16x2|bf16x2",
     "dv m av a:b64?", 81, 90},
    {O::Red, "relaxed|release? $scope? $atspace? and|or|xor L2::cache_hint? b32|b64", "m a a:b64?"},
    {O::Red, "relaxed|release? $scope? $atspace? add L2::cache_hint? u32|s32|u64|f32|f64",
     "m a a:b64?"},
    {O::Red, "relaxed|release? $scope? $atspace? inc|dec L2::cache_hint? u32", "m a a:b64?"},
    {O::Red, "relaxed|release? $scope? $atspace? min|max L2::cache_hint? $int3264", "m a a:b64?"},
    {O::Red, "relaxed|release? $scope? $atspace? add noftz L2::cache_hint? $f16", "m a a:b64?", 62,
     70},
    {O::Red, "relaxed|release? $scope? $atspace? add noftz L2::cache_hint? $bf16", "m a a:b64?", 78,
     90},
    {O::Red, "relaxed|release? $scope? global add L2::cache_hint? v2|v4 f32", "m av a:b64?", 81,
     90},
    {O::Red, "relaxed|release? $scope? global add|min|max noftz L2::cache_hint? v2|v4|v8 f16|bf16",
     "m av a:b64?", 81, 90},
    {O::Red, "relaxed|release? $scope? global add|min|max noftz L2::cache_hint? v2|v4 f16x2|bf16x2",
     "m av a:b64?", 81, 90},
    {O::RedAsync, "relaxed cluster inc|dec shared::cluster? mbarrier::complete_tx::bytes u32",
     "m a m", 81, 90},
    {O::RedAsync, "relaxed cluster min|max shared::cluster? mbarrier::complete_tx::bytes u32|s32",
     "m a m", 81, 90},
    {O::RedAsync, "relaxed cluster and|or|xor shared::cluster? mbarrier::complete_tx::bytes b32",
     "m a m", 81, 90},
    {O::RedAsync, "relaxed cluster add shared::cluster? mbarrier::complete_tx::bytes u32|s32|u64",
     "m a m", 81, 90},
    {O::Alloca, "u32|u64", "d a i?", 73, 52},
    {O::Stacksave, "u32|u64", "d", 73, 52},
    {O::Stackrestore, "u32|u64", "a", 73, 52},
    // Asynchronous copies.
    {O::CpAsync, "ca $cta global L2::cache_hint? $pre?", "m m i a:b32? a:b64?", 70, 80},
    {O::CpAsync, "ca $cta global L2::cache_hint? $pre?", "m m i P a:b64?", 75, 80},
    {O::CpAsync, "cg $cta global L2::cache_hint? $pre?", "m m i a:b32? a:b64?", 70, 80},
    {O::CpAsync, "cg $cta global L2::cache_hint? $pre?", "m m i P a:b64?", 75, 80},
    {O::CpAsyncCommitGroup, "", "", 70, 80},
    {O::CpAsyncWaitGroup, "", "i", 70, 80},
    {O::CpAsyncWaitAll, "", "", 70, 80},
    {O::CpAsyncMbarrierArrive, "noinc? $cta? b64", "m", 70, 80},
    {O::CpAsyncBulk,
     "shared::cluster global mbarrier::complete_tx::bytes multicast::cluster "
     "L2::cache_hint?",
     "m m a:b32 m a:b16 a:b64?", 80, 90},
    {O::CpAsyncBulk, "shared::cluster global mbarrier::complete_tx::bytes L2::cache_hint?",
     "m m a:b32 m a:b64?", 80, 90},
    {O::CpAsyncBulk, "shared::cta global mbarrier::complete_tx::bytes L2::cache_hint?",
     "m m a:b32 m a:b64?", 86, 90},
    {O::CpAsyncBulk, "shared::cluster shared::cta mbarrier::complete_tx::bytes", "m m a:b32 m", 80,
     90},
    {O::CpAsyncBulk, "global shared::cta bulk_group L2::cache_hint?", "m m a:b32 a:b64?", 80, 90},
    {O::CpAsyncBulk, "global shared::cta bulk_group L2::cache_hint? cp_mask",
     "m m a:b32 a:b64? a:b16", 86, 100},
    {O::CpReduceAsyncBulk,
     "shared::cluster shared::cta mbarrier::complete_tx::bytes "
     "and|or|xor b32|s32|u32|s64|u64",
     "m m a:b32 m", 80, 90},
    {O::CpReduceAsyncBulk,
     "shared::cluster shared::cta mbarrier::complete_tx::bytes "
     "add|inc|dec|min|max s32|u32|s64|u64",
     "m m a:b32 m", 80, 90},
    {O::CpReduceAsyncBulk,
     "global shared::cta bulk_group L2::cache_hint? and|or|xor "
     "b32|b64",
     "m m a:b32 a:b64?", 80, 90},
    {O::CpReduceAsyncBulk,
     "global shared::cta bulk_group L2::cache_hint? add|inc|dec|min|max "
     "s32|u32|s64|u64|f32|f64",
     "m m a:b32 a:b64?", 80, 90},
    {O::CpReduceAsyncBulk, "global shared::cta bulk_group L2::cache_hint? min|max f16|bf16",
     "m m a:b32 a:b64?", 80, 90},
    {O::CpReduceAsyncBulk, "global shared::cta bulk_group L2::cache_hint? add noftz f16|bf16",
     "m m a:b32 a:b64?", 80, 90},
    {O::CpAsyncBulkPrefetch, "L2 global L2::cache_hint?", "m a:b32 a:b64?", 80, 90},
    {O::CpAsyncBulkTensor,
     "$dim shared::cluster global $load? mbarrier::complete_tx::bytes "
     "multicast::cluster L2::cache_hint?",
     "m t m v? a:b16 a:b64?", 80, 90},
    {O::CpAsyncBulkTensor,
     "$dim shared::cluster global $load? mbarrier::complete_tx::bytes "
     "L2::cache_hint?",
     "m t m v? a:b64?", 80, 90},
    {O::CpAsyncBulkTensor,
     "$dim shared::cta global $load? mbarrier::complete_tx::bytes "
     "L2::cache_hint?",
     "m t m v? a:b64?", 86, 90},
    {O::CpAsyncBulkTensor,
     "$dim global shared::cta tile|im2col_no_offs|tile::scatter4? bulk_group "
     "L2::cache_hint?",
     "t m a:b64?", 80, 90},
    {O::CpAsyncBulkTensor,
     "$dim shared::cluster|shared::cta global $load? "
     "mbarrier::complete_tx::bytes multicast::cluster? cta_group::1|"
     "cta_group::2 L2::cache_hint?",
     "m t m v? a:b16? a:b64?", 86, 100, true},
    {O::CpReduceAsyncBulkTensor,
     "$dim global shared::cta $redop tile|im2col_no_offs? bulk_group "
     "L2::cache_hint?",
     "t m a:b64?", 80, 90},
    {O::CpAsyncBulkPrefetchTensor, "$dim L2 global $load? L2::cache_hint?", "t v? a:b64?", 80, 90},
    {O::CpAsyncBulkCommitGroup, "", "", 80, 90},
    {O::CpAsyncBulkWaitGroup, "read?", "i", 80, 90},
    {O::MultimemLdReduce,
     "weak|relaxed|acquire? $scope? global? add|min|max|and|or|xor "
     "u32|s32|u64|s64|b32|b64|f32|f64",
     "d m", 81, 90},
    {O::MultimemLdReduce,
     "weak|relaxed|acquire? $scope? global? add|min|max acc::f32? v2|v4|v8? "
     "f16|bf16|f16x2|bf16x2",
     "dv m", 81, 90},
    {O::MultimemLdReduce, "weak|relaxed|acquire? $scope? global? add v2|v4 f32", "dv m", 81, 90},
    {O::MultimemSt,
     "weak|relaxed|release? $scope? global? v2|v4|v8? "
     "u32|s32|u64|s64|b32|b64|f32|f64|f16|bf16|f16x2|bf16x2",
     "m av", 81, 90},
    {O::MultimemRed,
     "relaxed|release? $scope? global? add|min|max|and|or|xor v2|v4|v8? "
     "u32|s32|u64|s64|b32|b64|f32|f64|f16|bf16|f16x2|bf16x2",
     "m av", 81, 90},
    {O::TensormapReplace, "tile global_address global|shared::cta? b1024 b64", "m a:b64", 83, 90,
     true},
    {O::TensormapReplace, "tile rank global|shared::cta? b1024 b32", "m a:b32", 83, 90, true},
    {O::TensormapReplace, "tile box_dim|global_dim|element_stride global|shared::cta? b1024 b32",
     "m i a:b32", 83, 90, true},
    {O::TensormapReplace, "tile global_stride global|shared::cta? b1024 b64", "m i a:b64", 83, 90,
     true},
    {O::TensormapReplace,
     "tile elemtype|interleave_layout|swizzle_mode|swizzle_atomicity|fill_mode "
     "global|shared::cta? b1024 b32",
     "m i", 83, 90, true},
    {O::TensormapCpFenceproxy, "global shared::cta tensormap::generic release $scope sync aligned",
     "m m i", 83, 90},
    // Barriers, fences, mbarriers.
    {O::Bar, "cta? sync", "a:b32 a:b32?"},
    {O::Bar, "cta? arrive", "a:b32 a:b32"},
    {O::Bar, "cta? red popc u32", "d a:b32 a:b32? P"},
    {O::Bar, "cta? red and|or pred", "p a:b32 a:b32? P"},
    {O::Barrier, "cta? sync aligned?", "a:b32 a:b32?", 60, 30},
    {O::Barrier, "cta? arrive aligned?", "a:b32 a:b32", 60, 30},
    {O::Barrier, "cta? red popc aligned? u32", "d a:b32 a:b32? P", 60, 30},
    {O::Barrier, "cta? red and|or aligned? pred", "p a:b32 a:b32? P", 60, 30},
    {O::BarWarpSync, "", "a:b32", 60, 30},
    {O::BarrierCluster, "arrive release|relaxed? aligned?", "", 78, 90},
    {O::BarrierCluster, "wait acquire? aligned?", "", 78, 90},
    {O::Membar, "cta|gl|sys", ""},
    {O::MembarProxy, "alias", "", 75, 70},
    {O::Fence, "sc|acq_rel $scope", "", 60, 70},
    {O::Fence, "acquire|release $scope", "", 86, 70},
    {O::Fence, "acquire sync_restrict::shared::cluster cluster", "", 86, 90},
    {O::Fence, "release sync_restrict::shared::cta cluster", "", 86, 90},
    {O::FenceMbarrierInit, "release cluster", "", 80, 90},
    {O::FenceProxy, "alias", "", 75, 70},
    {O::FenceProxy, "async|async.global|async.shared::cta|async.shared::cluster", "", 80, 90},
    {O::FenceProxy, "tensormap::generic release $scope", "", 83, 90},
    {O::FenceProxy, "tensormap::generic acquire $scope", "m i", 83, 90},
    {O::FenceProxy, "async::generic acquire sync_restrict::shared::cluster cluster", "", 86, 90},
    {O::FenceProxy, "async::generic release sync_restrict::shared::cta cluster", "", 86, 90},
    {O::MbarrierInit, "$cta? b64", "m a:b32", 70, 80},
    {O::MbarrierInval, "$cta? b64", "m", 70, 80},
    {O::MbarrierExpectTx, "relaxed? cta|cluster? $shared? b64", "m a:b32", 80, 90},
    {O::MbarrierCompleteTx, "relaxed? cta|cluster? $shared? b64", "m a:b32", 80, 90},
    {O::MbarrierArrive, "release|relaxed? cta|cluster? $cta? b64", "d m a:b32?", 70, 80},
    {O::MbarrierArrive, "release|relaxed? cta|cluster? shared::cluster b64", "d m a:b32?", 80, 90},
    {O::MbarrierArrive, "expect_tx release|relaxed? cta|cluster? $shared? b64", "d m a:b32", 80,
     90},
    {O::MbarrierArrive, "noComplete release? cta? $cta? b64", "d m a:b32", 70, 80},
    {O::MbarrierArriveDrop, "release|relaxed? cta|cluster? $cta? b64", "d m a:b32?", 70, 80},
    {O::MbarrierArriveDrop, "release|relaxed? cta|cluster? shared::cluster b64", "d m a:b32?", 80,
     90},
    {O::MbarrierArriveDrop, "expect_tx release|relaxed? cta|cluster? $shared? b64", "d m a:b32", 80,
     90},
    {O::MbarrierArriveDrop, "noComplete release? cta? $cta? b64", "d m a:b32", 70, 80},
    {O::MbarrierTestWait, "acquire|relaxed? cta|cluster? $cta? b64", "p m a:b64", 70, 80},
    {O::MbarrierTestWait, "parity acquire|relaxed? cta|cluster? $cta? b64", "p m a:b32", 71, 80},
    {O::MbarrierTryWait, "acquire|relaxed? cta|cluster? $cta? b64", "p m a:b64 a:b32?", 78, 90},
    {O::MbarrierTryWait, "parity acquire|relaxed? cta|cluster? $cta? b64", "p m a:b32 a:b32?", 78,
     90},
    {O::MbarrierPendingCount, "b64", "d:b32 a:b64", 70, 80},
    // Threads of a warp.
    {O::Shfl, "sync up|down|bfly|idx b32", "dp a a:b32 a:b32 a:b32", 60, 30},
    {O::Vote, "sync all|any|uni pred", "p P a:b32", 60, 30},
    {O::Vote, "sync ballot b32", "d P a:b32", 60, 30},
    {O::Match, "any sync b32|b64", "d:b32 a a:b32", 60, 70},
    {O::Match, "all sync b32|b64", "dp:b32 a a:b32", 60, 70},
    {O::Activemask, "b32", "d", 62, 30},
    {O::ElectSync, "", "dp:b32 a:b32", 80, 90},
    {O::Redux, "sync add|min|max $int32", "d a a:b32", 70, 80},
    {O::Redux, "sync and|or|xor b32", "d a a:b32", 70, 80},
    {O::Redux, "sync min|max abs? NaN? f32", "d a a:b32", 86, 100, true},
    {O::GriddepcontrolLaunchDependents, "", "", 78, 90},
    {O::GriddepcontrolWait, "", "", 78, 90},
    // Matrices.
    {O::Movmatrix, "sync aligned m8n8 trans b16", "d:b32 a:b32", 78, 75},
    {O::Ldmatrix, "sync aligned m8n8 x1|x2|x4 trans? $cta? b16", "x m", 65, 75},
    {O::Stmatrix, "sync aligned m8n8 x1|x2|x4 trans? $cta? b16", "m x", 78, 90},
    {O::Mma, "sync aligned m8n8k4 row|col row|col f16|f32 f16 f16 f16|f32", "x x x x", 64, 70},
    {O::Mma, "sync aligned m8n8k4 row col f64 f64 f64 f64", "x x x x", 70, 80},
    {O::Mma, "sync aligned m8n8k4 row col $rnd f64 f64 f64 f64", "x x x x", 70, 80},
    {O::Mma, "sync aligned m16n8k8 row col f16|f32 f16 f16 f16|f32", "x x x x", 65, 75},
    {O::Mma, "sync aligned m16n8k8 row col $rnd? f64 f64 f64 f64", "x x x x", 78, 90},
    {O::Mma, "sync aligned m16n8k8 row col f32 bf16|tf32 bf16|tf32 f32", "x x x x", 70, 80},
    {O::Mma, "sync aligned m16n8k8 row col f32 f16 f16 f32", "x x x x", 65, 75},
    {O::Mma, "sync aligned m16n8k16 row col f16|f32 f16 f16 f16|f32", "x x x x", 70, 80},
    {O::Mma, "sync aligned m16n8k16 row col f32 bf16 bf16 f32", "x x x x", 70, 80},
    {O::Mma, "sync aligned m16n8k16 row col $rnd? f64 f64 f64 f64", "x x x x", 78, 90},
    {O::Mma, "sync aligned m16n8k16 row col f16|f32 e4m3|e5m2 e4m3|e5m2 f16|f32", "x x x x", 87,
     89},
    {O::Mma, "sync aligned m16n8k4 row col f32 tf32 tf32 f32", "x x x x", 70, 80},
    {O::Mma, "sync aligned m16n8k4 row col $rnd? f64 f64 f64 f64", "x x x x", 78, 90},
    {O::Mma, "sync aligned m16n8k32 row col f32 e4m3|e5m2 e4m3|e5m2 f32", "x x x x", 84, 89},
    {O::Mma, "sync aligned m16n8k32 row col f16 e4m3|e5m2 e4m3|e5m2 f16", "x x x x", 87, 89},
    {O::Mma, "sync aligned m8n8k16 row col satfinite? s32 u8|s8 u8|s8 s32", "x x x x", 65, 75},
    {O::Mma, "sync aligned m16n8k16 row col satfinite? s32 u8|s8 u8|s8 s32", "x x x x", 70, 80},
    {O::Mma, "sync aligned m16n8k32 row col satfinite? s32 u8|s8 u8|s8 s32", "x x x x", 70, 80},
    {O::Mma, "sync aligned m8n8k32 row col satfinite? s32 u4|s4 u4|s4 s32", "x x x x", 65, 75},
    {O::Mma, "sync aligned m16n8k32 row col satfinite? s32 u4|s4 u4|s4 s32", "x x x x", 70, 80},
    {O::Mma, "sync aligned m16n8k64 row col satfinite? s32 u4|s4 u4|s4 s32", "x x x x", 70, 80},
    {O::Mma, "sync aligned m8n8k128 row col s32 b1 b1 s32 xor|and popc", "x x x x", 70, 75},
    {O::Mma, "sync aligned m16n8k128 row col s32 b1 b1 s32 xor|and popc", "x x x x", 70, 80},
    {O::Mma, "sync aligned m16n8k256 row col s32 b1 b1 s32 xor|and popc", "x x x x", 70, 80},
    {O::Mma, "sp|sp::ordered_metadata sync aligned m16n8k16 row col f16|f32 f16 f16 f16|f32",
     "x x x x a:b32 i", 71, 80},
    {O::Mma, "sp|sp::ordered_metadata sync aligned m16n8k32 row col f16|f32 f16 f16 f16|f32",
     "x x x x a:b32 i", 71, 80},
    {O::Mma, "sp|sp::ordered_metadata sync aligned m16n8k16 row col f32 bf16|tf32 bf16|tf32 f32",
     "x x x x a:b32 i", 71, 80},
    {O::Mma, "sp|sp::ordered_metadata sync aligned m16n8k32 row col f32 bf16 bf16 f32",
     "x x x x a:b32 i", 71, 80},
    {O::Mma, "sp|sp::ordered_metadata sync aligned m16n8k8 row col f32 tf32 tf32 f32",
     "x x x x a:b32 i", 71, 80},
    {O::Mma, "sp|sp::ordered_metadata sync aligned m16n8k64 row col f32 e4m3|e5m2 e4m3|e5m2 f32",
     "x x x x a:b32 i", 84, 89},
    {O::Mma, "sp|sp::ordered_metadata sync aligned m16n8k32 row col satfinite? s32 u8|s8 u8|s8 s32",
     "x x x x a:b32 i", 71, 80},
    {O::Mma,
     "sp|sp::ordered_metadata sync aligned m16n8k64 row col satfinite? s32 u8|s8|u4|s4 "
     "u8|s8|u4|s4 s32",
     "x x x x a:b32 i", 71, 80},
    {O::Mma,
     "sp|sp::ordered_metadata sync aligned m16n8k128 row col satfinite? s32 u4|s4 u4|s4 s32",
     "x x x x a:b32 i", 71, 80},
    {O::Mma,
     "sync aligned m16n8k32 row col kind::f8f6f4 f16|f32 e4m3|e5m2|e3m2|e2m3|e2m1 "
     "e4m3|e5m2|e3m2|e2m3|e2m1 f16|f32",
     "x x x x", 87, 120, true},
    {O::Mma,
     "sync aligned m16n8k32|m16n8k64 row col kind::mxf8f6f4|kind::mxf4|kind::mxf4nvf4 "
     "block_scale f32 e4m3|e5m2|e3m2|e2m3|e2m1 e4m3|e5m2|e3m2|e2m3|e2m1 f32 ue8m0|ue4m3",
     "x x x x a:b32 v a:b32 v", 87, 120, true},
    {O::WmmaLoad,
     "a|b sync aligned row|col m16n16k16|m8n32k16|m32n8k16 global|shared|shared::cta? "
     "f16",
     "x m a:b32?", 60, 70},
    {O::WmmaLoad,
     "a|b sync aligned row|col m16n16k16|m8n32k16|m32n8k16 global|shared|shared::cta? "
     "u8|s8",
     "x m a:b32?", 63, 72},
    {O::WmmaLoad,
     "a|b sync aligned row|col m16n16k16|m8n32k16|m32n8k16 global|shared|shared::cta? "
     "bf16",
     "x m a:b32?", 70, 80},
    {O::WmmaLoad, "a|b sync aligned row|col m16n16k8 global|shared|shared::cta? tf32", "x m a:b32?",
     70, 80},
    {O::WmmaLoad, "a|b sync aligned row|col m8n8k4 global|shared|shared::cta? f64", "x m a:b32?",
     70, 80},
    {O::WmmaLoad, "a|b sync aligned row|col m8n8k32 global|shared|shared::cta? u4|s4", "x m a:b32?",
     63, 75},
    {O::WmmaLoad, "a|b sync aligned row|col m8n8k128 global|shared|shared::cta? b1", "x m a:b32?",
     63, 75},
    {O::WmmaLoad,
     "c sync aligned row|col m16n16k16|m8n32k16|m32n8k16|m16n16k8|m8n8k4|m8n8k32|"
     "m8n8k128 global|shared|shared::cta? f16|f32|s32|f64",
     "x m a:b32?", 60, 70},
    {O::WmmaStore,
     "d sync aligned row|col m16n16k16|m8n32k16|m32n8k16|m16n16k8|m8n8k4|m8n8k32|"
     "m8n8k128 global|shared|shared::cta? f16|f32|s32|f64",
     "m x a:b32?", 60, 70},
    {O::WmmaMma,
     "sync aligned row|col row|col m16n16k16|m8n32k16|m32n8k16 satfinite? f16|f32 "
     "f16|f32",
     "x x x x", 60, 70},
    {O::WmmaMma,
     "sync aligned row|col row|col m16n16k16|m8n32k16|m32n8k16 satfinite? s32 u8|s8 "
     "u8|s8 s32",
     "x x x x", 63, 72},
    {O::WmmaMma, "sync aligned row|col row|col m16n16k16|m8n32k16|m32n8k16 f32 bf16 bf16 f32",
     "x x x x", 70, 80},
    {O::WmmaMma, "sync aligned row|col row|col m16n16k8 f32 tf32 tf32 f32", "x x x x", 70, 80},
    {O::WmmaMma, "sync aligned row|col row|col m8n8k4 $rnd? f64 f64 f64 f64", "x x x x", 70, 80},
    {O::WmmaMma, "sync aligned row col m8n8k32 satfinite? s32 u4|s4 u4|s4 s32", "x x x x", 63, 75},
    {O::WmmaMma, "xor|and popc sync aligned row col m8n8k128 s32 b1 b1 s32", "x x x x", 63, 75},
    {O::WgmmaMmaAsync, "sync aligned m64n8k16 f16|f32 f16 f16", "x x a:b64 P i i i i?", 80, 90,
     true},
    {O::WgmmaMmaAsync, "sync aligned m64n8k16 f32 bf16 bf16", "x x a:b64 P i i i i?", 80, 90, true},
    {O::WgmmaMmaAsync, "sync aligned m64n8k8 f32 tf32 tf32", "x x a:b64 P i i", 80, 90, true},
    {O::WgmmaMmaAsync, "sync aligned m64n8k32 f16|f32 e4m3|e5m2 e4m3|e5m2", "x x a:b64 P i i", 80,
     90, true},
    {O::WgmmaMmaAsync, "sync aligned m64n8k32 satfinite? s32 u8|s8 u8|s8", "x x a:b64 P", 80, 90,
     true},
    {O::WgmmaMmaAsync, "sync aligned m64n8k256 s32 b1 b1 and popc", "x x a:b64 P", 80, 90, true},
    {O::WgmmaMmaAsyncSp, "sync aligned m64n8k32 f16|f32 f16 f16", "x x a:b64 a:b32 i P i i i i?",
     82, 90, true},
    {O::WgmmaMmaAsyncSp, "sync aligned m64n8k32 f32 bf16 bf16", "x x a:b64 a:b32 i P i i i i?", 82,
     90, true},
    {O::WgmmaMmaAsyncSp, "sync aligned m64n8k16 f32 tf32 tf32", "x x a:b64 a:b32 i P i i", 82, 90,
     true},
    {O::WgmmaMmaAsyncSp, "sync aligned m64n8k64 f16|f32 e4m3|e5m2 e4m3|e5m2",
     "x x a:b64 a:b32 i P i i", 82, 90, true},
    {O::WgmmaMmaAsyncSp, "sync aligned m64n8k64 satfinite? s32 u8|s8 u8|s8", "x x a:b64 a:b32 i P",
     82, 90, true},
    {O::WgmmaFence, "sync aligned", "", 80, 90, true},
    {O::WgmmaCommitGroup, "sync aligned", "", 80, 90, true},
    {O::WgmmaWaitGroup, "sync aligned", "i", 80, 90, true},
    {O::Setmaxnreg, "inc|dec sync aligned u32", "i", 80, 90, true},
    // Video.
    {O::Vadd, "$int32 $int32 $int32 sat?", "d:0 a:1 a:2"},
    {O::Vadd, "$int32 $int32 $int32 sat? add|min|max", "d:0 a:1 a:2 a:b32"},
    {O::Vsub, "$int32 $int32 $int32 sat?", "d:0 a:1 a:2"},
    {O::Vsub, "$int32 $int32 $int32 sat? add|min|max", "d:0 a:1 a:2 a:b32"},
    {O::Vabsdiff, "$int32 $int32 $int32 sat?", "d:0 a:1 a:2"},
    {O::Vabsdiff, "$int32 $int32 $int32 sat? add|min|max", "d:0 a:1 a:2 a:b32"},
    {O::Vmin, "$int32 $int32 $int32 sat?", "d:0 a:1 a:2"},
    {O::Vmin, "$int32 $int32 $int32 sat? add|min|max", "d:0 a:1 a:2 a:b32"},
    {O::Vmax, "$int32 $int32 $int32 sat?", "d:0 a:1 a:2"},
    {O::Vmax, "$int32 $int32 $int32 sat? add|min|max", "d:0 a:1 a:2 a:b32"},
    {O::Vshl, "$int32 $int32 u32 sat? clamp|wrap", "d:0 a:1 a:2"},
    {O::Vshl, "$int32 $int32 u32 sat? clamp|wrap add|min|max", "d:0 a:1 a:2 a:b32"},
    {O::Vshr, "$int32 $int32 u32 sat? clamp|wrap", "d:0 a:1 a:2"},
    {O::Vshr, "$int32 $int32 u32 sat? clamp|wrap add|min|max", "d:0 a:1 a:2 a:b32"},
    {O::Vmad, "$int32 $int32 $int32 po? sat? shr7|shr15?", "d:0 a:1 a:2 a:b32"},
    {O::Vset, "$int32 $int32 $cmp", "d:b32 a:0 a:1"},
    {O::Vset, "$int32 $int32 $cmp add|min|max", "d:b32 a:0 a:1 a:b32"},
    {O::Vadd2, "$int32 $int32 $int32 sat?", "d:0 a:1 a:2 a:b32"},
    {O::Vadd2, "$int32 $int32 $int32 add", "d:0 a:1 a:2 a:b32"},
    {O::Vsub2, "$int32 $int32 $int32 sat?", "d:0 a:1 a:2 a:b32"},
    {O::Vsub2, "$int32 $int32 $int32 add", "d:0 a:1 a:2 a:b32"},
    {O::Vavrg2, "$int32 $int32 $int32 sat?", "d:0 a:1 a:2 a:b32"},
    {O::Vavrg2, "$int32 $int32 $int32 add", "d:0 a:1 a:2 a:b32"},
    {O::Vabsdiff2, "$int32 $int32 $int32 sat?", "d:0 a:1 a:2 a:b32"},
    {O::Vabsdiff2, "$int32 $int32 $int32 add", "d:0 a:1 a:2 a:b32"},
    {O::Vmin2, "$int32 $int32 $int32 sat?", "d:0 a:1 a:2 a:b32"},
    {O::Vmin2, "$int32 $int32 $int32 add", "d:0 a:1 a:2 a:b32"},
    {O::Vmax2, "$int32 $int32 $int32 sat?", "d:0 a:1 a:2 a:b32"},
    {O::Vmax2, "$int32 $int32 $int32 add", "d:0 a:1 a:2 a:b32"},
    {O::Vset2, "$int32 $int32 $cmp", "d:b32 a:0 a:1 a:b32"},
    {O::Vset2, "$int32 $int32 $cmp add", "d:b32 a:0 a:1 a:b32"},
    {O::Vadd4, "$int32 $int32 $int32 sat?", "d:0 a:1 a:2 a:b32"},
    {O::Vadd4, "$int32 $int32 $int32 add", "d:0 a:1 a:2 a:b32"},
    {O::Vsub4, "$int32 $int32 $int32 sat?", "d:0 a:1 a:2 a:b32"},
    {O::Vsub4, "$int32 $int32 $int32 add", "d:0 a:1 a:2 a:b32"},
    {O::Vavrg4, "$int32 $int32 $int32 sat?", "d:0 a:1 a:2 a:b32"},
    {O::Vavrg4, "$int32 $int32 $int32 add", "d:0 a:1 a:2 a:b32"},
    {O::Vabsdiff4, "$int32 $int32 $int32 sat?", "d:0 a:1 a:2 a:b32"},
    {O::Vabsdiff4, "$int32 $int32 $int32 add", "d:0 a:1 a:2 a:b32"},
    {O::Vmin4, "$int32 $int32 $int32 sat?", "d:0 a:1 a:2 a:b32"},
    {O::Vmin4, "$int32 $int32 $int32 add", "d:0 a:1 a:2 a:b32"},
    {O::Vmax4, "$int32 $int32 $int32 sat?", "d:0 a:1 a:2 a:b32"},
    {O::Vmax4, "$int32 $int32 $int32 add", "d:0 a:1 a:2 a:b32"},
    {O::Vset4, "$int32 $int32 $cmp", "d:b32 a:0 a:1 a:b32"},
    {O::Vset4, "$int32 $int32 $cmp add", "d:b32 a:0 a:1 a:b32"},
    // Control and others.
    {O::Bra, "uni?", "l"},
    {O::BrxIdx, "uni?", "a:u32 T", 60, 30},
    {O::Call, "uni?", "c"},
    {O::Ret, "uni?", ""},
    {O::Exit, "", ""},
    {O::Trap, "", ""},
    {O::Brkpt, "", ""},
    {O::Nanosleep, "u32", "a", 63, 70},
    {O::Pmevent, "mask?", "i"},
};

constexpr uint16_t typeBase = 0x400, spaceBase = 0x800;

/// m16n8k16, m8n8: true and the numbers.
bool parseShape(std::string_view word, Shape &shape) {
  size_t at = 0;
  auto number = [&](char letter, uint16_t &value) {
    if (at >= word.size() || word[at] != letter)
      return false;
    size_t start = ++at;
    unsigned result = 0;
    while (at < word.size() && word[at] >= '0' && word[at] <= '9' && at - start < 4)
      result = result * 10 + unsigned(word[at++] - '0');
    value = uint16_t(result);
    return at > start && word[start] != '0';
  };
  Shape result;
  if (!number('m', result.m) || !number('n', result.n))
    return false;
  if (at < word.size() && !number('k', result.k))
    return false;
  if (at != word.size())
    return false;
  shape = result;
  return true;
}

/// Words of the vocabulary.
struct Vocabulary {
  std::unordered_map<std::string_view, uint16_t> suffixes;
  std::unordered_map<std::string_view, Opcode> opcodes;
  std::vector<std::vector<Form>> forms; // by opcode

  Vocabulary() {
    for (unsigned t = 1; t <= unsigned(Type::Pred); ++t)
      suffixes[nameOf(Type(t))] = uint16_t(typeBase + t);
    for (unsigned s = 1; s <= unsigned(StateSpace::Tex); ++s)
      suffixes[nameOf(StateSpace(s))] = uint16_t(spaceBase + s);
    static constexpr Modifier modifiers[] = {
#define MODIFIER(enumerator, text) Modifier::enumerator,
#include "Ptx/Modifiers.def"
    };
    for (Modifier modifier : modifiers)
      suffixes[nameOf(modifier)] = uint16_t(modifier);
    static constexpr Opcode all[] = {
#define OPCODE(enumerator, text) Opcode::enumerator,
#include "Ptx/Opcodes.def"
    };
    for (Opcode opcode : all)
      opcodes[nameOf(opcode)] = opcode;
    forms.resize(std::size(all) + 1);
    for (const Row &row : rows)
      forms[size_t(row.opcode)].push_back(makeForm(row));
  }

  static std::vector<std::string_view> split(std::string_view text, char separator) {
    std::vector<std::string_view> parts;
    while (!text.empty()) {
      size_t end = text.find(separator);
      if (end != 0)
        parts.push_back(text.substr(0, end));
      if (end == std::string_view::npos)
        break;
      text.remove_prefix(end + 1);
    }
    return parts;
  }

  void addChoices(SuffixPattern &pattern, std::string_view text) const {
    for (std::string_view choice : split(text, '|')) {
      if (choice.starts_with('$')) {
        for (const Set &set : sets)
          if (set.name == choice.substr(1))
            addChoices(pattern, set.choices);
        continue;
      }
      uint16_t code;
      if (auto it = suffixes.find(choice); it != suffixes.end()) {
        code = it->second;
      } else {
        code = uint16_t(Modifier::Shape);
        Shape shape;
        parseShape(choice, shape);
        pattern.shapes.push_back(shape);
      }
      if (code > typeBase && code < spaceBase)
        pattern.isType = true;
      if (std::find(pattern.choices.begin(), pattern.choices.end(), code) == pattern.choices.end())
        pattern.choices.push_back(code);
    }
  }

  Form makeForm(const Row &row) const {
    Form form;
    form.opcode = row.opcode;
    form.minimumVersion = row.version;
    form.minimumSm = row.sm;
    form.architectureOnly = row.architectureOnly;
    form.text = std::string(nameOf(row.opcode));
    if (*row.suffixes)
      form.text += " " + std::string(row.suffixes);
    for (std::string_view word : split(row.suffixes, ' ')) {
      SuffixPattern pattern;
      if (word.ends_with('?')) {
        pattern.optional = true;
        word.remove_suffix(1);
      }
      addChoices(pattern, word);
      form.suffixes.push_back(pattern);
    }
    for (std::string_view word : split(row.operands, ' ')) {
      OperandPattern pattern{};
      if (word.ends_with('?')) {
        pattern.optional = true;
        word.remove_suffix(1);
      }
      std::string_view type;
      if (size_t colon = word.find(':'); colon != std::string_view::npos) {
        type = word.substr(colon + 1);
        word = word.substr(0, colon);
      }
      static constexpr std::pair<std::string_view, OperandKind> kinds[] = {
          {"d", OperandKind::Destination},
          {"a", OperandKind::Source},
          {"D", OperandKind::WideDestination},
          {"A", OperandKind::WideSource},
          {"dp", OperandKind::DestinationOrPair},
          {"dv", OperandKind::VectorDestination},
          {"av", OperandKind::VectorSource},
          {"M", OperandKind::Movable},
          {"dm", OperandKind::MovDestination},
          {"S", OperandKind::Special},
          {"p", OperandKind::PredicateDestination},
          {"pq", OperandKind::PredicatePair},
          {"P", OperandKind::Predicate},
          {"m", OperandKind::Address},
          {"t", OperandKind::TensorAddress},
          {"l", OperandKind::Label},
          {"T", OperandKind::Table},
          {"i", OperandKind::Integer},
          {"x", OperandKind::Registers},
          {"v", OperandKind::IntVector},
          {"c", OperandKind::Call}};
      for (auto &[name, kind] : kinds)
        if (name == word)
          pattern.kind = kind;
      if (type == "w") {
        pattern.doubled = true;
      } else if (type.size() == 1) {
        pattern.typeIndex = int8_t(type[0] - '0');
      } else if (!type.empty()) {
        pattern.typeIndex = -1;
        pattern.fixed = Type(suffixes.at(type) - typeBase);
      }
      form.operands.push_back(pattern);
    }
    return form;
  }
};

const Vocabulary &vocabulary() {
  static const auto *instance = new Vocabulary; // a program may load modules while it ends
  return *instance;
}

} // namespace

std::span<const Form> sgpu::ptx::formsOf(Opcode opcode) {
  return vocabulary().forms[size_t(opcode)];
}

uint16_t sgpu::ptx::suffixCode(const Suffix &suffix) {
  if (suffix.modifier == Modifier::Type)
    return uint16_t(typeBase + unsigned(suffix.type));
  if (suffix.modifier == Modifier::Space)
    return uint16_t(spaceBase + unsigned(suffix.space));
  return uint16_t(suffix.modifier);
}

Suffix sgpu::ptx::suffixOf(uint16_t code) {
  Suffix suffix;
  if (code >= spaceBase) {
    suffix.modifier = Modifier::Space;
    suffix.space = StateSpace(code - spaceBase);
  } else if (code >= typeBase) {
    suffix.type = Type(code - typeBase);
  } else {
    suffix.modifier = Modifier(code);
  }
  return suffix;
}

Opcode sgpu::ptx::findOpcode(std::span<const std::string_view> words, size_t &taken) {
  Opcode best = Opcode::None;
  std::string name;
  taken = 0;
  for (size_t count = 1; count <= std::min<size_t>(words.size(), 5); ++count) {
    if (count > 1)
      name += '.';
    name += words[count - 1];
    auto &opcodes = vocabulary().opcodes;
    if (auto it = opcodes.find(name); it != opcodes.end()) {
      best = it->second;
      taken = count;
    }
  }
  return best;
}

size_t sgpu::ptx::findSuffix(std::span<const std::string_view> words, Suffix &suffix,
                             Shape &shape) {
  auto &suffixes = vocabulary().suffixes;
  if (words.size() > 1) {
    std::string pair = std::string(words[0]) + '.' + std::string(words[1]);
    if (auto it = suffixes.find(pair); it != suffixes.end()) {
      suffix = suffixOf(it->second);
      return 2;
    }
  }
  if (auto it = suffixes.find(words[0]); it != suffixes.end()) {
    suffix = suffixOf(it->second);
    return 1;
  }
  if (parseShape(words[0], shape)) {
    suffix = suffixOf(uint16_t(Modifier::Shape));
    return 1;
  }
  return 0;
}

/// Whether a place for shapes takes the shape; in the rows of wgmma, n8 stands for every n.
static bool shapeFits(const SuffixPattern &pattern, const Instruction &instruction) {
  Shape shape = instruction.shape;
  bool wgmma =
      instruction.opcode == Opcode::WgmmaMmaAsync || instruction.opcode == Opcode::WgmmaMmaAsyncSp;
  if (wgmma && shape.n % 8 == 0 && shape.n >= 8 && shape.n <= 256)
    shape.n = 8;
  return std::find(pattern.shapes.begin(), pattern.shapes.end(), shape) != pattern.shapes.end();
}

bool sgpu::ptx::suffixesFit(const Form &form, const Instruction &instruction) {
  uint64_t used = 0;
  size_t nextType = 0;
  for (const Suffix &suffix : instruction.suffixes) {
    uint16_t code = suffixCode(suffix);
    bool isType = suffix.modifier == Modifier::Type;
    bool found = false;
    for (size_t i = isType ? nextType : 0; i < form.suffixes.size() && !found; ++i) {
      const SuffixPattern &pattern = form.suffixes[i];
      if (isType != pattern.isType || (used >> i & 1))
        continue;
      if (std::find(pattern.choices.begin(), pattern.choices.end(), code) !=
              pattern.choices.end() &&
          (suffix.modifier != Modifier::Shape || shapeFits(pattern, instruction))) {
        used |= uint64_t(1) << i;
        found = true;
        if (isType)
          nextType = i + 1;
      } else if (isType && !pattern.optional) {
        return false;
      }
    }
    if (!found)
      return false;
  }
  for (size_t i = 0; i < form.suffixes.size(); ++i)
    if (!form.suffixes[i].optional && !(used >> i & 1))
      return false;
  return true;
}

Type sgpu::ptx::operandType(const OperandPattern &pattern, const Instruction &instruction) {
  if (pattern.typeIndex < 0)
    return pattern.fixed;
  Type type = instruction.type(size_t(pattern.typeIndex));
  if (!pattern.doubled)
    return type;
  switch (type) {
  case Type::U16:
    return Type::U32;
  case Type::S16:
    return Type::S32;
  case Type::U32:
    return Type::U64;
  case Type::S32:
    return Type::S64;
  default:
    return Type::None;
  }
}
