#!/usr/bin/python3
"""waveq's float evaluation agrees with ONNX Runtime's.

For each network, eight test samples go through onnxruntime-node and through `waveq run`; the largest difference may
be 1e-4 of the range of the outputs.
"""
import unittest

import runtime  # noqa: E402; it makes the command line tests' modules visible
import support  # noqa: E402
from support import EXAMPLE, SHARED, need, need_binary  # noqa: E402

import numpy as np  # noqa: E402

SAMPLES = 8
TOLERANCE = 1e-4
VARIANTS = ("model.onnx", "model_bn_opset17.onnx", "model_dynamic_batch.onnx")
NETWORKS = [(EXAMPLE / "model.onnx", EXAMPLE / "test.npz")]
NETWORKS += [(SHARED / "models" / name / variant, SHARED / "models" / name / "test.npz")
             for name in ("waveformer_kws_fsdd", "waveformer_kws_espeak") for variant in VARIANTS]


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
        jobs = [(model, [samples_of(data, SAMPLES)]) for model, data in networks]
        for (model, (x,)), outputs in zip(jobs, runtime.run_networks(jobs, self.dir)):
            with self.subTest(model=str(model)):
                self.compare(model, x, next(iter(outputs.values())))

    def compare(self, model, x, expected):
        np.savez(self.dir / "x.npz", input=x)
        self.run_waveq("run", model, "--inputs", self.dir / "x.npz", "-o", self.dir / "y.npz")
        with np.load(self.dir / "y.npz") as arrays:
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
