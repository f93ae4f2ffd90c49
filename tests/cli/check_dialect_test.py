#!/usr/bin/python3
"""check_dialect.py finds nothing in a correct folder, and each violation it knows in a folder that has it."""
import copy
import unittest

import support
from support import SHARED, need

import numpy as np
from onnx import TensorProto, helper, numpy_helper

import check_dialect
import small_network
from integer_network import IntegerError, Network, evaluate


def node(model, op, number=0):
    return [n for n in model.graph.node if n.op_type == op][number]


def set_attribute(target, name, value):
    drop_attribute(target, name)
    target.attribute.append(helper.make_attribute(name, value))


def drop_attribute(target, name):
    kept = [a for a in target.attribute if a.name != name]
    del target.attribute[:]
    target.attribute.extend(kept)


def scalar(value, dtype=np.float32, shape=()):
    return numpy_helper.from_array(np.full(shape, value, dtype))


def set_constant(model, name, values, dtype=np.float32):
    found = [i for i in model.graph.initializer if i.name == name][0]
    found.CopyFrom(numpy_helper.from_array(np.asarray(values, dtype), name))


def constant(model, name):
    return numpy_helper.to_array([i for i in model.graph.initializer if i.name == name][0])


def change(op, which, edit, number=0):
    """Mutation: `edit` changes the values of input `which` of a node."""
    def mutate(model, arrays, quantization):
        name = node(model, op, number).input[which]
        set_constant(model, name, edit(constant(model, name).copy()))
    return mutate


def attribute(op, name, value, number=0):
    def mutate(model, arrays, quantization):
        if value is None:
            drop_attribute(node(model, op, number), name)
        else:
            set_attribute(node(model, op, number), name, value)
    return mutate


def behind(op, which, edit, number=0):
    """Mutation: as `change`, for the RequantShift that reads a node."""
    def mutate(model, arrays, quantization):
        made = node(model, op, number).output[0]
        reader = [n for n in model.graph.node if made in n.input][0]
        set_constant(model, reader.input[which], edit(constant(model, reader.input[which]).copy()))
    return mutate


def at(index, value):
    def edit(values):
        values.reshape(-1)[index] = value
        return values
    return edit


def add_input(op, value):
    def mutate(model, arrays, quantization):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), "extra"))
        node(model, op).input.append("extra")
    return mutate


def rewire(op, which, source, number=0):
    def mutate(model, arrays, quantization):
        node(model, op, number).input[which] = source
    return mutate


def insert(op, domain="", **attributes):
    """Mutation: a node behind the first RequantShift that nothing but the rest of the network reads."""
    def mutate(model, arrays, quantization):
        first = node(model, "RequantShift")
        new = helper.make_node(op, [first.output[0]], ["inserted"], "inserted", domain=domain, **attributes)
        for n in model.graph.node:
            n.input[:] = ["inserted" if i == first.output[0] else i for i in n.input]
        model.graph.node.insert(list(model.graph.node).index(first) + 1, new)
    return mutate


def part_from_requant(shape, per_channel=False):
    """Mutation: a Reshape to `shape` between iGELU and its requant."""
    def mutate(model, arrays, quantization):
        made = node(model, "iGELU").output[0]
        requant = [n for n in model.graph.node if made in n.input][0]
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(shape, np.int64), "apart_shape"))
        model.graph.value_info.append(helper.make_tensor_value_info("apart", TensorProto.FLOAT, shape))
        view = helper.make_node("Reshape", [made, "apart_shape"], ["apart"], "apart")
        requant.input[0] = "apart"
        model.graph.node.insert(list(model.graph.node).index(requant), view)
        if per_channel:
            set_constant(model, requant.input[1], np.full((2, 1), constant(model, requant.input[1])))
    return mutate


def fold_left(model, arrays, quantization):
    a, b = (numpy_helper.from_array(np.ones((1, 2, 16), np.float32), n) for n in ("left", "right"))
    model.graph.initializer.extend([a, b])
    model.graph.node.insert(0, helper.make_node("Mul", ["left", "right"], ["product"], "constant_product"))
    rq = node(model, "RequantShift")
    for n in model.graph.node:
        n.input[:] = ["product" if i == rq.output[0] else i for i in n.input]


def rename(old, new):
    def mutate(model, arrays, quantization):
        for n in model.graph.node:
            n.input[:] = [new if i == old else i for i in n.input]
            n.output[:] = [new if o == old else o for o in n.output]
        for v in model.graph.value_info:
            v.name = new if v.name == old else v.name
        if old in arrays["activations"]:
            arrays["activations"][new] = arrays["activations"].pop(old)
    return mutate


def swap_nodes(model, arrays, quantization):
    first, second = copy.deepcopy(model.graph.node[0]), copy.deepcopy(model.graph.node[1])
    model.graph.node[0].CopyFrom(second)
    model.graph.node[1].CopyFrom(first)


def drop_value_info(model, arrays, quantization):
    del model.graph.value_info[4]


def open_dimension(model, arrays, quantization):
    model.graph.value_info[4].type.tensor_type.shape.dim[2].dim_param = "T"


def wrong_shape(model, arrays, quantization):
    model.graph.value_info[4].type.tensor_type.shape.dim[2].dim_value += 1


def element_type(model, arrays, quantization):
    model.graph.value_info[2].type.tensor_type.elem_type = TensorProto.INT8


def constant_type(model, arrays, quantization):
    name = node(model, "Gemm").input[2]
    set_constant(model, name, constant(model, name), np.int32)


def batch_two(model, arrays, quantization):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


def opset(domain, version):
    def mutate(model, arrays, quantization):
        kept = [o for o in model.opset_import if o.domain != domain]
        del model.opset_import[:]
        model.opset_import.extend(kept + ([helper.make_opsetid(domain, version)] if version else []))
    return mutate


def drop_domain(model, arrays, quantization):
    node(model, "iGELU").domain = ""


def conv_to_output(model, arrays, quantization):
    model.graph.output.append(helper.make_tensor_value_info("Conv_0_out", TensorProto.FLOAT, [1, 2, 16]))


def unused(model, arrays, quantization):
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float32), "nobody"))


def array(file, name, edit):
    def mutate(model, arrays, quantization):
        arrays[file][name] = edit(arrays[file][name].copy())
    return mutate


def drop_array(file, name):
    def mutate(model, arrays, quantization):
        del arrays[file][name]
    return mutate


def reverse_inputs(model, arrays, quantization):
    arrays["inputs"] = dict(reversed(arrays["inputs"].items()))


def extra_activation(model, arrays, quantization):
    arrays["activations"]["model_conv_pass_1"] = np.zeros((1, 2), np.int64)


def unsigned_input(model, arrays, quantization):
    quantization["inputs"][1]["signed"] = False


def unsigned_input_added(model, arrays, quantization):
    unsigned_input(model, arrays, quantization)
    rewire("Add", 0, "y")(model, arrays, quantization)


def big_requant(model, arrays, quantization):
    behind("Conv", 1, lambda m: m * 0 + 2**23 + 1)(model, arrays, quantization)
    attribute("RequantShift", "div", scalar(2.0**24))(model, arrays, quantization)


def declare(name, shape):
    def mutate(model, arrays, quantization):
        found = [v for v in model.graph.value_info if v.name == name][0]
        found.CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    return mutate


def negative_divisor(model, arrays, quantization):
    """The mean of V, which has both signs, under an eps that keeps the quotient defined."""
    rewire("IntegerMean", 0, "Reshape_9_out")(model, arrays, quantization)
    attribute("IntegerDiv", "eps", 10**6)(model, arrays, quantization)


MUTATIONS = [
    ("container.domain", "opset_import lacks PACTOps", opset("PACTOps", 0)),
    ("container.domain", "an iGELU in the default domain", drop_domain),
    ("container.opset", "opset 13", opset("", 13)),
    ("container.opset", "opset 8", opset("", 8)),
    ("container.dtype", "an int8 value_info", element_type),
    ("container.dtype", "an int32 bias", constant_type),
    ("container.shape", "no value_info for one tensor", drop_value_info),
    ("container.shape", "an open dimension", open_dimension),
    ("container.shape", "a wrong shape", wrong_shape),
    ("container.batch", "batch 2", batch_two),
    ("container.order", "two nodes exchanged", swap_nodes),
    ("names.distinct", "names that differ in a dot", rename("Conv_2_out", "Conv_0_.out")),
    ("names.distinct", "a name of special characters", rename("Conv_2_out", "/.:")),
    ("graph.operator", "a Relu", insert("Relu")),
    ("graph.operator", "an iHardswish", insert("iHardswish", "PACTOps", three=3, six=6, one_over_six=1)),
    ("graph.constant", "a product of two constants", fold_left),
    ("graph.unused", "a constant that nobody reads", unused),
    ("constant.integer", "a bias of one half", change("Gemm", 2, at(0, 0.5))),
    ("constant.integer", "a bias above 2^24", change("Gemm", 2, at(0, 2.0**24 + 2))),
    ("requant.attributes", "a plain integer div", attribute("RequantShift", "div", 16384)),
    ("requant.attributes", "an int64 tensor", attribute("RequantShift", "signed", scalar(1, np.int64))),
    ("requant.attributes", "a tensor of shape [1,1]", attribute("RequantShift", "div", scalar(16384.0, shape=(1, 1)))),
    ("requant.attributes", "no signed", attribute("RequantShift", "signed", None)),
    ("requant.div", "div 1000", attribute("RequantShift", "div", scalar(1000.0))),
    ("requant.div", "div 1", attribute("RequantShift", "div", scalar(1.0))),
    ("requant.levels", "16 levels", attribute("RequantShift", "n_levels_out", scalar(16.0))),
    ("requant.levels", "signed 2", attribute("RequantShift", "signed", scalar(2.0))),
    ("requant.shape", "mul of shape [C]", behind("Conv", 1, lambda m: m.reshape(-1))),
    ("requant.shape", "mul of shape [1,C,1]", behind("Conv", 1, lambda m: m.reshape(1, -1, 1))),
    ("requant.shape", "mul of shape [1]", behind("iGELU", 1, lambda m: m.reshape(1))),
    ("requant.shape", "mul computed", rewire("RequantShift", 1, "x")),
    ("requant.channel", "per channel behind MatMul", behind("MatMul", 1, lambda m: np.full((2, 1, 1), m))),
    ("requant.mul", "mul = div", behind("iGELU", 1, lambda m: np.float32(2.0**18))),
    ("requant.mul", "mul 0", behind("Conv", 1, at(0, 0))),
    ("requant.add", "add no multiple of mul", behind("Conv", 2, at(0, 77))),
    ("requant.add", "q = 500*mul", behind("Conv", 2, at(0, 500 * 50 * 50))),
    ("requant.add", "add above 2^24", behind("Conv", 2, at(0, 50.0 * 2**20))),
    ("conv.bias", "a bias of zeros", add_input("Conv", np.zeros(2))),
    ("conv.attributes", "no dilations", attribute("Conv", "dilations", None)),
    ("conv.attributes", "no kernel_shape", attribute("Conv", "kernel_shape", None)),
    ("conv.attributes", "no group", attribute("Conv", "group", None, 1)),
    ("conv.attributes", "no pads", attribute("Conv", "pads", None, 1)),
    ("conv.attributes", "no strides", attribute("Conv", "strides", None)),
    ("conv.attributes", "dilation 2", attribute("Conv", "dilations", [2])),
    ("conv.attributes", "pads 0, 1", attribute("Conv", "pads", [0, 1], 1)),
    ("conv.attributes", "another kernel_shape", attribute("Conv", "kernel_shape", [3])),
    ("conv.weights", "a weight of 128", change("Conv", 1, at(0, 128))),
    ("conv.weights", "a weight of 0.5", change("Conv", 1, at(0, 0.5))),
    ("conv.requant", "a Conv that is an output", conv_to_output),
    ("conv.requant", "a Conv without RequantShift", rewire("Add", 1, "Conv_2_out")),
    ("gemm.bias", "a bias of the wrong length", change("Gemm", 2, lambda b: b[:2])),
    ("gemm.form", "alpha 2", attribute("Gemm", "alpha", 2.0)),
    ("gemm.form", "a weight of -129", change("Gemm", 1, at(0, -129))),
    ("gemm.requant", "add behind Gemm", behind("Gemm", 2, at(0, 700))),
    ("operand.bits", "MatMul on a raw Conv", rewire("Reshape", 0, "Conv_6_out")),
    ("operand.bits", "iGELU on a raw Add", rewire("iGELU", 0, "Add_26_out")),
    ("operand.bits", "IntegerDiv of 8 bits", rewire("IntegerDiv", 1, "Unsqueeze_17_out")),
    ("matmul.shape", "3 against 2 heads", declare("Reshape_11_out", [1, 3, 2, 16])),
    ("lone.requant", "add behind iGELU", behind("iGELU", 2, lambda a: np.float32(60))),
    ("lone.requant", "add behind IntegerDiv", behind("IntegerDiv", 2, lambda a: np.float32(200))),
    ("lone.requant", "iGELU without RequantShift", rewire("Concat", 0, "iGELU_28_out")),
    ("lone.requant", "per channel behind IntegerDiv", behind("IntegerDiv", 1, lambda m: np.full((2, 1, 1), m))),
    ("lone.requant", "unsigned behind iGELU", attribute("RequantShift", "signed", scalar(0.0), 9)),
    ("lone.requant", "iGELU through a Reshape to another shape", part_from_requant([1, 1, 32])),
    ("lone.requant", "per channel behind iGELU and a Reshape", part_from_requant([1, 2, 16], per_channel=True)),
    ("lone.attributes", "a tensor for b", attribute("iGELU", "b", scalar(-70, np.int64))),
    ("lone.attributes", "a float for eta", attribute("IntegerDiv", "eta", 3.0)),
    ("lone.attributes", "no eps", attribute("IntegerDiv", "eps", None)),
    ("lone.attributes", "b = -129", attribute("iGELU", "b", -129)),
    ("lone.attributes", "one = 32768", attribute("iGELU", "one", 32768)),
    ("lone.attributes", "Delta*eta = 2^31", attribute("IntegerDiv", "Delta", 2**31)),
    ("add.operands", "an unsigned operand", attribute("RequantShift", "signed", scalar(0.0), 1)),
    ("add.operands", "a raw MatMul", rewire("Add", 0, "MatMul_14_out")),
    ("add.operands", "an unsigned graph input", unsigned_input_added),
    ("elementwise.shape", "broadcast operands", rewire("Add", 0, "MaxPool_32_out")),
    ("mean.form", "keepdims 1", attribute("IntegerMean", "keepdims", 1)),
    ("mean.form", "over 12 elements", declare("Pad_33_out", [1, 2, 12])),
    ("div.shape", "a full divisor", rewire("IntegerDiv", 1, "MatMul_18_out")),
    ("div.divisor", "a negative divisor", negative_divisor),
    ("pad.form", "padded channels", attribute("Pad", "pads", [0, 1, 4, 0, 0, 4])),
    ("pad.form", "mode edge", attribute("Pad", "mode", "edge")),
    ("pad.form", "no value", attribute("Pad", "value", None)),
    ("pad.form", "pads as an input", add_input("Pad", [0, 0, 4, 0, 0, 4])),
    ("pool.form", "no ceil_mode", attribute("MaxPool", "ceil_mode", None)),
    ("pool.form", "pads 1", attribute("MaxPool", "pads", [1, 1])),
    ("movement.form", "no perm", attribute("Transpose", "perm", None)),
    ("movement.form", "a computed shape", rewire("Reshape", 1, "x")),
    ("movement.form", "a Slice to the end", change("Slice", 2, lambda e: np.float32([-1]))),
    ("movement.form", "Concat of three", add_input("Concat", np.zeros((1, 2, 16)))),
    ("movement.form", "Concat of two types", attribute("RequantShift", "signed", scalar(0.0), 9)),
    ("files.arrays", "an int32 input", array("inputs", "x", lambda a: a.astype(np.int32))),
    ("files.arrays", "an output of another shape", array("outputs", "logits", lambda a: a.reshape(-1))),
    ("files.arrays", "inputs in another order", reverse_inputs),
    ("files.arrays", "one input missing", drop_array("inputs", "y")),
    ("files.signed", "a signed input without negative values", array("inputs", "x", np.abs)),
    ("files.signed", "an unsigned input with negative values", unsigned_input),
    ("files.activations", "a key that names no tensor", extra_activation),
    ("files.activations", "one tensor missing", drop_array("activations", "Add_26_out")),
    ("values.range", "x*mul beyond int32", big_requant),
    ("values.range", "an input of 200", array("inputs", "x", at(3, 200))),
    ("values.equal", "one output changed", array("outputs", "logits", at(1, 99))),
    ("values.equal", "one activation changed", array("activations", "iGELU_28_out", at(5, -1))),
]


class CheckDialect(support.Case):
    def test_a_correct_folder_has_no_violation(self):
        small_network.write(self.dir)
        self.assertEqual(check_dialect.check_folder(self.dir), [])

    def test_every_mutation_is_reported_under_its_point(self):
        model, arrays, quantization = small_network.write(self.dir)
        for point, title, mutate in MUTATIONS:
            with self.subTest(point=point, mutation=title):
                changed = copy.deepcopy((model, arrays, quantization))
                mutate(*changed)
                small_network.store(self.dir, *changed)
                found = check_dialect.check_folder(self.dir)
                self.assertIn(point, [p for p, _, _ in found], f"{title}: found {found}")

    def test_every_point_has_a_mutation(self):
        self.assertEqual(sorted(set(check_dialect.POINTS)), sorted({point for point, _, _ in MUTATIONS}))

    def test_a_mismatch_names_tensor_index_stored_and_computed_value(self):
        model, arrays, quantization = small_network.write(self.dir)
        was = int(arrays["activations"]["Add_26_out"][0, 1, 3])
        arrays["activations"]["Add_26_out"][0, 1, 3] = 1234
        small_network.store(self.dir, model, arrays, quantization)
        self.assertEqual(check_dialect.check_folder(self.dir), [(
            "values.equal", "activations.npz: Add_26_out",
            f"index [0, 1, 3]: stored 1234, computed {was}; 1 of 32 differ")])


class Interpreter(unittest.TestCase):
    # Operators of other platforms, float networks, and per-row parameters that only they address.
    UNKNOWN = ("Hardswish", "Identity", "RMSNorm", "TrueIntegerDiv", "iNoNorm", "Mixed", "Autoencoder1D", "microLlama",
               "Transformer_DeepQuant", "RQPerRow", "TransB_RQ")

    def test_reproduces_the_golden_vectors_of_others(self):
        equal = 0
        for path in sorted(need(SHARED / "vectors").rglob("network.onnx")):
            if not (path.parent / "outputs.npz").exists() or any(u in str(path) for u in self.UNKNOWN):
                continue
            with self.subTest(path=str(path)):
                net = Network(path)
                inputs, outputs = (np.load(path.parent / f"{n}.npz") for n in ("inputs", "outputs"))
                values = evaluate(net, {n: inputs[k].reshape(net.shape(n)) for n, k in zip(net.inputs, inputs.files)})
                for name, key in zip(net.outputs, outputs.files):
                    np.testing.assert_array_equal(values[name].reshape(-1), outputs[key].reshape(-1))
                equal += 1
        self.assertGreaterEqual(equal, 40)

    def test_refuses_to_wrap(self):
        from integer_network import fit
        gemm = type("Fake", (), {"where": "Gemm 'fc'"})
        self.assertEqual(int(fit(2**31 - 1, gemm, "the sum")), 2**31 - 1)
        with self.assertRaisesRegex(IntegerError, r"Gemm 'fc': the sum is 2147483648 at \[1\]"):
            fit(np.array([0, 2**31]), gemm, "the sum")


if __name__ == "__main__":
    support.main()
