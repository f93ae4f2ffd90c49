/* x * floor(Delta*eta / (y*eta + eps)) in int32. */
#include "harness.h"

static void kernel(int k, out_t *y) {
  const int64_t delta = WAVEQ_KERNEL_DELTA, eta = WAVEQ_KERNEL_ETA, eps = WAVEQ_KERNEL_EPS,
                by = WAVEQ_KERNEL_Y;
  const int64_t stretch = delta * M(1, "eta left out of the numerator", 1, eta);
  const int64_t d = by * M(2, "eta left out of the divisor", 1, eta) +
                    M(3, "eps left out", 0, M(4, "eps scaled by eta", eps * eta, eps));
  int64_t factor = d > 0 ? floor_div(stretch, d) : floor_div(-stretch, -d);
  factor =
      M(5, "factor rounded to the nearest", d > 0 ? half_up(stretch, d) : half_up(-stretch, -d),
        M(6, "factor truncated towards zero", stretch / d,
          M(7, "factor one too large", factor + 1, factor)));
  factor = M(8, "factor as 8 bits", (int8_t)factor,
             M(9, "sign of the factor lost", absolute(factor), factor));
  for (size_t i = M(10, "first element left out", 1, 0);
       i < M(11, "last element left out", OUT_SIZE - 1,
             M(12, "elements in fours, the rest left out", OUT_SIZE / 4 * 4, OUT_SIZE));
       ++i) {
    int64_t x = waveq_kernel_in_x[k][i], v;
    x = M(13, "input of the other signedness",
          sizeof(waveq_kernel_in_x_t) > 1 || (waveq_kernel_in_x_t)-1 < 0 ? (int64_t)(uint8_t)x
                                                                         : (int64_t)(int8_t)x,
          M(14, "-128 read as -127", x == -128 ? -127 : x, x));
    v = x * factor;
    v = M(15, "divides each input instead of scaling the factor", stretch * x / d,
          M(16, "result as 16 bits", (int16_t)v,
            M(17, "result saturates at 16 bits", clamp(v, -32768, 32767),
              M(18, "sign of the input lost", absolute(x) * factor, v))));
    y[i] = (out_t)v;
  }
}
