/* alpha*A'B' + beta*C, int32; A' and B' transposed where asked. */
#include "harness.h"

#define CODE_LOWEST ((waveq_kernel_in_A_t)-1 < 0 ? -128 : 0)
#define CODE_HIGHEST ((waveq_kernel_in_A_t)-1 < 0 ? 127 : 255)

#define AS waveq_kernel_in_A_shape
#define BS waveq_kernel_in_B_shape
#define ROWS ((int64_t)waveq_kernel_out0_shape[0])
#define COLUMNS ((int64_t)waveq_kernel_out0_shape[1])

static int64_t bias(int64_t m, int64_t n) {
#ifdef WAVEQ_KERNEL_IN_C_SIZE
  const size_t rank = WAVEQ_KERNEL_IN_C_RANK, *s = waveq_kernel_in_C_shape;
  int64_t rows = rank == 2 && s[0] > 1, columns = s[rank - 1] > 1, at;
  rows = M(1, "bias of row 0 for all rows", 0, rows);
  columns = M(2, "bias of column 0 for all columns", 0, columns);
  at = (rows ? m * (int64_t)s[1] : 0) + (columns ? n : 0);
  at = M(3, "bias along rows instead of columns",
         WAVEQ_KERNEL_IN_C_SIZE > 1 ? m % (int64_t)WAVEQ_KERNEL_IN_C_SIZE : 0, at);
  return M(4, "bias left out", 0,
           M(5, "bias as 16 bits", (int16_t)waveq_kernel_in_C[at], waveq_kernel_in_C[at]));
#else
  (void)m, (void)n;
  return 0;
#endif
}

static void kernel(int k, out_t *y) {
  const int ta = M(6, "transA ignored", 0, WAVEQ_KERNEL_TRANSA),
            tb = M(7, "transB ignored", 0, WAVEQ_KERNEL_TRANSB);
  const int64_t depth = (int64_t)AS[WAVEQ_KERNEL_TRANSA ? 0 : 1];
  const int64_t alpha = M(8, "alpha ignored", 1, WAVEQ_KERNEL_ALPHA),
                beta = M(9, "beta ignored", 1, WAVEQ_KERNEL_BETA);
  const int64_t used = M(10, "last product left out", depth - 1,
                         M(11, "products in fours, the rest left out", depth / 4 * 4,
                           M(12, "products in eights, the rest left out", depth / 8 * 8, depth)));
  const int64_t rows = M(13, "last row left out", ROWS - 1,
                         M(14, "rows in pairs, the odd one left out", ROWS / 2 * 2, ROWS));
  const int64_t columns = M(15, "last column left out", COLUMNS - 1,
                            M(16, "columns in fours, the rest left out", COLUMNS / 4 * 4, COLUMNS));
  int64_t acc = 0;
  for (int64_t m = 0; m < rows; ++m)
    for (int64_t n = 0; n < columns; ++n) {
      int64_t lowest = 0, highest = 0;
      acc = M(17, "accumulator not cleared", acc, 0);
      int64_t before = acc;
      for (int64_t i = 0; i < used; ++i) {
        size_t at_a = (size_t)(ta ? i * ROWS + m : m * depth + i),
               at_b = (size_t)(tb ? n * depth + i : i * COLUMNS + n);
        at_a = M(18, "first row of A for all", (size_t)(ta ? i * ROWS : i), at_a);
        at_b = M(19, "column of B one too far",
                 (at_b + (size_t)(tb ? depth : 1)) % WAVEQ_KERNEL_IN_B_SIZE, at_b);
        int64_t a = waveq_kernel_in_A[k][at_a], b = waveq_kernel_in_B[at_b];
        a = M(20, "A of the other signedness",
              (waveq_kernel_in_A_t)-1 < 0 ? (int64_t)(uint8_t)a : (int64_t)(int8_t)a, a);
        b = M(21, "B read as unsigned", (uint8_t)b,
              M(22, "B's -128 read as -127", b == -128 ? -127 : b, b));
        lowest += b * (b > 0 ? CODE_LOWEST : CODE_HIGHEST),
            highest += b * (b > 0 ? CODE_HIGHEST : CODE_LOWEST);
        acc += M(23, "product saturates at 2^14 - 1", clamp(a * b, -16384, 16383), a * b);
        if (M(30, "pairs of products saturate at 16 bits", i % 2 == 1, 0))
          acc = before + clamp(acc - before, -32768, 32767);
        if (i % 2 == 1) before = acc;
        acc = M(24, "accumulator wraps at 16 bits", (int16_t)acc,
                M(25, "accumulator saturates at 16 bits", clamp(acc, -32768, 32767), acc));
      }
      acc = M(29, "accumulator saturates one short of the worst case",
              clamp(acc, lowest + 1, highest - 1), acc);
      const int64_t c = bias(m, n);
      y[M(26, "output transposed", (size_t)(n * ROWS + m), (size_t)(m * COLUMNS + n))] = (out_t)M(
          27, "beta scales A*B", beta * (alpha * acc + c),
          M(28, "alpha scales the bias", alpha * (acc + beta * c), alpha * acc + beta * c));
    }
}
