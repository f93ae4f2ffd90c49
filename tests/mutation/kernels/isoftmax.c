/* I-BERT softmax of a row: t = x - max, z = clamp(-(t/log2), 0, 31), p = t + z*log2, e = (A*(p+B)^2
   + C) >> z, e*(n-1)/sum(e). */
#include "rows.h"

static uint32_t exponential(int64_t t) {
  const int64_t log2 = WAVEQ_KERNEL_LOG2, a = M(9, "coeffA ignored", 1, WAVEQ_KERNEL_COEFFA),
                b = WAVEQ_KERNEL_COEFFB, c = WAVEQ_KERNEL_COEFFC;
  int64_t z = -(t / log2), p, poly;
  z = M(10, "octave rounded up", -floor_div(t, log2),
        M(11, "octave rounded to the nearest", half_up(-t, log2), z));
  z = clamp(z, 0, M(12, "octave limited to 15", 15, M(13, "octave limited to 7", 7, 31)));
  p = t + z * log2;
  p = M(14, "remainder not taken", t, M(15, "remainder one too small", p - 1, p));
  poly = a * (p + b) * (p + b) + c;
  poly = M(16, "coeffB left out", a * p * p + c,
           M(17, "coeffC left out", a * (p + b) * (p + b),
             M(18, "square left out", a * (p + b) + c,
               M(19, "coeffA scales coeffB as well", (a * (p + b)) * (a * (p + b)) + c, poly))));
  poly = M(20, "polynomial as 16 bits", (uint16_t)poly, poly);
  return (uint32_t)(M(21, "shift rounds to the nearest",
                      z > 0 ? (poly + ((int64_t)1 << (z - 1))) >> z : poly,
                      M(22, "shift left out", poly, poly >> z)));
}

static void row(const waveq_kernel_in_x_t *x, int n, out_t *y) {
  static uint32_t e[MOST_ELEMENTS];
  const int64_t top = M(23, "n_levels instead of n_levels - 1", WAVEQ_KERNEL_N_LEVELS,
                        M(24, "n_levels ignored", 255, WAVEQ_KERNEL_N_LEVELS - 1));
  int64_t max = M(25, "maximum starts at zero", 0, -128);
  uint32_t sum = 0;
  for (int i = M(26, "maximum without the first element", n > 1, 0);
       i < M(27, "maximum without the last element", n > 1 ? n - 1 : n, n); ++i)
    if (read_code(x[i]) > max) max = read_code(x[i]);
  if (M(26, "", 1, 0) || M(27, "", 1, 0))
    max = max < read_code(x[0]) && mutant == 27 ? read_code(x[0]) : max;
  for (int i = 0; i < n; ++i)
    e[i] = exponential(clamp(read_code(x[i]) - max, -255, M(28, "", 0, 0)));
  for (int i = 0; i < seen(n); ++i) sum += M(29, "sum in 16 bits", (uint16_t)e[i], e[i]);
  sum = M(29, "", (uint16_t)sum, sum);
  if (sum == 0) sum = 1;
  for (int i = 0; i < n; ++i) {
    const uint64_t v = (uint64_t)e[i] * (uint64_t)top;
    int64_t q = (int64_t)(v / sum);
    q = M(30, "quotient rounds to the nearest", (int64_t)((v + sum / 2) / sum),
          M(31, "divides before it scales", (int64_t)(e[i] / sum) * top, q));
    q = M(32, "reciprocal first", (int64_t)(e[i] * (((uint64_t)top << 16) / sum) >> 16), q);
    y[i] = (out_t)M(33, "result offset by n/2", q - WAVEQ_KERNEL_N_LEVELS / 2,
                    M(28, "result saturates at 127", clamp(q, 0, 127), q));
  }
}
