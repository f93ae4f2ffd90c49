// (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps)  =>  LayerNormalization(x, 1)
// Means over the same axes; the variance may also be mean(x^2) - mean(x)^2.
// fold_affine_into_layer_norm takes in the gain and bias behind it.

#include <algorithm>

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

/// Axes of a mean that are kept with length 1, ascending; nothing for other means.
std::optional<std::vector<std::int64_t>> mean_axes(const Graph& graph, const Node& mean) {
  const IntsParam axes = ints_of(graph, mean, "axes", 1);
  if (!axes.values || axes.values->empty() || mean.attrs.get_int("keepdims", 1) != 1)
    return std::nullopt;
  return sorted_axes(*axes.values, shape_of(graph, mean.inputs[0]).size(), mean.name);
}

/// LayerNormalization of x over these axes, which come last in between.
ValueId normalized(Patch& patch, ValueId x, const Shape& shape,
                   const std::vector<std::int64_t>& axes, double epsilon) {
  std::vector<std::int64_t> order, back(shape.size());
  for (std::int64_t d = 0; d < static_cast<std::int64_t>(shape.size()); ++d)
    if (!std::ranges::binary_search(axes, d)) order.push_back(d);
  const auto first = static_cast<std::int64_t>(order.size());
  order.insert(order.end(), axes.begin(), axes.end());
  Shape last;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const auto d = static_cast<std::size_t>(order[i]);
    back[d] = static_cast<std::int64_t>(i);
    if (static_cast<std::int64_t>(i) >= first) last.push_back(shape[d]);
  }
  const bool moves = !std::ranges::is_sorted(order);
  Attrs attrs, to, from;
  attrs.set("axis", first);
  attrs.set("epsilon", epsilon);
  to.set("perm", order);
  from.set("perm", back);
  const ValueId ones = patch.constant(
      float_tensor(last, std::vector<double>(static_cast<std::size_t>(element_count(last)), 1.0)));
  if (moves) x = patch.node("Transpose", {x}, to);
  const ValueId y = patch.node("LayerNormalization", {x, ones}, attrs);
  return moves ? patch.node("Transpose", {y}, from) : y;
}

}  // namespace

Rule fuse_layer_norm() {
  const Pat x = any(), axes1 = any(), axes2 = any(), epsilon = scalar();
  const Pat mean = op("ReduceMean", {x, optional(axes1)});
  const Pat centred = op("Sub", {x, mean});
  const Pat square = either(op("Pow", {centred, scalar(2.0)}), op("Mul", {centred, centred}));
  const Pat of_centred = op("ReduceMean", {square, optional(axes2)});
  const Pat raw_square = either(op("Pow", {x, scalar(2.0)}), op("Mul", {x, x}));
  const Pat of_raw = op("ReduceMean", {raw_square, optional(axes2)});
  const Pat mean_square = either(op("Pow", {mean, scalar(2.0)}), op("Mul", {mean, mean}));
  const Pat variance = either(of_centred, op("Sub", {of_raw, mean_square}));
  const Pat deviation = op("Sqrt", {op("Add", {variance, epsilon})});
  return {.name = "fuse_layer_norm",
          .formula = "(x-mean(x))/sqrt(var(x)+eps) = LayerNormalization(x,1)",
          .effect = Effect::reassociates,
          .source = "Ba, Kiros and Hinton 2016 (arXiv:1607.06450); ONNX LayerNormalization-17",
          .stage = Stage::fuse,
          .root = op("Div", {centred, deviation}),
          .apply = [=](const Match& m, Patch& patch) -> Outcome {
            const Graph& graph = m.graph();
            if (!m.type(x).known()) return NoMatch{};
            const auto axes = mean_axes(graph, m.node(mean));
            if (!axes) return declined("the mean is not over axes that are kept");
            if (axes != mean_axes(graph, m.node(m.has(of_raw) ? of_raw : of_centred)))
              return declined("mean and variance are over different axes");
            const Shape shape = m.shape(x);
            if (shape != shape_of(graph, m.root_value())) return NoMatch{};
            return normalized(patch, m[x], shape, *axes, *scalar_of(graph, m[epsilon]));
          }};
}

}  // namespace waveq::rules
