#pragma once

#include <cstdint>

/// What one build of the dense kernels offers (private to the graph layer). Every build of
/// dense_f32.inc and vector_f32.inc fills one table; dispatch.cpp picks one at run time. This
/// header is included by translation units compiled for a special instruction set: no standard
/// library beyond <cstdint>, so that none of its inline functions can be emitted with those
/// instructions.
namespace waveq::kernels {

/// Columns of a packed panel.
inline constexpr std::int64_t kPanel = 16;
/// Elements that `panel` arguments must hold for each k.
inline constexpr std::int64_t kPanelScratch = kPanel + 8;

struct Dense {
  /// As kernels::gemm_f32, with B given as K row pointers of N elements each.
  void (*gemm_f32)(std::int64_t M, std::int64_t N, std::int64_t K, const float* A, std::int64_t lda,
                   const float* const* B, const float* bias, float* C, std::int64_t ldc,
                   float* panel);
  /// As kernels::gemm_i32, with B given as K row pointers of N elements each.
  void (*gemm_i32)(std::int64_t M, std::int64_t N, std::int64_t K, const std::int32_t* A,
                   std::int64_t lda, const std::int32_t* const* B, std::int32_t* C,
                   std::int64_t ldc, std::int32_t* panel);
  // y[i] = f(x[i]); x and y may be the same array. See vector_f32.inc for formulas and errors.
  void (*exp)(std::int64_t n, const float* x, float* y);
  void (*expm1)(std::int64_t n, const float* x, float* y);
  void (*erf)(std::int64_t n, const float* x, float* y);
  void (*tanh)(std::int64_t n, const float* x, float* y);
  void (*sigmoid)(std::int64_t n, const float* x, float* y);
};

/// Portable build. Always there.
const Dense& dense_generic();
/// Build for AVX2 and FMA; nullptr where the compiler does not target x86-64. Call its functions
/// only on a CPU that has both.
const Dense* dense_avx2();
/// The fastest build this CPU runs.
const Dense& dense();

/// gemm_f32 and gemm_i32 with B given as K row pointers: lets a convolution read shifted views of
/// its input in place.
void gemm_rows_f32(std::int64_t M, std::int64_t N, std::int64_t K, const float* A, std::int64_t lda,
                   const float* const* B, const float* bias, float* C, std::int64_t ldc);
void gemm_rows_i32(std::int64_t M, std::int64_t N, std::int64_t K, const std::int32_t* A,
                   std::int64_t lda, const std::int32_t* const* B, std::int32_t* C,
                   std::int64_t ldc);

}  // namespace waveq::kernels
