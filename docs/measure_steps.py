#!/usr/bin/env python3
"""Prints the README's table of what each measure adds: docs/measure_steps.py [FOLDER WITH MODELS] [WAVEQ]

From preset "quantlib" on, one measure after the other is switched on; the last row is the default recipe."""
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
models = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "../shared/models"
waveq = sys.argv[2] if len(sys.argv) > 2 else ROOT / "build/cli/waveq"
STEPS = [("preset quantlib", "", {}), ("own scale for every mean", "quantization", {"own_mean_scale": "true"}),
         ("no second rounding at sums", "requant", {"merge_requants": "true"}),
         ("a shift for each requant", "requant", {"max_shift": "24"}),
         ("effective scales", "requant", {"effective_scales": "true"}),
         ("weights stretched to exact multipliers", "requant", {"exact_multipliers": "true"}),
         ("ranges by squared error", "calibration", {"observer": '"mse"'}),
         ("equalized features", "quantization", {"equalize": "true"}),
         ("GELU's constants fitted to the data", "operators", {"fitted_gelu": "true"}),
         ("zero point behind GELU", "quantization", {"zero_points": "true"}),
         ("added pointwise convolutions as one", "quantization", {"join_sums": "true"}),
         ("biases that make up for rounded weights", "quantization", {"correct_biases": "true"})]
MODELS = {"FSDD": "waveformer_kws_fsdd", "espeak": "waveformer_kws_espeak"}


def measure(folder, recipe):
    with tempfile.TemporaryDirectory() as temporary:
        file = pathlib.Path(temporary) / "recipe.toml"
        file.write_text(recipe)
        return json.loads(subprocess.run(
            [waveq, "quantize", folder / "model.onnx", "--calib", folder / "calib.npz", "--eval", folder / "test.npz", "--recipe", file,
             "-o", pathlib.Path(temporary) / "out", "--json", "-q"], check=True, capture_output=True).stdout)


print("| step |" + "".join(f" {n} | agreement | top-1 |" for n in MODELS) + "\n|---|" + "---|---|---|" * len(MODELS))
sections = {}
for title, section, keys in STEPS:
    sections.setdefault(section, {}).update(keys)
    recipe = 'preset = "quantlib"\n' + "".join(f"[{s}]\n" + "".join(f"{k} = {v}\n" for k, v in ks.items())
                                              for s, ks in sections.items() if s)
    cells = ""
    for name in MODELS.values():
        report = measure(models / name, recipe)
        a = report["accuracy"]
        cells += f" {report['output_sqnr_db']:.1f} dB | {100 * a['agreement']:.1f} % | {100 * a['integer']:.1f} % |"
    print(f"| {'+ ' if section else ''}{title} |{cells}")
