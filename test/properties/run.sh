#!/bin/sh
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
#   test/properties/run.sh N [options of grids.py]
#
# Draws N programs on grids of up to 16 ranks and compares each with the program of
# one rank. LLAMAC names the compiler, default build/bin/llamac.
if [ $# -lt 1 ] || ! [ "$1" -gt 0 ] 2>/dev/null; then
  echo "usage: run.sh N [options of grids.py], N at least 1" >&2
  exit 2
fi
folder=$(dirname "$0")
count=$1
shift
exec python3 "$folder/grids.py" --llamac "${LLAMAC:-$folder/../../build/bin/llamac}" \
  --seeds "0-$((count - 1))" "$@"
