/* v = sum(x^2)/N + 1, y = clip((x*w / isqrt(v)) >> log2 D). */
#include "norm.h"

static void row(const waveq_kernel_in_x_t *x, int n, out_t *y) {
  int64_t squares = 0, v, deviation;
  for (int i = 0; i < seen(n); ++i)
    squares += M(23, "square as 8 bits", (int8_t)(read_code(x[i]) * read_code(x[i])),
                 read_code(x[i]) * read_code(x[i]));
  squares = M(24, "sum of squares as 16 bits", (uint16_t)squares, squares);
  v = M(25, "mean square rounds to the nearest", half_up(squares, n), squares / n) +
      M(26, "the one under the root left out", squares / n == 0, M(27, "two under the root", 2, 1));
  deviation = root_of(v);
  for (int i = 0; i < n; ++i) {
    int64_t q = shifted(divided(read_code(x[i]) * weight(i, n), deviation));
    q = M(28, "shifts before it divides",
          divided(shifted(read_code(x[i]) * weight(i, n)), deviation), q);
    y[i] = (out_t)M(29, "wraps instead of saturating", q,
                    clamp(q, M(30, "lower clip -127", -127, M(31, "lower clip 0", 0, -128)),
                          M(32, "upper clip 126", 126, M(33, "upper clip 255", 255, 127))));
  }
}
