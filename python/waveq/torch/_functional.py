"""The integer network's arithmetic on float64 tensors that hold integers, with straight-through gradients.

Every forward is exact: |x| stays below 2^53 wherever the overflow proof holds (it bounds intermediates by 2^31).
Backward, rounding counts as the identity and clipping passes the gradient where nothing was clipped.
The formulas are those of graph/include/waveq/graph/integer_arithmetic.h.
"""
from __future__ import annotations

import math
from typing import Optional

import torch
from torch import Tensor
from torch.autograd import Function


class _StraightThrough(Function):
    """f(x), with the gradient of x."""

    @staticmethod
    def forward(ctx, x: Tensor, f) -> Tensor:  # type: ignore[override]
        return f(x)

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        return gradient, None


def floor(x: Tensor) -> Tensor:
    """Toward minus infinity."""
    return _StraightThrough.apply(x, torch.floor)


def round_half_even(x: Tensor) -> Tensor:
    """To the nearest integer, ties to even: how weights are rounded."""
    return _StraightThrough.apply(x, torch.round)


def round_half_away(x: Tensor) -> Tensor:
    """To the nearest integer, ties away from zero: how network inputs are rounded. No gradient of its own."""
    whole = torch.trunc(x)
    return whole + torch.sign(x) * ((x - whole).abs() >= 0.5)


def quantize_weight(weight: Tensor, scale: Tensor, limit: int) -> Tensor:
    """Codes round_half_even(clamp(w / scale, -limit, limit)); `scale` broadcasts to `weight`."""
    return round_half_even(torch.clamp(weight.double() / scale, -limit, limit))


def quantize_input(real: Tensor, scale: float, zero_point: int, lo: int, hi: int) -> Tensor:
    """Codes clamp(round_half_away(x / scale) + zero_point, lo, hi)."""
    steps = real.double() / scale
    return torch.clamp(steps + (round_half_away(steps) - steps).detach() + zero_point, lo, hi)


class _Clip(Function):
    """clamp(floor(v), lo, hi) of v = x + 1/2 or x, with the gradient of a learned step size as in LSQ.

    Let the tensor mean s*(q - z), z its zero point. For the logarithm of s: d(s*(q - z))/dlog s = s*(q - x) where
    nothing was clipped and s*(q - z) where it was (Esser et al., "Learned Step Size Quantization", ICLR 2020, eq. 3),
    scaled by 1/sqrt(elements * hi) (ibid., section 2.2). A new step takes effect when the network is lowered again, so
    `log_step` does not enter the forward.
    """

    @staticmethod
    def forward(ctx, x: Tensor, log_step: Tensor, half: float, lo: float, hi: float, zero: float) -> Tensor:  # type: ignore[override]
        code = torch.floor(x + half)
        clipped = torch.clamp(code, lo, hi)
        ctx.save_for_backward(x, clipped, code == clipped)
        ctx.hi, ctx.zero = hi, zero
        return clipped

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        x, code, inside = ctx.saved_tensors
        step = None
        if ctx.needs_input_grad[1]:
            error = torch.where(inside, code - x, code - ctx.zero)
            step = (gradient * error).sum() / (x.numel() * max(ctx.hi, 1.0)) ** 0.5
        return gradient * inside, step, None, None, None, None


def requant(acc: Tensor, mul: Tensor, add: Tensor, shift: int, lo: int, hi: int, half_up: bool = True,
            log_step: Optional[Tensor] = None, zero_point: int = 0) -> Tensor:
    """clamp((acc*mul + add + half) >> shift, lo, hi), half = 2^(shift-1) or 0; exact. zero_point: of the result,
    where its step is learned."""
    scaled = (acc * mul + add) * 2.0 ** -shift
    if log_step is None:
        log_step = scaled.new_zeros(())
    return _Clip.apply(scaled, log_step, 0.5 if half_up and shift > 0 else 0.0, float(lo), float(hi),
                       float(zero_point))


class _IntegerDiv(Function):
    @staticmethod
    def forward(ctx, num: Tensor, den: Tensor, delta: int, eps: int, eta: int) -> Tensor:  # type: ignore[override]
        d = den.long() * eta + eps
        n = num.long() * (delta * eta)
        sign = torch.where(n < 0, -1, 1)
        ctx.save_for_backward(n, d)
        ctx.delta, ctx.eta, ctx.den_shape, ctx.num_shape = delta, eta, den.shape, num.shape
        return torch.div(n + sign * (d >> 1), d, rounding_mode="trunc").double()

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        n, d = (t.double() for t in ctx.saved_tensors)
        num = (gradient * (ctx.delta * ctx.eta) / d).sum_to_size(ctx.num_shape)
        den = (-gradient * n * ctx.eta / (d * d)).sum_to_size(ctx.den_shape)
        return num, den, None, None, None


def integer_div(num: Tensor, den: Tensor, delta: int, eps: int, eta: int) -> Tensor:
    """n = delta*eta*num, d = eta*den + eps; (n + sgn(n)*(d >> 1)) / d toward zero, sgn(0) = 1; d > 0."""
    return _IntegerDiv.apply(num, den, delta, eps, eta)


def igelu(x: Tensor, b: int, one: int) -> Tensor:
    """q = min(|x|, -b), L = sgn(x)*(one - (q + b)^2), x * ((one + L) >> 1)."""
    q = torch.clamp(x.abs(), max=float(-b))
    return x * floor((one + torch.sign(x) * (one - (q + b) ** 2)) / 2)


def ihardswish(x: Tensor, three: int, six: int, one_over_six: int) -> Tensor:
    """x * (clamp(x + three, 0, six) * one_over_six)."""
    return x * (torch.clamp(x + three, 0.0, float(six)) * one_over_six)


class _Table(Function):
    @staticmethod
    def forward(ctx, x: Tensor, table: Tensor, first: int) -> Tensor:  # type: ignore[override]
        last = table.shape[-1] - 1
        index = (x - first).long().clamp(0, last)
        if table.dim() > 1:  # a row for each index of axis 1
            index = index + (last + 1) * torch.arange(table.shape[0]).reshape([1, -1] + [1] * (x.dim() - 2))
        flat = table.reshape(-1)
        column = index % (last + 1)
        slope = (flat[index + (column < last).long()] - flat[index - (column > 0).long()]) / 2
        ctx.save_for_backward(slope)
        return flat[index]

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        return gradient * ctx.saved_tensors[0], None, None


def table(x: Tensor, entries: Tensor, first: int) -> Tensor:
    """entries[x - first], or entries[c, x - first] for channel c of axis 1; the slope is that between neighbours."""
    return _Table.apply(x, entries, first)


def _with_slope_of(exact: Tensor, smooth: Tensor) -> Tensor:
    """Forward `exact`, backward `smooth`: for formulas whose own derivative says nothing."""
    return smooth + (exact - smooth).detach()


def isoftmax(x: Tensor, a: int, b: int, c: int, log2: int, n_levels: int) -> Tensor:
    """t = x - max, z = clamp(-(t / log2), 0, 31), p = t + z*log2, e = (a*(p+b)^2 + c) >> z, e*(n-1) / sum(e), along the
    last axis; the slope is that of the softmax with log2 steps to the octave."""
    with torch.no_grad():
        t = (x - x.amax(-1, keepdim=True)).long()
        z = torch.clamp(-torch.div(t, log2, rounding_mode="trunc"), 0, 31)
        e = (a * (t + z * log2 + b) ** 2 + c) >> z
        exact = torch.div(e * (n_levels - 1), e.sum(-1, keepdim=True), rounding_mode="floor").double()
    return _with_slope_of(exact, (n_levels - 1) * torch.softmax(x * (math.log(2) / log2), -1))


def itamax(x: Tensor, n_levels: int) -> Tensor:
    """h = (max - x + 16) >> 5, y = ((n-1)*256 / sum(256 >> h)) >> h along the last axis; 32 steps to the octave."""
    with torch.no_grad():
        h = (x.amax(-1, keepdim=True) - x + 16).long() >> 5
        total = (torch.full_like(h, 256) >> h).sum(-1, keepdim=True)
        exact = (torch.div(torch.full_like(total, (n_levels - 1) * 256), total, rounding_mode="floor") >> h).double()
    return _with_slope_of(exact, (n_levels - 1) * torch.softmax(x * (math.log(2) / 32), -1))


def ilayernorm(x: Tensor, weight: Tensor, bias: Tensor, log2_d: int, epsilon: int = 1) -> Tensor:
    """m = sum / N toward zero, t = x - m, v = sum(t^2) / N + epsilon, y = (t*w / isqrt(v) + bias) >> log2_d, last axis."""
    n = x.shape[-1]
    with torch.no_grad():
        t = x - torch.trunc(x.sum(-1, keepdim=True) / n)
        deviation = torch.floor(torch.sqrt(torch.floor((t * t).sum(-1, keepdim=True) / n) + epsilon))
        quotient = torch.div((t * weight).long(), deviation.long(), rounding_mode="trunc").double()
        exact = torch.floor((quotient + bias) / 2.0 ** log2_d)
    centred = x - x.mean(-1, keepdim=True)
    normal = centred / torch.sqrt((centred * centred).mean(-1, keepdim=True) + epsilon)
    return _with_slope_of(exact, (normal * weight + bias) / 2.0 ** log2_d)


def irmsnorm(x: Tensor, weight: Tensor, log2_d: int) -> Tensor:
    """v = sum(x^2) / N + 1, y = clamp((x*w / isqrt(v)) >> log2_d, -128, 127), last axis."""
    n = x.shape[-1]
    with torch.no_grad():
        deviation = torch.floor(torch.sqrt(torch.floor((x * x).sum(-1, keepdim=True) / n) + 1))
        quotient = torch.div((x * weight).long(), deviation.long(), rounding_mode="trunc").double()
        exact = torch.floor(quotient / 2.0 ** log2_d)
    normal = x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1)
    return torch.clamp(_with_slope_of(exact, normal * weight / 2.0 ** log2_d), -128, 127)


def integer_mean(x: Tensor, axes: list[int], keepdims: bool) -> Tensor:
    """(sum + count/2) >> log2(count) for a power of two, else the quotient rounded half away from zero."""
    total = x.sum(axes, keepdim=keepdims)
    count = x.numel() // max(total.numel(), 1)
    if count & (count - 1) == 0:
        return floor((total + count // 2) / count)
    rounded = torch.div(total.long() + torch.sign(total.long()) * (count // 2), count, rounding_mode="trunc").double()
    return _with_slope_of(rounded, total / count)
