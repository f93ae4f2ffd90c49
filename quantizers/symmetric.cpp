#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "methods.h"
#include "waveq/graph/error.h"

namespace waveq {

namespace {

// Smallest normal float32: activations and weights are float32, and kernels may flush what is
// below.
constexpr double kNegligible = 0x1p-126;

void check(Range range, const QuantSpec& spec) {
  if (spec.n_levels < 2 || spec.n_levels > 65536)
    throw Error(ErrorCode::invalid_argument, "quantizer",
                fmt::format("n_levels is {}", spec.n_levels), "use 2 to 65536");
  if (!std::isfinite(range.lo) || !std::isfinite(range.hi))
    throw Error(ErrorCode::data, "quantizer",
                fmt::format("range [{}, {}] is not finite", range.lo, range.hi),
                "look for NaN or infinity in the model or in the calibration data");
  if (range.lo > range.hi)
    throw Error(ErrorCode::data, "quantizer",
                fmt::format("range [{}, {}] is empty", range.lo, range.hi), "swap its ends");
}

bool wants_signed(Range range, const QuantSpec& spec) {
  switch (spec.signedness) {
    case Signedness::signed_:
      return true;
    case Signedness::unsigned_:
      return false;
    case Signedness::affine:
      return false;
    case Signedness::automatic:
      break;
  }
  return range.lo < 0.0;
}

}  // namespace

namespace methods {

QuantParams symmetric(Range range, const QuantSpec& spec) {
  check(range, spec);
  QuantParams params{.n_levels = spec.n_levels, .is_signed = wants_signed(range, spec)};
  const bool affine = spec.signedness == Signedness::affine;
  const double negative = params.is_signed || affine ? std::max(-range.lo, 0.0) : 0.0;
  const double positive = std::max(range.hi, 0.0);
  if (std::max(negative, positive) < kNegligible) return params;
  if (affine) {
    params.scale = (negative + positive) / static_cast<double>(params.hi());
    params.zero_point = static_cast<std::int64_t>(std::floor(negative / params.scale + 0.5));
    return params;
  }
  if (positive >= kNegligible && params.hi() == 0)
    throw Error(ErrorCode::invalid_argument, "quantizer",
                fmt::format("range [{}, {}] on the signed grid {{-1, 0}}", range.lo, range.hi),
                "use three or more levels, or an unsigned tensor");
  params.scale = negative / static_cast<double>(std::max<std::int64_t>(-params.lo(), 1));
  if (params.hi() > 0)
    params.scale = std::max(params.scale, positive / static_cast<double>(params.hi()));
  return params;
}

}  // namespace methods

QuantParams choose_params(Range range, const QuantSpec& spec) {
  return methods::symmetric(range, spec);
}

}  // namespace waveq
