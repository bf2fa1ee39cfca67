#!/bin/sh
# Runs all kernels of the witnesses and single tensor-core instructions on a real driver and on the software GPU, and
# compares what they write, byte by byte. What differs is listed; it should become a test.
#   compare.sh <build folder of the software GPU> [<libcuda.so.1 of the real driver> [<folder for outputs>]]
# The library "software" compares the software GPU with itself (another seed, early completion): the test of this script.
# Exit status: 0 all the same, 1 some differ or failed, 2 wrong arguments, 77 there is no driver or no device of sm_90.
set -u
[ $# -ge 1 ] && [ $# -le 3 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
build=$1 real=${2:-libcuda.so.1} folder=${3:-$(mktemp -d)}
here=$(cd "$(dirname "$0")" && pwd)
program=$(find "$build" -name software-gpu-outputs -type f | head -n 1)
ours=$(find "$build" -name libcuda.so.1 -path '*software-gpu*' | head -n 1)
[ -x "$program" ] && [ -e "$ours" ] || { echo "compare.sh: $build has no software-gpu-outputs and libcuda.so.1: build it first" >&2; exit 2; }
mkdir -p "$folder/real" "$folder/software"
if [ "$real" = software ]; then
  SOFTWARE_GPU_SEED=7 SOFTWARE_GPU_COMPLETION=early "$program" "$ours" "$here/../ptx/witnesses" "$folder/real"
else
  # The driver may be found by LD_LIBRARY_PATH alone, but so may the software GPU.
  path=$(printf %s "${LD_LIBRARY_PATH:-}" | tr : '\n' | grep -v 'software-gpu' | paste -sd: -)
  LD_LIBRARY_PATH=$path "$program" "$real" "$here/../ptx/witnesses" "$folder/real"
fi
status=$?
[ $status -eq 0 ] || { echo "compare.sh: nothing compared: $real gives status $status"; exit $status; }
SOFTWARE_GPU_CHIP=sm_90 "$program" "$ours" "$here/../ptx/witnesses" "$folder/software" || exit 1
same=0 differ=0
for file in "$folder/software"/*.bin; do
  name=$(basename "$file")
  if cmp -s "$file" "$folder/real/$name"; then
    same=$((same + 1))
  else
    differ=$((differ + 1))
    echo "differs: $name: $(cmp -l "$file" "$folder/real/$name" 2>&1 | wc -l) bytes of $(wc -c < "$file"), first: $(cmp "$file" "$folder/real/$name" 2>&1 | sed 's/.*differ: //')"
  fi
done
echo "$same outputs are the same, $differ differ; they are in $folder"
[ "$same" -gt 0 ] && [ $differ -eq 0 ]
