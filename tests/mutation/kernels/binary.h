/* Two operands, element by element, broadcast as NumPy does; a file that includes this defines
 * COMBINE(a, b). */
#include "harness.h"

#ifdef B_CONSTANT
#define B_OF(k) waveq_kernel_in_B
#else
#define B_OF(k) waveq_kernel_in_B[k]
#endif

static int64_t combine(int64_t a, int64_t b);

/* Flat index in an operand of `rank` dimensions for the output element at `at`. */
static size_t operand(const size_t *at, const size_t *shape, size_t rank) {
  const size_t missing = WAVEQ_KERNEL_OUT0_RANK - rank;
  size_t index = 0;
  for (size_t d = 0; d < rank; ++d)
    index = index * shape[d] + (shape[d] == 1 ? 0 : at[missing + d]);
  return index;
}

static int64_t other_sign(int64_t x, size_t bytes, int is_signed) {
  if (bytes == 1) return is_signed ? (int64_t)(uint8_t)x : (int64_t)(int8_t)x;
  return (uint8_t)x;
}

static void kernel(int k, out_t *y) {
  size_t count = M(1, "last element left out", OUT_SIZE - 1,
                   M(2, "elements in pairs, the odd one left out", OUT_SIZE / 2 * 2,
                     M(3, "elements in fours, the rest left out", OUT_SIZE / 4 * 4, OUT_SIZE)));
  for (size_t i = M(4, "first element left out", 1, 0); i < count; ++i) {
    size_t at[MOST_DIMENSIONS], ia, ib;
    int64_t a, b, v;
    position(i, waveq_kernel_out0_shape, WAVEQ_KERNEL_OUT0_RANK, at);
    ia = operand(at, waveq_kernel_in_A_shape, WAVEQ_KERNEL_IN_A_RANK);
    ib = operand(at, waveq_kernel_in_B_shape, WAVEQ_KERNEL_IN_B_RANK);
    ia = M(5, "first operand one element behind", ia == 0 ? 0 : ia - 1, ia);
    ib = M(6, "second operand one element ahead", (ib + 1) % WAVEQ_KERNEL_IN_B_SIZE,
           M(7, "second operand's first element for all", (size_t)0,
             M(8, "second operand repeated along the wrong axis", i % WAVEQ_KERNEL_IN_B_SIZE, ib)));
    a = waveq_kernel_in_A[k][ia];
    b = B_OF(k)[ib];
    a = M(9, "first operand of the other signedness",
          other_sign(a, sizeof(waveq_kernel_in_A_t), (waveq_kernel_in_A_t)-1 < 0), a);
    b = M(10, "second operand of the other signedness",
          other_sign(b, sizeof(waveq_kernel_in_B_t), (waveq_kernel_in_B_t)-1 < 0), b);
    a = M(11, "first operand's -128 read as -127", a == -128 ? -127 : a, a);
    v = combine(a, b);
    v = M(12, "result wraps at 8 bits", (int8_t)v,
          M(13, "result saturates at 8 bits", clamp(v, -128, 127), v));
    v = M(14, "second operand left out", a, M(15, "first operand twice", combine(a, a), v));
    y[i] = (out_t)v;
  }
}
