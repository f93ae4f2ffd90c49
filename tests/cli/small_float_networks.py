"""Small float networks, one for each form of graph that an exporter has to bring into the dialect."""
import numpy as np
from onnx import helper

from support import float_model, initializer


class Net:
    """Collects nodes and weights of one float network."""

    def __init__(self, seed):
        self.random, self.nodes, self.weights = np.random.default_rng(seed), [], []

    def weight(self, *shape):
        scale = 1.0 / np.sqrt(max(1, int(np.prod(shape[1:]))))
        self.weights.append(initializer(f"w{len(self.weights)}", self.random.normal(size=shape) * scale))
        return self.weights[-1].name

    def const(self, values, dtype=np.float32):
        self.weights.append(initializer(f"w{len(self.weights)}", values, dtype))
        return self.weights[-1].name

    def add(self, op, *inputs, **attributes):
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [f"{name}_y"], name, **attributes))
        return f"{name}_y"

    def conv(self, x, out, cin, kernel, group=1, pads=None, bias=True, **attributes):
        inputs = [x, self.weight(out, cin // group, *kernel)] + ([self.weight(out)] if bias else [])
        return self.add("Conv", *inputs, kernel_shape=list(kernel), group=group,
                        pads=pads or [k // 2 for k in kernel] * 2, **attributes)

    def save(self, path, result, shape, out):
        self.nodes[-1].output[0] = "y"
        assert result == f"{self.nodes[-1].name}_y"
        return float_model(path, self.nodes, [("x", shape)], [("y", out)], self.weights)


def residual_2d(path):
    n = Net(1)
    a = n.add("Relu", n.conv("x", 6, 2, (3, 3)))
    b = n.conv(n.add("Relu", n.conv(a, 6, 6, (3, 3), group=6)), 6, 6, (1, 1), bias=False)
    pooled = n.add("GlobalAveragePool", n.add("Relu", n.add("Add", a, b)))
    return n.save(path, n.add("Gemm", n.add("Flatten", pooled, axis=1), n.weight(6, 3), n.weight(3)), [1, 2, 8, 8], [1, 3])


def pad_and_pool(path):
    n = Net(2)
    a = n.add("Relu", n.conv("x", 4, 2, (3,)))
    a = n.add("Pad", a, n.const([0, 0, 1, 0, 0, 1], np.int64), n.const(0.0), mode="constant")
    a = n.add("MaxPool", a, kernel_shape=[2], strides=[2])
    return n.save(path, n.conv(a, 3, 4, (1,)), [1, 2, 30], [1, 3, 16])


def concat_and_slice(path):
    n = Net(3)
    a, b = n.conv("x", 4, 2, (3,)), n.add("Relu", n.conv("x", 4, 2, (1,)))
    c = n.add("Concat", a, b, a, axis=1)
    c = n.add("Slice", c, *[n.const([v], np.int64) for v in (2, 2**31, 1)])
    c = n.add("Transpose", c, perm=[0, 2, 1])
    return n.save(path, n.add("MatMul", c, n.weight(10, 5)), [1, 2, 16], [1, 16, 5])


def gelu_block(path):
    n = Net(4)
    a = n.conv("x", 8, 4, (1,))
    g = n.add("Erf", n.add("Div", a, n.const(np.sqrt(2.0))))
    g = n.add("Mul", n.add("Mul", a, n.add("Add", g, n.const(1.0))), n.const(0.5))
    return n.save(path, n.add("Add", n.conv(g, 4, 8, (1,)), "x"), [1, 4, 16], [1, 4, 16])


def odd_pads(path):
    n = Net(5)
    a = n.add("Relu", n.conv("x", 4, 2, (4,), pads=[1, 2]))
    a = n.add("Relu", n.conv(a, 4, 4, (4,), pads=[2, 1], strides=[2]))
    return n.save(path, n.conv(a, 2, 4, (3,), pads=[2, 0]), [1, 2, 16], [1, 2, 8])


def mean_of_odd_length(path):
    n = Net(6)
    a = n.add("ReduceMean", n.add("Relu", n.conv("x", 5, 2, (3,))), axes=[2], keepdims=1)
    return n.save(path, n.conv(a, 3, 5, (1,)), [1, 2, 21], [1, 3, 1])


def negative_gain(path):
    n = Net(7)
    a = n.add("Mul", n.conv("x", 4, 2, (3,)), n.const(np.float32([-1.5, 2.0, -0.25, 1.0]).reshape(1, 4, 1)))
    a = n.add("Add", a, n.const(np.float32([0.5, -3.0, 0.0, 1.0]).reshape(1, 4, 1)))
    return n.save(path, n.add("Relu", a), [1, 2, 16], [1, 4, 16])


def linear_layers(path):
    n = Net(8)
    a = n.add("Relu", n.add("Add", n.add("MatMul", "x", n.weight(6, 9)), n.weight(9)))
    return n.save(path, n.add("Add", n.add("MatMul", a, n.weight(9, 4)), n.weight(4)), [1, 7, 6], [1, 7, 4])


def picked_elements(path):
    n = Net(9)
    a = n.conv("x", 6, 2, (3,))
    b = n.add("Gather", a, n.const([4, 0, 3, -1], np.int64), axis=1)
    b = n.add("Slice", b, *[n.const([v], np.int64) for v in (14, -20, 2, -2)])
    b = n.add("Tile", b, n.const([1, 1, 2], np.int64))
    c = n.add("ReduceMax", a, axes=[1], keepdims=1)
    return n.save(path, n.conv(n.add("Where", n.const(np.arange(16) % 3 == 0, np.bool_), b, c), 3, 4, (1,)), [1, 2, 16], [1, 3, 16])


NETWORKS = [residual_2d, pad_and_pool, concat_and_slice, gelu_block, odd_pads, mean_of_odd_length, negative_gain, linear_layers,
            picked_elements]
