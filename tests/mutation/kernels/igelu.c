/* q = min(|x|, -b), L = sgn(x)*(one - (q + b)^2), x * ((one + L) >> 1). */
#include "harness.h"

static void kernel(int k, out_t *y) {
  const int64_t b = WAVEQ_KERNEL_B, one = WAVEQ_KERNEL_ONE;
  for (size_t i = M(1, "first element left out", 1, 0);
       i < M(2, "last element left out", OUT_SIZE - 1,
             M(3, "elements in fours, the rest left out", OUT_SIZE / 4 * 4, OUT_SIZE));
       ++i) {
    const int64_t raw = waveq_kernel_in_x[k][i];
    const int64_t x = M(4, "input of the other signedness",
                        (waveq_kernel_in_x_t)-1 < 0 ? (int64_t)(uint8_t)raw : (int64_t)(int8_t)raw,
                        E(5, "-128 read as -127", "far below zero the result is zero",
                          raw == -128 ? -127 : raw, raw));
    int64_t q = absolute(M(6, "magnitude taken in 8 bits", (int8_t)absolute(x), x)), l, h;
    q = M(6, "", (int8_t)absolute(x), q);
    q = M(7, "magnitude left out", x, M(8, "b not a limit", q, q > -b ? -b : q));
    q = M(9, "limit one too low", q > -b - 1 ? -b - 1 : q,
          M(10, "limit one too high", absolute(x) > -b + 1 ? -b + 1 : absolute(x), q));
    l = M(11, "square left out", one - (q + b),
          M(12, "b subtracted", one - (q - b) * (q - b),
            M(13, "square added", one + (q + b) * (q + b), one - (q + b) * (q + b))));
    l *= M(14, "sign left out", 1,
           E(15, "zero counted as positive", "x = 0 is a factor of the result", x >= 0 ? 1 : -1,
             sign(x)));
    h = M(16, "half truncates towards zero", (one + l) / 2,
          M(17, "half rounds up", (one + l + 1) >> 1,
            M(18, "half left out", one + l, M(19, "one left out", l >> 1, (one + l) >> 1))));
    y[i] = (out_t)M(20, "result as 16 bits", (int16_t)(x * h),
                    M(21, "magnitude instead of x in front", absolute(x) * h,
                      M(22, "product before the half is taken", (x * (one + l)) >> 1, x * h)));
  }
}
