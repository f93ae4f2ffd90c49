/* A frame of one value. */
#include "harness.h"

#define RANK WAVEQ_KERNEL_OUT0_RANK
#define XS waveq_kernel_in_data_shape
#define YS waveq_kernel_out0_shape

static void kernel(int k, out_t *y) {
  const int64_t value = M(1, "fills with zero", 0,
                          M(2, "fills with one more", WAVEQ_KERNEL_VALUE + 1,
                            M(3, "fills with the value's magnitude", absolute(WAVEQ_KERNEL_VALUE),
                              WAVEQ_KERNEL_VALUE)));
  for (size_t i = 0; i < M(4, "last element left out", OUT_SIZE - 1, OUT_SIZE); ++i) {
    size_t at[MOST_DIMENSIONS], from[MOST_DIMENSIONS];
    int outside = 0;
    position(i, YS, RANK, at);
    for (size_t d = 0; d < RANK; ++d) {
      const size_t end = RANK - 1, peer = d + 1 < RANK ? d + 1 : d - 1;
      int64_t begin = waveq_kernel_pads[d], q;
      begin = M(5, "begin and end swapped", waveq_kernel_pads[RANK + d],
                M(6, "pads of the neighbouring axis", waveq_kernel_pads[peer],
                  M(7, "everything one to the left", d == end ? begin - 1 : begin,
                    M(8, "everything one to the right", d == end ? begin + 1 : begin,
                      M(9, "no padding in front", 0, begin)))));
      q = (int64_t)at[d] - begin;
      if (M(10, "edge repeated", 1, 0)) q = clamp(q, 0, (int64_t)XS[d] - 1);
      if (M(11, "reflected at the edge", q < 0 || q >= (int64_t)XS[d], 0))
        q = XS[d] == 1 ? 0
            : absolute(q) % (2 * ((int64_t)XS[d] - 1)) < (int64_t)XS[d]
                ? absolute(q) % (2 * ((int64_t)XS[d] - 1))
                : 2 * ((int64_t)XS[d] - 1) - absolute(q) % (2 * ((int64_t)XS[d] - 1));
      if (M(12, "last column of the data taken for padding", d == end && q == (int64_t)XS[d] - 1,
            0))
        outside = 1;
      outside |= q < 0 || q >= (int64_t)XS[d];
      from[d] = (size_t)clamp(q, 0, (int64_t)XS[d] - 1);
    }
    if (M(13, "padding at the end copied from the first element", outside && i == OUT_SIZE - 1, 0))
      outside = 0;
    y[i] = (out_t)(outside ? value : waveq_kernel_in_data[k][flat(from, XS, RANK)]);
  }
}
