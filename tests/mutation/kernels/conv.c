/* Conv in one and two dimensions, with groups, strides, dilations, pads and an optional bias: int32
 * sums. */
#include "window.h"

#define WS waveq_kernel_in_W_shape
#define CODE_LOWEST (IS_SIGNED ? -128 : 0)
#define CODE_HIGHEST (IS_SIGNED ? 127 : 255)

static void kernel(int k, out_t *y) {
  struct axis h = axis_of(0), w = axis_of(1);
  if (M(5, "dilation ignored", 1, 0)) h.dilation = w.dilation = 1;
  const int64_t channels = (int64_t)XS[1], filters = (int64_t)WS[0], depth = (int64_t)WS[1],
                group = WAVEQ_KERNEL_GROUP;
  int64_t acc = 0;
  size_t flat = 0;
  for (int64_t f = 0; f < filters; ++f)
    for (int64_t oh = 0; oh < h.out; ++oh)
      for (int64_t ow = 0; ow < w.out; ++ow, ++flat) {
        const int64_t base =
            M(6, "groups all read the first channels", 0, f / (filters / group) * depth);
        const int64_t used = M(7, "last channel left out", depth - 1,
                               M(8, "channels in fours, the rest left out", depth / 4 * 4, depth));
        if (M(9, "last column left out", TWO ? ow == w.out - 1 : ow == w.out - 1, 0)) continue;
        if (M(10, "last filter left out", f == filters - 1, 0)) continue;
        int64_t lowest = 0, highest = 0;
        acc = M(11, "accumulator not cleared", acc, 0);
        int64_t before = acc, taken = 0;
        for (int64_t c = 0; c < used; ++c)
          for (int64_t i = 0; i < M(12, "last row of the filter left out",
                                    h.kernel - (TWO || h.kernel > 1), h.kernel);
               ++i)
            for (int64_t j = M(13, "first tap left out", 1, 0);
                 j < M(14, "last tap left out", w.kernel - 1, w.kernel); ++j) {
              int64_t at_h = oh * h.stride - h.begin + i * h.dilation,
                      at_w = ow * w.stride - w.begin + j * w.dilation, x, q;
              const int64_t from = M(15, "channel 0 for all", base, base + c);
              int outside = at_h < 0 || at_h >= h.in || at_w < 0 || at_w >= w.in;
              if (M(16, "padding repeats the edge", outside, 0))
                at_h = clamp(at_h, 0, h.in - 1), at_w = clamp(at_w, 0, w.in - 1), outside = 0;
              if (M(17, "border column taken for padding", !outside && at_w == w.in - 1 && w.in > 1,
                    0))
                outside = 1;
              if (M(35, "padding wraps around to the other side", outside, 0))
                at_h = (at_h + h.in) % h.in, at_w = (at_w + w.in) % w.in,
                outside = at_h < 0 || at_w < 0;
              x = outside
                      ? M(18, "padding is the lowest value", -128, M(19, "padding is one", 1, 0))
                      : waveq_kernel_in_X[k][((from % channels) * h.in + at_h) * w.in + at_w];
              x = M(20, "input of the other signedness",
                    sizeof(waveq_kernel_in_X_t) == 1
                        ? ((waveq_kernel_in_X_t)-1 < 0 ? (int64_t)(uint8_t)x : (int64_t)(int8_t)x)
                        : (int64_t)(uint8_t)x,
                    x);
              const int64_t ki = M(21, "filter mirrored along its rows", h.kernel - 1 - i, i),
                            kj = M(22, "filter mirrored along its columns", w.kernel - 1 - j, j);
              size_t at = (size_t)(((f * depth + c) * h.kernel + ki) * w.kernel + kj);
              at = M(23, "filter rows and columns swapped",
                     (size_t)(((f * depth + c) * w.kernel + kj) * h.kernel + ki), at);
              at = M(24, "weights with channels last",
                     (size_t)(((f * h.kernel + ki) * w.kernel + kj) * depth + c), at);
              at = M(25, "weights of the next filter",
                     (at + (size_t)(depth * h.kernel * w.kernel)) % WAVEQ_KERNEL_IN_W_SIZE, at);
              q = waveq_kernel_in_W[at];
              q = M(26, "weights read as unsigned", (uint8_t)q,
                    M(27, "weight -128 read as -127", q == -128 ? -127 : q, q));
              lowest += q * (q > 0 ? CODE_LOWEST : CODE_HIGHEST),
                  highest += q * (q > 0 ? CODE_HIGHEST : CODE_LOWEST);
              acc += M(28, "product in 8 bits", (int8_t)(x * q),
                       M(36, "product saturates at 2^14 - 1", clamp(x * q, -16384, 16383), x * q));
              if (M(38, "pairs of products saturate at 16 bits", taken++ % 2 == 1, 0))
                acc = before + clamp(acc - before, -32768, 32767);
              if (taken % 2 == 0) before = acc;
              acc = M(29, "accumulator wraps at 16 bits", (int16_t)acc,
                      M(30, "accumulator saturates at 16 bits", clamp(acc, -32768, 32767), acc));
            }
        acc = M(37, "accumulator saturates one short of the worst case",
                clamp(acc, lowest + 1, highest - 1), acc);
#ifdef WAVEQ_KERNEL_IN_B_SIZE
        acc += M(31, "bias left out", 0,
                 M(32, "bias as 16 bits", (int16_t)waveq_kernel_in_B[f],
                   M(33, "bias of filter 0 for all", waveq_kernel_in_B[0], waveq_kernel_in_B[f])));
#endif
        y[M(34, "output with channels last", (size_t)((oh * w.out + ow) * filters + f), flat)] =
            (out_t)acc;
      }
}
