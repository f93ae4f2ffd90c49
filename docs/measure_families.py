#!/usr/bin/env python3
"""Prints the README's tables of network families: docs/measure_families.py [FOLDER WITH MODELS] [WAVEQ] [accurate]

Each trained network below is quantized by one command with default settings, or with `--recipe accurate`, which has a target of its own, and evaluated on
its test data. A row of FAMILIES whose files are absent is left out."""
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]

ACCURATE = "with the recipe"  # in the second table alone

# family, model, folder of the data, evaluation data, target, what stands for what has no integer operator of its own
FAMILIES = [
    (family, model, folder, evaluation, target, approximated)
    for family, model, folder, evaluations, target, approximated in (
        ("Waveformer, FSDD", "waveformer_kws_fsdd/model.onnx", "waveformer_kws_fsdd", ("test.npz",), ACCURATE, "GELU: table"),
        ("Waveformer, espeak", "waveformer_kws_espeak/model.onnx", "waveformer_kws_espeak", ("test.npz",), ACCURATE, "GELU: table"),
        ("Transformer", "transformer_fsdd/model.onnx", "transformer_fsdd", ("test.npz", "test_noisy.npz"), "deeploy-generic", "softmax: iSoftmax; LayerNorm; GELU"),
        ("ASR-Waveformer", "waveformer_asr_fsdd/model.onnx", "waveformer_asr_fsdd", ("test.npz",), "deeploy-generic", "GELU"),
        ("DS-CNN", "dscnn_fsdd/model.onnx", "dscnn_fsdd", ("test.npz", "test_noisy.npz"), "deeploy-generic", "–"),
        ("TinySpeech X", "tinyspeech_fsdd/model_x_bn_opset17.onnx", "tinyspeech_fsdd", ("test.npz", "test_noisy.npz"), "waveq", "sigmoid: table"),
        ("TinySpeech Z", "tinyspeech_fsdd/model_z.onnx", "tinyspeech_fsdd", ("test.npz", "test_noisy.npz"), "waveq", "sigmoid: table"),
        ("Waveformer, elu(x)+1", "waveformer_elu1_fsdd/model.onnx", "waveformer_kws_fsdd", ("test.npz",), "waveq", "elu, GELU: tables"),
        ("Waveformer, FAVOR+", "waveformer_favor_fsdd/model.onnx", "waveformer_kws_fsdd", ("test.npz",), "waveq", "exp, GELU: tables"),
        ("GRU enhancement", "enhance_rnn_fsdd/model_gru.onnx", "enhance_rnn_fsdd", ("test.npz",), "waveq", "gates: 512 segments; mask: table"),
    ) for evaluation in evaluations
]
# Judged by something else than top-1: --metric, its name in the table, and what a figure is written as.
METRICS = {
    "waveformer_asr_fsdd/model.onnx": ("wer", ", word error rate", lambda v: f"{100 * v:.1f} %"),
    "enhance_rnn_fsdd/model_gru.onnx": ("si-sdr", ", SI-SDR improvement", lambda v: f"{v:.2f} dB"),
}
TOP1 = ("top1", "", lambda v: f"{100 * v:.1f} %")


def quantize(waveq, models, model, data, evaluation, choice, out):
    return json.loads(subprocess.run(
        [waveq, "quantize", models / model, "--calib", models / data / "calib.npz", "--eval", models / data / evaluation,
         "--metric", METRICS.get(model, TOP1)[0], *choice, "-o", out, "--json", "-q"],
        check=True, capture_output=True).stdout)


def main():
    models = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "../shared/models"
    waveq = sys.argv[2] if len(sys.argv) > 2 else ROOT / "build/cli/waveq"
    recipe = sys.argv[3] if len(sys.argv) > 3 else None
    print("| family | model, data | target | float | integer | output SQNR | approximated |\n|---|---|---|---|---|---|---|" if not recipe
          else "| family | model, data | float | integer | output SQNR |\n|---|---|---|---|---|")
    for family, model, data, evaluation, target, approximated in FAMILIES:
        if not (models / model).exists() or (target == ACCURATE and not recipe):
            continue
        with tempfile.TemporaryDirectory() as tmp:
            out = pathlib.Path(tmp) / "folder"
            report = quantize(waveq, models, model, data, evaluation, ("--recipe", recipe) if recipe else ("--target", target), out)
        _, judged, text = METRICS.get(model, TOP1)
        accuracy = report["accuracy"]
        cells = [family, f"{model}, {evaluation}{judged}"] + ([] if recipe else [target])
        cells += [text(accuracy["float"]), text(accuracy["integer"]), f"{report['output_sqnr_db']:.1f} dB"] + ([] if recipe else [approximated])
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
