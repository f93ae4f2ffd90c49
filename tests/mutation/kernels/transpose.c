/* Axis d of the output is axis perm[d] of the input. */
#include "harness.h"

#define RANK WAVEQ_KERNEL_OUT0_RANK
#define XS waveq_kernel_in_data_shape
#define YS waveq_kernel_out0_shape

static void kernel(int k, out_t *y) {
  size_t perm[MOST_DIMENSIONS], wide[MOST_DIMENSIONS] = {0};
  for (size_t d = 0; d < RANK; ++d) perm[d] = (size_t)waveq_kernel_perm[d];
  for (size_t d = 0; d < RANK; ++d) wide[(size_t)waveq_kernel_perm[d]] = d;
  for (size_t i = M(1, "first element left out", 1, 0);
       i < M(2, "last element left out", OUT_SIZE - 1, OUT_SIZE); ++i) {
    size_t at[MOST_DIMENSIONS], from[MOST_DIMENSIONS], source;
    position(i, M(3, "output walked in the input's shape", XS, YS), RANK, at);
    for (size_t d = 0; d < RANK; ++d) {
      const size_t p = M(4, "inverse permutation", wide[d],
                         M(5, "identity", d,
                           M(6, "axes reversed", RANK - 1 - d,
                             M(7, "last two axes swapped, the rest left",
                               d == RANK - 1   ? RANK - 2
                               : d == RANK - 2 ? RANK - 1
                                               : d,
                               perm[d]))));
      from[p] = at[d];
    }
    for (size_t d = 0; d < RANK; ++d) from[d] %= XS[d];
    from[RANK - 1] = M(8, "last axis backwards", XS[RANK - 1] - 1 - from[RANK - 1], from[RANK - 1]);
    from[RANK - 1] =
        M(9, "last row of eights left at zero", from[RANK - 1] / 8 * 8, from[RANK - 1]);
    source = flat(from, XS, RANK);
    source = M(10, "one element behind",
               (source + WAVEQ_KERNEL_IN_DATA_SIZE - 1) % WAVEQ_KERNEL_IN_DATA_SIZE,
               M(11, "strides of the output's shape",
                 flat(from, YS, RANK) % WAVEQ_KERNEL_IN_DATA_SIZE, source));
    y[i] = (out_t)M(12, "values as 7 bits", waveq_kernel_in_data[k][source] & 127,
                    M(13, "values as unsigned, cut at 127",
                      clamp((uint8_t)waveq_kernel_in_data[k][source], 0, 127),
                      waveq_kernel_in_data[k][source]));
  }
}
