"""Where the float weights of a network in training come from: parameters of the user's module, or our own.

Batch normalization is folded while training: the weights that are quantized are w * gamma / sqrt(var + eps), computed
anew in each step from the module's parameters, with the statistics as they were when training began.
"""
from __future__ import annotations

import collections
from typing import Any, Iterator, Mapping, Optional

import numpy as np
import torch
from torch import Tensor, nn

from .._api import Node

_LINEAR = (nn.Conv1d, nn.Conv2d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


class Own(nn.Module):
    """A tensor of the canonical float network as a parameter of its own."""

    def __init__(self, value: np.ndarray) -> None:
        super().__init__()
        self.parameter = nn.Parameter(torch.from_numpy(value.copy()))

    def forward(self) -> Tensor:
        return self.parameter


class FoldedWeight(nn.Module):
    """Weights of a convolution or linear layer with the batch normalization behind it folded in."""

    def __init__(self, layer: Any, norm: Optional[Any], transposed: bool = False) -> None:
        super().__init__()
        self.layer, self.norm, self.transposed = layer, norm, transposed

    def forward(self) -> Tensor:
        weight = self.layer.weight
        if self.norm is not None:
            weight = weight * _gain(self.norm).reshape([-1] + [1] * (weight.dim() - 1))
        return weight.t() if self.transposed else weight


class FoldedBias(nn.Module):
    """The bias that belongs to FoldedWeight."""

    def __init__(self, layer: Any, norm: Optional[Any]) -> None:
        super().__init__()
        self.layer, self.norm = layer, norm

    def forward(self) -> Tensor:
        bias = self.layer.bias
        if self.norm is None:
            return bias
        start = -self.norm.running_mean if bias is None else bias - self.norm.running_mean
        return start * _gain(self.norm) + self.norm.bias


def _gain(norm: Any) -> Tensor:
    return norm.weight / torch.sqrt(norm.running_var + norm.eps)


def _layers(module: nn.Module) -> Iterator[tuple[Any, Optional[Any]]]:
    """Every layer with the normalization that is declared next, and without."""
    modules = list(module.modules())
    for layer, following in zip(modules, [*modules[1:], None]):
        if isinstance(layer, _LINEAR):
            if isinstance(following, _NORMS) and following.affine and following.track_running_stats:
                yield layer, following
            yield layer, None


def _close(tensor: Optional[Tensor], constant: np.ndarray) -> bool:
    """Equal up to the float rounding of folding."""
    if tensor is None or tuple(tensor.shape) != constant.shape:
        return False
    largest = np.abs(constant).max(initial=0)
    return np.allclose(tensor.detach().cpu().numpy(), constant, rtol=1e-5, atol=1e-7 + 1e-6 * largest)


def linear_constants(nodes: list[Node], constants: Mapping[str, np.ndarray]) -> dict[str, Optional[str]]:
    """Constant weights of the linear nodes of a float network, each with its bias: an input of the node, or what the
    Add that alone uses a MatMul adds to every channel."""
    uses = collections.Counter(i for n in nodes for i in n.inputs)
    added = {}
    for node in nodes:
        if node.op == "Add":
            for product, bias in (node.inputs, reversed(node.inputs)):
                if bias in constants and uses[product] == 1:
                    added[product] = bias
    found: dict[str, Optional[str]] = {}
    for node in nodes:
        if node.op in ("Conv", "Gemm", "MatMul") and node.inputs[1] in constants:
            own: Optional[str] = node.inputs[2] if len(node.inputs) > 2 else None
            if node.op == "MatMul":
                own = added.get(node.outputs[0])
                if own is not None and constants[own].shape[-1:] != (constants[own].size,):
                    own = None
            found.setdefault(node.inputs[1], own if own in constants else None)
    return found


def find_sources(module: Optional[nn.Module], nodes: list[Node],
                 constants: Mapping[str, np.ndarray]) -> dict[str, nn.Module]:
    """A source for each weight and bias of the linear nodes of the canonical network: the module's own parameters where
    the constant is what they fold to (rewriting may have moved further factors into it), else a copy."""
    layers = list(_layers(module)) if module is not None else []
    sources: dict[str, nn.Module] = {}
    for name, bias_name in linear_constants(nodes, constants).items():
        matched = _match(layers, constants[name])
        sources[name] = matched or Own(constants[name])
        if bias_name is None or bias_name in sources:
            continue
        bias = FoldedBias(matched.layer, matched.norm) if matched else None
        if bias is not None and _close(bias(), constants[bias_name]):
            sources[bias_name] = bias
        else:
            sources[bias_name] = Own(constants[bias_name])
    return sources


def _match(layers: list[tuple[Any, Optional[Any]]], constant: np.ndarray) -> Optional[FoldedWeight]:
    with torch.no_grad():
        for layer, norm in layers:
            if layer.weight.dim() != constant.ndim or layer.weight.numel() != constant.size:
                continue
            for transposed in (False, True) if constant.ndim == 2 else (False,):
                source = FoldedWeight(layer, norm, transposed)
                if _close(source(), constant):
                    return source
    return None
