#include <doctest/doctest.h>

#include <algorithm>

#include "integer_run.h"
#include "waveq/graph/integer_arithmetic.h"

namespace waveq {

using namespace test;

namespace {

using Row = std::vector<std::int32_t>;

Row softmax(const Row& x, const ISoftmax& p, Overflow overflow = Overflow::error) {
  Row y(x.size());
  isoftmax(x, p, y, overflow);
  return y;
}

Row ita(const Row& x, std::int32_t n = 256) {
  Row y(x.size());
  itamax(x, n, y);
  return y;
}

Row ita_partial(const Row& x, std::int64_t width, std::int32_t n = 256) {
  Row y(x.size());
  ita_partial_max(x, n, width, y);
  return y;
}

/// Coefficients of I-BERT's polynomial for scale 1/16.
const ISoftmax kFine{.coeff_a = 1, .coeff_b = 22, .coeff_c = 246, .log2 = 11, .n_levels = 256};

/// The definition without any narrowing.
Row softmax_reference(const Row& x, const ISoftmax& p) {
  const Wide max = *std::ranges::max_element(x);
  std::vector<Wide> e;
  Wide total = 0;
  for (std::int32_t v : x) {
    Wide octaves = (max - v) / p.log2;
    if (octaves > 31) octaves = 31;
    const Wide rest = v - max + octaves * p.log2;
    Wide value = p.coeff_a * (rest + p.coeff_b) * (rest + p.coeff_b) + p.coeff_c;
    for (Wide i = 0; i < octaves; ++i) value = floor_of(value, 2);
    e.push_back(value);
    total += value;
  }
  Row y;
  for (Wide value : e) y.push_back(static_cast<std::int32_t>(value * (p.n_levels - 1) / total));
  return y;
}

}  // namespace

TEST_CASE("isoftmax: an even row shares the levels, floored") {
  CHECK(softmax({5, 5, 5}, kFine) == Row{85, 85, 85});
  CHECK(softmax({-128, -128}, kFine) == Row{127, 127});
  CHECK(softmax({0}, kFine) == Row{255});
}

TEST_CASE("isoftmax: literal row over one octave") {
  // d = 0, 11, 22: e = 730, (22^2 + 246) >> 1 = 365, 182; the sum is 1277.
  CHECK(softmax({0, -11, -22}, kFine) == Row{145, 72, 36});
  // d = 10 stays in the first octave: (22 - 10)^2 + 246 = 390 of 1120.
  CHECK(softmax({0, -10}, kFine) == Row{166, 88});
}

TEST_CASE("isoftmax: far values underflow to zero, the octave is held at 31") {
  const ISoftmax coarse{.coeff_a = 1, .coeff_b = 4, .coeff_c = 5, .log2 = 2};
  CHECK(softmax({127, -128}, coarse) == Row{255, 0});
  CHECK(softmax({127, 65, 63, 61}, coarse) == Row{255, 0, 0, 0});
}

TEST_CASE("isoftmax: equals the definition on random rows") {
  Draw draw(31);
  for (int i = 0; i < 3000; ++i) {
    Row x(static_cast<std::size_t>(draw(1, 70)));
    const std::int64_t top = draw(-100, 127);
    for (auto& v : x) v = static_cast<std::int32_t>(draw(-128, top));
    const ISoftmax p{static_cast<std::int32_t>(draw(1, 3)), static_cast<std::int32_t>(draw(1, 400)),
                     draw(1, 70000), static_cast<std::int32_t>(draw(2, 300)),
                     static_cast<std::int32_t>(draw(2, 256))};
    REQUIRE(softmax(x, p) == softmax_reference(x, p));
  }
}

TEST_CASE("isoftmax: unsigned rows give what the shifted signed row gives") {
  CHECK(softmax({255, 244, 0}, kFine) == softmax({127, 116, -128}, kFine));
}

TEST_CASE("isoftmax: leaving uint32 is an error or wraps") {
  const ISoftmax large{
      .coeff_a = 1, .coeff_b = 5000, .coeff_c = 0, .log2 = 11};  // 25e6 * 255 > 2^32
  CHECK_THROWS_AS(softmax({0, 0}, large), Error);
  // 25e6*255 mod 2^32 = 2080032704, of 50e6: 41.
  CHECK(softmax({0, 0}, large, Overflow::wrap) == Row{41, 41});
  // log2 = 1 gives octave 200, which int8 reads as -56: held at 0.
  const ISoftmax one{.coeff_a = 1, .coeff_b = 300, .coeff_c = 0, .log2 = 1};
  CHECK_THROWS_AS(softmax({100, -100}, one), Error);
  CHECK(softmax({100, -100}, one, Overflow::wrap) == Row{229, 25});  // 90000 and 100^2
}

TEST_CASE("isoftmax: refuses parameters without a meaning") {
  CHECK_THROWS_AS(softmax({1}, {.coeff_b = 1, .log2 = 0}), Error);
  CHECK_THROWS_AS(softmax({1}, {.coeff_b = 1, .n_levels = 257}), Error);
  CHECK_THROWS_AS(softmax({1}, {.coeff_b = 0, .coeff_c = 0, .log2 = 2}), Error);  // sums to zero
  CHECK_THROWS_AS(softmax({256}, kFine), Error);
  CHECK_THROWS_AS(softmax({}, kFine), Error);
}

TEST_CASE("iSoftmax: works along the last axis and reads tensor attributes") {
  const auto one = [](float v) { return Attr(Tensor::from<float>({1}, {v})); };
  const Attrs attrs = attrs_of({{"coeffA", one(1)},
                                {"coeffB", one(22)},
                                {"coeffC", one(246)},
                                {"log2", one(11)},
                                {"n_levels", one(256)}});
  CHECK(run_node("iSoftmax", {Tensor::from<std::int8_t>({2, 1, 3}, {0, -11, -22, 5, 5, 5})},
                 attrs) == Tensor::from<std::uint8_t>({2, 1, 3}, {145, 72, 36, 85, 85, 85}));
  CHECK(error_of([&] { run_node("iSoftmax", {Tensor::scalar<std::int8_t>(1)}, attrs); }).first ==
        "shape");
}

TEST_CASE("itamax: a shift every 32 steps, rounded") {
  CHECK(ita({0, 0}) == Row{127, 127});
  CHECK(ita({0}) == Row{255});
  CHECK(ita({0, -15}) == Row{127, 127});
  CHECK(ita({0, -16}) == Row{170, 85});  // 65280 / 384
  CHECK(ita({0, -47}) == Row{170, 85});
  CHECK(ita({0, -48}) == Row{204, 51});
  CHECK(ita({127, -128}) == Row{254, 0});  // 65280 / 257 = 254, shift 8
  CHECK(ita({0, -16}, 16) == Row{10, 5});
}

TEST_CASE("ita_partial_max: the sum follows a rising maximum") {
  CHECK(ita_partial({0, 0, 0, 0}, 2) == Row{31, 31, 31, 31});
  // Group 1: 512. The maximum rises by 32: 512 >> 1 = 256, + 256 + 128 = 640; 127*256/640 = 50.
  CHECK(ita_partial({0, 0, 32, 0}, 2) == Row{25, 25, 50, 25});
  // A rise by 15 shifts nothing: 512 + 256 + 256.
  CHECK(ita_partial({0, 0, 15, 0}, 2) == Row{31, 31, 31, 31});
  // A falling row counts its later group at the old maximum.
  CHECK(ita_partial({32, 32, 0, 0}, 2) == Row{42, 42, 21, 21});
  CHECK(ita_partial({-128, -128}, 2) == Row{63, 63});
  CHECK(ita_partial({32, 32, 0, 0}, 4) == ita_partial({160, 160, 128, 128}, 2));
  CHECK_THROWS_AS(ita_partial({1, 2, 3}, 2), Error);
  CHECK_THROWS_AS(ita_partial({1, 2}, 0), Error);
}

TEST_CASE("ITAMax and ITAPartialMax: nodes give unsigned tensors") {
  const Attrs n = attrs_of({{"n_levels", Tensor::from<float>({1}, {256})}});
  CHECK(run_node("ITAMax", {Tensor::from<std::int8_t>({2, 2}, {0, -16, 0, 0})}, n) ==
        Tensor::from<std::uint8_t>({2, 2}, {170, 85, 127, 127}));
  const Attrs grouped =
      attrs_of({{"n_levels", std::int64_t{256}}, {"group_width", std::int64_t{2}}});
  CHECK(run_node("ITAPartialMax", {Tensor::from<std::int8_t>({1, 4}, {0, 0, 32, 0})}, grouped) ==
        Tensor::from<std::uint8_t>({1, 4}, {25, 25, 50, 25}));
  CHECK(error_of([&] {
          run_node("ITAPartialMax", {Tensor::from<std::int8_t>({1, 3}, {0, 0, 32})}, grouped);
        }).first == "shape");
}

}  // namespace waveq
