"""An integer network as a torch module: the very same integers, and gradients for its float weights."""
from __future__ import annotations

from typing import Any, Callable, Mapping, Optional

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .._api import Node, Result
from .._error import Error
from . import _functional as Q
from ._sources import linear_constants


class Weight(nn.Module):
    """Fake-quantized weights of one linear node: codes of the float weights on the integer network's grid."""

    scale: Tensor

    def __init__(self, origin: dict[str, Any], source: nn.Module, transposed: bool, limit: int) -> None:
        super().__init__()
        shape = [1] * origin["real"].ndim
        if len(origin["scale"]) > 1:
            shape[origin["axis"]] = -1
        self.register_buffer("scale", torch.tensor(origin["scale"], dtype=torch.float64).reshape(shape))
        self._source, self.transposed, self.limit = (source,), transposed, limit  # a tuple: it is registered elsewhere

    def forward(self) -> Tensor:
        """Integers in float64, in the layout of the integer network."""
        weight = self._source[0]()
        weight = weight.t() if self.transposed else weight
        return Q.quantize_weight(weight, self.scale, self.limit)


class Requant(nn.Module):
    """One RequantShift: fake quantization of an activation, with a learnable range."""

    mul: Tensor
    add: Tensor

    def __init__(self, node: Node, rank: int, constants: dict[str, np.ndarray], zero_point: int,
                 log_step: Optional[nn.Parameter]) -> None:
        super().__init__()
        a = node.attributes
        self.zero_point = zero_point
        self.shift = int(a["div"]).bit_length() - 1
        levels, signed = int(a.get("n_levels_out", a.get("n_levels"))), int(a["signed"])
        self.lo, self.hi = (-(levels // 2), levels // 2 - 1) if signed else (0, levels - 1)
        self.half_up = a.get("rounding", "half_up") == "half_up"
        self.log_step = log_step
        for name, value in zip(("mul", "add"), (constants[i] for i in node.inputs[1:3])):
            flat = torch.from_numpy(value.astype(np.float64).ravel())
            if flat.numel() > 1 and not (rank == 2 and value.ndim == 2 and value.shape[0] > 1):
                flat = flat.reshape([1, -1] + [1] * (rank - 2))  # one for each index of axis 1
            elif flat.numel() > 1:
                flat = flat.reshape(-1, 1)
            self.register_buffer(name, flat)

    def forward(self, acc: Tensor) -> Tensor:
        return Q.requant(acc, self.mul, self.add, self.shift, self.lo, self.hi, self.half_up, self.log_step,
                         self.zero_point)


class BiasShift(nn.Module):
    """What a float bias has moved since the network was lowered, in accumulator steps."""

    def __init__(self, source: nn.Module, scale: Tensor, shape: list[int]) -> None:
        super().__init__()
        self._source, self.shape = (source,), shape
        self.register_buffer("start", source().detach().double().clone())
        self.register_buffer("scale", scale)

    def forward(self) -> Tensor:
        return Q.floor((self._source[0]().double() - self.start) / self.scale + 0.5).reshape(self.shape)


class ZeroPointShift(nn.Module):
    """What the zero point of a linear node's input adds to each channel, z * sum(w), since the network was lowered,
    which put it into a constant: training moves the codes w, and sum(w * (q - z)) is what they are worth."""

    def __init__(self, op: str, zero_point: int, start: Tensor) -> None:
        super().__init__()
        self.op, self.zero_point = op, zero_point
        self.register_buffer("start", self.sums(start))

    def sums(self, codes: Tensor) -> Tensor:
        """Of each output channel, in the shape that goes with the accumulator."""
        if self.op == "MatMul":
            return codes.sum(0)
        sums = codes.sum(list(range(1, codes.dim())))
        return sums.reshape([1, -1] + [1] * (codes.dim() - 2)) if self.op == "Conv" else sums

    def forward(self, codes: Tensor) -> Tensor:
        """In accumulator steps."""
        return self.zero_point * (self.sums(codes) - self.start)


def _pads(x: Tensor, pads: list[int]) -> Tensor:
    spatial = len(pads) // 2
    if any(pads):
        x = F.pad(x, [p for d in reversed(range(spatial)) for p in (pads[d], pads[d + spatial])])
    return x


def _conv(x: Tensor, w: Tensor, a: dict[str, Any]) -> Tensor:
    spatial = w.dim() - 2
    ones = [1] * spatial
    call = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[spatial]
    return call(_pads(x, a.get("pads", [0] * 2 * spatial)), w, None, a.get("strides", ones), 0,
                a.get("dilations", ones), a.get("group", 1))


def _max_pool(x: Tensor, a: dict[str, Any]) -> Tensor:
    kernel = a["kernel_shape"]
    pads = a.get("pads", [0] * 2 * len(kernel))
    if any(pads):
        spatial = len(kernel)
        x = F.pad(x, [p for d in reversed(range(spatial)) for p in (pads[d], pads[d + spatial])], value=-2.0 ** 40)
    call = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[len(kernel)]
    return call(x, kernel, a.get("strides", [1] * len(kernel)))


def _gemm(x: Tensor, w: Tensor, bias: Optional[Tensor], a: dict[str, Any]) -> Tensor:
    y = x @ (w.t() if a.get("transB", 0) else w)
    return y if bias is None else y + bias


class IntegerGraph(nn.Module):
    """Runs an integer network in torch.

    forward(real inputs) -> real outputs; in between the integers of `Result.network`, in float64. Inputs are [B, ...] for
    a network of batch 1. `codes` returns the integers.
    """

    def __init__(self, result: Result, sources: Optional[Mapping[str, nn.Module]] = None,
                 steps: Optional[Mapping[str, nn.Parameter]] = None) -> None:
        """sources: of the float network's weights and biases, by tensor (default: constant codes); steps: learnable
        ranges, by float tensor."""
        super().__init__()
        network = result.network
        self.inputs, self.outputs, self.nodes = network.inputs, network.outputs, network.nodes
        self.shapes = {name: network.tensor(name).shape for n in self.nodes for name in (*n.inputs, *n.outputs) if name}
        self._arrays = dict(network.constants())
        self.unsupported = sorted({n.op for n in self.nodes} - set(_OPERATORS))
        if self.unsupported:
            raise Error("unsupported", ", ".join(self.unsupported), "has no form in torch yet",
                        "train without these operators, or add them to waveq/torch/_graph.py")
        self.batched = all(self._keeps_batch(n) for n in self.nodes)
        self.weights, self.requants, self.biases = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        self.zero_points = nn.ModuleDict()
        self._slots = {name: str(i) for i, name in enumerate(self.shapes)}  # module names take no dots
        self._make_weights(result, sources or {})
        self._make_requants(result, steps or {})
        for name, value in self._arrays.items():
            if name in self.shapes:
                self.register_buffer(f"constant_{self._slots[name]}", torch.from_numpy(value.astype(np.float64)))

    def _keeps_batch(self, n: Node) -> bool:
        """Whether samples stay apart along axis 0."""
        computed = [i for i in (*n.inputs, *n.outputs) if i and i not in self._arrays]
        if any(len(self.shapes[i]) < 1 or self.shapes[i][0] != 1 for i in computed):
            return False
        a = n.attributes
        if n.op == "Transpose":
            return a["perm"][0] == 0
        if n.op in ("MatMul", "Gemm") and n.inputs[1] not in self._arrays:
            return all(len(self.shapes[i]) > 2 for i in n.inputs[:2])
        axes = a.get("axes", [a["axis"]] if "axis" in a else [])
        if n.op in ("IntegerMean", "ReduceMean", "ReduceSum") and not axes:
            return False
        rank = len(self.shapes[n.inputs[0]])
        return all(axis % rank != 0 for axis in axes)

    def _make_weights(self, result: Result, sources: Mapping[str, nn.Module]) -> None:
        biases = linear_constants(result.float_network.nodes, result.float_network.constants())
        users = {n.inputs[1]: n for n in self.nodes if len(n.inputs) > 1}
        for origin in result._result.weights():
            code, real, user = origin["integer"], origin["real"], users.get(origin["integer"])
            source = sources.get(origin["float"])
            if source is None or user is None:
                continue
            value = source().detach().cpu().numpy()
            transposed = value.shape != real.shape or not np.array_equal(value, real)
            if transposed and not (value.ndim == 2 and np.array_equal(value.T, real)):
                continue  # another layout (groups, dilations): the codes stay as they are
            self.weights[self._slots[code]] = Weight(origin, source, transposed, (origin["n_levels"] - 1) // 2)
            zero = result.network.tensor(user.inputs[0]).zero_point
            if zero:
                start = torch.from_numpy(self._arrays[code].astype(np.float64))
                self.zero_points[self._slots[user.outputs[0]]] = ZeroPointShift(user.op, zero, start)
            bias = sources.get(biases.get(origin["float"]) or "")
            channels = real.shape[0] if user.op in ("Conv", "Gemm") else real.shape[-1]
            if bias is None or bias().numel() != channels:
                continue
            x_scale = result.network.tensor(user.inputs[0]).scale
            scale = torch.tensor(origin["scale"], dtype=torch.float64) * x_scale
            shape = [1, -1] + [1] * (real.ndim - 2) if user.op == "Conv" else [-1]
            self.biases[self._slots[user.outputs[0]]] = BiasShift(bias, scale, shape)

    def _make_requants(self, result: Result, steps: Mapping[str, nn.Parameter]) -> None:
        network = result.network
        carried = {integer: real for real, integer, _ in reversed(result.correspondences)}
        for n in self.nodes:
            if n.op != "RequantShift":
                continue
            step = steps.get(carried.get(n.outputs[0], ""))
            self.requants[self._slots[n.outputs[0]]] = Requant(
                n, len(self.shapes[n.outputs[0]]), self._arrays, network.tensor(n.outputs[0]).zero_point or 0, step)

    def _operand(self, name: str, values: dict[str, Tensor]) -> Optional[Tensor]:
        if not name:
            return None
        if name in values:
            return values[name]
        slot = self._slots[name]
        return self.weights[slot]() if slot in self.weights else getattr(self, f"constant_{slot}")

    def codes(self, *inputs: Tensor, all_tensors: bool = False) -> dict[str, Tensor]:
        """Integers (in float64) of the outputs, or of every tensor, by name."""
        values = {t.name: Q.quantize_input(x, *t.grid) for t, x in zip(self.inputs, inputs)}
        for n in self.nodes:
            operands = [self._operand(i, values) for i in n.inputs]
            values[n.outputs[0]] = _OPERATORS[n.op](self, n, operands)
            slot = self._slots[n.outputs[0]]
            if slot in self.zero_points:
                values[n.outputs[0]] = values[n.outputs[0]] - self.zero_points[slot](operands[1])
            if slot in self.biases:
                values[n.outputs[0]] = values[n.outputs[0]] + self.biases[slot]()
        return values if all_tensors else {t.name: values[t.name] for t in self.outputs}

    def forward(self, *inputs: Tensor) -> Any:
        if self.batched or inputs[0].shape[0] == 1:
            outputs = self._real(self.codes(*inputs))
        else:
            rows = [self._real(self.codes(*(x[i:i + 1] for x in inputs))) for i in range(inputs[0].shape[0])]
            outputs = [torch.cat(parts) for parts in zip(*rows)]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def _real(self, codes: dict[str, Tensor]) -> list[Tensor]:
        return [t.scale * (codes[t.name] - t.zero_point) for t in self.outputs]

    def _target_shape(self, n: Node, x: Tensor) -> list[int]:
        shape = list(self.shapes[n.outputs[0]])
        return [x.shape[0], *shape[1:]] if self.batched else shape


def _axes(n: Node, x: Tensor) -> list[int]:
    return [a % x.dim() for a in n.attributes.get("axes", range(x.dim()))]


def _slice(g: IntegerGraph, n: Node, v: list[Tensor]) -> Tensor:
    starts, ends = ([int(i) for i in t] for t in v[1:3])
    axes = [int(i) for i in v[3]] if len(v) > 3 and v[3] is not None else range(len(starts))
    steps = [int(i) for i in v[4]] if len(v) > 4 and v[4] is not None else [1] * len(starts)
    x = v[0]
    for start, end, axis, step in zip(starts, ends, axes, steps):
        index = torch.arange(x.shape[axis])[slice(start, end, step)] if step > 0 else \
            torch.tensor(range(x.shape[axis])[slice(start, end if end >= -x.shape[axis] else None, step)])
        x = x.index_select(axis, index)
    return x


_Operator = Callable[[IntegerGraph, Node, list], Tensor]
_reshape: _Operator = lambda g, n, v: v[0].reshape(g._target_shape(n, v[0]))
_OPERATORS: dict[str, _Operator] = {
    "Add": lambda g, n, v: v[0] + v[1],
    "Sub": lambda g, n, v: v[0] - v[1],
    "Mul": lambda g, n, v: v[0] * v[1],
    "Relu": lambda g, n, v: torch.relu(v[0]),
    "Conv": lambda g, n, v: _conv(v[0], v[1], n.attributes),
    "Clip": lambda g, n, v: torch.clamp(v[0], *(None if b is None else float(b) for b in (v[1:] + [None, None])[:2])),
    "Gemm": lambda g, n, v: _gemm(v[0], v[1], v[2] if len(v) > 2 else None, n.attributes),
    "MatMul": lambda g, n, v: torch.matmul(v[0], v[1]),
    "RequantShift": lambda g, n, v: g.requants[g._slots[n.outputs[0]]](v[0]),
    "IntegerDiv": lambda g, n, v: Q.integer_div(v[0], v[1], *(int(n.attributes[k]) for k in ("Delta", "eps", "eta"))),
    "iGELU": lambda g, n, v: Q.igelu(v[0], int(n.attributes["b"]), int(n.attributes["one"])),
    "Table": lambda g, n, v: Q.table(v[0], v[1], int(n.attributes["first"])),
    "Gather": lambda g, n, v: v[0].index_select(
        int(n.attributes.get("axis", 0)) % v[0].dim(), v[1].long().ravel()).reshape(g._target_shape(n, v[0])),
    "iHardswish": lambda g, n, v: Q.ihardswish(v[0], *(int(n.attributes[k]) for k in ("three", "six", "one_over_six"))),
    "iSoftmax": lambda g, n, v: Q.isoftmax(
        v[0], *(int(n.attributes[k]) for k in ("coeffA", "coeffB", "coeffC", "log2", "n_levels"))),
    "ITAMax": lambda g, n, v: Q.itamax(v[0], int(n.attributes["n_levels"])),
    "iLayerNorm": lambda g, n, v: Q.ilayernorm(
        v[0], v[1], v[2], int(n.attributes["D"]).bit_length() - 1, int(n.attributes.get("epsilon", 1))),
    "iRMSNorm": lambda g, n, v: Q.irmsnorm(v[0], v[1], int(n.attributes["D"]).bit_length() - 1),
    "IntegerMean": lambda g, n, v: Q.integer_mean(v[0], _axes(n, v[0]), bool(n.attributes.get("keepdims", 1))),
    "ReduceMax": lambda g, n, v: v[0].amax(_axes(n, v[0]), keepdim=bool(n.attributes.get("keepdims", 1))),
    "ReduceSum": lambda g, n, v: v[0].sum(_axes(n, v[0]), keepdim=bool(n.attributes.get("keepdims", 1))),
    "MaxPool": lambda g, n, v: _max_pool(v[0], n.attributes),
    "Concat": lambda g, n, v: torch.cat(v, int(n.attributes["axis"])),
    "Slice": _slice,
    "Pad": lambda g, n, v: _pads_constant(v[0], n, v[1] if len(v) > 1 else None),
    "Transpose": lambda g, n, v: v[0].permute(n.attributes["perm"]).contiguous(),
    "Reshape": _reshape, "Flatten": _reshape, "Squeeze": _reshape, "Unsqueeze": _reshape,
}


def _pads_constant(x: Tensor, n: Node, pads: Optional[Tensor]) -> Tensor:
    amounts = [int(p) for p in (pads if pads is not None else n.attributes["pads"])]
    rank = len(amounts) // 2
    return F.pad(x, [p for d in reversed(range(rank)) for p in (amounts[d], amounts[d + rank])],
                 value=float(n.attributes.get("value", 0.0)))
