"""The Python package: same bytes as the command line, data of every kind, errors, threads, interruption."""
import ast
import gc
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import types
import unittest
from pathlib import Path

import numpy as np
import support

import waveq


def batches(data, size=1):
    for i in range(0, len(data), size):
        yield {"input": data[i:i + size]}


class Small(support.Case):
    """A small network with data in self.dir."""

    def setUp(self):
        super().setUp()
        self.model = support.tiny_model(self.dir / "model.onnx")
        self.calib = support.tiny_data(self.dir / "calib.npz")
        self.samples = np.load(self.calib)["input"]

    def quantize(self, data=None, **options):
        return waveq.quantize(self.model, self.calib if data is None else data, **options)


class Quantize(Small):
    def test_the_folder_has_the_bytes_of_the_command_line(self):
        support.need_binary()
        test = support.tiny_data(self.dir / "test.npz", samples=9, seed=8)
        self.run_waveq("quantize", self.model, "--calib", self.calib, "--eval", test, "-o", self.dir / "cli")
        result = self.quantize(evaluation_data=test)
        result.save(self.dir / "python")
        self.assertEqual(support.digest(self.dir / "python"), support.digest(self.dir / "cli"))
        self.assertEqual(result.report, json.loads((self.dir / "cli/report.json").read_text()))
        self.assertEqual(result.accuracy["samples"], 9)
        self.assertTrue(result.proof["overflow_free"])
        self.assertEqual(waveq.verify(self.dir / "python")["mismatches"], [])

    def test_model_bytes_and_every_kind_of_samples_give_the_same_network(self):
        expected = self.quantize()
        try:
            import torch
            tensors = [{"input": torch.from_numpy(s)} for s in self.samples]
        except ImportError:
            tensors = [{"input": s} for s in self.samples]

        class Reader:  # as onnxruntime.quantization has it
            def __init__(self, samples):
                self.rest = iter(samples)

            def get_next(self):
                sample = next(self.rest, None)
                return None if sample is None else {"input": sample[None]}

        kinds = {
            "generator": batches(self.samples), "generator of batches": batches(self.samples, 5),
            "list of tensors": tensors, "arrays": {"input": self.samples}, "reader": Reader(self.samples),
            "with the batch axis": ({"input": s[None]} for s in self.samples),
            "bare arrays": (s for s in self.samples), "pairs": [(self.samples, np.zeros(16, int))],
            "other strides": [{"input": np.asfortranarray(self.samples.repeat(2, 2))[:, :, ::2]}],
            "float64": [{"input": self.samples.astype(np.float64)}],
        }
        for kind, data in kinds.items():
            with self.subTest(kind):
                result = waveq.quantize(self.model.read_bytes(), data)
                self.assertEqual(result.network.dump(), expected.network.dump())
                self.assertEqual(result.calibration.to_text(), expected.calibration.to_text())
                self.assertEqual(result.accuracy, expected.accuracy)

    def test_only_the_manifest_tells_samples_in_memory_from_a_file(self):
        self.quantize().save(self.dir / "file")
        self.quantize(batches(self.samples)).save(self.dir / "memory")
        a, b = support.digest(self.dir / "file"), support.digest(self.dir / "memory")
        self.assertEqual({k for k in a if a[k] != b[k]}, {"manifest.json"})
        entry = json.loads((self.dir / "memory/manifest.json").read_text())["inputs"]["calibration"]
        self.assertEqual(entry["samples"], 16)
        again = self.quantize(batches(self.samples, 4))
        again.save(self.dir / "memory")  # replaces what waveq wrote
        self.assertEqual(support.digest(self.dir / "memory"), b)

    def test_samples_are_not_copied_where_they_are_contiguous(self):
        from waveq._data import Wanted, _Samples
        rows = list(_Samples([{"input": self.samples}], [Wanted("input", "f32", (1, 1, 32))], False, "data"))
        self.assertEqual(len(rows), 16)
        for (row,), _ in rows:
            self.assertTrue(np.shares_memory(row, self.samples))

    def test_labels_give_top1(self):
        labels = np.load(self.calib)["labels"]
        pairs = [(self.samples, labels)]
        result = self.quantize(evaluation_data=iter(pairs))
        by_file = self.quantize(evaluation_data=self.calib)
        self.assertEqual(result.accuracy, by_file.accuracy)
        self.assertEqual(result.accuracy["metric"], "top1")

    def test_choices_come_from_recipe_and_keywords(self):
        recipe = waveq.Recipe()
        recipe.weight_levels = 64
        recipe.observer = "min_max"
        result = self.quantize(recipe=recipe, weight_levels=16)
        self.assertEqual((result.recipe.weight_levels, result.recipe.observer), (16, "min_max"))
        self.assertEqual(recipe.weight_levels, 64)
        codes = result.network.constants()["conv_out_weight"]
        self.assertEqual(np.abs(codes).max(), 7)
        with self.assertRaises(waveq.Error) as caught:
            self.quantize(weight_levels=1)
        self.assertEqual(caught.exception.code, "invalid_argument")

    def test_quantize_static_takes_the_names_of_onnx_runtime(self):
        result = waveq.quantize_static(self.model, self.dir / "out", batches(self.samples), weight_type="int4",
                                       per_channel=False, calibrate_method="min_max")
        self.assertEqual(result.recipe.weight_levels, 16)
        self.assertFalse(result.recipe.per_channel_weights)
        self.assertTrue((self.dir / "out/network.onnx").exists())

    def test_quantize_static_takes_the_values_of_onnx_runtime(self):
        kind = lambda name: types.SimpleNamespace(name=name)  # members of its enumerations
        result = waveq.quantize_static(self.model, self.dir / "qdq", batches(self.samples), kind("QDQ"), None, False, True,
                                       kind("QUInt8"), kind("QInt8"), calibrate_method=kind("MinMax"))
        recipe = result.recipe
        self.assertEqual((recipe.target, recipe.per_channel_weights, recipe.weight_levels, recipe.activation_levels,
                          recipe.observer), ("qdq", False, 128, 256, "min_max"))
        for where, options in (("nodes_to_exclude", {"nodes_to_exclude": ["/fc"]}),
                               ("extra_options", {"extra_options": {"ActivationSymmetric": True}}),
                               ("calibrate_method", {"calibrate_method": kind("Entropy")}),
                               ("quant_format", {"quant_format": kind("Other")})):
            with self.assertRaises(waveq.Error) as caught:
                waveq.quantize_static(self.model, self.dir / "refused", batches(self.samples), **options)
            self.assertEqual((caught.exception.code, caught.exception.where), ("invalid_argument", where))
            self.assertTrue(caught.exception.hint)
            self.assertFalse((self.dir / "refused").exists())

    def test_the_type_stubs_name_what_the_compiled_half_has(self):
        from waveq import _waveq
        public = lambda thing: {n for n in vars(thing) if not n.startswith("_")}
        tree = ast.parse(Path(_waveq.__file__).with_name("_waveq.pyi").read_text())
        functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
        classes = {n.name: n for n in tree.body if isinstance(n, ast.ClassDef)}
        self.assertEqual(public(_waveq), set(functions) | set(classes))
        for name, stub in classes.items():
            members = {n.name if isinstance(n, ast.FunctionDef) else n.target.id for n in stub.body
                       if isinstance(n, (ast.FunctionDef, ast.AnnAssign))}
            self.assertEqual(public(getattr(_waveq, name)), {m for m in members if not m.startswith("_")}, name)
        for name, stub in functions.items():
            signature = getattr(_waveq, name).__doc__.splitlines()[0]  # as pybind11 writes it
            taken = len(re.findall(r"[(,] ?(?:arg\d+|\w+): ", signature))
            self.assertEqual(taken, len(stub.args.args), signature)

    def test_a_table_replaces_calibration_and_pins_ranges(self):
        table = waveq.calibrate(self.model, batches(self.samples))
        self.assertEqual(table.samples, 16)
        self.assertEqual(self.quantize(calibration_table=table).network.dump(), self.quantize().network.dump())
        table.pin("relu_out", 0.0, 12.75)
        result = self.quantize(calibration_table=table)
        scales = [s for f, _, s in result.correspondences if f == "relu_out"]
        self.assertAlmostEqual(scales[-1], 0.05, delta=1e-3)
        table.save(self.dir / "table.json")
        by_file = self.quantize(calibration_table=self.dir / "table.json")
        self.assertEqual(by_file.network.dump(), result.network.dump())

    def test_progress_sees_every_sample_and_may_end_the_work(self):
        calls = []
        self.quantize(progress=lambda *a: calls.append(a), threads=2)
        self.assertEqual([c for c in calls if c[0] == "calibrate"], [("calibrate", i + 1, 16) for i in range(16)])
        self.assertIn(("evaluate", 16, 16), calls)

        def stop(stage, done, total):
            raise RuntimeError(f"{stage} {done}")

        with self.assertRaisesRegex(RuntimeError, "calibrate 1"):
            self.quantize(progress=stop, threads=1)

    def test_other_threads_run_meanwhile(self):
        ticks, stop = [], threading.Event()

        def tick():
            while not stop.is_set():
                ticks.append(time.monotonic())
                time.sleep(0.001)

        def slow():
            for batch in batches(self.samples):
                time.sleep(0.002)
                yield batch

        thread = threading.Thread(target=tick)
        thread.start()
        results = []
        workers = [threading.Thread(target=lambda: results.append(self.quantize(slow()))) for _ in range(3)]
        for w in workers:
            w.start()
        for w in workers:
            w.join()
        stop.set()
        thread.join()
        self.assertGreater(len(ticks), 3)  # few on a busy machine
        self.assertEqual(len({r.network.dump() for r in results}), 1)


class Networks(Small):
    def test_a_float_model_runs_on_single_samples_and_on_many(self):
        model = waveq.load(self.model)
        self.assertEqual((model.is_integer, model.inputs[0].name, model.inputs[0].shape), (False, "input", (1, 1, 32)))
        all_at_once = model.run(self.samples)["logits"]
        self.assertEqual(all_at_once.shape, (16, 3))
        one = model.run({"input": self.samples[3][None]})["logits"]
        np.testing.assert_array_equal(one, all_at_once[3:4])
        self.assertIn("relu_out", model.run(self.samples[:1], all_tensors=True))

    def test_the_integer_network_computes_its_golden_vectors(self):
        result = self.quantize()
        golden = result.golden
        got = result.network.run(golden["inputs"], all_tensors=True, wrap=False)
        for name, expected in {**golden["activations"], **golden["outputs"]}.items():
            np.testing.assert_array_equal(got[name], expected, strict=True)
        self.assertTrue(result.network.prove()["overflow_free"])
        real = result.run(self.samples)["logits"]
        scale = result.network.outputs[0].scale
        np.testing.assert_array_equal(real, scale * np.round(real / scale))
        self.assertLess(np.abs(real - waveq.load(self.model).run(self.samples)["logits"]).max(), 10 * scale)

    def test_a_written_network_loads_as_integer_and_lints(self):
        self.quantize().save(self.dir / "out")
        network = waveq.load(self.dir / "out/network.onnx")
        self.assertTrue(network.is_integer)
        self.assertEqual(waveq.inspect(network)["not_integer"], [])
        self.assertFalse([f for f in waveq.lint(self.dir / "out") if f["effect"] == "wrong"])
        self.assertTrue(waveq.prove(self.dir / "out/network.onnx")["overflow_free"])

    def test_vectors_are_those_of_the_command_line(self):
        support.need_binary()
        result = self.quantize()
        result.save(self.dir / "out")
        network = self.dir / "out/network.onnx"
        self.run_waveq("vectors", network, "-o", self.dir / "cli", "--seed", "3")
        done = waveq.vectors(network, self.dir / "python", seed=3)
        self.assertEqual(support.digest(self.dir / "python"), support.digest(self.dir / "cli"))
        self.assertGreater(done["cases"], done["nodes"])
        self.assertEqual(done["skipped"], [])
        conv = next(n.name for n in result.network.nodes if n.op == "Conv")
        one = waveq.vectors(result.network, self.dir / "one", node=conv, formats=["c"])
        self.assertEqual(one["nodes"], 1)
        self.assertFalse(list((self.dir / "one").rglob("case_*")))
        with self.assertRaises(waveq.Error) as caught:
            waveq.vectors(self.model, self.dir / "float")
        self.assertEqual(caught.exception.code, "not_integer")
        with self.assertRaises(waveq.Error):
            waveq.vectors(network, self.dir / "x", formats="deeploy")

    def test_sweep_ranks_tensors_and_hands_back_a_recipe(self):
        seen = []
        found = waveq.sweep(self.model, batches(self.samples), offenders=1, repeats=1, samples=8,
                            progress=lambda stage, done, total: seen.append(stage))
        self.assertEqual({t["tensor"] for t in found["tensors"]} - set(self.quantize().calibration.names()), set())
        costs = [t["alone"]["output_sqnr_db"] for t in found["tensors"]]
        self.assertEqual(costs, sorted(costs))
        self.assertEqual({r["tensor"] for r in found["remedies"]}, {found["tensors"][0]["tensor"]})
        self.assertEqual(found["samples"], 8)
        self.assertTrue(seen)
        best = waveq.quantize(self.model, self.calib, recipe=found["recipe"])
        self.assertTrue(best.proof["overflow_free"])

    def test_arrays_outlive_the_network_they_come_from(self):
        constants = waveq.load(self.model).constants()
        weights = constants["w"]
        copy = weights.copy()
        del constants
        gc.collect()
        np.testing.assert_array_equal(weights, copy)
        self.assertFalse(weights.flags.writeable)

    def test_compare_takes_files_and_dicts(self):
        a = {"q": np.arange(4, dtype=np.int8), "x": np.ones(3, np.float32)}
        rows = {r["tensor"]: r for r in waveq.compare(a, {**a, "q": np.array([0, 1, 2, 4], np.int8)})}
        self.assertEqual(rows["q"]["differing"], 1)
        self.assertEqual(rows["q"]["first"]["index"], (3,))
        self.assertEqual(rows["x"]["differing"], 0)
        np.savez(self.dir / "a.npz", **a)
        self.assertFalse([r for r in waveq.compare(self.dir / "a.npz", a) if r["differing"] or r["problem"]])


class Errors(Small):
    def failure(self, function, *arguments, **options):
        with self.assertRaises(waveq.Error) as caught:
            function(*arguments, **options)
        return caught.exception

    def test_fields_say_what_where_and_what_to_do(self):
        e = self.failure(waveq.load, self.dir / "absent.onnx")
        self.assertEqual(e.code, "io")
        self.assertIn("absent.onnx", e.where)
        self.assertTrue(e.what)
        self.assertIn(e.where, str(e))
        e = self.failure(waveq.load, b"not an onnx file")
        self.assertEqual((e.code, bool(e.hint), bool(e.context)), ("parse", True, True))
        import pickle
        self.assertEqual(pickle.loads(pickle.dumps(e)).what, e.what)

    def test_nodes_without_an_integer_form_are_named(self):
        nodes = [support.helper.make_node("Frobnicate", ["input"], ["y"], "the_odd_one", domain="org.test")]
        support.float_model(self.model, nodes, [("input", [1, 4])], [("y", [1, 4])])
        e = self.failure(self.quantize, [{"input": np.zeros((1, 4))}])
        self.assertEqual(e.code, "not_integer")
        self.assertIn("the_odd_one", e.what)

    def test_a_float_tensor_has_no_grid(self):
        e = self.failure(lambda: waveq.load(self.model).inputs[0].grid)
        self.assertEqual((e.code, e.where), ("invalid_argument", "tensor 'input'"))

    def test_unusable_samples_are_named(self):
        bad = self.samples.copy()
        bad[5, 0, 7] = np.nan
        cases = {
            "item 5": batches(bad), "'input' is missing": [{"x": self.samples}], "shape": [{"input": np.zeros((1, 1, 9))}],
            "no samples": iter(()), "is a str": ["text"], "complex": [{"input": np.zeros((1, 1, 32), complex)}],
        }
        for text, data in cases.items():
            with self.subTest(text):
                e = self.failure(self.quantize, data)
                self.assertEqual(e.code, "data")
                self.assertIn(text, str(e))
        self.assertEqual(self.failure(self.quantize, 3).code, "invalid_argument")
        labels = [{"input": self.samples, "labels": np.full(16, 7)}]
        self.assertIn("classes 0 to 2", str(self.failure(self.quantize, evaluation_data=labels)))

    def test_what_a_generator_raises_arrives(self):
        def broken():
            yield {"input": self.samples[0]}
            raise OSError("disk gone")

        with self.assertRaisesRegex(OSError, "disk gone"):
            self.quantize(broken())

    def test_nothing_of_the_users_is_replaced(self):
        (self.dir / "mine").mkdir()
        (self.dir / "mine/notes.txt").write_text("keep")
        self.assertEqual(self.failure(self.quantize().save, self.dir / "mine").code, "invalid_argument")
        self.assertEqual((self.dir / "mine/notes.txt").read_text(), "keep")


class Long(Small):
    def test_ctrl_c_ends_calibration(self):
        program = """
import os, signal, threading, waveq, sys, numpy as np
sample = np.ones((1, 1, 32), np.float32)
def endless():
    yield {"input": sample}
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    while True:
        yield {"input": sample}
try:
    waveq.quantize(sys.argv[1], endless(), threads=2)
except KeyboardInterrupt:
    print("interrupted")
"""
        done = subprocess.run([sys.executable, "-c", program, str(self.model)], capture_output=True, text=True, timeout=60,
                              check=False)
        self.assertEqual(done.stdout, "interrupted\n", done.stderr)

    def test_memory_does_not_grow_with_the_samples_of_a_generator(self):
        model = support.tiny_model(self.dir / "long.onnx", length=16384)
        program = """
import resource, sys, waveq, numpy as np
count = int(sys.argv[2])
rng = np.random.default_rng(1)
waveq.calibrate(sys.argv[1], ({"input": rng.normal(size=(1, 1, 16384)).astype(np.float32)} for _ in range(count)), threads=2)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
        peaks = [int(subprocess.run([sys.executable, "-c", program, str(model), str(count)], capture_output=True, text=True,
                                    check=True, timeout=120).stdout) for count in (20, 620)]
        # 600 more samples are 39 MB.
        self.assertLess(peaks[1] - peaks[0], 8_000, f"peak kB: {peaks}")


if __name__ == "__main__":
    support.main()
