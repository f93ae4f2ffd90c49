"""The example's scripts: what train.py exports is a model with data that waveq takes; make_data.py made what is shipped."""
import json
import re
import subprocess
import sys

import numpy as np
import support

LENGTH = 1024


def script(name, *arguments):
    return subprocess.run([sys.executable, str(support.EXAMPLE / name), *map(str, arguments)],
                          capture_output=True, text=True, timeout=300, check=True).stdout


class Training(support.Case):
    def setUp(self):
        super().setUp()
        support.need_binary()
        if subprocess.run([sys.executable, "-c", "import torch"], capture_output=True, check=False).returncode:
            self.skipTest("PyTorch (Debian: python3-torch) is not installed")

    def train(self, folder, *arguments):
        """Returns top-1 on the test clips as PyTorch computes it, printed with four digits."""
        out = script("train.py", "--synthetic", "--length", LENGTH, "--clips", 90, "-o", self.dir / folder, *arguments)
        return float(re.search(r"test ([0-9.]+), \d+ parameters", out).group(1))

    def logits(self, folder, *arguments):
        out = self.dir / f"{folder}.npz"
        self.run_waveq("run", self.dir / folder / "model.onnx", "--inputs", self.dir / "plain/test.npz", "-o", out,
                       *arguments)
        return np.load(out)["logits"]

    def test_a_trained_model_becomes_an_integer_folder(self):
        top1 = self.train("plain", "--epochs", 1)
        model = self.dir / "plain"
        self.run_waveq("quantize", model / "model.onnx", "--calib", model / "calib.npz", "--eval", model / "test.npz",
                       "-o", self.dir / "integer")
        self.run_waveq("verify", self.dir / "integer")
        accuracy = json.loads((self.dir / "integer/report.json").read_text())["accuracy"]
        self.assertEqual(accuracy["samples"], 90)
        self.assertAlmostEqual(accuracy["float"], top1, delta=5e-5)

        # The other exports of the same weights compute the same.
        logits = self.logits("plain")
        weights = ("--epochs", 0, "--init", model / "weights.pt")
        self.train("bn", *weights, "--keep-bn")
        np.testing.assert_allclose(self.logits("bn"), logits, atol=1e-4)
        self.train("dynamic", *weights, "--dynamic-batch", "--opset", 17)
        np.testing.assert_allclose(self.logits("dynamic", "--input-shape", f"input=1,1,{LENGTH}"), logits, atol=1e-4)


class Data(support.Case):
    def test_the_shipped_files_are_what_make_data_takes_from_the_full_set(self):
        full = support.need(support.SHARED / "models/waveformer_kws_espeak")
        script("make_data.py", full, "-o", self.dir)
        self.assertEqual((self.dir / "model.onnx").read_bytes(), (support.EXAMPLE / "model.onnx").read_bytes())
        for name in ("calib.npz", "test.npz"):
            made, shipped = np.load(self.dir / name), np.load(support.EXAMPLE / name)
            self.assertEqual(made.files, shipped.files)
            for array in made.files:
                np.testing.assert_array_equal(made[array], shipped[array], strict=True)

    def test_the_shipped_test_clips_are_balanced(self):
        labels = np.load(support.EXAMPLE / "test.npz")["labels"]
        np.testing.assert_array_equal(np.bincount(labels), np.full(12, 8))


if __name__ == "__main__":
    support.main()
