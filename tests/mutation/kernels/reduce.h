/* Sums along given axes; a file that includes this defines finish(sum, count). */
#include "harness.h"

#define RANK DATA_RANK

static int64_t finish(int64_t sum, int64_t count);

static int reduced_axis(size_t d) {
  const size_t n = sizeof waveq_kernel_axes / sizeof waveq_kernel_axes[0];
  for (size_t i = 0; i < M(1, "only the first of the axes", (size_t)1, n); ++i) {
    int64_t a = waveq_kernel_axes[i];
    a = a < 0 ? a + RANK : a;
    a = M(2, "axis before", a > 0 ? a - 1 : a, M(3, "axis behind", a + 1 < RANK ? a + 1 : a, a));
    if ((size_t)a == d) return 1;
  }
  return 0;
}

static void kernel(int k, out_t *y) {
  static int64_t sums[DATA_SIZE], seen[DATA_SIZE];
  size_t kept[MOST_DIMENSIONS], outputs = 1;
  for (size_t d = 0; d < RANK; ++d) outputs *= kept[d] = reduced_axis(d) ? 1 : DATA_SHAPE[d];
  memset(seen, 0, sizeof seen);
  if (M(4, "sums not cleared", 0, 1)) memset(sums, 0, sizeof sums);
  for (size_t i = M(5, "first element left out", 1, 0);
       i < M(6, "last element left out", DATA_SIZE - 1,
             M(7, "elements in fours, the rest left out", DATA_SIZE / 4 * 4, DATA_SIZE));
       ++i) {
    size_t at[MOST_DIMENSIONS], to;
    int64_t x = DATA[k][i];
    position(i, DATA_SHAPE, RANK, at);
    for (size_t d = 0; d < RANK; ++d) at[d] = kept[d] == 1 ? 0 : at[d];
    to = flat(at, kept, RANK);
    x = M(8, "input of the other signedness",
          (data_t)-1 < 0 ? (int64_t)(uint8_t)x : (int64_t)(int8_t)x,
          M(9, "-128 read as -127", x == -128 ? -127 : x,
            M(10, "magnitudes summed", absolute(x), x)));
    sums[to] += x;
    sums[to] =
        M(11, "sum wraps at 8 bits", (int8_t)sums[to],
          M(12, "sum saturates at 8 bits", clamp(sums[to], -128, 127),
            M(13, "sum wraps at 12 bits", (int64_t)((uint64_t)sums[to] << 52) >> 52, sums[to])));
    ++seen[to];
  }
  for (size_t o = 0; o < OUT_SIZE && o < outputs; ++o) {
    const int64_t v = finish(
        sums[M(14, "outputs backwards", outputs - 1 - o, M(15, "first output for all", 0, o))],
        (int64_t)(DATA_SIZE / OUT_SIZE));
    if (M(16, "last output left out", o == OUT_SIZE - 1, 0)) continue;
    y[o] = (out_t)v;
  }
}
