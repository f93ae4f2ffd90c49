#!/usr/bin/env python3
"""Train a Waveformer in float, quantize it to 4-bit weights after training, then fine-tune it with these integers.

    python3 qat.py             # espeak-ng speech, twelve classes; minutes on two cores
    python3 qat.py --quick     # generated tone words and a short network input: to see it work

Float training starts from the network of examples/waveformer_kws (--scratch: from random weights, some 30 epochs)
and adapts it to the shorter clips and other voices made here. Prints top-1 of the float network, of the 4-bit network
quantized after training, and of the 4-bit network after fine-tuning, both computed by waveq's integer evaluator, and the
margin between them. Writes both integer networks. Test clips decide nothing: the epoch that is kept is the best on
validation clips. Needs the waveq package (README), Debian's python3-torch and, unless --quick, espeak-ng.
"""
import argparse
import math
import pathlib
import sys
import time

import numpy as np
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

import waveq
import waveq.torch

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "waveformer_kws")]
import speech  # noqa: E402
import train as kws  # noqa: E402  the network, float training and augmentation of the other example


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tone words of 1024 samples, few epochs")
    parser.add_argument("-o", "--out", type=pathlib.Path, default=pathlib.Path("out/qat_waveformer"), metavar="DIR")
    parser.add_argument("--weight-levels", type=int, default=16, help="16 for 4 bits (default)")
    parser.add_argument("--per-channel", action="store_true", help="a scale for each filter, not one for each layer")
    parser.add_argument("--edges", action="store_true", help="first and last layer with 8-bit weights")
    parser.add_argument("--scratch", action="store_true", help="float training starts from random weights")
    parser.add_argument("--epochs", type=int, help="of float training")
    parser.add_argument("--tune-epochs", type=int, help="of fine-tuning")
    parser.add_argument("--clips", type=int, help="training clips, one in nine of them for validation")
    parser.add_argument("--length", type=int, help="samples of a clip, a multiple of 512")
    parser.add_argument("--lr", type=float, default=2e-4, help="highest rate of fine-tuning (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    defaults = (dict(epochs=3, tune_epochs=2, clips=180, length=1024) if args.quick else
                dict(epochs=30 if args.scratch else 2, tune_epochs=4, clips=1080, length=4096))
    for name, value in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    args.batch = 16
    return args


# Our names of a layer's convolutions, and those in the shipped file.
SHIPPED_NAMES = {"bypass": "bypass.0", "queries": "to_q.0", "context": "to_context.0", "attention.query": "wq.0",
                 "attention.value": "wv.0", "mix": "wo.0", "widen": "conv_up.0", "feed_forward.0": "ff1.0",
                 "feed_forward.2": "ff2.0"}


def start_from_shipped(network, clips):
    """Weights of examples/waveformer_kws/model.onnx, whose batch normalization is folded into them.

    A normalization with the statistics of `clips` [B,1,T] and a gain and shift that undo it takes the folded one's place,
    so that training in batches begins with the same function.
    """
    shipped = waveq.load(HERE.parent / "waveformer_kws/model.onnx")
    constants = shipped.constants()
    tensors = {n.name: [torch.from_numpy(constants[i].copy()) for i in n.inputs[1:]] for n in shipped.nodes
               if n.op in ("Conv", "Gemm")}

    def begin_at(norm, bias):
        def hook(_, inputs):
            spread, mean = torch.var_mean(inputs[0], (0, 2), unbiased=False)
            norm.running_mean, norm.running_var = mean, spread
            norm.weight.data, norm.bias.data = torch.sqrt(spread + norm.eps), bias + mean
        return norm.register_forward_pre_hook(hook)

    hooks = []
    for i, layer in enumerate(network.layers):
        for ours, theirs in SHIPPED_NAMES.items():
            convolution, norm = layer.get_submodule(ours)
            weight, bias = next(v for k, v in tensors.items()
                                if k.startswith(f"/layers.{i}/") and k.endswith(f"/{theirs}/Conv"))
            convolution.weight.data = weight
            hooks.append(begin_at(norm, bias))
    for linear, name in ((network.head[0], "/fc1/Gemm"), (network.head[3], "/fc2/Gemm")):
        linear.weight.data, linear.bias.data = tensors[name]
    with torch.no_grad():
        network.eval()(clips)
    for hook in hooks:
        hook.remove()


def distillation(logits, taught, labels):
    """Mostly what the float network says (Hinton et al., "Distilling the Knowledge in a Neural Network", 2015; T = 2),
    which is worth more than labels to a network that is to come close to it."""
    soft = kl_div(log_softmax(logits / 2, 1), softmax(taught.double() / 2, 1), reduction="batchmean")
    return 0.3 * cross_entropy(logits, labels, label_smoothing=0.05) + 0.7 * 4 * soft


def validation_loss(model, audio, labels):
    with torch.no_grad():
        logits = torch.cat([model(torch.from_numpy(kws.to_float(audio[i:i + 32]))) for i in range(0, len(audio), 32)])
    return cross_entropy(logits, torch.from_numpy(labels)).item()


def fine_tune(model, teacher, data, args, rng):
    """A few epochs through the integer network; keeps the epoch that does best on the validation clips.

    Ranges move slower than weights: what a step of theirs does shows only after the next refresh.
    """
    audio, labels = data["train"]
    batches = max(1, len(audio) // args.batch)
    rates = [args.lr, 0.3 * args.lr]
    optimizer = torch.optim.Adam([{"params": model.weight_parameters(), "lr": rates[0]},
                                  {"params": model.range_parameters(), "lr": rates[1]}])
    steps = max(args.tune_epochs * batches, 20)  # the warm-up needs more than one
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, pct_start=0.1, total_steps=steps)
    teacher.eval()
    started = time.monotonic()
    best, kept = math.inf, []
    for epoch in range(args.tune_epochs):
        losses = []
        for chosen in np.array_split(rng.permutation(len(audio)), batches):
            clips = torch.from_numpy(kws.to_float(kws.augment(audio[chosen], rng)))
            with torch.no_grad():
                taught = teacher(clips)
            loss = distillation(model(clips), taught, torch.from_numpy(labels[chosen]))
            optimizer.zero_grad()
            loss.backward()
            # As in float training: one steep quotient must not scale down all other gradients.
            norms = [torch.nn.utils.clip_grad_norm_(p, 0.5) for p in model.weight_parameters()]
            torch.nn.utils.clip_grad_norm_(model.range_parameters(), 0.5)
            if all(map(torch.isfinite, norms)):
                optimizer.step()
                losses.append(loss.item())
            schedule.step()
        model.refresh()  # scales and multipliers follow weights and ranges
        judged = validation_loss(model, *data["validation"])
        if judged < best:
            best, kept = judged, [p.detach().clone() for p in model.parameters()]
        print(f"fine-tuning {epoch + 1}/{args.tune_epochs}: loss {np.mean(losses):.4f}, validation {judged:.4f}, "
              f"{time.monotonic() - started:.0f} s", flush=True)
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), kept):
            parameter.copy_(value)
    model.refresh()


def edges(model):
    """8 bits for the weights of the first and of the last linear node, by their names in the canonical network."""
    network = waveq.rewrite(model)
    constants = network.constants()
    linear = [n.name for n in network.nodes if n.op in ("Conv", "Gemm", "MatMul") and n.inputs[1] in constants]
    return {linear[0]: 256, linear[-1]: 256}


def main():
    args = arguments()
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    test_clips = 90 if args.quick else 720
    data = (kws.synthetic_clips(args.length, args.clips, test_clips, rng) if args.quick else
            speech.dataset(args.clips, test_clips, args.length, args.seed))
    held_out = args.clips // 9  # for the choice of an epoch in fine-tuning
    data["validation"] = tuple(a[-held_out:] for a in data["train"])
    data["train"] = audio, labels = tuple(a[:-held_out] for a in data["train"])
    network = kws.Waveformer(int(labels.max()) + 1)
    from_shipped = not (args.quick or args.scratch)
    if from_shipped:
        start_from_shipped(network, torch.from_numpy(kws.to_float(audio[:96])))
        print(f"as shipped: test {kws.accuracy(network, *data['test']):.4f}", flush=True)
    # The rate of float training: low for a network that has learned before.
    args.lr, tune_lr = (5e-4 if from_shipped else 2e-3), args.lr
    kws.train(network, data, args, rng)
    args.lr = tune_lr

    calibration = {"input": kws.to_float(kws.augment(audio[rng.permutation(len(audio))[:64]], rng))}
    test = {"input": kws.to_float(data["test"][0]), "labels": data["test"][1]}
    model_bytes = waveq.torch.to_onnx(network, torch.zeros(1, 1, args.length), input_names=["input"],
                                      output_names=["logits"])
    levels = {"weight_levels": args.weight_levels, "per_channel": args.per_channel,
              "weight_levels_of": edges(model_bytes) if args.edges else None}
    after_training = waveq.quantize(model_bytes, calibration, evaluation_data=test, **levels)
    after_training.save(args.out / "after_training")

    model = waveq.torch.prepare(model_bytes, calibration, **levels)
    fine_tune(model, network, data, args, rng)
    fine_tuned = waveq.torch.export(model, calibration, args.out / "fine_tuned", evaluation_data=test)

    a, b = after_training.accuracy, fine_tuned.accuracy
    bits = int(np.ceil(np.log2(args.weight_levels)))
    print(f"\n{a['samples']} test clips, top-1; one scale for the weights of each {'filter' if args.per_channel else 'layer'}\n"
          f"float                           {100 * a['float']:6.2f} %\n"
          f"{bits}-bit weights, after training   {100 * a['integer']:6.2f} %\n"
          f"{bits}-bit weights, fine-tuned       {100 * b['integer']:6.2f} %\n"
          f"margin of fine-tuning           {100 * (b['integer'] - a['integer']):+6.2f} points\n"
          f"float, with the weights of fine-tuning {100 * b['float']:.2f} %")


if __name__ == "__main__":
    main()
