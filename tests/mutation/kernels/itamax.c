/* h = (max - x + 16) >> 5, S = sum(256 >> h), ((n-1)*256 / S) >> h. */
#include "rows.h"

static int64_t distance_shift(int64_t distance) {
  const int64_t h = (distance + 16) >> 5;
  return M(9, "no rounding of the shift", distance >> 5,
           M(10, "rounds half down", (distance + 15) >> 5,
             M(11, "rounds up", (distance + 31) >> 5,
               M(12, "shift limited to 7", h > 7 ? 7 : h,
                 M(13, "a step of 16", (distance + 8) >> 4, h)))));
}

static void row(const waveq_kernel_in_x_t *x, int n, out_t *y) {
  const int64_t levels = WAVEQ_KERNEL_N_LEVELS,
                top = M(14, "n_levels instead of n_levels - 1", levels,
                        M(15, "half of the levels, as in the streaming form", levels / 2 - 1,
                          M(16, "n_levels ignored", 255, levels - 1)));
  int64_t max = M(17, "maximum starts at zero", 0, -128), sum = 0, inverse;
  for (int i = 0; i < M(18, "maximum without the last element", n > 1 ? n - 1 : n, n); ++i)
    if (read_code(x[i]) > max) max = read_code(x[i]);
  for (int i = 0; i < seen(n); ++i)
    sum += M(19, "terms start at 255", 255, 256) >>
           distance_shift(clamp(max - read_code(x[i]), 0, 255));
  sum =
      M(20, "sum as 12 bits", sum & 4095, M(21, "sum saturates at 2^12", clamp(sum, 0, 4096), sum));
  if (sum == 0) sum = 1;
  inverse = M(22, "quotient rounds to the nearest", (top * 256 + sum / 2) / sum,
              E(23, "quotient as 8 bits",
                "the largest element alone puts 256 into the sum, so the quotient is at most n - 1",
                top * 256 / sum & 255, top * 256 / sum));
  for (int i = 0; i < n; ++i) {
    const int64_t h = distance_shift(clamp(max - read_code(x[i]), 0, 255));
    int64_t q = inverse >> h;
    q = M(24, "last shift rounds to the nearest",
          h > 0 ? (inverse + ((int64_t)1 << (h - 1))) >> h : inverse,
          M(25, "last shift left out", inverse, q));
    y[i] = (out_t)M(26, "result offset by n/2", q - levels / 2,
                    M(27, "result saturates at 127", clamp(q, 0, 127), q));
  }
}
