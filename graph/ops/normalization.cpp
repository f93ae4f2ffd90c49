#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "ops/families.h"
#include "ops/op_util.h"

// Normalizations in float32. Statistics are taken in double, in element order.
namespace waveq::ops {

namespace {

constexpr double kDefaultEpsilon = 1e-5;

void require_vector(const InferContext& ctx, std::size_t i, std::int64_t length) {
  if (float_input(ctx, i).shape != Shape{length})
    ctx.fail(fmt::format("input {} is {}, f32[{}] is wanted", i, to_string(ctx.input(i)), length));
}

// ---- BatchNormalization.

Types infer_batch_norm(const InferContext& ctx) {
  const TensorType& x = float_input(ctx, 0);
  if (x.shape.empty()) ctx.fail("input is a scalar");
  const bool trained_on = std::any_of(
      ctx.node.outputs.begin() + std::min<std::ptrdiff_t>(1, std::ssize(ctx.node.outputs)),
      ctx.node.outputs.end(), [&](ValueId v) {
        return v.valid() && (ctx.graph.use_count(v) > 0 || ctx.graph.is_output(v));
      });
  if (trained_on)
    ctx.fail("the statistics that it takes in training mode are used",
             "export the model in evaluation mode");
  const std::int64_t channels = x.shape.size() > 1 ? x.shape[1] : 1;
  for (std::size_t i = 1; i < 5; ++i) require_vector(ctx, i, channels);
  Types types = {x};
  types.resize(std::max<std::size_t>(1, ctx.node.outputs.size()), {DType::f32, {channels}});
  return types;
}

/// y = x*a + b per channel with a = scale/sqrt(var + eps), b = bias - mean*a, both computed in
/// double and rounded once. Inference mode whatever training_mode says, as a deployed network has
/// no batch to take statistics of: the outputs behind the first are the ones given.
/// Source: ONNX BatchNormalization-7, 9, 14, 15.
void eval_batch_norm(const EvalContext& ctx) {
  const Shape& shape = ctx.input(0).shape();
  const float* x = ctx.input(0).as<float>().data();
  float* y = ctx.output().as<float>().data();
  const auto scale = ctx.input(1).as<float>(), bias = ctx.input(2).as<float>(),
             mean = ctx.input(3).as<float>(), variance = ctx.input(4).as<float>();
  const double epsilon = ctx.attrs().get_float("epsilon", kDefaultEpsilon);
  const auto channels = static_cast<std::int64_t>(scale.size());
  const std::int64_t outer = shape.size() > 1 ? shape[0] : 1;
  const std::int64_t plane =
      shape.size() > 1 ? element_count(Shape(shape.begin() + 2, shape.end())) : shape[0];
  for (std::int64_t n = 0; n < outer; ++n)
    for (std::int64_t c = 0; c < channels; ++c) {
      const double gain =
          static_cast<double>(scale[c]) / std::sqrt(static_cast<double>(variance[c]) + epsilon);
      const float a = static_cast<float>(gain);
      const float b =
          static_cast<float>(static_cast<double>(bias[c]) - static_cast<double>(mean[c]) * gain);
      for (std::int64_t i = 0; i < plane; ++i) y[i] = x[i] * a + b;
      x += plane;
      y += plane;
    }
  for (std::size_t i = 1; i < ctx.outputs.size(); ++i)
    if (ctx.outputs[i])
      std::ranges::copy(i % 2 ? mean : variance, ctx.output(i).as<float>().begin());
}

// ---- LayerNormalization, RMSNormalization, InstanceNormalization, GroupNormalization.

struct Moments {
  double mean, inverse;  ///< inverse: 1 / sqrt(variance or mean square + eps)
};

Moments moments(const float* x, std::int64_t n, double epsilon, bool centred) {
  const auto count = static_cast<double>(n);
  double sum = 0.0, squares = 0.0;
  if (centred)
    for (std::int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]);
  const double mean = sum / count;
  for (std::int64_t i = 0; i < n; ++i) {
    const double d = static_cast<double>(x[i]) - mean;
    squares += d * d;
  }
  return {mean, 1.0 / std::sqrt(squares / count + epsilon)};
}

struct NormAxes {
  Shape kept, normalized;
};

NormAxes norm_axes(const Node& node, const Shape& shape) {
  const std::int64_t axis =
      normalize_axis(node.attrs.get_int("axis", -1), shape.size(), place(node));
  return {Shape(shape.begin(), shape.begin() + axis), Shape(shape.begin() + axis, shape.end())};
}

/// Parameters must broadcast to the normalized axes, statistics have those axes as 1.
Types infer_layer_norm(const InferContext& ctx) {
  const TensorType& x = float_input(ctx, 0);
  const NormAxes axes = norm_axes(ctx.node, x.shape);
  for (std::size_t i = 1; i < 3; ++i)
    if ((i == 1 || ctx.has(i)) &&
        broadcast(axes.normalized, float_input(ctx, i).shape, place(ctx.node)) != axes.normalized)
      ctx.fail(fmt::format("input {} {} does not broadcast to {}", i, to_string(ctx.input(i)),
                           to_string(axes.normalized)));
  if (element_count(axes.normalized) == 0)
    ctx.fail(fmt::format("normalizes {} over no elements", to_string(x)));
  Shape statistics = axes.kept;
  statistics.resize(x.shape.size(), 1);
  return for_outputs(ctx, {x, {DType::f32, statistics}, {DType::f32, statistics}});
}

/// An input that broadcasts to `shape`, written out in full; `fallback` when absent.
std::vector<float> expanded(const EvalContext& ctx, std::size_t i, const Shape& shape,
                            float fallback) {
  std::vector<float> full(static_cast<std::size_t>(element_count(shape)), fallback);
  if (!ctx.has(i)) return full;
  const auto values = ctx.input(i).as<float>();
  BroadcastLoop<1>(shape, {&ctx.input(i).shape()})
      .run([&](std::int64_t o, auto at, std::int64_t n, auto step) {
        for (std::int64_t k = 0; k < n; ++k) full[o + k] = values[at[0] + k * step[0]];
      });
  return full;
}

/// y = (x - mean) / sqrt(var + eps) * scale + bias over the axes from `axis` on, in double and
/// rounded once; RMS form: mean taken as 0, no bias.
/// Source: ONNX LayerNormalization-17, RMSNormalization-23.
void layer_norm(const EvalContext& ctx, bool centred) {
  const NormAxes axes = norm_axes(ctx.node, ctx.input(0).shape());
  const std::int64_t n = element_count(axes.normalized);
  const std::vector<float> scale = expanded(ctx, 1, axes.normalized, 1.0f);
  const std::vector<float> bias = expanded(ctx, centred ? 2 : 99, axes.normalized, 0.0f);
  const double epsilon = ctx.attrs().get_float("epsilon", kDefaultEpsilon);
  const auto statistic = [&](std::size_t i) {
    return ctx.outputs.size() > i && ctx.outputs[i] ? ctx.output(i).as<float>().data() : nullptr;
  };
  // The RMS form has the inverse as its only further output.
  float *means = centred ? statistic(1) : nullptr, *inverses = statistic(centred ? 2 : 1);
  const float* x = ctx.input(0).as<float>().data();
  float* y = ctx.output().as<float>().data();
  for (std::int64_t row = 0; row < element_count(axes.kept); ++row, x += n, y += n) {
    const Moments m = moments(x, n, epsilon, centred);
    for (std::int64_t i = 0; i < n; ++i)
      y[i] = static_cast<float>((static_cast<double>(x[i]) - m.mean) * m.inverse *
                                    static_cast<double>(scale[i]) +
                                static_cast<double>(bias[i]));
    if (means) means[row] = static_cast<float>(m.mean);
    if (inverses) inverses[row] = static_cast<float>(m.inverse);
  }
}

OpDef rms_norm(std::string name, std::string spec) {
  return {.name = std::move(name),
          .inputs = {"X", "scale"},
          .attrs = {"axis", "epsilon", "stash_type"},
          .spec = std::move(spec),
          .infer = infer_layer_norm,
          .eval = [](const EvalContext& ctx) { layer_norm(ctx, false); }};
}

/// Groups of channels of [N,C,spatial...] that share their statistics; each channel is one where
/// the node names no number.
std::int64_t groups_of(const Node& node, const Shape& shape) {
  return node.attrs.get_int("num_groups", std::max<std::int64_t>(shape[1], 1));
}

Types infer_group_norm(const InferContext& ctx) {
  const TensorType& x = float_input(ctx, 0);
  if (x.shape.size() < 3)
    ctx.fail(fmt::format("input is {}, [N,C,spatial...] is wanted", to_string(x)));
  const std::int64_t groups = groups_of(ctx.node, x.shape);
  if (groups < 1 || x.shape[1] % groups != 0)
    ctx.fail(fmt::format("{} channels do not divide into {} groups", x.shape[1], groups));
  // GroupNormalization-18 has a scale and a bias for each group, -21 for each channel.
  const bool by_group = ctx.input(1).shape == Shape{groups};
  for (std::size_t i : {1u, 2u}) require_vector(ctx, i, by_group ? groups : x.shape[1]);
  return {x};
}

/// Each [n, c] plane, or the planes of each group of channels together, normalized by its own
/// statistics, then scale and bias of the channel or the group; in double.
/// Source: ONNX InstanceNormalization-6, GroupNormalization-18, 21.
void eval_group_norm(const EvalContext& ctx) {
  const Shape& shape = ctx.input(0).shape();
  const std::int64_t channels = shape[1], together = channels / groups_of(ctx.node, shape),
                     plane = element_count(Shape(shape.begin() + 2, shape.end()));
  const double epsilon = ctx.attrs().get_float("epsilon", kDefaultEpsilon);
  const auto scale = ctx.input(1).as<float>(), bias = ctx.input(2).as<float>();
  const std::int64_t each = channels / std::max<std::int64_t>(std::ssize(scale), 1);
  const float* x = ctx.input(0).as<float>().data();
  float* y = ctx.output().as<float>().data();
  for (std::int64_t c = 0; c < shape[0] * channels && plane > 0; c += together) {
    const Moments m = moments(x, together * plane, epsilon, true);
    for (std::int64_t p = c; p < c + together; ++p, x += plane, y += plane) {
      const std::int64_t at = p % channels / each;
      const double gain = m.inverse * static_cast<double>(scale[at]);
      for (std::int64_t i = 0; i < plane; ++i)
        y[i] = static_cast<float>((static_cast<double>(x[i]) - m.mean) * gain +
                                  static_cast<double>(bias[at]));
    }
  }
}

}  // namespace
}  // namespace waveq::ops

namespace waveq {

std::vector<OpDef> normalization_ops() {
  using namespace ops;
  return {{.name = "BatchNormalization",
           .inputs = {"X", "scale", "B", "input_mean", "input_var"},
           .attrs = {"epsilon", "momentum", "spatial", "training_mode"},
           .spec = "ONNX BatchNormalization-7, 9, 14, 15",
           .infer = infer_batch_norm,
           .eval = eval_batch_norm},
          {.name = "LayerNormalization",
           .inputs = {"X", "Scale", "B?"},
           .attrs = {"axis", "epsilon", "stash_type"},
           .spec = "ONNX LayerNormalization-17",
           .infer = infer_layer_norm,
           .eval = [](const EvalContext& ctx) { layer_norm(ctx, true); }},
          rms_norm("RMSNormalization", "ONNX RMSNormalization-23"),
          rms_norm("SimplifiedLayerNormalization", "ONNX Runtime SimplifiedLayerNormalization-1"),
          {.name = "InstanceNormalization",
           .inputs = {"input", "scale", "B"},
           .attrs = {"epsilon"},
           .spec = "ONNX InstanceNormalization-6",
           .infer = infer_group_norm,
           .eval = eval_group_norm},
          {.name = "GroupNormalization",
           .inputs = {"X", "scale", "bias"},
           .attrs = {"epsilon", "num_groups", "stash_type"},
           .spec = "ONNX GroupNormalization-18, 21",
           .infer = infer_group_norm,
           .eval = eval_group_norm}};
}

}  // namespace waveq
