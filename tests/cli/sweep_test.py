#!/usr/bin/python3
"""`waveq sweep`: what each tensor's quantization costs, and which change of its range helps."""
import json
import math

import support
from support import need_binary, tiny_data, tiny_model

import numpy as np
import onnx


class Sweep(support.Case):
    def setUp(self):
        super().setUp()
        need_binary()
        self.model, self.calib = tiny_model(self.dir / "model.onnx"), tiny_data(self.dir / "calib.npz")
        self.eval = tiny_data(self.dir / "eval.npz", samples=24, seed=11)

    def sweep(self, *extra):
        return json.loads(self.run_waveq("sweep", self.model, "--calib", self.calib, "--eval", self.eval, "--json",
                                         "-q", *extra).out)

    def quantize(self, *extra, **options):
        return self.run_waveq("quantize", self.model, "--calib", self.calib, "-o", self.dir / "out", *extra, **options)

    def outputs(self, x):
        w = {i.name: onnx.numpy_helper.to_array(i).astype(np.float64) for i in onnx.load(str(self.model)).graph.initializer}
        padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1)))
        conv = sum(w["w"][None, :, 0, k, None] * padded[:, :, k:k + x.shape[2]] for k in range(3))
        return np.maximum(conv, 0).mean(axis=2) @ w["fc_w"].T + w["fc_b"]

    def test_the_cost_of_the_input_alone_is_that_of_rounding_it(self):
        result = self.sweep("--offenders", 0)
        x = np.load(self.eval)["input"]
        entry = {t["tensor"]: t for t in result["tensors"]}["input"]
        real, rounded = self.outputs(x), self.outputs(np.clip(np.floor(x / entry["scale"] + 0.5), -128, 127) * entry["scale"])
        expected = 10 * math.log10((real**2).sum() / ((real - rounded)**2).sum())
        self.assertAlmostEqual(entry["alone"]["output_sqnr_db"], expected, delta=0.05)
        self.assertEqual(result["samples"], 24)
        self.assertEqual(result["data"], "evaluation")

    def test_tensors_are_ranked_and_each_costs_no_more_than_all_together(self):
        result = self.sweep("--offenders", 0)
        costs = [t["alone"]["output_sqnr_db"] for t in result["tensors"]]
        self.assertLessEqual({"input", "logits"}, {t["tensor"] for t in result["tensors"]})
        self.assertEqual(costs, sorted(costs))
        self.assertGreater(costs[0], result["integer"]["output_sqnr_db"] - 3)

    def test_a_range_that_one_outlier_spoils_is_found_and_mended(self):
        # One sample of the calibration data is 40 times as loud: min_max then wastes five bits of the input.
        x = np.load(self.calib)["input"]
        x[3] *= 40
        np.savez(self.calib, input=x)
        recipe, mended = self.dir / "base.toml", self.dir / "mended.toml"
        recipe.write_text('[calibration]\nobserver = "min_max"\n')
        result = self.sweep("--recipe", recipe, "-o", mended)
        self.assertIn("input", [t["tensor"] for t in result["tensors"][:3]])
        self.assertTrue(result["recommended"])
        self.assertGreater(result["recommended_gain_db"], 1)
        for remedy in result["remedies"]:
            self.assertEqual(remedy["recommended"], not remedy["refused"] and remedy["gain_db"] >= 0.5 and min(remedy["gains_db"]) > 0)
        sqnr = []
        for file in (recipe, mended):
            out = self.quantize("--recipe", file, "--eval", self.eval, "--json").out
            sqnr.append(json.loads(out)["output_sqnr_db"])
        self.assertGreater(sqnr[1], sqnr[0] + 1)

    def test_nothing_is_recommended_where_nothing_exceeds_the_noise(self):
        written = self.dir / "same.toml"
        result = self.sweep("--offenders", 1, "--repeats", 2, "-o", written)
        if not result["recommended"]:
            self.quantize()
            self.assertEqual(written.read_text(), (self.dir / "out" / "recipe.toml").read_text())
        text = self.run_waveq("sweep", self.model, "--calib", self.calib, "--offenders", 1, "--repeats", 1).out
        for words in ("calibration data", "overfit", "is noise"):
            self.assertIn(words, text)

    def test_16_bits_are_tried_where_the_target_has_them(self):
        written, recipe = self.dir / "wide.toml", self.dir / "plain.toml"
        # With corrected biases a wider range is as good here.
        recipe.write_text("[quantization]\ncorrect_biases = false\n")
        result = self.sweep("--target", "waveq", "--recipe", recipe, "--repeats", 1, "-o", written)
        tried = {r["tensor"]: r for r in result["remedies"] if r["change"] == "16 bits"}
        # The convolution takes 16 bits by itself, and with it the input has them.
        self.assertNotIn("input", tried)
        self.assertTrue(tried["relu_out"]["recommended"])
        self.assertIn('"relu_out" = 16', written.read_text())
        self.quantize("--recipe", written, "--target", "waveq")
        (tensor,) = [v for v in onnx.load(str(self.dir / "out/network.onnx")).graph.value_info if v.name == "relu_out"]
        self.assertEqual(tensor.type.tensor_type.elem_type, onnx.TensorProto.UINT16)
        self.assertFalse(any(r["change"] == "16 bits" for r in self.sweep("--repeats", 1)["remedies"]))

    def test_threads_change_nothing(self):
        self.assertEqual(self.sweep("--threads", 1, "--offenders", 2), self.sweep("--threads", 3, "--offenders", 2))

    def test_range_rules_of_a_recipe(self):
        def scale(rules):
            recipe = self.dir / "r.toml"
            recipe.write_text(rules)
            self.quantize("--recipe", recipe)
            self.assertIn("[ranges]" if rules else "", (self.dir / "out" / "recipe.toml").read_text())
            return json.loads((self.dir / "out" / "quantization.json").read_text())["inputs"][0]["scale"]

        plain = scale("")
        self.assertAlmostEqual(scale('[ranges]\ninput = {scale = 2.0}\n') / plain, 2, places=9)
        # The full name counts before a pattern, and that before a shorter one.
        self.assertAlmostEqual(scale('[ranges]\n"*" = {scale = 4.0}\n"inp*" = {scale = 0.5}\n') / plain, 0.5, places=9)
        self.assertAlmostEqual(scale('[ranges]\n"inp*" = {scale = 4.0}\ninput = {scale = 0.5}\n') / plain, 0.5, places=9)
        peak = np.abs(np.load(self.calib)["input"])
        self.assertAlmostEqual(scale('[ranges]\ninput = {observer = "min_max"}\n'),
                               max(-np.load(self.calib)["input"].min() / 128, np.load(self.calib)["input"].max() / 127), places=6)
        self.assertGreater(peak.max(), 0)

    def test_range_rules_that_are_wrong(self):
        for rules, says in (('[ranges]\nnothing = {scale = 2.0}\n', "names no tensor"),
                            ('[ranges]\ninput = {scale = 1000.0}\n', "outside"),
                            ('[ranges]\ninput = {observer = "best"}\n', "best"),
                            ('[ranges]\ninput = {bits = 4}\n', "bits"),
                            ('[ranges]\ninput = 2.0\n', "table")):
            with self.subTest(rules=rules):
                (self.dir / "r.toml").write_text(rules)
                error = self.quantize("--recipe", self.dir / "r.toml", code=1).err
                self.assertIn(says, error)
                self.assertFalse((self.dir / "out").exists())


if __name__ == "__main__":
    support.main()
