/* Two tensors joined along one axis. */
#include "harness.h"

#define RANK WAVEQ_KERNEL_OUT0_RANK
#define AS waveq_kernel_input0_shape
#define BS waveq_kernel_input1_shape
#define YS waveq_kernel_out0_shape

static void kernel(int k, out_t *y) {
  const int64_t named = WAVEQ_KERNEL_AXIS;
  const size_t axis = (size_t)(named < 0 ? named + RANK : named);
  for (size_t i = M(1, "first element left out", 1, 0);
       i < M(2, "last element left out", OUT_SIZE - 1, OUT_SIZE); ++i) {
    size_t at[MOST_DIMENSIONS], border = AS[axis], index;
    int second;
    position(i, YS, RANK, at);
    border = M(3, "border one too early", border - 1,
               M(4, "border one too late", border + 1,
                 M(5, "border is the second length", BS[axis], border)));
    second = at[axis] >= border;
    if (second) at[axis] -= border;
    second = M(6, "operands swapped", !second,
               M(7, "first operand for both", 0, M(8, "second operand for both", 1, second)));
    index = second ? flat(at, BS, RANK) : flat(at, AS, RANK);
    index = M(9, "joined along the first axis",
              i < WAVEQ_KERNEL_INPUT0_SIZE ? i : i - WAVEQ_KERNEL_INPUT0_SIZE, index);
    if (M(9, "", 1, 0)) second = i >= WAVEQ_KERNEL_INPUT0_SIZE;
    index = M(10, "second operand's row stride is the first's", second ? flat(at, AS, RANK) : index,
              M(11, "first operand's row stride is the output's",
                second ? index : flat(at, YS, RANK), index));
    index =
        M(12, "second operand one element ahead", second ? index + 1 : index,
          M(13, "first operand from its start for every row", second ? index : at[axis], index));
    y[i] = (out_t)(second ? waveq_kernel_input1[k][index % WAVEQ_KERNEL_INPUT1_SIZE]
                          : waveq_kernel_input0[k][index % WAVEQ_KERNEL_INPUT0_SIZE]);
    y[i] = (out_t)M(14, "values as 7 bits", y[i] & 127, y[i]);
  }
}
