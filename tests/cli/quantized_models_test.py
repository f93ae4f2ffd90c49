"""Models that another tool quantized: their grids are kept, and the integers follow the fake-quantized float network.

Every fixture is the same two convolutions with their roundings written the way one exporter writes them, by hand from
the operators' specifications; where PyTorch is installed, one comes from its own exporter.
"""
import io
import json
import unittest
import warnings

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import support

QONNX = "qonnx.custom_op.general"


class Writer:
    """x [1,4,32] -> rounded -> Conv -> Relu -> rounded -> Conv -> rounded: y [1,3,32]."""

    def __init__(self, seed=1):
        self.random = np.random.default_rng(seed)
        self.nodes, self.constants, self.count = [], [], 0

    def const(self, values, dtype=np.float32):
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def add(self, op, *inputs, output=None, domain="", **attributes):
        self.count += 1
        output = output or f"{op.lower()}_{self.count}_y"
        self.nodes.append(helper.make_node(op, list(inputs), [output], f"{op.lower()}_{self.count}", domain=domain,
                                           **attributes))
        return output

    def codes(self, top, *shape):
        """Weights' integers that use the whole grid in every channel, so that no coarser grid holds them."""
        q = self.random.integers(-top, top + 1, shape)
        flat = q.reshape(shape[0], -1)
        flat[:, 0], flat[:, 1] = top, top - 1
        return q

    def save(self, path, opset=13):
        imports = [helper.make_opsetid("", opset)]
        if any(n.domain for n in self.nodes):
            imports.append(helper.make_opsetid(QONNX, 1))
        info = lambda name, channels: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, 32])
        graph = helper.make_graph(self.nodes, "net", [info("x", 4)], [info("y", 3)], self.constants)
        model = helper.make_model(graph, opset_imports=imports)
        model.ir_version = 7
        onnx.save(model, str(path))
        return path


def network(w, rounded, weights, bias):
    """`rounded(value, which, output)`, `weights(q)` and `bias(b)` write what an exporter writes; the weights' integers."""
    q1, q2 = w.codes(w.top, 6, 4, 3), w.codes(w.top, 3, 6, 1)
    x = rounded("x", 0, None)
    a = w.add("Conv", x, weights(q1, 0), bias(w.random.normal(size=6) * 0.2, 0), kernel_shape=[3], pads=[1, 1])
    a = rounded(w.add("Relu", a), 1, None)
    b = w.add("Conv", a, weights(q2, 1), bias(w.random.normal(size=3) * 0.2, 1), kernel_shape=[1])
    rounded(b, 2, "y")
    return [q1, q2]


ACTIVATION_SCALES = (0.02, 0.017, 0.031)


def weight_scales(q):
    """Scales that keep the outputs of a convolution near 1, one for each filter."""
    unit = 1.0 / (np.abs(q).max() * np.sqrt(q[0].size) * 0.35)
    return (unit * np.linspace(0.7, 1.3, len(q))).astype(np.float32)


def plain_bias(w):
    return lambda values, _: w.const(values)


def qdq_pair(w, x, scale, zero, dtype, output=None, clip=None):
    scale, zero = w.const(scale), w.const(zero, dtype)
    codes = w.add("QuantizeLinear", x, scale, zero)
    if clip:
        codes = w.add("Clip", codes, w.const(clip[0], dtype), w.const(clip[1], dtype))
    return w.add("DequantizeLinear", codes, scale, zero, output=output)


def onnx_runtime_style(path):
    """int8 weights per filter and int32 biases behind DequantizeLinear; uint8 activations."""
    w = Writer()
    w.top = 127
    zeros = (128, 0, 128)

    def weights(q, _):
        scale = weight_scales(q)
        w.scales.append(scale)
        return w.add("DequantizeLinear", w.const(q, np.int8), w.const(scale), w.const(np.zeros(len(q)), np.int8), axis=0)

    def bias(values, which):
        scale = w.scales[-1] * np.float32(ACTIVATION_SCALES[which])
        return w.add("DequantizeLinear", w.const(np.round(values / scale), np.int32), w.const(scale), axis=0)

    w.scales = []
    codes = network(w, lambda x, k, out: qdq_pair(w, x, ACTIVATION_SCALES[k], zeros[k], np.uint8, out), weights, bias)
    return w.save(path), codes


def asymmetric_style(path):
    """uint8 activations whose zero points are not in the middle."""
    w = Writer(6)
    w.top = 127

    def weights(q, _):
        return w.add("DequantizeLinear", w.const(q, np.int8), w.const(weight_scales(q)[0]), w.const(0, np.int8))

    zeros = (100, 0, 30)
    codes = network(w, lambda x, k, out: qdq_pair(w, x, ACTIVATION_SCALES[k], zeros[k], np.uint8, out), weights,
                    plain_bias(w))
    return w.save(path), codes


def tensorflow_style(path):
    """Float weights rounded in the graph, one scale for all; int8 activations whose zero point is -128 behind a ReLU."""
    w = Writer(2)
    w.top = 127
    zeros = (0, -128, 0)

    def weights(q, _):
        scale = weight_scales(q)[0]
        return qdq_pair(w, w.const(q * scale * (1 + 1e-4)), scale, 0, np.int8)

    codes = network(w, lambda x, k, out: qdq_pair(w, x, ACTIVATION_SCALES[k], zeros[k], np.int8, out), weights,
                    plain_bias(w))
    return w.save(path), codes


def brevitas_qcdq_style(path):
    """4-bit weights and activations: Clip between QuantizeLinear and DequantizeLinear."""
    w = Writer(3)
    w.top = 7
    scales, clips = (0.3, 0.25, 0.4), ((-8, 7), (0, 15), (-8, 7))

    def rounded(x, k, out):
        return qdq_pair(w, x, scales[k], 0, np.uint8 if k == 1 else np.int8, out, clips[k])

    def weights(q, _):
        scale = weight_scales(q)
        zero = np.zeros(len(q))
        codes = w.add("QuantizeLinear", w.const(q * scale[:, None, None]), w.const(scale), w.const(zero, np.int8), axis=0)
        codes = w.add("Clip", codes, w.const(-7, np.int8), w.const(7, np.int8))
        return w.add("DequantizeLinear", codes, w.const(scale), w.const(zero, np.int8), axis=0)

    codes = network(w, rounded, weights, plain_bias(w))
    return w.save(path), codes


def full_range_style(path):
    """int8 weights from -128, as PyTorch's default observers give them, and uint8 ones with a zero point of 128."""
    w = Writer(5)
    w.top = 127
    kinds = []

    def weights(q, which):
        q.reshape(len(q), -1)[:, 0], q.reshape(len(q), -1)[:, 2] = -128, 5
        scale, zero, dtype = weight_scales(q), 0, np.int8
        if which == 1:
            scale, zero, dtype = scale[:1], 128, np.uint8
        kinds.append(dtype)
        axis = {"axis": 0} if len(scale) > 1 else {}
        zeros = np.full(len(scale), zero) if axis else zero
        return w.add("DequantizeLinear", w.const(q + zero, dtype), w.const(scale if axis else scale[0]), w.const(zeros, dtype),
                     **axis)

    codes = network(w, lambda x, k, out: qdq_pair(w, x, ACTIVATION_SCALES[k], 0, np.uint8 if k == 1 else np.int8, out),
                    weights, plain_bias(w))
    return w.save(path), codes


def moved_integers_style(path):
    """Integers go through MaxPool, Transpose and Concat before they are dequantized."""
    w = Writer(6)
    w.top = 127

    def rounded(x, k, out):
        scale, zero = w.const(ACTIVATION_SCALES[k]), w.const(0, np.int8)
        codes = w.add("QuantizeLinear", x, scale, zero)
        if k == 1:
            codes = w.add("MaxPool", codes, kernel_shape=[3], pads=[1, 1])
            for _ in range(2):
                codes = w.add("Transpose", codes, perm=[0, 2, 1])
            halves = [w.add("Slice", codes, *[w.const([v], np.int64) for v in (first, first + 3, 1)]) for first in (0, 3)]
            codes = w.add("Concat", *halves, axis=1)
        return w.add("DequantizeLinear", codes, scale, zero, output=out)

    def weights(q, _):
        return w.add("DequantizeLinear", w.const(q, np.int8), w.const(weight_scales(q)), w.const(np.zeros(len(q)), np.int8),
                     axis=0)

    codes = network(w, rounded, weights, plain_bias(w))
    return w.save(path), codes


def qoperator_style(path):
    """Operators on integers, as ONNX Runtime's QOperator format has them."""
    w = Writer(7)
    w.top = 127
    zeros = (128, 0, 128)
    grids = [(w.const(s), w.const(z, np.uint8)) for s, z in zip(ACTIVATION_SCALES, zeros)]
    q1, q2 = w.codes(127, 6, 4, 3), w.codes(127, 3, 6, 1)

    def conv(x, which, q, **attributes):
        scale = weight_scales(q)
        bias = np.round(w.random.normal(size=len(q)) * 0.2 / (scale * ACTIVATION_SCALES[which]))
        return w.add("QLinearConv", x, *grids[which], w.const(q, np.int8), w.const(scale), w.const(np.zeros(len(q)), np.int8),
                     *grids[which + 1], w.const(bias, np.int32), **attributes)

    x = w.add("QuantizeLinear", "x", *grids[0])
    y = conv(conv(x, 0, q1, kernel_shape=[3], pads=[1, 1]), 1, q2, kernel_shape=[1])
    w.add("DequantizeLinear", y, *grids[2], output="y")
    return w.save(path), [q1, q2]


def quant(w, x, scale, bits, signed, narrow, output=None, op="Quant", rounding="ROUND"):
    return w.add(op, x, w.const(scale), w.const(0.0), w.const(bits), output=output, domain=QONNX, signed=signed,
                 narrow=narrow, rounding_mode=rounding)


def qonnx_style(path):
    w = Writer(4)
    w.top = 7
    scales = (0.02, 0.1, 0.05)

    def rounded(x, k, out):
        return quant(w, x, scales[k], (8.0, 6.0, 8.0)[k], int(k != 1), 0, out)

    def weights(q, _):
        scale = weight_scales(q)[:, None, None]
        return quant(w, w.const(q * scale), scale, 4.0, 1, 1)

    codes = network(w, rounded, weights, plain_bias(w))
    return w.save(path), codes


def brevitas_qonnx_style(path):
    """Weights rounded toward zero, biases of 32 bits; a second convolution of signs."""
    w = Writer(8)
    w.top = 7

    def rounded(x, k, out):
        return quant(w, x, (0.02, 0.1, 0.05)[k], 8.0, int(k != 1), 0, out, rounding="half_even")

    def weights(q, which):
        scale = weight_scales(q)[:, None, None]
        if which == 1:
            q[...] = np.where(q >= 0, 1, -1)
            return w.add("BipolarQuant", w.const(q * 0.3), w.const(np.abs(scale)), domain=QONNX)
        return quant(w, w.const((q + np.sign(q) * 0.9) * scale), scale, 4.0, 1, 1, rounding="DOWN")

    def bias(values, _):
        return quant(w, w.const(values), np.float32(1e-4), 32.0, 1, 0)

    codes = network(w, rounded, weights, bias)
    return w.save(path), codes


class QuantizedModels(support.Case):
    def setUp(self):
        super().setUp()
        support.need_binary()
        x = np.random.default_rng(9).normal(size=(24, 4, 32)).astype(np.float32)
        np.savez(self.dir / "calib.npz", x=x)
        self.out = self.dir / "out"

    def quantize(self, model, **options):
        return self.run_waveq("quantize", model, "--calib", self.dir / "calib.npz", "-o", self.out, **options)

    def check(self, model, codes, input_scale, least_sqnr):
        self.quantize(model)
        self.run_waveq("verify", self.out)
        grid = json.loads((self.out / "quantization.json").read_text())["inputs"][0]
        self.assertAlmostEqual(grid["scale"], np.float32(input_scale), delta=1e-9)
        network = onnx.load(str(self.out / "network.onnx"))
        constants = {t.name: numpy_helper.to_array(t) for t in network.graph.initializer}
        convs = [n for n in network.graph.node if n.op_type == "Conv"]
        for node, q in zip(convs, codes):
            np.testing.assert_array_equal(constants[node.input[1]], q.astype(np.float32), err_msg=node.name)
        report = json.loads((self.out / "report.json").read_text())
        print(f"{model.stem}: output SQNR {report['output_sqnr_db']:.1f} dB against the fake-quantized network")
        self.assertGreaterEqual(report["output_sqnr_db"], least_sqnr)
        pinned = {k for k, v in json.loads((self.out / "calibration.json").read_text())["tensors"].items() if v.get("pinned")}
        self.assertIn("x", pinned)
        self.assertIn("y", pinned)

    # Where the integer network rounds as the model does, only codes next to a boundary differ.

    def test_onnx_runtime(self):
        model, codes = onnx_runtime_style(self.dir / "ort.onnx")
        self.check(model, codes, ACTIVATION_SCALES[0], 38)

    def test_tensorflow(self):
        model, codes = tensorflow_style(self.dir / "tf.onnx")
        self.check(model, codes, ACTIVATION_SCALES[0], 38)

    def test_brevitas_qcdq(self):
        model, codes = brevitas_qcdq_style(self.dir / "qcdq.onnx")
        self.check(model, codes, 0.3, 20)

    def test_qonnx(self):
        model, codes = qonnx_style(self.dir / "qonnx.onnx")
        self.check(model, codes, 0.02, 30)

    def test_the_whole_range_of_int8(self):
        model, codes = full_range_style(self.dir / "full.onnx")
        self.check(model, codes, ACTIVATION_SCALES[0], 38)

    def test_moves_of_integers(self):
        model, codes = moved_integers_style(self.dir / "moved.onnx")
        self.check(model, codes, ACTIVATION_SCALES[0], 38)

    def test_operators_on_integers(self):
        model, codes = qoperator_style(self.dir / "qoperator.onnx")
        self.check(model, codes, ACTIVATION_SCALES[0], 38)

    def test_constants_that_qonnx_rounds_in_any_way(self):
        model, codes = brevitas_qonnx_style(self.dir / "brevitas.onnx")
        self.check(model, codes, 0.02, 30)

    def test_computed_data_are_rounded_to_nearest(self):
        w = Writer()
        quant(w, "x", 0.1, 8.0, 1, 0, "y", rounding="FLOOR")
        self.assertIn("rounds by FLOOR", self.quantize(w.save(self.dir / "floor.onnx"), code=1).err)

    def test_asymmetric_grids_of_onnx_runtime(self):
        model, codes = asymmetric_style(self.dir / "asymmetric.onnx")
        self.check(model, codes, ACTIVATION_SCALES[0], 38)
        grids = json.loads((self.out / "quantization.json").read_text())
        # uint8 with zero point 100 as int8 with 100 - 128; the codes of the output are uint8's own.
        self.assertEqual((grids["inputs"][0]["zero_point"], grids["inputs"][0]["dtype"]), (-28, "i8"))
        self.assertEqual((grids["outputs"][0]["zero_point"], grids["outputs"][0]["dtype"]), (30, "u8"))
        self.assertAlmostEqual(grids["outputs"][0]["scale"], np.float32(ACTIVATION_SCALES[2]), delta=1e-9)
        pad, = (n for n in onnx.load(str(self.out / "network.onnx")).graph.node if n.op_type == "Pad")
        self.assertEqual({a.name: helper.get_attribute_value(a) for a in pad.attribute}["value"], -28)

    def test_an_asymmetric_grid_that_a_sum_reads_is_covered_and_told(self):
        w = Writer()
        w.top = 127
        x = qdq_pair(w, "x", 0.02, 100, np.uint8)
        x = w.add("Add", x, x)
        w.add("Conv", x, w.const(w.codes(127, 3, 4, 1) * 0.01), output="y")
        result = self.quantize(w.save(self.dir / "sum.onnx"))
        self.assertIn("'x' is asymmetric (-100 to 155 steps of 0.02)", result.err)
        grid = json.loads((self.out / "quantization.json").read_text())["inputs"][0]
        self.assertAlmostEqual(grid["scale"], 155 * 0.02 / 127, delta=1e-8)
        self.assertEqual(grid["zero_point"], 0)

    def test_what_qonnx_has_and_integers_have_not_is_refused(self):
        for op, hint in (("BipolarQuant", "2 bits"), ("Trunc", "requantize")):
            with self.subTest(op=op):
                w = Writer()
                quant(w, "x", 0.1, 8.0, 1, 0, "y", op)
                result = self.quantize(w.save(self.dir / f"{op}.onnx"), code=1)
                self.assertIn(op, result.err)
                self.assertIn(hint, result.err)
                self.assertFalse(self.out.exists())

    def test_pytorch(self):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                import torch
        except ImportError:
            self.skipTest("PyTorch is not installed")

        class Rounded(torch.nn.Module):
            def __init__(self):
                super().__init__()
                torch.manual_seed(3)
                self.first, self.second = torch.nn.Conv1d(4, 6, 3, padding=1), torch.nn.Conv1d(6, 3, 1)

            def conv(self, layer, x, pads):
                scale = layer.weight.detach().abs().amax(dim=(1, 2)) / 127
                weight = torch.fake_quantize_per_channel_affine(layer.weight, scale, torch.zeros(len(scale)).int(), 0, -128, 127)
                return torch.nn.functional.conv1d(x, weight, layer.bias, padding=pads)

            def forward(self, x):
                x = torch.fake_quantize_per_tensor_affine(x, 0.03, 0, -128, 127)
                x = torch.relu(self.conv(self.first, x, 1))
                x = torch.fake_quantize_per_tensor_affine(x, 0.012, 0, 0, 255)
                return torch.fake_quantize_per_tensor_affine(self.conv(self.second, x, 0), 0.01, 0, -128, 127)

        model = Rounded().eval()
        file = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(model, torch.zeros(1, 4, 32), file, opset_version=13, input_names=["x"], output_names=["y"])
        path = self.dir / "torch.onnx"
        path.write_bytes(file.getvalue())
        self.assertIn("QuantizeLinear", {n.op_type for n in onnx.load(str(path)).graph.node})
        codes = [torch.round(l.weight / (l.weight.abs().amax(dim=(1, 2), keepdim=True) / 127)).detach().numpy()
                 for l in (model.first, model.second)]
        self.check(path, codes, 0.03, 38)


if __name__ == "__main__":
    support.main()
