"""Quantization-aware training in PyTorch with the integers the network will have.

    model = waveq.torch.prepare(trained, calibration_data, example_inputs=x, weight_levels=16)
    ...  # train `model` as any other module; model.refresh() after each epoch
    waveq.torch.export(model, folder="out")

`functional` holds the integer arithmetic with straight-through gradients.
"""
from . import _functional as functional
from ._graph import IntegerGraph, Requant, Weight
from ._train import QuantizedModel, export, prepare, to_onnx

__all__ = ["IntegerGraph", "QuantizedModel", "Requant", "Weight", "export", "functional", "prepare", "to_onnx"]
