#include "kernels/reference.h"

#include <cmath>

namespace waveq::kernels::reference {

void gemm_f32(std::int64_t M, std::int64_t N, std::int64_t K, const float* A, std::int64_t lda,
              const float* B, std::int64_t ldb, const float* bias, float* C, std::int64_t ldc) {
  for (std::int64_t m = 0; m < M; ++m)
    for (std::int64_t n = 0; n < N; ++n) {
      float c = bias ? bias[m] : 0.0f;
      for (std::int64_t k = 0; k < K; ++k) c = std::fma(A[m * lda + k], B[k * ldb + n], c);
      C[m * ldc + n] = c;
    }
}

void gemm_i32(std::int64_t M, std::int64_t N, std::int64_t K, const std::int32_t* A,
              std::int64_t lda, const std::int32_t* B, std::int64_t ldb, std::int32_t* C,
              std::int64_t ldc) {
  for (std::int64_t m = 0; m < M; ++m)
    for (std::int64_t n = 0; n < N; ++n) {
      std::uint32_t c = 0;
      for (std::int64_t k = 0; k < K; ++k)
        c +=
            static_cast<std::uint32_t>(A[m * lda + k]) * static_cast<std::uint32_t>(B[k * ldb + n]);
      C[m * ldc + n] = static_cast<std::int32_t>(c);
    }
}

}  // namespace waveq::kernels::reference
