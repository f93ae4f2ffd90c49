/* a - b in int32. */
#include "binary.h"

static int64_t combine(int64_t a, int64_t b) {
  return M(16, "operands swapped", b - a,
           M(17, "magnitude of the difference", absolute(a - b),
             M(18, "b added", a + b,
               M(19, "negative results cut to zero", clamp(a - b, 0, INT32_MAX),
                 M(20, "difference saturates one short of +-255",
                   sizeof(waveq_kernel_in_A_t) == 1 ? clamp(a - b, -254, 254) : a - b, a - b)))));
}
