/* A*B over leading dimensions that are equal or one. */
#include "harness.h"

/* Largest product of two codes. */
#define MOST_PRODUCT                                                                            \
  (((waveq_kernel_in_A_t)-1 < 0 ? 128 : 255) * ((waveq_kernel_in_B_t)-1 < 0                     \
                                                    ? ((waveq_kernel_in_A_t)-1 < 0 ? 128 : 127) \
                                                    : ((waveq_kernel_in_A_t)-1 < 0 ? 127 : 255)))

#define RANK WAVEQ_KERNEL_OUT0_RANK
#define YS waveq_kernel_out0_shape
#define AS waveq_kernel_in_A_shape
#define BS waveq_kernel_in_B_shape
#ifdef B_CONSTANT
#define B_OF(k) waveq_kernel_in_B
#else
#define B_OF(k) waveq_kernel_in_B[k]
#endif

/* Flat index of the matrix of an operand that belongs to the output's matrix at `at`. */
static size_t matrix(const size_t *at, const size_t *shape) {
  size_t index = 0;
  for (size_t d = 0; d + 2 < RANK; ++d) index = index * shape[d] + (shape[d] == 1 ? 0 : at[d]);
  return index;
}

static void kernel(int k, out_t *y) {
  const int64_t rows = (int64_t)YS[RANK - 2], columns = (int64_t)YS[RANK - 1],
                depth = (int64_t)AS[RANK - 1];
  const size_t batches = OUT_SIZE / (size_t)(rows * columns);
  const int64_t used = M(1, "last product left out", depth - 1,
                         M(2, "products in fours, the rest left out", depth / 4 * 4,
                           M(3, "products in eights, the rest left out", depth / 8 * 8, depth)));
  int64_t acc = 0;
  for (size_t batch = 0; batch < batches; ++batch) {
    size_t at[MOST_DIMENSIONS] = {0}, in_a, in_b;
    size_t rest = batch;
    for (size_t d = RANK - 2; d-- > 0; rest /= YS[d]) at[d] = rest % YS[d];
    in_a = M(4, "A of the first batch for all", (size_t)0, matrix(at, AS));
    in_b = M(5, "B of the first batch for all", (size_t)0, matrix(at, BS));
    for (int64_t m = 0; m < M(6, "last row left out", rows - 1,
                              M(7, "rows in pairs, the odd one left out", rows / 2 * 2, rows));
         ++m)
      for (int64_t n = 0;
           n < M(8, "last column left out", columns - 1,
                 M(9, "columns in pairs, the odd one left out", columns / 2 * 2, columns));
           ++n) {
        acc = M(10, "accumulator not cleared", acc, 0);
        int64_t before = acc;
        for (int64_t i = M(11, "first product left out", 1, 0); i < used; ++i) {
          size_t to_a = in_a * (size_t)(rows * depth) +
                        (size_t)M(12, "A read by columns", i * rows + m, m * depth + i);
          size_t to_b = in_b * (size_t)(depth * columns) +
                        (size_t)M(13, "B read as if transposed", n * depth + i, i * columns + n);
          to_a = M(
              14, "A's row stride is B's",
              (in_a * (size_t)(rows * depth) + (size_t)(m * columns + i)) % WAVEQ_KERNEL_IN_A_SIZE,
              to_a);
          int64_t a = waveq_kernel_in_A[k][to_a], b = B_OF(k)[to_b];
          a = M(15, "A of the other signedness",
                (waveq_kernel_in_A_t)-1 < 0 ? (int64_t)(uint8_t)a : (int64_t)(int8_t)a, a);
          b = M(16, "B of the other signedness",
                (waveq_kernel_in_B_t)-1 < 0 ? (int64_t)(uint8_t)b : (int64_t)(int8_t)b, b);
          acc += M(17, "product in 8 bits", (int8_t)(a * b),
                   M(18, "product saturates at 2^14 - 1", clamp(a * b, -16384, 16383), a * b));
          if (M(22, "pairs of products saturate at 16 bits", i % 2 == 1, 0))
            acc = before + clamp(acc - before, -32768, 32767);
          if (i % 2 == 1) before = acc;
          acc = M(19, "accumulator wraps at 16 bits", (int16_t)acc,
                  M(20, "accumulator saturates at 16 bits", clamp(acc, -32768, 32767), acc));
        }
        const int64_t most = depth * MOST_PRODUCT;
        acc = M(23, "accumulator saturates one short of the worst case",
                clamp(acc, -most, most - 1), acc);
        y[batch * (size_t)(rows * columns) +
          (size_t)M(21, "output transposed", n * rows + m, m * columns + n)] = (out_t)acc;
      }
  }
}
