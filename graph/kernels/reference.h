#pragma once

#include <cstdint>

/// The plain loops that state the order of summation of kernels.h; every fast build must equal them
/// bit for bit. Same arguments and meaning as there.
namespace waveq::kernels::reference {

void gemm_f32(std::int64_t M, std::int64_t N, std::int64_t K, const float* A, std::int64_t lda,
              const float* B, std::int64_t ldb, const float* bias, float* C, std::int64_t ldc);
void gemm_i32(std::int64_t M, std::int64_t N, std::int64_t K, const std::int32_t* A,
              std::int64_t lda, const std::int32_t* B, std::int64_t ldb, std::int32_t* C,
              std::int64_t ldc);

}  // namespace waveq::kernels::reference
