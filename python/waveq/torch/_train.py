"""Quantization-aware training on the integer network itself, and the way from PyTorch to it."""
from __future__ import annotations

import inspect
import io
import warnings
from typing import Any, Iterator, Optional, Sequence, Union

import numpy as np
import torch
from torch import Tensor, nn

from .. import _api
from .._data import Data, sample_data
from .._error import Error
from ._graph import IntegerGraph
from ._sources import find_sources


def to_onnx(model: nn.Module, example_inputs: Union[Tensor, Sequence[Tensor]], *,
            input_names: Optional[Sequence[str]] = None, output_names: Sequence[str] = ("output",),
            opset_version: int = 13) -> bytes:
    """The float model as ONNX bytes, in evaluation mode: batch normalization is folded into what stands before it.

    input_names: default: the names of forward's parameters
    """
    examples = (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs)
    names = list(input_names or list(inspect.signature(model.forward).parameters)[:len(examples)])
    options: dict[str, Any] = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    was_training = model.training
    model.eval()
    file = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # shapes are meant to become constants
            torch.onnx.export(model, examples, file, opset_version=opset_version, input_names=names,
                              output_names=list(output_names), **options)
    finally:
        model.train(was_training)
    return file.getvalue()


class QuantizedModel(nn.Module):
    """A network that trains with the integers it will have; `prepare` makes one.

    forward takes real inputs [B, ...] and returns real outputs, computed as the integer network of `result` computes
    them: after `prepare`, `refresh` and until the next optimizer step the very same integers, in between the same
    operators with the codes of the weights as they are then. What is trained are the parameters of the module that
    `prepare` got, in place, with batch normalization folded into the weights in every step (its statistics fixed);
    weights that rewriting changed further, and those of a model given as ONNX, are parameters of this module
    (`weights`). With learn_ranges also the logarithms by which the ranges of activations have moved (LSQ).
    Multipliers, shifts and scales are those of the last `refresh`, which lowers and proves the network again: call it
    once in some hundred steps, e.g. after each epoch.
    """

    def __init__(self, model: _api.ModelLike, calibration_data: Data, learn_ranges: bool, options: dict[str, Any],
                 module: Optional[nn.Module] = None) -> None:
        super().__init__()
        self._data = sample_data(calibration_data)
        #: the last lowering
        # Sums stay sums, biases what they are: each weight of the integer network is one of the module's.
        recipe = _api._recipe(options.pop("recipe", None), {"join_sums": False, "correct_biases": False})
        self.result = _api.quantize(model, self._data, recipe=recipe, **options)
        self._recipe = self.result.recipe
        if self.result.calibration.equalization:  # its factors belong to the weights from here on
            self._recipe.equalize = False
            self.result = _api.quantize(_api.rewrite(self.result.float_network), self._data, recipe=self._recipe)
        self._table = self.result.calibration
        self._float = self.result.float_network
        sources = find_sources(module, self._float.nodes, self._float.constants())
        learned = self._learnable_ranges() if learn_ranges else []
        # Names of tensors have dots, names of modules must not.
        self._weight_keys = {name: str(i) for i, name in enumerate(sources)}
        self._range_keys = {name: str(i) for i, name in enumerate(learned)}
        self.weights = nn.ModuleDict({self._weight_keys[n]: s for n, s in sources.items()})
        self.ranges = nn.ParameterDict(
            {key: nn.Parameter(torch.zeros((), dtype=torch.float64)) for key in self._range_keys.values()})
        self.graph: IntegerGraph
        self.refresh()

    def _learnable_ranges(self) -> list[str]:
        """Float tensors whose range decides a requant."""
        made = {n.outputs[0] for n in self.result.network.nodes if n.op == "RequantShift"}
        known = set(self._table.names())
        return list(dict.fromkeys(f for f, i, _ in self.result.correspondences if i in made and f in known))

    def forward(self, *inputs: Tensor) -> Any:
        return self.graph(*inputs)

    def weight_parameters(self) -> Iterator[nn.Parameter]:
        return self.weights.parameters()

    def range_parameters(self) -> Iterator[nn.Parameter]:
        return self.ranges.parameters()

    def float_model(self) -> _api.Model:
        """The canonical float network with the weights as trained so far."""
        network = self._float._network.copy()
        for name, key in self._weight_keys.items():
            network.set_constant(name, self.weights[key]().detach().cpu().numpy())
        return _api.Model(network)

    def calibration_table(self, model: Optional[_api.Model] = None) -> _api.CalibrationTable:
        """The table with the learned ranges pinned, for `float_model()`."""
        table = self._table.copy()
        table.fingerprint = (model or self.float_model())._network.fingerprint()
        for name, key in self._range_keys.items():
            factor = float(torch.exp(self.ranges[key].detach()))
            low, high = self._table.range(name)
            table.pin(name, low * factor, high * factor)
        return table

    def convert(self, calibration_data: Optional[Data] = None, **options: Any) -> _api.Result:
        """The integer network of the weights and ranges as they are now; keywords as for `waveq.quantize`."""
        model = self.float_model()
        data = self._data if calibration_data is None else calibration_data
        return _api.quantize(model, data, calibration_table=self.calibration_table(model), recipe=self._recipe,
                             **options)

    def refresh(self) -> _api.Result:
        """Lowers the network with the weights and ranges as they are now, proof included; returns the result."""
        probe = {t.name: np.zeros(t.shape, np.float32) for t in self._float.inputs}  # accuracy is not asked for here
        self.result = self.convert(evaluation_data=probe)
        self.graph = IntegerGraph(self.result, {n: self.weights[k] for n, k in self._weight_keys.items()},
                                  {n: self.ranges[k] for n, k in self._range_keys.items()})
        return self.result


def prepare(model: Union[nn.Module, _api.ModelLike], calibration_data: Data, *,
            example_inputs: Union[None, Tensor, Sequence[Tensor]] = None, weight_levels: Optional[int] = None,
            activation_levels: Optional[int] = None, learn_ranges: bool = True, **options: Any) -> QuantizedModel:
    """A trained float model, as a module or as ONNX (path or bytes), -> a model for quantization-aware training.

    example_inputs: for a module: what its forward takes, with batch 1
    weight_levels: 16 for 4 bits; other keywords as for `waveq.quantize`
    """
    module = model if isinstance(model, nn.Module) else None
    return QuantizedModel(_source(model, example_inputs), calibration_data, learn_ranges,
                          {"weight_levels": weight_levels, "activation_levels": activation_levels, **options}, module)


def export(model: Union[nn.Module, _api.ModelLike], calibration_data: Optional[Data] = None,
           folder: Optional[_api.PathLike] = None, *, example_inputs: Union[None, Tensor, Sequence[Tensor]] = None,
           **options: Any) -> _api.Result:
    """The integer network of a model, as `waveq.quantize` returns it, written to `folder` where one is given.

    A QuantizedModel keeps its learned ranges and its recipe; any other module is quantized after training.
    """
    if isinstance(model, QuantizedModel):
        result = model.convert(calibration_data, **options)
    elif calibration_data is None:
        raise Error("invalid_argument", "calibration_data", "is missing", "a float model needs samples for its ranges")
    else:
        result = _api.quantize(_source(model, example_inputs), calibration_data, **options)
    if folder is not None:
        result.save(folder)
    return result


def _source(model: Union[nn.Module, _api.ModelLike],
            example_inputs: Union[None, Tensor, Sequence[Tensor]]) -> _api.ModelLike:
    if not isinstance(model, nn.Module):
        return model
    if example_inputs is None:
        raise Error("invalid_argument", "example_inputs", "is missing",
                    "a module's ONNX form needs inputs to trace with")
    return to_onnx(model, example_inputs)
