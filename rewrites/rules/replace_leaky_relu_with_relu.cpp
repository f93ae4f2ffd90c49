// LeakyRelu(x)  =>  x*a + Relu(x)*(1 - a),  PRelu(x, a) likewise   a one number, or one per channel

#include <cmath>

#include "rules/rules_list.h"
#include "rules/support.h"

namespace waveq::rules {

namespace {

/// The slopes below zero; nothing where they are computed at run time.
std::optional<Tensor> slopes(const Graph& graph, const Node& node) {
  if (node.op == "LeakyRelu")
    return Tensor::scalar(static_cast<float>(node.attrs.get_float("alpha", 0.01)));
  if (node.inputs.size() < 2 || !graph.is_constant(node.inputs[1])) return std::nullopt;
  return graph.constant(node.inputs[1]);
}

Outcome apply(const Match& m, Patch& patch) {
  const Graph& graph = m.graph();
  const Node& node = m.root();
  const ValueId x = node.inputs.at(0);
  if (!is_f32(graph, x) || graph.is_constant(x)) return NoMatch{};
  const auto slope = slopes(graph, node);
  if (!slope) return declined("its slope is computed at run time");
  const std::vector<double> below = to_double(*slope);
  if (!all_finite(below)) return declined("its slope is not finite");
  std::vector<double> step;
  for (double a : below) step.push_back(1.0 - a);
  const ValueId line = patch.node("Mul", {x, patch.constant(float_tensor(slope->shape(), below))});
  const ValueId bend = patch.node(
      "Mul", {patch.node("Relu", {x}), patch.constant(float_tensor(slope->shape(), step))});
  return patch.node("Add", {line, bend});
}

}  // namespace

Rule replace_leaky_relu_with_relu() {
  return {.name = "replace_leaky_relu_with_relu",
          .formula = "LeakyRelu(x) = PRelu(x, a) = x*a + Relu(x)*(1-a)",
          .effect = Effect::reassociates,
          .source = "ONNX LeakyRelu-6/16, PRelu-7/9/16; Relu(x) = max(x, 0)",
          .stage = Stage::fuse,
          .root = op_in({"LeakyRelu", "PRelu"}),
          .apply = apply};
}

}  // namespace waveq::rules
