#!/usr/bin/env bash
# Installs the Debian 12 packages that waveq is built from; says nothing where none is missing.
#   ./setup.sh           what the build needs
#   ./setup.sh --python  what the Python module needs, too
#   ./setup.sh --test    and what the tests need
# Works as root or with sudo. The table of dependencies in README.md says what each is for.
set -euo pipefail

build_packages=(
  g++ cmake ninja-build ccache
  libonnx-dev libprotobuf-dev
  libeigen3-dev
  libcli11-dev libspdlog-dev libfmt-dev
  libzip-dev nlohmann-json3-dev libtomlplusplus-dev libssl-dev
)
python_packages=(
  python3-dev pybind11-dev python3-numpy
)
test_packages=(
  doctest-dev
  python3-onnx  # scripts that check files and values with other people's readers
  python3-torch  # waveq.torch and the examples that train
  pkgconf dpkg-dev file python3-venv python3-pip  # the installed package, the .deb, pip install
  gcc clang gcc-riscv64-unknown-elf  # compile the C headers of `waveq vectors`
)
# ONNX Runtime comes from npm; a Node.js from elsewhere serves as well, and Debian's npm conflicts with it.
command -v node >/dev/null || test_packages+=(nodejs)
command -v npm >/dev/null || test_packages+=(npm)

packages=("${build_packages[@]}")
case "${1-}" in
  "") ;;
  --python) packages+=("${python_packages[@]}") ;;
  --test) packages+=("${python_packages[@]}" "${test_packages[@]}") ;;
  *)
    echo "usage: ./setup.sh [--python | --test]" >&2
    exit 2
    ;;
esac

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "setup.sh: this is not Debian; install what these packages hold: ${packages[*]}" >&2
  exit 1
fi

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) || status=absent
  [[ $status == installed ]] || missing+=("$package")
done
((${#missing[@]})) || exit 0

as_root=()
if ((EUID != 0)); then
  if ! command -v sudo >/dev/null; then
    echo "setup.sh: neither root nor sudo; as root: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

echo "setup.sh: installing ${missing[*]}"
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
# A third-party source that does not answer must not stop us: Debian's own lists decide below.
"${apt[@]}" update || echo "setup.sh: apt-get update had errors; going on with the lists at hand" >&2
"${apt[@]}" install -y --no-install-recommends "${missing[@]}" </dev/null >/dev/null
