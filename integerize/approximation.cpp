#include "waveq/integerize/approximation.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "row_bounds.h"
#include "waveq/graph/error.h"

namespace waveq {

namespace {

constexpr std::int64_t kExactFloat = 16777216;  // integers travel as float32

std::int64_t round_half_up(double v) { return static_cast<std::int64_t>(std::floor(v + 0.5)); }

/// Sum over all differences of the squared error of the exponential against exp(-scale*d).
double exponential_error(const ISoftmax& p, const std::vector<double>& exact, double give_up) {
  const double first =
      static_cast<double>(std::int64_t{p.coeff_b} * p.coeff_b) + static_cast<double>(p.coeff_c);
  double sum = 0;
  for (std::size_t d = 0; d < exact.size() && sum < give_up; ++d) {
    const auto steps = static_cast<std::int64_t>(d);
    const std::int64_t z = std::min<std::int64_t>(steps / p.log2, 31),
                       root = z * p.log2 - steps + p.coeff_b;
    const auto e = static_cast<double>((root * root + p.coeff_c) >> z);
    const double error = e / first - exact[d];
    sum += error * error;
  }
  return sum;
}

}  // namespace

ISoftmax search_isoftmax(double scale) {
  if (!(scale >= kSoftmaxFinest && scale <= kSoftmaxCoarsest))
    throw Error(ErrorCode::invalid_argument, "iSoftmax", "its input scale has no parameters");
  std::vector<double> exact;
  for (int d = 0; d < 256; ++d) exact.push_back(std::exp(-scale * d));
  const auto b0 = round_half_up(1.353 / scale),
             c0 = round_half_up(0.344 / (0.3585 * scale * scale));
  const std::int64_t b_step = std::max<std::int64_t>(1, b0 / 64),
                     c_step = std::max<std::int64_t>(1, c0 / 128);
  ISoftmax best;
  double least = std::numeric_limits<double>::infinity();
  const auto try_one = [&](std::int64_t b, std::int64_t c, std::int64_t log2) {
    if (b < 1 || c < 0 || log2 < 2 || b * b + c >= kExactFloat) return;
    const ISoftmax p{1, static_cast<std::int32_t>(b), c, static_cast<std::int32_t>(log2), 256};
    const double error = exponential_error(p, exact, least);
    if (error >= least) return;
    least = error;
    best = p;
  };
  const double octave = std::log(2.0) / scale;
  for (const double log2 : {std::floor(octave), std::ceil(octave)})
    for (std::int64_t i = -32; i <= 32; ++i)
      for (std::int64_t k = -64; k <= 64; ++k)
        try_one(b0 + i * b_step, c0 + k * c_step, static_cast<std::int64_t>(log2));
  // The steps were coarse for fine scales: narrow them around what was found.
  for (std::int64_t narrow = std::max(b_step, c_step) / 2; narrow > 0; narrow /= 2) {
    const ISoftmax centre = best;
    for (std::int64_t i = -1; i <= 1; ++i)
      for (std::int64_t k = -2; k <= 2; ++k)
        try_one(centre.coeff_b + i * std::min(narrow, b_step), centre.coeff_c + k * narrow,
                centre.log2);
  }
  return best;
}

double isoftmax_scale(const std::vector<double>& counts) {
  double products = 0, squares = 0;
  for (std::size_t c = 1; c < counts.size(); ++c) {
    const auto code = static_cast<double>(c);
    // The middles of the halves of the bin around c, and the codes below them.
    for (const auto& [p, q] : {std::pair{code - 0.25, code - 1}, std::pair{code + 0.25, code}}) {
      products += counts[c] * p * q;
      squares += counts[c] * q * q;
    }
  }
  return squares > 0 ? products / squares / 255 : 1.0 / 255;
}

ISoftmax quantlib_isoftmax(double scale) {
  return {1, static_cast<std::int32_t>(std::nearbyint(1.353 / scale)),
          static_cast<std::int64_t>(std::nearbyint(0.344 / (0.3585 * scale * scale))),
          static_cast<std::int32_t>(std::nearbyint(1.0 / scale)), 256};
}

std::vector<std::int32_t> exponential_table(double scale) {
  std::vector<std::int32_t> table;
  for (int d = 0; d < 256; ++d)
    table.push_back(static_cast<std::int32_t>(round_half_up(65535.0 * std::exp(-scale * d))));
  return table;
}

namespace {
constexpr double kErfSquare = 0.2888, kErfEnd = 1.769;
}  // namespace

IGelu choose_igelu(double scale) {
  const double e = scale / std::sqrt(2.0);
  return {static_cast<std::int32_t>(round_half_up(-kErfEnd / e)),
          static_cast<std::int32_t>(round_half_up(1.0 / (kErfSquare * e * e)))};
}

namespace {

/// gelu(scale*q) for q = -128..127 with the weight of each.
struct GeluFit {
  std::vector<double> exact, weight;

  /// The `one` of least squared error for this b: with u = min(|q|, -b) + b and s = sgn(q),
  /// scale*q/2 * (1 + s - s*u^2/one) is linear in 1/one.
  double best_one(double scale, std::int64_t b) const {
    double numerator = 0, denominator = 0;
    for (std::int64_t q = -128; q <= 127; ++q) {
      const auto i = static_cast<std::size_t>(q + 128);
      const std::int64_t u = std::min(std::abs(q), -b) + b, s = (q > 0) - (q < 0);
      const double half = scale * static_cast<double>(q) / 2,
                   slope = half * static_cast<double>(s * u * u);
      numerator += weight[i] * slope * (half * static_cast<double>(1 + s) - exact[i]);
      denominator += weight[i] * slope * slope;
    }
    return numerator > 0 ? denominator / numerator : 32767.0;
  }

  double error(double scale, const IGelu& p) const {
    double sum = 0;
    for (std::int64_t q = -128; q <= 127; ++q) {
      const auto i = static_cast<std::size_t>(q + 128);
      const double e =
          igelu_scale(scale, p) * static_cast<double>(igelu(static_cast<std::int32_t>(q), p)) -
          exact[i];
      sum += weight[i] * e * e;
    }
    return sum;
  }
};

}  // namespace

IGelu fit_igelu(double scale, const std::vector<double>& counts) {
  double total = 0;
  for (double n : counts) total += n;
  IGelu best = choose_igelu(scale);
  if (total <= 0) return best;
  GeluFit fit;
  for (std::int64_t q = -128; q <= 127; ++q) {
    const double x = scale * static_cast<double>(q);
    fit.exact.push_back(x * (1 + std::erf(x / std::sqrt(2.0))) / 2);
    fit.weight.push_back(counts.at(static_cast<std::size_t>(q + 128)) / total + 1.0 / (64 * 256));
  }
  double least = fit.error(scale, best);
  for (std::int64_t b = -128; b < 0; ++b) {
    const double one = std::clamp(std::floor(fit.best_one(scale, b) + 0.5), 1.0, 32767.0);
    const IGelu p{static_cast<std::int32_t>(b), static_cast<std::int32_t>(one)};
    const double error = fit.error(scale, p);
    if (error >= least) continue;
    least = error;
    best = p;
  }
  return best;
}

double igelu_scale(double scale, const IGelu& p) { return scale / static_cast<double>(p.one); }

double largest_normalized(std::int64_t n, std::int64_t width, std::int64_t epsilon) {
  double largest = 0;
  for (std::int64_t a = 1; n > 1 && a <= width; ++a)
    largest = std::max(
        largest, static_cast<double>(a) / static_cast<double>(least_deviation(a, n, epsilon)));
  return largest;
}

LayerNormParameters choose_layer_norm(const std::vector<double>& gain,
                                      const std::vector<double>& bias, std::int64_t lo,
                                      std::int64_t hi, double wanted_scale, double deviation_steps,
                                      std::int64_t top, std::int64_t epsilon) {
  const auto n = static_cast<std::int64_t>(gain.size());
  const double k = 1.0 - 0.49 / std::max(deviation_steps, 1.0),
               share = largest_normalized(n, hi - lo, epsilon),
               most = top > 127 ? 0x1p30 : static_cast<double>(kExactFloat);
  double reach = 0, largest = 0;
  for (std::size_t j = 0; j < gain.size(); ++j) {
    if (!std::isfinite(gain[j]) || !std::isfinite(bias.at(j)))
      throw Error(ErrorCode::invalid_argument, "iLayerNorm", "its gain or bias is not finite");
    reach = std::max(reach, k * share * std::abs(gain[j]) + std::abs(bias[j]));
    largest = std::max({largest, std::abs(gain[j]), std::abs(bias[j])});
  }
  LayerNormParameters p;
  p.scale = std::max(wanted_scale, reach / static_cast<double>(top));
  p.scale = std::max(p.scale, 4 * largest / most);
  if (p.scale <= 0) p.scale = 1.0;
  // The bound in real numbers is the integer one up to rounding: a step or two decide.
  for (;; p.scale *= 1.002) {
    p.log2_d = 0;
    while (p.log2_d < 22 && (largest / p.scale + 1.0) * std::ldexp(1.0, p.log2_d + 1) < most)
      ++p.log2_d;
    const double unit = std::ldexp(1.0, p.log2_d) / p.scale;
    p.weight.clear();
    p.bias.clear();
    for (std::size_t j = 0; j < gain.size(); ++j) {
      p.weight.push_back(static_cast<std::int32_t>(round_half_up(k * gain[j] * unit)));
      p.bias.push_back(static_cast<std::int32_t>(
          round_half_up(bias[j] * unit + 0.5 * std::ldexp(1.0, p.log2_d))));
    }
    const Interval y =
        layer_norm_interval({p.weight.begin(), p.weight.end()}, {p.bias.begin(), p.bias.end()},
                            p.log2_d, hi - lo, epsilon);
    if (y.lo >= -top - 1 && y.hi <= top) return p;
  }
}

RmsNormParameters choose_rms_norm(const std::vector<double>& gain, double scale,
                                  double deviation_steps) {
  const double k = 1.0 - 0.49 / std::max(deviation_steps, 1.0);
  double largest = 0;
  for (double g : gain) largest = std::max(largest, std::isfinite(g) ? std::abs(g) : HUGE_VAL);
  if (!(scale > 0) || !(largest / scale + 1.0 < kExactFloat))
    throw Error(ErrorCode::invalid_argument, "iRMSNorm",
                "its gain is not finite, or beyond 2^24 steps of its result");
  RmsNormParameters p;
  p.scale = scale;
  while (p.log2_d < 22 && (largest / scale + 1.0) * std::ldexp(1.0, p.log2_d + 1) < kExactFloat)
    ++p.log2_d;
  for (double g : gain)
    p.weight.push_back(
        static_cast<std::int32_t>(round_half_up(k * g * std::ldexp(1.0, p.log2_d) / scale)));
  return p;
}

}  // namespace waveq
