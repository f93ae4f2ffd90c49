#!/usr/bin/env python3
"""SI-SDR improvement of a speech-enhancement network, float and integer:
tests/cli/enhancement.py MODEL FOLDER_OF_WAVEQ TEST.npz [WAVEQ]

The network maps features (log(|STFT| + 1e-3) + 2)/2 [63,129] of 8192 samples to a mask for each bin; TEST.npz holds noisy audio `input` [N,8192]
and clean audio `clean`, or either as NAME_int16 (SI-SDR does not depend on the scale of the clean audio). STFT: square-root Hann window of 256, hop 128. Enhanced audio is the inverse
STFT (overlap-add, divided by the summed squared window) of mask times noisy STFT; the figure is the mean SI-SDR of enhanced against clean audio minus
that of noisy against clean audio."""
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

WINDOW = 256
HOP = 128
TAPS = np.sqrt(np.hanning(WINDOW + 1)[:-1])


def stft(audio):
    starts = range(0, audio.shape[-1] - WINDOW + 1, HOP)
    return np.fft.rfft(np.stack([audio[..., i:i + WINDOW] * TAPS for i in starts], axis=-2), axis=-1)


def inverse_stft(spectrum, length):
    audio, weight = np.zeros(spectrum.shape[:-2] + (length,)), np.zeros(length)
    for i, frame in enumerate(np.moveaxis(np.fft.irfft(spectrum, WINDOW, axis=-1) * TAPS, -2, 0)):
        audio[..., i * HOP:i * HOP + WINDOW] += frame
        weight[i * HOP:i * HOP + WINDOW] += TAPS**2
    return audio / np.maximum(weight, 0.1)


def si_sdr(estimate, reference):
    target = (estimate * reference).sum(-1, keepdims=True) / ((reference**2).sum(-1, keepdims=True) + 1e-9) * reference
    return 10 * np.log10((target**2).sum(-1) / (((estimate - target)**2).sum(-1) + 1e-9) + 1e-9)


def audio(arrays, name):
    """An array as it is, or NAME_int16 times input_scale (NAME_scale)."""
    if name in arrays:
        return arrays[name].astype(np.float64)
    step = arrays[f"{name}_scale"] if f"{name}_scale" in arrays else arrays["input_scale"] if "input_scale" in arrays else 1 / 32768
    return arrays[f"{name}_int16"].astype(np.float64) * float(step)


def main():
    model, folder, test = sys.argv[1], pathlib.Path(sys.argv[2]), np.load(sys.argv[3])
    waveq = sys.argv[4] if len(sys.argv) > 4 else pathlib.Path(__file__).resolve().parents[1] / "build/cli/waveq"
    noisy, clean = (audio(test, name) for name in ("input", "clean"))
    spectrum = stft(noisy)
    features = ((np.log(np.abs(spectrum) + 1e-3) + 2) / 2).astype(np.float32)
    meaning = json.loads((folder / "quantization.json").read_text())
    source, sink = meaning["inputs"][0], meaning["outputs"][0]
    codes = np.clip(np.round(features / source["scale"]), source["lo"], source["hi"]).astype(np.int64)
    improvement = {}
    with tempfile.TemporaryDirectory() as tmp:
        for kind, network, samples, step in (("float", model, features, 1.0), ("integer", folder / "network.onnx", codes, sink["scale"])):
            np.savez(f"{tmp}/in.npz", **{source["name"]: samples})
            subprocess.run([waveq, "run", network, "--inputs", f"{tmp}/in.npz", "-o", f"{tmp}/out.npz"], check=True, capture_output=True)
            mask = np.load(f"{tmp}/out.npz")
            mask = mask[mask.files[0]].astype(np.float64).reshape(spectrum.shape) * step
            improvement[kind] = float(np.mean(si_sdr(inverse_stft(spectrum * mask, noisy.shape[-1]), clean) - si_sdr(noisy, clean)))
    print(json.dumps({"samples": len(noisy), "float_db": round(improvement["float"], 3), "integer_db": round(improvement["integer"], 3)}))


if __name__ == "__main__":
    main()
