#include "kernels/dense.h"

// AVX2 and FMA build of the dense kernels; compiled with -mavx2 -mfma (CMakeLists.txt).
#if defined(__AVX2__) && defined(__FMA__)

#include <immintrin.h>

namespace waveq::kernels {

namespace {

struct F32 {
  using T = float;
  using V = __m256;
  static V zero() { return _mm256_setzero_ps(); }
  static V splat(float x) { return _mm256_set1_ps(x); }
  static V load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, V v) { _mm256_storeu_ps(p, v); }
  static V mac(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
};

struct I32 {
  using T = std::int32_t;
  using V = __m256i;
  static V zero() { return _mm256_setzero_si256(); }
  static V splat(std::int32_t x) { return _mm256_set1_epi32(x); }
  static V load(const std::int32_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static void store(std::int32_t* p, V v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
  static V mac(V a, V b, V c) { return _mm256_add_epi32(c, _mm256_mullo_epi32(a, b)); }
};

#include "kernels/dense_f32.inc"
#include "kernels/vector_f32.inc"
#include "kernels/vector_table.inc"

}  // namespace

const Dense* dense_avx2() { return &kTable; }

}  // namespace waveq::kernels

#else

namespace waveq::kernels {
const Dense* dense_avx2() { return nullptr; }
}  // namespace waveq::kernels

#endif
