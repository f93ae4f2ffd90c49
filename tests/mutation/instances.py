"""Kernel instances that the mutation score is measured on: operator, kernel file, operands and attributes in the words of
`waveq vectors --op`. Sizes lie around unroll widths (1, 3, 4, 5, 7, 8, 9, 15 to 17, 31 to 33), shapes are asymmetric,
per-channel parameters differ in every channel. Weights are drawn."""
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Instance:
    op: str
    operands: tuple
    attributes: dict
    kernel: str = ""  # its file in kernels/, without .c; default: from the operator's name
    row: str = ""  # its row in the table; default: the operator
    defines: tuple = field(default=())

    def arguments(self):
        words = ["--op", self.op]
        for operand in self.operands:
            words += ["--operand", operand]
        for name, value in self.attributes.items():
            text = "[" + ",".join(map(str, value)) + "]" if isinstance(value, (list, tuple)) else str(value)
            words += ["--attr", f"{name}={text}"]
        return words


# Bugs that the kernels of a row cannot have, or not show: (rows that start so, numbers, reason).
NOT_HERE = [
    ("RequantShift, one for all", {1, 2, 3, 4, 5, 6}, "there is one parameter"),
    ("RequantShift, one for all, u8", {26, 27}, "negative results are clipped to zero either way"),
    ("RequantShift, one a column", {1}, "the channels are the last axis"),
    ("RequantShift, one", {36}, "all products fit 32 bits"),
    ("Conv 1-D", {4, 12, 21, 23}, "there is one axis"),
    ("Conv 1-D depthwise", {15, 24}, "a filter has one channel"),
    ("MaxPool 1-D", {4, 8, 22, 23}, "there is one axis"),
]
NOT_HERE_EXACTLY = [("Conv 1-D", {6}, "there is one group"), ("Conv 2-D", {6}, "there is one group")]


def requant(row, x, mul, add, div=1024, signed=1, levels=256):
    """RequantShift; `mul` and `add` are lists of values, with their shapes in front."""
    return Instance("RequantShift", (x, f"i32{mul}", f"i32{add}"), {"div": div, "n_levels_out": levels, "signed": signed},
                    "requant_shift", row)


def wide_requant(x, mul, add, signed=1, levels=256):
    """RequantShift of domain waveq: products of 64 bits."""
    return Instance("RequantShift", (x, f"i32{mul}", f"i64{add}"),
                    {"div": 1 << 31, "n_levels_out": levels, "signed": signed, "product_bits": 64}, "requant_shift",
                    "RequantShift, 64-bit products")


def conv(row, x, w, strides, pads, group=1, dilations=None, bias=None):
    rank = len(strides)
    kernel = [int(d) for d in w[w.index("[") + 1:w.index("]")].split(",")][2:]
    operands = (x, w) if bias is None else (x, w, bias)
    return Instance("Conv", operands, {"strides": strides, "pads": pads, "group": group, "kernel_shape": kernel,
                                       "dilations": dilations or [1] * rank}, "conv", row)


def gemm(a, b, c=None, trans_a=0, trans_b=0, alpha=1, beta=1):
    return Instance("Gemm", (a, b) if c is None else (a, b, c), {"transA": trans_a, "transB": trans_b, "alpha": alpha, "beta": beta}, "gemm")


def matmul(a, b):
    return Instance("MatMul", (a, b), {}, "matmul", defines=("B_CONSTANT",) if ":" in b else ())


def binary(op, a, b):
    return Instance(op, (a, b), {}, op.lower(), defines=("B_CONSTANT",) if ":" in b else ())


def pool(row, x, kernel, strides, pads):
    return Instance("MaxPool", (x,), {"kernel_shape": kernel, "strides": strides, "pads": pads, "dilations": [1] * len(kernel), "ceil_mode": 0}, "max_pool", row)


def moved(op, operands, kernel, **attributes):
    return Instance(op, operands, attributes, kernel)


def reduced(op, x, axes, kernel, keepdims=0):
    return Instance(op, (x,), {"axes": axes, "keepdims": keepdims}, kernel)


def division(num, den, delta, eta, eps=1):
    return Instance("IntegerDiv", (num, den), {"Delta": delta, "eta": eta, "eps": eps}, "integer_div",
                    defines=("B_CONSTANT",) if ":" in den else ())


def softmax(x, a=1, b=345, c=62395, log2=177, levels=256):
    return Instance("iSoftmax", (x,), {"coeffA": a, "coeffB": b, "coeffC": c, "log2": log2, "n_levels": levels}, "isoftmax")


def quant(x, scale, zero_point=0, bits=8, signed=1):
    return Instance("Quant", (x,), {"scale": scale, "zero_point": zero_point, "bit_width": bits, "signed": signed})


def dequant(x, scale, zero_point=0):
    return Instance("Dequant", (x,), {"scale": scale, "zero_point": zero_point, "bit_width": 32 if x.startswith("i32") else 8,
                                      "signed": int(not x.startswith("u"))})


def layer_norm(x, weight, bias, d):
    return Instance("iLayerNorm", (x, weight, bias), {"D": d, "n_levels": 256}, "ilayernorm")


def all_instances():
    return [
        wide_requant("i32[1,3,9]=-2000000000..2000000000", "[3,1]:1300,-77777,2147483647", "[3,1]:0,90000000000,-3000000000000000", levels=65536),
        wide_requant("i32[1,3,8]=-70000000..70000000", "[3,1]:40000000,-3000001,1", "[3,1]:7,-40000000000000,2000000000"),
        wide_requant("i32[1,2,7]=-1000000000..1000000000", "[2,1]:12345,300000000", "[2,1]:-5,600000000000", signed=0, levels=65536),
        requant("RequantShift, one for all, s8", "i32[1,3,17]=-70000..70000", "[1]:700", "[1]:-300"),
        requant("RequantShift, one for all, s8", "i32[7]=-2000..2000", "[]:-70", "[]:1000"),
        requant("RequantShift, one for all, s8", "i8[1,4,9]", "[1]:51", "[1]:-12", div=16),
        requant("RequantShift, one for all, s8", "i32[1,1,33]=-400000..400000", "[1]:12", "[1]:70000", div=16384),
        requant("RequantShift, one for all, s8", "i32[31]=-70000..70000", "[]:36000", "[]:5", div=1048576),
        requant("RequantShift, one for all, s8", "i32[31]=-500..500", "[]:1", "[]:-7", div=1),
        requant("RequantShift, one for all, s8", "i32[33]=-4000..4000", "[]:64", "[]:0", div=4096, levels=16),
        requant("RequantShift, one for all, s8", "i32[1,3,16]=-1600000..1600000", "[1]:700", "[1]:8", div=1 << 23),
        requant("RequantShift, one for all, u8", "i32[1,3,8]=-1600000..3200000", "[1]:700", "[1]:8", div=1 << 23, signed=0),
        requant("RequantShift, one for all, u8", "i32[1,3,9]=-3000..3000", "[1]:96", "[1]:-64", div=512, signed=0),
        requant("RequantShift, one for all, u8", "i32[1,5,8]=-70000..70000", "[]:650", "[]:100", signed=0),
        requant("RequantShift, one for all, u8", "i32[1,3,5]=-70000..70000", "[1]:36001", "[1]:-70000", div=1048576, signed=0),
        requant("RequantShift, one for all, u8", "u8[1,3,11]", "[1]:-37", "[1]:4000", div=16, signed=0, levels=16),
        requant("RequantShift, one a channel [C,1]", "i32[1,5,9]=-70000..70000", "[5,1]:700,-13,64,36001,255", "[5,1]:0,70000,-7,12,-300"),
        requant("RequantShift, one a channel [C,1]", "i32[1,3,9]=-70000..70000", "[3,1]:700,-13,9000", "[3,1]:0,900,-7", levels=16),
        requant("RequantShift, one a channel [C,1]", "i32[1,2,15]=-1600000..1600000", "[2,1]:700,-901", "[2,1]:8,-5", div=1 << 23),
        requant("RequantShift, one a channel [C,1]", "i32[1,3,4]=-70000..70000", "[3,1]:100,101,102", "[3,1]:5,5,-7", div=4096),
        requant("RequantShift, one a channel [C,1,1]", "i32[1,3,4,3]=-9000..9000", "[3,1,1]:900,-700,33000", "[3,1,1]:1,-70000,0"),
        requant("RequantShift, one a channel [C,1,1]", "i32[1,3,3,5]=-70000..70000", "[3,1,1]:71,-301,9000", "[3,1,1]:0,900,-7", div=4096, levels=16),
        requant("RequantShift, one a channel [C,1,1]", "i32[1,2,5,3]=-1600000..1600000", "[2,1,1]:700,-901", "[2,1,1]:8,-5", div=1 << 23),
        requant("RequantShift, one a channel [C,1,1]", "i32[1,7,1,5]=-9000..9000", "[7,1,1]:90,80,70,60,50,40,33000", "[7,1,1]:1,2,3,4,-70000,6,7", div=256, signed=0),
        requant("RequantShift, one a channel [1,C,1,1]", "i32[1,4,2,5]=-9000..9000", "[1,4,1,1]:901,333,-128,36000", "[1,4,1,1]:0,70000,-1,9", signed=0),
        requant("RequantShift, one a channel [1,C,1,1]", "i32[1,3,3,5]=-70000..70000", "[1,3,1,1]:96,-160,9000", "[1,3,1,1]:0,-64,-7", div=512, levels=16),
        requant("RequantShift, one a channel [1,C,1,1]", "i32[1,2,4,4]=-1600000..1600000", "[1,2,1,1]:700,-901", "[1,2,1,1]:8,-5", div=1 << 23),
        requant("RequantShift, one a column [C]", "i32[7,3]=-70000..70000", "[3]:96,-160,9000", "[3]:0,-64,-7", div=512, levels=16),
        requant("RequantShift, one a column [C]", "i32[17,2]=-1600000..1600000", "[2]:700,-901", "[2]:8,-5", div=1 << 23),
        requant("RequantShift, one a column [C]", "i32[3,5]=-9000..9000", "[5]:901,333,-128,36000,16", "[5]:0,70000,-1,9,1", div=1024),
        requant("RequantShift, one a row [M,1]", "i32[2,17]=-1600000..1600000", "[2,1]:700,-901", "[2,1]:8,-5", div=1 << 23),
        requant("RequantShift, one a row [M,1]", "i32[4,9]=-70000..70000", "[4,1]:71,-301,9000,33", "[4,1]:0,900,-7,1", div=4096),
        requant("RequantShift, one a row [M,1]", "i32[5,3]=-9000..9000", "[5,1]:901,333,-128,36000,16", "[5,1]:0,70000,-1,9,1", div=1024, levels=64),

        conv("Conv 1-D", "i8[1,3,9]", "i8[4,3,3]:random", [2], [1, 1], bias="i32[4]:-90000..90000"),
        conv("Conv 1-D", "i8[1,5,17]", "i8[3,5,4]:random", [1], [2, 1]),
        conv("Conv 1-D", "u8[1,4,8]", "i8[5,4,1]:random", [1], [0, 0]),
        conv("Conv 1-D", "i8[1,2,15]", "i8[2,2,3]:-128,127,0,-128,-128,5,1,-1,127,127,-127,-128", [3], [0, 2], dilations=[2]),
        conv("Conv 1-D depthwise", "i8[1,7,9]", "i8[7,1,5]:random", [2], [2, 2], group=7),
        conv("Conv 1-D depthwise", "i8[1,3,11]", "i8[3,1,3]:-128,127,-128,3,-1,-128,-127,-128,127", [1], [0, 1], group=3, dilations=[2]),
        conv("Conv 1-D depthwise", "u8[1,5,16]", "i8[5,1,3]:random", [1], [1, 0], group=5, bias="i32[5]:-90000..90000"),
        conv("Conv 2-D", "i8[1,3,5,7]", "i8[4,3,3,2]:random", [2, 1], [1, 0, 0, 1], bias="i32[4]:-90000..90000"),
        conv("Conv 2-D", "u8[1,2,4,9]", "i8[3,2,1,5]:random", [1, 3], [0, 2, 0, 2]),
        conv("Conv 2-D", "i8[1,2,7,5]", "i8[2,2,2,3]:random", [1, 2], [2, 1, 0, 2], dilations=[2, 1]),
        conv("Conv 2-D grouped", "i8[1,4,5,4]", "i8[6,2,3,2]:random", [1, 2], [1, 0, 1, 1], group=2, dilations=[1, 2], bias="i32[6]:-90000..90000"),
        conv("Conv 2-D grouped", "u8[1,5,7,3]", "i8[5,1,3,3]:-128..127", [2, 1], [2, 1, 0, 1], group=5),

        gemm("i8[1,33]", "i8[5,33]:random", "i32[5]:-90000..90000", trans_b=1),
        gemm("i8[3,17]", "i8[17,4]:random", "i32[3,1]:-90000..90000"),
        gemm("u8[7,3]", "i8[7,9]:random", "i32[3,9]:-90000..90000", trans_a=1),
        gemm("i8[5,4]", "i8[3,5]:random", "i32[3]:-90000..90000", trans_a=1, trans_b=1, alpha=3, beta=-2),
        gemm("i8[4,9]", "i8[9,15]:random", alpha=2),

        matmul("i8[1,3,9]", "i8[1,9,5]"),
        matmul("i8[2,3,5,4]", "i8[2,3,4,7]"),
        matmul("u8[3,3,8]", "i8[1,8,5]"),
        matmul("i8[1,5,17]", "u8[2,17,3]"),
        matmul("i8[7,33]", "i8[33,3]:random"),
        matmul("u8[2,5,3]", "i8[3,9]:random".replace("[3,9]", "[1,3,9]")),

        binary("Add", "i8[1,3,7]", "i8[1,3,7]"),
        binary("Add", "u8[1,4,9]", "i8[1,4,9]"),
        binary("Add", "i32[1,5,3]=-60000..70000", "i32[5,3]:-90000..90000"),
        binary("Add", "i8[1,4,5]", "u8[4,1]:random"),
        binary("Sub", "i8[1,3,7]", "i8[1,3,7]"),
        binary("Sub", "u8[1,4,9]", "u8[1,4,9]"),
        binary("Sub", "i32[1,5,3]=-60000..70000", "i32[5,3]:-90000..90000"),
        binary("Sub", "i8[1,4,5]", "u8[4,1]:random"),
        binary("Mul", "i8[1,3,7]", "i8[1,3,7]"),
        binary("Mul", "u8[1,4,9]", "i8[1,4,9]"),
        binary("Mul", "i8[1,4,33]", "i32[1]:65536"),
        binary("Mul", "i8[1,4,5]", "u8[4,1]:random"),

        pool("MaxPool 1-D", "i8[1,3,9]", [3], [2], [0, 0]),
        pool("MaxPool 1-D", "u8[1,4,8]", [2], [3], [0, 0]),
        pool("MaxPool 1-D", "i8[1,5,7]", [3], [1], [1, 2]),
        pool("MaxPool 2-D", "i8[1,3,7,5]", [3, 2], [2, 1], [0, 0, 0, 0]),
        pool("MaxPool 2-D", "u8[1,2,5,8]", [1, 3], [1, 2], [0, 0, 0, 0]),
        pool("MaxPool 2-D", "i8[1,5,5,4]", [2, 3], [1, 2], [1, 0, 0, 2]),

        moved("Pad", ("i8[1,3,7]",), "pad", mode="constant", pads=[0, 0, 2, 0, 0, 3], value=0),
        moved("Pad", ("i8[1,3,5,4]",), "pad", mode="constant", pads=[0, 0, 1, 2, 0, 0, 0, 3], value=-7),
        moved("Pad", ("i8[1,2,3,5]",), "pad", mode="constant", pads=[0, 0, 2, 0, 0, 0, 1, 1], value=0),
        moved("Slice", ("i8[1,5,17]", "i64[2]:1,3", "i64[2]:4,16", "i64[2]:1,2", "i64[2]:1,4"), "slice"),
        moved("Slice", ("u8[1,4,9,3]", "i64[1]:2", "i64[1]:9", "i64[1]:2", "i64[1]:2"), "slice"),
        moved("Slice", ("i8[1,7,8]", "i64[1]:0", "i64[1]:3", "i64[1]:1", "i64[1]:1"), "slice"),
        moved("Concat", ("i8[1,3,7]", "i8[1,5,7]"), "concat", axis=1),
        moved("Concat", ("i8[1,3,7]", "i8[1,3,4]"), "concat", axis=2),
        moved("Concat", ("u8[2,3,3]", "u8[2,4,3]"), "concat", axis=-2),
        moved("Gather", ("i8[1,5,9]", "i64[1]:3"), "gather", axis=1),
        moved("Gather", ("i8[3,4,5]", "i64[2]:-1,1"), "gather", axis=2),
        moved("Gather", ("u8[4,3,2]", "i64[3]:2,0,3"), "gather", axis=0),
        moved("Transpose", ("i8[1,3,17]",), "transpose", perm=[0, 2, 1]),
        moved("Transpose", ("i8[2,3,4,5]",), "transpose", perm=[0, 2, 3, 1]),
        moved("Transpose", ("u8[3,9,4]",), "transpose", perm=[1, 2, 0]),
        moved("Transpose", ("i8[17,33]",), "transpose", perm=[1, 0]),
        moved("Reshape", ("i8[1,3,7]", "i64[2]:1,21"), "reshape"),
        moved("Reshape", ("u8[1,9,33]", "i64[3]:1,33,9"), "reshape"),
        moved("Flatten", ("i8[1,5,9]",), "flatten", axis=1),
        moved("Squeeze", ("i8[1,5,1,3]",), "reshape", axes=[2]),
        moved("Unsqueeze", ("i8[1,5,3]",), "reshape", axes=[2]),

        reduced("ReduceMean", "i8[1,3,8]", [2], "reduce_mean"),
        reduced("ReduceMean", "i8[1,4,5,3]", [2, 3], "reduce_mean", keepdims=1),
        reduced("ReduceMean", "u8[1,4,16]", [1], "reduce_mean"),
        reduced("ReduceMean", "i32[1,3,32]=-70000..70000", [-1], "reduce_mean"),
        reduced("ReduceMean", "i8[1,7,6]", [2], "reduce_mean"),
        reduced("IntegerMean", "i8[1,3,16]", [2], "integer_mean"),
        reduced("IntegerMean", "u8[1,8,5]", [1], "integer_mean"),
        reduced("IntegerMean", "i8[1,2,4,32]", [2, 3], "integer_mean"),
        reduced("IntegerMean", "i8[1,5,4]", [2], "integer_mean"),
        reduced("IntegerMean", "i8[1,3,2]", [2], "integer_mean"),
        reduced("ReduceSum", "i8[1,3,17]", [2], "reduce_sum"),
        reduced("ReduceSum", "u8[1,4,5,3]", [1, 3], "reduce_sum", keepdims=1),
        reduced("ReduceSum", "i32[2,5,9]=-70000..70000", [1], "reduce_sum"),

        division("i32[1,3,7]=-60000..60000", "i32[1,3,1]=0..40000", 65536, 7),
        division("i32[1,2,5,3]=-5000..5000", "i32[1,2,5,1]=0..900", 6, 3),
        division("i32[1,5,9]=-2000000..2000000", "i32[1,5,1]=0..70000", 4096, 13),
        division("i32[1,4,5]=0..60000", "i32[1,4,5]=1..255", 256, 1, eps=0),
        Instance("TrueIntegerDiv", ("i8[1,3,7]",), {"Delta": 65536, "eta": 1, "eps": 0, "y": 24}, "true_integer_div"),
        Instance("TrueIntegerDiv", ("i32[1,5,9]=-9000..9000",), {"Delta": 1000, "eta": 7, "eps": 3, "y": -13}, "true_integer_div"),
        Instance("TrueIntegerDiv", ("u8[1,33]",), {"Delta": 4096, "eta": 3, "eps": 5, "y": 11}, "true_integer_div"),

        softmax("i8[1,3,9]"),
        softmax("i8[1,2,3,17]", a=3, b=22, c=252, log2=11),
        softmax("i8[5,33]", b=22, c=252, log2=11, levels=128),
        softmax("u8[1,4,7]", b=8, c=54, log2=6),
        softmax("i8[1,3,15]", log2=7),
        softmax("i8[1,4,1]", b=5, c=22, log2=4),
        Instance("ITAMax", ("i8[1,3,16]",), {"n_levels": 256}),
        Instance("ITAMax", ("u8[1,5,7]",), {"n_levels": 256}),
        Instance("ITAMax", ("i8[4,33]",), {"n_levels": 64}),
        Instance("ITAPartialMax", ("i8[1,3,16]",), {"n_levels": 256, "group_width": 4}, "ita_partial_max"),
        Instance("ITAPartialMax", ("i8[1,2,33]",), {"n_levels": 256, "group_width": 11}, "ita_partial_max"),
        Instance("ITAPartialMax", ("i8[5,8]",), {"n_levels": 64, "group_width": 8}, "ita_partial_max"),

        layer_norm("i8[1,3,8]", "i32[8]:-900..900", "i32[8]:-20000..20000", 256),
        layer_norm("i8[1,4,5]", "i32[5]:100000,-200000,3000,-500,90000", "i32[5]:7,-90000,100000,0,-1", 4096),
        layer_norm("i8[2,33]", "i32[33]:-9000..9000", "i32[33]:-9000..9000", 512),
        layer_norm("u8[1,3,17]", "i32[17]:-9000..9000", "i32[17]:-9000..9000", 128),
        Instance("iRMSNorm", ("i8[1,3,8]", "i32[8]:-9000..9000"), {"D": 64, "n_levels": 256}),
        Instance("iRMSNorm", ("i8[1,4,5]", "i32[5]:100000,-200000,3000,-500,900000"), {"D": 4096, "n_levels": 256}),
        Instance("iRMSNorm", ("i8[2,33]", "i32[33]:-90000..90000"), {"D": 512, "n_levels": 256}),
        Instance("iNoNorm", ("i8[1,3,7]", "i8[7]:-60..60", "i32[7]:-900..900"), {"D": 16384, "mul": 200, "n_levels": 256}),
        Instance("iNoNorm", ("i8[1,4,5]", "i8[5]:random", "i32[5]:-70000..70000"), {"D": 65536, "mul": -80, "n_levels": 256}),

        Instance("iNoNorm", ("i8[1,3,5]", "i8[5]:127,-128,64,-100,3", "i32[5]:0,100,-70,3,9"), {"D": 16384, "mul": 140, "n_levels": 256}),
        Instance("iGELU", ("i8[1,3,33]",), {"b": -49, "one": 2674}),
        Instance("iGELU", ("i8[1,17]",), {"b": -128, "one": 17001}),
        Instance("iGELU", ("i8[3,31]",), {"b": -60, "one": 1201}),
        Instance("iGELU", ("u8[1,5,9]",), {"b": -26, "one": 722}),
        Instance("iHardswish", ("i8[1,3,33]",), {"three": 96, "six": 192, "one_over_six": 33}),
        Instance("iHardswish", ("i8[1,17]",), {"three": 30, "six": 60, "one_over_six": 683}),
        Instance("iHardswish", ("i8[15]",), {"three": 150, "six": 300, "one_over_six": 65}),
        Instance("iHardswish", ("i8[1,5,9]",), {"three": 3, "six": 6, "one_over_six": 85}),

        quant("f32[1,3,17]", 10),
        quant("f32[1,5,33]", 7.3, 3),
        quant("f32[1,7,9]", 0.30000001192092896, -20),
        quant("f32[1,3,31]", 0.125, 0.5, bits=4),
        quant("f32[2,5,8]", 25.399999618530273, 128, signed=0),
        quant("f32[1,1,15]", 3.1415927410125732, 7, bits=5, signed=0),
        quant("f32[1,4,16]", -12.7, -1, bits=7),
        dequant("i8[1,3,17]", 0.1, -5),
        dequant("i8[1,5,33]", 0.0078125, 0),
        dequant("i8[1,7,9]", -0.30000001192092896, 100),
        dequant("u8[1,4,15]", 0.003921568859368563, 128),
        dequant("i32[1,3,31]=-2000000000..2000000000", 0.00011, 7),
        dequant("i32[1,5,8]=-70000..70000", 3.1, -0.5),
    ]
