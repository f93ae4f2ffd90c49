/* ((x*weight + bias) * mul) >> log2 D in int32, low 8 bits. */
#include "harness.h"

#define IN_SHAPE waveq_kernel_in_x_shape
#define IN_RANK WAVEQ_KERNEL_IN_X_RANK

static void kernel(int k, out_t *y) {
  const size_t n = WAVEQ_KERNEL_IN_WEIGHT_SIZE;
  const int64_t d = WAVEQ_KERNEL_D,
                mul = M(1, "mul left out", 1,
                        M(2, "mul as 8 bits", (int8_t)WAVEQ_KERNEL_MUL,
                          M(3, "sign of mul lost", absolute(WAVEQ_KERNEL_MUL), WAVEQ_KERNEL_MUL)));
  for (size_t i = M(4, "first element left out", 1, 0);
       i < M(5, "last element left out", OUT_SIZE - 1,
             M(6, "elements in fours, the rest left out", OUT_SIZE / 4 * 4, OUT_SIZE));
       ++i) {
    const size_t at = M(7, "parameters along the first axis", i / (OUT_SIZE / n),
                        M(8, "parameters of the next element", (i + 1) % n,
                          M(9, "first parameters for all", 0, i % n)));
    int64_t x = waveq_kernel_in_x[k][i], w = waveq_kernel_in_weight[at],
            b = waveq_kernel_in_bias[at], v, q;
    x = M(10, "input of the other signedness",
          (waveq_kernel_in_x_t)-1 < 0 ? (int64_t)(uint8_t)x : (int64_t)(int8_t)x,
          M(11, "-128 read as -127", x == -128 ? -127 : x, x));
    w = M(12, "weight read as unsigned", (uint8_t)w, w);
    b = M(13, "bias left out", 0, M(14, "bias as 16 bits", (int16_t)b, b));
    v = (x * w + b) * mul;
    v = M(15, "bias behind mul", x * w * mul + b,
          M(16, "sum as 16 bits", (int16_t)(x * w + b) * mul, v));
    q = floor_div(v, d);
    q = M(17, "rounds to the nearest", half_up(v, d),
          M(18, "truncates towards zero", v / d,
            M(19, "shift one too small", floor_div(2 * v, d),
              M(20, "shift one too large", floor_div(v, 2 * d), q))));
    y[i] = (out_t)M(21, "saturates at 126", clamp(q, -128, 126),
                    M(22, "saturates at -127", clamp(q, -127, 127), q));
  }
}
