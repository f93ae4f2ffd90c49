#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "waveq/graph/tensor.h"

namespace waveq {

/// Weights as small integers: real = scale[channel] * q.
struct QuantizedWeights {
  Tensor q;                     ///< i8, shape of the float weights
  std::vector<double> scale;    ///< one per channel along `axis`, or one in all; > 0
  std::int64_t axis = -1;       ///< -1: one scale for the tensor
  std::int64_t n_levels = 256;  ///< of the codes, 3..256
};

/// Symmetric weight quantization, per tensor (axis -1) or per slice along `axis`:
///   limit = (n_levels-1)/2;  scale = max|w| / limit;  q = clamp(round_half_even(w / scale),
///   -limit, limit)
/// in double. n_levels 3..256; 256 gives [-127, 127]: without -128 every q can be negated (a
/// negative gain can move into the weights), the largest weight is exact on either side, and |q| <=
/// 127 is what the accumulator bounds of the overflow proof use. Ties go to even as in torch.round
/// and QuantizeLinear. A channel whose weights are all zero gets scale 1 (below 2^-126 counts as
/// zero). `scales`: use these instead (each > 0; one, or one per channel); weights beyond the limit
/// are then clipped. `where` names the tensor in messages. \throws Error{data} for NaN or infinity;
/// Error{shape} for an axis outside the rank or a wrong number of
///   scales; Error{invalid_argument} for another dtype than f32, n_levels, or a scale that is not
///   positive.
QuantizedWeights quantize_weights(const Tensor& weights, std::int64_t axis,
                                  std::int64_t n_levels = 256, std::span<const double> scales = {},
                                  std::string_view where = "weights");

/// The largest scale at which all values are integers of `n_levels` signed levels (256: -128..127),
/// to 2^-10 of a step; nothing where there is none, or for zeros alone. n_levels 3..256.
std::optional<double> grid_of(std::span<const float> values, std::int64_t n_levels);

/// Weights that lie on the grids of `scales` (grid_of), one or one per channel: these integers, of
/// which the least, -128, has no negative. Other arguments and errors: as for quantize_weights.
QuantizedWeights weights_on_grids(const Tensor& weights, std::int64_t axis, std::int64_t n_levels,
                                  std::span<const double> scales,
                                  std::string_view where = "weights");

/// scale * q, rounded to float32.
Tensor dequantize(const QuantizedWeights& weights);

}  // namespace waveq
