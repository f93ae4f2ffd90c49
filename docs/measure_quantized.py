#!/usr/bin/env python3
"""Prints the table of docs/quantized-models.md: PYTHONPATH=build/python docs/measure_quantized.py [FOLDER WITH MODELS]

Each network gets QuantizeLinear/DequantizeLinear pairs where ONNX Runtime's static quantization places them: uint8 with a zero point in front of Conv,
Gemm, MatMul and Add and at the output, ranges from minimum and maximum of 32 calibration samples; int8 for each channel of the weights. The logits of
waveq's integer network are compared with those of this network on 200 test samples. Needs the Python packages waveq and onnx."""
import pathlib
import sys
import tempfile

import numpy as np
import onnx
from onnx import helper, numpy_helper

import waveq

ROOT = pathlib.Path(__file__).resolve().parents[1]
NETWORKS = {"DS-CNN": "dscnn_fsdd", "Transformer": "transformer_fsdd"}


def samples(file, count):
    """The first samples of an .npz as {input: array}."""
    data = np.load(file)
    if "input" in data:
        return {"input": data["input"][:count]}
    return {"input": data["input_int16"][:count].astype(np.float32) * np.float32(data["input_scale"])}


class Quantized:
    """A float model with roundings."""

    def __init__(self, source, calibration):
        self.model = onnx.load(source)
        self.graph = self.model.graph
        self.weights = {t.name: numpy_helper.to_array(t) for t in self.graph.initializer}
        self.values = {**waveq.load(source).run(calibration, all_tensors=True), **calibration}
        self.nodes, self.rounded = [], {}
        for node in list(self.graph.node):
            if node.op_type in ("Conv", "Gemm", "MatMul", "Add"):
                for i, tensor in enumerate(node.input):
                    if tensor in self.values:
                        node.input[i] = self.activation(tensor)
                    elif i == 1 and node.op_type != "Add":
                        node.input[i] = self.weight(tensor, node)
            self.nodes.append(node)
        self.round_output()
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)

    def constant(self, value, dtype):
        name = f"grid_{len(self.graph.initializer)}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def activation(self, tensor):
        if tensor not in self.rounded:
            low, high = min(self.values[tensor].min(), 0.0), max(self.values[tensor].max(), 0.0)
            scale = np.float32(max(high - low, 1e-6) / 255)
            grid = [self.constant(scale, np.float32), self.constant(np.clip(np.round(-low / scale), 0, 255), np.uint8)]
            self.nodes.append(helper.make_node("QuantizeLinear", [tensor, *grid], [tensor + "_q"], tensor + "_q"))
            self.nodes.append(helper.make_node("DequantizeLinear", [tensor + "_q", *grid], [tensor + "_dq"], tensor + "_dq"))
            self.rounded[tensor] = tensor + "_dq"
        return self.rounded[tensor]

    def weight(self, tensor, node):
        if tensor not in self.rounded:
            real = self.weights[tensor]
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            axis = 0 if node.op_type == "Conv" or transposed else real.ndim - 1
            channels = np.moveaxis(real, axis, 0).reshape(real.shape[axis], -1)
            scale = np.maximum(np.abs(channels).max(axis=1), 1e-8) / 127
            codes = np.round(real / scale.reshape([-1 if i == axis else 1 for i in range(real.ndim)]))
            grid = [self.constant(codes, np.int8), self.constant(scale, np.float32), self.constant(np.zeros(len(scale)), np.int8)]
            self.nodes.append(helper.make_node("DequantizeLinear", grid, [tensor + "_dq"], tensor + "_dq", axis=axis))
            self.rounded[tensor] = tensor + "_dq"
        return self.rounded[tensor]

    def round_output(self):
        name = self.graph.output[0].name
        producer = next(n for n in self.nodes if name in n.output)
        producer.output[0] = name + "_real"
        self.values[name + "_real"] = self.values[name]
        self.activation(name + "_real")
        self.nodes[-1].output[0] = name


def within_one_step(model, folder, **options):
    result = waveq.quantize(model, samples(folder / "calib.npz", None), **options)
    data = samples(folder / "test.npz", 200)
    name = result.network.outputs[0].name
    integer, real = result.run(data)[name], waveq.load(model).run(data)[name]
    step = np.diff(np.unique(np.round(real, 5))).min()
    return f"{100 * np.mean(np.abs(integer - real.reshape(integer.shape)) <= 1.01 * step):.1f} %"


def main():
    models = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "../shared/models"
    print("| network | logits within one step | with `zero_points = false` |\n|---|---|---|")
    for title, folder in NETWORKS.items():
        with tempfile.TemporaryDirectory() as tmp:
            model = pathlib.Path(tmp) / "model.onnx"
            onnx.save(Quantized(models / folder / "model.onnx", samples(models / folder / "calib.npz", 32)).model, model)
            plain = waveq.Recipe.from_toml("[quantization]\nzero_points = false\n")
            cells = [within_one_step(model, models / folder), within_one_step(model, models / folder, recipe=plain)]
        print(f"| {title} | {cells[0]} | {cells[1]} |")


if __name__ == "__main__":
    main()
