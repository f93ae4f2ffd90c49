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
        done = subprocess.run([compiler, "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-DWRONG={wrong}",
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
