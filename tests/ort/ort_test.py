#!/usr/bin/python3
"""waveq's float evaluation agrees with ONNX Runtime's.

For each network, eight test samples go through onnxruntime-node and through `waveq run`; the largest difference may
be 1e-4 of the range of the outputs. Installs the pinned npm package into WAVEQ_ORT_DIR (default: build/ort) on first
use; without npm, node or a registry the test is skipped.
"""
import json
import os
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cli"))
import support  # noqa: E402
from support import EXAMPLE, SHARED, SOURCE, need, need_binary  # noqa: E402

import numpy as np  # noqa: E402

HERE = Path(__file__).resolve().parent
FOLDER = Path(os.environ.get("WAVEQ_ORT_DIR", SOURCE / "build" / "ort"))
SAMPLES = 8
TOLERANCE = 1e-4
VARIANTS = ("model.onnx", "model_bn_opset17.onnx", "model_dynamic_batch.onnx")
NETWORKS = [(EXAMPLE / "model.onnx", EXAMPLE / "test.npz")]
NETWORKS += [(SHARED / "models" / name / variant, SHARED / "models" / name / "test.npz")
             for name in ("waveformer_kws_fsdd", "waveformer_kws_espeak") for variant in VARIANTS]


def install():
    """The node_modules folder with onnxruntime-node; installs it where it is not there yet."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            raise unittest.SkipTest(f"{tool} is not installed")
    manifest = HERE / "package-lock.json"
    stamp = FOLDER / "installed-lock.json"
    if not stamp.exists() or stamp.read_bytes() != manifest.read_bytes():
        FOLDER.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(HERE / name, FOLDER / name)
        # The package carries its CPU library; its install script would fetch CUDA ones.
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]
        try:
            done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=300, check=False)
        except subprocess.TimeoutExpired as error:
            raise unittest.SkipTest(f"npm ci takes longer than {error.timeout} s; is the registry reachable?") from error
        if done.returncode != 0:
            raise unittest.SkipTest(f"npm ci failed; is the registry reachable? {done.stderr.strip()[-300:]}")
        shutil.copyfile(manifest, stamp)
    return FOLDER / "node_modules"


def samples_of(path, count):
    """The first samples of a data file, float32 [count, 1, 8192]."""
    with np.load(path) as data:
        if "input" in data:
            return data["input"][:count].astype(np.float32)
        return data["input_int16"][:count].astype(np.float32) * np.float32(data["input_scale"])


class OnnxRuntime(support.Case):
    def test_float_evaluation_agrees_with_onnx_runtime(self):
        need_binary()
        networks = [n for n in NETWORKS if n[0].exists() and n[1].exists()]
        if not networks:
            raise unittest.SkipTest("no network to compare")
        modules, jobs = install(), []
        for number, (model, data) in enumerate(networks):
            x = samples_of(data, SAMPLES)
            x.tofile(self.dir / f"{number}.in")
            np.savez(self.dir / f"{number}.npz", input=x)
            jobs.append({"model": str(model), "input": str(self.dir / f"{number}.in"), "count": len(x),
                         "shape": [1, *x.shape[1:]], "output": str(self.dir / f"{number}.out")})
        (self.dir / "job.json").write_text(json.dumps(jobs))
        done = subprocess.run(["node", str(HERE / "compare.js"), str(self.dir / "job.json")], capture_output=True, text=True,
                              timeout=300, env={**os.environ, "NODE_PATH": str(modules)}, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        for number, (model, _) in enumerate(networks):
            with self.subTest(model=str(model)):
                self.compare(model, number)

    def compare(self, model, number):
        self.run_waveq("run", model, "--inputs", self.dir / f"{number}.npz", "-o", self.dir / f"{number}.y.npz")
        expected = np.fromfile(self.dir / f"{number}.out", np.float32)
        with np.load(self.dir / f"{number}.y.npz") as arrays:
            got = arrays[arrays.files[0]]
        self.assertEqual(got.dtype, np.float32)
        expected = expected.reshape(got.shape)
        worst = float(np.abs(expected - got).max() / np.ptp(expected))
        print(f"{model.parent.name}/{model.name}: largest difference {worst:.2e} of the output range")
        self.assertLessEqual(worst, TOLERANCE)

    def test_every_keyword_network_is_compared(self):
        for model, data in NETWORKS[1:]:
            need(SHARED / "models")
            self.assertTrue(model.exists() and data.exists(), f"{model} or {data} is missing")


if __name__ == "__main__":
    support.main()
