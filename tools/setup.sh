#!/usr/bin/env bash
# Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Installs what llamac is built with: packages of Debian 12's own archive. Does
# nothing where they are there. Needs root or sudo only to install.
#
#   tools/setup.sh          the packages
#   tools/setup.sh --cuda   ptxas and nvdisasm into build/cuda/bin, where llamac looks for them:
#                           from NVIDIA's wheels on PyPI, for machines without the CUDA toolkit
set -euo pipefail

# The toolkit that the kernels are tested with; the first nvdisasm on PyPI is younger.
cuda_version=13.0.88
wheels=("nvidia-cuda-nvcc==$cuda_version" "nvidia-cuda-nvdisasm==13.2.78")

setup_cuda() {
  local bin folder
  bin=$(cd "$(dirname "$0")/.." && pwd)/build/cuda/bin
  if "$bin/ptxas" --version 2>/dev/null | grep -q "V$cuda_version" && [ -x "$bin/nvdisasm" ]; then
    echo "setup: ptxas and nvdisasm are in $bin"
    return
  fi
  python3 -m pip --version >/dev/null 2>&1 || {
    echo "setup.sh: error: expected pip to fetch ${wheels[*]}; install python3-pip" >&2
    exit 2
  }
  folder=$(mktemp -d)
  # The folder is known here only.
  # shellcheck disable=SC2064
  trap "rm -rf '$folder'" EXIT
  echo "setup: fetching ${wheels[*]}"
  python3 -m pip download -q --no-deps --only-binary=:all: --disable-pip-version-check -d "$folder" "${wheels[@]}"
  mkdir -p "$bin"
  python3 - "$folder" "$bin" <<'PYTHON'
import os, pathlib, sys, zipfile
folder, bin = map(pathlib.Path, sys.argv[1:])
for tool in ("ptxas", "nvdisasm"):
    names = [(wheel, name) for wheel in sorted(folder.glob("*.whl")) for name in zipfile.ZipFile(wheel).namelist()
             if name.endswith(f"/bin/{tool}")]
    if not names:
        sys.exit(f"setup.sh: error: no {tool} in the wheels")
    wheel, name = names[0]
    unfinished = bin / f".{tool}.{os.getpid()}"
    unfinished.write_bytes(zipfile.ZipFile(wheel).read(name))
    unfinished.chmod(0o755)
    unfinished.rename(bin / tool)
PYTHON
  "$bin/ptxas" --version | tail -2
}

case "${1:-}" in
  --cuda) setup_cuda; exit 0 ;;
  "") ;;
  *) echo "setup.sh: error: expected nothing or --cuda, got '$1'" >&2; exit 2 ;;
esac

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
