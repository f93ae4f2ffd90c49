"""waveq: float ONNX networks become integer ones, proven and with golden vectors.

    import waveq
    result = waveq.quantize("model.onnx", "calib.npz", evaluation_data="test.npz")
    print(result.accuracy)
    result.save("out")

`waveq.torch` (needs PyTorch) trains networks with the integers they will have.
"""
from ._api import (CalibrationTable, Model, Node, Recipe, Result, TensorInfo, calibrate, compare, dequantize_array,
                   inspect, lint, load, prove, quantize, quantize_array, quantize_static, rewrite, sweep, vectors, verify)
from ._error import Error
from ._waveq import __version__, set_log_level, targets

__all__ = ["CalibrationTable", "Error", "Model", "Node", "Recipe", "Result", "TensorInfo", "__version__", "calibrate",
           "compare", "dequantize_array", "inspect", "lint", "load", "prove", "quantize", "quantize_array",
           "quantize_static", "rewrite", "set_log_level", "sweep", "targets", "vectors",
           "verify"]
