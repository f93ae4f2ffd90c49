#include <doctest/doctest.h>

#include <algorithm>
#include <limits>

#include "integer_run.h"
#include "waveq/graph/integer_arithmetic.h"

namespace waveq {

using namespace test;

namespace {

Wide gelu_reference(Wide x, Wide b, Wide one) {
  const Wide magnitude = x < 0 ? -x : x;
  const Wide q = magnitude > -b ? -b : magnitude;
  const Wide polynomial = one - (q + b) * (q + b);
  const Wide erf = x > 0 ? polynomial : x < 0 ? -polynomial : 0;
  return x * floor_of(one + erf, 2);
}

Attrs hardswish_attrs(std::int64_t three, std::int64_t six, std::int64_t one_over_six) {
  return attrs_of({{"three", three}, {"six", six}, {"one_over_six", one_over_six}});
}

}  // namespace

TEST_CASE("igelu: literal values of a trained layer") {
  const IGelu p{.b = -49, .one = 2674};  // first block of the Waveformer
  CHECK(igelu(0, p) == 0);
  CHECK(igelu(1, p) == 1522);        // L = 2674 - 48^2 = 370
  CHECK(igelu(-1, p) == -1152);      // (2674 - 370) / 2 = 1152
  CHECK(igelu(48, p) == 48 * 2673);  // L = 2673, (5347) >> 1
  CHECK(igelu(49, p) == 49 * 2674);
  CHECK(igelu(50, p) == 50 * 2674);
  CHECK(igelu(127, p) == 127 * 2674);
  CHECK(igelu(-128, p) == 0);
  CHECK(igelu(-48, p) == 0);  // (2674 - 2673) >> 1 = 0
}

TEST_CASE("igelu: the halving floors an odd negative sum") {
  CHECK(igelu(-1, {.b = -1, .one = 4}) == 0);
  CHECK(igelu(1, {.b = -4, .one = 3}) == -2);   // L = 3 - 9, (3 - 6) >> 1 = -2
  CHECK(igelu(-1, {.b = -4, .one = 2}) == -4);  // L = 7, 9 >> 1 = 4
}

TEST_CASE("igelu: equals the definition for every input and random coefficients") {
  Draw draw(21);
  for (int i = 0; i < 300; ++i) {
    const IGelu p{static_cast<std::int32_t>(draw(-128, -1)),
                  static_cast<std::int32_t>(draw(0, 32767))};
    for (std::int32_t x = -128; x <= 255; ++x)
      REQUIRE(Wide{igelu(x, p)} == gelu_reference(x, p.b, p.one));
  }
}

TEST_CASE("igelu: coefficients that miss the kernel's int8 and int16 are an error or wrap") {
  CHECK_THROWS_AS(igelu_arguments(-129, 100), Error);
  CHECK_THROWS_AS(igelu_arguments(-10, 32768), Error);
  const IGelu p = igelu_arguments(-129, 32768, Overflow::wrap);
  CHECK(p.b == 127);
  CHECK(p.one == -32768);
  CHECK(igelu_arguments(-128, 32767).b == -128);
}

TEST_CASE("iGELU: works on signed and unsigned tensors, and on int32 within 8 bit") {
  const Attrs attrs = attrs_of({{"b", std::int64_t{-49}}, {"one", std::int64_t{2674}}});
  const Tensor expected = Tensor::from<std::int32_t>({2}, {0, 127 * 2674});
  CHECK(run_node("iGELU", {Tensor::from<std::int8_t>({2}, {-128, 127})}, attrs) == expected);
  CHECK(run_node("iGELU", {Tensor::from<std::int32_t>({2}, {-128, 127})}, attrs) == expected);
  CHECK(run_node("iGELU", {Tensor::from<std::uint8_t>({1}, {255})}, attrs) ==
        Tensor::from<std::int32_t>({1}, {255 * 2674}));
  CHECK(error_of([&] {
          run_node("iGELU", {Tensor::from<std::int32_t>({2}, {-1, 128})}, attrs);
        }).first == "overflow");
  CHECK(error_of([&] {
          run_node("iGELU", {Tensor::from<std::int32_t>({2}, {0, 256})}, attrs, Overflow::wrap);
        }).first == "overflow");
}

TEST_CASE("ihardswish: literal values, both clips and the middle") {
  const IHardswish p{.three = 765, .six = 1530, .one_over_six = 33};
  CHECK(ihardswish(0, p) == 0);
  CHECK(ihardswish(127, p) == 127 * (892 * 33));
  CHECK(ihardswish(-128, p) == -128 * (637 * 33));
  const IHardswish narrow{.three = 10, .six = 20, .one_over_six = 3};
  CHECK(ihardswish(-11, narrow) == 0);
  CHECK(ihardswish(-9, narrow) == -27);
  CHECK(ihardswish(10, narrow) == 600);
  CHECK(ihardswish(11, narrow) == 660);
}

TEST_CASE("ihardswish: a step outside int32 is an error or wraps") {
  const IHardswish p{.three = 1 << 20, .six = 1 << 20, .one_over_six = 1 << 10};
  CHECK_THROWS_AS(ihardswish(2, p), Error);  // 2 * 2^30
  CHECK(ihardswish(2, p, Overflow::wrap) == std::numeric_limits<std::int32_t>::min());
  CHECK(ihardswish(1, p) == 1 << 30);
  CHECK_THROWS_AS(ihardswish(1, {.three = std::numeric_limits<std::int32_t>::max()}), Error);
}

TEST_CASE("ihardswish: equals the definition on random parameters") {
  Draw draw(22);
  for (int i = 0; i < 20000; ++i) {
    const IHardswish p{static_cast<std::int32_t>(draw(-10, 2000)),
                       static_cast<std::int32_t>(draw(0, 4000)),
                       static_cast<std::int32_t>(draw(0, 4000))};
    const auto x = static_cast<std::int32_t>(draw(-128, 127));
    const Wide t = std::clamp<Wide>(Wide{x} + p.three, 0, p.six) * p.one_over_six;
    REQUIRE(ihardswish(x, p, Overflow::wrap) == low_bits(t * x, 32));
    if (t * x == low_bits(t * x, 32)) REQUIRE(ihardswish(x, p) == static_cast<std::int64_t>(t * x));
  }
}

TEST_CASE("iHardswish: the node reads three, six and one_over_six") {
  CHECK(run_node("iHardswish", {Tensor::from<std::int8_t>({1, 2}, {-9, 11})},
                 hardswish_attrs(10, 20, 3)) == Tensor::from<std::int32_t>({1, 2}, {-27, 660}));
  const auto [code, text] =
      error_of([] { run_node("iHardswish", {Tensor::from<std::int8_t>({1}, {1})}, Attrs{}); });
  CHECK(code == "parse");
  CHECK(contains(text, "three"));
}

}  // namespace waveq
