#!/usr/bin/env python3
"""Prints the README's table of Waveformers: docs/measure.py [FOLDER WITH MODELS] [WAVEQ]

Each trained keyword Waveformer below the folder is quantized with default settings and evaluated on its test clips."""
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
models = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "../shared/models"
waveq = sys.argv[2] if len(sys.argv) > 2 else ROOT / "build/cli/waveq"
print("| model | test clips | top-1 float | top-1 integer | agreement | SQNR | median clip |\n|---|---|---|---|---|---|---|")
for folder in sorted(models.glob("waveformer_kws_*")):
    for model in sorted(folder.glob("*.onnx")):
        with tempfile.TemporaryDirectory() as out:
            report = json.loads(subprocess.run(
                [waveq, "quantize", model, "--calib", folder / "calib.npz", "--eval", folder / "test.npz",
                 "-o", pathlib.Path(out) / "folder", "--json", "-q"], check=True, capture_output=True).stdout)
        a = report["accuracy"]
        print(f"| {folder.name}/{model.name} | {a['samples']} | {100 * a['float']:.1f} % | {100 * a['integer']:.1f} % "
              f"| {100 * a['agreement']:.1f} % | {report['output_sqnr_db']:.1f} dB | {report['median_sqnr_db']:.1f} dB |")
