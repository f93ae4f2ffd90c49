#include "kernels/dense.h"

#include <doctest/doctest.h>

#include <array>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/reference.h"
#include "waveq/graph/kernels.h"

using namespace waveq;

namespace {

/// Every build that this machine can run.
std::vector<const kernels::Dense*> builds() {
  std::vector<const kernels::Dense*> all = {&kernels::dense_generic()};
  if (&kernels::dense() != all.front()) all.push_back(&kernels::dense());
  return all;
}

std::vector<float> random_floats(std::size_t n, std::mt19937_64& engine) {
  std::vector<float> v(n);
  for (float& x : v) x = static_cast<float>(static_cast<double>(engine() >> 11) * 0x1p-52 - 1.0);
  return v;
}

std::vector<std::int32_t> random_ints(std::size_t n, std::mt19937_64& engine) {
  std::vector<std::int32_t> v(n);
  for (std::int32_t& x : v) x = static_cast<std::int32_t>(engine());
  return v;
}

template <class T>
std::vector<const T*> rows(const std::vector<T>& b, std::int64_t K, std::int64_t ld) {
  std::vector<const T*> r;
  for (std::int64_t k = 0; k < K; ++k) r.push_back(b.data() + k * ld);
  return r;
}

/// Compares all builds with the plain loop, in matrices with two columns more than needed.
bool same_bits(std::int64_t M, std::int64_t N, std::int64_t K, std::mt19937_64& engine) {
  const std::int64_t lda = K + 2, ldb = N + 2, ldc = N + 2;
  const auto a = random_floats(static_cast<std::size_t>(M * lda), engine);
  const auto b = random_floats(static_cast<std::size_t>(K * ldb), engine);
  const auto bias = random_floats(static_cast<std::size_t>(M), engine);
  const auto ai = random_ints(static_cast<std::size_t>(M * lda), engine);
  const auto bi = random_ints(static_cast<std::size_t>(K * ldb), engine);
  const float* bias_or_null = engine() % 2 ? bias.data() : nullptr;
  std::vector<float> want(static_cast<std::size_t>(M * ldc), 7.0f),
      panel(static_cast<std::size_t>(K * kernels::kPanelScratch));
  std::vector<std::int32_t> want_i(want.size(), 7), panel_i(panel.size());
  kernels::reference::gemm_f32(M, N, K, a.data(), lda, b.data(), ldb, bias_or_null, want.data(),
                               ldc);
  kernels::reference::gemm_i32(M, N, K, ai.data(), lda, bi.data(), ldb, want_i.data(), ldc);
  bool same = true;
  for (const kernels::Dense* build : builds()) {
    std::vector<float> got(want.size(), 7.0f);
    std::vector<std::int32_t> got_i(want.size(), 7);
    build->gemm_f32(M, N, K, a.data(), lda, rows(b, K, ldb).data(), bias_or_null, got.data(), ldc,
                    panel.data());
    build->gemm_i32(M, N, K, ai.data(), lda, rows(bi, K, ldb).data(), got_i.data(), ldc,
                    panel_i.data());
    same = same && std::memcmp(got.data(), want.data(), got.size() * sizeof(float)) == 0 &&
           got_i == want_i;
  }
  return same;
}

}  // namespace

TEST_CASE("gemm: every build gives the bits of the plain loop, sizes 1 to 40") {
  std::mt19937_64 engine(1);
  for (std::int64_t M = 1; M <= 40; M += M < 12 ? 1 : 7)
    for (std::int64_t N = 1; N <= 40; ++N)
      for (std::int64_t K = 1; K <= 40; K += K < 5 ? 1 : 7) {
        INFO("M=" << M << " N=" << N << " K=" << K);
        REQUIRE(same_bits(M, N, K, engine));
      }
}

TEST_CASE("gemm: every build gives the bits of the plain loop, shapes of convolutions") {
  std::mt19937_64 engine(2);
  const std::vector<std::array<std::int64_t, 3>> shapes = {
      {1, 4096, 5},  {4, 517, 2},  {128, 16, 64}, {35, 1, 64}, {9, 33, 640},
      {1, 200, 300}, {40, 40, 40}, {2, 71, 9},    {300, 5, 3}, {33, 7, 70}};
  for (const auto& s : shapes) {
    INFO("M=" << s[0] << " N=" << s[1] << " K=" << s[2]);
    CHECK(same_bits(s[0], s[1], s[2], engine));
  }
}

TEST_CASE("gemm: no products leave the bias, or zero") {
  const std::vector<float> bias = {1.5f, -2.0f};
  std::vector<float> c(6, 9.0f);
  kernels::gemm_f32(2, 3, 0, nullptr, 0, nullptr, 3, bias.data(), c.data(), 3);
  CHECK(c == std::vector<float>{1.5f, 1.5f, 1.5f, -2.0f, -2.0f, -2.0f});
  std::vector<std::int32_t> ci(2, 9);
  kernels::gemm_i32(1, 2, 0, nullptr, 0, nullptr, 2, ci.data(), 2);
  CHECK(ci == std::vector<std::int32_t>{0, 0});
}

TEST_CASE("gemm_f32: a product and its sum are rounded once") {
  // (1 + 2^-12)^2 = 1 + 2^-11 + 2^-24; minus (1 + 2^-11) leaves 2^-24 only without rounding in
  // between.
  const float a[] = {1.0f + 0x1p-12f}, b[] = {1.0f + 0x1p-12f}, bias[] = {-(1.0f + 0x1p-11f)};
  float c = 0.0f;
  kernels::gemm_f32(1, 1, 1, a, 1, b, 1, bias, &c, 1);
  CHECK(c == 0x1p-24f);
}

TEST_CASE("gemm_f32: what was not computed does not leak NaN from padding or neighbours") {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  // Columns 3 and 4 of B lie behind N = 3.
  const std::vector<float> a = {2.0f, kNan, 3.0f, kNan}, b = {1, 2, 3, kNan, kNan};
  std::vector<float> c(6);
  kernels::gemm_f32(2, 3, 1, a.data(), 2, b.data(), 5, nullptr, c.data(), 3);
  CHECK(c == std::vector<float>{2, 4, 6, 3, 6, 9});
}

TEST_CASE("gemm_i32: wraps modulo 2^32") {
  const std::int32_t big = std::numeric_limits<std::int32_t>::min();
  const std::int32_t a[] = {big, 65536}, b[] = {-1, 65536 + 1};
  std::int32_t c = 0;
  kernels::gemm_i32(1, 1, 2, a, 2, b, 1, &c, 1);
  CHECK(c == std::numeric_limits<std::int32_t>::min() + 65536);
}
