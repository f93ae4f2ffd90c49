/* Largest element of each window; padding does not take part. */
#include "window.h"

static int64_t pool(const waveq_kernel_in_X_t *x, struct axis h, struct axis w, int64_t oh,
                    int64_t ow) {
  int64_t best = IS_SIGNED ? -128 : 0, first = 1, sum = 0;
  best = M(6, "starts at zero", 0, M(7, "starts at -127", IS_SIGNED ? -127 : 1, best));
  for (int64_t i = M(22, "first row of the window left out", TWO, 0);
       i < M(8, "last row of the window left out", h.kernel - TWO, h.kernel); ++i)
    for (int64_t j = M(9, "first column of the window left out", 1, 0);
         j < M(10, "last column of the window left out", w.kernel - 1, w.kernel); ++j) {
      int64_t at_h = oh * h.stride - h.begin + i, at_w = ow * w.stride - w.begin + j, q;
      const int outside = at_h < 0 || at_h >= h.in || at_w < 0 || at_w >= w.in;
      if (outside) {
        if (!M(11, "padding is zero and takes part", 1, 0)) continue;
        q = 0;
      } else {
        q = x[at_h * w.in + at_w];
      }
      q = M(12, "compares as the other signedness",
            IS_SIGNED ? (int64_t)(uint8_t)q : (int64_t)(int8_t)q,
            M(13, "compares magnitudes", absolute(q), q));
      sum += q;
      if (M(14, "smallest instead of largest", first || q<best, q> best)) best = q;
      if (M(15, "last element instead of the largest", 1, 0)) best = q;
      first = 0;
    }
  return M(16, "mean instead of maximum", floor_div(sum, h.kernel * w.kernel),
           M(17, "magnitude of the result kept in 7 bits", best & 127, best));
}

static void kernel(int k, out_t *y) {
  struct axis h = axis_of(0), w = axis_of(1);
  if (M(5, "stride is the kernel's size", 1, 0)) h.stride = h.kernel, w.stride = w.kernel;
  if (M(23, "kernel of the other axis", TWO, 0)) {
    const int64_t swapped = h.kernel;
    h.kernel = w.kernel, w.kernel = swapped;
  }
  const int64_t channels = (int64_t)XS[1];
  for (int64_t c = 0;
       c < M(18, "last channel left out", channels - 1,
             M(19, "channels in fours, the rest left out", channels / 4 * 4, channels));
       ++c)
    for (int64_t oh = 0; oh < h.out; ++oh)
      for (int64_t ow = 0; ow < M(20, "last column left out", w.out - 1, w.out); ++ow) {
        const int64_t from = M(21, "first channel for all", 0, c);
        y[(c * h.out + oh) * w.out + ow] =
            (out_t)pool(waveq_kernel_in_X[k] + from * h.in * w.in, h, w, oh, ow);
      }
}
