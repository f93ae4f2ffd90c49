#!/usr/bin/env python3
"""Train a Waveformer keyword spotter on raw audio and hand it over to waveq.

    python3 train.py --data clips.npz -o trained            # your recordings
    python3 train.py --synthetic -o toy --epochs 2          # generated tone words, to see it work
    python3 train.py --data clips.npz -o fine --init trained/weights.pt --lr 5e-4
    python3 train.py --data clips.npz -o bn --init trained/weights.pt --epochs 0 --keep-bn

clips.npz: `train_audio` [N, T] and `test_audio` [M, T], int16 or float in [-1, 1], T a multiple of 512 (the shipped
model: 8192 at 8 kHz); `train_labels` [N] and `test_labels` [M], integers from 0.
Writes model.onnx, calib.npz, test.npz and weights.pt into the output folder; then
    waveq quantize trained/model.onnx --calib trained/calib.npz --eval trained/test.npz -o out
Needs Debian's python3-torch (1.13) or newer, and NumPy.
"""
import argparse
import math
import pathlib
import time
import warnings

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

SAMPLE_RATE = 8000
SCALE = np.float32(1 / 32767)  # audio is stored as int16; the network sees int16 * SCALE
# One row a layer: output channels, width of the attention over all heads.
PLAN = ((4, 8), (8, 8), (8, 16), (16, 16), (16, 32), (32, 32), (32, 64), (64, 64), (64, 64))
HEADS = 2
DENOMINATOR_FLOOR = 1e-3
HEAD_WIDTH = 64


# ------------------------------------------------------------------------------------------ network


class Gelu(nn.Module):
    """x * Phi(x), spelled out. torch.nn.functional.gelu is no choice here: in Debian 12's torch 1.13 its oneDNN
    backward reads uninitialised memory where the incoming gradient is dense but permuted, as it is behind the
    transposes of the attention."""

    def forward(self, x):
        return 0.5 * (x * (1.0 + torch.erf(x / math.sqrt(2.0))))


def convolution(channels_in, channels_out, kernel=1, stride=1, padding=0, groups=1):
    """Convolution over time and BatchNormalization, which carries the bias."""
    return nn.Sequential(
        nn.Conv1d(channels_in, channels_out, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm1d(channels_out))


class LinearAttention(nn.Module):
    """ReLU linear attention: queries [B,C,T], context [B,C,N] -> [B,D,T], in O(T + N).

    Per head Q = ReLU(Wq queries), V = Wv context, K = ReLU(V):
    Q (K^T V / N) / (Q mean(K) + floor), a weighted mean of V's rows with weights Q K^T.
    """

    def __init__(self, channels, width):
        super().__init__()
        self.head_shape = (HEADS, width // HEADS)
        self.query = convolution(channels, width)
        self.value = convolution(channels, width)

    def heads(self, x):
        """[B,D,T] -> [B,heads,D/heads,T]; -1 for the batch keeps shape arithmetic out of the exported graph"""
        return x.reshape(-1, *self.head_shape, int(x.shape[2]))

    def forward(self, queries, context):
        q = self.heads(torch.relu(self.query(queries))).transpose(2, 3)  # [B,heads,T,d]
        v = self.heads(self.value(context))                              # [B,heads,d,N]
        k = torch.relu(v)
        mixed = torch.matmul(q, torch.matmul(k * (1.0 / int(k.shape[3])), v.transpose(2, 3)))
        total = torch.matmul(q, k.mean(3, keepdim=True))
        quotient = mixed / (total + DENOMINATOR_FLOOR)
        return quotient.transpose(2, 3).reshape(-1, math.prod(self.head_shape), int(queries.shape[2]))


class Layer(nn.Module):
    """Halves the time axis: [B,C,T] -> [B,F,T/2]."""

    def __init__(self, channels, features, width):
        super().__init__()
        self.bypass = convolution(channels, features, kernel=2, stride=2)
        self.queries = convolution(channels, channels, kernel=5, stride=2, padding=2, groups=channels)
        self.context = convolution(channels, channels, kernel=5, stride=4, padding=2, groups=channels)
        self.attention = LinearAttention(channels, width)
        self.mix = convolution(width, features)
        self.widen = convolution(channels, features)
        self.feed_forward = nn.Sequential(
            convolution(features, 2 * features), Gelu(), convolution(2 * features, features))

    def forward(self, x):
        queries = self.queries(x)
        attended = self.mix(self.attention(queries, self.context(x)))
        return self.feed_forward(attended + self.widen(queries)) + torch.relu(self.bypass(x))


class Waveformer(nn.Module):
    """Audio [B,1,T] in [-1, 1] -> logits [B,classes]."""

    def __init__(self, classes):
        super().__init__()
        channels = [1] + [features for features, _ in PLAN]
        self.layers = nn.Sequential(
            *(Layer(c, features, width) for c, (features, width) in zip(channels, PLAN)))
        self.head = nn.Sequential(
            nn.Linear(channels[-1], HEAD_WIDTH), nn.ReLU(), nn.Dropout(0.1), nn.Linear(HEAD_WIDTH, classes))

    def parts(self):
        """What has its gradient clipped on its own."""
        return [*self.layers, self.head]

    def forward(self, audio):
        return self.head(self.layers(audio).mean(2))


# --------------------------------------------------------------------------------------------- data


def to_int16(audio):
    if audio.dtype == np.int16:
        return np.maximum(audio, -32767)  # -32768 has no counterpart on the symmetric grid
    return np.rint(np.clip(audio, -1.0, 1.0) * 32767).astype(np.int16)


def to_float(audio):
    """int16 [B,T] -> float32 [B,1,T]"""
    return audio[:, None].astype(np.float32) * SCALE


def load_clips(path):
    """-> {"train": (int16 [N,T], labels [N]), "test": ...}"""
    with np.load(path) as file:
        data = {}
        for split in ("train", "test"):
            for name in (f"{split}_audio", f"{split}_labels"):
                if name not in file:
                    raise SystemExit(f"{path}: no array '{name}'; it has {', '.join(file.files)}")
            data[split] = (to_int16(file[f"{split}_audio"]), file[f"{split}_labels"].astype(np.int64))
    return data


def tone_word(label, length, rng):
    """A "word" of two tones. Nine classes: each ordered pair of three pitches; pitch, place and level vary."""
    word = np.zeros(length)
    syllable = length * 3 // 8
    start = rng.integers(0, length - 2 * syllable + 1)
    for i, pitch in enumerate(divmod(label, 3)):
        hertz = 350.0 * 2.0 ** (pitch + rng.uniform(-0.15, 0.15))
        phase = 2 * np.pi * hertz * np.arange(syllable) / SAMPLE_RATE + rng.uniform(0, 2 * np.pi)
        word[start + i * syllable:start + (i + 1) * syllable] = np.sin(phase) * np.hanning(syllable)
    return rng.uniform(0.3, 0.9) * word + rng.normal(0, 0.01, length)


def synthetic_clips(length, train, test, rng):
    def split(count):
        labels = np.arange(count) % 9
        return to_int16(np.stack([tone_word(int(c), length, rng) for c in labels])), labels.astype(np.int64)

    return {"train": split(train), "test": split(test)}


def augment(audio, rng):
    """One random variant of each clip of an int16 batch [B,T]: moved by up to 1/16, another level, some noise."""
    length = audio.shape[1]
    varied = np.zeros(audio.shape, np.float32)
    for row, clip in zip(varied, audio):
        shift = int(rng.integers(-(length // 16), length // 16 + 1))
        row[max(shift, 0):length + min(shift, 0)] = clip[max(-shift, 0):length - max(shift, 0)]
    varied *= SCALE * rng.uniform(0.5, 1.1, (len(audio), 1))
    loudness = np.sqrt(np.mean(varied**2, axis=1, keepdims=True))
    noise = rng.standard_normal(varied.shape, np.float32)
    varied += noise * loudness * 10 ** (-rng.uniform(15, 45, (len(audio), 1)) / 20)
    return to_int16(varied)


# ------------------------------------------------------------------------------- training and export


def accuracy(model, audio, labels):
    model.eval()
    with torch.no_grad():
        logits = [model(torch.from_numpy(to_float(audio[i:i + 32]))) for i in range(0, len(audio), 32)]
    return float(np.mean(torch.cat(logits).argmax(1).numpy() == labels))


def train_batch(model, optimizer, audio, labels):
    """One step; the loss, or None where the gradient is not finite and the step was left out."""
    loss = cross_entropy(model(torch.from_numpy(to_float(audio))), torch.from_numpy(labels), label_smoothing=0.05)
    optimizer.zero_grad()
    loss.backward()
    # The quotient is steep where queries and keys hardly meet: one layer's outlier must not scale down all others.
    norms = [nn.utils.clip_grad_norm_(part.parameters(), 0.5) for part in model.parts()]
    if not all(map(torch.isfinite, norms)):
        return None
    optimizer.step()
    return loss.item()


def train(model, data, args, rng):
    audio, labels = data["train"]
    batches = max(1, len(audio) // args.batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, args.lr, total_steps=max(args.epochs * batches, 10), pct_start=0.2)
    started = time.monotonic()
    for epoch in range(args.epochs):
        model.train()
        losses = []
        for chosen in np.array_split(rng.permutation(len(audio)), batches):
            losses.append(train_batch(model, optimizer, augment(audio[chosen], rng), labels[chosen]))
            schedule.step()
        kept = [x for x in losses if x is not None]
        skipped = f", {len(losses) - len(kept)} steps skipped" if len(kept) < len(losses) else ""
        print(f"epoch {epoch + 1}/{args.epochs}: loss {np.mean(kept) if kept else math.nan:.4f}, "
              f"test {accuracy(model, *data['test']):.4f}, {time.monotonic() - started:.0f} s{skipped}", flush=True)


def write_samples(folder, data, rng):
    """calib.npz: up to 64 training clips, every second one varied; test.npz: all test clips with labels."""
    audio, _ = data["train"]
    calib = audio[rng.permutation(len(audio))[:64]].copy()
    calib[1::2] = augment(calib[1::2], rng)
    np.savez_compressed(folder / "calib.npz", input_int16=calib[:, None], input_scale=SCALE)
    audio, labels = data["test"]
    np.savez_compressed(folder / "test.npz", input_int16=audio[:, None], input_scale=SCALE, labels=labels)


def export(model, length, path, opset=13, keep_bn=False, dynamic_batch=False):
    """Input `input` [1,1,length], output `logits` [1,classes]; dynamic_batch leaves the first axis open."""
    model.eval()
    # Any mode but EVAL leaves BatchNormalization nodes alone; EVAL folds them into the convolutions.
    mode = torch.onnx.TrainingMode.PRESERVE if keep_bn else torch.onnx.TrainingMode.EVAL
    axes = {"input": {0: "batch"}, "logits": {0: "batch"}} if dynamic_batch else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # lengths are meant to become constants
        torch.onnx.export(model, torch.zeros(1, 1, length), str(path), opset_version=opset, training=mode,
                          do_constant_folding=not keep_bn,
                          input_names=["input"], output_names=["logits"], dynamic_axes=axes)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=pathlib.Path, metavar="NPZ", help="clips, see above")
    source.add_argument("--synthetic", action="store_true", help="nine generated tone words instead")
    parser.add_argument("-o", "--out", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("--epochs", type=int, default=40, help="0: export only (default %(default)s)")
    parser.add_argument("--batch", type=int, default=16, help="default %(default)s")
    parser.add_argument("--lr", type=float, default=2e-3, help="highest learning rate (default %(default)s)")
    parser.add_argument("--init", type=pathlib.Path, metavar="PT", help="start from the weights.pt of another run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clips", type=int, default=720, help="--synthetic: training clips (default %(default)s)")
    parser.add_argument("--length", type=int, default=8192, help="--synthetic: samples (default %(default)s)")
    parser.add_argument("--opset", type=int, default=13, help="ONNX opset (default %(default)s)")
    parser.add_argument("--keep-bn", action="store_true", help="export BatchNormalization nodes")
    parser.add_argument("--dynamic-batch", action="store_true", help="export with an open batch axis")
    args = parser.parse_args()
    if args.epochs < 0 or args.batch < 2 or args.clips < 2:
        parser.error("--epochs is at least 0, --batch and --clips at least 2")
    return args


def main():
    args = arguments()
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    data = (synthetic_clips(args.length, args.clips, 90, rng) if args.synthetic else load_clips(args.data))
    (audio, labels), (_, test_labels) = data["train"], data["test"]
    length = audio.shape[1]
    if length % 512:
        raise SystemExit(f"train.py: clips have {length} samples; nine layers that halve need a multiple of 512")

    model = Waveformer(int(max(labels.max(), test_labels.max())) + 1)
    if args.init:
        model.load_state_dict(torch.load(args.init))
    if args.epochs:
        train(model, data, args, rng)
    args.out.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), args.out / "weights.pt")
    export(model, length, args.out / "model.onnx", args.opset, args.keep_bn, args.dynamic_batch)
    write_samples(args.out, data, rng)
    print(f"{args.out}: test {accuracy(model, *data['test']):.4f}, "
          f"{sum(p.numel() for p in model.parameters())} parameters, {len(audio)} training clips")


if __name__ == "__main__":
    main()
