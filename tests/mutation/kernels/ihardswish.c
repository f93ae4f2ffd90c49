/* x * (clamp(x + three, 0, six) * one_over_six). */
#include "harness.h"

static void kernel(int k, out_t *y) {
  const int64_t three = WAVEQ_KERNEL_THREE, six = WAVEQ_KERNEL_SIX,
                sixth = WAVEQ_KERNEL_ONE_OVER_SIX;
  for (size_t i = M(1, "first element left out", 1, 0);
       i < M(2, "last element left out", OUT_SIZE - 1,
             M(3, "elements in fours, the rest left out", OUT_SIZE / 4 * 4, OUT_SIZE));
       ++i) {
    const int64_t raw = waveq_kernel_in_x[k][i];
    const int64_t x = M(4, "input of the other signedness",
                        (waveq_kernel_in_x_t)-1 < 0 ? (int64_t)(uint8_t)raw : (int64_t)(int8_t)raw,
                        M(5, "-128 read as -127", raw == -128 ? -127 : raw, raw));
    int64_t t = x + M(6, "three left out", 0, M(7, "three one too small", three - 1, three));
    t = M(8, "sum as 8 bits", (int8_t)t, t);
    t = M(9, "no lower clamp", t > six ? six : t,
          M(10, "no upper clamp", t < 0 ? 0 : t,
            M(11, "upper clamp at three", clamp(t, 0, three),
              M(12, "upper clamp one too low", clamp(t, 0, six - 1),
                M(13, "lower clamp at one", clamp(t, 1, six),
                  M(20, "upper clamp one too high", clamp(t, 0, six + 1), clamp(t, 0, six)))))));
    t *= M(14, "one_over_six left out", 1, sixth);
    y[i] = (out_t)M(15, "x left out", t,
                    M(16, "result as 16 bits", (int16_t)(x * t),
                      M(17, "result saturates at 16 bits", clamp(x * t, -32768, 32767),
                        M(18, "magnitude of x", absolute(x) * t,
                          M(19, "clamped value times itself", t * t, x * t)))));
  }
}
