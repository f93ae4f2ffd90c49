/* data[starts:ends:steps] along given axes. */
#include "harness.h"

#define RANK WAVEQ_KERNEL_OUT0_RANK
#define XS waveq_kernel_in_data_shape
#define YS waveq_kernel_out0_shape

static void kernel(int k, out_t *y) {
  for (size_t i = 0; i < M(1, "last element left out", OUT_SIZE - 1, OUT_SIZE); ++i) {
    size_t at[MOST_DIMENSIONS], from[MOST_DIMENSIONS], source;
    position(i, YS, RANK, at);
    memcpy(from, at, sizeof from);
    for (size_t s = 0; s < M(2, "only the first axis sliced", (size_t)1, WAVEQ_KERNEL_IN_AXES_SIZE);
         ++s) {
      const int64_t named = waveq_kernel_in_axes[s], axis = named < 0 ? named + RANK : named;
      const int64_t d = M(3, "next axis", (axis + 1) % RANK,
                          M(4, "axes counted from zero whatever is named", (int64_t)s, axis));
      int64_t start = waveq_kernel_in_starts[s], step = waveq_kernel_in_steps[s], q;
      start = start < 0 ? start + (int64_t)XS[axis] : start;
      start =
          M(5, "start ignored", 0,
            M(6, "start one too late", start + 1, M(7, "start one too early", start - 1, start)));
      step = M(8, "step ignored", 1, M(9, "step one too large", step + 1, step));
      q = start + (int64_t)at[axis] * step;
      q = M(
          10, "start scaled by the step", start * step + (int64_t)at[axis] * step,
          M(11, "counted from the end", waveq_kernel_in_ends[s] - 1 - (int64_t)at[axis] * step, q));
      from[d] = (size_t)(((q % (int64_t)XS[d]) + (int64_t)XS[d]) % (int64_t)XS[d]);
    }
    source = flat(from, XS, RANK);
    source = M(12, "row stride of the output", flat(from, YS, RANK) % WAVEQ_KERNEL_IN_DATA_SIZE,
               M(13, "copied from the front", i, source));
    y[i] = (out_t)M(14, "values as 7 bits", waveq_kernel_in_data[k][source] & 127,
                    waveq_kernel_in_data[k][source]);
  }
}
