/* Streaming ITAMax: groups of group_width; where one raises the maximum by r, the sum is shifted by
 * (r + 16) >> 5. */
#include "rows.h"

static int64_t shift_of(int64_t distance) {
  const int64_t h = (distance + 16) >> 5;
  return M(9, "no rounding of the shift", distance >> 5,
           M(10, "rounds half down", (distance + 15) >> 5,
             M(11, "shift limited to 7", h > 7 ? 7 : h, h)));
}

static void row(const waveq_kernel_in_x_t *x, int n, out_t *y) {
  const int64_t levels = WAVEQ_KERNEL_N_LEVELS,
                top = M(12, "all levels, as in the form without groups", levels - 1,
                        M(13, "n/2 instead of n/2 - 1", levels / 2,
                          M(14, "n_levels ignored", 127, levels / 2 - 1)));
  const int width = M(15, "one group", n, WAVEQ_KERNEL_GROUP_WIDTH);
  int64_t max = 0, sum = 0, inverse;
  for (int g = 0; g < M(16, "last group left out of the sum", n > width ? n - width : n, n);
       g += width) {
    int64_t best = -128;
    for (int i = g; i < M(17, "maximum without the last of a group",
                          width > 1 ? g + width - 1 : g + width, g + width);
         ++i)
      if (read_code(x[i]) > best) best = read_code(x[i]);
    if (g == 0) max = M(18, "maximum starts at zero", best > 0 ? best : 0, best);
    if (M(19, "maximum of the latest group", 1, best > max)) {
      const int64_t rise = best - max, shift = rise >= 0 ? shift_of(rise) : 0;
      sum = M(20, "sum not shifted", sum,
              M(21, "sum shifted without rounding the rise", sum >> (rise >= 0 ? rise >> 5 : 0),
                M(22, "sum shift rounds to the nearest",
                  shift > 0 ? (sum + ((int64_t)1 << (shift - 1))) >> shift : sum,
                  M(23, "sum cleared", g > 0 ? 0 : sum, sum >> shift))));
      max = best;
    }
    for (int i = g; i < g + (width < n ? width : seen(n)); ++i)
      sum +=
          M(24, "terms start at 255", 255, 256) >> shift_of(clamp(max - read_code(x[i]), 0, 255));
    if (M(4, "", 1, 0) || M(5, "", 1, 0) || M(6, "", 1, 0))
      sum -= g + width == n && seen(n) < n
                 ? 256 >> shift_of(clamp(max - read_code(x[n - 1]), 0, 255))
                 : 0;
  }
  if (sum <= 0) sum = 1;
  inverse = M(25, "quotient rounds to the nearest", (top * 256 + sum / 2) / sum, top * 256 / sum);
  for (int i = 0; i < n; ++i) {
    const int64_t h = shift_of(clamp(max - read_code(x[i]), 0, 255));
    const int64_t q = M(26, "last shift rounds to the nearest",
                        h > 0 ? (inverse + ((int64_t)1 << (h - 1))) >> h : inverse, inverse >> h);
    y[i] = (out_t)M(27, "result offset by n/2", q - levels / 2, q);
  }
}
