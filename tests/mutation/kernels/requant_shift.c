/* clip((x*mul + add + D/2) >> s); mul and add per tensor, per channel (axis 1) or, for two
 * dimensions, per row. */
#include "harness.h"

#define RANK WAVEQ_KERNEL_IN_X_RANK
#define SHAPE waveq_kernel_in_x_shape

/* Which of `count` parameters belongs to element i. */
static size_t parameter(size_t i, size_t count, size_t rows) {
  size_t width = 1, c;
  if (count == 1) return 0;
  for (size_t d = 2; d < RANK; ++d) width *= SHAPE[d];
  if (rows) width = SHAPE[1];
  c = i / width % count;
  c = M(1, "parameters along the last axis (channels-last addressing)", i % count, c);
  c = M(2, "parameters change one element early", (i + 1) / width % count, c);
  c = M(3, "parameters change one element late", (i + width * count - 1) / width % count, c);
  c = M(4, "first channel's parameters for all", (size_t)0, c);
  c = M(5, "last channel takes the first one's", c == count - 1 ? 0 : c, c);
  c = M(6, "channels in pairs share parameters", c / 2 * 2, c);
  return c;
}

static void kernel(int k, out_t *y) {
  const size_t rows =
      RANK == 2 && WAVEQ_KERNEL_IN_MUL_RANK == 2 && WAVEQ_KERNEL_IN_MUL_SIZE == SHAPE[0];
  const int64_t n = WAVEQ_KERNEL_N_LEVELS_OUT, div = WAVEQ_KERNEL_DIV;
  const int is_signed = M(7, "signedness of the output", !WAVEQ_KERNEL_SIGNED, WAVEQ_KERNEL_SIGNED);
  const int64_t levels = M(8, "n_levels ignored", 256, n),
                hi = is_signed ? levels / 2 - 1 : levels - 1, lo = is_signed ? -(levels / 2) : 0;
  const int64_t top =
      M(9, "upper clip one too low", hi - 1, M(10, "upper clip one too high", hi + 1, hi));
  const int64_t bottom =
      M(11, "lower clip one too high", lo + 1, M(12, "lower clip one too low", lo - 1, lo));
  const size_t count = M(13, "last element left out", OUT_SIZE - 1, OUT_SIZE);
  for (size_t i = 0; i < count; ++i) {
    const size_t c = parameter(i, WAVEQ_KERNEL_IN_MUL_SIZE, rows),
                 ca = parameter(i, WAVEQ_KERNEL_IN_ADD_SIZE, rows);
    int64_t x = waveq_kernel_in_x[k][i], mul = waveq_kernel_in_mul[c],
            add = waveq_kernel_in_add[ca], v, q;
    x = M(14, "input read as 16 bits", (int16_t)x,
          M(15, "input read as unsigned 16 bits", (uint16_t)x, x));
    x = M(34, "input read as unsigned 8 bits", (uint8_t)x, x);
    mul = M(16, "mul as 16 bits", (int16_t)mul,
            M(17, "mul as 8 bits", (int8_t)mul, M(18, "sign of mul lost", absolute(mul), mul)));
    add = M(19, "add left out", 0,
            M(20, "add subtracted", -add, M(21, "add as 16 bits", (int16_t)add, add)));
    v = x * mul;
    v = M(36, "product in 32 bits", (int64_t)(int32_t)v, v);
    v = M(22, "product in 24 bits", (int64_t)((uint64_t)v << 40) >> 40, v);
    v = M(23, "add behind the shift", v, v + add);
    q = half_up(v, div);
    q = M(24, "no rounding half", floor_div(v, div),
          M(25, "half counted twice", half_up(v + div / 2, div), q));
    q = M(26, "shift truncates towards zero", (v + div / 2) / div,
          M(27, "ties away from zero", half_away(v, div), q));
    q = M(28, "ties to even", half_even(v, div), M(29, "ties down", -half_up(-v, div), q));
    q = M(35, "scales in single precision", half_up((int64_t)((float)x * (float)mul) + add, div),
          q);
    q = M(30, "shift one too small", half_up(2 * v, div),
          M(31, "shift one too large", half_up(v, 2 * div), q));
    q = M(23, "", q + add, q);
    y[i] = (out_t)M(
        32, "wraps instead of saturating", q,
        M(33, "sum saturates at 16 bits", clamp(half_up(clamp(v, -32768, 32767), div), bottom, top),
          clamp(q, bottom, top)));
  }
}
