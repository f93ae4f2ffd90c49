"""A small integer network in the dialect, correct in every point, for tests that break it in one."""
import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from integer_network import Network, evaluate


class Builder:
    """Collects nodes and constants; `shapes` are those of the tensors made so far."""

    def __init__(self):
        self.nodes, self.constants, self.count = [], [], 0

    def constant(self, values, dtype=np.float32):
        name = f"c_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def add(self, op, inputs, domain="", **attributes):
        name = f"{op}_{self.count}"
        self.count += 1
        self.nodes.append(helper.make_node(op, inputs, [f"{name}_out"], name, domain=domain, **attributes))
        return f"{name}_out"

    def requant(self, x, mul, add, shift, signed=1):
        tensors = {"div": 2.0**shift, "n_levels_out": 256.0, "signed": float(signed)}
        attributes = {k: numpy_helper.from_array(np.float32(v).reshape([] if k == "div" else [1]), k)
                      for k, v in tensors.items()}
        return self.add("RequantShift", [x, self.constant(mul), self.constant(add)], "PACTOps", **attributes)

    def conv(self, x, weights, group=1, pads=0):
        return self.add("Conv", [x, self.constant(weights)], dilations=[1], group=group, pads=[pads, pads],
                        kernel_shape=[weights.shape[2]], strides=[1])


def attention(net, x, random):
    """Linear attention with two heads of width 2 over [1,2,16]."""
    def channels(values):
        return np.asarray(values).reshape(4, 1)

    def heads(name):
        return net.add("Reshape", [name, net.constant([1, 2, 2, 16], np.int64)])

    q = net.requant(net.conv(x, random.integers(-90, 90, (4, 2, 1))), channels([90, 95, 100, 105]), channels([0] * 4), 14, 0)
    v_sum = net.conv(x, random.integers(-90, 90, (4, 2, 1)))
    v = net.requant(v_sum, channels([70, -71, 72, 73]), channels([70, -142, 0, 730]), 13)
    k = net.requant(v_sum, channels([90, 91, 92, 93]), channels([90, 182, 0, 930]), 13, 0)
    v_heads = net.add("Transpose", [heads(v)], perm=[0, 1, 3, 2])
    k_heads = heads(k)
    q_heads = net.add("Transpose", [heads(q)], perm=[0, 1, 3, 2])
    kv = net.requant(net.add("MatMul", [k_heads, v_heads]), 60, 120, 16)
    mean = net.add("IntegerMean", [k_heads], "PACTOps", axes=[3], keepdims=0)
    mean = net.add("Unsqueeze", [mean], axes=[3])
    num, den = net.add("MatMul", [q_heads, kv]), net.add("MatMul", [q_heads, mean])
    quotient = net.add("IntegerDiv", [num, den], "PACTOps", Delta=1024, eps=64, eta=3)
    out = net.add("Transpose", [net.requant(quotient, 200, 0, 14)], perm=[0, 1, 3, 2])
    return net.add("Reshape", [out, net.constant([1, 4, 16], np.int64)])


def build(seed=1):
    """(model without value_info, feeds): inputs x and y [1,2,16] signed, output [1,3]."""
    random, net = np.random.default_rng(seed), Builder()
    two = np.ones((2, 1))
    x = net.requant(net.conv("x", random.integers(-99, 99, (2, 1, 5)), group=2, pads=2), 50 * two, -100 * two, 14)
    y = net.requant(net.conv("y", random.integers(-99, 99, (2, 2, 1))), 150 * two, 300 * two, 14)
    att = net.conv(attention(net, x, random), random.integers(-99, 99, (2, 4, 1)))
    att = net.requant(att, [[55], [-56]], [[110], [0]], 13)
    sum_1 = net.requant(net.add("Add", [att, y]), 9000, 0, 14)
    gelu = net.requant(net.add("iGELU", [sum_1], "PACTOps", b=-70, one=5000), 60, 0, 18)
    both = net.add("Concat", [gelu, y], axis=1)
    part = net.add("Slice", [both, *[net.constant([v], np.int64) for v in (1, 3, 1, 1)]])
    pooled = net.add("MaxPool", [part], ceil_mode=0, kernel_shape=[2], pads=[0, 0], strides=[2])
    padded = net.add("Pad", [pooled], mode="constant", pads=[0, 0, 4, 0, 0, 4], value=0.0)
    mean = net.add("IntegerMean", [padded], "PACTOps", axes=[2], keepdims=0)
    fc = net.add("Gemm", [mean, net.constant(random.integers(-99, 99, (3, 2))), net.constant([100, -7, 0])],
                 alpha=1.0, beta=1.0, transB=1)
    net.requant(fc, np.array([700, 800, -900]), np.zeros(3), 16)
    net.nodes[-1].output[0] = "logits"
    info = helper.make_tensor_value_info
    graph = helper.make_graph(net.nodes, "net", [info(n, TensorProto.FLOAT, [1, 2, 16]) for n in ("x", "y")],
                              [info("logits", TensorProto.FLOAT, [1, 3])], net.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 10), helper.make_opsetid("PACTOps", 1)])
    model.ir_version = 6
    feeds = {n: random.integers(-128, 128, (1, 2, 16)) for n in ("x", "y")}
    return model, feeds


def write(folder):
    """Writes the folder as an exporter would. \\return model and arrays, to be changed and written by `store`."""
    folder.mkdir(parents=True, exist_ok=True)
    model, feeds = build()
    onnx.save(model, str(folder / "network.onnx"))
    net = Network(folder / "network.onnx")
    values = evaluate(net, feeds)
    for name in net.activations():
        if name not in net.outputs:
            model.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, values[name].shape))
    arrays = {"inputs": feeds, "outputs": {n: values[n] for n in net.outputs},
              "activations": {n: values[n] for n in net.activations() if n not in net.outputs}}
    quantization = {"inputs": [{"name": n, "signed": True} for n in feeds]}
    store(folder, model, arrays, quantization)
    return model, arrays, quantization


def store(folder, model, arrays, quantization):
    onnx.save(model, str(folder / "network.onnx"))
    for name, content in arrays.items():
        np.savez(folder / f"{name}.npz", **content)
    (folder / "quantization.json").write_text(json.dumps(quantization))
