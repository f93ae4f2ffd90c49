// Deeploy's Quant and Dequant over parameters and inputs of every magnitude, against sums and
// products of integers rounded to the digits of a double and of a float32.
#include "waveq/graph/quantizer.h"

#include <cmath>

#include "steps.h"

namespace waveq {

using namespace test;

namespace {

/// mantissa * 2^exponent, exactly.
struct Exact {
  Wide mantissa = 0;
  int exponent = 0;
};

Exact exact(double x) {
  int exponent = 0;
  const double fraction = std::frexp(x, &exponent);
  return {static_cast<Wide>(std::ldexp(fraction, 53)), exponent - 53};
}

/// To `digits` binary digits, ties to even.
Exact rounded(Exact x, int digits) {
  const Wide limit = Wide{1} << digits;
  while (x.mantissa >= limit || x.mantissa <= -limit) {
    int drop = 1;
    while ((x.mantissa >> drop) >= limit || (x.mantissa >> drop) < -limit) ++drop;
    const Wide step = Wide{1} << drop, low = floor_of(x.mantissa, step),
               rest = x.mantissa - low * step;
    const bool up = 2 * rest > step || (2 * rest == step && low % 2 != 0);
    x = {low + (up ? 1 : 0), x.exponent + drop};
  }
  return x;
}

Exact float_of_double(const Exact& x) { return rounded(rounded(x, 53), 24); }

Exact sum(Exact a, Exact b) {
  if (a.mantissa == 0) return b;
  if (b.mantissa == 0) return a;
  if (a.exponent > b.exponent) std::swap(a, b);
  return {a.mantissa + (b.mantissa << (b.exponent - a.exponent)), a.exponent};
}

Wide truncated(const Exact& x) {
  if (x.exponent >= 0) return x.mantissa << x.exponent;
  return -x.exponent >= 126 ? 0 : x.mantissa / (Wide{1} << -x.exponent);
}

/// clip(trunc(h(f(f(x*scale) + zero_point)))), see quantize(); nothing where int32 does not hold
/// what is clipped.
std::optional<std::int64_t> by_integers(float x, const QuantParameters& q) {
  const Exact a = exact(double{x}), b = exact(q.scale);
  // 24 and 53 digits: the product is exact in 128 bits.
  const Exact product{rounded(a, 24).mantissa * b.mantissa, rounded(a, 24).exponent + b.exponent};
  const Exact shifted = float_of_double(sum(float_of_double(product), exact(q.zero_point)));
  const Exact half{shifted.mantissa >= 0 ? 1 : -1, -1};
  const Wide code = truncated(rounded(sum(shifted, half), 24));
  if (code < kLow32 || code > kHigh32) return std::nullopt;
  return static_cast<std::int64_t>(std::clamp<Wide>(code, q.lo, q.hi));
}

/// A float of 24 random digits between 2^least and 2^(most+1), of either sign.
float any_float(Draw& draw, int least, int most) {
  const auto digits = static_cast<double>(draw(1 << 23, (1 << 24) - 1));
  const double x = std::ldexp(digits, static_cast<int>(draw(least, most)) - 23);
  return static_cast<float>(draw(0, 1) == 1 ? x : -x);
}

}  // namespace

TEST_CASE("range: Quant") {
  Draw draw(41);
  for (int round = 0; round < 200000; ++round) {
    QuantParameters q;
    q.scale = std::abs(double{any_float(draw, -12, 12)});
    if (draw(0, 3) == 0) q.scale /= 3;  // all digits of a double
    q.zero_point = static_cast<double>(anywhere(draw, -65536, 65536));
    const int bits = static_cast<int>(draw(1, 16));
    const bool is_signed = draw(0, 1) == 1;
    q.lo = is_signed ? -(std::int64_t{1} << (bits - 1)) : 0;
    q.hi = is_signed ? (std::int64_t{1} << (bits - 1)) - 1 : (std::int64_t{1} << bits) - 1;
    float x = any_float(draw, -16, 24);
    // Near ties, where each rounding tells.
    if (draw(0, 1) == 1)
      x = static_cast<float>((static_cast<double>(draw(-300, 300)) + 0.5 - q.zero_point) / q.scale);
    if (draw(0, 50) == 0) x = 0;
    const std::optional<std::int32_t> got = quantize(x, q);
    const std::optional<std::int64_t> expected = by_integers(x, q);
    INFO("x ", x, ", scale ", q.scale, ", zero point ", q.zero_point);
    REQUIRE(got.has_value() == expected.has_value());
    if (got) REQUIRE(*got == *expected);
  }
}

TEST_CASE("range: Dequant") {
  Draw draw(43);
  for (int round = 0; round < 100000; ++round) {
    const std::int64_t x = any32(draw);
    const auto zero_point = static_cast<double>(anywhere(draw, -65536, 65536));
    const double scale = double{any_float(draw, -30, 12)};
    const Exact moved = rounded({static_cast<Wide>(x) - static_cast<Wide>(zero_point), 0}, 24),
                factor = exact(scale);
    const Exact y =
        float_of_double({moved.mantissa * factor.mantissa, moved.exponent + factor.exponent});
    const auto expected =
        static_cast<float>(std::ldexp(static_cast<double>(y.mantissa), y.exponent));
    INFO("x ", x, ", scale ", scale, ", zero point ", zero_point);
    REQUIRE(dequantize(x, scale, zero_point) == expected);
  }
}

}  // namespace waveq
