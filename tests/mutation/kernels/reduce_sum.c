/* Sum along axes, int32. */
#define DATA waveq_kernel_in_data
#define DATA_SHAPE waveq_kernel_in_data_shape
#define DATA_RANK WAVEQ_KERNEL_IN_DATA_RANK
#define DATA_SIZE WAVEQ_KERNEL_IN_DATA_SIZE
#define data_t waveq_kernel_in_data_t
#include "reduce.h"

static int64_t finish(int64_t sum, int64_t count) {
  const int64_t lowest = (data_t)-1 < 0 ? -128 : 0, highest = (data_t)-1 < 0 ? 127 : 255;
  const int64_t v =
      M(17, "sum saturates one short of the worst case",
        sizeof(data_t) > 1 ? sum : clamp(sum, lowest * count + 1, highest * count - 1), sum);
  return M(18, "mean instead of sum", floor_div(v, count), M(19, "result as 8 bits", (int8_t)v, v));
}
