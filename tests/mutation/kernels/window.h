/* Windows that slide over one or two axes; one axis is one row of two. */
#include "harness.h"

#define TWO (WAVEQ_KERNEL_IN_X_RANK == 4)
#define XS waveq_kernel_in_X_shape
#define YS waveq_kernel_out0_shape
#define IS_SIGNED ((waveq_kernel_in_X_t)-1 < 0)

struct axis {
  int64_t in, out, kernel, stride, dilation, begin;
};

/* `spatial` counts the axes behind batch and channels. */
static struct axis axis_of(int spatial) {
  const int rank = TWO ? 2 : 1;
  struct axis a = {1, 1, 1, 1, 1, 0};
  if (!TWO && spatial == 0) return a;
  const int i = TWO ? spatial : 0, other = rank - 1 - i;
  const int64_t *strides = waveq_kernel_strides, *pads = waveq_kernel_pads;
  a.in = (int64_t)XS[2 + i];
  a.out = (int64_t)YS[2 + i];
  a.kernel = waveq_kernel_kernel_shape[i];
  a.stride = M(1, "stride of the other axis", TWO ? strides[other] : 1, strides[i]);
  a.dilation = waveq_kernel_dilations[i];
  a.begin = M(2, "pads left out", 0,
              M(3, "pads of begin and end swapped", pads[rank + i],
                M(4, "pads of the other axis", pads[other], pads[i])));
  return a;
}
