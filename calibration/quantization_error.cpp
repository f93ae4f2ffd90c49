#include <algorithm>
#include <cmath>

#include "waveq/calibration/observer.h"
#include "waveq/graph/error.h"

namespace waveq {

namespace {

/// One side of the grid in units of a step: values u >= 0 go to round(u), at most to `limit`.
struct Side {
  double limit;

  double nearest(double u) const {
    // u is clamped first, so the conversion, which truncates, cannot overflow.
    return static_cast<double>(static_cast<std::int64_t>(std::min(u, limit) + 0.5));
  }
  /// Integral over [0, u] of (t - nearest(t))^2: every full step adds 1/12; at step n the distance
  /// to its centre runs from -1/2, and without end beyond the limit.
  double integral(double u) const {
    const double n = nearest(u), r = u - n;
    return n * (1.0 / 12.0) + r * r * r * (1.0 / 3.0);
  }
  /// Mean squared error, in steps^2, of values spread evenly over [a, b].
  double mean(double a, double b) const {
    if (!(b > a)) return (a - nearest(a)) * (a - nearest(a));
    return (integral(b) - integral(a)) / (b - a);
  }
  /// The part of mean() that lies beyond the limit.
  double clipped(double a, double b) const {
    if (b <= limit) return 0.0;
    if (!(b > a)) return (a - limit) * (a - limit);
    const double from = std::max(a - limit, 0.0), to = b - limit;
    return (to * to * to - from * from * from) * (1.0 / 3.0) / (b - a);
  }
};

/// `count(i)` and `last`: a sign's bins and its largest magnitude relative to 2^e; `steps`: 2^e /
/// scale.
template <class Count>
void add_side(const Side side, double steps, double last, Count count, QuantizationError& sum) {
  for (int i = 0; i < TensorStatistics::kBins; ++i) {
    const std::uint64_t n = count(i);
    if (n == 0) continue;
    const double a = TensorStatistics::edge(i) * steps;
    const double b = std::min(TensorStatistics::edge(i + 1), last) * steps;
    sum.total += static_cast<double>(n) * side.mean(a, b);
    if (b > side.limit) sum.clipped += static_cast<double>(n) * side.clipped(a, b);
  }
}

void check_grid(const QuantParams& params) {
  if (!(params.scale > 0.0) || !std::isfinite(params.scale) || params.zero_point < params.lo() ||
      params.zero_point > params.hi())
    throw Error(ErrorCode::invalid_argument, "quantization error",
                "needs a zero point within the grid and a positive scale");
}

}  // namespace

QuantizationError quantization_error(const TensorStatistics& s, const QuantParams& params) {
  check_grid(params);
  // Relative to 2^e nothing can overflow or underflow, whatever the data.
  const double unit = std::ldexp(1.0, s.exponent());
  const double steps = unit / params.scale;
  QuantizationError sum;
  add_side(
      {static_cast<double>(params.hi() - params.zero_point)}, steps, s.max() / unit,
      [&](int i) { return s.positive(i); }, sum);
  add_side(
      {static_cast<double>(params.zero_point - params.lo())}, steps, -s.min() / unit,
      [&](int i) { return s.negative(i); }, sum);
  const double squared = params.scale * params.scale;
  return {sum.total * squared, sum.clipped * squared};
}

std::vector<double> code_counts(const TensorStatistics& s, const QuantParams& params) {
  check_grid(params);
  const double steps = std::ldexp(1.0, s.exponent()) / params.scale;
  std::vector<double> counts(static_cast<std::size_t>(params.hi() - params.lo() + 1), 0.0);
  // `from`, `to`: distances from zero in steps, on the side that `sign` says.
  const auto spread = [&](double from, double to, double sign, std::uint64_t count) {
    if (count == 0) return;
    const double limit = static_cast<double>(sign > 0 ? params.hi() - params.zero_point
                                                      : params.zero_point - params.lo());
    const auto code = [&](double u) { return std::floor(std::min(u, limit) + 0.5); };
    for (double n = code(from); n <= code(to); ++n) {
      const double low = std::max(from, n - 0.5), high = n == limit ? to : std::min(to, n + 0.5);
      const double share = to > from ? std::max(high - low, 0.0) / (to - from) : 1.0;
      const auto index = static_cast<std::int64_t>(sign * n) + params.zero_point - params.lo();
      counts[static_cast<std::size_t>(index)] += share * static_cast<double>(count);
    }
  };
  spread(0, 0, 1, s.near_zero());
  for (int i = 0; i < TensorStatistics::kBins; ++i) {
    const double from = TensorStatistics::edge(i) * steps,
                 to = TensorStatistics::edge(i + 1) * steps;
    spread(from, to, 1, s.positive(i));
    spread(from, to, -1, s.negative(i));
  }
  return counts;
}

}  // namespace waveq
