#!/usr/bin/env python3
"""How model.onnx, calib.npz and test.npz came into this folder: a small, class-balanced part of a larger set.

    python3 make_data.py FOLDER [-o .]

FOLDER holds model.onnx, calib.npz (`input`) and test.npz (`input`, `labels`, `logits_reference`). All audio in it
lies on the 16-bit grid k/32767, so it is stored as int16 with its scale; that this loses nothing is checked.
The same folder gives the same bytes.
"""
import argparse
import pathlib
import shutil

import numpy as np

SCALE = np.float32(1 / 32767)
CALIB_SAMPLES = 64
TEST_PER_CLASS = 8


def int16_of(audio):
    """float32 samples on the grid -> int16; refuses where float32(int16) * SCALE is not the same bits."""
    integers = np.rint(audio.astype(np.float64) * 32767).astype(np.int16)
    if not np.array_equal(integers.astype(np.float32) * SCALE, audio):
        raise SystemExit("make_data.py: the audio is not on the grid k/32767")
    return integers


def spread(labels, per_class):
    """Positions of per_class samples of each class, evenly spread over those it has, in file order."""
    chosen = []
    for c in np.unique(labels):
        of_class = np.flatnonzero(labels == c)
        chosen.extend(of_class[np.arange(per_class) * len(of_class) // per_class])
    return np.sort(np.array(chosen))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("-o", "--out", type=pathlib.Path, default=pathlib.Path("."))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    shutil.copyfile(args.folder / "model.onnx", args.out / "model.onnx")
    calib = int16_of(np.load(args.folder / "calib.npz")["input"][:CALIB_SAMPLES])
    np.savez_compressed(args.out / "calib.npz", input_int16=calib, input_scale=SCALE)

    test = np.load(args.folder / "test.npz")
    keep = spread(test["labels"], TEST_PER_CLASS)
    labels, logits = test["labels"][keep], test["logits_reference"][keep]
    np.savez_compressed(args.out / "test.npz", input_int16=int16_of(test["input"][keep]), input_scale=SCALE,
                        labels=labels, logits_reference=logits)
    print(f"calib {calib.shape}, test {len(keep)} samples, "
          f"float top-1 {np.mean(logits.argmax(1) == labels):.4f}")


if __name__ == "__main__":
    main()
