#!/usr/bin/python3
"""`--target qdq`: the float twin follows the integer network, in ONNX Runtime and in waveq.

Sums of products are float32 there, so that with thousands of large terms one may become its neighbour: at least 99.9 % of
the output elements have to be equal, all of them within a step.
"""
import json
import unittest

import runtime  # noqa: E402; it makes the command line tests' modules visible
import small_float_networks
import support
from support import EXAMPLE, SHARED, need_binary

import numpy as np
import onnx
from onnx import numpy_helper

SAMPLES = 8
# Network, samples, a target that takes it on its integers.
TRAINED = [(EXAMPLE / "model.onnx", EXAMPLE / "calib.npz", "deeploy-generic")]
TRAINED += [(SHARED / "models" / name / file, SHARED / "models" / name / "calib.npz", target) for name, file, target in (
    ("waveformer_kws_fsdd", "model.onnx", "deeploy-generic"), ("waveformer_kws_espeak", "model.onnx", "deeploy-generic"),
    ("waveformer_asr_fsdd", "model.onnx", "deeploy-generic"), ("dscnn_fsdd", "model.onnx", "deeploy-generic"),
    ("transformer_fsdd", "model.onnx", "deeploy-generic"), ("tinyspeech_fsdd", "model_z.onnx", "onnx"),
    ("enhance_rnn_fsdd", "model_gru.onnx", "onnx"))]
SMALL = ("residual_2d", "pad_and_pool", "concat_and_slice", "gelu_block", "odd_pads", "mean_of_odd_length",
         "negative_gain", "linear_layers")


def samples_of(path, name, count):
    with np.load(path) as data:
        if name in data:
            return data[name][:count].astype(np.float32)
        return data[f"{name}_int16"][:count].astype(np.float32) * np.float32(data[f"{name}_scale"])


class QdqTarget(support.Case):
    def setUp(self):
        super().setUp()
        need_binary()
        runtime.install()

    def quantized(self, number, model, calib, reference):
        folders = []
        for target in (reference, "qdq"):
            folders.append(self.dir / f"{number}_{target}")
            self.run_waveq("quantize", model, "--calib", calib, "--target", target, "-o", folders[-1], timeout=300)
        self.run_waveq("verify", folders[1])
        self.check_file(folders[1])
        return folders

    def check_file(self, folder):
        """Valid; every weight of a linear node is int8 behind DequantizeLinear; float at both ends."""
        model = onnx.load(str(folder / "network.onnx"))
        onnx.checker.check_model(model, full_check=True)
        constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        made = {o: n for n in model.graph.node for o in n.output}
        for node in model.graph.node:
            if node.op_type in ("Conv", "Gemm"):
                weight = made[node.input[1]]
                self.assertEqual(weight.op_type, "DequantizeLinear")
                self.assertEqual(constants[weight.input[0]].dtype, np.int8)
                self.assertEqual(made[node.input[0]].op_type in ("Conv", "Gemm", "MatMul"), False, node.name)
        for output in model.graph.output:
            self.assertEqual(made[output.name].op_type, "DequantizeLinear")

    def compare(self, model, folders, x, steps):
        """Codes of the integer network, and of the twin by ONNX Runtime and by waveq."""
        default, twin = folders
        name = steps["inputs"][0]["name"]
        codes = np.clip(np.round(x / steps["inputs"][0]["scale"]), steps["inputs"][0]["lo"], steps["inputs"][0]["hi"])
        np.savez(self.dir / "codes.npz", **{name: codes.astype(np.int64)})
        np.savez(self.dir / "x.npz", **{name: x})
        results = []
        for folder, data in ((default, "codes.npz"), (twin, "x.npz")):
            self.run_waveq("run", folder / "network.onnx", "--inputs", self.dir / data, "-o", self.dir / "y.npz")
            with np.load(self.dir / "y.npz") as y:
                results.append(y[y.files[0]])
        wanted, ours = results
        theirs = next(iter(runtime.run_networks([(twin / "network.onnx", [x])], self.dir)[0].values()))
        for who, got in (("waveq", ours), ("ONNX Runtime", theirs)):
            difference = np.abs(np.round(got.reshape(wanted.shape) / steps["outputs"][0]["scale"]) - wanted)
            equal = float((difference == 0).mean())
            print(f"{model.name} in {model.parent.name}, {who}: {equal:.4%} of {wanted.size} equal, "
                  f"largest difference {int(difference.max())}")
            self.assertGreaterEqual(equal, 0.999)
            self.assertLessEqual(int(difference.max()), 1)

    def check(self, models):
        for number, (model, calib, reference) in enumerate(models):
            with self.subTest(model=str(model)):
                folders = self.quantized(number, model, calib, reference)
                steps = json.loads((folders[0] / "quantization.json").read_text())
                self.compare(model, folders, samples_of(calib, steps["inputs"][0]["name"], SAMPLES), steps)

    def test_generated_networks(self):
        models = []
        for name in SMALL:
            model = getattr(small_float_networks, name)(self.dir / f"{name}.onnx")
            _, _, shape = runtime.interface(onnx.load(str(model)).graph.input)[0]
            x = np.random.default_rng(5).normal(size=[SAMPLES, *shape[1:]]).astype(np.float32)
            np.savez(self.dir / f"{name}.npz", x=x)
            models.append((model, self.dir / f"{name}.npz", "deeploy-generic"))
        self.check(models)

    def test_trained_networks(self):
        self.check([entry for entry in TRAINED if entry[0].exists()])


if __name__ == "__main__":
    support.main()
