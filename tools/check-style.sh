#!/usr/bin/env bash
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Format and lint of our C++: .clang-format for every file, .clang-tidy for those of the product that
# changed since BASE (about 10 s of a core for a file).
#
#   tools/check-style.sh [BASE]        BASE: a commit (the last one on origin's main, else HEAD~1)
#
# Exits 1 with what is wrong; `clang-format-22 -i FILE` puts the format right. Environment: BUILD
# build folder with compile_commands.json (build).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
build=${BUILD:-build}
for tool in clang-format-22 clang-tidy-22; do
  command -v $tool >/dev/null || {
    echo "check-style.sh: error: expected $tool; run tools/setup.sh" >&2
    exit 2
  }
done
git rev-parse --git-dir >/dev/null 2>&1 || {
  echo "check-style.sh: skipped: not a git checkout, so what is ours and what changed is not known"
  exit 77
}
base=${1:-$(git merge-base HEAD origin/main 2>/dev/null || true)}
[ -n "$base" ] && [ "$base" != "$(git rev-parse HEAD)" ] || base=$(git rev-parse --quiet --verify HEAD~1 || git rev-parse HEAD)

git ls-files -z -- '*.cpp' '*.h' | xargs -0 clang-format-22 --dry-run -Werror
echo "format: clean"

# Only sources that the build knows: those have flags.
mapfile -t changed < <(git diff --name-only --diff-filter=d "$base" -- '*.cpp' | grep -E '^(lib|dialects|runtime|tools/llam)' |
  while read -r file; do grep -qF "\"file\": \"$PWD/$file\"" "$build/compile_commands.json" && echo "$file"; done)
if [ ${#changed[@]} -gt 0 ]; then
  printf '%s\n' "${changed[@]}" | xargs -P "${JOBS:-$(nproc)}" -n 1 clang-tidy-22 -p "$build" --quiet 2>/dev/null
fi
echo "clang-tidy: ${#changed[@]} files since $(git rev-parse --short "$base"): clean"
