#!/usr/bin/python3
"""waveq's float evaluation agrees with ONNX Runtime's.

For each network, eight test samples go through onnxruntime-node and through `waveq run`; the largest difference may
be 1e-4 of the range of the outputs.
"""
import runtime  # noqa: E402; it makes the command line tests' modules visible
import support  # noqa: E402
from support import EXAMPLE, SHARED, need, need_binary  # noqa: E402

import numpy as np  # noqa: E402

import exporter_networks  # noqa: E402

SAMPLES = 8
TOLERANCE = 1e-4
MODELS = SHARED / "models"


def data_of(model):
    """Calibration samples of a model; the other feature maps take those of the Waveformer they were made from."""
    own = model.parent / "calib.npz"
    return own if own.exists() else MODELS / "waveformer_kws_fsdd" / "calib.npz"


NETWORKS = [(model, data_of(model)) for model in (EXAMPLE / "model.onnx", *sorted(MODELS.glob("*/*.onnx")))]


def samples_of(path, count):
    """The first samples of a data file, float32 [count, ...]."""
    with np.load(path) as data:
        if "input" in data:
            return data["input"][:count].astype(np.float32)
        return data["input_int16"][:count].astype(np.float32) * np.float32(data["input_scale"])


class OnnxRuntime(support.Case):
    def test_float_evaluation_agrees_with_onnx_runtime(self):
        need_binary()
        jobs = [(model, [samples_of(data, SAMPLES)]) for model, data in NETWORKS]
        for (model, (x,)), outputs in zip(jobs, runtime.run_networks(jobs, self.dir)):
            with self.subTest(model=str(model)):
                self.compare(model, x, next(iter(outputs.values())))

    def test_networks_of_other_exporters_mean_what_they_mean_there(self):
        need_binary()
        random = np.random.default_rng(1)
        jobs = []
        for write in exporter_networks.NETWORKS:
            model = self.dir / f"{write.__name__}.onnx"
            jobs.append((model, [random.normal(size=[SAMPLES, *write(model)[1:]]).astype(np.float32)]))
        for (model, (x,)), outputs in zip(jobs, runtime.run_networks(jobs, self.dir)):
            with self.subTest(model=model.name):
                self.compare(model, x, next(iter(outputs.values())), "x")

    def compare(self, model, x, expected, name="input"):
        np.savez(self.dir / "x.npz", **{name: x})
        self.run_waveq("run", model, "--inputs", self.dir / "x.npz", "-o", self.dir / "y.npz")
        with np.load(self.dir / "y.npz") as arrays:
            got = arrays[arrays.files[0]]
        self.assertEqual(got.dtype, np.float32)
        expected = expected.reshape(got.shape)
        worst = float(np.abs(expected - got).max() / np.ptp(expected))
        print(f"{model.parent.name}/{model.name}: largest difference {worst:.2e} of the output range")
        self.assertLessEqual(worst, TOLERANCE)

    def test_every_family_is_compared(self):
        need(MODELS)
        self.assertEqual({f.parent for f in MODELS.glob("*/model*.onnx")}, {f for f in MODELS.iterdir() if (f / "README.md").exists()})
        self.assertGreaterEqual(len(NETWORKS), 10)


if __name__ == "__main__":
    support.main()
