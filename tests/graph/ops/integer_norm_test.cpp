#include <doctest/doctest.h>

#include <algorithm>

#include "integer_run.h"
#include "waveq/graph/integer_arithmetic.h"

namespace waveq {

using namespace test;

namespace {

using Row = std::vector<std::int32_t>;

Row layernorm(const Row& x, const Row& w, const Row& b, int log2_d,
              Overflow overflow = Overflow::error) {
  Row y(x.size());
  ilayernorm(x, w, b, log2_d, y, overflow);
  return y;
}

Row rmsnorm(const Row& x, const Row& w, int log2_d, Overflow overflow = Overflow::error) {
  Row y(x.size());
  irmsnorm(x, w, log2_d, y, overflow);
  return y;
}

Wide root_reference(Wide v) {
  Wide r = 0;
  while ((r + 1) * (r + 1) <= v) ++r;
  return r;
}

Wide truncated(Wide a, Wide b) { return a < 0 ? -(-a / b) : a / b; }

}  // namespace

TEST_CASE("isqrt: exact around every square and at the ends") {
  CHECK(isqrt(0) == 0);
  CHECK(isqrt(-5) == 0);
  for (std::int64_t k = 1; k <= 46341; ++k) {
    REQUIRE(isqrt(k * k - 1) == k - 1);
    REQUIRE(isqrt(k * k) == k);
    REQUIRE(isqrt(k * k + 1) == k);
  }
  CHECK(isqrt(9223372036854775807) == 3037000499);
  CHECK(isqrt(std::int64_t{3037000499} * 3037000499) == 3037000499);
}

TEST_CASE("ilayernorm: literal row with a truncated negative mean") {
  // sum -10, mean -2 (not -3); t = 3 3 -1 -4 0, v = 26/4 + 1 = 7, root 2.
  CHECK(layernorm({1, -3, -6, -2}, {16, 16, 16, 16}, {0, 0, 0, 0}, 0) == Row{24, -8, -32, 0});
  // The quotient truncates, the shift floors: -1*15/2 = -7, -7 >> 1 = -4.
  CHECK(layernorm({1, -3, -6, -2}, {15, 15, 15, 15}, {0, 0, 0, 1}, 1) == Row{11, -4, -15, 0});
}

TEST_CASE("ilayernorm: a constant row has deviation 1 and gives the bias") {
  CHECK(layernorm({-128, -128, -128}, {100, 100, 100}, {64, -64, 3}, 1) == Row{32, -32, 1});
}

TEST_CASE("ilayernorm: outside int8 is an error or wraps") {
  CHECK(layernorm({0, 0}, {1, 1}, {127, -128}, 0) == Row{127, -128});
  CHECK_THROWS_AS(layernorm({0, 0}, {1, 1}, {128, 0}, 0), Error);
  CHECK(layernorm({0, 0}, {1, 1}, {128, -129}, 0, Overflow::wrap) == Row{-128, 127});
}

TEST_CASE("ilayernorm_wide: literal rows of 16 bits, epsilon in squared steps") {
  Row y(4);
  // sum -10, mean -2, t = 3 -1 -4 0; v = 26/4 + 10 = 16, root 4: the quotients of 16*t truncate.
  ilayernorm_wide(Row{1, -3, -6, -2}, Row(4, 16), Row(4, 0), 0, 10, y);
  CHECK(y == Row{12, -4, -16, 0});
  ilayernorm_wide(Row{1, -3, -6, -2}, Row(4, 15), Row{0, 0, 0, 1}, 1, 10, y);
  CHECK(y == Row{5, -2, -8, 0});
  // t = 32767 -32768 0 0 (mean -1/4 -> 0), v = (32767^2 + 32768^2)/4 + 1, root 23170: beyond int32
  // in the sum, beyond int8 in the result.
  ilayernorm_wide(Row{32767, -32768, 0, 0}, Row(4, 1 << 20), Row(4, 0), 4, 1, y);
  CHECK(y == Row{92680, -92684, 0, 0});
  CHECK_THROWS_AS(ilayernorm_wide(Row{32767, -32768, 0, 0}, Row(4, 2147483647), Row(4, 0), 0, 1, y), Error);
  CHECK_THROWS_AS(ilayernorm_wide(Row{65536, 0, 0, 0}, Row(4, 1), Row(4, 0), 0, 1, y), Error);
  for (const std::int64_t epsilon : {std::int64_t{0}, kLayerNormLargestEpsilon + 1})
    CHECK_THROWS_AS(ilayernorm_wide(Row{1, 0, 0, 0}, Row(4, 1), Row(4, 0), 0, epsilon, y), Error);
}

TEST_CASE("ilayernorm_wide: equals the definition on random rows") {
  Draw draw(43);
  int kept = 0;
  for (int i = 0; i < 3000; ++i) {
    const auto n = static_cast<std::size_t>(draw(1, 40));
    const int log2_d = static_cast<int>(draw(0, 22));
    const std::int64_t epsilon = std::int64_t{1} << draw(0, 40);
    Row x(n), w(n), b(n), y(n);
    for (std::size_t j = 0; j < n; ++j) {
      x[j] = static_cast<std::int32_t>(draw(-32768, i % 2 ? 65535 : 32767));
      w[j] = static_cast<std::int32_t>(draw(-(1 << 30), 1 << 30));
      b[j] = static_cast<std::int32_t>(draw(-(1 << 30), 1 << 30));
    }
    Wide sum = 0, squares = 0;
    for (std::int32_t v : x) sum += v;
    const Wide count = static_cast<Wide>(n), mean = truncated(sum, count);
    for (std::int32_t v : x) squares += (v - mean) * (v - mean);
    const Wide root = root_reference(squares / count + epsilon);
    Row expected;
    bool fits = true;
    for (std::size_t j = 0; j < n; ++j) {
      const Wide v = floor_of(truncated((x[j] - mean) * w[j], root) + b[j], Wide{1} << log2_d);
      fits = fits && v == low_bits(v, 32);
      expected.push_back(static_cast<std::int32_t>(low_bits(v, 32)));
    }
    ilayernorm_wide(x, w, b, log2_d, epsilon, y, Overflow::wrap);
    REQUIRE(y == expected);
    kept += fits;
    if (!fits) REQUIRE_THROWS_AS(ilayernorm_wide(x, w, b, log2_d, epsilon, y), Error);
  }
  CHECK(kept > 100);
}

TEST_CASE("iLayerNorm: output_bits = 32 makes int32 of 16-bit rows, and is checked") {
  const Tensor x = Tensor::from<std::int16_t>({1, 4}, {1000, -3000, -6000, -2000});
  const Tensor w = Tensor::from<std::int32_t>({4}, {16, 16, 16, 16}), b = Tensor::from<std::int32_t>({4}, {0, 0, 0, 700});
  const auto wide = [](std::int64_t bits, std::int64_t epsilon) {
    return attrs_of({{"D", std::int64_t{1}}, {"n_levels", std::int64_t{65536}}, {"output_bits", bits}, {"epsilon", epsilon}});
  };
  // mean -2500, t = 3500 -500 -3500 500, v = 25000000/4 + 1, root 2500.
  const Tensor y = run_node("iLayerNorm", {x, w, b}, wide(32, 1));
  CHECK(y == Tensor::from<std::int32_t>({1, 4}, {22, -3, -22, 703}));
  const auto code = [&](Attrs attrs) { return error_of([&] { run_node("iLayerNorm", {x, w, b}, std::move(attrs)); }).first; };
  CHECK(code(wide(32, 0)) != "nothing");
  CHECK(code(wide(16, 1)) != "nothing");
  CHECK(code(wide(8, 2)) != "nothing");
  CHECK(code(wide(8, 1)) != "nothing");  // 16-bit data
}

TEST_CASE("ilayernorm: equals the definition on random rows") {
  Draw draw(41);
  int kept = 0;
  for (int i = 0; i < 3000; ++i) {
    const auto n = static_cast<std::size_t>(draw(1, 40));
    Row x(n), w(n), b(n);
    for (std::size_t j = 0; j < n; ++j) {
      x[j] = static_cast<std::int32_t>(draw(-128, 127));
      w[j] = static_cast<std::int32_t>(draw(-200000, 200000));
      b[j] = static_cast<std::int32_t>(draw(-200000, 200000));
    }
    Wide sum = 0, squares = 0;
    for (std::int32_t v : x) sum += v;
    const Wide count = static_cast<Wide>(n), mean = truncated(sum, count);
    for (std::int32_t v : x) squares += (v - mean) * (v - mean);
    const Wide root = root_reference(squares / count + 1);
    Row expected;
    bool fits = true;
    for (std::size_t j = 0; j < n; ++j) {
      const Wide y = floor_of(truncated((x[j] - mean) * w[j], root) + b[j], 1 << 12);
      fits = fits && y == low_bits(y, 8);
      expected.push_back(static_cast<std::int32_t>(low_bits(y, 8)));
    }
    REQUIRE(layernorm(x, w, b, 12, Overflow::wrap) == expected);
    if (fits) {
      ++kept;
      REQUIRE(layernorm(x, w, b, 12) == expected);
    } else {
      REQUIRE_THROWS_AS(layernorm(x, w, b, 12), Error);
    }
  }
  CHECK(kept > 100);
}

TEST_CASE("irmsnorm: literal values, truncation and clipping") {
  // squares 9 + 16 = 25, v = 12 + 1 = 13, root 3.
  CHECK(rmsnorm({3, -4}, {10, 10}, 0) == Row{10, -13});
  CHECK(rmsnorm({3, -4}, {10, 10}, 1) == Row{5, -7});
  CHECK(rmsnorm({3, -4}, {1000, 1000}, 0) == Row{127, -128});
  CHECK(rmsnorm({0, 0}, {1000, 1000}, 0) == Row{0, 0});
}

TEST_CASE("irmsnorm: the product must fit int32") {
  const std::int32_t w = 1 << 25;
  CHECK_THROWS_AS(rmsnorm({64, 0}, {w, w}, 20), Error);  // 2^31
  CHECK(rmsnorm({-64, 0}, {w, w}, 22) == Row{-12, 0});   // root 45: -47721858 >> 22
  CHECK(rmsnorm({64, 0}, {w, w}, 22, Overflow::wrap) == Row{-12, 0});
}

TEST_CASE("irmsnorm: equals the definition on random rows") {
  Draw draw(42);
  for (int i = 0; i < 3000; ++i) {
    const auto n = static_cast<std::size_t>(draw(1, 40));
    Row x(n), w(n), expected;
    Wide squares = 0;
    for (std::size_t j = 0; j < n; ++j) {
      x[j] = static_cast<std::int32_t>(draw(-128, 127));
      w[j] = static_cast<std::int32_t>(draw(-16777215, 16777215));
      squares += Wide{x[j]} * x[j];
    }
    const Wide root = root_reference(squares / static_cast<Wide>(n) + 1);
    for (std::size_t j = 0; j < n; ++j)
      expected.push_back(static_cast<std::int32_t>(
          std::clamp<Wide>(floor_of(truncated(Wide{x[j]} * w[j], root), 1 << 16), -128, 127)));
    REQUIRE(rmsnorm(x, w, 16) == expected);
  }
}

TEST_CASE("inonorm: no rounding and no saturation") {
  CHECK(inonorm(10, 3, 5, 2, 3) == 8);    // 70 / 8
  CHECK(inonorm(-10, 3, 5, 2, 3) == -7);  // -50 / 8 = -6.25
  CHECK_THROWS_AS(inonorm(127, 127, 0, 1, 0), Error);
  CHECK(inonorm(127, 127, 0, 1, 0, Overflow::wrap) == 1);  // 16129 = 63*256 + 1
  CHECK_THROWS_AS(inonorm(1, 0, 1 << 20, 1 << 11, 30), Error);
  CHECK(inonorm(1, 0, 1 << 20, 1 << 11, 30, Overflow::wrap) == -2);
}

TEST_CASE("iLayerNorm, iRMSNorm, iNoNorm: nodes work on rows and give int8") {
  const Tensor x = Tensor::from<std::int8_t>({1, 2, 2}, {3, -4, 0, 0});
  const Tensor w = Tensor::from<std::int32_t>({2}, {10, 10}),
               b = Tensor::from<std::int32_t>({2}, {0, 1});
  const Attrs d1 =
      attrs_of({{"D", Tensor::from<float>({1}, {1})}, {"n_levels", std::int64_t{256}}});
  CHECK(run_node("iRMSNorm", {x, w}, d1) == Tensor::from<std::int8_t>({1, 2, 2}, {10, -13, 0, 0}));
  // mean 0 (truncated -1/2), v = 12 + 1, root 3: 30/3, -40/3.
  CHECK(run_node("iLayerNorm", {x, w, b}, d1) ==
        Tensor::from<std::int8_t>({1, 2, 2}, {10, -12, 0, 1}));
  Attrs no = d1;
  no.set("mul", Tensor::from<float>({1}, {2}));
  CHECK(run_node("iNoNorm", {x, w, b}, no) ==
        Tensor::from<std::int8_t>({1, 2, 2}, {60, -78, 0, 2}));
}

TEST_CASE("iLayerNorm: refuses weights of another length, a bad D and other axes") {
  const Tensor x = Tensor::from<std::int8_t>({1, 2}, {3, -4}),
               w = Tensor::from<std::int32_t>({3}, {1, 1, 1});
  const Tensor two = Tensor::from<std::int32_t>({2}, {1, 1});
  const auto code = [&](const Tensor& weight, const Attrs& attrs) {
    return error_of([&] { run_node("iLayerNorm", {x, weight, two}, attrs); }).first;
  };
  CHECK(code(w, attrs_of({{"D", std::int64_t{2}}})) == "shape");
  CHECK(code(two, attrs_of({{"D", std::int64_t{3}}})) == "parse");
  CHECK(code(two, Attrs{}) == "parse");
  CHECK(error_of([&] {
          run_node("iRMSNorm", {x, two},
                   attrs_of({{"D", std::int64_t{2}}, {"axis", std::int64_t{0}}}));
        }).first == "shape");
}

}  // namespace waveq
