"""What the command line tests share: running waveq, folders to write into, small networks, skipping.

A test file ends in `support.main()`. It exits 77 where a tool or folder it needs is missing (CTest: skipped), and
prints why. WAVEQ_BINARY names the program under test (default: build/cli/waveq), WAVEQ_SHARED_DIR the folder with
models/ and vectors/ that is not part of the repository.
"""
import hashlib
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

try:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    print(f"SKIPPED: {error}; these tests need python3-numpy and python3-onnx")
    sys.exit(77)

SOURCE = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("WAVEQ_SHARED_DIR", SOURCE.parent / "shared"))
BINARY = Path(os.environ.get("WAVEQ_BINARY", SOURCE / "build" / "cli" / "waveq"))
EXAMPLE = SOURCE / "examples" / "waveformer_kws"


class Result:
    """What a run of waveq left: exit code, stdout, stderr."""

    def __init__(self, arguments, completed):
        self.command = " ".join(["waveq", *arguments])
        self.code, self.out, self.err = completed.returncode, completed.stdout, completed.stderr

    def __str__(self):
        return f"$ {self.command}\n[exit {self.code}]\nstdout: {self.out[-3000:]}\nstderr: {self.err[-3000:]}"


def waveq(*arguments, cwd=None, timeout=60, binary=BINARY):
    """Runs waveq; one that takes longer than `timeout` seconds fails the test."""
    arguments = [str(a) for a in arguments]
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
    return Result(arguments, subprocess.run([str(binary), *arguments], capture_output=True, text=True, errors="replace",
                                            cwd=cwd, timeout=timeout, env=environment, check=False))


class Case(unittest.TestCase):
    """A test with a folder of its own, `self.dir`."""

    maxDiff = None

    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="waveq-test-")
        self.addCleanup(scratch.cleanup)
        self.dir = Path(scratch.name)

    def run_waveq(self, *arguments, code=0, **options):
        result = waveq(*arguments, **options)
        self.assertEqual(result.code, code, str(result))
        return result


def need_binary():
    if BINARY.exists():
        return
    if "WAVEQ_BINARY" in os.environ:
        raise AssertionError(f"WAVEQ_BINARY names {BINARY}, which does not exist")
    raise unittest.SkipTest(f"no waveq at {BINARY}; build it or set WAVEQ_BINARY")


def need(path):
    """`path` as it is; skips the test where nothing is there."""
    if not Path(path).exists():
        raise unittest.SkipTest(f"{path} is missing")
    return Path(path)


def digest(folder):
    """SHA-256 of every file below a folder, by relative name."""
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(Path(folder).rglob("*")) if p.is_file()}


def initializer(name, values, dtype=np.float32):
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def tensor_info(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def float_model(path, nodes, inputs, outputs, initializers=(), opset=13):
    """Writes an ONNX file; inputs and outputs are (name, shape)."""
    graph = helper.make_graph(nodes, "net", [tensor_info(*i) for i in inputs], [tensor_info(*o) for o in outputs],
                              list(initializers))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="test")
    model.ir_version = 7
    onnx.save(model, str(path))
    return Path(path)


def tiny_model(path, channels=4, length=32, seed=3):
    """Conv, ReLU, mean over time, Gemm: [1,1,length] -> [1,3]. Quantizes in milliseconds."""
    random = np.random.default_rng(seed)
    nodes = [helper.make_node("Conv", ["input", "w"], ["conv_out"], "conv", kernel_shape=[3], pads=[1, 1], strides=[1],
                              dilations=[1], group=1),
             helper.make_node("Relu", ["conv_out"], ["relu_out"], "relu"),
             helper.make_node("ReduceMean", ["relu_out"], ["mean_out"], "mean", axes=[2], keepdims=0),
             helper.make_node("Gemm", ["mean_out", "fc_w", "fc_b"], ["logits"], "fc", transB=1)]
    weights = [initializer("w", random.normal(size=(channels, 1, 3))), initializer("fc_w", random.normal(size=(3, channels))),
               initializer("fc_b", random.normal(size=3))]
    return float_model(path, nodes, [("input", [1, 1, length])], [("logits", [1, 3])], weights)


def tiny_data(path, samples=16, length=32, seed=5, **arrays):
    """Samples for tiny_model, with labels; keyword arguments replace or add arrays, None removes one."""
    random = np.random.default_rng(seed)
    data = {"input": random.normal(size=(samples, 1, length)).astype(np.float32),
            "labels": random.integers(0, 3, samples), **arrays}
    np.savez(path, **{k: v for k, v in data.items() if v is not None})
    return Path(path)


def main():
    """Runs the tests of the calling file. \\return through sys.exit: 0, 1, or 77 where everything was skipped."""
    module = sys.modules["__main__"]
    suite = unittest.defaultTestLoader.loadTestsFromModule(module)
    chosen = [a for a in sys.argv[1:] if not a.startswith("-")]
    if chosen:
        suite = unittest.defaultTestLoader.loadTestsFromNames(chosen, module)
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    for test, reason in result.skipped:
        print(f"SKIPPED {test}: {reason}")
    if not result.wasSuccessful():
        sys.exit(1)
    done = result.testsRun - len(result.skipped)
    sys.exit(77 if done <= 0 else 0)
