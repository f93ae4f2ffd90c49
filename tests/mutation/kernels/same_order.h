/* Reshape, Flatten, Squeeze and Unsqueeze keep the elements in their order. */
#include "harness.h"

#define N OUT_SIZE
#define LAST (DATA_SHAPE[DATA_RANK - 1])

static void kernel(int k, out_t *y) {
  const size_t width = LAST, rows = N / width;
  for (size_t i = M(1, "first element left out", 1, 0);
       i < M(2, "last element left out", N - 1,
             M(3, "elements in fours, the rest left out", N / 4 * 4,
               M(4, "elements in eights, the rest left out", N / 8 * 8, N)));
       ++i) {
    size_t from = M(5, "one element behind", (i + N - 1) % N,
                    M(6, "one element ahead", (i + 1) % N, M(7, "backwards", N - 1 - i, i)));
    int64_t q;
    from = M(8, "last two axes swapped", i % rows * width + i / rows,
             M(9, "first row for all", i % width,
               M(10, "neighbours swapped", (i ^ 1) < N ? (i ^ 1) : i,
                 M(11, "last element twice", i == N - 2 ? N - 1 : i, from))));
    q = DATA[k][from];
    q = M(12, "values as 7 bits", q & 127,
          M(13, "values cut at -127", q == -128 ? -127 : q,
            M(14, "values halved and doubled", q / 2 * 2, q)));
    y[i] = (out_t)q;
  }
}
