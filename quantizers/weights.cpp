#include "waveq/quantizers/weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "rounding.h"

namespace waveq {

namespace {

constexpr double kNegligible = 0x1p-126;  // smallest normal float32, as for activations

/// Element i belongs to channel (i / inner) % channels.
struct Channels {
  std::int64_t count = 1;
  std::int64_t inner = 1;
  std::size_t of(std::int64_t i) const { return static_cast<std::size_t>((i / inner) % count); }
};

Channels channels_along(const Shape& shape, std::int64_t axis, std::string_view where) {
  Channels c{1, std::max<std::int64_t>(element_count(shape), 1)};
  if (axis == -1) return c;
  if (axis < 0 || axis >= static_cast<std::int64_t>(shape.size()))
    throw Error(ErrorCode::shape, std::string(where),
                fmt::format("channel axis {} of weights {}", axis, to_string(shape)),
                "use an axis of the tensor, or -1 for one scale");
  c.count = shape[static_cast<std::size_t>(axis)];
  c.inner = 1;
  for (std::size_t d = static_cast<std::size_t>(axis) + 1; d < shape.size(); ++d)
    c.inner *= shape[d];
  return c;
}

std::vector<double> scales_of(std::span<const float> values, const Channels& channels, double limit,
                              std::string_view where) {
  std::vector<double> scale(static_cast<std::size_t>(channels.count), 0.0);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i]))
      throw Error(ErrorCode::data, std::string(where),
                  fmt::format("element {} is {}", i, values[i]), "train or export the model again");
    double& largest = scale[channels.of(static_cast<std::int64_t>(i))];
    largest = std::max(largest, std::fabs(static_cast<double>(values[i])));
  }
  for (double& s : scale) s = s < kNegligible ? 1.0 : s / limit;
  return scale;
}

void use_given(std::span<const double> given, std::vector<double>& scale, std::string_view where) {
  if (given.size() != 1 && given.size() != scale.size())
    throw Error(ErrorCode::shape, std::string(where),
                fmt::format("{} scales given for {} channels", given.size(), scale.size()));
  for (std::size_t c = 0; c < scale.size(); ++c) {
    scale[c] = given[given.size() == 1 ? 0 : c];
    if (!(scale[c] > 0.0) || !std::isfinite(scale[c]))
      throw Error(ErrorCode::invalid_argument, std::string(where),
                  fmt::format("scale of channel {} is {}", c, scale[c]),
                  "scales are positive and finite");
  }
}

/// q = clamp(round_half_even(w / scale), lo, hi).
void round_to(const Channels& channels, std::span<const float> values, double lo, double hi,
              QuantizedWeights& out) {
  const std::span<std::int8_t> q = out.q.as<std::int8_t>();
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double steps =
        static_cast<double>(values[i]) / out.scale[channels.of(static_cast<std::int64_t>(i))];
    q[i] = static_cast<std::int8_t>(round_half_even(std::clamp(steps, lo, hi)));
  }
}

void check_weights(const Tensor& weights, std::int64_t n_levels, std::string_view where) {
  if (n_levels < 3 || n_levels > 256)
    throw Error(
        ErrorCode::invalid_argument, std::string(where), fmt::format("n_levels is {}", n_levels),
        "weights take 3 to 256 levels: a grid that is symmetric about 0 has at least -1, 0, 1");
  if (weights.dtype() != DType::f32)
    throw Error(ErrorCode::invalid_argument, std::string(where),
                fmt::format("weights are {}", to_string(weights.type())),
                "quantize float32 weights");
}

}  // namespace

QuantizedWeights quantize_weights(const Tensor& weights, std::int64_t axis, std::int64_t n_levels,
                                  std::span<const double> scales, std::string_view where) {
  check_weights(weights, n_levels, where);
  const Channels channels = channels_along(weights.shape(), axis, where);
  const double limit = static_cast<double>((n_levels - 1) / 2);
  QuantizedWeights out{Tensor(DType::i8, weights.shape()), {}, axis, n_levels};
  out.scale = scales_of(weights.as<float>(), channels, limit, where);
  if (!scales.empty()) use_given(scales, out.scale, where);
  round_to(channels, weights.as<float>(), -limit, limit, out);
  return out;
}

std::optional<double> grid_of(std::span<const float> values, std::int64_t n_levels) {
  const auto lo = static_cast<double>(-(n_levels / 2)),
             hi = static_cast<double>((n_levels - 1) / 2);
  double largest = 0;
  for (float v : values) largest = std::max(largest, std::abs(static_cast<double>(v)));
  if (!(largest > 0) || !std::isfinite(largest)) return std::nullopt;
  for (double top = 1; top <= -lo; ++top) {
    const double scale = largest / top;
    const bool fits = std::ranges::all_of(values, [&](float v) {
      const double steps = static_cast<double>(v) / scale, q = std::nearbyint(steps);
      return std::abs(steps - q) <= 0x1p-10 && q >= lo && q <= hi;
    });
    if (fits) return scale;
  }
  return std::nullopt;
}

QuantizedWeights weights_on_grids(const Tensor& weights, std::int64_t axis, std::int64_t n_levels,
                                  std::span<const double> scales, std::string_view where) {
  check_weights(weights, n_levels, where);
  const Channels channels = channels_along(weights.shape(), axis, where);
  QuantizedWeights out{Tensor(DType::i8, weights.shape()), {}, axis, n_levels};
  out.scale.resize(static_cast<std::size_t>(channels.count));
  use_given(scales, out.scale, where);
  round_to(channels, weights.as<float>(), static_cast<double>(-(n_levels / 2)),
           static_cast<double>((n_levels - 1) / 2), out);
  return out;
}

Tensor dequantize(const QuantizedWeights& weights) {
  const Channels channels = channels_along(weights.q.shape(), weights.axis, "weights");
  Tensor out(DType::f32, weights.q.shape());
  const std::span<const std::int8_t> q = weights.q.as<std::int8_t>();
  const std::span<float> real = out.as<float>();
  for (std::size_t i = 0; i < q.size(); ++i)
    real[i] = static_cast<float>(weights.scale[channels.of(static_cast<std::int64_t>(i))] * q[i]);
  return out;
}

}  // namespace waveq
