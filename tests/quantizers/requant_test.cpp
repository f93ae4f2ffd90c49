#include "waveq/quantizers/requant.h"

#include <doctest/doctest.h>

#include <cmath>
#include <random>

#include "waveq/graph/error.h"

using namespace waveq;

namespace {

using Ratios = std::vector<double>;
using Bounds = std::vector<Interval>;

/// The limits once more, in another arithmetic (long double holds 64-bit integers), by trying all
/// shifts.
int largest_shift(const Ratios& ratio, const Ratios& bias, const Bounds& bounds) {
  for (int s = 24; s >= 1; --s) {
    bool fits = true;
    for (std::size_t c = 0; c < ratio.size(); ++c) {
      const long double mul = std::floor(static_cast<long double>(ratio[c]) * (1L << s) + 0.5L);
      const long double q = std::floor(static_cast<long double>(bias[c]) + 0.5L);
      fits &= std::fabs(mul) >= 1 && std::fabs(mul) < (1L << s) && std::fabs(mul) <= (1L << 24);
      fits &= q == 0 || std::fabs(q) < 500 * std::fabs(mul);
      fits &= std::fabs(q * mul) <= (1L << 24);
      for (std::int64_t x : {bounds[c].lo, bounds[c].hi})
        for (long double v : {x * mul, x * mul + q * mul, x * mul + q * mul + (1L << (s - 1))})
          fits &= std::fabs(v) < 2147483648.0L;
    }
    if (fits) return s;
  }
  return 0;
}

}  // namespace

TEST_CASE("requant: takes the largest shift at which product, sum and half stay in int32") {
  const Ratios ratio{0.5};
  const auto wide = choose_requant(ratio, {}, Bounds{{-128, 127}});
  REQUIRE(wide);
  CHECK(wide->shift == 24);
  CHECK(wide->mul == std::vector<std::int32_t>{1 << 23});
  CHECK(wide->add == std::vector<std::int64_t>{0});
  CHECK(wide->effective_scale == std::vector<double>{0.5});
  // 2^20 * 2^(s-1) + 2^(s-1) < 2^31 needs s <= 11.
  CHECK(choose_requant(ratio, {}, Bounds{{-(1 << 20), 1 << 20}})->shift == 11);
  // The lower end alone: -2^20 * 2^(s-1) > -2^31 needs s <= 11 too, as 2^31 itself is excluded.
  CHECK(choose_requant(ratio, {}, Bounds{{-(1 << 20), 0}})->shift == 11);
  CHECK(choose_requant(ratio, {}, Bounds{{-(1 << 20) + 1, 0}})->shift == 12);
}

TEST_CASE("requant: the half alone can cost the last bit") {
  // x*mul = 1023 * 2^21 < 2^31 at shift 22 (ratio 1/2); adding half = 2^21 reaches 2^31 exactly.
  CHECK(choose_requant(Ratios{0.5}, {}, Bounds{{0, 1023}})->shift == 21);
  CHECK(choose_requant(Ratios{0.5}, {}, Bounds{{0, 1022}})->shift == 22);
}

TEST_CASE("requant: mul rounds half up, also below zero") {
  RequantLimits limits;
  limits.max_shift = 1;
  limits.require_mul_below_div = false;
  const auto c =
      choose_requant(Ratios{0.75, -0.75, 0.7499999999999999, -1.25}, {}, Bounds{{0, 1}}, limits);
  REQUIRE(c);
  CHECK(c->mul == std::vector<std::int32_t>{2, -1, 1, -2});
  CHECK(c->min_mul() == 1);
  CHECK(c->effective_scale == std::vector<double>{1.0, -0.5, 0.5, -1.0});
}

TEST_CASE("requant: a ratio just below one half of the last place is not lifted to 1") {
  RequantLimits limits;
  limits.max_shift = 1;
  CHECK(!choose_requant(Ratios{std::nextafter(0.25, 0.0)}, {}, Bounds{{0, 1}}, limits));
  CHECK(choose_requant(Ratios{0.25}, {}, Bounds{{0, 1}}, limits)->mul[0] == 1);
}

TEST_CASE("requant: add is the rounded offset times mul, without the half") {
  const auto c = choose_requant(Ratios{1.0 / 3, -1.0 / 64}, Ratios{10.5, -10.5},
                                Bounds{{-1000, 1000}, {0, 5}});
  REQUIRE(c);
  CHECK(c->shift == 22);  // |add| = 11 * 2^22/3 <= 2^24 is what stops shift 23
  CHECK(c->mul == std::vector<std::int32_t>{1398101, -65536});
  CHECK(c->add == std::vector<std::int64_t>{11 * 1398101, -10 * -65536});
  CHECK(c->min_mul() == 65536);
}

TEST_CASE("requant: each limit refuses by name") {
  std::string why;
  CHECK(!choose_requant(Ratios{0.5, 1.5}, {}, Bounds{{0, 1}}, {}, &why));
  CHECK(why == "shift 1, channel 1: ratio 1.5 needs |mul| >= 2^shift");
  CHECK(!choose_requant(Ratios{1e-9}, {}, Bounds{{0, 1}}, {}, &why));
  CHECK(why == "shift 24, channel 0: ratio 1e-09 rounds to mul 0");
  CHECK(!choose_requant(Ratios{0.25}, {}, Bounds{{0, INT64_MAX}}, {}, &why));
  CHECK(why ==
        "shift 1, channel 0: x*mul + add + half leaves 32 bits for x in [0, 9223372036854775807], "
        "ratio 0.25");
  CHECK(!choose_requant(Ratios{0.1}, {}, Bounds{{0, std::int64_t{1} << 31}}, {}, &why));
  CHECK(
      why ==
      "shift 3, channel 0: x*mul + add + half leaves 32 bits for x in [0, 2147483648], ratio 0.1; "
      "shift 2, channel 0: ratio 0.1 rounds to mul 0");
  CHECK(!choose_requant(Ratios{0x1p-24}, Ratios{500.0}, Bounds{{0, 1}}, {}, &why));
  CHECK(why.find("shift 23, channel 0: offset 500 is not below 500*|mul|") == 0);
  CHECK(choose_requant(Ratios{0x1p-24}, Ratios{499.0}, Bounds{{0, 1}}));
  CHECK(!choose_requant(Ratios{0.5}, Ratios{1e300}, Bounds{{0, 1}}, {}, &why));
  CHECK(why.find("offset 1e+300") != std::string::npos);
  CHECK(!choose_requant(Ratios{0.25}, Ratios{20000000.0}, Bounds{{0, 1}},
                        {.max_add_per_mul = 1 << 30}, &why));
  CHECK(why.find("offset 20000000 needs |add| > 16777216") != std::string::npos);
}

TEST_CASE("requant: the widest possible bounds do not overflow the check itself") {
  std::string why;
  const Bounds all{{INT64_MIN, INT64_MAX}};
  CHECK(!choose_requant(Ratios{0.5}, {}, all, {}, &why));
  CHECK(!choose_requant(Ratios{0.5}, {}, all, {.product_bits = 64}, &why));
  CHECK(!choose_requant(Ratios{0.5}, {}, Bounds{{INT64_MIN / 4 + 1, INT64_MAX / 4}},
                        {.product_bits = 64}, &why));
  CHECK(why.find("x + 0 leaves int32") != std::string::npos);
  CHECK(choose_requant(Ratios{0.5}, {}, Bounds{{INT32_MIN + 1, INT32_MAX}}, {.product_bits = 64}));
}

TEST_CASE(
    "requant: zero allowance for offsets still admits a channel without one, and still proves the "
    "product") {
  RequantLimits limits;
  limits.max_add_per_mul = 0;
  CHECK(choose_requant(Ratios{0.5}, {}, Bounds{{-(1 << 20), 1 << 20}}, limits)->shift == 11);
  CHECK(!choose_requant(Ratios{0.5}, Ratios{1.0}, Bounds{{0, 1}}, limits));
}

TEST_CASE("requant: random channels agree with a search in another arithmetic") {
  std::mt19937_64 random(7);
  const auto uniform = [&] { return static_cast<double>(random() >> 11) * 0x1p-53; };
  int found = 0;
  for (int round = 0; round < 2000; ++round) {
    const std::size_t channels = 1 + random() % 3;
    Ratios ratio, bias;
    Bounds bounds;
    for (std::size_t c = 0; c < channels; ++c) {
      ratio.push_back(std::exp2(-14.0 * uniform()) * (random() % 4 ? 1 : -1));
      bias.push_back(random() % 2 ? (uniform() - 0.5) * 3000 : 0.0);
      const auto reach = static_cast<std::int64_t>(std::exp2(26 * uniform()));
      bounds.push_back({-static_cast<std::int64_t>(uniform() * static_cast<double>(reach)), reach});
    }
    const auto choice = choose_requant(ratio, bias, bounds);
    CHECK((choice ? choice->shift : 0) == largest_shift(ratio, bias, bounds));
    if (!choice) continue;
    ++found;
    for (std::size_t c = 0; c < channels; ++c) {
      CHECK(std::fabs(choice->effective_scale[c] - ratio[c]) <= std::ldexp(0.5, -choice->shift));
      CHECK(choice->add[c] % choice->mul[c] == 0);
    }
  }
  CHECK(found > 1000);
}

TEST_CASE("requant: arguments that make no sense are refused") {
  const auto code = [](const Ratios& r, const Ratios& b, const Bounds& x, RequantLimits l = {}) {
    try {
      choose_requant(r, b, x, l);
    } catch (const Error& e) {
      return e.code();
    }
    return ErrorCode::internal;
  };
  const auto bad = ErrorCode::invalid_argument;
  CHECK(code({}, {}, {}) == bad);
  CHECK(code({0.5, 0.5}, {1.0}, {{0, 1}}) == bad);
  CHECK(code({0.5}, {}, {}) == bad);
  CHECK(code({0.5}, {}, {{1, 0}}) == bad);
  CHECK(code({0.0}, {}, {{0, 1}}) == bad);
  CHECK(code({NAN}, {}, {{0, 1}}) == bad);
  CHECK(code({HUGE_VAL}, {}, {{0, 1}}) == bad);
  CHECK(code({0.5}, {NAN}, {{0, 1}}) == bad);
  CHECK(code({0.5}, {}, {{0, 1}}, {.min_shift = 0}) == bad);
  CHECK(code({0.5}, {}, {{0, 1}}, {.max_shift = 32}) == bad);
  CHECK(code({0.5}, {}, {{0, 1}}, {.min_shift = 9, .max_shift = 8}) == bad);
  CHECK(code({0.5}, {}, {{0, 1}}, {.product_bits = 65}) == bad);
  CHECK(code({0.5}, {}, {{0, 1}}, {.max_mul = std::int64_t{1} << 31}) == bad);
}

TEST_CASE("requant: 64-bit products where those of 32 bits leave coarse multipliers or none") {
  RequantLimits limits{.wide_products = true};
  // 2^20 * mul + half < 2^31 leaves mul = 2^10 at ratio 1/2: fine enough.
  const auto narrow = choose_requant(Ratios{0.5}, {}, Bounds{{-(1 << 20), 1 << 20}}, limits);
  REQUIRE(narrow);
  CHECK(narrow->product_bits == 32);
  CHECK(narrow->shift == 11);
  // 2^25 leaves 2^5.
  const Bounds large{{-(1 << 25), 1 << 25}};
  CHECK(choose_requant(Ratios{0.3}, {}, large)->product_bits == 32);
  CHECK(choose_requant(Ratios{0.3}, {}, large)->min_mul() < 128);
  const auto wide = choose_requant(Ratios{0.3}, Ratios{-12345678.4}, large, limits);
  REQUIRE(wide);
  CHECK(wide->product_bits == 64);
  CHECK(wide->shift == 31);
  CHECK(wide->mul == std::vector<std::int32_t>{644245094});  // floor(0.3 * 2^31 + 1/2)
  CHECK(wide->add == std::vector<std::int64_t>{-12345678LL * 644245094});
  CHECK(wide->effective_scale.front() == doctest::Approx(0.3).epsilon(1e-9));
  // A kernel may add q before it multiplies: x + q stays in int32.
  const Bounds most{{0, INT32_MAX - 5}};
  CHECK(choose_requant(Ratios{0.3}, Ratios{5}, most, limits)->product_bits == 64);
  CHECK(!choose_requant(Ratios{0.3}, Ratios{6}, most, limits));
  // A channel of ratio 1e-9 rounds to mul 2 at shift 31; one of 1e-10 to none at all.
  CHECK(choose_requant(Ratios{1e-9}, {}, Bounds{{-1, 1}}, limits)->mul.front() == 2);
  CHECK(!choose_requant(Ratios{1e-10}, {}, Bounds{{-1, 1}}, limits));
  const auto scalar = choose_scalar_requant(0.3, large.front(), limits);
  REQUIRE(scalar);
  CHECK(scalar->product_bits == 64);
  CHECK(scalar->mul == 644245094);
}

TEST_CASE("scalar requant: the snapped output scale is what the multiplier applies") {
  const auto r = choose_scalar_requant(0.1, {-100000000, 100000000});
  REQUIRE(r);
  CHECK(r->shift == 7);
  CHECK(r->mul == 13);
  CHECK(r->effective_scale == 13.0 / 128);
  CHECK(r->output_scale(0.5) == 0.5 * 128 / 13);
}

TEST_CASE("scalar requant: a free scale lowers a ratio of one or more to just below one") {
  CHECK(!choose_scalar_requant(3.0, {-1000, 1000}));
  RequantLimits free;
  free.free_scale = true;
  const auto r = choose_scalar_requant(3.0, {-1000, 1000}, free);
  REQUIRE(r);
  CHECK(r->shift == 21);
  CHECK(r->mul == (1 << 21) - 1);
  CHECK(choose_scalar_requant(-3.0, {-1000, 1000}, free)->mul == -(1 << 21) + 1);
  CHECK(choose_scalar_requant(0.25, {-1000, 1000}, free)->effective_scale == 0.25);
}

TEST_CASE("requant: a free scale does not bend one channel among several") {
  RequantLimits free;
  free.free_scale = true;
  CHECK(!choose_requant(Ratios{0.5, 3.0}, {}, Bounds{{0, 1}}, free));
}
