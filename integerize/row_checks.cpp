// Interval transfer and overflow checks of the operators that work on a whole row. What bounds them
// is a relation between the elements of a row: probabilities are shares of their sum, and a
// normalized element is a share of the deviation it contributes to.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "row_bounds.h"
#include "transfer.h"
#include "waveq/graph/integer_arithmetic.h"

namespace waveq {

namespace {

constexpr double kUint32Limit = 4294967295.0;

std::int64_t row_length(const TransferContext& ctx) { return ctx.input_shape(0).back(); }

int log2_of_d(const TransferContext& ctx) {
  return exact_log2(ctx.node.attrs.require_int("D"), "D");
}

/// An iLayerNorm that reads 16 bits and makes int32.
bool is_wide(const TransferContext& ctx) { return ctx.node.attrs.get_int("output_bits", 8) == 32; }

/// The operators read 8-bit rows; wider intervals come from networks that do not run.
Interval eight_bits(const Interval& x) {
  return {std::clamp<std::int64_t>(x.lo, -128, 255), std::clamp<std::int64_t>(x.hi, -128, 255)};
}

Interval sixteen_bits(const Interval& x) {
  return {std::clamp<std::int64_t>(x.lo, -32768, 65535),
          std::clamp<std::int64_t>(x.hi, -32768, 65535)};
}

/// A result that leaves the 8 bits it is stored in.
NodeBound narrowed(const NodeBound& bound, const Interval& y) {
  return {bound.worst, false,
          fmt::format("the kernel narrows its result to 8 bits without a clip, and it can be in "
                      "[{}, {}]",
                      y.lo, y.hi)};
}

Interval values_before_narrowing(const TransferContext& ctx) {
  const Interval all = ctx.input(0).hull(), x = is_wide(ctx) ? sixteen_bits(all) : eight_bits(all);
  return layer_norm_interval(to_int64(*ctx.constant(1)), to_int64(*ctx.constant(2)), log2_of_d(ctx),
                             x.hi - x.lo, ctx.node.attrs.get_int("epsilon", 1));
}

bool has_constant_parameters(const TransferContext& ctx) {
  for (std::size_t i = 1; i < ctx.node.inputs.size(); ++i)
    if (!ctx.constant(i) || ctx.constant(i)->size() == 0) return false;
  return row_length(ctx) > 0;
}

}  // namespace

std::int64_t least_deviation(std::int64_t a, std::int64_t n, std::int64_t epsilon) {
  std::int64_t rest = 0;
  if (n > 1) {
    const std::int64_t sum = std::max<std::int64_t>(0, a - (n - 1)), each = sum / (n - 1),
                       more = sum % (n - 1);
    rest = each * each * (n - 1 - more) + (each + 1) * (each + 1) * more;
  }
  return isqrt((a * a + rest) / n + epsilon);
}

Interval layer_norm_interval(const std::vector<std::int64_t>& weight,
                             const std::vector<std::int64_t>& bias, int log2_d, std::int64_t width,
                             std::int64_t epsilon) {
  const auto n = static_cast<std::int64_t>(weight.size());
  // Truncated products with a weight are largest where a/deviation is.
  std::int64_t most = 0, deviation = 1;
  for (std::int64_t a = 1; a <= (n > 1 ? width : 0); ++a)
    if (const std::int64_t least = least_deviation(a, n, epsilon); a * deviation > most * least)
      most = a, deviation = least;
  Interval out{bias.front() >> log2_d, bias.front() >> log2_d};
  for (std::size_t j = 0; j < weight.size(); ++j)
    for (const std::int64_t t : {most, -most}) {
      const std::int64_t y = (t * weight[j] / deviation + bias[j]) >> log2_d;
      out = {std::min(out.lo, y), std::max(out.hi, y)};
    }
  return out;
}

Bounds softmax_bounds(const TransferContext& ctx) {
  const std::int64_t n = ctx.node.attrs.get_int("n_levels", 256);
  return Bounds::all({0, ctx.node.op == "ITAPartialMax" ? n / 2 - 1 : n - 1});
}

Bounds layer_norm_bounds(const TransferContext& ctx) {
  const DType stored = is_wide(ctx) ? DType::i32 : DType::i8;
  const Interval all{lowest(stored), highest(stored)};
  if (!has_constant_parameters(ctx)) return Bounds::all(all);
  const Interval y = values_before_narrowing(ctx);
  return Bounds::all(y.lo < all.lo || y.hi > all.hi ? all : y);
}

Bounds rms_norm_bounds(const TransferContext& ctx) {
  if (!has_constant_parameters(ctx)) return Bounds::all({-128, 127});
  const std::int64_t n = row_length(ctx);
  const Interval x = eight_bits(ctx.input(0).hull());
  const std::vector<std::int64_t> w = to_int64(*ctx.constant(1));
  Interval out;
  for (std::int64_t q = x.lo; q <= x.hi; ++q) {
    const std::int64_t deviation = isqrt(q * q / n + 1);  // of a row of otherwise zeros
    for (const std::int64_t weight : w) {
      const std::int64_t y =
          std::clamp<std::int64_t>((q * weight / deviation) >> log2_of_d(ctx), -128, 127);
      out = {std::min(out.lo, y), std::max(out.hi, y)};
    }
  }
  // A deviation above the least one moves the quotient toward 0, the shift of a negative one to -1.
  return Bounds::all({std::min<std::int64_t>(out.lo, -1), out.hi});
}

/// Every difference of two elements of a row, one by one; the sum is at least the largest
/// element's own term, so a quotient is a share of n_levels - 1.
NodeBound check_isoftmax(const TransferContext& ctx) {
  if (const auto reason = not_8_bit(ctx, 0)) return {0, false, *reason};
  const Interval x = ctx.input(0).hull();
  const Attrs& attrs = ctx.node.attrs;
  const std::int64_t a = attrs.get_int("coeffA", 1), b = attrs.require_int("coeffB"),
                     c = attrs.require_int("coeffC"), log2 = attrs.require_int("log2"),
                     n = attrs.get_int("n_levels", 256);
  if (log2 < 2)
    return {0, false, fmt::format("log2 = {}: octaves of one step leave the kernel's int8", log2)};
  double worst = 0, largest = 0;
  for (std::int64_t d = 0; d <= x.hi - x.lo; ++d) {
    const std::int64_t z = std::min<std::int64_t>(d / log2, 31), root = z * log2 - d + b;
    const double square = static_cast<double>(root) * static_cast<double>(root),
                 scaled = square * static_cast<double>(a), e = scaled + static_cast<double>(c);
    if (e < (d == 0 ? 1 : 0))
      return {0, false, fmt::format("the exponential of -{} steps is {}", d, e)};
    worst = std::max({worst, square, std::abs(scaled)});
    largest = std::max(largest, std::ldexp(std::floor(e), -static_cast<int>(z)));
  }
  // The exponentials, their sum and the products with n-1 are uint32, which ends at twice int32.
  const double sum = largest * static_cast<double>(row_length(ctx));
  const double unsigned_worst = std::max(sum, largest * static_cast<double>(n - 1));
  if (unsigned_worst > kUint32Limit)
    return {unsigned_worst / 2, false,
            fmt::format("an intermediate can reach 2^{:.2f}, uint32 ends at 2^32",
                        std::log2(unsigned_worst))};
  NodeBound bound = fits_int32(std::max(worst, std::floor(unsigned_worst / 2)));
  if (bound.proven) bound.reason = "a share of a sum of non-negative terms (all differences tried)";
  return bound;
}

/// The largest element contributes 256 to the sum, so 256*(n-1)/sum is at most n-1.
NodeBound check_itamax(const TransferContext& ctx) {
  if (const auto reason = not_8_bit(ctx, 0)) return {0, false, *reason};
  NodeBound bound = fits_int32(256.0 * static_cast<double>(row_length(ctx)) / 2);
  if (bound.proven) bound.reason = "a share of a sum that contains the largest term";
  return bound;
}

/// Squares are summed in 64 bits: what is left are the sum of the row, and the results.
NodeBound check_wide_layer_norm(const TransferContext& ctx) {
  const Interval x = ctx.input(0).hull();
  if (!(x == sixteen_bits(x)))
    return {0, false,
            fmt::format("the input can be in [{}, {}], the kernel reads 16 bits", x.lo, x.hi)};
  if (!has_constant_parameters(ctx)) return {0, false, "its weight and bias are not constants"};
  NodeBound bound = fits_int32(std::max(magnitude(x) * static_cast<double>(row_length(ctx)),
                                        magnitude(values_before_narrowing(ctx))));
  if (bound.proven)
    bound.reason = "an element is bounded by the deviation it adds to (relational bound)";
  return bound;
}

NodeBound check_layer_norm(const TransferContext& ctx) {
  if (is_wide(ctx)) return check_wide_layer_norm(ctx);
  if (const auto reason = not_8_bit(ctx, 0)) return {0, false, *reason};
  const Interval x = ctx.input(0).hull();
  if (!has_constant_parameters(ctx)) return {0, false, "its weight and bias are not constants"};
  const auto n = static_cast<double>(row_length(ctx)), width = static_cast<double>(x.hi - x.lo);
  NodeBound bound = fits_int32(std::max(magnitude(x) * n, width * width * n));
  if (!bound.proven) return bound;
  const Interval y = values_before_narrowing(ctx);
  if (y.lo < -128 || y.hi > 127) return narrowed(bound, y);
  bound.reason = "an element is bounded by the deviation it adds to (relational bound)";
  return bound;
}

NodeBound check_rms_norm(const TransferContext& ctx) {
  if (const auto reason = not_8_bit(ctx, 0)) return {0, false, *reason};
  const Interval x = ctx.input(0).hull();
  if (!has_constant_parameters(ctx)) return {0, false, "its weight is not a constant"};
  const auto n = static_cast<double>(row_length(ctx));
  return fits_int32(
      std::max(magnitude(x) * magnitude(x) * n, magnitude(x) * magnitude(ctx.input(1).hull())));
}

namespace {

/// ((x*weight + bias)*mul) >> log2 D of every element: its interval, and the largest intermediate.
struct NoNorm {
  Interval y;
  double worst = 0;
};
NoNorm no_norm(const TransferContext& ctx) {
  const Interval x = ctx.input(0).hull();
  const std::int64_t mul = ctx.node.attrs.require_int("mul");
  const Tensor *w = ctx.constant(1), *b = ctx.constant(2);
  std::vector<Interval> weight{ctx.input(1).hull()}, bias{ctx.input(2).hull()};
  if (w && b && w->shape() == b->shape() && w->size() > 0) {
    weight.clear();
    bias.clear();
    for (const std::int64_t v : to_int64(*w)) weight.push_back({v, v});
    for (const std::int64_t v : to_int64(*b)) bias.push_back({v, v});
  }
  NoNorm out;
  for (std::size_t i = 0; i < weight.size(); ++i) {
    const Interval scaled = product(x, weight[i]), sum = sum_interval(scaled, bias[i]),
                   full = product(sum, {mul, mul});
    const Interval shifted{full.lo >> log2_of_d(ctx), full.hi >> log2_of_d(ctx)};
    out.worst = std::max({out.worst, magnitude(scaled), magnitude(sum), magnitude(full)});
    out.y = i == 0 ? shifted : hull(out.y, shifted);
  }
  return out;
}

}  // namespace

Bounds no_norm_bounds(const TransferContext& ctx) {
  const Interval y = no_norm(ctx).y;
  return Bounds::all(y.lo < -128 || y.hi > 127 ? Interval{-128, 127} : y);
}

NodeBound check_no_norm(const TransferContext& ctx) {
  if (const auto reason = not_8_bit(ctx, 0)) return {0, false, *reason};
  const NoNorm n = no_norm(ctx);
  const NodeBound bound = fits_int32(n.worst);
  return bound.proven && (n.y.lo < -128 || n.y.hi > 127) ? narrowed(bound, n.y) : bound;
}

}  // namespace waveq
