"""Small whole networks as exporters write them: torch (TorchScript and dynamo), tf2onnx. Each is written by a function of a path."""
import numpy as np
import onnx
from onnx import TensorProto, helper

from small_float_networks import Net
from support import float_model, initializer, tensor_info

TOKENS, WIDTH, HEADS = 6, 16, 2
HEAD = WIDTH // HEADS


class Exported(Net):
    """A Net with what these networks share; x is [1,TOKENS,WIDTH] unless said otherwise."""

    def ints(self, *values):
        return self.const(list(values), np.int64)

    def parts(self, op, x, count, *inputs, **attributes):
        names = [f"{op.lower()}_{len(self.nodes)}_{i}" for i in range(count)]
        self.nodes.append(helper.make_node(op, [x, *inputs], names, names[0], **attributes))
        return names

    def linear(self, x, cin, cout):
        return self.add("Add", self.add("MatMul", x, self.const(self.random.normal(size=(cin, cout)) / np.sqrt(cin))),
                        self.const(0.1 * self.random.normal(size=cout)))

    def gain(self, around=1.0):
        return self.const(around + 0.2 * self.random.normal(size=WIDTH))

    def write(self, path, result, shape, out, opset, functions=(), symbolic=False):
        self.add("Identity", result)
        self.nodes[-1].output[0] = "y"
        float_model(path, self.nodes, [("x", shape)], [("y", out)], self.weights, opset)
        model = onnx.load(str(path))
        if symbolic:
            model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
        model.functions.extend(functions)
        model.opset_import.extend(helper.make_opsetid(d, 1) for d in {f.domain for f in functions})
        model.ir_version = 8
        onnx.save(model, str(path))
        return shape


def dynamo_encoder(path):
    """torch.onnx dynamo, opset 20: Expand of a class token, one Split for q, k, v, allowzero, causal mask by Trilu, Gelu."""
    n = Exported(11)
    token = n.add("Expand", n.const(0.5 * n.random.normal(size=(1, 1, WIDTH))),
                  n.add("Concat", n.add("Shape", "x", start=0, end=1), n.ints(1), n.ints(WIDTH), axis=0))
    length = TOKENS + 1
    x = n.add("Add", n.add("Concat", token, "x", axis=1), n.const(0.3 * n.random.normal(size=(1, length, WIDTH))))
    y = n.add("LayerNormalization", x, n.gain(), n.gain(0), axis=-1, epsilon=1e-5)
    q, k, v = [n.add("Transpose", n.add("Reshape", part, n.ints(1, length, HEADS, HEAD), allowzero=1), perm=[0, 2, 1, 3])
               for part in n.parts("Split", n.linear(y, WIDTH, 3 * WIDTH), 3, axis=-1, num_outputs=3)]
    root = n.add("Sqrt", n.const(1 / np.sqrt(HEAD)))
    scores = n.add("MatMul", n.add("Mul", q, root), n.add("Mul", n.add("Transpose", k, perm=[0, 1, 3, 2]), root))
    ones = n.add("ConstantOfShape", n.ints(length, length), value=helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]))
    seen = n.add("Cast", n.add("Trilu", ones, upper=0), to=TensorProto.BOOL)
    p = n.add("Softmax", n.add("Where", seen, scores, n.const(-np.inf)), axis=-1)
    z = n.add("Reshape", n.add("Transpose", n.add("MatMul", p, v), perm=[0, 2, 1, 3]), n.ints(1, length, WIDTH))
    x = n.add("Add", x, n.linear(z, WIDTH, WIDTH))
    y = n.add("LayerNormalization", x, n.gain(), n.gain(0), axis=-1)
    x = n.add("Add", x, n.linear(n.add("Gelu", n.linear(y, WIDTH, 32)), 32, WIDTH))
    out = n.add("Gemm", n.add("Gather", x, n.const(length - 1, np.int64), axis=1), n.weight(5, WIDTH), n.weight(5), transB=1)
    return n.write(path, out, [1, TOKENS, WIDTH], [1, 5], 20, symbolic=True)


def keras_layer_norm(n, x):
    mean = n.add("ReduceMean", x, axes=[-1], keepdims=1)
    centred = n.add("Sub", x, mean)
    variance = n.add("ReduceMean", n.add("Mul", centred, centred), axes=[-1], keepdims=1)
    scale = n.add("Mul", n.add("Reciprocal", n.add("Sqrt", n.add("Add", variance, n.const(1e-3)))), n.gain())
    return n.add("Add", n.add("Mul", x, scale), n.add("Sub", n.gain(0), n.add("Mul", mean, scale)))


def keras_attention(path):
    """tf2onnx: Einsum projections of rank 3, softmax written out, normalizations as tf.nn.batch_normalization, tanh GELU."""
    n = Exported(12)
    y = keras_layer_norm(n, "x")
    q, k, v = [n.add("Add", n.add("Einsum", y, n.const(n.random.normal(size=(WIDTH, HEADS, HEAD)) / 4), equation="abc,cde->abde"),
                     n.const(0.1 * n.random.normal(size=(HEADS, HEAD)))) for _ in range(3)]
    scores = n.add("Einsum", k, n.add("Mul", q, n.const(HEAD**-0.5)), equation="aecd,abcd->acbe")
    e = n.add("Exp", n.add("Sub", scores, n.add("ReduceMax", scores, axes=[-1], keepdims=1)))
    p = n.add("Div", e, n.add("ReduceSum", e, n.ints(-1), keepdims=1))
    z = n.add("Einsum", p, v, equation="acbe,aecd->abcd")
    x = n.add("Add", n.add("Einsum", z, n.const(n.random.normal(size=(HEADS, HEAD, WIDTH)) / 4), equation="abcd,cde->abe"), "x")
    f = n.linear(keras_layer_norm(n, x), WIDTH, 32)
    cube = n.add("Mul", n.add("Add", f, n.add("Mul", n.add("Pow", f, n.const(3.0)), n.const(0.044714998))), n.const(0.79788458))
    f = n.add("Mul", f, n.add("Mul", n.add("Add", n.add("Tanh", cube), n.const(1.0)), n.const(0.5)))
    x = n.add("Add", n.linear(f, 32, WIDTH), x)
    return n.write(path, n.linear(n.add("ReduceMean", x, axes=[1], keepdims=0), WIDTH, 3), [1, TOKENS, WIDTH], [1, 3], 13)


def keras_mobilenet(path):
    """tf2onnx: channels last outside, kernels behind a Transpose, SAME padding, ReLU6 as Min and Max, a residual, Squeeze."""
    n = Exported(13)

    def conv(x, cin, cout, kernel, stride=1, group=1, act=None):
        w = n.add("Transpose", n.const(n.random.normal(size=(kernel, kernel, cin // group, cout)) / np.sqrt(kernel * kernel * cin / group)),
                  perm=[3, 2, 0, 1])
        y = n.add("Conv", x, w, strides=[stride] * 2, group=group, kernel_shape=[kernel] * 2, auto_pad="SAME_UPPER")
        y = n.add("BatchNormalization", y, n.const(n.random.uniform(0.6, 1.4, cout)), n.const(0.3 * n.random.normal(size=cout)),
                  n.const(0.1 * n.random.normal(size=cout)), n.const(n.random.uniform(0.6, 1.4, cout)), epsilon=1e-3)
        if act == "min":
            y = n.add("Min", n.add("Max", y, n.const(0.0)), n.const(6.0))
        if act == "clip":
            y = n.add("Clip", n.add("Relu", y), "", n.const(6.0))
        return y

    x = conv(n.add("Transpose", "x", perm=[0, 3, 1, 2]), 3, 8, 3, stride=2, act="min")
    a = conv(conv(x, 8, 16, 1, act="clip"), 16, 16, 3, group=16, act="min")
    x = n.add("Squeeze", n.add("GlobalAveragePool", n.add("Add", x, conv(a, 16, 8, 1))), n.ints(2, 3))
    return n.write(path, n.linear(x, 8, 4), [1, 8, 8, 3], [1, 4], 13)


def local_functions(path):
    """torch.onnx dynamo of torch 2.1, opset 18: operators as functions of the file, one in the other, attributes by reference."""
    domain = "pkg.onnxscript.torch_lib"

    def function(name, inputs, nodes, attributes=()):
        imports = [helper.make_opsetid("", 18), helper.make_opsetid(domain, 1)]
        return helper.make_function(domain, name, inputs, ["r"], nodes, imports, list(attributes))

    norm = helper.make_node("LayerNormalization", ["x", "s", "b"], ["r"], axis=-1)
    norm.attribute.append(onnx.AttributeProto(name="epsilon", ref_attr_name="eps", type=onnx.AttributeProto.FLOAT))
    functions = [
        function("aten_layer_norm", ["x", "s", "b"], [norm], ["eps"]),
        function("aten_addmm", ["b", "x", "w"], [helper.make_node("MatMul", ["x", "w"], ["t"]), helper.make_node("Add", ["t", "b"], ["r"])]),
        function("mlp", ["x", "w1", "b1", "w2", "b2"],
                 [helper.make_node("aten_addmm", ["b1", "x", "w1"], ["t"], domain=domain), helper.make_node("Relu", ["t"], ["u"]),
                  helper.make_node("aten_addmm", ["b2", "u", "w2"], ["r"], domain=domain)])]
    n = Exported(14)
    x = "x"
    for _ in range(2):
        y = n.add("aten_layer_norm", x, n.gain(), n.gain(0), domain=domain, eps=1e-5)
        x = n.add("Add", x, n.add("mlp", y, n.weight(WIDTH, 24), n.weight(24), n.weight(24, WIDTH), n.weight(WIDTH), domain=domain))
    return n.write(path, x, [1, TOKENS, WIDTH], [1, TOKENS, WIDTH], 18, functions)


def conditional_squeeze(path):
    """torch.jit: squeeze of an axis of unknown length is an If over its Shape."""
    n = Exported(15)
    p = n.add("ReduceMean", n.add("Relu", n.conv("x", 8, 3, (5,))), axes=[2], keepdims=1)
    one = n.add("Equal", n.add("Gather", n.add("Shape", p), n.ints(2), axis=0), n.ints(1))
    squeeze = helper.make_graph([helper.make_node("Squeeze", [p, "axis"], ["s"])], "then", [], [tensor_info("s", None)],
                                [initializer("axis", [2], np.int64)])
    keep = helper.make_graph([helper.make_node("Identity", [p], ["i"])], "else", [], [tensor_info("i", None)])
    x = n.add("If", one, then_branch=squeeze, else_branch=keep)
    return n.write(path, n.add("Gemm", x, n.weight(8, 4), n.weight(4)), [1, 3, 16], [1, 4], 13, symbolic=True)


def squeeze_and_excite(path):
    """torch, opset 14: HardSigmoid gates of each channel, which repeat over the map."""
    n = Exported(16)
    x = n.add("Relu", n.conv("x", 8, 3, (3, 3)))
    gate = n.add("Relu", n.conv(n.add("GlobalAveragePool", x), 4, 8, (1, 1)))
    gate = n.add("HardSigmoid", n.conv(gate, 8, 4, (1, 1)), alpha=1 / 6)
    x = n.add("GlobalAveragePool", n.conv(n.add("Mul", x, gate), 6, 8, (1, 1)))
    return n.write(path, n.add("Flatten", x), [1, 3, 8, 8], [1, 6], 14)


def convnext_block(path):
    """ConvNeXt, opset 20: LayerNorm over channels from elementary operators and as an operator behind a Transpose, layer scale."""
    n = Exported(17)
    x = n.conv("x", 8, 3, (3, 3))
    mean = n.add("ReduceMean", x, n.ints(1))
    centred = n.add("Sub", x, mean)
    deviation = n.add("Sqrt", n.add("Add", n.add("ReduceMean", n.add("Pow", centred, n.const(2.0)), n.ints(1)), n.const(1e-6)))
    x = n.add("Mul", n.add("Div", centred, deviation), n.const(1 + 0.2 * n.random.normal(size=(8, 1, 1))))
    y = n.add("Transpose", n.conv(x, 8, 8, (3, 3), group=8), perm=[0, 2, 3, 1])
    y = n.add("LayerNormalization", y, n.const(1 + 0.2 * n.random.normal(size=8)), n.const(0.2 * n.random.normal(size=8)), axis=-1)
    y = n.add("Mul", n.linear(n.add("Gelu", n.linear(y, 8, 16)), 16, 8), n.const(n.random.uniform(0.5, 1, 8)))
    x = n.add("Add", x, n.add("Transpose", y, perm=[0, 3, 1, 2]))
    return n.write(path, n.conv(x, 4, 8, (1, 1)), [1, 3, 8, 8], [1, 4, 8, 8], 20)


def group_norm_unet(path):
    """torch, opset 18: GroupNormalization as torch spells it and as the operator, nearest Resize, a skip, a reflecting Pad."""
    n = Exported(18)
    a = n.add("Pad", "x", n.ints(0, 0, 1, 1, 0, 0, 1, 1), mode="reflect")
    a = n.conv(a, 8, 2, (3, 3), pads=[0] * 4)
    g = n.add("InstanceNormalization", n.add("Reshape", a, n.ints(0, 2, -1)), n.const(np.ones(2)), n.const(np.zeros(2)))
    a = n.add("Mul", n.add("Reshape", g, n.add("Shape", a)), n.const(1 + 0.2 * n.random.normal(size=(8, 1, 1))))
    a = n.add("Relu", n.add("Add", a, n.const(0.2 * n.random.normal(size=(8, 1, 1)))))
    b = n.conv(n.add("MaxPool", a, kernel_shape=[2, 2], strides=[2, 2]), 8, 8, (3, 3))
    b = n.add("Relu", n.add("GroupNormalization", b, n.const(np.ones(4)), n.const(np.zeros(4)), num_groups=4))
    up = n.add("Resize", b, "", n.const([1.0, 1.0, 2.0, 2.0]), mode="nearest", coordinate_transformation_mode="asymmetric",
               nearest_mode="floor")
    return n.write(path, n.conv(n.add("Concat", up, a, axis=1), 3, 16, (1, 1)), [1, 2, 8, 8], [1, 3, 8, 8], 18)


def shuffle_unit(path):
    """ShuffleNet V2 and ESPCN: Split, channel shuffle, SpaceToDepth and DepthToSpace, Gather, a constant on the left."""
    n = Exported(19)
    x = n.add("Relu", n.conv(n.add("SpaceToDepth", "x", blocksize=2), 8, 8, (1, 1)))
    left, right = n.parts("Split", x, 2, axis=1)
    x = n.add("Concat", left, n.add("Relu", n.conv(right, 4, 4, (3, 3))), axis=1)
    x = n.add("Transpose", n.add("Reshape", x, n.ints(1, 2, 4, 4, 4)), perm=[0, 2, 1, 3, 4])
    x = n.add("Gather", n.add("Reshape", x, n.ints(1, 8, 4, 4)), n.ints(0, 2, 1, 3, 7, 6, 5, 4), axis=1)
    x = n.add("MatMul", n.weight(4, 4), n.conv(x, 8, 8, (1, 1)))
    x = n.add("Max", x, n.add("Mul", x, n.const(n.random.uniform(-1, 1, size=(1, 8, 4, 4)))))
    return n.write(path, n.add("DepthToSpace", x, blocksize=2, mode="CRD"), [1, 2, 8, 8], [1, 2, 8, 8], 13)


NETWORKS = [dynamo_encoder, keras_attention, keras_mobilenet, local_functions, conditional_squeeze, squeeze_and_excite,
            convnext_block, group_norm_unet, shuffle_unit]
