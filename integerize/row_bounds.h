#pragma once

#include <cstdint>
#include <vector>

#include "waveq/quantizers/requant.h"

namespace waveq {

/// Least deviation isqrt(sum(t^2)/n + epsilon) of a row of n integers, t = x - trunc(sum(x)/n), one
/// of which has |t| = a. The t sum to less than n in magnitude, so the others sum to at least a -
/// (n-1) in magnitude, and integers of a given sum are smallest in their squares when they are as
/// equal as can be.
std::int64_t least_deviation(std::int64_t a, std::int64_t n, std::int64_t epsilon = 1);

/// All values (t*weight_j/deviation + bias_j) >> log2_d of iLayerNorm, before they are narrowed to
/// what they are stored in, over rows whose elements span at most `width`: a larger deviation than
/// the least one only moves a value toward its bias.
Interval layer_norm_interval(const std::vector<std::int64_t>& weight,
                             const std::vector<std::int64_t>& bias, int log2_d, std::int64_t width,
                             std::int64_t epsilon = 1);

}  // namespace waveq
