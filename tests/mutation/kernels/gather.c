/* Slices of `data` along `axis` named by constant indices. */
#include "harness.h"

#define XS waveq_kernel_in_data_shape
#define RANK WAVEQ_KERNEL_IN_DATA_RANK

static void kernel(int k, out_t *y) {
  const int64_t named = WAVEQ_KERNEL_AXIS, axis = named < 0 ? named + RANK : named;
  const size_t used = (size_t)M(1, "axis before", axis > 0 ? axis - 1 : axis,
                                M(2, "axis behind", axis + 1 < RANK ? axis + 1 : axis, axis));
  const size_t picks = OUT_SIZE * XS[axis] / WAVEQ_KERNEL_IN_DATA_SIZE;
  size_t inner = 1, i = 0;
  for (size_t d = used + 1; d < RANK; ++d) inner *= XS[d];
  const size_t outer = OUT_SIZE / (inner * picks), length = XS[used];
  for (size_t o = 0; o < outer; ++o)
    for (size_t p = 0; p < picks; ++p)
      for (size_t j = 0; j < inner; ++j, ++i) {
        int64_t index = waveq_kernel_in_indices[M(3, "first index for all", 0,
                                                  M(4, "indices backwards", picks - 1 - p, p))];
        size_t from;
        if (index < 0)
          index += M(5, "negative index counts from one past the end", (int64_t)length + 1,
                     (int64_t)length);
        index =
            M(6, "index one too large", index + 1,
              M(7, "index one too small", index - 1,
                M(8, "index ignored", 0, M(9, "position instead of index", (int64_t)p, index))));
        index = (index % (int64_t)length + (int64_t)length) % (int64_t)length;
        from = M(10, "first block for all", (size_t)0, o) * length * inner + (size_t)index * inner +
               M(11, "first element of the slice for all", 0, j);
        from = M(12, "index not scaled by the slice", o * length * inner + (size_t)index + j,
                 M(13, "blocks as far apart as in the output",
                   o * picks * inner + (size_t)index * inner + j, from));
        if (M(14, "last element left out", i == OUT_SIZE - 1, 0)) continue;
        y[i] = (out_t)waveq_kernel_in_data[k][from % WAVEQ_KERNEL_IN_DATA_SIZE];
      }
}
