"""ONNX Runtime for tests: the pinned npm package, and networks of any types run in it.

The package is installed into WAVEQ_ORT_DIR (default: build/ort) on first use; without npm, node or a registry the test
is skipped.
"""
import fcntl
import json
import os
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cli"))
from support import SOURCE  # noqa: E402

import numpy as np  # noqa: E402
import onnx  # noqa: E402
from onnx import mapping  # noqa: E402

HERE = Path(__file__).resolve().parent
FOLDER = Path(os.environ.get("WAVEQ_ORT_DIR", SOURCE / "build" / "ort"))


def install():
    """The node_modules folder with onnxruntime-node; installs it where it is not there yet."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            raise unittest.SkipTest(f"{tool} is not installed")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with open(FOLDER / "install.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run side by side
        return _install()


def _install():
    manifest = HERE / "package-lock.json"
    stamp = FOLDER / "installed-lock.json"
    if not stamp.exists() or stamp.read_bytes() != manifest.read_bytes():
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(HERE / name, FOLDER / name)
        # The package carries its CPU library; its install script would fetch CUDA ones.
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]
        try:
            done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=300, check=False)
        except subprocess.TimeoutExpired as error:
            raise unittest.SkipTest(f"npm ci takes longer than {error.timeout} s; is the registry reachable?") from error
        if done.returncode != 0:
            raise unittest.SkipTest(f"npm ci failed; is the registry reachable? {done.stderr.strip()[-300:]}")
        shutil.copyfile(manifest, stamp)
    return FOLDER / "node_modules"


def node(script, job, scratch, timeout=300):
    """Runs a script of this folder on a job description. \\throws AssertionError with what it wrote to stderr."""
    modules = install()
    path = Path(scratch) / "job.json"
    path.write_text(json.dumps(job))
    done = subprocess.run(["node", str(HERE / script), str(path)], capture_output=True, text=True, timeout=timeout,
                          env={**os.environ, "NODE_PATH": str(modules)}, check=False)
    if done.returncode != 0:
        raise AssertionError(done.stderr)


def interface(values):
    """(name, NumPy dtype, shape) of the inputs or outputs of a model; an open dimension counts as 1."""
    return [(v.name, np.dtype(mapping.TENSOR_TYPE_TO_NP_TYPE[v.type.tensor_type.elem_type]),
             [d.dim_value or 1 for d in v.type.tensor_type.shape.dim]) for v in values]


def run_networks(networks, scratch):
    """Outputs of each (path of a model, inputs), by ONNX Runtime: a list of {name: array [N, ...]} in the same order.

    Inputs: one array of N samples for each of the model's, converted to its type.
    """
    jobs, results = [], []
    for number, (path, arrays) in enumerate(networks):
        graph = onnx.load(str(path)).graph
        job = {"model": str(path), "count": len(arrays[0]), "inputs": [], "outputs": []}
        for (name, dtype, shape), array in zip(interface(graph.input), arrays):
            file = Path(scratch) / f"{number}_in_{len(job['inputs'])}"
            np.ascontiguousarray(array, dtype).tofile(file)
            job["inputs"].append({"dtype": dtype.name, "shape": shape, "file": str(file)})
        found = {}
        for name, dtype, shape in interface(graph.output):
            file = Path(scratch) / f"{number}_out_{len(job['outputs'])}"
            job["outputs"].append({"name": name, "file": str(file)})
            found[name] = (file, dtype, shape)
        jobs.append(job)
        results.append(found)
    node("run.js", jobs, scratch)
    return [{name: np.fromfile(file, dtype).reshape([-1, *shape]) for name, (file, dtype, shape) in found.items()}
            for found in results]
