"""The rules of the integer dialect for single nodes; check_dialect.py applies them.

Each function takes the folder under examination and a node, and reports what it finds to the folder.
"""
import numpy as np
from onnx import AttributeProto, TensorProto

STANDARD = {"Conv", "Gemm", "MatMul", "Add", "Sub", "Mul", "ReduceMean", "ReduceSum", "MaxPool", "Transpose",
            "Reshape", "Flatten", "Unsqueeze", "Squeeze", "Concat", "Slice", "Gather", "Pad"}
DIALECT = {"RequantShift", "iGELU", "iLayerNorm", "iRMSNorm", "iSoftmax", "ITAMax", "ITAPartialMax", "IntegerMean", "IntegerDiv"}
# Known to other platforms of the dialect only.
FOREIGN = {"iHardswish", "iNoNorm", "TrueIntegerDiv"}
LONE = {"iGELU": ("b", "one"), "iRMSNorm": ("D", "n_levels"), "IntegerDiv": ("Delta", "eps", "eta"), "iHardswish": ("three", "six", "one_over_six")}
MOVEMENT = {"Transpose", "Reshape", "Flatten", "Unsqueeze", "Squeeze", "Concat", "Slice", "Gather", "Pad", "MaxPool"}
KEEPS_TYPE = MOVEMENT | {"IntegerMean", "ReduceMean"}
RANGES = {"s8": (-128, 127), "u8": (0, 255), "s32": (-(2**31), 2**31 - 1)}
EXACT = 2**24


def check_operands(folder, node):
    if node.op == "IntegerDiv":
        wanted = {"s32"}
    elif node.op in ("Conv", "Gemm", "MatMul", "ITAMax", "ITAPartialMax", "iSoftmax", "iGELU", "iLayerNorm", "iRMSNorm"):
        wanted = {"s8"} if node.op in ("iGELU", "iLayerNorm", "iRMSNorm") else {"s8", "u8"}
    else:
        return
    count = 2 if node.op in ("IntegerDiv", "MatMul") else 1
    for name in node.inputs[:count]:
        values = folder.constant(name)
        if values is not None:
            if "s8" in wanted and values.size and (values.min() < -128 or values.max() > 127):
                folder.report("operand.bits", node.where, f"constant '{name}' leaves int8")
        elif folder.kinds.get(name) not in wanted:
            folder.report("operand.bits", node.where, f"'{name}' is {folder.kinds.get(name)}, want {'/'.join(wanted)}")


def check_requant(folder, node):
    report, where = folder.report, node.where
    values = {}
    for key in ("div", "n_levels_out" if "n_levels_out" in node.protos else "n_levels", "signed"):
        proto = node.protos.get(key)
        if proto is None or proto.type != AttributeProto.TENSOR or proto.t.data_type != TensorProto.FLOAT \
                or list(proto.t.dims) not in ([], [1]):
            report("requant.attributes", where, f"'{key}' is not a float32 tensor of shape [] or [1]")
        values[key] = None if proto is None else float(np.asarray(node.attr(key)).reshape(-1)[0])
    div, levels, signed = values.values()
    if div is None or div < 2 or int(div) != div or int(div) & (int(div) - 1):
        report("requant.div", where, f"div is {div}")
        div = None
    if levels != 256 or signed not in (0.0, 1.0):
        report("requant.levels", where, f"n_levels_out is {levels}, signed is {signed}")
    if len(node.inputs) != 3:
        report("requant.shape", where, f"{len(node.inputs)} inputs, want data, mul, add")
        return
    check_requant_parameters(folder, node, div)


def check_requant_parameters(folder, node, div):
    report, net, where = folder.report, folder.net, node.where
    mul, add = folder.constant(node.inputs[1]), folder.constant(node.inputs[2])
    if mul is None or add is None:
        report("requant.shape", where, "mul or add is not a constant of integers")
        return
    shape = net.shape(node.inputs[0])
    channels = [shape[1]] + [1] * (len(shape) - 2) if shape and len(shape) > 1 else None
    for name, values in (("mul", mul), ("add", add)):
        if list(values.shape) not in ([], channels):
            report("requant.shape", where, f"{name} has shape {list(values.shape)}, want [] or {channels}")
    source = net.producer.get(node.inputs[0])
    if max(mul.ndim, add.ndim) and (source is None or source.op not in ("Conv", "Gemm")):
        report("requant.channel", where, f"per channel behind {source.where if source else 'a graph input'}")
    if (mul == 0).any() or div and (np.abs(mul) >= div).any():
        report("requant.mul", where, f"mul is between {mul.min()} and {mul.max()}, div is {div}")
    if mul.size > 1 and add.size > 1 and mul.size != add.size or (mul == 0).any():
        return
    mul, add = np.broadcast_arrays(mul.reshape(-1), add.reshape(-1))
    bad = (add % mul != 0) | (np.abs(add // mul) >= 500 * np.abs(mul)) | (np.abs(add) > EXACT)
    if bad.any():
        at = int(np.argmax(bad))
        report("requant.add", where, f"channel {at}: mul {mul[at]}, add {add[at]}; {int(bad.sum())} of {bad.size} are bad")


def adds_nothing(folder, node):
    """Whether a RequantShift has add = 0."""
    add = folder.constant(node.inputs[2]) if len(node.inputs) == 3 else None
    return add is not None and not add.any()


def check_conv(folder, node):
    net, report, where = folder.net, folder.report, node.where
    if len([i for i in node.inputs if i]) != 2:
        report("conv.bias", where, f"{len(node.inputs)} inputs")
    weights = folder.constant(node.inputs[1])
    if weights is None or weights.min() < -128 or weights.max() > 127:
        report("conv.weights", where, "weights are not constant integers within int8")
    readers = folder.readers(node)
    if not readers or node.outputs[0] in net.outputs or any(r.op != "RequantShift" for r in readers):
        report("conv.requant", where, f"read by {[r.where for r in readers] or 'no node'}, want RequantShift alone")
    missing = [a for a in ("dilations", "group", "kernel_shape", "pads", "strides") if a not in node.protos]
    if missing:
        report("conv.attributes", where, f"missing: {missing}")
    elif weights is not None:
        rank, group, pads = weights.ndim - 2, node.attr("group"), node.attr("pads")
        channels = (net.shape(node.inputs[0]) or [0, 0])[1]
        problems = [text for text, bad in (
            ("kernel_shape is not that of the weights", node.attr("kernel_shape") != list(weights.shape[2:])),
            ("dilation", any(d != 1 for d in node.attr("dilations"))),
            # deeploy-dialect.md 6.1: in 1-D [1,2] was run, [0,1] is neither extracted nor accepted.
            ("pads differ at begin and end", rank > 1 and pads[:rank] != pads[rank:]),
            ("a total padding of 1", sum(pads) == 1),
            ("neither dense nor depthwise", group not in (1, channels) or group > 1 and weights.shape[:2] != (group, 1)),
            ("strides", len(node.attr("strides")) != rank)) if bad]
        if problems:
            report("conv.attributes", where, "; ".join(problems))


def check_gemm(folder, node):
    report, where = folder.report, node.where
    weights = folder.constant(node.inputs[1])
    rank = len(folder.net.shape(node.inputs[0]) or [])
    if rank != 2 or weights is None or weights.ndim != 2 or weights.min() < -128 or weights.max() > 127 \
            or node.attr("alpha", 1.0) != 1 or node.attr("beta", 1.0) != 1 or node.attr("transA", 0):
        report("gemm.form", where, f"input of rank {rank}, alpha {node.attr('alpha', 1.0)}, beta {node.attr('beta', 1.0)}")
    bias = folder.constant(node.inputs[2]) if len(node.inputs) == 3 else None
    features = None if weights is None else weights.shape[0 if node.attr("transB", 0) else 1]
    if bias is None or bias.shape not in ((features,), (1, features)) or np.abs(bias).max() >= 2**31:
        report("gemm.bias", where, "no constant int32 bias with a value per output feature")
    for reader in folder.readers(node):
        if reader.op != "RequantShift" or not adds_nothing(folder, reader):
            report("gemm.requant", where, f"read by {reader.where}, want RequantShift with add = 0")


def parted_requants(folder, node, reader):
    """True for a view of the same shape that scalar requants alone read. The consumer merges an operator with the requant right
    behind it, and the merged kernel applies an add wrongly (deeploy-dialect.md T5); it merges nothing through a view."""
    readers = folder.readers(reader) if reader.op == "Reshape" else []
    return bool(readers) and reader.outputs[0] not in folder.net.outputs \
        and folder.net.shape(reader.outputs[0]) == folder.net.shape(node.outputs[0]) \
        and all(r.op == "RequantShift" and folder.net.shape(r.inputs[1]) == [] for r in readers)


def check_lone(folder, node):
    report, where = folder.report, node.where
    for key in LONE[node.op]:
        if key not in node.protos or node.protos[key].type != AttributeProto.INT:
            report("lone.attributes", where, f"'{key}' is not a plain integer")
            return
    if node.op == "iGELU" and not (-128 <= node.attr("b") < 0 < node.attr("one") <= 32767):
        report("lone.attributes", where, f"b = {node.attr('b')}, one = {node.attr('one')} leave int8 and int16")
    if node.op == "IntegerDiv" and not 0 < node.attr("Delta") * node.attr("eta") < 2**31:
        report("lone.attributes", where, "Delta*eta leaves int32")
    readers = folder.readers(node)
    for reader in readers:
        if node.op == "iGELU" and parted_requants(folder, node, reader):
            continue
        if reader.op != "RequantShift" or not adds_nothing(folder, reader) or not reader.integer("signed", 1) \
                or folder.net.shape(reader.inputs[1]) != []:
            report("lone.requant", where, f"read by {reader.where}, want a scalar signed RequantShift with add = 0")
    if not readers or node.outputs[0] in folder.net.outputs:
        report("lone.requant", where, "is not followed by a RequantShift")


def from_signed_requant(folder, name):
    """A signed graph input counts too: Deeploy's own Kernels/Integer/Add/Regular adds two of them."""
    node = folder.net.producer.get(name)
    if node is None:
        return name in folder.net.inputs and folder.kinds[name] == "s8"
    if node.op in MOVEMENT:
        return all(from_signed_requant(folder, i) for i in (node.inputs if node.op == "Concat" else node.inputs[:1]))
    return node.op == "RequantShift" and node.integer("signed", 1) == 1


def check_elementwise(folder, node):
    net, where = folder.net, node.where
    shapes = [net.shape(i) for i in node.inputs]
    lower_constant = any(i in net.constants and len(net.shape(i)) < max(len(s or []) for s in shapes) for i in node.inputs)
    if shapes[0] != shapes[1] and not lower_constant:
        folder.report("elementwise.shape", where, f"shapes {shapes[0]} and {shapes[1]}")
    if node.op == "Add" and not any(i in net.constants for i in node.inputs):
        for name in node.inputs:
            if not from_signed_requant(folder, name):
                folder.report("add.operands", where, f"'{name}' comes neither from a signed RequantShift nor from a signed input")


def check_mean(folder, node):
    shape, axes = folder.net.shape(node.inputs[0]), node.axes()
    if not shape or axes is None:
        folder.report("mean.form", node.where, "no axes attribute, or no shape")
        return
    length = int(np.prod([shape[a] for a in axes]))
    if node.attr("keepdims", 1) != 0 or length < 2 or length & (length - 1):
        folder.report("mean.form", node.where, f"keepdims {node.attr('keepdims', 1)}, over {length} elements")


def check_matmul(folder, node):
    a, b = (folder.net.shape(i) or [] for i in node.inputs)
    lead = list(zip(reversed(a[:-2]), reversed(b[:-2])))
    if len(a) < 2 or len(b) < 2 or any(x != y and 1 not in (x, y) for x, y in lead):
        folder.report("matmul.shape", node.where, f"shapes {a} and {b}")


def check_division(folder, node):
    num, den = (folder.net.shape(i) for i in node.inputs)
    if not num or not den or den != num[:-1] + [1]:
        folder.report("div.shape", node.where, f"numerator {num}, divisor {den}")


def check_pad(folder, node):
    pads, rank = node.attr("pads"), len(folder.net.shape(node.inputs[0]) or [])
    good = len(node.inputs) == 1 and node.attr("mode") == "constant" and "value" in node.protos and pads \
        and len(pads) == 2 * rank and (rank == 3 or pads[:rank] == pads[rank:]) and not any(pads[:2]) and min(pads) >= 0
    if not good:
        folder.report("pad.form", node.where, f"pads {pads}, mode {node.attr('mode')}, {len(node.inputs)} inputs")


def check_pool(folder, node):
    missing = [a for a in ("ceil_mode", "kernel_shape", "pads", "strides") if a not in node.protos]
    if missing or node.attr("ceil_mode") or any(node.attr("pads")):
        folder.report("pool.form", node.where, f"missing {missing}, pads {node.attr('pads')}, ceil_mode must be 0")


def check_movement(folder, node):
    net, op = folder.net, node.op
    needs = {"Transpose": ["perm"], "Flatten": ["axis"], "Squeeze": ["axes"], "Unsqueeze": ["axes"],
             "Concat": ["axis"], "Gather": ["axis"], "ReduceSum": ["axes", "keepdims"]}.get(op, [])
    problems = [f"no attribute '{a}'" for a in needs if a not in node.protos]
    if op == "Reshape" and (len(node.inputs) != 2 or node.inputs[1] not in net.constants):
        problems.append("its shape is not a constant")
    if op == "Concat" and (len(node.inputs) != 2 or len({folder.kinds.get(i) for i in node.inputs}) != 1):
        problems.append("wants two inputs of one type")
    if op == "Slice":
        values = [folder.constant(i) for i in node.inputs[1:]]
        if len(values) != 4 or any(v is None or v.min() < 0 or v.max() > 255 for v in values):
            problems.append("starts, ends, axes, steps must be constants within 0..255")
    if op == "Gather":
        index = folder.constant(node.inputs[1])
        if index is None or index.size != 1 or node.attr("axis", 0) < 0:
            problems.append("wants one constant index and an axis that is not negative")
    if problems:
        folder.report("movement.form", node.where, "; ".join(problems))


RULES = {"RequantShift": [check_requant], "Conv": [check_conv], "Gemm": [check_gemm], "MatMul": [check_matmul],
         "iGELU": [check_lone], "iHardswish": [check_lone], "IntegerDiv": [check_lone, check_division],
         "Add": [check_elementwise], "Sub": [check_elementwise], "Mul": [check_elementwise],
         "IntegerMean": [check_mean], "ReduceMean": [check_mean], "Pad": [check_pad], "MaxPool": [check_pool]}
RULES.update({op: [check_movement] for op in ("Transpose", "Flatten", "Squeeze", "Unsqueeze", "Concat", "Gather",
                                              "ReduceSum", "Reshape", "Slice")})
