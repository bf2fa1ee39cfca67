#!/bin/sh
# Records the witnesses on the software GPU, repeats them there with another seed, and asks whether a changed recording is noticed.
#   replay.sh <build folder of the software GPU> <folder for the recording>
# Exit status: 0 all is well, 1 not, 2 wrong arguments.
set -eu
[ $# -eq 2 ] || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; }
build=$1 folder=$2 here=$(cd "$(dirname "$0")" && pwd)
find_file() { find "$build" -name "$1" -type f -path "$2" | head -n 1; }
outputs=$(find_file software-gpu-outputs '*') replay=$(find_file software-gpu-replay '*')
ours=$(find "$build" -name libcuda.so.1 -path '*software-gpu*' | head -n 1)
rm -rf "$folder" && mkdir -p "$folder/outputs"
SOFTWARE_GPU_RECORD=$folder/recording "$outputs" "$ours" "$here/../ptx/witnesses" "$folder/outputs"
SOFTWARE_GPU_SEED=9 SOFTWARE_GPU_COMPLETION=early "$replay" "$folder/recording" --library="$ours" --json="$folder/all.json"
[ "$(wc -l <"$folder/all.json")" -gt 20 ] || { echo "replay.sh: expected more than 20 launches" >&2; exit 1; }
# All are exact in any order; small buffers that lie side by side (vec_red) too.
if grep -v '"result":"same"' "$folder/all.json"; then
  echo "replay.sh: expected the same bits of every launch" >&2
  exit 1
fi

# The last byte of a file is one that the last launch wrote.
size=$(wc -c <"$folder/recording")
last=$(tail -c 1 "$folder/recording" | od -An -tu1 | tr -d ' ')
head -c $((size - 1)) "$folder/recording" >"$folder/changed"
printf "\\$(printf %o $(((last + 1) % 256)))" >>"$folder/changed"
if "$replay" "$folder/changed" --library="$ours" >"$folder/changed.txt"; then
  echo "replay.sh: a changed byte was not noticed" >&2
  exit 1
fi
grep -q ' 1 wrong$' "$folder/changed.txt"
# A kernel that traps spoils its context: what comes after it is repeated all the same.
LC_ALL=C sed '0,/\tret;/s//trap;/' "$folder/recording" >"$folder/trap"
if "$replay" "$folder/trap" --library="$ours" --json="$folder/trap.json" >"$folder/trap.txt" 2>&1; then
  echo "replay.sh: a trap was not noticed" >&2
  exit 1
fi
grep -q 'wrong: .*CUDA_ERROR_LAUNCH_FAILED' "$folder/trap.txt"
[ "$(wc -l <"$folder/trap.json")" -eq "$(wc -l <"$folder/all.json")" ]
tail -n 1 "$folder/trap.json" | grep -q '"result":"same"'

# One that does not end.
LC_ALL=C sed -z '0,/\tret;\n\n}\n/s//L:bra L;}/' "$folder/recording" >"$folder/endless"
if "$replay" "$folder/endless" --library="$ours" --seconds=1 --kernel=wgmma_ss_kmajor >"$folder/endless.txt" 2>&1; then
  echo "replay.sh: a kernel without an end was not noticed" >&2
  exit 1
fi
grep -q 'wrong: wgmma_ss_kmajor: .*not done after 1 s' "$folder/endless.txt"

head -c $((size / 2)) "$folder/recording" >"$folder/cut"
status=0
"$replay" "$folder/cut" --library="$ours" 2>"$folder/cut.txt" || status=$?
[ $status -eq 2 ] && grep -q 'ends within a record' "$folder/cut.txt"
