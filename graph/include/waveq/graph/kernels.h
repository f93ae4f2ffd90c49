#pragma once

#include <cstdint>

/// The seam behind which dense arithmetic is made fast. Every function states its summation order;
/// each implementation (SIMD width, unrolling) must give the same bits as the plain loop in
/// kernels/reference.cpp.
namespace waveq::kernels {

/// C[m][n] = fma chain over k = 0..K-1, started from bias[m] (0 where bias is null):
///   c = bias[m]; for k: c = fma(A[m][k], B[k][n], c)
/// Row-major with leading dimensions lda, ldb, ldc (elements).
void gemm_f32(std::int64_t M, std::int64_t N, std::int64_t K, const float* A, std::int64_t lda,
              const float* B, std::int64_t ldb, const float* bias, float* C, std::int64_t ldc);

/// C[m][n] = sum_k A[m][k]*B[k][n] modulo 2^32 (two's complement, as the target's int32
/// accumulator). Integer addition is associative: any order gives the same bits.
void gemm_i32(std::int64_t M, std::int64_t N, std::int64_t K, const std::int32_t* A,
              std::int64_t lda, const std::int32_t* B, std::int64_t ldb, std::int32_t* C,
              std::int64_t ldc);

}  // namespace waveq::kernels
