#!/usr/bin/env bash
# From a fresh clone to an integer network in one command: installs what is missing, builds the tool and turns the
# keyword spotter of examples/waveformer_kws into out/waveformer_kws.
set -euo pipefail
cd "$(dirname "$0")"

./setup.sh
cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER_LAUNCHER=ccache \
  -DWAVEQ_TESTS=OFF
cmake --build build --parallel 2

example=examples/waveformer_kws
set -x
build/cli/waveq quantize $example/model.onnx --calib $example/calib.npz --eval $example/test.npz \
  -o out/waveformer_kws
build/cli/waveq verify out/waveformer_kws
