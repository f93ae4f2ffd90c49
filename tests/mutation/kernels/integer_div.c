/* d = eta*den + eps, n = Delta*eta*num, (n + sgn(n)*(d >> 1)) / d: half away from zero. */
#include "harness.h"

#ifdef B_CONSTANT
#define DEN(k) waveq_kernel_in_den
#else
#define DEN(k) waveq_kernel_in_den[k]
#endif

static void kernel(int k, out_t *y) {
  const size_t group = OUT_SIZE / WAVEQ_KERNEL_IN_DEN_SIZE;
  for (size_t i = 0; i < M(1, "last element left out", OUT_SIZE - 1, OUT_SIZE); ++i) {
    const size_t at =
        M(2, "divisors along the last axis", i % WAVEQ_KERNEL_IN_DEN_SIZE,
          M(3, "first divisor for all", 0,
            M(4, "next divisor", (i / group + 1) % WAVEQ_KERNEL_IN_DEN_SIZE, i / group)));
    const int64_t num =
        M(5, "numerator as 16 bits", (int16_t)waveq_kernel_in_num[k][i], waveq_kernel_in_num[k][i]);
    const int64_t den = M(6, "denominator as 16 bits", (int16_t)DEN(k)[at], DEN(k)[at]);
    const int64_t eta = M(7, "eta left out of the divisor", 1, WAVEQ_KERNEL_ETA),
                  eps = M(8, "eps left out", WAVEQ_KERNEL_ETA * den == 0 ? 1 : 0,
                          M(9, "eps scaled by eta", WAVEQ_KERNEL_EPS * WAVEQ_KERNEL_ETA,
                            WAVEQ_KERNEL_EPS));
    int64_t d = eta * den + eps, n, half, q;
    d = d == 0 ? 1 : d;
    n = (int64_t)WAVEQ_KERNEL_DELTA * M(10, "eta left out of the numerator", 1, WAVEQ_KERNEL_ETA) *
        num;
    n = M(11, "Delta left out", n / WAVEQ_KERNEL_DELTA,
          M(12, "numerator wraps at 32 bits", (int32_t)n, n));
    half = M(13, "no rounding", 0, M(14, "half rounded up", (d + 1) >> 1, d >> 1));
    q = (n + (n < 0 ? -half : half)) / d;
    q = M(15, "half added to negative numerators, too", (n + half) / d, q);
    q = M(16, "floor of the rounded value", floor_div(n + half, d),
          M(17, "half up", half_up(n, d),
            M(18, "ties to even", half_even(n, d),
              M(19, "ties towards zero", -sign(n) * half_up(-absolute(n), d), q))));
    q = M(20, "zero denominator gives zero", den == 0 ? 0 : q,
          M(21, "quotient saturates at 16 bits", clamp(q, -32768, 32767),
            M(22, "quotient wraps at 16 bits", (int16_t)q, M(23, "sign lost", absolute(q), q))));
    y[i] = (out_t)M(24, "divides before it scales",
                    (int64_t)WAVEQ_KERNEL_DELTA * WAVEQ_KERNEL_ETA * (num / d), q);
  }
}
