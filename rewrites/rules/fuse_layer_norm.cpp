// (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps)  =>  LayerNormalization(x, 1)
// Means over the same trailing axes. fold_affine_into_layer_norm takes in the gain and bias behind
// it.

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

/// Axes of a mean if they are the last ones and their number is kept, as first axis; -1 otherwise.
std::int64_t trailing_axis(const Graph& graph, const Node& mean) {
  const std::size_t rank = shape_of(graph, mean.inputs[0]).size();
  const IntsParam axes = ints_of(graph, mean, "axes", 1);
  if (!axes.values || mean.attrs.get_int("keepdims", 1) != 1) return -1;
  const auto sorted = sorted_axes(*axes.values, rank, mean.name);
  for (std::size_t i = 0; i < sorted.size(); ++i)
    if (sorted[i] != static_cast<std::int64_t>(rank - sorted.size() + i)) return -1;
  return sorted.empty() ? -1 : sorted.front();
}

}  // namespace

Rule fuse_layer_norm() {
  const Pat x = any(), axes1 = any(), axes2 = any(), epsilon = scalar();
  const Pat mean = op("ReduceMean", {x, optional(axes1)});
  const Pat centred = op("Sub", {x, mean});
  const Pat square = either(op("Pow", {centred, scalar(2.0)}), op("Mul", {centred, centred}));
  const Pat variance = op("ReduceMean", {square, optional(axes2)});
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
            const std::int64_t axis = trailing_axis(graph, m.node(mean));
            if (axis < 0) return declined("the mean is not over trailing axes that are kept");
            if (axis != trailing_axis(graph, m.node(variance)))
              return declined("mean and variance are over different axes");
            const Shape& shape = m.shape(x);
            const Shape normalized(shape.begin() + axis, shape.end());
            if (shape != shape_of(graph, m.root_value())) return NoMatch{};
            Attrs attrs;
            attrs.set("axis", axis);
            attrs.set("epsilon", *scalar_of(graph, m[epsilon]));
            const ValueId ones = patch.constant(float_tensor(
                normalized,
                std::vector<double>(static_cast<std::size_t>(element_count(normalized)), 1.0)));
            return patch.node("LayerNormalization", {m[x], ones}, attrs);
          }};
}

}  // namespace waveq::rules
