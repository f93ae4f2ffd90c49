#!/usr/bin/python3
"""Every verb does what its help says: smoke and content checks on a small network."""
import json
import math
import unittest

import support
from support import EXAMPLE, SHARED, digest, float_model, need, need_binary, tiny_data, tiny_model

import numpy as np
import onnx
from onnx import helper

VERBS = ("quantize", "inspect", "rewrite", "calibrate", "run", "verify", "compare", "prove", "sweep", "lint", "vectors", "passes", "ops", "targets")


def reference(model, x):
    """The tiny model in float64: conv, ReLU, mean, Gemm."""
    w = {i.name: onnx.numpy_helper.to_array(i).astype(np.float64) for i in onnx.load(str(model)).graph.initializer}
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1)))
    conv = sum(w["w"][None, :, 0, k, None] * padded[:, :, k:k + x.shape[2]] for k in range(3))
    return np.maximum(conv, 0).mean(axis=2) @ w["fc_w"].T + w["fc_b"]


class VerbCase(support.Case):
    def setUp(self):
        super().setUp()
        need_binary()
        self.model, self.calib = tiny_model(self.dir / "model.onnx"), tiny_data(self.dir / "calib.npz")
        self.out = self.dir / "out"

    def quantize(self, *extra, **options):
        return self.run_waveq("quantize", self.model, "--calib", self.calib, "-o", self.out, *extra, **options)


class Help(VerbCase):
    def test_help_names_every_verb_and_the_exit_codes(self):
        text = self.run_waveq("--help").out
        for word in (*VERBS, "Exit codes", "Example"):
            self.assertIn(word, text)

    def test_help_of_each_verb_has_an_example_that_names_it(self):
        for verb in VERBS:
            with self.subTest(verb=verb):
                text = self.run_waveq(verb, "--help").out
                self.assertRegex(text, rf"Examples?:\n(.*\n)*?  waveq {verb}")

    def test_version(self):
        self.assertRegex(self.run_waveq("--version").out, r"^waveq \d+\.\d+\.\d+\n$")


class Tables(VerbCase):
    def test_passes_lists_pipeline_rules_and_observers(self):
        text = self.run_waveq("passes").out
        for word in ("fold_batch_norm", "Conv", "mse", "symmetric"):
            self.assertIn(word, text)
        table = json.loads(self.run_waveq("passes", "--json").out)
        self.assertTrue(table["pipeline"] and table["rewrites"] and table["lowering"])
        for rule in table["rewrites"]:
            self.assertIn(rule["effect"], ("exact", "reassociates", "approximates"), rule)
            self.assertTrue(rule["formula"], rule)

    def test_the_rules_named_in_help_texts_exist(self):
        rules = {r["name"] for r in json.loads(self.run_waveq("passes", "--json").out)["rewrites"]}
        named = [word for line in self.run_waveq("rewrite", "--help").out.splitlines() if "--passes fold" in line
                 for word in line.split("--passes ")[1].split()[0].split(",")]
        self.assertTrue(named)
        self.assertLessEqual(set(named), rules)

    def test_ops(self):
        table = {o["name"]: o for o in json.loads(self.run_waveq("ops", "--json").out)}
        self.assertEqual(table["RequantShift"]["kind"], "integer dialect")
        self.assertEqual(table["Transpose"]["kind"], "moves data")
        self.assertEqual(table["Conv"]["kind"], "standard")
        self.assertIn("IntegerDiv", self.run_waveq("ops").out)

    def test_targets(self):
        self.assertEqual(json.loads(self.run_waveq("targets", "--json").out)[0]["name"], "deeploy-generic")
        self.assertIn("RequantShift", self.run_waveq("targets", "--explain", "deeploy-generic").out)


class Inspect(VerbCase):
    def test_counts_of_the_tiny_model(self):
        facts = json.loads(self.run_waveq("inspect", self.model, "--json").out)
        self.assertEqual(facts["ops"], {"Conv": 1, "Gemm": 1, "ReduceMean": 1, "Relu": 1})
        self.assertEqual(facts["parameters"], 4 * 3 + 3 * 4 + 3)
        self.assertEqual(facts["macs"], 4 * 3 * 32 + 3 * 4)
        self.assertEqual(facts["not_integer"], [])
        self.assertEqual([i["name"] for i in facts["inputs"]], ["input"])
        text = self.run_waveq("inspect", self.model).out
        for word in ("input", "logits", "Conv", "Every node has an integer form"):
            self.assertIn(word, text)

    def test_says_which_nodes_would_stay_float_and_why(self):
        model = float_model(self.dir / "sin.onnx", [helper.make_node("Sin", ["input"], ["y"], "wave")],
                            [("input", [1, 4])], [("y", [1, 4])])
        facts = json.loads(self.run_waveq("inspect", model, "--json").out)
        self.assertEqual([(n["node"], n["op"]) for n in facts["not_integer"]], [("wave", "Sin")])
        self.assertTrue(facts["not_integer"][0]["reason"])

    def test_macs_of_a_waveformer(self):
        facts = json.loads(self.run_waveq("inspect", need(EXAMPLE / "model.onnx"), "--json").out)
        self.assertAlmostEqual(facts["macs"] / 1e6, 8.86, delta=0.01)
        self.assertEqual(facts["not_integer"], [])

    def test_input_shape_closes_an_open_dimension(self):
        model = float_model(self.dir / "open.onnx", [helper.make_node("Relu", ["input"], ["y"], "relu")],
                            [("input", [1, 1, "T"])], [("y", [1, 1, "T"])])
        self.assertIn("77", self.run_waveq("inspect", model, "--input-shape", "input=1,1,77").out)


class Rewrite(VerbCase):
    def batch_norm_model(self):
        values = {"scale": [2.0, 0.5], "shift": [1.0, -1.0], "mean": [0.25, 0.5], "var": [4.0, 1.0]}
        nodes = [helper.make_node("Conv", ["input", "w"], ["c"], "conv", kernel_shape=[1]),
                 helper.make_node("BatchNormalization", ["c", *values], ["y"], "norm", epsilon=0.0)]
        return float_model(self.dir / "norm.onnx", nodes, [("input", [1, 1, 4])], [("y", [1, 2, 4])],
                           [support.initializer("w", [[[3.0]], [[-1.0]]]), *[support.initializer(*v) for v in values.items()]])

    def test_folds_batch_normalization_and_says_so(self):
        text = self.run_waveq("rewrite", self.batch_norm_model(), "-o", self.dir / "folded.onnx", "--explain").out
        self.assertRegex(text, r"applied +fold_batch_norm +at '(norm|conv)'")
        self.assertEqual([n.op_type for n in onnx.load(str(self.dir / "folded.onnx")).graph.node], ["Conv"])
        x = np.float32([[[1, 2, 3, 4]]])
        np.savez(self.dir / "x.npz", input=x)
        self.run_waveq("run", self.dir / "folded.onnx", "--inputs", self.dir / "x.npz", "-o", self.dir / "y.npz")
        # y0 = 2*(3x - 0.25)/2 + 1, y1 = 0.5*(-x - 0.5)/1 - 1
        np.testing.assert_allclose(np.load(self.dir / "y.npz")["y"], [[3 * x[0, 0] + 0.75, -0.5 * x[0, 0] - 1.25]], rtol=1e-6)

    def test_a_file_is_written_in_the_operator_set_that_its_operators_need(self):
        """GELU becomes one node, which the model's own operator set does not have."""
        data = np.load(support.EXAMPLE / "calib.npz")
        x = data["input"] if "input" in data else data["input_int16"] * np.float32(data["input_scale"])
        np.savez(self.dir / "x.npz", input=np.float32(x[:2]))
        self.run_waveq("rewrite", support.EXAMPLE / "model.onnx", "-o", self.dir / "canonical.onnx")
        model = onnx.load(str(self.dir / "canonical.onnx"))
        self.assertIn("Gelu", {n.op_type for n in model.graph.node})
        self.assertEqual(model.opset_import[0].version, 20)
        results = []
        for name in (support.EXAMPLE / "model.onnx", self.dir / "canonical.onnx"):
            self.run_waveq("run", name, "--inputs", self.dir / "x.npz", "-o", self.dir / "y.npz")
            arrays = np.load(self.dir / "y.npz")
            results.append(arrays[arrays.files[0]])
        np.testing.assert_allclose(*results, rtol=0, atol=1e-4 * np.ptp(results[0]))

    def test_passes_restricts_the_rules(self):
        self.run_waveq("rewrite", self.batch_norm_model(), "-o", self.dir / "kept.onnx", "--passes", "eliminate_identity,fold_mul_chain")
        self.assertEqual([n.op_type for n in onnx.load(str(self.dir / "kept.onnx")).graph.node], ["Conv", "BatchNormalization"])


class Run(VerbCase):
    def test_float_outputs_and_all_tensors(self):
        x = np.load(self.calib)["input"]
        self.run_waveq("run", self.model, "--inputs", self.calib, "-o", self.dir / "y.npz")
        y = np.load(self.dir / "y.npz")
        self.assertEqual(y.files, ["logits"])
        np.testing.assert_allclose(y["logits"], reference(self.model, x), rtol=1e-5, atol=1e-6)
        self.run_waveq("run", self.model, "--inputs", self.calib, "-o", self.dir / "all.npz", "--all")
        every = np.load(self.dir / "all.npz")
        self.assertLessEqual({"conv_out", "relu_out", "mean_out", "logits"}, set(every.files))
        self.assertEqual(every["conv_out"].shape, (16, 4, 32))
        np.testing.assert_array_equal(every["logits"], y["logits"])

    def test_an_integer_network_reproduces_its_golden_vectors(self):
        self.quantize()
        self.run_waveq("run", self.out / "network.onnx", "--inputs", self.out / "inputs.npz", "-o", self.dir / "all.npz", "--all")
        got, golden = np.load(self.dir / "all.npz"), np.load(self.out / "outputs.npz")
        for name in golden.files:
            np.testing.assert_array_equal(got[name], golden[name])
        self.run_waveq("run", self.out / "network.onnx", "--inputs", self.out / "inputs.npz", "-o", self.dir / "y.npz")
        self.run_waveq("compare", self.out / "outputs.npz", self.dir / "y.npz")

    def test_foreign_waveformer_vectors(self):
        folder = need(SHARED / "vectors" / "ours" / "WaveFormer_tone")
        self.run_waveq("run", folder / "network.onnx", "--inputs", folder / "inputs.npz", "-o", self.dir / "y.npz")
        got, golden = np.load(self.dir / "y.npz"), np.load(folder / "outputs.npz")
        np.testing.assert_array_equal(got[got.files[0]].reshape(-1), golden[golden.files[0]].reshape(-1))


class VerifyAndCompare(VerbCase):
    def test_verify_as_json(self):
        self.quantize()
        report = json.loads(self.run_waveq("verify", self.out, "--json").out)
        self.assertEqual((report["outputs"], report["mismatches"], report["unmatched"]), (1, [], []))
        self.assertGreater(report["activations"], 3)

    def test_compare_integer_dumps(self):
        a = {"x": np.arange(6).reshape(2, 3), "y": np.zeros(2, np.int64)}
        b = {"x": np.array([[0, 1, 2], [3, 9, 5]]), "y": np.zeros(2, np.int8)}
        np.savez(self.dir / "a.npz", **a)
        np.savez(self.dir / "b.npz", **b)
        self.run_waveq("compare", self.dir / "a.npz", self.dir / "a.npz")
        rows = {r["tensor"]: r for r in json.loads(
            self.run_waveq("compare", self.dir / "a.npz", self.dir / "b.npz", "--json", code=5).out)}
        self.assertEqual(rows["x"]["differing"], 1)
        self.assertEqual({k: rows["x"]["first"][k] for k in ("index", "expected", "got")}, {"index": [1, 1], "expected": 4, "got": 9})
        self.assertEqual(rows["y"]["differing"], 0)
        self.assertRegex(self.run_waveq("compare", self.dir / "a.npz", self.dir / "b.npz", code=5).out, r"x .*\[1,\s*1\].*4.*9")

    def test_compare_float_dumps(self):
        x = np.float32([3, 4])
        np.savez(self.dir / "a.npz", x=x)
        np.savez(self.dir / "b.npz", x=x + np.float32([0.5, 0]))
        row = json.loads(self.run_waveq("compare", self.dir / "a.npz", self.dir / "b.npz", "--json", code=5).out)[0]
        self.assertAlmostEqual(row["sqnr_db"], 10 * math.log10(25 / 0.25), places=3)
        self.assertAlmostEqual(row["cosine"], (3 * 3.5 + 16) / (5 * math.hypot(3.5, 4)), places=5)

    def test_compare_names_arrays_of_one_side(self):
        np.savez(self.dir / "a.npz", x=np.arange(3), y=np.arange(3))
        np.savez(self.dir / "b.npz", x=np.arange(4), z=np.arange(3))
        rows = {r["tensor"]: r["problem"] for r in json.loads(
            self.run_waveq("compare", self.dir / "a.npz", self.dir / "b.npz", "--json", code=5).out)}
        self.assertEqual(sorted(rows), ["x", "y", "z"])
        self.assertTrue(all(rows.values()), rows)


class Prove(VerbCase):
    def test_an_exported_network_is_proven(self):
        self.quantize()
        proof = json.loads(self.run_waveq("prove", self.out / "network.onnx", "--json").out)
        self.assertTrue(proof["overflow_free"])
        self.assertEqual(proof["unproven"], [])
        self.assertGreaterEqual(proof["min_headroom_bits"], 0)

    def test_the_stored_waveformer_can_overflow(self):
        # deeploy-dialect.md 11.3: an input exists that makes an IntegerDiv's requant wrap.
        network = need(SHARED / "vectors" / "ours" / "WaveFormer_tone" / "network.onnx")
        proof = json.loads(self.run_waveq("prove", network, "--json", code=4).out)
        self.assertFalse(proof["overflow_free"])
        self.assertTrue(proof["unproven"])

    def test_a_wrapping_input_is_written_and_wraps(self):
        network = need(SHARED / "vectors" / "deeploy" / "Models" / "WaveFormer" / "network.onnx")
        witness, out = self.dir / "witness.npz", self.dir / "y.npz"
        proof = json.loads(self.run_waveq("prove", network, "--search", 120, "-o", witness, "--json", code=4).out)
        self.assertTrue(proof["wrapping"])
        self.assertLessEqual(set(proof["wrapping"]), set(proof["unproven"]))
        status = {n["name"]: n["status"] for n in proof["nodes"]}
        self.assertEqual({n for n, s in status.items() if s == "wraps"}, set(proof["wrapping"]))
        self.assertEqual({n for n, s in status.items() if s == "no witness"}, set(proof["unproven"]) - set(proof["wrapping"]))
        first = next(iter(np.load(witness).values()))
        self.assertTrue(-128 <= first.min() and first.max() <= 127)
        # The evaluator names a wrapping node; two's complement gives a result all the same.
        error = self.run_waveq("run", network, "--inputs", witness, "-o", out, "--overflow", "error", code=4).err
        self.assertTrue(any(f"'{name}'" in error for name in proof["wrapping"]), error)
        self.assertFalse(out.exists())
        self.run_waveq("run", network, "--inputs", witness, "-o", out)
        self.assertTrue(out.exists())

    def test_nothing_is_written_where_nothing_wraps(self):
        self.quantize()
        self.run_waveq("prove", self.out / "network.onnx", "-o", self.dir / "witness.npz")
        self.assertFalse((self.dir / "witness.npz").exists())


class Calibrate(VerbCase):
    def test_merged_shards_have_the_bytes_of_one_run(self):
        x = np.load(self.calib)["input"]
        parts = {"a": x[:5], "b": x[5:6], "c": x[6:]}
        for name, samples in parts.items():
            np.savez(self.dir / f"{name}.npz", input=samples)
            self.run_waveq("calibrate", self.model, "--calib", self.dir / f"{name}.npz", "-o", self.dir / f"{name}.json")
        self.run_waveq("calibrate", self.model, "--calib", self.calib, "-o", self.dir / "whole.json")
        whole = (self.dir / "whole.json").read_bytes()
        for order in ("abc", "cba", "bac"):
            self.run_waveq("calibrate", "merge", *[self.dir / f"{n}.json" for n in order], "-o", self.dir / "merged.json")
            self.assertEqual((self.dir / "merged.json").read_bytes(), whole, order)
        self.assertEqual(json.loads(whole)["samples"], 16)

    def test_every_observer_merges_exactly(self):
        x = np.load(self.calib)["input"]
        for name, samples in {"a": x[:9], "b": x[9:]}.items():
            np.savez(self.dir / f"{name}.npz", input=samples)
        for observer in ("mse", "min_max", "histogram", "percentile:99.9"):
            with self.subTest(observer=observer):
                for name, data in {"a": "a.npz", "b": "b.npz", "whole": "calib.npz"}.items():
                    self.run_waveq("calibrate", self.model, "--calib", self.dir / data, "-o", self.dir / f"{name}.json", "--observer", observer)
                self.run_waveq("calibrate", "merge", self.dir / "a.json", self.dir / "b.json", "-o", self.dir / "merged.json")
                self.assertEqual((self.dir / "merged.json").read_bytes(), (self.dir / "whole.json").read_bytes())

    def test_ranges_hold_the_data(self):
        self.run_waveq("calibrate", self.model, "--calib", self.calib, "-o", self.dir / "t.json", "--observer", "min_max")
        x, table = np.load(self.calib)["input"], json.loads((self.dir / "t.json").read_text())
        low, high = table["tensors"]["input"]["range"]
        self.assertEqual((np.float32(low), np.float32(high)), (x.min(), x.max()))

    def test_quantize_from_a_table_gives_the_folder_of_a_calibration_run(self):
        self.quantize()
        whole = digest(self.out)
        self.run_waveq("calibrate", self.model, "--calib", self.calib, "-o", self.dir / "table.json")
        self.quantize("--table", self.dir / "table.json")
        from_table = digest(self.out)
        for name in ("network.onnx", "inputs.npz", "outputs.npz", "activations.npz", "quantization.json"):
            self.assertEqual(from_table[name], whole[name], name)

    def test_a_pinned_range_decides(self):
        self.run_waveq("calibrate", self.model, "--calib", self.calib, "-o", self.dir / "table.json")
        table = json.loads((self.dir / "table.json").read_text())
        table["tensors"]["input"].update(range=[-8.0, 8.0], pinned=True)
        (self.dir / "table.json").write_text(json.dumps(table))
        self.quantize("--table", self.dir / "table.json")
        scale = json.loads((self.out / "quantization.json").read_text())["inputs"][0]["scale"]
        self.assertIn(round(8 / scale), (127, 128))


class Quantize(VerbCase):
    def test_prints_a_summary_or_json_or_nothing(self):
        text = self.quantize("--eval", self.calib).out
        for word in ("agreement", "SQNR", "top-1", "overflow"):
            self.assertIn(word, text)
        report = json.loads(self.quantize("--json").out)
        self.assertEqual(report, json.loads((self.out / "report.json").read_text()))
        quiet = self.quantize("-q")
        self.assertEqual((quiet.out, quiet.err), ("", ""))
        self.assertGreaterEqual(len(self.quantize("-v").err), len(self.quantize().err))

    def test_evaluation_without_labels_has_no_top1(self):
        tiny_data(self.dir / "eval.npz", labels=None, seed=8)
        report = json.loads(self.quantize("--eval", self.dir / "eval.npz", "--json").out)
        self.assertIsNone(report["accuracy"]["float"])
        self.assertIsNone(report["accuracy"]["integer"])
        self.assertEqual(report["accuracy"]["samples"], 16)

    def test_labels_give_top1(self):
        x = np.load(self.calib)["input"]
        best = reference(self.model, x).argmax(axis=1)
        labels = np.where(np.arange(16) < 4, (best + 1) % 3, best)
        tiny_data(self.dir / "eval.npz", labels=labels)
        self.assertEqual(json.loads(self.quantize("--eval", self.dir / "eval.npz", "--json").out)["accuracy"]["float"], 0.75)

    def test_the_written_recipe_reproduces_the_folder(self):
        self.quantize("--observer", "percentile:99.9", "--seed", "7")
        first = digest(self.out)
        recipe = self.dir / "kept.toml"
        recipe.write_bytes((self.out / "recipe.toml").read_bytes())
        self.assertIn("seed = 7", recipe.read_text())
        self.quantize("--recipe", recipe)
        self.assertEqual(digest(self.out), first)

    def test_flags_override_the_recipe(self):
        (self.dir / "recipe.toml").write_text("seed = 7\n[calibration]\nobserver = \"min_max\"\n")
        self.quantize("--recipe", self.dir / "recipe.toml", "--seed", "9")
        text = (self.out / "recipe.toml").read_text()
        self.assertIn("seed = 9", text)
        self.assertIn('observer = "min_max"', text)

    def test_gates_end_with_exit_code_5(self):
        for gate in (["--min-sqnr", "200"], ["--max-top1-drop", "1"]):
            with self.subTest(gate=gate):
                result = self.quantize(*gate, code=5)
                self.assertRegex(result.err, "waveq: gate missed")
        self.quantize("--min-sqnr", "1", "--min-agreement", "0.1")

    def test_open_dimensions_are_closed_by_input_shape(self):
        model = onnx.load(str(self.model))
        model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "T"
        onnx.save(model, str(self.model))
        self.quantize("--input-shape", "input=1,1,32")
        self.assertIn("input_shapes", (self.out / "recipe.toml").read_text())

    def test_scaled_int16_data_give_the_same_network(self):
        grid = np.random.default_rng(2).integers(-2**15, 2**15, (16, 1, 32)).astype(np.int16)
        np.savez(self.dir / "calib.npz", input_int16=grid, input_scale=np.float32(2.0**-13))
        self.quantize()
        packed = digest(self.out)["network.onnx"]
        np.savez(self.dir / "calib.npz", input=grid.astype(np.float32) * np.float32(2.0**-13))
        self.quantize()
        self.assertEqual(digest(self.out)["network.onnx"], packed)

    def test_nodes_of_the_report_lead_back_to_the_model(self):
        nodes = json.loads(self.quantize("--json").out)["nodes"]
        origins = {n["op"]: n["origin"] for n in nodes if n["op"] in ("Conv", "Gemm")}
        self.assertEqual(origins, {"Conv": "conv", "Gemm": "fc"})
        self.assertEqual([n["origin"] for n in nodes if n["op"] == "RequantShift"], ["relu", "mean", "fc"])

    def test_manifest_holds_the_sums_of_all_files(self):
        self.quantize()
        manifest, sums = json.loads((self.out / "manifest.json").read_text()), digest(self.out)
        self.assertEqual(manifest["outputs"], {k: v for k, v in sums.items() if k != "manifest.json"})
        self.assertEqual(manifest["inputs"]["model"]["sha256"], digest(self.dir)["model.onnx"])


if __name__ == "__main__":
    support.main()
