#include "kernels/dense.h"

// Portable build of the dense kernels: the order is the one of dense_f32.inc, the vector a plain
// array.
namespace waveq::kernels {

namespace {

struct F32 {
  using T = float;
  struct V {
    float lane[8];
  };
  static V zero() { return splat(0.0f); }
  static V splat(float x) { return {{x, x, x, x, x, x, x, x}}; }
  static V load(const float* p) {
    V v;
    for (int i = 0; i < 8; ++i) v.lane[i] = p[i];
    return v;
  }
  static void store(float* p, const V& v) {
    for (int i = 0; i < 8; ++i) p[i] = v.lane[i];
  }
  // The builtin: std::fma may be a function template of the standard library, see dense.h.
  static V mac(const V& a, const V& b, V c) {
    for (int i = 0; i < 8; ++i) c.lane[i] = __builtin_fmaf(a.lane[i], b.lane[i], c.lane[i]);
    return c;
  }
};

struct I32 {
  using T = std::int32_t;
  struct V {
    std::uint32_t lane[8];  // unsigned: overflow is defined and means modulo 2^32
  };
  static V zero() { return splat(0); }
  static V splat(std::int32_t x) {
    V v;
    for (int i = 0; i < 8; ++i) v.lane[i] = static_cast<std::uint32_t>(x);
    return v;
  }
  static V load(const std::int32_t* p) {
    V v;
    for (int i = 0; i < 8; ++i) v.lane[i] = static_cast<std::uint32_t>(p[i]);
    return v;
  }
  static void store(std::int32_t* p, const V& v) {
    for (int i = 0; i < 8; ++i) p[i] = static_cast<std::int32_t>(v.lane[i]);
  }
  static V mac(const V& a, const V& b, V c) {
    for (int i = 0; i < 8; ++i) c.lane[i] += a.lane[i] * b.lane[i];
    return c;
  }
};

#include "kernels/dense_f32.inc"
#include "kernels/vector_f32.inc"
#include "kernels/vector_table.inc"

}  // namespace

const Dense& dense_generic() { return kTable; }

}  // namespace waveq::kernels
