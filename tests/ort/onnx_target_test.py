#!/usr/bin/python3
"""`--target onnx`: ONNX Runtime computes the very integers of `waveq run`, in every element.

Whole networks are quantized for the default target and for `onnx`; waveq evaluates the first, ONNX Runtime the second.
Single operators come from `waveq vectors`, whose inputs are extremes, ties and accumulators at their bound.
"""
import unittest

import runtime  # noqa: E402; it makes the command line tests' modules visible
import small_float_networks
import support
from support import EXAMPLE, SHARED, need_binary

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DRAWN = 3
SHARED_MODELS = [("waveformer_kws_fsdd", "model.onnx"), ("waveformer_kws_espeak", "model.onnx"),
                 ("dscnn_fsdd", "model.onnx"), ("waveformer_asr_fsdd", "model.onnx"), ("transformer_fsdd", "model.onnx")]
SMALL = ("residual_2d", "pad_and_pool", "concat_and_slice", "gelu_block", "odd_pads", "mean_of_odd_length",
         "negative_gain", "linear_layers", "picked_elements")


def codes_for(folder, seed):
    """Inputs of a quantized folder: its golden ones, all smallest, all largest, drawn codes. A list of [N, ...]."""
    random = np.random.default_rng(seed)
    arrays = []
    with np.load(folder / "inputs.npz") as golden:
        for name, dtype, shape in runtime.interface(onnx.load(str(folder / "network.onnx")).graph.input):
            info = np.iinfo(dtype)
            drawn = random.integers(info.min, info.max + 1, [DRAWN, *shape])
            cases = [golden[name].reshape([1, *shape]), np.full([1, *shape], info.min), np.full([1, *shape], info.max)]
            arrays.append(np.concatenate([*cases, drawn]).astype(dtype))
    return arrays


class OnnxTarget(support.Case):
    def setUp(self):
        super().setUp()
        need_binary()
        runtime.install()

    def check_file(self, path, borders=False):
        """Valid, of the default operator set alone, and without a float tensor unless it is a border to floats."""
        model = onnx.load(str(path))
        onnx.checker.check_model(model, full_check=True)
        self.assertEqual([o.domain for o in model.opset_import], [""])
        self.assertEqual({n.domain for n in model.graph.node}, {""})
        if borders:
            return
        floats = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16}
        infos = [*model.graph.input, *model.graph.output, *model.graph.value_info]
        self.assertFalse({i.type.tensor_type.elem_type for i in infos} & floats)
        self.assertFalse({t.data_type for t in model.graph.initializer} & floats)

    def quantized(self, number, model, calib):
        """Folders for both targets, or None where the default target takes another network."""
        folders = []
        for target in ("deeploy-generic", "onnx"):
            folder = self.dir / f"{number}_{target}"
            self.run_waveq("quantize", model, "--calib", calib, "--target", target, "-o", folder, timeout=300)
            folders.append(folder)
        self.check_file(folders[1] / "network.onnx")
        with np.load(folders[1] / "inputs.npz") as arrays:
            self.assertLessEqual({arrays[name].dtype.itemsize for name in arrays.files}, {1, 2})
        return folders

    def compare_networks(self, models):
        folders = [self.quantized(i, model, calib) for i, (model, calib) in enumerate(models)]
        inputs = [codes_for(ours, 7 + i) for i, (_, ours) in enumerate(folders)]
        networks = [(ours / "network.onnx", x) for (_, ours), x in zip(folders, inputs)]
        results = runtime.run_networks(networks, self.dir)
        for (model, _), (default, ours), x, result in zip(models, folders, inputs, results):
            with self.subTest(model=str(model)):
                self.compare(default, ours, x, result)

    def compare(self, default, ours, x, result):
        names = [name for name, _, _ in runtime.interface(onnx.load(str(ours / "network.onnx")).graph.input)]
        np.savez(self.dir / "x.npz", **dict(zip(names, x)))
        for folder in (default, ours):
            self.run_waveq("run", folder / "network.onnx", "--inputs", self.dir / "x.npz", "-o", self.dir / "y.npz")
            with np.load(self.dir / "y.npz") as expected:
                self.assertEqual(sorted(expected.files), sorted(result))
                for name, got in result.items():
                    np.testing.assert_array_equal(got.reshape(expected[name].shape), expected[name], err_msg=name)

    def test_generated_networks(self):
        models = []
        for name in SMALL:
            model = getattr(small_float_networks, name)(self.dir / f"{name}.onnx")
            _, _, shape = runtime.interface(onnx.load(str(model)).graph.input)[0]
            x = np.random.default_rng(5).normal(size=[16, *shape[1:]]).astype(np.float32)
            np.savez(self.dir / f"{name}.npz", x=x)
            models.append((model, self.dir / f"{name}.npz"))
        self.compare_networks(models)

    def test_trained_networks(self):
        models = [(EXAMPLE / "model.onnx", EXAMPLE / "calib.npz")]
        models += [(SHARED / "models" / n / m, SHARED / "models" / n / "calib.npz") for n, m in SHARED_MODELS]
        self.compare_networks([pair for pair in models if pair[0].exists() and pair[1].exists()])

    def test_every_operator_of_the_dialect(self):
        network = self.dir / "units.onnx"
        units = write_units(network)
        self.run_waveq("vectors", network, "--target", "onnx", "--format", "deeploy", "-o", self.dir / "v")
        cases = sorted((self.dir / "v").glob("*/case_*"))
        self.assertEqual({c.parent.name for c in cases}, units)
        jobs, golden = [], []
        for case in cases:
            if case.name == cases[0].name:
                self.check_file(case / "network.onnx", borders=case.parent.name.split("_")[0] in ("quant", "dequant"))
                self.run_waveq("verify", case)
            with np.load(case / "inputs.npz") as x, np.load(case / "outputs.npz") as y:
                jobs.append((case / "network.onnx", [x[name][None] for name in x.files]))
                golden.append({name: y[name] for name in y.files})
        for case, got, wanted in zip(cases, runtime.run_networks(jobs, self.dir), golden):
            with self.subTest(unit=case.parent.name, case=case.name):
                for name, array in wanted.items():
                    np.testing.assert_array_equal(got[name].reshape(array.shape), array, err_msg=name)


class Units:
    """One network with each operator of the dialect on inputs of its own."""

    def __init__(self):
        self.random, self.nodes, self.inputs, self.outputs, self.constants = np.random.default_rng(3), [], [], [], []

    def input(self, dtype, *shape):
        name = f"in{len(self.inputs)}"
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def const(self, values, dtype):
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def drawn(self, lo, hi, *shape, dtype=np.int8):
        return self.const(self.random.integers(lo, hi + 1, shape), dtype)

    def add(self, name, op, *inputs, dialect=False, **attributes):
        self.nodes.append(helper.make_node(op, list(inputs), [f"{name}_y"], name, domain="PACTOps" if dialect else "",
                                           **attributes))
        self.outputs.append(helper.make_empty_tensor_value_info(f"{name}_y"))

    def dialect(self, name, op, *inputs, **attributes):
        self.add(name, op, *inputs, dialect=True, **attributes)


I8, U8, I32 = TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32


def add_linear(u):
    for name, dtype in (("i8", I8), ("u8", U8)):
        u.add(f"conv_{name}", "Conv", u.input(dtype, 1, 4, 12), u.drawn(-128, 127, 6, 2, 3), group=2, pads=[2, 1],
              dilations=[2], strides=[2])
        u.add(f"matmul_{name}", "MatMul", u.input(dtype, 2, 5, 7), u.drawn(-128, 127, 7, 3))
        u.add(f"matmul_of_{name}", "MatMul", u.input(dtype, 2, 5, 7), u.input(I8, 2, 7, 3))
    u.add("conv_2d_bias", "Conv", u.input(I8, 1, 2, 6, 5), u.drawn(-128, 127, 3, 2, 3, 2),
          u.drawn(-9999, 9999, 3, dtype=np.int32), pads=[1, 0, 1, 1])
    u.add("matmul_unsigned", "MatMul", u.input(U8, 1, 5, 7), u.input(U8, 1, 7, 3))
    u.add("gemm", "Gemm", u.input(I8, 1, 9), u.drawn(-128, 127, 5, 9), u.drawn(-9999, 9999, 5, dtype=np.int32), transB=1)
    u.add("gemm_columns", "Gemm", u.input(U8, 9, 1), u.drawn(-128, 127, 9, 5), transA=1)


def add_arithmetic(u):
    for op in ("Add", "Sub", "Mul"):
        u.add(op.lower(), op, u.input(I8, 1, 3, 8), u.input(U8, 1, 3, 8))
    u.add("add_row", "Add", u.input(I8, 1, 3, 8), u.drawn(-128, 127, 8))
    for op in ("ReduceSum",):
        u.add(op.lower(), op, u.input(I8, 1, 3, 8), u.const([2], np.int64), keepdims=0)
    for op in ("ReduceMax", "ReduceMean"):
        u.add(op.lower(), op, u.input(I8, 1, 3, 7), axes=[2], keepdims=1)
    u.add("mean_of_8", "ReduceMean", u.input(I8, 1, 3, 8), axes=[1, 2], keepdims=0)
    u.add("mean_of_24", "ReduceMean", u.input(I8, 1, 3, 8), keepdims=0)
    u.dialect("integer_mean", "IntegerMean", u.input(I8, 1, 4, 8), axes=[2], keepdims=0)
    u.dialect("integer_mean_of_6", "IntegerMean", u.input(U8, 1, 4, 6), axes=[2], keepdims=1)
    u.add("max_pool", "MaxPool", u.input(I8, 1, 3, 8), kernel_shape=[3], strides=[2], pads=[1, 1])
    u.add("max_pool_unsigned", "MaxPool", u.input(U8, 1, 3, 6, 6), kernel_shape=[2, 2], strides=[2, 2])
    u.add("relu", "Relu", u.input(I8, 1, 3, 8))
    u.add("clip", "Clip", u.input(I8, 1, 3, 8), u.const(-5, np.int8), u.const(90, np.int8))


def add_requants(u):
    scalar = [u.const([v], np.int32) for v in (77, 1540)]
    column = [u.const(v, np.int32) for v in ([[30], [-40], [50]], [[60], [-120], [0]])]
    row = [u.const(v, np.int32) for v in ([[[[9]], [[-7]], [[5]]]], [[[[18]], [[-7]], [[50]]]])]
    flat = [u.const(v, np.int32) for v in ([3, -4, 5], [-6, 7, 8])]
    for name, dtype, shape, (mul, add), attributes in (
            ("scalar", I32, [1, 3, 8], scalar, {"div": 1024, "signed": 1}),
            ("unsigned", I32, [1, 3, 8], scalar, {"div": 256, "signed": 0}),
            ("of_u8", U8, [1, 3, 8], scalar, {"div": 128, "signed": 1}),
            ("channels", I32, [1, 3, 8], column, {"div": 512, "signed": 1}),
            ("image", I32, [1, 3, 4, 4], row, {"div": 16, "signed": 0}),
            ("matrix_rows", I32, [3, 4], column, {"div": 64, "signed": 1}),
            ("matrix_columns", I32, [2, 3], flat, {"div": 8, "signed": 1}),
            ("no_shift", I32, [1, 3, 8], flat, {"div": 1, "signed": 1}),
            ("floor", I32, [1, 3, 8], scalar, {"div": 1024, "signed": 1, "rounding": "floor"}),
            ("four_bits", I32, [1, 3, 8], scalar, {"div": 65536, "signed": 1, "n_levels_out": 16}),
            ("sixteen_bits", I32, [1, 3, 8], scalar, {"div": 64, "signed": 1, "n_levels_out": 65536})):
        u.dialect(f"requant_{name}", "RequantShift", u.input(dtype, *shape), mul, add,
                  **{"n_levels_out": 256, **attributes})


def add_nonlinear(u):
    for name, dtype in (("i8", I8), ("u8", U8)):
        u.dialect(f"gelu_{name}", "iGELU", u.input(dtype, 1, 3, 16), b=-90, one=9000)
        u.dialect(f"hardswish_{name}", "iHardswish", u.input(dtype, 1, 3, 16), three=40, six=80, one_over_six=21)
        u.dialect(f"softmax_{name}", "iSoftmax", u.input(dtype, 1, 3, 16), coeffA=23, coeffB=90, coeffC=40000, log2=45,
                  n_levels=256)
        u.dialect(f"itamax_{name}", "ITAMax", u.input(dtype, 1, 3, 16), n_levels=256)
        u.dialect(f"ita_partial_max_{name}", "ITAPartialMax", u.input(dtype, 1, 3, 16), n_levels=256, group_width=4)
        weight, bias = u.drawn(-60, 60, 16), u.drawn(-900, 900, 16, dtype=np.int32)
        u.dialect(f"layer_norm_{name}", "iLayerNorm", u.input(dtype, 1, 3, 16), weight, bias, D=16, n_levels=256)
        u.dialect(f"rms_norm_{name}", "iRMSNorm", u.input(dtype, 1, 3, 16), weight, D=2, n_levels=256)
        u.dialect(f"no_norm_{name}", "iNoNorm", u.input(dtype, 1, 3, 16), weight, bias, D=65536, mul=300, n_levels=256)
    u.dialect("integer_div", "IntegerDiv", u.input(I32, 1, 3, 8), u.input(U8, 1, 3, 1), Delta=127, eps=1, eta=1)
    u.dialect("integer_div_eta", "IntegerDiv", u.input(I8, 1, 3, 8), u.input(U8, 1, 3, 1), Delta=255, eps=77, eta=1000)
    u.dialect("true_integer_div", "TrueIntegerDiv", u.input(I8, 1, 3, 8), Delta=-1000, eps=1, eta=7, y=11)


def add_recurrent(u):
    def curve(steepness):
        return u.const(np.round(32767 * np.tanh(np.linspace(-steepness, steepness, 513))), np.int16)

    steps, batch, inputs, units = 5, 2, 3, 4
    for name, op, gates, dtype, attributes in (
            ("gru", "iGRU", 3, I8, {"linear_before_reset": 1}),
            ("gru_reset_first", "iGRU", 3, U8, {"state_bits": 16, "reverse": 1}),
            ("gru_narrow", "iGRU", 3, I8, {"n_levels_out": 65536}),
            ("lstm", "iLSTM", 4, I8, {}),
            ("lstm_cell", "iLSTM", 4, I8, {"cell_output": 1, "n_levels_out": 65536}),
            ("lstm_wide", "iLSTM", 4, U8, {"state_bits": 16, "n_levels_out": 65536, "reverse": 1, "cell_bits": 1})):
        rows = gates * units
        operands = [u.input(dtype, steps, batch, inputs), u.drawn(-128, 127, rows, inputs), u.drawn(-128, 127, rows, units)]
        for largest in (60000, 9000, 900, 9000):  # w_mul, w_bias, r_mul, r_bias
            operands.append(u.drawn(1 if largest != 9000 else -largest, largest, rows, dtype=np.int32))
        operands += [curve(3), curve(5)]
        if name in ("gru_reset_first", "lstm_wide"):
            operands += [u.drawn(-32768, 32767, batch, units, dtype=np.int16) for _ in range(2 if gates == 4 else 1)]
        u.dialect(name, op, *operands, w_shift=12, r_shift=9 + 8 * (attributes.get("state_bits") == 16), **attributes)

def add_borders(u):
    """Quant as Deeploy's kernel and as a chain, both sides of its clip; Dequant of 8 and 32 bits."""
    for name, attributes in (("kernel", {"scale": 7.3, "zero_point": -3.0, "signed": 1}), ("unsigned", {"scale": 0.5, "zero_point": 128.0, "signed": 0}),
                             ("chain", {"scale": 10.0, "zero_point": 2.0, "signed": 1, "divisor": 0.1, "min_val": -127, "max_val": 127})):
        u.dialect(f"quant_{name}", "Quant", u.input(TensorProto.FLOAT, 1, 3, 50), bit_width=8, **attributes)
    u.dialect("dequant", "Dequant", u.input(I8, 1, 3, 16), scale=0.1, zero_point=-7.0, bit_width=8, signed=1)
    u.dialect("dequant_32", "Dequant", u.input(I32, 1, 3, 16), scale=-0.003, zero_point=70000.0, bit_width=32, signed=1)


def write_units(path):
    """Writes the network; the names of its nodes."""
    u = Units()
    for part in (add_linear, add_arithmetic, add_requants, add_nonlinear, add_recurrent, add_borders):
        part(u)
    graph = helper.make_graph(u.nodes, "units", u.inputs, u.outputs, u.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid("PACTOps", 1)])
    model.ir_version = 7
    onnx.save(model, str(path))
    return {n.name for n in u.nodes}


if __name__ == "__main__":
    support.main()
