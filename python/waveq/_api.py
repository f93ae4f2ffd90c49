"""What `import waveq` offers: see `waveq.quantize` first."""
from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, Callable, Iterable, Mapping, NamedTuple, Optional, Sequence, Union

import numpy as np

from . import _waveq
from ._data import Data, sample_data, to_array
from ._error import Error

PathLike = Union[str, "os.PathLike[str]"]
ModelLike = Union[PathLike, bytes, "Model"]
Progress = Callable[[str, int, int], None]
Recipe = _waveq.Recipe
CalibrationTable = _waveq.CalibrationTable


class TensorInfo(NamedTuple):
    """A tensor of a network; where its elements are integers, real = scale * (q - zero_point), lo <= q <= hi."""

    name: str
    dtype: Optional[np.dtype]
    shape: tuple[int, ...]
    scale: Optional[float]
    zero_point: Optional[int]
    lo: Optional[int]
    hi: Optional[int]

    @property
    def grid(self) -> tuple[float, int, int, int]:
        """(scale, zero_point, lo, hi). Raises Error where the elements are no integers with a scale."""
        if self.scale is None or self.zero_point is None or self.lo is None or self.hi is None:
            raise Error("invalid_argument", f"tensor '{self.name}'", "has no integers with a scale",
                        "take an input or output of an integer network")
        return self.scale, self.zero_point, self.lo, self.hi


class Node(NamedTuple):
    """A node of a network, in the order of computation; origin is the node of the user's model it came from."""

    op: str
    name: str
    origin: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]


class Model:
    """A float or an integer network in memory. `waveq.load` reads one, `Result.network` is one."""

    def __init__(self, network: _waveq.Network, rewrites: Optional[dict[str, Any]] = None) -> None:
        self._network = network
        #: what `rewrite` did: applied [(rule, node, detail)], refused, nodes_before, nodes_after
        self.rewrites = rewrites

    def __repr__(self) -> str:
        ends = [", ".join(f"{t.name}{list(t.shape)}" for t in side) for side in (self.inputs, self.outputs)]
        return f"<waveq.Model {'integer' if self.is_integer else 'float'} {ends[0]} -> {ends[1]}>"

    @property
    def is_integer(self) -> bool:
        """Computes with integers only (integer dialect), whoever made it."""
        return self._network.integer

    @property
    def opset(self) -> int:
        return self._network.opset

    @property
    def inputs(self) -> list[TensorInfo]:
        return [TensorInfo(**v) for v in self._network.inputs()]

    @property
    def outputs(self) -> list[TensorInfo]:
        return [TensorInfo(**v) for v in self._network.outputs()]

    @property
    def nodes(self) -> list[Node]:
        return [Node(**n) for n in self._network.nodes()]

    def tensor(self, name: str) -> TensorInfo:
        """What is known of one tensor. Raises KeyError."""
        return TensorInfo(**self._network.value(name))

    def constants(self) -> dict[str, np.ndarray]:
        """Weights and other known tensors by name: read-only views, no copies."""
        return self._network.constants()

    def run(self, inputs: Any, *, all_tensors: bool = False, wrap: bool = True,
            progress: Optional[Progress] = None) -> dict[str, np.ndarray]:
        """Outputs by name, or every tensor. Samples run along the first axis: [N, S[1:]] where S[0] is 1.

        inputs: data as for `quantize`; for a network with one input an array does, too.
        wrap: integer overflows reduce modulo 2^32 as on the target; False: they raise Error("overflow").
        """
        if hasattr(inputs, "shape") and len(self.inputs) == 1:
            inputs = {self.inputs[0].name: inputs}
        return _waveq.run(self._network, sample_data(inputs), all_tensors, wrap, progress)

    def prove(self) -> dict[str, Any]:
        """Overflow proof of an integer network: overflow_free, unproven, min_headroom_bits, nodes."""
        return self._network.prove()

    def inspect(self, target: str = "deeploy-generic") -> dict[str, Any]:
        """Operators, parameters, MACs, and which nodes have no integer form, as [(node, operator, reason)]."""
        ops: dict[str, int] = {}
        for node in self.nodes:
            ops[node.op] = ops.get(node.op, 0) + 1
        weights = [c for c in self.constants().values() if c.dtype != np.int64 and c.size > 1]
        plain = self if self.is_integer else rewrite(self)
        return {"integer_network": self.is_integer, "opset": self.opset, "ops": dict(sorted(ops.items())),
                "parameters": sum(c.size for c in weights), "parameter_bytes": sum(c.nbytes for c in weights),
                "macs": self._network.macs(), "not_integer": plain._network.refusals(target)}

    def to_bytes(self) -> bytes:
        """The network as an ONNX file (not in a target's dialect: that is what Result.save writes)."""
        return self._network.to_bytes()

    def save(self, path: PathLike) -> None:
        Path(path).write_bytes(self.to_bytes())

    def dump(self) -> str:
        """One line a node."""
        return self._network.dump()


class Result:
    """A finished quantization. Everything is in memory; `save` writes the folder of `waveq quantize`."""

    def __init__(self, result: _waveq.Result) -> None:
        self._result = result
        #: metric, float, integer (top-1 shares), agreement, samples, output_sqnr_db, ...
        self.accuracy: dict[str, Any] = result.accuracy()
        #: overflow_free, unproven, min_headroom_bits, nodes
        self.proof: dict[str, Any] = result.proof()
        #: the integer network, with scales
        self.network = Model(result.network())
        #: the canonical float network it was lowered from
        self.float_network = Model(result.float_network(), result.rewrites())

    def __repr__(self) -> str:
        return (f"<waveq.Result {len(self.network.nodes)} nodes, SQNR {self.accuracy['output_sqnr_db']:.1f} dB, "
                f"agreement {self.accuracy['agreement']:.4f}>")

    @property
    def report(self) -> dict[str, Any]:
        """report.json as a dict."""
        return json.loads(self._result.report(False))

    @property
    def recipe(self) -> Recipe:
        return self._result.recipe()

    @property
    def calibration(self) -> CalibrationTable:
        return self._result.calibration()

    @property
    def golden(self) -> dict[str, dict[str, np.ndarray]]:
        """inputs, outputs and activations of one sample, as integers, by name."""
        return self._result.golden()

    @property
    def correspondences(self) -> list[tuple[str, str, float]]:
        """(float tensor, integer tensor, scale): float ~ scale * integer."""
        return self._result.correspondences()

    @property
    def seconds(self) -> dict[str, float]:
        """Wall time by stage."""
        return self._result.seconds()

    def save(self, folder: PathLike, *, profile: bool = False) -> Path:
        """Writes network.onnx, golden vectors, report and the rest, as a whole or not at all; the same bytes as the
        command line writes for the same files. Replaces only a folder that waveq wrote."""
        self._result.save(os.fspath(folder), profile)
        return Path(folder)

    def run(self, inputs: Any, *, progress: Optional[Progress] = None) -> dict[str, np.ndarray]:
        """Real inputs in, real outputs out; integers in between: quantize, run the integer network, dequantize."""
        sides = [t for t in self.network.inputs]
        if hasattr(inputs, "shape") and len(sides) == 1:
            inputs = {sides[0].name: inputs}
        codes = {t.name: quantize_array(inputs[t.name], t) for t in sides}
        outputs = self.network.run(codes, progress=progress)
        return {t.name: dequantize_array(outputs[t.name], t) for t in self.network.outputs}


def quantize_array(real: Any, tensor: TensorInfo) -> np.ndarray:
    """q = clamp(round_half_away(real / scale) + zero_point, lo, hi), as the integer network's inputs are made."""
    return _waveq.quantize_tensor(to_array(real), *tensor.grid)


def dequantize_array(codes: Any, tensor: TensorInfo) -> np.ndarray:
    """scale * (q - zero_point) in float64."""
    scale, zero_point, _, _ = tensor.grid
    return scale * (np.asarray(codes, np.float64) - zero_point)


def _model_data(model: ModelLike) -> _waveq.ModelData:
    if isinstance(model, Model):
        return _waveq.ModelData(model._network)
    if isinstance(model, (bytes, bytearray, memoryview)):
        return _waveq.ModelData(bytes(model), "the model")
    if hasattr(model, "SerializeToString"):  # onnx.ModelProto
        return _waveq.ModelData(model.SerializeToString(), "the model")
    if isinstance(model, (str, os.PathLike)):
        return _waveq.ModelData(os.fspath(model))
    raise Error("invalid_argument", "the model", f"is a {type(model).__qualname__}",
                "give a path, the bytes of an ONNX file, or a waveq.Model")


#: ONNX Runtime's CalibrationMethod in our terms.
_METHODS = {"MinMax": "min_max", "Percentile": "percentile:99.999"}


def _observer(method: Any) -> str:
    """Our name of an observer, also from ONNX Runtime's CalibrationMethod."""
    if isinstance(method, str):
        return method
    name = getattr(method, "name", None)
    if name not in _METHODS:
        raise Error("invalid_argument", "calibrate_method", f"is {method}",
                    f"waveq has {', '.join(_METHODS)} of CalibrationMethod, and 'mse', which is usually the best")
    return _METHODS[name]


def _recipe(recipe: Union[None, Recipe, PathLike], choices: Mapping[str, Any]) -> Recipe:
    if recipe is None:
        recipe = Recipe()
    elif isinstance(recipe, Recipe):
        recipe = Recipe.from_toml(recipe.to_toml())
    else:
        recipe = Recipe.load(os.fspath(recipe))
    for name, value in choices.items():
        if value is not None:
            setattr(recipe, name, _observer(value) if name == "observer" else value)
    recipe.check()
    return recipe


def _threads(threads: Optional[int]) -> int:
    return threads if threads else len(os.sched_getaffinity(0))


def load(model: ModelLike, *, input_shapes: Optional[Mapping[str, Sequence[int]]] = None) -> Model:
    """Reads a float or an integer ONNX network from a path or from bytes; input_shapes closes open dimensions."""
    if isinstance(model, Model):
        return model
    return Model(_waveq.load(_model_data(model), {k: list(v) for k, v in (input_shapes or {}).items()}))


def rewrite(model: ModelLike, *, passes: Sequence[str] = (),
            input_shapes: Optional[Mapping[str, Sequence[int]]] = None) -> Model:
    """The canonical float network, as `quantize` lowers it; `.rewrites` tells which rule fired where."""
    recipe = _recipe(None, {"passes": list(passes), "input_shapes": dict(input_shapes or {})})
    return Model(*_waveq.canonical(_model_data(model), recipe))


def calibrate(model: ModelLike, calibration_data: Data, *, recipe: Union[None, Recipe, PathLike] = None,
              calibrate_method: Any = None, activation_levels: Optional[int] = None,
              input_shapes: Optional[Mapping[str, Sequence[int]]] = None, threads: Optional[int] = None,
              progress: Optional[Progress] = None) -> CalibrationTable:
    """Statistics and range of every float tensor. Memory does not depend on the number of samples."""
    recipe = _recipe(recipe, {"observer": calibrate_method, "activation_levels": activation_levels,
                              "input_shapes": input_shapes and dict(input_shapes)})
    network, _ = _waveq.canonical(_model_data(model), recipe)
    return _waveq.calibrate(network, sample_data(calibration_data), recipe, _threads(threads), progress)


def quantize(model: ModelLike, calibration_data: Data, *, evaluation_data: Optional[Data] = None,
             calibration_table: Union[None, PathLike, CalibrationTable] = None,
             recipe: Union[None, Recipe, PathLike] = None, target: Optional[str] = None,
             per_channel: Optional[bool] = None, activation_levels: Optional[int] = None,
             weight_levels: Optional[int] = None, weight_levels_of: Optional[Mapping[str, int]] = None,
             calibrate_method: Any = None, passes: Optional[Sequence[str]] = None, seed: Optional[int] = None,
             input_shapes: Optional[Mapping[str, Sequence[int]]] = None, threads: Optional[int] = None,
             progress: Optional[Progress] = None) -> Result:
    """Float network and samples -> a proven integer network with golden vectors.

    model: path, bytes of an ONNX file, onnx.ModelProto or waveq.Model
    calibration_data: path of an .npz file; dict of arrays, samples along the first axis; or an iterable, also a
        generator or a torch DataLoader, of dicts of arrays (NumPy or torch), each one sample or a batch. For a network
        with one input the items may be arrays or (array, label) pairs. Iterables are read once.
    evaluation_data: likewise, with "labels" (integers) for top-1; default: the calibration data
    calibration_table: ranges from here instead of a calibration run
    recipe: a Recipe or its TOML file; the keywords after it override its choices (None: as the recipe says)
    calibrate_method: "mse" (default), "min_max", "histogram", "percentile:99.9", or a CalibrationMethod of ONNX Runtime
    weight_levels: 256 for 8 bits, 16 for 4 bits; weight_levels_of: of single nodes, {"/head/*": 256}, as in a recipe
    threads: default: all cores; changes no bit of the result
    progress: called as progress(stage, done, total) with total 0 where unknown; what it raises ends the work

    Raises waveq.Error: code "not_integer" with all nodes that have no integer form, "overflow" where a proof fails, ...
    """
    resolved = _recipe(recipe, {"target": target, "per_channel_weights": per_channel,
                                "activation_levels": activation_levels, "weight_levels": weight_levels,
                                "weight_levels_of": weight_levels_of and dict(weight_levels_of),
                                "observer": calibrate_method, "passes": passes and list(passes), "seed": seed,
                                "input_shapes": input_shapes and dict(input_shapes)})
    evaluation = None if evaluation_data is None else sample_data(evaluation_data)
    if isinstance(calibration_table, (str, os.PathLike)):
        calibration_table = Path(calibration_table)
    return Result(_waveq.quantize(_model_data(model), sample_data(calibration_data), evaluation, calibration_table,
                                  resolved, _threads(threads), progress))


_LEVELS = {"int8": 256, "uint8": 256, "qint8": 256, "quint8": 256, "int4": 16, "qint4": 16, "uint4": 16, "int2": 4}


def _levels(kind: Any) -> Optional[int]:
    """Levels of a type as ONNX Runtime (QuantType.QInt8), PyTorch (torch.qint8) or a string name it."""
    if kind is None:
        return None
    name = str(getattr(kind, "name", kind)).split(".")[-1].lower()
    if name not in _LEVELS:
        raise Error("invalid_argument", "weight_type or activation_type", f"is {kind}",
                    f"known types: {', '.join(_LEVELS)}")
    return _LEVELS[name]


#: ONNX Runtime's QuantFormat as targets.
_FORMATS = {"QDQ": "qdq", "QOperator": "onnx"}


def quantize_static(model_input: ModelLike, model_output: PathLike, calibration_data_reader: Data,
                    quant_format: Any = None, op_types_to_quantize: Optional[Sequence[str]] = None,
                    per_channel: bool = True, reduce_range: bool = False, activation_type: Any = "int8",
                    weight_type: Any = "int8", nodes_to_quantize: Optional[Sequence[str]] = None,
                    nodes_to_exclude: Optional[Sequence[str]] = None, *, calibrate_method: Any = "mse",
                    extra_options: Optional[Mapping[str, Any]] = None, **options: Any) -> Result:
    """`quantize` and `save` under the names, and in the order, of onnxruntime.quantization.quantize_static.

    model_output is a folder. A CalibrationDataReader works as it is, and so do QuantType, QuantFormat and CalibrationMethod.
    quant_format: QDQ is the target "qdq", QOperator the target "onnx"; default: Deeploy's dialect
    reduce_range: weights of 7 bits
    options: further keywords of `quantize`

    Raises waveq.Error for what would leave nodes in float or has another name here (the hint says which).
    """
    for name, value in (("op_types_to_quantize", op_types_to_quantize), ("nodes_to_quantize", nodes_to_quantize),
                        ("nodes_to_exclude", nodes_to_exclude)):
        if value:
            raise Error("invalid_argument", name, "leaves nodes in float, and waveq's networks have none",
                        "give sensitive nodes more bits: weight_levels_of, or [precision] in a recipe")
    if extra_options:
        raise Error("invalid_argument", "extra_options", f"has {', '.join(extra_options)}",
                    "ranges of single tensors: CalibrationTable.pin; everything else is in the recipe (waveq.Recipe)")
    if quant_format is not None:
        name = str(getattr(quant_format, "name", quant_format))
        if name not in _FORMATS or options.get("target"):
            raise Error("invalid_argument", "quant_format", f"is {quant_format}",
                        f"give one of {', '.join(_FORMATS)}, or a target")
        options["target"] = _FORMATS[name]
    weight_levels = _levels(weight_type)
    _waveq.check_output_dir(os.fspath(model_output))
    result = quantize(model_input, calibration_data_reader, per_channel=per_channel,
                      activation_levels=_levels(activation_type),
                      weight_levels=weight_levels // 2 if weight_levels and reduce_range else weight_levels,
                      calibrate_method=calibrate_method, **options)
    result.save(model_output)
    return result


def verify(folder: PathLike) -> dict[str, Any]:
    """Re-runs a folder's network on its inputs; mismatches is empty where all golden vectors are reproduced."""
    return _waveq.verify(os.fspath(folder))


def compare(a: Union[PathLike, Mapping[str, Any]], b: Union[PathLike, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Two dumps (.npz files or dicts of arrays), tensor by tensor: integers bit for bit, floats by SQNR and cosine."""
    with tempfile.TemporaryDirectory(prefix="waveq-") as folder:
        def file(dump: Union[PathLike, Mapping[str, Any]], name: str) -> str:
            if not isinstance(dump, Mapping):
                return os.fspath(dump)
            path = os.path.join(folder, name)
            np.savez(path, **{k: to_array(v) for k, v in dump.items()})
            return path

        return _waveq.compare(file(a, "a.npz"), file(b, "b.npz"))


def sweep(model: ModelLike, calibration_data: Data, *, evaluation_data: Optional[Data] = None,
          recipe: Union[None, Recipe, PathLike] = None, target: Optional[str] = None,
          activation_levels: Optional[int] = None, weight_levels: Optional[int] = None, offenders: int = 5,
          samples: int = 128, repeats: int = 3, input_shapes: Optional[Mapping[str, Sequence[int]]] = None,
          threads: Optional[int] = None, progress: Optional[Progress] = None) -> dict[str, Any]:
    """What quantizing each tensor alone costs, and which changes help the costliest in the integer network.

    offenders: tensors for which remedies are tried; samples: of the evaluation data, at most; repeats: with all ranges
    jittered, to tell gains from noise. Other arguments: as for `quantize`.

    Returns integer (accuracy), tensors (the costliest first), remedies, recommended (in words), recommended_gain_db
    and recipe, a Recipe with what is recommended.
    """
    resolved = _recipe(recipe, {"target": target, "activation_levels": activation_levels,
                                "weight_levels": weight_levels, "input_shapes": input_shapes and dict(input_shapes)})
    evaluation = None if evaluation_data is None else sample_data(evaluation_data)
    return _waveq.sweep(_model_data(model), sample_data(calibration_data), evaluation, resolved, offenders, samples,
                        repeats, _threads(threads), progress)


def vectors(model: ModelLike, folder: PathLike, *, node: Optional[str] = None,
            formats: Sequence[str] = ("deeploy", "c"), seed: int = 0, random: int = 3,
            target: str = "deeploy-generic") -> dict[str, Any]:
    """Golden vectors for each kernel of an integer network, or for one node: a folder of `waveq vectors`.

    formats: "deeploy" for a folder of each case, "c" for a C99 header of each node; random: drawn cases after the
    designed ones. Returns nodes, cases and skipped, the latter as [(node, reason)].
    """
    unknown = sorted(set(formats) - {"deeploy", "c"})
    if unknown or isinstance(formats, str):
        raise Error("invalid_argument", "formats", f"is {formats!r}", 'choose among "deeploy" and "c"')
    file = os.fspath(model) if isinstance(model, (str, os.PathLike)) else ""
    return _waveq.vectors(load(model)._network, file, os.fspath(folder), node or "", "deeploy" in formats,
                          "c" in formats, seed, random, target)


def prove(model: ModelLike) -> dict[str, Any]:
    """Overflow proof of any integer network."""
    return load(model).prove()


def inspect(model: ModelLike, *, target: str = "deeploy-generic",
            input_shapes: Optional[Mapping[str, Sequence[int]]] = None) -> dict[str, Any]:
    """What a network holds, and which nodes have no integer form on a target."""
    return load(model, input_shapes=input_shapes).inspect(target)


def lint(path: PathLike, target: str = "deeploy-generic") -> list[dict[str, Any]]:
    """Known traps of the target that a network file or an output folder runs into."""
    return _waveq.lint(os.fspath(path), target)
