"""`waveq vectors`: the C header compiles as C99 and tells a right kernel from a wrong one; the folder holds what it says."""
import json
import shutil
import subprocess
import unittest

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import support

COMPILERS = [c for c in ("gcc", "clang") if shutil.which(c)]
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
RISCV = "riscv64-unknown-elf-gcc"

# Operators whose operands and attributes between them reach every kind of line that a header has.
HEADERS = {
    "requant": ["RequantShift", "--operand", "i32[1,3,5]=-60000..60000", "--operand", "i32[3,1]:5,-3,900", "--operand", "i32[3,1]:-2147483648,0,7",
                "--attr", "div=1024", "--attr", "n_levels=256", "--attr", "signed=0"],
    "conv": ["Conv", "--operand", "u8[1,2,4,5]", "--operand", "i8[3,2,2,3]:random", "--attr", "strides=[1,2]", "--attr", "pads=[1,0,0,1]"],
    "gemm": ["Gemm", "--operand", "i8[2,3]", "--operand", "i8[3,2]:random", "--operand", "i32[2]:-9,9", "--attr", "alpha=2"],
    "pad": ["Pad", "--operand", "i8[1,1,3]", "--attr", "pads=[0,0,1,0,0,1]", "--attr", "mode=constant", "--attr", "value=-1"],
    "slice": ["Slice", "--operand", "i8[1,9]", "--operand", "i64[1]:1", "--operand", "i64[1]:9223372036854775807", "--operand", "i64[1]:1", "--operand", "i64[1]:2"],
    "div": ["IntegerDiv", "--operand", "i32[1,2,5]=-500..500", "--operand", "i32[1,2,1]=0..90", "--attr", "Delta=6", "--attr", "eps=1", "--attr", "eta=3"],
    "quant": ["Quant", "--operand", "f32[1,3,5]", "--attr", "scale=0.3", "--attr", "zero_point=-7", "--attr", "bit_width=8", "--attr", "signed=1"],
    "dequant": ["Dequant", "--operand", "i32[1,3,5]=-70000..70000", "--attr", "scale=0.3", "--attr", "zero_point=-7", "--attr", "bit_width=32",
                "--attr", "signed=1"],
    "scalar": ["RequantShift", "--operand", "i16[]", "--operand", "i32[]:3", "--operand", "i32[]:0", "--attr", "div=1", "--attr", "n_levels=65536", "--attr", "signed=1"],
}

KERNEL = r"""
#include "{header}"

static int32_t shifted(int32_t v) {{
  /* Arithmetic shift without relying on what the compiler does with negative values. */
  return v >= 0 ? v / {macro}_DIV : -((-(int64_t)v + {macro}_DIV - 1) / {macro}_DIV);
}}

int main(void) {{
  size_t differing = 0;
  int k;
  for (k = 0; k < {macro}_CASES; ++k) {{
    int8_t y[{macro}_OUT0_SIZE];
    size_t i;
    for (i = 0; i < {macro}_OUT0_SIZE; ++i) {{
      const size_t c = i / ({macro}_OUT0_SIZE / {macro}_IN_MUL_SIZE);
      const int32_t v = {prefix}_in_x[k][i] * {prefix}_in_mul[c] + {prefix}_in_add[c] + {macro}_DIV / 2 - WRONG;
      const int32_t q = shifted(v);
      y[i] = (int8_t)(q < -128 ? -128 : q > 127 ? 127 : q);
    }}
    differing += {macro}_CHECK(k, y);
  }}
  return differing != 0;
}}
"""


def requant_network(path):
    """Conv and a requant per channel, spelled as Deeploy's tests spell them."""
    weights = np.array([[[1, -2, 3], [0, 5, -6]], [[7, 7, 7], [-7, -7, -7]]], np.float32)
    scalar = lambda v: numpy_helper.from_array(np.array(v, np.float32))
    nodes = [helper.make_node("Conv", ["x", "w"], ["acc"], "/net/conv", kernel_shape=[3], pads=[1, 1], strides=[1]),
             helper.make_node("RequantShift", ["acc", "mul", "add"], ["y"], "/net/rq", domain="PACTOps",
                              div=scalar(64), n_levels_out=scalar(256), signed=scalar(1))]
    constants = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.array([[5], [-3]], np.float32), "mul"),
                 numpy_helper.from_array(np.array([[10], [-6]], np.float32), "add")]
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 8])
    graph = helper.make_graph(nodes, "net", [value("x")], [value("y")], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 10), helper.make_opsetid("PACTOps", 1)])
    onnx.save(model, str(path))
    return path


def float_bordered_network(path):
    """float32 -> Div-Add-Round-Clip -> MatMul -> Sub-Mul -> float32."""
    constants = [numpy_helper.from_array(np.array(v, np.float32), name)
                 for name, v in (("step", 0.25), ("zero", -3), ("lo", -128), ("hi", 127), ("w", [[1, -2, 3], [40, 5, 6]]), ("scale", 0.125))]
    nodes = [helper.make_node(op, inputs, [output], output) for op, inputs, output in (
        ("Div", ["x", "step"], "scaled"), ("Add", ["scaled", "zero"], "moved"), ("Round", ["moved"], "rounded"), ("Clip", ["rounded", "lo", "hi"], "codes"),
        ("MatMul", ["codes", "w"], "acc"), ("Sub", ["acc", "zero"], "centred"), ("Mul", ["centred", "scale"], "y"))]
    value = lambda name, *shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "net", [value("x", 1, 4, 2)], [value("y", 1, 4, 3)], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), str(path))
    return path


class Vectors(support.Case):
    def setUp(self):
        super().setUp()
        self.model = requant_network(self.dir / "network.onnx")
        self.out = self.dir / "vectors"

    def build(self, compiler, node, wrong):
        header = self.out / node / "vectors.h"
        prefix = "waveq_" + node
        source, program = self.dir / "kernel.c", self.dir / "kernel"
        source.write_text(KERNEL.format(header=header, prefix=prefix, macro=prefix.upper()))
        done = subprocess.run([compiler, *STRICT, f"-DWRONG={wrong}",
                               str(source), "-o", str(program)], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return subprocess.run([str(program)], capture_output=True, text=True, check=False)

    @unittest.skipUnless(COMPILERS, "no C compiler")
    def test_a_right_kernel_passes_and_one_off_by_a_tie_is_told(self):
        self.run_waveq("vectors", self.model, "-o", self.out)
        for compiler in COMPILERS:
            with self.subTest(compiler=compiler):
                right = self.build(compiler, "_net_rq", 0)
                self.assertEqual((right.returncode, right.stdout), (0, ""))
                wrong = self.build(compiler, "_net_rq", 1)
                self.assertEqual(wrong.returncode, 1)
                self.assertRegex(wrong.stdout, r"^case \d+: tensor 'y' at \[0,\d,\d\]: expected -?\d+, got -?\d+ ")

    def headers(self):
        """A C file for each of HEADERS that includes it and uses its compare macro."""
        for name, words in HEADERS.items():
            self.run_waveq("vectors", "--op", *words, "--node", name, "--format", "c", "-o", self.dir / name)
            header, macro = self.dir / name / name / "vectors.h", f"WAVEQ_{name.upper()}"
            source = self.dir / f"{name}.c"
            source.write_text(f'#include "{header}"\nsize_t check(int k, const waveq_{name}_out0_t *y);\n'
                              f"size_t check(int k, const waveq_{name}_out0_t *y) {{ return {macro}_CHECK(k, y); }}\n")
            yield header, source

    def compile(self, *command):
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""), " ".join(map(str, command)))

    @unittest.skipUnless(COMPILERS, "no C compiler")
    def test_headers_compile_without_a_warning_also_on_their_own(self):
        for header, source in self.headers():
            for compiler in COMPILERS:
                with self.subTest(header=header, compiler=compiler):
                    self.compile(compiler, *STRICT, "-c", source, "-o", self.dir / "out.o")
                    self.compile(compiler, *STRICT, "-fsyntax-only", "-x", "c", header)

    @unittest.skipUnless(shutil.which(RISCV), f"no {RISCV}")
    def test_headers_compile_for_32_bit_risc_v_without_a_c_library(self):
        for header, source in self.headers():
            for hosted in ([], ["-ffreestanding"]):
                with self.subTest(header=header, hosted=hosted):
                    self.compile(RISCV, "-march=rv32imc", "-mabi=ilp32", *STRICT, *hosted, "-c", source, "-o", self.dir / "out.o")

    def test_an_operator_with_given_parameters_needs_no_network(self):
        self.run_waveq("vectors", "--op", *HEADERS["requant"], "-o", self.out)
        listed = json.loads((self.out / "RequantShift" / "cases.json").read_text())
        self.assertEqual((listed["inputs"][0]["lo"], listed["inputs"][0]["hi"]), (-60000, 60000))
        self.run_waveq("verify", self.out / "RequantShift" / listed["cases"][0]["case"])
        for words, found in ((["Nope"], "no operator"), (["Add", "--operand", "i8"], "no [DIMS]"), (["Add", "--operand", "f16[1]"], "'f16'"), (["Add", "--operand", "f32[1]", "--operand", "f32[1]"], "f32"),
                             (["Add", "--operand", "i8[2]:1,2,3"], "3 values for 2 elements"), (["Add", "--operand", "i8[2]:300"], "300 is no i8"),
                             (["Add", "--operand", "i8[2]", "--operand", "i8[3]"], "do not broadcast"), (["Add", "--operand", "i8[2]"], "")):
            result = self.run_waveq("vectors", "--op", *words, "-o", self.dir / "none", code=1)
            self.assertIn(found, result.err)
            self.assertFalse((self.dir / "none").exists())
        self.run_waveq("vectors", "-o", self.dir / "none", code=2)

    def test_each_case_verifies_and_conditions_are_listed(self):
        self.run_waveq("vectors", self.model, "-o", self.out, "--random", "2")
        listed = json.loads((self.out / "_net_conv" / "cases.json").read_text())
        conditions = {name for case in listed["cases"] for name in case["conditions"]}
        for name in ("all_min", "all_max", "all_zero", "ramp", "random_0", "random_1", "accumulator_highest:channel_0"):
            self.assertIn(name, conditions)
        for case in listed["cases"]:
            self.run_waveq("verify", self.out / "_net_conv" / case["case"])
        manifest = json.loads((self.out / "manifest.json").read_text())
        self.assertEqual([n["folder"] for n in manifest["nodes"]], ["_net_conv", "_net_rq"])

    def test_float_borders_of_a_network_have_kernels_too(self):
        float_bordered_network(self.dir / "network.onnx")
        x = np.array([[[0.1, -0.2], [7, 100], [-31, 0], [-100, 1]]], np.float32)  # no ties
        codes = np.clip(np.rint(x / np.float32(0.25) - 3), -128, 127)
        np.savez(self.dir / "inputs.npz", x=x)
        np.savez(self.dir / "outputs.npz", y=(codes @ np.array([[1, -2, 3], [40, 5, 6]]) + 3) * np.float32(0.125))
        for target in ("deeploy-generic", "onnx"):
            self.run_waveq("verify", self.dir, "--target", target)
        self.run_waveq("vectors", self.dir / "network.onnx", "-o", self.out, "--random", "1")
        manifest = json.loads((self.out / "manifest.json").read_text())
        self.assertEqual([n["operator"] for n in manifest["nodes"]], ["Quant", "MatMul", "Dequant"])
        for node in manifest["nodes"]:
            listed = json.loads((self.out / node["folder"] / "cases.json").read_text())
            for case in listed["cases"][::7]:
                self.run_waveq("verify", self.out / node["folder"] / case["case"])
        quant = json.loads((self.out / "codes" / "cases.json").read_text())
        self.assertEqual(quant["target"]["findings"], [])
        self.assertIn("x=float32_t", quant["target"]["generator_arguments"])
        case = np.load(self.out / "codes" / "case_000" / "inputs.npz")
        self.assertEqual(case["x"].dtype, np.float32)

    def test_formats_nodes_and_seeds_can_be_chosen(self):
        self.run_waveq("vectors", self.model, "-o", self.out, "--format", "c", "--node", "/net/rq")
        self.assertEqual(sorted(p.name for p in self.out.iterdir()), ["_net_rq", "manifest.json"])
        self.assertEqual(sorted(p.name for p in (self.out / "_net_rq").iterdir()), ["cases.json", "vectors.h"])
        first = (self.out / "_net_rq" / "vectors.h").read_bytes()
        self.run_waveq("vectors", self.model, "-o", self.out, "--format", "c", "--node", "/net/rq")
        self.assertEqual((self.out / "_net_rq" / "vectors.h").read_bytes(), first)
        self.run_waveq("vectors", self.model, "-o", self.out, "--format", "c", "--node", "/net/rq", "--seed", "7")
        self.assertNotEqual((self.out / "_net_rq" / "vectors.h").read_bytes(), first)

    def test_an_unknown_node_names_the_known_ones(self):
        result = self.run_waveq("vectors", self.model, "-o", self.out, "--node", "nope", code=1)
        self.assertIn("/net/conv, /net/rq", result.err)
        self.assertFalse(self.out.exists())


if __name__ == "__main__":
    support.main()
