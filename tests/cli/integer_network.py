"""An integer ONNX network, read and evaluated with NumPy alone.

Nothing here comes from waveq: formulas follow the dialect's kernels (RequantShift, iGELU, IntegerDiv, ...), every
value is kept in 64 bits and every int32 intermediate is checked, so that a wrap is an error instead of a result.
"""
import numpy as np
import onnx
from onnx import AttributeProto, numpy_helper

INT32 = (-(2**31), 2**31 - 1)


class IntegerError(Exception):
    """A value the target could not hold, or a node that has no integer meaning; names the node."""


class Node:
    def __init__(self, proto):
        self.op, self.domain, self.name = proto.op_type, proto.domain, proto.name
        self.inputs, self.outputs = [i for i in proto.input], [o for o in proto.output]
        self.protos = {a.name: a for a in proto.attribute}

    @property
    def where(self):
        return f"{self.op} '{self.name or self.outputs[0]}'"

    def attr(self, name, default=None):
        """Value of an attribute; tensors become arrays, text becomes str."""
        if name not in self.protos:
            return default
        proto = self.protos[name]
        value = onnx.helper.get_attribute_value(proto)
        if proto.type == AttributeProto.TENSOR:
            return numpy_helper.to_array(value)
        return value.decode() if isinstance(value, bytes) else value

    def integer(self, name, default=None):
        """One integer, whether stored as int, float or tensor of one element."""
        value = self.attr(name, default)
        if value is None:
            raise IntegerError(f"{self.where}: attribute '{name}' is missing")
        return int(np.asarray(value).reshape(-1)[0])

    def axes(self):
        value = self.attr("axes")
        return [value] if isinstance(value, int) else value if value is None else list(value)


class Network:
    """A loaded file: nodes without `Constant`, constants as stored, declared types, who makes and who reads what."""

    def __init__(self, path):
        self.model = onnx.load(str(path))
        graph = self.model.graph
        self.constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
        self.nodes = []
        for proto in graph.node:
            node = Node(proto)
            if node.op == "Constant":
                self.constants[node.outputs[0]] = np.asarray(node.attr("value"))
            else:
                self.nodes.append(node)
        self.inputs = [v.name for v in graph.input if v.name not in self.constants]
        self.outputs = [v.name for v in graph.output]
        self.declared = {v.name: v.type.tensor_type for v in [*graph.value_info, *graph.input, *graph.output]}
        self.producer = {o: n for n in self.nodes for o in n.outputs}
        self.consumers = {}
        for node in self.nodes:
            for name in node.inputs:
                self.consumers.setdefault(name, []).append(node)

    def shape(self, name):
        """Declared shape, None where there is none or a dimension is open."""
        if name in self.constants:
            return list(self.constants[name].shape)
        if name not in self.declared or not self.declared[name].HasField("shape"):
            return None
        dims = self.declared[name].shape.dim
        return [d.dim_value for d in dims] if all(d.HasField("dim_value") and d.dim_value > 0 for d in dims) else None

    def activations(self):
        return [o for n in self.nodes for o in n.outputs]


def fit(value, node, what, bounds=INT32):
    """`value` if all of it lies within `bounds`."""
    value = np.asarray(value)
    if value.size and (value.min() < bounds[0] or value.max() > bounds[1]):
        at = np.unravel_index(np.argmax((value < bounds[0]) | (value > bounds[1])), value.shape)
        raise IntegerError(f"{node.where}: {what} is {int(value[at])} at {[int(i) for i in at]}, "
                           f"outside {bounds[0]}..{bounds[1]}")
    return value


def tdiv(a, b):
    """Quotient truncated towards zero, as in C."""
    return np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))


def log2(value, node, what):
    value = int(value)
    if value < 1 or value & (value - 1):
        raise IntegerError(f"{node.where}: {what} = {value} is not a power of two")
    return value.bit_length() - 1


def dot(a, b, node):
    """a.b; no order of summation may leave int32."""
    if a.size and b.size and a.shape[-1] * int(np.abs(a).max()) * int(np.abs(b).max()) > INT32[1]:
        fit(np.matmul(np.abs(a), np.abs(b)), node, "the sum of |products|")
    return np.matmul(a, b)


def conv(node, x, w, bias=None):
    rank = x.ndim - 2
    strides, dilations = node.attr("strides", [1] * rank), node.attr("dilations", [1] * rank)
    pads, group = node.attr("pads", [0] * 2 * rank), node.attr("group", 1)
    x = np.pad(x, [(0, 0), (0, 0)] + [(pads[i], pads[rank + i]) for i in range(rank)])
    size = [(x.shape[2 + i] - dilations[i] * (w.shape[2 + i] - 1) - 1) // strides[i] + 1 for i in range(rank)]
    weights = w.reshape(group, w.shape[0] // group, *w.shape[1:])
    total = np.zeros((x.shape[0], group, w.shape[0] // group, int(np.prod(size))), np.int64)
    reach = np.zeros_like(total)
    for tap in np.ndindex(*w.shape[2:]):
        window = x[(slice(None), slice(None)) + tuple(
            slice(tap[i] * dilations[i], tap[i] * dilations[i] + (size[i] - 1) * strides[i] + 1, strides[i])
            for i in range(rank))].reshape(x.shape[0], group, x.shape[1] // group, -1)
        piece = weights[(Ellipsis,) + tap]
        total += np.matmul(piece[None], window)
        reach += np.abs(piece).sum(axis=-1)[None, :, :, None] * int(np.abs(window).max(initial=0))
    fit(reach, node, "the bound of the accumulator")
    out = total.reshape(x.shape[0], w.shape[0], *size)
    return out if bias is None else fit(out + bias.reshape([1, -1] + [1] * rank), node, "accumulator + bias")


def requant_shift(node, x, mul, add):
    shift = log2(node.integer("div"), node, "div")
    levels = node.integer("n_levels_out", node.attr("n_levels"))
    low = -(levels // 2) if node.integer("signed") else 0
    along = [1, -1] + [1] * (x.ndim - 2)
    mul, add = (p.reshape(-1) if p.size == 1 else p.reshape(along) for p in (mul, add))
    total = fit(fit(x * mul, node, "x*mul") + add, node, "x*mul + add")
    half = 1 << (shift - 1) if shift else 0
    return np.clip(fit(total + half, node, "x*mul + add + half") >> shift, low, low + levels - 1).reshape(x.shape)


def integer_gelu(node, x):
    b, one = node.integer("b"), node.integer("one")
    q = np.minimum(np.abs(x), -b)
    bell = np.sign(x) * fit(one - fit((q + b) ** 2, node, "(q+b)^2"), node, "one - (q+b)^2")
    return fit(x * ((one + bell) >> 1), node, "the result")


def integer_div(node, num, den):
    gain = fit(np.int64(node.integer("Delta") * node.integer("eta")), node, "Delta*eta")
    d = fit(den * node.integer("eta") + node.integer("eps"), node, "eta*den + eps")
    if d.min() <= 0:
        raise IntegerError(f"{node.where}: the divisor eta*den + eps is {int(d.min())}, it must be positive")
    if num.size and int(np.abs(num).max()) * abs(int(gain)) + int(d.max()) >= 2**63:
        raise IntegerError(f"{node.where}: Delta*eta*num leaves int64")
    n = num * gain
    return fit(tdiv(n + np.where(n < 0, -(d >> 1), d >> 1), d), node, "the quotient")


def mean(node, x, keepdims_default):
    axes = tuple(a % x.ndim for a in (node.axes() or range(x.ndim)))
    length = int(np.prod([x.shape[a] for a in axes]))
    shift = log2(length, node, "the number of averaged elements")
    keep = bool(node.attr("keepdims", keepdims_default))
    return fit(x.sum(axis=axes, keepdims=keep) + length // 2, node, "the sum") >> shift


def integer_softmax(node, x):
    a, b, c, log_2 = (node.integer(k) for k in ("coeffA", "coeffB", "coeffC", "log2"))
    t = x - x.max(axis=-1, keepdims=True)
    z = np.clip(-tdiv(t, np.int64(log_2)), 0, 31)
    e = fit(a * (t + z * log_2 + b) ** 2 + c, node, "A*(p+B)^2 + C", (0, 2**32 - 1)) >> z
    top = node.integer("n_levels") - 1
    return fit(e * top, node, "e*(n-1)", (0, 2**32 - 1)) // e.sum(axis=-1, keepdims=True)


def ita_max(node, x):
    h = (x.max(axis=-1, keepdims=True) - x + 16) >> 5
    total = (256 >> h).sum(axis=-1, keepdims=True)
    return ((node.integer("n_levels") - 1) * 256 // total) >> h


def ita_partial_max(node, x):
    width, levels = node.integer("group_width"), node.integer("n_levels")
    top = np.full(x.shape[:-1] + (1,), -128, np.int64)
    total = np.zeros_like(top)
    for start in range(0, x.shape[-1], width):
        part = x[..., start:start + width]
        new = np.maximum(top, part.max(axis=-1, keepdims=True))
        total = np.where(new > top, total >> ((new - top + 16) >> 5), total)
        total = total + (256 >> ((new - part + 16) >> 5)).sum(axis=-1, keepdims=True)
        top = new
    return ((levels // 2 - 1) * 256 // total) >> ((top - x + 16) >> 5)


def layer_norm(node, x, weight, bias):
    n = x.shape[-1]
    t = x - tdiv(x.sum(axis=-1, keepdims=True), np.int64(n))
    v = tdiv((t * t).sum(axis=-1, keepdims=True), np.int64(n)) + 1
    sigma = np.floor(np.sqrt(v.astype(np.float64))).astype(np.int64)
    y = fit(tdiv(t * weight, sigma) + bias, node, "t*w/sigma + bias") >> log2(node.integer("D"), node, "D")
    return fit(y, node, "the result, which the kernel does not clip,", (-128, 127))


def rms_norm(node, x, weight):
    v = tdiv((x * x).sum(axis=-1, keepdims=True), np.int64(x.shape[-1])) + 1
    sigma = np.floor(np.sqrt(v.astype(np.float64))).astype(np.int64)
    y = tdiv(fit(x * weight, node, "x*w"), sigma) >> log2(node.integer("D"), node, "D")
    return np.clip(y, -128, 127)


def max_pool(node, x):
    kernel, rank = node.attr("kernel_shape"), x.ndim - 2
    strides, pads = node.attr("strides", [1] * rank), node.attr("pads", [0] * 2 * rank)
    if any(pads) or node.attr("ceil_mode", 0):
        raise IntegerError(f"{node.where}: pads and ceil_mode are not evaluated")
    size = [(x.shape[2 + i] - kernel[i]) // strides[i] + 1 for i in range(rank)]
    return np.max([x[(slice(None), slice(None)) + tuple(
        slice(t[i], t[i] + (size[i] - 1) * strides[i] + 1, strides[i]) for i in range(rank))]
        for t in np.ndindex(*kernel)], axis=0)


def reshape(x, shape):
    return x.reshape([x.shape[i] if d == 0 else int(d) for i, d in enumerate(shape)])


def pad(node, x):
    pads = node.attr("pads")
    return np.pad(x, list(zip(pads[:x.ndim], pads[x.ndim:])), constant_values=int(node.attr("value", 0)))


def gemm(node, a, b, c=None):
    a, b = a.T if node.attr("transA", 0) else a, b.T if node.attr("transB", 0) else b
    out = int(node.attr("alpha", 1)) * dot(a, b, node)
    return out if c is None else fit(out + int(node.attr("beta", 1)) * c, node, "A.B + C")


def slice_of(x, starts, ends, axes=None, steps=None):
    index = [slice(None)] * x.ndim
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    for axis, start, end, step in zip(axes, starts, ends, steps):
        index[int(axis)] = slice(int(start), int(end), int(step))
    return x[tuple(index)]


def expand(x, axes, rank):
    for axis in sorted(a % rank for a in axes):
        x = np.expand_dims(x, axis)
    return x


EVALUATE = {
    "Conv": conv,
    "RequantShift": requant_shift,
    "iGELU": integer_gelu,
    "IntegerDiv": integer_div,
    "IntegerMean": lambda n, x: mean(n, x, 1),
    "ReduceMean": lambda n, x: mean(n, x, 1),
    "ReduceSum": lambda n, x: fit(x.sum(axis=tuple(n.axes()), keepdims=bool(n.attr("keepdims", 1))), n, "the sum"),
    "iSoftmax": integer_softmax,
    "ITAMax": ita_max,
    "ITAPartialMax": ita_partial_max,
    "iLayerNorm": layer_norm,
    "iRMSNorm": rms_norm,
    "Gemm": gemm,
    "MatMul": lambda n, a, b: dot(a, b, n),
    "Add": lambda n, a, b: fit(a + b, n, "the sum"),
    "Sub": lambda n, a, b: fit(a - b, n, "the difference"),
    "Mul": lambda n, a, b: fit(a * b, n, "the product"),
    "MaxPool": max_pool,
    "Pad": pad,
    "Transpose": lambda n, x: x.transpose(n.attr("perm")),
    "Reshape": lambda n, x, shape: reshape(x, shape),
    "Flatten": lambda n, x: x.reshape(int(np.prod(x.shape[:n.attr("axis", 1)], dtype=np.int64)), -1),
    "Squeeze": lambda n, x: np.squeeze(x, tuple(n.axes())),
    "Unsqueeze": lambda n, x: expand(x, n.axes(), x.ndim + len(n.axes())),
    "Concat": lambda n, *xs: np.concatenate(xs, axis=n.attr("axis")),
    "Slice": lambda n, x, *rest: slice_of(x, *rest),
    "Gather": lambda n, x, index: np.take(x, index, axis=n.attr("axis", 0)),
}


def integral(array, what):
    """int64 copy of an array whose elements are integers."""
    array = np.asarray(array)
    if array.dtype.kind == "f" and not np.array_equal(array, np.floor(array)):
        raise IntegerError(f"{what} holds values that are not integers")
    return array.astype(np.int64)


def evaluate(network, feeds):
    """Values of all tensors by name, int64. `feeds`: arrays by input name."""
    values = {name: integral(array, f"constant '{name}'") for name, array in network.constants.items()}
    values.update({name: integral(array, f"input '{name}'") for name, array in feeds.items()})
    for node in network.nodes:
        if node.op not in EVALUATE:
            raise IntegerError(f"{node.where}: no integer meaning is known for this operator")
        missing = [i for i in node.inputs if i and i not in values]
        if missing:
            raise IntegerError(f"{node.where}: input '{missing[0]}' is not computed by any node before it")
        try:
            values[node.outputs[0]] = EVALUATE[node.op](node, *[values[i] for i in node.inputs if i])
        except (ValueError, IndexError, TypeError) as error:
            raise IntegerError(f"{node.where}: cannot be evaluated: {error}") from error
    return values
