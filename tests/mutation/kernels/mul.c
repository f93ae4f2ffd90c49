/* a * b in int32. */
#include "binary.h"

static int64_t combine(int64_t a, int64_t b) {
  return M(16, "added instead", a + b,
           M(17, "product saturates at 2^14 - 1", clamp(a * b, -16384, 16383),
             M(18, "product of magnitudes", absolute(a * b),
               M(19, "product wraps at 16 bits", (int16_t)(a * b),
                 M(20, "second operand as 16 bits", a * (int16_t)b,
                   M(21, "product halved as in fixed point", floor_div(a * b, 2), a * b))))));
}
