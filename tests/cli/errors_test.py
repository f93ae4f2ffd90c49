#!/usr/bin/python3
"""Wrong input of every kind ends in the right exit code and one clear message, and leaves nothing behind."""
import os
import re
import stat
import unittest
from pathlib import Path

import support
from support import digest, float_model, need_binary, tiny_data, tiny_model, waveq

import numpy as np
from onnx import TensorProto, helper

CRASH = re.compile(r"terminate called|Segmentation|core dumped|AddressSanitizer|runtime error:|std::|Traceback|bad_alloc|"
                   r"0x[0-9a-f]{8}|please report this")


def listing(folder):
    """Everything below a folder: files with their content, folders as such."""
    folders = {str(p.relative_to(folder)): "folder" for p in Path(folder).rglob("*") if p.is_dir()}
    return {**folders, **digest(folder)}


class ErrorCase(support.Case):
    def setUp(self):
        super().setUp()
        need_binary()
        self.model, self.calib = tiny_model(self.dir / "model.onnx"), tiny_data(self.dir / "calib.npz")
        self.out = self.dir / "out"

    def refuse(self, code, *arguments, says=()):
        """Runs waveq, which must end in `code`, say each pattern of `says` in one message, and change no file."""
        before = listing(self.dir)
        result = waveq(*arguments, cwd=self.dir)
        self.assertEqual(result.code, code, str(result))
        messages = [line for line in result.err.splitlines() if line.startswith("waveq: ")]
        self.assertEqual(len(messages), 1, str(result))
        self.assertGreater(len(messages[0]), 20, str(result))
        self.assertNotRegex(result.err + result.out, CRASH, str(result))
        for pattern in [says] if isinstance(says, str) else says:
            self.assertRegex(result.err, pattern, str(result))
        self.assertEqual(listing(self.dir), before, f"{result}\nchanged the files around it")
        return result

    def quantize(self, code, *extra, model=None, calib=None, says=()):
        return self.refuse(code, "quantize", model or self.model, "--calib", calib or self.calib, "-o", self.out, *extra,
                           says=says)


class Models(ErrorCase):
    def verbs(self, model):
        """The command line of every verb that reads a model."""
        return [["quantize", model, "--calib", self.calib, "-o", self.out],
                ["inspect", model],
                ["rewrite", model, "-o", self.dir / "rewritten.onnx"],
                ["calibrate", model, "--calib", self.calib, "-o", self.dir / "table.json"],
                ["run", model, "--inputs", self.calib, "-o", self.dir / "result.npz"],
                ["prove", model]]

    def test_files_that_are_no_models(self):
        whole = self.model.read_bytes()
        noise = bytes(np.random.default_rng(1).integers(0, 256, 4096, dtype=np.uint8))
        contents = {"noise.onnx": noise, "empty.onnx": b"", "half.onnx": whole[:len(whole) // 2],
                    "short.onnx": whole[:-1], "ten.onnx": whole[:10], "text.onnx": b"this is not a model\n",
                    "data.onnx": self.calib.read_bytes()}
        for name, content in contents.items():
            (self.dir / name).write_bytes(content)
        (self.dir / "folder.onnx").mkdir()
        for name in [*contents, "missing.onnx", "folder.onnx"]:
            for arguments in self.verbs(self.dir / name):
                with self.subTest(file=name, verb=arguments[0]):
                    self.refuse(1, *arguments, says=re.escape(name))

    def test_damaged_bytes_never_crash(self):
        whole, random = bytearray(self.model.read_bytes()), np.random.default_rng(7)
        for trial in range(40):
            damaged = bytearray(whole)
            for at in random.integers(0, len(whole), 3):
                damaged[at] = random.integers(0, 256)
            (self.dir / "damaged.onnx").write_bytes(damaged)
            result = waveq("inspect", self.dir / "damaged.onnx", cwd=self.dir)
            with self.subTest(trial=trial):
                self.assertIn(result.code, (0, 1), str(result))
                self.assertNotRegex(result.err + result.out, CRASH, str(result))

    def node_model(self, *nodes, length=32):
        return float_model(self.dir / "odd.onnx", nodes, [("input", [1, 1, length])], [("y", [1, 1, length])])

    def test_all_unknown_operators_are_listed(self):
        model = self.node_model(helper.make_node("Frobnicate", ["input"], ["a"], "first_odd", domain="my.ops"),
                                helper.make_node("Relu", ["a"], ["b"], "plain"),
                                helper.make_node("Defenestrate", ["b"], ["y"], "second_odd"))
        self.quantize(3, model=model, says=["first_odd", "Frobnicate", "second_odd", "Defenestrate"])

    def test_float_operators_without_an_integer_form_are_listed(self):
        model = self.node_model(helper.make_node("Sin", ["input"], ["a"], "wave_1"),
                                helper.make_node("Cos", ["a"], ["y"], "wave_2"))
        self.quantize(3, model=model, says=["wave_1", "wave_2"])

    def test_a_shape_error_names_the_node(self):
        model = float_model(self.dir / "odd.onnx", [helper.make_node("MatMul", ["input", "w"], ["y"], "product")],
                            [("input", [1, 1, 32])], [("y", [1, 1, 5])], [support.initializer("w", np.ones((31, 5)))])
        self.quantize(1, model=model, says="product")

    def test_an_input_that_no_node_computes(self):
        model = self.node_model(helper.make_node("Relu", ["nowhere"], ["y"], "lost"))
        self.quantize(1, model=model, says="nowhere")

    def test_a_cycle(self):
        model = self.node_model(helper.make_node("Add", ["input", "b"], ["a"], "one"),
                                helper.make_node("Relu", ["a"], ["b"], "two"),
                                helper.make_node("Relu", ["b"], ["y"], "three"))
        self.quantize(1, model=model)

    def test_an_open_dimension_asks_for_input_shape(self):
        model = float_model(self.dir / "open.onnx", [helper.make_node("Relu", ["input"], ["y"], "relu")],
                            [("input", [1, 1, "T"])], [("y", [1, 1, "T"])])
        self.quantize(1, model=model, says=["input", "--input-shape"])


class Data(ErrorCase):
    def test_calibration_data_that_do_not_fit(self):
        good = np.zeros((4, 1, 32), np.float32)
        nan, infinite = good.copy(), good.copy()
        nan[2, 0, 5], infinite[3, 0, 1] = np.nan, np.inf
        cases = {
            "wrong name": ({"input": None, "audio": good}, ["audio", "input"]),
            "wrong length": ({"input": good[:, :, :31]}, ["input", "32", "31"]),
            "wrong rank": ({"input": good[:, 0, 0]}, ["input"]),
            "text": ({"input": np.array([["a", "b"]] * 4)}, ["input"]),
            "objects": ({"input": np.array([None, 1], object)}, ["input"]),
            "complex": ({"input": good.astype(np.complex64)}, ["input"]),
            "NaN": ({"input": nan}, ["input", "(?i)nan", "2"]),
            "infinity": ({"input": infinite}, ["input", "(?i)inf", "3"]),
            "no samples": ({"input": good[:0]}, ["input|samples"]),
        }
        for title, (arrays, says) in cases.items():
            with self.subTest(title):
                tiny_data(self.dir / "bad.npz", **arrays)
                self.quantize(1, calib=self.dir / "bad.npz", says=[r"bad\.npz", *says])

    def test_files_that_are_no_npz(self):
        whole = self.calib.read_bytes()
        middle = bytearray(whole)
        middle[200:400] = bytes(200)
        for name, content in {"half.npz": whole[:len(whole) // 2], "short.npz": whole[:-30], "empty.npz": b"",
                              "text.npz": b"PK is how it starts", "model.npz": self.model.read_bytes()}.items():
            (self.dir / name).write_bytes(content)
            for flag in ("--calib", "--eval"):
                with self.subTest(file=name, flag=flag):
                    calib = self.dir / name if flag == "--calib" else self.calib
                    extra = ["--eval", self.dir / name] if flag == "--eval" else []
                    self.quantize(1, *extra, calib=calib, says=re.escape(name))
        self.quantize(1, calib=self.dir / "missing.npz", says=r"missing\.npz")
        self.quantize(1, calib=self.dir, says=re.escape(str(self.dir)))

    def test_damaged_bytes_of_an_npz_are_found(self):
        np.savez_compressed(self.dir / "packed.npz", input=np.random.default_rng(0).normal(size=(16, 1, 32)).astype("f4"))
        whole = bytearray((self.dir / "packed.npz").read_bytes())
        for at in (200, 600, 1200):
            damaged = bytearray(whole)
            damaged[at] ^= 0xFF
            (self.dir / "damaged.npz").write_bytes(damaged)
            with self.subTest(at=at):
                self.quantize(1, calib=self.dir / "damaged.npz", says=r"damaged\.npz")

    def test_an_array_header_that_claims_too_much(self):
        path = self.dir / "huge.npz"
        tiny_data(path)
        path.write_bytes(path.read_bytes().replace(b"(16, 1, 32)", b"(10**9, 2)"))
        self.quantize(1, calib=path, says=r"huge\.npz")
        tiny_data(path)
        path.write_bytes(path.read_bytes().replace(b"(16, 1, 32), }", b"(99999999, 1, 32), }"[:14]))
        self.quantize(1, calib=path, says=r"huge\.npz")

    def test_labels_out_of_range(self):
        tiny_data(self.dir / "eval.npz", labels=np.full(16, 3))
        self.quantize(1, "--eval", self.dir / "eval.npz", says=[r"eval\.npz", "labels", "3"])

    def test_as_many_labels_as_samples(self):
        tiny_data(self.dir / "eval.npz", labels=np.zeros(15, np.int64))
        self.quantize(1, "--eval", self.dir / "eval.npz", says=[r"eval\.npz", "labels"])

    def test_a_calibration_table_of_another_model(self):
        other = tiny_model(self.dir / "other.onnx", channels=6)
        self.run_waveq("calibrate", other, "--calib", self.calib, "-o", self.dir / "table.json")
        self.quantize(1, "--table", self.dir / "table.json", says="table")

    def test_a_damaged_calibration_table(self):
        (self.dir / "table.json").write_text('{"model": "tiny", "tensors": {"input": {"range": [1')
        self.quantize(1, "--table", self.dir / "table.json", says=r"table\.json")

    def test_a_folder_without_golden_vectors_cannot_be_verified(self):
        (self.dir / "nothing").mkdir()
        self.refuse(1, "verify", self.dir / "nothing", says="nothing")
        self.refuse(1, "verify", self.dir / "missing", says="missing")


class Places(ErrorCase):
    def test_places_that_cannot_be_written(self):
        (self.dir / "file").write_text("mine")
        for place in (self.dir / "file" / "below", "/proc/nonexistent", self.dir / "file"):
            for arguments in (["quantize", self.model, "--calib", self.calib, "-o", place],
                              ["calibrate", self.model, "--calib", self.calib, "-o", Path(place) / "table.json"],
                              ["rewrite", self.model, "-o", Path(place) / "model.onnx"],
                              ["run", self.model, "--inputs", self.calib, "-o", Path(place) / "y.npz"]):
                with self.subTest(place=str(place), verb=arguments[0]):
                    self.refuse(1, *arguments, says=re.escape(str(place)))

    def test_a_folder_of_the_user_is_left_alone(self):
        self.out.mkdir()
        (self.out / "thesis.txt").write_text("years of work")
        self.quantize(1, says=[re.escape(str(self.out)), "not written by waveq|waveq wrote"])
        (self.out / "thesis.txt").unlink()
        self.run_waveq("quantize", self.model, "--calib", self.calib, "-o", self.out)

    def test_a_folder_of_the_user_with_a_file_called_manifest(self):
        self.out.mkdir()
        (self.out / "manifest.json").write_text('{"name": "my web app"}')
        (self.out / "index.js").write_text("years of work")
        self.quantize(1, says=re.escape(str(self.out)))

    def test_an_earlier_result_survives_a_failure(self):
        self.run_waveq("quantize", self.model, "--calib", self.calib, "-o", self.out)
        self.quantize(1, model=self.dir / "missing.onnx", says=r"missing\.onnx")

    def test_the_model_is_not_written(self):
        for path in (self.model, self.calib):
            path.chmod(stat.S_IRUSR)
        before = digest(self.dir)
        self.run_waveq("quantize", self.model, "--calib", self.calib, "-o", self.out)
        self.assertEqual({k: v for k, v in digest(self.dir).items() if not k.startswith("out/")}, before)

    def test_a_result_does_not_replace_its_own_model(self):
        self.refuse(1, "rewrite", self.model, "-o", self.model, says=re.escape(str(self.model)))

    def test_what_is_no_regular_file_is_not_replaced(self):
        for verb, arguments in (("rewrite", ["rewrite", self.model]), ("run", ["run", self.model, "--inputs", self.calib]),
                                ("calibrate", ["calibrate", self.model, "--calib", self.calib]),
                                ("quantize", ["quantize", self.model, "--calib", self.calib])):
            with self.subTest(verb=verb):
                pipe = self.dir / f"pipe_{verb}"
                os.mkfifo(pipe)
                result = waveq(*arguments, "-o", pipe)
                self.assertTrue(stat.S_ISFIFO(pipe.stat().st_mode), f"{result}\na pipe (or /dev/null) was replaced by a file")
                self.assertEqual(result.code, 1, str(result))


class Usage(ErrorCase):
    def test_16_bits_on_a_target_without_them_are_one_sentence(self):
        result = self.quantize(3, "--recipe", "accurate", "--target", "deeploy-generic", says=["deeploy-generic", "16", "waveq"])
        self.assertEqual(len(result.err.splitlines()), 1, result.err)

    def test_command_lines_that_make_no_sense(self):
        base = ["quantize", self.model, "--calib", self.calib, "-o", self.out]
        cases = {
            "no arguments": ([], "waveq"),
            "unknown verb": (["quantise", self.model], "quantise"),
            "unknown flag": ([*base, "--turbo"], "--turbo"),
            "misspelt flag": (["quantize", self.model, "--calibration", self.calib, "-o", self.out], "'--calibration'"),
            "flag without value": ([*base, "--recipe"], "--recipe"),
            "unknown metric": ([*base, "--metric", "guess"], ["guess", "cer"]),
            "no model": (["quantize", "--calib", self.calib, "-o", self.out], "MODEL"),
            "no data": (["quantize", self.model, "-o", self.out], "--calib"),
            "no output": (["quantize", self.model, "--calib", self.calib], "-o|--output"),
            "unknown target": ([*base, "--target", "z80"], ["z80", "deeploy-generic"]),
            "unknown observer": ([*base, "--observer", "guess"], ["guess", "mse"]),
            "unknown rule": ([*base, "--passes", "fold_everything"], "fold_everything"),
            "zero threads": ([*base, "--threads", "0"], "--threads"),
            "threads in words": ([*base, "--threads", "two"], "--threads"),
            "negative seed": ([*base, "--seed", "-1"], "--seed"),
            "shape without name": ([*base, "--input-shape", "1,1,32"], "--input-shape"),
            "shape of zeros": ([*base, "--input-shape", "input=1,0,32"], "--input-shape"),
            "shape in words": ([*base, "--input-shape", "input=1,x"], "--input-shape"),
            "shape cut off": ([*base, "--input-shape", "input=1,"], "--input-shape"),
            "shape too large": ([*base, "--input-shape", "input=1,1,99999999999999999999"], "--input-shape"),
            "agreement beyond 1": ([*base, "--min-agreement", "1.5"], "min.agreement"),
            "rewrite without -o": (["rewrite", self.model], ["-o", "waveq rewrite --help"]),
            "lint without a file": (["lint"], ["FILE", "waveq lint --help"]),
            "merge of one": (["calibrate", "merge", "a.json", "-o", "b.json"], "merge|TABLES"),
            "calibrate without data": (["calibrate", self.model, "-o", "t.json"], "--calib"),
        }
        for title, (arguments, says) in cases.items():
            with self.subTest(title):
                self.refuse(2, *arguments, says=says)

    def test_shapes_that_do_not_fit_the_model(self):
        self.quantize(1, "--input-shape", "audio=1,1,32", says=["audio", "input"])
        self.quantize(1, "--input-shape", "input=1,1,64", says="input")
        self.quantize(1, "--input-shape", "input=1,32", says="input")

    def test_bad_recipes(self):
        cases = {
            "unknown key": ("targett = \"deeploy-generic\"\n", ["targett", "target"]),
            "unknown section": ("[quantisation]\nactivation_levels = 256\n", "quantisation"),
            "text for a number": ("[quantization]\nactivation_levels = \"256\"\n", "activation_levels"),
            "fraction for an integer": ("[quantization]\nactivation_levels = 255.5\n", "activation_levels"),
            "out of range": ("[quantization]\nactivation_levels = 1\n", "activation_levels"),
            "negative seed": ("seed = -1\n", "seed"),
            "bad TOML": ("target = \"deeploy-generic\nseed = 1\n", "TOML"),
            "no TOML at all": ("\x00\xff\xfe", r"recipe\.toml"),
            "unknown target": ("target = \"z80\"\n", ["z80", "deeploy-generic"]),
            "unknown rule": ("passes = [\"fold_everything\"]\n", "fold_everything"),
            "unknown quantizer": ("[quantization]\nquantizer = \"magic\"\n", "magic"),
        }
        for title, (text, says) in cases.items():
            with self.subTest(title):
                (self.dir / "recipe.toml").write_text(text, encoding="latin-1")
                self.quantize(1, "--recipe", self.dir / "recipe.toml", says=says)
        self.quantize(1, "--recipe", self.dir / "missing.toml", says=r"missing\.toml")

    def test_a_bad_recipe_names_file_and_line(self):
        (self.dir / "recipe.toml").write_text("seed = 1\n\nnonsense = 2\n")
        self.quantize(1, "--recipe", self.dir / "recipe.toml", says=r"recipe\.toml:3")


if __name__ == "__main__":
    support.main()
