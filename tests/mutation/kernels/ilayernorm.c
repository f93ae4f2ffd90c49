/* m = sum/N, t = x - m, v = sum(t^2)/N + 1, y = (t*w / isqrt(v) + bias) >> log2 D, low 8 bits. */
#include "norm.h"

static void row(const waveq_kernel_in_x_t *x, int n, out_t *y) {
  int64_t sum = 0, squares = 0, mean, v, deviation;
  for (int i = 0; i < seen(n); ++i) sum += read_code(x[i]);
  mean = M(23, "mean rounds down", floor_div(sum, n),
           M(24, "mean rounds to the nearest", half_away(sum, n),
             M(25, "mean left out", 0, M(26, "sum as 8 bits", (int8_t)sum / n, sum / n))));
  for (int i = 0; i < seen(n); ++i) squares += (read_code(x[i]) - mean) * (read_code(x[i]) - mean);
  squares = M(27, "sum of squares as 16 bits", (uint16_t)squares,
              M(28, "squares before the mean is taken", 0, squares));
  for (int i = 0; i < M(28, "", n, 0); ++i) squares += read_code(x[i]) * read_code(x[i]);
  v = squares / n +
      M(29, "the one under the root left out", squares / n == 0,
        M(30, "divides by N - 1", n > 1 ? squares / (n - 1) - squares / n + 1 : 1, 1));
  deviation = root_of(v);
  for (int i = 0; i < n; ++i) {
    const int64_t t = M(31, "difference as 8 bits", (int8_t)(read_code(x[i]) - mean),
                        read_code(x[i]) - mean),
                  b = waveq_kernel_in_bias[M(32, "first bias for all", 0, i)];
    int64_t q = divided(t * weight(i, n), deviation);
    q = M(33, "bias left out", shifted(q),
          M(34, "bias behind the shift", shifted(q) + b,
            M(35, "bias scaled with the rest", shifted(divided(t * weight(i, n) + b, deviation)),
              shifted(q + b))));
    y[i] = (out_t)E(
        36, "saturates instead of wrapping",
        "vectors hold no input whose result leaves int8: waveq refuses networks that have one",
        clamp(q, -128, 127), q);
  }
}
