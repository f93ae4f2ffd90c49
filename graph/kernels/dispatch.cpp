#include <vector>

#include "kernels/dense.h"
#include "waveq/graph/kernels.h"

namespace waveq::kernels {

const Dense& dense() {
  static const Dense& chosen = []() -> const Dense& {
#if defined(__x86_64__) || defined(__i386__)
    if (dense_avx2() && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
      return *dense_avx2();
#endif
    return dense_generic();
  }();
  return chosen;
}

namespace {

/// Grows to the largest request of its thread and stays: kernels run thousands of times a second.
template <class T>
T* scratch(std::int64_t count) {
  thread_local std::vector<T> buffer;
  if (static_cast<std::int64_t>(buffer.size()) < count)
    buffer.resize(static_cast<std::size_t>(count));
  return buffer.data();
}

template <class T>
const T* const* rows_of(const T* B, std::int64_t K, std::int64_t ldb) {
  const T** rows = scratch<const T*>(K);
  for (std::int64_t k = 0; k < K; ++k) rows[k] = B + k * ldb;
  return rows;
}

}  // namespace

void gemm_rows_f32(std::int64_t M, std::int64_t N, std::int64_t K, const float* A, std::int64_t lda,
                   const float* const* B, const float* bias, float* C, std::int64_t ldc) {
  if (M <= 0 || N <= 0) return;
  dense().gemm_f32(M, N, K, A, lda, B, bias, C, ldc, scratch<float>(K * kPanelScratch));
}

void gemm_rows_i32(std::int64_t M, std::int64_t N, std::int64_t K, const std::int32_t* A,
                   std::int64_t lda, const std::int32_t* const* B, std::int32_t* C,
                   std::int64_t ldc) {
  if (M <= 0 || N <= 0) return;
  dense().gemm_i32(M, N, K, A, lda, B, C, ldc, scratch<std::int32_t>(K * kPanelScratch));
}

void gemm_f32(std::int64_t M, std::int64_t N, std::int64_t K, const float* A, std::int64_t lda,
              const float* B, std::int64_t ldb, const float* bias, float* C, std::int64_t ldc) {
  gemm_rows_f32(M, N, K, A, lda, rows_of(B, K, ldb), bias, C, ldc);
}

void gemm_i32(std::int64_t M, std::int64_t N, std::int64_t K, const std::int32_t* A,
              std::int64_t lda, const std::int32_t* B, std::int64_t ldb, std::int32_t* C,
              std::int64_t ldc) {
  gemm_rows_i32(M, N, K, A, lda, rows_of(B, K, ldb), C, ldc);
}

}  // namespace waveq::kernels
