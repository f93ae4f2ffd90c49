#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/dense.h"

using namespace waveq;

namespace {

using Kernel = void (*kernels::Dense::*)(std::int64_t, const float*, float*);

/// Floats spread over all exponents and both signs, plus the neighbourhood of given points.
std::vector<float> samples() {
  std::vector<float> x;
  for (std::uint32_t bits = 0; bits < 0x7f800000u; bits += 37199u)
    for (std::uint32_t sign : {0u, 0x80000000u}) x.push_back(std::bit_cast<float>(bits | sign));
  for (float centre : {0.34f, 0.3465736f, 0.625f, 1.0f, 4.0f, 88.72f, 87.33f, 103.9f, 105.0f})
    for (int i = -200; i <= 200; ++i)
      for (float sign : {1.0f, -1.0f})
        x.push_back(sign * std::bit_cast<float>(std::bit_cast<std::uint32_t>(centre) +
                                                static_cast<std::uint32_t>(i)));
  return x;
}

/// Largest error in units of the last place of the wanted value (of the smallest normal below
/// that); wanted values below `least` need only be missed by no more than it.
template <class F>
double worst_ulp(Kernel kernel, F exact, double least = 0.0) {
  const std::vector<float> x = samples();
  std::vector<float> y(x.size());
  (kernels::dense().*kernel)(static_cast<std::int64_t>(x.size()), x.data(), y.data());
  double worst = 0.0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double want = exact(static_cast<double>(x[i]));
    const float rounded = static_cast<float>(want);
    if (std::isinf(rounded)) {
      CHECK(y[i] == rounded);
      continue;
    }
    if (std::fabs(want) < least) {
      CHECK(std::fabs(static_cast<double>(y[i]) - want) < least);
      continue;
    }
    const double ulp =
        std::ldexp(1.0, std::max(std::ilogb(std::max(std::fabs(want), 0x1p-126)), -126) - 23);
    const double error = std::fabs(static_cast<double>(y[i]) - want) / ulp;
    if (error > worst) worst = error;
  }
  return worst;
}

float one(Kernel kernel, float x) {
  float y = 0.0f;
  (kernels::dense().*kernel)(1, &x, &y);
  return y;
}

}  // namespace

TEST_CASE("vector functions: within the stated units of the last place") {
  CHECK(worst_ulp(&kernels::Dense::exp, [](double x) { return std::exp(x); }) < 1.1);
  CHECK(worst_ulp(&kernels::Dense::expm1, [](double x) { return std::expm1(x); }) < 3.5);
  CHECK(worst_ulp(&kernels::Dense::erf, [](double x) { return std::erf(x); }) < 2.0);
  CHECK(worst_ulp(&kernels::Dense::tanh, [](double x) { return std::tanh(x); }) < 2.0);
  CHECK(worst_ulp(
            &kernels::Dense::sigmoid, [](double x) { return 1.0 / (1.0 + std::exp(-x)); },
            0x1p-126) < 3.0);
}

TEST_CASE("vector functions: limits, zeros and NaN") {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  using kernels::Dense;
  CHECK(one(&Dense::exp, 0.0f) == 1.0f);
  CHECK(one(&Dense::exp, -kInf) == 0.0f);
  CHECK(one(&Dense::exp, kInf) == kInf);
  CHECK(one(&Dense::exp, -103.0f) == 0x1p-149f);
  CHECK(one(&Dense::expm1, -kInf) == -1.0f);
  CHECK(one(&Dense::erf, kInf) == 1.0f);
  CHECK(one(&Dense::erf, -kInf) == -1.0f);
  CHECK(one(&Dense::tanh, -kInf) == -1.0f);
  CHECK(one(&Dense::sigmoid, 0.0f) == 0.5f);
  CHECK(one(&Dense::sigmoid, -kInf) == 0.0f);
  CHECK(one(&Dense::sigmoid, kInf) == 1.0f);
  for (Kernel kernel : {&Dense::erf, &Dense::tanh}) {
    CHECK(std::bit_cast<std::uint32_t>(one(kernel, -0.0f)) == 0x80000000u);
    CHECK(std::bit_cast<std::uint32_t>(one(kernel, 0.0f)) == 0u);
  }
  for (Kernel kernel : {&Dense::exp, &Dense::expm1, &Dense::erf, &Dense::tanh, &Dense::sigmoid})
    for (float sign : {1.0f, -1.0f})
      CHECK(std::isnan(one(kernel, std::copysign(std::numeric_limits<float>::quiet_NaN(), sign))));
}

TEST_CASE("vector functions: every build gives the same bits, in place too") {
  const std::vector<float> x = samples();
  using kernels::Dense;
  for (Kernel kernel : {&Dense::exp, &Dense::expm1, &Dense::erf, &Dense::tanh, &Dense::sigmoid}) {
    std::vector<float> want(x.size()), got = x;
    (kernels::dense_generic().*kernel)(static_cast<std::int64_t>(x.size()), x.data(), want.data());
    (kernels::dense().*kernel)(static_cast<std::int64_t>(x.size()), got.data(), got.data());
    CHECK(std::memcmp(got.data(), want.data(), want.size() * sizeof(float)) == 0);
  }
}

TEST_CASE("vector functions: their bytes are pinned") {
  // FNV-1a over all samples and functions: a change of formula, compiler or CPU that moves a bit
  // shows here.
  const std::vector<float> x = samples();
  std::vector<float> y(x.size());
  std::uint64_t hash = 14695981039346656037u;
  using kernels::Dense;
  for (Kernel kernel : {&Dense::exp, &Dense::expm1, &Dense::erf, &Dense::tanh, &Dense::sigmoid}) {
    (kernels::dense().*kernel)(static_cast<std::int64_t>(x.size()), x.data(), y.data());
    for (float v : y) hash = (hash ^ std::bit_cast<std::uint32_t>(v)) * 1099511628211u;
  }
  CHECK(hash == 18175202799490704280u);
}
