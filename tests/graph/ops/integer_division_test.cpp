#include <doctest/doctest.h>

#include <limits>

#include "integer_run.h"
#include "waveq/graph/integer_arithmetic.h"

namespace waveq {

using namespace test;

namespace {

/// num/den with the half added away from zero, in 128 bits.
Wide division_reference(Wide num, Wide den, const IntegerDiv& p) {
  const Wide d = Wide{p.eta} * den + p.eps, n = Wide{p.delta} * p.eta * num;
  const Wide magnitude = ((n < 0 ? -n : n) + floor_of(d, 2)) / d;
  return n < 0 ? -magnitude : magnitude;
}

Attrs div_attrs(std::int64_t delta, std::int64_t eps, std::int64_t eta) {
  return attrs_of({{"Delta", delta}, {"eps", eps}, {"eta", eta}});
}

}  // namespace

TEST_CASE("integer_div: rounds half away from zero") {
  const IntegerDiv plain{.delta = 1, .eps = 0, .eta = 1};
  CHECK(integer_div(3, 2, plain) == 2);
  CHECK(integer_div(-3, 2, plain) == -2);
  CHECK(integer_div(5, 3, plain) == 2);
  CHECK(integer_div(-5, 3, plain) == -2);
  CHECK(integer_div(4, 3, plain) == 1);
  CHECK(integer_div(0, 7, plain) == 0);
  CHECK(integer_div(-1, 2, plain) == -1);
}

TEST_CASE("integer_div: eta and eps stretch the divisor, Delta the numerator") {
  CHECK(integer_div(3, 0, {.delta = 8, .eps = 1, .eta = 4}) == 96);
  CHECK(integer_div(3, 1, {.delta = 8, .eps = 1, .eta = 4}) == 19);  // 96/5 = 19.2
  CHECK(integer_div(-3, 1, {.delta = 8, .eps = 1, .eta = 4}) == -19);
  CHECK(integer_div(0, 0, {.delta = 65536, .eps = 1, .eta = 7}) == 0);
}

TEST_CASE("integer_div: a zero divisor is an error in both modes") {
  CHECK_THROWS_AS(integer_div(1, 0, {.delta = 1, .eps = 0, .eta = 1}), Error);
  CHECK_THROWS_AS(integer_div(1, 0, {.delta = 1, .eps = 0, .eta = 1}, Overflow::wrap), Error);
}

TEST_CASE("integer_div: a quotient outside int32 is an error or wraps") {
  const IntegerDiv p{.delta = 65536, .eps = 1, .eta = 5};
  CHECK_THROWS_AS(integer_div(10000, 0, p), Error);  // 3276800000
  CHECK(integer_div(10000, 0, p, Overflow::wrap) == -1018167296);
  const IntegerDiv wide{.delta = 65536, .eps = 1, .eta = 65536};  // Delta*eta = 2^32
  CHECK_THROWS_AS(integer_div(1, 1, wide), Error);
  CHECK(integer_div(1, 1, wide, Overflow::wrap) == 0);
}

TEST_CASE("integer_div: equals the definition in 128 bits") {
  Draw draw(11);
  const std::int64_t top = std::numeric_limits<std::int32_t>::max();
  int kept = 0;
  for (int i = 0; i < 100000; ++i) {
    const IntegerDiv p{static_cast<std::int32_t>(draw(1, 65536)),
                       static_cast<std::int32_t>(draw(0, 3)),
                       static_cast<std::int32_t>(draw(1, 30))};
    const std::int64_t span = draw(1, top), reach = draw(1, top);
    const auto num = static_cast<std::int32_t>(draw(-span, span)),
               den = static_cast<std::int32_t>(draw(1, reach));
    const Wide expected = division_reference(num, den, p);
    if (expected == low_bits(expected, 32)) {
      ++kept;
      REQUIRE(integer_div(num, den, p) == static_cast<std::int64_t>(expected));
    } else {
      REQUIRE_THROWS_AS(integer_div(num, den, p), Error);
    }
    REQUIRE(integer_div(num, den, p, Overflow::wrap) == low_bits(expected, 32));
  }
  CHECK(kept > 20000);
}

TEST_CASE("integer_div: extreme operands do not overflow the 64-bit intermediates") {
  const std::int32_t low = std::numeric_limits<std::int32_t>::min(),
                     high = std::numeric_limits<std::int32_t>::max();
  for (std::int32_t num : {low, high, -1, 1})
    for (std::int32_t den : {low, high, -1, 1})
      for (std::int32_t eta : {low, high, 1}) {
        const IntegerDiv p{1, high, eta};
        const Wide d = Wide{eta} * den + high;
        if (d != 0) (void)integer_div(num, den, p, Overflow::wrap);
      }
  CHECK(integer_div(low, 1, {.delta = 1, .eps = 0, .eta = 1}) == low);
  // d >> 1 is -1 for d = -1: the rounding assumes a positive divisor, and so does the target's.
  CHECK(integer_div(low, -1, {.delta = 1, .eps = 0, .eta = 1}) == high);
}

TEST_CASE("IntegerDiv: one divisor a row") {
  const Tensor num = Tensor::from<std::int32_t>({1, 2, 3}, {10, 20, -30, 7, 8, 9});
  const Tensor den = Tensor::from<std::int32_t>({1, 2, 1}, {10, 4});
  CHECK(run_node("IntegerDiv", {num, den}, div_attrs(2, 0, 1)) ==
        Tensor::from<std::int32_t>({1, 2, 3}, {2, 4, -6, 4, 4, 5}));
}

TEST_CASE("IntegerDiv: the divisor must broadcast to the numerator") {
  const Tensor num = Tensor::from<std::int32_t>({2, 1}, {1, 2}),
               den = Tensor::from<std::int32_t>({2, 3}, {1, 1, 1, 1, 1, 1});
  CHECK(error_of([&] { run_node("IntegerDiv", {num, den}, div_attrs(1, 0, 1)); }).first == "shape");
  CHECK(error_of([&] {
          run_node("IntegerDiv", {num, num}, attrs_of({{"Delta", std::int64_t{1}}}));
        }).first == "parse");
}

TEST_CASE("IntegerDiv: errors name the node") {
  const Tensor num = Tensor::from<std::int32_t>({1}, {1}),
               den = Tensor::from<std::int32_t>({1}, {0});
  const auto [code, text] = error_of([&] {
    run_node("IntegerDiv", {num, den}, div_attrs(1, 0, 1));
  });
  CHECK(code == "overflow");
  CHECK(contains(text, "the_node"));
}

TEST_CASE("TrueIntegerDiv: multiplies by the floored constant quotient") {
  CHECK(true_integer_div_factor(16384, 200000, 1, 2) == 8191);  // 3276800000 / 400001
  CHECK(true_integer_div_factor(7, 1, 0, 2) == 3);
  CHECK(true_integer_div_factor(-7, 1, 0, 2) == -4);
  CHECK_THROWS_AS(true_integer_div_factor(1, 1, 0, 0), Error);
  CHECK_THROWS_AS(true_integer_div_factor(1 << 20, 1 << 20, 1, 0), Error);
  const Tensor x = Tensor::from<std::int8_t>({3}, {-128, 0, 127});
  const Attrs attrs = attrs_of({{"Delta", std::int64_t{16384}},
                                {"eps", std::int64_t{1}},
                                {"eta", std::int64_t{200000}},
                                {"y", std::int64_t{2}}});
  CHECK(run_node("TrueIntegerDiv", {x}, attrs) ==
        Tensor::from<std::int32_t>({3}, {-1048448, 0, 1040257}));
}

TEST_CASE("TrueIntegerDiv: a product outside int32 is an error or wraps") {
  const Tensor x = Tensor::from<std::int32_t>({1}, {1 << 30});
  const Attrs attrs = attrs_of({{"Delta", std::int64_t{3}},
                                {"eps", std::int64_t{0}},
                                {"eta", std::int64_t{1}},
                                {"y", std::int64_t{1}}});
  CHECK(error_of([&] { run_node("TrueIntegerDiv", {x}, attrs); }).first == "overflow");
  CHECK(run_node("TrueIntegerDiv", {x}, attrs, Overflow::wrap) ==
        Tensor::from<std::int32_t>({1}, {-1073741824}));
}

}  // namespace waveq
