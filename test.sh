#!/usr/bin/env bash
# Builds everything and runs every test: ./test.sh [CTEST ARGUMENT...], e.g. ./test.sh -R graph.
# Tests that read models and vectors from ../shared skip, and say so, where that folder is absent.
set -euo pipefail
cd "$(dirname "$0")"

./setup.sh --test
cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER_LAUNCHER=ccache \
  -DWAVEQ_TESTS=ON -DWAVEQ_PYTHON=ON
cmake --build build --parallel 2
ctest --test-dir build --output-on-failure --parallel 2 --no-tests=error "$@"
