/* Mean along axes: a power of two rounds half up, any other count half away from zero. */
#include "reduce.h"

static int64_t finish(int64_t sum, int64_t count) {
  const int power_of_two = (count & (count - 1)) == 0;
  const int64_t y = power_of_two ? half_up(sum, count) : half_away(sum, count);
  return M(17, "sum instead of mean", sum,
           M(18, "no rounding", floor_div(sum, count),
             M(19, "truncates towards zero", sum / count,
               M(20, "half added to negative sums, too, then truncates", (sum + count / 2) / count,
                 M(21, "ties down", -half_up(-sum, count),
                   M(22, "ties to even", half_even(sum, count),
                     M(23, "counts one element too many", half_up(sum, count + 1), y)))))));
}
