/* clip(trunc(x*scale + zero_point + half with its sign)) in float32, as Deeploy's Quant: what the
 * target's C rounds to float32, this rounds. */
#include "harness.h"

/* Nearest integers of v, by rule. */
static int64_t floor_of(double v) {
  const int64_t q = (int64_t)v;
  return q - (v < (double)q);
}
static int64_t to_even(double v) {
  const int64_t q = floor_of(v);
  const double rest = v - (double)q;
  return q + (rest > 0.5 || (rest == 0.5 && q % 2 != 0));
}
static int64_t away(double v) { return v < 0 ? -floor_of(0.5 - v) : floor_of(v + 0.5); }

/* The integer of v = x*scale + zero_point. */
static int64_t rounded(float v) {
  const float half = v >= 0 ? 0.5f : -0.5f;
  const float moved = v + half;
  int64_t q = (int64_t)moved;
  q = M(1, "truncates without the half", (int64_t)v,
        M(2, "ties to even (rint)", to_even((double)v), q));
  q = M(3, "half always added, negative values included", (int64_t)(v + 0.5f),
        M(4, "ties up (floor of v + 0.5)", floor_of((double)v + 0.5),
          M(5, "ties down", -floor_of(0.5 - (double)v), q)));
  q = M(6, "floor without the half", floor_of((double)v),
        M(7, "ties away, exact just below 0.5 (round)", away((double)v), q));
  q = M(8, "half with the wrong sign", (int64_t)(v - half), q);
  return q;
}

static void kernel(int k, out_t *y) {
  const int bits = M(9, "bit_width ignored", 8, WAVEQ_KERNEL_BIT_WIDTH),
            is_signed =
                M(10, "signedness of the bounds", !WAVEQ_KERNEL_SIGNED, WAVEQ_KERNEL_SIGNED);
  const int64_t hi = ((int64_t)1 << (bits - is_signed)) - 1,
                lo = is_signed ? -((int64_t)1 << (bits - 1)) : 0;
  const int64_t top = M(11, "upper clip one too low", hi - 1,
                        M(12, "upper clip one too high", hi + 1, hi)),
                bottom = M(13, "lower clip one too high (narrow range)", lo + 1,
                           M(14, "lower clip one too low", lo - 1, lo));
  const double scale = M(15, "sign of scale lost",
                         WAVEQ_KERNEL_SCALE < 0 ? -WAVEQ_KERNEL_SCALE : WAVEQ_KERNEL_SCALE,
                         WAVEQ_KERNEL_SCALE),
               zero = WAVEQ_KERNEL_ZERO_POINT;
  const size_t count =
      M(16, "last element left out", OUT_SIZE - 1,
        M(17, "elements in pairs, the odd one left out", OUT_SIZE / 2 * 2,
          M(18, "elements in fours, the rest left out", OUT_SIZE / 4 * 4, OUT_SIZE)));
  for (size_t i = M(19, "first element left out", 1, 0); i < count; ++i) {
    const size_t at = M(20, "input one element behind", i == 0 ? 0 : i - 1, i);
    const float x = waveq_kernel_in_x[k][at];
    const float divisor = (float)(1 / scale);
    const float scaled = (float)M(21, "divides by 1/scale", (double)(x / divisor),
                                  M(22, "divides by scale", (double)x / scale, (double)x * scale));
    const float moved =
        (float)M(23, "zero_point subtracted", (double)scaled - zero,
                 M(24, "zero_point left out", (double)scaled,
                   M(25, "zero_point added before scaling", ((double)x + zero) * scale,
                     M(26, "x*scale + zero_point rounded once (fused)", (double)x * scale + zero,
                       (double)scaled + zero))));
    int64_t q = rounded(moved);
    q = M(27, "rounds before zero_point is added", rounded(scaled) + (int64_t)zero, q);
    q = M(28, "clips before zero_point is added",
          clamp(rounded(scaled), bottom, top) + (int64_t)zero, clamp(q, bottom, top));
    q = M(
        29, "wraps at 8 bits before the clip", clamp((int8_t)rounded(moved), bottom, top),
        M(30, "wraps at 16 bits before the clip", clamp((int16_t)rounded(moved), bottom, top), q));
    q = M(31, "wraps instead of saturating", rounded(moved),
          M(32, "negative values cut to 0", q < 0 ? 0 : q, q));
    q = M(33, "x cut to an integer",
          clamp(rounded((float)((double)(int64_t)x * scale + zero)), bottom, top), q);
    q = M(34, "scale in half precision (11 bits)",
          clamp(rounded((float)((double)(float)((double)x * eleven_bits(scale)) + zero)), bottom,
                top),
          q);
    y[i] = (out_t)q;
  }
}
