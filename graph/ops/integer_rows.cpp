// Integer functions of a whole row: softmax forms and normalizations.

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "waveq/graph/integer_arithmetic.h"

namespace waveq {

namespace {

[[noreturn]] void overflow_error(const char* where, std::string what, std::string hint = {}) {
  throw Error(ErrorCode::overflow, where, std::move(what), std::move(hint));
}

/// Low 32 bits as the target's uint32; outside is an error unless wrapping.
std::uint32_t narrow_uint32(std::uint64_t value, Overflow overflow, const char* where,
                            const char* what) {
  if (overflow == Overflow::error && value > std::numeric_limits<std::uint32_t>::max())
    overflow_error(where, fmt::format("{} is {}, outside uint32", what, value));
  return static_cast<std::uint32_t>(value);
}

/// The kernels read 8-bit rows; with that bound the differences and products below cannot overflow.
void check_row(std::span<const std::int32_t> row, std::span<std::int32_t> out, const char* where,
               int bits = 8) {
  if (row.empty() || out.size() != row.size())
    throw Error(ErrorCode::invalid_argument, where,
                fmt::format("row of {} elements into {}", row.size(), out.size()));
  const std::int32_t limit = std::int32_t{1} << bits;
  for (std::int32_t x : row)
    if (x < -limit / 2 || x >= limit)
      throw Error(ErrorCode::invalid_argument, where,
                  fmt::format("{} is not {} {}-bit value", x, bits == 8 ? "an" : "a", bits));
}

void check_levels(std::int32_t n_levels, const char* where) {
  if (n_levels < 2 || n_levels > 256)
    throw Error(ErrorCode::invalid_argument, where, fmt::format("n_levels is {}", n_levels),
                "the kernel stores 8 bits: 2..256");
}

/// The target stores y - n/2 in an int8; this is the unsigned value that comes back.
std::int32_t stored_unsigned(std::uint32_t y, std::int32_t n_levels) {
  const auto half = static_cast<std::uint32_t>(n_levels / 2);
  return std::int32_t{static_cast<std::int8_t>(y - half)} + n_levels / 2;
}

/// e of one element, see isoftmax.
std::uint32_t isoftmax_exp(std::int32_t t, const ISoftmax& p, Overflow overflow) {
  const auto step = [&](std::int64_t v, const char* what) {
    return narrow_int32(v, overflow, "isoftmax", what);
  };
  const std::int64_t octave = -(std::int64_t{t} / p.log2);
  const int stored =
      p.unsigned_octave ? static_cast<std::uint8_t>(octave) : static_cast<std::int8_t>(octave);
  if (overflow == Overflow::error && octave != stored)
    overflow_error(
        "isoftmax",
        fmt::format("octave {} does not fit {}", octave, p.unsigned_octave ? "uint8" : "int8"),
        "log2 is too small for this input range");
  const int z = std::clamp(stored, 0, 31);
  const auto reduced = static_cast<std::int16_t>(t + std::int64_t{z} * p.log2);
  const std::int32_t root = step(std::int64_t{reduced} + p.coeff_b, "p + coeffB");
  const std::int32_t square = step(std::int64_t{root} * root, "(p + coeffB)^2");
  const std::int32_t scaled = step(std::int64_t{p.coeff_a} * square, "coeffA*(p + coeffB)^2");
  // Modular like the kernel's conversion to uint64: a negative sum is an overflow below.
  const std::uint64_t sum =
      static_cast<std::uint64_t>(std::int64_t{scaled}) + static_cast<std::uint64_t>(p.coeff_c);
  const __int128 exact = static_cast<__int128>(scaled) + p.coeff_c;
  if (overflow == Overflow::error &&
      (exact < 0 || exact > std::numeric_limits<std::int64_t>::max()))
    overflow_error("isoftmax", "the polynomial leaves 63 bits or is negative",
                   "check coeffB and coeffC");
  return narrow_uint32(sum >> z, overflow, "isoftmax", "the exponential");
}

/// (difference + 16) >> 5: the ITA's power-of-two exponential, a shift per 32 steps.
/// Differences of 8-bit values give 0..12.
int ita_shift(std::int32_t difference) { return (difference + 16) >> 5; }

}  // namespace

void isoftmax(std::span<const std::int32_t> row, const ISoftmax& p, std::span<std::int32_t> out,
              Overflow overflow) {
  check_row(row, out, "isoftmax");
  check_levels(p.n_levels, "isoftmax");
  if (p.log2 == 0)
    throw Error(ErrorCode::invalid_argument, "isoftmax", "log2 is 0", "use round(ln 2 / scale)");
  const std::int32_t max = *std::ranges::max_element(row);
  std::uint32_t total = 0;
  for (std::size_t i = 0; i < row.size(); ++i) {
    const std::uint32_t e = isoftmax_exp(row[i] - max, p, overflow);
    out[i] = static_cast<std::int32_t>(e);
    total =
        narrow_uint32(std::uint64_t{total} + e, overflow, "isoftmax", "the sum of exponentials");
  }
  if (total == 0)
    overflow_error("isoftmax", "the exponentials of a row sum to zero", "check coeffB and coeffC");
  const auto top = static_cast<std::uint64_t>(p.n_levels - 1);
  for (std::int32_t& y : out) {
    const std::uint32_t product = narrow_uint32(static_cast<std::uint32_t>(y) * top, overflow,
                                                "isoftmax", "exponential*(n_levels-1)");
    y = stored_unsigned(product / total, p.n_levels);
  }
}

void itamax(std::span<const std::int32_t> row, std::int32_t n_levels, std::span<std::int32_t> out,
            Overflow overflow) {
  check_row(row, out, "itamax");
  check_levels(n_levels, "itamax");
  const std::int32_t max = *std::ranges::max_element(row);
  std::uint32_t total = 0;
  for (std::int32_t x : row)
    total = narrow_uint32(std::uint64_t{total} + (256U >> ita_shift(max - x)), overflow, "itamax",
                          "the sum");
  if (total == 0) overflow_error("itamax", "the sum of a row wraps to zero", "shorten the row");
  const std::uint32_t inverse = static_cast<std::uint32_t>(n_levels - 1) * 256U / total;
  for (std::size_t i = 0; i < row.size(); ++i)
    out[i] = stored_unsigned(inverse >> ita_shift(max - row[i]), n_levels);
}

void ita_partial_max(std::span<const std::int32_t> row, std::int32_t n_levels,
                     std::int64_t group_width, std::span<std::int32_t> out, Overflow overflow) {
  check_row(row, out, "ita_partial_max");
  check_levels(n_levels, "ita_partial_max");
  if (group_width < 1 || static_cast<std::int64_t>(row.size()) % group_width != 0)
    throw Error(ErrorCode::invalid_argument, "ita_partial_max",
                fmt::format("group_width {} does not divide a row of {}", group_width, row.size()));
  const auto width = static_cast<std::size_t>(group_width);
  // The kernel starts from the type's minimum; shifting the empty sum does nothing, so the first
  // group's maximum is as good a start and does not depend on the type.
  std::int32_t max = *std::ranges::max_element(row.first(width));
  std::uint32_t total = 0;
  for (std::size_t g = 0; g < row.size(); g += width) {
    const std::span<const std::int32_t> group = row.subspan(g, width);
    const std::int32_t group_max = *std::ranges::max_element(group);
    if (group_max > max) {
      total >>= ita_shift(group_max - max);
      max = group_max;
    }
    for (std::int32_t x : group)
      total = narrow_uint32(std::uint64_t{total} + (256U >> ita_shift(max - x)), overflow,
                            "ita_partial_max", "the sum");
  }
  if (total == 0)
    overflow_error("ita_partial_max", "the sum of a row wraps to zero", "shorten the row");
  const std::uint32_t inverse = static_cast<std::uint32_t>(n_levels / 2 - 1) * 256U / total;
  for (std::size_t i = 0; i < row.size(); ++i)
    out[i] = stored_unsigned(inverse >> ita_shift(max - row[i]), n_levels);
}

namespace {

/// sqrt(mean of squares + epsilon), floored, with the sum in int32 or, of 16-bit data, in int64.
template <class Sum>
std::int64_t rms(std::span<const std::int32_t> row, std::int32_t mean, std::int64_t epsilon,
                 const char* where, Overflow overflow) {
  Sum sum = 0;
  for (std::int32_t x : row) {
    const std::int64_t t = std::int64_t{x} - mean;
    if constexpr (sizeof(Sum) == sizeof(std::int32_t))
      sum = narrow_int32(sum + t * t, overflow, where, "the sum of squares");
    else
      sum += t * t;
  }
  const std::int64_t root =
      isqrt(std::int64_t{sum} / static_cast<std::int64_t>(row.size()) + epsilon);
  if (root == 0) overflow_error(where, "the sum of squares wraps below zero", "shorten the row");
  return root;
}

void check_weights(std::size_t expected, std::size_t got, int log2_d, const char* where) {
  if (expected != got)
    throw Error(ErrorCode::invalid_argument, where,
                fmt::format("{} weights for rows of {}", got, expected));
  if (log2_d < 0 || log2_d > 31)
    throw Error(ErrorCode::invalid_argument, where, fmt::format("log2 D is {}", log2_d),
                "it must be in 0..31");
}

/// ilayernorm of a row that was checked, with sums of squares of type Sum, results of type Result.
template <class Sum, class Result>
void normalize_row(std::span<const std::int32_t> row, std::span<const std::int32_t> weight,
                   std::span<const std::int32_t> bias, int log2_d, std::int64_t epsilon,
                   std::span<std::int32_t> out, Overflow overflow) {
  check_weights(row.size(), weight.size(), log2_d, "ilayernorm");
  check_weights(row.size(), bias.size(), log2_d, "ilayernorm");
  std::int32_t sum = 0;
  for (std::int32_t x : row)
    sum = narrow_int32(std::int64_t{sum} + x, overflow, "ilayernorm", "the sum");
  const auto mean = static_cast<std::int32_t>(sum / static_cast<std::int64_t>(row.size()));
  const std::int64_t deviation = rms<Sum>(row, mean, epsilon, "ilayernorm", overflow);
  for (std::size_t i = 0; i < row.size(); ++i) {
    const std::int64_t t = std::int64_t{row[i]} - mean;
    const std::int64_t y = (t * weight[i] / deviation + bias[i]) >> log2_d;
    if (overflow == Overflow::error && y != static_cast<Result>(y))
      overflow_error("ilayernorm",
                     fmt::format("the result {} does not fit int{}", y, 8 * sizeof(Result)),
                     "the target wraps there; choose a coarser output scale");
    out[i] = static_cast<Result>(y);
  }
}

}  // namespace

void ilayernorm(std::span<const std::int32_t> row, std::span<const std::int32_t> weight,
                std::span<const std::int32_t> bias, int log2_d, std::span<std::int32_t> out,
                Overflow overflow) {
  check_row(row, out, "ilayernorm");
  normalize_row<std::int32_t, std::int8_t>(row, weight, bias, log2_d, 1, out, overflow);
}

void ilayernorm_wide(std::span<const std::int32_t> row, std::span<const std::int32_t> weight,
                     std::span<const std::int32_t> bias, int log2_d, std::int64_t epsilon,
                     std::span<std::int32_t> out, Overflow overflow) {
  check_row(row, out, "ilayernorm", 16);
  if (epsilon < 1 || epsilon > kLayerNormLargestEpsilon)
    throw Error(ErrorCode::invalid_argument, "ilayernorm", fmt::format("epsilon is {}", epsilon),
                "1..2^40");
  normalize_row<std::int64_t, std::int32_t>(row, weight, bias, log2_d, epsilon, out, overflow);
}

void irmsnorm(std::span<const std::int32_t> row, std::span<const std::int32_t> weight, int log2_d,
              std::span<std::int32_t> out, Overflow overflow) {
  check_row(row, out, "irmsnorm");
  check_weights(row.size(), weight.size(), log2_d, "irmsnorm");
  const std::int64_t deviation = rms<std::int32_t>(row, 0, 1, "irmsnorm", overflow);
  for (std::size_t i = 0; i < row.size(); ++i) {
    const std::int32_t product =
        narrow_int32(std::int64_t{row[i]} * weight[i], overflow, "irmsnorm", "x*weight");
    out[i] = static_cast<std::int32_t>(
        std::clamp<std::int64_t>((product / deviation) >> log2_d, -128, 127));
  }
}

}  // namespace waveq
