// The functions of integer_arithmetic.h over the whole legal range of their parameters.
#include "steps.h"
#include "waveq/graph/integer_arithmetic.h"

namespace waveq {

using namespace test;

namespace {

constexpr int kRounds = 20000;

Wide truncated(Wide a, Wide b) { return a / b; }
Wide power_of_two(std::int64_t exponent) { return Wide{1} << exponent; }

/// Largest r >= 0 with r*r <= n, by halving.
Wide root_of(Wide n) {
  Wide lo = 0, hi = Wide{1} << 32;
  while (hi - lo > 1) {
    const Wide middle = (lo + hi) / 2;
    (middle * middle <= n ? lo : hi) = middle;
  }
  return lo;
}

std::vector<std::int32_t> row_of(Draw& draw, std::size_t length) {
  const bool is_unsigned = draw(0, 1) == 1;
  std::vector<std::int32_t> row(length);
  for (std::int32_t& x : row)
    x = static_cast<std::int32_t>(is_unsigned ? anywhere(draw, 0, 255) : anywhere(draw, -128, 127));
  return row;
}

std::vector<std::int32_t> any_row32(Draw& draw, std::size_t length) {
  std::vector<std::int32_t> row(length);
  // Rows of one magnitude: else the largest element of every row overflows.
  const std::int64_t reach = anywhere(draw, 1, kHigh32);
  for (std::int32_t& x : row) x = static_cast<std::int32_t>(anywhere(draw, -reach, reach));
  return row;
}

template <class F>
std::vector<std::int64_t> row_result(std::size_t length, F&& f) {
  std::vector<std::int32_t> out(length);
  f(std::span<std::int32_t>(out));
  return {out.begin(), out.end()};
}

}  // namespace

TEST_CASE("range: requant") {
  Draw draw(101);
  int fitting = 0;
  for (int i = 0; i < 10 * kRounds; ++i) {
    Requant rq{any32(draw), any32(draw), static_cast<int>(draw(0, 31))};
    if (draw(0, 2) == 0) {
      rq.product_bits = 64;
      rq.add = anywhere(draw, -kMaxWideAdd, kMaxWideAdd);
    }
    const std::int64_t levels = draw(2, 65536), is_signed = draw(0, 1);
    rq.lo = is_signed ? -(levels / 2) : 0;
    rq.hi = is_signed ? levels / 2 - 1 : levels - 1;
    rq.rounding = draw(0, 3) == 0 ? Rounding::floor : Rounding::half_up;
    const std::int32_t x = any32(draw);
    const auto wanted = [&](Steps& s) {
      const Wide half =
          rq.rounding == Rounding::half_up && rq.shift > 0 ? power_of_two(rq.shift - 1) : 0;
      const int bits = rq.product_bits;
      const Wide product = s.to_signed(bits, Wide{x} * rq.mul),
                 sum = s.to_signed(bits, product + rq.add), rounded = s.to_signed(bits, sum + half);
      return std::clamp<Wide>(floor_of(rounded, power_of_two(rq.shift)), rq.lo, rq.hi);
    };
    const bool fits = agree_on_one(
        [&](Overflow o) { return o == Overflow::wrap ? requant_wrapped(x, rq) : requant(x, rq); },
        wanted);
    REQUIRE(requant_safe_range(rq).contains(x) == fits);
    fitting += fits;
  }
  CHECK(fitting > kRounds);
}

TEST_CASE("range: integer_div and the factor of true_integer_div") {
  Draw draw(102);
  int fitting = 0;
  for (int i = 0; i < 5 * kRounds; ++i) {
    const IntegerDiv p{any32(draw), any32(draw), any32(draw)};
    const std::int32_t num = any32(draw), den = any32(draw);
    fitting += agree_on_one([&](Overflow o) { return integer_div(num, den, p, o); },
                            [&](Steps& s) -> Wide {
                              const Wide stretch = s.to_signed(32, Wide{p.delta} * p.eta);
                              const Wide d = Wide{p.eta} * den + p.eps, n = stretch * num;
                              if (d == 0) {
                                s.no_result();
                                return 0;
                              }
                              const Wide half = floor_of(d, 2);
                              return s.to_signed(32, truncated(n < 0 ? n - half : n + half, d));
                            });
    const std::int64_t y = any32(draw);
    const Wide d = Wide{y} * p.eta + p.eps, n = Wide{p.delta} * p.eta;
    try {
      const std::int32_t factor = true_integer_div_factor(p.delta, p.eta, p.eps, y);
      REQUIRE(d != 0);
      REQUIRE(Wide{factor} == (d > 0 ? floor_of(n, d) : floor_of(-n, -d)));
    } catch (const Error& e) {
      const Wide q = d == 0 ? 0 : d > 0 ? floor_of(n, d) : floor_of(-n, -d);
      REQUIRE((d == 0 || q < kLow32 || q > kHigh32));
      REQUIRE(e.code() == (d == 0 ? ErrorCode::invalid_argument : ErrorCode::overflow));
    }
    const std::int32_t x = any32(draw), factor = any32(draw);
    agree_on_one([&](Overflow o) { return int32_product(x, factor, o); },
                 [&](Steps& s) { return s.to_signed(32, Wide{x} * factor); });
  }
  CHECK(fitting > kRounds);
}

TEST_CASE("range: integer_mean and isqrt") {
  Draw draw(103);
  for (int i = 0; i < 5 * kRounds; ++i) {
    const std::int64_t n = anywhere(draw, 1, std::int64_t{1} << 40),
                       count = draw(0, 1) ? n : std::int64_t{1} << draw(0, 40);
    const std::int64_t sum = anywhere(draw, -(std::int64_t{1} << 62), std::int64_t{1} << 62),
                       half = count / 2;
    const bool even_power = (count & (count - 1)) == 0;
    const Wide wanted = even_power ? floor_of(Wide{sum} + half, count)
                                   : truncated(Wide{sum} + (sum < 0 ? -half : half), count);
    REQUIRE(Wide{integer_mean(sum, count)} == wanted);
    const std::int64_t radicand = anywhere(draw, 0, std::numeric_limits<std::int64_t>::max());
    REQUIRE(Wide{isqrt(radicand)} == root_of(radicand));
  }
}

TEST_CASE("range: igelu, ihardswish and inonorm") {
  Draw draw(104);
  int fitting = 0;
  for (int i = 0; i < 5 * kRounds; ++i) {
    const auto x = static_cast<std::int32_t>(anywhere(draw, -128, 255));
    const IGelu gelu{static_cast<std::int32_t>(anywhere(draw, -128, -1)),
                     static_cast<std::int32_t>(anywhere(draw, 1, 32767))};
    agree_on_one([&](Overflow) { return igelu(x, gelu); },
                 [&](Steps&) {
                   const Wide magnitude = x < 0 ? -x : x, q = std::min<Wide>(magnitude, -gelu.b);
                   const Wide square = (q + gelu.b) * (q + gelu.b), sign = (x > 0) - (x < 0);
                   return x * floor_of(gelu.one + sign * (gelu.one - square), 2);
                 });
    const IHardswish swish{any32(draw), any32(draw), any32(draw)};
    fitting += agree_on_one([&](Overflow o) { return ihardswish(x, swish, o); },
                            [&](Steps& s) {
                              Wide t = s.to_signed(32, Wide{x} + swish.three);
                              t = std::min<Wide>(std::max<Wide>(t, 0), swish.six);
                              return s.to_signed(32, x * s.to_signed(32, t * swish.one_over_six));
                            });
    const std::int32_t weight = any32(draw), bias = any32(draw), mul = any32(draw);
    const int log2_d = static_cast<int>(draw(0, 31));
    fitting += agree_on_one(
        [&](Overflow o) { return inonorm(x, weight, bias, mul, log2_d, o); },
        [&](Steps& s) {
          const Wide sum = s.to_signed(32, s.to_signed(32, Wide{x} * weight) + bias);
          return s.to_signed(8, floor_of(s.to_signed(32, sum * mul), power_of_two(log2_d)));
        });
  }
  CHECK(fitting > kRounds);
}

TEST_CASE("range: isoftmax") {
  Draw draw(105);
  int fitting = 0;
  for (int i = 0; i < 2 * kRounds; ++i) {
    const std::vector<std::int32_t> row = row_of(draw, static_cast<std::size_t>(draw(1, 9)));
    // Half of the rounds within reason, so that whole rows fit; the other half anywhere.
    const bool tame = draw(0, 1) == 1;
    ISoftmax p;
    p.coeff_a = tame ? static_cast<std::int32_t>(draw(1, 9)) : any32(draw);
    p.coeff_b = tame ? static_cast<std::int32_t>(draw(0, 900)) : any32(draw);
    p.coeff_c = tame ? draw(1, 900000)
                     : anywhere(draw, std::numeric_limits<std::int64_t>::min(),
                                std::numeric_limits<std::int64_t>::max());
    p.log2 = tame ? static_cast<std::int32_t>(draw(2, 900)) : any32(draw);
    if (p.log2 == 0) p.log2 = 1;
    p.n_levels = static_cast<std::int32_t>(draw(2, 256));
    p.unsigned_octave = draw(0, 1) == 1;
    const std::int32_t max = *std::ranges::max_element(row);
    fitting += agree(
        [&](Overflow o) {
          return row_result(row.size(), [&](auto out) { isoftmax(row, p, out, o); });
        },
        [&](Steps& s) {
          std::vector<Wide> e;
          Wide total = 0;
          for (const std::int32_t x : row) {
            const Wide t = Wide{x} - max, quotient = -truncated(t, p.log2);
            const Wide octave =
                p.unsigned_octave ? s.to_unsigned(8, quotient) : s.to_signed(8, quotient);
            const Wide z = std::clamp<Wide>(octave, 0, 31);
            const Wide root = s.to_signed(32, low_bits(t + z * p.log2, 16) + Wide{p.coeff_b});
            const Wide scaled = s.to_signed(32, p.coeff_a * s.to_signed(32, root * root));
            const Wide sum = scaled + p.coeff_c;
            s.to_unsigned(63, sum);  // negative, or beyond int64: told, and modular when it wraps
            const Wide modular = sum - floor_of(sum, power_of_two(64)) * power_of_two(64);
            e.push_back(
                s.to_unsigned(32, floor_of(modular, power_of_two(static_cast<std::int64_t>(z)))));
            total = s.to_unsigned(32, total + e.back());
          }
          if (total == 0) {
            s.no_result();
            return e;
          }
          for (Wide& y : e) {
            y = s.to_unsigned(32, y * (p.n_levels - 1)) / total;
            y = low_bits(y - p.n_levels / 2, 8) + p.n_levels / 2;
          }
          return e;
        });
  }
  CHECK(fitting > kRounds / 4);
}

TEST_CASE("range: itamax and ita_partial_max") {
  Draw draw(106);
  const auto shift = [](Wide distance) {
    return static_cast<std::int64_t>(floor_of(distance + 16, 32));
  };
  for (int i = 0; i < kRounds; ++i) {
    const auto width = static_cast<std::size_t>(draw(1, 5)),
               groups = static_cast<std::size_t>(draw(1, 4));
    const std::vector<std::int32_t> row = row_of(draw, width * groups);
    const auto levels = static_cast<std::int32_t>(draw(2, 256));
    agree(
        [&](Overflow o) {
          return row_result(row.size(), [&](auto out) { itamax(row, levels, out, o); });
        },
        [&](Steps&) {
          const Wide max = *std::ranges::max_element(row);
          Wide sum = 0;
          for (const std::int32_t x : row) sum += 256 / power_of_two(shift(max - x));
          std::vector<Wide> y;
          for (const std::int32_t x : row)
            y.push_back((levels - 1) * 256 / sum / power_of_two(shift(max - x)));
          return y;
        });
    agree(
        [&](Overflow o) {
          return row_result(row.size(), [&](auto out) {
            ita_partial_max(row, levels, static_cast<std::int64_t>(width), out, o);
          });
        },
        [&](Steps&) {
          Wide max = -128, sum = 0;
          for (std::size_t g = 0; g < groups; ++g) {
            Wide top = -128;
            for (std::size_t k = 0; k < width; ++k) top = std::max<Wide>(top, row[g * width + k]);
            if (top > max) {
              sum /= power_of_two(shift(top - max));
              max = top;
            }
            for (std::size_t k = 0; k < width; ++k)
              sum += 256 / power_of_two(shift(max - row[g * width + k]));
          }
          std::vector<Wide> y;
          for (const std::int32_t x : row)
            y.push_back((levels / 2 - 1) * 256 / sum / power_of_two(shift(max - x)));
          return y;
        });
  }
}

TEST_CASE(
    "range: ilayernorm and irmsnorm, rows long enough for the sum of squares to wrap among them") {
  Draw draw(107);
  int fitting = 0;
  for (int i = 0; i < kRounds; ++i) {
    const bool is_long = i % 2000 == 0;
    const auto n = static_cast<std::size_t>(is_long ? draw(33000, 140000) : draw(1, 12));
    std::vector<std::int32_t> row = row_of(draw, n);
    if (is_long && draw(0, 1)) std::ranges::fill(row, 255);
    const std::vector<std::int32_t> weight = any_row32(draw, n), bias = any_row32(draw, n);
    const int log2_d = static_cast<int>(draw(0, 31));
    const auto deviation = [&](Steps& s, Wide mean) {
      Wide squares = 0;
      for (const std::int32_t x : row) squares = s.to_signed(32, squares + (x - mean) * (x - mean));
      const Wide root = root_of(std::max<Wide>(0, truncated(squares, static_cast<Wide>(n)) + 1));
      if (root == 0) s.no_result();
      return std::max<Wide>(root, 1);
    };
    fitting += agree(
        [&](Overflow o) {
          return row_result(n, [&](auto out) { ilayernorm(row, weight, bias, log2_d, out, o); });
        },
        [&](Steps& s) {
          Wide sum = 0;
          for (const std::int32_t x : row) sum += x;
          const Wide mean = truncated(sum, static_cast<Wide>(n)), sigma = deviation(s, mean);
          std::vector<Wide> y;
          for (std::size_t k = 0; k < n; ++k)
            y.push_back(
                s.to_signed(8, floor_of(truncated((row[k] - mean) * weight[k], sigma) + bias[k],
                                        power_of_two(log2_d))));
          return y;
        });
    fitting += agree(
        [&](Overflow o) {
          return row_result(n, [&](auto out) { irmsnorm(row, weight, log2_d, out, o); });
        },
        [&](Steps& s) {
          const Wide sigma = deviation(s, 0);
          std::vector<Wide> y;
          for (std::size_t k = 0; k < n; ++k)
            y.push_back(std::clamp<Wide>(
                floor_of(truncated(s.to_signed(32, Wide{row[k]} * weight[k]), sigma),
                         power_of_two(log2_d)),
                -128, 127));
          return y;
        });
  }
  CHECK(fitting > kRounds / 4);
}

}  // namespace waveq
