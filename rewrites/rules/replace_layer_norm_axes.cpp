// LayerNormalization(x, g, b) over several axes  =>  Reshape, the same over the last, Reshape

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

/// The parameter repeated over the normalized axes, as one row.
Tensor as_row(const Tensor& parameter, const Shape& normalized) {
  const Tensor zeros = float_tensor(
      normalized, std::vector<double>(static_cast<std::size_t>(element_count(normalized)), 0.0));
  return broadcast_binary(zeros, parameter, [](double, double v) { return v; })
      .reshaped({element_count(normalized)});
}

Outcome apply(const Match& m, Patch& patch) {
  const Graph& graph = m.graph();
  const Node& root = m.root();
  if (root.inputs.size() < 2 || !is_f32(graph, root.inputs[0])) return NoMatch{};
  const Shape shape = shape_of(graph, root.inputs[0]);
  const std::int64_t axis = normalize_axis(root.attrs.get_int("axis", -1), shape.size(), root.name);
  if (axis + 1 == static_cast<std::int64_t>(shape.size())) return NoMatch{};
  for (std::size_t i = 1; i < root.outputs.size(); ++i)
    if (root.outputs[i].valid() && graph.use_count(root.outputs[i]) > 0)
      return declined("its mean and deviation are used");
  const Shape normalized(shape.begin() + axis, shape.end());
  const std::int64_t length = element_count(normalized);
  const Shape rows{element_count(Shape(shape.begin(), shape.begin() + axis)), length};
  std::vector<ValueId> inputs{
      patch.node("Reshape", {root.inputs[0], patch.constant(ints_tensor(rows))})};
  for (std::size_t i = 1; i < root.inputs.size(); ++i) {
    if (!root.inputs[i].valid()) continue;
    if (!graph.is_constant(root.inputs[i])) return declined("gain or bias are not constant");
    inputs.push_back(
        patch.constant(as_row(graph.constant(root.inputs[i]), normalized), root.inputs[i]));
  }
  Attrs attrs = root.attrs;
  attrs.set("axis", std::int64_t{1});
  std::vector<ValueId> outputs(root.outputs.size());
  outputs[0] = patch.node("Reshape", {patch.node("LayerNormalization", inputs, attrs),
                                      patch.constant(ints_tensor(shape))});
  return outputs;
}

}  // namespace

Rule replace_layer_norm_axes() {
  return {.name = "replace_layer_norm_axes",
          .formula = "LN(x) over several axes = Reshape(LN(Reshape(x)))",
          .effect = Effect::exact,
          .source = "ONNX LayerNormalization-17",
          .stage = Stage::fuse,
          .root = op_in({"LayerNormalization"}),
          .apply = apply};
}

}  // namespace waveq::rules
