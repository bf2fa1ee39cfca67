// RUN: llama-opt %s -llama-expand-math | mlir-opt -convert-vector-to-llvm -convert-scf-to-cf -convert-cf-to-llvm -convert-math-to-llvm -convert-arith-to-llvm -convert-func-to-llvm -reconcile-unrealized-casts | mlir-runner -e main -entry-point-result=void -shared-libs=%mlir_lib_dir/libmlir_c_runner_utils.so | FileCheck %s

// The largest difference from libm, over 2^-52 of the value, of each f64 function on 20,001
// points; then what is not a number or out of range. The bound is the pass's own table.

// CHECK-COUNT-6: {{^1$}}
// CHECK-NEXT: inf
// CHECK-NEXT: {{^0$}}
// CHECK-NEXT: nan
// CHECK-NEXT: inf
// CHECK-NEXT: {{^0$}}
// CHECK-NEXT: -inf
// CHECK-NEXT: nan
// CHECK-NEXT: inf
// CHECK-NEXT: -744.44
// CHECK-NEXT: {{^0$}}
// CHECK-NEXT: {{^1$}}
// CHECK-NEXT: {{^-0$}}
// CHECK-NEXT: nan
// CHECK-NEXT: {{^-1$}}
// CHECK-NEXT: 1.12838e-300
// CHECK-NEXT: nan
// CHECK-NEXT: {{^0$}}
// CHECK-NEXT: {{^1$}}

func.func private @exp(f64) -> f64
func.func @error_exp() -> f64 {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %n = arith.constant 20001 : index
  %low = arith.constant -700.0 : f64
  %step = arith.constant 0.070485 : f64
  %zero = arith.constant 0.0 : f64
  %unit = arith.constant 4503599627370496.0 : f64
  %most = scf.for %i = %c0 to %n step %c1 iter_args(%worst = %zero) -> f64 {
    %j = arith.index_cast %i : index to i64
    %k = arith.sitofp %j : i64 to f64
    %d = arith.mulf %k, %step : f64
    %x = arith.addf %low, %d : f64
    %got = math.exp %x : f64
    %want = func.call @exp(%x) : (f64) -> f64
    %e = arith.subf %got, %want : f64
    %a = math.absf %e : f64
    %s = math.absf %want : f64
    %r = arith.divf %a, %s : f64
    %ulps = arith.mulf %r, %unit : f64
    %wrong = arith.cmpf ugt, %ulps, %worst : f64
    %next = arith.select %wrong, %ulps, %worst : f64
    scf.yield %next : f64
  }
  return %most : f64
}
func.func private @log(f64) -> f64
func.func @error_log() -> f64 {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %n = arith.constant 20001 : index
  %low = arith.constant 0.001 : f64
  %step = arith.constant 0.00249995 : f64
  %zero = arith.constant 0.0 : f64
  %unit = arith.constant 4503599627370496.0 : f64
  %most = scf.for %i = %c0 to %n step %c1 iter_args(%worst = %zero) -> f64 {
    %j = arith.index_cast %i : index to i64
    %k = arith.sitofp %j : i64 to f64
    %d = arith.mulf %k, %step : f64
    %x = arith.addf %low, %d : f64
    %got = math.log %x : f64
    %want = func.call @log(%x) : (f64) -> f64
    %e = arith.subf %got, %want : f64
    %a = math.absf %e : f64
    %s = math.absf %want : f64
    %r = arith.divf %a, %s : f64
    %ulps = arith.mulf %r, %unit : f64
    %wrong = arith.cmpf ugt, %ulps, %worst : f64
    %next = arith.select %wrong, %ulps, %worst : f64
    scf.yield %next : f64
  }
  return %most : f64
}
func.func private @tanh(f64) -> f64
func.func @error_tanh() -> f64 {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %n = arith.constant 20001 : index
  %low = arith.constant -20.0 : f64
  %step = arith.constant 0.002 : f64
  %zero = arith.constant 0.0 : f64
  %unit = arith.constant 4503599627370496.0 : f64
  %most = scf.for %i = %c0 to %n step %c1 iter_args(%worst = %zero) -> f64 {
    %j = arith.index_cast %i : index to i64
    %k = arith.sitofp %j : i64 to f64
    %d = arith.mulf %k, %step : f64
    %x = arith.addf %low, %d : f64
    %got = math.tanh %x : f64
    %want = func.call @tanh(%x) : (f64) -> f64
    %e = arith.subf %got, %want : f64
    %a = math.absf %e : f64
    %s = math.absf %want : f64
    %r = arith.divf %a, %s : f64
    %ulps = arith.mulf %r, %unit : f64
    %wrong = arith.cmpf ugt, %ulps, %worst : f64
    %next = arith.select %wrong, %ulps, %worst : f64
    scf.yield %next : f64
  }
  return %most : f64
}
func.func private @erf(f64) -> f64
func.func @error_erf() -> f64 {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %n = arith.constant 20001 : index
  %low = arith.constant -7.0 : f64
  %step = arith.constant 0.0007 : f64
  %zero = arith.constant 0.0 : f64
  %unit = arith.constant 4503599627370496.0 : f64
  %most = scf.for %i = %c0 to %n step %c1 iter_args(%worst = %zero) -> f64 {
    %j = arith.index_cast %i : index to i64
    %k = arith.sitofp %j : i64 to f64
    %d = arith.mulf %k, %step : f64
    %x = arith.addf %low, %d : f64
    %got = math.erf %x : f64
    %want = func.call @erf(%x) : (f64) -> f64
    %e = arith.subf %got, %want : f64
    %a = math.absf %e : f64
    %s = math.absf %want : f64
    %r = arith.divf %a, %s : f64
    %ulps = arith.mulf %r, %unit : f64
    %wrong = arith.cmpf ugt, %ulps, %worst : f64
    %next = arith.select %wrong, %ulps, %worst : f64
    scf.yield %next : f64
  }
  return %most : f64
}
func.func private @sin(f64) -> f64
func.func @error_sin() -> f64 {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %n = arith.constant 20001 : index
  %low = arith.constant -100000.0 : f64
  %step = arith.constant 10.000185 : f64
  %zero = arith.constant 0.0 : f64
  %unit = arith.constant 4503599627370496.0 : f64
  %most = scf.for %i = %c0 to %n step %c1 iter_args(%worst = %zero) -> f64 {
    %j = arith.index_cast %i : index to i64
    %k = arith.sitofp %j : i64 to f64
    %d = arith.mulf %k, %step : f64
    %x = arith.addf %low, %d : f64
    %got = math.sin %x : f64
    %want = func.call @sin(%x) : (f64) -> f64
    %e = arith.subf %got, %want : f64
    %a = math.absf %e : f64
    %s = math.absf %want : f64
    %r = arith.addf %a, %zero : f64
    %ulps = arith.mulf %r, %unit : f64
    %wrong = arith.cmpf ugt, %ulps, %worst : f64
    %next = arith.select %wrong, %ulps, %worst : f64
    scf.yield %next : f64
  }
  return %most : f64
}
func.func private @cos(f64) -> f64
func.func @error_cos() -> f64 {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %n = arith.constant 20001 : index
  %low = arith.constant -100000.0 : f64
  %step = arith.constant 10.000185 : f64
  %zero = arith.constant 0.0 : f64
  %unit = arith.constant 4503599627370496.0 : f64
  %most = scf.for %i = %c0 to %n step %c1 iter_args(%worst = %zero) -> f64 {
    %j = arith.index_cast %i : index to i64
    %k = arith.sitofp %j : i64 to f64
    %d = arith.mulf %k, %step : f64
    %x = arith.addf %low, %d : f64
    %got = math.cos %x : f64
    %want = func.call @cos(%x) : (f64) -> f64
    %e = arith.subf %got, %want : f64
    %a = math.absf %e : f64
    %s = math.absf %want : f64
    %r = arith.addf %a, %zero : f64
    %ulps = arith.mulf %r, %unit : f64
    %wrong = arith.cmpf ugt, %ulps, %worst : f64
    %next = arith.select %wrong, %ulps, %worst : f64
    scf.yield %next : f64
  }
  return %most : f64
}
func.func @main() {
  %exp = func.call @error_exp() : () -> f64
  %exp_most = arith.constant 2.0 : f64
  %exp_good = arith.cmpf ole, %exp, %exp_most : f64
  vector.print %exp_good : i1
  %log = func.call @error_log() : () -> f64
  %log_most = arith.constant 2.0 : f64
  %log_good = arith.cmpf ole, %log, %log_most : f64
  vector.print %log_good : i1
  %tanh = func.call @error_tanh() : () -> f64
  %tanh_most = arith.constant 4.0 : f64
  %tanh_good = arith.cmpf ole, %tanh, %tanh_most : f64
  vector.print %tanh_good : i1
  %erf = func.call @error_erf() : () -> f64
  %erf_most = arith.constant 8.0 : f64
  %erf_good = arith.cmpf ole, %erf, %erf_most : f64
  vector.print %erf_good : i1
  %sin = func.call @error_sin() : () -> f64
  %sin_most = arith.constant 2.0 : f64
  %sin_good = arith.cmpf ole, %sin, %sin_most : f64
  vector.print %sin_good : i1
  %cos = func.call @error_cos() : () -> f64
  %cos_most = arith.constant 2.0 : f64
  %cos_good = arith.cmpf ole, %cos, %cos_most : f64
  vector.print %cos_good : i1
  %x0 = arith.constant 0x7FF0000000000000 : f64
  %y0 = math.exp %x0 : f64
  vector.print %y0 : f64
  %x1 = arith.constant 0xFFF0000000000000 : f64
  %y1 = math.exp %x1 : f64
  vector.print %y1 : f64
  %x2 = arith.constant 0x7FF8000000000000 : f64
  %y2 = math.exp %x2 : f64
  vector.print %y2 : f64
  %x3 = arith.constant 1000.0 : f64
  %y3 = math.exp %x3 : f64
  vector.print %y3 : f64
  %x4 = arith.constant -745.2 : f64
  %y4 = math.exp %x4 : f64
  vector.print %y4 : f64
  %x5 = arith.constant 0.0 : f64
  %y5 = math.log %x5 : f64
  vector.print %y5 : f64
  %x6 = arith.constant -1.0 : f64
  %y6 = math.log %x6 : f64
  vector.print %y6 : f64
  %x7 = arith.constant 0x7FF0000000000000 : f64
  %y7 = math.log %x7 : f64
  vector.print %y7 : f64
  %x8 = arith.constant 4.9406564584124654e-324 : f64
  %y8 = math.log %x8 : f64
  vector.print %y8 : f64
  %x9 = arith.constant 1.0 : f64
  %y9 = math.log %x9 : f64
  vector.print %y9 : f64
  %x10 = arith.constant 0x7FF0000000000000 : f64
  %y10 = math.tanh %x10 : f64
  vector.print %y10 : f64
  %x11 = arith.constant -0.0 : f64
  %y11 = math.tanh %x11 : f64
  vector.print %y11 : f64
  %x12 = arith.constant 0x7FF8000000000000 : f64
  %y12 = math.tanh %x12 : f64
  vector.print %y12 : f64
  %x13 = arith.constant 0xFFF0000000000000 : f64
  %y13 = math.erf %x13 : f64
  vector.print %y13 : f64
  %x14 = arith.constant 1.0e-300 : f64
  %y14 = math.erf %x14 : f64
  vector.print %y14 : f64
  %x15 = arith.constant 0x7FF8000000000000 : f64
  %y15 = math.erf %x15 : f64
  vector.print %y15 : f64
  %x16 = arith.constant 0.0 : f64
  %y16 = math.sin %x16 : f64
  vector.print %y16 : f64
  %x17 = arith.constant 0.0 : f64
  %y17 = math.cos %x17 : f64
  vector.print %y17 : f64
  return
}
