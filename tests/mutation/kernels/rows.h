/* A kernel that works on one row of the last axis at a time: the including file defines row(x, n,
 * y). */
#include "harness.h"

#define IN_SHAPE waveq_kernel_in_x_shape
#define IN_RANK WAVEQ_KERNEL_IN_X_RANK
#define LENGTH ((int)IN_SHAPE[IN_RANK - 1])
#define MOST_ELEMENTS WAVEQ_KERNEL_IN_X_SIZE
#define IS_SIGNED ((waveq_kernel_in_x_t)-1 < 0)

static void row(const waveq_kernel_in_x_t *x, int n, out_t *y);

static void kernel(int k, out_t *y) {
  const size_t n = (size_t)LENGTH, rows = OUT_SIZE / n;
  for (size_t r = 0; r < M(1, "last row left out", rows - 1, rows); ++r) {
    static out_t result[MOST_ELEMENTS];
    row(waveq_kernel_in_x[k] + M(2, "first row for all", 0, r) * n, (int)n, result);
    memcpy(y + r * n, result, n * sizeof *y);
    if (M(3, "last element of a row left out", 1, 0)) y[r * n + n - 1] = 0x55;
  }
}

/* Length of the part that a bug in an unrolled loop sees. */
static int seen(int n) {
  return M(4, "last element of a row not counted", n > 1 ? n - 1 : n,
           M(5, "elements counted in fours, the rest left out", n >= 4 ? n / 4 * 4 : n,
             M(6, "elements counted in eights, the rest left out", n >= 8 ? n / 8 * 8 : n, n)));
}

static int64_t read_code(waveq_kernel_in_x_t raw) {
  const int64_t x = raw;
  return M(7, "input of the other signedness", IS_SIGNED ? (int64_t)(uint8_t)x : (int64_t)(int8_t)x,
           M(8, "-128 read as -127", x == -128 ? -127 : x, x));
}
