/* a + b in int32. */
#include "binary.h"

static int64_t combine(int64_t a, int64_t b) {
  return M(16, "b subtracted", a - b,
           M(17, "the mean of both", floor_div(a + b, 2),
             M(18, "bits joined instead of added", a | b,
               M(19, "sum saturates one short of -256 and 510",
                 sizeof(out_t) == 4 && sizeof(waveq_kernel_in_A_t) == 1 ? clamp(a + b, -255, 509)
                                                                        : a + b,
                 a + b))));
}
