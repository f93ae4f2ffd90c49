/* What both normalizations share. */
#include "rows.h"

static int64_t root_of(int64_t v) {
  int64_t r = v < 1; /* bugs before this may leave nothing to divide by */
  while ((r + 1) * (r + 1) <= v) ++r;
  return M(9, "root rounded to the nearest", v - r * r > r ? r + 1 : r,
           M(10, "root rounded up", r * r < v ? r + 1 : r,
             M(11, "root one too small", r > 1 ? r - 1 : r, M(12, "root left out", v, r))));
}

static int64_t weight(int i, int n) {
  const int64_t w = waveq_kernel_in_weight[M(13, "weight of the next element", (i + 1) % n,
                                             M(14, "first weight for all", 0, i))];
  return M(15, "weight as 8 bits", (int8_t)w, M(16, "sign of the weight lost", absolute(w), w));
}

/* numerator / deviation, truncating. */
static int64_t divided(int64_t numerator, int64_t deviation) {
  return M(17, "division rounds down", floor_div(numerator, deviation),
           M(18, "division rounds to the nearest", half_away(numerator, deviation),
             M(19, "numerator as 16 bits", (int16_t)numerator / deviation, numerator / deviation)));
}

static int64_t shifted(int64_t v) {
  const int64_t d = WAVEQ_KERNEL_D;
  return M(20, "last shift truncates towards zero", v / d,
           M(21, "last shift rounds to the nearest", half_up(v, d),
             M(22, "last shift one too small", floor_div(2 * v, d), floor_div(v, d))));
}
