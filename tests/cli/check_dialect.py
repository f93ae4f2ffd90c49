#!/usr/bin/python3
"""Checks an exported folder against the integer dialect that Deeploy consumes, without any code of waveq.

    python3 tests/cli/check_dialect.py FOLDER [--all]

Prints one line for each violation, `point: where: what`, at most five of a kind unless --all is given. Exit code 0:
none; 1: some; 2: the folder cannot be read. The points are named in POINTS; the network is evaluated with
integer_network.py and compared with outputs.npz and activations.npz element by element.
"""
import argparse
import json
import re
import sys
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
from onnx import TensorProto

from dialect_rules import DIALECT, EXACT, FOREIGN, KEEPS_TYPE, MOVEMENT, RANGES, RULES, STANDARD, check_operands
from integer_network import IntegerError, Network, evaluate, integral

POINTS = {
    "container.domain": "dialect operators in PACTOps, which opset_import lists; standard ones in the default domain",
    "container.opset": "default operator set 9 to 11",
    "container.dtype": "every tensor FLOAT, indices and shapes INT64",
    "container.shape": "a static shape for every tensor, in value_info for intermediates, and the right one",
    "container.batch": "batch 1",
    "container.order": "nodes come after those they read",
    "names.distinct": "names differ in letters, digits and underscores",
    "graph.operator": "operators with an integer binding on the Generic platform",
    "graph.constant": "no node that reads constants alone",
    "graph.unused": "no result or constant that nobody reads",
    "constant.integer": "constants are integers of at most 2^24",
    "requant.attributes": "div, n_levels_out, signed: float32 tensors of shape [] or [1]",
    "requant.div": "div a power of two, above 1",
    "requant.levels": "n_levels_out 256, signed 0 or 1",
    "requant.shape": "mul, add: constants of shape [] or [C]+[1]*spatial",
    "requant.channel": "per channel only right behind Conv or Gemm",
    "requant.mul": "0 < |mul| < div",
    "requant.add": "add = q*mul, |q| < 500*|mul|, |add| <= 2^24",
    "conv.bias": "Conv has two inputs",
    "conv.attributes": "dilations, group, kernel_shape, pads, strides; dilation 1; group 1 or depthwise",
    "conv.weights": "constant weights within int8",
    "conv.requant": "only RequantShift reads a Conv",
    "gemm.bias": "constant bias within int32, one per output feature",
    "gemm.form": "rank 2, constant weights within int8, alpha = beta = 1",
    "gemm.requant": "only RequantShift with add = 0 reads a Gemm",
    "operand.bits": "8-bit operands for Conv, Gemm, MatMul, iGELU, softmax and normalization; int32 for IntegerDiv",
    "matmul.shape": "leading dimensions equal or 1",
    "lone.requant": "iGELU, IntegerDiv, iHardswish: read by scalar signed RequantShift with add = 0 alone; iGELU through a Reshape by any scalar one",
    "lone.attributes": "iGELU, IntegerDiv, iHardswish: plain integer attributes within their C types",
    "add.operands": "operands of a residual Add come from signed RequantShift or are signed inputs",
    "elementwise.shape": "equal shapes, or a constant of lower rank",
    "mean.form": "keepdims 0 over a power of two of at least two elements",
    "div.shape": "divisor [..., 1] of the numerator's rank",
    "div.divisor": "divisor not negative",
    "pad.form": "attributes mode constant, pads, value; spatial, in 2-D begin = end",
    "pool.form": "ceil_mode 0, kernel_shape, pads 0, strides",
    "movement.form": "perm, axis, axes as attributes; constant shapes; Concat of two; Slice within 0..255",
    "files.arrays": "inputs.npz, outputs.npz: int64, graph order, the graph's shapes",
    "files.signed": "a negative value for each signed input, none for an unsigned one",
    "files.activations": "activations.npz: int64, exactly the graph's intermediate tensors",
    "values.range": "no value leaves its type",
    "values.equal": "outputs and activations equal the evaluated ones",
}

class Folder:
    """A folder under examination: the network, the arrays, and what was found so far."""

    def __init__(self, path):
        self.path = Path(path)
        self.net = Network(self.path / "network.onnx")
        self.arrays = {name: self.load(name) for name in ("inputs", "outputs", "activations")}
        self.found = []
        self.kinds = {}

    def load(self, name):
        """(array name, array) in file order; nothing where the file is missing."""
        path = self.path / f"{name}.npz"
        if not path.exists():
            return None
        with zipfile.ZipFile(path) as archive, np.load(path) as data:
            return [(n[:-4], data[n[:-4]]) for n in archive.namelist()]

    def unsigned_inputs(self):
        """Inputs that quantization.json says are unsigned; without the file, none is."""
        path = self.path / "quantization.json"
        if not path.exists():
            return set()
        inputs = json.loads(path.read_text())["inputs"]
        return {i["name"] for i in inputs if not i["signed"]}

    def report(self, point, where, what):
        assert point in POINTS, point
        self.found.append((point, where, what))

    def constant(self, name):
        """int64 values of a constant with integers in it, else None."""
        try:
            return integral(self.net.constants[name], name)
        except (KeyError, IntegerError):
            return None

    def readers(self, node):
        return self.net.consumers.get(node.outputs[0], [])


def check_container(folder):
    net, report = folder.net, folder.report
    sets = {o.domain: o.version for o in net.model.opset_import}
    if not 9 <= sets.get("", 0) <= 11:
        report("container.opset", "opset_import", f"default operator set {sets.get('')}, want 9 to 11")
    if "PACTOps" not in sets and any(n.op in DIALECT for n in net.nodes):
        report("container.domain", "opset_import", f"PACTOps is not among {sorted(sets)}")
    for node in net.nodes:
        if node.op not in STANDARD | DIALECT:
            report("graph.operator", node.where, "has no integer binding on the Generic platform")
        want = "PACTOps" if node.op in DIALECT | FOREIGN else ""
        if node.domain != want:
            report("container.domain", node.where, f"domain '{node.domain}', want '{want}'")
    for name in net.inputs + net.outputs:
        shape = net.shape(name)
        if shape and shape[0] != 1:
            report("container.batch", name, f"shape {shape}: dimension 0 must be 1")
    for name in net.inputs + net.activations():
        if net.shape(name) is None:
            report("container.shape", name, "no static shape declared")


def check_types(folder):
    net, report = folder.net, folder.report
    for name, declared in net.declared.items():
        if declared.elem_type != TensorProto.FLOAT:
            report("container.dtype", name, f"declared {TensorProto.DataType.Name(declared.elem_type)}, want FLOAT")
    for name, array in net.constants.items():
        is_data = any(n.inputs[0] == name or n.op not in MOVEMENT for n in net.consumers.get(name, []))
        if is_data and array.dtype != np.float32 or not is_data and array.dtype not in (np.int64, np.float32):
            report("container.dtype", name, f"constant of type {array.dtype}, want {'float32' if is_data else 'int64'}")
        if not is_data:
            continue
        values = folder.constant(name)
        if values is None:
            report("constant.integer", name, "holds values that are not integers")
        elif values.size and np.abs(values).max() > EXACT:
            report("constant.integer", name, f"holds {np.abs(values).max()}, above 2^24")


def check_names(folder):
    net = folder.net
    tensors = dict.fromkeys([*net.inputs, *net.constants, *net.activations()])
    for kind, names in (("tensors", tensors), ("nodes", [n.name for n in net.nodes])):
        plain = {}
        for name in names:
            key = re.sub(r"[^A-Za-z0-9_]", "", name)
            if not key:
                folder.report("names.distinct", f"'{name}'", f"nothing is left of this name ({kind})")
            elif key in plain:
                folder.report("names.distinct", f"'{name}'", f"reads as '{key}', and so does '{plain[key]}' ({kind})")
            plain[key] = name


def check_use(folder):
    net, known = folder.net, set(folder.net.inputs) | set(folder.net.constants)
    for node in net.nodes:
        for name in node.inputs:
            if name and name not in known:
                folder.report("container.order", node.where, f"reads '{name}', which no node before it computes")
        known.update(node.outputs)
        if all(i in net.constants for i in node.inputs if i):
            folder.report("graph.constant", node.where, "reads constants alone; fold it")
    for name in [*net.activations(), *net.constants]:
        if name not in net.consumers and name not in net.outputs:
            folder.report("graph.unused", name, "is read by no node")


def find_kinds(folder):
    """s8, u8 or s32 for each tensor, by the dialect's binding tables."""
    unsigned = folder.unsigned_inputs()
    kinds = {name: "u8" if name in unsigned else "s8" for name in folder.net.inputs}
    for node in folder.net.nodes:
        if node.op == "RequantShift":
            kind = "s8" if int(np.asarray(node.attr("signed", 1)).reshape(-1)[0]) else "u8"
        elif node.op in KEEPS_TYPE:
            kind = kinds.get(node.inputs[0], "s8")
        elif node.op in ("iSoftmax", "ITAMax", "ITAPartialMax"):
            kind = "u8"
        else:
            kind = "s8" if node.op in ("iLayerNorm", "iRMSNorm") else "s32"
        kinds.update({name: kind for name in node.outputs})
    # A constant operand takes the type of what it meets, if its values fit.
    for node in folder.net.nodes:
        if node.op == "Concat":
            met = next((kinds[i] for i in node.inputs if i in kinds), "s8")
            for name in (i for i in node.inputs if i in folder.net.constants):
                values = folder.net.constants[name]
                low, high = (-128, 127) if met == "s8" else (0, 255)
                kinds[name] = met if low <= values.min() and values.max() <= high else "s32"
    folder.kinds = kinds


def check_arrays(folder):
    """inputs.npz and outputs.npz against the graph. \\return feeds by input name, None where they do not fit."""
    net, feeds = folder.net, {}
    for file, names in (("inputs", net.inputs), ("outputs", net.outputs)):
        arrays = folder.arrays[file]
        if arrays is None or len(arrays) != len(names):
            folder.report("files.arrays", f"{file}.npz", f"{len(arrays or [])} arrays, the graph has {len(names)} {file}")
            return None
        keys = [k for k, _ in arrays]
        if sorted(keys) == sorted(names) and keys != names:
            folder.report("files.arrays", f"{file}.npz", f"order {keys}, the graph has {names}")
        for name, (key, array) in zip(names, arrays):
            if array.dtype != np.int64 or list(array.shape) != net.shape(name):
                folder.report("files.arrays", f"{file}.npz: {key}",
                              f"{array.dtype} {list(array.shape)}, want int64 {net.shape(name)}")
                return None
            if file == "inputs":
                feeds[name] = array
    for name, array in feeds.items():
        if (array.min() < 0) != (folder.kinds[name] == "s8"):
            folder.report("files.signed", name, f"smallest value {array.min()} for an input of type {folder.kinds[name]}")
    return feeds


def compare(folder, file, name, golden, got):
    if golden.shape != got.shape:
        folder.report("values.equal", f"{file}.npz: {name}", f"shape {list(golden.shape)}, computed {list(got.shape)}")
    elif not np.array_equal(golden, got):
        at = np.unravel_index(np.argmax(golden != got), got.shape)
        folder.report("values.equal", f"{file}.npz: {name}", f"index {[int(i) for i in at]}: stored {golden[at]}, "
                      f"computed {got[at]}; {int((golden != got).sum())} of {got.size} differ")


def check_values(folder, feeds):
    net = folder.net
    try:
        values = evaluate(net, feeds)
    except IntegerError as error:
        folder.report("values.range", "evaluation", str(error))
        return
    for name in net.inputs + net.activations():
        value, (low, high) = values[name], RANGES[folder.kinds[name]]
        if list(value.shape) != net.shape(name):
            folder.report("container.shape", name, f"declared {net.shape(name)}, computed {list(value.shape)}")
        if value.size and (value.min() < low or value.max() > high):
            folder.report("values.range", name, f"reaches {value.min()}..{value.max()}, {folder.kinds[name]}")
    for node in net.nodes:
        if node.op == "IntegerDiv" and values[node.inputs[1]].min() < 0:
            folder.report("div.divisor", node.where, f"the divisor reaches {values[node.inputs[1]].min()}")
    for name, (key, array) in zip(net.outputs, folder.arrays["outputs"]):
        compare(folder, "outputs", name, array, values[name])
    known = set(net.activations()) | set(net.inputs)
    for key, array in folder.arrays["activations"] or []:
        if key not in known:
            folder.report("files.activations", key, "is no tensor of the graph")
        elif array.dtype.kind not in "iu":
            folder.report("files.activations", key, f"has type {array.dtype}")
        else:
            compare(folder, "activations", key, array, values[key])


def check_activation_names(folder):
    stored = {key for key, _ in folder.arrays["activations"] or []}
    for name in folder.net.activations():
        if name not in stored and name not in folder.net.outputs:
            folder.report("files.activations", name, "is not in activations.npz")


def check_folder(path):
    """All violations of a folder as (point, where, what)."""
    folder = Folder(path)
    for check in (check_container, check_types, check_names, check_use, find_kinds):
        check(folder)
    for node in folder.net.nodes:
        check_operands(folder, node)
        for rule in RULES.get(node.op, []):
            rule(folder, node)
    check_activation_names(folder)
    feeds = check_arrays(folder)
    if feeds is not None:
        check_values(folder, feeds)
    return folder.found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", help="a folder with network.onnx, inputs.npz, outputs.npz, activations.npz")
    parser.add_argument("--all", action="store_true", help="print every violation")
    options = parser.parse_args()
    try:
        found = check_folder(options.folder)
    except Exception as error:  # a folder from anywhere may hold anything
        print(f"{options.folder}: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    printed = Counter()
    for point, where, what in found:
        printed[point] += 1
        if options.all or printed[point] <= 5:
            print(f"{point}: {where}: {what}")
    rest = {p: n - 5 for p, n in printed.items() if n > 5 and not options.all}
    if rest:
        print("not shown: " + ", ".join(f"{n} more of {p}" for p, n in rest.items()))
    print(f"{options.folder}: {len(found)} violations, {len(POINTS)} points checked")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
