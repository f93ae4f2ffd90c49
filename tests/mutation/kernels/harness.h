/* What every kernel here is built with: one instance's vectors.h (named by VECTORS), a switch that
   turns one bug on, and a main() that tells which bugs the vectors expose.

   A kernel file defines kernel(k, y), which computes case k. Each place that a bug can sit in reads
     M(number, "what is wrong", wrong, right)
   and computes `right` unless that bug is on. E in place of M marks a bug that no input can show;
   its reason stands beside it. score.py reads numbers and texts from the source. Bug 0 is none. */
#ifndef WAVEQ_MUTATION_HARNESS_H
#define WAVEQ_MUTATION_HARNESS_H

#include <stdio.h>
#include <string.h>

#define WAVEQ_PRINTF(...) ((void)0) /* thousands of mismatches are expected */
#include VECTORS

static int mutant;
#define M(number, what, wrong, right) (mutant == (number) ? (wrong) : (right))
#define E(number, what, reason, wrong, right) (mutant == (number) ? (wrong) : (right))

typedef waveq_kernel_out0_t out_t;
#define OUT_SIZE WAVEQ_KERNEL_OUT0_SIZE
static void kernel(int k, out_t *y);

static inline int64_t clamp(int64_t x, int64_t lo, int64_t hi) {
  return x < lo ? lo : x > hi ? hi : x;
}
static inline int64_t sign(int64_t x) { return (x > 0) - (x < 0); }
static inline int64_t absolute(int64_t x) { return x < 0 ? -x : x; }

/* Quotients for b > 0: towards minus infinity; to the nearest, ties up, away from zero, to even. */
static inline int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }
static inline int64_t half_up(int64_t a, int64_t b) { return floor_div(2 * a + b, 2 * b); }
static inline int64_t half_away(int64_t a, int64_t b) { return sign(a) * half_up(absolute(a), b); }
static inline int64_t half_even(int64_t a, int64_t b) {
  const int64_t q = half_up(a, b);
  return 2 * (a - q * b) == -b && q % 2 != 0 ? q - 1 : q;
}

/* x with 11 significant bits, truncated. */
static inline double eleven_bits(double x) {
  double unit = 1;
  if (x == 0) return x;
  while (x / unit >= 2048 || x / unit <= -2048) unit *= 2;
  while (x / unit < 1024 && x / unit > -1024) unit /= 2;
  return (double)(int64_t)(x / unit) * unit;
}

/* Row-major walk over a tensor of `rank` dimensions: flat index to position and back. */
#define MOST_DIMENSIONS 6
static inline void position(size_t flat, const size_t *shape, size_t rank, size_t *at) {
  for (size_t d = rank; d-- > 0; flat /= shape[d]) at[d] = flat % shape[d];
}
static inline size_t flat(const size_t *at, const size_t *shape, size_t rank) {
  size_t index = 0;
  for (size_t d = 0; d < rank; ++d) index = index * shape[d] + at[d];
  return index;
}

int main(void) {
  for (mutant = 0; mutant <= MUTANTS; ++mutant) {
    int exposed_by = 0;
    for (int k = 0; k < WAVEQ_KERNEL_CASES; ++k) {
      static out_t y[OUT_SIZE];
      memset(y, 0x55, sizeof y); /* what a kernel does not write must not be right by chance */
      kernel(k, y);
      exposed_by += WAVEQ_KERNEL_CHECK(k, y) != 0;
    }
    printf("%d %d\n", mutant, exposed_by);
  }
  return 0;
}

#endif
