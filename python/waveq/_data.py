"""Samples from Python objects, in the form in which the compiled half takes them."""
from __future__ import annotations

import os
from typing import Any, Iterable, Iterator, Mapping, NamedTuple, Optional, Protocol, Union

import numpy as np

from ._error import Error
from . import _waveq

LABELS = "labels"



class CalibrationDataReader(Protocol):
    """What ONNX Runtime's class of this name offers; None ends the samples."""

    def get_next(self) -> Optional[Mapping[str, Any]]: ...


Batch = Union[Mapping[str, Any], Any]
Data = Union[str, "os.PathLike[str]", Mapping[str, Any], Iterable[Batch], CalibrationDataReader, _waveq.SampleData]


class Wanted(NamedTuple):
    """A network input: name, dtype ("f32", "i8", ...) and shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]


_DTYPES = {"f32": np.float32, "i8": np.int8, "u8": np.uint8, "i16": np.int16, "u16": np.uint16, "i32": np.int32,
           "i64": np.int64, "bool": np.bool_, "boolean": np.bool_}


def to_array(value: Any) -> np.ndarray:
    """A NumPy array of an array, a torch tensor or a nested list; nothing is copied where the layout allows."""
    if hasattr(value, "detach") and hasattr(value, "cpu"):  # a torch tensor, without importing torch
        value = value.detach().cpu().numpy()
    return np.asarray(value)


def sample_data(data: Data) -> _waveq.SampleData:
    """An .npz file's path; arrays by name, samples first; or any iterable, also a generator, of batches."""
    if isinstance(data, _waveq.SampleData):
        return data
    if isinstance(data, (str, os.PathLike)):
        return _waveq.SampleData(os.fspath(data))
    name = "the samples"
    samples: Any = data
    if isinstance(data, Mapping):
        samples = [data]
    elif hasattr(data, "get_next"):  # onnxruntime.quantization.CalibrationDataReader
        samples, name = iter(data.get_next, None), type(data).__name__
    elif isinstance(data, (np.ndarray, bytes)) or hasattr(data, "detach") or not hasattr(data, "__iter__"):
        raise Error("invalid_argument", "the samples", f"are {_article(data)}",
                    "give the path of an .npz file, a dict of arrays, or an iterable of dicts")

    def make_iterator(wanted: list[tuple[str, str, list[int]]], labels: bool) -> "_Samples":
        return _Samples(samples, [Wanted(n, dtype, tuple(shape)) for n, dtype, shape in wanted], labels, name)

    return _waveq.SampleData(make_iterator, name)


def _article(value: Any) -> str:
    return f"a {type(value).__module__}.{type(value).__qualname__}".replace("builtins.", "")


class _Samples:
    """Iterates over ([array for each input], label or None), one sample at a time."""

    length: Optional[int] = None  # the batches' sizes are not known beforehand

    def __init__(self, batches: Iterable[Batch], wanted: list[Wanted], labels: bool, name: str) -> None:
        self._wanted, self._labels, self._name = wanted, labels, name
        self._rows: Iterator[tuple[list[np.ndarray], Optional[int]]] = self._all(batches)

    def __iter__(self) -> "_Samples":
        return self

    def __next__(self) -> tuple[list[np.ndarray], Optional[int]]:
        return next(self._rows)

    def _all(self, batches: Iterable[Batch]) -> Iterator[tuple[list[np.ndarray], Optional[int]]]:
        for index, batch in enumerate(batches):
            where = f"{self._name}: item {index}"
            arrays = self._by_name(batch, where)
            rows = [self._split(arrays, w, where) for w in self._wanted]
            count = len(rows[0])
            for w, r in zip(self._wanted, rows):
                if len(r) != count:
                    raise Error("data", where, f"'{w.name}' has {len(r)} samples, '{self._wanted[0].name}' has {count}")
            labels = self._label_list(arrays, count, where)
            for i in range(count):
                yield [r[i] for r in rows], labels[i]

    def _by_name(self, batch: Batch, where: str) -> Mapping[str, Any]:
        """Dicts as they are; for one input also an array alone or, as DataLoaders give it, (array, label)."""
        if isinstance(batch, Mapping):
            return batch
        if len(self._wanted) == 1:
            name = self._wanted[0].name
            if isinstance(batch, (tuple, list)) and 1 <= len(batch) <= 2 and hasattr(batch[0], "shape"):
                return dict(zip((name, LABELS), batch))
            if hasattr(batch, "shape"):
                return {name: batch}
        raise Error("data", where, f"is {_article(batch)}",
                    "give dicts whose keys are the network's inputs: " + ", ".join(f"'{w.name}'" for w in self._wanted))

    def _split(self, arrays: Mapping[str, Any], w: Wanted, where: str) -> list[np.ndarray]:
        if w.name not in arrays:
            found = ", ".join(f"'{k}'" for k in arrays) or "nothing"
            raise Error("data", where, f"has {found}; input '{w.name}' is missing",
                        "name arrays as the network's inputs")
        array = self._typed(to_array(arrays[w.name]), w, where)
        if array.shape == w.shape:
            return [array]
        batch_one = len(w.shape) > 0 and w.shape[0] == 1
        if batch_one and array.shape == w.shape[1:]:
            return [array.reshape(w.shape)]
        if array.ndim > 0 and (array.shape[1:] == w.shape or (batch_one and array.shape[1:] == w.shape[1:])):
            return [row.reshape(w.shape) for row in array]
        raise Error("data", where, f"'{w.name}' has shape {list(array.shape)}, the input is {list(w.shape)}",
                    f"give {list(w.shape)}, or samples along a first axis")

    def _typed(self, array: np.ndarray, w: Wanted, where: str) -> np.ndarray:
        dtype: Any = _DTYPES[w.dtype]
        kind = array.dtype.kind
        if kind not in "biuf" or (dtype is not np.float32 and kind == "f") or (dtype is np.bool_ and kind != "b"):
            raise Error("data", where, f"'{w.name}' is {array.dtype}, the input is {w.dtype}")
        if dtype is np.float32:
            array = np.ascontiguousarray(array, np.float32).reshape(array.shape)
            if not np.isfinite(array).all():
                raise Error("data", where, f"'{w.name}' has NaN or infinite elements", "remove or repair this sample")
            return array
        if array.size and dtype is not np.bool_ and array.dtype != dtype:
            info = np.iinfo(dtype)
            if array.min() < info.min or array.max() > info.max:
                raise Error("data", where, f"'{w.name}' has elements outside {w.dtype}")
        return np.ascontiguousarray(array, dtype).reshape(array.shape)

    def _label_list(self, arrays: Mapping[str, Any], count: int, where: str) -> list[Optional[int]]:
        if not self._labels or LABELS not in arrays:
            return [None] * count
        labels = to_array(arrays[LABELS])
        if labels.dtype.kind not in "iu" or labels.size != count:
            raise Error("data", where, f"'{LABELS}' is {labels.dtype} {list(labels.shape)} for {count} samples",
                        "labels are integers, one per sample")
        return [int(v) for v in labels.ravel()]
