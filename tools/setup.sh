#!/usr/bin/env bash
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Installs what llamac is built with: packages of Debian 12's own archive. Does
# nothing where they are there. Needs root or sudo only to install.
set -euo pipefail

packages=(
  # MLIR and LLVM 22, the compiler that builds us, the build system
  libmlir-22-dev mlir-22-tools llvm-22-dev llvm-22-tools clang-22 lld-22
  cmake ninja-build ccache pkg-config python3
  # what an executable uses: matrix products, then JSON, tokenizer, images, checksums
  libdnnl-dev libopenblas0-openmp nlohmann-json3-dev libpcre2-dev libpng-dev
  libjpeg62-turbo-dev libwebp-dev libgif-dev libtiff-dev zlib1g-dev libxxhash-dev
  # ranks as processes
  libopenmpi-dev openmpi-bin
  # tests and the demonstration's data
  libgtest-dev libgmock-dev clang-format-22 clang-tidy-22 iso-flags-png-320x240 iso-codes
)

# Prints those of the packages that are not installed.
missing() {
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
      echo "$package"
  done
}

command -v dpkg-query >/dev/null || {
  echo "setup.sh: error: expected Debian 12 (or a system with its packages); install: ${packages[*]}" >&2
  exit 2
}
mapfile -t wanted < <(missing "${packages[@]}")
if [ ${#wanted[@]} -eq 0 ]; then
  echo "setup: all ${#packages[@]} packages are there"
  exit 0
fi

run=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || {
    echo "setup.sh: error: expected root or sudo to install: ${wanted[*]}" >&2
    exit 2
  }
  run=(sudo)
fi
echo "setup: installing ${wanted[*]}"
"${run[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${run[@]}" apt-get install -y -qq --no-install-recommends "${wanted[@]}"
