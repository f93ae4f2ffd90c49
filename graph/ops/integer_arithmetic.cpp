#include "waveq/graph/integer_arithmetic.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <limits>

namespace waveq {

namespace {

constexpr std::int64_t kMin32 = std::numeric_limits<std::int32_t>::min();
constexpr std::int64_t kMax32 = std::numeric_limits<std::int32_t>::max();

constexpr bool fits_int32(std::int64_t x) { return kMin32 <= x && x <= kMax32; }

/// Two's complement reduction; conversion to a narrower integer is modular in C++20.
constexpr std::int32_t wrap32(std::int64_t x) { return static_cast<std::int32_t>(x); }

[[noreturn]] void overflow_error(const char* where, std::string what, std::string hint = {}) {
  throw Error(ErrorCode::overflow, where, std::move(what), std::move(hint));
}

void check_requant(const Requant& rq) {
  if (rq.shift < 0 || rq.shift > 31)
    throw Error(ErrorCode::invalid_argument, "requant", fmt::format("shift is {}", rq.shift),
                "it must be in 0..31");
  if (rq.lo > rq.hi)
    throw Error(ErrorCode::invalid_argument, "requant",
                fmt::format("clip range {}..{} is empty", rq.lo, rq.hi));
  if (rq.product_bits != 32 && rq.product_bits != 64)
    throw Error(ErrorCode::invalid_argument, "requant",
                fmt::format("product_bits is {}", rq.product_bits), "32 or 64 are possible");
  const bool fits =
      rq.product_bits == 32 ? fits_int32(rq.add) : -kMaxWideAdd <= rq.add && rq.add <= kMaxWideAdd;
  if (!fits)
    throw Error(ErrorCode::invalid_argument, "requant", fmt::format("add is {}", rq.add),
                rq.product_bits == 32 ? "it must fit int32" : "|add| <= 2^61 is possible");
}

std::int64_t rounding_half(const Requant& rq) {
  return rq.rounding == Rounding::half_up && rq.shift > 0 ? std::int64_t{1} << (rq.shift - 1) : 0;
}

std::int32_t clip(std::int64_t value, const Requant& rq) {
  return wrap32(std::clamp(value, rq.lo, rq.hi));
}

/// Largest q with q*b <= a, b > 0.
std::int64_t floor_div(std::int64_t a, std::int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }
std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return a / b + (a % b > 0 ? 1 : 0); }

}  // namespace

std::int32_t narrow_int32(std::int64_t value, Overflow overflow, const char* where,
                          const char* what) {
  if (overflow == Overflow::error && !fits_int32(value))
    overflow_error(where, fmt::format("{} is {}, outside int32", what, value));
  return wrap32(value);
}

int exact_log2(std::int64_t value, std::string_view name) {
  if (value < 1 || value > (std::int64_t{1} << 31) ||
      !std::has_single_bit(static_cast<std::uint64_t>(value)))
    throw Error(ErrorCode::parse, fmt::format("attribute '{}'", name), fmt::format("is {}", value),
                "it must be a power of two in 1..2^31");
  return std::countr_zero(static_cast<std::uint64_t>(value));
}

std::int32_t requant(std::int32_t acc, const Requant& rq) {
  check_requant(rq);
  const std::int64_t product = std::int64_t{acc} * rq.mul;  // at most 2^62 in magnitude
  const std::int64_t sum = product + rq.add;
  const std::int64_t rounded = sum + rounding_half(rq);
  const bool fits =
      rq.product_bits == 64 || (fits_int32(product) && fits_int32(sum) && fits_int32(rounded));
  if (!fits)
    overflow_error(
        "requant",
        fmt::format("{}*{} + {} + {} leaves int32", acc, rq.mul, rq.add, rounding_half(rq)),
        "use a smaller mul and shift");
  return clip(rounded >> rq.shift, rq);
}

std::int32_t requant_wrapped(std::int32_t acc, const Requant& rq) {
  check_requant(rq);
  const std::int64_t wide = std::int64_t{acc} * rq.mul + rq.add + rounding_half(rq);
  return clip((rq.product_bits == 64 ? wide : wrap32(wide)) >> rq.shift, rq);
}

IntRange requant_safe_range(const Requant& rq) {
  check_requant(rq);
  if (rq.product_bits == 64) return {kMin32, kMax32};
  // The product p must satisfy p, p + add, p + add + half in int32.
  const std::int64_t add = rq.add, sum = add + rounding_half(rq);
  const std::int64_t low = kMin32 - std::min({std::int64_t{0}, add, sum});
  const std::int64_t high = kMax32 - std::max({std::int64_t{0}, add, sum});
  if (low > high) return {};
  if (rq.mul == 0) return low <= 0 && 0 <= high ? IntRange{kMin32, kMax32} : IntRange{};
  const std::int64_t m = rq.mul;
  const IntRange range = m > 0 ? IntRange{ceil_div(low, m), floor_div(high, m)}
                               : IntRange{ceil_div(-high, -m), floor_div(-low, -m)};
  return {std::max(range.lo, kMin32), std::min(range.hi, kMax32)};
}

std::int64_t isqrt(std::int64_t n) {
  if (n <= 0) return 0;
  // One result bit at a time from the top: exact, at most 32 steps.
  std::uint64_t rest = static_cast<std::uint64_t>(n), root = 0;
  std::uint64_t bit = std::uint64_t{1} << ((63 - std::countl_zero(rest)) & ~1);
  for (; bit != 0; bit >>= 2) {
    if (rest >= root + bit) {
      rest -= root + bit;
      root = (root >> 1) + bit;
    } else {
      root >>= 1;
    }
  }
  return static_cast<std::int64_t>(root);
}

std::int64_t integer_mean(std::int64_t sum, std::int64_t count) {
  if (count < 1)
    throw Error(ErrorCode::invalid_argument, "integer_mean",
                fmt::format("mean of {} elements", count));
  const __int128 wide = sum;
  const std::int64_t half = count >> 1;
  if (std::has_single_bit(static_cast<std::uint64_t>(count)))
    return static_cast<std::int64_t>((wide + half) >>
                                     std::countr_zero(static_cast<std::uint64_t>(count)));
  return static_cast<std::int64_t>((wide + (sum < 0 ? -half : half)) / count);
}

std::int32_t integer_div(std::int32_t num, std::int32_t den, const IntegerDiv& p,
                         Overflow overflow) {
  const std::int64_t stretch =
      narrow_int32(std::int64_t{p.delta} * p.eta, overflow, "integer_div", "Delta*eta");
  // |eta*den| <= 2^62 and |stretch*num| <= 2^62, so with half a divisor added all stays in int64.
  const std::int64_t d = std::int64_t{p.eta} * den + p.eps;
  const std::int64_t n = stretch * num;
  if (d == 0)
    overflow_error("integer_div", fmt::format("the divisor {}*{} + {} is zero", p.eta, den, p.eps),
                   "a positive eps keeps a non-negative divisor away from zero");
  const std::int64_t half = d >> 1;
  return narrow_int32((n + (n >= 0 ? half : -half)) / d, overflow, "integer_div", "the quotient");
}

std::int32_t true_integer_div_factor(std::int64_t delta, std::int64_t eta, std::int64_t eps,
                                     std::int64_t y) {
  const __int128 divisor = static_cast<__int128>(y) * eta + eps;
  if (divisor == 0)
    throw Error(ErrorCode::invalid_argument, "true_integer_div", "the divisor y*eta + eps is zero");
  const __int128 stretch = static_cast<__int128>(delta) * eta;
  __int128 factor = stretch / divisor;
  if (stretch % divisor != 0 && (stretch < 0) != (divisor < 0)) --factor;  // floor, not truncation
  if (factor < kMin32 || factor > kMax32)
    overflow_error("true_integer_div", "Delta*eta / (y*eta + eps) leaves int32", "lower Delta");
  return static_cast<std::int32_t>(factor);
}

std::int32_t int32_product(std::int32_t x, std::int32_t factor, Overflow overflow) {
  return narrow_int32(std::int64_t{x} * factor, overflow, "product", "x * factor");
}

IGelu igelu_arguments(std::int64_t b, std::int64_t one, Overflow overflow) {
  const IGelu p{static_cast<std::int8_t>(b), static_cast<std::int16_t>(one)};
  if (overflow == Overflow::error && (p.b != b || p.one != one))
    overflow_error("igelu", fmt::format("b = {}, one = {} do not fit int8 and int16", b, one),
                   "the input scale is too fine for this kernel");
  return p;
}

std::int32_t igelu(std::int32_t x, const IGelu& p) {
  const std::int64_t sign = (x > 0) - (x < 0);
  const std::int64_t q = std::min<std::int64_t>(sign * x, -std::int64_t{p.b});
  const std::int64_t d = q + p.b;
  const std::int64_t l = sign * (p.one - d * d);
  // In the stated domain the product fits int32; outside it the unsigned product is at least
  // defined.
  return wrap32(static_cast<std::int64_t>(static_cast<std::uint64_t>(std::int64_t{x}) *
                                          static_cast<std::uint64_t>((p.one + l) >> 1)));
}

std::int32_t ihardswish(std::int32_t x, const IHardswish& p, Overflow overflow) {
  const auto step = [&](std::int64_t v, const char* what) {
    return narrow_int32(v, overflow, "ihardswish", what);
  };
  std::int32_t t = step(std::int64_t{x} + p.three, "x + three");
  // The kernel tests both bounds in this order, which matters for a negative `six` alone.
  if (t < 0) t = 0;
  if (t > p.six) t = p.six;
  t = step(std::int64_t{t} * p.one_over_six, "clamp(x + three) * one_over_six");
  return step(std::int64_t{x} * t, "the result");
}

std::int32_t inonorm(std::int32_t x, std::int32_t weight, std::int32_t bias, std::int32_t mul,
                     int log2_d, Overflow overflow) {
  const auto step = [&](std::int64_t v, const char* what) {
    return narrow_int32(v, overflow, "inonorm", what);
  };
  if (log2_d < 0 || log2_d > 31)
    throw Error(ErrorCode::invalid_argument, "inonorm", fmt::format("log2 D is {}", log2_d),
                "it must be in 0..31");
  const std::int32_t product = step(std::int64_t{x} * weight, "x*weight");
  const std::int32_t sum = step(std::int64_t{product} + bias, "x*weight + bias");
  const std::int32_t y = step(std::int64_t{sum} * mul, "(x*weight + bias)*mul") >> log2_d;
  if (overflow == Overflow::error && y != static_cast<std::int8_t>(y))
    overflow_error("inonorm", fmt::format("the result {} does not fit int8", y),
                   "the target wraps there; choose a coarser output scale");
  return static_cast<std::int8_t>(y);
}

}  // namespace waveq
