/* (q - zero_point)*scale in float32, as Deeploy's Dequant. */
#include "harness.h"

static void kernel(int k, out_t *y) {
  const double scale = WAVEQ_KERNEL_SCALE, zero = WAVEQ_KERNEL_ZERO_POINT;
  const size_t count =
      M(1, "last element left out", OUT_SIZE - 1,
        M(2, "elements in pairs, the odd one left out", OUT_SIZE / 2 * 2,
          M(3, "elements in fours, the rest left out", OUT_SIZE / 4 * 4, OUT_SIZE)));
  for (size_t i = M(4, "first element left out", 1, 0); i < count; ++i) {
    const size_t at = M(5, "input one element behind", i == 0 ? 0 : i - 1, i);
    int64_t q = waveq_kernel_in_x[k][at];
    float moved, v;
    q = M(6, "input of the other signedness",
          sizeof(waveq_kernel_in_x_t) == 1
              ? ((waveq_kernel_in_x_t)-1 < 0 ? (int64_t)(uint8_t)q : (int64_t)(int8_t)q)
              : (int64_t)(uint16_t)q,
          q);
    q = M(7, "-128 read as -127", q == -128 ? -127 : q,
          M(8, "input read as 7 bits and sign", clamp(q, -64, 63), q));
    q = M(9, "input read as 16 bits", (int16_t)q, M(10, "input read as 8 bits", (int8_t)q, q));
    moved = (float)M(
        11, "zero_point added", (double)q + zero,
        M(12, "zero_point left out", (double)q,
          M(13, "zero_point's fraction dropped", (double)(q - (int64_t)zero), (double)q - zero)));
    moved = M(14, "difference wraps at 8 bits", (float)(int8_t)(int64_t)moved,
              M(15, "difference saturates at 8 bits",
                moved < -128  ? -128.0f
                : moved > 127 ? 127.0f
                              : moved,
                moved));
    v = (float)((double)moved * scale);
    v = M(16, "divides by scale", (float)((double)moved / scale),
          M(17, "divides by the float32 next to 1/scale", moved / (float)(1 / scale), v));
    v = M(
        18, "scales before subtracting zero_point", (float)((double)q * scale - zero),
        M(19, "two products, each rounded", (float)((double)q * scale) - (float)(zero * scale), v));
    v = M(20, "scale in half precision (11 bits)", (float)((double)moved * eleven_bits(scale)),
          M(21, "scale as fixed point with 16 fractional bits",
            (float)((double)moved * (double)(int64_t)(scale * 65536) / 65536), v));
    v = M(22, "result cut to an integer", (float)(int64_t)v,
          M(23, "magnitude taken", v < 0 ? -v : v, v));
    y[i] = v;
  }
}
